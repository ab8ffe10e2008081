//! What DeepFlow read off the wire holds people's data: SQL literals, values of query strings, keys and values of caches.
//! These texts are useful without it. In doubt a text is cut or left out: one word too few is no harm.

mod command;
mod query;
mod sql;

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};

pub(super) use command::is_name as is_command;
pub(super) use sql::{Dialect, masked as masked_sql};

/// What becomes of texts that may hold people's data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Masking {
    /// mask: SQL without its literals, query strings without their values, commands of caches without their arguments.
    /// omit: none of these texts. off: as DeepFlow returns them, whatever is in them.
    pub mode: Mode,
    /// Parameters of query strings whose values are kept.
    pub query_values: Arc<[String]>,
}

/// See [`Masking::mode`].
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Without what is anybody's.
    #[default]
    Mask,
    /// Not at all.
    Omit,
    /// As they are.
    Off,
}

/// A text that may hold people's data. The label `text` of `tracestitch_weaving_texts_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Private<'a> {
    /// An SQL statement, and what is left of it without literals.
    Sql(&'a str, Option<&'a str>),
    /// What follows the `?` of a URL.
    Query(&'a str),
    /// A command of Redis or memcached with its arguments.
    Command(&'a str),
}

/// What became of a text. The label `outcome` of `tracestitch_weaving_texts_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Went out as it was: nothing in it was anybody's.
    Clean,
    /// Went out without what was.
    Masked,
    /// Did not go out: not understood, or `mode: omit`.
    Withheld,
    /// Went out as it was, looked at by nobody: `mode: off`.
    Raw,
}

impl Private<'_> {
    /// The label of each kind, in the order of their numbers.
    pub const LABELS: [&'static str; 3] = ["sql", "url_query", "command"];

    fn number(self) -> usize {
        match self {
            Self::Sql(..) => 0,
            Self::Query(_) => 1,
            Self::Command(_) => 2,
        }
    }
}

impl Outcome {
    /// The label of each outcome, in the order of their numbers.
    pub const LABELS: [&'static str; 4] = ["clean", "masked", "withheld", "raw"];
}

/// How many texts of each kind came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Texts([[u64; Outcome::LABELS.len()]; Private::LABELS.len()]);

impl Texts {
    fn note(&mut self, text: Private<'_>, outcome: Outcome) {
        if let Some(count) =
            self.0.get_mut(text.number()).and_then(|counts| counts.get_mut(outcome as usize))
        {
            *count += 1;
        }
    }

    /// (kind, outcome, texts) of those that there were.
    pub fn counts(self) -> impl Iterator<Item = (usize, usize, u64)> {
        let kinds = self.0.into_iter().enumerate();
        kinds
            .flat_map(|(kind, counts)| {
                counts.into_iter().enumerate().map(move |(outcome, count)| (kind, outcome, count))
            })
            .filter(|(_, _, count)| *count > 0)
    }
}

/// Masks the texts of one trace, and counts.
#[derive(Debug)]
pub(super) struct Mask<'a> {
    masking: &'a Masking,
    pub(super) texts: Texts,
}

impl<'a> Mask<'a> {
    pub(super) fn new(masking: &'a Masking) -> Self {
        Self { masking, texts: Texts::default() }
    }

    /// The text as it may go out; `None` when it may not, or is empty.
    pub(super) fn apply<'t>(&mut self, text: Private<'t>) -> Option<Cow<'t, str>> {
        let (Private::Sql(given, _) | Private::Query(given) | Private::Command(given)) = text;
        if given.is_empty() {
            return None;
        }
        let masked = match self.masking.mode {
            Mode::Omit => None,
            Mode::Off => {
                self.texts.note(text, Outcome::Raw);
                return Some(given.into());
            }
            Mode::Mask => match text {
                Private::Sql(_, masked) => masked.map(Cow::Borrowed),
                Private::Query(query) => {
                    Some(query::masked(query, &self.masking.query_values).into())
                }
                Private::Command(command) => command::masked(command).map(Cow::Owned),
            },
        };
        let outcome = match &masked {
            None => Outcome::Withheld,
            Some(masked) if masked == given => Outcome::Clean,
            Some(_) => Outcome::Masked,
        };
        self.texts.note(text, outcome);
        masked
    }
}
