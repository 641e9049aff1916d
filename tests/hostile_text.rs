//! Text that guests, modules, records and file names bring along must not reach a terminal with any power
//! over it, and must not look like something else: faults F23 to F30. The policy itself is tested beside
//! `host/src/escape.rs`; here it is followed from each source to where it is shown.

mod support;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::command::terminal;
use support::{program, repo};

/// A module that has thought of everything: its function's name, its export's, and its trap.
const EVIL_NAMES: &str = r#"(module
    (func $f (@name "\1b[2J\0awpool: forged\c2\9b31m\e2\80\ae") (export "\1b]0;owned\07\0a")
        unreachable))"#;

const EVIL_IMPORT: &str = r#"(module (import "\1b[2J" "a\0ab" (func)) (func (export "f")))"#;

/// A command that writes to both of its streams.
const EVIL_OUTPUT: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\10\00\00\00\12\00\00\00")
    (data (i32.const 16) "\1b[2J\t\c2\9b \e2\80\ae \ff\r\nok\n")
    (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Scratch {
        Scratch(tempfile::tempdir_in(support::tmp()).unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn prebuilt(name: &str) -> PathBuf {
    repo(&format!("guest/prebuilt/{name}.wasm"))
}

fn wpool(subcommand: &str, module: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.arg(subcommand).arg(module).args(args).stdin(Stdio::null());
    command.env("WPOOL_CACHE_DIR", support::cache_dir()).env_remove("CLICOLOR_FORCE");
    command
}

fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// Nothing but lines of what can be seen; gives the lines.
#[track_caller]
fn lines(bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).expect("messages are UTF-8");
    let has_power = |c: char| c.is_control() || "\u{202e}\u{2066}\u{200b}\u{2028}".contains(c);
    let lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    assert!(!lines.iter().any(|line| line.contains(has_power)), "{text:?}");
    lines
}

#[test]
fn f23_f24_an_error_value_is_shown_on_one_line_and_escaped() {
    let record = "bad \x1b[2J\r\x07\u{9b}31m\u{202e}\u{2028}\u{200b}\x7f";
    let output =
        with_input(wpool("map", &prebuilt("failing"), &["-j", "1"]), format!("{record}\n").as_bytes());
    let shown = "bad \\x1b[2J\\r\\x07\\u{9b}31m\\u{202e}\\u{2028}\\u{200b}\\x7f";
    let said = lines(&output.stderr);
    assert_eq!(said[0], format!("wpool: task 1: {shown} is bad (input \"{shown}\")"));
    assert!(said[1].starts_with("1 task: 0 ok, 1 failed"), "{said:?}");
    assert_eq!(said.len(), 3, "{said:?}");
}

#[test]
fn f24_names_in_a_module_are_shown_escaped() {
    let scratch = Scratch::new();
    let module = scratch.file("evil.wat", EVIL_NAMES);
    let said = lines(&run(wpool("call", &module, &[])).stderr);
    let frame = "    \\x1b[2J\\nwpool: forged\\u{9b}31m\\u{202e}";
    assert_eq!(said, ["wpool: trap: unreachable", frame, ""]);
    let said = lines(&run(wpool("map", &module, &["--items", "", "-q"])).stderr);
    assert_eq!(said, ["wpool: task 1: trap: unreachable (input \"\")", frame, ""]);

    let export = "\\x1b]0;owned\\x07\\n";
    let said = lines(&run(wpool("call", &module, &["--func", "other"])).stderr);
    assert_eq!(
        said,
        [
            format!("wpool: no function \"other\" is exported; there is {}", export.trim_end_matches("\\n")),
            "".into()
        ]
    );
    let said = lines(&run(wpool("call", &module, &["--func", "\x1b]0;owned\x07\n", "--arg", "1"])).stderr);
    assert!(said[0].contains("\\x1b]0;owned\\x07 takes 0 arguments"), "{said:?}");
    let told = lines(&run(wpool("inspect", &module, &[])).stdout);
    assert!(told.contains(&format!("  {export}: func()  (default)")), "{told:?}");
    let verbose = lines(&run(wpool("map", &module, &["--items", "", "-v"])).stderr);
    assert!(verbose.iter().any(|line| line.contains(&format!("calling {export}: func()"))), "{verbose:?}");
    let dry = lines(&run(wpool("map", &module, &["--items", "", "--dry-run"])).stderr);
    assert!(dry[0].starts_with(&format!("would call {export}: func()")), "{dry:?}");
}

#[test]
fn f24_json_is_plain_too_and_says_the_names_exactly() {
    let scratch = Scratch::new();
    let output = run(wpool("inspect", &scratch.file("evil.wat", EVIL_NAMES), &["--json"]));
    assert_eq!(lines(&output.stdout).len(), 2);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["exports"][0]["path"], "\x1b]0;owned\x07\n");

    let record = "bad \u{9b}\u{2028}\x7f\x1b \\n";
    let output =
        with_input(wpool("map", &prebuilt("failing"), &["--format", "jsonl", "--tag"]), record.as_bytes());
    assert_eq!(lines(&output.stdout).len(), 2);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&told["input"], &told["error"]["message"]),
        (&record.into(), &format!("{record} is bad").into())
    );
}

