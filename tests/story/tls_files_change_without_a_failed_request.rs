//! Scenario: senders go on, over gRPC and HTTP, while the certificate is replaced again and again; then by files that
//! can't be used.
//! Guarantees: no request fails, connections that are there stay; new ones see the new certificate. Of files that can't be
//! used the former ones stay in use, and a metric says so.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use prost::Message;
use tokio::task::JoinSet;
use tonic::metadata::MetadataMap;

use crate::support::{
    self, Setup, World,
    tls::{self, Authority},
};

const RELOADS: &str = "tracestitch_tls_reloads_total{place=\"http\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_files_change_without_a_failed_request() {
    let authority = Authority::new();
    authority.issue_into("server");
    let section = format!("tls: {{{}}}", authority.section("server"));
    let setup = Setup { grpc: section.clone(), http: section, ..Setup::without_deepflow() };
    let world = World::start(setup).await;
    let client = authority.client(None);
    let (http, grpc) = (world.pipeline.http().unwrap(), world.pipeline.grpc().unwrap());

    let ends = Arc::new(AtomicBool::new(false));
    let mut senders = JoinSet::new();
    // One channel for all of it, and connections of a request each.
    let (sender, ended) = (tls::sender(&client, grpc), Arc::clone(&ends));
    senders.spawn(async move {
        let mut sent = 0;
        while !ended.load(Relaxed) {
            let body = support::trace((1 << 20) + sent, 1).encode_to_vec();
            sender.send_raw(body.into(), MetadataMap::new()).await.expect("taken over gRPC");
            sent += 1;
        }
        sent
    });
    let (poster, ended) = (tls::http(&client), Arc::clone(&ends));
    senders.spawn(async move {
        let mut sent = 0;
        while !ended.load(Relaxed) {
            let body = support::trace((2 << 20) + sent, 1).encode_to_vec();
            let url = format!("https://localhost:{}/v1/traces", http.port());
            let post = poster.post(url).header("content-type", "application/x-protobuf");
            let answer = post.body(body).send().await.expect("an answer over HTTP");
            assert_eq!(answer.status(), 200);
            sent += 1;
        }
        sent
    });

    let seen = async || {
        let stream = tls::connect(&client, http).await.expect("a handshake");
        let chain = stream.get_ref().1.peer_certificates().expect("a certificate");
        chain.first().expect("one").to_vec()
    };
    let mut former = seen().await;
    for round in 1..=4 {
        authority.issue_into("server");
        // The two files were replaced one after the other: the first look may have come between.
        let reloaded = || world.metric(&format!("{RELOADS},outcome=\"ok\"}}")) >= round;
        support::until("the new files are in use", reloaded).await;
        let current = seen().await;
        assert_ne!(former, current, "a new connection sees the new certificate");
        former = current;
    }
    for (file, text) in
        [("server.key", ""), ("server.pem", "no PEM"), ("server.key", &authority.issue().1)]
    {
        let failed = || world.metric(&format!("{RELOADS},outcome=\"failed\"}}"));
        let before = failed();
        authority.replace(file, text);
        support::until("the bad files are noticed", || failed() > before).await;
        assert_eq!(seen().await, former, "the former files stay in use");
    }
    // Whole again.
    let before = world.metric(&format!("{RELOADS},outcome=\"ok\"}}"));
    authority.issue_into("server");
    support::until("good files are taken", || {
        world.metric(&format!("{RELOADS},outcome=\"ok\"}}")) > before
    })
    .await;
    assert_ne!(seen().await, former);

    ends.store(true, Relaxed);
    let sent = senders.join_all().await;
    assert!(sent.iter().all(|&sent| sent > 0), "{sent:?}");
    let all: u128 = sent.iter().sum();
    world.settled(usize::try_from(all).expect("not so many")).await;
    world.end(&[]).await;
}
