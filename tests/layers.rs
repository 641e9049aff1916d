//! The sources of the host are layers: a file uses the layers below its own, and no files use each other in a
//! circle.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use support::repo;

/// The folders and files directly below host/src, from top to bottom. Those in one row do not use each other.
///
/// One crate holds them all, because the boundary that matters is the process. A second crate is due when a
/// part has a second user, another pace of releases, or a dependency that a feature cannot hide.
const LAYERS: &[&[&str]] = &[
    &["cli", "dummy", "events"],
    &["process", "pool", "doctor"],
    &["target"],
    &["error"],
    &["module"],
    &["context"],
    &["worker"],
    &["sandbox"],
    &["policy"],
    &["exchange"],
    &["protocol"],
    &["spec"],
    &["value"],
    &["sys"],
    &["spin"],
    &["escape", "clock", "condition"],
];

/// The names of upper layers that a lower one gives as its own with `pub use`: the file, and the paths. The
/// page of `wpool::sandbox` lists `doctor`, which starts processes.
const PUBLIC_NAMES: (&str, &[&str]) = (
    "sandbox",
    &[
        "crate::context::unenforced",
        "crate::doctor::doctor",
        "crate::doctor::doctor_of",
        "crate::doctor::doctor_with",
    ],
);

/// The place of a layer in the table, 0 for the top row.
fn row(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&layer))
}

/// A path by which a file uses an item, such as `crate::spec::Limits`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Use {
    path: String,
    /// The name by which the file knows the item.
    name: String,
    line: usize,
    /// `pub use self::..`, `pub(crate) use self::..`: the file passes the item of a file below it on, and
    /// does not use it.
    passes_on: bool,
    /// A plain `pub use`.
    is_public: bool,
}

impl Use {
    /// Whether the table of public names has it.
    fn is_public_name_of(&self, module: &str) -> bool {
        let (page, names) = PUBLIC_NAMES;
        self.is_public && module == page && names.contains(&self.path.as_str())
    }
}

/// The files by their module's path, the crate's root being the empty one.
struct Sources(BTreeMap<String, Source>);

struct Source {
    file: String,
    uses: Vec<Use>,
}

impl Sources {
    /// Reads host/src. Fuzz functions and unit tests may use everything, and the root names everything.
    fn of_the_host() -> Sources {
        let mut sources = BTreeMap::new();
        read_folder(&repo("host/src"), "", &mut sources);
        Sources(sources)
    }

    fn of_texts(texts: &[(&str, &str)]) -> Sources {
        Sources(texts.iter().map(|(file, text)| entry(file, text)).collect())
    }

    /// The module whose file defines what `path` names in `module`, as far as `pub use` can be followed.
    fn definition(&self, module: &str, path: &str, steps: usize) -> Option<String> {
        let path = absolute(module, path);
        let ends = (0..=path.len()).rev();
        let (module, rest) = ends
            .map(|end| (path[..end].join("::"), &path[end..]))
            .find(|(module, _)| self.0.contains_key(module))?;
        let passed_on = |name| self.0[&module].uses.iter().find(|used| used.name == name);
        match rest.first().and_then(|name| passed_on(name.as_str())) {
            Some(used) if steps > 0 => self.definition(&module, &used.path, steps - 1).or(Some(module)),
            _ => Some(module),
        }
    }

    /// The arrows from file to file: the user, the used file, and the line.
    fn arrows(&self) -> Vec<(&str, String, usize)> {
        let mut arrows = Vec::new();
        for (module, source) in &self.0 {
            let is_arrow = |used: &&Use| !used.passes_on && !used.is_public_name_of(module);
            for used in source.uses.iter().filter(is_arrow) {
                match self.definition(module, &used.path, 8) {
                    Some(other) if other != *module => arrows.push((module.as_str(), other, used.line)),
                    _ => {}
                }
            }
        }
        arrows
    }

    /// The arrows that go up, or to a neighbour in the same row, each in words.
    fn going_up(&self) -> Vec<String> {
        let is_wrong = |from: &str, to: &str| match (row(layer(from)), row(layer(to))) {
            _ if layer(from) == layer(to) => false,
            (Some(from), Some(to)) => to <= from,
            (Some(_), None) => true,
            (None, _) => !from.is_empty(),
        };
        let arrows = self.arrows().into_iter().filter(|(from, to, _)| is_wrong(from, to));
        arrows.map(|(from, to, line)| format!("{}:{line} uses {to}", self.0[from].file)).collect()
    }

    /// Groups of files each of which uses, by others or directly, every other of its group.
    fn circles(&self) -> Vec<Vec<String>> {
        let mut reached: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (from, to, _) in self.arrows() {
            reached.entry(from).or_default().insert(to);
        }
        while let Some((from, more)) = further(&reached) {
            reached.entry(from).or_default().extend(more);
        }
        let is_in_one = |a: &str, b: &str| reached.get(a).is_some_and(|all| all.contains(b));
        let circle = |of: &&str| -> Vec<String> {
            let others = reached[of].iter().filter(|other| is_in_one(other, of));
            others.map(|other| self.0[other].file.clone()).collect()
        };
        let circles: BTreeSet<Vec<String>> = reached.keys().map(circle).filter(|c| c.len() > 1).collect();
        circles.into_iter().collect()
    }
}

