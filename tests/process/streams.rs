//! Input and output.

use super::*;

over_start_methods! {
    every {
        p34_what_a_guest_prints_is_there_at_its_end
        what_a_guest_prints_is_passed_on_as_it_comes
        p36_a_guest_reads_the_input_it_is_given_or_none
        a_large_input_and_a_large_output
    }
    processes {
        a_sink_that_panics_does_not_hang_join
        a_sink_whose_end_panics_does_not_hang_join
    }
}

fn p34_what_a_guest_prints_is_there_at_its_end(method: StartMethod) {
    let mut process = started(failing("panic", method));
    process.join().unwrap();
    assert!(String::from_utf8(process.stderr()).unwrap().contains("panic, as told"));
    assert_eq!(process.stdout(), b"");
}

fn what_a_guest_prints_is_passed_on_as_it_comes(method: StartMethod) {
    let (printed, heard) = std::sync::mpsc::channel();
    let process =
        builder("hello", "bob:60000", method).on_stdout(move |bytes| printed.send(bytes.to_vec()).unwrap());
    let mut process = started(process.build().unwrap());
    let said = heard.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(said.starts_with(process.name().as_bytes()) && process.is_alive());
    process.kill().unwrap();
    process.join().unwrap();
    assert_eq!(process.stdout(), b"", "it was taken");
}

fn a_sink_that_panics_does_not_hang_join(method: StartMethod) {
    let process = builder("hello", "bob:60000", method).on_stdout(|_| panic!("this panic is part of a test"));
    let mut process = started(process.build().unwrap());
    let status = process.join().unwrap();
    assert!(matches!(
        status,
        ExitStatus { exitcode: -9, reason: ExitReason::Failed(TaskError::Broken { .. }) }
    ));
    assert_gone(&[process.pid().unwrap()]);
}

fn a_sink_whose_end_panics_does_not_hang_join(method: StartMethod) {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("this panic is part of a test");
        }
    }
    let panics = Panics;
    let process = builder("hello", "bob:0", method).on_stdout(move |_| assert_eq!(size_of_val(&panics), 0));
    assert_eq!(started(process.build().unwrap()).join().unwrap(), returned());
}

fn p36_a_guest_reads_the_input_it_is_given_or_none(method: StartMethod) {
    let command = |arg| {
        Process::builder(&guest("args")).target(Target::default().argv(["args", arg])).start_method(method)
    };
    for (input, said) in [("two\nthree", "one\ntwo\nthree"), ("", "one\n")] {
        let mut process = started(command("one").input(input).build().unwrap());
        assert_eq!(process.join().unwrap(), returned());
        assert_eq!(String::from_utf8(process.stdout()).unwrap(), said);
    }
    let mut process = started(command("3").build().unwrap());
    let status = process.join().unwrap();
    assert_eq!((status.exitcode, process.stdout().as_slice()), (1, &b"3\n"[..]));
}

fn a_large_input_and_a_large_output(method: StartMethod) {
    let total = Arc::new(Mutex::new(0));
    let counted = total.clone();
    let process =
        Process::builder(&guest("args")).target(Target::default().argv(["args"])).input(vec![b'x'; 20 << 20]);
    let process =
        process.on_stdout(move |bytes| *counted.lock().unwrap() += bytes.len()).start_method(method);
    let mut process = started(process.build().unwrap());
    assert_eq!(process.join().unwrap(), returned());
    assert_eq!(*total.lock().unwrap(), 20 << 20);
}

#[test]
fn an_input_over_its_limit_is_refused() {
    let _bound = time_bound();
    let mut limits = Limits::default();
    limits.input = 3;
    let build = |input: &str| Process::builder(&guest("upper")).input(input).limits(limits.clone()).build();
    assert!(build("abc").is_ok());
    assert!(build("abcd").unwrap_err().to_string().contains("over the limit of 3 bytes"));
}
