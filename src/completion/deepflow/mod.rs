//! DeepFlow's trace-completion endpoint. Only this folder knows DeepFlow's words.

pub mod answer;
mod client;
mod config;
mod json;
mod lenient;
mod plain;
mod request;
mod row;
mod rows;
#[cfg(test)]
mod tests;
mod texts;

use std::time::Duration;

use http::HeaderMap;

pub(in crate::completion) use self::client::Reply;
use self::{
    answer::Outcome,
    client::{DeepflowClient, Limits},
    request::{RequestShape, request_body},
};
pub use self::{
    client::ClientError,
    config::{CircuitBreaker, Config, Endpoints},
    request::Post,
};
use crate::{
    clock::Instant,
    config::Headers,
    tls::Reloads,
    trace::{Origin, SpanRef, TraceId},
};

/// Asks one DeepFlow for one trace, once.
pub async fn ask_once(
    config: &Config,
    trace_id: TraceId,
    spans: &[SpanRef],
) -> Result<Outcome, ClientError> {
    let deepflow = Deepflow::new(config, &Reloads::default())?;
    let (origin, now_us) = (Origin::default(), crate::clock::wall_us());
    match deepflow.prepare(&origin, trace_id, spans, now_us).0 {
        Some(request) => Ok(deepflow.ask(request, config.deadline.get()).await.outcome),
        None => Ok(Outcome::Reject("no span of the trace can be posted".to_owned())),
    }
}

/// Asks one DeepFlow.
#[derive(Debug)]
pub(super) struct Deepflow {
    client: DeepflowClient,
    shape: RequestShape,
    headers: Headers,
    org_id: Option<String>,
    timeout: Duration,
    /// Who had so long to answer and did not, has failed.
    fair: Duration,
}

/// A request made ready, so that an ask under way holds no trace.
#[derive(Debug)]
pub(super) struct Prepared {
    body: Vec<u8>,
    headers: HeaderMap,
}

/// What was posted and what was not, in spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Posted {
    pub(super) posted: u64,
    pub(super) outside_window: u64,
    pub(super) in_future: u64,
    pub(super) reduced: u64,
}

impl Deepflow {
    pub(super) fn new(config: &Config, reloads: &Reloads) -> Result<Self, ClientError> {
        let limits = Limits {
            connect_timeout: config.connect_timeout.get(),
            response_bytes_max: config.max_response_size.len(),
            connections: config.max_in_flight,
        };
        Ok(Self {
            client: DeepflowClient::new(&config.endpoint, &config.tls, limits, reloads)?,
            shape: RequestShape {
                post: config.post,
                max_app_spans: config.max_app_spans,
                max_window: config.max_window.get(),
                max_iteration: config.max_iteration,
                network_delay_us: config.network_delay_us,
            },
            headers: config.headers.clone(),
            org_id: config.org_id.clone(),
            timeout: config.timeout.get(),
            fair: config.timeout.get().min(config.deadline.get() / 2),
        })
    }

    /// Makes the request for a trace; `None` when no span of it can be posted.
    pub(super) fn prepare(
        &self,
        origin: &Origin,
        trace_id: TraceId,
        spans: &[SpanRef],
        now_us: u64,
    ) -> (Option<Prepared>, Posted) {
        let body = request_body(trace_id, spans, &self.shape, now_us);
        let posted = Posted {
            posted: body.posted,
            outside_window: body.outside_window,
            in_future: body.in_future,
            reduced: body.reduced,
        };
        let mut headers = self.headers.of(origin);
        if let Some(org_id) = self.org_id.as_deref().and_then(|id| id.parse().ok()) {
            headers.insert("x-org-id", org_id);
        }
        (body.json.map(|body| Prepared { body, headers }), posted)
    }

    /// Closes connections that nobody needed for long.
    pub(super) fn close_old(&self, now: Instant) {
        self.client.close_old(now);
    }

    /// Asks once, for no longer than the timeout and what is left of the trace's time.
    pub(super) async fn ask(&self, request: Prepared, left: Duration) -> Reply {
        let within = self.timeout.min(left);
        let asked = self.client.ask(request.body, request.headers);
        tokio::time::timeout(within, asked).await.unwrap_or_else(|_| {
            let why = format!("no answer within {} ms", within.as_millis());
            Reply { is_cut: within < self.fair, ..Outcome::Retry(why).into() }
        })
    }
}
