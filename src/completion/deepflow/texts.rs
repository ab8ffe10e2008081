//! The long texts of one answer: rows repeat each other's words, so most are at hand already.

use crate::trace::Text;

/// Texts that were met lately. A place holds one text; another that belongs there takes its place.
#[derive(Debug, Default)]
pub(super) struct Texts(Vec<Text>);

impl Texts {
    /// Services, addresses and paths of the rows around.
    const PLACES: usize = 128;

    /// The text; a long one is shared with an equal one if that was met lately.
    pub(super) fn shared(&mut self, text: &str) -> Text {
        if text.len() <= Text::SHORT_BYTES {
            return text.into();
        }
        if self.0.is_empty() {
            self.0.resize(Self::PLACES, Text::default());
        }
        let Some(place) = self.0.get_mut(place_of(text)) else { return text.into() };
        if *place != *text {
            *place = text.into();
        }
        place.clone()
    }
}

/// Length and ends tell the words of an answer apart well enough: paths begin alike, names and addresses end alike.
fn place_of(text: &str) -> usize {
    let bytes = text.as_bytes();
    let word = |chunk: Option<&[u8; 8]>| chunk.map_or(0, |chunk| u64::from_le_bytes(*chunk));
    let ends = match bytes.len() {
        0..8 => bytes.iter().fold(0, |ends, byte| ends << 8 | u64::from(*byte)),
        _ => word(bytes.first_chunk()).rotate_left(17) ^ word(bytes.last_chunk()),
    };
    let mixed = (ends ^ bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // The upper bits are mixed best.
    usize::try_from(mixed >> 57).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one() {
        let mut texts = Texts::default();
        let short = ["", "a", "10.0.0.12", "é", "just as long as it may."];
        let long = (0..1_000).map(|number| format!("/a/path/that/is/no/short/one/{number}"));
        let all: Vec<_> = short.into_iter().map(str::to_owned).chain(long).collect();
        for word in &all {
            let [first, second] = [(); 2].map(|()| texts.shared(word));
            assert!(first == **word && second == **word);
            let is_one = first.as_str().as_ptr() == second.as_str().as_ptr();
            assert_eq!(is_one, word.len() > Text::SHORT_BYTES, "{word}");
        }
    }
}
