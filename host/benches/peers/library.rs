//! The contenders that call the library: round trips, starts, memory.

use std::time::{Duration, Instant};

use wpool::sandbox::Sandbox;
use wpool::{Isolation, Module, Pool, Process, Target};

use super::bench::repo;
use super::machine;
use super::measure::{Contender, Sample, median};

pub(crate) fn load(path: &str) -> Module {
    Module::load(repo(path)).expect("the guests are in the repository")
}

/// Loads a module without the operating system's confinement. The difference to [`load`] is the price of that
/// wall.
pub(crate) fn load_bare(path: &str) -> Module {
    Module::loader().sandbox(Sandbox::Off).load(repo(path)).expect("the guests are in the repository")
}

pub(crate) fn pool(module: &Module, workers: usize, isolation: Isolation) -> Pool {
    Pool::builder(module).processes(workers).isolation(isolation).build().expect("the guest exports run")
}

/// The median time of one task there and back in a warm pool of two, each after a pause: without one the
/// workers have not gone to sleep.
pub(crate) fn round_trips<'b>(name: &str, module: &Module, count: usize, pause: Duration) -> Contender<'b> {
    let module = module.clone();
    let run = move || {
        let pool = pool(&module, 2, Isolation::Reuse);
        let run = pool.func::<&str, Vec<u8>>("run").map_err(|e| e.to_string())?;
        let once = || {
            let started = Instant::now();
            match pool.apply(&run, "sixteen bytes ok") {
                Ok(result) if result == b"SIXTEEN BYTES OK" => Ok(started.elapsed().as_secs_f64()),
                Ok(_) => Err("wrong result".to_owned()),
                Err(e) => Err(e.to_string()),
            }
        };
        for _ in 0..50 {
            once()?;
        }
        let paused = |_| {
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
            once()
        };
        let mut took = (0..count).map(paused).collect::<Result<Vec<f64>, String>>()?;
        Ok(Sample { value: median(&mut took), second: None })
    };
    Contender { name: name.to_owned(), ops: 1.0, ideal: None, run: Box::new(run) }
}

pub(crate) fn start_join<'b>(name: &str, module: &Module, count: usize) -> Contender<'b> {
    let module = module.clone();
    let run = move || {
        let once = || {
            let target = Target::func("run").arg("x");
            let mut process = Process::builder(&module).target(target).build().map_err(|e| e.to_string())?;
            process.start().map_err(|e| e.to_string())?;
            match process.join().map_err(|e| e.to_string())?.exitcode {
                0 => Ok(()),
                code => Err(format!("the process ended with {code}")),
            }
        };
        // The first process also starts the fork server, which serves all others.
        once()?;
        let started = Instant::now();
        (0..count).try_for_each(|_| once())?;
        Ok(Sample { value: started.elapsed().as_secs_f64(), second: None })
    };
    Contender { name: name.to_owned(), ops: count as f64, ideal: None, run: Box::new(run) }
}

/// A pool whose worker is replaced after each task: the price of a start when the next worker is prepared
/// meanwhile.
pub(crate) fn replaced_workers<'b>(name: &str, module: &Module, count: usize) -> Contender<'b> {
    let module = module.clone();
    let run = move || {
        let one = std::num::NonZeroU64::MIN;
        let pool = Pool::builder(&module)
            .processes(1)
            .max_tasks_per_child(one)
            .build()
            .map_err(|e| e.to_string())?;
        let run = pool.func::<&str, Vec<u8>>("run").map_err(|e| e.to_string())?;
        let once = || pool.apply(&run, "x").map(drop).map_err(|e| e.to_string());
        once()?;
        let started = Instant::now();
        (0..count).try_for_each(|_| once())?;
        Ok(Sample { value: started.elapsed().as_secs_f64(), second: None })
    };
    Contender { name: name.to_owned(), ops: count as f64, ideal: None, run: Box::new(run) }
}

/// The memory of an idle worker that has had tasks, in KiB: private, and proportional (PSS).
pub(crate) fn memory<'b>(name: &str, module: &Module, workers: usize, isolation: Isolation) -> Contender<'b> {
    let module = module.clone();
    let run = move || {
        let pool = pool(&module, workers, isolation);
        let run = pool.func::<&str, Vec<u8>>("run").map_err(|e| e.to_string())?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while pool.workers().len() < workers || Instant::now() + Duration::from_millis(9_900) < deadline {
            pool.map(&run, ["sixteen bytes ok"; 256]).map_err(|e| e.to_string())?;
            if Instant::now() > deadline {
                return Err(format!("{} workers instead of {workers}", pool.workers().len()));
            }
        }
        let each = pool.workers().into_iter().map(|worker| machine::private_and_pss_kib(worker.pid));
        let each = each.collect::<Option<Vec<_>>>().ok_or("a worker's memory cannot be seen")?;
        let mean = |sum: f64| sum / each.len() as f64;
        Ok(Sample {
            value: mean(each.iter().map(|(private, _)| private).sum()),
            second: Some(mean(each.iter().map(|(_, pss)| pss).sum())),
        })
    };
    Contender { name: name.to_owned(), ops: 1.0, ideal: None, run: Box::new(run) }
}
