//! Environment, clocks and random numbers, and odd things in a directory.

use super::*;

methods::over_all_start_methods! {
    an_environment_is_what_was_granted
    clocks_are_coarse_unless_granted
    random_numbers_follow_from_a_seed
    f107_no_two_workers_draw_the_same_random_numbers
    f107_no_two_processes_draw_the_same_random_numbers
    f100_a_pipe_in_a_directory_costs_the_task_its_worker_at_most
    f100_many_entries_and_a_large_file
}

fn an_environment_is_what_was_granted(method: StartMethod) {
    let inherited = std::env::var("PATH").unwrap();
    let policy =
        Policy::sealed().env("A", "1").inherit_env("PATH").inherit_env("NOT_SET_AT_ALL").env("A", "2");
    let pool = pool(&wat(REACH), method, policy);
    assert_eq!(ask(&pool, "e "), format!("PATH={inherited}\0A=2\0"));
}

/// Time of day twice, then the other clock twice, in nanoseconds.
fn clocks(pool: &Pool) -> Vec<u64> {
    ask(pool, "c ").split_whitespace().map(|n| n.parse().unwrap()).collect()
}

fn clocks_are_coarse_unless_granted(method: StartMethod) {
    let module = wat(REACH);
    let coarse = pool(&module, method, Policy::sealed());
    let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    for _ in 0..3 {
        let read = clocks(&coarse);
        assert!(read.iter().all(|nanos| nanos % 1_000_000 == 0), "{read:?}");
        assert!(Duration::from_nanos(read[0]) + Clock::RESOLUTION >= before, "{read:?}");
    }
    let asleep = std::time::Instant::now();
    assert_eq!(ask(&coarse, "z "), "slept");
    assert!(asleep.elapsed() >= Duration::from_millis(20));

    let fine = pool(&module, method, Policy::sealed().clock(Clock::Fine));
    assert!((0..20).flat_map(|_| clocks(&fine)).any(|nanos| nanos % 1_000_000 != 0));

    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
    let fixed = pool(&module, method, Policy::sealed().clock(Clock::Fixed(time)));
    for _ in 0..3 {
        assert_eq!(clocks(&fixed), [1_700_000_000_123_456_789, 1_700_000_000_123_456_789, 0, 1_000_000]);
    }
    assert_eq!(ask(&fixed, "z "), "slept");
}

fn random_numbers_follow_from_a_seed(method: StartMethod) {
    let module = wat(REACH);
    let secure = pool(&module, method, Policy::sealed());
    assert_ne!(ask(&secure, "g "), ask(&secure, "g "));
    let seeded = |seed| pool(&module, method, Policy::sealed().random(Random::Seeded(seed)));
    let (seven, eight) = (seeded(7), seeded(8));
    assert_eq!(ask(&seven, "g "), ask(&seven, "g "));
    assert_eq!(ask(&seven, "g "), ask(&seeded(7), "g "));
    assert_ne!(ask(&seven, "g "), ask(&eight, "g "));
}

/// What `draw` of `random.wat` gives: a number of each generator.
type Drawn = Vec<u64>;

/// Fails if any two of the numbers are equal, whichever generator they come from.
#[track_caller]
fn assert_all_differ(drawn: &[Drawn]) {
    let numbers: Vec<u64> = drawn.iter().flatten().copied().collect();
    let different: HashSet<u64> = numbers.iter().copied().collect();
    assert_eq!(different.len(), numbers.len(), "{drawn:x?}");
}

