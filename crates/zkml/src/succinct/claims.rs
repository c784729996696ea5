//! Turn everything a proof must show into one linear claim on the three committed vectors.
//!
//! Prover and verifier run this same code; the prover then writes the functionals out, the verifier evaluates their
//! extensions at one point.

use super::plan::{Plan, Quantity, SiteBox};
use crate::field::Field;
use crate::layout::{Functional, equality, equality_at, first_equalities};
use crate::qir::{Linear, Program, Requant};
use crate::trace::Combination;

/// Values of committed columns at the constraints' point, in the order in which they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluations<F> {
    /// The groups' fractions.
    pub fraction: F,
    /// The table's fractions.
    pub table_fraction: F,
    /// The table's multiplicities.
    pub multiplicity: F,
    /// First, second, third and fourth limbs of the groups.
    pub limbs: [F; 4],
    /// [`Quantity::Value`], [`Quantity::ValueRest`], [`Quantity::Above`], [`Quantity::Below`].
    pub sites: [F; 4],
    /// [`Quantity::Gap`] of each cell.
    pub gaps: Vec<F>,
}

impl<F: Field> Evaluations<F> {
    /// How many there are when windows have so many cells.
    #[must_use]
    pub const fn count(cells: usize) -> usize {
        11 + cells
    }

    /// In the order in which they are sent.
    #[must_use]
    pub fn to_vec(&self) -> Vec<F> {
        let heads = [self.fraction, self.table_fraction, self.multiplicity];
        [&heads[..], &self.limbs, &self.sites, &self.gaps].concat()
    }

    /// From the order in which they are sent; `None` when there are too few.
    #[must_use]
    pub fn from_slice(values: &[F]) -> Option<Self> {
        let (&[fraction, table_fraction, multiplicity], rest) = values.split_first_chunk::<3>()?;
        let (&limbs, rest) = rest.split_first_chunk::<4>()?;
        let (&sites, gaps) = rest.split_first_chunk::<4>()?;
        Some(Self { fraction, table_fraction, multiplicity, limbs, sites, gaps: gaps.to_vec() })
    }

    /// What the constraints come to at the point, given whether the point's index is one of a group (an extension of that), and
    /// the table's number there: zero at every index of an honest proof.
    #[must_use]
    pub fn constraint(&self, challenges: &ConstraintChallenges<F>, in_group: F, number: F) -> F {
        challenges.of_group(self.fraction, in_group, &self.limbs)
            + challenges.of_number(self.table_fraction, self.multiplicity, number)
            + challenges.of_site(&self.sites, &self.gaps)
    }
}

/// The challenges of the constraints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConstraintChallenges<F> {
    /// Where the fractions of the lookup are compared.
    pub lookup: F,
    /// The constraints are added up with its powers.
    pub weight: F,
}

/// The constraints at one index, of degree at most 5 in the columns, weighed.
impl<F: Field> ConstraintChallenges<F> {
    /// `fraction = Σ 1/(lookup - limb)`, in groups; elsewhere the fraction is zero.
    #[inline]
    pub fn of_group(&self, fraction: F, in_group: F, limbs: &[F; 4]) -> F {
        let [a, b, c, d] = limbs.map(|limb| self.lookup - limb);
        let (ab, cd) = (a * b, c * d);
        let rise = (a + b) * cd + (c + d) * ab;
        // Nearly all indices are in a group, or all are not.
        let rise = if in_group == F::ONE { rise } else { in_group * rise };
        fraction * (ab * cd) - rise
    }

    /// `fraction = multiplicity / (lookup - number)`.
    #[inline]
    pub fn of_number(&self, fraction: F, multiplicity: F, number: F) -> F {
        self.weight * (fraction * (self.lookup - number) - multiplicity)
    }

    /// Nothing above but at the upper end, nothing below but at the lower, and no gap at one cell at least. `sites` are
    /// [`Quantity::Value`], [`Quantity::ValueRest`], [`Quantity::Above`], [`Quantity::Below`].
    #[inline]
    pub fn of_site(&self, sites: &[F; 4], gaps: &[F]) -> F {
        let [value, value_rest, above, below] = *sites;
        let mut sum = match gaps.split_first() {
            Some((&first, rest)) => rest.iter().fold(first, |product, &gap| product * gap),
            None => F::ZERO,
        };
        sum = self.weight * sum + above * value_rest;
        sum = self.weight * sum + below * value;
        self.weight * self.weight * sum
    }
}

