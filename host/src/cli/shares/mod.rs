//! The objects that guests of one run share (`--share`), and the files at the ends of queues: `--drain`,
//! `--fill`.

mod drain;
mod file;
mod fill;

use self::drain::{Drain, OpenDrain};
pub(super) use self::file::{RecordForm, StreamUse};
use self::fill::{Fill, OpenFill};
use super::args::ShareArgs;
use super::choices::{QueueFile, ShareArg, ShareKind};
use super::exit::CliError;
use super::report::Report;
use crate::exchange::host::ObjectRef;
use crate::exchange::ipc::{Dict, IpcError, JoinableQueue, Queue, Value, pipe};
use crate::exchange::object;
use crate::exchange::sync::{Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore};
use crate::policy::Policy;

/// The shared objects of a run, and what its files do with the queues among them.
pub(super) struct SharedObjects {
    policy: Policy,
    queues: Vec<SharedQueue>,
    drains: Vec<QueueFile>,
    fills: Vec<QueueFile>,
}

/// A queue, to tell at the end what is left in it. It is no handle: while this program could put or take
/// items, guests that wait for each other would be no deadlock.
#[derive(Clone)]
struct SharedQueue {
    name: String,
    object: ObjectRef,
}

impl SharedQueue {
    fn queue(&self) -> Queue<Vec<u8>> {
        Queue::of_object(&self.object)
    }
}

/// The files are open, and nothing is read or written yet.
pub(super) struct OpenShares {
    queues: Vec<SharedQueue>,
    drains: Vec<OpenDrain>,
    fills: Vec<OpenFill>,
}

/// Threads move items between queues and files.
pub(super) struct RunningShares {
    queues: Vec<SharedQueue>,
    drains: Vec<Drain>,
    fills: Vec<Fill>,
}

impl SharedObjects {
    /// Makes the objects, and adds them to what the policy grants.
    pub(super) fn new(args: &ShareArgs, policy: Policy) -> Result<SharedObjects, CliError> {
        let mut objects = SharedObjects {
            policy,
            queues: Vec::new(),
            drains: args.drains.clone(),
            fills: args.fills.clone(),
        };
        for share in &args.shares {
            objects.add(share)?;
        }
        let files = objects.drains.iter().map(|file| ("drain", file));
        let mut used = Vec::new();
        for (flag, QueueFile { queue, .. }) in files.chain(objects.fills.iter().map(|file| ("fill", file))) {
            objects.queue(flag, queue)?;
            if used.contains(&queue) {
                return Err(CliError::usage(format!(
                    "the queue {queue:?} has two of --drain, --fill and --feed"
                )));
            }
            used.push(queue);
        }
        Ok(objects)
    }

    /// A policy that grants the objects.
    pub(super) fn policy(&self) -> Policy {
        self.policy.clone()
    }

    /// The queue that `--feed` names.
    pub(super) fn fed(&self, name: &str) -> Result<Queue<Vec<u8>>, CliError> {
        if self.drains.iter().chain(&self.fills).any(|file| file.queue == name) {
            return Err(CliError::usage(format!("the queue {name:?} has two of --drain, --fill and --feed")));
        }
        self.queue("feed", name)
    }

    /// Whether a file fills a queue from standard input.
    pub(super) fn reads_stdin(&self) -> bool {
        self.fills.iter().any(|file| super::input::is_stdin(&file.path))
    }

    fn queue(&self, flag: &str, name: &str) -> Result<Queue<Vec<u8>>, CliError> {
        let queue = self.queues.iter().find(|queue| queue.name == name).map(SharedQueue::queue);
        queue.ok_or_else(|| {
            CliError::usage(format!(
                "--{flag} {name}: no queue of this name is shared (--share queue:{name})"
            ))
        })
    }

