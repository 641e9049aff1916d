//! The workers of a pool, and the groups in which the schedule looks for them.
//!
//! An event is about one worker, and there may be thousands. So nothing that follows an event looks at all of
//! them: each change of a worker moves it between groups, by [`WorkerMut`].

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::deadlines::Deadlines;
use super::worker::{PhaseChange, Worker};
use super::{JobId, WorkerId};

/// What is counted. A worker may count for several.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    /// It has one of the pool's places.
    Hired,
    /// It has a place that it keeps, and is not ready yet.
    Starting,
    /// It has a place that it keeps.
    Staying,
    /// It has a place that it keeps, and holds no tasks.
    Idle,
    /// It holds tasks.
    Busy,
}

/// Workers that are looked for, in the order of a time. A worker may be in several groups.
#[derive(Debug, Clone, Copy)]
pub(super) enum Group {
    /// They may be given tasks and hold none. The time is zero, so that those with low numbers come first.
    Free,
    /// They may be given tasks and hold one batch, by the beginning of their present task.
    OneBatch,
    /// Tasks may be taken back from them, by the beginning of their present batch.
    Spare,
    /// They are to be told to end now. The time is zero.
    Leaving,
    /// Their counts of started tasks matter for a time limit, by the beginning of their present task.
    Watched,
    /// They have a deadline, by the next one.
    Timed,
}

/// What a worker counts for, and the groups that it is in.
#[derive(Debug, Default)]
struct Memberships {
    counts: [bool; 5],
    groups: [Option<Duration>; 6],
    /// The job of its present task.
    job: Option<JobId>,
}

