//! The description that lies beside an artefact in the cache.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::spec::ModuleInfo;

/// Cap on the bytes of an entry: the longest description that a compiler process gives, and its MAC. A longer
/// file would only fill memory.
const ENTRY_LEN_MAX: u64 = ModuleInfo::LEN_MAX as u64 + 4096;

/// The description of a module, and the proof that this user wrote the entry.
#[derive(Serialize, Deserialize)]
pub(super) struct CacheEntry {
    pub(super) mac: String,
    pub(super) info: ModuleInfo,
    /// The name of the module's file. For lists only: the MAC does not cover it.
    #[serde(default)]
    pub(super) name: Option<String>,
}

/// The file name that an entry records.
pub(super) fn name_in(path: &Path) -> Option<String> {
    let entry: CacheEntry = serde_json::from_slice(&read_entry(path).ok()?).ok()?;
    entry.name
}

pub(super) fn read_entry(path: &Path) -> io::Result<Vec<u8>> {
    let mut entry = Vec::new();
    if open_to_read(path)?.take(ENTRY_LEN_MAX + 1).read_to_end(&mut entry)? as u64 > ENTRY_LEN_MAX {
        return Err(io::Error::other("it is too long"));
    }
    Ok(entry)
}

/// Opens a file of the cache. It follows no link, because that could lead to a file that other users may
/// change, and it does not wait for the other end of a pipe.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}
