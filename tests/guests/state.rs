//! State that is kept between tasks.

use super::*;

/// Returns the first byte of the previous record, and keeps that of this one. It has an `init`, without a
/// request for.
const LEAKS: &str = include_str!("../support/guests/leaks.wat");

#[test]
fn f118_state_is_never_the_modules_choice() {
    let dir = scratch();
    let leaks = module(&dir, LEAKS);
    let map = ["map", &leaks, "--items", "Asecret", "B", "C", "D", "-j", "1"];
    let note = "the module exports init: it is called in each task's own instance; \
                --reuse or --init init keeps its state";
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
fn f118_an_init_is_called_in_each_instance_however_it_is_run() {
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
