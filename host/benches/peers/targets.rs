//! The targets for wpool, as ratios inside one run.

use super::machine;
use super::measure::{Results, figures};
use super::workloads::{
    ALL, APPLY, APPLY_ASLEEP, ASLEEP, AWAKE, BARE, BINDING_FRESH, BINDING_REUSED, CHUNK_1, COMPILE,
    FIRST_RUN, FRESH, FRESH_SDK, JSONL, JSONL_SDK, LOGGED, LOGGED_SDK, MAP, REUSE, REUSE_BARE, REUSE_SDK,
    T13, TENTH, WPOOL,
};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => value >= bound,
            Bound::AtMost(bound) => value <= bound,
        }
    }

    fn show(self, unit: &str) -> String {
        match self {
            Bound::AtLeast(bound) => format!(">= {}{unit}", short(bound)),
            Bound::AtMost(f64::INFINITY) => String::new(),
            Bound::AtMost(bound) => format!("<= {}{unit}", short(bound)),
        }
    }
}

fn short(bound: f64) -> String {
    format!("{:.2}", bound).trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub(crate) struct Target {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) bound: Bound,
    pub(crate) stretch: Option<Bound>,
    /// `None` if the workload or the peer was not measured.
    pub(crate) value: Option<f64>,
}

impl Target {
    /// A row of the report's table.
    pub(crate) fn row(&self) -> String {
        let (value, verdict) = match self.value {
            None => ("-".to_owned(), "not measured"),
            Some(value) => (format!("{}{}", figures(value), self.unit), self.verdict(value)),
        };
        let stretch = self.stretch.map_or(String::new(), |bound| bound.show(self.unit));
        let Target { id, what, .. } = self;
        format!("| {id} | {what} | {} | {stretch} | {value} | {verdict} |", self.bound.show(self.unit))
    }

    fn verdict(&self, value: f64) -> &'static str {
        match (self.bound.holds(value), self.stretch) {
            (false, _) => "**not met**",
            (true, Some(stretch)) if self.bound == Bound::AtMost(f64::INFINITY) && !stretch.holds(value) => {
                "stretch not met"
            }
            (true, Some(stretch)) if stretch.holds(value) => "met, and the stretch",
            (true, _) => "met",
        }
    }
}

