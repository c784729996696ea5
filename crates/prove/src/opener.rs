//! Name what a backend offers a prover.

use og_zkml::scheme::{Scheme, SchemeError};
use og_zkml::transcript;
use std::sync::Arc;

/// A commitment of the scheme.
pub type Commitment<O> = <<O as Opener>::S as Scheme>::Commitment;

/// The field of the scheme.
pub type FieldOf<O> = <<O as Opener>::S as Scheme>::F;

/// Why a commitment could not be made or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The scheme refuses the values or the point.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
    /// The prover's own data do not fit together.
    #[error("the cached commitment does not fit: {0}")]
    Cached(&'static str),
}

/// A vector to be committed to inside a proof.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a, F> {
    /// Integers below `2^62` in size.
    Integers(&'a [i64]),
    /// Elements; the numbers are their coordinates ([`Scheme::COORDINATES`] for each), one element after the other.
    Elements(&'a [F]),
}

/// An opening to be proved: what was kept from the commitment, the point, and the value.
pub type Claimed<'a, O> = (&'a <O as Opener>::Cached, &'a [FieldOf<O>], FieldOf<O>);

/// The prover's half of a [`Scheme`].
pub trait Opener: 'static {
    /// The scheme it opens.
    type S: Scheme;

    /// What a prover keeps from the commitment, to open it again and again: rows, code word, tree.
    type Cached: Send + Sync;

    /// Commits to `values` (padded with zeros) and keeps what opening takes. The commitment equals
    /// [`Scheme::commit`]'s, byte for byte.
    ///
    /// # Errors
    /// As [`Scheme::commit`].
    fn prepare(values: Arc<[i64]>) -> Result<(Commitment<Self>, Self::Cached), OpenError>;

    /// Commits to a vector and sends the commitment; `widest` as in [`Scheme::receive`].
    ///
    /// # Errors
    /// As [`Scheme::commit`].
    fn send(
        numbers: Numbers<'_, FieldOf<Self>>,
        widest: u32,
        transcript: &mut transcript::Prover,
    ) -> Result<Self::Cached, OpenError>;

    /// Shows that committed vectors' extensions have these values at these points, as [`Scheme::verify_all`] wants them.
    ///
    /// The caller has already sent the values; nothing is checked here (a wrong one makes a proof that fails).
    ///
    /// # Errors
    /// When a point does not fit the cached data.
    fn open_all(
        openings: &[Claimed<'_, Self>],
        transcript: &mut transcript::Prover,
    ) -> Result<(), OpenError>;

    /// [`Self::open_all`] of one vector.
    ///
    /// # Errors
    /// When the point does not fit the cached data.
    fn open(
        cached: &Self::Cached,
        point: &[FieldOf<Self>],
        value: FieldOf<Self>,
        transcript: &mut transcript::Prover,
    ) -> Result<(), OpenError> {
        Self::open_all(&[(cached, point, value)], transcript)
    }
}
