//! A prover that follows the protocol except where it cheats.

use super::generator::Random;
use og_prove::opener::{FieldOf, Opener};
use og_prove::trace::{Prepared, Proof, Step, functionals, materialise};
use og_zkml::execute::{ExecuteError, Linears, execute};
use og_zkml::field::Field;
use og_zkml::layout::evaluate;
use og_zkml::qir::{Linear, Tensor, Weights};
use og_zkml::scheme::{Mode, Scheme};
use og_zkml::sumcheck::{CHALLENGE, ROUND, next};
use og_zkml::trace::{ACCUMULATORS, Combination, OPENED, Packing, StatementBytes};
use og_zkml::transcript::{Label, Prover, Statement};
use std::collections::BTreeMap;

/// How to cheat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cheat {
    /// Not at all.
    No,
    /// Challenges do not depend on the inputs.
    OmitInputs,
    /// Challenges do not depend on the outputs.
    OmitOutputs,
    /// Challenges do not depend on the digests.
    OmitDigests,
    /// Challenges do not depend on the accumulators.
    OmitAccumulators,
    /// Challenges do not depend on the first round's polynomial, which is then chosen to repair a false claim.
    OmitRound,
    /// Challenges do not depend on the opened value.
    OmitOpened,
    /// The opened value is the one that makes the product right.
    FitOpened,
    /// The opening is a true one, but at a point where the value makes the product right.
    OwnPoint,
}

/// A proof of `steps` for the statement of `claimed`, from the weights and the commitment of `owned`.
pub fn forge<O: Opener>(
    claimed: &Prepared<O>,
    owned: &Prepared<O>,
    inputs: &[Vec<Tensor>],
    outputs: &[Vec<Tensor>],
    steps: &[Vec<Step>],
    cheat: Cheat,
) -> Vec<u8> {
    let program = claimed.model().program();
    let bytes = StatementBytes::new(program, inputs, outputs).unwrap();
    let mut digests = *claimed.digests();
    if cheat == Cheat::OmitDigests {
        digests.weights = [0; 32];
    }
    let honest = bytes.statement(O::S::BACKEND, Mode::Trace, &digests, claimed.layout());
    let statement = match cheat {
        Cheat::OmitInputs => Statement { inputs: &[], ..honest },
        Cheat::OmitOutputs => Statement { outputs: &[], ..honest },
        _ => honest,
    };
    let mut sender = Sender::new(&statement);
    for steps in steps {
        for ((_, linear), step) in program.linears().zip(steps) {
            let packing = Packing::accumulators(linear.bound);
            let mut packed = Vec::new();
            packing.write(&step.accumulators, &mut packed).unwrap();
            sender.send(ACCUMULATORS, packed, cheat == Cheat::OmitAccumulators);
        }
    }
    let combination =
        Combination::<FieldOf<O>>::draw(program, inputs.len(), &mut sender.transcript);
    let functionals = functionals(program, &combination, steps);
    let mut claim = FieldOf::<O>::ZERO;
    for (index, (_, linear)) in program.linears().enumerate() {
        let mut node = combination.node(index, linear);
        for (inference, steps) in steps.iter().enumerate() {
            node.add_accumulators(
                linear,
                combination.inference(inference),
                &steps[index].accumulators,
            );
        }
        claim += node.finish().0;
    }

    let mut factors = materialise(owned.layout(), &functionals);
    let mut weights: Vec<FieldOf<O>> =
        owned.vector().iter().map(|&weight| Field::from_i64(weight)).collect();
    weights.resize(factors.len(), Field::ZERO);
    let full = weights.clone();
    let mut point = Vec::new();
    while factors.len() > 1 {
        let (mut at_zero, leading) = naive_round(&weights, &factors);
        let omit = cheat == Cheat::OmitRound && point.is_empty();
        let r = if omit {
            // The challenge is known before the polynomial: choose one that meets both the claim and, at r, the truth.
            let r: FieldOf<O> = sender.transcript.challenge(CHALLENGE);
            let truth = next(FieldOf::<O>::dot(&weights, &factors), at_zero, leading, r);
            at_zero = repair(claim, leading, r, truth);
            assert_eq!(
                next(claim, at_zero, leading, r),
                truth,
                "a verifier that forgot the polynomial would be fooled"
            );
            sender.send(ROUND, encode(&[at_zero, leading]), true);
            r
        } else {
            sender.send(ROUND, encode(&[at_zero, leading]), false);
            sender.transcript.challenge(CHALLENGE)
        };
        claim = next(claim, at_zero, leading, r);
        weights = bind(&weights, r);
        factors = bind(&factors, r);
        point.push(r);
    }
    let mut value = weights[0];
    assert_eq!(evaluate(claimed.layout(), &functionals, &point), factors[0]);
    if matches!(cheat, Cheat::FitOpened | Cheat::OwnPoint) {
        value = claim * factors[0].inverse().unwrap();
    }
    sender.send(OPENED, encode(&[value]), cheat == Cheat::OmitOpened);
    if cheat == Cheat::OwnPoint {
        let (low, high) = full.split_at(full.len() / 2);
        let rest = og_zkml::layout::equality(&point[1..], Field::ONE);
        let (low, high) = (FieldOf::<O>::dot(low, &rest), FieldOf::<O>::dot(high, &rest));
        point[0] = (value - low) * (high - low).inverse().unwrap();
        assert_eq!(FieldOf::<O>::dot(&full, &og_zkml::layout::equality(&point, Field::ONE)), value);
    }
    O::open(owned.cached(), &point, value, &mut sender.transcript).unwrap();
    sender.finish()
}

