//! The steps by which a process of ours confines itself, in their order.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags,
};
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::Shape;
use super::calls::{self, Landlock};
use crate::spec::{DirAccess, Grants, Layer, ProcessRole, Property, Sandbox, Status};

/// Limits of the process, beyond those of its tasks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessLimits {
    /// Bytes of private memory that can be written to.
    pub(crate) data: u64,
    /// Seconds of processor time; `None`: none (a worker runs task after task).
    pub(crate) cpu_secs: Option<u64>,
    /// Bytes of any file that is written.
    pub(crate) file: u64,
    /// Open descriptors.
    pub(crate) files: u64,
}

/// A process on its way into confinement. What it has not done yet it still needs.
#[derive(Debug)]
pub(crate) struct Confinement {
    sandbox: Sandbox,
    role: ProcessRole,
    parent: u32,
    pub(crate) status: Status,
    /// Of a zygote, for the workers that it forks: each becomes a domain of its own, so that it cannot reach its siblings either.
    ruleset: Option<RulesetCreated>,
    reach: Reach,
}

/// What of the machine is left within reach, because a policy grants it.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    grants: Grants,
    dirs: Vec<OwnedFd>,
}

impl Reach {
    /// `dirs` are the directories of the grants, in their order.
    pub(crate) fn new(grants: Grants, dirs: Vec<OwnedFd>) -> Reach {
        Reach { grants, dirs }
    }

    /// Everything else is out of reach: so it is put, for each part of landlock.
    fn out_of_reach(&self) -> [(Layer, String); 4] {
        let mode = |access| match access {
            DirAccess::ReadOnly => "read only",
            DirAccess::ReadWrite => "read and write",
        };
        let dirs: Vec<String> =
            self.grants.dirs.iter().map(|dir| format!("{} ({})", dir.guest, mode(dir.access))).collect();
        let ports: Vec<String> = self.ports().iter().map(u16::to_string).collect();
        let but = |what: &str, granted: Vec<String>| match granted.is_empty() {
            true => what.to_owned(),
            false => format!("{what} but {}", granted.join(" and ")),
        };
        [
            (Layer::LandlockFiles, format!("no {} (landlock)", but("file", dirs))),
            (Layer::LandlockTruncation, "no file that is only read is cut off (landlock)".to_owned()),
            (Layer::LandlockTcp, format!("no {} (landlock)", but("TCP port", ports))),
            (Layer::LandlockScope, "no abstract socket or signal outside (landlock)".to_owned()),
        ]
    }

    fn ports(&self) -> BTreeSet<u16> {
        self.grants.addresses().map(|address| address.port()).collect()
    }
}

/// What the whole of landlock is: files, TCP, abstract sockets and signals.
const LANDLOCK: ABI = ABI::V6;

/// The version of landlock that a part came with, and the kernel's.
const fn since(part: Layer) -> (i32, &'static str) {
    match part {
        Layer::LandlockTruncation => (3, "6.2"),
        Layer::LandlockTcp => (4, "6.7"),
        Layer::LandlockScope => (6, "6.12"),
        _ => (1, "5.13"),
    }
}

/// All that makes and changes files, directories and links. Not what makes sockets, pipes and devices, or drives one.
const READ_WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | MakeSym | RemoveFile | RemoveDir | Refer
});

const OFF: &str = "the sandbox is switched off";

impl Confinement {
    /// The first steps of a fresh process, before it reads a byte.
    pub(crate) fn begin(sandbox: Sandbox, role: ProcessRole, parent: u32) -> Confinement {
        let mut status = Status::default();
        status.note(Layer::ParentDeath, ENDS_WITH_PARENT, watch_parent(parent));
        let session = rustix::process::setsid().map(|_| ());
        status.note(Layer::Session, "a session of its own, without a terminal", session);
        status.note(Layer::Descriptors, "no inherited descriptors", crate::sys::close_from(3));
        status.note(Layer::Environment, "empty environment", empty_environment());
        status.note(Layer::Signals, "default signals", crate::sys::reset_signals());
        status.note(Layer::NoNewPrivileges, "no new privileges", rustix::thread::set_no_new_privs(true));
        // The cheapest process on the machine to lose.
        let first = std::fs::write("/proc/self/oom_score_adj", "1000");
        status.note(Layer::OutOfMemory, "first to go when memory runs out", first);
        Confinement { sandbox, role, parent, status, ruleset: None, reach: Reach::default() }
    }

