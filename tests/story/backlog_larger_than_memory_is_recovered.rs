//! Scenario: the journal holds ten times as much as `memory.limit` when the program starts, all of it younger than
//! `buffer.idle`.
//! Guarantees: all of it is delivered, once; memory in use stays within the limit meanwhile.

use std::path::Path;

use crate::support::{self, Setup, World};

/// The smallest limit there is.
const MEMORY: &str = "limit: 64MiB";
const TRACES: u128 = 1300;
const SPAN_BYTES: usize = 256 * 1024;

fn setup(directory: &Path, memory: &'static str, idle: &'static str) -> Setup<'static> {
    let journal = format!("directory: '{}', replay_rate: 0B", directory.display());
    Setup { memory, buffer: idle, journal, ..Setup::without_deepflow() }
}

#[tokio::test(flavor = "multi_thread")]
async fn backlog_larger_than_memory_is_recovered() {
    let directory = tempfile::tempdir().expect("a directory");
    let idle = "idle: 1h, max_age: 2h";
    let world = World::start(setup(directory.path(), "limit: 2GiB", idle)).await;
    for trace in 1..=TRACES {
        let mut spans = support::spans(trace, 2);
        for span in &mut spans {
            span.attributes.push(support::text("large", &"x".repeat(SPAN_BYTES)));
        }
        world.send(&support::request("shop", spans)).await;
    }
    let (watched, world) = world.restarted(setup(directory.path(), MEMORY, "idle: 5s")).await;
    let all = i64::try_from(TRACES * 2).expect("not so many");
    assert_eq!(support::books(&watched).handed_back, all);

    let limit = world.watched().budget.limit_bytes();
    let mut most = 0;
    support::until("all is delivered", || {
        most = most.max(world.watched().budget.used_bytes());
        support::books(world.watched()).delivered == all
    })
    .await;
    assert!(most <= limit, "{most} bytes in use, of {limit}");
    let mut arrived: Vec<_> =
        support::spans_at(&world.backend).into_iter().map(|span| span.span_id).collect();
    arrived.sort_unstable();
    arrived.dedup();
    assert_eq!(i64::try_from(arrived.len()), Ok(all));
    assert_eq!(i64::try_from(world.backend.span_count()), Ok(all), "once each");
    world.end(&[]).await;
}
