//! The grid of faults: a worker dies, or stands still, at each phase of its life in each way; with one worker
//! and with four; with and without retries; over both start methods. Never a hang, never a lost task, and the
//! message names the signal or the code.
//!
//! Needs the feature `fault-points`: `cargo test --release -p wpool --features fault-points --test grid`.
//!
//! The peers, for comparison: CPython's Pool hangs in most cells; ProcessPoolExecutor loses all tasks in all
//! of them.

mod support;

use std::sync::Mutex;
use std::time::Duration;

use support::{assert_gone, guest, time_bound_of};
use wpool::events::PoolEvent;
use wpool::{Fault, FaultAction, FaultPhase, Limits, Module, Pool, StartMethod, TaskError};

use FaultAction::{Exit, Kill, Segv, Stop};
use FaultPhase::{
    AfterAsk, AfterPost, AfterWrite, Answered, BeforeAsk, BeforeEnded, BeforeWrite, GotTask, Handshake, Idle,
    MidAsk, MidPost, MidTask, MidWrite, Start, TakenAhead,
};

const PHASES: [FaultPhase; 8] = [Start, Handshake, Idle, GotTask, MidTask, BeforeWrite, MidWrite, AfterWrite];
const ACTIONS: [FaultAction; 5] = [Kill, Segv, Exit(0), Exit(7), Stop];
const TASKS: usize = 40;

#[derive(Debug, Clone, Copy)]
struct Cell {
    method: StartMethod,
    fault: Fault,
    processes: usize,
    retries: u32,
}

/// What a cell may cost.
fn cost(cell: Cell) -> std::ops::RangeInclusive<usize> {
    match (cell.fault.phase, cell.fault.action) {
        _ if cell.retries > 0 => 0..=0,
        // It had not begun anything, and was not waited for with a task in its hands.
        (Start | Handshake, _) => 0..=0,
        // A worker that stands still with a task, or gets one then, times out in its first task.
        (Idle, Stop) => 0..=1,
        (AfterWrite, Stop) => 0..=1,
        (GotTask, Stop) => 1..=1,
        (Idle | GotTask | AfterWrite, _) => 0..=0,
        (MidTask | BeforeWrite | MidWrite, _) => 1..=1,
        (FaultPhase::Compile | FaultPhase::Unlisted, _) => unreachable!("see the test program `probe`"),
        (BeforeAsk | MidAsk | AfterAsk | MidPost | AfterPost | Answered | TakenAhead | BeforeEnded, _) => {
            unreachable!("see the test program `asks`")
        }
    }
}

fn is_named(error: &TaskError, action: FaultAction) -> bool {
    let is_lost = |code: i32, words: &str| {
        matches!(error, TaskError::WorkerLost { exitcode, reason }
            if *exitcode == Some(code) && reason.starts_with(words))
    };
    match action {
        Kill => is_lost(-9, "SIGKILL"),
        Segv => is_lost(-11, "SIGSEGV"),
        Exit(code) => is_lost(code, &format!("exit code {code}")),
        FaultAction::Abort | FaultAction::Try(_) => unreachable!("see the test program `probe`"),
        Stop => error.kind() == "time" && error.to_string().contains("its worker was killed"),
    }
}

fn run(cell: Cell, module: &Module) {
    let pids: std::sync::Arc<Mutex<Vec<u32>>> = Default::default();
    let started = pids.clone();
    let mut limits = Limits::default();
    let mut start_timeout = Duration::from_secs(60);
    // Only a worker that stands still times out; a slow machine must not look like that.
    if cell.fault.action == Stop {
        limits.time = Some(Duration::from_secs(1));
        start_timeout = Duration::from_secs(3);
    }
    let pool = Pool::builder(module)
        .start_method(cell.method)
        .processes(cell.processes)
        .retries(cell.retries)
        .limits(limits)
        .start_timeout(start_timeout)
        .fault(cell.fault)
        .on_event(move |event| {
            if let PoolEvent::WorkerStarted { pid, .. } = event {
                started.lock().unwrap().push(*pid);
            }
        })
        .build()
        .unwrap();
    let hello = pool.func::<String, String>("run").unwrap();
    // Long enough that each worker has its part, the one that dies too.
    let outcomes = pool.try_map(&hello, (0..TASKS).map(|n| format!("n{n}:5")));
    assert_eq!(outcomes.len(), TASKS, "{cell:?}");
    let mut failed = 0;
    for (n, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Ok(result) => assert!(result.starts_with(&format!("hello n{n} from ")), "{cell:?}: {result}"),
            Err(error) => {
                failed += 1;
                assert!(is_named(error, cell.fault.action), "{cell:?}: {error:?}");
            }
        }
    }
    assert!(cost(cell).contains(&failed), "{cell:?} cost {failed} tasks");
    // It goes on as if nothing had been. (One that stands still unnoticed, because it had nothing to do, is
    // noticed now.)
    match pool.apply(&hello, "after:0".to_owned()) {
        Err(error) if failed == 0 && cell.fault.action == Stop => {
            assert_eq!(error.kind(), "time", "{cell:?}")
        }
        after => assert!(after.is_ok_and(|after| after.starts_with("hello after from ")), "{cell:?}"),
    }
    pool.terminate();
    pool.join().unwrap();
    let pids = pids.lock().unwrap();
    assert!(!pids.is_empty());
    assert_gone(&pids);
}

/// CPython's Pool and pebble hang.
#[test]
fn f56_a_worker_that_exits_in_good_order_without_a_result_has_lost_its_task() {
    let _bound = time_bound_of(Duration::from_secs(60));
    let module = guest("hello");
    let fault = Fault { phase: MidTask, action: Exit(0) };
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        run(Cell { method, fault, processes: 2, retries: 0 }, &module);
    }
}

fn row(phase: FaultPhase) {
    let _bound = time_bound_of(Duration::from_secs(300));
    let module = guest("hello");
    for action in ACTIONS {
        for method in [StartMethod::Forkserver, StartMethod::Spawn] {
            for processes in [1, 4] {
                for retries in [0, 2] {
                    run(Cell { method, fault: Fault { phase, action }, processes, retries }, &module);
                }
            }
        }
    }
}

/// One test for each phase, so that they run side by side.
macro_rules! rows {
    ($($name:ident: $phase:ident)*) => {
        $(#[test] fn $name() { row($phase) })*

        #[test]
        fn no_phase_is_forgotten() {
            assert_eq!(PHASES, [$($phase),*]);
        }
    };
}

rows! {
    o46_a_worker_that_dies_at_its_start: Start
    o46_a_worker_that_dies_in_its_handshake: Handshake
    o46_a_worker_that_dies_while_idle: Idle
    o46_a_worker_that_dies_with_a_task_in_its_hands: GotTask
    o46_a_worker_that_dies_in_the_midst_of_a_task: MidTask
    o46_a_worker_that_dies_before_it_writes_its_result: BeforeWrite
    o46_a_worker_that_dies_while_it_writes_its_result: MidWrite
    o46_a_worker_that_dies_after_it_has_written_its_result: AfterWrite
}
