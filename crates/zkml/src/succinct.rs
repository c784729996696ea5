//! Verify an inference whose accumulators and activations are committed to (mode S).
//!
//! Where the accumulators of a linear node go nowhere but into a requantisation, perhaps after the largest of each window was
//! taken, the prover commits to what describes that step instead of stating it. Its result stays hidden too if only linear
//! nodes read it. All other linear nodes state their accumulators, and the verifier executes the rest of the program, as in
//! mode T. A proof is small where a trace would be large; the verifier's time is still linear in the activations, but each costs
//! it a few multiplications instead of bytes.
//!
//! **This is not zero-knowledge.** Messages of sumchecks and openings depend on weights and activations and are not blinded.
//!
//! # What is committed to
//! A *site* is an element `y` of such a requantisation; it reads the accumulators `a_i` of one or more *cells*. With `T_i = a_i ·
//! multiplier + half` the executor computes `y = clamp(floor(max T_i / 2^shift), lo, hi)`. The prover decomposes
//! ```text
//! max T_i = (y + above - below)·2^shift + r,        T_i = max T_i - gap_i
//! ```
//! into the non-negative numbers of [`Quantity`], each a sum of limbs of `b` bits. The trace vector holds all limbs
//! ([`plan`]), then how often each number below `2^b` occurs among them. Given that every limb is below `2^b`, the step is right
//! if and only if
//! ```text
//! (y - lo) + (hi - y) = hi - lo,    r + (2^shift - 1 - r) = 2^shift - 1      (both sums of committed numbers)
//! above · (hi - y) = 0,             below · (y - lo) = 0,                    Π gap_i = 0
//! ```
//! for then `lo ≤ y ≤ hi` and `0 ≤ r < 2^shift`, so that `y + above - below` is the quotient `floor(max T_i / 2^shift)`; it equals
//! `y` strictly inside the range, is at least `y` at `hi` and at most `y` at `lo`; and the largest `T_i` is the one whose gap is
//! zero. There is no constraint for an accumulator: it *is* `(T_i - half) / multiplier`, and the claim on all accumulators is
//! linear in the limbs.
//!
//! # Protocol
//! 1. The statement. The prover sends what is stated, then the commitment to the trace.
//! 2. Challenges `γ, ρ` as in mode T, and `α`. The prover commits to the *helpers*: for every group of four limbs `Σ 1/(α - limb)`,
//!    and for every number `j` below `2^b` its fraction `multiplicity_j / (α - j)`. If both add up to the same, every limb is
//!    such a number (Haböck, "Multivariate lookups based on logarithmic derivatives", ePrint 2022/1530).
//! 3. A challenge `β` and a point. One sumcheck (degree 6, of which the equality's factor is left out of the messages: Gruen,
//!    ePrint 2024/108) shows that the constraints above and those of the fractions, added up with powers of `β`, vanish
//!    everywhere. It ends with claimed values of the columns at one point.
//! 4. The claim on the accumulators is a sum over products of weights with operands. Those with a hidden operand are
//!    `Σ_(l,g,k) (Σ_o rows_l(o) w_l(g,o,k)) · columns_l(g,k)`: the prover sends the sum, and a sumcheck reduces it to the two
//!    factors' extensions at one point, of which it sends that of the operands.
//! 5. A challenge `η`. What is left, that stated results are the values in the trace included, are linear claims on three committed vectors ([`claims`]): weights, trace, helpers. Added up
//!    with powers of `η`, they are one; a sumcheck over all three vectors at once reduces it to their extensions at suffixes of
//!    one point, which the scheme opens together.
//!
//! # Why it is sound
//! Everything said in [`crate::trace`] about equations over the integers holds with one change: an accumulator that is not stated
//! is a combination of limbs. Each decomposed number, those of the quotient shifted, has limbs of at most 57 bits together and
//! `|lo·2^shift| < 2^57` ([`plan`] covers no other node), so `|T_i|` stays below `2^60`, while `|multiplier · acc + half| < 2^62` for the true one: equal
//! in the field is equal. A bound that the program declares for accumulators is not checked where they are hidden; it follows
//! from the weights, and whoever recomputes the model id checks it there.
//! The lookup is sound for fewer limbs than the field's characteristic: the two sums are rational functions of `α` that
//! differ unless every limb is in the table. Each challenge follows the messages that it is to bind, and
//! [`crate::security::succinct`] adds up the errors.

pub mod claims;
pub mod plan;

