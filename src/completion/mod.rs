//! Where DeepFlow is asked what the network saw. A trace is never lost here, nor delayed past its deadline: whatever
//! happens, it comes out with an [`Answer`].

mod breaker;
pub mod deepflow;
mod policy;

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    task::{Id, JoinError, JoinHandle, JoinSet},
    time::MissedTickBehavior,
};

use self::{
    breaker::BreakerLimits,
    deepflow::{ClientError, Deepflow, Posted, Reply, answer::Outcome},
    policy::{Action, Candidate, Limits, Policy},
};
use crate::{
    clock::{self, Instant},
    config::{HttpUrl, Interval, Problems},
    memory::{Budget, Stage},
    telemetry::{
        Metrics,
        catalogue::{CompletionMetrics, Mode, NotPosted},
    },
    tls::Reloads,
    trace::{Answer, AskOutcome, Event, QuietTrace, Release, Skip, SpanRef},
    watchdog::{BEAT_EVERY, Beat, Watchdog},
};

/// Who is asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// DeepFlow's trace-completion endpoint.
    pub deepflow: deepflow::Config,
}

impl Config {
    /// Notes what can't be used.
    pub fn check(&self, include_metadata: &[String], problems: &mut Problems) {
        problems.within("deepflow", |problems| self.deepflow.check(include_metadata, problems));
    }

    /// Notes which doors are open.
    pub fn warn(&self, problems: &mut Problems) {
        let is_used = self.deepflow.endpoint.iter().any(HttpUrl::is_tls);
        problems.within("deepflow.tls", |problems| self.deepflow.tls.warn(is_used, problems));
    }
}

/// A trace with what became of asking.
pub type Completed = (Box<QuietTrace>, Answer);

/// Traces that have waited so long since their last span are asked for at shutdown, the others are too young.
const SHUTDOWN_WAIT_MIN: Duration = Duration::from_secs(5);

/// Traces taken up in one round: timers and gauges cost more than a trace that goes straight on.
const TRACES_AT_ONCE: usize = 128;

/// How the program is ending, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is not.
    No,
    /// All traces go on; none waits for a later ask, nor from this time on for any.
    Drain(Instant),
    /// Asks under way are finished; traces that wait are left to the journal.
    Keep,
}

/// An ask under way may take this long to end when all else is left to the journal.
const KEEP_GRACE: Duration = Duration::from_secs(3);

/// Starts completion: traces go in, completed ones come out, in any order. It ends when the input has ended and
/// nothing is in it any more.
///
/// The output is not bounded by number: what is in it has its bytes in the memory budget, and a bounded one would let
/// a slow destination make asks miss their deadlines.
pub fn start(
    config: &Config,
    budget: &Budget,
    metrics: Arc<Metrics>,
    watchdog: &Arc<Watchdog>,
    (traces, ending): (mpsc::Receiver<Box<QuietTrace>>, watch::Receiver<Ending>),
    reloads: &Reloads,
) -> Result<(mpsc::UnboundedReceiver<Completed>, JoinHandle<()>), ClientError> {
    let (completed, receiver) = mpsc::unbounded_channel();
    let config = &config.deepflow;
    let deepflow =
        if config.enabled { Some(Arc::new(Deepflow::new(config, reloads)?)) } else { None };
    let completion = Completion {
        deepflow,
        policy: Policy::new(limits(config, budget)),
        deadline: config.deadline.get(),
        asks: JoinSet::new(),
        reads: JoinSet::new(),
        asking: HashMap::new(),
        is_over: false,
        completed,
        ending: Ending::No,
        metrics,
    };
    let work = |beat| completion.run(traces, ending, beat);
    let task = tokio::spawn(watchdog.supervise("completion", work));
    Ok((receiver, task))
}

