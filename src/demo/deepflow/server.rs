//! [`Deepflow`]: the running server and the handle that feeds, watches and breaks it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, atomic},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request as HttpRequest, State},
    http::{HeaderMap, Method, StatusCode},
    response::Response,
};
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync, sync::watch, task::JoinHandle, time};

use super::{
    DeepflowConfig, Fault, Row, WallClock, answer, reply,
    request::{Posted, Request},
    store::{Reach, Store},
    synthesis,
    wire::{Access, Gate},
};

const PATH: &str = "/v1/stats/querier/tracing-completion-by-external-app-spans";
const BODY_BYTES_MAX: usize = 100_000_000;
/// Rows up to this far outside the posted spans are looked at (contract fact 7).
const WINDOW_MARGIN_S: i64 = 3;
/// The service's stack ends here (contract section 11).
const CHAIN_SPANS_MAX: usize = 990;
const ASKS_KEPT_MAX: usize = 10_000;
/// Traces of which is known that they were asked for; beyond it answers no longer grow.
const GROWN_TRACES_MAX: usize = 1_000_000;
/// Columns a Python process may name when it finds nothing; which one is chance, at its start.
const MISSING_COLUMNS: [&str; 6] = [
    "server_port",
    "is_async",
    "gprocess_0",
    "gprocess_1",
    "biz_response_code",
    "Enum(l7_protocol)",
];

/// One ask that arrived and was in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The first trace id that is not empty.
    pub trace_id: String,
    /// How many spans were posted.
    pub spans: usize,
    /// The header `X-Org-Id`.
    pub org_id: Option<String>,
    /// All headers as they came.
    pub headers: HeaderMap,
}

/// A simulated DeepFlow that is listening. Ends with [`Deepflow::stop`], or with its runtime.
#[derive(Debug)]
pub struct Deepflow {
    addr: SocketAddr,
    service: Arc<Service>,
    server: JoinHandle<io::Result<()>>,
}

impl Deepflow {
    /// Listens on `addr`; port 0 takes any.
    pub async fn start(config: DeepflowConfig, addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let service = Arc::new(Service::new(config));
        let gate = Gate::new(listener, service.access.subscribe());
        let mut access = service.access.subscribe();
        let over = async move {
            // An error means that the service is gone, which is the end as well.
            let _ = access.wait_for(|access| *access == Access::Over).await;
        };
        let router = Router::new().fallback(handle).with_state(Arc::clone(&service));
        let serving = axum::serve(gate, router).with_graceful_shutdown(over);
        let server = tokio::spawn(async move { serving.await });
        Ok(Self { addr, service, server })
    }

    /// Where it listens, without a slash at the end: what a client takes as endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// More of what the agents saw.
    pub fn add_rows(&self, rows: impl IntoIterator<Item = Row>) {
        self.service.store.lock().add(rows);
    }

    /// Forgets the rows that ended before this time, so that a long demo stays small.
    pub fn forget_rows_before(&self, time_us: u64) {
        self.service.store.lock().forget_before(i64::try_from(time_us).unwrap_or(i64::MAX));
    }

    /// From now on this is wrong, and nothing else.
    pub fn set_fault(&self, fault: Fault) {
        self.service.set_fault(fault);
    }

    /// The latest asks that were in order, oldest first.
    pub fn requests(&self) -> Vec<Ask> {
        self.service.asks.lock().iter().cloned().collect()
    }

    /// How many asks arrived, whatever became of them.
    pub fn arrived(&self) -> u64 {
        self.service.arrived.load(atomic::Ordering::Relaxed)
    }

    /// Cuts all connections and gives the address back.
    pub async fn stop(self) {
        self.service.access.send_replace(Access::Over);
        if let Err(error) = self.server.await {
            tracing::warn!(%error, "the simulated deepflow ended badly");
        }
    }
}

/// What all connections share.
#[derive(Debug)]
struct Service {
    store: Mutex<Store>,
    fault: Mutex<Fault>,
    access: watch::Sender<Access>,
    asks: Mutex<VecDeque<Ask>>,
    arrived: atomic::AtomicU64,
    rng: Mutex<Rng>,
    missing_column: &'static str,
    /// The one worker; who holds it is being answered.
    worker: sync::Mutex<()>,
    visible_after: Duration,
    clock: WallClock,
    synthesise: bool,
    /// Traces that were asked for, if answers grow.
    grown: Option<Mutex<HashSet<String>>>,
}

impl Service {
    fn new(config: DeepflowConfig) -> Self {
        let mut rng = Rng::with_seed(config.seed);
        let mut store = Store::default();
        store.add(config.rows);
        let service = Self {
            store: Mutex::new(store),
            fault: Mutex::default(),
            access: watch::Sender::new(Access::Open),
            asks: Mutex::default(),
            arrived: atomic::AtomicU64::new(0),
            missing_column: MISSING_COLUMNS[rng.usize(..MISSING_COLUMNS.len())],
            rng: Mutex::new(rng),
            worker: sync::Mutex::new(()),
            visible_after: config.visible_after,
            clock: config.clock,
            synthesise: config.synthesise,
            grown: config.grows.then(Mutex::default),
        };
        service.set_fault(config.fault);
        service
    }

    fn set_fault(&self, fault: Fault) {
        let access = if fault == Fault::Down { Access::Cut } else { Access::Open };
        *self.fault.lock() = fault;
        self.access.send_if_modified(|known| {
            let changes = *known != Access::Over && *known != access;
            if changes {
                *known = access;
            }
            changes
        });
    }

