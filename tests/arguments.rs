//! Long arguments. Fixed ones reach workers as records do, and are dropped once no function and no job uses
//! them. Long records have few copies.

#[path = "support/methods.rs"]
mod methods;
mod support;

use std::num::NonZeroU64;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::Signal;
use support::{Scene, builder, guest, memory_peak_kib, pids, program, run_in, signal, time_bound, wat};
use wpool::{BuildError, Limits, Pool, Process, StartMethod, Target};

methods::over_all_start_methods! {
    long_fixed_bytes_reach_every_task
}

const MIB: usize = 1 << 20;
const LONG: usize = 32 * MIB;
const RECORD: usize = 100 * MIB;

/// Functions of a key, which is fixed, and a record. `run` gives the length of the key, its first and its
/// last byte, and the first byte of the record. `both` has a number besides. `set` keeps the key, which
/// `kept` gives.
const KEYED: &str = r#"(component
    (core module $m
        (memory (export "memory") 1)
        (global $top (mut i32) (i32.const 1024))
        (global $key (mut i32) (i32.const 0))
        (global $len (mut i32) (i32.const 0))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $p i32)
            (local.set $p (global.get $top))
            (global.set $top (i32.and (i32.add (i32.add (local.get $p) (local.get 3)) (i32.const 15))
                (i32.const -16)))
            (if (i32.gt_u (global.get $top) (i32.shl (memory.size) (i32.const 16)))
                (then (drop (memory.grow (i32.add (i32.const 1)
                    (i32.shr_u (i32.sub (global.get $top) (i32.shl (memory.size) (i32.const 16)))
                        (i32.const 16)))))))
            (local.get $p))
        (func $run (param $k i32) (param $n i32) (param $p i32) (param $m i32) (result i32)
            (i32.store (i32.const 64) (local.get $n))
            (if (local.get $n) (then
                (i32.store8 (i32.const 68) (i32.load8_u (local.get $k)))
                (i32.store8 (i32.const 69)
                    (i32.load8_u (i32.sub (i32.add (local.get $k) (local.get $n)) (i32.const 1))))))
            (if (local.get $m) (then (i32.store8 (i32.const 70) (i32.load8_u (local.get $p)))))
            (i32.store (i32.const 16) (i32.const 64))
            (i32.store (i32.const 20) (i32.const 7))
            (i32.const 16))
        (func (export "run") (param i32 i32 i32 i32) (result i32)
            (call $run (local.get 0) (local.get 1) (local.get 2) (local.get 3)))
        (func (export "both") (param i32 i32 i32 i32 i32) (result i32)
            (call $run (local.get 0) (local.get 1) (local.get 3) (local.get 4)))
        (func (export "len") (param i32 i32 i32 i32) (result i32) (i32.add (local.get 1) (local.get 3)))
        (func (export "set") (param i32 i32)
            (global.set $key (local.get 0))
            (global.set $len (local.get 1)))
        (func (export "kept") (param i32 i32) (result i32)
            (call $run (global.get $key) (global.get $len) (local.get 0) (local.get 1))))
    (core instance $i (instantiate $m))
    (alias core export $i "memory" (core memory $memory))
    (alias core export $i "cabi_realloc" (core func $realloc))
    (func (export "run") (param "key" (list u8)) (param "input" (list u8)) (result (list u8))
        (canon lift (core func $i "run") (memory $memory) (realloc $realloc)))
    (func (export "both") (param "key" (list u8)) (param "n" u32) (param "input" (list u8))
        (result (list u8))
        (canon lift (core func $i "both") (memory $memory) (realloc $realloc)))
    (func (export "len") (param "key" (list u8)) (param "input" string) (result u32)
        (canon lift (core func $i "len") (memory $memory) (realloc $realloc)))
    (func (export "set") (param "key" (list u8))
        (canon lift (core func $i "set") (memory $memory) (realloc $realloc)))
    (func (export "kept") (param "input" (list u8)) (result (list u8))
        (canon lift (core func $i "kept") (memory $memory) (realloc $realloc))))"#;

/// What the functions give for a key and a record.
fn digest(key: &[u8], input: &[u8]) -> Vec<u8> {
    let len = u32::try_from(key.len()).unwrap().to_le_bytes();
    len.into_iter().chain([key[0], key[key.len() - 1], input[0]]).collect()
}

fn key(len: usize) -> Vec<u8> {
    let mut key = vec![b'-'; len];
    (key[0], key[len - 1]) = (b'<', b'>');
    key
}

