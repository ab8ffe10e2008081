//! A found span as an OTLP span, written as protobuf straight away.

use std::iter;

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
/// What the fields `status` and `flags` take.
const STATUS_BYTES: usize = 4;
const FLAGS_BYTES: usize = 6;
/// Room for what stands before most spans' attributes.
const FRONT_BYTES: usize = 256;
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
    /// What stands before them.
    front: Vec<u8>,
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
        let front = Vec::with_capacity(FRONT_BYTES);
        Self { trace_id, truncated, kinds, mask, attributes, front }
    }

    /// What became of texts so far that may hold people's data.
    pub(super) fn texts(&self) -> Texts {
        self.mask.texts
    }

    /// Appends the span as a field with this number.
    pub(super) fn put(
        &mut self,
        out: &mut Vec<u8>,
        number: u8,
        id: SpanId,
        place: Place<'_>,
        found: &FoundSpan,
    ) {
        self.attributes.clear();
        let description = describe(found, &mut self.mask, &mut self.attributes);
        let error = description.error.as_deref();
        self.more_attributes(found, error);
        self.put_front(id, place, found, &description.name);
        let flags = place.flags & 0xff;
        let status_len = if error.is_some() { STATUS_BYTES } else { 0 };
        let flags_len = if flags == 0 { 0 } else { FLAGS_BYTES };
        let attributes = self.attributes.bytes();
        let len = self.front.len() + attributes.len() + status_len + flags_len;
        put_delimited_head(out, number, len);
        out.extend_from_slice(&self.front);
        out.extend_from_slice(attributes);
        if error.is_some() {
            put_delimited_head(out, field_of::STATUS, 2);
            put_enum(out, field_of::CODE, status::StatusCode::Error.into());
        }
        if flags != 0 {
            out.extend_from_slice(&FLAGS_KEY);
            out.extend_from_slice(&flags.to_le_bytes());
        }
    }

    /// What stands before the attributes.
    fn put_front(&mut self, id: SpanId, place: Place<'_>, found: &FoundSpan, name: &str) {
        let out = &mut self.front;
        out.clear();
        put_id(out, field_of::TRACE_ID, &self.trace_id.to_wire());
        put_id(out, field_of::SPAN_ID, &id.to_wire());
        if !place.trace_state.is_empty() {
            put_text(out, field_of::TRACE_STATE, place.trace_state);
        }
        if let Some(parent) = place.parent {
            put_id(out, field_of::PARENT_SPAN_ID, &parent.to_wire());
        }
        put_text(out, field_of::NAME, name);
        put_enum(out, field_of::KIND, kind(found.point, self.kinds).into());
        put_time(out, field_of::START_TIME, found.start_us);
        put_time(out, field_of::END_TIME, found.end_us.max(found.start_us));
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

#[inline]
fn put_id<const LEN: usize>(out: &mut Vec<u8>, number: u8, id: &[u8; LEN]) {
    put_delimited_head(out, number, id.len());
    out.extend_from_slice(id);
}

fn put_enum(out: &mut Vec<u8>, number: u8, value: i32) {
    out.push(number << 3);
    put_varint(out, usize::try_from(value).unwrap_or(0));
}

fn put_time(out: &mut Vec<u8>, number: u8, us: u64) {
    out.push(number << 3 | FIXED64);
    out.extend_from_slice(&us.saturating_mul(1000).to_le_bytes());
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
    let mut row = itoa::Buffer::new();
    let row = row.format(found.row);
    if found.merged_rows.is_empty() {
        out.texts("deepflow.ids", &[row]);
    } else {
        let rows = found.merged_rows.iter().map(u64::to_string);
        out.texts("deepflow.ids", &iter::once(row.to_owned()).chain(rows).collect::<Vec<_>>());
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
    some_number(out, "deepflow.auto_service_type", found.service_type);
    some_number(out, "deepflow.auto_instance_id", found.instance_id);
    some_number(out, "deepflow.vtap_id", found.agent_id);
    some_number(out, "deepflow.process_id", found.process_id);
    some_number(out, "deepflow.flow_id", found.flow_id);
    some_number(out, "deepflow.request_id", found.request_id.unwrap_or(0));
    let [request, response] = found.tcp_seqs;
    some_number(out, "deepflow.req_tcp_seq", request);
    some_number(out, "deepflow.resp_tcp_seq", response);
    let [request, response] = found.syscall_ids;
    some_number(out, "deepflow.syscall_trace_id.request", request);
    some_number(out, "deepflow.syscall_trace_id.response", response);
}

/// Adds a number, unless it is 0.
#[allow(clippy::inline_always, reason = "so that the key's length is known")]
#[inline(always)]
fn some_number(out: &mut Attributes, key: &str, value: u64) {
    match i64::try_from(value) {
        Ok(0) => {}
        Ok(value) => out.number(key, value),
        // Ids of 64 bits: OTLP's integers are signed.
        Err(_) => out.text(key, itoa::Buffer::new().format(value)),
    }
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
