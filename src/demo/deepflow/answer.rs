//! [`Answer`]: what the service makes of an ask, down to the keys and the way numbers are written.

use std::collections::{BTreeMap, HashMap, HashSet};

use fastrand::Rng;
use serde::{Serialize, Serializer};

use super::{
    Row, Signal,
    joint::Ends,
    network::{self, NetworkSet},
    node::{APP, Forest, NETWORK, Node, SYSCALL, X_REQUEST},
    process::Processes,
    pruning::pruned,
    request::Request,
};

const TYPE: &str = "tracing-completion-by-external-app-spans";

/// The envelope of an answer that found something.
#[derive(Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Envelope<'a> {
    opt_status: &'a str,
    description: &'a str,
    data: Data<'a>,
    r#type: &'a str,
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    tracing: Vec<Span<'a>>,
    host_clock_correction: &'a BTreeMap<u64, i64>,
}

/// The body of a 200: posted spans and rows, hung below each other.
pub(super) fn body(request: &Request, rows: Vec<Row>, rng: &mut Rng) -> Vec<u8> {
    let columns = Columns::new(&rows);
    let posted: Vec<Row> =
        request.spans.iter().map(|span| span.to_row(rng.u64(1..1 << 48))).collect();
    let first = posted.first().map_or(0, |row| row.id);
    let mut forest = Forest::new(rows.into_iter().chain(posted).collect());

    let processes = Processes::unite(&mut forest);
    let networks = NetworkSet::unite(&mut forest, request.network_delay_us);
    Ends::new(processes.ends(&mut forest), &networks).join(&mut forest);

    let first = forest.nodes.iter().position(|node| node.ids[0] == first).unwrap_or(0);
    let order = pruned(&forest, forest.order(), first);
    let names = names(&forest, &network::span_ids(&networks), rng);
    let correction = forest.correction.settle();
    let kept: HashSet<usize> = order.iter().copied().collect();
    let scribe =
        Scribe { forest: &forest, names: &names, kept: &kept, correction: &correction, columns };
    let envelope = Envelope {
        opt_status: "SUCCESS",
        description: "",
        data: Data {
            tracing: order.iter().map(|&span| scribe.span(span)).collect(),
            host_clock_correction: &correction,
        },
        r#type: TYPE,
    };
    serde_json::to_vec(&envelope).expect("names, texts and numbers always serialise")
}

/// The columns in which some rows have a value and some have none: these hold floats, as pandas wants it.
#[derive(Debug, Clone, Copy)]
struct Columns {
    request_id: bool,
    response_code: bool,
}

impl Columns {
    fn new(rows: &[Row]) -> Self {
        let mixed =
            |is_some: fn(&Row) -> bool| rows.iter().any(is_some) && !rows.iter().all(is_some);
        Self {
            request_id: mixed(|row| row.request_id.is_some()),
            response_code: mixed(|row| row.response_code.is_some()),
        }
    }
}

/// `deepflow_span_id` of every span. Its random part and its index change from ask to ask.
fn names(forest: &Forest, chain_span_ids: &HashMap<usize, &str>, rng: &mut Rng) -> Vec<String> {
    let mut name = |(index, node): (usize, &Node)| {
        let row = &node.row;
        let id = match row.signal {
            Signal::Otel => return row.span_id.clone(),
            Signal::Ebpf if row.span_id.len() >= 16 => row.span_id.clone(),
            Signal::Ebpf => format!("0x{:x}", rng.u64(1..)),
            Signal::Packet => match chain_span_ids.get(&index) {
                Some(&id) if !id.is_empty() => id.to_owned(),
                _ => "None".to_owned(),
            },
        };
        format!("{id}.{}.{index}", row.point)
    };
    forest.nodes.iter().enumerate().map(&mut name).collect()
}

/// All that is needed to write a span.
struct Scribe<'a> {
    forest: &'a Forest,
    names: &'a [String],
    kept: &'a HashSet<usize>,
    correction: &'a BTreeMap<u64, i64>,
    columns: Columns,
}

