//! `wpool call`: one task, in a pool of one worker.

use super::args::CallArgs;
use super::choices::ProfileArg;
use super::exit::{CliError, OrExit, WpoolExit};
use super::failures::{all_lines, say};
use super::output::{print, without_line_end};
use super::profile::Profiles;
use super::report::Report;
use super::shares::{RecordForm, SharedObjects, StreamUse};
use super::{settings, signals};
use crate::context::{Early, StartMethod};
use crate::error::TaskError;
use crate::module::Module;
use crate::pool::{Outcome, Pool, PoolBuilder};
use crate::target::{Target, resolve};

pub(super) fn run(args: &CallArgs, early: Option<Early>, report: &Report) -> Result<WpoolExit, CliError> {
    let forks = !args.worker.threads && args.profile.how.is_none();
    let shared = SharedObjects::new(&args.shared, settings::policy(&args.grants))?;
    let policy = shared.policy();
    let loader = settings::loader(&args.module.load).policy(policy.clone());
    let loader = if forks { loader.start_early(early) } else { loader };
    let module = settings::load(&args.module.module, &loader, report)?;
    let target = target(args, &module)?;
    // No record fills a parameter here, so the arguments must be complete.
    let resolved = resolve(&target, module.info())?.complete()?;
    settings::warn_of_grants(&policy, &module, report);
    let mut builder =
        Pool::builder(&module).processes(1).limits(settings::limits(&args.limits)).policy(policy);
    if args.worker.threads {
        builder = builder.start_method(StartMethod::Thread);
    }
    let profiles = Profiles::open(args.profile.how.as_ref())?;
    let strategy = args.profile.how.as_ref().map(ProfileArg::strategy);
    let builder = settings::given(builder, strategy, PoolBuilder::profile);
    let pool = builder.on_event(profiles.listener()).build()?;
    let (mut inputs, mut outcomes) = pool.stream(&target, true)?;
    let received = watch(pool)?;
    let shares = shared.open(std::iter::empty(), StreamUse::ALL_FREE, RecordForm::LINES)?;
    let weak = std::sync::Arc::downgrade(&received.pool);
    let shares = shares.start(move || drop(weak.upgrade().map(|pool| pool.terminate())))?;
    let _over = inputs.push(b"");
    drop(inputs);

    let done = outcomes.take_one(None, |outcome| tell(&outcome, resolved.gives_printed(), report));
    if args.profile.how.is_some() || !args.shared.shares.is_empty() {
        // A worker sends its profile when it ends in good order, and its guest's `shutdown` may put items.
        // Otherwise, dropping the pool is enough.
        received.pool.close();
        let _closed_above = received.pool.join();
    }
    let shared = shares.finish(report);
    if let Some(signal) = received.received.get() {
        return Ok(WpoolExit::Signal(signal));
    }
    shared?;
    let Ok(Some(done)) = done else {
        // The pool had ended before it took the record.
        let why = outcomes.cut_short().unwrap_or(TaskError::Closed);
        return tell_failure(&why, report);
    };
    if args.profile.how.is_some() {
        profiles.finish(report)?;
    }
    done
}

/// The call as it is given, or the function and the arguments of the flags.
fn target(args: &CallArgs, module: &Module) -> Result<Target, CliError> {
    match &args.call {
        Some(call) if args.target.args.is_empty() => {
            let target = Target::call(call)?.output(settings::format(args.target.output_format));
            let kwargs = args.target.kwargs.iter();
            Ok(kwargs.fold(target, |target, (name, value)| target.kwarg_wave(name, value)))
        }
        Some(_) => Err(CliError::usage("the call has its arguments in it: --arg goes with --func")),
        None => {
            let func = args.target.func.as_deref();
            Ok(settings::target(func, &args.target, module, &args.module.module, &[]))
        }
    }
}

/// The pool, which the first signal terminates.
struct Watched {
    received: signals::ReceivedSignal,
    pool: std::sync::Arc<Pool>,
}

fn watch(pool: Pool) -> Result<Watched, CliError> {
    let pool = std::sync::Arc::new(pool);
    let weak = std::sync::Arc::downgrade(&pool);
    let end = move |_| {
        if let Some(pool) = weak.upgrade() {
            pool.terminate();
        }
        signals::Ending::Now
    };
    let received = signals::watch(end, || (), || ());
    let received = received.or_exit(WpoolExit::Broken, || "cannot watch for signals".to_owned())?;
    Ok(Watched { received, pool })
}

fn tell(outcome: &Outcome<'_>, is_printed: bool, report: &Report) -> Result<WpoolExit, CliError> {
    for (stream, bytes) in [("stdout", outcome.stdout()), ("stderr", outcome.stderr())] {
        if !bytes.is_empty() {
            report.lines(&all_lines(&format!("[{stream}]"), bytes));
        }
    }
    match outcome.result() {
        Ok(bytes) if is_printed => print(&[without_line_end(bytes), b"\n"].concat()),
        Ok(bytes) => print(&[bytes, b"\n"].concat()),
        Err(error) => tell_failure(&error, report),
    }
}

fn tell_failure(error: &TaskError, report: &Report) -> Result<WpoolExit, CliError> {
    match error {
        TaskError::Cancelled => Ok(WpoolExit::TasksFailed),
        error => {
            say(error, report);
            Ok(match error {
                TaskError::Broken { .. } | TaskError::Closed => WpoolExit::Broken,
                _ => WpoolExit::TasksFailed,
            })
        }
    }
}
