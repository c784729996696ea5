//! A prover of mode S by definition: slow, and dishonest where it is told to be.

use super::forge::{Sender, bind, encode, naive_round};
use og_prove::opener::{FieldOf, Numbers, Opener};
use og_prove::succinct::Witness;
use og_prove::trace::{Prepared, Step, functionals, materialise};
use og_zkml::field::Field;
use og_zkml::layout::equality;
use og_zkml::qir::Tensor;
use og_zkml::scheme::{Mode, Scheme};
use og_zkml::succinct::{
    BOUND, CLAIMS, CONSTRAINTS, Claims, Constrained, ConstraintChallenges, DEGREE, EVALUATIONS,
    Evaluations, LOOKUP, OPENED, OPERAND, PRODUCTS, Plan, Products, Quantity, ROUND, STATED, Sizes,
    Source, Stated, Weights, stated_messages,
};
use og_zkml::sumcheck;
use og_zkml::trace::{Combination, StatementBytes};
use og_zkml::transcript::{Label, Prover, Statement};

/// Stands for the commitment to the trace among the messages.
pub const TRACE: Label = Label::new("forge.trace");
/// Stands for the commitment to the helpers among the messages.
pub const HELPERS: Label = Label::new("forge.helpers");

/// Where to cheat; nowhere by [`Forgery::none`].
pub struct Forgery<'a, F> {
    /// Changes the trace before it is committed to.
    pub trace: &'a dyn Fn(&mut [i64]),
    /// Changes the helpers before they are committed to, given the challenge of the lookup.
    pub helpers: &'a dyn Fn(&mut [F], F),
    /// Changes the elements sent under a label.
    pub elements: &'a dyn Fn(Label, &mut [F]),
    /// Challenges do not depend on this message.
    pub omit: Option<Label>,
    /// Which opened value is chosen so that the last check holds.
    pub fit: Option<usize>,
}

impl<F> Forgery<'_, F> {
    pub const fn none() -> Self {
        Self { trace: &|_| {}, helpers: &|_, _| {}, elements: &|_, _| {}, omit: None, fit: None }
    }
}

/// The forger's side of a proof that is being made.
struct Forger<'a, O: Opener> {
    plan: &'a Plan,
    statement: Statement<'a>,
    sender: Sender,
    forgery: &'a Forgery<'a, FieldOf<O>>,
    widest: u32,
}

