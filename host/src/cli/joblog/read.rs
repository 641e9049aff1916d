//! Reads a log line by line, in bounded memory for any file.

use std::io::{self, BufRead, BufReader, Read};

use super::line::{HEADER_OF_PARALLEL, LogLine, LogVersion, RunIdentity, is_log, read_header};
use super::place::{Mark, Vouched};
use crate::cli::stdio;

/// The longest line that is read. The columns are short, but a function's name may be long. The limit also
/// keeps a file without newlines from being read whole.
const LINE_MAX: u64 = 1 << 20;

/// How much of a file is a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// Bytes of whole lines.
    pub(super) whole: u64,
    /// The beginning of a line follows: the program was killed, or the disk was full.
    pub(super) is_cut: bool,
    pub(super) version: LogVersion,
    mark: Option<Mark>,
    /// A line begins at the mark's place in the log.
    mark_is_bound: bool,
    /// Where the last line begins, and where its result ends.
    last: Option<(u64, Option<u64>)>,
}

impl Extent {
    /// The place at which the last line's result ends.
    pub(super) fn last_end(&self) -> Option<u64> {
        self.last.and_then(|(_, end)| end)
    }

    /// How much of the output belongs to the lines of the log.
    pub(super) fn vouched(&self) -> Vouched {
        let Some(mark) = self.mark else { return Vouched::Nothing };
        let within = |end: &u64| (mark.from..=mark.to).contains(end);
        match self.last {
            _ if !self.mark_is_bound && mark.log != self.whole => Vouched::Unclear,
            Some((at, end)) if at >= mark.log => {
                end.filter(within).map_or(Vouched::Unclear, |end| Vouched::Until(mark, end))
            }
            // The last line comes before the mark, and its result lies in the marked write: lines are
            // missing.
            Some((_, Some(end))) if !mark.is_moved && end > mark.from && end <= mark.to => Vouched::Unclear,
            Some(_) | None => Vouched::Until(mark, mark.from),
        }
    }
}

/// Why a file is not accepted as a log, or not as one of this run.
#[derive(Debug)]
pub(super) enum LogRefused {
    Read(io::Error),
    NotALog,
    OfParallel,
    Line {
        number: u64,
        wrong: String,
    },
    /// The line is good, and belongs to another run.
    Other {
        number: u64,
        difference: String,
    },
}

impl std::error::Error for LogRefused {}

impl std::fmt::Display for LogRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LogRefused::Read(e) => write!(f, "it cannot be read: {}", stdio::words(e)),
            LogRefused::NotALog => {
                f.write_str("it is not a job log of this version of wpool: name another file, or remove it")
            }
            LogRefused::OfParallel => f.write_str(
                "it is a job log of GNU parallel, which does not say what was run on what: name another file",
            ),
            LogRefused::Line { number, wrong } => {
                write!(f, "it is damaged: line {number} {wrong}; without that line, the others can be used")
            }
            LogRefused::Other { number, difference } => write!(f, "line {number} is of {difference}"),
        }
    }
}

/// Passes each line of a log to `each`, with its number. The beginning of a line at the end is left out.
pub(super) fn lines(
    log: impl Read,
    mut each: impl FnMut(u64, &LogLine<'_>, &RunIdentity<&str>) -> Result<(), LogRefused>,
) -> Result<Extent, LogRefused> {
    let mut log = BufReader::with_capacity(256 << 10, log);
    let mut bytes = Vec::new();
    let mut extent = Extent::default();
    for number in 1.. {
        bytes.clear();
        log.by_ref().take(LINE_MAX).read_until(b'\n', &mut bytes).map_err(LogRefused::Read)?;
        let whole = bytes.strip_suffix(b"\n");
        if let (1, Some((version, mark))) = (number, read_header(&bytes)) {
            extent = Extent { whole: bytes.len() as u64, version, mark, ..extent };
            continue;
        }
        match (number, whole) {
            (_, None) if bytes.is_empty() => break,
            (1, None) if is_log(&bytes) => extent.is_cut = true,
            (1, _) if bytes == HEADER_OF_PARALLEL.as_bytes() => return Err(LogRefused::OfParallel),
            (1, _) => return Err(LogRefused::NotALog),
            (_, None) if bytes.len() as u64 == LINE_MAX => {
                return Err(LogRefused::Line { number, wrong: "is too long".to_owned() });
            }
            (_, None) => extent.is_cut = true,
            (_, Some(whole)) => {
                let wrong = |wrong| LogRefused::Line { number, wrong };
                let (line, identity) = LogLine::parse(whole, extent.version).map_err(wrong)?;
                each(number, &line, &identity)?;
                extent.mark_is_bound |= extent.mark.is_some_and(|mark| mark.log == extent.whole);
                extent.last = Some((extent.whole, line.output));
            }
        }
        if extent.is_cut {
            break;
        }
        extent.whole += bytes.len() as u64;
    }
    Ok(extent)
}

#[cfg(test)]
mod tests {
    use super::super::line::tests::log;
    use super::*;

    #[test]
    fn f83_a_line_that_is_cut_is_left_out_wherever_it_is_cut() {
        let whole = log(&[("a", "ok", false), ("b", "ok", false)]);
        let ends: Vec<usize> = memchr::memchr_iter(b'\n', &whole).map(|at| at + 1).collect();
        for len in 0..=whole.len() {
            let mut count = 0;
            let extent = lines(&whole[..len], |_, _, _| {
                count += 1;
                Ok(())
            });
            let extent = extent.unwrap();
            let kept = ends.iter().rfind(|end| **end <= len).copied().unwrap_or(0);
            assert_eq!((extent.whole, extent.is_cut), (kept as u64, kept != len), "{len}");
            assert_eq!(count, ends.iter().skip(1).filter(|end| **end <= len).count());
        }
    }

    #[test]
    fn f83_a_file_that_is_no_log_or_is_damaged_is_refused_with_the_line() {
        let refused = |bytes: &[u8]| lines(bytes, |_, _, _| Ok(())).unwrap_err().to_string();
        assert!(refused(b"hello\nworld\n").contains("is not a job log"));
        assert!(refused(b"hello").contains("is not a job log"));
        assert!(refused(&vec![b'x'; 3 << 20]).contains("is not a job log"));
        assert!(refused(HEADER_OF_PARALLEL.as_bytes()).contains("GNU parallel"));
        let good = log(&[("a", "ok", false)]);
        assert!(refused(&[&good[..], b"garbage\n"].concat()).contains("line 3 has 1 columns"));
        assert!(refused(&[&good[..], b"\n"].concat()).contains("line 3 has 1 columns"));
        assert!(refused(&[&good[..], &good].concat()).contains("line 3 has a wrong Seq: `Seq`"));
        assert!(refused(&[&good[..], &vec![b'x'; 3 << 20]].concat()).contains("line 3 is too long"));
    }
}
