//! `--profile`: what it says, and the profiles of several workers as one file for the Firefox profiler.

mod merge;

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::merge::fuzz;
use self::merge::{Merger, Readable};
use super::exit::{Exit, Failure};
use super::report::Report;
use super::{parse, stdio};
use crate::pool::events::PoolEvent;
use crate::spec::ProfilingStrategy;

/// Where a profile goes unless it is said.
const PATH: &str = "wpool-guest-profile.json";

/// Bytes of profiles that are kept until the end. With more, those of later workers are left out.
const KEPT_MAX: usize = 256 << 20;

/// What `--profile` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProfileArg {
    Guest { path: PathBuf, interval: Duration },
    PerfMap,
    JitDump,
}

impl ProfileArg {
    /// `guest`, `guest,PATH`, `guest,PATH,INTERVAL`, `perfmap`, `jitdump`, as of the `wasmtime` command.
    pub(super) fn parse(text: &str) -> Result<ProfileArg, String> {
        let wrong = || "expected guest[,PATH[,INTERVAL]], perfmap or jitdump".to_owned();
        let mut parts = text.splitn(3, ',');
        match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
            ("perfmap", None, _) => Ok(ProfileArg::PerfMap),
            ("jitdump", None, _) => Ok(ProfileArg::JitDump),
            ("guest", path, interval) => {
                let path = path.unwrap_or(PATH);
                let interval = interval.map_or(Ok(ProfilingStrategy::INTERVAL), parse::duration)?;
                if path.is_empty() {
                    return Err(wrong());
                }
                match interval < ProfilingStrategy::INTERVAL {
                    true => Err("the shortest interval is 1ms".to_owned()),
                    false => Ok(ProfileArg::Guest { path: path.into(), interval }),
                }
            }
            _ => Err(wrong()),
        }
    }

    pub(super) fn strategy(&self) -> ProfilingStrategy {
        match self {
            ProfileArg::Guest { interval, .. } => ProfilingStrategy::Guest { interval: *interval },
            ProfileArg::PerfMap => ProfilingStrategy::PerfMap,
            ProfileArg::JitDump => ProfilingStrategy::JitDump,
        }
    }
}

/// Takes profiles as they come, and writes them out at the end.
pub(super) struct Profiles {
    arg: Option<ProfileArg>,
    /// Made before anything runs: an hour of work must not end with a directory that is not there.
    file: Option<File>,
    begin: SystemTime,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    profiles: Vec<(String, Arc<[u8]>)>,
    len: usize,
    left_out: usize,
}

impl Profiles {
    pub(super) fn open(arg: Option<&ProfileArg>) -> Result<Profiles, Failure> {
        let file = match arg {
            Some(ProfileArg::Guest { path, .. }) => {
                Some(File::create(path).map_err(|e| cannot_write(path, &e))?)
            }
            Some(ProfileArg::PerfMap | ProfileArg::JitDump) | None => None,
        };
        Ok(Profiles { arg: arg.cloned(), file, begin: SystemTime::now(), taken: Arc::default() })
    }

    /// To be called with each event of a pool.
    pub(super) fn listener(&self) -> impl Fn(&PoolEvent) + Send + Sync + use<> {
        let taken = self.taken.clone();
        move |event| {
            if let PoolEvent::WorkerProfiled { worker, profile } = event {
                let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
                taken.add(format!("PoolWorker-{worker}"), profile.clone());
            }
        }
    }

    /// The profile of a process, if it has one.
    pub(super) fn add(&self, name: &str, profile: Option<Vec<u8>>) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        profile.into_iter().for_each(|profile| taken.add(name.to_owned(), profile.into()));
    }

    /// Writes them out, and says where they are.
    pub(super) fn finish(self, report: &Report) -> Result<(), Failure> {
        let (path, file) = match (self.arg, self.file) {
            (Some(ProfileArg::Guest { path, .. }), Some(file)) => (path, file),
            (Some(ProfileArg::PerfMap), _) => {
                report.note(
                    "profile: each worker has left /tmp/perf-PID.map: see `perf record` and `perf report`",
                );
                return Ok(());
            }
            (Some(ProfileArg::JitDump), _) => {
                report.note("profile: each worker has left /tmp/jit-PID.dump: see `perf inject --jit`");
                return Ok(());
            }
            _ => return Ok(()),
        };
        let taken = std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner));
        let mut merger =
            Merger::new(BufWriter::new(file), self.begin).map_err(|e| cannot_write(&path, &e))?;
        let mut unreadable = 0;
        for (name, profile) in taken.profiles {
            match merger.add(&name, &profile).map_err(|e| cannot_write(&path, &e))? {
                Readable::Yes => {}
                Readable::No => unreadable += 1,
            }
        }
        let (workers, samples) = (merger.workers, merger.samples);
        merger.finish().map_err(|e| cannot_write(&path, &e))?;
        if taken.left_out + unreadable > 0 {
            report.warn(&format!("profile: those of {} workers were left out", taken.left_out + unreadable));
        }
        let s = if workers == 1 { "" } else { "s" };
        report.note(&format!(
            "profile: {samples} samples of {workers} worker{s} in {}: open it at profiler.firefox.com",
            path.display()
        ));
        Ok(())
    }
}

impl Taken {
    fn add(&mut self, name: String, profile: Arc<[u8]>) {
        match self.len + profile.len() > KEPT_MAX {
            true => self.left_out += 1,
            false => {
                self.len += profile.len();
                self.profiles.push((name, profile));
            }
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Io, format!("cannot write the profile {}: {}", path.display(), stdio::words(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_may_have_a_file_and_an_interval() {
        let guest =
            |path: &str, ms| Ok(ProfileArg::Guest { path: path.into(), interval: Duration::from_millis(ms) });
        assert_eq!(ProfileArg::parse("guest"), guest(PATH, 1));
        assert_eq!(ProfileArg::parse("guest,a b.json"), guest("a b.json", 1));
        assert_eq!(ProfileArg::parse("guest,p,10ms"), guest("p", 10));
        assert_eq!(ProfileArg::parse("perfmap"), Ok(ProfileArg::PerfMap));
        assert_eq!(ProfileArg::parse("jitdump"), Ok(ProfileArg::JitDump));
        for wrong in
            ["", "host", "guest,", "guest,p,0", "guest,p,soon", "guest,p,1ms,x", "perfmap,x", "jitdump,"]
        {
            assert!(ProfileArg::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
