//! Policies over time, and deterministic runs.

use super::*;

/// One path is by turns a directory and a link to the outside while the guest opens a file below it.
#[test]
fn f98_a_directory_that_becomes_a_link_while_it_is_opened_leads_nowhere() {
    const ROUNDS: usize = 3000;
    let _bound = time_bound();
    let dir = tree();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("granted/swap")).unwrap();
    fs::write(path("granted/swap/secret"), "inside").unwrap();
    symlink("../outside", path("granted/link")).unwrap();
    let over = AtomicBool::new(false);
    let pool = pool(&wat(REACH), StartMethod::Forkserver, granted(&dir, DirAccess::ReadOnly));
    let (mut opened, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let names = [path("granted/swap"), path("granted/link")];
            while !over.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    &names[0],
                    rustix::fs::CWD,
                    &names[1],
                    rustix::fs::RenameFlags::EXCHANGE,
                )
                .unwrap();
            }
        });
        let (mut inputs, mut outcomes) = pool.stream(&Target::default(), true).unwrap();
        for _ in 0..ROUNDS {
            inputs.push(b"r swap/secret").unwrap();
            outcomes
                .take_one(None, |outcome| match outcome.result().unwrap() {
                    b"inside" => opened += 1,
                    said => {
                        assert!(said.starts_with(b"errno"), "{}", String::from_utf8_lossy(said));
                        refused += 1;
                    }
                })
                .unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(opened + refused, ROUNDS);
    println!("opened inside {opened} times, refused {refused} times");
}

/// What a guest can do to the names of directories that are granted to it does not change which ones they
/// are.
#[test]
fn a_directory_stays_the_one_that_was_granted() {
    let _bound = time_bound();
    let dir = tree();
    let path = |name: &str| dir.path().join(name);
    for method in [StartMethod::Forkserver, StartMethod::Spawn, StartMethod::Thread] {
        let policy = Policy::sealed().dir(path("granted/sub"), "/", DirAccess::ReadOnly);
        let pool =
            Pool::builder(&wat(REACH)).processes(1).start_method(method).policy(policy).build().unwrap();
        // No worker has been started. The name now leads elsewhere.
        fs::rename(path("granted/sub"), path("granted/away")).unwrap();
        symlink("../outside", path("granted/sub")).unwrap();
        assert_eq!(ask(&pool, "r file"), "below", "{method:?}");
        assert_eq!(ask(&pool, "r secret"), "errno 44", "{method:?}");
        fs::remove_file(path("granted/sub")).unwrap();
        fs::rename(path("granted/away"), path("granted/sub")).unwrap();
    }
}

#[test]
fn several_directories_have_their_own_access() {
    let _bound = time_bound();
    let dir = tree();
    let path = |name: &str| dir.path().join(name);
    let policy = |read: &str, write: &str| {
        Policy::sealed().dir(path(read), "/a", DirAccess::ReadOnly).dir(
            path(write),
            "/b",
            DirAccess::ReadWrite,
        )
    };
    // The guest uses the first.
    let first = pool(&wat(REACH), StartMethod::Forkserver, policy("granted", "outside"));
    assert_eq!((ask(&first, "p "), ask(&first, "r file")), ("2".to_owned(), "inside".to_owned()));
    assert!(ask(&first, "w new").starts_with("errno"));
}

/// Processes of one module share fork servers, but not those of another policy.
#[test]
fn each_policy_has_processes_of_its_own() {
    let _bound = time_bound();
    let dir = tree();
    let module = wat(REACH);
    let read = |policy: Policy| {
        let builder = Process::builder(&module).start_method(StartMethod::Forkserver).policy(policy);
        let mut process = builder.input("r file").build().unwrap();
        process.start().unwrap();
        process.join().unwrap();
        String::from_utf8(process.stdout()).unwrap()
    };
    for _ in 0..2 {
        assert_eq!(read(Policy::sealed()), "errno 8");
        assert_eq!(read(granted(&dir, DirAccess::ReadOnly)), "inside");
        let sub = Policy::sealed().dir(dir.path().join("granted/sub"), "/", DirAccess::ReadOnly);
        assert_eq!(read(sub), "below");
    }
}

