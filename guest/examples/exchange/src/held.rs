//! What the task holds: guards of locks and conditions, units of semaphores.

use wpool_guest::sync::{Condition, Error, Guard, Lock, Lockable, Permit, RLock, Semaphore};

use crate::{Failure, Step, Timeout, unknown};

/// All that the task holds, under the word `KIND:NAME` by which it was acquired. Dropped when the task
/// returns; not when it traps.
#[derive(Default)]
pub(crate) struct Held(Vec<(String, Holding)>);

enum Holding {
    Lock(#[expect(dead_code, reason = "held")] Guard<'static, Lock>),
    RLock(#[expect(dead_code, reason = "held")] Guard<'static, RLock>),
    Condition(Guard<'static, Condition>),
    Unit(#[expect(dead_code, reason = "held")] Permit<'static>),
}

impl Held {
    pub(crate) fn run(&mut self, step: &Step<'_>) -> Result<String, Failure> {
        match step.command {
            "acquire" => self.acquire(step),
            "release" => self.release(step),
            "locked" => locked(step),
            _ => self.condition(step),
        }
    }

    fn acquire(&mut self, step: &Step<'_>) -> Result<String, Failure> {
        let (kind, name) = step.kind_and_name(0)?;
        let acquired = match kind {
            "lock" => {
                let lock = leaked(Lock::open(name)?);
                guarded(
                    step.timeout,
                    || lock.acquire(),
                    |time| lock.acquire_timeout(time),
                    || lock.try_acquire(),
                )?
                .map(|guard| (guard.owner_died(), Holding::Lock(guard)))
            }
            "rlock" => {
                let lock = leaked(RLock::open(name)?);
                guarded(
                    step.timeout,
                    || lock.acquire(),
                    |time| lock.acquire_timeout(time),
                    || lock.try_acquire(),
                )?
                .map(|guard| (guard.owner_died(), Holding::RLock(guard)))
            }
            "condition" => {
                let condition = leaked(Condition::open(name)?);
                guarded(
                    step.timeout,
                    || condition.acquire(),
                    |time| condition.acquire_timeout(time),
                    || condition.try_acquire(),
                )?
                .map(|guard| (guard.owner_died(), Holding::Condition(guard)))
            }
            "semaphore" => {
                let semaphore = leaked(Semaphore::open(name)?);
                guarded(
                    step.timeout,
                    || semaphore.acquire(),
                    |time| semaphore.acquire_timeout(time),
                    || semaphore.try_acquire(),
                )?
                .map(|permit| (false, Holding::Unit(permit)))
            }
            other => return Err(unknown(&format!("no kind of lock: {other}"))),
        };
        let Some((owner_died, holding)) = acquired else {
            return Ok("none".into());
        };
        self.0.push((step.word(0)?.into(), holding));
        Ok(if owner_died { "owner-died".into() } else { String::new() })
    }

    /// Drops the newest guard of this word. Without one, releases all the same: the host judges.
    fn release(&mut self, step: &Step<'_>) -> Result<String, Failure> {
        let word = step.word(0)?;
        if let Some(at) = self.0.iter().rposition(|(held, _)| held == word) {
            self.0.remove(at);
            return Ok(String::new());
        }
        match step.kind_and_name(0)? {
            ("lock", name) => Lock::open(name)?.release()?,
            ("rlock", name) => RLock::open(name)?.release()?,
            ("condition", name) => Condition::open(name)?.release()?,
            ("semaphore", name) => Semaphore::open(name)?.release(1)?,
            (other, _) => return Err(unknown(&format!("no kind of lock: {other}"))),
        }
        Ok(String::new())
    }

    fn condition(&self, step: &Step<'_>) -> Result<String, Failure> {
        let name = step.word(0)?;
        let held = self.0.iter().find_map(|(word, holding)| match holding {
            Holding::Condition(guard) if word.strip_prefix("condition:") == Some(name) => Some(guard),
            _ => None,
        });
        let guard = held.ok_or_else(|| unknown(&format!("condition:{name} is not held")))?;
        match (step.command, step.timeout) {
            ("wait-on", Timeout::After(time)) => return Ok(guard.wait_timeout(time)?.to_string()),
            ("wait-on", _) => guard.wait()?,
            ("notify", _) => guard.notify(step.number(1)?)?,
            _ => guard.notify_all()?,
        }
        Ok(String::new())
    }
}

/// Guards borrow from their lock. A task keeps its guards in a list, so its locks stay for good.
fn leaked<L>(lock: L) -> &'static L {
    Box::leak(Box::new(lock))
}

/// Acquires in the way that the time-out asks for.
fn guarded<G>(
    timeout: Timeout,
    wait: impl Fn() -> Result<G, Error>,
    wait_for: impl Fn(std::time::Duration) -> Result<G, Error>,
    at_once: impl Fn() -> Result<Option<G>, Error>,
) -> Result<Option<G>, Error> {
    match timeout {
        Timeout::None => wait().map(Some),
        Timeout::Now => at_once(),
        Timeout::After(time) => wait_for(time).map(Some),
    }
}

fn locked(step: &Step<'_>) -> Result<String, Failure> {
    Ok(match step.kind_and_name(0)? {
        ("lock", name) => Lock::open(name)?.locked()?.to_string(),
        ("rlock", name) => RLock::open(name)?.locked()?.to_string(),
        ("semaphore", name) => Semaphore::open(name)?.value()?.to_string(),
        (other, _) => return Err(unknown(&format!("no kind of lock: {other}"))),
    })
}
