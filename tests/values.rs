//! Values as people write them, and what is said of those that are wrong: rows F138 to F140 and F147, through
//! the command line.

mod support;

use support::command::*;
use support::repo;

/// A component with a function for each odd type, which gives what it gets.
fn odd() -> String {
    path_text(&repo("tests/values/odd-types.wat"))
}

/// A core module.
const CORE: &str = r#"(module
    (func (export "same") (param i32) (result i32) (local.get 0))
    (func (export "long") (param i64) (result i64) (local.get 0))
    (func (export "scale") (param i32 f64) (result f64) (f64.mul (f64.convert_i32_u (local.get 0)) (local.get 1))))"#;

/// What `map` gives for each of the records.
#[track_caller]
fn mapped(module: &str, options: &[&str], records: &[u8]) -> String {
    let output = with_input(wpool(args(&["map", module, "-q", "-j", "1"], options)), records);
    ends(&output, 0, "");
    out(&output)
}

/// Why the first record of `map` is bad.
#[track_caller]
fn refused(module: &str, options: &[&str], record: &str) -> String {
    let output = with_input(wpool(args(&["map", module, "-q", "-j", "1"], options)), record.as_bytes());
    let said = err(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    said.lines().next().unwrap().trim_start_matches("wpool: task 1: bad input: ").to_owned()
}

const JSON: [&str; 4] = ["--input-format", "json", "--output-format", "json"];

#[test]
fn f138_none_and_some_of_none_are_told_apart_in_json_both_ways() {
    let forms = "null\n{\"some\":null}\n{\"some\":7}\n";
    assert_eq!(mapped(&odd(), &args(&["--func", "oo"], &JSON), forms.as_bytes()), forms);
    let wave = mapped(&odd(), &["--func", "oo", "--input-format", "json"], format!("{forms}7\n").as_bytes());
    assert_eq!(wave, "none\nsome(none)\nsome(some(7))\nsome(some(7))\n");
    for (call, json) in [
        ("oo(none)", "null\n"),
        ("oo(some(none))", "{\"some\":null}\n"),
        ("oo(some(some(7)))", "{\"some\":7}\n"),
    ] {
        assert_eq!(out(&run(wpool(["call", &odd(), call, "--output-format", "json"]))), json);
    }
    // A field that is missing is `none`.
    let records = "{}\n{\"true\":1}\n{\"first-one\":null,\"true\":2}\n";
    let results = "{\"first-one\":null,\"true\":null}\n{\"first-one\":null,\"true\":1}\n\
                   {\"first-one\":null,\"true\":2}\n";
    assert_eq!(mapped(&odd(), &args(&["--func", "ro"], &JSON), records.as_bytes()), results);
}

#[test]
fn f139_a_byte_order_mark_and_carriage_returns_are_no_part_of_values() {
    let records = "\u{feff}1\r\n2\r\n";
    for format in ["json", "wave", "auto"] {
        assert_eq!(
            mapped(&odd(), &["--func", "small", "--input-format", format], records.as_bytes()),
            "1\n2\n"
        );
    }
    // Each file may have one.
    let dir = scratch();
    let [first, second] = ["a.jsonl", "b.jsonl"].map(|name| path_text(&file(&dir, name, records)));
    let both =
        run(wpool(["map", &odd(), "-q", "--func", "small", "--input-format", "json", &first, &second]));
    assert_eq!((out(&both), err(&both)), ("1\n2\n1\n2\n".to_owned(), String::new()));
    // Text is what it is.
    let text = mapped(&prebuilt("upper"), &[], records.as_bytes());
    assert_eq!(text.as_bytes(), "\u{feff}1\r\n2\r\n".as_bytes());
    let said = with_input(wpool(["map", &odd(), "--func", "small"]), b"\xff\xfe1\0");
    ends(&said, 1, "expected UTF-8 text, and this is UTF-16 by its byte order mark");
}

#[test]
fn f139_the_text_of_a_module_may_begin_with_a_byte_order_mark() {
    let dir = scratch();
    let module = file(&dir, "bom.wat", format!("\u{feff}{CORE}\r\n"));
    let output = run(wpool(["call", &path_text(&module), "same(7)"]));
    assert_eq!((out(&output), err(&output)), ("7\n".to_owned(), String::new()));
}

#[test]
fn f139_blank_lines_at_the_end_are_no_records_and_between_records_they_are_bad_ones() {
    for format in ["json", "wave"] {
        let options = ["--func", "small", "--input-format", format];
        assert_eq!(mapped(&odd(), &options, b"1\n2\n\n"), "1\n2\n");
        assert_eq!(mapped(&odd(), &options, b"1\r\n2\r\n\r\n \t\n"), "1\n2\n");
        assert_eq!(mapped(&odd(), &options, b"\n\n"), "");
        let output = with_input(wpool(args(&["map", &odd()], &options)), b"1\n\n3\n\n");
        ends(&output, 1, "wpool: task 2: bad input: ");
        ends(&output, 1, "3 tasks: 2 ok, 1 failed");
        assert_eq!(out(&output), "1\n3\n");
        // One that was given as such is one.
        let given = run(wpool(args(&["map", &odd()], &args(&options, &["--items", "1", ""]))));
        ends(&given, 1, "2 tasks: 1 ok, 1 failed");
    }
    // A line of text may be empty, and so may the last.
    assert_eq!(mapped(&odd(), &["--func", "str"], b"a\n\n"), "a\n\n");
}

#[test]
fn f139_numbers_are_taken_as_people_write_them() {
    let wave = "1.0\n1e2\n0x7f\n0b11\n+5\n-0x80\n1_0\n";
    assert_eq!(mapped(&odd(), &["--func", "small"], wave.as_bytes()), "1\n100\n127\n3\n5\n-128\n10\n");
    assert_eq!(mapped(&odd(), &args(&["--func", "small"], &JSON), b"1.0\n1e2\n-1.5e1\n"), "1\n100\n-15\n");
    let call = |call: &str| out(&run(wpool(["call", &odd(), call])));
    assert_eq!((call("small(0x10)"), call("small(1e1)")), ("16\n".to_owned(), "10\n".to_owned()));
    assert_eq!(call("str(0x10)"), "0x10\n", "text is what it is");
    assert_eq!(
        out(&run(wpool(["call", &odd(), "--func", "big", "--arg", "0xffff_ffff_ffff_ffff"]))),
        format!("{}\n", u64::MAX)
    );
    assert_eq!(out(&run(wpool(["call", &odd(), "--func", "big", "--kw", "x=1e3"]))), "1000\n");
    for (options, record, why) in [
        (&[][..], "2.5", "expected s8 such as 7, got 2.5 (input \"2.5\")"),
        (&[], "128", "expected s8, got 128, which is not within -128 to 127 (input \"128\")"),
        (&[], "0x80", "expected s8, got 0x80, which is not within -128 to 127 (input \"0x80\")"),
        (&JSON, "1e-1", "expected s8 such as 7, got 1e-1 (input \"1e-1\")"),
        (&JSON, "1e400", "expected s8, got 1e400, which is not within -128 to 127 (input \"1e400\")"),
    ] {
        assert_eq!(refused(&odd(), &args(&["--func", "small"], options), record), why);
    }
}

#[test]
fn f139_floats_have_their_shortest_form_and_words_where_json_has_no_number() {
    let words = "\"NaN\"\n\"Infinity\"\n\"-Infinity\"\n";
    for func in ["float-x", "double-x"] {
        assert_eq!(mapped(&odd(), &args(&["--func", func], &JSON), words.as_bytes()), words);
        let wave = mapped(&odd(), &["--func", func], b"nan\nNaN\nInfinity\n-inf\n0.1\n1e30\n2\n");
        assert_eq!(wave, "nan\nnan\ninf\n-inf\n0.1\n1e30\n2\n");
        let json = mapped(&odd(), &args(&["--func", func], &JSON), b"0.1\n\"nan\"\n\"inf\"\n2\n");
        assert_eq!(json, "0.1\n\"NaN\"\n\"Infinity\"\n2.0\n");
    }
    assert_eq!(mapped(&odd(), &["--func", "double-x"], b"1e300\n5e-324\n"), "1e300\n5e-324\n");
    let said = refused(&odd(), &["--func", "float-x"], "1e39");
    assert_eq!(said, "expected f32, got 1e39, which is too large for one (input \"1e39\")");
}

#[test]
fn f139_flags_records_and_words_have_waves_own_spelling() {
    let flags = mapped(&odd(), &["--func", "fl"], b"{}\n{:}\n{read, x2}\n{%write,%none}\n{ x1 , none }\n");
    assert_eq!(flags, "{}\n{}\n{read, x2}\n{write, none}\n{none, x1}\n");
    let records =
        mapped(&odd(), &["--func", "ro"], b"{}\n{:}\n{first-one: 1}\n{%true: some(2)}\n{true: none}\n");
    assert_eq!(records, "{:}\n{:}\n{first-one: some(1)}\n{true: some(2)}\n{:}\n");
    let words = mapped(&odd(), &["--func", "e"], b"ok\n%ok\nnone\ntrue\nnan\nplain\n");
    assert_eq!(words, "%ok\n%ok\n%none\n%true\n%nan\nplain\n");
    let cases = mapped(&odd(), &["--func", "v"], b"none\n%none\nsome(7)\nHTTP-error(404)\n");
    assert_eq!(cases, "%none\n%none\n%some(7)\nHTTP-error(404)\n");
    assert_eq!(
        mapped(&odd(), &args(&["--func", "fl"], &JSON), b"[]\n[\"none\",\"read\"]\n"),
        "[]\n[\"read\",\"none\"]\n"
    );
}

#[test]
fn f139_integers_of_a_core_module_may_be_given_without_a_sign() {
    let dir = scratch();
    let core = path_text(&file(&dir, "core.wat", CORE));
    let records = b"4294967295\n2147483648\n-1\n0xffffffff\n";
    let results = "-1\n-2147483648\n-1\n-1\n";
    assert_eq!(mapped(&core, &["--func", "same"], records), results);
    assert_eq!(mapped(&core, &args(&["--func", "same"], &JSON), b"4294967295\n-1\n"), "-1\n-1\n");
    let call = |call: &str| out(&run(wpool(["call", &core, call])));
    assert_eq!(
        (call("same(4294967295)"), call("long(18446744073709551615)")),
        ("-1\n".to_owned(), "-1\n".to_owned())
    );
    assert_eq!(call("scale(4294967295, 1)"), "4294967295\n");
    assert_eq!(mapped(&core, &["--func", "scale"], b"(4294967295, 0.5)\n"), "2147483647.5\n");
    let said = refused(&core, &["--func", "same"], "4294967296");
    assert!(
        said.starts_with("expected s32, got 4294967296, which is not within -2147483648 to 4294967295"),
        "{said}"
    );
}

#[test]
fn f140_the_last_line_end_of_what_a_command_prints_is_none_of_its_result() {
    let command = prebuilt("args");
    let records = b"one\ntwo\n";
    let output = with_input(wpool(["map", &command, "--as-args"]), records);
    assert_eq!(out(&output), "one\ntwo\n");
    assert!(!err(&output).contains("newlines"), "{}", err(&output));
    let tagged = with_input(wpool(["map", "-q", &command, "--as-args", "--tag"]), records);
    assert_eq!(out(&tagged), "one\tone\ntwo\ttwo\n");
    assert_eq!(out(&run(wpool(["call", &command, "--arg", "one"]))), "one\n");
    // Only the last line end is left out; where the end of a result is explicit, the result is exact.
    let words = ["map", &command, "--as-args=words", "--items", "a b"];
    let output = run(wpool(words));
    assert_eq!(out(&output), "a\nb\n");
    assert!(err(&output).contains("1 result holds newlines"), "{}", err(&output));
    assert_eq!(out(&run(wpool(args(&words, &["-z"])))), "a\nb\n\0");
    let line: serde_json::Value =
        serde_json::from_str(&out(&run(wpool(args(&words, &["--format", "jsonl"]))))).unwrap();
    assert_eq!(line["output"], "a\nb\n");
    // What a function returns is exact.
    assert_eq!(out(&run(wpool(["call", &odd(), "str(\"a\\n\")"]))), "a\n\n");
}

#[test]
fn f147_what_is_missing_is_named_with_its_place_and_type() {
    let dir = scratch();
    let core = path_text(&file(&dir, "core.wat", CORE));
    ends(&run(wpool(["call", &core, "scale(7)"])), 2, "scale needs a value for argument 2 (f64)\n");
    ends(&run(wpool(["call", &odd(), "str"])), 2, "str needs a value for argument 1 (x: string)\n");
    ends(
        &run(wpool(["call", &core, "scale(7, two)"])),
        2,
        "argument 2 of scale: expected f64 such as 2.5, got two\n",
    );
    let said = "argument 1 (x) of small: expected s8, got 300, which is not within -128 to 127\n";
    ends(&run(wpool(["call", &odd(), "small(300)"])), 2, said);
    ends(&run(wpool(["call", &odd(), "--func", "small", "--arg", "300"])), 2, said);
    ends(&run(wpool(["call", &odd(), "--func", "small", "--kw", "x=300"])), 2, &said.replace("1 (x)", "x"));
    ends(
        &run(wpool(["call", &core, "scale(7, 2.5"])),
        2,
        "is not a call such as `scale(7, 2.5)`: something is missing at its end",
    );
}

#[test]
fn f147_several_parameters_are_shown_as_what_to_write() {
    let dir = scratch();
    let core = path_text(&file(&dir, "core.wat", CORE));
    let said = refused(&core, &["--func", "scale"], "7,2.5");
    let wanted = "expected a value for each of 2 parameters, tuple<s32, f64> such as (7, 2.5), \
                  got 7,2.5 (input \"7,2.5\")";
    assert_eq!(said, wanted);
    let said = refused(&core, &["--func", "scale", "--input-format", "json"], "7");
    assert_eq!(
        said,
        "expected an array with a value for each of 2 parameters such as [7,2.5], got 7 (input \"7\")"
    );
    let said = refused(&core, &["--func", "scale"], "(7, x)");
    assert_eq!(said, "at value 2: expected f64 such as 2.5, got x (input \"(7, x)\")");
}

#[test]
fn f147_a_string_stands_for_bytes_in_wave_records_too() {
    let upper = ["--input-format", "wave"];
    assert_eq!(mapped(&prebuilt("upper"), &upper, b"\"abc\"\n[97, 98]\n"), "ABC\nAB\n");
}

#[test]
fn f147_an_error_of_several_lines_is_shown_on_indented_lines() {
    let record = "bad first\n  second \x1b[2J\n\nwpool: forged";
    let output = run(wpool(["map", &prebuilt("failing"), "-q", "--items", record]));
    let input = "(input \"bad first\\n  second \\x1b[2J\\n\\nwpool: forged\")";
    let wanted = format!(
        "wpool: task 1: bad first {input}\n    |   second \\x1b[2J\n    |\n    | wpool: forged is bad\n"
    );
    assert_eq!(err(&output), wanted);
    let called = run(wpool(["call", &prebuilt("failing"), "--arg", record]));
    let wanted = "wpool: bad first\n    |   second \\x1b[2J\n    |\n    | wpool: forged is bad\n";
    assert_eq!((err(&called).as_str(), called.status.code()), (wanted, Some(1)));
    // A line for each in what is for machines.
    let dir = scratch();
    let log = path_text(&dir.path().join("log"));
    run(wpool(["map", &prebuilt("failing"), "-q", "--items", record, "--joblog", &log]));
    assert_eq!(
        std::fs::read_to_string(&log).unwrap().lines().filter(|line| line.contains("second")).count(),
        1
    );
    let many = format!("bad {}", (0..10_000).map(|n| format!("\n{n}")).collect::<String>());
    let output = run(wpool(["map", &prebuilt("failing"), "-q", "--items", &many]));
    let said = err(&output);
    assert!(said.lines().count() == 22 && said.contains("\n    | … 9980 more lines\n"), "{said}");
    assert!(said.ends_with("\n    | 9999 is bad\n"), "{said}");
}
