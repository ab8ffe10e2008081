//! What becomes of traces whose alarm went off: released, or put back with their age kept.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{
    deadlines::Deadlines,
    keeper::Keeper,
    open_trace::{OpenTrace, Released},
    order::Order,
    quiet::{Verdict, Wait, quiet},
    store::{Closed, Store, shape},
    tombstones::Tombstones,
};
use crate::{
    clock::{self, Instant, Moment},
    ledger::{Destination, Ledger},
    memory::{Budget, Stage},
    telemetry::Metrics,
    trace::{Arrivals, Durable, Event, Lease, Lives, QuietTrace, Release, Sent, SpanId, TraceKey},
    watchdog::Beat,
};

/// For spans that are on their way from the cache when their trace's last part is due.
const LAST_PART_GRACE: Duration = Duration::from_secs(1);

/// Taken up in one round: waking up and showing numbers costs more than most messages.
const MESSAGES_AT_ONCE: usize = 128;

/// What the judge is told.
pub(super) enum Message {
    /// A trace's alarm went off.
    Closed(Closed),
    /// A trace of an earlier run is quiet.
    Recovered(Box<OpenTrace>, Release),
    /// A part of a trace was woven; with what the next part must know.
    Woven(TraceKey, Option<Sent>),
    /// That part went out as it came, without these added spans.
    Unwoven(TraceKey, Vec<SpanId>),
    /// Nothing comes after this.
    End,
}

/// How the buffer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Everything is released, whatever it still waits for.
    Draining,
    /// Everything stays in the journal.
    Keeping,
}

/// The phase, seen from any thread.
#[derive(Debug, Default)]
pub(super) struct SharedPhase(AtomicU8);

impl SharedPhase {
    pub(super) fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Relaxed);
    }

    pub(super) fn get(&self) -> Phase {
        match self.0.load(Relaxed) {
            0 => Phase::Open,
            1 => Phase::Draining,
            _ => Phase::Keeping,
        }
    }
}

/// See the module.
pub(super) struct Judge {
    /// Parts of one trace go out one after the other.
    pub(super) order: Order<Box<QuietTrace>>,
    pub(super) tombstones: Tombstones,
    /// When a trace of which more was to come has got no more: its last part is one without spans.
    pub(super) last_parts: Deadlines,
    pub(super) wait: Wait,
    pub(super) store: Option<Weak<Store>>,
    pub(super) phase: Arc<SharedPhase>,
    pub(super) deadlines: Arc<Mutex<Deadlines>>,
    pub(super) keeper: Option<Arc<Keeper>>,
    pub(super) budget: Arc<Budget>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) lives: Arc<Lives>,
    /// In boxes: a trace is handed on many times, and copying it each time was a fifth of the way out.
    pub(super) released: mpsc::Sender<Box<QuietTrace>>,
    /// Added spans that did not go out, of traces with a part under way that may not know it.
    pub(super) unsent: HashMap<TraceKey, Vec<SpanId>>,
}

