//! The sumcheck over the constraints.

use og_zkml::field::Field;
use og_zkml::layout::equality;
use og_zkml::succinct::{BOUND, ConstraintChallenges, DEGREE, Evaluations, ROUND};
use og_zkml::transcript::Prover;
use rayon::prelude::*;

/// Indices that one task works on at a time: some 200 µs.
const CHUNK: usize = 1 << 8;

/// A column over the cube; it continues with zeros, or repeats.
#[derive(Clone, Debug)]
pub(super) struct Column<F> {
    pub(super) entries: Vec<F>,
    pub(super) repeats: bool,
}

impl<F: Field> Column<F> {
    pub(super) const fn new(entries: Vec<F>) -> Self {
        Self { entries, repeats: false }
    }

    fn at(&self, index: usize) -> F {
        let index = if self.repeats { index % self.entries.len().max(1) } else { index };
        self.entries.get(index).copied().unwrap_or(F::ZERO)
    }

    /// Binds the first variable of a cube of twice `half` indices.
    fn bind(&mut self, half: usize, r: F) {
        if self.repeats && self.entries.len() <= half {
            return;
        }
        let length = self.entries.len().min(half);
        for index in 0..length {
            let (low, high) = (self.at(index), self.at(index + half));
            if let Some(entry) = self.entries.get_mut(index) {
                *entry = low + r * (high - low);
            }
        }
        self.entries.truncate(length);
    }
}

/// All columns of the constraints.
#[derive(Clone, Debug)]
pub(super) struct Columns<F> {
    /// The groups' fraction, whether in a group, the four limbs.
    pub(super) groups: [Column<F>; 6],
    /// The table's fraction, multiplicity, number.
    pub(super) table: [Column<F>; 3],
    /// [`Quantity::Value`](og_zkml::succinct::Quantity), rest, above, below; then the gaps.
    pub(super) sites: Vec<Column<F>>,
}

impl<F: Field> Columns<F> {
    fn bind(&mut self, half: usize, r: F) {
        let all = self.groups.iter_mut().chain(&mut self.table).chain(&mut self.sites);
        all.collect::<Vec<_>>().into_par_iter().for_each(|column| column.bind(half, r));
    }

    /// The values at the point once all variables are bound, in the order of [`Evaluations`].
    pub(super) fn evaluations(&self) -> Option<Evaluations<F>> {
        let [fraction, _, limbs @ ..] = self.groups.each_ref().map(|column| column.at(0));
        let [table_fraction, multiplicity, _] = self.table.each_ref().map(|column| column.at(0));
        let sites: Vec<F> = self.sites.iter().map(|column| column.at(0)).collect();
        let (&sites, gaps) = sites.split_first_chunk()?;
        let gaps = gaps.to_vec();
        Some(Evaluations { fraction, table_fraction, multiplicity, limbs, sites, gaps })
    }
}

/// Proves that the constraints vanish on the cube; returns the point. The columns are bound to it.
pub(super) fn prove<F: Field>(
    columns: &mut Columns<F>,
    challenges: &ConstraintChallenges<F>,
    equality_point: &[F],
    transcript: &mut Prover,
) -> Vec<F> {
    let mut point = Vec::new();
    let mut claim = F::ZERO;
    let mut equalities = equality(equality_point, F::ONE);
    for &rho in equality_point {
        // The rest of the equality: this round's variable adds up to one.
        let half = equalities.len() / 2;
        let (low, high) = equalities.split_at(half);
        equalities = low.iter().zip(high).map(|(&low, &high)| low + high).collect();
        let Columns { groups, table, sites } = &*columns;
        let mut values = sum(groups, &equalities, |&[fraction, in_group, a, b, c, d]| {
            challenges.of_group(fraction, in_group, &[a, b, c, d])
        });
        let of_table = sum(table, &equalities, |&[fraction, multiplicity, number]| {
            challenges.of_number(fraction, multiplicity, number)
        });
        add(&mut values, of_table);
        add(&mut values, sites_round(sites, challenges, &equalities));
        // The value at 0 follows from the claim, as it does for the verifier.
        let at_one = values.get(1).copied().unwrap_or(F::ZERO);
        if let (Some(at_zero), Some(inverse)) = (values.first_mut(), (F::ONE - rho).inverse()) {
            *at_zero = (claim - rho * at_one) * inverse;
        }
        let coefficients = interpolate(&values);
        transcript.send(ROUND, coefficients.get(1..).unwrap_or_default());
        let r = transcript.challenge(BOUND);
        columns.bind(half, r);
        claim = coefficients.iter().rev().fold(F::ZERO, |sum, &coefficient| sum * r + coefficient);
        point.push(r);
    }
    point
}

/// A polynomial of degree 5 at 0, 1, … 5.
type AtPoints<F> = [F; DEGREE + 1];

