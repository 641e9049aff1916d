//! What the handle of a pool asks of its dispatcher, and what the dispatcher starts workers with.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::context::{Launch, StartMethod};
use crate::error::TaskError;
use crate::policy::Granted;
use crate::pool::events::Sink;
use crate::pool::job::Job;
use crate::pool::plan::Plan;
use crate::protocol::message::Setup;
use crate::spec::Limits;

/// A request of the pool's handle.
pub(in crate::pool) enum Command {
    Job {
        job: Arc<Job>,
        plan: Arc<Plan>,
    },
    Resize(usize),
    /// Start all workers, and say when they are ready.
    Ready(Sender<()>),
    Close,
    CloseQueued,
    Terminate,
}

/// What every worker is started with.
pub(in crate::pool) struct Spec {
    pub(in crate::pool) launch: Launch,
    pub(in crate::pool) limits: Limits,
    pub(in crate::pool) start_method: StartMethod,
    pub(in crate::pool) setup: Setup,
    pub(in crate::pool) granted: Granted,
    /// Whether failures or successes may end a job. Then their order matters.
    pub(in crate::pool) tells_apart: bool,
    /// Says which failures are worth another attempt. `None`: there are no retries.
    pub(in crate::pool) retry_on: Option<RetryOn>,
    pub(in crate::pool) name: String,
    /// A worker with more private memory than this is replaced.
    pub(in crate::pool) memory_max: Option<u64>,
    pub(in crate::pool) sink: Sink,
    /// A busy worker silent for this long is reported (`WorkerSilent`).
    pub(in crate::pool) heartbeat: Duration,
}

pub(in crate::pool) type RetryOn = Arc<dyn Fn(&TaskError) -> bool + Send + Sync>;
