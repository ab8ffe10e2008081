//! File → `${env:…}` and `${file:…}` → typed values, with all problems at once.
//!
//! serde stops at its first error. So the text is first read into a tree of nodes with positions; the typed reading is
//! tried again without each node it complains about, until it complains no more.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::{
    error::{ConfigError, Problem, Problems},
    path::{get, put, remove},
};

/// Where `${env:NAME}` and `${file:PATH}` look.
pub trait Environment {
    /// A variable's value; `None` when it is not set.
    fn variable(&self, name: &str) -> Option<String>;
    /// A file's contents.
    fn file(&self, path: &str) -> Result<String, String>;
}

/// The process' own environment.
#[derive(Debug, Clone, Copy)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &str) -> Result<String, String> {
        fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
            .map_err(|error| error.to_string())
    }
}

/// How serde's message about a key begins that nothing is called.
const UNKNOWN: &str = "unknown field `";

/// Problems shown at most.
const PROBLEMS_MAX: usize = 100;

/// Reads a configuration file.
pub fn load_file<T: DeserializeOwned>(
    path: &Path,
    check: impl FnOnce(&T, &mut Problems),
) -> Result<T, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    load(&path.display().to_string(), &text, &ProcessEnvironment, check)
}

/// Reads a configuration text; `file` is its name in messages.
pub fn load<T: DeserializeOwned>(
    file: &str,
    text: &str,
    environment: &dyn Environment,
    check: impl FnOnce(&T, &mut Problems),
) -> Result<T, ConfigError> {
    let invalid = |problems| ConfigError::Invalid { file: file.to_owned(), problems };
    let tree = parse(text).map_err(|problem| invalid(vec![problem]))?;
    let mut document = Document::default();
    let mut value = document.value(&tree, &mut Vec::new(), environment);
    let typed = document.typed::<T>(&mut value);
    if let Some(typed) = &typed {
        let mut problems = Problems::default();
        check(typed, &mut problems);
        document.add_checked(problems);
    }
    document.problems.sort_by_key(|problem| problem.at.unwrap_or((u64::MAX, 0)));
    match typed {
        Some(typed) if document.problems.is_empty() => Ok(typed),
        _ => Err(invalid(document.problems)),
    }
}

fn parse(text: &str) -> Result<Spanned<Node>, Problem> {
    // An empty file is a configuration of defaults.
    let empty = text.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#'));
    let text = if empty { "{}" } else { text };
    // As in YAML 1.2: `off` is a word, and a value of `weaving.network_spans`.
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| Problem {
        path: String::new(),
        at: error.location().map(|at| (at.line(), at.column())),
        problem: bare_message(&error.to_string()),
        hint: None,
    })
}

/// The library ends its messages with the position, which we say ourselves.
fn bare_message(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    let message = message.split(" at line ").next().unwrap_or_default();
    message.trim_start_matches("error: ").to_owned()
}

/// A YAML value with its position.
#[derive(Debug)]
enum Node {
    Scalar(Value),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(Self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}

/// The values of the file, and what is known of each by its path.
#[derive(Default)]
struct Document {
    positions: BTreeMap<String, (u64, u64)>,
    /// Paths whose text came out of a substitution: YAML never saw it, so that a number is still a text.
    substituted: Vec<String>,
    /// Paths without a value: a section, or something that is not said.
    empty: Vec<String>,
    problems: Vec<Problem>,
}

impl Document {
    fn value(
        &mut self,
        node: &Spanned<Node>,
        path: &mut Vec<String>,
        environment: &dyn Environment,
    ) -> Value {
        let at = (node.referenced.line(), node.referenced.column());
        self.positions.entry(path.join(".")).or_insert(at);
        match &node.value {
            Node::Scalar(Value::String(text)) if text.contains("${") => {
                self.substitute(text, path, environment)
            }
            // A section without content is a section of defaults.
            Node::Scalar(value) => value.clone(),
            Node::List(items) => {
                let items = items.iter().enumerate().map(|(index, item)| {
                    path.push(index.to_string());
                    let value = self.value(item, path, environment);
                    path.pop();
                    value
                });
                Value::Array(items.collect())
            }
            Node::Map(entries) => {
                let mut map = serde_json::Map::new();
                for (key, item) in entries {
                    path.push(key.value.clone());
                    let at = (key.referenced.line(), key.referenced.column());
                    self.positions.insert(path.join("."), at);
                    let value = self.value(item, path, environment);
                    // `http:` without a value means the section with its defaults.
                    let value = if value.is_null() {
                        self.empty.push(path.join("."));
                        Value::Object(serde_json::Map::new())
                    } else {
                        value
                    };
                    map.insert(key.value.clone(), value);
                    path.pop();
                }
                Value::Object(map)
            }
        }
    }

