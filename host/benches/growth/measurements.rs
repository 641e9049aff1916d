//! The measurements: what grows, from how much to how much, and the goal.

use std::time::Duration;

/// What a figure must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// The large figure is at most this.
    Large(f64),
    /// The large figure is at most this many times the small one.
    Ratio(f64),
    /// The large figure is at least this many times the small one: the large one is a peer's.
    RatioAtLeast(f64),
}

/// A figure of a measurement, and its row in the table.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
}

/// One call of a function of [`FUNCTIONS`] in a process of its own.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) label: String,
    pub(crate) function: &'static str,
    pub(crate) args: Vec<String>,
    /// A measurement that takes longer counts as one that hangs.
    pub(crate) at_most: Duration,
}

/// One pair of cases. Each gives all figures.
#[derive(Debug)]
pub(crate) struct Measurement {
    /// The promise that it belongs to: the number in the first column.
    pub(crate) promise: u32,
    pub(crate) name: &'static str,
    pub(crate) small: Case,
    pub(crate) large: Case,
    pub(crate) figures: Vec<Figure>,
}

/// Measures, and gives the figures in the order of [`Measurement::figures`].
pub(crate) type Function = fn(&[String]) -> Result<Vec<f64>, String>;

/// The functions by their names.
pub(crate) const FUNCTIONS: [(&str, Function); 20] = [
    ("start", super::workers::start),
    ("fairness", super::jobs::fairness),
    ("order", super::jobs::order),
    ("apply-among", super::jobs::apply_among),
    ("threads", super::jobs::threads),
    ("busy", super::workers::busy),
    ("paced", super::workers::paced),
    ("paced-by-one", super::workers::paced_by_one),
    ("tiny", super::workers::tiny),
    ("sleepers", super::workers::sleepers),
    ("map", super::memory::map),
    ("slow-reader", super::memory::slow_reader),
    ("untaken", super::memory::untaken),
    ("collected", super::memory::collected),
    ("fixed", super::values::fixed),
    ("plans", super::values::plans),
    ("record", super::memory::record),
    ("resume", super::memory::resume),
    ("parse", super::values::parse),
    ("profile", super::memory::profile),
];

/// The functions whose two cases are two ways to do the same.
pub(crate) const COMPARISONS: [(&str, Function); 3] = [
    ("retries", super::speed::retries),
    ("round-trip", super::speed::round_trip),
    ("python-round-trip", super::speed::python_round_trip),
];

fn case(label: impl Into<String>, function: &'static str, args: &[&str]) -> Case {
    Case {
        label: label.into(),
        function,
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        at_most: Duration::from_secs(240),
    }
}

