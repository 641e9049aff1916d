//! The limits of a task, and of a whole run: the error of a reached limit has its name, its value and the
//! flag that raises it, and only that task fails.

#[path = "support/methods.rs"]
mod methods;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{assert_no_workers, builder, guest, program, repo, temp_dir, time_bound, wat};
use wpool::{Isolation, Limit, Limits, Module, PoolBuilder, StartMethod, Target, TaskError};

methods::over_all_start_methods! {
    f8_f9_f10_the_time_limit_covers_all_that_runs_in_an_instance
    f9_an_initializer_has_the_time_of_a_task
    f14_a_guest_that_is_refused_memory_may_go_on_without
    f16_all_memories_of_an_instance_count_together
    f17_all_tables_of_an_instance_count_together
    a_refusal_is_not_held_against_the_next_task
    fuel_is_the_same_every_time_and_an_exact_budget
    f5_a_stack_overflow_costs_one_task
    f26_a_result_over_its_limit_is_told_with_both_figures
    what_a_task_used_is_told_if_it_was_asked_for
}

/// A component around `run: func(list<u8>) -> result<list<u8>, string>`, made of the text of a core module's
/// parts.
#[derive(Clone)]
struct Parts {
    pages: u32,
    /// More of the module.
    beside: &'static str,
    /// The body of `cabi_realloc`.
    realloc: &'static str,
    /// The body of the function, of `$p` and `$n`, where and how long the input is. `$i` is for its own use;
    /// `(call $ok P N)` returns bytes.
    run: &'static str,
    /// The body of what cleans up after it.
    post: Option<&'static str>,
    /// More of the component.
    around: &'static str,
}

const ECHO: Parts = Parts {
    pages: 2,
    beside: "",
    realloc: "(i32.const 8192)",
    run: "(call $ok (local.get $p) (local.get $n))",
    post: None,
    around: "",
};

const ENDLESS: &str = "(loop $again (br $again)) unreachable";

