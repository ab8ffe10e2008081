//! A customer looks around with an app on a phone, which sends a header but exports no spans.

use super::{
    Story,
    cast::{INGRESS, MYSQL, REDIS, SHOP_WEB, STOCK},
    script::{self, Line, Parent, Script, http, http_attributes, other},
};
use crate::{demo::deepflow::Call, trace::SpanKind};

const PRODUCTS: &str = "app GET /products [shop-web]";
const CATALOGUE: &str = "app load catalogue [shop-web]";

/// The trace.
pub(super) const STORY: Story = Story { play, paths: PATHS };

/// What hangs below what, written by hand.
const PATHS: &[&[&str]] = &[
    // The ingress passes the phone's header on.
    &[
        "network s-nd GET /products from outside",
        "network s GET /products from outside",
        "system s-p GET /products from outside",
        "system c-p GET /products",
        "network c GET /products",
        "network c-nd GET /products",
        "network s-nd GET /products",
        "network s GET /products",
        "system s-p GET /products",
        PRODUCTS,
        CATALOGUE,
        // Nobody made a span for the cache; it was asked while the catalogue was loaded.
        "system c-p MGET",
        "network c MGET",
        "network c-nd MGET",
        "network s-nd MGET",
        "network s MGET",
        "system s-p MGET",
    ],
    &[
        PRODUCTS,
        "app GET /stock client [shop-web]",
        "system c-p GET /stock",
        "network c GET /stock",
        "network c-nd GET /stock",
        "network s-nd GET /stock",
        "network s GET /stock",
        "system s-p GET /stock",
        "app GET /stock [stock]",
        "system c-p SELECT amounts",
        "network c SELECT amounts",
        "network c-nd SELECT amounts",
        "network s-nd SELECT amounts",
        "network s SELECT amounts",
        "system s-p SELECT amounts",
    ],
    &[
        "app GET /stock [stock]",
        "system c-p SELECT reservations",
        "network c SELECT reservations",
        "network c-nd SELECT reservations",
        "network s-nd SELECT reservations",
        "network s SELECT reservations",
        "system s-p SELECT reservations",
    ],
];

fn play(script: &mut Script<'_>) {
    let web = script.thread(2);
    arrive(script, [web[0], web[2]]);
    load_catalogue(script, [web[0], web[1]]);
    fetch_stock(script, [web[1], web[2]]);
}

fn arrive(script: &mut Script<'_>, web: [u64; 2]) {
    let phone = script.fresh_id();
    let x_request_id = script.x_request_id();
    let ingress = script.thread(1)[0];
    let outer = Call {
        x_request_ids: [String::new(), x_request_id.clone()],
        ..http("GET", "/products", None, Some(INGRESS.answers([ingress, 0])))
    };
    script.call_with(phone, "GET /products from outside", (0, 90_000), outer);
    let inner = Call {
        x_request_ids: [x_request_id, String::new()],
        ..http("GET", "/products", Some(INGRESS.calls([0, 0])), Some(SHOP_WEB.answers(web)))
    };
    script.call_with(phone, "GET /products", (2_000, 88_000), inner);
    script.span(Line {
        service: SHOP_WEB,
        kind: SpanKind::Server,
        name: "GET /products",
        parent: Parent::Absent(phone),
        times_us: (2_500, 87_500),
        attributes: http_attributes("GET", "/products", 200),
        error: None,
    });
}

fn load_catalogue(script: &mut Script<'_>, web: [u64; 2]) {
    script.span(Line {
        service: SHOP_WEB,
        kind: SpanKind::Internal,
        name: "load catalogue",
        parent: Parent::Span(PRODUCTS),
        times_us: (5_000, 25_000),
        attributes: Vec::new(),
        error: None,
    });
    let answers = script.thread(1)[0];
    let request = ("MGET", "MGET product:1 product:7 product:9");
    let call =
        other(script::REDIS, request, SHOP_WEB.calls(web), Some(REDIS.answers([answers; 2])));
    script.call("MGET", (8_000, 12_000), call);
}

fn fetch_stock(script: &mut Script<'_>, web: [u64; 2]) {
    let stock = script.thread(2);
    let caller = "app GET /stock client [shop-web]";
    script.span(Line {
        service: SHOP_WEB,
        kind: SpanKind::Client,
        name: "GET /stock",
        parent: Parent::Span(PRODUCTS),
        times_us: (30_000, 80_000),
        attributes: http_attributes("GET", "/stock", 200),
        error: None,
    });
    let call =
        http("GET", "/stock", Some(SHOP_WEB.calls(web)), Some(STOCK.answers([stock[0], stock[2]])));
    script.call_of(caller, "GET /stock", (30_500, 79_500), call);
    script.span(Line {
        service: STOCK,
        kind: SpanKind::Server,
        name: "GET /stock",
        parent: Parent::Span(caller),
        times_us: (30_800, 79_200),
        attributes: http_attributes("GET", "/stock", 200),
        error: None,
    });
    let queries = [
        ("SELECT amounts", "SELECT id, amount FROM stock", (35_000, 45_000)),
        ("SELECT reservations", "SELECT id FROM reservations", (50_000, 70_000)),
    ];
    for ((name, statement, times_us), place) in queries.into_iter().zip(0..) {
        let answers = script.thread(1)[0];
        let client = STOCK.calls([stock[place], stock[place + 1]]);
        let call = other(
            script::MYSQL,
            ("COM_QUERY", statement),
            client,
            Some(MYSQL.answers([answers; 2])),
        );
        script.call(name, times_us, Call { response_code: Some(0), ..call });
    }
}
