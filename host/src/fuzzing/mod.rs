//! What others send, taken for what it should be: one function for each decoder, which asserts what must hold for *any* bytes.
//!
//! Each compares its decoder with a model ([`model`]) that says in another way what must be accepted and what it means, makes what is right
//! from the same bytes, in lengths of every order, and looks at how much comes of how little.
//!
//! The fuzz targets in `fuzz/` call them without end; the tests below call each with the corpus that is checked in, with pieces of it, and with
//! random bytes. A crash that fuzzing finds goes into the corpus, and so into the tests.

#![expect(
    clippy::cast_possible_truncation,
    reason = "any number that comes of the bytes is as good as another"
)]

pub(crate) mod choices;
mod model;
mod session;

use std::io;

use serde_json::Value as Json;

use self::choices::Choices;
use crate::error::TaskError;
use crate::escape;
use crate::pool::{Said, parse_outcome};
use crate::protocol::connection::{Connection, InMemory, RecvError};
use crate::protocol::frame::{self, Caps, Frame, Kind, Violation};
use crate::protocol::message::{self, Batch, Entry, Failure, FromWorker, Record, ToWorker, Used};
use crate::spec::ModuleInfo;
use crate::value::{
    Args, Integers, Param, Ret, Type, Value, from_json, from_json_many, parse_call, parse_many, parse_wave,
    parse_wave_of, to_json, to_wave,
};

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
    ("outcome", outcome),
    ("compiler", compiler),
    ("session", session::session),
    ("zygote", crate::context::forkserver::fuzzing::zygote),
    ("values", values),
    ("result", result),
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

/// The bytes, as often as it takes to be longer than what a length of one byte tells; now and then, of two, or what is read in a step.
fn lengthened(data: &[u8]) -> Vec<u8> {
    let len = match mixed(data) % 64 {
        0 => 140_000,
        1 => 66_000,
        2..8 => 5_000,
        _ => 256,
    };
    data.iter().copied().chain([b'x']).cycle().take(len + data.len()).collect()
}

/// A stream from a worker: the frames in it are those of the definition, do not depend on the pieces in which it comes, none is longer than it
/// may be, and no memory is kept for what is only announced.
fn frames(data: &[u8]) {
    let Some(([result, other, piece], stream)) = data.split_first_chunk() else { return };
    let caps = Caps { result: usize::from(*result), other: usize::from(*other) };
    compare_frames(caps, stream, usize::from(*piece) + 1);
    // Within the caps, at them, and one byte over; behind each, what there is.
    let long = lengthened(stream);
    let kind = [16, 17, 18, 1, 24][usize::from(*piece) % 5];
    for most in [long.len() - 1, long.len(), long.len() + 1] {
        let caps = if kind == 16 { Caps { result: most, other: 7 } } else { Caps { result: 7, other: most } };
        let behind = model::frame(kind, &stream[..stream.len().min(7)]);
        let stream = [model::frame(kind, &long), behind, stream.to_vec()].concat();
        compare_frames(caps, &stream, 1 + usize::from(*piece) * 511);
    }
    // What a long frame needed is given back with the next that is read.
    if mixed(data).is_multiple_of(64) {
        let long = model::frame(16, &vec![b'x'; (4096 * 272) - frame::HEADER_LEN]);
        let stream = [long, model::frame(16, b"next")].concat();
        let caps = Caps { result: usize::MAX, other: 0 };
        let mut connection =
            Connection::new(InMemory(Pieces { rest: &stream, piece: 4096 }, io::sink()), caps);
        assert!(connection.recv().is_ok_and(|frame| frame.payload.len() > 1 << 20));
        assert!(connection.recv().is_ok_and(|frame| frame.payload == b"next"));
        assert!(connection.room() <= 128 << 10, "{} bytes of memory are kept", connection.room());
    }
    // The most that may be announced, and more.
    for (len, is_allowed) in [(1u32 << 30, true), ((1 << 30) + 1, false), (u32::MAX, false)] {
        let announced = [&len.to_le_bytes()[..], &[16], &stream[..stream.len().min(1000)]].concat();
        let caps = Caps { result: usize::MAX, other: usize::MAX };
        let (frames, violation) = read_frames(caps, &announced, usize::MAX);
        assert!(frames.is_empty() && violation.is_none() == is_allowed, "{len} announced");
    }
}

