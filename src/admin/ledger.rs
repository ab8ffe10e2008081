//! `/ledger`: the account of every span, and whether it adds up.

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use serde::Serialize;

use super::{Pages, json};
use crate::ledger::{Books, DropReason};

#[derive(Debug, Serialize)]
struct Page {
    balanced: bool,
    /// In words, for who does not know it.
    equation: &'static str,
    destinations: Vec<Account>,
}

const EQUATION: &str =
    "accepted + recovered = delivered + dead_lettered + dropped + handed_back + held";

/// One destination's books, with what does not add up.
#[derive(Debug, Serialize)]
struct Account {
    destination: String,
    accepted: i64,
    recovered: i64,
    delivered: i64,
    dead_lettered: i64,
    dropped: BTreeMap<&'static str, i64>,
    handed_back: i64,
    held: i64,
    unaccounted: i64,
}

impl From<&Books> for Account {
    fn from(books: &Books) -> Self {
        Self {
            destination: books.destination.clone(),
            accepted: books.accepted,
            recovered: books.recovered,
            delivered: books.delivered,
            dead_lettered: books.dead_lettered,
            dropped: DropReason::ALL.map(|reason| (reason.label(), books.dropped(reason))).into(),
            handed_back: books.handed_back,
            held: books.held,
            unaccounted: books.unaccounted(),
        }
    }
}

pub(super) async fn page(State(pages): State<Pages>) -> Response {
    let books = pages.watched.ledger.snapshot();
    let balanced = books.iter().all(|books| books.unaccounted() == 0);
    let destinations = books.iter().map(Account::from).collect();
    json(&Page { balanced, equation: EQUATION, destinations })
}
