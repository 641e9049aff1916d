//! Uses shared objects as its records say.
//!
//! A record is steps with `;` between them. A step is a command and words after it. The result is what the
//! steps give, with spaces between. A step that fails ends the task: with the kind of its error, `: ` and the
//! message. `catch STEP` gives the kind in place of failing.
//!
//! `COMMAND@MS` waits for so many milliseconds at most. `COMMAND@0` does not wait: it uses the `try_` method.
//!
//! | step | |
//! |---|---|
//! | `put QUEUE TEXT`, `put-many QUEUE WORD ..` | `put-many@0` gives how many it has put |
//! | `get QUEUE`, `get-many QUEUE MOST` | the item; items with `,` between. `*`: redelivered |
//! | `drain QUEUE` | all items until the queue is closed and empty, with `,` between |
//! | `len QUEUE`, `is-full QUEUE`, `is-closed QUEUE`, `unfinished QUEUE` | |
//! | `task-done QUEUE`, `join QUEUE`, `close QUEUE` | |
//! | `send END TEXT`, `recv END`, `recv-max END LEN`, `poll END`, `hang-up END` | |
//! | `wait KIND:NAME ..` | the positions of the ready ones with `,` between; KIND is `queue` or `end` |
//! | `load VALUE`, `store VALUE NUMBER`, `add VALUE NUMBER` | the last: the sum |
//! | `swap VALUE EXPECTED NEW` | what it was |
//! | `load-text VALUE`, `store-text VALUE TEXT` | |
//! | `look DICT KEY`, `enter DICT KEY WORD`, `remove DICT KEY` | what is, or was, there, or `none` |
//! | `swap-entry DICT KEY EXPECTED NEW` | what was there; `none` is no entry |
//! | `keys DICT`, `count DICT` | keys with `,` between |
//! | `increment DICT KEY` | adds 1 to a number by `Dict::update` |
//! | `acquire KIND:NAME` | `owner-died` if so; KIND is `lock`, `rlock`, `semaphore` or `condition` |
//! | `release KIND:NAME` | releases by the newest guard, or without one |
//! | `locked KIND:NAME` | whether a `lock` or an `rlock` is locked; the free units of a `semaphore` |
//! | `forget KIND:NAME` | keeps it until the task ends, and longer than all guards |
//! | `give SEMAPHORE UNITS` | |
//! | `set EVENT`, `clear EVENT`, `is-set EVENT`, `await EVENT` | |
//! | `wait-on CONDITION`, `notify CONDITION COUNT`, `notify-all CONDITION` | its guard must be held |
//! | `meet BARRIER`, `abort BARRIER`, `reset BARRIER`, `barrier BARRIER` | the last: parties/waiting/broken |
//! | `say TEXT`, `whoami` | the text; the name of the worker |
//! | `sleep MS`, `loop`, `trap`, `fail TEXT` | |
//!
//! What the task has acquired is released when it returns, also with an error; by the host if it traps.
#![forbid(unsafe_code)]

mod held;
mod objects;

use std::time::Duration;

use crate::held::Held;

/// One step: its command, its time-out, and the words after it.
struct Step<'r> {
    command: &'r str,
    timeout: Timeout,
    rest: &'r str,
}

/// How long a step may wait.
#[derive(Clone, Copy)]
enum Timeout {
    None,
    Now,
    After(Duration),
}

/// The text of a step's failure: the kind, and the message.
struct Failure {
    kind: String,
    message: String,
}

impl From<wpool_guest::ipc::Error> for Failure {
    fn from(error: wpool_guest::ipc::Error) -> Self {
        Failure { kind: format!("{:?}", error.kind()), message: error.to_string() }
    }
}

/// A record that does not follow the rules above.
fn unknown(what: &str) -> Failure {
    Failure { kind: "Unknown".into(), message: what.into() }
}

#[wpool_guest::task]
fn run(record: String) -> Result<String, String> {
    let mut held = Held::default();
    let mut results = Vec::new();
    for step in record.split(';').map(str::trim).filter(|step| !step.is_empty()) {
        let result = perform(step, &mut held);
        let result = result.map_err(|Failure { kind, message }| format!("{kind}: {message}"))?;
        if !result.is_empty() {
            results.push(result);
        }
    }
    Ok(results.join(" "))
}

fn perform(step: &str, held: &mut Held) -> Result<String, Failure> {
    match step.strip_prefix("catch ") {
        Some(step) => run_step(&Step::parse(step)?, held).or_else(|failure| Ok(failure.kind)),
        None => run_step(&Step::parse(step)?, held),
    }
}

fn run_step(step: &Step<'_>, held: &mut Held) -> Result<String, Failure> {
    match step.command {
        "acquire" | "release" | "forget" | "locked" | "wait-on" | "notify" | "notify-all" => held.run(step),
        "say" => Ok(step.rest.into()),
        "whoami" => Ok(wpool_guest::process::name()),
        "sleep" => {
            std::thread::sleep(Duration::from_millis(step.number(0)?));
            Ok(String::new())
        }
        "loop" => loop {
            std::hint::black_box(());
        },
        "trap" => panic!("a trap, as told"),
        "fail" => Err(Failure { kind: "Failed".into(), message: step.rest.into() }),
        _ => objects::run(step),
    }
}

impl<'r> Step<'r> {
    fn parse(step: &'r str) -> Result<Self, Failure> {
        let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
        let (command, timeout) = match word.split_once('@') {
            None => (word, Timeout::None),
            Some((command, "0")) => (command, Timeout::Now),
            Some((command, ms)) => {
                let ms = ms.parse().map_err(|_| unknown(&format!("no time-out: {word}")))?;
                (command, Timeout::After(Duration::from_millis(ms)))
            }
        };
        Ok(Step { command, timeout, rest: rest.trim() })
    }

    /// The word at this place after the command.
    fn word(&self, at: usize) -> Result<&'r str, Failure> {
        let word = self.rest.split_whitespace().nth(at);
        word.ok_or_else(|| unknown(&format!("a word is missing after {}", self.command)))
    }

    /// All that comes after the first word.
    fn text(&self) -> &'r str {
        self.rest.split_once(' ').map_or("", |(_, text)| text)
    }

    fn number<N: std::str::FromStr>(&self, at: usize) -> Result<N, Failure> {
        let word = self.word(at)?;
        word.parse().map_err(|_| unknown(&format!("no number: {word}")))
    }

    /// The two halves of a word such as `lock:db`.
    fn kind_and_name(&self, at: usize) -> Result<(&'r str, &'r str), Failure> {
        let word = self.word(at)?;
        word.split_once(':').ok_or_else(|| unknown(&format!("no KIND:NAME: {word}")))
    }
}

impl Timeout {
    /// For methods that take an optional duration.
    fn duration(self) -> Option<Duration> {
        match self {
            Timeout::None => None,
            Timeout::Now => Some(Duration::ZERO),
            Timeout::After(time) => Some(time),
        }
    }
}
