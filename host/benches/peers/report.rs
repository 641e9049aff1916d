//! The tables, in Markdown.

use super::measure::{Measured, Results, figures};
use super::targets;

/// The table of a workload. A last column is there only if a contender has a figure for it.
pub(crate) fn workload(measured: &Measured<'_>) -> String {
    let workload = &measured.workload;
    let has_ideal = workload.contenders.iter().any(|contender| contender.ideal.is_some());
    let baseline = workload.contenders.iter().zip(&measured.figures);
    let baseline = baseline.filter(|(contender, _)| contender.name == workload.baseline);
    let baseline =
        baseline.filter_map(|(_, figures)| figures.as_ref().ok()).map(|figures| figures.median).next();
    let mut head =
        vec!["contender".to_owned(), workload.unit.title().to_owned(), "spread".to_owned(), "x".to_owned()];
    head.extend(workload.second.map(|(title, _)| title.to_owned()));
    head.extend(has_ideal.then(|| "of the ideal".to_owned()));
    let rows = workload.contenders.iter().zip(&measured.figures).map(|(contender, figures)| {
        let mut row = vec![contender.name.clone()];
        match figures {
            Err(why) => row.push(format!("failed: {why}")),
            Ok(found) => {
                let ratio = baseline.map(|baseline| figures_of_ratio(baseline / found.median));
                row.push(workload.unit.show(found.median));
                row.push(format!("{:.0} %", 100.0 * found.spread));
                row.push(ratio.unwrap_or_else(|| "-".to_owned()));
                let second =
                    workload.second.map(|(_, unit)| found.second.map_or("-".to_owned(), |v| unit.show(v)));
                row.extend(second);
                let share = has_ideal
                    .then(|| found.ideal.map_or("-".to_owned(), |v| format!("{:.2}", v / found.median)));
                row.extend(share);
            }
        }
        row
    });
    let mut lines = vec![format!("### {}: {}\n", workload.id, workload.title)];
    lines.extend(table(&head, rows));
    lines.join("\n") + "\n"
}

fn figures_of_ratio(ratio: f64) -> String {
    if ratio < 0.1 { format!("{ratio:.4}") } else { figures(ratio) }
}

/// The lines of a table. The first column is text, the others are figures.
pub(crate) fn table(head: &[String], rows: impl Iterator<Item = Vec<String>>) -> Vec<String> {
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let mut rule = vec!["---"];
    rule.resize(head.len(), "---:");
    let mut lines = vec![line(head), format!("|{}|", rule.join("|"))];
    lines.extend(rows.map(|row| line(&row)));
    lines
}

pub(crate) fn targets(results: &Results) -> String {
    let mut lines = vec!["### Targets\n".to_owned()];
    lines.extend(targets::caution().map(|caution| caution + "\n"));
    lines.push("| # | what | target | stretch | here | |".to_owned());
    lines.push("|---|---|---:|---:|---:|---|".to_owned());
    lines.extend(targets::targets(results).iter().map(targets::Target::row));
    lines.join("\n") + "\n"
}
