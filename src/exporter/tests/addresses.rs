//! A destination whose name stands for several addresses, which change.

use std::{future::ready, net::SocketAddr};

use super::*;
use crate::exporter::{addresses::Lookup, otlp_grpc::OtlpGrpc};

/// A client for what is in the cell now.
fn client(found: &Arc<Mutex<Vec<SocketAddr>>>) -> OtlpGrpc {
    let found = Arc::clone(found);
    let lookup: Lookup = Arc::new(move || Box::pin(ready(Ok(found.lock().clone()))));
    let config =
        OtlpConfig { endpoint: "http://name.test:4317".parse().unwrap(), ..OtlpConfig::default() };
    OtlpGrpc::with_lookup("otlp/name", &config, &Reloads::default(), lookup).unwrap()
}

async fn send(client: &OtlpGrpc, number: u64) {
    let request = vec![span(number).into()];
    let sent = client.export(&Origin::default(), request).await;
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
