//! What a compiler process says.

use super::{assert_plain, lengthened, model, session};
use crate::protocol::frame::Caps;
use crate::protocol::message::{self, FromWorker};

/// What a compiler process says: its imports are judged, then it describes the module, if all is in order.
pub(super) fn compiler(data: &[u8]) {
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
    let compiled = || said(FromWorker::Compiled(Box::new(session::description())));
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
