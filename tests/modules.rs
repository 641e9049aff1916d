//! Modules that are none, that lack something, or that are made to hurt the compiler; and the cache: faults
//! F33 to F43.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::{Ended, Scene, repo, run_in, time_bound, time_bound_of};
use wpool::module::CompileLimits;
use wpool::{Limits, ModuleError, Pool};

fn hostile(name: &str) -> PathBuf {
    let file = std::fs::read_dir(repo("tests/hostile")).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{name}-"));
    let mut found = file.filter(is_it);
    found.next().unwrap_or_else(|| panic!("there is no guest {name}"))
}

fn upper() -> PathBuf {
    repo("guest/prebuilt/upper.wasm")
}

/// Runs the module over one record.
#[track_caller]
fn map(scene: &Scene, module: &Path, options: &[&str]) -> Ended {
    let args = [&["map", module.to_str().unwrap(), "-"], options].concat();
    run_in(scene, scene.command(&args), b"one\n")
}

/// Nothing was run, and one line says why.
#[track_caller]
fn is_refused(ended: &Ended, said: &str) {
    ended.with(2, said);
    assert!(ended.stdout.is_empty());
    assert!(ended.stderr.starts_with("wpool: ") && ended.stderr.lines().count() == 1, "{}", ended.stderr);
    assert!(ended.peak_mib < 64, "the coordinator had {} MiB", ended.peak_mib);
}

