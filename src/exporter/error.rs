//! Why a request was not delivered, and whether to try again (OTLP 1.11, "Failures").

use std::{error::Error as _, time::Duration};

use http::StatusCode;
use tonic::{Code, Status};

use crate::{retry::believed, wire::status::retry_delay};

/// A request that was not delivered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    /// Try again, not before `after`.
    #[error("{why}")]
    Retry {
        /// From the destination's `RetryInfo` or Retry-After.
        after: Option<Duration>,
        /// For people.
        why: String,
    },
    /// The request has more bytes than the destination takes at once: a smaller one may be taken.
    #[error("{0}")]
    TooLarge(String),
    /// The same request will never be taken.
    #[error("{0}")]
    Permanent(String),
}

impl ExportError {
    /// What an answer over HTTP that is no success means. Redirects are not followed.
    pub(super) fn of_http(code: StatusCode, after: Option<Duration>, message: &str) -> Self {
        let why = format!("{code}: {message}");
        match code.as_u16() {
            429 | 502 | 503 | 504 => Self::Retry { after, why },
            413 => Self::TooLarge(why),
            400 if says_too_large(message) => Self::TooLarge(why),
            _ => Self::Permanent(why),
        }
    }
}

impl From<Status> for ExportError {
    fn from(status: Status) -> Self {
        let after = retry_delay(&status).map(believed);
        let why = format!("{:?}: {}", status.code(), cause(&status));
        if is_too_large(&status) {
            Self::TooLarge(why)
        } else if is_retryable(&status, after) {
            Self::Retry { after, why }
        } else {
            Self::Permanent(why)
        }
    }
}

/// What servers and proxies say of a message over their limit: grpc-go and C++, Java, .NET, tonic, tonic while it
/// decompresses, and HTTP 413 by its number and its names.
const TOO_LARGE: [&str; 10] = [
    "larger than max",
    "message exceeds maximum size",
    "exceeds the maximum configured message size",
    "message length too large",
    "exceeded while decompressing",
    "status code 413",
    "entity too large",
    "payload too large",
    "content too large",
    "body too large",
];

/// OTLP calls some of these codes retryable, but the same request never gets smaller. Unavailable and its like are
/// left out: there the words are of another matter.
fn is_too_large(status: &Status) -> bool {
    let can_be = matches!(
        status.code(),
        Code::ResourceExhausted
            | Code::OutOfRange
            | Code::Unknown
            | Code::Internal
            | Code::InvalidArgument
            | Code::FailedPrecondition
    );
    can_be && says_too_large(status.message())
}

fn says_too_large(message: &str) -> bool {
    let message = message.to_lowercase();
    TOO_LARGE.iter().any(|words| message.contains(words))
}

fn is_retryable(status: &Status, after: Option<Duration>) -> bool {
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => after.is_some(),
        // A status with a source is our own transport's, not the destination's answer: the connection broke.
        _ => status.source().is_some(),
    }
}

fn cause(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Of a message in a line of the log.
const MESSAGE_CHARS_MAX: usize = 500;

/// What a destination says, as far as a line of the log has room.
pub(super) fn in_a_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::status::RpcStatus;

    #[test]
    fn codes_are_retried_as_otlp_says() {
        let retried =
            |status: Status| matches!(ExportError::from(status), ExportError::Retry { .. });
        for code in 1..=16 {
            let expected = [1, 4, 10, 11, 14, 15].contains(&code);
            assert_eq!(retried(Status::new(Code::from_i32(code), "")), expected, "{code}");
        }
        let (short, hour) = (Duration::from_millis(1500), Duration::from_hours(1));
        for (delay, believed) in [(short, short), (Duration::MAX, hour)] {
            let status = RpcStatus::new(Code::ResourceExhausted, "later").retry_after(delay);
            let error = ExportError::from(status.into_tonic());
            assert!(
                matches!(error, ExportError::Retry { after: Some(after), .. } if after == believed)
            );
        }
    }

    #[test]
    fn http_is_retried_as_otlp_says() {
        for code in 300..600 {
            let code = StatusCode::from_u16(code).unwrap();
            let error = ExportError::of_http(code, None, "");
            let is_retried = matches!(error, ExportError::Retry { .. });
            assert_eq!(is_retried, [429, 502, 503, 504].contains(&code.as_u16()), "{error}");
        }
        let too_large = |code: u16, message: &str| {
            let code = StatusCode::from_u16(code).unwrap();
            matches!(ExportError::of_http(code, None, message), ExportError::TooLarge(_))
        };
        assert!(too_large(413, "") && too_large(400, "http: request body too large"));
        assert!(!too_large(400, "bad") && !too_large(503, "request body too large"));
    }

    #[test]
    fn a_message_over_the_limit_is_known_by_its_words() {
        let too_large = |code, message: &str| {
            matches!(ExportError::from(Status::new(code, message)), ExportError::TooLarge(_))
        };
        for (code, message) in [
            (Code::ResourceExhausted, "grpc: received message larger than max (70000 vs. 65536)"),
            (Code::ResourceExhausted, "grpc: received message after decompression larger than max"),
            (Code::ResourceExhausted, "gRPC message exceeds maximum size 4194304: 5000000"),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes",
            ),
            (Code::Unknown, "grpc-status header missing, mapped from HTTP status code 413"),
            (Code::Internal, "413 Request Entity Too Large"),
        ] {
            assert!(too_large(code, message), "{message}");
        }
        for (code, message) in [
            (Code::ResourceExhausted, "ingestion rate limit exceeded"),
            (Code::FailedPrecondition, "TRACE_TOO_LARGE: max size of trace (5000000) exceeded"),
            (Code::Unavailable, "grpc: received message larger than max (70000 vs. 65536)"),
        ] {
            assert!(!too_large(code, message), "{message}");
        }
    }
}