    /// What the service answers when nothing is wrong with it.
    fn answer(&self, request: &Request) -> Response {
        let Some(trace_id) = first_trace_id(&request.spans) else {
            return self.nothing_found();
        };
        if is_too_deep(&request.spans) {
            return reply::failure("maximum recursion depth exceeded in comparison");
        }
        let reach = self.reach(request);
        let mut rows = self.store.lock().search(trace_id, reach);
        if rows.is_empty() && self.synthesise {
            rows = synthesis::rows(trace_id, &request.spans);
            rows.retain(|row| row.end_us <= reach.written_until_us);
        }
        if self.is_first_of_growing(trace_id) {
            rows.truncate(rows.len().div_ceil(2));
        }
        if rows.is_empty() {
            return self.nothing_found();
        }
        let mut rng = self.rng.lock().fork();
        reply::json_response(StatusCode::OK, answer::body(request, rows, &mut rng))
    }

    fn is_first_of_growing(&self, trace_id: &str) -> bool {
        let Some(grown) = &self.grown else { return false };
        let mut grown = grown.lock();
        grown.len() < GROWN_TRACES_MAX && grown.insert(trace_id.to_owned())
    }

    fn reach(&self, request: &Request) -> Reach {
        let start_us = request.spans.iter().map(|span| span.start_us).min().unwrap_or_default();
        let end_us = request.spans.iter().map(|span| span.end_us).max().unwrap_or_default();
        let second = |time_us: i64| time_us.div_euclid(1_000_000);
        let visible_after_us = u64::try_from(self.visible_after.as_micros()).unwrap_or(u64::MAX);
        let written_until_us = self.clock.now_us().saturating_sub(visible_after_us);
        Reach {
            window_s: (second(start_us) - WINDOW_MARGIN_S, second(end_us) + WINDOW_MARGIN_S),
            written_until_us: i64::try_from(written_until_us).unwrap_or(i64::MAX),
            iterations_max: usize::try_from(request.iterations_max).unwrap_or(usize::MAX),
        }
    }

    /// A Python KeyError: the quoted name of some column.
    fn nothing_found(&self) -> Response {
        reply::failure(&format!("'{}'", self.missing_column))
    }

    fn note(&self, request: &Request, headers: HeaderMap) {
        let org_id =
            headers.get("x-org-id").map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
        let trace_id = first_trace_id(&request.spans).unwrap_or_default().to_owned();
        let mut asks = self.asks.lock();
        if asks.len() == ASKS_KEPT_MAX {
            asks.pop_front();
        }
        asks.push_back(Ask { trace_id, spans: request.spans.len(), org_id, headers });
    }
}

async fn handle(State(service): State<Arc<Service>>, request: HttpRequest) -> Response {
    let path = request.uri().path();
    // One slash at the end is accepted, and so are two.
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    if trimmed.strip_suffix('/').unwrap_or(trimmed) != PATH {
        return reply::sanic(StatusCode::NOT_FOUND, &format!("Requested URL {path} not found"));
    }
    if request.method() != Method::POST {
        let message = format!("Method {} not allowed for URL {path}", request.method());
        return reply::sanic(StatusCode::METHOD_NOT_ALLOWED, &message);
    }
    service.arrived.fetch_add(1, atomic::Ordering::Relaxed);
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return reply::response(
            StatusCode::PAYLOAD_TOO_LARGE,
            "text/plain; charset=utf-8",
            "Request body exceeds the size limit",
        );
    };
    match Request::parse(&body) {
        Err(refusal) => reply::refusal(&refusal),
        Ok(request) => {
            service.note(&request, head.headers);
            answer_or_fail(&service, &request).await
        }
    }
}

async fn answer_or_fail(service: &Service, request: &Request) -> Response {
    let fault = service.fault.lock().clone();
    match fault {
        Fault::None => service.answer(request),
        Fault::Latency(latency) => {
            time::sleep(latency).await;
            service.answer(request)
        }
        Fault::Capacity { answers_per_s } => {
            let _busy = service.worker.lock().await;
            match Duration::try_from_secs_f64(1.0 / answers_per_s) {
                Ok(work) => time::sleep(work).await,
                Err(_) => std::future::pending().await,
            }
            service.answer(request)
        }
        // The wire is cut already; this answer goes nowhere.
        Fault::Down => reply::failure("down"),
        Fault::Status { status, text } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            reply::failure_with(status, &text)
        }
        Fault::PartialResult => reply::partial_result(),
        Fault::Garbage => reply::garbage(),
        Fault::Huge(bytes) => reply::huge(bytes),
        // Connections end with the server, and with them whoever waits here.
        Fault::Hang => std::future::pending().await,
        Fault::Unknown => service.nothing_found(),
    }
}

fn first_trace_id(spans: &[Posted]) -> Option<&str> {
    spans.iter().map(|span| span.trace_id.as_str()).find(|id| !id.is_empty())
}

/// A long chain in which every child starts before its parent is more than the service's recursion bears.
fn is_too_deep(spans: &[Posted]) -> bool {
    if spans.len() <= CHAIN_SPANS_MAX {
        return false;
    }
    let by_id: HashMap<&str, &Posted> =
        spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
    let deeper = |span: &&Posted| {
        let parent = by_id.get(span.parent_span_id.as_str()).copied();
        parent.filter(|parent| span.start_us < parent.start_us)
    };
    spans.iter().any(|span| {
        let chain = std::iter::successors(Some(span), deeper);
        chain.take(CHAIN_SPANS_MAX + 1).count() > CHAIN_SPANS_MAX
    })
}
