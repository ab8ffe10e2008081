//! A loopback OTLP backend: it keeps what it is given, and can be a bad one.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span,
};
use parking_lot::Mutex;
use prost::Message;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding,
    metadata::MetadataMap,
    transport::{Server, server::TcpIncoming},
};

use crate::wire::{
    Encoding, PartialSuccess,
    otlp::trace_service_server::{TraceService, TraceServiceServer},
};

/// As OTLP recommends.
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What is wrong with the backend.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum BackendFault {
    /// Nothing.
    #[default]
    None,
    /// Every request is answered with UNAVAILABLE.
    Unavailable,
    /// Every request is refused for good.
    Refuses,
    /// Every answer comes this much later.
    Slow(Duration),
    /// Requests of more bytes are refused, in the words of grpc-go.
    Limited(usize),
    /// So many spans of each request are refused by partial success.
    Partial(u64),
}

/// A running backend.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    kept: Arc<Kept>,
    closing: watch::Sender<bool>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Kept {
    requests: Mutex<Vec<Received>>,
    spans: AtomicU64,
    keep: std::sync::atomic::AtomicBool,
    fault: Mutex<BackendFault>,
}

/// One request that was taken.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its body.
    pub body: Bytes,
    /// Its headers.
    pub headers: MetadataMap,
}

impl Backend {
    /// Listens on loopback; port 0 takes any.
    pub async fn start(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let kept = Arc::new(Kept::default());
        kept.keep.store(true, Relaxed);
        let (closing, mut closed) = watch::channel(false);
        let service = TraceServiceServer::new(Service { kept: Arc::clone(&kept) })
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        let serve = Server::builder().add_service(service).serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            async move {
                // An error means that nobody can close it any more.
                let _closed = closed.wait_for(|closed| *closed).await;
            },
        );
        let server = tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::warn!(%error, "the backend ended badly");
            }
        });
        Ok(Self { address, kept, closing, server })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this is wrong.
    pub fn set_fault(&self, fault: BackendFault) {
        *self.kept.fault.lock() = fault;
    }

    /// Keeps counting, but no bodies: for long runs.
    pub fn forget(&self) {
        self.kept.keep.store(false, Relaxed);
        self.kept.requests.lock().clear();
    }

    /// All requests taken.
    pub fn received(&self) -> Vec<Received> {
        self.kept.requests.lock().clone()
    }

    /// All that was taken, as one request.
    pub fn traces(&self) -> ExportTraceServiceRequest {
        let bodies = self.received();
        let requests = bodies
            .iter()
            .filter_map(|request| ExportTraceServiceRequest::decode(request.body.clone()).ok());
        let resource_spans = requests.flat_map(|request| request.resource_spans).collect();
        ExportTraceServiceRequest { resource_spans }
    }

    /// All spans taken, with the name of their scope.
    pub fn spans(&self) -> Vec<(String, Span)> {
        let scopes =
            self.traces().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        let named = scopes.flat_map(|scope| {
            let name = scope.scope.unwrap_or_default().name;
            scope.spans.into_iter().map(move |span| (name.clone(), span))
        });
        named.collect()
    }

    /// How many spans were taken.
    pub fn span_count(&self) -> u64 {
        self.kept.spans.load(Relaxed)
    }

    /// Ends it and gives the address back.
    pub async fn stop(self) {
        self.closing.send_replace(true);
        let mut server = self.server;
        if tokio::time::timeout(Duration::from_secs(1), &mut server).await.is_err() {
            server.abort();
        }
    }
}

struct Service {
    kept: Arc<Kept>,
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let fault = self.kept.fault.lock().clone();
        let mut answer = Bytes::new();
        match fault {
            BackendFault::None => {}
            BackendFault::Unavailable => return Err(Status::unavailable("down for a while")),
            BackendFault::Refuses => return Err(Status::invalid_argument("never")),
            BackendFault::Limited(bytes) => within(bytes, request.get_ref())?,
            BackendFault::Slow(delay) => tokio::time::sleep(delay).await,
            BackendFault::Partial(rejected_spans) => {
                let message = "too old".to_owned();
                let partial = PartialSuccess { rejected_spans, message };
                answer = partial.response(Encoding::Protobuf);
            }
        }
        let headers = request.metadata().clone();
        let body = request.into_inner();
        let decoded = ExportTraceServiceRequest::decode(body.clone())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let scopes = decoded.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
        self.kept.spans.fetch_add(u64::try_from(spans).unwrap_or(0), Relaxed);
        if self.kept.keep.load(Relaxed) {
            self.kept.requests.lock().push(Received { body, headers });
        }
        Ok(Response::new(answer))
    }
}

fn within(bytes_max: usize, body: &Bytes) -> Result<(), Status> {
    if body.len() <= bytes_max {
        return Ok(());
    }
    let bytes = body.len();
    Err(Status::resource_exhausted(format!(
        "grpc: received message larger than max ({bytes} vs. {bytes_max})"
    )))
}
