//! Encode a matrix of field elements as an interleaved Reed-Solomon code word.
//!
//! A vector of `2^n` elements, read as a matrix of `2^d` rows of `2^k` columns (`d = n - k`, row after row), has
//! column polynomials `c_j(X) = Σ_i w[i·2^k + j]·X^i`. The code word has `2^(d+r)` rows; row `q` holds
//! `c_0(y), c_1(y), …` at `y = ω^rev(q)`, with `ω` of order `2^(d+r)` and `rev` the reversal of `d+r` bits.
//! One row is one leaf of the tree.
//!
//! This is WHIR's code word `f(x) = Σ_j x^j·c_j(x^(2^k))` over the `2^(n+r)`-th roots of unity, with the values on
//! each coset of the `2^k`-th roots replaced by the coefficients that interpolate them: folding `k` times at
//! `α_1 … α_k` is then the value of a row's multilinear extension, and needs no inverse transform. The map is one to
//! one on each leaf, so distances, and with them the theorems, are those of the paper.
//!
//! Extension elements are two columns each: roots of unity are in the base field, which acts on both alike.

use super::field::Goldilocks;

/// Roots of unity for transforms of up to a given number of rows.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `ω_d^i` for `i < 2^(d-1)`, `ω_d` of order `2^d`.
    powers: Vec<Goldilocks>,
    /// A root of order `2^(d+r)`.
    outer: Goldilocks,
    /// `d`.
    rows: u32,
    /// `r`.
    rate: u32,
}

impl Roots {
    /// The roots for `2^rows` rows and inverse rate `2^rate`; `None` when the field has none that fine.
    #[must_use]
    pub fn new(rows: u32, rate: u32) -> Option<Self> {
        let root = Goldilocks::root(rows)?;
        let outer = Goldilocks::root(rows.checked_add(rate)?)?;
        let count = 1_usize.checked_shl(rows)? / 2;
        let mut power = Goldilocks::ONE;
        let powers = (0..count)
            .map(|_| {
                let this = power;
                power *= root;
                this
            })
            .collect();
        Some(Self { powers, outer, rows, rate })
    }

    /// How many blocks of `2^rows` rows make up the code word.
    #[must_use]
    pub const fn blocks(&self) -> usize {
        1 << self.rate
    }

    /// Scales row `i` by the `i`-th power of the shift of block `block`, and writes it to `to`: what remains is
    /// [`Roots::transform`].
    ///
    /// `from` and `to` are matrices of the same size and `width` columns.
    pub fn shift(&self, block: usize, from: &[Goldilocks], width: usize, to: &mut [Goldilocks]) {
        let shift = self.outer.pow(reverse(block, self.rate) as u64);
        let mut factor = Goldilocks::ONE;
        for (from, to) in from.chunks_exact(width.max(1)).zip(to.chunks_exact_mut(width.max(1))) {
            for (&from, to) in from.iter().zip(to) {
                *to = from * factor;
            }
            factor *= shift;
        }
    }

    /// Transforms a matrix in place: the row at `p` becomes the columns' values at `ω_d^rev(p)`.
    pub fn transform(&self, matrix: &mut [Goldilocks], width: usize) {
        let Some((low, high)) = self.layer(matrix, width) else { return };
        self.transform(low, width);
        self.transform(high, width);
    }

    /// One layer of [`Roots::transform`], and the halves that remain to be transformed; `None` when done.
    ///
    /// Halves are independent and soon fit a cache, so the recursion is by depth.
    pub fn layer<'a>(
        &self,
        matrix: &'a mut [Goldilocks],
        width: usize,
    ) -> Option<(&'a mut [Goldilocks], &'a mut [Goldilocks])> {
        let width = width.max(1);
        let half = matrix.len() / width / 2;
        if half == 0 {
            return None;
        }
        let (low, high) = matrix.split_at_mut(half * width);
        if half == 1 {
            // The factor is one.
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
            return None;
        }
        let stride = (self.powers.len() / half).max(1);
        let factors = self.powers.iter().step_by(stride);
        for ((low, high), &factor) in
            low.chunks_exact_mut(width).zip(high.chunks_exact_mut(width)).zip(factors)
        {
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, (*a - *b) * factor);
            }
        }
        Some((low, high))
    }

    /// The point that row `q` of the code word is about.
    #[must_use]
    pub fn point(&self, row: usize) -> Goldilocks {
        point(self.outer, row, self.rows + self.rate)
    }
}

/// `outer^rev(row)`, `outer` being of order `2^bits`.
pub(crate) fn point(outer: Goldilocks, row: usize, bits: u32) -> Goldilocks {
    outer.pow(reverse(row, bits) as u64)
}

/// The reversal of the low `bits` bits.
fn reverse(value: usize, bits: u32) -> usize {
    value.reverse_bits().checked_shr(usize::BITS - bits.min(usize::BITS)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, mut seed: u64) -> Vec<Goldilocks> {
        (0..count)
            .map(|_| {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                Goldilocks::from_i64(seed.cast_signed())
            })
            .collect()
    }

    #[test]
    fn rows_are_values_of_the_column_polynomials() {
        for (rows, rate, width) in [(0, 1, 4), (1, 1, 1), (3, 2, 2), (4, 3, 8), (6, 1, 3)] {
            let matrix = numbers(width << rows, u64::from(rows * 100 + rate));
            let roots = Roots::new(rows, rate).unwrap();
            let mut word = vec![Goldilocks::ZERO; matrix.len() << rate];
            for (block, to) in word.chunks_exact_mut(matrix.len()).enumerate() {
                roots.shift(block, &matrix, width, to);
                roots.transform(to, width);
            }
            assert_eq!(roots.blocks(), 1 << rate);
            let mut points = std::collections::BTreeSet::new();
            for (q, row) in word.chunks_exact(width).enumerate() {
                let y = roots.point(q);
                points.insert(y.value());
                for (j, &value) in row.iter().enumerate() {
                    let expected = matrix
                        .chunks_exact(width)
                        .rev()
                        .fold(Goldilocks::ZERO, |sum, coefficients| sum * y + coefficients[j]);
                    assert_eq!(value, expected, "row {q}, column {j}");
                }
            }
            assert_eq!(points.len(), 1 << (rows + rate));
        }
    }

    #[test]
    fn too_fine_a_domain_is_refused() {
        assert!(Roots::new(20, 13).is_none());
        assert!(Roots::new(u32::MAX, 1).is_none());
    }
}
