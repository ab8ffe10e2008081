//! [`Sdk`]: in each language a program that sends 12 traces of 5 spans through the real SDK, and tells what it sent.

use std::{fmt, process::Command, time::Duration};

use serde_json::Value;

use crate::{
    lock::Lock,
    parts::{Part, Parts, here},
    process::{Process, command},
    told::told,
};

const PATIENCE: Duration = Duration::from_mins(1);

/// Whose SDK.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sdk {
    Go,
    Java,
    Node,
    Python,
}

impl Sdk {
    /// What it is made of.
    pub(crate) fn part(self) -> Part {
        match self {
            Self::Go => Part::Go,
            Self::Java => Part::Java,
            Self::Node => Part::Node,
            Self::Python => Part::Python,
        }
    }

    /// Sends with gzip, `protocol` in the words of `OTEL_EXPORTER_OTLP_PROTOCOL`; gives what was sent.
    pub(crate) async fn sends(
        self,
        parts: &Parts,
        protocol: &str,
        url: &str,
        lock: Option<&Lock>,
    ) -> Vec<Value> {
        let mut sender = self.command(parts);
        sender
            .env("OTEL_SERVICE_NAME", "sender")
            .env("OTEL_METRICS_EXPORTER", "none")
            .env("OTEL_LOGS_EXPORTER", "none")
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
            .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
        if let Some(lock) = lock {
            let header = format!("authorization=Bearer%20{}", lock.token);
            sender
                .env("OTEL_EXPORTER_OTLP_CERTIFICATE", lock.ca_file())
                .env("OTEL_EXPORTER_OTLP_HEADERS", header);
        }
        let mut process = Process::start("the sender", &mut sender);
        let status = process.ends(PATIENCE).await;
        // SDKs end well although they could not send; shown if the test fails.
        eprintln!("── the sender, stderr\n{}", process.stderr());
        assert!(status.success(), "the sender of {self} ended with {status}");
        told(&process.stdout())
    }

    fn command(self, parts: &Parts) -> Command {
        match self {
            Self::Go => command(parts.path("go/sender")),
            Self::Java => {
                let mut java = command("java");
                // The first two make it start sooner.
                java.args(["-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp"]);
                let (classes, libraries) = (parts.path("java"), parts.path("java/lib/*"));
                java.arg(format!("{}:{}", classes.display(), libraries.display())).arg("Sender");
                java
            }
            Self::Node => {
                let mut node = command("node");
                node.arg(here("node/sender.js"));
                node.env("NODE_PATH", parts.path("node/node_modules"));
                node
            }
            Self::Python => {
                let mut python = command(parts.path("python/venv/bin/python"));
                python.arg(here("python/sender.py")).env("PYTHONDONTWRITEBYTECODE", "1");
                python
            }
        }
    }
}

impl fmt::Display for Sdk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.part().fmt(f)
    }
}
