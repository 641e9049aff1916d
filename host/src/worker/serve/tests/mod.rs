//! The worker's loop over a connection in memory: no process, no socket, a real guest.

use std::cell::RefCell;
use std::io::Write;
use std::os::fd::AsFd;
use std::rc::Rc;

use rustix::fs::MemfdFlags;

use super::super::guest::compile;
use super::*;
use crate::protocol::VERSION;
use crate::protocol::connection::InMemory;
use crate::protocol::frame::Caps;
use crate::protocol::message::{Failure, Setup};
use crate::protocol::outgoing::Outgoing;
use crate::spec::{
    Call, Codegen, FixedArgs, FixedForm, Grants, Input, Isolation, Limits, ModuleInfo, Output,
};
use crate::worker::outbox::OUTBOX_LEN;

/// The echo guest, except that a record that begins with `!` is a trap.
fn guest_text() -> String {
    let echo = include_str!("../../../../../guest/examples/wat/echo.wat");
    let ok = "(i32.store8 (i32.const 16) (i32.const 0))";
    assert!(echo.contains(ok));
    let trap = "(if (i32.eq (i32.load8_u (local.get $record)) (i32.const 33)) (then (unreachable)))";
    echo.replace(ok, &format!("{trap} {ok}"))
}

fn guest(once: bool) -> Guest {
    let compiled = Compiled::new(guest_text().as_bytes(), true);
    compiled.guest(|setup| setup.once = once)
}

/// A module, compiled once for several workers.
struct Compiled {
    info: ModuleInfo,
    artefact: OwnedFd,
}

impl Compiled {
    fn new(module: &[u8], text: bool) -> Compiled {
        Compiled::with(module, text, Codegen::default())
    }

    fn with(module: &[u8], text: bool, codegen: Codegen) -> Compiled {
        let (info, code) = compile(module, text, &Limits::default(), codegen, |_, _| {}).unwrap();
        let artefact = rustix::fs::memfd_create("artefact", MemfdFlags::CLOEXEC).unwrap();
        std::fs::File::from(artefact.try_clone().unwrap()).write_all(&code).unwrap();
        Compiled { info, artefact }
    }

    fn guest(&self, change: impl FnOnce(&mut Setup)) -> Guest {
        let mut setup = Setup::new(self.info.clone(), Limits::default(), Grants::default());
        change(&mut setup);
        Guest::load(&setup, &setup.limits, self.artefact.as_fd(), &[]).unwrap()
    }
}

/// No guest here takes long.
#[derive(Default)]
struct NoTicks(Outbox);

impl Ticks for NoTicks {
    fn start(&self) {}

    fn stop(&self) {}

    fn outbox(&self) -> Outbox {
        self.0.clone()
    }
}

