//! One trace → one request body (DeepFlow contract, sections 1, 6 and 15).

use std::{collections::hash_map::Entry, str, time::Duration};

use foldhash::HashMap;
use serde::{Deserialize, Serialize, Serializer};

use crate::trace::{SpanId, SpanKind, SpanRef, TraceId};

/// Which spans are posted. The answer's rows depend on the trace id and the time range only (contract section 6).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Post {
    /// All spans, up to `max_app_spans`; above it as with boundary.
    #[default]
    All,
    /// Roots and spans at a process' boundary (client, server, producer, consumer), up to `max_app_spans`.
    Boundary,
    /// One span that covers the trace: DeepFlow's cheapest request.
    Cover,
}

/// How requests are made.
#[derive(Debug, Clone)]
pub(super) struct RequestShape {
    pub(super) post: Post,
    pub(super) max_app_spans: usize,
    pub(super) max_window: Duration,
    pub(super) max_iteration: u32,
    pub(super) network_delay_us: u64,
}

/// A body to post, and what was left out of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestBody {
    /// `None` when no span can be posted.
    pub(super) json: Option<Vec<u8>>,
    pub(super) posted: u64,
    /// Start too far from the median.
    pub(super) outside_window: u64,
    pub(super) in_future: u64,
    /// Left out of a reduced list, or posted once for several copies.
    pub(super) reduced: u64,
}

/// Spans that start later than this from now have a clock we don't follow.
const FUTURE_MAX: Duration = Duration::from_mins(5);

/// Exactly the six keys DeepFlow knows: any other makes it refuse the whole request.
#[derive(Debug, Serialize)]
struct PostedSpan<'a> {
    trace_id: &'a str,
    #[serde(serialize_with = "digits")]
    span_id: Option<SpanId>,
    #[serde(serialize_with = "digits")]
    parent_span_id: Option<SpanId>,
    span_kind: i32,
    start_time_us: u64,
    end_time_us: u64,
}

#[derive(Serialize)]
struct Body<'a> {
    app_spans: Vec<PostedSpan<'a>>,
    max_iteration: u32,
    network_delay_us: u64,
}

/// Bytes that a span takes, and what is around all of them.
const SPAN_BYTES: usize = 256;

/// Makes the request for a trace. `now_us` is the wall clock.
pub(super) fn request_body(
    trace_id: TraceId,
    spans: &[SpanRef],
    shape: &RequestShape,
    now_us: u64,
) -> RequestBody {
    let mut body =
        RequestBody { json: None, posted: 0, outside_window: 0, in_future: 0, reduced: 0 };
    let near = within_window(spans, shape.max_window, now_us, &mut body);
    let all = near.len();
    let chosen = match shape.post {
        Post::Cover => cover(&near),
        Post::All if all <= shape.max_app_spans => parents_first(near),
        Post::All | Post::Boundary => parents_first(boundary(&near, shape.max_app_spans)),
    };
    body.reduced = count(all.saturating_sub(chosen.len()));
    body.posted = count(chosen.len());
    if chosen.is_empty() {
        return body;
    }
    let trace_id = trace_id.to_string();
    let request = Body {
        app_spans: chosen.iter().map(|span| posted(&trace_id, span)).collect(),
        max_iteration: shape.max_iteration,
        network_delay_us: shape.network_delay_us,
    };
    let mut json = Vec::with_capacity((chosen.len() + 1) * SPAN_BYTES);
    // Numbers and strings into memory: this can't fail.
    body.json = serde_json::to_writer(&mut json, &request).ok().map(|()| json);
    body
}

/// One clock at 1970 must not make DeepFlow scan days of rows.
fn within_window(
    spans: &[SpanRef],
    window: Duration,
    now_us: u64,
    body: &mut RequestBody,
) -> Vec<SpanRef> {
    let window_ns = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
    let latest_us =
        now_us.saturating_add(u64::try_from(FUTURE_MAX.as_micros()).unwrap_or(u64::MAX));
    let latest_ns = latest_us.saturating_mul(1000);
    // Those without a start or from the future, however many, say nothing of when the others were.
    let starts = spans.iter().map(|span| span.start_ns);
    let mut starts: Vec<u64> = starts.filter(|start| (1..=latest_ns).contains(start)).collect();
    let middle = starts.len() / 2;
    let median = if starts.is_empty() { 0 } else { *starts.select_nth_unstable(middle).1 };
    let mut near = Vec::with_capacity(spans.len());
    for span in spans {
        if span.start_ns > latest_ns {
            body.in_future += 1;
        } else if span.start_ns.abs_diff(median) > window_ns || span.start_ns == 0 {
            body.outside_window += 1;
        } else {
            // An end that is far off would widen the search just as a start does.
            let end_max = median.saturating_add(window_ns).min(latest_ns).max(span.start_ns);
            near.push(SpanRef { end_ns: span.end_ns.clamp(span.start_ns, end_max), ..*span });
        }
    }
    near
}

