//! The bytes of a worker on their way to the dispatcher: judged frame by frame, outcomes collected into runs.
//!
//! Nothing here needs a process: a test gives an [`Inbox`] any bytes.

use crate::protocol::frame::{self, Caps, Found, Frame, Kind, Violation};
use crate::protocol::session::{FromPoolWorker, Heard, PoolWorkerRole, Session};
use crate::spec::Limits;

/// Bytes that are read from a worker at once, unless a longer frame has begun.
// A socket's buffer holds some 200 KiB by default: a larger number reads no more at once.
pub(super) const READ_LEN: usize = 256 << 10;
/// Bytes of memory that the buffer keeps when it is empty.
const BUFFER_KEPT: usize = 1 << 20;

/// What has come from a worker and waits.
#[derive(Debug)]
pub(in crate::pool::dispatcher) struct Inbox {
    /// What the worker may say.
    pub(in crate::pool::dispatcher) session: Session<PoolWorkerRole>,
    pub(super) caps: Caps,
    pub(super) bytes: Vec<u8>,
    /// Frames at the head of `bytes` that were judged before: what belongs to an outcome that has not come.
    judged: usize,
    /// The large frame that has begun to come, if one has.
    pub(super) begun: Option<Begun>,
}

/// The head of a frame longer than [`READ_LEN`], as far as it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begun {
    /// Where in the bytes the frame begins.
    at: usize,
    pub(super) missing: usize,
    /// There is room for its payload.
    pub(super) is_granted: bool,
}

/// A run of outcomes within bytes that are being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct OutcomeRun {
    /// Where the run begins: behind what was passed on.
    pub(super) from: usize,
    /// The end of its last whole outcome. Frames behind that belong to the next one.
    pub(super) to: usize,
    /// Where the next frame begins.
    pub(super) at: usize,
    /// Whole outcomes.
    pub(super) count: u64,
    /// Those of them that are failures.
    pub(super) failed: u64,
    /// Where a large frame had begun that there is room for.
    granted: Option<usize>,
}

impl OutcomeRun {
    /// The frame up to `end` is the next outcome of the run.
    pub(super) fn add(&mut self, end: usize, is_failure: bool) {
        (self.to, self.at) = (end, end);
        self.count += 1;
        self.failed += u64::from(is_failure);
    }

    /// A new run begins at `at`.
    pub(super) fn begin(&mut self, at: usize) {
        *self = OutcomeRun { from: at, to: at, at, granted: self.granted, ..OutcomeRun::default() };
    }

    /// The outcomes were passed on: a new run begins behind them.
    pub(super) fn clear(&mut self) {
        *self = OutcomeRun {
            from: self.to,
            to: self.to,
            at: self.at,
            granted: self.granted,
            ..OutcomeRun::default()
        };
    }
}

/// What comes next in the bytes.
#[derive(Debug)]
pub(super) enum NextFrame<'b> {
    /// Something that is no more of the run, and its frame, which begins at [`OutcomeRun::at`].
    Heard(Heard<FromPoolWorker>, Frame<'b>),
    /// No more whole frames.
    Nothing {
        /// The payload of the frame that has begun, and how much of that is missing.
        begun: Option<(usize, usize)>,
    },
}

impl Inbox {
    pub(super) fn new(limits: &Limits, is_profiled: bool) -> Inbox {
        Inbox {
            session: Session::pool_worker(limits, is_profiled),
            caps: Caps::of_worker(limits),
            bytes: Vec::new(),
            judged: 0,
            begun: None,
        }
    }

    /// How much to read at once: of a large frame only the rest of it, so that it can be passed on without a
    /// copy.
    pub(super) fn read_len(&mut self) -> usize {
        match self.begun {
            Some(Begun { missing, .. }) => {
                // Exact, since this buffer goes to the job as it is, and its spare room would stay allocated
                // with the result.
                self.bytes.reserve_exact(missing);
                missing
            }
            None => READ_LEN,
        }
    }

    /// Takes the bytes out, to be read and [put back](Self::put_back). Gives the run that begins in them.
    ///
    /// Nothing of the bytes is remembered here meanwhile: a buffer that is one large outcome goes to its job
    /// as it is, and is never put back.
    pub(super) fn take(&mut self) -> (Vec<u8>, OutcomeRun) {
        let granted = self.begun.take().filter(|begun| begun.is_granted).map(|begun| begun.at);
        let run = OutcomeRun { at: std::mem::take(&mut self.judged), granted, ..OutcomeRun::default() };
        (std::mem::take(&mut self.bytes), run)
    }

