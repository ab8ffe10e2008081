//! The addresses that a destination's name stands for, each with a connection of its own. Requests go to them in turn, and
//! the name is looked up again: pods come and go, and a connection by HTTP/2 would stay with the one it found first.

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use crate::clock::Instant;

/// Between two lookups.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(30);
/// The same, after an address failed or a lookup did.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);
/// An address that failed is left alone for so long, as long as there are others.
const AVOIDED: Duration = Duration::from_secs(10);
/// More are not used: each has a connection.
const ADDRESSES_MAX: usize = 64;

/// What a lookup finds.
pub(super) type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
/// Looks a name up.
pub(super) type Lookup = Arc<dyn Fn() -> Found + Send + Sync>;
/// Makes the client of an address, which connects when it is used.
type Connect<C> = Box<dyn Fn(SocketAddr) -> C + Send + Sync>;

/// See the module.
pub(super) struct Addresses<C> {
    lookup: Lookup,
    connect: Connect<C>,
    /// A lookup takes no longer.
    lookup_wait: Duration,
    known: Mutex<Known<C>>,
    /// Held while somebody looks up.
    looking: tokio::sync::Mutex<()>,
    turn: AtomicUsize,
}

/// What the last lookup found.
struct Known<C> {
    places: Vec<Place<C>>,
    looked_up: Option<Instant>,
    interval: Duration,
}

struct Place<C> {
    address: SocketAddr,
    client: C,
    avoided_until: Option<Instant>,
}

impl<C> fmt::Debug for Addresses<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known.lock();
        let addresses: Vec<SocketAddr> = known.places.iter().map(|place| place.address).collect();
        f.debug_struct("Addresses").field("known", &addresses).finish_non_exhaustive()
    }
}

/// By the system's resolver.
pub(super) fn system_lookup(host: &str, port: u16) -> Lookup {
    // As URLs write an address of IPv6.
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = bare.to_owned();
    Arc::new(move || {
        let host = host.clone();
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    })
}

