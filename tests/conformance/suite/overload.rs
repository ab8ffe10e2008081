//! What is said to senders that come at a bad time. Only who runs the product can bring that about.

use std::{any::Any, time::Duration};

use tonic::Code;

use super::{
    Case, Ended, Instead, Target, case, fail,
    http_client::{JSON, PROTOBUF},
    must, traces,
};

pub(super) const CASES: &[Case] = &[
    case!(
        overload_over_grpc_is_unavailable_with_retry_info,
        "OTLP/gRPC Throttling: the server SHOULD return Unavailable, and MAY say in RetryInfo when to come again"
    ),
    case!(
        overload_over_http_is_429_or_503_with_retry_after,
        "OTLP/HTTP Throttling: the server SHOULD respond with 429 or 503, and MAY say in Retry-After when to come again"
    ),
    case!(
        overload_ends_and_the_same_request_is_taken,
        "OTLP/gRPC Response, Failures: retryable errors, the client may retry exporting the same data"
    ),
];

async fn overload_over_grpc_is_unavailable_with_retry_info(target: &Target) -> Ended {
    let _overload = overload(target)?;
    let answer = target.grpc().await?.export(traces::small("too much")).await?;
    must(answer.code == Code::Unavailable, || answer.to_string())?;
    match answer.details.retry_delay() {
        Some(delay) if delay > Duration::ZERO => Ok(()),
        Some(_) => fail("a RetryInfo that says at once"),
        None => Err(Instead::NotOffered(format!("{answer} without RetryInfo"))),
    }
}

async fn overload_over_http_is_429_or_503_with_retry_after(target: &Target) -> Ended {
    let _overload = overload(target)?;
    for content_type in [PROTOBUF, JSON] {
        let answer = target.http().await?.post(content_type, "{}").await?;
        must([429, 503].contains(&answer.status), || answer.to_string())?;
        answer.status_body(content_type)?;
        match answer.header("retry-after") {
            "" => return Err(Instead::NotOffered(format!("{answer} without Retry-After"))),
            after => must(after.parse::<u32>().is_ok(), || format!("Retry-After {after}"))?,
        }
    }
    Ok(())
}

async fn overload_ends_and_the_same_request_is_taken(target: &Target) -> Ended {
    let span = traces::span("comes again");
    let request = traces::encoded(vec![span.clone()]);
    let grpc = target.grpc().await?;
    let overload = overload(target)?;
    let refused = grpc.export(request.clone()).await?;
    must(refused.code != Code::Ok, || refused.to_string())?;
    drop(overload);
    grpc.export(request).await?.message_of_success()?;
    target.delivers(&span).await
}

fn overload(target: &Target) -> Result<Box<dyn Any + Send>, Instead> {
    match &target.overload {
        Some(overload) => Ok(overload()),
        None => Err(Instead::NotDecided("it can't be overloaded from outside".to_owned())),
    }
}
