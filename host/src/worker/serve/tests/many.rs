//! Many records in one call look like one call for each.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::protocol::message::Identity;
use crate::sys::{CoordinatorPage, WorkerPage};
use crate::worker::guest::CurrentProcess;

/// The two sides of one status page.
fn pages() -> (CoordinatorPage, Arc<WorkerPage>) {
    let (page, fd) = CoordinatorPage::create().unwrap();
    (page, Arc::new(WorkerPage::open(fd).unwrap()))
}

const BY_HAND_TEXT: &[u8] = include_bytes!("../many.wat");

static BY_HAND: LazyLock<Compiled> = LazyLock::new(|| Compiled::new(BY_HAND_TEXT, true));

fn call() -> Call {
    Call {
        path: "run".to_owned(),
        input: RAW.0,
        output: RAW.1,
        fixed: FixedArgs::default(),
        argv: vec![],
        ok_exit: vec![],
        timed: false,
    }
}

fn prebuilt(name: &str) -> Compiled {
    let path = format!("{}/../guest/prebuilt/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
    Compiled::new(&std::fs::read(path).unwrap(), false)
}

static PREBUILT: LazyLock<Vec<(&str, Compiled)>> = LazyLock::new(|| {
    ["upper", "failing", "counter", "hello", "wordcount", "sha256", "primes", "stats"]
        .map(|name| (name, prebuilt(name)))
        .into()
});

/// What a worker with one instance for all says of these batches: with `run-many`, or as if the guest had
/// none.
fn said(
    compiled: &Compiled,
    batches: &[Vec<&[u8]>],
    many: bool,
    change: impl FnOnce(&mut Setup),
) -> Vec<String> {
    said_of(compiled, batches, many, false, change)
}

/// The same of a plan that is timed or not.
fn said_of(
    compiled: &Compiled,
    batches: &[Vec<&[u8]>],
    many: bool,
    timed: bool,
    change: impl FnOnce(&mut Setup),
) -> Vec<String> {
    let mut guest = compiled.guest(|setup| {
        setup.isolation = Isolation::Reuse;
        setup.limits.time = Some(Duration::from_millis(60));
        if !many {
            setup.info.exports.retain(|export| export.path != "run-many");
        }
        change(setup);
    });
    let (page, workers) = pages();
    guest.enter(
        CurrentProcess::new(Identity { name: "PoolWorker-7".to_owned(), index: 7 }, workers, Box::new(|| ())),
        None,
    );
    let script =
        batches.iter().fold(Script::default().plan(1, RAW, timed), |script, batch| script.batch(1, batch));
    let tick = guest.engine_tick();
    let over = AtomicBool::new(false);
    let (code, said) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(2));
                tick.advance();
            }
        });
        let ended = script.shutdown().run_in(guest);
        over.store(true, Ordering::Relaxed);
        ended
    });
    assert_eq!(code, 0);
    // Each record is started, once; then the shutdown.
    assert_eq!(page.started(), batches.iter().map(Vec::len).sum::<usize>() as u64 + 1);
    said
}

#[track_caller]
fn assert_same(compiled: &Compiled, batches: &[Vec<&[u8]>], change: impl Fn(&mut Setup)) -> Vec<String> {
    let one_by_one = said(compiled, batches, false, &change);
    let many = said(compiled, batches, true, &change);
    assert_eq!(many, one_by_one);
    many
}

fn small(setup: &mut Setup) {
    setup.limits.output = 500;
    setup.limits.memory = 1 << 20;
}

#[test]
fn a_guest_of_the_sdk_is_called_for_many() {
    for (name, compiled) in &*PREBUILT {
        let mut guest = compiled.guest(|setup| setup.isolation = Isolation::Reuse);
        let call = Call {
            path: "run".to_owned(),
            input: RAW.0,
            output: RAW.1,
            fixed: FixedArgs::default(),
            argv: vec![],
            ok_exit: vec![],
            timed: false,
        };
        assert!(guest.add_plan(1, call));
        assert!(!guest.takes_many(1), "{name}: not without an instance from before");
        guest.run(1, 1, b"7", &mut Vec::new());
        assert!(guest.takes_many(1), "{name}");
    }
}

