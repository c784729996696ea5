//! What mode S covers, where it lies, and that its functionals' extensions in closed form are those by definition.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    unreachable_pub,
    dead_code,
    reason = "a test that fails should say where; numbers here are small"
)]

#[path = "execute/generator.rs"]
mod generator;
#[path = "succinct/nets.rs"]
mod nets;

use generator::Random;
use nets::{bounded, largest, net, reshape, windows};
use og_zkml::field::Field;
use og_zkml::layout::{bits_for, equality, first_equalities};
use og_zkml::model::Digests;
use og_zkml::qir::{Builder, Linear, Op, PoolKind, Program, Requant, Window};
use og_zkml::scheme::{Backend, MAX_VARIABLES, Mode, SchemeError};
use og_zkml::succinct::claims::{below, shared};
use og_zkml::succinct::{
    Claims, Constrained, Evaluations, Plan, Products, Source, Stated, Weights,
};
use og_zkml::trace::Combination;
use og_zkml::transcript::{Prover, Statement};
use og_zkml::whir::Goldilocks2 as F;
use std::collections::BTreeSet;

/// Pushes nodes one on top of the other, each reading the last.
struct Chain(Builder, usize);

impl Chain {
    fn new(shape: &[u32]) -> Self {
        let mut b = Builder::new("chain");
        let x = b.input("x", shape, -100, 100, 0).unwrap();
        Self(b, x)
    }

    fn then(mut self, op: Op) -> Self {
        self.1 = self.0.push(op, &[self.1], 0).unwrap();
        self
    }

    fn dense(self, rows: u32, inner: u32, outer: u32) -> Self {
        let op = bounded(&self.0, self.1, 8, 0, Linear::dense(rows, inner, outer));
        self.then(op)
    }

    fn shown(mut self) -> Self {
        let name = format!("tensor {}", self.1);
        self.0.output(&name, self.1).unwrap();
        self
    }

    fn finish(self) -> Program {
        self.shown().0.finish().unwrap()
    }

    fn sources(self) -> String {
        letters(&self.finish())
    }
}

/// Where the nodes' results come from: `c`omputed, `s`tated, `h`idden.
fn letters(program: &Program) -> String {
    let plan = Plan::new(program, 1).unwrap();
    let letter = |node| match plan.source(node) {
        Source::Computed => 'c',
        Source::Stated => 's',
        Source::Hidden => 'h',
    };
    (0..program.nodes().len()).map(letter).collect()
}

fn shift(shift: u8) -> Op {
    Op::Requant(Requant::shift(shift, -9, 9))
}

fn scale(multipliers: &[i64]) -> Op {
    let axis = u32::from(multipliers.len() > 1);
    Op::Requant(Requant { multipliers: multipliers.to_vec(), axis, shift: 3, lo: 0, hi: 9 })
}

