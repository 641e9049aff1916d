//! The page "Python in five minutes" works: its files, its commands and their output.

use std::process::Command;

use tempfile::TempDir;

use crate::GUEST;
use crate::support::command::{prepare, scratch};
use crate::support::program;

const PAGE: &str = include_str!("../../host/docs/python.md");

/// The blocks of the page: the word behind the fence, and the text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let blocks = PAGE.split("```").skip(1).step_by(2);
    blocks.map(|block| block.split_once('\n').unwrap()).collect()
}

/// What a command writes, with times masked: each line of the summary has one.
fn output(dir: &TempDir, command: &str) -> String {
    let mut shell = Command::new("sh");
    prepare(&mut shell);
    let path = std::env::var("PATH").unwrap();
    shell.env("PATH", format!("{}:{path}", program().parent().unwrap().display()));
    shell.env("WPOOL_PYTHON", &*GUEST).current_dir(dir.path());
    let output = shell.arg("-c").arg(format!("{{ {command}\n}} 2>&1")).output().unwrap();
    masked(&String::from_utf8(output.stdout).unwrap())
}

fn masked(text: &str) -> String {
    let line = |line: &str| match line.split_once(" in ") {
        Some((tasks, _time)) if line.contains(" failed in ") => format!("{tasks} in ..\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn every_command_of_the_page_gives_the_output_that_stands_below_it() {
    let dir = scratch();
    let mut commands = 0;
    for (kind, text) in blocks() {
        if let Some(name) = kind.strip_prefix("python ").or(kind.strip_prefix("text ")) {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        for part in text.split("\n$ ").map(|part| part.trim_start_matches("$ ")).filter(|_| kind == "console")
        {
            let (command, expected) = part.split_once('\n').unwrap_or((part, ""));
            assert_eq!(output(&dir, command).trim_end(), masked(expected).trim_end(), "$ {command}");
            commands += 1;
        }
    }
    assert!(commands >= 8, "{commands}");
}
