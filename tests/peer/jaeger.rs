//! [`Jaeger`]: the backend that people look at, read as they read it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tracestitch::wire::json;

use crate::{
    loopback::{HOST, free_ports, get, until},
    parts::{Parts, here},
    process::{Process, command},
    spans::Spans,
};

const PATIENCE: Duration = Duration::from_mins(1);

/// A running Jaeger, spans in memory.
#[derive(Debug)]
pub(crate) struct Jaeger {
    /// Where it takes OTLP/gRPC.
    pub(crate) otlp: String,
    query: String,
    _process: Process,
}

#[derive(Deserialize)]
struct Answer {
    result: Box<RawValue>,
}

impl Jaeger {
    pub(crate) async fn start(parts: &Parts) -> Self {
        let [grpc, http, query] = free_ports();
        let mut jaeger = command(parts.path("jaeger/jaeger"));
        jaeger.arg("--config").arg(here("jaeger/jaeger.yaml"));
        jaeger.env("JAEGER_OTLP_GRPC_PORT", grpc.to_string());
        jaeger.env("JAEGER_OTLP_HTTP_PORT", http.to_string());
        jaeger.env("JAEGER_QUERY_PORT", query.to_string());
        let mut process = Process::start("jaeger", &mut jaeger);
        process.listens(&[grpc, http, query]).await;
        let url = |port| format!("http://{HOST}:{port}");
        Self { otlp: url(grpc), query: url(query), _process: process }
    }

    /// The spans of a trace, once there are so many.
    pub(crate) async fn trace(&self, id: &str, spans: usize) -> Spans {
        let url = format!("{}/api/v3/traces/{id}", self.query);
        let what = format!("Jaeger shows {spans} spans of trace {id}");
        until(&what, PATIENCE, async || {
            let text = get(&url).await?;
            let answer: Answer = serde_json::from_str(&text).expect("JSON");
            let shown = Spans::of(json::request(answer.result.get().as_bytes()).expect("OTLP"));
            (shown.len() >= spans).then_some(shown)
        })
        .await
    }
}
