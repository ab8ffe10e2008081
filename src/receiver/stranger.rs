//! Who sends to OTLP/HTTP without a token that is known here: refused before anything of the body is read.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, header};
use tonic::Code;

use super::{
    answer::{failed, written_in},
    door::Door,
};
use crate::{
    auth,
    telemetry::catalogue::{RequestOutcome, Transport},
    wire::status::RpcStatus,
};

/// For both protocols.
pub(super) const NO_TOKEN: &str =
    "no token, or one that is not known here: send `authorization: Bearer TOKEN`";

/// Lets those in who may.
pub(super) async fn refuse_strangers(
    State(door): State<Arc<Door>>,
    request: Request,
    next: Next,
) -> Response {
    if door.admits(request.headers()) {
        return next.run(request).await;
    }
    door.metrics(Transport::Http).requests.add(RequestOutcome::Unauthenticated as usize, 1);
    refusal(request.headers())
}

/// With what browsers and people are to do about it.
fn refusal(headers: &HeaderMap) -> Response {
    let status = RpcStatus::new(Code::Unauthenticated, NO_TOKEN);
    let mut response = failed(written_in(headers), &status);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, auth::CHALLENGE);
    response
}
