//! Blocks: built, checked, finalised, kept.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking and reports by printing"
)]

mod support;

use std::sync::Arc;

use alloy_consensus::{Header, Signed, TxEip4844, TxEip4844Variant};
use alloy_primitives::{Address, B256, Bloom, Bytes, Signature, TxKind, U256, keccak256};
use og_chain::{
    At, Block, BlockError, CallRequest, CallResult, Chain, Error, Genesis, Recovered, Storage,
    TxEnvelope, TxError, block_hash, decode_block, encode_block,
};
use support::*;

#[test]
fn the_genesis_hash_commits_to_everything_in_the_description() {
    let first = chain();
    assert_eq!(first.genesis_hash(), chain().genesis_hash());
    assert_eq!(first.genesis_hash(), genesis().hash().expect("hashes"));
    assert_eq!(first.head().hash, first.genesis_hash());
    let text = serde_json::to_string(&genesis()).expect("writes");
    let read: Genesis = serde_json::from_str(&text).expect("reads");
    assert_eq!(read, genesis());

    let changes: [fn(&mut Genesis); 8] = [
        |g| g.chain_id += 1,
        |g| g.timestamp += 1,
        |g| g.gas_limit += 1,
        |g| g.base_fee_floor += 1,
        |g| g.extra = Bytes::from_static(b"validators"),
        |g| g.trusted_roots.clear(),
        |g| g.trusted_roots[0].simulated = true,
        |g| g.alloc.get_mut(&key(0).address()).unwrap().balance += U256::ONE,
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut other = genesis();
        change(&mut other);
        assert_ne!(other.hash().expect("hashes"), first.genesis_hash(), "change {index}");
    }
    let mut doubled = genesis();
    doubled.trusted_roots.extend(doubled.trusted_roots.clone());
    assert_eq!(doubled.hash().expect("hashes"), first.genesis_hash());
}

#[test]
fn a_genesis_that_cannot_work_is_refused() {
    let changes: [fn(&mut Genesis); 4] = [
        |g| g.base_fee_floor = 0,
        |g| g.gas_limit = 0,
        |g| g.chain_id = 0,
        |g| {
            g.alloc.insert(og_contracts::addresses::TEE_VERIFIER_PRECOMPILE, contract(STORE));
        },
    ];
    for change in changes {
        let mut wrong = genesis();
        change(&mut wrong);
        assert!(matches!(Chain::open(&Storage::Memory, wrong), Err(Error::InvalidGenesis(_))));
    }
}

#[test]
fn a_transfer_moves_value_and_pays_fee_and_tip() {
    let chain = chain();
    let to = at(0x11);
    let block = advance(&chain, vec![Tx::transfer(0, 0, to, 5).eip1559()]);
    assert_eq!(chain.balance(to, At::Latest).unwrap(), U256::from(5));
    let outcome = &block.outcomes[0];
    let base = u128::from(block.header().base_fee_per_gas.unwrap());
    assert_eq!(outcome.gas_used, 21_000);
    assert_eq!(outcome.effective_gas_price, base + GWEI / 10);
    let paid = U256::from(21_000 * outcome.effective_gas_price) + U256::from(5);
    let left = chain.balance(key(0).address(), At::Latest).unwrap();
    assert_eq!(left, U256::from(100) * ether() - paid);
    // The tip goes to the proposer, the base fee to nobody.
    assert_eq!(chain.balance(MINER, At::Latest).unwrap(), U256::from(21_000 * (GWEI / 10)));
    assert_eq!(chain.nonce(key(0).address(), At::Latest).unwrap(), 1);
    assert!(chain.account(at(0x12), At::Latest).unwrap().is_none());
}

