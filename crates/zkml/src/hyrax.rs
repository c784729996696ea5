//! Commit to weights by the rows of a matrix, over BN254.
//!
//! Backend H is for small models: no trusted setup, commitment and opening of a few kilobytes.
//!
//! # Commitment
//! The `2^n` integers are a matrix of `2^(n-c)` rows and `2^c` columns ([`column_bits`]). A row `w_k` is committed to
//! by `C_k = Σ_j w_kj · G_j` (Pedersen's vector commitment without a blinding term): **binding, not hiding** — equal
//! rows have equal commitments, and a guess at the weights can be checked. The generators come from a hash
//! ([`curve::generator`]); nobody knows a relation between them. Rows of zeros at the end are the identity and are not
//! stored, so a vector that fills its `2^n` places badly pays for what it fills.
//!
//! # Opening
//! The multilinear extension at `r = (r', r'')`, `r''` being the last `c` coordinates, is (Wahby, Tzialla, shelat,
//! Thaler and Walfish, "Hyrax", IACR 2017/1132)
//! ```text
//! w̃(r) = ⟨u, eq(r'')⟩,   u = Σ_k eq_k(r') · w_k,   and   Σ_k eq_k(r') · C_k = Σ_j u_j · G_j
//! ```
//! an exact identity: both sides of the first equation are the same sum in another order. That a vector `u` fits both
//! the commitment and the value `v` is shown by the inner-product argument of Bünz, Bootle, Boneh, Poelstra, Wuille
//! and Maxwell ("Bulletproofs", IACR 2017/1066): with `b = eq(r'')`, a challenge `μ` and one more generator `Q`,
//! ```text
//! P = Σ_k eq_k(r') C_k + μ v Q       is claimed to be       ⟨u, G⟩ + μ ⟨u, b⟩ Q
//! round:  L = ⟨u₀, G₁⟩ + μ⟨u₀, b₁⟩Q,  R = ⟨u₁, G₀⟩ + μ⟨u₁, b₀⟩Q   (₀, ₁: first and second half)
//!         challenge x:   u ← u₀ + x u₁,   G ← x G₀ + G₁,   b ← x b₀ + b₁,   P ← L + x P + x² R
//! ```
//! When [`LAST_BITS`] variables are left, `u` itself is sent: fewer rounds for the prover, and few bytes more. The
//! verifier folds nothing; all its equations are one sum of multiples of rows, cross terms and generators, which must
//! be the identity.
//!
//! Several vectors are opened with one inner product when their points are suffixes of one point: with a challenge `δ`, the
//! sums `Σ eq_k C_k` and the values are added up with weights `1, δ, δ², …`. A vector with shorter rows continues them with
//! zeros, which multiplies its value by `Π (1 - r_j)` over the column coordinates it lacks.
//!
//! # Soundness
//! `v` was absorbed, and `r` derived, before `μ`; every `L`, `R` is absorbed before its `x`. Discrete logarithms in
//! BN254's first group are assumed hard (about 100 to 110 bits for classical computers; not post-quantum), so nobody
//! can represent a point by the generators in two ways. Then
//!
//! * from accepting conversations with four values of `x`, a round's `P` is represented: comparing coefficients of
//!   `1, x, x², x³` forces the halves to agree (at most `3 / |F|` to fail);
//! * from two values of `μ`, `⟨u, b⟩ = v` for the `u` that represents `Σ eq_k(r') C_k` (`1 / |F|`);
//! * of several openings, a false one survives the sum for as many `δ` as there are others (`count / |F|`);
//! * a registered commitment is recomputed from the model by whoever wants to know, so its rows are represented by the
//!   weights and `u` is the right one. Were the rows made by a cheat, openings at independent points would still
//!   determine them: a new `eq(r')` lies in the span of fewer than `2^(n-c)` others with probability at most
//!   `(n - c) / |F|`.
//!
//! No message must differ from the identity or from zero for this: a challenge of zero is one of the values counted
//! above, and honest cross terms vanish when half of `u` does (a sparse model). Encodings are canonical, thus no
//! proof can be altered into another one.

