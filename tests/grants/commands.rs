//! Grants on the command line, and grants that are refused.

use super::*;

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
    for made in ["home/.cache/wpool/below", "home/work", "bin", "links", "named", "deep/below", "hard"] {
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
    // A link to it, which a guest could replace: beside others in the directory, or below it if the program
    // was started by that name.
    symlink(path("bin/wpool"), path("named/wpool")).unwrap();
    is_refused(&cache, "named", "the running program");
    symlink(path("bin/wpool"), path("deep/below/wpool")).unwrap();
    let by_link = map_with_cache(&cache, &path("deep/below/wpool"), &["--dir", &grant("deep", "")]);
    assert_eq!(by_link.status.code(), Some(2), "{}", text_of(&by_link.stderr));
    assert!(text_of(&by_link.stderr).contains("the running program"), "{}", text_of(&by_link.stderr));
    fs::hard_link(path("bin/wpool"), path("hard/any")).unwrap();
    is_refused(&cache, "hard", "the running program");
    // A cache that is not there yet would be made there.
    is_refused(&path("home/none/yet/wpool"), "home", "wpool's cache");

    // The user's other runs have their cache in the home directory, though this run has its cache elsewhere.
    let elsewhere = temp_dir();
    let mut command = Command::new(path("bin/wpool"));
    command.args(["map", "-j", "1", "--dir", &grant("home", ""), &guest_file("reach.wat"), "--items", "p "]);
    command.env("WPOOL_CACHE_DIR", elsewhere.path()).env("HOME", path("home")).env_remove("XDG_CACHE_HOME");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text_of(&output.stderr));
    assert!(text_of(&output.stderr).contains("wpool's cache"), "{}", text_of(&output.stderr));

    // For reading there is a warning; for a directory beside it there is none.
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
    let plain = run("mount --bind home/wpool granted/below && mount -t tmpfs none granted/below && \
         mount --bind /etc granted/below");
    assert_eq!(plain.status.code(), Some(0), "{}", text_of(&plain.stderr));
}

/// With grants a worker is confined as without, to what is granted: strict is satisfied, on a machine where
/// it is at all.
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
