//! What is plain in JSON, by its bytes.

/// What follows the spaces.
#[inline]
pub(super) fn without_spaces(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [b' ' | b'\n' | b'\t' | b'\r', others @ ..] = rest {
        rest = others;
    }
    rest
}

/// A whole number of digits that surely fits, and what follows it. Digits by eights are no gain: most numbers are short.
#[inline]
pub(super) fn digits(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (mut number, mut rest) = (0_u64, bytes);
    while let [digit @ b'0'..=b'9', others @ ..] = rest {
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        rest = others;
    }
    let len = bytes.len() - rest.len();
    let is_plain = (1..20).contains(&len) && !(len > 1 && bytes.first() == Some(&b'0'));
    is_plain.then_some((number, rest))
}

/// Keys are too short to be worth a call.
#[inline]
pub(super) fn starts_with(bytes: &[u8], start: &[u8]) -> bool {
    let Some(bytes) = bytes.get(..start.len()) else { return false };
    let (Some(last), Some(start_last)) = (bytes.last_chunk::<8>(), start.last_chunk()) else {
        return bytes == start;
    };
    let (mut rest, mut start_rest) = (bytes, start);
    while let (Some((word, others)), Some((start_word, start_others))) =
        (rest.split_first_chunk::<8>(), start_rest.split_first_chunk())
    {
        if word != start_word {
            return false;
        }
        (rest, start_rest) = (others, start_others);
    }
    last == start_last
}

/// How many bytes both begin with.
#[inline]
pub(super) fn common_len(one: &[u8], other: &[u8]) -> usize {
    let mut len = 0;
    let words = one.as_chunks::<16>().0.iter().zip(other.as_chunks().0);
    for (word, other) in words {
        let differs = u128::from_le_bytes(*word) ^ u128::from_le_bytes(*other);
        if differs != 0 {
            return len + usize::try_from(differs.trailing_zeros() / 8).unwrap_or(0);
        }
        len += word.len();
    }
    let rest = one.iter().zip(other).skip(len);
    len + rest.take_while(|(byte, other)| byte == other).count()
}

/// The bytes up to a closing quote; `None` if something comes before it that is not plain.
#[inline]
pub(super) fn text_len(bytes: &[u8]) -> Option<usize> {
    let mut len = 0;
    for chunk in bytes.as_chunks().0 {
        let special = special(u64::from_le_bytes(*chunk));
        if special != 0 {
            // Of the marks the lowest one is right, as the first byte is the lowest.
            len += usize::try_from(special.trailing_zeros() / 8).unwrap_or(0);
            break;
        }
        len += chunk.len();
    }
    let rest = bytes.get(len..)?.iter();
    let (more, byte) = rest.enumerate().find(|(_, byte)| matches!(byte, 0..0x20 | b'"' | b'\\'))?;
    (*byte == b'"').then_some(len + more)
}

/// Marks bytes that end a text or are not plain in it, by their highest bit; a byte above one of them may be marked, too
/// (Mycroft's null byte detection).
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | is(b'"') | is(b'\\')) & (ONES << 7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn common_bytes_are_counted(start in "[ab]{0,40}", one in "[ab]{0,20}", other in "[ab]{0,20}") {
            let [one, other] = [one, other].map(|end| format!("{start}{end}"));
            let expected = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other);
            prop_assert_eq!(common_len(one.as_bytes(), other.as_bytes()), expected.count());
        }

        #[test]
        fn digits_are_their_number(number in any::<u64>(), shift in 0..64_u32, more in "[^0-9][0-9a-z]{0,9}|") {
            let number = number >> shift;
            let text = format!("{number}{more}");
            let expected = (number < 10_000_000_000_000_000_000).then_some((number, more.as_bytes()));
            prop_assert_eq!(digits(text.as_bytes()), expected);
        }
    }
}
