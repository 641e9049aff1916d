//! Runs rounds of contenders, and computes medians, spreads and ratios.

use std::collections::BTreeMap;

/// The figures of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Seconds or KiB of the whole run. Less is better.
    pub(crate) value: f64,
    /// The figure of the table's second column: seconds of processor time, or KiB.
    pub(crate) second: Option<f64>,
}

/// One way to do a workload.
pub(crate) struct Contender<'b> {
    pub(crate) name: String,
    /// The number of operations in one run: tasks, starts, or what else the workload counts.
    pub(crate) ops: f64,
    /// The seconds of a run in which only the tasks take time.
    pub(crate) ideal: Option<f64>,
    pub(crate) run: Box<dyn Fn() -> Result<Sample, String> + 'b>,
}

/// The unit of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Operations per second.
    PerSecond,
    /// Operations per second, each of one MiB.
    MibPerSecond,
    Micros,
    Millis,
    Kib,
}

impl Unit {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Unit::PerSecond => "per second",
            Unit::MibPerSecond => "MiB/s",
            Unit::Micros => "us",
            Unit::Millis => "ms",
            Unit::Kib => "KiB",
        }
    }

    /// The text for a figure of one operation.
    pub(crate) fn show(self, per_op: f64) -> String {
        match self {
            Unit::PerSecond => thousands(1.0 / per_op),
            Unit::MibPerSecond => thousands(1.0 / per_op),
            Unit::Micros => figures(per_op * 1e6),
            Unit::Millis => figures(per_op * 1e3),
            Unit::Kib => thousands(per_op),
        }
    }
}

pub(crate) struct Workload<'b> {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
    /// The title and the unit of the second column.
    pub(crate) second: Option<(&'static str, Unit)>,
    /// The contender that the others are compared with.
    pub(crate) baseline: &'static str,
    pub(crate) contenders: Vec<Contender<'b>>,
}

/// A contender's figures, each for one operation.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) median: f64,
    /// The distance from the best round to the worst, as a part of the median.
    pub(crate) spread: f64,
    pub(crate) second: Option<f64>,
    pub(crate) ideal: Option<f64>,
}

pub(crate) struct Measured<'b> {
    pub(crate) workload: Workload<'b>,
    /// The figures of each contender, in the order of the workload, or the reason for having none.
    pub(crate) figures: Vec<Result<Figures, String>>,
}

/// Runs all contenders in each round, each time in another order. A contender that fails once is left out.
pub(crate) fn measure<'b>(workload: Workload<'b>, rounds: usize, random: &mut Random) -> Measured<'b> {
    let contenders = &workload.contenders;
    let mut samples: Vec<Result<Vec<Sample>, String>> = contenders.iter().map(|_| Ok(Vec::new())).collect();
    for round in 1..=rounds {
        for at in random.order(contenders.len()) {
            eprint!("\r\x1b[K{} round {round}/{rounds}: {}", workload.id, contenders[at].name);
            let Ok(so_far) = &mut samples[at] else { continue };
            match (contenders[at].run)() {
                Ok(sample) => so_far.push(sample),
                Err(why) => samples[at] = Err(why),
            }
        }
    }
    eprint!("\r\x1b[K");
    let figures =
        samples.into_iter().zip(contenders).map(|(samples, contender)| Ok(figures_of(&samples?, contender)));
    Measured { figures: figures.collect(), workload }
}

fn figures_of(samples: &[Sample], contender: &Contender<'_>) -> Figures {
    let mut values: Vec<f64> = samples.iter().map(|sample| sample.value / contender.ops).collect();
    let mut seconds: Vec<f64> =
        samples.iter().filter_map(|sample| Some(sample.second? / contender.ops)).collect();
    let median = median(&mut values);
    Figures {
        median,
        spread: (values[values.len() - 1] - values[0]) / median,
        second: (!seconds.is_empty()).then(|| self::median(&mut seconds)),
        ideal: contender.ideal.map(|ideal| ideal / contender.ops),
    }
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Looks up figures by workload and contender.
pub(crate) struct Results(BTreeMap<(&'static str, String), Figures>);

impl Results {
    pub(crate) fn of(all: &[Measured<'_>]) -> Results {
        let figures = all.iter().flat_map(|measured| {
            let id = measured.workload.id;
            let named = measured.workload.contenders.iter().zip(&measured.figures);
            named.filter_map(move |(contender, figures)| {
                Some(((id, contender.name.clone()), figures.clone().ok()?))
            })
        });
        Results(figures.collect())
    }

    pub(crate) fn get(&self, workload: &'static str, contender: &str) -> Option<&Figures> {
        self.0.get(&(workload, contender.to_owned()))
    }

    /// The ratio of `other` to `contender`. Above 1, `contender` is faster, or smaller.
    pub(crate) fn ratio(&self, workload: &'static str, contender: &str, other: &str) -> Option<f64> {
        Some(self.get(workload, other)?.median / self.get(workload, contender)?.median)
    }
}

/// Pseudorandom numbers. The order of contenders needs no better ones.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for at in (1..count).rev() {
            self.0 = super::native::xorshift(1, self.0);
            order.swap(at, (self.0 % (at as u64 + 1)) as usize);
        }
        order
    }
}

/// The value with three significant figures.
pub(crate) fn figures(value: f64) -> String {
    let decimals = match value {
        v if v < 1.0 => 3,
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

pub(crate) fn thousands(value: f64) -> String {
    let digits = match value {
        v if v < 100.0 => return figures(v),
        // Three significant figures, as in `figures`. The rest is noise.
        v => {
            let step = 10f64.powf(v.log10().floor() - 2.0);
            format!("{:.0}", (v / step).round() * step)
        }
    };
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        match (digits.len() - at) % 3 {
            0 if at > 0 => text.extend([',', digit]),
            _ => text.push(digit),
        }
    }
    text
}