pub mod curve;
mod loose;
pub mod msm;
pub mod scalar;

use crate::field::Field;
use crate::layout::first_equalities;
use crate::scheme::{
    Backend, MAX_VARIABLES, MIN_VARIABLES, Opening, Scheme, SchemeError, Term, variables,
};
use crate::transcript::{self, Label};
use ark_ec::AffineRepr;
use ark_ff::Zero;
use curve::{POINT_BYTES, Point};
use msm::{Basis, combine, generators};

pub use scalar::{Accumulator, Scalar};

/// Message: the rows of a commitment made inside a proof.
pub const ROWS: Label = Label::new("hyrax.rows");

/// Challenge: how several openings are added up.
pub const POOL: Label = Label::new("hyrax.pool");

/// Challenge: what the claimed value is multiplied by.
pub const VALUE: Label = Label::new("hyrax.value");

/// Message: the two cross terms of a round.
pub const CROSS: Label = Label::new("hyrax.cross");

/// Challenge: how the halves of a round are folded.
pub const FOLD: Label = Label::new("hyrax.fold");

/// Message: the vector after the last round.
pub const LAST: Label = Label::new("hyrax.last");

/// Length of the vector that is sent, as a power of two (shorter where a row is shorter).
pub const LAST_BITS: u32 = 4;

/// The key-derivation context of a commitment's digest.
const DIGEST: &str = "og.zkml.hyrax.commitment.v1";

/// Length of a row, as a power of two: `c` for a vector of `2^n` values.
///
/// A row costs whoever downloads and verifies about three times as much as a column does, hence rather wide.
#[must_use]
pub const fn column_bits(n: u32) -> u32 {
    if n < 8 { n / 2 } else { n / 2 + 1 }
}

/// Length of a row of a vector of `2^n` values that is opened together with one of `2^widest`, as a power of two: rows as
/// wide as that one's, so that one inner product serves both.
#[must_use]
pub const fn shared_columns(n: u32, widest: u32) -> u32 {
    let columns = column_bits(widest);
    if columns < n { columns } else { n }
}

/// Rounds of an opening of `2^n` values.
#[must_use]
pub const fn rounds(n: u32) -> u32 {
    rounds_of(column_bits(n))
}

/// Rounds of an inner product of length `2^bits`.
#[must_use]
pub const fn rounds_of(bits: u32) -> u32 {
    bits.saturating_sub(LAST_BITS)
}

/// The last coordinates of a point.
#[must_use]
pub fn tail(point: &[Scalar], bits: u32) -> &[Scalar] {
    point.get(point.len().saturating_sub(bits as usize)..).unwrap_or_default()
}

/// What the extension of a row of `2^bits` numbers is multiplied by at a point with more coordinates, where the row
/// continues with zeros.
#[must_use]
pub fn embedding(column_point: &[Scalar], bits: u32) -> Scalar {
    let more = column_point.len().saturating_sub(bits as usize);
    column_point.iter().take(more).fold(Scalar::ONE, |product, &r| product * (Scalar::ONE - r))
}

/// All products `Π_j (b_j ? r_j : 1 - r_j)` over the bits `b` of an index, the first coordinate being the most
/// significant bit.
#[must_use]
pub fn equalities(point: &[Scalar]) -> Vec<Scalar> {
    products(point.iter().map(|&r| (Scalar::ONE - r, r)))
}

/// All products of one element of each pair, the first pair being the most significant bit.
fn products(pairs: impl IntoIterator<Item = (Scalar, Scalar)>) -> Vec<Scalar> {
    pairs.into_iter().fold(vec![Scalar::ONE], |table, (zero, one)| {
        table.iter().flat_map(|&product| [product * zero, product * one]).collect()
    })
}

/// Backend H.
#[derive(Clone, Copy, Debug)]
pub struct Hyrax;

/// Commitments to the rows of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commitment {
    n: u32,
    columns: u32,
    rows: Vec<Point>,
}

