//! The serve loop: records in, results out, over any carrier.
//!
//! Results are collected in an outbox and sent when a batch ends or the outbox is full; the tick sends them earlier if the guest
//! takes its time, so that a slow task never holds back finished ones. Of a batch's records, the guest gets many in one call if it
//! can take them so (see `guest::many`); to everybody else that looks like one call for each.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::guest::{Ended, EngineTick, Guest, Start};
use super::outbox::Outbox;
use super::{fault_point, say};
use crate::protocol::connection::{Carrier, Connection, RecvError};
use crate::protocol::frame::{self, Kind, Violation};
use crate::protocol::message::{self, Batch, Entry, Failure, FromWorker, Record, ToWorker};
use crate::spec::Status;
use crate::sys::{self, StatusPage, Ticker};

/// The most records that a guest gets in one call, and the most bytes of them: the call itself is then a small part of what they cost,
/// and what it takes of the guest's memory is small, too.
const MANY_MAX: usize = 256;
const MANY_BYTES_MAX: usize = 32 << 10;

/// Bytes of a profile that go at once.
const PROFILE_PIECE_LEN: usize = 64 << 10;

/// How a worker ends: in good order, or because the coordinator spoke nonsense or is gone.
const EXIT_OK: i32 = 0;

/// What the tick needs, of the one worker that this process is. Worker threads have no part in it.
static ENGINE: OnceLock<EngineTick> = OnceLock::new();
static SOCKET: AtomicI32 = AtomicI32::new(-1);
static OUTBOX: OnceLock<Outbox> = OnceLock::new();
static PAGE: OnceLock<Arc<StatusPage>> = OnceLock::new();

/// Makes the timer whose ticks advance the guest's epoch, show that the process lives, send results that are ready, and end it when the
/// coordinator is gone.
pub(super) fn start_ticker(
    guest: &Guest,
    socket: &OwnedFd,
    page: &Arc<StatusPage>,
    period: Duration,
) -> io::Result<Ticker> {
    ENGINE.get_or_init(|| guest.engine_tick());
    OUTBOX.get_or_init(Outbox::default);
    PAGE.get_or_init(|| page.clone());
    // The socket is never closed while the process lives.
    SOCKET.store(socket.as_raw_fd(), Ordering::Relaxed);
    Ticker::new(period, || {
        if let Some(engine) = ENGINE.get() {
            engine.advance();
        }
        if let Some(page) = PAGE.get() {
            page.beat();
        }
        let socket = SOCKET.load(Ordering::Relaxed);
        if let Some(outbox) = OUTBOX.get() {
            outbox.send_some(|ready| sys::send_some(socket, ready));
        }
        if sys::is_hung_up(socket) {
            sys::exit_now(EXIT_OK);
        }
    })
}

/// What looks after a worker that is busy: every few milliseconds it advances the guest's epoch, sends results that are ready, and
/// notices that the coordinator is gone.
pub(super) trait Ticks {
    /// Ticks from now on.
    fn start(&self);

    /// No more ticks: an idle worker uses no CPU.
    fn stop(&self);

    /// The outbox that they look at.
    fn outbox(&self) -> Outbox;
}

/// A worker process is interrupted by its timer.
impl Ticks for Ticker {
    fn start(&self) {
        Ticker::start(self);
    }

    fn stop(&self) {
        Ticker::stop(self);
    }

    fn outbox(&self) -> Outbox {
        OUTBOX.get_or_init(Outbox::default).clone()
    }
}

/// Where results go: collected, then sent.
struct Results<S> {
    outbox: Outbox,
    sender: S,
    /// Where one result is put together.
    draft: Vec<u8>,
}

