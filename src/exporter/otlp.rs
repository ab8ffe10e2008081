//! What operators say of OTLP destinations: most of it is the same for gRPC and HTTP.

use http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};

use super::{OnOutage, Profile};
use crate::{
    config::{ByteSize, Headers, HttpUrl, Interval, MemoryShare, Problems},
    tls::ClientTlsConfig,
};

/// The keys that every OTLP destination has, and those of one kind. serde's `flatten` would lose the path of a mistake.
macro_rules! otlp_destination {
    (
        $(#[$about:meta])*
        $name:ident at $endpoint:literal with
        $($(#[$key_about:meta])* $key:ident: $type:ty = $default:expr;)*
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            /// http://host:port, or https:// for TLS.
            pub endpoint: HttpUrl,
            /// For an https endpoint.
            pub tls: ClientTlsConfig,
            /// Request headers; ${origin:NAME} stands for a header kept by receivers.otlp.include_metadata.
            pub headers: Headers,
            /// none, gzip or zstd.
            pub compression: Compression,
            /// For one request.
            pub timeout: Interval,
            /// For a connection; over gRPC half of timeout at most, so that the next address can have the request.
            pub connect_timeout: Interval,
            /// Requests at a time.
            pub max_in_flight: usize,
            /// What becomes of traces while the queue is full: hold, dead_letter or drop. By default the first
            /// destination holds and further ones dead-letter. hold: they wait in the journal; without one the pipeline
            /// waits, for every destination. dead_letter: they go to the dead-letter file. Both put there, too, what is
            /// refused for good.
            pub on_outage: Option<OnOutage>,
            /// A backend whose limits are kept: none or tempo (5 MB a trace, 2048 bytes an attribute). Of larger traces
            /// added network spans are left out, long attributes of added spans are cut; received spans stay as they are.
            pub profile: Profile,
            /// How traces become requests.
            pub batch: BatchConfig,
            /// Traces waiting to be sent.
            pub sending_queue: QueueConfig,
            /// What to do when the destination can't take a request now.
            pub retry_on_failure: RetryConfig,
            $($(#[$key_about])* pub $key: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    endpoint: $endpoint.parse().expect("the default endpoint is a URL"),
                    tls: ClientTlsConfig::default(),
                    headers: Headers::default(),
                    compression: Compression::None,
                    timeout: Interval::from_secs(10),
                    connect_timeout: Interval::from_secs(5),
                    max_in_flight: 10,
                    on_outage: None,
                    profile: Profile::None,
                    batch: BatchConfig::default(),
                    sending_queue: QueueConfig::default(),
                    retry_on_failure: RetryConfig::default(),
                    $($key: $default,)*
                }
            }
        }

        impl $name {
            pub(super) fn shared(&self) -> Shared<'_> {
                Shared {
                    tls: &self.tls,
                    headers: &self.headers,
                    timeout: self.timeout,
                    connect_timeout: self.connect_timeout,
                    max_in_flight: self.max_in_flight,
                    profile: self.profile,
                    batch: &self.batch,
                    sending_queue: &self.sending_queue,
                    retry_on_failure: &self.retry_on_failure,
                }
            }
        }
    };
}

otlp_destination! {
    /// An OTLP/gRPC destination: Tempo, Jaeger, a Collector.
    OtlpConfig at "http://tempo:4317" with
    /// Pings that find a broken connection.
    keepalive: KeepaliveConfig = KeepaliveConfig::default();
}

otlp_destination! {
    /// An OTLP/HTTP destination: no redirects are followed, no proxy is used.
    OtlpHttpConfig at "http://tempo:4318" with
    /// proto or json.
    encoding: BodyEncoding = BodyEncoding::Proto;
    /// Where traces are sent, as it is here; without it to endpoint, with /v1/traces appended.
    traces_endpoint: Option<HttpUrl> = None;
}

/// What is the same for every OTLP destination.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    tls: &'a ClientTlsConfig,
    headers: &'a Headers,
    timeout: Interval,
    connect_timeout: Interval,
    pub(super) max_in_flight: usize,
    pub(super) profile: Profile,
    pub(super) batch: &'a BatchConfig,
    pub(super) sending_queue: &'a QueueConfig,
    pub(super) retry_on_failure: &'a RetryConfig,
}

/// Compression of requests.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As they are: cheapest.
    #[default]
    None,
    /// Every backend reads it.
    Gzip,
    /// Cheaper than gzip.
    Zstd,
}

/// What a request over HTTP is written in.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum BodyEncoding {
    /// Protobuf: as the spans came.
    #[default]
    Proto,
    /// OTLP/JSON: larger, and costs much more. What JSON has no name for is left out.
    Json,
}

/// How traces become requests. An idle connection sends at once; while requests are under way traces gather.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BatchConfig {
    /// A request is sent when it has so many bytes …
    pub target_size: ByteSize,
    /// … or when its first trace has waited so long.
    pub max_wait: Interval,
    /// No request is larger, before compression, unless a single span is. Most servers take 4 MiB.
    pub max_size: ByteSize,
}

