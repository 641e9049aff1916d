//! What guests are given by a policy, tried from inside by guests that want more; and what they have without one.

mod support;

#[path = "support/methods.rs"]
mod methods;

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::num::NonZeroU64;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use support::{assert_no_workers, loader, proc_state, program, repo, temp_dir, time_bound, wat};
use wpool::policy::{Clock, DirAccess, Random};
use wpool::{BuildError, Limit, Limits, Module, Policy, Pool, Process, StartMethod, Target, TaskError};

const REACH: &str = include_str!("support/guests/reach.wat");
const OPEN: &str = include_str!("support/guests/open.wat");
const RANDOM: &str = include_str!("support/guests/random.wat");
const SOCKETS: &str = include_str!("support/guests/sockets.wat");
const NETWORK: &str = include_str!("support/guests/network.wat");

/// "Not permitted", as preview 1 numbers it.
const PERM: &str = "errno 63";

fn pool(module: &Module, method: StartMethod, policy: Policy) -> Pool {
    Pool::builder(module).processes(1).start_method(method).policy(policy).build().unwrap()
}

/// What becomes of one record.
fn try_ask(pool: &Pool, record: &str) -> Result<Vec<u8>, TaskError> {
    let (mut inputs, mut outcomes) = pool.stream(&Target::default(), true).unwrap();
    inputs.push(record.as_bytes()).unwrap();
    drop(inputs);
    outcomes.take_one(None, |outcome| outcome.result().map(<[u8]>::to_vec)).unwrap().unwrap()
}

#[track_caller]
fn ask(pool: &Pool, record: &str) -> String {
    String::from_utf8(try_ask(pool, record).unwrap()).unwrap()
}

/// What `open.wat` says of a path.
#[track_caller]
fn open(pool: &Pool, path: &str) -> u32 {
    u32::from_le_bytes(try_ask(pool, path).unwrap().try_into().unwrap())
}

/// A tree with a file in it, a directory beside it that is not granted, and links of every kind that lead there.
fn tree() -> tempfile::TempDir {
    let dir = temp_dir();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("granted/sub")).unwrap();
    fs::create_dir_all(path("outside")).unwrap();
    fs::write(path("granted/file"), "inside").unwrap();
    fs::write(path("granted/sub/file"), "below").unwrap();
    fs::write(path("outside/secret"), "secret").unwrap();
    symlink("/etc/passwd", path("granted/absolute")).unwrap();
    symlink("../outside/secret", path("granted/relative")).unwrap();
    symlink("../outside", path("granted/directory")).unwrap();
    symlink(path("outside"), path("granted/absolute-directory")).unwrap();
    symlink("loop", path("granted/loop")).unwrap();
    symlink("sub/file", path("granted/good")).unwrap();
    dir
}

const ESCAPES: [&str; 9] = [
    "../outside/secret",
    "/etc/passwd",
    "absolute",
    "relative",
    "directory/secret",
    "absolute-directory/secret",
    "sub/../../outside/secret",
    "sub/../relative",
    "..",
];

fn granted(dir: &tempfile::TempDir, access: DirAccess) -> Policy {
    Policy::sealed().dir(dir.path().join("granted"), "/", access)
}

methods::over_all_start_methods! {
    f94_f102_nothing_is_there_by_default
    f98_no_path_leads_out_of_a_directory
    f99_a_directory_for_reading_is_not_written_to
    a_directory_for_writing_is_written_to
    an_environment_is_what_was_granted
    clocks_are_coarse_unless_granted
    random_numbers_follow_from_a_seed
    f107_no_two_workers_draw_the_same_random_numbers
    f107_no_two_processes_draw_the_same_random_numbers
    f100_a_pipe_in_a_directory_costs_the_task_its_worker_at_most
    f100_many_entries_and_a_large_file
    f97_only_what_is_granted_is_connected_to
    f97_sockets_that_are_only_linked_refuse_everything
}

/// F94: no environment, no directory. F102: no clock that is fine enough to time the processor's caches.
fn f94_f102_nothing_is_there_by_default(method: StartMethod) {
    let pool = pool(&wat(REACH), method, Policy::sealed());
    assert_eq!((ask(&pool, "e "), ask(&pool, "p ")), (String::new(), "0".to_owned()));
    // "Bad descriptor": there is no first directory.
    for record in ["r file", "w file", "s .", "n "] {
        assert_eq!(ask(&pool, record), "errno 8", "{record}");
    }
    let open_guest = self::pool(&wat(OPEN), method, Policy::sealed());
    assert_eq!(open(&open_guest, "etc/passwd"), 1000);
}

