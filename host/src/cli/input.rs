//! Where records come from: files, standard input, or the command line; and how a stream of bytes is cut into
//! records.

use std::fs::{File, Metadata};
use std::io::{self, IsTerminal};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::bail;
use rustix::fs::{FileType, Stat};

use super::exit::{CliError, OrExit, WpoolExit};
use super::stdio;
use crate::sys::HEAP_KEPT_LEN;

/// The size of the first read.
const FIRST_READ_LEN: usize = 16 << 10;
/// The size of a read once the input has filled the first one.
const READ_LEN: usize = 256 << 10;
/// The most that the buffer grows at once while a record is longer than it.
const MORE_LEN: usize = 4 << 20;
/// The buffer shrinks below this size after a long record.
const KEPT_LEN: usize = 8 << 20;
/// Blank records that are passed on at once when another record follows them.
const BOUNDS_MAX: usize = 64 << 10;
/// Files that are held open from the start on. Later files are opened again when they are read.
const OPEN_MAX: usize = 64;

/// Where the flags take records from.
#[derive(Debug)]
pub(super) enum Origin {
    /// `--items`.
    Items(Vec<Vec<u8>>),
    /// Without files or items.
    StandardInput,
    Files(Vec<PathBuf>),
}

/// The opened inputs of a run, not read yet.
#[derive(Debug)]
pub(super) enum InputSource {
    Streams(Vec<InputStream>),
    Items(Vec<Vec<u8>>),
}

#[derive(Debug)]
pub(super) enum InputStream {
    Stdin,
    File(PathBuf, File),
    /// A file that could be opened at the start, and will be opened again.
    Later(PathBuf),
}

impl InputSource {
    /// Opens every input, so that a run does not begin if one of them cannot be read.
    pub(super) fn open(origin: &Origin) -> Result<InputSource, CliError> {
        match origin {
            Origin::Items(items) => Ok(InputSource::Items(items.clone())),
            Origin::StandardInput if io::stdin().is_terminal() => Err(CliError::usage(
                "no input: name files of records, pipe them in, give them with --items, or type them \
                 with `-`",
            )),
            Origin::StandardInput => Ok(InputSource::Streams(vec![stdin()?])),
            Origin::Files(files) if files.iter().filter(|path| is_stdin(path)).count() > 1 => {
                Err(CliError::usage("standard input, `-`, can be read only once"))
            }
            Origin::Files(files) => {
                let streams = files
                    .iter()
                    .enumerate()
                    .map(|(n, path)| if is_stdin(path) { stdin() } else { open(path, n < OPEN_MAX) });
                streams.collect::<Result<_, _>>().map(InputSource::Streams)
            }
        }
    }
}

pub(super) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn stdin() -> Result<InputStream, CliError> {
    if let Some(found) = readable_stdin()? {
        let is_file = FileType::from_raw_mode(found.st_mode).is_file();
        refuse_output("standard input", (found.st_dev, found.st_ino), is_file)?;
    }
    Ok(InputStream::Stdin)
}

/// What standard input is. `None` if it cannot be looked at: the first read will report that.
pub(super) fn readable_stdin() -> Result<Option<Stat>, CliError> {
    let Ok(found) = rustix::fs::fstat(rustix::stdio::stdin()) else { return Ok(None) };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => Err(CliError::usage("cannot read standard input: it is a directory")),
        _ => Ok(Some(found)),
    }
}

fn open(path: &Path, keep: bool) -> Result<InputStream, CliError> {
    let (file, metadata) =
        open_file(path).or_exit(WpoolExit::Usage, || format!("cannot read {}", path.display()))?;
    refuse_output(&path.display().to_string(), (metadata.dev(), metadata.ino()), metadata.is_file())?;
    // A pipe must not be opened twice.
    if keep || !metadata.is_file() {
        return Ok(InputStream::File(path.to_owned(), file));
    }
    Ok(InputStream::Later(path.to_owned()))
}

fn open_file(path: &Path) -> anyhow::Result<(File, Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        bail!("it is a directory");
    }
    Ok((file, metadata))
}

