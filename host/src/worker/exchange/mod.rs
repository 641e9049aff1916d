//! A worker's second socket: through it the guest asks the coordinator something in the middle of a task, and
//! waits for the answer.
//!
//! There is one request at a time. A wait needs no ticks and takes no processor time: the worker sleeps in a
//! receive, and the coordinator answers in time if the task's time ends or the task is cancelled.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "fault-points")]
use super::fault;
use super::fault::fault_point;
use super::leases::Leases;
use crate::protocol::connection::{Connection, RecvError};
use crate::protocol::frame::{self, Caps, Kind, Violation};
#[cfg(feature = "fault-points")]
use crate::spec::FaultPhase;
use crate::spec::exchange::{Act, Answer, Ask, Granted, Item, ObjectKind, Op, cost};
use crate::sys::WorkerPage;

/// Bytes of memory that are kept for the next request.
const DRAFT_KEPT: usize = 1 << 20;

/// The worker's end of the second socket.
#[derive(Debug)]
pub(super) struct Link(Mutex<LinkState>);

#[derive(Debug)]
struct LinkState {
    connection: Connection<Arc<OwnedFd>>,
    page: Arc<WorkerPage>,
    leases: Leases,
    /// Something was sent without an answer since the last answer: the coordinator may not know it yet.
    is_unheard: bool,
    /// How many messages have come for which this worker has not asked.
    notices: u32,
    /// The buffer in which a request is put together.
    draft: Vec<u8>,
    /// Whether to look for an answer for a moment before the worker sleeps.
    spins: bool,
    /// The task that has asked something and whose end is to be told.
    asked: Option<u64>,
    /// The objects that guests have opened. What is granted to a worker never changes.
    opened: HashMap<(ObjectKind, String), Granted>,
    /// What the task may still put to each queue without an answer.
    credits: HashMap<Granted, u64>,
    /// What the task was given ahead.
    ahead: Ahead,
}

/// Items behind one that the task has got. It takes them without asking, as long as the coordinator does not
/// take them back.
#[derive(Debug, Default)]
struct Ahead {
    object: Granted,
    items: VecDeque<Item>,
    /// How many were taken in the life of this worker.
    taken: u64,
}

impl Ahead {
    /// The next item, if it is one of this object.
    fn first(&self, object: Granted) -> Option<&Item> {
        self.items.front().filter(|_| self.object == object)
    }

    fn len(&self) -> u32 {
        u32::try_from(self.items.len()).unwrap_or(0)
    }
}

/// Why there is no answer. The coordinator is gone, or is about to end this worker: the first socket tells.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("the coordinator does not answer any more")]
    Gone,
    #[error("the coordinator has given an answer that cannot be read")]
    Nonsense,
}

impl From<io::Error> for Unanswered {
    fn from(_: io::Error) -> Self {
        Unanswered::Gone
    }
}

impl From<Violation> for Unanswered {
    fn from(_: Violation) -> Self {
        Unanswered::Nonsense
    }
}

impl From<RecvError> for Unanswered {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Closed | RecvError::Io(_) => Unanswered::Gone,
            RecvError::Violation(_) => Unanswered::Nonsense,
        }
    }
}

