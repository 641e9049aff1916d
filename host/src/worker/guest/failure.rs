//! The failures of tasks, made from the engine's errors.

use std::sync::OnceLock;

use wasmtime::component::ResourceTableError;
use wasmtime::{Error, ThrownException, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::limiter::{ITEMS_MAX, Limiter, RESOURCES_MAX};
use crate::protocol::message::Failure;
use crate::spec::{Limit, Limits, size};

/// The error that ends a guest whose task the coordinator has cancelled.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
pub(super) struct Cancelled;

/// Bytes of address space that this process may have, if that is limited. It is read early: a confined
/// process may not ask for its limits.
static ADDRESS_SPACE: OnceLock<Option<u64>> = OnceLock::new();

/// Reads what messages may need later. Called before the process is confined.
pub(super) fn prepare() {
    ADDRESS_SPACE.get_or_init(|| rustix::process::getrlimit(rustix::process::Resource::As).current);
}

/// The failure that an error of a call or an instantiation means.
///
/// Each error of the engine gets its meaning here. None of them ends the worker.
pub(super) fn classify(error: &Error, limiter: &Limiter, limits: &Limits) -> Failure {
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return Failure::Exited { code: code.cast_unsigned() };
    }
    if error.downcast_ref::<Cancelled>().is_some() {
        return Failure::Cancelled;
    }
    if error.downcast_ref::<ResourceTableError>().is_some_and(|e| matches!(e, ResourceTableError::Full)) {
        let message = format!("limit of {RESOURCES_MAX} handles of a task reached");
        return Failure::Limit { limit: Limit::Table, message };
    }
    // Behind the verdicts that need no backtrace: it is made of strings.
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    if error.downcast_ref::<ThrownException>().is_some() {
        return Failure::Trap { message: "an uncaught exception".to_owned(), backtrace };
    }
    match (error.downcast_ref::<Trap>(), limiter.refused()) {
        (None, refused) => classify_without_trap(error, refused, limits, backtrace),
        (Some(Trap::Interrupt), _) => reached(Limit::Time, limits),
        (Some(Trap::OutOfFuel), _) => reached(Limit::Fuel, limits),
        // Before the refused growth: a guest that recurses may have been refused memory long before, and
        // lived with it.
        (Some(Trap::StackOverflow), _) => reached(Limit::Stack, limits),
        // An allocator that gets no memory traps in most guests, and returns an invalid address in others.
        (
            Some(Trap::UnreachableCodeReached | Trap::MemoryOutOfBounds | Trap::TableOutOfBounds),
            Some(limit),
        ) => reached(limit, limits),
        (Some(trap), _) => Failure::Trap { message: trap_name(trap), backtrace },
    }
}

/// The failure that an error means which is no trap: a limit that was reached before the guest ran, or an
/// error of a function of the host.
fn classify_without_trap(
    error: &Error,
    refused: Option<Limit>,
    limits: &Limits,
    backtrace: Vec<String>,
) -> Failure {
    // The engine has no types for these errors. Their texts are compared, and the hostile guests of the tests
    // notice when an update changes one.
    let cause = error.root_cause().to_string();
    if is_refused_by_kernel(error)
        && let Some(limit) = *ADDRESS_SPACE.get_or_init(|| None)
    {
        return no_addresses(limit);
    }
    if let Some(limit) = refused.or_else(|| refused_by_engine(error, &cause)) {
        return reached(limit, limits);
    }
    match cause.strip_prefix("resource limit exceeded: ") {
        Some(count) => {
            let message =
                format!("limit of {ITEMS_MAX} instances, memories or tables of a task reached: {count}");
            Failure::Limit { limit: Limit::Memory, message }
        }
        // With a backtrace, the error arose in a call from the guest to the host: not by its result.
        None if !backtrace.is_empty() => Failure::Trap { message: cause, backtrace },
        None => Failure::BadResult { message: cause },
    }
}

