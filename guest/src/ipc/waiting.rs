//! Waits for several objects: `multiprocessing.connection.wait`.

use std::time::Duration;

use super::{Error, nanos};
use crate::host::ipc::waiting;

/// What [`wait`] waits for: a [`Queue`](super::Queue) or a [`Connection`](super::Connection).
pub trait Waitable: Sealed {}

/// Implemented by the types of this crate only.
pub trait Sealed {
    /// The object as the interface takes it.
    fn object(&self) -> Object<'_>;
}

/// A queue or a connection, as the interface takes it.
#[derive(Debug)]
pub struct Object<'a>(pub(super) waiting::Waitable<'a>);

/// Waits until something can be taken from one of the objects, and returns the positions of all for which
/// that is so: `multiprocessing.connection.wait`. Closed ones are among them. No position: there was none
/// within `timeout`. Without a `timeout` it waits as long as the task may run.
///
/// ```
/// use wpool_guest::ipc::{self, Connection, Queue};
///
/// # fn main() -> Result<(), ipc::Error> {
/// # wpool_guest::testing::share("queue:jobs");
/// # wpool_guest::testing::share("pipe:parent");
/// # Queue::<String>::open("jobs")?.put("one job")?;
/// let (jobs, parent) = (Queue::<String>::open("jobs")?, Connection::<String>::open("parent.a")?);
/// for ready in ipc::wait(&[&jobs, &parent], None)? {
///     let text = if ready == 0 { jobs.get()? } else { parent.recv()? };
///     println!("{text}");
/// }
/// # Ok(())
/// # }
/// ```
///
/// Another task may take it first: then `get` waits again.
pub fn wait(objects: &[&dyn Waitable], timeout: Option<Duration>) -> Result<Vec<usize>, Error> {
    let objects: Vec<waiting::Waitable<'_>> = objects.iter().map(|object| object.object().0).collect();
    let ready = waiting::wait(&objects, timeout.and_then(nanos))?;
    Ok(ready.into_iter().map(|at| at as usize).collect())
}
