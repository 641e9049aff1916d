//! The options of the command line.

use std::collections::BTreeSet;

pub(crate) const HELP: &str = "\
wpool beside its peers, on this machine

Usage: cargo bench -p wpool --bench peers -- [OPTIONS]

      --quick            fewer tasks and rounds: a first look in about a minute
      --only W1,W5       these workloads only; --list names them
      --list             name the workloads
      --rounds N         rounds of each workload [default: 5, 3 with --quick]
      --records N        records of the workload T13 [default: 1000000]
      --scaling          the scaling tables instead: record size, task time, workers, number of records
      --all              both: what the page of the documentation has
      --python PATH      the Python of the contenders, by its absolute path [default: python3]

Tables in Markdown go to stdout, progress to stderr. Contenders that are not installed are left out.
Exit code 1 if a contender of wpool failed or had wrong results.";

/// The tables to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    Peers,
    Scaling,
    All,
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) only: BTreeSet<String>,
    pub(crate) list: bool,
    pub(crate) rounds: Option<usize>,
    pub(crate) records: Option<usize>,
    pub(crate) tables: Tables,
    pub(crate) python: Option<String>,
}

/// The options; or a text to print instead, and whether it is an error.
pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, (bool, String)> {
    let mut options = Options {
        quick: false,
        only: BTreeSet::new(),
        list: false,
        rounds: None,
        records: None,
        tables: Tables::Peers,
        python: None,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| (true, format!("{arg} needs a value")));
        let number = |text: String| match text.parse() {
            Ok(0) | Err(_) => Err((true, format!("{text} is not a number above 0"))),
            Ok(number) => Ok(Some(number)),
        };
        match arg.as_str() {
            "--quick" => options.quick = true,
            "--only" => options.only.extend(value()?.split(',').map(str::to_owned)),
            "--list" => options.list = true,
            "--rounds" => options.rounds = number(value()?)?,
            "--records" => options.records = number(value()?)?,
            "--scaling" => options.tables = Tables::Scaling,
            "--all" => options.tables = Tables::All,
            "--python" => options.python = Some(value()?),
            "-h" | "--help" => return Err((false, HELP.to_owned())),
            // `cargo bench` passes it.
            "--bench" => {}
            other => return Err((true, format!("unknown option {other}\n\n{HELP}"))),
        }
    }
    Ok(options)
}
