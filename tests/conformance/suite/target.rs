//! [`Target`]: the endpoint that is asked.

use std::{any::Any, time::Duration};

use opentelemetry_proto::tonic::{
    common::v1::any_value::Value,
    trace::v1::{Span, Status},
};
use prost::Message as _;
use tracestitch::{clock, demo::backend::Backend};

use super::{Ended, Instead, fail, grpc_client::Grpc, http_client::Http};

/// The RECOMMENDED limit of a request.
pub(crate) const BYTES_MAX: usize = 64 * 1024 * 1024;

/// From the answer to a request until its spans are where they go; Collectors gather for a while.
const DELIVERY: Duration = Duration::from_secs(15);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Makes it refuse for as long as what it gives is held.
type Overload = Box<dyn Fn() -> Box<dyn Any + Send> + Send + Sync>;

/// See the module.
pub(crate) struct Target {
    /// `host:port` of OTLP/gRPC.
    pub(crate) grpc: Option<String>,
    /// `host:port` of OTLP/HTTP.
    pub(crate) http: Option<String>,
    /// Its limit of a request over gRPC, after decompression; it may be less.
    pub(crate) grpc_bytes_max: usize,
    /// The same over HTTP.
    pub(crate) http_bytes_max: usize,
    /// Between pings.
    pub(crate) between_pings: Duration,
    /// Where it delivers.
    pub(crate) sink: Option<Backend>,
    /// How to bring it into need.
    pub(crate) overload: Option<Overload>,
}

impl Target {
    /// A connection of OTLP/gRPC.
    pub(super) async fn grpc(&self) -> Result<Grpc, Instead> {
        match &self.grpc {
            Some(address) => Grpc::connect(address).await,
            None => Err(Instead::NotDecided("no address for OTLP/gRPC".to_owned())),
        }
    }

    /// A connection of OTLP/HTTP.
    pub(super) async fn http(&self) -> Result<Http, Instead> {
        Http::connect(self.http_address()?).await
    }

    /// Where OTLP/HTTP is spoken.
    pub(super) fn http_address(&self) -> Result<&str, Instead> {
        let none = || Instead::NotDecided("no address for OTLP/HTTP".to_owned());
        self.http.as_deref().ok_or_else(none)
    }

    /// The span arrives as it was sent.
    pub(super) async fn delivers(&self, sent: &Span) -> Ended {
        let Some(sink) = &self.sink else {
            let what = "taken, but nobody shows what went out; CONFORMANCE_SINK does";
            return Err(Instead::NotDecided(what.to_owned()));
        };
        let deadline = clock::now() + DELIVERY;
        let id = |span: &Span| (span.trace_id.clone(), span.span_id.clone());
        loop {
            let arrived = sink.spans().into_iter().find(|(_, span)| id(span) == id(sent));
            match arrived {
                Some((_, span)) => return same(sent, &span),
                None if clock::now() < deadline => tokio::time::sleep(LOOK_EVERY).await,
                None => return fail(format!("taken, but not delivered within {DELIVERY:?}")),
            }
        }
    }
}

/// By their bytes, for NaN is not equal to itself.
fn same(sent: &Span, arrived: &Span) -> Ended {
    let (sent, arrived) = (plain(sent), plain(arrived));
    if sent.encode_to_vec() == arrived.encode_to_vec() {
        return Ok(());
    }
    let (sent, arrived) = (format!("{sent:?}"), format!("{arrived:?}"));
    let common = sent.bytes().zip(arrived.bytes()).take_while(|(one, other)| one == other).count();
    // From the field that differs; what is before it is the same.
    let start = sent.get(..common).and_then(|text| text.rfind(", ")).map_or(0, |at| at + 2);
    let part = |text: &str| {
        let text = text.get(start..).unwrap_or_default();
        text.split(", ").next().unwrap_or_default().to_owned()
    };
    fail(format!("sent {}, delivered {}", part(&sent), part(&arrived)))
}

/// A status that says nothing is none, an attribute without a value is one with an empty value.
fn plain(span: &Span) -> Span {
    let mut span = span.clone();
    span.status = span.status.filter(|status| *status != Status::default());
    for attribute in &mut span.attributes {
        let value = attribute.value.get_or_insert_default();
        if let Some(Value::DoubleValue(number)) = &mut value.value
            && number.is_nan()
        {
            // There are many.
            *number = f64::NAN;
        }
    }
    span
}
