//! The serve loop: records in, results out, over any carrier.
//!
//! Results are collected in an outbox, and sent when a batch ends or the outbox is full. During a long call
//! the tick sends them, so that a slow task never holds back finished ones. A guest that can take many
//! records in one call gets them so (see `guest::many`). The outcomes are the same as those of one call for
//! each record.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::fault::fault_point;
use super::guest::{EngineTick, Guest, TaskExit, TaskStart};
use super::outbox::Outbox;
use super::send::{EXIT_SOFTWARE, say};
use crate::protocol::batch::{Batch, BatchEntry, Record};
use crate::protocol::connection::{Carrier, Connection, RecvError};
use crate::protocol::frame::{self, Kind, Violation};
use crate::protocol::message::{self, Failure, FromWorker, ToWorker};
use crate::spec::Status;
use crate::sys::{self, AfterTick, TickPeriods, Ticker, WorkerPage};

/// The most records that a guest gets in one call. The cost of the call itself is then small beside that of
/// the records.
const MANY_MAX: usize = 256;
/// The most bytes of records in one call: a small part of the guest's memory.
const MANY_BYTES_MAX: usize = 32 << 10;

/// Bytes of a profile in one frame.
const PROFILE_PIECE_LEN: usize = 64 << 10;

/// The exit code of a worker that was told to end, or whose coordinator is gone.
const EXIT_OK: i32 = 0;

/// What a tick needs. A signal handler gets no arguments, so that this is static: a worker process is one
/// worker. A worker in a thread has a struct of its own (see `worker::thread`).
static TICKED: OnceLock<Ticked> = OnceLock::new();

struct Ticked {
    engine: EngineTick,
    /// The socket's number. The socket is never closed while the process lives.
    socket: RawFd,
    outbox: Outbox,
    page: Arc<WorkerPage>,
}

impl Ticked {
    /// One tick, in the signal handler.
    fn tick(&self) -> AfterTick {
        // First: nothing below may keep a guest from its time limit.
        self.engine.advance();
        self.page.beat();
        let is_all_sent = self.outbox.send_some(|ready| sys::send_some(self.socket, ready));
        // A guest in an endless loop never comes to the next receive, which would find the closed socket.
        if sys::is_hung_up(self.socket) {
            sys::exit_now(EXIT_OK);
        }
        if is_all_sent { AfterTick::Nothing } else { AfterTick::Work }
    }
}

/// Makes the timer of a worker process. Its ticks advance the guest's epoch, show that the process lives,
/// send results that are ready, and end the process when the coordinator is gone.
pub(super) fn make_ticker(
    guest: &Guest,
    socket: &OwnedFd,
    page: &Arc<WorkerPage>,
    periods: TickPeriods,
) -> io::Result<&'static Ticker> {
    TICKED.get_or_init(|| Ticked {
        engine: guest.engine_tick(),
        socket: socket.as_raw_fd(),
        outbox: Outbox::default(),
        page: page.clone(),
    });
    Ticker::new(periods, || TICKED.get().map_or(AfterTick::Nothing, Ticked::tick))
}

/// Looks after a busy worker: every few milliseconds a tick advances the guest's epoch, sends results that
/// are ready, and notices that the coordinator is gone. While the guest waits in a call to the host, ticks
/// are rare: `CurrentProcess::runs` makes them frequent again.
pub(super) trait Ticks {
    /// Begins to tick.
    fn start(&self);

    /// Ends the ticks: an idle worker uses no CPU.
    fn stop(&self);

    /// The outbox that the ticks send from.
    fn outbox(&self) -> Outbox;
}

/// A worker process is interrupted by its timer.
impl Ticks for &'static Ticker {
    fn start(&self) {
        Ticker::start(self);
    }

    fn stop(&self) {
        Ticker::stop(self);
    }

    fn outbox(&self) -> Outbox {
        TICKED.get().expect("`make_ticker` has set it before it made this timer").outbox.clone()
    }
}

/// The results of a worker: collected in the outbox, then sent.
struct Results<S> {
    outbox: Outbox,
    sender: S,
    /// The buffer in which one result is put together.
    draft: Vec<u8>,
    /// The end of the last timed task, if the next begins at once.
    ended: Option<Instant>,
}

impl<S: Carrier> Results<S> {
    fn flush(&mut self) -> io::Result<()> {
        // It may wait, which is no part of the next task.
        self.ended = None;
        self.outbox.flush(&mut self.sender)
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.outbox.is_full() { self.flush() } else { Ok(()) }
    }

