//! The vocabulary of the list of system calls: which call, in which role, with which arguments.

use libc::c_int;

use crate::spec::ProcessRole;

/// A line of the list: a call, the roles that may make it, when, and why it is on the list.
pub(super) struct CallRule {
    pub(super) number: i64,
    pub(super) roles: &'static [ProcessRole],
    pub(super) when: CallWhen,
}

/// A line of the list. The last argument is the reason, for the reader.
pub(super) const fn call(
    number: i64,
    roles: &'static [ProcessRole],
    when: CallWhen,
    _reason: &'static str,
) -> CallRule {
    CallRule { number, roles, when }
}

/// When a call is allowed.
#[derive(Debug, Clone, Copy)]
pub(super) enum CallWhen {
    Always,
    /// If all of these hold.
    If(&'static [ArgRule]),
    /// If one of these alternatives holds, with all of its parts.
    Any(&'static [&'static [ArgRule]]),
    /// If this argument is the id of this process.
    OwnPid(u8),
    /// For `socket`: if the first argument is one of these families, the low byte of the second is this kind,
    /// and the third is one of these protocols.
    Socket(&'static [u64], u64, &'static [u64]),
    /// For `setsockopt`: if the second and the third argument are one of these pairs of a level and a name.
    SocketOption(&'static [(c_int, c_int)]),
    /// If this argument is null. With any other value, the process itself answers the call (`sys/times.rs`).
    Null(u8),
    /// Never. The call fails with `ENOSYS`, and the process goes on.
    Refused,
}

/// What an argument must be: the number of the argument, the bits that count, and their value.
#[derive(Debug, Clone, Copy)]
pub(super) struct ArgRule(pub(super) u8, pub(super) u64, pub(super) u64);

/// The bits of an `int`. The kernel ignores the bits above, and so do these rules.
pub(super) const INT: u64 = u32::MAX as u64;

/// An `int` with this value.
pub(super) const fn int(argument: u8, value: c_int) -> ArgRule {
    ArgRule(argument, INT, value.cast_unsigned() as u64)
}

/// An `int` in which no other bits than these are set.
pub(super) const fn int_within(argument: u8, bits: c_int) -> ArgRule {
    ArgRule(argument, INT & !(bits.cast_unsigned() as u64), 0)
}

/// An `int` with this value, beside which the bits of `flags` may be set.
pub(super) const fn int_with_flags(argument: u8, value: c_int, flags: c_int) -> ArgRule {
    ArgRule(argument, INT & !(flags.cast_unsigned() as u64), value.cast_unsigned() as u64)
}

/// An argument of 64 bits with this value.
pub(super) const fn word(argument: u8, value: u64) -> ArgRule {
    ArgRule(argument, u64::MAX, value)
}

/// An argument of 64 bits in which no other bits than these are set.
pub(super) const fn word_within(argument: u8, bits: c_int) -> ArgRule {
    ArgRule(argument, !(bits.cast_unsigned() as u64), 0)
}

/// An argument in which none of these bits is set.
pub(super) const fn without_bits(argument: u8, bits: c_int) -> ArgRule {
    ArgRule(argument, bits.cast_unsigned() as u64, 0)
}

/// An argument in which all of these bits are set.
pub(super) const fn with_bits(argument: u8, bits: c_int) -> ArgRule {
    ArgRule(argument, bits.cast_unsigned() as u64, bits.cast_unsigned() as u64)
}
