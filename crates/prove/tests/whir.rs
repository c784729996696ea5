//! Openings of backend W: honest ones hold, and nothing else does.

mod whir_support;

use og_zkml::field::Field;
use og_zkml::scheme::{Scheme, SchemeError};
use og_zkml::transcript::{Leaf, TranscriptError};
use og_zkml::whir::{Goldilocks2 as F, Whir, message};
use std::collections::BTreeMap;
use whir_support::{Case, Numbers};

#[test]
fn every_size_opens_and_verifies() {
    for n in 4..=18 {
        let case = Case::new(n, 0x5eed + u64::from(n));
        let (proof, leaves) = case.open();
        case.verify(&proof).unwrap();
        let covered: usize = leaves.iter().map(|leaf| leaf.length).sum();
        assert_eq!(covered, proof.len(), "leaves cover the proof of 2^{n}");
        assert_eq!(Whir::commit(&case.values).unwrap(), case.commitment, "both sides commit alike");
        let bytes = Whir::encode(&case.commitment);
        assert_eq!(bytes.len(), Whir::encoded_len(n));
        assert_eq!(Whir::decode(&bytes, n).unwrap(), case.commitment);
    }
}

#[test]
fn short_vectors_are_padded() {
    for length in [0, 1, 16, 17, 1024, 1025, 3000] {
        let case = Case::with_length(length, 7);
        case.verify(&case.open().0).unwrap();
    }
}

#[test]
fn the_value_is_the_multilinear_extension() {
    // The oracle is the definition: a sum over all indices.
    for n in [4, 9, 11, 12] {
        let case = Case::new(n, 99);
        let value = case.values.iter().enumerate().fold(F::ZERO, |sum, (index, &value)| {
            let weight = case.point.iter().enumerate().fold(F::ONE, |weight, (j, &x)| {
                let bit = index >> (n as usize - 1 - j) & 1;
                weight * if bit == 1 { x } else { F::ONE - x }
            });
            sum + weight * F::from_i64(value)
        });
        assert_eq!(case.value, value);
    }
}

#[test]
fn another_value_point_or_commitment_is_refused() {
    for n in [5, 11, 13, 15] {
        let mut case = Case::new(n, 3);
        let (proof, _) = case.open();
        let (value, point) = (case.value, case.point.clone());

        for wrong in [value + F::ONE, F::ZERO, -value, F::from_uniform(&[9; 64])] {
            case.value = wrong;
            assert!(case.verify(&proof).is_err(), "another value");
            // Nor does a prover convince who claims it from the start.
            assert!(case.verify(&case.open().0).is_err(), "another value, proved");
        }
        case.value = value;
        for place in 0..point.len() {
            case.point[place] += F::ONE;
            assert!(case.verify(&proof).is_err(), "another point");
            case.point[place] -= F::ONE;
        }
        case.point.pop();
        assert_eq!(
            case.verify(&proof),
            Err(SchemeError::Point { found: n as usize - 1, expected: n as usize })
        );
        case.point = point;
        case.verify(&proof).unwrap();

        let mut other = Case::new(n, 3);
        other.values[2] += 1;
        let other = Case::of(other.values, 3);
        case.commitment = other.commitment;
        assert!(case.verify(&proof).is_err(), "another vector's commitment");
    }
}

#[test]
fn another_root_or_answer_in_the_commitment_is_refused() {
    let case = Case::new(11, 21);
    let (proof, _) = case.open();
    let bytes = Whir::encode(&case.commitment);
    for place in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[place] ^= 1;
        let Ok(commitment) = Whir::decode(&bytes, 11) else { continue };
        assert_ne!(Whir::digest(&commitment), Whir::digest(&case.commitment));
        let other = Case { commitment, ..case.clone() };
        assert!(other.verify_bound(&case, &proof).is_err(), "byte {place}");
    }
    assert!(Whir::decode(&bytes[1..], 11).is_err());
    assert!(Whir::decode(&bytes, 10).is_err());
    for n in [0, 3, 25, u32::MAX] {
        assert!(Whir::decode(&bytes, n).is_err());
    }
    let mut bytes = bytes;
    bytes[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(Whir::decode(&bytes, 11), Err(SchemeError::Commitment("a value is not reduced")));
}

