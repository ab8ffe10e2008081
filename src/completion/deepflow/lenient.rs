//! JSON values as DeepFlow writes them: one null in a column turns every number of that column into a float,
//! releases differ in their types, and any field may be null (DeepFlow contract, sections 3 and 9).
//!
//! A value of an unexpected type counts as absent. Only broken JSON is an error.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

/// The largest float up to which every whole number has a float of its own (2^53).
/// Beyond it two ids may have become one, so such a float is no number to join rows by.
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// One value: `200`, `200.0` and `"200"` are the same number.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) enum Scalar<'a> {
    /// Null, absent, a fraction, a list, an object.
    #[default]
    Nothing,
    /// A whole number, or a truth value as 0 or 1.
    Whole(i128),
    /// A text.
    Text(Cow<'a, str>),
}

impl Scalar<'_> {
    /// The whole number in it, if it fits.
    pub(super) fn number<N: TryFrom<i128>>(&self) -> Option<N> {
        let whole = match self {
            Self::Nothing => None,
            Self::Whole(whole) => Some(*whole),
            Self::Text(text) => whole_from_text(text.trim()),
        };
        whole.and_then(|whole| N::try_from(whole).ok())
    }

    /// The number in it, 0 when there is none: DeepFlow's own word for "none".
    pub(super) fn number_or_zero(&self) -> u64 {
        self.number().unwrap_or(0)
    }

    /// The text in it; numbers in digits, nothing as the empty text.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Nothing => Cow::Borrowed(""),
            Self::Whole(whole) => Cow::Owned(whole.to_string()),
            Self::Text(text) => Cow::Borrowed(text),
        }
    }
}

fn whole_from_text(text: &str) -> Option<i128> {
    text.parse().ok().or_else(|| whole_from_float(text.parse().ok()?))
}

fn whole_from_float(float: f64) -> Option<i128> {
    let is_whole = float.fract() == 0.0 && float.abs() <= EXACT_FLOAT_MAX;
    if is_whole { format!("{float:.0}").parse().ok() } else { None }
}

/// An object read as `T`; anything else is `T`'s default.
#[derive(Debug, Default)]
pub(super) struct Object<T>(pub(super) T);

/// A list whose items of type `T` go into a `C` one by one, so that `C` can limit what it keeps;
/// anything else is the empty list.
#[derive(Debug)]
pub(super) struct List<T, C>(pub(super) C, PhantomData<T>);

impl<T, C: Default> Default for List<T, C> {
    fn default() -> Self {
        Self(C::default(), PhantomData)
    }
}

/// An object whose members go into a `C` one by one; anything else is an empty one.
#[derive(Debug, Default)]
pub(super) struct Members<C>(pub(super) C);

/// Values of these types count as absent.
macro_rules! nothing {
    () => {
        nothing!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
    ($($visit:ident: $type:ty),+) => {
        $(fn $visit<E: Error>(self, _: $type) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        })+
    };
}

struct ScalarVisitor;

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Whole(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Whole(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Whole(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(whole_from_float(value).map_or(Scalar::Nothing, Scalar::Whole))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        skip_list(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        skip_object(map)
    }
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

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        skip_list(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

struct ListVisitor<T, C>(PhantomData<(T, C)>);

impl<'de, T: Deserialize<'de>, C: Default + Extend<T>> Deserialize<'de> for List<T, C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>, C: Default + Extend<T>> Visitor<'de> for ListVisitor<T, C> {
    type Value = List<T, C>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    nothing!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Self::Value::default();
        while let Some(item) = seq.next_element()? {
            list.0.extend(Some(item));
        }
        Ok(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        skip_object(map)
    }
}

struct MembersVisitor<C>(PhantomData<C>);

impl<'de, C: Default + Extend<(Scalar<'de>, Scalar<'de>)>> Deserialize<'de> for Members<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MembersVisitor(PhantomData))
    }
}

impl<'de, C: Default + Extend<(Scalar<'de>, Scalar<'de>)>> Visitor<'de> for MembersVisitor<C> {
    type Value = Members<C>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    nothing!();

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        skip_list(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = C::default();
        while let Some(member) = map.next_entry()? {
            members.extend(Some(member));
        }
        Ok(Members(members))
    }
}

/// Reads past a list.
fn skip_list<'de, A: SeqAccess<'de>, T: Default>(mut seq: A) -> Result<T, A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(T::default())
}

/// Reads past an object.
fn skip_object<'de, A: MapAccess<'de>, T: Default>(mut map: A) -> Result<T, A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(T::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(json: &str) -> Option<u64> {
        serde_json::from_str::<Scalar<'_>>(json).expect("JSON").number()
    }

    #[test]
    fn a_number_in_any_dress_is_the_number() {
        for json in ["200", "200.0", "2e2", "\"200\"", "\" 200 \"", "\"200.0\""] {
            assert_eq!(number(json), Some(200), "{json}");
        }
        assert_eq!(number("18446744073709551615"), Some(u64::MAX));
        assert_eq!(number("\"18446744073709551615\""), Some(u64::MAX));
        assert_eq!(number("true"), Some(1));
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
            "18446744073709551616",
        ];
        for json in none {
            assert_eq!(number(json), None, "{json}");
        }
    }

    #[test]
    fn another_shape_is_the_default() {
        let list = serde_json::from_str::<List<u64, Vec<u64>>>("{\"a\":1}").expect("JSON");
        assert!(list.0.is_empty());
        let object =
            serde_json::from_str::<Object<std::collections::BTreeMap<String, u64>>>("[1,{}]")
                .expect("JSON");
        assert!(object.0.is_empty());
    }
}
