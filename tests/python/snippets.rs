//! Snippets of real Python: the guest prints what the native `python3` prints, and ends as it does.

use std::io::Write;
use std::process::{Command, Stdio};

use wpool::{Isolation, TaskError};

use super::{builder, module};

/// Each begins with a line `### NAME`.
const SNIPPETS: &str = include_str!("snippets.txt");
/// What each gets on standard input.
const INPUT: &str = "first line\n2 3 5 7\nthird \u{fc}nic\u{f6}de\n";

/// How a snippet ends: with output, an exit code, or the last line of a traceback.
#[derive(Debug, PartialEq)]
enum End {
    Output(String),
    Exit(u32),
    Exception(String),
}

fn snippets() -> Vec<(&'static str, &'static str)> {
    let parts = SNIPPETS.split("\n### ").map(|part| part.strip_prefix("### ").unwrap_or(part));
    parts.map(|part| part.split_once('\n').unwrap()).collect()
}

fn native(source: &str) -> End {
    let mut python = Command::new("python3");
    python.args(["-c", source]).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    python.env("PYTHONIOENCODING", "utf-8").env("HOME", std::env::var_os("HOME").unwrap_or_default());
    let mut child =
        python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A snippet that does not read it has closed the pipe.
    let _closed = child.stdin.take().unwrap().write_all(INPUT.as_bytes());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => End::Output(String::from_utf8(output.stdout).unwrap()),
        Some(1) if stderr.contains("Traceback") => {
            End::Exception(stderr.trim_end().lines().last().unwrap().to_owned())
        }
        code => End::Exit(code.unwrap().try_into().unwrap()),
    }
}

fn in_guest(result: Result<String, TaskError>) -> End {
    match result {
        Ok(text) => End::Output(text),
        Err(TaskError::Exited { code }) => End::Exit(code),
        Err(TaskError::Failed { message }) => End::Exception(message.lines().next().unwrap().to_owned()),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn snippets_do_what_they_do_in_the_native_python_fresh_and_reused() {
    let snippets = snippets();
    assert!(snippets.len() >= 100, "{}", snippets.len());
    let module = module();
    let natives: Vec<End> = snippets.iter().map(|(_, source)| native(source)).collect();
    for isolation in [Isolation::Fresh, Isolation::Reuse] {
        let pool = builder(&module, isolation).build().unwrap();
        let func = pool.func::<(String, String), String>("run").unwrap();
        let tasks = snippets.iter().map(|(_, source)| ((*source).to_owned(), INPUT.to_owned()));
        let results = pool.try_map(&func, tasks);
        let all = snippets.iter().zip(results).zip(&natives);
        let differ: Vec<String> = all
            .map(|((snippet, result), native)| (snippet.0, in_guest(result), native))
            .filter(|(_, guest, native)| guest != *native)
            .map(|(name, guest, native)| format!("{name}: {guest:?}, natively {native:?}"))
            .collect();
        assert!(differ.is_empty(), "{isolation:?}: {differ:#?}");
    }
}
