//! What a process may say, said once more and by definition: each word is judged by the whole history before
//! it.

use std::time::Duration;

use super::{Conditions, Deed, Figure, Happened, OUTPUT_MAX, Whose, Why, Word, description, failure};
use crate::protocol::message::Failure;
use crate::protocol::session::{
    FromCompiler, FromPoolWorker, FromProcessWorker, FromReporter, FromZygote, GaveUp,
};
use crate::spec::{Features, ModuleKind, PROFILE_LEN_MAX, ProcessRole, Status};

/// What a word means behind this past; `None` if it may not be said.
pub(crate) fn meaning(start: Conditions, past: &[Happened], word: Word) -> Option<String> {
    let has_said = |word: Word| past.contains(&Happened::Said(word));
    let has_greeted = has_said(Word::Hello { is_ours: true });
    let is_over =
        [Word::InitFailed, Word::InitCancelled, Word::Compiled, Word::Needs].into_iter().any(has_said);
    let has_begun = has_said(Word::Ready) || has_said(Word::Imports);
    let is_starting = has_greeted && !has_begun && !is_over;
    let whys = [Why::Unfit, Why::Panicked, Why::Other];
    match word {
        Word::Hello { is_ours } => (is_ours && !has_greeted).then(|| "Greeted".to_owned()),
        Word::Unconfined => (is_starting && !has_said(word)).then(|| "Unconfined([])".to_owned()),
        Word::Refused(why) => {
            let is_first = !whys.into_iter().any(|why| has_said(Word::Refused(why)));
            let shown = match why {
                Why::Unfit => GaveUp::Unfit("workers cannot run here: no".to_owned()),
                Why::Panicked => GaveUp::Panicked("it panicked: no".to_owned()),
                Why::Other => GaveUp::Other("no\\x1b".to_owned()),
            };
            is_first.then(|| format!("Refused({shown:?})"))
        }
        word => {
            let facts = Facts { is_starting, is_ready: has_begun && !is_over, has_greeted };
            let meant = match start.whose {
                Whose::Compiler => of_compiler(facts, word),
                Whose::Zygote => of_zygote(facts, past, word),
                Whose::PoolWorker => of_pool_worker(facts, start, past, word),
                Whose::ProcessWorker => of_process_worker(facts, start, past, word),
                Whose::Reporter(kind) => of_reporter(facts, kind, past, word),
            };
            meant.map(|meant| format!("Said({meant})"))
        }
    }
}

#[derive(Clone, Copy)]
struct Facts {
    is_starting: bool,
    is_ready: bool,
    has_greeted: bool,
}

fn of_compiler(facts: Facts, word: Word) -> Option<String> {
    let Facts { is_starting, is_ready, .. } = facts;
    let (may, meant) = match word {
        Word::Imports => (is_starting, FromCompiler::Imports { kind: ModuleKind::Core, imports: vec![] }),
        Word::Compiled => (is_ready, FromCompiler::Compiled(Box::new(description()))),
        Word::Needs => (
            is_starting || is_ready,
            FromCompiler::Needs { features: Features::default(), reason: "no".to_owned() },
        ),
        _ => return None,
    };
    may.then(|| format!("{meant:?}"))
}

fn of_zygote(facts: Facts, past: &[Happened], word: Word) -> Option<String> {
    if word == Word::Ready {
        return facts.is_starting.then(|| format!("{:?}", FromZygote::Ready));
    }
    let answers = past.iter().filter(|event| matches!(event, Happened::Said(Word::Forked | Word::NotForked)));
    let asked = past.iter().filter_map(|event| match event {
        Happened::Done(Deed::Ask(worker)) => Some(*worker),
        _ => None,
    });
    let worker = asked.clone().nth(answers.count()).filter(|_| facts.is_ready)?;
    match word {
        Word::Forked => Some(format!("{:?}", FromZygote::Forked { worker, pid: 77 })),
        Word::NotForked => Some(format!("{:?}", FromZygote::NotForked { worker, reason: "no".to_owned() })),
        _ => None,
    }
}

fn of_reporter(facts: Facts, kind: ProcessRole, past: &[Happened], word: Word) -> Option<String> {
    let (may, meant) = match word {
        Word::Ready => (facts.is_starting && kind != ProcessRole::Compiler, FromReporter::Ready),
        Word::Report => {
            let is_of_reports = |event: &&Happened| {
                matches!(event, Happened::Said(Word::Report) | Happened::Done(Deed::AskForReport))
            };
            let last = past.iter().rev().find(is_of_reports);
            let is_asked = last == Some(&Happened::Done(Deed::AskForReport));
            (facts.has_greeted && is_asked, FromReporter::Report(Status::default()))
        }
        _ => return None,
    };
    may.then(|| format!("{meant:?}"))
}

/// The tasks of a pool's worker, batch by batch: whether each has its answer. Batches that are done are
/// first.
#[derive(Debug, Default)]
struct HeldTasks {
    batches: Vec<Vec<bool>>,
    done: usize,
    cancelled: usize,
    is_frozen: bool,
    is_leaving: bool,
}

impl HeldTasks {
    fn of(past: &[Happened]) -> HeldTasks {
        let mut tasks = HeldTasks::default();
        for event in past {
            match *event {
                Happened::Done(Deed::SendBatch(count)) => {
                    tasks.batches.push((0..count).map(|_| false).collect());
                }
                Happened::Done(Deed::CancelUntil(until)) => {
                    tasks.cancelled = tasks.cancelled.max(usize::try_from(until).unwrap_or(usize::MAX));
                }
                Happened::Done(Deed::TakeBack(started)) => tasks.take_back(started),
                Happened::Done(Deed::ShutDown) => tasks.is_leaving = true,
                Happened::Said(Word::Thawed) => tasks.is_frozen = false,
                Happened::Said(Word::BatchDone) => tasks.done += 1,
                Happened::Said(Word::Returned | Word::Failed | Word::Cancelled | Word::Placed(_)) => {
                    if let Some(answer) = tasks.batches.iter_mut().flatten().find(|answer| !**answer) {
                        *answer = true;
                    }
                }
                Happened::Said(_) | Happened::Done(Deed::Ask(_) | Deed::Feed | Deed::AskForReport) => {}
            }
        }
        tasks
    }

