//! Scenario: a write of the journal fails for good, and elsewhere its disk is full for a while.
//! Guarantees: senders are refused with the reason and a `RetryInfo`, nothing is acknowledged that is not kept; what was
//! acknowledged is delivered all the same. After a failure `/readyz` says why and nothing more is taken; after a full disk
//! spans are taken again as soon as there is room.

use std::{sync::Arc, time::Duration};

use tonic::Code;
use tracestitch::{
    buffer::journal::{Fault, MemoryFiles},
    clock,
    demo::{backend::Backend, sender::Sender},
    pipeline::{Pipeline, Tuning},
    wire::status::retry_delay,
};

use crate::support::{self, Setup, http};

async fn start(files: &MemoryFiles, backend: &Backend) -> (Pipeline, Sender) {
    let journal = "directory: journal, sync: always".to_owned();
    let setup = Setup { journal, ..Setup::without_deepflow() };
    let config = setup.config("http://127.0.0.1:9", &backend.url());
    let tuning = Tuning { files: Arc::new(files.clone()), ..Tuning::default() };
    let pipeline = Pipeline::start_on(&config, tuning).await.expect("a pipeline");
    let sender = support::sender(&pipeline);
    (pipeline, sender)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_is_for_good() {
    let (files, backend) = (MemoryFiles::new(), Backend::start(0).await.expect("a free port"));
    let (pipeline, sender) = start(&files, &backend).await;
    let admin = format!("http://{}/readyz", pipeline.admin());
    let client = http::client();
    let ready = || async { client.get(&admin).send().await.expect("an answer") };
    sender.send(&support::trace(1, 3)).await.expect("it is taken");
    support::settled(&pipeline.watched, 3).await;
    assert_eq!(ready().await.status(), 200);

    // What is done is written behind a delivery: whichever write comes next fails.
    for operation in files.operations()..files.operations() + 5 {
        files.fail(operation, Fault::Fails(std::io::ErrorKind::Other));
    }
    let mut refused = None;
    for trace in 2..=10 {
        if let Err(status) = sender.send(&support::trace(trace, 3)).await {
            refused = Some(status);
            break;
        }
    }
    let refused = refused.expect("the journal failed");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("the journal failed"), "{refused}");
    assert!(retry_delay(&refused).is_some());
    let unready = ready().await;
    assert_eq!(unready.status(), 503);
    let why = unready.text().await.expect("a text");
    assert!(why.contains("the journal keeps nothing any more"), "{why}");
    let watched = pipeline.end().await;
    let books = support::books(&watched);
    assert_eq!((books.delivered, books.unaccounted()), (books.accepted, 0), "{books:?}");
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_passes() {
    let (files, backend) = (MemoryFiles::new(), Backend::start(0).await.expect("a free port"));
    let (pipeline, sender) = start(&files, &backend).await;
    sender.send(&support::trace(1, 3)).await.expect("it is taken");
    support::settled(&pipeline.watched, 3).await;
    files.limit_bytes(Some(0));
    let refused = sender.send(&support::trace(2, 3)).await.expect_err("the disk is full");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("the journal is full"), "{refused}");
    assert!(retry_delay(&refused).is_some());
    files.limit_bytes(None);
    // As its sender does, until the journal has seen that there is room again.
    let end = clock::now() + support::PATIENCE;
    while sender.send(&support::trace(3, 3)).await.is_err() {
        assert!(clock::now() < end, "there is room again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    support::settled(&pipeline.watched, 6).await;
    let watched = pipeline.end().await;
    assert_eq!(support::books(&watched).delivered, 6);
    backend.stop().await;
}
