//! Merkle Patricia tries of given contents, and their proofs.

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_trie::proof::ProofRetainer;
use alloy_trie::{HashBuilder, Nibbles};

pub(super) struct Trie {
    pub(super) root: B256,
    leaves: Vec<(Nibbles, Vec<u8>)>,
}

impl Trie {
    /// A trie whose keys are hashed, as those of state and storage are.
    pub(super) fn hashed<'a>(entries: impl Iterator<Item = (&'a [u8], Vec<u8>)>) -> Self {
        let mut leaves: Vec<_> =
            entries.map(|(key, value)| (Nibbles::unpack(keccak256(key)), value)).collect();
        leaves.sort();
        let root = build(&leaves, None).0;
        Self { root, leaves }
    }

    pub(super) fn proof(&self, key: &[u8]) -> Vec<Bytes> {
        build(&self.leaves, Some(Nibbles::unpack(keccak256(key)))).1
    }
}

fn build(leaves: &[(Nibbles, Vec<u8>)], wanted: Option<Nibbles>) -> (B256, Vec<Bytes>) {
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::from_iter(wanted));
    for (key, value) in leaves {
        builder.add_leaf(*key, value);
    }
    let root = builder.root();
    let proof = wanted.map_or(vec![], |wanted| {
        let nodes = builder.take_proof_nodes().matching_nodes_sorted(&wanted);
        nodes.into_iter().map(|(_, node)| node).collect()
    });
    (root, proof)
}
