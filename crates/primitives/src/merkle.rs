//! The Merkle tree of evidence batches: OpenZeppelin's StandardMerkleTree, format `standard-v1`.
//!
//! Leaves are double-hashed outside of this module and stand in ascending order; the tree is an array of
//! `2n − 1` nodes with the root first, leaf `i` at `2n − 2 − i` and the children of `i` at `2i + 1` and `2i + 2`;
//! an inner node is the Keccak-256 of its children in ascending order. Equal leaves are refused: a batch with
//! two of the same would settle one thing twice.

use alloy_primitives::{B256, keccak256};
use thiserror::Error;

/// A tree over one or more leaves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MerkleTree {
    nodes: Vec<B256>,
    leaves: usize,
}

/// Why there is no tree over the leaves.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum MerkleError {
    /// A tree has at least one leaf.
    #[error("a merkle tree needs at least one leaf")]
    Empty,
    /// A leaf stands twice.
    #[error("leaf {0} stands twice")]
    Duplicate(B256),
}

impl MerkleTree {
    /// The tree over `leaves`, given in any order.
    ///
    /// # Errors
    /// [`MerkleError`].
    pub fn new(mut leaves: Vec<B256>) -> Result<Self, MerkleError> {
        leaves.sort_unstable();
        for (before, after) in leaves.iter().zip(leaves.iter().skip(1)) {
            if before == after {
                return Err(MerkleError::Duplicate(*after));
            }
        }
        let count = leaves.len();
        let inner = count.checked_sub(1).ok_or(MerkleError::Empty)?;
        let mut nodes = vec![B256::ZERO; inner];
        nodes.extend(leaves.into_iter().rev());
        for index in (0..inner).rev() {
            // Both children stand behind `index`, inside the array, by construction.
            let (front, back) = nodes.split_at_mut(index + 1);
            if let (Some(node), Some([left, right])) =
                (front.last_mut(), back.get(index..index + 2))
            {
                *node = pair(left, right);
            }
        }
        Ok(Self { nodes, leaves: count })
    }

    /// The root.
    pub fn root(&self) -> B256 {
        self.nodes.first().copied().unwrap_or_default()
    }

    /// The array of nodes, root first: `tree` of the `standard-v1` dump.
    pub fn nodes(&self) -> &[B256] {
        &self.nodes
    }

    /// The leaves in ascending order.
    pub fn leaves(&self) -> impl Iterator<Item = &B256> {
        self.nodes.iter().rev().take(self.leaves)
    }

    /// Where a leaf stands in the array of nodes: `treeIndex` of the dump.
    pub fn tree_index(&self, leaf: &B256) -> Option<usize> {
        let at = self.leaves().position(|other| other == leaf)?;
        (self.nodes.len() - 1).checked_sub(at)
    }

    /// The siblings on the way from a leaf to the root; `None` when the leaf is not in the tree.
    pub fn proof(&self, leaf: &B256) -> Option<Vec<B256>> {
        let mut index = self.tree_index(leaf)?;
        let mut proof = Vec::new();
        while index > 0 {
            let sibling = if index % 2 == 1 { index + 1 } else { index - 1 };
            proof.push(*self.nodes.get(sibling)?);
            index = (index - 1) / 2;
        }
        Some(proof)
    }
}

/// The root that a leaf and the siblings on its way lead to.
pub fn process_proof(leaf: B256, proof: &[B256]) -> B256 {
    proof.iter().fold(leaf, |node, sibling| pair(&node, sibling))
}

/// Keccak-256 of two nodes in ascending order.
fn pair(a: &B256, b: &B256) -> B256 {
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(low.as_slice());
    bytes[32..].copy_from_slice(high.as_slice());
    keccak256(bytes)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::b256;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_reference_library_agrees() {
        let first = b256!("8bd01dd94db4c66bdfa13e8a9523a1afc5db890a5c813fe0deb70cb75e3eefb6");
        let second = b256!("fbba054038d9d296f58e09464383bdc72f192e4693832db6151c7347d9710a1c");
        let root = b256!("8163db2da1c4faaba1e55cb1e27cb945521e9ea5f199e6d0333071c283f1fc65");
        assert_eq!(MerkleTree::new(vec![first]).unwrap().root(), first);
        let tree = MerkleTree::new(vec![second, first]).unwrap();
        assert_eq!((tree.root(), tree.nodes()), (root, [root, second, first].as_slice()));
        assert_eq!(tree.tree_index(&first), Some(2));
        assert_eq!(tree.proof(&first), Some(vec![second]));
    }

    #[test]
    fn trees_over_nothing_and_over_the_same_are_refused() {
        let leaf = B256::repeat_byte(1);
        assert_eq!(MerkleTree::new(Vec::new()), Err(MerkleError::Empty));
        assert_eq!(
            MerkleTree::new(vec![leaf, B256::ZERO, leaf]),
            Err(MerkleError::Duplicate(leaf))
        );
    }

    proptest! {
        #[test]
        fn every_leaf_has_a_proof_and_nothing_else_has(
            leaves in prop::collection::btree_set(any::<[u8; 32]>(), 1..40), stranger in any::<[u8; 32]>(),
        ) {
            let leaves: Vec<_> = leaves.into_iter().map(B256::from).collect();
            let mut shuffled = leaves.clone();
            shuffled.reverse();
            let tree = MerkleTree::new(shuffled).unwrap();
            prop_assert_eq!(tree.nodes().len(), 2 * leaves.len() - 1);
            prop_assert!(tree.leaves().eq(leaves.iter()));
            for leaf in &leaves {
                let proof = tree.proof(leaf).unwrap();
                prop_assert_eq!(process_proof(*leaf, &proof), tree.root());
                prop_assert_eq!(tree.nodes()[tree.tree_index(leaf).unwrap()], *leaf);
            }
            let stranger = B256::from(stranger);
            prop_assert_eq!(tree.proof(&stranger).is_some(), leaves.contains(&stranger));
        }
    }
}
