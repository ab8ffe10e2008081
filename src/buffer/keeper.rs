//! What the journal keeps of traces: their spans from arrival, their plans from weaving, and who has them already.

use std::{mem, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Notify;

use super::{
    journal::{AppendError, Journal, Kept, ReadError},
    parked::ParkedTraces,
    record::{PlanRecord, SpansMeta, headers, origin},
};
use crate::{
    clock,
    ledger::{Account, Destination, DropReason, Ledger},
    memory::{Budget, Stage},
    trace::{
        self, CLOSING, Durable, Fragment, Lease, Lives, Origin, Origins, Parked, Place, Plan,
        Refusal, Refused, TraceId, TraceKey,
    },
    wire::Spliced,
};

/// From this share of the journal's size on it is nearly full …
const NEARLY_FULL: f64 = 0.9;
/// … and from this part of the memory limit on, with what is kept of parked traces.
pub(super) const PARKED_SHARE: u64 = 4;

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    pub(super) journal: Journal,
    pub(super) parked: Mutex<ParkedTraces>,
    wake: Notify,
    pub(super) origins: Origins,
    pub(super) ledger: Arc<Ledger>,
    pub(super) budget: Arc<Budget>,
    pub(super) lives: Arc<Lives>,
}

/// See [`Keeper::plan_to_keep`].
#[derive(Debug)]
pub struct PlanToKeep {
    places: Vec<Place>,
    record: [Bytes; 2],
}

impl Keeper {
    pub(super) fn new(
        journal: Journal,
        ledger: Arc<Ledger>,
        budget: Arc<Budget>,
        lives: Arc<Lives>,
    ) -> Arc<Self> {
        Arc::new(Self {
            journal,
            parked: Mutex::new(ParkedTraces::new(&budget)),
            wake: Notify::new(),
            origins: Origins::default(),
            ledger,
            budget,
            lives,
        })
    }

    /// Why nothing can be kept now; `None` when it can.
    pub(super) fn refuses(&self) -> Option<Refused> {
        if self.journal.poisoned().is_some() {
            return Some(Refusal::JournalFailed.after(self.budget.full().retry_after));
        }
        (!self.journal.has_room(0)).then(|| self.full())
    }

    fn full(&self) -> Refused {
        Refusal::JournalFull.after(self.budget.full().retry_after)
    }

    /// Hardly any more traces can wait here: the disk is nearly full, or what is kept of them in memory is much of it.
    pub fn is_nearly_full(&self) -> bool {
        let parked_bytes_max = self.budget.limit_bytes() / PARKED_SHARE;
        self.fill() >= NEARLY_FULL || self.budget.stage_bytes(Stage::Parked) > parked_bytes_max
    }

    /// How full the journal is, from 0 to 1.
    #[allow(clippy::cast_precision_loss, reason = "a share")]
    pub fn fill(&self) -> f64 {
        self.journal.used_bytes() as f64 / self.journal.max_bytes().max(1) as f64
    }

    /// Writes a request's fragments; `then` gets them with their places, or why they can't be kept.
    pub(super) fn keep(
        &self,
        origin: &Origin,
        mut fragments: Vec<(TraceId, Fragment)>,
        then: impl FnOnce(Result<Vec<(TraceId, Fragment)>, Refused>) + Send + 'static,
    ) {
        let meta = SpansMeta { arrived_us: clock::wall_us(), origin: headers(origin) };
        // In an overload thousands of requests wait to be written.
        let parts = fragments.iter().map(|(_, fragment)| &fragment.bytes);
        let beside = u64::try_from(Journal::append_bytes(parts)).unwrap_or(u64::MAX);
        let beside = self.budget.claim(Stage::Buffer, beside);
        let parts = fragments.iter_mut().map(|(_, fragment)| mem::take(&mut fragment.bytes));
        let parts = parts.collect();
        let full = self.full();
        self.journal.append_spans(meta.encode_to_vec(), parts, move |result| {
            drop(beside);
            then(match result {
                Ok(kept) => Ok(placed(fragments, kept)),
                Err(AppendError::Full | AppendError::TooLarge(_)) => Err(full),
                Err(AppendError::Closed) => Err(CLOSING),
                Err(AppendError::Poisoned(_)) => {
                    Err(Refusal::JournalFailed.after(full.retry_after))
                }
            });
        });
    }

