//! How DeepFlow is asked, as operators say it.

use serde::{Deserialize, Serialize};

use super::request::Post;
use crate::{
    config::{ByteSize, Headers, HttpUrl, Interval, Problems},
    retry::Backoff,
    tls::ClientTlsConfig,
};

/// How DeepFlow is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Off: traces are grouped and forwarded as they came.
    pub enabled: bool,
    /// The deepflow-app service; one URL, or a list that is asked in turn.
    pub endpoint: Endpoints,
    /// X-Org-Id, for a DeepFlow with several organisations.
    pub org_id: Option<String>,
    /// Further request headers; ${origin:NAME} stands for a header kept by receivers.otlp.include_metadata.
    pub headers: Headers,
    /// For an https endpoint.
    pub tls: ClientTlsConfig,
    /// Which spans are posted: all, boundary (roots, clients, servers …) or cover (one span over all). The answer is
    /// the same; fewer spans cost DeepFlow less.
    pub post: Post,
    /// Above so many spans a trace is posted as with boundary, cut to so many.
    pub max_app_spans: usize,
    /// Spans that start further from the trace's median start are not posted: one clock at 1970 would make DeepFlow
    /// scan days.
    pub max_window: Interval,
    /// Hops DeepFlow follows from the posted spans.
    pub max_iteration: u32,
    /// How far apart DeepFlow may find the two ends of one call, in microseconds.
    pub network_delay_us: u64,
    /// For a connection.
    pub connect_timeout: Interval,
    /// For one ask, connection and answer included.
    pub timeout: Interval,
    /// Larger answers are given up.
    pub max_response_size: ByteSize,
    /// Asks at a time. DeepFlow's default of 10 workers answers about 150 asks a second, however many wait.
    pub max_in_flight: usize,
    /// For a free slot; then the trace goes on unenriched.
    pub max_wait: Interval,
    /// Traces that may wait for a slot.
    pub max_queued: usize,
    /// After the first ask, when nothing was found yet.
    pub reask: Vec<Interval>,
    /// Waits between retries when DeepFlow fails.
    pub retry: Backoff,
    /// From release to going on, all asks and retries in it.
    pub deadline: Interval,
    /// When to leave a failing DeepFlow alone.
    pub circuit_breaker: CircuitBreaker,
}

/// When to leave a failing DeepFlow alone. Open: traces go on at once; then 1, 2, 4 … asks are let through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CircuitBreaker {
    /// Failed asks in a row that open it. "Nothing found" is no failure.
    pub failures: u32,
    /// How long it stays open; doubled each time it opens again.
    pub open_interval: Interval,
    /// At most so long.
    pub max_open_interval: Interval,
}

/// One URL, or several.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoints(Vec<HttpUrl>);

impl Endpoints {
    /// The URLs, at least one in a checked configuration.
    pub fn iter(&self) -> impl Iterator<Item = &HttpUrl> {
        self.0.iter()
    }
}

impl From<HttpUrl> for Endpoints {
    fn from(url: HttpUrl) -> Self {
        Self(vec![url])
    }
}

impl Serialize for Endpoints {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Endpoints {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EndpointsVisitor)
    }
}

struct EndpointsVisitor;

impl<'de> serde::de::Visitor<'de> for EndpointsVisitor {
    type Value = Endpoints;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a URL or a list of URLs")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Endpoints, E> {
        text.parse().map(|url: HttpUrl| Endpoints::from(url)).map_err(E::custom)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut urls: A) -> Result<Endpoints, A::Error> {
        let mut list = Vec::new();
        while let Some(url) = urls.next_element()? {
            list.push(url);
        }
        Ok(Endpoints(list))
    }
}

impl schemars::JsonSchema for Endpoints {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Endpoints".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let url = generator.subschema_for::<HttpUrl>();
        schemars::json_schema!({ "anyOf": [url, { "type": "array", "items": url }] })
    }

    fn inline_schema() -> bool {
        true
    }
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            failures: 10,
            open_interval: Interval::from_secs(5),
            max_open_interval: Interval::from_secs(60),
        }
    }
}

fn default_endpoint() -> HttpUrl {
    "http://deepflow-app.deepflow:20418".parse().expect("the default endpoint is a URL")
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            endpoint: default_endpoint().into(),
            org_id: None,
            headers: Headers::default(),
            tls: ClientTlsConfig::default(),
            post: Post::All,
            max_app_spans: 300,
            max_window: Interval::from_secs(3600),
            max_iteration: 30,
            network_delay_us: 3_000_000,
            connect_timeout: Interval::from_secs(2),
            timeout: Interval::from_secs(10),
            max_response_size: ByteSize::from_mib(16),
            max_in_flight: 8,
            max_wait: Interval::from_secs(2),
            max_queued: 20_000,
            reask: vec![Interval::from_secs(10), Interval::from_secs(30)],
            retry: Backoff::default(),
            deadline: Interval::from_secs(45),
            circuit_breaker: CircuitBreaker::default(),
        }
    }
}

impl Config {
    /// Notes what can't be used.
    pub fn check(&self, include_metadata: &[String], problems: &mut Problems) {
        if self.endpoint.0.is_empty() {
            problems.push("endpoint", "is an empty list", Some("name at least one URL"));
        }
        for (key, number) in [
            ("max_iteration", u64::from(self.max_iteration)),
            ("network_delay_us", self.network_delay_us),
            ("max_in_flight", u64::try_from(self.max_in_flight).unwrap_or(u64::MAX)),
            ("max_app_spans", u64::try_from(self.max_app_spans).unwrap_or(u64::MAX)),
            ("circuit_breaker.failures", u64::from(self.circuit_breaker.failures)),
        ] {
            if number == 0 {
                problems.push(key, "must be at least 1", None);
            }
        }
        for (key, interval, default) in [
            ("connect_timeout", self.connect_timeout, "2s is the default"),
            ("timeout", self.timeout, "10s is the default"),
            ("retry.initial_interval", self.retry.initial_interval, "500ms is the default"),
        ] {
            if interval.is_zero() {
                problems.push(key, "must be longer than 0s", Some(default));
            }
        }
        if self.deadline < self.timeout {
            problems.push("deadline", "is shorter than timeout", Some("all asks must end by it"));
        }
        if self.reask.windows(2).any(|pair| pair.first() >= pair.last()) {
            problems.push("reask", "times must grow", Some("each is counted from the first ask"));
        }
        if let Some(org_id) = &self.org_id
            && !org_id.bytes().all(|byte| byte.is_ascii_graphic())
        {
            problems.push("org_id", "can't be sent as a header", None);
        }
        problems.within("tls", |problems| self.tls.check(problems));
        problems.within("headers", |problems| self.headers.check(include_metadata, problems));
    }
}
