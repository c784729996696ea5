//! Nets of mode S, and batches of them with witnesses to be proved or tampered with.

use super::forge_succinct::{Forgery, forge};
use super::nets::{bounded, largest, reshape, windows};
use super::{inputs, model, naive, verify_succinct};
use og_prove::opener::{FieldOf, Opener};
use og_prove::succinct::{Witness, prove_witness, run};
use og_prove::trace::Prepared;
use og_zkml::model::{Commitments, Model};
use og_zkml::qir::{Axis, Builder, Linear, Op, Program, Requant, Tensor};
use og_zkml::scheme::{Backend, Scheme};
use og_zkml::security::Security;
use og_zkml::succinct::Plan;
use og_zkml::trace::TraceError;
use std::sync::Arc;

/// Sites of windows and others, results that linear nodes read unseen, one of them twice, and one that is stated.
pub fn mixed() -> Program {
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

/// Two-bit weights, one linear node, requantised with a shift of one into `lo..=hi`, then shown by another; with windows, of
/// the largest.
pub fn tiny(kernels: &[u32], lo: i64, hi: i64) -> Program {
    let mut b = Builder::new("tiny");
    let x = b.input("x", &[1, 1], -2, 1, 0).unwrap();
    let cells = kernels.iter().product();
    let dense = bounded(&b, x, 2, 0, Linear::dense(1, 1, cells));
    let mut h = b.push(dense, &[x], 0).unwrap();
    if cells > 1 {
        h = b.push(largest(windows(kernels)), &[h], 0).unwrap();
    }
    let h = b.push(Op::Requant(Requant::shift(1, lo, hi)), &[h], 0).unwrap();
    let dense = bounded(&b, h, 2, 0, Linear::dense(1, 1, 1));
    let y = b.push(dense, &[h], 0).unwrap();
    b.output("y", y).unwrap();
    b.finish().unwrap()
}

/// So many sites, for trees of code words and several threads to work on.
pub fn wide(rows: u32, outer: u32) -> Program {
    let mut b = Builder::new("wide");
    let x = b.input("x", &[rows, 60], -127, 127, 0).unwrap();
    let dense = bounded(&b, x, 8, 20, Linear::dense(rows, 60, outer));
    let h = b.push(dense, &[x], 0).unwrap();
    let h = b.push(Op::Requant(Requant::shift(9, 0, 127)), &[h], 0).unwrap();
    let dense = bounded(&b, h, 8, 0, Linear::dense(rows, outer, 2));
    let y = b.push(dense, &[h], 0).unwrap();
    b.output("y", y).unwrap();
    b.finish().unwrap()
}

/// A batch, its witness, and everything needed to prove it or something else.
pub struct Case<O: Opener> {
    pub prepared: Prepared<O>,
    pub plan: Plan,
    pub inputs: Vec<Vec<Tensor>>,
    pub outputs: Vec<Vec<Tensor>>,
    pub witness: Witness,
}

impl<O: Opener> Case<O> {
    pub fn new(program: Program, batch: usize, seed: u64) -> Self {
        Self::of(&model(program, seed), batch, seed + 1)
    }

    pub fn of(model: &Arc<Model>, batch: usize, seed: u64) -> Self {
        let other = |digests: &og_zkml::model::Digests| match O::S::BACKEND {
            Backend::Hyrax => digests.whir,
            Backend::Whir => digests.hyrax,
        };
        let other = other(Commitments::of(model).unwrap().digests());
        let prepared = Prepared::<O>::new(Arc::clone(model), other).unwrap();
        let inputs = inputs(model.program(), batch, seed);
        let plan = Plan::new(model.program(), batch).unwrap();
        let (outputs, witness) = run(&plan, model.program(), model.weights(), &inputs).unwrap();
        Self { prepared, plan, inputs, outputs, witness }
    }

    /// The verdict on a proof of these outputs from this witness.
    pub fn verdict(
        &self,
        outputs: &[Vec<Tensor>],
        witness: &Witness,
    ) -> Result<Security, TraceError> {
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

    /// The same; a lie that cannot even be stated is refused too.
    pub fn verdict_or_unstated(
        &self,
        outputs: &[Vec<Tensor>],
        witness: &Witness,
    ) -> Result<Security, String> {
        let (prepared, plan, inputs) = (&self.prepared, &self.plan, &self.inputs);
        let proof = prove_witness(prepared, plan, inputs, outputs.to_vec(), witness, false)
            .map_err(|e| e.to_string())?;
        verify_succinct(prepared, inputs, outputs, &proof.bytes).map_err(|e| e.to_string())
    }

    pub fn forged(
        &self,
        outputs: &[Vec<Tensor>],
        witness: &Witness,
        forgery: &Forgery<'_, FieldOf<O>>,
    ) -> Vec<u8> {
        forge(&self.prepared, &self.plan, &self.inputs, outputs, witness, forgery)
    }

    /// Executes, with the result of each node of each inference changed before others read it.
    pub fn lie(&self, change: impl Fn(usize, usize, &mut Vec<i64>)) -> (Vec<Vec<Tensor>>, Witness) {
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
pub fn maker(program: &Program, tensor: usize) -> usize {
    program.nodes().iter().position(|node| node.output == tensor).unwrap()
}
