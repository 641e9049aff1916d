//! What others send, taken for what it should be: one function for each decoder, which asserts what must hold for *any* bytes.
//!
//! The fuzz targets in `fuzz/` call them without end; the tests below call each with the corpus that is checked in, with pieces of it, and with
//! random bytes. A crash that fuzzing finds goes into the corpus, and so into the tests.

use std::io;

use crate::error::TaskError;
use crate::escape;
use crate::module::ModuleInfo;
use crate::protocol::connection::{Connection, InMemory, RecvError};
use crate::protocol::frame::{self, Caps, Frame, Kind, Violation};
use crate::protocol::message::{self, Batch, Entry, FromWorker, Record, ToWorker};
use crate::value::{Type, Value, parse_call, parse_wave, to_wave};

/// A target by its name, which is also that of its corpus.
#[doc(hidden)]
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
#[doc(hidden)]
pub const TARGETS: &[Target] = &[
    ("frames", frames),
    ("from_worker", from_worker),
    ("failure", failure),
    ("batch", batch),
    ("values", values),
    ("call", call),
    ("text", text),
    ("cache_entry", crate::module::fuzz_cache_entry),
    ("module", crate::module::fuzz_module),
    #[cfg(feature = "cli")]
    ("input", crate::cli::fuzzing::input),
    #[cfg(feature = "cli")]
    ("options", crate::cli::fuzzing::options),
    #[cfg(feature = "cli")]
    ("joblog", crate::cli::fuzzing::joblog),
];

/// Calls the target of that name.
#[doc(hidden)]
pub fn run(target: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of that name");
    target(data);
}

/// Text of ours that quotes them.
fn assert_plain(text: &str) {
    assert!(text.chars().all(escape::is_plain), "{text:?}");
    assert!(text.len() <= 16 << 10, "a message of {} bytes", text.len());
}

/// A stream from a worker: the frames in it do not depend on the pieces in which it comes, none is longer than it may be, and nothing is kept
/// for what is only announced.
fn frames(data: &[u8]) {
    let Some(([result, other, piece], stream)) = data.split_first_chunk() else { return };
    let caps = Caps { result: usize::from(*result), other: usize::from(*other) };
    let whole = read_frames(caps, stream, usize::MAX);
    let pieces = read_frames(caps, stream, usize::from(*piece) + 1);
    assert_eq!(whole, pieces);
    let mut again = Vec::new();
    for (kind, payload) in &whole.0 {
        assert!(payload.len() <= if *kind == Kind::Returned { caps.result } else { caps.other });
        frame::write(&mut again, *kind, |out| out.extend_from_slice(payload));
    }
    assert!(stream.starts_with(&again));
}

type Frames = (Vec<(Kind, Vec<u8>)>, Option<Violation>);

/// The frames up to the end, or what is wrong with the next.
fn read_frames(caps: Caps, stream: &[u8], piece: usize) -> Frames {
    let mut connection = Connection::new(InMemory(Pieces { rest: stream, piece }, io::sink()), caps);
    let mut frames = Vec::new();
    loop {
        match connection.recv() {
            Ok(frame) => frames.push((frame.kind, frame.payload.to_vec())),
            Err(RecvError::Violation(violation)) => {
                assert_plain(&violation.to_string());
                return (frames, Some(violation));
            }
            Err(RecvError::Closed) => return (frames, None),
            Err(RecvError::Io(e)) => panic!("memory does not fail: {e}"),
        }
    }
}

struct Pieces<'s> {
    rest: &'s [u8],
    piece: usize,
}

impl io::Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let piece = self.piece.min(buf.len());
        io::Read::read(&mut self.rest, &mut buf[..piece])
    }
}

/// What we have written.
fn only_frame(bytes: &[u8]) -> Frame<'_> {
    frame::parse(bytes).expect("a frame").expect("a whole frame")
}

