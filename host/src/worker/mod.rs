//! The worker side: code that runs in a compiler, zygote or worker process, or in a worker thread, and
//! nowhere else.
//!
//! [`main`] is the entry of a process: it confines the process as far as possible before it reads anything,
//! then plays the role of the process. [`thread_main`] is the entry of a worker thread, which is not
//! confined. No other part of the crate knows the engine.

mod compiler;
mod exchange;
mod fault;
mod guest;
mod leases;
mod life;
mod outbox;
mod process;
mod send;
mod serve;
mod setup;
mod stack;
mod thread;
mod zygote;

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

pub(crate) use self::life::Life;
use self::process::name_thread;
use self::send::{EXIT_SOFTWARE, refuse, report_panic};
pub(crate) use self::thread::thread_main;
use crate::protocol::connection::{Connection, TakesFds};
use crate::protocol::frame::Caps;
use crate::protocol::message;
use crate::sandbox::Confinement;
use crate::spec::{ProcessRole, Sandbox};
use crate::sys;

/// The version of the engine that this program is linked with.
pub(crate) const ENGINE_VERSION: &str = wasmtime_environ::VERSION;

/// Runs a process of ours from its beginning to its end. `None`: the arguments are not ones that wpool has
/// written.
pub(crate) fn main(args: Option<((ProcessRole, u32), Sandbox)>) -> ! {
    let Some(((role, parent), sandbox)) = args else { sys::exit_now(EXIT_SOFTWARE) };
    sys::keep_freed_memory();
    // First of all: the next steps change what other threads may rely on, so that there must be none.
    let unfit = unfit();
    // With other threads this write would be a race: they may read the environment.
    if unfit.is_none() {
        // The dynamic linker has used the variable already. Its name has no NUL, so that it is a C string.
        std::ffi::CString::new(sys::LIBRARIES).iter().for_each(|name| sys::forget_variable(name));
    }
    // Before the verdict on the place is sent: even a process that is about to give up reads nothing
    // unconfined.
    let confinement = Confinement::begin(sandbox, role, parent);
    name_thread(match role {
        ProcessRole::Compiler => "wpool-compiler",
        ProcessRole::Zygote => "wpool-zygote",
        ProcessRole::Worker => "wpool-worker",
    });
    // The stderr of a worker is /dev/null. `report_panic` sends the text of a panic to the coordinator
    // instead.
    std::panic::set_hook(Box::new(|_| {}));
    let code = match take_socket() {
        Ok(socket) => {
            let mut connection = Connection::new(TakesFds::new(socket), Caps::COORDINATOR);
            let code = match unfit {
                Some(why) => refuse(&mut connection, format!("{}: {why}", message::UNFIT)),
                None => play(role, confinement, &mut connection),
            };
            // The socket stays open until the process has ended: a coordinator that sees it closed kills the
            // process, and would take the kill for its exit code.
            std::mem::forget(connection);
            code
        }
        // Without a socket no reason can be told. The coordinator has the exit code.
        Err(_) => EXIT_SOFTWARE,
    };
    // Without destructors: none of the engine's is needed, and none may fail here.
    sys::exit_now(code)
}

/// Why this process can be no worker, if it cannot.
fn unfit() -> Option<String> {
    if sys::has_threads() {
        return Some(message::INIT_TOO_LATE.to_owned());
    }
    // The engine would fail while it loads the module, and the module would be blamed.
    let why = sys::may_make_code().err()?;
    Some(format!(
        "this process may not make machine code executable ({why}): MemoryDenyWriteExecute of systemd, \
         PR_SET_MDWE, SELinux or a filter of system calls forbids it"
    ))
}

/// Moves the socket from standard input, where a guest could read it, to another descriptor.
fn take_socket() -> rustix::io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    // Standard input stays open, but leads nowhere: its number must not go to a descriptor of the engine.
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(socket)
}

fn play(role: ProcessRole, confinement: Confinement, connection: &mut Connection<TakesFds>) -> i32 {
    report_panic(connection, |connection| match role {
        ProcessRole::Compiler => compiler::run(connection, confinement),
        ProcessRole::Zygote => zygote::run(connection, confinement),
        ProcessRole::Worker => process::run(connection, confinement),
    })
}
