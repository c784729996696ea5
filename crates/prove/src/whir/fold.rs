//! Keep the sum that is to be shown, and fold it variable by variable.

use og_zkml::field::Field;
use og_zkml::whir::{Goldilocks, Goldilocks2 as F};
use rayon::prelude::*;

/// Pairs of entries that one task handles.
const TASK: usize = 1 << 11;

/// Logarithm of the entries that share one factor when a claim's weights are added.
const BLOCK: u32 = 8;

/// `Σ_b vector(b)·weights(b)`.
#[derive(Debug)]
pub(super) struct Sum {
    vector: Vector,
    weights: Vec<F>,
}

/// The vector, in the base field until the first variable is bound.
#[derive(Debug)]
enum Vector {
    Base(Vec<Goldilocks>),
    Extension(Vec<F>),
}

impl Sum {
    /// The sum of a vector's multilinear extension at `point`, and of its polynomial's values at some `z`, each
    /// weighted. The point's lowest variable is last.
    pub(super) fn new(vector: Vec<Goldilocks>, point: &[F], powers: &[(F, F)]) -> Self {
        let reversed: Vec<F> = point.iter().rev().copied().collect();
        let (low, high) = reversed.split_at(reversed.len().min(BLOCK as usize));
        let (low, high) = (tensor(low), tensor(high));
        let mut weights = vec![F::ZERO; vector.len()];
        weights.par_chunks_mut(low.len()).zip(&high).with_min_len(TASK >> BLOCK).for_each(
            |(block, &factor)| {
                for (weight, &entry) in block.iter_mut().zip(&low) {
                    *weight = factor * entry;
                }
            },
        );
        let mut sum = Self { vector: Vector::Base(vector), weights };
        sum.add(powers);
        sum
    }

    /// The vector as far as it is folded.
    pub(super) fn vector(&self) -> Vec<F> {
        match &self.vector {
            Vector::Base(vector) => vector.iter().copied().map(F::from).collect(),
            Vector::Extension(vector) => vector.clone(),
        }
    }

    /// Adds the values of the vector's polynomial at some `z`, each with a weight.
    pub(super) fn add(&mut self, claims: &[(F, F)]) {
        let claims: Vec<_> = claims
            .iter()
            .map(|&(weight, z)| (weight, z.pow(1 << BLOCK), powers(F::ONE, z)))
            .collect();
        self.add_blocks(&claims, |power, factor| factor * power);
    }

    /// [`Sum::add`], for `z` in the base field.
    pub(super) fn add_base(&mut self, claims: &[(F, Goldilocks)]) {
        let claims: Vec<_> = claims
            .iter()
            .map(|&(weight, z)| (weight, F::from(z.pow(1 << BLOCK)), powers(Goldilocks::ONE, z)))
            .collect();
        self.add_blocks(&claims, |power, factor| factor * power);
    }

    /// Adds claims given as weight, `z^(2^BLOCK)` and the powers of `z` below that.
    fn add_blocks<T: Copy + Sync>(
        &mut self,
        claims: &[(F, F, Vec<T>)],
        product: impl Fn(T, F) -> F + Sync,
    ) {
        let blocks = TASK >> BLOCK;
        self.weights.par_chunks_mut(blocks << BLOCK).enumerate().for_each(|(task, entries)| {
            for (weight, step, powers) in claims {
                let mut factor = *weight * step.pow((task * blocks) as u64);
                for block in entries.chunks_mut(1 << BLOCK) {
                    for (entry, &power) in block.iter_mut().zip(powers) {
                        *entry += product(power, factor);
                    }
                    factor *= *step;
                }
            }
        });
    }

    /// The sumcheck polynomial of the lowest variable: its constant coefficient and that of the square.
    pub(super) fn polynomial(&self) -> (F, F) {
        match &self.vector {
            Vector::Base(vector) => {
                polynomial(vector, &self.weights, |weight, value| weight * value)
            }
            Vector::Extension(vector) => {
                polynomial(vector, &self.weights, |weight, value| weight * value)
            }
        }
    }

    /// Binds the lowest variable.
    pub(super) fn bind(&mut self, challenge: F) {
        let vector = match &self.vector {
            Vector::Base(vector) => {
                bind(vector, |low, high| F::from(low) + challenge * (high - low))
            }
            Vector::Extension(vector) => bind(vector, |low, high| low + challenge * (high - low)),
        };
        self.vector = Vector::Extension(vector);
        self.weights = bind(&self.weights, |low, high| low + challenge * (high - low));
    }
}

fn polynomial<T>(vector: &[T], weights: &[F], product: impl Fn(F, T) -> F + Sync) -> (F, F)
where
    T: Copy + Sync + std::ops::Sub<Output = T>,
{
    let tasks = vector.par_chunks(2 * TASK).zip(weights.par_chunks(2 * TASK));
    let partial = tasks.map(|(vector, weights)| {
        let pairs = vector.as_chunks::<2>().0.iter().zip(weights.as_chunks::<2>().0);
        pairs.fold((F::ZERO, F::ZERO), |(constant, square), (&[v0, v1], &[w0, w1])| {
            (constant + product(w0, v0), square + product(w1 - w0, v1 - v0))
        })
    });
    partial.reduce(|| (F::ZERO, F::ZERO), |(a, b), (c, d)| (a + c, b + d))
}

fn bind<T: Copy + Sync>(table: &[T], line: impl Fn(T, T) -> F + Sync) -> Vec<F> {
    let pairs = table.as_chunks::<2>().0;
    if pairs.len() <= TASK {
        return pairs.iter().map(|&[low, high]| line(low, high)).collect();
    }
    pairs.par_iter().with_min_len(TASK).map(|&[low, high]| line(low, high)).collect()
}

/// The first `2^BLOCK` powers.
fn powers<T: Copy + std::ops::Mul<Output = T>>(one: T, z: T) -> Vec<T> {
    std::iter::successors(Some(one), |&power| Some(power * z)).take(1 << BLOCK).collect()
}

/// `table[j] = Π_s (bit s of j ? x_s : 1 - x_s)`, the lowest variable first.
pub(super) fn tensor(point: &[F]) -> Vec<F> {
    let mut table = Vec::with_capacity(1 << point.len());
    table.push(F::ONE);
    for &x in point {
        let high: Vec<F> = table.iter().map(|&entry| entry * x).collect();
        for (low, &high) in table.iter_mut().zip(&high) {
            *low -= high;
        }
        table.extend(high);
    }
    table
}

/// `Σ_i vector_i z^i`.
pub(super) fn horner(vector: &[F], z: F) -> F {
    let (powers, step) = (powers(F::ONE, z), z.pow(1 << BLOCK));
    vector.chunks(1 << BLOCK).rev().fold(F::ZERO, |sum, chunk| sum * step + F::dot(&powers, chunk))
}

/// Every element as its two coordinates.
pub(super) fn flat(vector: &[F]) -> Vec<Goldilocks> {
    vector.iter().flat_map(|&F(real, imaginary)| [real, imaginary]).collect()
}
