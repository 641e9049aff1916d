//! What goes to stdout: results as text, or one JSON object per task, and nothing else.
//!
//! Text is the bytes of each result and a separator. A result that contains the separator looks like two
//! results; these are counted and reported at the end. The result of a command is its stdout, which usually
//! ends with a line end: one line end is left out before the newline that wpool adds, as shells do. A JSON
//! object is one line, and has all of the result. Large results are written from their place in memory, in
//! either form, without a copy.

use std::io;
use std::time::{Duration, Instant};

use super::choices::OutputForm;
use super::exit::{CliError, WpoolExit};
use super::jsonl::{self, trace};
use super::report::Report;
use super::stdio;
use crate::error::TaskError;
use crate::pool::Outcome;

/// Results are written when this many bytes are gathered, or when no more outcomes are there.
const BUFFER_LEN: usize = 128 << 10;
/// An outcome that may be longer is written by itself.
const BUFFER_MAX: usize = 2 * BUFFER_LEN;
/// The most bytes in JSON for one byte of text.
const JSON_GROWTH: usize = 6;

/// How results are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutputSettings {
    pub(super) form: OutputForm,
    /// The separator behind each result, or behind each JSON object.
    pub(super) end: u8,
    /// Each outcome must tell the time that its task took, for JSON or for the job log.
    pub(super) needs_times: bool,
}

/// Writes the results of a run.
pub(super) struct ResultPrinter {
    form: ResultForm,
    out: Buffer,
    /// A large outcome that is about to be written, or written in part.
    measured: Option<Unwritten>,
    ambiguous: u64,
}

/// How one outcome is written.
#[derive(Debug, Clone, Copy)]
struct ResultForm {
    form: OutputForm,
    end: u8,
    /// Results are what commands have printed.
    is_printed: bool,
}

/// Bytes that are about to be written: their number, and the last ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unwritten {
    pub(super) len: usize,
    pub(super) tail: Vec<u8>,
}

/// The length of [`Unwritten::tail`], unless there are fewer bytes.
const TAIL_LEN: usize = 64;

