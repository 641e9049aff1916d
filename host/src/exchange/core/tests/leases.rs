//! Locks that are leased to the member that has acquired them last.

use super::*;

const RELEASE: Act = Act::Release { count: 1 };

fn held(task: u64, count: u32) -> Lease {
    Lease::Held { task, count }
}

impl Play {
    /// What the word of the lease says that member 1 has.
    fn lease(&self) -> Option<Lease> {
        self.leases.get(&Lessee { member: 1, object: FIRST }).copied()
    }

    /// The worker of member 1 makes a step.
    fn step(&mut self, lease: Lease) {
        self.leases.insert(Lessee { member: 1, object: FIRST }, lease).expect("there is a lease");
    }
}

#[test]
fn a_lock_that_nothing_waits_for_is_leased_to_the_member_that_acquires_it() {
    for spec in [ObjectSpec::Lock, ObjectSpec::RLock] {
        let mut play = Play::of(std::slice::from_ref(&spec));
        assert_eq!(play.act(1, FIRST, Act::Acquire), [answer(1, acquired(false))]);
        assert_eq!(play.lease(), Some(held(1, 1)));
        assert_eq!(play.act(2, FIRST, Act::Acquire), []);
        assert_eq!(play.act(3, FIRST, Act::Acquire), []);
        assert!(play.leases.is_empty(), "it was taken back");
        let released = play.act(1, FIRST, RELEASE);
        assert_eq!(released, [answer(1, Answer::Done), answer(2, acquired(false))]);
        assert!(play.leases.is_empty(), "another waits");
        let released = play.act(2, FIRST, RELEASE);
        assert_eq!(released, [answer(2, Answer::Done), answer(3, acquired(false))]);
        assert!(play.leases.contains_key(&Lessee { member: 3, object: FIRST }), "{spec:?}");
    }
    let mut play = Play::of(&[ObjectSpec::Condition]);
    play.act(1, FIRST, Act::Acquire);
    assert!(play.leases.is_empty());
}

#[test]
fn a_lease_that_is_free_is_taken_back_by_whatever_wants_the_lock() {
    let mut play = Play::of(&[ObjectSpec::Lock]);
    for _ in 0..3 {
        play.act(1, FIRST, Act::Acquire);
        play.step(Lease::Free);
        assert_eq!(play.act(2, FIRST, Act::Acquire), [answer(2, acquired(false))]);
        play.leases.insert(Lessee { member: 2, object: FIRST }, Lease::Free).unwrap();
        let ticket = play.last_ticket + 1;
        assert_eq!(play.host(1, Act::Status, None), [answer_host(ticket, Answer::Flag(false))]);
        assert_eq!(play.host(1, Act::Acquire, None), [answer_host(ticket + 1, acquired(false))]);
        assert_eq!(play.host(1, RELEASE, None), [answer_host(ticket + 2, Answer::Done)]);
    }
}

#[test]
fn l8_l9_the_end_of_a_task_or_a_worker_with_a_leased_lock_is_told_to_the_next_owner() {
    let cases = [(Lease::Free, false), (Lease::Died, true), (held(1, 1), true), (held(9, 3), true)];
    for (lease, owner_died) in cases {
        for spec in [ObjectSpec::Lock, ObjectSpec::RLock] {
            let mut play = Play::of(&[spec]);
            play.act(1, FIRST, Act::Acquire);
            play.step(lease);
            assert_eq!(play.gone(1), []);
            assert_eq!(play.act(2, FIRST, Act::Acquire), [answer(2, acquired(owner_died))], "{lease:?}");
        }
    }
    let mut play = Play::of(&[ObjectSpec::Lock]);
    play.act(1, FIRST, Act::Acquire);
    play.step(Lease::Died);
    assert_eq!(play.act(2, FIRST, Act::Acquire), [answer(2, acquired(true))]);
}

