//! [`Sink`]: a backend that counts each span of the load, compares a sample of them with what was sent, and knows how
//! late each trace came.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};
use tracestitch::{
    clock::{self, Instant},
    wire::{
        layout::{Layout, SpanEntry},
        otlp::trace_service_server::{TraceService, TraceServiceServer},
    },
};

use super::{
    ledger::Ledger,
    template::{digest, is_sampled},
};

/// Nothing takes longer, however much is still coming.
const SETTLED_AFTER_MAX: Duration = Duration::from_mins(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running backend. Ends with itself.
#[derive(Debug)]
pub(crate) struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    ledger: Arc<Ledger>,
    idle: Duration,
    seen: Mutex<Seen>,
}

/// What came.
#[derive(Debug, Default)]
struct Seen {
    /// How often each span came, by its number.
    times: Vec<u8>,
    /// Different ones.
    spans: u64,
    duplicated: u64,
    added: u64,
    checked: u64,
    altered: u64,
    early: u64,
    beyond_us: Vec<u32>,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// What is to be said of all that came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict {
    /// Different spans of the load.
    pub(crate) spans: u64,
    /// Acknowledged and never came.
    pub(crate) lost: u64,
    /// Came again.
    pub(crate) duplicated: u64,
    /// Not as it was sent, or under another resource or scope.
    pub(crate) altered: u64,
    /// Compared with what was sent.
    pub(crate) checked: u64,
    /// Never sent: weaving added them.
    pub(crate) added: u64,
    /// Traces that came before the end of their wait: in parts.
    pub(crate) early: u64,
    /// From the wait's end to the arrival, sorted.
    pub(crate) beyond_us: Vec<u32>,
    /// From the first arrival to the last.
    pub(crate) took: Duration,
    /// The last arrival.
    pub(crate) last: Option<Instant>,
}

