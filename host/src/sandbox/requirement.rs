//! The properties that a confined process must have, and the layers that ensure each of them.
//!
//! A kernel may lack a layer without any harm: in a worker without grants, the list of system calls alone
//! keeps it from files, sockets and signals. So a process is judged by its properties, not by its layers. The
//! judgement is a pure function of the steps that the process has reported and of the grants.

use crate::spec::ProcessRole::{self, Compiler, Zygote};
use crate::spec::{DirAccess, Grants, Layer, Property, Status, Step};

impl Status {
    /// Sets the properties that hold. Called after the last step.
    #[cfg(feature = "worker")]
    pub(crate) fn judge(&mut self, role: ProcessRole, granted: GrantKinds) {
        self.properties = judge(&self.steps, role, granted);
    }

    /// The properties that such a process would have with other grants.
    #[cfg(feature = "cli")]
    pub(crate) fn with(&self, role: ProcessRole, granted: GrantKinds) -> Vec<Property> {
        judge(&self.steps, role, granted)
    }
}

impl Layer {
    fn as_str(self) -> &'static str {
        match self {
            Layer::ParentDeath => "death signal",
            Layer::Session => "session",
            Layer::Group => "process group",
            Layer::Descriptors => "descriptors closed",
            Layer::Environment => "environment emptied",
            Layer::Signals => "signals reset",
            Layer::NoNewPrivileges => "no new privileges",
            Layer::OutOfMemory => "oom_score_adj",
            Layer::NoCore => "RLIMIT_CORE",
            Layer::Data => "RLIMIT_DATA",
            Layer::Addresses => "RLIMIT_AS",
            Layer::FileSize => "RLIMIT_FSIZE",
            Layer::FileCount => "RLIMIT_NOFILE",
            Layer::ProcessorTime => "RLIMIT_CPU",
            Layer::Namespaces => "user namespace",
            Layer::NoCapabilities => "no capabilities",
            Layer::NotTraceable => "not dumpable",
            Layer::LandlockFiles => "landlock's files",
            Layer::LandlockTruncation => "landlock's truncation",
            Layer::LandlockTcp => "landlock's TCP",
            Layer::LandlockScope => "landlock's scopes",
            Layer::Calls => "seccomp",
        }
    }
}

/// The kinds of grants. They decide which layers are needed; the directories and ports themselves do not
/// matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct GrantKinds {
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    pub(crate) connects: bool,
}

impl GrantKinds {
    pub(crate) fn of(grants: &Grants) -> GrantKinds {
        let has = |access| grants.dirs.iter().any(|dir| dir.access == access);
        GrantKinds {
            reads: has(DirAccess::ReadOnly),
            writes: has(DirAccess::ReadWrite),
            connects: grants.addresses().next().is_some(),
        }
    }

    fn has_dirs(self) -> bool {
        self.reads || self.writes
    }
}

/// A property that a process must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Requirement {
    NoFile,
    /// In a directory for reading only.
    NoWrite,
    NoConnection,
    NoSignal,
    NoTracing,
    /// By other workers of the same pool.
    NotTraced,
    NoNewProcess,
    NoNewCode,
    NoPrivilege,
    BoundedResources,
    /// No descriptors and no environment of the program that started it.
    NothingInherited,
    NoTerminal,
    NoCoreDump,
    /// When the machine has no memory left.
    KilledFirst,
    EndsWithCoordinator,
}

impl Requirement {
    const ALL: [Requirement; 15] = [
        Requirement::NoFile,
        Requirement::NoWrite,
        Requirement::NoConnection,
        Requirement::NoSignal,
        Requirement::NoTracing,
        Requirement::NotTraced,
        Requirement::NoNewProcess,
        Requirement::NoNewCode,
        Requirement::NoPrivilege,
        Requirement::BoundedResources,
        Requirement::NothingInherited,
        Requirement::NoTerminal,
        Requirement::NoCoreDump,
        Requirement::KilledFirst,
        Requirement::EndsWithCoordinator,
    ];

