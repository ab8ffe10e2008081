//! HTTP for probes and people: `/livez`, `/readyz`, `/metrics`, `/ledger`, `/traces`. It only looks.

mod ledger;
mod traces;
mod visitor;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinHandle};

use self::visitor::refuse_strangers;
use crate::{
    auth::AuthConfig,
    clock,
    config::{ListenAddress, Problems},
    listen::{Limits, Listener, Streams},
    telemetry::{
        Watched,
        catalogue::{Listening, UPKEEP},
    },
    tls::{Alpn, Reloads, ServerTls, ServerTlsConfig, TlsError},
    watchdog::Beat,
};

/// The admin pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen; 0.0.0.0:13133 for all interfaces. /livez, /readyz, /metrics, /ledger, /traces.
    pub endpoint: ListenAddress,
    /// TLS. Without cert_file and key_file: plain text.
    pub tls: ServerTlsConfig,
    /// Who may look at more than /livez, /readyz and /metrics. Without tokens only who is on this machine, and asks for
    /// localhost or an address of loopback: where endpoint is none, nobody.
    pub auth: AuthConfig,
    /// So many of the last released traces can be looked at: /traces, `tracestitch explain trace ID`. Of more than 1000 a
    /// second (or more than this) only the first ones are. Each takes less than 1 KiB of memory.limit. 0 remembers none.
    pub recent_traces: usize,
}

/// About 75 MiB.
const RECENT_TRACES_MAX: usize = 100_000;

impl Config {
    /// Notes what can't be used.
    pub fn check(&self, problems: &mut Problems) {
        problems.within("tls", |problems| self.tls.check(problems));
        problems.within("auth", |problems| self.auth.check(problems));
        if self.recent_traces > RECENT_TRACES_MAX {
            problems.push(
                "recent_traces",
                format!("must be at most {RECENT_TRACES_MAX}"),
                Some("1000 is the default"),
            );
        }
    }
}

impl Config {
    /// Notes which doors are open, or shut by mistake.
    pub fn warn(&self, problems: &mut Problems) {
        problems.within("auth", |problems| self.auth.warn(problems));
        if self.endpoint.is_loopback() {
            return;
        }
        if !self.auth.is_on() {
            let hint = Some("set admin.auth.tokens");
            problems.push("auth.tokens", "beyond loopback nobody sees /ledger and /traces", hint);
        } else if !self.tls.is_on() {
            let problem = "tokens come in plain text, anybody on the way can read them";
            problems.push("tls", problem, Some("set cert_file and key_file"));
        }
    }
}

fn default_address() -> ListenAddress {
    "127.0.0.1:13133".parse().expect("the default address is one")
}

impl Default for Config {
    fn default() -> Self {
        let tls = ServerTlsConfig::default();
        let auth = AuthConfig::default();
        Self { endpoint: default_address(), tls, auth, recent_traces: 1000 }
    }
}

/// Probes, a Prometheus or two, a few people.
const LIMITS: Limits = Limits {
    connections: 256,
    streams: Streams::LEAST,
    head_wait: Duration::from_secs(20),
    idle_wait: Duration::from_mins(2),
    age: None,
};
/// For answers under way when the pages end.
const STOP_WAIT: Duration = Duration::from_millis(200);

/// Pages that can't be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Mostly another program listens there already.
    #[error("cannot listen on {address} for the admin pages")]
    Listen {
        /// From the configuration.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// A file of `admin.tls` can't be used.
    #[error("cannot serve the admin pages by TLS")]
    Tls(#[source] TlsError),
}

/// The served pages.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    closing: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Clone)]
struct Pages {
    watched: Watched,
    ready: Arc<AtomicBool>,
    recent_traces: usize,
    auth: Arc<AuthConfig>,
    is_loopback: bool,
}

impl Admin {
    /// Serves the pages, not ready at first.
    pub async fn start(
        config: &Config,
        watched: Watched,
        reloads: &Reloads,
    ) -> Result<Self, StartError> {
        let tls = ServerTls::new(&config.tls, Alpn::Any, Listening::Admin.label(), reloads)
            .map_err(StartError::Tls)?;
        let failed = |source| StartError::Listen { address: config.endpoint.to_string(), source };
        let of = Listening::Admin;
        let listener = Listener::bind(&config.endpoint, tls, LIMITS, &watched.metrics, of);
        let listener = listener.await.map_err(failed)?;
        let (address, tls) = (listener.address(), listener.is_tls());
        let ready = Arc::new(AtomicBool::new(false));
        let metrics = Arc::clone(&watched.metrics);
        let watchdog = Arc::clone(&watched.watchdog);
        let pages = Pages {
            watched,
            ready: Arc::clone(&ready),
            recent_traces: config.recent_traces,
            auth: Arc::new(config.auth.clone()),
            is_loopback: address.ip().is_loopback(),
        };
        let router = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics_page))
            .route("/ledger", get(ledger::page))
            .route("/traces", get(traces::list))
            .route("/traces/{id}", get(traces::one))
            .layer(middleware::from_fn_with_state(pages.clone(), refuse_strangers))
            .with_state(pages);
        let (closing, closed) = watch::channel(false);
        let serve = |beat: Beat| async move {
            beat.during(listener.serve(router, Body::new, closed)).await;
        };
        let serve = tokio::spawn(watchdog.supervise("admin pages", serve));
        let upkeep = |beat: Beat| async move {
            let mut due = tokio::time::interval(UPKEEP);
            loop {
                due.tick().await;
                metrics.upkeep();
                beat.beat();
            }
        };
        let upkeep = tokio::spawn(watchdog.supervise("metrics upkeep", upkeep));
        tracing::info!(%address, tls, "serving /livez, /readyz, /metrics, /ledger, /traces");
        Ok(Self { address, ready, closing, tasks: [serve, upkeep] })
    }

    /// Where the pages are.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `/readyz` says.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Relaxed);
    }

    /// Ends the pages.
    pub async fn stop(self) {
        self.closing.send_replace(true);
        let [mut serve, upkeep] = self.tasks;
        // Who is being answered gets his answer.
        if tokio::time::timeout(STOP_WAIT, &mut serve).await.is_ok() {
            upkeep.abort();
            return;
        }
        for task in [serve, upkeep] {
            task.abort();
            // Cancelled, as it should be.
            let _cancelled = task.await;
        }
    }
}

/// A task that hangs or is gone does not come back: only a restart helps.
async fn livez(State(pages): State<Pages>) -> Response {
    let watchdog = &pages.watched.watchdog;
    let stuck = watchdog.stuck(clock::now()).into_iter().map(|stuck| {
        format!("task {} is stuck: not a beat for {} s", stuck.task, stuck.silent.as_secs())
    });
    let gone = watchdog.failure().map(|fatal| fatal.to_string());
    let ill: Vec<String> = gone.into_iter().chain(stuck).collect();
    if ill.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, ill.join("\n") + "\n").into_response()
}

async fn readyz(State(pages): State<Pages>) -> Response {
    let unready = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response();
    if !pages.ready.load(Relaxed) {
        return unready("starting or shutting down");
    }
    match pages.watched.failure() {
        Some(failure) => unready(&format!("the journal keeps nothing any more: {failure}")),
        None => "ready\n".into_response(),
    }
}

async fn metrics_page(State(pages): State<Pages>) -> Response {
    let text_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, text_type)], pages.watched.render()).into_response()
}

/// A page of texts and numbers: writing it can't fail.
fn json(page: &impl Serialize) -> Response {
    let json = serde_json::to_string_pretty(page).unwrap_or_default() + "\n";
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}