/// Weights of the claims: the powers of one challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights<F> {
    /// Of the claim on the products of weights with hidden operands.
    product: F,
    /// Of the claim on these operands.
    operand: F,
    /// Of the claims on values at the constraints' point.
    evaluations: Evaluations<F>,
    /// Of the claim on the sum of remainders and their rests there.
    remainder: F,
    /// Of the claim that the groups' fractions add up to the table's.
    lookup: F,
    /// Of the claim that the values of stated results are those stated, at the constraints' point.
    stated: F,
}

impl<F: Field> Weights<F> {
    /// The powers of `challenge`; the claim on the accumulators weighs one.
    #[must_use]
    pub fn new(plan: &Plan, challenge: F) -> Self {
        let mut powers = std::iter::successors(Some(challenge), |&power| Some(power * challenge));
        let mut next = || powers.next().unwrap_or(F::ZERO);
        let (product, operand) = (next(), next());
        let mut four = || [next(), next(), next(), next()];
        let (limbs, sites) = (four(), four());
        let evaluations = Evaluations {
            fraction: next(),
            table_fraction: next(),
            multiplicity: next(),
            limbs,
            sites,
            gaps: (0..plan.cells()).map(|_| next()).collect(),
        };
        let (remainder, lookup, stated) = (next(), next(), next());
        Self { product, operand, evaluations, remainder, lookup, stated }
    }

    /// How many claims there are.
    #[must_use]
    pub const fn count(plan: &Plan) -> usize {
        6 + Evaluations::<F>::count(plan.cells())
    }

    /// Of the claim on the products of weights with hidden operands.
    #[must_use]
    pub const fn product(&self) -> F {
        self.product
    }

    /// The weight of a quantity's value at the constraints' point; of the remainders, which are no column of a constraint,
    /// that of the claim on their sum.
    fn of(&self, quantity: Quantity) -> F {
        let [value, value_rest, above, below] = self.evaluations.sites;
        match quantity {
            Quantity::Value => value,
            Quantity::ValueRest => value_rest,
            Quantity::Remainder | Quantity::RemainderRest => self.remainder,
            Quantity::Above => above,
            Quantity::Below => below,
            Quantity::Gap(cell) => self.evaluations.gaps.get(cell).copied().unwrap_or(F::ZERO),
        }
    }
}

/// What the constraints left: a point, and the columns' values there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constrained<F> {
    /// The point.
    pub point: Vec<F>,
    /// The values.
    pub evaluations: Evaluations<F>,
}

/// What the proof states, as the verifier uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stated<F> {
    /// The combination of the accumulators.
    pub accumulators: F,
    /// For each of [`Plan::nodes`] that is stated the results, inference by inference.
    pub results: Vec<Vec<i64>>,
}

/// What the sumcheck over products with hidden operands left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Products<F> {
    /// The sum that was claimed.
    pub sum: F,
    /// The point.
    pub point: Vec<F>,
    /// What the product of the two extensions must be there.
    pub last: F,
    /// The extension of the operands there.
    pub operand: F,
}

impl<F: Field> Products<F> {
    /// Replaces the functionals of weights whose operands are hidden by those that the sumcheck left, times `scale`.
    pub fn replace(
        &self,
        plan: &Plan,
        program: &Program,
        scale: F,
        functionals: &mut [Functional<F>],
    ) {
        let columns = first_equalities(&self.point, plan.products(), scale);
        for (index, (functional, (_, linear))) in
            functionals.iter_mut().zip(program.linears()).enumerate()
        {
            if let Some((_, offset)) = plan.operand(index) {
                let range = offset..offset + linear.groups() * linear.inner();
                functional.columns = columns.get(range).unwrap_or_default().to_vec();
            }
        }
    }
}