/// A proof of a witness for a statement.
pub fn forge<O: Opener>(
    prepared: &Prepared<O>,
    plan: &Plan,
    inputs: &[Vec<Tensor>],
    outputs: &[Vec<Tensor>],
    witness: &Witness,
    forgery: &Forgery<'_, FieldOf<O>>,
) -> Vec<u8> {
    type F<O> = FieldOf<O>;
    let (model, program) = (prepared.model(), prepared.model().program());
    let bytes = StatementBytes::new(program, inputs, outputs).unwrap();
    let statement =
        bytes.statement(O::S::BACKEND, Mode::Succinct, prepared.digests(), prepared.layout());
    let sizes = Sizes::new::<O::S>(plan, prepared.layout()).unwrap();
    let widest = sizes.widest;
    let mut forger =
        Forger::<O> { plan, statement, sender: Sender::new(&statement), forgery, widest };
    for tensors in &witness.tensors {
        let nodes = program.nodes().iter().enumerate();
        let stated = nodes.filter(|&(node, _)| plan.source(node) == Source::Stated);
        for ((_, node), (packing, _)) in stated.zip(stated_messages(plan, program)) {
            let mut packed = Vec::new();
            packing.write(&tensors[node.output], &mut packed).unwrap();
            forger.sender.send(STATED, packed, forgery.omit == Some(STATED));
        }
    }
    let mut trace = if plan.has_sites() { witness.trace(plan) } else { Vec::new() };
    (forgery.trace)(&mut trace);
    let mut kept = Vec::new();
    if plan.has_sites() {
        kept.push(forger.commit(TRACE, Numbers::Integers(&trace)));
    }
    let combination =
        Combination::<F<O>>::draw(program, inputs.len(), &mut forger.sender.transcript);
    let (mut helpers, mut constrained) = (Vec::new(), None);
    if plan.has_sites() {
        let lookup = forger.sender.transcript.challenge(LOOKUP);
        helpers = fractions(plan, &trace, lookup);
        (forgery.helpers)(&mut helpers, lookup);
        kept.push(forger.commit(HELPERS, Numbers::Elements(&helpers)));
        constrained = Some(forger.constraints(&trace, &helpers, lookup));
    }

    let steps = witness.tensors.iter().map(|tensors| {
        let operands = program.linears().map(|(node, _)| Step {
            operand: tensors[node.inputs[0]].clone(),
            accumulators: Vec::new(),
        });
        operands.collect()
    });
    let mut functionals = functionals(program, &combination, &steps.collect::<Vec<Vec<Step>>>());
    let (mut operands, mut sums) = (Vec::new(), Vec::new());
    let mut accumulators = F::<O>::ZERO;
    for (index, (node, linear)) in program.linears().enumerate() {
        let mut combined = combination.node(index, linear);
        let hidden = plan.nodes().iter().any(|site| site.linear == index);
        for (inference, tensors) in witness.tensors.iter().enumerate().filter(|_| !hidden) {
            let weight = combination.inference(inference);
            combined.add_accumulators(linear, weight, &tensors[node.output]);
        }
        accumulators += combined.finish().0;
        for (g, k) in (0..linear.groups()).flat_map(|g| (0..linear.inner()).map(move |k| (g, k))) {
            if plan.operand(index).is_some() {
                let matrix = &model.weights().nodes()[index].matrix;
                let terms = functionals[index].rows.iter().enumerate();
                sums.push(terms.fold(F::<O>::ZERO, |sum, (o, &row)| {
                    sum + row.scale(matrix[linear.weight_index(g, o, k)].into())
                }));
                operands.push(functionals[index].columns[g * linear.inner() + k]);
            }
        }
    }
    let products = forger.products(operands, sums);
    let weights = Weights::new(plan, forger.sender.transcript.challenge(CLAIMS));
    products.replace(plan, program, weights.product() * products.operand, &mut functionals);
    let results = plan.nodes().iter().map(|node| {
        let of_batch = witness.tensors.iter().map(|tensors| tensors[node.tensor].as_slice());
        of_batch.collect::<Vec<_>>().concat()
    });
    let stated = Stated { accumulators, results: results.collect() };
    let claims = Claims::new(plan, program, &combination, weights, &stated, constrained, &products);

    let integers = |values: &[i64]| values.iter().map(|&value| F::<O>::from_i64(value)).collect();
    let mut vectors: Vec<Vec<F<O>>> = vec![integers(prepared.vector())];
    let mut factors = vec![materialise(prepared.layout(), &functionals)];
    if plan.has_sites() {
        vectors.push(integers(&trace));
        vectors.push(helpers.iter().flat_map(|&helper| O::S::coordinates(helper)).collect());
        factors.push(claims.trace());
        let spread = claims
            .helpers()
            .into_iter()
            .flat_map(|factor| (0..O::S::COORDINATES).map(move |i| factor * O::S::coordinate(i)));
        factors.push(spread.collect());
    }
    let (point, last) = forger.sumcheck(claims.total(), &vectors, &factors);
    let sizes = [Some(sizes.weights), sizes.trace, sizes.helpers];
    let points: Vec<&[F<O>]> =
        sizes.iter().flatten().map(|&size| &point[(widest - size) as usize..]).collect();
    let extension = |values: &[F<O>], point: &[F<O>]| {
        F::<O>::dot(values, &equality(point, F::<O>::ONE)[..values.len()])
    };
    let evaluate = |all: &[Vec<F<O>>]| -> Vec<F<O>> {
        all.iter().zip(&points).map(|(values, point)| extension(values, point)).collect()
    };
    let (mut opened, mut factors) = (evaluate(&vectors), evaluate(&factors));
    for (factor, own) in factors.iter_mut().zip(&points) {
        for &r in &point[..point.len() - own.len()] {
            *factor = *factor * (F::<O>::ONE - r) * (F::<O>::ONE - r);
        }
    }
    if let Some(index) = forgery.fit {
        let missing = last - F::<O>::dot(&opened, &factors);
        opened[index] += missing * factors[index].inverse().unwrap();
    }
    forger.send(OPENED, &mut opened);
    let kept = std::iter::once(prepared.cached()).chain(&kept);
    let openings: Vec<_> =
        kept.zip(&points).zip(opened).map(|((kept, &point), value)| (kept, point, value)).collect();
    O::open_all(&openings, &mut forger.sender.transcript).unwrap();
    forger.sender.finish()
}

