//! gRPC's own services beside OTLP's: health, and reflection where it is on.

use std::{convert::Infallible, time::Duration};

use tonic::{Status, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::ServiceExt as _;

use super::otlp_grpc::{HttpRequest, HttpResponse};
use crate::wire::{TRACE_SERVICE, otlp::trace_service_server::SERVICE_NAME};

/// Which of them are served; health always is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Services {
    pub(super) reflection: bool,
}

/// Their requests are names. None of them takes memory from the budget.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// For one of them: a connection with a request under way keeps its place, so it must not be under way for ever.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// What is told of traces' service.
pub(super) struct Health(HealthReporter);

impl Health {
    async fn begins(&self) {
        self.0.set_service_status(SERVICE_NAME, ServingStatus::Serving).await;
    }

    /// Senders are to go elsewhere.
    pub(super) async fn ends(&self) {
        self.0.set_service_status(SERVICE_NAME, ServingStatus::NotServing).await;
    }
}

impl Services {
    /// And who tells of our health: it is serving.
    pub(super) async fn routes(self) -> (Health, Routes) {
        let (reporter, health) = tonic_health::server::health_reporter();
        let told = Health(reporter);
        told.begins().await;
        let routes = Routes::new(health.max_decoding_message_size(MESSAGE_BYTES_MAX));
        if !self.reflection {
            return (told, routes);
        }
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(TRACE_SERVICE)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .expect("both sets were written by compilers");
        (told, routes.add_service(reflection.max_decoding_message_size(MESSAGE_BYTES_MAX)))
    }
}

/// Orchestrators ask for health, and have no token.
pub(super) fn are_open(path: &str) -> bool {
    path.starts_with("/grpc.health.")
}

/// Answers a request that is not OTLP's.
pub(super) async fn answer(
    routes: Routes,
    request: HttpRequest,
) -> Result<HttpResponse, Infallible> {
    match tokio::time::timeout(ANSWER_WAIT, routes.oneshot(request)).await {
        Ok(response) => response,
        Err(_) => Ok(Status::deadline_exceeded("the request took too long to come").into_http()),
    }
}