fn f98_no_path_leads_out_of_a_directory(method: StartMethod) {
    let dir = tree();
    for access in [DirAccess::ReadOnly, DirAccess::ReadWrite] {
        let core = pool(&wat(REACH), method, granted(&dir, access));
        let component = pool(&wat(OPEN), method, granted(&dir, access));
        for path in ESCAPES {
            assert_eq!(ask(&core, &format!("r {path}")), PERM, "{path}");
            assert_eq!(open(&component, path), 32, "{path}");
            assert_eq!(ask(&core, &format!("s {path}")), PERM, "{path}");
        }
        assert_eq!((ask(&core, "r file"), ask(&core, "r good")), ("inside".to_owned(), "below".to_owned()));
        assert_eq!(ask(&core, "r sub/../file"), "inside");
        assert_eq!((open(&component, "file"), open(&component, "good")), (0, 0));
        assert_eq!(ask(&core, "r loop"), "errno 32");
        assert_eq!(ask(&core, "r none"), "errno 44");
    }
    // Nor is anything made or removed there, though writing is granted.
    let core = pool(&wat(REACH), method, granted(&dir, DirAccess::ReadWrite));
    for what in ["w", "d", "u", "x", "l", "h", "m", "t", "f"] {
        for path in
            ["../outside/new", "../outside/secret", "directory/new", "absolute-directory/secret", "/etc/new"]
        {
            let said = ask(&core, &format!("{what} {path}"));
            assert!(said.starts_with("errno"), "{what} {path}: {said}");
        }
    }
    // Writing through a link would write outside.
    assert_eq!(ask(&core, "w relative"), PERM);
    assert_eq!(fs::read(dir.path().join("outside/secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 1);
}

fn f99_a_directory_for_reading_is_not_written_to(method: StartMethod) {
    let dir = tree();
    let pool = pool(&wat(REACH), method, granted(&dir, DirAccess::ReadOnly));
    assert_eq!(ask(&pool, "r file"), "inside");
    for record in [
        "w new", "w file", "a file", "b file", "d new", "u file", "x sub", "l new", "h file", "m file",
        "t file", "f file",
    ] {
        let said = ask(&pool, record);
        assert!(said.starts_with("errno"), "{record}: {said}");
    }
    assert_eq!(fs::read(dir.path().join("granted/file")).unwrap(), b"inside");
    assert_eq!(fs::read_dir(dir.path().join("granted")).unwrap().count(), 8);
}

fn a_directory_for_writing_is_written_to(method: StartMethod) {
    let dir = tree();
    let pool = pool(&wat(REACH), method, granted(&dir, DirAccess::ReadWrite));
    let path = |name: &str| dir.path().join("granted").join(name);
    assert_eq!(ask(&pool, "w new"), "ok");
    assert_eq!(ask(&pool, "a new"), "ok");
    assert_eq!(fs::read(path("new")).unwrap(), b"writtenmore");
    assert_eq!(ask(&pool, "s new"), "11");
    assert_eq!((ask(&pool, "d made"), ask(&pool, "w made/file")), ("ok".to_owned(), "ok".to_owned()));
    assert_eq!((ask(&pool, "h new"), ask(&pool, "r hard")), ("ok".to_owned(), "writtenmore".to_owned()));
    assert_eq!((ask(&pool, "m new"), ask(&pool, "r moved")), ("ok".to_owned(), "writtenmore".to_owned()));
    assert_eq!(ask(&pool, "f moved"), "ok");
    assert_eq!(fs::metadata(path("moved")).unwrap().modified().unwrap(), SystemTime::UNIX_EPOCH);
    // By path, of the file itself and not of what a link leads to: files and directories have times, of a link they are not set.
    for time in ["new", "made"] {
        let modified = || fs::metadata(path(time)).map(|metadata| metadata.modified().unwrap());
        fs::create_dir_all(path("made")).unwrap();
        fs::write(path("new"), "").unwrap();
        assert_ne!(modified().unwrap(), SystemTime::UNIX_EPOCH);
        assert_eq!(ask(&pool, &format!("t {time}")), "ok", "{time}");
        assert_eq!(modified().unwrap(), SystemTime::UNIX_EPOCH, "{time}");
    }
    fs::remove_file(path("new")).unwrap();
    let elsewhere = || fs::metadata(dir.path().join("outside/secret")).unwrap().modified().unwrap();
    let before = elsewhere();
    let of_link = ask(&pool, "t relative");
    assert!(of_link == "errno 32" || method == StartMethod::Thread, "{of_link}");
    assert_eq!(
        (ask(&pool, "t ../outside/secret"), ask(&pool, "t none")),
        (PERM.to_owned(), "errno 44".to_owned())
    );
    assert_eq!(elsewhere(), before);
    assert_eq!((ask(&pool, "u made/file"), ask(&pool, "x made")), ("ok".to_owned(), "ok".to_owned()));
    assert!(!path("made").exists());
    // A file ends at the limit, and so does nothing else.
    let said = ask(&pool, "b large");
    match method {
        StartMethod::Thread => assert_eq!(said, "ok"),
        _ => assert_eq!(said, "errno 22"),
    }
    assert_eq!(ask(&pool, "r moved"), "writtenmore");
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

/// A worker is forked from a zygote, and so is the one that takes its place: what it draws must not lie in what the fork copies.
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

/// Opening a pipe that nobody writes to waits in the kernel: nothing in the worker can end that.
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

/// A server of this test's own: answers each "ping" with "pong".
struct Server(SocketAddr);

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (mut from, mut to, mut heard) = (&connection, &connection, [0; 4]);
                if from.read_exact(&mut heard).is_ok() && &heard == b"ping" {
                    let _left_early = to.write_all(b"pong");
                }
            }
        });
        Server(address)
    }
}

