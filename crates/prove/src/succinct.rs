//! Prove an inference with accumulators and activations committed to (mode S).
//!
//! The protocol and why it is sound: [`og_zkml::succinct`].

mod constraints;
mod witness;

pub use witness::{BySite, Witness};

use crate::opener::{FieldOf, Numbers, Opener};
use crate::sumcheck::{self, Pair, Values};
use crate::trace::{Prepared, Proof, ProveError, Step, functionals, materialise};
use constraints::{Column, Columns};
use og_zkml::execute::execute_traced;
use og_zkml::field::Field;
use og_zkml::layout::Functional;
use og_zkml::qir::{Program, Tensor, Weights as ModelWeights};
use og_zkml::scheme::{Mode, Scheme};
use og_zkml::succinct::{
    CLAIMS, CONSTRAINTS, Claims, Constrained, ConstraintChallenges, EVALUATIONS, LOOKUP, OPENED,
    OPERAND, PRODUCTS, Plan, Products, Quantity, STATED, Sizes, Source, Stated, Weights,
    stated_messages,
};
use og_zkml::trace::{Combination, StatementBytes, TraceError};
use og_zkml::transcript;

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
    let program = prepared.model().program();
    let plan = Plan::new(program, inputs.len()).map_err(TraceError::from)?;
    let (outputs, witness) = run(&plan, program, prepared.model().weights(), inputs)?;
    // Within the pool of threads: its many short parallel steps need not wake it each time.
    rayon::scope(|_| prove_witness(prepared, &plan, inputs, outputs, &witness, mapped))
}

/// Executes a batch; returns the outputs and what is to be committed to.
///
/// # Errors
/// When an input does not fit the program.
pub fn run(
    plan: &Plan,
    program: &Program,
    weights: &ModelWeights,
    inputs: &[Vec<Tensor>],
) -> Result<(Vec<Vec<Tensor>>, Witness), ProveError> {
    let (mut outputs, mut tensors) = (Vec::new(), Vec::new());
    for (inference, inputs) in inputs.iter().enumerate() {
        let mut weights = weights;
        let outcome = execute_traced(program, inputs, &mut weights)
            .map_err(|reason| ProveError::Execute { inference, reason })?;
        outputs.push(outcome.outputs);
        tensors.push(outcome.tensors.into_iter().map(|tensor| tensor.values).collect());
    }
    let linears: Vec<usize> = program.linears().map(|(node, _)| node.output).collect();
    Ok((outputs, Witness::new(plan, tensors, &linears)))
}

/// Proves a stated witness. Nothing checks that it is true: a proof of a false one is refused by the verifier.
///
/// # Errors
/// When what is stated cannot be written down.
pub fn prove_witness<O: Opener>(
    prepared: &Prepared<O>,
    plan: &Plan,
    inputs: &[Vec<Tensor>],
    outputs: Vec<Vec<Tensor>>,
    witness: &Witness,
    mapped: bool,
) -> Result<Proof, ProveError> {
    let program = prepared.model().program();
    let sizes = Sizes::new::<O::S>(plan, prepared.layout()).map_err(TraceError::from)?;
    let statement = StatementBytes::new(program, inputs, &outputs)?;
    let statement =
        statement.statement(O::S::BACKEND, Mode::Succinct, prepared.digests(), prepared.layout());
    let mut transcript = transcript::Prover::new(&statement);
    if mapped {
        transcript = transcript.with_leaves();
    }
    let steps = send_stated(plan, program, witness, &mut transcript)?;
    let trace = if plan.has_sites() { witness.trace(plan) } else { Vec::new() };
    let mut vectors = Vec::new();
    if plan.has_sites() {
        vectors.push(O::send(Numbers::Integers(&trace), sizes.widest, &mut transcript)?);
    }
    let combination = Combination::<FieldOf<O>>::draw(program, inputs.len(), &mut transcript);

    let mut helpers = Vec::new();
    let mut constrained = None;
    if plan.has_sites() {
        let lookup = transcript.challenge(LOOKUP);
        helpers = fractions(plan, &trace, lookup);
        vectors.push(O::send(Numbers::Elements(&helpers), sizes.widest, &mut transcript)?);
        let columns = columns(plan, witness, &trace, &helpers);
        constrained = prove_constraints(plan, columns, lookup, &mut transcript);
    }

    let mut functionals = functionals(program, &combination, &steps);
    let products = prove_products(prepared, plan, &functionals, &mut transcript);
    let weights = Weights::new(plan, transcript.challenge(CLAIMS));
    let scale = weights.product() * products.operand;
    products.replace(plan, program, scale, &mut functionals);
    // The prover needs no total, to which alone the stated numbers contribute: no round's message depends on it.
    let stated = Stated { accumulators: FieldOf::<O>::ZERO, results: Vec::new() };
    let claims = Claims::new(plan, program, &combination, weights, &stated, constrained, &products);

    let mut pairs = Vec::new();
    let (of_weights, (of_trace, of_helpers)) = rayon::join(
        || materialise(prepared.layout(), &functionals),
        || {
            let trace = sizes.trace.map(|size| padded(claims.trace(), size));
            (trace, sizes.helpers.map(|size| helper_pair::<O>(&helpers, &claims.helpers(), size)))
        },
    );
    let values = Values::Integers(prepared.vector());
    pairs.push(Pair { values, factors: of_weights });
    pairs.extend(of_trace.map(|factors| Pair { values: Values::Integers(&trace), factors }));
    pairs.extend(of_helpers);
    let (point, opened) = sumcheck::prove(pairs, &mut transcript);
    transcript.send(OPENED, &opened);
    let cached = std::iter::once(prepared.cached()).chain(&vectors);
    let sizes = [Some(sizes.weights), sizes.trace, sizes.helpers].into_iter().flatten();
    let openings = cached.zip(sizes).zip(opened).map(|((cached, size), value)| {
        let more = point.len().saturating_sub(size as usize);
        (cached, point.get(more..).unwrap_or_default(), value)
    });
    O::open_all(&openings.collect::<Vec<_>>(), &mut transcript)?;
    let (bytes, leaves) = transcript.finish();
    Ok(Proof { mode: Mode::Succinct, outputs, bytes, leaves })
}

