//! Why a policy cannot be granted.

/// What a policy names that cannot be granted, and why.
#[derive(Debug)]
pub(crate) struct PolicyError {
    pub(crate) what: String,
    pub(crate) reason: String,
}
