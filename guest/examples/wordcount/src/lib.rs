//! Counts the words of each record.
#![forbid(unsafe_code)]

// As JSON, so from record to record: the host may call once for many records.
#[wpool_guest::task(json)]
fn run(line: &str) -> usize {
    line.split_whitespace().count()
}
