//! One connection, from its handshake to its end.

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
};
use tower::{BoxError, Service, ServiceExt as _};

use super::{
    Incoming, Limits,
    activity::{Activity, Verdict},
    is_closing,
    noted::Noted,
    register::Guest,
};
use crate::{
    clock::{self, Instant},
    telemetry::{
        Metrics,
        catalogue::{Accepted, Closed, ConnectionMetrics, Listening},
    },
    tls::ServerTls,
};

/// For a handshake.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// For who was told to go and has no request under way.
const LEAVE_WAIT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Connection {
    pub(super) guest: Guest,
    pub(super) limits: Limits,
    pub(super) metrics: Arc<Metrics>,
    pub(super) of: Listening,
    pub(super) closing: watch::Receiver<bool>,
}

/// Counted as open for as long as it lives.
struct Open<'a>(&'a ConnectionMetrics);

impl<'a> Open<'a> {
    fn new(metrics: &'a ConnectionMetrics) -> Self {
        metrics.open.increment(1.0);
        Self(metrics)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.decrement(1.0);
    }
}

impl Connection {
    pub(super) async fn attend<S, B>(self, tcp: TcpStream, tls: Option<ServerTls>, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let metrics = Arc::clone(&self.metrics);
        let metrics = metrics.connections.of(self.of);
        let _open = Open::new(metrics);
        // An answer must not wait for the next one. It fails when the other side is gone, which shows.
        tcp.set_nodelay(true).unwrap_or_default();
        let closed = match tls {
            None => {
                metrics.accepted.add(Accepted::Ok as usize, 1);
                self.converse(tcp, service).await
            }
            Some(tls) => match self.handshake(tcp, &tls).await {
                Ok(stream) => {
                    metrics.accepted.add(Accepted::Ok as usize, 1);
                    // Handshakes have a time of their own.
                    self.guest.activity.restart(clock::now());
                    Box::pin(self.converse(stream, service)).await
                }
                Err(why) => {
                    tracing::debug!(why, "a TLS handshake failed");
                    metrics.accepted.add(Accepted::HandshakeFailed as usize, 1);
                    None
                }
            },
        };
        if let Some(why) = closed {
            metrics.closed.add(why as usize, 1);
        }
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
        tls: &ServerTls,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, String> {
        let mut closing = self.closing.clone();
        tokio::select! {
            accepted = tls.accept(tcp) => accepted.map_err(|error| error.to_string()),
            () = tokio::time::sleep(HANDSHAKE_WAIT) => {
                Err(format!("it took longer than {} s", HANDSHAKE_WAIT.as_secs()))
            }
            () = self.guest.leave.notified() => Err("its place was needed".to_owned()),
            () = is_closing(&mut closing) => Err("the program ends".to_owned()),
        }
    }

    /// Serves requests; says why it ended, if that was our wish.
    async fn converse<IO, S, B>(&self, stream: IO, service: S) -> Option<Closed>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let activity = &self.guest.activity;
        let io = TokioIo::new(Noted { stream, activity: Arc::clone(activity) });
        let asked = Arc::clone(activity);
        let service = service_fn(move |request| {
            let (service, busy) = (service.clone(), Busy::new(&asked));
            async move {
                let response = service.oneshot(request).await;
                drop(busy);
                response
            }
        });
        let builder = self.limits.builder();
        let mut connection = pin!(builder.serve_connection(io, service));
        let mut closing = self.closing.clone();
        let mut watch = Watch::new(self);
        loop {
            let is_leaving = watch.leaving.is_some();
            let order = tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(error, "a connection failed");
                    }
                    return watch.leaving;
                }
                () = is_closing(&mut closing), if !watch.is_closing => watch.close(),
                () = self.guest.leave.notified(), if !is_leaving => watch.leave_room(),
                () = sleep_until(watch.wake) => watch.look(clock::now()),
            };
            match order {
                Order::GoOn => {}
                Order::Finish => connection.as_mut().graceful_shutdown(),
                Order::Drop => return watch.leaving,
            }
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => pending().await,
    }
}

/// A request under way.
struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.begin();
        Self(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.end(clock::now());
    }
}

/// When to look at a connection again, and what becomes of it then.
struct Watch<'a> {
    activity: &'a Activity,
    limits: &'a Limits,
    /// When it has its age.
    old: Option<Instant>,
    /// It was told to finish, for this.
    leaving: Option<Closed>,
    /// The program ends: whoever waits for us ends the wait.
    is_closing: bool,
    wake: Option<Instant>,
}

enum Order {
    GoOn,
    /// Requests under way are finished, no further ones taken.
    Finish,
    Drop,
}

impl<'a> Watch<'a> {
    fn new(connection: &'a Connection) -> Self {
        let now = clock::now();
        let (activity, limits) = (&*connection.guest.activity, &connection.limits);
        let old = limits.age.map(|age| now + age.max.mul_f64(0.9 + 0.2 * fastrand::f64()));
        let mut watch =
            Self { activity, limits, old, leaving: None, is_closing: false, wake: None };
        watch.look(now);
        watch
    }

    fn look(&mut self, now: Instant) -> Order {
        if self.leaving.is_some() {
            return Order::Drop;
        }
        if self.old.is_some_and(|old| old <= now) {
            let grace = self.limits.age.map_or(LEAVE_WAIT, |age| age.grace);
            return self.finish(Closed::Age, now + grace);
        }
        match self.activity.verdict(now, self.limits) {
            Verdict::GoOn(again) => {
                self.wake = Some(self.old.map_or(again, |old| old.min(again)));
                Order::GoOn
            }
            Verdict::Close(Closed::Slow) => {
                self.leaving = Some(Closed::Slow);
                Order::Drop
            }
            Verdict::Close(why) => self.finish(why, now + LEAVE_WAIT),
        }
    }

    fn leave_room(&mut self) -> Order {
        if self.activity.is_busy() {
            return self.finish(Closed::MadeRoom, clock::now() + LEAVE_WAIT);
        }
        self.leaving = Some(Closed::MadeRoom);
        Order::Drop
    }

    fn close(&mut self) -> Order {
        (self.is_closing, self.wake) = (true, None);
        Order::Finish
    }

    fn finish(&mut self, why: Closed, end: Instant) -> Order {
        (self.leaving, self.wake) = (Some(why), Some(end));
        Order::Finish
    }
}