/// Numbers by site, for one kind of sites.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct BySite<F> {
    /// What multiplies [`Quantity::Value`] for its use as an operand, or because it is stated.
    used: Vec<F>,
    /// What multiplies the quotient: [`Quantity::Value`], [`Quantity::Above`], and less [`Quantity::Below`].
    quotient: Vec<F>,
    /// What multiplies [`Quantity::Remainder`].
    remainder: Vec<F>,
    /// What multiplies [`Quantity::Gap`], cell by cell.
    gaps: Vec<Vec<F>>,
}

/// The functionals of the trace and of the helpers, and what all three vectors' products with theirs add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims<'a, F> {
    plan: &'a Plan,
    weights: Weights<F>,
    point: Vec<F>,
    by_site: [BySite<F>; 2],
    total: F,
}

impl<'a, F: Field> Claims<'a, F> {
    /// Collects the claims.
    pub fn new(
        plan: &'a Plan,
        program: &Program,
        combination: &Combination<F>,
        weights: Weights<F>,
        stated: &Stated<F>,
        constrained: Option<Constrained<F>>,
        products: &Products<F>,
    ) -> Self {
        let by_site = [true, false].map(|pooled| BySite {
            used: vec![F::ZERO; plan.sites(pooled)],
            quotient: Vec::with_capacity(plan.sites(pooled)),
            remainder: Vec::with_capacity(plan.sites(pooled)),
            gaps: vec![
                Vec::with_capacity(plan.sites(pooled));
                if pooled { plan.cells() } else { 0 }
            ],
        });
        let total = stated.accumulators - products.sum + weights.product * products.last;
        let mut claims = Self { plan, weights, point: Vec::new(), by_site, total };
        let linears: Vec<&Linear> = program.linears().map(|(_, linear)| linear).collect();
        claims.add_accumulators(combination, &linears);
        claims.add_operands(combination, &linears, products);
        if let Some(Constrained { point, evaluations }) = constrained {
            let values = evaluations.to_vec();
            claims.total += F::dot(&claims.weights.evaluations.to_vec(), &values);
            let remainders: F =
                sum_over_sites(plan, &point, |requant| (1_i64 << requant.shift) - 1);
            claims.total += claims.weights.remainder * remainders;
            claims.point = point;
            claims.add_stated(&stated.results);
        }
        claims
    }

    /// What the products of the three vectors with their functionals must add up to.
    #[must_use]
    pub const fn total(&self) -> F {
        self.total
    }

    /// `accumulator = ((y + above - below)·2^shift + r - gap - half) / multiplier`, weighed like the stated ones and taken to
    /// the other side.
    fn add_accumulators(&mut self, combination: &Combination<F>, linears: &[&Linear]) {
        // In the plan's order, which is that of the sites.
        for node in self.plan.nodes() {
            let Some(linear) = linears.get(node.linear) else { continue };
            let Some(by_site) = self.by_site.get_mut(usize::from(!node.pooled)) else { continue };
            let weights = combination.node(node.linear, linear).accumulator_weights(linear);
            let multipliers = node.requant.multipliers.iter();
            let inverses: Vec<F> =
                multipliers.map(|&by| F::from_i64(by).inverse().unwrap_or(F::ZERO)).collect();
            let cells = if node.pooled { self.plan.cells().max(1) } else { 1 };
            let scale = F::from_i64(1 << node.requant.shift);
            let mut total = F::ZERO;
            for inference in 0..self.plan.batch() {
                let weight = combination.inference(inference);
                let factors: Vec<F> = inverses.iter().map(|&inverse| weight * inverse).collect();
                for (site, read) in node.accumulators.chunks(cells).enumerate() {
                    let factor = factors.get(node.multiplier(site)).copied().unwrap_or(F::ZERO);
                    let mut sum = F::ZERO;
                    for (cell, &at) in read.iter().enumerate() {
                        let weight = weights.get(at as usize).copied().unwrap_or(F::ZERO);
                        let of_cell = if factor == F::ONE { weight } else { factor * weight };
                        sum += of_cell;
                        if let Some(gaps) = by_site.gaps.get_mut(cell) {
                            gaps.push(of_cell);
                        }
                    }
                    by_site.quotient.push(-(sum * scale));
                    by_site.remainder.push(-sum);
                    total += sum;
                }
            }
            let offset = F::from_i64(node.requant.lo) * scale - F::from_i64(node.half());
            self.total += total * offset;
        }
    }

