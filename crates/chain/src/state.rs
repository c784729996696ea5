//! Hold what a block changes, and read state through the changes of unfinalised blocks.
//!
//! A [`View`] is the state after one block: the changes of the pending blocks between it and the last finalised
//! one, newest first, on top of the versioned tables read at a fixed height. Views share immutable data, so
//! blocks execute, prove and answer queries in parallel, and finalising never disturbs a reader.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use revm::Database;
use revm::bytecode::Bytecode;
use revm::database_interface::DBErrorMarker;
use revm::state::{AccountInfo, EvmState};

pub use alloy_trie::TrieAccount as AccountState;

use crate::error::Error;
use crate::executed::ExecutedBlock;
use crate::store::Tables;

/// Keccak-256 of no code.
pub const EMPTY_CODE_HASH: B256 = alloy_primitives::KECCAK256_EMPTY;

/// Slots of one account that a block writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotChanges {
    /// Whether everything that was there before the writes is gone.
    pub(crate) wiped: bool,
    /// New values; zero means cleared.
    pub(crate) slots: BTreeMap<U256, U256>,
}

/// What one block does to the state, in the order of addresses and slots.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct StateChanges {
    /// New accounts; `None` means deleted.
    pub(crate) accounts: BTreeMap<Address, Option<AccountState>>,
    pub(crate) storage: BTreeMap<Address, SlotChanges>,
    pub(crate) code: BTreeMap<B256, Bytes>,
    /// New trie nodes by the key of [`crate::trie::node_key`].
    pub(crate) nodes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A block with what it changes: one storey of a [`View`].
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) block: Arc<ExecutedBlock>,
    pub(crate) changes: StateChanges,
}

/// The state after one block.
#[derive(Clone)]
pub(crate) struct View {
    /// Pending blocks, newest first.
    pub(crate) layers: Vec<Arc<Layer>>,
    /// Finalised state.
    /// `None` before the genesis block.
    pub(crate) tables: Option<Arc<Tables>>,
    /// The finalised height to read the tables at.
    pub(crate) height: u64,
}

impl View {
    pub(crate) fn account(&self, address: Address) -> Result<Option<AccountState>, Error> {
        for layer in &self.layers {
            if let Some(account) = layer.changes.accounts.get(&address) {
                return Ok(*account);
            }
        }
        self.tables.as_ref().map_or(Ok(None), |tables| tables.account(address, self.height))
    }

    pub(crate) fn storage(&self, address: Address, slot: U256) -> Result<U256, Error> {
        for layer in &self.layers {
            if let Some(changes) = layer.changes.storage.get(&address) {
                if let Some(value) = changes.slots.get(&slot) {
                    return Ok(*value);
                }
                if changes.wiped {
                    return Ok(U256::ZERO);
                }
            }
        }
        let finalised = self.tables.as_ref();
        finalised.map_or(Ok(U256::ZERO), |tables| tables.storage(address, slot, self.height))
    }

    pub(crate) fn code(&self, hash: B256) -> Result<Bytes, Error> {
        if hash == EMPTY_CODE_HASH {
            return Ok(Bytes::new());
        }
        for layer in &self.layers {
            if let Some(code) = layer.changes.code.get(&hash) {
                return Ok(code.clone());
            }
        }
        let found = self.tables.as_ref().map_or(Ok(None), |tables| tables.code(hash))?;
        found.ok_or_else(|| Error::corrupt(format!("code {hash} is missing")))
    }

    pub(crate) fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        for layer in &self.layers {
            if let Some(node) = layer.changes.nodes.get(key) {
                return Ok(Some(node.clone()));
            }
        }
        self.tables.as_ref().map_or(Ok(None), |tables| tables.node(key, self.height))
    }

    pub(crate) fn block_hash(&self, number: u64) -> Result<Option<B256>, Error> {
        for layer in &self.layers {
            if layer.block.number() == number {
                return Ok(Some(layer.block.hash));
            }
        }
        match &self.tables {
            Some(tables) if number <= self.height => tables.hash_of(number),
            _ => Ok(None),
        }
    }
}

