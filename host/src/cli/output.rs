//! What goes to stdout: results as text, or one JSON object per task. Nothing else ever does.
//!
//! Text is the results' own bytes, each with a separator behind it; a result that holds the separator looks like two, which is counted and told
//! at the end. The result of a command is what it has printed, which ends with a line end more often than not: one is left out before a
//! newline of ours, as shells do. A JSON object is one line whatever is in it, and has all of the result.

use std::borrow::Cow;
use std::io;

use serde::Serialize;

use super::args::{MapArgs, OutputForm};
use super::exit::{Exit, Failure};
use super::stdio;
use crate::error::TaskError;
use crate::escape::write_json;
use crate::pool::Outcome;

/// Results are written out when so many bytes have come together, or when no more are there.
const BUFFER_LEN: usize = 128 << 10;

/// Writes outcomes in the form asked for.
pub(super) struct Output {
    form: OutputForm,
    end: u8,
    stdout: stdio::Data,
    buffer: Vec<u8>,
    error: Option<io::Error>,
    ambiguous: u64,
    /// Results are what commands have printed.
    is_printed: bool,
}

/// One line of `--format jsonl`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_b64: Option<String>,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fuel: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_peak: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    worker: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pid: u32,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
}

#[derive(Debug, Serialize)]
struct ErrorFields<'a> {
    kind: &'a str,
    message: Cow<'a, str>,
    /// With which a command has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    trace: &'a [String],
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Output {
    pub(super) fn new(args: &MapArgs, is_command: bool) -> Output {
        let end = if args.print0 { 0 } else { b'\n' };
        Output {
            form: args.format,
            end,
            stdout: stdio::Data::to(rustix::stdio::stdout()),
            buffer: Vec::with_capacity(BUFFER_LEN),
            error: None,
            ambiguous: 0,
            is_printed: is_command,
        }
    }

    /// Adds one outcome, to be written out by [`Output::flush`]. `number`: that of its record in the input, from 0 on. `tag`: the record,
    /// which stands before its result.
    pub(super) fn add(
        &mut self,
        outcome: &Outcome<'_>,
        number: u64,
        result: &Result<&[u8], TaskError>,
        tag: Option<&[u8]>,
    ) {
        match (self.form, result) {
            (OutputForm::Text, Ok(bytes)) => {
                if let Some(tag) = tag {
                    self.buffer.extend_from_slice(tag);
                    self.buffer.push(b'\t');
                }
                let bytes = if self.is_printed && self.end == b'\n' { without_line_end(bytes) } else { bytes };
                self.buffer.extend_from_slice(bytes);
                self.buffer.push(self.end);
                let holds_end = |bytes: &[u8]| memchr::memchr(self.end, bytes).is_some();
                self.ambiguous += u64::from(holds_end(bytes) || tag.is_some_and(holds_end));
            }
            (OutputForm::Text, Err(_)) => {}
            (OutputForm::Jsonl, result) => {
                let line = line(outcome, number, result, tag);
                write_json(&mut self.buffer, &line);
                self.buffer.push(self.end);
            }
        }
    }

    /// Whether enough has come together to be written out.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= BUFFER_LEN
    }

    /// What [`Output::flush`] will write.
    pub(super) fn pending(&self) -> &[u8] {
        &self.buffer
    }

    /// Writes out what there is. After the first error nothing more is tried: it is kept for the end.
    pub(super) fn flush(&mut self) {
        if self.error.is_none() && !self.buffer.is_empty() {
            self.error = self.stdout.write(&self.buffer).err();
        }
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_LEN * 8);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// How many results cannot be told from several by who reads the output, in words, and what would help.
    pub(super) fn ambiguity(&self) -> Option<String> {
        let results = match self.ambiguous {
            0 => return None,
            1 => "1 result holds".to_owned(),
            count => format!("{count} results hold"),
        };
        Some(match self.end {
            0 => format!("{results} NUL bytes: use --format jsonl to tell where each ends"),
            _ => format!("{results} newlines: use -z or --format jsonl to tell where each ends"),
        })
    }

    /// Writes out the rest.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.flush();
        // A result ends with its separator, so that no character is left half written.
        self.error.map_or(Ok(()), |e| Err(Failure::output(e)))
    }
}

/// Without one line end, if it has one.
pub(super) fn without_line_end(bytes: &[u8]) -> &[u8] {
    let line = bytes.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    line.unwrap_or(bytes)
}

fn line<'a>(
    outcome: &Outcome<'_>,
    number: u64,
    result: &'a Result<&[u8], TaskError>,
    tag: Option<&'a [u8]>,
) -> Line<'a> {
    let text = |bytes: &[u8]| (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned());
    let (input, input_b64) = tag.map_or((None, None), text_or_base64);
    let (output, output_b64) = result.as_ref().map_or((None, None), |bytes| text_or_base64(bytes));
    let error = result.as_ref().err();
    Line {
        seq: number + 1,
        input,
        input_b64,
        status: error.map_or("ok", TaskError::kind),
        output,
        output_b64,
        error: error.map(|e| ErrorFields { kind: e.kind(), message: e.message(), code: code(e), trace: trace(e) }),
        ms: outcome.took().map(|took| took.as_micros() as f64 / 1000.0),
        fuel: outcome.fuel(),
        mem_peak: outcome.mem_peak(),
        worker: outcome.worker(),
        pid: outcome.pid(),
        attempt: outcome.attempt(),
        stdout: text(outcome.stdout()),
        stderr: text(outcome.stderr()),
    }
}

fn code(error: &TaskError) -> Option<u32> {
    match error {
        TaskError::Exited { code } => Some(*code),
        _ => None,
    }
}

/// The guest's frames, where there are any.
pub(super) fn trace(error: &TaskError) -> &[String] {
    match error {
        TaskError::Trap { backtrace, .. } => backtrace,
        TaskError::Failed { .. }
        | TaskError::Limit { .. }
        | TaskError::Exited { .. }
        | TaskError::BadRecord { .. }
        | TaskError::BadResult { .. }
        | TaskError::WorkerLost { .. }
        | TaskError::Cancelled
        | TaskError::Closed
        | TaskError::Broken { .. } => &[],
    }
}

/// JSON has no bytes: one of the two.
fn text_or_base64(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(base64(bytes))),
    }
}

/// Standard base64, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 0x3f;
            text.push(if digit <= group.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}

/// Prints something whole.
pub(super) fn print(bytes: &[u8]) -> Result<Exit, Failure> {
    let mut stdout = stdio::Data::to(rustix::stdio::stdout());
    match stdout.write(bytes).and_then(|()| stdout.finish()) {
        Ok(()) => Ok(Exit::Success),
        Err(e) => Err(Failure::output(e)),
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

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe]), "//4=");
    }
}