    /// The extension of the operands at the products' point is what the proof says.
    fn add_operands(
        &mut self,
        combination: &Combination<F>,
        linears: &[&Linear],
        products: &Products<F>,
    ) {
        let columns = first_equalities(&products.point, self.plan.products(), self.weights.operand);
        self.total += self.weights.operand * products.operand;
        for (index, linear) in linears.iter().enumerate() {
            let Some((site, offset)) = self.plan.operand(index) else { continue };
            let Some(node) = self.plan.nodes().get(site) else { continue };
            let Some(by_site) = self.by_site.get_mut(usize::from(!node.pooled)) else { continue };
            let count = linear.groups() * linear.inner();
            let columns = columns.get(offset..offset + count).unwrap_or_default();
            let mut factors = vec![F::ZERO; node.sites];
            combination.node(index, linear).scatter(linear, columns, &mut factors);
            let lo = F::from_i64(node.requant.lo);
            for inference in 0..self.plan.batch() {
                let weight = combination.inference(inference);
                let start = node.first + inference * node.sites;
                let range = start..start + node.sites;
                let values = by_site.used.get_mut(range).unwrap_or_default();
                let mut sum = F::ZERO;
                for (value, &factor) in values.iter_mut().zip(&factors) {
                    let factor = weight * factor;
                    *value += factor;
                    sum += factor;
                }
                self.total -= sum * lo;
            }
        }
    }

    /// The values of a stated result are those stated.
    fn add_stated(&mut self, results: &[Vec<i64>]) {
        for (index, node) in self.plan.nodes().iter().enumerate().filter(|(_, node)| node.stated) {
            let results = results.get(index).map_or(&[][..], Vec::as_slice);
            let Some(by_site) = self.by_site.get_mut(usize::from(!node.pooled)) else { continue };
            let end = node.first + node.sites * self.plan.batch();
            for sites in self.plan.boxes().iter().filter(|sites| sites.pooled == node.pooled) {
                let (from, to) = (node.first.max(sites.first), end.min(sites.first + sites.len()));
                if from >= to {
                    continue;
                }
                let equalities = equalities_in(&self.point, sites);
                let equalities = equalities.get(from - sites.first..to - sites.first);
                let used = by_site.used.get_mut(from..to).unwrap_or_default();
                let results = results.get(from - node.first..to - node.first).unwrap_or_default();
                let mut sum = F::ZERO;
                for (used, &equality) in used.iter_mut().zip(equalities.unwrap_or_default()) {
                    *used += self.weights.stated * equality;
                    sum += equality;
                }
                let values = F::dot_i64(equalities.unwrap_or_default(), results);
                self.total += self.weights.stated * (values - sum.scale(node.requant.lo));
            }
        }
    }

    /// The functional of the trace, written out.
    #[must_use]
    pub fn trace(&self) -> Vec<F> {
        let mut table = vec![F::ZERO; self.plan.trace_len()];
        let groups = first_equalities(&self.point, self.plan.groups(), F::ONE);
        for (entries, &group) in table.chunks_mut(4).zip(&groups) {
            for (entry, &weight) in entries.iter_mut().zip(&self.weights.evaluations.limbs) {
                *entry = group * weight;
            }
        }
        for sites in self.plan.boxes() {
            let point = equalities_in(&self.point, sites);
            for (plane, (quantity, limb)) in self.plan.planes(sites.pooled).enumerate() {
                let of = self.weights.of(quantity);
                let radix = F::from_i64(1 << (limb * self.plan.radix_bits()));
                let start = sites.offset + plane * sites.len();
                let entries = table.get_mut(start..start + sites.len()).unwrap_or_default();
                let weight = radix * of;
                for (entry, &point) in entries.iter_mut().zip(&point) {
                    *entry += weight * point;
                }
                for (negative, by_site) in self.by_site(sites, quantity) {
                    let radix = if negative { -radix } else { radix };
                    for (entry, &by_site) in entries.iter_mut().zip(by_site) {
                        *entry += radix * by_site;
                    }
                }
            }
        }
        let weight = self.weights.evaluations.multiplicity;
        let numbers = first_equalities(&self.point, self.plan.table(), weight);
        let multiplicities = table.get_mut(self.plan.multiplicities()..).unwrap_or_default();
        multiplicities.iter_mut().zip(numbers).for_each(|(entry, number)| *entry = number);
        table
    }

