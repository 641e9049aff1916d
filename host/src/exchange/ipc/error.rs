//! Why a use of a shared object fails.

use crate::escape::shortened;
use crate::spec::exchange::{Answer, Code};

/// A use of a queue, a pipe, a value or a dict failed. Nothing was changed, unless the variant says so.
///
/// ```
/// use wpool::ipc::{IpcError, Queue};
///
/// let queue = Queue::<u32>::bounded(1);
/// assert_eq!(queue.try_get(), Err(IpcError::Empty));
/// queue.put(&1).unwrap();
/// assert_eq!(queue.try_put(&2), Err(IpcError::Full));
/// queue.close().unwrap();
/// assert_eq!(queue.put(&2), Err(IpcError::Closed));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IpcError {
    /// No item came in time: Python's `queue.Empty`. Try again later.
    #[error("the queue is empty: no item came in time")]
    Empty,
    /// No room came in time: Python's `queue.Full`. Try again later, or make the queue larger.
    #[error("the queue is full: no room came in time")]
    Full,
    /// Nothing happened in time: no message, no room in the pipe, work that is not done. Try again later.
    #[error("the time-out passed")]
    TimedOut,
    /// The queue, or this end of the pipe, was closed, here or by a guest. A queue that is closed still gives
    /// what is in it; then this is the end.
    #[error("it is closed")]
    Closed,
    /// The other end of the pipe is closed or gone, and all its messages are received: Python's `EOFError`.
    #[error("the other end of the pipe is closed, and all its messages are received")]
    Eof,
    /// The other end of the pipe is closed or gone: this message would not be received. Python's
    /// `BrokenPipeError`.
    #[error("the other end of the pipe is closed: the message would not be received")]
    PeerGone,
    /// The item is longer than the object can ever hold, or the message longer than the receiver takes. Such
    /// a message is dropped, and the pipe goes on.
    #[error("{}", shortened(.0))]
    TooLarge(String),
    /// The object cannot do this, for the given reason: `task_done` is called more often than there are
    /// items, or the object was made before a fork of this program.
    #[error("{}", shortened(.0))]
    Invalid(String),
    /// The item cannot be written as JSON. It was not put.
    #[error("the item cannot be written as JSON: {}", shortened(.0))]
    Encode(String),
    /// The bytes that came are no item of the expected type. They were taken, and are given here.
    #[error("{} bytes are no item of this type: {}", .data.len(), shortened(.reason))]
    Decode {
        /// The bytes.
        data: Vec<u8>,
        /// Where they differ from the type.
        reason: String,
    },
}

impl IpcError {
    /// The answer of the exchange, if it is no failure.
    pub(super) fn check(answer: Answer) -> Result<Answer, IpcError> {
        match answer {
            Answer::Failed { code, message } => Err(IpcError::of(code, message)),
            answer => Ok(answer),
        }
    }

    fn of(code: Code, message: String) -> IpcError {
        match code {
            Code::TimedOut => IpcError::TimedOut,
            Code::Closed => IpcError::Closed,
            Code::Eof => IpcError::Eof,
            Code::TooLarge => IpcError::TooLarge(message),
            // A handle is the grant, so that the host meets no `NotGranted`; no barrier is in `ipc`; and
            // while the host has a handle, no wait is a deadlock.
            Code::NotGranted | Code::Invalid | Code::Broken | Code::Deadlock => IpcError::Invalid(message),
        }
    }

    /// A time-out in the words of a queue's reader.
    pub(super) fn or_empty(self) -> IpcError {
        if self == IpcError::TimedOut { IpcError::Empty } else { self }
    }

    /// A time-out in the words of a queue's writer.
    pub(super) fn or_full(self) -> IpcError {
        if self == IpcError::TimedOut { IpcError::Full } else { self }
    }
}
