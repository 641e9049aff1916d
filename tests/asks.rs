//! A worker dies while its guest uses a shared object, at each moment of the request. Nothing is lost,
//! nothing is taken twice, and what the task held is released.
//!
//! Needs the feature `fault-points`: `cargo test --release -p wpool --features fault-points --test asks`.

mod support;

use support::{exchange_guest, time_bound};
use wpool::ipc::Queue;
use wpool::sync::Lock;
use wpool::{Fault, FaultAction, FaultPhase, Func, Policy, Pool, StartMethod, TaskError};

use FaultPhase::{AfterAsk, AfterPost, Answered, BeforeAsk, BeforeEnded, MidAsk, MidPost, TakenAhead};

/// The moments of a request, and whether the whole request has left the worker.
const MOMENTS: [(FaultPhase, bool); 5] =
    [(BeforeAsk, false), (MidAsk, false), (AfterAsk, true), (Answered, true), (BeforeEnded, true)];

/// The moments of a put that needs no answer.
const MOMENTS_OF_POST: [(FaultPhase, bool); 2] = [(MidPost, false), (AfterPost, true)];

/// The task has an item ahead by the third get in a row.
#[test]
fn x7_an_item_that_a_dead_task_had_ahead_is_given_again_if_it_was_taken() {
    at_each(&[(TakenAhead, true)], |phase, _, method| {
        let queue = Queue::<String>::unbounded();
        queue.put_many(&["a", "b", "c", "d", "e"].map(str::to_owned)).unwrap();
        let policy = Policy::sealed().share("q0", &queue);
        assert_eq!(after_death(&policy, phase, method, ["gggg", "ggg"]), "!cde");
    });
}

/// Runs a program whose worker dies at the moment, then another program in the worker that follows. Gives
/// what that one gives.
fn after_death(policy: &Policy, phase: FaultPhase, method: StartMethod, programs: [&str; 2]) -> String {
    let pool = Pool::builder(&exchange_guest())
        .policy(policy.clone())
        .start_method(method)
        .processes(1)
        .fault(Fault { phase, action: FaultAction::Kill })
        .build()
        .unwrap();
    let run: Func<&str, Vec<u8>> = pool.func("run").unwrap();
    let died = pool.apply(&run, programs[0]);
    assert!(matches!(died, Err(TaskError::WorkerLost { exitcode: Some(-9), .. })), "{phase:?}: {died:?}");
    String::from_utf8(pool.apply(&run, programs[1]).unwrap()).unwrap()
}

fn at_each(moments: &[(FaultPhase, bool)], check: impl Fn(FaultPhase, bool, StartMethod)) {
    let _bound = time_bound();
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        for &(phase, is_sent) in moments {
            check(phase, is_sent, method);
        }
    }
}

#[test]
fn x6_an_item_is_put_once_its_request_has_left_the_worker() {
    at_each(&MOMENTS, |phase, is_sent, method| {
        let queue = Queue::<String>::unbounded();
        let policy = Policy::sealed().share("q0", &queue);
        let status = after_death(&policy, phase, method, ["phello", "y"]);
        assert_eq!(status, if is_sent { "100" } else { "000" }, "{phase:?}");
        assert_eq!(queue.try_get().is_ok(), is_sent);
    });
}

/// `x` repeats the put, and the task has credit after the first one.
#[test]
fn x6_an_item_that_needs_no_answer_is_put_once_it_has_left_the_worker() {
    at_each(&MOMENTS_OF_POST, |phase, is_sent, method| {
        let queue = Queue::<String>::unbounded();
        let policy = Policy::sealed().share("q0", &queue);
        let status = after_death(&policy, phase, method, ["xphello", "y"]);
        assert_eq!(status, if is_sent { "200" } else { "100" }, "{phase:?}");
    });
}

#[test]
fn x7_an_item_that_was_given_to_a_dead_task_is_given_again_and_says_so() {
    at_each(&MOMENTS, |phase, is_sent, method| {
        let queue = Queue::<String>::unbounded();
        queue.put_many(&["first".to_owned(), "second".to_owned()]).unwrap();
        let policy = Policy::sealed().share("q0", &queue);
        let items = after_death(&policy, phase, method, ["g", "gg"]);
        assert_eq!(items, if is_sent { "!firstsecond" } else { "firstsecond" }, "{phase:?}");
    });
}

#[test]
fn l8_a_lock_of_a_dead_worker_goes_to_the_next_which_is_told() {
    at_each(&MOMENTS, |phase, is_sent, method| {
        let lock = Lock::new();
        let policy = Policy::sealed().share("l0", &lock);
        let acquired = after_death(&policy, phase, method, ["a", "ar"]);
        assert_eq!(acquired, if is_sent { "d" } else { "c" }, "{phase:?}");
        assert!(!lock.locked());
    });
}
