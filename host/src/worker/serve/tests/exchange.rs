//! A guest uses shared objects. The other end of the second socket has all answers ready.

use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::protocol::connection;
use crate::protocol::message::Identity;
use crate::spec::exchange::{
    Answer, Ask, BarrierStatus, Bytes, Code, Content, ITEM_LEN_MAX, Item, QueueStatus,
};
use crate::sys::{CoordinatorPage, WorkerPage};
use crate::worker::exchange::Link;
use crate::worker::guest::CurrentProcess;

/// What each instruction of its programs does is said in its text.
const GUEST: &str = include_str!("../../../../../tests/support/guests/exchange.wat");

static ANY_OBJECT: LazyLock<Compiled> = LazyLock::new(|| Compiled::new(GUEST.as_bytes(), true));

const PLAIN: fn(&mut Setup) = |_| ();

/// The results on their way out. What was sent through the second socket before is noted before them.
struct Sender {
    exchange: Connection<OwnedFd>,
    said: Said,
    log: Rc<RefCell<Vec<String>>>,
}

impl Sender {
    /// Notes what has come through the second socket.
    fn note(&mut self) {
        while self.exchange.carrier().is_readable() && self.exchange.fill().is_ok_and(|len| len > 0) {
            while let Some(frame) = self.exchange.next().unwrap() {
                let note = match frame.kind {
                    Kind::Ended => ended(frame.payload),
                    Kind::Ask => asked(&postcard::from_bytes(frame.payload).unwrap()),
                    kind => panic!("{kind:?}"),
                };
                self.log.borrow_mut().push(note);
            }
        }
    }
}

fn ended(payload: &[u8]) -> String {
    let (task, has_returned) = payload.split_first_chunk().unwrap();
    let how = if has_returned == [1] { "ended" } else { "was ended" };
    format!("{how} {}", u64::from_le_bytes(*task))
}

fn asked(ask: &Ask) -> String {
    let timeout = ask.timeout.map(|timeout| format!(" within {timeout:?}")).unwrap_or_default();
    format!("{}: {:?}{timeout}", ask.task, ask.op)
}

impl Carrier for Sender {
    fn recv(&mut self, _: &mut [u8]) -> Result<usize, RecvError> {
        unreachable!("results only go out")
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.note();
        let said = words(bytes).into_iter().filter(|word| word != "BatchDone");
        self.log.borrow_mut().extend(said);
        self.said.write_all(bytes)
    }

    fn is_readable(&self) -> bool {
        false
    }
}

/// Runs each program as a task, in a batch of its own. Gives what went through both sockets, in its order.
fn log_of(programs: &[&[u8]], answers: &[Answer], change: impl FnOnce(&mut Setup)) -> Vec<String> {
    let (mut ours, theirs) = connection::pair().unwrap();
    for answer in answers {
        let mut bytes = Vec::new();
        let answer = postcard::to_allocvec(answer).unwrap();
        frame::write(&mut bytes, Kind::Answer, |out| out.extend_from_slice(&answer));
        Carrier::send(&mut ours, &bytes).unwrap();
    }
    let mut guest = ANY_OBJECT.guest(change);
    let (_page, fd) = CoordinatorPage::create().unwrap();
    let page = Arc::new(WorkerPage::open(fd).unwrap());
    let identity = Identity { name: "PoolWorker-7".to_owned(), index: 7 };
    let link = Link::new(Arc::new(theirs), page.clone(), false);
    guest.enter(CurrentProcess::new(identity, page, Box::new(|| ())).with_link(Some(link)), None);

    let script = programs
        .iter()
        .fold(Script::default().plan(1, RAW, false), |script, program| script.batch(1, &[program]))
        .shutdown();
    let said = Said::default();
    let mut connection = Connection::new(InMemory(&script.0[..], said.clone()), Caps::COORDINATOR);
    let log = Rc::default();
    let exchange = Connection::new(ours, Caps::MEMBER);
    let sender = Sender { exchange, said, log: Rc::clone(&log) };
    let code = serve(&mut connection, sender, &mut guest, &NoTicks::default(), Status::default());
    assert_eq!(code, 0);
    log.take()
}

