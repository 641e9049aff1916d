//! Modules as people have them: what they import, how they begin and end, what they need of WebAssembly:
//! faults F131 to F144.

mod support;

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use support::command::{
    Running, args, by_shell, ends, err, file, out, path_text, prebuilt, run, scratch, with_input, wpool,
};
use support::{builder, loader, wat};
use tempfile::TempDir;
use wpool::module::{CompileLimits, ImportKind, WasmFeature};
use wpool::{Isolation, ModuleError, Policy, Pool, Process, StartMethod, Target, TaskError};

/// A module's text as a file.
fn module(dir: &TempDir, text: &str) -> String {
    path_text(&file(dir, "module.wat", text))
}

/// A component around `answer: func() -> u32`, which is 42, with these imports and types before it.
fn answering(imports: &str) -> String {
    format!(
        r#"(component {imports}
            (core module $m (func (export "answer") (result i32) (i32.const 42)))
            (core instance $i (instantiate $m))
            (func (export "answer") (result u32) (canon lift (core func $i "answer"))))"#
    )
}

const TYPES: [&str; 7] = [
    // A record, a variant, an enum, flags, and a chain of names.
    r#"(import "demo:geo/types" (instance
        (type $p (record (field "x" u32) (field "y" u32))) (export "point" (type $point (eq $p)))
        (type $v (variant (case "none") (case "at" $point))) (export "place" (type $place (eq $v)))
        (type $e (enum "a" "b")) (export "kind" (type (eq $e)))
        (type $f (flags "r" "w")) (export "mode" (type (eq $f)))
        (export "spot" (type (eq $place)))))"#,
    // Types of one interface that are used in another, and in the world.
    r#"(import "demo:geo/types@1.0.0" (instance $a (type $p (record (field "x" u32))) (export "point" (type (eq $p)))))
       (alias export $a "point" (type $point))
       (import "demo:geo/more@1.0.0" (instance
            (alias outer 1 $point (type $q)) (export "point" (type $r (eq $q)))
            (type $l (list $r)) (export "line" (type (eq $l)))))
       (import "point" (type (eq $point)))"#,
    // A resource that nobody can make.
    r#"(import "demo:geo/handles" (instance (export "handle" (type (sub resource)))))"#,
    r#"(import "demo:geo/handles" (instance $h (export "handle" (type (sub resource)))))
       (alias export $h "handle" (type $handle))
       (import "demo:geo/users" (instance
            (alias outer 1 $handle (type $h)) (export "handle" (type $mine (eq $h)))
            (type $o (own $mine)) (type $r (record (field "h" $o))) (export "holder" (type (eq $r)))))"#,
    r#"(import "outer" (instance (export "inner" (instance (export "r" (type (sub resource))) (type $t (tuple u8 u8)) (export "t" (type (eq $t)))))))"#,
    // A resource of an interface that is there, by another name.
    r#"(import "wasi:io/error@0.2.0" (instance $e (export "error" (type (sub resource)))))
       (alias export $e "error" (type $error))
       (import "demo:geo/users" (instance
            (alias outer 1 $error (type $e)) (export "mishap" (type $mine (eq $e))) (type $o (option (own $mine))) (export "maybe" (type (eq $o)))))"#,
    // Of interfaces that exist elsewhere, and of one that could be granted.
    r#"(import "wasi:http/types@0.2.0" (instance (export "fields" (type (sub resource)))))
       (import "wasi:sockets/network@0.2.0" (instance (type $e (enum "unknown")) (export "error-code" (type (eq $e)))))
       (import "wasi:io/error@0.2.0" (instance (export "error" (type (sub resource)))))"#,
];