/// Drops root's rights, so that permissions count.
#[expect(unsafe_code, reason = "there is no safe way to give up a right in a child before it executes")]
fn without_rights(command: &mut Command) {
    // From linux/capability.h.
    const DAC_OVERRIDE: libc::c_ulong = 1;
    const DAC_READ_SEARCH: libc::c_ulong = 2;
    // SAFETY: prctl() is a system call without memory of ours; it may fail in a process that never had the
    // right.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_CAPBSET_DROP, DAC_OVERRIDE, 0, 0, 0);
            libc::prctl(libc::PR_CAPBSET_DROP, DAC_READ_SEARCH, 0, 0, 0);
            Ok(())
        });
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn fifo(scene: &Scene) -> PathBuf {
    let path = scene.path("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[test]
fn f33_what_is_no_module_is_refused_by_name_before_anything_is_started_or_opened() {
    let _bound = time_bound();
    let scene = Scene::new();
    let fifo = fifo(&scene);
    let locked = scene.file("locked.wasm", b"\0asm\x01\0\0\0");
    set_mode(&locked, 0);
    let huge = scene.file("huge.wasm", b"\0asm\x01\0\0\0");
    std::fs::OpenOptions::new().write(true).open(&huge).unwrap().set_len(3 << 30).unwrap();
    for (module, said) in [
        (hostile("90"), "not a WebAssembly module: it is empty"),
        (hostile("91"), "no version known here"),
        (hostile("92"), "no version known here"),
        (hostile("93"), "it is native code"),
        (hostile("94"), "it is not a WebAssembly binary"),
        (hostile("95"), "unexpected end-of-file"),
        (hostile("96"), "types count exceeds limit"),
        (hostile("97"), "the module exports no function"),
        (hostile("98"), "it is not a WebAssembly binary"),
        (hostile("99"), "no version known here"),
        (scene.path(""), "it is a directory"),
        (fifo.clone(), "it is not a regular file"),
        ("/dev/zero".into(), "it is not a regular file"),
        ("/dev/null".into(), "it is not a regular file"),
        ("/proc/self/mem".into(), "cannot read the module"),
        (scene.path("missing.wasm"), "No such file or directory"),
        (locked, "Permission denied"),
        (huge, "it is larger than 512 MiB"),
    ] {
        // The input is a FIFO without a writer: opening it would wait for ever.
        let mut command = scene.command(&["map", module.to_str().unwrap(), fifo.to_str().unwrap()]);
        without_rights(&mut command);
        let ended = run_in(&scene, command, b"");
        is_refused(&ended, said);
        let is_named =
            ended.stderr.contains(module.to_str().unwrap()) || said.contains("exports no function");
        assert!(is_named, "{}", ended.stderr);
    }
}

#[test]
fn f34_a_function_that_is_missing_or_cannot_be_called_is_told_with_what_there_is() {
    let _bound = time_bound();
    let scene = Scene::new();
    let task = "run: func(input: list<u8>) -> result<list<u8>, string>";
    for (module, options, said) in [
        (hostile("60"), &["--func", "run"][..], "no function \"run\" is exported; there is"),
        (hostile("97"), &[], task),
        (hostile("c20"), &[], "name one of acme:web/handler@1.0.0#close, acme:web/handler@1.0.0#handle"),
        (hostile("d19"), &[], "run cannot be called from outside: func(input: list<u8>) -> own<resource>"),
        (hostile("61"), &["--input-format", "raw"], "run"),
    ] {
        is_refused(&map(&scene, &module, options), said);
    }
}

#[test]
fn f35_all_imports_that_are_missing_are_told_at_once() {
    let _bound = time_bound();
    let scene = Scene::new();
    for (number, all) in [
        ("63", &["env fork"][..]),
        ("64", &["wasi thread-spawn"]),
        ("65", &["env fork", "env exec", "gpu memory", "gpu table", "kernel ring"]),
        (
            "d28",
            &[
                "\\x1b[2J\\x1b]0;pwned\\x07 a\\nwpool: all tasks ok\\r",
                "wasi_snapshot_preview1\\n \\u{9b}31m",
            ],
        ),
        ("d31", &["fork", "acme:root/shell@9.9.9", "wasi:filesystem/types@0.3.0"]),
    ] {
        let ended = map(&scene, &hostile(number), &[]);
        for import in all {
            is_refused(&ended, import);
        }
    }
}

#[test]
fn f35_an_import_of_another_form_is_refused_before_anything_starts() {
    let _bound = time_bound();
    let scene = Scene::new();
    let preview1 = |import: &str| {
        format!(
            r#"(module (import "wasi_snapshot_preview1" {import}) (memory (export "memory") 1) (func (export "_start")))"#
        )
    };
    for (text, named) in [
        (preview1(r#""fd_close" (func (param i64) (result i64))"#), "fd_close"),
        (
            r#"(component
                (import "wasi:random/random@0.2.0" (instance (export "get-random-u64" (func (param "seed" u64) (result u64)))))
                (core module $m (func (export "f")))
                (core instance $i (instantiate $m))
                (func (export "f") (canon lift (core func $i "f"))))"#
                .to_owned(),
            "get-random-u64",
        ),
    ] {
        let module = scene.file("misshapen.wat", text.as_bytes());
        let ended = map(&scene, &module, &[]);
        is_refused(&ended, "imports something with another type than it has");
        is_refused(&ended, named);
    }
}

#[test]
fn f36_features_that_are_off_are_refused_by_name() {
    let _bound = time_bound();
    let scene = Scene::new();
    for (number, feature) in [("66", "threads"), ("67", "gc"), ("68", "gc"), ("69", "exceptions")] {
        let ended = map(&scene, &hostile(number), &[]);
        is_refused(&ended, "the module is refused");
        assert!(ended.stderr.contains(feature), "{}", ended.stderr);
    }
}

/// A section of a binary: its number, its length, its bytes.
fn section(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number][..], &leb(bytes.len()), bytes].concat()
}

fn leb(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(n & 0x7f).unwrap();
        n >>= 7;
        if n == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A core module whose functions, of type `(i32) -> i32`, have these bodies; the first is exported as `run`.
fn core_module(bodies: &[Vec<u8>]) -> Vec<u8> {
    let count = leb(bodies.len());
    let types = section(1, b"\x01\x60\x01\x7f\x01\x7f");
    let functions = section(3, &[&count[..], &vec![0; bodies.len()]].concat());
    let exports = section(7, b"\x01\x03run\0\0");
    let code = bodies.iter().flat_map(|body| [leb(body.len()), body.clone()].concat());
    let code = section(10, &count.iter().copied().chain(code).collect::<Vec<u8>>());
    [&b"\0asm\x01\0\0\0"[..], &types, &functions, &exports, &code].concat()
}

/// `local.get 0; end`.
const SAME: [u8; 4] = [0, 0x20, 0, 0x0b];

fn many_functions(count: usize) -> Vec<u8> {
    core_module(&vec![SAME.to_vec(); count])
}

/// Modules that are made to exhaust the process that reads or compiles them.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let named = |n: usize| {
        let name = format!("f{n}");
        [&leb(name.len())[..], name.as_bytes()].concat()
    };
    let text = |text: String| text.into_bytes();
    let hundred_thousand = leb(100_000);
    let exports: Vec<u8> = (0..100_000).flat_map(|n| [&named(n)[..], &[0, 0]].concat()).collect();
    let exports = [
        &b"\0asm\x01\0\0\0"[..],
        &section(1, b"\x01\x60\x01\x7f\x01\x7f"),
        &section(3, b"\x01\0"),
        &section(7, &[&hundred_thousand[..], &exports].concat()),
        &section(10, b"\x01\x04\0\x20\0\x0b"),
    ];
    let imports: Vec<u8> = (0..100_000).flat_map(|n| [b"\x03env", &named(n)[..], &[0, 0]].concat()).collect();
    let imports = [
        &b"\0asm\x01\0\0\0"[..],
        &section(1, b"\x01\x60\0\0"),
        &section(2, &[&hundred_thousand[..], &imports].concat()),
    ];
    let table = [&b"\0\x02\x40\x20\0\x0e"[..], &leb(60_000), &vec![0; 60_001], b"\x0b\x20\0\x0b"].concat();
    let wide_table =
        [&b"\0\x02\x40\x20\0\x0e"[..], &leb(100_000), &vec![0; 100_001], b"\x0b\x20\0\x0b"].concat();
    let locals = [&b"\x01"[..], &leb(50_001), b"\x7e\x20\0\x0b"].concat();
    let blocks = [&b"\0"[..], &b"\x02\x40".repeat(100_000), &b"\x0b".repeat(100_000), b"\x20\0\x0b"].concat();
    let sums = [&b"\0\x20\0"[..], &b"\x20\0\x6a".repeat(100_000), b"\x0b"].concat();
    let component = b"\0asm\x0d\0\x01\0";
    let nested =
        (0..1000).fold(component.to_vec(), |inner, _| [&component[..], &section(4, &inner)].concat());
    let instances = "(core instance (instantiate $m))".repeat(10_000);
    let deep_type =
        (1..60).map(|n| format!("(type $t{n} (tuple $t{p} $t{p}))", p = n - 1)).collect::<String>();
    let sparse = (0..4000).map(|n| format!("(data (i32.const {}) \"x\")", n << 20)).collect::<String>();
    vec![
        ("twenty thousand functions", many_functions(20_000)),
        ("a hundred thousand exports", exports.concat()),
        ("a hundred thousand imports", imports.concat()),
        ("a table of branches", core_module(&[table])),
        ("a wider table of branches", core_module(&[wide_table])),
        ("50,001 locals", core_module(&[locals])),
        ("a hundred thousand blocks in each other", core_module(&[blocks])),
        ("a function of 300 kB", core_module(&[sums])),
        ("a thousand components in each other", nested),
        ("a million parentheses", text("(module ".to_owned() + &"(".repeat(1_000_000))),
        (
            "a million comments in each other",
            text("(module ".to_owned() + &"(;".repeat(1_000_000) + &";)".repeat(1_000_000) + ")"),
        ),
        ("ten million spaces", text(" ".repeat(10_000_000) + "(module (func (export \"run\")))")),
        ("a string without end", text("(module (data \"".to_owned() + &"a".repeat(1_000_000))),
        (
            "folded text",
            text(
                "(module (func (result i32) ".to_owned()
                    + &"(i32.eqz ".repeat(20_000)
                    + "(i32.const 1)"
                    + &")".repeat(20_000)
                    + "))",
            ),
        ),
        ("ten thousand instances", text(format!("(component (core module $m) {instances})"))),
        ("a type of 2^60 parts", text(format!("(component (type $t0 (tuple u8 u8)) {deep_type})"))),
        ("data all over 4 GiB", text(format!("(module (memory 65536) {sparse} (func (export \"run\")))"))),
        ("a name of 99,000 letters", text(format!("(module (func (export \"{}\")))", "n".repeat(99_000)))),
    ]
}