    fn as_str(self, role: ProcessRole, granted: GrantKinds) -> &'static str {
        match self {
            Requirement::NoFile if granted.has_dirs() => "no file but in the granted directories",
            Requirement::NoFile => "no file",
            Requirement::NoWrite => "nothing written where only reading is granted",
            Requirement::NoConnection if granted.connects => "no connection but TCP to the granted ports",
            Requirement::NoConnection => "no connection",
            Requirement::NoSignal => "no signal to another process",
            Requirement::NoTracing => "no look into another process",
            Requirement::NotTraced => "no look into it by its siblings",
            Requirement::NoNewProcess => "no new process",
            Requirement::NoNewCode if role == Compiler => "no memory that is writable and executable",
            Requirement::NoNewCode => "no new machine code",
            Requirement::NoPrivilege => "no privileges",
            Requirement::BoundedResources => "bounded memory, descriptors and files",
            Requirement::NothingInherited => "nothing of the program that started it",
            Requirement::NoTerminal => "no terminal, and signals of its own",
            Requirement::NoCoreDump => "no core dump",
            Requirement::KilledFirst => "first to go when memory runs out",
            Requirement::EndsWithCoordinator => "ends with its coordinator",
        }
    }

    /// Whether such a process must have it.
    fn applies(self, role: ProcessRole, granted: GrantKinds) -> bool {
        match self {
            Requirement::NoWrite => granted.reads,
            // A zygote is there to fork.
            Requirement::NoNewProcess => role != Zygote,
            Requirement::NoFile
            | Requirement::NoConnection
            | Requirement::NoSignal
            | Requirement::NoTracing
            | Requirement::NotTraced
            | Requirement::NoNewCode
            | Requirement::NoPrivilege
            | Requirement::BoundedResources
            | Requirement::NothingInherited
            | Requirement::NoTerminal
            | Requirement::NoCoreDump
            | Requirement::KilledFirst
            | Requirement::EndsWithCoordinator => true,
        }
    }

    /// The walls that ensure it. One wall is enough, and a wall stands if all of its layers do.
    fn sufficient_layers(self, granted: GrantKinds) -> &'static [&'static [Layer]] {
        use Layer::*;
        match self {
            // With a directory, the list allows calls that open any file: landlock must restrict them. No
            // list has a call that changes a file by its path, so that the list can stand in for landlock's
            // truncation.
            Requirement::NoFile if granted.has_dirs() => {
                &[&[LandlockFiles, LandlockTruncation], &[LandlockFiles, Calls]]
            }
            Requirement::NoFile => &[&[Calls], &[LandlockFiles, LandlockTruncation]],
            // The list sees whether a file is opened for writing, and cannot see in which directory.
            Requirement::NoWrite if granted.writes => &[&[LandlockFiles, LandlockTruncation]],
            Requirement::NoWrite => &[&[LandlockFiles, LandlockTruncation], &[LandlockFiles, Calls]],
            // Only the list covers UDP, and Unix sockets whose names are files.
            Requirement::NoConnection if granted.connects => &[&[Calls, LandlockTcp]],
            Requirement::NoConnection => &[&[Calls]],
            Requirement::NoSignal => &[&[Calls], &[LandlockScope]],
            // A process in a domain of landlock cannot trace a process outside of it.
            Requirement::NoTracing => &[&[Calls], &[LandlockFiles]],
            Requirement::NotTraced => &[&[NotTraceable], &[Calls]],
            Requirement::NoNewProcess | Requirement::NoNewCode => &[&[Calls]],
            Requirement::NoPrivilege => &[
                &[NoNewPrivileges, NoCapabilities],
                &[NoNewPrivileges, Namespaces],
                &[NoNewPrivileges, Calls],
            ],
            Requirement::BoundedResources => &[&[Data, Addresses, FileSize, FileCount, ProcessorTime]],
            Requirement::NothingInherited => &[&[Descriptors, Environment]],
            Requirement::NoTerminal => &[&[Session, Signals]],
            Requirement::NoCoreDump => &[&[NoCore]],
            Requirement::KilledFirst => &[&[OutOfMemory]],
            Requirement::EndsWithCoordinator => &[&[ParentDeath, Group]],
        }
    }
}

