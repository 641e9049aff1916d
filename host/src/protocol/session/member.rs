//! What a worker may say through its second socket.

use std::collections::BTreeMap;

use crate::protocol::frame::{Frame, Kind, Violation};
use crate::spec::exchange::{
    Act, Ask, Bytes, Content, Granted, ITEM_LEN_MAX, ITEMS_MAX, KEY_LEN_MAX, NAME_LEN_MAX, Op, WAIT_MAX, cost,
};

/// The coordinator's side of the conversation through a worker's second socket.
#[derive(Debug)]
pub(crate) struct MemberSession {
    /// How many objects the worker may name.
    objects: usize,
    /// How many functions of the application it may call.
    functions: usize,
    turn: MemberTurn,
    /// The task that has spoken last.
    task: u64,
    /// What that task may still post to each queue.
    credits: BTreeMap<Granted, u64>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberTurn {
    /// No task has asked since the last one that has ended.
    Rests,
    /// The worker waits for an answer.
    Waits,
    /// The worker's task has its answer, and may ask again.
    Runs,
}

/// What a worker says through its second socket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromMember {
    Asked(Ask),
    /// This task puts items, and needs no answer.
    Posted {
        task: u64,
        /// How many items that it was given ahead the worker has taken in its life.
        taken: u64,
        object: Granted,
        items: Vec<Bytes>,
    },
    /// This task, and all before it, are over. `has_returned`: by itself.
    Ended {
        task: u64,
        has_returned: bool,
    },
}

impl FromMember {
    /// Takes what `next` puts, if both put to one queue: what waits for items is then given several at once.
    pub(crate) fn absorb(&mut self, next: &mut Option<FromMember>) -> bool {
        let (
            FromMember::Posted { task, taken, object, items },
            Some(FromMember::Posted { task: next_task, taken: next_taken, object: next_object, items: more }),
        ) = (self, next)
        else {
            return false;
        };
        let is_same = task == next_task && object == next_object;
        if is_same {
            *taken = *next_taken;
            items.append(more);
        }
        is_same
    }
}

impl MemberSession {
    /// A guest waits in its call: a worker that speaks meanwhile is none of ours. Without this rule a worker
    /// could fill the coordinator's memory with requests, or with answers that it does not read.
    pub(crate) const OUT_OF_TURN: Violation = Violation::Unexpected("it spoke before it had its answer");

    pub(crate) fn new(objects: usize, functions: usize) -> MemberSession {
        MemberSession { objects, functions, turn: MemberTurn::Rests, task: 0, credits: BTreeMap::new() }
    }