#[test]
fn f37_bombs_hurt_no_one_but_their_compiler() {
    let _bound = time_bound_of(Duration::from_secs(600));
    let scene = Scene::new();
    for (what, module) in bombs() {
        let path = scene.file("bomb", &module);
        let ended =
            run_in(&scene, scene.command(&["inspect", "--no-cache", "--json", path.to_str().unwrap()]), b"");
        println!(
            "{what}: exit {:?} in {:.1?}, {} MiB; {}",
            ended.code, ended.took, ended.peak_mib, ended.stderr
        );
        assert!(matches!(ended.code, Some(0 | 2)), "{what}: {:?} {}", ended.code, ended.stderr);
        assert!(ended.stderr.len() < 2000 && ended.stderr.lines().count() < 2, "{what}: {}", ended.stderr);
        // Names of a hundred thousand functions, which were asked for.
        assert!(ended.peak_mib < 96, "{what}: {} MiB", ended.peak_mib);
    }
}

#[test]
fn f37_the_limits_of_compiling_hold_and_are_told_with_what_raises_them() {
    let _bound = time_bound_of(Duration::from_secs(300));
    let scene = Scene::new();
    let bomb = scene.file("bomb.wasm", many_functions(300_000));
    // Quiet, because a compilation of more than a second is reported.
    let args = ["map", bomb.to_str().unwrap(), "-", "-q", "--compile-timeout", "1s"];
    let ended = run_in(&scene, scene.command(&args), b"one\n");
    is_refused(&ended, "compile limit exceeded: it used more than 1s of processor time; --compile-timeout");
    let args = ["map", bomb.to_str().unwrap(), "-", "-q", "--compile-memory", "100M"];
    let ended = run_in(&scene, scene.command(&args), b"one\n");
    is_refused(&ended, "compile limit exceeded: it used more than 100 MiB; --compile-memory");
    // The next run has the whole limit again.
    assert_eq!(map(&scene, &upper(), &["--compile-timeout", "10s"]).stdout, b"ONE\n");
}

