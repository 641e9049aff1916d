//! Where results lie in the output, and what a log says of that.
//!
//! A run that is killed leaves an output that ends in the middle of a result, or in results that the log does not have.
//! Before each write of results the place of that write goes into the log's header, as its [`Mark`]. A run that is resumed
//! knows by it which bytes at the output's end are of that write, and cuts them off as far as no line vouches for them.
//! Bytes of others are never cut: those of another file, of a file that has changed, or behind the mark.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::SystemTime;

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

/// Bytes before a mark that are compared.
const TAIL_LEN: usize = 64;

/// What the header of a log says of the last write of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Where it begins in the output.
    pub(super) from: u64,
    /// Where it ends.
    pub(super) to: u64,
    /// The length of the log before it: lines behind that are of its results.
    pub(super) log: u64,
    /// Which file the output is.
    pub(super) file: u64,
    /// A digest of the bytes before `from`.
    pub(super) tail: u64,
}

impl Mark {
    /// Characters of a mark in a header: all have the same length, so that one is written over another.
    pub(super) const LEN: usize = 84;

    /// What stands in the header, of one that has a mark or has none.
    pub(super) fn text(mark: Option<Mark>) -> String {
        match mark {
            Some(Mark { from, to, log, file, tail }) => {
                format!("{from:016x}-{to:016x}-{log:016x}-{file:016x}-{tail:016x}")
            }
            None => "-".repeat(Mark::LEN),
        }
    }

    #[expect(clippy::option_option, reason = "no mark of ours, none, one")]
    pub(super) fn parse(text: &[u8]) -> Option<Option<Mark>> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() == Mark::LEN)?;
        if text.bytes().all(|byte| byte == b'-') {
            return Some(None);
        }
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let mut numbers =
            text.split('-').map(|digits| match digits.len() == 16 && digits.bytes().all(is_digit) {
                true => u64::from_str_radix(digits, 16).ok(),
                false => None,
            });
        let mut next = || numbers.next().flatten();
        let mark = Mark { from: next()?, to: next()?, log: next()?, file: next()?, tail: next()? };
        (numbers.next().is_none() && mark.from <= mark.to).then_some(Some(mark))
    }
}

/// What a log vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vouched {
    /// No run has marked its output.
    Nothing,
    /// The output of this mark, up to there.
    Until(Mark, u64),
    /// Something else has changed the log.
    Unclear,
}

/// What has become of the output of a run that is resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// There was nothing to do.
    AsItIs,
    /// It has been cut from so many bytes to so many.
    Cut { from: u64, to: u64 },
    /// It is another one, and the old one has more than these bytes.
    Elsewhere { to: u64 },
    /// It was left alone: something else has changed it, or the log.
    Changed,
}

/// Why the output cannot be gone on with.
#[derive(Debug)]
pub(super) enum Unsettled {
    /// It has fewer bytes than the log vouches for.
    Shorter { len: u64, to: u64 },
    /// It cannot be cut to so many bytes.
    Cut { to: u64, error: io::Error },
}

/// How far the output has been written.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Bytes of a file from its start on; of anything else, those of this run.
    at: u64,
    /// The end of what has been written, if that can be marked.
    end: Option<End>,
    /// As both will be behind the write that is under way.
    next: Option<(u64, Vec<u8>)>,
}

/// The end of a file, which nobody else writes to.
#[derive(Debug)]
struct End {
    output: File,
    /// The same file, for reading.
    reader: File,
    id: u64,
    tail: Vec<u8>,
}

impl Place {
    /// That of `output`. Without marks if that is no file, cannot be looked at, or is where `beside` goes too.
    pub(super) fn of(output: BorrowedFd<'_>, beside: BorrowedFd<'_>) -> Place {
        open(output, beside).unwrap_or_default()
    }

    /// Where a result ends that has so many bytes before its end to be written.
    pub(super) fn end(&self, pending: usize) -> u64 {
        self.at + pending as u64
    }