#[test]
fn the_four_transaction_types_execute_in_one_block() {
    let chain = chain();
    let delegated = key(4).address();
    let block = advance(
        &chain,
        vec![
            Tx::call(0, 0, at(0xc0), words(&[1, 41])).legacy(),
            Tx::call(0, 1, at(0xc0), words(&[1, 42])).eip2930(),
            Tx::create(1, 0, deploy(STORE)).eip1559(),
            Tx::call(2, 0, delegated, words(&[7, 9])).eip7702(4, 0, at(0xc0)),
        ],
    );
    assert!(block.outcomes.iter().all(|outcome| outcome.receipt.status()));
    let types: Vec<u8> = block.outcomes.iter().map(|o| o.receipt.tx_type() as u8).collect();
    assert_eq!(types, [0, 1, 2, 4]);
    let word = |n: u64| B256::from(U256::from(n));
    assert_eq!(chain.storage(at(0xc0), word(1), At::Latest).unwrap(), word(42));
    let created = key(1).address().create(0);
    assert_eq!(block.outcomes[2].contract_address, Some(created));
    assert_eq!(chain.code(created, At::Latest).unwrap(), Bytes::from_static(STORE));
    // The delegated account ran the store contract on its own storage, and may still send.
    assert_eq!(chain.storage(delegated, word(7), At::Latest).unwrap(), word(9));
    assert_eq!(chain.code(delegated, At::Latest).unwrap().len(), 23);
    advance(&chain, vec![Tx::transfer(4, 1, at(0x11), 1).eip1559()]);
}

fn blob_transaction() -> Recovered<TxEnvelope> {
    let tx = TxEip4844 {
        chain_id: CHAIN_ID,
        gas_limit: 21_000,
        max_fee_per_gas: GWEI,
        max_fee_per_blob_gas: GWEI,
        blob_versioned_hashes: vec![B256::with_last_byte(1)],
        ..Default::default()
    };
    let signed = Signed::new_unhashed(TxEip4844Variant::from(tx), Signature::test_signature());
    Recovered::new_unchecked(TxEnvelope::Eip4844(signed), key(0).address())
}

#[test]
fn blob_transactions_are_refused_in_words() {
    let chain = chain();
    let blob = blob_transaction();
    let text = "transaction type not supported: blob transactions (type 3) are refused, this chain stores no blobs";
    let refused = chain.check_transaction(&blob).unwrap().expect_err("refused");
    assert_eq!(refused.to_string(), text);
    let proposal = propose_all(&chain, vec![blob.clone()]);
    assert_eq!(proposal.rejected, vec![(*blob.inner().tx_hash(), TxError::BlobsUnsupported)]);

    let mut block = propose(&chain, vec![]).block.clone();
    block.body.transactions.push(blob.into_inner());
    reseal_transactions(&mut block);
    let refused = support::chain().execute(&block).expect_err("refused");
    assert!(matches!(refused, BlockError::Transaction { index: 0, .. }), "{refused}");
}

fn reseal_transactions(block: &mut Block) {
    block.header.transactions_root =
        alloy_consensus::proofs::calculate_transaction_root(&block.body.transactions);
}

#[test]
fn thirty_million_gas_is_accepted_and_the_block_limit_holds() {
    let chain = chain();
    let big = Tx::call(0, 0, at(0xc4), Bytes::new()).gas(30_000_000).legacy();
    assert_eq!(chain.check_transaction(&big).unwrap(), Ok(()));
    let block = propose(&chain, vec![big]);
    assert!(!block.outcomes[0].receipt.status());
    assert_eq!(block.header().gas_used, 30_000_000);
    assert_eq!(block.header().gas_limit, 60_000_000);

    let more = Tx::call(0, 0, at(0xc4), Bytes::new()).gas(60_000_001).legacy();
    let expected =
        TxError::GasLimitAboveBlock { gas_limit: 60_000_001, block_gas_limit: 60_000_000 };
    assert_eq!(chain.check_transaction(&more).unwrap(), Err(expected.clone()));
    assert_eq!(propose_all(&chain, vec![more.clone()]).rejected[0].1, expected);

    let spend = |nonce| Tx::call(0, nonce, at(0xc4), Bytes::new()).gas(40_000_000).legacy();
    let proposal = propose_all(&chain, vec![spend(0), spend(1)]);
    assert_eq!(proposal.executed.outcomes.len(), 1);
    assert_eq!(proposal.rejected[0].1, TxError::BlockFull { left: 20_000_000 });
}

