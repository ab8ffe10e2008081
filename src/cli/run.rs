//! `run`: the service, until a signal.

use std::{io, sync::Arc, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{CliError, source::Loaded};
use crate::{
    ledger::{Books, DropReason},
    pipeline::{Config, Pipeline},
};

/// Runs the service until SIGTERM or SIGINT, then drains it; a second signal ends it at once.
pub(super) fn run(Loaded { config, source }: &Loaded) -> Result<(), CliError> {
    config.logs.start();
    let destinations = config.exporters.destinations().join(", ");
    tracing::info!(%source, destinations, "configured");
    if !source.unused().is_empty() {
        let unused = source.unused().join(", ");
        tracing::info!(unused, "these variables are not used: the file says where traces go");
    }
    for warning in config.warnings() {
        tracing::warn!(%warning, "the configuration leaves a door open");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::runtime(&error))?;
    let outcome = runtime.block_on(serve(config));
    // A worker that hangs would keep the process for ever.
    runtime.shutdown_timeout(THREADS_GRACE);
    outcome
}

/// For threads of the runtime to end, when all is done.
const THREADS_GRACE: Duration = Duration::from_secs(1);
/// Beyond the drain timeout: for what does not look at it, such as closing connections.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

async fn serve(config: &Config) -> Result<(), CliError> {
    let mut signals = Signals::new().map_err(|error| CliError::runtime(&error))?;
    let pipeline = Pipeline::start(config).await.map_err(|error| CliError::runtime(&error))?;
    let guard = pipeline.guard_resident_memory(config);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "tracestitch is ready");
    let outcome = until_the_end(config, pipeline, &mut signals).await;
    guard.abort();
    outcome
}

/// Serves until a signal, or until a task is gone without which it would only look as if it served.
async fn until_the_end(
    config: &Config,
    pipeline: Pipeline,
    signals: &mut Signals,
) -> Result<(), CliError> {
    let watchdog = Arc::clone(&pipeline.watched.watchdog);
    tokio::select! {
        () = signals.next() => tracing::info!("shutting down"),
        fatal = watchdog.fatal() => tracing::error!(%fatal, "shutting down: a task is gone"),
    }
    tracing::info!(
        "no new spans are taken, what is here is sent or left to the journal; a second signal ends at once"
    );
    let time = config.shutdown.drain_timeout.get() + DRAIN_GRACE;
    let watched = tokio::select! {
        watched = tokio::time::timeout(time, pipeline.end()) => watched,
        () = signals.next() => {
            return Err(CliError::Runtime("ended by a second signal, spans may be lost".to_owned()));
        }
    };
    let watched = watched.map_err(|_| {
        let time = time.as_secs();
        CliError::Runtime(format!(
            "ended {time} s after the signal with work left, spans may be lost"
        ))
    })?;
    for books in watched.ledger.snapshot() {
        report(&books);
    }
    // Also what panicked while draining.
    watchdog.failure().map_or(Ok(()), |fatal| Err(CliError::runtime(&fatal)))
}

fn report(books: &Books) {
    let Books { destination, accepted, recovered, delivered, .. } = books;
    let Books { dead_lettered, handed_back, held, .. } = books;
    let unaccounted = books.unaccounted();
    tracing::info!(
        destination,
        accepted,
        recovered,
        delivered,
        dead_lettered,
        handed_back,
        held,
        unaccounted,
        "the ledger at the end"
    );
    for reason in DropReason::ALL {
        let spans = books.dropped(reason);
        if spans > 0 {
            tracing::warn!(destination, spans, reason = reason.label(), "spans were given up");
        }
    }
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::stage;

    #[tokio::test]
    async fn a_program_without_one_of_its_tasks_ends_with_exit_code_1() {
        let nobody = "http://127.0.0.1:9";
        let nowhere = std::path::Path::new("nowhere");
        let mut config = stage::config(nobody, nobody, nowhere).expect("valid");
        config.buffer.journal.enabled = false;
        let pipeline = Pipeline::start(&config).await.expect("free ports");
        let watchdog = Arc::clone(&pipeline.watched.watchdog);
        tokio::spawn(watchdog.supervise("doomed", |_| async { panic!("of a test") }));
        let mut signals = Signals::new().expect("signals");
        let ended = until_the_end(&config, pipeline, &mut signals).await;
        let error = ended.expect_err("a task is gone");
        assert!(error.to_string().contains("task doomed panicked: of a test"), "{error}");
        assert!(matches!(error, CliError::Runtime(_)), "which is exit code 1");
    }
}