    /// What is to be written of how a trace goes out, of which there are these parts with so many spans.
    pub fn plan_to_keep(
        &self,
        key: &TraceKey,
        parts: impl Iterator<Item = (Option<Place>, u32)>,
        plan: &Plan,
    ) -> PlanToKeep {
        let (places, spans): (Vec<_>, Vec<_>) = parts.unzip();
        let places: Vec<Place> = places.into_iter().flatten().collect();
        let record = PlanRecord {
            origin: headers(&key.origin),
            parts: places.iter().map(|place| place.number).collect(),
            spans,
            plan: Bytes::new(),
        };
        PlanToKeep { places, record: record.encode_with(plan) }
    }

    /// Writes how traces go out, before their first bytes do; then each `then` is called, in the journal's thread. Where the
    /// journal can't be written a trace goes out all the same, and may go out once more after a restart.
    pub fn keep_plans<T>(&self, plans: impl IntoIterator<Item = (PlanToKeep, T)>)
    where
        T: FnOnce(Option<Place>) + Send + 'static,
    {
        let plans = plans.into_iter().map(|(PlanToKeep { places, record }, then)| {
            (places, record, move |result: Result<Place, AppendError>| then(result.ok()))
        });
        self.journal.append_plans(plans);
    }

    /// Reads back what was left to the journal. Spans that are damaged are taken out, and given up with their account.
    /// Where the disk does not answer the trace stays in the journal, and false is returned.
    pub fn load(&self, fragments: &mut Vec<Fragment>, lease: &Lease) -> bool {
        let mut answered = true;
        fragments.retain_mut(|fragment| {
            let Some(place) = fragment.place.filter(|_| fragment.is_spilled()) else { return true };
            match self.read(&place) {
                Ok(bytes) => match trace::written(bytes) {
                    Some((_, read)) => fragment.bytes = read.bytes,
                    None => self.give_up(lease, fragment.spans),
                },
                Err(ReadError::Io { .. }) => answered = false,
                Err(_) => self.give_up(lease, fragment.spans),
            }
            !fragment.is_spilled()
        });
        let held: u64 = fragments.iter().map(Fragment::held_bytes).sum();
        lease.hold(Stage::Answers, held.max(lease.bytes()));
        answered
    }

    pub(super) fn read(&self, place: &Place) -> Result<Spliced, ReadError> {
        told(self.journal.read(place))
    }

    fn give_up(&self, lease: &Lease, spans: u32) {
        for destination in 0..self.ledger.destinations() {
            let account = Account::Dropped(DropReason::Damaged);
            lease.settle(Destination(destination), account, u64::from(spans));
        }
    }

    pub(super) fn origin(&self, meta: &SpansMeta) -> Origin {
        origin(meta.origin.clone(), &self.origins)
    }

    /// The record of a plan.
    pub(super) fn plan_record(&self, place: &Place) -> Option<PlanRecord> {
        let record = PlanRecord::decode(self.read(place).ok()?.to_bytes());
        if let Err(error) = &record {
            tracing::error!(%error, "a plan in the journal can't be read");
        }
        record.ok()
    }

    /// Waits until a trace is parked, or some time has passed.
    pub async fn parked(&self) {
        self.wake.notified().await;
    }

    /// How many traces wait here for their destinations.
    pub fn parked_traces(&self) -> usize {
        self.parked.lock().len()
    }

    /// This part of an earlier run can't be read any more, and nobody has an account of its spans.
    pub(super) fn lose(&self, place: Place) {
        for destination in 0..self.ledger.destinations() {
            self.journal.done(destination, &[place]);
        }
        self.journal.release(&[place]);
    }

    /// The program ends: parked traces stay in the journal, and all that was written is made safe.
    pub fn close(&self) {
        let mut parked = self.parked.lock();
        while let Some(trace) = parked.pop(|_| true) {
            for (destination, spans) in trace.lacking {
                self.ledger.settle(destination, Account::HandedBack, spans);
            }
        }
        drop(parked);
        self.journal.close();
    }
}

impl Durable for Keeper {
    fn failure(&self) -> Option<String> {
        self.journal.poisoned()
    }

    fn read(&self, place: &Place) -> Option<Spliced> {
        Self::read(self, place).ok()
    }

    fn done(&self, destination: Destination, places: Vec<Place>, last: Vec<Place>) {
        self.journal.settle(destination.0, places, last);
    }

    fn release(&self, places: &[Place]) {
        self.journal.release(places);
    }

    fn park(&self, parked: Parked) {
        self.parked.lock().push(parked);
        self.wake.notify_one();
    }
}