pub(crate) fn targets(results: &Results) -> Vec<Target> {
    use Bound::{AtLeast, AtMost};
    let row = |id, what, unit, bound, stretch, value| Target { id, what, unit, bound, stretch, value };
    let ratio = |workload, contender: &str, other: &str| results.ratio(workload, contender, other);
    let times = |id, what, least, stretch: Option<f64>, value| {
        row(id, what, "x", AtLeast(least), stretch.map(AtLeast), value)
    };
    let at_most = |id, what, most, value| row(id, what, "x", AtMost(most), None, value);
    let percent = |id, what, most, value: Option<f64>| {
        row(id, what, " %", AtMost(most), None, value.map(|v| 100.0 * v))
    };
    let share = |workload, contender: &str| {
        let figures = results.get(workload, contender)?;
        Some(figures.ideal? / figures.median)
    };
    let over_ideal = |contender: &str| Some(1.0 / share("W3", contender)? - 1.0);
    let cpu_us = results.get("W1", FRESH_SDK).and_then(|figures| Some(figures.second? * 1e6));
    let mib = |contender: &str| Some(results.get(T13, contender)?.median / 1024.0);
    let memory = |what, contender: &str| {
        let value = ratio("W6", MAP, contender);
        row("T10", what, "", AtMost(1.0 / 6.0), Some(AtMost(1.0 / 15.0)), value)
    };
    let growth = mib(ALL).zip(mib(TENTH)).map(|(all, tenth)| all / tenth);
    vec![
        times(
            "T1",
            "W1 `--reuse`, one call per record, against Pool.map",
            2.2,
            Some(3.0),
            ratio("W1", REUSE, MAP),
        ),
        times(
            "T1",
            "W1 `--reuse`, the SDK's guest, against Pool.map",
            4.0,
            Some(5.5),
            ratio("W1", REUSE_SDK, MAP),
        ),
        times(
            "T2",
            "W1 fresh against the binding, fresh",
            30.0,
            Some(40.0),
            ratio("W1", FRESH, BINDING_FRESH),
        ),
        row(
            "T3",
            "W1 fresh, the SDK's guest: processor time of a task",
            " us",
            AtMost(14.0),
            Some(AtMost(8.0)),
            cpu_us,
        ),
        times("T4", "W8 against Pool.apply, back to back", 20.0, None, ratio("W8", AWAKE, APPLY)),
        times("T4", "W8 against Pool.apply, both asleep", 4.0, None, ratio("W8", ASLEEP, APPLY_ASLEEP)),
        row(
            "T5",
            "W2t reuse: share of the ideal",
            "",
            AtLeast(0.92),
            Some(AtLeast(0.95)),
            share("W2t", REUSE),
        ),
        row(
            "T5",
            "W2t fresh: share of the ideal",
            "",
            AtLeast(0.86),
            Some(AtLeast(0.90)),
            share("W2t", FRESH),
        ),
        times("T5", "W2t reuse against Pool.map, chunksize=1", 1.9, None, ratio("W2t", REUSE, CHUNK_1)),
        times("T6", "W2 against Pool.map", 125.0, None, ratio("W2", REUSE, MAP)),
        times("T6", "W2 against the binding, reused", 1.5, None, ratio("W2", REUSE, BINDING_REUSED)),
        percent("T7", "W3 -j 1: over the ideal", 3.0, over_ideal("wpool -j1")),
        percent("T7", "W3 -j 2: over the ideal", 3.0, over_ideal("wpool -j2")),
        percent("T7", "W3 -j 4: over the ideal", 3.0, over_ideal("wpool -j4")),
        percent("T7", "W3 -j 16: over the ideal", 10.0, over_ideal("wpool -j16")),
        times("T8", "W4 against Pool.map", 7.0, Some(12.0), ratio("W4", REUSE, MAP)),
        times("T9", "W5, 1 task, against CPython's Pool", 8.0, None, ratio("W5", WPOOL, MAP)),
        times("T9", "W5, 13 tasks -j 5, against CPython's Pool", 8.0, None, ratio("W5x13", WPOOL, MAP)),
        percent(
            "T9",
            "first run over compile",
            30.0,
            ratio("W5first", COMPILE, FIRST_RUN).map(|ratio| ratio - 1.0),
        ),
        memory("W6 private memory against CPython's: `--reuse`", REUSE),
        memory("W6 private memory against CPython's: fresh", FRESH),
        times(
            "T11",
            "W7 against fork",
            2.0,
            Some(3.0),
            ratio("W7", "wpool Process", "CPython Process, fork"),
        ),
        times(
            "T11",
            "W7 against forkserver",
            12.0,
            None,
            ratio("W7", "wpool Process", "CPython Process, forkserver"),
        ),
        times("T11", "W7 against spawn", 50.0, None, ratio("W7", "wpool Process", "CPython Process, spawn")),
        row("T12", "W1 reuse: walls on against off", "", AtMost(1.05), None, ratio("W1", REUSE_BARE, REUSE)),
        row("T12", "W5, 1 task: walls on against off", "", AtMost(1.25), None, ratio("W5", BARE, WPOOL)),
        row("T13", "coordinator memory, all records", " MiB", AtMost(64.0), None, mib(ALL)),
        // Constant memory is a stretch only. The 64 MiB above are the target.
        row(
            "T13",
            "the same against a tenth of the records",
            "",
            AtMost(f64::INFINITY),
            Some(AtMost(1.1)),
            growth,
        ),
        times("T14", "W9 against Pool.map", 2.1, None, ratio("W9", REUSE, MAP)),
        times("T14", "W9 against Pool.map, chunksize=1", 1.4, None, ratio("W9", REUSE, CHUNK_1)),
        at_most("T18", "W1 reuse: `--joblog` on against off", 1.5, ratio("W1", REUSE, LOGGED)),
        at_most("T18", "the same, the SDK's guest", 1.5, ratio("W1", REUSE_SDK, LOGGED_SDK)),
        at_most("T18", "W1 reuse: `--format jsonl` against text", 1.5, ratio("W1", REUSE, JSONL)),
        at_most("T18", "the same, the SDK's guest", 1.5, ratio("W1", REUSE_SDK, JSONL_SDK)),
    ]
}

/// A caution for the report on a machine with another number of processors than the targets assume.
pub(crate) fn caution() -> Option<String> {
    match machine::cores() {
        2 => None,
        cores => Some(format!("The targets are for a machine with 2 processors; this one has {cores}.")),
    }
}