    /// What a zygote has forked is a worker from now on.
    pub(crate) fn become_worker(&mut self) {
        self.role = ProcessRole::Worker;
        self.status.note(Layer::ParentDeath, ENDS_WITH_PARENT, watch_parent(self.parent));
    }

    /// Leads a process group of its own: whatever this process might start ends with it, and not with its siblings.
    pub(crate) fn lead_group(&mut self) {
        self.status.note(Layer::Group, "a process group of its own", rustix::process::setpgid(None, None));
    }

    /// Leaves something within reach.
    pub(crate) fn grant(&mut self, reach: Reach) {
        self.reach = reach;
    }

    /// Limits of the kernel on this process.
    pub(crate) fn limit(&mut self, limits: ProcessLimits) {
        let ProcessLimits { data, cpu_secs, file, files } = limits;
        let status = &mut self.status;
        status.note(Layer::NoCore, "no core dumps", set(Resource::Core, 0));
        let memory = format!("at most {} MiB of private memory", data >> 20);
        status.note(Layer::Data, &memory, set(Resource::Data, data));
        // The kernel's tables for addresses are memory too, which no limit counts: 8 bytes for each page that was touched.
        let addresses = addresses_in_use().saturating_add(ADDRESSES).saturating_add(data);
        status.note(Layer::Addresses, "bounded addresses, and tables for them", set(Resource::As, addresses));
        let written = format!("files of at most {} MiB", file >> 20);
        status.note(Layer::FileSize, &written, set(Resource::Fsize, file));
        status.note(Layer::FileCount, &format!("at most {files} descriptors"), set(Resource::Nofile, files));
        if let Some(secs) = cpu_secs {
            // SIGXCPU at the lower of the two tells which limit it was; at the upper one there is SIGKILL.
            status.note(
                Layer::ProcessorTime,
                &format!("at most {secs} s of processor time"),
                set_apart(Resource::Cpu, secs, secs.saturating_add(1)),
            );
        }
    }

    /// Leaves the namespaces of the machine, and all privileges. While the process has one thread, and before it reads anything of a module.
    ///
    /// Even root is nobody in a user namespace without a mapping. There is no network namespace: it costs milliseconds to make, and sockets
    /// are out of reach anyway. Nor one of processes: workers are the coordinator's own children.
    pub(crate) fn isolate(&mut self) {
        let namespaces = "user, IPC and host name namespaces of its own";
        self.take(Layer::Namespaces, namespaces, crate::sys::unshare_namespaces);
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        self.take(Layer::NoCapabilities, "no capabilities", || rustix::thread::set_capabilities(None, none));
        // Changed credentials may have undone it.
        let parent = self.parent;
        self.status.note(Layer::ParentDeath, ENDS_WITH_PARENT, watch_parent(parent));
    }

    /// From now on nothing can be opened but what is granted. After the module is loaded, and before there is a second thread.
    pub(crate) fn close_files(&mut self) {
        // From here on siblings, and everybody else without privileges, can neither trace this process nor read its memory.
        self.take(Layer::NotTraceable, "not traceable", || {
            rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        });
        let mut ruleset = self.ruleset.take();
        let mut kept = None;
        let reach = std::mem::take(&mut self.reach);
        let put_up = match self.sandbox {
            Sandbox::Off => Err(OFF.to_owned()),
            Sandbox::Strict | Sandbox::Default => (|| {
                let ruleset = match ruleset.take() {
                    Some(ruleset) => ruleset,
                    None => everything().and_then(|none| but(none, &reach)).map_err(|e| e.to_string())?,
                };
                if self.role == ProcessRole::Zygote {
                    kept = ruleset.try_clone().ok();
                }
                restrict(ruleset)
            })(),
        };
        for (part, name) in reach.out_of_reach() {
            let done = put_up.clone().and_then(|version| knows(version, part));
            self.status.note(part, &name, done);
        }
        self.ruleset = kept;
        // The rules hold the directories.
        self.reach = Reach { dirs: vec![], ..reach };
    }

