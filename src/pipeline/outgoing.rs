//! From weaving to the destinations: what becomes of a trace is written down, then it is sent; what destinations can't
//! take waits in the journal and is sent later.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    buffer::{Buffer, Keeper, PlanToKeep, Revived},
    clock,
    completion::Completed,
    exporter::Exporters,
    ledger::Destination,
    memory::{Budget, Stage},
    telemetry::{Metrics, Watched},
    trace::{Additions, EnrichedTrace, Event, Fragment, Place, Plan, TraceKey},
    watchdog::Beat,
    weaving::{self, WovenTrace},
};

/// Traces taken up in one round: a task that asks for each has its turn taken away after 128.
const TRACES_AT_ONCE: usize = 128;
/// How often it is looked who has room …
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// … and how full the journal is while nothing waits in it and it is half empty.
const LOOK_IDLE_EVERY: Duration = Duration::from_secs(1);
const IDLE_FILL: f64 = 0.5;
/// Traces brought back at a time, and bytes, unless a single trace is more.
const REVIVED_MAX: usize = 64;
const REVIVED_BYTES: u64 = 4 * 1024 * 1024;
/// How often it is looked whether there is memory to read spans back into …
const LOAD_EVERY: Duration = Duration::from_millis(5);
/// … and of the limit, so much may be on its way out before that is waited for: what fills the memory leaves it only this
/// way, so that it must never be a trickle.
const LEAVING_SHARE: u64 = 8;

/// The way out.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    buffer: Arc<Buffer>,
    traces: mpsc::UnboundedSender<Arc<EnrichedTrace>>,
    metrics: Arc<Metrics>,
}

impl Outgoing {
    /// The way out, and the task that hands traces to the destinations; it ends when all handles are gone.
    pub(super) fn start(
        buffer: Arc<Buffer>,
        exporters: Arc<Exporters>,
        watched: &Watched,
    ) -> (Self, JoinHandle<()>) {
        // Not bounded by number: what is in it has its bytes in the memory budget.
        let (traces, mut outgoing) = mpsc::unbounded_channel();
        let budget = Arc::clone(&watched.budget);
        let work = |beat: Beat| async move {
            let mut traces = Vec::with_capacity(TRACES_AT_ONCE);
            // While memory fills one by one, as the judge does.
            let most = || if budget.is_spilling() { 1 } else { TRACES_AT_ONCE };
            while beat.during(outgoing.recv_many(&mut traces, most())).await > 0 {
                for trace in traces.drain(..) {
                    beat.during(exporters.send(trace)).await;
                }
            }
        };
        let handing = tokio::spawn(watched.watchdog.supervise("outgoing traces", work));
        (Self { buffer, traces, metrics: Arc::clone(&watched.metrics) }, handing)
    }

