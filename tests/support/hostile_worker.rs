//! A test program: a worker that its attacker has taken over.
//!
//! The first process that is started does what the program's own file name says. All later ones are the real
//! program, whose path is in the file `real` beside it. With a file `role` beside it, every process of that
//! role does it, and no other.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn main() {
    let program = PathBuf::from(std::env::args_os().next().expect("a program has a name"));
    let dir = program.parent().expect("a program lies in a directory");
    let is_taken = match std::fs::read_to_string(dir.join("role")) {
        Ok(role) => std::env::args().nth(2).is_some_and(|mine| mine == role),
        Err(_) => std::fs::File::create_new(dir.join("taken")).is_ok(),
    };
    if !is_taken {
        let real = std::fs::read_to_string(dir.join("real")).expect("the file that names the real program");
        let error = std::process::Command::new(real).args(std::env::args_os().skip(1)).exec();
        panic!("{error}");
    }
    let deed = program.file_name().and_then(|name| name.to_str()).expect("a deed").to_owned();
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("a socket as standard input");
    let mut socket = std::fs::File::from(socket);
    match std::env::args().nth(2).as_deref() {
        Some(role) if deed == "says" => say_as_told(role, dir, &mut socket),
        Some("zygote") => commit_as_zygote(&deed, dir, &mut socket),
        Some(_) if deed.starts_with("exchange-") => commit_on_second_socket(&deed, &mut socket),
        _ => commit(&deed, &mut socket),
    }
    // Now it would be quiet for ever.
    let _socket = socket;
    std::thread::sleep(Duration::from_secs(3600));
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("short payloads");
    [&len.to_le_bytes()[..], &[kind], payload].concat()
}

const CONTROL: u8 = 1;
const BATCH: u8 = 2;
const FIXED: u8 = 4;
const RETURNED: u8 = 16;
const FAILED: u8 = 17;
const STDOUT: u8 = 18;
const TOOK: u8 = 20;
const USED: u8 = 22;
const BATCH_DONE: u8 = 21;
const PLACED: u8 = 23;
const PROFILE: u8 = 24;

fn place(offset: u64, len: u64) -> Vec<u8> {
    frame(PLACED, &[offset.to_le_bytes(), len.to_le_bytes()].concat())
}

