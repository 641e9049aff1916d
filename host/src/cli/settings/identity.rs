//! The settings that decide about results, as bytes for the job log's identity.
//!
//! A run that is resumed must have the same ones. Limits are not among them: a task that was done within its
//! limits is done, and a task that was not is the reason to raise them.
//!
//! The bytes are a version and then fields: a tag, the length of the value as eight bytes, the value. They do
//! not follow the names of types or of variants in the source, so a change of those leaves old logs usable.

use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use crate::cli::args::{GrantArgs, MapOptions};
use crate::cli::choices::{AsArgs, UnknownImports, ValueForm};
use crate::spec::{Clock, DirAccess, Random};

/// The first byte. A change of what the fields mean takes another one.
const VERSION: u8 = 1;

/// What a field holds. A number is never given to another meaning.
#[derive(Debug, Clone, Copy)]
enum Tag {
    InputFormat = 1,
    OutputFormat = 2,
    AsArgs = 3,
    OkExit = 4,
    Init = 5,
    Isolation = 6,
    Arg = 7,
    KwargName = 8,
    KwargValue = 9,
    InitArg = 10,
    DirHost = 11,
    DirGuest = 12,
    DirAccess = 13,
    EnvName = 14,
    EnvValue = 15,
    InheritEnv = 16,
    Net = 17,
    UnknownImports = 18,
    Clock = 19,
    FixedTime = 20,
    Random = 21,
    Deterministic = 22,
    Share = 23,
    Feed = 24,
}

struct IdentityBytes(Vec<u8>);

impl IdentityBytes {
    fn add(&mut self, tag: Tag, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.0.push(tag as u8);
        self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.0.extend_from_slice(value);
    }
}

pub(super) fn bytes(args: &MapOptions) -> Vec<u8> {
    let mut fields = IdentityBytes(vec![VERSION]);
    fields.add(Tag::InputFormat, form(args.input_format));
    fields.add(Tag::OutputFormat, form(args.target.output_format));
    match args.as_args {
        Some(AsArgs::One) => fields.add(Tag::AsArgs, "one"),
        Some(AsArgs::Words) => fields.add(Tag::AsArgs, "words"),
        None => {}
    }
    args.ok_exit.iter().for_each(|code| fields.add(Tag::OkExit, code.to_le_bytes()));
    args.init.iter().for_each(|func| fields.add(Tag::Init, func));
    if args.fresh {
        fields.add(Tag::Isolation, "fresh");
    }
    if args.reuse {
        fields.add(Tag::Isolation, "reuse");
    }
    args.target.args.iter().for_each(|arg| fields.add(Tag::Arg, arg));
    for (name, value) in &args.target.kwargs {
        fields.add(Tag::KwargName, name);
        fields.add(Tag::KwargValue, value);
    }
    args.init_args.iter().for_each(|arg| fields.add(Tag::InitArg, arg));
    add_grants(&mut fields, &args.grants);
    args.shared.shares.iter().for_each(|share| fields.add(Tag::Share, &share.text));
    args.feed.iter().for_each(|queue| fields.add(Tag::Feed, queue));
    fields.0
}

fn add_grants(fields: &mut IdentityBytes, grants: &GrantArgs) {
    for dir in &grants.dirs {
        fields.add(Tag::DirHost, dir.host.as_os_str().as_bytes());
        fields.add(Tag::DirGuest, &dir.guest);
        let access = match dir.access {
            DirAccess::ReadOnly => "ro",
            DirAccess::ReadWrite => "rw",
        };
        fields.add(Tag::DirAccess, access);
    }
    for (name, value) in &grants.env {
        fields.add(Tag::EnvName, name);
        fields.add(Tag::EnvValue, value);
    }
    grants.inherit_env.iter().for_each(|name| fields.add(Tag::InheritEnv, name));
    grants.net.iter().for_each(|address| fields.add(Tag::Net, address));
    let unknown = match grants.unknown_imports {
        UnknownImports::Refuse => "refuse",
        UnknownImports::Trap => "trap",
    };
    fields.add(Tag::UnknownImports, unknown);
    add_determinism(fields, grants);
}