/// The memory of this program is measured by one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much the memory of this program grows at most while `run` runs.
fn growth_mib(run: impl FnOnce()) -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory_peak_kib(std::process::id());
    run();
    // The kernel counts in parts, and may first have counted a little too much.
    memory_peak_kib(std::process::id()).saturating_sub(before) >> 10
}

fn worker_peak_mib(pool: &Pool) -> u64 {
    pids(pool).into_iter().map(memory_peak_kib).max().unwrap() >> 10
}

fn long_fixed_bytes_reach_every_task(method: StartMethod) {
    let _bound = time_bound();
    let _alone = alone();
    let (module, key) = (wat(KEYED), key(LONG));
    let records = [&b"a"[..], b"b", b"c"];
    let wanted = records.map(|record| digest(&key, record));
    let grown = growth_mib(|| {
        let pool = builder(&module, method).processes(2).build().unwrap();
        let func = pool.func::<&[u8], Vec<u8>>(Target::func("run").arg(&key[..])).unwrap();
        assert_eq!(pool.map(&func, records).unwrap(), wanted);
        assert_eq!(pool.apply(&func, &b"a"[..]).as_ref(), Ok(&wanted[0]));
        if method != StartMethod::Thread {
            // The argument, and the copy in the guest's memory.
            let peak = worker_peak_mib(&pool);
            assert!(peak < 64 + 64, "a worker has {peak} MiB");
        }
    });
    // The target's argument and the plan's. Workers in threads have theirs here, too.
    let workers = if method == StartMethod::Thread { 2 * 64 } else { 0 };
    assert!(grown < 64 + 32 + workers, "the coordinator has {grown} MiB more");

    let grown = growth_mib(|| {
        let target = Target::func("run").arg(&key[..]);
        let process = Process::builder(&module).target(target).start_method(method).input(&b"a"[..]);
        let mut process = process.build().unwrap();
        process.start().unwrap();
        assert_eq!(process.join().unwrap().exitcode, 0);
        assert_eq!(process.result_bytes().as_ref(), Some(&wanted[0]));
    });
    let worker = if method == StartMethod::Thread { 64 } else { 0 };
    assert!(grown < 64 + 32 + worker, "the coordinator has {grown} MiB more");

    let pool = builder(&module, method).processes(2).initializer("set", [&key[..]]).build().unwrap();
    let func = pool.func::<&[u8], Vec<u8>>("kept").unwrap();
    assert_eq!(pool.map(&func, records).unwrap(), wanted);
}

#[test]
fn fixed_bytes_fit_beside_any_other_argument() {
    let _bound = time_bound();
    let _alone = alone();
    let (module, key) = (wat(KEYED), key(4 * MIB));
    let pool = builder(&module, StartMethod::default()).processes(1).build().unwrap();
    let target = Target::func("both").kwarg("key", &key[..]).kwarg("n", 7);
    let func = pool.func::<&[u8], Vec<u8>>(target).unwrap();
    assert_eq!(pool.apply(&func, &b"a"[..]), Ok(digest(&key, b"a")));
    // A value of 32 bytes for each byte.
    let peak = worker_peak_mib(&pool);
    assert!(peak < 4 * 32 + 4 * 4 + 64, "the worker has {peak} MiB");
}

#[test]
fn long_bytes_are_taken_as_they_are_for_a_number() {
    let _bound = time_bound();
    let _alone = alone();
    let (module, key) = (wat(KEYED), key(LONG));
    let pool = builder(&module, StartMethod::default()).processes(1).build().unwrap();
    let len = pool.func::<&str, u32>(Target::func("len").arg(&key[..])).unwrap();
    assert_eq!(pool.apply(&len, "abc"), Ok(u32::try_from(LONG + 3).unwrap()));
    let peak = worker_peak_mib(&pool);
    assert!(peak < 64 + 64, "the worker has {peak} MiB");
}

