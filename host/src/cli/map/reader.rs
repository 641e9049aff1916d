//! The reader thread: it reads the inputs, and gives their records to the pool.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::state::{InputState, RunState};
use super::threads::start_detached;
use crate::cli::exit::CliError;
use crate::cli::input::{InputSource, RecordSink, Splitter, StoppedReading};
use crate::cli::joblog::{Chosen, RecordFilter};
use crate::cli::record::RecordFact;
use crate::cli::stdio;
use crate::error::Closed;
use crate::exchange::ipc::{IpcError, Queue};
use crate::pool::{Fed, Inputs};

/// Starts the reader. It is detached: the end of the run does not wait for a read that hangs.
pub(super) fn start(source: InputSource, splitter: Splitter, mut feed: Feed) -> Result<(), CliError> {
    start_detached("wpool-reader", move || {
        let read = read_all(source, splitter, &mut feed);
        // An error says that the pool takes no more records.
        let _over = read.is_ok().then(|| feed.take_all_fed());
        // The main thread reads this state as soon as the pool has no more outcomes.
        feed.state.set_input(feed.end(read));
        // Dropping `inputs` announces the end to the pool, after the state is set.
        drop(feed);
    })
}

/// Takes records from the splitter, and gives the ones that are to be run to the pool.
pub(super) struct Feed {
    inputs: Inputs,
    state: Arc<RunState>,
    /// The number of the next task.
    next: u64,
    /// With a job log: decides which records are run.
    ledger: Option<RecordFilter>,
    /// What tasks have put into the queue of `--feed`.
    fed: Option<Fed<Vec<u8>>>,
    /// Why the job log does not belong to this input, if it does not.
    refused: Option<String>,
}

impl RecordSink for Feed {
    fn records(&mut self, bytes: &[u8], bounds: &[Range<usize>]) -> Result<(), Closed> {
        if self.fed.is_none() {
            return self.take(bytes, bounds);
        }
        for bound in bounds {
            // The queue first: tasks may wait for room in it.
            while let Some(item) = self.fed.as_mut().and_then(Fed::try_next) {
                self.take_fed(item)?;
            }
            self.take(bytes, std::slice::from_ref(bound))?;
        }
        Ok(())
    }
}

impl Feed {
    /// `feed`: the queue of `--feed`.
    pub(super) fn new(
        inputs: Inputs,
        ledger: Option<RecordFilter>,
        state: Arc<RunState>,
        feed: Option<&Queue<Vec<u8>>>,
    ) -> Feed {
        let fed = feed.map(|queue| inputs.fed(queue));
        Feed { inputs, state, next: 0, ledger, fed, refused: None }
    }

    /// Takes what tasks put into the queue, until all is done.
    fn take_all_fed(&mut self) -> Result<(), Closed> {
        while let Some(item) = self.fed.as_mut().and_then(Iterator::next) {
            self.take_fed(item)?;
        }
        Ok(())
    }

    fn take_fed(&mut self, item: Result<Vec<u8>, IpcError>) -> Result<(), Closed> {
        let item = item.expect("bytes are never refused as items");
        self.take(&item, std::slice::from_ref(&(0..item.len())))
    }

    fn take(&mut self, bytes: &[u8], bounds: &[Range<usize>]) -> Result<(), Closed> {
        // Taken out while it calls back into `self`.
        let Some(mut ledger) = self.ledger.take() else { return self.push(bytes, bounds, Vec::new()) };
        let mut run = |bytes: &[u8], chosen: &Chosen| self.push(bytes, &chosen.bounds, chosen.logged.clone());
        let taken = ledger.take(bytes, bounds, &mut run);
        self.state.set_skipped(ledger.skipped, ledger.skipped_failed);
        self.ledger = Some(ledger);
        taken?.map_err(|other| {
            self.refused = Some(other.to_string());
            Closed
        })
    }

    fn push(
        &mut self,
        bytes: &[u8],
        bounds: &[Range<usize>],
        logged: Vec<(u64, RecordFact)>,
    ) -> Result<(), Closed> {
        // Before the records are pushed: an outcome may ask for its label at once.
        self.state.labels.note(self.next, bytes, bounds, logged);
        self.next += bounds.len() as u64;
        // Set before any outcome of these records can arrive, so that the number of tasks under way is never
        // negative.
        self.state.set_pushed(self.next);
        self.inputs.push_all(bounds.iter().map(|bound| &bytes[bound.clone()]))
    }

    /// How the input has ended.
    fn end(&self, read: Result<(), String>) -> InputState {
        let proven = self.ledger.as_ref().map_or(Ok(()), RecordFilter::proven);
        match (&self.refused, proven, read) {
            (Some(why), ..) => InputState::Refused(why.clone()),
            (None, _, Err(why)) => InputState::Failed(why),
            (None, Err(other), Ok(())) => InputState::Refused(other.to_string()),
            (None, Ok(()), Ok(())) => {
                InputState::Read { left: self.ledger.as_ref().map_or(0, RecordFilter::left) }
            }
        }
    }
}

/// Reads everything, or until the pool takes no more records.
fn read_all(source: InputSource, mut splitter: Splitter, feed: &mut Feed) -> Result<(), String> {
    match source {
        InputSource::Items(items) => {
            for item in items {
                if feed.records(&item, std::slice::from_ref(&(0..item.len()))).is_err() {
                    break;
                }
            }
        }
        InputSource::Streams(streams) => {
            for stream in streams {
                let name = stream.name();
                let cannot = |e: io::Error| format!("cannot read {name}: {}", stdio::words(&e));
                match splitter.split(stream.reader().map_err(&cannot)?, feed) {
                    Ok(()) => {}
                    Err(StoppedReading::Closed) => break,
                    Err(StoppedReading::Read(e)) => return Err(cannot(e)),
                }
            }
        }
    }
    Ok(())
}
