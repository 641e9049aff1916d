//! The jobs of a pool: records in, outcomes out.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::error::TaskError;
use crate::pool::job::{InputChunk, Job};
use crate::pool::plan::Plan;
use crate::pool::schedule::JobId;

/// The jobs of a pool that are not done.
#[derive(Default)]
pub(super) struct Jobs {
    pub(super) by_id: HashMap<JobId, OpenJob>,
    /// The jobs whose records the dispatcher looks at in this turn, in the order in which they changed.
    due: VecDeque<JobId>,
    /// The jobs of which tasks are queued and more records may come. Each turn looks at the first few.
    flowing: VecDeque<JobId>,
    /// Jobs that have no room for results, or had none at the last look.
    pub(super) full: HashSet<JobId>,
    /// Those of them of which results were taken since the last look.
    pub(super) roomier: Vec<JobId>,
    /// Jobs with outcomes that have not been announced.
    pub(super) delivered: Vec<JobId>,
}

/// A job and the records that are still needed.
pub(super) struct OpenJob {
    pub(super) job: Arc<Job>,
    pub(super) plan: Arc<Plan>,
    pub(super) chunks: VecDeque<InputChunk>,
    pub(super) intake: Intake,
    /// The job is in `Jobs::due`.
    is_due: bool,
    /// The job is in `Jobs::flowing`.
    is_flowing: bool,
}

/// What leads the dispatcher to the next records of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intake {
    /// The next record puts the job on the list of changed jobs.
    Awaited,
    /// Tasks of the job are queued. Each batch of them that is sent leads to a look.
    Flowing,
    /// There are no more.
    Ended,
}

/// The number of jobs with queued tasks that each turn looks at, beside those that have changed. So workers
/// are hired by what has come of a job, even before its first batch is sent.
const LOOKS: usize = 8;

impl Jobs {
    pub(super) fn insert(&mut self, job: Arc<Job>, plan: Arc<Plan>) {
        let intake = Intake::Awaited;
        let open = OpenJob { job, plan, chunks: VecDeque::new(), intake, is_due: false, is_flowing: false };
        self.by_id.insert(open.job.id, open);
    }

    pub(super) fn remove(&mut self, id: JobId) {
        self.by_id.remove(&id);
        self.full.remove(&id);
    }

    /// Lets this turn look at the job's records, unless all have come.
    pub(super) fn look_at(&mut self, id: JobId) {
        if let Some(open) = self.by_id.get_mut(&id)
            && open.intake != Intake::Ended
            && !std::mem::replace(&mut open.is_due, true)
        {
            self.due.push_back(id);
        }
    }

    /// The queue of the job's tasks has become shorter.
    pub(super) fn queue_shrunk(&mut self, id: JobId) {
        if self.by_id.get(&id).is_some_and(|open| open.intake == Intake::Flowing) {
            self.look_at(id);
        }
    }

    /// Lets this turn look at the first of the jobs with queued tasks.
    pub(super) fn look_at_flowing(&mut self) {
        for _ in 0..LOOKS.min(self.flowing.len()) {
            let Some(id) = self.flowing.pop_front() else { break };
            if let Some(open) = self.by_id.get_mut(&id) {
                open.is_flowing = false;
                self.queue_shrunk(id);
            }
        }
    }

    /// The next job to look at in this turn.
    pub(super) fn next_due(&mut self) -> Option<JobId> {
        let id = self.due.pop_front()?;
        if let Some(open) = self.by_id.get_mut(&id) {
            open.is_due = false;
        }
        Some(id)
    }

    /// Notes what leads the dispatcher to the next records of the job.
    pub(super) fn set_intake(&mut self, id: JobId, intake: Intake) {
        let Some(open) = self.by_id.get_mut(&id) else { return };
        open.intake = intake;
        if intake == Intake::Flowing && !std::mem::replace(&mut open.is_flowing, true) {
            self.flowing.push_back(id);
        }
    }

    pub(super) fn get(&self, id: &JobId) -> Option<&OpenJob> {
        self.by_id.get(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Announces the outcomes that were delivered.
    pub(super) fn announce(&mut self) {
        for id in self.delivered.drain(..) {
            // A job that is done has announced its end.
            if let Some(open) = self.by_id.get(&id) {
                open.job.announce();
            }
        }
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
