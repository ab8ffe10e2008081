//! Our own pipeline, on loopback, with a backend behind it.

use std::{any::Any, sync::Arc, time::Duration};

use tracestitch::{demo::backend::Backend, memory::Stage, pipeline::Pipeline};

use crate::{
    suite::Target,
    support::{Setup, assert_balanced},
};

/// Small, so that large requests are made quickly.
const REQUEST: &str = "max_request_size: 1MiB";
const REQUEST_BYTES: usize = 1024 * 1024;
/// Pings may come as often as they like.
const BETWEEN_PINGS: Duration = Duration::from_millis(20);

pub(crate) struct Own {
    pub(crate) target: Target,
    pipeline: Pipeline,
}

impl Own {
    pub(crate) async fn start() -> Self {
        let sink = Backend::start(0).await.expect("a free port");
        let setup = Setup { receiver: REQUEST, buffer: "idle: 50ms", ..Setup::without_deepflow() };
        let config = setup.config("http://127.0.0.1:1", &sink.url());
        let pipeline = Pipeline::start(&config).await.expect("a pipeline");
        let budget = Arc::clone(&pipeline.watched.budget);
        let overload = move || -> Box<dyn Any + Send> {
            // As while the memory limit is reached.
            Box::new(budget.claim(Stage::Export, budget.limit_bytes()))
        };
        let target = Target {
            grpc: pipeline.grpc().map(|address| address.to_string()),
            http: pipeline.http().map(|address| address.to_string()),
            grpc_bytes_max: REQUEST_BYTES,
            http_bytes_max: REQUEST_BYTES,
            between_pings: BETWEEN_PINGS,
            sink: Some(sink),
            overload: Some(Box::new(overload)),
        };
        Self { target, pipeline }
    }

    pub(crate) async fn end(self) {
        let watched = self.pipeline.end().await;
        if let Some(sink) = self.target.sink {
            sink.stop().await;
        }
        assert_balanced(&watched, &[]);
    }
}
