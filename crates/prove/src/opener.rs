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

    /// Shows that the committed vector's extension is `value` at `point`.
    ///
    /// The caller has already sent `value`; nothing is checked here (a wrong `value` makes a proof that fails).
    ///
    /// # Errors
    /// When the point does not fit the cached data.
    fn open(
        cached: &Self::Cached,
        point: &[FieldOf<Self>],
        value: FieldOf<Self>,
        transcript: &mut transcript::Prover,
    ) -> Result<(), OpenError>;
}
