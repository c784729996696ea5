//! Nothing but an honest proof holds: every leaf of a proof, every byte of a file, every way of cheating we know.

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
use og_prove::sumcheck::{self, Pair, Values};
use og_prove::trace::{Prepared, prove, prove_mapped, prove_steps, run};
use og_prove::whir::WhirOpener;
use og_testkit::fuzz::generated;
use og_zkml::field::Field;
use og_zkml::model::Commitments;
use og_zkml::proof_file::{FileError, verify_file};
use og_zkml::qir::{Builder, Linear, NodeWeights, Op, Program, Tensor, Weights};
use og_zkml::scheme::{Backend, Mode, Scheme};
use og_zkml::trace::{Packing, TraceError};
use og_zkml::transcript::{Prover, TranscriptError};
use og_zkml::whir::Goldilocks2;
use std::collections::BTreeSet;
use std::sync::Arc;
use trace_support::forge::{Cheat, bind, change_every_leaf, forge, lie, naive_round};
use trace_support::generator::{Random, case};
use trace_support::{Clear, inputs, model, program, verify, wide};

fn prepared<O: Opener>(program: Program, seed: u64) -> Prepared<O> {
    let model = model(program, seed);
    let digests = *Commitments::of(&model).unwrap().digests();
    let other = match O::S::BACKEND {
        Backend::Hyrax => digests.whir,
        Backend::Whir => digests.hyrax,
    };
    Prepared::new(model, other).unwrap()
}

fn every_leaf<O: Opener>(program: Program, batch: usize) {
    let prepared = prepared::<O>(program, 11);
    let inputs = inputs(prepared.model().program(), batch, 12);
    let proof = prove_mapped(&prepared, &inputs).unwrap();
    assert_eq!(prove(&prepared, &inputs).unwrap().bytes, proof.bytes, "mapping changes nothing");
    let holds = |bytes: &[u8]| verify(&prepared, &inputs, &proof.outputs, bytes).is_ok();
    let (count, by_label) = change_every_leaf(&proof, holds);
    println!("{}: {count} changes of leaves, all refused: {by_label:?}", O::S::BACKEND);
}

#[test]
fn every_leaf_matters_to_h() {
    every_leaf::<Hyrax>(program(), 1);
    every_leaf::<Hyrax>(wide(1, 60, 30), 2);
}

#[test]
fn every_leaf_matters_to_w() {
    every_leaf::<WhirOpener>(program(), 2);
    every_leaf::<WhirOpener>(wide(1, 90, 60), 1);
}

fn file<O: Opener>(program: Program, batch: usize) -> Vec<u8> {
    let prepared = prepared::<O>(program, 21);
    let inputs = inputs(prepared.model().program(), batch, 22);
    let proof = prove(&prepared, &inputs).unwrap();
    prepared.file(inputs, proof).encode().unwrap()
}

/// A file of mode S.
fn succinct<O: Opener>(program: Program) -> Vec<u8> {
    let prepared = prepared::<O>(program, 21);
    let inputs = inputs(prepared.model().program(), 1, 22);
    let proof = og_prove::succinct::prove(&prepared, &inputs).unwrap();
    prepared.file(inputs, proof).encode().unwrap()
}

fn small() -> Program {
    let mut b = Builder::new("small");
    let x = b.input("x", &[1, 5], -7, 7, 2).unwrap();
    let linear = Linear::dense(1, 5, 3).with_bias(8);
    let bound = i64::try_from(linear.structural_bound(7)).unwrap();
    let y = b.push(Op::Linear(linear.with_bound(bound)), &[x], 4).unwrap();
    b.output("y", y).unwrap();
    b.finish().unwrap()
}

fn every_byte<O: Opener>() {
    let bytes = file::<O>(small(), 2);
    verify_file(&bytes, None).unwrap();
    let mut random = Random(23);
    let mut changed = bytes.clone();
    for at in 0..bytes.len() {
        let original = bytes[at];
        for value in [
            original ^ 1,
            original ^ 0x80,
            !original,
            original.wrapping_add(1),
            random.next() as u8,
        ] {
            if value != original {
                changed[at] = value;
                assert!(
                    verify_file(&changed, None).is_err(),
                    "byte {at} changed from {original} to {value}"
                );
            }
        }
        changed[at] = original;
        assert!(verify_file(&bytes[..at], None).is_err(), "cut to {at} bytes");
    }
    for more in [0, 1, 0xff] {
        let mut longer = bytes.clone();
        longer.push(more);
        let trailing = FileError::Trace(TraceError::Transcript(TranscriptError::Trailing(1)));
        assert_eq!(verify_file(&longer, None).unwrap_err(), trailing);
        let mut longer = vec![more];
        longer.extend(&bytes);
        assert_eq!(verify_file(&longer, None).unwrap_err(), FileError::Magic);
    }
    let mut twice = bytes.clone();
    twice.extend(&bytes);
    assert!(verify_file(&twice, None).is_err());
    println!("{}: all of {} bytes", O::S::BACKEND, bytes.len());
}

