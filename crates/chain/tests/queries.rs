//! Calls, estimates, logs, fees, proofs.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking and reports by printing"
)]

mod support;

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes, U256, keccak256};
use alloy_trie::proof::verify_proof;
use alloy_trie::{Nibbles, TrieAccount};
use og_chain::{
    AccountOverride, At, CALL_GAS_MAX, CallError, CallRequest, CallResult, Chain, Error, LogFilter,
    TxError, logs_of, revert_reason,
};
use support::*;

fn to(address: alloy_primitives::Address, input: impl Into<Bytes>) -> CallRequest {
    CallRequest { to: Some(address), input: input.into(), ..Default::default() }
}

fn word(value: u64) -> B256 {
    B256::from(U256::from(value))
}

#[test]
fn a_call_returns_reverts_or_halts_and_changes_nothing() {
    let chain = chain();
    let now = START + 50;
    let outcome = chain.call(&to(at(0xc3), Bytes::new()), At::Latest, now).unwrap();
    assert_eq!(outcome.result, CallResult::Success { output: words(&[now]) });
    // The block's own time when it is later, and at a block of the past.
    let early = chain.call(&to(at(0xc3), Bytes::new()), At::Latest, 5).unwrap();
    assert_eq!(early.result, CallResult::Success { output: words(&[START]) });
    advance(&chain, vec![]);
    let past = chain.call(&to(at(0xc3), Bytes::new()), At::Number(0), now).unwrap();
    assert_eq!(past.result, CallResult::Success { output: words(&[START]) });

    let mut text = alloy_primitives::hex!("08c379a0").to_vec();
    text.extend_from_slice(&words(&[32, 5]));
    text.extend_from_slice(b"nope!");
    text.resize(4 + 96, 0);
    let outcome = chain.call(&to(at(0xc2), text.clone()), At::Latest, now).unwrap();
    let CallResult::Revert { output } = outcome.result else { panic!("{outcome:?}") };
    assert_eq!(output, Bytes::from(text));
    assert_eq!(revert_reason(&output).as_deref(), Some("nope!"));
    assert_eq!(revert_reason(b""), None);

    let outcome = chain.call(&to(at(0xc4), Bytes::new()), At::Latest, now).unwrap();
    assert!(matches!(outcome.result, CallResult::Halt { .. }), "{outcome:?}");
    assert_eq!(outcome.gas_used, CALL_GAS_MAX);
    let outcome = chain.call(&to(at(0xc0), words(&[1, 2])), At::Latest, now).unwrap();
    assert!(matches!(outcome.result, CallResult::Success { .. }));
    assert_eq!(chain.storage(at(0xc0), word(1), At::Latest).unwrap(), B256::ZERO);
    let outcome = chain.call(&to(at(0xc1), words(&[9])), At::Latest, now).unwrap();
    assert_eq!(outcome.logs.len(), 1);
    let unknown = chain.call(&to(at(0xc1), words(&[9])), At::Number(9), now);
    assert!(matches!(unknown, Err(CallError::Internal(Error::UnknownBlock))));
}

#[test]
fn a_call_may_come_from_a_contract_but_must_be_affordable() {
    let chain = chain();
    let mut request = to(at(0x11), Bytes::new());
    request.from = Some(at(0xc0));
    assert!(chain.call(&request, At::Latest, 0).is_ok());
    request.value = U256::ONE;
    let error = chain.call(&request, At::Latest, 0).expect_err("no funds");
    assert!(matches!(error, CallError::Rejected(TxError::InsufficientFunds { .. })), "{error}");
    request.from = Some(key(0).address());
    assert!(chain.call(&request, At::Latest, 0).is_ok());
    request.gas_price = Some(1);
    let error = chain.call(&request, At::Latest, 0).expect_err("too cheap");
    assert!(matches!(error, CallError::Rejected(TxError::FeeCapBelowBaseFee { .. })), "{error}");
    request.gas_price = Some(GWEI);
    request.gas = Some(21_000);
    assert!(chain.call(&request, At::Latest, 0).is_ok());
    request.max_fee_per_gas = Some(GWEI);
    assert!(chain.call(&request, At::Latest, 0).is_err(), "both kinds of price");
    // A creation without a receiver.
    let create = CallRequest { input: deploy(STORE), ..Default::default() };
    let outcome = chain.call(&create, At::Latest, 0).unwrap();
    assert_eq!(outcome.result, CallResult::Success { output: Bytes::from_static(STORE) });
}

