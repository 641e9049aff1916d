//! The other subcommands.

use super::*;

#[test]
fn a_call_prints_its_result() {
    let call = |args: &[&str]| {
        let output = run(wpool(args));
        ends(&output, 0, "");
        out(&output)
    };
    let add = example("add");
    assert_eq!(call(&["call", &add, "add(3, -4)"]), "-1\n");
    assert_eq!(call(&["call", &add, "--func", "square", "--arg", "1.5"]), "2.25\n");
    assert_eq!(call(&["call", &prebuilt("upper"), "run(\"abc\")"]), "ABC\n");
    assert_eq!(call(&["call", &add, "add(3, -4)", "--output-format", "json"]), "-1\n");
    let output = run(wpool(["call", &prebuilt("failing"), "run(\"bad\")"]));
    ends(&output, 1, "wpool: bad is bad\n");
    ends(
        &run(wpool(["call", &prebuilt("failing"), "run(\"loop\")", "--timeout", "0.2"])),
        1,
        "timeout after 200ms",
    );
}

#[test]
fn a_command_runs_with_arguments_input_and_its_own_exit_code() {
    let dir = scratch();
    let input = path_text(&file(&dir, "input", "from a file\n"));
    let args_guest = prebuilt("args");
    let output = run(wpool(["run", "--input", &input, &args_guest, "0", "--two", "-j"]));
    ends(&output, 0, "");
    assert_eq!(out(&output), "0\n--two\n-j\nfrom a file\n");
    // Commands of preview 2 can only tell success from failure.
    ends(&run(wpool(["run", &args_guest, "7"])), 1, "");
    let output = with_input(wpool(["run", "--input", "-", &example("upper-p1")]), b"typed\n");
    ends(&output, 0, "");
    assert_eq!(out(&output), "TYPED\n");
    assert_eq!(out(&run(wpool(["run", &args_guest, "--", "0", "--help"]))), "0\n--help\n");
}

#[test]
fn a_process_ends_with_documented_codes() {
    let dir = scratch();
    let wat = |name: &str, text: &str| path_text(&file(&dir, name, text));
    let trap =
        wat("trap.wat", r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#);
    let endless =
        wat("loop.wat", r#"(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"#);
    let import = wat("import.wat", r#"(module (import "env" "f" (func)) (func (export "_start")))"#);
    let broken = wat("broken.wat", "(module (func (export \"run\") (result i32)))");
    let missing = path_text(&dir.path().join("missing"));
    let exit = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const 7))))"#;
    let exit = wat("exit.wat", exit);
    let failing = prebuilt("failing");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["run", "--func", "run", "--arg", "good", &failing], 0, ""),
        (&["run", "--func", "run", "--arg", "bad", &failing], 1, "wpool: bad is bad"),
        (&["run", &exit], 7, ""),
        (&["run", &trap], 134, "trap: unreachable"),
        (&["run", "--timeout", "200ms", &endless], 124, "timeout after 200ms"),
        (&["run", &import], 126, "not granted"),
        (&["run", &broken], 126, "the module is refused"),
        (&["run", &missing], 127, "No such file"),
        (&["run", "--func", "nope", &trap], 127, "no function \"nope\""),
        (&["run", "--input", &missing, &trap], 2, "cannot read"),
        (&["run", &failing, "an", "argument"], 2, "given with --arg"),
    ];
    for (args, code, said) in cases {
        ends(&run(wpool(*args)), *code, said);
    }
}

#[test]
fn a_process_streams_its_output_and_ends_with_signals() {
    let endless = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\08\00\00\00\03\00\00\00hi\0a")
      (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
        (loop (br 0))))"#;
    let dir = scratch();
    let endless = path_text(&file(&dir, "endless.wat", endless));
    let start = || {
        let mut running = Running::start(wpool(["run", &endless]));
        assert_eq!(running.line(), "hi");
        running
    };
    for signal in [Signal::INT, Signal::TERM] {
        let running = start();
        running.signal(signal);
        assert_eq!(running.end().0.signal(), Some(signal.as_raw()));
    }

    let running = start();
    let workers = workers_of(running.child.id());
    kill(workers[0], Signal::KILL);
    let (status, stderr) = running.end();
    assert_eq!(status.code(), Some(137), "{stderr}");
    assert!(stderr.contains("ended by SIGKILL"), "{stderr}");
}

