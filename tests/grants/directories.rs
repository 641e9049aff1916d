//! Nothing by default, and granted directories.

use super::*;

methods::over_all_start_methods! {
    f94_f102_nothing_is_there_by_default
    f98_no_path_leads_out_of_a_directory
    f99_a_directory_for_reading_is_not_written_to
    a_directory_for_writing_is_written_to
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
    // Nothing can be made or removed there either, though writing is granted.
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
    // By path, of the file itself and not of what a link leads to: files and directories have times, of a
    // link they are not set.
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
