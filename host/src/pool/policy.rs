//! What a pool does about failures: trying again, and when to stop altogether.

use std::fmt;
use std::num::{NonZeroU8, NonZeroU64};
use std::str::FromStr;
use std::time::Duration;

/// How the pauses before further attempts grow.
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
/// let pool = Pool::builder(&module).retries(5).retry_delay(Duration::from_millis(100)).backoff(grow).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backoff {
    /// The same pause each time. The default.
    #[default]
    Fixed,
    /// Twice the pause before, up to `max`.
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

/// When a job stops before its end, in the words of GNU parallel's `--halt`: `now,fail=1`, `soon,fail=30%`, `now,success=1`, `soon,done=100`.
///
/// `done=N` is exact in every case: no more than `N` tasks are begun. The others may be reached while further tasks are running, one per worker:
/// with `now` they are stopped, and no outcome counts that comes after the one that decided; with `soon` they come to their end, and are counted.
/// Nothing else is begun.
///
/// Tasks that are not run, or whose outcome does not count any more, have the outcome [`TaskError::Cancelled`](crate::TaskError::Cancelled).
///
/// ```
/// let halt: wpool::pool::Halt = "soon,fail=3".parse()?;
/// assert_eq!(halt.to_string(), "soon,fail=3");
/// assert!("later,fail=3".parse::<wpool::pool::Halt>().is_err());
/// # Ok::<(), wpool::pool::HaltError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Halt {
    /// What becomes of the tasks that are running at that moment.
    pub when: HaltWhen,
    /// What it takes.
    pub on: HaltOn,
}

/// What becomes of running tasks when a job is halted.
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
    /// They are run to their end.
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
    /// So many tasks have failed, all attempts counted as one.
    Failures(NonZeroU64),
    /// So many percent of the tasks that are done have failed, once at least [`Halt::SHARE_OF_AT_LEAST`] are done.
    FailureShare(NonZeroU8),
    /// So many tasks have succeeded.
    Successes(NonZeroU64),
    /// So many tasks are done, either way.
    Done(NonZeroU64),
}

impl Halt {
    /// A share of fewer tasks than this means nothing yet (the source is GNU parallel).
    pub const SHARE_OF_AT_LEAST: u64 = 3;
}

/// The text is not a halting policy.
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
