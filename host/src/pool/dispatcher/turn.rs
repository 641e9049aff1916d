//! What is under way between the schedule and the dispatcher.

use std::collections::VecDeque;

use crate::pool::schedule::{Action, AnswerStep, Event};

/// What is under way between the schedule and the dispatcher.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Buffers, kept for their memory.
    pub(super) actions: Vec<Action>,
    pub(super) steps: Vec<AnswerStep>,
    /// What has happened while actions are carried out.
    pub(super) events: VecDeque<Event>,
    pub(super) is_acting: bool,
    /// The schedule has said that everything is over.
    pub(super) is_finished: bool,
}
