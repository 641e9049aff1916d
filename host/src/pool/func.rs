//! A typed function of a pool's module.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::plan::Plan;
use crate::error::TaskError;
use crate::target::Resolved;
use crate::value::Ret;

/// A function of a pool's module with its Rust types: found and checked once, called many times.
///
/// [`Pool::func`](crate::Pool::func) makes it.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = wpool::Pool::builder(&numbers()?).processes(2).build()?;
/// use wpool::{Func, Target};
///
/// let add: Func<(i32, i32), i32> = pool.func("add")?;
/// assert_eq!(pool.apply(&add, (3, 4))?, 7);
/// assert_eq!(pool.starmap(&add, [(1, 2), (3, 4)])?, [3, 7]);
/// let add_ten: Func<i32, i32> = pool.func(Target::func("add").arg(10))?;
/// assert_eq!(pool.apply(&add_ten, 4)?, 14);
/// assert!(pool.func::<String, i32>("add").is_err()); // it does not take a string
/// # Ok(())
/// # }
/// ```
pub struct Func<A, R> {
    pub(super) resolved: Arc<Resolved>,
    /// The call as the pool's workers know it.
    pub(super) plan: Arc<Plan>,
    types: PhantomData<fn(A) -> R>,
}

impl<A, R> fmt::Debug for Func<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Func({}: {})", self.resolved.call.path, self.resolved.ty)
    }
}

impl<A, R> Clone for Func<A, R> {
    fn clone(&self) -> Self {
        Func { resolved: self.resolved.clone(), plan: self.plan.clone(), types: PhantomData }
    }
}

impl<A, R> Func<A, R> {
    pub(super) fn new(resolved: Resolved, plan: Arc<Plan>) -> Func<A, R> {
        Func { resolved: Arc::new(resolved), plan, types: PhantomData }
    }

    pub(super) fn decode(&self) -> Decode<R> {
        Decode { resolved: self.resolved.clone(), types: PhantomData }
    }
}

/// Turns the bytes of a result into `R`.
pub(super) struct Decode<R> {
    resolved: Arc<Resolved>,
    types: PhantomData<fn() -> R>,
}

impl<R: Ret> Decode<R> {
    pub(super) fn decode(&self, result: Result<&[u8], TaskError>) -> Result<R, TaskError> {
        let ty = self.resolved.result_type();
        R::decode(result?, ty).ok_or_else(|| TaskError::wrong_result(ty))
    }
}
