//! A customer pays for a cart: every kind of hop there is.

use super::{
    Story,
    cast::{
        self, CART, ENVOY, INGRESS, LEGACY_PRICING, MYSQL, ORDERS, PAYMENT, REDIS, SHOP_WEB, STOCK,
    },
    script::{self, Line, Parent, Script, http, http_attributes, other},
};
use crate::{demo::deepflow::Call, trace::SpanKind};

const CHECKOUT: &str = "app POST /checkout [shop-web]";

/// The trace.
pub(super) const STORY: Story = Story { play, paths: PATHS };

/// What hangs below what, written by hand.
const PATHS: &[&[&str]] = &[
    // The ingress came first and had no header; what it calls in X-Request-ID leads to shop-web.
    &[
        "network s-nd POST /checkout from outside",
        "network s POST /checkout from outside",
        "system s-p POST /checkout from outside",
        "system c-p POST /checkout",
        "network c POST /checkout",
        "network c-nd POST /checkout",
        "network s-nd POST /checkout",
        "network s POST /checkout",
        "system s-p POST /checkout",
        CHECKOUT,
        "app GET /cart client [shop-web]",
        "system c-p GET /cart",
        "network c GET /cart",
        "network c-nd GET /cart",
        "network s-nd GET /cart",
        "network s GET /cart",
        "system s-p GET /cart",
        "app GET /cart [cart]",
        "app HGETALL client [cart]",
        "system c-p HGETALL cart:42",
        "network c HGETALL cart:42",
        "network c-nd HGETALL cart:42",
        "network s-nd HGETALL cart:42",
        "network s HGETALL cart:42",
        "system s-p HGETALL cart:42",
    ],
    // Nobody made a span for the name lookup. Its packets are never found.
    &[CHECKOUT, "system c-p DNS legacy-pricing"],
    // Through a service without SDK that passes the header on.
    &[
        CHECKOUT,
        "app GET /price client [shop-web]",
        "system c-p GET /price",
        "network c GET /price",
        "network c-nd GET /price",
        "network s-nd GET /price",
        "network s GET /price",
        "system s-p GET /price",
        "system c-p GET /stock/7",
        "network c GET /stock/7",
        "network c-nd GET /stock/7",
        "network s-nd GET /stock/7",
        "network s GET /stock/7",
        "system s-p GET /stock/7",
        "app GET /stock/{id} [stock]",
        "system c-p SELECT",
        "network c SELECT",
        "network c-nd SELECT",
        "network s-nd SELECT",
        "network s SELECT",
        "system s-p SELECT",
    ],
    // Through a sidecar in the pod of the called service.
    &[
        CHECKOUT,
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
    ],
    &[
        CHECKOUT,
        "app shop.v1.Orders/Place client [shop-web]",
        "system c-p Place",
        "network c Place",
        "network c-nd Place",
        "network s-nd Place",
        "network s Place",
        "system s-p Place",
        "app shop.v1.Orders/Place [orders]",
    ],
];

fn play(script: &mut Script<'_>) {
    // shop-web does one thing after the other in one thread: five calls, among them the DNS question.
    let web = script.thread(5);
    arrive(script, [web[0], web[5]]);
    fetch_cart(script, [web[0], web[1]]);
    let lookup = other(
        script::DNS,
        ("A", "legacy-pricing.shop.svc.cluster.local"),
        SHOP_WEB.calls([web[1], web[2]]),
        None,
    );
    let lookup = Call { request_id: Some(4711), response_code: Some(0), ..lookup };
    script.call("DNS legacy-pricing", (42_000, 43_000), lookup);
    fetch_price(script, [web[2], web[3]]);
    charge(script, [web[3], web[4]]);
    place_order(script, [web[4], web[5]]);
}

fn arrive(script: &mut Script<'_>, web: [u64; 2]) {
    let x_request_id = script.x_request_id();
    let ingress = script.thread(1)[0];
    let path = "/checkout";
    let outer = Call {
        x_request_ids: [String::new(), x_request_id.clone()],
        ..http("POST", path, None, Some(INGRESS.answers([ingress, 0])))
    };
    script.call("POST /checkout from outside", (0, 200_000), outer);
    let inner = Call {
        x_request_ids: [x_request_id, String::new()],
        ..http("POST", path, Some(INGRESS.calls([0, 0])), Some(SHOP_WEB.answers(web)))
    };
    script.call("POST /checkout", (3_000, 197_000), inner);
    script.span(Line {
        service: SHOP_WEB,
        kind: SpanKind::Server,
        name: "POST /checkout",
        parent: Parent::None,
        times_us: (3_500, 196_500),
        attributes: http_attributes("POST", path, 200),
        error: None,
    });
}

