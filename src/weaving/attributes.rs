//! A found span as an OTLP span, written as protobuf straight away.

use opentelemetry_proto::tonic::trace::v1::{span, status};

use super::{
    Masking, SystemKind, Texts,
    masking::Mask,
    protocol::{describe, request_type},
};
use crate::{
    trace::{Exchange, FoundSpan, ObservationPoint, ResponseStatus, SpanId, TraceId},
    wire::{
        attributes::{Attributes, put_text},
        field::{put_delimited_head, put_varint},
    },
};

/// Where a span hangs, and what it takes from there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place<'a> {
    pub(super) parent: Option<SpanId>,
    /// The low 8 bits of the `flags` of the span it hangs below.
    pub(super) flags: u32,
    /// The `trace_state` of the span it hangs below.
    pub(super) trace_state: &'a str,
}

/// Field numbers of a `Span`.
mod field_of {
    pub(super) const TRACE_ID: u8 = 1;
    pub(super) const SPAN_ID: u8 = 2;
    pub(super) const TRACE_STATE: u8 = 3;
    pub(super) const PARENT_SPAN_ID: u8 = 4;
    pub(super) const NAME: u8 = 5;
    pub(super) const KIND: u8 = 6;
    pub(super) const START_TIME: u8 = 7;
    pub(super) const END_TIME: u8 = 8;
    pub(super) const ATTRIBUTES: u8 = 9;
    pub(super) const STATUS: u8 = 15;
    /// Of `Status`.
    pub(super) const CODE: u8 = 3;
}

/// Key of the field `flags` (16), a fixed32: the only one whose key takes two bytes.
const FLAGS_KEY: [u8; 2] = [0x85, 0x01];
/// Room for most spans.
const SPAN_BYTES: usize = 1024;
/// Wire types in keys of one byte.
const FIXED64: u8 = 1;

/// Writes spans of one trace, one after the other in the same memory.
#[derive(Debug)]
pub(super) struct SpanWriter<'a> {
    trace_id: TraceId,
    /// The answer was cut.
    truncated: bool,
    /// Kinds for process spans and for network spans.
    kinds: (SystemKind, SystemKind),
    mask: Mask<'a>,
    attributes: Attributes,
    span: Vec<u8>,
}

impl<'a> SpanWriter<'a> {
    pub(super) fn new(
        trace_id: TraceId,
        truncated: bool,
        kinds: (SystemKind, SystemKind),
        masking: &'a Masking,
    ) -> Self {
        let attributes = Attributes::new(field_of::ATTRIBUTES);
        let mask = Mask::new(masking);
        Self { trace_id, truncated, kinds, mask, attributes, span: Vec::with_capacity(SPAN_BYTES) }
    }

    /// What became of texts so far that may hold people's data.
    pub(super) fn texts(&self) -> Texts {
        self.mask.texts
    }

    /// The span's message.
    pub(super) fn write(&mut self, id: SpanId, place: Place<'_>, found: &FoundSpan) -> &[u8] {
        self.attributes.clear();
        let description = describe(found, &mut self.mask, &mut self.attributes);
        let error = description.error.as_deref();
        self.more_attributes(found, error);
        let out = &mut self.span;
        out.clear();
        put_id(out, field_of::TRACE_ID, &self.trace_id.to_wire());
        put_id(out, field_of::SPAN_ID, &id.to_wire());
        if !place.trace_state.is_empty() {
            put_text(out, field_of::TRACE_STATE, place.trace_state);
        }
        if let Some(parent) = place.parent {
            put_id(out, field_of::PARENT_SPAN_ID, &parent.to_wire());
        }
        put_text(out, field_of::NAME, &description.name);
        put_enum(out, field_of::KIND, kind(found.point, self.kinds).into());
        put_time(out, field_of::START_TIME, found.start_us);
        put_time(out, field_of::END_TIME, found.end_us.max(found.start_us));
        out.extend_from_slice(self.attributes.bytes());
        if error.is_some() {
            put_delimited_head(out, field_of::STATUS, 2);
            put_enum(out, field_of::CODE, status::StatusCode::Error.into());
        }
        let flags = place.flags & 0xff;
        if flags != 0 {
            out.extend(FLAGS_KEY);
            out.extend(flags.to_le_bytes());
        }
        out
    }

    fn more_attributes(&mut self, found: &FoundSpan, error: Option<&str>) {
        let out = &mut self.attributes;
        if found.tcp_seqs.first() != Some(&0) {
            out.text("network.transport", "tcp");
        }
        if found.point.is_process() {
            out.some_text("network.local.address", &found.ip);
        }
        out.some_text("error.type", error.unwrap_or_default());
        own(found, out);
        if found.exchange == Exchange::Request {
            out.flag("tracestitch.response.observed", false);
        }
        if self.truncated {
            out.flag("deepflow.truncated", true);
        }
    }
}

fn put_id(out: &mut Vec<u8>, number: u8, id: &[u8]) {
    put_delimited_head(out, number, id.len());
    out.extend_from_slice(id);
}

fn put_enum(out: &mut Vec<u8>, number: u8, value: i32) {
    out.push(number << 3);
    put_varint(out, usize::try_from(value).unwrap_or(0));
}

fn put_time(out: &mut Vec<u8>, number: u8, us: u64) {
    out.push(number << 3 | FIXED64);
    out.extend(us.saturating_mul(1000).to_le_bytes());
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
fn own(found: &FoundSpan, out: &mut Attributes) {
    out.text("deepflow.signal_source", if found.is_ebpf { "ebpf" } else { "packet" });
    out.some_text("deepflow.tap_side", &found.point_name);
    out.text("deepflow.observation_point", point_words(found.point));
    out.some_text("deepflow.l7_protocol", &found.protocol_name);
    out.some_text("deepflow.request_type", request_type(found));
    out.text("deepflow.response_status", status_word(found.status));
    out.some_text("deepflow.auto_service", &found.service);
    out.some_text("deepflow.gprocess", &found.process_group);
    out.some_text("deepflow.process_kname", &found.process_name);
    out.some_text("deepflow.subnet", &found.subnet);
    out.some_text("deepflow.tap", &found.capture);
    out.some_text("deepflow.region", &found.region);
    let [request, response] = &found.x_request_ids;
    out.some_text("deepflow.x_request_id_0", request);
    out.some_text("deepflow.x_request_id_1", response);
    own_numbers(found, out);
    if found.merged_rows.is_empty() {
        out.texts("deepflow.ids", &[found.row.to_string()]);
    } else {
        let rows = std::iter::once(found.row).chain(found.merged_rows.iter().copied());
        out.texts("deepflow.ids", &rows.map(|row| row.to_string()).collect::<Vec<_>>());
    }
    if found.clock_correction_us != 0 {
        out.number("deepflow.clock_correction_us", found.clock_correction_us);
    }
    for (key, flag) in [("deepflow.is_tls", found.is_tls), ("deepflow.is_async", found.is_async)] {
        if let Some(flag) = flag {
            out.flag(key, flag);
        }
    }
}

fn own_numbers(found: &FoundSpan, out: &mut Attributes) {
    let mut number = |key: &str, value: u64| match i64::try_from(value) {
        Ok(0) => {}
        Ok(value) => out.number(key, value),
        // Ids of 64 bits: OTLP's integers are signed.
        Err(_) => out.text(key, &value.to_string()),
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
