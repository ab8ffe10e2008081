//! What an answer of DeepFlow means: spans, nothing yet, a fault to wait out, or a refusal (DeepFlow contract,
//! sections 2 and 15).

use std::{borrow::Cow, mem};

use foldhash::{HashMap, HashSet};
use serde::de::IgnoredAny;
use serde_json::Result;

use super::{json::Json, lenient::whole_from_text, row::Row, rows::Rows};
use crate::trace::{Found, FoundParent, FoundSpan, SpanId, Text};

/// Rows taken from one answer. DeepFlow itself stops at about a thousand (DeepFlow contract, fact 5).
const ROWS_MAX: usize = 5_000;
/// From so many rows on DeepFlow has cut its answer, without saying so (DeepFlow contract, fact 5).
const ROWS_TRUNCATED: usize = 1_000;
/// Rows that there is room for at first: a small trace's.
const ROWS_FEW: usize = 32;
/// Reasons hold up to kilobytes of SQL (DeepFlow contract, section 2).
const WHY_CHARS_MAX: usize = 200;

/// How an answer is to be taken (DeepFlow contract, section 15, item 3).
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// System and network spans came back.
    Found(Found),
    /// Nothing is there yet: ask again later, a bounded number of times.
    NotFound,
    /// A fault of the server: back off, then ask again. Holds what it said, at most 200 characters.
    Retry(String),
    /// The same request will never be answered. Holds what the server said, at most 200 characters.
    Reject(String),
}

/// Sorts an answer into its class and reads its rows. Total: any status and any bytes have an outcome
/// (DeepFlow contract, sections 2 and 15).
pub fn classify(http_status: u16, body: &[u8]) -> Outcome {
    let envelope = Envelope::parse(body);
    let why = |envelope| why(http_status, envelope, body);
    let is_partial = envelope.as_ref().is_ok_and(Envelope::is_partial);
    if matches!(http_status, 400 | 404 | 405 | 413) && !is_partial {
        return Outcome::Reject(why(envelope.as_ref().ok()));
    }
    let Ok(mut envelope) = envelope else {
        return Outcome::Retry(why(None));
    };
    match envelope.verdict(http_status) {
        Verdict::Read => match envelope.found() {
            Some(found) => Outcome::Found(found),
            None if envelope.is_nothing_found() => Outcome::NotFound,
            None => Outcome::Retry(why(Some(&envelope))),
        },
        Verdict::NotFound => Outcome::NotFound,
        Verdict::Retry => Outcome::Retry(why(Some(&envelope))),
        Verdict::Reject => Outcome::Reject(why(Some(&envelope))),
    }
}

/// What stands around the rows; Sanic's own errors have a `message` instead.
#[derive(Debug, Default)]
struct Envelope<'a> {
    status: Cow<'a, str>,
    description: Cow<'a, str>,
    message: Cow<'a, str>,
    data: Data<'a>,
}

#[derive(Debug, Default)]
struct Data<'a> {
    tracing: Option<Reading<'a>>,
    host_clock_correction: Corrections,
}

impl<'a> Data<'a> {
    fn read(json: &mut Json<'a>) -> Result<Self> {
        let mut data = Self::default();
        json.members(|json, key| {
            match key {
                "tracing" => data.tracing = Reading::read(json)?,
                "host_clock_correction" => data.host_clock_correction = Corrections::read(json)?,
                _ => json.skip()?,
            }
            Ok(())
        })?;
        Ok(data)
    }
}

/// What the envelope alone says.
enum Verdict {
    Read,
    NotFound,
    Retry,
    Reject,
}

impl<'a> Envelope<'a> {
    fn parse(body: &'a [u8]) -> Result<Self> {
        let mut json = Json::new(body);
        let envelope = Self::read(&mut json)?;
        json.end().map(|()| envelope)
    }

    /// Anything but an object says nothing.
    fn read(json: &mut Json<'a>) -> Result<Self> {
        let mut envelope = Self::default();
        json.members(|json, key| {
            match key {
                "OPT_STATUS" => envelope.status = json.words()?,
                "DESCRIPTION" => envelope.description = json.words()?,
                "message" => envelope.message = json.words()?,
                "DATA" => envelope.data = Data::read(json)?,
                _ => json.skip()?,
            }
            Ok(())
        })?;
        Ok(envelope)
    }

