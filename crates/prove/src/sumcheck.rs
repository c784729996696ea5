//! The prover of [`og_zkml::sumcheck`] for sums of products of vectors.
//!
//! The first round of a vector of integers, half of the work, multiplies field elements by them while they still are small.
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

/// A vector.
#[derive(Clone, Debug)]
pub enum Values<'a, F> {
    /// Integers below 2^62 in size.
    Integers(&'a [i64]),
    /// Elements.
    Elements(Vec<F>),
}

/// Two vectors whose products are summed: `factors` has `2^n` entries, and `values`, at most as many, continue with zeros.
#[derive(Clone, Debug)]
pub struct Pair<'a, F> {
    /// The vector of which the value at the point is wanted.
    pub values: Values<'a, F>,
    /// What it is multiplied by.
    pub factors: Vec<F>,
}

/// Proves the sum of all pairs' `Σ_i values_i · factors_i`. Shorter pairs continue with zeros, so that their points are
/// suffixes of the point. Returns the point and the value of the extension of each pair's values at its suffix.
pub fn prove<F: Field>(pairs: Vec<Pair<'_, F>>, transcript: &mut Prover) -> (Vec<F>, Vec<F>) {
    let mut states: Vec<State<'_, F>> = pairs.into_iter().map(State::new).collect();
    let longest = states.iter().map(|state| state.pair.factors.len()).max().unwrap_or(1);
    let mut length = longest.next_power_of_two();
    for state in states.iter_mut().filter(|state| state.pair.factors.len() < length) {
        state.sum = state.pair.sum();
    }
    let mut point = Vec::new();
    while length > 1 {
        let (mut at_zero, mut leading) = (F::ZERO, F::ZERO);
        for state in &states {
            let (zero, lead) = state.round(length);
            at_zero += zero;
            leading += lead;
        }
        transcript.send(ROUND, &[at_zero, leading]);
        let r = transcript.challenge(CHALLENGE);
        states = states.into_iter().map(|state| state.bind(length, r)).collect();
        point.push(r);
        length /= 2;
    }
    (point, states.iter().map(State::value).collect())
}

/// A pair, as far as its variables are bound.
struct State<'a, F> {
    pair: Pair<'a, F>,
    /// While the pair is shorter than the sum: its sum, and what it is multiplied by for the variables it lacks.
    sum: F,
    inside: F,
}

impl<'a, F: Field> State<'a, F> {
    const fn new(pair: Pair<'a, F>) -> Self {
        Self { pair, sum: F::ZERO, inside: F::ONE }
    }

    /// `h(0)` and the leading coefficient, for vectors of `length`. Of a shorter pair, `h(X) = sum · (1 - X)²`.
    fn round(&self, length: usize) -> (F, F) {
        let Pair { values, factors } = &self.pair;
        if factors.len() < length {
            let sum = self.sum * self.inside;
            return (sum, sum);
        }
        match values {
            Values::Integers(values) => {
                let (low, high) = values.split_at((length / 2).min(values.len()));
                first_round(low, high, factors)
            }
            Values::Elements(values) => next_round(values, factors),
        }
    }

    fn bind(mut self, length: usize, r: F) -> Self {
        let Pair { values, factors } = self.pair;
        if factors.len() < length {
            let outside = F::ONE - r;
            self.inside *= outside * outside;
            let mut factors = factors;
            if 2 * factors.len() == length {
                let inside = self.inside;
                factors.iter_mut().for_each(|factor| *factor *= inside);
            }
            self.pair = Pair { values, factors };
            return self;
        }
        let values = match values {
            Values::Integers(values) => {
                let half = length / 2;
                let (low, high) = values.split_at(half.min(values.len()));
                fold_integers(low, high, half, r)
            }
            Values::Elements(mut values) => {
                values.resize(length, F::ZERO);
                fold(values, r)
            }
        };
        self.pair = Pair { values: Values::Elements(values), factors: fold(factors, r) };
        self
    }

    /// The value once all variables are bound.
    fn value(&self) -> F {
        match &self.pair.values {
            Values::Integers(values) => values.first().map_or(F::ZERO, |&value| F::from_i64(value)),
            Values::Elements(values) => values.first().copied().unwrap_or(F::ZERO),
        }
    }
}

impl<F: Field> Pair<'_, F> {
    fn sum(&self) -> F {
        match &self.values {
            Values::Integers(values) => F::dot_i64(&self.factors, values),
            Values::Elements(values) => F::dot(&self.factors, values),
        }
    }
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
    let (weights_low, weights_high) = weights.split_at(half.min(weights.len()));
    let (factors_low, factors_high) = factors.split_at(half);
    let part = |index: usize| {
        let start = index * CHUNK;
        let (a, b) = (window(weights_low, start), window(weights_high, start));
        let (fa, fb) = (window(factors_low, start), window(factors_high, start));
        let rises = a.iter().zip(b.iter().copied().chain(std::iter::repeat(F::ZERO)));
        let rises: Vec<F> = rises.map(|(&a, b)| b - a).collect();
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