/// Sends what is stated; returns the operands of the linear nodes.
fn send_stated(
    plan: &Plan,
    program: &Program,
    witness: &Witness,
    transcript: &mut transcript::Prover,
) -> Result<Vec<Vec<Step>>, ProveError> {
    let mut packed = Vec::new();
    let mut steps = Vec::new();
    for tensors in &witness.tensors {
        let at = |tensor: usize| tensors.get(tensor).map_or(&[][..], Vec::as_slice);
        let stated = program.nodes().iter().enumerate();
        let stated = stated.filter(|&(index, _)| plan.source(index) == Source::Stated);
        for ((index, node), (packing, _)) in stated.zip(stated_messages(plan, program)) {
            packed.clear();
            packing
                .write(at(node.output), &mut packed)
                .map_err(|reason| ProveError::Accumulators { node: index, reason })?;
            transcript.send_bytes(STATED, &packed, packing.width());
        }
        let operands = program.linears().map(|(node, _)| {
            let operand = node.inputs.first().map_or(&[][..], |&tensor| at(tensor));
            Step { operand: operand.to_vec(), accumulators: Vec::new() }
        });
        steps.push(operands.collect());
    }
    Ok(steps)
}

/// The helpers: for each group of limbs `Σ 1/(lookup - limb)`, then for each number its multiplicity over `lookup - number`.
fn fractions<F: Field>(plan: &Plan, trace: &[i64], lookup: F) -> Vec<F> {
    let inverses = inverses((0..).take(plan.table()).map(|number| lookup - F::from_i64(number)));
    let of_limb = |&limb: &i64| {
        let known = usize::try_from(limb).ok().and_then(|limb| inverses.get(limb)).copied();
        // A limb beyond the table has a fraction too; what it lacks is a number to match.
        known.unwrap_or_else(|| (lookup - F::from_i64(limb)).inverse().unwrap_or(F::ZERO))
    };
    let (limbs, counts) = trace.split_at_checked(plan.multiplicities()).unwrap_or_default();
    let groups = limbs.chunks(4).take(plan.groups());
    let mut helpers: Vec<F> = groups
        .map(|limbs| limbs.iter().map(of_limb).fold(F::ZERO, |sum, inverse| sum + inverse))
        .collect();
    helpers.resize(plan.fractions(), F::ZERO);
    helpers.extend(inverses.iter().zip(counts).map(|(&inverse, &count)| inverse.scale(count)));
    helpers
}

/// The inverses of elements, by Montgomery's trick; zero for zero.
fn inverses<F: Field>(elements: impl Iterator<Item = F>) -> Vec<F> {
    let elements: Vec<F> = elements.collect();
    let nonzero = |element: F| if element == F::ZERO { F::ONE } else { element };
    let mut product = F::ONE;
    let mut before = Vec::with_capacity(elements.len());
    for &element in &elements {
        before.push(product);
        product *= nonzero(element);
    }
    let mut inverse = product.inverse().unwrap_or(F::ZERO);
    for (before, &element) in before.iter_mut().zip(&elements).rev() {
        *before = if element == F::ZERO { F::ZERO } else { inverse * *before };
        inverse *= nonzero(element);
    }
    before
}

