//! Why an act fails.

use std::borrow::Cow;

use crate::spec::exchange::{Answer, Code, ObjectKind};

/// Why an object refuses an act. The words follow the name of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    code: Code,
    why: Cow<'static, str>,
}

impl Refusal {
    pub(super) fn new(code: Code, why: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code, why: why.into() }
    }

    pub(super) fn invalid(why: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(Code::Invalid, why)
    }

    /// The act belongs to another kind of object.
    pub(super) fn unfit() -> Refusal {
        Refusal::invalid("has no such operation")
    }

    pub(super) fn answer(self, subject: &str) -> Answer {
        failed(self.code, format!("{subject} {}", self.why))
    }
}

pub(super) fn failed(code: Code, message: String) -> Answer {
    Answer::Failed { code, message }
}

/// What messages call an object of this kind.
pub(super) fn word(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Queue => "queue",
        ObjectKind::Connection => "connection",
        ObjectKind::Lock | ObjectKind::RLock => "lock",
        ObjectKind::Semaphore => "semaphore",
        ObjectKind::Event => "event",
        ObjectKind::Condition => "condition",
        ObjectKind::Barrier => "barrier",
        ObjectKind::Value => "value",
        ObjectKind::Dict => "dict",
    }
}
