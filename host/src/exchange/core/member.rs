//! What the exchange knows of a worker that uses objects.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::event::{Granting, JobId, ObjectId, SiteId};
use super::hand::Ahead;
use super::store::Stored;
use super::wait::WaitId;
use crate::spec::exchange::{Granted, ObjectKind};

/// What the last answer gave to a member. It has not said yet that it has taken it.
#[derive(Debug)]
pub(super) enum Handed {
    Items {
        object: ObjectId,
        items: Vec<Stored>,
    },
    /// Of a condition.
    Notification {
        object: ObjectId,
    },
}

/// Tasks of one job, by their numbers in the life of a member.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) tasks: Range<u64>,
    pub(super) job: JobId,
    pub(super) is_wanted: bool,
}

#[derive(Debug)]
pub(super) struct KnownMember {
    pub(super) site: SiteId,
    pub(super) label: String,
    granted: Vec<Granting>,
    /// The task that has asked last.
    pub(super) task: u64,
    /// The last task that was said to be over.
    ended: Option<u64>,
    /// The first `cancelled` tasks are not wanted.
    cancelled: u64,
    /// Its tasks, as far as something may still be heard of them; oldest first.
    assigned: VecDeque<Assigned>,
    pub(super) wait: Option<WaitId>,
    pub(super) handed: Option<Handed>,
    pub(super) ahead: Ahead,
    /// What its tasks hold, and which of them. That may be a later one than `task`: it has not asked, and its
    /// lease was taken back.
    pub(super) holds: BTreeMap<ObjectId, u64>,
    /// What its task may still post under each name, and to which queue or end of a pipe.
    pub(super) credits: BTreeMap<Granted, (ObjectId, u64)>,
    /// The pool knows that this task waits.
    stalled: Option<u64>,
}

impl KnownMember {
    pub(super) fn new(site: SiteId, label: String, granted: Vec<Granting>) -> KnownMember {
        KnownMember {
            site,
            label,
            granted,
            task: 0,
            ended: None,
            cancelled: 0,
            assigned: VecDeque::new(),
            wait: None,
            handed: None,
            ahead: Ahead::default(),
            holds: BTreeMap::new(),
            credits: BTreeMap::new(),
            stalled: None,
        }
    }

    pub(super) fn find(&self, kind: ObjectKind, name: &str) -> Option<Granted> {
        let place =
            self.granted.iter().position(|granting| granting.kind == kind && granting.name == name)?;
        Granted::try_from(place).ok()
    }

    pub(super) fn granting(&self, granted: Granted) -> Option<&Granting> {
        self.granted.get(granted as usize)
    }

    pub(super) fn granted(&self) -> &[Granting] {
        &self.granted
    }

    pub(super) fn end(&mut self, task: u64) {
        self.ended = self.ended.max(Some(task));
    }

    pub(super) fn cancel(&mut self, tasks: u64) {
        self.cancelled = self.cancelled.max(tasks);
    }

    pub(super) fn assign(&mut self, new: Assigned, answered: u64) {
        while self.assigned.front().is_some_and(|oldest| oldest.tasks.end <= answered + 1) {
            self.assigned.pop_front();
        }
        while self.assigned.back().is_some_and(|last| last.tasks.start >= new.tasks.start) {
            self.assigned.pop_back();
        }
        if let Some(last) = self.assigned.back_mut() {
            last.tasks.end = last.tasks.end.min(new.tasks.start);
        }
        self.assigned.push_back(new);
    }

    /// No task of the job is wanted any more. Gives whether it has any. `None`: of any job.
    pub(super) fn drop_job(&mut self, job: Option<JobId>) -> bool {
        let mut has_any = false;
        let is_of_job = |assigned: &&mut Assigned| job.is_none_or(|job| assigned.job == job);
        for assigned in self.assigned.iter_mut().filter(is_of_job) {
            (assigned.is_wanted, has_any) = (false, true);
        }
        has_any
    }

    /// What asks after the last task was said to be over is not that task, but the guest's `shutdown`.
    pub(super) fn is_cancelled(&self, task: u64) -> bool {
        let is_among_first = task <= self.cancelled && self.cancelled > 0;
        (is_among_first || self.is_unwanted(task)) && self.ended.is_none_or(|ended| ended < task)
    }

    /// Whether no outcome of this task is wanted, although it may return. (What is only cancelled may still
    /// return, and then it counts.)
    pub(super) fn is_unwanted(&self, task: u64) -> bool {
        self.assigned.iter().any(|assigned| !assigned.is_wanted && assigned.tasks.contains(&task))
    }

    /// Whether the pool must still be told that this task waits.
    pub(super) fn may_stall(&self, task: u64) -> bool {
        self.stalled != Some(task)
    }

    pub(super) fn stall(&mut self, task: u64) {
        self.stalled = Some(task);
    }
}