#[test]
fn every_byte_of_a_file_matters() {
    every_byte::<Hyrax>();
    every_byte::<WhirOpener>();
}

#[test]
fn a_proof_is_for_one_model_one_backend_one_batch() {
    fn check<O: Opener>() {
        let (a, b) = (prepared::<O>(program(), 31), prepared::<O>(program(), 32));
        let batch = inputs(a.model().program(), 2, 33);
        let proof = prove(&a, &batch).unwrap();
        let other = prove(&b, &batch).unwrap();
        verify(&a, &batch, &proof.outputs, &proof.bytes).unwrap();
        assert!(verify(&b, &batch, &proof.outputs, &proof.bytes).is_err(), "another model");
        assert!(
            verify(&b, &batch, &other.outputs, &proof.bytes).is_err(),
            "another model and its outputs"
        );
        assert!(verify(&a, &batch, &other.outputs, &other.bytes).is_err(), "another model's proof");

        let mut file = a.file(batch.clone(), proof.clone());
        let expected = a.digests().model_id();
        verify_file(&file.encode().unwrap(), Some(expected)).unwrap();
        let found = verify_file(&file.encode().unwrap(), Some(b.digests().model_id())).unwrap_err();
        assert_eq!(found, FileError::Model { found: expected, expected: b.digests().model_id() });
        // Under B's digests the commitment is wrong; with B's commitment the proof is.
        file.digests = *b.digests();
        assert!(verify_file(&file.encode().unwrap(), None).is_err());
        file.commitment = O::S::encode(b.commitment());
        assert!(verify_file(&file.encode().unwrap(), None).is_err());
        // A's digests with one of B's among them.
        for index in 0..5 {
            let mut file = a.file(batch.clone(), proof.clone());
            let mut digests = file.digests.encode();
            digests[32 * index] ^= 1;
            file.digests = og_zkml::model::Digests::decode(&digests);
            assert!(verify_file(&file.encode().unwrap(), None).is_err(), "digest {index}");
        }

        let swapped: Vec<_> = batch.iter().rev().cloned().collect();
        let swapped_outputs: Vec<_> = proof.outputs.iter().rev().cloned().collect();
        assert!(verify(&a, &swapped, &swapped_outputs, &proof.bytes).is_err(), "another order");
        assert!(
            verify(&a, &batch[..1], &proof.outputs[..1], &proof.bytes).is_err(),
            "half the batch"
        );
        assert!(verify(&a, &[], &[], &proof.bytes).is_err(), "no batch");
        let doubled = [batch.clone(), batch.clone()].concat();
        let doubled_outputs = [proof.outputs.clone(), proof.outputs.clone()].concat();
        assert!(verify(&a, &doubled, &doubled_outputs, &proof.bytes).is_err(), "twice the batch");
    }
    check::<Hyrax>();
    check::<WhirOpener>();

    // The same proof under the other backend's name, with the other backend's commitment.
    let (h, w) = (prepared::<Hyrax>(program(), 31), prepared::<WhirOpener>(program(), 31));
    assert_eq!(h.digests(), w.digests(), "one model, one id");
    let batch = inputs(h.model().program(), 1, 33);
    let (of_h, of_w) = (prove(&h, &batch).unwrap(), prove(&w, &batch).unwrap());
    assert!(verify_file(&w.file(batch.clone(), of_h).encode().unwrap(), None).is_err());
    assert!(verify_file(&h.file(batch.clone(), of_w.clone()).encode().unwrap(), None).is_err());
    let mut bytes = w.file(batch, of_w).encode().unwrap();
    bytes[4] = b'S';
    assert!(matches!(verify_file(&bytes, None).unwrap_err(), FileError::Trace(_)));
    bytes[4] = b'Q';
    assert_eq!(verify_file(&bytes, None).unwrap_err(), FileError::Mode(b'Q'));
}