/// Runs one program whose object is opened first, and compares what is asked of it and what the task gives.
#[track_caller]
fn check_act(program: &str, kind: &str, answers: &[Answer], asked: &[&str], given: &str) {
    let mut all = vec![Answer::Opened { object: 3 }];
    all.extend_from_slice(answers);
    let log = log_of(&[program.as_bytes()], &all, PLAIN);
    let name = format!("{:?}", format!("{}0", kind.split_once(' ').unwrap().1));
    let kind = kind.split_once(' ').unwrap().0;
    let mut expected = vec![format!("1: Open {{ kind: {kind}, name: {name} }}")];
    expected.extend(asked.iter().map(|act| {
        let (act, timeout) = act
            .split_once(" within")
            .map_or((*act, String::new()), |(act, timeout)| (act, format!(" within{timeout}")));
        format!("1: On {{ object: 3, act: {act} }}{timeout}")
    }));
    expected.extend(["ended 1".to_owned(), given.to_owned()]);
    assert_eq!(log, expected, "{program}");
}

fn item(data: &[u8], redelivered: bool) -> Item {
    Item { data: Bytes(data.to_vec()), redelivered }
}

fn items(data: &[&[u8]]) -> Answer {
    Answer::Items { items: data.iter().map(|data| item(data, false)).collect() }
}

fn failed(code: Code, message: &str) -> Answer {
    Answer::Failed { code, message: message.to_owned() }
}

/// The most that the guest can take: its memory, or one item.
fn room() -> u64 {
    Limits::default().memory.min(ITEM_LEN_MAX as u64)
}

#[test]
fn a_queue_is_used_by_its_acts() {
    let queue = |program, answer, asked: &str, given| {
        check_act(program, "Queue q", &[answer], &[asked], given);
    };
    queue("phello", Answer::Count(1), "Put { items: [5 bytes] }", "+");
    queue("p", Answer::Count(1), "Put { items: [0 bytes] }", "+");
    queue(";phello", Answer::Count(1), "Put { items: [5 bytes] } within 20ms", "+");
    queue("Pabc", Answer::Count(3), "Put { items: [1 bytes, 1 bytes, 1 bytes] }", "+3");
    queue("Pabc", Answer::Count(2), "Put { items: [1 bytes, 1 bytes, 1 bytes] }", "+2");
    let get = format!("Get {{ most: 1, longest: {} }}", room());
    queue("g", items(&[b"hello"]), &get, "+hello");
    queue("g", Answer::Items { items: vec![item(b"again", true)] }, &get, "+!again");
    queue(".g", items(&[b""]), &format!("{get} within 0ns"), "+");
    let many = format!("Get {{ most: 100, longest: {} }}", room() / 4);
    queue("G", items(&[b"a", b"", b"ccc"]), &many, "+,a,,ccc");
    queue("d", Answer::Done, "TaskDone { count: 1 }", "+");
    queue("j", Answer::Done, "Join", "+");
    queue("h", Answer::Done, "Close", "+");
    let status = QueueStatus { len: 3, max_len: Some(9), unfinished: 7, is_closed: true };
    queue("y", Answer::Queue(status), "Status", "+371");
}

#[test]
fn an_item_that_is_too_long_to_come_with_others_is_got_alone() {
    let first = format!("Get {{ most: 100, longest: {} }} within 0ns", room() / 4);
    let alone = format!("Get {{ most: 1, longest: {} }} within 0ns", room());
    let answers = [failed(Code::TooLarge, "too long"), items(&[b"alone"])];
    check_act(".G", "Queue q", &answers, &[&first, &alone], "+,alone");
    // A guest with little memory asks for less.
    let answers = [Answer::Opened { object: 0 }, items(&[b"x"])];
    let log = log_of(&[b"g"], &answers, |setup| setup.limits.memory = 1 << 20);
    assert_eq!(log[1], format!("1: On {{ object: 0, act: Get {{ most: 1, longest: {} }} }}", 1 << 20));
}

#[test]
fn a_connection_is_used_by_its_acts() {
    let connection = |program, answer, asked: &str, given| {
        check_act(program, "Connection c", &[answer], &[asked], given);
    };
    connection(">hi", Answer::Count(1), "Put { items: [2 bytes] }", "+");
    let get = |longest| format!("Get {{ most: 1, longest: {longest} }}");
    connection("<", items(&[b"message"]), &get(room()), "+message");
    connection("(", items(&[b"four"]), &get(4), "+four");
    connection("?", Answer::Flag(true), "Poll", "+t");
    connection(")", Answer::Done, "Close", "+");
}