#[test]
fn each_way_to_fail_costs_its_record_only_and_the_instance_as_before() {
    let ways: [&[u8]; 8] = [b"!", b"?what", b"u", b"x", b"m", b"s", b"l", b""];
    for way in ways {
        // A live instance; then the failure first, in the midst, last, twice in a row; and on with what is
        // left of the instance.
        let batches = [
            vec![&b"n"[..], b"n", b"n"],
            vec![way, b"n", b"n"],
            vec![b"n", b"a", way, b"n", b"n", way, way, b"n"],
            vec![b"n", way],
            vec![b"n", b"n"],
        ];
        let said = assert_same(&BY_HAND, &batches, small);
        assert_eq!(said.len(), 1 + 18 + batches.len(), "{said:?}");
    }
}

#[test]
fn a_guest_that_breaks_the_rules_of_run_many_harms_itself_only() {
    let run = |batch: Vec<&[u8]>| said(&BY_HAND, &[vec![b"n"], batch], true, small)[3..].to_vec();
    let early = "-BadResult { message: \"run-many returned before it was told to\" }";
    // The instance is given up: the count begins anew.
    assert_eq!(run(vec![b"n", b"e", b"n", b"n"]), ["+002", early, "+001", "+002", "BatchDone"]);
    // Who reports too much has answered for the record behind it, too, until there is none.
    assert_eq!(run(vec![b"n", b"r", b"n", b"n"]), ["+002", "+r", "+", "+", "BatchDone"]);
    assert_eq!(run(vec![b"n", b"r"]), ["+002", "+r", "BatchDone"]);
    // Outside of its memory there is no outcome, whichever way it hands it in.
    let [.., outside, count, _] = &run(vec![b"n", b"w", b"n"])[..] else { panic!("too little was said") };
    assert!(outside.starts_with("-trap") && count == "+001", "{outside}");
    // It may not report either where there is nothing to report.
    let stray = "-trap: report is only for run-many";
    let said = said(&BY_HAND, &[vec![b"p", b"n"]], false, small);
    assert_eq!(said[1..], [stray, "+001", "BatchDone"]);
}

#[test]
fn what_is_printed_is_the_tasks_that_printed_it() {
    let hello = &PREBUILT.iter().find(|(name, _)| *name == "hello").unwrap().1;
    let said = assert_same(hello, &[vec![b"a:0"], vec![b"b:0", b"bad:x", b"c:0"]], |_| {});
    let printed = format!("printed PoolWorker-7 (process {})\n", std::process::id());
    assert_eq!(said[4], printed);
    assert!(said[5].starts_with("+"), "{said:?}");
    assert!(said[6].starts_with("-Failed"), "{said:?}");
    assert_eq!(said[7], printed);
}

#[test]
fn the_time_and_the_memory_of_each_of_many_records_are_told() {
    let mut guest = BY_HAND.guest(|setup| setup.isolation = Isolation::Reuse);
    assert!(guest.add_plan(1, Call { timed: true, ..call() }));
    guest.run(1, 1, b"n", &mut Vec::new());
    assert!(guest.takes_many(1));
    // Failures of each kind among them: an answer, an error, a trap, a refused growth, the limit on results.
    let batches = [vec![&b"n"[..], b"n"], vec![b"n", b"?what", b"n", b"!", b"n", b"m", b"l", b"n", b"n"]];
    let one_by_one = said_of(&BY_HAND, &batches, false, true, small);
    assert_eq!(one_by_one.iter().filter(|said| *said == "Took").count(), 11);
    assert_eq!(said_of(&BY_HAND, &batches, true, true, small), one_by_one);
}

#[test]
fn where_fuel_is_counted_each_record_is_called_for() {
    let compiled = Compiled::with(BY_HAND_TEXT, true, Codegen { fuel: true, ..Codegen::default() });
    let mut guest = compiled.guest(|setup| {
        setup.isolation = Isolation::Reuse;
        setup.limits.fuel = Some(1 << 40);
    });
    assert!(guest.add_plan(1, call()));
    guest.run(1, 1, b"n", &mut Vec::new());
    assert!(!guest.takes_many(1));
}

#[test]
fn long_results_go_out_in_the_midst_of_many() {
    let long = vec![b'a'; OUTBOX_LEN / 3];
    let batch: Vec<&[u8]> = (0..20).map(|n| if n % 2 == 0 { &long[..1000] } else { &long[..] }).collect();
    let said = assert_same(&BY_HAND, &[vec![b"n"], batch], |_| {});
    assert_eq!(said.len(), 1 + 2 + 20 + 1);
}

