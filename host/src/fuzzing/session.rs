//! Any sequence of what a process says and of what the coordinator asks, for [`crate::fuzzing`]: a model judges
//! each word by the whole history before it.

use std::sync::LazyLock;
use std::time::Duration;

use crate::escape;
use crate::fuzzing::choices::Choices;
use crate::protocol::VERSION;
use crate::protocol::frame::{self, Frame, Kind, Violation};
use crate::protocol::message::{self, Failure, FromWorker, PANICKED, UNFIT};
use crate::protocol::session::{
    CompilerRole, FromCompiler, FromPoolWorker, FromProcessWorker, FromZygote, GaveUp, PoolWorkerRole,
    ProcessWorkerRole, Session, ZygoteRole,
};
use crate::spec::{Codegen, Features, Limits, ModuleInfo, ModuleKind, PROFILE_LEN_MAX};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Compiler,
    Zygote,
    PoolWorker,
    ProcessWorker,
}

/// What a process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Hello {
        is_ours: bool,
    },
    Unconfined,
    Refused(Why),
    Imports,
    Compiled,
    Needs,
    Ready,
    Forked,
    NotForked,
    InitFailed,
    InitCancelled,
    WantsInput,
    Thawed,
    Report,
    Garbage,
    Returned,
    Failed,
    Cancelled,
    /// An instance that could not be made because the task was cancelled: no worker says that.
    Odd,
    Stdout,
    Stderr,
    Took(Figure),
    Used(Figure),
    /// A result of this length, in bytes.
    Placed(u64),
    BatchDone,
    Profile(usize),
    Batch,
    Input,
    /// A frame of this kind whose payload is too short.
    Short(Kind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Unfit,
    Panicked,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    Possible,
    /// More than the limits, or the worker's life, allow.
    TooMuch,
    /// Fuel, though that is not counted.
    OfFuel,
}

/// What the coordinator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    SendBatch(u64),
    CancelUntil(u64),
    TakeBack(u64),
    ShutDown,
    Ask(u32),
    Feed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happened {
    Said(Word),
    Done(Deed),
}

const WORDS: [Word; 36] = [
    Word::Hello { is_ours: true },
    Word::Unconfined,
    Word::Ready,
    Word::Returned,
    Word::Failed,
    Word::BatchDone,
    Word::Imports,
    Word::Compiled,
    Word::Forked,
    Word::NotForked,
    Word::Stdout,
    Word::Stderr,
    Word::Took(Figure::Possible),
    Word::Used(Figure::Possible),
    Word::Cancelled,
    Word::Thawed,
    Word::WantsInput,
    Word::Placed(OUTPUT_MAX),
    Word::Profile(5),
    Word::Profile(PROFILE_LEN_MAX - 5),
    Word::Refused(Why::Other),
    Word::Hello { is_ours: false },
    Word::Refused(Why::Unfit),
    Word::Refused(Why::Panicked),
    Word::Needs,
    Word::InitFailed,
    Word::InitCancelled,
    Word::Report,
    Word::Garbage,
    Word::Odd,
    Word::Took(Figure::TooMuch),
    Word::Used(Figure::TooMuch),
    Word::Used(Figure::OfFuel),
    Word::Placed(OUTPUT_MAX + 1),
    Word::Batch,
    Word::Input,
];

const SHORT: [Kind; 5] = [Kind::Took, Kind::Used, Kind::Placed, Kind::BatchDone, Kind::Failed];

const OUTPUT_MAX: u64 = 1000;

/// What only the coordinator knows of a process when it starts it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions {
    whose: Whose,
    is_profiled: bool,
    reads_input: bool,
}

/// Three words in four are such that the process may say them, so that the sequences get far.
pub(crate) fn session(data: &[u8]) {
    let mut choices = Choices(data);
    let first = choices.byte();
    let whose = [Whose::PoolWorker, Whose::ProcessWorker, Whose::Zygote, Whose::Compiler];
    let start = Conditions {
        whose: whose[usize::from(first % 4)],
        is_profiled: first & 4 != 0,
        reads_input: first & 8 != 0,
    };
    let mut session = AnySession::new(start);
    let mut past = Vec::new();
    while !choices.0.is_empty() {
        if choices.byte() % 4 == 0 {
            let deed = deed(&mut choices);
            if session.obey(deed) {
                past.push(Happened::Done(deed));
            }
            continue;
        }
        let word = word(&mut choices, start, &past);
        let found = session.hear(word);
        match (meaning(start, &past, word), found) {
            (Some(wanted), Ok(found)) => assert_eq!(wanted, found, "{word:?} behind {past:?}"),
            (None, Err(violation)) => {
                let text = violation.to_string();
                return assert!(text.chars().all(escape::is_plain) && text.len() <= 16 << 10, "{text:?}");
            }
            (wanted, found) => panic!("{found:?}, not {wanted:?}, of {word:?} behind {past:?} of {start:?}"),
        }
        past.push(Happened::Said(word));
    }
}

