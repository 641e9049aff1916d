//! The list of system calls as a filter program of the kernel (seccomp).

use std::collections::BTreeMap;

use libc::{BPF_ABS, BPF_JA, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_W, ENOSYS};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use super::calls::{Landlock, calls};
use super::rule::CallWhen::{self, Always, Any, If, Null, OwnPid, Refused, Socket, SocketOption};
use super::rule::{ArgRule, INT, int};
use crate::spec::{Grants, ProcessRole as Role};

/// Installs the filter for all threads of this process.
pub(super) fn install(role: Role, grants: &Grants, landlock: Landlock) -> Result<(), String> {
    let program = program(&calls(role, grants, landlock))?;
    // All threads at once (TSYNC): a worker's runtime may have started one before, which would keep every
    // call.
    seccompiler::apply_filter_all_threads(&program).map_err(|e| e.to_string())
}

/// The number of calls that a filter compares one after the other, at the end of the search.
// Each range carries its own check of the architecture: with a range for each call the program would be
// several times as long, to save two comparisons.
const GROUP_LEN: usize = 4;

/// A filter for a range of calls: from this number on, up to the number of the next range.
type Range = (i64, BpfProgram);

/// The filter for all calls: a binary search, which leads to a filter for a few.
///
/// A filter of `seccompiler` alone compares the number of a call with all numbers on its list, one after the
/// other. The kernel runs a filter for each number that there is when it installs it, and this took a good
/// part of a worker's start.
fn program(calls: &BTreeMap<i64, CallWhen>) -> Result<BpfProgram, String> {
    // Each range's own filter checks the architecture too: the numbers of a 32-bit program mean other calls.
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
    let ranges = ranges(calls, arch).map_err(|e| e.to_string())?;
    let load_number = sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: 0 };
    Ok([vec![load_number], search(&ranges)].concat())
}

/// The filters of all ranges. Each is complete: a call in its range that is not on the list kills the
/// process.
fn ranges(
    calls: &BTreeMap<i64, CallWhen>,
    arch: TargetArch,
) -> Result<Vec<Range>, seccompiler::BackendError> {
    let (kill, unknown) = (SeccompAction::KillProcess, SeccompAction::Errno(ENOSYS.unsigned_abs()));
    let program = |rules, otherwise, matching| -> Result<BpfProgram, seccompiler::BackendError> {
        SeccompFilter::new(rules, otherwise, matching, arch)?.try_into()
    };
    let nothing = || program(BTreeMap::new(), kill.clone(), SeccompAction::Allow);
    let mut ranges = vec![(0, nothing()?)];
    let mut group = BTreeMap::new();
    for (number, when) in calls {
        let is_refused = matches!(when, Refused | Null(_));
        if group.len() == GROUP_LEN || is_refused {
            let group = std::mem::take(&mut group);
            ranges.extend(
                first(&group)
                    .map(|first| Ok((first, program(group, kill.clone(), SeccompAction::Allow)?)))
                    .transpose()?,
            );
        }
        let rules = rules(*when)?;
        if is_refused {
            // A range of its own, because the answers to other arguments differ from those to other numbers.
            let (otherwise, matching) = match when {
                Null(_) => (SeccompAction::Allow, SeccompAction::Trap),
                _ => (kill.clone(), unknown.clone()),
            };
            ranges.push((*number, program(BTreeMap::from([(*number, rules)]), otherwise, matching)?));
            // The range must end here: the numbers behind it would otherwise get this call's answer.
            ranges.push((number + 1, nothing()?));
        } else {
            group.insert(*number, rules);
        }
    }
    ranges.extend(
        first(&group)
            .map(|first| Ok((first, program(group, kill.clone(), SeccompAction::Allow)?)))
            .transpose()?,
    );
    Ok(ranges)
}

fn first(group: &BTreeMap<i64, Vec<SeccompRule>>) -> Option<i64> {
    group.first_key_value().map(|(number, _)| *number)
}

/// A search for the last range whose first number is not greater than the number of the call. If two ranges
/// begin with the same number, the second counts.
fn search(ranges: &[Range]) -> BpfProgram {
    let (below, from) = ranges.split_at(ranges.len() / 2);
    let Some((first, filter)) = from.first() else { return Vec::new() };
    if below.is_empty() {
        return filter.clone();
    }
    let (below, from) = (search(below), search(from));
    let len = u32::try_from(below.len()).expect("a filter has at most a few thousand steps");
    // The jump over the lower half has its own step with 32 bits. The offsets of a comparison have 8, and a
    // half can be longer than 255 steps.
    let is_in_from = sock_filter {
        code: JUMP_IF_NOT_LESS,
        jt: 0,
        jf: 1,
        k: u32::try_from(*first).expect("the numbers of calls are small"),
    };
    let skip_below = sock_filter { code: JUMP, jt: 0, jf: 0, k: len };
    [vec![is_in_from, skip_below], below, from].concat()
}

/// Steps of the kernel's filter programs (`linux/filter.h`): loading the word at an offset in `seccomp_data`,
/// which begins with the number of the call, and jumps.
const LOAD_WORD: u16 = step(BPF_LD | BPF_W | BPF_ABS);
const JUMP_IF_NOT_LESS: u16 = step(BPF_JMP | BPF_JGE | BPF_K);
const JUMP: u16 = step(BPF_JMP | BPF_JA);

#[expect(clippy::cast_possible_truncation, reason = "a step's code has 16 bits; libc's constants have 32")]
const fn step(code: u32) -> u16 {
    code as u16
}

/// The bits of a socket's kind without its flags.
const LOW_BYTE: u64 = 0xff;

/// The alternatives of which one must hold. Without any, the arguments do not matter.
fn rules(when: CallWhen) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let all = |args: &[ArgRule]| {
        let condition = |ArgRule(argument, mask, value): &ArgRule| {
            SeccompCondition::new(*argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(*mask), *value)
        };
        SeccompRule::new(args.iter().map(condition).collect::<Result<_, _>>()?)
    };
    Ok(match when {
        Always | Refused => vec![],
        If(args) => vec![all(args)?],
        Any(alternatives) => alternatives.iter().map(|args| all(args)).collect::<Result<_, _>>()?,
        Socket(families, kind, protocols) => {
            // `SeccompRule` compares one argument with one value, so that each pair is an alternative of its
            // own.
            let pairs =
                families.iter().flat_map(|family| protocols.iter().map(move |protocol| (*family, *protocol)));
            let rule = |(family, protocol)| {
                all(&[ArgRule(0, INT, family), ArgRule(1, LOW_BYTE, kind), ArgRule(2, INT, protocol)])
            };
            pairs.map(rule).collect::<Result<_, _>>()?
        }
        SocketOption(pairs) => pairs
            .iter()
            .map(|(level, name)| all(&[int(1, *level), int(2, *name)]))
            .collect::<Result<_, _>>()?,
        // The arguments that do not pass: `ranges` turns this filter around.
        Null(argument) => {
            let is_set = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
            vec![SeccompRule::new(vec![is_set])?]
        }
        OwnPid(argument) => {
            // Compiled into the program: a filter cannot ask for the process id, and this process keeps it.
            let own = u64::from(std::process::id());
            let is_own = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, own)?;
            vec![SeccompRule::new(vec![is_own])?]
        }
    })
}

#[cfg(test)]
mod tests;