#[test]
fn inspect_describes_a_module() {
    let output = run(wpool(["inspect", &prebuilt("hello")]));
    ends(&output, 0, "");
    for said in [
        "component, ",
        "sha256 ",
        "wasi:cli/stdout@",
        "granted",
        "run: func(record: string) -> ",
        "(default)",
    ] {
        assert!(out(&output).contains(said), "no {said:?} in {}", out(&output));
    }
    let crawler = prebuilt("crawler");
    let output = out(&run(wpool(["inspect", &crawler, "--share", "queue:found", "--dir", ".:ro"])));
    assert!(output.contains("queue found") && output.contains("no dict is shared"), "{output}");
    let output = run(wpool(["inspect", &example("add"), "--json"]));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let bytes = std::fs::read(example("add")).unwrap();
    let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!((&json["kind"], &json["size"]), (&Value::from("core"), &Value::from(bytes.len())));
    assert_eq!(json["digest"], digest);
    assert_eq!(json["exports"][0]["name"], "add");
    assert_eq!(json["exports"][0]["wit"], "add: func(s32, s32) -> s32");
    assert_eq!(json["exports"][0]["role"], "function");
    let dir = scratch();
    let import = file(&dir, "import.wat", r#"(module (import "env" "f" (func)))"#);
    let output = run(wpool(["inspect", &path_text(&import), "--json"]));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&json["imports"][0]["name"], &json["imports"][0]["granted"]),
        (&"env f".into(), &false.into())
    );
}

#[test]
fn compile_fills_the_cache_and_says_where() {
    let dir = scratch();
    let cache = path_text(&dir.path().join("new"));
    let output = run(wpool(["compile", "--cache-dir", &cache, &example("add"), &example("echo")]));
    ends(&output, 0, "");
    let places: Vec<String> =
        out(&output).lines().map(|l| l.rsplit(": ").next().unwrap().to_owned()).collect();
    assert_eq!(places.len(), 2);
    assert!(places.iter().all(|place| place.starts_with(&cache) && Path::new(place).exists()));
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o755)).unwrap();
    ends(&run(wpool(["compile", "--cache-dir", &cache, &example("add")])), 4, "compiled, but not cached");
}

#[test]
fn compile_goes_on_behind_a_module_that_is_refused() {
    let dir = scratch();
    let cache = path_text(&dir.path().join("new"));
    let empty = path_text(&file(&dir, "empty.wasm", ""));
    let output = run(wpool(["compile", "--cache-dir", &cache, "/no/such/module", &empty, &example("add")]));
    ends(&output, 2, "wpool: /no/such/module: cannot read the module: No such file or directory");
    ends(&output, 2, "it is empty");
    assert!(
        out(&output).starts_with(&example("add")) && out(&output).lines().count() == 1,
        "{}",
        out(&output)
    );
}

#[test]
fn the_sandbox_is_a_choice_and_off_is_loud() {
    let upper = support::repo("guest/prebuilt/upper.wasm");
    let upper = upper.to_str().unwrap();
    for choice in ["default", "off"] {
        let output = run(wpool(["map", "--sandbox", choice, upper, "--items", "a", "b"]));
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"A\nB\n"[..]), "{}", err(&output));
        let said = err(&output).matches("the sandbox is OFF").count();
        assert_eq!(said, usize::from(choice == "off"), "{}", err(&output));
    }
    let output = run(wpool(["call", "--sandbox", "maybe", upper, "run(\"a\")"]));
    ends(&output, 2, "expected strict, default or off");
    let output = run(wpool(["map", "--sandbox", "strict", "--threads", upper, "--items", "a"]));
    ends(&output, 3, "the sandbox is strict");
}

#[test]
fn doctor_tells_what_is_enforced() {
    let output = run(wpool(["doctor"]));
    ends(&output, 0, "");
    for said in [
        "kernel: Linux ",
        "steps of a worker process:",
        "no new privileges: enforced",
        "no connection: by seccomp",
        "of a compiler, otherwise:",
        "of a worker with --net HOST:PORT, otherwise:",
        "all holds that must, without grants: --sandbox strict runs",
    ] {
        assert!(out(&output).contains(said), "no {said:?} in {}", out(&output));
    }
    let status = support::loader().from_bytes(b"(module)").map(|_| ());
    assert!(status.is_ok());
}

#[test]
fn colour_is_used_only_where_it_is_wanted() {
    let call = ["map", &prebuilt("failing"), "--items", "bad"];
    assert!(!err(&run(wpool(call))).contains('\x1b'));
    assert!(err(&run(wpool(args(&call, &["--color", "always"])))).contains("\x1b[31mwpool:\x1b[0m task 1"));
    let mut forced = wpool(call);
    forced.env("CLICOLOR_FORCE", "1");
    assert!(err(&run(forced)).contains('\x1b'));
    let mut refused = wpool(call);
    refused.env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1");
    assert!(!err(&run(refused)).contains('\x1b'));
}

