//! Objects that guests share: `--share`, `--drain`, `--fill`, `--feed`.

use super::*;

/// `map exchange.wasm`, with one worker, of these scripts.
fn scripts(flags: &[&str], items: &[&str]) -> std::process::Command {
    let exchange = prebuilt("exchange");
    wpool([&["map", &exchange, "-j", "1"], flags, &["--items"], items].concat())
}

#[test]
fn what_cannot_be_shared_is_told() {
    let dir = scratch();
    let inputs = path_text(&file(&dir, "inputs", "a\n"));
    let missing = format!("q={}", path_text(&dir.path().join("missing")));
    let used = format!("q={inputs}");
    let exchange = prebuilt("exchange");
    for (flags, said) in [
        (&["--share", "lock"][..], "expected queue:NAME"),
        (&["--share", "lick:db"], "\"lick\" is no kind of object"),
        (&["--share", "lock:"], "a name is missing"),
        (&["--share", "lock:db=3"], "takes no number"),
        (&["--share", "queue:q=many"], "\"many\" is no number from 1 on"),
        (&["--share", "barrier:b"], "a barrier needs its number of parties"),
        (&["--share", "lock:db", "--share", "lock:db"], "the shared lock \"db\" cannot be granted"),
        (&["--share", "lock:db", "--deterministic"], "cannot be deterministic"),
        (&["--drain", "q=x"], "--drain q: no queue of this name is shared (--share queue:q)"),
        (&["--share", "dict:q", "--fill", "q=x"], "--fill q: no queue of this name"),
        (&["--feed", "q"], "--feed q: no queue of this name"),
        (&["--share", "queue:q", "--drain", "q"], "expected NAME=FILE"),
        (&["--share", "queue:q", "--drain", "q=x", "--feed", "q"], "two of --drain, --fill and --feed"),
        (&["--share", "queue:q", "--drain", "q=x", "--fill", "q=y"], "two of --drain, --fill and --feed"),
        (&["--share", "queue:q", "--fill", &missing], "No such file or directory"),
        (&["--share", "queue:q", "--drain", &used], "is used twice"),
        (&["--share", "queue:q", "--drain", "q=-"], "standard output has the results"),
        (&["--share", "queue:q", "--feed", "q", "--joblog", "x", "--resume"], "cannot be used with"),
    ] {
        let output = run(wpool([&["map", &exchange, &inputs], flags].concat()));
        ends(&output, 2, said);
        assert!(output.stdout.is_empty(), "{flags:?}");
    }
    assert_eq!(std::fs::read_to_string(inputs).unwrap(), "a\n");
    let stdin = wpool(["map", &exchange, "--share", "queue:q", "--fill", "q=-"]);
    ends(&with_input(stdin, b"a\n"), 2, "standard input is read already");
}

#[test]
fn each_kind_is_shared() {
    for (share, script, result) in [
        ("queue:q=2", "put q a; put q b; is-full q; get-many q 5", "true a,b\n"),
        ("jqueue:q", "put q a; get q; task-done q; join q", "a\n"),
        ("pipe:p", "send p.a x; recv p.b; send p.b y; recv p.a", "x y\n"),
        ("value:v=5", "add v 2", "7\n"),
        ("value:v", "load v", "0\n"),
        ("value:v=some text", "load-text v", "some text\n"),
        ("dict:d", "enter d a b; look d a", "none b\n"),
        ("lock:l", "acquire lock:l; locked lock:l", "true\n"),
        ("rlock:l", "acquire rlock:l; acquire rlock:l; locked rlock:l", "true\n"),
        ("semaphore:s=4", "acquire semaphore:s; locked semaphore:s; give s 2; locked semaphore:s", "3 5\n"),
        ("semaphore:s", "locked semaphore:s", "1\n"),
        ("bsemaphore:s=1", "catch give s 1", "Invalid\n"),
        ("event:e", "set e; await e; is-set e", "true\n"),
        ("condition:c", "acquire condition:c; wait-on@5 c", "false\n"),
        ("barrier:b=1", "meet b; barrier b", "0 1/0/false\n"),
    ] {
        let output = run(scripts(&["--share", share], &[script]));
        assert_eq!((out(&output), output.status.code()), (result.to_owned(), Some(0)), "{}", err(&output));
    }
}