/// Refuses a file that is both input and output: such a run would never end.
fn refuse_output(name: &str, input: (u64, u64), is_file: bool) -> Result<(), CliError> {
    match rustix::fs::fstat(rustix::stdio::stdout()) {
        Ok(output) if is_file && (output.st_dev, output.st_ino) == input => {
            Err(CliError::usage(format!("{name} is both input and output")))
        }
        _ => Ok(()),
    }
}

impl InputSource {
    /// Device and inode of each file that is read.
    pub(super) fn files(&self) -> impl Iterator<Item = (u64, u64)> {
        let streams = match self {
            InputSource::Streams(streams) => &streams[..],
            InputSource::Items(_) => &[],
        };
        streams.iter().filter_map(InputStream::place)
    }
}

impl InputStream {
    /// Device and inode, if this is a file.
    fn place(&self) -> Option<(u64, u64)> {
        let metadata = match self {
            InputStream::Stdin => {
                let found = rustix::fs::fstat(rustix::stdio::stdin()).ok()?;
                let is_file = rustix::fs::FileType::from_raw_mode(found.st_mode).is_file();
                return is_file.then_some((found.st_dev, found.st_ino));
            }
            InputStream::File(_, file) => file.metadata(),
            InputStream::Later(path) => std::fs::metadata(path),
        };
        metadata.ok().filter(Metadata::is_file).map(|found| (found.dev(), found.ino()))
    }

    pub(super) fn name(&self) -> String {
        match self {
            InputStream::Stdin => "standard input".to_owned(),
            InputStream::File(path, _) | InputStream::Later(path) => path.display().to_string(),
        }
    }

    /// A function that reads the stream.
    pub(super) fn reader(self) -> io::Result<impl FnMut(&mut [u8]) -> io::Result<usize>> {
        let file = match self {
            InputStream::Stdin => None,
            InputStream::File(_, file) => Some(file),
            InputStream::Later(path) => Some(File::open(path)?),
        };
        Ok(move |buf: &mut [u8]| match &file {
            Some(file) => stdio::read(file, buf),
            None => stdio::read(rustix::stdio::stdin(), buf),
        })
    }
}

/// Takes records as the splitter finds them: they are the `bounds` of `bytes`. `Err` if it takes no more.
pub(super) trait RecordSink {
    fn records(&mut self, bytes: &[u8], bounds: &[Range<usize>]) -> Result<(), crate::error::Closed>;
}

/// Cuts a stream of bytes into records. All whole records of a read are passed on at once, so a stalled
/// stream holds no record back.
#[derive(Debug)]
pub(super) struct Splitter {
    delimiter: u8,
    /// A longer record is cut one byte behind this, and its rest is skipped. The extra byte shows that it is
    /// too long.
    record_max: usize,
    buf: Vec<u8>,
    /// Bytes at the start of `buf` that are the beginning of a record.
    held: usize,
    skipping: bool,
    /// With `without_blank_end`: the number of blank records that no other record has followed yet.
    blank: Option<u64>,
    bounds: Vec<Range<usize>>,
}

/// Why a stream was not read to its end.
#[derive(Debug)]
pub(super) enum StoppedReading {
    Read(io::Error),
    /// The sink takes no more records.
    Closed,
}

impl From<crate::error::Closed> for StoppedReading {
    fn from(_: crate::error::Closed) -> Self {
        StoppedReading::Closed
    }
}

impl Splitter {
    pub(super) fn new(delimiter: u8, record_max: usize) -> Splitter {
        Splitter {
            delimiter,
            record_max,
            buf: Vec::new(),
            held: 0,
            skipping: false,
            blank: None,
            bounds: Vec::new(),
        }
    }

    /// Leaves out blank records at the end of each stream. A blank record before others is passed on, so that
    /// its error names its number.
    pub(super) fn without_blank_end(self) -> Splitter {
        Splitter { blank: Some(0), ..self }
    }

    /// Reads to the end. Bytes behind the last delimiter are a record too.
    pub(super) fn split(
        &mut self,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
        sink: &mut impl RecordSink,
    ) -> Result<(), StoppedReading> {
        loop {
            self.make_room();
            match read(&mut self.buf[self.held..]) {
                Ok(0) => return self.finish(sink),
                Ok(len) => {
                    let is_full = self.held + len == self.buf.len();
                    self.scan(self.held + len, sink)?;
                    if is_full && self.buf.len() < READ_LEN {
                        self.buf.resize(READ_LEN, 0);
                    }
                }
                Err(e) => {
                    self.finish(sink)?;
                    return Err(StoppedReading::Read(e));
                }
            }
        }
    }

