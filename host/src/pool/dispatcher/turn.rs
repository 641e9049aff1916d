//! What is under way between the schedule and the dispatcher.

use std::collections::VecDeque;
use std::time::Duration;

use crate::pool::schedule::{Action, AnswerStep, Event, JobId, WorkerId};

/// What is under way between the schedule and the dispatcher.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Buffers, kept for their memory.
    pub(super) actions: Vec<Action>,
    pub(super) steps: Vec<AnswerStep>,
    /// What has happened while actions are carried out.
    pub(super) events: VecDeque<Event>,
    pub(super) is_acting: bool,
    /// Answers have come since the schedule last said what follows.
    pub(super) owes_follow_up: bool,
    /// The time at which the answers at hand were read: one reading of the clock for all of them.
    pub(super) read_at: Option<Duration>,
    /// The schedule has said that everything is over.
    pub(super) is_finished: bool,
    pub(super) drive: Drive,
}

/// A caller that does the dispatcher's work for a moment.
#[derive(Debug, Default)]
pub(super) struct Drive {
    /// The job that it waits for, once it has taken a turn.
    pub(super) job: Option<JobId>,
    /// Other jobs need the dispatcher.
    pub(super) has_company: bool,
    /// The present turn is the caller's.
    pub(super) is_on: bool,
    /// Workers that the dispatcher's thread is to start: the system ends the children of a thread with it.
    pub(super) starts: Vec<WorkerId>,
}

/// What a caller does after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterTurn {
    GoOn,
    /// The dispatcher's thread goes on.
    Leave,
}
