//! What happened to a released trace, for people: kept for the last ones, and nothing acts on it.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    AskOutcome, Release, Skip, TraceId,
    told::{Asks, Ending, Moment, Outcome, Told, Woven},
};
use crate::{
    clock::Instant,
    ledger::{Account, Destination},
    memory::Reservation,
};

/// Something that happens to a trace after its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// So many spans of the trace went on before it, in earlier parts.
    Follows(u64),
    /// It is asked for.
    Asked,
    /// The ask ended.
    AskEnded(AskOutcome),
    /// It leaves completion with so many found spans.
    Found(u64),
    /// It leaves completion without.
    Skipped(Skip),
    /// It was woven.
    Woven(Additions),
    /// So many of its spans found their end at a destination.
    Settled(Destination, Account, u64),
    /// So many of its spans left memory and wait in the journal for a destination.
    Parked(Destination, u64),
}

/// What weaving did to a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Additions {
    /// Process spans added.
    pub system: u64,
    /// Network spans added.
    pub network: u64,
    /// Network spans left out by configuration.
    pub omitted: u64,
    /// Received spans with a new parent.
    pub reparented: u64,
}

/// How a trace came together, and why it was released.
#[derive(Debug, Clone, Copy)]
pub struct Arrivals {
    /// When the first span came.
    pub first: Instant,
    /// When the last span came.
    pub last: Instant,
    /// Requests that had spans of it.
    pub fragments: u64,
    /// Received spans.
    pub spans: u64,
    /// Why it was released.
    pub release: Release,
}

/// The life of one released trace. A trace whose spans come in several parts has one for each.
pub struct Life {
    /// In a box, so that leases which refer to a forgotten life hold next to nothing of it.
    facts: Box<Facts>,
}

struct Facts {
    number: u64,
    id: TraceId,
    /// Tells tenants apart without showing who they are.
    origin: Option<u64>,
    arrivals: Arrivals,
    /// Wall time of the first arrival.
    began_us: u64,
    released: Instant,
    destinations: Arc<[String]>,
    events: Mutex<Events>,
    _memory: Reservation,
}

#[derive(Debug, Default)]
struct Events {
    follows_spans: Option<u64>,
    asks: u64,
    first_ask: Option<Instant>,
    last_ask: Option<Instant>,
    ask_ended: Option<(AskOutcome, Instant)>,
    answer: Option<(Answered, Instant)>,
    woven: Option<(Additions, Instant)>,
    /// One for each destination and fate.
    ends: Vec<End>,
}

#[derive(Debug, Clone, Copy)]
enum Answered {
    Found(u64),
    Skipped(Skip),
}

#[derive(Debug)]
struct End {
    destination: Destination,
    /// `None`: parked, which is no account of the ledger; such spans are held.
    account: Option<Account>,
    spans: u64,
    at: Instant,
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").field("id", &self.facts.id).finish_non_exhaustive()
    }
}

impl Life {
    /// What a life takes, generously: names and texts are made when it is told.
    pub(super) const BYTES: u64 = 768;

    pub(super) fn new(
        number: u64,
        (id, origin): (TraceId, Option<u64>),
        arrivals: Arrivals,
        (now, wall_us): (Instant, u64),
        destinations: Arc<[String]>,
        memory: Reservation,
    ) -> Self {
        let age = now.saturating_duration_since(arrivals.first);
        let age_us = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        let facts = Facts {
            number,
            id,
            origin,
            arrivals,
            began_us: wall_us.saturating_sub(age_us),
            released: now,
            destinations,
            events: Mutex::default(),
            _memory: memory,
        };
        Self { facts: Box::new(facts) }
    }

    /// Finds it again, see [`super::Lives::again`].
    pub fn number(&self) -> u64 {
        self.facts.number
    }

    /// Whose life it is; two tenants may use one id.
    pub fn id(&self) -> TraceId {
        self.facts.id
    }

    /// Something happened.
    pub fn note(&self, now: Instant, event: Event) {
        let mut events = self.facts.events.lock();
        match event {
            Event::Follows(spans) => events.follows_spans = Some(spans),
            Event::Asked => {
                events.asks += 1;
                events.first_ask.get_or_insert(now);
                events.last_ask = Some(now);
            }
            Event::AskEnded(outcome) => events.ask_ended = Some((outcome, now)),
            Event::Found(spans) => events.answer = Some((Answered::Found(spans), now)),
            Event::Skipped(why) => events.answer = Some((Answered::Skipped(why), now)),
            Event::Woven(additions) => events.woven = Some((additions, now)),
            Event::Settled(destination, account, spans) => {
                events.end(now, destination, Some(account), spans);
            }
            Event::Parked(destination, spans) => events.end(now, destination, None, spans),
        }
    }

    /// What is known by now.
    pub fn told(&self) -> Told {
        let events = self.facts.events.lock();
        let moment = |reason: &str, at| Moment { reason: reason.to_owned(), at_ms: self.ms(at) };
        let arrivals = &self.facts.arrivals;
        let destinations = self.facts.destinations.iter().enumerate();
        Told {
            trace_id: self.facts.id.to_string(),
            origin: self.facts.origin.map(|hash| format!("{hash:016x}")),
            first_arrival_unix_ms: self.facts.began_us / 1000,
            last_arrival_ms: self.ms(arrivals.last),
            fragments: arrivals.fragments,
            spans: arrivals.spans,
            released: moment(arrivals.release.label(), self.facts.released),
            follows_spans: events.follows_spans,
            asks: events.first_ask.zip(events.last_ask).map(|(first, last)| Asks {
                count: events.asks,
                first_ms: self.ms(first),
                last_ms: self.ms(last),
                ended: events.ask_ended.map(|(outcome, at)| moment(outcome.label(), at)),
            }),
            answer: events.answer.map(|(answered, at)| match answered {
                Answered::Found(spans) => Outcome::Found { spans, at_ms: self.ms(at) },
                Answered::Skipped(why) => Outcome::Skipped(moment(why.label(), at)),
            }),
            woven: events.woven.map(|(additions, at)| {
                let Additions { system, network, omitted, reparented } = additions;
                Woven { system, network, omitted, reparented, at_ms: self.ms(at) }
            }),
            destinations: destinations
                .map(|(number, name)| (name.clone(), self.ends(&events, Destination(number))))
                .collect(),
        }
    }

    fn ends(&self, events: &Events, destination: Destination) -> Vec<Ending> {
        let ends = events.ends.iter().filter(|end| end.destination == destination);
        ends.map(|end| Ending {
            fate: end.account.map_or("parked", Account::label).to_owned(),
            reason: match end.account {
                Some(Account::Dropped(reason)) => Some(reason.label().to_owned()),
                _ => None,
            },
            spans: end.spans,
            at_ms: self.ms(end.at),
        })
        .collect()
    }

    /// Milliseconds since the first arrival.
    fn ms(&self, at: Instant) -> u64 {
        let since: Duration = at.saturating_duration_since(self.facts.arrivals.first);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Events {
    /// Spans of one trace may end in many requests: those with one fate are added up.
    fn end(
        &mut self,
        now: Instant,
        destination: Destination,
        account: Option<Account>,
        spans: u64,
    ) {
        // Whatever becomes of parked spans, they do not wait any more; parked again they are counted anew.
        self.ends.retain(|end| end.destination != destination || end.account.is_some());
        let same = |end: &&mut End| end.destination == destination && end.account == account;
        if let Some(end) = self.ends.iter_mut().find(same) {
            end.spans += spans;
            end.at = now;
        } else {
            self.ends.push(End { destination, account, spans, at: now });
        }
    }
}