fn limits(config: &deepflow::Config, budget: &Budget) -> Limits {
    let breaker = &config.circuit_breaker;
    Limits {
        max_in_flight: config.max_in_flight,
        max_wait: config.max_wait.get(),
        max_queued: config.max_queued,
        waiting_bytes_max: budget.limit_bytes() / 4,
        reask: config.reask.iter().copied().map(Interval::get).collect(),
        backoff: config.retry.clone(),
        breaker: BreakerLimits {
            failures: breaker.failures,
            open: breaker.open_interval.get(),
            open_max: breaker.max_open_interval.get(),
            slots: config.max_in_flight,
        },
    }
}

/// What came of an ask, and how long it took.
type Asked = (Reply, Duration);
/// An ask that has ended, if only by a panic.
type EndedAsk = Result<(Id, Asked), JoinError>;

struct Completion {
    /// `None`: switched off.
    deepflow: Option<Arc<Deepflow>>,
    policy: Policy<Box<QuietTrace>>,
    deadline: Duration,
    asks: JoinSet<Asked>,
    /// What was left to the journal of traces that are to be asked for.
    reads: JoinSet<Vec<SpanRef>>,
    /// The traces that are read or asked for: a task holds none, so that none is lost with it.
    asking: HashMap<Id, Candidate<Box<QuietTrace>>>,
    /// There is no time any more to ask.
    is_over: bool,
    completed: mpsc::UnboundedSender<Completed>,
    ending: Ending,
    metrics: Arc<Metrics>,
}

impl Completion {
    async fn run(
        mut self,
        mut traces: mpsc::Receiver<Box<QuietTrace>>,
        mut ending: watch::Receiver<Ending>,
        beat: Beat,
    ) {
        let mut open = true;
        let mut give_up = None;
        let mut arrived = Vec::with_capacity(TRACES_AT_ONCE);
        // One timer for all rounds.
        let mut beats = tokio::time::interval(BEAT_EVERY);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.show();
        while open || !self.policy.is_empty() {
            beat.beat();
            let wake = self.policy.wake(clock::now());
            tokio::select! {
                Some(ended) = self.asks.join_next_with_id() => self.asks_ended(ended),
                Some(ended) = self.reads.join_next_with_id() => match ended {
                    Ok((id, spans)) => self.read(id, &spans),
                    Err(error) => self.ended(error.id(), panicked(&error), Duration::ZERO),
                },
                count = traces.recv_many(&mut arrived, TRACES_AT_ONCE), if open => {
                    open = count > 0;
                    let now = clock::now();
                    arrived.drain(..).for_each(|trace| self.submit(now, trace));
                }
                _ = beats.tick() => self.close_old_connections(),
                () = until(wake) => self.policy.tick(clock::now()),
                // An error means that nobody is left to end it.
                Ok(()) = ending.changed() => {
                    self.ending = *ending.borrow_and_update();
                    match self.ending {
                        Ending::Keep => self.policy.stop_waiting(),
                        Ending::Drain(_) | Ending::No => self.policy.drain(),
                    }
                    give_up = match self.ending {
                        Ending::Keep => Some(clock::now() + KEEP_GRACE),
                        Ending::Drain(until) => Some(until),
                        Ending::No => None,
                    };
                }
                () = until(give_up) => {
                    if self.ending == Ending::Keep {
                        return;
                    }
                    give_up = None;
                    self.stop_asking();
                }
            }
            self.act();
            self.show();
        }
    }

    fn submit(&mut self, now: Instant, trace: Box<QuietTrace>) {
        if self.ending == Ending::Keep {
            // Its lease leaves it to the journal.
            return drop(trace);
        }
        let waited = now.saturating_duration_since(trace.last_arrival);
        let too_young = trace.release == Release::Shutdown && waited < SHUTDOWN_WAIT_MIN;
        let skip = match trace.release {
            _ if self.deepflow.is_none() => Some(Skip::Disabled),
            Release::Memory => Some(Skip::Memory),
            _ if self.is_over || too_young => Some(Skip::Shutdown),
            _ => None,
        };
        if let Some(skip) = skip {
            return self.skip(trace, skip);
        }
        let bytes = trace.lease.bytes();
        trace.lease.hold(Stage::Answers, bytes);
        let deadline = trace.released + self.deadline;
        self.policy.submit(now, trace, bytes, deadline);
    }

