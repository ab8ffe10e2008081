//! The two instrumented services: [`Front`] (Python, OTLP/gRPC) asks [`Back`] (Java, OTLP/HTTP).

use std::{process::Command, time::Duration};

use serde_json::Value;

use crate::{
    loopback::{get, until},
    parts::{Parts, here},
    process::{Process, command},
    told::told,
};

const TELL_PATIENCE: Duration = Duration::from_secs(20);

/// `python/front.py` under the Python SDK. What it sends it also tells.
#[derive(Debug)]
pub(crate) struct Front {
    process: Process,
    url: String,
}

/// `java/Back.java` under the Java agent.
#[derive(Debug)]
pub(crate) struct Back {
    /// Where it listens.
    pub(crate) url: String,
    _process: Process,
}

impl Front {
    /// Starts it; it asks `back` and sends to `otlp`.
    pub(crate) async fn start(parts: &Parts, back: &str, otlp: &str) -> Self {
        let mut python = command(parts.path("python/venv/bin/opentelemetry-instrument"));
        python.arg(parts.path("python/venv/bin/python")).arg(here("python/front.py"));
        python.args(["0", back]);
        instrumented(&mut python, "front");
        python.env("PYTHONDONTWRITEBYTECODE", "1");
        python.env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc").env("OTEL_EXPORTER_OTLP_ENDPOINT", otlp);
        let mut process = Process::start("front", &mut python);
        let url = listening(&mut process).await;
        Self { process, url }
    }

    /// Orders something; gives the trace id as the service knows it.
    pub(crate) async fn order(&self, number: u32) -> String {
        let answer = get(&format!("{}/orders/{number}", self.url)).await.expect("an order");
        let (trace_id, rest) = answer.split_once(' ').expect("a trace id and more");
        assert!(rest.contains("in stock"), "{answer}");
        trace_id.to_owned()
    }

    /// The spans of a trace as it has told them, once there are so many.
    pub(crate) async fn told(&self, trace_id: &str, spans: usize) -> Vec<Value> {
        let what = format!("front tells of {spans} spans of trace {trace_id}");
        until(&what, TELL_PATIENCE, async || {
            let mut told = told(&self.process.stdout());
            told.retain(|span| span["trace_id"] == trace_id);
            (told.len() >= spans).then_some(told)
        })
        .await
    }
}

impl Back {
    /// Starts it; it asks `leaf` and sends to `otlp`.
    pub(crate) async fn start(parts: &Parts, leaf: &str, otlp: &str) -> Self {
        let mut java = command("java");
        // The first two make it start sooner.
        java.args(["-XX:TieredStopAtLevel=1", "-Xmx128m"]);
        let agent = parts.path("java/opentelemetry-javaagent.jar");
        java.arg(format!("-javaagent:{}", agent.display())).arg("-cp").arg(parts.path("java"));
        java.args(["Back", "0", leaf]);
        instrumented(&mut java, "back");
        java.env("OTEL_INSTRUMENTATION_COMMON_DEFAULT_ENABLED", "false")
            .env("OTEL_INSTRUMENTATION_JAVA_HTTP_SERVER_ENABLED", "true")
            .env("OTEL_INSTRUMENTATION_JAVA_HTTP_CLIENT_ENABLED", "true")
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", otlp);
        let mut process = Process::start("back", &mut java);
        Self { url: listening(&mut process).await, _process: process }
    }
}

fn instrumented(command: &mut Command, service: &str) {
    command
        .env("OTEL_SERVICE_NAME", service)
        .env("OTEL_TRACES_EXPORTER", "otlp")
        .env("OTEL_METRICS_EXPORTER", "none")
        .env("OTEL_LOGS_EXPORTER", "none")
        .env("OTEL_BSP_SCHEDULE_DELAY", "200");
}

async fn listening(process: &mut Process) -> String {
    let address = process.says("where it listens", |text| {
        let (_, rest) = text.split_once("listening ")?;
        Some(rest.split_once('\n')?.0.trim().to_owned())
    });
    format!("http://{}", address.await)
}
