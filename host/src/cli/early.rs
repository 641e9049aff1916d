//! The fork server of `wpool map` and `wpool call`, started before the flags are read. To read them takes
//! about as long as the start of a process, and both go on at the same time.

use std::ffi::OsString;

use crate::context::Early;
use crate::spec::Sandbox;

/// Arguments by which a command may start no fork server, or one with other confinement. An argument that only
/// looks like one costs the time that would be saved.
const OTHERS: [&str; 8] =
    ["-h", "--help", "--sandbox", "--start-method", "--threads", "--profile", "--dry-run", "--version"];

/// Starts the fork server if the arguments look as if it is needed, with the default confinement.
/// [`ModuleLoader::start_early`](crate::ModuleLoader::start_early) takes it if that was right. Otherwise it
/// ends as soon as this is dropped.
pub(super) fn start(args: &[OsString]) -> Option<Early> {
    let has_sandbox = std::env::var_os("WPOOL_SANDBOX").is_some_and(|value| !value.is_empty());
    (is_likely(args) && !has_sandbox).then(|| Early::start_with(Sandbox::default())).flatten()
}

fn is_likely(args: &[OsString]) -> bool {
    let (command, rest) = (args.get(1), args.get(2..).unwrap_or_default());
    let is_other =
        |arg: &OsString| OTHERS.iter().any(|other| arg.as_encoded_bytes().starts_with(other.as_bytes()));
    command.is_some_and(|command| command == "map" || command == "call")
        && !rest.is_empty()
        && !rest.iter().any(is_other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_server_is_likely_with_a_module_and_without_flags_that_want_none_or_another() {
        let is_likely = |line: &str| is_likely(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for line in ["wpool map a.wasm b -j 5", "wpool call a.wasm f()", "wpool map -q a.wasm"] {
            assert!(is_likely(line), "{line}");
        }
        for line in [
            "wpool",
            "wpool map",
            "wpool -q map a.wasm",
            "wpool inspect a.wasm",
            "wpool map a.wasm --sandbox off",
            "wpool map a.wasm --sandbox=off",
            "wpool call a.wasm --threads",
            "wpool map a.wasm --start-method spawn",
            "wpool map a.wasm --help",
        ] {
            assert!(!is_likely(line), "{line}");
        }
    }
}
