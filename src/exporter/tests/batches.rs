//! Which traces go out together, and when.

use super::*;

#[tokio::test]
async fn a_batch_that_is_due_goes_before_a_full_one_that_began_later() {
    let scene = Scene::start(&[(BackendFault::None, QUEUE, None)]).await;
    let origins = crate::trace::Origins::default();
    let [quiet, busy] = ["quiet", "busy"]
        .map(|tenant| origins.intern(vec![("tenant".to_owned(), tenant.to_owned())]));
    let room = Arc::new(tokio::sync::Semaphore::new(100));
    let queued = |number, origin: &Origin| {
        let mut trace = scene.trace(number, false);
        Arc::get_mut(&mut trace).unwrap().key.origin = origin.clone();
        let permit = Arc::clone(&room).try_acquire_owned().unwrap();
        queued::Queued::new(trace, permit, &scene.accounts(0))
    };
    let (target, most) = (4 * TRACE_BYTES, 64 * TRACE_BYTES);
    let mut batches = batch::Batches::new(target, most, Profile::None);
    let (wait, start) = (Duration::from_millis(20), clock::now());
    batches.add(start, queued(1, &quiet));
    for number in 2..10 {
        batches.add(start + Duration::from_millis(1), queued(number, &busy));
    }
    let mut next = |after_ms| {
        let now = start + Duration::from_millis(after_ms);
        let batch = batches.next(|batch| batch.since + wait <= now).unwrap();
        batch.origin.value("tenant").unwrap().to_owned()
    };
    assert_eq!([19, 20, 21].map(&mut next), ["busy", "quiet", "busy"]);
}