#[test]
fn f24_an_import_that_is_missing_is_named_escaped() {
    let scratch = Scratch::new();
    let module = scratch.file("import.wat", EVIL_IMPORT);
    let said = lines(&run(wpool("call", &module, &["f"])).stderr);
    assert!(said[0].contains("\\x1b[2J a\\nb"), "{said:?}");
    assert_eq!(said.len(), 2, "{said:?}");
    let told = lines(&run(wpool("inspect", &module, &[])).stdout);
    assert!(told.iter().any(|line| line.starts_with("  \\x1b[2J a\\nb  MISSING")), "{told:?}");
}

#[test]
fn file_names_are_shown_escaped() {
    let scratch = Scratch::new();
    let module = scratch.file("a\x1b[2J\n.wasm", "");
    for subcommand in ["call", "inspect", "compile", "run"] {
        let said = lines(&run(wpool(subcommand, &module, &[])).stderr);
        assert!(said[0].contains("a\\x1b[2J\\n.wasm") && said[0].contains("it is empty"), "{said:?}");
    }
    let said = lines(&run(wpool("map", &prebuilt("upper"), &["/no\x1bsuch\nfile"])).stderr);
    assert!(said[0].contains("cannot read /no\\x1bsuch\\nfile"), "{said:?}");
    let said = lines(&run(wpool("map", &prebuilt("upper"), &["--\x1b[2Jx\u{202e}"])).stderr);
    assert!(said[0].contains("unexpected argument '--x\\u{202e}'"), "{said:?}");
    let colored =
        on_a_terminal(wpool("map", &prebuilt("upper"), &["--\x1b[2Jx\u{9b}", "--color=always"]), b"");
    assert!(!colored.windows(2).any(|two| two == b"\x1b["), "{}", colored.escape_ascii());
    let module = scratch.file("b\x1b.wat", "(module)");
    assert!(lines(&run(wpool("compile", &module, &[])).stdout)[0].contains("b\\x1b.wat: "));
    assert!(lines(&run(wpool("inspect", &module, &["-v"])).stderr)[0].contains("b\\x1b.wat: "));
}

#[test]
fn f25_results_that_hold_the_separator_are_counted_and_jsonl_tells_them_apart() {
    let map = |args: &[&str]| {
        with_input(wpool("map", &prebuilt("upper"), &[&["-0"][..], args].concat()), b"a\nb\0c\0\n\0")
    };
    let plain = map(&[]);
    assert_eq!(plain.stdout, b"A\nB\nC\n\n\n");
    let said = lines(&plain.stderr);
    assert_eq!(
        said[0],
        "wpool: warning: 2 results hold newlines: use -z or --format jsonl to tell where each ends"
    );
    assert!(said[1].starts_with("3 tasks: 3 ok"), "{said:?}");
    assert!(map(&["-q"]).stderr.is_empty());

    let nul = map(&["-z"]);
    assert_eq!(nul.stdout, b"A\nB\0C\0\n\0");
    assert_eq!(lines(&nul.stderr).len(), 2);
    let holds_nul = with_input(wpool("map", &prebuilt("upper"), &["-z"]), b"a\0b\n");
    assert!(
        lines(&holds_nul.stderr)[0]
            .ends_with("1 result holds NUL bytes: use --format jsonl to tell where each ends")
    );

    let tagged = map(&["--tag"]);
    assert!(lines(&tagged.stderr)[0].contains("2 results hold newlines"));

    let json = map(&["--format", "jsonl", "--tag"]);
    let told = lines(&json.stdout);
    assert_eq!((told.len(), lines(&json.stderr).len()), (4, 2), "{told:?}");
    let outputs = told[..3]
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["output"].clone());
    assert!(outputs.eq(["A\nB", "C", "\n"]));
}

