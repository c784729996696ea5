//! Prove an inference with the accumulators in the clear (mode T).
//!
//! The protocol and why it is sound: [`og_zkml::trace`]. A prover executes the inferences, states the accumulators, and
//! proves one claim about the committed weights. All inferences of a batch share that claim, its sumcheck and its opening.

use crate::opener::{Commitment, FieldOf, OpenError, Opener};
use crate::sumcheck::{self, Pair, Values};
use og_zkml::execute::{ExecuteError, Linears, execute};
use og_zkml::field::Field;
use og_zkml::layout::{Functional, Kind, Layout, LayoutError};
use og_zkml::model::{Digests, Model};
use og_zkml::proof_file::ProofFile;
use og_zkml::qir::{Linear, Program, Tensor, Weights};
use og_zkml::scheme::{Backend, Mode, Scheme, parameters};
use og_zkml::trace::{
    ACCUMULATORS, Combination, OPENED, PackError, Packing, StatementBytes, TraceError,
};
use og_zkml::transcript;
use rayon::prelude::*;
use std::sync::Arc;

/// Why an inference could not be proved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProveError {
    /// The digests are not those of the model and its commitment.
    #[error("the digest of the {0} is not that of the model")]
    Digest(&'static str),
    /// The weights cannot be laid out.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// An inference could not be executed.
    #[error("inference {inference}: {reason}")]
    Execute {
        /// Which inference.
        inference: usize,
        /// Why.
        reason: ExecuteError,
    },
    /// Accumulators exceed the bound that the program declares.
    #[error("linear node {node}: accumulators: {reason}")]
    Accumulators {
        /// Which linear node.
        node: usize,
        /// Why.
        reason: PackError,
    },
    /// The inferences cannot be stated.
    #[error(transparent)]
    Statement(#[from] TraceError),
    /// The commitment cannot be made or opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A model whose weights are committed to with backend `O`, ready to prove one inference after another.
pub struct Prepared<O: Opener> {
    model: Arc<Model>,
    layout: Layout,
    vector: Arc<[i64]>,
    commitment: Commitment<O>,
    cached: O::Cached,
    digests: Digests,
}

/// A proof, and what it proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The protocol it follows.
    pub mode: Mode,
    /// The outputs of each inference.
    pub outputs: Vec<Vec<Tensor>>,
    /// The proof.
    pub bytes: Vec<u8>,
    /// Where its scalars and digests lie; empty unless asked for ([`prove_mapped`]).
    pub leaves: Vec<transcript::Leaf>,
}

/// A linear node of one inference: its operand and its accumulators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The operand.
    pub operand: Vec<i64>,
    /// The accumulators.
    pub accumulators: Vec<i64>,
}

impl<O: Opener> Prepared<O> {
    /// Commits to a model's weights. The digest of the other backend's commitment, which the model's id also covers,
    /// is the caller's (`other`).
    ///
    /// # Errors
    /// When the weights cannot be committed to.
    pub fn new(model: Arc<Model>, other: [u8; 32]) -> Result<Self, ProveError> {
        let layout = Layout::new(model.program())?;
        let vector: Arc<[i64]> = layout.arrange(model.weights())?.into();
        let (commitment, cached) = O::prepare(Arc::clone(&vector))?;
        let own = O::S::digest(&commitment);
        let (hyrax, whir) = match O::S::BACKEND {
            Backend::Hyrax => (own, other),
            Backend::Whir => (other, own),
        };
        let digests = model.digests(hyrax, whir, parameters());
        Ok(Self { model, layout, vector, commitment, cached, digests })
    }

