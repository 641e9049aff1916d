//! Wrong usage and dry runs: one clear line, the documented code, nothing run.

use super::*;

#[test]
fn what_cannot_be_run_is_told_in_one_line() {
    let dir = scratch();
    let inputs = path_text(&file(&dir, "inputs", "a\n"));
    let upper = prebuilt("upper");
    let empty = path_text(&file(&dir, "empty.wasm", ""));
    let random = path_text(&file(&dir, "random.wasm", Sha256::digest(b"random")));
    let import =
        path_text(&file(&dir, "import.wat", r#"(module (import "env" "f" (func)) (func (export "run")))"#));
    let missing = path_text(&dir.path().join("missing"));
    let directory = path_text(dir.path());
    let add = example("add");
    for (args, said) in [
        (&["map", &missing, &inputs][..], "cannot read the module: No such file or directory"),
        (&["map", &directory, &inputs], "it is a directory"),
        (&["map", &empty, &inputs], "it is empty"),
        (&["map", &random, &inputs], "not a WebAssembly module"),
        (&["map", &import, &inputs], "the module needs what is not granted: env f"),
        (&["map", &upper, &missing], "cannot read"),
        (&["map", &upper, &directory], "it is a directory"),
        (&["map", &upper, &inputs, "--func", "nope"], "no function \"nope\" is exported; there is run"),
        (
            &["map", &add, &inputs],
            "no function `run` and no command is exported; name one of add, square, fib",
        ),
        (&["map", &add, &inputs, "--func", "add", "--arg", "x"], "argument 1 of add: expected s32"),
        (&["map", &add, &inputs, "--func", "add", "--kw", "a=1"], "no parameter has that name"),
        (&["map", &add, &inputs, "--func", "add", "--input-format", "raw"], "takes no raw bytes"),
        (&["map", &upper, &inputs, "--as-args"], "--as-args is for commands"),
        (&["map", &upper, &inputs, "--init", "nope"], "no function \"nope\" is exported"),
        (&["call", &add, "add(1)"], "add needs a value for argument 2 (s32)"),
        (&["call", &add, "add(1"], "is not a call"),
        (&["call", &add, "add(1, 2, 3)"], "add takes 2 arguments, 3 are given"),
        (&["call", &upper, "run(\"a\", \"b\")"], "run takes 1 argument, 2 are given"),
        (&["inspect", &empty], "it is empty"),
        (&["compile", &random], "not a WebAssembly module"),
    ] {
        let output = run(wpool(args));
        ends(&output, 2, said);
        assert!(output.stdout.is_empty(), "{args:?}");
        let stderr = err(&output);
        assert!(stderr.starts_with("wpool: ") && stderr.trim_end().lines().count() == 1, "{stderr}");
    }
}

#[test]
fn wrong_usage_is_told_with_a_hint() {
    for (args, said) in [
        (&["map", "-j", "abc", "m.wasm"][..], "invalid value 'abc' for '--jobs <N>'"),
        (&["map", "-j", "-5%", "m.wasm"], "unexpected argument '-5'"),
        (&["map", "--jobs=-5%", "m.wasm"], "invalid value '-5%' for '--jobs <N>'"),
        (&["map", "m.wasm", "--unorderd"], "--unordered"),
        (&["mapp", "m.wasm"], "'map'"),
        (&["map"], "<MODULE>"),
        (&["map", "m.wasm", "--timeout", "NaN"], "expected a time"),
        (&["map", "m.wasm", "--max-input", "4G"], "the most is 992M"),
        (&["map", "m.wasm", "-d", "ab"], "expected one character"),
        (&["map", "m.wasm", "--kw", "x"], "expected NAME=VALUE"),
        (&["map", "m.wasm", "--halt", "later,fail=1"], "expected now|soon, a comma, and fail=N"),
        (&["map", "m.wasm", "--halt", "now,fail=0"], "invalid value 'now,fail=0' for '--halt <WHEN,WHY>'"),
        (&["map", "m.wasm", "--max-fail", "0"], "invalid value '0' for '--max-fail <N>'"),
        (
            &["map", "m.wasm", "--max-fail", "1", "--halt", "now,fail=1"],
            "cannot be used with '--halt <WHEN,WHY>'",
        ),
        (&["map", "m.wasm", "--retries", "1", "--retry-on", "lost,bad-input"], "invalid value 'bad-input'"),
        (
            &["map", "m.wasm", "--retries", "1", "--retry-on", "x"],
            "expected one of lost, timeout, error, worker-lost",
        ),
        (&["map", "m.wasm", "--retry-on", "lost"], "--retries <N>"),
        (&["map", "m.wasm", "--retry-delay", "1s"], "--retries <N>"),
        (&["map", "m.wasm", "--retries", "1", "--retry-delay", "soon"], "expected a time"),
        (&["map", "m.wasm", "--retries", "1", "--backoff", "exponential"], "--retry-delay <TIME>"),
        (&["map", "m.wasm", "--retries", "1", "--retry-delay", "1", "--backoff", "x"], "fixed, exponential"),
        (&["map", "m.wasm", "--retries", "1", "--retry-max-delay", "1s"], "--backoff <HOW>"),
        (
            &["map", "m.wasm", "--retries", "1", "--poison-limit", "0"],
            "invalid value '0' for '--poison-limit <N>'",
        ),
        (&["map", "m.wasm", "--max-memory-per-child", "0"], "expected more than 0"),
        (&["map", "m.wasm", "--rss", "much"], "expected a size"),
        (&["map", "m.wasm", "--rss", "1G", "--threads"], "cannot be used with '--threads'"),
        (&["map", "m.wasm", "--idle-timeout", "never"], "expected a time"),
        (&["map", "m.wasm", "--start-timeout=-1"], "expected a time"),
        (&["map", "m.wasm", "--shutdown-timeout", "x"], "expected a time"),
        (&["map", "m.wasm", "--start-method", "fork"], "forkserver, spawn"),
        (&["map", "m.wasm", "--progress", "much"], "auto, bar, counter, none"),
        (&[], "Usage: wpool"),
    ] {
        ends(&run(wpool(args)), 2, said);
    }
}

#[test]
fn help_version_and_generated_files_go_to_stdout() {
    for (args, said) in [
        (&["--version"][..], "wpool "),
        (&["-h"], "Usage: wpool"),
        (&["map", "--help"], "Exit codes:"),
        (&["--generate", "man"], "wpool\\-map"),
        (&["--generate", "complete-bash"], "_wpool"),
        (&["--generate", "complete-zsh"], "#compdef wpool"),
        (&["--generate", "complete-fish"], "complete -c wpool"),
    ] {
        let output = run(wpool(args));
        ends(&output, 0, "");
        assert!(out(&output).contains(said), "no {said:?} in what {args:?} prints");
    }
}

#[test]
fn a_cache_that_cannot_be_used_is_a_warning() {
    let dir = scratch();
    let cache = dir.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o777)).unwrap();
    let cache = path_text(&cache);
    let call = ["map", &prebuilt("upper"), "--items", "a", "--cache-dir", &cache];
    let output = run(wpool(call));
    ends(&output, 0, "warning: the cache ");
    assert_eq!(out(&output), "A\n");
    assert!(err(&run(wpool(args(&call, &["--quiet"])))).is_empty());
    assert!(!err(&run(wpool(args(&call, &["--no-cache"])))).contains("warning"));
}

