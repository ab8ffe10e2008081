//! The body of an ask, judged as the service's validation judges it: same stages, same texts, same order.

use serde_json::{Map, Value};

use super::{
    Row, Signal,
    python::{self, Reasons},
};
use crate::trace::Exchange;

const REQUIRED: &str = "This field is required.";
const NO_LIST: &str = "Could not interpret the value as a list";
const ROGUE: Reasons = Reasons::Text("Rogue field");

/// Top-level keys in the order of the service's reports. The lower-case spelling of the documentation is taken as well.
const KEYS: [&str; 5] =
    ["APP_SPANS", "MAX_ITERATION", "NETWORK_DELAY_US", "DEBUG", "SIGNAL_SOURCES"];
/// Keys of a span in the order of the service's reports.
const SPAN_KEYS: [&str; 6] =
    ["start_time_us", "end_time_us", "span_kind", "trace_id", "span_id", "parent_span_id"];

/// An ask that is in order. DEBUG and SIGNAL_SOURCES are judged, too, but change nothing in this double.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    /// At least one.
    pub spans: Vec<Posted>,
    /// How often the search widens.
    pub iterations_max: u64,
    /// How far rows of one exchange may lie apart.
    pub network_delay_us: i64,
}

/// A span as it was posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Posted {
    pub trace_id: String,
    pub span_id: String,
    pub parent_span_id: String,
    pub kind: i64,
    pub start_us: i64,
    pub end_us: i64,
}

/// Why an ask gets no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 400 INVALID_POST_DATA.
    Invalid(String),
    /// 500 INTERNAL_SERVER_ERROR: what Python said when it stumbled.
    Stumble(String),
}

impl Request {
    /// Judges a body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let fields = top_level(body)?;
        let given = Given::new(&fields)?;
        let mut reasons = Vec::new();
        note(&mut reasons, "APP_SPANS", given.spans_of_wrong_type());
        note(&mut reasons, "MAX_ITERATION", wrong_int(given.of("MAX_ITERATION")));
        note(&mut reasons, "NETWORK_DELAY_US", wrong_int(given.of("NETWORK_DELAY_US")));
        note(&mut reasons, "DEBUG", wrong_bool(given.of("DEBUG")));
        note(&mut reasons, "SIGNAL_SOURCES", wrong_texts(given.of("SIGNAL_SOURCES")));
        refuse(reasons)?;

        let mut reasons = Vec::new();
        note(&mut reasons, "APP_SPANS", given.spans_out_of_range());
        note(&mut reasons, "MAX_ITERATION", below(given.of("MAX_ITERATION"), 1));
        note(&mut reasons, "NETWORK_DELAY_US", below(given.of("NETWORK_DELAY_US"), 1));
        refuse(reasons)?;
        given.taken()
    }
}

impl Posted {
    /// The row the service makes of it.
    pub(super) fn to_row(&self, id: u64) -> Row {
        Row {
            id,
            signal: Signal::Otel,
            exchange: Exchange::Request,
            start_us: self.start_us,
            end_us: self.end_us,
            point: match self.kind {
                2 | 5 => "s-app".into(),
                3 | 4 => "c-app".into(),
                _ => "app".into(),
            },
            trace_id: self.trace_id.clone(),
            span_id: self.span_id.clone(),
            parent_span_id: self.parent_span_id.clone(),
            response_code: Some(0),
            request_id: Some(0),
            capture_id: 0,
            capture: "".into(),
            region: "".into(),
            ..Row::default()
        }
    }
}

/// What was sent, under the service's own names.
struct Given<'b> {
    values: [Option<&'b Value>; KEYS.len()],
}

impl<'b> Given<'b> {
    /// Stage 0: an unknown key is reported alone.
    fn new(fields: &'b Map<String, Value>) -> Result<Self, Refusal> {
        let is_known =
            |name: &str| KEYS.iter().any(|key| *key == name || key.to_lowercase() == name);
        let rogues = rogue_fields(fields, is_known);
        if !rogues.is_empty() {
            return Err(Refusal::Invalid(Reasons::Fields(rogues).to_json()));
        }
        let value = |key: &str| fields.get(&key.to_lowercase()).or_else(|| fields.get(key));
        Ok(Self { values: KEYS.map(value) })
    }

