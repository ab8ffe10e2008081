//! Types → config.yaml, configuration.md and config.schema.json, so that none of them can be wrong.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Values that config.yaml takes from the environment, by path: the text that stands for them.
pub type FromEnvironment<'a> = &'a [(&'a str, &'a str)];

/// A configuration's schema and defaults.
#[derive(Debug)]
pub struct Reference {
    schema: Value,
    defaults: Value,
}

/// One option, as the pages show it.
struct OptionEntry<'a> {
    key: &'a str,
    path: String,
    depth: usize,
    about: String,
    schema: &'a Value,
    default: &'a Value,
}

impl Reference {
    /// The reference of a configuration type.
    pub fn of<T: schemars::JsonSchema + serde::Serialize + Default>() -> Self {
        let schema = schemars::generate::SchemaSettings::draft2020_12()
            .into_generator()
            .into_root_schema_for::<T>()
            .to_value();
        // Our own types: numbers, texts and maps with text keys.
        let defaults = serde_json::to_value(T::default()).unwrap_or_default();
        Self { schema, defaults }
    }

    /// The JSON schema.
    pub fn json_schema(&self) -> String {
        let text = serde_json::to_string_pretty(&self.schema).unwrap_or_default();
        text + "\n"
    }

    /// Every option at its default, with what it is for.
    pub fn yaml(&self, title: &str, from_environment: FromEnvironment<'_>) -> String {
        let mut out = String::new();
        for line in title.lines() {
            put(&mut out, format_args!("# {line}"));
        }
        self.walk(&mut |option| {
            if option.depth == 0 {
                out.push('\n');
            }
            let indent = "  ".repeat(option.depth);
            for line in wrap(&option.about, 98 - indent.len()) {
                put(&mut out, format_args!("{indent}# {line}"));
            }
            let key = option.key;
            let environment = from_environment.iter().find(|(path, _)| *path == option.path);
            match (option.default, environment) {
                (Value::Object(map), _) if !map.is_empty() => {
                    put(&mut out, format_args!("{indent}{key}:"));
                }
                (Value::Null, _) => put(&mut out, format_args!("{indent}# {key}:")),
                (Value::String(_), Some((_, text))) => {
                    put(&mut out, format_args!("{indent}{key}: \"{text}\""));
                }
                (value, _) => put(&mut out, format_args!("{indent}{key}: {}", scalar(value))),
            }
        });
        out
    }

    /// A table of all options, which stand below this path.
    pub fn markdown(&self, title: &str, below: &str) -> String {
        let mut out = format!("{title}\n\n| option | default | meaning |\n|---|---|---|\n");
        self.walk(&mut |option| {
            if matches!(option.default, Value::Object(map) if !map.is_empty()) {
                return;
            }
            let values = words(option.schema);
            let values =
                if values.is_empty() { String::new() } else { format!(" One of {values}.") };
            let default = match option.default {
                Value::Null => "–".to_owned(),
                value => format!("`{}`", scalar(value)),
            };
            let about = option.about.replace('|', "\\|");
            let path = &option.path;
            put(&mut out, format_args!("| `{below}{path}` | {default} | {about}{values} |"));
        });
        out
    }

    fn walk(&self, each: &mut dyn FnMut(&OptionEntry<'_>)) {
        if let Value::Object(defaults) = &self.defaults {
            self.section(&self.schema, defaults, "", 0, each);
        }
    }

    fn section(
        &self,
        schema: &Value,
        defaults: &Map<String, Value>,
        path: &str,
        depth: usize,
        each: &mut dyn FnMut(&OptionEntry<'_>),
    ) {
        for (key, default) in defaults {
            let property = property(schema, key);
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let about =
                property.get("description").or_else(|| self.resolve(property).get("description"));
            let about = about.and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
            let schema = self.resolve(property);
            each(&OptionEntry { key, path: path.clone(), depth, about, schema, default });
            if let Value::Object(inner) = default {
                self.section(schema, inner, &path, depth + 1, each);
            }
        }
    }

    /// Follows `$ref`, and `anyOf` to the alternative that is not null.
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let target =
            schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
        if let Some(target) = target.and_then(|path| self.schema.pointer(path)) {
            return self.resolve(target);
        }
        let not_null = |schema: &&Value| schema.get("type").and_then(Value::as_str) != Some("null");
        let options = schema.get("anyOf").and_then(Value::as_array);
        match options.and_then(|options| options.iter().find(not_null)) {
            Some(inner) if inner.get("$ref").is_some() => self.resolve(inner),
            _ => schema,
        }
    }
}

fn property<'a>(schema: &'a Value, key: &str) -> &'a Value {
    let named = schema.get("properties").and_then(|properties| properties.get(key));
    // Sections by type and name: the pattern begins with the type.
    let kind = format!("^{}(", key.split('/').next().unwrap_or(key));
    let patterns = schema.get("patternProperties").and_then(Value::as_object);
    let by_kind =
        || patterns?.iter().find(|(pattern, _)| pattern.starts_with(&kind)).map(|(_, p)| p);
    named.or_else(by_kind).unwrap_or(&Value::Null)
}

/// The words of a closed set.
fn words(schema: &Value) -> String {
    let word = |value: &Value| value.as_str().map(|word| format!("`{word}`"));
    let constants = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let constants = constants.filter_map(|option| option.get("const").and_then(word));
    let listed =
        schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(word);
    constants.chain(listed).collect::<Vec<_>>().join(", ")
}

/// Writing to a String can't fail.
fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").unwrap_or_default();
}

/// A value in YAML's flow style.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(scalar).collect::<Vec<_>>().join(", "))
        }
        Value::Object(_) => "{}".to_owned(),
        other => other.to_string(),
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
