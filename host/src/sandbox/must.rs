//! What must hold of a process, whatever runs in it, and which layers see to that.
//!
//! A kernel may lack a layer, and nothing be open for it: without a grant the list of system calls alone leaves no file, socket or signal to a
//! worker. So properties are judged, not layers: a pure function of what a process has reported and of what is granted.

use crate::spec::ProcessRole::{self, Compiler, Zygote};
use crate::spec::{DirAccess, Grants, Layer, Property, Status, Step};

impl Status {
    /// After the last step: what holds.
    #[cfg(feature = "worker")]
    pub(crate) fn judge(&mut self, role: ProcessRole, granted: Shape) {
        self.properties = judge(&self.steps, role, granted);
    }

    /// What would hold of such a process with other grants.
    #[cfg(feature = "cli")]
    pub(crate) fn with(&self, role: ProcessRole, granted: Shape) -> Vec<Property> {
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

/// The kinds of grants that decide which layers are needed. Which directory and which port it is decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shape {
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    pub(crate) connects: bool,
}

impl Shape {
    pub(crate) fn of(grants: &Grants) -> Shape {
        let has = |access| grants.dirs.iter().any(|dir| dir.access == access);
        Shape {
            reads: has(DirAccess::ReadOnly),
            writes: has(DirAccess::ReadWrite),
            connects: grants.addresses().next().is_some(),
        }
    }

    fn has_dirs(self) -> bool {
        self.reads || self.writes
    }
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    ReachNoFile,
    OnlyRead,
    ReachNobody,
    SignalNobody,
    LookIntoNobody,
    BeLookedIntoByNobody,
    StartNoProcess,
    MakeNoCode,
    HaveNoPrivilege,
    BeBounded,
    HaveNothingOfTheProgram,
    HaveNoTerminal,
    LeaveNoCore,
    GoFirst,
    End,
}

impl Must {
    const ALL: [Must; 15] = [
        Must::ReachNoFile,
        Must::OnlyRead,
        Must::ReachNobody,
        Must::SignalNobody,
        Must::LookIntoNobody,
        Must::BeLookedIntoByNobody,
        Must::StartNoProcess,
        Must::MakeNoCode,
        Must::HaveNoPrivilege,
        Must::BeBounded,
        Must::HaveNothingOfTheProgram,
        Must::HaveNoTerminal,
        Must::LeaveNoCore,
        Must::GoFirst,
        Must::End,
    ];

    fn as_str(self, role: ProcessRole, granted: Shape) -> &'static str {
        match self {
            Must::ReachNoFile if granted.has_dirs() => "no file but in the granted directories",
            Must::ReachNoFile => "no file",
            Must::OnlyRead => "nothing written where only reading is granted",
            Must::ReachNobody if granted.connects => "no connection but TCP to the granted ports",
            Must::ReachNobody => "no connection",
            Must::SignalNobody => "no signal to another process",
            Must::LookIntoNobody => "no look into another process",
            Must::BeLookedIntoByNobody => "no look into it by its siblings",
            Must::StartNoProcess => "no new process",
            Must::MakeNoCode if role == Compiler => "no memory that is writable and executable",
            Must::MakeNoCode => "no new machine code",
            Must::HaveNoPrivilege => "no privileges",
            Must::BeBounded => "bounded memory, descriptors and files",
            Must::HaveNothingOfTheProgram => "nothing of the program that started it",
            Must::HaveNoTerminal => "no terminal, and signals of its own",
            Must::LeaveNoCore => "no core dump",
            Must::GoFirst => "first to go when memory runs out",
            Must::End => "ends with its coordinator",
        }
    }

    /// Whether it is asked of such a process.
    fn is_asked(self, role: ProcessRole, granted: Shape) -> bool {
        match self {
            Must::OnlyRead => granted.reads,
            // That is what a zygote is for.
            Must::StartNoProcess => role != Zygote,
            Must::ReachNoFile
            | Must::ReachNobody
            | Must::SignalNobody
            | Must::LookIntoNobody
            | Must::BeLookedIntoByNobody
            | Must::MakeNoCode
            | Must::HaveNoPrivilege
            | Must::BeBounded
            | Must::HaveNothingOfTheProgram
            | Must::HaveNoTerminal
            | Must::LeaveNoCore
            | Must::GoFirst
            | Must::End => true,
        }
    }

