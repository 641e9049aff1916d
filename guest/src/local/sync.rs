//! `wpool:sync` within this process. A task is a thread.

use std::collections::{BTreeSet, VecDeque};
use std::thread::{self, ThreadId};

use super::ipc::errors::{Code, Error};
use super::{error, invalid, now, wait};

/// A lock, and how often its owner has acquired it.
#[derive(Debug, Default)]
pub(super) struct LockState {
    owner: Option<ThreadId>,
    count: u32,
}

impl LockState {
    /// Takes the free lock, or takes it once more if that is allowed. `None`: another thread holds it.
    fn acquire(&mut self, is_recursive: bool) -> Option<Result<locks::Acquired, Error>> {
        let me = thread::current().id();
        match self.owner {
            None => self.owner = Some(me),
            Some(owner) if owner == me && is_recursive => {}
            Some(_) => return None,
        }
        self.count += 1;
        Some(Ok(locks::Acquired::Clean))
    }

    fn is_mine(&self) -> bool {
        self.owner == Some(thread::current().id())
    }

    fn check_mine(&self) -> Result<(), Error> {
        if self.is_mine() { Ok(()) } else { Err(invalid("this task does not hold the lock")) }
    }

    fn release(&mut self) -> Result<(), Error> {
        self.check_mine()?;
        self.count -= 1;
        if self.count == 0 {
            self.owner = None;
        }
        Ok(())
    }
}

/// A semaphore.
#[derive(Debug)]
pub(super) struct SemaphoreState {
    free: u64,
    max: Option<u64>,
}

impl SemaphoreState {
    pub(super) fn new(free: u64, is_bounded: bool) -> Self {
        SemaphoreState { free, max: is_bounded.then_some(free) }
    }
}

/// A condition: its lock, and the numbers of the waiting tasks that no notification has reached.
#[derive(Debug, Default)]
pub(super) struct ConditionState {
    lock: LockState,
    waiting: VecDeque<u64>,
    next: u64,
}

/// A barrier. Each meeting has a number.
#[derive(Debug)]
pub(super) struct BarrierState {
    parties: u32,
    waiting: u32,
    meeting: u64,
    /// The meetings that were broken while tasks waited.
    broken_meetings: BTreeSet<u64>,
    is_broken: bool,
}

impl BarrierState {
    pub(super) fn new(parties: u32) -> Self {
        BarrierState { parties, waiting: 0, meeting: 0, broken_meetings: BTreeSet::new(), is_broken: false }
    }

    /// Sends away the tasks that wait.
    fn break_meeting(&mut self) {
        if self.waiting > 0 {
            self.broken_meetings.insert(self.meeting);
            self.meeting += 1;
            self.waiting = 0;
        }
    }
}

fn broken() -> Error {
    error(Code::Broken, "the barrier is broken".into())
}

pub(crate) mod locks {
    use super::{Code, Error, error, now, wait};

    #[derive(Debug, Clone, Copy)]
    #[expect(dead_code, reason = "the same list as in the interface: no owner dies here")]
    pub(crate) enum Acquired {
        Clean,
        OwnerDied,
    }

    #[derive(Debug)]
    pub(crate) struct Lock(usize);

    impl Lock {
        pub(crate) fn open(name: &str) -> Result<Self, Error> {
            now(|objects| objects.locks.open(name)).map(Lock)
        }

        pub(crate) fn acquire(&self, timeout: Option<u64>) -> Result<Acquired, Error> {
            wait(timeout, |objects| {
                let lock = objects.locks.at(self.0);
                if timeout.is_none() && lock.is_mine() {
                    return Some(Err(error(
                        Code::Deadlock,
                        "the task waits for a lock that it holds".into(),
                    )));
                }
                lock.acquire(false)
            })
        }

        pub(crate) fn release(&self) -> Result<(), Error> {
            now(|objects| objects.locks.at(self.0).release())
        }

        pub(crate) fn locked(&self) -> Result<bool, Error> {
            now(|objects| Ok(objects.locks.at(self.0).owner.is_some()))
        }
    }

    #[derive(Debug)]
    pub(crate) struct RLock(usize);

    impl RLock {
        pub(crate) fn open(name: &str) -> Result<Self, Error> {
            now(|objects| objects.r_locks.open(name)).map(RLock)
        }

        pub(crate) fn acquire(&self, timeout: Option<u64>) -> Result<Acquired, Error> {
            wait(timeout, |objects| objects.r_locks.at(self.0).acquire(true))
        }

        pub(crate) fn release(&self) -> Result<(), Error> {
            now(|objects| objects.r_locks.at(self.0).release())
        }

        pub(crate) fn locked(&self) -> Result<bool, Error> {
            now(|objects| Ok(objects.r_locks.at(self.0).owner.is_some()))
        }
    }
}

pub(crate) mod semaphores {
    use super::{Error, invalid, now, wait};

    #[derive(Debug)]
    pub(crate) struct Semaphore(usize);

    impl Semaphore {
        pub(crate) fn open(name: &str) -> Result<Self, Error> {
            now(|objects| objects.semaphores.open(name)).map(Semaphore)
        }

        pub(crate) fn acquire(&self, timeout: Option<u64>) -> Result<(), Error> {
            wait(timeout, |objects| {
                let semaphore = objects.semaphores.at(self.0);
                semaphore.free = semaphore.free.checked_sub(1)?;
                Some(Ok(()))
            })
        }

