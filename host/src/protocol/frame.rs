//! Frames: `length: u32 LE, kind: u8, payload`. The length counts the payload only.

use crate::spec::exchange::ASK_LEN_MAX;
use crate::spec::{Limits, ModuleInfo};

/// The bytes before a payload.
pub(crate) const HEADER_LEN: usize = 5;

/// No frame of either side is longer. A worker that announces more is broken or hostile: nothing is
/// allocated for its frame.
pub(crate) const FRAME_LEN_MAX: usize = Limits::RECORD_MAX + (32 << 20);

/// Bytes of a message, without the output or the description that it may hold. An honest process needs a
/// hundredth of this.
const MESSAGE_LEN_MAX: usize = 1 << 20;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Both ways, JSON: everything that is not on the path of a task.
    Control = 1,
    /// To a worker: records to run.
    Batch = 2,
    /// To a Process that has asked for it: what comes next on its standard input; nothing is the end of it.
    Input = 3,
    /// To a worker or a zygote: a piece of the fixed arguments of the call in the next message.
    Fixed = 4,

    /// From a worker: a task returned; the payload is its result.
    Returned = 16,
    /// From a worker: a task did not return; the payload is a [`super::message::Failure`] in JSON.
    Failed = 17,
    /// From a worker: what the guest wrote to stdout while the task ran whose result follows.
    Stdout = 18,
    /// From a worker: the same for stderr.
    Stderr = 19,
    /// From a worker: how long the task whose result follows took, `micros: u64 LE`.
    Took = 20,
    /// From a worker: a task returned; its result is in the arena's part for results, at
    /// `offset: u64 LE, length: u64 LE`.
    Placed = 23,
    /// From a worker: a batch is finished. It took `busy: u64 LE` nanoseconds, of which `instances: u64 LE`
    /// were for instances.
    BatchDone = 21,
    /// From a worker, beside `Took`: what the task used, a [`super::message::Used`].
    Used = 22,
    /// From a worker that is about to end: the next piece of its profile.
    Profile = 24,

    /// From a worker, through its second socket: an [`Ask`](crate::spec::exchange::Ask).
    Ask = 32,
    /// From a worker, through its second socket: the last task that has asked is over, `task: u64 LE`.
    Ended = 33,
    /// From a worker, through its second socket: an [`Ask`](crate::spec::exchange::Ask) to put items, of
    /// which it needs no answer, since it has credit for them.
    Post = 34,
    /// To a worker, through its second socket: an [`Answer`](crate::spec::exchange::Answer).
    Answer = 40,
    /// To a worker, through its second socket: what it may post to a queue from now on, `object: u32 LE,
    /// credit: u64 LE`.
    Credit = 41,
}

impl Kind {
    #[inline]
    pub(crate) fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Control,
            2 => Kind::Batch,
            3 => Kind::Input,
            4 => Kind::Fixed,
            16 => Kind::Returned,
            17 => Kind::Failed,
            18 => Kind::Stdout,
            19 => Kind::Stderr,
            20 => Kind::Took,
            21 => Kind::BatchDone,
            23 => Kind::Placed,
            22 => Kind::Used,
            24 => Kind::Profile,
            32 => Kind::Ask,
            33 => Kind::Ended,
            34 => Kind::Post,
            40 => Kind::Answer,
            41 => Kind::Credit,
            _ => return None,
        })
    }
}

/// A frame, borrowed from the bytes it was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'b> {
    pub(crate) kind: Kind,
    pub(crate) payload: &'b [u8],
}

impl Frame<'_> {
    /// The length of the frame, header included.
    pub(crate) fn len(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }
}

/// What the other side did wrong. Its bytes are not looked at any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("a frame of {len} bytes, more than are allowed")]
    TooLong { len: usize },
    #[error("a frame of unknown kind {kind}")]
    UnknownKind { kind: u8 },
    #[error("a message that cannot be read: {0}")]
    /// In words that can be shown.
    Malformed(String),
    #[error("{0}")]
    Unexpected(&'static str),
}

/// The kind and the payload's length that the frame at the head of `bytes` announces. `Ok(None)`: the head
/// is not complete.
#[inline]
pub(crate) fn head(bytes: &[u8]) -> Result<Option<(Kind, usize)>, Violation> {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if len > FRAME_LEN_MAX {
        return Err(Violation::TooLong { len });
    }
    // Before the payload has come: a stream that is no conversation of ours (a wrong program, a log line) is
    // refused at its fifth byte.
    let kind = Kind::from_byte(header[4]).ok_or(Violation::UnknownKind { kind: header[4] })?;
    Ok(Some((kind, len)))
}

/// The longest payloads of a side. A frame that announces more is refused before anything is allocated for
/// it. Otherwise a process that was taken over could fill the coordinator's memory with one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caps {
    /// The cap on a result.
    pub(crate) result: usize,
    /// The cap on everything else.
    pub(crate) other: usize,
}

