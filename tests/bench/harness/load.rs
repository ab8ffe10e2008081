//! [`Load`]: senders on a few connections, as fast as they are answered or at a rate.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tracestitch::clock::{self, Instant};

use super::{
    carrier::{Carrier, Client},
    ledger::{Group, Ledger},
    program::Doors,
    shape::Shape,
    template::{Template, trace_us},
};

const CONNECTIONS: usize = 4;
/// On each connection.
const IN_FLIGHT: usize = 4;
/// Before a request that was refused is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// A request that is refused, or not answered, for so long is given up and not expected to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is sent.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) shape: Shape,
    /// Some traces are long: their shape, and how many there are for each of the others.
    pub(crate) long: Option<(Shape, f64)>,
    /// Spans a second; without one as fast as they are taken.
    pub(crate) rate: Option<u64>,
    pub(crate) carrier: Carrier,
    pub(crate) until: Until,
}

/// When a load ends; the group that has begun is finished.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Time(Duration),
    Spans(u64),
}

/// What became of a load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offered {
    /// Acknowledged.
    pub(crate) spans: u64,
    /// Their requests' bytes, as protobuf.
    pub(crate) wire_bytes: u64,
    /// Requests that were answered with an error and sent again.
    pub(crate) refused: u64,
    pub(crate) took: Duration,
}

impl Load {
    /// Traces of this shape until then, as fast as they are taken.
    pub(crate) fn closed(shape: Shape, until: Until) -> Self {
        Self { shape, long: None, rate: None, carrier: Carrier::Grpc, until }
    }

    /// The same at a rate.
    pub(crate) fn at(self, rate: u64) -> Self {
        Self { rate: Some(rate), ..self }
    }

    /// The same, carried otherwise.
    pub(crate) fn by(self, carrier: Carrier) -> Self {
        Self { carrier, ..self }
    }

    /// Sends it all, and returns when it was answered.
    pub(crate) async fn send(&self, to: Doors, ledger: &Arc<Ledger>) -> Offered {
        let shared = Arc::new(Shared::new(self, ledger));
        let mut senders = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let client = self.carrier.client(to);
            for _ in 0..IN_FLIGHT {
                senders.spawn(send(client.clone(), Arc::clone(&shared)));
            }
        }
        while let Some(ended) = senders.join_next().await {
            ended.expect("a sender");
        }
        Offered {
            spans: shared.spans.load(Relaxed),
            wire_bytes: shared.wire_bytes.load(Relaxed),
            refused: shared.refused.load(Relaxed),
            took: clock::now().saturating_duration_since(shared.begun),
        }
    }
}

/// What all senders share.
struct Shared {
    load: Load,
    ledger: Arc<Ledger>,
    templates: HashMap<Shape, Vec<Template>>,
    begun: Instant,
    next: Mutex<Next>,
    spans: AtomicU64,
    wire_bytes: AtomicU64,
    refused: AtomicU64,
}

/// Which request is the next.
#[derive(Default)]
struct Next {
    group: Option<(usize, Group)>,
    service: u64,
    /// Given out so far.
    spans: u64,
    /// Long traces that are due.
    long_due: f64,
}

/// A request to send.
struct Task {
    place: usize,
    group: Group,
    service: u64,
    /// Spans before it.
    spans_before: u64,
}

async fn send(client: Client, shared: Arc<Shared>) {
    while let Some(task) = shared.task() {
        if let Some(rate) = shared.load.rate {
            let due = Duration::from_micros(task.spans_before * 1_000_000 / rate);
            tokio::time::sleep_until(shared.begun + due).await;
        }
        shared.send(&client, &task).await;
    }
}

impl Shared {
    fn new(load: &Load, ledger: &Arc<Ledger>) -> Self {
        let shapes = [load.shape].into_iter().chain(load.long.map(|(shape, _)| shape));
        let templates = |shape: Shape| (0..shape.services).map(move |it| Template::new(shape, it));
        Self {
            load: load.clone(),
            ledger: Arc::clone(ledger),
            templates: shapes.map(|shape| (shape, templates(shape).collect())).collect(),
            begun: clock::now(),
            next: Mutex::default(),
            spans: AtomicU64::new(0),
            wire_bytes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    fn template(&self, shape: Shape, service: u64) -> &Template {
        &self.templates[&shape][usize::try_from(service).expect("few")]
    }

    /// `None` when the load is over.
    fn task(&self) -> Option<Task> {
        let mut next = self.next.lock();
        let (place, group) = match next.group {
            Some(group) => group,
            None if self.is_over(next.spans) => return None,
            None => self.begin(&mut next),
        };
        let (service, spans_before) = (next.service, next.spans);
        next.spans += self.template(group.shape, service).spans();
        next.service += 1;
        next.group = Some((place, group)).filter(|_| next.service < group.shape.services);
        Some(Task { place, group, service, spans_before })
    }

    fn is_over(&self, spans: u64) -> bool {
        match self.load.until {
            Until::Spans(max) => spans >= max,
            Until::Time(time) => clock::now() >= self.begun + time,
        }
    }

    fn begin(&self, next: &mut Next) -> (usize, Group) {
        next.service = 0;
        let shape = match self.load.long {
            Some((long, _)) if next.long_due >= 1.0 => {
                next.long_due -= 1.0;
                long
            }
            Some((_, share)) => {
                let traces = u32::try_from(self.load.shape.traces).expect("few");
                next.long_due += f64::from(traces) * share;
                self.load.shape
            }
            None => self.load.shape,
        };
        self.ledger.begin(shape, clock::wall_us() - trace_us(shape))
    }

    async fn send(&self, client: &Client, task: &Task) {
        let template = self.template(task.group.shape, task.service);
        let body = template.filled(task.group.first, task.group.start_us);
        let mut digests = template.digests(&body, task.group.first);
        let wire_bytes = u64::try_from(body.len()).expect("fits");
        let body = client.body(body);
        let end = clock::now() + PATIENCE;
        while clock::now() < end {
            self.ledger.sending(task.place, clock::wall_us(), std::mem::take(&mut digests));
            let answer = client.send(body.clone());
            if tokio::time::timeout_at(end, answer).await == Ok(true) {
                self.ledger.acknowledge(task.place, task.service);
                self.spans.fetch_add(template.spans(), Relaxed);
                self.wire_bytes.fetch_add(wire_bytes, Relaxed);
                return;
            }
            self.refused.fetch_add(1, Relaxed);
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}
