//! What holds on every executor. The executors are the test program's: see `super::EXECUTORS`.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt, stream};
use wpool::{BuildError, Func, Pool, StartMethod, TaskError};

use super::{EXECUTORS, block_on, guest, time_bound};

fn pool(name: &str, method: StartMethod) -> Pool {
    Pool::builder(&guest(name)).start_method(method).processes(2).build().unwrap()
}

fn run(pool: &Pool) -> Func<String, String> {
    pool.func("run").unwrap()
}

/// Runs a test once on each executor, and over processes and threads.
#[track_caller]
fn on_all_executors<F: Future<Output = ()> + Send + 'static>(test: impl Fn(StartMethod) -> F) {
    let _bound = time_bound();
    for (name, block_on) in EXECUTORS {
        for method in [StartMethod::Forkserver, StartMethod::Thread] {
            eprintln!("{name}, {method:?}");
            block_on(Box::pin(test(method)));
        }
    }
}

#[test]
fn a_result_is_awaited_without_a_thread_of_its_own() {
    on_all_executors(|method| async move {
        let pool = pool("failing", method);
        let run = run(&pool);
        assert_eq!(pool.apply_async(&run, "a".to_owned()).await, Ok("a".to_owned()));
        let failed = pool.apply_async(&run, "bad".to_owned()).await;
        assert!(matches!(failed, Err(TaskError::Failed { .. })), "{failed:?}");
        let items = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(pool.map_async(&run, items).await.unwrap(), ["a", "b", "c"]);
        // All of them at once, each awaited on its own.
        let calls: Vec<_> = (0..200).map(|n| pool.call(&run, n.to_string())).collect();
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await, Ok(n.to_string()));
        }
    });
}

#[test]
fn a_result_that_is_there_is_given_at_the_first_poll() {
    let _bound = time_bound();
    let pool = pool("failing", StartMethod::Forkserver);
    let result = pool.apply_async(&run(&pool), "a".to_owned());
    assert!(result.wait(None));
    let polled = pin!(result).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(polled, Poll::Ready(Ok("a".to_owned())));
}

#[test]
fn the_last_waker_is_the_one_that_is_called() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let _bound = time_bound();
    let pool = pool("failing", StartMethod::Forkserver);
    let counts = [(); 2].map(|()| Arc::new(Count(AtomicUsize::new(0))));
    let mut result = pool.call(&run(&pool), "loop".to_owned());
    for count in &counts {
        let waker = Waker::from(count.clone());
        assert!(pin!(&mut result).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    let woken = || counts.each_ref().map(|count| count.0.load(Ordering::SeqCst));
    assert_eq!(woken(), [0, 0]);
    pool.terminate();
    let terminated = Instant::now();
    while woken() != [0, 1] {
        assert!(terminated.elapsed() < Duration::from_secs(30), "{:?}", woken());
        thread::yield_now();
    }
    assert_eq!(block_on(result), Err(TaskError::Cancelled));
}

#[test]
fn a_call_that_is_dropped_costs_no_worker() {
    on_all_executors(|method| async move {
        let pool = Pool::builder(&guest("failing")).start_method(method).processes(1).build().unwrap();
        let run = run(&pool);
        for _ in 0..3 {
            let mut running = pool.call(&run, "loop".to_owned());
            let queued = pool.call(&run, "loop".to_owned());
            assert!(pin!(&mut running).poll(&mut Context::from_waker(Waker::noop())).is_pending());
            drop((running, queued));
            assert_eq!(pool.call(&run, "next".to_owned()).await, Ok("next".to_owned()));
        }
        // A result that is detached goes on.
        let detached = pool.call(&run, "a".to_owned()).detach();
        assert_eq!(detached.await, Ok("a".to_owned()));
    });
}

#[test]
fn a_stream_is_polled_only_while_there_is_room() {
    on_all_executors(|method| async move {
        let pool = pool("upper", method);
        let drawn = Arc::new(AtomicUsize::new(0));
        let count = drawn.clone();
        let item = vec![b'a'; 1 << 20];
        let items = stream::iter(0..200).map(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            item.clone()
        });
        let upper = pool.func::<Vec<u8>, Vec<u8>>("run").unwrap();
        let mut results = pool.imap_stream(&upper, items);
        let mut given = 0;
        while let Some(result) = results.next().await {
            assert_eq!(result.unwrap(), vec![b'A'; 1 << 20]);
            given += 1;
            // 16 MiB of records may be under way, and as many results, each side with one more.
            assert!(drawn.load(Ordering::SeqCst) - given <= 40, "{given}");
        }
        assert_eq!((given, drawn.load(Ordering::SeqCst)), (200, 200));
        assert!(results.next().await.is_none());
    });
}

