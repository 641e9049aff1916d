//! The state of the exchange, and the lock before it.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, poll};

use super::calls::{self, Calls};
use super::core::event::{Action, CallId, Event, MemberId, Ticket};
use super::core::{Exchange, Hand};
use super::peer::{Notes, Peer, ReadResult};
use crate::clock;
use crate::protocol::frame::Violation;
use crate::protocol::session::FromMember;
use crate::spec::exchange::{Answer, Code};
use crate::spec::lease::Lease;
use crate::sys::{self, ExchangePage};

/// Events of one look at the sockets.
const EVENTS: usize = 64;
/// Reads of one member before the others have their turn.
const ROUNDS: usize = 4;
/// Reads of a member that is gone. Its socket holds some hundred KiB at most.
const LAST_ROUNDS: usize = 64;
/// A member that has posted in this many turns in a row, and asked for nothing, will go on. The number is
/// larger than that of the items that a task has ahead: one that gets and puts in turns asks in between.
const POSTING_TURNS: u32 = 100;
/// How often the posts of such a member are read, if nothing waits for them.
const MUTED_TIME: Duration = Duration::from_micros(100);
/// The token of the eventfd that wakes the thread. No member has this number.
const TOKEN_WAKER: u64 = 0;

/// All shared objects of this program, and all members.
#[derive(Debug)]
pub(super) struct Shared {
    /// The process that has made this. A fork of it has a copy, with no thread behind it, and perhaps with a
    /// lock that is held for ever.
    home: u32,
    /// The beginning of the core's time.
    epoch: Instant,
    last_id: AtomicU64,
    state: Mutex<ExchangeState>,
    /// That of a process that is a fork of `home`.
    of_fork: OnceLock<Box<Shared>>,
}

/// What lies behind the lock.
#[derive(Debug, Default)]
pub(super) struct ExchangeState {
    core: Exchange,
    /// The latest time that the core was told.
    now: Duration,
    peers: HashMap<MemberId, Peer>,
    /// The status pages of the members, for their leases. One that is lost has it until the core knows.
    pages: HashMap<MemberId, ExchangePage>,
    /// Those that have posted in this turn.
    posters: Vec<MemberId>,
    /// Those whose sockets are not watched for posts.
    muted: Vec<MemberId>,
    tickets: HashMap<Ticket, Arc<AnswerSlot>>,
    /// The calls of functions whose answers are wanted.
    calls: HashMap<CallId, Arc<Calls>>,
    /// `None`: there are no members, and no thread.
    ears: Option<Arc<Ears>>,
    sleep: Sleep,
    /// What is to be done without the lock.
    later: Vec<AfterUnlock>,
    /// A buffer, kept for its memory.
    actions: Vec<Action>,
}

/// Whether the thread must be woken when something is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Sleep {
    #[default]
    Awake,
    Until(Option<Duration>),
}

/// What the thread waits for.
#[derive(Debug)]
pub(super) struct Ears {
    epoll: OwnedFd,
    waker: OwnedFd,
}

impl Ears {
    fn new() -> io::Result<Ears> {
        let epoll = sys::above_stdio(epoll::create(CreateFlags::CLOEXEC)?)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let waker = sys::above_stdio(rustix::event::eventfd(0, flags)?)?;
        epoll::add(&epoll, &waker, EventData::new_u64(TOKEN_WAKER), EventFlags::IN)?;
        Ok(Ears { epoll, waker })
    }

    fn wake(&self) {
        // The write fails only if the counter is full. Then a wake-up is pending already.
        let _pending = rustix::io::write(&self.waker, &1u64.to_ne_bytes());
    }

    /// Waits until something has happened. Gives the tokens.
    pub(super) fn wait(&self, left: Option<Duration>) -> io::Result<Vec<u64>> {
        clock::nap(left, |timeout| {
            // `epoll_wait` counts in milliseconds. The muted members are read ten times as often.
            if timeout.tv_sec == 0 && timeout.tv_nsec < 1_000_000 {
                let _how_many = poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(timeout));
                return self.look(Some(&Timespec::default()));
            }
            self.look(Some(timeout))
        })
    }

    fn look(&self, timeout: Option<&Timespec>) -> io::Result<Vec<u64>> {
        let mut room = [const { MaybeUninit::uninit() }; EVENTS];
        match epoll::wait(&self.epoll, &mut room, timeout) {
            Ok((events, _)) => Ok(events.iter().map(|event| event.data.u64()).collect()),
            Err(rustix::io::Errno::INTR) => Ok(Vec::new()),
            Err(e) => Err(e.into()),
        }
    }
}

