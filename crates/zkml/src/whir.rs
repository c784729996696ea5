//! Commit to weights as a Reed-Solomon code word over Goldilocks (backend W).
//!
//! WHIR (Arnon, Chiesa, Fenzi, Yogev: *WHIR: Reed-Solomon Proximity Testing with Super-Fast Verification*, ePrint
//! 2024/1586), as a commitment to the multilinear extension of a vector of integers: transparent, resting on a hash
//! alone, and quick to verify. This module holds what both sides share, the commitment and the verifier.
//!
//! # Commitment
//! The vector `w` of `2^n` elements is encoded ([`code`]) and the rows of the code word are the leaves of a tree
//! ([`tree`]). Several words of the code may be near what somebody put into a tree; so the commitment also holds the
//! values `ĉ(z) = Σ_i w_i·z^i` at two points that follow from the root, which single one of them out. Up to
//! `n = 10` the commitment is the hash of the vector, and the opening is the vector.
//!
//! # Opening
//! To show is `Σ_b w̃(b)·W(b) = σ` for a sum `W` of claims, each with its weight, a power of a challenge:
//! `eq(point, ·)` for the value that is asked for, and `b ↦ Π_j (1 - b_j + b_j·z^(2^j))`, whose sum with `w̃` is
//! `ĉ(z)`, for every value of the code's polynomial (bit `j` of an index has the weight `2^j`). For each code word,
//! with the parameters of [`Parameters`]:
//!
//! 1. `k` rounds of sumcheck, binding the lowest variable first: the prover sends `h(0)` and the coefficient of
//!    `X²` ([`message::SUMCHECK`]), does the work, and is sent a challenge.
//! 2. The prover commits to the encoding of the folded vector ([`message::ROOT`]), is asked its values outside the
//!    domain ([`message::SAMPLE`], [`message::ANSWER`]); or, after the last code word, sends the folded vector.
//! 3. After more work the prover is asked rows of the code word ([`message::QUERY`]). They are sorted, repetitions
//!    are dropped, and each row is given once ([`message::ROWS`]) with the digests that lead to the root
//!    ([`message::PATHS`]). A row's multilinear extension at the challenges of step 1 is the value of the folded
//!    polynomial at the row's point: a claim about the next code word (answers first, then rows), weighted by the
//!    powers of a fresh challenge; or a check of the folded vector itself.
//!
//! In the end the folded vector must satisfy the sum.
//!
//! # Order
//! A challenge follows the messages it must not be known for: combination after the values and the point (absorbed
//! by the caller), folding after its polynomial and nonce, samples after the root, queries after the answers and
//! the nonce, the next combination after the rows.

pub mod code;
mod field;
pub mod parameters;
mod soundness;
pub mod tree;
mod verify;

pub use field::{Goldilocks, Goldilocks2};
pub use parameters::Parameters;

use crate::field::Field;
use crate::scheme::{self, Backend, Opening, Scheme, SchemeError, Term};
use crate::transcript;
use code::Roots;
use parameters::{COMMITMENT_SAMPLES, DIRECT_VARIABLES};
use tree::Digest;

/// The names of an opening's messages and challenges.
pub mod message {
    use crate::transcript::Label;

    /// The vector itself.
    pub const VECTOR: Label = Label::new("whir.vector");
    /// Challenge: the claims are combined by its powers.
    pub const COMBINE: Label = Label::new("whir.combine");
    /// A commitment made inside a proof.
    pub const COMMITMENT: Label = Label::new("whir.commitment");
    /// `h(0)` and the coefficient of `X²`.
    pub const SUMCHECK: Label = Label::new("whir.sumcheck");
    /// Work before a fold.
    pub const FOLD_WORK: Label = Label::new("whir.fold.work");
    /// Challenge: a variable is bound to it.
    pub const FOLD: Label = Label::new("whir.fold");
    /// The root over the folded vector's code word.
    pub const ROOT: Label = Label::new("whir.root");
    /// Challenge: points outside the domain.
    pub const SAMPLE: Label = Label::new("whir.sample");
    /// The values there.
    pub const ANSWER: Label = Label::new("whir.answer");
    /// The last folded vector.
    pub const LAST: Label = Label::new("whir.last");
    /// Work before the queries.
    pub const QUERY_WORK: Label = Label::new("whir.query.work");
    /// Challenge: which rows.
    pub const QUERY: Label = Label::new("whir.query");
    /// The rows.
    pub const ROWS: Label = Label::new("whir.rows");
    /// The digests that lead from them to the root.
    pub const PATHS: Label = Label::new("whir.paths");
}

