//! JSON values as DeepFlow writes them: one null in a column turns every number of that column into a float,
//! releases differ in their types, and any field may be null (DeepFlow contract, sections 3 and 9).
//!
//! A value of an unexpected type counts as absent. Only broken JSON is an error.

use std::{borrow::Cow, fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
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

/// A text: numbers in digits, anything else as the empty text.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Words<'a>(pub(super) Cow<'a, str>);

fn whole_from_text<N: FromStr + TryFrom<i128>>(text: &str) -> Option<N> {
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

/// An object read as `T`; anything else is `T`'s default.
#[derive(Debug, Default)]
pub(super) struct Object<T>(pub(super) T);

/// What the items of a list go into, one by one, so that it can limit what it keeps.
pub(super) trait Items<'de>: Default {
    /// Reads the list to its end.
    fn read<A: SeqAccess<'de>>(&mut self, list: A) -> Result<(), A::Error>;
}

/// A list whose items go into a `C`; anything else is the empty list.
#[derive(Debug, Default)]
pub(super) struct List<C>(pub(super) C);

/// An object whose members, all numbers, go into a `C` one by one; anything else is an empty one.
#[derive(Debug, Default)]
pub(super) struct Members<C>(pub(super) C);

/// Methods of a [`Visitor`]: values of these types count as absent.
macro_rules! nothing {
    () => {
        nothing!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);
        nothing!(null);
    };
    (null) => {
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
    (list) => {
        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            skip_list(seq).map(|()| Self::Value::default())
        }
    };
    (object) => {
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            skip_object(map).map(|()| Self::Value::default())
        }
    };
    ($($visit:ident: $type:ty),+) => {
        $(fn $visit<E: Error>(self, _: $type) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        })+
    };
}

pub(super) use nothing;

struct NumberVisitor<N>(PhantomData<N>);

impl<'de, N> Deserialize<'de> for Number<N>
where
    N: FromStr + TryFrom<u64> + TryFrom<i64> + TryFrom<i128>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor(PhantomData))
    }
}

impl<'de, N> Visitor<'de> for NumberVisitor<N>
where
    N: FromStr + TryFrom<u64> + TryFrom<i64> + TryFrom<i128>,
{
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

    nothing!(null);
    nothing!(list);
    nothing!(object);
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

    nothing!(null);
    nothing!(list);
    nothing!(object);
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    nothing!();
    nothing!(list);

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

struct ListVisitor<C>(PhantomData<C>);

impl<'de, C: Items<'de>> Deserialize<'de> for List<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

impl<'de, C: Items<'de>> Visitor<'de> for ListVisitor<C> {
    type Value = List<C>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    nothing!();

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Self::Value::default();
        list.0.read(seq)?;
        Ok(list)
    }

    nothing!(object);
}

struct MembersVisitor<C>(PhantomData<C>);

impl<'de, C: Default + Extend<(Number<u64>, Number<i64>)>> Deserialize<'de> for Members<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MembersVisitor(PhantomData))
    }
}

impl<'de, C: Default + Extend<(Number<u64>, Number<i64>)>> Visitor<'de> for MembersVisitor<C> {
    type Value = Members<C>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    nothing!();
    nothing!(list);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = C::default();
        while let Some(member) = map.next_entry()? {
            members.extend(Some(member));
        }
        Ok(Members(members))
    }
}

/// Reads past a list.
pub(super) fn skip_list<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Reads past an object.
fn skip_object<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
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

    #[test]
    fn another_shape_is_the_default() {
        #[derive(Default)]
        struct Count(usize);

        impl<'de> Items<'de> for Count {
            fn read<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
                while list.next_element::<u64>()?.is_some() {
                    self.0 += 1;
                }
                Ok(())
            }
        }

        for (json, count) in [("{\"a\":1}", 0), ("null", 0), ("[1,2]", 2)] {
            assert_eq!(serde_json::from_str::<List<Count>>(json).expect("JSON").0.0, count);
        }
        let object =
            serde_json::from_str::<Object<std::collections::BTreeMap<String, u64>>>("[1,{}]")
                .expect("JSON");
        assert!(object.0.is_empty());
    }
}