#[test]
fn several_objects_are_waited_for_at_once() {
    let answers = [Answer::Opened { object: 4 }, Answer::Opened { object: 2 }, Answer::Ready(vec![0, 1])];
    let log = log_of(&[b";%"], &answers, PLAIN);
    assert_eq!(log[2..], ["1: Wait { objects: [4, 2] } within 20ms", "ended 1", "+01"]);
}

#[test]
fn values_and_dicts_are_used_by_their_acts() {
    let seven = Answer::Content(Content::Integer(7));
    check_act("v", "Value v", std::slice::from_ref(&seven), &["Add { amount: 1 }"], "+7");
    check_act("V", "Value v", &[seven], &["Swap { expected: Integer(1), new: Integer(7) }"], "+7");
    let was = |data: &[u8]| Answer::Entry(Some(Bytes(data.to_vec())));
    let dict = |program, answer, asked: &str, given| {
        check_act(program, "Dict d", &[answer], &[asked], given);
    };
    dict("Dnew", was(b"old"), "Enter { key: \"key\", data: Some(3 bytes) }", "+:old");
    dict("Dnew", Answer::Entry(None), "Enter { key: \"key\", data: Some(3 bytes) }", "+");
    dict("E", was(b""), "Look { key: \"key\" }", "+:");
    dict("X", was(b"x"), "Enter { key: \"key\", data: None }", "+:x");
    dict("F", Answer::Keys(vec!["a".to_owned(), "bc".to_owned()]), "Keys", "+,a,bc");
    dict("T", Answer::Count(5), "Len", "+5");
    dict("S", Answer::Entry(None), "SwapEntry { key: \"key\", expected: None, new: Some(3 bytes) }", "+");
}

#[test]
fn locks_and_the_rest_are_used_by_their_acts() {
    let release = "Release { count: 1 }";
    let acquired = |owner_died| Answer::Acquired { owner_died };
    for (kind, acquire, released) in [("Lock l", "a", "r"), ("RLock r", "A", "R"), ("Condition k", "k", "K")]
    {
        check_act(acquire, kind, &[acquired(false)], &["Acquire"], "+c");
        check_act(acquire, kind, &[acquired(true)], &["Acquire"], "+d");
        check_act(released, kind, &[Answer::Done], &[release], "+");
    }
    check_act("L", "Lock l", &[Answer::Flag(true)], &["Status"], "+t");
    check_act(
        "+-=",
        "Semaphore s",
        &[Answer::Done, Answer::Done, Answer::Count(4)],
        &["Acquire", release, "Status"],
        "+4",
    );
    let flag = |flag| Answer::Flag(flag);
    check_act(
        "sui;w",
        "Event e",
        &[Answer::Done, Answer::Done, flag(false), flag(true)],
        &["Set", "Clear", "Status", "Wait within 20ms"],
        "+ft",
    );
    let notify = ["Wait", "Notify { count: 1 }", "Notify { count: 4294967295 }"];
    check_act("WnN", "Condition k", &[flag(true), Answer::Done, Answer::Done], &notify, "+t");
    let status = Answer::Barrier(BarrierStatus { parties: 4, waiting: 2, is_broken: true });
    let answers = [Answer::Count(2), Answer::Done, Answer::Done, status];
    check_act("bBCY", "Barrier b", &answers, &["Wait", "Abort", "Reset", "Status"], "+221");
}

#[test]
fn each_code_of_an_error_reaches_the_guest() {
    let codes = [
        Code::NotGranted,
        Code::TimedOut,
        Code::Closed,
        Code::Eof,
        Code::TooLarge,
        Code::Invalid,
        Code::Broken,
        Code::Deadlock,
    ];
    for (number, code) in codes.into_iter().enumerate() {
        let expected = format!("-Failed {{ message: \"{number} so\" }}");
        check_act("j", "Queue q", &[failed(code, "so")], &["Join"], &expected);
    }
}

