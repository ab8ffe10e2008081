//! Scenario: a destination is down, and traces wait in the journal with the record of how each goes out; these records are damaged
//! while they wait. Then the destination is back; later the program starts again.
//! Guarantees: no span is given up for it. What can't go out as it was meant to stays in the journal, and goes its own way at the
//! next start; each span arrives once.

use std::{collections::HashSet, fs, path::Path};

use bytes::Bytes;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tonic::metadata::MetadataMap;
use tracestitch::{demo::backend::BackendFault, ledger::DropReason};

use crate::support::{self, Setup, World};

const TRACES: u128 = 2_000;
/// Stands in the record of the spans, which were one request, and in that of each trace's way out.
const TENANT: &str = "a-tenant-that-stands-nowhere-else";

fn setup(directory: &Path) -> Setup<'static> {
    Setup {
        receiver: "include_metadata: [x-org]",
        buffer: "idle: 200ms",
        journal: format!("directory: '{}'", directory.display()),
        exporter: "sending_queue: {max_size: 64KiB}, batch: {target_size: 64KiB, max_size: 64KiB}, \
                   retry_on_failure: {initial_interval: 50ms, max_interval: 200ms}",
        ..Setup::without_deepflow()
    }
}

/// All but the first, which is that of the spans. How many there were.
fn damage(directory: &Path) -> usize {
    let files = fs::read_dir(directory).expect("the journal").filter_map(Result::ok);
    let paths = files.map(|file| file.path()).filter(|path| path.is_file());
    let damaged = paths.map(|path| {
        let mut bytes = fs::read(&path).expect("our own file");
        let tenant = TENANT.as_bytes();
        let places = bytes.windows(tenant.len()).enumerate().filter(|(_, at)| *at == tenant);
        let places: Vec<usize> = places.map(|(place, _)| place).skip(1).collect();
        for place in &places {
            bytes[*place] ^= 1;
        }
        fs::write(&path, bytes).expect("our own file");
        places.len()
    });
    damaged.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_plans_cost_no_span() {
    let directory = tempfile::tempdir().expect("a directory");
    let world = World::start(setup(directory.path())).await;
    world.backend.set_fault(BackendFault::Unavailable);
    let spans: Vec<Span> = (1..=TRACES).map(|trace| support::span(trace, 1)).collect();
    let body: Bytes = support::request("shop", spans.clone()).encode_to_vec().into();
    let mut headers = MetadataMap::new();
    headers.insert("x-org", TENANT.parse().expect("a text"));
    world.sender.send_raw(body, headers).await.expect("the request is taken");
    let parked = || world.metric("tracestitch_buffer_parked_traces");
    support::until("most wait in the journal", || parked() > 1_500).await;
    assert!(damage(directory.path()) > 1_500);

    world.backend.set_fault(BackendFault::None);
    support::until("nothing waits any more", || parked() == 0).await;
    let books = || support::books(world.watched());
    support::until("all are accounted for", || books().held == 0).await;
    assert_eq!(books().dropped(DropReason::Damaged), 0);
    let first = support::spans_at(&world.backend);
    assert!(first.len() < 500, "{} of them were damaged", first.len());
    world.pipeline.end().await;

    let world = World::start(setup(directory.path())).await;
    let left = spans.len() - first.len();
    support::until("the others arrive", || support::spans_at(&world.backend).len() >= left).await;
    let second = support::spans_at(&world.backend);
    let ids: HashSet<_> = first.iter().chain(&second).map(|span| span.trace_id.clone()).collect();
    assert_eq!((ids.len(), first.len() + second.len()), (spans.len(), spans.len()));
    world.end(&[]).await;
}