/// Clock and random numbers as the guest has them: `--deterministic` means a fixed clock and a seed, and is
/// the same as both flags.
fn add_determinism(fields: &mut IdentityBytes, grants: &GrantArgs) {
    let by_default = |clock, random| (grants.clock.unwrap_or(clock), grants.random.unwrap_or(random));
    let (clock, random) = if grants.deterministic {
        by_default(Clock::Fixed(SystemTime::UNIX_EPOCH), Random::Seeded(0))
    } else {
        by_default(Clock::default(), Random::default())
    };
    match clock {
        Clock::Coarse => fields.add(Tag::Clock, "coarse"),
        Clock::Fine => fields.add(Tag::Clock, "fine"),
        Clock::Fixed(time) => fields.add(Tag::FixedTime, since_1970(time)),
    }
    match random {
        Random::Secure => fields.add(Tag::Random, "secure"),
        Random::Seeded(seed) => fields.add(Tag::Random, seed.to_le_bytes()),
    }
    if grants.deterministic {
        fields.add(Tag::Deterministic, "");
    }
}

fn form(form: ValueForm) -> &'static str {
    match form {
        ValueForm::Auto => "auto",
        ValueForm::Raw => "raw",
        ValueForm::Wave => "wave",
        ValueForm::Json => "json",
    }
}

/// Nanoseconds since 1970, behind a byte that is 1 for a time before it.
fn since_1970(time: SystemTime) -> [u8; 17] {
    let (is_before, distance): (u8, Duration) = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (0, after),
        Err(before) => (1, before.duration()),
    };
    let mut bytes = [is_before; 17];
    bytes[1..].copy_from_slice(&distance.as_nanos().to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, CliCommand};

    fn of(flags: &[&str]) -> Vec<u8> {
        let flags = ["wpool", "map", "module.wasm", "inputs.txt"].iter().chain(flags);
        match Cli::try_parse_from(flags).unwrap().command {
            Some(CliCommand::Map(args)) => bytes(&args.options),
            _ => panic!("not `map`"),
        }
    }

    #[test]
    fn the_bytes_of_a_known_identity_stay_as_they_are() {
        let flags = [
            "--input-format=json",
            "--as-args",
            "--ok-exit=10",
            "--kw=k=v",
            "--dir=/a::/b:ro",
            "--random=seed=7",
            "--clock=fixed=1",
        ];
        let expected: &[&[u8]] = &[
            b"\x01",
            b"\x01\x04\0\0\0\0\0\0\0json",
            b"\x02\x04\0\0\0\0\0\0\0auto",
            b"\x03\x03\0\0\0\0\0\0\0one",
            b"\x04\x04\0\0\0\0\0\0\0\x0a\0\0\0",
            b"\x08\x01\0\0\0\0\0\0\0k",
            b"\x09\x01\0\0\0\0\0\0\0v",
            b"\x0b\x02\0\0\0\0\0\0\0/a",
            b"\x0c\x02\0\0\0\0\0\0\0/b",
            b"\x0d\x02\0\0\0\0\0\0\0ro",
            b"\x12\x06\0\0\0\0\0\0\0refuse",
            b"\x14\x11\0\0\0\0\0\0\0\0\x00\xca\x9a\x3b\0\0\0\0\0\0\0\0\0\0\0\0",
            b"\x15\x08\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0",
        ];
        assert_eq!(of(&flags), expected.concat());
    }

    #[test]
    fn flags_that_decide_about_results_change_the_bytes_and_others_do_not() {
        let plain = of(&[]);
        for flag in [
            "--output-format=wave",
            "--as-args=words",
            "--init=start",
            "--init-arg=1",
            "--fresh",
            "--reuse",
            "--arg=1",
            "--env=A=b",
            "--inherit-env=A",
            "--net=none",
            "--unknown-imports=trap",
            "--clock=fine",
            "--deterministic",
        ] {
            assert_ne!(of(&[flag]), plain, "{flag}");
        }
        for flag in ["--timeout=1s", "--memory=1M", "-j7", "--format=jsonl", "--clock=coarse", "--tag"] {
            assert_eq!(of(&[flag]), plain, "{flag}");
        }
        let spelt_out = of(&["--deterministic", "--clock=fixed=0", "--random=seed=0"]);
        assert_eq!(of(&["--deterministic"]), spelt_out);
    }
}