#[test]
fn f131_an_import_of_types_only_is_not_missing() {
    let dir = scratch();
    for imports in TYPES {
        let module = module(&dir, &answering(imports));
        let ended = run(wpool(["call", &module, "answer"]));
        ends(&ended, 0, "");
        assert_eq!(out(&ended), "42\n", "{imports}");
        for options in [&[][..], &["--reuse"], &["--threads"], &["--start-method", "spawn"]] {
            let map = ["map", &module, "--func", "answer", "--items", "a", "b", "-q"];
            let ended = run(wpool(args(&map, options)));
            assert_eq!(out(&ended), "42\n42\n", "{imports}: {}", err(&ended));
        }
    }
    // A function beside the types is missing as ever.
    let text = answering(r#"(import "demo:geo/types" (instance (export "f" (func))))"#);
    ends(&run(wpool(["call", &module(&dir, &text), "answer"])), 2, "demo:geo/types");
    let imports = wat(&answering(TYPES[0])).imports().map(|import| import.kind).collect::<Vec<_>>();
    assert_eq!(imports, [ImportKind::Types]);
}

/// `answer(n)` is 40 + n once `_initialize` has run, and 1000 more for each further time; `calls` counts
/// itself.
const REACTOR: &str = r#"(module
    (global $base (mut i32) (i32.const -960)) (global $calls (mut i32) (i32.const 0))
    (func (export "_initialize") (global.set $base (i32.add (global.get $base) (i32.const 1000))))
    (func (export "calls") (param i32) (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1))) (global.get $calls))
    (func (export "answer") (param i32) (result i32) (i32.add (global.get $base) (local.get 0))))"#;

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
const EXITS: &str = include_str!("support/guests/exits.wat");

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
    let module = module(&dir, include_str!("support/guests/arguments.wat"));
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

const THROWS: &str = r#"(module (tag $e (param i32))
    (func (export "f") (result i32) (block $h (result i32) (try_table (catch $e $h) (throw $e (i32.const 5))) (i32.const 0))))"#;
const COLLECTS: &str = r#"(module (type $s (struct (field i32)))
    (func (export "f") (result i32) (struct.get $s 0 (struct.new $s (i32.const 11)))))"#;
/// A list that is never let go of.
const HOARDS: &str = r#"(module (type $a (array i64)) (rec (type $n (struct (field (ref null $n)) (field (ref $a)))))
    (func (export "f") (result i32) (local $list (ref null $n))
        (loop $more
            (local.set $list (struct.new $n (local.get $list) (array.new_default $a (i32.const 100000))))
            (br $more))
        (i32.const 0)))"#;

#[test]
fn f141_exceptions_and_gc_are_off_until_they_are_asked_for() {
    let dir = scratch();
    for (text, needs, result) in [(THROWS, "exceptions", "5\n"), (COLLECTS, "gc", "11\n")] {
        let module = module(&dir, text);
        ends(&run(wpool(["call", &module, "f"])), 2, &format!("it needs {needs} (--wasm {needs}, "));
        let other = if needs == "gc" { "exceptions" } else { "gc" };
        ends(&run(wpool(["call", &module, "f", "--wasm", other])), 2, &format!("--wasm {needs}"));
        let map = ["map", &module, "--items", "a", "-q"];
        for options in
            [&["--fresh"][..], &["--reuse"], &["--threads"], &["--fuel", "1M"], &["--start-method", "spawn"]]
        {
            let ended = run(wpool(args(&args(&map, &["--wasm", "exceptions,gc"]), options)));
            ends(&ended, 0, "");
            assert_eq!(out(&ended), result);
        }
        let run_it = run(wpool(["run", "--wasm", needs, &module]));
        assert_eq!(out(&run_it), result);
        let inspected = run(wpool(["inspect", &module]));
        ends(&inspected, 0, "");
        assert!(out(&inspected).contains(&format!("needs --wasm {needs}\n")), "{}", out(&inspected));
        ends(&run(wpool(["compile", &module, "--wasm", needs])), 0, "");
    }
    let uncaught = r#"(module (tag $e) (func (export "f") (result i32) (throw $e)))"#;
    let map = ["map", &module(&dir, uncaught), "--items", "a", "--wasm", "exceptions"];
    ends(&run(wpool(map)), 1, "trap: an uncaught exception");
    let refused = loader().from_bytes(THROWS.as_bytes());
    assert!(
        matches!(refused, Err(ModuleError::NeedsFeatures { needs, .. }) if needs == [WasmFeature::Exceptions])
    );
    // One that needs nothing is told to need nothing.
    let all = [WasmFeature::Exceptions, WasmFeature::Gc];
    let plain = loader().wasm_features(all).from_bytes(REACTOR.as_bytes()).unwrap();
    assert_eq!(plain.info().needs().count(), 0);
}

#[test]
fn f141_what_gc_keeps_is_memory_of_the_guests() {
    let dir = scratch();
    let module = module(&dir, HOARDS);
    for options in [&[][..], &["--threads"], &["--reuse"], &["--max-table-elements", "2000000"]] {
        let map = ["map", &module, "--wasm", "gc", "--memory", "32M", "--items", "a", "--timeout", "30s"];
        ends(&run(wpool(args(&map, options))), 1, "memory limit of 32 MiB reached");
    }
}

