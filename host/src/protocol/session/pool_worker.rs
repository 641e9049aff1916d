//! What a worker of a pool may say.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::{Session, Speaker, Stage};
use crate::protocol::frame::{Frame, Kind, Violation};
use crate::protocol::message::{self, Failure, FromWorker, Used};
use crate::spec::{Limits, PROFILE_LEN_MAX};

/// The role of a pool's worker, and what it still owes.
#[derive(Debug)]
pub(crate) struct PoolWorkerRole {
    terms: Terms,
    owed: Owed,
    /// What has come before the next answer.
    attached: Attached,
    /// Tasks were taken back from it, and it has not said that it knows.
    is_frozen: bool,
    /// It was told to end.
    is_leaving: bool,
    profile: ProfileLen,
}

/// What only a pool's worker says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromPoolWorker {
    Ready,
    InitFailed(Failure),
    /// The next task returned; the frame holds its result.
    Returned,
    /// The next task returned; its result is in the arena.
    Placed {
        offset: u64,
        len: usize,
    },
    /// The next task has this failure.
    Failed(Failure),
    /// A part of the next answer.
    Attached,
    /// It is through with its oldest batch. The times are its own word.
    BatchDone {
        busy: Duration,
        instances: Duration,
    },
    /// It knows that tasks were taken back from it.
    Thawed,
    /// The frame holds a piece of its profile.
    Profile,
}

impl Session<PoolWorkerRole> {
    /// `is_profiled`: at its end the worker hands over a profile.
    pub(crate) fn pool_worker(limits: &Limits, is_profiled: bool) -> Session<PoolWorkerRole> {
        Session::with(PoolWorkerRole {
            terms: Terms::new(limits),
            owed: Owed::default(),
            attached: Attached::default(),
            is_frozen: false,
            is_leaving: false,
            profile: ProfileLen::new(is_profiled),
        })
    }

    /// The worker is sent a batch of `count` tasks.
    pub(crate) fn sent_batch(&mut self, count: u64) {
        self.role.owed.sent_batch(count);
    }

    /// The tasks that the worker was sent in its life, without those that were taken back, and the tasks that
    /// it has answered.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.role.owed.sent, self.role.owed.answered)
    }

    /// The worker may answer that it has dropped the task, for the first `until` tasks of its life.
    pub(crate) fn cancel_until(&mut self, until: u64) {
        self.role.owed.cancelled = self.role.owed.cancelled.max(until);
    }

    /// The worker may also answer that it has dropped one of these tasks, by their numbers in its life. Replaces
    /// what was told before.
    pub(crate) fn may_drop(&mut self, tasks: Vec<Range<u64>>) {
        self.role.owed.may_drop = tasks;
    }

    /// All tasks that the worker has not begun are taken back. `started`: how many it says that it has begun.
    pub(crate) fn take_back(&mut self, started: u64) {
        self.role.is_frozen = true;
        self.role.owed.take_back(started);
    }

    /// The worker is told to end.
    pub(crate) fn shut_down(&mut self) {
        self.role.is_leaving = true;
    }

    /// Whether the worker was told to end.
    pub(crate) fn is_leaving(&self) -> bool {
        self.role.is_leaving
    }
}

impl Speaker for PoolWorkerRole {
    type Said = FromPoolWorker;

    const OUT_OF_TURN: Violation = Violation::Unexpected("the worker spoke out of turn");

    fn on_message(&mut self, stage: &mut Stage, message: FromWorker) -> Result<FromPoolWorker, Violation> {
        match message {
            FromWorker::Ready if stage.is_starting() => {
                *stage = Stage::Ready;
                Ok(FromPoolWorker::Ready)
            }
            FromWorker::InitFailed { failure } if stage.is_starting() => {
                // Before the judgement of the failure: the worker has spoken its last word in either case.
                *stage = Stage::Over;
                if !failure.is_of_a_task() {
                    return Err(NOT_ITS_TO_TELL);
                }
                Ok(FromPoolWorker::InitFailed(failure.shortened()))
            }
            FromWorker::Thawed if std::mem::replace(&mut self.is_frozen, false) => Ok(FromPoolWorker::Thawed),
            _ => Err(Self::OUT_OF_TURN),
        }
    }

