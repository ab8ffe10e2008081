//! Reading TLS files again, when they change.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};

use super::{TlsError, files::Watched};
use crate::{
    clock::{self, Instant},
    telemetry::{Metrics, catalogue::ReloadOutcome},
    watchdog::Beat,
};

/// What was read last and could be used.
#[derive(Debug)]
pub(super) struct Live<T>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Live<T> {
    pub(super) fn new(first: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(first))))
    }

    pub(super) fn now(&self) -> Arc<T> {
        Arc::clone(&self.0.read())
    }

    pub(super) fn set(&self, next: T) {
        *self.0.write() = Arc::new(next);
    }
}

/// All files that are looked at again and again while the program runs.
#[derive(Debug, Clone, Default)]
pub struct Reloads(Arc<Mutex<Vec<Reload>>>);

type Read = Arc<dyn Fn() -> Result<(), TlsError> + Send + Sync>;

/// The files of one place.
struct Reload {
    /// As metrics name it.
    place: String,
    interval: Duration,
    due: Instant,
    watched: Watched,
    read: Read,
    /// Why they could not be used when they were read last.
    failure: Option<String>,
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, interval, watched, .. } = self;
        let mut shown = f.debug_struct("Reload");
        shown.field("place", place).field("interval", interval).field("watched", watched);
        shown.finish_non_exhaustive()
    }
}

impl Reloads {
    /// From now on `read` is called when one of these files changed; it replaces what is in use, or fails and leaves it.
    pub(super) fn add(
        &self,
        place: &str,
        interval: Duration,
        watched: Watched,
        read: impl Fn() -> Result<(), TlsError> + Send + Sync + 'static,
    ) {
        if interval.is_zero() || watched.is_empty() {
            return;
        }
        let (place, due) = (place.to_owned(), clock::now() + interval);
        self.0.lock().push(Reload {
            place,
            interval,
            due,
            watched,
            read: Arc::new(read),
            failure: None,
        });
    }

    /// Nothing would ever be read again.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    fn next_due(&self) -> Option<Instant> {
        self.0.lock().iter().map(|reload| reload.due).min()
    }

    /// Looks at what is due, and reads what changed.
    fn look(&self, now: Instant, metrics: &Metrics) {
        let mut changed = Vec::new();
        for (number, reload) in self.0.lock().iter_mut().enumerate() {
            if reload.due <= now {
                reload.due = now + reload.interval;
                if reload.watched.have_changed() {
                    changed.push((number, reload.place.clone(), Arc::clone(&reload.read)));
                }
            }
        }
        for (number, place, read) in changed {
            let failure = read().err();
            let mut reloads = self.0.lock();
            let Some(reload) = reloads.get_mut(number) else { continue };
            // They may be readable later; what is wrong in them does not change by itself.
            let is_passing = matches!(failure, Some(TlsError::Read { .. }));
            if is_passing {
                reload.watched.forget();
            }
            let failure = failure.map(|error| said(&error));
            if !is_passing || failure != reload.failure {
                metrics.tls.reloaded(&place, tell(&place, failure.as_deref()));
            }
            reload.failure = failure;
        }
    }
}

fn said(error: &TlsError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn tell(place: &str, failure: Option<&str>) -> ReloadOutcome {
    match failure {
        None => {
            tracing::info!(place, "new TLS files are in use");
            ReloadOutcome::Ok
        }
        Some(error) => {
            tracing::warn!(
                place,
                error,
                "TLS files changed and can't be used, the former ones stay in use"
            );
            ReloadOutcome::Failed
        }
    }
}

/// Looks at the files for as long as it is polled.
pub async fn keep_reloading(reloads: Reloads, metrics: Arc<Metrics>, beat: Beat) {
    while let Some(due) = reloads.next_due() {
        beat.during(tokio::time::sleep_until(due)).await;
        let (reloads, metrics) = (reloads.clone(), Arc::clone(&metrics));
        let look = tokio::task::spawn_blocking(move || reloads.look(clock::now(), &metrics));
        if let Err(error) = beat.during(look).await {
            tracing::error!(%error, "looking at TLS files failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use super::*;

    #[test]
    fn files_that_could_not_be_read_are_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cert.pem");
        std::fs::write(&path, "first").unwrap();
        let (interval, reads) = (Duration::from_secs(1), Arc::new(AtomicUsize::new(0)));
        let read = {
            let (path, reads) = (path.clone(), Arc::clone(&reads));
            move || match reads.fetch_add(1, Relaxed) {
                0 => {
                    Err(TlsError::Read { path: path.clone(), source: io::ErrorKind::Other.into() })
                }
                1 => Err(TlsError::NoKey { path: path.clone() }),
                _ => Ok(()),
            }
        };
        let reloads = Reloads::default();
        reloads.add("exporter", interval, Watched::new(vec![path.clone()]), read);
        std::fs::write(&path, "the second").unwrap();
        let (metrics, now) = (Metrics::new(&[]), clock::now());
        let reads_after = [1, 2, 3].map(|round| {
            reloads.look(now + interval * round, &metrics);
            reads.load(Relaxed)
        });
        assert_eq!(reads_after, [1, 2, 2], "what is wrong in them does not change by itself");
    }
}
