//! Free ports, waiting, and HTTP on this machine.

use std::{net::TcpListener, time::Duration};

use axum::Router;
use tokio::time::Instant;

/// Where everything listens.
pub(crate) const HOST: &str = "127.0.0.1";
/// Between two looks at something that is waited for.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// So many ports that were free a moment ago.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let taken = [(); N].map(|()| TcpListener::bind((HOST, 0)).expect("a free port"));
    taken.map(|listener| listener.local_addr().expect("an address").port())
}

/// Looks until there is something to see.
///
/// # Panics
/// When the patience is over.
pub(crate) async fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The text at this URL, if it is answered with 200.
pub(crate) async fn get(url: &str) -> Option<String> {
    // A second installation fails, and then there is one.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    let client = builder.build().expect("a client without certificates");
    let answer = client.get(url).send().await.ok()?;
    if answer.status() != 200 {
        return None;
    }
    answer.text().await.ok()
}

/// A server that nobody instruments; it ends with the test. Gives its URL.
pub(crate) async fn leaf() -> String {
    let listener = tokio::net::TcpListener::bind((HOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().fallback(async || "7 in stock");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/")
}
