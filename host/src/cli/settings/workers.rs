//! The number of workers: what `-j` asks for, within what the machine allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::choices::JobCount;
use crate::cli::report::Report;

/// More workers than this are of no use, and a typing error should not fill the process table.
const JOBS_MAX: usize = 1024;
/// Descriptors that the coordinator needs for each worker.
const FDS_PER_WORKER: u64 = 5;
/// Descriptors for everything else.
const FDS_OF_OURS: u64 = 32;

/// The number of workers. Warns if it is smaller than the one asked for.
pub(super) fn processes(jobs: JobCount, report: &Report) -> usize {
    let wanted = resolve(jobs, crate::sys::cpu_count());
    let by_files = raise_files().saturating_sub(FDS_OF_OURS) / FDS_PER_WORKER;
    let by_files = usize::try_from(by_files).unwrap_or(usize::MAX);
    let (most, why) = if by_files < JOBS_MAX {
        (by_files.max(1), "the limit on open files (ulimit -n) allows no more")
    } else {
        (JOBS_MAX, "more are of no use")
    };
    if wanted > most {
        report.warn(&format!("at most {most} at a time instead of {wanted} workers: {why}"));
    }
    wanted.min(most)
}

fn resolve(jobs: JobCount, processors: usize) -> usize {
    let wanted = match jobs {
        JobCount::Default => processors,
        JobCount::Exactly(n) => n,
        JobCount::Percent(percent) => processors.saturating_mul(percent) / 100,
        JobCount::More(n) => processors.saturating_add(n),
        JobCount::Fewer(n) => processors.saturating_sub(n),
    };
    wanted.max(1)
}

/// Raises the limit on open files to the maximum, and returns it.
fn raise_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_follow_the_processors_and_are_at_least_one() {
        let of = |jobs| resolve(jobs, 4);
        assert_eq!(of(JobCount::Default), 4);
        assert_eq!(of(JobCount::Exactly(7)), 7);
        assert_eq!((of(JobCount::Percent(50)), of(JobCount::Percent(1))), (2, 1));
        assert_eq!((of(JobCount::More(2)), of(JobCount::More(usize::MAX))), (6, usize::MAX));
        assert_eq!((of(JobCount::Fewer(1)), of(JobCount::Fewer(9))), (3, 1));
    }
}
