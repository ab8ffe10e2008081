//! `cargo bench --bench parts -- [NAME…]`: what single steps cost, in one thread, without the rest of the program.
//!
//! Of some rounds the fastest and the median are shown: other programs only ever make a round slower.

#[path = "../harness/hook.rs"]
#[allow(dead_code, reason = "only the answer that it keeps is read")]
mod hook;
#[path = "../harness/shape.rs"]
mod shape;
#[allow(dead_code, reason = "the comparing half is for the sink of `pipeline`")]
#[path = "../harness/template.rs"]
mod template;

mod calls;
mod steps;

use std::{
    env, hint,
    io::{self, Write},
    time::Duration,
};

use tracestitch::clock;

/// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROUNDS: u32 = 15;
/// A round is about so long.
const ROUND: Duration = Duration::from_millis(200);

fn main() {
    // Cargo adds `--bench`.
    let names: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| names.is_empty() || names.iter().any(|word| name.contains(word));
    say("| step | of | fastest ns | median ns |");
    say("|---|---|--:|--:|");
    for mut step in steps::all().into_iter().filter(|step| is_wanted(step.name)) {
        let rounds = rounds(&mut step);
        let [fastest, median] = [0, rounds.len() / 2].map(|place| rounds[place] / step.units);
        say(&format!("| {} | {} | {fastest:.1} | {median:.1} |", step.name, step.unit));
    }
}

/// Nanoseconds a call, fastest first.
fn rounds(step: &mut steps::Step) -> Vec<f64> {
    let once = nanoseconds(step, 3).max(1.0);
    let calls = (ROUND.as_secs_f64() * 1e9 / once).clamp(1.0, 1e6);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between the two")]
    let calls = calls as u32;
    let mut rounds: Vec<_> = (0..ROUNDS).map(|_| nanoseconds(step, calls)).collect();
    rounds.sort_by(f64::total_cmp);
    rounds
}

fn nanoseconds(step: &mut steps::Step, calls: u32) -> f64 {
    let begun = clock::now();
    for _ in 0..calls {
        hint::black_box((step.call)());
    }
    (clock::now() - begun).as_secs_f64() * 1e9 / f64::from(calls)
}

fn say(line: &str) {
    writeln!(io::stdout(), "{line}").expect("standard output");
}
