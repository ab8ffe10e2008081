//! One row of an answer as DeepFlow writes it, and the found span it stands for (DeepFlow contract, section 3).

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    lenient::{Items, List, Number, Words, nothing, skip_list},
    texts::Texts,
};
use crate::trace::{Exchange, FoundSpan, ObservationPoint, ResponseStatus, SpanId, Text};

/// `signal_source` of spans that came to DeepFlow by OTLP, or were posted by us.
const OTEL: u64 = 4;
/// `signal_source` of eBPF rows.
const EBPF: u64 = 3;

/// One item of `DATA.tracing`, read straight into the span it may become.
#[derive(Debug, Default)]
pub(super) struct Row<'a> {
    /// An application span: one that was posted, or DeepFlow's own copy of one. Then its span id and the names are all
    /// that was read of it.
    pub(super) is_app: bool,
    /// What other rows of the same answer call this one.
    pub(super) name: Cow<'a, str>,
    /// What the row that this one hangs below is called; empty for a root.
    pub(super) parent_name: Cow<'a, str>,
    ids: RowIds,
    signal_source: Option<u64>,
    /// Not yet complete, see [`Row::take_span`].
    span: FoundSpan,
}

/// The fields that are read.
#[derive(Clone, Copy, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    #[serde(rename = "_ids")]
    Ids,
    #[serde(rename = "_querier_region")]
    Region,
    DeepflowSpanId,
    DeepflowParentSpanId,
    SignalSource,
    TapSide,
    Type,
    StartTimeUs,
    EndTimeUs,
    SpanId,
    #[serde(rename = "x_request_id_0")]
    XRequestId0,
    #[serde(rename = "x_request_id_1")]
    XRequestId1,
    ReqTcpSeq,
    RespTcpSeq,
    SyscallTraceIdRequest,
    SyscallTraceIdResponse,
    VtapId,
    FlowId,
    #[serde(rename = "l7_protocol")]
    Protocol,
    #[serde(rename = "l7_protocol_str")]
    ProtocolStr,
    RequestType,
    RequestResource,
    Endpoint,
    RequestId,
    ResponseStatus,
    ResponseCode,
    ResponseException,
    ProcessId,
    ProcessKname,
    Ip,
    AutoService,
    AutoServiceType,
    AutoInstanceId,
    Gprocess,
    Subnet,
    Tap,
    IsTls,
    IsAsync,
    #[serde(other)]
    Other,
}

/// The fields that are read of an application span.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum AppField {
    SpanId,
    DeepflowSpanId,
    DeepflowParentSpanId,
    #[serde(other)]
    Other,
}

/// The ids of a row and of those merged into it.
#[derive(Debug, Default)]
struct RowIds {
    first: Option<u64>,
    merged: Vec<u64>,
    count: usize,
}

impl RowIds {
    /// Rows are merged by twos and threes.
    const MAX: usize = 100;

    fn take(&mut self, id: Option<u64>) {
        match self.count {
            0 => self.first = id,
            1..Self::MAX => self.merged.extend(id),
            _ => return,
        }
        self.count += 1;
    }
}

impl<'de> Items<'de> for RowIds {
    fn read<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(Number(id)) = list.next_element::<Number<u64>>()? {
            self.take(id.filter(|&id| id != 0));
        }
        Ok(())
    }
}

/// Reads a value into a [`Row`]; anything but an object leaves it as it is.
pub(super) struct Into<'r, 'a> {
    pub(super) row: &'r mut Row<'a>,
    pub(super) texts: &'r mut Texts,
}

impl<'de: 'a, 'a> DeserializeSeed<'de> for Into<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de: 'a, 'a> Visitor<'de> for Into<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    nothing!();
    nothing!(list);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key()? {
            self.row.read(field, &mut map, self.texts)?;
            if self.row.is_app {
                return self.row.read_app(map);
            }
        }
        Ok(())
    }
}