/// Roots and boundary spans up to `max`, the ones with the first start and the last end always.
fn boundary(spans: &[SpanRef], max: usize) -> Vec<SpanRef> {
    let ids: foldhash::HashSet<SpanId> = spans.iter().map(|span| span.id).collect();
    let is_root = |span: &SpanRef| span.parent.is_none_or(|parent| !ids.contains(&parent));
    let edges = [
        spans.iter().enumerate().min_by_key(|(_, span)| span.start_ns),
        spans.iter().enumerate().max_by_key(|(_, span)| span.end_ns),
    ];
    let edges: Vec<usize> = edges.into_iter().flatten().map(|(index, _)| index).collect();
    let rank = |(index, span): &(usize, &SpanRef)| {
        if edges.contains(index) {
            0
        } else if is_root(span) {
            1
        } else if span.kind.is_caller() || span.kind.is_callee() {
            2
        } else {
            3
        }
    };
    let mut ranked: Vec<(usize, &SpanRef)> = spans.iter().enumerate().collect();
    ranked.sort_by_key(|entry| (rank(entry), entry.1.start_ns));
    let chosen = ranked.iter().filter(|entry| rank(entry) < 3).take(max.max(2));
    chosen.map(|(_, span)| **span).collect()
}

/// One span over all of them.
fn cover(spans: &[SpanRef]) -> Vec<SpanRef> {
    let first = spans.iter().min_by_key(|span| span.start_ns);
    let end_ns = spans.iter().map(|span| span.end_ns.max(span.start_ns)).max();
    let cover = first.zip(end_ns).map(|(first, end_ns)| SpanRef { parent: None, end_ns, ..*first });
    cover.into_iter().collect()
}

/// By start, but never a child before its parent: DeepFlow recurses over a list in which it is (contract section 2).
fn parents_first(mut spans: Vec<SpanRef>) -> Vec<SpanRef> {
    spans.sort_by_key(|span| span.start_ns);
    let mut index: HashMap<SpanId, usize> = HashMap::default();
    index.reserve(spans.len());
    // A span sent twice is posted once: DeepFlow would only give it back twice.
    spans.retain(|span| {
        let number = index.len();
        match index.entry(span.id) {
            Entry::Vacant(entry) => *entry.insert(number) == number,
            Entry::Occupied(_) => false,
        }
    });
    let mut placed = vec![false; spans.len()];
    let mut ordered = Vec::with_capacity(spans.len());
    let mut chain = Vec::new();
    for start in 0..spans.len() {
        let mut next = Some(start);
        // Up to the first ancestor that has its place; a cycle ends at a span that is in the chain already.
        while let Some(number) = next.filter(|&number| !placed.get(number).copied().unwrap_or(true))
        {
            if let Some(placed) = placed.get_mut(number) {
                *placed = true;
            }
            chain.push(number);
            let parent = spans.get(number).and_then(|span| span.parent);
            next = parent.and_then(|parent| index.get(&parent).copied());
        }
        ordered.extend(chain.drain(..).rev().filter_map(|number| spans.get(number).copied()));
    }
    ordered
}

fn posted<'a>(trace_id: &'a str, span: &SpanRef) -> PostedSpan<'a> {
    let start_time_us = span.start_ns / 1000;
    PostedSpan {
        trace_id,
        span_id: Some(span.id),
        parent_span_id: span.parent,
        span_kind: SpanKind::to_wire(span.kind),
        start_time_us,
        end_time_us: span.end_ns.div_ceil(1000).max(start_time_us),
    }
}

