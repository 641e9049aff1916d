//! Collecting the results of a `map_async`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::async_result::Bringer;
use super::func::Decode;
use super::handlers::{Chore, ChoreStep, Handlers};
use super::job::Panic;
use super::map::all_or_first;
use super::stream::Outcomes;
use crate::error::{MapError, TaskError};
use crate::value::Ret;

/// Takes outcomes as they come, and brings all results at the end.
pub(super) struct Collecting<R> {
    outcomes: Outcomes,
    decode: Decode<R>,
    results: Vec<Result<R, TaskError>>,
    /// `None` once the results are brought.
    bringer: Option<Bringer<Vec<R>, MapError>>,
}

impl<R: Ret + Send + 'static> Collecting<R> {
    pub(super) fn new(
        outcomes: Outcomes,
        decode: Decode<R>,
        bringer: Bringer<Vec<R>, MapError>,
    ) -> Collecting<R> {
        Collecting { outcomes, decode, results: Vec::new(), bringer: Some(bringer) }
    }

    /// `Some`: these are all results.
    fn collect(&mut self, until: Instant) -> Result<Result<Vec<R>, MapError>, ChoreStep> {
        let Collecting { outcomes, decode, results, .. } = self;
        loop {
            let now = Instant::now();
            if now >= until {
                return Err(ChoreStep::Again);
            }
            let taken = outcomes
                .take_until(Some(now), &mut |outcome| results.push(decode.decode(outcome.result())))
                .map_err(|_| ChoreStep::Wait)?;
            if !taken {
                break;
            }
        }
        results.extend(outcomes.cut_short().map(Err));
        // The outcomes of a cancelled job end without an error.
        results.extend(outcomes.job().is_cancelled().then_some(Err(TaskError::Cancelled)));
        Ok(all_or_first(std::mem::take(results)))
    }
}

impl<R: Ret + Send + 'static> Chore for Collecting<R> {
    fn turn(&mut self, until: Instant) -> ChoreStep {
        let collected = catch_unwind(AssertUnwindSafe(|| self.collect(until)));
        let Some(bringer) = self.bringer.take() else { return ChoreStep::Over };
        match collected {
            Ok(Ok(results)) => bringer.bring(results),
            Ok(Err(step)) => {
                self.bringer = Some(bringer);
                return step;
            }
            // The iterator of the items has panicked.
            Err(payload) => bringer.panicked(Panic(payload)),
        }
        ChoreStep::Over
    }

    fn wait(self: Box<Self>, handlers: &Handlers) {
        let job = self.outcomes.job().clone();
        let handlers = handlers.clone();
        job.when_ready(move || handlers.go_on(self));
    }
}
