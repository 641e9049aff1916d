//! One line of a job log, to and from text.
//!
//! The first nine columns are those of GNU parallel, so programs that read its logs read these.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use super::place::Mark;
use super::row::{Row, UNKNOWN};
use crate::cli::record::InputDigest;
use crate::escape::{OneLine, is_visible_ascii};

/// The first line of a log up to its mark. The mark and a newline follow.
const HEADER_START: &str = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\t\
    Kind\tAttempt\tRerun\tInput\tModule\tExport\tSettings\tFuel\tMemory\tOutput:";
/// The offset of the mark in the log.
pub(super) const MARK_AT: u64 = HEADER_START.len() as u64;
/// The length of a first line.
pub(super) const HEADER_LEN: usize = HEADER_START.len() + Mark::LEN + 1;
/// The first line of a log of an earlier version, without the column `Output`.
pub(super) const HEADER_BEFORE: &str = "\
    Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\t\
    Kind\tAttempt\tRerun\tInput\tModule\tExport\tSettings\tFuel\tMemory\n";
/// The first line of a log of GNU parallel.
pub(super) const HEADER_OF_PARALLEL: &str =
    "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n";

/// Which columns a log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum LogVersion {
    /// All but the last. An earlier version of wpool began the log, and its lines keep that form.
    WithoutOutput,
    /// All columns.
    #[default]
    WithOutput,
}

impl LogVersion {
    fn columns(self) -> usize {
        match self {
            LogVersion::WithoutOutput => 18,
            LogVersion::WithOutput => 19,
        }
    }
}

/// The first line of a new log, without a mark.
pub(super) fn header() -> String {
    format!("{HEADER_START}{}\n", Mark::text(None))
}

/// The version and the mark of a first line.
pub(super) fn read_header(line: &[u8]) -> Option<(LogVersion, Option<Mark>)> {
    if line == HEADER_BEFORE.as_bytes() {
        return Some((LogVersion::WithoutOutput, None));
    }
    let mark = line.strip_prefix(HEADER_START.as_bytes())?.strip_suffix(b"\n")?;
    Mark::parse(mark).map(|mark| (LogVersion::WithOutput, mark))
}

/// Whether a file that begins with `start` is a log or empty, so that it may be overwritten.
pub(super) fn is_log(start: &[u8]) -> bool {
    let headers = [HEADER_START, HEADER_BEFORE].map(str::as_bytes);
    headers.iter().any(|header| start.starts_with(header) || header.starts_with(start))
}

/// What was run: the same in every line of a run. A resumed run must have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunIdentity<T = String> {
    /// The beginning of the module's digest, in hex.
    pub(super) module: T,
    /// The function's path, escaped.
    pub(super) export: T,
    /// The beginning of a digest of everything else that decides about results, in hex.
    pub(super) settings: T,
}

impl RunIdentity {
    /// Digits of `settings`. Earlier versions of wpool wrote 16 digits of a digest of other bytes.
    pub(super) const SETTINGS_LEN: usize = 32;

    /// The three columns, with tabs between them.
    pub(super) fn columns(&self) -> String {
        [&self.module[..], &self.export, &self.settings].join("\t")
    }
}

impl RunIdentity<&str> {
    /// The first difference, in words.
    pub(super) fn difference(&self, ours: &RunIdentity) -> Option<String> {
        if self.module != ours.module {
            return Some(format!(
                "another module (sha256 {}..., this one has {}...)",
                self.module, ours.module
            ));
        }
        if self.export != ours.export {
            return Some(format!("another function ({}, this run calls {})", self.export, ours.export));
        }
        if self.settings.len() != ours.settings.len() {
            return Some(
                "an earlier version of wpool, which logged arguments, forms and grants in a form that \
                 cannot be compared"
                    .to_owned(),
            );
        }
        (self.settings != ours.settings)
            .then(|| "other arguments, forms of records or results, or grants".to_owned())
    }
}