    /// One task after the other, from the last, as long as it is neither answered nor begun.
    fn take_back(&mut self, started: u64) {
        self.is_frozen = true;
        loop {
            let all = self.batches.iter().map(Vec::len).sum::<usize>() as u64;
            let Some(batch) = self.batches.last_mut().filter(|batch| batch.last() == Some(&false)) else {
                return;
            };
            if all <= started {
                return;
            }
            batch.pop();
            if batch.is_empty() {
                self.batches.pop();
            }
        }
    }

    fn answered(&self) -> usize {
        self.batches.iter().flatten().filter(|answer| **answer).count()
    }

    fn owes(&self) -> bool {
        self.batches.iter().flatten().any(|answer| !answer)
    }

    fn may_end_batch(&self) -> bool {
        self.batches.get(self.done).is_some_and(|batch| batch.iter().all(|answer| *answer))
    }
}

/// Whether the word, a part of an answer, has not come since the last answer.
fn is_first_of_answer(past: &[Happened], word: Word) -> bool {
    let is_answer = |event: &&Happened| {
        matches!(event, Happened::Said(Word::Returned | Word::Failed | Word::Cancelled | Word::Placed(_)))
    };
    !past.iter().rev().take_while(|event| !is_answer(event)).any(|event| *event == Happened::Said(word))
}

/// Whether there is room for so much more of the profile.
fn is_within_profile(past: &[Happened], more: usize) -> bool {
    let pieces = past.iter().map(|event| match event {
        Happened::Said(Word::Profile(len)) => *len,
        _ => 0,
    });
    pieces.sum::<usize>() + more <= PROFILE_LEN_MAX
}

fn of_pool_worker(facts: Facts, start: Conditions, past: &[Happened], word: Word) -> Option<String> {
    let tasks = HeldTasks::of(past);
    let owes = facts.is_ready && tasks.owes();
    let (may, meant) = match word {
        Word::Ready => (facts.is_starting, FromPoolWorker::Ready),
        Word::InitFailed => (facts.is_starting, FromPoolWorker::InitFailed(failure())),
        Word::Returned => (owes, FromPoolWorker::Returned),
        Word::Failed => (owes, FromPoolWorker::Failed(failure())),
        Word::Cancelled => {
            (owes && tasks.answered() < tasks.cancelled, FromPoolWorker::Failed(Failure::Cancelled))
        }
        Word::Placed(len) => {
            (owes && len <= OUTPUT_MAX, FromPoolWorker::Placed { offset: 7, len: usize::try_from(len).ok()? })
        }
        Word::Stdout | Word::Stderr | Word::Took(Figure::Possible) | Word::Used(Figure::Possible) => {
            (owes && is_first_of_answer(past, word), FromPoolWorker::Attached)
        }
        Word::BatchDone => (
            facts.is_ready && tasks.may_end_batch(),
            FromPoolWorker::BatchDone { busy: Duration::from_nanos(5), instances: Duration::from_nanos(3) },
        ),
        Word::Thawed => (tasks.is_frozen, FromPoolWorker::Thawed),
        Word::Profile(len) => {
            let may = facts.is_ready && start.is_profiled && tasks.is_leaving;
            (may && is_within_profile(past, len), FromPoolWorker::Profile)
        }
        _ => return None,
    };
    may.then(|| format!("{meant:?}"))
}

fn of_process_worker(facts: Facts, start: Conditions, past: &[Happened], word: Word) -> Option<String> {
    let has_said = |word: Word| past.contains(&Happened::Said(word));
    let has_answered = [Word::Returned, Word::Failed, Word::Cancelled].into_iter().any(has_said);
    let owes = facts.is_ready && !has_answered;
    let (may, meant) = match word {
        Word::Ready => (facts.is_starting, FromProcessWorker::Ready),
        Word::InitFailed => (facts.is_starting, FromProcessWorker::InitFailed(failure())),
        Word::InitCancelled => (facts.is_starting, FromProcessWorker::Cancelled),
        Word::Returned => (owes, FromProcessWorker::Returned),
        Word::Failed => (owes, FromProcessWorker::Failed(failure())),
        Word::Cancelled => (owes, FromProcessWorker::Cancelled),
        Word::Stdout => (facts.has_greeted, FromProcessWorker::Stdout),
        Word::Stderr => (facts.has_greeted, FromProcessWorker::Stderr),
        Word::Took(Figure::Possible) | Word::Used(Figure::Possible) => {
            (owes && !has_said(word), FromProcessWorker::Figures)
        }
        Word::BatchDone => (facts.is_ready && has_answered && !has_said(word), FromProcessWorker::BatchDone),
        Word::WantsInput => {
            let last = past
                .iter()
                .rev()
                .find(|event| matches!(event, Happened::Said(Word::WantsInput) | Happened::Done(Deed::Feed)));
            let waits = last == Some(&Happened::Said(word));
            (facts.is_ready && start.reads_input && !waits, FromProcessWorker::WantsInput)
        }
        Word::Profile(len) => {
            let may = facts.is_ready && start.is_profiled && is_within_profile(past, len);
            (may, FromProcessWorker::Profile)
        }
        _ => return None,
    };
    may.then(|| format!("{meant:?}"))
}