impl Commitment {
    /// The commitment to a vector of `2^n` values with these rows; rows of zeros at the end are dropped.
    ///
    /// # Errors
    /// When `n` is out of range or there are more rows than the matrix has.
    pub fn new(n: u32, mut rows: Vec<Point>) -> Result<Self, SchemeError> {
        while rows.last().is_some_and(Point::is_zero) {
            rows.pop();
        }
        if !(MIN_VARIABLES..=MAX_VARIABLES).contains(&n) || rows.len() > max_rows(n) {
            return Err(SchemeError::Commitment("there are too many rows"));
        }
        Ok(Self { n, columns: column_bits(n), rows })
    }

    /// Variables of the committed vector.
    #[must_use]
    pub const fn variables(&self) -> u32 {
        self.n
    }

    /// Length of a row, as a power of two.
    #[must_use]
    pub const fn columns(&self) -> u32 {
        self.columns
    }

    /// The rows; of a commitment to weights, the last one is not zero.
    pub fn rows(&self) -> &[Point] {
        &self.rows
    }
}

/// Rows of the matrix of a vector of `2^n` values.
const fn max_rows(n: u32) -> usize {
    1 << (n - column_bits(n))
}

impl Scheme for Hyrax {
    type F = Scalar;
    type Commitment = Commitment;

    const BACKEND: Backend = Backend::Hyrax;

    fn commit(values: &[i64]) -> Result<Commitment, SchemeError> {
        let n = variables(values.len())?;
        Commitment::new(n, Basis::of(column_bits(n)).rows(values))
    }

    /// The most a commitment takes: rows of zeros at the end take nothing.
    fn encoded_len(n: u32) -> usize {
        max_rows(n.clamp(MIN_VARIABLES, MAX_VARIABLES)) * POINT_BYTES
    }

    fn encode(commitment: &Commitment) -> Vec<u8> {
        commitment.rows.iter().flat_map(curve::encode).collect()
    }

    /// At most [`Scheme::encoded_len`] bytes; the last row must not be the identity.
    fn decode(bytes: &[u8], n: u32) -> Result<Commitment, SchemeError> {
        let (rows, rest) = bytes.as_chunks::<POINT_BYTES>();
        if !(MIN_VARIABLES..=MAX_VARIABLES).contains(&n)
            || !rest.is_empty()
            || rows.len() > max_rows(n)
        {
            return Err(SchemeError::Length { found: bytes.len(), expected: Self::encoded_len(n) });
        }
        let rows = curve::decode_all(rows)
            .ok_or(SchemeError::Commitment("a row is not a canonical point"))?;
        if rows.last().is_some_and(Point::is_zero) {
            return Err(SchemeError::Commitment("the last row is zero"));
        }
        Ok(Commitment { n, columns: column_bits(n), rows })
    }

