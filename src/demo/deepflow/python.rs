//! How the service, a Python program, writes values: `str()`, and `json.dumps()` with its spaces and escapes.

use std::fmt::Write;

use serde_json::Value;

/// The reasons of a refusal, in the order the service writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reasons {
    /// One text.
    Text(&'static str),
    /// A list of one text, as for a field of the wrong type.
    List(String),
    /// By field.
    Fields(Vec<(String, Self)>),
}

impl Reasons {
    /// As `json.dumps()` writes them.
    pub(super) fn to_json(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::List(text) => format!("[{}]", quoted(text)),
            Self::Fields(fields) => {
                let field = |(name, reasons): &(String, Self)| {
                    format!("{}: {}", quoted(name), reasons.to_json())
                };
                format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// As `str()` writes a value.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => representation(other),
    }
}

fn representation(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.contains('\'') && !text.contains('"') => format!("\"{text}\""),
        Value::String(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(representation).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                format!(
                    "{}: {}",
                    representation(&Value::String(name.clone())),
                    representation(value)
                )
            };
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    let json = Value::String(text.to_owned()).to_string();
    let mut ascii = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            ascii.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a String can't fail.
            let _ = write!(ascii, "\\u{unit:04x}");
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_look_as_in_python() {
        for (value, expected) in [
            (serde_json::json!([]), "[]"),
            (serde_json::json!({"a": [1, null, true, "x'y"]}), r#"{'a': [1, None, True, "x'y"]}"#),
            (serde_json::json!(1.5), "1.5"),
            (serde_json::json!("x"), "x"),
        ] {
            assert_eq!(text(&value), expected);
        }
    }

    #[test]
    fn json_is_ascii_with_spaces() {
        let reasons = Reasons::Fields(vec![
            ("ä𝄞".to_owned(), Reasons::Text("Rogue field")),
            ("b".to_owned(), Reasons::List("no \"x\"".to_owned())),
        ]);
        let expected = r#"{"\u00e4\ud834\udd1e": "Rogue field", "b": ["no \"x\""]}"#;
        assert_eq!(reasons.to_json(), expected);
    }
}