#[test]
fn overrides_pretend_and_are_forgotten() {
    let chain = chain();
    let reader =
        Bytes::from_static(&[0x60, 0, 0x35, 0x54, 0x60, 0, 0x52, 0x60, 0x20, 0x60, 0, 0xf3]);
    advance(&chain, vec![Tx::call(0, 0, at(0xc0), words(&[1, 11])).legacy()]);
    let mut request = to(at(0xc0), words(&[1]));
    let pretend = AccountOverride { code: Some(reader), ..Default::default() };
    request.overrides.insert(at(0xc0), pretend);
    let run = |request: &CallRequest| chain.call(request, At::Latest, 0).unwrap().result;
    assert_eq!(run(&request), CallResult::Success { output: words(&[11]) });
    let pretend = request.overrides.get_mut(&at(0xc0)).unwrap();
    pretend.state_diff.insert(word(1), word(77));
    assert_eq!(run(&request), CallResult::Success { output: words(&[77]) });
    let pretend = request.overrides.get_mut(&at(0xc0)).unwrap();
    pretend.state = Some(BTreeMap::from([(word(2), word(5))]));
    assert!(matches!(chain.call(&request, At::Latest, 0), Err(CallError::InvalidOverride { .. })));
    request.overrides.get_mut(&at(0xc0)).unwrap().state_diff.clear();
    assert_eq!(run(&request), CallResult::Success { output: words(&[0]) });
    let mut rich = to(at(0x11), Bytes::new());
    rich.from = Some(at(0x99));
    rich.value = ether();
    assert!(chain.call(&rich, At::Latest, 0).is_err());
    let pretend = AccountOverride { balance: Some(ether()), ..Default::default() };
    rich.overrides.insert(at(0x99), pretend);
    assert!(chain.call(&rich, At::Latest, 0).is_ok());
    assert_eq!(chain.balance(at(0x99), At::Latest).unwrap(), U256::ZERO);
}

/// Sends with the estimated gas, and with a tenth less.
fn estimate_holds(chain: &Chain, request: &CallRequest, nonce: u64) -> u64 {
    let gas = chain.estimate_gas(request, At::Latest, 0).expect("estimates");
    let send = |gas| {
        let mut tx = Tx::call(0, nonce, request.to.unwrap_or_default(), request.input.clone());
        if request.to.is_none() {
            tx.to = alloy_primitives::TxKind::Create;
        }
        tx.value = request.value;
        let proposal = propose_all(chain, vec![tx.gas(gas).legacy()]);
        proposal
            .executed
            .outcomes
            .first()
            .is_some_and(|o| alloy_consensus::TxReceipt::status(&o.receipt))
    };
    assert!(send(gas), "{gas} is enough for {request:?}");
    assert!(!send(gas - gas / 10), "{gas} is near the least for {request:?}");
    gas
}

#[test]
fn an_estimate_is_enough_and_not_much_more() {
    let chain = chain();
    let from = Some(key(0).address());
    let mut transfer = to(at(0x11), Bytes::new());
    transfer.from = from;
    transfer.value = U256::ONE;
    assert_eq!(estimate_holds(&chain, &transfer, 0), 21_000);
    let mut store = to(at(0xc0), words(&[1, 2]));
    store.from = from;
    let first = estimate_holds(&chain, &store, 0);
    assert!((43_000..46_000).contains(&first), "{first}");
    let create = CallRequest { from, input: deploy(STORE), ..Default::default() };
    estimate_holds(&chain, &create, 0);
    // An inner call gets 63/64 of what is there (EIP-150), so more must be sent than is used.
    let mut nested = to(at(0xd0), words(&[5, 6]));
    nested.from = from;
    let mut genesis = genesis();
    genesis.alloc.insert(at(0xd0), contract(&forward(at(0xd1), 0xf4)));
    genesis.alloc.insert(at(0xd1), contract(&forward(at(0xc0), 0xf4)));
    let chain = Chain::open(&og_chain::Storage::Memory, genesis).unwrap();
    estimate_holds(&chain, &nested, 0);
    // Clearing a slot is refunded after it was paid for.
    advance(&chain, vec![Tx::call(0, 0, at(0xc0), words(&[1, 2])).legacy()]);
    let mut clear = to(at(0xc0), words(&[1, 0]));
    clear.from = from;
    let gas = estimate_holds(&chain, &clear, 1);
    let used = chain.call(&clear, At::Latest, 0).unwrap().gas_used;
    assert!(gas > used, "{gas} covers what is refunded later, {used} is charged");
}

