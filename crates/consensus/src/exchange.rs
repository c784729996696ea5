//! Exchange of block bodies between validators.
//!
//! A leader pushes its block's body to everybody before it votes; who misses a body asks for it by digest. One
//! channel carries four messages: `0` digest body (a block), `1` digest (please send it), `2` (are you there?) and
//! `3` (yes). A body is taken in only if the application says that it is what its digest commits to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut as _, Bytes, BytesMut};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Recipients, Sender as _};
use commonware_utils::channel::watch;

use crate::application::Digest;
use crate::config::BODY_LEN_MAX;
use crate::engine::ChannelSender;

/// Longest message: kind, digest, body.
pub(crate) const MESSAGE_LEN_MAX: usize = 1 + 32 + BODY_LEN_MAX;

/// Most bodies kept for one peer that nobody has asked for yet. Above this its oldest goes.
const HELD_PER_PEER_MAX: usize = 64;

/// Most bytes of them.
const HELD_PER_PEER_LEN_MAX: usize = 2 * BODY_LEN_MAX;

const BLOCK: u8 = 0;
const REQUEST: u8 = 1;
const HELLO: u8 = 2;
const HELLO_BACK: u8 = 3;

/// A message between validators.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Message {
    Block(Digest, Bytes),
    Request(Digest),
    Hello,
    HelloBack,
}

impl Message {
    pub(crate) fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.len() > MESSAGE_LEN_MAX {
            return None;
        }
        let kind = *bytes.first()?;
        let digest = |bytes: &Bytes| Digest::try_from(bytes.get(1..33)?).ok();
        match (kind, bytes.len()) {
            (BLOCK, 33..) => {
                let digest = digest(&bytes)?;
                Some(Self::Block(digest, bytes.split_off(33)))
            }
            (REQUEST, 33) => digest(&bytes).map(Self::Request),
            (HELLO, 1) => Some(Self::Hello),
            (HELLO_BACK, 1) => Some(Self::HelloBack),
            _ => None,
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let (kind, digest, body) = match self {
            Self::Block(digest, body) => (BLOCK, Some(digest), body.as_ref()),
            Self::Request(digest) => (REQUEST, Some(digest), [].as_slice()),
            Self::Hello => (HELLO, None, [].as_slice()),
            Self::HelloBack => (HELLO_BACK, None, [].as_slice()),
        };
        let mut bytes = BytesMut::with_capacity(1 + 32 + body.len());
        bytes.put_u8(kind);
        if let Some(digest) = digest {
            bytes.put_slice(digest);
        }
        bytes.put_slice(body);
        bytes.freeze()
    }
}

/// The sending half, and what has been received.
pub(crate) struct Exchange {
    sender: Mutex<ChannelSender>,
    held: Mutex<Held>,
    arrivals: watch::Sender<()>,
    heard: watch::Sender<BTreeSet<PublicKey>>,
}

#[derive(Default)]
struct Held {
    bodies: BTreeMap<Digest, Bytes>,
    by_peer: BTreeMap<PublicKey, Queue>,
}

#[derive(Default)]
struct Queue {
    digests: VecDeque<Digest>,
    len: usize,
}

impl Exchange {
    pub(crate) fn new(sender: ChannelSender) -> Arc<Self> {
        Arc::new(Self {
            sender: Mutex::new(sender),
            held: Mutex::default(),
            arrivals: watch::Sender::new(()),
            heard: watch::Sender::default(),
        })
    }

    /// Sends to peers that are connected; there is no other delivery guarantee.
    pub(crate) fn send(&self, recipients: Recipients<PublicKey>, message: &Message) {
        let bytes = message.encode();
        if bytes.len() > MESSAGE_LEN_MAX {
            return;
        }
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sender.send(recipients, bytes, true);
    }

    /// Takes in a body whose digest has been checked.
    pub(crate) fn hold(&self, peer: &PublicKey, digest: Digest, body: Bytes) {
        self.held().insert(peer, digest, body);
        self.arrivals.send_replace(());
    }