impl Link {
    pub(super) fn new(socket: Arc<OwnedFd>, page: Arc<WorkerPage>, spins: bool) -> Link {
        Link(Mutex::new(LinkState {
            connection: Connection::new(socket, Caps::COORDINATOR),
            leases: Leases::new(page.clone()),
            page,
            is_unheard: false,
            notices: 0,
            draft: Vec::new(),
            spins,
            asked: None,
            opened: HashMap::new(),
            credits: HashMap::new(),
            ahead: Ahead::default(),
        }))
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask(&self, ask: Ask) -> Result<Answer, Unanswered> {
        let mut state = self.state();
        match ask.op {
            Op::Open { kind, ref name } => {
                let key = (kind, name.clone());
                if let Some(object) = state.opened.get(&key) {
                    return Ok(Answer::Opened { object: *object });
                }
                let answer = state.exchange(&ask, |draft| serialize(&ask, draft))?;
                if let Answer::Opened { object } = answer {
                    state.opened.insert(key, object);
                }
                Ok(answer)
            }
            Op::On { object, act: Act::Get { most: 1, longest } } => {
                if let Some(item) = state.take_ahead(object, longest) {
                    return Ok(Answer::Items { items: vec![item] });
                }
                let answer = state.exchange(&ask, |draft| serialize(&ask, draft))?;
                Ok(state.keep_ahead(object, answer))
            }
            Op::On { object, act: Act::Poll } if state.has_ahead(object) => Ok(Answer::Flag(true)),
            Op::On { object, .. } => {
                let answer = state.exchange(&ask, |draft| serialize(&ask, draft))?;
                if let Answer::Acquired { .. } = answer {
                    state.leases.acquired_by_message(object, ask.task);
                }
                Ok(answer)
            }
            Op::Wait { .. } | Op::Call { .. } => state.exchange(&ask, |draft| serialize(&ask, draft)),
        }
    }

    /// Acquires a lock that is leased to this worker. Gives whether the last owner died. `None`: the
    /// coordinator must be asked.
    pub(super) fn acquire(&self, object: Granted, task: u64, is_recursive: bool) -> Option<bool> {
        self.state().leases.acquire(object, task, is_recursive)
    }

    /// Releases a lock that is leased to this worker. `false`: the coordinator must be asked.
    pub(super) fn release(&self, object: Granted, task: u64) -> bool {
        let mut state = self.state();
        // The next owner must find what this task has put before. The coordinator reads that first if the
        // release comes by the same way.
        !state.is_unheard && state.leases.release(object, task)
    }

    /// Whether a lock is locked that is leased to this worker. `None`: the coordinator must be asked.
    pub(super) fn is_locked(&self, object: Granted) -> Option<bool> {
        self.state().leases.is_locked(object)
    }

    /// Asks for a `Put` of items, and waits for the answer unless there is credit for them. Only here items
    /// are copied, into the request.
    ///
    /// `ask` has no items. Those of `items` take their place.
    pub(super) fn put<'b>(
        &self,
        ask: &Ask,
        items: impl ExactSizeIterator<Item = &'b [u8]> + Clone,
    ) -> Result<Answer, Unanswered> {
        let mut state = self.state();
        let write = |draft: &mut Vec<u8>| serialize_put(ask, items.clone(), draft);
        if state.spend(&ask.op, items.clone().map(|item| cost(item.len())).sum())? {
            let taken = state.ahead.taken.to_le_bytes();
            state.send(Kind::Post, ask, |draft| {
                draft.extend_from_slice(&taken);
                write(draft);
            })?;
            return Ok(Answer::Count(items.len() as u64));
        }
        state.exchange(ask, write)
    }

