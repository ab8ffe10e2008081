//! What is read here is what serde_json reads.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const TEXT: &str =
    r#"{"a": [1, 2.5, "x\n", null, true, {"b":{}}], "cde":"plain text é", "f" : -7, "0":[]}"#;

/// As serde_json would have read it.
fn value(json: &mut Json<'_>) -> Result<Value> {
    if json.enters_list() {
        let mut items = Vec::new();
        while json.has_item()? {
            items.push(value(json)?);
        }
        return Ok(items.into());
    }
    if json.enters_object() {
        let mut members = serde_json::Map::new();
        while let Some(key) = json.key()? {
            let value = value(json)?;
            members.insert(key.into_owned(), value);
        }
        return Ok(members.into());
    }
    match json.peek() {
        Some(b'"') => Ok(json.text()?.into()),
        _ => json.any(),
    }
}

fn whole(bytes: &[u8]) -> Result<Value> {
    let mut json = Json::new(bytes);
    let value = value(&mut json)?;
    json.end().map(|()| value)
}

fn skipped(bytes: &[u8]) -> Result<()> {
    let mut json = Json::new(bytes);
    json.skip()?;
    json.end()
}

/// The keys of an object of two numbers.
fn standing_keys(text: &str) -> [Key<'_>; 2] {
    let mut json = Json::new(text.as_bytes());
    assert!(json.enters_object());
    [(); 2].map(|()| {
        let (_, key) = json.standing_key().expect("JSON").expect("a key");
        json.skip().expect("a number");
        key
    })
}

fn check(bytes: &[u8]) {
    let shown = String::from_utf8_lossy(bytes);
    assert_eq!(whole(bytes).ok(), serde_json::from_slice(bytes).ok(), "{shown}");
    let ignored = serde_json::from_slice::<IgnoredAny>(bytes);
    assert_eq!(skipped(bytes).is_ok(), ignored.is_ok(), "{shown}");
    let mut json = Json::new(bytes);
    let words = json.words().and_then(|words| json.end().map(|()| words));
    let expected = serde_json::from_slice::<Words<'_>>(bytes);
    assert_eq!(words.ok(), expected.ok().map(|words| words.0), "{shown}");
    let mut json = Json::new(bytes);
    let number = json.number::<u64>().and_then(|number| json.end().map(|()| number));
    let expected = serde_json::from_slice::<Number<u64>>(bytes);
    assert_eq!(number.ok(), expected.ok().map(|number| number.0), "{shown}");
}

#[test]
fn it_is_json_and_nothing_else() {
    for text in [
        "",
        " ",
        "{}",
        " { } ",
        "[]",
        "[ ]",
        "[1]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1,2",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,\"a\":1}",
        "{\"a\":1\"b\":2}",
        "{a:1}",
        "{\"a\" : [ {} , null ] }",
        "{1:2}",
        "]",
        "null",
        "nul",
        "nullx",
        "true",
        "0",
        "00",
        "-0",
        "01",
        "1.",
        "1.5",
        "1e3",
        "-",
        "+1",
        "12345678901234567890",
        "9999999999999999999",
        "18446744073709551616",
        "1x",
        "\"a\"",
        "\"a",
        "\"a\nb\"",
        "\"a\tb\"",
        "\"\\u00e9\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\u{1f}abcdefgh\"",
        "\"12345678\"",
        "\"1234567\\\"\"",
        "\"é123456é\"",
        "\"200\"",
        "{} {}",
        "[[[[1]]]]",
        "\u{c}1",
        "{\"\\u0061\":1}",
        "[\"a\",\"b\"]",
        "[\"a\",\"b\",]",
        "[\"a\" \"b\"]",
        "[\"a\",1,[\"b\\n\"]]",
        "[\"a\"",
        "0.0",
        "00.0",
        "7.0",
        "7.05",
        "7.0e1",
        "7.00",
        "7.0.",
        "9007199254740992.0",
        "9007199254740993.0",
        "\"07\"",
        "\"7\"",
        "\"7x\"",
        "\"18446744073709551615\"",
    ] {
        check(text.as_bytes());
    }
    check(b"\"\xff\"");
    check(b"[\"abcdefgh\xffabc\", 1]");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn pieces_of_json_are_read_as_serde_json_reads_them(
        pieces in proptest::collection::vec(
            prop_oneof![
                prop::sample::select(vec!["{", "}", "[", "]", ",", ":", " ", "\"", "\\", "null", "\"a\":", "\"bcdefghij\""]).prop_map(str::to_owned),
                any::<f64>().prop_map(|number| number.to_string()),
                any::<i64>().prop_map(|number| number.to_string()),
                "\"[ -~é]{0,20}\"",
            ],
            0..8,
        ),
    ) {
        check(pieces.concat().as_bytes());
    }

    #[test]
    fn damaged_json_is_read_or_refused_as_serde_json_does(
        cuts in proptest::collection::vec((0..TEXT.len(), 0..4_usize, "[{}\\[\\],:\"\\\\0-9a-fn .é-]{0,2}"), 0..3),
    ) {
        let mut text = TEXT.as_bytes().to_vec();
        for (from, len, new) in cuts {
            let from = from.min(text.len());
            let to = (from + len).min(text.len());
            text.splice(from..to, new.into_bytes());
        }
        check(&text);
    }

    #[test]
    fn a_key_is_passed_if_it_is_next(key in "[a-z]{0,9}", other in "[a-z]{0,9}") {
        let text = |key: &str, other: &str| format!("{{\"{key}\":1,\"{other}\":2}}");
        let [same, longer] = [text(&key, &other), text(&other, &format!("{other}x"))];
        let [first, second] = standing_keys(&same);
        let [first_other, second_longer] = standing_keys(&longer);
        let mut json = Json::new(same.as_bytes());
        prop_assert!(json.enters_object());
        prop_assert!(!json.passes(second));
        prop_assert_eq!(json.passes(first_other), key == other);
        if key != other {
            prop_assert!(json.passes(first));
        }
        prop_assert_eq!(json.number().unwrap(), Some(1_u64));
        prop_assert!(!json.passes(first));
        prop_assert!(!json.passes(second_longer));
        prop_assert!(json.passes(second));
        prop_assert_eq!(json.number().unwrap(), Some(2_u64));
        prop_assert_eq!(json.key().unwrap(), None);
    }
}
