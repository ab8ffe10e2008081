//! [`Program`]: a running tracestitch, as a process that can be killed.

use std::{
    env,
    fs::{self, File},
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;
use tracestitch::clock;

use crate::child::{ROLE, Role};

/// For whatever has to happen; far more than it takes, for slow machines.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running process; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

/// Where a program listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) grpc: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Program {
    /// The binary that users run.
    pub(crate) fn real(config: &Path, log: PathBuf) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracestitch"));
        command.arg("run").arg("--config").arg(config);
        Self::spawn(&mut command, log)
    }

    /// The same pipeline with small segments, in this test's own binary.
    pub(crate) fn stepped(role: &Role, log: PathBuf) -> Self {
        let file = log.with_extension("role");
        let text = serde_json::to_string(role).expect("a role is JSON");
        fs::write(&file, text).expect("a file");
        let mut command = Command::new(env::current_exe().expect("this test's binary"));
        command.env(ROLE, file);
        command.args(["--ignored", "--exact", "--nocapture", "child::program_with_small_segments"]);
        Self::spawn(&mut command, log)
    }

    fn spawn(command: &mut Command, log: PathBuf) -> Self {
        let file = File::create(&log).expect("a file");
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().expect("the program starts");
        Self { child, log }
    }

    /// Waits until it takes spans; `None` if it ends before.
    pub(crate) async fn ready(&mut self) -> Option<Addresses> {
        let end = clock::now() + PATIENCE;
        while clock::now() < end {
            if self.said().contains("tracestitch is ready") {
                let grpc = self.address("protocol", "gRPC");
                let admin = self.address("target", "tracestitch::admin");
                return Some(Addresses { grpc, admin });
            }
            if self.has_ended().is_some() {
                return None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("not ready within {PATIENCE:?}: {}", self.said());
    }

    fn address(&self, word: &str, value: &str) -> SocketAddr {
        let said = self.said();
        let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut lines = lines.filter(|line| line[word].as_str() == Some(value));
        let address = lines.find_map(|line| line["address"].as_str()?.parse().ok());
        address.unwrap_or_else(|| panic!("no address of {value} in {said}"))
    }

    /// Standard error so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).expect("the log")).into_owned()
    }

    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// By kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("our own child");
        let status = self.child.wait().expect("our own child");
        assert_eq!(status.signal(), Some(9), "it ran until now: {}", self.said());
    }

    /// By SIGTERM; how it ended and how long that took.
    pub(crate) async fn terminate(mut self) -> (ExitStatus, Duration) {
        let id = self.child.id().to_string();
        let asked = clock::now();
        let status = Command::new("kill").args(["-TERM", &id]).status().expect("there is kill");
        assert!(status.success(), "it runs");
        (self.ended().await, clock::now().saturating_duration_since(asked))
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let end = clock::now() + PATIENCE;
        loop {
            if let Some(status) = self.has_ended() {
                return status;
            }
            assert!(clock::now() < end, "it does not end: {}", self.said());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Most memory that was ever resident.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("the peak in KiB") * 1024
    }

    /// What is wrong by its log.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let said = self.said();
        let is_bad = |line: &&str| line.contains("panicked") || line.contains("\"ERROR\"");
        said.lines().filter(is_bad).map(str::to_owned).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Mostly it ended before.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let said = self.said();
            let from = said.len().saturating_sub(4000);
            eprintln!("── the program, at last\n{}", said.get(from..).unwrap_or(&said));
        }
    }
}

impl Addresses {
    /// An admin page.
    pub(crate) async fn page(&self, path: &str) -> Option<String> {
        tracestitch::tls::install_provider();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build();
        let client = client.expect("a client without certificates");
        let answer = client.get(format!("http://{}{path}", self.admin)).send().await.ok()?;
        answer.text().await.ok()
    }

    /// The books of all destinations, which must balance.
    pub(crate) async fn books(&self) -> Option<Vec<Value>> {
        let page: Value = serde_json::from_str(&self.page("/ledger").await?).expect("JSON");
        assert_eq!(page["balanced"], true, "{page}");
        page["destinations"].as_array().cloned()
    }

    /// The sum of all series of this metric.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let page = self.page("/metrics").await.expect("the metrics");
        let values = page.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let is_it = rest.starts_with(['{', ' ']);
            is_it.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        values.sum()
    }
}
