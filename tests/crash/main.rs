//! Nothing lost: the program under load is killed, at random moments and in the middle of each step of its journal, and
//! started again on the same directory; what was acknowledged arrives, and what arrives twice is the same both times.
//!
//! `CRASH=full` runs the long version, `CRASH_SEED` repeats one (`bash .ci/run full crash`). Programs are processes of
//! their own: the binary that users run, or this test's binary in the role of `child.rs`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a proof's numbers, and what a killed program said"
)]

mod child;
mod load;
mod program;
mod sink;
mod steps;
mod traces;
mod world;

mod backend_down_over_kills_gets_everything;
mod damaged_records_cost_only_themselves;
mod dead_letters_survive_kills;
mod directory_is_for_one_process;
mod full_disk_refuses_and_keeps;
mod kills_at_any_moment_lose_nothing;
mod kills_at_each_step_lose_nothing;
mod overload_stays_within_the_limit;
mod rolling_restart_is_not_noticed;
mod second_destination_down_over_kills;
