//! What every story needs: a world on loopback (simulated `DeepFlow`, pipeline, backend, sender), simple requests,
//! waiting with a deadline, and a look at metrics and books.

pub(crate) mod authority;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod http_backend;
pub(crate) mod program;
pub(crate) mod tls;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use tracestitch::{
    clock,
    config::{self, Environment},
    demo::{
        backend::Backend,
        deepflow::{Deepflow, DeepflowConfig},
        sender::Sender,
    },
    ledger::{Books, DropReason},
    memory::Budget,
    pipeline::{Config, Pipeline},
    telemetry::Watched,
    wire::splice::ORIGINAL_PARENT,
};

/// For whatever has to happen; far more than it takes, for slow machines.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Port 0 on loopback.
pub(crate) const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Insides of the configuration's sections, as YAML in flow style.
#[derive(Debug, Clone)]
pub(crate) struct Setup<'a> {
    /// More of `receivers.otlp`.
    pub(crate) receiver: &'a str,
    /// More of `receivers.otlp.protocols.grpc`.
    pub(crate) grpc: String,
    /// More of `receivers.otlp.protocols.http`.
    pub(crate) http: String,
    pub(crate) memory: &'a str,
    pub(crate) buffer: &'a str,
    /// Insides of `buffer.journal`.
    pub(crate) journal: String,
    /// More of `completion.deepflow`.
    pub(crate) deepflow: &'a str,
    /// More of `exporters.otlp/backend`.
    pub(crate) exporter: &'a str,
    /// More of `exporters`.
    pub(crate) exporters: String,
    /// `exporters`, in place of all the above.
    pub(crate) only: String,
    pub(crate) admin_endpoint: &'a str,
    /// More of `admin`.
    pub(crate) admin: String,
    pub(crate) dead_letter: String,
    pub(crate) drain_timeout: &'a str,
    /// More of `logs`.
    pub(crate) logs: &'a str,
}

/// Nobody waits for long.
const QUICK_DEEPFLOW: &str = "timeout: 2s, deadline: 5s, reask: [300ms, 900ms]";

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            receiver: "",
            grpc: String::new(),
            http: String::new(),
            memory: "limit: 256MiB",
            buffer: "idle: 300ms",
            journal: "enabled: false".to_owned(),
            deepflow: QUICK_DEEPFLOW,
            exporter: "retry_on_failure: {initial_interval: 50ms, max_interval: 200ms}",
            exporters: String::new(),
            only: String::new(),
            admin_endpoint: "127.0.0.1:0",
            admin: String::new(),
            // A story that wants one names a directory of its own.
            dead_letter: "enabled: false".to_owned(),
            drain_timeout: "25s",
            logs: "",
        }
    }
}

impl Setup<'_> {
    /// Without asking.
    pub(crate) fn without_deepflow() -> Self {
        Self { deepflow: "enabled: false", ..Self::default() }
    }

    /// As text, for the program itself.
    pub(crate) fn yaml(&self, deepflow: &str, backend: &str) -> String {
        let Self { receiver, memory, buffer, journal, .. } = self;
        let Self { deepflow: asking, exporter, exporters, dead_letter, .. } = self;
        let Self { admin, drain_timeout, logs, .. } = self;
        let Self { grpc, http, admin_endpoint, .. } = self;
        let any = "endpoint: '127.0.0.1:0'";
        let exporters = if self.only.is_empty() {
            format!("otlp/backend: {{endpoint: '{backend}', {exporter}}}, {exporters}")
        } else {
            self.only.clone()
        };
        format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{{any}, {grpc}}}, http: {{{any}, {http}}}}}, {receiver}}}}}\n\
             memory: {{{memory}}}\n\
             buffer: {{{buffer}, journal: {{{journal}}}}}\n\
             completion: {{deepflow: {{endpoint: '{deepflow}', {asking}}}}}\n\
             exporters: {{{exporters}}}\n\
             dead_letter: {{{dead_letter}}}\n\
             admin: {{endpoint: '{admin_endpoint}', {admin}}}\n\
             logs: {{format: json, {logs}}}\n\
             shutdown: {{drain_timeout: {drain_timeout}}}\n"
        )
    }

    /// As the program reads it.
    pub(crate) fn config(&self, deepflow: &str, backend: &str) -> Config {
        let text = self.yaml(deepflow, backend);
        config::load("the story's", &text, &NoEnvironment, Config::check)
            .unwrap_or_else(|error| panic!("{error}\n{text}"))
    }
}

