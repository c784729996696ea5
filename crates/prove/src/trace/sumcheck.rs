//! The prover of [`og_zkml::sumcheck`] for integers times field elements.
//!
//! The first round, half of the work, multiplies field elements by the weights while they still are small integers.
//! Above [`PARALLEL`] entries the work is shared among threads; sums in a field do not depend on their order, so the
//! proof's bytes do not either.

use og_zkml::field::Field;
use og_zkml::sumcheck::{CHALLENGE, ROUND};
use og_zkml::transcript::Prover;
use rayon::prelude::*;

/// Vectors longer than this are worked on by several threads.
pub const PARALLEL: usize = 1 << 14;

/// Entries that one task works on at a time.
const CHUNK: usize = 1 << 12;

/// Proves `Σ_i values_i · factors_i`, where `factors` has `2^n` entries and `values`, at most as many, continue with
/// zeros; their magnitudes stay below 2^62. Returns the point and the value of the extension of `values` there.
pub fn prove<F: Field>(values: &[i64], factors: Vec<F>, transcript: &mut Prover) -> (Vec<F>, F) {
    let mut point = Vec::new();
    if factors.len() < 2 {
        let value = values.first().map_or(F::ZERO, |&value| F::from_i64(value));
        return (point, value);
    }
    let half = factors.len() / 2;
    let (low, high) = values.split_at(half.min(values.len()));
    let r = round(first_round(low, high, &factors), transcript);
    point.push(r);
    let mut weights = fold_integers(low, high, half, r);
    let mut factors = fold(factors, r);
    while factors.len() > 1 {
        let r = round(next_round(&weights, &factors), transcript);
        point.push(r);
        weights = fold(weights, r);
        factors = fold(factors, r);
    }
    (point, weights.first().copied().unwrap_or(F::ZERO))
}

fn round<F: Field>((at_zero, leading): (F, F), transcript: &mut Prover) -> F {
    transcript.send(ROUND, &[at_zero, leading]);
    transcript.challenge(CHALLENGE)
}

/// `h(0)` and the leading coefficient of the first round.
fn first_round<F: Field>(low: &[i64], high: &[i64], factors: &[F]) -> (F, F) {
    let (factors_low, factors_high) = factors.split_at(factors.len() / 2);
    let part = |index: usize| {
        let start = index * CHUNK;
        let a = window(low, start);
        let b = window(high, start);
        let (fa, fb) = (window(factors_low, start), window(factors_high, start));
        let at_zero = F::dot_i64(fa, a);
        let slopes: Vec<F> = fa.iter().zip(fb).map(|(&a, &b)| b - a).collect();
        let rises: Vec<i64> = a
            .iter()
            .zip(b.iter().chain(std::iter::repeat(&0)))
            .map(|(&a, &b)| b.wrapping_sub(a))
            .collect();
        (at_zero, F::dot_i64(&slopes, &rises))
    };
    sum(factors_low.len(), part)
}

/// `h(0)` and the leading coefficient of a later round.
fn next_round<F: Field>(weights: &[F], factors: &[F]) -> (F, F) {
    let half = factors.len() / 2;
    let ((weights_low, weights_high), (factors_low, factors_high)) =
        (weights.split_at(half), factors.split_at(half));
    let part = |index: usize| {
        let start = index * CHUNK;
        let (a, b) = (window(weights_low, start), window(weights_high, start));
        let (fa, fb) = (window(factors_low, start), window(factors_high, start));
        let rises: Vec<F> = a.iter().zip(b).map(|(&a, &b)| b - a).collect();
        let slopes: Vec<F> = fa.iter().zip(fb).map(|(&a, &b)| b - a).collect();
        (F::dot(fa, a), F::dot(&slopes, &rises))
    };
    sum(half, part)
}

/// Sums the parts of `length` entries, each of [`CHUNK`].
fn sum<F: Field>(length: usize, part: impl Fn(usize) -> (F, F) + Send + Sync) -> (F, F) {
    let chunks = length.div_ceil(CHUNK);
    let add = |a: (F, F), b: (F, F)| (a.0 + b.0, a.1 + b.1);
    if length < PARALLEL {
        (0..chunks).map(part).fold((F::ZERO, F::ZERO), add)
    } else {
        (0..chunks).into_par_iter().map(part).reduce(|| (F::ZERO, F::ZERO), add)
    }
}

fn window<T>(values: &[T], start: usize) -> &[T] {
    let end = values.len().min(start.saturating_add(CHUNK));
    values.get(start..end).unwrap_or_default()
}

/// The weights after the first challenge; zeros where the integers end.
fn fold_integers<F: Field>(low: &[i64], high: &[i64], half: usize, r: F) -> Vec<F> {
    let at = |index: usize| {
        let a = low.get(index).copied().unwrap_or(0);
        let b = high.get(index).copied().unwrap_or(0);
        F::from_i64(a) + r.scale(b.wrapping_sub(a))
    };
    if half < PARALLEL {
        (0..half).map(at).collect()
    } else {
        (0..half).into_par_iter().with_min_len(CHUNK).map(at).collect()
    }
}

/// Binds the first variable to `r`.
fn fold<F: Field>(mut table: Vec<F>, r: F) -> Vec<F> {
    let half = table.len() / 2;
    let (low, high) = table.split_at_mut(half);
    let bind = |(a, b): (&mut F, &F)| *a += r * (*b - *a);
    if half < PARALLEL {
        low.iter_mut().zip(high.iter()).for_each(bind);
    } else {
        low.par_iter_mut().zip(high.par_iter()).with_min_len(CHUNK).for_each(bind);
    }
    table.truncate(half);
    table
}
