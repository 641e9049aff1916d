//! A test program: `old_kernel landlock,seccomp PROGRAM ARGS..` is the program on a kernel that does not have
//! what the first argument names; with `landlock=2` it has that version of landlock.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [without, program, args @ ..] = &args[..] else {
        return Err("old_kernel WITHOUT PROGRAM ARGS..".into());
    };
    if let Some(version) = without.strip_prefix("landlock=") {
        answer_for_landlock(version.parse()?)?;
    } else {
        let calls: BTreeMap<i64, Vec<SeccompRule>> =
            without.split(',').flat_map(calls).map(|call| (call, vec![])).collect();
        let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
        let filter =
            SeccompFilter::new(calls, SeccompAction::Allow, missing, std::env::consts::ARCH.try_into()?)?;
        let filter: BpfProgram = filter.try_into()?;
        seccompiler::apply_filter(&filter)?;
    }
    Err(std::process::Command::new(program).args(args).exec().into())
}

fn calls(name: &str) -> Vec<i64> {
    match name {
        "landlock" => vec![libc::SYS_landlock_create_ruleset],
        "seccomp" => vec![libc::SYS_seccomp],
        other => panic!("nothing is called {other}"),
    }
}

/// From now on this process and its children see this version of landlock. A process that is no child of
/// theirs answers for the kernel, and ends with them. What a version does not know programs do not ask it
/// for.
fn answer_for_landlock(version: i64) -> Result<(), Failure> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: this program has one thread.
    #[expect(unsafe_code, reason = "no safe function forks")]
    match unsafe { libc::fork() } {
        // SAFETY: as above.
        0 => match unsafe { libc::fork() } {
            0 => serve(&theirs, version),
            _ => std::process::exit(0),
        },
        // SAFETY: a null pointer means that the status is not wanted.
        child => drop(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }),
    }
    drop(theirs);
    let listener = listen()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let fds = [std::os::fd::AsFd::as_fd(&listener)];
    assert!(beside.push(SendAncillaryMessage::ScmRights(&fds)));
    rustix::net::sendmsg(&ours, &[IoSlice::new(b"x")], &mut beside, SendFlags::empty())?;
    // Until the other side has it: the end of the stream is its word.
    let mut stream = std::fs::File::from(ours);
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A filter that notifies the listener when a process asks for the version.
#[expect(unsafe_code, reason = "no safe function installs such a filter")]
fn listen() -> Result<OwnedFd, Failure> {
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut steps = [
        step(LOAD, 0, 0),
        step(EQUAL, 3, u32::try_from(libc::SYS_landlock_create_ruleset)?),
        // The flags: the third argument.
        step(LOAD, 0, 32),
        step(EQUAL, 1, 1),
        step(RETURN, 0, libc::SECCOMP_RET_USER_NOTIF),
        step(RETURN, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: u16::try_from(steps.len())?, filter: steps.as_mut_ptr() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: the numbers are those that the calls expect, and the program outlives the call that reads it.
    let fd = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the descriptor is new, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

/// Answers until no process is left that could ask.
#[expect(unsafe_code, reason = "no safe function answers")]
fn serve(socket: &OwnedFd, version: i64) -> ! {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let got =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut beside, RecvFlags::CMSG_CLOEXEC);
    let fds = got.ok().and_then(|_| {
        beside.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
    });
    let Some(listener) = fds else { std::process::exit(1) };
    // SAFETY: its descriptors are its own, and nothing here uses them except the listener. Readers of the
    // program's output wait for no other process.
    unsafe {
        for fd in 0..3 {
            libc::close(fd);
        }
        libc::close(socket.as_raw_fd());
    }
    loop {
        let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which outlives the call; the structures are the kernel's own, and zero before
        // they are read into.
        unsafe {
            libc::poll(&raw mut poll, 1, -1);
            if poll.revents & libc::POLLIN == 0 {
                libc::_exit(0);
            }
            let mut asked: libc::seccomp_notif = std::mem::zeroed();
            if libc::ioctl(listener.as_raw_fd(), RECV, &raw mut asked) == 0 {
                let mut answer = libc::seccomp_notif_resp { id: asked.id, val: version, error: 0, flags: 0 };
                libc::ioctl(listener.as_raw_fd(), SEND, &raw mut answer);
            }
        }
    }
}

/// `SECCOMP_IOCTL_NOTIF_RECV` and `_SEND`.
const RECV: libc::Ioctl = 0xc050_2100;
const SEND: libc::Ioctl = 0xc018_2101;
