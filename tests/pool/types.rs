//! Types of functions, and errors before any process starts.

use super::*;

#[test]
fn typed_calls() {
    let _bound = time_bound();
    let pool = Pool::builder(&wat(TYPES)).processes(1).build().unwrap();
    let half = pool.func::<u32, Option<u32>>("half").unwrap();
    assert_eq!(pool.map(&half, [8, 7]).unwrap(), [Some(4), None]);
    let or_else = pool.func::<(Option<u32>, u32), u32>("or-else").unwrap();
    assert_eq!(pool.starmap(&or_else, [(Some(1), 2), (None, 2)]).unwrap(), [1, 2]);
    let nothing = pool.func::<(), ()>("nothing").unwrap();
    assert_eq!(pool.apply(&nothing, ()), Ok(()));
    let swap = pool.func::<Value, Value>("swap").unwrap();
    let pair = Value::Tuple(vec![Value::U8(7), Value::String("seven, \"7\"".to_owned())]);
    let swapped = Value::Tuple(vec![Value::String("seven, \"7\"".to_owned()), Value::U8(7)]);
    assert_eq!(pool.apply(&swap, pair), Ok(swapped));
    let sum = pool.func::<Vec<i64>, u64>("sum").unwrap();
    let outcomes = pool.try_map(&sum, [vec![1, 2], vec![-1], vec![]]);
    assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(3), &Ok(0)));
    assert!(
        matches!(&outcomes[1], Err(TaskError::BadRecord { .. })),
        "a value out of range is that task's error"
    );
    let small = pool.func::<u32, Option<u8>>("half").unwrap();
    assert!(matches!(pool.apply(&small, 1000), Err(TaskError::BadResult { .. })));
}

#[test]
fn the_numbers_of_a_core_module() {
    let _bound = time_bound();
    let module = support::loader().load(support::repo("guest/examples/wat/add.wat")).unwrap();
    let pool = Pool::builder(&module).processes(1).build().unwrap();
    let add = pool.func::<(i32, i32), i32>("add").unwrap();
    assert_eq!(pool.starmap(&add, [(1, 2), (i32::MAX, 1)]).unwrap(), [3, i32::MIN]);
    let square = pool.func::<f64, f64>("square").unwrap();
    assert_eq!(pool.apply(&square, 1.5), Ok(2.25));
    let fib = pool.func::<Value, Value>("fib").unwrap();
    assert_eq!(pool.apply(&fib, Value::S64(90)), Ok(Value::S64(2_880_067_194_370_816_120)));
}

#[test]
fn a_command_is_a_function_from_its_stdin_to_its_stdout() {
    let _bound = time_bound();
    let module = support::loader().load(support::repo("guest/examples/wat/upper-p1.wat")).unwrap();
    let pool = Pool::builder(&module).processes(1).build().unwrap();
    let (mut inputs, mut outcomes) = pool.stream(&Target::default(), true).unwrap();
    inputs.push(b"one").unwrap();
    assert_eq!(
        outcomes.take_one(None, |outcome| outcome.result().map(<[u8]>::to_vec)).unwrap().unwrap(),
        Ok(b"ONE".to_vec())
    );
    let text = pool.func::<&str, String>(Target::default()).unwrap();
    assert_eq!(pool.map(&text, ["one", ""]).unwrap(), ["ONE", ""]);
    let bytes = pool.func::<Vec<u8>, Vec<u8>>(Target::default()).unwrap();
    assert_eq!(pool.apply(&bytes, b"\xffone".to_vec()).unwrap(), b"\xffONE");
    let printed = pool.func::<&[u8], String>(Target::default()).unwrap();
    assert!(matches!(pool.apply(&printed, b"\xff"), Err(TaskError::BadResult { .. })));
    assert!(matches!(pool.func::<u32, String>(Target::default()), Err(BuildError::Type { .. })));
    assert!(matches!(pool.func::<&str, u32>(Target::default()), Err(BuildError::ResultType { .. })));
    let arg = Target::default().argv(["args"]).command_input(wpool::target::CommandInput::Arg);
    let module = guest("args");
    let pool = Pool::builder(&module).processes(1).build().unwrap();
    let shown = pool.func::<&str, String>(arg).unwrap();
    assert!(pool.apply(&shown, "a word").unwrap().contains("a word"));
}

#[test]
fn p5_arguments_are_bound_by_name() {
    let _bound = time_bound();
    let pool = Pool::builder(&wat(TYPES)).processes(1).build().unwrap();
    let doubled = pool.func::<i64, f64>(Target::func("scale").kwarg("factor", 2.0)).unwrap();
    assert_eq!(pool.map(&doubled, [1, 2]).unwrap(), [2.0, 4.0]);
    let seven = pool.func::<f64, f64>(Target::func("scale").arg(7)).unwrap();
    assert_eq!(pool.apply(&seven, 0.5), Ok(3.5));
    let both = pool.func::<(), f64>(Target::func("scale").kwarg("factor", 0.5).arg(3)).unwrap();
    assert_eq!(pool.apply(&both, ()), Ok(1.5));
}

// What is wrong is found before any process starts.

