//! Any sequence of what a process says and of what the coordinator asks. A model judges each word by the
//! whole history before it.

pub(crate) mod model;

use std::sync::LazyLock;

use self::model::meaning;
use crate::escape;
use crate::fuzzing::choices::Choices;
use crate::protocol::VERSION;
use crate::protocol::frame::{self, Frame, Kind, Violation};
use crate::protocol::message::{self, Failure, FromWorker, PANICKED, UNFIT};
use crate::protocol::session::{
    CompilerRole, PoolWorkerRole, ProcessWorkerRole, ReporterRole, Session, ZygoteRole,
};
use crate::spec::{Features, Limits, ModuleInfo, ModuleKind, PROFILE_LEN_MAX, ProcessRole};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Compiler,
    Zygote,
    PoolWorker,
    ProcessWorker,
    /// A process of this kind that is asked for a report.
    Reporter(ProcessRole),
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
    Fixed,
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
    AskForReport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happened {
    Said(Word),
    Done(Deed),
}

const WORDS: [Word; 37] = [
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
    Word::Fixed,
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
    let whose = [
        Whose::PoolWorker,
        Whose::ProcessWorker,
        Whose::Zygote,
        Whose::Compiler,
        Whose::Reporter(ProcessRole::Worker),
        Whose::Reporter(ProcessRole::Compiler),
    ];
    let start = Conditions {
        whose: whose[usize::from(first) % whose.len()],
        is_profiled: first & 4 != 0,
        reads_input: first & 8 != 0,
    };
    let mut session = AnySession::new(start);
    let mut past = Vec::new();
    while !choices.0.is_empty() {
        if choices.byte() % 4 == 0 {
            let deed = deed(&mut choices);
            if session.apply_deed(deed) {
                past.push(Happened::Done(deed));
            }
            continue;
        }
        let word = word(&mut choices, start, &past);
        if !compare(start, &past, &mut session, word) {
            return;
        }
        past.push(Happened::Said(word));
    }
}

/// Whether the word may be said: the session and the model say the same of it.
fn compare(start: Conditions, past: &[Happened], session: &mut AnySession, word: Word) -> bool {
    match (meaning(start, past, word), session.hear(word)) {
        (Some(wanted), Ok(found)) => assert_eq!(wanted, found, "{word:?} behind {past:?}"),
        (None, Err(violation)) => {
            let text = violation.to_string();
            assert!(text.chars().all(escape::is_plain) && text.len() <= 16 << 10, "{text:?}");
            return false;
        }
        (wanted, found) => panic!("{found:?}, not {wanted:?}, of {word:?} behind {past:?} of {start:?}"),
    }
    true
}

