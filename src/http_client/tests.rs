//! Connections are kept while they are good, and no others.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    time::timeout,
};

use super::{Connections, HttpError, Server, server::is_late};
use crate::{
    clock,
    telemetry::chain,
    tls::{ClientTls, ClientTlsConfig, Reloads},
};

const LIMITS: Connections = Connections {
    connect_timeout: Duration::from_secs(5),
    keep_alive: Duration::from_secs(90),
    idle_max: 2,
};

/// Answers every request with the same bytes.
struct Peer {
    address: String,
    connections: Arc<AtomicUsize>,
    requests: mpsc::UnboundedReceiver<String>,
    /// Makes it close one connection.
    hang_up: Arc<Notify>,
    /// Told each time that a connection is closed, by either side.
    closed: Arc<Notify>,
}

#[derive(Clone, Copy, PartialEq)]
enum After {
    Waits,
    Closes,
}

impl Peer {
    async fn start(answer: &str, after: After) -> Self {
        let answer: Arc<str> = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (connections, closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (sender, requests) = mpsc::unbounded_channel();
        let hang_up = Arc::new(Notify::new());
        let (count, ended, told) =
            (Arc::clone(&connections), Arc::clone(&closed), Arc::clone(&hang_up));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Relaxed);
                let (sender, answer) = (sender.clone(), Arc::clone(&answer));
                let (ended, told) = (Arc::clone(&ended), Arc::clone(&told));
                tokio::spawn(async move {
                    tokio::select! {
                        () = answer_all(stream, &answer, after, &sender) => {}
                        () = told.notified() => {}
                    }
                    ended.notify_one();
                });
            }
        });
        Self { address, connections, requests, hang_up, closed }
    }

    fn server(&self) -> Server {
        server(&format!("http://{}", self.address), LIMITS)
    }

    fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    async fn closed(&self) {
        within(self.closed.notified()).await;
    }

    async fn request(&mut self) -> String {
        within(self.requests.recv()).await.expect("a request")
    }
}

async fn answer_all(
    mut stream: TcpStream,
    answer: &str,
    after: After,
    requests: &mpsc::UnboundedSender<String>,
) {
    let mut request = String::new();
    let mut bytes = [0; 1024];
    loop {
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(count) => request.push_str(&String::from_utf8_lossy(&bytes[..count])),
        }
        // All requests here end so.
        if !request.ends_with("the end") {
            continue;
        }
        drop(requests.send(std::mem::take(&mut request)));
        if stream.write_all(answer.as_bytes()).await.is_err() || after == After::Closes {
            return;
        }
    }
}

/// What does not come would not fail the test otherwise.
async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("in time")
}

fn server(url: &str, limits: Connections) -> Server {
    Server::new(&url.parse().expect("a URL"), "/ask", limits, None).expect("a server")
}

async fn ask(server: &Server) -> Result<String, HttpError> {
    let mut response = server.post(HeaderMap::new(), Bytes::from_static(b"the end")).await?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8(body).expect("text"))
}

/// What the system knows of other connections by now, the program knows after this: it is told all at once.
async fn news() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut there =
        TcpStream::connect(listener.local_addr().expect("an address")).await.expect("it");
    let (mut here, _) = listener.accept().await.expect("a connection");
    here.write_all(b"x").await.expect("written");
    there.read_u8().await.expect("read");
}

#[tokio::test]
async fn one_connection_serves_one_after_the_other() {
    let large = "0123456789abcdef".repeat(1 << 16);
    let in_chunks = |len: usize| {
        let chunks = large.as_bytes().chunks(len).map(|chunk| {
            let text = String::from_utf8_lossy(chunk);
            format!("{:x}\r\n{text}\r\n", chunk.len())
        });
        let chunks = chunks.collect::<String>();
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
    };
    let len = large.len();
    for (answer, body) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "hello"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "ok"),
        (
            "HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\ntrailer: t\r\n\r\n5\r\nhello\r\n0\r\nt: 1\r\n\r\n",
            "hello",
        ),
        (&format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n{large}"), &large),
        (&in_chunks(1_000), &large),
        (&in_chunks(100_000), &large),
    ] {
        let head = answer.lines().take(2).collect::<String>();
        let peer = Peer::start(answer, After::Waits).await;
        let server = peer.server();
        for _ in 0..3 {
            let read = within(ask(&server)).await.expect("an answer");
            assert!(read == body, "{head}");
        }
        assert_eq!(peer.connections(), 1, "{head}");
    }
}

