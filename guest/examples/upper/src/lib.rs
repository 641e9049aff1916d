//! Each record with its ASCII letters in upper case. Other bytes stay unchanged; the record need not be
//! UTF-8.
#![forbid(unsafe_code)]

#[wpool_guest::task]
fn run(mut input: Vec<u8>) -> Vec<u8> {
    input.make_ascii_uppercase();
    input
}