fn cheats<O: Opener>() {
    let (honest, owned) = (prepared::<O>(program(), 41), prepared::<O>(program(), 42));
    let model = honest.model();
    let (program, weights) = (model.program(), model.weights());
    let batch = inputs(program, 2, 43);
    let (outputs, steps) = run(program, weights, &batch).unwrap();
    let refuse = |outputs: &[Vec<Tensor>], proof: &[u8], what: &str| {
        let verdict = verify(&honest, &batch, outputs, proof);
        assert!(verdict.is_err(), "{}: {what}", O::S::BACKEND);
        verdict.unwrap_err()
    };

    // The forger is a prover when it does not cheat.
    let proof = forge(&honest, &honest, &batch, &outputs, &steps, Cheat::No);
    assert_eq!(proof, prove(&honest, &batch).unwrap().bytes);
    verify(&honest, &batch, &outputs, &proof).unwrap();
    // Other outputs than the accumulators give.
    let mut false_outputs = outputs.clone();
    false_outputs[1][0].values[2] -= 1;
    let proof = forge(&honest, &honest, &batch, &false_outputs, &steps, Cheat::No);
    let found = refuse(&false_outputs, &proof, "false outputs");
    assert_eq!(found, TraceError::Output { inference: 1, output: 0 });

    // Each node in turn off by one in one accumulator of one inference, and everything after it in keeping.
    for node in 0..program.linears().count() {
        for inference in 0..2 {
            for by in [1, -1] {
                let (outputs, steps) = lie(program, weights, &batch, |i, n, _, accumulators| {
                    if (i, n) == (inference, node) {
                        let last = accumulators.len() - 1;
                        accumulators[last] += by;
                    }
                });
                let proof =
                    prove_steps(&honest, &batch, outputs.clone(), &steps, false).unwrap().bytes;
                assert_eq!(refuse(&outputs, &proof, "off by one"), TraceError::Product);
                for cheat in [Cheat::OmitRound, Cheat::OmitAccumulators] {
                    refuse(
                        &outputs,
                        &forge(&honest, &honest, &batch, &outputs, &steps, cheat),
                        "off by one and more",
                    );
                }
                // A value or a point that makes the product right does not open.
                for cheat in [Cheat::FitOpened, Cheat::OwnPoint] {
                    let proof = forge(&honest, &honest, &batch, &outputs, &steps, cheat);
                    let found = refuse(&outputs, &proof, &format!("{cheat:?}"));
                    assert!(matches!(found, TraceError::Opening(_)), "{cheat:?}: {found}");
                }
            }
        }
    }

    // Two wrongs that cancel in the sum of all accumulators; swapped channels; swapped inferences.
    let (outputs2, steps2) = lie(program, weights, &batch, |_, n, _, accumulators| {
        if n == 2 {
            accumulators[0] += 1;
            accumulators[1] -= 1;
        }
    });
    let proof = prove_steps(&honest, &batch, outputs2.clone(), &steps2, false).unwrap().bytes;
    assert_eq!(refuse(&outputs2, &proof, "cancelling"), TraceError::Product);
    let (outputs2, steps2) = lie(program, weights, &batch, |_, n, _, accumulators| {
        if n == 2 {
            accumulators.reverse();
        }
    });
    let proof = prove_steps(&honest, &batch, outputs2.clone(), &steps2, false).unwrap().bytes;
    assert_eq!(refuse(&outputs2, &proof, "reversed"), TraceError::Product);
    let swapped: Vec<_> = steps.iter().rev().cloned().collect();
    let swapped_outputs: Vec<_> = outputs.iter().rev().cloned().collect();
    let proof =
        prove_steps(&honest, &batch, swapped_outputs.clone(), &swapped, false).unwrap().bytes;
    assert_eq!(refuse(&swapped_outputs, &proof, "swapped inferences"), TraceError::Product);

    // Other weights than those committed to, used throughout.
    let (outputs2, steps2) = run(program, owned.model().weights(), &batch).unwrap();
    let proof = forge(&honest, &owned, &batch, &outputs2, &steps2, Cheat::No);
    let found = refuse(&outputs2, &proof, "other weights");
    assert!(matches!(found, TraceError::Opening(_)), "{found}");
}

/// Proofs whose challenges do not depend on a part of what they must depend on.
fn omissions<O: Opener>() {
    let prepared = prepared::<O>(wide(1, 90, 60), 44);
    let batch = inputs(prepared.model().program(), 2, 45);
    let (outputs, steps) =
        run(prepared.model().program(), prepared.model().weights(), &batch).unwrap();
    for cheat in [
        Cheat::OmitInputs,
        Cheat::OmitOutputs,
        Cheat::OmitDigests,
        Cheat::OmitAccumulators,
        Cheat::OmitRound,
        Cheat::OmitOpened,
    ] {
        let proof = forge(&prepared, &prepared, &batch, &outputs, &steps, cheat);
        assert!(
            verify(&prepared, &batch, &outputs, &proof).is_err(),
            "{}: {cheat:?}",
            O::S::BACKEND
        );
    }
}