/// A worker is forked from a zygote, and so is the one that takes its place: what it draws must not lie in
/// what the fork copies.
fn f107_no_two_workers_draw_the_same_random_numbers(method: StartMethod) {
    let module = wat(RANDOM);
    for policy in [Policy::sealed(), Policy::sealed().clock(Clock::Fine)] {
        // Each task has a worker of its own; two of them live at the same time.
        let builder = Pool::builder(&module)
            .processes(2)
            .start_method(method)
            .max_tasks_per_child(NonZeroU64::MIN)
            .policy(policy);
        let pool = builder.build().unwrap();
        let draw = pool.func::<(), Drawn>("draw").unwrap();
        assert_all_differ(&pool.map(&draw, vec![(); 12]).unwrap());
    }
    let again = pool(&wat(REACH), method, Policy::sealed());
    let core: Vec<String> = (0..4).map(|_| ask(&again, "g ")).collect();
    let replaced = Pool::builder(&wat(REACH))
        .processes(2)
        .start_method(method)
        .max_tasks_per_child(NonZeroU64::MIN)
        .build()
        .unwrap();
    let core: HashSet<String> = core.into_iter().chain((0..6).map(|_| ask(&replaced, "g "))).collect();
    assert_eq!(core.len(), 10, "{core:?}");
    // What follows from a seed still does.
    let seeded = || {
        let builder =
            Pool::builder(&module).processes(2).start_method(method).max_tasks_per_child(NonZeroU64::MIN);
        let pool = builder.policy(Policy::sealed().random(Random::Seeded(7))).build().unwrap();
        let draw = pool.func::<(), Drawn>("draw").unwrap();
        pool.map(&draw, vec![(); 4]).unwrap()
    };
    let (first, second) = (seeded(), seeded());
    assert!(first == second && first.iter().all(|drawn| *drawn == first[0]), "{first:x?} {second:x?}");
}

fn f107_no_two_processes_draw_the_same_random_numbers(method: StartMethod) {
    let module = wat(RANDOM);
    let run = || {
        let mut process =
            Process::builder(&module).start_method(method).target(Target::func("draw")).build().unwrap();
        process.start().unwrap();
        process
    };
    let processes: Vec<Process> = (0..4).map(|_| run()).collect();
    let result = |mut process: Process| {
        process.join().unwrap();
        process.result::<Drawn>().unwrap()
    };
    let drawn: Vec<Drawn> = processes.into_iter().map(result).collect();
    assert_all_differ(&drawn);
}

/// Opening a pipe without a writer waits in the kernel, and nothing in the worker can end that.
fn f100_a_pipe_in_a_directory_costs_the_task_its_worker_at_most(method: StartMethod) {
    let dir = tree();
    let made = Command::new("mkfifo").arg(dir.path().join("granted/pipe")).status().unwrap();
    assert!(made.success());
    let mut limits = Limits::default();
    limits.time = Some(Duration::from_millis(300));
    limits.grace = Duration::from_millis(50);
    let builder = Pool::builder(&wat(REACH)).processes(1).start_method(method).limits(limits);
    let pool = builder.policy(granted(&dir, DirAccess::ReadOnly)).build().unwrap();
    let failed = try_ask(&pool, "r pipe").unwrap_err();
    assert!(matches!(failed, TaskError::Limit { limit: Limit::Time, .. }), "{failed:?}");
    assert_eq!(ask(&pool, "r file"), "inside", "the pool goes on");
    // A thread that was abandoned is let go.
    drop(fs::OpenOptions::new().read(true).write(true).open(dir.path().join("granted/pipe")).unwrap());
}

fn f100_many_entries_and_a_large_file(method: StartMethod) {
    let dir = tree();
    for n in 0..3000 {
        fs::write(dir.path().join(format!("granted/sub/{n}")), "").unwrap();
    }
    let huge = fs::File::create(dir.path().join("granted/huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let policy = Policy::sealed().dir(dir.path().join("granted/sub"), "/", DirAccess::ReadOnly);
    // With `.` and `..`.
    assert_eq!(ask(&pool(&wat(REACH), method, policy), "n "), "3003");
    let pool = pool(&wat(REACH), method, granted(&dir, DirAccess::ReadOnly));
    assert_eq!(ask(&pool, "s huge"), (1u64 << 40).to_string());
    assert_eq!(ask(&pool, "r huge").len(), 4096);
}
