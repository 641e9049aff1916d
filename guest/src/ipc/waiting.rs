//! Waits for several objects: `multiprocessing.connection.wait`.

use std::time::Duration;

use super::{Error, nanos};
use crate::bindings::communicating::wpool::ipc::waiting;

/// What [`wait`] waits for: a [`Queue`](super::Queue) or a [`Connection`](super::Connection).
pub trait Waitable: Sealed {}

pub(super) use waiting::Waitable as Either;

/// Implemented by the types of this crate only.
pub trait Sealed {
    /// The object as the interface takes it.
    fn either(&self) -> Either<'_>;
}

/// The positions of the objects from which something can be got without a wait. Waits until there is one.
/// Closed objects are among them.
///
/// ```no_run
/// use wpool_guest::ipc::{self, Connection, Queue};
///
/// # fn main() -> Result<(), ipc::Error> {
/// let (jobs, parent) = (Queue::<String>::open("jobs")?, Connection::<String>::open("parent")?);
/// for ready in ipc::wait(&[&jobs, &parent])? {
///     let text = if ready == 0 { jobs.get()? } else { parent.recv()? };
///     println!("{text}");
/// }
/// # Ok(())
/// # }
/// ```
pub fn wait(objects: &[&dyn Waitable]) -> Result<Vec<usize>, Error> {
    ready(objects, None)
}

/// As [`wait`], for this time at most. None: it has passed.
///
/// ```no_run
/// # use wpool_guest::ipc::{self, Queue};
/// # fn main() -> Result<(), ipc::Error> {
/// # let jobs = Queue::<String>::open("jobs")?;
/// if ipc::wait_timeout(&[&jobs], std::time::Duration::from_secs(1))?.is_empty() {
///     println!("no job for a second");
/// }
/// # Ok(())
/// # }
/// ```
pub fn wait_timeout(objects: &[&dyn Waitable], timeout: Duration) -> Result<Vec<usize>, Error> {
    ready(objects, nanos(timeout))
}

fn ready(objects: &[&dyn Waitable], timeout: Option<u64>) -> Result<Vec<usize>, Error> {
    let objects: Vec<Either<'_>> = objects.iter().map(|object| object.either()).collect();
    let ready = waiting::wait(&objects, timeout)?;
    Ok(ready.into_iter().map(|at| at as usize).collect())
}