    fn of(&self, key: &str) -> Option<&'b Value> {
        let place = KEYS.iter().position(|known| *known == key)?;
        self.values[place]
    }

    fn spans(&self) -> &'b [Value] {
        self.of("APP_SPANS").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Stage 1: types.
    fn spans_of_wrong_type(&self) -> Option<Reasons> {
        match self.of("APP_SPANS") {
            None | Some(Value::Null | Value::Array(_)) => {
                by_place(self.spans(), span_of_wrong_type)
            }
            Some(_) => Some(Reasons::List(NO_LIST.to_owned())),
        }
    }

    /// Stage 2: what is there is of the right type, but is it enough and in range?
    fn spans_out_of_range(&self) -> Option<Reasons> {
        match self.of("APP_SPANS") {
            None | Some(Value::Null) => Some(Reasons::List(REQUIRED.to_owned())),
            Some(_) if self.spans().is_empty() => {
                Some(Reasons::List("Please provide at least 1 item.".to_owned()))
            }
            Some(_) => by_place(self.spans(), span_out_of_range),
        }
    }

    /// Stage 3: nulls that validation lets pass and the program behind it falls over.
    fn taken(&self) -> Result<Request, Refusal> {
        let stumble = |text: &str| Err(Refusal::Stumble(text.to_owned()));
        if self.spans().iter().any(Value::is_null) {
            return stumble("'NoneType' object has no attribute 'to_primitive'");
        }
        if self.of("MAX_ITERATION").is_some_and(Value::is_null) {
            return stumble("'NoneType' object cannot be interpreted as an integer");
        }
        if self.of("NETWORK_DELAY_US").is_some_and(Value::is_null) {
            return stumble("'<=' not supported between instances of 'int' and 'NoneType'");
        }
        let number = |key: &str, default| self.of(key).and_then(int).unwrap_or(default);
        Ok(Request {
            spans: self.spans().iter().map(posted).collect(),
            iterations_max: number("MAX_ITERATION", 30).try_into().unwrap_or(u64::MAX),
            network_delay_us: bounded(number("NETWORK_DELAY_US", 50_000)),
        })
    }
}

/// An empty body counts as `{}`, and so does everything that Python takes for false.
fn top_level(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    let stumble = |text: &str| Err(Refusal::Stumble(text.to_owned()));
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return stumble("Failed when parsing body as json");
    };
    match value {
        Value::Object(fields) => Ok(fields),
        Value::Null | Value::Bool(false) => Ok(Map::new()),
        Value::Array(items) if items.is_empty() => Ok(Map::new()),
        Value::String(text) if text.is_empty() => Ok(Map::new()),
        Value::Number(number) if number.as_f64() == Some(0.0) => Ok(Map::new()),
        Value::Bool(true) => stumble("'bool' object is not iterable"),
        Value::Number(number) if number.is_f64() => stumble("'float' object is not iterable"),
        Value::Number(_) => stumble("'int' object is not iterable"),
        Value::String(_) => stumble("string indices must be integers"),
        Value::Array(_) => stumble("list indices must be integers or slices, not str"),
    }
}

fn span_of_wrong_type(span: &Value) -> Option<Reasons> {
    let fields = match span {
        Value::Null => return None,
        Value::Object(fields) => fields,
        _ => {
            return Some(Reasons::List(
                "Input must be a mapping or 'AppSpans' instance".to_owned(),
            ));
        }
    };
    let rogues = rogue_fields(fields, |name| SPAN_KEYS.contains(&name));
    if !rogues.is_empty() {
        return Some(Reasons::Fields(rogues));
    }
    let mut reasons = Vec::new();
    for key in SPAN_KEYS {
        let wrong = if is_text(key) { wrong_text } else { wrong_int };
        note(&mut reasons, key, wrong(fields.get(key)));
    }
    some_fields(reasons)
}

fn span_out_of_range(span: &Value) -> Option<Reasons> {
    let fields = span.as_object()?;
    let mut reasons = Vec::new();
    for key in SPAN_KEYS {
        let value = fields.get(key);
        let reason = match value {
            None | Some(Value::Null) => Some(Reasons::List(REQUIRED.to_owned())),
            Some(_) if is_text(key) => None,
            Some(_) if key == "span_kind" => no_kind(value),
            Some(_) => below(value, 0),
        };
        note(&mut reasons, key, reason);
    }
    some_fields(reasons)
}

