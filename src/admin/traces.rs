//! `/traces`: what happened to the last traces, in a line each, and to one of them in full.

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde::Serialize;

use super::{Pages, json};
use crate::trace::{TraceId, told::Told};

/// Lines of the list; there may be more traces than that.
const LISTED_MAX: usize = 1000;

/// One trace, by the parts it was released in.
#[derive(Debug, Serialize)]
struct Page {
    trace_id: String,
    parts: Vec<Told>,
}

/// Newest first, a JSON object in each line.
pub(super) async fn list(State(pages): State<Pages>) -> Response {
    let mut lines = String::new();
    for life in pages.watched.lives.last(LISTED_MAX) {
        // Texts and numbers: this can't fail.
        lines += &serde_json::to_string(&life.told().summary()).unwrap_or_default();
        lines.push('\n');
    }
    ([(header::CONTENT_TYPE, "application/jsonl")], lines).into_response()
}

pub(super) async fn one(State(pages): State<Pages>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<TraceId>() else {
        let why = "a trace id has 32 hexadecimal digits and is not zero\n";
        return (StatusCode::BAD_REQUEST, why).into_response();
    };
    let parts: Vec<Told> = pages.watched.lives.of(id).iter().map(|life| life.told()).collect();
    if parts.is_empty() {
        return (StatusCode::NOT_FOUND, unknown(id, pages.recent_traces)).into_response();
    }
    json(&Page { trace_id: id.to_string(), parts })
}

fn unknown(id: TraceId, recent_traces: usize) -> String {
    if recent_traces == 0 {
        return "no traces are remembered: admin.recent_traces is 0\n".to_owned();
    }
    format!(
        "nothing is known of trace {id}: it has not come, is still open (buffer.idle), or is not among the last \
         {recent_traces} that were released (admin.recent_traces; of more than 1000 a second the first ones are)\n"
    )
}
