//! Reads the hostile guests of `tests/hostile`, runs one, and checks it against the first line of its file.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::support::{Ended, Scene, repo, run_in, time_bound_of};

/// The function of world `wpool:task/task`, and how a core module's `run` becomes it.
pub(crate) const LIFT: &str = r#"(core instance $i (instantiate $m))
(func $run (param "input" (list u8)) (result (result (list u8) (error string)))
  (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "cabi_realloc"))POST))
"#;

/// The head of `run` in every guest that is a core module.
pub(crate) const RUN: &str = r#"(func (export "run") (param $p i32) (param $n i32) (result i32)"#;

/// How a guest is put before the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The file itself: a component, a command, or no module at all.
    AsIs,
    /// A core module as a component that exports the function.
    Bare,
    /// The same, in an interface.
    Interface,
    /// The same; and it is hostile only to records that begin with `!`, all others it gives back.
    Sometimes,
}

pub(crate) struct Guest {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) expect: Expect,
}

/// What the first line of a guest's file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expect {
    pub(crate) classes: BTreeSet<Class>,
    /// For the records that are quoted there: `ok for every input but "poison", for which: trap`.
    pub(crate) exception: Option<(String, BTreeSet<Class>)>,
    /// What it gives is what it got.
    pub(crate) is_echo: bool,
}

/// How a task, or the whole run, can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Ok,
    Trap,
    Timeout,
    Limit,
    Err,
    RejectCompile,
    RejectLink,
    RejectType,
}

impl Class {
    pub(crate) fn of(word: &str) -> Option<Class> {
        Some(match word {
            "ok" | "result" => Class::Ok,
            "trap" => Class::Trap,
            "timeout" => Class::Timeout,
            "limit" => Class::Limit,
            "err" | "error" => Class::Err,
            "reject-compile" => Class::RejectCompile,
            "reject-link" => Class::RejectLink,
            "reject-type" => Class::RejectType,
            _ => return None,
        })
    }

    pub(crate) fn all(text: &str) -> BTreeSet<Class> {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).filter_map(Class::of).collect()
    }

    /// The end of a task, by the kind that the results name.
    pub(crate) fn of_kind(kind: &str) -> &'static [Class] {
        match kind {
            "ok" => &[Class::Ok],
            "trap" => &[Class::Trap],
            // The engine calls it a trap, we a limit.
            "stack" => &[Class::Trap, Class::Limit],
            "time" => &[Class::Timeout],
            "memory" | "output" | "fuel" | "table" => &[Class::Limit],
            "failed" | "bad-result" | "exit" => &[Class::Err],
            other => panic!("no guest may cause this: {other}"),
        }
    }

    /// The end of a run that was refused, by what was said.
    pub(crate) fn of_refusal(said: &str) -> Class {
        let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
        match () {
            () if says(&["the limit is"]) => Class::Limit,
            () if says(&["what is not granted"]) => Class::RejectLink,
            () if says(&["the module is refused", "not a WebAssembly", "compile limit"]) => {
                Class::RejectCompile
            }
            () => Class::RejectType,
        }
    }
}

impl Expect {
    pub(crate) fn parse(line: &str) -> Option<Expect> {
        let said = line.strip_prefix(";; EXPECT ")?;
        let (plain, exception) = match said.split_once(" for every input but ") {
            Some((plain, rest)) => {
                let input = rest.split('"').nth(1)?.to_owned();
                let (_, then) = rest.split_once("for which: ")?;
                (plain, Some((input, Class::all(then.split(['.', ';', ':']).next()?))))
            }
            None => (said.split([':', '.']).next()?, None),
        };
        let is_echo = said.starts_with("ok (echo)") || said.starts_with("ok: result == input");
        Some(Expect { classes: Class::all(plain), exception, is_echo })
    }

