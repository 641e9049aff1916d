//! A worker in an attacker's hands: its bytes, its status page and its arena, for [`crate::fuzzing`].

use std::sync::Arc;

use super::inbox::{Inbox, NextFrame, OutcomeRun, READ_LEN, len_of_outcomes};
use crate::fuzzing::choices::Choices;
use crate::fuzzing::session::{self, Conditions, Deed, Happened, Word};
use crate::pool::dispatcher::arena::Parked;
use crate::protocol::frame::{self, Caps, Kind, Violation};
use crate::protocol::session::{FromPoolWorker, Heard};
use crate::sys::CoordinatorPage;

/// Bytes of the longest result of the socket, more than are read at once.
const LARGE: usize = READ_LEN + 50_000;

/// What is in the arena where results may lie.
const IN_ARENA: u8 = b'a';

/// The worker's bytes come in pieces, and the coordinator's deeds between them. Every outcome is passed on
/// once, with what belongs to it and nothing else, until the worker says what it may not.
pub(crate) fn link(data: &[u8]) {
    let mut choices = Choices(data);
    let first = choices.byte();
    let start = Conditions::of_a_pool_worker(first & 1 != 0);
    let mut reader = Reader::new(&start, first & 2 != 0, first & 4 != 0);
    let (mut past, mut wanted) = (Vec::new(), Wanted::default());
    while !choices.0.is_empty() {
        let word = session::word(&mut choices, start, &past).shortened();
        let mut bytes = session::said(word);
        if word == Word::Returned && choices.byte() == 7 {
            bytes.clear();
            frame::write(&mut bytes, Kind::Returned, |out| out.resize(out.len() + LARGE, b'l'));
        }
        let cut = (usize::from(choices.byte()) * 1999) % bytes.len().max(1);
        let before = reader.feed(&bytes[..cut]);
        if choices.byte() % 2 == 0 {
            let deed = session::deed(&mut choices);
            if reader.apply_deed(deed) {
                past.push(Happened::Done(deed));
            }
        }
        let heard = before.and_then(|()| reader.feed(&bytes[cut..]));
        let may = session::model::meaning(start, &past, word).is_some();
        match (heard, may && wanted.take(word, &bytes, reader.has_arena)) {
            (Ok(()), true) => assert_eq!(reader.passed_on, wanted.outcomes),
            (Err(_), false) => return assert_eq!(reader.passed_on, wanted.outcomes),
            (heard, may) => panic!("{heard:?} of {word:?}, which may be said: {may}; behind {past:?}"),
        }
        past.push(Happened::Said(word));
    }
}

/// What of a worker needs no process.
struct Reader {
    inbox: Inbox,
    page: Arc<CoordinatorPage>,
    has_arena: bool,
    tells_apart: bool,
    passed_on: Vec<Vec<u8>>,
}

impl Reader {
    fn new(start: &Conditions, tells_apart: bool, wants_arena: bool) -> Reader {
        let (page, fd) = CoordinatorPage::create().expect("there is memory");
        let has_arena = wants_arena && open_arena(&fd);
        let mut inbox = Inbox::new(&start.limits(), start.is_profiled());
        // Longer than what is read at once, though no result in the arena may be.
        inbox.caps = Caps { result: LARGE, ..inbox.caps };
        Reader { inbox, page: Arc::new(page), has_arena, tells_apart, passed_on: Vec::new() }
    }

    fn apply_deed(&mut self, deed: Deed) -> bool {
        session::apply_deed(&mut self.inbox.session, deed)
    }

