//! How an import is provided: what a guest gets for it, or which grant is missing.

use super::function::{self, FromApplication, IN_INTERFACE};
use super::{Policy, Variable};
use crate::escape::list;
use crate::spec::exchange::ObjectKind;
use crate::spec::{Clock, DirAccess, Import, ImportKind, ModuleInfo, ModuleKind, Random};

/// The module name that WASI preview 1 guests import from.
pub(crate) const PREVIEW1: &str = "wasi_snapshot_preview1";

/// All functions of WASI preview 1. The coordinator has no engine to ask; a test in `worker/guest/core.rs`
/// compares this list with the engine.
#[rustfmt::skip]
pub(crate) const PREVIEW1_FUNCTIONS: [&str; 46] = [
    "args_get", "args_sizes_get", "clock_res_get", "clock_time_get", "environ_get", "environ_sizes_get",
    "fd_advise", "fd_allocate", "fd_close", "fd_datasync", "fd_fdstat_get", "fd_fdstat_set_flags",
    "fd_fdstat_set_rights", "fd_filestat_get", "fd_filestat_set_size", "fd_filestat_set_times", "fd_pread",
    "fd_prestat_dir_name", "fd_prestat_get", "fd_pwrite", "fd_read", "fd_readdir", "fd_renumber", "fd_seek",
    "fd_sync", "fd_tell", "fd_write", "path_create_directory", "path_filestat_get", "path_filestat_set_times",
    "path_link", "path_open", "path_readlink", "path_remove_directory", "path_rename", "path_symlink",
    "path_unlink_file", "poll_oneoff", "proc_exit", "proc_raise", "random_get", "sched_yield", "sock_accept",
    "sock_recv", "sock_send", "sock_shutdown",
];

/// The interface that tells a guest about its own process.
pub(crate) const PROCESS: &str = "wpool:process/current";
/// The interface through which a guest reports the outcomes of many records, in any compatible version.
pub(crate) const BATCH: &str = "wpool:task/batch";

/// The interfaces of the objects that workers share, and the kinds of these objects.
const SHARED: [(&str, &[ObjectKind]); 11] = [
    ("wpool:ipc/errors", &[]),
    ("wpool:ipc/queues", &[ObjectKind::Queue]),
    ("wpool:ipc/connections", &[ObjectKind::Connection]),
    ("wpool:ipc/waiting", &[ObjectKind::Queue, ObjectKind::Connection]),
    ("wpool:ipc/values", &[ObjectKind::Value]),
    ("wpool:ipc/dicts", &[ObjectKind::Dict]),
    ("wpool:sync/locks", &[ObjectKind::Lock, ObjectKind::RLock]),
    ("wpool:sync/semaphores", &[ObjectKind::Semaphore]),
    ("wpool:sync/events", &[ObjectKind::Event]),
    ("wpool:sync/conditions", &[ObjectKind::Condition]),
    ("wpool:sync/barriers", &[ObjectKind::Barrier]),
];

/// How a worker provides an import under its policy.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("hello")?;
/// use wpool::policy::Grant;
/// use wpool::Policy;
///
/// for (import, grant) in module.info().grants(&Policy::sealed().env("LANG", "C")) {
///     match grant {
///         Grant::Default(gives) => println!("{}: {gives}", import.name),
///         Grant::Granted(gives) => println!("{} by the policy: {gives}", import.name),
///         Grant::Missing(reason) => println!("{} is missing: {reason}", import.name),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Always provided. The text says what the guest gets, if that is less than the name promises.
    Default(String),
    /// Provided by the policy. The text says what the guest gets.
    Granted(String),
    /// Not provided, so the module cannot run. The text says why, or what to do.
    Missing(String),
}

impl Grant {
    /// The text of the variant.
    pub fn note(&self) -> &str {
        match self {
            Grant::Default(note) | Grant::Granted(note) | Grant::Missing(note) => note,
        }
    }
}

/// Which imports of a module a policy provides.
impl ModuleInfo {
    /// The imports, and how a worker with this policy provides each.
    pub fn grants(&self, policy: &Policy) -> impl Iterator<Item = (&Import, Grant)> {
        self.imports.iter().map(|import| (import, grant(policy, self.kind, import)))
    }

