//! A trace's life as it is told: over HTTP as JSON, by `explain` as text. Times count from the first arrival; reasons are
//! the labels of the metrics that count them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The life of one released trace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// Tells tenants apart; there is none without `receivers.otlp.include_metadata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Wall time of the first arrival.
    pub first_arrival_unix_ms: u64,
    /// Last arrival.
    pub last_arrival_ms: u64,
    /// Requests that had spans of it.
    pub fragments: u64,
    /// Received spans.
    pub spans: u64,
    /// Why and when it was released.
    pub released: Moment,
    /// Spans of the trace that went on before it, in parts that may not be remembered any more; `None`: it is the first one,
    /// as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows_spans: Option<u64>,
    /// How it was asked for; `None`: not at all.
    pub asks: Option<Asks>,
    /// What came of it; `None`: it is in completion still.
    pub answer: Option<Outcome>,
    /// What weaving did; `None`: nothing yet.
    pub woven: Option<Woven>,
    /// What became of its spans, by destination; what is not in here is on its way.
    pub destinations: BTreeMap<String, Vec<Ending>>,
}

/// Something with a reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Why, or how it ended.
    pub reason: String,
    /// When.
    pub at_ms: u64,
}

/// See [`Told::asks`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asks {
    /// How many.
    pub count: u64,
    /// Begin of the first.
    pub first_ms: u64,
    /// Begin of the last.
    pub last_ms: u64,
    /// How the last one that ended did.
    pub ended: Option<Moment>,
}

/// See [`Told::answer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With spans.
    Found {
        /// System and network spans in the answer.
        spans: u64,
        /// When.
        at_ms: u64,
    },
    /// Without, and why.
    Skipped(Moment),
}

/// See [`Told::woven`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Woven {
    /// Process spans added.
    pub system: u64,
    /// Network spans added.
    pub network: u64,
    /// Network spans left out by configuration.
    pub omitted: u64,
    /// Received spans with a new parent.
    pub reparented: u64,
    /// When.
    pub at_ms: u64,
}

/// What became of some of a trace's spans at a destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// delivered, dead_lettered, dropped, handed_back (left in the journal at the end), or parked (waiting in it).
    pub fate: String,
    /// Why they were dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many.
    pub spans: u64,
    /// When the last of them was.
    pub at_ms: u64,
}

/// Where a trace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// In completion.
    Waiting,
    /// On its way to a destination.
    Sending,
    /// Every destination has it or has given it up.
    Ended,
}

/// A life in one line.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    trace_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'a str>,
    first_arrival_unix_ms: u64,
    state: State,
    spans: u64,
    added_spans: u64,
    released: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<&'a str>,
}

impl Told {
    /// Where the trace is.
    pub fn state(&self) -> State {
        let ended = |ends: &Vec<Ending>| {
            let ended = ends.iter().filter(|end| end.fate != "parked");
            ended.map(|end| end.spans).sum::<u64>() >= self.spans
        };
        if self.destinations.values().all(ended) {
            State::Ended
        } else if self.answer.is_some() || !self.destinations.values().all(Vec::is_empty) {
            State::Sending
        } else {
            State::Waiting
        }
    }

    /// In one line.
    pub fn summary(&self) -> Summary<'_> {
        Summary {
            trace_id: &self.trace_id,
            origin: self.origin.as_deref(),
            first_arrival_unix_ms: self.first_arrival_unix_ms,
            state: self.state(),
            spans: self.spans,
            added_spans: self.woven.as_ref().map_or(0, |woven| woven.system + woven.network),
            released: &self.released.reason,
            skipped: match &self.answer {
                Some(Outcome::Skipped(why)) => Some(&why.reason),
                _ => None,
            },
        }
    }
}
