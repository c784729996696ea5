//! Proofs of mode T: honest ones hold, for every backend, for random programs and for batches.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests"
)]

mod trace_support;

use og_prove::hyrax::Hyrax;
use og_prove::opener::Opener;
use og_prove::trace::{Prepared, prove, run};
use og_prove::whir::WhirOpener;
use og_zkml::execute::execute_traced;
use og_zkml::field::Field;
use og_zkml::layout::{
    Functional, Kind, Layout, Sizes, bits_for, equality, equality_at, equality_prefix, evaluate,
};
use og_zkml::model::{Commitments, Model};
use og_zkml::proof_file::{FileError, ProofFile, verify_file};
use og_zkml::qir::Op;
use og_zkml::scheme::Scheme;
use og_zkml::whir::Goldilocks2 as F;
use std::sync::Arc;
use trace_support::generator::{Random, case};
use trace_support::{Clear, inputs, model, program, verify};

fn honest<O: Opener>(batch: usize) {
    let model = model(program(), 1);
    let prepared = Prepared::<O>::new(Arc::clone(&model), [7; 32]).unwrap();
    let inputs = inputs(model.program(), batch, 2);
    let proof = prove(&prepared, &inputs).unwrap();
    let security = verify(&prepared, &inputs, &proof.outputs, &proof.bytes).unwrap();
    assert!(security.bits >= 100);
    println!(
        "{} batch {batch}: {} bytes, {} bits",
        O::S::BACKEND,
        proof.bytes.len(),
        security.bits
    );
}

#[test]
fn honest_proofs_hold() {
    for batch in [1, 2, 3, 5] {
        honest::<Clear>(batch);
        honest::<Hyrax>(batch);
        honest::<WhirOpener>(batch);
    }
}

#[test]
fn files_hold_and_name_their_model() {
    fn check<O: Opener>(other: fn(&og_zkml::model::Digests) -> [u8; 32]) {
        let model = model(program(), 1);
        let digests = *Commitments::of(&model).unwrap().digests();
        let prepared = Prepared::<O>::new(Arc::clone(&model), other(&digests)).unwrap();
        assert_eq!(*prepared.digests(), digests);
        let inputs = inputs(model.program(), 2, 2);
        let proof = prove(&prepared, &inputs).unwrap();
        let file = prepared.file(inputs.clone(), proof);
        let bytes = file.encode().unwrap();
        assert_eq!(ProofFile::decode(&bytes).unwrap(), file);
        let id = digests.model_id();
        let report = verify_file(&bytes, Some(id)).unwrap();
        assert_eq!(report.verdict(), format!("valid for the model asked for, {id}"));
        assert_eq!(report.inputs[1][0].tensor, inputs[1][0]);
        let report = verify_file(&bytes, None).unwrap();
        assert_eq!(report.verdict(), format!("valid for model {id}"));
        let mut another = id;
        another.0[31] ^= 1;
        assert_eq!(
            verify_file(&bytes, Some(another)).unwrap_err(),
            FileError::Model { found: id, expected: another }
        );
    }
    check::<Hyrax>(|digests| digests.whir);
    check::<WhirOpener>(|digests| digests.hyrax);
}