    /// As the dispatcher reads, at most what the inbox wants at once.
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while !bytes.is_empty() {
            let piece = bytes.split_off(..self.inbox.read_len().min(bytes.len())).unwrap_or_default();
            self.inbox.bytes.extend_from_slice(piece);
            let (bytes, mut run) = self.inbox.take();
            let begun = self.hear_all(&bytes, &mut run);
            self.pass_on(&bytes, &mut run);
            self.inbox.put_back(bytes, run, begun?);
            let room = self.inbox.bytes.capacity();
            assert!(room <= 2 * LARGE + (1 << 20), "{room} bytes of memory");
        }
        Ok(())
    }

    fn hear_all(&mut self, bytes: &[u8], run: &mut OutcomeRun) -> Result<Option<(usize, usize)>, Violation> {
        loop {
            let (heard, frame) = match self.inbox.next(bytes, run, self.tells_apart)? {
                NextFrame::Nothing { begun } => return Ok(begun),
                NextFrame::Heard(heard, frame) => (heard, frame),
            };
            let end = run.at + frame.len();
            match heard {
                Heard::Said(FromPoolWorker::Failed(_)) => {
                    if self.tells_apart && run.failed < run.count {
                        self.pass_on(bytes, run);
                    }
                    run.add(end, true);
                }
                Heard::Said(FromPoolWorker::Returned) => {
                    assert!(self.tells_apart && run.failed > 0);
                    self.pass_on(bytes, run);
                    run.add(end, false);
                }
                Heard::Said(FromPoolWorker::Placed { offset, len }) => {
                    self.pass_on(bytes, run);
                    let mut frames = bytes[run.from..run.at].to_vec();
                    frame::write_head(&mut frames, Kind::Returned, len);
                    let nowhere = |_| Violation::Malformed("a result at no place".to_owned());
                    Parked::new(&self.page, offset, len)
                        .map_err(nowhere)?
                        .fetch(&mut frames)
                        .map_err(nowhere)?;
                    self.passed_on.push(frames);
                    run.begin(end);
                }
                _ => {
                    self.pass_on(bytes, run);
                    run.begin(end);
                }
            }
        }
    }

    fn pass_on(&mut self, bytes: &[u8], run: &mut OutcomeRun) {
        let mut rest = &bytes[run.from..run.to];
        for left in (0..run.count).rev() {
            let len = len_of_outcomes(rest, 1);
            assert_eq!(len_of_outcomes(rest, left + 1), rest.len());
            self.passed_on.push(rest[..len].to_vec());
            rest = &rest[len..];
        }
        let failed = self.passed_on.iter().rev().take(usize::try_from(run.count).expect("few"));
        let failed = failed.filter(|frames| is_failure(frames)).count() as u64;
        assert!(rest.is_empty() && run.failed == failed, "{run:?}, and {failed} are failures");
        assert!(!self.tells_apart || failed == 0 || failed == run.count);
        run.clear();
    }
}

/// Whether the last frame of an outcome is a failure.
fn is_failure(frames: &[u8]) -> bool {
    let mut rest = frames;
    let mut last = None;
    while let Ok(Some(frame)) = frame::parse(rest) {
        rest = &rest[frame.len()..];
        last = Some(frame.kind);
    }
    last == Some(Kind::Failed)
}

/// The worker maps the arena, and fills where results lie. `false`: this program has no worker in it.
#[cfg(feature = "worker")]
fn open_arena(fd: &std::os::fd::OwnedFd) -> bool {
    let worker = Arc::new(crate::sys::WorkerPage::open(fd).expect("a page"));
    let writer = worker.take_writer().expect("there is no other writer");
    writer.put(0, &[IN_ARENA; 2000])
}

#[cfg(not(feature = "worker"))]
fn open_arena(_fd: &std::os::fd::OwnedFd) -> bool {
    false
}

/// The outcomes by their definition.
#[derive(Default)]
struct Wanted {
    outcomes: Vec<Vec<u8>>,
    /// Frames that belong to the next one.
    attached: Vec<u8>,
}

impl Wanted {
    /// `false`: it lies where nothing can.
    fn take(&mut self, word: Word, bytes: &[u8], has_arena: bool) -> bool {
        match word {
            Word::Stdout | Word::Stderr | Word::Took(_) | Word::Used(_) => {
                self.attached.extend_from_slice(bytes)
            }
            Word::Returned | Word::Failed | Word::Cancelled => {
                let outcome = [std::mem::take(&mut self.attached), bytes.to_vec()].concat();
                self.outcomes.push(outcome);
            }
            Word::Placed(_) if !has_arena => return false,
            Word::Placed(len) => {
                let mut outcome = std::mem::take(&mut self.attached);
                let result = vec![IN_ARENA; usize::try_from(len).expect("a small number")];
                frame::write(&mut outcome, Kind::Returned, |out| out.extend_from_slice(&result));
                self.outcomes.push(outcome);
            }
            // What was to belong to an outcome belongs to none.
            _ => self.attached.clear(),
        }
        true
    }
}