    /// The last step: from now on only the system calls that its role needs, in all threads.
    pub(crate) fn close_calls(&mut self) {
        let grants = std::mem::take(&mut self.reach.grants);
        let landlock = Landlock {
            truncation: self.status.has(Layer::LandlockTruncation),
            scope: self.status.has(Layer::LandlockScope),
        };
        let role = self.role;
        self.take(Layer::Calls, "system calls by a list, no new machine code (seccomp)", || {
            calls::filter(role, &grants, landlock)
        });
        self.status.judge(role, Shape::of(&grants));
        self.reach.grants = grants;
    }

    /// Whether the process may go on. What is missing, for the coordinator to judge: it is heard first.
    pub(crate) fn verdict(&self) -> Verdict {
        match (self.sandbox, self.status.unheld()) {
            (Sandbox::Off, _) => Verdict::Whole,
            (_, missing) if missing.is_empty() => Verdict::Whole,
            (Sandbox::Default, missing) => Verdict::Lacking { missing, go_on: true },
            (Sandbox::Strict, missing) => Verdict::Lacking { missing, go_on: false },
        }
    }

    /// A step that belongs to the part that can be switched off.
    fn take<E: std::fmt::Display>(&mut self, layer: Layer, name: &str, step: impl FnOnce() -> Result<(), E>) {
        match self.sandbox {
            Sandbox::Strict | Sandbox::Default => self.status.note(layer, name, step()),
            Sandbox::Off => self.status.note(layer, name, Err(OFF)),
        }
    }
}

/// What became of the steps.
#[derive(Debug)]
pub(crate) enum Verdict {
    Whole,
    Lacking { missing: Vec<Property>, go_on: bool },
}

const ENDS_WITH_PARENT: &str = "ends with its parent";

/// Asks for SIGKILL at the parent's death. If the parent was gone before that, there is nobody to wait for.
pub(crate) fn watch_parent(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    match rustix::process::getppid().map(Pid::as_raw_nonzero) {
        Some(pid) if pid.get().unsigned_abs() == parent => Ok(()),
        _ => crate::sys::exit_now(0),
    }
}

/// A rule set that knows every kind of access and allows none.
fn everything() -> Result<RulesetCreated, landlock::RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()
}

/// The same with what is granted: files as the grant says, but no execution and no devices; connections by their ports, for the kernel knows no
/// more of them.
fn but(mut ruleset: RulesetCreated, reach: &Reach) -> Result<RulesetCreated, landlock::RulesetError> {
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

/// Gives the version of landlock that the kernel has.
fn restrict(ruleset: RulesetCreated) -> Result<i32, String> {
    match ruleset.restrict_self().map_err(|e| e.to_string())?.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(crate::sys::landlock_version()),
        RulesetStatus::NotEnforced => {
            Err("this kernel does not have it, or it is not switched on".to_owned())
        }
    }
}

fn knows(version: i32, part: Layer) -> Result<(), String> {
    match since(part) {
        (needed, _) if version >= needed => Ok(()),
        (_, kernel) => Err(format!("needs Linux {kernel}: this kernel's landlock is of version {version}")),
    }
}

/// What a process may map beyond its memory: an engine maps tens of gigabytes, nearly all of which it never touches. The kernel's tables
/// for so many are 256 MiB.
const ADDRESSES: u64 = 96 << 30;

/// Bytes of addresses that this process has mapped already; none if that is not told.
fn addresses_in_use() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().next().and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages.saturating_mul(rustix::param::page_size() as u64)
}

fn empty_environment() -> Result<(), String> {
    let ours = ["RUST_BACKTRACE", "WAST_STRICT_COMPONENT_INDICES"];
    match std::env::vars_os().find(|(name, _)| !ours.iter().any(|known| name == known)) {
        None => Ok(()),
        Some((name, _)) => Err(format!("{} is set", name.display())),
    }
}

/// Lowers a limit; one that is lower already stays.
fn set(resource: Resource, wanted: u64) -> io::Result<()> {
    set_apart(resource, wanted, wanted)
}

fn set_apart(resource: Resource, lower: u64, upper: u64) -> io::Result<()> {
    let had = rustix::process::getrlimit(resource);
    let upper = had.maximum.map_or(upper, |had| had.min(upper));
    let lower = had.current.map_or(lower, |had| had.min(lower)).min(upper);
    Ok(rustix::process::setrlimit(resource, Rlimit { current: Some(lower), maximum: Some(upper) })?)
}