impl<C: Clone> Addresses<C> {
    pub(super) fn new(lookup: Lookup, lookup_wait: Duration, connect: Connect<C>) -> Self {
        let known = Known { places: Vec::new(), looked_up: None, interval: LOOKUP_INTERVAL };
        Self {
            lookup,
            connect,
            lookup_wait,
            known: Mutex::new(known),
            looking: tokio::sync::Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The addresses in the order in which they should be tried now.
    pub(super) async fn in_turn(&self, now: Instant) -> io::Result<Vec<(SocketAddr, C)>> {
        if self.is_due(now) {
            self.look_up(now).await?;
        }
        let turn = self.turn.fetch_add(1, Relaxed);
        Ok(self.known.lock().in_turn(now, turn))
    }

    /// Nobody answered at this address.
    pub(super) fn failed(&self, now: Instant, address: SocketAddr) {
        let mut known = self.known.lock();
        known.interval = LOOKUP_PAUSE;
        if let Some(place) = known.places.iter_mut().find(|place| place.address == address) {
            place.avoided_until = Some(now + AVOIDED);
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let known = self.known.lock();
        known.looked_up.is_none_or(|at| now.saturating_duration_since(at) >= known.interval)
    }

    /// Whoever has addresses goes on with them while another one looks.
    async fn look_up(&self, now: Instant) -> io::Result<()> {
        let has_some = !self.known.lock().places.is_empty();
        let _looking = match self.looking.try_lock() {
            Ok(looking) => looking,
            Err(_) if has_some => return Ok(()),
            Err(_) => self.looking.lock().await,
        };
        if !self.is_due(now) {
            return Ok(());
        }
        let late =
            |_| io::Error::new(io::ErrorKind::TimedOut, "the name can't be looked up in time");
        let found = tokio::time::timeout(self.lookup_wait, (self.lookup)()).await;
        let found = found.map_err(late).and_then(|found| found).and_then(some);
        let mut known = self.known.lock();
        known.looked_up = Some(now);
        match found {
            Ok(found) => known.replace(found, &self.connect),
            Err(error) => {
                known.interval = LOOKUP_PAUSE;
                // What was found before may still be right.
                if known.places.is_empty() {
                    known.looked_up = None;
                    return Err(error);
                }
                tracing::debug!(%error, "the name of a destination can't be looked up again");
            }
        }
        Ok(())
    }
}

fn some(found: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}

impl<C: Clone> Known<C> {
    /// Connections to addresses that are still there stay.
    fn replace(&mut self, found: Vec<SocketAddr>, connect: &Connect<C>) {
        self.interval = LOOKUP_INTERVAL;
        self.places.retain(|place| found.contains(&place.address));
        for address in found.into_iter().take(ADDRESSES_MAX) {
            if self.places.iter().all(|place| place.address != address) {
                let client = connect(address);
                self.places.push(Place { address, client, avoided_until: None });
            }
        }
    }

    fn in_turn(&self, now: Instant, turn: usize) -> Vec<(SocketAddr, C)> {
        let start = turn % self.places.len().max(1);
        let (before, after) = self.places.split_at(start);
        let rotated = after.iter().chain(before);
        let is_avoided = |place: &&Place<C>| place.avoided_until.is_some_and(|until| until > now);
        let (avoided, good): (Vec<_>, Vec<_>) = rotated.partition(is_avoided);
        good.into_iter().chain(avoided).map(|place| (place.address, place.client.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    /// Finds what is in the cell; clients are the ports.
    fn addresses(found: &Arc<Mutex<io::Result<Vec<u16>>>>) -> Addresses<u16> {
        let found = Arc::clone(found);
        let lookup: Lookup = Arc::new(move || {
            let found = match &*found.lock() {
                Ok(ports) => Ok(ports.iter().map(|&port| address(port)).collect()),
                Err(error) => Err(io::Error::new(error.kind(), "for a test")),
            };
            Box::pin(std::future::ready(found))
        });
        Addresses::new(lookup, LOOKUP_PAUSE, Box::new(|address| address.port()))
    }

    async fn ports(addresses: &Addresses<u16>, now: Instant) -> Vec<u16> {
        let found = addresses.in_turn(now).await.expect("addresses");
        found.into_iter().map(|(_, port)| port).collect()
    }

    #[tokio::test]
    async fn they_take_turns_and_those_that_failed_come_last() {
        let addresses = addresses(&Arc::new(Mutex::new(Ok(vec![1, 2, 3]))));
        let now = clock::now();
        assert_eq!(ports(&addresses, now).await, [1, 2, 3]);
        assert_eq!(ports(&addresses, now).await, [2, 3, 1]);
        addresses.failed(now, address(1));
        assert_eq!(ports(&addresses, now).await, [3, 2, 1]);
        assert_eq!(ports(&addresses, now).await, [2, 3, 1]);
        let now = now + AVOIDED;
        assert_eq!(ports(&addresses, now).await, [2, 3, 1]);
        assert_eq!(ports(&addresses, now).await, [3, 1, 2]);
    }

    #[tokio::test]
    async fn the_name_is_looked_up_again() {
        let found = Arc::new(Mutex::new(Ok(vec![1, 2])));
        let addresses = addresses(&found);
        let now = clock::now();
        assert_eq!(ports(&addresses, now).await, [1, 2]);
        *found.lock() = Ok(vec![3, 2, 3]);
        let soon = now + LOOKUP_INTERVAL - Duration::from_millis(1);
        assert_eq!(ports(&addresses, soon).await, [2, 1], "not yet");
        let now = now + LOOKUP_INTERVAL;
        assert_eq!(ports(&addresses, now).await, [2, 3]);
        *found.lock() = Ok(vec![4]);
        addresses.failed(now, address(3));
        assert_eq!(ports(&addresses, now + LOOKUP_PAUSE).await, [4], "sooner after a failure");
    }

    #[tokio::test]
    async fn what_was_found_stays_while_nothing_is_found() {
        let found = Arc::new(Mutex::new(Err(io::ErrorKind::NotFound.into())));
        let addresses = addresses(&found);
        let mut now = clock::now();
        assert!(addresses.in_turn(now).await.is_err());
        *found.lock() = Ok(vec![1]);
        assert_eq!(ports(&addresses, now).await, [1]);
        for nothing in [Ok(Vec::new()), Err(io::ErrorKind::TimedOut.into())] {
            *found.lock() = nothing;
            now += LOOKUP_INTERVAL;
            assert_eq!(ports(&addresses, now).await, [1]);
        }
    }
}
