//! Signals, as calls in a thread of their own.
//!
//! The first `SIGINT`, `SIGTERM` or `SIGHUP` calls `on_end`, which ends the work in good order. The second
//! one ends this program at once, and so does an end that takes longer than [`GRACE`]. Workers never outlive
//! this program. `on_end` may let running work finish ([`Ending::Drains`]); then the grace does not apply.
//!
//! `SIGTSTP` (Ctrl-Z) stops the workers too, until this program is continued.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::exit::WpoolExit;
use crate::{clock, sys};

/// How long the end in good order may take. Output that is stuck in a pipe must not keep a terminated program
/// alive.
const GRACE: Duration = Duration::from_secs(2);

/// The signal that has asked for the end, if one has.
#[derive(Debug, Clone, Default)]
pub(super) struct ReceivedSignal(Arc<AtomicI32>);

impl ReceivedSignal {
    pub(super) fn get(&self) -> Option<i32> {
        Some(self.0.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
    }
}

/// How `on_end` ends the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Within the grace.
    Now,
    /// When running tasks have finished.
    Drains,
}

/// Starts the thread. It calls `on_end` for the first signal that asks for an end, `on_status` for each
/// `SIGUSR1`, and `on_progress` for each `SIGUSR2`.
///
/// `SIGINT`, `SIGHUP` and `SIGTSTP` stay ignored if they were ignored at the start: `nohup` and shells do
/// that.
pub(super) fn watch(
    on_end: impl FnOnce(i32) -> Ending + Send + 'static,
    on_status: impl Fn() + Send + 'static,
    on_progress: impl Fn() + Send + 'static,
) -> io::Result<ReceivedSignal> {
    let wanted = [SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGUSR1, SIGUSR2];
    // A program that was started with an ignored signal, by `nohup` or in the background, leaves it ignored.
    let heard =
        wanted.into_iter().filter(|s| !(matches!(*s, SIGINT | SIGHUP | SIGTSTP) && sys::is_ignored(*s)));
    let mut signals = Signals::new(heard)?;
    let received = ReceivedSignal::default();
    let stored = received.clone();
    std::thread::Builder::new().name("wpool-signals".to_owned()).spawn(move || {
        let mut on_end = Some(on_end);
        for signal in signals.forever() {
            match (signal, on_end.take()) {
                (SIGUSR1, waiting) => {
                    on_end = waiting;
                    on_status();
                }
                (SIGUSR2, waiting) => {
                    on_end = waiting;
                    on_progress();
                }
                (SIGTSTP, waiting) => {
                    on_end = waiting;
                    let _continued = crate::context::while_stopped(|| {
                        signal_hook::low_level::emulate_default_handler(SIGTSTP)
                    });
                }
                (signal, Some(on_end)) => {
                    // Before the end begins: the main thread asks for the signal as soon as the outcomes
                    // stop.
                    stored.0.store(signal, Ordering::SeqCst);
                    // The grace begins before `on_end`, which may hang.
                    let is_off = end_later(signal);
                    match on_end(signal) {
                        Ending::Now => {}
                        Ending::Drains => is_off.store(true, Ordering::SeqCst),
                    }
                }
                // A second signal means that the user does not want to wait. Workers end with this program.
                (signal, None) => die_of(signal),
            }
        }
    })?;
    Ok(received)
}

/// Ends this program after the grace, unless the returned flag is set by then.
fn end_later(signal: i32) -> Arc<AtomicBool> {
    let is_off = Arc::new(AtomicBool::new(false));
    let to_look = is_off.clone();
    let until = clock::now() + GRACE;
    let end = move || {
        clock::sleep_until(until);
        if !to_look.load(Ordering::SeqCst) {
            die_of(signal);
        }
    };
    // If the thread cannot be started, the second signal still ends the program.
    let _second_signal = std::thread::Builder::new().name("wpool-end".to_owned()).spawn(end);
    is_off
}

/// Ends this program by the signal's default action, so that its parent sees the signal. The kernel does not
/// deliver that signal to process 1, which exits with the code that a shell would report instead.
pub(super) fn die_of(signal: i32) -> ! {
    sys::die_by_default_of(signal);
    sys::exit_now(i32::from(WpoolExit::Signal(signal).code()))
}
