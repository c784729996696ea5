//! The pool against a naive model, and its rules one by one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;

use alloy_consensus::{SignableTransaction as _, Transaction as _, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Signature, TxKind, U256};
use og_pool::{Account, Budget, Limits, Place, Pool, PooledTransaction, Rejection, Status};
use proptest::prelude::*;

const EVERYTHING: Budget = Budget { transactions: usize::MAX, bytes: usize::MAX };

fn sender(n: u8) -> Address {
    Address::repeat_byte(n + 1)
}

fn tx(from: u8, nonce: u64, fee_cap: u128, tip: u128) -> PooledTransaction {
    let tx = TxEip1559 {
        chain_id: 10740,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: fee_cap,
        max_priority_fee_per_gas: tip.min(fee_cap),
        to: TxKind::Call(Address::repeat_byte(from)),
        ..TxEip1559::default()
    };
    let signature = Signature::new(U256::from(1), U256::from(1), false);
    PooledTransaction::new_unchecked(TxEnvelope::from(tx.into_signed(signature)), sender(from))
}

fn rich(nonce: u64) -> Account {
    Account { nonce, balance: U256::from(10u64).pow(U256::from(30)) }
}

fn pool(limits: Limits) -> Pool {
    Pool::new(limits)
}

#[test]
fn a_gap_is_queued_and_promoted_when_it_closes() {
    let mut pool = pool(Limits::default());
    assert_eq!(pool.add(tx(0, 1, 100, 1), rich(0)).unwrap().place, Place::Queued);
    assert_eq!(pool.next_nonce(sender(0), 0), 0);
    assert!(pool.best(1, EVERYTHING, |_| rich(0)).is_empty());
    assert_eq!(pool.add(tx(0, 0, 100, 1), rich(0)).unwrap().place, Place::Pending);
    assert_eq!(pool.status(), Status { pending: 2, queued: 0 });
    assert_eq!(pool.next_nonce(sender(0), 0), 2);
    assert_eq!(pool.best(1, EVERYTHING, |_| rich(0)).len(), 2);
}

#[test]
fn a_new_head_promotes_what_waited_for_it() {
    let mut pool = pool(Limits::default());
    pool.add(tx(0, 3, 100, 1), rich(0)).unwrap();
    assert_eq!(pool.status(), Status { pending: 0, queued: 1 });
    let update = pool.on_block(1, 1, |_| rich(3));
    assert_eq!(update, og_pool::Update::default());
    assert_eq!(pool.status(), Status { pending: 1, queued: 0 });
    let update = pool.on_block(2, 1, |_| rich(4));
    assert_eq!(update.used.len(), 1);
    assert!(pool.is_empty());
    assert_eq!(pool.bytes(), 0);
}

#[test]
fn a_used_nonce_is_too_low_with_the_words_clients_look_for() {
    let error = pool(Limits::default()).add(tx(0, 4, 100, 1), rich(5)).unwrap_err();
    assert!(error.to_string().starts_with("nonce too low"), "{error}");
}

#[test]
fn the_same_transaction_is_already_known() {
    let mut pool = pool(Limits::default());
    pool.add(tx(0, 0, 100, 1), rich(0)).unwrap();
    let error = pool.add(tx(0, 0, 100, 1), rich(0)).unwrap_err();
    assert_eq!((error.to_string().as_str(), pool.len()), ("already known", 1));
}

#[test]
fn a_replacement_pays_ten_percent_more_on_both_caps() {
    let mut pool = pool(Limits::default());
    let first = tx(0, 0, 1_000, 100);
    pool.add(first.clone(), rich(0)).unwrap();
    for (fee_cap, tip) in [(1_099, 110), (1_100, 109), (1_000, 200), (2_000, 100)] {
        let error = pool.add(tx(0, 0, fee_cap, tip), rich(0)).unwrap_err();
        assert_eq!(error, Rejection::ReplacementUnderpriced, "{fee_cap} {tip}");
    }
    let added = pool.add(tx(0, 0, 1_100, 110), rich(0)).unwrap();
    assert_eq!(added.replaced, Some(*first.hash()));
    assert_eq!(pool.len(), 1);
    assert!(pool.get(first.hash()).is_none());
}