/// What is done once the lock is free.
#[derive(Debug)]
enum AfterUnlock {
    Answer(Arc<AnswerSlot>, Answer),
    Stalled(Arc<Notes>),
    Fault(Arc<Notes>, String),
    /// A member that is gone. What its pool or its functions have of the application may be dropped with it.
    Drop(Box<Peer>),
    /// There is a call to run.
    Run(Arc<Calls>),
}

impl AfterUnlock {
    fn run(self) {
        match self {
            AfterUnlock::Answer(slot, answer) => slot.fill(answer),
            AfterUnlock::Stalled(notes) => (notes.on_stall)(),
            AfterUnlock::Fault(notes, reason) => (notes.on_fault)(reason),
            AfterUnlock::Drop(peer) => drop(peer),
            AfterUnlock::Run(calls) => calls.run(),
        }
    }
}

/// Where the answer to a request of the host comes to.
#[derive(Debug, Default)]
pub(super) struct AnswerSlot {
    answer: Mutex<Option<Answer>>,
    has_come: Condvar,
}

impl AnswerSlot {
    fn fill(&self, answer: Answer) {
        *self.lock() = Some(answer);
        self.has_come.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Answer>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the answer, for `left` at most.
    pub(super) fn wait(&self, left: Option<Duration>) -> Option<Answer> {
        let mut answer = self.lock();
        if answer.is_none() {
            let is_missing = |answer: &mut Option<Answer>| answer.is_none();
            answer = match left {
                None => self.has_come.wait_while(answer, is_missing).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = self.has_come.wait_timeout_while(answer, left, is_missing);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        answer.take()
    }
}

impl Shared {
    /// `last_id`: the last number that is taken.
    fn new(last_id: u64) -> Shared {
        Shared {
            home: sys::home(),
            epoch: clock::now(),
            last_id: AtomicU64::new(last_id),
            state: Mutex::default(),
            of_fork: OnceLock::new(),
        }
    }

    /// That of this process.
    pub(super) fn here() -> &'static Shared {
        static FIRST: LazyLock<Shared> = LazyLock::new(|| Shared::new(TOKEN_WAKER));
        let mut shared = &*FIRST;
        while !shared.is_home() {
            // The number of an object of the other process is no object here.
            let new = || Box::new(Shared::new(shared.last_id.load(Ordering::Relaxed)));
            shared = shared.of_fork.get_or_init(new);
        }
        shared
    }

    /// Whether it belongs to this process, and not to one that this process is a fork of.
    pub(super) fn is_home(&self) -> bool {
        self.home == sys::home()
    }

    /// A number for an object, a member, a site or a request, which is never used again.
    pub(super) fn new_id(&self) -> u64 {
        // The number alone counts, so that no order is needed.
        1 + self.last_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Calls `act` with the state, and then does without the lock what is to be done. `None`: this is a fork,
    /// or the exchange has met a bug of wpool.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut ExchangeState) -> R) -> Option<R> {
        if !self.is_home() {
            return None;
        }
        let mut state = self.state.lock().ok()?;
        // Never backwards: a pause of the program that is found out later takes time back.
        state.now = state.now.max(clock::now().saturating_duration_since(self.epoch));
        let given = act(&mut state);
        state.wake_thread();
        let later = std::mem::take(&mut state.later);
        drop(state);
        later.into_iter().for_each(AfterUnlock::run);
        Some(given)
    }

    /// The program has closed all descriptors, those of the exchange among them. Their numbers may belong to
    /// other files by now, so that none is closed. The members see the ends of their sockets.
    pub(super) fn abandon(&self) {
        let _has_met_a_bug = self.with(|state| {
            std::mem::forget(state.ears.take());
            for (member, peer) in std::mem::take(&mut state.peers) {
                let reason = "this program has closed the descriptor of its second socket".to_owned();
                state.later.push(AfterUnlock::Fault(peer.notes().clone(), reason));
                std::mem::forget(peer);
                state.on(Event::Gone { member });
                state.pages.remove(&member);
            }
        });
    }

    /// The exchange has met a bug of wpool. No worker and no thread waits on.
    pub(super) fn give_up(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ExchangeState { peers, tickets, ears, .. } = &mut *state;
        let (peers, tickets) = (std::mem::take(peers), std::mem::take(tickets));
        ears.take();
        drop(state);
        for peer in peers.into_values() {
            (peer.notes().on_fault)("its second socket is closed after a bug of wpool".to_owned());
        }
        tickets.into_values().for_each(|slot| slot.fill(gone()));
    }
}

impl calls::Callers for &'static Shared {
    fn returned(&self, call: CallId, answer: Answer) {
        let _in_fork = self.with(|state| state.returned(call, answer));
    }

    fn hear(&self) {
        let _in_fork = self.with(ExchangeState::hear_all);
    }
}

/// The answer of an exchange that is none any more.
pub(super) fn gone() -> Answer {
    let message = "the exchange of this program has ended".to_owned();
    Answer::Failed { code: Code::Closed, message }
}

impl ExchangeState {
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// When something is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.core.next_due()
    }