    /// The mark of the place itself, with nothing written behind it. `log`: the length of the log.
    pub(super) fn mark(&self, log: u64) -> Option<Mark> {
        let End { id, tail, .. } = self.end.as_ref()?;
        Some(Mark { from: self.at, to: self.at, log, file: *id, tail: digest(tail) })
    }

    /// The mark of a write of `len` bytes, which is about to be. `tail`: how they end, [`TAIL_LEN`] of them if there are so many.
    pub(super) fn announce(&mut self, len: usize, tail: &[u8], log: u64) -> Option<Mark> {
        let to = self.end(len);
        let before = self.end.as_ref().map_or(&[][..], |end| &end.tail);
        self.next = Some((to, last(&[before, last(tail)].concat()).to_vec()));
        self.mark(log).map(|mark| Mark { to, ..mark })
    }

    /// The write that was announced has been done. False if somebody else has written too: no marks are made any more.
    pub(super) fn arrived(&mut self) -> bool {
        let Some((at, tail)) = self.next.take() else { return true };
        self.at = at;
        let Some(end) = &mut self.end else { return true };
        end.tail = tail;
        let is_ours = rustix::fs::tell(&end.output).is_ok_and(|found| found == at);
        if !is_ours {
            self.end = None;
        }
        is_ours
    }

    /// Brings the output to what a log vouches for. Not if it is shorter than that, unless that does not matter (`force`).
    pub(super) fn settle(&mut self, vouched: Vouched, force: bool) -> Result<Settled, Unsettled> {
        let (mark, to) = match vouched {
            Vouched::Nothing => return Ok(Settled::AsItIs),
            Vouched::Unclear => return Ok(Settled::Changed),
            Vouched::Until(mark, to) => (mark, to),
        };
        let Some(end) = self.end.as_mut().filter(|end| end.id == mark.file) else {
            return Ok(if to < mark.to { Settled::Elsewhere { to } } else { Settled::AsItIs });
        };
        let len = end.len().map_err(|error| Unsettled::Cut { to, error })?;
        let settled = match () {
            () if len < to && !force => return Err(Unsettled::Shorter { len, to }),
            () if len <= to || to == mark.to => Settled::AsItIs,
            () if len > mark.to || !end.is_behind(&mark) => Settled::Changed,
            () => {
                end.output.set_len(to).map_err(|error| Unsettled::Cut { to, error })?;
                Settled::Cut { from: len, to }
            }
        };
        // Also of a file that was opened at its start: what it holds is not written over.
        self.at = end.output.seek(SeekFrom::End(0)).map_err(|error| Unsettled::Cut { to, error })?;
        end.tail = end.before(self.at).map_err(|error| Unsettled::Cut { to, error })?;
        Ok(settled)
    }
}

impl End {
    fn len(&self) -> io::Result<u64> {
        self.output.metadata().map(|found| found.len())
    }

    /// Whether what lies before a mark is what lay there when it was made.
    fn is_behind(&self, mark: &Mark) -> bool {
        self.before(mark.from).is_ok_and(|tail| digest(&tail) == mark.tail)
    }

    /// The bytes before a place, so many as are compared.
    fn before(&self, at: u64) -> io::Result<Vec<u8>> {
        let from = at.saturating_sub(TAIL_LEN as u64);
        let mut tail = vec![0; usize::try_from(at - from).expect("at most TAIL_LEN")];
        self.reader.read_exact_at(&mut tail, from)?;
        Ok(tail)
    }
}

fn open(output: BorrowedFd<'_>, beside: BorrowedFd<'_>) -> Option<Place> {
    let other = rustix::fs::fstat(beside).ok();
    let output = File::from(output.try_clone_to_owned().ok()?);
    let found = output.metadata().ok()?;
    if !found.is_file()
        || other.is_some_and(|other| (other.st_dev, other.st_ino) == (found.dev(), found.ino()))
    {
        return None;
    }
    let at = match rustix::fs::fcntl_getfl(&output).ok()?.contains(OFlags::APPEND) {
        true => found.len(),
        false => rustix::fs::tell(&output).ok()?,
    };
    let reader = reopen(output.as_fd(), File::options().read(true)).ok()?;
    let mut end = End { output, reader, id: id(&found), tail: Vec::new() };
    // Behind the end of the file there is nothing to compare.
    end.tail = end.before(at).ok()?;
    Some(Place { at, end: Some(end), next: None })
}

