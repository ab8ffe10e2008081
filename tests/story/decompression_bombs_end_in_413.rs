//! Scenario: requests of a few KB that become hundreds of MB when they are decompressed, in every encoding, over HTTP and
//! gRPC, in protobuf and in JSON.
//! Guarantees: they are refused for good at the limit of a request, memory never holds much more than that, and the next
//! request is taken. What they have become is counted for as long as it is held.

use prost::Message as _;
use tonic::{Code, codec::CompressionEncoding, metadata::MetadataMap};
use tracestitch::wire::status::retry_delay;

use crate::support::{
    self, Setup, World,
    grpc::{Connection, EXPORT, framed},
    highest,
    http::{self, JSON, PROTOBUF},
};

const LIMIT_BYTES: u64 = 1024 * 1024;
const BOMB_BYTES: usize = 256 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http() {
    let setup = Setup { receiver: "max_request_size: 1MiB", ..Setup::without_deepflow() };
    let world = World::start(setup).await;
    let client = http::client();
    let zeros = vec![b' '; BOMB_BYTES];
    for encoding in ["gzip", "deflate", "zstd"] {
        let bomb = http::compressed(encoding, &zeros);
        assert!(bomb.len() < BOMB_BYTES / 100, "{encoding}: {}", bomb.len());
        for content_type in [PROTOBUF, JSON] {
            let request = http::to(&client, &world, content_type);
            let request = request.header("content-encoding", encoding);
            let (highest, response) =
                highest(&world.watched().budget, http::send(request, bomb.clone())).await;
            assert_eq!(response.status(), 413, "{encoding} {content_type}");
            assert!(highest < 4 * LIMIT_BYTES, "{encoding}: {highest} bytes");
        }
    }
    let fine = support::trace(1, 2);
    let response = http::post(&client, &world, fine.encode_to_vec()).await;
    assert_eq!(response.status(), 200);
    world.settled(2).await;
    world.end(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_grpc() {
    let setup = Setup { receiver: "max_request_size: 1MiB", ..Setup::without_deepflow() };
    let world = World::start(setup).await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let sender = support::sender(&world.pipeline).compressing(encoding);
        let bomb = vec![b' '; BOMB_BYTES].into();
        let (highest, answer) =
            highest(&world.watched().budget, sender.send_raw(bomb, MetadataMap::new())).await;
        let status = answer.expect_err("refused");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert_eq!(retry_delay(&status), None, "or it would be sent again for ever");
        assert!(highest < 4 * LIMIT_BYTES, "{encoding:?}: {highest} bytes");
    }
    world.send(&support::trace(1, 2)).await;
    world.settled(2).await;
    world.end(&[]).await;
}

/// Scenario: a few KB that are whole and become 32 MB, in calls that never end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_its_end_is_counted() {
    let unpacked = 32 * 1024 * 1024;
    let world = World::start(Setup::without_deepflow()).await;
    let used = || world.watched().budget.used_bytes();
    for encoding in ["gzip", "zstd"] {
        let bomb = framed(true, &http::compressed(encoding, &vec![0; unpacked]));
        let mut connection = Connection::to(&world).await;
        let (_response, mut stream) = connection.begin(EXPORT, &[("grpc-encoding", encoding)]);
        stream.send_data(bomb, false).expect("sent");
        let unpacked = u64::try_from(unpacked).expect("small");
        support::until("all of it is counted", || used() >= unpacked).await;
        drop((stream, connection));
        support::until("it is given back", || used() == 0).await;
    }
    world.end(&[]).await;
}