    /// The task is over. The coordinator hears of it if the task has asked something, before it can see the
    /// task's outcome: what the task still holds is then released. `has_returned`: by itself; otherwise it
    /// may not have seen what the last answer gave it, which goes to another task.
    pub(super) fn end_task(&self, has_returned: bool) {
        let mut state = self.state();
        state.end_leases();
        if let Some(task) = state.asked.take() {
            fault_point!(BeforeEnded);
            state.credits.clear();
            state.ahead.items.clear();
            let mut ended = Vec::with_capacity(frame::HEADER_LEN + 9);
            frame::write(&mut ended, Kind::Ended, |out| {
                out.extend_from_slice(&task.to_le_bytes());
                out.push(u8::from(has_returned));
            });
            // A coordinator that is gone needs no message. The first socket ends the worker.
            let _gone = state.connection.send(&ended);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, LinkState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LinkState {
    /// Sends the request, as `write` writes it, and waits for the answer.
    fn exchange(&mut self, ask: &Ask, write: impl FnOnce(&mut Vec<u8>)) -> Result<Answer, Unanswered> {
        self.asked = Some(ask.task);
        self.send(Kind::Ask, ask, write)?;
        if self.draft.capacity() > DRAFT_KEPT {
            self.draft = Vec::new();
        }
        if self.spins && crate::spin::is_quiet() {
            self.connection.spin();
        }
        loop {
            let frame = self.connection.recv()?;
            match frame.kind {
                Kind::Credit => {
                    let (object, credit) = read_credit(frame.payload)?;
                    self.note_credit(object, credit);
                }
                Kind::Answer => {
                    #[cfg(feature = "fault-points")]
                    if !matches!(ask.op, Op::Open { .. }) {
                        fault_point!(Answered);
                    }
                    self.is_unheard = false;
                    return postcard::from_bytes(frame.payload).map_err(|_| Unanswered::Nonsense);
                }
                _ => return Err(Unanswered::Nonsense),
            }
        }
    }

    /// The task is over, with what it holds by leases.
    fn end_leases(&mut self) {
        if self.is_unheard
            && let Some(held) = self.leases.first_held()
        {
            self.be_heard(held);
        }
        if let Some(held) = self.leases.end_task()
            && self.asked.is_none()
        {
            self.be_heard(held);
        }
    }

    /// Lets the coordinator know of the task, and of all that it has sent. The end of a task that is unknown
    /// could not be told.
    fn be_heard(&mut self, (object, task): (Granted, u64)) {
        let ask = Ask { task, timeout: None, left: None, op: Op::On { object, act: Act::Status } };
        // What it answers does not count. A coordinator that is gone knows the end by that.
        let _flag = self.exchange(&ask, |draft| serialize(&ask, draft));
    }

    /// Sends the request, as `write` writes it.
    fn send(&mut self, kind: Kind, ask: &Ask, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.draft.clear();
        frame::write(&mut self.draft, kind, write);
        self.is_unheard |= kind != Kind::Ask;
        // A test makes a worker die while the guest uses an object, not while it opens one.
        if matches!(ask.op, Op::Open { .. }) {
            return self.connection.send(&self.draft);
        }
        fault_point!(BeforeAsk);
        #[cfg(feature = "fault-points")]
        if fault::is_armed(FaultPhase::MidAsk) || kind == Kind::Post && fault::is_armed(FaultPhase::MidPost) {
            self.connection.send(&self.draft[..self.draft.len() - 1])?;
            fault_point!(MidAsk);
            fault_point!(MidPost);
        }
        self.connection.send(&self.draft)?;
        fault_point!(AfterAsk);
        #[cfg(feature = "fault-points")]
        if kind == Kind::Post {
            fault_point!(AfterPost);
        }
        Ok(())
    }

    /// Takes the next item that the task was given ahead. `None`: it must ask.
    fn take_ahead(&mut self, object: Granted, longest: u64) -> Option<Item> {
        self.ahead.first(object).filter(|item| item.data.0.len() as u64 <= longest)?;
        if !self.page.take_one_ahead(self.ahead.len()) {
            self.ahead.items.clear();
            return None;
        }
        self.ahead.taken += 1;
        fault_point!(TakenAhead);
        self.ahead.items.pop_front()
    }

    fn has_ahead(&self, object: Granted) -> bool {
        self.ahead.first(object).is_some() && self.page.has_ahead(self.ahead.len())
    }

    /// Keeps the items behind the first, which were given ahead. What there was before was taken back.
    fn keep_ahead(&mut self, object: Granted, mut answer: Answer) -> Answer {
        if let Answer::Items { items } = &mut answer
            && items.len() > 1
        {
            self.ahead.object = object;
            self.ahead.items = items.drain(1..).collect();
        }
        answer
    }

    /// Takes the cost of a put from the credit. `false`: there is too little, so that the put needs an
    /// answer.
    fn spend(&mut self, op: &Op, cost: u64) -> Result<bool, Unanswered> {
        let Op::On { object, .. } = op else { return Ok(false) };
        if self.credits.get(object).is_none_or(|credit| *credit < cost) {
            return Ok(false);
        }
        // The queue may have been closed. That is told before the call that closes it returns.
        while self.notices != self.page.notices() {
            let frame = self.connection.recv()?;
            if frame.kind != Kind::Credit {
                return Err(Unanswered::Nonsense);
            }
            let (object, credit) = read_credit(frame.payload)?;
            self.note_credit(object, credit);
        }
        let Some(credit) = self.credits.get_mut(object).filter(|credit| **credit >= cost) else {
            return Ok(false);
        };
        *credit -= cost;
        Ok(true)
    }

    /// Zero: the queue takes nothing without an answer any more.
    fn note_credit(&mut self, object: Granted, credit: u64) {
        let all = self.credits.entry(object).or_default();
        if credit == 0 {
            *all = 0;
            self.notices = self.notices.wrapping_add(1);
        } else {
            *all += credit;
        }
    }
}

fn read_credit(payload: &[u8]) -> Result<(Granted, u64), Unanswered> {
    let (object, credit) = payload.split_first_chunk().ok_or(Unanswered::Nonsense)?;
    let credit = credit.try_into().map_err(|_| Unanswered::Nonsense)?;
    Ok((Granted::from_le_bytes(*object), u64::from_le_bytes(credit)))
}

fn serialize(ask: &Ask, out: &mut Vec<u8>) {
    *out = postcard::to_extend(ask, std::mem::take(out)).expect("a vector takes every byte");
}

/// Appends a request to put these items, as if they were in `ask`.
fn serialize_put<'b>(ask: &Ask, items: impl ExactSizeIterator<Item = &'b [u8]>, out: &mut Vec<u8>) {
    debug_assert!(
        matches!(&ask.op, Op::On { act: Act::Put { items }, .. } if items.is_empty()),
        "the items come last in a request, and none are in it"
    );
    serialize(ask, out);
    // The number of the items, which is 0, is the last byte.
    out.pop();
    push_number(items.len(), out);
    for item in items {
        push_number(item.len(), out);
        out.extend_from_slice(item);
    }
}

/// Appends a number as postcard writes it: seven bits in each byte, the lowest first.
fn push_number(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        // Only the lowest bits are kept.
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}