#[test]
fn f27_a_long_error_message_is_cut_with_its_length_and_the_log_is_bounded() {
    let record = format!("bad {}", "\x1b".repeat(32 << 20));
    let output = with_input(wpool("map", &prebuilt("failing"), &["-j", "1"]), record.as_bytes());
    let said = lines(&output.stderr);
    assert!(said[0].starts_with("wpool: task 1: bad \\x1b\\x1b"), "{}", &said[0][..100]);
    assert!(said[0].contains("... (33554443 bytes)"), "{}", &said[0]);
    assert!(output.stderr.len() < 8 << 10, "{}", output.stderr.len());
}

#[test]
fn f30_what_a_guest_prints_is_no_result_and_marked_where_it_is_shown() {
    let output = run(wpool("map", &prebuilt("failing"), &["--items", "panic", "-q"]));
    assert!(output.stdout.is_empty());
    assert!(lines(&output.stderr).contains(&"[task 1 stderr] panic, as told".to_owned()));
}

/// Runs with a terminal as stdout and stderr. Gives what has arrived at the terminal.
fn on_a_terminal(mut command: Command, input: &[u8]) -> Vec<u8> {
    let (mut ours, theirs) = terminal();
    let (out, err) = (theirs.try_clone().unwrap(), theirs);
    command.stdin(Stdio::piped()).stdout(out).stderr(err).env("TERM", "xterm").env("WPOOL_COLOR", "never");
    let mut child = command.spawn().unwrap();
    // Its own copies of the terminal's descriptors.
    drop(command);
    child.stdin.take().unwrap().write_all(input).unwrap();
    let mut arrived = Vec::new();
    // Reading a terminal whose other end is closed is an error.
    let _end = ours.read_to_end(&mut arrived);
    child.wait().unwrap();
    arrived
}

#[test]
fn f24_on_a_terminal_what_guests_write_is_shown_escaped_and_in_a_pipe_it_is_exact() {
    let scratch = Scratch::new();
    let module = scratch.file("output.wat", EVIL_OUTPUT);
    let exact = b"\x1b[2J\t\xc2\x9b \xe2\x80\xae \xff\r\nok\n";
    let piped = run(wpool("run", &module, &[]));
    assert_eq!((&piped.stdout[..], &piped.stderr[..]), (&exact[..], &exact[..]));
    // The terminal makes \r\n of each \n.
    let shown = "\\x1b[2J\t\\u{9b} \\u{202e} \\xff\r\r\nok\r\n";
    let arrived = on_a_terminal(wpool("run", &module, &[]), b"");
    assert_eq!(String::from_utf8(arrived).unwrap(), shown.repeat(2));

    let map = |args: &[&str]| {
        on_a_terminal(wpool("map", &prebuilt("upper"), &[&["-q"][..], args].concat()), b"a\x1b[2j\xff\n")
    };
    assert_eq!(String::from_utf8(map(&[])).unwrap(), "A\\x1b[2J\\xff\r\n");
    let call = on_a_terminal(wpool("call", &prebuilt("upper"), &["run(\"a\\u{1b}[2j\")"]), b"");
    assert_eq!(String::from_utf8(call).unwrap(), "A\\x1b[2J\r\n");
}