/// The executor's tensors are the prover's trace, and the proof of each random program holds.
fn random_programs(count: u64, nodes: usize) {
    let mut linear = 0;
    for seed in 0..count {
        let case = case(seed, nodes);
        let traced = execute_traced(&case.program, &case.inputs, &mut &case.weights).unwrap();
        let model = Arc::new(Model::new(case.program, case.weights).unwrap());
        let program = model.program();
        let batch = vec![case.inputs; if seed % 4 == 0 { 2 } else { 1 }];
        let (outputs, steps) = run(program, model.weights(), &batch).unwrap();
        for ((node, _), step) in program.linears().zip(&steps[0]) {
            assert_eq!(traced.tensors[node.inputs[0]].values, step.operand, "seed {seed}");
            assert_eq!(traced.tensors[node.output].values, step.accumulators, "seed {seed}");
            linear += 1;
        }
        assert_eq!(outputs[0], traced.outputs, "seed {seed}");
        let prepared = Prepared::<Clear>::new(Arc::clone(&model), [0; 32]).unwrap();
        let proof = prove(&prepared, &batch).unwrap();
        verify(&prepared, &batch, &proof.outputs, &proof.bytes)
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
    println!("{count} programs with {linear} linear nodes");
    assert!(linear > count, "{linear} linear nodes");
}

#[test]
fn the_executor_is_the_trace_of_random_programs() {
    random_programs(10_000, 8);
}

#[test]
fn a_program_without_weights_is_proved_too() {
    let mut b = og_zkml::qir::Builder::new("none");
    let x = b.input("x", &[3], -5, 5, 0).unwrap();
    let y = b.push(Op::Product, &[x, x], 0).unwrap();
    b.output("y", y).unwrap();
    let model = model(b.finish().unwrap(), 0);
    let prepared = Prepared::<WhirOpener>::new(Arc::clone(&model), [0; 32]).unwrap();
    let inputs = inputs(model.program(), 1, 3);
    let proof = prove(&prepared, &inputs).unwrap();
    verify(&prepared, &inputs, &proof.outputs, &proof.bytes).unwrap();
}

#[test]
fn one_thread_and_many_write_the_same_bytes() {
    let mut b = og_zkml::qir::Builder::new("wide");
    let x = b.input("x", &[4, 300], -127, 127, 0).unwrap();
    let mut linear = og_zkml::qir::Linear::dense(4, 300, 200).with_bias(20);
    linear.bound = i64::try_from(linear.structural_bound(127)).unwrap();
    let y = b.push(Op::Linear(linear), &[x], 0).unwrap();
    b.output("y", y).unwrap();
    let model = model(b.finish().unwrap(), 4);
    let inputs = inputs(model.program(), 2, 3);
    let bytes = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let prepared = Prepared::<WhirOpener>::new(Arc::clone(&model), [0; 32]).unwrap();
            let proof = prove(&prepared, &inputs).unwrap();
            verify(&prepared, &inputs, &proof.outputs, &proof.bytes).unwrap();
            proof.bytes
        })
    };
    let one = bytes(1);
    assert_eq!(one, bytes(2));
    assert_eq!(one, bytes(5));
}

#[test]
fn boxes_tile_the_vector() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut sizes = Vec::new();
        for _ in 0..=random.below(4) {
            let size = |random: &mut Random| random.below(20) as usize + 1;
            let (groups, rows, columns) =
                (size(&mut random).min(5), size(&mut random), size(&mut random) * 3);
            sizes.push(Sizes { groups, rows, columns, bias: random.flag() });
        }
        let layout = Layout::of(sizes.clone()).unwrap();
        let mut at = 0;
        let mut seen = std::collections::BTreeSet::new();
        for cube in layout.cubes() {
            assert_eq!(cube.offset, at);
            assert_eq!(cube.offset % cube.len(), 0, "boxes are aligned");
            at += cube.len();
            for g in 0..1 << cube.group_bits {
                for o in 0..1 << cube.row_bits {
                    for k in 0..1 << cube.column_bits {
                        let fresh = seen.insert((
                            cube.node,
                            cube.kind,
                            cube.group + g,
                            cube.row + o,
                            cube.column + k,
                        ));
                        assert!(fresh, "no weight lies twice");
                    }
                }
            }
        }
        assert_eq!(at, layout.len());
        let expected: usize =
            sizes.iter().map(|s| s.groups * s.rows * (s.columns + usize::from(s.bias))).sum();
        assert_eq!(seen.len(), expected);
        assert!(seen.iter().all(|&(node, kind, g, o, k)| {
            let size = sizes[node];
            g < size.groups
                && o < size.rows
                && k < if kind == Kind::Bias { 1 } else { size.columns }
        }));

        // The extension of L in time of its factors equals the one by definition.
        let field = |random: &mut Random| F::from_i64(random.between(-(1 << 40), 1 << 40));
        let functionals: Vec<Functional<F>> = sizes
            .iter()
            .map(|s| Functional {
                rows: (0..s.rows).map(|_| field(&mut random)).collect(),
                columns: (0..s.groups * s.columns).map(|_| field(&mut random)).collect(),
                bias: (0..s.groups).map(|_| field(&mut random)).collect(),
            })
            .collect();
        let point: Vec<F> = (0..layout.variables()).map(|_| field(&mut random)).collect();
        let table = og_prove::trace::materialise(&layout, &functionals);
        assert_eq!(
            evaluate(&layout, &functionals, &point),
            F::dot(&table, &equality(&point, F::ONE))
        );
    }
}

#[test]
fn equality_tables_agree() {
    let mut random = Random(3);
    for count in 0..70_usize {
        let bits = bits_for(count) as usize;
        let point: Vec<F> =
            (0..bits + 2).map(|_| F::from_i64(random.between(-1000, 1000))).collect();
        let short = equality_prefix(&point, count, F::ONE);
        let full = equality(&point[..bits], F::ONE);
        assert_eq!(short[..count], full[..count]);
        for (index, &entry) in full.iter().enumerate() {
            assert_eq!(entry, equality_at(&point[..bits], index));
        }
    }
}
