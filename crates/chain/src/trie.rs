//! Compute Ethereum state roots and proofs over versioned trie nodes.
//!
//! `ethrex-trie` finds nodes by their path, not by their hash. A path holds at each height exactly one node, so
//! storing nodes under (trie, path, height) archives every trie for free. Nodes that a removal leaves behind stay
//! in place and do no harm: a parent names a child by hash only if the child was written at that path at or after
//! any left-over.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Encodable;
use alloy_trie::EMPTY_ROOT_HASH;
use ethrex_crypto::NativeCrypto;
use ethrex_trie::{Nibbles, Trie, TrieDB, TrieError};

use crate::error::Error;
use crate::state::{AccountState, Draft, StateChanges, View, Workspace, hashed};

/// Nibbles of a hashed key; longer paths in a change list name values, which the flat tables hold.
const KEY_NIBBLES: usize = 64;

/// Name of the account trie among the tries; storage tries are named by their hashed address.
const ACCOUNT_TRIE: B256 = B256::ZERO;

/// Key of a node: trie, number of nibbles, nibbles packed two to a byte. Prefix-free per trie and length.
pub(crate) fn node_key(trie: B256, path: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(33 + path.len().div_ceil(2));
    key.extend_from_slice(trie.as_slice());
    // A path has at most 64 nibbles; the conversion cannot fail for nodes, and values are never stored.
    key.push(u8::try_from(path.len()).unwrap_or(u8::MAX));
    for pair in path.chunks(2) {
        key.push(pair.first().copied().unwrap_or(0) << 4 | pair.get(1).copied().unwrap_or(0));
    }
    key
}

/// The nodes of one trie, as `ethrex-trie` wants to read them.
struct NodeReader {
    view: View,
    trie: B256,
}

impl TrieDB for NodeReader {
    fn get(&self, path: Nibbles) -> Result<Option<Vec<u8>>, TrieError> {
        self.view
            .node(&node_key(self.trie, path.as_ref()))
            .map_err(|source| TrieError::DbError(source.into()))
    }

    fn put_batch(&self, _: Vec<(Nibbles, Vec<u8>)>) -> Result<(), TrieError> {
        // Changes are collected with `collect_changes_since_last_hash` and written by the store.
        Err(TrieError::LockError)
    }
}

fn open(view: &View, trie: B256, root: B256) -> Trie {
    Trie::open(Box::new(NodeReader { view: view.clone(), trie }), root.0.into())
}

impl From<TrieError> for Error {
    /// The trie reads what this crate wrote, so whatever it cannot read is corrupt.
    fn from(source: TrieError) -> Self {
        Self::corrupt(format!("state trie: {source}"))
    }
}

/// Takes the new nodes of a trie into `changes` and gives its new root.
fn seal(mut trie: Trie, name: B256, changes: &mut StateChanges) -> B256 {
    let (root, nodes) = trie.collect_changes_since_last_hash(&NativeCrypto);
    for (path, node) in nodes {
        if path.len() <= KEY_NIBBLES && !node.is_empty() {
            changes.nodes.insert(node_key(name, path.as_ref()), node);
        }
    }
    B256::from(root.0)
}

/// Turns the writes of a block into its changes and its state root.
pub(crate) fn seal_state(
    workspace: Workspace,
    parent_root: B256,
) -> Result<(StateChanges, B256), Error> {
    let Workspace { view, accounts, storage, code, .. } = workspace;
    let mut changes = StateChanges::default();
    let mut state_trie = open(&view, ACCOUNT_TRIE, parent_root);
    for (address, draft) in accounts {
        let key = hashed(address);
        let before = view.account(address)?;
        let after = match draft {
            None => None,
            Some(draft) => {
                let old_root = before.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
                let storage_root = match storage.get(&address) {
                    None => old_root,
                    Some(slots) => {
                        let start = if slots.wiped { EMPTY_ROOT_HASH } else { old_root };
                        seal_storage(&view, key, start, slots.slots.iter(), &mut changes)?
                    }
                };
                let Draft { nonce, balance, code_hash } = draft;
                Some(AccountState { nonce, balance, storage_root, code_hash })
            }
        };
        if after == before && !storage.contains_key(&address) {
            continue;
        }
        match &after {
            Some(account) => {
                state_trie.insert(key.to_vec(), alloy_rlp::encode(account))?;
            }
            None => {
                state_trie.remove(key.as_slice())?;
            }
        }
        changes.accounts.insert(address, after);
    }
    let root = seal(state_trie, ACCOUNT_TRIE, &mut changes);
    changes.storage = storage;
    changes.code = code.into_iter().map(|(hash, code)| (hash, code.original_bytes())).collect();
    Ok((changes, root))
}

fn seal_storage<'a>(
    view: &View,
    name: B256,
    start: B256,
    slots: impl Iterator<Item = (&'a U256, &'a U256)>,
    changes: &mut StateChanges,
) -> Result<B256, Error> {
    let mut trie = open(view, name, start);
    for (slot, value) in slots {
        let key = keccak256(slot.to_be_bytes::<32>());
        if value.is_zero() {
            trie.remove(key.as_slice())?;
        } else {
            let mut encoded = Vec::with_capacity(33);
            value.encode(&mut encoded);
            trie.insert(key.to_vec(), encoded)?;
        }
    }
    Ok(seal(trie, name, changes))
}

/// Merkle proof of one storage slot (EIP-1186).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageProof {
    /// The slot.
    pub key: B256,
    /// Its value; zero when the proof shows its absence.
    pub value: U256,
    /// Nodes from the storage root down.
    pub proof: Vec<Bytes>,
}

/// Merkle proof of an account and some of its slots (EIP-1186).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountProof {
    /// The account's address.
    pub address: Address,
    /// The account; `None` when the proof shows its absence.
    pub account: Option<AccountState>,
    /// Nodes from the state root down.
    pub account_proof: Vec<Bytes>,
    /// The slots asked for, in that order.
    pub storage: Vec<StorageProof>,
}

/// Proves an account and slots under `state_root`, which must be the root of `view`.
pub(crate) fn prove(
    view: &View,
    state_root: B256,
    address: Address,
    slots: &[B256],
) -> Result<AccountProof, Error> {
    let account = view.account(address)?;
    let account_proof = path_to(&open(view, ACCOUNT_TRIE, state_root), hashed(address))?;
    let storage_root = account.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
    let storage_trie = open(view, hashed(address), storage_root);
    let mut storage = Vec::with_capacity(slots.len());
    for &key in slots {
        let (value, proof) = if storage_root == EMPTY_ROOT_HASH {
            (U256::ZERO, Vec::new())
        } else {
            (view.storage(address, key.into())?, path_to(&storage_trie, keccak256(key))?)
        };
        storage.push(StorageProof { key, value, proof });
    }
    Ok(AccountProof { address, account, account_proof, storage })
}

fn path_to(trie: &Trie, key: B256) -> Result<Vec<Bytes>, Error> {
    let nodes = trie.get_proof(key.as_slice())?;
    Ok(nodes.into_iter().map(Bytes::from).collect())
}
