//! Parts of WebAssembly that are off, and imports that are not provided.

use super::*;

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
    // A module that needs no feature is shown without any.
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

/// The engine's linker has the interfaces of WASI under another patch version. A function that is added under
/// the version of the module would hide the whole interface.
#[test]
fn f142_a_function_that_an_interface_of_wpool_does_not_have_counts_as_not_provided() {
    let dir = scratch();
    let calls_of = |interface: &str, has: &str, result: &str| {
        format!(
            r#"(component
            (import "{interface}" (instance $i (export "{has}" (func (result {result})))
                (export "nonsense" (func (param "n" u32)))))
            (core func $has (canon lower (func $i "{has}")))
            (core func $nonsense (canon lower (func $i "nonsense")))
            (core module $m (import "" "nonsense" (func $nonsense (param i32)))
                (func (export "loud") (result i32) (call $nonsense (i32.const 1)) (i32.const 1)))
            (core instance $m (instantiate $m (with "" (instance (export "nonsense" (func $nonsense))))))
            (func (export "quiet") (result {result}) (canon lift (core func $has)))
            (func (export "loud") (result u32) (canon lift (core func $m "loud"))))"#
        )
    };
    let interfaces = [
        ("wasi:clocks/monotonic-clock@0.2.0", "resolution", "u64"),
        ("wasi:random/random@0.2.6", "get-random-u64", "u64"),
        ("wpool:process/current@0.1.0", "worker-index", "u32"),
    ];
    for (interface, has, result) in interfaces {
        let module = module(&dir, &calls_of(interface, has, result));
        let absent = format!("{interface}#nonsense");
        for _compiled_and_cached in 0..2 {
            let ended = run(wpool(["call", &module, "quiet"]));
            ends(&ended, 2, &format!("{absent} (the interface has no function of that name)"));
        }
        let inspected = run(wpool(["inspect", &module]));
        assert!(out(&inspected).contains(&format!("{absent}  MISSING: ")), "{}", out(&inspected));
        for options in [&[][..], &["--threads"]] {
            let trap = ["call", "--unknown-imports", "trap", &module];
            let trap = args(&trap, options);
            // The rest of the interface is there.
            ends(&run(wpool(args(&trap, &["quiet"]))), 0, "");
            let told = format!("trap: it called {absent}, which is not provided");
            ends(&run(wpool(args(&trap, &["loud"]))), 1, &told);
        }
    }
    // Beside an interface that is not provided.
    let both = r#"(component
        (import "acme:log/log" (instance (export "log" (func (param "n" u32)))))
        (import "wasi:cli/stdout@0.2.0" (instance (export "nonsense" (func (param "n" u32)))))
        (core module $m (func (export "f") (result i32) (i32.const 42)))
        (core instance $i (instantiate $m))
        (func (export "f") (result u32) (canon lift (core func $i "f"))))"#;
    let both = module(&dir, both);
    let ended = run(wpool(["call", "--unknown-imports", "trap", &both, "f"]));
    ends(&ended, 0, "");
    assert_eq!(out(&ended), "42\n");
    // A function that is there, with another type, is refused in any case.
    let other = r#"(component (import "wasi:random/random@0.2.0"
        (instance (export "get-random-u64" (func (result u32))) (export "nonsense" (func)))))"#;
    let other = module(&dir, other);
    for unknown in ["refuse", "trap"] {
        let ended = run(wpool(["call", "--unknown-imports", unknown, &other, "f"]));
        ends(&ended, 2, "it imports something with another type than it has");
    }
}

#[test]
fn f142_imports_that_are_not_provided_trap_when_they_are_called_if_that_is_wanted() {
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
fn f142_a_function_that_preview_1_does_not_have_counts_as_not_provided() {
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
    assert!(matches!(refused, Err(ModuleError::MissingImports { missing })
        if missing[0].starts_with("acme gone (")));
    // A module that has been compiled is judged as well.
    let compiled = support::loader();
    compiled.from_bytes(text).unwrap();
    let refused = compiled.policy(Policy::sealed()).from_bytes(text);
    assert!(matches!(refused, Err(ModuleError::MissingImports { .. })));
}
