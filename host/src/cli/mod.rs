//! The command line: flags become settings, settings one library call, and its outcome text and an exit code.
//!
//! ```text
//!   args ──▶ settings ──▶ map | call | run | inspect | compile | cache | report | doctor ──▶ exit
//!                          input ▲   ▼ output (stdout: data)   report (stderr: talk)
//! ```
//!
//! Nothing here does what an embedder could not do with the library.

mod args;
mod cache;
mod call;
mod compile;
mod doctor;
mod exit;
mod failures;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod input;
mod inspect;
mod joblog;
mod labels;
mod map;
mod output;
mod parse;
mod profile;
mod report;
mod run;
mod settings;
mod signals;
mod stdio;
mod tally;
mod time;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches};

use self::args::{Cli, Command, Generate};
use self::exit::{Exit, Failure};
use self::report::Report;
use crate::escape::{ForTerminal, is_plain, list};

/// The `wpool` program, after [`init`](crate::init).
///
/// Descriptors 0 to 2 are open here even if the caller had closed them: Rust's start-up code opens `/dev/null` in their place, so that no
/// file or socket of ours is ever taken for the standard streams. See [`stdio::close_again`].
#[doc(hidden)]
pub fn main() -> ExitCode {
    crate::sys::keep_freed_memory();
    std::panic::set_hook(Box::new(|panic| {
        let text = format!(
            "wpool: internal error, please report it: {}\n",
            crate::escape::shortened(&panic.to_string())
        );
        stdio::say(text.as_bytes());
    }));
    let _known_signal = crate::sys::outlive_large_files();
    // Whoever blocked them did not mean our way to end in good order.
    let _valid_mask = crate::sys::unblock_signals();
    // Ignored, it would keep from us how our processes end.
    let _known_signal = crate::sys::hear_of_children();
    stdio::close_again();
    let exit = std::panic::catch_unwind(run).unwrap_or(Exit::Own);
    match exit {
        Exit::Signal(signal) => signals::die_of(signal),
        exit => ExitCode::from(exit.code()),
    }
}

fn run() -> Exit {
    let args: Vec<OsString> = std::env::args_os().collect();
    let exit = run_with(&args);
    if counts_failures(&args) { exit.beside_counts() } else { exit }
}

fn run_with(args: &[OsString]) -> Exit {
    let color = color_choice(args);
    let matches = without_empty_variables(Cli::command()).color(color).try_get_matches_from(args);
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(e) => return exit_of_clap(&e, args),
    };
    let report = Report::new(&cli.talk);
    let done = match (cli.generate, cli.command) {
        (Some(kind), _) => generate(kind),
        (None, Some(command)) => {
            let done = dispatch(command, &report);
            // At the end, when the processes have told; each command's report shows a bar of its own until then.
            warn_of_unenforced(&report);
            done
        }
        (None, None) => {
            stdio::say(Cli::command().render_help().to_string().as_bytes());
            return Exit::Usage;
        }
    };
    done.unwrap_or_else(|Failure { exit, message }| {
        if !message.is_empty() {
            report.error(&message);
        }
        exit
    })
}

/// A variable that is set to nothing is not set, as everywhere on Unix.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        arg.get_env().is_some_and(|name| std::env::var_os(name).is_some_and(|v| v.is_empty()))
    };
    let unset = |arg: clap::Arg| if is_empty(&arg) { arg.env(None::<&'static str>) } else { arg };
    command.mut_args(unset).mut_subcommands(without_empty_variables)
}

fn dispatch(command: Command, report: &Report) -> Result<Exit, Failure> {
    match command {
        Command::Map(args) => map::run(&args, report),
        Command::Call(args) => call::run(&args, report),
        Command::Run(args) => run::run(&args, report),
        Command::Inspect(args) => inspect::run(&args, report),
        Command::Compile(args) => compile::run(&args, report),
        Command::Cache(args) => cache::run(&args, report),
        Command::Report(args) => joblog::report(&args.log),
        Command::Doctor(args) => doctor::run(&args),
    }
}

/// One line, however many processes have said so.
fn warn_of_unenforced(report: &Report) {
    let steps: Vec<String> = crate::context::unenforced().iter().map(ToString::to_string).collect();
    if !steps.is_empty() {
        report.warn(&format!("not enforced in worker processes: {}", list(&steps, "; ")));
    }
}

/// Help and version go to stdout and are a success; a wrong command line is told on stderr.
fn exit_of_clap(error: &clap::Error, args: &[OsString]) -> Exit {
    if error.exit_code() == 0 && crate::sys::was_stdout_closed() {
        // What prints it takes a closed stream for a success.
        stdio::say(b"wpool: cannot write output: it is closed\n");
        return Exit::Io;
    }
    let is_ours = args.iter().all(|arg| arg.to_string_lossy().chars().all(is_plain));
    let printed = match error.exit_code() == 0 || is_ours {
        true => error.print(),
        // A stranger's file name may have become an option, and clap takes escapes for its own colors: without any, then.
        false => {
            stdio::say(&ForTerminal::default().show(error.to_string().as_bytes()));
            Ok(())
        }
    };
    match (printed, error.exit_code()) {
        (Err(e), 0) if e.kind() == std::io::ErrorKind::BrokenPipe => Exit::Signal(libc::SIGPIPE),
        (Err(_), 0) => Exit::Io,
        (Ok(()), 0) => Exit::Success,
        _ => Exit::Usage,
    }
}

/// clap needs to know before it parses. Its `Auto` heeds `NO_COLOR`, `CLICOLOR_FORCE`, `TERM` and whether there is a terminal, as we do.
fn color_choice(args: &[OsString]) -> ColorChoice {
    match last_given(args, "--color") {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// Whether the exit code is a number of failed tasks. A wrong command line has an exit code too, so that this is seen
/// before the options are parsed.
fn counts_failures(args: &[OsString]) -> bool {
    args.get(1).is_some_and(|command| command == "map") && last_given(args, "--exit-code") == Some("count")
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

/// Man pages and completions are made from the options themselves, so that they cannot lag behind.
fn generate(kind: Generate) -> Result<Exit, Failure> {
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
fn man(mut command: clap::Command, text: &mut Vec<u8>) -> Result<(), Failure> {
    command.build();
    let subcommands: Vec<clap::Command> =
        command.get_subcommands().filter(|c| c.get_name() != "help").cloned().collect();
    for page in std::iter::once(command).chain(subcommands) {
        let name = page.get_display_name().unwrap_or(page.get_name()).to_owned();
        clap_mangen::Man::new(page).title(name).render(text).map_err(Failure::output)?;
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
