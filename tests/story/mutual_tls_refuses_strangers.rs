//! Scenario: receivers and admin pages that ask for a certificate; senders without one, with one of another authority, with
//! a right one, and without TLS.
//! Guarantees: only the right one is let in; the others are counted, and never reach a request.

use prost::Message;
use tonic::metadata::MetadataMap;

use crate::support::{
    self, Setup, World, http,
    tls::{self, Authority},
};

#[tokio::test]
async fn mutual_tls_refuses_strangers() {
    let (authority, others) = (Authority::new(), Authority::new());
    authority.issue_into("server");
    authority.issue_into("sender");
    others.issue_into("stranger");
    // He trusts the right authority, but is known to another one.
    for file in ["stranger.pem", "stranger.key"] {
        std::fs::copy(others.path(file), authority.path(file)).expect("a copy");
    }
    let section = format!("tls: {{{}}}", authority.mutual_section("server"));
    let (grpc, http, admin) = (section.clone(), section.clone(), section);
    let world = World::start(Setup { grpc, http, admin, ..Setup::without_deepflow() }).await;
    let (grpc, http) = (world.pipeline.grpc().unwrap(), world.pipeline.http().unwrap());
    let traces = format!("https://localhost:{}/v1/traces", http.port());
    let ready = format!("https://localhost:{}/readyz", world.pipeline.admin().port());

    for stranger in [None, Some("stranger")] {
        let client = authority.client(stranger);
        let body = support::trace(1, 1).encode_to_vec();
        let sender = tls::sender(&client, grpc);
        sender.send_raw(body.clone().into(), MetadataMap::new()).await.expect_err("refused");
        let client = tls::http(&client);
        client.post(&traces).body(body).send().await.expect_err("refused");
        client.get(&ready).send().await.expect_err("refused");
    }
    // Without TLS at all.
    http::client().get(traces.replace("https", "http")).send().await.expect_err("refused");
    world.sender.send(&support::trace(1, 1)).await.expect_err("refused");
    for listener in ["grpc", "http", "admin"] {
        let series = format!(
            "tracestitch_connections_accepted_total{{listener=\"{listener}\",outcome=\"handshake_failed\"}}"
        );
        support::until("they are counted", || world.metric(&series) >= 2).await;
    }
    assert_eq!(support::books(world.watched()).accepted, 0);

    let client = authority.client(Some("sender"));
    let body = support::trace(2, 1).encode_to_vec();
    tls::sender(&client, grpc)
        .send_raw(body.into(), MetadataMap::new())
        .await
        .expect("taken over gRPC");
    let client = tls::http(&client);
    let post = client.post(&traces).header("content-type", "application/x-protobuf");
    let answer = post.body(support::trace(3, 1).encode_to_vec()).send().await;
    assert_eq!(answer.expect("an answer").status(), 200);
    assert_eq!(client.get(&ready).send().await.expect("an answer").status(), 200);
    world.settled(2).await;
    world.end(&[]).await;
}
