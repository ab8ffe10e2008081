//! [`Step`]: what is measured alone, each on the reference load or on a recorded answer of DeepFlow.

use std::{fs, path::Path, sync::mpsc};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde::{Deserialize, de::DeserializeOwned};
use tracestitch::{
    buffer::journal::{Journal, Settings, SyncMode},
    completion::deepflow::answer::{Outcome, classify},
    telemetry::Metrics,
    trace::{SpanId, TraceId, split},
    weaving::{Config, pieces},
    wire::{
        layout::Layout,
        splice::{self, Patch, Pick},
    },
};

use crate::{
    calls::Calls,
    hook::{self, FIRST, START_US},
    shape::Shape,
    template::{Template, trace_id},
};

/// Something that can be done again and again.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// What the time is shown for …
    pub(crate) unit: &'static str,
    /// … and how many of them a call has.
    pub(crate) units: f64,
    /// Gives a number, so that nothing is optimised away.
    pub(crate) call: Box<dyn FnMut() -> usize>,
}

#[derive(Deserialize)]
struct Recorded {
    http_status: u16,
    body: serde_json::Value,
}

/// All of them.
pub(crate) fn all() -> Vec<Step> {
    let request = Bytes::from(Template::new(Shape::REFERENCE, 0).filled(1, 1));
    vec![
        fill(),
        decode(request.clone()),
        scan(request.clone()),
        split_request(request.clone()),
        reparent(request.clone()),
        append(&request),
        read_answer(),
        read_small_answer(),
        weave(),
        weave_small(),
        weave_calls("weave 750 spans, 250 rows", 375),
        weave_calls("weave 1500 spans, 500 rows", 750),
        weave_calls("weave 3000 spans, 1000 rows", 1500),
        weave_calls("weave 6000 spans, 2000 rows", 3000),
    ]
}

fn of_spans(name: &'static str, call: impl FnMut() -> usize + 'static) -> Step {
    Step { name, unit: "span", units: 512.0, call: Box::new(call) }
}

/// What the load of `pipeline` costs.
fn fill() -> Step {
    let template = Template::new(Shape::REFERENCE, 0);
    of_spans("fill a template", move || template.filled(1, 1).len())
}

/// For comparison: nothing in the pipeline does it.
fn decode(request: Bytes) -> Step {
    let decoded = move || ExportTraceServiceRequest::decode(request.clone()).expect("OTLP");
    of_spans("decode by prost", move || decoded().resource_spans.len())
}

fn scan(request: Bytes) -> Step {
    of_spans("scan and check", move || Layout::validated(&request).expect("OTLP").spans.len())
}

fn split_request(request: Bytes) -> Step {
    let fragments = move || split(request.clone()).expect("OTLP").into_fragments();
    of_spans("split into 256 traces", move || fragments().len())
}

fn reparent(request: Bytes) -> Step {
    let layout = Layout::trusted(&request).expect("OTLP");
    let parent = SpanId::from_number(7);
    of_spans("splice, each span with a new parent", move || {
        let spans = layout.spans.iter().enumerate();
        let picks = spans.map(|(span, entry)| {
            let patch = Patch::reparent(&request, entry.body.clone(), entry.parent, parent);
            Pick { span, patch: Some(patch.expect("OTLP")) }
        });
        splice::emit(&request, &layout, &picks.collect::<Vec<_>>()).len()
    })
}

/// The parts of one request become one record, and are forgotten at once.
fn append(request: &Bytes) -> Step {
    let directory = tempfile::tempdir().expect("a directory");
    let names = vec!["otlp".to_owned()];
    let metrics = Metrics::new(&names).into();
    let settings = Settings {
        sync: SyncMode::Never,
        ..Settings::new(directory.path().to_owned(), names, metrics)
    };
    let (journal, _recovery) = Journal::open(settings).expect("a new one");
    let fragments = split(request.clone()).expect("OTLP").into_fragments();
    let parts: Vec<_> = fragments.into_iter().map(|fragment| fragment.bytes).collect();
    of_spans("append to the journal and wait", move || {
        let _stays = &directory;
        let (done, places) = mpsc::sync_channel(1);
        let then = move |outcome| done.send(outcome).expect("somebody waits");
        journal.append_spans(vec![0; 16], parts.clone(), then);
        let places = places.recv().expect("an answer").expect("kept").places;
        journal.done(0, &places);
        journal.release(&places);
        places.len()
    })
}

fn read_answer() -> Step {
    let Recorded { http_status, body } = recorded("answer.json");
    let body = body.to_string();
    let call =
        move || usize::from(matches!(classify(http_status, body.as_bytes()), Outcome::Found(_)));
    Step {
        name: "read a recorded answer",
        unit: "answer of 298 rows, 430 KB",
        units: 1.0,
        call: Box::new(call),
    }
}

fn weave() -> Step {
    let Recorded { http_status, body } = recorded("answer.json");
    let Outcome::Found(found) = classify(http_status, body.to_string().as_bytes()) else {
        panic!("a recorded answer has spans");
    };
    let trace: ExportTraceServiceRequest = recorded("trace.otlp.json");
    let (id, fragment) = split(trace.encode_to_vec().into()).expect("OTLP").fragments.remove(0);
    let config = Config::default();
    let call = move || pieces(id, std::slice::from_ref(&fragment), &found, &config).0.len();
    Step { name: "weave a recorded answer", unit: "trace", units: 1.0, call: Box::new(call) }
}

/// What each trace of `asks` costs: the answer to 8 spans.
fn read_small_answer() -> Step {
    let body = small_answer();
    let call = move || usize::from(matches!(classify(200, body.as_bytes()), Outcome::Found(_)));
    Step {
        name: "read an answer to 8 spans",
        unit: "answer of 29 rows",
        units: 1.0,
        call: Box::new(call),
    }
}

/// As they come, 2 spans of each of 4 services.
fn weave_small() -> Step {
    let Outcome::Found(found) = classify(200, small_answer().as_bytes()) else {
        panic!("an answer with rows");
    };
    let id = TraceId::from_wire(&trace_id(FIRST)).expect("an id");
    let fragments = (0..Shape::REFERENCE.services).map(|service| {
        let request = Template::new(Shape::REFERENCE, service).filled(FIRST, START_US);
        let mut fragments = split(request.into()).expect("OTLP").fragments.into_iter();
        fragments.find(|(of, _)| *of == id).expect("its spans").1
    });
    let fragments: Vec<_> = fragments.collect();
    let config = Config::default();
    let call = move || {
        let (pieces, woven) = pieces(id, &fragments, &found, &config);
        assert_eq!(woven.system + woven.network, 21, "all rows are added");
        pieces.len()
    };
    Step { name: "weave 8 spans, 21 rows", unit: "trace", units: 1.0, call: Box::new(call) }
}

fn small_answer() -> String {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(hook::recorded_body())
}

/// How it grows.
fn weave_calls(name: &'static str, calls: u64) -> Step {
    let Calls { id, fragments, found } = Calls::new(calls);
    let rows = found.spans.len();
    let config = Config::default();
    let call = move || {
        let (pieces, woven) = pieces(id, &fragments, &found, &config);
        assert_eq!(woven.system, rows as u64, "all rows are added");
        assert!(woven.reparented > 0, "and spans hang below them");
        pieces.len()
    };
    Step { name, unit: "trace", units: 1.0, call: Box::new(call) }
}

fn recorded<T: DeserializeOwned>(file: &str) -> T {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/deepflow/fixtures/l_big_100");
    let text = fs::read(folder.join(file)).expect("a recorded file");
    serde_json::from_slice(&text).expect("what was recorded")
}