/// Sends with or without absorbing; the library has no way of doing the latter.
pub struct Sender {
    pub transcript: Prover,
    hidden: Vec<(usize, Vec<u8>)>,
}

impl Sender {
    pub fn new(statement: &Statement<'_>) -> Self {
        Self { transcript: Prover::new(statement), hidden: Vec::new() }
    }

    pub fn send(&mut self, label: Label, bytes: Vec<u8>, hide: bool) {
        if hide {
            self.hide(bytes);
        } else {
            self.transcript.send_bytes(label, &bytes, bytes.len());
        }
    }

    pub fn hide(&mut self, bytes: Vec<u8>) {
        self.hidden.push((self.transcript.len(), bytes));
    }

    pub fn finish(self) -> Vec<u8> {
        let mut proof = self.transcript.finish().0;
        for (at, bytes) in self.hidden.into_iter().rev() {
            proof.splice(at..at, bytes);
        }
        proof
    }
}

/// The `h(0)` of the polynomial with this leading coefficient, sum and value at `r`.
fn repair<F: Field>(claim: F, leading: F, r: F, truth: F) -> F {
    // h(r) = h0 + r (claim - 2 h0 - leading) + r² leading
    let rest = r * (claim - leading) + r * r * leading;
    (truth - rest) * (F::ONE - r - r).inverse().unwrap()
}

pub fn encode<F: Field>(elements: &[F]) -> Vec<u8> {
    let mut bytes = Vec::new();
    elements.iter().for_each(|element| element.write(&mut bytes));
    bytes
}

/// A round of the sumcheck by definition.
pub fn naive_round<F: Field>(weights: &[F], factors: &[F]) -> (F, F) {
    let half = weights.len() / 2;
    (0..half).fold((F::ZERO, F::ZERO), |(at_zero, leading), i| {
        let (a, b, c, d) = (weights[i], weights[i + half], factors[i], factors[i + half]);
        (at_zero + a * c, leading + (b - a) * (d - c))
    })
}

/// The table with its first variable bound.
pub fn bind<F: Field>(table: &[F], r: F) -> Vec<F> {
    let (low, high) = table.split_at(table.len() / 2);
    low.iter().zip(high).map(|(&a, &b)| a + r * (b - a)).collect()
}

