//! Headers, accounts, storage, receipts and logs, against tries built by other code.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]

use alloy_consensus::{
    Eip658Value, Header as AlloyHeader, Receipt as AlloyReceipt, ReceiptEnvelope, ReceiptWithBloom,
};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{
    Address, B64, B256, Bloom, Bytes, Log, LogData, U256, b256, hex, keccak256,
};
use alloy_trie::proof::ProofRetainer;
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, Nibbles, TrieAccount};
use og_light::header::HEADER_LEN_MAX;
use og_light::{
    Account, Error, Header, verify_account, verify_log, verify_receipt, verify_storage,
};

/// A seeded generator, so that a failure repeats.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn word(&mut self) -> B256 {
        B256::from(std::array::from_fn(|_| self.next().to_le_bytes()[0]))
    }

    /// Changes, cuts, lengthens or moves something.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return bytes.push(0);
        }
        let at = self.below(bytes.len());
        match self.below(4) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = self.next().to_le_bytes()[0],
            2 => bytes.truncate(at),
            _ => bytes.insert(at, self.next().to_le_bytes()[0]),
        }
    }
}

/// Root of a trie, and the proof of one key in it.
fn trie(mut leaves: Vec<(Nibbles, Vec<u8>)>, key: Nibbles) -> (B256, Vec<Bytes>) {
    leaves.sort();
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(vec![key]));
    for (path, value) in leaves {
        builder.add_leaf(path, &value);
    }
    let root = builder.root();
    let proof = builder.take_proof_nodes().into_nodes_sorted().into_iter().map(|(_, node)| node);
    (root, proof.collect())
}

fn random_header(random: &mut Random, forks: usize) -> AlloyHeader {
    let since = |fork: usize| (forks > fork).then_some(());
    AlloyHeader {
        parent_hash: random.word(),
        ommers_hash: random.word(),
        beneficiary: Address::from_word(random.word()),
        state_root: random.word(),
        transactions_root: random.word(),
        receipts_root: random.word(),
        logs_bloom: Bloom::repeat_byte(random.next().to_le_bytes()[0]),
        difficulty: U256::from(random.next() >> random.below(64)),
        number: random.next() >> random.below(64),
        gas_limit: random.next() >> random.below(64),
        gas_used: random.next() >> random.below(64),
        timestamp: random.next() >> random.below(64),
        extra_data: random.word()[..random.below(33)].to_vec().into(),
        mix_hash: random.word(),
        nonce: B64::from(random.next()),
        base_fee_per_gas: since(0).map(|()| random.next() >> random.below(64)),
        withdrawals_root: since(1).map(|()| random.word()),
        blob_gas_used: since(2).map(|()| random.next() >> random.below(64)),
        excess_blob_gas: since(2).map(|()| random.next() >> random.below(64)),
        parent_beacon_block_root: since(2).map(|()| random.word()),
        requests_hash: since(3).map(|()| random.word()),
        ..AlloyHeader::default()
    }
}

#[test]
fn the_genesis_header_of_mainnet_has_its_hash() {
    let empty_trie = hex!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");
    let fields: Vec<Vec<u8>> = vec![
        vec![0; 32],
        hex!("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347").to_vec(),
        vec![0; 20],
        hex!("d7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544").to_vec(),
        empty_trie.to_vec(),
        empty_trie.to_vec(),
        vec![0; 256],
        hex!("0400000000").to_vec(),
        vec![],
        hex!("1388").to_vec(),
        vec![],
        vec![],
        hex!("11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa").to_vec(),
        vec![0; 32],
        hex!("0000000000000042").to_vec(),
    ];
    let mut rlp = Vec::new();
    alloy_rlp::encode_list::<Bytes, [u8]>(
        &fields.into_iter().map(Bytes::from).collect::<Vec<_>>(),
        &mut rlp,
    );
    let header = Header::decode(&rlp).unwrap();
    assert_eq!(
        header.hash,
        b256!("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3")
    );
    assert_eq!((header.number, header.gas_limit, header.base_fee_per_gas), (0, 5000, None));
}

