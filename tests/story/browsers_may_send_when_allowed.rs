//! Scenario: pages in browsers send traces, as browsers do: first they ask (a preflight), then they send with their
//! origin; to a receiver with and without `cors`, at a path of its own.
//! Guarantees: pages of allowed origins may send and read every answer, refusals included; other pages are told nothing;
//! without `cors` nobody is.

use reqwest::{Client, Method, RequestBuilder, Response};
use tracestitch::wire::json;

use crate::support::{
    self, Setup, World,
    http::{self, JSON},
};

const CORS: &str = "traces_url_path: /otlp/traces, cors: \
    {allowed_origins: ['https://*.example.com', 'http://localhost:3000'], allowed_headers: [X-Org], max_age: 10m}";

struct Page<'a> {
    client: Client,
    url: String,
    origin: &'a str,
}

impl Page<'_> {
    async fn asks(&self, headers: &str) -> Response {
        let request = self.client.request(Method::OPTIONS, &self.url);
        let request = request.header("access-control-request-method", "POST");
        let request = request.header("access-control-request-headers", headers);
        http::send(request.header("origin", self.origin), "").await
    }

    fn sends(&self) -> RequestBuilder {
        let request = self.client.post(&self.url).header("content-type", JSON);
        request.header("origin", self.origin)
    }
}

fn allowed(response: &Response) -> &str {
    http::header(response, "access-control-allow-origin")
}

async fn world(http: &str) -> (World, String) {
    let world = World::start(Setup { http: http.to_owned(), ..Setup::without_deepflow() }).await;
    let address = world.pipeline.http().expect("OTLP/HTTP is on");
    (world, format!("http://{address}/otlp/traces"))
}

#[tokio::test]
async fn pages_of_allowed_origins_may_send_and_read() {
    let (world, url) = world(CORS).await;
    let mut sent = Vec::new();
    for (number, origin) in ["https://a.b.example.com", "http://localhost:3000"].iter().enumerate()
    {
        let page = Page { client: http::client(), url: url.clone(), origin };
        let answer = page.asks("content-type,x-org").await;
        assert!(answer.status().is_success());
        assert_eq!(allowed(&answer), *origin);
        assert_eq!(http::header(&answer, "access-control-allow-methods"), "POST");
        assert_eq!(http::header(&answer, "access-control-allow-credentials"), "true");
        assert_eq!(http::header(&answer, "access-control-max-age"), "600");
        let headers = http::header(&answer, "access-control-allow-headers").to_lowercase();
        for header in ["content-type", "content-encoding", "x-org"] {
            assert!(headers.split(',').any(|allowed| allowed == header), "{header}: {headers}");
        }
        let request = support::trace(u128::try_from(number).expect("small") + 1, 2);
        let answer = http::send(page.sends(), json::text(&request)).await;
        assert_eq!((answer.status().as_u16(), allowed(&answer)), (200, *origin));
        sent.extend(support::spans_of(&request));
        let refusal = http::send(page.sends(), "{").await;
        assert_eq!((refusal.status().as_u16(), allowed(&refusal)), (400, *origin));
    }
    world.settled(sent.len()).await;
    assert_eq!(support::assert_arrived(&sent, support::spans_at(&world.backend)), []);
    world.end(&[]).await;
}

#[tokio::test]
async fn other_pages_may_not() {
    let (world, url) = world(CORS).await;
    for origin in ["https://example.com", "https://a.example.com.evil.org", "null"] {
        let page = Page { client: http::client(), url: url.clone(), origin };
        assert_eq!(allowed(&page.asks("content-type").await), "", "{origin}");
    }
    world.end(&[]).await;
}

#[tokio::test]
async fn without_cors_no_page_may() {
    let (world, url) = world("traces_url_path: /otlp/traces").await;
    let page = Page { client: http::client(), url, origin: "https://a.example.com" };
    let answer = page.asks("content-type").await;
    assert_eq!((answer.status().as_u16(), allowed(&answer)), (405, ""));
    let missing = page.client.post(page.url.replace("/otlp", "/v1")).header("content-type", JSON);
    let answer = http::send(missing, "{}").await;
    assert_eq!(answer.status(), 404);
    let said = answer.text().await.expect("a body");
    assert!(said.contains("at /otlp/traces"), "{said}");
    world.end(&[]).await;
}
