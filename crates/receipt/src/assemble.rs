//! Building the proofs of a bundle from what a node's ordinary RPC answers.

use alloy_primitives::{B256, Bytes};
use alloy_trie::proof::ProofRetainer;
use alloy_trie::{HashBuilder, Nibbles};

/// The receipts root of a block and the proof of the receipt at `index`, from the block's receipts in order, each in
/// its EIP-2718 encoding (`eth_getBlockReceipts`, re-encoded). `None` when there is no such receipt.
///
/// The caller compares the root with the header's.
pub fn receipt_proof(encoded_receipts: &[Bytes], index: usize) -> Option<(B256, Vec<Bytes>)> {
    encoded_receipts.get(index)?;
    let key = |index: usize| Nibbles::unpack(alloy_rlp::encode(index));
    let wanted = key(index);
    let mut leaves: Vec<_> =
        encoded_receipts.iter().enumerate().map(|(i, r)| (key(i), r)).collect();
    leaves.sort_unstable_by_key(|(key, _)| *key);
    let mut builder =
        HashBuilder::default().with_proof_retainer(ProofRetainer::from_iter([wanted]));
    for (key, receipt) in leaves {
        builder.add_leaf(key, receipt);
    }
    let root = builder.root();
    let nodes = builder.take_proof_nodes().matching_nodes_sorted(&wanted);
    Some((root, nodes.into_iter().map(|(_, node)| node).collect()))
}
