//! Writes the columns of a line of a job log. A million short tasks a second have a line each.

use crate::cli::record::InputDigest;

/// The most bytes of a line beside its texts from outside.
const ROW_LEN: usize = 320;
/// Eight digits `0`.
const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);
/// The text of a column without a value.
pub(super) const UNKNOWN: &str = "-";

/// Writes the columns of a line, with a tab behind each.
// The room for the whole line is made at once. Then a short column is a copy of fixed length, where an append
// to the vector would be a call and a look at its room.
pub(super) struct Row<'a> {
    log: &'a mut Vec<u8>,
    /// The offset of the next column.
    at: usize,
}

impl<'a> Row<'a> {
    /// Begins a line at the end of `log`. `texts`: the bytes of all texts from outside.
    pub(super) fn begin(log: &'a mut Vec<u8>, texts: usize) -> Row<'a> {
        let at = log.len();
        log.resize(at + ROW_LEN + texts, 0);
        Row { log, at }
    }

    #[inline]
    fn push<const N: usize>(&mut self, bytes: [u8; N]) {
        self.log[self.at..][..N].copy_from_slice(&bytes);
        self.at += N;
    }

    #[inline]
    pub(super) fn text(&mut self, text: &str) {
        self.log[self.at..][..text.len()].copy_from_slice(text.as_bytes());
        self.at += text.len();
        self.push([b'\t']);
    }

    #[inline]
    pub(super) fn number(&mut self, number: u64) {
        match u8::try_from(number) {
            // Half of a line's numbers have one digit.
            Ok(digit @ 0..=9) => self.push([b'0' + digit, b'\t']),
            _ => {
                self.long_number(number);
                self.push([b'\t']);
            }
        }
    }

    /// `1795820394.102`.
    pub(super) fn time(&mut self, seconds: u64, millis: u32) {
        match seconds {
            1_000_000_000..=9_999_999_999 => self.push(digits::<10>(seconds)),
            // Before the year 2001, or after 2286.
            _ => self.long_number(seconds),
        }
        self.push([b'.']);
        self.push(digits::<3>(millis.into()));
        self.push([b'\t']);
    }

    /// `0.000211`.
    pub(super) fn duration(&mut self, seconds: u64, micros: u32) {
        match u8::try_from(seconds) {
            Ok(digit @ 0..=9) => self.push([b'0' + digit]),
            _ => self.long_number(seconds),
        }
        self.push([b'.']);
        self.push(digits::<6>(micros.into()));
        self.push([b'\t']);
    }

    pub(super) fn known(&mut self, number: Option<u64>) {
        match number {
            Some(number) => self.number(number),
            None => self.text(UNKNOWN),
        }
    }

    pub(super) fn digest(&mut self, digest: InputDigest) {
        self.push(digest.hex());
        self.push([b'\t']);
    }

    #[inline]
    fn long_number(&mut self, number: u64) {
        match u32::try_from(number) {
            // Eight digits at once, without the zeros in front: no branch depends on how many there are.
            Ok(number @ 0..=99_999_999) => {
                let digits = u64::from_le_bytes(digits::<8>(number.into()));
                let zeros = ((digits ^ ZEROS).trailing_zeros() / 8).min(7);
                self.push((digits >> (8 * zeros)).to_le_bytes());
                self.at -= zeros as usize;
            }
            _ => {
                let len = 1 + number.checked_ilog10().unwrap_or(0) as usize;
                write_digits(number, &mut self.log[self.at..][..len]);
                self.at += len;
            }
        }
    }

    pub(super) fn end(self) {
        self.log.truncate(self.at);
        // In place of the last tab.
        self.log[self.at - 1] = b'\n';
    }
}

/// The last `N` digits of a number, with zeros in front.
#[inline]
fn digits<const N: usize>(number: u64) -> [u8; N] {
    let mut digits = [0; N];
    write_digits(number, &mut digits);
    digits
}

/// Fills `place` with the last digits of a number.
#[inline]
fn write_digits(mut number: u64, place: &mut [u8]) {
    let mut pairs = place.rchunks_exact_mut(2);
    for pair in &mut pairs {
        pair.copy_from_slice(&PAIRS[usize::try_from(number % 100).expect("below 100")]);
        number /= 100;
    }
    if let [first] = pairs.into_remainder() {
        *first = digit(number % 10);
    }
}

/// The numbers below 100, with two digits each.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number: u8 = 0;
    while number < 100 {
        pairs[number as usize] = [b'0' + number / 10, b'0' + number % 10];
        number += 1;
    }
    pairs
};

fn digit(number: u64) -> u8 {
    b'0' + u8::try_from(number).expect("below 10")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Row<'_>)) -> String {
        let mut log = b"before\n".to_vec();
        let mut row = Row::begin(&mut log, 0);
        write(&mut row);
        row.end();
        String::from_utf8(log).unwrap().strip_prefix("before\n").unwrap().to_owned()
    }

    proptest! {
        #[test]
        fn columns_are_written_as_the_standard_library_writes_them(
            number in prop_oneof![0..200_u64, any::<u64>()],
            seconds in prop_oneof![0..20_u64, 1_000_000_000..10_000_000_000_u64, any::<u64>()],
            part in 0..1_000_000_u32,
        ) {
            prop_assert_eq!(written(|row| row.number(number)), format!("{number}\n"));
            prop_assert_eq!(written(|row| row.known(Some(number))), format!("{number}\n"));
            let millis = part / 1000;
            prop_assert_eq!(written(|row| row.time(seconds, millis)), format!("{seconds}.{millis:03}\n"));
            prop_assert_eq!(written(|row| row.duration(seconds, part)), format!("{seconds}.{part:06}\n"));
        }
    }

    #[test]
    fn numbers_of_any_length_are_written() {
        let mut number = 1;
        while let Some(next) = u64::checked_mul(number, 10) {
            for number in [number - 1, number, number + 1] {
                assert_eq!(written(|row| row.number(number)), format!("{number}\n"));
            }
            number = next;
        }
        assert_eq!(written(|row| row.number(u64::MAX)), format!("{}\n", u64::MAX));
        assert_eq!(written(|row| row.known(None)), "-\n");
    }
}