pub use claims::{
    Claims, Constrained, ConstraintChallenges, Evaluations, Products, Stated, Weights,
};
pub use plan::{Plan, Quantity, SiteBox, SiteNode, Source};

use crate::execute::{ExecuteError, Supply, execute_with};
use crate::field::Field;
use crate::layout::{Functional, Layout, evaluate, first_equalities};
use crate::qir::{Node, Op, Program, TensorType};
use crate::scheme::{Mode, Opening, Scheme, SchemeError, variables};
use crate::security::{self, Security};
use crate::sumcheck;
use crate::trace::{Claim, Combination, Packing, StatementBytes, TraceError, check_claim, finish};
use crate::transcript::{Label, TranscriptError, Verifier};
use claims::{below, values_add_up};

/// Message: accumulators, or results of requantisations, of one node in one inference.
pub const STATED: Label = Label::new("succinct.stated");

/// Challenge: where the fractions of the lookup are compared.
pub const LOOKUP: Label = Label::new("succinct.lookup");

/// Challenge: how the constraints are added up, then the point of their equality.
pub const CONSTRAINTS: Label = Label::new("succinct.constraints");

/// Message: a round's polynomial without its constant coefficient.
pub const ROUND: Label = Label::new("succinct.round");

/// Challenge: a variable of the constraints is bound to it.
pub const BOUND: Label = Label::new("succinct.bound");

/// Message: the columns' values at the constraints' point.
pub const EVALUATIONS: Label = Label::new("succinct.evaluations");

/// Message: the sum over products with hidden operands.
pub const PRODUCTS: Label = Label::new("succinct.products");

/// Message: the operands' extension at the products' point.
pub const OPERAND: Label = Label::new("succinct.operand");

/// Challenge: how the claims are added up.
pub const CLAIMS: Label = Label::new("succinct.claims");

/// Message: the values of the three vectors' extensions.
pub const OPENED: Label = Label::new("succinct.opened");

/// Degree of the constraints in each variable, without the equality's factor.
pub const DEGREE: usize = 5;

/// Verifies a proof of mode S with backend `S`.
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
    let plan = Plan::new(program, inputs.len())?;
    let sizes = Sizes::new::<S>(&plan, &layout)?;
    let security = security::succinct::<S>(program, &plan, &sizes)?;

    let statement = bytes.statement(S::BACKEND, Mode::Succinct, digests, &layout);
    let mut transcript = Verifier::new(&statement, proof);
    let mut stated = Vec::new();
    for _ in inputs {
        for (packing, count) in stated_messages(&plan, program) {
            stated.push(transcript.receive_bytes(STATED, count.saturating_mul(packing.width()))?);
        }
    }
    let trace = receive::<S>(&plan, plan.trace_len(), sizes.widest, &mut transcript)?;
    let combination = Combination::<S::F>::draw(program, inputs.len(), &mut transcript);
    let known = execute_batch(claim, &plan, &combination, &stated)?;

    let mut helpers = None;
    let mut constrained = None;
    if plan.has_sites() {
        let lookup = transcript.challenge(LOOKUP);
        let length = plan.helpers().saturating_mul(S::COORDINATES);
        helpers = receive::<S>(&plan, length, sizes.widest, &mut transcript)?;
        constrained = Some(verify_constraints(&plan, lookup, &mut transcript)?);
    }
    let products = verify_products::<S::F>(&plan, &mut transcript)?;

    let weights = Weights::new(&plan, transcript.challenge(CLAIMS));
    let Known { stated, mut functionals } = known;
    let scale = weights.product() * products.operand;
    products.replace(&plan, program, scale, &mut functionals);
    let claims =
        Claims::new(&plan, program, &combination, weights, &stated, constrained, &products);
    let (point, last) = sumcheck::verify(claims.total(), sizes.widest, &mut transcript)?;
    let committed = [Some(commitment), trace.as_ref(), helpers.as_ref()];
    let opened: Vec<S::F> = transcript.receive(OPENED, committed.iter().flatten().count())?;
    let mut openings = Vec::new();
    let mut sum = S::F::ZERO;
    let sizes = [Some(sizes.weights), sizes.trace, sizes.helpers];
    let vectors = committed.into_iter().zip(sizes).enumerate();
    let vectors =
        vectors.filter_map(|(index, (commitment, size))| Some((index, commitment?, size?)));
    for ((index, commitment, size), value) in vectors.zip(opened) {
        let more = point.len().saturating_sub(size as usize);
        let (zeros, point) = point.split_at_checked(more).unwrap_or_default();
        let factor = match index {
            0 => evaluate(&layout, &functionals, point),
            1 => claims.trace_at(point),
            _ => {
                let (point, coordinates) = element_point::<S>(point);
                claims.helpers_at(point) * coordinates
            }
        };
        // Where the vector continues with zeros, so does what multiplies it.
        let inside = zeros.iter().fold(S::F::ONE, |inside, &r| inside * (S::F::ONE - r));
        sum += inside * inside * factor * value;
        openings.push(Opening::<S> { commitment, point, value });
    }
    if sum != last {
        return Err(TraceError::Product);
    }
    S::verify_all(&openings, &mut transcript)?;
    transcript.finish()?;
    Ok(security)
}