/// The fragment that was read at a place, and whose spans they are.
pub(super) fn fragment(
    place: &Place,
    read: Result<Spliced, ReadError>,
) -> Result<(TraceId, Fragment), ReadError> {
    let read = trace::written(told(read)?);
    let (id, fragment) = read.ok_or(ReadError::Gone { number: place.number })?;
    Ok((id, Fragment { place: Some(*place), ..fragment }))
}

fn told(read: Result<Spliced, ReadError>) -> Result<Spliced, ReadError> {
    if let Err(error) = &read {
        tracing::error!(%error, "spans in the journal can't be read");
    }
    read
}

fn placed(
    mut fragments: Vec<(TraceId, Fragment)>,
    Kept { places, parts }: Kept,
) -> Vec<(TraceId, Fragment)> {
    for (((_, fragment), place), bytes) in fragments.iter_mut().zip(places).zip(parts) {
        (fragment.place, fragment.bytes) = (Some(place), bytes);
    }
    fragments
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, sync::mpsc};

    use opentelemetry_proto::tonic::{
        collector::trace::v1::ExportTraceServiceRequest,
        common::v1::{AnyValue, KeyValue, any_value::Value},
        resource::v1::Resource,
        trace::v1::{ResourceSpans, ScopeSpans, Span},
    };

    use super::*;
    use crate::{
        buffer::journal::{MemoryFiles, Settings},
        telemetry::Metrics,
        wire::{Level, Spliced},
    };

    /// Two traces below a resource that is large enough to be held once.
    fn fragments() -> Vec<(TraceId, Fragment)> {
        let value = Some(AnyValue { value: Some(Value::StringValue("r".repeat(300))) });
        let attribute = KeyValue { key: "service.name".to_owned(), value, ..KeyValue::default() };
        let resource = Resource { attributes: vec![attribute], ..Resource::default() };
        let span = |number: u8| Span {
            trace_id: vec![number % 2 + 1; 16],
            span_id: vec![number + 1; 8],
            name: format!("span {number}"),
            ..Span::default()
        };
        let spans = (0..4).map(span).collect();
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(resource),
                scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            }],
        };
        trace::split(request.encode_to_vec().into()).expect("OTLP").fragments
    }

    fn bodies((_, fragment): &(TraceId, Fragment)) -> Vec<Span> {
        let body = |span: &trace::SpanRef| {
            let start = usize::try_from(span.offset).expect("small");
            let end = start + usize::try_from(span.len).expect("small");
            Span::decode(fragment.bytes.own().slice(start..end)).expect("a span's own bytes")
        };
        fragment.span_refs().iter().map(body).collect()
    }

    #[test]
    fn what_comes_back_lies_where_it_says() {
        let metrics = Arc::new(Metrics::new(&["a".to_owned()]));
        let settings = Settings {
            files: Arc::new(MemoryFiles::new()),
            ..Settings::new(PathBuf::from("/journal"), vec!["a".to_owned()], metrics)
        };
        let (journal, _recovery) = Journal::open(settings).expect("opens");
        let names = vec!["a".to_owned()];
        let (ledger, budget) = (Ledger::new(names.clone()), Budget::new(1 << 20));
        let lives = Lives::new(0, &names, &budget);
        let keeper = Keeper::new(journal, Arc::clone(&ledger), Arc::clone(&budget), lives);
        assert!(!keeper.is_nearly_full());
        let parked = budget.claim(Stage::Parked, budget.limit_bytes() / PARKED_SHARE + 1);
        assert!(keeper.is_nearly_full(), "by what is kept of parked traces");
        drop(parked);
        let before: Vec<Vec<Span>> = fragments().iter().map(bodies).collect();
        assert!(
            fragments().iter().all(|(_, kept)| kept.bytes.shared(Level::Resource).count() == 1)
        );
        let (then, kept) = mpsc::channel();
        keeper.keep(&Origin::default(), fragments(), move |kept| then.send(kept).expect("waits"));
        let mut kept = kept.recv().expect("is called").expect("kept");
        for (_, fragment) in &mut kept {
            fragment.bytes = Spliced::default();
        }
        let (ids, mut kept): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
        let lease = Lease::new(ledger, 4, budget.claim(Stage::Buffer, 0));
        assert!(keeper.load(&mut kept, &lease));
        let kept: Vec<_> = ids.into_iter().zip(kept).collect();
        assert_eq!(kept.iter().map(bodies).collect::<Vec<_>>(), before);
        lease.settle(Destination(0), Account::Delivered, 4);
        keeper.close();
    }
}
