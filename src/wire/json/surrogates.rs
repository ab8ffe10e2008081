//! Halves of a character: JavaScript cuts texts between the two halves of an emoji, and writes `"\ud83d"`. Protobuf's own
//! encoder for JavaScript sends U+FFFD in its place; so do we, rather than refuse the whole request.

use std::ops::RangeInclusive;

const LEADING: RangeInclusive<u16> = 0xD800..=0xDBFF;
const TRAILING: RangeInclusive<u16> = 0xDC00..=0xDFFF;
/// U+FFFD, as long as what it replaces.
const REPLACEMENT: &[u8; 6] = b"\\ufffd";

/// The text without halves; `None` when it has none.
pub(super) fn replaced(text: &[u8]) -> Option<Vec<u8>> {
    let mut halves = halves(text).peekable();
    halves.peek()?;
    let mut out = text.to_vec();
    for at in halves {
        if let Some(half) = out.get_mut(at..at + REPLACEMENT.len()) {
            half.copy_from_slice(REPLACEMENT);
        }
    }
    Some(out)
}

/// Where escapes of halves are that have no other half.
fn halves(text: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = text.get(at..)?;
            at += rest.iter().position(|byte| *byte == b'\\')?;
            let Some(code) = escaped(text, at) else {
                // Another escape: a backslash, mostly.
                at += 2;
                continue;
            };
            let here = at;
            at += 6;
            if LEADING.contains(&code)
                && escaped(text, at).is_some_and(|code| TRAILING.contains(&code))
            {
                at += 6;
            } else if LEADING.contains(&code) || TRAILING.contains(&code) {
                return Some(here);
            }
        }
    })
}

/// The code of the escape of four digits that stands here.
fn escaped(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_halves_are_replaced() {
        let check = |text: &str, expected: Option<&str>| {
            let shown =
                replaced(text.as_bytes()).map(|text| String::from_utf8(text).expect("text"));
            assert_eq!(shown.as_deref(), expected, "{text}");
        };
        check(r#""a\ud83d""#, Some(r#""a\ufffd""#));
        check(r#""\uDC00b\uD83D\ude00""#, Some(r#""\ufffdb\uD83D\ude00""#));
        check(r#""\ud83d\ud83d\ude00""#, Some(r#""\ufffd\ud83d\ude00""#));
        check(r#""\\ud83d \u0041 \ud83d\ude00""#, None);
        check(r#""\ud83"#, None);
        check("", None);
    }
}
