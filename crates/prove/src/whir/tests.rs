//! Provers that cheat before they follow the protocol.

use super::*;
use og_zkml::field::Field;
use og_zkml::model::Digests;
use og_zkml::scheme::{Backend, Mode, Scheme};
use og_zkml::transcript::{Label, Statement, Verifier};

const POINT: Label = Label::new("test.point");

fn vector(n: u32, salt: i64) -> Arc<[i64]> {
    (0..1_i64 << n).map(|i| ((i + salt) * 7_919) % 65_536 - 32_768).collect()
}

/// The multilinear extension of a vector; variable 0 is the index's highest bit.
fn extension(values: &[i64], point: &[F]) -> F {
    let mut table: Vec<F> = values.iter().map(|&value| F::from_i64(value)).collect();
    for &x in point {
        let (low, high) = table.split_at(table.len() / 2);
        table = low.iter().zip(high).map(|(&low, &high)| low + x * (high - low)).collect();
    }
    table[0]
}

/// Opens at a point drawn from the transcript, and lets the verifier decide.
fn convinces(
    cached: &Cached,
    commitment: &Commitment,
    values: &[i64],
    batch: u32,
    cheat: impl Fn(&Cached, &[F], &mut Prover),
) -> Result<(), SchemeError> {
    let digests = Digests {
        program: [1; 32],
        weights: [2; 32],
        hyrax: [3; 32],
        whir: Whir::digest(commitment),
        parameters: [4; 32],
    };
    let statement = Statement {
        backend: Backend::Whir,
        mode: Mode::Trace,
        digests: &digests,
        weight_count: values.len() as u64,
        batch,
        inputs: &[],
        outputs: &[],
    };
    let n = commitment.variables() as usize;
    let mut prover = Prover::new(&statement);
    let point: Vec<F> = prover.challenges(POINT, n);
    let value = extension(values, &point);
    prover.send(POINT, &[value]);
    cheat(cached, &point, &mut prover);
    let (proof, _) = prover.finish();
    let mut verifier = Verifier::new(&statement, &proof);
    let point: Vec<F> = verifier.challenges(POINT, n);
    let value = verifier.receive_one(POINT)?;
    Whir::verify(commitment, &point, value, &mut verifier)?;
    Ok(verifier.finish()?)
}

fn honest(cached: &Cached, point: &[F], transcript: &mut Prover) {
    WhirOpener::open(cached, point, F::ZERO, transcript).unwrap();
}

/// A commitment to a code word of which one row in `share` is changed.
fn spoiled(n: u32, share: usize) -> (Commitment, Cached, Arc<[i64]>) {
    let values = vector(n, 1);
    let (_, mut cached) = WhirOpener::prepare(values.clone()).unwrap();
    let word = cached.word.as_mut().unwrap();
    // Scattered, and not a subgroup.
    word.spoil(|place| place.wrapping_mul(0x9e37_79b9) >> 7 & (share - 1) == 0);
    cached.commitment = Commitment::with_root(&cached.elements, word.root()).unwrap();
    (cached.commitment.clone(), cached, values)
}

#[test]
fn changed_rows_are_found_as_often_as_predicted() {
    let n = 11;
    let queries = i32::try_from(Parameters::new(n).unwrap().rounds[0].queries).unwrap();
    for (share, trials) in [(64, 400_u32), (16, 300), (4, 50)] {
        let (commitment, cached, values) = spoiled(n, share);
        let mut accepted = 0;
        for batch in 0..trials {
            match convinces(&cached, &commitment, &values, batch, honest) {
                Ok(()) => accepted += 1,
                Err(error) => {
                    assert_eq!(error, SchemeError::Rejected("a row is not the last vector's"));
                }
            }
        }
        // Each query hits a good row with this chance, independently.
        let chance = (1.0 - 1.0 / share as f64).powi(queries);
        let expected = chance * f64::from(trials);
        let deviation = (expected * (1.0 - chance)).sqrt();
        let found = f64::from(accepted);
        assert!(
            (found - expected).abs() <= 5.0 * deviation + 1.0,
            "1/{share}: {found} of {trials}, not {expected}"
        );
    }
}

#[test]
fn a_word_far_from_the_code_is_refused() {
    let (commitment, cached, values) = spoiled(13, 2);
    for batch in 0..10 {
        assert!(convinces(&cached, &commitment, &values, batch, honest).is_err());
    }
}