#[test]
fn what_is_covered_is_what_the_constraints_describe() {
    let dense = || Chain::new(&[2, 6]).dense(2, 6, 6);
    // Between linear nodes all is hidden, reshapes too.
    assert_eq!(dense().then(shift(3)).dense(2, 6, 1).sources(), "hhs");
    let reshaped = dense().then(reshape(&[12])).then(shift(3)).then(reshape(&[1, 12]));
    assert_eq!(reshaped.dense(1, 12, 1).sources(), "hhhhs");
    let pooled = dense().then(largest(windows(&[3]))).then(reshape(&[1, 4])).then(shift(3));
    assert_eq!(pooled.dense(1, 4, 1).sources(), "hhhhs");
    // A result that is an output, or that something else reads, is stated.
    assert_eq!(dense().then(shift(3)).sources(), "hs");
    assert_eq!(dense().then(shift(3)).shown().dense(2, 6, 1).sources(), "hss");
    assert_eq!(dense().then(shift(3)).then(reshape(&[12])).sources(), "hsc");
    assert_eq!(dense().then(shift(3)).then(shift(1)).dense(2, 6, 1).sources(), "hscs");
    let sum = Op::Sum { coefficients: vec![2] };
    assert_eq!(dense().then(shift(3)).then(sum.clone()).sources(), "hsc");
    // Accumulators that are an output, or that something else lies between, are stated.
    assert_eq!(dense().shown().then(shift(3)).dense(2, 6, 1).sources(), "scs");
    assert_eq!(dense().then(sum).then(shift(3)).sources(), "scc");
    assert_eq!(Chain::new(&[2, 6]).then(shift(3)).dense(2, 6, 1).sources(), "cs");
    // The same of what a window's largest is taken of.
    let kernel = |kernel| windows(&[kernel])[0];
    let pool = |kind, window| Op::Pool { kind, windows: vec![window] };
    let max = |window| dense().then(pool(PoolKind::Max, window)).then(shift(3)).sources();
    assert_eq!((max(kernel(2)), max(kernel(3))), ("hhs".to_owned(), "hhs".to_owned()));
    for window in [
        Window { stride: 1, ..kernel(2) },
        Window { stride: 3, ..kernel(2) },
        Window { dilation: 2, ..kernel(2) },
        Window { before: 1, ..kernel(2) },
        Window { after: 1, ..kernel(2) },
        kernel(1),
        kernel(4),
        kernel(6),
    ] {
        assert_eq!(max(window), "scc", "{window:?}");
    }
    for kind in [PoolKind::Min, PoolKind::Sum] {
        assert_eq!(dense().then(pool(kind, kernel(2))).then(shift(3)).sources(), "scc");
    }
    let twice = dense().then(largest(windows(&[2]))).then(largest(windows(&[3])));
    assert_eq!(twice.then(shift(3)).sources(), "sccc");
    let other = dense().then(largest(windows(&[2]))).then(shift(3)).dense(2, 3, 6);
    assert_eq!(other.then(largest(windows(&[3]))).then(shift(3)).sources(), "hhhscc");
    // Multipliers, shifts and ranges.
    assert_eq!(dense().then(scale(&[1, 2, 3, 4, 5, 6])).sources(), "hs");
    for multipliers in [&[0][..], &[-1], &[1, 2, 3, 0, 5, 6]] {
        assert_eq!(dense().then(scale(multipliers)).sources(), "sc", "{multipliers:?}");
    }
    let clamp = |shift, lo, hi| dense().then(Op::Requant(Requant::shift(shift, lo, hi))).sources();
    assert_eq!(clamp(40, 0, 15), "hs");
    assert_eq!(clamp(40, 0, 16), "sc", "a shift of 40 and values of 5 bits");
    assert_eq!(clamp(45, 0, 0), "sc");
    assert_eq!(clamp(0, 0, (1 << 44) - 1), "hs");
    assert_eq!(clamp(0, 0, 1 << 44), "sc");
    assert_eq!(clamp(0, (1 << 57) - 1, (1 << 57) - 1), "sc", "so far below");
    assert_eq!(clamp(40, 1 << 17, 1 << 17), "sc");
    // What each node alone is small enough for, both together are not.
    let both = dense().then(Op::Requant(Requant::shift(40, 0, 15))).dense(2, 6, 6);
    assert_eq!(both.then(Op::Requant(Requant::shift(0, 0, 100))).sources(), "hhsc");
}

#[test]
fn one_hidden_result_serves_several_linear_nodes() {
    let mut b = Builder::new("fan");
    let x = b.input("x", &[1, 4], -100, 100, 0).unwrap();
    let dense = |b: &mut Builder, operand, inner, outer| {
        let op = bounded(b, operand, 8, 0, Linear::dense(1, inner, outer));
        b.push(op, &[operand], 0).unwrap()
    };
    let h = dense(&mut b, x, 4, 6);
    let h = b.push(shift(3), &[h], 0).unwrap();
    let again = b.push(reshape(&[1, 6]), &[h], 0).unwrap();
    for (name, operand) in [("a", h), ("b", again), ("c", x)] {
        let inner = if operand == x { 4 } else { 6 };
        let y = dense(&mut b, operand, inner, 2);
        b.output(name, y).unwrap();
    }
    let program = b.finish().unwrap();
    assert_eq!(letters(&program), "hhhsss");
    let plan = Plan::new(&program, 3).unwrap();
    let operands: Vec<_> = (0..5).map(|linear| plan.operand(linear)).collect();
    assert_eq!(operands, [None, Some((0, 0)), Some((0, 6)), None, None]);
    assert_eq!((plan.products(), plan.product_variables()), (12, 4));
}

#[test]
fn what_is_committed_to_lies_aligned_and_side_by_side() {
    for seed in 0..300 {
        let program = net(seed);
        let plan = Plan::new(&program, 1 + seed as usize % 5).unwrap();
        let (mut start, mut offset) = (0, 0);
        let mut seen = BTreeSet::new();
        for sites in plan.boxes() {
            assert_eq!((sites.start, sites.offset), (start, offset), "seed {seed}");
            assert_eq!((start % sites.len(), offset % sites.len()), (0, 0), "seed {seed}");
            start += sites.len();
            offset += sites.len() * plan.planes(sites.pooled).count();
            assert!((0..sites.len()).all(|i| seen.insert((sites.pooled, sites.first + i))));
        }
        let mut all = BTreeSet::new();
        for node in plan.nodes() {
            let (linear, cells) = (node.linear, if node.pooled { plan.cells() } else { 1 });
            let (_, linear) = program.linears().nth(linear).unwrap();
            let read: BTreeSet<u32> = node.accumulators.iter().copied().collect();
            assert_eq!(read.len(), node.sites * cells);
            assert!(read.into_iter().eq(0..linear.accumulator_len() as u32), "each once");
            let sites = node.first..node.first + node.sites * plan.batch();
            assert!(sites.into_iter().all(|site| all.insert((node.pooled, site))));
        }
        assert_eq!(seen, all, "seed {seed}");
        let (groups, table) = (plan.groups(), plan.table());
        assert!((8..=14).contains(&plan.radix_bits()));
        assert_eq!(groups, offset.div_ceil(4));
        for (end, begin, whole) in [
            (4 * groups, plan.multiplicities(), plan.trace_len()),
            (groups, plan.fractions(), plan.helpers()),
        ] {
            assert!(end <= begin && begin < end + table && begin % table == 0, "seed {seed}");
            assert_eq!(whole, begin + table);
        }
        for (_, limbs) in plan.quantities() {
            assert!(limbs * plan.radix_bits() < 58);
        }
        let most = groups.max(table).max(start);
        assert!(bits_for(most) == plan.constraint_variables() || !plan.has_sites());
    }
}