    /// Whether the worker waits for an answer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.turn == MemberTurn::Waits
    }

    /// The worker has been sent the whole answer.
    pub(crate) fn answered(&mut self) {
        self.turn = MemberTurn::Runs;
    }

    /// The worker may post this much more to a queue, until its task ends.
    pub(crate) fn credit(&mut self, object: Granted, credit: u64) {
        *self.credits.entry(object).or_default() += credit;
    }

    /// Judges the next frame.
    pub(crate) fn on(&mut self, frame: Frame<'_>) -> Result<FromMember, Violation> {
        if self.is_waiting() {
            return Err(Self::OUT_OF_TURN);
        }
        match frame.kind {
            Kind::Ask => self.ask(frame.payload),
            Kind::Post => self.post(frame.payload),
            Kind::Ended => self.end(frame.payload),
            _ => Err(Violation::Unexpected("only requests come through a second socket")),
        }
    }

    fn ask(&mut self, payload: &[u8]) -> Result<FromMember, Violation> {
        let ask = read(payload)?;
        if ask.task < self.task {
            return Err(Violation::Unexpected("a task asked that was over"));
        }
        self.judge(&ask.op)?;
        if ask.task > self.task {
            self.credits.clear();
        }
        self.task = ask.task;
        self.turn = MemberTurn::Waits;
        Ok(FromMember::Asked(ask))
    }

    /// Only a task that has asked has credit.
    fn post(&mut self, payload: &[u8]) -> Result<FromMember, Violation> {
        let (taken, ask) = payload
            .split_first_chunk()
            .ok_or_else(|| Violation::Malformed("a post that is too short".to_owned()))?;
        let (taken, ask) = (u64::from_le_bytes(*taken), read(ask)?);
        if self.turn != MemberTurn::Runs || ask.task != self.task {
            return Err(Violation::Unexpected("a task posted that had asked for nothing"));
        }
        self.judge(&ask.op)?;
        let Op::On { object, act: Act::Put { items } } = ask.op else {
            return Err(Violation::Unexpected("only items can be posted"));
        };
        let cost = items.iter().map(|data| cost(data.0.len())).sum();
        let left = self.credits.get(&object).and_then(|credit| credit.checked_sub(cost));
        let left = left.ok_or(Violation::Unexpected("a task posted more than it has credit for"))?;
        self.credits.insert(object, left);
        Ok(FromMember::Posted { task: ask.task, taken, object, items })
    }

    /// Only a task that has asked is told to be over, and once.
    fn end(&mut self, payload: &[u8]) -> Result<FromMember, Violation> {
        let (task, has_returned) = read_end(payload)?;
        if self.turn != MemberTurn::Runs || task != self.task {
            return Err(Violation::Unexpected("the end of a task that had asked for nothing"));
        }
        self.turn = MemberTurn::Rests;
        self.credits.clear();
        Ok(FromMember::Ended { task, has_returned })
    }

    /// The worker checks what its guest passes, so that a guest alone breaks none of these rules. Whether an
    /// act fits its object is not judged here: a guest may mistake one for another.
    fn judge(&self, op: &Op) -> Result<(), Violation> {
        let is_granted = |object: &Granted| (*object as usize) < self.objects;
        let is_fine = match op {
            Op::Open { name, .. } => name.len() <= NAME_LEN_MAX,
            Op::On { object, act } => is_granted(object) && is_short(act),
            Op::Wait { objects } => objects.len() <= WAIT_MAX && objects.iter().all(is_granted),
            Op::Call { function, args } => {
                (*function as usize) < self.functions && args.len() <= ITEM_LEN_MAX
            }
        };
        if is_fine { Ok(()) } else { Err(Violation::Unexpected("a request that no guest can make")) }
    }
}

/// The number of the task, and whether it has returned.
fn read_end(payload: &[u8]) -> Result<(u64, bool), Violation> {
    match payload.split_first_chunk() {
        Some((task, [has_returned @ (0 | 1)])) => Ok((u64::from_le_bytes(*task), *has_returned == 1)),
        _ => Err(Violation::Malformed("the end of a task that is not a number and a flag".to_owned())),
    }
}

fn read(payload: &[u8]) -> Result<Ask, Violation> {
    match postcard::take_from_bytes(payload) {
        Ok((ask, [])) => Ok(ask),
        Ok(_) => Err(Violation::Malformed("a request that is followed by other bytes".to_owned())),
        Err(error) => Err(Violation::Malformed(error.to_string())),
    }
}