#[test]
fn refusals_say_what_clients_look_for() {
    let chain = chain();
    advance(&chain, vec![Tx::transfer(0, 0, at(0x11), 1).legacy()]);
    let check = |tx: &Recovered<TxEnvelope>| chain.check_transaction(tx).unwrap();
    let refuse = |tx: Recovered<TxEnvelope>| {
        propose_all(&chain, vec![tx]).rejected.pop().expect("refused").1.to_string()
    };
    let low = Tx::transfer(0, 0, at(0x11), 1).legacy();
    assert_eq!(refuse(low.clone()), "nonce too low: next nonce 1, tx nonce 0");
    assert_eq!(check(&low), Err(TxError::NonceTooLow { tx: 0, state: 1 }));
    let high = Tx::transfer(0, 3, at(0x11), 1).legacy();
    assert_eq!(refuse(high.clone()), "nonce too high: next nonce 1, tx nonce 3");
    assert_eq!(check(&high), Ok(()), "a pool may wait for the nonces between");
    let poor = Tx::transfer(9, 0, at(0x11), 1).legacy();
    assert!(
        refuse(poor.clone()).starts_with("insufficient funds for gas * price + value: have 0 want")
    );
    assert!(matches!(check(&poor), Err(TxError::InsufficientFunds { .. })));
    let short = Tx::transfer(0, 1, at(0x11), 1).gas(20_999).legacy();
    let expected = "intrinsic gas too low: gas 20999, minimum needed 21000";
    assert_eq!(refuse(short.clone()), expected);
    assert_eq!(check(&short).expect_err("refused").to_string(), expected);
    // EIP-7623: zero bytes cost 10 gas each at least, 4 in the intrinsic sum.
    let data = Tx::call(0, 1, at(0x11), vec![0; 100]).gas(21_900).legacy();
    assert_eq!(check(&data), Err(TxError::IntrinsicGas { gas_limit: 21_900, needed: 22_000 }));
    let tx = alloy_consensus::TxLegacy {
        chain_id: Some(1),
        nonce: 1,
        gas_price: GWEI,
        gas_limit: 21_000,
        to: TxKind::Call(at(0x11)),
        ..Default::default()
    };
    let elsewhere = sign(tx.clone(), &key(0));
    assert_eq!(check(&elsewhere), Err(TxError::WrongChain { expected: CHAIN_ID }));
    assert_eq!(refuse(elsewhere), "invalid chain id for signer: this chain is 10740");
    let cheap =
        sign(alloy_consensus::TxLegacy { chain_id: Some(CHAIN_ID), gas_price: 1, ..tx }, &key(0));
    assert!(refuse(cheap.clone()).starts_with("max fee per gas less than block base fee: baseFee"));
    assert!(matches!(check(&cheap), Err(TxError::FeeCapBelowBaseFee { .. })));
    let large = Tx::create(0, 1, vec![0; 49_153].into()).gas(5_000_000).legacy();
    assert_eq!(check(&large), Err(TxError::InitCodeTooLarge));
    assert_eq!(refuse(large), "max initcode size exceeded");
}

#[test]
fn what_one_chain_proposes_another_executes_to_the_same_block() {
    let (proposer, voter) = (chain(), chain());
    for round in 0..3_u64 {
        let block = propose(
            &proposer,
            vec![
                Tx::transfer(0, round, at(0x11), 7).legacy(),
                Tx::call(1, round, at(0xc0), words(&[round, round + 1])).eip1559(),
                Tx::call(2, round, at(0xc1), words(&[round])).eip2930(),
            ],
        );
        let bytes = encode_block(&block.block);
        let decoded = decode_block(&bytes).expect("reads");
        let executed = voter.execute(&decoded).expect("valid");
        assert_eq!(*executed, *block);
        assert!(Arc::ptr_eq(&executed, &voter.execute(&decoded).expect("again")));
        for chain in [&proposer, &voter] {
            chain.finalize(block.hash, None).expect("finalises");
        }
        let again = voter.execute(&decoded).expect("a finalised block is still valid");
        assert_eq!(*again, *block, "read back from the tables");
    }
    assert_eq!(proposer.head(), voter.head());
}

