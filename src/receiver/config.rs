//! What can be said of the receivers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::CorsConfig;
use crate::{
    auth::AuthConfig,
    config::{ByteSize, HttpUrl, Interval, ListenAddress, NameOrNone, Problems, UrlPath},
    listen::{Age, Limits, Streams},
    tls::ServerTlsConfig,
    trace::HEADERS_MAX,
};

/// What spans come in by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// OTLP, from SDKs and Collectors.
    pub otlp: OtlpConfig,
}

/// The OTLP receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// Only the protocols named here are served.
    pub protocols: Protocols,
    /// Who may send. Without tokens everybody who reaches it may.
    pub auth: AuthConfig,
    /// Largest request after decompression; larger ones are refused for good. Never more than three quarters of the memory
    /// that spans have.
    pub max_request_size: ByteSize,
    /// Request headers (at most 4) that tell tenants apart: traces with different values never mix. Their values can
    /// be used as ${origin:NAME} in headers of exporters and of completion.
    pub include_metadata: Vec<String>,
    /// The exporter to whose endpoint metrics and logs are passed on, as they came and unbuffered: SDKs send them to the
    /// same endpoint. none refuses them.
    pub forward_other_signals: NameOrNone,
}

/// The protocols of the OTLP receiver.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Protocols {
    /// OTLP/gRPC, with gzip and zstd, and gRPC health.
    #[serde(default)]
    pub grpc: Option<GrpcConfig>,
    /// OTLP/HTTP with protobuf or JSON, and with gzip, zstd and deflate.
    #[serde(default)]
    pub http: Option<HttpConfig>,
}

/// OTLP/gRPC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcConfig {
    /// Where to listen; 0.0.0.0:4317 for all interfaces.
    pub endpoint: ListenAddress,
    /// TLS. Without cert_file and key_file: plain text.
    pub tls: ServerTlsConfig,
    /// Open at a time. When one more comes, those go that have been silent for longest.
    pub max_connections: usize,
    /// Requests of one connection at a time; further ones wait in their sender. Each may send 64KiB ahead of being
    /// read, and up to 256KiB where memory.limit is above 1GiB. Without this: 32, and fewer where memory.limit
    /// is below 430MiB, 9 at 128MiB.
    pub max_concurrent_streams: Option<u32>,
    /// Tells clients like grpcurl which services and messages there are.
    pub reflection: bool,
    /// How long a connection lives. Pings of senders are answered, however often they come.
    pub keepalive: GrpcKeepaliveConfig,
}

/// How long a connection of OTLP/gRPC lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcKeepaliveConfig {
    /// A connection without a request is closed after so long; its sender makes another one.
    pub max_connection_idle: Interval,
    /// A connection takes no further requests after so long, so that a load balancer can give its sender another
    /// instance; 0s never.
    pub max_connection_age: Interval,
    /// For the requests that are then under way.
    pub max_connection_age_grace: Interval,
}

/// OTLP/HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where to listen; 0.0.0.0:4318 for all interfaces.
    pub endpoint: ListenAddress,
    /// Path at which traces are taken.
    pub traces_url_path: UrlPath,
    /// Path at which metrics are taken, to be passed on.
    pub metrics_url_path: UrlPath,
    /// Path at which logs are taken, to be passed on.
    pub logs_url_path: UrlPath,
    /// Pages that may send from a browser; none without this.
    pub cors: Option<CorsConfig>,
    /// TLS. Without cert_file and key_file: plain text.
    pub tls: ServerTlsConfig,
    /// Open at a time. When one more comes, those go that have been silent for longest.
    pub max_connections: usize,
    /// For the head of a request over HTTP/1.1; who is slower is cut off. Over HTTP/2 idle_timeout counts.
    pub read_header_timeout: Interval,
    /// A connection without a request is closed after so long.
    pub idle_timeout: Interval,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        let protocols =
            Protocols { grpc: Some(GrpcConfig::default()), http: Some(HttpConfig::default()) };
        Self {
            protocols,
            auth: AuthConfig::default(),
            max_request_size: ByteSize::from_mib(64),
            include_metadata: Vec::new(),
            forward_other_signals: NameOrNone::default(),
        }
    }
}

