//! OTLP/gRPC towards Tempo, Jaeger or a Collector, from raw bytes.

use std::{error::Error, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{error::Elapsed, timeout_at},
};
use tonic::{
    Status,
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::{Service as _, ServiceExt as _};

use super::{
    Compression, OtlpConfig, StartError,
    addresses::{Addresses, Lookup, system_lookup},
    body::{Pieces, PiecesBody, written},
    error::ExportError,
    grpc_answer,
    headers::SentHeaders,
};
use crate::{
    clock::{self, Instant},
    tls::{Alpn, ClientTls, Connector, Reloads},
    trace::Origin,
    wire::{Encoding, PartialSuccess},
};

/// A client for one destination. Connections are made at the first request, and again after they broke: the pings of
/// `keepalive` find that out, without them a partition would never heal.
#[derive(Debug, Clone)]
pub(crate) struct OtlpGrpc {
    addresses: Arc<Addresses<Channel>>,
    headers: SentHeaders,
    compression: Compression,
    timeout: Duration,
}

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

impl OtlpGrpc {
    pub(super) fn new(
        exporter: &str,
        config: &OtlpConfig,
        reloads: &Reloads,
    ) -> Result<Self, StartError> {
        let host = config.endpoint.uri().host().unwrap_or_default();
        let lookup = system_lookup(host, config.endpoint.port());
        Self::with_lookup(exporter, config, reloads, lookup)
    }

    /// The same with another resolver: for tests.
    pub(super) fn with_lookup(
        exporter: &str,
        config: &OtlpConfig,
        reloads: &Reloads,
        lookup: Lookup,
    ) -> Result<Self, StartError> {
        let connector = if config.endpoint.is_tls() {
            let failed = |source| StartError::Tls { exporter: exporter.to_owned(), source };
            let tls = ClientTls::new(&config.tls, exporter, reloads).map_err(failed)?;
            let host = config.endpoint.uri().host().unwrap_or_default();
            let connector = Connector::new(&tls, host, Alpn::Http2, connect_wait(config));
            Some(connector.map_err(failed)?)
        } else {
            None
        };
        let failed = |source| StartError::Endpoint { exporter: exporter.to_owned(), source };
        endpoint(config, config.endpoint.to_string()).map_err(failed)?;
        let (wait, shared) = (connect_wait(config), config.clone());
        // A connection runs where its exporter does, whoever calls first: metrics and logs are passed on from elsewhere.
        let home = Handle::try_current().ok();
        let connect = move |address: SocketAddr| {
            let _there = home.as_ref().map(Handle::enter);
            let scheme = if shared.endpoint.is_tls() { "https" } else { "http" };
            let endpoint = endpoint(&shared, format!("{scheme}://{address}"));
            let endpoint =
                endpoint.expect("an address is a URL, and the rest was taken for the name");
            match &connector {
                Some(connector) => endpoint.connect_with_connector_lazy(connector.clone()),
                None => endpoint.connect_lazy(),
            }
        };
        Ok(Self {
            addresses: Arc::new(Addresses::new(lookup, wait, Box::new(connect))),
            headers: SentHeaders::new(&config.headers),
            compression: config.compression,
            timeout: config.timeout.get(),
        })
    }

    /// The same, sending the headers of an origin as they came.
    pub(super) fn passing_origin(&self) -> Self {
        Self { headers: self.headers.passing_origin(), ..self.clone() }
    }

    /// Sends one request.
    pub(super) async fn export(
        &self,
        origin: &Origin,
        pieces: Pieces,
    ) -> Result<PartialSuccess, ExportError> {
        match self.send(EXPORT, origin, pieces).await {
            Some(answer) => Ok(PartialSuccess::of_response(Encoding::Protobuf, &answer?)),
            None => Err(ExportError::Retry {
                after: None,
                why: format!("no answer within {} ms", self.timeout.as_millis()),
            }),
        }
    }

    /// Calls a method; `None` when there is no answer in time.
    pub(super) async fn send(
        &self,
        method: &'static str,
        origin: &Origin,
        pieces: Pieces,
    ) -> Option<Result<Bytes, Status>> {
        let end = clock::now() + self.timeout;
        let pieces = match timeout_at(end, self.compressed(pieces)).await.ok()? {
            Ok(pieces) => pieces,
            Err(error) => return Some(Err(Status::invalid_argument(error.to_string()))),
        };
        match timeout_at(end, self.addresses.in_turn(clock::now())).await.ok()? {
            Ok(places) => {
                let headers = self.headers(origin);
                self.send_to_any(places, (method, headers, pieces), end).await
            }
            Err(unknown) => Some(Err(Status::from_error(Box::new(unknown)))),
        }
    }

    async fn compressed(&self, pieces: Pieces) -> io::Result<Pieces> {
        let compression = self.compression;
        if compression == Compression::None {
            return Ok(pieces);
        }
        let written = move || written(&pieces, Encoding::Protobuf, compression);
        let written = tokio::task::spawn_blocking(written).await.map_err(io::Error::other)??;
        Ok([written.into()].into())
    }

    fn headers(&self, origin: &Origin) -> HeaderMap {
        let mut headers = self.headers.of(origin);
        // gRPC's own, of answers alone.
        for reserved in ["grpc-status", "grpc-message", "grpc-message-type"] {
            headers.remove(reserved);
        }
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let coding = match self.compression {
            Compression::None => return headers,
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        headers.insert("grpc-encoding", HeaderValue::from_static(coding));
        headers
    }

    /// An address that can't be reached has not got the request: the next one may have it. One that does not answer in
    /// time may have it, but the next request should not wait for it, too.
    async fn send_to_any(
        &self,
        places: Vec<(SocketAddr, Channel)>,
        (method, headers, pieces): (&'static str, HeaderMap, Pieces),
        end: Instant,
    ) -> Option<Result<Bytes, Status>> {
        let mut last = Status::unavailable("the destination has no address");
        for (address, channel) in places {
            let is_compressed = self.compression != Compression::None;
            let Some(body) = PiecesBody::grpc(Arc::clone(&pieces), is_compressed) else {
                return Some(Err(Status::invalid_argument("a message of gRPC is below 4 GiB")));
            };
            let mut request = http::Request::new(Body::new(body));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = Uri::from_static(method);
            *request.version_mut() = Version::HTTP_2;
            *request.headers_mut() = headers.clone();
            let Ok(answer) = timeout_at(end, guarded(call(channel, request))).await else {
                self.addresses.failed(clock::now(), address);
                return None;
            };
            match answer {
                Err(status) if status.source().is_some() => last = status,
                // The destination's own.
                answer => return Some(answer),
            }
            self.addresses.failed(clock::now(), address);
            if !was_unreachable(&last) {
                break;
            }
        }
        Some(Err(last))
    }
}

/// A unary call. tonic's own client would put the message together first, which costs twice what sending its pieces does.
async fn call(channel: Channel, request: http::Request<Body>) -> Result<Bytes, Status> {
    let failed = |error: tonic::transport::Error| Status::from_error(Box::new(error));
    let mut channel = channel;
    let ready = channel.ready().await.map_err(failed)?;
    let (head, body) = ready.call(request).await.map_err(failed)?.into_parts();
    grpc_answer::read(&head, body).await
}

/// A call in a task of its own: tonic panics over details of a status that are no base64, and that must end no more than the
/// attempt.
async fn guarded(
    call: impl Future<Output = Result<Bytes, Status>> + Send + 'static,
) -> Result<Bytes, Status> {
    let mut task = JoinSet::new();
    task.spawn(call);
    match task.join_next().await {
        Some(Ok(answer)) => answer,
        Some(Err(_)) | None => Err(Status::unavailable("the destination's answer can't be read")),
    }
}

/// A request that could not connect has time left for the next address.
fn connect_wait(config: &OtlpConfig) -> Duration {
    config.connect_timeout.get().min(config.timeout.get() / 2)
}

/// At this URL; the destination is addressed by its name all the same.
fn endpoint(config: &OtlpConfig, url: String) -> Result<Endpoint, tonic::transport::Error> {
    let keepalive = &config.keepalive;
    let endpoint = Endpoint::from_shared(url)?
        .origin(config.endpoint.uri().clone())
        .user_agent(concat!("tracestitch/", env!("CARGO_PKG_VERSION")))?
        .connect_timeout(connect_wait(config))
        .http2_keep_alive_interval(keepalive.time.get())
        .keep_alive_timeout(keepalive.timeout.get())
        // grpc-go ends a connection that is pinged without a request more often than once in two hours.
        .keep_alive_while_idle(false)
        .tcp_nodelay(true);
    Ok(endpoint)
}

/// No connection came about.
fn was_unreachable(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() || is_late_connect(error) {
            return true;
        }
        source = error.source();
    }
    false
}

/// The wait for a connection with TLS has an error of its own; that of a connection which breaks holds no `Elapsed`.
fn is_late_connect(error: &(dyn Error + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let Some(inner) = inner else { return false };
    inner.is::<Elapsed>()
}
