//! Kills and stops the processes of this program at random: workers, zygotes, Processes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::right::Random;

/// The pause between two signals.
const PAUSE_MS: u64 = 25;
/// A zygote is killed at most this often. A pool gives up a zygote that dies again and again at its start.
const ZYGOTE_PAUSE: Duration = Duration::from_millis(700);
/// Workers whose name begins so are stopped for good: their time limit must end them. The report has
/// the same word for that.
pub(crate) const STOPPED: &str = "Stopped";

/// What was done, for the rounds to judge by, and for the report.
#[derive(Debug, Default)]
pub(crate) struct Chaos {
    pub(crate) over: AtomicBool,
    killed: Mutex<BTreeMap<u32, u64>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Chaos {
    /// How many of these processes were sent a kill.
    pub(crate) fn kills_among(&self, pids: &[u32]) -> u64 {
        let killed = self.killed.lock().unwrap_or_else(PoisonError::into_inner);
        pids.iter().filter_map(|pid| killed.get(pid)).sum()
    }

    /// How often something was done: `zygotes killed` and the like.
    pub(crate) fn count(&self, what: &str) -> u64 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).get(what).copied().unwrap_or(0)
    }

    pub(crate) fn report(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(what, count)| format!("{what}: {count}")).collect::<Vec<_>>().join(", ")
    }

    /// Sends signals until `over`.
    pub(crate) fn run(&self, seed: u64) {
        let mut random = Random(seed);
        let mut zygote_killed = Instant::now();
        while !self.over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(PAUSE_MS));
            let all = children();
            let at = random.below(all.len() as u64);
            let Some((pid, name)) = usize::try_from(at).ok().and_then(|at| all.get(at)) else { continue };
            let is_zygote = name.starts_with("wpool-zygote");
            if is_zygote && zygote_killed.elapsed() < ZYGOTE_PAUSE {
                continue;
            }
            match random.below(4) {
                0 if name.starts_with(STOPPED) => self.signal(*pid, Signal::STOP, STOPPED),
                0 => {
                    let what = if is_zygote { "zygotes stopped" } else { "workers stopped for a while" };
                    self.signal(*pid, Signal::STOP, what);
                    std::thread::sleep(Duration::from_millis(20 + random.below(80)));
                    self.signal(*pid, Signal::CONT, "continued");
                }
                _ => {
                    // Before the signal: a round may ask as soon as its task is lost.
                    *self.killed.lock().unwrap_or_else(PoisonError::into_inner).entry(*pid).or_default() += 1;
                    self.signal(
                        *pid,
                        Signal::KILL,
                        if is_zygote { "zygotes killed" } else { "workers killed" },
                    );
                    if is_zygote {
                        zygote_killed = Instant::now();
                    }
                }
            }
        }
    }

    fn signal(&self, pid: u32, signal: Signal, what: &'static str) {
        // The process is this program's child, so its id names nothing else until it is waited for. It may
        // have been waited for since it was listed; a new process with that id is hardly there yet.
        let sent = i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| kill_process(pid, signal));
        if matches!(sent, Some(Ok(()))) {
            *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
        }
    }
}

/// The children of this process with their names, zombies too.
pub(crate) fn children() -> Vec<(u32, String)> {
    let own = std::process::id();
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let child = |entry: std::fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // `PID (NAME) STATE PARENT ...`; the name may have spaces.
        let (head, tail) = stat.rsplit_once(") ")?;
        let parent: u32 = tail.split(' ').nth(1)?.parse().ok()?;
        (parent == own).then(|| (pid, head.split_once('(').map_or("", |(_, name)| name).to_owned()))
    };
    all.filter_map(child).collect()
}