#[test]
fn errors_of_building_come_before_any_process() {
    let _bound = time_bound();
    let module = wat(TYPES);
    let pool = Pool::builder(&module).build().unwrap();
    let said = |error: BuildError| error.to_string();
    assert!(said(pool.func::<(), ()>("missing").unwrap_err()).contains("missing"));
    assert!(matches!(pool.func::<&str, u32>("half").unwrap_err(), BuildError::Type { .. }));
    assert!(matches!(pool.func::<u32, String>("half").unwrap_err(), BuildError::ResultType { .. }));
    assert!(matches!(pool.func::<(u32, u32), u32>("half").unwrap_err(), BuildError::Type { .. }));
    let unknown = Target::func("scale").kwarg("size", 1);
    assert!(said(pool.func::<i64, f64>(unknown).unwrap_err()).contains("there is n, factor"));
    let wrong = Target::func("half").arg("two");
    assert!(matches!(pool.func::<(), Option<u32>>(wrong).unwrap_err(), BuildError::Argument { .. }));
    let many = Target::func("half").arg(1).arg(2);
    assert!(matches!(pool.func::<(), Option<u32>>(many).unwrap_err(), BuildError::TooManyArguments { .. }));
    assert_eq!(pool.workers(), []);

    let unknown = Pool::builder(&module).initializer("missing", [""; 0]).build().unwrap_err();
    assert!(said(unknown).contains("missing"));
    let unfit = Pool::builder(&module).initializer("grow", ["much"]).build().unwrap_err();
    assert!(matches!(unfit, BuildError::Argument { .. }));
    assert!(Pool::builder(&module).initargs(["for no function"]).build().is_err());

    let needy = wat(r#"(module (import "env" "secret" (func)) (func (export "run")))"#);
    let error = Pool::builder(&needy).build().unwrap_err();
    assert!(
        matches!(&error, BuildError::MissingImports { missing } if missing[0].contains("env")),
        "{error}"
    );
}

#[test]
#[should_panic(expected = "at least one process")]
fn o1_a_pool_of_no_processes_is_refused() {
    let _bound = time_bound();
    let _never = Pool::builder(&guest("upper")).processes(0);
}

#[test]
fn o5_workers_are_named_after_the_pool() {
    let _bound = time_bound();
    let pool = Pool::builder(&guest("hello")).processes(1).name("Greeter").build().unwrap();
    assert!(pool.apply(&hello_of(&pool), "bob:0").unwrap().starts_with("hello bob from Greeter-1 (process "));
    let pid = pids(&pool)[0];
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "Greeter-1\n");
    // The result comes a moment before the word that the batch is done.
    let shown = format!("Pool {{ workers: [WorkerInfo {{ index: 1, pid: {pid}, state: Idle }}], .. }}");
    wait_until("it is idle", Duration::from_secs(9), || format!("{pool:?}") == shown);
}

#[test]
fn p44_a_worker_inherits_no_descriptors() {
    let _bound = time_bound();
    // Threads have all that is this program's.
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        let inheritable = support::Inheritable::new();
        let pool = builder(&guest("hello"), method).processes(3).build().unwrap();
        let hello = pool.func::<String, String>("run").unwrap();
        assert!(pool.map(&hello, sleepers(9, 20)).is_ok());
        // Every user may read this.
        inheritable.assert_not_inherited();
        for pid in pids(&pool) {
            // What only root may.
            let Some(fds) = support::descriptors(pid) else { continue };
            // Its socket, its page, the module, and the engine's own event loop.
            let mut sockets: Vec<_> =
                fds.iter().filter(|fd| fd.to_string_lossy().starts_with("socket:")).collect();
            sockets.dedup();
            assert!(
                fds.len() <= 10 && sockets.iter().all(|socket| *socket == sockets[0]),
                "{method:?}: {fds:?}"
            );
            assert_eq!(std::fs::read(format!("/proc/{pid}/environ")).unwrap(), b"RUST_BACKTRACE=0\0");
        }
    }
}

#[test]
fn o21_an_iterator_that_panics_passes_the_panic_on_after_the_results_before_it() {
    let _bound = time_bound();
    let pool = Pool::builder(&guest("upper")).processes(1).build().unwrap();
    let upper = pool.func::<String, String>("run").unwrap();
    let items = || {
        (0..5).map(|n| if n < 3 { n.to_string() } else { panic!("no more (this panic is part of a test)") })
    };
    let caught = |call: Box<dyn FnOnce() + '_>| {
        let payload = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"no more (this panic is part of a test)"));
    };
    let mut results = pool.imap(&upper, items());
    assert!((0..3).all(|n| results.next() == Some(Ok(n.to_string()))));
    caught(Box::new(|| drop(results.next())));
    assert_eq!(results.next(), None);
    caught(Box::new(|| assert_eq!(pool.imap_unordered(&upper, items()).count(), 0)));
    caught(Box::new(|| drop(pool.map(&upper, items()))));
    caught(Box::new(|| drop(pool.map_async(&upper, items()).get())));
    assert_eq!(pool.apply(&upper, "on".to_owned()).unwrap(), "ON");
}
