//! `cargo bench --bench pipeline -- [--program FILE] [--time S] [--smoke] [SCENARIO…]`: what the program costs, measured
//! from outside.
//! A table on standard error, the same as JSON on standard output. See tests/bench/README.md.

#[path = "../harness/mod.rs"]
mod harness;

use std::{
    env, fs,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use harness::{Row, SCENARIOS, Sizes, run};
use serde_json::json;

/// What the arguments say.
struct Choice {
    scenarios: Vec<String>,
    sizes: Sizes,
}

const TIME: Duration = Duration::from_secs(8);

fn main() -> ExitCode {
    match choice(env::args().skip(1)) {
        Ok(choice) => {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(measure(&choice))
        }
        Err(problem) => {
            say(&format!("{problem}\nscenarios: {}", SCENARIOS.join(" ")));
            ExitCode::from(2)
        }
    }
}

fn choice(mut arguments: impl Iterator<Item = String>) -> Result<Choice, String> {
    let mut program = None;
    let mut choice = Choice { scenarios: Vec::new(), sizes: Sizes::full(TIME) };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Cargo's own word.
            "--bench" => {}
            "--program" => {
                let file = arguments.next().ok_or("--program takes a file")?;
                let binary = fs::canonicalize(&file).map_err(|error| format!("{file}: {error}"))?;
                program = Some(binary.into());
            }
            "--smoke" => choice.sizes = Sizes::smoke(),
            "--time" => {
                let seconds = arguments.next().and_then(|seconds| seconds.parse().ok());
                let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                choice.sizes = Sizes::full(time.ok_or("--time takes seconds")?);
            }
            name if SCENARIOS.contains(&name) => choice.scenarios.push(argument),
            _ => return Err(format!("no such scenario: {argument}")),
        }
    }
    choice.sizes.binary = program.unwrap_or(choice.sizes.binary);
    if choice.scenarios.is_empty() {
        choice.scenarios = SCENARIOS.map(str::to_owned).to_vec();
    }
    Ok(choice)
}

/// Fails if anything was lost, doubled or altered.
async fn measure(choice: &Choice) -> ExitCode {
    say(Row::HEAD);
    let mut rows = Vec::new();
    for scenario in &choice.scenarios {
        let mut show = |row: Row| {
            say(&row.line());
            rows.push(row);
        };
        run(scenario, &choice.sizes, &mut show).await;
    }
    let is_good = rows.iter().all(|row| row.lost + row.duplicated + row.altered == 0);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let page = json!({ "version": env!("CARGO_PKG_VERSION"), "cores": cores, "runs": rows });
    writeln!(io::stdout(), "{page:#}").expect("standard output");
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(line: &str) {
    writeln!(io::stderr(), "{line}").expect("standard error");
}