/// Executes with accumulators that `change` has changed, so that everything after them, outputs too, fits the lie.
pub fn lie(
    program: &og_zkml::qir::Program,
    weights: &Weights,
    inputs: &[Vec<Tensor>],
    change: impl Fn(usize, usize, &Linear, &mut Vec<i64>),
) -> (Vec<Vec<Tensor>>, Vec<Vec<Step>>) {
    struct Liar<'a, C> {
        weights: &'a Weights,
        inference: usize,
        change: &'a C,
        steps: Vec<Step>,
    }
    impl<C: Fn(usize, usize, &Linear, &mut Vec<i64>)> Linears for Liar<'_, C> {
        fn accumulate(
            &mut self,
            index: usize,
            node: &Linear,
            x: &[i64],
        ) -> Result<Vec<i64>, ExecuteError> {
            let mut weights = self.weights;
            let mut accumulators = weights.accumulate(index, node, x)?;
            (self.change)(self.inference, index, node, &mut accumulators);
            self.steps.push(Step { operand: x.to_vec(), accumulators: accumulators.clone() });
            Ok(accumulators)
        }
    }
    let mut outputs = Vec::new();
    let mut steps = Vec::new();
    for (inference, inputs) in inputs.iter().enumerate() {
        let mut liar = Liar { weights, inference, change: &change, steps: Vec::new() };
        outputs.push(execute(program, inputs, &mut liar).unwrap().outputs);
        steps.push(liar.steps);
    }
    (outputs, steps)
}

/// Changes every leaf of a proof in many ways, none of which may hold; counts changes, and leaves by label.
pub fn change_every_leaf(
    proof: &Proof,
    holds: impl Fn(&[u8]) -> bool,
) -> (u64, BTreeMap<&'static str, u64>) {
    assert!(holds(&proof.bytes));
    let mut random = Random(13);
    let (mut count, mut touched, mut end) = (0, 0, 0);
    let mut by_label = BTreeMap::new();
    let mut bytes = proof.bytes.clone();
    for (index, leaf) in proof.leaves.iter().enumerate() {
        assert_eq!(leaf.offset, end, "leaves follow one another");
        end = leaf.offset + leaf.length;
        let neighbour =
            proof.leaves.get(index + 1).or_else(|| proof.leaves.get(index.wrapping_sub(1)));
        let neighbour = neighbour.map(|leaf| &proof.bytes[leaf.offset..leaf.offset + leaf.length]);
        let original = proof.bytes[leaf.offset..end].to_vec();
        let changes = mutations(&original, neighbour, &mut random);
        touched += usize::from(!changes.is_empty());
        for change in changes {
            bytes[leaf.offset..end].copy_from_slice(&change);
            assert!(!holds(&bytes), "{leaf:?} changed to {change:?} and the proof still holds");
            count += 1;
        }
        bytes[leaf.offset..end].copy_from_slice(&original);
        *by_label.entry(leaf.label.name()).or_default() += 1;
    }
    assert_eq!(end, proof.bytes.len(), "leaves cover the proof");
    assert_eq!(touched, proof.leaves.len(), "every leaf was changed");
    (count, by_label)
}

/// Changes one byte string in many ways; each result differs from the original.
pub fn mutations(original: &[u8], neighbour: Option<&[u8]>, random: &mut Random) -> Vec<Vec<u8>> {
    let add = |by: u8| {
        let mut bytes = original.to_vec();
        for byte in &mut bytes {
            let (sum, carry) = byte.overflowing_add(by);
            *byte = sum;
            if !carry {
                break;
            }
        }
        bytes
    };
    let subtract = || {
        let mut bytes = original.to_vec();
        for byte in &mut bytes {
            let (rest, borrow) = byte.overflowing_sub(1);
            *byte = rest;
            if !borrow {
                break;
            }
        }
        bytes
    };
    let noise: Vec<u8> = original.iter().map(|_| random.next() as u8).collect();
    let mut all = vec![add(1), subtract(), vec![0; original.len()], noise, negate(original)];
    all.extend(neighbour.filter(|other| other.len() == original.len()).map(<[u8]>::to_vec));
    all.retain(|bytes| bytes != original);
    all
}

/// `p - x` for what may be a field element, all bits flipped for anything else.
fn negate(bytes: &[u8]) -> Vec<u8> {
    fn field<F: Field>(bytes: &[u8]) -> Option<Vec<u8>> {
        F::read(bytes).map(|element| encode(&[-element]))
    }
    field::<og_zkml::hyrax::Scalar>(bytes)
        .or_else(|| field::<og_zkml::whir::Goldilocks2>(bytes))
        .unwrap_or_else(|| bytes.iter().map(|byte| !byte).collect())
}
