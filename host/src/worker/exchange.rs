//! A worker's second socket: through it the guest asks the coordinator something in the middle of a task, and
//! waits for the answer.
//!
//! There is one request at a time. A wait needs no ticks and takes no processor time: the worker sleeps in a
//! receive, and the coordinator answers in time if the task's time ends or the task is cancelled.

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::connection::{self, Carrier};
    use crate::spec::exchange::{Bytes, Code};
    use crate::spec::lease::Lease;
    use crate::sys::{CoordinatorPage, ExchangePage};

    fn ask(op: Op) -> Ask {
        ask_in(300, op)
    }

    fn ask_in(task: u64, op: Op) -> Ask {
        Ask { task, timeout: Some(Duration::from_millis(7)), left: None, op }
    }

    fn put(items: Vec<Bytes>) -> Ask {
        ask(Op::On { object: 1, act: Act::Put { items } })
    }

    #[test]
    fn items_that_are_written_one_by_one_are_read_as_one_request() {
        let (long, longer) = (vec![7; 127], vec![8; 20_000]);
        let cases: [Vec<&[u8]>; 5] =
            [vec![], vec![b""], vec![b"a", &long, b""], vec![&longer], vec![b"x"; 300]];
        for items in cases {
            let mut draft = vec![];
            serialize_put(&put(vec![]), items.iter().copied(), &mut draft);
            let whole = put(items.iter().map(|item| Bytes(item.to_vec())).collect());
            assert_eq!(draft, postcard::to_allocvec(&whole).unwrap());
            assert_eq!(postcard::from_bytes::<Ask>(&draft).unwrap(), whole);
        }
    }

    /// A link with a page of its own.
    fn link_on(socket: OwnedFd, spins: bool) -> (Link, ExchangePage) {
        let (page, fd) = CoordinatorPage::create().unwrap();
        let its_own = Arc::new(WorkerPage::open(fd).unwrap());
        (Link::new(Arc::new(socket), its_own, spins), page.exchange())
    }

    /// A link, and what answers it with these answers in turn. It gives what was asked.
    fn answered(answers: Vec<Answer>) -> (Link, std::thread::JoinHandle<Vec<String>>) {
        let (ours, theirs) = connection::pair().unwrap();
        (link_on(theirs, true).0, answering(ours, answers))
    }

    fn answering(ours: OwnedFd, answers: Vec<Answer>) -> std::thread::JoinHandle<Vec<String>> {
        std::thread::spawn(move || {
            let mut connection = Connection::new(ours, Caps::IDLE);
            let mut heard = Vec::new();
            let mut answers = answers.into_iter();
            while let Ok(frame) = connection.recv() {
                if frame.kind == Kind::Ended {
                    heard.push(format!("ended {:?}", frame.payload));
                    continue;
                }
                heard.push(format!("{:?}", postcard::from_bytes::<Ask>(frame.payload).unwrap().op));
                let Some(answer) = answers.next() else { break };
                let mut bytes = Vec::new();
                frame::write(&mut bytes, Kind::Answer, |out| {
                    out.extend(postcard::to_allocvec(&answer).unwrap());
                });
                connection.send(&bytes).unwrap();
            }
            heard
        })
    }

    fn open(task: u64, name: &str) -> Ask {
        ask_in(task, Op::Open { kind: ObjectKind::Queue, name: name.to_owned() })
    }

    #[test]
    fn an_object_is_opened_once_in_the_life_of_a_worker_and_a_refusal_is_asked_again() {
        let refused = Answer::Failed { code: Code::NotGranted, message: "no".to_owned() };
        let opened = Answer::Opened { object: 5 };
        let (link, exchange) = answered(vec![opened.clone(), refused.clone(), refused.clone()]);
        for _ in 0..3 {
            assert_eq!(link.ask(open(2, "a")).unwrap(), opened);
        }
        for _ in 0..2 {
            assert_eq!(link.ask(open(2, "b")).unwrap(), refused);
        }
        drop(link);
        assert_eq!(exchange.join().unwrap().len(), 3);
    }

    #[test]
    fn x6_a_task_with_credit_puts_without_an_answer_until_the_queue_is_closed() {
        let (ours, theirs) = connection::pair().unwrap();
        let (link, page) = link_on(theirs, false);
        let closed = || Answer::Failed { code: Code::Closed, message: String::new() };
        let say = |socket: &mut OwnedFd, kind, payload: &[u8]| {
            let mut bytes = Vec::new();
            frame::write(&mut bytes, kind, |out| out.extend_from_slice(payload));
            socket.send(&bytes).unwrap();
        };
        let credit = |credit: u64| [&1u32.to_le_bytes()[..], &credit.to_le_bytes()].concat();
        let answer = |answer: &Answer| postcard::to_allocvec(answer).unwrap();
        let item = || [&b"item"[..]].into_iter();
        let (revoke, revoked) = std::sync::mpsc::channel();
        let exchange = std::thread::spawn(move || {
            let mut sender = ours.try_clone().unwrap();
            let mut connection = Connection::new(ours, Caps::IDLE);
            let mut kinds = Vec::new();
            while let Ok(frame) = connection.recv() {
                kinds.push(frame.kind);
                match kinds.len() {
                    1 => {
                        say(&mut sender, Kind::Credit, &credit(2 * cost(4)));
                        say(&mut sender, Kind::Answer, &answer(&Answer::Count(1)));
                    }
                    2 => {
                        page.notify();
                        say(&mut sender, Kind::Credit, &credit(0));
                        revoke.send(()).unwrap();
                    }
                    3 => say(&mut sender, Kind::Answer, &answer(&closed())),
                    _ => {}
                }
            }
            kinds
        });
        for _ in 0..2 {
            assert_eq!(link.put(&put(vec![]), item()).unwrap(), Answer::Count(1));
        }
        revoked.recv().unwrap();
        assert_eq!(link.put(&put(vec![]), item()).unwrap(), closed(), "although there was credit");
        link.end_task(true);
        drop(link);
        assert_eq!(exchange.join().unwrap(), [Kind::Ask, Kind::Post, Kind::Ask, Kind::Ended]);
    }

    /// A link to which object 1 is leased, and its page.
    fn leased(answers: Vec<Answer>) -> (Link, ExchangePage, std::thread::JoinHandle<Vec<String>>) {
        let (ours, theirs) = connection::pair().unwrap();
        let (link, page) = link_on(theirs, false);
        page.give_lease(1, Lease::Free.to_word().unwrap());
        (link, page, answering(ours, answers))
    }

    #[test]
    fn l1_l6_what_is_leased_needs_no_message_until_it_is_taken_back() {
        let (link, page, exchange) = leased(vec![]);
        for is_recursive in [false, true] {
            assert_eq!(link.is_locked(1), Some(false));
            assert_eq!(link.acquire(1, 7, is_recursive), Some(false));
            assert_eq!(link.is_locked(1), Some(true));
            assert_eq!(link.acquire(1, 7, is_recursive), is_recursive.then_some(false));
            assert!(!is_recursive || link.release(1, 7));
            assert!(link.release(1, 7) && !link.release(1, 7));
        }
        link.acquire(1, 8, false);
        link.end_task(true);
        assert_eq!(link.acquire(1, 9, false), Some(true), "the owner before has not released it");
        assert!(link.release(1, 9));
        assert_eq!(Lease::from_word(page.take_lease(1)), Lease::Free);
        let asks = (link.acquire(1, 9, false), link.release(1, 9), link.is_locked(1));
        assert_eq!(asks, (None, false, None));
        for object in [0, 2, 63, 64, u32::MAX] {
            assert_eq!(link.acquire(object, 9, false), None);
        }
        link.end_task(true);
        drop(link);
        assert!(exchange.join().unwrap().is_empty());
    }

    #[test]
    fn l9_a_task_that_held_a_lock_when_its_lease_was_taken_back_tells_its_end() {
        let (link, page, exchange) = leased(vec![Answer::Flag(true)]);
        link.acquire(1, 7, false);
        assert_eq!(Lease::from_word(page.take_lease(1)), Lease::Held { task: 7, count: 1 });
        link.end_task(true);
        // One that has released it before has nothing to tell.
        page.give_lease(1, Lease::Free.to_word().unwrap());
        link.acquire(1, 8, false);
        link.release(1, 8);
        page.take_lease(1);
        link.end_task(true);
        drop(link);
        let heard = exchange.join().unwrap();
        let ended = format!("ended {:?}", [7, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((heard.len(), heard[0].contains("Status"), &heard[1]), (2, true, &ended));
    }

    #[test]
    fn x6_what_a_task_puts_before_it_releases_a_leased_lock_is_read_before_the_release() {
        let (mut ours, theirs) = connection::pair().unwrap();
        let (link, page) = link_on(theirs, false);
        page.give_lease(1, Lease::Free.to_word().unwrap());
        let mut credit = Vec::new();
        frame::write(&mut credit, Kind::Credit, |out| {
            out.extend([&1u32.to_le_bytes()[..], &1000u64.to_le_bytes()].concat());
        });
        Carrier::send(&mut ours, &credit).unwrap();
        let exchange = answering(ours, vec![Answer::Count(1)]);
        let item = || [&b"item"[..]].into_iter();
        link.put(&put(vec![]), item()).unwrap();
        link.acquire(1, 300, false);
        assert!(link.release(1, 300), "the put was answered");
        link.acquire(1, 300, false);
        link.put(&put(vec![]), item()).unwrap();
        assert!(!link.release(1, 300), "this one was not");
        drop(link);
        assert_eq!(exchange.join().unwrap().len(), 2);
    }

    #[test]
    fn x7_items_that_came_ahead_are_taken_without_asking_until_they_are_taken_back() {
        let (mut ours, theirs) = connection::pair().unwrap();
        let (link, page) = link_on(theirs, false);
        let item = |text: &str| Item { data: Bytes(text.as_bytes().to_vec()), redelivered: false };
        let items = |texts: &[&str]| Answer::Items { items: texts.iter().map(|text| item(text)).collect() };
        let mut say = |answer: &Answer| {
            let mut bytes = Vec::new();
            let answer = postcard::to_allocvec(answer).unwrap();
            frame::write(&mut bytes, Kind::Answer, |out| out.extend_from_slice(&answer));
            ours.send(&bytes).unwrap();
        };
        let on = |object, act| link.ask(ask(Op::On { object, act })).unwrap();
        let get = |most, longest| on(1, Act::Get { most, longest });
        say(&items(&["a", "b", "c", "longer", "d"]));
        page.set_ahead(4);
        assert_eq!(get(1, 9), items(&["a"]));
        assert_eq!((get(1, 9), get(1, 9)), (items(&["b"]), items(&["c"])));
        assert_eq!(page.ahead(), 2);
        // Another object, several items, or an item that is too long for the caller: these need an answer.
        for (answer, act) in [(&items(&["e"]), Act::Get { most: 2, longest: 9 }), (&Answer::Done, Act::Join)]
        {
            say(answer);
            assert_eq!(&on(1, act), answer);
        }
        assert_eq!(on(1, Act::Poll), Answer::Flag(true), "without asking");
        say(&items(&["f"]));
        assert_eq!(on(2, Act::Get { most: 1, longest: 9 }), items(&["f"]));
        say(&items(&["g"]));
        assert_eq!(get(1, 3), items(&["g"]));
        assert_eq!(page.take_ahead(), 2, "none of these has taken one");
        say(&items(&["longer"]));
        assert_eq!(get(1, 9), items(&["longer"]), "it asks again");
        say(&items(&["h", "i"]));
        page.set_ahead(1);
        assert_eq!(get(1, 9), items(&["h"]));
        link.end_task(true);
        say(&items(&["j"]));
        assert_eq!(get(1, 9), items(&["j"]), "the next task has nothing ahead");
        drop(link);
        let mut heard = Connection::new(ours, Caps::IDLE);
        let mut kinds = Vec::new();
        while let Ok(frame) = heard.recv() {
            kinds.push(frame.kind);
        }
        assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Ask).count(), 8);
    }

    #[test]
    fn the_end_is_told_of_a_task_that_has_asked_and_of_no_other() {
        let (link, exchange) = answered(vec![Answer::Opened { object: 0 }, Answer::Count(1)]);
        link.end_task(true);
        link.ask(open(2, "a")).unwrap();
        link.end_task(true);
        // This one uses what the worker knows already.
        link.ask(open(3, "a")).unwrap();
        link.end_task(true);
        link.put(&put(vec![]), [&b"x"[..]].into_iter()).unwrap();
        link.end_task(false);
        link.end_task(false);
        drop(link);
        let heard = exchange.join().unwrap();
        let ended = |task: u64, has_returned: u8| {
            let mut payload = task.to_le_bytes().to_vec();
            payload.push(has_returned);
            format!("ended {payload:?}")
        };
        assert_eq!((heard.len(), &heard[1], &heard[3]), (4, &ended(2, 1), &ended(300, 0)));
    }

    #[test]
    fn a_coordinator_that_is_gone_is_no_answer_and_neither_is_another_frame() {
        let (link, exchange) = answered(vec![]);
        assert!(matches!(link.ask(open(2, "a")), Err(Unanswered::Gone)));
        assert_eq!(exchange.join().unwrap().len(), 1);
        assert!(matches!(link.ask(open(2, "a")), Err(Unanswered::Gone)));
        link.end_task(true);

        for (kind, payload) in [(Kind::Control, &[0][..]), (Kind::Answer, &[0xff])] {
            let (mut ours, theirs) = connection::pair().unwrap();
            let mut bytes = Vec::new();
            frame::write(&mut bytes, kind, |out| out.extend_from_slice(payload));
            ours.send(&bytes).unwrap();
            let (link, _page) = link_on(theirs, false);
            assert!(matches!(link.ask(open(2, "a")), Err(Unanswered::Nonsense)));
        }
    }
}