/// What became of a task, as a line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct LogLine<'a> {
    /// The record's number in its input, from 1 on.
    pub(in crate::cli) seq: u64,
    /// When the attempt started, since 1970.
    pub(in crate::cli) started: Duration,
    /// Zero if the worker was lost.
    pub(in crate::cli) took: Duration,
    /// Bytes of the record.
    pub(in crate::cli) sent: u64,
    /// Bytes of the result.
    pub(in crate::cli) received: u64,
    pub(in crate::cli) exitval: u8,
    pub(in crate::cli) signal: u8,
    /// The beginning of the record, escaped.
    pub(in crate::cli) command: &'a str,
    /// `ok`, or the kind of error.
    pub(in crate::cli) kind: &'a str,
    pub(in crate::cli) attempt: u32,
    /// This line replaces an earlier one of the same task, which had failed.
    pub(in crate::cli) rerun: bool,
    pub(in crate::cli) input: InputDigest,
    pub(in crate::cli) fuel: Option<u64>,
    pub(in crate::cli) memory: Option<u64>,
    /// Where the result ends: in the output file, or in the bytes that the run has written into something
    /// else.
    pub(in crate::cli) output: Option<u64>,
}

/// The kind of a task that did not fail.
pub(in crate::cli) const OK: &str = "ok";

impl<'a> LogLine<'a> {
    pub(in crate::cli) fn is_ok(&self) -> bool {
        self.kind == OK
    }

    /// Appends the line. `identity`: see [`RunIdentity::columns`].
    pub(super) fn write(&self, identity: &str, version: LogVersion, to: &mut Vec<u8>) {
        let mut row = Row::begin(to, self.command.len() + self.kind.len() + identity.len());
        row.number(self.seq);
        row.text(":");
        row.time(self.started.as_secs(), self.started.subsec_millis());
        row.duration(self.took.as_secs(), self.took.subsec_micros());
        row.number(self.sent);
        row.number(self.received);
        row.number(self.exitval.into());
        row.number(self.signal.into());
        row.text(self.command);
        row.text(self.kind);
        row.number(self.attempt.into());
        row.number(self.rerun.into());
        row.digest(self.input);
        row.text(identity);
        row.known(self.fuel);
        row.known(self.memory);
        match version {
            LogVersion::WithoutOutput => {}
            LogVersion::WithOutput => row.known(self.output),
        }
        row.end();
    }

    /// Reads a line without its newline. The error says what is wrong with the line.
    pub(super) fn parse(
        line: &'a [u8],
        version: LogVersion,
    ) -> Result<(LogLine<'a>, RunIdentity<&'a str>), String> {
        let text = std::str::from_utf8(line).map_err(|_| "is not text".to_owned())?;
        if text.contains(|c: char| c.is_control() && c != '\t') {
            return Err("has control characters in it".to_owned());
        }
        let mut columns = Columns { names: HEADER_START.split('\t'), rest: text.split('\t') };
        let (count, expected) = (text.split('\t').count(), version.columns());
        if count != expected {
            return Err(format!("has {count} columns instead of {expected}"));
        }
        let seq = columns.read(|text| text.parse().ok().filter(|seq| *seq > 0))?;
        columns.read(|text| (!text.is_empty()).then_some(()))?;
        let (started, took) = (columns.read(seconds)?, columns.read(seconds)?);
        let (sent, received) = (columns.number()?, columns.number()?);
        let (exitval, signal) = (columns.number()?, columns.number()?);
        let command = columns.read(Some)?;
        let kind = columns.read(|text| Some(text).filter(|text| is_kind(text)))?;
        let attempt = columns.number()?;
        let rerun = columns.read(|text| match text {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        })?;
        let input = columns.read(InputDigest::parse)?;
        let module = columns.read(|text| is_hex(text).then_some(text))?;
        let export = columns.read(|text| (!text.is_empty()).then_some(text))?;
        let settings = columns.read(|text| is_hex(text).then_some(text))?;
        let (fuel, memory) = (columns.read(known)?, columns.read(known)?);
        let output = match version {
            LogVersion::WithoutOutput => None,
            LogVersion::WithOutput => columns.read(known)?,
        };
        let line = LogLine {
            seq,
            started,
            took,
            sent,
            received,
            exitval,
            signal,
            command,
            kind,
            attempt,
            rerun,
            input,
            fuel,
            memory,
            output,
        };
        Ok((line, RunIdentity { module, export, settings }))
    }
}

/// Reads the columns of a line, one after the other.
struct Columns<'a> {
    names: std::str::Split<'static, char>,
    rest: std::str::Split<'a, char>,
}

