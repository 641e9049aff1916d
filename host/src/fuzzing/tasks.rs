//! Batches of records, and what comes of a task.

use super::{assert_plain, lengthened, model};
use crate::pool::{TaskEnd, parse_outcome};
use crate::protocol::batch::{Batch, BatchEntry, Record};
use crate::protocol::message::{self, Used};

/// The records of a batch: those of the definition, in every length.
pub(super) fn batch(data: &[u8]) {
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
            Ok(BatchEntry::Here(Record::Bytes(bytes))) => found.push(model::Task::Bytes(bytes)),
            Ok(BatchEntry::Here(Record::Misfit(why))) => found.push(model::Task::Misfit(why)),
            Ok(BatchEntry::Placed { offset, len }) => found.push(model::Task::Placed(offset, len)),
            Err(violation) => {
                assert_plain(&violation.to_string());
                ended = Err(());
            }
        }
    }
    assert_eq!((found, ended.is_ok()), (tasks, is_whole));
}

/// The outcome of a task: its output, its time, its use and its result, in the frames of the definition.
pub(super) fn outcome(data: &[u8]) {
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
fn said<'c>(said: &TaskEnd<'c>) -> (u8, &'c [u8]) {
    match said {
        TaskEnd::Returned(result) => (16, result),
        TaskEnd::Failed(failure) => (17, failure),
        TaskEnd::Verdict(error) => panic!("no worker says {error}"),
    }
}
