//! [`Load`]: senders that send many traces at once, in fragments over several requests, and know what was acknowledged.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet};
use tonic::Code;
use tracestitch::demo::sender::Sender;

use crate::{
    sink::{Key, digest, key},
    traces::{Group, Request, Slow},
};

/// A sender that is not answered takes it for refused.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Between two requests of a sender.
const PAUSE: Duration = Duration::from_millis(15);
/// Between two requests of spans that keep a trace open.
const SLOW_PAUSE: Duration = Duration::from_millis(120);
/// Before a request is sent again, or the next one after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What a sender does with a request that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// Leaves it, and the rest of its traces.
    LeftOut,
    /// Sends it again until it is taken, as OTLP says.
    SentAgain,
}

/// Running senders. They end with it.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    _senders: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    unsent: Unsent,
    to: watch::Sender<Option<SocketAddr>>,
    numbers: AtomicU64,
    under_way: AtomicU64,
    /// Digests of all that was sent, acknowledged or not.
    sent: Mutex<HashMap<Key, u64>>,
    /// In the order of the acknowledgements.
    acknowledged: Mutex<Vec<Key>>,
    /// Why requests were not taken, by code and message.
    refusals: Mutex<Vec<(Code, String)>>,
}

impl Load {
    /// So many senders, and one that keeps some traces open for long if told so.
    pub(crate) fn start(senders: u32, slow: bool, unsent: Unsent) -> Self {
        let shared = Arc::new(Shared {
            unsent,
            to: watch::Sender::new(None),
            numbers: AtomicU64::new(1),
            under_way: AtomicU64::new(0),
            sent: Mutex::default(),
            acknowledged: Mutex::default(),
            refusals: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..senders {
            tasks.spawn(send_groups(Arc::clone(&shared)));
        }
        if slow {
            tasks.spawn(send_slow_traces(Arc::clone(&shared)));
        }
        Self { shared, _senders: tasks }
    }

    /// From now on to this address.
    pub(crate) fn to(&self, address: SocketAddr) {
        self.shared.to.send_replace(Some(address));
    }

    /// From now on nothing new is sent.
    pub(crate) fn stop(&self) {
        self.shared.to.send_replace(None);
    }

    /// The same, and returns when what is under way has ended.
    pub(crate) async fn pause(&self) {
        self.stop();
        while self.shared.under_way.load(Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Those acknowledged behind the first so many.
    pub(crate) fn acknowledged_since(&self, first: usize) -> Vec<Key> {
        self.shared.acknowledged.lock().get(first..).unwrap_or_default().to_vec()
    }

    /// How many spans were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.shared.acknowledged.lock().len()
    }

    /// All that was sent, acknowledged or not, with their digests.
    pub(crate) fn sent(&self) -> HashMap<Key, u64> {
        self.shared.sent.lock().clone()
    }

    /// Why requests were not taken so far; forgotten by asking.
    pub(crate) fn refusals(&self) -> Vec<(Code, String)> {
        std::mem::take(&mut self.shared.refusals.lock())
    }
}

async fn send_groups(shared: Arc<Shared>) {
    let mut to = To::new(&shared);
    loop {
        let group = Group::new(|| shared.numbers.fetch_add(1, Relaxed));
        for request in group.requests() {
            if !shared.send(&mut to, request).await {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn send_slow_traces(shared: Arc<Shared>) {
    let mut to = To::new(&shared);
    loop {
        let slow = Slow::new(|| shared.numbers.fetch_add(1, Relaxed));
        for request in slow.requests() {
            if !shared.send(&mut to, request).await {
                break;
            }
            tokio::time::sleep(SLOW_PAUSE).await;
        }
    }
}

/// A sender and where it sends.
struct To {
    address: watch::Receiver<Option<SocketAddr>>,
    sender: Option<(SocketAddr, Sender)>,
}

impl To {
    fn new(shared: &Shared) -> Self {
        Self { address: shared.to.subscribe(), sender: None }
    }

    /// To the address of now; waits until there is one.
    async fn sender(&mut self) -> Sender {
        let to = self.address.wait_for(Option::is_some).await.expect("the load outlives its tasks");
        let to = to.expect("waited for");
        match &self.sender {
            Some((address, sender)) if *address == to => sender.clone(),
            _ => {
                let sender = Sender::to(to).expect("an address");
                self.sender = Some((to, sender.clone()));
                sender
            }
        }
    }
}

impl Shared {
    /// True if the request was taken.
    async fn send(&self, to: &mut To, request: Request) -> bool {
        let keys: Vec<Key> = request.spans().filter_map(key).collect();
        self.sent.lock().extend(keys.iter().copied().zip(request.spans().map(digest)));
        let request = request.into_otlp();
        loop {
            let sender = to.sender().await;
            self.under_way.fetch_add(1, Relaxed);
            let answer = tokio::time::timeout(ANSWER_PATIENCE, sender.send(&request)).await;
            if matches!(answer, Ok(Ok(_))) {
                self.acknowledged.lock().extend(&keys);
            }
            self.under_way.fetch_sub(1, Relaxed);
            match answer {
                Ok(Ok(answer)) => {
                    assert!(answer.is_empty(), "all of its spans are taken");
                    return true;
                }
                Ok(Err(status)) => {
                    let refusal = (status.code(), status.message().to_owned());
                    self.refusals.lock().push(refusal);
                }
                Err(_late) => {}
            }
            tokio::time::sleep(RETRY_PAUSE).await;
            if self.unsent == Unsent::LeftOut {
                return false;
            }
        }
    }
}