    /// Carries out what the policy decided.
    fn act(&mut self) {
        while let Some(action) = self.policy.action() {
            match action {
                Action::Skip(trace, why) => self.skip(trace, why),
                Action::Ask(candidate) => self.ask(candidate),
            }
        }
    }

    fn ask(&mut self, candidate: Candidate<Box<QuietTrace>>) {
        let spans = candidate.trace.known_spans();
        if candidate.trace.is_spilled() {
            let task = self.reads.spawn_blocking(spans);
            self.asking.insert(task.id(), candidate);
        } else {
            self.post(candidate, &spans());
        }
    }

    fn read(&mut self, id: Id, spans: &[SpanRef]) {
        if let Some(candidate) = self.asking.remove(&id) {
            self.post(candidate, spans);
        }
    }

    /// DeepFlow's window is that of the posted spans: with the earlier parts it covers the whole trace.
    fn post(&mut self, candidate: Candidate<Box<QuietTrace>>, spans: &[SpanRef]) {
        let Some(deepflow) = self.deepflow.clone() else {
            return self.skip(candidate.trace, Skip::Disabled);
        };
        let trace = &candidate.trace;
        let (origin, id) = (&trace.key.origin, trace.key.id);
        let (request, posted) = deepflow.prepare(origin, id, spans, clock::wall_us());
        self.count(posted);
        let now = clock::now();
        let Some(request) = request else {
            // No ask: it gives its slot back as one that was answered.
            let trace = self.policy.found_nothing_to_ask(now, candidate);
            return self.skip(trace, Skip::NothingToPost);
        };
        candidate.trace.lease.note(Event::Asked);
        let left = candidate.deadline().saturating_duration_since(now);
        let task = self.asks.spawn(async move {
            let reply = deepflow.ask(request, left).await;
            (reply, clock::now().saturating_duration_since(now))
        });
        self.asking.insert(task.id(), candidate);
    }

    /// Takes an ask that has ended, and others that have, too.
    fn asks_ended(&mut self, ended: EndedAsk) {
        self.ask_ended(ended);
        for _ in 1..TRACES_AT_ONCE {
            let Some(ended) = self.asks.try_join_next_with_id() else { return };
            self.ask_ended(ended);
        }
    }

    fn ask_ended(&mut self, ended: EndedAsk) {
        match ended {
            Ok((id, (reply, took))) => self.ended(id, reply, took),
            Err(error) => self.ended(error.id(), panicked(&error), Duration::ZERO),
        }
    }

    fn ended(&mut self, id: Id, reply: Reply, took: Duration) {
        let Some(candidate) = self.asking.remove(&id) else { return };
        let metrics = Arc::clone(&self.metrics);
        let metrics = &metrics.completion;
        metrics.request_duration_seconds.record(took.as_secs_f64());
        let now = clock::now();
        let (outcome, policy_reply) = match reply.outcome {
            Outcome::Found(found) => {
                metrics.requests.add(AskOutcome::Found as usize, 1);
                metrics.completed_traces.increment(1);
                metrics.truncated_answers.increment(u64::from(found.truncated));
                metrics.unusable_rows.increment(u64::try_from(found.unusable).unwrap_or(u64::MAX));
                let trace = self.policy.found(now, candidate);
                trace.lease.note(Event::AskEnded(AskOutcome::Found));
                let bytes = trace.lease.bytes() + u64::try_from(reply.bytes).unwrap_or(u64::MAX);
                trace.lease.hold(Stage::Answers, bytes);
                return self.complete(trace, Answer::Found(Box::new(found)));
            }
            Outcome::NotFound => (AskOutcome::NotFound, policy::Reply::NotFound),
            Outcome::Retry(why) => {
                tracing::debug!(trace_id = %candidate.trace.key.id, why, "DeepFlow failed");
                let failed = policy::Reply::Retry(reply.retry_after);
                (AskOutcome::Retry, if reply.is_cut { policy::Reply::Cut } else { failed })
            }
            Outcome::Reject(why) => {
                tracing::warn!(trace_id = %candidate.trace.key.id, why, "DeepFlow refused a request");
                (AskOutcome::Rejected, policy::Reply::Rejected)
            }
        };
        metrics.requests.add(outcome as usize, 1);
        candidate.trace.lease.note(Event::AskEnded(outcome));
        let before = self.policy.mode();
        self.policy.replied(now, candidate, policy_reply);
        log_mode(before, self.policy.mode());
    }

