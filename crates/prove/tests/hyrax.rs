//! Openings of backend H: what must verify verifies, what must not does not.

#![allow(clippy::unwrap_used, reason = "tests")]

use og_prove::hyrax::Hyrax;
use og_prove::opener::{OpenError, Opener};
use og_zkml::field::Field;
use og_zkml::hyrax::curve::{POINT_BYTES, decode, encode, generator};
use og_zkml::hyrax::{CROSS, Commitment, LAST, Scalar, column_bits, equalities, rounds};
use og_zkml::model::Digests;
use og_zkml::scheme::{Backend, Mode, Scheme, SchemeError, Term, variables};
use og_zkml::transcript::{Label, Leaf, Prover, Statement, Verifier};
use std::sync::Arc;

const POINT: Label = Label::new("test.point");
const VALUE: Label = Label::new("test.value");

/// SplitMix64: numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn byte(&mut self) -> u8 {
        let [byte, ..] = self.next().to_le_bytes();
        byte
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or_default()
    }

    fn scalar(&mut self) -> Scalar {
        let mut bytes = [0; 64];
        bytes
            .as_chunks_mut::<8>()
            .0
            .iter_mut()
            .for_each(|bytes| *bytes = self.next().to_le_bytes());
        Scalar::from_uniform(&bytes)
    }

    /// Weights of 16 bits, now and then a bias of 46.
    fn weights(&mut self, count: usize) -> Arc<[i64]> {
        (0..count)
            .map(|index| match index % 97 {
                96 => self.next().cast_signed() >> 17,
                95 => 1 << 46,
                94 => -(1 << 46),
                _ => self.next().cast_signed() >> 48,
            })
            .collect()
    }
}

fn digests(commitment: &Commitment) -> Digests {
    Digests {
        program: [1; 32],
        weights: [2; 32],
        hyrax: Hyrax::digest(commitment),
        whir: [3; 32],
        parameters: [4; 32],
    }
}

fn statement(digests: &Digests, count: usize) -> Statement<'_> {
    Statement {
        backend: Backend::Hyrax,
        mode: Mode::Trace,
        digests,
        weight_count: count as u64,
        batch: 1,
        inputs: b"in",
        outputs: b"out",
    }
}

/// A vector, its commitment and a proof of its value at the point that the transcript asks for.
struct Case {
    values: Arc<[i64]>,
    commitment: Commitment,
    proof: Vec<u8>,
    leaves: Vec<Leaf>,
}

/// How a prover departs from the protocol.
#[derive(Default)]
struct Cheat {
    /// What is added to the value.
    value: Option<Scalar>,
    /// What is added to the first coordinate of the point.
    point: Option<Scalar>,
    /// Another vector under the commitment.
    vector: Option<Arc<[i64]>>,
}

impl Case {
    fn new(values: Arc<[i64]>) -> Self {
        Self::cheating(values, &Cheat::default())
    }

    fn cheating(values: Arc<[i64]>, cheat: &Cheat) -> Self {
        Self::attempt(values, cheat).unwrap()
    }

    fn attempt(values: Arc<[i64]>, cheat: &Cheat) -> Result<Self, OpenError> {
        let (commitment, cached) = Hyrax::prepare(values.clone())?;
        let cached = match &cheat.vector {
            Some(other) => Hyrax::prepare(other.clone())?.1,
            None => cached,
        };
        let digests = digests(&commitment);
        let mut transcript = Prover::new(&statement(&digests, values.len())).with_leaves();
        let mut point: Vec<Scalar> = transcript.challenges(POINT, commitment.variables() as usize);
        point[0] += cheat.point.unwrap_or(Scalar::ZERO);
        let value = extension(cheat.vector.as_ref().unwrap_or(&values), &point)
            + cheat.value.unwrap_or(Scalar::ZERO);
        transcript.send(VALUE, &[value]);
        Hyrax::open(&cached, &point, value, &mut transcript)?;
        let (proof, leaves) = transcript.finish();
        Ok(Self { values, commitment, proof, leaves })
    }

    fn verify(&self) -> Result<(), SchemeError> {
        verify(&self.commitment, self.values.len(), &self.proof)
    }

    /// The leaves of one message.
    fn of(&self, label: Label) -> Vec<Leaf> {
        self.leaves.iter().copied().filter(|leaf| leaf.label == label).collect()
    }
}

