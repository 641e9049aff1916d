//! The command line: flags become settings, settings become one library call, and its outcome becomes text
//! and an exit code. Nothing here does what an embedder could not do with the library.
//!
//! A module uses the modules below it, and no others:
//!
//! ```text
//!   python                                               map or run, with the guest `python`
//!   map  call  run  inspect  project  compile  cache  doctor   the subcommands
//!   settings                                             what the flags mean together
//!   shares                                               the objects that guests share, and their files
//!   joblog  failures  tally  profile                     what a run keeps and reports
//!   output  jsonl  input  labels  time                   stdout; records and their names
//!   report  signals                                      stderr; signals
//!   args                                                 the flags as they are typed
//!   exit  parse  record                                  exit codes; values of flags; a logged record
//!   choices  stdio  decimal                              the values of flags as types; the standard streams
//!   early                                                a process that is started before the flags are read
//! ```

mod args;
mod cache;
mod call;
mod choices;
mod compile;
mod doctor;
mod early;
mod exit;
mod failures;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod input;
mod inspect;
mod joblog;
mod jsonl;
mod labels;
mod map;
mod output;
mod parse;
mod profile;
mod project;
mod python;
mod record;
mod report;
mod run;
mod settings;
mod shares;
mod signals;
mod stdio;
mod tally;
mod time;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ColorChoice, CommandFactory, FromArgMatches};

use self::args::{Cli, CliCommand};
use self::choices::Generate;
use self::exit::{CliError, WpoolExit};
use self::report::Report;
use self::settings::MapSettings;
use crate::context::Early;
use crate::escape::{ForTerminal, is_plain, list};

/// Bytes to which the stack of the first thread may grow: what Linux gives by default.
const STACK: u64 = 8 << 20;

/// The least that the program and the guests of its workers need.
const STACK_MIN: u64 = 256 << 10;

/// The `wpool` program, after [`init`](crate::init).
///
/// Descriptors 0 to 2 are open here even if the caller had closed them. Rust's start-up code opens
/// `/dev/null` in their place, so a file or socket of ours never takes the number of a standard stream. See
/// [`stdio::close_again`].
#[doc(hidden)]
pub fn main() -> ExitCode {
    // Before the calls with large frames: a stack that cannot grow ends the program without a word.
    match crate::sys::raise_stack_limit(STACK) {
        Some(has) if has < STACK_MIN => {
            let (has, needed) = (has >> 10, STACK_MIN >> 10);
            let text =
                format!("wpool: the stack may have {has} KiB (ulimit -s), and {needed} KiB are needed\n");
            stdio::say(text.as_bytes());
            ExitCode::from(WpoolExit::Broken.code())
        }
        Some(_) | None => with_stack(),
    }
}

/// As [`main`], with a stack that is large enough. Not part of it, because its frame needs that stack.
#[inline(never)]
fn with_stack() -> ExitCode {
    crate::sys::keep_freed_memory();
    std::panic::set_hook(Box::new(|panic| {
        let text = format!(
            "wpool: internal error, please report it: {}\n",
            crate::escape::shortened(&panic.to_string())
        );
        stdio::say(text.as_bytes());
    }));
    let _known_signal = crate::sys::outlive_large_files();
    // A caller may have blocked signals for itself. Here they must arrive, so that wpool can end in good
    // order.
    let _valid_mask = crate::sys::unblock_signals();
    // If SIGCHLD were ignored, the kernel would not keep the exit codes of our processes.
    let _known_signal = crate::sys::hear_of_children();
    // As the caller wanted it: a write to a stream that was closed must be an error, not vanish in /dev/null.
    stdio::close_again();
    // A code of its own for a bug, which scripts can tell from failed tasks. Without the catch it would be
    // Rust's 101.
    let exit = std::panic::catch_unwind(run).unwrap_or(WpoolExit::Own);
    match exit {
        WpoolExit::Signal(signal) => signals::die_of(signal),
        exit => ExitCode::from(exit.code()),
    }
}