    /// The imports that a worker with this policy does not provide, each with the reason.
    pub fn missing(&self, policy: &Policy) -> impl Iterator<Item = (&str, String)> {
        self.grants(policy).filter_map(|(import, grant)| match grant {
            Grant::Missing(why) => Some((import.name.as_str(), why)),
            Grant::Default(_) | Grant::Granted(_) => None,
        })
    }
}

/// How a worker with this policy provides an import of a module of this kind.
pub(crate) fn grant(policy: &Policy, kind: ModuleKind, import: &Import) -> Grant {
    match (by_name(policy, kind, &import.name), import.kind) {
        (Grant::Missing(_), ImportKind::Types) => Grant::Default("names of types".to_owned()),
        // Not for an import that a policy can grant: the user has to grant or refuse that one.
        (Grant::Missing(why), ImportKind::Function | ImportKind::Interface)
            if !is_provided(kind, &import.name) =>
        {
            unknown(policy, kind, import, &why)
        }
        (Grant::Missing(why), ImportKind::Other) if policy.traps_unknown => {
            not_there(&format!("{why}, and only a function can trap"))
        }
        (Grant::Default(_) | Grant::Granted(_), ImportKind::Other) if kind == ModuleKind::Core => {
            not_there("WASI preview 1 has functions only")
        }
        (grant, _) => grant,
    }
}

/// What guests can open by an interface of shared objects.
fn shared(policy: &Policy, kinds: &[ObjectKind]) -> Grant {
    if kinds.is_empty() {
        return Grant::Default("names of types".to_owned());
    }
    let of_kind = policy.shares.iter().filter(|share| kinds.contains(&share.object.kind()));
    let names: Vec<String> = of_kind.map(|share| format!("{} {}", share.object.kind(), share.name)).collect();
    if names.is_empty() {
        let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
        let kinds = list(&kinds, " or ");
        return Grant::Default(format!(
            "no {kinds} is shared: a guest can open none (--share, Policy::share)"
        ));
    }
    Grant::Granted(list(&names, ", "))
}

/// How functions are provided that wpool does not have: by the application, or as functions that trap.
fn unknown(policy: &Policy, kind: ModuleKind, import: &Import, why: &str) -> Grant {
    let given = match kind {
        ModuleKind::Component => function::given(&policy.functions, import),
        ModuleKind::Core => FromApplication::None,
    };
    match (given, policy.traps_unknown) {
        (FromApplication::All(names), _) => {
            Grant::Granted(format!("functions of the application: {}", list(&names, ", ")))
        }
        (FromApplication::Some { given, .. }, true) => {
            Grant::Granted(format!("functions of the application: {}; others trap", list(&given, ", ")))
        }
        (FromApplication::Some { given, absent }, false) => {
            let (given, absent) = (list(&given, ", "), list(&absent, ", "));
            not_there(&format!("the application gives {given}, but not {absent}"))
        }
        (FromApplication::None, true) => {
            Grant::Granted("unknown import: it traps when it is called".to_owned())
        }
        (FromApplication::None, false) => match (kind, function::hint(&policy.functions, import)) {
            (ModuleKind::Component, Some(hint)) => not_there(&format!("{why}; {hint}")),
            (ModuleKind::Component, None) | (ModuleKind::Core, _) => not_there(why),
        },
    }
}

/// Whether wpool has an implementation of this import, which some policy grants.
pub(crate) fn is_provided(kind: ModuleKind, name: &str) -> bool {
    // `refuse_net` provides sockets, so this policy provides every import that wpool implements.
    !matches!(by_name(&Policy::sealed().refuse_net(), kind, name), Grant::Missing(_))
}

/// Messages about the imports that a worker with this policy does not provide. Imports with the same reason
/// share one.
pub(crate) fn missing(policy: &Policy, kind: ModuleKind, imports: &[Import]) -> Vec<String> {
    let mut by_reason: Vec<(String, Vec<&str>)> = Vec::new();
    for import in imports {
        let Grant::Missing(why) = grant(policy, kind, import) else { continue };
        // A list, not a map: the reasons stay in the order of the imports, and there are few.
        match by_reason.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, names)) => names.push(&import.name),
            None => by_reason.push((why, vec![&import.name])),
        }
    }
    by_reason.into_iter().map(|(why, names)| format!("{} ({why})", names.join(", "))).collect()
}

