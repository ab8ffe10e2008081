//! The rows of an answer one after the other. They repeat each other: of some fifty fields ten differ from the row before. What
//! stands as it stood there is passed, and taken over from the span that was read there.

use serde_json::Result;

use super::{
    json::{Json, Key},
    row::{Field, Row},
    texts::Texts,
};
use crate::trace::FoundSpan;

/// Reads rows.
#[derive(Debug, Default)]
pub(super) struct Rows<'a> {
    keys: Keys<'a>,
    texts: Texts,
    /// Of the last row that was kept.
    before: Fields,
    /// Of the row at hand.
    now: Fields,
}

impl<'a> Rows<'a> {
    /// The next row may be read into a copy of the last span that was kept.
    pub(super) fn has_before(&self) -> bool {
        !self.before.all.is_empty()
    }

    /// Reads a row, and what it says of a span into one of which nothing is known, or into a copy of the last that was kept if
    /// there is one; [`Row::complete`] is to follow. Anything but an object is a row without fields.
    pub(super) fn next(&mut self, json: &mut Json<'a>, span: &mut FoundSpan) -> Result<Row<'a>> {
        if self.has_before() {
            let start = json.place();
            if let Some(row) = self.read(json, span, true)? {
                return Ok(row);
            }
            json.go_back(start);
            *span = FoundSpan::default();
        }
        self.read(json, span, false).map(Option::unwrap_or_default)
    }

    /// The span of the row that was read last is kept: the next row is compared with it.
    pub(super) fn keep(&mut self) {
        std::mem::swap(&mut self.before, &mut self.now);
        if self.before.all.len() > Keys::MAX {
            self.before.all.clear();
        }
    }

    /// `None` of a row that is read by the one before and has other fields: what it lacks must not be taken over.
    fn read(
        &mut self,
        json: &mut Json<'a>,
        span: &mut FoundSpan,
        is_alike: bool,
    ) -> Result<Option<Row<'a>>> {
        self.now.all.clear();
        if !json.enters_object() {
            return json.skip().map(|()| Some(Row::default()));
        }
        let mut row = Row::default();
        if is_alike {
            (row.signal_source, row.span_id) = (self.before.signal_source, span.span_id);
        }
        self.now.start = json.at();
        loop {
            if is_alike && !row.is_app {
                self.pass_alike(json);
            }
            let place = self.now.all.len();
            let Some(field) = self.keys.next(place, json)? else { break };
            if is_alike && self.before.field(place) != Some(field) {
                return Ok(None);
            }
            row.read(field, json, &mut self.texts, span)?;
            self.now.push(field, json.at());
        }
        self.now.signal_source = row.signal_source;
        let is_whole = !is_alike || self.now.all.len() == self.before.all.len();
        Ok(is_whole.then_some(row))
    }

    /// Passes the fields that stand here as they stood in the row before.
    #[inline]
    fn pass_alike(&mut self, json: &mut Json<'a>) {
        let place = self.now.all.len();
        let after = self.before.all.get(place..).unwrap_or_default();
        let run = after.iter().take_while(|(field, _)| !field.is_own());
        let Some((_, last)) = run.clone().last() else { return };
        let (there, here) = (self.before.end(place), json.at());
        // The byte behind a value is its end. No further: rows that are all alike would be compared again and again.
        let same = json.same_as(there..*last + 1);
        let passed = run.take_while(|(_, end)| *end - there < same);
        self.now.all.extend(passed.map(|(field, end)| (*field, *end - there + here)));
        json.pass_to(self.now.end(self.now.all.len()));
    }
}

/// The fields of a row, and where in the answer the value of each ends.
#[derive(Debug, Default)]
struct Fields {
    start: usize,
    all: Vec<(Field, usize)>,
    signal_source: Option<u64>,
}

impl Fields {
    fn push(&mut self, field: Field, end: usize) {
        // One more tells that there are too many.
        if self.all.len() <= Keys::MAX {
            self.all.push((field, end));
        }
    }

    fn field(&self, place: usize) -> Option<Field> {
        self.all.get(place).map(|(field, _)| *field)
    }

    /// Where the first so many of them end.
    fn end(&self, count: usize) -> usize {
        let last = count.checked_sub(1).and_then(|last| self.all.get(last));
        last.map_or(self.start, |(_, end)| *end)
    }
}

/// The keys of the rows so far, in their order: mostly the next row has the same.
#[derive(Debug, Default)]
struct Keys<'a>(Vec<(Key<'a>, Field)>);

impl<'a> Keys<'a> {
    /// More columns than a row has.
    const MAX: usize = 200;
    /// Room for so many at first.
    const USUAL: usize = 72;

    /// The row's next field, in this place; `None` at its end.
    #[inline]
    fn next(&mut self, place: usize, json: &mut Json<'a>) -> Result<Option<Field>> {
        match self.0.get(place) {
            Some((key, field)) if json.passes(*key) => Ok(Some(*field)),
            _ => self.learn(place, json),
        }
    }

    fn learn(&mut self, place: usize, json: &mut Json<'a>) -> Result<Option<Field>> {
        let Some((name, key)) = json.standing_key()? else { return Ok(None) };
        let field = Field::named(&name);
        if self.0.is_empty() {
            self.0.reserve(Self::USUAL);
        }
        match self.0.get_mut(place) {
            Some(known) => *known = (key, field),
            None if place < Self::MAX => self.0.push((key, field)),
            None => {}
        }
        Ok(Some(field))
    }
}