#[test]
fn a_sender_cannot_promise_more_than_it_has() {
    let mut pool = pool(Limits::default());
    let cost = U256::from(21_000 * 100);
    let poor = |nonce| Account { nonce, balance: cost + U256::from(1) };
    let broke = Account { nonce: 0, balance: cost - U256::from(1) };
    let error = pool.add(tx(0, 0, 100, 1), broke).unwrap_err();
    assert!(error.to_string().starts_with("insufficient funds for gas * price + value"));
    pool.add(tx(0, 0, 100, 1), poor(0)).unwrap();
    pool.add(tx(0, 1, 100, 1), poor(0)).unwrap();
    // Both fit one by one, together they do not: only the first is offered.
    assert_eq!(pool.best(1, EVERYTHING, |_| poor(0)).len(), 1);
}

#[test]
fn a_full_pool_makes_room_only_for_dearer_executable_transactions() {
    let mut pool = pool(Limits { transactions: 3, ..Limits::default() });
    let cheap = tx(0, 1, 100, 5);
    pool.add(tx(0, 0, 100, 9), rich(0)).unwrap();
    pool.add(cheap.clone(), rich(0)).unwrap();
    pool.add(tx(1, 0, 100, 7), rich(0)).unwrap();
    assert_eq!(pool.add(tx(2, 0, 100, 5), rich(0)), Err(Rejection::Full));
    assert_eq!(pool.add(tx(2, 1, 100, 50), rich(0)), Err(Rejection::Full), "a gap evicts nobody");
    let added = pool.add(tx(2, 0, 100, 6), rich(0)).unwrap();
    assert_eq!(added.evicted, vec![*cheap.hash()]);
    assert_eq!(pool.len(), 3);
}

#[test]
fn one_sender_cannot_fill_the_pool() {
    let mut pool = pool(Limits { per_sender: 2, ..Limits::default() });
    for nonce in 0..2 {
        pool.add(tx(0, nonce, 100, 1), rich(0)).unwrap();
    }
    let error = pool.add(tx(0, 2, 100, 1), rich(0)).unwrap_err();
    assert!(error.to_string().starts_with("account limit exceeded"));
    pool.add(tx(0, 1, 200, 2), rich(0)).expect("a replacement takes no new place");
}

#[test]
fn the_pool_counts_bytes() {
    let bytes = tx(0, 0, 100, 1).encode_2718_len();
    let mut pool = pool(Limits { bytes: bytes * 2, ..Limits::default() });
    pool.add(tx(0, 0, 100, 1), rich(0)).unwrap();
    pool.add(tx(1, 0, 100, 1), rich(0)).unwrap();
    assert_eq!(pool.add(tx(2, 0, 100, 1), rich(0)), Err(Rejection::Full));
    assert!(pool.bytes() <= bytes * 2);
}

#[test]
fn what_no_block_would_take_stays_out() {
    let mut dear = pool(Limits { fee_cap_min: 7, ..Limits::default() });
    let error = dear.add(tx(0, 0, 6, 1), rich(0)).unwrap_err();
    assert_eq!(error, Rejection::Underpriced { fee_cap: 6, minimum: 7 });
    let mut small = pool(Limits { transaction_bytes: 20, ..Limits::default() });
    let error = small.add(tx(0, 0, 100, 1), rich(0)).unwrap_err();
    assert!(matches!(error, Rejection::Oversized { limit: 20, .. }), "{error}");
    assert!(dear.is_empty() && small.is_empty());
}

#[test]
fn age_is_counted_in_blocks() {
    let mut pool = pool(Limits { lifetime_blocks: 10, ..Limits::default() });
    pool.add(tx(0, 0, 100, 1), rich(0)).unwrap();
    assert!(pool.on_block(10, 1, |_| rich(0)).expired.is_empty());
    assert_eq!(pool.on_block(11, 1, |_| rich(0)).expired.len(), 1);
    assert!(pool.is_empty());
}

