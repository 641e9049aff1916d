//! A test program: an application that does to its process what its first argument says, with a pool and a
//! process under way.

use std::time::{Duration, Instant};

use wpool::events::WorkerState;
use wpool::{Module, Pool, Process, ProcessBuilder, StartMethod, Target};

type Done = Result<(), Box<dyn std::error::Error>>;

struct Place {
    failing: Module,
    hello: Module,
}

impl Place {
    fn pool(&self, method: StartMethod) -> Result<Pool, Box<dyn std::error::Error>> {
        Ok(Pool::builder(&self.failing).processes(2).start_method(method).build()?)
    }

    fn process(&self, module: &Module, record: &str) -> ProcessBuilder {
        Process::builder(module).target(Target::func("run").arg(record)).on_stdout(|_| ())
    }
}

fn main() -> Done {
    wpool::init();
    let args: Vec<String> = std::env::args().collect();
    let [_, deed, failing, hello] = &args[..] else { return Err("places DEED FAILING HELLO".into()) };
    let place = Place { failing: Module::load(failing)?, hello: Module::load(hello)? };
    match deed.as_str() {
        "works" => works(&place),
        "changes-user" => changes_user(&place),
        "forks" => forks(&place),
        "reaps-all" | "ignores-children" => loses_exit_codes(&place, deed),
        "closes-stdio" => closes_stdio(&place),
        "closes-all" => closes_all(&place),
        deed => Err(format!("{deed} is not known").into()),
    }
}

fn works(place: &Place) -> Done {
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        let pool = place.pool(method)?;
        println!("{}", pool.apply(&pool.func::<&str, String>("run")?, "good")?);
    }
    Ok(())
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[expect(unsafe_code, reason = "there is no safe way to change the user of the whole process")]
fn changes_user(place: &Place) -> Done {
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        let pool = place.pool(method)?;
        let run = pool.func::<&str, String>("run")?;
        let _endless = pool.apply_async(&run, "loop");
        let mut processes = [(&place.failing, "loop"), (&place.hello, "bob:600000")]
            .map(|(module, record)| place.process(module, record).start_method(method).build());
        for process in processes.iter_mut().flatten() {
            process.start()?;
        }
        let sleepers = Pool::builder(&place.hello).processes(1).start_method(method).build()?;
        let _sleeping = sleepers.apply_async(&sleepers.func::<&str, String>("run")?, "ann:600000");
        let is_busy = |pool: &Pool| pool.workers().iter().any(|worker| worker.state == WorkerState::Busy);
        wait_for("all are busy", || is_busy(&pool) && is_busy(&sleepers));
        // SAFETY: setresuid takes three numbers. The saved one stays, so that we can go back.
        assert_eq!(unsafe { libc::setresuid(20_000, 20_000, 0) }, 0);
        for process in processes.iter_mut().flatten() {
            process.kill()?;
            let status = process.join_timeout(Duration::from_secs(4))?;
            println!("killed: {}", status.is_some());
        }
        pool.terminate();
        println!("terminated: {}", pool.join_timeout(Duration::from_secs(4))?);
        drop((pool, sleepers));
        println!("dropped");
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setresuid(0, 0, 0) }, 0);
    }
    Ok(())
}

#[expect(unsafe_code, reason = "there is no safe fork")]
fn forks(place: &Place) -> Done {
    let pool = Pool::builder(&place.failing).processes(4).build()?;
    let run = pool.func::<&str, String>("run")?;
    let mut process = place.process(&place.hello, "bob:600000").daemon(true).build()?;
    process.start()?;
    let mut unstarted = place.process(&place.hello, "bob:0").build()?;
    let endless = pool.apply_async(&run, "loop");
    let endless_map = pool.map_async(&run, ["loop"]);
    let mut results = pool.imap(&run, ["good", "good"]);
    let (mut inputs, mut outcomes) = pool.stream(&"run".into(), true)?;
    assert_eq!(pool.apply(&run, "good")?, "good");
    // SAFETY: the child uses what it has a copy of, which is what this is a test of, and exits.
    match unsafe { libc::fork() } {
        0 => {
            let mut said = Vec::new();
            said.push(format!(
                "func: {}",
                pool.func::<&str, String>("run").err().map_or_else(String::new, |e| e.to_string())
            ));
            said.push(format!("apply: {:?}", pool.apply(&run, "good")));
            said.push(format!("map: {:?}", pool.map(&run, ["good"])));
            said.push(format!("map_async: {:?}", pool.map_async(&run, ["good"]).get()));
            said.push(format!("imap: {:?}", pool.imap(&run, ["good"]).next()));
            said.push(format!(
                "stream: {}",
                pool.stream(&"run".into(), true).err().map_or_else(String::new, |e| e.to_string())
            ));
            said.push(format!("pending: {:?}", endless.get()));
            said.push(format!("pending map: {:?}", endless_map.get()));
            said.push(format!("pending imap: {:?}", results.next()));
            said.push(format!("push: {:?}", inputs.push(b"good")));
            said.push(format!("take: {:?}", outcomes.take_into(&mut |_| ())));
            said.push(format!("kill: {:?}", process.kill()));
            said.push(format!("join: {:?}", process.join()));
            said.push(format!("alive: {:?}", process.is_alive()));
            said.push(format!(
                "start: {}",
                unstarted.start().err().map_or_else(String::new, |e| e.to_string())
            ));
            pool.terminate();
            said.push(format!("join pool: {:?}", pool.join()));
            said.push(format!(
                "workers: {:?}, children: {:?}",
                pool.workers(),
                wpool::process::active_children()
            ));
            drop((pool, process, unstarted, results, inputs, outcomes));
            // What it makes itself is its own.
            let own = Pool::builder(&place.failing).processes(1).build()?;
            said.push(format!("own: {:?}", own.apply(&own.func::<&str, String>("run")?, "good")));
            let mut own = place.process(&place.hello, "bob:0").build()?;
            own.start()?;
            said.push(format!("own: {:?}", own.join()?.exitcode));
            println!("{}", said.join("\n"));
            Ok(())
        }
        child => {
            // SAFETY: it is a child of ours, and its status is not needed.
            assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
            assert_eq!(results.next().transpose()?.as_deref(), Some("good"), "the fork has taken it");
            inputs.push(b"good")?;
            drop(inputs);
            assert!(outcomes.take_into(&mut |outcome| assert!(outcome.result().is_ok())));
            assert_eq!(pool.apply(&run, "good")?, "good");
            assert!(process.is_alive(), "the fork has ended it");
            drop((pool, process));
            println!("parent: {:?}", std::fs::read_to_string("/proc/thread-self/children")?);
            Ok(())
        }
    }
}

