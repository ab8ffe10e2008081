//! The headers of requests to a destination.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{config::Headers, trace::Origin};

/// What is configured, and for replays what the spans came with.
#[derive(Debug, Clone)]
pub(super) struct SentHeaders {
    configured: Headers,
    passes_origin: bool,
}

impl SentHeaders {
    pub(super) fn new(configured: &Headers) -> Self {
        Self { configured: configured.clone(), passes_origin: false }
    }

    /// The same, with the headers of an origin as they came.
    pub(super) fn passing_origin(&self) -> Self {
        Self { configured: self.configured.clone(), passes_origin: true }
    }

    pub(super) fn of(&self, origin: &Origin) -> HeaderMap {
        let mut headers = self.configured.of(origin);
        if self.passes_origin {
            // What can't be a header did not come as one.
            headers.extend(origin.values().iter().filter_map(|(name, value)| {
                Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
            }));
        }
        headers
    }
}
