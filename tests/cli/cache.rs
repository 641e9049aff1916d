//! The cache of compiled modules, and compilations that take long.

use super::*;

/// The names that `wpool cache` lists, and what it says.
fn cached(dir: &str) -> (Vec<String>, String) {
    let output = run(wpool(["cache", "--cache-dir", dir]));
    ends(&output, 0, "");
    let name = |line: &str| line.split('\t').nth(3).unwrap().to_owned();
    let mut names: Vec<String> = out(&output).lines().map(name).collect();
    names.sort();
    (names, err(&output))
}

#[test]
fn f150_the_cache_is_listed_and_cleaned() {
    let dir = scratch();
    let cache = path_text(&dir.path().join("cache"));
    let module = |name: &str, n: u32| {
        let text = format!("(module (func (export \"run\") (result i32) (i32.const {n})))");
        path_text(&file(&dir, name, text))
    };
    let modules = [module("one.wat", 1), module("two\x1b[2J.wat", 2), module("three.wat", 3)];
    // Nothing is made only to look at it.
    assert_eq!(cached(&cache).0, Vec::<String>::new());
    ends(&run(wpool(["cache", "clean", "--all", "--cache-dir", &cache])), 0, "removed 0 compiled modules");
    assert!(!Path::new(&cache).exists());

    let all = [&["compile", "--cache-dir", &cache][..], &modules.each_ref().map(String::as_str)].concat();
    ends(&run(wpool(&all)), 0, "");
    let (names, said) = cached(&cache);
    assert_eq!(names, ["one.wat", "three.wat", "two\\x1b[2J.wat"]);
    assert!(said.contains("3 compiled modules, ") && said.contains(" of at most 2.00 GiB, in "), "{said}");
    let digest = std::process::Command::new("sha256sum").arg(&modules[0]).output().unwrap();
    let listed = run(wpool(["cache", "list", "--cache-dir", &cache]));
    assert!(out(&listed).lines().any(|line| line.starts_with(&out(&digest)[..64])), "{}", out(&listed));
    assert_eq!(out(&run(wpool(["cache", "dir", "--cache-dir", &cache]))), format!("{cache}\n"));

    // By the limits, nothing is to be done yet.
    ends(&run(wpool(["cache", "clean", "--cache-dir", &cache])), 0, "removed 0 compiled modules");
    ends(
        &run(wpool(["cache", "clean", "--older-than", "1h", "--cache-dir", &cache])),
        0,
        "there are 3 compiled modules",
    );
    ends(
        &run(wpool(["cache", "--cache-dir", &cache, "clean", "--max-size", "1"])),
        0,
        "removed 3 compiled modules",
    );
    assert!(cached(&cache).0.is_empty());
    // And they are compiled again.
    ends(&run(wpool(["call", &modules[0], "run", "--cache-dir", &cache])), 0, "");
    assert_eq!(cached(&cache).0, ["one.wat"]);
}

#[test]
fn f150_what_is_added_to_a_full_cache_drives_out_what_was_used_longest_ago() {
    let dir = scratch();
    let cache = path_text(&dir.path().join("cache"));
    let module = |n: u32| {
        let text = format!("(module (func (export \"run\") (result i32) (i32.const {n})))");
        path_text(&file(&dir, &format!("{n}.wat"), text))
    };
    for n in 1..=3 {
        ends(&run(wpool(["compile", &module(n), "--cache-dir", &cache, "--cache-size", "1"])), 0, "");
        assert_eq!(cached(&cache).0, [format!("{n}.wat")]);
    }
    let mut by_environment = wpool(["compile", &module(4), "--cache-dir", &cache]);
    by_environment.env("WPOOL_CACHE_SIZE", "1");
    ends(&run(by_environment), 0, "");
    assert_eq!(cached(&cache).0, ["4.wat"]);
    // No limit.
    ends(
        &run(wpool(["compile", &module(5), "--cache-dir", &cache, "--cache-size", "0", "--cache-age", "0"])),
        0,
        "",
    );
    assert_eq!(cached(&cache).0.len(), 2);
}

#[test]
fn f150_a_run_goes_on_when_its_module_is_removed_from_the_cache() {
    let dir = scratch();
    let cache = path_text(&dir.path().join("cache"));
    let mut command =
        wpool(["map", &prebuilt("upper"), "--cache-dir", &cache, "-j", "2", "--max-tasks-per-child", "1"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(b"a\n").unwrap();
    assert_eq!(running.line(), "A");
    ends(&run(wpool(["cache", "clean", "--all", "--cache-dir", &cache])), 0, "removed 1 compiled module,");
    stdin.write_all(b"b\nc\nd\n").unwrap();
    assert_eq!([running.line(), running.line(), running.line()], ["B", "C", "D"]);
    drop(stdin);
    let (status, said) = running.end();
    assert!(status.success(), "{said}");
}

/// A run of a module that takes a while to compile, with its compiler stopped at once; and the compiler's
/// process.
fn stopped_compiler(dir: &tempfile::TempDir, stderr: Stdio) -> (Child, u32) {
    let body = "(local.set 0 (i64.mul (i64.add (local.get 0) (i64.const 7)) (local.get 0)))".repeat(50);
    let function = format!("(func (export \"f0\") (param i64) (result i64) {body} (local.get 0))");
    let functions: String = (0..1500).map(|n| function.replacen("f0", &format!("f{n}"), 1)).collect();
    let module = path_text(&file(dir, "large.wat", format!("(module {functions})")));
    let cache = path_text(&dir.path().join("cache"));
    let mut command = wpool(["compile", &module, "--cache-dir", &cache]);
    let child = command.env("TERM", "xterm").stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
    drop(command);
    let mut compiler = 0;
    wait_until("the compiler runs", LONG, || {
        compiler = workers_of(child.id()).first().copied().unwrap_or(0);
        compiler != 0
    });
    kill(compiler, Signal::STOP);
    (child, compiler)
}

#[test]
fn f148_a_compilation_that_takes_long_is_told_once_where_there_is_no_terminal() {
    let dir = scratch();
    let (mut child, compiler) = stopped_compiler(&dir, Stdio::piped());
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.starts_with("wpool: compiling large.wat (") && line.ends_with(" MiB) ... 1 s\n"), "{line}");
    kill(compiler, Signal::CONT);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    assert!(child.wait().unwrap().success());
}

#[test]
fn f148_a_compilation_that_takes_long_has_a_line_on_a_terminal_until_it_is_over() {
    let dir = scratch();
    let (mut ours, theirs) = terminal();
    let (mut child, compiler) = stopped_compiler(&dir, theirs.into());
    let mut said = Vec::new();
    let has = |said: &[u8], text: &[u8]| said.windows(text.len()).any(|window| window == text);
    // Drawn anew, with another time.
    while !(has(&said, b"... 1 s") && has(&said, b"... 2 s")) {
        let mut some = [0; 1000];
        let len = ours.read(&mut some).unwrap();
        said.extend_from_slice(&some[..len]);
    }
    assert!(has(&said, b"\r\x1b[2Kcompiling large.wat ("), "{}", String::from_utf8_lossy(&said));
    kill(compiler, Signal::CONT);
    // Reading a terminal whose other end is closed is an error.
    let _end = ours.read_to_end(&mut said);
    assert!(said.ends_with(b"\r\x1b[2K"), "{}", String::from_utf8_lossy(&said));
    assert!(child.wait().unwrap().success());
}