#[test]
fn what_is_taken_back_in_the_midst_of_many_is_not_run() {
    for frozen in [false, true] {
        let mut guest = BY_HAND.guest(|setup| setup.isolation = Isolation::Reuse);
        let (page, workers) = pages();
        guest.enter(
            CurrentProcess::new(Identity { name: String::new(), index: 1 }, workers, Box::new(|| ())),
            None,
        );
        assert!(guest.add_plan(1, call()));
        assert_eq!(guest.start_one(), TaskStart::Run);
        guest.run(1, 1, b"n", &mut Vec::new());
        assert_eq!(guest.start_one(), TaskStart::Run);
        if frozen {
            page.freeze();
        }
        let outbox = Outbox::default();
        let progress = guest.run_many(1, 1, &[b"n", b"n", b"n"], &outbox);
        assert_eq!((progress.answered, progress.begun), (if frozen { 1 } else { 3 }, false));
        assert_eq!(page.started(), if frozen { 2 } else { 4 });
        assert!(guest.takes_many(1), "the instance lives on");
    }
}

#[test]
fn tasks_that_are_not_wanted_are_dropped_and_the_state_is_kept() {
    for many in [false, true] {
        let mut guest = BY_HAND.guest(|setup| {
            setup.isolation = Isolation::Reuse;
            if !many {
                setup.info.exports.retain(|export| export.path != "run-many");
            }
        });
        let (page, workers) = pages();
        guest.enter(
            CurrentProcess::new(Identity { name: String::new(), index: 1 }, workers, Box::new(|| ())),
            None,
        );
        page.cancel_until(2);
        let script = Script::default().plan(1, RAW, false).batch(1, &[b"n", b"n", b"n", b"n"]).shutdown();
        assert_eq!(script.run_in(guest).1[1..], ["-Cancelled", "-Cancelled", "+001", "+002", "BatchDone"]);
    }
}

fn record() -> impl Strategy<Value = Vec<u8>> {
    let byte =
        any::<u8>().prop_filter("the same for run and run-many, and soon", |byte| !b"lerpw".contains(byte));
    prop_oneof![
        6 => Just(b"n".to_vec()),
        4 => proptest::collection::vec(byte, 0..40),
        1 => prop_oneof![Just(b"!".to_vec()), Just(b"?".to_vec()), Just(b"m".to_vec()), Just(b"x".to_vec())],
    ]
}

/// Records that some prebuilt guest or other can do something with. `bad`, `panic`, `exit` are those of
/// `failing`.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "[a-z ]{0,20}:0".prop_map(String::into_bytes),
        3 => "[0-9]{1,3}".prop_map(String::into_bytes),
        2 => r"\[[0-9](, [0-9]{1,3}){0,4}\]".prop_map(String::into_bytes),
        1 => "(bad|panic|exit)[a-z]{0,3}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..30),
    ]
}

fn borrowed(batches: &[Vec<Vec<u8>>]) -> Vec<Vec<&[u8]>> {
    batches.iter().map(|batch| batch.iter().map(Vec::as_slice).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_records_have_the_same_outcomes(
        batches in proptest::collection::vec(proptest::collection::vec(record(), 1..60), 1..6),
    ) {
        assert_same(&BY_HAND, &borrowed(&batches), small);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_records_have_the_same_outcomes_in_prebuilt_guests(
        batches in proptest::collection::vec(proptest::collection::vec(text(), 1..30), 1..5),
    ) {
        // `hello` sleeps; it has a test of its own.
        for (_, compiled) in PREBUILT.iter().filter(|(name, _)| *name != "hello") {
            assert_same(compiled, &borrowed(&batches), |_| {});
        }
    }
}

#[test]
fn more_records_than_one_call_takes_are_counted_on() {
    let counter = &PREBUILT.iter().find(|(name, _)| *name == "counter").unwrap().1;
    let batches = [vec![&b""[..]; 5], vec![b""; 3 * MANY_MAX + 1]];
    let said = assert_same(counter, &batches, |_| {});
    let last = 5 + 3 * MANY_MAX + 1;
    assert_eq!(said[said.len() - 2], format!("+{last}"));
}
