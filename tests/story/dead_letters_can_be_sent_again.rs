//! Scenario: two destinations; the second is down and has a tiny queue, or refuses for good. Later the program's
//! `replay` is run on the dead-letter file.
//! Guarantees: the first gets everything meanwhile; what the second can't take is in the file, with its account, and
//! after the replay the second has every span once, as it was sent, and the lines' headers. What a replay can't send is
//! in FILE.rest; bad lines are named and skipped.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use opentelemetry_proto::tonic::trace::v1::Span;
use tempfile::TempDir;
use tracestitch::{
    demo::backend::{Backend, BackendFault},
    ledger::{Books, DropReason},
};

use crate::support::{self, Setup, World};

const TRACES: u128 = 200;
const DEAD_LETTERED: &str =
    "tracestitch_exporter_dead_lettered_spans_total{exporter=\"otlp/second\"}";

/// A world whose second destination is bad.
struct Story {
    world: World,
    second: Backend,
    directory: TempDir,
    configuration: PathBuf,
}

impl Story {
    async fn start(fault: BackendFault, dead_letter: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let letters = directory.path().join("letters");
        let second = Backend::start(0).await.expect("a free port");
        second.set_fault(fault);
        let exporters = format!(
            "otlp/second: {{endpoint: '{}', sending_queue: {{max_size: 64KiB}}, \
             headers: {{x-tenant: '${{origin:x-org}}'}}, \
             batch: {{max_size: 64KiB, target_size: 16KiB}}, \
             retry_on_failure: {{initial_interval: 50ms, max_interval: 200ms}}}}",
            second.url()
        );
        let dead_letter = format!("directory: '{}', {dead_letter}", letters.display());
        let receiver = "include_metadata: [x-org]";
        let setup = Setup { receiver, exporters, dead_letter, ..Setup::without_deepflow() };
        let configuration = directory.path().join("config.yaml");
        let yaml = setup.yaml("http://127.0.0.1:9", "http://127.0.0.1:9");
        fs::write(&configuration, yaml).expect("writable");
        let world = World::start(setup).await;
        Self { world, second, directory, configuration }
    }

    async fn send(&self) -> Vec<Span> {
        let mut sent = Vec::new();
        for trace in 1..=TRACES {
            let request = support::trace(trace, 4);
            let mut headers = tonic::metadata::MetadataMap::new();
            headers.insert("x-org", "seven".parse().expect("a header"));
            let body = prost::Message::encode_to_vec(&request).into();
            self.world.sender.send_raw(body, headers).await.expect("taken");
            sent.extend(support::spans_of(&request));
        }
        sent
    }

    fn books(&self) -> Books {
        let [_, second] =
            self.world.watched().ledger.snapshot().try_into().expect("two destinations");
        second
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("letters/otlp_second-000001.jsonl")
    }

    async fn replay(&self, arguments: &[&str]) -> Output {
        replay(&[&[text(&self.file())], arguments].concat()).await
    }

    async fn end(self) {
        self.world.end(&[]).await;
        self.second.stop().await;
    }
}