fn add<F: Field>(sums: &mut AtPoints<F>, others: AtPoints<F>) {
    sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
}

fn sites_round<F: Field>(
    columns: &[Column<F>],
    challenges: &ConstraintChallenges<F>,
    equalities: &[F],
) -> AtPoints<F> {
    // By the number of cells, so that an index's values are an array.
    fn of<F: Field, const N: usize>(
        columns: &[Column<F>],
        challenges: &ConstraintChallenges<F>,
        equalities: &[F],
    ) -> AtPoints<F> {
        let Ok(columns) = <&[Column<F>; N]>::try_from(columns) else {
            return [F::ZERO; DEGREE + 1];
        };
        sum(columns, equalities, |values| match values.split_first_chunk() {
            Some((sites, gaps)) => challenges.of_site(sites, gaps),
            None => F::ZERO,
        })
    }
    match columns.len() {
        4 => of::<F, 4>(columns, challenges, equalities),
        6 => of::<F, 6>(columns, challenges, equalities),
        7 => of::<F, 7>(columns, challenges, equalities),
        _ => of::<F, 8>(columns, challenges, equalities),
    }
}

/// `Σ equality · f(columns)` over the indices, as a polynomial in the variable to be bound; at all points but 0.
fn sum<F: Field, const N: usize>(
    columns: &[Column<F>; N],
    equalities: &[F],
    f: impl Fn(&[F; N]) -> F + Sync,
) -> AtPoints<F> {
    let half = equalities.len();
    let filled = columns.iter().filter(|column| !column.repeats);
    let filled = filled.map(|column| column.entries.len()).max().unwrap_or(0).min(half);
    let part = |start: usize| {
        let mut sums = [F::ZERO; DEGREE + 1];
        let indices = start..filled.min(start + CHUNK);
        for (index, &weight) in indices.clone().zip(equalities.get(indices).unwrap_or_default()) {
            let mut values = columns.each_ref().map(|column| column.at(index));
            let highs = columns.each_ref().map(|column| column.at(index + half));
            let mut rises = highs;
            rises.iter_mut().zip(&values).for_each(|(rise, &low)| *rise -= low);
            for sum in sums.iter_mut().skip(1) {
                values.iter_mut().zip(&rises).for_each(|(value, &rise)| *value += rise);
                *sum += weight * f(&values);
            }
        }
        sums
    };
    let combine = |mut sums: AtPoints<F>, others: AtPoints<F>| {
        add(&mut sums, others);
        sums
    };
    let zeros = [F::ZERO; DEGREE + 1];
    let chunks = 0..filled.div_ceil(CHUNK);
    if filled <= CHUNK {
        chunks.map(|chunk| part(chunk * CHUNK)).fold(zeros, combine)
    } else {
        chunks.into_par_iter().map(|chunk| part(chunk * CHUNK)).reduce(|| zeros, combine)
    }
}

/// The coefficients of the polynomial of degree 5 with these values at 0, 1, … 5, by Newton's forward differences.
fn interpolate<F: Field>(values: &[F; DEGREE + 1]) -> [F; DEGREE + 1] {
    /// Coefficients of `x (x-1) … (x-k+1) · 120 / k!`.
    const NEWTON: [[i64; DEGREE + 1]; DEGREE + 1] = [
        [120, 0, 0, 0, 0, 0],
        [0, 120, 0, 0, 0, 0],
        [0, -60, 60, 0, 0, 0],
        [0, 40, -60, 20, 0, 0],
        [0, -30, 55, -30, 5, 0],
        [0, 24, -50, 35, -10, 1],
    ];
    let mut differences = *values;
    for order in 1..=DEGREE {
        for index in (order..=DEGREE).rev() {
            if let Some([before, after]) = differences.get_mut(index - 1..=index) {
                *after -= *before;
            }
        }
    }
    let inverse = F::from_i64(120).inverse().unwrap_or(F::ZERO);
    let mut coefficients = [F::ZERO; DEGREE + 1];
    for (difference, newton) in differences.into_iter().zip(NEWTON) {
        let scaled = difference * inverse;
        coefficients.iter_mut().zip(newton).for_each(|(sum, by)| *sum += scaled.scale(by));
    }
    coefficients
}

#[cfg(test)]
mod tests {
    use super::*;
    use og_zkml::whir::Goldilocks2 as F;

    #[test]
    fn polynomials_are_interpolated() {
        let expected = [3, -1, 4, -1, 5, -9].map(F::from_i64);
        let value =
            |x: i64| expected.iter().rev().fold(F::ZERO, |sum, &c| sum * F::from_i64(x) + c);
        assert_eq!(interpolate(&[0, 1, 2, 3, 4, 5].map(value)), expected);
    }
}