#[test]
fn an_estimate_that_cannot_succeed_says_why() {
    let chain = chain();
    let estimate = |request: &CallRequest| {
        chain.estimate_gas(request, At::Latest, 0).expect_err("cannot succeed")
    };
    let revert = estimate(&to(at(0xc2), Bytes::from_static(b"data")));
    assert!(matches!(&revert, CallError::Reverted { output } if output.as_ref() == b"data"));
    assert_eq!(revert.to_string(), "execution reverted");
    let endless = estimate(&to(at(0xc4), Bytes::new()));
    assert_eq!(endless.to_string(), "gas required exceeds allowance (60000000)");
    let mut short = to(at(0xc0), words(&[1, 2]));
    short.gas = Some(30_000);
    assert_eq!(estimate(&short).to_string(), "gas required exceeds allowance (30000)");
    short.gas = Some(1_000);
    assert_eq!(estimate(&short).to_string(), "gas required exceeds allowance (1000)");
    let mut poor = to(at(0xc0), words(&[1, 2]));
    poor.from = Some(at(0x99));
    poor.gas_price = Some(GWEI);
    assert_eq!(estimate(&poor).to_string(), "gas required exceeds allowance (0)");
    poor.value = U256::ONE;
    assert!(estimate(&poor).to_string().starts_with("insufficient funds for gas * price + value"));
}

#[test]
fn an_access_list_names_what_is_touched() {
    let mut genesis = genesis();
    genesis.alloc.insert(at(0xd1), contract(&forward(at(0xc0), 0xf4)));
    let chain = Chain::open(&og_chain::Storage::Memory, genesis).unwrap();
    let mut request = to(at(0xd1), words(&[7, 8]));
    request.from = Some(key(0).address());
    let (list, outcome) = chain.create_access_list(&request, At::Latest, 0).unwrap();
    assert!(matches!(outcome.result, CallResult::Success { .. }));
    let items: Vec<_> = list.0.iter().map(|i| (i.address, i.storage_keys.clone())).collect();
    assert_eq!(items, [(at(0xc0), vec![]), (at(0xd1), vec![word(7)])]);
    let (list, _) = chain.create_access_list(&to(at(0x11), Bytes::new()), At::Latest, 0).unwrap();
    assert!(list.is_empty());
}

#[test]
fn logs_are_found_by_address_topic_and_range() {
    let chain = chain();
    for n in 0..6_u64 {
        let mut candidates = vec![Tx::call(0, n, at(0xc1), words(&[n % 2])).legacy()];
        if n == 3 {
            candidates.push(Tx::call(1, 0, at(0xc1), words(&[7])).eip1559());
        }
        advance(&chain, candidates);
    }
    let all = LogFilter { to_block: u64::MAX, ..Default::default() };
    let found = chain.logs(&all).unwrap();
    assert_eq!(found.len(), 7);
    assert!(
        found
            .iter()
            .zip(&found[1..])
            .all(|(a, b)| { (a.block_number, a.log_index) < (b.block_number, b.log_index) })
    );
    let seven = LogFilter { topics: [vec![word(7)], vec![], vec![], vec![]], ..all.clone() };
    let found = chain.logs(&seven).unwrap();
    assert_eq!(found.len(), 1);
    let block = chain.block(At::Number(4)).unwrap().unwrap();
    assert_eq!((found[0].block_number, found[0].block_hash), (4, block.hash));
    assert_eq!((found[0].tx_index, found[0].log_index), (1, 1));
    assert_eq!(found[0].tx_hash, *block.block.body.transactions[1].tx_hash());
    assert_eq!(logs_of(&block, &seven), found);
    let place = chain.transaction(found[0].tx_hash).unwrap().unwrap();
    assert_eq!((place.block.number(), place.index), (4, 1));
    assert_eq!(place.transaction().unwrap().signer(), key(1).address());
    assert_eq!(place.outcome().unwrap().first_log_index, 1);

    let either =
        LogFilter { topics: [vec![word(7), word(1)], vec![], vec![], vec![]], ..all.clone() };
    assert_eq!(chain.logs(&either).unwrap().len(), 4);
    let elsewhere = LogFilter { addresses: vec![at(0xc0)], ..seven.clone() };
    assert_eq!(chain.logs(&elsewhere).unwrap(), vec![]);
    let here =
        LogFilter { addresses: vec![at(0xc0), at(0xc1)], from_block: 2, to_block: 3, ..seven };
    assert_eq!(chain.logs(&here).unwrap(), vec![]);
    let second = LogFilter { topics: [vec![], vec![word(7)], vec![], vec![]], ..all.clone() };
    assert_eq!(chain.logs(&second).unwrap(), vec![], "the topic stands at the first place");
    let backwards = LogFilter { from_block: 3, to_block: 2, ..Default::default() };
    assert!(matches!(chain.logs(&backwards), Err(Error::InvalidRange)));
    let ahead = LogFilter { from_block: 100, to_block: 200, ..Default::default() };
    assert_eq!(chain.logs(&ahead).unwrap(), vec![]);
}