    #[inline]
    fn on_frame(&mut self, stage: Stage, frame: Frame<'_>) -> Result<FromPoolWorker, Violation> {
        if stage != Stage::Ready {
            return Err(match frame.kind {
                Kind::Returned | Kind::Failed | Kind::Placed => NOT_HELD,
                _ => Self::OUT_OF_TURN,
            });
        }
        match frame.kind {
            Kind::Returned => {
                self.owed.answer()?;
                self.attached = Attached::default();
                Ok(FromPoolWorker::Returned)
            }
            Kind::Placed => {
                self.owed.answer()?;
                self.attached = Attached::default();
                let (offset, len) = self.terms.read_placed(frame.payload)?;
                Ok(FromPoolWorker::Placed { offset, len })
            }
            Kind::Failed => {
                // Asked before the answer is counted: the question is about the task that is answered.
                let may_cancel = self.owed.may_cancel();
                self.owed.answer()?;
                self.attached = Attached::default();
                let failure = message::read_failure(frame.payload)?;
                let may_tell = failure.is_of_a_task() || (failure == Failure::Cancelled && may_cancel);
                if !may_tell {
                    return Err(NOT_ITS_TO_TELL);
                }
                Ok(FromPoolWorker::Failed(failure))
            }
            Kind::Stdout | Kind::Stderr | Kind::Took | Kind::Used => {
                // Attachments for no task would stay in memory until the next one.
                if self.owed.unanswered() == 0 {
                    return Err(Self::OUT_OF_TURN);
                }
                self.attached.add(frame.kind)?;
                self.terms.judge_figures(frame)?;
                Ok(FromPoolWorker::Attached)
            }
            Kind::BatchDone => {
                let (busy, instances) = message::read_batch_done(frame.payload)?;
                self.owed.batch_done()?;
                Ok(FromPoolWorker::BatchDone { busy, instances })
            }
            Kind::Profile if self.is_leaving => {
                self.profile.add(frame.payload.len(), Self::OUT_OF_TURN)?;
                Ok(FromPoolWorker::Profile)
            }
            Kind::Profile
            | Kind::Control
            | Kind::Batch
            | Kind::Input
            | Kind::Fixed
            | Kind::Ask
            | Kind::Ended
            | Kind::Post
            | Kind::Answer
            | Kind::Credit => Err(Self::OUT_OF_TURN),
        }
    }
}

pub(super) const NOT_ITS_TO_TELL: Violation =
    Violation::Unexpected("a failure that is not a worker's to tell");
pub(super) const NOT_HELD: Violation =
    Violation::Unexpected("a result for a task that the worker does not hold");
const BATCH_NOT_HELD: Violation = Violation::Unexpected("the end of a batch that the worker does not hold");

/// The answers that a worker owes. All counts begin with the worker's life.
#[derive(Debug, Default)]
pub(super) struct Owed {
    sent: u64,
    answered: u64,
    /// The worker was told that its first tasks, this many, are cancelled.
    cancelled: u64,
    /// Tasks whose guests the exchange may have told that they are not wanted.
    may_drop: Vec<Range<u64>>,
    /// The tasks of each batch whose end the worker has not told, oldest first.
    batches: VecDeque<u64>,
}

impl Owed {
    pub(super) fn sent_batch(&mut self, count: u64) {
        self.sent += count;
        self.batches.push_back(count);
    }

    #[inline]
    pub(super) fn unanswered(&self) -> u64 {
        self.sent - self.answered
    }

    /// Whether the next answer may be that the worker has dropped the task.
    fn may_cancel(&self) -> bool {
        let next = self.answered + 1;
        next <= self.cancelled || self.may_drop.iter().any(|tasks| tasks.contains(&next))
    }

    #[inline]
    pub(super) fn answer(&mut self) -> Result<(), Violation> {
        if self.unanswered() == 0 {
            return Err(NOT_HELD);
        }
        self.answered += 1;
        Ok(())
    }