    /// [`Self::new`], with the other backend's commitment made by its scheme `Other`.
    ///
    /// # Errors
    /// When the weights cannot be committed to.
    pub fn with_other<Other: Scheme>(model: Arc<Model>) -> Result<Self, ProveError> {
        let vector = Layout::new(model.program())?.arrange(model.weights())?;
        let other = Other::commit(&vector).map_err(OpenError::from)?;
        Self::new(model, Other::digest(&other))
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Where the weights lie in the committed vector.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The committed vector, without padding.
    #[must_use]
    pub fn vector(&self) -> &[i64] {
        &self.vector
    }

    /// The commitment.
    #[must_use]
    pub const fn commitment(&self) -> &Commitment<O> {
        &self.commitment
    }

    /// What opening takes.
    #[must_use]
    pub const fn cached(&self) -> &O::Cached {
        &self.cached
    }

    /// What the model's id is computed from.
    #[must_use]
    pub const fn digests(&self) -> &Digests {
        &self.digests
    }
}

impl<O: Opener> Prepared<O> {
    /// The proof file (`.ogz`) of a proof.
    #[must_use]
    pub fn file(&self, inputs: Vec<Vec<Tensor>>, proof: Proof) -> ProofFile {
        ProofFile {
            mode: proof.mode,
            backend: O::S::BACKEND,
            digests: self.digests,
            program: self.model.program().clone(),
            commitment: O::S::encode(&self.commitment),
            inputs,
            outputs: proof.outputs,
            proof: proof.bytes,
        }
    }
}

/// Proves a batch of inferences: `inputs` holds one list of tensors for each.
///
/// # Errors
/// [`ProveError`], before any proof is made.
pub fn prove<O: Opener>(
    prepared: &Prepared<O>,
    inputs: &[Vec<Tensor>],
) -> Result<Proof, ProveError> {
    prove_with(prepared, inputs, false)
}

/// [`prove`], with a map of the proof's leaves.
///
/// # Errors
/// As [`prove`].
pub fn prove_mapped<O: Opener>(
    prepared: &Prepared<O>,
    inputs: &[Vec<Tensor>],
) -> Result<Proof, ProveError> {
    prove_with(prepared, inputs, true)
}

fn prove_with<O: Opener>(
    prepared: &Prepared<O>,
    inputs: &[Vec<Tensor>],
    mapped: bool,
) -> Result<Proof, ProveError> {
    let (outputs, steps) = run(prepared.model.program(), prepared.model.weights(), inputs)?;
    prove_steps(prepared, inputs, outputs, &steps, mapped)
}

/// Executes a batch; returns the outputs and the linear nodes' steps of each inference.
///
/// # Errors
/// When an input does not fit the program.
#[expect(clippy::type_complexity, reason = "a batch of tensors, and a batch of steps")]
pub fn run(
    program: &Program,
    weights: &Weights,
    inputs: &[Vec<Tensor>],
) -> Result<(Vec<Vec<Tensor>>, Vec<Vec<Step>>), ProveError> {
    let mut outputs = Vec::with_capacity(inputs.len());
    let mut steps = Vec::with_capacity(inputs.len());
    for (inference, inputs) in inputs.iter().enumerate() {
        let mut recorder = Recorder { weights, steps: Vec::new() };
        let outcome = execute(program, inputs, &mut recorder)
            .map_err(|reason| ProveError::Execute { inference, reason })?;
        outputs.push(outcome.outputs);
        steps.push(recorder.steps);
    }
    Ok((outputs, steps))
}

/// Proves stated steps. Nothing checks that they are true: a proof of false ones is refused by the verifier.
///
/// # Errors
/// When the steps cannot be written down.
pub fn prove_steps<O: Opener>(
    prepared: &Prepared<O>,
    inputs: &[Vec<Tensor>],
    outputs: Vec<Vec<Tensor>>,
    steps: &[Vec<Step>],
    mapped: bool,
) -> Result<Proof, ProveError> {
    let program = prepared.model.program();
    let statement = StatementBytes::new(program, inputs, &outputs)?;
    let statement =
        statement.statement(O::S::BACKEND, Mode::Trace, &prepared.digests, &prepared.layout);
    let mut transcript = transcript::Prover::new(&statement);
    if mapped {
        transcript = transcript.with_leaves();
    }
    let mut packed = Vec::new();
    for steps in steps {
        for (node, ((_, linear), step)) in program.linears().zip(steps).enumerate() {
            let packing = Packing::accumulators(linear.bound);
            packed.clear();
            packing
                .write(&step.accumulators, &mut packed)
                .map_err(|reason| ProveError::Accumulators { node, reason })?;
            transcript.send_bytes(ACCUMULATORS, &packed, packing.width());
        }
    }
    let combination = Combination::<FieldOf<O>>::draw(program, inputs.len(), &mut transcript);
    let factors = materialise(&prepared.layout, &functionals(program, &combination, steps));
    let values = Values::Integers(&prepared.vector);
    let (point, opened) = sumcheck::prove(vec![Pair { values, factors }], &mut transcript);
    transcript.send(OPENED, &opened);
    let value = opened.first().copied().unwrap_or(FieldOf::<O>::ZERO);
    O::open(&prepared.cached, &point, value, &mut transcript)?;
    let (bytes, leaves) = transcript.finish();
    Ok(Proof { mode: Mode::Trace, outputs, bytes, leaves })
}

/// The functional of each linear node for the operands of a batch.
pub fn functionals<F: Field>(
    program: &Program,
    combination: &Combination<F>,
    steps: &[Vec<Step>],
) -> Vec<Functional<F>> {
    let nodes: Vec<&Linear> = program.linears().map(|(_, linear)| linear).collect();
    let of = |(index, linear): (usize, &&Linear)| {
        let mut node = combination.node(index, linear);
        for (inference, steps) in steps.iter().enumerate() {
            if let Some(step) = steps.get(index) {
                node.add_operand(linear, combination.inference(inference), &step.operand);
            }
        }
        node.finish().1
    };
    let work: usize =
        nodes.iter().map(|linear| linear.groups() * linear.inner() * linear.positions()).sum();
    if work * steps.len() < sumcheck::PARALLEL {
        nodes.iter().enumerate().map(of).collect()
    } else {
        nodes.par_iter().enumerate().map(of).collect()
    }
}

/// The table of `L` over the padded vector, box by box.
pub fn materialise<F: Field>(layout: &Layout, functionals: &[Functional<F>]) -> Vec<F> {
    let mut table = vec![F::ZERO; 1 << layout.variables()];
    let mut rest = table.as_mut_slice();
    let mut boxes = Vec::with_capacity(layout.cubes().len());
    for cube in layout.cubes() {
        let (part, after) = rest.split_at_mut(cube.len());
        boxes.push((cube, part));
        rest = after;
    }
    for (cube, part) in boxes {
        let (Some(functional), Some(sizes)) =
            (functionals.get(cube.node), layout.sizes().get(cube.node))
        else {
            continue;
        };
        let rows = functional.rows_of(cube);
        let width = match cube.kind {
            Kind::Weight => 1_usize << cube.column_bits,
            Kind::Bias => 1,
        };
        let fill = |(index, line): (usize, &mut [F])| {
            let (group, row) = (index >> cube.row_bits, index % rows.len().max(1));
            let columns = functional.columns_of(cube, sizes, cube.group + group);
            if let Some(&row) = rows.get(row) {
                line.iter_mut().zip(columns).for_each(|(entry, &column)| *entry = row * column);
            }
        };
        if part.len() < sumcheck::PARALLEL {
            part.chunks_mut(width).enumerate().for_each(fill);
        } else {
            part.par_chunks_mut(width)
                .enumerate()
                .with_min_len((1 << 12_u32) / width.min(1 << 12))
                .for_each(fill);
        }
    }
    table
}

/// Executes honestly and keeps each linear node's operand and accumulators.
struct Recorder<'a> {
    weights: &'a Weights,
    steps: Vec<Step>,
}

impl Linears for Recorder<'_> {
    fn accumulate(
        &mut self,
        index: usize,
        node: &Linear,
        x: &[i64],
    ) -> Result<Vec<i64>, ExecuteError> {
        let mut weights = self.weights;
        let accumulators = weights.accumulate(index, node, x)?;
        self.steps.push(Step { operand: x.to_vec(), accumulators: accumulators.clone() });
        Ok(accumulators)
    }
}
