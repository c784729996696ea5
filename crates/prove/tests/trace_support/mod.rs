//! What the tests of both modes share: random models, and a scheme with nothing hidden in it.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

#[path = "../../../zkml/tests/execute/generator.rs"]
pub mod generator;

#[path = "../../../zkml/tests/succinct/nets.rs"]
pub mod nets;

#[path = "../../../zkml/tests/execute/naive.rs"]
pub mod naive;

pub mod case;
pub mod forge;
pub mod forge_succinct;

use generator::Random;
use og_prove::opener::{Claimed, Numbers, OpenError, Opener};
use og_prove::trace::Prepared;
use og_zkml::field::Field;
use og_zkml::layout::equality;
use og_zkml::model::Model;
use og_zkml::qir::{Axis, Builder, Linear, Op, Program, Requant, Tensor, Weights};
use og_zkml::scheme::{Backend, Opening, Scheme, SchemeError, Term, variables};
use og_zkml::trace::{Claim, DEFAULT_WORK, TraceError};
use og_zkml::transcript::{self, Label};
use og_zkml::whir::Goldilocks2;
use og_zkml::{security::Security, succinct, trace};
use std::sync::Arc;

/// A scheme that commits to a vector by showing it: for tests of what is around a scheme.
#[derive(Clone, Copy, Debug)]
pub struct Clear;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    n: u32,
    values: Vec<Goldilocks2>,
}

/// A vector shown inside a proof.
const SHOWN: Label = Label::new("clear.shown");

impl Scheme for Clear {
    type F = Goldilocks2;
    type Commitment = Shown;
    const BACKEND: Backend = Backend::Hyrax;

    fn commit(values: &[i64]) -> Result<Shown, SchemeError> {
        let elements = values.iter().map(|&value| Goldilocks2::from_i64(value)).collect();
        Ok(Shown { n: variables(values.len())?, values: elements })
    }

    fn encoded_len(n: u32) -> usize {
        16 << n
    }

    fn encode(commitment: &Shown) -> Vec<u8> {
        let mut bytes = Vec::new();
        commitment.values.iter().for_each(|value| value.write(&mut bytes));
        bytes
    }

    fn decode(_: &[u8], _: u32) -> Result<Shown, SchemeError> {
        Err(SchemeError::Commitment("not used"))
    }

    fn digest(commitment: &Shown) -> [u8; 32] {
        *blake3::hash(&Self::encode(commitment)).as_bytes()
    }

    const COORDINATES: usize = 1;

    fn coordinate(_: usize) -> Goldilocks2 {
        Goldilocks2::ONE
    }

    fn coordinates(element: Goldilocks2) -> impl Iterator<Item = Goldilocks2> {
        std::iter::once(element)
    }

    fn receive(
        length: usize,
        _: u32,
        transcript: &mut transcript::Verifier<'_>,
    ) -> Result<Shown, SchemeError> {
        Ok(Shown { n: variables(length)?, values: transcript.receive(SHOWN, length)? })
    }

    fn verify_all(
        openings: &[Opening<'_, Self>],
        _: &mut transcript::Verifier<'_>,
    ) -> Result<(), SchemeError> {
        for Opening { commitment, point, value } in openings {
            let true_value =
                Goldilocks2::dot(&equality(point, Goldilocks2::ONE), &commitment.values);
            if point.len() != commitment.n as usize || true_value != *value {
                return Err(SchemeError::Rejected("another value"));
            }
        }
        Ok(())
    }

    fn security(_: u32) -> Vec<Term> {
        Vec::new()
    }

    fn assumption() -> &'static str {
        "none"
    }
}

impl Opener for Clear {
    type S = Self;
    type Cached = ();

    fn prepare(values: Arc<[i64]>) -> Result<(Shown, ()), OpenError> {
        Ok((Self::commit(&values)?, ()))
    }

    fn send(
        numbers: Numbers<'_, Goldilocks2>,
        _: u32,
        transcript: &mut transcript::Prover,
    ) -> Result<(), OpenError> {
        match numbers {
            Numbers::Integers(values) => {
                let elements: Vec<_> =
                    values.iter().map(|&value| Goldilocks2::from_i64(value)).collect();
                transcript.send(SHOWN, &elements);
            }
            Numbers::Elements(elements) => transcript.send(SHOWN, elements),
        }
        Ok(())
    }

