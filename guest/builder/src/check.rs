//! `cargo guests check`: whether the checked-in components still are what the sources say.
//!
//! Not by their bytes, which differ from one toolchain to another, but by what they export and by what they do.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::examples::{Example, Examples};
use crate::{json, prebuilt};

/// Compares each guest, and prints a line about it. Whether all are equal.
pub(crate) fn check(root: &Path, examples: &Examples, wpool: &Path) -> Result<bool, String> {
    let wpool = std::path::absolute(wpool).map_err(|error| error.to_string())?;
    let mut equal = no_others(root, examples)?;
    for example in &examples.all {
        let differences = compare(root, examples, example, &wpool)?;
        let verdict = if differences.is_empty() { "equal" } else { "DIFFERENT" };
        println!("{:>9}  {}", verdict, example.name);
        differences.iter().for_each(|line| println!("           {line}"));
        equal &= differences.is_empty();
    }
    if !equal {
        println!("`cargo guests update` writes the checked-in components anew");
    }
    Ok(equal)
}

/// Whether each checked-in component still has a source.
fn no_others(root: &Path, examples: &Examples) -> Result<bool, String> {
    let paths = prebuilt::checked_in(root).map_err(|error| format!("guest/prebuilt: {error}"))?;
    let has_source =
        |path: &Path| examples.all.iter().any(|example| path.file_stem() == Some(OsStr::new(&example.name)));
    let others: Vec<_> = paths.iter().filter(|path| !has_source(path)).collect();
    for path in &others {
        println!("DIFFERENT  {} has no source in guest/examples", path.display());
    }
    Ok(others.is_empty())
}

fn compare(root: &Path, examples: &Examples, example: &Example, wpool: &Path) -> Result<Vec<String>, String> {
    let old = prebuilt::component(root, example);
    if !old.exists() {
        return Ok(vec![format!("{} is missing", old.display())]);
    }
    let new = examples.component(example);
    let mut lines = differences("exports", &exports(wpool, &old)?, &exports(wpool, &new)?);
    let samples = examples.samples(example);
    if samples.exists() {
        lines.extend(differences("results", &results(wpool, &old, &samples)?, &results(wpool, &new, &samples)?));
    }
    Ok(lines)
}

/// What `wpool inspect --json` says that the component exports, one a line.
fn exports(wpool: &Path, component: &Path) -> Result<String, String> {
    let (output, code) = run(Command::new(wpool).arg("inspect").arg(component).arg("--json"))?;
    if code != Some(0) {
        return Err(format!("wpool cannot inspect {}", component.display()));
    }
    json::elements(&output, "exports")
        .map(|exports| exports.join("\n"))
        .ok_or_else(|| format!("wpool inspect --json names no exports of {}", component.display()))
}

/// What `wpool map` writes, and its exit code. With one worker, so that the workers' names are the same each time.
fn results(wpool: &Path, component: &Path, samples: &Path) -> Result<String, String> {
    let (output, code) = run(Command::new(wpool).arg("map").arg(component).arg(samples).args(["-j", "1"]))?;
    let code = code.map_or_else(|| "by a signal".to_owned(), |code| code.to_string());
    Ok(format!("{}\nexit {code}", mask_process_ids(output.trim_end_matches('\n'))))
}

fn run(command: &mut Command) -> Result<(String, Option<i32>), String> {
    let output = command.output().map_err(|error| format!("{command:?} cannot be run: {error}"))?;
    let code = output.status.code();
    if !matches!(code, Some(0 | 1)) {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), code))
}

/// `(process 4711)` as `(process ..)`.
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

/// The lines that only one of them has, at the same place.
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
    fn only_what_differs_is_shown() {
        assert!(differences("results", "a\nb", "a\nb").is_empty());
        assert_eq!(
            differences("results", "a\nb", "a\nc\nd"),
            ["results, prebuilt: b", "results, fresh:    c", "results, fresh:    d"]
        );
    }
}
