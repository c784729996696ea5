//! Commit to the weights of a model with both schemes.

use super::{Digests, Model};
use crate::hyrax::Hyrax;
use crate::layout::{Layout, LayoutError};
use crate::scheme::{Scheme, SchemeError, parameters};
use crate::whir::Whir;

/// Why a model cannot be committed to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The weights cannot be laid out in one vector.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A scheme refuses the vector.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
}

/// The commitments of a model, which its id covers. Both are deterministic: whoever holds the model recomputes them.
#[derive(Clone, Debug)]
pub struct Commitments {
    /// Over BN254.
    pub hyrax: <Hyrax as Scheme>::Commitment,
    /// Over Goldilocks.
    pub whir: <Whir as Scheme>::Commitment,
    digests: Digests,
}

impl Commitments {
    /// Commits to the weights of `model`, in time linear in their number.
    ///
    /// # Errors
    /// When the weights are too many, or one is beyond what a scheme holds.
    pub fn of(model: &Model) -> Result<Self, CommitError> {
        let vector = Layout::new(model.program())?.arrange(model.weights())?;
        let (hyrax, whir) = (Hyrax::commit(&vector)?, Whir::commit(&vector)?);
        let digests = model.digests(Hyrax::digest(&hyrax), Whir::digest(&whir), parameters());
        Ok(Self { hyrax, whir, digests })
    }

    /// What the model's id is computed from.
    #[must_use]
    pub const fn digests(&self) -> &Digests {
        &self.digests
    }
}