    /// Goes on in `bytes` at [`OutcomeRun::at`]. Results and their attachments are added to the run here,
    /// because there may be thousands of them. `tells_apart`: no result is added to a run with failures.
    #[inline]
    pub(super) fn next<'b>(
        &mut self,
        bytes: &'b [u8],
        run: &mut OutcomeRun,
        tells_apart: bool,
    ) -> Result<NextFrame<'b>, Violation> {
        loop {
            let frame = match frame::find(&bytes[run.at..], self.caps)? {
                Found::Whole(frame) => frame,
                Found::Begun { len, missing } => {
                    return Ok(NextFrame::Nothing { begun: Some((len, missing)) });
                }
                Found::Nothing => return Ok(NextFrame::Nothing { begun: None }),
            };
            match self.session.on(frame)? {
                Heard::Said(FromPoolWorker::Attached) => run.at += frame.len(),
                Heard::Said(FromPoolWorker::Returned) if !tells_apart || run.failed == 0 => {
                    run.add(run.at + frame.len(), false)
                }
                heard => return Ok(NextFrame::Heard(heard, frame)),
            }
        }
    }

    /// Puts back what is left of the bytes behind `run`, which was passed on. `begun`: the payload's length
    /// of the frame that has begun at their end, and how much of it is missing.
    pub(super) fn put_back(&mut self, mut bytes: Vec<u8>, run: OutcomeRun, begun: Option<(usize, usize)>) {
        self.judged = run.at - run.from;
        self.begun = begun.filter(|(len, _)| *len > READ_LEN).map(|(_, missing)| Begun {
            at: self.judged,
            missing,
            // Room was granted to this frame and to no other one, even if both are equally long.
            is_granted: run.granted == Some(run.at),
        });
        // Moves what is left to the front: less than a frame, except where a large one has begun.
        bytes.drain(..run.from);
        if bytes.is_empty() {
            bytes.shrink_to(BUFFER_KEPT);
        }
        self.bytes = bytes;
    }

    /// Nothing that has come counts.
    pub(super) fn clear(&mut self) {
        (self.bytes, self.judged, self.begun) = (Vec::new(), 0, None);
    }
}

/// The bytes of the first `count` outcomes.
pub(super) fn len_of_outcomes(bytes: &[u8], count: u64) -> usize {
    let mut at = 0;
    let mut left = count;
    while left > 0 {
        let Ok(Some(frame)) = frame::parse(&bytes[at..]) else { break };
        at += frame.len();
        left -= u64::from(matches!(frame.kind, Kind::Returned | Kind::Failed));
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::session::{Word, said};

    /// The inbox of a worker that has started and holds this many tasks.
    fn ready(tasks: u64) -> Inbox {
        let mut inbox = Inbox::new(&Limits::default(), false);
        for word in [Word::Hello { is_ours: true }, Word::Ready] {
            inbox.session.on(frame::parse(&said(word)).unwrap().unwrap()).unwrap();
        }
        inbox.session.sent_batch(tasks);
        inbox
    }

    #[test]
    fn a_result_joins_a_run_with_failures_only_where_they_are_not_told_apart() {
        let bytes = [said(Word::Failed), said(Word::Returned)].concat();
        for tells_apart in [false, true] {
            let (mut inbox, mut run) = (ready(2), OutcomeRun::default());
            let Ok(NextFrame::Heard(Heard::Said(FromPoolWorker::Failed(_)), failed)) =
                inbox.next(&bytes, &mut run, tells_apart)
            else {
                panic!("a failure comes first")
            };
            run.add(failed.len(), true);
            let next = inbox.next(&bytes, &mut run, tells_apart).unwrap();
            let is_alone = matches!(next, NextFrame::Heard(Heard::Said(FromPoolWorker::Returned), _));
            assert_eq!(is_alone, tells_apart);
            let count = if tells_apart { 1 } else { 2 };
            assert_eq!((run.count, run.failed), (count, 1));
        }
    }

    #[test]
    fn room_that_is_granted_to_a_large_frame_is_not_granted_to_the_next_one() {
        let mut inbox = ready(2);
        let large = Some((READ_LEN + 1, 5));
        let is_granted = |inbox: &Inbox| inbox.begun.unwrap().is_granted;

        inbox.put_back(vec![0; 50], OutcomeRun::default(), large);
        assert!(!is_granted(&inbox));
        inbox.begun.as_mut().unwrap().is_granted = true;
        // More of the same frame.
        let (bytes, run) = inbox.take();
        inbox.put_back(bytes, run, large);
        assert!(is_granted(&inbox));
        // It is passed on, and another one has begun.
        let (bytes, mut run) = inbox.take();
        run.begin(30);
        inbox.put_back(bytes, run, large);
        assert!(!is_granted(&inbox));
    }

    /// A large outcome goes to its job in the buffer in which it came, behind attachments that were judged in
    /// an earlier turn. What comes next is read from its beginning.
    #[test]
    fn a_buffer_that_is_not_put_back_leaves_nothing_behind() {
        let mut inbox = ready(2);
        let (mut printed, mut result, mut small) = (Vec::new(), Vec::new(), Vec::new());
        frame::write(&mut printed, Kind::Stdout, |out| out.extend_from_slice(b"printed"));
        frame::write(&mut result, Kind::Returned, |out| out.resize(out.len() + 2 * READ_LEN, 7));
        frame::write(&mut small, Kind::Returned, |_| {});

        // The attachment comes whole, the result begins.
        inbox.bytes = [&printed[..], &result[..100]].concat();
        let (bytes, mut run) = inbox.take();
        let Ok(NextFrame::Nothing { begun }) = inbox.next(&bytes, &mut run, false) else {
            panic!("it begins")
        };
        inbox.put_back(bytes, run, begun);
        assert_eq!(inbox.read_len(), result.len() - 100);

        inbox.bytes.extend_from_slice(&result[100..]);
        let (bytes, mut run) = inbox.take();
        assert!(matches!(inbox.next(&bytes, &mut run, false), Ok(NextFrame::Nothing { begun: None })));
        assert_eq!((run.from, run.to, run.count), (0, bytes.len(), 1));
        drop(bytes);

        assert_eq!(inbox.read_len(), READ_LEN);
        inbox.bytes = small;
        let (bytes, mut run) = inbox.take();
        assert!(matches!(inbox.next(&bytes, &mut run, false), Ok(NextFrame::Nothing { begun: None })));
        assert_eq!((run.from, run.to, run.count), (0, bytes.len(), 1));
    }
}