fn run() -> WpoolExit {
    let args: Vec<OsString> = std::env::args_os().collect();
    let exit = run_with(&args);
    if counts_failures(&args) { exit.beside_counts() } else { exit }
}

fn run_with(args: &[OsString]) -> WpoolExit {
    let early = early::start(args);
    let color = color_choice(args);
    let matches = without_empty_variables(Cli::command()).color(color).try_get_matches_from(args);
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(e) => return exit_of_clap(&with_whole_usage(e, args), args),
    };
    let report = Report::new(cli.talk.quiet, cli.talk.verbose, cli.talk.color);
    let done = match (cli.generate, cli.command) {
        (Some(kind), _) => generate(kind),
        (None, Some(command)) => {
            let done = dispatch(command, early, &report);
            // At the end, when all processes have reported, and no progress bar is drawn any more.
            warn_of_unenforced(&report);
            done
        }
        (None, None) => {
            stdio::say(Cli::command().render_help().to_string().as_bytes());
            return WpoolExit::Usage;
        }
    };
    done.unwrap_or_else(|failure| {
        if failure.has_message() {
            report.error(&failure.to_string());
        }
        failure.exit
    })
}

/// An environment variable with an empty value counts as not set, as is usual on Unix.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        arg.get_env().is_some_and(|name| std::env::var_os(name).is_some_and(|v| v.is_empty()))
    };
    let unset = |arg: clap::Arg| if is_empty(&arg) { arg.env(None::<&'static str>) } else { arg };
    command.mut_args(unset).mut_subcommands(without_empty_variables)
}

fn dispatch(command: CliCommand, early: Option<Early>, report: &Report) -> Result<WpoolExit, CliError> {
    match command {
        CliCommand::Map(args) => map::run(&MapSettings::resolve(*args, early)?, report),
        CliCommand::Python(args) => python::run(*args, report),
        CliCommand::Call(args) => call::run(&args, early, report),
        CliCommand::Run(args) => run::run(&args, report),
        CliCommand::Inspect(args) => inspect::run(&args, report),
        CliCommand::New(args) => project::new(&args),
        CliCommand::Build(args) => project::build(&args, report),
        CliCommand::Compile(args) => compile::run(&args, report),
        CliCommand::Cache(args) => cache::run(&args, report),
        CliCommand::Report(args) => joblog::report(&args.log),
        CliCommand::Doctor(args) => doctor::run(&args),
    }
}

/// Warns once of the steps that some process could not enforce.
fn warn_of_unenforced(report: &Report) {
    let steps: Vec<String> = crate::context::unenforced().iter().map(ToString::to_string).collect();
    if !steps.is_empty() {
        report.warn(&format!("not enforced in worker processes: {}", list(&steps, "; ")));
    }
}

/// Help and version go to stdout and are a success; a wrong command line is told on stderr.
fn exit_of_clap(error: &clap::Error, args: &[OsString]) -> WpoolExit {
    if error.exit_code() == 0 && crate::sys::was_stdout_closed() {
        // clap would take the closed stream for a success.
        stdio::say(b"wpool: cannot write output: it is closed\n");
        return WpoolExit::Io;
    }
    let is_ours = args.iter().all(|arg| arg.to_string_lossy().chars().all(is_plain));
    let printed = if error.exit_code() == 0 || is_ours {
        error.print()
    } else {
        // A file name with escapes may stand where an option is expected. clap would pass them on as its own
        // colours, so the text goes out escaped and without colours.
        stdio::say(&ForTerminal::default().show(error.to_string().as_bytes()));
        Ok(())
    };
    match (printed, error.exit_code()) {
        // `wpool --help | head` must end as other programs do there.
        (Err(e), 0) if e.kind() == std::io::ErrorKind::BrokenPipe => WpoolExit::Signal(libc::SIGPIPE),
        (Err(_), 0) => WpoolExit::Io,
        (Ok(()), 0) => WpoolExit::Success,
        _ => WpoolExit::Usage,
    }
}

/// An unknown argument with the whole usage of its command. clap shows the options that it guesses or that
/// were given, as if they were required.
fn with_whole_usage(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    if error.kind() == ErrorKind::UnknownArgument {
        let mut command = Cli::command();
        command.build();
        let name = args.iter().skip(1).find(|arg| command.find_subcommand(arg).is_some());
        if let Some(command) = name.and_then(|name| command.find_subcommand_mut(name)) {
            let usage = ContextValue::StyledStr(command.render_usage());
            error.insert(ContextKind::Usage, usage);
        }
    }
    error
}

/// The value of `--color` for clap, which needs it before it parses. Its `Auto` follows `NO_COLOR`,
/// `CLICOLOR_FORCE`, `TERM` and the terminal, as wpool does.
fn color_choice(args: &[OsString]) -> ColorChoice {
    match last_given(args, "--color") {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// Whether the exit code is a number of failed tasks. A wrong command line has an exit code too, so this
/// looks at the arguments before they are parsed.
fn counts_failures(args: &[OsString]) -> bool {
    args.get(1).is_some_and(|command| command == "map" || command == "python")
        && last_given(args, "--exit-code") == Some("count")
}

/// The value of an option as it is typed: `--option value` or `--option=value`. The last one counts.
fn last_given<'a>(args: &'a [OsString], option: &str) -> Option<&'a str> {
    let options = args.iter().take_while(|arg| *arg != "--");
    let given = options.enumerate().filter_map(|(at, arg)| match arg.to_str()?.strip_prefix(option)? {
        "" => args.get(at + 1)?.to_str(),
        value => value.strip_prefix('='),
    });
    given.last()
}

/// Man pages and completions are generated from the options, so they cannot lag behind.
fn generate(kind: Generate) -> Result<WpoolExit, CliError> {
    let mut command = Cli::command();
    let mut text = Vec::new();
    match kind {
        Generate::Man => man(command, &mut text)?,
        Generate::CompleteBash => {
            clap_complete::generate(clap_complete::Shell::Bash, &mut command, "wpool", &mut text);
        }
        Generate::CompleteZsh => {
            clap_complete::generate(clap_complete::Shell::Zsh, &mut command, "wpool", &mut text)
        }
        Generate::CompleteFish => {
            clap_complete::generate(clap_complete::Shell::Fish, &mut command, "wpool", &mut text);
        }
    }
    output::print(&text)
}

/// One document: the program's page, then one for each subcommand.
fn man(mut command: clap::Command, text: &mut Vec<u8>) -> Result<(), CliError> {
    command.build();
    let subcommands: Vec<clap::Command> =
        command.get_subcommands().filter(|c| c.get_name() != "help").cloned().collect();
    for page in std::iter::once(command).chain(subcommands) {
        let name = page.get_display_name().unwrap_or(page.get_name()).to_owned();
        clap_mangen::Man::new(page).title(name).render(text).map_err(CliError::output)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_color_choice_is_seen_before_the_options_are_parsed() {
        let choice = |args: &[&str]| color_choice(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(choice(&["wpool", "map", "--color", "never"]), ColorChoice::Never);
        assert_eq!(choice(&["wpool", "--color=always", "map"]), ColorChoice::Always);
        assert_eq!(choice(&["wpool", "map", "--color"]), ColorChoice::Auto);
        assert_eq!(choice(&["wpool", "--color=always", "map", "--color", "never"]), ColorChoice::Never);
        assert_eq!(choice(&["wpool", "--color", "never", "map", "--color=always"]), ColorChoice::Always);
        assert_eq!(choice(&["wpool", "map", "--colors=never", "--", "--color=never"]), ColorChoice::Auto);
    }
}
