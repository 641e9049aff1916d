//! One outcome as a line of `--format jsonl`.
//!
//! The line is written field by field, without `serde`: a million short tasks a second have a line each. What
//! is rare (errors, bytes that are no text, printed output) is left to `serde`.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::error::TaskError;
use crate::escape::{JsonText, write_json};
use crate::pool::Outcome;

/// Writes one outcome, without a newline. `number`: that of its record, from 0 on. `tag`: the record, if it
/// is shown.
#[inline]
pub(super) fn write_outcome(
    out: &mut impl io::Write,
    outcome: &Outcome<'_>,
    number: u64,
    result: &Result<&[u8], TaskError>,
    tag: Option<&[u8]>,
) -> io::Result<()> {
    let line = JsonLine {
        seq: number + 1,
        input: tag,
        result,
        took: outcome.took(),
        fuel: outcome.fuel(),
        mem_peak: outcome.mem_peak(),
        worker: outcome.worker(),
        pid: outcome.pid(),
        attempt: outcome.attempt(),
        stdout: outcome.stdout(),
        stderr: outcome.stderr(),
    };
    line.write(out)
}

struct JsonLine<'a> {
    seq: u64,
    input: Option<&'a [u8]>,
    result: &'a Result<&'a [u8], TaskError>,
    took: Option<Duration>,
    fuel: Option<u64>,
    mem_peak: Option<u64>,
    /// 0, as the process id, if no worker has answered.
    worker: u32,
    pid: u32,
    attempt: u32,
    stdout: &'a [u8],
    stderr: &'a [u8],
}

#[derive(Debug, Serialize)]
struct ErrorFields<'a> {
    kind: &'a str,
    message: Cow<'a, str>,
    /// The exit code of a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    trace: &'a [String],
}

impl JsonLine<'_> {
    fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        write_number(out, "{\"seq\":", self.seq)?;
        if let Some(input) = self.input {
            write_bytes(out, ",\"input", input)?;
        }
        match self.result {
            Ok(bytes) => {
                out.write_all(b",\"status\":\"ok\"")?;
                write_bytes(out, ",\"output", bytes)?;
            }
            Err(error) => write_error(out, error)?,
        }
        if let Some(took) = self.took {
            write_ms(out, took)?;
        }
        for (name, number) in [(",\"fuel\":", self.fuel), (",\"mem_peak\":", self.mem_peak)] {
            number.map_or(Ok(()), |number| write_number(out, name, number))?;
        }
        for (name, number) in [(",\"worker\":", self.worker), (",\"pid\":", self.pid)] {
            if number != 0 {
                write_number(out, name, number.into())?;
            }
        }
        write_number(out, ",\"attempt\":", self.attempt.into())?;
        for (name, printed) in [(",\"stdout\":", self.stdout), (",\"stderr\":", self.stderr)] {
            if !printed.is_empty() {
                out.write_all(name.as_bytes())?;
                write_json(&mut *out, &Lossy(printed));
            }
        }
        out.write_all(b"}")
    }
}

#[inline]
fn write_number(out: &mut impl io::Write, name: &str, number: u64) -> io::Result<()> {
    out.write_all(name.as_bytes())?;
    out.write_all(itoa::Buffer::new().format(number).as_bytes())
}

/// Writes milliseconds to the microsecond, with one decimal at least.
#[inline]
fn write_ms(out: &mut impl io::Write, took: Duration) -> io::Result<()> {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    write_number(out, ",\"ms\":", micros / 1000)?;
    // The thousand keeps the zeros in front.
    let mut buffer = itoa::Buffer::new();
    let [_thousand, first, rest @ ..] = buffer.format(1000 + micros % 1000).as_bytes() else {
        return Ok(());
    };
    out.write_all(&[b'.', *first])?;
    match rest {
        [b'0', b'0'] => Ok(()),
        [hundredths, b'0'] => out.write_all(&[*hundredths]),
        rest => out.write_all(rest),
    }
}

/// Writes bytes as text if they are UTF-8, else in base64, since JSON has no bytes. `name`: the field's, with
/// what stands before it.
#[inline]
fn write_bytes(out: &mut impl io::Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    out.write_all(name.as_bytes())?;
    if let Some(text) = JsonText::new(bytes) {
        out.write_all(b"\":")?;
        text.write(out)
    } else {
        out.write_all(b"_b64\":")?;
        write_json(out, &Base64(bytes));
        Ok(())
    }
}

/// Writes the status and the error of a task that failed.
fn write_error(out: &mut impl io::Write, error: &TaskError) -> io::Result<()> {
    let kind = error.kind();
    write!(out, ",\"status\":\"{kind}\",\"error\":")?;
    write_json(out, &ErrorFields { kind, message: error.message(), code: code(error), trace: trace(error) });
    Ok(())
}

fn code(error: &TaskError) -> Option<u32> {
    match error {
        TaskError::Exited { code } => Some(*code),
        _ => None,
    }
}