fn address(text: &str) -> ListenAddress {
    text.parse().expect("the default address is one")
}

fn path(text: &str) -> UrlPath {
    text.parse().expect("the default path is one")
}

/// Every process of a large cluster may have its own.
const CONNECTIONS_MAX: usize = 4096;

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            endpoint: address("127.0.0.1:4317"),
            tls: ServerTlsConfig::default(),
            max_connections: CONNECTIONS_MAX,
            max_concurrent_streams: None,
            reflection: false,
            keepalive: GrpcKeepaliveConfig::default(),
        }
    }
}

impl Default for GrpcKeepaliveConfig {
    fn default() -> Self {
        Self {
            max_connection_idle: Interval::from_secs(600),
            max_connection_age: Interval::from_secs(0),
            max_connection_age_grace: Interval::from_secs(30),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            endpoint: address("127.0.0.1:4318"),
            traces_url_path: path("/v1/traces"),
            metrics_url_path: path("/v1/metrics"),
            logs_url_path: path("/v1/logs"),
            cors: None,
            tls: ServerTlsConfig::default(),
            max_connections: CONNECTIONS_MAX,
            read_header_timeout: Interval::from_secs(20),
            // Longer than a minute, which is how often metrics are sent.
            idle_timeout: Interval::from_secs(120),
        }
    }
}

/// For the first request of a connection of OTLP/gRPC, unless it greets as HTTP/2.
const GREETING_WAIT: Duration = Duration::from_secs(20);

/// So many streams of a connection take 64 MiB of windows, up to 256 where there is much memory.
const STREAMS_MAX: u32 = 1024;

impl GrpcConfig {
    fn check(&self, problems: &mut Problems) {
        problems.within("tls", |problems| self.tls.check(problems));
        check_connections(self.max_connections, problems);
        if self.max_concurrent_streams.is_some_and(|streams| !(1..=STREAMS_MAX).contains(&streams))
        {
            let problem = format!("must be between 1 and {STREAMS_MAX}");
            problems.push("max_concurrent_streams", problem, Some("32 is usual"));
        }
        if self.keepalive.max_connection_idle.is_zero() {
            let hint = Some("10m is the default");
            problems.push("keepalive.max_connection_idle", "must be longer than 0s", hint);
        }
    }

    pub(super) fn limits(&self, mut streams: Streams) -> Limits {
        streams.at_once = self.max_concurrent_streams.unwrap_or(streams.at_once);
        let keepalive = &self.keepalive;
        let (max, grace) = (keepalive.max_connection_age, keepalive.max_connection_age_grace);
        Limits {
            connections: self.max_connections,
            streams,
            head_wait: GREETING_WAIT,
            idle_wait: keepalive.max_connection_idle.get(),
            age: (!max.is_zero()).then(|| Age { max: max.get(), grace: grace.get() }),
        }
    }
}

impl HttpConfig {
    fn check(&self, problems: &mut Problems) {
        problems.within("tls", |problems| self.tls.check(problems));
        check_connections(self.max_connections, problems);
        let Self { traces_url_path: traces, metrics_url_path: metrics, .. } = self;
        for (key, path, taken) in [
            ("metrics_url_path", metrics, metrics == traces),
            (
                "logs_url_path",
                &self.logs_url_path,
                [traces, metrics].contains(&&self.logs_url_path),
            ),
        ] {
            if taken {
                problems.push(key, format!("{path} is another signal's path"), None);
            }
        }
        if let Some(cors) = &self.cors {
            problems.within("cors", |problems| cors.check(problems));
        }
        for (key, interval, default) in [
            ("read_header_timeout", self.read_header_timeout, "20s is the default"),
            ("idle_timeout", self.idle_timeout, "2m is the default"),
        ] {
            if interval.is_zero() {
                problems.push(key, "must be longer than 0s", Some(default));
            }
        }
    }

    pub(super) fn limits(&self, streams: Streams) -> Limits {
        Limits {
            connections: self.max_connections,
            streams,
            head_wait: self.read_header_timeout.get(),
            idle_wait: self.idle_timeout.get(),
            age: None,
        }
    }
}

fn check_connections(max: usize, problems: &mut Problems) {
    if max == 0 {
        problems.push("max_connections", "must be at least 1", Some("4096 is the default"));
    }
}