#[test]
fn results_of_a_stream_come_in_order_or_as_they_come() {
    on_all_executors(|method| async move {
        let pool = pool("failing", method);
        let run = run(&pool);
        let items = || stream::iter((0..2_000).map(|n| n.to_string()));
        let results: Vec<_> = pool.imap_stream(&run, items()).map(Result::unwrap).collect().await;
        assert!(results.iter().enumerate().all(|(n, result)| *result == n.to_string()));
        let mut results: Vec<u32> = pool
            .imap_unordered_stream(&run, items())
            .map(|r| r.unwrap().parse::<u32>().unwrap())
            .collect()
            .await;
        results.sort_unstable();
        assert!(results.into_iter().eq(0..2_000));
        // A failure is an element; others come behind it.
        let items = stream::iter(["a", "bad", "b"].map(str::to_owned));
        let results: Vec<_> = pool.imap_stream(&run, items).collect().await;
        assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    });
}

#[test]
fn a_stream_of_items_that_come_later_is_woken_by_them() {
    on_all_executors(|method| async move {
        let pool = pool("failing", method);
        let items = Brought::default();
        let mut results = pool.imap_stream(&run(&pool), items.clone());
        // Each item is brought once the result of the one before is there.
        for n in 0..10 {
            items.bring(Some(n.to_string()));
            assert_eq!(results.next().await, Some(Ok(n.to_string())));
        }
        items.bring(None);
        assert_eq!(results.next().await, None);
    });
}

/// Items that another thread brings, as a stream.
#[derive(Clone, Default)]
struct Brought(Arc<Mutex<BroughtState>>);

#[derive(Default)]
struct BroughtState {
    items: VecDeque<String>,
    is_over: bool,
    waker: Option<Waker>,
}

impl Brought {
    /// Brings an item, or the end, from another thread.
    fn bring(&self, item: Option<String>) {
        let brought = self.clone();
        thread::spawn(move || {
            let mut state = brought.0.lock().unwrap();
            state.is_over |= item.is_none();
            state.items.extend(item);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        });
    }
}