fn verify(commitment: &Commitment, count: usize, proof: &[u8]) -> Result<(), SchemeError> {
    let digests = digests(commitment);
    let mut transcript = Verifier::new(&statement(&digests, count), proof);
    let point: Vec<Scalar> = transcript.challenges(POINT, commitment.variables() as usize);
    let value = transcript.receive_one(VALUE)?;
    Hyrax::verify(commitment, &point, value, &mut transcript)?;
    Ok(transcript.finish()?)
}

/// The multilinear extension by its definition: every variable is fixed in turn, the first one first.
fn extension(values: &[i64], point: &[Scalar]) -> Scalar {
    let mut table: Vec<Scalar> = values.iter().map(|&value| Scalar::from_i64(value)).collect();
    table.resize(1 << point.len(), Scalar::ZERO);
    for &r in point {
        let (zero, one) = table.split_at(table.len() / 2);
        table = zero.iter().zip(one).map(|(&zero, &one)| zero + r * (one - zero)).collect();
    }
    table[0]
}

#[test]
fn openings_verify_at_every_size() {
    let mut numbers = Numbers(1);
    for n in 4..=18 {
        let full = 1_usize << n;
        for count in [full, full - 1, full / 2 + 1 + numbers.below(full / 2)] {
            if n > 15 && count == full - 1 {
                continue;
            }
            let case = Case::new(numbers.weights(count));
            assert_eq!(case.commitment.variables(), n);
            assert_eq!(case.verify(), Ok(()), "{count} weights");
            let bits = column_bits(n);
            let expected = 32 + rounds(n) as usize * 64 + (32 << (bits - rounds(n)));
            assert_eq!(case.proof.len(), expected);
            assert_eq!(case.leaves.iter().map(|leaf| leaf.length).sum::<usize>(), expected);
        }
    }
}

#[test]
fn unusual_vectors_verify() {
    let extremes: Vec<i64> =
        (0..300).map(|i| [i64::MIN, i64::MAX, -1, 0, 1 << 46, -(1 << 46)][i % 6]).collect();
    let mut sparse = vec![0; 1000];
    sparse[999] = -5;
    let vectors = [vec![], vec![0; 5000], vec![1], vec![-1; 40], vec![7; 1024], extremes, sparse];
    for values in vectors {
        let case = Case::new(values.into());
        assert_eq!(case.verify(), Ok(()));
    }
}

#[test]
fn sizes_meet_their_targets() {
    let mut numbers = Numbers(2);
    let case = Case::new(numbers.weights(101_770));
    assert_eq!(Hyrax::encode(&case.commitment).len(), 199 * 32);
    assert!(Hyrax::encode(&case.commitment).len() + case.proof.len() <= 8_000);
    let case = Case::new(numbers.weights(11));
    assert!(Hyrax::encode(&case.commitment).len() + case.proof.len() <= 300);
}

#[test]
fn prepared_commitments_are_the_schemes() {
    let mut numbers = Numbers(3);
    for count in [0, 11, 16, 100, 9_000, 61_706] {
        let values = numbers.weights(count);
        let commitment = Hyrax::commit(&values).unwrap();
        assert_eq!(Hyrax::prepare(values).unwrap().0, commitment);
        let bytes = Hyrax::encode(&commitment);
        assert_eq!(Hyrax::decode(&bytes, variables(count).unwrap()), Ok(commitment));
    }
    assert!(matches!(Hyrax::commit(&vec![0; (1 << 24) + 1]), Err(SchemeError::Size(_))));
}

#[test]
fn the_row_is_the_combination_of_rows() {
    // With at most sixteen columns no round takes place: the message is the combined row itself.
    let mut numbers = Numbers(4);
    for n in [4, 5, 6, 7] {
        let case = Case::new(numbers.weights((1 << n) - 3));
        let bits = column_bits(n) as usize;
        let digests = digests(&case.commitment);
        let mut transcript = Verifier::new(&statement(&digests, case.values.len()), &case.proof);
        let point: Vec<Scalar> = transcript.challenges(POINT, n as usize);
        let value: Scalar = transcript.receive_one(VALUE).unwrap();
        let row: Vec<Scalar> = transcript.receive(LAST, 1 << bits).unwrap();
        let factors = equalities(&point[..n as usize - bits]);
        for (column, &found) in row.iter().enumerate() {
            let column = case.values.iter().skip(column).step_by(1 << bits);
            let naive = column
                .zip(&factors)
                .fold(Scalar::ZERO, |sum, (&w, &eq)| sum + Scalar::from_i64(w) * eq);
            assert_eq!(found, naive);
        }
        assert_eq!(Scalar::dot(&row, &equalities(&point[n as usize - bits..])), value);
    }
}

