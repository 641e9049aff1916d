//! A test program: half a million items through a pool, drawn as they are needed; says how many MiB that took
//! at the most.

use wpool::{Isolation, Module, Pool};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    let module = Module::load(std::env::args().nth(1).ok_or("lazy_input MODULE")?)?;
    let pool = Pool::builder(&module).processes(2).isolation(Isolation::Reuse).build()?;
    let upper = pool.func::<String, String>("run")?;
    pool.apply(&upper, "a".to_owned())?;
    let before = peak_mib();
    let mut count = 0;
    for result in pool.imap(&upper, (0..500_000).map(|n| format!("item {n}"))) {
        assert_eq!(result?, format!("ITEM {count}"));
        count += 1;
    }
    assert_eq!(count, 500_000);
    println!("{}", peak_mib().saturating_sub(before));
    Ok(())
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}