    fn add(&mut self, share: &ShareArg) -> Result<(), CliError> {
        let ShareArg { what, name, .. } = share;
        let policy = std::mem::take(&mut self.policy);
        self.policy = match what {
            ShareKind::Queue { max_len } => self.add_queue(policy, name, queue(*max_len)),
            ShareKind::JoinableQueue { max_len } => {
                let queue = max_len.map_or_else(JoinableQueue::unbounded, JoinableQueue::bounded);
                self.add_queue(policy, name, (*queue).clone())
            }
            ShareKind::Pipe => {
                let (first, second) = pipe::<Vec<u8>>();
                policy.share(format!("{name}.a"), &first).share(format!("{name}.b"), &second)
            }
            ShareKind::Value { text } => share_value(policy, name, text).map_err(|e| unusable(share, &e))?,
            ShareKind::Dict { max_len } => {
                let most = max_len.map_or(Dict::<Vec<u8>>::MAX_LEN, |max_len| max_len as u64);
                policy.share(name, &Dict::<Vec<u8>>::with_limits(most, Dict::<Vec<u8>>::MAX_BYTES))
            }
            ShareKind::Lock => policy.share(name, &Lock::new()),
            ShareKind::RLock => policy.share(name, &RLock::new()),
            ShareKind::Semaphore { value } => policy.share(name, &Semaphore::new(*value)),
            ShareKind::BoundedSemaphore { value } => policy.share(name, &BoundedSemaphore::new(*value)),
            ShareKind::Event => policy.share(name, &Event::new()),
            ShareKind::Condition => policy.share(name, &Condition::new()),
            ShareKind::Barrier { parties } => policy.share(name, &Barrier::new(*parties)),
        };
        Ok(())
    }

    fn add_queue(&mut self, policy: Policy, name: &str, queue: Queue<Vec<u8>>) -> Policy {
        let policy = policy.share(name, &queue);
        self.queues.push(SharedQueue { name: name.to_owned(), object: object(&queue) });
        policy
    }

    /// Opens the files. `inputs`: device and inode of the files that the run reads.
    pub(super) fn open(
        &self,
        inputs: impl Iterator<Item = (u64, u64)>,
        streams: StreamUse,
        form: RecordForm,
    ) -> Result<OpenShares, CliError> {
        let mut used: Vec<(u64, u64)> = inputs.collect();
        let mut fills = Vec::new();
        for file in &self.fills {
            let fill = OpenFill::open(file, self.queue("fill", &file.queue)?, streams, form)?;
            used.extend(fill.place());
            fills.push(fill);
        }
        let mut drains = Vec::new();
        for file in &self.drains {
            let drain = OpenDrain::open(file, self.queue("drain", &file.queue)?, streams, form, &used)?;
            used.extend(drain.place());
            drains.push(drain);
        }
        Ok(OpenShares { queues: self.queues.clone(), drains, fills })
    }
}

fn queue(max_len: Option<usize>) -> Queue<Vec<u8>> {
    max_len.map_or_else(Queue::unbounded, Queue::bounded)
}

/// A number if it is one, else a text.
fn share_value(policy: Policy, name: &str, text: &str) -> Result<Policy, IpcError> {
    Ok(match text.parse::<i64>() {
        Ok(number) => policy.share(name, &Value::new(&number)?),
        Err(_) => policy.share(name, &Value::new(&text.to_owned())?),
    })
}

fn unusable(share: &ShareArg, error: &IpcError) -> CliError {
    CliError::usage(format!("--share {}: {error}", share.text))
}

impl OpenShares {
    /// Starts the threads. `end_run` is called if a file cannot be written or read any more.
    pub(super) fn start(
        self,
        end_run: impl Fn() + Clone + Send + 'static,
    ) -> Result<RunningShares, CliError> {
        let OpenShares { queues, drains, fills } = self;
        let drains =
            drains.into_iter().map(|drain| drain.start(end_run.clone())).collect::<Result<_, _>>()?;
        let fills = fills.into_iter().map(|fill| fill.start(end_run.clone())).collect::<Result<_, _>>()?;
        Ok(RunningShares { queues, drains, fills })
    }
}

impl RunningShares {
    /// The guests have ended. Writes what is left, and says what was left over.
    pub(super) fn finish(self, report: &Report) -> Result<(), CliError> {
        // Nothing is put any more: a drain ends when it has written the rest, and a fill that waits for room
        // goes on.
        let drained: Vec<&str> = self.drains.iter().map(Drain::queue).collect();
        for shared in &self.queues {
            let (name, queue) = (&shared.name, shared.queue());
            let _closed_before = queue.close();
            let left = queue.len();
            if left > 0 && !drained.contains(&name.as_str()) {
                let items = if left == 1 { "1 item is".to_owned() } else { format!("{left} items are") };
                report.warn(&format!("{items} left in the queue {name:?}"));
            }
        }
        let drained = self.drains.into_iter().map(Drain::finish).fold(Ok(()), Result::and);
        let filled = self.fills.into_iter().map(|fill| fill.finish(report)).fold(Ok(()), Result::and);
        drained.and(filled)
    }
}
