//! The scenarios of `cargo bench --bench pipeline` with small loads: what is acknowledged arrives, once and unaltered.
//! No time is asserted.

#[path = "harness/mod.rs"]
mod harness;

use harness::{Row, SCENARIOS, Sizes, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_loses_nothing() {
    println!("{}", Row::HEAD);
    for scenario in SCENARIOS {
        let mut rows = Vec::new();
        run(scenario, &Sizes::smoke(), &mut |row| rows.push(row)).await;
        assert!(!rows.is_empty(), "{scenario} has no row");
        for row in rows {
            println!("{}", row.line());
            check(scenario, &row);
        }
    }
}

fn check(scenario: &str, row: &Row) {
    assert_eq!((row.lost, row.duplicated, row.altered), (0, 0, 0), "{row:?}");
    let carries = !["hold", "idle"].contains(&scenario);
    assert_eq!(row.checked > 0 && row.spans > 0, carries, "{row:?}");
    assert_eq!(row.added > 0, scenario == "asks", "{row:?}");
}
