//! Records and outcomes in the chunks in which they move.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::TaskError;
use crate::pool::dispatcher::Parked;
use crate::protocol::frame::{self, Kind};
use crate::protocol::message::{self, Used};

/// Records one after the other, in the form that batches have.
#[derive(Debug, Default)]
pub(crate) struct InputChunk {
    /// The number of the first record.
    pub(crate) first: u64,
    /// Shared with the sockets that a long record goes through. Only a chunk that takes no more records is.
    pub(super) data: Arc<Vec<u8>>,
    /// The position of each record in `data`.
    pub(super) starts: Vec<u32>,
    /// The number of records without an outcome.
    pub(crate) open: u64,
}

/// A chunk grows to about this many bytes, then a new one begins: positions in it have 32 bits.
pub(super) const CHUNK_LEN: usize = 256 << 10;

impl InputChunk {
    pub(crate) fn count(&self) -> u64 {
        self.starts.len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.data.len() as u64
    }

    /// The records `first..first + count`, which all lie in this chunk.
    pub(crate) fn records(&self, first: u64, count: u64) -> &[u8] {
        &self.data[self.place(first, count)]
    }

    /// Where these records are in [`data`](Self::data).
    pub(crate) fn place(&self, first: u64, count: u64) -> Range<usize> {
        let at = |n: u64| usize::try_from(n - self.first).ok().and_then(|i| self.starts.get(i));
        let from = at(first).map_or(self.data.len(), |p| *p as usize);
        let to = at(first + count).map_or(self.data.len(), |p| *p as usize);
        from..to
    }

    pub(crate) fn data(&self) -> &Arc<Vec<u8>> {
        &self.data
    }
}

/// Outcomes of consecutive tasks.
#[derive(Debug)]
pub(crate) struct ResultChunk {
    pub(crate) first: u64,
    pub(crate) count: u64,
    outcomes: ChunkContent,
    pub(crate) by: By,
    /// When it came.
    pub(crate) ended: SystemTime,
}

/// The outcomes of a chunk, as a worker gave them or the coordinator decided them.
#[derive(Debug)]
enum ChunkContent {
    /// A worker: `Returned` and `Failed` frames as they came, each behind its attachments.
    Frames(Vec<u8>),
    /// A worker, of the chunk's one task: the frames before its result, and the result in the worker's
    /// memory.
    Parked(Vec<u8>, Parked),
    /// The coordinator, of every task of the chunk.
    Verdict(TaskError),
}

/// The worker that ran a task, and at which attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct By {
    pub(crate) worker: u32,
    pub(crate) pid: u32,
    pub(crate) attempt: u32,
}

impl ResultChunk {
    fn new(first: u64, count: u64, outcomes: ChunkContent, by: By) -> ResultChunk {
        ResultChunk { first, count, outcomes, by, ended: SystemTime::now() }
    }

    /// The coordinator's verdict on `count` tasks.
    pub(crate) fn verdict(first: u64, count: u64, error: TaskError, by: By) -> ResultChunk {
        ResultChunk::new(first, count, ChunkContent::Verdict(error), by)
    }

    /// What a worker has just answered.
    pub(crate) fn answered(first: u64, count: u64, frames: Vec<u8>, by: By) -> ResultChunk {
        ResultChunk::new(first, count, ChunkContent::Frames(frames), by)
    }

    /// A result that stays in its worker's memory until it is taken. `frames` ends with the head of its
    /// frame.
    pub(crate) fn parked(first: u64, frames: Vec<u8>, parked: Parked, by: By) -> ResultChunk {
        ResultChunk::new(first, 1, ChunkContent::Parked(frames, parked), by)
    }

    /// Bytes of it in this process, and in its worker's memory.
    pub(crate) fn size(&self) -> Size {
        match &self.outcomes {
            ChunkContent::Frames(frames) => Size { here: frames.len() as u64, parked: 0 },
            ChunkContent::Parked(frames, parked) => {
                Size { here: frames.len() as u64, parked: parked.len() as u64 }
            }
            // One reason for many tasks.
            ChunkContent::Verdict(_) => Size::default(),
        }
    }