    /// The end of a batch comes behind the answers to all its tasks.
    pub(super) fn batch_done(&mut self) -> Result<(), Violation> {
        // Later batches may be in the worker's socket already, unanswered.
        let behind: u64 = self.batches.iter().skip(1).sum();
        if self.batches.is_empty() || self.unanswered() > behind {
            return Err(BATCH_NOT_HELD);
        }
        self.batches.pop_front();
        Ok(())
    }

    /// The count is the worker's own word: whatever it says, it keeps no more than it holds. It does not
    /// tell the end of a batch of which it has begun nothing.
    fn take_back(&mut self, started: u64) {
        let kept = started.clamp(self.answered, self.sent);
        let mut left = self.sent - kept;
        self.sent = kept;
        while left > 0
            && let Some(batch) = self.batches.back_mut()
        {
            let taken = left.min(*batch);
            *batch -= taken;
            left -= taken;
            if *batch == 0 {
                self.batches.pop_back();
            }
        }
    }
}

/// What may come before an answer, each once: a worker that sends it without end would fill our memory.
#[derive(Debug, Default)]
pub(super) struct Attached {
    stdout: bool,
    stderr: bool,
    took: bool,
    used: bool,
}

impl Attached {
    #[inline]
    pub(super) fn add(&mut self, kind: Kind) -> Result<(), Violation> {
        let has_come = match kind {
            Kind::Stdout => &mut self.stdout,
            Kind::Stderr => &mut self.stderr,
            Kind::Took => &mut self.took,
            Kind::Used => &mut self.used,
            _ => return Err(PoolWorkerRole::OUT_OF_TURN),
        };
        if std::mem::replace(has_come, true) {
            return Err(Violation::Unexpected("more output than a task has streams"));
        }
        Ok(())
    }
}

/// What a worker was started with, as far as its answers must keep to it.
#[derive(Debug)]
pub(super) struct Terms {
    limits: Limits,
    /// No task has begun before. (This clock goes on while this program is stopped: the worker may not have
    /// been stopped with it.)
    since: Instant,
    /// The time that had passed when the clock was read last. Most tasks took less: they need no reading.
    passed: Duration,
}

impl Terms {
    pub(super) fn new(limits: &Limits) -> Terms {
        Terms { limits: limits.clone(), since: Instant::now(), passed: Duration::ZERO }
    }

    /// The time and the use that a worker tells of a task must be possible.
    pub(super) fn judge_figures(&mut self, frame: Frame<'_>) -> Result<(), Violation> {
        match frame.kind {
            Kind::Took => self.judge_took(frame.payload),
            Kind::Used => Used::read_within(frame.payload, &self.limits).map(drop),
            _ => Ok(()),
        }
    }

    fn judge_took(&mut self, payload: &[u8]) -> Result<(), Violation> {
        if message::read_took(payload, self.passed).is_err() {
            self.passed = self.since.elapsed();
            message::read_took(payload, self.passed)?;
        }
        Ok(())
    }

    fn read_placed(&self, payload: &[u8]) -> Result<(u64, usize), Violation> {
        let (offset, len) = message::read_placed(payload)?;
        if len > self.limits.output {
            return Err(Violation::TooLong { len });
        }
        Ok((offset, len))
    }
}

/// How much of a profile has come.
#[derive(Debug)]
pub(super) struct ProfileLen {
    is_wanted: bool,
    len: usize,
}

impl ProfileLen {
    pub(super) fn new(is_wanted: bool) -> ProfileLen {
        ProfileLen { is_wanted, len: 0 }
    }

    pub(super) fn add(&mut self, piece_len: usize, unwanted: Violation) -> Result<(), Violation> {
        if !self.is_wanted {
            return Err(unwanted);
        }
        self.len = self.len.saturating_add(piece_len);
        if self.len > PROFILE_LEN_MAX {
            return Err(Violation::TooLong { len: self.len });
        }
        Ok(())
    }
}
