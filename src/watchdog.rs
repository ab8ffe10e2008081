//! Who works, and whether he still does: a long-lived task that hangs shows at `/livez`, one that panics ends the
//! program. A program without one of its tasks looks healthy and does nothing, which is worse than none.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::{self, Instant};

/// A task beats at least so often, also when there is nothing to do.
pub const BEAT_EVERY: Duration = Duration::from_secs(5);
/// A task that has not beaten for so long is stuck: six beats, so that a machine that was stopped for a moment is not.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);

/// All long-lived tasks of a pipeline.
#[derive(Debug)]
pub struct Watchdog {
    tasks: Mutex<Vec<Weak<Pulse>>>,
    ending: AtomicBool,
    fatal: watch::Sender<Option<Fatal>>,
}

#[derive(Debug)]
struct Pulse {
    task: String,
    last: Mutex<Instant>,
}

/// A task's own end of it. The task is no longer looked after when this is dropped.
#[derive(Debug)]
pub struct Beat(Arc<Pulse>);

/// A task that has not beaten for [`STUCK_AFTER`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Its name.
    pub task: String,
    /// Since its last beat.
    pub silent: Duration,
}

/// A long-lived task is gone: the program can't do its work any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// A fault of this program.
    #[error("task {task} panicked: {why}; that is a fault of tracestitch, please report it")]
    Panicked {
        /// Its name.
        task: String,
        /// What the panic said.
        why: String,
    },
    /// It returned while the program was to go on.
    #[error("task {task} ended while it was still needed; the log may say why")]
    Ended {
        /// Its name.
        task: String,
    },
}

impl Watchdog {
    /// Looks after nobody yet.
    pub fn new() -> Arc<Self> {
        let (fatal, _) = watch::channel(None);
        Arc::new(Self { tasks: Mutex::default(), ending: AtomicBool::new(false), fatal })
    }

    /// Looks after a task from now on, which must beat.
    pub fn enrol(&self, task: &str) -> Beat {
        let pulse = Arc::new(Pulse { task: task.to_owned(), last: Mutex::new(clock::now()) });
        let mut tasks = self.tasks.lock();
        tasks.retain(|task| task.strong_count() > 0);
        tasks.push(Arc::downgrade(&pulse));
        Beat(pulse)
    }

    /// A task to be spawned. Its panic is fatal, and so is its end before [`Self::let_end`]; being aborted is neither.
    pub fn supervise<W, F>(
        self: &Arc<Self>,
        task: &str,
        work: W,
    ) -> impl Future<Output = ()> + use<W, F>
    where
        W: FnOnce(Beat) -> F,
        F: Future<Output = ()>,
    {
        let (watchdog, task, beat) = (Arc::clone(self), task.to_owned(), self.enrol(task));
        async move {
            let mut work = pin!(work(beat));
            let ended = poll_fn(|context| {
                match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
                    Ok(Poll::Pending) => Poll::Pending,
                    Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
                    Err(panic) => Poll::Ready(Err(panic)),
                }
            });
            let ended = ended.await;
            watchdog.ended(task, ended);
        }
    }

    /// The same for the body of a thread.
    pub fn supervise_thread<W>(self: &Arc<Self>, task: &str, work: W) -> impl FnOnce() + use<W>
    where
        W: FnOnce(Beat),
    {
        let (watchdog, task, beat) = (Arc::clone(self), task.to_owned(), self.enrol(task));
        move || watchdog.ended(task, catch_unwind(AssertUnwindSafe(|| work(beat))))
    }

    /// The same for the body of a thread that ends when its work is done, which is fine.
    pub fn supervise_errand<W>(self: &Arc<Self>, task: &str, work: W) -> impl FnOnce() + use<W>
    where
        W: FnOnce(Beat),
    {
        let (watchdog, task, beat) = (Arc::clone(self), task.to_owned(), self.enrol(task));
        move || {
            let ended = catch_unwind(AssertUnwindSafe(|| work(beat)));
            if ended.is_err() {
                watchdog.ended(task, ended);
            }
        }
    }

    /// From now on tasks may end: the program does.
    pub fn let_end(&self) {
        self.ending.store(true, Relaxed);
    }

    /// Tasks that have not beaten for [`STUCK_AFTER`], the longest silent first.
    pub fn stuck(&self, now: Instant) -> Vec<Stuck> {
        let tasks = self.tasks.lock();
        let mut stuck: Vec<Stuck> = tasks
            .iter()
            .filter_map(Weak::upgrade)
            .map(|pulse| Stuck {
                silent: now.saturating_duration_since(*pulse.last.lock()),
                task: pulse.task.clone(),
            })
            .filter(|stuck| stuck.silent >= STUCK_AFTER)
            .collect();
        stuck.sort_by_key(|stuck| std::cmp::Reverse(stuck.silent));
        stuck
    }

    /// The first task that is gone, if one is.
    pub fn failure(&self) -> Option<Fatal> {
        self.fatal.borrow().clone()
    }

    /// Waits until a task is gone that the program can't do without.
    pub async fn fatal(&self) -> Fatal {
        let mut fatal = self.fatal.subscribe();
        let first = fatal.wait_for(Option::is_some).await.ok().and_then(|first| first.clone());
        match first {
            Some(fatal) => fatal,
            // The sender lives as long as `self`: this is never reached.
            None => std::future::pending().await,
        }
    }

    fn ended(&self, task: String, ended: Result<(), Box<dyn Any + Send>>) {
        let fatal = match ended {
            Err(panic) => Fatal::Panicked { task, why: words(&*panic) },
            Ok(()) if self.ending.load(Relaxed) => return,
            Ok(()) => Fatal::Ended { task },
        };
        // The first one is the cause, what follows it mostly a consequence.
        self.fatal.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(fatal);
            is_first
        });
    }
}

