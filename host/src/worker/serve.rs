//! The serve loop: records in, results out, over any carrier.
//!
//! Results are collected in an outbox and sent when a batch ends or the outbox is full; the tick sends them earlier if the guest
//! takes its time, so that a slow task never holds back finished ones.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use super::guest::{Ended, EngineTick, Guest, Start};
use super::{fault_point, say};
use crate::protocol::connection::{Carrier, Connection, RecvError};
use crate::protocol::frame::{self, Kind, Violation};
use crate::protocol::message::{self, Batch, Failure, FromWorker, Record, ToWorker};
use crate::sandbox::Status;
use crate::sys::{self, Ticker};

/// Results are sent once this many bytes of them have come together.
const OUTBOX_LEN: usize = 64 << 10;

/// How a worker ends: in good order, or because the coordinator spoke nonsense or is gone.
const EXIT_OK: i32 = 0;

/// What the tick needs, of the one worker that this process is. Worker threads have no part in it.
static ENGINE: OnceLock<EngineTick> = OnceLock::new();
static SOCKET: AtomicI32 = AtomicI32::new(-1);

/// Makes the timer whose ticks advance the guest's epoch, send pending results, and end the process when the coordinator is gone.
pub(super) fn start_ticker(guest: &Guest, socket: &OwnedFd, period: Duration) -> io::Result<Ticker> {
    ENGINE.get_or_init(|| guest.engine_tick());
    // The socket is never closed while the process lives.
    SOCKET.store(socket.as_raw_fd(), Ordering::Relaxed);
    Ticker::new(period, || {
        if let Some(engine) = ENGINE.get() {
            engine.advance();
        }
        let socket = SOCKET.load(Ordering::Relaxed);
        sys::send_pending(socket);
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

    /// Calls `run`; while it runs, ticks may send some of what is ready.
    fn while_pending<R>(&self, ready: &mut Ready, run: impl FnOnce() -> R) -> R;
}

/// A worker process is interrupted by its timer.
impl Ticks for Ticker {
    fn start(&self) {
        Ticker::start(self);
    }

    fn stop(&self) {
        Ticker::stop(self);
    }

    fn while_pending<R>(&self, ready: &mut Ready, run: impl FnOnce() -> R) -> R {
        let (result, sent) = sys::while_pending(&ready.bytes, ready.sent, run);
        ready.sent = sent;
        result
    }
}

/// Results that can be sent.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) bytes: Vec<u8>,
    /// How many of them a tick has sent already.
    pub(super) sent: usize,
}

/// The results on their way to the coordinator.
struct Outbox<S> {
    sender: S,
    ready: Ready,
}

impl<S: Carrier> Outbox<S> {
    fn flush(&mut self) -> io::Result<()> {
        #[cfg(feature = "fault-points")]
        if super::fault::is_armed(message::FaultPhase::MidWrite) {
            // The head of the first result and one byte of it.
            let cut = self.ready.bytes.len().min(self.ready.sent + frame::HEADER_LEN + 1);
            self.sender.send(&self.ready.bytes[self.ready.sent..cut])?;
            super::fault::hit(message::FaultPhase::MidWrite);
        }
        let sent = self.sender.send(&self.ready.bytes[self.ready.sent..]);
        self.ready.bytes.clear();
        self.ready.sent = 0;
        sent
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
    mut guest: Guest,
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
    let mut outbox = Outbox { sender, ready: Ready::default() };
    loop {
        match next(connection, &mut outbox, &mut guest, ticks, &status) {
            Ok(Next::GoOn) => {}
            Ok(Next::Over(ended)) => {
                ticks.start();
                guest.shutdown();
                return ended.code;
            }
            Err(Stop::Gone) => return EXIT_OK,
            Err(Stop::Violation) => return super::EXIT_SOFTWARE,
        }
    }
}

/// Handles one frame.
fn next<C: Carrier, S: Carrier>(
    connection: &mut Connection<C>,
    outbox: &mut Outbox<S>,
    guest: &mut Guest,
    ticks: &impl Ticks,
    status: &Status,
) -> Result<Next, Stop> {
    let comes = connection.has_frame()? || guest.spins() && connection.spin();
    if !comes {
        ticks.stop();
    }
    let frame = connection.recv()?;
    match frame.kind {
        Kind::Batch => {
            fault_point!(GotTask);
            ticks.start();
            let ended = run_batch(Batch::parse(frame.payload)?, outbox, guest, ticks)?;
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
    batch: Batch<'_>,
    outbox: &mut Outbox<S>,
    guest: &mut Guest,
    ticks: &impl Ticks,
) -> Result<Ended, Stop> {
    let (plan, attempt) = (batch.plan, batch.attempt);
    let timed = guest.is_timed(plan);
    let started = Instant::now();
    let mut result = Vec::new();
    let mut ended = Ended { code: EXIT_OK };
    let mut begun = false;
    for record in batch {
        let record = record?;
        let start = guest.start_one();
        if start == Start::TakenBack {
            break;
        }
        begun = true;
        let record = match record {
            Record::Bytes(record) => record,
            Record::Misfit(reason) => {
                let message = String::from_utf8_lossy(reason).into_owned();
                message::write_failure(&mut outbox.ready.bytes, &Failure::BadRecord { message });
                ended = Ended { code: 1 };
                continue;
            }
        };
        let task_started = timed.then(Instant::now);
        if start == Start::Unwanted {
            message::write_failure(&mut outbox.ready.bytes, &Failure::Cancelled);
            ended = Ended { code: 1 };
            continue;
        }
        fault_point!(MidTask);
        let mut run = || guest.run(plan, attempt, record, &mut result);
        ended = match outbox.ready.bytes.is_empty() {
            true => run(),
            false => ticks.while_pending(&mut outbox.ready, run),
        };
        if let Some(task_started) = task_started {
            let micros = u64::try_from(task_started.elapsed().as_micros()).unwrap_or(u64::MAX);
            frame::write(&mut outbox.ready.bytes, Kind::Took, |out| out.extend_from_slice(&micros.to_le_bytes()));
            if let Some(used) = guest.take_used() {
                used.write(&mut outbox.ready.bytes);
            }
        }
        outbox.ready.bytes.append(&mut result);
        if outbox.ready.bytes.len() >= OUTBOX_LEN {
            outbox.flush()?;
        }
    }
    // A batch of which nothing was begun is no batch of this worker's.
    if !begun {
        return Ok(ended);
    }
    let busy = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    frame::write(&mut outbox.ready.bytes, Kind::BatchDone, |out| out.extend_from_slice(&busy.to_le_bytes()));
    fault_point!(BeforeWrite);
    outbox.flush()?;
    fault_point!(AfterWrite);
    Ok(ended)
}

/// Passes on what a guest writes while it writes it, for a Process.
pub(super) fn send_now(socket: BorrowedFd<'_>, kind: Kind, bytes: &[u8]) {
    let mut out = Vec::with_capacity(bytes.len() + frame::HEADER_LEN);
    frame::write(&mut out, kind, |out| out.extend_from_slice(bytes));
    let mut rest = &out[..];
    while let Ok(sent) = rustix::io::retry_on_intr(|| rustix::net::send(socket, rest, rustix::net::SendFlags::NOSIGNAL))
    {
        rest = &rest[sent..];
        if rest.is_empty() {
            break;
        }
    }
}

#[cfg(test)]
mod tests;
