//! The calls that a pool's workers are told, each under a number.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::waker::Waker;
use crate::spec::Call;

/// A call and its number. Functions and open jobs share it. Once nothing holds it any more, the workers that
/// know it are told to forget it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) id: u32,
    pub(crate) call: Call,
    plans: Arc<PlanState>,
}

/// The plans of a pool that are in use: equal calls share one.
#[derive(Debug, Clone)]
pub(super) struct Plans(Arc<PlanState>);

#[derive(Debug)]
struct PlanState {
    waker: Waker,
    known: Mutex<KnownPlans>,
}

#[derive(Debug, Default)]
struct KnownPlans {
    last: u32,
    by_call: HashMap<Call, Weak<Plan>>,
}

impl Plans {
    pub(super) fn new(waker: Waker) -> Plans {
        Plans(Arc::new(PlanState { waker, known: Mutex::default() }))
    }

    /// The plan of this call, which has the same number for equal calls.
    pub(super) fn get(&self, call: &Call) -> Arc<Plan> {
        let mut known = self.0.lock();
        if let Some(plan) = known.by_call.get(call).and_then(Weak::upgrade) {
            return plan;
        }
        known.last = known.last.wrapping_add(1);
        let plan = Arc::new(Plan { id: known.last, call: call.clone(), plans: self.0.clone() });
        known.by_call.insert(call.clone(), Arc::downgrade(&plan));
        plan
    }
}

impl PlanState {
    fn lock(&self) -> MutexGuard<'_, KnownPlans> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        let PlanState { waker, .. } = &*self.plans;
        // In a forked child the locks may be held for ever, and the workers belong to the parent.
        if waker.is_in_fork() {
            return;
        }
        let mut known = self.plans.lock();
        // A later plan of an equal call has taken the place if `get` came between the last use and this.
        if known.by_call.get(&self.call).is_some_and(|plan| plan.strong_count() == 0) {
            known.by_call.remove(&self.call);
        }
        drop(known);
        waker.forget(self.id, self.call.fixed.bytes().len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{FixedArgs, Input, Output};

    fn call(path: &str) -> Call {
        let fixed = FixedArgs::default();
        let (input, output) = (Input::Raw, Output::Raw);
        Call { path: path.to_owned(), input, output, fixed, argv: vec![], ok_exit: vec![], timed: false }
    }

    #[test]
    fn equal_calls_share_a_plan_and_the_last_use_forgets_it() {
        let waker = Waker::new().unwrap();
        let plans = Plans::new(waker.clone());
        let (first, same, other) = (plans.get(&call("a")), plans.get(&call("a")), plans.get(&call("b")));
        assert_eq!((first.id, same.id, other.id), (1, 1, 2));
        drop(first);
        assert!(waker.take_forgotten().is_empty());
        drop(same);
        assert_eq!(waker.take_forgotten(), [1]);
        assert_eq!(plans.get(&call("a")).id, 3);
        assert_eq!(waker.take_forgotten(), [3]);
        for n in 0..10_000 {
            plans.get(&call(&n.to_string()));
            waker.take_forgotten();
        }
        assert_eq!(plans.0.lock().by_call.len(), 1);
        drop(other);
    }
}