impl Stream for Brought {
    type Item = String;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<String>> {
        let mut state = self.0.lock().unwrap();
        match state.items.pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None if state.is_over => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[test]
fn a_stream_whose_pool_ends_says_so_last() {
    on_all_executors(|method| async move {
        let pool = pool("failing", method);
        let run = run(&pool);
        let mut results = pool.imap_stream(&run, stream::iter(["a".to_owned()]).chain(stream::pending()));
        assert_eq!(results.next().await, Some(Ok("a".to_owned())));
        pool.terminate().await;
        assert_eq!(results.next().await, Some(Err(TaskError::Cancelled)));
        assert_eq!(results.next().await, None);
        let mut refused = pool.imap_stream(&run, stream::pending());
        assert_eq!(refused.next().await, Some(Err(TaskError::Closed)));
        assert_eq!(refused.next().await, None);
    });
}

#[test]
fn the_beginning_and_the_end_of_a_pool_are_awaited() {
    on_all_executors(|method| async move {
        let pool = pool("failing", method);
        assert_eq!(pool.workers().len(), 0);
        pool.ready().await.unwrap();
        assert_eq!(pool.workers().len(), 2);
        // At once, now.
        pool.ready().await.unwrap();
        let run = run(&pool);
        let (tell, told) = mpsc::channel();
        for n in 0..20 {
            let tell = tell.clone();
            pool.apply_async(&run, n.to_string()).on_done(move |result| tell.send(result).unwrap());
        }
        drop(tell);
        pool.close().await;
        // Every callback has run.
        let mut results: Vec<u32> = told.try_iter().map(|result| result.unwrap().parse().unwrap()).collect();
        results.sort_unstable();
        assert!(results.into_iter().eq(0..20));
        assert_eq!(pool.workers().len(), 0);
        assert!(matches!(pool.ready().await, Err(BuildError::Closed(_))));
        // Again, and by the other ways to end a pool.
        pool.close().await;
        pool.shutdown(true).await;
        pool.terminate().await;
    });
}

#[test]
fn a_pool_that_cannot_begin_says_why() {
    on_all_executors(|method| async move {
        let module = guest("counter");
        let builder = Pool::builder(&module).start_method(method).processes(2).initargs(["ten"]);
        let pool = builder.build().unwrap();
        let Err(BuildError::Broken { reason }) = pool.ready().await else { panic!("it is ready") };
        assert!(reason.starts_with("the initializer failed: "), "{reason}");
    });
}

#[test]
fn a_result_is_handed_on_once_behind_its_callbacks() {
    let _bound = time_bound();
    for method in [StartMethod::Forkserver, StartMethod::Thread] {
        let pool = pool("failing", method);
        let run = run(&pool);
        for item in ["a", "bad"] {
            let (tell, told) = mpsc::channel();
            let [first, second, done] = [(); 3].map(|()| tell.clone());
            drop(tell);
            let result = pool.apply_async(&run, item.to_owned());
            let result = result.callback(move |_| first.send("callback").unwrap());
            let result = result.error_callback(move |_| second.send("error_callback").unwrap());
            result.on_done(move |result| done.send(if result.is_ok() { "ok" } else { "error" }).unwrap());
            let expected = if item == "a" { ["callback", "ok"] } else { ["error_callback", "error"] };
            assert_eq!(told.iter().collect::<Vec<_>>(), expected);
        }
        // One that is there already, one of a map, and one of a pool that has ended.
        let (tell, told) = mpsc::channel();
        let done = || {
            let tell = tell.clone();
            move |result: Result<String, TaskError>| tell.send(result).unwrap()
        };
        let there = pool.apply_async(&run, "a".to_owned());
        there.wait(None);
        there.on_done(done());
        assert_eq!(told.recv(), Ok(Ok("a".to_owned())));
        let (tell_all, told_all) = mpsc::channel();
        let all = pool.map_async(&run, ["a".to_owned()]);
        all.on_done(move |results| tell_all.send(results).unwrap());
        assert_eq!(told_all.recv().unwrap().unwrap(), ["a"]);
        pool.terminate().wait();
        pool.apply_async(&run, "a".to_owned()).on_done(done());
        assert_eq!(told.recv(), Ok(Err(TaskError::Closed)));
    }
}

#[test]
fn a_waker_that_blocks_holds_up_no_result_of_other_callers() {
    /// Blocks until the test lets it go.
    struct Blocking(Mutex<mpsc::Receiver<()>>);
    impl Wake for Blocking {
        fn wake(self: Arc<Self>) {
            let _let_go = self.0.lock().unwrap().recv();
        }
    }
    let _bound = time_bound();
    let pool = pool("failing", StartMethod::Forkserver);
    let run = run(&pool);
    let (let_go, gate) = mpsc::channel();
    let waker = Waker::from(Arc::new(Blocking(Mutex::new(gate))));
    let mut blocked = pool.call(&run, "loop".to_owned());
    assert!(pin!(&mut blocked).poll(&mut Context::from_waker(&waker)).is_pending());
    drop(blocked);
    assert_eq!(pool.map(&run, (0..100).map(|n| n.to_string())).unwrap().len(), 100);
    drop(let_go);
}
