//! [`Gate`]: a listener whose connections can be cut, so that the server can be down without giving up its address.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Whether connections live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// They are taken and served.
    Open,
    /// They are taken and closed at once.
    Cut,
    /// The server ends.
    Over,
}

/// The listener.
pub(super) struct Gate {
    listener: TcpListener,
    access: watch::Receiver<Access>,
}

impl Gate {
    pub(super) fn new(listener: TcpListener, access: watch::Receiver<Access>) -> Self {
        Self { listener, access }
    }
}

impl Listener for Gate {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        loop {
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            if *self.access.borrow() == Access::Open {
                let mut access = self.access.clone();
                // Every other state, and the end of the server, cuts the wire.
                let cut = async move {
                    let _ = access.wait_for(|access| *access != Access::Open).await;
                };
                return (Wire { stream, cut: Some(Box::pin(cut)) }, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection.
pub(super) struct Wire {
    stream: TcpStream,
    /// Ends when the wire is cut; `None` from then on.
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Wire {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let is_cut = match &mut self.cut {
            None => true,
            Some(cut) => cut.as_mut().poll(context).is_ready(),
        };
        if is_cut {
            self.cut = None;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        Poll::Ready(self.check(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