#[test]
fn f84_zero_jobs_are_the_default_and_too_many_are_cut() {
    for jobs in ["0", "50%", "+1", "-1", "-1000"] {
        ends(&run(wpool(["map", &prebuilt("upper"), "--items", "a", "-j", jobs])), 0, "1 ok");
    }
    let output = run(wpool(["map", &prebuilt("upper"), "--items", "a", "-j", "1000000000000"]));
    ends(&output, 0, "warning: ");
    ends(&output, 0, "instead of 1000000000000");
}

#[test]
fn a_dry_run_checks_and_runs_nothing() {
    let output = run(wpool(["map", &prebuilt("hello"), "--items", "a", "--dry-run"]));
    ends(&output, 0, "would call run: func");
    ends(&run(wpool(["map", &prebuilt("hello"), "--dry-run", "-j", "1"])), 0, "with at most 1 worker\n");
    assert!(output.stdout.is_empty());
    ends(
        &run(wpool(["map", &prebuilt("hello"), "--items", "a", "--dry-run", "--func", "x"])),
        2,
        "no function",
    );
    ends(
        &run(wpool(["map", &prebuilt("hello"), "--items", "a", "--dry-run", "--init", "x"])),
        2,
        "no function",
    );
    ends(
        &run(wpool(["map", &prebuilt("hello"), "/no/such/file", "--dry-run"])),
        2,
        "cannot read /no/such/file",
    );
}

#[test]
fn a_dry_run_compiles_the_module_and_reads_no_record() {
    let dir = scratch();
    let cache = path_text(&dir.path().join("cache"));
    let call =
        ["map", &example("add"), "--func", "add", "--dry-run", "--cache-dir", &cache, "--items", "no tuple"];
    ends(&run(wpool(call)), 0, "would call add: func");
    let is_module = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|e| e == "cwasm");
    assert_eq!(std::fs::read_dir(&cache).unwrap().flatten().filter(is_module).count(), 1);
}

#[test]
fn items_may_begin_with_a_dash() {
    let output = run(wpool(["map", &prebuilt("upper"), "--items", "-5", "b", "-0.5", "-j", "1"]));
    ends(&output, 0, "3 tasks");
    assert_eq!(out(&output), "-5\nB\n-0.5\n");
    let output = run(wpool(["map", &prebuilt("upper"), "--items=-x", "--items=--help", "--items", "y"]));
    ends(&output, 0, "3 tasks");
    assert_eq!(out(&output), "-X\n--HELP\nY\n");
}

#[test]
fn an_unknown_option_is_told_with_the_whole_usage_of_its_command() {
    for (args, usage) in [
        (&["doctor", "--random", "seed=1", "--nope"][..], "Usage: wpool doctor [OPTIONS]\n"),
        (&["map", "--cache"], "Usage: wpool map [OPTIONS] <MODULE> [INPUTS]...\n"),
        (&["-q", "call", "--nope"], "Usage: wpool call [OPTIONS] <MODULE> [CALL]\n"),
        (&["--nope"], "Usage: wpool "),
    ] {
        ends(&run(wpool(args)), 2, usage);
    }
}
