//! Scenario: admin pages that listen on all interfaces or on loopback, with tokens and without, also by TLS; `explain` asks
//! them.
//! Guarantees: health and metrics are there for everybody. The other pages are shown beyond loopback only to who has a
//! token, and where there are tokens only to who has one; on loopback without tokens under no name but loopback's own. A refusal
//! says what to do.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::{
    self, Setup, World, http,
    tls::{self, Authority},
};

const TOKEN: &str = "admin-token-0123456789";
const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;

/// Status and text of a page.
async fn page(world: &World, path: &str, token: Option<&str>) -> (u16, String) {
    let url = format!("http://127.0.0.1:{}{path}", world.pipeline.admin().port());
    let get = http::client().get(url);
    let get = match token {
        Some(token) => get.header("authorization", format!("Bearer {token}")),
        None => get,
    };
    let answer = get.send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a text"))
}

async fn open_pages_are_there(world: &World) {
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(page(world, path, None).await.0, 200, "{path}");
    }
}

const SHUT: [&str; 3] = ["/ledger", "/traces", "/traces/0af7651916cd43dd8448eb211c80319c"];

#[tokio::test]
async fn without_tokens_nobody_sees_more_from_elsewhere() {
    let setup = Setup { admin_endpoint: "0.0.0.0:0", ..Setup::without_deepflow() };
    let world = World::start(setup).await;
    open_pages_are_there(&world).await;
    for path in SHUT {
        let (status, text) = page(&world, path, Some(TOKEN)).await;
        assert_eq!(status, 403, "{path}");
        assert!(text.contains("admin.auth.tokens"), "{text}");
    }
    world.end(&[]).await;
}

/// A name of anybody's can be made to stand for 127.0.0.1 while a browser has a page of it open.
#[tokio::test]
async fn without_tokens_loopback_is_shown_under_its_own_names() {
    let world = World::start(Setup::without_deepflow()).await;
    let port = world.pipeline.admin().port();
    for (host, expected) in [("localhost", 200), ("127.0.0.1", 200), ("evil.example", 403)] {
        let get = http::client().get(format!("http://127.0.0.1:{port}/ledger"));
        let answer = get.header("host", format!("{host}:{port}")).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), expected, "{host}");
        let text = answer.text().await.expect("a text");
        assert!(expected == 200 || text.contains("admin.auth.tokens"), "{text}");
    }
    world.end(&[]).await;
}

#[tokio::test]
async fn with_tokens_who_has_one_sees_all() {
    for admin_endpoint in ["0.0.0.0:0", "127.0.0.1:0"] {
        let admin = format!("auth: {{tokens: [{TOKEN}]}}");
        let world =
            World::start(Setup { admin_endpoint, admin, ..Setup::without_deepflow() }).await;
        world.send(&support::trace(TRACE, 1)).await;
        world.settled(1).await;
        open_pages_are_there(&world).await;
        for path in SHUT {
            let (status, text) = page(&world, path, None).await;
            assert!(status == 401 && text.contains("admin.auth.tokens"), "{path}: {status} {text}");
            assert_eq!(page(&world, path, Some("another-token-0123456789")).await.0, 401, "{path}");
            assert_eq!(page(&world, path, Some(TOKEN)).await.0, 200, "{path}");
        }
        world.end(&[]).await;
    }
}

async fn explain(arguments: &[&str], variable: Option<&str>) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tracestitch"));
    program.args(["explain", "trace"]).arg(format!("{TRACE:032x}")).args(arguments);
    program.env_remove("TRACESTITCH_ADMIN_TOKEN").stdin(Stdio::null());
    if let Some(token) = variable {
        program.env("TRACESTITCH_ADMIN_TOKEN", token);
    }
    let output = tokio::task::spawn_blocking(move || program.output());
    output.await.expect("it ends").expect("it runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_has_a_token_and_trusts_an_authority() {
    let authority = Authority::new();
    authority.issue_into("server");
    let admin = format!("auth: {{tokens: [{TOKEN}]}}, tls: {{{}}}", authority.section("server"));
    let world = World::start(Setup { admin, ..Setup::without_deepflow() }).await;
    world.send(&support::trace(TRACE, 1)).await;
    world.settled(1).await;
    let client = tls::http(&authority.client(None));
    let url = format!("https://localhost:{}", world.pipeline.admin().port());
    assert_eq!(client.get(format!("{url}/livez")).send().await.expect("an answer").status(), 200);

    std::fs::write(authority.path("token"), format!("{TOKEN}\n")).expect("a file");
    let text = |path: &Path| path.display().to_string();
    let (ca, file) = (text(&authority.path("ca.pem")), text(&authority.path("token")));
    let known = ["--admin", &url, "--ca-file", &ca];
    let with_file = [&known[..], &["--token-file", &file]].concat();
    for (arguments, variable) in [(&with_file[..], None), (&known[..], Some(TOKEN))] {
        let output = explain(arguments, variable).await;
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("has left"), "{output:?}");
    }
    for (arguments, variable, why) in [
        (&known[..], None, "--token-file"),
        (&known[..], Some("another-token"), "--token-file"),
        (&["--admin", &url], Some(TOKEN), "cannot ask"),
    ] {
        let output = explain(arguments, variable).await;
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(why), "{output:?}");
    }
    world.end(&[]).await;
}
