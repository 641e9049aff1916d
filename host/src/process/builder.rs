//! The settings of a process, and the checks before it can be started.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[cfg(doc)]
use super::ExitReason;
use super::state::{OutputFns, Pending, Supervised};
use super::{Process, feeder};
use crate::context::StartMethod;
use crate::error::BuildError;
use crate::module::Module;
use crate::policy::Policy;
use crate::spec::{Input, Limits, ProfilingStrategy, size};
use crate::target::{Resolved, Target, check_module, own_initializer, resolve};

/// How long a process may take to get ready, by default. A machine under load is slow, but a hanging process
/// must end.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Configures a [`Process`]. [`Process::builder`] makes it.
///
/// It has what CPython's `Process(target=.., name=.., args=.., kwargs=.., daemon=..)` takes, and what a guest
/// needs beside that.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = numbers()?;
/// use std::time::Duration;
/// use wpool::{BuildError, Limits, Process, StartMethod, Target};
///
/// let mut limits = Limits::default();
/// limits.time = Some(Duration::from_secs(2));
/// let mut process = Process::builder(&module)
///     .target(Target::func("add").arg(3).arg(4))
///     .name("Adder")
///     .daemon(true)
///     .limits(limits)
///     .start_method(StartMethod::Spawn)
///     .on_stderr(|bytes| eprint!("{}", String::from_utf8_lossy(bytes)))
///     .build()?;
/// assert_eq!(process.name(), "Adder");
/// process.start()?;
/// process.join()?;
/// assert_eq!(process.result(), Some(7));
///
/// // Mistakes are found before anything starts.
/// let mistaken = Process::builder(&module).target(Target::func("ad")).build();
/// assert!(matches!(mistaken, Err(BuildError::Target(_))));
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder makes no process until build is called"]
pub struct ProcessBuilder {
    module: Module,
    target: Target,
    name: Option<String>,
    daemon: bool,
    limits: Limits,
    policy: Policy,
    input: Vec<u8>,
    stdin: Option<feeder::Source>,
    sinks: OutputFns,
    method: StartMethod,
    start_timeout: Duration,
    profile: Option<ProfilingStrategy>,
}

impl fmt::Debug for ProcessBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessBuilder")
            .field("target", &self.target)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ProcessBuilder {
    pub(super) fn new(module: &Module) -> ProcessBuilder {
        ProcessBuilder {
            module: module.clone(),
            target: Target::default(),
            name: None,
            daemon: false,
            limits: Limits::default(),
            policy: Policy::sealed(),
            input: Vec::new(),
            stdin: None,
            sinks: OutputFns::default(),
            method: StartMethod::default(),
            start_timeout: START_TIMEOUT,
            profile: None,
        }
    }

    /// The function to run, with all its arguments: `target`, `args` and `kwargs` of CPython's `Process`.
    /// Default: the module's own. If the module exports `init` of world `wpool:task/stateful-task`, that is
    /// called before it, without arguments.
    pub fn target(mut self, target: impl Into<Target>) -> Self {
        self.target = target.into();
        self
    }

    /// The process's name, which has no meaning and need not be unique. Default: `Process-N`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// What happens to the process when its [`Process`] is dropped, and when this program exits: a daemon is
    /// killed, any other process is waited for. Default: `false`.
    ///
    /// An exit is a return from `main` or a call of [`std::process::exit`]; it counts also for a `Process`
    /// that is never dropped. If this program is killed, both kinds die with it.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    /// What the process may use.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What the guest may reach. Default: nothing ([`Policy::sealed`]).
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// For a command: its standard input (CPython's processes have none). For a function: the record that
    /// fills its free parameter.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// For a command: a source of standard input, in place of [`input`](Self::input).
    ///
    /// A thread reads it, when the guest reads, and no further. Nothing waits for that thread: the process
    /// can end while the thread is still reading.
    pub fn stdin(mut self, source: impl std::io::Read + Send + 'static) -> Self {
        self.stdin = Some(Box::new(source));
        self
    }

    /// Called with what the guest writes to stdout, as it comes. Without it the first MiB is kept for
    /// [`Process::stdout`].
    pub fn on_stdout(mut self, sink: impl FnMut(&[u8]) + Send + 'static) -> Self {
        self.sinks.stdout = Some(Box::new(sink));
        self
    }

    /// Called with what the guest writes to stderr, as it comes. Without it the first MiB is kept for
    /// [`Process::stderr`].
    pub fn on_stderr(mut self, sink: impl FnMut(&[u8]) + Send + 'static) -> Self {
        self.sinks.stderr = Some(Box::new(sink));
        self
    }

    /// How the process is started: CPython's `get_context(method).Process`. Default:
    /// [`StartMethod::Forkserver`].
    ///
    /// The processes of a module with the same limits share a fork server, which ends with the last of them
    /// and the module. For a single process [`StartMethod::Spawn`] is cheaper.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.method = method;
        self
    }

    /// How long the process may take to load its module. After that it is killed, and its [`ExitReason`] says
    /// so. If the fork server takes too long, [`Process::start`] fails. Default: one minute.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Takes a profile: where the guest spends its time. [`Process::profile`] gives it. Such a process is
    /// executed, never forked, whatever its start method.
    pub fn profile(mut self, strategy: ProfilingStrategy) -> Self {
        self.profile = Some(strategy);
        self
    }

    /// Makes the process, which is not started yet.
    ///
    /// # Errors
    /// [`BuildError`] if there is no such function, or its arguments do not fit, or the policy does not grant
    /// what the module needs, or the policy names what cannot be granted.
    pub fn build(mut self) -> Result<Process, BuildError> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        self.limits = self.limits.possible();
        check_module(self.module.info(), &self.limits, &self.policy)?;
        let granted = self.policy.resolve_for(&self.module, self.method)?;
        self.module = self.module.compiled(self.policy.codegen(self.limits.codegen()))?;
        let initializer = own_initializer(self.module.info())?;
        let Resolved { call, ty, .. } = self.resolve()?;
        let name = self.name.unwrap_or_else(|| format!("Process-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let method = match self.method {
            // A fork server is shared with processes that have no profile.
            StartMethod::Forkserver if self.profile.is_some() => StartMethod::Spawn,
            method => method,
        };
        let pending = Pending {
            module: self.module,
            call,
            initializer,
            limits: self.limits,
            granted,
            input: self.input,
            stdin: self.stdin,
            sinks: self.sinks,
            method,
            start_timeout: self.start_timeout,
            profile: self.profile,
        };
        Ok(Process::new(pending, ty, Supervised::new(name, self.daemon)))
    }

    /// Finds the function, and checks that arguments and input are complete and fit.
    fn resolve(&mut self) -> Result<Resolved, BuildError> {
        let resolved = resolve(&self.target, self.module.info())?;
        let mut resolved = if self.input.is_empty() { resolved.complete()? } else { resolved };
        let call = &mut resolved.call;
        if self.stdin.is_some() {
            if call.input != Input::Stdin {
                return Err(BuildError::Format(format!(
                    "{} is no command: it has no standard input",
                    call.path
                )));
            }
            self.input = Vec::new();
            call.input = Input::Asked;
        }
        if self.input.len() > self.limits.input {
            let (given, limit) = (size(self.input.len() as u64), size(self.limits.input as u64));
            let reason = format!("{given} are over the limit of {limit} (--max-input, Limits::input)");
            return Err(BuildError::Argument { func: call.path.clone(), index: "input".to_owned(), reason });
        }
        Ok(resolved)
    }
}