impl Config {
    /// Notes what can't be used.
    pub fn check(&self, problems: &mut Problems) {
        problems.within("otlp", |problems| self.otlp.check(problems));
    }

    /// Notes which doors are open.
    pub fn warn(&self, problems: &mut Problems) {
        problems.within("otlp", |problems| self.otlp.warn(problems));
    }

    /// What is sent to this URL comes in here.
    pub fn is_reached_by(&self, url: &HttpUrl) -> bool {
        let Protocols { grpc, http } = &self.otlp.protocols;
        let grpc = grpc.as_ref().map(|grpc| &grpc.endpoint);
        let http = http.as_ref().map(|http| &http.endpoint);
        grpc.into_iter().chain(http).any(|endpoint| endpoint.is_reached_by(url))
    }
}

impl OtlpConfig {
    fn check(&self, problems: &mut Problems) {
        let Protocols { grpc, http } = &self.protocols;
        if grpc.is_none() && http.is_none() {
            problems.push("protocols", "no protocol to receive by", Some("add grpc: or http:"));
        }
        if let Some(grpc) = grpc {
            problems.within("protocols.grpc", |problems| grpc.check(problems));
        }
        if let Some(http) = http {
            problems.within("protocols.http", |problems| http.check(problems));
        }
        if let (Some(grpc), Some(http)) = (grpc, http)
            && grpc.endpoint == http.endpoint
            && !grpc.endpoint.as_str().ends_with(":0")
        {
            let hint = Some("OTLP/HTTP is usually at port 4318");
            problems.push("protocols.http.endpoint", "the same address as gRPC's", hint);
        }
        problems.within("auth", |problems| self.auth.check(problems));
        if self.max_request_size.get() < 1024 || self.max_request_size > ByteSize::from_mib(1024) {
            problems.push("max_request_size", "must be between 1KiB and 1GiB", None);
        }
        if self.include_metadata.len() > HEADERS_MAX {
            let hint = Some("each combination of values is kept apart");
            problems.push("include_metadata", format!("more than {HEADERS_MAX} headers"), hint);
        }
        for (index, name) in self.include_metadata.iter().enumerate() {
            if name.parse::<http::HeaderName>().is_err() || name.ends_with("-bin") {
                problems.push(
                    &format!("include_metadata.{index}"),
                    format!("`{name}` is no name of a text header"),
                    None,
                );
            }
        }
    }
}

impl OtlpConfig {
    fn warn(&self, problems: &mut Problems) {
        let Protocols { grpc, http } = &self.protocols;
        let grpc = grpc.as_ref().map(|grpc| ("grpc", &grpc.endpoint, &grpc.tls));
        let http = http.as_ref().map(|http| ("http", &http.endpoint, &http.tls));
        for (protocol, endpoint, tls) in grpc.into_iter().chain(http) {
            problems.within(&format!("protocols.{protocol}"), |problems| {
                open_doors(endpoint, tls, &self.auth, problems);
            });
        }
        problems.within("auth", |problems| self.auth.warn(problems));
    }
}

fn open_doors(
    endpoint: &ListenAddress,
    tls: &ServerTlsConfig,
    auth: &AuthConfig,
    problems: &mut Problems,
) {
    if endpoint.is_loopback() {
        return;
    }
    if !auth.is_on() && tls.client_ca_file.is_none() {
        let hint = Some("set receivers.otlp.auth.tokens, or tls.client_ca_file");
        problems.push("endpoint", "whoever reaches it can send spans", hint);
    }
    if !tls.is_on() {
        let what = if auth.is_on() { "tokens and spans" } else { "spans" };
        let problem = format!("{what} come in plain text, anybody on the way can read them");
        problems.push("tls", problem, Some("set cert_file and key_file"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_streams_that_is_said_counts_whatever_memory_there_is() {
        let streams = |said| {
            let config = GrpcConfig { max_concurrent_streams: said, ..GrpcConfig::default() };
            config.limits(Streams::LEAST).streams
        };
        assert_eq!(streams(None), Streams::LEAST);
        assert_eq!(streams(Some(100)), Streams { at_once: 100, ..Streams::LEAST });
    }
}
