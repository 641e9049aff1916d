//! The README is a product page that works. (Its two commands are run by `.ci/run`, as they stand there.)

mod support;

use std::process::Command;

use support::{program, repo};

fn readme() -> String {
    std::fs::read_to_string(repo("README.md")).unwrap()
}

/// The fenced block whose text contains `marker`, without its fences.
fn block<'r>(readme: &'r str, marker: &str) -> &'r str {
    let blocks = readme.split("```").skip(1).step_by(2);
    let block = blocks.map(|b| b.split_once('\n').unwrap().1).find(|b| b.contains(marker));
    block.unwrap_or_else(|| panic!("no block with {marker:?}"))
}

#[test]
fn the_guest_function_is_the_one_in_the_repository() {
    let readme = readme();
    let source = std::fs::read_to_string(repo("guest/examples/hello/src/lib.rs")).unwrap();
    assert!(
        source.contains(block(&readme, "#[wpool_guest::task]")),
        "the README shows another function than the example has"
    );
}

#[test]
fn the_embed_snippet_is_an_example_and_gives_thirteen_greetings() {
    let readme = readme();
    let example = std::fs::read_to_string(repo("host/examples/hello.rs")).unwrap();
    let snippet = block(&readme, "use wpool::{Module, Pool};");
    assert!(example.ends_with(snippet), "host/examples/hello.rs differs from the README");
    assert!(snippet.lines().count() <= 15, "the snippet has grown");

    let built = program().parent().unwrap().join("examples/hello");
    let output = Command::new(built).current_dir(repo("")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for (n, line) in text.lines().enumerate() {
        assert!(line.starts_with(&format!("hello {n} from PoolWorker-")), "{line}");
    }
    assert_eq!(text.lines().count(), 13);
}

#[test]
fn every_subcommand_that_it_names_exists_and_every_one_that_exists_is_named() {
    let readme = readme();
    let help = Command::new(program()).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let listed: Vec<&str> = commands
        .lines()
        .filter(|l| l.starts_with("  ") && !l.starts_with("   "))
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    assert!(listed.contains(&"map"), "{listed:?}");
    for command in listed.into_iter().filter(|c| *c != "help") {
        assert!(readme.contains(&format!("`wpool {command}")), "README.md does not name `wpool {command}`");
    }
}

#[test]
fn the_options_that_it_names_exist() {
    let help = Command::new(program()).args(["map", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let readme = readme();
    let words = readme.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let of_cargo = ["--release", "--workspace", "--path", "--target"];
    for option in words.filter(|w| w.starts_with("--") && w.len() > 3 && !of_cargo.contains(w)) {
        assert!(help.contains(option), "README.md names {option}, which `wpool map` does not have");
    }
}
