//! [`Script`]: one trace while it is played. Every span and every row gets a label, by which the stories name it when
//! they say what hangs where.

use std::collections::HashMap;

use fastrand::Rng;
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    trace::v1::{Span, Status, span::Event},
};

use super::{
    Edge,
    cast::{self, Service},
};
use crate::{
    demo::deepflow::{Call, Row, Side},
    trace::{SpanId, SpanKind, TraceId},
};

/// Begin and end in microseconds after the begin of the trace.
pub(super) type Times = (u64, u64);

/// One trace while it is played.
pub(super) struct Script<'r> {
    rng: &'r mut Rng,
    trace_id: TraceId,
    start_ns: u64,
    spans: Vec<(Service, Span)>,
    rows: Vec<Row>,
    /// App spans and rows by label.
    labels: HashMap<String, SpanId>,
}

/// An app span, before it has ids.
pub(super) struct Line {
    /// Who records it.
    pub service: Service,
    /// Its kind.
    pub kind: SpanKind,
    /// Its name; the label is `app <name> [<service>]`, with ` client` behind the name for a CLIENT span.
    pub name: &'static str,
    /// Label of its parent.
    pub parent: Parent,
    /// When.
    pub times_us: Times,
    /// What it says.
    pub attributes: Vec<KeyValue>,
    /// What went wrong.
    pub error: Option<&'static str>,
}

/// What an app span names as parent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Parent {
    /// Nothing.
    None,
    /// The span of this label.
    Span(&'static str),
    /// A span that nobody exports.
    Absent(SpanId),
}

impl<'r> Script<'r> {
    pub(super) fn new(rng: &'r mut Rng, start_ns: u64) -> Self {
        // The highest bit keeps the id from being zero.
        let id: u128 = rng.u128(..) | 1 << 127;
        let trace_id = TraceId::from_wire(&id.to_be_bytes()).expect("16 bytes, not zero");
        Self {
            rng,
            trace_id,
            start_ns,
            spans: Vec::new(),
            rows: Vec::new(),
            labels: HashMap::new(),
        }
    }

    pub(super) fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// A span id that nobody has.
    pub(super) fn fresh_id(&mut self) -> SpanId {
        SpanId::from_number(self.rng.u64(1..)).expect("drawn from 1 up")
    }

    /// Ids of system calls in one thread: `[request, first answer, second answer, …]`, for `count` calls in a row.
    pub(super) fn thread(&mut self, count: usize) -> Vec<u64> {
        let first = self.rng.u64(1 << 20..1 << 60);
        (first..).take(count + 1).collect()
    }

    /// What an ingress or sidecar calls a request.
    pub(super) fn x_request_id(&mut self) -> String {
        format!("{:032x}", self.rng.u128(..))
    }

    /// Records an app span. Its label: `app GET /cart [cart]`, or `app GET /cart client [shop-web]`.
    pub(super) fn span(&mut self, line: Line) {
        let id = self.fresh_id();
        let is_client = line.kind == SpanKind::Client;
        let client = if is_client { " client" } else { "" };
        self.label(format!("app {}{client} [{}]", line.name, line.service.name), id);
        let parent = match line.parent {
            Parent::None => None,
            Parent::Span(label) => Some(self.id(label)),
            Parent::Absent(id) => Some(id),
        };
        let end_ns = self.start_ns + line.times_us.1 * 1000;
        let span = Span {
            trace_id: self.trace_id.to_wire().to_vec(),
            span_id: id.to_wire().to_vec(),
            parent_span_id: parent.map_or(Vec::new(), |id| id.to_wire().to_vec()),
            // Sampled.
            flags: 1,
            name: line.name.to_owned(),
            kind: line.kind.to_wire(),
            start_time_unix_nano: self.start_ns + line.times_us.0 * 1000,
            end_time_unix_nano: end_ns,
            attributes: line.attributes,
            events: line.error.map(|text| exception(text, end_ns)).into_iter().collect(),
            status: line.error.map(|text| Status { message: text.to_owned(), code: 2 }),
            ..Span::default()
        };
        self.spans.push((line.service, span));
    }

    /// Plays a call that carries the header of this client span.
    pub(super) fn call_of(&mut self, caller: &str, name: &str, times_us: Times, call: Call) {
        let span_id = self.id(caller);
        self.call_with(span_id, name, times_us, call);
    }