fn compare_frames(caps: Caps, stream: &[u8], piece: usize) {
    let (frames, next) = model::frames(caps.result, caps.other, stream);
    for piece in [usize::MAX, piece] {
        let (found, violation) = read_frames(caps, stream, piece);
        assert!(
            found
                .iter()
                .map(|(kind, payload)| (*kind as u8, &payload[..]))
                .eq(frames.iter().map(|(kind, payload)| (*kind, &payload[..])))
        );
        match (&next, violation) {
            (model::Next::More, None) => {}
            (model::Next::TooLong(len), Some(Violation::TooLong { len: found })) => assert_eq!(*len, found),
            (model::Next::Unknown(kind), Some(Violation::UnknownKind { kind: found })) => {
                assert_eq!(*kind, found)
            }
            (next, violation) => panic!("{next:?} and not {violation:?}"),
        }
        let mut again = Vec::new();
        for (kind, payload) in &found {
            frame::write(&mut again, *kind, |out| out.extend_from_slice(payload));
        }
        assert!(stream.starts_with(&again));
    }
}

type Frames = (Vec<(Kind, Vec<u8>)>, Option<Violation>);

/// The frames up to the end, or what is wrong with the next.
fn read_frames(caps: Caps, stream: &[u8], piece: usize) -> Frames {
    let mut connection = Connection::new(InMemory(Pieces { rest: stream, piece }, io::sink()), caps);
    let mut frames = Vec::new();
    loop {
        let read = match connection.recv() {
            Ok(frame) => Ok((frame.kind, frame.payload.to_vec())),
            Err(e) => Err(e),
        };
        // Twice what has come, and one step of reading.
        let room = connection.room();
        assert!(room <= 2 * stream.len() + (128 << 10), "{room} bytes of memory for {}", stream.len());
        match read {
            Ok(frame) => frames.push(frame),
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

/// What a message has to be, to be one: the JSON that it stands for, and in which it is all said.
fn assert_said(
    message: &impl serde::Serialize,
    payload: &[u8],
    cut: &dyn Fn(&str, &str) -> bool,
    items_max: usize,
) {
    let said = serde_json::to_value(message).expect("messages have a JSON form");
    // A field that nobody reads may hold what is no text.
    let Ok(heard) = serde_json::from_slice(payload) else { return };
    assert!(model::is_said(&said, &heard, cut, items_max), "{said} of {heard}");
}

/// A control message of a worker or a compiler, and what is shown of it.
fn from_worker(data: &[u8]) {
    control(data);
    let (text, number) = (String::from_utf8_lossy(&lengthened(data)).into_owned(), data.len() as u32);
    let failure = Failure::Failed { message: text.clone() };
    for message in [
        FromWorker::Hello { version: number },
        FromWorker::Forked { pid: -(number as i32) },
        FromWorker::NotForked { reason: text.clone() },
        FromWorker::Refused { reason: text },
        FromWorker::InitFailed { failure },
    ] {
        let mut bytes = Vec::new();
        message::write_control(&mut bytes, &message);
        assert_eq!(bytes, model::frame(1, &serde_json::to_vec(&message).expect("messages have a JSON form")));
        let heard = control(only_frame(&bytes).payload).expect("what is right is read");
        assert_eq!(format!("{message:?}"), format!("{heard:?}"));
    }
    // Of any other kind, no message of control is read.
    for kind in [Kind::Batch, Kind::Returned, Kind::Failed, Kind::Stdout, Kind::BatchDone] {
        assert!(message::read_control::<FromWorker>(Frame { kind, payload: b"\"Ready\"" }).is_err());
    }
}

fn control(data: &[u8]) -> Option<FromWorker> {
    let frame = Frame { kind: Kind::Control, payload: data };
    let _what_only_we_say: Result<ToWorker, _> = message::read_control(frame);
    let message: FromWorker = match message::read_control(frame) {
        Ok(message) => message,
        Err(violation) => {
            assert_plain(&violation.to_string());
            return None;
        }
    };
    assert_said(&message, data, &|said, heard| said == heard, usize::MAX);
    let mut bytes = Vec::new();
    message::write_control(&mut bytes, &message);
    let again: FromWorker = message::read_control(only_frame(&bytes)).expect("we read what we write");
    assert_eq!(format!("{message:?}"), format!("{again:?}"));
    match &message {
        FromWorker::Compiled(info) => describe(info),
        FromWorker::Refused { reason } | FromWorker::NotForked { reason } => {
            assert_plain(&escape::shortened(reason))
        }
        FromWorker::Unconfined { missing } => {
            if let Err(why) = crate::spec::Sandbox::Strict.judge(missing.clone()) {
                assert_plain(&crate::ModuleError::Sandbox(why).to_string());
            }
        }
        FromWorker::InitFailed { failure } => show(TaskError::from(failure.clone().shortened())),
        FromWorker::Imports { kind, imports } => {
            let missing = crate::policy::missing(&crate::Policy::sealed(), *kind, imports);
            assert_plain(&crate::ModuleError::MissingImports { missing }.to_string());
        }
        FromWorker::Needs { features, reason } => {
            let needs = features.iter().collect();
            assert_plain(&crate::ModuleError::NeedsFeatures { needs, reason: reason.clone() }.to_string());
        }
        FromWorker::Hello { .. }
        | FromWorker::Ready
        | FromWorker::Forked { .. }
        | FromWorker::WantsInput
        | FromWorker::Thawed
        | FromWorker::Report(_) => {}
    }
    Some(message)
}

/// How deep the types nest.
fn depth(ty: &Type) -> usize {
    1 + match ty {
        Type::List(t) | Type::FixedList(t, _) | Type::Option(t) => depth(t),
        Type::Record(fields) => fields.iter().map(|(_, t)| depth(t)).max().unwrap_or(0),
        Type::Tuple(types) => types.iter().map(depth).max().unwrap_or(0),
        Type::Variant(cases) => cases.iter().filter_map(|(_, t)| t.as_ref()).map(depth).max().unwrap_or(0),
        Type::Result(ok, err) => [ok, err].into_iter().flatten().map(|t| depth(t)).max().unwrap_or(0),
        _ => 0,
    }
}

/// A description of a module: refused where it nests too deep or has names that are none, else every function in it is found and shown.
fn describe(info: &ModuleInfo) {
    let types = || info.exports.iter().flat_map(|e| e.ty.params.iter().map(|p| &p.ty).chain(&e.ty.result));
    let is_deep = types().any(|ty| depth(ty) > 32);
    if let Err(what) = info.check() {
        return assert_plain(&what);
    }
    assert!(!is_deep, "types that nest too deep were accepted");
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
        let target = crate::target::Target::func(export.path.clone());
        match crate::target::resolve(&target, info) {
            Ok(found) => {
                assert_eq!((&found.call.path, found.free().len()), (&export.path, found.ty.params.len()))
            }
            Err(error) => assert_plain(&error.to_string()),
        }
    }
    for name in [None, Some("no such function")] {
        if let Err(error) = info.target(name) {
            assert_plain(&error.to_string());
        }
    }
    let missing =
        info.missing(&crate::Policy::sealed()).map(|(name, why)| format!("{name} ({why})")).collect();
    assert_plain(&crate::BuildError::MissingImports { missing }.to_string());
}

/// Bytes of a failure's message, its frames, and bytes of the name of each.
const MESSAGE_MAX: usize = 64 << 10;
const FRAMES_MAX: usize = 64;
const NAME_MAX: usize = 200;

/// A failure of a task: told as what it is, short enough to be kept, and shown on one line.
fn failure(data: &[u8]) {
    one_failure(data);
    let text = String::from_utf8_lossy(&lengthened(data)).into_owned();
    let names =
        || (0..data.len() % 100).map(|n| text[..text.floor_char_boundary(n * 5)].to_owned()).collect();
    for failure in [
        Failure::Failed { message: text.clone() },
        Failure::Trap { message: text.clone(), backtrace: names() },
        Failure::BadRecord { message: text.clone() },
        Failure::BadResult { message: text.clone() },
        Failure::NoInstance {
            failure: Box::new(Failure::Trap { message: text.clone(), backtrace: names() }),
        },
        Failure::NoInstance { failure: Box::new(Failure::Cancelled) },
        Failure::NoInstance {
            failure: Box::new(Failure::NoInstance { failure: Box::new(Failure::Cancelled) }),
        },
        Failure::Cancelled,
    ] {
        let mut bytes = Vec::new();
        message::write_failure(&mut bytes, &failure);
        assert_eq!(bytes[4], 17);
        assert!(one_failure(only_frame(&bytes).payload).is_some(), "{failure:?}");
    }
}

fn one_failure(data: &[u8]) -> Option<Failure> {
    let failure = match message::read_failure(data) {
        Ok(failure) => failure,
        Err(violation) => {
            assert_plain(&violation.to_string());
            return None;
        }
    };
    // A field that nobody reads may hold what is no text.
    let Ok(heard) = serde_json::from_slice::<Json>(data) else { return Some(failure) };
    let cut = |said: &str, heard: &str| {
        model::is_cut(said, heard, MESSAGE_MAX) || model::is_cut(said, heard, NAME_MAX)
    };
    assert_said(&failure, data, &cut, FRAMES_MAX);
    assert_eq!(failure.is_of_a_task(), model::is_of_a_task(&heard), "{failure:?}");
    assert_eq!(failure.clone().shortened(), failure);
    let mut bytes = Vec::new();
    message::write_failure(&mut bytes, &failure);
    assert!(bytes.len() <= 6 * (128 << 10), "{} bytes", bytes.len());
    assert_eq!(message::read_failure(only_frame(&bytes).payload), Ok(failure.clone()));
    let error = TaskError::from(failure.clone());
    assert_eq!(error.kind(), model::kind_of(&heard), "{failure:?}");
    if let TaskError::Failed { message } = &error {
        assert_eq!(error.message(), *message);
    }
    show(error);
    Some(failure)
}

fn show(error: TaskError) {
    assert_plain(&error.to_string());
    assert_eq!(escape::shortened(&error.message()), error.to_string());
    if let TaskError::Trap { backtrace, .. } = error {
        assert!(backtrace.len() <= FRAMES_MAX && backtrace.iter().all(|name| name.len() <= NAME_MAX));
    }
}

/// The records of a batch: those of the definition, in every length.
fn batch(data: &[u8]) {
    compare_batch(data);
    let long = lengthened(data);
    let why = String::from_utf8_lossy(&long).into_owned();
    let (plan, attempt) = (model::number(&long[..4]) as u32, model::number(&long[4..8]) as u32);
    let mut bytes = Vec::new();
    Batch::write_head(&mut bytes, plan, attempt);
    Batch::write_record(&mut bytes, &long);
    Batch::write_misfit(&mut bytes, &why);
    Batch::write_placed(&mut bytes, u64::from(plan) << 20, long.len() << 8);
    Batch::write_record(&mut bytes, data);
    let placed = model::Task::Placed(u64::from(plan) << 20, (long.len() as u64) << 8);
    let tasks = vec![
        model::Task::Bytes(&long),
        model::Task::Misfit(why.as_bytes()),
        placed,
        model::Task::Bytes(data),
    ];
    assert_eq!(model::batch(&bytes), Some((plan.into(), attempt.into(), tasks, true)));
    compare_batch(&bytes);
    compare_batch(&bytes[..bytes.len() - 1]);
    // What lies elsewhere has no bytes here, nor has what is missing.
    let record = &bytes[8..12 + long.len()];
    assert_eq!(Batch::bytes_of(record), Some(&long[..]));
    let other = &bytes[12 + long.len()..];
    assert_eq!(Batch::bytes_of(other), None);
}

fn compare_batch(data: &[u8]) {
    let wanted = model::batch(data);
    let Ok(batch) = Batch::parse(data) else { return assert!(wanted.is_none()) };
    let (plan, attempt, tasks, is_whole) = wanted.expect("a batch has a head");
    assert_eq!((u64::from(batch.plan), u64::from(batch.attempt)), (plan, attempt));
    let mut found = Vec::new();
    let mut ended = Ok(());
    for record in batch {
        assert!(ended.is_ok(), "a task behind what is none");
        match record {
            Ok(Entry::Here(Record::Bytes(bytes))) => found.push(model::Task::Bytes(bytes)),
            Ok(Entry::Here(Record::Misfit(why))) => found.push(model::Task::Misfit(why)),
            Ok(Entry::Placed { offset, len }) => found.push(model::Task::Placed(offset, len)),
            Err(violation) => {
                assert_plain(&violation.to_string());
                ended = Err(());
            }
        }
    }
    assert_eq!((found, ended.is_ok()), (tasks, is_whole));
}

/// What comes of a task: what it has printed, how long it took, what it used, and its result, in the frames of the definition.
fn outcome(data: &[u8]) {
    let used = Used::read(data);
    let wanted = match data.len() {
        8 => Some(Used { memory: model::number(data), fuel: None }),
        16 => Some(Used { memory: model::number(&data[..8]), fuel: Some(model::number(&data[8..])) }),
        _ => None,
    };
    assert_eq!(used.ok(), wanted);
    let nanos = |bytes: &[u8]| std::time::Duration::from_nanos(model::number(bytes));
    let done = (data.len() == 16).then(|| (nanos(&data[..8]), nanos(&data[8..])));
    assert_eq!(message::read_batch_done(data).ok(), done);

    let (stdout, stderr) = data.split_at(data.len() / 2);
    let micros = data.first_chunk::<8>().map(|bytes| model::number(bytes)).unwrap_or(7);
    let long = lengthened(data);
    for kind in [16, 17] {
        let used = Used { memory: micros / 3, fuel: (data.len() % 2 == 1).then_some(micros / 2) };
        let mut frames =
            [model::frame(18, stdout), model::frame(19, stderr), model::frame(20, &micros.to_le_bytes())]
                .concat();
        used.write(&mut frames);
        frames.extend(model::frame(kind, &long));
        let len = frames.len();
        // The next one's.
        frames.extend(model::frame(18, b"next"));
        frames.extend(model::frame(16, b""));
        let parsed = parse_outcome(&frames).expect("a whole outcome");
        assert_eq!((said(&parsed.said), parsed.len), ((kind, &long[..]), len));
        assert_eq!(
            (parsed.stdout, parsed.stderr, parsed.micros, parsed.used),
            (stdout, stderr, Some(micros), Some(used))
        );
        let next = parse_outcome(&frames[len..]).expect("a whole outcome");
        assert_eq!((next.stdout, next.stderr, next.micros, next.used), (&b"next"[..], &b""[..], None, None));
        assert!(parse_outcome(&frames[..len - 1]).is_none());
    }
    // In anything, no more than there is.
    if let Some(parsed) = parse_outcome(data) {
        let (frames, _) = model::frames(usize::MAX, usize::MAX, &data[..parsed.len]);
        let (kind, payload) = frames.last().expect("an outcome has a frame");
        assert_eq!(said(&parsed.said), (*kind, &payload[..]));
        let last =
            |kind| frames.iter().rev().find(|(k, _)| *k == kind).map_or(&[][..], |(_, payload)| payload);
        assert_eq!((parsed.stdout, parsed.stderr), (last(18), last(19)));
    }
}

/// The kind of frame and the payload by which a worker says it.
fn said<'c>(said: &Said<'c>) -> (u8, &'c [u8]) {
    match said {
        Said::Returned(result) => (16, result),
        Said::Failed(failure) => (17, failure),
        Said::Verdict(error) => panic!("no worker says {error}"),
    }
}

/// What a compiler process says: its imports are judged, then it describes the module, if all is in order.
fn compiler(data: &[u8]) {
    // As much as a socket takes at once.
    let data = &data[..data.len().min(16 << 10)];
    compare_answer(data);
    let said = |message: FromWorker| {
        let mut bytes = Vec::new();
        message::write_control(&mut bytes, &message);
        bytes
    };
    let text = String::from_utf8_lossy(&lengthened(data)).chars().take(1000).collect();
    let hello = || said(FromWorker::Hello { version: crate::protocol::VERSION });
    let imports = || said(FromWorker::Imports { kind: crate::spec::ModuleKind::Core, imports: vec![] });
    let unconfined = || said(FromWorker::Unconfined { missing: Vec::new() });
    let features = crate::spec::Features::default();
    let needs = || said(FromWorker::Needs { features, reason: "why".to_owned() });
    let compiled = || {
        let info = session::description();
        said(FromWorker::Compiled(Box::new(info)))
    };
    for answer in [said(FromWorker::Refused { reason: text }), said(FromWorker::Ready), needs(), compiled()] {
        compare_answer(&[&hello()[..], &unconfined(), &imports(), &answer, data].concat());
        compare_answer(&[&hello()[..], &answer, data].concat());
        compare_answer(&[&answer[..], data].concat());
        compare_answer(&[&hello()[..], &imports(), &answer[..answer.len() - 1]].concat());
    }
    compare_answer(&[&hello()[..], &unconfined(), data].concat());
    compare_answer(&[&hello()[..], &imports(), &imports(), &compiled()].concat());
    compare_answer(&[hello(), model::frame(18, b"{}"), imports(), compiled()].concat());
    compare_answer(&[said(FromWorker::Hello { version: data.len() as u32 }), imports(), compiled()].concat());
}

fn compare_answer(said: &[u8]) {
    let (judged, found) = crate::module::fuzz_answer(said);
    let (frames, next) = model::frames(Caps::COMPILER.result, Caps::COMPILER.other, said);
    // How far it has come, in the words that have been said.
    let (mut steps, mut imports, mut wanted) = (String::new(), None, None);
    for (kind, payload) in frames {
        let message = serde_json::from_slice(&payload).ok().filter(|_| kind == 1);
        let is_started = ["hello ", "hello unconfined "].contains(&&steps[..]);
        match message {
            Some(FromWorker::Hello { version: crate::protocol::VERSION }) if steps.is_empty() => {
                steps.push_str("hello ");
                continue;
            }
            Some(FromWorker::Unconfined { .. }) if steps == "hello " => {
                steps.push_str("unconfined ");
                continue;
            }
            Some(FromWorker::Imports { imports: list, .. }) if is_started => {
                imports = Some(list);
                steps.push_str("imports ");
                continue;
            }
            Some(FromWorker::Compiled(info)) if steps.ends_with("imports ") => wanted = Some(Ok(*info)),
            Some(FromWorker::Needs { .. }) if is_started || steps.ends_with("imports ") => {
                wanted = Some(Err("it needs"));
            }
            Some(FromWorker::Refused { .. }) => wanted = Some(Err("")),
            _ => wanted = Some(Err("the compiler process failed: ")),
        }
        break;
    }
    let wanted = wanted.unwrap_or(Err(match next {
        model::Next::More => "the compiler process failed: it ended with",
        model::Next::TooLong(_) | model::Next::Unknown(_) => "the compiler process failed: a frame of",
    }));
    assert_eq!(judged, imports);
    match (wanted, found) {
        (Ok(wanted), Ok(found)) => assert_eq!(wanted, *found),
        (Err(wanted), Err(found)) => {
            assert_plain(&found.to_string());
            assert!(found.to_string().contains(wanted), "{found} and not {wanted}");
        }
        (wanted, found) => panic!("{wanted:?} and not {found:?}"),
    }
}

/// A call: its name and its arguments come out as they went in.
fn call(data: &[u8]) {
    let mut choices = Choices(data);
    let args: Vec<String> = (0..choices.byte() % 4)
        .map(|_| {
            let ty = choices.ty(2);
            to_wave(&choices.value(&ty))
        })
        .collect();
    let name = ["f", "ns:pkg/interface#func", "a-b", ""][usize::from(choices.byte() % 4)];
    let space = if choices.byte() % 2 == 0 { "" } else { " " };
    let text = format!("{space}{name}{space}({space}{}{space}){space}", args.join(&format!(",{space}")));
    assert_eq!(parse_call(&text), Ok((name.to_owned(), args)), "{text}");
    assert_eq!(parse_call(name), Ok((name.to_owned(), Vec::new())));

    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse_call(text) {
        Ok((name, args)) => {
            assert_eq!(name, text.split('(').next().unwrap_or_default().trim());
            assert!(args.iter().all(|arg| text.contains(arg)));
            assert!(args.iter().map(String::len).sum::<usize>() <= text.len());
        }
        Err(why) => assert_plain(&escape::shortened(&why)),
    }
}

/// Text that is shown: on one line, as JSON, and on a terminal.
fn text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for c in text.chars() {
        if let Some(is_shown) = model::is_shown(c) {
            assert_eq!(escape::is_plain(c), is_shown, "{c:?}");
        }
    }
    let line: String =
        text.chars().map(|c| if escape::is_plain(c) { c.to_string() } else { model::escaped(c) }).collect();
    assert_eq!(escape::OneLine(&text).to_string(), line);
    let count = text.trim_end().chars().count();
    let short = escape::shortened(&text);
    assert_plain(&short);
    assert!(short.chars().count() <= 1000 * 10 + 40);
    if count <= 1000 {
        assert_eq!(short, escape::OneLine(text.trim_end()).to_string());
    }
    let long = text.repeat(1 + 3000 / data.len().max(1));
    let long = long.trim_end();
    let short = escape::shortened(long);
    assert_plain(&short);
    if long.chars().count() > 1000 {
        let head: String = long.chars().take(960).collect();
        let tail: String = long.chars().skip(long.chars().count() - 40).collect();
        let left_out = long.len() - head.len() - tail.len();
        let shown = format!("{}…[{left_out} bytes]…{}", escape::OneLine(head), escape::OneLine(tail));
        assert_eq!(short, shown);
    }
    assert_plain(&escape::list(&[text.clone().into_owned(), String::new(), text.clone().into_owned()], ", "));
    #[cfg(feature = "cli")]
    on_a_terminal(data, &text);
}