fn by_name(policy: &Policy, kind: ModuleKind, name: &str) -> Grant {
    match kind {
        ModuleKind::Component => of_component(policy, name),
        ModuleKind::Core => match name.split_once(' ') {
            Some((PREVIEW1, function)) if PREVIEW1_FUNCTIONS.contains(&function) => all_of_preview1(policy),
            Some((PREVIEW1, _)) => not_there("WASI preview 1 has no function of that name"),
            _ => not_there("core modules can import WASI preview 1 only"),
        },
    }
}

fn not_there(reason: &str) -> Grant {
    Grant::Missing(reason.to_owned())
}

fn of_component(policy: &Policy, name: &str) -> Grant {
    if name.contains(IN_INTERFACE) {
        return not_there("the interface has no function of that name");
    }
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    if interface == BATCH {
        return match version {
            "0.1.0" => Grant::Default("takes the outcomes of many records".to_owned()),
            _ => not_there("only version 0.1.0 is known"),
        };
    }
    if interface == PROCESS {
        return match (version, policy.deterministic) {
            ("0.1.0", false) => Grant::Default("the worker's name, index and state".to_owned()),
            ("0.1.0", true) => Grant::Default("the same name and index in every worker".to_owned()),
            _ => not_there("only version 0.1.0 is known"),
        };
    }
    if let Some((_, kinds)) = SHARED.iter().find(|(name, _)| *name == interface) {
        return match version {
            "0.1.0" => shared(policy, kinds),
            _ => not_there("only version 0.1.0 is known"),
        };
    }
    let Some(wasi) = interface.strip_prefix("wasi:") else {
        return not_there("no host interface of that name");
    };
    // The patch versions of WASI 0.2 are compatible with each other.
    if !version.starts_with("0.2.") {
        return not_there("only WASI 0.2 is provided");
    }
    match wasi.split_once('/').unwrap_or((wasi, "")) {
        ("cli", "environment") => environment(policy),
        ("cli", "stdin") => Grant::Default("a command's record; empty for a function".to_owned()),
        ("cli", "exit" | "stdout" | "stderr") => Grant::Default(String::new()),
        ("cli", "terminal-input" | "terminal-output") => Grant::Default(String::new()),
        ("cli", "terminal-stdin" | "terminal-stdout" | "terminal-stderr") => Grant::Default(String::new()),
        ("io", "error" | "poll" | "streams") => Grant::Default(String::new()),
        ("random", "random" | "insecure" | "insecure-seed") => random(policy),
        ("clocks", "monotonic-clock" | "wall-clock") => clock(policy),
        ("filesystem", "types" | "preopens") => directories(policy),
        ("sockets", "instance-network" | "network" | "ip-name-lookup") => sockets(policy),
        ("sockets", "tcp" | "tcp-create-socket" | "udp" | "udp-create-socket") => sockets(policy),
        _ => not_there("not among the interfaces that workers provide"),
    }
}

/// WASI preview 1 is one interface for everything, so its note lists all parts.
fn all_of_preview1(policy: &Policy) -> Grant {
    // Sockets are not among them: preview 1 can only use those that it is given, and gets none.
    let parts = [directories(policy), environment(policy), clock(policy), random(policy)];
    let is_granted = parts.iter().any(|part| matches!(part, Grant::Granted(_)));
    let notes: Vec<String> =
        parts.into_iter().map(|part| part.note().to_owned()).filter(|note| !note.is_empty()).collect();
    let notes = format!("WASI preview 1: {}", notes.join(", "));
    if is_granted { Grant::Granted(notes) } else { Grant::Default(notes) }
}

fn environment(policy: &Policy) -> Grant {
    let mut names: Vec<&str> = policy.env.iter().map(Variable::name).collect();
    names.dedup();
    if names.is_empty() {
        return Grant::Default("no variables (--env); arguments only for a command".to_owned());
    }
    Grant::Granted(format!("the variables {}", names.join(", ")))
}

fn directories(policy: &Policy) -> Grant {
    let mode = |access| match access {
        DirAccess::ReadOnly => "read only",
        DirAccess::ReadWrite => "read and write",
    };
    let dirs: Vec<String> = policy
        .dirs
        .iter()
        .map(|dir| format!("{} is {} ({})", dir.guest, dir.host.display(), mode(dir.access)))
        .collect();
    if dirs.is_empty() {
        return Grant::Default("no directory (--dir)".to_owned());
    }
    Grant::Granted(dirs.join(", "))
}

