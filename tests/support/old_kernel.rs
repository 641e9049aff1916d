//! A test program: `old_kernel landlock,seccomp PROGRAM ARGS..` is the program on a kernel that does not have what the first argument names.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [without, program, args @ ..] = &args[..] else { return Err("old_kernel WITHOUT PROGRAM ARGS..".into()) };
    let calls: BTreeMap<i64, Vec<SeccompRule>> =
        without.split(',').flat_map(calls).map(|call| (call, vec![])).collect();
    let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, missing, std::env::consts::ARCH.try_into()?)?;
    let filter: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&filter)?;
    Err(std::process::Command::new(program).args(args).exec().into())
}

fn calls(name: &str) -> Vec<i64> {
    match name {
        "landlock" => vec![libc::SYS_landlock_create_ruleset],
        "seccomp" => vec![libc::SYS_seccomp],
        other => panic!("nothing is called {other}"),
    }
}