/// What `sockets.wat` is to do at an address.
fn connect_to(address: SocketAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = address.ip() else { panic!("an IPv4 address") };
    [b"c ", &ip.octets()[..], &address.port().to_le_bytes()].concat()
}

#[track_caller]
fn try_sockets(pool: &Pool, record: &[u8]) -> Vec<u8> {
    let (mut inputs, mut outcomes) = pool.stream(&Target::default(), true).unwrap();
    inputs.push(record).unwrap();
    outcomes.take_one(None, |outcome| outcome.result().map(<[u8]>::to_vec)).unwrap().unwrap().unwrap()
}

/// The error of preview 2's sockets for what is not allowed.
const DENIED: u8 = 1;

fn f97_only_what_is_granted_is_connected_to(method: StartMethod) {
    let (granted, other) = (Server::start(), Server::start());
    let module = wat(SOCKETS);
    let pool = pool(&module, method, Policy::sealed().net(granted.0.to_string()));
    for _ in 0..3 {
        assert_eq!(try_sockets(&pool, &connect_to(granted.0)), b"pong");
    }
    // Another port, and another address with that port, at which the server would answer too.
    let elsewhere = SocketAddr::new([127, 0, 0, 2].into(), granted.0.port());
    for address in [other.0, elsewhere] {
        assert_eq!(try_sockets(&pool, &connect_to(address)), [255, 3, DENIED], "{address}");
    }
    assert_eq!(try_sockets(&pool, b"l 127.0.0.1"), [127, 0, 0, 1]);
    for name in ["localhost", "example.org", "127.0.0.2"] {
        assert_eq!(try_sockets(&pool, &[b"l ", name.as_bytes()].concat()), [255, 1, DENIED], "{name}");
    }
    assert_eq!(try_sockets(&pool, b"u"), [255, 1, DENIED], "UDP is never granted");
    assert_eq!(try_sockets(&pool, b"b"), [255, 2, DENIED], "nor an address of its own");
    let listening = try_sockets(&pool, b"w");
    assert!(listening[..1] == [255] && listening[1] >= 2, "nor listening: {listening:?}");
    assert_eq!(try_sockets(&pool, &connect_to(granted.0)), b"pong", "nobody died of it");
}

fn f97_sockets_that_are_only_linked_refuse_everything(method: StartMethod) {
    let server = Server::start();
    let pool = pool(&wat(SOCKETS), method, Policy::sealed().refuse_net());
    for record in [&connect_to(server.0)[..], b"b", b"w", b"u", b"l localhost", b"l 127.0.0.1"] {
        assert_eq!(try_sockets(&pool, record), [255, 1, DENIED], "{record:?}");
    }
}