/// The kernel refused addresses. `limit`: the most that it grants, in bytes.
fn no_addresses(limit: u64) -> Failure {
    let limit = limit >> 20;
    let message = format!(
        "no room for the guest's memory: it reserves some GiB of address space, and the limit on that \
         (ulimit -v) is {limit} MiB"
    );
    Failure::Limit { limit: Limit::Memory, message }
}

/// The failure that an error of an instantiation means. The time limit, an exit and a cancel concern this
/// instance only. Any other failure would meet the next instance as well, and becomes
/// [`Failure::NoInstance`].
pub(super) fn without_instance(error: &Error, limiter: &Limiter, limits: &Limits) -> Failure {
    match classify(error, limiter, limits) {
        failure @ (Failure::Cancelled
        | Failure::Exited { .. }
        | Failure::Limit { limit: Limit::Time, .. }) => failure,
        failure => Failure::NoInstance { failure: Box::new(failure) },
    }
}

/// The limit by which the engine refused something before it asked the limiter: a first size that overflows,
/// or that the kernel refuses.
fn refused_by_engine(error: &Error, cause: &str) -> Option<Limit> {
    if is_refused_by_kernel(error) || cause.contains("exceeds memory limits") {
        Some(Limit::Memory)
    } else {
        cause.contains("exceeds table limits").then_some(Limit::Table)
    }
}

/// Whether the kernel gave no memory, or no address space.
fn is_refused_by_kernel(error: &Error) -> bool {
    let code = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    code == Some(libc::ENOMEM) || error.downcast_ref::<rustix::io::Errno>() == Some(&rustix::io::Errno::NOMEM)
}

/// Whether a result has too many values. An error with a backtrace is about what the guest gave to a host
/// function.
pub(super) fn is_too_much(error: &Error) -> bool {
    let is_of_guest = error.downcast_ref::<WasmBacktrace>().is_some();
    !is_of_guest && error.root_cause().to_string().starts_with("too much data is being copied")
}

/// The failure of a result with more than `most` values, or with more bytes than `limits.output`.
pub(super) fn values_limit(limits: &Limits, most: usize) -> Failure {
    let message = if limits.output <= most {
        limits.reached(Limit::Output)
    } else {
        format!("the result has more than {most} values; as bytes or a string alone it could be longer")
    };
    Failure::Limit { limit: Limit::Output, message }
}

/// The message of a trap in a function that stands in for one that is not provided.
pub(super) fn unprovided(path: &str) -> String {
    format!("it called {path}, which is not provided")
}

/// The failure of a task that has reached one of its limits.
pub(super) fn reached(limit: Limit, limits: &Limits) -> Failure {
    Failure::Limit { limit, message: limits.reached(limit) }
}

/// The name of the trap in which a guest's panic ends.
pub(super) const UNREACHABLE: &str = "unreachable";

/// The engine's name of a trap, without its prefix: our message says "trap" already.
fn trap_name(trap: &Trap) -> String {
    let text = trap.to_string();
    let name = text.strip_prefix("wasm trap: ").unwrap_or(&text);
    if name.starts_with("wasm `unreachable` instruction executed") {
        UNREACHABLE.to_owned()
    } else {
        name.to_owned()
    }
}

fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => readable(name),
        None => format!("function {}", frame.func_index()),
    };
    backtrace.frames().iter().map(name).collect()
}

/// The name of a function as its source has it. Exports of the standard name mangling begin with `cm32p2`.
fn readable(name: &str) -> String {
    match name.strip_prefix("cm32p2||") {
        Some(export) => export.to_owned(),
        None => format!("{:#}", rustc_demangle::demangle(name)),
    }
}

/// The failure of a task whose function returned an error.
pub(super) fn failed(message: String) -> Failure {
    Failure::Failed { message }
}

/// The failure of a result of `len` bytes, which is too long.
pub(super) fn output_limit(len: usize, limits: &Limits) -> Failure {
    let message = limits.output_reached(&format!("a result of {}", size(len as u64)));
    Failure::Limit { limit: Limit::Output, message }
}
