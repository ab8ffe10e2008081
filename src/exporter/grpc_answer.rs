//! What a server answers to a unary call of gRPC, read from its frames.
//!
//! Only the status says what became of a request: a message that can't be read refuses nothing, for what was taken must not
//! be sent again. tonic's reader takes such a message for a failure, and grpc-go sends one: it compresses its answers as the
//! request was, without being asked to.

use std::io::{self, Read};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header, response::Parts};
use http_body_util::BodyExt as _;
use tonic::{Code, Status, body::Body};

use super::RESPONSE_BYTES_MAX;

const STATUS: &str = "grpc-status";
const ENCODING: &str = "grpc-encoding";
/// A window of 8 MiB (RFC 9659, section 3), twice the longest answer.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The message of an answer that says OK, empty if there is none that can be read.
///
/// # Panics
///
/// tonic does, over details of a status that are no base64.
pub(super) async fn read(head: &Parts, body: Body) -> Result<Bytes, Status> {
    if let Some(status) = status(&head.headers) {
        return status.map(|()| Bytes::new());
    }
    if !speaks_grpc(head) {
        return Err(without_status(head));
    }
    let (framed, trailers) = frames(body).await?;
    status(&trailers).unwrap_or_else(|| Err(without_status(head)))?;
    let coding = head.headers.get(ENCODING).map(HeaderValue::as_bytes);
    Ok(framed.and_then(|framed| unframed(&framed, coding)).unwrap_or_default())
}

/// What headers or trailers say; `None` when they say nothing.
fn status(headers: &HeaderMap) -> Option<Result<(), Status>> {
    if headers.get(STATUS)?.as_bytes() == b"0" {
        // Nothing beside it counts.
        return Some(Ok(()));
    }
    Status::from_header_map(headers).map(Err)
}

fn speaks_grpc(head: &Parts) -> bool {
    let content = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    head.status == StatusCode::OK && content.is_some_and(|it| it.starts_with(b"application/grpc"))
}

/// As gRPC maps HTTP's codes (doc/http-grpc-status-mapping.md), for proxies that answer themselves. An answer of gRPC without a
/// status broke off: a proxy that gives up ends it so.
fn without_status(head: &Parts) -> Status {
    let http = head.status.as_u16();
    let code = match http {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ if speaks_grpc(head) => Code::Unavailable,
        _ => Code::Unknown,
    };
    Status::new(code, format!("the answer has no grpc-status, HTTP status code {http}"))
}

/// The framed message, unless it is too long, and what comes behind it.
async fn frames(mut body: Body) -> Result<(Option<Vec<u8>>, HeaderMap), Status> {
    let mut message = Some(Vec::new());
    let mut trailers = HeaderMap::new();
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                message = message.filter(|so_far| so_far.len() + data.len() <= RESPONSE_BYTES_MAX);
                if let Some(message) = &mut message {
                    message.extend_from_slice(&data);
                }
            }
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok((message, trailers))
}

/// What is in the frame: a flag, a length, the message.
fn unframed(framed: &[u8], coding: Option<&[u8]>) -> Option<Bytes> {
    let (flag, rest) = framed.split_first()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let message = rest.get(..usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
    match (flag, coding) {
        (0, _) => Some(Bytes::copy_from_slice(message)),
        (1, Some(b"gzip")) => unpacked(flate2::read::GzDecoder::new(message)).ok(),
        (1, Some(b"zstd")) => {
            let mut decoder = zstd::Decoder::new(message).ok()?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).ok()?;
            unpacked(decoder).ok()
        }
        _ => None,
    }
}

fn unpacked(decoder: impl Read) -> io::Result<Bytes> {
    let limit = u64::try_from(RESPONSE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut message = Vec::new();
    decoder.take(limit).read_to_end(&mut message)?;
    Ok(message.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http::Response;
    use http_body_util::Full;

    use super::*;

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        let len = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[flag], &len[..], message].concat()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    /// An answer of this HTTP status with these headers, this body and these trailers, if any.
    async fn answer(
        http: u16,
        head: &[(&'static str, &'static str)],
        body: Vec<u8>,
        trailers: Option<&[(&'static str, &'static str)]>,
    ) -> Result<Bytes, Code> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(http).unwrap();
        *response.headers_mut() = headers(head);
        let (head, ()) = response.into_parts();
        let trailers = trailers.map(headers).map(Ok);
        let body = Full::new(Bytes::from(body)).with_trailers(async { trailers });
        read(&head, Body::new(body)).await.map_err(|status| status.code())
    }

    const GRPC: (&str, &str) = ("content-type", "application/grpc+proto");
    const OK: &[(&str, &str)] = &[("grpc-status", "0")];

    #[tokio::test]
    async fn a_message_comes_as_it_was_written() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"taken").unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(&b"taken"[..], 1).unwrap();
        for (flag, message, coding) in [
            (0, &b"taken"[..], "identity"),
            (0, &b"taken"[..], "gzip"),
            (1, &gzip, "gzip"),
            (1, &zstd, "zstd"),
        ] {
            let head = [GRPC, ("grpc-encoding", coding)];
            let answer = answer(200, &head, framed(flag, message), Some(OK)).await;
            assert_eq!(answer, Ok(Bytes::from_static(b"taken")), "{coding}");
        }
    }

    #[tokio::test]
    async fn what_was_taken_is_taken_whatever_the_message() {
        let too_long = framed(0, &vec![0; RESPONSE_BYTES_MAX]);
        let cut = framed(0, b"taken")[..8].to_vec();
        for body in [Vec::new(), cut, framed(1, b"taken"), too_long] {
            let shown = body.len();
            assert_eq!(answer(200, &[GRPC], body, Some(OK)).await, Ok(Bytes::new()), "{shown}");
        }
        let odd = [("grpc-status", "0"), ("grpc-status-details-bin", "!!!")];
        let message = framed(0, b"taken");
        assert_eq!(answer(200, &[GRPC], message.clone(), Some(&odd)).await, Ok("taken".into()));
        let head = [GRPC, ("grpc-status", "0")];
        assert_eq!(answer(200, &head, message, None).await, Ok(Bytes::new()), "in the head");
    }

    #[tokio::test]
    async fn a_status_counts_wherever_it_is() {
        let refused: &[_] = &[("grpc-status", "3")];
        let message = || framed(0, b"taken");
        assert_eq!(
            answer(200, &[GRPC], message(), Some(refused)).await,
            Err(Code::InvalidArgument)
        );
        let head = [GRPC, ("grpc-status", "8")];
        assert_eq!(answer(200, &head, Vec::new(), None).await, Err(Code::ResourceExhausted));
        let broken_off = answer(200, &[GRPC], message(), None).await;
        assert_eq!(broken_off, Err(Code::Unavailable), "it is sent again");
        assert_eq!(answer(200, &[], message(), None).await, Err(Code::Unknown), "no gRPC");
        for (http, code) in [
            (400, Code::Internal),
            (401, Code::Unauthenticated),
            (403, Code::PermissionDenied),
            (404, Code::Unimplemented),
            (413, Code::Unknown),
            (429, Code::Unavailable),
            (503, Code::Unavailable),
        ] {
            let html = [("content-type", "text/html")];
            assert_eq!(answer(http, &html, b"<p>".to_vec(), None).await, Err(code), "{http}");
        }
    }
}
