//! What operators say of destinations, and of what these can't take.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error as _, MapAccess, Visitor},
    ser::SerializeMap,
};

use super::{DeadLetterConfig, OtlpConfig, OtlpHttpConfig};
use crate::{
    config::{HttpUrl, Problems},
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
    /// `otlp_http`, `otlp_http/NAME`: OTLP/HTTP.
    OtlpHttp(Box<OtlpHttpConfig>),
    /// `debug`, `debug/NAME`: prints traces as trees on standard output.
    Debug(DebugConfig),
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

    /// Where each of them sends, for people.
    pub fn destinations(&self) -> Vec<String> {
        let shown = self.0.iter().map(|(name, exporter)| match exporter {
            ExporterConfig::Otlp(otlp) => format!("{name}: {}", otlp.endpoint),
            ExporterConfig::OtlpHttp(otlp) => format!("{name}: {}", otlp.shown_url()),
            ExporterConfig::Debug(_) => format!("{name}: standard output"),
        });
        shown.collect()
    }

    /// The URLs that are sent to, each with its path below the destinations.
    pub fn urls(&self) -> Vec<(String, &HttpUrl)> {
        let urls = self.0.iter().flat_map(|(name, exporter)| {
            let (endpoint, traces) = match exporter {
                ExporterConfig::Otlp(otlp) => (Some(&otlp.endpoint), None),
                ExporterConfig::OtlpHttp(otlp) => {
                    (Some(&otlp.endpoint), otlp.traces_endpoint.as_ref())
                }
                ExporterConfig::Debug(_) => (None, None),
            };
            let endpoint = endpoint.map(|url| (format!("{name}.endpoint"), url));
            endpoint.into_iter().chain(traces.map(|url| (format!("{name}.traces_endpoint"), url)))
        });
        urls.collect()
    }

    /// The destinations that metrics and logs can be passed to.
    pub fn relays(&self) -> Vec<&str> {
        let takes = |exporter: &ExporterConfig| !matches!(exporter, ExporterConfig::Debug(_));
        let relays = self.0.iter().filter(|(_, exporter)| takes(exporter));
        relays.map(|(name, _)| name.as_str()).collect()
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
            problems.within(name, |problems| exporter.check(include_metadata, problems));
        }
    }
}

impl Config {
    /// Notes which doors are open.
    pub fn warn(&self, problems: &mut Problems) {
        for (name, exporter) in &self.0 {
            if let Some((tls, is_used)) = exporter.tls() {
                problems.within(&format!("{name}.tls"), |problems| tls.warn(is_used, problems));
            }
        }
    }
}

impl ExporterConfig {
    /// With whether anything is sent by it.
    fn tls(&self) -> Option<(&ClientTlsConfig, bool)> {
        match self {
            Self::Otlp(otlp) => Some((&otlp.tls, otlp.endpoint.is_tls())),
            Self::OtlpHttp(otlp) => {
                let mut urls =
                    [Some(&otlp.endpoint), otlp.traces_endpoint.as_ref()].into_iter().flatten();
                Some((&otlp.tls, urls.any(HttpUrl::is_tls)))
            }
            Self::Debug(_) => None,
        }
    }

    fn check(&self, include_metadata: &[String], problems: &mut Problems) {
        match self {
            Self::Otlp(otlp) => otlp.check(include_metadata, problems),
            Self::OtlpHttp(otlp) => otlp.check(include_metadata, problems),
            Self::Debug(_) => {}
        }
    }

    pub(super) fn on_outage(&self) -> Option<OnOutage> {
        match self {
            Self::Otlp(otlp) => otlp.on_outage,
            Self::OtlpHttp(otlp) => otlp.on_outage,
            Self::Debug(debug) => debug.on_outage,
        }
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
            Some("otlp_http") => OtlpHttpConfig::deserialize(deserializer)
                .map(Box::new)
                .map(ExporterConfig::OtlpHttp),
            Some("debug") => DebugConfig::deserialize(deserializer).map(ExporterConfig::Debug),
            _ => Err(D::Error::custom(
                "no such type of exporter; there are otlp (gRPC), otlp_http and debug, each with or without a /NAME",
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
        let otlp_http = generator.subschema_for::<OtlpHttpConfig>();
        let debug = generator.subschema_for::<DebugConfig>();
        schemars::json_schema!({
            "type": "object",
            "patternProperties": {
                "^otlp(/.+)?$": otlp,
                "^otlp_http(/.+)?$": otlp_http,
                "^debug(/.+)?$": debug,
            },
            "additionalProperties": false,
        })
    }
}