impl Judge {
    pub(super) async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>, beat: Beat) {
        let mut heard = Vec::with_capacity(MESSAGES_AT_ONCE);
        let mut ended = false;
        while !ended && self.next(&mut messages, &mut heard, &beat).await {
            ended = heard.iter().any(|message| matches!(message, Message::End));
            let now = clock::moment();
            let released = heard.drain(..).filter_map(|message| self.hear(now, message)).collect();
            beat.during(self.send(released)).await;
            self.show();
        }
        // A trace may have been put back just before draining began.
        if let Some(store) = self.store() {
            store.close_all();
        }
        while let Ok(message) = messages.try_recv() {
            let released = self.hear(clock::moment(), message).into_iter().collect();
            beat.during(self.send(released)).await;
        }
        // Parts that wait for an earlier one of theirs go out behind it, unless the journal keeps them.
        while self.order.waiting() > 0 && self.phase.get() != Phase::Keeping {
            let Some(message) = beat.during(messages.recv()).await else { return };
            let released = self.hear(clock::moment(), message).into_iter().collect();
            beat.during(self.send(released)).await;
        }
    }

    async fn next(
        &mut self,
        messages: &mut mpsc::UnboundedReceiver<Message>,
        heard: &mut Vec<Message>,
        beat: &Beat,
    ) -> bool {
        loop {
            let due = self.last_parts.next();
            tokio::select! {
                // Messages first: spans that were released meanwhile are the last part.
                biased;
                count = beat.during(messages.recv_many(heard, MESSAGES_AT_ONCE)) => return count > 0,
                () = tokio::time::sleep_until(due.unwrap_or_else(clock::now)), if due.is_some() => {
                    beat.during(self.release_last_parts()).await;
                }
            }
        }
    }

    /// What was held back for the next part of a trace goes out with a last one, when no spans came any more.
    async fn release_last_parts(&mut self) {
        let now = clock::now();
        let mut released = Vec::new();
        while let Some(key) = self.last_parts.pop_due(now) {
            let waits = self.store().is_some_and(|store| store.has(&key));
            let recalled = self.tombstones.recall(now, &key);
            let waits = waits || self.order.is_under_way(&key);
            if waits || recalled.is_none_or(|recalled| recalled.sent.is_ended()) {
                continue;
            }
            let lease =
                Lease::new(Arc::clone(&self.ledger), 0, self.budget.claim(Stage::Buffer, 0));
            let last = QuietTrace {
                key: key.clone(),
                fragments: Vec::new(),
                first_arrival: now,
                last_arrival: now,
                released: now,
                release: Release::Idle,
                more: false,
                sent: None,
                lease,
            };
            released.extend(self.order.begin(&key, Box::new(last)));
        }
        let released = released.into_iter().map(|last| self.informed(now, last)).collect();
        self.send(released).await;
    }

    /// Gives the part whose turn it is now.
    fn hear(&mut self, now: Moment, message: Message) -> Option<Box<QuietTrace>> {
        let next = match message {
            Message::Closed(closed) => self.judge(now, closed),
            Message::Recovered(trace, release) => self.release(now, *trace, release),
            Message::Woven(key, sent) => self.woven(now.at, key, sent),
            Message::Unwoven(key, added) => {
                self.unwoven(key, added);
                None
            }
            Message::End => None,
        };
        next.map(|next| self.informed(now.at, next))
    }

    fn judge(&mut self, now: Moment, closed: Closed) -> Option<Box<QuietTrace>> {
        let Closed { trace, brim } = closed;
        let phase = self.phase.get();
        let shape = shape(&trace, brim, phase != Phase::Open);
        let verdict = quiet(now.at, trace.first, trace.last, shape, &self.wait);
        match (verdict, self.store()) {
            (Verdict::WaitUntil(until), Some(store)) => {
                self.deadlines.lock().set(trace.key.clone(), until);
                store.append(*trace);
                None
            }
            // The buffer is gone: nothing can wait in it.
            (Verdict::WaitUntil(_), None) => self.release(now, *trace, Release::Shutdown),
            (Verdict::Release(release), _) => self.release(now, *trace, release),
        }
    }

    fn release(
        &mut self,
        now: Moment,
        mut trace: OpenTrace,
        release: Release,
    ) -> Option<Box<QuietTrace>> {
        if self.budget.is_spilling() {
            self.metrics.buffer.spilled_bytes.increment(trace.spill());
        }
        let quiet = self.quiet_trace(now, trace, release);
        if self.phase.get() == Phase::Keeping && self.keeper.is_some() {
            // Its lease leaves it to the journal.
            return None;
        }
        let metrics = &self.metrics.buffer;
        metrics.released_traces.add(release as usize, 1);
        let age = quiet.last_arrival.saturating_duration_since(quiet.first_arrival);
        metrics.trace_age_seconds.record(age.as_secs_f64());
        let key = quiet.key.clone();
        self.order.begin(&key, quiet)
    }

    /// A part whose turn it is, with what earlier ones left.
    fn informed(&mut self, now: Instant, mut quiet: Box<QuietTrace>) -> Box<QuietTrace> {
        if let Some(recalled) = self.tombstones.recall(now, &quiet.key) {
            if recalled.sent.is_ended() {
                let age_s = recalled.age.as_secs_f64();
                self.metrics.buffer.late_span_age_seconds.record(age_s);
            }
            let spans = u64::try_from(recalled.sent.spans().len()).unwrap_or(u64::MAX);
            quiet.lease.note(Event::Follows(spans));
            quiet.sent = Some(recalled.sent);
        }
        quiet
    }

    /// Hands parts on, as many as there is room for at once: a task that waits for each of them has its turn taken away
    /// after 128 ("coop" in tokio's documentation), which under load is a tenth of what comes in meanwhile. While memory fills
    /// that is as it should be: what is left to the journal is read back for them, and would fill it.
    #[allow(clippy::vec_box, reason = "as the channel takes them")]
    async fn send(&self, quiet: Vec<Box<QuietTrace>>) {
        let mut quiet = quiet.into_iter();
        while quiet.len() > 0 {
            // The pipeline is gone only when the process ends.
            let most = if self.budget.is_spilling() { 1 } else { MESSAGES_AT_ONCE };
            let room = self.released.reserve_many(quiet.len().min(most)).await;
            let Ok(room) = room else { return };
            room.zip(quiet.by_ref()).for_each(|(room, quiet)| room.send(quiet));
        }
    }

    fn woven(
        &mut self,
        now: Instant,
        key: TraceKey,
        sent: Option<Sent>,
    ) -> Option<Box<QuietTrace>> {
        let next = self.order.end(&key);
        let unsent = self.unsent.remove(&key);
        if let Some(mut sent) = sent {
            if let Some(added) = unsent {
                sent.never_sent(&added);
            }
            if !sent.is_ended() {
                let due = now + self.wait.idle + LAST_PART_GRACE;
                self.last_parts.set(key.clone(), due);
            }
            let forgotten = self.tombstones.remember(now, key, sent);
            self.metrics.buffer.forgotten_traces.increment(forgotten);
        }
        next
    }

    /// Of a part under way it will be told only when it is woven: that may be this very part, of which the journal said at once
    /// that it has no room.
    fn unwoven(&mut self, key: TraceKey, added: Vec<SpanId>) {
        self.tombstones.never_sent(&key, &added);
        if self.order.is_under_way(&key) {
            self.unsent.entry(key).or_default().extend(added);
        }
    }

    fn show(&self) {
        self.metrics.buffer.tombstones.set(gauge(self.tombstones.len()));
        self.metrics.buffer.waiting_parts.set(gauge(self.order.waiting()));
    }

    fn store(&self) -> Option<Arc<Store>> {
        self.store.as_ref().and_then(Weak::upgrade)
    }

    fn quiet_trace(&self, now: Moment, trace: OpenTrace, release: Release) -> Box<QuietTrace> {
        let OpenTrace { first, last, spans, .. } = trace;
        let Released { key, fragments, memory, had } = trace.release();
        let arrivals = Arrivals {
            first,
            last,
            fragments: u64::try_from(fragments.len()).unwrap_or(u64::MAX),
            spans,
            release,
        };
        let life = self.lives.begin(&key, arrivals, now.at, now.wall_us);
        if life.is_none() {
            self.metrics.buffer.untold_traces.increment(1);
        }
        let lease = Lease::new(Arc::clone(&self.ledger), spans, memory).remembered(life.as_ref());
        let lease = match &self.keeper {
            Some(keeper) => {
                let places = fragments.iter().filter_map(|fragment| fragment.place).collect();
                lease.kept(Arc::clone(keeper) as Arc<dyn Durable>, places)
            }
            None => lease,
        };
        for (destination, spans) in had {
            lease.settled_before(Destination(destination), spans);
        }
        Box::new(QuietTrace {
            key,
            fragments,
            first_arrival: first,
            last_arrival: last,
            released: now.at,
            release,
            more: release.is_part(),
            sent: None,
            lease,
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
fn gauge(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::trace::{Fragment, Origin, SentRow, SentSpan, SpanKind, TraceId};

    fn judge() -> Judge {
        let names = vec!["a".to_owned()];
        let (ledger, budget) = (Ledger::new(names.clone()), Budget::new(1 << 20));
        let lives = Lives::new(0, &names, &budget);
        Judge {
            order: Order::default(),
            tombstones: Tombstones::new(&budget, 1 << 16),
            last_parts: Deadlines::default(),
            wait: crate::buffer::Config::default().wait(1 << 20),
            store: None,
            phase: Arc::default(),
            deadlines: Arc::default(),
            keeper: None,
            metrics: Arc::new(Metrics::new(&names)),
            budget,
            ledger,
            lives,
            released: mpsc::channel(1).0,
            unsent: HashMap::new(),
        }
    }

    /// The next part of the trace, in its turn.
    fn part(judge: &mut Judge, key: &TraceKey) -> Option<Box<QuietTrace>> {
        let bytes = Bytes::from_static(b"?").into();
        let fragment = Fragment { bytes, spans: 0, place: None, spilled_len: 0 };
        let memory = judge.budget.claim(Stage::Buffer, 0);
        let trace = OpenTrace::new(key.clone(), fragment, memory, clock::now());
        judge.hear(clock::moment(), Message::Recovered(Box::new(trace), Release::Idle))
    }

    /// A received span that was moved below an added one.
    fn sent() -> (Sent, SpanId) {
        let id = |number| SpanId::from_number(number).expect("not zero");
        let row = SentRow { row: 7, region: 0, id: id(7), parent: None, is_stale: false };
        let span = SentSpan {
            id: id(1),
            parent: Some(row.id),
            original: None,
            kind: SpanKind::Server,
            is_stale: false,
            start_ns: 1,
            end_ns: 2,
            process: 0,
        };
        let mut sent = Sent::default();
        sent.add(vec![span], vec![row], true);
        (sent, row.id)
    }

    #[test]
    fn a_later_part_does_not_rely_on_added_spans_that_found_no_room() {
        let id = TraceId::from_wire(&9_u128.to_be_bytes()).expect("not zero");
        let key = TraceKey { id, origin: Origin::default() };
        // The journal says so behind the weaver, or before it.
        for is_behind in [true, false] {
            let mut judge = judge();
            assert!(part(&mut judge, &key).is_some());
            let (sent, added) = sent();
            let woven = Message::Woven(key.clone(), Some(sent));
            let unwoven = Message::Unwoven(key.clone(), vec![added]);
            let told = if is_behind { [woven, unwoven] } else { [unwoven, woven] };
            for message in told {
                assert!(judge.hear(clock::moment(), message).is_none());
            }
            assert!(judge.unsent.is_empty(), "{is_behind}");
            let next = part(&mut judge, &key).and_then(|next| next.sent).expect("is known");
            assert_eq!((next.rows(), next.spans()[0].parent), (&[][..], None), "{is_behind}");
            assert!(next.has_forgotten_rows(), "{is_behind}");
        }
    }
}