#[test]
fn headers_of_every_fork_decode_to_what_was_encoded() {
    let mut random = Random(1);
    for round in 0..500 {
        let expected = random_header(&mut random, round % 5);
        let header = Header::decode(&alloy_rlp::encode(&expected)).unwrap();
        assert_eq!(header.hash, expected.hash_slow());
        assert_eq!(header.parent_hash, expected.parent_hash);
        assert_eq!(header.ommers_hash, expected.ommers_hash);
        assert_eq!(header.beneficiary, expected.beneficiary);
        assert_eq!(header.state_root, expected.state_root);
        assert_eq!(header.transactions_root, expected.transactions_root);
        assert_eq!(header.receipts_root, expected.receipts_root);
        assert_eq!(header.logs_bloom, expected.logs_bloom);
        assert_eq!(header.difficulty, expected.difficulty);
        assert_eq!(header.number, expected.number);
        assert_eq!((header.gas_limit, header.gas_used), (expected.gas_limit, expected.gas_used));
        assert_eq!(header.timestamp, expected.timestamp);
        assert_eq!(header.extra_data, expected.extra_data);
        assert_eq!((header.mix_hash, header.nonce), (expected.mix_hash, expected.nonce));
        assert_eq!(header.base_fee_per_gas, expected.base_fee_per_gas);
        assert_eq!(header.withdrawals_root, expected.withdrawals_root);
        assert_eq!(header.blob_gas_used, expected.blob_gas_used);
        assert_eq!(header.excess_blob_gas, expected.excess_blob_gas);
        assert_eq!(header.parent_beacon_block_root, expected.parent_beacon_block_root);
        assert_eq!(header.requests_hash, expected.requests_hash);
    }
}

#[test]
fn malformed_headers_are_refused_and_mutants_keep_no_hash() {
    let mut random = Random(2);
    let rlp = alloy_rlp::encode(random_header(&mut random, 4));
    let hash = Header::decode(&rlp).unwrap().hash;
    let refused =
        |bytes: &[u8]| assert!(matches!(Header::decode(bytes), Err(Error::HeaderEncoding(_))));
    for length in 0..rlp.len() {
        refused(&rlp[..length]);
    }
    refused(&[rlp.as_slice(), &[0]].concat());
    refused(&vec![0; HEADER_LEN_MAX + 1]);
    let later_fork =
        AlloyHeader { block_access_list_hash: Some(B256::ZERO), ..random_header(&mut random, 4) };
    refused(&alloy_rlp::encode(&later_fork));
    let extra = AlloyHeader { extra_data: vec![0; 33].into(), ..random_header(&mut random, 4) };
    refused(&alloy_rlp::encode(&extra));
    let mut decoded = 0;
    for _ in 0..50_000 {
        let mut mutant = rlp.clone();
        for _ in 0..=random.below(3) {
            random.mutate(&mut mutant);
        }
        if let Ok(header) = Header::decode(&mutant) {
            assert_eq!(header.hash == hash, mutant == rlp);
            decoded += 1;
        }
    }
    assert!(decoded > 5_000, "{decoded}");
}

