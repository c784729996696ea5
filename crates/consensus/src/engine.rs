//! One validator inside one runtime: network, exchange, engine. The generic consensus code is instantiated here and
//! nowhere else, because that takes the compiler half a minute.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use commonware_codec::DecodeExt as _;
use commonware_consensus::simplex::elector::RoundRobin;
use commonware_consensus::simplex::scheme::bls12381_multisig;
use commonware_consensus::simplex::{
    Config as EngineConfig, Engine, Floor, ForwardPolicy, SkipBudget, SkipPolicy, max_payload_size,
};
use commonware_consensus::types::{Epoch, ViewDelta};
use commonware_cryptography::bls12381::primitives::group::G1;
use commonware_cryptography::bls12381::primitives::ops;
use commonware_cryptography::bls12381::primitives::variant::{MinSig, Variant};
use commonware_cryptography::ed25519::{PrivateKey, PublicKey};
use commonware_cryptography::{ChaCha20Poly1305, Sha256, sha256};
use commonware_p2p::authenticated::lookup::{self, Network};
use commonware_p2p::{Address, AddressableManager as _, max_message_size};
use commonware_parallel::Sequential;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_runtime::{Clock as _, Quota, Runner as _, Spawner as _, Supervisor as _, tokio};
use commonware_stream::cups::{self, Cups};
use commonware_stream::sake::{self, Sake};
use commonware_utils::channel::oneshot;
use commonware_utils::ordered::{BiMap, Map};
use commonware_utils::{NZU16, NZU32, NZUsize};
use futures::future::{Either, select};
use og_light::{ValidatorSet, consensus_namespace};
use og_primitives::domain;
use tracing::info;

use crate::application::Application;
use crate::automaton;
use crate::bodies::Bodies;
use crate::config::Config;
use crate::error::Error;
use crate::exchange::{Exchange, MESSAGE_LEN_MAX};
use crate::node::Node;

pub(crate) type Runtime = tokio::Context;
pub(crate) type Scheme = bls12381_multisig::Scheme<PublicKey, MinSig>;
pub(crate) type ChannelSender = lookup::Sender<PublicKey, Runtime>;
pub(crate) type ChannelReceiver = lookup::Receiver<PublicKey>;
type VotingKey = <MinSig as Variant>::Public;

/// Messages per second and peer on every channel. Above it messages are dropped silently and consensus stalls, so it
/// is several times what the fastest possible blocks need; it also sizes the mailboxes.
const QUOTA: NonZeroU32 = NZU32!(1024);

/// Capacity of the mailboxes inside network and engine.
const MAILBOX: NonZeroUsize = NZUsize!(1024);

/// Journal page and how many of them are cached.
const PAGE: NonZeroU16 = NZU16!(4084);
const PAGES: NonZeroUsize = NZUsize!(64);

/// Journal buffers, bytes.
const BUFFER: NonZeroUsize = NZUsize!(64 * 1024);

/// How many views below the newest final one are kept, in memory and in the journal.
const VIEWS_KEPT: ViewDelta = ViewDelta::new(64);

/// How long the rest of the validators may take to show up once a quorum is there.
const STRAGGLERS: Duration = Duration::from_millis(300);

/// How long to wait for a quorum before starting anyway: without one nothing happens, but votes are heard.
const QUORUM_WAIT: Duration = Duration::from_secs(10);

/// How long tasks may take to end after they have been told to.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Runs a validator until `stop` is sent or dropped. Blocks the thread; everything ends with it.
pub(crate) fn run(
    config: Config,
    application: Arc<dyn Application>,
    finalized_view: Arc<AtomicU64>,
    stop: oneshot::Receiver<()>,
) -> Result<(), Error> {
    let seat = config.seat()?;
    let directory = config.data_dir.join("consensus");
    let runtime = tokio::Config::new()
        .with_worker_threads(2)
        .with_max_blocking_threads(32)
        .with_thread_stack_size(2 * 1024 * 1024)
        .with_storage_directory(directory);
    tokio::Runner::new(runtime)
        .start(|runtime| validator(runtime, config, seat, application, finalized_view, stop))
}

