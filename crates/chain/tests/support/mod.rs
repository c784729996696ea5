//! A funded chain, signed transactions, and small contracts for the tests.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses another part")]

use std::path::PathBuf;

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{SignableTransaction, TxEip1559, TxEip2930, TxEip7702, TxLegacy};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_eips::eip7702::Authorization;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use og_chain::{
    Chain, ExecutedBlock, Genesis, GenesisAccount, Proposal, ProposeRequest, Recovered, Storage,
    TxEnvelope,
};
use std::sync::Arc;

pub const CHAIN_ID: u64 = 10_740;
pub const START: u64 = 1_700_000_000;
pub const GWEI: u128 = 1_000_000_000;
pub const MINER: Address = Address::repeat_byte(0x77);

/// SSTORE(calldata[0], calldata[1]).
pub const STORE: &[u8] = &[0x60, 0x20, 0x35, 0x60, 0x00, 0x35, 0x55, 0x00];
/// LOG1 with no data and topic calldata[0].
pub const LOG: &[u8] = &[0x60, 0x00, 0x35, 0x60, 0x00, 0x60, 0x00, 0xa1, 0x00];
/// Reverts with its calldata.
pub const REVERT: &[u8] = &[0x36, 0x60, 0x00, 0x60, 0x00, 0x37, 0x36, 0x60, 0x00, 0xfd];
/// Returns the block's time.
pub const TIME: &[u8] = &[0x42, 0x60, 0x00, 0x52, 0x60, 0x20, 0x60, 0x00, 0xf3];
/// Loops for ever.
pub const LOOP: &[u8] = &[0x5b, 0x60, 0x00, 0x56];
/// SELFDESTRUCT to the zero address.
pub const DESTROY: &[u8] = &[0x60, 0x00, 0xff];

pub fn key(index: u64) -> PrivateKeySigner {
    let seed = keccak256([b"og-chain test key".as_slice(), &index.to_be_bytes()].concat());
    PrivateKeySigner::from_bytes(&seed).expect("a hash is a key")
}

pub fn at(byte: u8) -> Address {
    Address::repeat_byte(byte)
}

/// Code that passes its calldata to `to` with opcode `op` (0xfa STATICCALL, 0xf4 DELEGATECALL) and returns the
/// answer, or reverts with it.
pub fn forward(to: Address, op: u8) -> Vec<u8> {
    let mut code =
        vec![0x36, 0x60, 0x00, 0x60, 0x00, 0x37, 0x60, 0x00, 0x60, 0x00, 0x36, 0x60, 0x00, 0x73];
    code.extend_from_slice(to.as_slice());
    code.extend_from_slice(&[0x5a, op, 0x3d, 0x60, 0x00, 0x60, 0x00, 0x3e]);
    let target = u8::try_from(code.len() + 7).unwrap();
    // PUSH1 target JUMPI; RETURNDATASIZE PUSH1 0 REVERT; target: JUMPDEST RETURNDATASIZE PUSH1 0 RETURN
    code.extend_from_slice(&[
        0x60, target, 0x57, 0x3d, 0x60, 0x00, 0xfd, 0x5b, 0x3d, 0x60, 0x00, 0xf3,
    ]);
    code
}

/// Creation code for `runtime`.
pub fn deploy(runtime: &[u8]) -> Bytes {
    let len = u8::try_from(runtime.len()).unwrap();
    let mut code = vec![0x60, len, 0x60, 0x0c, 0x60, 0x00, 0x39, 0x60, len, 0x60, 0x00, 0xf3];
    code.extend_from_slice(runtime);
    code.into()
}

pub fn contract(code: &[u8]) -> GenesisAccount {
    GenesisAccount { nonce: 1, code: code.to_vec().into(), ..Default::default() }
}

/// Five funded keys and the contracts at 0xc0…, 0xc1… and so on.
pub fn genesis() -> Genesis {
    let mut genesis = Genesis::new(CHAIN_ID, START);
    for index in 0..5 {
        let account = GenesisAccount { balance: U256::from(100) * ether(), ..Default::default() };
        genesis.alloc.insert(key(index).address(), account);
    }
    genesis.alloc.insert(at(0xc0), contract(STORE));
    genesis.alloc.insert(at(0xc1), contract(LOG));
    genesis.alloc.insert(at(0xc2), contract(REVERT));
    genesis.alloc.insert(at(0xc3), contract(TIME));
    genesis.alloc.insert(at(0xc4), contract(LOOP));
    genesis
}

pub fn ether() -> U256 {
    U256::from(10).pow(U256::from(18))
}

pub fn chain() -> Chain {
    Chain::open(&Storage::Memory, genesis()).expect("a chain in memory")
}

pub fn sign<T: SignableTransaction<Signature>>(
    tx: T,
    signer: &PrivateKeySigner,
) -> Recovered<TxEnvelope>
where
    alloy_consensus::Signed<T>: Into<TxEnvelope>,
{
    let signature = signer.sign_hash_sync(&tx.signature_hash()).expect("signs");
    let envelope: TxEnvelope = tx.into_signed(signature).into();
    let sender = envelope.recover_signer().expect("recovers");
    assert_eq!(sender, signer.address());
    Recovered::new_unchecked(envelope, sender)
}

