//! Scenario: traces of which DeepFlow knows something, or nothing; a part that comes late; then somebody asks what
//! became of them, over HTTP and with `explain`.
//! Guarantees: what is told is what happened; only the last traces are remembered; `explain` says what is wrong when it
//! can't tell.

use std::process::{Command, Output};

use tracestitch::{
    demo::deepflow::DeepflowConfig,
    memory::Stage,
    trace::{TraceId, told::Told},
};

use crate::support::{self, Setup, World, http};

fn id(trace: u128) -> TraceId {
    TraceId::from_wire(&trace.to_be_bytes()).expect("not zero")
}

async fn page(world: &World, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", world.pipeline.admin());
    let response = http::client().get(url).send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("text"))
}

async fn parts(world: &World, trace: u128) -> Vec<Told> {
    let (status, text) = page(world, &format!("/traces/{}", id(trace))).await;
    assert_eq!(status, 200, "{text}");
    let page: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    serde_json::from_value(page["parts"].clone()).expect("lives")
}

async fn explain(id: &str, admin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracestitch"));
    command.args(["explain", "trace", id, "--admin", admin]);
    tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn trace_tells_its_life() {
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let world = World::with(deepflow, Setup::default()).await;
    let spans = support::spans(1, 5);
    world.send(&support::request("shop", spans[..1].to_vec())).await;
    world.send(&support::request("shop", spans[1..4].to_vec())).await;
    world.settled(4).await;
    let arrived = support::spans_at(&world.backend);
    let added = u64::try_from(support::assert_arrived(&spans[..4], arrived).len()).expect("few");
    assert!(added > 0);
    let reparented = world.metric("tracestitch_weaving_reparented_spans_total");
    let asked = u64::try_from(world.deepflow.requests().len()).expect("few");
    world.send(&support::request("shop", spans[4..].to_vec())).await;
    world.settled(5).await;

    let parts = parts(&world, 1).await;
    let [first, late] = parts.as_slice() else { panic!("two parts: {parts:?}") };
    let numbers = (first.fragments, first.spans, first.released.reason.as_str());
    assert_eq!(numbers, (2, 4, "idle"));
    let woven = first.woven.as_ref().expect("it was woven");
    assert_eq!(woven.system + woven.network, added);
    assert_eq!(woven.reparented, reparented);
    let asks = first.asks.as_ref().expect("it was asked for");
    assert_eq!(asks.count, asked);
    assert_eq!(asks.ended.as_ref().map(|ended| ended.reason.as_str()), Some("found"));
    let ended: Vec<_> = first.destinations["otlp/backend"]
        .iter()
        .map(|end| (end.fate.as_str(), end.spans))
        .collect();
    assert_eq!(ended, [("delivered", 4)]);
    let times = [
        first.last_arrival_ms,
        // Quiet for 300 ms; its alarm may come a little early.
        first.last_arrival_ms + 280,
        first.released.at_ms,
        asks.first_ms,
        asks.ended.as_ref().expect("it was answered").at_ms,
        woven.at_ms,
        first.destinations["otlp/backend"][0].at_ms,
    ];
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!((late.fragments, late.spans), (1, 1));
    assert_eq!((first.follows_spans, late.follows_spans), (None, Some(4)));
    assert!(late.first_arrival_unix_ms >= first.first_arrival_unix_ms);

    let (_, list) = page(&world, "/traces").await;
    let lines: Vec<serde_json::Value> =
        list.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let seen: Vec<_> = lines.iter().map(|line| (&line["spans"], &line["state"])).collect();
    assert_eq!(seen, [(&1.into(), &"ended".into()), (&4.into(), &"ended".into())], "newest first");

    let admin = format!("http://{}", world.pipeline.admin());
    let told = explain(&id(1).to_string(), &admin).await;
    assert!(told.status.success(), "{told:?}");
    let told = text(&told.stdout);
    assert!(told.starts_with(&format!("trace {}, part 1 of 2: has left\n", id(1))), "{told}");
    assert!(told.contains("otlp/backend: 4 spans delivered\n"), "{told}");
    assert!(told.contains("goes on where 4 earlier spans of it left off\n"), "{told}");
    let woven = format!("woven: {} system and {} network", woven.system, woven.network);
    assert!(told.contains(&woven), "{told}");

    assert!(world.watched().budget.stage_bytes(Stage::Recent) > 0);
    world.end(&[]).await;
}

#[tokio::test]
async fn trace_that_went_on_as_it_came_says_why() {
    let world = World::start(Setup::default()).await;
    world.send(&support::trace(3, 2)).await;
    world.settled(2).await;
    let parts = parts(&world, 3).await;
    let told = serde_json::to_value(&parts).expect("JSON");
    assert_eq!(told[0]["answer"]["skipped"]["reason"], "not_found", "{told}");
    // At once, after 300 and after 900 ms.
    assert_eq!((&told[0]["asks"]["count"], &told[0]["woven"]["system"]), (&3.into(), &0.into()));
    world.end(&[]).await;
}

#[tokio::test]
async fn only_the_last_traces_are_remembered() {
    let admin = "recent_traces: 2".to_owned();
    let world = World::start(Setup { admin, ..Setup::without_deepflow() }).await;
    for trace in 1..=3_u32 {
        world.send(&support::trace(trace.into(), 1)).await;
        world.settled(usize::try_from(trace).expect("few")).await;
    }
    assert_eq!(page(&world, "/traces").await.1.lines().count(), 2);
    let (status, sentence) = page(&world, &format!("/traces/{}", id(1))).await;
    assert_eq!(status, 404);
    assert!(sentence.contains("not among the last 2 that were released"), "{sentence}");
    assert_eq!(page(&world, "/traces/xyz").await.0, 400);

    let admin = format!("http://{}", world.pipeline.admin());
    let told = explain(&id(1).to_string(), &admin).await;
    assert_eq!((told.status.code(), told.stdout.as_slice()), (Some(1), [].as_slice()));
    assert_eq!(text(&told.stderr), format!("tracestitch: {sentence}"));
    world.end(&[]).await;
}

#[tokio::test]
async fn explain_says_what_is_wrong() {
    let nobody = explain(&id(1).to_string(), "http://127.0.0.1:9").await;
    assert_eq!(nobody.status.code(), Some(1));
    let why = text(&nobody.stderr);
    assert!(why.contains("cannot ask http://127.0.0.1:9: is tracestitch running"), "{why}");
    assert!(why.contains("refused"), "{why}");
    let no_id = explain("xyz", "http://127.0.0.1:9").await;
    assert_eq!(no_id.status.code(), Some(2));
    assert!(text(&no_id.stderr).contains("hexadecimal"), "{no_id:?}");
}

#[tokio::test]
async fn nothing_is_remembered_unless_it_may() {
    let admin = "recent_traces: 0".to_owned();
    let world = World::start(Setup { admin, ..Setup::without_deepflow() }).await;
    world.send(&support::trace(1, 1)).await;
    world.settled(1).await;
    assert_eq!(page(&world, "/traces").await, (200, String::new()));
    let (status, sentence) = page(&world, &format!("/traces/{}", id(1))).await;
    assert_eq!(status, 404);
    assert!(sentence.contains("admin.recent_traces is 0"), "{sentence}");
    assert_eq!(world.watched().budget.stage_bytes(Stage::Recent), 0);
    world.end(&[]).await;
}
