//! Hash rows into a tree, and check rows against its root.
//!
//! Leaves and inner nodes are hashed by BLAKE3 under two different keys, so neither passes for the other. Several
//! leaves are opened together: the digests that the verifier cannot compute are given level by level from the
//! leaves up, in the order of their places, each exactly once, none beside. How many that is follows from the
//! places alone.

use super::field::Goldilocks;

/// A digest.
pub type Digest = [u8; 32];

/// The key of leaves.
const LEAF: &Digest = b"og.zkml.whir.v1.leaf............";

/// The key of inner nodes.
const NODE: &Digest = b"og.zkml.whir.v1.node............";

/// The digest of a leaf.
#[must_use]
pub fn leaf(bytes: &[u8]) -> Digest {
    *blake3::keyed_hash(LEAF, bytes).as_bytes()
}

/// The digest of a row of elements: of their encodings one after the other.
#[must_use]
pub fn row(elements: &[Goldilocks]) -> Digest {
    let mut buffer = [0; ROW_BYTES];
    let mut hasher = blake3::Hasher::new_keyed(LEAF);
    for piece in elements.chunks(ROW_BYTES / Goldilocks::BYTES) {
        for (element, to) in piece.iter().zip(buffer.as_chunks_mut::<{ Goldilocks::BYTES }>().0) {
            *to = element.to_bytes();
        }
        let filled = buffer.get(..piece.len() * Goldilocks::BYTES).unwrap_or_default();
        if piece.len() == elements.len() {
            return leaf(filled);
        }
        hasher.update(filled);
    }
    *hasher.finalize().as_bytes()
}

/// Bytes hashed at once.
const ROW_BYTES: usize = 1024;

/// The digest of an inner node.
#[must_use]
pub fn node(left: &Digest, right: &Digest) -> Digest {
    let mut bytes = [0; 64];
    let (low, high) = bytes.split_at_mut(32);
    low.copy_from_slice(left);
    high.copy_from_slice(right);
    *blake3::keyed_hash(NODE, &bytes).as_bytes()
}

/// The next level up.
#[must_use]
pub fn parents(level: &[Digest]) -> Vec<Digest> {
    level.as_chunks::<2>().0.iter().map(|[left, right]| node(left, right)).collect()
}

/// The places at one level of the digests that must be given, when those of `known` (ascending, distinct) are
/// computed; and the places of the level above.
#[must_use]
pub fn siblings(known: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let (mut given, mut above) = (Vec::new(), Vec::with_capacity(known.len()));
    let mut places = known.iter().copied().peekable();
    while let Some(place) = places.next() {
        if places.next_if_eq(&(place ^ 1)).is_none() {
            given.push(place ^ 1);
        }
        above.push(place >> 1);
    }
    (given, above)
}

/// How many digests an opening of these leaves (ascending, distinct) of a tree of this depth holds.
pub(crate) fn opening_len(places: &[usize], depth: u32) -> usize {
    let mut known = places.to_vec();
    let mut count = 0;
    for _ in 0..depth {
        let (given, above) = siblings(&known);
        count += given.len();
        known = above;
    }
    count
}

/// The root that follows from leaves (ascending places, distinct) and the given digests, all of which are used;
/// `None` when there are too few or too many.
pub(crate) fn root(
    mut known: Vec<(usize, Digest)>,
    depth: u32,
    given: &[Digest],
) -> Option<Digest> {
    let mut given = given.iter();
    for _ in 0..depth {
        let mut above = Vec::with_capacity(known.len());
        let mut leaves = known.into_iter().peekable();
        while let Some((place, digest)) = leaves.next() {
            let sibling = match leaves.next_if(|(next, _)| *next == place ^ 1) {
                Some((_, sibling)) => sibling,
                None => *given.next()?,
            };
            let parent =
                if place & 1 == 0 { node(&digest, &sibling) } else { node(&sibling, &digest) };
            above.push((place >> 1, parent));
        }
        known = above;
    }
    let [(0, root)] = *known.as_slice() else { return None };
    given.next().is_none().then_some(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_set_of_leaves_leads_to_the_root() {
        let depth = 4;
        let mut levels = vec![(0..16_u8).map(|i| leaf(&[i])).collect::<Vec<_>>()];
        for _ in 0..depth {
            levels.push(parents(levels.last().unwrap()));
        }
        let top = levels[4][0];
        for set in 1_u32..1 << 16 {
            if set % 7 != 0 && set.count_ones() > 2 {
                continue;
            }
            let places: Vec<usize> = (0..16).filter(|i| set >> i & 1 == 1).collect();
            let (mut known, mut given) = (places.clone(), Vec::new());
            for level in levels.iter().take(4) {
                let (places, above) = siblings(&known);
                given.extend(places.iter().map(|&place| level[place]));
                known = above;
            }
            assert_eq!(opening_len(&places, 4), given.len());
            let leaves: Vec<_> = places.iter().map(|&place| (place, levels[0][place])).collect();
            assert_eq!(root(leaves.clone(), 4, &given), Some(top));
            given.push(top);
            assert_eq!(root(leaves.clone(), 4, &given), None, "a digest too many");
            given.pop();
            if given.pop().is_some() {
                assert_eq!(root(leaves, 4, &given), None, "a digest too few");
            }
        }
    }

    #[test]
    fn rows_hash_as_their_bytes() {
        for length in [0, 1, 2, 127, 128, 129, 256, 300] {
            let elements: Vec<_> = (0..length).map(Goldilocks::from_i64).collect();
            let bytes: Vec<u8> = elements.iter().flat_map(|x| x.to_bytes()).collect();
            assert_eq!(row(&elements), leaf(&bytes));
        }
        let pair = [[1; 32], [2; 32]];
        assert_ne!(node(&pair[0], &pair[1]), leaf(pair.as_flattened()));
    }
}
