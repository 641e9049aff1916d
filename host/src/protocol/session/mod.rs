//! The judge of the protocol: what a process may say, when, how often and how much.
//!
//! A [`Session`] is the coordinator's side of the conversation with one process. It reads no socket:
//! [`Session::on`] gets one frame after the other, and gives what the frame means, or a [`Violation`]. After
//! a violation the process counts as taken over by an attacker, and nothing more of it is read. The
//! coordinator tells the session what it asks the process for, since an answer needs a question.
//!
//! | role | may say, in this order |
//! |---|---|
//! | [`CompilerRole`] | `Hello`, `Unconfined`?, `Imports`, `Compiled`; or `Needs` in place of the last two |
//! | [`ZygoteRole`] | `Hello`, `Unconfined`?, `Ready`, then one `Forked` or `NotForked` for each request |
//! | [`PoolWorkerRole`] | `Hello`, `Unconfined`?, `Ready` or `InitFailed`, answers, at its end a profile |
//! | [`ProcessWorkerRole`] | the same for one batch of one task; its guest's output may come at any time |
//! | [`ReporterRole`] | `Hello`, `Unconfined`?, `Ready` unless it is a compiler, one `Report` for each question |
//!
//! A process of any role may give up at any time, once: it says `Refused`.
//!
//! The second socket of a worker has a judge of its own, the [`MemberSession`].

mod compiler;
mod member;
mod pool_worker;
mod process_worker;
mod reporter;
mod zygote;

pub(crate) use self::compiler::{CompilerRole, FromCompiler};
pub(crate) use self::member::{FromMember, MemberSession};
pub(crate) use self::pool_worker::{FromPoolWorker, PoolWorkerRole};
pub(crate) use self::process_worker::{FromProcessWorker, ProcessWorkerRole};
pub(crate) use self::reporter::{FromReporter, ReporterRole};
pub(crate) use self::zygote::{FromZygote, ZygoteRole};

use super::VERSION;
use super::frame::{Frame, Kind, Violation};
use super::message::{self, FromWorker, PANICKED, UNFIT};
use crate::escape::shortened;
use crate::spec::Property;

/// What the process in this session may still say.
#[derive(Debug)]
pub(crate) struct Session<R> {
    stage: Stage,
    /// It has said that it gives up.
    has_refused: bool,
    role: R,
}

/// How far a process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It has said nothing.
    Silent,
    /// It has said which version it is.
    Greeted,
    /// It has said what its confinement lacks.
    Judged,
    /// It has loaded its module and run its initializer. A compiler: it has told the imports.
    Ready,
    /// It has said its last word.
    Over,
}

impl Stage {
    /// Whether the process has greeted, and is neither ready nor over.
    fn is_starting(self) -> bool {
        matches!(self, Stage::Greeted | Stage::Judged)
    }
}

/// What a frame means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<S> {
    /// The process is there, and of this version.
    Greeted,
    /// This does not hold of the process. Whether it may go on is for the sandbox to decide.
    Unconfined(Vec<Property>),
    /// The process gives up.
    Refused(GaveUp),
    /// Something that only this role says.
    Said(S),
}

/// Why a process gives up, in words that can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GaveUp {
    /// Where this process was started, none can work, whatever the module.
    Unfit(String),
    /// A flaw of wpool, or a machine that has no more threads.
    Panicked(String),
    /// Any other reason; of a compiler or a zygote, one that lies with the module.
    Other(String),
}

impl GaveUp {
    fn new(reason: &str) -> GaveUp {
        let shown = shortened(reason);
        // Our own code writes these two beginnings. A process that forges one changes only the wording of an
        // error.
        if reason.starts_with(UNFIT) {
            GaveUp::Unfit(shown)
        } else if reason.starts_with(PANICKED) {
            GaveUp::Panicked(shown)
        } else {
            GaveUp::Other(shown)
        }
    }

    pub(crate) fn into_reason(self) -> String {
        match self {
            GaveUp::Unfit(reason) | GaveUp::Panicked(reason) | GaveUp::Other(reason) => reason,
        }
    }
}

/// What only the processes of one role say.
pub(crate) trait Speaker {
    type Said;

    /// What is said of a process of this role that speaks when it may not.
    const OUT_OF_TURN: Violation;

    /// Judges a message that not every role may send.
    fn on_message(&mut self, stage: &mut Stage, message: FromWorker) -> Result<Self::Said, Violation>;

    /// Judges a frame that is no control message.
    fn on_frame(&mut self, stage: Stage, frame: Frame<'_>) -> Result<Self::Said, Violation>;
}

impl<R: Speaker> Session<R> {
    fn with(role: R) -> Session<R> {
        Session { stage: Stage::Silent, has_refused: false, role }
    }

    /// Judges the next frame of the process.
    #[inline]
    pub(crate) fn on(&mut self, frame: Frame<'_>) -> Result<Heard<R::Said>, Violation> {
        // First, and inlined: nearly all frames are those of tasks.
        if frame.kind != Kind::Control {
            return self.role.on_frame(self.stage, frame).map(Heard::Said);
        }
        match message::read_control(frame)? {
            FromWorker::Hello { version } => self.greet(version),
            FromWorker::Unconfined { missing } => self.report_missing(missing),
            FromWorker::Refused { reason } => self.refuse(&reason),
            message => self.role.on_message(&mut self.stage, message).map(Heard::Said),
        }
    }

    fn greet<S>(&mut self, version: u32) -> Result<Heard<S>, Violation> {
        // A second greeting could come from a guest that has taken over its worker and wants to begin anew.
        if self.stage != Stage::Silent {
            return Err(R::OUT_OF_TURN);
        }
        if version != VERSION {
            return Err(Violation::Unexpected("its program is of another version of wpool"));
        }
        self.stage = Stage::Greeted;
        Ok(Heard::Greeted)
    }

    /// Later than the start it could be the guest's word.
    fn report_missing<S>(&mut self, missing: Vec<Property>) -> Result<Heard<S>, Violation> {
        if self.stage != Stage::Greeted {
            return Err(R::OUT_OF_TURN);
        }
        self.stage = Stage::Judged;
        Ok(Heard::Unconfined(missing))
    }

    /// The stage stays: the timer of a worker that panics may still send outcomes that were ready before.
    fn refuse<S>(&mut self, reason: &str) -> Result<Heard<S>, Violation> {
        if std::mem::replace(&mut self.has_refused, true) {
            return Err(Violation::Unexpected("it gave up twice"));
        }
        Ok(Heard::Refused(GaveUp::new(reason)))
    }
}
