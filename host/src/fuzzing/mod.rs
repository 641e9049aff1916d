//! One function for each decoder of foreign bytes, which asserts what must hold for *any* bytes.
//!
//! Each function compares its decoder with a model ([`model`]) that says in another way what must be
//! accepted and what it means. It also makes right input from the same bytes, in lengths of every order, and
//! bounds the output by the input.
//!
//! The fuzz targets in `fuzz/` call the functions without end. The tests below call each with the checked-in
//! corpus, with pieces of that, and with random bytes. A crash that fuzzing finds goes into the corpus, and
//! so into the tests.

#![expect(
    clippy::cast_possible_truncation,
    reason = "any number that comes of the bytes is as good as another"
)]

pub(crate) mod choices;
mod compiler;
mod frames;
mod member;
mod messages;
mod model;
pub(crate) mod session;
mod tasks;
mod text;
mod values;

use crate::escape;
use crate::protocol::frame::{self, Frame};

/// A target by its name, which is also that of its corpus.
#[doc(hidden)]
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
#[doc(hidden)]
pub const TARGETS: &[Target] = &[
    ("frames", frames::frames),
    ("from_worker", messages::from_worker),
    ("failure", messages::failure),
    ("batch", tasks::batch),
    ("outcome", tasks::outcome),
    ("compiler", compiler::compiler),
    ("session", session::session),
    ("member", member::member),
    ("link", crate::pool::fuzz_link),
    ("supervisor", crate::process::fuzz_supervisor),
    ("zygote", crate::context::forkserver::fuzzing::zygote),
    ("values", values::values),
    ("result", values::result),
    ("call", text::call),
    ("text", text::text),
    ("cache_entry", crate::module::fuzz_cache_entry),
    ("module", crate::module::fuzz_module),
    #[cfg(feature = "cli")]
    ("input", crate::cli::fuzzing::input),
    #[cfg(feature = "cli")]
    ("options", crate::cli::fuzzing::options),
    #[cfg(feature = "cli")]
    ("joblog", crate::cli::fuzzing::joblog),
    #[cfg(feature = "cli")]
    ("resume", crate::cli::fuzzing::resume),
    #[cfg(feature = "cli")]
    ("profile", crate::cli::fuzzing::profile),
];

/// Calls the target of that name.
#[doc(hidden)]
pub fn run(target: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of that name");
    target(data);
}

/// Text of ours that quotes them.
fn assert_plain(text: &str) {
    assert!(text.chars().all(|c| model::is_shown(c) != Some(false)), "{text:?}");
    assert!(text.chars().all(escape::is_plain), "{text:?}");
    assert!(text.len() <= 16 << 10, "a message of {} bytes", text.len());
}

/// A number that any of the bytes decides.
fn mixed(data: &[u8]) -> usize {
    data.iter().fold(data.len(), |n, byte| n.wrapping_mul(31).wrapping_add(usize::from(*byte)))
}

/// The bytes, repeated until they are longer than one byte can count; at times longer than two bytes can
/// count, or than one step of reading.
fn lengthened(data: &[u8]) -> Vec<u8> {
    let len = match mixed(data) % 64 {
        0 => 140_000,
        1 => 66_000,
        2..8 => 5_000,
        _ => 256,
    };
    data.iter().copied().chain([b'x']).cycle().take(len + data.len()).collect()
}

/// What we have written.
fn only_frame(bytes: &[u8]) -> Frame<'_> {
    frame::parse(bytes).expect("a frame").expect("a whole frame")
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::*;

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
        assert!(!seeds.is_empty(), "no seeds in {}", dir.display());
        seeds
    }

    #[test]
    fn every_target_has_a_program_and_no_program_is_without_a_target() {
        let manifest =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml")).unwrap();
        let programs = manifest.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        let programs: Vec<&str> = programs.filter(|name| *name != "wpool-fuzz").collect();
        #[cfg(feature = "cli")]
        assert_eq!(programs, TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        #[cfg(not(feature = "cli"))]
        assert!(TARGETS.iter().all(|(name, _)| programs.contains(name)));
    }

    #[test]
    fn f104_what_was_found_before_holds() {
        for (name, target) in TARGETS {
            for seed in seeds(name) {
                target(&seed);
                // Cut off anywhere, and with each byte another.
                for at in 0..seed.len().min(256) {
                    target(&seed[..at]);
                    let mut other = seed.clone();
                    other[at] ^= 1 << (at % 8);
                    target(&other);
                }
            }
        }
    }

    /// The same inputs each time: bytes of any kind, and of those that text is made of.
    #[test]
    fn f114_every_decoder_agrees_with_its_model() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        let characters = b"0123456789{}[]():,.\"abe-+_ \t\r\n\\x";
        for turn in 0..200 {
            let len = next() % 300;
            let bytes: Vec<u8> = match turn % 2 {
                0 => (0..len).map(|_| next() as u8).collect(),
                _ => (0..len / 4).map(|_| characters[next() % characters.len()]).collect(),
            };
            for (_, target) in TARGETS {
                target(&bytes);
            }
        }
    }

    proptest! {
        #[test]
        fn f104_any_bytes_are_taken_for_what_they_are(
            data in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            for (_, target) in TARGETS {
                target(&data);
            }
        }
    }
}