#[tokio::test]
async fn what_is_asked_at_once_has_connections_of_its_own_and_so_many_stay() {
    let peer = Peer::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", After::Waits).await;
    let server = peer.server();
    // None is read to its end before the last one is sent.
    let mut responses = Vec::new();
    for _ in 0..3 {
        let posted = server.post(HeaderMap::new(), Bytes::from_static(b"the end"));
        responses.push(posted.await.expect("an answer"));
    }
    for mut response in responses {
        while response.chunk().await.expect("a body").is_some() {}
    }
    assert_eq!((peer.connections(), server.idle.lock().len()), (3, LIMITS.idle_max));
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_fails_no_request() {
    let peer = Peer::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", After::Waits).await;
    let server = peer.server();
    for number in 1..=3 {
        assert_eq!(ask(&server).await.expect("an answer"), "ok");
        assert_eq!((peer.connections(), server.idle.lock().len()), (number, 1));
        peer.hang_up.notify_one();
        peer.closed().await;
        news().await;
    }
}

#[tokio::test]
async fn a_connection_is_not_kept_after_its_last_answer_or_one_that_was_not_read() {
    for (answer, after) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", After::Waits),
        // It ends with the connection.
        ("HTTP/1.1 200 OK\r\n\r\nok", After::Closes),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more", After::Waits),
    ] {
        let peer = Peer::start(answer, after).await;
        let server = peer.server();
        assert_eq!(within(ask(&server)).await.expect(answer), "ok");
        assert!(server.idle.lock().is_empty(), "{answer}");
    }

    let peer = Peer::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", After::Waits).await;
    let server = peer.server();
    drop(server.post(HeaderMap::new(), Bytes::from_static(b"the end")).await.expect("an answer"));
    peer.closed().await;
    assert!(server.idle.lock().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_an_error() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncont",
        "what?\r\n\r\n",
        "",
    ] {
        let peer = Peer::start(answer, After::Closes).await;
        let server = peer.server();
        let error = ask(&server).await.expect_err(answer);
        assert!(matches!(error, HttpError::Exchange(_)), "{answer}: {error:?}");
        assert!(server.idle.lock().is_empty(), "{answer}");
    }
}

#[tokio::test]
async fn old_connections_are_closed() {
    let peer = Peer::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", After::Waits).await;
    let server = peer.server();
    ask(&server).await.expect("an answer");
    server.close_old(clock::now() + LIMITS.keep_alive / 2);
    assert_eq!(server.idle.lock().len(), 1);
    server.close_old(clock::now() + LIMITS.keep_alive);
    assert!(server.idle.lock().is_empty());
    peer.closed().await;
}

#[tokio::test]
async fn who_is_asked_and_who_asks_is_said() {
    let mut peer = Peer::start("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", After::Waits).await;
    let url = format!("http://{}/below/?key=secret", peer.address);
    let below = server(&url, LIMITS);
    assert!(!format!("{below:?}").contains("secret"), "{below:?}");
    ask(&below).await.expect("an answer");
    let request = peer.request().await;
    assert!(request.starts_with("POST /below/ask HTTP/1.1\r\n"), "{request}");
    for line in [
        format!("host: {}", peer.address),
        format!("user-agent: tracestitch/{}", env!("CARGO_PKG_VERSION")),
        "content-length: 7".to_owned(),
    ] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line}: {request}");
    }

    let named = [(header::USER_AGENT, "me"), (header::HOST, "you")];
    let named = named.map(|(name, value)| (name, HeaderValue::from_static(value)));
    let named = HeaderMap::from_iter(named);
    let server = peer.server();
    server.post(named, Bytes::from_static(b"the end")).await.expect("an answer");
    let request = peer.request().await;
    assert!(request.contains("\r\nuser-agent: me\r\n"), "{request}");
    assert!(
        request.contains("\r\nhost: you\r\n") && request.matches("host:").count() == 1,
        "{request}"
    );
}

#[test]
fn the_usual_port_goes_without_saying() {
    for (url, host) in [
        ("http://deepflow", "deepflow"),
        ("http://deepflow:80/x", "deepflow"),
        ("https://deepflow:443", "deepflow"),
        ("https://deepflow:80", "deepflow:80"),
        ("http://[::1]:20418", "[::1]:20418"),
    ] {
        assert_eq!(server(url, LIMITS).host, host, "{url}");
    }
}

#[test]
fn who_never_answers_is_late_and_who_refuses_is_not() {
    #[derive(Debug, thiserror::Error)]
    #[error("around it")]
    struct Around(#[source] io::Error);
    let error = |kind: io::ErrorKind| Around(kind.into());
    assert!(is_late(&error(io::ErrorKind::TimedOut)));
    assert!(!is_late(&error(io::ErrorKind::ConnectionRefused)));
}

#[tokio::test]
async fn errors_say_where_and_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    // Somebody is there, and never answers.
    let tls = ClientTlsConfig { insecure_skip_verify: true, ..ClientTlsConfig::default() };
    let tls = ClientTls::new(&tls, "here", &Reloads::default()).expect("TLS");
    let limits = Connections { connect_timeout: Duration::from_millis(20), ..LIMITS };
    let url = format!("https://{address}").parse().expect("a URL");
    let silent = Server::new(&url, "/ask", limits, Some(&tls)).expect("a server");
    let error = chain(&ask(&silent).await.expect_err("nobody answers"));
    assert_eq!(error, format!("cannot connect to {address} within 20 ms"));

    drop(listener);
    let error = ask(&server(&format!("http://{address}/?key=secret"), LIMITS)).await;
    let error = chain(&error.expect_err("nobody is there"));
    assert!(error.starts_with(&format!("cannot connect to {address}: ")), "{error}");
    assert!(error.contains("refused"), "{error}");
}
