//! Plain data that crosses the socket between the coordinator and its processes: what a process is asked to
//! do, and what it reports about itself. Nothing here opens a file, starts a process or knows the engine.

mod call;
mod codegen;
pub(crate) mod exchange;
mod exit;
#[cfg(feature = "fault-points")]
mod fault;
mod fixed;
mod grants;
mod info;
pub(crate) mod lease;
mod limits;
mod profiling;
mod property;
mod sandbox;

#[cfg(feature = "worker")]
pub(crate) use self::call::DirectResult;
pub(crate) use self::call::{ARGUMENT_BYTES_MAX, Call, Input, Output};
pub use self::codegen::WasmFeature;
pub(crate) use self::codegen::{Codegen, Features};
pub(crate) use self::exit::Exit;
#[cfg(feature = "fault-points")]
pub use self::fault::{Fault, FaultAction, FaultPhase};
#[cfg(feature = "worker")]
pub(crate) use self::fixed::FixedPieces;
pub(crate) use self::fixed::{FixedArgs, FixedForm};
pub use self::grants::{Clock, DirAccess, Random};
pub(crate) use self::grants::{DIRS_MAX, DirGrant, Grants, NetGrant};
pub use self::info::{
    Export, Import, ImportKind, ImportedFunction, ModuleInfo, ModuleKind, Role, TargetError,
};
pub(crate) use self::limits::size;
pub use self::limits::{CompileLimits, Isolation, Limit, Limits};
pub(crate) use self::profiling::PROFILE_LEN_MAX;
pub use self::profiling::ProfilingStrategy;
#[cfg(any(feature = "worker", feature = "cli"))]
pub(crate) use self::property::Layer;
pub(crate) use self::property::REPORTED_MAX;
pub use self::property::{ProcessRole, Property};
pub use self::sandbox::{Sandbox, Status, Step};
