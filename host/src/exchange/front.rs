//! What the two front doors share.

use std::time::Duration;

use super::host::HostHandle;
use crate::spec::exchange::Answer;

/// The time-out of a call that never waits.
pub(super) const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

/// The exchange has one form of answer for each act; another is a bug in it.
pub(super) fn other_answer(answer: &Answer) -> ! {
    unreachable!("the exchange gave another form of answer: {answer:?}")
}

/// An object of either door. It is public only in name: it seals the traits that users can name.
#[doc(hidden)]
pub trait Object {
    #[doc(hidden)]
    fn handle(&self) -> Handle<'_>;
}

/// Hides from users what an object is inside.
#[derive(Debug)]
#[doc(hidden)]
pub struct Handle<'a>(pub(super) &'a HostHandle);