impl<'a> Columns<'a> {
    fn read<T>(&mut self, read: impl FnOnce(&'a str) -> Option<T>) -> Result<T, String> {
        let (name, text) = (self.names.next().unwrap_or_default(), self.rest.next().unwrap_or_default());
        let name = name.trim_end_matches(':');
        read(text)
            .ok_or_else(|| format!("has a wrong {name}: `{}`", text.chars().take(40).collect::<String>()))
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, String> {
        self.read(|text| text.parse().ok())
    }
}

/// `12.345`, with up to nine places.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if part.is_empty() || part.len() > 9 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos = format!("{part:0<9}").parse().ok()?;
    Some(Duration::new(whole.parse().ok()?, nanos))
}

#[expect(clippy::option_option, reason = "a wrong column, an unknown number, a number")]
fn known(text: &str) -> Option<Option<u64>> {
    match text {
        UNKNOWN => Some(None),
        text => text.parse().ok().map(Some),
    }
}

fn is_kind(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Bytes that a guest or an input has chosen, as text without tabs, newlines and control characters.
pub(super) fn escaped(bytes: &[u8], is_cut: bool) -> Cow<'_, str> {
    if !is_cut && is_visible_ascii(bytes, [b'\\']) {
        return Cow::Borrowed(std::str::from_utf8(bytes).expect("all of it is ASCII"));
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c => {
                    let _to_a_string = write!(text, "{}", OneLine(c.encode_utf8(&mut [0; 4])));
                }
            }
        }
        // The end of a cut record may be half a character.
        let is_half = is_cut && chunk.invalid().len() < 4 && bytes.ends_with(chunk.invalid());
        for byte in chunk.invalid().iter().filter(|_| !is_half) {
            let _to_a_string = write!(text, "\\x{byte:02x}");
        }
    }
    if is_cut {
        text.push('…');
    }
    Cow::Owned(text)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A log of these tasks: record, kind, and whether the line is of a second run.
    pub(in crate::cli::joblog) fn log(tasks: &[(&str, &str, bool)]) -> Vec<u8> {
        let mut text = header().into_bytes();
        for (at, (record, kind, rerun)) in tasks.iter().enumerate() {
            let line = LogLine {
                seq: at as u64 + 1,
                started: Duration::ZERO,
                took: Duration::from_millis(at as u64),
                sent: 0,
                received: 0,
                exitval: 0,
                signal: 0,
                command: record,
                kind,
                attempt: 1,
                rerun: *rerun,
                input: InputDigest::of(record.as_bytes()),
                fuel: None,
                memory: None,
                output: Some(at as u64 + 1),
            };
            line.write(&identity().columns(), LogVersion::WithOutput, &mut text);
        }
        text
    }

    pub(in crate::cli::joblog) fn identity() -> RunIdentity {
        RunIdentity {
            module: "ab".repeat(16),
            export: "run".to_owned(),
            settings: "0123456789abcdef".repeat(2),
        }
    }

    #[test]
    fn seconds_have_at_most_nine_places() {
        assert_eq!(seconds("1.5"), Some(Duration::new(1, 500_000_000)));
        assert_eq!(seconds("1.000000001"), Some(Duration::new(1, 1)));
        for wrong in ["1.", "1.0000000010", "1.9999999999", "1.+5", "1.5.5", "-1.5", ""] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_header_names_every_column_and_begins_as_that_of_parallel() {
        assert_eq!(header().trim_end().split('\t').count(), LogVersion::WithOutput.columns());
        assert_eq!(HEADER_BEFORE.trim_end().split('\t').count(), LogVersion::WithoutOutput.columns());
        assert!(
            header().starts_with(HEADER_BEFORE.trim_end())
                && header().starts_with(HEADER_OF_PARALLEL.trim_end())
        );
        assert_eq!(header().len(), HEADER_LEN);
    }

    #[test]
    fn a_line_reads_as_one_of_parallels_in_its_first_columns() {
        let line = LogLine {
            seq: 3,
            started: Duration::from_millis(1_700_000_000_042),
            took: Duration::from_micros(1_500),
            sent: 4,
            received: 0,
            exitval: 1,
            signal: 9,
            command: "a\\tb",
            kind: "worker-lost",
            attempt: 2,
            rerun: false,
            input: InputDigest::of(b"a\tb"),
            fuel: None,
            memory: Some(65536),
            output: Some(77),
        };
        let mut before = Vec::new();
        line.write(&identity().columns(), LogVersion::WithoutOutput, &mut before);
        assert!(before.ends_with(b"\t-\t65536\n"));
        let mut text = Vec::new();
        line.write(&identity().columns(), LogVersion::WithOutput, &mut text);
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.starts_with("3\t:\t1700000000.042\t0.001500\t4\t0\t1\t9\ta\\tb\tworker-lost\t2\t0\t"),
            "{text}"
        );
        assert!(text.ends_with("\trun\t0123456789abcdef0123456789abcdef\t-\t65536\t77\n"), "{text}");
    }

    #[test]
    fn wrong_columns_are_named() {
        let good =
            format!("1\t:\t1.0\t0.1\t1\t1\t0\t0\ta\tok\t1\t0\t{}\tab\trun\tcd\t-\t-\t-", "0".repeat(32));
        assert!(LogLine::parse(good.as_bytes(), LogVersion::WithOutput).is_ok());
        for (from, to, said) in [
            ("1\t:", "0\t:", "a wrong Seq: `0`"),
            ("1.0\t", "1.\t", "a wrong Starttime: `1.`"),
            ("0.1\t", "-0.1\t", "a wrong JobRuntime: `-0.1`"),
            ("\tok\t", "\tOK\t", "a wrong Kind: `OK`"),
            ("\tab\t", "\tAB\t", "a wrong Module: `AB`"),
            ("000\t", "00\t", "a wrong Input"),
            ("\t-\t-", "\t-\t-\t-", "20 columns instead of 19"),
            ("\t-\t-\t-", "\t-\t-\t-1", "a wrong Output: `-1`"),
            ("\ta\t", "\ta\x1b[2J\t", "control characters"),
            ("\t-\t-", "\t-", "18 columns"),
        ] {
            let wrong = good.replacen(from, to, 1);
            let error = LogLine::parse(wrong.as_bytes(), LogVersion::WithOutput).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(LogLine::parse(b"1\t\xff", LogVersion::WithOutput).unwrap_err(), "is not text");
        assert!(
            LogLine::parse(good.as_bytes(), LogVersion::WithoutOutput)
                .unwrap_err()
                .contains("19 columns instead of 18")
        );
    }

    #[test]
    fn text_in_columns_is_escaped() {
        assert_eq!(escaped(b"a\tb\nc\\d\"\x1b\xff\x00", false), "a\\tb\\nc\\\\d\"\\x1b\\xff\\0");
        assert_eq!(escaped("gr\u{f6}\u{df}e".as_bytes(), true), "größe…");
        assert_eq!(escaped(&"é".as_bytes()[..1], true), "…");
    }

    proptest! {
        #[test]
        fn lines_are_read_as_they_were_written(
            (seq, started, took) in (1u64.., 0u64..1 << 45, 0u64..1 << 50),
            (sent, received, exitval, signal) in (any::<u64>(), any::<u64>(), any::<u8>(), any::<u8>()),
            record in proptest::collection::vec(any::<u8>(), 0..60),
            export in "\\PC+",
            kind in "[a-z-]+",
            (attempt, rerun, is_cut) in (any::<u32>(), any::<bool>(), any::<bool>()),
            (fuel, memory, output) in (any::<Option<u64>>(), any::<Option<u64>>(), any::<Option<u64>>()),
        ) {
            let export = escaped(export.as_bytes(), false).into_owned();
            let identity = RunIdentity { export, ..identity() };
            let command = escaped(&record, is_cut);
            let line = LogLine {
                seq,
                started: Duration::from_millis(started),
                took: Duration::from_micros(took),
                sent,
                received,
                exitval,
                signal,
                command: &command,
                kind: &kind,
                attempt,
                rerun,
                input: InputDigest::of(&record),
                fuel,
                memory,
                output,
            };
            let mut text = Vec::new();
            line.write(&identity.columns(), LogVersion::WithOutput, &mut text);
            prop_assert_eq!(text.pop(), Some(b'\n'));
            let (read, of) = LogLine::parse(&text, LogVersion::WithOutput).unwrap();
            prop_assert_eq!(read, line);
            prop_assert_eq!(of.difference(&identity), None);
        }

        #[test]
        fn any_bytes_are_a_line_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _line_or_error = LogLine::parse(&bytes, LogVersion::WithOutput);
        }
    }
}
