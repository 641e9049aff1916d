//! The filter answers each call as the list says, in each role and with each kind of grant.

use libc::*;
use seccompiler::sock_filter;

use super::*;
use crate::sandbox::calls::{CALLS, DIR_CALLS, NET_CALLS, UNSCOPED_CALLS, UNTRUNCATED_CALLS, WRITE_CALLS};
use crate::sandbox::rule::CallRule;
use crate::spec::ProcessRole::{Compiler, Worker, Zygote};

const ALL_LISTS: [&[CallRule]; 6] =
    [CALLS, DIR_CALLS, WRITE_CALLS, UNTRUNCATED_CALLS, NET_CALLS, UNSCOPED_CALLS];
const WHOLE: Landlock = Landlock { truncation: true, scope: true };
const LANDLOCKS: [Landlock; 2] = [WHOLE, Landlock { truncation: false, scope: false }];

#[test]
fn a_call_has_one_line_in_each_role_of_each_list() {
    for (list, role) in ALL_LISTS.iter().flat_map(|list| [Worker, Zygote, Compiler].map(|role| (list, role)))
    {
        let mut numbers: Vec<i64> =
            list.iter().filter(|call| call.roles.contains(&role)).map(|call| call.number).collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count, "{role:?}");
    }
}

fn granted() -> [Grants; 4] {
    let dir = |access| crate::policy::Policy::sealed().dir("/etc", "/x", access);
    let policies = [
        crate::policy::Policy::sealed(),
        dir(crate::spec::DirAccess::ReadOnly),
        dir(crate::spec::DirAccess::ReadWrite),
        crate::policy::Policy::sealed().net("127.0.0.1:80"),
    ];
    policies.map(|policy| policy.resolve().unwrap().grants)
}

/// The kernel's answer to a call, by the steps that these filters are made of.
fn verdict(program: &[sock_filter], number: u32, args: [u64; 6], arch: u32) -> u32 {
    let mut data = [&number.to_ne_bytes()[..], &arch.to_ne_bytes(), &[0; 8]].concat();
    args.iter().for_each(|arg| data.extend_from_slice(&arg.to_ne_bytes()));
    let (mut at, mut a) = (0, 0u32);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        let branch = |holds: bool| usize::from(if holds { jt } else { jf });
        at += 1;
        match u32::from(code) {
            code if code == BPF_LD | BPF_W | BPF_ABS => {
                a = u32::from_ne_bytes(data[k as usize..][..4].try_into().unwrap());
            }
            code if code == BPF_ALU | BPF_AND | BPF_K => a &= k,
            code if code == BPF_JMP | BPF_JA => at += k as usize,
            code if code == BPF_JMP | BPF_JEQ | BPF_K => at += branch(a == k),
            code if code == BPF_JMP | BPF_JGE | BPF_K => at += branch(a >= k),
            code if code == BPF_JMP | BPF_JGT | BPF_K => at += branch(a > k),
            code if code == BPF_RET | BPF_K => return k,
            other => panic!("an unknown step: {other:#x}"),
        }
    }
}

