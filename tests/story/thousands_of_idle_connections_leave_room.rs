//! Scenario: thousands of connections that say nothing, to receivers that allow few; senders among them.
//! Guarantees: no more are open than allowed, the silent ones go, senders are served on the connections they have and on
//! new ones.

use tokio::{net::TcpStream, task::JoinSet};

use crate::support::{self, Setup, World, http};

const WAVES: u64 = 10;
/// No more than the kernel queues.
const IN_A_WAVE: u64 = 200;
const MAX: u64 = 100;

fn series(name: &str, listener: &str, more: &str) -> String {
    format!("tracestitch_connections{name}{{listener=\"{listener}\"{more}}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_idle_connections_leave_room() {
    let few = format!("max_connections: {MAX}");
    let setup = Setup { grpc: few.clone(), http: few, ..Setup::without_deepflow() };
    let world = World::start(setup).await;
    let client = http::client();
    // Who sends before they come keeps his connection.
    world.send(&support::trace(1, 1)).await;
    let taken = http::post(&client, &world, Vec::new()).await;
    assert_eq!(taken.status(), 200);
    for (listener, address) in [("grpc", world.pipeline.grpc()), ("http", world.pipeline.http())] {
        let address = address.expect("it is on");
        let came = series("_accepted_total", listener, ",outcome=\"ok\"");
        let former = world.metric(&came);
        // They hold on to what they have.
        let mut silent = Vec::new();
        for wave in 1..=WAVES {
            let connecting: JoinSet<_> =
                (0..IN_A_WAVE).map(|_| TcpStream::connect(address)).collect();
            silent.extend(connecting.join_all().await);
            support::until("they came", || world.metric(&came) >= former + wave * IN_A_WAVE).await;
        }
        assert_eq!(world.metric(&series("_max", listener, "")), MAX);
        let open = series("", listener, "");
        support::until("few are open", || world.metric(&open) <= MAX).await;
        assert_eq!(world.metric(&series("_accepted_total", listener, ",outcome=\"refused\"")), 0);
        let made_room = series("_closed_total", listener, ",reason=\"made_room\"");
        assert!(world.metric(&made_room) >= WAVES * IN_A_WAVE - MAX);

        let again = support::sender(&world.pipeline);
        let number = if listener == "grpc" { 2 } else { 4 };
        world.send(&support::trace(number, 1)).await;
        again.send(&support::trace(number + 1, 1)).await.expect("a new connection is served");
        assert_eq!(http::post(&client, &world, Vec::new()).await.status(), 200);
        assert_eq!(http::post(&http::client(), &world, Vec::new()).await.status(), 200);
        drop(silent);
    }
    world.settled(5).await;
    world.end(&[]).await;
}
