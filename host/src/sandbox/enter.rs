//! The steps by which a process of ours confines itself, in the order in which they must come.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags,
};
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::calls::Landlock;
use super::filter;
use super::requirement::GrantKinds;
use crate::spec::{DirAccess, Grants, Layer, ProcessRole, Property, Sandbox, Status};

/// Limits of the process, beside the limits of its tasks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessLimits {
    /// Bytes of private writable memory.
    pub(crate) data: u64,
    /// Seconds of processor time. `None`: no limit, because a worker runs any number of tasks.
    pub(crate) cpu_secs: Option<u64>,
    /// Bytes of each file that is written.
    pub(crate) file: u64,
    /// Open descriptors.
    pub(crate) files: u64,
}

/// A process on its way into its confinement. Each step comes as early as possible: after the last use of
/// what it takes away.
#[derive(Debug)]
pub(crate) struct Confinement {
    sandbox: Sandbox,
    role: ProcessRole,
    parent: u32,
    pub(crate) status: Status,
    /// In a zygote, the rules for the workers that it forks. Each worker enters a domain of its own, in which
    /// it cannot reach its siblings.
    ruleset: Option<RulesetCreated>,
    reach: Reach,
}

/// The parts of the machine that stay within reach, because a policy grants them.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    grants: Grants,
    dirs: Vec<OwnedFd>,
}

impl Reach {
    /// `dirs`: the directories of `grants`, in the same order.
    pub(crate) fn new(grants: Grants, dirs: Vec<OwnedFd>) -> Reach {
        Reach { grants, dirs }
    }

    /// For each part of landlock, the sentence that says what it keeps out of reach.
    fn out_of_reach(&self) -> [(Layer, String); 4] {
        let mode = |access| match access {
            DirAccess::ReadOnly => "read only",
            DirAccess::ReadWrite => "read and write",
        };
        let dirs: Vec<String> =
            self.grants.dirs.iter().map(|dir| format!("{} ({})", dir.guest, mode(dir.access))).collect();
        let ports: Vec<String> = self.ports().iter().map(u16::to_string).collect();
        let except = |what: &str, granted: Vec<String>| {
            if granted.is_empty() { what.to_owned() } else { format!("{what} but {}", granted.join(" and ")) }
        };
        [
            (Layer::LandlockFiles, format!("no {} (landlock)", except("file", dirs))),
            (Layer::LandlockTruncation, "no file that is only read is cut off (landlock)".to_owned()),
            (Layer::LandlockTcp, format!("no {} (landlock)", except("TCP port", ports))),
            (Layer::LandlockScope, "no abstract socket or signal outside (landlock)".to_owned()),
        ]
    }

    fn ports(&self) -> BTreeSet<u16> {
        self.grants.addresses().map(|address| address.port()).collect()
    }
}

/// The version of landlock with all parts that are used: files, TCP, abstract sockets and signals.
const LANDLOCK: ABI = ABI::V6;

/// The first version of landlock that has a part, and the first Linux with that version.
const fn first_version(part: Layer) -> (i32, &'static str) {
    match part {
        Layer::LandlockTruncation => (3, "6.2"),
        Layer::LandlockTcp => (4, "6.7"),
        Layer::LandlockScope => (6, "6.12"),
        _ => (1, "5.13"),
    }
}

/// The rights to make and change files, directories and links. No rights to make sockets, pipes and devices,
/// or to control a device.
const READ_WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | MakeSym | RemoveFile | RemoveDir | Refer
});

const OFF: &str = "the sandbox is switched off";