async fn replay(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracestitch"));
    command.arg("replay").args(arguments);
    tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("no panic")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn says(output: &Output) -> String {
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    texts.concat()
}

#[tokio::test]
async fn what_a_dead_destination_missed_reaches_it_by_replay() {
    let story = Story::start(BackendFault::Unavailable, "").await;
    let sent = story.send().await;
    let all = i64::try_from(sent.len()).expect("not so many");
    support::until("the first has everything", || {
        support::books(story.world.watched()).delivered == all
    })
    .await;
    support::until("letters are written", || story.books().dead_lettered > 0).await;
    assert!(story.books().held > 0, "what the queue holds is sent later: {:?}", story.books());

    story.second.set_fault(BackendFault::None);
    story.world.settled(sent.len()).await;
    let books = story.books();
    let dead_lettered = u64::try_from(books.dead_lettered).expect("not negative");
    assert_eq!(story.world.metric(DEAD_LETTERED), dead_lettered);
    assert_eq!(i64::try_from(story.second.span_count()), Ok(all - books.dead_lettered));
    let output = story.replay(&["--config", text(&story.configuration)]).await;
    assert!(output.status.success(), "{}", says(&output));
    assert!(says(&output).contains(&format!(" {dead_lettered} spans sent, 0 of them refused")));
    assert_eq!(support::assert_arrived(&sent, support::spans_at(&story.second)), []);
    for request in story.second.received() {
        let tenant = request.headers.get("x-tenant").and_then(|value| value.to_str().ok());
        assert_eq!(tenant, Some("seven"));
    }
    assert!(!story.file().with_extension("jsonl.rest").exists());
    story.end().await;
}

#[tokio::test]
async fn what_is_refused_for_good_is_kept_line_by_line() {
    let story = Story::start(BackendFault::Refuses, "").await;
    let sent = story.send().await;
    let all = i64::try_from(sent.len()).expect("not so many");
    support::until("everything is written", || story.books().dead_lettered == all).await;

    // Still refusing: every line stays, and what stays is what was there.
    let rest = story.file().with_extension("jsonl.rest");
    let output = story.replay(&["--to", &story.second.url()]).await;
    assert_eq!(output.status.code(), Some(1), "{}", says(&output));
    let lines = fs::read_to_string(&rest).expect("FILE.rest");
    assert_eq!(lines, fs::read_to_string(story.file()).expect("the file"));
    // It may be the only copy: it is not overwritten.
    let output = story.replay(&["--to", &story.second.url()]).await;
    assert_eq!(output.status.code(), Some(2), "{}", says(&output));

    // A bad line among good ones is named and stays; the others arrive with the headers of their origin.
    story.second.set_fault(BackendFault::None);
    let (first, others) = lines.split_once('\n').expect("several lines");
    fs::write(&rest, format!("{first}\n{{\"resourceSpans\": 7}}\n\n{others}")).expect("writable");
    let output = replay(&[text(&rest), "--to", &story.second.url()]).await;
    assert_eq!(output.status.code(), Some(1), "{}", says(&output));
    assert!(says(&output).contains(".jsonl.rest:2: no OTLP/JSON"), "{}", says(&output));
    let left = fs::read_to_string(rest.with_extension("rest.rest")).expect("FILE.rest");
    assert_eq!(left, "{\"resourceSpans\": 7}\n");
    assert_eq!(support::assert_arrived(&sent, support::spans_at(&story.second)), []);
    let received = story.second.received();
    assert!(received.iter().all(|request| request.headers.get("x-org").is_some()));
    story.end().await;
}

#[tokio::test]
async fn of_a_line_that_is_taken_in_part_the_rest_stays() {
    let story = Story::start(BackendFault::Refuses, "").await;
    let mut sent = support::spans(1, 5);
    sent[2].attributes.push(support::text("large", &"x".repeat(40_000)));
    story.world.send(&support::request("shop", sent.clone())).await;
    support::until("it is written", || story.books().dead_lettered == 5).await;

    story.second.set_fault(BackendFault::Limited(32 * 1024));
    let output = story.replay(&["--to", &story.second.url()]).await;
    assert_eq!(output.status.code(), Some(1), "{}", says(&output));
    assert!(
        says(&output).contains(": 1 lines, 4 spans sent, 0 of them refused, 1 lines not taken")
    );
    story.second.set_fault(BackendFault::None);
    let rest = story.file().with_extension("jsonl.rest");
    let output = replay(&[text(&rest), "--to", &story.second.url()]).await;
    assert!(output.status.success(), "{}", says(&output));
    assert!(says(&output).contains(": 1 lines, 1 spans sent"));
    assert_eq!(support::assert_arrived(&sent, support::spans_at(&story.second)), []);
    story.end().await;
}

#[tokio::test]
async fn of_a_line_with_a_large_resource_the_rest_stays() {
    let backend = Backend::start(0).await.expect("a free port");
    backend.set_fault(BackendFault::Limited(32 * 1024));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("traces.jsonl");
    let mut sent = support::spans(1, 5);
    for number in [1, 3] {
        sent[number].attributes.push(support::text("large", &"x".repeat(15_000)));
    }
    // Those that are too large with it have, one by one, more bytes than the line.
    let mut request = support::request("shop", sent.clone());
    let resource = request.resource_spans[0].resource.as_mut().expect("a resource");
    resource.attributes.push(support::text("large", &"y".repeat(20_000)));
    fs::write(&file, serde_json::to_string(&request).expect("JSON")).expect("writable");
    let output = replay(&[text(&file), "--to", &backend.url()]).await;
    assert!(says(&output).contains(": 1 lines, 3 spans sent"), "{}", says(&output));
    backend.set_fault(BackendFault::None);
    let rest = directory.path().join("traces.jsonl.rest");
    let output = replay(&[text(&rest), "--to", &backend.url()]).await;
    assert!(output.status.success(), "{}", says(&output));
    assert_eq!(support::assert_arrived(&sent, support::spans_at(&backend)), []);
    backend.stop().await;
}

#[tokio::test]
async fn a_signal_ends_a_replay_and_nothing_is_lost() {
    let backend = Backend::start(0).await.expect("a free port");
    backend.set_fault(BackendFault::Unavailable);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("traces.jsonl");
    // More than one request.
    let lines: Vec<String> = (1..=2000)
        .map(|trace| serde_json::to_string(&support::trace(trace, 8)).expect("JSON"))
        .collect();
    let lines = lines.join("\n") + "\n";
    fs::write(&file, &lines).expect("writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracestitch"));
    command.arg("replay").args([text(&file), "--to", &backend.url()]);
    let child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let pid = child.id();
    let output = tokio::task::spawn_blocking(move || {
        let mut child = child;
        let stderr = child.stderr.take().expect("piped");
        let mut lines = BufReader::new(stderr).lines();
        let tries =
            lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("trying again")));
        assert!(tries.is_some());
        let kill = format!("kill -INT {pid}");
        assert!(Command::new("sh").arg("-c").arg(kill).status().expect("a shell").success());
        let status = child.wait().expect("it ends");
        (status, lines.map_while(Result::ok).collect::<Vec<_>>().join("\n"))
    });
    let (status, errors) = output.await.expect("no panic");
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.contains("ended by a signal"), "{errors}");
    let rest = fs::read_to_string(directory.path().join("traces.jsonl.rest")).expect("FILE.rest");
    assert!(rest == lines, "all of it is left");
    backend.stop().await;
}

