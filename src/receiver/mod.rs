//! Where spans come in: OTLP over gRPC and HTTP. A request is scanned, never decoded (JSON becomes protobuf first), and
//! answered when its spans are safe.

mod answer;
mod cors;
mod door;
mod metered;
mod otlp_grpc;
mod otlp_http;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{
    clock,
    config::{ByteSize, ListenAddress, Problems, UrlPath},
    memory::Budget,
    telemetry::Metrics,
    trace::{HEADERS_MAX, Intake},
    watchdog::{Beat, Watchdog},
};
pub use cors::CorsConfig;
pub use door::Door;

/// What spans come in by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// OTLP, from SDKs and Collectors.
    pub otlp: OtlpConfig,
}

/// The OTLP receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// Only the protocols named here are served.
    pub protocols: Protocols,
    /// Largest request after decompression; larger ones are refused for good.
    pub max_request_size: ByteSize,
    /// Request headers (at most 4) that tell tenants apart: traces with different values never mix. Their values can
    /// be used as ${origin:NAME} in headers of exporters and of completion.
    pub include_metadata: Vec<String>,
}

/// The protocols of the OTLP receiver.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Protocols {
    /// OTLP/gRPC, with gzip and zstd, and gRPC health.
    #[serde(default)]
    pub grpc: Option<GrpcConfig>,
    /// OTLP/HTTP with protobuf or JSON, and with gzip, zstd and deflate.
    #[serde(default)]
    pub http: Option<HttpConfig>,
}

/// OTLP/gRPC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcConfig {
    /// Where to listen; 0.0.0.0:4317 for all interfaces.
    pub endpoint: ListenAddress,
}

/// OTLP/HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where to listen; 0.0.0.0:4318 for all interfaces.
    pub endpoint: ListenAddress,
    /// Path at which traces are taken.
    pub traces_url_path: UrlPath,
    /// Pages that may send from a browser; none without this.
    pub cors: Option<CorsConfig>,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        let protocols =
            Protocols { grpc: Some(GrpcConfig::default()), http: Some(HttpConfig::default()) };
        Self { protocols, max_request_size: ByteSize::from_mib(64), include_metadata: Vec::new() }
    }
}

fn address(text: &str) -> ListenAddress {
    text.parse().expect("the default address is one")
}

fn path(text: &str) -> UrlPath {
    text.parse().expect("the default path is one")
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self { endpoint: address("127.0.0.1:4317") }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            endpoint: address("127.0.0.1:4318"),
            traces_url_path: path("/v1/traces"),
            cors: None,
        }
    }
}

impl Config {
    /// Notes what can't be used.
    pub fn check(&self, problems: &mut Problems) {
        problems.within("otlp", |problems| self.otlp.check(problems));
    }
}

impl OtlpConfig {
    fn check(&self, problems: &mut Problems) {
        let Protocols { grpc, http } = &self.protocols;
        if grpc.is_none() && http.is_none() {
            problems.push("protocols", "no protocol to receive by", Some("add grpc: or http:"));
        }
        if let (Some(grpc), Some(http)) = (grpc, http)
            && grpc.endpoint == http.endpoint
            && !grpc.endpoint.as_str().ends_with(":0")
        {
            let hint = Some("OTLP/HTTP is usually at port 4318");
            problems.push("protocols.http.endpoint", "the same address as gRPC's", hint);
        }
        if let Some(cors) = http.as_ref().and_then(|http| http.cors.as_ref()) {
            problems.within("protocols.http.cors", |problems| cors.check(problems));
        }
        if self.max_request_size.get() < 1024 || self.max_request_size > ByteSize::from_mib(1024) {
            problems.push("max_request_size", "must be between 1KiB and 1GiB", None);
        }
        if self.include_metadata.len() > HEADERS_MAX {
            let hint = Some("each combination of values is kept apart");
            problems.push("include_metadata", format!("more than {HEADERS_MAX} headers"), hint);
        }
        for (index, name) in self.include_metadata.iter().enumerate() {
            if name.parse::<http::HeaderName>().is_err() || name.ends_with("-bin") {
                problems.push(
                    &format!("include_metadata.{index}"),
                    format!("`{name}` is no name of a text header"),
                    None,
                );
            }
        }
    }
}

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
    /// Listens, and hands what comes to `intake`.
    pub async fn start(
        config: &Config,
        intake: Arc<dyn Intake>,
        budget: Arc<Budget>,
        metrics: Arc<Metrics>,
        watchdog: &Arc<Watchdog>,
    ) -> Result<Self, StartError> {
        let OtlpConfig { protocols, .. } = &config.otlp;
        let door = Arc::new(Door::new(&config.otlp, intake, budget, metrics));
        let (closing, closed) = watch::channel(false);
        let mut receivers = Self { grpc: None, http: None, closing, door, tasks: Vec::new() };
        // Both listen before either serves: a program that can't start takes no spans.
        let grpc = match &protocols.grpc {
            Some(grpc) => Some(listen(&grpc.endpoint, "gRPC").await?),
            None => None,
        };
        let http = match &protocols.http {
            Some(http) => Some(listen(&http.endpoint, "HTTP").await?),
            None => None,
        };
        if let Some((listener, address)) = grpc {
            receivers.grpc = Some(address);
            let serve = otlp_grpc::serve(listener, Arc::clone(&receivers.door), closed.clone());
            receivers.tasks.push(supervise(watchdog, "gRPC", serve));
        }
        if let (Some((listener, address)), Some(config)) = (http, &protocols.http) {
            receivers.http = Some(address);
            let router = otlp_http::router(config, Arc::clone(&receivers.door));
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

async fn listen(
    address: &ListenAddress,
    protocol: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address: address.to_string(), protocol, source };
    let listener = TcpListener::bind(address.as_str()).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    tracing::info!(address = %local, protocol, "receiving OTLP");
    Ok((listener, local))
}

async fn closed(mut closing: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is closing, too.
    let _ended = closing.wait_for(|closing| *closing).await;
}