fn commit(deed: &str, socket: &mut std::fs::File) {
    let mut say = |bytes: &[u8]| socket.write_all(bytes).is_ok();
    if deed == "garbage-before-hello" {
        say(b"HTTP/1.1 200 OK\r\n\r\n");
        return;
    }
    if deed == "ready-before-hello" {
        say(&frame(CONTROL, b"\"Ready\""));
        return;
    }
    if deed == "other-version" {
        say(&frame(CONTROL, br#"{"Hello":{"version":999}}"#));
        return;
    }
    say(&frame(CONTROL, br#"{"Hello":{"version":5}}"#));
    if deed == "descriptors" {
        // A compiler is never ready: that would be its end before the first descriptor.
        if std::env::args().nth(2).as_deref() != Some("compiler") {
            say(&frame(CONTROL, b"\"Ready\""));
        }
        // A frame that never ends, each byte of it with as many descriptors as a message carries.
        say(&[0, 0, 0x10, 0, STDOUT]);
        while send_with_descriptors(socket) {}
        return;
    }
    if deed == "result-before-ready" {
        say(&frame(RETURNED, b"forged"));
        return;
    }
    if deed == "init-failed-oddly" {
        say(&frame(CONTROL, br#"{"InitFailed":{"failure":{"NoInstance":{"failure":"Cancelled"}}}}"#));
        return;
    }
    if deed == "init-failed-for-the-coordinator" {
        say(&frame(CONTROL, br#"{"InitFailed":{"failure":{"Broken":{"reason":"because I say so"}}}}"#));
        return;
    }
    if deed == "init-failed-at-length" {
        let message = "x".repeat(900_000);
        let failure = format!(r#"{{"InitFailed":{{"failure":{{"Failed":{{"message":"{message}"}}}}}}}}"#);
        say(&frame(CONTROL, failure.as_bytes()));
        return;
    }
    say(&frame(CONTROL, b"\"Ready\""));
    if deed == "answers-at-once" {
        return answer_at_once(socket);
    }
    if deed == "never-reads" {
        return;
    }
    let _batch = wait_for_batch(socket);
    let mut say = |bytes: &[u8]| socket.write_all(bytes).is_ok();
    match deed {
        "too-long" => drop(say(&[0xff, 0xff, 0xff, 0xff, RETURNED])),
        "longer-than-the-limit" => drop(say(&[0, 0, 0, 0x3f, RETURNED])),
        "unknown-kind" => drop(say(&frame(99, b"x"))),
        "profile-unasked" => drop(say(&frame(PROFILE, b"{}"))),
        "fixed-arguments" => drop(say(&frame(FIXED, b"x"))),
        "a-batch" => drop(say(&frame(BATCH, b"x"))),
        // It may hold a few by now, but not all of them.
        "too-many-results" => drop(say(&frame(RETURNED, b"FIRST").repeat(200))),
        "result-of-nothing" => {
            say(&frame(RETURNED, b"FIRST"));
            say(&frame(BATCH_DONE, &[0; 16]));
            say(&frame(RETURNED, b"forged").repeat(100));
        }
        "failure-of-garbage" => drop(say(&frame(FAILED, b"\xff\xfe"))),
        "control-of-garbage" => drop(say(&frame(CONTROL, b"{}"))),
        "odd-usage" => drop(say(&frame(USED, b"123456789"))),
        // It has no arena: it has not said that it mapped it.
        "placed-nowhere" => drop(say(&place(0, 100_000))),
        "placed-outside" => drop(say(&place(u64::MAX - 5, 1 << 19))),
        "placed-too-long" => drop(say(&place(0, 1 << 40))),
        "placed-oddly" => drop(say(&frame(PLACED, b"x"))),
        "control-of-nothing" => drop(say(&frame(CONTROL, b""))),
        "short-time" => drop(say(&frame(TOOK, b"x"))),
        "batch-done-unasked" => drop(say(&frame(BATCH_DONE, &[0; 16]))),
        "batch-done-twice" => {
            say(&[frame(RETURNED, b"FIRST"), frame(BATCH_DONE, &[0; 16]), frame(BATCH_DONE, &[0; 16])]
                .concat());
        }
        "took-for-ever" => drop(say(&frame(TOOK, &u64::MAX.to_le_bytes()))),
        "used-all-memory" => drop(say(&frame(USED, &u64::MAX.to_le_bytes()))),
        "used-fuel" => drop(say(&frame(USED, &[0; 16]))),
        "cancels-for-ever" => {
            while say(&frame(FAILED, b"\"Cancelled\"")) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        "short-batch-done" => drop(say(&frame(BATCH_DONE, b"x"))),
        "init-failed-late" => drop(say(&frame(CONTROL, br#"{"InitFailed":{"failure":"Cancelled"}}"#))),
        "forked" => drop(say(&frame(CONTROL, br#"{"Forked":{"pid":1}}"#))),
        "cancels-unasked" => drop(say(&frame(FAILED, b"\"Cancelled\""))),
        "speaks-for-the-coordinator" => {
            let _told = say(&frame(FAILED, br#"{"Broken":{"reason":"because I say so"}}"#));
        }
        "answers-for-ever" => {
            while say(&frame(RETURNED, b"FIRST")) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        "endless-output" => while say(&frame(STDOUT, b"tiny")) {},
        "endless-frame" => {
            say(&[0, 0, 0, 0x0f, STDOUT]);
            while say(&[b'x'; 4096]) {}
        }
        "closes" => {
            rustix::net::shutdown(&*socket, rustix::net::Shutdown::Both).expect("an open socket");
        }
        "one-byte-a-time" => {
            for byte in frame(99, b"slowly") {
                say(&[byte]);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        other => panic!("there is no deed {other}"),
    }
}

const ASK: u8 = 32;
const ENDED: u8 = 33;

/// What a worker could do on its second socket, once it has a task.
fn commit_on_second_socket(deed: &str, socket: &mut std::fs::File) {
    socket.write_all(&frame(CONTROL, br#"{"Hello":{"version":5}}"#)).expect("a coordinator");
    let mut second = second_socket(socket);
    socket.write_all(&frame(CONTROL, b"\"Ready\"")).expect("a coordinator");
    let _batch = wait_for_batch(socket);
    // Task 1, no time-out, no time limit; `On` object 0 or 99; `Get` one item of one byte at most.
    let get = |object: u8| frame(ASK, &[1, 0, 0, 1, object, 1, 1, 1]);
    let mut say = |bytes: &[u8]| second.write_all(bytes).is_ok();
    match deed {
        "exchange-garbage" => drop(say(b"HTTP/1.1 200 OK\r\n\r\n")),
        "exchange-unknown-object" => drop(say(&get(99))),
        "exchange-asks-twice" => drop(say(&get(0).repeat(200))),
        "exchange-false-length" => drop(say(&[0xff, 0xff, 0xff, 0x3f, ASK])),
        "exchange-endless-frame" => {
            say(&[0, 0, 0, 0x02, ASK]);
            while say(&[b'x'; 4096]) {}
        }
        "exchange-flood" => while say(&get(0)) {},
        "exchange-end-unasked" => drop(say(&frame(ENDED, &[0; 9]))),
        other => panic!("there is no deed {other} on a second socket"),
    }
    // It must not look like the end of the process.
    std::mem::forget(second);
}

/// Receives the setup, and of its descriptors the third: behind the artefact and the status page.
fn second_socket(socket: &std::fs::File) -> std::fs::File {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut head = [0; 5];
    let mut bytes = [std::io::IoSliceMut::new(&mut head)];
    recvmsg(socket, &mut bytes, &mut beside, RecvFlags::WAITALL).expect("a setup");
    let fds = beside.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let second = fds.flatten().nth(2).expect("three descriptors");
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let mut setup = vec![0; usize::try_from(len).expect("a short setup")];
    let mut rest: &std::fs::File = socket;
    rest.read_exact(&mut setup).expect("a whole setup");
    second.into()
}

/// Says the bytes in the file `at-once`, and those in the file `then` when it has something to do.
fn say_as_told(role: &str, dir: &Path, socket: &mut std::fs::File) {
    let told = |name: &str| std::fs::read(dir.join(name)).expect("a file beside the program");
    let _the_other_side_may_be_gone = socket.write_all(&told("at-once"));
    match role {
        "worker" => drop(wait_for_batch(socket)),
        "zygote" => return answer_each(socket, |_| told("then")),
        _ => {}
    }
    let _the_other_side_may_be_gone = socket.write_all(&told("then"));
}

/// What a zygote could do that is in an attacker's hands.
fn commit_as_zygote(deed: &str, dir: &Path, socket: &mut std::fs::File) {
    let _a_session_of_its_own = rustix::process::setsid();
    let mut say = |bytes: &[u8]| socket.write_all(bytes).is_ok();
    say(&frame(CONTROL, br#"{"Hello":{"version":5}}"#));
    if deed != "ready-for-ever" {
        say(&frame(CONTROL, b"\"Ready\""));
    }
    let forked = |pid: i32| frame(CONTROL, format!(r#"{{"Forked":{{"pid":{pid}}}}}"#).as_bytes());
    match deed {
        "descriptors" => {
            say(&[0, 0, 8, 0, CONTROL]);
            while send_with_descriptors(socket) {}
        }
        "deaf" => {}
        "mute" => while socket.read(&mut [0; 4096]).is_ok_and(|len| len > 0) {},
        "ready-for-ever" => while say(&frame(CONTROL, b"\"Ready\"")) {},
        "answers-unasked" => while say(&forked(1)) {},
        "refuses-for-ever" => {
            let reason = "no ".repeat(30_000);
            while say(&frame(CONTROL, format!(r#"{{"Refused":{{"reason":"{reason}"}}}}"#).as_bytes())) {}
        }
        "endless-frame" => {
            say(&[0, 0, 0, 0x0b, CONTROL]);
            while say(&[b'x'; 4096]) {}
        }
        "one-byte-a-time" => {
            for byte in frame(CONTROL, &[b' '; 900_000]) {
                say(&[byte]);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        "leaves-children" => {
            for _ in 0..4 {
                fork_sibling();
            }
            // The coordinator knows that they are there.
            std::fs::write(dir.join("left"), "").expect("a file beside the program");
            answer_each(socket, |_| frame(99, b"no such frame"));
        }
        "names-itself" => answer_each(socket, |_| forked(own_pid())),
        // Any of the machine's.
        "names" => {
            let pid = std::fs::read_to_string(dir.join("pid")).expect("the file that names a process");
            let pid = pid.trim().parse().expect("a number");
            answer_each(socket, |_| forked(pid));
        }
        // Two requests, one child.
        "names-twice" => {
            let child = fork_sibling();
            answer_each(socket, |_| forked(child));
        }
        other => panic!("there is no deed {other} of a zygote"),
    }
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// A child of this process's parent that sleeps, in a group of its own.
#[expect(unsafe_code, reason = "there is no safe fork")]
fn fork_sibling() -> i32 {
    // SAFETY: without CLONE_VM and with a null stack this is fork, by the only thread of this process.
    match unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT | libc::SIGCHLD, 0, 0, 0, 0) } {
        0 => {
            let _a_group_of_its_own = rustix::process::setpgid(None, None);
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
        pid => i32::try_from(pid).expect("a process id is a positive i32"),
    }
}

/// Answers each message behind the setup.
fn answer_each(socket: &mut std::fs::File, mut answer: impl FnMut(usize) -> Vec<u8>) {
    for n in 0.. {
        let mut head = [0; 5];
        if socket.read_exact(&mut head).is_err() {
            return;
        }
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let mut payload = vec![0; usize::try_from(len).expect("short payloads")];
        socket.read_exact(&mut payload).expect("a whole message");
        if n > 0 && socket.write_all(&answer(n)).is_err() {
            return;
        }
    }
}

/// Sends one byte and 250 copies of a descriptor beside it.
fn send_with_descriptors(socket: &std::fs::File) -> bool {
    const COUNT: usize = 250;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(COUNT))];
    let mut beside = rustix::net::SendAncillaryBuffer::new(&mut space);
    let copies: [BorrowedFd<'_>; COUNT] = [socket.as_fd(); COUNT];
    assert!(beside.push(rustix::net::SendAncillaryMessage::ScmRights(&copies)), "there is room for {COUNT}");
    let sent =
        rustix::net::sendmsg(socket, &[IoSlice::new(b"x")], &mut beside, rustix::net::SendFlags::NOSIGNAL);
    // So many descriptors are under way that the kernel allows no more: for the moment.
    matches!(sent, Ok(_) | Err(rustix::io::Errno::TOOMANYREFS))
}

/// Forges the results of each batch without a look at it, and says that it took no time.
fn answer_at_once(socket: &mut std::fs::File) {
    loop {
        let mut records = &wait_for_batch(socket)[8..];
        let mut answer = Vec::new();
        while let Some((len, rest)) = records.split_first_chunk() {
            // Small records, as they are.
            records = &rest[usize::try_from(u32::from_le_bytes(*len)).expect("short records")..];
            answer.extend(frame(RETURNED, b"forged"));
        }
        answer.extend(frame(BATCH_DONE, &[0; 16]));
        if socket.write_all(&answer).is_err() {
            return;
        }
    }
}

/// Reads up to the next batch, and gives that.
fn wait_for_batch(socket: &mut std::fs::File) -> Vec<u8> {
    let mut read = |len: usize| {
        let mut bytes = vec![0; len];
        // A coordinator that is gone needs no answer.
        socket.read_exact(&mut bytes).unwrap_or_else(|_| std::process::exit(0));
        bytes
    };
    loop {
        let head = read(5);
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let payload = read(usize::try_from(len).expect("short payloads"));
        if head[4] == BATCH {
            return payload;
        }
    }
}
