//! Scenario: a second program is started on the directory of a running one.
//! Guarantees: it ends with code 1 and names the directory; the first goes on.

use crate::world::{Setup, World};

#[tokio::test(flavor = "multi_thread")]
async fn second_process_is_refused() {
    let mut world = World::start(Setup::default()).await;
    let mut first = world.real();
    let addresses = first.ready().await.expect("it starts");
    let mut second = world.real();
    assert_eq!(second.ended().await.code(), Some(1), "{}", second.said());
    let directory = world.journal().display().to_string();
    assert!(second.said().contains(&directory), "{}", second.said());
    world.load.to(addresses.grpc);
    world.takes(100).await;
    assert_eq!(first.has_ended(), None);
}
