//! What the task holds: guards of locks and conditions, units of semaphores.

use wpool_guest::sync::{Condition, ConditionGuard, Lock, LockGuard, RLock, Semaphore, SemaphoreGuard};

use crate::{Failure, Step, Timeout, unknown};

/// All that the task holds, under the word `KIND:NAME` by which it was acquired. Dropped when the task
/// returns; not when it traps.
#[derive(Default)]
pub(crate) struct Held(Vec<(String, Holding)>);

enum Holding {
    Lock(LockGuard<'static>),
    Condition(ConditionGuard<'static>),
    Unit(SemaphoreGuard<'static>),
}

/// Acquires in the way that the time-out asks for.
macro_rules! acquire {
    ($object:expr, $timeout:expr) => {{
        // Guards borrow from their object. The task keeps its guards in a list, so the object stays for good.
        let object = Box::leak(Box::new($object));
        match $timeout {
            Timeout::None => object.acquire(),
            Timeout::Now => object.try_acquire(),
            Timeout::After(time) => object.acquire_timeout(time),
        }
    }};
}

impl Held {
    pub(crate) fn run(&mut self, step: &Step<'_>) -> Result<String, Failure> {
        match step.command {
            "acquire" => self.acquire(step),
            "release" => self.release(step),
            "forget" => self.forget(step),
            "locked" => locked(step),
            _ => self.condition(step),
        }
    }

    fn acquire(&mut self, step: &Step<'_>) -> Result<String, Failure> {
        let holding = match step.kind_and_name(0)? {
            ("lock", name) => Holding::Lock(acquire!(Lock::open(name)?, step.timeout)?),
            ("rlock", name) => Holding::Lock(acquire!(RLock::open(name)?, step.timeout)?),
            ("condition", name) => Holding::Condition(acquire!(Condition::open(name)?, step.timeout)?),
            ("semaphore", name) => Holding::Unit(acquire!(Semaphore::open(name)?, step.timeout)?),
            (other, _) => return Err(no_kind(other)),
        };
        let owner_died = match &holding {
            Holding::Lock(guard) => guard.owner_died(),
            Holding::Condition(guard) => guard.owner_died(),
            Holding::Unit(_) => false,
        };
        self.0.push((step.word(0)?.into(), holding));
        Ok(if owner_died { "owner-died".into() } else { String::new() })
    }

    /// The newest guard of this word.
    fn take(&mut self, word: &str) -> Option<Holding> {
        let at = self.0.iter().rposition(|(held, _)| held == word)?;
        Some(self.0.remove(at).1)
    }

    /// Without a guard, releases all the same: the host judges.
    fn release(&mut self, step: &Step<'_>) -> Result<String, Failure> {
        match self.take(step.word(0)?) {
            Some(Holding::Lock(guard)) => guard.release()?,
            Some(Holding::Condition(guard)) => guard.release()?,
            Some(Holding::Unit(guard)) => guard.release()?,
            None => match step.kind_and_name(0)? {
                ("lock", name) => Lock::open(name)?.release()?,
                ("rlock", name) => RLock::open(name)?.release()?,
                ("condition", name) => Condition::open(name)?.release()?,
                ("semaphore", name) => Semaphore::open(name)?.release(1)?,
                (other, _) => return Err(no_kind(other)),
            },
        }
        Ok(String::new())
    }

    fn forget(&mut self, step: &Step<'_>) -> Result<String, Failure> {
        match self.take(step.word(0)?) {
            Some(Holding::Lock(guard)) => guard.forget(),
            Some(Holding::Condition(guard)) => guard.forget(),
            Some(Holding::Unit(guard)) => guard.forget(),
            None => return Err(unknown(&format!("{} is not held", step.rest))),
        }
        Ok(String::new())
    }

    fn condition(&self, step: &Step<'_>) -> Result<String, Failure> {
        let name = step.word(0)?;
        let held = self.0.iter().find_map(|(word, holding)| match holding {
            Holding::Condition(guard) => (word.strip_prefix("condition:") == Some(name)).then_some(guard),
            Holding::Lock(_) | Holding::Unit(_) => None,
        });
        let guard = held.ok_or_else(|| unknown(&format!("condition:{name} is not held")))?;
        match (step.command, step.timeout.duration()) {
            ("wait-on", Some(time)) => return Ok(guard.wait_timeout(time)?.to_string()),
            ("wait-on", None) => guard.wait()?,
            ("notify", _) => guard.notify(step.number(1)?)?,
            _ => guard.notify_all()?,
        }
        Ok(String::new())
    }
}

fn locked(step: &Step<'_>) -> Result<String, Failure> {
    Ok(match step.kind_and_name(0)? {
        ("lock", name) => Lock::open(name)?.locked()?.to_string(),
        ("rlock", name) => RLock::open(name)?.locked()?.to_string(),
        ("semaphore", name) => Semaphore::open(name)?.value()?.to_string(),
        (other, _) => return Err(no_kind(other)),
    })
}

fn no_kind(kind: &str) -> Failure {
    unknown(&format!("no kind of lock: {kind}"))
}
