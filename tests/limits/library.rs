//! Limits as an application sets them.

use super::*;

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