impl<O: Opener> Forger<'_, O> {
    fn send(&mut self, label: Label, elements: &mut [FieldOf<O>]) {
        (self.forgery.elements)(label, elements);
        self.sender.send(label, encode(elements), self.forgery.omit == Some(label));
    }

    fn commit(&mut self, name: Label, numbers: Numbers<'_, FieldOf<O>>) -> O::Cached {
        if self.forgery.omit != Some(name) {
            return O::send(numbers, self.widest, &mut self.sender.transcript).unwrap();
        }
        let mut aside = Prover::new(&self.statement);
        let kept = O::send(numbers, self.widest, &mut aside).unwrap();
        self.sender.hide(aside.finish().0);
        kept
    }

    /// The constraints of what is committed to, summed index by index.
    fn constraints(
        &mut self,
        trace: &[i64],
        helpers: &[FieldOf<O>],
        lookup: FieldOf<O>,
    ) -> Constrained<FieldOf<O>> {
        let plan = self.plan;
        let n = plan.constraint_variables();
        let drawn: Vec<FieldOf<O>> = self.sender.transcript.challenges(CONSTRAINTS, n as usize + 1);
        let challenges = ConstraintChallenges { lookup, weight: drawn[0] };
        let mut columns = columns(plan, trace, helpers);
        let mut point = Vec::new();
        for round in 1..drawn.len() {
            let rest = equality(&drawn[round + 1..], Field::ONE);
            let values: Vec<FieldOf<O>> = (0..=DEGREE as i64)
                .map(|t| {
                    let bound: Vec<_> =
                        columns.iter().map(|column| bind(column, Field::from_i64(t))).collect();
                    rest.iter().enumerate().fold(Field::ZERO, |sum: FieldOf<O>, (i, &weight)| {
                        let row: Vec<FieldOf<O>> = bound.iter().map(|column| column[i]).collect();
                        let of_row = Evaluations::from_slice(&row[2..]).unwrap();
                        sum + weight * of_row.constraint(&challenges, row[0], row[1])
                    })
                })
                .collect();
            self.send(ROUND, &mut interpolate(&values)[1..]);
            let r: FieldOf<O> = self.sender.transcript.challenge(BOUND);
            columns = columns.iter().map(|column| bind(column, r)).collect();
            point.push(r);
        }
        let mut values: Vec<FieldOf<O>> = columns[2..].iter().map(|column| column[0]).collect();
        self.send(EVALUATIONS, &mut values);
        Constrained { point, evaluations: Evaluations::from_slice(&values).unwrap() }
    }

    fn products(
        &mut self,
        mut operands: Vec<FieldOf<O>>,
        sums: Vec<FieldOf<O>>,
    ) -> Products<FieldOf<O>> {
        let zero = FieldOf::<O>::ZERO;
        if operands.is_empty() {
            return Products { sum: zero, point: Vec::new(), last: zero, operand: zero };
        }
        let mut sum = [FieldOf::<O>::dot(&operands, &sums)];
        self.send(PRODUCTS, &mut sum);
        let size = 1 << self.plan.product_variables();
        operands.resize(size, zero);
        let mut factors = sums;
        factors.resize(size, zero);
        let (mut claim, mut point) = (sum[0], Vec::new());
        while operands.len() > 1 {
            let (at_zero, leading) = naive_round(&operands, &factors);
            let r;
            (claim, r) = self.round(claim, at_zero, leading);
            (operands, factors) = (bind(&operands, r), bind(&factors, r));
            point.push(r);
        }
        let mut operand = [operands[0]];
        self.send(OPERAND, &mut operand);
        Products { sum: sum[0], point, last: claim, operand: operand[0] }
    }

    /// A sumcheck over vectors that continue with zeros; the point, and what it leaves of a claim.
    fn sumcheck(
        &mut self,
        mut claim: FieldOf<O>,
        vectors: &[Vec<FieldOf<O>>],
        factors: &[Vec<FieldOf<O>>],
    ) -> (Vec<FieldOf<O>>, FieldOf<O>) {
        let pad = |values: &Vec<FieldOf<O>>| {
            let mut values = values.clone();
            values.resize(1 << self.widest, FieldOf::<O>::ZERO);
            values
        };
        let mut pairs: Vec<_> = vectors.iter().map(pad).zip(factors.iter().map(pad)).collect();
        let mut point = Vec::new();
        for _ in 0..self.widest {
            let rounds = pairs.iter().map(|(values, factors)| naive_round(values, factors));
            let (at_zero, leading) = rounds
                .fold((Field::ZERO, Field::ZERO), |sums: (FieldOf<O>, FieldOf<O>), round| {
                    (sums.0 + round.0, sums.1 + round.1)
                });
            let r;
            (claim, r) = self.round(claim, at_zero, leading);
            for (values, factors) in &mut pairs {
                (*values, *factors) = (bind(values, r), bind(factors, r));
            }
            point.push(r);
        }
        (point, claim)
    }

    fn round(
        &mut self,
        claim: FieldOf<O>,
        at_zero: FieldOf<O>,
        leading: FieldOf<O>,
    ) -> (FieldOf<O>, FieldOf<O>) {
        let mut message = [at_zero, leading];
        self.send(sumcheck::ROUND, &mut message);
        let r = self.sender.transcript.challenge(sumcheck::CHALLENGE);
        (sumcheck::next(claim, message[0], message[1], r), r)
    }
}