/// A control message of a worker or a compiler, and what is shown of it.
fn from_worker(data: &[u8]) {
    let frame = Frame { kind: Kind::Control, payload: data };
    let _what_only_we_say: Result<ToWorker, _> = message::read_control(frame);
    let message: FromWorker = match message::read_control(frame) {
        Ok(message) => message,
        Err(violation) => return assert_plain(&violation.to_string()),
    };
    let mut bytes = Vec::new();
    message::write_control(&mut bytes, &message);
    let again: FromWorker = message::read_control(only_frame(&bytes)).expect("we read what we write");
    assert_eq!(format!("{message:?}"), format!("{again:?}"));
    match message {
        FromWorker::Compiled(info) => describe(&info),
        FromWorker::Refused { reason } | FromWorker::NotForked { reason } => assert_plain(&escape::shortened(&reason)),
        FromWorker::Unconfined { missing } => {
            let why = crate::Sandbox::Strict.judge(missing).expect_err("something is missing");
            assert_plain(&crate::ModuleError::Sandbox(why).to_string());
        }
        FromWorker::InitFailed { failure } => show(TaskError::from(failure.shortened())),
        FromWorker::Imports { kind, imports } => {
            let missing = crate::policy::missing(&crate::Policy::sealed(), kind, &imports);
            assert_plain(&crate::ModuleError::MissingImports { missing }.to_string());
        }
        FromWorker::Needs { features, reason } => {
            let needs = features.iter().collect();
            assert_plain(&crate::ModuleError::NeedsFeatures { needs, reason }.to_string());
        }
        FromWorker::Hello { .. }
        | FromWorker::Ready
        | FromWorker::Forked { .. }
        | FromWorker::WantsInput
        | FromWorker::Thawed
        | FromWorker::Report(_) => {}
    }
}

fn describe(info: &ModuleInfo) {
    if let Err(what) = info.check() {
        return assert_plain(&what);
    }
    for export in &info.exports {
        // Only the path is a free choice.
        assert!(export.ty.to_string().chars().all(escape::is_plain));
        assert_plain(&escape::shortened(&export.wit()));
        match info.target(Some(&export.path)) {
            Ok(found) => assert_eq!(found.path, export.path),
            Err(error) => assert_plain(&error.to_string()),
        }
        if let Err(error) = info.target(Some(export.name())) {
            assert_plain(&error.to_string());
        }
    }
    for name in [None, Some("no such function")] {
        if let Err(error) = info.target(name) {
            assert_plain(&error.to_string());
        }
    }
    let missing = info.missing(&crate::Policy::sealed()).map(|(name, why)| format!("{name} ({why})")).collect();
    assert_plain(&crate::BuildError::MissingImports { missing }.to_string());
}

/// A failure of a task: short enough to be kept, and shown on one line.
fn failure(data: &[u8]) {
    let failure = match message::read_failure(data) {
        Ok(failure) => failure,
        Err(violation) => return assert_plain(&violation.to_string()),
    };
    assert_eq!(failure.clone().shortened(), failure);
    let mut bytes = Vec::new();
    message::write_failure(&mut bytes, &failure);
    assert!(bytes.len() <= 6 * (128 << 10), "{} bytes", bytes.len());
    assert_eq!(message::read_failure(only_frame(&bytes).payload), Ok(failure.clone()));
    show(failure.into());
}

fn show(error: TaskError) {
    assert_plain(&error.to_string());
    assert_eq!(escape::shortened(&error.message()), error.to_string());
    if let TaskError::Trap { backtrace, .. } = error {
        assert!(backtrace.len() <= 64 && backtrace.iter().all(|name| name.len() <= 200));
    }
}

/// The records of a batch.
fn batch(data: &[u8]) {
    let Ok(batch) = Batch::parse(data) else { return assert!(data.len() < 8) };
    let mut again = Vec::new();
    Batch::write_head(&mut again, batch.plan, batch.attempt);
    for record in batch {
        match record {
            Ok(Entry::Here(Record::Bytes(bytes))) => Batch::write_record(&mut again, bytes),
            Ok(Entry::Placed { offset, len }) => match usize::try_from(len) {
                Ok(len) => Batch::write_placed(&mut again, offset, len),
                Err(_) => return,
            },
            Ok(Entry::Here(Record::Misfit(why))) => match std::str::from_utf8(why) {
                Ok(why) => Batch::write_misfit(&mut again, why),
                Err(_) => return,
            },
            Err(violation) => {
                assert_plain(&violation.to_string());
                assert!(data.starts_with(&again));
                return;
            }
        }
    }
    assert_eq!(again, data);
}