impl io::Write for Unwritten {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.len += bytes.len();
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_LEN)..]);
        // Not for each piece of an outcome, because a drain moves the bytes.
        if self.tail.len() > 64 * TAIL_LEN {
            self.tail.drain(..self.tail.len() - TAIL_LEN);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes for stdout. A write does not fail: the first error is kept, and later bytes are dropped.
struct Buffer {
    stdout: stdio::GuestData,
    /// Its progress is hidden during a write.
    report: Report,
    bytes: Vec<u8>,
    error: Option<io::Error>,
    /// The time that writing has taken.
    time: Duration,
}

impl Buffer {
    fn flush_bytes(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.write_out(&bytes);
        self.bytes = bytes;
        self.bytes.clear();
    }

    fn write_out(&mut self, bytes: &[u8]) {
        if self.error.is_none() && !bytes.is_empty() {
            let begun = Instant::now();
            self.report.beside_progress(|| self.error = self.stdout.write(bytes).err());
            self.time += begun.elapsed();
        }
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Earlier bytes go first.
        if self.bytes.len() + bytes.len() > BUFFER_MAX {
            self.flush_bytes();
        }
        if bytes.len() > BUFFER_MAX {
            self.write_out(bytes);
        } else {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_bytes();
        Ok(())
    }
}

impl ResultPrinter {
    pub(super) fn new(settings: OutputSettings, is_command: bool, report: &Report) -> ResultPrinter {
        let OutputSettings { form, end, .. } = settings;
        ResultPrinter {
            form: ResultForm { form, end, is_printed: is_command },
            out: Buffer {
                stdout: stdio::GuestData::to(rustix::stdio::stdout()),
                report: report.clone(),
                // The full size at once: growth would copy what is gathered.
                bytes: Vec::with_capacity(BUFFER_MAX),
                error: None,
                time: Duration::ZERO,
            },
            measured: None,
            ambiguous: 0,
        }
    }

    /// Whether an outcome must be written by itself.
    pub(super) fn is_large(
        &self,
        outcome: &Outcome<'_>,
        result: &Result<&[u8], TaskError>,
        tag: Option<&[u8]>,
    ) -> bool {
        let of_error =
            |error: &TaskError| error.message().len() + trace(error).iter().map(String::len).sum::<usize>();
        let printed = outcome.stdout().len() + outcome.stderr().len();
        let tag = tag.map_or(0, <[u8]>::len);
        // An upper bound by multiplication: the exact length of JSON would need the whole text to be written.
        let most = match (self.form.form, result) {
            (OutputForm::Text, Ok(bytes)) => tag + bytes.len(),
            (OutputForm::Text, Err(_)) => 0,
            (OutputForm::Jsonl, Ok(bytes)) => JSON_GROWTH * (tag + bytes.len() + printed),
            (OutputForm::Jsonl, Err(error)) => JSON_GROWTH * (tag + of_error(error) + printed),
        };
        most > BUFFER_MAX
    }

    /// Measures a large outcome before it is written. [`ResultPrinter::add`] writes a part of it at once, so
    /// the buffer alone would not tell what [`ResultPrinter::pending`] must say. Everything before the
    /// outcome has been written.
    pub(super) fn measure(
        &mut self,
        outcome: &Outcome<'_>,
        number: u64,
        result: &Result<&[u8], TaskError>,
        tag: Option<&[u8]>,
    ) {
        let mut pending = Unwritten::default();
        self.form.write(&mut pending, outcome, number, result, tag).expect("nothing is written");
        self.measured = Some(pending);
    }

    /// Adds one outcome, for [`ResultPrinter::flush`] to write. `number`: that of its record in the input,
    /// from 0 on. `tag`: the record, which is written before its result. `is_large`: what
    /// [`ResultPrinter::is_large`] has returned.
    pub(super) fn add(
        &mut self,
        outcome: &Outcome<'_>,
        number: u64,
        result: &Result<&[u8], TaskError>,
        tag: Option<&[u8]>,
        is_large: bool,
    ) {
        let written = if is_large {
            self.form.write(&mut self.out, outcome, number, result, tag)
        } else {
            self.form.write(&mut self.out.bytes, outcome, number, result, tag)
        };
        written.expect("Buffer keeps its error, and writing to a Vec does not fail");
        if let (OutputForm::Text, Ok(bytes)) = (self.form.form, result) {
            let holds_end = |bytes: &[u8]| memchr::memchr(self.form.end, bytes).is_some();
            // Counted, not refused: most results are read by people.
            let is_ambiguous = holds_end(self.form.shown(bytes)) || tag.is_some_and(holds_end);
            self.ambiguous += u64::from(is_ambiguous);
        }
    }

    /// Whether enough is gathered to be written.
    pub(super) fn is_full(&self) -> bool {
        self.out.bytes.len() >= BUFFER_LEN
    }

    /// Bytes of the outcomes since the last [`ResultPrinter::flush`], which the next one completes.
    pub(super) fn pending_len(&self) -> usize {
        self.measured.as_ref().map_or(self.out.bytes.len(), |measured| measured.len)
    }

    /// The same, with the last of these bytes.
    pub(super) fn pending(&self) -> Unwritten {
        let bytes = &self.out.bytes;
        let tail = || bytes[bytes.len().saturating_sub(TAIL_LEN)..].to_vec();
        self.measured.clone().unwrap_or_else(|| Unwritten { len: bytes.len(), tail: tail() })
    }

    /// Writes what is gathered. After the first error nothing more is written; [`ResultPrinter::finish`]
    /// returns it.
    pub(super) fn flush(&mut self) {
        self.out.flush_bytes();
        self.measured = None;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.out.error.is_some()
    }

    /// The time that writing has taken.
    pub(super) fn time(&self) -> Duration {
        self.out.time
    }

    /// A message if some results contain the separator: their number, and which option helps.
    pub(super) fn ambiguity(&self) -> Option<String> {
        let results = match self.ambiguous {
            0 => return None,
            1 => "1 result holds".to_owned(),
            count => format!("{count} results hold"),
        };
        Some(match self.form.end {
            0 => format!("{results} NUL bytes: use --format jsonl to tell where each ends"),
            _ => format!("{results} newlines: use -z or --format jsonl to tell where each ends"),
        })
    }

    /// Writes the rest.
    pub(super) fn finish(mut self) -> Result<(), CliError> {
        self.flush();
        // A result ends with its separator, so no character is left half written.
        self.out.error.map_or(Ok(()), |e| Err(CliError::output(e)))
    }
}

impl ResultForm {
    fn write(
        self,
        out: &mut impl io::Write,
        outcome: &Outcome<'_>,
        number: u64,
        result: &Result<&[u8], TaskError>,
        tag: Option<&[u8]>,
    ) -> io::Result<()> {
        match (self.form, result) {
            (OutputForm::Text, Ok(bytes)) => {
                if let Some(tag) = tag {
                    out.write_all(tag)?;
                    out.write_all(b"\t")?;
                }
                out.write_all(self.shown(bytes))?;
            }
            (OutputForm::Text, Err(_)) => return Ok(()),
            (OutputForm::Jsonl, result) => jsonl::write_outcome(&mut *out, outcome, number, result, tag)?,
        }
        out.write_all(&[self.end])
    }

    /// A result as text.
    fn shown(self, bytes: &[u8]) -> &[u8] {
        if self.is_printed && self.end == b'\n' { without_line_end(bytes) } else { bytes }
    }
}

/// The bytes without the line end at their end, if they have one.
pub(super) fn without_line_end(bytes: &[u8]) -> &[u8] {
    let line = bytes.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    line.unwrap_or(bytes)
}

/// Prints to stdout, for the subcommands that print once.
pub(super) fn print(bytes: &[u8]) -> Result<WpoolExit, CliError> {
    let mut stdout = stdio::GuestData::to(rustix::stdio::stdout());
    match stdout.write(bytes).and_then(|()| stdout.finish()) {
        Ok(()) => Ok(WpoolExit::Success),
        Err(e) => Err(CliError::output(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f140_one_line_end_is_left_out() {
        for (printed, shown) in
            [("", ""), ("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("\n", ""), ("a\r", "a\r")]
        {
            assert_eq!(without_line_end(printed.as_bytes()), shown.as_bytes(), "{printed:?}");
        }
    }
}