    /// Runs one record in a call of its own.
    fn run(&mut self, guest: &mut Guest, plan: u32, attempt: u32, record: &[u8]) -> TaskExit {
        // Only if asked for, and once for each task of a batch: a reading of the clock is not free beside the
        // shortest tasks.
        let started = guest.is_timed(plan).then(|| self.ended.take().unwrap_or_else(Instant::now));
        fault_point!(MidTask);
        let exit = guest.run(plan, attempt, record, &mut self.draft);
        self.ended = started.map(|_| Instant::now());
        let took = self.ended.zip(started).map(|(ended, started)| ended - started);
        // One append for all parts of an answer: a tick in between would send the figures without their
        // result.
        self.outbox.append(|out| {
            if let Some(took) = took {
                message::write_took(out, took);
                if let Some(used) = guest.take_used() {
                    used.write(out);
                }
            }
            out.append(&mut self.draft);
        });
        exit
    }

    /// Appends the outcome of a task that is not run.
    fn unanswered(&self, failure: &Failure) -> TaskExit {
        self.outbox.append(|out| message::write_failure(out, failure));
        TaskExit { code: 1 }
    }
}

/// What follows a valid frame.
enum ServeStep {
    GoOn,
    /// The worker ends: it was told to shut down, or it is a Process that has run its task.
    Over(TaskExit),
}

/// What ends the loop from outside.
enum Stop {
    /// The coordinator is gone.
    Gone,
    /// The coordinator broke the protocol.
    Violation,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Stop::Gone
    }
}

impl From<Violation> for Stop {
    fn from(_: Violation) -> Self {
        Stop::Violation
    }
}

impl From<RecvError> for Stop {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Closed | RecvError::Io(_) => Stop::Gone,
            RecvError::Violation(_) => Stop::Violation,
        }
    }
}

/// Initializes the guest, and runs batches until the worker is told to stop. Gives the worker's exit code.
pub(super) fn serve<C: Carrier, S: Carrier>(
    connection: &mut Connection<C>,
    sender: S,
    guest: &mut Guest,
    ticks: &impl Ticks,
    status: Status,
) -> i32 {
    fault_point!(Handshake);
    ticks.start();
    // Under the ticks, since an initializer has the time limit of a task.
    let initialized = guest.initialize();
    ticks.stop();
    match initialized {
        Ok(()) => say(connection, &FromWorker::Ready),
        Err(failure) => {
            say(connection, &FromWorker::InitFailed { failure });
            return 1;
        }
    }
    fault_point!(Idle);
    let mut results = Results { outbox: ticks.outbox(), sender, draft: Vec::new(), ended: None };
    loop {
        match next(connection, &mut results, guest, ticks, &status) {
            Ok(ServeStep::GoOn) => {}
            Ok(ServeStep::Over(ended)) => {
                ticks.start();
                guest.shutdown();
                if let Some(profile) = guest.take_profile() {
                    ticks.stop();
                    send_profile(connection, &profile);
                }
                return ended.code;
            }
            Err(Stop::Gone) => return EXIT_OK,
            Err(Stop::Violation) => return EXIT_SOFTWARE,
        }
    }
}

/// Sends the worker's profile, its last message. A coordinator that is gone needs none.
fn send_profile(connection: &mut Connection<impl Carrier>, profile: &[u8]) {
    for piece in profile.chunks(PROFILE_PIECE_LEN) {
        let mut out = Vec::with_capacity(piece.len() + frame::HEADER_LEN);
        frame::write(&mut out, Kind::Profile, |out| out.extend_from_slice(piece));
        if connection.send(&out).is_err() {
            return;
        }
    }
}

/// Handles one frame.
fn next<C: Carrier, S: Carrier>(
    connection: &mut Connection<C>,
    results: &mut Results<S>,
    guest: &mut Guest,
    ticks: &impl Ticks,
    status: &Status,
) -> Result<ServeStep, Stop> {
    let comes = connection.has_frame()? || guest.spins() && crate::spin::is_quiet() && connection.spin();
    // Only before a sleep: stopping and starting the timer are two system calls, and a busy worker has the
    // next batch already.
    if !comes {
        ticks.stop();
    }
    let frame = connection.recv()?;
    match frame.kind {
        Kind::Batch => {
            fault_point!(GotTask);
            ticks.start();
            let ended = run_batch(Batch::parse(frame.payload)?, results, guest)?;
            Ok(if guest.runs_once() { ServeStep::Over(ended) } else { ServeStep::GoOn })
        }
        Kind::Fixed => {
            if !guest.add_fixed(frame.payload) {
                return Err(Stop::Violation);
            }
            Ok(ServeStep::GoOn)
        }
        Kind::Control => match message::read_control(frame)? {
            ToWorker::Plan { id, call } => {
                if !guest.add_plan(id, call) {
                    return Err(Stop::Violation);
                }
                Ok(ServeStep::GoOn)
            }
            ToWorker::Forget { id } => {
                guest.forget_plan(id);
                Ok(ServeStep::GoOn)
            }
            ToWorker::Thaw => {
                guest.thaw();
                say(connection, &FromWorker::Thawed);
                Ok(ServeStep::GoOn)
            }
            ToWorker::Shutdown => Ok(ServeStep::Over(TaskExit { code: EXIT_OK })),
            ToWorker::Report => {
                say(connection, &FromWorker::Report(status.clone()));
                Ok(ServeStep::GoOn)
            }
            ToWorker::Setup(_) | ToWorker::Fork(_) | ToWorker::Compile { .. } => Err(Stop::Violation),
        },
        _ => Err(Stop::Violation),
    }
}

