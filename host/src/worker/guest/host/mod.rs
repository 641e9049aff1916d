//! Host functions: the interfaces of wpool that a component may import, and one of WASI that wpool replaces.

pub(super) mod batch;
pub(super) mod current;
pub(super) mod names;
