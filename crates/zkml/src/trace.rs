//! Verify an inference whose accumulators are in the clear (mode T).
//!
//! The prover states the accumulators of every linear node; the verifier executes the program with them, so that all
//! other operators are simply computed, and one argument shows that the stated accumulators are those of the committed
//! weights. Verification takes time in the activations, not in the weights.
//!
//! **This is not zero-knowledge.** A proof shows every accumulator, and so every activation; some hundreds of proofs
//! on different inputs determine the weights by linear algebra.
//!
//! # Protocol
//! For a batch of `B` inferences of a program with linear nodes `l = 0, …` (groups `g`, channels `o`, products `k`,
//! positions `p`: see [`Linear`]):
//! 1. The transcript absorbs the statement: version, backend, mode, model id, digests, number of weights, `B`, all
//!    inputs and outputs.
//! 2. Prover → verifier: the accumulators of every inference and node, each `acc + bound` in the least whole number of
//!    bytes for `2 · bound`.
//! 3. Verifier → prover: `γ` and a point `(ρ_g, ρ_o, ρ_p, ρ_b)`.
//! 4. The verifier executes each inference with the stated accumulators, refusing any beyond `±bound`, and compares the
//!    outputs. On the way it computes
//!    `v = Σ_l γ^l Σ_{b,g,o,p} eq(ρ_b,b) eq(ρ_g,g) eq(ρ_o,o) eq(ρ_p,p) · acc_{l,b}(g,o,p)` and, from the operands `x` of each node, the
//!    factors of `L(l,g,o,k) = γ^l eq(ρ_o,o) · eq(ρ_g,g) Σ_{b,p} eq(ρ_b,b) eq(ρ_p,p) x_{l,b}[index(g,p,k)]`; for a bias `x = 1`.
//! 5. A sumcheck of `n` rounds for `v = ⟨w, L⟩` leaves the claim `w̃(r) · L̃(r) = c` ([`crate::sumcheck`]).
//! 6. Prover → verifier: `w̃(r)`. The verifier computes `L̃(r)` ([`crate::layout`]) and compares.
//! 7. The scheme shows that the committed vector's extension is `w̃(r)` at `r`.
//!
//! # Why it is sound
//! Let `w` be the vector under the commitment, of integers in the ranges that the program declares: whoever recomputes
//! the model id from the weights has checked that (the digest of the weights covers decoded, range-checked weights).
//!
//! * **Equations over the integers.** For operands in their proven ranges `|Σ_k w x + bias| < 2^62` whatever the weights of
//!   the declared widths; the program cannot be built or decoded otherwise. Stated accumulators are at most `bound < 2^62`
//!   in magnitude. Two such integers differ by less than `2^63 < p`, so they are equal if they are equal in the field. Operands
//!   are in their ranges because inputs are checked and every other value is computed here from accumulators that were
//!   checked; by induction along the topological order, a first wrong accumulator has true operands or none is wrong.
//!   (The claim is in fact stronger: each node's accumulators are right *for the operands that the stated ones gave*.)
//! * **Combination.** Let `D_l(b,g,o,p)` be stated minus true accumulators given those operands. If some `D_l ≠ 0` then
//!   `Σ_l γ^l D̃_l(ρ)` is not the zero polynomial: powers of `γ` separate the nodes, and an extension is zero only if its
//!   table is. Its total degree is at most `(nodes - 1) + variables`, so it vanishes at the random point with
//!   probability at most that over `|F|` (Schwartz and Zippel). Nodes may share the same `ρ`, and an operand may feed several
//!   nodes: `L` is built for each node from the operand that the executor handed it.
//! * **Padded positions.** Sums run over real groups, channels, positions and inferences only, on both sides of the equation;
//!   `D` is extended by zeros, and a non-zero table stays non-zero.
//! * **Order of messages.** `γ` and `ρ` follow the accumulators, each sumcheck challenge its round, the opening the value.
//! * **Sumcheck.** `v ≠ ⟨w, L⟩` survives with probability at most `2n / |F|`.
//! * **Padding of the vector.** `L` is zero beyond the last weight: its boxes do not cover it. A commitment whose padding is not zero
//!   therefore proves nothing else; and for honest commitments it is zero.
//! * **Opening.** A false `w̃(r)` passes with the scheme's own error, whatever `L̃(r)` is.
//!
//! [`crate::security::trace`] adds these up and refuses fewer than 100 bits.

