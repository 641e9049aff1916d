//! `wpool python`: scripts and code, functions and programs, options and exit codes.

use crate::GUEST;
use crate::support::command::{args, ends, err, file, out, path_text, run, scratch, with_input, wpool};

/// `wpool python -q`, with the guest that was built.
fn python(rest: &[&str]) -> std::process::Command {
    let mut command = wpool(args(&["python", "-q"], rest));
    command.env("WPOOL_PYTHON", &*GUEST);
    command
}

const SCRIPT: &str = "\
import time
calls = 0
def run(x):
    return x.upper()
def scale(x: float, factor: float) -> float:
    return x * factor
def pair(a, b=1):
    return {'sum': a + b}
def pick(a, b):
    return [b, a]
def size(data: bytes):
    return len(data)
def count(_):
    global calls
    calls += 1
    return calls
def boom(x):
    print('seen', x)
    return 1 // int(x)
";

#[test]
fn a_function_is_mapped_over_records_with_the_options_of_map() {
    let dir = scratch();
    let script = path_text(&file(&dir, "script.py", SCRIPT));
    let inputs = path_text(&file(&dir, "inputs.txt", "a\nb\n\u{e9}\n"));
    assert_eq!(out(&run(python(&[&script, &inputs, "-j", "2"]))), "A\nB\n\u{c9}\n");
    assert_eq!(out(&with_input(python(&[&script]), b"x\ny")), "X\nY\n");
    let of = |rest: &[&str]| out(&run(python(&args(&[&script], rest))));
    assert_eq!(of(&["--items", "7", "1e1", "--func", "scale", "--kw", "factor=2.5"]), "17.5\n25.0\n");
    assert_eq!(of(&["--items", "7", "--func", "scale", "--arg", "2"]), "14.0\n");
    assert_eq!(of(&["--items", "[1, 2]", r#"{"b": 5, "a": 2}"#, "--func", "pick"]), "[2, 1]\n[5, 2]\n");
    assert_eq!(
        of(&["--items", "3", "--func", "pair", "--input-format", "json", "--kw", "b=4"]),
        "{\"sum\": 7}\n"
    );
    assert_eq!(of(&["--items", "a", "--output-format", "json"]), "\"A\"\n");
    assert_eq!(of(&["--items", "1", "2", "3", "--func", "count", "-j1"]), "1\n1\n1\n");
    assert_eq!(of(&["--items", "1", "2", "3", "--func", "count", "-j1", "--reuse"]), "1\n2\n3\n");
    assert_eq!(out(&with_input(python(&[&script, "--func", "size", "-0"]), b"\xff\xfe\0\n\n\n\0")), "2\n3\n");
    let jsonl = of(&["--items", "4", "0", "--func", "boom", "--format", "jsonl", "-j1"]);
    let object = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let lines: Vec<_> = jsonl.lines().map(object).collect();
    assert_eq!((&lines[0]["output"], &lines[0]["stdout"]), (&"0".into(), &"seen 4\n".into()));
    let message = lines[1]["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("ZeroDivisionError: "), "{message}");
    assert!(message.contains("\n  File \"script.py\", line 19, in boom\n"), "{message}");
}

#[test]
fn a_script_without_a_function_is_a_program_that_runs_once_or_for_each_record() {
    let dir = scratch();
    let program = "import sys\ntext = sys.stdin.read()\nprint(text.strip()[::-1])\nsys.exit(len(text) > 5)";
    let script = path_text(&file(&dir, "program.py", program));
    let once = with_input(python(&[&script]), b"abc\n");
    assert_eq!((out(&once).as_str(), once.status.code()), ("cba\n", Some(0)));
    assert_eq!(with_input(python(&[&script]), b"abcdefgh").status.code(), Some(1));
    let each = run(python(&[&script, "--items", "abc", "defghijk", "lm"]));
    assert_eq!((out(&each).as_str(), each.status.code()), ("cba\nml\n", Some(1)));
    assert!(err(&each).contains("task 2: exit: guest called exit(1)"), "{}", err(&each));
    let code = run(python(&["-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(9)"]));
    assert_eq!((out(&code).as_str(), err(&code).as_str(), code.status.code()), ("out\n", "err\n", Some(9)));
    assert_eq!(out(&run(python(&["-c", "print(int(input()) ** 2)", "--items", "3", "4"]))), "9\n16\n");
}

#[test]
fn grants_reach_a_script_and_without_them_it_has_nothing() {
    let dir = scratch();
    file(&dir, "data.txt", "granted");
    let code = "import os\nprint(dict(os.environ), os.path.exists('/data'))\n\
                if os.environ: print(open('/data/data.txt').read())";
    let host = format!("{}::/data:ro", path_text(dir.path()));
    assert_eq!(out(&run(python(&["-c", code]))), "{} False\n");
    let granted = run(python(&["-c", code, "--dir", &host, "--env", "A=1"]));
    assert_eq!(out(&granted), "{'A': '1'} True\ngranted\n", "{}", err(&granted));
}

#[test]
fn what_wasi_lacks_says_so() {
    for (code, said) in [
        ("import threading; threading.Thread(target=print).start()", "WebAssembly has no threads"),
        ("import concurrent.futures as f; f.ThreadPoolExecutor().submit(print)", "has no threads"),
        ("import subprocess; subprocess.run(['ls'])", "wasi does not support processes"),
        ("import socket; socket.create_connection(('127.0.0.1', 80))", "PermissionError"),
        ("import numpy", "ModuleNotFoundError: No module named 'numpy'"),
    ] {
        ends(&run(python(&["-c", code])), 1, said);
    }
}

#[test]
fn mistakes_are_told_with_the_exit_codes_of_map_and_run() {
    let dir = scratch();
    let script = path_text(&file(&dir, "script.py", SCRIPT));
    let of = |rest: &[&str]| run(python(&args(&[&script], rest)));
    ends(&of(&["--items", "a", "--func", "nope"]), 1, "NameError: script.py has no function 'nope'");
    let text = of(&["--items", "x", "--func", "scale", "--kw", "factor=1"]);
    ends(&text, 1, "could not convert string to float");
    ends(&of(&["--items", "1", "--init", "f"]), 2, "--init and --init-arg: not for Python");
    ends(&of(&["--items", "1", "--input-format", "wave"]), 2, "not for Python");
    ends(&run(python(&["no-such-file.py"])), 2, "cannot read the script no-such-file.py");
    ends(&run(python(&["-c", "print("])), 1, "SyntaxError: '(' was never closed");
    ends(&run(python(&["-c", "while True: pass", "--timeout", "300ms"])), 124, "timeout");
    ends(&run(python(&["-c", "pass", "--kw", "a=1"])), 2, "--kw are for a function");
    let mut nowhere = python(&["-c", "1"]);
    nowhere.env("WPOOL_PYTHON", path_text(&dir.path().join("none.wasm")));
    ends(&run(nowhere), 2, "WPOOL_PYTHON");
}

#[test]
fn the_guest_is_found_where_it_was_installed_and_else_the_message_says_how_to_get_it() {
    let dir = scratch();
    let program = dir.path().join("bin/wpool");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::copy(crate::support::program(), &program).unwrap();
    let mut alone = std::process::Command::new(&program);
    crate::support::command::prepare(&mut alone);
    alone.args(["python", "-c", "print(1)"]).env_remove("WPOOL_PYTHON").env("XDG_DATA_HOME", dir.path());
    ends(&run(alone), 2, "cargo guests build python");
    std::fs::create_dir_all(dir.path().join("wpool")).unwrap();
    std::os::unix::fs::symlink(&*GUEST, dir.path().join("wpool/python.wasm")).unwrap();
    let mut installed = wpool(["python", "-c", "print(1)"]);
    installed.env_remove("WPOOL_PYTHON").env("XDG_DATA_HOME", dir.path());
    assert_eq!(out(&run(installed)), "1\n");
}
