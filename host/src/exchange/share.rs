//! What a policy can share with guests.

use super::front::{Handle, Object};
use super::host::ObjectRef;
use super::ipc::{Connection, Dict, JoinableQueue, Queue, Receiver, Sender, SimpleQueue, Value};
use super::sync::{Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore};

/// The objects of [`ipc`](crate::ipc) and [`sync`](crate::sync), which
/// [`Policy::share`](crate::Policy::share) gives to guests.
///
/// ```
/// use wpool::policy::Shareable;
///
/// fn for_workers(object: &impl Shareable) -> wpool::Policy {
///     wpool::Policy::sealed().share("work", object)
/// }
/// for_workers(&wpool::ipc::Queue::<String>::unbounded());
/// for_workers(&wpool::sync::Lock::new());
/// ```
pub trait Shareable: Object {}

/// The object itself, for a policy to keep.
pub(crate) fn object(of: &impl Shareable) -> ObjectRef {
    let Handle(handle) = of.handle();
    handle.object().clone()
}

impl<T> Shareable for Queue<T> {}
impl<T> Shareable for JoinableQueue<T> {}
impl<T> Shareable for SimpleQueue<T> {}
impl<T> Shareable for Connection<T> {}
impl<T> Shareable for Receiver<T> {}
impl<T> Shareable for Sender<T> {}
impl<T> Shareable for Value<T> {}
impl<T> Shareable for Dict<T> {}
impl Shareable for Lock {}
impl Shareable for RLock {}
impl Shareable for Semaphore {}
impl Shareable for BoundedSemaphore {}
impl Shareable for Event {}
impl Shareable for Condition {}
impl Shareable for Barrier {}
