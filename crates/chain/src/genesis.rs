//! Describe how a chain starts, and build its first block.
//!
//! The genesis hash commits to everything in the description: accounts through the state root, the rest through
//! `mixHash`. Two nodes with the same genesis hash therefore run the same rules under the same roots of trust.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_consensus::constants::{EMPTY_OMMER_ROOT_HASH, EMPTY_WITHDRAWALS};
use alloy_consensus::{BlockBody, EMPTY_ROOT_HASH, Header};
use alloy_eips::eip2935::{HISTORY_STORAGE_ADDRESS, HISTORY_STORAGE_CODE};
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Encodable;
use og_primitives::domain;
use revm::bytecode::Bytecode;
use serde::{Deserialize, Serialize};

use crate::block::{Block, block_hash, split_timestamp};
use crate::error::Error;
use crate::executed::ExecutedBlock;
use crate::precompile;
use crate::state::{Draft, EMPTY_CODE_HASH, Layer, View, Workspace};
use crate::trie::seal_state;

pub use og_contracts::genesis::GenesisAccount;

/// Gas limit of every block unless a genesis says otherwise.
pub const GAS_LIMIT: u64 = 60_000_000;

/// Least base fee unless a genesis says otherwise, wei: 0.01 gwei.
pub const BASE_FEE_FLOOR: u64 = 10_000_000;

/// A root under which evidence is accepted by the native verifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedRoot {
    /// SHA-256 of the root certificate's DER.
    pub sha256: B256,
    /// Whether it is a development root, whose evidence comes from a simulated TEE.
    pub simulated: bool,
}

/// How a chain starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// Chain id (EIP-155).
    pub chain_id: u64,
    /// Time of the genesis block, s since 1970.
    pub timestamp: u64,
    /// Gas limit of every block.
    pub gas_limit: u64,
    /// Least base fee, wei, above zero; also the base fee of the genesis block.
    pub base_fee_floor: u64,
    /// Accounts at the start. The EIP-2935 contract and the code of the native precompiles are added.
    pub alloc: BTreeMap<Address, GenesisAccount>,
    /// Roots under which evidence is accepted.
    pub trusted_roots: Vec<TrustedRoot>,
    /// Further bytes to commit to, such as the first validator set.
    #[serde(default)]
    pub extra: Bytes,
}

impl Genesis {
    /// A chain with the usual limits that trusts AWS Nitro only and has no accounts yet.
    pub fn new(chain_id: u64, timestamp: u64) -> Self {
        let aws = og_attest::roots::AWS_NITRO_G1;
        Self {
            chain_id,
            timestamp,
            gas_limit: GAS_LIMIT,
            base_fee_floor: BASE_FEE_FLOOR,
            alloc: BTreeMap::new(),
            trusted_roots: vec![TrustedRoot { sha256: aws.sha256, simulated: aws.simulated }],
            extra: Bytes::new(),
        }
    }

    /// The hash of the genesis block.
    ///
    /// # Errors
    /// When the description cannot start a chain.
    pub fn hash(&self) -> Result<B256, Error> {
        Ok(self.layer()?.block.hash)
    }

    /// Hash over everything that the state root does not cover.
    fn config_hash(&self) -> B256 {
        let mut roots = self.trusted_roots.clone();
        roots.sort_unstable();
        roots.dedup();
        let mut payload = Vec::new();
        domain::CHAIN_GENESIS.encode(&mut payload);
        self.chain_id.encode(&mut payload);
        self.gas_limit.encode(&mut payload);
        self.base_fee_floor.encode(&mut payload);
        self.extra.encode(&mut payload);
        for root in &roots {
            root.sha256.encode(&mut payload);
            root.simulated.encode(&mut payload);
        }
        let mut encoded = Vec::with_capacity(payload.len() + 9);
        alloy_rlp::Header { list: true, payload_length: payload.len() }.encode(&mut encoded);
        encoded.extend_from_slice(&payload);
        keccak256(encoded)
    }

    /// The genesis block with its state.
    pub(crate) fn layer(&self) -> Result<Layer, Error> {
        if self.base_fee_floor == 0 {
            return Err(Error::InvalidGenesis("the base fee floor is zero"));
        }
        if self.gas_limit < 5_000 {
            return Err(Error::InvalidGenesis("the gas limit is below 5000"));
        }
        if self.chain_id == 0 {
            return Err(Error::InvalidGenesis("the chain id is zero"));
        }
        let time_ms = self.timestamp.checked_mul(1000);
        let time_ms = time_ms.ok_or(Error::InvalidGenesis("the timestamp is too large"))?;
        let mut workspace = Workspace::new(View { layers: Vec::new(), tables: None, height: 0 });
        for (address, account) in &self.alloc {
            put(&mut workspace, *address, account.nonce, account.balance, &account.code)?;
            let slots = &mut workspace.storage.entry(*address).or_default().slots;
            for (slot, value) in &account.storage {
                slots.insert((*slot).into(), (*value).into());
            }
        }
        let built_in = precompile::CODED
            .iter()
            .map(|address| (*address, Bytes::from_static(&precompile::CODE)))
            .chain([(HISTORY_STORAGE_ADDRESS, HISTORY_STORAGE_CODE.clone())]);
        for (address, code) in built_in {
            match self.alloc.get(&address) {
                None => put(&mut workspace, address, 1, U256::ZERO, &code)?,
                Some(account) if account.code == code => {}
                Some(_) => {
                    return Err(Error::InvalidGenesis("a built-in address has other code"));
                }
            }
        }
        let (changes, state_root) = seal_state(workspace, EMPTY_ROOT_HASH)?;
        let (timestamp, extra_data) = split_timestamp(time_ms);
        let header = Header {
            parent_hash: B256::ZERO,
            mix_hash: self.config_hash(),
            state_root,
            gas_limit: self.gas_limit,
            timestamp,
            extra_data,
            base_fee_per_gas: Some(self.base_fee_floor),
            ..header_template()
        };
        let hash = block_hash(&header);
        let block = Block { header, body: empty_body() };
        let block = ExecutedBlock { hash, block, senders: Vec::new(), outcomes: Vec::new() };
        Ok(Layer { block: Arc::new(block), changes })
    }
}

/// The header fields that are the same in every block, and empty ones for the others.
///
/// There is no beacon chain, so `parentBeaconBlockRoot` is zero and the EIP-4788 contract is not there (the EIP
/// then has the call skipped); there are no blobs, withdrawals or execution requests, so their fields say "none".
pub(crate) fn header_template() -> Header {
    Header {
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        transactions_root: EMPTY_ROOT_HASH,
        receipts_root: EMPTY_ROOT_HASH,
        withdrawals_root: Some(EMPTY_WITHDRAWALS),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Default::default()
    }
}

/// A body without transactions.
pub(crate) fn empty_body() -> BlockBody<alloy_consensus::TxEnvelope> {
    BlockBody {
        transactions: Vec::new(),
        ommers: Vec::new(),
        withdrawals: Some(alloy_eips::eip4895::Withdrawals::default()),
    }
}

fn put(
    workspace: &mut Workspace,
    address: Address,
    nonce: u64,
    balance: U256,
    code: &Bytes,
) -> Result<(), Error> {
    let code_hash = if code.is_empty() {
        EMPTY_CODE_HASH
    } else {
        let hash = keccak256(code);
        let bytecode = Bytecode::new_raw_checked(code.clone())
            .map_err(|_| Error::InvalidGenesis("an account's code is malformed"))?;
        workspace.code.insert(hash, bytecode);
        hash
    };
    workspace.accounts.insert(address, Some(Draft { nonce, balance, code_hash }));
    Ok(())
}
