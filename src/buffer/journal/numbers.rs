//! A set of part numbers as intervals: most of a segment's numbers follow one another, so that a set is small.

use std::{collections::BTreeMap, ops::Range};

/// A set of numbers. Takes memory by the gaps in it, not by the numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Start → end, exclusive. Neither overlapping nor touching.
    ranges: BTreeMap<u64, u64>,
}

impl Numbers {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.range_around(number).is_some()
    }

    /// All of these are in; at least one must be asked for.
    pub(super) fn contains_all(&self, range: &Range<u64>) -> bool {
        self.range_around(range.start).is_some_and(|around| range.end <= around.end)
    }

    /// Ascending, with gaps between them.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }

    /// Takes a number in; false if it was in already.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        let is_new = !self.contains(number) && number < u64::MAX;
        if is_new {
            self.insert_range(number..number + 1);
        }
        is_new
    }

    /// Takes all these numbers in.
    pub(super) fn insert_range(&mut self, range: Range<u64>) {
        let Range { start, mut end } = range;
        if start >= end {
            return;
        }
        while let Some((&next, &until)) = self.ranges.range(start + 1..=end).next() {
            self.ranges.remove(&next);
            end = end.max(until);
        }
        // Mostly what comes continues what is there.
        match self.ranges.range_mut(..=start).next_back() {
            Some((_, until)) if *until >= start => *until = end.max(*until),
            _ => {
                self.ranges.insert(start, end);
            }
        }
    }

    /// Takes a number out; false if it was not in.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let is_in = self.contains(number);
        if is_in {
            self.remove_range(number..number + 1);
        }
        is_in
    }

    /// Takes all these numbers out.
    pub(super) fn remove_range(&mut self, range: Range<u64>) {
        let Range { start, end } = range;
        if start >= end {
            return;
        }
        if let Some((_, until)) = self.ranges.range_mut(..start).next_back()
            && *until > start
        {
            let rest = std::mem::replace(until, start);
            if rest > end {
                // Nothing else of it can be in there.
                self.ranges.insert(end, rest);
                return;
            }
        }
        while let Some((&next, &until)) = self.ranges.range(start..end).next() {
            self.ranges.remove(&next);
            if until > end {
                self.ranges.insert(end, until);
            }
        }
    }

    /// Takes all numbers of the other in.
    pub(super) fn merge(&mut self, other: &Self) {
        for range in other.ranges() {
            self.insert_range(range);
        }
    }

    /// The numbers that are in both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut both = BTreeMap::new();
        let (mut ours, mut theirs) = (self.ranges(), other.ranges());
        let (mut one, mut two) = (ours.next(), theirs.next());
        while let (Some(a), Some(b)) = (&one, &two) {
            let (start, end) = (a.start.max(b.start), a.end.min(b.end));
            if start < end {
                both.insert(start, end);
            }
            if a.end <= b.end {
                one = ours.next();
            } else {
                two = theirs.next();
            }
        }
        Self { ranges: both }
    }

    /// The numbers that are not in the other.
    pub(super) fn without(mut self, other: &Self) -> Self {
        for range in other.ranges() {
            self.remove_range(range);
        }
        self
    }

    fn range_around(&self, number: u64) -> Option<Range<u64>> {
        let (&start, &end) = self.ranges.range(..=number).next_back()?;
        (number < end).then_some(start..end)
    }
}

impl FromIterator<Range<u64>> for Numbers {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut numbers = Self::default();
        for range in ranges {
            numbers.insert_range(range);
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64),
        Remove(u64),
        InsertRange(Range<u64>),
        RemoveRange(Range<u64>),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..80_u64).prop_map(Step::Insert),
            (0..80_u64).prop_map(Step::Remove),
            (0..80_u64, 0..12_u64).prop_map(|(start, len)| Step::InsertRange(start..start + len)),
            (0..80_u64, 0..12_u64).prop_map(|(start, len)| Step::RemoveRange(start..start + len)),
        ];
        proptest::collection::vec(step, 0..60)
    }

    fn both(steps: Vec<Step>) -> (Numbers, BTreeSet<u64>) {
        let (mut numbers, mut model) = (Numbers::default(), BTreeSet::new());
        for step in steps {
            match step {
                Step::Insert(number) => assert_eq!(numbers.insert(number), model.insert(number)),
                Step::Remove(number) => assert_eq!(numbers.remove(number), model.remove(&number)),
                Step::InsertRange(range) => {
                    numbers.insert_range(range.clone());
                    model.extend(range);
                }
                Step::RemoveRange(range) => {
                    numbers.remove_range(range.clone());
                    model.retain(|number| !range.contains(number));
                }
            }
        }
        (numbers, model)
    }

    fn flat(numbers: &Numbers) -> Vec<u64> {
        numbers.ranges().flatten().collect()
    }

    proptest! {
        #[test]
        fn it_is_the_set_that_a_tree_of_numbers_is(steps in steps()) {
            let (numbers, model) = both(steps);
            prop_assert_eq!(flat(&numbers), model.iter().copied().collect::<Vec<_>>());
            prop_assert!((0..100).all(|number| numbers.contains(number) == model.contains(&number)));
            prop_assert!((0..100).flat_map(|start| [1, 2, 5].map(|len| start..start + len)).all(
                |mut range| numbers.contains_all(&range)
                    == range.all(|number| model.contains(&number))
            ));
            prop_assert_eq!(numbers.is_empty(), model.is_empty());
            let ranges: Vec<_> = numbers.ranges().collect();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
        }

        #[test]
        fn two_sets_meet_and_join(one in steps(), other in steps()) {
            let ((mut one, one_model), (other, other_model)) = (both(one), both(other));
            let common: Vec<_> = one_model.intersection(&other_model).copied().collect();
            prop_assert_eq!(flat(&one.intersection(&other)), common);
            let rest: Vec<_> = one_model.difference(&other_model).copied().collect();
            prop_assert_eq!(flat(&one.clone().without(&other)), rest);
            one.merge(&other);
            prop_assert_eq!(flat(&one), one_model.union(&other_model).copied().collect::<Vec<_>>());
        }
    }
}