    fn verdict(&self, http_status: u16) -> Verdict {
        match (http_status, self.is_partial()) {
            (_, true) | (200, false) => Verdict::Read,
            (500, false) => fault(&self.description),
            _ => Verdict::Retry,
        }
    }

    /// A later query failed; what the earlier ones found may be there.
    fn is_partial(&self) -> bool {
        self.status == "PARTIAL_RESULT"
    }

    /// The spans of the rows; `None` without any.
    fn found(&mut self) -> Option<Found> {
        let Data { tracing, host_clock_correction } = &mut self.data;
        tracing.as_mut()?.found(host_clock_correction)
    }

    /// An answer without a single row: of v6.3 to v6.5 it says "nothing found", of a failed query and of anything
    /// that is no answer of DeepFlow's it says nothing.
    fn is_nothing_found(&self) -> bool {
        let is_answer = self.status == "SUCCESS" || self.data.tracing.is_some();
        is_answer && !self.is_partial()
    }
}

/// DeepFlow reports nearly everything as HTTP 500; only the text tells (DeepFlow contract, fact 2).
fn fault(description: &str) -> Verdict {
    if description == "'data'" {
        return Verdict::Retry;
    }
    if is_one_quoted_word(description) {
        return Verdict::NotFound;
    }
    if description.contains("parsing body") || description.contains("recursion") {
        return Verdict::Reject;
    }
    Verdict::Retry
}

/// A Python `KeyError` names the column that an empty table lacks.
fn is_one_quoted_word(description: &str) -> bool {
    description
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
        .is_some_and(|word| !word.contains('\''))
}

/// What the server said, in one short line.
fn why(http_status: u16, envelope: Option<&Envelope<'_>>, body: &[u8]) -> String {
    let said = envelope.map_or_else(
        || String::from_utf8_lossy(body.get(..WHY_CHARS_MAX).unwrap_or(body)),
        |envelope| match &envelope.description {
            none if none.is_empty() => Cow::Borrowed(&*envelope.message),
            description => Cow::Borrowed(&**description),
        },
    );
    let line = format!("HTTP {http_status}: {said}");
    line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(WHY_CHARS_MAX).collect()
}

/// Agent → microseconds to add to its times.
#[derive(Debug, Default)]
struct Corrections(HashMap<u64, i64>);

impl Corrections {
    /// More agents than rows can name.
    const MAX: usize = ROWS_MAX;

    fn of(&self, agent_id: u64) -> i64 {
        self.0.get(&agent_id).copied().unwrap_or(0)
    }

    fn read(json: &mut Json<'_>) -> Result<Self> {
        let mut corrections = Self::default();
        json.members(|json, key| {
            let known = whole_from_text(key).zip(json.number()?);
            if let Some((agent, us)) = known.filter(|_| corrections.0.len() < Self::MAX) {
                corrections.0.insert(agent, us);
            }
            Ok(())
        })?;
        Ok(corrections)
    }
}

/// The rows read so far. Parents are named by texts that may stand further on, so they are looked up at the end.
#[derive(Debug, Default)]
struct Reading<'a> {
    spans: Vec<FoundSpan>,
    /// What each of `spans` hangs below.
    parent_names: Vec<Cow<'a, str>>,
    /// Received spans and what they hang below.
    app_parent_names: Vec<(SpanId, Cow<'a, str>)>,
    /// What each name stands for.
    named: HashMap<Cow<'a, str>, FoundParent>,
    /// (region, row) → place in `spans`.
    places: HashMap<(Text, u64), usize>,
    rows: usize,
    unusable: usize,
}

impl<'a> Reading<'a> {
    /// `None` of null; anything else but a list has no rows.
    fn read(json: &mut Json<'a>) -> Result<Option<Self>> {
        let mut reading = Self::default();
        if !json.enters_list() {
            return json.any::<Option<IgnoredAny>>().map(|any| any.map(|_| reading));
        }
        let mut rows = Rows::default();
        while json.has_item()? {
            // Where it stays, if it is one.
            let span = reading.next_span(rows.has_before());
            let row = rows.next(json, span)?;
            if reading.keeps(row) {
                rows.keep();
            } else {
                reading.spans.pop();
            }
        }
        Ok(Some(reading))
    }