async fn validator(
    runtime: Runtime,
    config: Config,
    seat: usize,
    application: Arc<dyn Application>,
    finalized_view: Arc<AtomicU64>,
    stop: oneshot::Receiver<()>,
) -> Result<(), Error> {
    let participants = participants(&config.set)?;
    let seats: Vec<PublicKey> = participants.iter().cloned().collect();
    let bodies_dir: PathBuf = config.data_dir.join("bodies");
    let bodies =
        Bodies::open(&bodies_dir).map_err(|source| Error::Storage { path: bodies_dir, source })?;

    let genesis = application.genesis();
    let namespace = consensus_namespace(genesis.into());
    let scheme = Scheme::signer(&namespace, participants, config.keys.voting.clone());
    let scheme = scheme.ok_or(Error::NoSeat)?;

    let (mut network, oracle) = network(&runtime, &config, seat, &seats, genesis)?;
    let quota = Quota::per_second(QUOTA);
    let votes = network.register(0, quota);
    let certificates = network.register(1, quota);
    let resolver = network.register(2, quota);
    let (exchange, incoming) = network.register(3, quota);
    let network = network.start();

    let node = Node::new(
        application,
        Exchange::new(exchange),
        bodies,
        Arc::clone(&config.clock),
        config.timing,
        seats,
        seat,
        finalized_view,
        runtime.child("background"),
    );
    let receiving = Arc::clone(&node);
    let receiving =
        runtime.child("receive").spawn(move |runtime| receiving.receive(runtime, incoming));
    let delivering = Arc::clone(&node);
    let delivering = runtime.child("deliver").spawn(move |runtime| delivering.deliver(runtime));

    let mut stop = Box::pin(stop);
    let met = Box::pin(meet(&runtime, &node, &config.set));
    if let Either::Left(_) = select(&mut stop, met).await {
        return Ok(());
    }

    let mailbox = automaton::start(runtime.child("automaton"), Arc::clone(&node));
    let timing = config.timing;
    let engine = Engine::new(
        runtime.child("engine"),
        EngineConfig {
            scheme,
            elector: RoundRobin::<Sha256>::default(),
            blocker: oracle,
            automaton: mailbox.clone(),
            relay: mailbox.clone(),
            reporter: mailbox,
            track_historical_votes: false,
            strategy: Sequential,
            partition: "votes".into(),
            mailbox_size: MAILBOX,
            epoch: Epoch::zero(),
            floor: Floor::Genesis(sha256::Digest(genesis)),
            replay_buffer: BUFFER,
            write_buffer: BUFFER,
            page_cache: CacheRef::new(PAGE, PAGES),
            leader_timeout: timing.leader_timeout(),
            certification_timeout: timing.certification_timeout(),
            timeout_retry: timing.retry(),
            view_retention: VIEWS_KEPT,
            skip: SkipPolicy::Enabled {
                timeout: timing.silence(),
                budget: SkipBudget::Participants,
            },
            fetch_timeout: commonware_utils::NZDuration!(Duration::from_millis(500)),
            fetch_retry_delay: Duration::from_millis(50),
            forward: ForwardPolicy::SilentVoters,
        },
    );
    let engine = engine.start(votes, certificates, resolver);
    info!(seat, "validator started");

    let ended = futures::future::select_all([
        Box::pin(async { engine.await.map(|()| "consensus") })
            as std::pin::Pin<Box<dyn Future<Output = _> + Send>>,
        Box::pin(async { network.await.map(|()| "network") }),
        Box::pin(async { receiving.await.map(|()| "exchange of bodies") }),
        Box::pin(async { delivering.await.map(|()| "delivery of finality") }),
    ]);
    match select(stop, ended).await {
        Either::Left(_) => {
            // Dropping the waiters does not end the tasks: they are told to end, and sync their journals.
            runtime.child("stop").stop(0, Some(STOP_WAIT)).await.map_err(|_| Error::StopTimeout)
        }
        Either::Right(((ended, ..), _)) => Err(Error::Ended(ended.unwrap_or("a task"))),
    }
}

