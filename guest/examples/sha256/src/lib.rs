//! The SHA-256 digest of each record in lower-case hexadecimal. A record may be any bytes.
#![forbid(unsafe_code)]

use sha2::{Digest, Sha256};

#[wpool_guest::task]
fn run(record: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha256::digest(record);
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}
