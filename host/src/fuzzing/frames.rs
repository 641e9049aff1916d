//! Frames over a stream.

use std::io;

use super::{assert_plain, lengthened, mixed, model};
use crate::protocol::connection::{Connection, InMemory, RecvError};
use crate::protocol::frame::{self, Caps, Kind, Violation};

/// A stream from a worker. Its frames are those of the definition, whatever the pieces in which it comes;
/// none is longer than it may be; and no memory is kept for a payload that is only announced.
pub(super) fn frames(data: &[u8]) {
    let Some(([result, other, piece], stream)) = data.split_first_chunk() else { return };
    let caps = Caps { result: usize::from(*result), other: usize::from(*other) };
    compare_frames(caps, stream, usize::from(*piece) + 1);
    // Within the caps, at them, and one byte over; behind each, what there is.
    let long = lengthened(stream);
    let kind = [16, 17, 18, 1, 24][usize::from(*piece) % 5];
    for most in [long.len() - 1, long.len(), long.len() + 1] {
        let caps = if kind == 16 { Caps { result: most, other: 7 } } else { Caps { result: 7, other: most } };
        let behind = model::frame(kind, &stream[..stream.len().min(7)]);
        let stream = [model::frame(kind, &long), behind, stream.to_vec()].concat();
        compare_frames(caps, &stream, 1 + usize::from(*piece) * 511);
    }
    // What a long frame needed is given back with the next that is read.
    if mixed(data).is_multiple_of(64) {
        let long = model::frame(16, &vec![b'x'; (4096 * 272) - frame::HEADER_LEN]);
        let stream = [long, model::frame(16, b"next")].concat();
        let caps = Caps { result: usize::MAX, other: 0 };
        let mut connection =
            Connection::new(InMemory(Pieces { rest: &stream, piece: 4096 }, io::sink()), caps);
        assert!(connection.recv().is_ok_and(|frame| frame.payload.len() > 1 << 20));
        assert!(connection.recv().is_ok_and(|frame| frame.payload == b"next"));
        assert!(connection.room() <= 128 << 10, "{} bytes of memory are kept", connection.room());
    }
    // The most that may be announced, and more.
    for (len, is_allowed) in [(1u32 << 30, true), ((1 << 30) + 1, false), (u32::MAX, false)] {
        let announced = [&len.to_le_bytes()[..], &[16], &stream[..stream.len().min(1000)]].concat();
        let caps = Caps { result: usize::MAX, other: usize::MAX };
        let (frames, violation) = read_frames(caps, &announced, usize::MAX);
        assert!(frames.is_empty() && violation.is_none() == is_allowed, "{len} announced");
    }
}

fn compare_frames(caps: Caps, stream: &[u8], piece: usize) {
    let (frames, next) = model::frames(caps.result, caps.other, stream);
    for piece in [usize::MAX, piece] {
        let (found, violation) = read_frames(caps, stream, piece);
        assert!(
            found
                .iter()
                .map(|(kind, payload)| (*kind as u8, &payload[..]))
                .eq(frames.iter().map(|(kind, payload)| (*kind, &payload[..])))
        );
        match (&next, violation) {
            (model::Next::More, None) => {}
            (model::Next::TooLong(len), Some(Violation::TooLong { len: found })) => assert_eq!(*len, found),
            (model::Next::Unknown(kind), Some(Violation::UnknownKind { kind: found })) => {
                assert_eq!(*kind, found)
            }
            (next, violation) => panic!("{next:?} and not {violation:?}"),
        }
        let mut again = Vec::new();
        for (kind, payload) in &found {
            frame::write(&mut again, *kind, |out| out.extend_from_slice(payload));
        }
        assert!(stream.starts_with(&again));
    }
}

type Frames = (Vec<(Kind, Vec<u8>)>, Option<Violation>);

/// The frames up to the end, or what is wrong with the next.
fn read_frames(caps: Caps, stream: &[u8], piece: usize) -> Frames {
    let mut connection = Connection::new(InMemory(Pieces { rest: stream, piece }, io::sink()), caps);
    let mut frames = Vec::new();
    loop {
        let read = match connection.recv() {
            Ok(frame) => Ok((frame.kind, frame.payload.to_vec())),
            Err(e) => Err(e),
        };
        // Twice what has come, and one step of reading.
        let room = connection.room();
        assert!(room <= 2 * stream.len() + (128 << 10), "{room} bytes of memory for {}", stream.len());
        match read {
            Ok(frame) => frames.push(frame),
            Err(RecvError::Violation(violation)) => {
                assert_plain(&violation.to_string());
                return (frames, Some(violation));
            }
            Err(RecvError::Closed) => return (frames, None),
            Err(RecvError::Io(e)) => panic!("memory does not fail: {e}"),
        }
    }
}

struct Pieces<'s> {
    rest: &'s [u8],
    piece: usize,
}

impl io::Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let piece = self.piece.min(buf.len());
        io::Read::read(&mut self.rest, &mut buf[..piece])
    }
}