#[cfg(feature = "cli")]
fn on_a_terminal(data: &[u8], text: &str) {
    let (first, further) = escape::lines(text);
    assert_plain(&first);
    assert!(further.iter().all(|line| line.starts_with("    |")) && further.len() <= 21);
    further.iter().for_each(|line| assert_plain(line));
    let lines = text.trim_matches(['\n', '\r']).trim_end().split('\n').count() - 1;
    assert!(further.len() == lines || (lines > 20 || data.len() > 2048), "{lines} lines and {further:?}");

    let mut json = Vec::new();
    escape::write_json(&mut json, &text);
    assert!(std::str::from_utf8(&json).is_ok_and(|json| json.chars().all(escape::is_plain)));
    assert!(json.len() <= 2 + 6 * text.len(), "{} bytes of {}", json.len(), text.len());
    assert_eq!(serde_json::from_slice::<String>(&json).expect("we read what we write"), text);

    let shown = |piece: usize| {
        let mut terminal = escape::ForTerminal::default();
        let mut shown: Vec<u8> = data.chunks(piece).flat_map(|piece| terminal.show(piece)).collect();
        shown.extend(terminal.finish());
        String::from_utf8(shown).expect("what is shown is text")
    };
    let whole = shown(usize::MAX);
    let mut wanted = String::new();
    for chunk in data.utf8_chunks() {
        wanted.extend(chunk.valid().chars().map(|c| match c {
            '\n' | '\r' | '\t' => c.to_string(),
            c if escape::is_plain(c) => c.to_string(),
            c => model::escaped(c),
        }));
        wanted.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    assert_eq!(whole, wanted);
    for piece in [1, 1 + data.len() % 5] {
        assert_eq!(shown(piece), wanted);
    }
    assert!(escape::pieces(data).all(|piece| piece.chars().all(escape::is_plain)));
}

/// The integer types and their ranges.
const RANGES: [(Type, i128, i128); 8] = [
    (Type::S8, -128, 127),
    (Type::U8, 0, 255),
    (Type::S16, -32_768, 32_767),
    (Type::U16, 0, 65_535),
    (Type::S32, -2_147_483_648, 2_147_483_647),
    (Type::U32, 0, 4_294_967_295),
    (Type::S64, -9_223_372_036_854_775_808, 9_223_372_036_854_775_807),
    (Type::U64, 0, 18_446_744_073_709_551_615),
];

/// A type, a value of it that must survive both text forms, and a text that may be one; and numbers about the ends of each range.
fn values(data: &[u8]) {
    let mut choices = Choices(data);
    let ty = choices.ty(4);
    let value = choices.value(&ty);
    round_trips(&value, &ty);
    several(data);
    without_a_field(data);
    for n in [
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        -0.0,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        0.1,
        1e16,
        1e-5,
    ] {
        round_trips(&Value::F64(n), &Type::F64);
        round_trips(&Value::F32(n as f32), &Type::F32);
    }
    let (near, digits) = (i128::from(choices.byte()) - 128, choices.byte() % 30);
    for (ty, min, max) in &RANGES {
        let decimal = format!(
            "{}{}",
            if near < 0 { "-" } else { "" },
            &"179206358294671356192837465017"[..1 + usize::from(digits)]
        );
        for text in [(min + near).to_string(), (max + near).to_string(), near.to_string(), decimal] {
            let n = model::integer(&text, *min, *max);
            for text in [text.clone(), format!("{text}.0"), format!("{text}e0")] {
                compare_integer(&text, ty, n);
            }
            // No number begins with several zeros.
            if n != Some(0) {
                compare_integer(&format!("{text}00e-2"), ty, n);
            }
            let hex = text
                .parse::<i128>()
                .map(|n| format!("{}{:#x}", if n < 0 { "-" } else { "" }, n.unsigned_abs()));
            assert_eq!(
                parse_wave(&hex.unwrap_or_default(), ty).ok().and_then(|v| v.as_integer()),
                n,
                "{text}"
            );
            assert!(
                parse_wave(&format!("{text}.5"), ty).is_err()
                    && from_json(&format!("{text}.5"), ty, Integers::OfType).is_err()
            );
            // A core module's have no sign.
            let bits = match ty {
                Type::S32 => model::integer(&text, *min, 4_294_967_295),
                Type::S64 => model::integer(&text, *min, 18_446_744_073_709_551_615),
                _ => n,
            };
            let wrapped = bits.map(|n| if n > *max { n - 2 * (max + 1) } else { n });
            assert_eq!(
                parse_wave_of(&text, ty, Integers::OfBits).ok().and_then(|v| v.as_integer()),
                wrapped,
                "{text}"
            );
        }
    }
    let Ok(text) = std::str::from_utf8(choices.0) else { return };
    match parse_wave(text, &ty) {
        Ok(value) => round_trips(&value, &ty),
        Err(why) => assert_plain(&escape::shortened(&why)),
    }
    match from_json(text, &ty, Integers::OfType) {
        Ok(value) => round_trips(&value, &ty),
        Err(why) => assert_plain(&escape::shortened(&why)),
    }
}

fn compare_integer(text: &str, ty: &Type, n: Option<i128>) {
    for read in [parse_wave(text, ty), from_json(text, ty, Integers::OfType)] {
        let read = read.ok();
        assert!(read.as_ref().is_none_or(|value| value.is_of(ty)));
        assert_eq!(read.and_then(|value| value.as_integer()), n, "{text} as {ty}");
    }
}

fn round_trips(value: &Value, ty: &Type) {
    assert!(value.is_of(ty), "{value:?} is not of {ty}");
    let wave = to_wave(value);
    assert!(!wave.contains('\n'));
    let again = parse_wave(&wave, ty).unwrap_or_else(|why| panic!("{wave}: {why}"));
    assert!(same(value, &again), "{wave} of {value:?}");
    let json = String::from_utf8(to_json(value)).expect("JSON is text");
    assert!(!json.contains('\n'));
    let again = from_json(&json, ty, Integers::OfType).unwrap_or_else(|why| panic!("{json}: {why}"));
    assert!(same(value, &again), "{json} of {value:?}");
}

/// The record of several parameters, in all its forms.
fn several(data: &[u8]) {
    let mut choices = Choices(data);
    let count = 2 + usize::from(choices.byte() % 3);
    let (mut params, mut values) = (Vec::new(), Vec::new());
    for n in 0..count {
        let ty = choices.ty(2);
        values.push(choices.value(&ty));
        params.push(Param { name: Some(format!("p{n}")), ty });
    }
    let all = Value::Tuple(values.clone());
    let is_all =
        |read: Result<Vec<Value>, String>| same(&Value::Tuple(read.expect("what is right is read")), &all);
    assert!(is_all(parse_many(&to_wave(&all), &params, Integers::OfType)));
    let json = String::from_utf8(to_json(&all)).expect("JSON is text");
    assert!(is_all(from_json_many(&json, &params, Integers::OfType)));
    let fields = params
        .iter()
        .zip(&values)
        .map(|(param, value)| (param.name.clone().unwrap_or_default(), value.clone()));
    let by_name = String::from_utf8(to_json(&Value::Record(fields.rev().collect()))).expect("JSON is text");
    assert!(is_all(from_json_many(&by_name, &params, Integers::OfType)));
    // One more or less is another function's.
    for other in [&params[1..], &[&params[..], &params[..1]].concat()] {
        assert!(parse_many(&to_wave(&all), other, Integers::OfType).is_err());
        assert!(from_json_many(&json, other, Integers::OfType).is_err());
        assert!(other.len() > params.len() || from_json_many(&by_name, other, Integers::OfType).is_err());
    }
}

/// A record that lacks a field, or has one too many: refused, unless the field is an option.
fn without_a_field(data: &[u8]) {
    let mut choices = Choices(data);
    let fields: Vec<(String, Type)> = ["a", "b", "c"].map(|name| (name.to_owned(), choices.ty(1))).into();
    let values = fields.iter().map(|(name, ty)| (name.clone(), choices.value(ty)));
    let Value::Record(values) = Value::Record(values.collect()) else { return };
    let at = usize::from(choices.byte()) % 3;
    let less = Value::Record(
        values.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, field)| field.clone()).collect(),
    );
    let (wave, json) = (to_wave(&less), String::from_utf8(to_json(&less)).expect("JSON is text"));
    let is_option = matches!(fields[at].1, Type::Option(_));
    let all = Type::Record(fields.clone());
    assert_eq!(parse_wave(&wave, &all).is_ok(), is_option, "{wave}");
    assert_eq!(from_json(&json, &all, Integers::OfType).is_ok(), is_option, "{json}");
    let (_, fewer) = fields.split_first().expect("there are three");
    let json = String::from_utf8(to_json(&Value::Record(values))).expect("JSON is text");
    assert!(from_json(&json, &Type::Record(fewer.to_vec()), Integers::OfType).is_err());
}