/// Whether everything in the act is within its cap.
fn is_short(act: &Act) -> bool {
    let is_short = |bytes: &Bytes| bytes.0.len() <= ITEM_LEN_MAX;
    let are_short = |bytes: &[&Option<Bytes>]| bytes.iter().all(|bytes| bytes.as_ref().is_none_or(is_short));
    let fits = |content: &Content| match content {
        Content::Integer(_) => true,
        Content::Bytes(bytes) => is_short(bytes),
    };
    match act {
        Act::Put { items } => items.len() <= ITEMS_MAX && items.iter().all(is_short),
        Act::Get { most, .. } => *most as usize <= ITEMS_MAX,
        Act::Store { content } => fits(content),
        Act::Swap { expected, new } => fits(expected) && fits(new),
        Act::Look { key } => key.len() <= KEY_LEN_MAX,
        Act::Enter { key, data } => key.len() <= KEY_LEN_MAX && are_short(&[data]),
        Act::SwapEntry { key, expected, new } => key.len() <= KEY_LEN_MAX && are_short(&[expected, new]),
        Act::Poll
        | Act::TaskDone { .. }
        | Act::Join
        | Act::Close
        | Act::Status
        | Act::Acquire
        | Act::Release { .. }
        | Act::Wait
        | Act::Set
        | Act::Clear
        | Act::Notify { .. }
        | Act::Abort
        | Act::Reset
        | Act::Load
        | Act::Add { .. }
        | Act::Keys
        | Act::Len => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::exchange::ObjectKind;

    fn payload(task: u64, op: Op) -> Vec<u8> {
        postcard::to_allocvec(&Ask { task, timeout: None, left: None, op }).unwrap()
    }

    fn load(object: Granted) -> Op {
        Op::On { object, act: Act::Load }
    }

    fn say(session: &mut MemberSession, kind: Kind, payload: &[u8]) -> Result<FromMember, Violation> {
        session.on(Frame { kind, payload })
    }

    fn ask(session: &mut MemberSession, task: u64, op: Op) -> Result<FromMember, Violation> {
        say(session, Kind::Ask, &payload(task, op))
    }

    fn end(session: &mut MemberSession, task: u64) -> Result<FromMember, Violation> {
        let mut payload = task.to_le_bytes().to_vec();
        payload.push(1);
        say(session, Kind::Ended, &payload)
    }

    #[test]
    fn a_task_asks_gets_its_answer_and_ends() {
        let mut session = MemberSession::new(1, 0);
        for task in [0, 3, 3, 7] {
            assert!(matches!(ask(&mut session, task, load(0)), Ok(FromMember::Asked(_))));
            session.answered();
            ask(&mut session, task, load(0)).unwrap();
            session.answered();
            assert_eq!(end(&mut session, task), Ok(FromMember::Ended { task, has_returned: true }));
        }
    }

    #[test]
    fn x16_a_worker_that_speaks_out_of_turn_is_found_out() {
        let fresh = || MemberSession::new(1, 0);
        let runs = |task| {
            let mut session = fresh();
            ask(&mut session, task, load(0)).unwrap();
            session.answered();
            session
        };
        let mut waits = fresh();
        ask(&mut waits, 1, load(0)).unwrap();
        assert!(ask(&mut waits, 1, load(0)).is_err(), "a second request");
        assert!(end(&mut waits, 1).is_err(), "an end while it waits");
        assert!(end(&mut fresh(), 0).is_err(), "an end without a request");
        assert!(end(&mut runs(2), 3).is_err(), "the end of another task");
        assert!(ask(&mut runs(2), 1, load(0)).is_err(), "a task that goes back");
        let mut ended = runs(2);
        end(&mut ended, 2).unwrap();
        assert!(end(&mut ended, 2).is_err(), "a second end");
        for payload in [&[2, 0, 0, 0, 0, 0, 0, 0][..], &[2, 0, 0, 0, 0, 0, 0, 0, 2], &[0; 7], &[0; 10]] {
            assert!(say(&mut runs(2), Kind::Ended, payload).is_err(), "{payload:?}");
        }
        for kind in [Kind::Control, Kind::Returned, Kind::Answer, Kind::Batch] {
            assert!(say(&mut fresh(), kind, &payload(0, load(0))).is_err(), "{kind:?}");
        }
    }

    #[test]
    fn x16_a_worker_posts_what_it_has_credit_for_and_no_more() {
        let put = |len| Op::On { object: 0, act: Act::Put { items: vec![Bytes(vec![0; len])] } };
        let post = |session: &mut MemberSession, task, op| {
            say(session, Kind::Post, &[&7u64.to_le_bytes()[..], &payload(task, op)].concat())
        };
        let with_credit = || {
            let mut session = MemberSession::new(2, 0);
            ask(&mut session, 1, put(1)).unwrap();
            session.credit(0, cost(5) + cost(6));
            session.answered();
            session
        };
        let mut session = with_credit();
        let items = vec![Bytes(vec![0; 5])];
        let posted = FromMember::Posted { task: 1, taken: 7, object: 0, items };
        assert_eq!(post(&mut session, 1, put(5)), Ok(posted));
        assert!(say(&mut with_credit(), Kind::Post, &[0; 7]).is_err(), "a short number");
        assert!(post(&mut session, 1, put(7)).is_err(), "more than is left");
        assert!(post(&mut session, 1, put(6)).is_ok());
        assert!(post(&mut session, 1, put(0)).is_err(), "nothing is left");
        assert!(post(&mut with_credit(), 2, put(1)).is_err(), "another task");
        assert!(post(&mut with_credit(), 1, load(0)).is_err(), "something else than a put");
        let other = Op::On { object: 1, act: Act::Put { items: vec![Bytes::default()] } };
        assert!(post(&mut with_credit(), 1, other).is_err(), "another queue");
        let mut ended = with_credit();
        end(&mut ended, 1).unwrap();
        assert!(post(&mut ended, 1, put(1)).is_err(), "after its end");
        ask(&mut ended, 2, load(0)).unwrap();
        assert!(post(&mut ended, 2, put(1)).is_err(), "while it waits");
        ended.answered();
        assert!(post(&mut ended, 2, put(1)).is_err(), "by the credit of the task before");
        assert!(post(&mut MemberSession::new(1, 0), 0, put(1)).is_err(), "without any credit");
    }

    #[test]
    fn x16_a_request_that_no_guest_can_make_is_found_out() {
        let of = |op| ask(&mut MemberSession::new(2, 1), 0, op);
        let on = |act| of(Op::On { object: 1, act });
        let items = |count| Act::Put { items: vec![Bytes::default(); count] };
        let key = |len| Act::Look { key: "k".repeat(len) };
        let open = |len| Op::Open { kind: ObjectKind::Lock, name: "n".repeat(len) };
        let call = |function| Op::Call { function, args: vec![] };
        assert!(of(load(1)).is_ok() && of(load(2)).is_err());
        assert!(on(items(ITEMS_MAX)).is_ok() && on(items(ITEMS_MAX + 1)).is_err());
        assert!(on(key(KEY_LEN_MAX)).is_ok() && on(key(KEY_LEN_MAX + 1)).is_err());
        assert!(of(open(NAME_LEN_MAX)).is_ok() && of(open(NAME_LEN_MAX + 1)).is_err());
        assert!(of(call(0)).is_ok() && of(call(1)).is_err());
        let wait = |objects| of(Op::Wait { objects });
        assert!(wait(vec![1; WAIT_MAX]).is_ok() && wait(vec![1; WAIT_MAX + 1]).is_err());
        assert!(wait(vec![1, 2]).is_err());
        let get = |most| on(Act::Get { most, longest: 1 });
        assert!(get(4096).is_ok() && get(4097).is_err());
        let mut long = payload(0, load(0));
        long.push(0);
        assert!(say(&mut MemberSession::new(1, 0), Kind::Ask, &long).is_err(), "bytes behind a request");
        assert!(say(&mut MemberSession::new(1, 0), Kind::Ask, &long[..1]).is_err(), "half a request");
    }

    #[test]
    fn x16_a_list_that_claims_to_be_long_is_not_read_to_its_end() {
        // A million empty items are a megabyte on the wire, and would be 24 in memory.
        let mut bytes = payload(0, Op::On { object: 0, act: Act::Put { items: vec![] } });
        assert_eq!(bytes.pop(), Some(0), "the number of items");
        bytes.extend([0x80, 0x80, 0x40]);
        bytes.resize(bytes.len() + (1 << 20), 0);
        let refused = say(&mut MemberSession::new(1, 0), Kind::Ask, &bytes);
        assert!(matches!(refused, Err(Violation::Malformed(_))), "{refused:?}");
    }
}