        pub(crate) fn release(&self, count: u32) -> Result<(), Error> {
            now(|objects| {
                let semaphore = objects.semaphores.at(self.0);
                let free = semaphore.free.saturating_add(count.into());
                if semaphore.max.is_some_and(|max| free > max) {
                    return Err(invalid("the semaphore would have more units than at first"));
                }
                semaphore.free = free;
                Ok(())
            })
        }

        pub(crate) fn value(&self) -> Result<u64, Error> {
            now(|objects| Ok(objects.semaphores.at(self.0).free))
        }
    }
}

pub(crate) mod events {
    use super::{Error, now, wait};

    #[derive(Debug)]
    pub(crate) struct Event(usize);

    impl Event {
        pub(crate) fn open(name: &str) -> Result<Self, Error> {
            now(|objects| objects.events.open(name)).map(Event)
        }

        pub(crate) fn set(&self) -> Result<(), Error> {
            now(|objects| *objects.events.at(self.0) = true);
            Ok(())
        }

        pub(crate) fn clear(&self) -> Result<(), Error> {
            now(|objects| *objects.events.at(self.0) = false);
            Ok(())
        }

        pub(crate) fn is_set(&self) -> Result<bool, Error> {
            now(|objects| Ok(*objects.events.at(self.0)))
        }

        pub(crate) fn wait(&self, timeout: Option<u64>) -> Result<bool, Error> {
            // The only error is the time-out.
            Ok(wait(timeout, |objects| objects.events.at(self.0).then_some(Ok(()))).is_ok())
        }
    }
}

pub(crate) mod conditions {
    use super::locks::Acquired;
    use super::{ConditionState, Error, now, wait};

    #[derive(Debug)]
    pub(crate) struct Condition(usize);

    impl Condition {
        pub(crate) fn open(name: &str) -> Result<Self, Error> {
            now(|objects| objects.conditions.open(name)).map(Condition)
        }

        pub(crate) fn acquire(&self, timeout: Option<u64>) -> Result<Acquired, Error> {
            wait(timeout, |objects| objects.conditions.at(self.0).lock.acquire(true))
        }

        pub(crate) fn release(&self) -> Result<(), Error> {
            now(|objects| objects.conditions.at(self.0).lock.release())
        }

        pub(crate) fn wait(&self, timeout: Option<u64>) -> Result<bool, Error> {
            let (number, count) = self.held(|condition| {
                let number = condition.next;
                condition.next += 1;
                condition.waiting.push_back(number);
                (number, std::mem::take(&mut condition.lock).count)
            })?;
            let notified = wait(timeout, |objects| {
                let waits = objects.conditions.at(self.0).waiting.contains(&number);
                (!waits).then_some(Ok(()))
            });
            self.acquire(None)?;
            self.held(|condition| {
                condition.waiting.retain(|other| *other != number);
                condition.lock.count = count;
            })?;
            Ok(notified.is_ok())
        }

        pub(crate) fn notify(&self, count: u32) -> Result<(), Error> {
            self.held(|condition| {
                let count = condition.waiting.len().min(count as usize);
                condition.waiting.drain(..count);
            })
        }

        pub(crate) fn notify_all(&self) -> Result<(), Error> {
            self.held(|condition| condition.waiting.clear())
        }

        /// Does something at once, if this task holds the lock.
        fn held<T>(&self, step: impl FnOnce(&mut ConditionState) -> T) -> Result<T, Error> {
            now(|objects| {
                let condition = objects.conditions.at(self.0);
                condition.lock.check_mine()?;
                Ok(step(condition))
            })
        }
    }
}

pub(crate) mod barriers {
    use super::{BarrierState, Error, broken, now, wait};

    #[derive(Debug)]
    pub(crate) struct Status {
        pub(crate) parties: u32,
        pub(crate) waiting: u32,
        pub(crate) broken: bool,
    }

    #[derive(Debug)]
    pub(crate) struct Barrier(usize);

    impl Barrier {
        pub(crate) fn open(name: &str) -> Result<Self, Error> {
            now(|objects| objects.barriers.open(name)).map(Barrier)
        }

        pub(crate) fn wait(&self, timeout: Option<u64>) -> Result<u32, Error> {
            let (number, meeting) = self.with(|barrier| {
                if barrier.is_broken {
                    return Err(broken());
                }
                let found = (barrier.waiting, barrier.meeting);
                barrier.waiting += 1;
                if barrier.waiting >= barrier.parties {
                    barrier.meeting += 1;
                    barrier.waiting = 0;
                }
                Ok(found)
            })?;
            let is_over = wait(timeout, |objects| {
                let barrier = objects.barriers.at(self.0);
                (barrier.meeting != meeting).then(|| Ok(!barrier.broken_meetings.contains(&meeting)))
            });
            match is_over {
                Ok(true) => Ok(number),
                Ok(false) => Err(broken()),
                Err(timed_out) => {
                    self.abort()?;
                    Err(timed_out)
                }
            }
        }

        pub(crate) fn abort(&self) -> Result<(), Error> {
            self.with(|barrier| {
                barrier.break_meeting();
                barrier.is_broken = true;
            });
            Ok(())
        }

        pub(crate) fn reset(&self) -> Result<(), Error> {
            self.with(|barrier| {
                barrier.break_meeting();
                barrier.is_broken = false;
            });
            Ok(())
        }

        pub(crate) fn status(&self) -> Result<Status, Error> {
            Ok(self.with(|barrier| Status {
                parties: barrier.parties,
                waiting: barrier.waiting,
                broken: barrier.is_broken,
            }))
        }

        fn with<T>(&self, step: impl FnOnce(&mut BarrierState) -> T) -> T {
            now(|objects| step(objects.barriers.at(self.0)))
        }
    }
}
