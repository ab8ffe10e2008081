//! One row of an answer as DeepFlow writes it, and the found span it stands for (DeepFlow contract, section 3).

use std::borrow::Cow;

use serde::{
    Deserialize,
    de::{IntoDeserializer, value},
};
use serde_json::Result;

use super::{json::Json, texts::Texts};
use crate::trace::{Exchange, FoundSpan, ObservationPoint, ResponseStatus, SpanId, Text};

/// `signal_source` of spans that came to DeepFlow by OTLP, or were posted by us.
const OTEL: u64 = 4;
/// `signal_source` of eBPF rows.
const EBPF: u64 = 3;

/// One item of `DATA.tracing`, beside the span it may become.
#[derive(Debug, Default)]
pub(super) struct Row<'a> {
    /// An application span: one that was posted, or DeepFlow's own copy of one. Then its span id and the names are all
    /// that was read of it.
    pub(super) is_app: bool,
    /// What other rows of the same answer call this one.
    pub(super) name: Cow<'a, str>,
    /// What the row that this one hangs below is called; empty for a root.
    pub(super) parent_name: Cow<'a, str>,
    /// Of an application span: its id, if it is one in OTLP's sense.
    pub(super) span_id: Option<SpanId>,
    ids: RowIds,
    pub(super) signal_source: Option<u64>,
}

/// The fields that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
pub(super) enum Field {
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

impl Field {
    pub(super) fn named(name: &str) -> Self {
        let name: value::StrDeserializer<'_, value::Error> = name.into_deserializer();
        Self::deserialize(name).unwrap_or(Self::Other)
    }

    /// Is read of each row: it is what the row is, or [`Row::complete`] may change it.
    pub(super) fn is_own(self) -> bool {
        matches!(
            self,
            Self::Ids
                | Self::DeepflowSpanId
                | Self::DeepflowParentSpanId
                | Self::StartTimeUs
                | Self::EndTimeUs
        )
    }
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

    fn read(json: &mut Json<'_>) -> Result<Self> {
        let mut ids = Self::default();
        if !json.enters_list() {
            return json.skip().map(|()| ids);
        }
        while json.has_item()? {
            ids.take(json.number()?.filter(|&id| id != 0));
        }
        Ok(ids)
    }
}

impl<'a> Row<'a> {
    /// Reads the value of a field.
    #[inline]
    pub(super) fn read(
        &mut self,
        field: Field,
        json: &mut Json<'a>,
        texts: &mut Texts,
        span: &mut FoundSpan,
    ) -> Result<()> {
        if self.is_app {
            self.read_app(field, json)
        } else {
            self.read_field(field, json, texts, span)
        }
    }

