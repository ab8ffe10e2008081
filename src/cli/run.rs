//! `run`: the service, until a signal.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::CliError;
use crate::{
    ledger::{Books, DropReason},
    pipeline::{Config, Pipeline},
};

/// Runs the service until SIGTERM or SIGINT, then drains it; a second signal ends it at once.
pub(super) fn run(config: &Config) -> Result<(), CliError> {
    config.logs.start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::runtime(&error))?;
    runtime.block_on(serve(config))
}

async fn serve(config: &Config) -> Result<(), CliError> {
    let mut signals = Signals::new().map_err(|error| CliError::runtime(&error))?;
    let pipeline = Pipeline::start(config).await.map_err(|error| CliError::runtime(&error))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "tracestitch is ready");
    signals.next().await;
    tracing::info!(
        "shutting down: no new spans are taken, what is here is sent; a second signal ends at once"
    );
    tokio::select! {
        watched = pipeline.end() => {
            for books in watched.ledger.snapshot() {
                report(&books);
            }
            Ok(())
        }
        () = signals.next() => Err(CliError::Runtime("ended by a second signal, spans may be lost".to_owned())),
    }
}

fn report(books: &Books) {
    let Books { destination, accepted, delivered, held, .. } = books;
    let unaccounted = books.unaccounted();
    tracing::info!(destination, accepted, delivered, held, unaccounted, "the ledger at the end");
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