impl Beat {
    /// The task is alive.
    pub fn beat(&self) {
        self.beat_at(clock::now());
    }

    /// The task was alive then.
    pub fn beat_at(&self, now: Instant) {
        *self.0.last.lock() = now;
    }

    /// Waits for something that may take long without anything being wrong, and beats meanwhile. What is awaited is not
    /// cancelled by it.
    pub async fn during<F: Future>(&self, wait: F) -> F::Output {
        self.during_every(BEAT_EVERY, wait).await
    }

    async fn during_every<F: Future>(&self, every: Duration, wait: F) -> F::Output {
        let mut wait = pin!(wait);
        // Mostly it is there already, and needs no timer.
        self.beat();
        let at_once = poll_fn(|context| Poll::Ready(wait.as_mut().poll(context))).await;
        if let Poll::Ready(output) = at_once {
            return output;
        }
        loop {
            self.beat();
            if let Ok(output) = tokio::time::timeout(every, wait.as_mut()).await {
                return output;
            }
        }
    }
}

/// What a panic said, in one line.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a word").lines().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(stuck: &[Stuck]) -> Vec<&str> {
        stuck.iter().map(|stuck| stuck.task.as_str()).collect()
    }

    #[test]
    fn who_does_not_beat_is_stuck_until_he_beats_again() {
        let watchdog = Watchdog::new();
        let (writer, judge) = (watchdog.enrol("writer"), watchdog.enrol("judge"));
        let start = clock::now();
        writer.beat_at(start);
        judge.beat_at(start + Duration::from_secs(1));
        let after = |seconds| watchdog.stuck(start + Duration::from_secs(seconds));
        assert!(after(29).is_empty());
        assert_eq!(names(&after(30)), ["writer"]);
        assert_eq!(names(&after(40)), ["writer", "judge"]);
        assert_eq!(after(40).first().map(|stuck| stuck.silent), Some(Duration::from_secs(40)));
        writer.beat_at(start + Duration::from_secs(39));
        assert_eq!(names(&after(40)), ["judge"]);
        drop(judge);
        assert!(after(40).is_empty(), "who has left is not stuck");
    }

    #[tokio::test]
    async fn waiting_long_is_not_being_stuck() {
        let watchdog = Watchdog::new();
        let (beat, start) = (watchdog.enrol("patient"), clock::now());
        let later = start + STUCK_AFTER;
        let wait = async {
            for _ in 0..3 {
                beat.beat_at(start);
                assert_eq!(names(&watchdog.stuck(later)), ["patient"]);
                while !watchdog.stuck(later).is_empty() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            "came in the end"
        };
        let every = Duration::from_millis(2);
        assert_eq!(beat.during_every(every, wait).await, "came in the end");
    }

    #[tokio::test]
    async fn a_panic_is_fatal_and_the_first_one_counts() {
        let watchdog = Watchdog::new();
        assert_eq!(watchdog.failure(), None);
        let first = watchdog.supervise("first", |_| async { panic!("number {}", 1) });
        tokio::spawn(first).await.expect("the panic goes no further");
        let second = watchdog.supervise_thread("second", |_| panic!("number 2"));
        std::thread::spawn(second).join().expect("the panic goes no further");
        let expected = Fatal::Panicked { task: "first".to_owned(), why: "number 1".to_owned() };
        assert_eq!(watchdog.fatal().await, expected);
        assert_eq!(watchdog.failure(), Some(expected));
        assert!(watchdog.stuck(clock::now() + STUCK_AFTER).is_empty(), "who is gone is not stuck");
    }

    #[tokio::test]
    async fn ending_early_is_fatal_and_being_aborted_or_let_end_is_not() {
        let watchdog = Watchdog::new();
        let endless = tokio::spawn(watchdog.supervise("endless", |_| std::future::pending()));
        endless.abort();
        assert!(endless.await.is_err_and(|error| error.is_cancelled()));
        let done = std::thread::spawn(watchdog.supervise_errand("errand", drop));
        done.join().expect("it ends");
        assert_eq!(watchdog.failure(), None);
        watchdog.let_end();
        watchdog.supervise("last", |_| async {}).await;
        assert_eq!(watchdog.failure(), None);

        let watchdog = Watchdog::new();
        watchdog.supervise("early", |_| async {}).await;
        assert_eq!(watchdog.failure(), Some(Fatal::Ended { task: "early".to_owned() }));

        let watchdog = Watchdog::new();
        let broken = watchdog.supervise_errand("errand", |_| panic!("on the way"));
        std::thread::spawn(broken).join().expect("the panic goes no further");
        let why = "on the way".to_owned();
        assert_eq!(watchdog.failure(), Some(Fatal::Panicked { task: "errand".to_owned(), why }));
    }
}
