//! A record as the job log knows it. `labels` keeps this while the record's task runs.

use sha2::{Digest as _, Sha256};

/// What the job log will say of a record when its task is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordFact {
    pub(super) digest: InputDigest,
    /// Bytes of the whole record.
    pub(super) len: u64,
    /// An earlier run has logged a failure of this record.
    pub(super) is_rerun: bool,
}

/// The first half of the SHA-256 of a record, by which the job log recognises it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InputDigest([u8; 16]);

impl std::fmt::Debug for InputDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl InputDigest {
    pub(super) fn of(record: &[u8]) -> InputDigest {
        let whole: [u8; 32] = Sha256::digest(record).into();
        InputDigest(whole[..16].try_into().expect("16 of 32 bytes"))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The digest in hex.
    #[inline]
    pub(super) fn hex(self) -> [u8; 32] {
        let mut digits = [0; 32];
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(self.0) {
            *pair = hex_digits(byte);
        }
        digits
    }

    pub(super) fn parse(text: &str) -> Option<InputDigest> {
        let digits = text.as_bytes();
        let mut bytes = [0; 16];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |d: u8| match d {
                b'0'..=b'9' => Some(d - b'0'),
                b'a'..=b'f' => Some(d - b'a' + 10),
                _ => None,
            };
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(InputDigest(bytes))
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| hex_digits(*byte)).map(char::from).collect()
}

#[inline]
fn hex_digits(byte: u8) -> [u8; 2] {
    // Without a table and without checks: then the compiler writes all digits of a digest at once. No sum is
    // over 255.
    let digit = |n: u8| n.wrapping_add(if n < 10 { b'0' } else { b'a' - 10 });
    [digit(byte >> 4), digit(byte & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_in_the_one_form_in_which_it_is_written() {
        let written = "0123456789abcdef0123456789abcdef";
        assert!(InputDigest::parse(written).is_some());
        for wrong in [
            &written.to_uppercase()[..],
            &written[..31],
            &format!("{written}0"),
            "",
            "g123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(InputDigest::parse(wrong), None, "{wrong}");
        }
    }
}
