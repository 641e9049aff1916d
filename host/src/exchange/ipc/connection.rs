//! `pipe` and its two ends.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::error::IpcError;
use super::transfer::{Transfer, decode, encode};
use crate::exchange::front::{AT_ONCE, Handle, Object, other_answer};
use crate::exchange::host::{HostHandle, make_pipe};
use crate::spec::exchange::{Act, Answer, Bytes};

/// The most bytes of the messages that wait in one direction of a pipe. One longer message is refused.
const PIPE_MAX_BYTES: u64 = 64 << 20;

/// A pipe in both directions: `multiprocessing.Pipe()`. Each end may stay here, or be given to guests by
/// [`Policy::share`](crate::Policy::share).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, there) = wpool::ipc::pipe::<String>();
/// here.send(&"ping".to_owned())?;
/// assert_eq!(there.recv()?, "ping");
/// there.send(&"pong".to_owned())?;
/// drop(there);
/// assert_eq!(here.recv()?, "pong");
/// assert_eq!(here.recv(), Err(wpool::ipc::IpcError::Eof));
/// # Ok(())
/// # }
/// ```
pub fn pipe<T>() -> (Connection<T>, Connection<T>) {
    let (first, second) = make_pipe(true, PIPE_MAX_BYTES);
    (Connection::of(first), Connection::of(second))
}

/// A pipe in one direction: `multiprocessing.Pipe(duplex=False)`. A guest opens either end as a connection,
/// and its use in the wrong direction is an error.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (receiver, sender) = wpool::ipc::simplex_pipe::<u32>();
/// sender.send(&1)?;
/// assert_eq!(receiver.recv()?, 1);
/// # Ok(())
/// # }
/// ```
pub fn simplex_pipe<T>() -> (Receiver<T>, Sender<T>) {
    let (first, second) = make_pipe(false, PIPE_MAX_BYTES);
    (Receiver(Connection::of(first)), Sender(Connection::of(second)))
}

/// One end of a [`pipe`]: `multiprocessing.connection.Connection`. Its clones are the same end. It is closed
/// once all of them are dropped, and no policy, pool or process has the end.
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, there) = wpool::ipc::pipe::<Vec<u8>>();
/// assert!(!there.poll(Duration::ZERO)?);
/// here.send(&vec![0, 1])?;
/// assert!(there.poll(Duration::ZERO)?); // and until it is received
/// assert_eq!(there.recv()?, [0, 1]);
/// # Ok(())
/// # }
/// ```
///
/// # What is different from Python's
///
/// - `Connection<Vec<u8>>` sends bytes as they are: `send_bytes`, `recv_bytes`. There is no
///   `recv_bytes_into`.
/// - [`recv_max`](Self::recv_max) drops a message that is too long, and the connection goes on. In Python it
///   is unusable then.
/// - A message is received whole or not at all, also if its sender is killed.
/// - `send` waits while the pipe has 64 MiB of messages.
/// - The ends have no descriptors: [`wait`](super::wait) waits for several, [`recv`](Self::recv) for one.
pub struct Connection<T> {
    handle: HostHandle,
    messages: PhantomData<fn(T) -> T>,
}

impl<T> Connection<T> {
    fn of(handle: HostHandle) -> Connection<T> {
        Connection { handle, messages: PhantomData }
    }

    fn ask(&self, act: Act, timeout: Option<Duration>) -> Result<Answer, IpcError> {
        IpcError::check(self.handle.call(act, timeout))
    }

    /// Waits until `recv` would not wait: there is a message, or the end of the pipe. `false`: there is none
    /// within `timeout`.
    pub fn poll(&self, timeout: Duration) -> Result<bool, IpcError> {
        match self.ask(Act::Poll, Some(timeout))? {
            Answer::Flag(is_ready) => Ok(is_ready),
            answer => other_answer(&answer),
        }
    }