    fn make_room(&mut self) {
        if self.held == self.buf.len() {
            // Doubling would leave up to half of the buffer of a long record unused, and in memory.
            let more = self.held.clamp(FIRST_READ_LEN, MORE_LEN);
            if self.buf.capacity() < self.held + more {
                // At once so long that the heap does not keep the memory when it is freed. What is behind
                // `more` stays untouched, and takes no memory.
                let is_long = self.held >= MORE_LEN;
                self.buf.reserve_exact(if is_long { HEAP_KEPT_LEN } else { more });
            }
            self.buf.resize(self.held + more, 0);
        } else if self.buf.len() > KEPT_LEN && self.held < READ_LEN {
            self.buf.truncate(READ_LEN);
            self.buf.shrink_to_fit();
        }
    }

    /// Passes on the whole records in `buf[..filled]`, and keeps the rest.
    fn scan(&mut self, filled: usize, sink: &mut impl RecordSink) -> Result<(), StoppedReading> {
        let mut buf = std::mem::take(&mut self.buf);
        let passed = self.pass_whole(&buf[..filled], sink);
        if let Ok(end) = &passed {
            buf.copy_within(*end..filled, 0);
            self.held = filled - end;
        }
        self.buf = buf;
        passed.map(|_end| ())
    }

    /// Passes on the whole records in `bytes`, and returns the end of the last one.
    fn pass_whole(&mut self, bytes: &[u8], sink: &mut impl RecordSink) -> Result<usize, StoppedReading> {
        let (most, held) = (self.record_max.saturating_add(1), self.held);
        let mut start = 0;
        for end in memchr::memchr_iter(self.delimiter, &bytes[held..]).map(|at| held + at) {
            if !std::mem::take(&mut self.skipping) {
                self.found(bytes, start..end.min(start.saturating_add(most)), sink)?;
            }
            start = end + 1;
        }
        if self.skipping {
            start = bytes.len();
        } else if bytes.len() - start > self.record_max {
            self.found(bytes, start..start + most, sink)?;
            self.skipping = true;
            start = bytes.len();
        }
        self.pass(bytes, sink)?;
        Ok(start)
    }

    fn finish(&mut self, sink: &mut impl RecordSink) -> Result<(), StoppedReading> {
        let held = std::mem::take(&mut self.held);
        let buf = std::mem::take(&mut self.buf);
        if !std::mem::take(&mut self.skipping) && held > 0 {
            self.found(&buf, 0..held, sink)?;
            self.pass(&buf, sink)?;
        }
        self.buf = buf;
        self.blank = self.blank.map(|_left_out| 0);
        Ok(())
    }

    /// Notes a record within `bytes`, or counts it if it may be a blank one at the end.
    fn found(
        &mut self,
        bytes: &[u8],
        record: Range<usize>,
        sink: &mut impl RecordSink,
    ) -> Result<(), StoppedReading> {
        if let Some(blank) = self.blank {
            if is_blank(&bytes[record.clone()]) {
                self.blank = Some(blank + 1);
                return Ok(());
            }
            // The blank records are not at the end: this record follows them.
            for _ in 0..blank {
                self.bounds.push(record.start..record.start);
                if self.bounds.len() >= BOUNDS_MAX {
                    self.pass(bytes, sink)?;
                }
            }
            self.blank = Some(0);
        }
        self.bounds.push(record);
        Ok(())
    }

    fn pass(&mut self, bytes: &[u8], sink: &mut impl RecordSink) -> Result<(), StoppedReading> {
        let passed = if self.bounds.is_empty() { Ok(()) } else { sink.records(bytes, &self.bounds) };
        self.bounds.clear();
        Ok(passed?)
    }
}

