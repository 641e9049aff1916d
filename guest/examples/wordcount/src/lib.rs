//! Counts the words of each record.
#![forbid(unsafe_code)]

#[wpool_guest::task]
fn count(line: &str) -> usize {
    line.split_whitespace().count()
}
