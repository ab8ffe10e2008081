//! CORS: which pages in browsers may send here, in the Collector's words.

use http::{HeaderName, HeaderValue, Method, header, request::Parts};
use serde::{Deserialize, Serialize};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::config::{Interval, Problems};

/// Pages that may send from a browser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CorsConfig {
    /// Origins of the pages: scheme and host, with one * for a part (https://*.example.com), or * for all.
    pub allowed_origins: Vec<String>,
    /// Request headers they may set beside those that every SDK sets; * for any.
    pub allowed_headers: Vec<String>,
    /// How long browsers remember the answer to their question.
    pub max_age: Interval,
}

impl Default for CorsConfig {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            allowed_headers: Vec::new(),
            max_age: Interval::from_secs(2 * 3600),
        }
    }
}

/// What exporters in browsers set, and what browsers ask for although they need not.
const SDK_HEADERS: [HeaderName; 4] = [
    header::ACCEPT,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    HeaderName::from_static("x-requested-with"),
];

impl CorsConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.allowed_origins.is_empty() {
            let hint = Some("name origins, for example https://*.example.com, or leave cors out");
            problems.push("allowed_origins", "no page may send", hint);
        }
        for (index, origin) in self.allowed_origins.iter().enumerate() {
            if !is_pattern(origin) {
                let hint = Some("write https://shop.example.com, https://*.example.com or *");
                let problem = format!("`{origin}` is no origin");
                problems.push(&format!("allowed_origins.{index}"), problem, hint);
            }
        }
        for (index, name) in self.allowed_headers.iter().enumerate() {
            if name != "*" && name.parse::<HeaderName>().is_err() {
                let problem = format!("`{name}` is no header name");
                problems.push(&format!("allowed_headers.{index}"), problem, None);
            }
        }
    }

    /// What answers the browsers' questions, and tells them who may read an answer.
    pub(super) fn layer(&self) -> CorsLayer {
        let patterns = self.allowed_origins.clone();
        let allowed = move |origin: &HeaderValue, _: &Parts| {
            let origin = origin.to_str().unwrap_or_default();
            patterns.iter().any(|pattern| matches(pattern, origin))
        };
        CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(allowed))
            // Beacons are sent with credentials, whether there are any or not.
            .allow_credentials(true)
            .allow_methods([Method::POST])
            .allow_headers(self.headers())
            .expose_headers([header::RETRY_AFTER])
            .max_age(self.max_age.get())
    }

    fn headers(&self) -> AllowHeaders {
        if self.allowed_headers.iter().any(|name| name == "*") {
            return AllowHeaders::mirror_request();
        }
        let named = self.allowed_headers.iter().filter_map(|name| name.parse().ok());
        AllowHeaders::list(SDK_HEADERS.into_iter().chain(named))
    }
}

/// A scheme and a host, with one star at most.
fn is_pattern(text: &str) -> bool {
    let host = text.split_once("://").map(|(_, host)| host);
    let is_origin = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', ' ']));
    text == "*" || (is_origin && text.matches('*').count() <= 1)
}

/// Schemes and hosts are the same in either case.
fn matches(pattern: &str, origin: &str) -> bool {
    let (pattern, origin) = (pattern.to_ascii_lowercase(), origin.to_ascii_lowercase());
    match pattern.split_once('*') {
        None => pattern == origin,
        Some((start, end)) => origin.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_a_part() {
        for (pattern, origin, expected) in [
            ("*", "https://anything", true),
            ("https://shop.example.com", "https://SHOP.example.com", true),
            ("https://shop.example.com", "https://shop.example.com.evil.org", false),
            ("https://*.example.com", "https://a.b.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "http://a.example.com", false),
            ("https://*.example.com", "https://.example.com.evil.org", false),
            ("http://localhost:*", "http://localhost:3000", true),
            // Start and end must not overlap.
            ("https://a*a", "https://a", false),
        ] {
            assert_eq!(matches(pattern, origin), expected, "{pattern} {origin}");
        }
    }

    #[test]
    fn patterns_are_origins() {
        for good in ["*", "https://a", "https://*.a:8443", "chrome-extension://abc"] {
            assert!(is_pattern(good), "{good}");
        }
        for bad in ["", "a", "https://", "https://a/", "https://*.*", "https://a b"] {
            assert!(!is_pattern(bad), "{bad}");
        }
    }
}
