//! Scenario: a backend's first answers have details that are no base64, which the gRPC library does not expect, or break off
//! before the status.
//! Guarantees: nothing ends but that attempt; the spans are sent again and delivered.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use axum::{Router, body::Body, extract::State, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::net::TcpListener;

use crate::support::{self, ANY_PORT, Setup, World};

const ODD: usize = 2;

#[tokio::test]
async fn odd_answers_end_no_request() {
    let listener = TcpListener::bind(ANY_PORT).await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(AtomicUsize::new(0));
    let router = Router::new().fallback(answer).with_state(Arc::clone(&asked));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let retries = "retry_on_failure: {initial_interval: 20ms, max_interval: 50ms}";
    let setup = Setup {
        exporters: format!("otlp/odd: {{endpoint: '{url}', on_outage: hold, {retries}}}"),
        ..Setup::without_deepflow()
    };
    let world = World::start(setup).await;
    world.send(&support::request("shop", vec![support::span(1, 1)])).await;
    world.settled(1).await;
    assert_eq!(asked.load(Relaxed), ODD + 1);
    assert_eq!(support::spans_at(&world.backend).len(), 1);
    world.end(&[]).await;
    server.abort();
}

async fn answer(State(asked): State<Arc<AtomicUsize>>) -> Response {
    let mut trailers = HeaderMap::new();
    match asked.fetch_add(1, Relaxed) {
        0 => {
            trailers.insert("grpc-status", HeaderValue::from_static("14"));
            trailers.insert("grpc-status-details-bin", HeaderValue::from_static("!!!"));
        }
        1 => {}
        _ => drop(trailers.insert("grpc-status", HeaderValue::from_static("0"))),
    }
    let message = Frame::data(Bytes::from_static(&[0; 5]));
    let frames = [message, Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    let body = Body::new(StreamBody::new(tokio_stream::iter(frames)));
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}
