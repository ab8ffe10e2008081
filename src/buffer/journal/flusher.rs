//! The thread that flushes at intervals, so that appends are not held up.

use std::{
    io,
    sync::{Arc, mpsc},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use super::shared::Shared;
use crate::{
    clock,
    watchdog::{BEAT_EVERY, Watchdog},
};

/// Flushes until it is dropped.
#[derive(Debug)]
pub(super) struct Flusher {
    /// Its end wakes the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    pub(super) fn start(
        shared: Arc<Shared>,
        every: Duration,
        watchdog: &Arc<Watchdog>,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let work = watchdog.supervise_errand("journal flusher", move |beat| {
            let mut due = clock::now() + every;
            let pause = every.min(BEAT_EVERY);
            while stopped.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
                beat.beat();
                if clock::now() >= due {
                    // A failure has poisoned the journal, which all see.
                    let _poisoned = shared.flush();
                    due = clock::now() + every;
                }
            }
        });
        let thread = Builder::new().name("journal-flusher".to_owned()).spawn(work)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}
