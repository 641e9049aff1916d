//! Watch a pool while it works.
//!
//! [`PoolBuilder::on_event`] calls a function with each [`PoolEvent`]: a worker starts, a task is retried, a
//! worker is lost. [`Pool::workers`] lists the workers of this moment ([`WorkerInfo`]). [`Pool::stats`] tells
//! where their time has gone ([`Stats`]). [`PoolBuilder::profile`] collects profiles of the guests
//! ([`ProfilingStrategy`]).
//!
//! [`Pool::stats`]: crate::Pool::stats
//! [`Pool::workers`]: crate::Pool::workers
//! [`PoolBuilder::on_event`]: crate::PoolBuilder::on_event
//! [`PoolBuilder::profile`]: crate::PoolBuilder::profile

pub use crate::pool::events::{PoolEvent, Recycle};
pub use crate::pool::stats::Stats;
pub use crate::pool::worker::{WorkerInfo, WorkerState};
pub use crate::spec::ProfilingStrategy;
