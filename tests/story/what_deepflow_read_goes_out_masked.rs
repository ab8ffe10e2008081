//! Scenario: DeepFlow read a token in each query string, a password in each SQL text, and a value in each Redis command.
//! Guarantees: none of them leaves; what is left says what the request did, and the metrics say what was masked.

use tracestitch::{
    clock,
    demo::{deepflow::DeepflowConfig, shop},
};

use crate::support::{self, Setup, World};

const SECRET: &str = "s3cret";

#[tokio::test]
async fn what_deepflow_read_goes_out_masked() {
    let round = shop::round(7, (clock::wall_us() - 2_000_000) * 1000);
    let mut rows = round.rows.clone();
    for (number, row) in rows.iter_mut().enumerate() {
        let (protocol, kind, resource) = match number % 3 {
            0 => (20, "GET", format!("/cart?page=2&token={SECRET}")),
            1 => (60, "COM_QUERY", format!("UPDATE users SET password = '{SECRET}' WHERE id = 7")),
            _ => (80, "SET", format!("SET session:7 {SECRET}")),
        };
        row.protocol = protocol;
        row.request_type = kind.into();
        row.request_resource = resource;
    }
    let deepflow = DeepflowConfig { rows, ..DeepflowConfig::default() };
    let world = World::with(deepflow, Setup::default()).await;

    let sent: Vec<_> = round.requests.iter().flat_map(support::spans_of).collect();
    for request in &round.requests {
        world.sender.send(request).await.expect("the request is taken");
    }
    world.settled(sent.len()).await;

    let added = support::assert_arrived(&sent, support::spans_at(&world.backend));
    let shown = format!("{added:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    for text in
        ["page=REDACTED&token=REDACTED", "UPDATE users SET password = ? WHERE id = ?", "SET ? ?"]
    {
        assert!(shown.contains(text), "{text} is missing in {shown}");
    }
    let masked = |text: &str| {
        world.metric(&format!(
            "tracestitch_weaving_texts_total{{text=\"{text}\",outcome=\"masked\"}}"
        ))
    };
    assert!(masked("url_query") > 0 && masked("sql") > 0 && masked("command") > 0);
    assert_eq!(
        masked("url_query") + masked("sql") + masked("command"),
        u64::try_from(added.len()).expect("few")
    );
    world.end(&[]).await;
}