/// A header field and a change to it.
type Change = (&'static str, Box<dyn Fn(&mut Header)>);

#[test]
fn a_block_with_any_changed_field_is_refused() {
    let proposer = chain();
    let good = propose(
        &proposer,
        vec![
            Tx::transfer(0, 0, at(0x11), 7).legacy(),
            Tx::call(2, 0, at(0xc1), words(&[3])).eip1559(),
        ],
    );
    let one = B256::with_last_byte(1);
    let changes: Vec<Change> = vec![
        ("parentHash", Box::new(move |h| h.parent_hash = one)),
        ("sha3Uncles", Box::new(move |h| h.ommers_hash = one)),
        ("stateRoot", Box::new(move |h| h.state_root = one)),
        ("transactionsRoot", Box::new(move |h| h.transactions_root = one)),
        ("receiptsRoot", Box::new(move |h| h.receipts_root = one)),
        ("logsBloom", Box::new(|h| h.logs_bloom = Bloom::repeat_byte(1))),
        ("difficulty", Box::new(|h| h.difficulty = U256::ONE)),
        ("number", Box::new(|h| h.number += 1)),
        ("gasLimit", Box::new(|h| h.gas_limit += 1)),
        ("gasUsed", Box::new(|h| h.gas_used += 1)),
        ("mixHash", Box::new(move |h| h.mix_hash = one)),
        ("nonce", Box::new(|h| h.nonce = [1; 8].into())),
        ("baseFeePerGas", Box::new(|h| h.base_fee_per_gas = Some(1))),
        ("baseFeePerGas", Box::new(|h| h.base_fee_per_gas = None)),
        ("withdrawalsRoot", Box::new(move |h| h.withdrawals_root = Some(one))),
        ("blobGasUsed", Box::new(|h| h.blob_gas_used = Some(1))),
        ("excessBlobGas", Box::new(|h| h.excess_blob_gas = None)),
        ("parentBeaconBlockRoot", Box::new(move |h| h.parent_beacon_block_root = Some(one))),
        ("requestsHash", Box::new(move |h| h.requests_hash = Some(one))),
        ("hash", Box::new(move |h| h.block_access_list_hash = Some(one))),
        ("stateRoot", Box::new(|h| h.beneficiary = Address::ZERO)),
        ("extraData", Box::new(|h| h.extra_data = Bytes::new())),
        ("extraData", Box::new(|h| h.extra_data = vec![0, 0, 1, 1].into())),
        ("time", Box::new(|h| h.timestamp -= 1)),
    ];
    let voter = chain();
    for (name, change) in &changes {
        let mut block = good.block.clone();
        change(&mut block.header);
        let error = voter.execute(&block).expect_err(name);
        match (&error, *name) {
            (BlockError::Header { field, .. }, name) => assert_eq!(*field, name),
            (BlockError::UnknownParent { .. }, "parentHash")
            | (BlockError::ExtraData, "extraData")
            | (BlockError::Timestamp { .. }, "time") => {}
            _ => panic!("{name}: {error}"),
        }
    }
    // The body must be the one the header commits to, and must execute.
    let mut block = good.block.clone();
    block.body.transactions.swap(0, 1);
    assert!(matches!(
        voter.execute(&block),
        Err(BlockError::Header { field: "transactionsRoot", .. })
    ));
    let mut block = good.block.clone();
    let twice = block.body.transactions[0].clone();
    block.body.transactions.push(twice);
    reseal_transactions(&mut block);
    assert!(matches!(
        voter.execute(&block),
        Err(BlockError::Transaction { index: 2, source: TxError::NonceTooLow { .. }, .. })
    ));
    let mut block = good.block.clone();
    block.body.ommers.push(Header::default());
    assert!(matches!(voter.execute(&block), Err(BlockError::Body("ommers"))));
    let mut block = good.block.clone();
    block.body.withdrawals = None;
    assert!(matches!(voter.execute(&block), Err(BlockError::Body(_))));
    assert_eq!(voter.execute(&good.block).expect("the good one still is").hash, good.hash);
}

#[test]
fn forks_of_pending_blocks_live_side_by_side_until_one_is_final() {
    let chain = chain();
    let genesis = chain.head();
    let on = |parent: B256, candidates| {
        let time = genesis.timestamp_ms + 1000;
        chain.propose(request(parent, time, candidates)).expect("works").executed
    };
    let a1 = on(genesis.hash, vec![Tx::transfer(0, 0, at(0x11), 1).legacy()]);
    let b1 = on(genesis.hash, vec![Tx::transfer(0, 0, at(0x11), 2).legacy()]);
    let a2 = on(a1.hash, vec![Tx::transfer(0, 1, at(0x11), 10).legacy()]);
    let a3 = on(a2.hash, vec![Tx::call(1, 0, at(0xc0), words(&[1, 1])).legacy()]);
    let b2 = on(b1.hash, vec![Tx::transfer(0, 1, at(0x11), 20).legacy()]);
    let balance = |at_block| chain.balance(at(0x11), at_block).unwrap();
    assert_eq!(balance(At::Hash(a2.hash)), U256::from(11));
    assert_eq!(balance(At::Hash(b2.hash)), U256::from(22));
    assert_eq!(balance(At::Latest), U256::ZERO);
    assert_eq!(chain.block(At::Pending).unwrap().unwrap().hash, a3.hash);

    let certificate = Bytes::from_static(b"certificate");
    let done = chain.finalize(a2.hash, Some(&certificate)).expect("finalises");
    assert_eq!(done.iter().map(|block| block.hash).collect::<Vec<_>>(), [a1.hash, a2.hash]);
    assert_eq!(chain.head().hash, a2.hash);
    assert_eq!(balance(At::Latest), U256::from(11));
    assert!(chain.pending(b1.hash).is_none() && chain.pending(b2.hash).is_none());
    assert!(chain.pending(a3.hash).is_some());
    assert!(matches!(chain.balance(at(0x11), At::Hash(b2.hash)), Err(Error::UnknownBlock)));
    assert_eq!(chain.certificate(1).unwrap(), None);
    assert_eq!(chain.certificate(2).unwrap(), Some(certificate.clone()));
    assert_eq!(chain.certificate_at_or_after(1).unwrap(), Some((2, certificate.clone())));
    assert_eq!(chain.certificate_at_or_after(3).unwrap(), None);

    // Again: nothing happens, but a missing certificate is added and a present one stays.
    assert_eq!(chain.finalize(a1.hash, Some(&certificate)).unwrap().len(), 0);
    assert_eq!(chain.certificate(1).unwrap(), Some(certificate.clone()));
    chain.finalize(a1.hash, Some(&Bytes::from_static(b"other"))).unwrap();
    assert_eq!(chain.certificate(1).unwrap(), Some(certificate));
    // A late block on the losing side has no parent here.
    assert!(matches!(chain.execute(&b2.block), Err(BlockError::UnknownParent { .. })));
    assert!(matches!(chain.finalize(b2.hash, None), Err(Error::UnknownBlock)));
    let late = chain.propose(request(b1.hash, 0, vec![]));
    assert!(matches!(late, Err(Error::UnknownBlock)));
    // What waited on the winning side goes on.
    chain.finalize(a3.hash, None).expect("finalises");
    assert_eq!(
        chain.storage(at(0xc0), B256::with_last_byte(1), At::Latest).unwrap(),
        B256::with_last_byte(1)
    );
}

#[test]
fn a_file_keeps_what_is_final_and_forgets_what_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = Storage::File(folder.path().join("chain.redb"));
    let (head, pending) = {
        let chain = Chain::open(&storage, genesis()).expect("opens");
        for nonce in 0..5 {
            advance(&chain, vec![Tx::call(0, nonce, at(0xc0), words(&[1, nonce + 1])).legacy()]);
        }
        let pending = propose(&chain, vec![Tx::transfer(0, 5, at(0x11), 1).legacy()]);
        (chain.head(), pending)
    };
    let chain = Chain::open(&storage, genesis()).expect("opens again");
    assert_eq!(chain.head(), head);
    assert!(chain.pending(pending.hash).is_none());
    assert_eq!(chain.balance(at(0x11), At::Latest).unwrap(), U256::ZERO);
    for number in 1..=5_u64 {
        let value = chain.storage(at(0xc0), B256::with_last_byte(1), At::Number(number)).unwrap();
        assert_eq!(value, B256::from(U256::from(number)), "at {number}");
    }
    // The lost block comes back through consensus.
    let again = chain.execute(&pending.block).expect("executes");
    assert_eq!(*again, *pending);
    chain.finalize(pending.hash, None).expect("finalises");
    drop(chain);
    let mut other = genesis();
    other.timestamp += 1;
    assert!(matches!(Chain::open(&storage, other), Err(Error::GenesisMismatch { .. })));
    let chain = Chain::open(&storage, genesis()).expect("opens");
    assert_eq!(chain.head().hash, pending.hash);
}

