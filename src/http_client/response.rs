//! An answer of a [`Server`], read over the connection that it comes by.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, response::Parts};
use http_body::Body as _;
use hyper::body::Incoming;

use super::{HttpError, Server, connection::Connection};

/// The head of an answer, and its body as it comes.
pub struct Response<'a> {
    head: Parts,
    body: Incoming,
    /// `None` after the end.
    connection: Option<Connection>,
    server: &'a Server,
}

impl std::fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response").field("head", &self.head).finish_non_exhaustive()
    }
}

impl<'a> Response<'a> {
    pub(super) fn new(
        response: http::Response<Incoming>,
        connection: Connection,
        server: &'a Server,
    ) -> Self {
        let (head, body) = response.into_parts();
        Self { head, body, connection: Some(connection), server }
    }

    /// What it says first.
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// What it says then.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The next part of the body; `None` after the last one, and then the connection is free for the next request.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        while let Some(connection) = &mut self.connection {
            match connection.frame(&mut self.body).await.transpose() {
                Ok(Some(frame)) => {
                    if self.body.is_end_stream() {
                        self.end();
                    }
                    // Anything else are trailers, which nobody asked for.
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Ok(None) => self.end(),
                Err(error) => {
                    self.connection = None;
                    return Err(error.into());
                }
            }
        }
        Ok(None)
    }

    fn end(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.server.keep(connection);
        }
    }
}