/// Waits for a quorum of validators and a little for the others. Without that the first proposals would be sent to
/// nobody, and their views would have to time out.
async fn meet(runtime: &Runtime, node: &Node, set: &ValidatorSet) {
    let quorum = Box::pin(node.meet(runtime, set.quorum() - 1));
    select(quorum, Box::pin(runtime.sleep(QUORUM_WAIT))).await;
    let everybody = Box::pin(node.meet(runtime, set.len() - 1));
    select(everybody, Box::pin(runtime.sleep(STRAGGLERS))).await;
}

/// The validators as the consensus library wants them. Its constructors do not check proofs of possession.
fn participants(set: &ValidatorSet) -> Result<BiMap<PublicKey, VotingKey>, Error> {
    let mut pairs = Vec::with_capacity(set.len());
    for (seat, validator) in set.validators().iter().enumerate() {
        let wrong = |reason| Error::Seat { seat, reason };
        let identity = PublicKey::decode(Bytes::copy_from_slice(&validator.identity))
            .map_err(|_| wrong("identity is not an Ed25519 key"))?;
        let voting = VotingKey::decode(Bytes::copy_from_slice(&validator.public_key))
            .map_err(|_| wrong("voting key is not a BLS12-381 key"))?;
        let possession = G1::decode(Bytes::copy_from_slice(&validator.possession))
            .map_err(|_| wrong("proof of possession is malformed"))?;
        ops::verify_proof_of_possession::<MinSig>(
            &voting,
            domain::VALIDATOR_POSSESSION,
            &possession,
        )
        .map_err(|_| wrong("proof of possession does not verify"))?;
        pairs.push((identity, voting));
    }
    BiMap::try_from(pairs).map_err(|_| Error::Seat { seat: 0, reason: "shares a key with another" })
}

type Handshake = Cups<Sake<PrivateKey>, ChaCha20Poly1305>;

fn network(
    runtime: &Runtime,
    config: &Config,
    seat: usize,
    seats: &[PublicKey],
    genesis: [u8; 32],
) -> Result<(Network<Runtime, Handshake>, lookup::Oracle<PublicKey>), Error> {
    let wrong_addresses =
        || Error::Addresses { addresses: config.addresses.len(), seats: config.set.len() };
    let listen: SocketAddr = *config.addresses.get(seat).ok_or_else(wrong_addresses)?;
    let size = u32::try_from(seats.len()).unwrap_or(u32::MAX);
    let payload = max_payload_size::<Scheme, sha256::Digest>(size);
    let handshake = Cups::new(
        Sake {
            signer: config.keys.identity.clone(),
            synchrony_bound: Duration::from_secs(5),
            max_handshake_age: Duration::from_secs(10),
            version: sake::Version::V1,
        },
        cups::Version::V1,
    );
    let mut settings = lookup::Config::local(
        handshake,
        &[domain::P2P, genesis.as_slice()].concat(),
        listen,
        NonZeroUsize::new(seats.len()).unwrap_or(NonZeroUsize::MIN),
        max_message_size(&[payload, MESSAGE_LEN_MAX]),
        MAILBOX,
    );
    // All validators of a devnet share one address, and dial each other at the same moment.
    settings.allowed_handshake_rate_per_ip = Quota::per_second(QUOTA);
    settings.allowed_handshake_rate_per_subnet = Quota::per_second(QUOTA);
    settings.peer_connection_cooldown = Duration::from_millis(100);
    settings.dial_frequency = Duration::from_millis(25);
    settings.tracked_peer_sets = NZUsize!(1);
    settings.block_duration = Duration::from_mins(1);
    let (network, mut oracle) = Network::new(runtime.child("network"), settings);
    let peers: Vec<(PublicKey, Address)> = seats
        .iter()
        .cloned()
        .zip(config.addresses.iter().map(|address| Address::from(*address)))
        .collect();
    let peers: Map<PublicKey, Address> = Map::try_from(peers).map_err(|_| wrong_addresses())?;
    oracle.track(0, peers);
    Ok((network, oracle))
}
