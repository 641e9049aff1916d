//! Running all items of a `map`, and putting their outcomes together.

use std::sync::Arc;

use super::drawing::RECORD_KEPT;
use super::func::Func;
use super::job::Job;
use super::shared::PoolShared;
use super::stream::{Inputs, Outcomes};
use crate::error::{Closed, MapError, TaskError};
use crate::value::{Args, Ret};

/// Up to this many items that were not drawn have an outcome each. An iterator may say that it has any
/// number.
const NOT_DRAWN_MAX: usize = 1 << 20;

/// Runs all items through a job. The calling thread pushes records while there is room, and takes outcomes
/// otherwise.
pub(super) fn collect<A: Args, R: Ret>(
    shared: &PoolShared,
    job: Arc<Job>,
    func: &Func<A, R>,
    mut items: impl Iterator<Item = A>,
) -> Vec<Result<R, TaskError>> {
    let mut inputs = Inputs::new(job.clone(), shared.limits.input);
    let mut outcomes = Outcomes::new(job, true);
    let decode = func.decode();
    let free = func.resolved.free();
    let mut results = Vec::new();
    let mut record = Vec::new();
    let take = |outcomes: &mut Outcomes, results: &mut Vec<_>| {
        outcomes.take_into(&mut |outcome| results.push(decode.decode(outcome.result())))
    };
    let mut is_over = false;
    let mut refused = 0;
    while !is_over {
        match inputs.room() {
            Ok(true) => {
                let Some(args) = items.next() else { break };
                record.clear();
                let encoded = args.encode(&free, &mut record);
                // The job can end between `room` and here: the item was drawn, and gets its outcome below.
                refused += usize::from(inputs.push_item(encoded.map(|()| &record[..])).is_err());
            }
            Ok(false) => {
                record.clear();
                record.shrink_to(RECORD_KEPT);
                is_over = !take(&mut outcomes, &mut results);
            }
            Err(Closed) => is_over = true,
        }
    }
    drop((inputs, record));
    while take(&mut outcomes, &mut results) {}
    // Asked of the job, which ends before the pool has noted why it broke.
    let why = outcomes.cut_short().unwrap_or(TaskError::Cancelled);
    results.extend((0..refused).map(|_| Err(why.clone())));
    if is_over {
        results.extend(not_drawn(&mut items, &why));
    }
    results
}

/// The outcomes of items that were not drawn, since the pool or the job had ended: one for each item if their
/// number is known and at most [`NOT_DRAWN_MAX`], otherwise one for all.
pub(super) fn not_drawn<R>(items: &mut impl Iterator, why: &TaskError) -> Vec<Result<R, TaskError>> {
    let count = match items.size_hint() {
        (least, Some(most)) if least == most && most <= NOT_DRAWN_MAX => most,
        _ => usize::from(items.next().is_some()),
    };
    (0..count).map(|_| Err(why.clone())).collect()
}

/// All results, or the first failure. `Cancelled` only if nothing else failed: it is a consequence of another
/// failure.
pub(super) fn all_or_first<R>(outcomes: Vec<Result<R, TaskError>>) -> Result<Vec<R>, MapError> {
    let mut results = Vec::with_capacity(outcomes.len());
    let (mut first, mut failed): (Option<(usize, TaskError)>, usize) = (None, 0);
    for (index, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(result) => results.push(result),
            Err(error) => {
                failed += 1;
                match &first {
                    Some((_, TaskError::Cancelled)) if error != TaskError::Cancelled => {
                        first = Some((index, error))
                    }
                    Some(_) => {}
                    None => first = Some((index, error)),
                }
            }
        }
    }
    match first {
        None => Ok(results),
        Some((index, error)) => Err(MapError { index, error, failed }),
    }
}
