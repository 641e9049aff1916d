//! `cargo guests check`: compares the checked-in components with a fresh build of their sources.
//!
//! The comparison is of exports and results. The bytes differ from one toolchain to another.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::examples::{Example, Examples};
use crate::{json, prebuilt};

/// Compares each guest and prints a line about it. `true` if all are equal.
pub(crate) fn check(root: &Path, examples: &Examples, wpool: &Path) -> Result<bool> {
    let wpool =
        std::path::absolute(wpool).with_context(|| format!("no absolute path of {}", wpool.display()))?;
    let mut equal = every_component_has_a_source(root, examples)?;
    for example in &examples.all {
        let differences = compare(root, examples, example, &wpool)
            .with_context(|| format!("cannot compare the components of the guest `{}`", example.name))?;
        let verdict = if differences.is_empty() { "equal" } else { "DIFFERENT" };
        println!("{:>9}  {}", verdict, example.name);
        differences.iter().for_each(|line| println!("           {line}"));
        equal &= differences.is_empty();
    }
    if !equal {
        println!("`cargo guests update` replaces the checked-in components by those of the fresh build");
    }
    Ok(equal)
}

/// Prints a line about each checked-in component whose source has been removed. `true` if there is none.
fn every_component_has_a_source(root: &Path, examples: &Examples) -> Result<bool> {
    let has_source =
        |path: &Path| examples.all.iter().any(|example| path.file_stem() == Some(OsStr::new(&example.name)));
    let mut paths = prebuilt::checked_in(root)?;
    paths.retain(|path| !has_source(path));
    for path in &paths {
        println!("DIFFERENT  {} has no source in guest/examples", path.display());
    }
    Ok(paths.is_empty())
}

/// The lines in which the checked-in component of a guest and the fresh one differ.
fn compare(root: &Path, examples: &Examples, example: &Example, wpool: &Path) -> Result<Vec<String>> {
    let old = prebuilt::component(root, example);
    if !old.exists() {
        return Ok(vec![format!("{} is missing", old.display())]);
    }
    let new = examples.component(example);
    let mut lines = differences("exports", &exports(wpool, &old)?, &exports(wpool, &new)?);
    // Without samples the exports are all that can be compared.
    let samples = examples.samples(example);
    if samples.exists() {
        lines.extend(differences(
            "results",
            &results(wpool, &old, &samples)?,
            &results(wpool, &new, &samples)?,
        ));
    }
    Ok(lines)
}

/// The exports that `wpool inspect --json` lists for the component, one a line.
fn exports(wpool: &Path, component: &Path) -> Result<String> {
    let (output, code) = run(Command::new(wpool).arg("inspect").arg(component).arg("--json"))?;
    ensure!(code == Some(0), "`wpool inspect` failed for {}", component.display());
    let exports = json::elements(&output, "exports")
        .with_context(|| format!("`wpool inspect --json` lists no exports of {}", component.display()))?;
    Ok(exports.join("\n"))
}

/// The output of `wpool map`, and its exit code. One worker does all tasks: then the workers' names in the
/// results are the same in each run.
fn results(wpool: &Path, component: &Path, samples: &Path) -> Result<String> {
    let (output, code) = run(Command::new(wpool).arg("map").arg(component).arg(samples).args(["-j", "1"]))?;
    let code = code.map_or_else(|| "by a signal".to_owned(), |code| code.to_string());
    Ok(format!("{}\nexit {code}", mask_process_ids(output.trim_end_matches('\n'))))
}

/// What the command writes to stdout, and its exit code. `None` as the code: a signal has ended it.
fn run(command: &mut Command) -> Result<(String, Option<i32>)> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let code = output.status.code();
    // 1 is a map with failed tasks, which is what some samples are for. Any other code needs its explanation.
    if !matches!(code, Some(0 | 1)) {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), code))
}

/// Replaces each `(process 4711)` by `(process ..)`: process ids differ from run to run.
fn mask_process_ids(text: &str) -> String {
    const BEFORE: &str = "(process ";
    let mut parts = text.split(BEFORE);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|digit: char| digit.is_ascii_digit());
        masked = masked + BEFORE + ".." + rest;
    }
    masked
}

/// Compares the texts line by line. Each difference gives the line of `old`, then that of `new`.
fn differences(what: &str, old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let mut lines = Vec::new();
    for at in 0..old.len().max(new.len()) {
        let (old, new) = (old.get(at), new.get(at));
        if old != new {
            lines.extend(old.map(|line| format!("{what}, prebuilt: {line}")));
            lines.extend(new.map(|line| format!("{what}, fresh:    {line}")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_ids_are_masked() {
        let text = "hello Ada from PoolWorker-1 (process 4711)\nhello Bob from PoolWorker-1 (process 12)";
        let masked = "hello Ada from PoolWorker-1 (process ..)\nhello Bob from PoolWorker-1 (process ..)";
        assert_eq!(mask_process_ids(text), masked);
        assert_eq!(mask_process_ids("no process 4"), "no process 4");
    }

    #[test]
    fn only_lines_that_differ_are_shown() {
        assert!(differences("results", "a\nb", "a\nb").is_empty());
        assert_eq!(
            differences("results", "a\nb", "a\nc\nd"),
            ["results, prebuilt: b", "results, fresh:    c", "results, fresh:    d"]
        );
    }
}
