//! The heart of the pipeline: traces and answers in, enriched traces out, on as many cores as there are.

use std::{mem, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use super::outgoing::Outgoing;
use crate::{
    buffer, clock,
    completion::Completed,
    memory::Budget,
    telemetry::{Metrics, Watched},
    trace::{Additions, Answer, Event, Fragment},
    watchdog::Beat,
    weaving::{self, Woven, WovenTrace},
};

/// Traces that a weaver takes at once. Where cores are short it has its turn after hundreds of asks: with few at a time,
/// answers would pile up before it.
const WOVEN_AT_ONCE: usize = 128;
/// Bytes, received or found, that it weaves at once, and brings back from the journal before, unless a single trace is
/// more.
const LOADED_BYTES: u64 = 1024 * 1024;
/// About what a found span takes.
const FOUND_SPAN_BYTES: usize = 1024;
/// So many are enough for a turn: others may have the next traces.
const TAKEN_BYTES: u64 = 4 * LOADED_BYTES;
/// After so long it is somebody else's turn, too.
const TURN_MAX: Duration = Duration::from_millis(5);

/// Starts them; they end with `completed`.
pub(super) fn start_weavers(
    completed: mpsc::UnboundedReceiver<Completed>,
    config: &weaving::Config,
    buffer: &Arc<buffer::Buffer>,
    outgoing: &Outgoing,
    watched: &Watched,
) -> JoinSet<()> {
    let completed = Arc::new(Mutex::new(completed));
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut weavers = JoinSet::new();
    for number in 0..cores.max(2) {
        let weaver = Weaver {
            config: config.clone(),
            buffer: Arc::clone(buffer),
            outgoing: outgoing.clone(),
            metrics: Arc::clone(&watched.metrics),
            budget: Arc::clone(&watched.budget),
        };
        let completed = Arc::clone(&completed);
        let work = move |beat: Beat| weaver.run(completed, beat);
        weavers.spawn(watched.watchdog.supervise(&format!("weaver {number}"), work));
    }
    weavers
}

struct Weaver {
    config: weaving::Config,
    buffer: Arc<buffer::Buffer>,
    outgoing: Outgoing,
    metrics: Arc<Metrics>,
    budget: Arc<Budget>,
}

impl Weaver {
    async fn run(self, completed: Arc<Mutex<mpsc::UnboundedReceiver<Completed>>>, beat: Beat) {
        loop {
            let traces = beat.during(take(&completed)).await;
            if traces.is_empty() {
                return;
            }
            let mut turn = clock::now();
            for traces in loads(traces) {
                if clock::now().saturating_duration_since(turn) > TURN_MAX {
                    tokio::task::yield_now().await;
                    turn = clock::now();
                }
                let loaded = beat.during(self.outgoing.load(traces, &self.budget)).await;
                let mut told = Vec::with_capacity(loaded.len());
                let woven = loaded.into_iter().filter_map(|loaded| match loaded {
                    Ok(completed) => {
                        let mut woven = self.weave(completed);
                        told.push((woven.key.clone(), woven.sent.take()));
                        Some(woven)
                    }
                    Err(key) => {
                        told.push((key, None));
                        None
                    }
                });
                self.outgoing.send(woven);
                // Then the next parts may follow: what these are is on its way to the journal before.
                for (key, sent) in told {
                    self.buffer.woven(key, sent);
                }
            }
        }
    }

    fn weave(&self, (trace, answer): Completed) -> WovenTrace {
        let woven = weaving::weave(trace, answer, &self.config);
        count(&self.metrics, woven.woven);
        woven.lease.note(Event::Woven(additions(woven.woven)));
        woven
    }
}

/// The next traces, as many as are there and are enough for a turn; none is the end.
async fn take(completed: &Mutex<mpsc::UnboundedReceiver<Completed>>) -> Vec<Completed> {
    let mut completed = completed.lock().await;
    let mut next = completed.recv().await;
    let (mut traces, mut bytes) = (Vec::with_capacity(WOVEN_AT_ONCE), 0);
    while let Some(trace) = next {
        bytes += work_bytes(&trace);
        traces.push(trace);
        let is_enough = traces.len() >= WOVEN_AT_ONCE || bytes >= TAKEN_BYTES;
        next = if is_enough { None } else { completed.try_recv().ok() };
    }
    traces
}

fn work_bytes((trace, answer): &Completed) -> u64 {
    let received: u64 = trace.fragments.iter().map(Fragment::wire_bytes).sum();
    let found = match answer {
        Answer::Found(found) => found.spans.len() * FOUND_SPAN_BYTES,
        Answer::Skipped(_) => 0,
    };
    received + u64::try_from(found).unwrap_or(u64::MAX)
}

/// What is brought back and woven at once.
fn loads(traces: Vec<Completed>) -> Vec<Vec<Completed>> {
    let (mut loads, mut load, mut bytes) = (Vec::new(), Vec::new(), 0);
    for completed in traces {
        let own = work_bytes(&completed);
        if !load.is_empty() && bytes + own > LOADED_BYTES {
            loads.push(mem::take(&mut load));
            bytes = 0;
        }
        bytes += own;
        load.push(completed);
    }
    loads.push(load);
    loads
}

fn additions(woven: Woven) -> Additions {
    let Woven { system, network, omitted, reparented, .. } = woven;
    Additions { system, network, omitted, reparented }
}

fn count(metrics: &Metrics, woven: Woven) {
    let metrics = &metrics.weaving;
    metrics.added_spans.add(0, woven.system);
    metrics.added_spans.add(1, woven.network);
    metrics.omitted_spans.increment(woven.omitted);
    metrics.reparented_spans.increment(woven.reparented);
    metrics.stale_parents.increment(woven.stale_parents);
    metrics.deferred_calls.increment(woven.deferred_calls);
    metrics.beyond_limit_spans.add(0, woven.forgotten_spans);
    metrics.beyond_limit_spans.add(1, woven.beyond_limit);
    metrics.late_spans.add(0, woven.late_enriched);
    metrics.late_spans.add(1, woven.late_forwarded);
    for (kind, outcome, texts) in woven.texts.counts() {
        if let Some(family) = metrics.texts.get(kind) {
            family.add(outcome, texts);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        ledger::Ledger,
        memory::Stage,
        trace::{Found, FoundSpan, Lease, Origin, QuietTrace, Release, TraceId, TraceKey},
    };

    /// A trace with so much received and found.
    fn completed(wire_bytes: usize, found_spans: usize) -> Completed {
        let bytes = Bytes::from(vec![0; wire_bytes]).into();
        let ledger = Ledger::new(["one".to_owned()]);
        let memory = Budget::new(1000).claim(Stage::Answers, 0);
        let id = TraceId::from_wire(&9_u128.to_be_bytes()).expect("not zero");
        let trace = QuietTrace {
            key: TraceKey { id, origin: Origin::default() },
            fragments: vec![Fragment { bytes, spans: 0, place: None, spilled_len: 0 }],
            first_arrival: clock::now(),
            last_arrival: clock::now(),
            released: clock::now(),
            release: Release::Idle,
            more: false,
            sent: None,
            lease: Lease::new(ledger, 0, memory),
        };
        let spans = vec![FoundSpan::default(); found_spans];
        (Box::new(trace), Answer::Found(Box::new(Found { spans, ..Found::default() })))
    }

    #[tokio::test]
    async fn a_turn_takes_what_is_there_and_no_more_than_is_enough() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let receiver = Mutex::new(receiver);
        let large = usize::try_from(TAKEN_BYTES).expect("it fits");
        let sizes = [vec![100; 300], vec![large, 100], vec![large / 2; 3]].concat();
        for size in sizes {
            sender.send(completed(size, 0)).expect("it is there");
        }
        drop(sender);
        for wanted in [128, 128, 44 + 1, 1 + 2, 1, 0] {
            assert_eq!(take(&receiver).await.len(), wanted);
        }
    }

    #[test]
    fn what_is_woven_at_once_is_bounded_by_what_was_received_and_found() {
        let half = usize::try_from(LOADED_BYTES / 2).expect("it fits");
        let traces = vec![
            completed(half, 0),
            completed(0, half / FOUND_SPAN_BYTES),
            completed(100, 0),
            completed(3 * half, 0),
            completed(0, 3 * half / FOUND_SPAN_BYTES),
        ];
        let loads: Vec<usize> = loads(traces).iter().map(Vec::len).collect();
        assert_eq!(loads, [2, 1, 1, 1]);
    }
}