    /// A place for the next span: a copy of the last one, or one of which nothing is known.
    fn next_span(&mut self, is_alike: bool) -> &mut FoundSpan {
        if self.spans.is_empty() {
            self.spans.reserve(ROWS_FEW);
            self.parent_names.reserve(ROWS_FEW);
            self.app_parent_names.reserve(ROWS_FEW);
            self.named.reserve(ROWS_FEW);
            self.places.reserve(ROWS_FEW);
        }
        let last = self.spans.last_mut().filter(|_| is_alike);
        let next = last.map(copy_but_own).unwrap_or_default();
        self.spans.push_mut(next)
    }

    /// Takes the row of the last span; false if that is none, or none that is new.
    fn keeps(&mut self, row: Row<'a>) -> bool {
        if row.is_app {
            self.take_app(row);
            return false;
        }
        self.rows += 1;
        self.spans.len() <= ROWS_MAX && self.keeps_found(row)
    }

    /// The span itself is ours and goes its own way; only what it hangs below is news.
    fn take_app(&mut self, row: Row<'a>) {
        if let Some(id) = row.span_id {
            self.named.entry(row.name).or_insert(FoundParent::App(id));
            self.app_parent_names.push((id, row.parent_name));
        }
    }

    fn keeps_found(&mut self, mut row: Row<'a>) -> bool {
        let new = self.parent_names.len();
        let Some(span) = self.spans.last_mut() else { return false };
        if row.complete(span).is_none() {
            self.unusable += 1;
            return false;
        }
        let place = *self.places.entry((span.region.clone(), span.row)).or_insert(new);
        self.named.entry(row.name).or_insert(FoundParent::Found(place));
        if place == new {
            self.parent_names.push(row.parent_name);
        }
        place == new
    }

    /// `None` when no system or network row was among them.
    fn found(&mut self, corrections: &Corrections) -> Option<Found> {
        if self.spans.is_empty() {
            return None;
        }
        for (place, (span, name)) in self.spans.iter_mut().zip(&self.parent_names).enumerate() {
            span.clock_correction_us = corrections.of(span.agent_id);
            span.parent = parent(&self.named, name, place);
        }
        Some(Found {
            app_edges: app_edges(&self.named, &self.app_parent_names),
            truncated: self.rows >= ROWS_TRUNCATED,
            unusable: self.unusable,
            spans: mem::take(&mut self.spans),
        })
    }
}

/// What the next row may take over: all but what is each row's own (`Field::is_own`).
fn copy_but_own(span: &mut FoundSpan) -> FoundSpan {
    let merged_rows = mem::take(&mut span.merged_rows);
    let copy = FoundSpan { start_us: 0, end_us: 0, ..span.clone() };
    span.merged_rows = merged_rows;
    copy
}

/// What a name stands for; an app span is called by its span id, so one that did not come back still has a name.
fn parent(named: &HashMap<Cow<'_, str>, FoundParent>, name: &str, place: usize) -> FoundParent {
    match named.get(name) {
        _ if name.is_empty() => FoundParent::Root,
        Some(FoundParent::Found(own)) if *own == place => FoundParent::Root,
        Some(parent) => *parent,
        None => name.parse().map_or(FoundParent::Root, FoundParent::App),
    }
}

/// Each (app span, found span above it) once, in the order of the answer.
fn app_edges(
    named: &HashMap<Cow<'_, str>, FoundParent>,
    app_parent_names: &[(SpanId, Cow<'_, str>)],
) -> Vec<(SpanId, usize)> {
    let mut seen = HashSet::default();
    let edges = app_parent_names.iter().filter_map(|(id, name)| match named.get(name) {
        Some(FoundParent::Found(place)) if !name.is_empty() => Some((*id, *place)),
        _ => None,
    });
    edges.filter(|edge| seen.insert(*edge)).collect()
}