    /// The functional of the helpers, written out.
    #[must_use]
    pub fn helpers(&self) -> Vec<F> {
        let Evaluations { fraction, table_fraction, .. } = self.weights.evaluations;
        let mut table = first_equalities(&self.point, self.plan.groups(), fraction);
        table.iter_mut().for_each(|entry| *entry += self.weights.lookup);
        table.resize(self.plan.fractions(), F::ZERO);
        let numbers = first_equalities(&self.point, self.plan.table(), table_fraction);
        table.extend(numbers.into_iter().map(|number| number - self.weights.lookup));
        table
    }

    /// The extension of [`Self::trace`] at a point.
    #[must_use]
    pub fn trace_at(&self, at: &[F]) -> F {
        let Some((groups, &[third, fourth])) = at.split_last_chunk::<2>() else { return F::ZERO };
        let within = F::dot(&equality(&[third, fourth], F::ONE), &self.weights.evaluations.limbs);
        let mut sum = within * shared(groups, &self.point, self.plan.groups());
        for sites in self.plan.boxes() {
            let (high, low) = split(at, sites.bits);
            let low_equalities = equality(low, F::ONE);
            let (point_high, point_low) = split(&self.point, sites.bits);
            let point = equality_at(point_high, sites.start >> sites.bits)
                * low.iter().zip(point_low).fold(F::ONE, |product, (&a, &b)| product * same(a, b));
            let first = sites.offset >> sites.bits;
            let mut plane = 0;
            for (quantity, limbs) in self.plan.quantities() {
                if !sites.pooled && matches!(quantity, Quantity::Gap(_)) {
                    break;
                }
                let mut value = self.weights.of(quantity) * point;
                for (negative, by_site) in self.by_site(sites, quantity) {
                    let product = F::dot(by_site, &low_equalities);
                    value += if negative { -product } else { product };
                }
                for limb in 0..limbs {
                    let radix = 1 << (limb * self.plan.radix_bits());
                    sum += value.scale(radix) * equality_at(high, first + plane);
                    plane += 1;
                }
            }
        }
        let (high, low) = split(at, self.plan.radix_bits());
        let numbers = self.numbers_at(low);
        let first = self.plan.multiplicities() >> self.plan.radix_bits();
        sum + self.weights.evaluations.multiplicity * numbers * equality_at(high, first)
    }

    /// The extension of [`Self::helpers`] at a point.
    #[must_use]
    pub fn helpers_at(&self, at: &[F]) -> F {
        let Evaluations { fraction, table_fraction, .. } = self.weights.evaluations;
        let (high, low) = split(at, self.plan.radix_bits());
        let first = self.plan.fractions() >> self.plan.radix_bits();
        let table = table_fraction * self.numbers_at(low) - self.weights.lookup;
        fraction * shared(at, &self.point, self.plan.groups())
            + self.weights.lookup * below(at, self.plan.groups())
            + table * equality_at(high, first)
    }

    /// The extension, at `low`, of the table's part of the equalities with the constraints' point.
    fn numbers_at(&self, low: &[F]) -> F {
        let (high, point) = split(&self.point, self.plan.radix_bits());
        let zeros = high.iter().fold(F::ONE, |product, &r| product * (F::ONE - r));
        low.iter().zip(point).fold(zeros, |product, (&a, &b)| product * same(a, b))
    }

    /// What multiplies a quantity at the sites of a box, besides the evaluation at the constraints' point: vectors, each with
    /// whether to take it negative.
    fn by_site(&self, sites: &SiteBox, quantity: Quantity) -> impl Iterator<Item = (bool, &[F])> {
        let [pooled, plain] = &self.by_site;
        let by_site = if sites.pooled { pooled } else { plain };
        let (first, second) = match quantity {
            Quantity::Value => (Some(&by_site.quotient), Some(&by_site.used)),
            Quantity::Above | Quantity::Below => (Some(&by_site.quotient), None),
            Quantity::Remainder => (Some(&by_site.remainder), None),
            Quantity::Gap(cell) => (by_site.gaps.get(cell), None),
            Quantity::ValueRest | Quantity::RemainderRest => (None, None),
        };
        let range = sites.first..sites.first + sites.len();
        let parts = first.into_iter().chain(second).filter_map(move |all| all.get(range.clone()));
        parts.map(move |part| (quantity == Quantity::Below, part))
    }
}

