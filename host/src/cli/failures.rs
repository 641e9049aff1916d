//! How failed tasks and the output of guests are reported: enough to see what is wrong, and not more than a
//! person reads.
//!
//! A failed task gets a line, its trace and some of its output. The first few of the failures with the same
//! words are reported, and the others are counted. All reports together have a limit in bytes. The end of the
//! run says what was left out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::choices::Show;
use super::jsonl::trace;
use super::report::Report;
use crate::error::TaskError;
use crate::escape::{OneLine, lines, shortened};
use crate::pool::Outcome;

/// How much is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Lines of one task's output.
    lines: usize,
    /// Bytes of one task's output.
    bytes: usize,
    /// Failures with the same words.
    same: u64,
    /// Bytes about failures in the whole run.
    run: usize,
}

impl Bounds {
    const SHORT: Bounds = Bounds { lines: 20, bytes: 4 << 10, same: 10, run: 1 << 20 };
    const VERBOSE: Bounds = Bounds { lines: 200, bytes: 64 << 10, same: 100, run: 16 << 20 };
    const FULL: Bounds = Bounds { lines: usize::MAX, bytes: usize::MAX, same: u64::MAX, run: usize::MAX };

    pub(super) fn of(show: Show, is_verbose: bool) -> Bounds {
        match (show, is_verbose) {
            (Show::Full, _) => Bounds::FULL,
            (Show::Never | Show::Immediate, true) => Bounds::VERBOSE,
            (Show::Never | Show::Immediate, false) => Bounds::SHORT,
        }
    }
}

/// Failures with different words that are counted separately. Each takes the memory of a line.
const KINDS_MAX: usize = 1000;
/// Kinds that the end of the run names.
const KINDS_TOLD: usize = 10;
/// Bytes of a printed line that are looked at; fewer are shown.
const LINE_LOOK: usize = 8 << 10;

/// The failures of a run that have been reported or counted.
#[derive(Debug)]
pub(super) struct Failures {
    bounds: Bounds,
    /// The kinds, by the hash of their words.
    kinds: HashMap<u64, FailureKind>,
    /// Bytes that have been reported.
    said: usize,
    /// Failed tasks that are not reported because `said` has reached its bound.
    unsaid: u64,
}

#[derive(Debug)]
struct FailureKind {
    words: String,
    count: u64,
    /// The failures that are counted and not reported.
    counted: u64,
}

impl Failures {
    pub(super) fn new(bounds: Bounds) -> Failures {
        Failures { bounds, kinds: HashMap::new(), said: 0, unsaid: 0 }
    }

    /// Whether this failure is to be reported, and not only counted.
    pub(super) fn is_news(&mut self, error: &TaskError) -> bool {
        if self.bounds == Bounds::FULL {
            return true;
        }
        let words = error.to_string();
        let mut hasher = DefaultHasher::new();
        words.hash(&mut hasher);
        let is_room = self.kinds.len() < KINDS_MAX;
        match self.kinds.entry(hasher.finish()) {
            Entry::Occupied(kind) => {
                let kind = kind.into_mut();
                kind.count += 1;
                let is_news = kind.count <= self.bounds.same;
                kind.counted += u64::from(!is_news);
                is_news
            }
            Entry::Vacant(place) => {
                if is_room {
                    place.insert(FailureKind { words: shortened(&words), count: 1, counted: 0 });
                }
                true
            }
        }
    }

    /// Whether `len` bytes may be reported about a failed task. Counts them, or the task.
    pub(super) fn may_say(&mut self, len: usize) -> bool {
        let said = self.said.saturating_add(len);
        let may = said <= self.bounds.run;
        if may {
            self.said = said;
        } else {
            self.unsaid += 1;
        }
        may
    }

    /// What was left out, as lines for the end of the run.
    pub(super) fn rest(&self) -> Vec<String> {
        let mut kinds: Vec<&FailureKind> = self.kinds.values().filter(|kind| kind.counted > 0).collect();
        kinds.sort_by(|a, b| b.counted.cmp(&a.counted).then_with(|| a.words.cmp(&b.words)));
        let tasks =
            |count: u64| if count == 1 { "1 more task".to_owned() } else { format!("{count} more tasks") };
        let told = kinds.iter().take(KINDS_TOLD);
        let mut lines: Vec<String> = told
            .map(|kind| format!("{} failed with the same words: {}", tasks(kind.counted), kind.words))
            .collect();
        let (others, more) = (kinds.len().saturating_sub(KINDS_TOLD), kinds.iter().skip(KINDS_TOLD));
        if others > 0 {
            let count = more.map(|kind| kind.counted).sum();
            lines.push(format!("{} failed in {others} other ways that are reported above", tasks(count)));
        }
        if self.unsaid > 0 {
            let (tasks, kib) = (tasks(self.unsaid), self.bounds.run >> 10);
            lines.push(format!(
                "{tasks} failed without a report, because {kib} KiB had been written about others"
            ));
        }
        if !lines.is_empty() {
            lines.push(
                "--failure-output full reports everything, --format jsonl has each task's failure and output"
                    .to_owned(),
            );
        }
        lines
    }
}

/// Says why a single task has failed, with the frames of the guest's stack.
pub(super) fn say(error: &TaskError, report: &Report) {
    let (first, further) = lines(&error.message());
    let frames = trace(error).iter().map(|frame| format!("    {}", OneLine(frame)));
    report.failure(&first, &further.into_iter().chain(frames).collect::<Vec<_>>());
}

