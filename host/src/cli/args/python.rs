//! Flags of `wpool python`: a script or its code, and all options of `map`.

use std::path::PathBuf;

use clap::Args;

use super::map::MapOptions;
use super::module::LoadArgs;

pub(super) const EXAMPLES: &str = "\
Examples:
  wpool python script.py                          the script as a program
  wpool python -c 'print(1 + 1)'
  wpool python script.py inputs.txt               each line through its function run
  wpool python script.py inputs.txt --func scale --kw factor=2.5 -j 5
  wpool python judge.py --items 1 2 3             without a function: the script for each item

With --func, or if the script defines a function `run`, the function is called for each record. The record
is the text of the parameter that --arg and --kw leave: an int, a float, a bool or bytes if it is annotated
so, else a str. Several parameters that are left take a JSON array, or an object by name (--input-format
json: one parameter takes JSON too). Texts of --arg and --kw are read in the same way; without an
annotation they are JSON, or else a str. A str and bytes are the result as they are, everything else is
written as JSON.

Without a function, the script is a program: for each record, which is its standard input, and whose result
is its standard output; without INPUTS and --items once, with the standard input of wpool.

Fresh tasks (the default) run the script for each record. With --reuse each worker runs it once, and its
functions keep their state.

Options are those of `wpool map`, and so are the exit codes. A program that runs once ends with its own
code, as in `wpool run`. Tasks have --stack 32M and --net none unless you give others.

The guest `python` is the file that WPOOL_PYTHON names, or python.wasm in $XDG_DATA_HOME/wpool (by default
~/.local/share/wpool), beside wpool, in ../share/wpool or in ../python from there. In the repository of
wpool, `cargo guests build python` makes it as target/python/python.wasm.";

#[derive(Debug, Args)]
#[command(
    mut_arg("func", |arg| arg
        .help("The function of the script that is called for each record [default: run, if it defines one]")
        .long_help(None)),
    mut_arg("args", |arg| arg
        .help("The next positional argument of the function: JSON, or a text; as its annotation says")
        .long_help(None)),
    mut_arg("kwargs", |arg| arg.help("An argument by its parameter's name").long_help(None)),
    mut_arg("input_format", |arg| arg
        .help("The form of records: auto, by the function's annotation; raw, bytes; json")
        .long_help(None)),
    mut_arg("output_format", |arg| arg
        .help("The form of results: auto, str and bytes as they are, else JSON; raw; json, always JSON")
        .long_help(None)),
    mut_arg("init", |arg| arg.hide(true)),
    mut_arg("init_args", |arg| arg.hide(true)),
    mut_arg("as_args", |arg| arg.hide(true)),
    mut_arg("ok_exit", |arg| arg.hide(true)),
)]
pub(in crate::cli) struct PythonArgs {
    /// The script; with -c, there is none, and all files are inputs
    #[arg(required_unless_present = "code", value_name = "SCRIPT")]
    pub(in crate::cli) script: Option<PathBuf>,

    /// Python code, instead of a script
    #[arg(short = 'c', value_name = "CODE", allow_hyphen_values = true, help_heading = "What to run")]
    pub(in crate::cli) code: Option<String>,

    #[command(flatten)]
    pub(in crate::cli) load: LoadArgs,

    #[command(flatten)]
    pub(in crate::cli) options: MapOptions,
}