impl<S: Carrier> Results<S> {
    fn flush(&mut self) -> io::Result<()> {
        self.outbox.flush(&mut self.sender)
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        match self.outbox.is_full() {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Runs one record by itself.
    fn run(&mut self, guest: &mut Guest, plan: u32, attempt: u32, record: &[u8]) -> Ended {
        let started = guest.is_timed(plan).then(Instant::now);
        fault_point!(MidTask);
        let ended = guest.run(plan, attempt, record, &mut self.draft);
        self.outbox.append(|out| {
            if let Some(started) = started {
                message::write_took(out, started.elapsed());
                if let Some(used) = guest.take_used() {
                    used.write(out);
                }
            }
            out.append(&mut self.draft);
        });
        ended
    }

    /// The outcome of a task that was not run.
    fn unanswered(&self, failure: &Failure) -> Ended {
        self.outbox.append(|out| message::write_failure(out, failure));
        Ended { code: 1 }
    }
}

/// What follows a frame that was in order.
enum Next {
    GoOn,
    /// Told to shut down, or a Process has run its task.
    Over(Ended),
}

/// What ends the loop out of order.
enum Stop {
    /// The coordinator is gone: so are we.
    Gone,
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

/// Initializes the guest and runs batches until told to stop; gives the exit code of the worker.
pub(super) fn serve<C: Carrier, S: Carrier>(
    connection: &mut Connection<C>,
    sender: S,
    guest: &mut Guest,
    ticks: &impl Ticks,
    status: Status,
) -> i32 {
    fault_point!(Handshake);
    ticks.start();
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
    let mut results = Results { outbox: ticks.outbox(), sender, draft: Vec::new() };
    loop {
        match next(connection, &mut results, guest, ticks, &status) {
            Ok(Next::GoOn) => {}
            Ok(Next::Over(ended)) => {
                ticks.start();
                guest.shutdown();
                if let Some(profile) = guest.take_profile() {
                    ticks.stop();
                    hand_over(connection, &profile);
                }
                return ended.code;
            }
            Err(Stop::Gone) => return EXIT_OK,
            Err(Stop::Violation) => return super::EXIT_SOFTWARE,
        }
    }
}

/// A worker's last words. A coordinator that is gone needs none.
fn hand_over(connection: &mut Connection<impl Carrier>, profile: &[u8]) {
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
) -> Result<Next, Stop> {
    let comes = connection.has_frame()? || guest.spins() && crate::spin::is_quiet() && connection.spin();
    if !comes {
        ticks.stop();
    }
    let frame = connection.recv()?;
    match frame.kind {
        Kind::Batch => {
            fault_point!(GotTask);
            ticks.start();
            let ended = run_batch(Batch::parse(frame.payload)?, results, guest)?;
            match guest.runs_once() {
                true => Ok(Next::Over(ended)),
                false => Ok(Next::GoOn),
            }
        }
        Kind::Control => match message::read_control(frame)? {
            ToWorker::Plan { id, call } => {
                guest.add_plan(id, call);
                Ok(Next::GoOn)
            }
            ToWorker::Thaw => {
                guest.thaw();
                say(connection, &FromWorker::Thawed);
                Ok(Next::GoOn)
            }
            ToWorker::Shutdown => Ok(Next::Over(Ended { code: EXIT_OK })),
            ToWorker::Report => {
                say(connection, &FromWorker::Report(status.clone()));
                Ok(Next::GoOn)
            }
            ToWorker::Setup(_) | ToWorker::Fork(_) | ToWorker::Compile { .. } => Err(Stop::Violation),
        },
        _ => Err(Stop::Violation),
    }
}

/// Runs the records of a batch in order; gives how the last one ended.
fn run_batch<S: Carrier>(
    mut batch: Batch<'_>,
    results: &mut Results<S>,
    guest: &mut Guest,
) -> Result<Ended, Stop> {
    let (plan, attempt) = (batch.plan, batch.attempt);
    let started = Instant::now();
    let mut ended = Ended { code: EXIT_OK };
    let mut begun = false;
    let arena = guest.arena();
    let mut many = MANY_MAX;
    // What is to become of the next record, if it has been started already.
    let mut next_start = None;
    loop {
        let records = match next_start.is_none() && guest.takes_many(plan) {
            true => next_records(&batch, many, guest.longest_record()),
            false => Vec::new(),
        };
        if records.len() > 1 {
            let start = guest.start_one();
            if start == Start::Run {
                begun = true;
                let progress = guest.run_many(plan, attempt, &records, &results.outbox);
                many = match progress.answered == records.len() {
                    true => MANY_MAX.min(many * 2),
                    // What the guest was given in vain has cost something.
                    false => progress.answered.max(2),
                };
                batch.by_ref().take(progress.answered).for_each(drop);
                next_start = progress.begun.then_some(start);
                results.flush_if_full()?;
                continue;
            }
            next_start = Some(start);
        }
        let Some(record) = batch.next() else { break };
        let entry = record?;
        let start = next_start.take().unwrap_or_else(|| guest.start_one());
        if start == Start::TakenBack {
            break;
        }
        begun = true;
        let record = match entry {
            Entry::Here(record) => record,
            Entry::Placed { offset, len } => {
                let nowhere = || Violation::Malformed("a record at no place".to_owned());
                Record::Bytes(arena.as_ref().and_then(|arena| arena.record(offset, len)).ok_or_else(nowhere)?)
            }
        };
        ended = match record {
            Record::Bytes(record) if start == Start::Run => results.run(guest, plan, attempt, record),
            Record::Bytes(_) => results.unanswered(&Failure::Cancelled),
            Record::Misfit(reason) => {
                let message = String::from_utf8_lossy(reason).into_owned();
                results.unanswered(&Failure::BadRecord { message })
            }
        };
        results.flush_if_full()?;
    }
    // A batch of which nothing was begun is no batch of this worker's.
    if !begun {
        return Ok(ended);
    }
    results.outbox.append(|out| message::write_batch_done(out, started.elapsed(), guest.take_making()));
    fault_point!(BeforeWrite);
    results.flush()?;
    fault_point!(AfterWrite);
    Ok(ended)
}

/// The next records that are fit for one call: `count` of them at most.
fn next_records<'b>(batch: &Batch<'b>, count: usize, longest: usize) -> Vec<&'b [u8]> {
    let mut room = MANY_BYTES_MAX;
    let fit = |record| match record {
        Ok(Entry::Here(Record::Bytes(record))) if record.len() <= longest => {
            room = room.checked_sub(record.len())?;
            Some(record)
        }
        _ => None,
    };
    batch.clone().take(count).map_while(fit).collect()
}

/// Passes on what a guest writes while it writes it, for a Process.
pub(super) fn send_now(socket: BorrowedFd<'_>, kind: Kind, bytes: &[u8]) {
    let mut out = Vec::with_capacity(bytes.len() + frame::HEADER_LEN);
    frame::write(&mut out, kind, |out| out.extend_from_slice(bytes));
    send_all(socket, &out);
}

/// Sends all of it. A coordinator that is gone needs none.
pub(super) fn send_all(socket: BorrowedFd<'_>, mut rest: &[u8]) {
    while let Ok(sent) =
        rustix::io::retry_on_intr(|| rustix::net::send(socket, rest, rustix::net::SendFlags::NOSIGNAL))
    {
        rest = &rest[sent..];
        if rest.is_empty() {
            break;
        }
    }
}

#[cfg(test)]
mod tests;