/// Weights are below this in size, so that the field's elements name them.
const MAX_VALUE: u64 = 1 << 62;

/// Backend W.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whir;

/// A commitment: the root, and the values that single out one word near what is under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commitment {
    variables: u32,
    root: Digest,
    /// [`COMMITMENT_SAMPLES`] of them, or none when there is no code word.
    answers: Vec<Goldilocks2>,
}

impl Commitment {
    /// The commitment to these elements, given the root over their code word (or the digest of the vector).
    ///
    /// # Errors
    /// When there are too many elements.
    pub fn with_root(elements: &[Goldilocks], root: Digest) -> Result<Self, SchemeError> {
        let variables = scheme::variables(elements.len())?;
        let points = sample_points(variables, &root);
        let answers = points.iter().map(|&z| sample(elements, z)).collect();
        Ok(Self { variables, root, answers })
    }

    /// The number of variables, `n`.
    #[must_use]
    pub const fn variables(&self) -> u32 {
        self.variables
    }

    /// The root over the code word, or the digest of the vector.
    #[must_use]
    pub const fn root(&self) -> &Digest {
        &self.root
    }

    /// The points outside the domain that belong to the commitment, with the values there.
    #[must_use]
    pub fn samples(&self) -> Vec<(Goldilocks2, Goldilocks2)> {
        sample_points(self.variables, &self.root)
            .into_iter()
            .zip(self.answers.iter().copied())
            .collect()
    }
}

/// The points at which a commitment holds values; they follow from the root.
fn sample_points(variables: u32, root: &Digest) -> Vec<Goldilocks2> {
    if variables <= DIRECT_VARIABLES {
        return Vec::new();
    }
    let mut hasher = blake3::Hasher::new_derive_key("og.zkml.whir.v1 samples of a commitment");
    hasher.update(&variables.to_le_bytes()).update(root);
    let mut stream = hasher.finalize_xof();
    let mut block = [0; 64];
    (0..COMMITMENT_SAMPLES)
        .map(|_| {
            stream.fill(&mut block);
            Goldilocks2::from_uniform(&block)
        })
        .collect()
}

/// `Σ_i elements_i · z^i`.
fn sample(elements: &[Goldilocks], z: Goldilocks2) -> Goldilocks2 {
    const CHUNK: usize = 1 << 10;
    let powers: Vec<_> = std::iter::successors(Some(Goldilocks2::ONE), |&power| Some(power * z))
        .take(CHUNK)
        .collect();
    let step = z.pow(CHUNK as u64);
    elements.chunks(CHUNK).rev().fold(Goldilocks2::ZERO, |sum, chunk| {
        let products = powers.iter().zip(chunk).map(|(&power, &element)| power * element);
        sum * step + products.fold(Goldilocks2::ZERO, |sum, product| sum + product)
    })
}

/// The values as elements, padded with zeros to `2^n`.
///
/// # Errors
/// When there are too many values, or one is not below `2^62` in size.
pub fn embed(values: &[i64]) -> Result<Vec<Goldilocks>, SchemeError> {
    let length = 1 << scheme::variables(values.len())?;
    if let Some(index) = values.iter().position(|value| value.unsigned_abs() >= MAX_VALUE) {
        return Err(SchemeError::Value { index });
    }
    let mut elements = Vec::with_capacity(length);
    elements.extend(values.iter().map(|&value| Goldilocks::from_i64(value)));
    elements.resize(length, Goldilocks::ZERO);
    Ok(elements)
}

