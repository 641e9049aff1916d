//! Counts the primes below each number by trial division: a task that only computes.
#![forbid(unsafe_code)]

#[wpool_guest::task]
fn primes_below(limit: u64) -> usize {
    (2..limit).filter(|&number| is_prime(number)).count()
}

fn is_prime(number: u64) -> bool {
    (2..)
        .take_while(|divisor| divisor * divisor <= number)
        .all(|divisor| number % divisor != 0)
}
