use alloy_consensus::{SignableTransaction as _, TxEip1559};
use alloy_network::TxSignerSync as _;
use alloy_primitives::{TxKind, U256};
use alloy_signer_local::PrivateKeySigner;
use og_chain::{Genesis, GenesisAccount, ProposeRequest, Storage};

use super::*;

fn key() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(1)).unwrap()
}

fn chain() -> Chain {
    let mut genesis = Genesis::new(10740, 1_795_000_000);
    let balance = U256::from(10).pow(U256::from(20));
    genesis.alloc.insert(key().address(), GenesisAccount { balance, ..GenesisAccount::default() });
    Chain::open(&Storage::Memory, genesis).unwrap()
}

fn transfer(nonce: u64) -> Recovered<TxEnvelope> {
    let mut tx = TxEip1559 {
        chain_id: 10740,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000,
        to: TxKind::Call(key().address()),
        ..TxEip1559::default()
    };
    let signature = key().sign_transaction_sync(&mut tx).unwrap();
    Recovered::new_unchecked(tx.into_signed(signature).into(), key().address())
}

/// Seals what waits, and nothing when nothing does.
fn seal(chain: &Chain, mempool: &Mempool) {
    let parent = chain.head().hash;
    let candidates = mempool.candidates(chain, parent).unwrap();
    let beneficiary = Address::ZERO;
    let request = ProposeRequest { parent, candidates, timestamp_ms: 0, beneficiary };
    let block = chain.propose(request).unwrap().executed;
    chain.finalize(block.hash, None).unwrap();
}

/// Makes `to` final up to where `from` is.
fn follow(from: &Chain, to: &Chain) {
    for number in to.head().number + 1..=from.head().number {
        let block = from.block(At::Number(number)).unwrap().unwrap();
        let hash = to.execute(&block.block).unwrap().hash;
        to.finalize(hash, None).unwrap();
    }
}

#[test]
fn transactions_leave_when_the_slowest_node_has_their_block() {
    let (fast, slow) = (chain(), chain());
    let mempool = Mempool::new(Limits::default());
    let (of_fast, of_slow) = (mempool.join(0), mempool.join(0));
    let hash = mempool.submit(&slow, transfer(0)).unwrap();
    seal(&fast, &mempool);
    of_fast.on_head(&fast).unwrap();
    assert!(mempool.get(&hash).is_some(), "a client of the slow node would not find it");
    assert_eq!(mempool.next_nonce(key().address(), 0), 1);
    assert!(mempool.candidates(&fast, fast.head().hash).unwrap().is_empty(), "included already");
    follow(&fast, &slow);
    of_slow.on_head(&slow).unwrap();
    assert!(mempool.get(&hash).is_none());
}

#[test]
fn a_node_that_left_holds_nobody_up() {
    let chain = chain();
    let mempool = Mempool::new(Limits::default());
    let (here, gone) = (mempool.join(0), mempool.join(0));
    let hash = mempool.submit(&chain, transfer(0)).unwrap();
    seal(&chain, &mempool);
    here.on_head(&chain).unwrap();
    assert!(mempool.get(&hash).is_some());
    drop(gone);
    here.on_head(&chain).unwrap();
    assert!(mempool.get(&hash).is_none());
}

#[test]
fn a_node_that_is_stuck_holds_the_pool_up_for_a_while_only() {
    let chain = chain();
    let mempool = Mempool::new(Limits::default());
    let (here, _stuck) = (mempool.join(0), mempool.join(0));
    let hash = mempool.submit(&chain, transfer(0)).unwrap();
    for _ in 0..MEMBER_LAG_MAX {
        seal(&chain, &mempool);
        here.on_head(&chain).unwrap();
        assert!(mempool.get(&hash).is_some());
    }
    seal(&chain, &mempool);
    here.on_head(&chain).unwrap();
    assert!(mempool.get(&hash).is_none());
}

#[test]
fn arrivals_are_counted_and_the_latest_are_kept() {
    let chain = chain();
    let mempool = Mempool::new(Limits::default());
    let first = mempool.submit(&chain, transfer(0)).unwrap();
    let (hashes, seen) = mempool.arrived_since(0);
    assert_eq!((hashes, seen), (vec![first], 1));
    assert_eq!(mempool.submit(&chain, transfer(0)).unwrap(), first, "known");
    let second = mempool.submit(&chain, transfer(1)).unwrap();
    assert_eq!(mempool.arrived_since(seen), (vec![second], 2));
    assert_eq!(mempool.arrived_since(2), (vec![], 2));
}

#[test]
fn a_waiter_wakes_when_something_arrives() {
    let chain = chain();
    let mempool = Mempool::new(Limits::default());
    let seen = mempool.generation();
    let waiter = {
        let mempool = mempool.clone();
        std::thread::spawn(move || mempool.wait(seen, Duration::from_secs(60)))
    };
    let start = std::time::Instant::now();
    mempool.submit(&chain, transfer(0)).unwrap();
    waiter.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(30));
    mempool.wait(seen, Duration::from_secs(60));
    assert!(start.elapsed() < Duration::from_secs(30), "what happened before is seen");
}
