//! Arguments and standard input of `wpool run`.

use super::*;

/// Opens its first argument below its first directory, and copies it to stdout.
const CAT: &str = include_str!("../support/guests/cat.wat");

#[test]
fn f144_what_stands_behind_the_module_is_the_guests() {
    let dir = scratch();
    let cat = module(&dir, CAT);
    let secret = file(&dir, "secret", "hidden");
    let here = path_text(secret.parent().unwrap());
    let ended = run(wpool(["run", "--dir", &here, &cat, "secret"]));
    ends(&ended, 0, "");
    assert_eq!(out(&ended), "hidden");
    for behind in [&format!("--dir={here}")[..], "--dir", "-q", "--version"] {
        let ended = run(wpool(["run", &cat, behind, &here, "secret"]));
        assert!(!ended.status.success() && out(&ended).is_empty(), "{behind}: {}", out(&ended));
    }
    let shown = module(&dir, include_str!("../support/guests/arguments.wat"));
    let options =
        ["--help", "--version", "-v", "--dir=/", "--sandbox", "off", "--net=none", "--", "--threads", "-"];
    let ended = run(wpool(args(&["run", "--threads", &shown], &options)));
    ends(&ended, 0, "");
    assert_eq!(out(&ended), format!("module.wat{}", options.concat()));
    // Options before the module are wpool's, and unknown ones are refused.
    ends(&run(wpool(["run", "--no-such-option", &shown])), 2, "--no-such-option");
    // One that ends our own options is no argument.
    assert_eq!(out(&run(wpool(["run", "--", &shown, "-v"]))), "module.wat-v");
    let function = module(&dir, REACTOR);
    ends(
        &run(wpool(["run", &function, "--func", "answer"])),
        2,
        "wpool's own options come before the module",
    );
}

/// Copies its standard input to its standard output.
const COPIES: &str = include_str!("../support/guests/copies.wat");

#[test]
fn f136_standard_input_is_passed_on_and_read_only_when_the_guest_reads() {
    let dir = scratch();
    let copies = module(&dir, COPIES);
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    for input in [&b"hi\n"[..], b"", &large] {
        for options in [&[][..], &["--threads"], &["--input", "-"]] {
            let ended = with_input(wpool(args(&args(&["run"], options), &[&copies])), input);
            ends(&ended, 0, "");
            assert!(ended.stdout == input, "{options:?}: {} bytes of {}", ended.stdout.len(), input.len());
        }
    }
    // In pieces, as they come.
    let mut command = wpool(["run", &copies]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    for line in ["one", "two"] {
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
        assert_eq!(running.line(), line);
    }
    drop(stdin);
    assert!(running.end().0.success());
    // Neither a module that reads nothing nor one that ends before waits for a pipe that stays open.
    let quiet = path_text(&file(&dir, "quiet.wat", r#"(module (func (export "_start")))"#));
    let reads_once = path_text(&file(&dir, "once.wat", COPIES.replace("(br_if $more", "(br_if 1")));
    let whole = ["--func", "run", "--arg", "a", &prebuilt("upper")].map(str::to_owned).to_vec();
    for (call, input) in [(vec![quiet], ""), (vec![reads_once], "x"), (whole, "")] {
        for threads in [&[][..], &["--threads"]] {
            let call: Vec<&str> = call.iter().map(String::as_str).collect();
            let mut command = wpool(args(&args(&["run"], threads), &call));
            command.stdin(Stdio::piped());
            let mut running = Running::start(command);
            let mut stdin = running.child.stdin.take().unwrap();
            stdin.write_all(input.as_bytes()).unwrap();
            assert!(running.end().0.success());
            drop(stdin);
        }
    }
    // A guest that does not read leaves a shell's loop its lines.
    let counting = r#"while read line; do "$0" run --cache-dir "$2" "$1" && echo "$line"; done"#;
    let quiet = path_text(&dir.path().join("quiet.wat"));
    let cache = path_text(&support::cache_dir());
    assert_eq!(out(&with_input(by_shell(counting, &[&quiet, &cache]), b"a\nb\nc\n")), "a\nb\nc\n");
    // A function's parameter is the whole input.
    let ended = with_input(wpool(["run", &prebuilt("upper")]), b"abc");
    assert_eq!(out(&ended), "ABC\n");
    ends(&run(wpool(["run", &prebuilt("upper")])), 2, "input");
    // What cannot be read is no empty input.
    let not_for_reading = std::fs::File::create(dir.path().join("written")).unwrap();
    let inputs = [
        (std::fs::File::open(dir.path()).unwrap(), 2, "cannot read standard input: it is a directory"),
        (not_for_reading, 125, "standard input cannot be read"),
    ];
    for (input, code, said) in inputs {
        let mut command = wpool(["run", &copies]);
        command.stdin(input);
        ends(&command.output().unwrap(), code, said);
    }
}

#[test]
fn f136_a_process_reads_what_it_is_given_to_read() {
    let copies = wat(COPIES);
    for method in [StartMethod::Forkserver, StartMethod::Spawn, StartMethod::Thread] {
        let builder = Process::builder(&copies).start_method(method);
        let mut process = builder.stdin(std::io::Cursor::new(b"one two")).build().unwrap();
        process.start().unwrap();
        assert_eq!(process.join().unwrap().exitcode, 0);
        assert_eq!(process.stdout(), b"one two");
    }
    assert!(
        Process::builder(&wat(REACTOR)).target("calls").input("1").stdin(std::io::empty()).build().is_err()
    );
    // One that is killed while it waits ends.
    let (theirs, _ours) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut process = Process::builder(&copies).stdin(theirs).build().unwrap();
    process.start().unwrap();
    process.terminate().unwrap();
    assert_eq!(process.join().unwrap().exitcode, -15);
}
