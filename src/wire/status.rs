//! `google.rpc.Status` and its `RetryInfo`: how OTLP says "try again in a while" (OTLP 1.11, "OTLP/gRPC Throttling").

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;

use super::Encoding;

/// For a destination that does not say when.
const AGAIN_SOON: Duration = Duration::from_secs(1);

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// google.rpc.Status
#[derive(Clone, PartialEq, Message)]
pub struct RpcStatus {
    /// A gRPC code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people, in English.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Typed details.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// google.protobuf.Any
#[derive(Clone, PartialEq, Message)]
pub struct Any {
    /// What `value` is.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// google.rpc.RetryInfo
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<ProtoDuration>,
}

/// google.protobuf.Duration
#[derive(Clone, PartialEq, Message)]
struct ProtoDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl RpcStatus {
    /// A status without details.
    pub fn new(code: Code, message: &str) -> Self {
        Self { code: code as i32, message: message.to_owned(), details: Vec::new() }
    }

    /// The same with the delay after which to try again.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        let info = RetryInfo {
            retry_delay: Some(ProtoDuration {
                seconds: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
                nanos: i32::try_from(delay.subsec_nanos()).unwrap_or(0),
            }),
        };
        self.details.push(Any { type_url: RETRY_INFO.to_owned(), value: info.encode_to_vec() });
        self
    }

    /// The delay in its `RetryInfo`; `None` when there is none.
    pub fn retry_delay(&self) -> Option<Duration> {
        let info = self.details.iter().find(|any| any.type_url == RETRY_INFO)?;
        let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay.unwrap_or_default();
        let seconds = u64::try_from(delay.seconds).unwrap_or(0);
        let nanos = u32::try_from(delay.nanos).unwrap_or(0);
        Some(Duration::from_secs(seconds) + Duration::from_nanos(u64::from(nanos)))
    }

    /// The code that says the same over HTTP: what may be retried there (429, 503, 504) may be retried here.
    pub fn http_code(&self) -> StatusCode {
        match Code::from_i32(self.code) {
            Code::Ok => StatusCode::OK,
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::AlreadyExists => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::NotFound | Code::Unimplemented => StatusCode::NOT_FOUND,
            Code::ResourceExhausted if self.retry_delay().is_some() => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Code::ResourceExhausted => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Unavailable | Code::Aborted | Code::Cancelled | Code::DataLoss => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Code::Unknown | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The sender may come again with the same.
    pub fn is_retryable(&self) -> bool {
        matches!(self.http_code().as_u16(), 429 | 503 | 504)
    }

    /// What a destination's answer over HTTP says, as gRPC would say it.
    pub fn of_http(code: StatusCode, message: &str, delay: Option<Duration>) -> Self {
        let grpc = match code.as_u16() {
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            413 | 429 => Code::ResourceExhausted,
            502 | 503 => Code::Unavailable,
            504 => Code::DeadlineExceeded,
            400..500 => Code::InvalidArgument,
            _ => Code::Internal,
        };
        let status = Self::new(grpc, &format!("the destination answered {code}: {message}"));
        match (code.as_u16(), delay) {
            // Without a delay it would not be one that may come again.
            (429, delay) => status.retry_after(delay.unwrap_or(AGAIN_SOON)),
            (502..=504, Some(delay)) => status.retry_after(delay),
            _ => status,
        }
    }

    /// A gRPC status with its details.
    pub fn of_tonic(status: &tonic::Status) -> Self {
        let details = Self::decode(status.details()).map(|status| status.details);
        let details = details.unwrap_or_default();
        Self { code: status.code() as i32, message: status.message().to_owned(), details }
    }

    /// As the body of an HTTP answer.
    pub fn body(&self, encoding: Encoding) -> Bytes {
        match encoding {
            Encoding::Protobuf => self.encode_to_vec().into(),
            Encoding::Json => self.json().to_string().into(),
        }
    }

    /// As the body of an HTTP answer says; `None` when it is another text.
    pub fn of_body(encoding: Encoding, body: &[u8]) -> Option<Self> {
        match encoding {
            Encoding::Protobuf => Self::decode(body).ok().filter(|_| !body.is_empty()),
            Encoding::Json => {
                let status: Value = serde_json::from_slice(body).ok()?;
                let code = status.get("code").and_then(Value::as_i64).unwrap_or_default();
                let message = status.get("message").and_then(Value::as_str)?.to_owned();
                let code = i32::try_from(code).unwrap_or_default();
                Some(Self { code, message, details: Vec::new() })
            }
        }
    }

    /// Protobuf's own JSON; of details only `RetryInfo`, the one that is used here.
    fn json(&self) -> Value {
        let retry_info = |delay: Duration| {
            let delay = format!("{}.{:09}s", delay.as_secs(), delay.subsec_nanos());
            json!({ "@type": RETRY_INFO, "retryDelay": delay })
        };
        let details: Vec<Value> = self.retry_delay().map(retry_info).into_iter().collect();
        json!({ "code": self.code, "message": self.message, "details": details })
    }

    /// As a gRPC status.
    pub fn into_tonic(self) -> tonic::Status {
        let code = Code::from_i32(self.code);
        let details = if self.details.is_empty() { Vec::new() } else { self.encode_to_vec() };
        tonic::Status::with_details(code, self.message, Bytes::from(details))
    }
}

/// The delay in a gRPC status' `RetryInfo`; `None` when there is none.
pub fn retry_delay(status: &tonic::Status) -> Option<Duration> {
    RpcStatus::decode(status.details()).ok()?.retry_delay()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_says_what_grpc_says() {
        let again = RpcStatus::new(Code::ResourceExhausted, "").retry_after(Duration::ZERO);
        assert_eq!(again.http_code(), 429);
        let retried = [429, 502, 503, 504];
        for code in (1..=16).map(Code::from_i32) {
            let http = RpcStatus::new(code, "").http_code().as_u16();
            let is_retryable = matches!(
                code,
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::Unavailable
                    | Code::DataLoss
            );
            // OTLP calls OUT_OF_RANGE retryable for streams of its own; over HTTP nothing is like it.
            assert_eq!(retried.contains(&http), is_retryable, "{code:?}: {http}");
        }
    }

    #[test]
    fn http_comes_back_as_it_went() {
        for code in [400, 401, 403, 404, 413, 429, 500, 503, 504] {
            let code = StatusCode::from_u16(code).unwrap();
            let delay = (code == 429).then_some(Duration::from_secs(7));
            let status = RpcStatus::of_http(code, "", delay);
            assert_eq!((status.http_code(), status.retry_delay()), (code, delay));
            let through_grpc = RpcStatus::of_tonic(&status.clone().into_tonic());
            assert_eq!(through_grpc, status);
        }
        // Retryable all the same.
        assert_eq!(RpcStatus::of_http(StatusCode::BAD_GATEWAY, "", None).http_code(), 503);
        assert!(RpcStatus::of_http(StatusCode::TOO_MANY_REQUESTS, "", None).is_retryable());
        assert_eq!(RpcStatus::of_http(StatusCode::CONFLICT, "", None).http_code(), 400);
    }

    #[test]
    fn the_json_of_a_status_has_its_delay() {
        let status =
            RpcStatus::new(Code::Unavailable, "later").retry_after(Duration::from_millis(1500));
        let text = status.body(Encoding::Json);
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            "{\"code\":14,\"message\":\"later\",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"1.500000000s\"}]}"
        );
        let read = RpcStatus::decode(status.body(Encoding::Protobuf)).unwrap();
        assert_eq!((read.retry_delay(), &read), (Some(Duration::from_millis(1500)), &status));
    }
}
