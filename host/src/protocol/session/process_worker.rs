//! What the worker of a `Process` may say.

use super::pool_worker::{Attached, NOT_ITS_TO_TELL, Owed, ProfileLen, Terms};
use super::{Session, Speaker, Stage};
use crate::protocol::frame::{Frame, Kind, Violation};
use crate::protocol::message::{self, Failure, FromWorker};
use crate::spec::Limits;

/// The role of a worker that runs one task, and what it still owes.
#[derive(Debug)]
pub(crate) struct ProcessWorkerRole {
    terms: Terms,
    owed: Owed,
    /// The figures that have come. Output has no place among them: it comes as the guest writes it.
    attached: Attached,
    input: StdinState,
    profile: ProfileLen,
}

/// How the process gets its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StdinState {
    /// It has none that it could ask for.
    None,
    /// It may ask for the next piece.
    Idle,
    /// It has asked, and waits.
    Asked,
}

/// What only the worker of a process says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromProcessWorker {
    Ready,
    InitFailed(Failure),
    /// The frame holds the result.
    Returned,
    Failed(Failure),
    /// It was told to stop, and has no outcome.
    Cancelled,
    /// The frame holds what the guest has written just now.
    Stdout,
    Stderr,
    /// What the task took and used, which is possible.
    Figures,
    /// It is through with its task.
    BatchDone,
    /// It asks for the next piece of its standard input.
    WantsInput,
    /// The frame holds a piece of its profile.
    Profile,
}

impl Session<ProcessWorkerRole> {
    /// `reads_input`: it may ask for its standard input. `is_profiled`: it may hand over a profile.
    pub(crate) fn process_worker(
        limits: &Limits,
        reads_input: bool,
        is_profiled: bool,
    ) -> Session<ProcessWorkerRole> {
        // Its task is in the socket before it has said a word.
        let mut owed = Owed::default();
        owed.sent_batch(1);
        Session::with(ProcessWorkerRole {
            terms: Terms::new(limits),
            owed,
            attached: Attached::default(),
            input: if reads_input { StdinState::Idle } else { StdinState::None },
            profile: ProfileLen::new(is_profiled),
        })
    }

    /// The process was given the piece of its standard input that it had asked for.
    pub(crate) fn fed(&mut self) {
        if self.role.input == StdinState::Asked {
            self.role.input = StdinState::Idle;
        }
    }

    /// Whether the process has loaded its module and run its initializer.
    pub(crate) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }
}

impl Speaker for ProcessWorkerRole {
    type Said = FromProcessWorker;

    const OUT_OF_TURN: Violation = Violation::Unexpected("the worker spoke out of turn");

    fn on_message(&mut self, stage: &mut Stage, message: FromWorker) -> Result<FromProcessWorker, Violation> {
        match message {
            FromWorker::Ready if stage.is_starting() => {
                *stage = Stage::Ready;
                Ok(FromProcessWorker::Ready)
            }
            FromWorker::InitFailed { failure } if stage.is_starting() => {
                *stage = Stage::Over;
                match failure {
                    Failure::Cancelled => Ok(FromProcessWorker::Cancelled),
                    failure if failure.is_of_a_task() => {
                        Ok(FromProcessWorker::InitFailed(failure.shortened()))
                    }
                    _ => Err(NOT_ITS_TO_TELL),
                }
            }
            FromWorker::WantsInput if *stage == Stage::Ready && self.input == StdinState::Idle => {
                self.input = StdinState::Asked;
                Ok(FromProcessWorker::WantsInput)
            }
            // Named apart from other words out of turn: an honest worker of another build could do this, and
            // the reason then helps.
            FromWorker::WantsInput => {
                Err(Violation::Unexpected("the worker asked for input that it cannot have"))
            }
            _ => Err(Self::OUT_OF_TURN),
        }
    }

    fn on_frame(&mut self, stage: Stage, frame: Frame<'_>) -> Result<FromProcessWorker, Violation> {
        let is_ready = stage == Stage::Ready;
        match frame.kind {
            // The initializer prints, and so does `shutdown`.
            Kind::Stdout if stage != Stage::Silent => Ok(FromProcessWorker::Stdout),
            Kind::Stderr if stage != Stage::Silent => Ok(FromProcessWorker::Stderr),
            Kind::Returned if is_ready => {
                self.owed.answer()?;
                Ok(FromProcessWorker::Returned)
            }
            Kind::Failed if is_ready => {
                self.owed.answer()?;
                // The coordinator's wish to stop is on the status page, where every thread may put it.
                match message::read_failure(frame.payload)? {
                    Failure::Cancelled => Ok(FromProcessWorker::Cancelled),
                    failure if failure.is_of_a_task() => Ok(FromProcessWorker::Failed(failure)),
                    _ => Err(NOT_ITS_TO_TELL),
                }
            }
            Kind::Took | Kind::Used if is_ready && self.owed.unanswered() > 0 => {
                self.attached.add(frame.kind)?;
                self.terms.judge_figures(frame)?;
                Ok(FromProcessWorker::Figures)
            }
            Kind::BatchDone if is_ready => {
                message::read_batch_done(frame.payload)?;
                self.owed.batch_done()?;
                Ok(FromProcessWorker::BatchDone)
            }
            // Behind the outcome, of which a process that was told to end has none.
            Kind::Profile if is_ready => {
                self.profile.add(frame.payload.len(), Self::OUT_OF_TURN)?;
                Ok(FromProcessWorker::Profile)
            }
            Kind::Returned | Kind::Failed => Err(super::pool_worker::NOT_HELD),
            Kind::Placed => Err(Violation::Unexpected("a result where none may be")),
            Kind::Stdout
            | Kind::Stderr
            | Kind::Took
            | Kind::Used
            | Kind::BatchDone
            | Kind::Profile
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