    /// Its walls. One that stands is enough; each stands if all of its layers do.
    fn walls(self, granted: Shape) -> &'static [&'static [Layer]] {
        use Layer::*;
        match self {
            // The calls that open files are on the list with a directory only; those that change a file by its path never are.
            Must::ReachNoFile if granted.has_dirs() => {
                &[&[LandlockFiles, LandlockTruncation], &[LandlockFiles, Calls]]
            }
            Must::ReachNoFile => &[&[Calls], &[LandlockFiles, LandlockTruncation]],
            // The list can tell an opening that writes from one that reads, but not for which directory it is.
            Must::OnlyRead if granted.writes => &[&[LandlockFiles, LandlockTruncation]],
            Must::OnlyRead => &[&[LandlockFiles, LandlockTruncation], &[LandlockFiles, Calls]],
            // No other layer knows of UDP, or of names of Unix sockets that are files.
            Must::ReachNobody if granted.connects => &[&[Calls, LandlockTcp]],
            Must::ReachNobody => &[&[Calls]],
            Must::SignalNobody => &[&[Calls], &[LandlockScope]],
            // Whatever is in a domain of landlock traces nothing outside of it.
            Must::LookIntoNobody => &[&[Calls], &[LandlockFiles]],
            Must::BeLookedIntoByNobody => &[&[NotTraceable], &[Calls]],
            Must::StartNoProcess | Must::MakeNoCode => &[&[Calls]],
            Must::HaveNoPrivilege => &[
                &[NoNewPrivileges, NoCapabilities],
                &[NoNewPrivileges, Namespaces],
                &[NoNewPrivileges, Calls],
            ],
            Must::BeBounded => &[&[Data, Addresses, FileSize, FileCount, ProcessorTime]],
            Must::HaveNothingOfTheProgram => &[&[Descriptors, Environment]],
            Must::HaveNoTerminal => &[&[Session, Signals]],
            Must::LeaveNoCore => &[&[NoCore]],
            Must::GoFirst => &[&[OutOfMemory]],
            Must::End => &[&[ParentDeath, Group]],
        }
    }
}

/// What holds of a process that has taken these steps.
fn judge(steps: &[Step], role: ProcessRole, granted: Shape) -> Vec<Property> {
    let asked = Must::ALL.into_iter().filter(|must| must.is_asked(role, granted));
    asked.map(|must| property(must, steps, role, granted)).collect()
}

fn property(must: Must, steps: &[Step], role: ProcessRole, granted: Shape) -> Property {
    let lacks =
        |wall: &&[Layer]| -> Vec<String> { wall.iter().filter_map(|layer| lack(*layer, steps)).collect() };
    let (whole, broken): (Vec<_>, Vec<_>) =
        must.walls(granted).iter().map(|wall| (wall, lacks(wall))).partition(|(_, lacks)| lacks.is_empty());
    // What a process of its kind does without does not stand for anything.
    let is_there = |layer: &&Layer| steps.iter().any(|step| step.layer == **layer);
    let names = |wall: &[Layer]| {
        wall.iter().filter(is_there).map(|layer| layer.as_str()).collect::<Vec<_>>().join(" and ")
    };
    let mut absent: Vec<String> = broken.iter().flat_map(|(_, lacks)| lacks.clone()).collect();
    absent.dedup();
    Property {
        name: must.as_str(role, granted).to_owned(),
        layers: whole.iter().map(|(wall, _)| names(wall)).collect(),
        missing: whole.is_empty().then(|| absent.join("; ")),
        absent,
    }
}