pub(crate) fn deed(choices: &mut Choices<'_>) -> Deed {
    let (kind, count) = (choices.byte() % 6, u64::from(choices.byte() % 5));
    match kind {
        0 => Deed::SendBatch(1 + count),
        1 => Deed::CancelUntil(count * 2),
        2 => Deed::TakeBack(if count == 4 { u64::MAX } else { count }),
        3 => Deed::ShutDown,
        4 => Deed::Ask(u32::from(choices.byte())),
        _ => Deed::Feed,
    }
}

pub(crate) fn word(choices: &mut Choices<'_>, start: Conditions, past: &[Happened]) -> Word {
    let (pick, n) = (choices.byte(), usize::from(choices.byte()));
    if pick >= 64 {
        let may = |word: &&Word| meaning(start, past, **word).is_some();
        let allowed: Vec<Word> = WORDS.iter().filter(may).copied().collect();
        if let Some(word) = allowed.get(n % allowed.len().max(1)) {
            return *word;
        }
    }
    match WORDS.get(n % (WORDS.len() + SHORT.len())) {
        Some(word) => *word,
        None => Word::Short(SHORT[n % SHORT.len()]),
    }
}

/// Whether there is such a deed to a pool's worker.
pub(crate) fn obey(session: &mut Session<PoolWorkerRole>, deed: Deed) -> bool {
    match deed {
        Deed::SendBatch(count) => session.sent_batch(count),
        Deed::CancelUntil(until) => session.cancel_until(until),
        Deed::TakeBack(started) => session.take_back(started),
        Deed::ShutDown => session.shut_down(),
        Deed::Ask(_) | Deed::Feed => return false,
    }
    true
}

impl Conditions {
    pub(crate) fn of_a_pool_worker(is_profiled: bool) -> Conditions {
        Conditions { whose: Whose::PoolWorker, is_profiled, reads_input: false }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits { output: usize::try_from(OUTPUT_MAX).expect("a small number"), ..Limits::default() }
    }

    pub(crate) fn is_profiled(&self) -> bool {
        self.is_profiled
    }
}

/// The words of a process, up to the first that it may not say.
#[derive(Debug)]
pub(crate) struct Script {
    start: Conditions,
    words: Vec<Word>,
    wrong: Option<Word>,
}

impl Script {
    /// Of the worker of a `Process` without standard input.
    pub(crate) fn of_a_process(choices: &mut Choices<'_>) -> Script {
        let start = Conditions {
            whose: Whose::ProcessWorker,
            is_profiled: choices.byte() % 2 == 1,
            reads_input: false,
        };
        let mut script = Script { start, words: Vec::new(), wrong: None };
        let mut past = Vec::new();
        for _ in 0..choices.byte() % 24 {
            let word = word(choices, start, &past).shortened();
            if meaning(start, &past, word).is_none() {
                script.wrong = Some(word);
                break;
            }
            script.words.push(word);
            past.push(Happened::Said(word));
        }
        script
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.words.iter().chain(&self.wrong).flat_map(|word| said(*word)).collect()
    }

    pub(crate) fn words(&self) -> &[Word] {
        &self.words
    }

    pub(crate) fn has_said(&self, word: Word) -> bool {
        self.words.contains(&word)
    }

    pub(crate) fn wrong(&self) -> Option<Word> {
        self.wrong
    }

    pub(crate) fn start(&self) -> Conditions {
        self.start
    }
}

impl Word {
    /// The word, but no megabytes of it.
    pub(crate) fn shortened(self) -> Word {
        match self {
            Word::Profile(_) => Word::Profile(5),
            word => word,
        }
    }
}

/// A session of any role.
enum AnySession {
    Compiler(Session<CompilerRole>),
    Zygote(Session<ZygoteRole>),
    PoolWorker(Session<PoolWorkerRole>),
    ProcessWorker(Session<ProcessWorkerRole>),
}

impl AnySession {
    fn new(start: Conditions) -> AnySession {
        let limits = start.limits();
        match start.whose {
            Whose::Compiler => AnySession::Compiler(Session::compiler()),
            Whose::Zygote => AnySession::Zygote(Session::zygote()),
            Whose::PoolWorker => AnySession::PoolWorker(Session::pool_worker(&limits, start.is_profiled)),
            Whose::ProcessWorker => AnySession::ProcessWorker(Session::process_worker(
                &limits,
                start.reads_input,
                start.is_profiled,
            )),
        }
    }

    /// Whether there is such a deed in this role.
    fn obey(&mut self, deed: Deed) -> bool {
        match (self, deed) {
            (AnySession::PoolWorker(session), deed) => return obey(session, deed),
            (AnySession::Zygote(session), Deed::Ask(worker)) => session.ask(worker),
            (AnySession::ProcessWorker(session), Deed::Feed) => session.fed(),
            _ => return false,
        }
        true
    }

