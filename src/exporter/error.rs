//! Why a request was not delivered, and whether to try again (OTLP 1.11, "Failures").

use std::{error::Error as _, time::Duration};

use tonic::{Code, Status};

use crate::wire::status::retry_delay;

/// A request that was not delivered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    /// Try again, not before `after`.
    #[error("{why}")]
    Retry {
        /// From the destination's `RetryInfo`.
        after: Option<Duration>,
        /// For people.
        why: String,
    },
    /// The same request will never be taken.
    #[error("{0}")]
    Permanent(String),
}

impl From<Status> for ExportError {
    fn from(status: Status) -> Self {
        let after = retry_delay(&status);
        let why = format!("{:?}: {}", status.code(), cause(&status));
        if is_retryable(&status, after) { Self::Retry { after, why } } else { Self::Permanent(why) }
    }
}

fn is_retryable(status: &Status, after: Option<Duration>) -> bool {
    match status.code() {
        // tonic's answer to a message over its limit. OTLP calls the code retryable, but this request never gets smaller.
        Code::OutOfRange if status.message().contains("length too large") => false,
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
        let too_large =
            "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes";
        assert!(!retried(Status::out_of_range(too_large)));
        let delay = Duration::from_millis(1500);
        let status =
            RpcStatus::new(Code::ResourceExhausted, "later").retry_after(delay).into_tonic();
        assert!(
            matches!(ExportError::from(status), ExportError::Retry { after: Some(after), .. } if after == delay)
        );
    }
}