/// The coordinator looks it up: no worker has a resolver.
#[test]
fn a_name_is_looked_up_once() {
    let _bound = time_bound();
    let server = Server::start();
    let policy = Policy::sealed().net(format!("localhost:{}", server.0.port()));
    let pool = pool(&wat(SOCKETS), StartMethod::Forkserver, policy);
    assert_eq!(try_sockets(&pool, b"l localhost"), [127, 0, 0, 1]);
    assert_eq!(try_sockets(&pool, b"l LocalHost"), [127, 0, 0, 1]);
    assert_eq!(try_sockets(&pool, &connect_to(server.0)), b"pong");
}

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

/// What a guest can do to the names of directories that are granted to it does not change which ones they are.
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

/// A guest that asks for sockets is refused before anything starts, unless somebody says that it may have them, if only to be refused.
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
    // Who they are and where, what time it is, and chance.
    for (module, records) in [(&hello, ["bob:0"; 20]), (&wat(REACH), ["c "; 20]), (&wat(REACH), ["g "; 20])] {
        let first = run(module, &records, 1);
        assert!(first.iter().all(|result| *result == first[0]) && first[0].is_ok(), "{:?}", first[0]);
        assert_eq!(run(module, &records, 4), first);
    }
}

/// What the processor may do as it likes: the bits of a NaN with a sign and a payload to which 1 is added, and of 0 / 0; a NaN as a whole number, by
/// an instruction of relaxed SIMD.
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

fn wpool(args: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(args).env("WPOOL_CACHE_DIR", support::cache_dir());
    let child = command
        .env("SECRET", "of this shell")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_no_workers(pid);
    output
}

