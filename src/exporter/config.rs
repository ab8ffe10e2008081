//! What operators say of destinations, and of what these can't take.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error as _, MapAccess, Visitor},
    ser::SerializeMap,
};

use super::DeadLetterConfig;
use crate::{
    config::{ByteSize, Headers, HttpUrl, Interval, Problems},
    tls::ClientTlsConfig,
};

/// Destinations by `type` or `type/name`, in order. `on_outage` says what becomes of traces that one can't take.
#[derive(Debug, Clone, PartialEq)]
pub struct Config(pub(super) Vec<(String, ExporterConfig)>);

/// One destination.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ExporterConfig {
    /// `otlp`, `otlp/NAME`: OTLP/gRPC.
    Otlp(Box<OtlpConfig>),
    /// `debug`, `debug/NAME`: prints traces as trees on standard output.
    Debug(DebugConfig),
}

/// An OTLP/gRPC destination: Tempo, Jaeger, a Collector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
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
    /// For a connection.
    pub connect_timeout: Interval,
    /// Requests at a time.
    pub max_in_flight: usize,
    /// What becomes of traces while the queue is full: hold, dead_letter or drop. By default the first destination
    /// holds and further ones dead-letter. hold: they wait in the journal; without one the pipeline waits, for every
    /// destination. dead_letter: they go to the dead-letter file. Both put there, too, what is refused for good.
    pub on_outage: Option<OnOutage>,
    /// A backend whose limits are kept: none or tempo (5 MB a trace, 2048 bytes an attribute). Of larger traces added
    /// network spans are left out, long attributes of added spans are cut; received spans stay as they are.
    pub profile: Profile,
    /// How traces become requests.
    pub batch: BatchConfig,
    /// Traces waiting to be sent.
    pub sending_queue: QueueConfig,
    /// What to do when the destination can't take a request now.
    pub retry_on_failure: RetryConfig,
    /// Pings that find a broken connection.
    pub keepalive: KeepaliveConfig,
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
    /// In bytes, requests under way included.
    pub max_size: ByteSize,
}

/// What to do when a destination can't take a request now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// First wait; jittered. A destination's own word (RetryInfo) counts more.
    pub initial_interval: Interval,
    /// Longest wait.
    pub max_interval: Interval,
    /// Give up after so long; 0s never does.
    pub max_elapsed_time: Interval,
}

/// Pings that find a broken connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeepaliveConfig {
    /// Between pings.
    pub time: Interval,
    /// For an answer.
    pub timeout: Interval,
}

/// The debug exporter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DebugConfig {
    /// As of an otlp exporter.
    pub on_outage: Option<OnOutage>,
}

/// What becomes of a trace while a destination's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnOutage {
    /// It waits: in the journal, or without one in front of the queue.
    Hold,
    /// It goes to the dead-letter file.
    DeadLetter,
    /// It is dropped: for shadows.
    Drop,
}

/// A backend whose limits are kept.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// No limits but those of requests.
    #[default]
    None,
    /// Grafana Tempo at its defaults.
    Tempo,
}

fn default_endpoint() -> HttpUrl {
    "http://tempo:4317".parse().expect("the default endpoint is a URL")
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: default_endpoint(),
            tls: ClientTlsConfig::default(),
            headers: Headers::default(),
            compression: Compression::None,
            timeout: Interval::from_secs(10),
            connect_timeout: Interval::from_secs(5),
            max_in_flight: 4,
            on_outage: None,
            profile: Profile::None,
            batch: BatchConfig::default(),
            sending_queue: QueueConfig::default(),
            retry_on_failure: RetryConfig::default(),
            keepalive: KeepaliveConfig::default(),
        }
    }
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
        Self { max_size: ByteSize::from_mib(64) }
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

impl Default for Config {
    fn default() -> Self {
        Self(vec![("otlp/tempo".to_owned(), ExporterConfig::Otlp(Box::default()))])
    }
}

impl Config {
    /// A configuration of these destinations.
    pub fn new(exporters: Vec<(String, ExporterConfig)>) -> Self {
        Self(exporters)
    }