    /// What the session takes the word for.
    fn hear(&mut self, word: Word) -> Result<String, Violation> {
        static PIECES: LazyLock<Vec<u8>> = LazyLock::new(|| vec![b'x'; PROFILE_LEN_MAX]);
        let bytes;
        let frame = match word {
            // Megabytes, which are not copied.
            Word::Profile(len) => Frame { kind: Kind::Profile, payload: &PIECES[..len] },
            word => {
                bytes = said(word);
                frame::parse(&bytes)?.expect("a whole frame")
            }
        };
        match self {
            AnySession::Compiler(session) => session.on(frame).map(|heard| format!("{heard:?}")),
            AnySession::Zygote(session) => session.on(frame).map(|heard| format!("{heard:?}")),
            AnySession::PoolWorker(session) => session.on(frame).map(|heard| format!("{heard:?}")),
            AnySession::ProcessWorker(session) => session.on(frame).map(|heard| format!("{heard:?}")),
        }
    }
}

fn control(message: &FromWorker) -> Vec<u8> {
    let mut bytes = Vec::new();
    message::write_control(&mut bytes, message);
    bytes
}

fn framed(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, kind, |out| out.extend_from_slice(payload));
    bytes
}

fn two(one: u64, other: u64) -> Vec<u8> {
    [one.to_le_bytes(), other.to_le_bytes()].concat()
}

fn failure() -> Failure {
    Failure::Failed { message: "no".to_owned() }
}

pub(super) fn description() -> ModuleInfo {
    ModuleInfo {
        kind: ModuleKind::Core,
        imports: vec![],
        exports: vec![],
        memory_min: None,
        codegen: Codegen::default(),
        needs: Features::default(),
    }
}

fn reason(why: Why) -> String {
    match why {
        Why::Unfit => format!("{UNFIT}: no"),
        Why::Panicked => format!("{PANICKED}: no"),
        Why::Other => "no\x1b".to_owned(),
    }
}

/// The frame that a word is.
pub(crate) fn said(word: Word) -> Vec<u8> {
    let failed = |failure: &Failure| {
        let mut bytes = Vec::new();
        message::write_failure(&mut bytes, failure);
        bytes
    };
    match word {
        Word::Hello { is_ours } => control(&FromWorker::Hello { version: VERSION + u32::from(!is_ours) }),
        Word::Unconfined => control(&FromWorker::Unconfined { missing: vec![] }),
        Word::Refused(why) => control(&FromWorker::Refused { reason: reason(why) }),
        Word::Imports => control(&FromWorker::Imports { kind: ModuleKind::Core, imports: vec![] }),
        Word::Compiled => control(&FromWorker::Compiled(Box::new(description()))),
        Word::Needs => control(&FromWorker::Needs { features: Features::default(), reason: "no".to_owned() }),
        Word::Ready => control(&FromWorker::Ready),
        Word::Forked => control(&FromWorker::Forked { pid: 77 }),
        Word::NotForked => control(&FromWorker::NotForked { reason: "no".to_owned() }),
        Word::InitFailed => control(&FromWorker::InitFailed { failure: failure() }),
        Word::InitCancelled => control(&FromWorker::InitFailed { failure: Failure::Cancelled }),
        Word::WantsInput => control(&FromWorker::WantsInput),
        Word::Thawed => control(&FromWorker::Thawed),
        Word::Report => framed(Kind::Control, br#"{"Report":{"steps":[],"properties":[]}}"#),
        Word::Garbage => framed(Kind::Control, b"{}"),
        Word::Returned => framed(Kind::Returned, b"result"),
        Word::Failed => failed(&failure()),
        Word::Cancelled => failed(&Failure::Cancelled),
        Word::Odd => failed(&Failure::NoInstance { failure: Box::new(Failure::Cancelled) }),
        Word::Stdout => framed(Kind::Stdout, b"out"),
        Word::Stderr => framed(Kind::Stderr, b"err"),
        Word::Took(Figure::TooMuch | Figure::OfFuel) => framed(Kind::Took, &u64::MAX.to_le_bytes()),
        Word::Took(Figure::Possible) => framed(Kind::Took, &[0; 8]),
        Word::Used(Figure::Possible) => framed(Kind::Used, &Limits::MEMORY.to_le_bytes()),
        Word::Used(Figure::TooMuch) => framed(Kind::Used, &(Limits::MEMORY + 1).to_le_bytes()),
        Word::Used(Figure::OfFuel) => framed(Kind::Used, &two(1, 1)),
        Word::Placed(len) => framed(Kind::Placed, &two(7, len)),
        Word::BatchDone => framed(Kind::BatchDone, &two(5, 3)),
        Word::Profile(len) => framed(Kind::Profile, &vec![b'x'; len]),
        Word::Batch => framed(Kind::Batch, &[0; 8]),
        Word::Input => framed(Kind::Input, b"x"),
        Word::Short(kind) => framed(kind, b"1234567"),
    }
}

// The model.

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

/// The tasks of a pool's worker, batch by batch: whether each has its answer. Batches that are done come first.
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
                Happened::Said(_) | Happened::Done(Deed::Ask(_) | Deed::Feed) => {}
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
