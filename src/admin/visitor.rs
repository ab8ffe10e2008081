//! Who may look at more than health and metrics.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};

use super::Pages;
use crate::auth;

/// For probes and Prometheus: they tell nothing of a trace or a tenant.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Lets those in who may. Without tokens only this machine may, and everybody who reaches it.
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
    if !pages.auth.admits(request.headers()) {
        let challenge = [(header::WWW_AUTHENTICATE, auth::CHALLENGE)];
        let why = "no token, or one that is not in admin.auth.tokens: send `authorization: Bearer TOKEN`\n";
        return (StatusCode::UNAUTHORIZED, challenge, why).into_response();
    }
    next.run(request).await
}