/// The same file once more, in another mode.
pub(super) fn reopen(file: BorrowedFd<'_>, how: &OpenOptions) -> io::Result<File> {
    how.open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Which file it is: its number, which another file may have later, and its time of birth. A device's number is not the
/// same after a restart of the machine.
fn id(file: &Metadata) -> u64 {
    let born = file.created().ok().and_then(|born| born.duration_since(SystemTime::UNIX_EPOCH).ok());
    let born = born.map_or(0, |born| born.as_nanos());
    digest(&[&file.ino().to_le_bytes()[..], &born.to_le_bytes()].concat())
}

fn digest(bytes: &[u8]) -> u64 {
    let whole: [u8; 32] = Sha256::digest(bytes).into();
    u64::from_le_bytes(whole[..8].try_into().expect("8 of 32 bytes"))
}

fn last(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(TAIL_LEN)..]
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use super::*;

    /// An output that holds `before`, opened as a shell opens it for `>>`.
    struct Written {
        _dir: tempfile::TempDir,
        path: PathBuf,
    }

    impl Written {
        fn holding(before: &[u8]) -> Written {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("output");
            std::fs::write(&path, before).unwrap();
            Written { _dir: dir, path }
        }

        fn open(&self) -> File {
            File::options().append(true).open(&self.path).unwrap()
        }

        fn place(&self) -> Place {
            place(&self.open())
        }

        fn bytes(&self) -> Vec<u8> {
            std::fs::read(&self.path).unwrap()
        }
    }

    fn place(file: &File) -> Place {
        Place::of(file.as_fd(), File::open("/dev/null").unwrap().as_fd())
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = Mark { from: 1, to: u64::MAX, log: 3, file: 1 << 63, tail: 5 };
        for mark in [None, Some(mark)] {
            let text = Mark::text(mark);
            assert_eq!((text.len(), Mark::parse(text.as_bytes())), (Mark::LEN, Some(mark)));
            for at in 0..text.len() {
                for wrong in [&b"x"[..], b"", b"+", b"A", b"\xff"] {
                    let damaged = [&text.as_bytes()[..at], wrong, &text.as_bytes()[at + 1..]].concat();
                    assert_eq!(Mark::parse(&damaged), None, "{at}");
                }
            }
        }
        assert_eq!(Mark::parse(Mark::text(Some(Mark { from: 2, to: 1, ..mark })).as_bytes()), None);
    }

    #[test]
    fn f146_an_output_that_was_cut_anywhere_is_brought_to_what_is_vouched_for() {
        let results = b"one\ntwo\nthree\n";
        for before in [&b""[..], b"before\n", &[b'x'; 200]] {
            let mark = Written::holding(before).place().announce(results.len(), results, 1000).unwrap();
            assert_eq!((mark.from, mark.to), (before.len() as u64, (before.len() + results.len()) as u64));
            // So many bytes arrived, and the log has lines for so many.
            for (arrived, vouched) in
                (0..=results.len()).map(|len| (len, 0)).chain([(14, 4), (14, 8), (14, 14)])
            {
                let written = Written::holding(before);
                let mark = Mark { file: written.place().mark(0).unwrap().file, ..mark };
                written.open().write_all(&results[..arrived]).unwrap();
                let mut place = written.place();
                let to = mark.from + vouched as u64;
                let settled = place.settle(Vouched::Until(mark, to), false).unwrap();
                let expected = match arrived == vouched {
                    true => Settled::AsItIs,
                    false => Settled::Cut { from: mark.from + arrived as u64, to },
                };
                assert_eq!(settled, expected, "{arrived} {vouched}");
                assert_eq!(written.bytes(), [before, &results[..vouched]].concat());
                assert_eq!((place.at, &place.mark(7)), (to, &written.place().mark(7)));
            }
        }
    }

    #[test]
    fn f146_bytes_of_others_are_never_cut() {
        let settle = |written: &Written, mark, to| written.place().settle(Vouched::Until(mark, to), false);
        let written = Written::holding(b"before\n");
        let mark = written.place().announce(b"one\ntwo\n".len(), b"one\ntwo\n", 0).unwrap();
        written.open().write_all(b"one\ntw").unwrap();
        // Another file, with the same bytes.
        let other = Written::holding(&written.bytes());
        assert_eq!(settle(&other, mark, 7).unwrap(), Settled::Elsewhere { to: 7 });
        // Something behind what was announced.
        written.open().write_all(b"o\nsomething else\n").unwrap();
        assert_eq!(settle(&written, mark, 7).unwrap(), Settled::Changed);
        assert_eq!(settle(&written, mark, 15).unwrap(), Settled::AsItIs);
        // Something before it.
        std::fs::write(&written.path, b"BEFORE\none\ntw").unwrap();
        assert_eq!(settle(&written, mark, 7).unwrap(), Settled::Changed);
        assert_eq!(written.place().settle(Vouched::Unclear, false).unwrap(), Settled::Changed);
        assert_eq!(written.bytes(), b"BEFORE\none\ntw");
    }

    #[test]
    fn f146_an_output_that_is_shorter_than_what_is_vouched_for_is_an_error() {
        let written = Written::holding(b"");
        let mark = written.place().announce(b"one\ntwo\n".len(), b"one\ntwo\n", 0).unwrap();
        written.open().write_all(b"one\n").unwrap();
        let settle = |force| written.place().settle(Vouched::Until(mark, 8), force);
        assert!(matches!(settle(false), Err(Unsettled::Shorter { len: 4, to: 8 })));
        assert_eq!(settle(true).unwrap(), Settled::AsItIs);
        assert_eq!(written.bytes(), b"one\n");
    }

    #[test]
    fn f146_a_file_that_is_not_appended_to_is_gone_on_with_at_its_end() {
        let written = Written::holding(b"");
        let mark = written.place().announce(b"one\ntwo\n".len(), b"one\ntwo\n", 0).unwrap();
        written.open().write_all(b"one\ntw").unwrap();
        let mut file = File::options().write(true).open(&written.path).unwrap();
        let mut place = place(&file);
        assert_eq!(place.settle(Vouched::Until(mark, 4), false).unwrap(), Settled::Cut { from: 6, to: 4 });
        file.write_all(b"two\n").unwrap();
        assert_eq!(written.bytes(), b"one\ntwo\n");
    }

    #[test]
    fn f146_nothing_is_marked_where_others_write_too() {
        let written = Written::holding(b"");
        let (mut ours, mut others) = (written.open(), written.open());
        let mut place = place(&ours);
        for is_alone in [true, false] {
            assert!(place.announce(b"one\n".len(), b"one\n", 0).is_some());
            if !is_alone {
                others.write_all(b"another\n").unwrap();
            }
            ours.write_all(b"one\n").unwrap();
            assert_eq!(place.arrived(), is_alone);
        }
        assert_eq!(place.announce(b"two\n".len(), b"two\n", 0), None);
        // What is said on stderr is not ours either.
        assert!(Place::of(ours.as_fd(), others.as_fd()).mark(0).is_none());
        // Of a pipe, bytes are counted and nothing is marked.
        let (_reader, writer) = std::io::pipe().unwrap();
        let mut place = Place::of(writer.as_fd(), others.as_fd());
        assert_eq!(
            (place.announce(b"one\n".len(), b"one\n", 0), place.arrived(), place.end(2)),
            (None, true, 6)
        );
    }
}
