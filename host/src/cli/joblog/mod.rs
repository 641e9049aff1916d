//! The job log of `wpool map`: a line for each task that is done, and what a resumed run leaves out because
//! of it.
//!
//! ```text
//!   reader thread:  records ─▶ RecordFilter ─▶ records to run, each with its RecordFact
//!   main thread:    place of the results ─▶ the log's header; results ─▶ stdout; their lines ─▶ the log
//! ```
//!
//! Results are written before their lines. So a run that is killed at any moment has logged only tasks whose
//! results it has delivered. Results that it had delivered and not logged are those of its last write. A
//! resumed run cuts them off the output, and runs their tasks again. The log is not read while it is written,
//! and a lock keeps other runs from it.

mod done;
mod filter;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod line;
mod open;
mod place;
mod read;
mod row;
mod summary;
mod writer;

pub(super) use self::done::Rule;
pub(super) use self::filter::{Chosen, RecordFilter};
pub(super) use self::open::{JobLog, LogMode, LogSettings, LoggedRun};
pub(super) use self::summary::report;
pub(super) use self::writer::Writer;
