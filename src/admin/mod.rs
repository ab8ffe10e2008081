//! HTTP for probes and people: `/livez`, `/readyz`, `/metrics`, `/ledger`. It only looks.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    config::ListenAddress,
    ledger::{Books, DropReason},
    telemetry::{Watched, catalogue::UPKEEP},
};

/// The admin pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen; 0.0.0.0:13133 for all interfaces. /livez, /readyz, /metrics, /ledger.
    pub endpoint: ListenAddress,
}

fn default_address() -> ListenAddress {
    "127.0.0.1:13133".parse().expect("the default address is one")
}

impl Default for Config {
    fn default() -> Self {
        Self { endpoint: default_address() }
    }
}

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
}

/// The served pages.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Clone)]
struct Pages {
    watched: Watched,
    ready: Arc<AtomicBool>,
}

impl Admin {
    /// Serves the pages, not ready at first.
    pub async fn start(config: &Config, watched: Watched) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { address: config.endpoint.to_string(), source };
        let listener = TcpListener::bind(config.endpoint.as_str()).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let ready = Arc::new(AtomicBool::new(false));
        let metrics = Arc::clone(&watched.metrics);
        let pages = Pages { watched, ready: Arc::clone(&ready) };
        let router = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics_page))
            .route("/ledger", get(ledger_page))
            .with_state(pages);
        let serve = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the admin pages ended");
            }
        });
        let upkeep = tokio::spawn(async move {
            let mut due = tokio::time::interval(UPKEEP);
            loop {
                due.tick().await;
                metrics.upkeep();
            }
        });
        tracing::info!(%address, "serving /livez, /readyz, /metrics, /ledger");
        Ok(Self { address, ready, tasks: [serve, upkeep] })
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
        for task in self.tasks {
            task.abort();
            // Cancelled, as it should be.
            let _cancelled = task.await;
        }
    }
}

async fn readyz(State(pages): State<Pages>) -> Response {
    if pages.ready.load(Relaxed) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting or shutting down\n").into_response()
    }
}

async fn metrics_page(State(pages): State<Pages>) -> Response {
    let text_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, text_type)], pages.watched.render()).into_response()
}

/// One destination's books, with what does not add up.
#[derive(Debug, Serialize)]
struct Page {
    balanced: bool,
    destinations: Vec<Account>,
}

#[derive(Debug, Serialize)]
struct Account {
    destination: String,
    accepted: i64,
    delivered: i64,
    held: i64,
    dropped: std::collections::BTreeMap<&'static str, i64>,
    unaccounted: i64,
}

impl From<&Books> for Account {
    fn from(books: &Books) -> Self {
        Self {
            destination: books.destination.clone(),
            accepted: books.accepted,
            delivered: books.delivered,
            held: books.held,
            dropped: DropReason::ALL.map(|reason| (reason.label(), books.dropped(reason))).into(),
            unaccounted: books.unaccounted(),
        }
    }
}

async fn ledger_page(State(pages): State<Pages>) -> Response {
    let books = pages.watched.ledger.snapshot();
    let balanced = books.iter().all(|books| books.unaccounted() == 0);
    let page = Page { balanced, destinations: books.iter().map(Account::from).collect() };
    // Texts and numbers: this can't fail.
    let json = serde_json::to_string_pretty(&page).unwrap_or_default() + "\n";
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}
