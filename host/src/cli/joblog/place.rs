//! Where results lie in the output, and what a log says about it.
//!
//! The output of a run that was killed may end in the middle of a result, or in results that the log does not
//! have. Before each write of results, the place of that write goes into the log's header as its [`Mark`]. By
//! the mark a resumed run knows which bytes at the output's end belong to the last write. It cuts off those
//! of them that no line of the log vouches for. It never cuts other bytes: those of another file, of a file
//! that has changed, or behind the mark.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::SystemTime;

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

/// Bytes before a mark that are compared with those at the time of the mark.
// Enough to tell two outputs apart, and little enough to be digested for each mark.
const TAIL_LEN: usize = 64;

/// What the header of a log says about the last write of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Where the write begins in the output.
    pub(super) from: u64,
    /// Where the write ends in the output.
    pub(super) to: u64,
    /// The length of the log before the write: later lines belong to the results of the write.
    pub(super) log: u64,
    /// Identifies the output file.
    pub(super) file: u64,
    /// A digest of the bytes before `from`.
    pub(super) tail: u64,
    /// The lines before the mark are about another output, or about this one before it was shortened.
    pub(super) is_moved: bool,
}

/// The bit that stands for [`Mark::is_moved`] in the number for the length of the log.
const MOVED: u64 = 1 << 63;

impl Mark {
    /// The length of a mark in a header. All marks have the same, so one is written over another.
    pub(super) const LEN: usize = 84;

    /// The text in the header, with or without a mark.
    pub(super) fn text(mark: Option<Mark>) -> String {
        match mark {
            Some(Mark { from, to, log, file, tail, is_moved }) => {
                let log = if is_moved { log | MOVED } else { log };
                format!("{from:016x}-{to:016x}-{log:016x}-{file:016x}-{tail:016x}")
            }
            None => "-".repeat(Mark::LEN),
        }
    }

    #[expect(clippy::option_option, reason = "no mark of wpool, an empty one, one")]
    pub(super) fn parse(text: &[u8]) -> Option<Option<Mark>> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() == Mark::LEN)?;
        if text.bytes().all(|byte| byte == b'-') {
            return Some(None);
        }
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let mut numbers = text.split('-').map(|digits| {
            let is_number = digits.len() == 16 && digits.bytes().all(is_digit);
            is_number.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        });
        let mut next = || numbers.next().flatten();
        let (from, to, log) = (next()?, next()?, next()?);
        let is_moved = log & MOVED != 0;
        let mark = Mark { from, to, log: log & !MOVED, file: next()?, tail: next()?, is_moved };
        (numbers.next().is_none() && mark.from <= mark.to).then_some(Some(mark))
    }
}

/// The part of an output that a log vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vouched {
    /// No run has marked its output.
    Nothing,
    /// The output of this mark, up to this offset.
    Until(Mark, u64),
    /// Another program has changed the log.
    Unclear,
}

/// What was done with the output of a resumed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SettledOutput {
    /// There was nothing to do.
    AsItIs,
    /// The output was cut.
    Cut { from: u64, to: u64 },
    /// The output is another file, and the earlier one may have more than `to` bytes.
    Elsewhere { to: u64 },
    /// Nothing: another program has changed the output, or the log.
    Changed,
}

/// Why results cannot go on in this output.
#[derive(Debug)]
pub(super) enum UnsettledOutput {
    /// The output has fewer bytes than the log vouches for.
    Shorter { len: u64, to: u64 },
    /// The output cannot be cut to `to` bytes.
    Cut { to: u64, error: io::Error },
}

/// How far the output has been written.
#[derive(Debug, Default)]
pub(super) struct OutputPlace {
    /// The offset in a file. For anything else, the bytes that this run has written.
    at: u64,
    /// The end of the written bytes, if it can be marked.
    end: Option<OutputEnd>,
    /// The offset and the tail after the write that is under way.
    next: Option<(u64, Vec<u8>)>,
}

/// The end of an output file to which no other process writes.
#[derive(Debug)]
struct OutputEnd {
    output: File,
    /// The same file, for reading.
    reader: File,
    id: u64,
    tail: Vec<u8>,
}

impl OutputPlace {
    /// The place of `output`. There are no marks if it is no file, cannot be examined, or is the same file as
    /// `beside`.
    pub(super) fn of(output: BorrowedFd<'_>, beside: BorrowedFd<'_>) -> OutputPlace {
        open(output, beside).unwrap_or_default()
    }

    /// Where a result ends if `pending` bytes up to its end are not written yet.
    pub(super) fn end(&self, pending: usize) -> u64 {
        self.at + pending as u64
    }

