//! The thread that listens to the members.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::shared::{Ears, Shared, ThreadStep};

/// Starts the thread.
pub(super) fn start(shared: &'static Shared, ears: Arc<Ears>) -> io::Result<()> {
    let name = "wpool-exchange".to_owned();
    std::thread::Builder::new().name(name).spawn(move || {
        match catch_unwind(AssertUnwindSafe(|| run(shared, &ears))) {
            Ok(Ended::NoMembers) => {}
            Ok(Ended::Deaf) => {
                shared.abandon();
                std::mem::forget(ears);
            }
            Ok(Ended::Bug) | Err(_) => shared.give_up(),
        }
    })?;
    Ok(())
}

/// Why the thread ends.
enum Ended {
    NoMembers,
    /// This program has closed its descriptors.
    Deaf,
    /// Another thread has met a bug of wpool.
    Bug,
}

/// Serves the members until there are none.
fn run(shared: &Shared, ears: &Ears) -> Ended {
    let mut tokens = Vec::new();
    loop {
        match shared.with(|state| state.turn(&tokens)) {
            Some(ThreadStep::Sleep(left)) => match ears.wait(left) {
                Ok(happened) => tokens = happened,
                Err(_) => return Ended::Deaf,
            },
            Some(ThreadStep::Over) => return Ended::NoMembers,
            None => return Ended::Bug,
        }
    }
}
