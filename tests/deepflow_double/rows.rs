//! Turns the rows of a recorded answer back into what the agents wrote.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole numbers that the recordings write as floats"
)]

use serde_json::Value;
use tracestitch::{
    demo::deepflow::{Process, Row, Signal},
    trace::Exchange,
};

/// All rows of a recorded answer; posted spans are none.
pub(crate) fn of(recorded: &Value) -> Vec<Row> {
    let spans = recorded["body"]["DATA"]["tracing"].as_array().into_iter().flatten();
    spans.filter(|span| span["_querier_region"] != "").flat_map(written).collect()
}

/// A span of two ids was a request row and a response row.
fn written(span: &Value) -> Vec<Row> {
    let ids: Vec<u64> = span["_ids"].as_array().into_iter().flatten().map(number).collect();
    let whole = row(span, ids[0]);
    if ids.len() == 1 {
        return vec![whole];
    }
    let request = Row {
        exchange: Exchange::Request,
        end_us: whole.start_us,
        response_code: None,
        tcp_seqs: [whole.tcp_seqs[0], 0],
        syscall_ids: [whole.syscall_ids[0], 0],
        capture_seqs: [whole.capture_seqs[0], 0],
        ..whole.clone()
    };
    let response = Row {
        id: ids[1],
        exchange: Exchange::Response,
        start_us: whole.end_us,
        response_status: 0,
        tcp_seqs: [0, whole.tcp_seqs[1]],
        syscall_ids: [0, whole.syscall_ids[1]],
        capture_seqs: [0, whole.capture_seqs[1]],
        ..whole
    };
    vec![request, response]
}

fn row(span: &Value, id: u64) -> Row {
    Row {
        id,
        signal: match number(&span["signal_source"]) {
            0 => Signal::Packet,
            3 => Signal::Ebpf,
            _ => Signal::Otel,
        },
        exchange: match number(&span["type"]) {
            0 => Exchange::Request,
            1 => Exchange::Response,
            _ => Exchange::Session,
        },
        start_us: time_us(&span["start_time_us"]),
        end_us: time_us(&span["end_time_us"]),
        point: text(&span["tap_side"]).into(),
        protocol: u16::try_from(number(&span["l7_protocol"])).unwrap_or_default(),
        protocol_name: text(&span["l7_protocol_str"]).into(),
        endpoint: text(&span["endpoint"]),
        request_type: text(&span["request_type"]),
        request_resource: text(&span["request_resource"]),
        response_status: u8::try_from(number(&span["response_status"])).unwrap_or_default(),
        response_exception: text(&span["response_exception"]),
        response_code: span["response_code"].as_f64().map(|code| code as i64),
        flow_id: number(&span["flow_id"]),
        request_id: span["request_id"].as_f64().map(|id| id as u64),
        x_request_ids: [text(&span["x_request_id_0"]), text(&span["x_request_id_1"])],
        trace_id: text(&span["trace_id"]),
        span_id: text(&span["span_id"]),
        parent_span_id: text(&span["parent_span_id"]),
        tcp_seqs: [number(&span["req_tcp_seq"]), number(&span["resp_tcp_seq"])],
        syscall_ids: [
            number(&span["syscall_trace_id_request"]),
            number(&span["syscall_trace_id_response"]),
        ],
        capture_seqs: [number(&span["syscall_cap_seq_0"]), number(&span["syscall_cap_seq_1"])],
        agent_id: number(&span["vtap_id"]),
        process: span["process_id"].as_u64().map(|id| Process {
            id,
            name: text(&span["process_kname"]),
            group: text(&span["gprocess"]),
            ip: text(&span["ip"]),
            subnet: text(&span["subnet"]),
        }),
        app_service: text(&span["app_service"]),
        app_instance: text(&span["app_instance"]),
        instance_id: number(&span["auto_instance_id"]),
        instance_type: number(&span["auto_instance_type"]),
        service: text(&span["auto_service"]),
        service_id: number(&span["auto_service_id"]),
        service_type: number(&span["auto_service_type"]),
        capture_id: number(&span["tap_id"]),
        capture: text(&span["tap"]).into(),
        region: text(&span["_querier_region"]).into(),
        is_tls: span["is_tls"] == 1.0,
        is_async: span["is_async"] == 1.0,
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Written as a number or as a text.
fn number(value: &Value) -> u64 {
    let text = || value.as_str().and_then(|text| text.parse().ok());
    value.as_u64().or_else(text).unwrap_or_default()
}

fn time_us(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}
