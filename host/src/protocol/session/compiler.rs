//! What a compiler process may say.

use super::{Session, Speaker, Stage};
use crate::protocol::frame::{Frame, Violation};
use crate::protocol::message::FromWorker;
use crate::spec::{Features, Import, ModuleInfo, ModuleKind};

/// The role of a process that compiles one module.
#[derive(Debug)]
pub(crate) struct CompilerRole;

/// What only a compiler says.
#[derive(Debug)]
pub(crate) enum FromCompiler {
    /// What the module imports. The compiler goes on.
    Imports { kind: ModuleKind, imports: Vec<Import> },
    /// The module is compiled, and this is its description.
    Compiled(Box<ModuleInfo>),
    /// The module would be compiled with these features turned on.
    Needs { features: Features, reason: String },
}

impl Session<CompilerRole> {
    pub(crate) fn compiler() -> Session<CompilerRole> {
        Session::with(CompilerRole)
    }
}

impl Speaker for CompilerRole {
    type Said = FromCompiler;

    const OUT_OF_TURN: Violation =
        Violation::Unexpected("the compiler gave an answer to a question that was not asked");

    fn on_message(&mut self, stage: &mut Stage, message: FromWorker) -> Result<FromCompiler, Violation> {
        match message {
            FromWorker::Imports { kind, imports } if stage.is_starting() => {
                *stage = Stage::Ready;
                Ok(FromCompiler::Imports { kind, imports })
            }
            // Behind the imports: the coordinator must be able to refuse those first.
            FromWorker::Compiled(info) if *stage == Stage::Ready => {
                *stage = Stage::Over;
                Ok(FromCompiler::Compiled(info))
            }
            FromWorker::Needs { features, reason } if stage.is_starting() || *stage == Stage::Ready => {
                *stage = Stage::Over;
                Ok(FromCompiler::Needs { features, reason })
            }
            _ => Err(Self::OUT_OF_TURN),
        }
    }

    fn on_frame(&mut self, _stage: Stage, _frame: Frame<'_>) -> Result<FromCompiler, Violation> {
        Err(Violation::Unexpected("a control message was expected"))
    }
}