/// Each kind of number, and nothing, comes as from a call with a value for each byte: that of a parameter
/// more.
#[test]
fn a_scalar_is_the_same_from_either_way_to_call_a_function() {
    let _bound = time_bound();
    let results = [
        ("bool", "i32", "1", "true"),
        ("s8", "i32", "-8", "-8"),
        ("u8", "i32", "200", "200"),
        ("s16", "i32", "-300", "-300"),
        ("u16", "i32", "60000", "60000"),
        ("s32", "i32", "-70000", "-70000"),
        ("u32", "i32", "4000000000", "4000000000"),
        ("s64", "i64", "-5", "-5"),
        ("u64", "i64", "18000000000000000000", "18000000000000000000"),
        ("f32", "f32", "1.5", "1.5"),
        ("f64", "f64", "-2.25", "-2.25"),
        ("char", "i32", "233", "'é'"),
    ];
    let (mut core, mut outer) = (String::new(), String::new());
    for (ty, of_core, number, _) in results {
        core += &format!(
            r#"(func (export "{ty}") (param i32 i32) (result {of_core}) ({of_core}.const {number}))"#
        );
        core += &format!(
            r#"(func (export "{ty}-with") (param i32 i32 i32) (result {of_core}) ({of_core}.const {number}))"#
        );
        for (name, more) in [(ty.to_owned(), ""), (format!("{ty}-with"), r#"(param "n" u8)"#)] {
            outer += &format!(
                r#"(func (export "{name}") (param "input" string) {more} (result {ty})
                    (canon lift (core func $i "{name}") (memory $memory) (realloc $realloc)))"#
            );
        }
    }
    let module = wat(&format!(
        r#"(component
            (core module $m
                (memory (export "memory") 1)
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 16))
                (func (export "nothing") (param i32 i32))
                {core})
            (core instance $i (instantiate $m))
            (alias core export $i "memory" (core memory $memory))
            (alias core export $i "cabi_realloc" (core func $realloc))
            (func (export "nothing") (param "input" string)
                (canon lift (core func $i "nothing") (memory $memory) (realloc $realloc)))
            {outer})"#
    ));
    let pool = Pool::builder(&module).processes(1).build().unwrap();
    for (ty, .., value) in results {
        for target in [Target::func(ty), Target::func(format!("{ty}-with")).kwarg("n", 7)] {
            let (mut inputs, mut outcomes) = pool.stream(&target, true).unwrap();
            inputs.push(b"abc").unwrap();
            drop(inputs);
            let result = outcomes.take_one(None, |outcome| outcome.result().map(<[u8]>::to_vec)).unwrap();
            assert_eq!(result, Some(Ok(value.as_bytes().to_vec())), "{ty}");
        }
    }
    let nothing = pool.func::<&str, ()>("nothing").unwrap();
    assert_eq!(pool.apply(&nothing, "abc"), Ok(()));
}