#[test]
fn l6_what_is_taken_back_is_held_as_often_as_the_task_has_acquired_it() {
    let mut play = Play::of(&[ObjectSpec::RLock]);
    play.act(1, FIRST, Act::Acquire);
    play.step(held(1, 3));
    assert_eq!(play.act(2, FIRST, Act::Acquire), []);
    assert_eq!(play.act(1, FIRST, Act::Acquire), [answer(1, acquired(false))]);
    assert_eq!(play.lease(), None, "another waits");
    for _ in 0..3 {
        assert_eq!(play.act(1, FIRST, RELEASE), [answer(1, Answer::Done)]);
    }
    assert_eq!(play.act(1, FIRST, RELEASE), [answer(1, Answer::Done), answer(2, acquired(false))]);
}

#[test]
fn x8_the_late_word_of_an_earlier_task_releases_nothing_that_a_later_one_holds_by_a_lease() {
    let mut play = Play::of(&[ObjectSpec::Lock, queue(None)]);
    play.act(1, FIRST, Act::Acquire);
    play.act(1, 1, Act::Status);
    // Task 2 acquires the lock by the lease. The coordinator has not read yet that task 1 is over.
    play.step(held(2, 1));
    assert_eq!(play.act(2, FIRST, Act::Acquire), []);
    assert_eq!(play.ended(1, 1), []);
    let invalid = failed(Code::Invalid, "lock a is not held by this task");
    assert_eq!(play.act(3, FIRST, RELEASE), [answer(3, invalid)]);
    let released = play.act_in(1, 2, FIRST, RELEASE);
    assert_eq!(released, [answer(1, Answer::Done), answer(2, acquired(false))]);
    // The end of task 2 would release it, and that of a later task too.
    for last in [2, 5] {
        let mut play = Play::of(&[ObjectSpec::Lock]);
        play.act(1, FIRST, Act::Acquire);
        play.step(held(2, 1));
        assert_eq!(play.act(2, FIRST, Act::Acquire), []);
        assert_eq!(play.ended(1, last), [answer(2, acquired(true))]);
    }
}

#[test]
fn x12_the_holder_of_a_leased_lock_is_known_in_a_ring_of_waits() {
    let mut play = Play::of(&[ObjectSpec::Lock, ObjectSpec::Lock]);
    play.drop_handles();
    play.act(1, 0, Act::Acquire);
    play.act(2, 1, Act::Acquire);
    assert_eq!(play.leases.len(), 2);
    assert_eq!(play.act(1, 1, Act::Acquire), []);
    play.pass(1);
    assert_eq!(play.act(2, 0, Act::Acquire), []);
    let told = "lock a is held by PoolWorker-1, which waits for lock b, held by this task";
    assert!(play.pass(300).contains(&answer(2, failed(Code::Deadlock, told))));
    // A task that waits for itself.
    let mut play = Play::of(&[ObjectSpec::Lock]);
    play.act(1, FIRST, Act::Acquire);
    assert_eq!(play.act(1, FIRST, Act::Acquire), []);
    let told = "lock a is held by this task itself";
    assert!(play.pass(300).contains(&answer(1, failed(Code::Deadlock, told))));
}

#[test]
fn x16_a_word_that_no_worker_of_ours_writes_gives_the_lock_to_one_owner_all_the_same() {
    for word in [0, 2, 3, u64::MAX, u64::MAX - 3, 0xffff << 16 | 3] {
        let mut play = Play::of(&[ObjectSpec::Lock]);
        play.act(1, FIRST, Act::Acquire);
        play.step(Lease::from_word(word));
        let first = play.act(2, FIRST, Act::Acquire);
        let second = play.act(3, FIRST, Act::Acquire);
        assert_eq!(second, [], "{word:x}");
        let waits = first.is_empty();
        assert!(waits || first == [answer(2, acquired(true))]);
        assert_eq!(play.gone(1).is_empty(), !waits, "{word:x}");
        assert_eq!(play.act(2, FIRST, RELEASE), [answer(2, Answer::Done), answer(3, acquired(false))]);
    }
}

#[test]
fn an_object_behind_the_last_word_is_not_leased() {
    let mut play = Play::of(&vec![ObjectSpec::Lock; 66]);
    for (object, is_leased) in [(63, true), (64, false), (65, false)] {
        assert_eq!(play.act(1, object, Act::Acquire), [answer(1, acquired(false))]);
        assert_eq!(play.leases.contains_key(&Lessee { member: 1, object }), is_leased, "{object}");
    }
}