    pub(crate) fn of(&self, record: &str) -> &BTreeSet<Class> {
        match &self.exception {
            Some((input, classes)) if record.starts_with(input) => classes,
            _ => &self.classes,
        }
    }
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Guest {
    pub(crate) fn read(path: PathBuf) -> Option<Guest> {
        let name = path.file_name()?.to_str()?.to_owned();
        let is_binary = name.ends_with(".wasm");
        if !is_binary && !name.ends_with(".wat") {
            return None;
        }
        let bytes = std::fs::read(&path).unwrap();
        let text = if is_binary { String::new() } else { String::from_utf8(bytes).unwrap() };
        // Broken binaries have no room for a line: none of them is a module with a function.
        let any = [Class::RejectCompile, Class::RejectLink, Class::RejectType].into();
        let broken = Expect { classes: any, exception: None, is_echo: false };
        let expect =
            if is_binary { Some(broken) } else { Expect::parse(text.lines().next().unwrap_or_default()) };
        let expect =
            expect.filter(|e| !e.classes.is_empty()).unwrap_or_else(|| panic!("{name} says not how it ends"));
        Some(Guest { path, name, text, expect })
    }

    /// Whether it is a core module that exports `run` in the lowered form of a task's function.
    pub(crate) fn is_lowered(&self) -> bool {
        self.name.starts_with(|c: char| c.is_ascii_digit()) && self.name.ends_with(".wat")
    }

    pub(crate) fn forms(&self) -> Vec<Form> {
        match self.is_lowered() {
            false => vec![Form::AsIs],
            true if self.can_be_good() => vec![Form::Bare, Form::Interface, Form::Sometimes],
            true => vec![Form::Bare, Form::Interface],
        }
    }

    /// Whether all that is hostile in it is what `run` does.
    pub(crate) fn can_be_good(&self) -> bool {
        let elsewhere = ["(start ", "cabi_post_run", "(import "].iter().any(|word| self.text.contains(word));
        let is_built = self.text.contains("(func $ok ") && self.text.contains(RUN);
        let number = self.name.split('-').next().unwrap_or_default().parse();
        // The segments of 12 to 16 trap, and what 60 and more lack they lack for all records.
        let is_made = number
            .is_ok_and(|n: u32| !(12..=16).contains(&n) && !(31..=35).contains(&n) && !(60..70).contains(&n));
        is_built && is_made && !elsewhere && self.expect.exception.is_none()
    }

    pub(crate) fn module(&self, scene: &Scene, form: Form) -> PathBuf {
        match form {
            Form::AsIs => self.path.clone(),
            form => scene.file(&format!("{form:?}-{}", self.name), wrapped(&self.text, form)),
        }
    }
}

/// A core module as a component.
pub(crate) fn wrapped(text: &str, form: Form) -> String {
    let at = text.find("(module").expect("it is a core module");
    let mut body = text[at + "(module".len()..].trim_end().to_owned();
    if form == Form::Sometimes {
        let good_or_bad = format!(
            r#"{RUN}
  (if (result i32) (i32.and (i32.ne (local.get $n) (i32.const 0)) (i32.eq (i32.load8_u (local.get $p)) (i32.const 33)))
    (then (call $hostile (local.get $p) (local.get $n)))
    (else (call $ok (local.get $p) (local.get $n)))))
(func $hostile (param $p i32) (param $n i32) (result i32)"#
        );
        body = body.replacen(RUN, &good_or_bad, 1);
    }
    let post =
        if text.contains("cabi_post_run") { r#" (post-return (func $i "cabi_post_run"))"# } else { "" };
    let export = match form {
        Form::Interface => {
            r#"(instance $t (export "run" (func $run))) (export "wpool:task/task@0.1.0" (instance $t)))"#
        }
        Form::AsIs | Form::Bare | Form::Sometimes => r#"(export "run" (func $run)))"#,
    };
    format!("{}(component\n(core module $m{body}\n{}{export}\n", &text[..at], LIFT.replace("POST", post))
}

/// All guests of the repository, and those that the environment adds.
pub(crate) fn corpus() -> Vec<Guest> {
    let more = std::env::var_os("WPOOL_HOSTILE_DIR").map(PathBuf::from);
    let mut guests: Vec<Guest> =
        [repo("tests/hostile")].into_iter().chain(more).flat_map(|dir| guests_in(&dir)).collect();
    guests.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(guests.len() > 120, "only {} guests", guests.len());
    guests
}

pub(crate) fn guest(number: &str) -> Guest {
    let found = guests_in(&repo("tests/hostile"))
        .into_iter()
        .find(|guest| guest.name.starts_with(&format!("{number}-")));
    found.unwrap_or_else(|| panic!("there is no guest {number}"))
}

pub(crate) fn guests_in(dir: &Path) -> Vec<Guest> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter_map(Guest::read).collect()
}

/// A task as its JSON result describes it.
pub(crate) struct Task {
    pub(crate) kind: String,
    pub(crate) output: Option<String>,
    pub(crate) message: String,
    pub(crate) pid: u64,
    pub(crate) attempt: u64,
    pub(crate) trace: Vec<String>,
}

pub(crate) fn tasks(ended: &Ended) -> Vec<Task> {
    let text = std::str::from_utf8(&ended.stdout).expect("JSON is text");
    let task = |line: &str| {
        let json: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let kind = if json["status"] == "ok" { "ok".to_owned() } else { text(&json["error"]["kind"]) };
        let trace = json["error"]["trace"].as_array().into_iter().flatten().map(text).collect();
        let (pid, attempt) = (json["pid"].as_u64().unwrap_or(0), json["attempt"].as_u64().unwrap_or(0));
        let (output, message) = (json["output"].as_str().map(str::to_owned), text(&json["error"]["message"]));
        Task { kind, output, message, pid, attempt, trace }
    };
    text.lines().map(task).collect()
}

/// Runs a guest over the records.
#[track_caller]
pub(crate) fn run(scene: &Scene, guest: &Guest, form: Form, records: &[&str], options: &[&str]) -> Ended {
    let module = guest.module(scene, form);
    // Little where all tasks may end by it. Where some must not, or none, it is more than a loaded machine
    // needs.
    let time = match (guest.expect.classes.contains(&Class::Timeout), form, &guest.expect.exception) {
        (true, Form::AsIs | Form::Bare | Form::Interface, _) => "300ms",
        (true, Form::Sometimes, _) | (false, _, Some(_)) => "2s",
        (false, _, None) => "20s",
    };
    let mut args = vec!["map", module.to_str().unwrap(), "-", "--timeout", time];
    args.extend(["--memory", "64M", "--progress", "none"]);
    args.extend(options);
    for (option, value) in [("-j", "2"), ("--format", "jsonl"), ("--max-output", "16M")] {
        if !options.contains(&option) {
            args.extend([option, value]);
        }
    }
    run_in(scene, scene.command(&args), format!("{}\n", records.join("\n")).as_bytes())
}

/// Runs a guest, and checks that it ends as it should in every respect. Gives what is wrong.
pub(crate) fn check(scene: &Scene, guest: &Guest, form: Form, options: &[&str]) -> Result<String, String> {
    let records = match form {
        Form::Sometimes => ["one", "!two", "three", "four"],
        Form::AsIs | Form::Bare | Form::Interface => ["one", "poison", "slow", "four"],
    };
    let ended = run(scene, guest, form, &records, options);
    let wrong =
        |what: String| Err(format!("{guest} as {form:?} {options:?}: {what}\n{}", shortened(&ended.stderr)));
    let mut seen = BTreeSet::new();
    match ended.code {
        Some(2) => {
            if !ended.stdout.is_empty() || ended.stderr.lines().count() != 1 {
                return wrong("a refusal is one line".to_owned());
            }
            let class = Class::of_refusal(&ended.stderr);
            // What a module lacks, a component that is wrapped around it lacks already when it is compiled.
            let by_wrapping = form != Form::AsIs && class == Class::RejectCompile;
            let refused = [Class::RejectCompile, Class::RejectLink, Class::RejectType];
            let as_expected = guest.expect.classes.contains(&class)
                || (by_wrapping && refused.iter().any(|class| guest.expect.classes.contains(class)));
            if !as_expected {
                return wrong(format!("refused as {class:?}"));
            }
            seen.insert(format!("{class:?}"));
        }
        Some(code @ (0 | 1)) => {
            let tasks = tasks(&ended);
            if tasks.len() != records.len() {
                return wrong(format!("{} outcomes of {} tasks", tasks.len(), records.len()));
            }
            for (task, record) in tasks.iter().zip(records) {
                let is_good = form == Form::Sometimes && !record.starts_with('!');
                let good = [Class::Ok].into();
                let expected = if is_good { &good } else { guest.expect.of(record) };
                if !Class::of_kind(&task.kind).iter().any(|class| expected.contains(class)) {
                    return wrong(format!("{record:?} ends as {} ({})", task.kind, shortened(&task.message)));
                }
                let echoes = is_good || (guest.expect.is_echo && task.kind == "ok");
                if echoes && task.output.as_deref() != Some(record) {
                    return wrong(format!("{record:?} gives {:?}", task.output));
                }
                seen.insert(task.kind.clone());
            }
            if (code == 0) != tasks.iter().all(|task| task.kind == "ok") {
                return wrong(format!("exit code {code}"));
            }
        }
        code => return wrong(format!("exit code {code:?}, signal {:?}", ended.signal)),
    }
    // Four tasks by two workers, each of which may have to be killed; and a loaded machine.
    if ended.took > Duration::from_secs(40) {
        return wrong(format!("it took {:?}", ended.took));
    }
    // Two results and more may wait for their turn. In threads, the guests' own memory counts.
    if ended.peak_mib > 64 && !options.contains(&"--threads") {
        return wrong(format!("the coordinator had {} MiB", ended.peak_mib));
    }
    Ok(format!("{seen:?} in {:.2} s, {} MiB", ended.took.as_secs_f64(), ended.peak_mib))
}

pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(600).collect()
}

/// Checks each guest that is wanted in the forms that are wanted, with these options.
#[track_caller]
pub(crate) fn check_all(wanted: impl Fn(&Guest, Form) -> bool, options: &[&str]) {
    let _bound = time_bound_of(Duration::from_secs(600));
    let scene = Scene::new();
    let (mut count, mut wrong) = (0, Vec::new());
    for guest in corpus() {
        for form in guest.forms().into_iter().filter(|form| wanted(&guest, *form)) {
            count += 1;
            match check(&scene, &guest, form, options) {
                Ok(ended) => println!("{guest} {form:?} {options:?}: {ended}"),
                Err(what) => wrong.push(what),
            }
        }
    }
    assert!(count > 20, "only {count} runs");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}