impl Sink {
    /// A backend of a program that waits so long.
    pub(crate) async fn start(ledger: Arc<Ledger>, idle: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let shared = Arc::new(Shared { ledger, idle, seen: Mutex::default() });
        let service = TraceServiceServer::new(Service(Arc::clone(&shared)))
            .max_decoding_message_size(64 << 20);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serve = Server::builder().add_service(service).serve_with_incoming(incoming);
        let server = tokio::spawn(async move { serve.await.expect("the sink serves to its end") });
        Self { address, shared, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns when so many different spans have come, or when for so long none came; the verdict tells. What is only
    /// late, behind a slow step, is not lost.
    pub(crate) async fn settle(&self, spans: u64, patience: Duration) {
        let begun = clock::now();
        let (mut end, mut come) = (begun + patience, 0);
        while come < spans && clock::now() < end.min(begun + SETTLED_AFTER_MAX) {
            tokio::time::sleep(LOOK_EVERY).await;
            let now_come = self.shared.seen.lock().spans;
            if now_come > come {
                (end, come) = (clock::now() + patience, now_come);
            }
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let acknowledged = self.shared.ledger.acknowledged();
        let seen = self.shared.seen.lock();
        let came = |number: &u64| {
            place(*number).and_then(|it| seen.times.get(it)).is_some_and(|it| *it > 0)
        };
        let lost = acknowledged.iter().filter(|number| !came(number)).count();
        let mut beyond_us = seen.beyond_us.clone();
        beyond_us.sort_unstable();
        let took = seen.first.zip(seen.last).map(|(first, last)| last - first);
        Verdict {
            spans: seen.spans,
            lost: u64::try_from(lost).expect("fits"),
            duplicated: seen.duplicated,
            altered: seen.altered,
            checked: seen.checked,
            added: seen.added,
            early: seen.early,
            beyond_us,
            took: took.unwrap_or_default(),
            last: seen.last,
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Debug)]
struct Service(Arc<Shared>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let body = request.into_inner();
        let layout =
            Layout::trusted(&body).map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.0.take(&body, &layout);
        Ok(Response::new(Bytes::new()))
    }
}

impl Shared {
    fn take(&self, body: &[u8], layout: &Layout) {
        let (now, now_us) = (clock::now(), clock::wall_us());
        let end = self.ledger.end();
        let ours = |span: &SpanEntry| number(span).filter(|number| *number < end);
        let sent_us = self.ledger.sent_us(&first_of_traces(layout, ours));
        let mut seen = self.seen.lock();
        let known = place(end).unwrap_or(0).max(seen.times.len());
        seen.times.resize(known, 0);
        for span in &layout.spans {
            match ours(span) {
                Some(number) => {
                    seen.note(number);
                    if is_sampled(number) {
                        let sent = self.ledger.digest(number);
                        seen.compare(sent == Some(digest(body, layout, span)));
                    }
                }
                None => seen.added += 1,
            }
        }
        for sent_us in sent_us {
            seen.note_wait(sent_us, self.idle, now_us);
        }
        seen.first.get_or_insert(now);
        seen.last = Some(now);
    }
}

/// The number that is the span's id; those of added spans are larger than any.
fn number(span: &SpanEntry) -> Option<u64> {
    span.id.map(|id| u64::from_be_bytes(id.to_wire()))
}

fn place(number: u64) -> Option<usize> {
    usize::try_from(number).ok()
}

/// One span of each trace: those of a trace are neighbours.
fn first_of_traces(layout: &Layout, ours: impl Fn(&SpanEntry) -> Option<u64>) -> Vec<u64> {
    let mut last = None;
    let first = layout.spans.iter().filter_map(|span| {
        let number = ours(span)?;
        let is_next = last != span.trace_id;
        last = span.trace_id;
        is_next.then_some(number)
    });
    first.collect()
}

/// The buffer looks at a trace so long before its time at most.
const TOLERANCE_US: u64 = 20_000;

impl Seen {
    fn note(&mut self, number: u64) {
        let Some(times) = place(number).and_then(|place| self.times.get_mut(place)) else { return };
        *times = times.saturating_add(1);
        if *times == 1 {
            self.spans += 1;
        } else {
            self.duplicated += 1;
        }
    }

    fn compare(&mut self, is_same: bool) {
        self.checked += 1;
        self.altered += u64::from(!is_same);
    }

    fn note_wait(&mut self, sent_us: u64, idle: Duration, now_us: u64) {
        let idle_us = u64::try_from(idle.as_micros()).expect("fits");
        let end_us = sent_us + idle_us;
        if now_us + TOLERANCE_US < end_us {
            self.early += 1;
            return;
        }
        let beyond_us = now_us.saturating_sub(end_us);
        self.beyond_us.push(u32::try_from(beyond_us).unwrap_or(u32::MAX));
    }
}

#[tokio::test]
async fn a_sink_tells_what_is_lost_doubled_and_altered() {
    use super::{shape::Shape, template::Template};

    let ledger = Arc::<Ledger>::default();
    let sink = Sink::start(Arc::clone(&ledger), Duration::ZERO).await;
    let template = Template::new(Shape::REFERENCE, 0);
    let arrive = |change: &dyn Fn(&mut Vec<u8>)| {
        let (place, group) = ledger.begin(Shape::REFERENCE, 1);
        let mut body = template.filled(group.first, 1);
        ledger.sending(place, 0, template.digests(&body, group.first));
        ledger.acknowledge(place, 0);
        change(&mut body);
        sink.shared.take(&body, &Layout::trusted(&body).expect("OTLP"));
        body
    };
    let once = arrive(&|_| ());
    sink.shared.take(&once, &Layout::trusted(&once).expect("OTLP"));
    arrive(&|body| body.clear());
    // In the resource, so that it concerns all spans.
    arrive(&|body| body[30] ^= 1);
    let verdict = sink.verdict();
    assert_eq!((verdict.spans, verdict.lost, verdict.duplicated), (1024, 512, 512));
    assert!(verdict.altered > 0, "{verdict:?}");
    assert!(verdict.altered < verdict.checked, "{verdict:?}");
}
