//! `wpool report`: the runs of a job log in a few lines.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use super::line::LogLine;
use super::read::{LogRefused, lines};
use crate::cli::exit::{CliError, OrExit, WpoolExit};
use crate::cli::output;
use crate::escape::OneLine;

/// How many of the slowest tasks are named.
const SLOWEST: usize = 5;

pub(in crate::cli) fn report(path: &Path) -> Result<WpoolExit, CliError> {
    let summary = File::open(path).map_err(LogRefused::Read).and_then(Summary::of);
    let summary = summary.or_exit(WpoolExit::Usage, || format!("cannot report on {}", path.display()))?;
    output::print(summary.text().as_bytes())
}

#[derive(Debug, Default)]
struct Summary {
    /// The number of lines of each kind.
    kinds: BTreeMap<String, u64>,
    reruns: u64,
    /// The time of each line: eight bytes, and nothing else here grows with the log.
    micros: Vec<u64>,
    /// The slowest first.
    slowest: Vec<Slow>,
}

#[derive(Debug)]
struct Slow {
    micros: u64,
    text: String,
}

impl Summary {
    fn of(log: impl Read) -> Result<Summary, LogRefused> {
        let mut summary = Summary::default();
        lines(log, |_, line, _| {
            summary.add(line);
            Ok(())
        })?;
        summary.micros.sort_unstable();
        Ok(summary)
    }

    fn add(&mut self, line: &LogLine<'_>) {
        match self.kinds.get_mut(line.kind) {
            Some(count) => *count += 1,
            None => _ = self.kinds.insert(line.kind.to_owned(), 1),
        }
        self.reruns += u64::from(line.rerun);
        let micros = u64::try_from(line.took.as_micros()).unwrap_or(u64::MAX);
        self.micros.push(micros);
        let at = self.slowest.partition_point(|slow| slow.micros >= micros);
        if at < SLOWEST {
            let text = format!("task {} ({}): {}", line.seq, line.kind, OneLine(line.command));
            self.slowest.insert(at, Slow { micros, text });
            self.slowest.truncate(SLOWEST);
        }
    }

    fn text(&self) -> String {
        let count = self.micros.len();
        let mut text = format!("{count} run{}", if count == 1 { "" } else { "s" });
        if self.reruns > 0 {
            let _to_a_string = write!(text, " of {} tasks", (count as u64).saturating_sub(self.reruns));
        }
        let kinds: Vec<String> = self.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        if kinds.is_empty() {
            return text + "\n";
        }
        let total = self.micros.iter().fold(0u64, |total, micros| total.saturating_add(*micros));
        let at = |percent: usize| time(self.micros[(count * percent / 100).min(count - 1)]);
        let (half, most, nearly_all) = (at(50), at(90), at(99));
        let _to_a_string = writeln!(text, ": {}", kinds.join(", "));
        let within = format!("half within {half}, 90 % within {most}, 99 % within {nearly_all}");
        let _to_a_string = writeln!(text, "time: {} in all; {within}", time(total));
        text.push_str("slowest:\n");
        for Slow { micros, text: task } in &self.slowest {
            let _to_a_string = writeln!(text, "  {:>10}  {task}", time(*micros));
        }
        text
    }
}

/// A time in the unit that fits: `1.50s`, `12.3ms`, `45µs`.
fn time(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros}µs"),
        1_000..1_000_000 => format!("{:.1}ms", micros as f64 / 1e3),
        _ => format!("{:.2}s", Duration::from_micros(micros).as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::tests::log;
    use super::*;

    #[test]
    fn runs_are_counted_by_kind_and_the_slowest_named() {
        let log = log(&[("a", "ok", false), ("b", "trap", false), ("c", "ok", false), ("b", "ok", true)]);
        let text = Summary::of(&log[..]).unwrap().text();
        let expected = "4 runs of 3 tasks: 3 ok, 1 trap
time: 6.0ms in all; half within 2.0ms, 90 % within 3.0ms, 99 % within 3.0ms
slowest:
       3.0ms  task 4 (ok): b
       2.0ms  task 3 (ok): c
       1.0ms  task 2 (trap): b
         0µs  task 1 (ok): a
";
        assert_eq!(text, expected);
        assert_eq!(Summary::of(&b""[..]).unwrap().text(), "0 runs\n");
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        assert_eq!([0, 999, 12_345, 1_500_000].map(time), ["0µs", "999µs", "12.3ms", "1.50s"]);
    }
}