    /// The mark of the present place, without a write. `log`: the length of the log.
    pub(super) fn mark(&self, log: u64) -> Option<Mark> {
        let OutputEnd { id, tail, .. } = self.end.as_ref()?;
        Some(Mark { from: self.at, to: self.at, log, file: *id, tail: digest(tail), is_moved: false })
    }

    /// The mark of a coming write of `len` bytes. `tail`: the last [`TAIL_LEN`] of them, or all.
    pub(super) fn announce(&mut self, len: usize, tail: &[u8], log: u64) -> Option<Mark> {
        let to = self.end(len);
        let before = self.end.as_ref().map_or(&[][..], |end| &end.tail);
        self.next = Some((to, last(&[before, last(tail)].concat()).to_vec()));
        self.mark(log).map(|mark| Mark { to, ..mark })
    }

    /// Notes that the announced write has been done. False if another process has written too: then no more
    /// marks are made.
    pub(super) fn arrived(&mut self) -> bool {
        let Some((at, tail)) = self.next.take() else { return true };
        self.at = at;
        let Some(end) = &mut self.end else { return true };
        end.tail = tail;
        // The offset is shared by all processes with this descriptor: if it is elsewhere, another one has
        // written.
        let is_ours = rustix::fs::tell(&end.output).is_ok_and(|found| found == at);
        if !is_ours {
            self.end = None;
        }
        is_ours
    }

    /// Cuts the output to the part that a log vouches for. An output that is shorter is an error, except with
    /// `force`.
    pub(super) fn settle(&mut self, vouched: Vouched, force: bool) -> Result<SettledOutput, UnsettledOutput> {
        let (mark, to) = match vouched {
            Vouched::Nothing => return Ok(SettledOutput::AsItIs),
            Vouched::Unclear => return Ok(SettledOutput::Changed),
            Vouched::Until(mark, to) => (mark, to),
        };
        let Some(end) = self.end.as_mut().filter(|end| end.id == mark.file) else {
            return Ok(if to < mark.to { SettledOutput::Elsewhere { to } } else { SettledOutput::AsItIs });
        };
        let len = end.len().map_err(|error| UnsettledOutput::Cut { to, error })?;
        let settled = if len < to && !force {
            return Err(UnsettledOutput::Shorter { len, to });
        // Nothing behind the vouched part, or all of the last write is vouched for.
        } else if len <= to || to == mark.to {
            SettledOutput::AsItIs
        // What lies behind the mark, or before it, is not what this program has left. It may be a user's:
        // nothing is cut.
        } else if len > mark.to || !end.is_behind(&mark) {
            SettledOutput::Changed
        } else {
            end.output.set_len(to).map_err(|error| UnsettledOutput::Cut { to, error })?;
            SettledOutput::Cut { from: len, to }
        };
        // A file that was opened at its start is not overwritten either.
        self.at = end.output.seek(SeekFrom::End(0)).map_err(|error| UnsettledOutput::Cut { to, error })?;
        end.tail = end.before(self.at).map_err(|error| UnsettledOutput::Cut { to, error })?;
        Ok(settled)
    }
}

impl OutputEnd {
    fn len(&self) -> io::Result<u64> {
        self.output.metadata().map(|found| found.len())
    }

    /// Whether the bytes before a mark are those at the time of the mark.
    fn is_behind(&self, mark: &Mark) -> bool {
        self.before(mark.from).is_ok_and(|tail| digest(&tail) == mark.tail)
    }

    /// The bytes before an offset that are compared.
    fn before(&self, at: u64) -> io::Result<Vec<u8>> {
        let from = at.saturating_sub(TAIL_LEN as u64);
        let mut tail = vec![0; usize::try_from(at - from).expect("at most TAIL_LEN")];
        self.reader.read_exact_at(&mut tail, from)?;
        Ok(tail)
    }
}

fn open(output: BorrowedFd<'_>, beside: BorrowedFd<'_>) -> Option<OutputPlace> {
    let other = rustix::fs::fstat(beside).ok();
    let output = File::from(output.try_clone_to_owned().ok()?);
    let found = output.metadata().ok()?;
    if !found.is_file()
        || other.is_some_and(|other| (other.st_dev, other.st_ino) == (found.dev(), found.ino()))
    {
        return None;
    }
    let appends = rustix::fs::fcntl_getfl(&output).ok()?.contains(OFlags::APPEND);
    let at = if appends { found.len() } else { rustix::fs::tell(&output).ok()? };
    // Standard output is usually open for writing only.
    let reader = reopen(output.as_fd(), File::options().read(true)).ok()?;
    let mut end = OutputEnd { output, reader, id: id(&found), tail: Vec::new() };
    // Fails if the offset lies behind the end of the file: then there is nothing to compare.
    end.tail = end.before(at).ok()?;
    Some(OutputPlace { at, end: Some(end), next: None })
}

