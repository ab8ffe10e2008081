//! A double and a client for it.

use std::net::{Ipv4Addr, SocketAddr};

use http::{HeaderMap, Method};
use serde_json::Value;
use tracestitch::demo::deepflow::{Deepflow, DeepflowConfig, Row};

/// The path of the endpoint.
pub(crate) const PATH: &str = "/v1/stats/querier/tracing-completion-by-external-app-spans";

/// A running double.
pub(crate) struct Double {
    pub deepflow: Deepflow,
    pub caller: Caller,
}

/// A client of a double.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    client: reqwest::Client,
    url: String,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Double {
    pub(crate) async fn start(config: DeepflowConfig) -> Self {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let deepflow = Deepflow::start(config, addr).await.expect("a free port");
        let caller = Caller { client: client(), url: deepflow.url() };
        Self { deepflow, caller }
    }

    pub(crate) async fn with_rows(rows: Vec<Row>) -> Self {
        Self::start(DeepflowConfig { rows, ..DeepflowConfig::default() }).await
    }

    pub(crate) async fn post(&self, body: &str) -> Answered {
        self.caller.post(body).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: &[u8],
    ) -> reqwest::Result<Answered> {
        self.caller.send(method, path, body).await
    }

    pub(crate) async fn stop(self) {
        self.deepflow.stop().await;
    }
}

impl Caller {
    pub(crate) async fn post(&self, body: &str) -> Answered {
        self.send(Method::POST, PATH, body.as_bytes()).await.expect("an answer")
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: &[u8],
    ) -> reqwest::Result<Answered> {
        let url = format!("{}{path}", self.url);
        let request = self.client.request(method, url).header("X-Org-Id", "7").body(body.to_vec());
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answered { status, headers, body: response.bytes().await?.to_vec() })
    }
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl PartialEq for Answered {
    fn eq(&self, other: &Self) -> bool {
        self.status == other.status && self.body == other.body
    }
}

/// Status and body are the recorded ones; a description of one quoted word may name another column.
pub(crate) fn assert_alike(answered: &Answered, recorded: &Value) {
    let (mut given, mut expected) = (answered.json(), recorded["body"].clone());
    for body in [&mut given, &mut expected] {
        let words = body["DESCRIPTION"].as_str().unwrap_or_default();
        let is_one = |word: &str| !word.contains('\'') && !word.contains(' ');
        let word = words.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        if word.is_some_and(is_one) {
            body["DESCRIPTION"] = "one quoted word".into();
        }
    }
    assert_eq!(given, expected);
    assert_eq!(u64::from(answered.status), recorded["http_status"]);
}

fn client() -> reqwest::Client {
    // A second installation fails, and then there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy().http1_only().tls_certs_only([]);
    builder.build().expect("a client without certificates")
}