#[test]
fn a_commitment_with_another_answer_opens_to_nothing() {
    for n in [11, 13] {
        let values = vector(n, 5);
        let (commitment, cached) = WhirOpener::prepare(values.clone()).unwrap();
        convinces(&cached, &commitment, &values, 1, honest).unwrap();
        let bytes = Whir::encode(&commitment);
        for place in [32, 40, 48, 56] {
            let mut bytes = bytes.clone();
            bytes[place] ^= 1;
            let other = Whir::decode(&bytes, n).unwrap();
            assert_eq!(
                convinces(&cached, &other, &values, 1, honest),
                Err(SchemeError::Rejected("the last vector's sum is wrong"))
            );
        }
    }
}

#[test]
fn another_vector_than_the_committed_one_is_refused() {
    let values = vector(13, 5);
    let (commitment, mut cached) = WhirOpener::prepare(values.clone()).unwrap();
    let mut other = values.to_vec();
    other[4_000] += 1;
    cached.elements = embed(&other).unwrap();
    // The value, the sumcheck and the later code words are the other vector's; the first rows are not.
    assert_eq!(
        convinces(&cached, &commitment, &other, 1, honest),
        Err(SchemeError::Rejected("the last vector's sum is wrong"))
    );
}

/// Follows the protocol of a size with two code words, with one message replaced.
fn with_lie(cached: &Cached, point: &[F], transcript: &mut Prover, lie: Lie) {
    let rounds = &cached.parameters.rounds;
    let [first, second] = rounds.as_slice() else { panic!("two code words") };
    let word = cached.word.as_ref().unwrap();
    let combine: F = transcript.challenge(message::COMBINE);
    let samples: Vec<(F, F)> = cached
        .commitment
        .samples()
        .into_iter()
        .map(|(z, _)| z)
        .zip(powers(combine))
        .map(swap)
        .collect();
    let mut sum = Sum::new(cached.elements.clone(), point, &samples);
    reduce(first, &mut sum, transcript);
    let mut folded = sum.vector();
    if lie == Lie::Folded {
        folded[3] += F::ONE;
    }
    let next = CodeWord::new(&fold::flat(&folded), second, 2).unwrap();
    transcript.send_bytes(message::ROOT, &next.root(), 32);
    let points: Vec<F> = transcript.challenges(message::SAMPLE, second.samples);
    let mut answers: Vec<F> = points.iter().map(|&z| fold::horner(&folded, z)).collect();
    match lie {
        Lie::Answer => answers[0] += F::ONE,
        Lie::NoAnswer => answers.clear(),
        _ => {}
    }
    transcript.send(message::ANSWER, &answers);
    let rows = query(first, word, transcript).unwrap();
    let mut weights = powers(transcript.challenge(message::COMBINE));
    let points: Vec<_> = points.into_iter().zip(weights.by_ref()).map(swap).collect();
    let rows: Vec<_> = rows.into_iter().zip(weights).map(swap).collect();
    sum.add(&points);
    sum.add_base(&rows);
    reduce(second, &mut sum, transcript);
    let mut last = sum.vector();
    if lie == Lie::Last {
        last[0] += F::ONE;
    }
    transcript.send(message::LAST, &last);
    query(second, &next, transcript).unwrap();
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    None,
    Folded,
    Answer,
    NoAnswer,
    Last,
}

#[test]
fn lies_told_in_the_protocol_are_found() {
    let values = vector(13, 9);
    let (commitment, cached) = WhirOpener::prepare(values.clone()).unwrap();
    let told = |lie| {
        convinces(&cached, &commitment, &values, 1, |cached, point, transcript| {
            with_lie(cached, point, transcript, lie);
        })
    };
    assert_eq!(told(Lie::None), Ok(()));
    assert_eq!(told(Lie::Folded), Err(SchemeError::Rejected("a row is not the last vector's")));
    assert_eq!(told(Lie::Answer), Err(SchemeError::Rejected("the last vector's sum is wrong")));
    assert_eq!(told(Lie::Last), Err(SchemeError::Rejected("a row is not the last vector's")));
    assert!(told(Lie::NoAnswer).is_err());
}

#[test]
fn the_least_nonce_is_found() {
    for seed in 0..8_u8 {
        let nonce = search(&[seed; 32], 9);
        assert!(work_holds(&[seed; 32], nonce, 9));
        assert!((0..nonce).all(|nonce| !work_holds(&[seed; 32], nonce, 9)));
    }
}
