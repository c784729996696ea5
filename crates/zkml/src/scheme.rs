//! Name what a commitment to weights must offer.
//!
//! All weights of a model are one vector of integers ([`crate::layout`]), padded with zeros to `2^n`. A scheme
//! commits to it once, deterministically, so that whoever holds the model can recompute the commitment; later it
//! shows the value of the vector's multilinear extension at a point of the verifier's choice. How a prover opens
//! is none of this crate's business (`og-prove`).
//!
//! # Points
//! Variable 0 is the most significant bit of the index: for the point `(r_0, …, r_{n-1})`
//! `w̃(r) = Σ_i w_i · Π_j (bit n-1-j of i ? r_j : 1 - r_j)`.

use crate::field::Field;
use crate::transcript;
use std::fmt;

/// Fewest variables of a committed vector.
pub const MIN_VARIABLES: u32 = 4;

/// Most variables of a committed vector (16.7 million weights).
pub const MAX_VARIABLES: u32 = 24;

/// How the weights are committed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// H: rows of Pedersen commitments over BN254.
    Hyrax,
    /// W: a Reed-Solomon code word over Goldilocks under a BLAKE3 tree.
    Whir,
}

impl Backend {
    /// The byte that stands for it in statements and files.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Hyrax => b'H',
            Self::Whir => b'W',
        }
    }

    /// The backend that a byte stands for.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            b'H' => Some(Self::Hyrax),
            b'W' => Some(Self::Whir),
            _ => None,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hyrax => "H",
            Self::Whir => "W",
        })
    }
}

/// Which protocol a proof follows. More may come; none of today's is zero-knowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// T: the accumulators of every linear node travel in the clear; the verifier does all the rest itself.
    Trace,
    /// S: accumulators and activations are committed to; what no constraint covers travels in the clear.
    Succinct,
}

impl Mode {
    /// The byte that stands for it in statements and files.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Trace => b'T',
            Self::Succinct => b'S',
        }
    }

    /// The mode that a byte stands for.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            b'T' => Some(Self::Trace),
            b'S' => Some(Self::Succinct),
            _ => None,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trace => "T",
            Self::Succinct => "S",
        })
    }
}

/// An upper bound of one way to cheat: its probability is at most `numerator · 2^-exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// What would have to happen.
    pub name: &'static str,
    /// The numerator; 0 for what cannot happen.
    pub numerator: u64,
    /// The exponent of the denominator.
    pub exponent: u32,
}