/// A record that is a call.
fn call(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok((name, args)) = parse_call(text) {
        assert!(text.contains(&name) && args.iter().all(|arg| text.contains(arg)));
    }
}

/// Text that is shown: on one line, as JSON, and on a terminal.
fn text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert_plain(&escape::shortened(&text));
    assert!(escape::OneLine(&text).to_string().chars().all(escape::is_plain));
    assert_plain(&escape::list(&[text.clone().into_owned(), String::new(), text.clone().into_owned()], ", "));
    #[cfg(feature = "cli")]
    {
        let mut json = Vec::new();
        escape::write_json(&mut json, &text);
        assert!(std::str::from_utf8(&json).is_ok_and(|json| json.chars().all(escape::is_plain)));
        assert_eq!(serde_json::from_slice::<String>(&json).expect("we read what we write"), text);

        let shown = |piece: usize| {
            let mut terminal = escape::ForTerminal::default();
            let mut shown: Vec<u8> = data.chunks(piece).flat_map(|piece| terminal.show(piece)).collect();
            shown.extend(terminal.finish());
            String::from_utf8(shown).expect("what is shown is text")
        };
        let whole = shown(usize::MAX);
        assert!(whole.chars().all(|c| escape::is_plain(c) || "\n\r\t".contains(c)));
        assert_eq!(shown(1 + data.len() % 5), whole);
        assert!(escape::pieces(data).all(|piece| piece.chars().all(escape::is_plain)));
    }
}

/// A type, a value of it that must survive both text forms, and a text that may be one.
fn values(data: &[u8]) {
    let mut choices = Choices(data);
    let ty = choices.ty(4);
    let value = choices.value(&ty);
    round_trips(&value, &ty);
    let Ok(text) = std::str::from_utf8(choices.0) else { return };
    if let Ok(value) = parse_wave(text, &ty) {
        round_trips(&value, &ty);
    }
    #[cfg(any(feature = "worker", feature = "fuzzing"))]
    if let Ok(value) = crate::value::from_json(text, &ty, crate::value::Integers::OfType) {
        round_trips(&value, &ty);
    }
}

fn round_trips(value: &Value, ty: &Type) {
    assert!(value.is_of(ty), "{value:?} is not of {ty}");
    let wave = to_wave(value);
    assert!(!wave.contains('\n'));
    let again = parse_wave(&wave, ty).unwrap_or_else(|why| panic!("{wave}: {why}"));
    // By its text: no NaN is equal to itself.
    assert_eq!(to_wave(&again), wave);
    #[cfg(any(feature = "worker", feature = "fuzzing"))]
    {
        let json = String::from_utf8(crate::value::to_json(value)).expect("JSON is text");
        let again = crate::value::from_json(&json, ty, crate::value::Integers::OfType);
        assert_eq!(to_wave(&again.unwrap_or_else(|why| panic!("{json}: {why}"))), wave);
    }
}

/// Bytes, as the choices that lead to a type and a value.
struct Choices<'d>(&'d [u8]);

/// Names as guests have them, words of the notation among them.
const NAMES: [&str; 10] = ["a", "b-c", "ok", "err", "some", "none", "true", "false", "inf", "nan"];