/// Changes every leaf of a proof in several ways.
fn mutate_leaves(case: &Case, every: usize) -> BTreeMap<&'static str, usize> {
    let (proof, leaves) = case.open();
    let mut touched = BTreeMap::new();
    for (number, &Leaf { label, offset, length }) in leaves.iter().enumerate() {
        if number % every != 0 && label == message::ROWS {
            continue;
        }
        *touched.entry(label.name()).or_insert(0) += 1;
        let original = &proof[offset..offset + length];
        let mut variants = vec![vec![0; length], vec![0xff; length]];
        for (place, bit) in [(0, 1), (length / 2, 1), (length - 1, 0x40)] {
            let mut bytes = original.to_vec();
            bytes[place] ^= bit;
            variants.push(bytes);
        }
        if let Some(next) = leaves.get(number + 1).filter(|next| next.length == length) {
            variants.push(proof[next.offset..next.offset + length].to_vec());
        }
        for variant in variants.iter().filter(|variant| *variant != original) {
            let mut proof = proof.clone();
            proof[offset..offset + length].copy_from_slice(variant);
            assert!(case.verify(&proof).is_err(), "{} at {offset}", label.name());
        }
    }
    touched
}

#[test]
fn every_changed_leaf_is_refused() {
    mutate_leaves(&Case::new(4, 11), 1);
    mutate_leaves(&Case::new(6, 11), 1);
    let touched = mutate_leaves(&Case::new(13, 11), 1);
    let expected: Vec<_> = [
        message::ANSWER,
        message::FOLD_WORK,
        message::LAST,
        message::PATHS,
        message::QUERY_WORK,
        message::ROOT,
        message::ROWS,
        message::SUMCHECK,
    ]
    .iter()
    .map(|label| label.name())
    .collect();
    assert_eq!(touched.keys().copied().collect::<Vec<_>>(), expected);
}

#[test]
fn three_code_words_are_checked_alike() {
    mutate_leaves(&Case::new(17, 12), 5);
}

#[test]
fn numbers_that_are_not_reduced_are_refused() {
    let case = Case::new(13, 13);
    let (proof, leaves) = case.open();
    for leaf in leaves.iter().filter(|leaf| matches!(leaf.length, 8 | 16)) {
        if leaf.label == message::FOLD_WORK || leaf.label == message::QUERY_WORK {
            continue;
        }
        for word in (leaf.offset..leaf.offset + leaf.length).step_by(8) {
            let value = u64::from_le_bytes(proof[word..word + 8].try_into().unwrap());
            let Some(twin) = value.checked_add(0xffff_ffff_0000_0001) else { continue };
            let mut proof = proof.clone();
            proof[word..word + 8].copy_from_slice(&twin.to_le_bytes());
            assert!(case.verify(&proof).is_err());
        }
    }
    // Elements below 2^32 - 1 are rare in a proof: put the modulus everywhere instead.
    for leaf in
        leaves.iter().filter(|leaf| leaf.label == message::LAST || leaf.label == message::SUMCHECK)
    {
        let mut proof = proof.clone();
        proof[leaf.offset..leaf.offset + 8]
            .copy_from_slice(&0xffff_ffff_0000_0001_u64.to_le_bytes());
        let name = leaf.label.name();
        assert_eq!(
            case.verify(&proof),
            Err(SchemeError::Transcript(TranscriptError::NotCanonical(name)))
        );
    }
}

#[test]
fn shorter_and_longer_proofs_are_refused() {
    for n in [4, 11, 13] {
        let case = Case::new(n, 17);
        let (proof, _) = case.open();
        let step = if n == 4 { 1 } else { 97 };
        for length in
            (0..proof.len()).step_by(step).chain(proof.len().saturating_sub(40)..proof.len())
        {
            assert!(matches!(
                case.verify(&proof[..length]),
                Err(SchemeError::Transcript(TranscriptError::Truncated(_)))
            ));
        }
        let longer = [&proof[..], &[0]].concat();
        assert_eq!(
            case.verify(&longer),
            Err(SchemeError::Transcript(TranscriptError::Trailing(1)))
        );
    }
}

