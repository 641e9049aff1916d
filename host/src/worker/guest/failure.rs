//! From the engine's errors to what a user reads.

use wasmtime::{Error, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::store::{Cancelled, Ctx};
use crate::limits::{Limit, Limits};
use crate::protocol::message::Failure;

/// A guest's own error message is not kept longer.
const MESSAGE_LEN_MAX: usize = 64 << 10;

/// What a failed call or instantiation means. Every error of the engine ends here; none is a reason to end the worker.
pub(super) fn classify(error: &Error, ctx: &Ctx, limits: &Limits) -> Failure {
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return Failure::Exited { code: *code };
    }
    if error.downcast_ref::<Cancelled>().is_some() {
        return Failure::Cancelled;
    }
    let cause = error.root_cause().to_string();
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    let Some(trap) = error.downcast_ref::<Trap>() else {
        // The kernel's limit on the process, for a memory that is far too large at once.
        let refused_by_kernel = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        return match ctx.limiter.refused
            || refused_by_kernel == Some(libc::ENOMEM)
            || cause.contains("exceeds memory limits")
            || cause.contains("memory minimum size")
        {
            true => memory_limit(limits),
            false => Failure::BadResult { message: cause },
        };
    };
    match trap {
        Trap::Interrupt => Failure::Limit {
            limit: Limit::Time,
            message: match limits.time {
                Some(time) => format!("timeout after {time:?}"),
                None => "interrupted".to_owned(),
            },
        },
        Trap::OutOfFuel => Failure::Limit {
            limit: Limit::Fuel,
            message: format!("out of fuel ({} instructions)", limits.fuel.unwrap_or_default()),
        },
        Trap::StackOverflow => Failure::Limit {
            limit: Limit::Stack,
            message: format!("trap: call stack exhausted ({} KiB)", limits.stack >> 10),
        },
        // Most guests' allocators trap when they get no memory.
        Trap::UnreachableCodeReached if ctx.limiter.refused => memory_limit(limits),
        trap => Failure::Trap { message: trap_name(trap), backtrace },
    }
}

fn memory_limit(limits: &Limits) -> Failure {
    Failure::Limit { limit: Limit::Memory, message: format!("memory limit of {} MiB reached", limits.memory >> 20) }
}

/// The engine's words, without its prefix: ours say "trap" already.
fn trap_name(trap: &Trap) -> String {
    let words = trap.to_string();
    words
        .strip_prefix("wasm trap: ")
        .unwrap_or(&words)
        .strip_prefix("wasm `unreachable` instruction executed")
        .map_or_else(|| words.strip_prefix("wasm trap: ").unwrap_or(&words).to_owned(), |_| "unreachable".to_owned())
}

fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => name.chars().take(200).collect(),
        None => format!("function {}", frame.func_index()),
    };
    backtrace.frames().iter().map(name).collect()
}

/// A guest's error value as a failure.
pub(super) fn failed(message: String) -> Failure {
    Failure::Failed { message }
}

/// The failure with its message cut, if that is long: the guest's own words, or a record that is quoted.
pub(super) fn shortened(mut failure: Failure) -> Failure {
    match &mut failure {
        Failure::Failed { message }
        | Failure::Trap { message, .. }
        | Failure::Limit { message, .. }
        | Failure::BadRecord { message }
        | Failure::BadResult { message }
            if message.len() > MESSAGE_LEN_MAX =>
        {
            let len = message.len();
            message.truncate(message.floor_char_boundary(MESSAGE_LEN_MAX));
            message.push_str(&format!("... ({len} bytes)"));
        }
        _ => {}
    }
    failure
}

/// The result is longer than it may be.
pub(super) fn output_limit(len: usize, limits: &Limits) -> Failure {
    Failure::Limit {
        limit: Limit::Output,
        message: format!("result of {len} bytes is over the limit of {} bytes", limits.output),
    }
}
