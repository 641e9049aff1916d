//! `--profile`: gathers the workers' profiles, and writes them as one file for the Firefox profiler.

mod json;
mod merge;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::merge::fuzz;
use self::merge::{Merger, Readable};
use super::choices::ProfileArg;
use super::exit::{CliError, OrExit, WpoolExit};
use super::report::Report;
use crate::pool::events::PoolEvent;

/// Bytes of profiles that are kept until the end. Profiles of later workers are left out.
const KEPT_MAX: usize = 256 << 20;

/// Gathers profiles as they come, and writes them at the end.
pub(super) struct Profiles {
    arg: Option<ProfileArg>,
    /// Created before anything runs, so that a missing directory is no surprise after an hour of work.
    file: Option<File>,
    begin: SystemTime,
    gathered: Arc<Mutex<Gathered>>,
}

#[derive(Default)]
struct Gathered {
    profiles: Vec<(String, Arc<[u8]>)>,
    len: usize,
    left_out: usize,
}

impl Profiles {
    pub(super) fn open(arg: Option<&ProfileArg>) -> Result<Profiles, CliError> {
        let file = match arg {
            Some(ProfileArg::Guest { path, .. }) => {
                Some(File::create(path).or_exit(WpoolExit::Io, || cannot_write(path))?)
            }
            Some(ProfileArg::PerfMap | ProfileArg::JitDump) | None => None,
        };
        Ok(Profiles { arg: arg.cloned(), file, begin: SystemTime::now(), gathered: Arc::default() })
    }

    /// A function that the pool calls with each event.
    pub(super) fn listener(&self) -> impl Fn(&PoolEvent) + Send + Sync + use<> {
        let gathered = self.gathered.clone();
        move |event| {
            if let PoolEvent::WorkerProfiled { worker, profile } = event {
                let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
                gathered.add(format!("PoolWorker-{worker}"), profile.clone());
            }
        }
    }

    /// Adds the profile of a process, if it has one.
    pub(super) fn add(&self, name: &str, profile: Option<Vec<u8>>) {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        profile.into_iter().for_each(|profile| gathered.add(name.to_owned(), profile.into()));
    }

    /// Writes the profiles, and says where they are.
    pub(super) fn finish(self, report: &Report) -> Result<(), CliError> {
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
        let gathered = std::mem::take(&mut *self.gathered.lock().unwrap_or_else(PoisonError::into_inner));
        let mut merger =
            Merger::new(BufWriter::new(file), self.begin).or_exit(WpoolExit::Io, || cannot_write(&path))?;
        let mut unreadable = 0;
        for (name, profile) in gathered.profiles {
            match merger.add(&name, &profile).or_exit(WpoolExit::Io, || cannot_write(&path))? {
                Readable::Yes => {}
                Readable::No => unreadable += 1,
            }
        }
        let (workers, samples) = (merger.workers, merger.samples);
        merger.finish().or_exit(WpoolExit::Io, || cannot_write(&path))?;
        if gathered.left_out + unreadable > 0 {
            report
                .warn(&format!("profile: those of {} workers were left out", gathered.left_out + unreadable));
        }
        let s = if workers == 1 { "" } else { "s" };
        report.note(&format!(
            "profile: {samples} samples of {workers} worker{s} in {}: open it at profiler.firefox.com",
            path.display()
        ));
        Ok(())
    }
}

impl Gathered {
    fn add(&mut self, name: String, profile: Arc<[u8]>) {
        if self.len + profile.len() > KEPT_MAX {
            self.left_out += 1;
            return;
        }
        self.len += profile.len();
        self.profiles.push((name, profile));
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write the profile {}", path.display())
}
