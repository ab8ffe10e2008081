//! [`Program`]: tracestitch itself, as a process.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus},
};

use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value;
use tracestitch::demo::sender::Sender;

/// Killed when a test fails.
pub(crate) struct Program {
    process: Child,
    /// Its standard error.
    log: PathBuf,
    _directory: tempfile::TempDir,
}

impl Program {
    /// With this configuration, whose logs are JSON.
    pub(crate) fn run(yaml: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("config.yaml");
        fs::write(&config, yaml).expect("a file");
        let log = directory.path().join("log");
        let process = Command::new(env!("CARGO_BIN_EXE_tracestitch"))
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("the program starts");
        Self { process, log, _directory: directory }
    }

    /// Standard error so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).expect("a file")
    }

    /// The lines of its log.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.said().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Where it takes OTLP/gRPC, from its log.
    pub(crate) async fn grpc(&self) -> SocketAddr {
        super::until("it is ready", || self.said().contains("tracestitch is ready")).await;
        let line = self.events().into_iter().find(|line| line["protocol"] == "gRPC");
        let address = line.as_ref().and_then(|line| line["address"].as_str());
        address.and_then(|address| address.parse().ok()).expect("it says where it listens")
    }

    /// Sends one of three spans, and gives them.
    pub(crate) async fn send_a_trace(&self) -> Vec<Span> {
        let sender = Sender::to(self.grpc().await).expect("an address");
        let request = super::trace(1, 3);
        sender.send(&request).await.expect("the request is taken");
        super::spans_of(&request)
    }

    pub(crate) fn terminate(&self) {
        let kill = format!("kill -TERM {}", self.process.id());
        let status = Command::new("sh").arg("-c").arg(kill).status().expect("a shell");
        assert!(status.success());
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        let ended = || {
            status = self.process.try_wait().expect("our own child");
            status.is_some()
        };
        super::until("the program ends", ended).await;
        status.expect("it ended")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Mostly it ended before.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
