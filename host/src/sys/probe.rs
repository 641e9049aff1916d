//! What a process that its attacker has taken over would try, for tests only (feature `fault-points`): each
//! attempt as the bare system call, made by the process itself, in its own confinement.

use std::ffi::{CStr, CString};
use std::io;
use std::ptr;

use serde::{Deserialize, Serialize};

/// One thing to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[doc(hidden)]
pub enum Attempt {
    OpenRead,
    OpenWrite,
    OpenByAnotherCall,
    Stat,
    ReadLink,
    ListDirectory,
    Execute,
    Fork,
    Thread,
    TcpConnect,
    UdpSend,
    AbstractSocket,
    TraceParent,
    ReadParentMemory,
    OpenParentMemory,
    SignalParent,
    SignalParentByDescriptor,
    SignalGroup,
    UserNamespace,
    IoUring,
    Bpf,
    LoosenLimit,
    SetPriority,
    MapWritableAndExecutable,
    MapExecutable,
    MakeExecutable,
    BecomeTraceable,
    MemoryFile,
    WriteInherited,
    TcpConnectToPort9,
    TcpFastOpen,
    MultipathTcp,
    TcpListen,
    SocketProgram,
    TimesOfAnyFile,
    MakePipe,
    LeaveSibling,
    /// A call by its number, with these arguments: none that the kernel would need to read memory for before
    /// it refuses.
    Call(i64, [i64; 6]),
}

impl Attempt {
    /// All that nothing but a grant could allow.
    #[doc(hidden)]
    pub const ALL: [Attempt; 29] = [
        Attempt::OpenRead,
        Attempt::OpenWrite,
        Attempt::OpenByAnotherCall,
        Attempt::Stat,
        Attempt::ReadLink,
        Attempt::ListDirectory,
        Attempt::Execute,
        Attempt::Fork,
        Attempt::Thread,
        Attempt::TcpConnect,
        Attempt::UdpSend,
        Attempt::AbstractSocket,
        Attempt::TraceParent,
        Attempt::ReadParentMemory,
        Attempt::OpenParentMemory,
        Attempt::SignalParent,
        Attempt::SignalParentByDescriptor,
        Attempt::SignalGroup,
        Attempt::UserNamespace,
        Attempt::IoUring,
        Attempt::Bpf,
        Attempt::LoosenLimit,
        Attempt::SetPriority,
        Attempt::MapWritableAndExecutable,
        Attempt::MapExecutable,
        Attempt::MakeExecutable,
        Attempt::BecomeTraceable,
        Attempt::MemoryFile,
        Attempt::WriteInherited,
    ];

    /// Where [`Attempt::OpenWrite`] and [`Attempt::MakePipe`] make something.
    #[doc(hidden)]
    pub const DIR: &'static str = "/tmp/wpool-probe";

    /// The file whose times [`Attempt::TimesOfAnyFile`] sets.
    #[doc(hidden)]
    pub const ANOTHER_FILE: &'static str = "/tmp/wpool-probe-times";

    /// The number of the descriptor that [`Attempt::WriteInherited`] writes to; a test leaves one open for
    /// its children.
    #[doc(hidden)]
    pub const INHERITED: i32 = 200;

