//! [`Process`]: a child process that ends when it is dropped.

use std::{
    env,
    fs::{self, File},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tracestitch::clock;

use crate::loopback;

/// From starting to listening; a JVM on a busy machine takes a while.
const START_PATIENCE: Duration = Duration::from_mins(1);
/// From SIGTERM to SIGKILL.
const END_PATIENCE: Duration = Duration::from_secs(15);

/// A running program, and what it has printed.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    output: TempDir,
}

/// A command without whatever this shell says to OpenTelemetry, sends through proxies or trusts: for Python's requests
/// `REQUESTS_CA_BUNDLE` counts more than what it is told.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let upper = name.to_string_lossy().to_uppercase();
        let starts = ["OTEL_", "SSL_CERT_"].iter().any(|start| upper.starts_with(start));
        let ends = ["_PROXY", "_CA_BUNDLE"].iter().any(|end| upper.ends_with(end));
        if starts || ends {
            command.env_remove(name);
        }
    }
    command
}

impl Process {
    /// Starts it.
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Self {
        let output = TempDir::new().expect("a temporary folder");
        let file = |name| File::create(output.path().join(name)).expect("a file for the output");
        let command = command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot start: {error}"));
        Self { name, child, output }
    }

    /// Waits until this can be read from what it printed on both outputs.
    pub(crate) async fn says<T>(&mut self, what: &str, read: impl Fn(&str) -> Option<T>) -> T {
        let what = format!("{} says {what}", self.name);
        loopback::until(&what, START_PATIENCE, async || {
            let said = read(&(self.stdout() + &self.stderr()));
            if said.is_none() {
                self.must_run();
            }
            said
        })
        .await
    }

    /// Waits until something listens on all these ports.
    pub(crate) async fn listens(&mut self, ports: &[u16]) {
        for port in ports {
            let what = format!("{} listens on {port}", self.name);
            loopback::until(&what, START_PATIENCE, async || {
                self.must_run();
                tokio::net::TcpStream::connect((loopback::HOST, *port)).await.ok()
            })
            .await;
        }
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ends(&mut self, patience: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        let ended = async || self.child.try_wait().expect("a child");
        loopback::until(&what, patience, ended).await
    }

    /// What it has printed so far.
    pub(crate) fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// What it has complained of so far.
    pub(crate) fn stderr(&self) -> String {
        self.read("stderr")
    }

    fn read(&self, file: &str) -> String {
        let bytes = fs::read(self.output.path().join(file)).expect("the output");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child") {
            panic!("{} has ended, {status}", self.name);
        }
    }

    /// Asks it to end and waits until it has.
    pub(crate) fn end(&mut self) -> ExitStatus {
        if let Some(status) = self.child.try_wait().expect("a child") {
            return status;
        }
        // Not waited for yet, so the id is still its own.
        let terminate = ["-c", "kill -TERM \"$1\"", "sh", &self.child.id().to_string()];
        let told = Command::new("sh").args(terminate).status();
        assert!(told.is_ok_and(|told| told.success()), "{} gets no SIGTERM", self.name);
        let deadline = clock::now() + END_PATIENCE;
        while clock::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            thread::park_timeout(loopback::LOOK_EVERY);
        }
        self.child.kill().expect("a child");
        self.child.wait().expect("a child")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            eprintln!("── {}, stdout\n{}", self.name, self.stdout());
            eprintln!("── {}, stderr\n{}", self.name, self.stderr());
        }
    }
}
