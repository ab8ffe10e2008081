//! Lists of places in one piece of memory, one behind the other.

/// Place → a list of places: those above it, or those that belong to it.
#[derive(Default)]
pub(super) struct Lists {
    all: Vec<usize>,
    /// Where each list ends.
    ends: Vec<usize>,
}

impl Lists {
    /// The list of the next place.
    pub(super) fn push(&mut self, list: impl IntoIterator<Item = usize>) {
        self.all.extend(list);
        self.ends.push(self.all.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn of(&self, place: usize) -> &[usize] {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.all[start..self.ends[place]]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[usize]> {
        (0..self.len()).map(|place| self.of(place))
    }
}