    fn substitute(&mut self, text: &str, path: &[String], environment: &dyn Environment) -> Value {
        let path = path.join(".");
        self.substituted.push(path.clone());
        match expand(text, environment) {
            Ok(text) => Value::String(text),
            Err((problem, hint)) => {
                self.problem(path, problem, Some(hint));
                Value::Null
            }
        }
    }

    fn problem(&mut self, path: String, problem: String, hint: Option<String>) {
        let at = self.position(&path);
        self.problems.push(Problem { path, at, problem, hint });
    }

    /// The position of a path, or of the nearest section around it.
    fn position(&self, path: &str) -> Option<(u64, u64)> {
        let mut path = path;
        loop {
            if let Some(at) = self.positions.get(path) {
                return Some(*at).filter(|_| !path.is_empty());
            }
            path = path.rsplit_once('.')?.0;
        }
    }

    fn typed<T: DeserializeOwned>(&mut self, value: &mut Value) -> Option<T> {
        for _ in 0..PROBLEMS_MAX {
            let error = match serde_path_to_error::deserialize(&*value) {
                Ok(typed) => return Some(typed),
                Err(error) => error,
            };
            let path = segments(error.path());
            let dotted = path.join(".");
            if let Some(number) = self.retyped(&dotted, value, &path) {
                put(value, &path, number);
                continue;
            }
            let message = error.inner().to_string();
            // It is no section: what is not said has its default, if it has one.
            let is_known = !message.starts_with(UNKNOWN);
            if is_known && self.empty.contains(&dotted) && remove(value, &path) {
                continue;
            }
            let reported = self.problems.iter().any(|problem| problem.path == dotted);
            let (problem, hint) = explain(&message);
            if !reported {
                self.problem(dotted, problem, hint);
            }
            if !remove(value, &path) {
                return None;
            }
        }
        None
    }

    /// A substituted text that is a number or a bool, where a text was not what was wanted.
    fn retyped(&self, dotted: &str, value: &Value, path: &[String]) -> Option<Value> {
        if !self.substituted.iter().any(|substituted| substituted == dotted) {
            return None;
        }
        let text = get(value, path)?.as_str()?;
        let retyped: Value = serde_json::from_str(text).ok()?;
        (retyped.is_number() || retyped.is_boolean()).then_some(retyped)
    }

