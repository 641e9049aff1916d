//! Why a policy cannot be granted.

/// What a policy names but cannot grant, and the reason.
#[derive(Debug)]
pub(crate) struct PolicyError {
    pub(crate) what: String,
    pub(crate) reason: String,
}
