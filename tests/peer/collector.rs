//! [`Collector`], the real one, and its project's load generator.

use std::time::Duration;

use crate::{
    lock::Lock,
    loopback::{HOST, free_ports},
    parts::{Parts, here},
    process::{Process, command},
    tracestitch::Tracestitch,
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

/// How it hands on.
pub(crate) struct Onward {
    /// `otlp_grpc` or `otlp_http`.
    pub(crate) exporter: &'static str,
    /// `gzip`, `zstd`; over HTTP also `deflate`.
    pub(crate) compression: &'static str,
    /// Over HTTP: `proto` or `json`.
    pub(crate) encoding: &'static str,
    /// Where the next hop has TLS and tokens.
    pub(crate) lock: Option<Lock>,
}

impl Default for Onward {
    fn default() -> Self {
        Self { exporter: "otlp_grpc", compression: "gzip", encoding: "proto", lock: None }
    }
}

impl Onward {
    /// Where tracestitch takes what is handed on so.
    pub(crate) fn door<'a>(&self, next: &'a Tracestitch) -> &'a str {
        if self.exporter == "otlp_grpc" { next.grpc() } else { next.http() }
    }
}

impl Collector {
    /// Starts it in front of `next`.
    pub(crate) async fn start(parts: &Parts, onward: &Onward, next: &str) -> Self {
        let [grpc, http] = free_ports();
        let mut otelcol = command(parts.path("otelcol/otelcol"));
        otelcol.arg("--config").arg(here("otelcol/forward.yaml"));
        otelcol.env("OTELCOL_OTLP_GRPC_PORT", grpc.to_string());
        otelcol.env("OTELCOL_OTLP_HTTP_PORT", http.to_string());
        otelcol.env("OTELCOL_EXPORTER", onward.exporter).env("OTELCOL_NEXT", next);
        otelcol.env("OTELCOL_COMPRESSION", onward.compression);
        otelcol.env("OTELCOL_ENCODING", onward.encoding);
        if let Some(lock) = &onward.lock {
            otelcol.arg("--config").arg(here("otelcol/locked.yaml"));
            otelcol.env("OTELCOL_CA_FILE", lock.ca_file()).env("OTELCOL_TOKEN", lock.token);
        }
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
    let mut process = Process::start("telemetrygen", &mut telemetrygen);
    let status = process.ends(GENERATOR_PATIENCE).await;
    assert!(status.success(), "telemetrygen ended with {status}");
}