/// Variables of the committed vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of the weights.
    pub weights: u32,
    /// Of the trace; none when nothing is committed to.
    pub trace: Option<u32>,
    /// Of the helpers' coordinates.
    pub helpers: Option<u32>,
    /// The most of them.
    pub widest: u32,
}

impl Sizes {
    /// Those of a plan.
    ///
    /// # Errors
    /// When a vector would be too long.
    pub fn new<S: Scheme>(plan: &Plan, layout: &Layout) -> Result<Self, SchemeError> {
        let weights = layout.variables();
        let (mut trace, mut helpers) = (None, None);
        if plan.has_sites() {
            trace = Some(variables(plan.trace_len())?);
            helpers = Some(variables(plan.helpers().saturating_mul(S::COORDINATES))?);
        }
        let widest = weights.max(trace.unwrap_or(0)).max(helpers.unwrap_or(0));
        Ok(Self { weights, trace, helpers, widest })
    }
}

/// The point of the elements' index in a point of their coordinates' vector, and what the coordinates are multiplied by.
#[must_use]
pub fn element_point<S: Scheme + ?Sized>(point: &[S::F]) -> (&[S::F], S::F) {
    let bits = S::COORDINATES.ilog2() as usize;
    let (point, rest) =
        point.split_at_checked(point.len().saturating_sub(bits)).unwrap_or_default();
    let weights = first_equalities(rest, S::COORDINATES, S::F::ONE);
    let coordinates = weights.into_iter().enumerate();
    let sum = coordinates.fold(S::F::ZERO, |sum, (i, weight)| sum + weight * S::coordinate(i));
    (point, sum)
}

/// How what the proof states in each inference is packed: packing and number of integers, node by node.
pub fn stated_messages<'a>(
    plan: &'a Plan,
    program: &'a Program,
) -> impl Iterator<Item = (Packing, usize)> + 'a {
    let stated = program.nodes().iter().enumerate();
    let stated = stated.filter(|&(index, _)| plan.source(index) == Source::Stated);
    stated.filter_map(|(_, node)| {
        let ty = program.tensors().get(node.output)?;
        Some((packing_of(node, ty), ty.len()))
    })
}

fn packing_of(node: &Node, ty: &TensorType) -> Packing {
    match &node.op {
        Op::Linear(linear) => Packing::accumulators(linear.bound),
        _ => Packing::of(ty),
    }
}

fn receive<S: Scheme>(
    plan: &Plan,
    length: usize,
    widest: u32,
    transcript: &mut Verifier<'_>,
) -> Result<Option<S::Commitment>, SchemeError> {
    plan.has_sites().then(|| S::receive(length, widest, transcript)).transpose()
}

/// What the verifier knows after executing: what is stated, and the combination of operands.
struct Known<F> {
    stated: Stated<F>,
    functionals: Vec<Functional<F>>,
}

