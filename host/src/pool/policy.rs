//! What a pool does about failures: when a task is tried again, and when a job stops.

use std::fmt;
use std::num::{NonZeroU8, NonZeroU64};
use std::str::FromStr;
use std::time::Duration;

/// How pauses grow: fixed, or doubling. [`PoolBuilder::backoff`](crate::PoolBuilder::backoff) takes it.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("failing")?;
/// use std::time::Duration;
/// use wpool::pool::Backoff;
/// use wpool::Pool;
///
/// // Pauses of 100, 200, 400, 800 and 1000 ms.
/// let grow = Backoff::Exponential { max: Duration::from_secs(1) };
/// let builder = Pool::builder(&module).retries(5).retry_delay(Duration::from_millis(100));
/// let pool = builder.backoff(grow).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backoff {
    /// The same pause each time. The default.
    #[default]
    Fixed,
    /// Each pause is twice the last one, up to `max`.
    Exponential {
        /// The longest pause.
        max: Duration,
    },
}

impl Backoff {
    /// The pause after attempt `attempt`, counted from 1, if the first one is `delay`.
    pub(crate) fn delay(self, delay: Duration, attempt: u32) -> Duration {
        match self {
            Backoff::Fixed => delay,
            Backoff::Exponential { max } => {
                let factor = 2u32.checked_pow(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
                delay.saturating_mul(factor).min(max.max(delay))
            }
        }
    }
}

/// When a job stops before its end, in the words of GNU parallel's `--halt`: `now,fail=1`, `soon,fail=30%`,
/// `now,success=1`, `soon,done=100`. [`PoolBuilder::halt`](crate::PoolBuilder::halt) takes it.
///
/// `done=N` is exact: no more than `N` tasks are begun. The other counts may be reached while each worker
/// still runs a task. With `now` these tasks are stopped, and later outcomes do not count. With `soon` they
/// run to their end, and count. So do those that workers have ended without the coordinator having heard of
/// them: each worker is handed no more tasks at once than could still decide. In the end there may be up to
/// `2 * N` failures or successes, and one more for each other worker. No other task is begun.
///
/// A task that was not run, or whose outcome does not count, ends with
/// [`TaskError::Cancelled`](crate::TaskError::Cancelled).
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("failing")?;
/// use wpool::Pool;
/// use wpool::pool::Halt;
///
/// let halt: Halt = "now,fail=1".parse()?;
/// assert_eq!(halt.to_string(), "now,fail=1");
/// let pool = Pool::builder(&module).halt(halt).build()?;
/// let run = pool.func::<&str, String>("run")?;
/// let outcomes = pool.try_map(&run, ["bad"].into_iter().chain(std::iter::repeat_n("good", 1_000_000)));
/// assert!(outcomes.last().is_some_and(|outcome| outcome.is_err())); // it was not run
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Halt {
    /// What happens to the tasks that run at that moment.
    pub when: HaltWhen,
    /// The count that halts the job.
    pub on: HaltOn,
}

/// What happens to running tasks when a job is halted.
///
/// ```
/// use wpool::pool::{Halt, HaltWhen};
///
/// let halt: Halt = "now,fail=1".parse()?;
/// assert_eq!(halt.when, HaltWhen::Now);
/// # Ok::<(), wpool::pool::HaltError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HaltWhen {
    /// They are stopped.
    Now,
    /// They run to their end.
    Soon,
}

/// What halts a job.
///
/// ```
/// use std::num::NonZeroU64;
/// use wpool::pool::{Halt, HaltOn, HaltWhen};
///
/// let halt = Halt { when: HaltWhen::Soon, on: HaltOn::Failures(NonZeroU64::MIN) };
/// assert_eq!(halt.to_string(), "soon,fail=1");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HaltOn {
    /// This many tasks have failed. All attempts of a task count as one.
    Failures(NonZeroU64),
    /// This percentage of the tasks that are done have failed, once [`Halt::SHARE_OF_AT_LEAST`] are done.
    FailureShare(NonZeroU8),
    /// This many tasks have succeeded.
    Successes(NonZeroU64),
    /// This many tasks have succeeded or failed.
    Done(NonZeroU64),
}

impl Halt {
    /// The number of tasks from which on a percentage counts. It is that of GNU parallel.
    pub const SHARE_OF_AT_LEAST: u64 = 3;
}

/// The text is no [`Halt`].
///
/// ```
/// assert_eq!("never".parse::<wpool::pool::Halt>(), Err(wpool::pool::HaltError));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected now|soon, a comma, and fail=N, fail=N%, success=N or done=N (N >= 1), such as now,fail=1")]
pub struct HaltError;

impl FromStr for Halt {
    type Err = HaltError;

    fn from_str(text: &str) -> Result<Halt, HaltError> {
        let (when, on) = text.split_once(',').ok_or(HaltError)?;
        let when = match when {
            "now" => HaltWhen::Now,
            "soon" => HaltWhen::Soon,
            _ => return Err(HaltError),
        };
        let (what, number) = on.split_once('=').ok_or(HaltError)?;
        let count = || number.parse().map_err(|_| HaltError);
        let on = match (what, number.strip_suffix('%')) {
            ("fail", Some(percent)) => {
                let percent: NonZeroU8 = percent.parse().map_err(|_| HaltError)?;
                HaltOn::FailureShare(Some(percent).filter(|p| p.get() <= 100).ok_or(HaltError)?)
            }
            ("fail", None) => HaltOn::Failures(count()?),
            ("success", None) => HaltOn::Successes(count()?),
            ("done", None) => HaltOn::Done(count()?),
            _ => return Err(HaltError),
        };
        Ok(Halt { when, on })
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.when {
            HaltWhen::Now => "now,",
            HaltWhen::Soon => "soon,",
        })?;
        match self.on {
            HaltOn::Failures(count) => write!(f, "fail={count}"),
            HaltOn::FailureShare(percent) => write!(f, "fail={percent}%"),
            HaltOn::Successes(count) => write!(f, "success={count}"),
            HaltOn::Done(count) => write!(f, "done={count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_halting_policy_is_written_as_it_is_read() {
        for text in ["now,fail=1", "soon,fail=30%", "now,success=2", "soon,done=100"] {
            assert_eq!(text.parse::<Halt>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "now",
            "now,fail",
            "now,fail=0",
            "now,fail=-1",
            "now,fail=101%",
            "now,done=5%",
            "never,fail=1",
        ] {
            assert_eq!(text.parse::<Halt>(), Err(HaltError), "{text}");
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let millis = Duration::from_millis;
        let pauses =
            |backoff: Backoff| [1, 2, 3, 4, 99].map(|attempt| backoff.delay(millis(10), attempt).as_millis());
        assert_eq!(pauses(Backoff::Fixed), [10; 5]);
        assert_eq!(pauses(Backoff::Exponential { max: millis(50) }), [10, 20, 40, 50, 50]);
        assert_eq!(pauses(Backoff::Exponential { max: millis(1) }), [10; 5]);
    }
}
