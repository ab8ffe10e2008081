//! A configuration text: it is read, or all its problems are told.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracestitch::{
    config::{self, Environment},
    pipeline::Config,
};

struct Nothing;

impl Environment for Nothing {
    fn variable(&self, name: &str) -> Option<String> {
        (name.len() % 2 == 0).then(|| name.to_owned())
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Err(format!("{path} is not read here"))
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = config::load::<Config>("fuzz", text, &Nothing, Config::check) {
        assert!(!error.to_string().is_empty());
    }
});