    fn read_field(
        &mut self,
        field: Field,
        json: &mut Json<'a>,
        texts: &mut Texts,
        span: &mut FoundSpan,
    ) -> Result<()> {
        match field {
            Field::Ids => self.ids = RowIds::read(json)?,
            Field::Region => span.region = text(json, texts)?,
            Field::DeepflowSpanId => self.name = json.words()?,
            Field::DeepflowParentSpanId => self.parent_name = json.words()?,
            Field::SignalSource => {
                self.signal_source = json.number()?;
                self.is_app |= self.signal_source == Some(OTEL);
            }
            // v6.3 has no `signal_source`; its observation point tells as well.
            Field::TapSide => {
                span.point_name = text(json, texts)?;
                self.is_app |= matches!(span.point_name.as_str(), "app" | "c-app" | "s-app");
            }
            Field::Type => span.exchange = json.number()?.map_or(Exchange::Session, exchange),
            Field::StartTimeUs => span.start_us = number_or_zero(json)?,
            Field::EndTimeUs => span.end_us = number_or_zero(json)?,
            Field::SpanId => {
                let words = json.words()?;
                self.span_id = words.parse().ok();
                span.span_id = self.span_id;
                // A header may hold an id of another tracer, or a short one: no OTLP id, but still common to a
                // request's rows.
                let is_foreign = span.span_id.is_none() && words.bytes().any(|byte| byte != b'0');
                span.foreign_span_id = texts.shared(if is_foreign { &words } else { "" });
            }
            Field::XRequestId0 => span.x_request_ids[0] = text(json, texts)?,
            Field::XRequestId1 => span.x_request_ids[1] = text(json, texts)?,
            Field::ReqTcpSeq => span.tcp_seqs[0] = number_or_zero(json)?,
            Field::RespTcpSeq => span.tcp_seqs[1] = number_or_zero(json)?,
            Field::SyscallTraceIdRequest => span.syscall_ids[0] = number_or_zero(json)?,
            Field::SyscallTraceIdResponse => span.syscall_ids[1] = number_or_zero(json)?,
            Field::VtapId => span.agent_id = number_or_zero(json)?,
            Field::FlowId => span.flow_id = number_or_zero(json)?,
            Field::Protocol => {
                let protocol = number_or_zero(json)?;
                span.protocol = u16::try_from(protocol).unwrap_or(0);
            }
            Field::ProtocolStr => span.protocol_name = text(json, texts)?,
            Field::RequestType => span.request_type = text(json, texts)?,
            Field::RequestResource => span.request_resource = text(json, texts)?,
            Field::Endpoint => span.endpoint = text(json, texts)?,
            Field::RequestId => span.request_id = json.number()?,
            Field::ResponseStatus => {
                span.status = json.number()?.map_or(ResponseStatus::Unknown, response_status);
            }
            Field::ResponseCode => span.response_code = json.number()?,
            Field::ResponseException => span.response_exception = text(json, texts)?,
            Field::ProcessId => span.process_id = number_or_zero(json)?,
            Field::ProcessKname => span.process_name = text(json, texts)?,
            Field::Ip => span.ip = text(json, texts)?,
            Field::AutoService => span.service = text(json, texts)?,
            Field::AutoServiceType => span.service_type = number_or_zero(json)?,
            Field::AutoInstanceId => span.instance_id = number_or_zero(json)?,
            Field::Gprocess => span.process_group = text(json, texts)?,
            Field::Subnet => span.subnet = text(json, texts)?,
            Field::Tap => span.capture = text(json, texts)?,
            Field::IsTls => span.is_tls = flag(json)?,
            Field::IsAsync => span.is_async = flag(json)?,
            Field::Other => json.skip()?,
        }
        Ok(())
    }

    /// Reads a field of what is known to be an application span, which is ours and goes its own way.
    fn read_app(&mut self, field: Field, json: &mut Json<'a>) -> Result<()> {
        match field {
            Field::SpanId => self.span_id = json.words()?.parse().ok(),
            Field::DeepflowSpanId => self.name = json.words()?,
            Field::DeepflowParentSpanId => self.parent_name = json.words()?,
            _ => json.skip()?,
        }
        Ok(())
    }

    /// Completes the span that was read; its parent and clock correction are told by the rest of the answer.
    /// `None` when the row has no id to make a stable span id from.
    pub(super) fn complete(&mut self, span: &mut FoundSpan) -> Option<()> {
        span.row = self.ids.first?;
        span.merged_rows = std::mem::take(&mut self.ids.merged);
        span.point = point(&span.point_name);
        span.is_ebpf =
            self.signal_source.map_or_else(|| span.point.is_process(), |source| source == EBPF);
        // A row without one of its times takes the other for both, rather than 1970.
        if span.start_us == 0 {
            span.start_us = span.end_us;
        }
        span.end_us = span.end_us.max(span.start_us);
        Some(())
    }
}

fn text(json: &mut Json<'_>, texts: &mut Texts) -> Result<Text> {
    Ok(match json.words()? {
        Cow::Borrowed(words) => texts.shared(words),
        Cow::Owned(words) => texts.shared(&words),
    })
}

/// 0 is DeepFlow's own word for "none".
fn number_or_zero(json: &mut Json<'_>) -> Result<u64> {
    json.number().map(Option::unwrap_or_default)
}

fn flag(json: &mut Json<'_>) -> Result<Option<bool>> {
    json.number::<u8>().map(|number| number.map(|flag| flag != 0))
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
