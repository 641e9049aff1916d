//! Flags of the subcommands that run one task: `call` and `run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::guest::{GrantArgs, LimitArgs, ProfileArgs, ShareArgs, TargetArgs, WorkerArgs};
use super::module::{LoadArgs, ModuleArgs};

pub(super) const RUN_EXAMPLES: &str = "\
Examples:
  wpool run command.wasm one --two
  wpool run --dir . command.wasm --input data.txt      the guest has the directory, and two arguments
  wpool run --input data.txt command.wasm
  wpool run --func scale --arg 7 --arg 2.5 module.wasm

Exit codes:
  the guest's own code, its low eight bits, if the guest ended by itself; 1 if a component's command
  failed, a function returned an error, or the guest reached a limit other than time
  124    the guest reached its time limit
  125    wpool itself failed
  126    the module is refused
  127    there is no such module file, or no such function
  134    the guest trapped
  128+N  signal N killed the process
  2      wrong usage, or the input (--input) cannot be read or is over its limit

Signals: the first Ctrl-C asks the guest to stop. A guest that does not stop within the grace
(--grace, at most 2 s) is ended. SIGTERM ends the guest at once. A second signal ends everything at
once. Ctrl-Z stops the process too; the time until wpool is continued counts for no time limit.";

#[derive(Debug, Args)]
pub(in crate::cli) struct CallArgs {
    #[command(flatten)]
    pub(in crate::cli) module: ModuleArgs,

    /// The call, with arguments in WAVE: 'scale(7, 2.5)'; a name alone is a call without arguments
    #[arg(conflicts_with = "func")]
    pub(in crate::cli) call: Option<String>,

    #[command(flatten)]
    pub(in crate::cli) target: TargetArgs,

    #[command(flatten)]
    pub(in crate::cli) worker: WorkerArgs,

    #[command(flatten)]
    pub(in crate::cli) profile: ProfileArgs,

    #[command(flatten)]
    pub(in crate::cli) grants: GrantArgs,

    #[command(flatten)]
    pub(in crate::cli) shared: ShareArgs,

    #[command(flatten)]
    pub(in crate::cli) limits: LimitArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RunArgs {
    /// The module (a component, a core module, or the .wat text of either), then the arguments of its command
    ///
    /// wpool's own options come before the module. Everything after it belongs to the guest, options
    /// included. One `--` directly after the module is left out.
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_name = "MODULE [ARGS]")]
    pub(in crate::cli) command: Vec<OsString>,

    #[command(flatten)]
    pub(in crate::cli) load: LoadArgs,

    #[command(flatten)]
    pub(in crate::cli) target: TargetArgs,

    /// A file for the command's standard input, or the function's free parameter; `-` is standard input
    ///
    /// Without this option the input is standard input, unless that is a terminal. A command reads standard
    /// input piece by piece, as it asks for it. For a function, or from a file, wpool reads the whole input
    /// before the process starts. In a shell's `while read` loop, a command that reads takes the loop's
    /// input, as any program does; `< /dev/null` prevents that.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) input: Option<PathBuf>,

    /// The process's name, which the guest can ask for [default: Process-1]
    #[arg(long)]
    pub(in crate::cli) name: Option<String>,

    #[command(flatten)]
    pub(in crate::cli) worker: WorkerArgs,

    #[command(flatten)]
    pub(in crate::cli) profile: ProfileArgs,

    #[command(flatten)]
    pub(in crate::cli) grants: GrantArgs,

    #[command(flatten)]
    pub(in crate::cli) shared: ShareArgs,

    #[command(flatten)]
    pub(in crate::cli) limits: LimitArgs,
}
