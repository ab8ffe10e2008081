//! Listening: connections, plain or with TLS, within limits, each served as HTTP/1 or HTTP/2.
//!
//! What a sender can make us hold without sending a request is bounded: a connection has its time to shake hands, to send
//! the head of a request and to be idle, and there are only so many. When one more comes, those go that have been silent
//! for longest.

mod activity;
mod connection;
mod limits;
mod noted;
mod register;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tower::{BoxError, Service, ServiceExt as _};

pub use self::limits::{Age, Limits, Streams};
use self::{connection::Connection, register::Register};
use crate::{
    clock,
    config::ListenAddress,
    telemetry::{
        Metrics,
        catalogue::{Accepted, Listening},
    },
    tls::ServerTls,
};

/// An address that is listened on.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<ServerTls>,
    limits: Limits,
    register: Arc<Register>,
    metrics: Arc<Metrics>,
    of: Listening,
}

/// Where there is no room for a connection, or no file descriptor, the next one is looked at this much later.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Listener {
    /// From now on connections wait to be served.
    pub async fn bind(
        address: &ListenAddress,
        tls: Option<ServerTls>,
        limits: Limits,
        metrics: &Arc<Metrics>,
        of: Listening,
    ) -> io::Result<Self> {
        let tcp = TcpListener::bind(address.as_str()).await?;
        let address = tcp.local_addr()?;
        metrics.connections.of(of).show_max(limits.connections);
        let register = Arc::new(Register::new(limits.connections));
        let metrics = Arc::clone(metrics);
        Ok(Self { tcp, address, tls, limits, register, metrics, of })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// TLS is spoken.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves until `closing` says so, then finishes the requests under way. Dropped, it drops its connections. `body`
    /// makes the service's own kind of body.
    pub async fn serve<S, R, B>(
        self,
        service: S,
        body: fn(Incoming) -> R,
        closing: watch::Receiver<bool>,
    ) where
        S: Service<Request<R>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        R: 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let service = service.map_request(move |request: Request<Incoming>| request.map(body));
        let mut connections = JoinSet::new();
        let mut closed = closing.clone();
        loop {
            tokio::select! {
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream, &service, &closing, &mut connections),
                    Err(error) => self.failed(&error).await,
                },
                Some(ended) = connections.join_next() => reap(ended),
                () = is_closing(&mut closed) => break,
            }
        }
        // Nobody is let wait in vain.
        drop(self.tcp);
        while let Some(ended) = connections.join_next().await {
            reap(ended);
        }
    }

    fn admit<S, B>(
        &self,
        stream: TcpStream,
        service: &S,
        closing: &watch::Receiver<bool>,
        connections: &mut JoinSet<()>,
    ) where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let metrics = self.metrics.connections.of(self.of);
        let Some(guest) = self.register.enter(clock::now()) else {
            metrics.accepted.add(Accepted::Refused as usize, 1);
            tracing::debug!(address = %self.address, "a connection was refused: all are at work");
            return;
        };
        let connection = Connection {
            guest,
            limits: self.limits.clone(),
            metrics: Arc::clone(&self.metrics),
            of: self.of,
            closing: closing.clone(),
        };
        connections.spawn(connection.attend(stream, self.tls.clone(), service.clone()));
    }

    /// Mostly all file descriptors are in use: who is idle gives his back.
    async fn failed(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
            return;
        }
        tracing::error!(%error, address = %self.address, "cannot accept a connection");
        self.register.make_room();
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn is_closing(closing: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is closing, too.
    let _closing = closing.wait_for(|closing| *closing).await;
}

fn reap(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked; that is a fault of tracestitch, please report it");
    }
}