impl<'a> Scribe<'a> {
    fn span(&self, index: usize) -> Span<'a> {
        let node = &self.forest.nodes[index];
        let row = &node.row;
        let held = (!row.is_posted()).then_some(());
        let process = row.process.as_ref();
        let correction_us = self.correction.get(&row.agent_id).copied().unwrap_or_default();
        Span {
            ids: node.ids.iter().map(u64::to_string).collect(),
            related_ids: self.related_ids(index),
            signal_source: row.signal.number(),
            exchange: row.exchange_number(),
            start_time_us: row.start_us,
            end_time_us: row.end_us,
            duration: row.duration_us(),
            tap_side: &row.point,
            l7_protocol: row.protocol,
            enum_l7_protocol: held.map(|()| &*row.protocol_name),
            l7_protocol_str: &row.protocol_name,
            endpoint: &row.endpoint,
            request_type: &row.request_type,
            request_resource: &row.request_resource,
            response_status: row.response_status,
            response_exception: &row.response_exception,
            biz_response_code: held.map(|()| ""),
            response_code: Number::new(row.response_code, self.columns.response_code),
            flow_id: row.flow_id.to_string(),
            request_id: Number::new(
                row.request_id.and_then(|id| id.try_into().ok()),
                self.columns.request_id,
            ),
            x_request_id_0: &row.x_request_ids[0],
            x_request_id_1: &row.x_request_ids[1],
            trace_id: &row.trace_id,
            span_id: &row.span_id,
            parent_span_id: &row.parent_span_id,
            req_tcp_seq: row.tcp_seqs[0],
            resp_tcp_seq: row.tcp_seqs[1],
            syscall_trace_id_request: row.syscall_ids[0].to_string(),
            syscall_trace_id_response: row.syscall_ids[1].to_string(),
            syscall_cap_seq_0: row.capture_seqs[0],
            syscall_cap_seq_1: row.capture_seqs[1],
            attribute: (),
            process_id: process.map(|process| process.id),
            vtap_id: row.agent_id,
            app_service: &row.app_service,
            app_instance: &row.app_instance,
            auto_instance_id: row.instance_id,
            auto_instance_type: row.instance_type,
            tap_id: row.capture_id,
            tap: &row.capture,
            querier_region: &row.region,
            is_tls: held.map(|()| f64::from(u8::from(row.is_tls))),
            is_async: held.map(|()| f64::from(u8::from(row.is_async))),
            subnet: process.map(|process| process.subnet.as_str()),
            ip: process.map(|process| process.ip.as_str()),
            auto_service: &row.service,
            auto_service_id: row.service_id,
            auto_service_type: row.service_type,
            process_kname: process.map(|process| process.name.as_str()),
            gprocess: process.map(|process| process.group.as_str()),
            deepflow_span_id: &self.names[index],
            deepflow_parent_span_id: node.parent.map_or("", |parent| &self.names[parent]),
            render_start_time_us: row.start_us.saturating_add(correction_us),
            render_end_time_us: row.end_us.saturating_add(correction_us),
        }
    }

    fn related_ids(&self, index: usize) -> Vec<String> {
        let relatives =
            self.forest.related[index].iter().filter(|(other, _)| self.kept.contains(other));
        let text = |(other, relations): &(usize, u8)| {
            format!("{other}-{}-{}", relation_names(*relations), self.forest.nodes[*other].ids[0])
        };
        relatives.map(text).collect()
    }
}

fn relation_names(relations: u8) -> String {
    let all = [(NETWORK, "network"), (X_REQUEST, "xrequestid"), (SYSCALL, "syscall"), (APP, "app")];
    let names = all.iter().filter(|(relation, _)| relations & relation != 0).map(|(_, name)| *name);
    names.collect::<Vec<_>>().join(",")
}

/// A number of a column that may hold none.
#[derive(Debug, Clone, Copy)]
enum Number {
    None,
    Whole(i64),
    Float(f64),
}

impl Number {
    #[expect(clippy::cast_precision_loss, reason = "the service loses it, too")]
    fn new(value: Option<i64>, is_float: bool) -> Self {
        match value {
            None => Self::None,
            Some(number) if is_float => Self::Float(number as f64),
            Some(number) => Self::Whole(number),
        }
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_unit(),
            Self::Whole(number) => serializer.serialize_i64(*number),
            Self::Float(number) => serializer.serialize_f64(*number),
        }
    }
}

/// A span of the answer; contract section 3.
#[derive(Debug, Serialize)]
struct Span<'a> {
    #[serde(rename = "_ids")]
    ids: Vec<String>,
    related_ids: Vec<String>,
    signal_source: u8,
    #[serde(rename = "type")]
    exchange: u8,
    start_time_us: i64,
    end_time_us: i64,
    duration: i64,
    tap_side: &'a str,
    l7_protocol: u16,
    #[serde(rename = "Enum(l7_protocol)")]
    enum_l7_protocol: Option<&'a str>,
    l7_protocol_str: &'a str,
    endpoint: &'a str,
    request_type: &'a str,
    request_resource: &'a str,
    response_status: u8,
    response_exception: &'a str,
    biz_response_code: Option<&'a str>,
    response_code: Number,
    flow_id: String,
    request_id: Number,
    x_request_id_0: &'a str,
    x_request_id_1: &'a str,
    trace_id: &'a str,
    span_id: &'a str,
    parent_span_id: &'a str,
    req_tcp_seq: u64,
    resp_tcp_seq: u64,
    syscall_trace_id_request: String,
    syscall_trace_id_response: String,
    syscall_cap_seq_0: u64,
    syscall_cap_seq_1: u64,
    attribute: (),
    process_id: Option<u64>,
    vtap_id: u64,
    app_service: &'a str,
    app_instance: &'a str,
    auto_instance_id: u64,
    auto_instance_type: u64,
    tap_id: u64,
    tap: &'a str,
    #[serde(rename = "_querier_region")]
    querier_region: &'a str,
    is_tls: Option<f64>,
    is_async: Option<f64>,
    subnet: Option<&'a str>,
    ip: Option<&'a str>,
    auto_service: &'a str,
    auto_service_id: u64,
    auto_service_type: u64,
    process_kname: Option<&'a str>,
    gprocess: Option<&'a str>,
    deepflow_span_id: &'a str,
    deepflow_parent_span_id: &'a str,
    render_start_time_us: i64,
    render_end_time_us: i64,
}
