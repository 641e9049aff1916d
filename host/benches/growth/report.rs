//! The table, in Markdown.

use super::measurements::{Figure, Goal, Measurement};

pub(crate) const HEAD: &str = "\
| # | what | small | large | large / small | goal | |
|---|---|---:|---:|---:|---:|---|";

/// What stands below the table.
pub(crate) const LAST: &str = "\
The speed of a `Process`, of whole commands, of short tasks and of the job log (12) is in the tables of the
benchmark `peers`: T1, T8, T9, T11, and the scaling table of the task time.";

/// The rows of a measurement: one for each figure.
pub(crate) fn rows(
    measurement: &Measurement,
    small: &Result<Vec<f64>, String>,
    large: &Result<Vec<f64>, String>,
) -> Vec<String> {
    let figures = measurement.figures.iter().enumerate();
    let row = |(at, figure): (usize, &Figure)| {
        let of =
            |measured: &Result<Vec<f64>, String>| measured.as_ref().ok().and_then(|all| all.get(at).copied());
        let show = |value: Option<f64>, label: &str| match value {
            Some(value) => format!("{} {} ({label})", thousands(value), figure.unit),
            None => format!("failed ({label})"),
        };
        let (small, large) = (of(small), of(large));
        let (ratio, verdict) = match (small, large) {
            (Some(small), Some(large)) => (large / small, judge(figure.goal, small, large)),
            (None, _) | (_, None) => (f64::NAN, "**failed**"),
        };
        format!(
            "| {} | {} | {} | {} | {} | {} | {verdict} |",
            measurement.promise,
            figure.what,
            show(small, &measurement.small.label),
            show(large, &measurement.large.label),
            if ratio.is_finite() { thousands(ratio) } else { "-".to_owned() },
            goal(figure),
        )
    };
    figures.map(row).collect()
}

fn judge(goal: Goal, small: f64, large: f64) -> &'static str {
    let holds = match goal {
        Goal::Large(most) => large <= most,
        Goal::Ratio(most) => large <= most * small,
        Goal::RatioAtLeast(least) => large >= least * small,
    };
    if holds { "met" } else { "**not met**" }
}

fn goal(figure: &Figure) -> String {
    match figure.goal {
        Goal::Large(most) => format!("<= {} {}", thousands(most), figure.unit),
        Goal::Ratio(most) => format!("ratio <= {}", thousands(most)),
        Goal::RatioAtLeast(least) => format!("ratio >= {}", thousands(least)),
    }
}

/// The value with three significant figures, and commas between thousands. The rest is noise.
pub(crate) fn thousands(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        v if v < 1.0 => 3,
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        v => {
            let step = 10f64.powf(v.log10().floor() - 2.0);
            return with_commas(&format!("{:.0}", (value / step).round() * step));
        }
    };
    let text = format!("{value:.decimals$}");
    if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn with_commas(digits: &str) -> String {
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