#[test]
fn accounts_and_slots_are_proven_present_and_absent() {
    let mut random = Random(3);
    for size in [1, 2, 3, 17, 300] {
        let slots: Vec<(B256, U256)> =
            (0..size).map(|_| (random.word(), random.word().into())).collect();
        let path = |slot: &B256| Nibbles::unpack(keccak256(slot));
        let storage: Vec<_> =
            slots.iter().map(|(slot, value)| (path(slot), alloy_rlp::encode(value))).collect();
        let accounts: Vec<(Address, TrieAccount)> = (0..size)
            .map(|_| {
                let account = TrieAccount::new(
                    random.next(),
                    random.word().into(),
                    random.word(),
                    random.word(),
                );
                (Address::from_word(random.word()), account)
            })
            .collect();
        let leaf = |(address, account): &(Address, TrieAccount)| {
            (Nibbles::unpack(keccak256(address)), alloy_rlp::encode(account))
        };
        let state: Vec<_> = accounts.iter().map(leaf).collect();
        for _ in 0..10 {
            let (slot, value) = slots[random.below(size)];
            let (root, proof) = trie(storage.clone(), path(&slot));
            assert_eq!(verify_storage(root, slot, &proof), Ok(value));
            let absent = random.word();
            assert!(verify_storage(root, absent, &proof) != Ok(value));
            let (root, proof) = trie(storage.clone(), path(&absent));
            assert_eq!(verify_storage(root, absent, &proof), Ok(U256::ZERO));

            let (address, expected) = accounts[random.below(size)];
            let (root, proof) = trie(state.clone(), Nibbles::unpack(keccak256(address)));
            let account = Account {
                nonce: expected.nonce,
                balance: expected.balance,
                storage_root: expected.storage_root,
                code_hash: expected.code_hash,
            };
            assert_eq!(verify_account(root, address, &proof), Ok(Some(account)));
            let absent = Address::from_word(random.word());
            let (root, proof) = trie(state.clone(), Nibbles::unpack(keccak256(absent)));
            assert_eq!(verify_account(root, absent, &proof), Ok(None));

            // No shorter, longer or otherwise wrong proof proves anything.
            for cut in 0..proof.len() {
                let proof = &proof[..cut];
                assert!(matches!(
                    verify_account(root, absent, proof),
                    Err(Error::Proof { what: "account", .. })
                ));
            }
            assert!(verify_account(random.word(), address, &proof).is_err());
        }
    }
    assert_eq!(verify_account(EMPTY_ROOT_HASH, Address::ZERO, &[]), Ok(None));
    assert_eq!(verify_storage(EMPTY_ROOT_HASH, B256::ZERO, &[]), Ok(U256::ZERO));
    let too_many = vec![Bytes::from_static(&[0x80]); 66];
    assert_eq!(
        verify_account(B256::ZERO, Address::ZERO, &too_many),
        Err(Error::ProofSize { what: "account" })
    );
    let too_long = [Bytes::from(vec![0; 65 * 1024])];
    assert_eq!(
        verify_storage(B256::ZERO, B256::ZERO, &too_long),
        Err(Error::ProofSize { what: "storage" })
    );
}

/// Receipts of all types with zero to four logs.
fn receipts(random: &mut Random, count: usize) -> Vec<ReceiptEnvelope> {
    (0..count)
        .map(|index| {
            let logs: Vec<Log> = (0..index % 5)
                .map(|_| Log {
                    address: Address::from_word(random.word()),
                    data: LogData::new_unchecked(
                        (0..random.below(5)).map(|_| random.word()).collect(),
                        random.word()[..random.below(33)].to_vec().into(),
                    ),
                })
                .collect();
            let receipt = AlloyReceipt {
                status: Eip658Value::Eip658(index % 3 != 0),
                cumulative_gas_used: random.next() >> random.below(64),
                logs,
            };
            let receipt: ReceiptWithBloom = receipt.into();
            match index % 4 {
                0 => ReceiptEnvelope::Legacy(receipt),
                1 => ReceiptEnvelope::Eip2930(receipt),
                2 => ReceiptEnvelope::Eip1559(receipt),
                _ => ReceiptEnvelope::Eip7702(receipt),
            }
        })
        .collect()
}

fn receipt_proof(receipts: &[ReceiptEnvelope], index: u64) -> (B256, Vec<Bytes>) {
    let path = |index: u64| Nibbles::unpack(alloy_rlp::encode(index));
    let leaves =
        receipts.iter().zip(0..).map(|(receipt, index)| (path(index), receipt.encoded_2718()));
    let (root, proof) = trie(leaves.collect(), path(index));
    assert_eq!(root, alloy_consensus::proofs::calculate_receipt_root(receipts));
    (root, proof)
}