    /// Plays a call that carries a header with this span id.
    pub(super) fn call_with(&mut self, span_id: SpanId, name: &str, times_us: Times, call: Call) {
        let call =
            Call { trace_id: self.trace_id.to_string(), span_id: span_id.to_string(), ..call };
        self.call(name, times_us, call);
    }

    /// Plays a call. The labels of its rows: `system c-p <name>`, `network c <name>`, …
    pub(super) fn call(&mut self, name: &str, (start_us, end_us): Times, call: Call) {
        let zero_us = i64::try_from(self.start_ns / 1000).unwrap_or(i64::MAX);
        let at = |time_us: u64| zero_us.saturating_add(time_us.try_into().unwrap_or(i64::MAX));
        let is_udp = call.protocol == DNS;
        let tcp_seqs =
            if is_udp { [0, 0] } else { [self.rng.u32(1..).into(), self.rng.u32(1..).into()] };
        let call = Call {
            start_us: at(start_us),
            end_us: Some(at(end_us)),
            tcp_seqs,
            first_row: self.rng.u32(..u32::MAX - 64),
            ..call
        };
        for row in call.rows() {
            let layer = if matches!(&*row.point, "c-p" | "s-p") { "system" } else { "network" };
            let id = SpanId::from_number(row.id).expect("the upper half is a time after 1970");
            self.label(format!("{layer} {} {name}", row.point), id);
            self.rows.push(row);
        }
    }

    /// The edges along a path of labels.
    pub(super) fn edges(&self, path: &[&str]) -> Vec<Edge> {
        let edge = |pair: &[&str]| Edge {
            trace_id: self.trace_id,
            parent: self.id(pair[0]),
            child: self.id(pair[1]),
            words: format!("{} > {}", pair[0], pair[1]),
        };
        path.windows(2).map(edge).collect()
    }

    /// All that was played.
    pub(super) fn end(self) -> (Vec<(Service, Span)>, Vec<Row>) {
        (self.spans, self.rows)
    }

    fn label(&mut self, label: String, id: SpanId) {
        let former = self.labels.insert(label, id);
        debug_assert!(former.is_none(), "two things of one label");
    }

    fn id(&self, label: &str) -> SpanId {
        *self.labels.get(label).unwrap_or_else(|| panic!("nothing is labelled {label:?}"))
    }
}

/// HTTP, by number and name.
pub(super) const HTTP: (u16, &str) = (20, "HTTP");
/// gRPC.
pub(super) const GRPC: (u16, &str) = (41, "gRPC");
/// MySQL.
pub(super) const MYSQL: (u16, &str) = (60, "MySQL");
/// Redis.
pub(super) const REDIS: (u16, &str) = (80, "Redis");
/// DNS.
pub(super) const DNS: (u16, &str) = (120, "DNS");

/// An HTTP request that went well.
pub(super) fn http(method: &str, path: &str, client: Option<Side>, server: Option<Side>) -> Call {
    Call {
        client,
        server,
        protocol: HTTP,
        request_type: method.to_owned(),
        request_resource: path.to_owned(),
        endpoint: path.to_owned(),
        response_code: Some(200),
        ..Call::default()
    }
}

/// A request that is no HTTP.
pub(super) fn other(
    protocol: (u16, &'static str),
    request: (&str, &str),
    client: Side,
    server: Option<Side>,
) -> Call {
    Call {
        client: Some(client),
        server,
        protocol,
        request_type: request.0.to_owned(),
        request_resource: request.1.to_owned(),
        ..Call::default()
    }
}

/// The attributes of an HTTP span.
pub(super) fn http_attributes(method: &str, path: &str, status: u64) -> Vec<KeyValue> {
    vec![
        cast::text("http.request.method", method),
        cast::text("url.path", path),
        cast::number("http.response.status_code", status),
    ]
}

fn exception(text: &str, time_ns: u64) -> Event {
    Event {
        time_unix_nano: time_ns,
        name: "exception".to_owned(),
        attributes: vec![
            cast::text("exception.type", "PaymentError"),
            cast::text("exception.message", text),
        ],
        ..Event::default()
    }
}
