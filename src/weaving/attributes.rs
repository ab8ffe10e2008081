//! A found span as an OTLP span.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, any_value},
    trace::v1::{Span, Status, span, status},
};

use super::{
    SystemKind,
    protocol::{Value, describe, request_type},
};
use crate::trace::{Exchange, FoundSpan, ObservationPoint, ResponseStatus, SpanId, TraceId};

/// Where a span hangs, and what it takes from there.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub(super) parent: Option<SpanId>,
    /// The low 8 bits of the `flags` of the span it hangs below.
    pub(super) flags: u32,
    /// The `trace_state` of the span it hangs below.
    pub(super) trace_state: String,
}

/// Makes the span.
pub(super) fn span(
    trace_id: TraceId,
    id: SpanId,
    place: Place,
    found: &FoundSpan,
    truncated: bool,
    kinds: (SystemKind, SystemKind),
) -> Span {
    let description = describe(found);
    let mut attributes: Vec<KeyValue> =
        description.attributes.into_iter().map(|(key, value)| key_value(key, value)).collect();
    if found.tcp_seqs.first() != Some(&0) {
        attributes.push(key_value("network.transport", Value::Text("tcp".to_owned())));
    }
    if found.point.is_process() && !found.ip.is_empty() {
        attributes.push(key_value("network.local.address", Value::Text((&found.ip).into())));
    }
    if let Some(error) = &description.error {
        attributes.push(key_value("error.type", Value::Text(error.clone())));
    }
    attributes.extend(own(found));
    if found.exchange == Exchange::Request {
        attributes.push(key_value("tracestitch.response.observed", Value::Flag(false)));
    }
    if truncated {
        attributes.push(key_value("deepflow.truncated", Value::Flag(true)));
    }
    let status = description
        .error
        .map(|_| Status { code: status::StatusCode::Error.into(), message: String::new() });
    Span {
        trace_id: trace_id.to_wire().to_vec(),
        span_id: id.to_wire().to_vec(),
        parent_span_id: place.parent.map(|id| id.to_wire().to_vec()).unwrap_or_default(),
        trace_state: place.trace_state,
        flags: place.flags & 0xff,
        name: description.name,
        kind: kind(found.point, kinds).into(),
        start_time_unix_nano: found.start_us.saturating_mul(1000),
        end_time_unix_nano: found.end_us.max(found.start_us).saturating_mul(1000),
        attributes,
        status,
        ..Span::default()
    }
}

/// Kinds for process spans and for network spans.
fn kind(point: ObservationPoint, (system, network): (SystemKind, SystemKind)) -> span::SpanKind {
    let as_span = if point.is_process() { system } else { network };
    match as_span {
        SystemKind::Internal => span::SpanKind::Internal,
        SystemKind::Span if matches!(point, ObservationPoint::Local | ObservationPoint::Rest) => {
            span::SpanKind::Internal
        }
        SystemKind::Span if point.is_client_side() => span::SpanKind::Client,
        SystemKind::Span => span::SpanKind::Server,
    }
}

/// DeepFlow's own fields, under its own name.
fn own(found: &FoundSpan) -> Vec<KeyValue> {
    let mut out = Vec::with_capacity(24);
    let mut text = |key: &str, value: &str| {
        if !value.is_empty() {
            out.push(key_value(key, Value::Text(value.to_owned())));
        }
    };
    text("deepflow.signal_source", if found.is_ebpf { "ebpf" } else { "packet" });
    text("deepflow.tap_side", &found.point_name);
    text("deepflow.observation_point", point_words(found.point));
    text("deepflow.l7_protocol", &found.protocol_name);
    text("deepflow.request_type", request_type(found));
    text("deepflow.response_status", status_word(found.status));
    text("deepflow.auto_service", &found.service);
    text("deepflow.gprocess", &found.process_group);
    text("deepflow.process_kname", &found.process_name);
    text("deepflow.subnet", &found.subnet);
    text("deepflow.tap", &found.capture);
    text("deepflow.region", &found.region);
    let [request, response] = &found.x_request_ids;
    text("deepflow.x_request_id_0", request);
    text("deepflow.x_request_id_1", response);
    let mut number = |key: &str, value: u64| match i64::try_from(value) {
        Ok(0) => {}
        Ok(value) => out.push(key_value(key, Value::Number(value))),
        // Ids of 64 bits: OTLP's integers are signed.
        Err(_) => out.push(key_value(key, Value::Text(value.to_string()))),
    };
    number("deepflow.auto_service_type", found.service_type);
    number("deepflow.auto_instance_id", found.instance_id);
    number("deepflow.vtap_id", found.agent_id);
    number("deepflow.process_id", found.process_id);
    number("deepflow.flow_id", found.flow_id);
    number("deepflow.request_id", found.request_id.unwrap_or(0));
    let [request, response] = found.tcp_seqs;
    number("deepflow.req_tcp_seq", request);
    number("deepflow.resp_tcp_seq", response);
    let [request, response] = found.syscall_ids;
    number("deepflow.syscall_trace_id.request", request);
    number("deepflow.syscall_trace_id.response", response);
    let rows = std::iter::once(found.row).chain(found.merged_rows.iter().copied());
    let rows = rows.map(|row| row.to_string()).collect();
    out.push(key_value("deepflow.ids", Value::Texts(rows)));
    if found.clock_correction_us != 0 {
        let correction = Value::Number(found.clock_correction_us);
        out.push(key_value("deepflow.clock_correction_us", correction));
    }
    for (key, flag) in [("deepflow.is_tls", found.is_tls), ("deepflow.is_async", found.is_async)] {
        out.extend(flag.map(|flag| key_value(key, Value::Flag(flag))));
    }
    out
}

fn point_words(point: ObservationPoint) -> &'static str {
    match point {
        ObservationPoint::ClientProcess => "client process",
        ObservationPoint::ClientNic => "client nic",
        ObservationPoint::ClientNode => "client node",
        ObservationPoint::ClientHypervisor => "client hypervisor",
        ObservationPoint::ClientGatewayHypervisor => "client to gateway hypervisor",
        ObservationPoint::ClientGateway => "client to gateway",
        ObservationPoint::ServerGateway => "gateway to server",
        ObservationPoint::ServerGatewayHypervisor => "gateway hypervisor to server",
        ObservationPoint::ServerHypervisor => "server hypervisor",
        ObservationPoint::ServerNode => "server node",
        ObservationPoint::ServerNic => "server nic",
        ObservationPoint::ServerProcess => "server process",
        ObservationPoint::Local => "local nic",
        ObservationPoint::Rest => "other nic",
    }
}

fn status_word(status: ResponseStatus) -> &'static str {
    match status {
        ResponseStatus::Success => "success",
        ResponseStatus::Error => "error",
        ResponseStatus::Timeout => "timeout",
        ResponseStatus::ServerError => "server_error",
        ResponseStatus::ClientError => "client_error",
        ResponseStatus::Unknown => "unknown",
    }
}

/// An OTLP attribute.
pub(super) fn key_value(key: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text),
        Value::Number(number) => any_value::Value::IntValue(number),
        Value::Flag(flag) => any_value::Value::BoolValue(flag),
        Value::Texts(texts) => {
            let text = |text| AnyValue { value: Some(any_value::Value::StringValue(text)) };
            any_value::Value::ArrayValue(ArrayValue {
                values: texts.into_iter().map(text).collect(),
            })
        }
    };
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
