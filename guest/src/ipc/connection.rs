//! One end of a pipe: `multiprocessing.connection.Connection`.

use std::marker::PhantomData;
use std::time::Duration;

use super::waiting::{Object, Sealed, Waitable};
use super::{AsItem, Error, NOW, Transfer, close_again, nanos};
use crate::host::ipc::{connections, waiting};

/// One end of a pipe. What is sent on one end is received on the other, message by message; an empty message
/// counts.
///
/// ```no_run
/// use wpool_guest::ipc::{Connection, Error};
///
/// #[wpool_guest::task]
/// fn answer(_: String) -> Result<(), Error> {
///     let parent = Connection::<String>::open("parent")?;
///     loop {
///         match parent.recv() {
///             Ok(question) => parent.send(format!("{question}? 42"))?,
///             Err(error) if error.is_eof() => return Ok(()),
///             Err(error) => return Err(error),
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Connection<T> {
    connection: connections::Connection,
    messages: PhantomData<fn(T) -> T>,
}

impl<T: Transfer> Connection<T> {
    /// Opens the end of this name.
    ///
    /// # Errors
    /// [`NotGranted`](super::ErrorKind::NotGranted): no end of this name is shared with this worker.
    pub fn open(name: &str) -> Result<Self, Error> {
        Ok(Connection { connection: connections::Connection::open(name)?, messages: PhantomData })
    }

    /// Sends a message. Waits while the pipe is full.
    ///
    /// # Errors
    /// [`Closed`](super::ErrorKind::Closed): the other end, or this one, is closed.
    pub fn send(&self, message: impl AsItem<T>) -> Result<(), Error> {
        Ok(self.connection.send(&message.bytes()?, None)?)
    }

    /// Sends a message. Waits for this time at most while the pipe is full.
    pub fn send_timeout(&self, message: impl AsItem<T>, timeout: Duration) -> Result<(), Error> {
        Ok(self.connection.send(&message.bytes()?, nanos(timeout))?)
    }

    /// Sends a message, if the pipe is not full.
    pub fn try_send(&self, message: impl AsItem<T>) -> Result<(), Error> {
        Ok(self.connection.send(&message.bytes()?, NOW)?)
    }

    /// Receives a message. Waits until there is one.
    ///
    /// # Errors
    /// [`Eof`](super::ErrorKind::Eof): the other end is gone, and every message from it has been received.
    pub fn recv(&self) -> Result<T, Error> {
        T::decode(self.connection.recv(None, None)?)
    }

    /// Receives a message. Waits for this time at most.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, Error> {
        T::decode(self.connection.recv(None, nanos(timeout))?)
    }

    /// Receives a message, if there is one.
    pub fn try_recv(&self) -> Result<T, Error> {
        T::decode(self.connection.recv(None, NOW)?)
    }

    /// Receives a message of `max_len` bytes at most. Waits until there is one. A longer one is dropped.
    ///
    /// # Errors
    /// [`TooLarge`](super::ErrorKind::TooLarge): the message was longer.
    pub fn recv_max(&self, max_len: u64) -> Result<T, Error> {
        T::decode(self.connection.recv(Some(max_len), None)?)
    }

    /// Waits until [`recv`](Connection::recv) would not wait: there is a message, or the end of the pipe.
    /// `false`: this time has passed, which may be [`Duration::ZERO`].
    pub fn poll(&self, timeout: Duration) -> Result<bool, Error> {
        Ok(self.connection.poll(nanos(timeout))?)
    }

    /// Closes this end for everyone. The other end gets [`Eof`](super::ErrorKind::Eof).
    pub fn close(&self) -> Result<(), Error> {
        close_again(self.connection.close().map_err(Error::from))
    }
}

impl<T> Sealed for Connection<T> {
    fn object(&self) -> Object<'_> {
        Object(waiting::Waitable::Connection(&self.connection))
    }
}

impl<T> Waitable for Connection<T> {}