#[test]
fn candidates_keep_within_the_budget() {
    let mut pool = pool(Limits::default());
    for from in 0..4 {
        pool.add(tx(from, 0, 100, 1 + u128::from(from)), rich(0)).unwrap();
    }
    let two = Budget { transactions: 2, bytes: usize::MAX };
    let tips: Vec<_> = pool
        .best(1, two, |_| rich(0))
        .iter()
        .map(|tx| tx.effective_tip_per_gas(1).unwrap())
        .collect();
    assert_eq!(tips, [4, 3]);
    let none = Budget { transactions: 2, bytes: 10 };
    assert!(pool.best(1, none, |_| rich(0)).is_empty());
}

/// A block is built on the parent's state, which may lie ahead of the pool's head.
#[test]
fn candidates_follow_the_parents_nonces() {
    let mut pool = pool(Limits::default());
    for nonce in 0..3 {
        pool.add(tx(0, nonce, 100, 1), rich(0)).unwrap();
    }
    let nonces: Vec<_> =
        pool.best(1, EVERYTHING, |_| rich(2)).iter().map(|tx| tx.nonce()).collect();
    assert_eq!(nonces, [2]);
}

#[derive(Debug, Clone)]
enum Step {
    Add {
        from: u8,
        nonce: u64,
        fee_cap: u128,
        tip: u128,
    },
    /// Include this many of the sender's next nonces.
    Include {
        from: u8,
        count: u64,
    },
    Blocks(u64),
    BaseFee(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..4, 0u64..8, 1u128..60, 0u128..60)
            .prop_map(|(from, nonce, fee_cap, tip)| Step::Add { from, nonce, fee_cap, tip }),
        1 => (0u8..4, 1u64..3).prop_map(|(from, count)| Step::Include { from, count }),
        1 => (1u64..6).prop_map(Step::Blocks),
        1 => (1u64..40).prop_map(Step::BaseFee),
    ]
}

/// The obviously right pool: a list, searched from end to end.
#[derive(Default)]
struct Model {
    waiting: BTreeMap<(u8, u64), (PooledTransaction, u64, u64)>,
    nonces: BTreeMap<u8, u64>,
    height: u64,
    base_fee: u64,
    arrivals: u64,
}

const MODEL_LIFETIME: u64 = 12;
const MODEL_PER_SENDER: usize = 4;

impl Model {
    fn nonce(&self, from: u8) -> u64 {
        self.nonces.get(&from).copied().unwrap_or(0)
    }

    /// Whether the pool must accept the transaction.
    fn add(&mut self, from: u8, tx: PooledTransaction) -> bool {
        let key = (from, tx.nonce());
        let of_sender = self.waiting.keys().filter(|(s, _)| *s == from).count();
        let fits = match self.waiting.get(&key) {
            _ if tx.nonce() < self.nonce(from) => false,
            Some((old, ..)) => {
                let bump = |new: u128, old: u128| new > old && new * 100 >= old * 110;
                let old_tip = old.priority_fee_or_price();
                bump(tx.max_fee_per_gas(), old.max_fee_per_gas())
                    && (old_tip == 0 || bump(tx.priority_fee_or_price(), old_tip))
            }
            None => of_sender < MODEL_PER_SENDER,
        };
        if fits {
            self.waiting.insert(key, (tx, self.arrivals, self.height));
            self.arrivals += 1;
        }
        fits
    }

    fn prune(&mut self) {
        let (nonces, height) = (self.nonces.clone(), self.height);
        self.waiting.retain(|(from, nonce), (_, _, at)| {
            *nonce >= nonces.get(from).copied().unwrap_or(0) && *at + MODEL_LIFETIME >= height
        });
    }

