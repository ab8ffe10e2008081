//! Where spans come in: OTLP over gRPC and HTTP. A request is scanned, never decoded (JSON becomes protobuf first), and
//! answered when its spans are safe.

mod answer;
mod coding;
mod config;
mod cors;
mod door;
mod held;
mod otlp_grpc;
mod otlp_http;
mod passage;
mod reading;
mod rest;
mod room;
mod services;
mod signals;
mod stranger;
mod unpack;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use crate::{
    clock,
    config::ListenAddress,
    listen::{Limits, Listener, Streams},
    memory::Budget,
    telemetry::{Metrics, catalogue::Listening},
    tls::{Alpn, Reloads, ServerTls, ServerTlsConfig, TlsError},
    trace::{Intake, Relay},
    watchdog::{Beat, Watchdog},
};
pub use config::{Config, GrpcConfig, GrpcKeepaliveConfig, HttpConfig, OtlpConfig, Protocols};
pub use cors::CorsConfig;
pub use door::Door;
use passage::Passage;
use services::Services;

/// A receiver that can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Mostly another program listens there already, or the address is not one of this machine.
    #[error("cannot listen on {address} for OTLP/{protocol}")]
    Listen {
        /// From the configuration.
        address: String,
        /// gRPC or HTTP.
        protocol: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file of `tls` can't be used.
    #[error("cannot receive OTLP/{protocol} by TLS")]
    Tls {
        /// gRPC or HTTP.
        protocol: &'static str,
        /// Which file, and why.
        source: TlsError,
    },
}

/// Running receivers.
#[derive(Debug)]
pub struct Receivers {
    /// Where gRPC listens; `None` when it is not configured.
    pub grpc: Option<SocketAddr>,
    /// Where HTTP listens; `None` when it is not configured.
    pub http: Option<SocketAddr>,
    closing: watch::Sender<bool>,
    door: Arc<Door>,
    tasks: Vec<JoinHandle<()>>,
}

/// Requests under way may take this long to end when receivers close.
const CLOSE_GRACE: Duration = Duration::from_millis(1500);

impl Receivers {
    /// Listens, hands traces to `intake` and passes metrics and logs to `relay`.
    pub async fn start(
        config: &Config,
        (intake, relay): (Arc<dyn Intake>, Option<Arc<dyn Relay>>),
        budget: Arc<Budget>,
        metrics: &Arc<Metrics>,
        watchdog: &Arc<Watchdog>,
        reloads: &Reloads,
    ) -> Result<Self, StartError> {
        let Protocols { grpc, http } = &config.otlp.protocols;
        let streams = Streams::within(budget.limit_bytes());
        // Both listen before either serves: a program that can't start takes no spans.
        let grpc = match grpc {
            Some(grpc) => {
                // Who has HTTP/1 alone is told what is wrong.
                let tls = tls(&grpc.tls, Alpn::Any, Listening::Grpc, reloads)?;
                Some(
                    listen(&grpc.endpoint, tls, grpc.limits(streams), metrics, Listening::Grpc)
                        .await?,
                )
            }
            None => None,
        };
        let http = match http {
            Some(http) => {
                let tls = tls(&http.tls, Alpn::Any, Listening::Http, reloads)?;
                Some(
                    listen(&http.endpoint, tls, http.limits(streams), metrics, Listening::Http)
                        .await?,
                )
            }
            None => None,
        };
        let door = Arc::new(Door::new(&config.otlp, intake, budget, Arc::clone(metrics)));
        let passage = Arc::new(Passage::new(relay, Arc::clone(&door)));
        let (closing, closed) = watch::channel(false);
        let mut receivers = Self {
            grpc: grpc.as_ref().map(Listener::address),
            http: http.as_ref().map(Listener::address),
            closing,
            door,
            tasks: Vec::new(),
        };
        if let (Some(listener), Some(config)) = (grpc, &config.otlp.protocols.grpc) {
            let services = Services { reflection: config.reflection };
            let serve = otlp_grpc::serve(listener, Arc::clone(&passage), services, closed.clone());
            receivers.tasks.push(supervise(watchdog, "gRPC", serve));
        }
        if let (Some(listener), Some(config)) = (http, &config.otlp.protocols.http) {
            let router = otlp_http::router(config, &passage);
            let serve = otlp_http::serve(listener, router, closed);
            receivers.tasks.push(supervise(watchdog, "HTTP", serve));
        }
        Ok(receivers)
    }

    /// Takes no new requests, and waits for those under way.
    pub async fn close(self) {
        self.door.close();
        self.closing.send_replace(true);
        let end = clock::now() + CLOSE_GRACE;
        for task in self.tasks {
            let abort = task.abort_handle();
            if tokio::time::timeout_at(end, task).await.is_err() {
                abort.abort();
            }
        }
    }
}

/// The server's loop is polled where the beats come from: one that hangs stops them.
fn supervise(
    watchdog: &Arc<Watchdog>,
    protocol: &str,
    serve: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let work = |beat: Beat| async move { beat.during(serve).await };
    tokio::spawn(watchdog.supervise(&format!("receiver OTLP/{protocol}"), work))
}

fn protocol(of: Listening) -> &'static str {
    if of == Listening::Grpc { "gRPC" } else { "HTTP" }
}

fn tls(
    config: &ServerTlsConfig,
    alpn: Alpn,
    of: Listening,
    reloads: &Reloads,
) -> Result<Option<ServerTls>, StartError> {
    ServerTls::new(config, alpn, of.label(), reloads)
        .map_err(|source| StartError::Tls { protocol: protocol(of), source })
}

async fn listen(
    address: &ListenAddress,
    tls: Option<ServerTls>,
    limits: Limits,
    metrics: &Arc<Metrics>,
    of: Listening,
) -> Result<Listener, StartError> {
    let protocol = protocol(of);
    let failed = |source| StartError::Listen { address: address.to_string(), protocol, source };
    let listener = Listener::bind(address, tls, limits, metrics, of).await.map_err(failed)?;
    let (address, tls) = (listener.address(), listener.is_tls());
    tracing::info!(%address, protocol, tls, "receiving OTLP");
    Ok(listener)
}
