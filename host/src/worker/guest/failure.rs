//! From the engine's errors to what a user reads.

use std::sync::OnceLock;

use wasmtime::component::ResourceTableError;
use wasmtime::{Error, ThrownException, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::limiter::ITEMS_MAX;
use super::store::{Cancelled, Ctx, RESOURCES_MAX};
use crate::protocol::message::Failure;
use crate::spec::{Limit, Limits, size};

/// Bytes of address space that this process may have, if that is limited. Cannot be asked for any more once the process is confined.
static ADDRESS_SPACE: OnceLock<Option<u64>> = OnceLock::new();

/// Learns what messages will need.
pub(super) fn prepare() {
    ADDRESS_SPACE.get_or_init(|| rustix::process::getrlimit(rustix::process::Resource::As).current);
}

/// What a failed call or instantiation means. Every error of the engine ends here; none is a reason to end the worker.
pub(super) fn classify(error: &Error, ctx: &Ctx, limits: &Limits) -> Failure {
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
    if error.downcast_ref::<ThrownException>().is_some() {
        let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
        return Failure::Trap { message: "an exception that nobody caught".to_owned(), backtrace };
    }
    let cause = error.root_cause().to_string();
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    let refused = ctx.limiter.refused();
    let Some(trap) = error.downcast_ref::<Trap>() else {
        if let (true, Some(limit)) = (is_refused_by_kernel(error), *ADDRESS_SPACE.get_or_init(|| None)) {
            let limit = limit >> 20;
            let message = format!(
                "no room for the guest's memory: it reserves some GiB of address space, and the limit on that (ulimit -v) is {limit} MiB"
            );
            return Failure::Limit { limit: Limit::Memory, message };
        }
        if let Some(limit) = refused.or_else(|| refused_by_engine(error, &cause)) {
            return reached(limit, limits);
        }
        return match cause.strip_prefix("resource limit exceeded: ") {
            Some(count) => {
                let message =
                    format!("limit of {ITEMS_MAX} instances, memories or tables of a task reached: {count}");
                Failure::Limit { limit: Limit::Memory, message }
            }
            // Not in its result: in what it handed to the host, or did with its handles.
            None if !backtrace.is_empty() => Failure::Trap { message: cause, backtrace },
            None => Failure::BadResult { message: cause },
        };
    };
    match (trap, refused) {
        (Trap::Interrupt, _) => reached(Limit::Time, limits),
        (Trap::OutOfFuel, _) => reached(Limit::Fuel, limits),
        (Trap::StackOverflow, _) => reached(Limit::Stack, limits),
        // Most guests' allocators trap when they get no memory; others hand out what is not there.
        (Trap::UnreachableCodeReached | Trap::MemoryOutOfBounds | Trap::TableOutOfBounds, Some(limit)) => {
            reached(limit, limits)
        }
        (trap, _) => Failure::Trap { message: trap_name(trap), backtrace },
    }
}

/// What a failed instantiation means. The time that it took, an exit in it, and a cancel say nothing about other instances.
pub(super) fn without_instance(error: &Error, ctx: &Ctx, limits: &Limits) -> Failure {
    match classify(error, ctx, limits) {
        failure @ (Failure::Cancelled
        | Failure::Exited { .. }
        | Failure::Limit { limit: Limit::Time, .. }) => failure,
        failure => Failure::NoInstance { failure: Box::new(failure) },
    }
}

/// What the engine refuses before it asks the limiter: a first size that no number holds, or that the kernel does not give.
fn refused_by_engine(error: &Error, cause: &str) -> Option<Limit> {
    match is_refused_by_kernel(error) || cause.contains("exceeds memory limits") {
        true => Some(Limit::Memory),
        false => cause.contains("exceeds table limits").then_some(Limit::Table),
    }
}

/// There was no memory, or no address space, to be had.
fn is_refused_by_kernel(error: &Error) -> bool {
    let code = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    code == Some(libc::ENOMEM) || error.downcast_ref::<rustix::io::Errno>() == Some(&rustix::io::Errno::NOMEM)
}

/// Whether a result was too much to be taken apart into values. What a guest hands to the host has its frames with it.
pub(super) fn is_too_much(error: &Error) -> bool {
    let is_of_guest = error.downcast_ref::<WasmBacktrace>().is_some();
    !is_of_guest && error.root_cause().to_string().starts_with("too much data is being copied")
}

/// The result has more values than `most`, or than can be in one of the length that is allowed.
pub(super) fn values_limit(limits: &Limits, most: usize) -> Failure {
    let message = match limits.output <= most {
        true => limits.reached(Limit::Output),
        false => {
            format!("the result has more than {most} values; as bytes or a string alone it could be longer")
        }
    };
    Failure::Limit { limit: Limit::Output, message }
}

/// What a function says that stands in the place of one that nobody provides.
pub(super) fn unprovided(path: &str) -> String {
    format!("it called {path}, which nobody provides")
}

/// The task has reached one of its limits.
pub(super) fn reached(limit: Limit, limits: &Limits) -> Failure {
    Failure::Limit { limit, message: limits.reached(limit) }
}

/// The engine's words, without its prefix: ours say "trap" already.
fn trap_name(trap: &Trap) -> String {
    let words = trap.to_string();
    words
        .strip_prefix("wasm trap: ")
        .unwrap_or(&words)
        .strip_prefix("wasm `unreachable` instruction executed")
        .map_or_else(
            || words.strip_prefix("wasm trap: ").unwrap_or(&words).to_owned(),
            |_| "unreachable".to_owned(),
        )
}

fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => name.to_owned(),
        None => format!("function {}", frame.func_index()),
    };
    backtrace.frames().iter().map(name).collect()
}

/// A guest's error value as a failure.
pub(super) fn failed(message: String) -> Failure {
    Failure::Failed { message }
}

/// The result is longer than it may be.
pub(super) fn output_limit(len: usize, limits: &Limits) -> Failure {
    let message = limits.output_reached(&format!("a result of {}", size(len as u64)));
    Failure::Limit { limit: Limit::Output, message }
}