fn posted(span: &Value) -> Posted {
    let text = |key: &str| span.get(key).map(python::text).unwrap_or_default();
    let number = |key: &str| bounded(span.get(key).and_then(int).unwrap_or_default());
    Posted {
        trace_id: text("trace_id"),
        span_id: text("span_id"),
        parent_span_id: text("parent_span_id"),
        kind: number("span_kind"),
        start_us: number("start_time_us"),
        end_us: number("end_time_us"),
    }
}

fn is_text(key: &str) -> bool {
    key.ends_with("_id")
}

fn wrong_int(value: Option<&Value>) -> Option<Reasons> {
    let value = value.filter(|value| !value.is_null() && int(value).is_none())?;
    Some(Reasons::List(format!("Value '{}' is not int.", python::text(value))))
}

fn wrong_text(value: Option<&Value>) -> Option<Reasons> {
    let is_text =
        |value: &Value| value.is_string() || value.is_null() || value.is_i64() || value.is_u64();
    let value = value.filter(|value| !is_text(value))?;
    Some(Reasons::List(format!("Couldn't interpret '{}' as string.", python::text(value))))
}

fn wrong_bool(value: Option<&Value>) -> Option<Reasons> {
    let spellings = ["True", "true", "1", "False", "false", "0"];
    let value = value?;
    let is_bool = match value {
        Value::Null | Value::Bool(_) => true,
        Value::String(text) => spellings.contains(&text.as_str()),
        other => matches!(int(other), Some(0 | 1)),
    };
    (!is_bool).then(|| Reasons::List("Must be either true or false.".to_owned()))
}

fn wrong_texts(value: Option<&Value>) -> Option<Reasons> {
    match value? {
        Value::Null => None,
        Value::Array(items) => by_place(items, |item| wrong_text(Some(item))),
        _ => Some(Reasons::List(NO_LIST.to_owned())),
    }
}

fn no_kind(value: Option<&Value>) -> Option<Reasons> {
    let kind = int(value?).filter(|kind| !(0..=5).contains(kind))?;
    Some(Reasons::List(format!("Value ({kind}) must be one of [0, 1, 2, 3, 4, 5].")))
}

fn below(value: Option<&Value>, least: i128) -> Option<Reasons> {
    int(value?).filter(|number| *number < least)?;
    Some(Reasons::List(format!("Int value should be greater than or equal to {least}.")))
}

/// What `int()` makes of a value without losing anything.
#[expect(
    clippy::cast_possible_truncation,
    reason = "whole, and far beyond any time when it saturates"
)]
fn int(value: &Value) -> Option<i128> {
    match value {
        Value::Bool(flag) => Some(i128::from(*flag)),
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => {
            let whole = || number.as_f64().filter(|number| number.fract() == 0.0);
            number.as_i128().or_else(|| whole().map(|number| number as i128))
        }
        _ => None,
    }
}

fn bounded(number: i128) -> i64 {
    number.clamp(i128::from(i64::MIN), i128::from(i64::MAX)).try_into().unwrap_or(i64::MAX)
}

fn rogue_fields(
    fields: &Map<String, Value>,
    is_known: impl Fn(&str) -> bool,
) -> Vec<(String, Reasons)> {
    let mut names: Vec<&String> = fields.keys().filter(|name| !is_known(name)).collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), ROGUE)).collect()
}

fn by_place(items: &[Value], reason: impl Fn(&Value) -> Option<Reasons>) -> Option<Reasons> {
    let numbered = items.iter().enumerate();
    some_fields(
        numbered.filter_map(|(place, item)| Some((place.to_string(), reason(item)?))).collect(),
    )
}

fn some_fields(fields: Vec<(String, Reasons)>) -> Option<Reasons> {
    (!fields.is_empty()).then_some(Reasons::Fields(fields))
}

fn note(reasons: &mut Vec<(String, Reasons)>, key: &str, reason: Option<Reasons>) {
    reasons.extend(reason.map(|reason| (key.to_owned(), reason)));
}

fn refuse(reasons: Vec<(String, Reasons)>) -> Result<(), Refusal> {
    match some_fields(reasons) {
        None => Ok(()),
        Some(reasons) => Err(Refusal::Invalid(reasons.to_json())),
    }
}