/// No variables, no files.
pub(crate) struct NoEnvironment;

impl Environment for NoEnvironment {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Err(format!("{path} is not read here"))
    }
}

/// All parts, running.
pub(crate) struct World {
    pub(crate) deepflow: Deepflow,
    pub(crate) backend: Backend,
    pub(crate) pipeline: Pipeline,
    pub(crate) sender: Sender,
}

impl World {
    pub(crate) async fn start(setup: Setup<'_>) -> Self {
        Self::with(DeepflowConfig::default(), setup).await
    }

    pub(crate) async fn with(deepflow: DeepflowConfig, setup: Setup<'_>) -> Self {
        let deepflow = Deepflow::start(deepflow, ANY_PORT).await.expect("a free port");
        let backend = Backend::start(0).await.expect("a free port");
        Self::between(deepflow, backend, setup).await
    }

    async fn between(deepflow: Deepflow, backend: Backend, setup: Setup<'_>) -> Self {
        let config = setup.config(&deepflow.url(), &backend.url());
        let pipeline = Pipeline::start(&config).await.expect("a pipeline");
        let sender = sender(&pipeline);
        Self { deepflow, backend, pipeline, sender }
    }

    /// Ends the pipeline and starts another one between the same others.
    pub(crate) async fn restarted(self, setup: Setup<'_>) -> (Watched, Self) {
        let Self { deepflow, backend, pipeline, .. } = self;
        let watched = pipeline.end().await;
        (watched, Self::between(deepflow, backend, setup).await)
    }

    pub(crate) fn watched(&self) -> &Watched {
        &self.pipeline.watched
    }

    /// Sends a request that is taken whole.
    pub(crate) async fn send(&self, request: &ExportTraceServiceRequest) {
        let answer = self.sender.send(request).await.expect("the request is taken");
        assert!(answer.is_empty(), "all of its spans are taken");
    }

    /// Nothing is under way any more, and so many spans came in.
    pub(crate) async fn settled(&self, spans: usize) {
        settled(self.watched(), spans).await;
    }

    /// The value of a series.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        metric(self.watched(), series)
    }

    /// Drains and ends all parts; what came in went out, but for what was dropped for these reasons.
    pub(crate) async fn end(self, dropped: &[(DropReason, usize)]) {
        let watched = self.pipeline.end().await;
        assert_balanced(&watched, dropped);
        self.deepflow.stop().await;
        self.backend.stop().await;
    }
}

