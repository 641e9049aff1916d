//! What is soaked: jobs of each interface whose outcomes are compared one by one, under random kills.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wpool::events::PoolEvent;
use wpool::process::ExitReason;
use wpool::{Func, Limits, Module, Pool, PoolBuilder, Process, Target, TaskError};

use super::chaos::{Chaos, STOPPED};
use super::right::{Random, Tally, record};

/// The records of a job of mixed kinds.
const RECORDS: u64 = 250;
/// Longer than the chaos stops a process for a while. So no honest record times out.
const TIME: Duration = Duration::from_millis(1200);
/// What an iterator of items panics with. The panic's message is not printed.
pub(crate) const PANIC: &str = "soak: an iterator of items panics";

/// What a part of a round needs.
pub(crate) struct Soak<'s> {
    pub(crate) echo: &'s Module,
    pub(crate) mixed: &'s Module,
    pub(crate) chaos: &'s Chaos,
    pub(crate) tasks: u64,
}

/// A part of a round. All parts of a round run at the same time.
pub(crate) type Part = fn(&Soak<'_>, &mut Random) -> Result<Tally, String>;

pub(crate) const PARTS: [(&str, Part); 6] = [
    ("many tasks", many_tasks),
    ("mixed kinds without retries", without_retries),
    ("mixed kinds with retries", with_retries),
    ("workers stopped for good", stopped_for_good),
    ("halts, panics and dropped iterators", ended_early),
    ("Processes", processes),
];

/// A pool, and the ids of the workers that it has started.
struct Watched {
    pool: Pool,
    started: Arc<Mutex<Vec<u32>>>,
}

/// A pool without a limit on how many workers one task may lose: bad luck may kill many.
fn watched(builder: PoolBuilder) -> Result<Watched, String> {
    let started = Arc::new(Mutex::new(Vec::new()));
    let listing = started.clone();
    let on_event = move |event: &PoolEvent| {
        if let PoolEvent::WorkerStarted { pid, .. } = event {
            listing.lock().unwrap_or_else(PoisonError::into_inner).push(*pid);
        }
    };
    let builder = builder.processes(2).poison_limit(NonZeroU32::MAX).on_event(on_event);
    Ok(Watched { pool: builder.build().map_err(|e| e.to_string())?, started })
}

impl Watched {
    /// An error unless a kill of one of the pool's workers explains each lost task.
    fn explains(&self, tally: Tally, chaos: &Chaos, attempts: u64) -> Result<Tally, String> {
        let kills = chaos.kills_among(&self.started.lock().unwrap_or_else(PoisonError::into_inner));
        match tally.lost * attempts <= kills {
            true => Ok(tally),
            false => Err(format!("{} tasks lost by {kills} kills of workers", tally.lost)),
        }
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.time = Some(TIME);
    limits.memory = 64 << 20;
    limits
}

/// Many short tasks in an unordered iterator: each has exactly one outcome.
fn many_tasks(soak: &Soak<'_>, _: &mut Random) -> Result<Tally, String> {
    let watched = watched(Pool::builder(soak.echo).retries(1000))?;
    let echo = watched.pool.func::<Vec<u8>, Vec<u8>>("run").map_err(|e| e.to_string())?;
    let records = (0..soak.tasks).map(|n| n.to_string().into_bytes());
    let mut seen = Once::of(soak.tasks);
    let mut tally = Tally::default();
    for (index, result) in watched.pool.imap_unordered(&echo, records) {
        seen.see(index)?;
        tally.judge(&index.to_string(), &result)?;
    }
    seen.all()?;
    if tally.lost > 0 { Err(format!("{} tasks lost in spite of retries", tally.lost)) } else { Ok(tally) }
}

/// That each index comes once.
struct Once {
    seen: Vec<bool>,
}

impl Once {
    fn of(count: u64) -> Once {
        Once { seen: (0..count).map(|_| false).collect() }
    }

    fn see(&mut self, index: u64) -> Result<(), String> {
        let place = usize::try_from(index).ok().and_then(|index| self.seen.get_mut(index));
        match place.map(|seen| std::mem::replace(seen, true)) {
            Some(false) => Ok(()),
            Some(true) => Err(format!("task {index} has two outcomes")),
            None => Err(format!("there is no task {index}")),
        }
    }

    fn all(&self) -> Result<(), String> {
        match self.seen.iter().position(|seen| !seen) {
            Some(missing) => Err(format!("task {missing} has no outcome")),
            None => Ok(()),
        }
    }
}

fn without_retries(soak: &Soak<'_>, random: &mut Random) -> Result<Tally, String> {
    let watched = watched(Pool::builder(soak.mixed).limits(limits()))?;
    let tally = each_interface(&watched.pool, random)?;
    watched.explains(tally, soak.chaos, 1)
}

/// Lost tasks are tried again, so that hardly one is lost in the end: each attempt needs a kill.
fn with_retries(soak: &Soak<'_>, random: &mut Random) -> Result<Tally, String> {
    const RETRIES: u32 = 5;
    let is_lost = |error: &TaskError| matches!(error, TaskError::WorkerLost { .. });
    let builder = Pool::builder(soak.mixed).limits(limits()).retries(RETRIES).retry_on(is_lost);
    let watched = watched(builder)?;
    let tally = each_interface(&watched.pool, random)?;
    watched.explains(tally, soak.chaos, u64::from(RETRIES) + 1)
}

/// A worker that is stopped and never goes on is ended by the time limit of its task, which is then retried.
fn stopped_for_good(soak: &Soak<'_>, _: &mut Random) -> Result<Tally, String> {
    let mut limits = limits();
    limits.time = Some(Duration::from_millis(400));
    let builder = Pool::builder(soak.mixed).limits(limits).retries(1000).name(STOPPED);
    let watched = watched(builder)?;
    let run = func(&watched.pool)?;
    let records: Vec<String> = (0..RECORDS).map(|n| format!("a{n}")).collect();
    let mut tally = Tally::default();
    let (end, before) = (Instant::now() + Duration::from_secs(8), soak.chaos.count(STOPPED));
    while soak.chaos.count(STOPPED) < before + 3 && Instant::now() < end {
        let results = watched.pool.imap(&run, records.clone());
        judge_in_order(&mut tally, &records, results)?;
    }
    if tally.lost > 0 { Err(format!("{} tasks lost in spite of retries", tally.lost)) } else { Ok(tally) }
}

fn func(pool: &Pool) -> Result<Func<String, Vec<u8>>, String> {
    pool.func("run").map_err(|e| e.to_string())
}

fn judge_in_order(
    tally: &mut Tally,
    records: &[String],
    results: impl IntoIterator<Item = Result<Vec<u8>, TaskError>>,
) -> Result<(), String> {
    let mut count = 0;
    for (at, result) in results.into_iter().enumerate() {
        tally.judge(records.get(at).ok_or("more outcomes than records")?, &result)?;
        count += 1;
    }
    if count == records.len() {
        Ok(())
    } else {
        Err(format!("{count} outcomes of {} records", records.len()))
    }
}

/// Jobs of mixed kinds through each interface of a pool, all of them open at the same time.
fn each_interface(pool: &Pool, random: &mut Random) -> Result<Tally, String> {
    let run = func(pool)?;
    let mut tally = Tally::default();
    let new = |random: &mut Random| (0..RECORDS).map(|n| record(n, random)).collect::<Vec<String>>();
    let (of_imap, of_unordered, of_map, of_apply) = (new(random), new(random), new(random), new(random));
    let imap = pool.imap(&run, of_imap.clone());
    let unordered = pool.imap_unordered(&run, of_unordered.clone());
    let applied: Vec<_> = of_apply.iter().map(|record| pool.apply_async(&run, record.clone())).collect();
    let good: Vec<String> = (0..RECORDS).map(|n| format!("a{n}")).collect();
    let collected = pool.map_async(&run, good.clone());
    judge_in_order(&mut tally, &of_map, pool.try_map(&run, of_map.clone()))
        .map_err(|e| format!("try_map: {e}"))?;
    judge_in_order(&mut tally, &of_imap, imap).map_err(|e| format!("imap: {e}"))?;
    judge_in_order(&mut tally, &of_apply, applied.into_iter().map(wpool::AsyncResult::get))
        .map_err(|e| format!("apply_async: {e}"))?;
    let mut seen = Once::of(RECORDS);
    for (index, result) in unordered {
        seen.see(index)?;
        let record =
            usize::try_from(index).ok().and_then(|at| of_unordered.get(at)).ok_or("no such record")?;
        tally.judge(record, &result).map_err(|e| format!("imap_unordered: {e}"))?;
    }
    seen.all()?;
    match collected.get() {
        Ok(results) => judge_in_order(&mut tally, &good, results.into_iter().map(Ok))?,
        Err(error) => {
            let record = good.get(error.index).ok_or("map_async: no such index")?;
            tally.judge(record, &Err(error.error)).map_err(|e| format!("map_async: {e}"))?;
            // Each of the other failures is a lost task too: all records are good.
            tally.lost += error.failed as u64 - 1;
        }
    }
    for ordered in [true, false] {
        tally.add(stream(pool, &new(random), ordered).map_err(|e| format!("stream: {e}"))?);
    }
    Ok(tally)
}

fn stream(pool: &Pool, records: &[String], ordered: bool) -> Result<Tally, String> {
    let (mut inputs, mut outcomes) = pool.stream(&Target::func("run"), ordered).map_err(|e| e.to_string())?;
    let (mut tally, mut seen, mut next) = (Tally::default(), Once::of(records.len() as u64), 0);
    let mut first_error = Ok(());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A pool that has ended has no outcomes. That is told where they are missing.
            let _closed = records.iter().try_for_each(|record| inputs.push(record.as_bytes()));
        });
        while outcomes.take_into(&mut |outcome| {
            let index = outcome.index();
            let result = outcome.result().map(<[u8]>::to_vec);
            let judged = seen.see(index).and_then(|()| match usize::try_from(index) {
                Ok(at) if !ordered || index == next => tally.judge(&records[at], &result),
                Ok(_) | Err(_) => Err(format!("outcome {index} came in place {next}")),
            });
            first_error = std::mem::replace(&mut first_error, Ok(())).and(judged);
            next += 1;
        }) {}
    });
    first_error.and_then(|()| seen.all()).map(|()| tally)
}