impl Confinement {
    /// Takes the first steps of a new process, before it reads a byte.
    pub(crate) fn begin(sandbox: Sandbox, role: ProcessRole, parent: u32) -> Confinement {
        let mut status = Status::default();
        // First: should anything below hang, the process still ends with its coordinator.
        status.note(Layer::ParentDeath, ENDS_WITH_PARENT, watch_parent(parent));
        // For a zygote this is more than hygiene: the coordinator knows a zygote's workers by their session.
        let session = rustix::process::setsid().map(|_| ());
        status.note(Layer::Session, "a session of its own, without a terminal", session);
        // 0 to 2 stay: the socket, and twice /dev/null.
        status.note(Layer::Descriptors, "no inherited descriptors", crate::sys::close_from(3));
        status.note(Layer::Environment, "empty environment", empty_environment());
        status.note(Layer::Signals, "default signals", crate::sys::reset_signals());
        // The kernel demands this of a process without privileges before it takes a filter or a domain.
        status.note(Layer::NoNewPrivileges, "no new privileges", rustix::thread::set_no_new_privs(true));
        // A worker is the process of the machine that costs least to lose.
        // A process may always raise its own score. To lower it again takes a privilege.
        let first = std::fs::write("/proc/self/oom_score_adj", "1000");
        status.note(Layer::OutOfMemory, "first to go when memory runs out", first);
        Confinement { sandbox, role, parent, status, ruleset: None, reach: Reach::default() }
    }

    /// Turns the forked child of a zygote into a worker. The fork has lost its parent-death signal.
    pub(crate) fn become_worker(&mut self) {
        self.role = ProcessRole::Worker;
        self.status.note(Layer::ParentDeath, ENDS_WITH_PARENT, watch_parent(self.parent));
    }

    /// Makes the process the leader of a process group of its own. The coordinator kills the group: with the
    /// process, anything that it might have started.
    pub(crate) fn lead_group(&mut self) {
        self.status.note(Layer::Group, "a process group of its own", rustix::process::setpgid(None, None));
    }

    /// Sets what stays within reach.
    pub(crate) fn grant(&mut self, reach: Reach) {
        self.reach = reach;
    }

    /// Sets the kernel's limits on this process.
    pub(crate) fn limit(&mut self, limits: ProcessLimits) {
        let ProcessLimits { data, cpu_secs, file, files } = limits;
        let status = &mut self.status;
        // A core file would hold inputs of tasks, on a disk where others may read it.
        status.note(Layer::NoCore, "no core dumps", set(Resource::Core, 0));
        // RLIMIT_DATA counts private writable memory. RLIMIT_RSS, whose name fits better, has no effect in
        // today's kernels.
        let memory = format!("at most {} MiB of private memory", data >> 20);
        status.note(Layer::Data, &memory, set(Resource::Data, data));
        // Page tables are memory that no limit counts: 8 bytes for each page that was touched. Hence a limit
        // on addresses.
        let addresses = addresses_in_use().saturating_add(ADDRESSES).saturating_add(data);
        status.note(Layer::Addresses, "bounded addresses, and tables for them", set(Resource::As, addresses));
        let written = format!("files of at most {} MiB", file >> 20);
        status.note(Layer::FileSize, &written, set(Resource::Fsize, file));
        status.note(Layer::FileCount, &format!("at most {files} descriptors"), set(Resource::Nofile, files));
        if let Some(secs) = cpu_secs {
            // At the lower limit comes SIGXCPU, which names the limit to the coordinator. At the upper one
            // comes SIGKILL.
            status.note(
                Layer::ProcessorTime,
                &format!("at most {secs} s of processor time"),
                set_apart(Resource::Cpu, secs, secs.saturating_add(1)),
            );
        }
    }

    /// Leaves the namespaces of the machine, and drops all privileges. Called before the process reads a
    /// module, and while it has one thread, as the kernel demands.
    ///
    /// In a user namespace without a mapping, even root has no rights. There is no network namespace: it
    /// takes milliseconds to make, and sockets are out of reach anyway. There is no namespace of processes:
    /// workers are children of the coordinator.
    pub(crate) fn isolate(&mut self) {
        // Before the capabilities are dropped: a new user namespace gives a full set of them, in that
        // namespace.
        let namespaces = "user, IPC and host name namespaces of its own";
        self.note_unless_off(Layer::Namespaces, namespaces, crate::sys::unshare_namespaces);
        // No inheritable set either: nothing is executed, but the list should not be all that says so.
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        self.note_unless_off(Layer::NoCapabilities, "no capabilities", || {
            rustix::thread::set_capabilities(None, none)
        });
        // A change of credentials clears the parent-death signal.
        let parent = self.parent;
        self.status.note(Layer::ParentDeath, ENDS_WITH_PARENT, watch_parent(parent));
    }

