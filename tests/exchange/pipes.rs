//! Pipes over threads of the host.

use std::time::Duration;

use wpool::Policy;
use wpool::ipc::{IpcError, Queue, Waitable, pipe, simplex_pipe, wait};

use crate::support::time_bound;
use crate::{A_MOMENT, FOR_EVER, elsewhere, takes_a_moment};

#[test]
fn c1_both_ends_send_and_receive() {
    let _bound = time_bound();
    let (here, there) = pipe::<String>();
    let echo = elsewhere(move || {
        while let Ok(message) = there.recv() {
            there.send(&message.to_uppercase()).unwrap();
        }
    });
    for (sent, received) in [("a", "A"), ("bc", "BC")] {
        here.send(&sent.to_owned()).unwrap();
        assert_eq!(here.recv().unwrap(), received);
    }
    drop(here);
    echo.join().unwrap();
}

#[test]
fn c1_the_ends_of_a_simplex_pipe_have_a_direction() {
    let (receiver, sender) = simplex_pipe::<u32>();
    sender.send(&1).unwrap();
    assert_eq!(receiver.recv(), Ok(1));
    assert_eq!(receiver.try_recv(), Err(IpcError::TimedOut));
}

#[test]
fn c2_messages_keep_their_boundaries_and_empty_ones_count() {
    let (here, there) = pipe::<Vec<u8>>();
    let sent = [&b"a"[..], b"", b"bc\n", b"\0", b""];
    sent.iter().for_each(|message| here.send(&message.to_vec()).unwrap());
    sent.iter().for_each(|message| assert_eq!(there.recv().unwrap(), *message));
    assert_eq!(there.try_recv(), Err(IpcError::TimedOut));
}

#[test]
fn c3_a_message_of_16_mib_comes_in_one_piece() {
    let _bound = time_bound();
    let (here, there) = pipe::<Vec<u8>>();
    let message: Vec<u8> = (0..16 << 20).map(|n: u32| (n % 251) as u8).collect();
    here.send(&message).unwrap();
    assert!(there.recv().unwrap() == message);
    let Err(IpcError::TooLarge(_)) = here.send(&vec![0; (64 << 20) + 1]) else { panic!("it was sent") };
}

#[test]
fn c4_poll_looks_and_waits_and_takes_nothing() {
    let _bound = time_bound();
    let (here, there) = pipe::<Vec<u8>>();
    assert_eq!(there.poll(Duration::ZERO), Ok(false));
    assert_eq!(takes_a_moment(|| there.poll(A_MOMENT)), Ok(false));
    let waiting = elsewhere({
        let there = there.clone();
        move || there.poll(FOR_EVER)
    });
    here.send(&Vec::new()).unwrap();
    assert_eq!(waiting.join().unwrap(), Ok(true));
    assert_eq!([there.poll(Duration::ZERO), there.poll(FOR_EVER)], [Ok(true), Ok(true)]);
    assert_eq!(there.recv(), Ok(Vec::new()));
    assert_eq!(there.poll(Duration::ZERO), Ok(false));
}

#[test]
fn c5_at_the_end_of_a_pipe_recv_is_eof_and_send_has_no_receiver() {
    let _bound = time_bound();
    let (here, there) = pipe::<u32>();
    there.send(&1).unwrap();
    let waiting = elsewhere({
        let here = here.clone();
        move || (here.recv(), here.recv())
    });
    drop(there);
    assert_eq!(waiting.join().unwrap(), (Ok(1), Err(IpcError::Eof)));
    assert_eq!((here.recv(), here.try_recv()), (Err(IpcError::Eof), Err(IpcError::Eof)));
    assert_eq!(here.poll(FOR_EVER), Ok(true));
    assert_eq!(here.send(&2), Err(IpcError::PeerGone));
}

#[test]
fn c6_an_end_that_a_policy_has_is_open_without_its_handle() {
    let (here, there) = pipe::<u32>();
    let policy = Policy::sealed().share("there", &there);
    drop(there);
    here.send(&1).unwrap();
    drop(policy);
    assert_eq!(here.send(&1), Err(IpcError::PeerGone));
}

#[test]
fn c8_a_message_that_is_too_long_is_dropped_and_the_pipe_goes_on() {
    let (here, there) = pipe::<Vec<u8>>();
    here.send(&vec![0; 100]).unwrap();
    here.send(&vec![1; 99]).unwrap();
    let Err(IpcError::TooLarge(why)) = there.recv_max(99) else { panic!("it was received") };
    assert!(why.contains("100 bytes") && why.contains("dropped"), "{why}");
    assert_eq!(there.recv_max(99), Ok(vec![1; 99]));
}

#[test]
fn c10_a_closed_end_is_closed_for_all_its_handles() {
    let _bound = time_bound();
    let (here, there) = pipe::<u32>();
    here.send(&1).unwrap();
    let again = here.clone();
    here.close().unwrap();
    again.close().unwrap();
    assert_eq!((again.send(&2), again.recv()), (Err(IpcError::Closed), Err(IpcError::Closed)));
    assert_eq!((there.recv(), there.recv()), (Ok(1), Err(IpcError::Eof)));
}

#[test]
fn c11_an_end_goes_to_another_thread_with_what_is_in_it() {
    let (here, there) = pipe::<u32>();
    here.send(&5).unwrap();
    assert_eq!(elsewhere(move || there.recv()).join().unwrap(), Ok(5));
    assert_eq!(here.recv(), Err(IpcError::Eof));
}

#[test]
fn c12_wait_tells_all_that_are_ready() {
    let _bound = time_bound();
    let (queue, (a, to_a), (b, to_b)) = (Queue::<u32>::unbounded(), pipe::<u32>(), simplex_pipe::<u32>());
    let all: [&dyn Waitable; 3] = [&queue, &a, &b];
    assert_eq!(wait(&all, Some(Duration::ZERO)), Ok(vec![]));
    assert_eq!(takes_a_moment(|| wait(&all, Some(A_MOMENT))), Ok(vec![]));
    let sender = elsewhere(move || to_b.send(&1).map(|()| to_b));
    assert_eq!(wait(&all, None), Ok(vec![2]));
    queue.put(&1).unwrap();
    assert_eq!(wait(&all, Some(FOR_EVER)), Ok(vec![0, 2]));
    // The end of a pipe is something that `recv` gives at once.
    drop(to_a);
    assert_eq!(wait(&all, None), Ok(vec![0, 1, 2]));
    assert_eq!((queue.get(), a.recv(), b.recv()), (Ok(1), Err(IpcError::Eof), Ok(1)));
    assert_eq!(wait(&all, Some(Duration::ZERO)), Ok(vec![1]));
    assert!(sender.join().unwrap().is_ok());
    queue.close().unwrap();
    assert_eq!(wait(&[&queue], None), Ok(vec![0]));
}