/// Jobs that end before all of their items have outcomes.
fn ended_early(soak: &Soak<'_>, random: &mut Random) -> Result<Tally, String> {
    let mut tally = halted(soak, "now,done=50", random)?;
    tally.add(halted(soak, "soon,success=20", random)?);
    let watched = watched(Pool::builder(soak.mixed).limits(limits()).retries(1000))?;
    let run = func(&watched.pool)?;
    for _ in 0..20 {
        let draws = random.below(3000);
        let items = (0..).map(move |n| if n < draws { format!("a{n}") } else { panic!("{PANIC}") });
        let mut results = watched.pool.imap(&run, items);
        let mut taken = 0;
        let drained = catch_unwind(AssertUnwindSafe(|| {
            results.by_ref().try_for_each(|result| {
                taken += 1;
                tally.judge(&format!("a{}", taken - 1), &result)
            })
        }));
        match drained {
            Err(_panic) if taken <= draws => {}
            Err(_panic) => return Err(format!("{taken} results of {draws} items")),
            Ok(judged) => return Err(format!("the iterator's panic is missing after {taken}: {judged:?}")),
        }
        // Dropped before its end: its tasks are cancelled.
        let mut some = watched.pool.imap(&run, (0..RECORDS).map(|n| format!("a{n}")));
        for n in 0..random.below(RECORDS) {
            tally.judge(&format!("a{n}"), &some.next().ok_or("a result is missing")?)?;
        }
        drop(some);
        let later = watched.pool.apply_async(&run, "a0".to_owned());
        let (is_cancelled, result) = (later.cancel(), later.get());
        match result {
            Err(TaskError::Cancelled) if is_cancelled => {}
            other => tally.judge("a0", &other)?,
        }
    }
    if tally.lost > 0 { Err(format!("{} tasks lost in spite of retries", tally.lost)) } else { Ok(tally) }
}

