//! What the flags mean together, with the library's own types. `map` resolves its settings once, as
//! [`MapSettings`]; the smaller subcommands take from here what they need.

mod guest;
mod identity;
mod map;
mod module;
mod workers;

pub(super) use self::guest::{format, given, is_command, limits, policy, target, warn_of_grants};
pub(super) use self::map::{HaltSettings, MapSettings};
pub(super) use self::module::{cache_limits, compiler, load, load_to_inspect, loader, with_cache};
