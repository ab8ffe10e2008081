//! [`Program`]: tracestitch itself, as a process.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::trace::v1::Span;
use tracestitch::demo::sender::Sender;

/// Killed when a test fails.
pub(crate) struct Program {
    process: Child,
    lines: Arc<Mutex<String>>,
    _directory: tempfile::TempDir,
}

impl Program {
    /// With this configuration, whose logs are JSON.
    pub(crate) fn run(yaml: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("config.yaml");
        std::fs::write(&config, yaml).expect("a file");
        let mut process = Command::new(env!("CARGO_BIN_EXE_tracestitch"))
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lines = Arc::new(Mutex::new(String::new()));
        let (stderr, kept) = (process.stderr.take().expect("a pipe"), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().expect("no panics").push_str(&(line + "\n"));
            }
        });
        Self { process, lines, _directory: directory }
    }

    /// Standard error so far.
    pub(crate) fn said(&self) -> String {
        self.lines.lock().expect("no panics").clone()
    }

    /// Where it takes OTLP/gRPC, from its log.
    pub(crate) async fn grpc(&self) -> SocketAddr {
        super::until("it is ready", || self.said().contains("tracestitch is ready")).await;
        let said = self.said();
        let mut events = said.lines().filter_map(|line| serde_json::from_str(line).ok());
        let line = events.find(|line: &serde_json::Value| line["protocol"] == "gRPC");
        let address = line.as_ref().and_then(|line| line["address"].as_str());
        address.and_then(|address| address.parse().ok()).expect("it says where it listens")
    }

    /// One of three spans.
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