    /// A body that has been taken in.
    pub(crate) fn held_body(&self, digest: &Digest) -> Option<Bytes> {
        self.held().bodies.get(digest).cloned()
    }

    /// Changes whenever a body is taken in.
    pub(crate) fn arrivals(&self) -> watch::Receiver<()> {
        self.arrivals.subscribe()
    }

    /// Notes that a peer is there.
    pub(crate) fn hear(&self, peer: &PublicKey) {
        self.heard.send_if_modified(|heard| !heard.contains(peer) && heard.insert(peer.clone()));
    }

    /// The peers that are there.
    pub(crate) fn heard(&self) -> watch::Receiver<BTreeSet<PublicKey>> {
        self.heard.subscribe()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn insert(&mut self, peer: &PublicKey, digest: Digest, body: Bytes) {
        if self.bodies.contains_key(&digest) {
            return;
        }
        let queue = self.by_peer.entry(peer.clone()).or_default();
        queue.digests.push_back(digest);
        queue.len += body.len();
        self.bodies.insert(digest, body);
        while queue.digests.len() > HELD_PER_PEER_MAX || queue.len > HELD_PER_PEER_LEN_MAX {
            let Some(oldest) = queue.digests.pop_front() else { break };
            queue.len -= self.bodies.remove(&oldest).map_or(0, |body| body.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use commonware_cryptography::Signer as _;
    use commonware_cryptography::ed25519::PrivateKey;

    use super::*;

    #[test]
    fn messages_have_one_encoding() {
        for message in [
            Message::Block([1; 32], Bytes::from_static(b"body")),
            Message::Block([1; 32], Bytes::new()),
            Message::Request([2; 32]),
            Message::Hello,
            Message::HelloBack,
        ] {
            let bytes = message.encode();
            assert_eq!(Message::decode(bytes.clone()), Some(message.clone()));
            if !matches!(message, Message::Block(..)) {
                let longer = [bytes.as_ref(), &[0]].concat();
                assert_eq!(Message::decode(longer.into()), None);
            }
        }
    }

    #[test]
    fn malformed_messages_are_refused() {
        for bytes in
            [vec![], vec![4], vec![0; 32], vec![1; 32], vec![1; 34], vec![2, 0], vec![255; 40]]
        {
            assert_eq!(Message::decode(Bytes::from(bytes.clone())), None, "{bytes:?}");
        }
        assert_eq!(Message::decode(Bytes::from(vec![0; MESSAGE_LEN_MAX + 1])), None);
    }

    #[test]
    fn random_messages_never_panic_and_decode_to_themselves() {
        // xorshift64: seeded, so that a failure repeats.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut decoded = 0;
        for _ in 0..200_000 {
            let len = usize::try_from(next() % 48).unwrap();
            let mut bytes: Vec<u8> = (0..len).map(|_| next().to_le_bytes()[0]).collect();
            if let Some(first) = bytes.first_mut() {
                *first %= 6;
            }
            if let Some(message) = Message::decode(bytes.clone().into()) {
                assert_eq!(message.encode(), bytes);
                decoded += 1;
            }
        }
        assert!(decoded > 1000, "{decoded}");
    }

    #[test]
    fn a_peer_can_make_us_hold_only_so_much() {
        let peer = PrivateKey::from_seed(0).public_key();
        let mut held = Held::default();
        for number in 0..200_u8 {
            held.insert(&peer, [number; 32], Bytes::from_static(&[0; 100]));
        }
        assert_eq!(held.bodies.len(), HELD_PER_PEER_MAX);
        assert!(held.bodies.contains_key(&[199; 32]) && !held.bodies.contains_key(&[0; 32]));
        let large = Bytes::from(vec![0; BODY_LEN_MAX]);
        for number in 200..210_u8 {
            held.insert(&peer, [number; 32], large.clone());
        }
        assert_eq!(held.bodies.len(), 2);
        let other = PrivateKey::from_seed(1).public_key();
        held.insert(&other, [1; 32], Bytes::new());
        assert_eq!(held.bodies.len(), 3);
    }
}
