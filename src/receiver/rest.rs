//! What is left of a body that was answered before its end.
//!
//! HTTP/1 has no way to stop a sender: closing the connection while it sends resets it, and the answer is often lost with
//! it. A sender without an answer comes again, also with what was refused for good. So the rest is read, to be thrown away.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;

/// Who sends longer than this loses the answer, perhaps …
const REST_WAIT: Duration = Duration::from_secs(5);
/// … and so does who sends nothing for so long.
const FRAME_WAIT: Duration = Duration::from_secs(1);

/// Answers, but not before the sender is through with its request, or has sent so many bytes more.
pub(super) async fn read_rest(
    State(bytes_max): State<usize>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let shared = Shared(Arc::new(Mutex::new(body)));
    let response = next.run(Request::from_parts(parts, Body::new(shared.clone()))).await;
    // A sender that is too slow, or sends too much, is cut off.
    let _late = tokio::time::timeout(REST_WAIT, drain(shared, bytes_max)).await;
    response
}

async fn drain(mut body: Shared, bytes_max: usize) {
    let mut bytes = 0;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(FRAME_WAIT, body.frame()).await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > bytes_max {
            return;
        }
    }
}

/// A body that two can read, one after the other.
#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<Body>>);

impl http_body::Body for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *self.0.lock()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().size_hint()
    }
}