/// Whether a record is white space only, with or without a byte order mark before it.
fn is_blank(record: &[u8]) -> bool {
    record.strip_prefix("\u{feff}".as_bytes()).unwrap_or(record).trim_ascii().is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl RecordSink for Vec<Vec<u8>> {
        fn records(&mut self, bytes: &[u8], bounds: &[Range<usize>]) -> Result<(), crate::error::Closed> {
            self.extend(bounds.iter().map(|b| bytes[b.clone()].to_vec()));
            Ok(())
        }
    }

    /// A reader that gives pieces of at most `piece` bytes.
    fn pieces(bytes: &[u8], piece: usize) -> impl FnMut(&mut [u8]) -> io::Result<usize> {
        let mut rest = bytes;
        move |buf| {
            let len = rest.len().min(piece).min(buf.len());
            buf[..len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            Ok(len)
        }
    }

    fn split(bytes: &[u8], piece: usize, record_max: usize) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        Splitter::new(b'\n', record_max).split(pieces(bytes, piece), &mut records).unwrap();
        records
    }

    #[test]
    fn a_record_lies_between_delimiters() {
        for (text, records) in [
            ("", &[][..]),
            ("a", &["a"]),
            ("a\n", &["a"]),
            ("a\nb", &["a", "b"]),
            ("\n\na\n\n", &["", "", "a", ""]),
            ("a\r\n", &["a\r"]),
        ] {
            for piece in [1, 2, 100] {
                assert_eq!(
                    split(text.as_bytes(), piece, 100),
                    records.iter().map(|r| r.as_bytes()).collect::<Vec<_>>()
                );
            }
        }
    }

    #[test]
    fn f139_blank_records_at_the_end_are_none_where_records_are_values() {
        for (text, records) in [
            ("", &[][..]),
            ("1\n\n", &["1"]),
            ("1\r\n \t\r\n\r", &["1\r"]),
            ("\n\n", &[]),
            ("\u{feff}\n", &[]),
            ("\n1\n\n\n2\n", &["", "1", "", "", "2"]),
            ("1\n  \n2", &["1", "", "2"]),
        ] {
            for piece in [1, 2, 100] {
                let mut found = Vec::new();
                let mut splitter = Splitter::new(b'\n', 100).without_blank_end();
                // Each stream has an end of its own.
                for _ in 0..2 {
                    splitter.split(pieces(text.as_bytes(), piece), &mut found).unwrap();
                }
                let records: Vec<_> = records.iter().chain(records).map(|r| r.as_bytes()).collect();
                assert_eq!(found, records, "{text:?}");
            }
        }
        let many = BOUNDS_MAX * 2 + 3;
        let mut found = Vec::new();
        let text = "\n".repeat(many) + "1";
        Splitter::new(b'\n', 9)
            .without_blank_end()
            .split(pieces(text.as_bytes(), usize::MAX), &mut found)
            .unwrap();
        assert!(found.len() == many + 1 && found[many] == b"1");
    }

    #[test]
    fn a_record_over_the_limit_is_cut_and_those_behind_it_are_whole() {
        for piece in [1, 3, 100] {
            assert_eq!(split(b"abc\nabcdefgh\nabc\nabcd", piece, 3), [&b"abc"[..], b"abcd", b"abc", b"abcd"]);
        }
    }

    #[test]
    fn a_record_longer_than_a_read_is_put_together() {
        let mut text = vec![b'x'; 3 * READ_LEN + 7];
        text.extend_from_slice(b"\ny\n");
        let records = split(&text, usize::MAX, usize::MAX - 1);
        assert_eq!((records[0].len(), &records[1][..]), (3 * READ_LEN + 7, &b"y"[..]));
    }

    #[test]
    fn what_came_before_a_read_error_is_passed_on() {
        let mut text = pieces(b"a\nb", 2);
        let mut records = Vec::new();
        let read = |buf: &mut [u8]| match text(buf)? {
            0 => Err(io::ErrorKind::InvalidData.into()),
            len => Ok(len),
        };
        let stopped = Splitter::new(b'\n', 10).split(read, &mut records);
        assert!(matches!(stopped, Err(StoppedReading::Read(_))));
        assert_eq!(records, [b"a", b"b"]);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same_records(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..60),
            piece in 1usize..70,
        ) {
            let mut expected: Vec<Vec<u8>> = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(split(&text, piece, 100), expected);
        }
    }
}