/// The helpers by definition.
fn fractions<F: Field>(plan: &Plan, trace: &[i64], lookup: F) -> Vec<F> {
    let over = |number: i64| (lookup - F::from_i64(number)).inverse().unwrap();
    let groups = trace.chunks(4).take(plan.groups());
    let mut helpers: Vec<F> =
        groups.map(|limbs| limbs.iter().fold(F::ZERO, |sum, &limb| sum + over(limb))).collect();
    helpers.resize(plan.fractions(), F::ZERO);
    let counts = &trace[plan.multiplicities()..];
    helpers.extend((0..).zip(counts).map(|(number, &count)| over(number).scale(count)));
    helpers
}

/// Whether in a group, the number, then the columns in the order of [`Evaluations`]; all over the whole cube.
fn columns<F: Field>(plan: &Plan, trace: &[i64], helpers: &[F]) -> Vec<Vec<F>> {
    let size = 1_usize << plan.constraint_variables();
    let full = |values: Vec<F>| {
        let mut values = values;
        values.resize(size, F::ZERO);
        values
    };
    let integers = |values: &[i64]| full(values.iter().map(|&value| F::from_i64(value)).collect());
    let mut all = vec![
        full(vec![F::ONE; plan.groups()]),
        (0..size).map(|index| F::from_i64((index % plan.table()) as i64)).collect(),
        full(helpers[..plan.groups()].to_vec()),
        full(helpers[plan.fractions()..].to_vec()),
        integers(&trace[plan.multiplicities()..]),
    ];
    for place in 0..4 {
        let limbs: Vec<i64> =
            trace.chunks(4).take(plan.groups()).map(|limbs| limbs[place]).collect();
        all.push(integers(&limbs));
    }
    let sites = [Quantity::Value, Quantity::ValueRest, Quantity::Above, Quantity::Below];
    for wanted in sites.into_iter().chain((0..plan.cells()).map(Quantity::Gap)) {
        let mut column = vec![F::ZERO; size];
        for sites in plan.boxes() {
            for (plane, (quantity, limb)) in plan.planes(sites.pooled).enumerate() {
                let start = sites.offset + plane * sites.len();
                for index in (0..sites.len()).filter(|_| quantity == wanted) {
                    let value = F::from_i64(trace[start + index]);
                    column[sites.start + index] += value.scale(1 << (limb * plan.radix_bits()));
                }
            }
        }
        all.push(column);
    }
    all
}

/// The coefficients of the polynomial with these values at 0, 1, …, by Lagrange's formula.
fn interpolate<F: Field>(values: &[F]) -> Vec<F> {
    let points: Vec<F> = (0..values.len()).map(|x| F::from_i64(x as i64)).collect();
    let mut sum = vec![F::ZERO; values.len()];
    for (i, &value) in values.iter().enumerate() {
        let (mut basis, mut scale) = (vec![F::ONE], value);
        for (j, &x) in points.iter().enumerate().filter(|&(j, _)| j != i) {
            // Times (X - x).
            let mut times = vec![F::ZERO; basis.len() + 1];
            for (power, &coefficient) in basis.iter().enumerate() {
                times[power + 1] += coefficient;
                times[power] -= x * coefficient;
            }
            basis = times;
            scale *= (points[i] - points[j]).inverse().unwrap();
        }
        sum.iter_mut().zip(basis).for_each(|(sum, coefficient)| *sum += scale * coefficient);
    }
    sum
}