/// Executes a batch as far as it is known, compares the outputs, and combines what the linear nodes did.
fn execute_batch<F: Field>(
    claim: &Claim<'_>,
    plan: &Plan,
    combination: &Combination<F>,
    stated: &[&[u8]],
) -> Result<Known<F>, TraceError> {
    let program = claim.program;
    let mut nodes = combination.nodes(program);
    let mut stated = stated.iter();
    let mut results = vec![Vec::new(); plan.nodes().len()];
    for (inference, (inputs, outputs)) in claim.inputs.iter().zip(claim.outputs).enumerate() {
        let weight = combination.inference(inference);
        let mut linear_index = 0;
        let mut supply = |index: usize, node: &Node, operands: &[Option<&[i64]>]| {
            let refuse = |reason: String| ExecuteError::Stated { node: index, reason };
            let source = plan.source(index);
            let values = match source {
                Source::Computed => return Ok(Supply::Computed),
                Source::Hidden => None,
                Source::Stated => {
                    let ty = program.tensors().get(node.output);
                    let (bytes, ty) = stated
                        .next()
                        .zip(ty)
                        .ok_or_else(|| refuse("is not in the proof".to_owned()))?;
                    let values = packing_of(node, ty).read(bytes, ty.len());
                    Some(values.map_err(|reason| refuse(reason.to_string()))?)
                }
            };
            if let Op::Linear(linear) = &node.op
                && let Some(combined) = nodes.get_mut(linear_index)
            {
                match operands {
                    &[Some(x)] => combined.add_operand(linear, weight, x),
                    _ => combined.add_bias(weight),
                }
                if let Some(accumulators) = &values {
                    combined.add_accumulators(linear, weight, accumulators);
                }
                linear_index += 1;
            } else if let Some(values) = &values
                && let Some(site) = plan.nodes().iter().position(|site| site.tensor == node.output)
                && let Some(results) = results.get_mut(site)
            {
                results.extend_from_slice(values);
            }
            Ok(values.map_or(Supply::Hidden, Supply::Given))
        };
        let tensors = execute_with(program, inputs, &mut supply, false)
            .map_err(|reason| TraceError::Execute { inference, reason })?;
        for (output, (port, claimed)) in program.outputs().iter().zip(outputs).enumerate() {
            let found = tensors.get(port.tensor).and_then(Option::as_ref);
            if found != Some(&claimed.values) {
                return Err(TraceError::Output { inference, output });
            }
        }
    }
    let (accumulators, functionals) = finish(nodes);
    Ok(Known { stated: Stated { accumulators, results }, functionals })
}

/// The sumcheck over the constraints.
fn verify_constraints<F: Field>(
    plan: &Plan,
    lookup: F,
    transcript: &mut Verifier<'_>,
) -> Result<Constrained<F>, TraceError> {
    let n = plan.constraint_variables();
    let drawn: Vec<F> = transcript.challenges(CONSTRAINTS, n as usize + 1);
    let Some((&weight, equality_point)) = drawn.split_first() else {
        return Err(TraceError::Constraint("there are no challenges"));
    };
    let challenges = ConstraintChallenges { lookup, weight };
    let mut claim = F::ZERO;
    let mut point = Vec::with_capacity(n as usize);
    for &rho in equality_point {
        let coefficients: Vec<F> = transcript.receive(ROUND, DEGREE)?;
        let r = transcript.challenge(BOUND);
        claim = next(claim, rho, &coefficients, r);
        point.push(r);
    }
    let values = transcript.receive(EVALUATIONS, Evaluations::<F>::count(plan.cells()))?;
    let evaluations = Evaluations::from_slice(&values)
        .ok_or(TraceError::Transcript(TranscriptError::Truncated(EVALUATIONS.name())))?;
    let in_group = below(&point, plan.groups());
    let number = point
        .iter()
        .rev()
        .take(plan.radix_bits() as usize)
        .zip(0..)
        .fold(F::ZERO, |sum, (r, bit)| sum + r.scale(1 << bit));
    if evaluations.constraint(&challenges, in_group, number) != claim {
        return Err(TraceError::Constraint("the values do not fit the last round"));
    }
    let constrained = Constrained { point, evaluations };
    if !values_add_up(plan, &constrained) {
        return Err(TraceError::Constraint("the values do not fill their ranges"));
    }
    Ok(constrained)
}

/// The value at `r` of a round's polynomial `q`, of which all but the constant coefficient is given, when
/// `(1 - rho) · q(0) + rho · q(1)` is `claim`.
fn next<F: Field>(claim: F, rho: F, coefficients: &[F], r: F) -> F {
    let rise = coefficients.iter().fold(F::ZERO, |sum, &coefficient| sum + coefficient);
    let higher =
        coefficients.iter().rev().fold(F::ZERO, |sum, &coefficient| (sum + coefficient) * r);
    claim - rho * rise + higher
}

/// The sumcheck over products with hidden operands; nothing, if there are none.
fn verify_products<F: Field>(
    plan: &Plan,
    transcript: &mut Verifier<'_>,
) -> Result<Products<F>, TraceError> {
    if plan.products() == 0 {
        return Ok(Products { sum: F::ZERO, point: Vec::new(), last: F::ZERO, operand: F::ZERO });
    }
    let sum = transcript.receive_one(PRODUCTS)?;
    let (point, last) = sumcheck::verify(sum, plan.product_variables(), transcript)?;
    let operand = transcript.receive_one(OPERAND)?;
    Ok(Products { sum, point, last, operand })
}