#[test]
fn cheats_are_refused() {
    let mut numbers = Numbers(5);
    for count in [16, 200, 1_000, 20_000] {
        let values = numbers.weights(count);
        let rejected = Err(SchemeError::Rejected("the inner product of the opened row"));
        for offset in [Scalar::ONE, -Scalar::ONE, numbers.scalar()] {
            let wrong_value = Cheat { value: Some(offset), ..Cheat::default() };
            assert_eq!(Case::cheating(values.clone(), &wrong_value).verify(), rejected);
            let wrong_point = Cheat { point: Some(offset), ..Cheat::default() };
            assert_eq!(Case::cheating(values.clone(), &wrong_point).verify(), rejected);
        }
        for index in [0, count / 2, count - 1] {
            let mut other = values.to_vec();
            other[index] += 1;
            let wrong_vector = Cheat { vector: Some(other.into()), ..Cheat::default() };
            assert_eq!(Case::cheating(values.clone(), &wrong_vector).verify(), rejected);
        }
    }
}

#[test]
fn a_proof_holds_for_its_commitment_only() {
    let mut numbers = Numbers(6);
    let [a, b] = [numbers.weights(1_000), numbers.weights(1_000)].map(Case::new);
    assert!(verify(&b.commitment, 1_000, &a.proof).is_err());
    assert!(verify(&a.commitment, 999, &a.proof).is_err());
    // The same digest, other rows: what the digest is for, but the equation sees it too.
    let mut rows = a.commitment.rows().to_vec();
    rows.swap(0, 1);
    let swapped = Commitment::new(a.commitment.variables(), rows).unwrap();
    let digests = digests(&a.commitment);
    let mut transcript = Verifier::new(&statement(&digests, 1_000), &a.proof);
    let point: Vec<Scalar> = transcript.challenges(POINT, 10);
    let value = transcript.receive_one(VALUE).unwrap();
    assert!(Hyrax::verify(&swapped, &point, value, &mut transcript).is_err());
    // A point of the wrong length.
    let mut transcript = Verifier::new(&statement(&digests, 1_000), &a.proof);
    assert_eq!(
        Hyrax::verify(&a.commitment, &point[1..], value, &mut transcript),
        Err(SchemeError::Point { found: 9, expected: 10 })
    );
    let mut transcript = Prover::new(&statement(&digests, 1_000));
    let (_, cached) = Hyrax::prepare(a.values.clone()).unwrap();
    assert!(Hyrax::open(&cached, &point[1..], value, &mut transcript).is_err());
}

#[test]
fn every_mutated_leaf_is_refused() {
    let mut numbers = Numbers(7);
    for count in [11, 100, 1_000] {
        let case = Case::new(numbers.weights(count));
        let n = case.commitment.variables();
        assert_eq!(case.of(CROSS).len(), 2 * rounds(n) as usize);
        assert_eq!(case.of(LAST).len(), 1 << (column_bits(n) - rounds(n)));
        assert_eq!(case.leaves.len(), 1 + case.of(CROSS).len() + case.of(LAST).len());
        let mut mutations = 0;
        let mut refuse = |proof: &[u8]| {
            if proof != case.proof {
                assert!(verify(&case.commitment, count, proof).is_err());
                mutations += 1;
            }
        };
        for leaf in &case.leaves {
            let range = leaf.offset..leaf.offset + leaf.length;
            let old: [u8; 32] = case.proof[range.clone()].try_into().unwrap();
            let mut replacements: Vec<[u8; 32]> = vec![[0; 32], [0xff; 32]];
            replacements.extend((0..256).step_by(7).map(|bit| {
                let mut new = old;
                new[bit / 8] ^= 1 << (bit % 8);
                new
            }));
            if leaf.label == CROSS {
                let point = decode(&old).unwrap();
                let two = og_zkml::hyrax::msm::combine(&[point], &[Scalar::from_i64(2)]).into();
                replacements.extend(
                    [-point, generator(0), generator(1), two, (point + generator(0)).into()]
                        .map(|point| encode(&point)),
                );
                let mut identity = [0; POINT_BYTES];
                identity[POINT_BYTES - 1] = 0x40;
                replacements.push(identity);
            } else {
                let scalar = Scalar::read(&old).unwrap();
                for new in [
                    scalar + Scalar::ONE,
                    scalar - Scalar::ONE,
                    -scalar,
                    Scalar::ONE,
                    numbers.scalar(),
                ] {
                    let mut bytes = Vec::new();
                    new.write(&mut bytes);
                    replacements.push(bytes.try_into().unwrap());
                }
            }
            for new in replacements {
                let mut proof = case.proof.clone();
                proof[range.clone()].copy_from_slice(&new);
                refuse(&proof);
            }
        }
        // Neighbours swapped: also L with R, and one round with the next.
        for (first, second) in case.leaves.iter().zip(case.leaves.iter().skip(1)) {
            let mut proof = case.proof.clone();
            let (head, tail) = proof.split_at_mut(second.offset);
            head[first.offset..].swap_with_slice(&mut tail[..second.length]);
            refuse(&proof);
        }
        for length in
            (0..case.proof.len()).step_by(13).chain([case.proof.len() - 1, case.proof.len() - 32])
        {
            refuse(&case.proof[..length]);
        }
        refuse(&[case.proof.as_slice(), &[0]].concat());
        refuse(&[case.proof.as_slice(), &case.proof].concat());
        assert!(mutations > 30 * case.leaves.len());
    }
}