    fn open_all(_: &[Claimed<'_, Self>], _: &mut transcript::Prover) -> Result<(), OpenError> {
        Ok(())
    }
}

/// What a proof for what a prover prepared is about.
fn claim<'a, O: Opener>(
    prepared: &'a Prepared<O>,
    inputs: &'a [Vec<Tensor>],
    outputs: &'a [Vec<Tensor>],
) -> Claim<'a> {
    Claim { program: prepared.model().program(), digests: prepared.digests(), inputs, outputs }
}

/// Verifies a proof for what a prover prepared.
pub fn verify<O: Opener>(
    prepared: &Prepared<O>,
    inputs: &[Vec<Tensor>],
    outputs: &[Vec<Tensor>],
    proof: &[u8],
) -> Result<Security, TraceError> {
    let claim = claim(prepared, inputs, outputs);
    trace::verify::<O::S>(&claim, prepared.commitment(), proof, DEFAULT_WORK)
}

/// Verifies a proof of mode S for what a prover prepared.
pub fn verify_succinct<O: Opener>(
    prepared: &Prepared<O>,
    inputs: &[Vec<Tensor>],
    outputs: &[Vec<Tensor>],
    proof: &[u8],
) -> Result<Security, TraceError> {
    let claim = claim(prepared, inputs, outputs);
    succinct::verify::<O::S>(&claim, prepared.commitment(), proof, DEFAULT_WORK)
}

/// A model with all that matters here: a padded convolution in groups with biases, then a matrix on several rows, then
/// one on a single row that shares its operand with another.
pub fn program() -> Program {
    let mut b = Builder::new("mixed");
    let x = b.input("x", &[2, 2, 5, 4], -127, 127, 7).unwrap();
    let axes =
        [5, 4].map(|input| Axis { input, kernel: 3, stride: 2, dilation: 1, before: 1, after: 1 });
    let c = b
        .push(with_bound(Linear::conv(2, 2, 6, 2, axes.to_vec()).with_bias(20), 127), &[x], 21)
        .unwrap();
    let c = b.push(Op::Requant(Requant::shift(14, 0, 127)), &[c], 7).unwrap();
    let rows = b.push(with_bound(Linear::dense(2 * 6 * 3, 2, 3), 127), &[c], 21).unwrap();
    let rows = b.push(Op::Requant(Requant::shift(14, -127, 127)), &[rows], 7).unwrap();
    let flat = b.push(Op::Move(og_zkml::qir::Move::Reshape(vec![1, 108])), &[rows], 7).unwrap();
    let y = b.push(with_bound(Linear::dense(1, 108, 5).with_bias(30), 127), &[flat], 21).unwrap();
    let z = b.push(with_bound(Linear::dense(1, 108, 1), 127), &[flat], 21).unwrap();
    b.output("y", y).unwrap();
    b.output("z", z).unwrap();
    b.finish().unwrap()
}

/// A model whose commitment W has code words to query: about `inner · outer` weights.
pub fn wide(rows: u32, inner: u32, outer: u32) -> Program {
    let mut b = Builder::new("wide");
    let x = b.input("x", &[rows, inner], -127, 127, 7).unwrap();
    let h =
        b.push(with_bound(Linear::dense(rows, inner, outer).with_bias(20), 127), &[x], 21).unwrap();
    let h = b.push(Op::Requant(Requant::shift(16, 0, 127)), &[h], 7).unwrap();
    let y = b.push(with_bound(Linear::dense(rows, outer, 2), 127), &[h], 21).unwrap();
    b.output("y", y).unwrap();
    b.finish().unwrap()
}

fn with_bound(linear: Linear, magnitude: u64) -> Op {
    let bound = i64::try_from(linear.structural_bound(magnitude)).unwrap();
    Op::Linear(linear.with_bound(bound))
}

/// Random weights.
pub fn model(program: Program, seed: u64) -> Arc<Model> {
    let weights: Weights = generator::weights(&mut Random(seed), &program);
    Arc::new(Model::new(program, weights).unwrap())
}

/// Random inputs of a program, for each inference of a batch.
pub fn inputs(program: &Program, batch: usize, seed: u64) -> Vec<Vec<Tensor>> {
    let mut random = Random(seed);
    let mut tensor = |port: &og_zkml::qir::Port| {
        let values = (0..port.ty.len()).map(|_| random.between(port.ty.lo, port.ty.hi)).collect();
        Tensor { shape: port.ty.shape.clone(), values }
    };
    (0..batch).map(|_| program.inputs().iter().map(&mut tensor).collect()).collect()
}