#[test]
fn time_may_stand_still_but_not_go_back() {
    let chain = chain();
    let head = chain.head();
    let first =
        chain.propose(request(head.hash, head.timestamp_ms + 1_234, vec![])).unwrap().executed;
    assert_eq!(first.timestamp_ms(), head.timestamp_ms + 1_234);
    assert_eq!(first.header().timestamp, START + 1);
    assert_eq!(first.header().extra_data.as_ref(), [0, 234, 1]);
    // A proposer whose clock lags is lifted to its parent's time.
    let second = chain.propose(request(first.hash, 0, vec![])).unwrap().executed;
    assert_eq!(second.timestamp_ms(), first.timestamp_ms());
    let mut earlier = second.block.clone();
    earlier.header.extra_data = vec![0, 233, 1].into();
    assert!(matches!(chain.execute(&earlier), Err(BlockError::Timestamp { .. })));
}

#[test]
fn the_base_fee_follows_use_and_never_leaves_the_floor() {
    let chain = chain();
    let floor = chain.genesis().base_fee_floor;
    assert_eq!(chain.next_base_fee(At::Latest).unwrap(), floor);
    let block = advance(
        &chain,
        vec![
            Tx::call(0, 0, at(0xc4), Bytes::new()).gas(30_000_000).legacy(),
            Tx::call(1, 0, at(0xc4), Bytes::new()).gas(30_000_000).legacy(),
        ],
    );
    assert_eq!(block.header().gas_used, 60_000_000);
    let risen = advance(&chain, vec![]).header().base_fee_per_gas.unwrap();
    assert_eq!(risen, floor + floor / 8);
    for _ in 0..4 {
        let fee = advance(&chain, vec![]).header().base_fee_per_gas.unwrap();
        assert!(fee >= floor);
    }
    assert_eq!(chain.head().header().base_fee_per_gas, Some(floor));
}