#[test]
fn f35_all_missing_imports_are_named_with_what_would_grant_them() {
    let text = r#"(component
        (import "wasi:sockets/tcp@0.2.0" (instance))
        (import "wasi:http/types@0.2.0" (instance))
        (import "wasi:cli/environment@0.2.0" (instance))
        (import "acme:moon/phase" (instance)))"#;
    let module = wat(text);
    let Err(BuildError::MissingImports { missing }) = Pool::builder(&module).build() else {
        panic!("they are missing")
    };
    assert_eq!(missing.len(), 3, "{missing:?}");
    for said in
        ["wasi:sockets/tcp@0.2.0 (needs --net HOST:PORT", "wasi:http/types@0.2.0 (", "acme:moon/phase ("]
    {
        assert!(missing.iter().any(|missing| missing.starts_with(said)), "{missing:?}");
    }
    let Err(BuildError::MissingImports { missing }) =
        Process::builder(&module).policy(Policy::sealed().refuse_net()).build()
    else {
        panic!("others are missing still")
    };
    assert_eq!(missing.len(), 2, "{missing:?}");
}

/// A guest that imports sockets is refused before anything starts, unless a grant or a refusal provides them.
#[test]
fn f97_sockets_are_refused_before_the_start_or_in_a_call() {
    let _bound = time_bound();
    let module = wat(NETWORK);
    let refused = Pool::builder(&module).build().unwrap_err().to_string();
    assert!(refused.contains("wasi:sockets/instance-network") && refused.contains("--net"), "{refused}");
    let pool = pool(&module, StartMethod::Forkserver, Policy::sealed().refuse_net());
    assert!(try_ask(&pool, "x").is_ok());
}

/// A deterministic run is the same whatever the machine does.
#[test]
fn deterministic_results_are_the_same_in_every_run_and_with_any_number_of_workers() {
    let _bound = time_bound();
    let hello = loader().load(repo("guest/prebuilt/hello.wasm")).unwrap();
    let run = |module: &Module, records: &[&str], processes| -> Vec<Result<Vec<u8>, TaskError>> {
        let builder = Pool::builder(module).processes(processes).policy(Policy::sealed().deterministic());
        let pool = builder.build().unwrap();
        let (mut inputs, mut outcomes) = pool.stream(&Target::default(), true).unwrap();
        for record in records {
            inputs.push(record.as_bytes()).unwrap();
        }
        drop(inputs);
        let mut results = Vec::new();
        while results.len() < records.len() {
            outcomes
                .take_one(None, |outcome| results.push(outcome.result().map(<[u8]>::to_vec)))
                .unwrap()
                .unwrap();
        }
        results
    };
    // The worker's name and process, the time, and random numbers.
    for (module, records) in [(&hello, ["bob:0"; 20]), (&wat(REACH), ["c "; 20]), (&wat(REACH), ["g "; 20])] {
        let first = run(module, &records, 1);
        assert!(first.iter().all(|result| *result == first[0]) && first[0].is_ok(), "{:?}", first[0]);
        assert_eq!(run(module, &records, 4), first);
    }
}

/// Results that depend on the processor: the bits of a NaN with a sign and a payload to which 1 is added, and
/// of 0 / 0; a NaN as a whole number, by an instruction of relaxed SIMD.
const NUMBERS: &str = r#"(module
    (func (export "payload") (param i32) (result i32)
        (i32.reinterpret_f32 (f32.add (f32.reinterpret_i32 (local.get 0)) (f32.const 1))))
    (func (export "division") (param f32) (result i32)
        (i32.reinterpret_f32 (f32.div (local.get 0) (local.get 0))))
    (func (export "truncated") (param f32) (result i32)
        (i32x4.extract_lane 0 (i32x4.relaxed_trunc_f32x4_s (f32x4.splat (local.get 0))))))"#;

fn numbers(policy: Policy) -> (i32, i32, i32) {
    let pool = pool(&wat(NUMBERS), StartMethod::Forkserver, policy);
    let strange: i32 = 0xffc1_2345_u32.cast_signed();
    let of_float = |name: &str, value: f32| pool.apply(&pool.func::<f32, i32>(name).unwrap(), value).unwrap();
    let payload = pool.apply(&pool.func::<i32, i32>("payload").unwrap(), strange).unwrap();
    (payload, of_float("division", 0.0), of_float("truncated", f32::NAN))
}

#[test]
fn deterministic_numbers_are_the_same_on_every_processor() {
    let _bound = time_bound();
    assert_eq!(numbers(Policy::sealed().deterministic()), (0x7fc0_0000, 0x7fc0_0000, 0));
}

/// Without that they are the processor's own, so that the test above shows something.
#[cfg(target_arch = "x86_64")]
#[test]
fn other_numbers_are_the_processors_own() {
    let _bound = time_bound();
    let bits = |bits: u32| bits.cast_signed();
    assert_eq!(numbers(Policy::sealed()), (bits(0xffc1_2345), bits(0xffc0_0000), i32::MIN));
}
