//! Control messages and failures.

use serde_json::Value as Json;

use super::{assert_plain, lengthened, model, only_frame};
use crate::error::TaskError;
use crate::escape;
use crate::protocol::frame::{Frame, Kind};
use crate::protocol::message::{self, Failure, FromWorker, ToWorker};
use crate::spec::ModuleInfo;
use crate::value::Type;

/// What a message has to be, to be one: the JSON that it stands for, and in which it is all said.
fn assert_said(
    message: &impl serde::Serialize,
    payload: &[u8],
    cut: &dyn Fn(&str, &str) -> bool,
    items_max: usize,
) {
    let said = serde_json::to_value(message).expect("messages have a JSON form");
    // A field that is not read may hold bytes that are no text.
    let Ok(heard) = serde_json::from_slice(payload) else { return };
    assert!(model::is_said(&said, &heard, cut, items_max), "{said} of {heard}");
}

/// A control message of a worker or a compiler, and what is shown of it.
pub(super) fn from_worker(data: &[u8]) {
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
    // A frame of another kind is never read as a control message.
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

/// A description of a module: refused if a type nests too deep or a name is none, else every function is
/// found and shown.
fn describe(info: &ModuleInfo) {
    let exported = info.exports.iter().map(|export| &export.ty);
    let imported = info.imports.iter().flat_map(|import| &import.functions).map(|function| &function.ty);
    let mut types = exported.chain(imported).flat_map(|ty| ty.params.iter().map(|p| &p.ty).chain(&ty.result));
    let is_deep = types.any(|ty| depth(ty) > 32);
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
    for function in info.imports.iter().flat_map(|import| &import.functions) {
        assert!(function.ty.to_string().chars().all(escape::is_plain));
        assert_plain(&escape::shortened(&function.wit()));
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
pub(super) fn failure(data: &[u8]) {
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
    // A field that is not read may hold bytes that are no text.
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
