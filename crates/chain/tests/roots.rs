//! State roots against a second implementation, over random histories.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking and reports by printing"
)]

mod support;

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::root::{state_root_unhashed, storage_root_unhashed};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY, TrieAccount};
use og_chain::{At, Chain, ExecutedBlock, Storage};
use proptest::prelude::*;
use support::*;

/// Builds the whole state trie anew from flat state, with `alloy-trie`.
fn full_root(chain: &Chain, at_block: At, accounts: &[Address], slots: &[B256]) -> B256 {
    let mut state = BTreeMap::new();
    for &address in accounts {
        let Some(account) = chain.account(address, at_block).unwrap() else { continue };
        let storage: Vec<(B256, U256)> = slots
            .iter()
            .map(|slot| {
                (*slot, U256::from_be_bytes(chain.storage(address, *slot, at_block).unwrap().0))
            })
            .filter(|(_, value)| !value.is_zero())
            .collect();
        let storage_root = storage_root_unhashed(storage);
        assert_eq!(storage_root, account.storage_root, "storage of {address}");
        state.insert(address, TrieAccount { storage_root, ..account });
    }
    state_root_unhashed(state)
}

fn addresses() -> Vec<Address> {
    let built_in = [
        alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS,
        og_contracts::addresses::TEE_VERIFIER_PRECOMPILE,
        og_contracts::addresses::EVIDENCE_PRECOMPILE,
        og_contracts::addresses::INFERENCE_PRECOMPILE,
        MINER,
    ];
    let mut all: Vec<Address> = built_in.into();
    all.extend((0..5).map(|index| key(index).address()));
    all.extend((0..=255).map(at));
    all.extend((0..40).flat_map(|nonce| (0..5).map(move |k| key(k).address().create(nonce))));
    all.sort_unstable();
    all.dedup();
    all
}

/// Slots that the tests write, the history contract's among them (it counts blocks from 0).
fn slots() -> Vec<B256> {
    (0..64_u64).map(|slot| B256::from(U256::from(slot))).collect()
}

#[test]
fn known_roots() {
    assert_eq!(EMPTY_ROOT_HASH, keccak256([0x80]));
    assert_eq!(KECCAK_EMPTY, og_chain::EMPTY_CODE_HASH);
    let chain = chain();
    let root = chain.head().header().state_root;
    assert_eq!(full_root(&chain, At::Latest, &addresses(), &slots()), root);
}

#[derive(Clone, Debug)]
enum Step {
    Transfer { to: u8 },
    Write { contract: u8, slot: u8, value: u8 },
    Create,
    CreateAndDestroy,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<u8>().prop_map(|to| Step::Transfer { to }),
        (0..2_u8, 0..24_u8, 0..3_u8).prop_map(|(contract, slot, value)| Step::Write {
            contract,
            slot,
            value
        }),
        Just(Step::Create),
        Just(Step::CreateAndDestroy),
    ]
}

fn transactions(
    nonces: &mut [u64; 5],
    steps: &[(u8, Step)],
) -> Vec<og_chain::Recovered<og_chain::TxEnvelope>> {
    let mut out = Vec::new();
    for (from, step) in steps {
        let sender = u64::from(from % 5);
        let nonce = &mut nonces[usize::from(from % 5)];
        let tx = match step {
            Step::Transfer { to } => Tx::transfer(sender, *nonce, at(*to), 1).gas(100_000),
            Step::Write { contract, slot, value } => {
                let target = if *contract == 0 { at(0xc0) } else { at(0xd7) };
                Tx::call(sender, *nonce, target, words(&[u64::from(*slot), u64::from(*value)]))
            }
            Step::Create => Tx::create(sender, *nonce, deploy(STORE)),
            Step::CreateAndDestroy => {
                let code = Bytes::from_static(&[0x60, 1, 0x60, 1, 0x55, 0x60, 0, 0xff]);
                Tx::create(sender, *nonce, code)
            }
        };
        *nonce += 1;
        out.push(tx.legacy());
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random blocks, some finalised at once and some built on pending ones: every root equals a fresh full build,
    /// a second chain agrees, and the past stays readable.
    #[test]
    fn every_root_equals_a_full_build(
        blocks in prop::collection::vec(
            (prop::collection::vec((any::<u8>(), step()), 0..6), any::<bool>()), 1..7),
    ) {
        let mut genesis = genesis();
        genesis.alloc.insert(at(0xd7), contract(STORE));
        let chain = Chain::open(&Storage::Memory, genesis.clone()).unwrap();
        let voter = Chain::open(&Storage::Memory, genesis).unwrap();
        let (addresses, slots) = (addresses(), slots());
        let mut nonces = [0; 5];
        let mut parent = chain.head().hash;
        let mut made: Vec<std::sync::Arc<ExecutedBlock>> = Vec::new();
        for (steps, finalize) in &blocks {
            let candidates = transactions(&mut nonces, steps);
            let time = chain.head().timestamp_ms + 1000;
            let proposal = chain.propose(request(parent, time, candidates)).unwrap();
            prop_assert!(proposal.rejected.is_empty());
            let block = proposal.executed;
            let root = full_root(&chain, At::Hash(block.hash), &addresses, &slots);
            prop_assert_eq!(root, block.header().state_root);
            prop_assert_eq!(&*voter.execute(&block.block).unwrap(), &*block);
            parent = block.hash;
            made.push(block);
            if *finalize {
                chain.finalize(parent, None).unwrap();
            }
        }
        chain.finalize(parent, None).unwrap();
        voter.finalize(parent, None).unwrap();
        for block in &made {
            let at_block = At::Number(block.number());
            let root = full_root(&voter, at_block, &addresses, &slots);
            prop_assert_eq!(root, block.header().state_root);
        }
    }
}