impl Parts {
    fn text(&self) -> String {
        let Parts { pages, beside, realloc, run, post, around } = self;
        let post_func =
            post.map_or(String::new(), |body| format!(r#"(func (export "post") (param i32) {body})"#));
        let post_option = if post.is_some() { r#"(post-return (core func $i "post"))"# } else { "" };
        format!(
            r#"(component
            {around}
            (core module $m
                (memory (export "memory") {pages})
                {beside}
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
                (func $ok (param $p i32) (param $n i32) (result i32)
                    (i32.store8 (i32.const 16) (i32.const 0))
                    (i32.store (i32.const 20) (local.get $p))
                    (i32.store (i32.const 24) (local.get $n))
                    (i32.const 16))
                (func (export "run") (param $p i32) (param $n i32) (result i32) (local $i i32) {run})
                {post_func})
            (core instance $i (instantiate $m))
            (func $run (param "input" (list u8)) (result (result (list u8) (error string)))
                (canon lift (core func $i "run") (memory (core memory $i "memory"))
                    (realloc (core func $i "cabi_realloc")) {post_option}))
            (export "run" (func $run)))"#
        )
    }

    fn module(&self) -> Module {
        wat(&self.text())
    }
}

/// Grows its memory page by page until it is refused, and gives the number of pages.
const MEMORY_BOMB: &str = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (i32.store (i32.const 4096) (memory.size))
    (call $ok (i32.const 4096) (i32.const 4))";

/// The same for a table, by a thousand elements.
const TABLE_BOMB: &str =
    "(loop $again (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
    (i32.store (i32.const 4096) (table.size $t))
    (call $ok (i32.const 4096) (i32.const 4))";

const TABLE: &str = "(table $t 0 funcref)";

fn limits(set: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    set(&mut limits);
    limits
}

/// The outcomes of `run` for each input, by one pool.
fn outcomes(builder: PoolBuilder, inputs: &[&str]) -> Vec<Result<Vec<u8>, TaskError>> {
    let pool = builder.build().unwrap();
    let run = pool.func::<&[u8], Vec<u8>>("run").unwrap();
    pool.try_map(&run, inputs.iter().map(|input| input.as_bytes()))
}

#[track_caller]
fn assert_limit(outcome: &Result<Vec<u8>, TaskError>, expected: Limit, told: &str) {
    match outcome {
        Err(TaskError::Limit { limit, message }) => assert_eq!((*limit, message.as_str()), (expected, told)),
        other => panic!("not a limit: {other:?}"),
    }
}

fn number(outcome: &Result<Vec<u8>, TaskError>) -> u32 {
    u32::from_le_bytes(outcome.as_ref().unwrap()[..].try_into().unwrap())
}

fn f8_f9_f10_the_time_limit_covers_all_that_runs_in_an_instance(method: StartMethod) {
    let endless = [
        ("start", Parts { beside: "(func $s (loop $again (br $again))) (start $s)", ..ECHO }),
        ("realloc", Parts { realloc: ENDLESS, ..ECHO }),
        ("call", Parts { run: ENDLESS, ..ECHO }),
        ("post-return", Parts { post: Some("(loop $again (br $again))"), ..ECHO }),
        (
            "bulk operations",
            Parts {
                pages: 300,
                run: "(loop $again
                    (memory.fill (i32.const 65536) (i32.const 7) (i32.const 16777216)) (br $again)) unreachable",
                ..ECHO
            },
        ),
        (
            "refused growth",
            Parts { run: "(loop $again (drop (memory.grow (i32.const 30000))) (br $again)) unreachable", ..ECHO },
        ),
    ];
    for (what, parts) in endless {
        // The grace is for a slow machine: no worker may be killed.
        let limits =
            limits(|l| (l.time, l.grace) = (Some(Duration::from_millis(50)), Duration::from_secs(50)));
        let ended = outcomes(builder(&parts.module(), method).processes(1).limits(limits), &["a", "b"]);
        for outcome in &ended {
            println!("{what}: {outcome:?}");
            assert_limit(outcome, Limit::Time, "timeout after 50ms (--timeout, Limits::time)");
        }
    }
}

fn f9_an_initializer_has_the_time_of_a_task(method: StartMethod) {
    let parts = Parts { beside: r#"(func (export "init") (loop $again (br $again)))"#, ..ECHO };
    let init = r#"(export "run" (func $run)) (func (export "init") (canon lift (core func $i "init")))"#;
    let module = wat(&parts.text().replace(r#"(export "run" (func $run))"#, init));
    let limits = limits(|l| (l.time, l.grace) = (Some(Duration::from_millis(50)), Duration::from_secs(50)));
    let builder = builder(&module, method).processes(1).initializer("init", [] as [&str; 0]);
    match &outcomes(builder.limits(limits), &["a"])[0] {
        Err(TaskError::Broken { reason }) => {
            assert_eq!(reason, "the initializer failed: timeout after 50ms (--timeout, Limits::time)");
        }
        other => panic!("it has no end: {other:?}"),
    }
}

fn f14_a_guest_that_is_refused_memory_may_go_on_without(method: StartMethod) {
    let limits = limits(|l| l.memory = 5 << 20);
    let bomb = Parts { run: MEMORY_BOMB, ..ECHO }.module();
    let grown = outcomes(builder(&bomb, method).limits(limits.clone()), &["a", "b"]);
    assert_eq!(grown.iter().map(number).collect::<Vec<_>>(), [80, 80]);
    // As an allocator does that has nothing to give.
    let trap = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
    let ended = outcomes(builder(&Parts { run: trap, ..ECHO }.module(), method).limits(limits), &["a"]);
    assert_limit(&ended[0], Limit::Memory, "memory limit of 5 MiB reached (--memory, Limits::memory)");
}

fn f16_all_memories_of_an_instance_count_together(method: StartMethod) {
    let beside = "(core module $more (memory 30))
        (core instance (instantiate $more)) (core instance (instantiate $more)) (core instance (instantiate $more))";
    let many = Parts { around: beside, ..ECHO }.module();
    // Each of them is within it.
    let ended = outcomes(builder(&many, method).limits(limits(|l| l.memory = 5 << 20)), &["a"]);
    assert_limit(
        &ended[0],
        Limit::Memory,
        "cannot instantiate: memory limit of 5 MiB reached (--memory, Limits::memory)",
    );
    let enough = limits(|l| l.memory = 92 << 16);
    assert_eq!(outcomes(builder(&many, method).limits(enough), &["a"]), [Ok(b"a".to_vec())]);
}

fn f17_all_tables_of_an_instance_count_together(method: StartMethod) {
    let bomb = Parts { beside: TABLE, run: TABLE_BOMB, ..ECHO }.module();
    // This many use another way of allocating.
    for elements in [Limits::TABLE_ELEMENTS, 1_500_000] {
        let limits = limits(|l| l.table_elements = elements);
        let grown = outcomes(builder(&bomb, method).limits(limits), &["a"]);
        assert_eq!(number(&grown[0]) as usize, elements);
    }
    let told = "table limit of 1000 elements reached (--max-table-elements, Limits::table_elements)";
    let limits = limits(|l| l.table_elements = 1000);
    for beside in ["(table 600 funcref) (table 600 funcref)", "(table 1001 funcref)"] {
        let ended =
            outcomes(builder(&Parts { beside, ..ECHO }.module(), method).limits(limits.clone()), &["a"]);
        assert_limit(&ended[0], Limit::Table, &format!("cannot instantiate: {told}"));
    }
    let trap = "(drop (table.grow $t (ref.null func) (i32.const 1001))) unreachable";
    let trapping = Parts { beside: TABLE, run: trap, ..ECHO }.module();
    assert_limit(&outcomes(builder(&trapping, method).limits(limits), &["a"])[0], Limit::Table, told);
}

fn a_refusal_is_not_held_against_the_next_task(method: StartMethod) {
    // `g` grows and does without, anything else traps.
    let run = r#"(if (i32.ne (i32.load8_u (local.get $p)) (i32.const 103)) (then unreachable))
        (drop (memory.grow (i32.const 60000)))
        (call $ok (local.get $p) (local.get $n))"#;
    let module = Parts { run, ..ECHO }.module();
    for isolation in [Isolation::Reuse, Isolation::Fresh] {
        let ended = outcomes(builder(&module, method).processes(1).isolation(isolation), &["g", "t"]);
        assert_eq!(ended[0], Ok(b"g".to_vec()));
        assert!(matches!(ended[1], Err(TaskError::Trap { .. })), "{:?}", ended[1]);
    }
}

/// Fuel, memory, and how the task ended.
type Told = (Option<u64>, Option<u64>, Result<(), &'static str>);

/// What the outcome of a record says about its use.
fn used(builder: PoolBuilder, inputs: &[&[u8]]) -> Vec<Told> {
    let pool = builder.build().unwrap();
    let (mut feed, mut outcomes) = pool.stream(&Target::func("run").timed(true), true).unwrap();
    feed.push_all(inputs.iter().copied()).unwrap();
    drop(feed);
    let mut all = Vec::new();
    while outcomes.take_into(&mut |outcome| {
        let ended = outcome.result().map(drop).map_err(|error| error.kind());
        all.push((outcome.fuel(), outcome.mem_peak(), ended));
    }) {}
    all
}

fn fuel_is_the_same_every_time_and_an_exact_budget(method: StartMethod) {
    // One round for each byte of the input.
    let run = "(local.set $i (local.get $n))
        (loop $again (br_if $again (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
        (call $ok (local.get $p) (local.get $n))";
    let module = Parts { run, ..ECHO }.module();
    let of = |fuel: u64, isolation: Isolation, inputs: &[&[u8]]| {
        let limits = limits(|l| l.fuel = Some(fuel));
        let used = used(builder(&module, method).isolation(isolation).limits(limits), inputs);
        used.into_iter().map(|(fuel, _, ended)| (fuel.unwrap(), ended)).collect::<Vec<_>>()
    };
    let inputs: [&[u8]; 4] = [&[1; 1000], &[1; 2000], &[1; 1000], &[1; 2000]];
    let fresh = of(1_000_000, Isolation::Fresh, &inputs);
    assert_eq!((fresh[0], fresh[1]), (fresh[2], fresh[3]));
    assert_eq!(fresh, of(1_000_000, Isolation::Reuse, &inputs));
    let (short, long) = (fresh[0].0, fresh[1].0);
    // The instructions of a round. The figures are the engine's; another version may count differently.
    assert_eq!((short, long), (5_019, 10_019));
    // What is used is enough, and one less is not.
    for isolation in [Isolation::Fresh, Isolation::Reuse] {
        assert_eq!(of(short, isolation, &inputs[..1]), [(short, Ok(()))]);
        assert_eq!(of(short - 1, isolation, &inputs[..1])[0].1, Err("fuel"));
    }
    let limits = limits(|l| l.fuel = Some(short));
    let ended = outcomes(builder(&module, method).limits(limits), &[&"1".repeat(2000)]);
    let told = format!("fuel limit of {short} instructions reached (--fuel, Limits::fuel)");
    assert_limit(&ended[0], Limit::Fuel, &told);
}

fn what_a_task_used_is_told_if_it_was_asked_for(method: StartMethod) {
    // Grows by as many pages as its input has bytes; `x` traps.
    let run = r#"(drop (memory.grow (local.get $n)))
        (if (i32.eq (i32.load8_u (local.get $p)) (i32.const 120)) (then unreachable))
        (call $ok (local.get $p) (local.get $n))"#;
    let module = Parts { run, ..ECHO }.module();
    let page = 64 << 10;
    let told = used(builder(&module, method).processes(1), &[b"aaa", b"x", b"a"]);
    let expected = [(5, Ok(())), (3, Err("trap")), (3, Ok(()))];
    assert_eq!(told, expected.map(|(pages, ended)| (None, Some(pages * page), ended)));
    // An instance that lives on keeps its memory.
    let told = used(builder(&module, method).processes(1).isolation(Isolation::Reuse), &[b"aaa", b"a"]);
    assert_eq!(told.iter().map(|(_, memory, _)| memory.unwrap() / page).collect::<Vec<_>>(), [5, 6]);

    let pool = builder(&module, method).limits(limits(|l| l.fuel = Some(1000))).build().unwrap();
    let (mut feed, mut outcomes) = pool.stream(&Target::func("run"), true).unwrap();
    feed.push(b"a").unwrap();
    let untold =
        outcomes.take_one(None, |outcome| (outcome.fuel(), outcome.mem_peak(), outcome.took())).unwrap();
    assert_eq!(untold, Some((None, None, None)));
}

/// Calls itself without end.
const DEEP: &str = "(func $deep (param i32) (result i32)
    (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))";

fn f5_a_stack_overflow_costs_one_task(method: StartMethod) {
    // `d` goes deep.
    let run = r#"(if (i32.eq (i32.load8_u (local.get $p)) (i32.const 100)) (then (drop (call $deep (i32.const 0)))))
        (call $ok (local.get $p) (local.get $n))"#;
    let module = Parts { beside: DEEP, run, ..ECHO }.module();
    for (stack, told) in
        [(Limits::STACK_MIN, "16 KiB"), (Limits::STACK, "512 KiB"), (Limits::STACK_MAX, "64 MiB")]
    {
        let limits = limits(|l| l.stack = stack);
        let ended =
            outcomes(builder(&module, method).processes(1).limits(limits), &["a", "d", "b", "d", "c"]);
        let told = format!("stack limit of {told} reached: call stack exhausted (--stack, Limits::stack)");
        for deep in [1, 3] {
            assert_limit(&ended[deep], Limit::Stack, &told);
        }
        assert!([0, 2, 4].iter().all(|other| ended[*other].is_ok()), "{ended:?}");
    }
}

/// As many bytes as `x`, out of 12 MiB: with a second argument, the result is taken apart into values.
const BESIDE_ANOTHER: &str = r#"(component
    (core module $m
        (memory (export "memory") 200)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
        (func (export "run") (param $p i32) (param $n i32) (param $x i32) (result i32)
            (i32.store (i32.const 20) (i32.const 65536))
            (i32.store (i32.const 24) (local.get $x))
            (i32.const 16)))
    (core instance $i (instantiate $m))
    (func (export "run") (param "input" (list u8)) (param "x" u32) (result (result (list u8) (error string)))
        (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "cabi_realloc")))))"#;

fn f26_a_result_over_its_limit_is_told_with_both_figures(method: StartMethod) {
    let run = "(call $ok (i32.const 65536) (i32.const 50331648))";
    let huge = Parts { pages: 800, run, ..ECHO }.module();
    let whole = outcomes(builder(&huge, method).limits(limits(|l| l.output = 64 << 20)), &["a"]);
    assert_eq!(whole[0].as_ref().map(Vec::len), Ok(48 << 20));
    let ended = outcomes(builder(&huge, method).limits(limits(|l| l.output = 16 << 20)), &["a"]);
    let told = "output limit of 16 MiB reached by a result of 48 MiB (--max-output, Limits::output)";
    assert_limit(&ended[0], Limit::Output, told);

    let module = wat(BESIDE_ANOTHER);
    let of = |len: u32| {
        let pool =
            builder(&module, method).processes(1).limits(limits(|l| l.output = 1 << 20)).build().unwrap();
        let (mut feed, mut outcomes) = pool.stream(&Target::func("run").kwarg("x", len), true).unwrap();
        feed.push(b"a").unwrap();
        outcomes.take_one(None, |outcome| outcome.result().map(<[u8]>::to_vec)).unwrap().unwrap()
    };
    assert_eq!(of(1 << 20).as_ref().map(Vec::len), Ok(1 << 20));
    let told = "output limit of 1 MiB reached by a longer result (--max-output, Limits::output)";
    assert_limit(&of(12 << 20), Limit::Output, told);
    // Whichever notices first.
    let just_over = of((1 << 20) + 1).unwrap_err();
    assert!(just_over.to_string().starts_with("output limit of 1 MiB reached by a "), "{just_over}");
}

#[test]
fn instances_have_a_number_that_is_not_exceeded() {
    let _bound = time_bound();
    let many = "(core instance (instantiate $more))\n".repeat(600);
    let around = format!(
        "(component $c (core module $more) {many}) (instance (instantiate $c)) (instance (instantiate $c))"
    );
    let module = wat(&ECHO.text().replace("(core module $m", &format!("{around} (core module $m")));
    let ended = outcomes(builder(&module, StartMethod::Forkserver), &["a"]);
    let told = "cannot instantiate: limit of 1000 instances, memories or tables of a task reached: \
                instance count too high at 1001";
    assert_limit(&ended[0], Limit::Memory, told);
}

#[test]
fn f19_handles_have_a_number_that_is_not_exceeded() {
    let _bound = time_bound();
    // Each is a place in the host's table that the guest never gives back.
    let module = wat(r#"(component
        (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $outer))
            (export "pollable" (type $p (eq $outer)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core module $m
            (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
            (func (export "run") (loop $again (drop (call $subscribe (i64.const 1000000000000))) (br $again))))
        (core instance $i (instantiate $m (with "host" (instance (export "subscribe" (func $subscribe))))))
        (func (export "run") (canon lift (core func $i "run"))))"#);
    let pool = builder(&module, StartMethod::Forkserver).build().unwrap();
    let (mut feed, mut outcomes) = pool.stream(&"run".into(), true).unwrap();
    feed.push(b"").unwrap();
    let ended = outcomes.take_one(None, |outcome| outcome.result().map(<[u8]>::to_vec)).unwrap().unwrap();
    assert_limit(&ended, Limit::Table, "limit of 10000 handles of a task reached");
}

#[test]
fn limits_that_nothing_can_run_with_are_refused_before_anything_starts() {
    let _bound = time_bound();
    let module = guest("upper");
    for stack in [0, 10 << 30] {
        let refused = builder(&module, StartMethod::Forkserver).limits(limits(|l| l.stack = stack)).build();
        assert!(refused.unwrap_err().to_string().contains("(--stack, Limits::stack)"));
    }
    let refused = builder(&module, StartMethod::Forkserver).limits(limits(|l| l.memory = 0)).build();
    let told = refused.unwrap_err().to_string();
    assert!(
        told.starts_with("the module asks for ")
            && told.ends_with("the limit is 0 bytes (--memory, Limits::memory)"),
        "{told}"
    );
}

// The command line.

fn file(dir: &tempfile::TempDir, text: &str) -> String {
    let path = dir.path().join("guest.wat");
    std::fs::write(&path, text).unwrap();
    text_of(&path)
}

fn text_of(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn prebuilt(name: &str) -> String {
    text_of(&repo(&format!("guest/prebuilt/{name}.wasm")))
}

fn cache() -> PathBuf {
    support::cache_dir()
}

fn command(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    for name in
        ["WPOOL_JOBS", "WPOOL_TIMEOUT", "WPOOL_MEMORY", "WPOOL_RETRIES", "WPOOL_COLOR", "WPOOL_PROGRESS"]
    {
        command.env_remove(name);
    }
    command.args(args).env("WPOOL_CACHE_DIR", cache()).stdin(Stdio::null());
    command
}

fn wpool(args: &[&str]) -> Output {
    ended(command(program(), args))
}

/// Runs it to its end, behind which nothing is left.
fn ended(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_no_workers(pid);
    output
}

#[track_caller]
fn ends(output: &Output, code: i32, said: &str) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(said), "no {said:?} in {stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn every_limit_can_be_set_on_the_command_line_and_is_told() {
    let (_bound, dir) = (time_bound(), temp_dir());
    let deep = Parts { beside: DEEP, run: "(drop (call $deep (i32.const 0))) unreachable", ..ECHO };
    let trap = "(drop (memory.grow (i32.const 600))) (drop (table.grow $t (ref.null func) (i32.const 600))) unreachable";
    let greedy = Parts { beside: TABLE, run: trap, ..ECHO };
    let cases = [
        (&ECHO, "--fuel", "10", "fuel limit of 10 instructions reached (--fuel, Limits::fuel)"),
        (
            &ECHO,
            "--max-output",
            "3",
            "output limit of 3 bytes reached by a result of 4 bytes (--max-output, Limits::output)",
        ),
        (
            &deep,
            "--stack",
            "32K",
            "stack limit of 32 KiB reached: call stack exhausted (--stack, Limits::stack)",
        ),
        (
            &greedy,
            "--max-table-elements",
            "599",
            "table limit of 599 elements reached (--max-table-elements, Limits::table_elements)",
        ),
    ];
    for (parts, flag, value, said) in cases {
        let module = file(&dir, &parts.text());
        ends(
            &wpool(&["map", &module, "--items", "abcd", flag, value]),
            1,
            &format!("wpool: task 1: {said} (input \"abcd\")"),
        );
        ends(&wpool(&["call", &module, "run([1, 2, 3, 4])", "--output-format", "raw", flag, value]), 1, said);
        ends(&wpool(&["run", "--arg", "[1, 2, 3, 4]", flag, value, &module]), 1, said);
    }
    let module = file(&dir, &ECHO.text());
    let said = "input limit of 3 bytes reached by a longer record (--max-input, Limits::input)";
    ends(&wpool(&["map", &module, "--items", "abcd", "--max-input", "3"]), 1, said);
    ends(
        &wpool(&["map", &module, "--items", "a", "--memory", "64K"]),
        2,
        "asks for 128 KiB of memory, the limit is 64 KiB (--memory",
    );
}

#[test]
fn what_a_task_prints_is_kept_up_to_its_limit() {
    let _bound = time_bound();
    let hello = prebuilt("hello");
    let args = ["map", &hello, "--items", "bob:0", "--success-output", "immediate", "--max-stdout"];
    let said = String::from_utf8(wpool(&[&args[..], &["4"]].concat()).stderr).unwrap();
    assert!(said.contains("[task 1 stdout] Pool\n") && said.contains("bytes more were not kept"), "{said}");
    assert!(!said.contains("PoolWorker"), "{said}");
}

#[test]
fn f89_odd_times_are_no_limit_or_refused() {
    let _bound = time_bound();
    let module = prebuilt("upper");
    let map = |flag: &str, value: &str| wpool(&["map", &module, "--items", "a", &format!("{flag}={value}")]);
    for value in ["0", "1e18", "inf", "1000000y"] {
        for flag in ["--timeout", "--global-timeout"] {
            assert_eq!(ends(&map(flag, value), 0, "1 ok"), "A\n", "{flag} {value}");
        }
    }
    for value in ["NaN", "-1", "", "soon"] {
        for flag in ["--timeout", "--grace", "--global-timeout"] {
            ends(&map(flag, value), 2, "expected a time such as");
        }
    }
    for (flag, value, said) in [
        ("--stack", "0", "possible are 16K to 64M"),
        ("--stack", "10G", "possible are 16K to 64M"),
        ("--fuel", "0", "expected a number from 1 on"),
        ("--max-output", "4G", "the most is"),
        ("--memory", "0", "the limit is 0 bytes (--memory"),
        ("--memory", "-1", "expected a size"),
    ] {
        ends(&map(flag, value), 2, said);
    }
    let endless = prebuilt("failing");
    ends(&wpool(&["map", &endless, "--items", "loop", "--timeout", "1e-9"]), 1, "timeout after 1ns");
}

#[test]
fn f5_a_process_with_a_small_stack_is_not_ended_by_a_deep_guest() {
    let (_bound, dir) = (time_bound(), temp_dir());
    let deep = file(
        &dir,
        &Parts { beside: DEEP, run: "(drop (call $deep (i32.const 0))) unreachable", ..ECHO }.text(),
    );
    // Calls the host at every depth, the last one included.
    let writing = dir.path().join("writing.wat");
    std::fs::write(
        &writing,
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\01\00\00\00")
        (data (i32.const 16) "x")
        (func $deep (param i32) (result i32)
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
            (i32.add (call $deep (local.get 0)) (i32.const 1)))
        (func (export "_start") (drop (call $deep (i32.const 0)))))"#,
    )
    .unwrap();
    let writing = text_of(&writing);
    let program = text_of(program());
    let small = |args: &[&str]| {
        let script = ["-c", r#"ulimit -s 256; exec "$@""#, "sh", &program];
        ended(command(Path::new("sh"), &[&script[..], args].concat()))
    };
    for args in [
        &["map", &deep, "--items", "a", "b"][..],
        &["map", &deep, "--items", "a", "b", "--start-method", "spawn"],
        &["map", &deep, "--items", "a", "b", "--threads"],
        &["map", &deep, "--items", "a", "b", "--stack", "64M"],
        &["run", "--arg", "[1]", &deep],
        &["call", &deep, "run([1])"],
        &["map", &writing, "--items", "a", "b"],
        &["run", &writing],
    ] {
        ends(&small(args), 1, "reached: call stack exhausted (--stack, Limits::stack)");
    }
    assert_eq!(ends(&small(&["map", &prebuilt("upper"), "--items", "a"]), 0, "1 ok"), "A\n");
}

#[test]
fn fuel_and_memory_of_a_task_are_in_its_line() {
    let (_bound, dir) = (time_bound(), temp_dir());
    let module = file(&dir, &ECHO.text());
    let lines = |args: &[&str]| {
        let out = ends(
            &wpool(&[&["map", &module, "--items", "a", "b", "--format", "jsonl"], args].concat()),
            0,
            "2 ok",
        );
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    for line in lines(&[]) {
        assert_eq!((&line["fuel"], &line["mem_peak"]), (&Value::Null, &Value::from(128 << 10)));
    }
    let counted = lines(&["--fuel", "1M"]);
    assert!(counted[0]["fuel"].as_u64().is_some_and(|fuel| fuel > 0));
    assert_eq!(counted[0]["fuel"], counted[1]["fuel"]);
    assert_eq!(counted[0]["fuel"], lines(&["--fuel", "1G", "--threads"])[0]["fuel"]);
}

#[test]
fn a_whole_run_has_a_time_limit() {
    let _bound = time_bound();
    let failing = prebuilt("failing");
    let said = "wpool: the time of the whole run, 4s, was over (--global-timeout): 2 done, 1 not\n";
    let out = ends(
        &wpool(&["map", &failing, "--items", "good", "good", "loop", "-j2", "--global-timeout", "4s"]),
        124,
        said,
    );
    assert_eq!(out, "good\ngood\n");

    // An input that never ends, and says nothing more.
    let begun = Instant::now();
    let mut child = command(program(), &["map", &failing, "--global-timeout", "3s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"good\n").unwrap();
    // `wait_with_output` would close it.
    let input = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(input);
    assert!(begun.elapsed() >= Duration::from_secs(3));
    let out = ends(&output, 124, "1 done, 0 not, and the rest of the input not read\n");
    assert_eq!(out, "good\n");

    ends(&wpool(&["map", &failing, "--items", "good", "bad", "--global-timeout", "1h"]), 1, "1 ok, 1 failed");
    ends(
        &wpool(&["map", &failing, "--items", "good", "--global-timeout", "1ns"]),
        124,
        "(--global-timeout): 0 done, ",
    );
}