    /// Repeatedly the best of all heads.
    fn best(&self) -> Vec<B256> {
        let mut next: BTreeMap<u8, u64> = (0..4).map(|from| (from, self.nonce(from))).collect();
        let mut chosen = Vec::new();
        loop {
            let heads = next.iter().filter_map(|(from, nonce)| {
                let (tx, arrival, _) = self.waiting.get(&(*from, *nonce))?;
                Some((tx.effective_tip_per_gas(self.base_fee)?, u64::MAX - arrival, *from))
            });
            let Some((.., from)) = heads.max() else { return chosen };
            let nonce = next.get_mut(&from).unwrap();
            chosen.push(*self.waiting[&(from, *nonce)].0.hash());
            *nonce += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_pool_agrees_with_the_model(steps in proptest::collection::vec(step(), 1..80)) {
        let limits = Limits {
            per_sender: MODEL_PER_SENDER,
            lifetime_blocks: MODEL_LIFETIME,
            ..Limits::default()
        };
        let mut pool = pool(limits);
        let mut model = Model { base_fee: 1, ..Model::default() };
        for step in steps {
            match step {
                Step::Add { from, nonce, fee_cap, tip } => {
                    let tx = tx(from, nonce, fee_cap, tip);
                    let known = pool.get(tx.hash()).is_some();
                    let account = rich(model.nonce(from));
                    let got = pool.add(tx.clone(), account);
                    if known {
                        prop_assert_eq!(got, Err(Rejection::AlreadyKnown));
                    } else {
                        prop_assert_eq!(got.is_ok(), model.add(from, tx), "{:?}", got);
                    }
                }
                Step::Include { from, count } => {
                    *model.nonces.entry(from).or_default() += count;
                    model.height += 1;
                }
                Step::Blocks(count) => model.height += count,
                Step::BaseFee(base_fee) => model.base_fee = base_fee,
            }
            model.prune();
            let nonces = model.nonces.clone();
            let account_at = |address: Address| {
                rich(nonces.get(&(address.0[0] - 1)).copied().unwrap_or(0))
            };
            pool.on_block(model.height, model.base_fee, account_at);
            let got: Vec<_> =
                pool.best(model.base_fee, EVERYTHING, account_at).iter().map(|tx| *tx.hash()).collect();
            prop_assert_eq!(got, model.best());
            prop_assert_eq!(pool.len(), model.waiting.len());
            prop_assert_eq!(pool.content().count(), model.waiting.len());
            let bytes: usize = model.waiting.values().map(|(tx, ..)| tx.encode_2718_len()).sum();
            prop_assert_eq!(pool.bytes(), bytes);
            for from in 0..4 {
                let mut next = model.nonce(from);
                while model.waiting.contains_key(&(from, next)) {
                    next += 1;
                }
                prop_assert_eq!(pool.next_nonce(sender(from), model.nonce(from)), next);
            }
        }
    }

    /// However transactions come in, the limits hold and a refusal changes nothing.
    #[test]
    fn the_limits_always_hold(
        adds in proptest::collection::vec((0u8..8, 0u64..6, 1u128..50, 0u128..50), 1..120)
    ) {
        let limits = Limits { per_sender: 4, transactions: 10, bytes: 1_200, lifetime_blocks: 9, ..Limits::default() };
        let mut pool = pool(limits);
        for (from, nonce, fee_cap, tip) in adds {
            let before: Vec<_> = pool.content().collect();
            let tx = tx(from, nonce, fee_cap, tip);
            match pool.add(tx.clone(), rich(0)) {
                Err(_) => prop_assert_eq!(before, pool.content().collect::<Vec<_>>()),
                Ok(added) => {
                    prop_assert!(pool.get(tx.hash()).is_some());
                    for gone in added.evicted.iter().chain(&added.replaced) {
                        prop_assert!(pool.get(gone).is_none());
                    }
                    let left = before.len() - added.evicted.len() - usize::from(added.replaced.is_some());
                    prop_assert_eq!(pool.len(), left + 1);
                }
            }
            prop_assert!(pool.len() <= limits.transactions && pool.bytes() <= limits.bytes);
            let per_sender = (0..8).map(|from| {
                pool.content().filter(|(_, tx)| tx.signer() == sender(from)).count()
            });
            prop_assert!(per_sender.max().unwrap_or(0) <= limits.per_sender);
        }
    }
}