/// The root over the code word of a vector, one block of rows at a time.
fn root(elements: &[Goldilocks], parameters: &Parameters) -> Option<Digest> {
    let Some(first) = parameters.rounds.first() else { return Some(tree::row(elements)) };
    let roots = Roots::new(first.left(), first.rate)?;
    let mut block = vec![Goldilocks::ZERO; elements.len()];
    let mut level = Vec::with_capacity(1 << first.depth());
    for index in 0..roots.blocks() {
        roots.shift(index, elements, first.width(), &mut block);
        roots.transform(&mut block, first.width());
        level.extend(block.chunks_exact(first.width()).map(tree::row));
    }
    while level.len() > 1 {
        level = tree::parents(&level);
    }
    level.first().copied()
}

impl Scheme for Whir {
    type F = Goldilocks2;
    type Commitment = Commitment;
    const BACKEND: Backend = Backend::Whir;

    fn commit(values: &[i64]) -> Result<Commitment, SchemeError> {
        let elements = embed(values)?;
        let root = Parameters::new(scheme::variables(values.len())?)
            .and_then(|parameters| root(&elements, &parameters))
            .ok_or(SchemeError::Size(values.len()))?;
        Commitment::with_root(&elements, root)
    }

    fn encoded_len(n: u32) -> usize {
        32 + if n > DIRECT_VARIABLES { COMMITMENT_SAMPLES * Goldilocks2::BYTES } else { 0 }
    }

    fn encode(commitment: &Commitment) -> Vec<u8> {
        let mut bytes = commitment.root.to_vec();
        for answer in &commitment.answers {
            answer.write(&mut bytes);
        }
        bytes
    }

    fn decode(bytes: &[u8], n: u32) -> Result<Commitment, SchemeError> {
        if Parameters::new(n).is_none() {
            return Err(SchemeError::Commitment("no vector has that many variables"));
        }
        let length = SchemeError::Length { found: bytes.len(), expected: Self::encoded_len(n) };
        if bytes.len() != Self::encoded_len(n) {
            return Err(length);
        }
        let (root, answers) = bytes.split_first_chunk().ok_or(length)?;
        let answers = answers
            .chunks_exact(Goldilocks2::BYTES)
            .map(Goldilocks2::read)
            .collect::<Option<_>>()
            .ok_or(SchemeError::Commitment("a value is not reduced"))?;
        Ok(Commitment { variables: n, root: *root, answers })
    }

    fn digest(commitment: &Commitment) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("og.zkml.whir.v1 commitment");
        hasher.update(&commitment.variables.to_le_bytes());
        hasher.update(&Self::encode(commitment));
        *hasher.finalize().as_bytes()
    }

    const COORDINATES: usize = 2;

    fn coordinate(index: usize) -> Goldilocks2 {
        Goldilocks2::basis(index)
    }

    fn coordinates(element: Goldilocks2) -> impl Iterator<Item = Goldilocks2> {
        [element.0, element.1].into_iter().map(Goldilocks2::from)
    }

    fn receive(
        length: usize,
        _widest: u32,
        transcript: &mut transcript::Verifier<'_>,
    ) -> Result<Commitment, SchemeError> {
        let n = scheme::variables(length)?;
        Self::decode(transcript.receive_bytes(message::COMMITMENT, Self::encoded_len(n))?, n)
    }

    /// One after the other.
    fn verify_all(
        openings: &[Opening<'_, Self>],
        transcript: &mut transcript::Verifier<'_>,
    ) -> Result<(), SchemeError> {
        openings.iter().try_for_each(|&Opening { commitment, point, value }| {
            verify::verify(commitment, point, value, transcript)
        })
    }

    fn security(n: u32) -> Vec<Term> {
        Parameters::new(n).map(|parameters| parameters.security()).unwrap_or_default()
    }

    fn assumption() -> &'static str {
        "BLAKE3 resists collisions and serves as the random oracle of Fiat-Shamir; Reed-Solomon codes have mutual \
         correlated agreement up to Johnson's bound (proven: ePrint 2025/2055, 2025/2110)"
    }
}

#[cfg(test)]
mod tests;
