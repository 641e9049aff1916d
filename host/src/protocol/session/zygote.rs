//! What a zygote may say.

use std::collections::VecDeque;

use super::{Session, Speaker, Stage};
use crate::escape::shortened;
use crate::protocol::frame::{Frame, Violation};
use crate::protocol::message::FromWorker;

/// The role of a process that forks workers.
#[derive(Debug, Default)]
pub(crate) struct ZygoteRole {
    /// The workers that it has been asked for and has not answered for, in order.
    asked: VecDeque<u32>,
}

/// What only a zygote says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromZygote {
    Ready,
    /// It has forked this worker. Whether it tells the truth about the process is for the kernel to say.
    Forked {
        worker: u32,
        pid: i32,
    },
    /// It could not fork this worker, and lives on.
    NotForked {
        worker: u32,
        reason: String,
    },
}

impl Session<ZygoteRole> {
    pub(crate) fn zygote() -> Session<ZygoteRole> {
        Session::with(ZygoteRole::default())
    }

    /// The zygote is asked for a worker.
    pub(crate) fn ask(&mut self, worker: u32) {
        self.role.asked.push_back(worker);
    }

    /// The workers that the zygote still has to answer for, the next first.
    pub(crate) fn asked(&self) -> &VecDeque<u32> {
        &self.role.asked
    }

    /// What the zygote said of this worker, its last answer, was a lie: the answer is still to come.
    pub(crate) fn ask_again(&mut self, worker: u32) {
        self.role.asked.push_front(worker);
    }

    /// No more answers will come. Gives the workers that are without one.
    pub(crate) fn end(&mut self) -> VecDeque<u32> {
        self.stage = Stage::Over;
        std::mem::take(&mut self.role.asked)
    }
}

impl Speaker for ZygoteRole {
    type Said = FromZygote;

    const OUT_OF_TURN: Violation = Violation::Unexpected("the zygote said what it was not asked");

    fn on_message(&mut self, stage: &mut Stage, message: FromWorker) -> Result<FromZygote, Violation> {
        match message {
            FromWorker::Ready if stage.is_starting() => {
                *stage = Stage::Ready;
                Ok(FromZygote::Ready)
            }
            FromWorker::Forked { pid } if *stage == Stage::Ready => {
                let worker = self.asked.pop_front().ok_or(Self::OUT_OF_TURN)?;
                Ok(FromZygote::Forked { worker, pid })
            }
            FromWorker::NotForked { reason } if *stage == Stage::Ready => {
                let worker = self.asked.pop_front().ok_or(Self::OUT_OF_TURN)?;
                Ok(FromZygote::NotForked { worker, reason: shortened(&reason) })
            }
            _ => Err(Self::OUT_OF_TURN),
        }
    }

    fn on_frame(&mut self, _stage: Stage, _frame: Frame<'_>) -> Result<FromZygote, Violation> {
        Err(Violation::Unexpected("a control message was expected"))
    }
}
