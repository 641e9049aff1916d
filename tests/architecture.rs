//! The page on the architecture, host/docs/architecture.md, names functions that exist.

mod support;

use std::path::PathBuf;

use support::repo;

const PAGE: &str = include_str!("../host/docs/architecture.md");

/// The names on the page: those set as code in the form `path::function`, where the path is one of a source
/// file.
fn functions(page: &str) -> Vec<(&str, &str)> {
    // Blocks of code hold pictures.
    let prose = page.split("```").step_by(2);
    let code = prose.flat_map(|prose| prose.split('`').skip(1).step_by(2));
    let name = |code| str::split_once(code, "::").filter(|(path, name)| is_path(path) && is_name(name));
    code.filter_map(name).filter(|(path, _)| *path != "wpool").collect()
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_name)
}

/// Types begin with a capital: `TaskError::WorkerLost` is no function.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The source file of a path. A module is a file of its name, or the `mod.rs` of a directory of its name.
fn source(path: &str) -> Option<String> {
    let candidates = [repo(&format!("host/src/{path}.rs")), repo(&format!("host/src/{path}/mod.rs"))];
    let file = candidates.into_iter().find(|file: &PathBuf| file.is_file())?;
    Some(std::fs::read_to_string(file).unwrap())
}

fn has_function(source: &str, name: &str) -> bool {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let heads = code.filter_map(|line| line.split_once("fn ")).map(|(_, head)| head);
    let mut names = heads.map(|head| head.split(['(', '<']).next().unwrap_or_default());
    names.any(|found| found == name)
}

#[test]
fn every_function_on_the_page_exists() {
    let named = functions(PAGE);
    assert!(named.len() > 40, "the page names functions: {named:?}");
    let is_missing =
        |(path, name): &&(&str, &str)| !source(path).is_some_and(|source| has_function(&source, name));
    let missing: Vec<_> =
        named.iter().filter(is_missing).map(|(path, name)| format!("{path}::{name}")).collect();
    assert!(missing.is_empty(), "host/docs/architecture.md names functions that do not exist: {missing:#?}");
}

#[test]
fn each_of_the_ten_steps_of_a_task_names_a_function() {
    let (_, life) = PAGE.split_once("## The life of a task\n").unwrap();
    let (life, _) = life.split_once("\n## ").unwrap();
    let steps: Vec<&str> = (1..=10).map(|n| life.split_once(&format!("\n{n}. ")).unwrap().1).collect();
    for (at, step) in steps.iter().enumerate() {
        let step = step.split(&format!("\n{}. ", at + 2)).next().unwrap();
        assert!(!functions(step).is_empty(), "step {} names no function: {step}", at + 1);
    }
    assert!(!life.contains("\n11. "), "there are ten steps");
}

#[test]
fn a_function_that_does_not_exist_is_found() {
    assert_eq!(
        functions("`pool/job::push`, `TaskError::WorkerLost`, `wpool::init`, `push`"),
        [("pool/job", "push")]
    );
    assert!(has_function("    pub(crate) fn push<'r>(&self) {", "push"));
    assert!(!has_function("// fn push() {\nfn push_all() {}", "push"));
    assert!(
        source("pool").is_some() && source("pool/job").is_some() && source("pool/no_such_file").is_none()
    );
}
