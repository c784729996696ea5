//! Mode S: honest proofs hold for random nets, and nothing but honest ones: every leaf of a proof, every way of cheating
//! we know, all witnesses of tiny nets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests"
)]

#[path = "../../zkml/tests/execute/naive.rs"]
#[allow(dead_code, unreachable_pub, reason = "a part is used")]
mod naive;
mod trace_support;

use og_prove::opener::Opener;
use og_prove::succinct::{Witness, prove_witness, run};
use og_prove::trace::Prepared;
use og_zkml::execute::execute;
use og_zkml::model::Model;
use og_zkml::qir::{Axis, Builder, Linear, Op, Program, Requant, Tensor};
use og_zkml::security::Security;
use og_zkml::succinct::{Plan, Quantity, Source};
use og_zkml::trace::TraceError;
use std::sync::Arc;
use trace_support::nets::{bounded, largest, net, reshape, windows};
use trace_support::{Clear, inputs, model, verify_succinct};

/// Sites of windows and others, results that linear nodes read unseen, one of them twice, and one that is stated.
fn mixed() -> Program {
    let mut b = Builder::new("mixed");
    let x = b.input("x", &[1, 2, 4, 4], -7, 7, 0).unwrap();
    let axes =
        [4, 4].map(|input| Axis { input, kernel: 3, stride: 1, dilation: 1, before: 1, after: 1 });
    let conv = bounded(&b, x, 4, 6, Linear::conv(1, 2, 2, 1, axes.to_vec()));
    let h = b.push(conv, &[x], 0).unwrap();
    let h = b.push(largest(windows(&[2, 2])), &[h], 0).unwrap();
    let requant = Requant { multipliers: vec![1, 3], axis: 1, shift: 5, lo: 0, hi: 15 };
    let h = b.push(Op::Requant(requant), &[h], 0).unwrap();
    let h = b.push(reshape(&[1, 8]), &[h], 0).unwrap();
    let dense = bounded(&b, h, 4, 6, Linear::dense(1, 8, 5));
    let middle = b.push(dense, &[h], 0).unwrap();
    let middle = b.push(Op::Requant(Requant::scale(3, 4, -5, 9)), &[middle], 0).unwrap();
    let dense = bounded(&b, h, 4, 0, Linear::dense(1, 8, 2));
    let branch = b.push(dense, &[h], 0).unwrap();
    let branch = b.push(Op::Requant(Requant::shift(2, -20, 20)), &[branch], 0).unwrap();
    let branch = b.push(Op::Sum { coefficients: vec![3] }, &[branch], 0).unwrap();
    let dense = bounded(&b, middle, 4, 0, Linear::dense(1, 5, 3));
    let y = b.push(dense, &[middle], 0).unwrap();
    b.output("y", y).unwrap();
    b.output("branch", branch).unwrap();
    b.finish().unwrap()
}

/// A batch, its witness, and everything needed to prove it or something else.
struct Case<O: Opener> {
    prepared: Prepared<O>,
    plan: Plan,
    inputs: Vec<Vec<Tensor>>,
    outputs: Vec<Vec<Tensor>>,
    witness: Witness,
}

impl<O: Opener> Case<O> {
    fn new(program: Program, batch: usize, seed: u64) -> Self {
        Self::of(model(program, seed), batch, seed + 1)
    }

    fn of(model: Arc<Model>, batch: usize, seed: u64) -> Self {
        let prepared = Prepared::<O>::new(Arc::clone(&model), [7; 32]).unwrap();
        let inputs = inputs(model.program(), batch, seed);
        let plan = Plan::new(model.program(), batch).unwrap();
        let (outputs, witness) = run(&plan, model.program(), model.weights(), &inputs).unwrap();
        Self { prepared, plan, inputs, outputs, witness }
    }

    /// The verdict on a proof of these outputs from this witness.
    fn verdict(&self, outputs: &[Vec<Tensor>], witness: &Witness) -> Result<Security, TraceError> {
        let proof = prove_witness(
            &self.prepared,
            &self.plan,
            &self.inputs,
            outputs.to_vec(),
            witness,
            false,
        )
        .unwrap();
        verify_succinct(&self.prepared, &self.inputs, outputs, &proof.bytes)
    }

