//! Commit to the weights of a model with both schemes.

use ark_ff::Zero;

use super::{Digests, Model};
use crate::field::Field;
use crate::hyrax::msm::{combine, generators};
use crate::hyrax::{Accumulator, Commitment, Hyrax, Scalar, column_bits, equalities};
use crate::layout::{Layout, LayoutError};
use crate::scheme::{Scheme, SchemeError, parameters};
use crate::whir::Whir;

/// Context of the point at which a kept commitment is compared with the weights.
const KEPT: &str = "og.zkml.kept.v1";

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
        Self::of_kept(model, None)
    }

    /// [`Commitments::of`] for who kept the bytes of the commitment over BN254, the larger part of the work. They are not
    /// trusted: those that are not of these weights are made anew.
    ///
    /// The other commitment is always made: checking its root takes making it.
    ///
    /// # Errors
    /// As [`Commitments::of`].
    pub fn of_kept(model: &Model, kept: Option<&[u8]>) -> Result<Self, CommitError> {
        let layout = Layout::new(model.program())?;
        let vector = layout.arrange(model.weights())?;
        let kept = kept.and_then(|bytes| Hyrax::decode(bytes, layout.variables()).ok());
        let hyrax = match kept.filter(|commitment| commits_to(commitment, &vector)) {
            Some(commitment) => commitment,
            None => Hyrax::commit(&vector)?,
        };
        let whir = Whir::commit(&vector)?;
        let digests = model.digests(Hyrax::digest(&hyrax), Whir::digest(&whir), parameters());
        Ok(Self { hyrax, whir, digests })
    }

    /// What the model's id is computed from.
    #[must_use]
    pub const fn digests(&self) -> &Digests {
        &self.digests
    }
}

/// Whether rows commit to these values: one random combination of all rows must be that of the committed rows.
///
/// The point is the hash of both sides. If a row is wrong, the combination is right with probability at most
/// `(n - c) / |F|`, as for the rows of an opening.
fn commits_to(commitment: &Commitment, values: &[i64]) -> bool {
    let bits = column_bits(commitment.variables());
    let mut hasher = blake3::Hasher::new_derive_key(KEPT);
    hasher.update(&Hyrax::digest(commitment));
    for value in values {
        hasher.update(&value.to_le_bytes());
    }
    let mut stream = hasher.finalize_xof();
    let mut coordinate = || {
        let mut bytes = [0; 64];
        stream.fill(&mut bytes);
        Scalar::from_uniform(&bytes)
    };
    let point: Vec<Scalar> = (bits..commitment.variables()).map(|_| coordinate()).collect();
    let factors = equalities(&point);

    let mut sums = vec![Accumulator::default(); 1 << bits];
    for (row, factor) in values.chunks(1 << bits).zip(&factors) {
        for (sum, &value) in sums.iter_mut().zip(row) {
            sum.add(factor, value);
        }
    }
    // The first generator is not that of a column.
    let columns = generators(bits).iter().skip(1).copied();
    let points: Vec<_> = commitment.rows().iter().copied().chain(columns).collect();
    let rows = factors.into_iter().take(commitment.rows().len());
    let scalars: Vec<_> = rows.chain(sums.iter().map(|sum| -sum.reduce())).collect();
    combine(&points, &scalars).is_zero()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_from_other_rows() {
        let values: Vec<i64> = (0..700).map(|i| (i * 40_503) % 65_536 - 32_768).collect();
        let right = Hyrax::commit(&values).unwrap();
        assert!(commits_to(&right, &values));
        for at in [0, 1, 350, 699] {
            let mut other = values.clone();
            other[at] += 1;
            assert!(!commits_to(&right, &other), "value {at}");
        }
        let rows = right.rows();
        let [mut swapped, mut less, mut more] = [rows.to_vec(), rows.to_vec(), rows.to_vec()];
        swapped.swap(1, 2);
        less.pop();
        more.push(rows[0]);
        for rows in [swapped, less, more, Vec::new()] {
            assert!(!commits_to(&Commitment::new(right.variables(), rows).unwrap(), &values));
        }
        let zeros = [0; 700];
        assert!(commits_to(&Hyrax::commit(&zeros).unwrap(), &zeros));
    }
}