impl Choices<'_> {
    /// 0 when there are no more.
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn number<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    fn names(&mut self) -> Vec<String> {
        let (first, count) = (usize::from(self.byte()), 1 + usize::from(self.byte() % 3));
        (first..first + count).map(|n| NAMES[n % NAMES.len()].to_owned()).collect()
    }

    fn ty(&mut self, depth: usize) -> Type {
        let kinds = if depth == 0 { 13 } else { 22 };
        let boxed = |this: &mut Self| Box::new(this.ty(depth - 1));
        let maybe = |this: &mut Self| (this.byte() % 2 == 1).then(|| Box::new(this.ty(depth - 1)));
        match self.byte() % kinds {
            0 => Type::Bool,
            1 => Type::S8,
            2 => Type::U8,
            3 => Type::S16,
            4 => Type::U16,
            5 => Type::S32,
            6 => Type::U32,
            7 => Type::S64,
            8 => Type::U64,
            9 => Type::F32,
            10 => Type::F64,
            11 => Type::Char,
            12 => Type::String,
            13 => Type::List(boxed(self)),
            14 => {
                let len = u32::from(self.byte() % 4);
                Type::FixedList(boxed(self), len)
            }
            15 => Type::Record(self.names().into_iter().map(|name| (name, self.ty(depth - 1))).collect()),
            16 => Type::Tuple((0..=self.byte() % 3).map(|_| self.ty(depth - 1)).collect()),
            17 => Type::Variant(self.names().into_iter().map(|name| (name, maybe(self).map(|ty| *ty))).collect()),
            18 => Type::Enum(self.names()),
            19 => Type::Option(boxed(self)),
            20 => Type::Result(maybe(self), maybe(self)),
            _ => Type::Flags(self.names()),
        }
    }

    fn char(&mut self) -> char {
        char::from_u32(u32::from_le_bytes(self.number()) & 0x1f_ffff).unwrap_or('\u{fffd}')
    }

    fn value(&mut self, ty: &Type) -> Value {
        let payload = |this: &mut Self, ty: Option<&Type>| ty.map(|ty| Box::new(this.value(ty)));
        match ty {
            Type::Bool => Value::Bool(self.byte() % 2 == 1),
            Type::S8 => Value::S8(i8::from_le_bytes(self.number())),
            Type::U8 => Value::U8(self.byte()),
            Type::S16 => Value::S16(i16::from_le_bytes(self.number())),
            Type::U16 => Value::U16(u16::from_le_bytes(self.number())),
            Type::S32 => Value::S32(i32::from_le_bytes(self.number())),
            Type::U32 => Value::U32(u32::from_le_bytes(self.number())),
            Type::S64 => Value::S64(i64::from_le_bytes(self.number())),
            Type::U64 => Value::U64(u64::from_le_bytes(self.number())),
            Type::F32 => Value::F32(f32::from_le_bytes(self.number())),
            Type::F64 => Value::F64(f64::from_le_bytes(self.number())),
            Type::Char => Value::Char(self.char()),
            Type::String => Value::String((0..self.byte() % 5).map(|_| self.char()).collect()),
            Type::List(t) => Value::List((0..self.byte() % 4).map(|_| self.value(t)).collect()),
            Type::FixedList(t, len) => Value::List((0..*len).map(|_| self.value(t)).collect()),
            Type::Record(fields) => Value::Record(fields.iter().map(|(n, t)| (n.clone(), self.value(t))).collect()),
            Type::Tuple(types) => Value::Tuple(types.iter().map(|t| self.value(t)).collect()),
            Type::Variant(cases) => {
                let (name, ty) = &cases[usize::from(self.byte()) % cases.len()];
                Value::Variant(name.clone(), payload(self, ty.as_ref()))
            }
            Type::Enum(names) => Value::Enum(names[usize::from(self.byte()) % names.len()].clone()),
            Type::Option(t) => {
                let some = self.byte() % 2 == 1;
                Value::Option(payload(self, some.then_some(&**t)))
            }
            Type::Result(ok, err) => Value::Result(match self.byte() % 2 {
                0 => Ok(payload(self, ok.as_deref())),
                _ => Err(payload(self, err.as_deref())),
            }),
            Type::Flags(names) => Value::Flags(names.iter().filter(|_| self.byte() % 2 == 1).cloned().collect()),
            Type::Unsupported(what) => unreachable!("{what} is not among the kinds"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::*;

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
        assert!(!seeds.is_empty(), "no seeds in {}", dir.display());
        seeds
    }

    #[test]
    fn every_target_has_a_program_and_no_program_is_without_a_target() {
        let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml")).unwrap();
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

    proptest! {
        #[test]
        fn f104_any_bytes_are_taken_for_what_they_are(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            for (_, target) in TARGETS {
                target(&data);
            }
        }
    }
}
