//! Host functions: the interfaces of wpool that a component may import, and one of WASI that wpool replaces.

pub(super) mod batch;
pub(super) mod current;
mod exchange;
pub(super) mod functions;
pub(super) mod ipc;
pub(super) mod names;
pub(super) mod sync;

/// The version in which the engine has the interfaces of WASI. It links imports of any version 0.2 to them.
const WASI_VERSION: &str = "0.2.12";

/// The name of an interface in the linker, which an import asks for in some version. A function that is added
/// under another version would hide the whole interface.
pub(super) fn name_in_linker(import: &str) -> String {
    match import.split_once('@') {
        Some((interface, _)) if interface.starts_with("wasi:") => format!("{interface}@{WASI_VERSION}"),
        _ => import.to_owned(),
    }
}