    /// Copies a result out of its worker's memory, if it is still there.
    pub(crate) fn fetch(&mut self) {
        // The worker's memory outlives the worker, as long as the page is kept. So this is rare, and concerns
        // one task.
        let unreadable = || TaskError::BadResult { message: "its worker's memory cannot be read".to_owned() };
        // The placeholder is gone before this returns.
        let outcomes = std::mem::replace(&mut self.outcomes, ChunkContent::Frames(Vec::new()));
        self.outcomes = match outcomes {
            ChunkContent::Parked(mut frames, parked) => match parked.fetch(&mut frames) {
                Ok(()) => ChunkContent::Frames(frames),
                Err(_) => ChunkContent::Verdict(unreadable()),
            },
            here @ (ChunkContent::Frames(_) | ChunkContent::Verdict(_)) => here,
        };
    }

    /// The outcome that begins at byte `at` of the chunk. `None`: there is none, or it is not here yet.
    #[inline]
    pub(crate) fn outcome(&self, at: usize) -> Option<Parsed<'_>> {
        match &self.outcomes {
            ChunkContent::Frames(frames) => parse_outcome(frames.get(at..)?),
            ChunkContent::Parked(..) => None,
            ChunkContent::Verdict(error) => Some(Parsed::verdict(error)),
        }
    }
}

/// Bytes of outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Size {
    pub(crate) here: u64,
    pub(crate) parked: u64,
}

/// One outcome: what it is, and what came before it.
pub(crate) struct Parsed<'c> {
    pub(crate) said: TaskEnd<'c>,
    pub(crate) stdout: &'c [u8],
    pub(crate) stderr: &'c [u8],
    pub(crate) micros: Option<u64>,
    pub(crate) used: Option<Used>,
    /// The bytes of all its frames.
    pub(crate) len: usize,
}

/// What is said of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskEnd<'c> {
    /// By its worker: the result.
    Returned(&'c [u8]),
    /// By its worker: a [`Failure`](message::Failure) in JSON.
    Failed(&'c [u8]),
    /// By the coordinator.
    Verdict(&'c TaskError),
}

impl<'c> TaskEnd<'c> {
    #[inline]
    pub(crate) fn result(self) -> Result<&'c [u8], TaskError> {
        match self {
            TaskEnd::Returned(result) => Ok(result),
            TaskEnd::Failed(failure) => Err(match message::read_failure(failure) {
                Ok(failure) => failure.into(),
                Err(violation) => TaskError::BadResult { message: violation.to_string() },
            }),
            TaskEnd::Verdict(error) => Err(error.clone()),
        }
    }
}

impl<'c> Parsed<'c> {
    fn verdict(error: &'c TaskError) -> Parsed<'c> {
        Parsed { said: TaskEnd::Verdict(error), stdout: &[], stderr: &[], micros: None, used: None, len: 0 }
    }
}

/// Reads the first outcome in `frames`, which the dispatcher has checked.
#[inline]
pub(crate) fn parse_outcome(frames: &[u8]) -> Option<Parsed<'_>> {
    let (mut stdout, mut stderr, mut micros, mut used) = (&[][..], &[][..], None, None);
    let mut at = 0;
    loop {
        let frame = frame::parse(&frames[at..]).ok().flatten()?;
        at += frame.len();
        match frame.kind {
            Kind::Stdout => stdout = frame.payload,
            Kind::Stderr => stderr = frame.payload,
            // No error here: the judge of the protocol has read these frames before.
            Kind::Took => micros = frame.payload.try_into().ok().map(u64::from_le_bytes),
            Kind::Used => used = Used::read(frame.payload).ok(),
            Kind::Returned => {
                let said = TaskEnd::Returned(frame.payload);
                return Some(Parsed { said, stdout, stderr, micros, used, len: at });
            }
            Kind::Failed => {
                let said = TaskEnd::Failed(frame.payload);
                return Some(Parsed { said, stdout, stderr, micros, used, len: at });
            }
            Kind::Control
            | Kind::Batch
            | Kind::Input
            | Kind::Fixed
            | Kind::Ask
            | Kind::Ended
            | Kind::Post
            | Kind::Answer
            | Kind::Credit
            | Kind::BatchDone
            | Kind::Placed
            | Kind::Profile => return None,
        }
    }
}
