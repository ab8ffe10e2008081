//! Every recorded refusal is given again, word for word.

use http::Method;
use serde_json::json;

use crate::{
    recorded, rows,
    support::{Double, PATH, assert_alike},
};

/// Scenario: each body that was once refused is posted again.
/// Guarantees: same status, same reasons in the same order.
#[tokio::test]
async fn recorded_refusals_are_given_again() {
    let double = double().await;
    let mut compared = 0;
    for prefix in ["bad_", "not_found_", "recursion_"] {
        for (name, error) in recorded::errors(prefix) {
            let Some(request) = error.get("request") else { continue };
            println!("{name}");
            assert_alike(&double.post(&request.to_string()).await, &error);
            compared += 1;
        }
    }
    assert!(compared >= 28, "only {compared} were compared");
    double.stop().await;
}

/// Scenario: requests that are no JSON, or not for this endpoint; the recording could not hold them as JSON.
/// Guarantees: same status and body.
#[tokio::test]
async fn recorded_refusals_of_other_requests_are_given_again() {
    let double = double().await;
    let gzip =
        [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0xae, 5, 0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0];
    let nope = "/v1/stats/querier/nope";
    let cases: [(&str, Method, &str, &[u8]); 7] = [
        ("bad_empty_body.json", Method::POST, PATH, b""),
        ("bad_get.json", Method::GET, PATH, b""),
        ("bad_gzip.json", Method::POST, PATH, &gzip),
        ("bad_json_number.json", Method::POST, PATH, b"3"),
        ("bad_not_json.json", Method::POST, PATH, b"hello"),
        ("bad_trailing_comma.json", Method::POST, PATH, b"{\"app_spans\": [],}"),
        ("bad_wrong_path.json", Method::POST, nope, b"{}"),
    ];
    for (name, method, path, body) in cases {
        println!("{name}");
        let answered = double.send(method, path, body).await.expect("an answer");
        let (_, recorded) = recorded::errors(name).pop().expect("recorded");
        assert_alike(&answered, &recorded);
    }
    double.stop().await;
}

/// Scenario: what the contract tells of values that were not recorded.
/// Guarantees: the stage, text and place it names.
#[tokio::test]
async fn values_are_judged_as_the_contract_tells() {
    let double = double().await;
    let span = |key: &str, value: serde_json::Value| {
        let mut span = json!({"trace_id": "t", "span_id": "s", "parent_span_id": "", "span_kind": 2,
            "start_time_us": 1, "end_time_us": 2});
        span[key] = value;
        json!({"app_spans": [span]})
    };
    let reason =
        |key: &str, text: &str| format!(r#"{{"APP_SPANS": {{"0": {{"{key}": ["{text}"]}}}}}}"#);
    let cases = [
        (span("span_id", json!([])), reason("span_id", "Couldn't interpret '[]' as string.")),
        (span("span_id", json!(true)), reason("span_id", "Couldn't interpret 'True' as string.")),
        (span("span_kind", json!("2.0")), reason("span_kind", "Value '2.0' is not int.")),
        (span("span_kind", json!("")), reason("span_kind", "Value '' is not int.")),
        (json!({"app_spans": [], "DEBUG": 7}), r#"{"DEBUG": ["Must be either true or false."]}"#.to_owned()),
        (
            json!({"APP_SPANS": [{"name": "x"}, {}, {"start_time_us": "x"}], "debug": "no"}),
            concat!(
                r#"{"APP_SPANS": {"0": {"name": "Rogue field"}, "2": {"start_time_us": ["Value 'x' is not int."]}}, "#,
                r#""DEBUG": ["Must be either true or false."]}"#
            )
            .to_owned(),
        ),
    ];
    for (body, expected) in cases {
        let answered = double.post(&body.to_string()).await;
        assert_eq!(
            (answered.status, answered.json()["DESCRIPTION"].as_str()),
            (400, Some(expected.as_str()))
        );
    }
    for accepted in [json!("2"), json!(" 2"), json!(2.0), json!(true)] {
        assert_eq!(
            double.post(&span("span_kind", accepted).to_string()).await.status,
            500,
            "nothing found"
        );
    }
    let both = json!({"app_spans": [], "APP_SPANS": [null], "MAX_ITERATION": 3}).to_string();
    assert!(double.post(&both).await.json()["DESCRIPTION"].to_string().contains("at least 1 item"));
    double.stop().await;
}

/// Scenario: spellings of the address.
/// Guarantees: a slash or two at the end and a query are accepted, other paths and methods are not.
#[tokio::test]
async fn the_address_is_taken_as_by_sanic() {
    let double = double().await;
    for (path, status) in [
        (format!("{PATH}/"), 400),
        (format!("{PATH}//"), 400),
        (format!("{PATH}?debug=1"), 400),
        (format!("/{PATH}"), 404),
        ("/".to_owned(), 404),
    ] {
        let answered = double.send(Method::POST, &path, b"{}").await.expect("an answer");
        assert_eq!(answered.status, status, "{path}");
    }
    assert_eq!(double.send(Method::PUT, PATH, b"{}").await.expect("an answer").status, 405);
    double.stop().await;
}

async fn double() -> Double {
    Double::with_rows(rows::of(&recorded::answer("fixtures/a_two_services"))).await
}