#[test]
fn f37_machine_code_has_a_limit_too() {
    let _bound = time_bound();
    let mut limits = CompileLimits::default();
    limits.code = 2 << 20;
    let loader = support::loader().no_cache().compile_limits(limits);
    assert!(loader.load(upper()).is_ok());
    let error = loader.from_bytes(&many_functions(40_000)).unwrap_err();
    assert!(matches!(&error, ModuleError::CompileLimit(why) if why.contains("larger than 2 MiB")), "{error}");
}

#[test]
fn f38_a_module_that_is_replaced_runs_on_as_it_was_read() {
    let _bound = time_bound();
    let scene = Scene::new();
    let path = scene.path("module.wasm");
    std::fs::copy(upper(), &path).unwrap();
    let module = support::loader().no_cache().load(&path).unwrap();
    let digest = module.digest();
    std::fs::write(&path, b"(module)").unwrap();
    let pool = Pool::builder(&module).processes(2).build().unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.map(&run, ["a", "b"]).unwrap(), ["A", "B"]);
    std::fs::remove_file(&path).unwrap();
    // Another way to compile it begins with the same bytes; and so do new workers.
    let mut limits = Limits::default();
    limits.fuel = Some(1 << 40);
    let counted = Pool::builder(&module).limits(limits).build().unwrap();
    assert_eq!(counted.apply(&counted.func::<&str, String>("run").unwrap(), "c").unwrap(), "C");
    for pid in support::pids(&pool) {
        support::signal(pid, rustix::process::Signal::KILL);
    }
    assert_eq!(pool.map(&run, ["a", "b"]).unwrap(), ["A", "B"]);
    assert_eq!(module.digest(), digest);
}