/// The last lines of each stream of a task, each line marked with the task.
pub(super) fn printed(outcome: &Outcome<'_>, number: u64, bounds: Bounds) -> String {
    let streams = [("stdout", outcome.stdout()), ("stderr", outcome.stderr())];
    let streams: Vec<_> = streams.into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
    let share = |most: usize| most / streams.len().max(1);
    let shown = |(name, bytes): &(&str, &[u8])| {
        let mark = format!("[task {number} {name}]");
        last_lines(&mark, bytes, share(bounds.lines), share(bounds.bytes))
    };
    streams.iter().map(shown).collect()
}

/// All lines of `bytes`, each behind `mark`.
pub(super) fn all_lines(mark: &str, bytes: &[u8]) -> String {
    last_lines(mark, bytes, usize::MAX, usize::MAX)
}

/// The last lines of `bytes`, at least one, each behind `mark`; before them a line with the number of lines
/// left out.
fn last_lines(mark: &str, bytes: &[u8], lines_max: usize, bytes_max: usize) -> String {
    let whole = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let (mut lines, mut len, mut end) = (Vec::new(), 0, whole.len());
    loop {
        let start = memchr::memrchr(b'\n', &whole[..end]).map_or(0, |at| at + 1);
        let line = &whole[start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = String::from_utf8_lossy(&line[..line.len().min(LINE_LOOK)]);
        let mut text = format!("{mark} {}\n", shortened(&text));
        if line.len() > LINE_LOOK {
            text.insert_str(text.len() - 1, &format!(" ... and {} bytes more", line.len() - LINE_LOOK));
        }
        len += text.len();
        if !lines.is_empty() && (lines.len() >= lines_max || len > bytes_max) {
            break;
        }
        lines.push(text);
        match start {
            0 => {
                end = 0;
                break;
            }
            start => end = start - 1,
        }
    }
    let before = match end {
        0 => 0,
        end => 1 + memchr::memchr_iter(b'\n', &whole[..end]).count(),
    };
    let lines = lines.into_iter().rev().collect::<String>();
    match before {
        0 => lines,
        1 => format!("{mark} ... 1 line before this is left out\n{lines}"),
        before => format!("{mark} ... {before} lines before this are left out\n{lines}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trap(message: &str) -> TaskError {
        TaskError::Trap { message: message.to_owned(), backtrace: vec![] }
    }

    #[test]
    fn the_same_failure_is_counted_after_the_first_few() {
        let mut failures = Failures::new(Bounds::SHORT);
        let news = (0..100).filter(|_| failures.is_news(&trap("unreachable"))).count();
        assert_eq!(news, 10);
        assert!(failures.is_news(&trap("divide by zero")));
        assert!((0..11).filter(|_| failures.is_news(&trap("other"))).count() == 10);
        let rest = failures.rest();
        assert!(rest[0].starts_with("90 more tasks failed with the same words: "), "{rest:?}");
        assert!(rest[0].contains("unreachable") && rest[1].starts_with("1 more task failed"), "{rest:?}");
        assert_eq!(rest.len(), 3);
        let mut full = Failures::new(Bounds::FULL);
        assert!((0..100).all(|_| full.is_news(&trap("unreachable"))));
        assert!(full.rest().is_empty());
    }

    #[test]
    fn reports_and_memory_have_a_bound_also_if_all_failures_differ() {
        let mut failures = Failures::new(Bounds::SHORT);
        let mut said = 0;
        for n in 0..20_000 {
            let text = format!("{n:>1000}");
            if failures.is_news(&trap(&text)) && failures.may_say(text.len()) {
                said += text.len();
            }
        }
        assert!(said <= 1 << 20 && failures.kinds.len() <= KINDS_MAX);
        let rest = failures.rest();
        assert!(
            rest[0].ends_with("failed without a report, because 1024 KiB had been written about others"),
            "{rest:?}"
        );
    }

    #[test]
    fn the_last_lines_are_shown_and_the_lines_before_them_counted() {
        let show = |text: &str, lines, bytes| last_lines("[t]", text.as_bytes(), lines, bytes);
        assert_eq!(show("a\nb\r\nc\n", 9, 999), "[t] a\n[t] b\n[t] c\n");
        assert_eq!(show("a\nb\nc", 2, 999), "[t] ... 1 line before this is left out\n[t] b\n[t] c\n");
        assert_eq!(show("a\n\n\nb\n", 1, 999), "[t] ... 3 lines before this are left out\n[t] b\n");
        assert_eq!(show("\n", 9, 999), "[t] \n");
        assert_eq!(show("aaaa\nbbbb\n", 9, 10), "[t] ... 1 line before this is left out\n[t] bbbb\n");
        assert_eq!(show("\x1b[2J", 9, 999), "[t] \\x1b[2J\n");
        let long = show(&"x".repeat(100 << 10), 9, 999);
        assert!(long.len() < 2000 && long.ends_with(" ... and 94208 bytes more\n"), "{long}");
        let flood = show(&"\u{1}\n".repeat(32768), 20, 4 << 10);
        assert!(flood.len() < (4 << 10) + 100 && flood.lines().count() == 21, "{flood}");
    }
}
