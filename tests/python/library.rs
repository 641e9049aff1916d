//! The guest as a module of the library: its functions, and pools and processes as with any other guest.

use std::collections::BTreeSet;
use std::time::Duration;

use wpool::module::Role;
use wpool::process::ExitReason;
use wpool::{Isolation, Limit, Process, StartMethod, Target, TaskError};

use super::{builder, limits, module, policy};

const BOTH: [Isolation; 2] = [Isolation::Fresh, Isolation::Reuse];

type Exec = (String, String, String);

fn exec(source: &str, func: &str, args: &str) -> Exec {
    (source.to_owned(), func.to_owned(), args.to_owned())
}

fn run(source: &str) -> (String, String) {
    (source.to_owned(), String::new())
}

#[test]
fn exec_calls_a_function_of_any_source_with_json() {
    let module = module();
    for isolation in BOTH {
        let pool = builder(&module, isolation).build().unwrap();
        let func = pool.func::<Exec, String>("exec").unwrap();
        let source = "def add(a, b=1):\n    return {'sum': a + b}";
        for args in ["[2, 3]", r#"{"b": 3, "a": 2}"#] {
            assert_eq!(pool.apply(&func, exec(source, "add", args)).unwrap(), r#"{"sum": 5}"#);
        }
        let other = "def add(a):\n    return [a]";
        assert_eq!(pool.apply(&func, exec(other, "add", "[null]")).unwrap(), "[null]");
        let failed = pool.apply(&func, exec("def f(): raise KeyError('x')", "f", "[]"));
        let Err(TaskError::Failed { message }) = failed else { panic!("{failed:?}") };
        assert!(message.contains("KeyError") && message.contains("line 1, in f"), "{message}");
    }
}

#[test]
fn an_exception_has_its_type_its_message_and_its_traceback_on_lines_of_its_own() {
    let pool = builder(&module(), Isolation::Fresh).build().unwrap();
    let func = pool.func::<(String, String), String>("run").unwrap();
    let failed = pool.apply(&func, run("def f(n):\n    return 1 // n\nf(0)"));
    let Err(TaskError::Failed { message }) = failed else { panic!("{failed:?}") };
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines[..2], ["ZeroDivisionError: division by zero", TRACEBACK]);
    assert!(lines.contains(&"  File \"<string>\", line 2, in f") && lines.contains(&"    return 1 // n"));
}

const TRACEBACK: &str = "Traceback (most recent call last):";

#[test]
fn an_exit_has_its_code_and_ends_only_its_task() {
    let module = module();
    for isolation in BOTH {
        let pool = builder(&module, isolation).build().unwrap();
        let func = pool.func::<(String, String), String>("run").unwrap();
        for (source, code) in [("import sys; sys.exit(7)", 7), ("raise SystemExit('why')", 1)] {
            assert_eq!(pool.apply(&func, run(source)), Err(TaskError::Exited { code }));
        }
        assert_eq!(pool.apply(&func, run("print(1)\nraise SystemExit")).unwrap(), "1\n");
    }
}

#[test]
fn random_numbers_differ_from_task_to_task() {
    let module = module();
    let source = "import os, random, uuid, secrets, tempfile\n\
                  print(random.random(), os.urandom(8).hex(), uuid.uuid4(), secrets.token_hex(4))";
    for isolation in BOTH {
        let pool = builder(&module, isolation).build().unwrap();
        let func = pool.func::<(String, String), String>("run").unwrap();
        let lines: Vec<String> = pool.map(&func, (0..20).map(|_| run(source))).unwrap();
        for column in 0..4 {
            let drawn: BTreeSet<_> = lines.iter().map(|line| line.split(' ').nth(column).unwrap()).collect();
            assert_eq!(drawn.len(), 20, "column {column}, {isolation:?}: {drawn:?}");
        }
    }
}

#[test]
fn a_fresh_task_sees_nothing_of_the_one_before_it_and_a_kept_instance_keeps_the_modules() {
    let module = module();
    let source = "import json\nseen = []\n\
                  def f(x):\n    seen.append(x)\n    json.extra = getattr(json, 'extra', 0) + 1\n    \
                  return [len(seen), json.extra]";
    for (isolation, last) in [(Isolation::Fresh, "[1, 1]"), (Isolation::Reuse, "[3, 3]")] {
        let pool = builder(&module, isolation).processes(1).build().unwrap();
        let func = pool.func::<Exec, String>("exec").unwrap();
        let got: Vec<String> = (0..3).map(|_| pool.apply(&func, exec(source, "f", "[1]")).unwrap()).collect();
        assert_eq!(got[2], last, "{isolation:?}");
    }
}

#[test]
fn limits_end_a_script_that_loops_or_takes_too_much() {
    let module = module();
    let mut short = limits();
    short.time = Some(Duration::from_millis(300));
    let pool = builder(&module, Isolation::Fresh).limits(short).build().unwrap();
    let func = pool.func::<(String, String), String>("run").unwrap();
    let ended = pool.apply(&func, run("while True: pass"));
    assert!(matches!(ended, Err(TaskError::Limit { limit: Limit::Time, .. })), "{ended:?}");
    let ended = pool.apply(&func, run("x = 'x' * (1 << 30)"));
    let Err(TaskError::Failed { message }) = ended else { panic!("{ended:?}") };
    assert!(message.starts_with("MemoryError") && message.contains("memory"), "{message}");
    assert_eq!(pool.apply(&func, run("print('goes on')")).unwrap(), "goes on\n");
}

#[test]
fn pools_of_every_start_method_map_a_script_and_survive_the_death_of_a_worker() {
    let module = module();
    for method in [StartMethod::Forkserver, StartMethod::Spawn, StartMethod::Thread] {
        let pool = builder(&module, Isolation::Fresh).start_method(method).build().unwrap();
        let func = pool.func::<Exec, String>("exec").unwrap();
        let square = |n: u32| exec("def sq(n): return n * n", "sq", &format!("[{n}]"));
        let squares: Vec<String> = pool.map(&func, (0..20).map(square)).unwrap();
        let expected: Vec<String> = (0..20).map(|n: u32| (n * n).to_string()).collect();
        assert_eq!(squares, expected, "{method:?}");
        if method != StartMethod::Thread {
            super::support::signal(super::support::pids(&pool)[0], rustix::process::Signal::KILL);
            assert_eq!(pool.apply(&func, square(9)).unwrap(), "81");
        }
        pool.close();
        pool.join().unwrap();
    }
}

#[test]
fn a_process_runs_python_as_a_command_with_its_streams_and_its_exit_code() {
    let module = module();
    let code = "import sys; print(sys.stdin.read().upper(), *sys.argv[1:]); sys.exit(4)";
    let command = module.info().exports.iter().find(|export| export.role == Role::Command).unwrap();
    let target = Target::func(&*command.path).argv(["python", "-c", code, "one", "two"]);
    let process = Process::builder(&module).target(target).policy(policy()).limits(limits());
    let mut process = process.input("abc").build().unwrap();
    process.start().unwrap();
    let status = process.join().unwrap();
    assert_eq!(status.exitcode, 4);
    assert_eq!(status.reason, ExitReason::Failed(TaskError::Exited { code: 4 }));
    assert_eq!(String::from_utf8_lossy(&process.stdout()), "ABC one two\n");
}
