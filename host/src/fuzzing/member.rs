//! What a worker says through its second socket, and the answers that the coordinator gives.

use std::collections::BTreeMap;

use super::assert_plain;
use super::choices::Choices;
use crate::protocol::frame::{self, Caps, Found, Frame, Kind};
use crate::protocol::session::{FromMember, MemberSession};
use crate::spec::exchange::{
    Act, Ask, Bytes, Content, Granted, ITEMS_MAX, KEY_LEN_MAX, NAME_LEN_MAX, ObjectKind, Op, WAIT_MAX, cost,
};

const OBJECTS: usize = 3;
const FUNCTIONS: usize = 2;

/// Any bytes, and then words that are right, or wrong in one way. A model judges each by all before it.
pub(super) fn member(data: &[u8]) {
    any_bytes(data);
    let mut choices = Choices(data);
    let mut session = MemberSession::new(OBJECTS, FUNCTIONS);
    let mut model = Model::default();
    while !choices.0.is_empty() {
        if choices.byte().is_multiple_of(3) && model.waits {
            if choices.byte().is_multiple_of(2) {
                let (object, credit) = ((OBJECTS - 1) as u32, u64::from(choices.byte()));
                session.credit(object, credit);
                *model.credits.entry(object).or_default() += credit;
            }
            session.answered();
            model.waits = false;
            model.asked = Some(model.latest);
        }
        let (kind, payload, meant) = word(&mut choices, &model);
        let heard = session.on(Frame { kind, payload: &payload });
        match (heard, model.allows(&meant)) {
            (Ok(FromMember::Asked(ask)), true) => assert_eq!(Meant::Ask { ask, is_short: true }, meant),
            (Ok(FromMember::Posted { task, object, items, .. }), true) => {
                assert_eq!(Meant::Post { task, object, items }, meant);
            }
            (Ok(FromMember::Ended { task, has_returned }), true) => {
                assert_eq!(Meant::Ended(task, has_returned), meant);
            }
            (Err(violation), false) => return assert_plain(&violation.to_string()),
            (heard, may) => panic!("{heard:?} of {meant:?}, which may be said: {may}; {model:?}"),
        }
        model.note(&meant);
        assert_eq!(session.is_waiting(), model.waits);
    }
}

/// A stream of any bytes: it is refused, or each of its frames is an honest one.
fn any_bytes(data: &[u8]) {
    let mut session = MemberSession::new(OBJECTS, FUNCTIONS);
    let mut rest = data;
    while let Ok(Found::Whole(frame)) = frame::find(rest, Caps::MEMBER) {
        rest = &rest[frame.len()..];
        match session.on(frame) {
            Ok(FromMember::Asked(ask)) => {
                // What was read is what was written, but for numbers in more bytes than they need.
                let again = postcard::to_allocvec(&ask).expect("a request has a wire form");
                assert!(again.len() <= frame.payload.len());
                assert_eq!(postcard::from_bytes(&again), Ok(ask));
                session.answered();
            }
            Ok(FromMember::Posted { .. }) => panic!("there was no credit"),
            Ok(FromMember::Ended { task, has_returned }) => {
                assert_eq!(end_of(task, u8::from(has_returned)), frame.payload);
            }
            Err(violation) => return assert_plain(&violation.to_string()),
        }
    }
}

/// What a word is meant to be.
#[derive(Debug, PartialEq, Eq)]
enum Meant {
    /// `is_short`: everything in it is within its cap, and is granted.
    Ask {
        ask: Ask,
        is_short: bool,
    },
    Post {
        task: u64,
        object: Granted,
        items: Vec<Bytes>,
    },
    Ended(u64, bool),
    /// Nothing that may be said.
    Garbage,
}

/// What has been said so far.
#[derive(Debug, Default)]
struct Model {
    /// The last request has no answer.
    waits: bool,
    /// The task that has asked, and has not ended.
    asked: Option<u64>,
    /// The task that has asked last.
    latest: u64,
    /// What that task may still post.
    credits: BTreeMap<Granted, u64>,
}

impl Model {
    fn allows(&self, meant: &Meant) -> bool {
        !self.waits
            && match meant {
                Meant::Ask { ask, is_short } => *is_short && ask.task >= self.latest,
                Meant::Post { task, object, items } => {
                    self.asked == Some(*task)
                        && self.credits.get(object).is_some_and(|credit| *credit >= cost_of(items))
                }
                Meant::Ended(task, _) => self.asked == Some(*task),
                Meant::Garbage => false,
            }
    }