    /// Closes the file system, except for what is granted. Called after the module is loaded, and before
    /// there is a second thread, which would keep its access.
    pub(crate) fn close_files(&mut self) {
        // Siblings, and all other processes without privileges, can then neither trace this process nor read
        // its memory.
        // Not earlier: for a process that is not dumpable, the files in /proc/self belong to root, and a
        // worker opens the artefact through one of them.
        self.note_unless_off(Layer::NotTraceable, "not traceable", || {
            rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        });
        let mut ruleset = self.ruleset.take();
        let mut kept = None;
        let reach = std::mem::take(&mut self.reach);
        let entered = match self.sandbox {
            Sandbox::Off => Err(OFF.to_owned()),
            Sandbox::Strict | Sandbox::Default => (|| {
                let ruleset = match ruleset.take() {
                    Some(ruleset) => ruleset,
                    None => no_access().and_then(|none| allow(none, &reach)).map_err(|e| e.to_string())?,
                };
                if self.role == ProcessRole::Zygote {
                    // A zygote's own domain does not separate its children from each other, since they
                    // inherit the same one.
                    kept = ruleset.try_clone().ok();
                }
                restrict(ruleset)
            })(),
        };
        for (part, name) in reach.out_of_reach() {
            let done = entered.clone().and_then(|version| check_version(version, part));
            self.status.note(part, &name, done);
        }
        self.ruleset = kept;
        // The rules hold the directories from now on.
        // Their descriptors are closed here; the guest's file system has copies of its own.
        self.reach = Reach { dirs: vec![], ..reach };
    }

    /// Takes the last step: allows only the system calls that the role needs, in all threads.
    pub(crate) fn close_calls(&mut self) {
        let grants = std::mem::take(&mut self.reach.grants);
        // What landlock enforced, not what the kernel's version promises: it may have been switched off at
        // the start of the machine.
        let landlock = Landlock {
            truncation: self.status.has(Layer::LandlockTruncation),
            scope: self.status.has(Layer::LandlockScope),
        };
        let role = self.role;
        self.note_unless_off(Layer::Calls, "system calls by a list, no new machine code (seccomp)", || {
            filter::install(role, &grants, landlock)
        });
        // Behind the last step, whether it succeeded or not: a property can hold by another layer.
        self.status.judge(role, GrantKinds::of(&grants));
        self.reach.grants = grants;
    }

    /// What is enforced after the last step, and whether the process may go on with it.
    pub(crate) fn enforcement(&self) -> Enforcement {
        match (self.sandbox, self.status.unheld()) {
            (Sandbox::Off, _) => Enforcement::Complete,
            (_, missing) if missing.is_empty() => Enforcement::Complete,
            (Sandbox::Default, missing) => Enforcement::Lacking { missing, go_on: true },
            (Sandbox::Strict, missing) => Enforcement::Lacking { missing, go_on: false },
        }
    }

    /// Takes a step, unless the sandbox is switched off, and notes its outcome.
    fn note_unless_off<E: std::fmt::Display>(
        &mut self,
        layer: Layer,
        name: &str,
        step: impl FnOnce() -> Result<(), E>,
    ) {
        match self.sandbox {
            Sandbox::Strict | Sandbox::Default => self.status.note(layer, name, step()),
            Sandbox::Off => self.status.note(layer, name, Err(OFF)),
        }
    }
}

/// Whether all required properties hold.
#[derive(Debug)]
pub(crate) enum Enforcement {
    /// All of them hold, or the sandbox is switched off.
    Complete,
    /// Some are missing. `go_on`: the process may run guests all the same.
    Lacking { missing: Vec<Property>, go_on: bool },
}