    /// Brings back what was left to the journal while the traces waited; `None` for those of which the disk does not
    /// answer: they stay there for the next start.
    pub(super) async fn load(
        &self,
        traces: Vec<Completed>,
        budget: &Budget,
    ) -> Vec<Result<Completed, TraceKey>> {
        let is_spilled = |(trace, _): &Completed| trace.is_spilled();
        let Some(keeper) = self.buffer.keeper().cloned().filter(|_| traces.iter().any(is_spilled))
        else {
            return traces.into_iter().map(Ok).collect();
        };
        // What is on its way out makes room, but for what waits for a destination that fails.
        let enough = budget.limit_bytes() / LEAVING_SHARE;
        while budget.is_short() && budget.leaving_bytes() > enough {
            tokio::time::sleep(LOAD_EVERY).await;
        }
        let load = move |(mut trace, answer): Completed| {
            let is_there = keeper.load(&mut trace.fragments, &trace.lease);
            if is_there { Ok((trace, answer)) } else { Err(trace.key) }
        };
        let load = move || traces.into_iter().map(load).collect();
        match tokio::task::spawn_blocking(load).await {
            Ok(traces) => traces,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Sends traces, once the journal knows what becomes of them.
    pub(super) fn send(&self, woven: impl Iterator<Item = WovenTrace>) {
        // Of others a last part brought nothing.
        let woven = woven.filter(|woven| !woven.fragments.is_empty() || !woven.plan.is_empty());
        let Some(keeper) = self.buffer.keeper() else {
            return woven.for_each(|woven| self.hand_on(Arc::new(woven.into_enriched())));
        };
        let plans = woven.filter_map(|woven| {
            if woven.fragments.is_empty() {
                // Without spans there is nothing that could be safe: a plan would cover no part.
                self.hand_on(Arc::new(woven.into_enriched()));
                return None;
            }
            Some(self.planned(keeper, woven))
        });
        keeper.keep_plans(plans);
    }

    /// What the journal is to know of a trace, and how the trace goes on then.
    fn planned(
        &self,
        keeper: &Keeper,
        woven: WovenTrace,
    ) -> (PlanToKeep, impl FnOnce(Option<Place>) + Send + 'static) {
        let record = keeper.plan_to_keep(&woven.key, parts(&woven.fragments), &woven.plan);
        let WovenTrace { key, fragments, plan, lease, .. } = woven;
        // On a full disk there is room for the plan that changes nothing, at the latest once the disk is known to be full.
        let (pieces, unwoven) = if plan.is_empty() {
            (weaving::unchanged(fragments), None)
        } else {
            (weaving::apply(&fragments, &plan), Some((fragments, plan)))
        };
        let trace = EnrichedTrace { key, pieces, lease };
        trace.lease.hold(Stage::Export, trace.held_bytes());
        let (outgoing, trace) = (self.clone(), Arc::new(trace));
        let then = move |place| match (place, unwoven) {
            (None, Some((fragments, plan))) => outgoing.send_plain(&fragments, &plan, trace),
            (None, None) => outgoing.send_unchanged(trace),
            (place, _) => outgoing.send_planned(place, trace),
        };
        (record, then)
    }

    /// Tries once more to tell the journal of a trace that goes out as it came.
    fn send_unchanged(&self, trace: Arc<EnrichedTrace>) {
        let Some(keeper) = self.buffer.keeper() else { return self.hand_on(trace) };
        let places = trace.lease.places();
        // A part that can't be read any more left the trace, but not its lease.
        if places.len() != trace.pieces.len() {
            return self.hand_on(trace);
        }
        let spans =
            trace.pieces.iter().map(|piece| u32::try_from(piece.app_spans).unwrap_or(u32::MAX));
        let parts = places.into_iter().map(Some).zip(spans);
        let record = keeper.plan_to_keep(&trace.key, parts, &Plan::default());
        self.keep(keeper, record, trace);
    }

    /// Sends it, whether or not the journal can be told now.
    fn keep(&self, keeper: &Keeper, record: PlanToKeep, trace: Arc<EnrichedTrace>) {
        let outgoing = self.clone();
        keeper.keep_plans([(record, move |place| outgoing.send_planned(place, trace))]);
    }

    /// The plan found no room: the trace goes out as it came, and the journal knows that, and later parts of the trace.
    fn send_plain(&self, fragments: &[Fragment], plan: &Plan, mut trace: Arc<EnrichedTrace>) {
        self.metrics.weaving.unwoven_traces.increment(1);
        trace.lease.note(Event::Woven(Additions::default()));
        self.buffer.unwoven(trace.key.clone(), plan.added_ids());
        let nothing = Plan::default();
        // Nobody else has it yet.
        if let Some(trace) = Arc::get_mut(&mut trace) {
            trace.pieces = weaving::apply(fragments, &nothing);
        }
        let Some(keeper) = self.buffer.keeper() else { return self.hand_on(trace) };
        let record = keeper.plan_to_keep(&trace.key, parts(fragments), &nothing);
        self.keep(keeper, record, trace);
    }

    /// Without a place not even that could be written: it goes all the same, and may go again, and otherwise, after a crash.
    fn send_planned(&self, place: Option<Place>, trace: Arc<EnrichedTrace>) {
        if let Some(place) = place {
            trace.lease.planned(place);
        }
        self.hand_on(trace);
    }

    fn hand_on(&self, trace: Arc<EnrichedTrace>) {
        // The task ends after the last handle.
        let _gone = self.traces.send(trace);
    }
}

/// Where each fragment is kept, and its spans.
fn parts(fragments: &[Fragment]) -> impl Iterator<Item = (Option<Place>, u32)> {
    fragments.iter().map(|fragment| (fragment.place, fragment.spans))
}

/// Sends what waits in the journal, as destinations have room and at no more than `rate_bytes` a second (0: no limit),
/// until `ending` turns true.
pub(super) async fn send_parked(
    keeper: Arc<Keeper>,
    exporters: Arc<Exporters>,
    rate_bytes: u64,
    metrics: Arc<Metrics>,
    mut ending: watch::Receiver<bool>,
    beat: Beat,
) {
    while !*ending.borrow() {
        // Then further destinations no longer hold traces in it.
        exporters.relieve(keeper.is_nearly_full());
        #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
        metrics.buffer.parked_traces.set(keeper.parked_traces() as f64);
        let ready = {
            let exporters = Arc::clone(&exporters);
            move |destination: Destination| exporters.is_ready(destination)
        };
        let began = clock::now();
        let revived = beat.during(revive(&keeper, ready.clone())).await;
        let mut bytes = 0;
        for trace in revived {
            let lacking: Vec<_> = trace.lacking.iter().copied().filter(|d| ready(*d)).collect();
            let trace = enriched(trace);
            bytes += trace.bytes();
            beat.during(exporters.send_to(trace, &lacking)).await;
        }
        let pause = match bytes {
            0 if keeper.parked_traces() == 0 && keeper.fill() < IDLE_FILL => LOOK_IDLE_EVERY,
            0 => LOOK_EVERY,
            _ => Duration::from_micros((bytes * 1_000_000).checked_div(rate_bytes).unwrap_or(0)),
        };
        let pause = async {
            tokio::select! {
                () = tokio::time::sleep_until(began + pause) => {}
                () = keeper.parked(), if bytes == 0 => {}
                // An error means that nobody is left to end it.
                _ = ending.changed() => {}
            }
        };
        beat.during(pause).await;
    }
}

async fn revive(
    keeper: &Arc<Keeper>,
    ready: impl Fn(Destination) -> bool + Send + 'static,
) -> Vec<Revived> {
    if keeper.parked_traces() == 0 {
        return Vec::new();
    }
    let keeper = Arc::clone(keeper);
    let revive = move || {
        let mut bytes = 0;
        let revived = std::iter::from_fn(|| {
            let revived = (bytes < REVIVED_BYTES).then(|| keeper.revive(&ready)).flatten()?;
            bytes += revived.fragments.iter().map(Fragment::wire_bytes).sum::<u64>();
            Some(revived)
        });
        revived.take(REVIVED_MAX).collect::<Vec<_>>()
    };
    match tokio::task::spawn_blocking(revive).await {
        Ok(revived) => revived,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn enriched(revived: Revived) -> Arc<EnrichedTrace> {
    let Revived { key, fragments, plan, lease, .. } = revived;
    let pieces = weaving::apply(&fragments, &plan);
    let trace = EnrichedTrace { key, pieces, lease };
    trace.lease.hold(Stage::Export, trace.held_bytes());
    Arc::new(trace)
}
