//! Bytes as hexadecimal digits.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The lower-case digit of the last four bits.
pub(super) fn digit(number: u64) -> u8 {
    usize::try_from(number & 0xf)
        .ok()
        .and_then(|nibble| DIGITS.get(nibble))
        .copied()
        .unwrap_or(b'0')
}

/// Two lower-case digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(digit(nibble.into()));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// The bytes of these digits, in either case; `None` when they are none, or an odd number.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let nibble =
        |digit: u8| char::from(digit).to_digit(16).and_then(|nibble| u8::try_from(nibble).ok());
    pairs.iter().map(|&[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_bytes_and_nothing_else_is() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&all)), Some(all));
        assert_eq!(unhex("fFAb0"), None);
        assert_eq!(unhex("fFAb"), Some(vec![0xff, 0xab]));
        for bad in ["0g", "+1", " 1", "ä"] {
            assert_eq!(unhex(bad), None, "{bad:?}");
        }
    }
}
