//! The command line, as far as `cargo test` passes one on.

/// Words that a case's name must have, one of them at least; options of the standard harness mean nothing here.
#[derive(Debug, Default)]
pub(crate) struct Args {
    words: Vec<String>,
    /// Only the names are wanted.
    pub(crate) is_list: bool,
}

impl Args {
    pub(crate) fn of_process() -> Self {
        let mut args = Self::default();
        for arg in std::env::args().skip(1) {
            match arg.as_str() {
                "--list" => args.is_list = true,
                option if option.starts_with('-') => {}
                word => args.words.push(word.to_owned()),
            }
        }
        args
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }
}