/// The properties of a process that has taken these steps.
fn judge(steps: &[Step], role: ProcessRole, granted: GrantKinds) -> Vec<Property> {
    let required = Requirement::ALL.into_iter().filter(|requirement| requirement.applies(role, granted));
    required.map(|requirement| property(requirement, steps, role, granted)).collect()
}

fn property(requirement: Requirement, steps: &[Step], role: ProcessRole, granted: GrantKinds) -> Property {
    let lacks =
        |wall: &&[Layer]| -> Vec<String> { wall.iter().filter_map(|layer| lack(*layer, steps)).collect() };
    // Every whole wall is named, not the first: a reader sees whether a property hangs on one layer.
    let (whole, broken): (Vec<_>, Vec<_>) = requirement
        .sufficient_layers(granted)
        .iter()
        .map(|wall| (wall, lacks(wall)))
        .partition(|(_, lacks)| lacks.is_empty());
    // A layer that this kind of process does not need is not named as one that ensures something.
    let is_there = |layer: &&Layer| steps.iter().any(|step| step.layer == **layer);
    let names = |wall: &[Layer]| {
        wall.iter().filter(is_there).map(|layer| layer.as_str()).collect::<Vec<_>>().join(" and ")
    };
    let mut absent: Vec<String> = broken.iter().flat_map(|(_, lacks)| lacks.clone()).collect();
    // Two walls of one requirement often share the layer that is missing, and name it one after the other.
    absent.dedup();
    Property {
        name: requirement.as_str(role, granted).to_owned(),
        layers: whole.iter().map(|(wall, _)| names(wall)).collect(),
        missing: whole.is_empty().then(|| absent.join("; ")),
        absent,
    }
}