/// A sender to the pipeline's OTLP/gRPC receiver, with a connection of its own.
pub(crate) fn sender(pipeline: &Pipeline) -> Sender {
    Sender::to(pipeline.grpc().expect("OTLP/gRPC is on")).expect("an address")
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = clock::now() + PATIENCE;
    while !holds() {
        assert!(clock::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The highest use of memory while something goes on.
pub(crate) async fn highest<T>(budget: &Budget, work: impl Future<Output = T>) -> (u64, T) {
    let mut work = std::pin::pin!(work);
    let mut highest = 0;
    loop {
        tokio::select! {
            biased;
            done = &mut work => return (highest, done),
            () = tokio::time::sleep(Duration::from_millis(1)) => {
                highest = highest.max(budget.used_bytes());
            }
        }
    }
}

/// Waits until so many spans came in and none is held.
pub(crate) async fn settled(watched: &Watched, spans: usize) {
    let spans = i64::try_from(spans).expect("not so many");
    until("all spans that came in went out", || {
        watched.ledger.snapshot().iter().all(|books| books.accepted >= spans && books.held == 0)
    })
    .await;
}

/// The first destination's books.
pub(crate) fn books(watched: &Watched) -> Books {
    watched.ledger.snapshot().into_iter().next().expect("a destination")
}

/// After the end: for the first destination everything has its account, and these were dropped.
pub(crate) fn assert_balanced(watched: &Watched, dropped: &[(DropReason, usize)]) {
    for books in watched.ledger.snapshot() {
        assert_eq!((books.unaccounted(), books.held), (0, 0), "{books:?}");
        assert_eq!(books.dropped(DropReason::Lost), 0, "{books:?}");
    }
    let books = books(watched);
    let all: i64 = DropReason::ALL.iter().map(|&reason| books.dropped(reason)).sum();
    for &(reason, spans) in dropped {
        assert_eq!(usize::try_from(books.dropped(reason)), Ok(spans), "{reason:?}: {books:?}");
    }
    let expected: usize = dropped.iter().map(|(_, spans)| spans).sum();
    assert_eq!(usize::try_from(all), Ok(expected), "nothing else was dropped: {books:?}");
    assert_eq!(books.accepted + books.recovered, books.delivered + all, "{books:?}");
    assert_eq!(watched.budget.used_bytes(), 0, "all memory was given back");
}

/// The value of a series, by its name and labels as they are rendered.
pub(crate) fn metric(watched: &Watched, series: &str) -> u64 {
    let text = watched.render();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = line.unwrap_or_else(|| panic!("no series {series} in\n{text}"));
    value.parse().expect("a whole number")
}

/// A trace of so many spans: calls within calls, each a CLIENT or SERVER span.
pub(crate) fn spans(trace: u128, count: u64) -> Vec<Span> {
    (1..=count).map(|number| span(trace, number)).collect()
}

/// The span of a trace with this number, counted from 1; its parent is the one before.
pub(crate) fn span(trace: u128, number: u64) -> Span {
    // Traces differ in their low half, so that span ids differ, too.
    let low = u64::try_from(trace & 0xffff_ffff).expect("32 bits");
    let id = |number: u64| (low << 24 | number).to_be_bytes().to_vec();
    let start = clock::wall_us() * 1000 - 1_000_000_000;
    Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: id(number),
        parent_span_id: if number > 1 { id(number - 1) } else { Vec::new() },
        name: format!("span {number} of {trace:x}"),
        // CLIENT, SERVER, CLIENT …
        kind: if number % 2 == 1 { 3 } else { 2 },
        start_time_unix_nano: start + number * 20_000,
        end_time_unix_nano: start + 500_000_000 - number * 20_000,
        ..Span::default()
    }
}

/// These spans, from a service's SDK.
pub(crate) fn request(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource =
        Resource { attributes: vec![text("service.name", service)], ..Resource::default() };
    let scope = InstrumentationScope { name: "story".to_owned(), ..Default::default() };
    let scope_spans = ScopeSpans { scope: Some(scope), spans, ..Default::default() };
    let resource_spans = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![scope_spans],
        ..Default::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

/// A trace of so many spans, from one service.
pub(crate) fn trace(trace: u128, count: u64) -> ExportTraceServiceRequest {
    request("shop", spans(trace, count))
}

/// An attribute.
pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..Default::default() }
}

/// The spans of a request.
pub(crate) fn spans_of(request: &ExportTraceServiceRequest) -> Vec<Span> {
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| scope.spans.clone()).collect()
}

/// All spans the backend took, added ones included.
pub(crate) fn spans_at(backend: &Backend) -> Vec<Span> {
    backend.spans().into_iter().map(|(_, span)| span).collect()
}

/// Each of these spans arrived once and, but for its parent, as it was sent. The others, which were added, are returned.
pub(crate) fn assert_arrived(sent: &[Span], arrived: Vec<Span>) -> Vec<Span> {
    let id = |span: &Span| (span.trace_id.clone(), span.span_id.clone());
    let mut wanted: HashMap<_, _> = sent.iter().map(|span| (id(span), (span, 0))).collect();
    assert_eq!(wanted.len(), sent.len(), "spans of a story have different ids");
    let mut added = Vec::new();
    for span in arrived {
        match wanted.get_mut(&id(&span)) {
            Some((sent, times)) => {
                assert_eq!(&restored(span), *sent);
                *times += 1;
            }
            None => added.push(span),
        }
    }
    for (span, times) in wanted.values() {
        assert_eq!(*times, 1, "{} arrived {times} times", span.name);
    }
    added
}

/// The span as it was before it got another parent.
fn restored(mut span: Span) -> Span {
    let place = span.attributes.iter().position(|attribute| attribute.key == ORIGINAL_PARENT);
    let Some(place) = place else { return span };
    let former = span.attributes.remove(place).value.and_then(|value| value.value);
    let Some(Value::StringValue(hex)) = former else { panic!("the former parent is a text") };
    let number = u64::from_str_radix(&hex, 16);
    span.parent_span_id = number.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default();
    span
}
