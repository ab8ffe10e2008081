//! One HTTP/1.1 connection, moved on by whoever asks over it. With a task of its own, as hyper's examples have it, each
//! request and each answer is handed over between two tasks, and the waking costs more than HTTP does.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Context,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use hyper::{
    body::{Frame, Incoming},
    client::conn::{
        TrySendError,
        http1::{SendRequest, handshake},
    },
    rt::{Read, Write},
};

/// A request whose body is there.
pub(super) type Post = Request<Full<Bytes>>;

/// hyper's half of a connection: it reads and writes as often as it is polled.
type Moving = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// An open connection. Dropping it closes it, whatever is under way.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once it is over. Dropped then, it tells whoever still waits.
    moving: Option<Moving>,
}

impl Connection {
    /// Over what is connected.
    pub(super) async fn over(
        stream: impl Read + Write + Unpin + Send + 'static,
    ) -> hyper::Result<Self> {
        let (sender, moving) = handshake(stream).await?;
        Ok(Self { sender, moving: Some(Box::pin(moving)) })
    }

    /// Sends a request, and waits for the head of its answer. The error gives back what was not sent: the connection
    /// was closed before.
    pub(super) async fn send(
        &mut self,
        request: Post,
    ) -> Result<Response<Incoming>, TrySendError<Post>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let moving = &mut self.moving;
        poll_fn(|context| {
            move_on(moving, context);
            answer.as_mut().poll(context)
        })
        .await
    }

    /// The next part of an answer's body; `None` after the last one.
    pub(super) async fn frame(
        &mut self,
        body: &mut Incoming,
    ) -> Option<hyper::Result<Frame<Bytes>>> {
        poll_fn(|context| {
            move_on(&mut self.moving, context);
            Pin::new(&mut *body).poll_frame(context)
        })
        .await
    }

    /// It has answered, and another request may be sent.
    pub(super) fn is_free(&self) -> bool {
        self.moving.is_some() && self.sender.is_ready()
    }

    /// Ends it in good order: by TLS the other side is told.
    pub(super) async fn close(self) {
        let Self { sender, moving } = self;
        drop(sender);
        if let Some(moving) = moving {
            // What can't be told any more is no loss.
            let _error = moving.await;
        }
    }
}

fn move_on(moving: &mut Option<Moving>, context: &mut Context<'_>) {
    if let Some(future) = moving
        && future.as_mut().poll(context).is_ready()
    {
        // Its error, if there is one, comes out with the answer.
        *moving = None;
    }
}
