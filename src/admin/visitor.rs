//! Who may look at more than health and metrics.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header, uri::Authority};

use super::Pages;
use crate::{auth, config::is_loopback};

/// For probes and Prometheus: they tell nothing of a trace or a tenant.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Lets those in who may. Without tokens only this machine may, and everybody who reaches it; but no site that a browser here
/// has open, whose name can be made to stand for this machine ("DNS rebinding"): a browser says that name.
pub(super) async fn refuse_strangers(
    State(pages): State<Pages>,
    request: Request,
    next: Next,
) -> Response {
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    if !pages.auth.is_on() && !pages.is_loopback {
        let why =
            "this page is shown beyond loopback only to who has a token: set admin.auth.tokens\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    if !pages.auth.is_on() && !is_here(&request) {
        let why = "without tokens this page is shown only under the names of this machine's loopback, localhost or 127.0.0.1: \
                   set admin.auth.tokens\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    if !pages.auth.admits(request.headers()) {
        let challenge = [(header::WWW_AUTHENTICATE, auth::CHALLENGE)];
        let why = "no token, or one that is not in admin.auth.tokens: send `authorization: Bearer TOKEN`\n";
        return (StatusCode::UNAUTHORIZED, challenge, why).into_response();
    }
    next.run(request).await
}

/// Who asks, asks for loopback; all browsers say what for: in the header or, by HTTP/2, beside the path.
fn is_here(request: &Request) -> bool {
    let is_here = |authority: &Authority| is_loopback(authority.host());
    let mut hosts = request.headers().get_all(header::HOST).iter();
    request.uri().authority().is_none_or(is_here)
        && hosts.all(|host| {
            let host: Option<Authority> = host.to_str().ok().and_then(|host| host.parse().ok());
            host.as_ref().is_some_and(is_here)
        })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn only_loopback_is_here() {
        let is_here_as = |host: &str| {
            let request = Request::get("/ledger").header(header::HOST, host);
            is_here(&request.body(Body::empty()).expect("a request"))
        };
        for host in ["localhost", "LocalHost:8888", "127.0.0.1:8888", "127.9.9.9", "[::1]:8888"] {
            assert!(is_here_as(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8888", "10.0.0.1:8888", "", "a b"] {
            assert!(!is_here_as(host), "{host}");
        }
        let by_http2 =
            |uri: &str| is_here(&Request::get(uri).body(Body::empty()).expect("a request"));
        assert!(by_http2("/ledger"), "no browser");
        assert!(by_http2("https://localhost:8888/ledger"));
        assert!(!by_http2("https://evil.example:8888/ledger"));
    }
}