/// The frames of the guest's stack, if the error has some.
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

/// Bytes in standard base64, with padding.
#[derive(Debug)]
struct Base64<'a>(&'a [u8]);

/// Bytes that are encoded at once: a multiple of three, so that only the last piece has padding.
const BASE64_LEN: usize = 3 << 10;

impl fmt::Display for Base64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::with_capacity(BASE64_LEN / 3 * 4);
        for piece in self.0.chunks(BASE64_LEN) {
            text.clear();
            for group in piece.chunks(3) {
                let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
                let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
                for digit in 0..4 {
                    let value = (bits >> (18 - 6 * digit)) & 0x3f;
                    text.push(if digit <= group.len() { char::from(DIGITS[value as usize]) } else { '=' });
                }
            }
            f.write_str(&text)?;
        }
        Ok(())
    }
}

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Bytes as text. What is not UTF-8 becomes U+FFFD.
#[derive(Debug)]
struct Lossy<'a>(&'a [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

impl Serialize for Lossy<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const LINE: JsonLine<'_> = JsonLine {
        seq: 7,
        input: None,
        result: &Ok(b"A"),
        took: None,
        fuel: None,
        mem_peak: None,
        worker: 0,
        pid: 0,
        attempt: 1,
        stdout: b"",
        stderr: b"",
    };

    fn written(line: &JsonLine<'_>) -> String {
        let mut text = Vec::new();
        line.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn only_fields_that_have_a_value_are_written() {
        assert_eq!(written(&LINE), r#"{"seq":7,"status":"ok","output":"A","attempt":1}"#);
        let (took, stderr) = (Some(Duration::from_micros(1_250)), &b"a\xffb"[..]);
        let result = Ok(&b"\xff\xfe"[..]);
        let full = JsonLine { input: Some(b"\"a\n"), result: &result, took, fuel: Some(5), ..LINE };
        let full = JsonLine { mem_peak: Some(65536), worker: 3, pid: 42, attempt: 2, stderr, ..full };
        assert_eq!(
            written(&full),
            concat!(
                r#"{"seq":7,"input":"\"a\n","status":"ok","output_b64":"//4=","ms":1.25,"fuel":5,"#,
                "\"mem_peak\":65536,\"worker\":3,\"pid\":42,\"attempt\":2,\"stderr\":\"a\u{fffd}b\"}"
            )
        );
    }

    #[test]
    fn a_failure_has_an_error_in_place_of_its_output() {
        let backtrace = vec!["0: f\n".to_owned()];
        let trap: Result<&[u8], _> = Err(TaskError::Trap { message: "unreachable".to_owned(), backtrace });
        assert_eq!(
            serde_json::from_str::<Value>(&written(&JsonLine { result: &trap, ..LINE })).unwrap(),
            json!({
                "seq": 7, "status": "trap", "attempt": 1,
                "error": {"kind": "trap", "message": "trap: unreachable", "trace": ["0: f\n"]},
            })
        );
        let exit: Result<&[u8], _> = Err(TaskError::Exited { code: 3 });
        let text = written(&JsonLine { result: &exit, ..LINE });
        assert!(text.contains(r#""status":"exit","error":{"kind":"exit","message":"#), "{text}");
        assert!(text.contains(r#","code":3},"attempt":1}"#), "{text}");
    }

    proptest! {
        #[test]
        fn milliseconds_are_those_of_serde(micros in prop_oneof![0..3_000_000_u64, 0..1_u64 << 50]) {
            let mut text = Vec::new();
            write_ms(&mut text, Duration::from_micros(micros)).unwrap();
            let expected = format!(",\"ms\":{}", json!(micros as f64 / 1000.0));
            prop_assert_eq!(String::from_utf8(text).unwrap(), expected);
        }

        #[test]
        fn any_result_is_read_as_it_was_written(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let result = Ok(&bytes[..]);
            let read: Value = serde_json::from_str(&written(&JsonLine { result: &result, ..LINE })).unwrap();
            match std::str::from_utf8(&bytes) {
                Ok(text) => prop_assert_eq!(&read["output"], text),
                Err(_) => prop_assert_eq!(&read["output_b64"], &Base64(&bytes).to_string()),
            }
        }
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(Base64(bytes.as_bytes()).to_string(), text);
        }
        assert_eq!(Base64(&[0xff, 0xfe]).to_string(), "//4=");
        let long = vec![b'f'; 2 * BASE64_LEN + 1];
        assert_eq!(Base64(&long).to_string(), "ZmZm".repeat(2 * BASE64_LEN / 3) + "Zg==");
    }

    #[test]
    fn bytes_that_are_not_text_are_replaced_as_by_the_standard_library() {
        for bytes in [&b"a\xffb\xe2\x82"[..], b"", "größe".as_bytes()] {
            assert_eq!(Lossy(bytes).to_string(), String::from_utf8_lossy(bytes));
        }
    }
}
