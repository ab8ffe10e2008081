//! A payment fails: the bank, outside the cluster, is not available.

use super::{
    Story,
    cast::{ENVOY, PAYMENT, SHOP_WEB, Service},
    script::{Line, Parent, Script, Times, http, http_attributes},
};
use crate::{demo::deepflow::Call, trace::SpanKind};

const PAY: &str = "app POST /pay [shop-web]";
const SERVER_ERROR: u8 = 3;

/// The trace.
pub(super) const STORY: Story = Story { play, paths: PATHS };

/// What hangs below what, written by hand.
const PATHS: &[&[&str]] = &[&[
    "network s-nd POST /pay",
    "network s POST /pay",
    "system s-p POST /pay",
    PAY,
    "app POST /charge client [shop-web]",
    "system c-p POST /charge to envoy",
    "network c POST /charge to envoy",
    "network c-nd POST /charge to envoy",
    "network s-nd POST /charge to envoy",
    "network s POST /charge to envoy",
    "system s-p POST /charge to envoy",
    "system c-p POST /charge",
    "system s-p POST /charge",
    "app POST /charge [payment]",
    "app POST /v2/transfers client [payment]",
    // Nobody looks at the bank's side.
    "system c-p POST /v2/transfers",
    "network c POST /v2/transfers",
    "network c-nd POST /v2/transfers",
]];

fn play(script: &mut Script<'_>) {
    let web = script.thread(1);
    let web = [web[0], web[1]];
    let inbound = http("POST", "/pay", None, Some(SHOP_WEB.answers(web)));
    script.call("POST /pay", (0, 120_000), failed(inbound, 502));
    line(script, (SHOP_WEB, SpanKind::Server, "POST /pay"), Parent::None, (300, 119_700), 502);
    charge(script, web);
}

fn charge(script: &mut Script<'_>, web: [u64; 2]) {
    let (envoy, payment) = (script.thread(1), script.thread(1));
    let (envoy, payment) = ([envoy[0], envoy[1]], [payment[0], payment[1]]);
    let caller = "app POST /charge client [shop-web]";
    line(
        script,
        (SHOP_WEB, SpanKind::Client, "POST /charge"),
        Parent::Span(PAY),
        (10_000, 110_000),
        503,
    );
    let call = http("POST", "/charge", Some(SHOP_WEB.calls(web)), Some(ENVOY.answers(envoy)));
    script.call_of(caller, "POST /charge to envoy", (10_500, 109_500), failed(call, 503));
    let call = http(
        "POST",
        "/charge",
        Some(ENVOY.side(&["c-p"], envoy)),
        Some(PAYMENT.side(&["s-p"], payment)),
    );
    let x_request_ids = [script.x_request_id(), String::new()];
    script.call_of(
        caller,
        "POST /charge",
        (12_000, 108_000),
        Call { x_request_ids, ..failed(call, 503) },
    );
    line(
        script,
        (PAYMENT, SpanKind::Server, "POST /charge"),
        Parent::Span(caller),
        (12_300, 107_700),
        503,
    );

    let parent = Parent::Span("app POST /charge [payment]");
    line(script, (PAYMENT, SpanKind::Client, "POST /v2/transfers"), parent, (20_000, 100_000), 503);
    let call = http("POST", "/v2/transfers", Some(PAYMENT.calls(payment)), None);
    let caller = "app POST /v2/transfers client [payment]";
    script.call_of(caller, "POST /v2/transfers", (20_500, 99_500), failed(call, 503));
}

fn line(
    script: &mut Script<'_>,
    (service, kind, name): (Service, SpanKind, &'static str),
    parent: Parent,
    times_us: Times,
    status: u64,
) {
    let (method, path) = name.split_once(' ').unwrap_or(("POST", name));
    let attributes = http_attributes(method, path, status);
    let error = Some("the bank is not available");
    script.span(Line { service, kind, name, parent, times_us, attributes, error });
}

fn failed(call: Call, status: i64) -> Call {
    Call {
        response_status: SERVER_ERROR,
        response_code: Some(status),
        response_exception: "upstream not available".to_owned(),
        ..call
    }
}