    fn note(&mut self, meant: &Meant) {
        match meant {
            Meant::Ask { ask, .. } => {
                if ask.task > self.latest {
                    self.credits.clear();
                }
                (self.waits, self.latest) = (true, ask.task);
            }
            Meant::Post { object, items, .. } => {
                *self.credits.entry(*object).or_default() -= cost_of(items);
            }
            Meant::Ended(..) => {
                self.asked = None;
                self.credits.clear();
            }
            Meant::Garbage => {}
        }
    }
}

fn cost_of(items: &[Bytes]) -> u64 {
    items.iter().map(|data| cost(data.0.len())).sum()
}

fn end_of(task: u64, has_returned: u8) -> Vec<u8> {
    let mut payload = task.to_le_bytes().to_vec();
    payload.push(has_returned);
    payload
}

fn word(choices: &mut Choices<'_>, model: &Model) -> (Kind, Vec<u8>, Meant) {
    let task = match choices.byte() % 8 {
        0 => model.latest.wrapping_sub(1),
        1 => u64::from_le_bytes(choices.number()),
        2 | 3 => model.latest.saturating_add(1),
        _ => model.latest,
    };
    match choices.byte() % 8 {
        0 => (Kind::Control, b"{}".to_vec(), Meant::Garbage),
        1 => match choices.byte() % 2 {
            0 => (Kind::Ended, task.to_le_bytes().to_vec(), Meant::Garbage),
            _ => (Kind::Ended, end_of(task, choices.byte().max(2)), Meant::Garbage),
        },
        4 => {
            let object = (usize::from(choices.byte()) % (OBJECTS + 1)) as u32;
            let items = vec![Bytes(choices.number::<9>().to_vec()); usize::from(choices.byte() % 3)];
            let op = Op::On { object, act: Act::Put { items: items.clone() } };
            let ask = Ask { task, timeout: None, left: None, op };
            let payload = postcard::to_allocvec(&ask).expect("a request has a wire form");
            (Kind::Post, payload, Meant::Post { task, object, items })
        }
        2 | 3 => {
            let has_returned = choices.byte() % 2;
            (Kind::Ended, end_of(task, has_returned), Meant::Ended(task, has_returned == 1))
        }
        _ => {
            let (op, is_short) = op(choices);
            let ask = Ask { task, timeout: None, left: None, op };
            let mut payload = postcard::to_allocvec(&ask).expect("a request has a wire form");
            match choices.byte() % 16 {
                0 => payload.push(0),
                1 => drop(payload.pop()),
                _ => return (Kind::Ask, payload, Meant::Ask { ask, is_short }),
            }
            (Kind::Ask, payload, Meant::Garbage)
        }
    }
}

/// A request, and whether a guest can make it. Each cap is met exactly, or exceeded by one.
fn op(choices: &mut Choices<'_>) -> (Op, bool) {
    let excess = usize::from(choices.byte().is_multiple_of(8));
    let is_short = excess == 0;
    let object = (usize::from(choices.byte()) % (OBJECTS + 1)) as u32;
    let is_granted = (object as usize) < OBJECTS;
    let on = |act, is_short| (Op::On { object, act }, is_short && is_granted);
    match choices.byte() % 10 {
        0 => (Op::Open { kind: ObjectKind::Lock, name: "n".repeat(NAME_LEN_MAX + excess) }, is_short),
        1 => (Op::Wait { objects: vec![object; WAIT_MAX + excess] }, is_short && is_granted),
        2 => {
            let function = (FUNCTIONS - 1 + excess) as u32;
            (Op::Call { function, args: choices.number::<9>().to_vec() }, is_short)
        }
        3 => on(Act::Put { items: vec![Bytes::default(); ITEMS_MAX + excess] }, is_short),
        4 => on(Act::Get { most: (ITEMS_MAX + excess) as u32, longest: u64::MAX }, is_short),
        5 => on(Act::Look { key: "k".repeat(KEY_LEN_MAX + excess) }, is_short),
        6 => on(Act::Enter { key: "k".repeat(KEY_LEN_MAX + excess), data: None }, is_short),
        7 => on(Act::Swap { expected: Content::Integer(1), new: Content::Bytes(Bytes(vec![1])) }, true),
        8 => on(Act::Put { items: vec![Bytes(choices.number::<30>().to_vec())] }, true),
        _ => on(Act::Acquire, true),
    }
}
