//! The tables of the contract and of the faults, host/docs/contract.md and faults.md, are complete and true
//! to the tests that they name.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use support::repo;

/// A page with a table of items and the tests of each.
struct Table {
    file: &'static str,
    text: &'static str,
    /// The letters of its items, and how many there are of each.
    items: &'static [(char, usize)],
    /// How an item without a test begins: with the reason for having none.
    reasons: &'static [&'static str],
}

const TABLES: [Table; 2] = [
    Table {
        file: "host/docs/contract.md",
        text: include_str!("../host/docs/contract.md"),
        items: &[('P', 52), ('O', 53), ('Q', 14), ('C', 14), ('L', 15), ('X', 19), ('D', 8)],
        reasons: &["by type: ", "no meaning here: "],
    },
    Table {
        file: "host/docs/faults.md",
        text: include_str!("../host/docs/faults.md"),
        items: &[('F', 153)],
        reasons: &["cannot be tested: "],
    },
];

struct Row {
    behaviour: &'static str,
    tests: Vec<&'static str>,
}

fn all_items(table: &Table) -> BTreeSet<String> {
    let numbered =
        |(letter, count): &(char, usize)| (1..=*count).map(|n| format!("{letter}{n}")).collect::<Vec<_>>();
    table.items.iter().flat_map(numbered).collect()
}

fn rows(table: &Table) -> Vec<(&'static str, Row)> {
    let cells = |line: &'static str| {
        line.strip_prefix("| ")?.strip_suffix('|')?.split(" | ").collect::<Vec<_>>().into()
    };
    let rows =
        table.text.lines().filter_map(cells).filter(|cells: &Vec<&str>| !matches!(cells[0], "item" | "row"));
    let row = |cells: Vec<&'static str>| {
        let &[item, behaviour, tests] = &cells[..] else { panic!("not a row of three cells: {cells:?}") };
        // Tests are set as code, with commas between them.
        (item, Row { behaviour, tests: tests.split('`').skip(1).step_by(2).collect() })
    };
    rows.map(row).collect()
}

/// The items that a test is of: their numbers stand in front of its name.
fn items_of(name: &str) -> impl Iterator<Item = String> {
    let is_item = |word: &&str| {
        word.len() > 1
            && word.starts_with(|c: char| c.is_ascii_lowercase())
            && word[1..].bytes().all(|b| b.is_ascii_digit())
    };
    name.split('_').take_while(is_item).map(str::to_uppercase)
}

fn read_all(dir: &Path, text: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            read_all(&entry, text);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            text.push(std::fs::read_to_string(entry).unwrap());
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// All that is named as a test of an item is. In `tests` that is any name: macros make tests of them. In the
/// library's own files it is what follows `#[test]`.
fn tests() -> BTreeSet<String> {
    let (mut integration, mut unit) = (Vec::new(), Vec::new());
    read_all(&repo("tests"), &mut integration);
    read_all(&repo("host/src"), &mut unit);
    let of_unit = |text: &String| {
        let after = text
            .split("#[test]")
            .skip(1)
            .filter_map(|rest| words(rest).skip_while(|word| *word != "fn").nth(1));
        after.map(str::to_owned).collect::<Vec<_>>()
    };
    let integration = integration.iter().flat_map(|text| words(text)).map(str::to_owned);
    let names = integration.chain(unit.iter().flat_map(of_unit));
    names.filter(|name| (1..name.split('_').count()).contains(&items_of(name).count())).collect()
}

#[test]
fn every_item_is_there_once() {
    for table in &TABLES {
        let mut seen = BTreeSet::new();
        for (item, _) in rows(table) {
            assert!(seen.insert(item.to_owned()), "{item} is there twice");
        }
        assert_eq!(seen, all_items(table), "{}", table.file);
    }
}

#[test]
fn every_item_has_a_test_or_a_reason() {
    let known = tests();
    for table in &TABLES {
        for (item, row) in rows(table) {
            let has_reason = table.reasons.iter().any(|reason| row.behaviour.starts_with(reason));
            let own = row.tests.iter().filter(|test| items_of(test).any(|of| of == item)).count();
            assert!(has_reason != (own > 0), "{item} needs either a test with its number, or a reason");
            for test in row.tests {
                assert!(known.contains(test), "{item} names {test}, which does not exist");
            }
        }
    }
}

#[test]
fn every_test_of_an_item_is_named_by_it() {
    let known = tests();
    let mut unnamed = Vec::new();
    for table in &TABLES {
        let (items, rows): (_, BTreeMap<_, _>) = (all_items(table), rows(table).into_iter().collect());
        for test in &known {
            for item in items_of(test).filter(|item| items.contains(item)) {
                if !rows[item.as_str()].tests.contains(&test.as_str()) {
                    unnamed.push(format!("add `{test}` to the tests of {item} in {}", table.file));
                }
            }
        }
    }
    assert!(unnamed.is_empty(), "{}", unnamed.join("\n"));
}

/// The name of the public type or free function that begins on this line. Methods are indented: they have
/// none, because the example of their type covers them. What only the crate may use is `pub(crate)`.
fn public_item(line: &str) -> Option<&str> {
    let item = line.strip_prefix("pub ")?;
    let item = item.strip_prefix("const fn ").unwrap_or(item);
    let kinds = ["fn ", "struct ", "enum ", "trait ", "union ", "type "];
    kinds.iter().find_map(|kind| item.strip_prefix(kind)).and_then(|rest| words(rest).next())
}

#[test]
fn every_public_type_and_function_has_an_example() {
    let mut sources = Vec::new();
    read_all(&repo("host/src"), &mut sources);
    let (mut seen, mut without) = (0, Vec::new());
    for source in &sources {
        let lines: Vec<&str> = source.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(name) = public_item(line) else { continue };
            let is_above =
                |line: &&&str| line.trim_start().starts_with("///") || line.trim_start().starts_with("#[");
            let above: Vec<&&str> = lines[..at].iter().rev().take_while(is_above).collect();
            seen += 1;
            let is_hidden = above.iter().any(|line| line.contains("doc(hidden)"));
            if !is_hidden && !above.iter().any(|line| line.contains("```")) {
                without.push(name);
            }
        }
    }
    assert!(seen > 70, "only {seen} items were found");
    assert_eq!(without, [""; 0], "each needs an example in its documentation");
}