/// Why a layer does not hold. `None`: it holds.
fn lack(layer: Layer, steps: &[Step]) -> Option<String> {
    match steps.iter().find(|step| step.layer == layer) {
        Some(step) => step.missing.as_ref().map(|_| step.to_string()),
        // Only a forked worker has a group of its own, and only a compiler has a limit on processor time.
        None if matches!(layer, Layer::Group | Layer::ProcessorTime) => None,
        // The report comes from the process itself. A step that it leaves out must not count as taken.
        None => Some(format!("{}: not reported", layer.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYERS: [Layer; 22] = [
        Layer::ParentDeath,
        Layer::Session,
        Layer::Group,
        Layer::Descriptors,
        Layer::Environment,
        Layer::Signals,
        Layer::NoNewPrivileges,
        Layer::OutOfMemory,
        Layer::NoCore,
        Layer::Data,
        Layer::Addresses,
        Layer::FileSize,
        Layer::FileCount,
        Layer::ProcessorTime,
        Layer::Namespaces,
        Layer::NoCapabilities,
        Layer::NotTraceable,
        Layer::LandlockFiles,
        Layer::LandlockTruncation,
        Layer::LandlockTcp,
        Layer::LandlockScope,
        Layer::Calls,
    ];

    /// The report of a process in which these steps failed.
    fn steps_without(missing: &[Layer]) -> Vec<Step> {
        let step = |layer: Layer| Step {
            name: layer.as_str().to_owned(),
            missing: missing.contains(&layer).then(|| "not here".to_owned()),
            layer,
        };
        LAYERS.map(step).into()
    }

    /// The layers that this version of landlock lacks.
    fn landlock(version: i32) -> Vec<Layer> {
        let parts = [
            (1, Layer::LandlockFiles),
            (3, Layer::LandlockTruncation),
            (4, Layer::LandlockTcp),
            (6, Layer::LandlockScope),
        ];
        parts.into_iter().filter(|(since, _)| version < *since).map(|(_, layer)| layer).collect()
    }

    fn all_grant_kinds() -> impl Iterator<Item = GrantKinds> {
        (0..8).map(|bits| GrantKinds { reads: bits & 1 != 0, writes: bits & 2 != 0, connects: bits & 4 != 0 })
    }

    fn unheld(missing: &[Layer], role: ProcessRole, granted: GrantKinds) -> Vec<String> {
        let properties = judge(&steps_without(missing), role, granted);
        properties
            .into_iter()
            .filter(|property| property.missing.is_some())
            .map(|property| property.name)
            .collect()
    }

    const ROLES: [ProcessRole; 3] = [ProcessRole::Worker, Zygote, Compiler];

    /// Linux 5.13 has the first version of landlock, Debian 12 the second, 6.12 the sixth.
    #[test]
    fn f117_each_version_of_landlock_is_judged_by_what_is_granted() {
        for (version, granted, role) in (0..8).flat_map(|version| {
            all_grant_kinds().flat_map(move |granted| ROLES.map(|role| (version, granted, role)))
        }) {
            let GrantKinds { reads, writes, connects } = granted;
            let mut expected = Vec::new();
            if (reads || writes) && version < 1 {
                expected.push("no file but in the granted directories");
            }
            if reads && (version < 1 || writes && version < 3) {
                expected.push("nothing written where only reading is granted");
            }
            if connects && version < 4 {
                expected.push("no connection but TCP to the granted ports");
            }
            assert_eq!(unheld(&landlock(version), role, granted), expected, "{version} {granted:?} {role:?}");
        }
    }

    /// With any two layers missing, a grant never makes a further property hold. No process can do without
    /// the list.
    #[test]
    fn f117_what_does_not_hold_without_grants_does_not_hold_with_them() {
        for (one, other) in LAYERS.into_iter().flat_map(|one| LAYERS.map(|other| (one, other))) {
            for role in ROLES {
                let without = unheld(&[one, other], role, GrantKinds::default()).len();
                for granted in all_grant_kinds() {
                    assert!(
                        unheld(&[one, other], role, granted).len() >= without,
                        "{one:?} {other:?} {granted:?}"
                    );
                }
            }
        }
        for (role, granted) in
            ROLES.into_iter().flat_map(|role| all_grant_kinds().map(move |granted| (role, granted)))
        {
            let open = unheld(&[Layer::Calls], role, granted);
            assert!(open.iter().any(|name| name.starts_with("no connection")), "{open:?}");
            assert!(unheld(&[], role, granted).is_empty());
        }
        // Each of these is one of two walls.
        for missing in [Layer::Namespaces, Layer::NoCapabilities, Layer::NotTraceable, Layer::LandlockScope] {
            assert!(
                ROLES.iter().all(|role| unheld(&[missing], *role, GrantKinds::default()).is_empty()),
                "{missing:?}"
            );
        }
        // Each of these is the only wall.
        for missing in
            [Layer::ParentDeath, Layer::Descriptors, Layer::Environment, Layer::Data, Layer::NoCore]
        {
            assert!(
                ROLES.iter().all(|role| unheld(&[missing], *role, GrantKinds::default()).len() == 1),
                "{missing:?}"
            );
        }
    }

    #[test]
    fn f117_what_was_not_said_does_not_count() {
        for property in
            judge(&[], ProcessRole::Worker, GrantKinds { reads: true, writes: true, connects: true })
        {
            assert!(property.layers.is_empty() && property.missing.is_some(), "{property:?}");
        }
    }

    #[test]
    fn a_further_layer_that_is_missing_is_named_and_is_no_reason_to_refuse() {
        let properties = judge(&steps_without(&landlock(2)), ProcessRole::Worker, GrantKinds::default());
        let signals =
            properties.iter().find(|property| property.name == "no signal to another process").unwrap();
        assert_eq!((&signals.layers[..], &signals.missing), (&["seccomp".to_owned()][..], &None));
        assert_eq!(signals.absent, ["landlock's scopes (not here)"]);
    }
}
