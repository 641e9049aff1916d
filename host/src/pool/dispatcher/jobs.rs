//! The jobs of a pool: records in, outcomes out.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::error::TaskError;
use crate::pool::job::{InputChunk, Job};
use crate::pool::schedule::JobId;
use crate::spec::Call;

/// The jobs of a pool that are not done.
#[derive(Default)]
pub(super) struct Jobs {
    pub(super) by_id: HashMap<JobId, OpenJob>,
    /// The jobs that may get more records. Of a thousand jobs, most have all of theirs and need no look.
    pub(super) open: HashSet<JobId>,
    /// Jobs that have no room for results, or had none at the last look.
    pub(super) full: HashSet<JobId>,
    /// The calls of all jobs so far, by their number.
    pub(super) calls: HashMap<u32, Call>,
}

/// A job and the records that are still needed.
pub(super) struct OpenJob {
    pub(super) job: Arc<Job>,
    pub(super) chunks: VecDeque<InputChunk>,
}

impl Jobs {
    pub(super) fn insert(&mut self, job: Arc<Job>, call: Option<Call>) {
        if let Some(call) = call {
            self.calls.insert(job.plan, call);
        }
        self.open.insert(job.id);
        self.by_id.insert(job.id, OpenJob { job, chunks: VecDeque::new() });
    }

    pub(super) fn remove(&mut self, id: JobId) {
        self.by_id.remove(&id);
        self.open.remove(&id);
    }

    pub(super) fn get(&self, id: &JobId) -> Option<&OpenJob> {
        self.by_id.get(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The call with this number.
    pub(super) fn call(&self, plan: u32) -> Option<&Call> {
        self.calls.get(&plan)
    }

    /// Ends all jobs. `left`: the outcome of records that the dispatcher has not taken.
    pub(super) fn finish(&mut self, left: &TaskError) {
        for (_, open) in self.by_id.drain() {
            open.job.finish(left);
        }
    }
}

impl OpenJob {
    /// Drops the records of tasks that have their outcome. Gives the bytes that this frees.
    pub(super) fn release(&mut self, mut first: u64, mut count: u64) -> u64 {
        let mut released = 0;
        while count > 0 {
            let at = self.chunks.partition_point(|c| c.first + c.count() <= first);
            let Some(input) = self.chunks.get_mut(at) else { break };
            let part = count.min(input.first + input.count() - first);
            input.open -= part;
            (first, count) = (first + part, count - part);
            if input.open == 0 {
                released += input.bytes() - 4 * input.count();
                // Wherever the chunk is: one slow task at the front must not keep all records behind it.
                self.chunks.remove(at);
            }
        }
        released
    }
}

impl Drop for OpenJob {
    /// A thread that waits for the job ends its wait, however the dispatcher ends.
    fn drop(&mut self) {
        self.job.finish(&TaskError::Cancelled);
    }
}