/// The same list as three filters without a search: the refusals, the calls that the process itself answers,
/// and the calls that are allowed. The kernel takes the strictest of their answers.
fn three_filters(calls: &BTreeMap<i64, CallWhen>, arch: TargetArch) -> [BpfProgram; 3] {
    let (mut refused, mut answered, mut listed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (number, when) in calls {
        let rules = rules(*when).unwrap();
        match when {
            Refused => drop(refused.insert(*number, rules.clone())),
            Null(_) => drop(answered.insert(*number, rules.clone())),
            _ => {}
        }
        listed.insert(*number, if let Null(_) = when { vec![] } else { rules });
    }
    let unknown = SeccompAction::Errno(ENOSYS.unsigned_abs());
    let refusals = SeccompFilter::new(refused, SeccompAction::Allow, unknown, arch).unwrap();
    let answers = SeccompFilter::new(answered, SeccompAction::Allow, SeccompAction::Trap, arch).unwrap();
    let list = SeccompFilter::new(listed, SeccompAction::KillProcess, SeccompAction::Allow, arch).unwrap();
    [refusals, answers, list].map(|filter| filter.try_into().unwrap())
}

#[test]
fn searching_for_a_call_leads_to_what_is_said_of_it() {
    const KILL: u32 = 0x8000_0000;
    const ALLOW: u32 = 0x7fff_0000;
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let ours = if arch == TargetArch::x86_64 { 0xc000_003e } else { 0xc000_00b7 };
    let numbers: Vec<u32> = (0..600).chain([u32::MAX, 0x4000_0000]).collect();
    let args = [
        [0; 6],
        [1; 6],
        [2, 4, 2, 0, 0, 0],
        [u64::MAX; 6],
        [2, 1, 6, 0, 0, 0],
        [0, 0x5421, 0, 0, 0, 0],
        [0, 1030, 3, 2, 0, 0],
        [15, 1, 4, 0x22, 0, 0],
        [u64::MAX << 32; 6],
    ];
    let mut seen = BTreeMap::new();
    let cases = granted().into_iter().flat_map(|grants| LANDLOCKS.map(|landlock| (grants.clone(), landlock)));
    let cases = cases.flat_map(|(grants, landlock)| {
        [Worker, Zygote, Compiler].map(|role| (grants.clone(), landlock, role))
    });
    for (grants, landlock, role) in cases {
        let calls = calls(role, &grants, landlock);
        let (program, three) = (program(&calls).unwrap(), three_filters(&calls, arch));
        for (number, args) in numbers.iter().flat_map(|number| args.map(|args| (*number, args))) {
            let said = verdict(&program, number, args, ours);
            let [refusal, answer, listed] =
                three.each_ref().map(|filter| verdict(filter, number, args, ours));
            let hardest = if listed == KILL { KILL } else { refusal.min(answer).min(listed) };
            assert_eq!(said, hardest, "{role:?} {number} {args:?}");
            *seen.entry(said).or_insert(0) += 1;
            assert_eq!(verdict(&program, number, args, 0x4000_0003), KILL, "of another kind of program");
        }
        assert!(program.len() < 2000, "{} steps", program.len());
    }
    assert!(seen.contains_key(&KILL) && seen.contains_key(&ALLOW) && seen.len() == 4, "{seen:x?}");
}

/// Whether a process with all grants may make this call. The bits of an argument that the kernel ignores must
/// not matter.
#[test]
fn f115_arguments_decide_and_what_is_beside_them_does_not() {
    let dir = crate::policy::Policy::sealed()
        .dir("/etc", "/x", crate::spec::DirAccess::ReadWrite)
        .net("127.0.0.1:80");
    let grants = dir.resolve().unwrap().grants;
    let ours = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
    let mut may = BTreeMap::new();
    for role in [Worker, Zygote, Compiler] {
        may.insert(format!("{role:?}"), program(&calls(role, &grants, WHOLE)).unwrap());
    }
    let high = 7 << 32;
    let bits = |n: c_int| u64::from(n.cast_unsigned());
    let map = |protection: c_int, flags: c_int| [0, 4096, bits(protection), bits(flags), u64::MAX, 0];
    let (data, anonymous) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    for (number, args, allowed_in) in [
        (SYS_fcntl, [0, bits(F_GETFL), 0, 0, 0, 0], "WZC"),
        (SYS_fcntl, [0, bits(F_GETFL) | high, 0, 0, 0, 0], "WZC"),
        (SYS_fcntl, [0, bits(F_SETFL), bits(O_NONBLOCK), 0, 0, 0], "WZC"),
        (SYS_fcntl, [0, bits(F_SETFL), bits(O_NONBLOCK | O_ASYNC), 0, 0, 0], ""),
        (SYS_fcntl, [0, bits(F_SETOWN) | high, 1, 0, 0, 0], ""),
        (SYS_mmap, map(data, anonymous | MAP_NORESERVE | MAP_FIXED), "WZC"),
        (SYS_mmap, map(PROT_NONE, anonymous | MAP_STACK), "WZC"),
        (SYS_mmap, map(data, MAP_SHARED), "Z"),
        (SYS_mmap, map(data, MAP_SHARED | MAP_ANONYMOUS), ""),
        (SYS_mmap, map(PROT_READ | PROT_EXEC, anonymous), "C"),
        (SYS_mmap, map(data | PROT_EXEC, anonymous), ""),
        (SYS_mmap, map(data, anonymous | MAP_GROWSDOWN), ""),
        (SYS_mmap, [0, 4096, bits(data), bits(anonymous) | high, 0, 0], ""),
        (
            SYS_futex,
            [0, bits(FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME), 0, 0, 0, 0],
            "WZC",
        ),
        (SYS_futex, [0, bits(FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG), 0, 0, 0, 0], ""),
        (SYS_madvise, [0, 4096, bits(MADV_DONTNEED) | high, 0, 0, 0], "WZC"),
        (SYS_madvise, [0, 4096, bits(MADV_MERGEABLE), 0, 0, 0], ""),
        (SYS_sendto, [0, 0, 0, bits(MSG_NOSIGNAL | MSG_DONTWAIT) | high, 0, 0], "WZC"),
        (SYS_sendto, [0, 0, 0, bits(MSG_NOSIGNAL | MSG_OOB), 0, 0], ""),
        (SYS_sendto, [0, 0, 0, bits(MSG_NOSIGNAL), 1, 0], ""),
        (SYS_recvmsg, [0, 0, bits(MSG_CMSG_CLOEXEC), 0, 0, 0], "WZC"),
        (SYS_recvfrom, [0, 0, 0, bits(MSG_PEEK), 0, 0], ""),
        (SYS_ioctl, [0, FIONBIO, 0, 0, 0, 0], "WZ"),
        (SYS_ioctl, [0, TIOCSTI, 0, 0, 0, 0], ""),
        (SYS_prctl, [bits(PR_SET_NAME), 0, 0, 0, 0, 0], "ZC"),
        (SYS_prctl, [bits(PR_SET_PDEATHSIG), bits(SIGKILL), 0, 0, 0, 0], "Z"),
        (SYS_prctl, [bits(PR_SET_PDEATHSIG), 0, 0, 0, 0, 0], ""),
        (SYS_prctl, [bits(PR_SET_DUMPABLE), 1, 0, 0, 0, 0], ""),
        (SYS_seccomp, [1, SECCOMP_FILTER_FLAG_TSYNC, 0, 0, 0, 0], "Z"),
        (SYS_seccomp, [1, SECCOMP_FILTER_FLAG_NEW_LISTENER, 0, 0, 0, 0], ""),
        (SYS_tgkill, [1, 1, bits(SIGKILL), 0, 0, 0], ""),
        (SYS_setpgid, [0, 0, 0, 0, 0, 0], "Z"),
        (SYS_setpgid, [0, 5, 0, 0, 0, 0], ""),
    ] {
        for (role, program) in &may {
            let said = verdict(program, u32::try_from(number).unwrap(), args, ours) == 0x7fff_0000;
            assert_eq!(said, allowed_in.contains(&role[..1]), "{role}: {number} {args:x?}");
        }
    }
}

#[test]
fn what_a_worker_may_do_its_zygote_may_too() {
    for (grants, landlock) in granted().iter().flat_map(|grants| LANDLOCKS.map(|landlock| (grants, landlock)))
    {
        let zygote = calls(Zygote, grants, landlock);
        for number in calls(Worker, grants, landlock).keys() {
            // A worker has another process id than its zygote.
            assert!(zygote.get(number).is_some_and(|when| !matches!(when, OwnPid(_))), "{number}");
        }
    }
}

#[test]
fn each_call_comes_with_the_grant_that_needs_it() {
    let of = |grants: &Grants, number| calls(Worker, grants, WHOLE).get(&number).copied();
    let [sealed, read, write, net] = granted();
    assert!(matches!(of(&sealed, SYS_openat), Some(Refused)));
    assert!(matches!(of(&net, SYS_openat), Some(Refused)));
    assert!(matches!(of(&read, SYS_openat), Some(Always)));
    for (number, grants) in
        [(SYS_openat2, &read), (SYS_pwrite64, &write), (SYS_socket, &net), (SYS_connect, &net)]
    {
        assert!(of(&sealed, number).is_none() && of(grants, number).is_some(), "{number}");
    }
    assert!(of(&read, SYS_pwrite64).is_none() && of(&write, SYS_openat2).is_some());
    assert!(of(&read, SYS_connect).is_none() && of(&net, SYS_statx).is_none());
    // A compiler has no guest.
    assert_eq!(calls(Compiler, &net, WHOLE).len(), calls(Compiler, &sealed, WHOLE).len());
}
