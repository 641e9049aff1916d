//! Why a call of an object has failed.

use std::fmt::Display;

use crate::host::ipc::errors;

/// Why a call of an object has failed. As text it is the message, which names the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// What kind of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No object of that name and kind is shared with this worker.
    NotGranted,
    /// The time-out passed: `queue.Empty` and `queue.Full` in Python.
    TimedOut,
    /// The object is closed.
    Closed,
    /// The other end of the pipe is gone, and every message from it has been received.
    Eof,
    /// The item is longer than the object, or the caller, can ever take.
    TooLarge,
    /// The call makes no sense in the object's state: a lock is released that the task does not hold,
    /// `task_done` is called too often, an end of a pipe is used in the wrong direction.
    Invalid,
    /// The barrier is broken.
    Broken,
    /// All tasks that could end this wait are waiting themselves. The message names them.
    Deadlock,
    /// The item cannot be written as JSON. It was not put.
    Encode,
    /// The bytes that came are no item of the expected type. They were taken.
    Decode,
}

impl Error {
    /// A value that has no form in bytes.
    #[cfg(feature = "json")]
    pub(super) fn encode(message: String) -> Self {
        Error { kind: ErrorKind::Encode, message }
    }

    /// Bytes that do not fit their type.
    pub(super) fn decode(message: String) -> Self {
        Error { kind: ErrorKind::Decode, message }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The failure in words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether a time-out passed: `queue.Empty` and `queue.Full` in Python.
    pub fn is_timed_out(&self) -> bool {
        self.kind == ErrorKind::TimedOut
    }

    /// Whether the object is closed.
    pub fn is_closed(&self) -> bool {
        self.kind == ErrorKind::Closed
    }

    /// Whether the other end of the pipe is gone, and every message from it has been received: `EOFError` in
    /// Python.
    pub fn is_eof(&self) -> bool {
        self.kind == ErrorKind::Eof
    }

    /// Whether the barrier is broken: `BrokenBarrierError` in Python.
    pub fn is_broken(&self) -> bool {
        self.kind == ErrorKind::Broken
    }

    /// Whether no object of that name and kind is shared with this worker.
    pub fn is_not_granted(&self) -> bool {
        self.kind == ErrorKind::NotGranted
    }

    /// Whether all tasks that could end this wait are waiting themselves.
    pub fn is_deadlock(&self) -> bool {
        self.kind == ErrorKind::Deadlock
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<errors::Error> for Error {
    fn from(errors::Error { code, message }: errors::Error) -> Self {
        Error { kind: code.into(), message }
    }
}

impl From<errors::Code> for ErrorKind {
    fn from(code: errors::Code) -> Self {
        match code {
            errors::Code::NotGranted => ErrorKind::NotGranted,
            errors::Code::TimedOut => ErrorKind::TimedOut,
            errors::Code::Closed => ErrorKind::Closed,
            errors::Code::Eof => ErrorKind::Eof,
            errors::Code::TooLarge => ErrorKind::TooLarge,
            errors::Code::Invalid => ErrorKind::Invalid,
            errors::Code::Broken => ErrorKind::Broken,
            errors::Code::Deadlock => ErrorKind::Deadlock,
        }
    }
}
