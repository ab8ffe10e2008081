//! Scenario: compressed bodies of several members (gzip, RFC 1952; frames of zstd), as `cat a.gz b.gz` makes them; and with
//! something behind the last one; over HTTP and gRPC.
//! Guarantees: the spans of every member arrive; what is answered with OK was read to its end, all else is refused.

use std::collections::BTreeSet;

use prost::Message as _;
use tonic::Code;

use crate::support::{
    self, Setup, World,
    grpc::{Connection, framed},
    http,
};

/// Two requests, which are one when they stand one behind the other.
fn members(encoding: &str, trace: u128) -> Vec<u8> {
    let member = |trace| http::compressed(encoding, &support::trace(trace, 2).encode_to_vec());
    [member(trace), member(trace + 1)].concat()
}

#[tokio::test]
async fn every_member_arrives() {
    let world = World::start(Setup::without_deepflow()).await;
    let client = http::client();
    let mut connection = Connection::to(&world).await;
    for (encoding, trace) in [("gzip", 1), ("zstd", 3)] {
        let request = http::to(&client, &world, http::PROTOBUF);
        let request = request.header("content-encoding", encoding);
        assert_eq!(http::send(request, members(encoding, trace)).await.status(), 200);
        let body = framed(true, &members(encoding, trace + 10));
        assert_eq!(connection.export(&[("grpc-encoding", encoding)], body).await, Code::Ok);
    }
    world.settled(16).await;
    let traces: BTreeSet<_> =
        support::spans_at(&world.backend).into_iter().map(|span| span.trace_id).collect();
    let sent = [1, 2, 3, 4, 11, 12, 13, 14].map(|trace: u128| trace.to_be_bytes().to_vec());
    assert_eq!(traces, sent.into());
    world.end(&[]).await;
}

#[tokio::test]
async fn what_is_behind_the_last_is_refused() {
    let world = World::start(Setup::without_deepflow()).await;
    let client = http::client();
    let mut connection = Connection::to(&world).await;
    for encoding in ["gzip", "deflate", "zstd"] {
        let mut body = http::compressed(encoding, &support::trace(1, 2).encode_to_vec());
        body.extend(b"more");
        let request = http::to(&client, &world, http::PROTOBUF);
        let request = request.header("content-encoding", encoding);
        assert_eq!(http::send(request, body.clone()).await.status(), 400, "{encoding}");
        if encoding != "deflate" {
            let code = connection.export(&[("grpc-encoding", encoding)], framed(true, &body)).await;
            assert_eq!(code, Code::InvalidArgument, "{encoding}");
        }
    }
    let two = [framed(false, b""), framed(false, &support::trace(1, 2).encode_to_vec())].concat();
    assert_eq!(connection.export(&[], two.into()).await, Code::InvalidArgument);
    assert_eq!(world.watched().budget.used_bytes(), 0);
    world.end(&[]).await;
}
