//! Open commitments of backend H.
//!
//! The argument is described with its verifier ([`og_zkml::hyrax`]). The prover folds no generators: a round's cross
//! terms are sums over the original generators, whose multiples by powers of 256 are kept
//! ([`og_zkml::hyrax::msm::Basis`]), and the challenges so far multiply the scalars instead. A round then costs as much
//! as the first one, but that is little, and the scalars are all it has to compute. The two terms of a round, and the
//! rows of a commitment, are computed side by side.

use crate::opener::{Claimed, Numbers, OpenError, Opener};
use ark_ec::CurveGroup;
use og_zkml::field::Field;
use og_zkml::hyrax::curve::{POINT_BYTES, Point, encode};
use og_zkml::hyrax::msm::Basis;
use og_zkml::hyrax::{
    Accumulator, CROSS, Commitment, FOLD, LAST, POOL, ROWS, Scalar, VALUE, column_bits, equalities,
    rounds_of, shared_columns, tail,
};
use og_zkml::layout::equality;
use og_zkml::scheme::{SchemeError, variables};
use og_zkml::transcript;
use rayon::prelude::*;
use std::sync::Arc;

pub use og_zkml::hyrax::Hyrax;

/// Rows of a commitment that one task computes.
const TASK: usize = 16;

/// Fewest values that are worth a second task.
const SERIAL: usize = 1 << 13;

/// What opening takes: the numbers themselves, and the shape of their matrix.
#[derive(Clone, Debug)]
pub struct Cached {
    numbers: Matrix,
    n: u32,
    columns: u32,
}

/// The numbers, row by row.
#[derive(Clone, Debug)]
enum Matrix {
    Integers(Arc<[i64]>),
    Elements(Arc<[Scalar]>),
}

impl Cached {
    /// `Σ_k factor_k · row_k`.
    fn combine(&self, factors: &[Scalar]) -> Vec<Scalar> {
        let columns = 1 << self.columns;
        match &self.numbers {
            Matrix::Integers(values) => combine_rows(values, factors, columns),
            Matrix::Elements(elements) => {
                let at = |column: usize| {
                    let entries: Vec<Scalar> =
                        elements.iter().skip(column).step_by(columns).copied().collect();
                    Scalar::dot(factors, &entries)
                };
                (0..columns).into_par_iter().with_min_len(64).map(at).collect()
            }
        }
    }
}

/// Commitments to the rows of integers of a matrix of `2^bits` columns.
fn rows(values: &[i64], bits: u32) -> Vec<Point> {
    let basis = Basis::of(bits);
    let rows: Vec<_> = values.par_chunks(TASK << bits).map(|rows| basis.rows(rows)).collect();
    rows.concat()
}

impl Opener for Hyrax {
    type S = Self;
    type Cached = Cached;

    fn prepare(values: Arc<[i64]>) -> Result<(Commitment, Cached), OpenError> {
        let n = variables(values.len())?;
        let columns = column_bits(n);
        let commitment = Commitment::new(n, rows(&values, columns))?;
        Ok((commitment, Cached { numbers: Matrix::Integers(values), n, columns }))
    }

    fn send(
        numbers: Numbers<'_, Scalar>,
        widest: u32,
        transcript: &mut transcript::Prover,
    ) -> Result<Cached, OpenError> {
        let length = match numbers {
            Numbers::Integers(values) => values.len(),
            Numbers::Elements(elements) => elements.len(),
        };
        let n = variables(length)?;
        let columns = shared_columns(n, widest);
        let (numbers, points) = match numbers {
            Numbers::Integers(values) => (Matrix::Integers(values.into()), rows(values, columns)),
            Numbers::Elements(elements) => {
                let basis = Basis::of(columns);
                let row = |row: &[Scalar]| basis.combine((1..).zip(row.iter().copied()));
                let rows: Vec<_> = elements.par_chunks(1 << columns).map(row).collect();
                let points = ark_bn254::G1Projective::normalize_batch(&rows);
                (Matrix::Elements(elements.into()), points)
            }
        };
        let bytes: Vec<u8> = points.iter().flat_map(encode).collect();
        transcript.send_bytes(ROWS, &bytes, POINT_BYTES);
        Ok(Cached { numbers, n, columns })
    }

    fn open_all(
        openings: &[Claimed<'_, Self>],
        transcript: &mut transcript::Prover,
    ) -> Result<(), OpenError> {
        let bits = openings.iter().map(|(cached, ..)| cached.columns).max().unwrap_or(0);
        let longest = openings.iter().map(|&(_, point, _)| point).max_by_key(|point| point.len());
        let pool = if openings.len() > 1 { transcript.challenge(POOL) } else { Scalar::ONE };
        let basis = Basis::of(bits);
        let mut u = vec![Scalar::ZERO; 1 << bits];
        let mut weight = Scalar::ONE;
        for &(cached, point, _) in openings {
            let (found, expected) = (point.len(), cached.n as usize);
            let row_point = point.get(..expected.saturating_sub(cached.columns as usize));
            let (Some(row_point), true) = (row_point, found == expected) else {
                return Err(SchemeError::Point { found, expected }.into());
            };
            for (sum, entry) in u.iter_mut().zip(cached.combine(&equality(row_point, weight))) {
                *sum += entry;
            }
            weight *= pool;
        }
        let mut b = equalities(tail(longest.unwrap_or_default(), bits));

        let mix: Scalar = transcript.challenge(VALUE);
        // What the challenges so far multiply the generators of each block by.
        let mut folds = vec![Scalar::ONE];
        for _ in 0..rounds_of(bits) {
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