impl<'a> Row<'a> {
    fn read<'de: 'a, A: MapAccess<'de>>(
        &mut self,
        field: Field,
        map: &mut A,
        texts: &mut Texts,
    ) -> Result<(), A::Error> {
        let span = &mut self.span;
        match field {
            Field::Ids => self.ids = map.next_value::<List<_>>()?.0,
            Field::Region => span.region = text(map, texts)?,
            Field::DeepflowSpanId => self.name = words(map)?,
            Field::DeepflowParentSpanId => self.parent_name = words(map)?,
            Field::SignalSource => {
                self.signal_source = number(map)?;
                self.is_app |= self.signal_source == Some(OTEL);
            }
            // v6.3 has no `signal_source`; its observation point tells as well.
            Field::TapSide => {
                span.point_name = text(map, texts)?;
                self.is_app |= matches!(span.point_name.as_str(), "app" | "c-app" | "s-app");
            }
            Field::Type => span.exchange = number(map)?.map_or(Exchange::Session, exchange),
            Field::StartTimeUs => span.start_us = number_or_zero(map)?,
            Field::EndTimeUs => span.end_us = number_or_zero(map)?,
            Field::SpanId => {
                let words = words(map)?;
                span.span_id = words.parse().ok();
                // A header may hold an id of another tracer, or a short one: no OTLP id, but still common to a
                // request's rows.
                let is_foreign = span.span_id.is_none() && words.bytes().any(|byte| byte != b'0');
                span.foreign_span_id = texts.shared(if is_foreign { &words } else { "" });
            }
            Field::XRequestId0 => span.x_request_ids[0] = text(map, texts)?,
            Field::XRequestId1 => span.x_request_ids[1] = text(map, texts)?,
            Field::ReqTcpSeq => span.tcp_seqs[0] = number_or_zero(map)?,
            Field::RespTcpSeq => span.tcp_seqs[1] = number_or_zero(map)?,
            Field::SyscallTraceIdRequest => span.syscall_ids[0] = number_or_zero(map)?,
            Field::SyscallTraceIdResponse => span.syscall_ids[1] = number_or_zero(map)?,
            Field::VtapId => span.agent_id = number_or_zero(map)?,
            Field::FlowId => span.flow_id = number_or_zero(map)?,
            Field::Protocol => {
                let protocol = number_or_zero(map)?;
                span.protocol = u16::try_from(protocol).unwrap_or(0);
            }
            Field::ProtocolStr => span.protocol_name = text(map, texts)?,
            Field::RequestType => span.request_type = text(map, texts)?,
            Field::RequestResource => span.request_resource = text(map, texts)?,
            Field::Endpoint => span.endpoint = text(map, texts)?,
            Field::RequestId => span.request_id = number(map)?,
            Field::ResponseStatus => {
                span.status = number(map)?.map_or(ResponseStatus::Unknown, response_status);
            }
            Field::ResponseCode => span.response_code = map.next_value::<Number<i64>>()?.0,
            Field::ResponseException => span.response_exception = text(map, texts)?,
            Field::ProcessId => span.process_id = number_or_zero(map)?,
            Field::ProcessKname => span.process_name = text(map, texts)?,
            Field::Ip => span.ip = text(map, texts)?,
            Field::AutoService => span.service = text(map, texts)?,
            Field::AutoServiceType => span.service_type = number_or_zero(map)?,
            Field::AutoInstanceId => span.instance_id = number_or_zero(map)?,
            Field::Gprocess => span.process_group = text(map, texts)?,
            Field::Subnet => span.subnet = text(map, texts)?,
            Field::Tap => span.capture = text(map, texts)?,
            Field::IsTls => span.is_tls = flag(map)?,
            Field::IsAsync => span.is_async = flag(map)?,
            Field::Other => skip(map)?,
        }
        Ok(())
    }

    /// Reads the rest of an application span, which is ours and goes its own way.
    fn read_app<'de: 'a, A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key()? {
            match field {
                AppField::SpanId => self.span.span_id = words(&mut map)?.parse().ok(),
                AppField::DeepflowSpanId => self.name = words(&mut map)?,
                AppField::DeepflowParentSpanId => self.parent_name = words(&mut map)?,
                AppField::Other => skip(&mut map)?,
            }
        }
        Ok(())
    }

    /// The span id, if it is one in OTLP's sense.
    pub(super) fn span_id(&self) -> Option<SpanId> {
        self.span.span_id
    }

    /// The found span; its parent and clock correction are told by the rest of the answer.
    /// `None` when the row has no id to make a stable span id from.
    pub(super) fn take_span(&mut self) -> Option<FoundSpan> {
        let row = self.ids.first?;
        let mut span = std::mem::take(&mut self.span);
        span.row = row;
        span.merged_rows = std::mem::take(&mut self.ids.merged);
        span.point = point(&span.point_name);
        span.is_ebpf =
            self.signal_source.map_or_else(|| span.point.is_process(), |source| source == EBPF);
        // A row without one of its times takes the other for both, rather than 1970.
        if span.start_us == 0 {
            span.start_us = span.end_us;
        }
        span.end_us = span.end_us.max(span.start_us);
        Some(span)
    }
}

