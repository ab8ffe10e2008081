//! A destination whose name stands for several addresses, which change.

use std::{future::ready, net::SocketAddr};

use tokio::net::TcpListener;

use super::*;
use crate::exporter::{addresses::Lookup, body::Pieces, otlp_grpc::OtlpGrpc};

/// A client for what is in the cell now.
fn client(found: &Arc<Mutex<Vec<SocketAddr>>>) -> OtlpGrpc {
    client_of("http://name.test:4317", OtlpConfig::default().timeout, found)
}

fn client_of(url: &str, timeout: Interval, found: &Arc<Mutex<Vec<SocketAddr>>>) -> OtlpGrpc {
    let found = Arc::clone(found);
    let lookup: Lookup = Arc::new(move || Box::pin(ready(Ok(found.lock().clone()))));
    let config = OtlpConfig { endpoint: url.parse().unwrap(), timeout, ..OtlpConfig::default() };
    OtlpGrpc::with_lookup("otlp/name", &config, &Reloads::default(), lookup).unwrap()
}

fn request(number: u64) -> Pieces {
    [span(number).into()].into()
}

async fn send(client: &OtlpGrpc, number: u64) {
    let sent = client.export(&Origin::default(), request(number)).await;
    sent.unwrap_or_else(|error| panic!("{number}: {error}"));
}

async fn backends() -> [Backend; 3] {
    [
        Backend::start(0).await.unwrap(),
        Backend::start(0).await.unwrap(),
        Backend::start(0).await.unwrap(),
    ]
}

#[tokio::test]
async fn requests_go_to_all_addresses_in_turn() {
    let backends = backends().await;
    let found = Arc::new(Mutex::new(backends.iter().map(Backend::address).collect()));
    let client = client(&found);
    for number in 1..=9 {
        send(&client, number).await;
    }
    for backend in &backends {
        assert_eq!(backend.span_count(), 3);
    }
}

#[tokio::test]
async fn dns_changes_are_followed_without_a_failed_request() {
    let [gone, stays, new] = backends().await;
    let found = Arc::new(Mutex::new(vec![gone.address(), stays.address()]));
    let client = client(&found);
    send(&client, 1).await;
    send(&client, 2).await;
    assert_eq!((gone.span_count(), stays.span_count()), (1, 1));
    gone.stop().await;
    *found.lock() = vec![stays.address(), new.address()];
    let mut sent = 2;
    let end = clock::now() + Duration::from_secs(20);
    while new.span_count() == 0 {
        assert!(clock::now() < end, "the new address is never found");
        sent += 1;
        send(&client, sent).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(stays.span_count() + new.span_count(), sent - 1, "none failed, none came twice");
}

/// Takes connections, as the system does, and says nothing.
async fn silent() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).await.unwrap()
}

#[tokio::test]
async fn an_address_that_does_not_answer_in_time_comes_last() {
    let (silent, backend) = (silent().await, Backend::start(0).await.unwrap());
    let found = vec![silent.local_addr().unwrap(), backend.address()];
    let found = Arc::new(Mutex::new(found));
    let client = client_of("http://name.test:4317", Interval::from_secs(1), &found);
    let late = client.export(&Origin::default(), request(1)).await;
    assert!(late.is_err(), "the first address has its turn");
    for number in 2..=5 {
        send(&client, number).await;
    }
    assert_eq!(backend.span_count(), 4);
}

#[tokio::test]
async fn connecting_leaves_time_for_the_next_address() {
    // A handshake that never ends, and one that fails at once: nobody listens there any more.
    let (silent, gone) = (silent().await, silent().await.local_addr().unwrap());
    let found = Arc::new(Mutex::new(vec![silent.local_addr().unwrap(), gone]));
    let client = client_of("https://name.test:4317", Interval::from_secs(2), &found);
    let sent = client.export(&Origin::default(), request(1)).await;
    let error = sent.unwrap_err().to_string();
    assert!(error.contains("refused"), "the second address had its turn: {error}");
}
