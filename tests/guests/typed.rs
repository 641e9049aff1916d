//! Functions with WIT types, as `#[wpool_guest::task]` exports them: `guest/examples/scale`.

use super::*;

fn called(call: &str) -> String {
    let ended = run(wpool(["call", &prebuilt("scale"), call]));
    ends(&ended, 0, "");
    out(&ended)
}

#[test]
fn each_task_is_an_export_of_its_name_with_its_types_and_its_parameters_names() {
    let inspected = run(wpool(["inspect", &prebuilt("scale")]));
    ends(&inspected, 0, "");
    let text = out(&inspected);
    for export in [
        "  scale: func(x: f64, factor: f64) -> f64\n",
        "  pow: func(x: f64, exponent: f64) -> f64\n",
        "  divide: func(dividend: s64, divisor: s64) -> result<s64, string>\n",
        "  parse: func(text: string) -> result<u32, string>\n",
        "  words: func(text: string, longest: option<u32>) -> list<string>\n",
        "  mean-and-spread: func(values: list<f64>) -> option<tuple<f64, f64>>\n",
        "  reversed: func(bytes: list<u8>) -> list<u8>\n",
        "-> result<f64, variant { too-few-corners(u32), negative-radius }>\n",
        "axis: enum { horizontal, vertical }) -> record { x: f64, y: f64 }\n",
        "  sides: func(of: s8) -> flags { left, right, both-at-once }\n",
    ] {
        assert!(text.contains(export), "no {export:?} in {text}");
    }
}

#[test]
fn values_of_every_kind_go_in_and_come_out() {
    for (call, result) in [
        ("scale(7, 2.5)", "17.5"),
        ("divide(-7, 2)", "-3"),
        ("divide(-9223372036854775808, 1)", "-9223372036854775808"),
        ("shout(\"häuser\")", "HÄUSER"),
        ("words(\"a bcd ef\", some(2))", r#"["a", "ef"]"#),
        ("words(\"a bcd\", none)", r#"["a", "bcd"]"#),
        ("words(\"\", none)", "[]"),
        ("mean-and-spread([1, 3])", "some((2, 1))"),
        ("mean-and-spread([])", "none"),
        ("area(empty)", "0"),
        ("area(circle(({x: 1, y: 2}, 0)))", "0"),
        ("area(polygon([{x: 0, y: 0}, {x: 2, y: 0}, {x: 2, y: 2}]))", "2"),
        ("mirror({x: 1, y: 2}, vertical)", "{x: -1, y: 2}"),
        ("sides(-128)", "{left}"),
        ("sides(0)", "{both-at-once}"),
    ] {
        assert_eq!(called(call), format!("{result}\n"), "{call}");
    }
}

/// The export of a task has a symbol that is no C name, so the guest's own calls find the library.
#[test]
fn a_task_named_as_a_function_of_the_c_library_does_not_take_its_place() {
    assert_eq!(called("pow(2, 10)"), "1024\n");
}

#[test]
fn errors_are_messages_or_values() {
    for (call, message) in [
        ("divide(7, 0)", "7 / 0 has no result"),
        ("parse(\"seven\")", "invalid digit found in string"),
        ("area(polygon([]))", "too-few-corners(0)"),
        ("area(circle(({x: 0, y: 0}, -1)))", "negative-radius"),
    ] {
        ends(&run(wpool(["call", &prebuilt("scale"), call])), 1, message);
    }
}

#[test]
fn parameters_are_given_by_name() {
    let map = ["map", &prebuilt("scale"), "--func", "scale", "-q", "--kw", "factor=2.5", "--items", "1", "2"];
    let ended = run(wpool(map));
    assert_eq!(out(&ended), "2.5\n5\n");
}

#[test]
fn the_library_calls_them_in_processes_and_in_threads() {
    let module = loader().load(prebuilt("scale")).unwrap();
    let pool = builder(&module, StartMethod::Forkserver).processes(1).build().unwrap();
    let scale = pool.func::<(f64, f64), f64>("scale").unwrap();
    assert_eq!(pool.starmap(&scale, [(7.0, 2.5), (1.0, 0.0)]).unwrap(), [17.5, 0.0]);
    let words = pool.func::<(String, Option<u32>), Vec<String>>("words").unwrap();
    assert_eq!(pool.starmap(&words, [("a bc".to_owned(), Some(1))]).unwrap(), [["a"]]);
    let threads = wpool::dummy::Pool::builder(&module).processes(1).build().unwrap();
    let scale = threads.func::<(f64, f64), f64>("scale").unwrap();
    assert_eq!(threads.starmap(&scale, [(7.0, 2.5)]).unwrap(), [17.5]);
}

/// `shout-many` serves `shout`; what a record gets is the same.
#[test]
fn a_task_of_strings_takes_many_records_in_one_call_with_the_same_outcomes() {
    let records: &[u8] = b"a\nb\n\xff\nc\n";
    for option in ["--fresh", "--reuse"] {
        let map = ["map", &prebuilt("scale"), "--func", "shout", "-j", "1", option];
        let ended = with_input(wpool(map), records);
        ends(&ended, 1, "task 3: bad input: expected UTF-8 text, byte 1 is not");
        assert_eq!(out(&ended), "A\nB\nC\n");
    }
}
