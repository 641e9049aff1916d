//! The pool's events: counted, kept as profiles, and passed on to a thread that reports them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::threads::or_broken;
use crate::cli::exit::CliError;
use crate::cli::labels::{Labels, SHORT};
use crate::cli::profile::Profiles;
use crate::cli::report::Report;
use crate::cli::settings::MapSettings;
use crate::cli::tally::{self, LINES_MAX, Notice, Tally};
use crate::escape::shortened;
use crate::pool::events::PoolEvent;

pub(super) struct Events {
    pub(super) tally: Arc<Tally>,
    pub(super) labels: Arc<Labels>,
    profiles: Profiles,
    to_tell: SyncSender<Notice>,
    notices: Receiver<Notice>,
}

impl Events {
    pub(super) fn new(settings: &MapSettings) -> Result<Events, CliError> {
        let (to_tell, notices) = sync_channel(LINES_MAX);
        Ok(Events {
            tally: Arc::new(Tally::new(settings.halts_now())),
            labels: Arc::new(Labels::new(if settings.tag { usize::MAX } else { SHORT })),
            profiles: Profiles::open(settings.profile.as_ref().filter(|_| !settings.dry_run))?,
            to_tell,
            notices,
        })
    }

    /// The pool calls this on its own thread, which must not wait.
    pub(super) fn listener(&self, is_verbose: bool) -> impl Fn(&PoolEvent) + Send + Sync + use<> {
        let (tally, labels) = (self.tally.clone(), self.labels.clone());
        let (to_tell, add_profile) = (self.to_tell.clone(), self.profiles.listener());
        move |event: &PoolEvent| {
            add_profile(event);
            let is_warning = matches!(event, PoolEvent::WorkerSilent { .. });
            if tally.count(event) && (is_verbose || is_warning) {
                let line = shortened(&tally::line(event, |task| labels.number(task)));
                // A full channel means a slow terminal: the line is dropped.
                let _told_or_dropped = to_tell.try_send(Notice { is_warning, line });
            }
        }
    }

    /// Starts the thread that reports. It ends when the pool has dropped its listener.
    pub(super) fn tell(self, report: &Report) -> Result<(JoinHandle<()>, Profiles), CliError> {
        let Events { profiles, notices, to_tell, .. } = self;
        // The pool's listener has the only other sender.
        drop(to_tell);
        Ok((or_broken(tally::tell(notices, report.clone()))?, profiles))
    }
}
