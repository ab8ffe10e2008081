//! JSON values as DeepFlow writes them: one null in a column turns every number of that column into a float,
//! releases differ in their types, and any field may be null (DeepFlow contract, sections 3 and 9).
//!
//! A value of an unexpected type counts as absent. Only broken JSON is an error.

use std::{borrow::Cow, fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The largest float up to which every whole number has a float of its own (2^53).
/// Beyond it two ids may have become one, so such a float is no number to join rows by.
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// A whole number that fits into an `N`: `200`, `200.0` and `"200"` are the same one, a truth value is 0 or 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number<N>(pub(super) Option<N>);

impl<N> Default for Number<N> {
    fn default() -> Self {
        Self(None)
    }
}

/// What a [`Number`] can be of.
pub(super) trait Whole: FromStr + TryFrom<u64> + TryFrom<i64> + TryFrom<i128> {}

impl<N: FromStr + TryFrom<u64> + TryFrom<i64> + TryFrom<i128>> Whole for N {}

/// A text: numbers in digits, anything else as the empty text.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Words<'a>(pub(super) Cow<'a, str>);

/// The whole number that this text is.
pub(super) fn whole_from_text<N: FromStr + TryFrom<i128>>(text: &str) -> Option<N> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    // Nearly always it is digits and fits.
    text.parse().ok().or_else(|| {
        let wide: Option<i128> = text.parse().ok();
        let wide = wide.or_else(|| whole_from_float(text.parse().ok()?).map(i128::from))?;
        N::try_from(wide).ok()
    })
}

fn whole_from_float(float: f64) -> Option<i64> {
    let is_whole = float.fract() == 0.0 && float.abs() <= EXACT_FLOAT_MAX;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and fits")]
    is_whole.then_some(float as i64)
}

/// Methods of a [`Visitor`]: values of these types count as absent.
macro_rules! nothing {
    () => {
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
}

struct NumberVisitor<N>(PhantomData<N>);

impl<'de, N: Whole> Deserialize<'de> for Number<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor(PhantomData))
    }
}

impl<'de, N: Whole> Visitor<'de> for NumberVisitor<N> {
    type Value = Number<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        self.visit_u64(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Number(N::try_from(value).ok()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Number(N::try_from(value).ok()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Number(whole_from_float(value).and_then(|whole| N::try_from(whole).ok())))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Number(whole_from_text(value)))
    }

    nothing!();
}

struct WordsVisitor;

impl<'de: 'a, 'a> Deserialize<'de> for Words<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordsVisitor)
    }
}

impl<'de> Visitor<'de> for WordsVisitor {
    type Value = Words<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        self.visit_u64(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        self.visit_string(value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        self.visit_string(value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        match whole_from_float(value) {
            Some(whole) => self.visit_i64(whole),
            None => self.visit_unit(),
        }
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Words(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Self::Value, E> {
        Ok(Words(Cow::Owned(value)))
    }

    nothing!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(json: &str) -> Option<u64> {
        serde_json::from_str::<Number<u64>>(json).expect("JSON").0
    }

    #[test]
    fn a_number_in_any_dress_is_the_number() {
        for json in ["200", "200.0", "2e2", "\"200\"", "\" 200 \"", "\"200.0\""] {
            assert_eq!(number(json), Some(200), "{json}");
        }
        assert_eq!(number("18446744073709551615"), Some(u64::MAX));
        assert_eq!(number("\"18446744073709551615\""), Some(u64::MAX));
        assert_eq!(number("true"), Some(1));
        assert_eq!(number("9007199254740992.0"), Some(1 << 53));
        for json in ["0", "-0", "-0.0", "\"-0\"", "\"+0\"", "\"-0.0\""] {
            assert_eq!(number(json), Some(0), "{json}");
        }
    }

    #[test]
    fn what_is_no_number_is_absent() {
        let none = [
            "null",
            "-1",
            "1.5",
            "\"\"",
            "\"x\"",
            "[]",
            "[1]",
            "{}",
            "{\"a\":[{}]}",
            "1e300",
            "1e18",
            "\"inf\"",
            "\"NaN\"",
            "\"9e17\"",
            "\"18446744073709551616\"",
            "\"1000000000000000000000000000000000000000000\"",
            "18446744073709551616",
        ];
        for json in none {
            assert_eq!(number(json), None, "{json}");
        }
    }

    #[test]
    fn a_text_is_what_it_says() {
        let texts = [
            ("\"a b\"", "a b"),
            ("\"a\\nb\"", "a\nb"),
            ("5", "5"),
            ("-5", "-5"),
            ("5.0", "5"),
            ("-0.0", "0"),
            ("18446744073709551615", "18446744073709551615"),
            ("true", "1"),
            ("1.5", ""),
            ("1e300", ""),
            ("null", ""),
            ("[\"a\"]", ""),
            ("{\"a\":\"b\"}", ""),
        ];
        for (json, text) in texts {
            assert_eq!(serde_json::from_str::<Words<'_>>(json).expect("JSON").0, text, "{json}");
        }
    }
}