    /// Notes what the checks found. A section of which something had to be left out can't be judged: that it lacks
    /// what it has under a wrong name would only confuse.
    fn add_checked(&mut self, problems: Problems) {
        let refused: Vec<String> =
            self.problems.iter().map(|problem| format!("{}.", problem.path)).collect();
        for mut problem in problems.into_vec() {
            let section = format!("{}.", problem.path);
            if refused.iter().any(|path| path.starts_with(&section)) {
                continue;
            }
            problem.at = self.position(&problem.path);
            self.problems.push(problem);
        }
    }
}

/// Replaces `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}`; other `${…}` stay for later (`${origin:…}`).
fn expand(text: &str, environment: &dyn Environment) -> Result<String, (String, String)> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, tail)) = after.split_once('}') else {
            return Err(("`${` without `}`".to_owned(), "write ${env:NAME}".to_owned()));
        };
        if name.contains("${") {
            let problem = "a `${` within another".to_owned();
            return Err((problem, "a default can't have a variable in it".to_owned()));
        }
        out.push_str(before);
        if let Some(variable) = name.strip_prefix("env:") {
            let (variable, default) = match variable.split_once(":-") {
                Some((variable, default)) => (variable, Some(default.to_owned())),
                None => (variable, None),
            };
            let value = environment.variable(variable).or(default).ok_or_else(|| {
                let hint = format!("set it, or write ${{env:{variable}:-default}}");
                (format!("the environment variable {variable} is not set"), hint)
            })?;
            out.push_str(&value);
        } else if let Some(path) = name.strip_prefix("file:") {
            let value = environment.file(path).map_err(|error| {
                (format!("cannot read {path}: {error}"), "check path and rights".to_owned())
            })?;
            out.push_str(&value);
        } else if name.starts_with("origin:") {
            out.push_str("${");
            out.push_str(name);
            out.push('}');
        } else {
            let problem = format!("`${{{name}}}` is not known");
            return Err((problem, "write ${env:NAME} or ${file:PATH}".to_owned()));
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

fn segments(path: &serde_path_to_error::Path) -> Vec<String> {
    use serde_path_to_error::Segment;
    let text = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(text).collect()
}

/// serde's message in our words, and the nearest key there is for one that isn't.
fn explain(message: &str) -> (String, Option<String>) {
    let Some(rest) = message.strip_prefix(UNKNOWN) else {
        // Rust's names of types say little to operators.
        let number = ["expected usize", "expected u64", "expected u32"];
        let message = number.iter().fold(message.to_owned(), |message, rust| {
            message.replace(rust, "expected a whole number")
        });
        return (without_text(&message), None);
    };
    let (key, expected) = rest.split_once('`').unwrap_or((rest, ""));
    let names: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let distance = |name: &&&str| strsim::damerau_levenshtein(key, name);
    let hint = match names.iter().min_by_key(distance) {
        Some(name) if strsim::damerau_levenshtein(key, name) <= key.len().div_ceil(3) => {
            Some(format!("did you mean {name}?"))
        }
        Some(_) => Some(format!("known here: {}", names.join(", "))),
        None => None,
    };
    (format!("unknown key {key}"), hint)
}

/// serde shows what stands where something else was wanted. It may be a secret: headers written as one text, a token of digits.
fn without_text(message: &str) -> String {
    const SHOWN: [(&str, &str, &str); 4] = [
        (": string \"", "\", expected ", "a text"),
        (": integer `", "`, expected ", "a number"),
        (": floating point `", "`, expected ", "a number"),
        (": boolean `", "`, expected ", "true or false"),
    ];
    let without = |(begin, end, what): (&str, &str, &str)| {
        let ((before, _), (_, wanted)) = message.split_once(begin).zip(message.rsplit_once(end))?;
        Some(format!("{before}: {what}, expected {wanted}"))
    };
    SHOWN.into_iter().find_map(without).unwrap_or_else(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Choice {
        Inline,
        Off,
    }

    #[derive(Debug, Deserialize)]
    struct Settings {
        choice: Choice,
        enabled: bool,
        #[serde(default)]
        limit: Option<u32>,
        #[serde(default)]
        list: Vec<u32>,
        #[serde(default)]
        part: Part,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Part {
        size: u32,
    }

    struct Nothing;

    impl Environment for Nothing {
        fn variable(&self, _: &str) -> Option<String> {
            None
        }

        fn file(&self, path: &str) -> Result<String, String> {
            Err(format!("no {path}"))
        }
    }

    fn read(text: &str) -> Result<Settings, ConfigError> {
        load("a file", text, &Nothing, |_, _| {})
    }

    #[test]
    fn off_is_a_word_and_false_is_none() {
        let settings = read("{choice: off, enabled: false}").unwrap();
        assert_eq!((settings.choice, settings.enabled), (Choice::Off, false));
        assert_eq!(read("{choice: inline, enabled: true}").unwrap().choice, Choice::Inline);
        let error = read("{choice: off, enabled: off}").unwrap_err().to_string();
        assert!(error.contains("boolean"), "{error}");
    }

    #[test]
    fn what_is_left_empty_has_its_default() {
        let rest = "choice: off\nenabled: true\n";
        let settings = read(&format!("{rest}limit:\nlist:\npart:\n  size:\n")).unwrap();
        assert_eq!((settings.limit, settings.part.size), (None, 0));
        assert!(settings.list.is_empty());
        assert_eq!(read(&format!("{rest}limit: ~\npart:\n")).unwrap().part.size, 0);
        // This has none.
        let error = read("choice: off\nenabled:\n").unwrap_err().to_string();
        assert!(error.contains("missing field `enabled`"), "{error}");
        let error = read(&format!("{rest}part:\n  sice:\n")).unwrap_err().to_string();
        assert!(error.contains("unknown key sice"), "{error}");
    }
}