#[test]
fn f142_imports_that_nobody_provides_trap_when_they_are_called_if_that_is_wanted() {
    let dir = scratch();
    let core = r#"(module (import "acme" "log" (func $log (param i32))) (memory (export "memory") 1)
        (func (export "quiet") (result i32) (i32.const 42)) (func (export "loud") (result i32) (call $log (i32.const 1)) (i32.const 1)))"#;
    let component = r#"(component
        (import "acme:log/log@1.0.0" (instance $log (export "sink" (type (sub resource))) (export "log" (func (param "n" u32)))))
        (import "note" (func (param "text" string)))
        (core func $log (canon lower (func $log "log")))
        (core module $m (import "" "log" (func $log (param i32)))
            (func (export "quiet") (result i32) (i32.const 42)) (func (export "loud") (result i32) (call $log (i32.const 1)) (i32.const 1)))
        (core instance $i (instantiate $m (with "" (instance (export "log" (func $log))))))
        (func (export "quiet") (result u32) (canon lift (core func $i "quiet")))
        (func (export "loud") (result u32) (canon lift (core func $i "loud"))))"#;
    for (text, name) in [(core, "acme log"), (component, "acme:log/log@1.0.0#log")] {
        let module = module(&dir, text);
        ends(&run(wpool(["call", &module, "quiet"])), 2, "is not granted");
        for options in [&[][..], &["--threads"]] {
            let trap = ["call", "--unknown-imports", "trap", &module];
            let trap = args(&trap, options);
            let ended = run(wpool(args(&trap, &["quiet"])));
            ends(&ended, 0, "");
            assert_eq!(out(&ended), "42\n");
            ends(
                &run(wpool(args(&trap, &["loud"]))),
                1,
                &format!("trap: it called {name}, which is not provided"),
            );
        }
        let ended = run(wpool(["run", "--unknown-imports", "trap", "--func", "loud", &module]));
        ends(&ended, 134, name);
    }
    // What is no function cannot be stood in for.
    for import in ["(memory 1)", "(global i32)", "(table 1 funcref)"] {
        let module = module(&dir, &format!(r#"(module (import "acme" "it" {import}) (func (export "f")))"#));
        let ended = run(wpool(["call", &module, "f", "--unknown-imports", "trap"]));
        ends(&ended, 2, "acme it");
        ends(&ended, 2, "only a function can trap");
    }
}

#[test]
fn f142_a_function_that_preview_1_does_not_have_is_one_that_nobody_provides() {
    let dir = scratch();
    let text = r#"(module (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
        (import "wasi_snapshot_preview1" "sock_open" (func $open (param i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "quiet") (result i32) (call $yield))
        (func (export "loud") (result i32) (call $open (i32.const 1))))"#;
    let module = module(&dir, text);
    let name = "wasi_snapshot_preview1 sock_open";
    ends(
        &run(wpool(["call", &module, "quiet"])),
        2,
        &format!("{name} (WASI preview 1 has no function of that"),
    );
    let shown = out(&run(wpool(["inspect", &module])));
    assert!(
        shown.contains(&format!("{name}  MISSING: WASI preview 1 has no function of that name")),
        "{shown}"
    );
    for options in [&[][..], &["--threads"]] {
        let trap = ["call", "--unknown-imports", "trap", &module];
        let trap = args(&trap, options);
        let quiet = run(wpool(args(&trap, &["quiet"])));
        ends(&quiet, 0, "");
        assert_eq!(out(&quiet), "0\n");
        let said = format!("trap: it called {name}, which is not provided");
        ends(&run(wpool(args(&trap, &["loud"]))), 1, &said);
    }
    // So is an interface that WASI 0.2 does not have.
    let text = answering(r#"(import "wasi:clocks/timezone@0.2.0" (instance (export "f" (func))))"#);
    let module = self::module(&dir, &text);
    ends(
        &run(wpool(["call", &module, "answer()"])),
        2,
        "wasi:clocks/timezone@0.2.0 (not among the interfaces",
    );
    ends(&run(wpool(["call", "--unknown-imports", "trap", &module, "answer()"])), 0, "");
}

#[test]
fn f142_inspect_shows_what_is_missing_first_and_each_note_once() {
    let dir = scratch();
    let text = answering(
        r#"(import "wasi:io/poll@0.2.0" (instance)) (import "wasi:sockets/tcp@0.2.0" (instance (export "f" (func))))
           (import "acme:a/b" (instance (export "f" (func)))) (import "wasi:sockets/udp@0.2.0" (instance (export "f" (func))))"#,
    );
    let module = module(&dir, &text);
    let ended = run(wpool(["inspect", &module]));
    ends(&ended, 0, "");
    let shown = out(&ended);
    let at = |what: &str| shown.find(what).unwrap_or_else(|| panic!("no {what} in {shown}"));
    assert!(at("  wasi:sockets/tcp@0.2.0  MISSING: needs --net HOST:PORT") < at("granted"), "{shown}");
    assert!(at("  wasi:sockets/udp@0.2.0  MISSING: as above\n") < at("granted"), "{shown}");
    assert!(at("  acme:a/b  MISSING: no host interface") < at("granted"), "{shown}");
    assert_eq!(shown.matches("needs --net").count(), 1, "{shown}");
    // And so does the refusal.
    let ended = run(wpool(["call", &module, "answer"]));
    ends(&ended, 2, "wasi:sockets/tcp@0.2.0, wasi:sockets/udp@0.2.0 (needs --net");
    assert_eq!(err(&ended).matches("--net HOST:PORT").count(), 1, "{}", err(&ended));
}

#[test]
fn f143_async_exports_are_refused_by_their_name() {
    let dir = scratch();
    let text = r#"(component
        (core module $m (func (export "run") (result i32) (i32.const 0)) (func (export "cb") (param i32 i32 i32) (result i32) (i32.const 0)))
        (core instance $i (instantiate $m))
        (type $run (func async (result (result))))
        (func $run (type $run) (canon lift (core func $i "run") async (callback (core func $i "cb"))))
        (instance (export "wasi:cli/run@0.3.0") (export "run" (func $run))))"#;
    let module = module(&dir, text);
    let said = "it uses async functions of the component model, as WASI 0.3 has them, which is not supported";
    ends(&run(wpool(["map", &module, "--items", "a"])), 2, said);
    ends(&run(wpool(["run", &module])), 126, said);
}

#[test]
fn f148_imports_are_judged_before_the_module_is_compiled() {
    let text = br#"(module (import "acme" "gone" (func)) (func (export "f")))"#;
    // Its machine code would be too much: so it gets no further than that.
    let mut limits = CompileLimits::default();
    limits.code = 10;
    let loader = loader().no_cache().compile_limits(limits);
    assert!(matches!(loader.from_bytes(text), Err(ModuleError::CompileLimit(_))));
    let refused = loader.policy(Policy::sealed()).from_bytes(text);
    assert!(
        matches!(refused, Err(ModuleError::MissingImports { missing }) if missing[0].starts_with("acme gone ("))
    );
    // A module that has been compiled is judged as well.
    let compiled = support::loader();
    compiled.from_bytes(text).unwrap();
    let refused = compiled.policy(Policy::sealed()).from_bytes(text);
    assert!(matches!(refused, Err(ModuleError::MissingImports { .. })));
}

/// Opens its first argument below its first directory, and copies it to stdout.
const CAT: &str = include_str!("support/guests/cat.wat");

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
    let shown = module(&dir, include_str!("support/guests/arguments.wat"));
    let options =
        ["--help", "--version", "-v", "--dir=/", "--sandbox", "off", "--net=none", "--", "--threads", "-"];
    let ended = run(wpool(args(&["run", "--threads", &shown], &options)));
    ends(&ended, 0, "");
    assert_eq!(out(&ended), format!("module.wat{}", options.concat()));
    // What stands before it is ours, and unknown options are nobody's.
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
const COPIES: &str = include_str!("support/guests/copies.wat");

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
    // A function's parameter is all of it.
    let ended = with_input(wpool(["run", &prebuilt("upper")]), b"abc");
    assert_eq!(out(&ended), "ABC\n");
    ends(&run(wpool(["run", &prebuilt("upper")])), 2, "input");
    // What cannot be read is no empty input.
    let mut command = wpool(["run", &copies]);
    command.stdin(std::fs::File::open(dir.path()).unwrap());
    ends(&command.output().unwrap(), 125, "standard input cannot be read");
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

/// Gives the first byte of the record before, and keeps that of this one. It has an `init`, which nobody asks
/// for.
const LEAKS: &str = include_str!("support/guests/leaks.wat");

#[test]
fn f118_state_is_never_the_modules_choice() {
    let dir = scratch();
    let leaks = module(&dir, LEAKS);
    let map = ["map", &leaks, "--items", "Asecret", "B", "C", "D", "-j", "1"];
    let note = "the module exports init: it is called in each task's own instance; --reuse or --init init keeps its state";
    for options in
        [&[][..], &["--threads"], &["--start-method", "spawn"], &["--fresh"], &["--fresh", "--init", "init"]]
    {
        let ended = run(wpool(args(&map, options)));
        ends(&ended, 0, "");
        assert_eq!(out(&ended), "\0\n\0\n\0\n\0\n", "{options:?}");
        let is_said = !options.contains(&"--fresh");
        assert_eq!(err(&ended).matches(note).count(), usize::from(is_said), "{options:?}: {}", err(&ended));
    }
    for options in [&["--reuse"][..], &["--init", "init"], &["--init-arg", "x"], &["--reuse", "--threads"]] {
        let ended = run(wpool(args(&map, options)));
        ends(&ended, 0, "");
        assert_eq!(out(&ended), "\0\nA\nB\nC\n", "{options:?}");
        assert!(!err(&ended).contains("init"), "{}", err(&ended));
    }
    assert!(!err(&run(wpool(args(&map, &["-q"])))).contains("init"));
    ends(&run(wpool(args(&map, &["--fresh", "--reuse"]))), 2, "cannot be used with");
}

#[test]
fn f118_a_pool_keeps_state_for_those_only_who_make_it() {
    for method in [StartMethod::Forkserver, StartMethod::Spawn, StartMethod::Thread] {
        let builder = || builder(&wat(LEAKS), method).processes(1);
        let firsts = |builder: wpool::PoolBuilder| {
            let pool = builder.build().unwrap();
            pool.map(&pool.func::<&[u8], Vec<u8>>("run").unwrap(), [&b"A"[..], b"B"]).unwrap()
        };
        assert_eq!(firsts(builder()), [b"\0", b"\0"]);
        assert_eq!(firsts(builder().isolation(Isolation::Reuse)), [b"\0", b"A"]);
        assert_eq!(firsts(builder().initializer("init", ["x"])), [b"\0", b"A"]);
        assert_eq!(firsts(builder().initializer("init", ["x"]).isolation(Isolation::Fresh)), [b"\0", b"\0"]);
        // A run that is to be the same with any number of workers has nothing to keep.
        let deterministic = || builder().policy(Policy::sealed().deterministic());
        assert_eq!(firsts(deterministic()), [b"\0", b"\0"]);
        assert_eq!(firsts(deterministic().initializer("init", ["x"])), [b"\0", b"\0"]);
        let refused = deterministic().isolation(Isolation::Reuse).build().unwrap_err().to_string();
        assert!(refused.contains("deterministic"), "{refused}");
    }
}

#[test]
fn f118_an_init_is_called_in_each_instance_whoever_runs_it() {
    // 7 if it has been called.
    let text = r#"(component
        (core module $m (memory (export "memory") 1) (global $n (mut i32) (i32.const 0))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "init") (param i32 i32) (result i32) (global.set $n (i32.add (global.get $n) (i32.const 7))) (i32.const 64))
            (func (export "f") (result i32) (global.get $n)))
        (core instance $i (instantiate $m))
        (func (export "init") (param "args" (list string)) (result (result (error string)))
            (canon lift (core func $i "init") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
        (func (export "f") (result u32) (canon lift (core func $i "f"))))"#;
    let dir = scratch();
    let module = module(&dir, text);
    for options in [&[][..], &["--threads"]] {
        assert_eq!(out(&run(wpool(args(&["call", &module, "f"], options)))), "7\n");
        assert_eq!(out(&run(wpool(args(&args(&["run"], options), &["--func", "f", &module])))), "7\n");
        for how in ["--fresh", "--reuse"] {
            let map = ["map", &module, "--items", "a", "b", "c", "-q", "-j", "1", "--func", "f", how];
            assert_eq!(out(&run(wpool(args(&map, options)))), "7\n7\n7\n");
        }
    }
}