    /// Tells the core of an event, and carries out what it decides.
    pub(super) fn on(&mut self, event: Event) {
        while let Some(lessee) = self.core.lease_before(&event) {
            let word = self.pages.get(&lessee.member).map_or(0, |page| page.take_lease(lessee.object));
            self.core.recalled(lessee, Lease::from_word(word));
        }
        let mut actions = std::mem::take(&mut self.actions);
        self.core.on(self.now, event, &mut actions);
        actions.drain(..).for_each(|action| self.act(action));
        self.actions = actions;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Answer { member, answer } => {
                if let Some(peer) = self.peers.get_mut(&member) {
                    peer.answer(&answer);
                    self.watch(member);
                }
            }
            Action::Credit { member, object, credit } => {
                if let Some(peer) = self.peers.get_mut(&member) {
                    peer.credit(object, credit);
                    self.watch(member);
                }
            }
            Action::Lease { lessee, lease } => {
                if let (Some(page), Some(word)) = (self.pages.get(&lessee.member), lease.to_word()) {
                    page.give_lease(lessee.object, word);
                }
            }
            Action::AnswerHost { ticket, answer } => {
                self.later.extend(self.tickets.remove(&ticket).map(|slot| AfterUnlock::Answer(slot, answer)));
            }
            Action::Stalled { member } => {
                self.later
                    .extend(self.peers.get(&member).map(|peer| AfterUnlock::Stalled(peer.notes().clone())));
            }
            Action::Call { call, member, function, args } => {
                if let Some(calls) = self.peers.get(&member).and_then(Peer::calls) {
                    // Queued under the lock: a `Forget` that follows must find it.
                    calls.push(call, function, args);
                    self.later.push(AfterUnlock::Run(calls.clone()));
                    self.calls.insert(call, calls.clone());
                }
            }
            Action::Forget { call } => {
                self.calls.remove(&call).iter().for_each(|calls| calls.forget(call));
            }
        }
    }

    /// A function has returned. The answer counts for nothing if the task that has called is over.
    pub(super) fn returned(&mut self, call: CallId, answer: Answer) {
        if self.calls.remove(&call).is_some() {
            self.on(Event::Returned { call, answer });
        }
    }

    /// A thread of the program waits for the answer to this request.
    pub(super) fn expect(&mut self, ticket: Ticket) -> Arc<AnswerSlot> {
        self.tickets.entry(ticket).or_default().clone()
    }

    // Members.

    /// The member may be given items ahead.
    pub(super) fn give_hand(&mut self, member: MemberId, hand: Box<dyn Hand>) {
        self.core.give_hand(member, hand);
    }

    /// A worker becomes a member. `start` starts the thread, for the first of them. `Err`: its socket cannot
    /// be listened to.
    pub(super) fn join(
        &mut self,
        member: MemberId,
        peer: Peer,
        start: impl FnOnce(Arc<Ears>) -> io::Result<()>,
    ) -> io::Result<()> {
        let ears = match &self.ears {
            Some(ears) => ears.clone(),
            None => {
                let ears = Arc::new(Ears::new()?);
                start(ears.clone())?;
                self.ears.insert(ears).clone()
            }
        };
        epoll::add(&ears.epoll, peer.socket(), EventData::new_u64(member), EventFlags::IN)?;
        self.pages.insert(member, peer.page().clone());
        self.peers.insert(member, peer);
        Ok(())
    }

    /// Reads what members have sent, without waiting. What a task has said before its result is then known to
    /// the thread that has seen the result.
    pub(super) fn hear_all(&mut self) {
        let Some(ears) = self.ears.clone() else { return };
        self.hear_muted();
        // One look gives `EVENTS` members at most. The kernel gives the others at the next look.
        for _ in 0..=self.peers.len() / EVENTS {
            let Ok(tokens) = ears.look(Some(&Timespec::default())) else { return };
            self.hear(&tokens);
            if tokens.len() < EVENTS {
                return;
            }
        }
    }

    /// Reads what a member has sent, without waiting.
    pub(super) fn hear_of(&mut self, member: MemberId) {
        self.serve(member, ROUNDS);
    }

    /// Serves these members' sockets.
    pub(super) fn hear(&mut self, tokens: &[u64]) {
        for token in tokens {
            match *token {
                TOKEN_WAKER => {
                    let waker = self.ears.as_ref().map(|ears| &ears.waker);
                    let _empty = waker.map(|waker| rustix::io::read(waker, &mut [0; 8]));
                }
                member => {
                    self.serve(member, ROUNDS);
                }
            }
        }
    }

    /// Reads what a member has sent. Gives whether there was anything.
    fn serve(&mut self, member: MemberId, rounds: usize) -> bool {
        if let Some(peer) = self.peers.get_mut(&member) {
            peer.flush();
            self.watch(member);
        }
        for round in 0..rounds {
            let Some(peer) = self.peers.get_mut(&member) else { return true };
            match peer.receive() {
                Ok(ReadResult::Nothing) => return round > 0,
                Ok(ReadResult::Some) => {
                    self.handle_messages(member);
                    // Usually there is no more: another read would be a system call for nothing.
                    if rounds < LAST_ROUNDS {
                        return true;
                    }
                }
                Ok(ReadResult::Full) => self.handle_messages(member),
                Ok(ReadResult::End) => self.lose(member),
                Err(violation) => self.lose_for_violation(member, &violation),
            }
        }
        true
    }

    /// Tells the core what the member has said.
    fn handle_messages(&mut self, member: MemberId) {
        let mut last: Option<FromMember> = None;
        while let Some(peer) = self.peers.get_mut(&member) {
            let mut said = peer.next();
            if let (Some(last), Ok(next)) = (&mut last, &mut said)
                && last.absorb(next)
            {
                continue;
            }
            last.take().into_iter().for_each(|said| self.tell(member, said));
            match said {
                Ok(None) => return,
                Ok(next) => last = next,
                Err(violation) => return self.lose_for_violation(member, &violation),
            }
        }
    }

    fn tell(&mut self, member: MemberId, said: FromMember) {
        self.note_posting(member, &said);
        self.on(match said {
            FromMember::Asked(ask) => Event::Asked { member, ask },
            FromMember::Posted { task, taken, object, items } => {
                Event::Posted { member, task, taken, object, items }
            }
            FromMember::Ended { task, has_returned } => Event::Ended { member, task, has_returned },
        });
    }

    /// Listens to the socket for what is wanted of it.
    fn watch(&mut self, member: MemberId) {
        let (Some(ears), Some(peer)) = (&self.ears, self.peers.get_mut(&member)) else { return };
        if let Some(flags) = peer.new_flags() {
            let _gone = epoll::modify(&ears.epoll, peer.socket(), EventData::new_u64(member), flags);
        }
    }

    /// The member breaks the protocol. Nothing more is heard of it.
    fn lose_for_violation(&mut self, member: MemberId, violation: &Violation) {
        if let Some(peer) = self.peers.get(&member) {
            let reason = format!("protocol error on its second socket: {violation}");
            self.later.push(AfterUnlock::Fault(peer.notes().clone(), reason));
        }
        self.lose(member);
    }

    /// The member says nothing more.
    fn lose(&mut self, member: MemberId) {
        if let Some(peer) = self.peers.remove(&member) {
            if let Some(ears) = &self.ears {
                let _gone = epoll::delete(&ears.epoll, peer.socket());
            }
            self.later.push(AfterUnlock::Drop(Box::new(peer)));
            self.on(Event::Gone { member });
            self.pages.remove(&member);
        }
    }

    /// The worker is gone. What is still in its socket counts.
    pub(super) fn leave(&mut self, member: MemberId) {
        self.serve(member, LAST_ROUNDS);
        self.lose(member);
    }

    // The thread.

    fn wake_thread(&mut self) {
        let Sleep::Until(until) = self.sleep else { return };
        let is_earlier = |due| until.is_none_or(|until| due < until);
        if self.peers.is_empty() || self.next_due().is_some_and(is_earlier) {
            self.sleep = Sleep::Awake;
            self.ears.iter().for_each(|ears| ears.wake());
        }
    }

    // A post that wakes the thread costs the member that posts more than the post itself. Posts for which
    // nothing waits are read together.

    fn note_posting(&mut self, member: MemberId, said: &FromMember) {
        let Some(peer) = self.peers.get_mut(&member) else { return };
        match said {
            FromMember::Posted { .. } => {
                if !std::mem::replace(&mut peer.has_posted, true) {
                    self.posters.push(member);
                }
            }
            FromMember::Asked(_) | FromMember::Ended { .. } => peer.posting = 0,
        }
    }

    /// Reads what the muted members have posted. One that has said nothing is watched again.
    fn hear_muted(&mut self) {
        for member in std::mem::take(&mut self.muted) {
            let goes_on = self.serve(member, ROUNDS);
            if goes_on && self.peers.get(&member).is_some_and(|peer| peer.posting > 0) {
                self.muted.push(member);
            } else {
                self.mute(member, false);
            }
        }
    }

    /// The end of a turn: chooses the members whose posts can wait a moment.
    fn choose_muted(&mut self) {
        let mut posters = std::mem::take(&mut self.posters);
        for member in posters.drain(..) {
            let Some(peer) = self.peers.get_mut(&member) else { continue };
            peer.has_posted = false;
            peer.posting = peer.posting.saturating_add(1);
            if peer.posting >= POSTING_TURNS && !peer.is_muted && !self.core.is_awaited(member) {
                self.mute(member, true);
                self.muted.push(member);
            }
        }
        self.posters = posters;
        for member in std::mem::take(&mut self.muted) {
            if self.core.is_awaited(member) {
                self.mute(member, false);
            } else {
                self.muted.push(member);
            }
        }
    }

    fn mute(&mut self, member: MemberId, is_muted: bool) {
        if let Some(peer) = self.peers.get_mut(&member) {
            peer.is_muted = is_muted;
            self.watch(member);
        }
    }

    /// A turn of the thread. `tokens`: what has happened. Gives how long it may sleep.
    pub(super) fn turn(&mut self, tokens: &[u64]) -> ThreadStep {
        // First: another member may want what these have put.
        self.hear_muted();
        self.hear(tokens);
        if self.next_due().is_some_and(|due| due <= self.now) {
            self.on(Event::Tick);
        }
        if self.peers.is_empty() {
            // A member that joins later starts another thread.
            (self.ears, self.sleep) = (None, Sleep::Awake);
            return ThreadStep::Over;
        }
        self.choose_muted();
        let look = (!self.muted.is_empty()).then(|| self.now.saturating_add(MUTED_TIME));
        let due = self.next_due().into_iter().chain(look).min();
        self.sleep = Sleep::Until(due);
        ThreadStep::Sleep(due.map(|due| due.saturating_sub(self.now)))
    }
}

/// What the thread does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ThreadStep {
    /// It sleeps, for that long at most.
    Sleep(Option<Duration>),
    /// There are no members.
    Over,
}
