//! Shared objects for the unit tests of a guest.
//!
//! Outside WebAssembly there is no host. The objects of [`ipc`](crate::ipc) and [`sync`](crate::sync) work
//! all the same, within the process of the test: [`share`] makes them, as the host's `--share` does. A task
//! is a thread. What differs from a host: tasks that wait have no order, nothing is delivered twice, queues
//! have no limit on bytes, and what a thread holds at its end stays held.

/// Makes an object, and gives it a name. The text is that of the option `--share`.
///
/// | object | |
/// |---|---|
/// | `queue:found`, `queue:found=1000` | without or with a limit on its items |
/// | `jqueue:jobs`, `jqueue:jobs=10` | the same for a `JoinableQueue` |
/// | `pipe:parent` | a pipe with the ends `parent.a` and `parent.b` |
/// | `value:count=3`, `value:state=text` | a number, or bytes |
/// | `dict:counts`, `lock:db`, `rlock:db`, `event:go`, `condition:changed` | |
/// | `semaphore:slots=3`, `bsemaphore:slots=3` | its units; without a number 1 |
/// | `barrier:start=2` | its parties |
///
/// A second object of the same kind and name takes the place of the first one. What has opened the first one
/// keeps it.
///
/// # Panics
/// The text describes no object.
///
/// ```
/// use wpool_guest::ipc::{Error, Queue};
///
/// #[wpool_guest::task]
/// fn words(line: &str) -> Result<(), Error> {
///     Queue::<String>::open("words")?.put_many(line.split_whitespace())
/// }
///
/// # fn main() -> Result<(), Error> {
/// wpool_guest::testing::share("queue:words");
/// words("one two")?;
/// assert_eq!(Queue::<String>::open("words")?.get_many(10)?, ["one", "two"]);
/// # Ok(())
/// # }
/// ```
pub fn share(object: &str) {
    if let Err(message) = crate::local::share(object) {
        panic!("{message}");
    }
}
