//! Cases for the tests of backend W.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a case that cannot be made is a failed test")]

use og_prove::opener::Opener;
use og_prove::whir::{Cached, WhirOpener};
use og_zkml::field::Field;
use og_zkml::model::Digests;
use og_zkml::scheme::{Backend, Mode, Scheme, SchemeError, variables};
use og_zkml::transcript::{Label, Leaf, Prover, Statement, Verifier};
use og_zkml::whir::{Commitment, Goldilocks2 as F, Whir};
use std::sync::Arc;

/// A seeded stream of numbers (SplitMix64).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    pub(crate) fn element(&mut self) -> F {
        let mut bytes = [0; 64];
        bytes.iter_mut().for_each(|byte| *byte = self.byte());
        F::from_uniform(&bytes)
    }
}

/// A vector, its commitment, and what is claimed of it.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) values: Vec<i64>,
    pub(crate) commitment: Commitment,
    pub(crate) cached: Arc<Cached>,
    pub(crate) point: Vec<F>,
    pub(crate) value: F,
    pub(crate) batch: u32,
}

const VALUE: Label = Label::new("test.value");

impl Case {
    /// `2^n` weights of 16 bits.
    pub(crate) fn new(n: u32, seed: u64) -> Self {
        Self::with_length(1 << n, seed)
    }

    pub(crate) fn with_length(length: usize, seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        Self::of(
            (0..length)
                .map(|_| i64::from(i16::from_le_bytes([numbers.byte(), numbers.byte()])))
                .collect(),
            seed,
        )
    }

    pub(crate) fn of(values: Vec<i64>, seed: u64) -> Self {
        let n = variables(values.len()).unwrap();
        let mut numbers = Numbers::new(seed ^ 0xffff);
        let point: Vec<F> = (0..n).map(|_| numbers.element()).collect();
        let value = extension(&values, &point);
        let (commitment, cached) = WhirOpener::prepare(values.clone().into()).unwrap();
        Self { values, commitment, cached: Arc::new(cached), point, value, batch: 1 }
    }

    /// The statement covers the point too: here it is no challenge.
    fn with_statement<T>(&self, f: impl FnOnce(&Statement<'_>) -> T) -> T {
        let mut inputs = Vec::new();
        self.point.iter().for_each(|x| x.write(&mut inputs));
        let digests = Digests {
            program: [1; 32],
            weights: [2; 32],
            hyrax: [3; 32],
            whir: Whir::digest(&self.commitment),
            parameters: [4; 32],
        };
        f(&Statement {
            backend: Backend::Whir,
            mode: Mode::Trace,
            digests: &digests,
            weight_count: self.values.len() as u64,
            batch: self.batch,
            inputs: &inputs,
            outputs: &[],
        })
    }

    /// An opening, after the value; without the value's own bytes.
    pub(crate) fn open(&self) -> (Vec<u8>, Vec<Leaf>) {
        self.with_statement(|statement| {
            let mut prover = Prover::new(statement).with_leaves();
            prover.send(VALUE, &[self.value]);
            WhirOpener::open(&self.cached, &self.point, self.value, &mut prover).unwrap();
            let (proof, leaves) = prover.finish();
            let leaves = leaves[1..].iter().map(|leaf| Leaf { offset: leaf.offset - 16, ..*leaf });
            (proof[16..].to_vec(), leaves.collect())
        })
    }

    /// Verifies an opening against this case's claims.
    pub(crate) fn verify(&self, proof: &[u8]) -> Result<(), SchemeError> {
        self.verify_bound(self, proof)
    }

    /// Verifies against the statement of another case, as if the commitment were not part of it.
    pub(crate) fn verify_bound(&self, bound: &Self, proof: &[u8]) -> Result<(), SchemeError> {
        bound.with_statement(|statement| {
            let mut bytes = Vec::new();
            self.value.write(&mut bytes);
            bytes.extend_from_slice(proof);
            let mut verifier = Verifier::new(statement, &bytes);
            verifier.receive_one::<F>(VALUE)?;
            Whir::verify(&self.commitment, &self.point, self.value, &mut verifier)?;
            Ok(verifier.finish()?)
        })
    }
}

/// The multilinear extension of the values, padded with zeros; variable 0 is the index's highest bit.
pub(crate) fn extension(values: &[i64], point: &[F]) -> F {
    let mut table: Vec<F> = values.iter().map(|&value| F::from_i64(value)).collect();
    table.resize(1 << point.len(), F::ZERO);
    for &x in point {
        let (low, high) = table.split_at(table.len() / 2);
        table = low.iter().zip(high).map(|(&low, &high)| low + x * (high - low)).collect();
    }
    table[0]
}