    fn digest(commitment: &Commitment) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(DIGEST);
        hasher.update(&commitment.n.to_le_bytes());
        for row in &commitment.rows {
            hasher.update(&curve::encode(row));
        }
        *hasher.finalize().as_bytes()
    }

    const COORDINATES: usize = 1;

    fn coordinate(_: usize) -> Scalar {
        Scalar::ONE
    }

    fn coordinates(element: Scalar) -> impl Iterator<Item = Scalar> {
        std::iter::once(element)
    }

    /// Every row that holds a number, zero or not: how many follows from the length.
    fn receive(
        length: usize,
        widest: u32,
        transcript: &mut transcript::Verifier<'_>,
    ) -> Result<Commitment, SchemeError> {
        let n = variables(length)?;
        let columns = shared_columns(n, widest);
        let count = length.div_ceil(1 << columns);
        let bytes = transcript.receive_bytes(ROWS, count.saturating_mul(POINT_BYTES))?;
        let rows = curve::decode_all(bytes.as_chunks::<POINT_BYTES>().0)
            .ok_or(SchemeError::Malformed("a row is not a canonical point"))?;
        Ok(Commitment { n, columns, rows })
    }

    fn verify_all(
        openings: &[Opening<'_, Self>],
        transcript: &mut transcript::Verifier<'_>,
    ) -> Result<(), SchemeError> {
        let bits = openings.iter().map(|opening| opening.commitment.columns).max().unwrap_or(0);
        let longest = openings.iter().map(|opening| opening.point).max_by_key(|point| point.len());
        let longest = longest.unwrap_or_default();
        for Opening { commitment, point, .. } in openings {
            let (found, expected) = (point.len(), commitment.n as usize);
            if found != expected || !longest.ends_with(point) {
                return Err(SchemeError::Point { found, expected });
            }
        }
        let column_point = tail(longest, bits);

        let pool = if openings.len() > 1 { transcript.challenge(POOL) } else { Scalar::ONE };
        let mix: Scalar = transcript.challenge(VALUE);
        let mut crosses = Vec::new();
        for _ in 0..rounds_of(bits) {
            let bytes: [u8; 2 * POINT_BYTES] = transcript.receive_array(CROSS)?;
            let mut pair = bytes.as_chunks::<POINT_BYTES>().0.iter().map(curve::decode);
            let (Some(Some(left)), Some(Some(right))) = (pair.next(), pair.next()) else {
                return Err(SchemeError::Malformed("a cross term is not a canonical point"));
            };
            crosses.push((left, right, transcript.challenge::<Scalar>(FOLD)));
        }
        let last: Vec<Scalar> = transcript.receive(LAST, 1 << (bits - rounds_of(bits)))?;

        // 0 = Π x · (Σ pool^i (Σ eq_k C_k + μ v Q)) + Σ_t Π_{s>t} x_s · (L_t + x_t² R_t) - ⟨last, folded G⟩ - μ ⟨last, folded b⟩ Q
        let columns = generators(bits);
        let rows: usize = openings.iter().map(|opening| opening.commitment.rows.len()).sum();
        let mut points = Vec::with_capacity(rows + 2 * crosses.len() + columns.len());
        let mut scalars = Vec::with_capacity(points.capacity());
        let mut scale = Scalar::ONE;
        for &(left, right, x) in crosses.iter().rev() {
            points.extend([left, right]);
            scalars.extend([scale, scale * x * x]);
            scale *= x;
        }
        let (mut weight, mut total) = (scale, Scalar::ZERO);
        for Opening { commitment, point, value } in openings {
            let rows = point.len().saturating_sub(commitment.columns as usize);
            let row_point = point.get(..rows).unwrap_or_default();
            points.extend_from_slice(&commitment.rows);
            scalars.extend(first_equalities(row_point, commitment.rows.len(), weight));
            total += weight * embedding(column_point, commitment.columns) * *value;
            weight *= pool;
        }

        let (folded, rest) =
            column_point.split_at_checked(crosses.len()).unwrap_or((column_point, &[]));
        let folded = folded
            .iter()
            .zip(&crosses)
            .fold(Scalar::ONE, |b, (&r, &(.., x))| b * (x * (Scalar::ONE - r) + r));
        let inner = folded * Scalar::dot(&last, &equalities(rest));
        points.extend_from_slice(columns);
        scalars.push(mix * (total - inner));
        for fold in products(crosses.iter().map(|&(.., x)| (x, Scalar::ONE))) {
            scalars.extend(last.iter().map(|&u| -(fold * u)));
        }
        if combine(&points, &scalars).is_zero() {
            Ok(())
        } else {
            Err(SchemeError::Rejected("the inner product of the opened row"))
        }
    }

    fn security(n: u32) -> Vec<Term> {
        let n = n.clamp(MIN_VARIABLES, MAX_VARIABLES);
        let exponent = Scalar::BITS;
        let rows = u64::from(n - column_bits(n));
        let mut terms = vec![
            Term { name: "hyrax: rows not determined by openings", numerator: rows, exponent },
            Term { name: "hyrax: a wrong value at the challenge", numerator: 1, exponent },
            Term { name: "hyrax: openings that cancel", numerator: 1, exponent },
        ];
        terms.extend((0..rounds(n)).map(|_| Term {
            name: "hyrax: a wrong fold",
            numerator: 3,
            exponent,
        }));
        terms
    }

    fn assumption() -> &'static str {
        "discrete logarithms in the first group of BN254 are hard (about 100 bits, not post-quantum); BLAKE3 is a random oracle"
    }
}

#[cfg(test)]
mod tests;
