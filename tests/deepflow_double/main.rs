//! The simulated DeepFlow answers like the recorded one.
//!
//! Rows are taken out of each recorded answer and put into the double; the recorded request is posted over real HTTP;
//! what comes back has to be the recorded answer, but for what the service itself leaves to chance.

mod faults;
mod limits;
mod recorded;
mod refusals;
mod rows;
mod shop;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use support::{Answered, Double};
use tracestitch::demo::deepflow::DeepflowConfig;

/// Scenario: each recorded request meets the recorded rows.
/// Guarantees: same envelope, same spans, keys, types and values, same edges, same corrections of clocks.
#[tokio::test]
async fn every_recorded_answer_is_given_again() {
    let names = recorded::names();
    assert!(names.len() >= 50, "only {} recordings", names.len());
    let mut differences = Vec::new();
    for name in names {
        let recorded = recorded::answer(&name);
        let answered = ask(&name, &recorded).await;
        assert_eq!(answered.header("content-type"), "application/json; charset=utf-8");
        assert_eq!(answered.header("content-encoding"), "", "never compressed");
        if recorded["http_status"] != 200 {
            support::assert_alike(&answered, &recorded);
            continue;
        }
        assert_eq!(answered.status, 200, "{name}: {}", answered.json());
        let found = compare(&answered.json(), &recorded["body"]);
        differences.extend(found.into_iter().map(|text| format!("{name}: {text}")));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Scenario: the rows of a trace are there, but a different one is asked for.
/// Guarantees: a 500 whose description is one quoted word, the same for all asks of one process.
#[tokio::test]
async fn an_unknown_trace_is_an_error_of_one_quoted_word() {
    let double = Double::with_rows(rows::of(&recorded::answer("fixtures/a_two_services"))).await;
    let recorded = recorded::answer("fixtures/f_unknown_trace");
    let first = double.post(&recorded::request("fixtures/f_unknown_trace")).await;
    support::assert_alike(&first, &recorded);
    assert_eq!(first, double.post(&recorded::request("fixtures/f_unknown_trace")).await);
    double.stop().await;
}

/// Scenario: the same ask twice.
/// Guarantees: the ids of rows stay, those of posted spans change.
#[tokio::test]
async fn only_ids_of_rows_are_stable() {
    let double = Double::with_rows(rows::of(&recorded::answer("fixtures/a_two_services"))).await;
    let request = recorded::request("fixtures/a_two_services");
    let (first, second) = (double.post(&request).await, double.post(&request).await);
    let ids = |answered: &Answered, source: i64| {
        let json = answered.json();
        let spans = json["DATA"]["tracing"].as_array().cloned().unwrap_or_default();
        let wanted = spans.into_iter().filter(|span| span["signal_source"] == source);
        wanted.map(|span| span["_ids"][0].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(ids(&first, 3), ids(&second, 3));
    assert_ne!(ids(&first, 4), ids(&second, 4));
    double.stop().await;
}

/// Scenario: a double whose answers grow is asked three times.
/// Guarantees: the first answer holds half of the rows, the others all of them.
#[tokio::test]
async fn answers_grow_if_told_so() {
    let config = DeepflowConfig { grows: true, synthesise: true, ..DeepflowConfig::default() };
    let double = Double::start(config).await;
    let request = recorded::request("fixtures/a_two_services");
    let mut counts = Vec::new();
    for _ in 0..3 {
        let json = double.post(&request).await.json();
        let spans = json["DATA"]["tracing"].as_array().cloned().unwrap_or_default();
        counts.push(spans.iter().filter(|span| span["signal_source"] != 4).count());
    }
    let [first, second, third] = counts[..] else { panic!("three answers") };
    assert!(first > 0);
    assert_eq!((second.div_ceil(2), third), (first, second));
    double.stop().await;
}

async fn ask(name: &str, recorded: &Value) -> Answered {
    let double = Double::with_rows(rows::of(recorded)).await;
    let answered = double.post(&recorded::request(name)).await;
    double.stop().await;
    answered
}

/// What differs, in words.
fn compare(given: &Value, recorded: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    let mut note = |what: String, given: &Value, recorded: &Value| {
        if !same(given, recorded) {
            differences.push(format!("{what}: {given} instead of {recorded}"));
        }
    };
    for envelope in [given, recorded] {
        assert_eq!(keys(envelope), ["DATA", "DESCRIPTION", "OPT_STATUS", "TYPE"]);
        assert_eq!(keys(&envelope["DATA"]), ["host_clock_correction", "tracing"]);
    }
    for key in ["OPT_STATUS", "DESCRIPTION", "TYPE"] {
        note(key.to_owned(), &given[key], &recorded[key]);
    }
    let clocks = "host_clock_correction";
    note(clocks.to_owned(), &given["DATA"][clocks], &recorded["DATA"][clocks]);

    let (given, recorded) = (spans(given), spans(recorded));
    let names =
        |spans: &BTreeMap<String, Value>| Value::from(spans.keys().cloned().collect::<Vec<_>>());
    note("spans".to_owned(), &names(&given), &names(&recorded));
    for (name, recorded) in &recorded {
        let given_keys = given.get(name).map(keys).unwrap_or_default();
        note(format!("{name} keys"), &given_keys.into(), &keys(recorded).into());
        for (key, recorded) in recorded.as_object().into_iter().flatten() {
            let missing = Value::from("no such key");
            let given = given.get(name).and_then(|span| span.get(key)).unwrap_or(&missing);
            note(format!("{name} {key}"), given, recorded);
        }
    }
    differences
}

/// The keys of an object, in order.
fn keys(object: &Value) -> Vec<&str> {
    let keys: BTreeSet<&str> =
        object.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    keys.into_iter().collect()
}

/// Spans by a name that both answers know: the row's id, or the posted span's. What is left to chance is replaced by
/// what it refers to.
fn spans(body: &Value) -> BTreeMap<String, Value> {
    let list = body["DATA"]["tracing"].as_array().cloned().unwrap_or_default();
    let mut copies = BTreeMap::<String, usize>::new();
    let mut names = Vec::new();
    let mut by_deepflow_id = BTreeMap::new();
    for span in &list {
        let is_posted = span["signal_source"] == 4 && span["_querier_region"] == "";
        let shared = if is_posted { span["span_id"].clone() } else { span["_ids"][0].clone() };
        let shared = shared.as_str().unwrap_or_default().to_owned();
        let copy = copies.entry(shared.clone()).or_default();
        names.push(if is_posted {
            format!("app {shared} #{copy}")
        } else {
            format!("row {shared}")
        });
        *copy += 1;
        let by_app = if span["signal_source"] == 4 {
            format!("app {}", span["span_id"])
        } else {
            format!("row {shared}")
        };
        by_deepflow_id.insert(span["deepflow_span_id"].to_string(), by_app);
    }
    by_deepflow_id.insert("\"\"".to_owned(), "nothing".to_owned());
    names
        .into_iter()
        .zip(list)
        .map(|(name, mut span)| {
            let parent = by_deepflow_id.get(&span["deepflow_parent_span_id"].to_string()).cloned();
            span["deepflow_parent_span_id"] = parent.into();
            span["deepflow_span_id"] = without_chance(&span["deepflow_span_id"]);
            if name.starts_with("app") {
                span["_ids"] = Value::Array(vec![
                    "chance".into();
                    span["_ids"].as_array().map_or(0, Vec::len)
                ]);
            }
            span["related_ids"] = relations(&span["related_ids"]);
            (name, span)
        })
        .collect()
}

/// `0x<chance>.s-p.4` → `0x.s-p.4`.
fn without_chance(name: &Value) -> Value {
    let name = name.as_str().unwrap_or_default();
    match name.strip_prefix("0x").and_then(|rest| rest.split_once('.')) {
        Some((_, rest)) => format!("0x.{rest}").into(),
        None => name.into(),
    }
}

/// Index and relations, without the ids; the order of a Python set is chance.
fn relations(list: &Value) -> Value {
    let items = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut relations: Vec<String> =
        items.filter_map(|item| Some(item.rsplit_once('-')?.0.to_owned())).collect();
    relations.sort();
    relations.into()
}

/// Equal, and numbers are written alike: 200 is not 200.0.
fn same(one: &Value, other: &Value) -> bool {
    one == other && one.is_f64() == other.is_f64()
}