    /// Closes this end for everyone. The other end still receives what was sent. A second `close` changes
    /// nothing.
    pub fn close(&self) -> Result<(), IpcError> {
        match self.ask(Act::Close, AT_ONCE) {
            Ok(_) | Err(IpcError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl<T: Transfer> Connection<T> {
    /// Sends a message, and waits for room as long as it takes. [`IpcError::PeerGone`] if the other end is
    /// closed.
    pub fn send(&self, message: &T) -> Result<(), IpcError> {
        self.send_within(message, None)
    }

    /// As [`send`](Self::send), with [`IpcError::TimedOut`] if there is no room within `timeout`.
    pub fn send_timeout(&self, message: &T, timeout: Duration) -> Result<(), IpcError> {
        self.send_within(message, Some(timeout))
    }

    /// As [`send`](Self::send), with [`IpcError::TimedOut`] if there is no room now.
    pub fn try_send(&self, message: &T) -> Result<(), IpcError> {
        self.send_within(message, AT_ONCE)
    }

    fn send_within(&self, message: &T, timeout: Option<Duration>) -> Result<(), IpcError> {
        let items = vec![Bytes(encode(message)?)];
        match self.ask(Act::Put { items }, timeout) {
            Ok(_) => Ok(()),
            Err(IpcError::Closed) if self.is_open() => Err(IpcError::PeerGone),
            Err(error) => Err(error),
        }
    }

    /// Whether this end is open: then it is the other one that is closed.
    fn is_open(&self) -> bool {
        self.ask(Act::Poll, AT_ONCE) != Err(IpcError::Closed)
    }

    /// Receives a message, and waits for one as long as it takes. [`IpcError::Eof`] if the other end is
    /// closed and all its messages are received.
    pub fn recv(&self) -> Result<T, IpcError> {
        self.recv_within(u64::MAX, None)
    }

    /// As [`recv`](Self::recv), with [`IpcError::TimedOut`] if no message comes within `timeout`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, IpcError> {
        self.recv_within(u64::MAX, Some(timeout))
    }

    /// As [`recv`](Self::recv), with [`IpcError::TimedOut`] if there is no message now.
    pub fn try_recv(&self) -> Result<T, IpcError> {
        self.recv_within(u64::MAX, AT_ONCE)
    }

    /// Receives a message of `longest` bytes at most: `recv_bytes(maxlength)`. A longer one is dropped, and
    /// is [`IpcError::TooLarge`].
    pub fn recv_max(&self, longest: u64) -> Result<T, IpcError> {
        self.recv_within(longest, None)
    }

    fn recv_within(&self, longest: u64, timeout: Option<Duration>) -> Result<T, IpcError> {
        match self.ask(Act::Get { most: 1, longest }, timeout)? {
            Answer::Items { items } => {
                let item = items.into_iter().next().expect("an answer to `Get` has at least one item");
                decode(item.data.0)
            }
            answer => other_answer(&answer),
        }
    }
}

impl<T> Object for Connection<T> {
    fn handle(&self) -> Handle<'_> {
        Handle(&self.handle)
    }
}

impl<T> Clone for Connection<T> {
    fn clone(&self) -> Connection<T> {
        Connection::of(self.handle.clone())
    }
}

impl<T> fmt::Debug for Connection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("object", &self.handle.object().id()).finish_non_exhaustive()
    }
}

/// The end of a [`simplex_pipe`] that receives. It is a [`Connection`] without `send`.
///
/// ```
/// let (receiver, sender) = wpool::ipc::simplex_pipe::<u32>();
/// drop(sender);
/// assert_eq!(receiver.recv(), Err(wpool::ipc::IpcError::Eof));
/// ```
pub struct Receiver<T>(Connection<T>);

impl<T> Receiver<T> {
    /// [`Connection::poll`].
    pub fn poll(&self, timeout: Duration) -> Result<bool, IpcError> {
        self.0.poll(timeout)
    }

    /// [`Connection::close`].
    pub fn close(&self) -> Result<(), IpcError> {
        self.0.close()
    }
}

impl<T: Transfer> Receiver<T> {
    /// [`Connection::recv`].
    pub fn recv(&self) -> Result<T, IpcError> {
        self.0.recv()
    }

    /// [`Connection::recv_timeout`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, IpcError> {
        self.0.recv_timeout(timeout)
    }

    /// [`Connection::try_recv`].
    pub fn try_recv(&self) -> Result<T, IpcError> {
        self.0.try_recv()
    }

    /// [`Connection::recv_max`].
    pub fn recv_max(&self, longest: u64) -> Result<T, IpcError> {
        self.0.recv_max(longest)
    }
}

impl<T> Object for Receiver<T> {
    fn handle(&self) -> Handle<'_> {
        self.0.handle()
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver(self.0.clone())
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.0).finish()
    }
}

/// The end of a [`simplex_pipe`] that sends. It is a [`Connection`] without `recv`.
///
/// ```
/// let (receiver, sender) = wpool::ipc::simplex_pipe::<u32>();
/// drop(receiver);
/// assert_eq!(sender.send(&1), Err(wpool::ipc::IpcError::PeerGone));
/// ```
pub struct Sender<T>(Connection<T>);

impl<T> Sender<T> {
    /// [`Connection::close`].
    pub fn close(&self) -> Result<(), IpcError> {
        self.0.close()
    }
}

impl<T: Transfer> Sender<T> {
    /// [`Connection::send`].
    pub fn send(&self, message: &T) -> Result<(), IpcError> {
        self.0.send(message)
    }

    /// [`Connection::send_timeout`].
    pub fn send_timeout(&self, message: &T, timeout: Duration) -> Result<(), IpcError> {
        self.0.send_timeout(message, timeout)
    }

    /// [`Connection::try_send`].
    pub fn try_send(&self, message: &T) -> Result<(), IpcError> {
        self.0.try_send(message)
    }
}

impl<T> Object for Sender<T> {
    fn handle(&self) -> Handle<'_> {
        self.0.handle()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender(self.0.clone())
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.0).finish()
    }
}