/// The cache of `scene`, filled with one module: its artefact and its entry.
fn filled_cache(scene: &Scene) -> (PathBuf, PathBuf) {
    assert_eq!(map(scene, &upper(), &[]).stdout, b"ONE\n");
    let names: Vec<PathBuf> =
        std::fs::read_dir(scene.cache()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let with = |extension: &str| {
        names.iter().find(|p| p.extension().is_some_and(|e| e == extension)).unwrap().clone()
    };
    (with("cwasm"), with("json"))
}

fn overwrite(path: &Path, bytes: &[u8]) {
    set_mode(path, 0o600);
    std::fs::write(path, bytes).unwrap();
    set_mode(path, 0o444);
}

#[test]
fn f39_a_cache_entry_that_is_not_whole_is_compiled_again() {
    let _bound = time_bound();
    let scene = Scene::new();
    let (artefact, entry) = filled_cache(&scene);
    let (code, said) = (std::fs::read(&artefact).unwrap(), std::fs::read(&entry).unwrap());
    let mut flipped = code.clone();
    flipped[code.len() / 2] ^= 1;
    for (path, bytes) in [
        (&artefact, &code[..code.len() / 2]),
        (&artefact, &[]),
        (&artefact, &flipped),
        (&entry, &said[..said.len() / 2]),
        (&entry, &[]),
        (&entry, b"{}"),
    ] {
        overwrite(path, bytes);
        let ended = map(&scene, &upper(), &[]);
        assert_eq!((ended.code, &ended.stdout[..]), (Some(0), &b"ONE\n"[..]), "{}", ended.stderr);
        assert!(ended.stderr.contains("is not used and will be replaced"), "{}", ended.stderr);
        assert_eq!(
            (std::fs::read(&artefact).unwrap(), std::fs::read(&entry).unwrap()),
            (code.clone(), said.clone())
        );
        assert!(!map(&scene, &upper(), &[]).stderr.contains("warning"));
    }
    // Another version has other names.
    std::fs::rename(&artefact, scene.cache().join("0-0.cwasm")).unwrap();
    assert_eq!(map(&scene, &upper(), &[]).stdout, b"ONE\n");
    assert!(artefact.exists());
}

#[test]
fn f40_machine_code_that_was_put_into_the_cache_is_not_run() {
    let _bound = time_bound();
    let (scene, other) = (Scene::new(), Scene::new());
    let (artefact, entry) = filled_cache(&scene);
    // A complete and valid entry of another owner; and a program.
    let (foreign, foreign_entry) = filled_cache(&other);
    overwrite(&artefact, &std::fs::read(foreign).unwrap());
    overwrite(&entry, &std::fs::read(foreign_entry).unwrap());
    map(&scene, &upper(), &[]).with(0, "was not written by this cache's owner");
    overwrite(&artefact, &std::fs::read(support::program()).unwrap());
    map(&scene, &upper(), &[]).with(0, "was not written by this cache's owner");
    // A link to it does not count either.
    std::fs::remove_file(&artefact).unwrap();
    std::os::unix::fs::symlink(support::program(), &artefact).unwrap();
    map(&scene, &upper(), &[]).with(0, "is not used and will be replaced");
    assert!(std::fs::symlink_metadata(&artefact).unwrap().is_file());
}

#[test]
fn f41_a_cache_directory_of_others_is_not_used() {
    let _bound = time_bound();
    let scene = Scene::new();
    let theirs = scene.path("theirs");
    std::fs::create_dir(&theirs).unwrap();
    set_mode(&theirs, 0o777);
    let link = scene.path("link");
    std::os::unix::fs::symlink(scene.cache(), &link).unwrap();
    filled_cache(&scene);
    let file = scene.file("file", b"");
    let mut places =
        vec![(theirs, "other users have access to it"), (link, "not a directory"), (file, "not a directory")];
    match rustix::process::geteuid().is_root() {
        // A directory of another user: made, or found.
        true => {
            let foreign = scene.path("foreign");
            std::fs::create_dir(&foreign).unwrap();
            set_mode(&foreign, 0o700);
            std::os::unix::fs::chown(&foreign, Some(65534), None).unwrap();
            places.push((foreign, "belongs to another user"));
        }
        false => places.push(("/usr".into(), "belongs to another user")),
    }
    for (place, said) in places {
        let ended = map(&scene, &upper(), &["--cache-dir", place.to_str().unwrap()]);
        ended.with(0, said);
        assert!(
            ended.stderr.contains("warning: the cache") && ended.stderr.contains("is not used"),
            "{}",
            ended.stderr
        );
        assert_eq!(ended.stdout, b"ONE\n");
    }
}

#[test]
fn f42_a_cache_that_cannot_be_written_is_done_without() {
    let _bound = time_bound();
    let scene = Scene::new();
    filled_cache(&scene);
    let echo = repo("guest/examples/wat/echo.wat");
    // What is there is used; what is not there is compiled each time.
    set_mode(&scene.cache(), 0o500);
    for module in [&upper(), &echo] {
        let mut command = scene.command(&["map", module.to_str().unwrap(), "-"]);
        without_rights(&mut command);
        let ended = run_in(&scene, command, b"one\n");
        assert_eq!((ended.code, ended.stdout.len()), (Some(0), 4), "{}", ended.stderr);
        assert_eq!(
            ended.stderr.contains("could not be cached: Permission denied"),
            module == &echo,
            "{}",
            ended.stderr
        );
    }
    set_mode(&scene.cache(), 0o700);
}

#[test]
fn f42_a_hundred_processes_share_a_new_cache() {
    let _bound = time_bound_of(Duration::from_secs(300));
    let scene = Scene::new();
    let compile = || {
        let mut command = scene.command(&["compile", upper().to_str().unwrap()]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    let all: Vec<std::process::Child> = (0..100).map(|_| compile()).collect();
    for child in all {
        let pid = child.id();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !said.contains("warning"), "{said}");
        support::assert_no_workers(pid);
    }
    assert_eq!(std::fs::read_dir(scene.cache()).unwrap().count(), 3, "the key and one entry");
    let ended = map(&scene, &upper(), &["-v"]);
    assert_eq!(ended.stdout, b"ONE\n");
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
}

#[test]
fn f43_precompiled_code_is_never_taken_from_a_user() {
    let _bound = time_bound();
    let scene = Scene::new();
    let (artefact, _) = filled_cache(&scene);
    let given = scene.file("module.cwasm", std::fs::read(artefact).unwrap());
    for subcommand in ["map", "inspect", "compile"] {
        let ended = run_in(&scene, scene.command(&[subcommand, given.to_str().unwrap()]), b"one\n");
        is_refused(&ended, "it is native code (a precompiled artefact is never loaded; give the .wasm)");
    }
    let ended = run_in(&scene, scene.command(&["run", given.to_str().unwrap()]), b"");
    ended.with(126, "it is native code");
}