#[test]
fn a_trace_is_not_longer_than_a_vector_may_be() {
    let program = Chain::new(&[1, 1]).dense(1, 1, 1 << 10).then(shift(3)).dense(1, 1 << 10, 1);
    let program = program.finish();
    let length = |batch| Plan::new(&program, batch).map(|plan| plan.trace_len());
    assert!(length(1 << 10).unwrap() <= 1 << MAX_VARIABLES);
    assert!(
        matches!(length(1 << 14).unwrap_err(), SchemeError::Size(size) if size > 1 << MAX_VARIABLES)
    );
}

fn element(random: &mut Random) -> F {
    let mut bytes = [0; 64];
    bytes.iter_mut().for_each(|byte| *byte = random.next() as u8);
    F::from_uniform(&bytes)
}

fn elements(random: &mut Random, count: usize) -> Vec<F> {
    (0..count).map(|_| element(random)).collect()
}

#[test]
fn functionals_in_closed_form_are_those_written_out() {
    let mut checked = 0;
    for seed in 0..150 {
        let mut random = Random(seed);
        let program = net(seed);
        let batch = 1 + seed as usize % 5;
        let plan = Plan::new(&program, batch).unwrap();
        if !plan.has_sites() {
            continue;
        }
        let digests = Digests::decode(&[0; 160]);
        let statement = Statement {
            backend: Backend::Whir,
            mode: Mode::Succinct,
            digests: &digests,
            weight_count: seed,
            batch: 1,
            inputs: &[],
            outputs: &[],
        };
        let combination = Combination::<F>::draw(&program, batch, &mut Prover::new(&statement));
        let weights = Weights::new(&plan, element(&mut random));
        let values = elements(&mut random, Evaluations::<F>::count(plan.cells()));
        let evaluations = Evaluations::from_slice(&values).unwrap();
        assert_eq!(evaluations.to_vec(), values);
        let point = elements(&mut random, plan.constraint_variables() as usize);
        let products = Products {
            sum: element(&mut random),
            point: elements(&mut random, plan.product_variables() as usize),
            last: element(&mut random),
            operand: element(&mut random),
        };
        let constrained = Some(Constrained { point, evaluations });
        let results = plan.nodes().iter().map(|node| {
            (0..node.sites * batch).map(|_| random.between(-99, 99)).collect::<Vec<_>>()
        });
        let results = results.collect();
        let stated = Stated { accumulators: element(&mut random), results };
        let claims =
            Claims::new(&plan, &program, &combination, weights, &stated, constrained, &products);
        let mut extension = |written: Vec<F>, closed: &dyn Fn(&[F]) -> F| {
            let at = elements(&mut random, bits_for(written.len()) as usize);
            let expected = F::dot(&written, &equality(&at, F::ONE)[..written.len()]);
            assert_eq!(closed(&at), expected, "seed {seed}");
        };
        extension(claims.trace(), &|at| claims.trace_at(at));
        extension(claims.helpers(), &|at| claims.helpers_at(at));
        checked += 1;
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn sums_over_the_first_indices_are_those_by_definition() {
    let mut random = Random(9);
    for count in 0..70 {
        for more in 0..3 {
            let n = bits_for(count) as usize + more;
            let (a, b) = (elements(&mut random, n), elements(&mut random, n + more));
            let sum = |values: &[F]| values.iter().fold(F::ZERO, |sum, &value| sum + value);
            let of_a = equality(&a, F::ONE);
            assert_eq!(below(&a, count), sum(&of_a[..count]), "{count} of {n}");
            assert_eq!(below(&a, 1 << n), F::ONE);
            let of_b = equality(&b, F::ONE);
            assert_eq!(shared(&a, &b, count), F::dot(&of_a[..count], &of_b[..count]));
            assert_eq!(shared(&b, &a, count), F::dot(&of_a[..count], &of_b[..count]));
            assert_eq!(first_equalities(&b, count, F::ONE), of_b[..count]);
        }
    }
}