/// A measurement with one figure, whose cases are two numbers behind the arguments that they share.
fn grows(
    (promise, name): (u32, &'static str),
    (function, shared): (&'static str, &[&str]),
    (noun, small, large): (&str, u64, u64),
    figure: (&'static str, &'static str, Goal),
) -> Measurement {
    let of = |number: u64| {
        let number_text = number.to_string();
        let args = [shared, &[number_text.as_str()]].concat();
        case(format!("{} {noun}", super::report::thousands(number as f64)), function, &args)
    };
    let (what, unit, goal) = figure;
    let figures = vec![Figure { what, unit, goal }];
    Measurement { promise, name, small: of(small), large: of(large), figures }
}

impl Measurement {
    /// The same with one figure more.
    fn and(mut self, what: &'static str, unit: &'static str, goal: Goal) -> Measurement {
        self.figures.push(Figure { what, unit, goal });
        self
    }
}

/// All measurements, in the order of the table. `quick` makes the large ones smaller, where that takes long.
pub(crate) fn all(quick: bool, python: &str) -> Vec<Measurement> {
    let groups =
        [of_workers(quick), of_jobs(quick), of_memory(quick), of_values(quick), of_speed(quick, python)];
    let mut all: Vec<Measurement> = groups.into_iter().flatten().collect();
    all.sort_by_key(|measurement| measurement.promise);
    all
}

fn of_workers(quick: bool) -> Vec<Measurement> {
    let records = if quick { "200000" } else { "1000000" };
    vec![
        grows(
            (1, "workers-start"),
            ("start", &[]),
            ("workers", 100, 1000),
            ("a pool starts all its workers at once", "s", Goal::Large(1.5)),
        ),
        grows(
            (5, "workers-busy-500"),
            ("busy", &[]),
            ("workers", 100, 500),
            ("the coordinator beside looping guests with a time limit", "% of a core", Goal::Large(1.0)),
        ),
        grows(
            (5, "workers-busy-1000"),
            ("busy", &[]),
            ("workers", 100, 1000),
            ("the coordinator beside looping guests with a time limit", "% of a core", Goal::Large(1.0)),
        ),
        grows(
            (5, "workers-paced"),
            ("paced", &[]),
            ("workers", 10, 1000),
            ("the pool's thread, while workers end 1,000 tasks a second", "% of a core", Goal::Ratio(2.0)),
        ),
        grows(
            (5, "workers-idle"),
            ("paced-by-one", &[]),
            ("workers", 10, 1000),
            ("the same, if one of them does all tasks", "% of a core", Goal::Ratio(2.0)),
        ),
        grows(
            (5, "workers-tiny"),
            ("tiny", &[records]),
            ("workers", 2, 400),
            ("a record of 16 bytes in a warm pool", "us", Goal::Ratio(3.0)),
        ),
        grows(
            (6, "workers-sleep"),
            ("sleepers", &[]),
            ("sleepers", 50, 500),
            ("all processes of a pool whose guests sleep", "% of a core", Goal::Large(3.0)),
        ),
    ]
}

fn of_jobs(quick: bool) -> Vec<Measurement> {
    let mut all = vec![
        grows(
            (2, "jobs-fairness"),
            ("fairness", &[]),
            ("threads that loop", 1, 4),
            (
                "calls of `apply` for each result of an `imap`, while threads loop `apply`",
                "calls",
                Goal::Large(5.0),
            ),
        ),
        grows(
            (3, "jobs-order"),
            ("order", &[]),
            ("tasks", 100, 10_000),
            ("one worker begins a task of `apply_async` too early or too late", "places", Goal::Large(0.0)),
        ),
        grows(
            (4, "jobs-apply-10000"),
            ("apply-among", &[]),
            ("idle streams", 0, 10_000),
            ("one `apply` among idle streams", "us", Goal::Ratio(2.0)),
        ),
        grows(
            (4, "jobs-threads"),
            ("threads", &[]),
            ("jobs", 100, 10_000),
            ("threads of the process while jobs of `map_async` wait", "threads", Goal::Large(32.0)),
        ),
    ];
    if !quick {
        all.insert(
            3,
            grows(
                (4, "jobs-apply-100000"),
                ("apply-among", &[]),
                ("idle streams", 0, 100_000),
                ("one `apply` among idle streams", "us", Goal::Ratio(2.0)),
            ),
        );
    }
    all
}

fn of_memory(quick: bool) -> Vec<Measurement> {
    let (small, large) = if quick { (100, 1000) } else { (500, 5000) };
    // The default budget of results that wait is 64 MiB. The rest is the program, and results on their way.
    let goal = Goal::Large(100.0);
    let records = (
        "records of 16 bytes",
        if quick { 20_000 } else { 100_000 },
        if quick { 200_000 } else { 1_000_000 },
    );
    let results = ("results of 1 MiB", small, large);
    vec![
        grows((7, "memory-text"), ("map", &["text"]), results, ("peak of `wpool map`", "MiB", goal)),
        grows(
            (7, "memory-jsonl"),
            ("map", &["jsonl"]),
            results,
            ("peak of `wpool map --format jsonl`", "MiB", goal),
        ),
        grows(
            (7, "memory-slow-reader"),
            ("slow-reader", &[]),
            ("results of 1 MiB", small / 2, large / 5),
            ("peak of `wpool map` before a slow reader, as `gzip` is", "MiB", goal),
        ),
        grows(
            (7, "memory-stream"),
            ("untaken", &["stream"]),
            results,
            ("peak of a program whose stream waits, then is read", "MiB", goal),
        ),
        grows(
            (7, "memory-imap"),
            ("untaken", &["imap"]),
            results,
            ("peak of a program whose `imap` waits, then is read", "MiB", goal),
        ),
        grows(
            (7, "memory-map-async"),
            ("collected", &[]),
            ("results of 1 MiB", 100, 1000),
            ("peak of a program with a `map_async`, by the bytes of its results", "times", Goal::Large(1.2)),
        ),
        grows(
            (9, "memory-record"),
            ("record", &[]),
            ("MiB", 30, 300),
            ("peak of `wpool map` with one large record, by its bytes", "times", Goal::Large(2.1)),
        ),
        grows(
            (9, "memory-resume"),
            ("resume", &[]),
            records,
            ("memory of `--resume` for a record that is done", "bytes", Goal::Large(24.0)),
        ),
        grows(
            (9, "memory-profile"),
            ("profile", &[]),
            ("workers", 2, 32),
            ("memory of `--profile guest`, by the bytes of the profile", "times", Goal::Large(32.0)),
        ),
    ]
}

fn of_values(quick: bool) -> Vec<Measurement> {
    // A value may also be refused, with a message that names a limit.
    let parse = |name, form: &'static [&'static str], kib: (u64, u64), what| {
        let text = ("KiB of text", kib.0, kib.1);
        grows((9, name), ("parse", form), text, (what, "times", Goal::Large(32.0))).and(
            "the same: time for each KiB",
            "ms",
            Goal::Ratio(2.0),
        )
    };
    // Options that are left out may take 64 MiB, however short the text is: below 2 MiB of text, that is more
    // than 32 times.
    let (options, variants) = ((64, 4096), (4, 64));
    let seconds = ("a fixed argument's first task, for each MiB", "s", Goal::Large(0.05));
    vec![
        grows((8, "values-fixed"), ("fixed", &[]), ("MiB", 1, 32), seconds)
            .and("the same: memory of the coordinator, by the argument's bytes", "times", Goal::Large(4.0))
            .and("the same: memory of a worker, by the argument's bytes", "times", Goal::Large(4.0)),
        grows(
            (8, "values-plans"),
            ("plans", &[]),
            ("functions", 20, if quick { 200 } else { 1000 }),
            (
                "memory of the coordinator after functions with a fixed argument of 64 KiB",
                "MiB",
                Goal::Ratio(1.5),
            ),
        )
        .and("the same: memory of a worker", "MiB", Goal::Ratio(1.5)),
        parse(
            "values-wave-options",
            &["wave", "options"],
            options,
            "a WAVE text of records of 1,000 options: memory by its bytes",
        ),
        parse(
            "values-wave-variants",
            &["wave", "variants"],
            variants,
            "a WAVE text of variants of 1,000 cases: memory by its bytes",
        ),
        parse(
            "values-json-options",
            &["json", "options"],
            options,
            "a JSON text of records of 1,000 options: memory by its bytes",
        ),
        parse(
            "values-json-variants",
            &["json", "variants"],
            variants,
            "a JSON text of variants of 1,000 cases: memory by its bytes",
        ),
    ]
}

fn of_speed(quick: bool, python: &str) -> Vec<Measurement> {
    let records = if quick { "200000" } else { "1000000" };
    let trip = |name, count: &str, pause: &str, goal| Measurement {
        promise: 11,
        name,
        small: case("wpool", "round-trip", &[count, pause]),
        large: case("CPython's `Pool.apply`", "python-round-trip", &[python, count, pause]),
        figures: vec![Figure { what: "a task there and back", unit: "us", goal: Goal::RatioAtLeast(goal) }],
    };
    let mut trips = vec![
        trip("speed-round-trip", if quick { "2000" } else { "10000" }, "0", 20.0),
        trip("speed-round-trip-after-a-rest", if quick { "200" } else { "1000" }, "0.002", 4.0),
    ];
    trips[1].figures[0].what = "the same after a rest of 2 ms";
    let retries = Measurement {
        promise: 10,
        name: "speed-retries",
        small: case("no retries", "retries", &[records, "0"]),
        large: case("`--retries 1`", "retries", &[records, "1"]),
        figures: vec![Figure {
            what: "`wpool map`, a tenth of the records fail",
            unit: "s",
            goal: Goal::Ratio(1.5),
        }],
    };
    [retries].into_iter().chain(trips).collect()
}