/// Traces waiting to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// A share of what memory.limit leaves to spans, or bytes, requests under way included; never more than half of that,
    /// never less than batch.max_size.
    pub max_size: MemoryShare,
}

/// What to do when a destination can't take a request now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// First wait; jittered. A destination's own word (RetryInfo, Retry-After) counts more.
    pub initial_interval: Interval,
    /// Longest wait.
    pub max_interval: Interval,
    /// Give up after so long; 0s never does.
    pub max_elapsed_time: Interval,
}

/// Pings that find a broken connection while a request waits for its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeepaliveConfig {
    /// Between pings. Servers by grpc-go end a connection after three of them without an answer: more for a timeout above 30s.
    pub time: Interval,
    /// For an answer.
    pub timeout: Interval,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            target_size: ByteSize::from_mib(1),
            max_wait: Interval::from_millis(20),
            max_size: ByteSize::from_mib(4),
        }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { max_size: MemoryShare::Percent(25) }
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            initial_interval: Interval::from_millis(500),
            max_interval: Interval::from_secs(30),
            max_elapsed_time: Interval::from_secs(0),
        }
    }
}

impl Default for KeepaliveConfig {
    fn default() -> Self {
        Self { time: Interval::from_secs(10), timeout: Interval::from_secs(5) }
    }
}

impl OtlpConfig {
    pub(super) fn check(&self, include_metadata: &[String], problems: &mut Problems) {
        self.shared().check(include_metadata, problems);
        let below = self.endpoint.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        if below != "/" {
            let hint = Some("leave it out, or send by an otlp_http exporter");
            problems.push("endpoint", "has a path, which OTLP/gRPC has no use for", hint);
        }
        check_times(
            &[
                ("keepalive.time", self.keepalive.time, "10s is the default"),
                ("keepalive.timeout", self.keepalive.timeout, "5s is the default"),
            ],
            problems,
        );
    }
}

impl OtlpHttpConfig {
    pub(super) fn check(&self, include_metadata: &[String], problems: &mut Problems) {
        self.shared().check(include_metadata, problems);
        if self.endpoint.uri().query().is_some() {
            let hint = Some("write the whole URL as traces_endpoint");
            problems.push("endpoint", "has a query, a path can't be appended", hint);
        }
    }

    pub(super) fn traces_url(&self) -> String {
        match &self.traces_endpoint {
            Some(url) => url.uri().to_string(),
            None => self.url("traces"),
        }
    }

    /// The same for people: without its query, which may hold a key.
    pub(super) fn shown_url(&self) -> String {
        match &self.traces_endpoint {
            Some(url) => url.to_string(),
            None => self.url("traces"),
        }
    }

    /// Where requests of a signal (`metrics`, `logs`) are sent.
    pub(super) fn url(&self, signal: &str) -> String {
        format!("{}/v1/{signal}", self.endpoint)
    }
}

/// A queue that is larger finds memory full before it is.
const QUEUE_PERCENT_MAX: u8 = 50;

impl Shared<'_> {
    fn check(&self, include_metadata: &[String], problems: &mut Problems) {
        let batch = self.batch;
        if batch.target_size > batch.max_size {
            problems.push("batch.target_size", "is larger than max_size", None);
        }
        if batch.max_size.get() < 64 * 1024 || batch.max_size > ByteSize::from_mib(1024) {
            problems.push("batch.max_size", "must be between 64KiB and 1GiB", None);
        }
        if let MemoryShare::Percent(QUEUE_PERCENT_MAX..) = self.sending_queue.max_size {
            let hint = Some("what waits elsewhere needs memory, too; 25% is the default");
            problems.push("sending_queue.max_size", "must be below 50%", hint);
        }
        if let MemoryShare::Bytes(bytes) = self.sending_queue.max_size
            && bytes < batch.max_size
        {
            problems.push("sending_queue.max_size", "is smaller than one request", None);
        }
        if self.max_in_flight == 0 {
            problems.push("max_in_flight", "must be at least 1", None);
        }
        let retry = self.retry_on_failure;
        check_times(
            &[
                ("timeout", self.timeout, "10s is the default"),
                ("connect_timeout", self.connect_timeout, "5s is the default"),
                (
                    "retry_on_failure.initial_interval",
                    retry.initial_interval,
                    "500ms is the default",
                ),
            ],
            problems,
        );
        problems.within("tls", |problems| self.tls.check(problems));
        problems.within("headers", |problems| self.headers.check(include_metadata, problems));
    }
}

fn check_times(times: &[(&str, Interval, &str)], problems: &mut Problems) {
    for (key, interval, default) in times {
        if interval.is_zero() {
            problems.push(key, "must be longer than 0s", Some(default));
        }
    }
}