mod combine;
mod pack;

pub use combine::{COMBINE, Challenges, Combination, NodeCombination, Variables, finish};
pub use pack::{PackError, Packing};
pub(crate) use pack::{pack, packed_len, unpack};

use crate::execute::{ExecuteError, Linears, execute};
use crate::field::Field;
use crate::layout::{Layout, LayoutError, evaluate};
use crate::model::Digests;
use crate::qir::{Linear, Program, Tensor, TensorType};
use crate::scheme::{Backend, Mode, Scheme, SchemeError, parameters};
use crate::security::{self, Security, TooWeak};
use crate::sumcheck;
use crate::transcript::{Label, Statement, TranscriptError, Verifier};

/// The accumulators of one linear node in one inference.
pub const ACCUMULATORS: Label = Label::new("trace.accumulators");

/// The value of the weights' extension at the sumcheck's point.
pub const OPENED: Label = Label::new("trace.opened");

/// Most inferences in one proof.
pub const MAX_BATCH: usize = 1024;

/// Elementary operations that a verifier spends on one proof unless told otherwise.
pub const DEFAULT_WORK: u64 = 1 << 32;

/// What a proof of mode T is about.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The program.
    pub program: &'a Program,
    /// What the model's id is computed from.
    pub digests: &'a Digests,
    /// The inputs of each inference.
    pub inputs: &'a [Vec<Tensor>],
    /// The outputs of each inference.
    pub outputs: &'a [Vec<Tensor>],
}

