//! The panic of a Rust guest: its text becomes the message of the trap that it ends in.
//!
//! The guest prints its panic to stderr, and then executes `unreachable`. The engine only sees the latter.

use super::capture::{OutputStreams, TAIL_MAX};
use super::failure::UNREACHABLE;
use crate::protocol::message::Failure;

/// The last line of a panic. In a guest it misleads: there is no backtrace to display.
const NOTE: &str = "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";

/// What a guest that starts a thread is told.
const NO_THREADS: &str = "; a guest has no threads: what shall run at the same time are tasks of a pool";

/// The failure with the text of the panic that is the end of stderr, if it is the trap of one.
pub(super) fn explain(failure: Failure, output: &OutputStreams) -> Failure {
    let (Failure::Trap { message, backtrace }, Some(stderr)) = (&failure, &output.stderr) else {
        return failure;
    };
    if message != UNREACHABLE {
        return failure;
    }
    let tail = stderr.tail(TAIL_MAX);
    match headline(&String::from_utf8_lossy(&tail)) {
        Some(message) => {
            stderr.take_back(NOTE.as_bytes());
            Failure::Trap { message, backtrace: own_frames(backtrace) }
        }
        None => failure,
    }
}

/// The frames without those of the panic itself, which are the innermost ones: all down to the last one of
/// `core::panicking`, or of `std`'s handler.
fn own_frames(backtrace: &[String]) -> Vec<String> {
    let is_of_panic = |frame: &String| {
        ["core::panicking::", "std::panicking::", "__rustc"].iter().any(|path| frame.starts_with(path))
            || frame.contains("::unwrap_failed")
            || frame.contains("::expect_failed")
    };
    let own = backtrace.iter().rposition(is_of_panic).map_or(0, |last| last + 1);
    backtrace[own..].to_vec()
}

/// `panicked at src/lib.rs:7:5: the message`, from the last panic in this text.
fn headline(text: &str) -> Option<String> {
    const PANICKED: &str = " panicked at ";
    let thread = text.rfind("thread '").filter(|&at| at == 0 || text[..at].ends_with('\n'))?;
    let (_, panic) = text[thread..].split_once(PANICKED)?;
    let (place, message) = panic.split_once(":\n")?;
    if place.contains('\n') {
        return None;
    }
    let ends = ["\nnote: run with `RUST_BACKTRACE", "\nstack backtrace:"];
    let end = ends.iter().filter_map(|end| message.find(end)).min().unwrap_or(message.len());
    let message = message[..end].trim_end();
    // The message of `std::thread::spawn` itself says that an operation is not supported.
    let hint = if message.contains("failed to spawn thread") { NO_THREADS } else { "" };
    Some(format!("panicked at {place}: {message}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::guest::capture::Capture;

    fn trap(message: &str) -> Failure {
        let names = ["abort", "__rustc::rust_panic", "core::panicking::panic_fmt", "guest::run", "run"];
        Failure::Trap { message: message.to_owned(), backtrace: names.map(str::to_owned).to_vec() }
    }

    #[test]
    fn the_text_of_a_panic_is_the_message_of_its_trap_and_the_note_about_backtraces_is_gone() {
        let stderr = Capture::keep(1 << 10);
        let panic = "thread 'main' (1) panicked at src/lib.rs:7:5:\nno\nway\n";
        stderr.accept(format!("before\n{panic}{NOTE}").as_bytes());
        let output = OutputStreams { stdout: None, stderr: Some(stderr.clone()) };
        let Failure::Trap { message, backtrace } = explain(trap(UNREACHABLE), &output) else {
            panic!("a trap stays one")
        };
        assert_eq!(message, "panicked at src/lib.rs:7:5: no\nway");
        assert_eq!(backtrace, ["guest::run", "run"]);
        assert_eq!(stderr.take(), (format!("before\n{panic}").into_bytes(), 0));
    }

    #[test]
    fn a_panic_is_found_at_the_end_of_what_is_sent_at_once() {
        let text = "x".repeat(2 * TAIL_MAX) + "\nthread '<unnamed>' panicked at a.rs:1:2:\nagain";
        assert_eq!(headline(&text[TAIL_MAX..]).as_deref(), Some("panicked at a.rs:1:2: again"));
    }

    #[test]
    fn a_guest_that_starts_a_thread_is_told_that_there_are_none() {
        let text = "thread 'main' panicked at std/src/thread.rs:1:2:\nfailed to spawn thread: Unsupported\n";
        assert!(headline(text).unwrap().ends_with(NO_THREADS));
    }

    #[test]
    fn other_traps_and_other_texts_stay_as_they_are() {
        let said = |text: &str| {
            let stderr = Capture::keep(1 << 10);
            stderr.accept(text.as_bytes());
            OutputStreams { stdout: None, stderr: Some(stderr) }
        };
        let output = said("thread 'main' panicked at src/lib.rs:7:5:\nno\n");
        for (failure, output) in [
            (trap("integer divide by zero"), &output),
            (trap(UNREACHABLE), &said("")),
            (trap(UNREACHABLE), &said("a thread 'main' panicked at src/lib.rs:7:5:\nno\n")),
            (trap(UNREACHABLE), &OutputStreams::default()),
        ] {
            assert_eq!(explain(failure.clone(), output), failure);
        }
    }
}