#[test]
fn challenges_depend_on_all_that_was_said() {
    omissions::<Hyrax>();
    omissions::<WhirOpener>();
}

#[test]
fn cheating_provers_of_h_are_refused() {
    cheats::<Hyrax>();
}

#[test]
fn cheating_provers_of_w_are_refused() {
    cheats::<WhirOpener>();
}

#[test]
fn accumulators_have_one_encoding_and_a_bound() {
    const MODULUS: u64 = 0xffff_ffff_0000_0001;
    for bound in [0, 1, 127, 128, 1 << 15, (1 << 35) + 3, (1 << 62) - 1] {
        let packing = Packing::accumulators(bound);
        let read = |distance: u64| packing.read(&distance.to_le_bytes()[..packing.width()], 1);
        for value in [-bound, -1.min(bound), 0, bound] {
            let mut bytes = Vec::new();
            packing.write(&[value], &mut bytes).unwrap();
            assert_eq!(packing.read(&bytes, 1).unwrap(), [value]);
            assert!(packing.read(&bytes, 2).is_err());
            assert!(packing.read(&[], 1).is_err());
            // The same element of Goldilocks, a modulus further: needs more bytes, or is refused.
            if let Some(shifted) = value.abs_diff(-bound).checked_add(MODULUS) {
                assert!(packing.width() < 8 || read(shifted).is_err(), "{value} + p under {bound}");
            }
        }
        assert!(packing.write(&[bound + 1], &mut Vec::new()).is_err());
        assert!(packing.write(&[-bound - 1], &mut Vec::new()).is_err());
        let above = 2 * bound.unsigned_abs() + 1;
        if above.to_le_bytes()[packing.width()..].iter().all(|&byte| byte == 0) {
            assert!(read(above).is_err());
        }
        let most = if packing.width() == 8 { u64::MAX } else { (1 << (8 * packing.width())) - 1 };
        if most > 2 * bound.unsigned_abs() {
            assert!(read(most).is_err(), "accumulators beyond {bound}");
        }
    }
}

/// All statements of a tiny program: exactly the executor's is provable.
#[test]
fn of_all_accumulators_only_the_true_ones_hold() {
    let mut b = Builder::new("tiny");
    let x = b.input("x", &[1, 2], -1, 1, 0).unwrap();
    let mut linear = Linear::dense(1, 2, 2).with_bias(2);
    linear.weight_bits = 2;
    linear.bound = i64::try_from(linear.structural_bound(1)).unwrap();
    let bound = linear.bound;
    let y = b.push(Op::Linear(linear), &[x], 0).unwrap();
    b.output("y", y).unwrap();
    let program = b.finish().unwrap();
    let mut accepted = 0;
    let mut tried = 0;
    for seed in 0..3 {
        let mut random = Random(seed);
        let mut draw = |n: usize| (0..n).map(|_| random.between(-2, 1)).collect::<Vec<_>>();
        let matrix = draw(4).iter().map(|&w| i16::try_from(w).unwrap()).collect();
        let weights = Weights::new(&program, vec![NodeWeights { matrix, bias: draw(2) }]).unwrap();
        let model = Arc::new(og_zkml::model::Model::new(program.clone(), weights).unwrap());
        let prepared = Prepared::<Clear>::new(model, [0; 32]).unwrap();
        for a in -1..=1 {
            for b in -1..=1 {
                let batch = vec![vec![Tensor { shape: vec![1, 2], values: vec![a, b] }]];
                let (truth, steps) = run(&program, prepared.model().weights(), &batch).unwrap();
                for first in -bound..=bound {
                    for second in -bound..=bound {
                        let mut stated = steps.clone();
                        stated[0][0].accumulators = vec![first, second];
                        let outputs =
                            vec![vec![Tensor { shape: vec![1, 2], values: vec![first, second] }]];
                        let proof = prove_steps(&prepared, &batch, outputs.clone(), &stated, false)
                            .unwrap();
                        let holds = verify(&prepared, &batch, &outputs, &proof.bytes).is_ok();
                        assert_eq!(holds, outputs == truth, "{first}, {second} for {a}, {b}");
                        accepted += u32::from(holds);
                        tried += 1;
                    }
                }
            }
        }
    }
    assert_eq!(accepted, 27);
    println!("{tried} statements, {accepted} true");
}