#[expect(unsafe_code, reason = "there is no safe way to reap any child, or to ignore their ends")]
fn loses_exit_codes(place: &Place, deed: &str) -> Done {
    match deed {
        // SAFETY: SIG_IGN runs no code of ours.
        "ignores-children" => drop(unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) }),
        _ => drop(std::thread::spawn(|| {
            loop {
                // SAFETY: the status is not needed. A careless program does this.
                unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL) };
            }
        })),
    }
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        for record in ["bob:0", "bob:600000"] {
            let mut process = place.process(&place.hello, record).start_method(method).build()?;
            process.start()?;
            if record != "bob:0" {
                process.kill()?;
            }
            let status = process.join()?;
            println!("{record}: {:?} {:?}", process.exitcode(), status.reason);
        }
        let pool = place.pool(method)?;
        println!("pool: {:?}", pool.apply(&pool.func::<&str, String>("run")?, "good"));
    }
    Ok(())
}

#[expect(unsafe_code, reason = "there is no safe way to close what others may use")]
fn closes_stdio(place: &Place) -> Done {
    let report = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let module = place.failing.clone();
    // SAFETY: nothing in this program uses them from here on.
    (0..3).for_each(|fd| unsafe { rustix::io::close(fd) });
    let open = || (0..3).filter(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).is_ok()).count();
    let mut said = String::new();
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        let pool = Pool::builder(&module).processes(2).start_method(method).build()?;
        let run = pool.func::<&str, String>("run")?;
        let result = pool.apply(&run, "good");
        said.push_str(&format!("{method:?}: {result:?}, {} of ours\n", open()));
        let mut process = place.process(&place.hello, "bob:0").start_method(method).build()?;
        process.start()?;
        said.push_str(&format!("{method:?}: {:?}, {} of ours\n", process.join()?.exitcode, open()));
    }
    // (The runtime of worker threads is the engine's own.) Compiled anew, and from the cache.
    for loader in [Module::loader().no_cache(), Module::loader()] {
        let module = loader.from_bytes(b"(module)");
        said.push_str(&format!("module: {}, {} of ours\n", module.is_ok(), open()));
    }
    rustix::io::write(&report, said.as_bytes())?;
    Ok(())
}

#[expect(unsafe_code, reason = "there is no safe way to close what others may use")]
fn closes_all(place: &Place) -> Done {
    let pool = place.pool(StartMethod::Forkserver)?;
    let run = pool.func::<&str, String>("run")?;
    let idle = place.pool(StartMethod::Spawn)?;
    let idle_run = idle.func::<&str, String>("run")?;
    idle.apply(&idle_run, "good")?;
    let mut process = place.process(&place.failing, "loop").build()?;
    process.start()?;
    let endless = pool.apply_async(&run, "loop");
    wait_for("it runs", || pool.workers().iter().any(|worker| worker.state == WorkerState::Busy));
    // SAFETY: close_range takes three integers. What used the descriptors finds out, which is what this is a
    // test of.
    assert_eq!(unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) }, 0);
    println!("endless: {:?}", endless.get());
    println!("next: {:?}", idle.apply(&idle_run, "good"));
    println!("process: {:?}", process.join()?.exitcode);
    pool.terminate();
    println!("joined: {}", pool.join_timeout(Duration::from_secs(10))?);
    drop((pool, idle, process));
    Ok(())
}