fn fetch_cart(script: &mut Script<'_>, web: [u64; 2]) {
    let cart = script.thread(1);
    let cart = [cart[0], cart[1]];
    client(script, "GET /cart", (10_000, 40_000));
    let call = http("GET", "/cart", Some(SHOP_WEB.calls(web)), Some(CART.answers(cart)));
    script.call_of("app GET /cart client [shop-web]", "GET /cart", (10_500, 39_500), call);
    script.span(Line {
        service: CART,
        kind: SpanKind::Server,
        name: "GET /cart",
        parent: Parent::Span("app GET /cart client [shop-web]"),
        times_us: (10_800, 39_200),
        attributes: http_attributes("GET", "/cart", 200),
        error: None,
    });
    script.span(Line {
        service: CART,
        kind: SpanKind::Client,
        name: "HGETALL",
        parent: Parent::Span("app GET /cart [cart]"),
        times_us: (15_000, 18_000),
        attributes: vec![
            cast::text("db.system.name", "redis"),
            cast::text("db.operation.name", "HGETALL"),
        ],
        error: None,
    });
    let answers = script.thread(1)[0];
    let request = ("HGETALL", "HGETALL cart:42");
    let call = other(script::REDIS, request, CART.calls(cart), Some(REDIS.answers([answers; 2])));
    script.call("HGETALL cart:42", (15_300, 17_700), call);
}

fn fetch_price(script: &mut Script<'_>, web: [u64; 2]) {
    let (legacy, stock) = (script.thread(1), script.thread(1));
    let (legacy, stock) = ([legacy[0], legacy[1]], [stock[0], stock[1]]);
    let caller = "app GET /price client [shop-web]";
    client(script, "GET /price", (45_000, 100_000));
    let call =
        http("GET", "/price", Some(SHOP_WEB.calls(web)), Some(LEGACY_PRICING.answers(legacy)));
    script.call_of(caller, "GET /price", (45_500, 99_500), call);
    let call =
        http("GET", "/stock/7", Some(LEGACY_PRICING.calls(legacy)), Some(STOCK.answers(stock)));
    script.call_of(caller, "GET /stock/7", (48_000, 96_000), call);
    script.span(Line {
        service: STOCK,
        kind: SpanKind::Server,
        name: "GET /stock/{id}",
        parent: Parent::Span(caller),
        times_us: (48_300, 95_700),
        attributes: http_attributes("GET", "/stock/7", 200),
        error: None,
    });
    let answers = script.thread(1)[0];
    let request = ("COM_QUERY", "SELECT amount FROM stock WHERE id = ?");
    let call = other(script::MYSQL, request, STOCK.calls(stock), Some(MYSQL.answers([answers; 2])));
    script.call("SELECT", (55_000, 80_000), Call { response_code: Some(0), ..call });
}

fn charge(script: &mut Script<'_>, web: [u64; 2]) {
    let (envoy, payment) = (script.thread(1), script.thread(1));
    let (envoy, payment) = ([envoy[0], envoy[1]], [payment[0], payment[1]]);
    let caller = "app POST /charge client [shop-web]";
    client(script, "POST /charge", (105_000, 150_000));
    let call = http("POST", "/charge", Some(SHOP_WEB.calls(web)), Some(ENVOY.answers(envoy)));
    script.call_of(caller, "POST /charge to envoy", (105_500, 149_500), call);
    let x_request_id = script.x_request_id();
    let call = Call {
        x_request_ids: [x_request_id, String::new()],
        ..http(
            "POST",
            "/charge",
            Some(ENVOY.side(&["c-p"], envoy)),
            Some(PAYMENT.side(&["s-p"], payment)),
        )
    };
    script.call_of(caller, "POST /charge", (107_000, 148_000), call);
    script.span(Line {
        service: PAYMENT,
        kind: SpanKind::Server,
        name: "POST /charge",
        parent: Parent::Span(caller),
        times_us: (107_300, 147_700),
        attributes: http_attributes("POST", "/charge", 200),
        error: None,
    });
}

fn place_order(script: &mut Script<'_>, web: [u64; 2]) {
    let orders = script.thread(1);
    let caller = "app shop.v1.Orders/Place client [shop-web]";
    let name = "shop.v1.Orders/Place";
    client(script, name, (155_000, 190_000));
    let request = ("POST", "shop.v1.Orders");
    let answers = ORDERS.answers([orders[0], orders[1]]);
    let call = Call {
        endpoint: "/shop.v1.Orders/Place".to_owned(),
        request_id: Some(5),
        response_code: Some(0),
        ..other(script::GRPC, request, SHOP_WEB.calls(web), Some(answers))
    };
    script.call_of(caller, "Place", (155_500, 189_500), call);
    script.span(Line {
        service: ORDERS,
        kind: SpanKind::Server,
        name,
        parent: Parent::Span(caller),
        times_us: (155_800, 189_200),
        attributes: vec![cast::text("rpc.system", "grpc"), cast::text("rpc.method", "Place")],
        error: None,
    });
}

fn client(script: &mut Script<'_>, name: &'static str, times_us: script::Times) {
    let (method, path) = name.split_once(' ').unwrap_or(("POST", name));
    script.span(Line {
        service: SHOP_WEB,
        kind: SpanKind::Client,
        name,
        parent: Parent::Span(CHECKOUT),
        times_us,
        attributes: http_attributes(method, path, 200),
        error: None,
    });
}