/// Opens the same file in another mode.
pub(super) fn reopen(file: BorrowedFd<'_>, how: &OpenOptions) -> io::Result<File> {
    how.open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Identifies a file by its inode number and its time of birth. Another file may get the same number later.
/// The device number is left out, because a restart of the machine can change it.
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

        fn place(&self) -> OutputPlace {
            place(&self.open())
        }

        fn bytes(&self) -> Vec<u8> {
            std::fs::read(&self.path).unwrap()
        }
    }

    fn place(file: &File) -> OutputPlace {
        OutputPlace::of(file.as_fd(), File::open("/dev/null").unwrap().as_fd())
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = Mark { from: 1, to: u64::MAX, log: 3, file: 1 << 63, tail: 5, is_moved: false };
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
    fn f146_an_output_that_was_cut_anywhere_ends_where_the_log_vouches_for_it() {
        let results = b"one\ntwo\nthree\n";
        for before in [&b""[..], b"before\n", &[b'x'; 200]] {
            let mark = Written::holding(before).place().announce(results.len(), results, 1000).unwrap();
            assert_eq!((mark.from, mark.to), (before.len() as u64, (before.len() + results.len()) as u64));
            // The bytes that arrived, and the bytes that the log has lines for.
            for (arrived, vouched) in
                (0..=results.len()).map(|len| (len, 0)).chain([(14, 4), (14, 8), (14, 14)])
            {
                let written = Written::holding(before);
                let mark = Mark { file: written.place().mark(0).unwrap().file, ..mark };
                written.open().write_all(&results[..arrived]).unwrap();
                let mut place = written.place();
                let to = mark.from + vouched as u64;
                let settled = place.settle(Vouched::Until(mark, to), false).unwrap();
                let expected = if arrived == vouched {
                    SettledOutput::AsItIs
                } else {
                    SettledOutput::Cut { from: mark.from + arrived as u64, to }
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
        assert_eq!(settle(&other, mark, 7).unwrap(), SettledOutput::Elsewhere { to: 7 });
        // Bytes behind the announced write.
        written.open().write_all(b"o\nsomething else\n").unwrap();
        assert_eq!(settle(&written, mark, 7).unwrap(), SettledOutput::Changed);
        assert_eq!(settle(&written, mark, 15).unwrap(), SettledOutput::AsItIs);
        // Other bytes before it.
        std::fs::write(&written.path, b"BEFORE\none\ntw").unwrap();
        assert_eq!(settle(&written, mark, 7).unwrap(), SettledOutput::Changed);
        assert_eq!(written.place().settle(Vouched::Unclear, false).unwrap(), SettledOutput::Changed);
        assert_eq!(written.bytes(), b"BEFORE\none\ntw");
    }

    #[test]
    fn f146_an_output_that_is_shorter_than_the_log_vouches_for_is_an_error() {
        let written = Written::holding(b"");
        let mark = written.place().announce(b"one\ntwo\n".len(), b"one\ntwo\n", 0).unwrap();
        written.open().write_all(b"one\n").unwrap();
        let settle = |force| written.place().settle(Vouched::Until(mark, 8), force);
        assert!(matches!(settle(false), Err(UnsettledOutput::Shorter { len: 4, to: 8 })));
        assert_eq!(settle(true).unwrap(), SettledOutput::AsItIs);
        assert_eq!(written.bytes(), b"one\n");
    }

    #[test]
    fn f146_results_go_on_at_the_end_of_a_file_that_is_not_in_append_mode() {
        let written = Written::holding(b"");
        let mark = written.place().announce(b"one\ntwo\n".len(), b"one\ntwo\n", 0).unwrap();
        written.open().write_all(b"one\ntw").unwrap();
        let mut file = File::options().write(true).open(&written.path).unwrap();
        let mut place = place(&file);
        assert_eq!(
            place.settle(Vouched::Until(mark, 4), false).unwrap(),
            SettledOutput::Cut { from: 6, to: 4 }
        );
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
        // Messages on stderr go to the same file.
        assert!(OutputPlace::of(ours.as_fd(), others.as_fd()).mark(0).is_none());
        // Bytes into a pipe are counted, and nothing is marked.
        let (_reader, writer) = std::io::pipe().unwrap();
        let mut place = OutputPlace::of(writer.as_fd(), others.as_fd());
        assert_eq!(
            (place.announce(b"one\n".len(), b"one\n", 0), place.arrived(), place.end(2)),
            (None, true, 6)
        );
    }
}