fn words<'a, A: MapAccess<'a>>(map: &mut A) -> Result<Cow<'a, str>, A::Error> {
    map.next_value::<Words<'_>>().map(|words| words.0)
}

fn text<'a, A: MapAccess<'a>>(map: &mut A, texts: &mut Texts) -> Result<Text, A::Error> {
    words(map).map(|words| texts.shared(&words))
}

fn number<'a, A: MapAccess<'a>>(map: &mut A) -> Result<Option<u64>, A::Error> {
    map.next_value::<Number<u64>>().map(|number| number.0)
}

/// 0 is DeepFlow's own word for "none".
fn number_or_zero<'a, A: MapAccess<'a>>(map: &mut A) -> Result<u64, A::Error> {
    number(map).map(Option::unwrap_or_default)
}

fn flag<'a, A: MapAccess<'a>>(map: &mut A) -> Result<Option<bool>, A::Error> {
    map.next_value::<Number<u8>>().map(|number| number.0.map(|flag| flag != 0))
}

fn skip<'a, A: MapAccess<'a>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

fn exchange(number: u64) -> Exchange {
    match number {
        0 => Exchange::Request,
        1 => Exchange::Response,
        _ => Exchange::Session,
    }
}

fn response_status(number: u64) -> ResponseStatus {
    match number {
        0 => ResponseStatus::Success,
        1 => ResponseStatus::Error,
        2 => ResponseStatus::Timeout,
        3 => ResponseStatus::ServerError,
        4 => ResponseStatus::ClientError,
        _ => ResponseStatus::Unknown,
    }
}

/// The observation point behind DeepFlow's short name (DeepFlow contract, section 5).
fn point(name: &str) -> ObservationPoint {
    match name {
        "c-p" => ObservationPoint::ClientProcess,
        "c" => ObservationPoint::ClientNic,
        "c-nd" => ObservationPoint::ClientNode,
        "c-hv" => ObservationPoint::ClientHypervisor,
        "c-gw-hv" => ObservationPoint::ClientGatewayHypervisor,
        "c-gw" => ObservationPoint::ClientGateway,
        "s-gw" => ObservationPoint::ServerGateway,
        "s-gw-hv" => ObservationPoint::ServerGatewayHypervisor,
        "s-hv" => ObservationPoint::ServerHypervisor,
        "s-nd" => ObservationPoint::ServerNode,
        "s" => ObservationPoint::ServerNic,
        "s-p" => ObservationPoint::ServerProcess,
        "local" => ObservationPoint::Local,
        _ => ObservationPoint::Rest,
    }
}