impl Memberships {
    fn of(worker: &Worker, deadlines: &Deadlines) -> Memberships {
        let (stays, is_idle) = (worker.stays(), worker.held.is_empty());
        let batches = worker.takes_tasks().then(|| worker.batches_held());
        let is_leaving = worker.is_serving() && is_idle && worker.leaving().is_some();
        let mut all = Memberships::default();
        all.counts[Count::Hired as usize] = worker.is_hired();
        all.counts[Count::Starting as usize] = stays && worker.is_starting();
        all.counts[Count::Staying as usize] = stays;
        all.counts[Count::Idle as usize] = stays && is_idle;
        all.counts[Count::Busy as usize] = !is_idle;
        all.groups[Group::Free as usize] = (batches == Some(0)).then_some(Duration::ZERO);
        all.groups[Group::OneBatch as usize] = (batches == Some(1)).then_some(worker.running_since);
        all.groups[Group::Spare as usize] = (worker.spare() > 0).then_some(worker.front_since);
        all.groups[Group::Leaving as usize] = is_leaving.then_some(Duration::ZERO);
        all.groups[Group::Watched as usize] = deadlines.watches(worker).then_some(worker.running_since);
        all.groups[Group::Timed as usize] = deadlines.next(worker);
        all.job = worker.held.front().map(|(job, _)| *job);
        all
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Index {
    counts: [usize; 5],
    groups: [BTreeSet<(Duration, WorkerId)>; 6],
    /// The number of workers that are at tasks of a job.
    at: BTreeMap<JobId, usize>,
}

impl Index {
    fn change(&mut self, id: WorkerId, before: &Memberships, after: &Memberships) {
        for (count, (was, is)) in self.counts.iter_mut().zip(before.counts.into_iter().zip(after.counts)) {
            *count = *count + usize::from(is) - usize::from(was);
        }
        for (group, (was, is)) in self.groups.iter_mut().zip(before.groups.into_iter().zip(after.groups)) {
            if was != is {
                was.map(|at| group.remove(&(at, id)));
                is.map(|at| group.insert((at, id)));
            }
        }
        if before.job != after.job {
            if let Some(Entry::Occupied(mut count)) = before.job.map(|job| self.at.entry(job)) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
            if let Some(job) = after.job {
                *self.at.entry(job).or_default() += 1;
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Workers {
    all: BTreeMap<WorkerId, Worker>,
    deadlines: Deadlines,
    index: Index,
    /// Those that have changed since [`Workers::settle`], some of them several times.
    changed: Vec<WorkerId>,
}

/// A worker that may be changed. The end of the borrow moves it between groups.
pub(super) struct WorkerMut<'a> {
    id: WorkerId,
    worker: &'a mut Worker,
    before: Memberships,
    deadlines: &'a Deadlines,
    index: &'a mut Index,
    changed: &'a mut Vec<WorkerId>,
}

impl Deref for WorkerMut<'_> {
    type Target = Worker;

    fn deref(&self) -> &Worker {
        self.worker
    }
}

impl DerefMut for WorkerMut<'_> {
    fn deref_mut(&mut self) -> &mut Worker {
        self.worker
    }
}

impl Drop for WorkerMut<'_> {
    fn drop(&mut self) {
        self.index.change(self.id, &self.before, &Memberships::of(self.worker, self.deadlines));
        self.changed.push(self.id);
    }
}

impl Workers {
    pub(super) fn new(deadlines: Deadlines) -> Workers {
        Workers { all: BTreeMap::new(), deadlines, index: Index::default(), changed: Vec::new() }
    }

    pub(super) fn insert(&mut self, id: WorkerId, worker: Worker) {
        self.index.change(id, &Memberships::default(), &Memberships::of(&worker, &self.deadlines));
        self.all.insert(id, worker);
    }

    pub(super) fn remove(&mut self, id: WorkerId) -> Option<Worker> {
        let worker = self.all.remove(&id)?;
        self.index.change(id, &Memberships::of(&worker, &self.deadlines), &Memberships::default());
        Some(worker)
    }

    pub(super) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.all.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<WorkerMut<'_>> {
        let Workers { all, deadlines, index, changed } = self;
        let worker = all.get_mut(&id)?;
        Some(WorkerMut { id, before: Memberships::of(worker, deadlines), worker, deadlines, index, changed })
    }

    /// From now on no worker is dismissed for being idle.
    pub(super) fn keep_idle(&mut self) {
        let of_all = |workers: &Workers| -> Vec<(WorkerId, Memberships)> {
            workers
                .all
                .iter()
                .map(|(id, worker)| (*id, Memberships::of(worker, &workers.deadlines)))
                .collect()
        };
        let before = of_all(self);
        self.deadlines.keep_idle();
        for ((id, before), (_, after)) in before.iter().zip(of_all(self)) {
            self.index.change(*id, before, &after);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn count(&self, count: Count) -> usize {
        self.index.counts[count as usize]
    }

    /// The number of workers whose present task is of this job.
    pub(super) fn count_at(&self, job: JobId) -> usize {
        self.index.at.get(&job).copied().unwrap_or(0)
    }

    /// The free worker with the lowest number from `from` on.
    pub(super) fn next_free(&self, from: WorkerId) -> Option<WorkerId> {
        self.index.groups[Group::Free as usize].range((Duration::ZERO, from)..).next().map(|(_, id)| *id)
    }

    /// The members of a group, in the order of their times.
    pub(super) fn group(&self, group: Group) -> impl Iterator<Item = (Duration, WorkerId)> {
        self.index.groups[group as usize].iter().copied()
    }

    /// The members of a group with a time from `since` on, in the order of their numbers.
    pub(super) fn group_since(&self, group: Group, since: Duration) -> Vec<WorkerId> {
        in_order(self.index.groups[group as usize].range((since, 0)..))
    }

    /// The members of a group with a time up to `until`, in the order of their numbers.
    pub(super) fn group_until(&self, group: Group, until: Duration) -> Vec<WorkerId> {
        in_order(self.index.groups[group as usize].range(..=(until, WorkerId::MAX)))
    }

    /// What becomes of a worker by a deadline that it has missed.
    pub(super) fn overdue(&self, now: Duration, id: WorkerId) -> Option<PhaseChange> {
        self.deadlines.overdue(now, self.get(id)?)
    }

    /// The workers that have changed since the last [`Workers::settle`].
    pub(super) fn changed(&self) -> Vec<WorkerId> {
        let mut ids = self.changed.clone();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    pub(super) fn settle(&mut self) {
        self.changed.clear();
    }

    /// All workers. Not for what follows every event.
    pub(super) fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.all.iter().map(|(id, worker)| (*id, worker))
    }

    /// The numbers of all workers. Not for what follows every event.
    pub(super) fn ids(&self) -> Vec<WorkerId> {
        self.all.keys().copied().collect()
    }
}

fn in_order<'a>(members: impl Iterator<Item = &'a (Duration, WorkerId)>) -> Vec<WorkerId> {
    let mut ids: Vec<WorkerId> = members.map(|(_, id)| *id).collect();
    ids.sort_unstable();
    ids
}

#[cfg(test)]
impl std::ops::Index<&WorkerId> for Workers {
    type Output = Worker;

    fn index(&self, id: &WorkerId) -> &Worker {
        &self.all[id]
    }
}

#[cfg(test)]
impl Workers {
    /// Whether each worker counts for what it should and is in its groups, and in no others.
    pub(super) fn is_consistent(&self) -> bool {
        let mut index = Index::default();
        for (id, worker) in &self.all {
            index.change(*id, &Memberships::default(), &Memberships::of(worker, &self.deadlines));
        }
        index == self.index
    }
}