/// The columns of the constraints.
fn columns<F: Field>(plan: &Plan, witness: &Witness, trace: &[i64], helpers: &[F]) -> Columns<F> {
    fn integers<F: Field>(values: impl Iterator<Item = i64>) -> Column<F> {
        Column::new(values.map(F::from_i64).collect())
    }
    let (limbs, counts) = trace.split_at_checked(plan.multiplicities()).unwrap_or_default();
    let (fractions, table) = helpers.split_at_checked(plan.fractions()).unwrap_or_default();
    let limbs = limbs.get(..4 * plan.groups()).unwrap_or_default();
    // Limbs are few numbers, again and again.
    let numbers: Vec<F> = (0..).take(plan.table()).map(F::from_i64).collect();
    let element = |&limb: &i64| {
        let known = usize::try_from(limb).ok().and_then(|limb| numbers.get(limb)).copied();
        known.unwrap_or_else(|| F::from_i64(limb))
    };
    let limb = |place| Column::new(limbs.iter().skip(place).step_by(4).map(element).collect());
    let sites = [Quantity::Value, Quantity::ValueRest, Quantity::Above, Quantity::Below];
    let gaps = (0..plan.cells()).map(Quantity::Gap);
    let quantities = sites.into_iter().chain(gaps);
    Columns {
        groups: [
            Column::new(fractions.get(..plan.groups()).unwrap_or_default().to_vec()),
            Column::new(vec![F::ONE; plan.groups()]),
            limb(0),
            limb(1),
            limb(2),
            limb(3),
        ],
        table: [
            Column::new(table.to_vec()),
            integers(counts.iter().copied()),
            Column { entries: numbers.clone(), repeats: true },
        ],
        sites: quantities
            .map(|quantity| integers(witness.column(plan, quantity).into_iter()))
            .collect(),
    }
}

fn prove_constraints<F: Field>(
    plan: &Plan,
    mut columns: Columns<F>,
    lookup: F,
    transcript: &mut transcript::Prover,
) -> Option<Constrained<F>> {
    let n = plan.constraint_variables();
    let drawn: Vec<F> = transcript.challenges(CONSTRAINTS, n as usize + 1);
    let (&weight, equality_point) = drawn.split_first()?;
    let challenges = ConstraintChallenges { lookup, weight };
    let point = constraints::prove(&mut columns, &challenges, equality_point, transcript);
    let evaluations = columns.evaluations()?;
    transcript.send(EVALUATIONS, &evaluations.to_vec());
    Some(Constrained { point, evaluations })
}

/// The sumcheck over products with hidden operands.
fn prove_products<O: Opener>(
    prepared: &Prepared<O>,
    plan: &Plan,
    functionals: &[Functional<FieldOf<O>>],
    transcript: &mut transcript::Prover,
) -> Products<FieldOf<O>> {
    type F<O> = FieldOf<O>;
    let zero = F::<O>::ZERO;
    if plan.products() == 0 {
        return Products { sum: zero, point: Vec::new(), last: zero, operand: zero };
    }
    let (mut operands, mut sums) = (Vec::new(), Vec::new());
    let model = prepared.model();
    let nodes = model.program().linears().zip(model.weights().nodes()).zip(functionals);
    for (index, (((_, linear), weights), functional)) in nodes.enumerate() {
        if plan.operand(index).is_none() {
            continue;
        }
        operands.extend_from_slice(&functional.columns);
        let (rows, inner) = (linear.out_per_group(), linear.inner());
        let mut column = Vec::with_capacity(rows);
        for group in weights.matrix.chunks(rows * inner) {
            for k in 0..inner {
                column.clear();
                column.extend(group.iter().skip(k).step_by(inner).map(|&w| i64::from(w)));
                sums.push(F::<O>::dot_i64(&functional.rows, &column));
            }
        }
    }
    let sum = F::<O>::dot(&sums, &operands);
    transcript.send(PRODUCTS, &[sum]);
    sums.resize(1 << plan.product_variables(), zero);
    let pair = Pair { values: Values::Elements(operands), factors: sums };
    let (point, values) = sumcheck::prove(vec![pair], transcript);
    let operand = values.first().copied().unwrap_or(zero);
    transcript.send(OPERAND, &[operand]);
    Products { sum, point, last: zero, operand }
}

/// A table continued with zeros to `2^size` entries.
fn padded<F: Field>(mut table: Vec<F>, size: u32) -> Vec<F> {
    table.resize(1 << size, F::ZERO);
    table
}

/// The helpers, coordinate by coordinate, with their functional.
fn helper_pair<O: Opener>(
    helpers: &[FieldOf<O>],
    functional: &[FieldOf<O>],
    size: u32,
) -> Pair<'static, FieldOf<O>> {
    let coordinates: Vec<_> = (0..O::S::COORDINATES).map(O::S::coordinate).collect();
    let spread = functional.iter().flat_map(|&factor| coordinates.iter().map(move |&c| factor * c));
    let factors = padded(spread.collect(), size);
    let values = helpers.iter().flat_map(|&helper| O::S::coordinates(helper)).collect();
    Pair { values: Values::Elements(values), factors }
}