/// Whether `Value` and `ValueRest` add up to `hi - lo` at the constraints' point.
#[must_use]
pub fn values_add_up<F: Field>(plan: &Plan, constrained: &Constrained<F>) -> bool {
    let Constrained { point, evaluations } = constrained;
    let [value, rest, ..] = evaluations.sites;
    value + rest == sum_over_sites(plan, point, |requant| requant.hi.saturating_sub(requant.lo))
}

/// `Σ eq(point, site) · f(requantisation)` over all sites.
fn sum_over_sites<F: Field>(plan: &Plan, point: &[F], f: impl Fn(&Requant) -> i64) -> F {
    let mut sum = F::ZERO;
    for node in plan.nodes() {
        let end = node.first + node.sites * plan.batch();
        for sites in plan.boxes().iter().filter(|sites| sites.pooled == node.pooled) {
            // The node's sites within the box.
            let within = |site: usize| site.saturating_sub(sites.first).min(sites.len());
            let (from, to) = (within(node.first), within(end));
            if from < to {
                let (high, low) = split(point, sites.bits);
                let part = below(low, to) - below(low, from);
                let part = part * equality_at(high, sites.start >> sites.bits);
                sum += part.scale(f(&node.requant));
            }
        }
    }
    sum
}

/// `eq(point, site)` for the sites of a box.
fn equalities_in<F: Field>(point: &[F], sites: &SiteBox) -> Vec<F> {
    let (high, low) = split(point, sites.bits);
    equality(low, equality_at(high, sites.start >> sites.bits))
}

/// A point's coordinates before its last `bits`, and those.
fn split<F>(point: &[F], bits: u32) -> (&[F], &[F]) {
    point.split_at_checked(point.len().saturating_sub(bits as usize)).unwrap_or_default()
}

/// `eq` in one variable.
fn same<F: Field>(a: F, b: F) -> F {
    let both = a * b;
    F::ONE - a - b + both + both
}

/// `Σ eq(a, i) · eq(b, i)` over `i < count`; the shorter point's index has zeros in front.
#[must_use]
pub fn shared<F: Field>(a: &[F], b: &[F], count: usize) -> F {
    let longest = a.len().max(b.len());
    let padded = |point: &[F]| {
        let mut padded = vec![F::ZERO; longest - point.len()];
        padded.extend_from_slice(point);
        padded
    };
    let pairs = padded(a).into_iter().zip(padded(b));
    prefix(pairs.map(|(a, b)| ((F::ONE - a) * (F::ONE - b), a * b)), count)
}

/// `Σ eq(point, i)` over `i < count`.
#[must_use]
pub fn below<F: Field>(point: &[F], count: usize) -> F {
    prefix(point.iter().map(|&r| (F::ONE - r, r)), count)
}

/// The sum over `i < count` of the product, over the binary digits of `i`, of one or the other factor of each pair; the
/// first pair is the most significant digit.
fn prefix<F: Field>(factors: impl Iterator<Item = (F, F)>, count: usize) -> F {
    let factors: Vec<(F, F)> = factors.collect();
    if bits_above(count, factors.len()) {
        return factors.iter().fold(F::ONE, |product, &(zero, one)| product * (zero + one));
    }
    // From the least significant digit: the sum over all shorter indices, and over those below the rest of `count`.
    let (mut all, mut sum) = (F::ONE, F::ZERO);
    for (digit, &(zero, one)) in factors.iter().rev().enumerate() {
        sum = if count >> digit & 1 == 1 { zero * all + one * sum } else { zero * sum };
        all *= zero + one;
    }
    sum
}

/// Whether every index of so many digits is below `count`.
fn bits_above(count: usize, digits: usize) -> bool {
    u32::try_from(digits)
        .ok()
        .and_then(|digits| 1_usize.checked_shl(digits))
        .is_some_and(|all| count >= all)
}
