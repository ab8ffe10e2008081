//! [`Sink`]: a backend that knows of every span how often it came, when, and whether it was the same each time.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value, trace::v1::Span,
};
use parking_lot::Mutex;
use prost::Message;
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding,
    transport::{Server, server::TcpIncoming},
};
use tracestitch::{
    clock::{self, Instant},
    wire::{
        otlp::trace_service_server::{TraceService, TraceServiceServer},
        splice::ORIGINAL_PARENT,
    },
};

/// A span among all: its trace's id and its own.
pub(crate) type Key = ([u8; 16], [u8; 8]);

/// A running backend. Ends with its runtime.
#[derive(Debug)]
pub(crate) struct Sink {
    address: SocketAddr,
    seen: Arc<Seen>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    down: AtomicBool,
    peers: Mutex<HashSet<SocketAddr>>,
    gone: Mutex<HashSet<SocketAddr>>,
    spans: Mutex<HashMap<Key, Arrivals>>,
}

/// One span, as often as it came.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals {
    /// Of the span as it came first.
    digest: u64,
    /// Of the same with the parent it had before, whenever it came; one if all is well.
    pub(crate) before: HashSet<u64>,
    /// It came again and was not the same.
    pub(crate) altered: bool,
    /// When it came.
    pub(crate) times: Vec<Instant>,
}

/// The key of a span of this harness, whose ids have their full length.
pub(crate) fn key(span: &Span) -> Option<Key> {
    Some((span.trace_id.as_slice().try_into().ok()?, span.span_id.as_slice().try_into().ok()?))
}

/// What two spans have in common only if they are the same.
pub(crate) fn digest(span: &Span) -> u64 {
    let mut hasher = DefaultHasher::new();
    span.encode_to_vec().hash(&mut hasher);
    hasher.finish()
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let seen = Arc::new(Seen::default());
        let service = TraceServiceServer::new(Service(Arc::clone(&seen)))
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(64 << 20);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serve = Server::builder().add_service(service).serve_with_incoming(incoming);
        let server = tokio::spawn(async move { serve.await.expect("the sink serves to its end") });
        Self { address, seen, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Down, it answers every request with UNAVAILABLE.
    pub(crate) fn set_down(&self, down: bool) {
        self.seen.down.store(down, Relaxed);
    }

    /// Who was connected is gone: what of theirs is still on its way is refused, whenever it arrives. On a busy machine
    /// that can be long after the program was killed.
    pub(crate) fn hang_up(&self) {
        self.seen.gone.lock().extend(self.seen.peers.lock().drain());
    }

    /// Takes those out that are here.
    pub(crate) fn retain_missing(&self, keys: &mut Vec<Key>) {
        let spans = self.seen.spans.lock();
        keys.retain(|key| !spans.contains_key(key));
    }

    /// All that came, by span.
    pub(crate) fn spans(&self) -> HashMap<Key, Arrivals> {
        self.seen.spans.lock().clone()
    }

    /// How many different spans came.
    pub(crate) fn count(&self) -> usize {
        self.seen.spans.lock().len()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Debug)]
struct Service(Arc<Seen>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let peer = request.remote_addr();
        self.0.peers.lock().extend(peer);
        let is_gone = peer.is_some_and(|peer| self.0.gone.lock().contains(&peer));
        if is_gone || self.0.down.load(Relaxed) {
            return Err(Status::unavailable("down for a while"));
        }
        let request = ExportTraceServiceRequest::decode(request.into_inner())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        let now = clock::now();
        let mut spans = self.0.spans.lock();
        for span in scopes.flat_map(|scope| scope.spans) {
            note(&mut spans, span, now)?;
        }
        Ok(Response::new(Bytes::new()))
    }
}

fn note(spans: &mut HashMap<Key, Arrivals>, span: Span, now: Instant) -> Result<(), Status> {
    let key = key(&span).ok_or_else(|| Status::invalid_argument("ids of other lengths"))?;
    let (digest_now, before) = (digest(&span), digest(&restored(span)));
    let arrivals = spans.entry(key).or_insert_with(|| Arrivals {
        digest: digest_now,
        before: HashSet::with_capacity(1),
        altered: false,
        times: Vec::with_capacity(1),
    });
    arrivals.altered |= arrivals.digest != digest_now;
    arrivals.before.insert(before);
    arrivals.times.push(now);
    Ok(())
}

/// The span as it was before it got another parent.
fn restored(mut span: Span) -> Span {
    let place = span.attributes.iter().position(|attribute| attribute.key == ORIGINAL_PARENT);
    let Some(place) = place else { return span };
    let former = span.attributes.remove(place).value.and_then(|value| value.value);
    if let Some(Value::StringValue(hex)) = former {
        let number = u64::from_str_radix(&hex, 16);
        span.parent_span_id = number.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default();
    }
    span
}
