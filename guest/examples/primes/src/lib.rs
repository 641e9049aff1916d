//! Counts the primes below each number by trial division: a task that only computes.
#![forbid(unsafe_code)]

// As JSON, so from record to record: the host may call once for many records.
#[wpool_guest::task(json)]
fn run(limit: u64) -> usize {
    (2..limit).filter(|&number| is_prime(number)).count()
}

fn is_prime(number: u64) -> bool {
    (2..)
        .take_while(|divisor| divisor * divisor <= number)
        .all(|divisor| number % divisor != 0)
}