const ENDS_WITH_PARENT: &str = "ends with its parent";

/// Asks the kernel for SIGKILL at the parent's death. Exits if the parent was gone before: then no signal
/// would come.
pub(crate) fn watch_parent(parent: u32) -> io::Result<()> {
    // In this order: a parent that ends between the two is noticed by the second, one that ends later by the
    // first.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    match rustix::process::getppid().map(Pid::as_raw_nonzero) {
        Some(pid) if pid.get().unsigned_abs() == parent => Ok(()),
        _ => crate::sys::exit_now(0),
    }
}

/// A rule set that covers every kind of access and allows none.
fn no_access() -> Result<RulesetCreated, landlock::RulesetError> {
    Ruleset::default()
        // The crate's default is best effort: rights that this kernel does not know are left out, and
        // `check_version` reports them.
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()
}

/// Adds the grants to a rule set: files as the grant says, without execution and devices; connections by
/// their ports, because landlock does not cover addresses.
fn allow(mut ruleset: RulesetCreated, reach: &Reach) -> Result<RulesetCreated, landlock::RulesetError> {
    for (granted, dir) in reach.grants.dirs.iter().zip(&reach.dirs) {
        let access = match granted.access {
            DirAccess::ReadOnly => AccessFs::ReadFile | AccessFs::ReadDir,
            DirAccess::ReadWrite => READ_WRITE,
        };
        ruleset = ruleset.add_rule(PathBeneath::new(dir, access))?;
    }
    for port in reach.ports() {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    Ok(ruleset)
}

/// Enters the domain of a rule set. Returns the version of landlock that the kernel has.
fn restrict(ruleset: RulesetCreated) -> Result<i32, String> {
    match ruleset.restrict_self().map_err(|e| e.to_string())?.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(crate::sys::landlock_version()),
        RulesetStatus::NotEnforced => {
            Err("this kernel does not have it, or it is not switched on".to_owned())
        }
    }
}

/// An error if this version of landlock does not have this part.
fn check_version(version: i32, part: Layer) -> Result<(), String> {
    match first_version(part) {
        (needed, _) if version >= needed => Ok(()),
        (_, kernel) => Err(format!("needs Linux {kernel}: this kernel's landlock is of version {version}")),
    }
}

/// Bytes of addresses that a process may map beside its memory. The engine maps tens of gigabytes, and
/// touches few of them. Page tables for all of these would take about 200 MiB.
const ADDRESSES: u64 = 96 << 30;

/// Bytes of addresses that this process has mapped already. 0 if `/proc` is not there.
// RLIMIT_AS counts what is mapped already. A program of an embedding application may have gigabytes of its
// own.
fn addresses_in_use() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().next().and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages.saturating_mul(rustix::param::page_size() as u64)
}

fn empty_environment() -> Result<(), String> {
    // Compared with what is really there: an audit of the sandbox must not rely on the starter's `env_clear`.
    let ours = ["RUST_BACKTRACE", "WAST_STRICT_COMPONENT_INDICES"];
    match std::env::vars_os().find(|(name, _)| !ours.iter().any(|known| name == known)) {
        None => Ok(()),
        Some((name, _)) => Err(format!("{} is set", name.display())),
    }
}

/// Lowers a limit. A limit that is lower already stays.
fn set(resource: Resource, wanted: u64) -> io::Result<()> {
    set_apart(resource, wanted, wanted)
}

fn set_apart(resource: Resource, lower: u64, upper: u64) -> io::Result<()> {
    let had = rustix::process::getrlimit(resource);
    // A process without privileges cannot raise its upper limit: asking for that would fail, and leave the
    // limit as it was.
    let upper = had.maximum.map_or(upper, |had| had.min(upper));
    let lower = had.current.map_or(lower, |had| had.min(lower)).min(upper);
    Ok(rustix::process::setrlimit(resource, Rlimit { current: Some(lower), maximum: Some(upper) })?)
}
