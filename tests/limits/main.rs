//! The limits of a task, and of a whole run: the error of a reached limit has its name, its value and the
//! flag that raises it, and only that task fails.

#[path = "../support/methods.rs"]
mod methods;
#[path = "../support/mod.rs"]
mod support;

mod commands;
mod library;
mod waiting;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{assert_no_workers, builder, guest, program, repo, temp_dir, time_bound, wat};
use wpool::{Isolation, Limit, Limits, Module, PoolBuilder, StartMethod, Target, TaskError};

/// A component around `run: func(list<u8>) -> result<list<u8>, string>`, made of the text of a core module's
/// parts.
#[derive(Clone)]
struct Parts {
    pages: u32,
    /// More of the module.
    beside: &'static str,
    /// The body of `cabi_realloc`.
    realloc: &'static str,
    /// The body of the function, of `$p` and `$n`, where and how long the input is. `$i` is for its own use;
    /// `(call $ok P N)` returns bytes.
    run: &'static str,
    /// The body of what cleans up after it.
    post: Option<&'static str>,
    /// More of the component.
    around: &'static str,
}

const ECHO: Parts = Parts {
    pages: 2,
    beside: "",
    realloc: "(i32.const 8192)",
    run: "(call $ok (local.get $p) (local.get $n))",
    post: None,
    around: "",
};

const ENDLESS: &str = "(loop $again (br $again)) unreachable";

impl Parts {
    fn text(&self) -> String {
        let Parts { pages, beside, realloc, run, post, around } = self;
        let post_func =
            post.map_or(String::new(), |body| format!(r#"(func (export "post") (param i32) {body})"#));
        let post_option = if post.is_some() { r#"(post-return (core func $i "post"))"# } else { "" };
        format!(
            r#"(component
            {around}
            (core module $m
                (memory (export "memory") {pages})
                {beside}
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
                (func $ok (param $p i32) (param $n i32) (result i32)
                    (i32.store8 (i32.const 16) (i32.const 0))
                    (i32.store (i32.const 20) (local.get $p))
                    (i32.store (i32.const 24) (local.get $n))
                    (i32.const 16))
                (func (export "run") (param $p i32) (param $n i32) (result i32) (local $i i32) {run})
                {post_func})
            (core instance $i (instantiate $m))
            (func $run (param "input" (list u8)) (result (result (list u8) (error string)))
                (canon lift (core func $i "run") (memory (core memory $i "memory"))
                    (realloc (core func $i "cabi_realloc")) {post_option}))
            (export "run" (func $run)))"#
        )
    }

    fn module(&self) -> Module {
        wat(&self.text())
    }
}

/// Grows its memory page by page until it is refused, and gives the number of pages.
const MEMORY_BOMB: &str = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (i32.store (i32.const 4096) (memory.size))
    (call $ok (i32.const 4096) (i32.const 4))";

/// The same for a table, by a thousand elements.
const TABLE_BOMB: &str =
    "(loop $again (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
    (i32.store (i32.const 4096) (table.size $t))
    (call $ok (i32.const 4096) (i32.const 4))";

const TABLE: &str = "(table $t 0 funcref)";

fn limits(set: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    set(&mut limits);
    limits
}

/// The outcomes of `run` for each input, by one pool.
fn outcomes(builder: PoolBuilder, inputs: &[&str]) -> Vec<Result<Vec<u8>, TaskError>> {
    let pool = builder.build().unwrap();
    let run = pool.func::<&[u8], Vec<u8>>("run").unwrap();
    pool.try_map(&run, inputs.iter().map(|input| input.as_bytes()))
}

#[track_caller]
fn assert_limit(outcome: &Result<Vec<u8>, TaskError>, expected: Limit, told: &str) {
    match outcome {
        Err(TaskError::Limit { limit, message }) => assert_eq!((*limit, message.as_str()), (expected, told)),
        other => panic!("not a limit: {other:?}"),
    }
}

fn number(outcome: &Result<Vec<u8>, TaskError>) -> u32 {
    u32::from_le_bytes(outcome.as_ref().unwrap()[..].try_into().unwrap())
}

/// Calls itself without end.
const DEEP: &str = "(func $deep (param i32) (result i32)
    (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))";

fn wpool(args: &[&str]) -> Output {
    ended(command(program(), args))
}

/// Runs it to its end, behind which nothing is left.
fn ended(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_no_workers(pid);
    output
}

fn command(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    for name in
        ["WPOOL_JOBS", "WPOOL_TIMEOUT", "WPOOL_MEMORY", "WPOOL_RETRIES", "WPOOL_COLOR", "WPOOL_PROGRESS"]
    {
        command.env_remove(name);
    }
    command.args(args).env("WPOOL_CACHE_DIR", cache()).stdin(Stdio::null());
    command
}

fn cache() -> PathBuf {
    support::cache_dir()
}