#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn digits<S: Serializer>(id: &Option<SpanId>, serializer: S) -> Result<S::Ok, S::Error> {
    let digits = id.map(SpanId::digits);
    let digits = digits.as_ref().and_then(|digits| str::from_utf8(digits).ok());
    serializer.serialize_str(digits.unwrap_or_default())
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;
    const NOW_NS: u64 = 1_700_000_000 * SECOND_NS;

    fn shape(post: Post, max_app_spans: usize) -> RequestShape {
        let max_window = Duration::from_hours(1);
        RequestShape {
            post,
            max_app_spans,
            max_window,
            max_iteration: 30,
            network_delay_us: 3_000_000,
        }
    }

    fn span(id: u64, parent: u64, kind: SpanKind, start_ns: u64, len_ns: u64) -> SpanRef {
        SpanRef {
            offset: 0,
            len: 0,
            resource: 0,
            id: SpanId::from_number(id).expect("not zero"),
            parent: SpanId::from_number(parent),
            kind,
            start_ns,
            end_ns: start_ns + len_ns,
        }
    }

    fn check(spans: &[SpanRef], shape: &RequestShape, ids: &[u64], left_out: (u64, u64, u64)) {
        let trace_id = "000000000000000000000000000000ff".parse().expect("an id");
        let body = request_body(trace_id, spans, shape, NOW_NS / 1000);
        assert_eq!((body.outside_window, body.in_future, body.reduced), left_out);
        let json: serde_json::Value =
            serde_json::from_slice(body.json.as_deref().unwrap_or(b"{}")).expect("JSON");
        let posted = json["app_spans"].as_array().cloned().unwrap_or_default();
        let found: Vec<u64> = posted
            .iter()
            .map(|span| {
                u64::from_str_radix(span["span_id"].as_str().expect("text"), 16).expect("hex")
            })
            .collect();
        assert_eq!(found, ids);
        assert!(posted.iter().all(|span| span.as_object().expect("object").len() == 6));
    }

    #[test]
    fn parents_come_first_whatever_the_clocks_say() {
        let spans = [
            span(3, 2, SpanKind::Internal, NOW_NS - 300, 1),
            span(2, 1, SpanKind::Server, NOW_NS - 200, 1),
            span(1, 0, SpanKind::Client, NOW_NS - 100, 1),
            span(4, 5, SpanKind::Internal, NOW_NS - 50, 1),
            span(5, 4, SpanKind::Internal, NOW_NS - 40, 1),
            span(1, 0, SpanKind::Client, NOW_NS - 100, 1),
        ];
        check(&spans, &shape(Post::All, 300), &[1, 2, 3, 5, 4], (0, 0, 1));
    }

    #[test]
    fn clocks_that_are_far_off_are_not_posted() {
        let spans = [
            span(1, 0, SpanKind::Server, NOW_NS, SECOND_NS),
            span(2, 1, SpanKind::Internal, NOW_NS, SECOND_NS),
            span(3, 1, SpanKind::Internal, 0, SECOND_NS),
            span(4, 1, SpanKind::Internal, NOW_NS - 3700 * SECOND_NS, SECOND_NS),
            span(5, 1, SpanKind::Internal, NOW_NS + 301 * SECOND_NS, SECOND_NS),
            span(6, 1, SpanKind::Internal, NOW_NS, 99_999 * SECOND_NS),
        ];
        check(&spans, &shape(Post::All, 300), &[1, 2, 6], (2, 1, 0));
        check(&spans[2..3], &shape(Post::All, 300), &[], (1, 0, 0));
        let timeless = span(9, 1, SpanKind::Internal, 0, 1);
        let mostly = [timeless, timeless, timeless, spans[0]];
        check(&mostly, &shape(Post::All, 300), &[1], (3, 0, 0));
    }

    #[test]
    fn big_traces_are_posted_reduced() {
        let mut spans: Vec<SpanRef> = (1..=10)
            .map(|id| span(id, id - 1, SpanKind::Internal, NOW_NS - 1000 + id, 1))
            .collect();
        spans.push(span(20, 3, SpanKind::Client, NOW_NS - 900, 1));
        check(&spans, &shape(Post::All, 5), &[1, 20], (0, 0, 9));
        check(&spans, &shape(Post::Boundary, 300), &[1, 20], (0, 0, 9));
        check(&spans, &shape(Post::Cover, 300), &[1], (0, 0, 10));
    }
}
