//! [`Tracestitch`]: the real program as users run it.

use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    lock::Lock,
    loopback::{get, until},
    process::{Process, command},
};

const SETTLE_PATIENCE: Duration = Duration::from_secs(30);

/// A running `tracestitch run`.
#[derive(Debug)]
pub(crate) struct Tracestitch {
    process: Process,
    grpc: String,
    http: String,
    admin: String,
    /// Its configuration file and its journal are in here.
    _folder: TempDir,
}

/// Longer than a sender on a busy machine lets pass between two requests: a trace that came in parts has another tree.
const QUIET: &str = "3s";

impl Tracestitch {
    /// Starts it between a DeepFlow and a backend, with shortened waits. Behind a lock its receiver has TLS and tokens.
    pub(crate) async fn start(deepflow: &str, backend: &str, lock: Option<&Lock>) -> Self {
        let exporters = format!("otlp/backend: {{endpoint: '{backend}'}}");
        Self::start_with(deepflow, &exporters, lock).await
    }

    /// The same with other exporters, as YAML.
    pub(crate) async fn start_with(deepflow: &str, exporters: &str, lock: Option<&Lock>) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let state = folder.path().display();
        let scheme = if lock.is_some() { "https" } else { "http" };
        let (tls, auth) = lock.map(|lock| (lock.tls(), lock.auth())).unwrap_or_default();
        let door = format!("{{endpoint: '127.0.0.1:0', tls: {{{tls}}}}}");
        let config = format!(
            "
receivers: {{otlp: {{protocols: {{grpc: {door}, http: {door}}}, auth: {{{auth}}}}}}}
memory: {{limit: 256MiB}}
buffer: {{idle: {QUIET}, max_age: 20s, journal: {{directory: '{state}/journal'}}}}
completion: {{deepflow: {{endpoint: '{deepflow}', reask: [1s, 2s], max_wait: 20s, deadline: 30s}}}}
exporters: {{{exporters}}}
dead_letter: {{directory: '{state}/dead-letter'}}
admin: {{endpoint: '127.0.0.1:0'}}
logs: {{format: json}}
shutdown: {{drain_timeout: 5s}}
"
        );
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, config).expect("a configuration file");
        let mut run = command(env!("CARGO_BIN_EXE_tracestitch"));
        let mut process = Process::start("tracestitch", run.arg("run").arg("--config").arg(&file));
        process.says("ready", |log| log.contains("tracestitch is ready").then_some(())).await;
        let log = process.stderr();
        let url = |scheme: &str, word: &str, value: &str| {
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut lines = lines.filter(|line| line[word].as_str() == Some(value));
            let line = lines.next().unwrap_or_else(|| panic!("no address of {value} in the log"));
            format!("{scheme}://{}", line["address"].as_str().expect("an address"))
        };
        let (grpc, http) = (url(scheme, "protocol", "gRPC"), url(scheme, "protocol", "HTTP"));
        let admin = url("http", "target", "tracestitch::admin");
        Self { process, grpc, http, admin, _folder: folder }
    }

    /// Where OTLP/gRPC is taken.
    pub(crate) fn grpc(&self) -> &str {
        &self.grpc
    }

    /// Where OTLP/HTTP is taken.
    pub(crate) fn http(&self) -> &str {
        &self.http
    }

    /// Waits until so many spans have come in and all have gone out.
    pub(crate) async fn has_delivered(&self, spans: u64) {
        let what = format!("{spans} spans are delivered");
        until(&what, SETTLE_PATIENCE, async || {
            let books = self.books().await;
            let is = |key: &str, value: u64| books[key].as_u64() == Some(value);
            (is("accepted", spans) && is("delivered", spans) && is("held", 0)).then_some(())
        })
        .await;
    }

    /// Spans accepted so far.
    pub(crate) async fn accepted(&self) -> u64 {
        self.books().await["accepted"].as_u64().expect("a number")
    }

    async fn books(&self) -> Value {
        let page = get(&format!("{}/ledger", self.admin)).await.expect("the ledger");
        let page: Value = serde_json::from_str(&page).expect("JSON");
        assert_eq!(page["balanced"], true, "{page}");
        page["destinations"][0].clone()
    }

    /// Ends it as an orchestrator does.
    pub(crate) fn end(mut self) {
        let status = self.process.end();
        assert!(status.success(), "tracestitch ended with {status}");
    }
}
