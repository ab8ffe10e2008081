//! A loopback OTLP/HTTP backend: it answers by a script, then with success, and keeps what it took.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::StreamExt as _;

/// One answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    /// Content-Type, Retry-After, Location …
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

/// How the bodies of answers end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum End {
    /// Whole.
    #[default]
    Whole,
    /// The connection breaks behind what there is of it.
    Breaks,
    /// Nothing follows, and the connection stays.
    Stalls,
}

/// One request, whatever it was answered.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Its body as it was before compression.
    pub(crate) fn plain(&self) -> Vec<u8> {
        use std::io::Read as _;
        let mut plain = Vec::new();
        match self.header("content-encoding") {
            "gzip" => {
                let mut decoder = flate2::read::GzDecoder::new(self.body.as_ref());
                decoder.read_to_end(&mut plain).expect("gzip");
            }
            "zstd" => plain = zstd::decode_all(self.body.as_ref()).expect("zstd"),
            _ => plain = self.body.to_vec(),
        }
        plain
    }
}

#[derive(Default)]
struct Kept {
    end: Mutex<End>,
    script: Mutex<VecDeque<Answer>>,
    requests: Mutex<Vec<Request>>,
}

/// Ends when it is dropped.
pub(crate) struct HttpBackend {
    address: SocketAddr,
    kept: Arc<Kept>,
    server: JoinHandle<()>,
}

impl HttpBackend {
    pub(crate) async fn start() -> Self {
        Self::at(super::ANY_PORT).await
    }

    pub(crate) async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let kept = Arc::<Kept>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&kept));
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Self { address, kept, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next requests get these answers.
    pub(crate) fn answers(&self, answers: impl IntoIterator<Item = Answer>) {
        self.kept.script.lock().extend(answers);
    }

    /// From now on the bodies of answers end so.
    pub(crate) fn end_bodies(&self, end: End) {
        *self.kept.end.lock() = end;
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.kept.requests.lock().clone()
    }
}

impl Drop for HttpBackend {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State(kept): State<Arc<Kept>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let like = headers.get("content-type").and_then(|value| value.to_str().ok()).map(str::to_owned);
    kept.requests.lock().push(Request { path, headers, body });
    let answer = kept.script.lock().pop_front();
    let answer = answer.unwrap_or_else(|| success(&like.unwrap_or_default()));
    let mut response =
        (StatusCode::from_u16(answer.code).expect("a code"), ended(answer.body, *kept.end.lock()))
            .into_response();
    response.headers_mut().remove("content-type");
    for (name, value) in answer.headers {
        response.headers_mut().insert(name, value.parse().expect("a header"));
    }
    response
}

fn ended(bytes: Vec<u8>, end: End) -> Body {
    let rest = match end {
        End::Whole => return Body::from(bytes),
        End::Breaks => Some(Err("for a test")),
        End::Stalls => None,
    };
    // The server must have a pause to send what there is.
    let rest = tokio_stream::iter(rest).then(|rest| async move {
        tokio::task::yield_now().await;
        rest
    });
    Body::from_stream(tokio_stream::once(Ok(bytes)).chain(rest).chain(tokio_stream::pending()))
}

fn success(content_type: &str) -> Answer {
    let body =
        if content_type.starts_with("application/json") { b"{}".to_vec() } else { Vec::new() };
    Answer { code: 200, headers: vec![("content-type", content_type.to_owned())], body }
}
