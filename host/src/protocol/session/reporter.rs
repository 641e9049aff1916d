//! What a process may say that is only asked what is enforced in it.

use super::{Session, Speaker, Stage};
use crate::protocol::frame::{Frame, Violation};
use crate::protocol::message::FromWorker;
use crate::spec::{ProcessRole, Status};

/// The role of a process of any kind that gets no work, but the question what is enforced in it.
#[derive(Debug)]
pub(crate) struct ReporterRole {
    kind: ProcessRole,
    /// It was asked, and has not answered.
    is_asked: bool,
}

/// What only a process says that is asked for a report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromReporter {
    /// A worker or a zygote is confined, and can be asked.
    Ready,
    Report(Status),
}

impl Session<ReporterRole> {
    pub(crate) fn reporter(kind: ProcessRole) -> Session<ReporterRole> {
        Session::with(ReporterRole { kind, is_asked: false })
    }

    /// The process is asked for a report.
    pub(crate) fn ask_for_report(&mut self) {
        self.role.is_asked = true;
    }
}

impl Speaker for ReporterRole {
    type Said = FromReporter;

    const OUT_OF_TURN: Violation = Violation::Unexpected("the process said what it was not asked");

    fn on_message(&mut self, stage: &mut Stage, message: FromWorker) -> Result<FromReporter, Violation> {
        match message {
            // A compiler has no module to load: it waits for a request from the start.
            FromWorker::Ready if stage.is_starting() && self.kind != ProcessRole::Compiler => {
                *stage = Stage::Ready;
                Ok(FromReporter::Ready)
            }
            // One answer to each question: a report before it would be one of an unfinished confinement.
            FromWorker::Report(status) if *stage != Stage::Silent && self.is_asked => {
                self.is_asked = false;
                Ok(FromReporter::Report(status.made_safe()))
            }
            _ => Err(Self::OUT_OF_TURN),
        }
    }

    fn on_frame(&mut self, _stage: Stage, _frame: Frame<'_>) -> Result<FromReporter, Violation> {
        Err(Violation::Unexpected("a control message was expected"))
    }
}
