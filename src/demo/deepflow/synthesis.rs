//! Rows made up from posted spans, for traffic that no agent saw: demos and load tests with any OpenTelemetry program.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::{Row, Signal, request::Posted, rows::Process};
use crate::trace::Exchange;

/// Points of a call and the side they are on.
const CLIENT_POINTS: [&str; 3] = ["c-p", "c", "c-nd"];
const SERVER_POINTS: [&str; 3] = ["s-nd", "s", "s-p"];
/// Between two points when there is no server span to measure by.
const HOP_US_MAX: i64 = 20;
const AGENTS: u64 = 3;

/// A chain for every span that makes a call, from its process to that of each span it called.
///
/// Ids come from the trace id and the span id alone, so the same trace always gets the same rows.
pub(super) fn rows(trace_id: &str, spans: &[Posted]) -> Vec<Row> {
    let by_id: HashMap<&str, &Posted> =
        spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
    let mut called: HashMap<&str, Vec<&Posted>> = HashMap::new();
    for span in
        spans.iter().filter(|span| matches!(span.kind, 2 | 5) && !span.parent_span_id.is_empty())
    {
        called.entry(&span.parent_span_id).or_default().push(span);
    }
    let callers =
        spans.iter().filter(|span| matches!(span.kind, 3 | 4) && span.trace_id == trace_id);
    let mut rows = Vec::new();
    for client in callers {
        let home = home_of(client, &by_id);
        let servers = called.get(client.span_id.as_str()).map_or(&[][..], Vec::as_slice);
        let first = servers.first().copied();
        chain(&mut rows, &Link { trace_id, client, home, server: first, number: 0 });
        for (number, server) in (1..).zip(servers.iter().skip(1)) {
            chain(&mut rows, &Link { trace_id, client, home, server: Some(server), number });
        }
    }
    rows
}

/// One call between two posted spans.
struct Link<'s> {
    trace_id: &'s str,
    client: &'s Posted,
    /// Span id of the top of what happened in the client's process.
    home: &'s str,
    server: Option<&'s Posted>,
    /// Counts the calls of one client span.
    number: u32,
}

fn chain(rows: &mut Vec<Row>, link: &Link<'_>) {
    for (place, point) in (1..).zip(CLIENT_POINTS) {
        rows.push(row(link, point, place, link.home));
    }
    if let Some(server) = link.server {
        for (place, point) in (4..).zip(SERVER_POINTS) {
            rows.push(row(link, point, place, &server.span_id));
        }
    }
}

fn row(link: &Link<'_>, point: &'static str, place: i64, home: &str) -> Row {
    let (start_us, end_us) = times_us(link, place);
    let call = digest(&(link.trace_id, &link.client.span_id, link.number));
    let instance_id = 1 + digest(&(link.trace_id, home)) % 1_000_000;
    let is_process = matches!(point, "c-p" | "s-p");
    let end_s = end_us.div_euclid(1_000_000).unsigned_abs();
    Row {
        id: (end_s << 32) | (digest(&(call, point)) & 0xffff_ffff).max(1),
        signal: if is_process { Signal::Ebpf } else { Signal::Packet },
        exchange: Exchange::Session,
        start_us,
        end_us,
        point: point.into(),
        protocol: 20,
        protocol_name: "HTTP".into(),
        endpoint: "/".to_owned(),
        request_type: "GET".to_owned(),
        request_resource: "/".to_owned(),
        response_code: Some(200),
        flow_id: 1 + digest(&(call, "flow")) % 1_000_000_000,
        trace_id: link.trace_id.to_owned(),
        span_id: link.client.span_id.clone(),
        tcp_seqs: [1 + (call & 0x7fff_ffff), 1 + (call >> 33)],
        agent_id: 1 + instance_id % AGENTS,
        process: is_process.then(|| process(instance_id)),
        instance_id,
        instance_type: 10,
        service: format!("svc-{instance_id}"),
        service_id: instance_id,
        service_type: 102,
        ..Row::default()
    }
}

/// Evenly between the two spans if one contains the other; else each half close to the span it belongs to.
fn times_us(link: &Link<'_>, place: i64) -> (i64, i64) {
    let client = link.client;
    let (start_us, end_us) = match link.server {
        None => {
            let hop_us = (client.end_us.saturating_sub(client.start_us) / 20).clamp(0, HOP_US_MAX);
            (client.start_us + place * hop_us, client.end_us - place * hop_us)
        }
        Some(server) if client.start_us <= server.start_us && server.end_us <= client.end_us => {
            let share = |span_us: i64| span_us * place / 7;
            let before_us = share(server.start_us - client.start_us);
            (client.start_us + before_us, client.end_us - share(client.end_us - server.end_us))
        }
        Some(_) if place <= 3 => (client.start_us + place, client.end_us - place),
        Some(server) => (server.start_us - (7 - place), server.end_us + (7 - place)),
    };
    (start_us, end_us.max(start_us))
}

/// The span that stands for the process: up from here until a call came in.
fn home_of<'s>(span: &'s Posted, by_id: &HashMap<&str, &'s Posted>) -> &'s str {
    let mut home = span;
    // Rings occur; the number of spans bounds the walk.
    for _ in 0..by_id.len() {
        match by_id.get(home.parent_span_id.as_str()) {
            Some(parent) if !matches!(home.kind, 2 | 5) => home = parent,
            _ => break,
        }
    }
    &home.span_id
}

fn process(instance_id: u64) -> Process {
    Process {
        id: 1000 + instance_id % 30_000,
        name: format!("proc-{instance_id}"),
        group: String::new(),
        ip: format!("10.1.{}.{}", (instance_id >> 8) & 0xff, instance_id & 0xff),
        subnet: "default".to_owned(),
    }
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