#[test]
fn a_drained_queue_is_written_and_another_is_told() {
    let dir = scratch();
    let found = dir.path().join("found");
    let items = ["put-many q a b; put left 1", "put q c; put-many left 2 3"];
    let drain = format!("q={}", path_text(&found));
    let output = run(scripts(&["--share", "queue:q", "--share", "queue:left", "--drain", &drain], &items));
    ends(&output, 0, "3 items are left in the queue \"left\"");
    assert_eq!(std::fs::read_to_string(&found).unwrap(), "a\nb\nc\n");
    // Items with newlines need another separator, as results do. The file is written anew.
    let output = run(scripts(&["--share", "queue:q", "--drain", &drain, "-z"], &["put q d"]));
    ends(&output, 0, "1 task: 1 ok");
    assert_eq!(std::fs::read(&found).unwrap(), b"d\0");
    assert_eq!(output.stdout, b"\0");
}

#[test]
fn a_file_that_cannot_be_written_ends_the_run() {
    // The second task waits for ever.
    let items = ["put q a", "get other"];
    let flags = ["--share", "queue:q", "--share", "queue:other", "--drain", "q=/dev/full"];
    ends(&run(scripts(&flags, &items)), 4, "cannot write /dev/full: No space left on device");
}

#[test]
fn a_queue_is_filled_from_a_file_and_closed_at_its_end() {
    let dir = scratch();
    let fill = format!("jobs={}", path_text(&file(&dir, "jobs", "one\ntwo\n\nthree")));
    let flags = ["--share", "queue:jobs=2", "--fill", &fill];
    let output = run(scripts(&flags, &["drain jobs"]));
    assert_eq!(out(&output), "one,two,,three\n", "{}", err(&output));
    let output = run(scripts(&flags, &["get jobs"]));
    assert_eq!(out(&output), "one\n");
    ends(&output, 0, "left in the queue \"jobs\"");
    let stdin = scripts(&["--share", "queue:jobs", "--fill", "jobs=-"], &["drain jobs"]);
    assert_eq!(out(&with_input(stdin, b"a\nb\n")), "a,b\n");
}

#[test]
fn x18_tasks_make_tasks() {
    let dir = scratch();
    std::fs::create_dir(dir.path().join("site")).unwrap();
    let pages = "index: about news\nabout: index\nnews: index about archive gone\narchive:\n";
    file(&dir, "site/pages.txt", pages);
    let crawler = prebuilt("crawler");
    let crawl = |more: &[&str]| {
        let flags = ["map", &crawler, "--dir", "site:ro", "--share", "queue:found", "--feed", "found"];
        let mut command = wpool([&flags[..], &["--share", "dict:seen", "--items", "index"], more].concat());
        command.current_dir(dir.path());
        run(command)
    };
    for more in [&[][..], &["--threads"], &["--start-method", "spawn"], &["--retries", "1", "-j", "1"]] {
        let output = crawl(more);
        ends(&output, 1, "there is no page \"gone\"");
        let stdout = out(&output);
        let lines: BTreeSet<&str> = stdout.lines().collect();
        let all = ["index: 2 links", "about: 1 link", "news: 4 links", "archive: 0 links"];
        assert_eq!((stdout.lines().next(), lines), (Some(all[0]), all.into()), "{more:?}");
    }
}

#[test]
fn one_task_and_one_process_share_too() {
    let exchange = prebuilt("exchange");
    let shared = ["--share", "queue:q", "--drain", "q=-"];
    let mut process = vec!["run"];
    process.extend(shared);
    process.extend(["--func", "run", "--arg", "put-many q a b", &exchange]);
    let output = run(wpool(process));
    let lines: BTreeSet<String> = out(&output).lines().map(str::to_owned).collect();
    assert_eq!((lines, output.status.code()), (["a", "b", ""].map(str::to_owned).into(), Some(0)));
    let mut call = vec!["call", &exchange, "run(\"put q a; say done\")"];
    call.extend(shared);
    let lines: BTreeSet<String> = out(&run(wpool(call))).lines().map(str::to_owned).collect();
    assert_eq!(lines, ["a", "done"].map(str::to_owned).into());
    let wrong = run(wpool(["run", "--share", "queue:q", "--drain", "other=x", &exchange]));
    ends(&wrong, 2, "no queue of this name");
}