#[test]
fn wrong_arguments_of_a_process_are_wrong_usage() {
    let add = example("add");
    for (given, said) in [
        (&["--arg", "x", "--arg", "1"][..], "expected s32"),
        (&["--arg", "1"], "needs a value"),
        (&["--arg", "1", "--arg", "2", "--arg", "3"], "takes 2 arguments, 3 are given"),
        (&["--kw", "zz=2"], "no parameter has that name"),
    ] {
        let output = run(wpool(
            args(&["run", "--func", "add", &add], &[]).iter().take(3).chain(given).chain(&[&add[..]]),
        ));
        ends(&output, 2, said);
    }
}

#[test]
fn a_process_whose_result_cannot_be_written_ends_with_wpools_own_code() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = wpool(["run", "--func", "add", "--arg", "1", "--arg", "2", &example("add")]);
    let output = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    ends(&output, 125, "cannot write output: No space left on device");
}

#[test]
fn an_empty_cache_directory_in_the_environment_is_none() {
    let home = scratch();
    let mut command = wpool(["compile", &example("add")]);
    command.env("WPOOL_CACHE_DIR", "").env_remove("XDG_CACHE_HOME").env("HOME", home.path());
    let output = run(command);
    ends(&output, 0, "");
    assert!(out(&output).contains(".cache/wpool/"), "{}", out(&output));
}

#[test]
fn a_damaged_cache_key_is_named_and_nothing_else_goes_wrong() {
    let home = scratch();
    let cached = || {
        let mut command = wpool(["call", &example("add"), "add(1, 2)"]);
        command.env("WPOOL_CACHE_DIR", home.path().join("cache"));
        run(command)
    };
    ends(&cached(), 0, "");
    let key = home.path().join("cache/key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&key, "short").unwrap();
    let output = cached();
    ends(&output, 0, "its key is damaged (remove ");
    assert_eq!(out(&output), "3\n");
}

#[test]
fn ctrl_c_lets_a_process_that_looks_return_what_it_has() {
    let dir = scratch();
    let looking = path_text(&file(&dir, "looking.wat", support::LOOKING));
    let mut running = Running::start(wpool(["run", &looking]));
    // From its start on, `wpool` hears signals, and there is a worker only after that.
    let pid = running.child.id();
    wait_until("the process is there", Duration::from_secs(20), || {
        process_name(pid) == Some("Process-1".to_owned())
    });
    running.signal(Signal::INT);
    assert_eq!(running.line(), "7");
    assert_eq!(running.end().0.signal(), Some(libc::SIGINT));
}

/// From an empty folder to a result: `wpool new`, and the two commands that it prints.
#[test]
fn a_new_project_builds_and_runs_with_the_two_commands_that_are_printed() {
    let dir = scratch();
    let project = path_text(&dir.path().join("greeter"));
    for (world, results) in
        [("task", "hello Ada\nhello Grace\n"), ("typed", "17.5\n"), ("command", "ADA\nGRACE\n")]
    {
        let project = format!("{project}-{world}");
        let made = run(wpool(["new", "--lang", "rust", "--world", world, &project]));
        ends(&made, 0, "");
        let commands = out(&made);
        let [build, call] = commands.lines().collect::<Vec<_>>()[..] else { panic!("{commands}") };
        assert_eq!(build, format!("wpool build {project}"));
        let again = run(wpool(["new", "--lang", "rust", &project]));
        ends(&again, 2, "exists and is not empty");

        let mut build = wpool(["build", &project]);
        // What the compilers leave there for a moment is no test's business.
        build.env("TMPDIR", dir.path());
        let built = run(build);
        // What a machine without the target is told. The gate names the toolchain that it has made.
        let told = ["rustup target add wasm32-wasip2", "cannot run cargo"];
        let may_lack = std::env::var_os("WPOOL_GUEST_TOOLCHAIN").is_none();
        if may_lack && told.iter().any(|words| err(&built).contains(words)) {
            assert_eq!(built.status.code(), Some(2));
            continue;
        }
        ends(&built, 0, "");
        let module = call.split(' ').nth(2).unwrap();
        assert_eq!(out(&built), format!("{module}\n"));
        let words = by_shell(&call.replacen("wpool", "\"$0\"", 1), &[]);
        assert_eq!(out(&run(words)), results);
    }
    ends(&run(wpool(["build", &path_text(dir.path())])), 2, "has no Cargo.toml");
    ends(&run(wpool(["new", "--lang", "rust", "7up"])), 2, "is no name for a project");
}