#[test]
fn receipts_and_transactions_hash_to_the_roots_of_the_header() {
    let chain = chain();
    let mut candidates: Vec<_> =
        (0..20).map(|n| Tx::call(0, n, at(0xc1), words(&[n])).legacy()).collect();
    candidates.push(Tx::call(1, 0, at(0xc2), Bytes::from_static(b"why")).eip1559());
    candidates.push(Tx::call(2, 0, at(0xc1), words(&[5])).eip2930());
    let block = advance(&chain, candidates);
    let receipts: Vec<_> = block.outcomes.iter().map(|o| o.receipt.clone()).collect();
    assert_eq!(
        block.header().receipts_root,
        alloy_trie::root::ordered_trie_root_with_encoder(&receipts, |receipt, out| {
            alloy_eips::eip2718::Encodable2718::encode_2718(receipt, out);
        })
    );
    let bloom = block.logs().fold(Bloom::ZERO, |mut bloom, log| {
        bloom.accrue_log(log);
        bloom
    });
    assert_eq!(block.header().logs_bloom, bloom);
    assert_eq!(block.logs().count(), 21);
    assert!(!block.outcomes[20].receipt.status());
    assert_eq!(block.outcomes[21].first_log_index, 20);
    let total: u64 = block.outcomes.iter().map(|o| o.gas_used).sum();
    assert_eq!(block.header().gas_used, total);
    let read = chain.block(At::Number(1)).unwrap().unwrap();
    assert_eq!(*read, *block);
    assert_eq!(block.hash, keccak256(alloy_rlp::encode(block.header())));
    assert_eq!(block.hash, block_hash(block.header()));
}

#[test]
fn the_history_contract_serves_parents_hashes() {
    let chain = chain();
    for _ in 0..3 {
        advance(&chain, vec![]);
    }
    let history = alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
    for number in 0..3_u64 {
        let request =
            CallRequest { to: Some(history), input: words(&[number]), ..Default::default() };
        let outcome = chain.call(&request, At::Latest, 0).expect("runs");
        let hash = chain.canonical_hash(number).unwrap().unwrap();
        assert_eq!(outcome.result, CallResult::Success { output: hash.to_vec().into() });
    }
}

#[test]
fn a_contract_destroyed_in_its_own_transaction_leaves_nothing() {
    let chain = chain();
    let code = Bytes::from_static(&[0x60, 0x01, 0x60, 0x00, 0x55, 0x60, 0x00, 0xff]);
    let block = advance(&chain, vec![Tx::create(0, 0, code).legacy()]);
    let created = block.outcomes[0].contract_address.unwrap();
    assert!(chain.account(created, At::Latest).unwrap().is_none());
    assert_eq!(chain.storage(created, B256::ZERO, At::Latest).unwrap(), B256::ZERO);
    let voter = support::chain();
    assert_eq!(*voter.execute(&block.block).expect("valid"), *block);
}
