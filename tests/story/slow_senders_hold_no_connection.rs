//! Scenario: senders that send the head of a request byte by byte, greet and say nothing, or send a head without end.
//! Guarantees: they are cut off when their time is over, and counted; who is idle between two requests is not cut off by
//! that time.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tracestitch::clock;

use crate::support::{self, PATIENCE, Setup, World};

const SLOW: &str = "tracestitch_connections_closed_total{listener=\"http\",reason=\"slow\"}";
const IDLE: &str = "tracestitch_connections_closed_total{listener=\"http\",reason=\"idle\"}";
const HEAD: &str = "POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";

/// Reads to the end of the connection.
async fn all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
    // A reset is an end, too.
    let _reset = read.await.expect("the connection ends");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn slow_senders_hold_no_connection() {
    let http = "read_header_timeout: 300ms, idle_timeout: 1500ms".to_owned();
    let world = World::start(Setup { http, ..Setup::without_deepflow() }).await;
    let address = world.pipeline.http().expect("OTLP/HTTP is on");
    let connect = async || TcpStream::connect(address).await.expect("a connection");

    // Nothing at all, and a byte at a time.
    let mut silent = connect().await;
    let mut slow = connect().await;
    let (mut reader, mut writer) = slow.split();
    let began = clock::now();
    let drip = async {
        for byte in HEAD.bytes().cycle() {
            if writer.write_all(&[byte.to_ascii_lowercase()]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = drip => {}
        _ = reader.read_to_end(&mut answer) => {}
    }
    assert!(clock::now() - began < PATIENCE);
    assert_eq!(all(&mut silent).await, "");
    support::until("both were slow", || world.metric(SLOW) == 2).await;

    // Between requests it has another time, and then the first one again.
    let mut sender = connect().await;
    sender.write_all(HEAD.as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    sender.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 404");
    let answered = clock::now();
    let mut idle = sender;
    all(&mut idle).await;
    assert!(clock::now() - answered >= Duration::from_secs(1));
    support::until("it was idle", || world.metric(IDLE) == 1).await;
    assert_eq!(world.metric(SLOW), 2);

    // A head without end.
    let mut endless = connect().await;
    endless.write_all(b"POST / HTTP/1.1\r\nx: ").await.expect("sent");
    let line = [b'a'; 8192];
    let mut sent = 0;
    while endless.write_all(&line).await.is_ok() && sent < 64 {
        sent += 1;
    }
    let answer = all(&mut endless).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    world.send(&support::trace(1, 1)).await;
    world.settled(1).await;
    world.end(&[]).await;
}