    /// Whoever still waits for an answer goes on without: the rest of the time is for sending.
    fn stop_asking(&mut self) {
        self.is_over = true;
        self.policy.stop_waiting();
        // Dropping asks ends them.
        self.asks = JoinSet::new();
        self.reads = JoinSet::new();
        for (_, candidate) in std::mem::take(&mut self.asking) {
            let trace = self.policy.found_nothing_to_ask(clock::now(), candidate);
            self.skip(trace, Skip::Shutdown);
        }
    }

    fn close_old_connections(&self) {
        if let Some(deepflow) = &self.deepflow {
            deepflow.close_old(clock::now());
        }
    }

    fn skip(&self, trace: Box<QuietTrace>, why: Skip) {
        if self.ending == Ending::Keep {
            // After a restart it is asked for again.
            return drop(trace);
        }
        self.metrics.completion.skipped_traces.add(why as usize, 1);
        self.complete(trace, Answer::Skipped(why));
    }

    fn complete(&self, trace: Box<QuietTrace>, answer: Answer) {
        trace.lease.note(match &answer {
            Answer::Found(found) => {
                Event::Found(u64::try_from(found.spans.len()).unwrap_or(u64::MAX))
            }
            Answer::Skipped(why) => Event::Skipped(*why),
        });
        // The weavers are gone only when the process ends.
        let _gone = self.completed.send((trace, answer));
    }

    fn count(&self, posted: Posted) {
        let metrics = &self.metrics.completion;
        metrics.posted_spans.increment(posted.posted);
        metrics.not_posted_spans.add(NotPosted::Window as usize, posted.outside_window);
        metrics.not_posted_spans.add(NotPosted::Future as usize, posted.in_future);
        metrics.not_posted_spans.add(NotPosted::Reduced as usize, posted.reduced);
    }

    fn show(&self) {
        let metrics: &CompletionMetrics = &self.metrics.completion;
        let mode = if self.deepflow.is_some() { self.policy.mode() } else { Mode::Disabled };
        for number in 0..Mode::LABELS.len() {
            if let Some(gauge) = metrics.mode.of(number) {
                gauge.set(if number == mode as usize { 1.0 } else { 0.0 });
            }
        }
        metrics.in_flight.set(gauge(self.policy.in_flight()));
        let waiting = [self.policy.waiting_first(), self.policy.waiting_later()];
        for (number, waiting) in waiting.into_iter().enumerate() {
            if let Some(series) = metrics.waiting_traces.of(number) {
                series.set(gauge(waiting));
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
fn gauge(number: usize) -> f64 {
    number as f64
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// A task that panicked is a fault of ours; its trace goes on like one whose ask failed.
fn panicked(error: &JoinError) -> Reply {
    tracing::error!(%error, "an ask ended without an answer");
    Outcome::Retry(error.to_string()).into()
}

/// Operators hear of changes, not of every trace.
fn log_mode(before: Mode, after: Mode) {
    if before == after {
        return;
    }
    match after {
        Mode::BreakerOpen => {
            tracing::warn!("DeepFlow keeps failing: traces go on without it for a while");
        }
        Mode::NothingFound => tracing::warn!(
            "DeepFlow found nothing for the last 50 traces: traces no longer wait for it, one a second still asks"
        ),
        Mode::Normal => tracing::info!("DeepFlow answers again"),
        Mode::HalfOpen | Mode::Disabled => {}
    }
}