    /// Executes, with the result of each node of each inference changed before others read it.
    fn lie(&self, change: impl Fn(usize, usize, &mut Vec<i64>)) -> (Vec<Vec<Tensor>>, Witness) {
        let (program, weights) = (self.prepared.model().program(), self.prepared.model().weights());
        let (mut outputs, mut all) = (Vec::new(), Vec::new());
        for (inference, inputs) in self.inputs.iter().enumerate() {
            let mut tensors = inputs.clone();
            let mut matrices = weights.nodes().iter();
            for (index, node) in program.nodes().iter().enumerate() {
                let operands: Vec<&Tensor> = node.inputs.iter().map(|&i| &tensors[i]).collect();
                let types: Vec<_> = node.inputs.iter().map(|&i| &program.tensors()[i]).collect();
                let ty = &program.tensors()[node.output];
                let mut values: Vec<i64> = match &node.op {
                    Op::Linear(linear) => {
                        naive::linear(linear, matrices.next().unwrap(), &operands[0].values)
                    }
                    op => naive::coordinates(&ty.shape)
                        .iter()
                        .map(|at| naive::element(op, &operands, &types, ty, at) as i64)
                        .collect(),
                };
                change(inference, index, &mut values);
                tensors.push(Tensor { shape: ty.shape.clone(), values });
            }
            outputs.push(program.outputs().iter().map(|o| tensors[o.tensor].clone()).collect());
            all.push(tensors.into_iter().map(|tensor| tensor.values).collect());
        }
        let linears: Vec<usize> = program.linears().map(|(node, _)| node.output).collect();
        (outputs, Witness::new(&self.plan, all, &linears))
    }
}

/// Number of the node that makes a tensor.
fn maker(program: &Program, tensor: usize) -> usize {
    program.nodes().iter().position(|node| node.output == tensor).unwrap()
}

#[derive(Debug, Default)]
struct Seen {
    plain: usize,
    pooled: usize,
    several: usize,
    stated: usize,
    hidden_operands: usize,
    nothing: usize,
    above: usize,
    below: usize,
    per_axis: usize,
    no_shift: usize,
}

#[test]
fn honest_proofs_of_random_nets_hold() {
    let mut seen = Seen::default();
    for seed in 0..500 {
        let case = Case::<Clear>::new(net(seed), 1 + seed as usize % 5, seed);
        let (program, plan) = (case.prepared.model().program(), &case.plan);
        for (inputs, outputs) in case.inputs.iter().zip(&case.outputs) {
            let outcome = execute(program, inputs, &mut case.prepared.model().weights());
            assert_eq!(outcome.unwrap().outputs, *outputs, "seed {seed}");
        }
        assert_eq!(case.lie(|_, _, _| {}), (case.outputs.clone(), case.witness.clone()));
        case.verdict(&case.outputs, &case.witness).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let nodes = plan.nodes();
        seen.pooled += nodes.iter().filter(|node| node.pooled).count();
        seen.plain += nodes.iter().filter(|node| !node.pooled).count();
        seen.several += usize::from(nodes.len() > 1);
        seen.nothing += usize::from(!plan.has_sites());
        seen.per_axis += nodes.iter().filter(|node| node.requant.multipliers.len() > 1).count();
        seen.no_shift += nodes.iter().filter(|node| node.requant.shift == 0).count();
        let stated = |node| plan.source(maker(program, node)) == Source::Stated;
        seen.stated += nodes.iter().filter(|node| stated(node.tensor)).count();
        seen.hidden_operands +=
            (0..program.linears().count()).filter(|&l| plan.operand(l).is_some()).count();
        let positive = |quantity: Quantity| {
            let column = case.witness.column(plan, quantity);
            usize::from(column.iter().any(|&value| value > 0))
        };
        seen.above += positive(Quantity::Above);
        seen.below += positive(Quantity::Below);
    }
    println!("{seen:?}");
}

#[test]
fn a_stated_result_is_the_one_that_was_committed_to() {
    let case = Case::<Clear>::new(mixed(), 1, 1);
    let program = case.prepared.model().program();
    let node = case
        .plan
        .nodes()
        .iter()
        .find(|node| case.plan.source(maker(program, node.tensor)) == Source::Stated)
        .unwrap();
    let (mut outputs, mut witness) = (case.outputs.clone(), case.witness.clone());
    case.verdict(&outputs, &witness).unwrap();
    witness.tensors[0][node.tensor][1] -= 1;
    outputs[0][1].values[1] -= 3;
    assert!(case.verdict(&outputs, &witness).is_err(), "a false stated result");
}