/// Both ways out of the worker end here, in their order.
#[derive(Clone, Default)]
struct Said(Rc<RefCell<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A call of `run`, whose one argument is fixed if there are bytes.
fn fixing(bytes: Option<Vec<u8>>) -> Call {
    let mut fixed = FixedArgs::default();
    fixed.push(bytes.map(|bytes| (FixedForm::Raw, bytes)));
    let (input, output) = RAW;
    Call { path: "run".to_owned(), input, output, fixed, argv: vec![], ok_exit: vec![], timed: false }
}

/// What a coordinator says, frame by frame.
#[derive(Default)]
struct Script(Vec<u8>);

impl Script {
    fn plan(mut self, id: u32, form: (Input, Output), timed: bool) -> Script {
        let (input, output) = form;
        let call = Call { input, output, timed, ..fixing(None) };
        message::write_control(&mut self.0, &ToWorker::Plan { id, call });
        self
    }

    fn plan_fixing(mut self, id: u32, bytes: Vec<u8>) -> Script {
        let mut outgoing = Outgoing::default();
        outgoing.say(&ToWorker::Plan { id, call: fixing(Some(bytes)) });
        while !outgoing.is_empty() {
            self.0.extend_from_slice(outgoing.front());
            outgoing.advance(outgoing.front().len());
        }
        self
    }

    fn forget(mut self, id: u32) -> Script {
        message::write_control(&mut self.0, &ToWorker::Forget { id });
        self
    }

    fn batch(mut self, plan: u32, records: &[&[u8]]) -> Script {
        frame::write(&mut self.0, Kind::Batch, |out| {
            Batch::write_head(out, plan, 1);
            records.iter().for_each(|record| Batch::write_record(out, record));
        });
        self
    }

    fn shutdown(mut self) -> Script {
        message::write_control(&mut self.0, &ToWorker::Shutdown);
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Script {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The exit code, and what the worker said: `+` and a result, `-` and a failure, or the frame's kind.
    fn run(self, once: bool) -> (i32, Vec<String>) {
        self.run_in(guest(once))
    }

    fn run_in(self, mut guest: Guest) -> (i32, Vec<String>) {
        let said = Said::default();
        let mut connection = Connection::new(InMemory(&self.0[..], said.clone()), Caps::COORDINATOR);
        let sender = InMemory(io::empty(), said.clone());
        let code = serve(&mut connection, sender, &mut guest, &NoTicks::default(), Status::default());
        let bytes = said.0.take();
        (code, words(&bytes))
    }
}

fn words(mut bytes: &[u8]) -> Vec<String> {
    let mut words = Vec::new();
    while let Some(frame) = frame::parse(bytes).unwrap() {
        let text = String::from_utf8_lossy(frame.payload);
        words.push(match frame.kind {
            Kind::Returned if text.len() > 20 => format!("+{} bytes", text.len()),
            Kind::Returned => format!("+{text}"),
            Kind::Failed => match message::read_failure(frame.payload).unwrap() {
                Failure::Trap { message, .. } => format!("-trap: {message}"),
                Failure::BadRecord { message } => format!("-bad record: {message}"),
                other => format!("-{other:?}"),
            },
            Kind::Control => text.into_owned(),
            Kind::Stdout => format!("printed {text}"),
            kind => format!("{kind:?}"),
        });
        bytes = &bytes[frame.len()..];
    }
    assert!(bytes.is_empty(), "half a frame");
    words
}

const RAW: (Input, Output) = (Input::Raw, Output::Raw);

#[track_caller]
fn check(script: Script, code: i32, said: &[&str]) {
    let (ended, words) = script.run(false);
    assert_eq!(words[0], "\"Ready\"");
    assert_eq!((ended, &words[1..].iter().map(String::as_str).collect::<Vec<_>>()[..]), (code, said));
}

#[test]
fn results_come_in_the_order_of_their_records() {
    let script =
        Script::default().plan(1, RAW, false).batch(1, &[b"a", b"", b"c"]).batch(1, &[b"d"]).shutdown();
    check(script, 0, &["+a", "+", "+c", "BatchDone", "+d", "BatchDone"]);
}

#[test]
fn a_failing_record_costs_itself_only() {
    let script = Script::default().plan(1, RAW, false).batch(1, &[b"a", b"!", b"c"]).shutdown();
    check(script, 0, &["+a", "-trap: unreachable", "+c", "BatchDone"]);
}

#[test]
fn each_batch_is_run_by_its_own_plan() {
    let wave = (Input::Wave, Output::Wave);
    let script = Script::default().plan(1, RAW, false).plan(2, wave, false);
    let script =
        script.batch(2, &[b"[104, 105]"]).batch(1, &[b"[104, 105]"]).batch(2, &[b"hi"]).batch(3, &[b"x"]);
    let (code, said) = script.shutdown().run(false);
    assert_eq!((code, &said[1][..], &said[3][..]), (0, "+[104, 105]", "+[104, 105]"));
    assert!(said[5].starts_with("-bad record: expected list<u8>"), "{said:?}");
    assert_eq!(said[7], "-bad record: the coordinator named an unknown plan");
}

#[test]
fn a_forgotten_plan_is_unknown_until_it_is_told_again() {
    let script = Script::default().plan(1, RAW, false).batch(1, &[b"a"]).forget(1).forget(7);
    let script = script.batch(1, &[b"b"]).plan(1, RAW, false).batch(1, &[b"c"]).shutdown();
    let unknown = "-bad record: the coordinator named an unknown plan";
    check(script, 0, &["+a", "BatchDone", unknown, "BatchDone", "+c", "BatchDone"]);
}

#[test]
fn fixed_arguments_come_in_pieces_before_their_plan() {
    let long = vec![b'x'; 1_000_000];
    let script = Script::default().plan_fixing(1, b"once".to_vec()).plan_fixing(2, long);
    let script = script.batch(1, &[b"a", b"b"]).batch(2, &[b"c"]).shutdown();
    check(script, 0, &["+once", "+once", "BatchDone", "+1000000 bytes", "BatchDone"]);
}

#[test]
fn a_plan_with_the_arguments_of_another_ends_the_worker() {
    let plan = |bytes: Option<&[u8]>| {
        let mut message = Vec::new();
        let call = fixing(bytes.map(<[u8]>::to_vec));
        message::write_control(&mut message, &ToWorker::Plan { id: 1, call });
        message
    };
    let mut piece = Vec::new();
    frame::write(&mut piece, Kind::Fixed, |out| out.extend_from_slice(b"piece"));
    for bytes in [
        plan(Some(b"piece")),
        [&piece[..], &plan(None)].concat(),
        [&piece[..], &plan(Some(b"longer than that"))].concat(),
        [&piece[..], &piece, &plan(Some(b"piece"))].concat(),
    ] {
        check(Script::default().bytes(&bytes).shutdown(), EXIT_SOFTWARE, &[]);
    }
    let whole = [&piece[..], &plan(Some(b"piece"))].concat();
    check(Script::default().bytes(&whole).batch(1, &[b"a"]).shutdown(), 0, &["+piece", "BatchDone"]);
}

#[test]
fn a_timed_plan_tells_the_time_before_each_result() {
    let script = Script::default().plan(1, RAW, true).batch(1, &[b"a", b"!"]).shutdown();
    check(script, 0, &["Took", "Used", "+a", "Took", "Used", "-trap: unreachable", "BatchDone"]);
}

#[test]
fn long_results_go_out_before_the_batch_is_done() {
    let long = vec![b'x'; 3 * OUTBOX_LEN];
    let script = Script::default().plan(1, RAW, false).batch(1, &[&long, b"a"]).shutdown();
    check(script, 0, &["+196608 bytes", "+a", "BatchDone"]);
}

#[test]
fn the_coordinators_end_is_the_workers_end() {
    check(Script::default(), 0, &[]);
    check(Script::default().plan(1, RAW, false).batch(1, &[b"a"]).bytes(&[9, 0, 0]), 0, &["+a", "BatchDone"]);
}

#[test]
fn after_a_shutdown_nothing_is_run() {
    check(Script::default().plan(1, RAW, false).shutdown().batch(1, &[b"a"]), 0, &[]);
}

#[test]
fn nonsense_ends_the_worker() {
    let mut setup = Vec::new();
    let limits = Limits::default();
    message::write_control(
        &mut setup,
        &ToWorker::Compile {
            version: VERSION,
            text: true,
            limits,
            codegen: Codegen::default(),
            most: crate::spec::CompileLimits::default(),
            #[cfg(feature = "fault-points")]
            fault: None,
        },
    );
    let frame = |kind: Kind, payload: &[u8]| {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, kind, |out| out.extend_from_slice(payload));
        bytes
    };
    for bytes in [
        setup,
        frame(Kind::Returned, b"a worker's word"),
        frame(Kind::Control, b"{}"),
        frame(Kind::Control, b"\xff"),
        frame(Kind::Batch, b"short"),
        vec![0, 0, 0, 0, 99],
        vec![0xff, 0xff, 0xff, 0xff, 2],
    ] {
        check(Script::default().bytes(&bytes).shutdown(), EXIT_SOFTWARE, &[]);
    }
}

#[test]
fn a_record_longer_than_its_batch_ends_the_worker() {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, Kind::Batch, |out| {
        Batch::write_head(out, 1, 1);
        out.extend_from_slice(&u32::MAX.to_le_bytes());
    });
    check(Script::default().plan(1, RAW, false).bytes(&bytes), EXIT_SOFTWARE, &[]);
}

#[test]
fn a_process_runs_one_task_and_ends_with_its_exit_code() {
    for (record, code) in [(&b"a"[..], 0), (b"!", 1)] {
        let script = Script::default().plan(1, RAW, false).batch(1, &[record]).batch(1, &[b"never"]);
        let (ended, said) = script.run(true);
        assert_eq!((ended, said.len()), (code, 3), "{said:?}");
    }
}

mod exchange;
mod many;