/// A file that reaches more than is known so far, because one that it reaches does.
fn further<'s>(reached: &BTreeMap<&'s str, BTreeSet<String>>) -> Option<(&'s str, BTreeSet<String>)> {
    reached.iter().find_map(|(from, all)| {
        let more: BTreeSet<String> =
            all.iter().filter_map(|to| reached.get(to.as_str())).flatten().cloned().collect();
        (!more.is_subset(all)).then_some((*from, more))
    })
}

fn read_folder(folder: &Path, below: &str, sources: &mut BTreeMap<String, Source>) {
    for found in std::fs::read_dir(folder).unwrap() {
        let path = found.unwrap().path();
        let file = format!("{below}{}", path.file_name().unwrap().to_str().unwrap());
        let is_exempt = |part: &str| part.starts_with("tests") || part.trim_end_matches(".rs") == "fuzzing";
        if file.split('/').any(is_exempt) || file == "main.rs" {
            continue;
        }
        if path.is_dir() {
            read_folder(&path, &format!("{file}/"), sources);
        } else if file.ends_with(".rs") {
            sources.extend([entry(&file, &std::fs::read_to_string(&path).unwrap())]);
        }
    }
}

/// The module's path, and its file.
fn entry(file: &str, text: &str) -> (String, Source) {
    let path = file.trim_end_matches(".rs").replace('/', "::");
    let module = match path.as_str() {
        "lib" => "",
        path => path.strip_suffix("::mod").unwrap_or(path),
    };
    (module.to_owned(), Source { file: format!("host/src/{file}"), uses: uses(text) })
}