/// Runs the records of a batch in order. Gives how the last one ended.
fn run_batch<S: Carrier>(
    mut batch: Batch<'_>,
    results: &mut Results<S>,
    guest: &mut Guest,
) -> Result<TaskExit, Stop> {
    let started = Instant::now();
    let mut ended = TaskExit { code: EXIT_OK };
    let mut has_begun = false;
    let arena = guest.arena();
    // Adapted within a batch only: another batch may be of another plan.
    let mut many = MANY_MAX;
    // How the next record starts, if `start_one` has counted it already.
    let mut next_start = None;
    loop {
        if next_start.is_none() && guest.takes_many(batch.plan) {
            match run_many(&mut batch, &mut many, results, guest)? {
                Many::NotTried => {}
                Many::NotRun(start) => next_start = Some(start),
                Many::Run(start) => {
                    has_begun = true;
                    next_start = start;
                    continue;
                }
            }
        }
        let Some(record) = batch.next() else { break };
        // Judged before it is counted: a batch that is not well formed must not charge a task.
        let entry = record?;
        let start = next_start.take().unwrap_or_else(|| guest.start_one());
        // The records behind it were taken back with it.
        if start == TaskStart::TakenBack {
            break;
        }
        has_begun = true;
        let record = match entry {
            BatchEntry::Here(record) => record,
            BatchEntry::Placed { offset, len } => {
                let nowhere = || Violation::Malformed("a record at no place".to_owned());
                Record::Bytes(arena.as_ref().and_then(|arena| arena.record(offset, len)).ok_or_else(nowhere)?)
            }
        };
        ended = match record {
            Record::Bytes(record) if start == TaskStart::Run => {
                results.run(guest, batch.plan, batch.attempt, record)
            }
            Record::Bytes(_) => results.unanswered(&Failure::Cancelled),
            Record::Misfit(reason) => {
                let message = String::from_utf8_lossy(reason).into_owned();
                results.unanswered(&Failure::BadRecord { message })
            }
        };
        results.flush_if_full()?;
    }
    // The coordinator forgets a batch of which it took back every record: it expects no end of it.
    if !has_begun {
        return Ok(ended);
    }
    results.outbox.append(|out| message::write_batch_done(out, started.elapsed(), guest.take_making()));
    fault_point!(BeforeWrite);
    results.flush()?;
    fault_point!(AfterWrite);
    Ok(ended)
}

/// What became of the next records in one call.
enum Many {
    /// Fewer than two of them fit into one call. None was started.
    NotTried,
    /// The first of them is counted as started, with this result, and is not to be run with others.
    NotRun(TaskStart),
    /// Some of them were run. `Some`: the next record is counted as started, and is to be run alone.
    Run(Option<TaskStart>),
}

/// Runs the next records of the batch in one call, `many` of them at most, and adapts `many`.
fn run_many<S: Carrier>(
    batch: &mut Batch<'_>,
    many: &mut usize,
    results: &mut Results<S>,
    guest: &mut Guest,
) -> Result<Many, Stop> {
    let records = next_records(batch, *many, guest.longest_record(), guest.takes_string(batch.plan));
    if records.len() < 2 {
        return Ok(Many::NotTried);
    }
    // Only the first record is counted here. The guest's reports count the others, so that a death is charged
    // to the one that ran.
    let start = guest.start_one();
    if start != TaskStart::Run {
        return Ok(Many::NotRun(start));
    }
    let progress = guest.run_many(batch.plan, batch.attempt, &records, &results.outbox);
    // The guest got records in vain if it has not answered all, and that has a cost.
    *many =
        if progress.answered == records.len() { MANY_MAX.min(*many * 2) } else { progress.answered.max(2) };
    batch.take(progress.answered).for_each(drop);
    results.flush_if_full()?;
    Ok(Many::Run(progress.begun.then_some(start)))
}

/// The next records that fit into one call, `count` of them at most. A record that is not UTF-8 does not fit a
/// function of a string: alone, it gets the message for that.
fn next_records<'b>(batch: &Batch<'b>, count: usize, longest: usize, is_text: bool) -> Vec<&'b [u8]> {
    let mut room = MANY_BYTES_MAX;
    let fits = |record: &[u8]| record.len() <= longest && (!is_text || std::str::from_utf8(record).is_ok());
    let fit = |record| match record {
        Ok(BatchEntry::Here(Record::Bytes(record))) if fits(record) => {
            room = room.checked_sub(record.len())?;
            Some(record)
        }
        _ => None,
    };
    batch.clone().take(count).map_while(fit).collect()
}

#[cfg(test)]
mod tests;
