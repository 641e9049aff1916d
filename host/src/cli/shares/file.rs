//! What the files at the ends of queues have in common.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::cli::exit::CliError;
use crate::cli::stdio;
use crate::spec::exchange::ITEM_LEN_MAX;

/// What the standard streams are used for, so that no second use comes beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct StreamUse {
    /// `--fill NAME=-` may read standard input.
    pub(in crate::cli) stdin_is_free: bool,
    /// `--drain NAME=-` may write standard output.
    pub(in crate::cli) stdout_is_free: bool,
}

impl StreamUse {
    pub(in crate::cli) const ALL_FREE: StreamUse = StreamUse { stdin_is_free: true, stdout_is_free: true };
}

/// Which records a file has.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct RecordForm {
    /// Ends each record of `--fill`.
    pub(in crate::cli) delimiter: u8,
    /// The longest record.
    pub(in crate::cli) record_max: usize,
    /// Comes behind each item of `--drain`.
    pub(in crate::cli) end: u8,
}

impl RecordForm {
    /// Lines in, and lines out.
    pub(in crate::cli) const LINES: RecordForm =
        RecordForm { delimiter: b'\n', record_max: ITEM_LEN_MAX, end: b'\n' };
}

/// Device and inode of a regular file.
pub(super) fn place(metadata: &Metadata) -> Option<(u64, u64)> {
    metadata.is_file().then(|| (metadata.dev(), metadata.ino()))
}

/// A file that cannot be opened.
pub(super) fn cannot(what: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::usage(format!("cannot {what} {}: {}", path.display(), stdio::words(error)))
}
