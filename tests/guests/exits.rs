//! Initialising, exit codes, and failures that need an explanation.

use super::*;

#[test]
fn f132_a_librarys_initialize_is_called_once_in_each_instance_before_anything_else() {
    let dir = scratch();
    let reactor = module(&dir, REACTOR);
    let said = |command: &[&str]| {
        let ended = run(wpool(command));
        ends(&ended, 0, "");
        out(&ended)
    };
    assert_eq!(said(&["call", &reactor, "answer(2)"]), "42\n");
    assert_eq!(said(&["run", "--func", "answer", "--arg", "2", &reactor]), "42\n");
    for options in [&["--fresh"][..], &["--reuse"], &["--threads"], &["--start-method", "spawn"]] {
        let map = ["map", &reactor, "--func", "answer", "--items", "1", "2", "3", "-q", "-j", "1"];
        assert_eq!(said(&args(&map, options)), "41\n42\n43\n", "{options:?}");
    }
    let reused = ["map", &reactor, "--func", "calls", "--items", "1", "2", "-q", "-j", "1", "--reuse"];
    assert_eq!(said(&reused), "1\n2\n");
    // What begins by itself is a command.
    let command = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (memory (export "memory") 1)
        (func (export "_initialize") (call $exit (i32.const 7))) (func (export "_start")))"#;
    ends(&run(wpool(["run", &module(&dir, command)])), 0, "");
}

#[test]
fn f132_an_initialize_that_fails_leaves_no_instance_and_has_the_limits_of_a_task() {
    let dir = scratch();
    for (body, options, said) in [
        ("unreachable", &[][..], "trap: cannot instantiate: unreachable"),
        ("(loop $l (br $l))", &["--timeout", "200ms"], "timeout after 200ms"),
        ("(loop $l (br $l))", &["--fuel", "10000"], "fuel limit of 10000"),
    ] {
        let text = format!(
            r#"(module (func (export "_initialize") {body}) (func (export "f") (param i32) (result i32) (local.get 0)))"#
        );
        let module = module(&dir, &text);
        ends(&run(wpool(args(&["map", &module, "--func", "f", "--items", "1"], options))), 1, said);
        let ended = run(wpool(args(&args(&["run"], options), &["--func", "f", "--arg", "1", &module])));
        assert!(!ended.status.success() && err(&ended).contains(said), "{}", err(&ended));
    }
}

/// Ends with the number that its last argument is, after it has printed it.
const EXITS: &str = include_str!("../support/guests/exits.wat");

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn f133_an_exit_code_is_told_as_the_guest_gave_it() {
    let dir = scratch();
    let module = module(&dir, EXITS);
    for (code, low) in [
        ("0", 0),
        ("10", 10),
        ("125", 125),
        ("126", 126),
        ("200", 200),
        ("255", 255),
        ("256", 0),
        ("-1", 255),
    ] {
        let ended = run(wpool(["run", &module, code]));
        assert_eq!((ended.status.code(), out(&ended)), (Some(low), code.to_owned()), "{}", err(&ended));
        let ended = run(wpool(["run", "--threads", &module, code]));
        assert_eq!(ended.status.code(), Some(low), "{}", err(&ended));
    }
    let codes = ["0", "10", "126", "255", "256", "-1"];
    let map = [
        "map",
        &module,
        "--as-args",
        "--format",
        "jsonl",
        "-q",
        "--items",
        "0",
        "10",
        "126",
        "255",
        "256",
        "-1",
    ];
    let ended = run(wpool(map));
    ends(&ended, 1, "");
    let told: Vec<Value> = lines(&out(&ended)).iter().map(|line| line["error"]["code"].clone()).collect();
    assert_eq!(
        told,
        [Value::Null, 10.into(), 126.into(), 255.into(), 256.into(), u32::MAX.into()],
        "{codes:?}"
    );
    // Those that are expected have results.
    let ended = run(wpool(args(&map, &["--ok-exit", "0,10,255"])));
    ends(&ended, 1, "");
    let results: Vec<Value> = lines(&out(&ended)).iter().map(|line| line["output"].clone()).collect();
    assert_eq!(results, ["0".into(), "10".into(), Value::Null, "255".into(), Value::Null, Value::Null]);
    let text = ["map", &module, "--as-args", "-q", "--ok-exit", "10,20", "--items", "10", "0", "20"];
    let ended = run(wpool(text));
    ends(&ended, 0, "");
    assert_eq!(out(&ended), "10\n0\n20\n");
}

