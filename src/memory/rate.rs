//! How fast memory comes free, which says when refused senders should come again.

use std::{sync::Arc, time::Duration};

use super::Budget;
use crate::{clock, watchdog::Beat};

/// How often the rate is brought up to date.
const RATE_EVERY: Duration = Duration::from_millis(240);
/// The same while next to nothing is held: nobody is refused then, and each waking up is a good part of what an idle
/// program costs.
const RATE_IDLE_EVERY: Duration = Duration::from_secs(1);

/// Tells the budget how time goes by. Never ends.
pub async fn keep_rate(budget: Arc<Budget>, beat: Beat) {
    let mut rated = clock::now();
    loop {
        let every = if budget.is_idle() { RATE_IDLE_EVERY } else { RATE_EVERY };
        beat.during(tokio::time::sleep(every)).await;
        let now = clock::now();
        budget.brim().tick(now.saturating_duration_since(rated));
        rated = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{memory::Stage, watchdog::Watchdog};

    #[tokio::test]
    async fn what_comes_free_is_seen() {
        let budget = Budget::new(8000);
        let rating = Watchdog::new().supervise("rate", {
            let budget = Arc::clone(&budget);
            |beat| keep_rate(budget, beat)
        });
        // Gives some back again and again.
        let seen = async {
            while budget.brim().drain_rate_bytes() == 0 {
                drop(budget.claim(Stage::Export, 7000));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = rating => panic!("it never ends"),
            () = seen => {}
        }
    }
}