/// The fast prover of the sumcheck writes what the definition says.
#[test]
fn the_sumcheck_is_the_one_by_definition() {
    let program = small();
    let digests = og_zkml::model::Digests::decode(&[0; 160]);
    let bytes = og_zkml::trace::StatementBytes::new(
        &program,
        &inputs(&program, 1, 1),
        &[vec![Tensor { shape: vec![1, 3], values: vec![0; 3] }]],
    )
    .unwrap();
    let layout = og_zkml::layout::Layout::new(&program).unwrap();
    let statement = bytes.statement(Backend::Whir, Mode::Trace, &digests, &layout);
    for n in [1_u32, 4, 9, 14, 16] {
        let mut random = Random(u64::from(n));
        let length = (1 << n) - random.below(1 << (n - 1)) as usize;
        let values: Vec<i64> = (0..length).map(|_| random.between(-(1 << 40), 1 << 40)).collect();
        let factors: Vec<Goldilocks2> = (0..1_u32 << n)
            .map(|_| {
                Goldilocks2::from_i64(random.next() as i64 >> 2)
                    * Goldilocks2::from_i64(random.next() as i64 >> 2)
            })
            .collect();
        let mut fast = Prover::new(&statement);
        let pair = Pair { values: Values::Integers(&values), factors: factors.clone() };
        let (point, value) = sumcheck::prove(vec![pair], &mut fast);
        let value = value[0];
        let mut slow = Prover::new(&statement);
        let mut weights: Vec<Goldilocks2> =
            values.iter().map(|&value| Goldilocks2::from_i64(value)).collect();
        weights.resize(1 << n, Goldilocks2::ZERO);
        let mut factors = factors;
        for &r in &point {
            let (at_zero, leading) = naive_round(&weights, &factors);
            slow.send(og_zkml::sumcheck::ROUND, &[at_zero, leading]);
            let drawn: Goldilocks2 = slow.challenge(og_zkml::sumcheck::CHALLENGE);
            assert_eq!(drawn, r);
            weights = bind(&weights, r);
            factors = bind(&factors, r);
        }
        assert_eq!((point.len(), weights[0]), (n as usize, value));
        assert_eq!(fast.finish().0, slow.finish().0);
    }
}

/// What `crates/zkml/tests/fuzz.rs` mutates: small proofs of both backends, together with many operators.
#[test]
fn the_corpus_of_the_verifier_is_what_the_prover_makes() {
    let mut files = vec![
        ("small-h".to_owned(), file::<Hyrax>(small(), 1)),
        ("small-w".to_owned(), file::<WhirOpener>(small(), 2)),
        ("mixed-h".to_owned(), file::<Hyrax>(program(), 1)),
        ("mixed-w".to_owned(), file::<WhirOpener>(program(), 2)),
        ("wide-h".to_owned(), file::<Hyrax>(wide(1, 60, 30), 1)),
        ("wide-w".to_owned(), file::<WhirOpener>(wide(1, 90, 60), 1)),
    ];
    for program in [program(), wide(1, 60, 30)] {
        let name = program.name().to_owned();
        files.push((format!("{name}-s-h"), succinct::<Hyrax>(program.clone())));
        files.push((format!("{name}-s-w"), succinct::<WhirOpener>(program)));
    }
    let mut operators = BTreeSet::new();
    for seed in 0..400 {
        let program = case(seed, 8).program;
        let known = operators.len();
        operators.extend(program.nodes().iter().map(|node| node.op.name()));
        if program.linears().next().is_some() && (seed < 16 || operators.len() > known) {
            files.push(match seed % 2 {
                0 => (format!("random-{seed}-h"), file::<Hyrax>(program, 1)),
                _ => (format!("random-{seed}-w"), file::<WhirOpener>(program, 1)),
            });
        }
    }
    assert_eq!(operators.len(), 17, "{operators:?}");
    for (name, bytes) in &mut files {
        verify_file(bytes, None).unwrap();
        println!("{name} {}", bytes.len());
        name.push_str(".ogz");
    }
    generated("verifier", &files).unwrap();
}

/// Whatever is kept of a commitment, the model's id stays what it is.
#[test]
fn kept_commitments_are_not_trusted() {
    let [of, another] = [51, 52].map(|seed| model(wide(1, 60, 30), seed));
    let [of, another] = [&of, &another].map(|model| (model, Commitments::of(model).unwrap()));
    let bytes = Hyrax::encode(&of.1.hyrax);
    let others = Hyrax::encode(&another.1.hyrax);
    let mixed = [&others[..32], &bytes[32..]].concat();
    for kept in [&bytes, &others, &mixed, &bytes[1..].to_vec(), &Vec::new()] {
        let found = Commitments::of_kept(of.0, Some(kept)).unwrap();
        assert_eq!((found.digests(), &found.hyrax), (of.1.digests(), &of.1.hyrax));
    }
}
