//! Open commitments of backend H.
//!
//! The argument is described with its verifier ([`og_zkml::hyrax`]). The prover folds no generators: a round's cross
//! terms are sums over the original generators, whose multiples by powers of 256 are kept
//! ([`og_zkml::hyrax::msm::Basis`]), and the challenges so far multiply the scalars instead. A round then costs as much
//! as the first one, but that is little, and the scalars are all it has to compute. The two terms of a round, and the
//! rows of a commitment, are computed side by side.

use crate::opener::{OpenError, Opener};
use ark_ec::CurveGroup;
use og_zkml::field::Field;
use og_zkml::hyrax::curve::{POINT_BYTES, encode};
use og_zkml::hyrax::msm::Basis;
use og_zkml::hyrax::{
    Accumulator, CROSS, Commitment, FOLD, LAST, Scalar, VALUE, column_bits, equalities, rounds,
};
use og_zkml::scheme::{SchemeError, variables};
use og_zkml::transcript;
use rayon::prelude::*;
use std::sync::Arc;

pub use og_zkml::hyrax::Hyrax;

/// Rows of a commitment that one task computes.
const ROWS: usize = 16;

/// Fewest values that are worth a second task.
const SERIAL: usize = 1 << 13;

/// What opening takes: the values themselves.
#[derive(Clone, Debug)]
pub struct Cached {
    values: Arc<[i64]>,
    n: u32,
}

impl Opener for Hyrax {
    type S = Self;
    type Cached = Cached;

    fn prepare(values: Arc<[i64]>) -> Result<(Commitment, Cached), OpenError> {
        let n = variables(values.len())?;
        let bits = column_bits(n);
        let basis = Basis::of(bits);
        let rows: Vec<_> = values.par_chunks(ROWS << bits).map(|rows| basis.rows(rows)).collect();
        Ok((Commitment::new(n, rows.concat())?, Cached { values, n }))
    }

    fn open(
        cached: &Cached,
        point: &[Scalar],
        _value: Scalar,
        transcript: &mut transcript::Prover,
    ) -> Result<(), OpenError> {
        let bits = column_bits(cached.n);
        let expected = cached.n as usize;
        let wrong = SchemeError::Point { found: point.len(), expected };
        if point.len() != expected {
            return Err(wrong.into());
        }
        let (row_point, column_point) =
            point.split_at_checked((cached.n - bits) as usize).ok_or(wrong)?;
        let basis = Basis::of(bits);
        let mut u = combine_rows(&cached.values, &equalities(row_point), 1 << bits);
        let mut b = equalities(column_point);

        let mix: Scalar = transcript.challenge(VALUE);
        // What the challenges so far multiply the generators of each block by.
        let mut folds = vec![Scalar::ONE];
        for _ in 0..rounds(cached.n) {
            let half = u.len() / 2;
            let ((u0, u1), (b0, b1)) = (u.split_at(half), b.split_at(half));
            let cross = |u: &[Scalar], b: &[Scalar], offset: usize| {
                let blocks = (0..).step_by(2 * half).zip(&folds);
                let columns = blocks.flat_map(|(start, &fold)| {
                    (start + offset + 1..).zip(u).map(move |(index, &u)| (index, fold * u))
                });
                basis.combine(columns.chain([(0, mix * Scalar::dot(u, b))]))
            };
            let (left, right) = rayon::join(|| cross(u0, b1, half), || cross(u1, b0, 0));
            let points = ark_bn254::G1Projective::normalize_batch(&[left, right]);
            let bytes: Vec<u8> = points.iter().flat_map(encode).collect();
            transcript.send_bytes(CROSS, &bytes, POINT_BYTES);

            let x: Scalar = transcript.challenge(FOLD);
            u = u0.iter().zip(u1).map(|(&u0, &u1)| u0 + x * u1).collect();
            b = b0.iter().zip(b1).map(|(&b0, &b1)| x * b0 + b1).collect();
            folds = folds.iter().flat_map(|&fold| [fold * x, fold]).collect();
        }
        transcript.send(LAST, &u);
        Ok(())
    }
}

/// `Σ_k factor_k · row_k` of a matrix given row by row; what lies beyond the values is zero.
fn combine_rows(values: &[i64], factors: &[Scalar], columns: usize) -> Vec<Scalar> {
    let tasks = if values.len() < SERIAL { 1 } else { rayon::current_num_threads() };
    let rows = values.len().div_ceil(columns).div_ceil(tasks).max(1);
    let mut parts: Vec<Vec<Accumulator>> = values
        .par_chunks(rows * columns)
        .zip(factors.par_chunks(rows))
        .map(|(values, factors)| {
            let mut sums = vec![Accumulator::default(); columns];
            for (row, factor) in values.chunks(columns).zip(factors) {
                for (sum, &value) in sums.iter_mut().zip(row) {
                    sum.add(factor, value);
                }
            }
            sums
        })
        .collect();
    let mut sums = parts.pop().unwrap_or_else(|| vec![Accumulator::default(); columns]);
    for part in parts {
        sums.iter_mut().zip(&part).for_each(|(sum, part)| sum.merge(part));
    }
    sums.iter().map(Accumulator::reduce).collect()
}