/// Why a layer does not stand. `None`: it does.
fn lack(layer: Layer, steps: &[Step]) -> Option<String> {
    match steps.iter().find(|step| step.layer == layer) {
        Some(step) => step.missing.as_ref().map(|_| step.to_string()),
        // Of a forked worker, and of a compiler: others need none.
        None if matches!(layer, Layer::Group | Layer::ProcessorTime) => None,
        None => Some(format!("{}: nothing is said of it", layer.as_str())),
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

    /// What a process reports in which these steps failed.
    fn steps_without(missing: &[Layer]) -> Vec<Step> {
        let step = |layer: Layer| Step {
            name: layer.as_str().to_owned(),
            missing: missing.contains(&layer).then(|| "not here".to_owned()),
            layer,
        };
        LAYERS.map(step).into()
    }

    /// What this version of landlock lacks.
    fn landlock(version: i32) -> Vec<Layer> {
        let parts = [
            (1, Layer::LandlockFiles),
            (3, Layer::LandlockTruncation),
            (4, Layer::LandlockTcp),
            (6, Layer::LandlockScope),
        ];
        parts.into_iter().filter(|(since, _)| version < *since).map(|(_, layer)| layer).collect()
    }

    fn shapes() -> impl Iterator<Item = Shape> {
        (0..8).map(|bits| Shape { reads: bits & 1 != 0, writes: bits & 2 != 0, connects: bits & 4 != 0 })
    }

    fn unheld(missing: &[Layer], role: ProcessRole, granted: Shape) -> Vec<String> {
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
        for (version, granted, role) in (0..8)
            .flat_map(|version| shapes().flat_map(move |granted| ROLES.map(|role| (version, granted, role))))
        {
            let Shape { reads, writes, connects } = granted;
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

    /// Whatever else is missing: no grant makes more of it hold, and a list of calls is what nothing can do without.
    #[test]
    fn f117_what_does_not_hold_without_grants_does_not_hold_with_them() {
        for (one, other) in LAYERS.into_iter().flat_map(|one| LAYERS.map(|other| (one, other))) {
            for role in ROLES {
                let without = unheld(&[one, other], role, Shape::default()).len();
                for granted in shapes() {
                    assert!(
                        unheld(&[one, other], role, granted).len() >= without,
                        "{one:?} {other:?} {granted:?}"
                    );
                }
            }
        }
        for (role, granted) in ROLES.into_iter().flat_map(|role| shapes().map(move |granted| (role, granted)))
        {
            let open = unheld(&[Layer::Calls], role, granted);
            assert!(open.iter().any(|name| name.starts_with("no connection")), "{open:?}");
            assert!(unheld(&[], role, granted).is_empty());
        }
        // One of two walls.
        for missing in [Layer::Namespaces, Layer::NoCapabilities, Layer::NotTraceable, Layer::LandlockScope] {
            assert!(
                ROLES.iter().all(|role| unheld(&[missing], *role, Shape::default()).is_empty()),
                "{missing:?}"
            );
        }
        // The only one.
        for missing in
            [Layer::ParentDeath, Layer::Descriptors, Layer::Environment, Layer::Data, Layer::NoCore]
        {
            assert!(
                ROLES.iter().all(|role| unheld(&[missing], *role, Shape::default()).len() == 1),
                "{missing:?}"
            );
        }
    }

    #[test]
    fn f117_what_was_not_said_does_not_count() {
        for property in judge(&[], ProcessRole::Worker, Shape { reads: true, writes: true, connects: true }) {
            assert!(property.layers.is_empty() && property.missing.is_some(), "{property:?}");
        }
    }

    #[test]
    fn a_further_layer_that_is_missing_is_named_and_is_no_reason_to_refuse() {
        let properties = judge(&steps_without(&landlock(2)), ProcessRole::Worker, Shape::default());
        let signals =
            properties.iter().find(|property| property.name == "no signal to another process").unwrap();
        assert_eq!((&signals.layers[..], &signals.missing), (&["seccomp".to_owned()][..], &None));
        assert_eq!(signals.absent, ["landlock's scopes (not here)"]);
    }
}