/// Why a commitment or an opening was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    /// More values than a vector may hold.
    #[error("{0} weights are more than a commitment holds")]
    Size(usize),
    /// A value is beyond what the scheme commits to.
    #[error("weight {index} is beyond what the commitment holds")]
    Value {
        /// Its place in the vector.
        index: usize,
    },
    /// The bytes of a commitment have the wrong length.
    #[error("the commitment has {found} bytes, not {expected}")]
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes the size of the vector calls for.
        expected: usize,
    },
    /// The bytes of a commitment are not canonical or name no point of the group.
    #[error("the commitment is malformed: {0}")]
    Commitment(&'static str),
    /// The point has the wrong number of coordinates.
    #[error("the point has {found} coordinates, not {expected}")]
    Point {
        /// Coordinates found.
        found: usize,
        /// Coordinates the vector calls for.
        expected: usize,
    },
    /// A message of the opening could not be read.
    #[error(transparent)]
    Transcript(#[from] transcript::TranscriptError),
    /// A message of the opening is malformed.
    #[error("the opening is malformed: {0}")]
    Malformed(&'static str),
    /// A check of the opening failed.
    #[error("the opening does not hold: {0}")]
    Rejected(&'static str),
}

/// A claim that a committed vector's extension has a value at a point.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a, S: Scheme + ?Sized> {
    /// The commitment.
    pub commitment: &'a S::Commitment,
    /// The point.
    pub point: &'a [S::F],
    /// The value.
    pub value: S::F,
}

/// A commitment to a vector of integers that opens to its multilinear extension.
pub trait Scheme: 'static {
    /// The field of points and values.
    type F: Field;

    /// A commitment, decoded and checked; it knows its number of variables.
    type Commitment: Clone + fmt::Debug + PartialEq + Eq + Send + Sync + 'static;

    /// Its name in statements and files.
    const BACKEND: Backend;

    /// How many committed numbers make one element of the field: a power of two.
    const COORDINATES: usize;

    /// What coordinate number `index` of an element is multiplied by; the sum of these products is the element.
    fn coordinate(index: usize) -> Self::F;

    /// The coordinates of an element, [`Scheme::COORDINATES`] of them, as elements.
    fn coordinates(element: Self::F) -> impl Iterator<Item = Self::F>;

    /// Receives a commitment made inside a proof, to a vector of `length` numbers; `widest` is the number of variables of
    /// the longest vector that is opened together with it.
    ///
    /// # Errors
    /// When the vector would be too long, or the message is malformed.
    fn receive(
        length: usize,
        widest: u32,
        transcript: &mut transcript::Verifier<'_>,
    ) -> Result<Self::Commitment, SchemeError>;

    /// Checks several openings at once. The points are suffixes of the longest of them, with as many coordinates as each
    /// vector has variables; the caller has absorbed the values.
    ///
    /// # Errors
    /// When a message is malformed or a check fails.
    fn verify_all(
        openings: &[Opening<'_, Self>],
        transcript: &mut transcript::Verifier<'_>,
    ) -> Result<(), SchemeError>;

    /// Commits to `values`, padded with zeros to `2^n`, `n =` [`variables`]`(values.len())`. Deterministic.
    ///
    /// # Errors
    /// When there are too many values, or one is beyond what the scheme holds.
    fn commit(values: &[i64]) -> Result<Self::Commitment, SchemeError>;

    /// Length of the encoding of a commitment to `2^n` values, in bytes.
    fn encoded_len(n: u32) -> usize;

    /// The canonical encoding.
    fn encode(commitment: &Self::Commitment) -> Vec<u8>;

    /// Reads a commitment to `2^n` values; the length is checked before anything is allocated.
    ///
    /// # Errors
    /// When the bytes are not the canonical encoding of a commitment of that size.
    fn decode(bytes: &[u8], n: u32) -> Result<Self::Commitment, SchemeError>;

    /// The digest by which a model id and a statement name the commitment; covers its size too.
    fn digest(commitment: &Self::Commitment) -> [u8; 32];

    /// Checks that the committed vector's extension is `value` at `point`.
    ///
    /// The caller has absorbed `value`, and `point` comes from challenges of the same transcript.
    ///
    /// # Errors
    /// When a message is malformed or a check fails.
    fn verify(
        commitment: &Self::Commitment,
        point: &[Self::F],
        value: Self::F,
        transcript: &mut transcript::Verifier<'_>,
    ) -> Result<(), SchemeError> {
        Self::verify_all(&[Opening { commitment, point, value }], transcript)
    }

    /// What could go wrong in an opening of `2^n` values, one term for each round or check.
    fn security(n: u32) -> Vec<Term>;

    /// The assumption that the scheme's binding rests on, in words.
    fn assumption() -> &'static str;
}

/// Digest of all that is fixed about proofs besides the program and the weights: version of the transcript, of the
/// layout and of both schemes. Part of every model id; a verifier refuses another.
#[must_use]
pub fn parameters() -> [u8; 32] {
    blake3::derive_key("og.zkml.parameters.v1", &transcript::VERSION.to_le_bytes())
}

/// The number of variables of a vector of `length` values: the least `n ≥ 4` with `length ≤ 2^n`.
///
/// # Errors
/// When `n` would exceed 24.
pub fn variables(length: usize) -> Result<u32, SchemeError> {
    (MIN_VARIABLES..=MAX_VARIABLES)
        .find(|&n| length <= 1_usize << n)
        .ok_or(SchemeError::Size(length))
}
