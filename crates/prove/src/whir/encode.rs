//! Encode vectors and keep what opening them takes.

use og_zkml::whir::Goldilocks;
use og_zkml::whir::code::Roots;
use og_zkml::whir::parameters::Round;
use og_zkml::whir::tree::{self, Digest};
use rayon::prelude::*;

/// A matrix below this many elements is transformed by one thread.
const ONE_THREAD: usize = 1 << 14;

/// A code word, row after row, under its tree.
#[derive(Debug)]
pub(super) struct CodeWord {
    roots: Roots,
    elements: Vec<Goldilocks>,
    /// Base elements in a row.
    width: usize,
    /// Base elements in an element: 1, or 2 for the extension.
    degree: usize,
    /// The digests, leaves first, the root last.
    levels: Vec<Vec<Digest>>,
}

impl CodeWord {
    /// Encodes a vector of `2^variables` elements of `degree` base elements each; `None` when it does not fit.
    pub(super) fn new(vector: &[Goldilocks], round: &Round, degree: usize) -> Option<Self> {
        let width = round.width() * degree;
        if vector.len() != width << round.left() {
            return None;
        }
        let roots = Roots::new(round.left(), round.rate)?;
        let mut elements = vec![Goldilocks::ZERO; vector.len() << round.rate];
        elements.par_chunks_exact_mut(vector.len()).enumerate().for_each(|(block, to)| {
            roots.shift(block, vector, width, to);
            transform(&roots, to, width);
        });
        let levels = grow(&elements, width);
        Some(Self { roots, elements, width, degree, levels })
    }

    /// Changes some rows, as a cheating prover would before committing.
    #[cfg(test)]
    pub(super) fn spoil(&mut self, spoiled: impl Fn(usize) -> bool) {
        let rows = self.elements.chunks_exact_mut(self.width).enumerate();
        for (_, row) in rows.filter(|(place, _)| spoiled(*place)) {
            row.iter_mut().for_each(|element| *element += Goldilocks::ONE);
        }
        self.levels = grow(&self.elements, self.width);
    }

    pub(super) fn root(&self) -> Digest {
        self.levels.last().and_then(|level| level.first()).copied().unwrap_or_default()
    }

    /// Bytes of the encoding of an element.
    pub(super) fn element_bytes(&self) -> usize {
        self.degree * Goldilocks::BYTES
    }

    /// The rows at these places (ascending, distinct), and the digests that lead from them to the root.
    pub(super) fn open(&self, places: &[usize]) -> Option<(Vec<Goldilocks>, Vec<Digest>)> {
        let mut rows = Vec::with_capacity(places.len() * self.width);
        for &place in places {
            rows.extend_from_slice(
                self.elements.get(place * self.width..(place + 1) * self.width)?,
            );
        }
        let (mut known, mut paths) = (places.to_vec(), Vec::new());
        for level in self.levels.iter().filter(|level| level.len() > 1) {
            let (given, above) = tree::siblings(&known);
            for place in given {
                paths.push(*level.get(place)?);
            }
            known = above;
        }
        Some((rows, paths))
    }

    /// The point that a row is about.
    pub(super) fn point(&self, place: usize) -> Goldilocks {
        self.roots.point(place)
    }
}

/// The tree over the rows: the digests, leaves first, the root last.
fn grow(elements: &[Goldilocks], width: usize) -> Vec<Vec<Digest>> {
    let leaves: Vec<Digest> =
        elements.par_chunks_exact(width).with_min_len(64).map(tree::row).collect();
    let mut levels = vec![leaves];
    while let Some(level) = levels.last().filter(|level| level.len() > 1) {
        levels.push(
            level.par_chunks_exact(2).with_min_len(256).flat_map_iter(tree::parents).collect(),
        );
    }
    levels
}

/// [`Roots::transform`] on all threads.
fn transform(roots: &Roots, matrix: &mut [Goldilocks], width: usize) {
    if matrix.len() <= ONE_THREAD {
        return roots.transform(matrix, width);
    }
    if let Some((low, high)) = roots.layer(matrix, width) {
        rayon::join(|| transform(roots, low, width), || transform(roots, high, width));
    }
}
