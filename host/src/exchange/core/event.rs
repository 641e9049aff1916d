//! What the core of the exchange hears, and what it answers.

use std::ops::Range;
use std::time::Duration;

use crate::spec::exchange::{Act, Answer, Ask, Bytes, Granted, ObjectKind};
use crate::spec::lease::Lease;

/// Names an object for the life of this program.
pub(crate) type ObjectId = u64;
/// Names a worker that may use objects, for the life of this program.
pub(crate) type MemberId = u64;
/// Names a pool or a `Process`: what starts members.
pub(crate) type SiteId = u64;
/// Names one request of the host.
pub(crate) type Ticket = u64;
/// Names a job of a pool: the tasks of one call of it.
pub(crate) type JobId = u64;
/// Names a call of a host function.
pub(crate) type CallId = u64;

/// What asks and holds: one run of one task, or a thread of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Actor {
    /// The task that was the `task`th to start in the member's life.
    Task { member: MemberId, task: u64 },
    /// A thread of the host. Its number is never used again.
    Host { thread: u64 },
}

/// What an object is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ObjectSpec {
    Queue {
        /// The most items.
        max_len: Option<u64>,
        /// The most bytes of all items together. One longer item is refused.
        max_bytes: u64,
        /// `task_done` and `join` work.
        joinable: bool,
    },
    /// Two objects, of the kind `Connection`: `ends`. `max_bytes`: of the messages that wait, each way.
    Pipe {
        ends: [ObjectId; 2],
        /// Both ends send and receive. Otherwise the first only receives, and the second only sends.
        duplex: bool,
        max_bytes: u64,
    },
    Lock,
    RLock,
    Semaphore {
        value: u64,
        /// It may not exceed its first value.
        bounded: bool,
    },
    Event,
    Condition,
    Barrier {
        parties: u32,
    },
    Value {
        content: crate::spec::exchange::Content,
        max_bytes: u64,
    },
    Dict {
        max_len: u64,
        max_bytes: u64,
    },
}

/// An object that is granted under a name. Its position in the list is what a worker names it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Granting {
    pub(crate) name: String,
    pub(crate) kind: ObjectKind,
    pub(crate) object: ObjectId,
}

/// The member to which a lock is leased, and what it calls the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lessee {
    pub(crate) member: MemberId,
    pub(crate) object: Granted,
}

/// Something has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// An object exists. Of a `Pipe` the id is that of its first end.
    Made { object: ObjectId, spec: ObjectSpec },
    /// The host has this many handles of the object that its code can use. By one it could end any wait for
    /// the object, except one for a lock that a task holds.
    Handles { object: ObjectId, count: u64 },
    /// Nothing can reach the object any more: no handle, no policy, no pool and no `Process`. An end of a
    /// pipe is then closed for the other end; anything else is forgotten.
    Abandoned { object: ObjectId },
    /// A worker has started. `label` is for messages: `PoolWorker-3`.
    Joined { member: MemberId, site: SiteId, label: String, granted: Vec<Granting> },
    /// A pool or a `Process` will have this many members at most from now on; 0 once it is over. Each of them
    /// may use the objects of `granted`.
    Site { site: SiteId, capacity: u64, granted: Vec<ObjectId> },
    /// A member asks. It has no other open request. This also says that it has taken what the last answer
    /// gave it, unless its task is cancelled: nothing that such a task asks is done.
    Asked { member: MemberId, ask: Ask },
    /// A task puts items at the end of a queue, or sends messages, for which it has credit. There is no
    /// answer. As `Asked`, it says that the member has taken what the last answer gave it.
    /// `taken`: how many items that it had ahead it had taken in its life when it said this.
    Posted { member: MemberId, task: u64, taken: u64, object: Granted, items: Vec<Bytes> },
    /// The member has ended this task and all before it. `has_returned`: by itself, so that it has taken what
    /// the last answer gave it. Otherwise it was ended, and may not have seen that answer.
    Ended { member: MemberId, task: u64, has_returned: bool },
    /// The member is sent these tasks of a job, by their numbers in its life. Those that it was sent before
    /// with the same numbers were taken back. Of the first `answered` tasks it says nothing more.
    Assigned { member: MemberId, tasks: Range<u64>, job: JobId, is_wanted: bool, answered: u64 },
    /// No outcome of this job is wanted any more, also of a task that returns. `None`: of no job of the site.
    Unwanted { site: SiteId, job: Option<JobId> },
    /// The first `tasks` tasks of the member's life are not wanted any more.
    Cancelled { member: MemberId, tasks: u64 },
    /// The member is gone. What it was given by the last answer, and has not acknowledged, was not taken.
    Gone { member: MemberId },
    /// The host asks. `ticket` names the request.
    HostAsked { ticket: Ticket, thread: u64, object: ObjectId, act: Act, timeout: Option<Duration> },
    /// The host waits for the first of several.
    HostWaits { ticket: Ticket, thread: u64, objects: Vec<ObjectId>, timeout: Option<Duration> },
    /// A host function has returned.
    Returned { call: CallId, answer: Answer },
    /// Time has passed.
    Tick,
}

/// Something is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Answer the member's open request.
    Answer { member: MemberId, answer: Answer },
    /// Until its task ends the member may post this much to a queue or a connection, besides what it was told
    /// before. It may post nothing more if it is zero.
    Credit { member: MemberId, object: Granted, credit: u64 },
    /// Leave a lock to the member that acquires it by the answer that follows. `lease` is what its word says
    /// first.
    Lease { lessee: Lessee, lease: Lease },
    /// Answer the host's request.
    AnswerHost { ticket: Ticket, answer: Answer },
    /// The member's task has waited for a millisecond: take back what its worker has not begun.
    Stalled { member: MemberId },
    /// Call a host function.
    Call { call: CallId, member: MemberId, function: u32, args: Vec<u8> },
    /// The task that has called this is over. The function's answer is not needed any more.
    Forget { call: CallId },
}

/// What a task puts without an answer.
pub(super) struct Post {
    pub(super) task: u64,
    /// How many items that it had ahead the member had taken in its life.
    pub(super) taken: u64,
    pub(super) object: Granted,
    pub(super) items: Vec<Bytes>,
}