    /// Tries. An error if the kernel refuses; if the process is killed for it, this does not return.
    pub(crate) fn make(self) -> io::Result<()> {
        let parent =
            libc::c_long::from(rustix::process::getppid().map_or(1, |pid| pid.as_raw_nonzero().get()));
        let path = |text: &'static CStr| text.as_ptr();
        let memory = CString::new(format!("/proc/{parent}/mem")).unwrap_or_default();
        let none = ptr::null_mut::<libc::c_void>();
        let mut buffer = [0u8; 4096];
        let at = buffer.as_mut_ptr();
        // SAFETY: each call gets integers, null pointers, C strings, or pointers to local storage that is
        // large enough for what the kernel reads and writes there and outlives the call. Those that would
        // change this process beyond repair (exec, fork, a thread) are made in a process that ends right
        // after the attempt, whether it succeeds or not. A call by its number has no pointers but null ones.
        let result = unsafe {
            match self {
                Attempt::OpenRead => {
                    libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path(c"/etc/passwd"), libc::O_RDONLY)
                }
                Attempt::OpenWrite => {
                    let flags = libc::O_WRONLY | libc::O_CREAT;
                    libc::syscall(
                        libc::SYS_openat,
                        libc::AT_FDCWD,
                        path(c"/tmp/wpool-probe/file"),
                        flags,
                        0o600,
                    )
                }
                Attempt::OpenByAnotherCall => {
                    let how = [0u64; 3];
                    libc::syscall(
                        libc::SYS_openat2,
                        libc::AT_FDCWD,
                        path(c"/etc/passwd"),
                        how.as_ptr(),
                        size_of_val(&how),
                    )
                }
                Attempt::Stat => {
                    libc::syscall(libc::SYS_newfstatat, libc::AT_FDCWD, path(c"/etc/passwd"), at, 0)
                }
                Attempt::ReadLink => libc::syscall(
                    libc::SYS_readlinkat,
                    libc::AT_FDCWD,
                    path(c"/proc/self/exe"),
                    at,
                    buffer.len(),
                ),
                Attempt::ListDirectory => {
                    let dir = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path(c"/"), libc::O_RDONLY);
                    libc::syscall(libc::SYS_getdents64, dir, at, buffer.len())
                }
                Attempt::Execute => {
                    let argv = [path(c"/bin/true"), ptr::null()];
                    libc::syscall(
                        libc::SYS_execve,
                        path(c"/bin/true"),
                        argv.as_ptr(),
                        ptr::null::<*const u8>(),
                    )
                }
                Attempt::Fork => match libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) {
                    0 => super::exit_now(0),
                    pid => pid,
                },
                // What a zygote may do that does not say so: the process is its coordinator's child, leads a
                // group, and goes on.
                Attempt::LeaveSibling => {
                    match libc::syscall(libc::SYS_clone, libc::CLONE_PARENT | libc::SIGCHLD, 0, 0, 0, 0) {
                        0 => {
                            libc::syscall(libc::SYS_setpgid, 0, 0);
                            loop {
                                let second = libc::timespec { tv_sec: 1, tv_nsec: 0 };
                                libc::syscall(libc::SYS_nanosleep, &raw const second, none);
                            }
                        }
                        pid => pid,
                    }
                }
                Attempt::Thread => {
                    match libc::syscall(libc::SYS_clone, libc::CLONE_FS | libc::CLONE_FILES, 0, 0, 0, 0) {
                        0 => super::exit_now(0),
                        pid => pid,
                    }
                }
                Attempt::TcpConnect => send(libc::AF_INET, libc::SOCK_STREAM),
                Attempt::UdpSend => send(libc::AF_INET, libc::SOCK_DGRAM),
                Attempt::AbstractSocket => send(libc::AF_UNIX, libc::SOCK_DGRAM),
                Attempt::TraceParent => libc::syscall(libc::SYS_ptrace, libc::PTRACE_SEIZE, parent, 0, 0),
                Attempt::ReadParentMemory => {
                    let local = libc::iovec { iov_base: at.cast(), iov_len: 8 };
                    // The stack of the parent is likely to be near where ours is; refusal comes before the
                    // address is looked at.
                    let remote = libc::iovec { iov_base: at.cast(), iov_len: 8 };
                    libc::syscall(
                        libc::SYS_process_vm_readv,
                        parent,
                        &raw const local,
                        1,
                        &raw const remote,
                        1,
                        0,
                    )
                }
                Attempt::OpenParentMemory => {
                    libc::syscall(libc::SYS_openat, libc::AT_FDCWD, memory.as_ptr(), libc::O_RDWR)
                }
                Attempt::SignalParent => libc::syscall(libc::SYS_kill, parent, 0),
                Attempt::SignalParentByDescriptor => {
                    let fd = libc::syscall(libc::SYS_pidfd_open, parent, 0);
                    libc::syscall(libc::SYS_pidfd_send_signal, fd, 0, none, 0)
                }
                Attempt::SignalGroup => libc::syscall(libc::SYS_kill, -1, 0),
                Attempt::UserNamespace => libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER),
                Attempt::IoUring => libc::syscall(libc::SYS_io_uring_setup, 1, at),
                Attempt::Bpf => {
                    // An array of one number.
                    let attributes: [u32; 32] = std::array::from_fn(|i| *[2, 4, 4, 1].get(i).unwrap_or(&0));
                    libc::syscall(libc::SYS_bpf, 0, attributes.as_ptr(), size_of_val(&attributes))
                }
                Attempt::LoosenLimit => {
                    let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
                    libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, &raw const limit, none)
                }
                Attempt::SetPriority => libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, parent, 0),
                Attempt::MapWritableAndExecutable => {
                    map(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)
                }
                Attempt::MapExecutable => map(libc::PROT_READ | libc::PROT_EXEC),
                Attempt::MakeExecutable => {
                    let page = map(libc::PROT_READ | libc::PROT_WRITE);
                    libc::syscall(libc::SYS_mprotect, page, 4096, libc::PROT_READ | libc::PROT_EXEC)
                }
                Attempt::BecomeTraceable => libc::syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0),
                Attempt::MemoryFile => libc::syscall(libc::SYS_memfd_create, path(c"probe"), 0),
                Attempt::TcpConnectToPort9 => match send_by(libc::SOCK_STREAM, 0, Way::Connect) {
                    // Nothing listens at that address, and nothing else was in the way.
                    -1 if io::Error::last_os_error().raw_os_error() == Some(libc::ECONNREFUSED) => 0,
                    result => result,
                },
                Attempt::TcpFastOpen => send_by(libc::SOCK_STREAM, 0, Way::Send(libc::MSG_FASTOPEN)),
                Attempt::MultipathTcp => send_by(libc::SOCK_STREAM, libc::IPPROTO_MPTCP, Way::Nothing),
                Attempt::TcpListen => send_by(libc::SOCK_STREAM, 0, Way::Listen),
                Attempt::SocketProgram => send_by(libc::SOCK_STREAM, 0, Way::Program),
                Attempt::TimesOfAnyFile => {
                    let file = path(c"/tmp/wpool-probe-times");
                    libc::syscall(libc::SYS_utimensat, libc::AT_FDCWD, file, none, libc::AT_SYMLINK_NOFOLLOW)
                }
                Attempt::MakePipe => libc::syscall(
                    libc::SYS_mknodat,
                    libc::AT_FDCWD,
                    path(c"/tmp/wpool-probe/pipe"),
                    libc::S_IFIFO,
                    0,
                ),
                Attempt::Call(number, [a, b, c, d, e, f]) => libc::syscall(number, a, b, c, d, e, f),
                Attempt::WriteInherited => libc::syscall(libc::SYS_write, Self::INHERITED, path(c"probe"), 5),
            }
        };
        match result {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

/// # Safety
/// It touches no memory of this process: a fresh mapping at an address of the kernel's choice.
unsafe fn map(protection: libc::c_int) -> libc::c_long {
    // SAFETY: see above.
    unsafe {
        libc::syscall(libc::SYS_mmap, 0, 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }
}

/// What is done with a socket of IPv4.
enum Way {
    Nothing,
    Connect,
    Send(libc::c_int),
    Listen,
    Program,
}

/// # Safety
/// The address and the program are local storage that outlives the calls.
unsafe fn send_by(kind: libc::c_int, protocol: libc::c_int, way: Way) -> libc::c_long {
    // Port 9 at 127.0.0.1.
    let mut address = [0u8; 16];
    address[..2].copy_from_slice(&u16::try_from(libc::AF_INET).unwrap_or_default().to_ne_bytes());
    address[2..8].copy_from_slice(&[0, 9, 127, 0, 0, 1]);
    // Lets everything pass: `return -1`.
    let mut filter = libc::sock_filter { code: 6, jt: 0, jf: 0, k: u32::MAX };
    let program = libc::sock_fprog { len: 1, filter: &raw mut filter };
    // SAFETY: see above.
    unsafe {
        let socket = libc::syscall(libc::SYS_socket, libc::AF_INET, kind, protocol);
        match way {
            _ if socket == -1 => -1,
            Way::Nothing => 0,
            Way::Connect => libc::syscall(libc::SYS_connect, socket, address.as_ptr(), 16),
            Way::Send(flags) => libc::syscall(
                libc::SYS_sendto,
                socket,
                address.as_ptr(),
                1,
                flags | libc::MSG_NOSIGNAL,
                address.as_ptr(),
                16,
            ),
            Way::Listen => libc::syscall(libc::SYS_listen, socket, 1),
            Way::Program => libc::syscall(
                libc::SYS_setsockopt,
                socket,
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                &raw const program,
                size_of_val(&program),
            ),
        }
    }
}

/// # Safety
/// The address is local storage that outlives the calls.
unsafe fn send(family: libc::c_int, kind: libc::c_int) -> libc::c_long {
    // Family, then: port 9 at 127.0.0.1, or the abstract name "probe".
    let mut address = [0u8; 16];
    address[..2].copy_from_slice(&u16::try_from(family).unwrap_or_default().to_ne_bytes());
    match family {
        libc::AF_INET => address[2..8].copy_from_slice(&[0, 9, 127, 0, 0, 1]),
        _ => address[2..8].copy_from_slice(b"\0probe"),
    }
    // SAFETY: see above.
    unsafe {
        match libc::syscall(libc::SYS_socket, family, kind, 0) {
            -1 => -1,
            socket => libc::syscall(
                libc::SYS_sendto,
                socket,
                address.as_ptr(),
                1,
                libc::MSG_NOSIGNAL,
                address.as_ptr(),
                if family == libc::AF_UNIX { 8 } else { 16 },
            ),
        }
    }
}