/// A job that its pool halts. The records are good, so each outcome is right or `Cancelled`.
fn halted(soak: &Soak<'_>, halt: &str, random: &mut Random) -> Result<Tally, String> {
    let (when, least, most) = match halt {
        "now,done=50" => (halt, 50, 50),
        // A worker may have ended more of what it was handed, never more than could have decided, and each
        // may end one more.
        _ => (halt, 20, 2 * 20 + 2),
    };
    let halt = when.parse().map_err(|e| format!("{e}"))?;
    let watched = watched(Pool::builder(soak.mixed).limits(limits()).retries(1000).halt(halt))?;
    let records: Vec<String> = (0..RECORDS + random.below(5000)).map(|n| format!("a{n}")).collect();
    let outcomes = watched.pool.try_map(&func(&watched.pool)?, records.clone());
    if outcomes.len() != records.len() {
        return Err(format!("{when}: {} outcomes of {} records", outcomes.len(), records.len()));
    }
    let mut tally = Tally::default();
    for (record, outcome) in records.iter().zip(&outcomes) {
        if *outcome != Err(TaskError::Cancelled) {
            tally.judge(record, outcome)?;
        }
    }
    let done: u64 = tally.counts.values().sum();
    if (least..=most).contains(&done) { Ok(tally) } else { Err(format!("{when}: {done} tasks have ended")) }
}