/// What the tests vary in a transaction.
#[derive(Clone)]
pub struct Tx {
    pub from: u64,
    pub nonce: u64,
    pub to: TxKind,
    pub value: U256,
    pub input: Bytes,
    pub gas: u64,
}

impl Tx {
    pub fn transfer(from: u64, nonce: u64, to: Address, wei: u64) -> Self {
        let value = U256::from(wei);
        Self { from, nonce, to: TxKind::Call(to), value, input: Bytes::new(), gas: 21_000 }
    }

    pub fn call(from: u64, nonce: u64, to: Address, input: impl Into<Bytes>) -> Self {
        let to = TxKind::Call(to);
        Self { from, nonce, to, value: U256::ZERO, input: input.into(), gas: 200_000 }
    }

    pub fn create(from: u64, nonce: u64, code: Bytes) -> Self {
        let to = TxKind::Create;
        Self { from, nonce, to, value: U256::ZERO, input: code, gas: 500_000 }
    }

    pub fn gas(mut self, gas: u64) -> Self {
        self.gas = gas;
        self
    }

    pub fn legacy(self) -> Recovered<TxEnvelope> {
        let Self { from, nonce, to, value, input, gas } = self;
        let chain_id = Some(CHAIN_ID);
        let tx = TxLegacy { chain_id, nonce, gas_price: GWEI, gas_limit: gas, to, value, input };
        sign(tx, &key(from))
    }

    pub fn eip2930(self) -> Recovered<TxEnvelope> {
        let Self { from, nonce, to, value, input, gas } = self;
        let access_list = AccessList(vec![AccessListItem {
            address: at(0xc0),
            storage_keys: vec![B256::with_last_byte(1)],
        }]);
        let tx = TxEip2930 {
            chain_id: CHAIN_ID,
            nonce,
            gas_price: GWEI,
            gas_limit: gas,
            to,
            value,
            input,
            access_list,
        };
        sign(tx, &key(from))
    }

    pub fn eip1559(self) -> Recovered<TxEnvelope> {
        let Self { from, nonce, to, value, input, gas } = self;
        let tx = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: 2 * GWEI,
            max_priority_fee_per_gas: GWEI / 10,
            to,
            value,
            access_list: AccessList::default(),
            input,
        };
        sign(tx, &key(from))
    }

    /// Delegates `authority` to `delegate`.
    pub fn eip7702(
        self,
        authority: u64,
        authority_nonce: u64,
        delegate: Address,
    ) -> Recovered<TxEnvelope> {
        let authorization = Authorization {
            chain_id: U256::from(CHAIN_ID),
            address: delegate,
            nonce: authority_nonce,
        };
        let signature =
            key(authority).sign_hash_sync(&authorization.signature_hash()).expect("signs");
        let Self { from, nonce, to, value, input, gas } = self;
        let TxKind::Call(to) = to else { panic!("type 4 has a receiver") };
        let tx = TxEip7702 {
            chain_id: CHAIN_ID,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: 2 * GWEI,
            max_priority_fee_per_gas: GWEI / 10,
            to,
            value,
            access_list: AccessList::default(),
            authorization_list: vec![authorization.into_signed(signature)],
            input,
        };
        sign(tx, &key(from))
    }
}

pub fn words(words: &[u64]) -> Bytes {
    words.iter().flat_map(|word| U256::from(*word).to_be_bytes::<32>()).collect::<Vec<u8>>().into()
}

pub fn request(
    parent: B256,
    time_ms: u64,
    candidates: Vec<Recovered<TxEnvelope>>,
) -> ProposeRequest {
    ProposeRequest { parent, candidates, timestamp_ms: time_ms, beneficiary: MINER }
}

/// Proposes on the head 100 ms later; panics when a candidate is refused.
pub fn propose(chain: &Chain, candidates: Vec<Recovered<TxEnvelope>>) -> Arc<ExecutedBlock> {
    let head = chain.head();
    let proposal = chain
        .propose(request(head.hash, head.timestamp_ms + 100, candidates))
        .expect("the chain works");
    assert_eq!(proposal.rejected, vec![]);
    proposal.executed
}

/// Proposes and finalises.
pub fn advance(chain: &Chain, candidates: Vec<Recovered<TxEnvelope>>) -> Arc<ExecutedBlock> {
    let block = propose(chain, candidates);
    let finalized = chain.finalize(block.hash, None).expect("finalises");
    assert_eq!(finalized.len(), 1);
    block
}

pub fn propose_all(chain: &Chain, candidates: Vec<Recovered<TxEnvelope>>) -> Proposal {
    let head = chain.head();
    chain.propose(request(head.hash, head.timestamp_ms + 100, candidates)).expect("works")
}

/// The folder of shared vectors, when it is there.
pub fn vectors(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("OG_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        PathBuf::from,
    );
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED {test}: no shared vectors");
    None
}
