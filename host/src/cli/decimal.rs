//! Numbers in decimal digits, without the machinery of `std::fmt`: a million short tasks a second have
//! several numbers each.

/// The most digits of a number.
const DIGITS_MAX: usize = 20;

/// All pairs of digits, one after the other.
static PAIRS: [[u8; 2]; 100] = pairs();

const fn pairs() -> [[u8; 2]; 100] {
    let mut pairs = [[b'0'; 2]; 100];
    let (mut at, mut tens, mut ones) = (0, b'0', b'0');
    while at < 100 {
        pairs[at] = [tens, ones];
        (tens, ones) = if ones == b'9' { (tens + 1, b'0') } else { (tens, ones + 1) };
        at += 1;
    }
    pairs
}

/// The digits of a number.
pub(super) struct Decimal {
    digits: [u8; DIGITS_MAX],
    len: usize,
}

impl Decimal {
    /// `number` with at least `least` digits, and zeros in front.
    #[inline]
    pub(super) fn new(number: u64, least: usize) -> Decimal {
        let mut digits = [b'0'; DIGITS_MAX];
        let len = len(number).max(least);
        fill(&mut digits[..len], number);
        Decimal { digits, len }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.digits[..self.len]
    }
}

/// Appends `number` with at least `least` digits, and zeros in front.
#[inline]
pub(super) fn push(to: &mut Vec<u8>, number: u64, least: usize) {
    let start = to.len();
    // Room of a constant size is added without a call, and cut to what is needed.
    to.extend_from_slice(&[b'0'; DIGITS_MAX]);
    to.truncate(start + len(number).max(least));
    fill(&mut to[start..], number);
}

#[inline]
fn len(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Writes the digits to the end of zeros, which have room for them.
#[inline]
fn fill(zeros: &mut [u8], mut number: u64) {
    let mut end = zeros.len();
    while number >= 10 {
        zeros[end - 2..end].copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
        end -= 2;
    }
    if number > 0 {
        zeros[end - 1] = PAIRS[(number % 10) as usize][1];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_those_of_the_standard_library(
            number in any::<u64>(),
            bits in 0..64,
            least in 1..=DIGITS_MAX,
        ) {
            let number = number >> bits;
            let expected = format!("{number:0least$}");
            let decimal = Decimal::new(number, least);
            prop_assert_eq!(std::str::from_utf8(decimal.as_bytes()).unwrap(), &expected);
            let mut text = b"a".to_vec();
            push(&mut text, number, least);
            prop_assert_eq!(String::from_utf8(text).unwrap(), format!("a{expected}"));
        }
    }
}