#[test]
fn threads_do_not_matter() {
    let values = Numbers(8).weights(101_770);
    let proofs = [1, 2, 3, 5].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let case = Case::new(values.clone());
            (Hyrax::encode(&case.commitment), case.proof)
        })
    });
    assert!(proofs.iter().all(|proof| *proof == proofs[0]));
}

#[test]
fn the_errors_add_up() {
    for n in 4..=24 {
        let terms: Vec<Term> = Hyrax::security(n);
        assert!(terms.iter().all(|term| term.exponent == 253));
        assert_eq!(
            terms.iter().filter(|term| term.name.ends_with("fold") && term.numerator == 3).count(),
            rounds(n) as usize
        );
        // 1/|F| for the value, 3/|F| for each round, (n - c)/|F| for the rows: far below 2^-240.
        assert!(terms.iter().map(|term| term.numerator).sum::<u64>() < 1 << 10);
    }
    assert!(!Hyrax::assumption().is_empty());
}

#[test]
fn mutated_bytes_never_panic() {
    let runs =
        if std::env::var("OG_FUZZ").is_ok_and(|value| value == "long") { 100_000 } else { 1_500 };
    let mut numbers = Numbers(9);
    let cases = [11, 500].map(|count| Case::new(numbers.weights(count)));
    for seed in 0..runs {
        let mut numbers = Numbers(seed);
        let case = &cases[numbers.below(2)];
        let mutate = |numbers: &mut Numbers, bytes: &mut Vec<u8>| {
            for _ in 0..=numbers.below(4) {
                let place = numbers.below(bytes.len().max(1));
                match numbers.below(6) {
                    0 => bytes.truncate(place),
                    1 => bytes.insert(place.min(bytes.len()), numbers.byte()),
                    2 => {
                        let from = numbers.below(bytes.len().max(1));
                        let piece: Vec<u8> = bytes.iter().skip(from).take(32).copied().collect();
                        for (to, piece) in bytes.iter_mut().skip(place).zip(piece) {
                            *to = piece;
                        }
                    }
                    _ => {
                        if let Some(byte) = bytes.get_mut(place) {
                            *byte ^= numbers.byte();
                        }
                    }
                }
            }
        };
        let mut proof = case.proof.clone();
        mutate(&mut numbers, &mut proof);
        let accepted = verify(&case.commitment, case.values.len(), &proof).is_ok();
        assert_eq!(accepted, proof == case.proof, "seed {seed}");

        let n = case.commitment.variables();
        let mut bytes = Hyrax::encode(&case.commitment);
        let original = bytes.clone();
        mutate(&mut numbers, &mut bytes);
        if let Ok(decoded) = Hyrax::decode(&bytes, n) {
            // Canonical: what decodes, encodes to the same bytes; and the proof does not fit another commitment.
            assert_eq!(Hyrax::encode(&decoded), bytes, "seed {seed}");
            let accepted = verify(&decoded, case.values.len(), &case.proof).is_ok();
            assert_eq!(accepted, bytes == original, "seed {seed}");
        }
    }
}