/// No NaN is equal to itself.
fn same(one: &Value, other: &Value) -> bool {
    format!("{one:?}") == format!("{other:?}")
}

/// What a worker gives for a result, and what is made of it for a caller; and what a caller gives.
fn result(data: &[u8]) {
    let bytes = Type::List(Box::new(Type::U8));
    let text = std::str::from_utf8(data).ok();
    assert_eq!(Vec::<u8>::decode(data, Some(&bytes)).as_deref(), Some(data));
    assert_eq!(Vec::<u8>::decode(data, Some(&Type::String)).as_deref(), Some(data));
    assert_eq!(String::decode(data, Some(&Type::String)).as_deref(), text);
    assert_eq!(String::decode(data, Some(&bytes)).as_deref(), text);
    assert_eq!(<()>::decode(data, None), Some(()));
    for (ty, min, max) in &RANGES {
        let n = text.and_then(|text| parse_wave(text, ty).ok()).and_then(|value| value.as_integer());
        assert!(n.is_none_or(|n| (*min..=*max).contains(&n)));
        assert_eq!(i64::decode(data, Some(ty)), n.and_then(|n| n.try_into().ok()));
        assert_eq!(u8::decode(data, Some(ty)), n.and_then(|n| n.try_into().ok()));
    }
    let mut choices = Choices(data);
    let ty = choices.ty(3);
    let value = choices.value(&ty);
    let mut record = Vec::new();
    assert_eq!(value.clone().encode(&[&ty], &mut record), Ok(()));
    let read = Value::decode(&record, Some(&ty)).unwrap_or_else(|| panic!("{value:?} of {ty}"));
    assert!(same(&value, &read), "{value:?} became {read:?}");
    assert!(Value::decode(&record, None).is_none());
    // As long as results are.
    let many: Vec<u32> = (0..300 + mixed(data) as u32 % 1000).collect();
    assert_eq!(
        Vec::<u32>::decode(
            to_wave(&Value::from(many.clone())).as_bytes(),
            Some(&Type::List(Box::new(Type::U32)))
        ),
        Some(many)
    );
    // Text of which little becomes much.
    if let Some(value) = Value::decode(choices.0, Some(&ty)) {
        assert!(value.is_of(&ty));
    }
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
        fn f104_any_bytes_are_taken_for_what_they_are(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            for (_, target) in TARGETS {
                target(&data);
            }
        }
    }
}
