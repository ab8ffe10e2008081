//! [`Collector`], the real one, and its project's load generator.

use std::time::Duration;

use crate::{
    loopback::{HOST, free_ports},
    parts::{Parts, here},
    process::{Process, command},
};

const GENERATOR_PATIENCE: Duration = Duration::from_mins(1);

/// A Collector that hands on what it gets.
#[derive(Debug)]
pub(crate) struct Collector {
    /// Where it takes OTLP/gRPC.
    pub(crate) otlp: String,
    /// Where it takes OTLP/HTTP.
    pub(crate) otlp_http: String,
    _process: Process,
}

impl Collector {
    /// Starts it; `exporter` is `otlp_grpc`, `otlp_http` or `otlp_http/json`.
    pub(crate) async fn start(parts: &Parts, exporter: &str, next: &str) -> Self {
        let [grpc, http] = free_ports();
        let mut otelcol = command(parts.path("otelcol/otelcol"));
        otelcol.arg("--config").arg(here("otelcol/forward.yaml"));
        otelcol.env("OTELCOL_OTLP_GRPC_PORT", grpc.to_string());
        otelcol.env("OTELCOL_OTLP_HTTP_PORT", http.to_string());
        otelcol.env("OTELCOL_EXPORTER", exporter).env("OTELCOL_NEXT", next);
        otelcol.env("OTELCOL_COMPRESSION", "gzip");
        let mut process = Process::start("otelcol", &mut otelcol);
        process.listens(&[grpc, http]).await;
        let url = |port| format!("http://{HOST}:{port}");
        Self { otlp: url(grpc), otlp_http: url(http), _process: process }
    }
}

/// How the generator sends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Protocol {
    Grpc,
    Http,
}

/// 40 traces: a CLIENT span with 3 SERVER spans below it, all of one service.
pub(crate) async fn generate(parts: &Parts, otlp: &str, protocol: Protocol) {
    let address = otlp.strip_prefix("http://").expect("http");
    let mut telemetrygen = command(parts.path("telemetrygen/telemetrygen"));
    telemetrygen.args(["traces", "--otlp-insecure", "--otlp-endpoint", address]);
    telemetrygen.args(["--rate", "0", "--traces", "20", "--workers", "2", "--child-spans", "3"]);
    if let Protocol::Http = protocol {
        telemetrygen.arg("--otlp-http");
    }
    let process = Process::start("telemetrygen", &mut telemetrygen);
    let status = process.ends(GENERATOR_PATIENCE).await;
    assert!(status.success(), "telemetrygen ended with {status}");
}