/// An account while a block is executed: the storage root is known only at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) code_hash: B256,
}

/// The state a block is executed on: a view of its parent under the writes made so far.
pub(crate) struct Workspace {
    pub(crate) view: View,
    pub(crate) accounts: BTreeMap<Address, Option<Draft>>,
    pub(crate) storage: BTreeMap<Address, SlotChanges>,
    pub(crate) code: BTreeMap<B256, Bytecode>,
    /// Accounts and slots read from the view, so that each is read once per block.
    read_accounts: BTreeMap<Address, Option<Draft>>,
    read_slots: BTreeMap<(Address, U256), U256>,
}

impl Workspace {
    pub(crate) const fn new(view: View) -> Self {
        Self {
            view,
            accounts: BTreeMap::new(),
            storage: BTreeMap::new(),
            code: BTreeMap::new(),
            read_accounts: BTreeMap::new(),
            read_slots: BTreeMap::new(),
        }
    }

    /// The account as it stands after the writes so far.
    pub(crate) fn draft(&mut self, address: Address) -> Result<Option<Draft>, Error> {
        if let Some(account) =
            self.accounts.get(&address).or_else(|| self.read_accounts.get(&address))
        {
            return Ok(*account);
        }
        let account = self.view.account(address)?.map(|account| Draft {
            nonce: account.nonce,
            balance: account.balance,
            code_hash: account.code_hash,
        });
        self.read_accounts.insert(address, account);
        Ok(account)
    }

    /// Takes over what a transaction changed.
    pub(crate) fn apply(&mut self, state: EvmState) {
        for (address, account) in state {
            if !account.is_touched() {
                continue;
            }
            if account.is_selfdestructed() {
                self.accounts.insert(address, None);
                let changes = self.storage.entry(address).or_default();
                changes.wiped = true;
                changes.slots.clear();
                continue;
            }
            if account.is_created() {
                // A new contract starts with empty storage, whatever was there.
                let changes = self.storage.entry(address).or_default();
                changes.wiped = true;
                changes.slots.clear();
            }
            if let Some(code) = account.info.code.as_ref()
                && account.info.code_hash != EMPTY_CODE_HASH
                && !self.code.contains_key(&account.info.code_hash)
            {
                self.code.insert(account.info.code_hash, code.clone());
            }
            for (slot, value) in account.changed_storage_slots() {
                self.storage.entry(address).or_default().slots.insert(*slot, value.present_value);
            }
            // EIP-161: an account that was touched and is empty does not exist.
            let draft = (!account.info.is_empty()).then_some(Draft {
                nonce: account.info.nonce,
                balance: account.info.balance,
                code_hash: account.info.code_hash,
            });
            self.accounts.insert(address, draft);
        }
    }
}

impl Database for Workspace {
    type Error = Error;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Error> {
        Ok(self.draft(address)?.map(|draft| AccountInfo {
            balance: draft.balance,
            nonce: draft.nonce,
            code_hash: draft.code_hash,
            account_id: None,
            code: None,
        }))
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, Error> {
        if let Some(code) = self.code.get(&code_hash) {
            return Ok(code.clone());
        }
        let code = self.view.code(code_hash)?;
        Bytecode::new_raw_checked(code)
            .map_err(|source| Error::corrupt(format!("code {code_hash}: {source}")))
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, Error> {
        if let Some(changes) = self.storage.get(&address) {
            if let Some(value) = changes.slots.get(&slot) {
                return Ok(*value);
            }
            if changes.wiped {
                return Ok(U256::ZERO);
            }
        }
        if let Some(value) = self.read_slots.get(&(address, slot)) {
            return Ok(*value);
        }
        let value = self.view.storage(address, slot)?;
        self.read_slots.insert((address, slot), value);
        Ok(value)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Error> {
        Ok(self.view.block_hash(number)?.unwrap_or_default())
    }
}

impl DBErrorMarker for Error {}

/// Key of an account in the account trie, and name of its storage trie.
pub(crate) fn hashed(address: Address) -> B256 {
    keccak256(address)
}