#[test]
fn dropped_and_repeated_leaves_are_refused() {
    let case = Case::new(13, 19);
    let (proof, leaves) = case.open();
    for leaf in leaves.iter().step_by(3) {
        let range = leaf.offset..leaf.offset + leaf.length;
        let mut dropped = proof.clone();
        dropped.drain(range.clone());
        assert!(case.verify(&dropped).is_err(), "{} dropped", leaf.label.name());
        let mut repeated = proof.clone();
        repeated.splice(range.start..range.start, proof[range].iter().copied());
        assert!(case.verify(&repeated).is_err(), "{} repeated", leaf.label.name());
    }
}

#[test]
fn a_proof_of_one_statement_proves_no_other() {
    let case = Case::new(11, 23);
    let (proof, _) = case.open();
    let other = Case { batch: 2, ..case.clone() };
    // The point is drawn from the statement; keep the first one's, as a forger would.
    assert!(other.verify(&proof).is_err());
}

#[test]
fn threads_do_not_change_a_byte() {
    for n in [10, 12, 15, 16] {
        let case = Case::new(n, 29);
        let (proof, _) = case.open();
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (again, commitment) = pool.install(|| {
                let case = Case::new(n, 29);
                (case.open().0, case.commitment)
            });
            assert_eq!(commitment, case.commitment);
            assert!(again == proof, "{threads} threads, 2^{n}");
        }
    }
}

#[test]
fn too_much_is_refused() {
    for value in [1_i64 << 62, -(1 << 62), i64::MIN, i64::MAX] {
        let values = [0, 0, value];
        assert_eq!(Whir::commit(&values), Err(SchemeError::Value { index: 2 }));
    }
    assert!(Whir::commit(&[(1 << 62) - 1, 1 - (1 << 62)]).is_ok());
    let values = vec![0; (1 << 24) + 1];
    assert_eq!(Whir::commit(&values), Err(SchemeError::Size(values.len())));
}

#[test]
fn noise_is_refused_without_a_panic() {
    let long = std::env::var("OG_FUZZ").is_ok_and(|value| value == "long");
    let mut numbers = Numbers::new(0xf022);
    let cases: Vec<_> = [4, 8, 11, 13, 14].map(|n| Case::new(n, 31)).into();
    let proofs: Vec<_> = cases.iter().map(|case| case.open().0).collect();
    for round in 0..if long { 200_000 } else { 3_000 } {
        let pick = numbers.below(cases.len());
        let (case, mut proof) = (&cases[pick], proofs[pick].clone());
        match numbers.below(5) {
            0 => {
                for _ in 0..=numbers.below(8) {
                    let place = numbers.below(proof.len());
                    proof[place] = numbers.byte();
                }
            }
            1 => proof.truncate(numbers.below(proof.len())),
            2 => proof.extend((0_u8..100).take(numbers.below(100))),
            3 => {
                let (from, to) = (numbers.below(proof.len()), numbers.below(proof.len()));
                let length = numbers.below(proof.len() - from.max(to)).min(64);
                proof.copy_within(from..from + length, to);
            }
            _ => proof.iter_mut().for_each(|byte| *byte = numbers.byte()),
        }
        if proof != proofs[pick] {
            assert!(case.verify(&proof).is_err(), "round {round}");
        }
    }
}

#[test]
fn openings_are_as_short_as_promised() {
    for (n, kib) in [(4, 1), (8, 5), (10, 9), (13, 30), (17, 65), (18, 70)] {
        let case = Case::new(n, 37);
        let (proof, _) = case.open();
        assert!(proof.len() <= kib << 10, "2^{n}: {} bytes", proof.len());
    }
}