#[test]
fn f149_a_components_exit_is_told_as_what_the_host_can_know() {
    let dir = scratch();
    let failing = r#"(component
        (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
        (core func $exit (canon lower (func $exit "exit")))
        (core module $m (import "" "exit" (func $exit (param i32))) (func (export "run") (result i32) (call $exit (i32.const 1)) (i32.const 0)))
        (core instance $i (instantiate $m (with "" (instance (export "exit" (func $exit))))))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#;
    let ended = run(wpool(["map", &module(&dir, failing), "--items", "a"]));
    ends(&ended, 1, "guest called exit(1), which from a component is any code but 0");
}

#[test]
fn f133_exit_codes_of_a_process_and_of_a_pool_are_those_of_the_guest() {
    let module = wat(EXITS);
    for method in [StartMethod::Forkserver, StartMethod::Spawn, StartMethod::Thread] {
        let mut process = Process::builder(&module)
            .target(Target::default().argv(["x", "200"]))
            .start_method(method)
            .build()
            .unwrap();
        process.start().unwrap();
        let status = process.join().unwrap();
        assert_eq!(status.exitcode, 200);
        assert_eq!(status.reason, wpool::process::ExitReason::Failed(TaskError::Exited { code: 200 }));
        let pool = builder(&module, method).build().unwrap();
        let target =
            Target::default().argv(["x"]).command_input(wpool::target::CommandInput::Arg).ok_exit([256]);
        let (mut inputs, mut outcomes) = pool.stream(&target, true).unwrap();
        inputs.push_all([&b"256"[..], b"126"].into_iter()).unwrap();
        drop(inputs);
        let mut ends = Vec::new();
        while outcomes.take_into(&mut |outcome| ends.push(outcome.result().map(<[u8]>::to_vec))) {}
        assert_eq!(ends, [Ok(b"256".to_vec()), Err(TaskError::Exited { code: 126 })]);
    }
}

/// Is refused memory and does not mind, then ends as its body says.
fn refused(body: &str) -> String {
    format!(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (memory (export "memory") 1)
            (func (export "_start")
                (if (i32.ne (memory.grow (i32.const 10000)) (i32.const -1)) (then unreachable))
                (drop (memory.grow (i32.const 1)))
                {body}))"#
    )
}

#[test]
fn f134_memory_that_was_refused_is_told_of_a_task_that_failed_afterwards() {
    let dir = scratch();
    let note = "memory was refused at 32 MiB";
    for (body, code) in
        [("(call $exit (i32.const 3))", 3), ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", 134)]
    {
        let module = module(&dir, &refused(body));
        for method in [&[][..], &["--threads"]] {
            ends(&run(wpool(args(&["map", &module, "--memory", "32M", "--items", "a"], method))), 1, note);
            let ended = run(wpool(args(&args(&["run", "--memory", "32M"], method), &[&module])));
            ends(&ended, code, note);
        }
    }
    let fine = module(&dir, &refused(""));
    let ended = run(wpool(["map", &fine, "--memory", "32M", "--items", "a"]));
    ends(&ended, 0, "");
    assert!(!err(&ended).contains("refused"), "{}", err(&ended));
}

#[test]
fn f135_of_several_exports_that_are_named_run_the_command_is_run() {
    let dir = scratch();
    let text = r#"(component
        (core module $m (func (export "ok") (result i32) (i32.const 0)) (func (export "trap") (result i32) unreachable))
        (core instance $i (instantiate $m))
        (func $command (result (result)) (canon lift (core func $i "ok")))
        (func $other (result u32) (canon lift (core func $i "trap")))
        (instance (export "acme:a/one") (export "run" (func $other)))
        (instance (export "acme:b/two") (export "run" (func $other)))
        (instance (export "wasi:cli/run@0.2.0") (export "run" (func $command)))
        (export "run" (func $other)))"#;
    let all = module(&dir, text);
    ends(&run(wpool(["run", &all])), 0, "");
    let without =
        text.rsplit_once(r#"(export "run" (func $other))"#).map(|(front, _)| format!("{front})")).unwrap();
    let without = module(&dir, &without);
    for func in [&[][..], &["--func", "run"]] {
        ends(&run(wpool(args(&["map", &without, "--items", "a"], func))), 0, "");
        ends(&run(wpool(args(&args(&["run"], func), &[&without]))), 0, "");
    }
}

#[test]
fn f137_a_nul_in_an_argument_is_bad_input() {
    let dir = scratch();
    let module = module(&dir, include_str!("../support/guests/arguments.wat"));
    for how in ["--as-args=one", "--as-args=words"] {
        let ended = with_input(wpool(["map", &module, "--print0", how, "-q"]), b"a\0b\nfine\n");
        ends(&ended, 1, "bad input: an argument must not contain a NUL, and byte 2 is one");
        assert!(out(&ended).contains("fine"), "{}", out(&ended));
    }
    let target = Target::default().argv(["x", "a\0b"]);
    let module = loader().load(&module).unwrap();
    assert!(Pool::builder(&module).build().unwrap().stream(&target, true).is_err());
    assert!(Process::builder(&module).target(target).build().is_err());
    assert!(Process::builder(&module).policy(Policy::sealed().env("A", "a\0b")).build().is_err());
}