    /// The destinations' names, in order.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Notes what can't be used.
    pub fn check(
        &self,
        include_metadata: &[String],
        dead_letter: &DeadLetterConfig,
        problems: &mut Problems,
    ) {
        if self.0.is_empty() {
            problems.push("", "no destination", Some("add otlp/tempo: {endpoint: …}"));
        }
        for (name, exporter) in &self.0 {
            if exporter.on_outage() == Some(OnOutage::DeadLetter) && !dead_letter.enabled {
                let hint = Some("set dead_letter.enabled, or say drop");
                problems.push(&format!("{name}.on_outage"), "there is no dead-letter file", hint);
            }
            if let ExporterConfig::Otlp(otlp) = exporter {
                problems.within(name, |problems| otlp.check(include_metadata, problems));
            }
        }
    }
}

impl ExporterConfig {
    pub(super) fn on_outage(&self) -> Option<OnOutage> {
        match self {
            Self::Otlp(otlp) => otlp.on_outage,
            Self::Debug(debug) => debug.on_outage,
        }
    }
}

impl OtlpConfig {
    fn check(&self, include_metadata: &[String], problems: &mut Problems) {
        let batch = &self.batch;
        if batch.target_size > batch.max_size {
            problems.push("batch.target_size", "is larger than max_size", None);
        }
        if batch.max_size.get() < 64 * 1024 || batch.max_size > ByteSize::from_mib(1024) {
            problems.push("batch.max_size", "must be between 64KiB and 1GiB", None);
        }
        if self.sending_queue.max_size < batch.max_size {
            problems.push("sending_queue.max_size", "is smaller than one request", None);
        }
        if self.max_in_flight == 0 {
            problems.push("max_in_flight", "must be at least 1", None);
        }
        let (retry, keepalive) = (&self.retry_on_failure, &self.keepalive);
        for (key, interval, default) in [
            ("timeout", self.timeout, "10s is the default"),
            ("connect_timeout", self.connect_timeout, "5s is the default"),
            ("retry_on_failure.initial_interval", retry.initial_interval, "500ms is the default"),
            ("keepalive.time", keepalive.time, "10s is the default"),
            ("keepalive.timeout", keepalive.timeout, "5s is the default"),
        ] {
            if interval.is_zero() {
                problems.push(key, "must be longer than 0s", Some(default));
            }
        }
        problems.within("tls", |problems| self.tls.check(problems));
        problems.within("headers", |problems| self.headers.check(include_metadata, problems));
    }
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, exporter) in &self.0 {
            map.serialize_entry(name, exporter)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ConfigVisitor)
    }
}

struct ConfigVisitor;

impl<'de> Visitor<'de> for ConfigVisitor {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("destinations by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
        let mut exporters = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let exporter = map.next_value_seed(OfKind(&name))?;
            exporters.push((name, exporter));
        }
        Ok(Config(exporters))
    }
}

/// Reads the kind from the key and the rest by that kind. A seed, so that an error has the key in its path.
struct OfKind<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for OfKind<'_> {
    type Value = ExporterConfig;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<ExporterConfig, D::Error> {
        match self.0.split('/').next() {
            Some("otlp") => {
                OtlpConfig::deserialize(deserializer).map(Box::new).map(ExporterConfig::Otlp)
            }
            Some("debug") => DebugConfig::deserialize(deserializer).map(ExporterConfig::Debug),
            _ => Err(D::Error::custom(
                "no such type of exporter; there are otlp (or otlp/NAME) and debug (or debug/NAME)",
            )),
        }
    }
}

impl schemars::JsonSchema for Config {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Exporters".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let otlp = generator.subschema_for::<OtlpConfig>();
        let debug = generator.subschema_for::<DebugConfig>();
        schemars::json_schema!({
            "type": "object",
            "patternProperties": { "^otlp(/.+)?$": otlp, "^debug(/.+)?$": debug },
            "additionalProperties": false,
        })
    }
}