#[test]
fn too_long_arguments_are_an_error_before_any_process() {
    let _bound = time_bound();
    let _alone = alone();
    let pool = Pool::builder(&wat(KEYED)).build().unwrap();
    let refused = |target: Target| match pool.func::<&[u8], Vec<u8>>(target) {
        Err(error @ BuildError::Argument { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let long = key(LONG + 1);
    let said = refused(Target::func("both").arg(&long[..]).arg(7));
    assert!(said.contains("argument key of both: fixed bytes are limited to 32 MiB"), "{said}");
    let longer = key(256 * MIB + 1);
    let said = refused(Target::func("run").arg(&longer[..]));
    let told = "argument key of run: the fixed arguments of a function have at most 256 MiB in all";
    assert!(said.contains(told), "{said}");
    assert_eq!(pool.workers(), []);
}

#[test]
fn plans_that_are_not_used_any_more_are_kept_nowhere() {
    let _bound = time_bound();
    let _alone = alone();
    let pool = builder(&wat(KEYED), StartMethod::default()).processes(1).build().unwrap();
    let call = |n: usize| {
        let mut key = key(16 << 10);
        key[1..9].copy_from_slice(&n.to_le_bytes());
        let func = pool.func::<&[u8], Vec<u8>>(Target::func("run").arg(&key[..])).unwrap();
        assert_eq!(pool.apply(&func, &b"a"[..]), Ok(digest(&key, b"a")));
    };
    (0..1000).for_each(call);
    let worker = worker_peak_mib(&pool);
    // All of them would be 150 MiB.
    let grown = growth_mib(|| (1000..10_000).for_each(call));
    let worker = worker_peak_mib(&pool) - worker;
    assert!(grown < 8 && worker < 8, "{grown} MiB here, {worker} MiB in the worker");
}

/// Each worker that starts is sent the arguments again: after the death of the last one, and after its share
/// of tasks.
#[test]
fn fixed_bytes_reach_workers_that_start_later() {
    let _bound = time_bound();
    let _alone = alone();
    let key = key(MIB);
    let pool = builder(&wat(KEYED), StartMethod::default()).processes(1).retries(3).build().unwrap();
    let func = pool.func::<&[u8], Vec<u8>>(Target::func("run").arg(&key[..])).unwrap();
    for _ in 0..10 {
        assert_eq!(pool.apply(&func, &b"a"[..]), Ok(digest(&key, b"a")));
        signal(pids(&pool)[0], Signal::KILL);
    }
    drop(func);
    let pool = builder(&wat(KEYED), StartMethod::default())
        .processes(2)
        .max_tasks_per_child(NonZeroU64::MIN)
        .build()
        .unwrap();
    let func = pool.func::<&[u8], Vec<u8>>(Target::func("run").arg(&key[..])).unwrap();
    let records = [&b"a"[..], b"b", b"c", b"d", b"e", b"f"];
    assert_eq!(pool.map(&func, records).unwrap(), records.map(|record| digest(&key, record)));
}

/// Together they are more than a worker holds, so that it forgets and is sent again what it needs.
#[test]
fn more_fixed_bytes_than_a_worker_holds_are_used_in_turns() {
    let _bound = time_bound();
    let _alone = alone();
    let pool = builder(&wat(KEYED), StartMethod::default()).processes(1).build().unwrap();
    let keys = [1, 2, 3].map(|n| {
        let mut key = key(100 * MIB);
        key[0] = n;
        key
    });
    let funcs =
        keys.each_ref().map(|key| pool.func::<&[u8], Vec<u8>>(Target::func("run").arg(&key[..])).unwrap());
    for _ in 0..2 {
        for (func, key) in funcs.iter().zip(&keys) {
            assert_eq!(pool.apply(func, &b"a"[..]), Ok(digest(key, b"a")));
        }
    }
    let peak = worker_peak_mib(&pool);
    assert!(peak < 400 + 64, "the worker has {peak} MiB");
}

#[test]
fn a_long_argument_of_a_command_arrives() {
    let _bound = time_bound();
    let _alone = alone();
    let pool = builder(&guest("args"), StartMethod::default()).processes(1).build().unwrap();
    let long = "k".repeat(LONG);
    let (mut inputs, mut outcomes) = pool.stream(&Target::default().argv(["args", &long]), true).unwrap();
    inputs.push(b"").unwrap();
    drop(inputs);
    let len = outcomes.take_one(None, |outcome| outcome.result().map(<[u8]>::len)).unwrap();
    assert_eq!(len, Some(Ok(LONG + 1)));
}

/// A result is as long as its record, so that each may have two copies, but not at the same time.
#[test]
fn a_long_record_has_two_copies_at_most() {
    let _bound = time_bound();
    let _alone = alone();
    let mut limits = Limits::default();
    (limits.input, limits.output, limits.memory) = (2 * RECORD, 2 * RECORD, 8 * RECORD as u64);
    let record = vec![b'a'; RECORD];
    let assert_few = |run: &dyn Fn(&Pool) -> Vec<u8>| {
        let grown = growth_mib(|| {
            let pool = builder(&guest("upper"), StartMethod::default()).processes(1).limits(limits.clone());
            let result = run(&pool.build().unwrap());
            assert!(result.len() == RECORD && result.iter().all(|byte| *byte == b'A'));
        });
        assert!(grown < 2 * 100 + 32, "the library has {grown} MiB more");
    };
    assert_few(&|pool| pool.apply(&pool.func("run").unwrap(), &record[..]).unwrap());
    assert_few(&|pool| pool.map(&pool.func("run").unwrap(), [&record[..]]).unwrap().remove(0));

    let scene = Scene::new();
    let upper = support::repo("guest/prebuilt/upper.wasm");
    let options = ["-q", "--memory", "800M", "--max-input", "200M", "--max-output", "200M"];
    let command = scene.command(&[&["map", upper.to_str().unwrap()][..], &options].concat());
    let ended = run_in(&scene, command, &record);
    ended.with(0, "");
    assert_eq!(ended.stdout.len(), RECORD + 1);
    assert!(ended.peak_mib < 2 * 100 + 32, "the coordinator has {} MiB", ended.peak_mib);
}

#[test]
fn a_long_argument_of_the_command_line_is_fixed_as_it_is() {
    let _bound = time_bound();
    let scene = Scene::new();
    let module = scene.file("keyed.wat", KEYED);
    let text = "k".repeat(100 << 10);
    let mut command = Command::new(program());
    command.arg("map").arg(module).args(["--func", "run", "--arg", &text, "--items", "a"]);
    let ended = command.output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(ended.stdout, [&digest(text.as_bytes(), b"a")[..], b"\n"].concat());
}
