//! The description that lies beside an artefact in the cache.

use std::fs::OpenOptions;
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
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    if file.take(ENTRY_LEN_MAX + 1).read_to_end(&mut entry)? as u64 > ENTRY_LEN_MAX {
        return Err(io::Error::other("it is too long"));
    }
    Ok(entry)
}