fn layer(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

/// A path from the crate's root on, without `crate`, `self` and `super`.
fn absolute(module: &str, path: &str) -> Vec<String> {
    let mut parts: Vec<&str> = match path.starts_with("crate::") {
        true => Vec::new(),
        false => module.split("::").filter(|part| !part.is_empty()).collect(),
    };
    for part in path.split("::") {
        match part {
            "crate" | "self" => {}
            "super" => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.into_iter().map(str::to_owned).collect()
}

/// The paths in a file that begin with `crate`, `super` or `self`, in `use` lines and elsewhere.
fn uses(text: &str) -> Vec<Use> {
    let text = code(text);
    let mut found = Vec::new();
    for (at, _) in text.match_indices("::") {
        let before = &text[..at];
        let Some(begin) = ["crate", "super", "self"].iter().find(|begin| ends_in_word(before, begin)) else {
            continue;
        };
        let head = before[..before.len() - begin.len()].trim_end_matches(' ');
        // In `super::super::x` the first counts, and `pub(in crate::x)` uses nothing.
        if head.ends_with("::") || head.ends_with("(in") {
            continue;
        }
        let is_use = ends_in_word(head, "use");
        let visibility = head.strip_suffix("use").unwrap_or_default().trim_end_matches(' ');
        let is_public = is_use && ends_in_word(visibility, "pub");
        let passes_on = is_use && *begin == "self" && (is_public || visibility.ends_with(')'));
        let line = before.matches('\n').count() + 1;
        let mut paths = Vec::new();
        tree(&text[at + 2..], &format!("{begin}::"), &mut paths);
        // Outside of `use` a path gives the file no name for the item.
        let name = |name: String| if is_use { name } else { String::new() };
        let used = |(path, last)| Use { path, name: name(last), line, passes_on, is_public };
        found.extend(paths.into_iter().map(used));
    }
    found
}

/// The lines that count, the others being empty: without comments, and without the modules of unit tests.
fn code(text: &str) -> String {
    let mut lines = Vec::new();
    let (mut before, mut is_in_tests) = ("", false);
    for line in text.lines() {
        // `mod tests;` names another file, and what stands behind it counts.
        is_in_tests |= before == "#[cfg(test)]" && line.contains("mod ") && line.ends_with('{');
        // What only the documentation names is not used.
        let counts = !is_in_tests && before != "#[cfg(doc)]";
        lines.push(if counts { line.split("//").next().unwrap_or_default() } else { "" });
        is_in_tests &= line != "}";
        before = line;
    }
    lines.join("\n")
}

fn ends_in_word(text: &str, word: &str) -> bool {
    text.strip_suffix(word).is_some_and(|before| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// Reads `a::{b, c as d}` after `prefix`: pairs of a path and its name here. Gives the text behind it.
fn tree<'t>(text: &'t str, prefix: &str, paths: &mut Vec<(String, String)>) -> &'t str {
    let text = text.trim_start();
    if let Some(mut inside) = text.strip_prefix('{') {
        loop {
            inside = inside.trim_start().trim_start_matches(',').trim_start();
            if let Some(after) = inside.strip_prefix('}') {
                return after;
            }
            let after = tree(inside, prefix, paths);
            if after.len() == inside.len() {
                return after;
            }
            inside = after;
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    if let Some(deeper) = after.strip_prefix("::") {
        return tree(deeper, &format!("{prefix}{word}::"), paths);
    }
    let (name, after) = match after.strip_prefix(" as ") {
        Some(renamed) => renamed.split_at(renamed.find([',', ';', '}', ' ']).unwrap_or(renamed.len())),
        None => (word, after),
    };
    let path = format!("{prefix}{word}");
    paths.push((path.strip_suffix("::self").unwrap_or(&path).to_owned(), name.to_owned()));
    after
}

#[test]
fn every_file_belongs_to_a_layer() {
    let sources = Sources::of_the_host();
    assert!(sources.0.len() > 80, "the sources are found");
    let strays: Vec<_> =
        sources.0.iter().filter(|(module, _)| !module.is_empty() && row(layer(module)).is_none()).collect();
    assert!(
        strays.is_empty(),
        "no row of LAYERS has {:?}",
        strays.iter().map(|(_, s)| &s.file).collect::<Vec<_>>()
    );
}

#[test]
fn no_file_uses_a_layer_above_its_own() {
    let up = Sources::of_the_host().going_up();
    assert!(up.is_empty(), "{up:#?}");
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let circles = Sources::of_the_host().circles();
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn the_page_on_the_architecture_has_the_layers_in_this_order() {
    let page = include_str!("../host/docs/architecture.md");
    let (_, picture) = page.split_once("## The layers\n").unwrap();
    let picture = picture.split("```").nth(1).unwrap();
    let first_words: Vec<&str> =
        picture.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()).collect();
    let shown: Vec<usize> = first_words.iter().filter_map(|word| row(word.trim_end_matches('/'))).collect();
    let names: usize = LAYERS.iter().map(|row| row.len()).sum();
    assert_eq!(shown.len(), names, "each layer begins a line: {first_words:?}");
    assert!(shown.is_sorted(), "{first_words:?}");
}

#[test]
fn an_arrow_that_goes_up_is_told_with_its_file_and_line() {
    let up = |file, text| {
        Sources::of_texts(&[("error.rs", ""), ("module/mod.rs", ""), ("pool/job.rs", ""), (file, text)])
            .going_up()
    };
    assert_eq!(
        up("spec/a.rs", "//! crate::error\n\nuse crate::error::X;"),
        ["host/src/spec/a.rs:3 uses error"]
    );
    assert_eq!(
        up("spec/a.rs", "fn f() {\n    crate::pool::job::push()\n}"),
        ["host/src/spec/a.rs:2 uses pool::job"]
    );
    assert_eq!(
        up("spec/a.rs", "use super::super::module::{self, Module};"),
        ["host/src/spec/a.rs:1 uses module"; 2]
    );
    assert_eq!(up("process/a.rs", "use crate::pool::job::Job;"), ["host/src/process/a.rs:1 uses pool::job"]);
    assert_eq!(up("target.rs", "use crate::{error::X, module::Y};"), [""; 0]);
    assert_eq!(up("spec/a.rs", "#[cfg(test)]\nmod tests {\n    use crate::error::X;\n}"), [""; 0]);
    // Behind unit tests, in another file or in this one.
    let told = ["host/src/spec/a.rs:4 uses error"];
    assert_eq!(up("spec/a.rs", "#[cfg(test)]\nmod tests;\n\nuse crate::error::X;"), told);
    assert_eq!(up("spec/a.rs", "#[cfg(test)]\nmod tests {\n}\nuse crate::error::X;"), told);
    // A public name of an upper layer is an arrow, but for those in the table.
    assert_eq!(up("spec/a.rs", "pub use crate::error::X;"), ["host/src/spec/a.rs:1 uses error"]);
    assert_eq!(up("spec/a.rs", "pub use super::super::error::X;"), ["host/src/spec/a.rs:1 uses error"]);
    assert_eq!(up("sandbox/mod.rs", "pub use crate::error::X;"), ["host/src/sandbox/mod.rs:1 uses error"]);
    assert_eq!(up("sandbox/mod.rs", "pub use crate::doctor::doctor;"), [""; 0]);
}

#[test]
fn a_circle_is_found_through_the_file_that_passes_a_name_on() {
    let circles = |a, b| {
        Sources::of_texts(&[
            ("pool/mod.rs", "pub(crate) use self::a::A;\npub use self::b::B as C;"),
            ("pool/a.rs", a),
            ("pool/b.rs", b),
        ])
        .circles()
    };
    assert_eq!(circles("use super::C;", "use super::b;"), [[""; 0]; 0]);
    assert_eq!(circles("use super::C;", "use super::A;"), [["host/src/pool/a.rs", "host/src/pool/b.rs"]]);
    assert_eq!(
        circles("use super::b::B;", "fn f() -> crate::pool::a::A {}"),
        [["host/src/pool/a.rs", "host/src/pool/b.rs"]]
    );
}