#[tokio::test]
async fn full_dead_letter_files_drop_with_an_account_of_their_own() {
    let story = Story::start(BackendFault::Refuses, "max_file_size: 1MiB, max_files: 1").await;
    let mut sent = 0;
    for trace in 1..=40 {
        let mut span = support::span(trace, 1);
        span.attributes.push(support::text("large", &"x".repeat(60_000)));
        story.world.send(&support::request("shop", vec![span])).await;
        sent += 1;
    }
    story.world.settled(sent).await;
    let books = story.books();
    let full = books.dropped(DropReason::DeadLetterFull);
    assert!(full > 0 && books.dead_lettered > 0, "{books:?}");
    assert_eq!(usize::try_from(full + books.dead_lettered), Ok(sent), "{books:?}");
    let bytes = fs::metadata(story.file()).expect("the file").len();
    assert!(bytes <= 1024 * 1024, "{bytes}");
    story.end().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_drops_with_an_account_of_its_own() {
    let story = Story::start(BackendFault::Refuses, "").await;
    fs::write(story.directory.path().join("letters"), "a file is in the way").expect("writable");
    let sent = story.send().await;
    story.world.settled(sent.len()).await;
    let failed = story.books().dropped(DropReason::DeadLetterFailed);
    assert_eq!(usize::try_from(failed), Ok(sent.len()));
    story.end().await;
}

#[tokio::test]
async fn lines_of_other_programs_are_sent_where_the_command_says() {
    let backend = Backend::start(0).await.expect("a free port");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("traces.json");
    let requests: Vec<_> = (1..=3).map(|trace| support::trace(trace, 2)).collect();
    let lines: Vec<String> =
        requests.iter().map(|request| serde_json::to_string(request).expect("JSON")).collect();
    fs::write(&file, lines.join("\n")).expect("writable");
    let output = replay(&[text(&file), "--to", &backend.url()]).await;
    assert!(output.status.success(), "{}", says(&output));
    let sent: Vec<Span> = requests.iter().flat_map(support::spans_of).collect();
    assert_eq!(support::assert_arrived(&sent, support::spans_at(&backend)), []);

    // The configuration has two, and the line names none.
    let exporters = format!("otlp/other: {{endpoint: '{}'}}", backend.url());
    let yaml =
        Setup { exporters, ..Setup::without_deepflow() }.yaml("http://127.0.0.1:9", &backend.url());
    let configuration = directory.path().join("config.yaml");
    fs::write(&configuration, yaml).expect("writable");
    let output = replay(&[text(&file), "--config", text(&configuration)]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        says(&output).contains("traces.json:1: the line names no destination"),
        "{}",
        says(&output)
    );
    fs::remove_file(directory.path().join("traces.json.rest")).expect("FILE.rest");
    let output =
        replay(&[text(&file), "--config", text(&configuration), "--exporter", "otlp/other"]).await;
    assert!(output.status.success(), "{}", says(&output));
    assert_eq!(backend.span_count(), 12);
    backend.stop().await;
}