#[test]
fn the_end_of_a_task_is_told_before_its_outcome_however_the_task_ends() {
    let opened = Answer::Opened { object: 0 };
    let acquired = Answer::Acquired { owner_died: false };
    let held = [opened, acquired];
    let end_of = |program: &str, more: &[Answer], change: fn(&mut Setup)| {
        let mut log = log_of(&[program.as_bytes()], &[&held[..], more].concat(), change);
        assert_eq!(log[1], "1: On { object: 0, act: Acquire }");
        let outcome = log.pop().unwrap();
        let has_returned = outcome.starts_with('+') || outcome.starts_with("-Failed");
        assert_eq!(log.pop().unwrap(), if has_returned { "ended 1" } else { "was ended 1" });
        outcome
    };
    assert_eq!(end_of("a", &[], PLAIN), "+c");
    assert_eq!(end_of("ar", &[failed(Code::Invalid, "no")], PLAIN), "-Failed { message: \"5 no\" }");
    assert_eq!(end_of("az", &[], PLAIN), "-trap: unreachable");
    assert!(
        end_of("ar", &[Answer::TimeIsOver], |setup| setup.limits.time = Some(Duration::from_secs(9)))
            .contains("limit: Time")
    );
    assert_eq!(end_of("ar", &[Answer::Cancelled], PLAIN), "-Cancelled");
    let told = Answer::Trapped { message: "the function panicked".to_owned() };
    assert_eq!(end_of("ar", &[told], PLAIN), "-trap: the function panicked");
    // The answer's own words are wrong, or none: the worker is about to end.
    assert!(end_of("ar", &[Answer::Flag(true)], PLAIN).contains("cannot be read"));
}

#[test]
fn a_task_that_asks_nothing_says_nothing_and_the_next_one_is_told_by_its_number() {
    for isolation in [Isolation::Fresh, Isolation::Reuse] {
        let answers = [Answer::Opened { object: 0 }, Answer::Done, Answer::Done];
        let log = log_of(&[b"", b"j", b"", b"j"], &answers, |setup| setup.isolation = isolation);
        // The object is known when the second task opens it.
        let join = "On { object: 0, act: Join }";
        let expected = [
            "+".to_owned(),
            "2: Open { kind: Queue, name: \"q0\" }".to_owned(),
            format!("2: {join}"),
            "ended 2".to_owned(),
            "+".to_owned(),
            "+".to_owned(),
            format!("4: {join}"),
            "ended 4".to_owned(),
            "+".to_owned(),
        ];
        assert_eq!(log, expected);
    }
}

#[test]
fn a_number_that_is_no_handle_and_a_handle_of_another_kind_trap_before_anything_is_asked() {
    for (program, asked) in [("H", 0), ("f", 2)] {
        let log = log_of(&[program.as_bytes()], &[Answer::Opened { object: 0 }], PLAIN);
        assert_eq!(log.len(), asked + 1, "{log:?}");
        assert!(log[asked].starts_with("-trap: "), "{log:?}");
    }
}

#[test]
fn handles_are_counted() {
    let opened = [Answer::Opened { object: 0 }];
    let flood = b"xOOOOOOOOOOO";
    let log = log_of(&[flood, b"xOOOOOOOOO"], &opened, PLAIN);
    assert_eq!(log[1], "was ended 1");
    assert!(log[2].contains("limit of 10000 handles of a task reached"), "{log:?}");
    // Another task begins without any.
    assert_eq!(log[3..], ["+"]);
}

#[test]
fn what_is_too_long_is_told_to_the_guest_and_nobody_else() {
    let long = vec![b'x'; ITEM_LEN_MAX + 1];
    for (program, what) in [(&b"p"[..], "an item"), (b">", "a message"), (b"D", "an entry")] {
        let program = [program, &long].concat();
        let log = log_of(&[&program], &[Answer::Opened { object: 0 }], |setup| {
            setup.limits.input = 128 << 20;
        });
        assert_eq!(log.len(), 3);
        assert!(log[2].starts_with(&format!("-Failed {{ message: \"4 {what} of 67108865 bytes")), "{log:?}");
    }
}

#[test]
fn items_that_do_not_fit_into_one_request_are_put_by_several() {
    let program = [&b"P"[..], &[b'x'; 4100]].concat();
    let put = |answers: &[Answer]| {
        let answers = [&[Answer::Opened { object: 0 }], answers].concat();
        log_of(&[&program], &answers, PLAIN)
    };
    // The guest shows the lowest byte of the number.
    assert_eq!(put(&[Answer::Count(4096), Answer::Count(4)])[4], "+4");
    // The time-out passes in between: what is put is put.
    assert_eq!(put(&[Answer::Count(4096), failed(Code::TimedOut, "late")])[4], "+0");
    assert_eq!(put(&[failed(Code::Closed, "so")])[3], "-Failed { message: \"2 so\" }");
}