pub(crate) fn deed(choices: &mut Choices<'_>) -> Deed {
    let (kind, count) = (choices.byte() % 7, u64::from(choices.byte() % 5));
    match kind {
        0 => Deed::SendBatch(1 + count),
        1 => Deed::CancelUntil(count * 2),
        2 => Deed::TakeBack(if count == 4 { u64::MAX } else { count }),
        3 => Deed::ShutDown,
        4 => Deed::Ask(u32::from(choices.byte())),
        5 => Deed::Feed,
        _ => Deed::AskForReport,
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
pub(crate) fn apply_deed(session: &mut Session<PoolWorkerRole>, deed: Deed) -> bool {
    match deed {
        Deed::SendBatch(count) => session.sent_batch(count),
        Deed::CancelUntil(until) => session.cancel_until(until),
        Deed::TakeBack(started) => session.take_back(started),
        Deed::ShutDown => session.shut_down(),
        Deed::Ask(_) | Deed::Feed | Deed::AskForReport => return false,
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
    /// The script of the worker of a `Process` without standard input.
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
    Reporter(Session<ReporterRole>),
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
            Whose::Reporter(kind) => AnySession::Reporter(Session::reporter(kind)),
        }
    }

    /// Whether there is such a deed in this role.
    fn apply_deed(&mut self, deed: Deed) -> bool {
        match (self, deed) {
            (AnySession::PoolWorker(session), deed) => return apply_deed(session, deed),
            (AnySession::Zygote(session), Deed::Ask(worker)) => session.ask(worker),
            (AnySession::ProcessWorker(session), Deed::Feed) => session.fed(),
            (AnySession::Reporter(session), Deed::AskForReport) => session.ask_for_report(),
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
            AnySession::Reporter(session) => session.on(frame).map(|heard| format!("{heard:?}")),
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
    ModuleInfo::of(ModuleKind::Core, vec![])
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
        Word::Fixed => framed(Kind::Fixed, b"x"),
        Word::Short(kind) => framed(kind, b"1234567"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries each word behind `past`, and behind each of those that may be said then, and so on.
    fn explore(start: Conditions, past: &mut Vec<Happened>, depth: u32) {
        for word in WORDS.into_iter().chain(SHORT.map(Word::Short)) {
            let mut session = AnySession::new(start);
            for event in past.iter() {
                match *event {
                    Happened::Said(word) => drop(session.hear(word).expect("it may be said")),
                    Happened::Done(deed) => assert!(session.apply_deed(deed)),
                }
            }
            if compare(start, past, &mut session, word) && depth > 0 {
                past.push(Happened::Said(word));
                explore(start, past, depth - 1);
                past.pop();
            }
        }
    }

    #[test]
    fn f114_every_short_conversation_is_judged_as_by_the_model() {
        for whose in [Whose::Compiler, Whose::Zygote, Whose::PoolWorker, Whose::ProcessWorker] {
            for is_profiled in [false, true] {
                let start = Conditions { whose, is_profiled, reads_input: is_profiled };
                explore(start, &mut vec![], 3);
            }
        }
    }

    #[test]
    fn f114_every_short_conversation_about_tasks_is_judged_as_by_the_model() {
        let start = Conditions::of_a_pool_worker(true);
        let said = |word| Happened::Said(word);
        let ready = [said(Word::Hello { is_ours: true }), said(Word::Ready)];
        for deeds in [
            &[Deed::SendBatch(1), Deed::SendBatch(2)][..],
            &[Deed::SendBatch(2), Deed::CancelUntil(2), Deed::CancelUntil(1)],
            &[Deed::SendBatch(2), Deed::SendBatch(1), Deed::TakeBack(0)],
            &[Deed::SendBatch(3), Deed::TakeBack(1), Deed::SendBatch(1), Deed::ShutDown],
        ] {
            let mut past: Vec<Happened> =
                ready.into_iter().chain(deeds.iter().map(|d| Happened::Done(*d))).collect();
            explore(start, &mut past, 2);
            // What is taken back was answered before, whatever the worker says of its count.
            past.push(Happened::Done(Deed::SendBatch(2)));
            past.extend([said(Word::Returned), Happened::Done(Deed::TakeBack(0))]);
            explore(start, &mut past, 2);
        }
    }

    #[test]
    fn f114_every_short_conversation_about_a_report_is_judged_as_by_the_model() {
        for kind in [ProcessRole::Worker, ProcessRole::Zygote, ProcessRole::Compiler] {
            let start = Conditions { whose: Whose::Reporter(kind), is_profiled: false, reads_input: false };
            explore(start, &mut vec![], 3);
            let asked = Happened::Done(Deed::AskForReport);
            explore(start, &mut vec![asked], 2);
            explore(start, &mut vec![Happened::Said(Word::Hello { is_ours: true }), asked], 2);
        }
    }

    #[test]
    fn f114_every_short_conversation_about_forks_and_input_is_judged_as_by_the_model() {
        let said = |word| Happened::Said(word);
        let ready = [said(Word::Hello { is_ours: true }), said(Word::Ready)];
        let zygote = Conditions { whose: Whose::Zygote, is_profiled: false, reads_input: false };
        let mut past = ready.to_vec();
        past.extend([7, 8, 9].map(|worker| Happened::Done(Deed::Ask(worker))));
        explore(zygote, &mut past, 3);
        let process = Conditions { whose: Whose::ProcessWorker, is_profiled: true, reads_input: true };
        let mut past = ready.to_vec();
        explore(process, &mut past, 2);
        past.extend([said(Word::WantsInput), Happened::Done(Deed::Feed)]);
        explore(process, &mut past, 2);
        past.extend([said(Word::Returned), said(Word::BatchDone)]);
        explore(process, &mut past, 2);
    }
}
