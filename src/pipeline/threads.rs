//! Threads of their own for what sends to the destinations.
//!
//! The runtime takes tasks in turn, and has no other order. Where cores are short, hundreds of asks and of requests that
//! come in would be before each step of each export: what is woven would pile up while more is taken in. With threads of
//! their own exporters get their share of the cores from the operating system, whatever else is to be done.

use std::{io, num::NonZero, thread};

use tokio::runtime::{Builder, Runtime};

/// See the module. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// Half as many as there are cores: sending takes a quarter of the time, and with as many as there are cores a span
    /// costs a twentieth more.
    pub(super) fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(cores.div_ceil(2)).thread_name("exporter").enable_all();
        builder.build().map(|runtime| Self(Some(runtime)))
    }

    /// Tasks that are started meanwhile run there, and so do those that they start.
    pub(super) fn within<R>(&self, start: impl FnOnce() -> R) -> R {
        let _entered = self.0.as_ref().map(Runtime::enter);
        start()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A runtime must not be waited for in another one. After [`super::Pipeline::end`] nothing is left in it; what is let
        // go of before that ends as its leases say.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_started_there_runs_there_and_so_does_what_that_starts() {
        let threads = Threads::start().expect("threads");
        let name = || thread::current().name().map(str::to_owned);
        let started = threads.within(|| {
            tokio::spawn(async move { (name(), tokio::spawn(async move { name() }).await) })
        });
        let (one, other) = started.await.expect("it ends");
        let there = Some("exporter".to_owned());
        assert_eq!((one, other.expect("it ends")), (there.clone(), there.clone()));
        assert_ne!(tokio::spawn(async move { name() }).await.expect("it ends"), there);
        // Here, in another runtime.
        drop(threads);
    }
}