/// Loads a module with a compiler that answers with these bytes.
fn compiled_by_an_attacker(answer: &[u8]) -> wpool::ModuleError {
    let scratch = Scratch::new();
    scratch.file("answer", answer);
    let program = scratch.file("compiler", "#!/bin/sh\nexec cat \"${0%/*}/answer\" >&0\n");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let loaded = wpool::Module::loader().no_cache().program(program).from_bytes(b"(module)");
    loaded.expect_err("no such answer makes a module")
}

fn control(json: &str) -> Vec<u8> {
    [&u32::try_from(json.len()).unwrap().to_le_bytes()[..], b"\x01", json.as_bytes()].concat()
}

/// The answers of a compiler: a greeting, no imports, and a description of one function with a parameter of
/// this name and type.
fn description(name: &str, ty: &str) -> Vec<u8> {
    let func = format!(r#"{{"params":[{{"name":"{name}","ty":{ty}}}],"result":null}}"#);
    let export = format!(r#"{{"path":"f\u001b","ty":{func},"role":"function"}}"#);
    let rest = r#""memory_min":null,"codegen":{"fuel":false,"deterministic":false}"#;
    let compiled = format!(r#"{{"Compiled":{{"kind":"core","imports":[],"exports":[{export}],{rest}}}}}"#);
    let hello = control(r#"{"Hello":{"version":5}}"#);
    [hello, control(r#"{"Imports":{"kind":"core","imports":[]}}"#), control(&compiled)].concat()
}

#[test]
fn f104_a_compiler_in_an_attackers_hands_is_not_believed() {
    let deep = |levels: usize| format!("{}\"u8\"{}", "{\"list\":".repeat(levels), "}".repeat(levels));
    for (answer, said) in [
        (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), "a frame of 1347703880 bytes, more than are allowed"),
        (b"\0\0\0\x3f\x01".to_vec(), "a frame of 1056964608 bytes, more than are allowed"),
        (b"\0\0\0\0\x10".to_vec(), "a control message was expected"),
        (control("\"Ready\""), "an answer to a question that was not asked"),
        (control(&"[".repeat(1 << 20)), "a message that cannot be read"),
        (
            control(&format!("\"{}\"", "\\u001b".repeat(1 << 17))),
            "a message that cannot be read: unknown variant `\\x1b\\x1b",
        ),
        (description("x", &deep(10_000)), "recursion limit exceeded"),
        (description("x", &deep(32)), "it describes types that nest more than 32 deep, in f\\x1b"),
        (
            description("x", r#"{"enum":["a\u001b[2J"]}"#),
            "it describes types with names that are none, in f\\x1b",
        ),
        (description("\\u009b", "\"u8\""), "it describes types with names that are none, in f\\x1b"),
        (
            control(&format!(r#"{{"Refused":{{"reason":"{}"}}}}"#, "\\u001b[2J\\n".repeat(1 << 16))),
            "the module is refused: \\x1b[2J\\n",
        ),
    ] {
        let error = compiled_by_an_attacker(&answer).to_string();
        assert_eq!(lines(error.as_bytes()).len(), 1);
        assert!(error.contains(said) && error.len() < 5000, "{said}: {error}");
    }
}

#[test]
fn types_that_nest_too_deeply_are_refused() {
    let nested = |levels: usize| {
        let types: String = (1..=levels).map(|n| format!("(type $t{n} (list $t{}))\n", n - 1)).collect();
        format!(
            r#"(component
            (core module $m
                (memory (export "memory") 1)
                (func (export "f") (param i32 i32))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
            (core instance $i (instantiate $m))
            (type $t0 (list u8))
            {types}
            (func (export "f") (param "x" $t{levels})
                (canon lift (core func $i "f") (memory $i "memory") (realloc (func $i "realloc")))))"#
        )
    };
    let scratch = Scratch::new();
    let said = run(wpool("inspect", &scratch.file("nested.wat", nested(30)), &[]));
    assert!(said.status.success(), "{:?}", lines(&said.stderr));
    let said = run(wpool("inspect", &scratch.file("deep.wat", nested(31)), &[]));
    assert!(
        lines(&said.stderr)[0]
            .ends_with("the module is refused: it has types that nest more than 32 deep, in f")
    );
}