#[test]
fn receipts_and_logs_are_proven() {
    let mut random = Random(4);
    for count in [1, 2, 20, 129, 300] {
        let receipts = receipts(&mut random, count);
        for index in (0..count).step_by(1 + count / 20) {
            let expected = &receipts[index];
            let index = u64::try_from(index).unwrap();
            let (root, proof) = receipt_proof(&receipts, index);
            let receipt = verify_receipt(root, index, &proof).unwrap();
            assert_eq!(receipt.tx_type, u8::from(expected.tx_type()));
            assert_eq!(receipt.success, expected.is_success());
            assert_eq!(receipt.cumulative_gas_used, expected.cumulative_gas_used());
            assert_eq!(receipt.logs, expected.logs());
            for (log_index, log) in expected.logs().iter().enumerate() {
                let proven = verify_log(root, index, &proof, log_index, log.address);
                assert_eq!(proven.as_ref(), Ok(log));
                assert_eq!(
                    verify_log(root, index, &proof, log_index, Address::ZERO),
                    Err(Error::LogAddress { found: log.address, expected: Address::ZERO })
                );
            }
            let logs = expected.logs().len();
            assert_eq!(
                verify_log(root, index, &proof, logs, Address::ZERO),
                Err(Error::LogIndex { index: logs, count: logs })
            );
            assert!(verify_receipt(root, index + 1, &proof).is_err());
        }
        let beyond = u64::try_from(count).unwrap();
        let (root, proof) = receipt_proof(&receipts, beyond);
        assert_eq!(verify_receipt(root, beyond, &proof), Err(Error::Absent { what: "receipt" }));
    }
}

#[test]
fn a_proven_value_of_another_shape_is_refused() {
    let slot = B256::ZERO;
    let path = Nibbles::unpack(keccak256(slot));
    for value in [
        vec![0x00],
        vec![0x81, 0x01],
        vec![0xc0],
        vec![0x01, 0x01],
        [vec![0xa1], vec![1; 33]].concat(),
    ] {
        let (root, proof) = trie(vec![(path, value.clone())], path);
        let verdict = verify_storage(root, slot, &proof);
        assert!(
            matches!(verdict, Err(Error::ProvenValue { what: "storage", .. })),
            "{value:?}: {verdict:?}"
        );
    }
    let address = Address::ZERO;
    let path = Nibbles::unpack(keccak256(address));
    let account = alloy_rlp::encode(TrieAccount::default());
    let mut longer = account.clone();
    longer.push(0);
    for value in [longer, account[..account.len() - 1].to_vec(), vec![0xc0], vec![0x80]] {
        let (root, proof) = trie(vec![(path, value)], path);
        let verdict = verify_account(root, address, &proof);
        assert!(matches!(verdict, Err(Error::ProvenValue { what: "account", .. })), "{verdict:?}");
    }
}

#[test]
fn mutated_proofs_never_panic_and_never_prove_something_else() {
    let mut random = Random(5);
    let receipts = receipts(&mut random, 40);
    let (root, proof) = receipt_proof(&receipts, 14);
    let receipt = verify_receipt(root, 14, &proof).unwrap();
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut mutant: Vec<Bytes> = proof.clone();
        for _ in 0..=random.below(2) {
            let at = random.below(mutant.len());
            match random.below(6) {
                0 => {
                    mutant.remove(at);
                }
                1 => mutant.insert(at, mutant[random.below(mutant.len())].clone()),
                _ => {
                    let mut node = mutant[at].to_vec();
                    random.mutate(&mut node);
                    mutant[at] = node.into();
                }
            }
            if mutant.is_empty() {
                break;
            }
        }
        if let Ok(proven) = verify_receipt(root, 14, &mutant) {
            assert_eq!(proven, receipt);
            accepted += 1;
        }
        // The root may follow the mutant, so that decoders are reached at all.
        if let Some(node) = mutant.first() {
            let _ = verify_receipt(keccak256(node), 14, &mutant);
            let _ = verify_account(keccak256(node), Address::ZERO, &mutant);
            let _ = verify_storage(keccak256(node), B256::ZERO, &mutant);
        }
    }
    println!("{accepted} of 20000 mutants were the proof itself");
    // Values whose path and hash are right, but whose bytes are anything.
    let path = Nibbles::unpack(alloy_rlp::encode(0_u64));
    for _ in 0..20_000 {
        let mut value = receipts[random.below(40)].encoded_2718();
        random.mutate(&mut value);
        if value.is_empty() {
            continue;
        }
        let (root, proof) = trie(vec![(path, value)], path);
        let _ = verify_receipt(root, 0, &proof);
    }
}
