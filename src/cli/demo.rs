//! `demo`: everything in one process, nothing to install, no network beyond loopback.

use std::{io::IsTerminal as _, net::SocketAddr, time::Duration};

use clap::{Args, Subcommand};

use super::{CliError, run::Signals, say};
use crate::{
    clock,
    demo::{
        deepflow::{Deepflow, DeepflowConfig},
        stage::{Outcome, Stage},
    },
    ledger::{Books, DropReason},
    telemetry::logs,
    tree::{Style, render},
};

/// What to show.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// One round: print it, check it, and exit 0 only if all of it is right
    #[arg(long)]
    once: bool,
    /// A part of the demo alone
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The simulated DeepFlow alone, for trying a real `tracestitch run` without a DeepFlow: it makes up what eBPF
    /// agents would have seen of the spans it is asked for
    Deepflow {
        /// Where to listen
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:20418")]
        listen: SocketAddr,
    },
}

pub(super) fn run(options: &Options) -> Result<(), CliError> {
    let level = if options.part.is_some() { "info" } else { "error" };
    logs::Config { level: level.to_owned(), ..logs::Config::default() }.start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::runtime(&error))?;
    runtime.block_on(async {
        match &options.part {
            Some(Part::Deepflow { listen }) => deepflow(*listen).await,
            None => shop(options.once).await,
        }
    })
}

async fn deepflow(listen: SocketAddr) -> Result<(), CliError> {
    let mut signals = Signals::new().map_err(|error| CliError::runtime(&error))?;
    let config = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let deepflow = Deepflow::start(config, listen)
        .await
        .map_err(|error| CliError::Runtime(format!("cannot listen on {listen}: {error}")))?;
    say(&format!(
        "a simulated DeepFlow at {url}\n  DEEPFLOW_ENDPOINT={url} tracestitch run\nCtrl-C ends it\n",
        url = deepflow.url()
    ))?;
    let mut due = tokio::time::interval(Duration::from_secs(5));
    let mut shown = 0;
    loop {
        tokio::select! {
            () = signals.next() => break,
            _ = due.tick() => {
                let arrived = deepflow.arrived();
                if arrived != shown {
                    say(&format!("{arrived} asks\n"))?;
                    shown = arrived;
                }
            }
        }
    }
    deepflow.stop().await;
    Ok(())
}

async fn shop(once: bool) -> Result<(), CliError> {
    let mut signals = Signals::new().map_err(|error| CliError::runtime(&error))?;
    say(
        "A small shop sends OTLP into tracestitch; a simulated DeepFlow says what eBPF agents saw of it.\n",
    )?;
    let stage = Stage::start().await.map_err(|error| CliError::runtime(&error))?;
    let seed = clock::wall_us();
    let round = stage.play(seed).await.map_err(|error| CliError::runtime(&error))?;
    say("Waiting until the traces are quiet (1 s here, 15 s by default) and asking DeepFlow …\n")?;
    let outcome = tokio::select! {
        outcome = stage.outcome(&round) => outcome,
        () = signals.next() => return interrupted(once),
    };
    show(&outcome)?;
    if !once {
        go_on(&stage, seed, &mut signals).await?;
    }
    let watched = stage.end().await;
    let books = watched.ledger.snapshot().into_iter().next().unwrap_or_default();
    verdict(&outcome, &books)
}

/// Nothing was checked yet, and `--once` says that all was.
fn interrupted(once: bool) -> Result<(), CliError> {
    if once {
        Err(CliError::Runtime("ended before the end of the round".to_owned()))
    } else {
        Ok(())
    }
}

fn show(outcome: &Outcome) -> Result<(), CliError> {
    let color = std::io::stdout().is_terminal();
    let style = if color { Style::color() } else { Style::plain() };
    say("\n── before: what the SDKs sent ──\n\n")?;
    say(&render(&outcome.before, style))?;
    say("\n── after: what the backend got, added spans begin with + ──\n\n")?;
    say(&render(&outcome.after, style))
}

fn verdict(outcome: &Outcome, books: &Books) -> Result<(), CliError> {
    let Books { accepted, delivered, held, .. } = books;
    let given_up: i64 = DropReason::ALL.iter().map(|&reason| books.dropped(reason)).sum();
    let edges = outcome.right + outcome.missing.len();
    say(&format!(
        "\nedges: {} of {edges} as they should be\nledger: {accepted} accepted, {} recovered, {delivered} delivered, {} dead-lettered, {given_up} dropped, {} handed back, {held} held, {} unaccounted\n",
        outcome.right,
        books.recovered,
        books.dead_lettered,
        books.handed_back,
        books.unaccounted()
    ))?;
    for missing in &outcome.missing {
        say(&format!("missing: {missing}\n"))?;
    }
    let balanced = books.unaccounted() == 0 && books.held == 0 && accepted == delivered;
    if outcome.missing.is_empty() && balanced && *accepted > 0 {
        return Ok(());
    }
    Err(CliError::Runtime("the demo did not come out as it should".to_owned()))
}

/// A round a second, until Ctrl-C.
async fn go_on(stage: &Stage, seed: u64, signals: &mut Signals) -> Result<(), CliError> {
    stage.forget();
    say(&format!(
        "\nGoing on with a round a second; metrics at {}/metrics; Ctrl-C ends.\n",
        stage.admin_url()
    ))?;
    let mut due = tokio::time::interval(Duration::from_secs(1));
    let terminal = std::io::stdout().is_terminal();
    let (start, end) = if terminal { ("\r", "") } else { ("", "\n") };
    for number in 1.. {
        tokio::select! {
            () = signals.next() => break,
            _ = due.tick() => {}
        }
        stage.play(seed.wrapping_add(number)).await.map_err(|error| CliError::runtime(&error))?;
        let books = stage.books();
        let sent = stage.delivered();
        say(&format!(
            "{start}rounds {number}  accepted {}  delivered {} + {} added  held {}  unaccounted {} {end}",
            books.accepted,
            books.delivered,
            sent.saturating_sub(u64::try_from(books.delivered).unwrap_or(0)),
            books.held,
            books.unaccounted(),
        ))?;
    }
    say("\n")
}
