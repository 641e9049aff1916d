//! Signals, as calls in a thread of their own.
//!
//! The first `SIGINT`, `SIGTERM` or `SIGHUP` is passed on, so that work can be ended in good order; the second, or a good order that takes
//! too long, ends this program at once. Its workers never outlive it. Whoever is told may want to let running work come to its end
//! ([`Ending::Drains`]): that may take as long as it takes.
//!
//! `SIGTSTP` (Ctrl-Z) stops the workers too, until this program is continued.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::sys;

/// How long the end in good order may take: output that is stuck in a pipe must not keep a terminated program alive.
const GRACE: Duration = Duration::from_secs(2);

/// The signal that has come, for whoever is about to end.
#[derive(Debug, Clone, Default)]
pub(super) struct Received(Arc<AtomicI32>);

impl Received {
    pub(super) fn get(&self) -> Option<i32> {
        Some(self.0.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
    }
}

/// What the first signal has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Now,
    Drains,
}

/// Begins to watch. `on_end` is called for the first signal that asks for an end, `on_status` for each `SIGUSR1`, `on_progress` for each `SIGUSR2`.
///
/// `SIGINT`, `SIGHUP` and `SIGTSTP` that were ignored when we were started stay ignored: `nohup`, and jobs in the background.
pub(super) fn watch(
    on_end: impl FnOnce(i32) -> Ending + Send + 'static,
    on_status: impl Fn() + Send + 'static,
    on_progress: impl Fn() + Send + 'static,
) -> io::Result<Received> {
    let wanted = [SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGUSR1, SIGUSR2];
    let heard =
        wanted.into_iter().filter(|s| !(matches!(*s, SIGINT | SIGHUP | SIGTSTP) && sys::is_ignored(*s)));
    let mut signals = Signals::new(heard)?;
    let received = Received::default();
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
                    stored.0.store(signal, Ordering::SeqCst);
                    // Before anything that may hang.
                    let is_off = end_later(signal);
                    match on_end(signal) {
                        Ending::Now => {}
                        Ending::Drains => is_off.store(true, Ordering::SeqCst),
                    }
                }
                (signal, None) => die_of(signal),
            }
        }
    })?;
    Ok(received)
}

/// Ends this program after the grace, unless the flag is set until then.
fn end_later(signal: i32) -> Arc<AtomicBool> {
    let is_off = Arc::new(AtomicBool::new(false));
    let to_look = is_off.clone();
    let end = move || {
        std::thread::sleep(GRACE);
        if !to_look.load(Ordering::SeqCst) {
            die_of(signal);
        }
    };
    // Without a thread, the second signal still ends us.
    let _second_signal = std::thread::Builder::new().name("wpool-end".to_owned()).spawn(end);
    is_off
}

/// Ends this program by the signal's default action, so that its parent sees what happened. Process 1 ends with the code that a shell would
/// give for that: the kernel keeps its own signals from it.
pub(super) fn die_of(signal: i32) -> ! {
    sys::die_by_default_of(signal);
    sys::exit_now(i32::from(super::exit::Exit::Signal(signal).code()))
}
