//! `wpool call`: one task, in a pool of one worker.

use super::args::CallArgs;
use super::exit::{Exit, Failure};
use super::failures::all_lines;
use super::output::{print, trace, without_line_end};
use super::profile::Profiles;
use super::report::Report;
use super::{settings, signals};
use crate::context::StartMethod;
use crate::error::TaskError;
use crate::escape::{OneLine, lines};
use crate::pool::{Outcome, Pool};
use crate::target::{Target, resolve};

pub(super) fn run(args: &CallArgs, report: &Report) -> Result<Exit, Failure> {
    let forks = !args.worker.threads && args.profile.how.is_none();
    let module = settings::load(&args.module.module, &args.module.load, &args.grants, report, forks)?;
    let target = match &args.call {
        Some(call) if args.target.args.is_empty() => {
            let target = Target::call(call)?.output(settings::format(args.target.output_format));
            args.target.kwargs.iter().fold(target, |target, (name, value)| target.kwarg_wave(name, value))
        }
        Some(_) => return Err(Failure::usage("the call has its arguments in it: --arg goes with --func")),
        None => {
            settings::target(args.target.func.as_deref(), &args.target, &module, &args.module.module, &[])
        }
    };
    // A task's record would fill what is not given; here there is none.
    let resolved = resolve(&target, module.info())?.complete()?;
    let (limits, policy) = (settings::limits(&args.limits), settings::granted(&args.grants, &module, report));
    let mut builder = Pool::builder(&module).processes(1).limits(limits).policy(policy);
    if args.worker.threads {
        builder = builder.start_method(StartMethod::Thread);
    }
    let profiles = Profiles::open(args.profile.how.as_ref())?;
    builder = args.profile.how.iter().fold(builder, |builder, how| builder.profile(how.strategy()));
    let pool = builder.on_event(profiles.listener()).build()?;
    let (mut inputs, mut outcomes) = pool.stream(&target, true)?;
    let received = watch(pool)?;
    let _over = inputs.push(b"");
    drop(inputs);

    let done = outcomes.take_one(None, |outcome| tell(&outcome, resolved.gives_printed(), report));
    if let Some(signal) = received.received.get() {
        return Ok(Exit::Signal(signal));
    }
    let Ok(Some(done)) = done else {
        return Err(Failure::new(Exit::Broken, "the pool ended without an outcome"));
    };
    if args.profile.how.is_some() {
        // A worker gives its profile at its end, if that is a good one. Without, dropping the pool ends it.
        received.pool.close();
        let _closed_above = received.pool.join();
        profiles.finish(report)?;
    }
    done
}

/// The pool, and what a signal does to it.
struct Watched {
    received: signals::Received,
    pool: std::sync::Arc<Pool>,
}

fn watch(pool: Pool) -> Result<Watched, Failure> {
    let pool = std::sync::Arc::new(pool);
    let weak = std::sync::Arc::downgrade(&pool);
    let end = move |_| {
        if let Some(pool) = weak.upgrade() {
            pool.terminate();
        }
        signals::Ending::Now
    };
    let failed = |e| Failure::new(Exit::Broken, format!("cannot watch for signals: {e}"));
    Ok(Watched { received: signals::watch(end, || (), || ()).map_err(failed)?, pool })
}

fn tell(outcome: &Outcome<'_>, is_printed: bool, report: &Report) -> Result<Exit, Failure> {
    for (stream, bytes) in [("stdout", outcome.stdout()), ("stderr", outcome.stderr())] {
        if !bytes.is_empty() {
            report.lines(&all_lines(&format!("[{stream}]"), bytes));
        }
    }
    match outcome.result() {
        Ok(bytes) if is_printed => print(&[without_line_end(bytes), b"\n"].concat()),
        Ok(bytes) => print(&[bytes, b"\n"].concat()),
        Err(TaskError::Cancelled) => Ok(Exit::TasksFailed),
        Err(error) => {
            say(&error, report);
            Ok(match error {
                TaskError::Broken { .. } => Exit::Broken,
                _ => Exit::TasksFailed,
            })
        }
    }
}

/// Why there is no result, and the guest's frames.
pub(super) fn say(error: &TaskError, report: &Report) {
    let (first, further) = lines(&error.message());
    let frames = trace(error).iter().map(|frame| format!("    {}", OneLine(frame)));
    report.failure(&first, &further.into_iter().chain(frames).collect::<Vec<_>>());
}