#[test]
fn the_fee_history_lists_tips_in_order() {
    let chain = chain();
    advance(
        &chain,
        vec![
            Tx::call(0, 0, at(0xc0), words(&[1, 1])).legacy(),
            Tx::transfer(1, 0, at(0x11), 1).eip1559(),
        ],
    );
    advance(&chain, vec![]);
    let history = chain.fee_history(At::Latest, 10).unwrap();
    assert_eq!(history.iter().map(|block| block.number).collect::<Vec<_>>(), [0, 1, 2]);
    let base = u128::from(history[1].base_fee);
    assert_eq!(history[1].tips[0], (GWEI / 10, 21_000));
    assert_eq!(history[1].tips[1].0, GWEI - base);
    assert_eq!(history[1].gas_used, history[1].tips.iter().map(|tip| tip.1).sum::<u64>());
    assert_eq!(chain.fee_history(At::Number(1), 1).unwrap().len(), 1);
    assert_eq!(chain.fee_history(At::Latest, 0).unwrap(), vec![]);
}

/// Checks an EIP-1186 proof with `alloy-trie`, which shares no code with the trie that made it.
fn check_proof(chain: &Chain, at_block: At, address: alloy_primitives::Address, slots: &[B256]) {
    let block = chain.block(at_block).unwrap().unwrap();
    let proof = chain.proof(address, slots, at_block).unwrap();
    let account: Option<TrieAccount> = proof.account;
    let key = Nibbles::unpack(keccak256(address));
    let value = account.map(alloy_rlp::encode);
    verify_proof(block.header().state_root, key, value, &proof.account_proof).expect("account");
    for (slot, item) in slots.iter().zip(&proof.storage) {
        assert_eq!(*slot, item.key);
        let root = account.map_or(alloy_trie::EMPTY_ROOT_HASH, |account| account.storage_root);
        let value = (!item.value.is_zero()).then(|| alloy_rlp::encode(item.value));
        if root == alloy_trie::EMPTY_ROOT_HASH {
            assert!(item.proof.is_empty() && value.is_none());
        } else {
            let key = Nibbles::unpack(keccak256(slot));
            verify_proof(root, key, value, &item.proof).expect("slot");
        }
        assert_eq!(chain.storage(address, *slot, at_block).unwrap(), B256::from(item.value));
    }
}

#[test]
fn proofs_hold_at_the_head_in_the_past_and_ahead_of_finality() {
    let chain = chain();
    for n in 0..8_u64 {
        advance(
            &chain,
            vec![
                Tx::call(0, 3 * n, at(0xc0), words(&[n, n + 1])).legacy(),
                Tx::call(0, 3 * n + 1, at(0xc0), words(&[n / 2, 0])).legacy(),
                Tx::transfer(0, 3 * n + 2, at(u8::try_from(n).unwrap() + 1), 1).legacy(),
            ],
        );
    }
    let ahead = propose(&chain, vec![Tx::call(0, 24, at(0xc0), words(&[100, 1])).legacy()]);
    let slots: Vec<B256> = (0..9).chain([100, 1000]).map(word).collect();
    let accounts = [at(0xc0), at(0xc1), at(1), at(8), at(0x99), key(0).address()];
    for number in 0..=8 {
        for address in accounts {
            check_proof(&chain, At::Number(number), address, &slots);
        }
    }
    check_proof(&chain, At::Hash(ahead.hash), at(0xc0), &slots);
    check_proof(&chain, At::Pending, key(0).address(), &slots);
    assert!(matches!(chain.proof(at(1), &[], At::Number(9)), Err(Error::UnknownBlock)));
}