fn clock(policy: &Policy) -> Grant {
    match policy.clock {
        Clock::Coarse => Grant::Default("clocks of milliseconds (--clock)".to_owned()),
        Clock::Fine => Grant::Granted("the kernel's clocks".to_owned()),
        Clock::Fixed(_) => Grant::Granted("a clock that stands still".to_owned()),
    }
}

fn random(policy: &Policy) -> Grant {
    match policy.random {
        Random::Secure => Grant::Default(String::new()),
        Random::Seeded(seed) => Grant::Granted(format!("random numbers from the seed {seed}")),
    }
}

/// Sockets are provided only if the caller asks for them. The user should learn before the run that a guest
/// wants to connect, instead of seeing a refused connection in the middle of it.
fn sockets(policy: &Policy) -> Grant {
    match &policy.net {
        None => not_there("needs --net HOST:PORT, or --net none if it is never used"),
        Some(net) if net.0.is_empty() => Grant::Granted("every connection is refused".to_owned()),
        Some(net) => Grant::Granted(format!("TCP to {}", net.0.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(name: &str) -> Import {
        Import { name: name.to_owned(), kind: ImportKind::Interface, functions: Vec::new() }
    }

    #[test]
    fn f142_what_is_not_provided_traps_if_it_is_to_and_names_of_types_are_never_missing() {
        let trapping = Policy::sealed().trap_unknown_imports();
        let of = |policy: &Policy, name: &str, kind| {
            let import = Import { kind, ..import(name) };
            matches!(grant(policy, ModuleKind::Component, &import), Grant::Missing(_))
        };
        for kind in [ImportKind::Function, ImportKind::Interface] {
            assert!(of(&Policy::sealed(), "acme:log/log", kind));
            assert!(!of(&trapping, "acme:log/log", kind));
            // Sockets can be granted or refused, so a missing grant has its own message.
            assert!(of(&trapping, "wasi:sockets/tcp@0.2.0", kind));
        }
        assert!(of(&trapping, "acme:log/log", ImportKind::Other));
        assert!(!of(&Policy::sealed(), "acme:log/log", ImportKind::Types));
        assert!(!of(&Policy::sealed(), "wasi:sockets/network@0.2.0", ImportKind::Types));
    }

    #[test]
    fn f148_what_is_missing_for_one_reason_is_told_with_it_once() {
        let imports = ["wasi:sockets/tcp@0.2.0", "acme:a/b", "wasi:sockets/udp@0.2.0"].map(import);
        let told = missing(&Policy::sealed(), ModuleKind::Component, &imports);
        assert_eq!(told.len(), 2);
        assert!(
            told[0].starts_with("wasi:sockets/tcp@0.2.0, wasi:sockets/udp@0.2.0 (needs --net "),
            "{told:?}"
        );
    }

    #[test]
    fn an_import_is_met_by_the_policy() {
        let of = |policy: &Policy, name: &str| grant(policy, ModuleKind::Component, &import(name));
        let sealed = Policy::sealed();
        for name in ["wasi:cli/environment@0.2.0", "wasi:filesystem/types@0.2.6", "wasi:random/random@0.2.0"]
        {
            assert!(matches!(of(&sealed, name), Grant::Default(_)), "{name}");
        }
        let some = sealed.clone().env("A", "1").dir("/", "/x", DirAccess::ReadOnly).random(Random::Seeded(7));
        for (name, note) in [
            ("wasi:cli/environment@0.2.0", "the variables A"),
            ("wasi:filesystem/types@0.2.6", "/x is / (read only)"),
            ("wasi:random/insecure@0.2.0", "random numbers from the seed 7"),
        ] {
            assert_eq!(of(&some, name), Grant::Granted(note.to_owned()));
        }
        for name in
            ["wasi:http/types@0.2.0", "wasi:cli/stdout@0.3.0", "x:y/z", "f", "wpool:process/current@0.2.0"]
        {
            assert!(matches!(of(&some, name), Grant::Missing(_)), "{name}");
        }
    }

    #[test]
    fn f97_sockets_are_missing_until_they_are_granted_or_refused() {
        let of = |policy: Policy| grant(&policy, ModuleKind::Component, &import("wasi:sockets/tcp@0.2.0"));
        assert!(matches!(of(Policy::sealed()), Grant::Missing(why) if why.contains("--net")));
        assert_eq!(
            of(Policy::sealed().refuse_net()),
            Grant::Granted("every connection is refused".to_owned())
        );
        assert_eq!(of(Policy::sealed().net("a:1").net("b:2")), Grant::Granted("TCP to a:1, b:2".to_owned()));
    }

    #[test]
    fn x1_shared_objects_are_always_provided_to_a_component_in_the_version_that_is_known() {
        let of = |name: &str| grant(&Policy::sealed(), ModuleKind::Component, &import(name));
        for (interface, kinds) in SHARED {
            let grant = of(&format!("{interface}@0.1.0"));
            assert!(matches!(&grant, Grant::Default(_)), "{grant:?}");
            assert_eq!(grant.note().contains("--share"), !kinds.is_empty(), "{interface}");
            assert!(matches!(of(&format!("{interface}@0.2.0")), Grant::Missing(_)));
            assert!(matches!(of(&format!("{interface}@0.1.0#teleport")), Grant::Missing(_)));
            let of_core = super::grant(
                &Policy::sealed(),
                ModuleKind::Core,
                &import(&format!("{interface}@0.1.0 open")),
            );
            assert!(matches!(of_core, Grant::Missing(_)), "{interface}");
        }
        assert!(matches!(of("wpool:ipc/pipes@0.1.0"), Grant::Missing(_)));
    }

    #[test]
    fn x2_the_grant_of_an_interface_names_what_the_policy_shares_by_it() {
        let queue = crate::ipc::Queue::<String>::unbounded();
        let policy = Policy::sealed().share("found", &queue).share("db", &crate::sync::RLock::new());
        let policy = policy.share("jobs", &queue);
        let of = |name: &str| grant(&policy, ModuleKind::Component, &import(name));
        let granted = |note: &str| Grant::Granted(note.to_owned());
        assert_eq!(of("wpool:ipc/queues@0.1.0"), granted("queue found, queue jobs"));
        assert_eq!(of("wpool:ipc/waiting@0.1.0"), granted("queue found, queue jobs"));
        assert_eq!(of("wpool:sync/locks@0.1.0"), granted("rlock db"));
        let none = "no event is shared: a guest can open none (--share, Policy::share)";
        assert_eq!(of("wpool:sync/events@0.1.0"), Grant::Default(none.to_owned()));
    }

    #[test]
    fn a_core_module_has_preview_1_and_nothing_else() {
        let of = |policy: Policy, name| grant(&policy, ModuleKind::Core, &import(name));
        assert!(matches!(of(Policy::sealed(), "wasi_snapshot_preview1 path_open"), Grant::Default(_)));
        let granted = of(Policy::sealed().env("A", "1"), "wasi_snapshot_preview1 environ_get");
        assert!(matches!(granted, Grant::Granted(note) if note.contains("the variables A")));
        assert!(matches!(of(Policy::sealed(), "env f"), Grant::Missing(_)));
    }

    #[test]
    fn f142_names_that_wasi_does_not_have_are_unknown_like_others() {
        let trapping = Policy::sealed().trap_unknown_imports();
        let preview1 = ["path_teleport", "fd_write2", ""].map(|name| format!("{PREVIEW1} {name}"));
        let interfaces = [
            "wasi:clocks/timezone@0.2.0",
            "wasi:io/no@0.2.6",
            "wasi:sockets/raw@0.2.0",
            "wasi:cli/stdout@0.2.0#nonsense",
        ];
        let core = preview1.iter().map(|name| (ModuleKind::Core, name.as_str()));
        for (kind, name) in core.chain(interfaces.map(|name| (ModuleKind::Component, name))) {
            let import = |kind| Import { kind, ..import(name) };
            let function = import(ImportKind::Function);
            assert!(matches!(grant(&Policy::sealed(), kind, &function), Grant::Missing(_)), "{name}");
            assert!(matches!(grant(&trapping, kind, &function), Grant::Granted(_)), "{name}");
            let other = grant(&trapping, kind, &import(ImportKind::Other));
            assert!(
                matches!(other, Grant::Missing(why) if why.ends_with("only a function can trap")),
                "{name}"
            );
        }
        let memory = Import { kind: ImportKind::Other, ..import(&format!("{PREVIEW1} fd_write")) };
        assert!(matches!(grant(&trapping, ModuleKind::Core, &memory), Grant::Missing(_)));
    }
}