fn text_of(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn guest_file(name: &str) -> String {
    let path: PathBuf = repo("tests/support/guests").join(name);
    path.display().to_string()
}

#[test]
fn the_commands_take_grants() {
    let _bound = time_bound();
    let dir = tree();
    let reach = guest_file("reach.wat");
    let here = format!("{}::/:ro", dir.path().join("granted").display());
    let map = |options: &[&str]| {
        let output =
            wpool(&[&["map", "--quiet"], options, &[&reach, "--items", "r file", "e ", "g ", "c "]].concat());
        assert!(output.status.success(), "{}", text_of(&output.stderr));
        text_of(&output.stdout)
    };
    let options = [
        "--dir",
        &here,
        "--env",
        "A=1",
        "--inherit-env",
        "SECRET",
        "--random",
        "seed=7",
        "--clock",
        "fixed=1",
    ];
    let said = map(&options);
    assert!(
        said.starts_with("inside\nA=1") || said.starts_with("inside\nSECRET=of this shell\0A=1\0\n"),
        "{said:?}"
    );
    assert!(
        said.contains("SECRET=of this shell") && said.ends_with("1000000000 1000000000 0 1000000 \n"),
        "{said:?}"
    );
    assert_eq!(map(&options), said);
    let deterministic = ["--dir", here.as_str(), "--deterministic"];
    assert_eq!(
        map(&[&deterministic[..], &["-j", "1"]].concat()),
        map(&[&deterministic[..], &["-j", "4"]].concat())
    );

    let input = dir.path().join("record");
    fs::write(&input, "r file").unwrap();
    let run = wpool(&["run", "--dir", &here, "--input", input.to_str().unwrap(), &reach]);
    assert_eq!(text_of(&run.stdout), "inside", "{}", text_of(&run.stderr));
    let call = wpool(&["call", "--env", "A=1", &reach]);
    assert!(call.status.success(), "{}", text_of(&call.stderr));
}

#[test]
fn what_is_granted_is_shown() {
    let _bound = time_bound();
    let dir = tree();
    let here = format!("{}::/data:ro", dir.path().join("granted").display());
    let inspect = wpool(&["inspect", &guest_file("reach.wat"), "--dir", &here, "--env", "A=1"]);
    let said = text_of(&inspect.stdout);
    assert!(
        said.contains("/data is ") && said.contains("(read only)") && said.contains("the variables A"),
        "{said}"
    );
    let sealed = text_of(&wpool(&["inspect", &guest_file("network.wat")]).stdout);
    assert!(sealed.contains("MISSING: needs --net HOST:PORT, or --net none"), "{sealed}");
    let refused = text_of(&wpool(&["inspect", &guest_file("network.wat"), "--net", "none"]).stdout);
    assert!(refused.contains("granted: every connection is refused"), "{refused}");

    let doctor = wpool(&["doctor", "--dir", &here, "--net", "127.0.0.1:8080"]);
    let said = text_of(&doctor.stdout);
    assert!(said.contains("no file but /data (read only) (landlock)"), "{said}");
    assert!(said.contains("no TCP port but 8080 (landlock)"), "{said}");
    assert!(said.contains("what must hold of a worker, with these grants"), "{said}");
    let doctor = wpool(&["doctor", "--dir", &format!("{}::/data", dir.path().display())]);
    assert!(text_of(&doctor.stdout).contains("files of at most 1024 MiB"));
}

#[test]
fn what_cannot_be_granted_is_a_wrong_usage() {
    let _bound = time_bound();
    let reach = guest_file("reach.wat");
    for (options, said) in [
        (&["--dir", "/no/such"][..], "the directory \"/no/such\" cannot be granted: No such file"),
        (&["--dir", "/etc::/x:ro", "--dir", "/usr::/x:ro"], "already"),
        (
            &["--dir", "/proc::/p"],
            "the directory \"/proc\" cannot be granted: it is in a file system of the kernel's own (proc)",
        ),
        (&["--dir", "/proc/self::/p:ro"], "a file system of the kernel's own (proc)"),
        (&["--dir", "/sys::/s:ro"], "a file system of the kernel's own (sysfs)"),
        (&["--dir", "/::/x:ro"], "/proc below it is a file system of the kernel's own (proc)"),
        (&["--dir", "/proc::/p", "--sandbox", "off"], "a file system of the kernel's own (proc)"),
        (&["--dir", "/proc::/p", "--threads"], "a file system of the kernel's own (proc)"),
        (&["--net", "nowhere"], "HOST:PORT"),
        (&["--env", "A"], "NAME=VALUE"),
        (&["--inherit-env", "A=B"], "neither ="),
        (&["--clock", "slow"], "coarse, fine, or fixed=TIME"),
        (&["--random", "7"], "seed=N"),
        (&["--deterministic", "--net", "127.0.0.1:80"], "deterministic"),
        (&["--deterministic", "--clock", "fine"], "fixed"),
    ] {
        for command in ["map", "run"] {
            let output = wpool(&[&[command], options, &[&reach]].concat());
            assert_eq!(output.status.code(), Some(2), "{command} {options:?}: {}", text_of(&output.stderr));
            assert!(
                text_of(&output.stderr).contains(said),
                "{command} {options:?}: {}",
                text_of(&output.stderr)
            );
        }
    }
}

/// `wpool map` with a cache and a program of its own.
fn map_with_cache(cache: &Path, program: &Path, options: &[&str]) -> Output {
    let reach = guest_file("reach.wat");
    let args = [&["map", "-j", "1"], options, &[&reach, "--items", "p "]].concat();
    Command::new(program).args(args).env("WPOOL_CACHE_DIR", cache).output().unwrap()
}

/// A guest that could write there would forge machine code that other modules run, or the program itself.
#[test]
fn f116_what_is_wpools_own_is_not_granted_for_writing() {
    let _bound = time_bound();
    let dir = temp_dir();
    let path = |name: &str| dir.path().join(name);
    for made in ["home/.cache/wpool/below", "home/work", "bin", "links"] {
        fs::create_dir_all(path(made)).unwrap();
    }
    let cache = path("home/.cache/wpool");
    fs::set_permissions(&cache, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    symlink(path("home/.cache"), path("links/cache")).unwrap();
    // Not this file's own link, so that the program is found by its name.
    support::renamed(program(), &path("bin/wpool"));
    let grant = |host: &str, how: &str| format!("{}::/x{how}", path(host).display());
    let through_a_link = path("links/cache/wpool");
    let is_refused = |cache: &Path, host: &str, said: &str| {
        let output = map_with_cache(cache, &path("bin/wpool"), &["--dir", &grant(host, "")]);
        let told = text_of(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{host}: {told}");
        assert!(told.contains("for writing cannot be granted") && told.contains(said), "{host}: {told}");
    };
    for host in ["home", "home/.cache", "home/.cache/wpool", "home/.cache/wpool/below", ".", "links/cache"] {
        is_refused(&cache, host, "wpool's cache");
    }
    is_refused(&through_a_link, "links", "wpool's cache");
    is_refused(&through_a_link, "home", "wpool's cache");
    is_refused(&cache, "bin", "the running program");
    // A cache that is not there yet would be made there.
    is_refused(&path("home/none/yet/wpool"), "home", "wpool's cache");

    // The user's other runs have theirs in the home directory, though this one has it elsewhere.
    let elsewhere = temp_dir();
    let mut command = Command::new(path("bin/wpool"));
    command.args(["map", "-j", "1", "--dir", &grant("home", ""), &guest_file("reach.wat"), "--items", "p "]);
    command.env("WPOOL_CACHE_DIR", elsewhere.path()).env("HOME", path("home")).env_remove("XDG_CACHE_HOME");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text_of(&output.stderr));
    assert!(text_of(&output.stderr).contains("wpool's cache"), "{}", text_of(&output.stderr));

    // For reading, it is told; beside it, nothing is.
    for (host, how, warned) in [
        ("home", ":ro", true),
        ("home/.cache/wpool", ":ro", true),
        ("home/work", "", false),
        ("home/work", ":ro", false),
        ("bin", ":ro", false),
    ] {
        let output = map_with_cache(&cache, &path("bin/wpool"), &["--dir", &grant(host, how)]);
        let told = text_of(&output.stderr);
        assert!(output.status.success(), "{host}{how}: {told}");
        assert_eq!(told.contains("guests may read the key of wpool's cache"), warned, "{host}{how}: {told}");
    }
}

/// What is mounted below a directory is granted with it.
#[test]
fn f116_mounts_below_a_directory_are_looked_at() {
    let _bound = time_bound();
    let dir = temp_dir();
    let path = |name: &str| dir.path().join(name);
    for made in ["granted/below", "granted/a b", "home/wpool"] {
        fs::create_dir_all(path(made)).unwrap();
    }
    fs::set_permissions(path("home/wpool"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let run = |mounts: &str| {
        let script = format!(r#"cd "$0" && {mounts} && exec "$@""#);
        let mut command = Command::new("unshare");
        let command = command.args(["-r", "-m", "sh", "-c", &script]).arg(dir.path()).arg(program());
        let granted = format!("{}::/", path("granted").display());
        let command =
            command.args(["map", "--quiet", "-j", "1", "--dir", &granted, &guest_file("reach.wat")]);
        command.args(["--items", "p "]).env("WPOOL_CACHE_DIR", path("home/wpool")).output().unwrap()
    };
    if !run("mount --bind home/wpool granted/below && mount -t tmpfs none granted/below").status.success() {
        println!("skipped: mounts are not permitted here");
        return;
    }
    for (mounts, said) in [
        (
            "mount --rbind /proc granted/below",
            "granted/below below it is a file system of the kernel's own (proc)",
        ),
        (
            "mount --bind /proc/sys \"granted/a b\"",
            "granted/a b below it is a file system of the kernel's own (proc)",
        ),
        (
            "touch granted/file && mount --bind /proc/version granted/file",
            "granted/file below it is a file system",
        ),
        ("mount --rbind /sys granted/below", "a file system of the kernel's own (sysfs)"),
        ("mount --bind home granted/below", "wpool's cache"),
        ("mount --rbind /dev granted/below", "granted/below"),
    ] {
        let output = run(mounts);
        let told = text_of(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{mounts}: {told}");
        assert!(told.contains(said), "{mounts}: {told}");
    }
    let plain = run(
        "mount --bind home/wpool granted/below && mount -t tmpfs none granted/below && mount --bind /etc granted/below",
    );
    assert_eq!(plain.status.code(), Some(0), "{}", text_of(&plain.stderr));
}

/// With grants a worker is confined as without, to what is granted: strict is satisfied, on a machine where it is at all.
#[test]
fn a_strict_sandbox_has_room_for_grants() {
    let _bound = time_bound();
    let dir = tree();
    let Ok(module) = loader().sandbox(wpool::sandbox::Sandbox::Strict).from_bytes(REACH.as_bytes()) else {
        return;
    };
    for access in [DirAccess::ReadOnly, DirAccess::ReadWrite] {
        let policy = granted(&dir, access).net("127.0.0.1:80");
        let pool = pool(&module, StartMethod::Forkserver, policy);
        assert_eq!(ask(&pool, "r file"), "inside");
        let pid = pool.workers()[0].pid;
        assert!(proc_state(pid).is_some());
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Seccomp:\t2"), "{status}");
    }
}