/// Processes, one after the other and some at the same time.
fn processes(soak: &Soak<'_>, random: &mut Random) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for _ in 0..25 {
        let records: Vec<String> = (0..1 + random.below(4)).map(|n| record(n, random)).collect();
        let mut started = Vec::new();
        for record in &records {
            if let Some(process) = start(soak, record, &mut tally)? {
                started.push((record, process));
            }
        }
        for (record, mut process) in started {
            join(soak, record, &mut process, &mut tally)?;
        }
    }
    Ok(tally)
}

/// `None`: it could not be started, because its zygote was killed.
fn start(soak: &Soak<'_>, record: &str, tally: &mut Tally) -> Result<Option<Process>, String> {
    let before = soak.chaos.count("zygotes killed");
    let target = Target::func("run").arg(record.as_bytes());
    let builder = Process::builder(soak.mixed).target(target).limits(limits());
    let mut process = builder.build().map_err(|e| e.to_string())?;
    match process.start() {
        Ok(()) => Ok(Some(process)),
        Err(_) if soak.chaos.count("zygotes killed") > before => {
            *tally.counts.entry("not started").or_default() += 1;
            Ok(None)
        }
        Err(error) => Err(format!("a Process cannot be started: {error}")),
    }
}

fn join(soak: &Soak<'_>, record: &str, process: &mut Process, tally: &mut Tally) -> Result<(), String> {
    let status = process.join().map_err(|e| e.to_string())?;
    let pid = process.pid().ok_or("a started Process has no id")?;
    match status.reason {
        ExitReason::Returned => tally.judge(record, &Ok(process.result::<Vec<u8>>().ok_or("no result")?)),
        ExitReason::Failed(error) => tally.judge(record, &Err(error)),
        ExitReason::Signaled(9) if soak.chaos.kills_among(&[pid]) > 0 => {
            *tally.counts.entry("Processes killed").or_default() += 1;
            Ok(())
        }
        other => Err(format!("a Process with the record {record} ended with {other:?}")),
    }
}

/// The threads of this program, by their names.
pub(crate) fn threads() -> BTreeSet<(u32, String)> {
    let all = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let thread = |entry: std::fs::DirEntry| {
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?.trim().to_owned();
        Some((entry.file_name().to_str()?.parse().ok()?, name))
    };
    all.filter_map(thread).collect()
}
