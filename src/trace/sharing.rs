//! Which headers of resources and scopes the fragments of a request have in common: each is held once.

use std::sync::Arc;

use crate::wire::{
    Level, Shared, Splice, Splices,
    layout::Layout,
    splice::{Header, Run},
};

/// Headers of so many bytes are shared by all fragments of a request that have them …
const SHARED_HEADER_BYTES_MIN: usize = 64;
/// … up to so many: what is shared stays until the last one is gone, which is charged with its own part only.
const SHARED_HEADER_BYTES_MAX: usize = 4 * 1024;

/// A new fragment's headers are looked for in so many of the lists that are there: mostly they are in the last one.
const LISTS_LOOKED_AT: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    /// By resource how many fragments share its header; 0 where each has a copy.
    resources: Vec<usize>,
    /// By scope, likewise.
    scopes: Vec<usize>,
    lists: Vec<List>,
}

/// The shared headers of some fragments, each with the number of the own byte that it stands before.
#[derive(Debug, Default)]
struct List {
    headers: Vec<(u32, Header)>,
    fragments: usize,
}

/// Memory this takes for each resource or scope, and for each span, which can be a fragment of its own: in bytes.
pub(super) const HEADER_BYTES: usize = size_of::<usize>() + size_of::<Option<Arc<Shared>>>();
pub(super) const SPAN_BYTES: usize =
    size_of::<List>() + 4 * size_of::<(u32, Header)>() + size_of::<Arc<Splices>>();

impl Sharing {
    /// What these runs, which are all of a request's fragments, have in common.
    pub(super) fn of(layout: &Layout, runs: &[Run]) -> Self {
        let (resources, scopes) = (vec![0; layout.resources.len()], vec![0; layout.scopes.len()]);
        let mut sharing = Self { resources, scopes, lists: Vec::new() };
        for (_, header) in runs.iter().flat_map(|run| run.outline(layout).0) {
            if let Some(fragments) = sharing.fragments(header) {
                *fragments += 1;
            }
        }
        let resources = sharing.resources.iter_mut().enumerate();
        let resources = resources.map(|(number, of)| (Header::Resource(number), of));
        let scopes = sharing.scopes.iter_mut().enumerate();
        let scopes = scopes.map(|(number, of)| (Header::Scope(number), of));
        for (header, fragments) in resources.chain(scopes) {
            let worth_it = SHARED_HEADER_BYTES_MIN..=SHARED_HEADER_BYTES_MAX;
            if *fragments < 2 || !worth_it.contains(&header.len(layout)) {
                *fragments = 0;
            }
        }
        sharing
    }

    fn fragments(&mut self, header: Header) -> Option<&mut usize> {
        match header {
            Header::Resource(number) => self.resources.get_mut(number),
            Header::Scope(number) => self.scopes.get_mut(number),
        }
    }

    fn sharers(&self, header: Header) -> usize {
        let sharers = match header {
            Header::Resource(number) => self.resources.get(number),
            Header::Scope(number) => self.scopes.get(number),
        };
        sharers.copied().unwrap_or(0)
    }

    /// The header is not in the fragments' own bytes.
    pub(super) fn has(&self, header: Header) -> bool {
        self.sharers(header) > 0
    }

    /// The own bytes of the fragment that has these runs, and the number of its list, if it shares anything.
    pub(super) fn add(&mut self, layout: &Layout, runs: &[Run]) -> (usize, Option<usize>) {
        let mut own_len = 0;
        let mut headers = Vec::new();
        for run in runs {
            let (outline, spans_len) = run.outline(layout);
            for (head_len, header) in outline {
                own_len += head_len;
                if self.has(header) {
                    // A request is below 4 GiB.
                    headers.push((u32::try_from(own_len).unwrap_or(u32::MAX), header));
                } else {
                    own_len += header.len(layout);
                }
            }
            own_len += spans_len;
        }
        (own_len, self.list(headers))
    }

    fn list(&mut self, headers: Vec<(u32, Header)>) -> Option<usize> {
        if headers.is_empty() {
            return None;
        }
        let looked_at = self.lists.len().saturating_sub(LISTS_LOOKED_AT);
        let known = self.lists.iter().skip(looked_at).position(|list| list.headers == headers);
        let number = known.map_or(self.lists.len(), |number| looked_at + number);
        if known.is_none() {
            self.lists.push(List { headers, fragments: 0 });
        }
        if let Some(list) = self.lists.get_mut(number) {
            list.fragments += 1;
        }
        Some(number)
    }

    /// By list, what each of its fragments is charged with, when all fragments were added.
    pub(super) fn share_bytes(&self, layout: &Layout) -> Vec<usize> {
        let share = |&(_, header): &(u32, Header)| {
            Shared::share_bytes(header.len(layout), self.sharers(header))
        };
        let of_list = |list: &List| {
            Splices::list_share_bytes(list.headers.len(), list.fragments)
                + list.headers.iter().map(share).sum::<usize>()
        };
        self.lists.iter().map(of_list).collect()
    }

    /// By list, what is spliced into its fragments.
    pub(super) fn splices(&self, request: &[u8], layout: &Layout) -> Vec<Arc<Splices>> {
        let shared = |header: Header| {
            let pieces = header.pieces(layout).iter();
            let pieces = pieces.filter_map(|piece| request.get(piece.clone()));
            self.has(header).then(|| Shared::new(pieces))
        };
        let resources: Vec<_> =
            (0..self.resources.len()).map(Header::Resource).map(shared).collect();
        let scopes: Vec<_> = (0..self.scopes.len()).map(Header::Scope).map(shared).collect();
        let splice = |&(at, header): &(u32, Header)| {
            let (level, shared) = match header {
                Header::Resource(number) => (Level::Resource, resources.get(number)),
                Header::Scope(number) => (Level::Scope, scopes.get(number)),
            };
            Some(Splice { at, level, shared: shared?.clone()? })
        };
        let lists = self.lists.iter().zip(self.share_bytes(layout));
        lists
            .map(|(list, bytes)| Splices::new(list.headers.iter().filter_map(splice), bytes))
            .collect()
    }
}