/// Why a proof was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The number of inferences is zero, too large, or not that of the outputs.
    #[error("a proof covers 1 to {MAX_BATCH} inferences, not {0}")]
    Batch(usize),
    /// An input or output does not fit its type.
    #[error("{what} of inference {inference}: {reason}")]
    Tensor {
        /// Inputs or outputs.
        what: &'static str,
        /// Which inference.
        inference: usize,
        /// What is wrong.
        reason: PackError,
    },
    /// A digest does not name what it should.
    #[error("the digest of the {0} is not that of the model id")]
    Digest(&'static str),
    /// The weights cannot be laid out.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Too little soundness.
    #[error(transparent)]
    Security(#[from] TooWeak),
    /// Verification would take too long.
    #[error("verification takes {work} operations, more than the {limit} allowed")]
    Work {
        /// Operations it would take.
        work: u64,
        /// Operations allowed.
        limit: u64,
    },
    /// The proof's bytes are not those of a proof.
    #[error(transparent)]
    Transcript(#[from] TranscriptError),
    /// The program could not be executed with the stated accumulators.
    #[error("inference {inference}: {reason}")]
    Execute {
        /// Which inference.
        inference: usize,
        /// Why.
        reason: ExecuteError,
    },
    /// The outputs are not those that the accumulators give.
    #[error("inference {inference}: output {output} is not what the accumulators give")]
    Output {
        /// Which inference.
        inference: usize,
        /// Which output.
        output: usize,
    },
    /// The constraints on what is committed to do not hold.
    #[error("the constraints of the trace do not hold: {0}")]
    Constraint(&'static str),
    /// The accumulators are not those of the committed weights.
    #[error("the accumulators are not those of the committed weights")]
    Product,
    /// The opening fails.
    #[error(transparent)]
    Opening(#[from] SchemeError),
}

/// Verifies a proof of mode T with backend `S`.
///
/// The model id that the proof is good for is `claim.digests.model_id()`. Elementary operations are bounded by
/// `work_limit` ([`cost`]), which matters when the program is a stranger's.
///
/// # Errors
/// [`TraceError`]: whatever is wrong with the claim or the proof. Never panics, whatever the bytes.
pub fn verify<S: Scheme>(
    claim: &Claim<'_>,
    commitment: &S::Commitment,
    proof: &[u8],
    work_limit: u64,
) -> Result<Security, TraceError> {
    check_claim::<S>(claim, commitment, work_limit)?;
    let Claim { program, digests, inputs, outputs } = *claim;
    let layout = Layout::new(program)?;
    let bytes = StatementBytes::new(program, inputs, outputs)?;
    let nodes = program.linears().count();
    let variables = Variables::of(program, inputs.len()).total();
    let security = security::trace::<S>(nodes, variables, layout.variables())?;

    let mut transcript =
        Verifier::new(&bytes.statement(S::BACKEND, Mode::Trace, digests, &layout), proof);
    let mut stated = Vec::new();
    for _ in inputs {
        for (_, linear) in program.linears() {
            stated.push(transcript.receive_bytes(ACCUMULATORS, accumulator_bytes(linear))?);
        }
    }
    let combination = Combination::<S::F>::draw(program, inputs.len(), &mut transcript);
    let mut reader = Reader { stated: &[], weight: S::F::ZERO, nodes: combination.nodes(program) };
    let mut rest = stated.as_slice();
    for (inference, (inputs, outputs)) in inputs.iter().zip(outputs).enumerate() {
        (reader.stated, rest) = rest.split_at_checked(nodes).unwrap_or_default();
        reader.weight = combination.inference(inference);
        let found = execute(program, inputs, &mut reader)
            .map_err(|reason| TraceError::Execute { inference, reason })?;
        let differs =
            found.outputs.iter().zip(outputs).position(|(found, claimed)| found != claimed);
        if let Some(output) = differs {
            return Err(TraceError::Output { inference, output });
        }
    }
    let (value, functionals) = finish(reader.nodes);

    let (point, last) = sumcheck::verify(value, layout.variables(), &mut transcript)?;
    let opened = transcript.receive_one::<S::F>(OPENED)?;
    if opened * evaluate(&layout, &functionals, &point) != last {
        return Err(TraceError::Product);
    }
    S::verify(commitment, &point, opened, &mut transcript)?;
    transcript.finish()?;
    Ok(security)
}

/// Checks that digests name what they should, and that verification stays within bounds.
pub(crate) fn check_claim<S: Scheme>(
    claim: &Claim<'_>,
    commitment: &S::Commitment,
    work_limit: u64,
) -> Result<(), TraceError> {
    let Claim { program, digests, inputs, .. } = *claim;
    if digests.program != program.digest() {
        return Err(TraceError::Digest("program"));
    }
    if digests.parameters != parameters() {
        return Err(TraceError::Digest("parameters"));
    }
    let named = match S::BACKEND {
        Backend::Hyrax => digests.hyrax,
        Backend::Whir => digests.whir,
    };
    if named != S::digest(commitment) {
        return Err(TraceError::Digest("commitment"));
    }
    let work = cost(program, inputs.len());
    if work > work_limit {
        return Err(TraceError::Work { work, limit: work_limit });
    }
    Ok(())
}

/// Elementary operations of a verification: every operator but the linear ones, and for each linear node its
/// accumulators and the products of a group with every position.
#[must_use]
pub fn cost(program: &Program, batch: usize) -> u64 {
    let others = program.work().saturating_sub(program.linear_work());
    let each = program.linears().fold(others, |sum, (_, linear)| {
        let products = (linear.groups() as u64)
            .saturating_mul(linear.inner() as u64)
            .saturating_mul(linear.positions() as u64);
        sum.saturating_add(products).saturating_add(linear.accumulator_len() as u64)
    });
    each.saturating_mul(batch as u64)
}

/// Bytes of the accumulators of a linear node in one inference.
#[must_use]
pub fn accumulator_bytes(linear: &Linear) -> usize {
    linear.accumulator_len().saturating_mul(Packing::accumulators(linear.bound).width())
}

/// The canonical bytes of a batch's inputs and outputs, for a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementBytes {
    batch: u32,
    inputs: Vec<u8>,
    outputs: Vec<u8>,
}

impl StatementBytes {
    /// Packs inputs and outputs.
    ///
    /// # Errors
    /// When the batch is empty or too large, or a tensor does not fit its type.
    pub fn new(
        program: &Program,
        inputs: &[Vec<Tensor>],
        outputs: &[Vec<Tensor>],
    ) -> Result<Self, TraceError> {
        let (count, bad) = (inputs.len(), TraceError::Batch(inputs.len()));
        if count == 0 || count > MAX_BATCH || outputs.len() != count {
            return Err(bad);
        }
        let mut bytes = Self {
            batch: u32::try_from(count).map_err(|_| bad)?,
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        let (of_inputs, of_outputs) = (input_types(program), output_types(program));
        for (inference, tensors) in inputs.iter().enumerate() {
            pack(of_inputs.iter().copied(), tensors, &mut bytes.inputs)
                .map_err(|reason| TraceError::Tensor { what: "input", inference, reason })?;
        }
        for (inference, tensors) in outputs.iter().enumerate() {
            pack(of_outputs.iter().copied(), tensors, &mut bytes.outputs)
                .map_err(|reason| TraceError::Tensor { what: "output", inference, reason })?;
        }
        Ok(bytes)
    }

    /// The statement.
    #[must_use]
    pub fn statement<'a>(
        &'a self,
        backend: Backend,
        mode: Mode,
        digests: &'a Digests,
        layout: &Layout,
    ) -> Statement<'a> {
        Statement {
            backend,
            mode,
            digests,
            weight_count: layout.len() as u64,
            batch: self.batch,
            inputs: &self.inputs,
            outputs: &self.outputs,
        }
    }

    /// The number of inferences.
    #[must_use]
    pub const fn batch(&self) -> u32 {
        self.batch
    }

    /// The bytes of the inputs.
    #[must_use]
    pub fn inputs(&self) -> &[u8] {
        &self.inputs
    }

    /// The bytes of the outputs.
    #[must_use]
    pub fn outputs(&self) -> &[u8] {
        &self.outputs
    }
}

/// The types of a program's inputs.
pub(crate) fn input_types(program: &Program) -> Vec<&TensorType> {
    program.inputs().iter().map(|port| &port.ty).collect()
}

/// The types of a program's outputs.
pub(crate) fn output_types(program: &Program) -> Vec<&TensorType> {
    program.outputs().iter().filter_map(|output| program.tensors().get(output.tensor)).collect()
}

/// Hands the stated accumulators to the executor and combines them, and the operands they were stated for.
struct Reader<'a, F> {
    /// One message for each linear node, of the inference at hand.
    stated: &'a [&'a [u8]],
    /// Its weight in the combination.
    weight: F,
    nodes: Vec<NodeCombination<F>>,
}

impl<F: Field> Linears for Reader<'_, F> {
    fn accumulate(
        &mut self,
        index: usize,
        node: &Linear,
        x: &[i64],
    ) -> Result<Vec<i64>, ExecuteError> {
        let refuse = |reason: String| ExecuteError::Linear { index, reason };
        let bytes =
            self.stated.get(index).ok_or_else(|| refuse("has no accumulators".to_owned()))?;
        let accumulators = Packing::accumulators(node.bound)
            .read(bytes, node.accumulator_len())
            .map_err(|reason| refuse(format!("accumulators: {reason}")))?;
        let combination =
            self.nodes.get_mut(index).ok_or_else(|| refuse("is not in the program".to_owned()))?;
        combination.add_accumulators(node, self.weight, &accumulators);
        combination.add_operand(node, self.weight, x);
        Ok(accumulators)
    }
}