impl Caps {
    /// The caps of the coordinator, which its processes trust.
    #[cfg(feature = "worker")]
    pub(crate) const COORDINATOR: Caps = Caps { result: 0, other: FRAME_LEN_MAX };
    /// The caps of a compiler process, which describes a module.
    pub(crate) const COMPILER: Caps = Caps { result: 0, other: ModuleInfo::LEN_MAX + MESSAGE_LEN_MAX };
    /// The caps of a process that has no tasks: a zygote.
    pub(crate) const IDLE: Caps = Caps { result: 0, other: MESSAGE_LEN_MAX };
    /// The caps of a worker on its second socket.
    pub(crate) const MEMBER: Caps = Caps { result: 0, other: ASK_LEN_MAX };

    /// The caps of a worker: a result, or what its guest has printed, may be as long as its limits say.
    pub(crate) fn of_worker(limits: &Limits) -> Caps {
        Caps { result: limits.output, other: limits.stdout.saturating_add(MESSAGE_LEN_MAX) }
    }

    #[inline]
    fn allow(self, kind: Kind, len: usize) -> Result<(), Violation> {
        // Two caps are enough: a result may be long by its own limit, and all the rest is short or the
        // guest's output.
        let most = if kind == Kind::Returned { self.result } else { self.other };
        if len > most { Err(Violation::TooLong { len }) } else { Ok(()) }
    }
}

/// What is at the head of the bytes that have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'b> {
    /// A frame, all of it.
    Whole(Frame<'b>),
    /// A frame with a payload of `len` bytes, of which `missing` have not come.
    Begun { len: usize, missing: usize },
    /// Less than the head of a frame.
    Nothing,
}

/// Reads the head at the beginning of `bytes`. A frame that is longer than `caps` allow is refused as soon as
/// it is announced.
#[inline]
pub(crate) fn find(bytes: &[u8], caps: Caps) -> Result<Found<'_>, Violation> {
    let Some((kind, len)) = head(bytes)? else { return Ok(Found::Nothing) };
    caps.allow(kind, len)?;
    let come = &bytes[HEADER_LEN..];
    Ok(match come.get(..len) {
        Some(payload) => Found::Whole(Frame { kind, payload }),
        None => Found::Begun { len, missing: len - come.len() },
    })
}

/// The frame at the head of bytes that were judged before; `Ok(None)` if there is no whole one.
#[inline]
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Frame<'_>>, Violation> {
    let Some((kind, len)) = head(bytes)? else { return Ok(None) };
    Ok(bytes[HEADER_LEN..].get(..len).map(|payload| Frame { kind, payload }))
}

/// Appends the head of a frame whose payload of `len` bytes the caller appends.
///
/// # Panics
/// If that is more than [`FRAME_LEN_MAX`].
#[inline]
pub(crate) fn write_head(out: &mut Vec<u8>, kind: Kind, len: usize) {
    assert!(len <= FRAME_LEN_MAX, "a frame of {len} bytes was announced");
    let len = u32::try_from(len).expect("FRAME_LEN_MAX is less than u32::MAX");
    out.extend_from_slice(&len.to_le_bytes());
    out.push(kind as u8);
}

/// Appends a frame whose payload `fill` writes.
///
/// # Panics
/// If `fill` writes more than [`FRAME_LEN_MAX`] bytes: what goes into a frame is checked before.
#[inline]
pub(crate) fn write(out: &mut Vec<u8>, kind: Kind, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    // The length is filled in afterwards: the payload is written in place, without a buffer of its own.
    out.extend_from_slice(&[0, 0, 0, 0, kind as u8]);
    fill(out);
    let len = out.len() - start - HEADER_LEN;
    assert!(len <= FRAME_LEN_MAX, "a frame of {len} bytes was built");
    let len = u32::try_from(len).expect("FRAME_LEN_MAX is less than u32::MAX");
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_is_found_once_it_is_complete() {
        let mut bytes = Vec::new();
        write(&mut bytes, Kind::Returned, |out| out.extend_from_slice(b"hello"));
        for len in 0..bytes.len() {
            assert_eq!(parse(&bytes[..len]), Ok(None));
        }
        let frame = parse(&bytes).unwrap().unwrap();
        assert_eq!((frame.kind, frame.payload, frame.len()), (Kind::Returned, &b"hello"[..], bytes.len()));
    }

    #[test]
    fn an_announced_length_over_the_limit_is_a_violation_before_any_payload() {
        assert_eq!(parse(&[0xff, 0xff, 0xff, 0xff, 16]), Err(Violation::TooLong { len: 0xffff_ffff }));
        assert_eq!(parse(&[0, 0, 0, 0, 99]), Err(Violation::UnknownKind { kind: 99 }));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some(frame)) = parse(&bytes) {
                prop_assert!(frame.len() <= bytes.len());
            }
        }
    }
}
