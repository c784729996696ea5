use super::*;
use crate::security::total_bits;

#[test]
fn every_size_has_a_hundred_bits_even_three_times_over() {
    for n in scheme::MIN_VARIABLES..=scheme::MAX_VARIABLES {
        let terms = Whir::security(n);
        assert_eq!(terms.is_empty(), n <= DIRECT_VARIABLES);
        // Once in integers, once in floating point; the outer protocol's terms need some room.
        // A proof of mode S opens weights, trace, and helpers, which are half as many as the trace.
        let shorter = Whir::security(n - 1);
        assert!(total_bits(&[&terms[..], &terms, &shorter].concat()) >= 100, "2^{n}");
        let total: f64 =
            terms.iter().map(|t| t.numerator as f64 * (-f64::from(t.exponent)).exp2()).sum();
        assert!(total <= (-101.5_f64).exp2(), "2^{n}: {}", -total.log2());
    }
    assert!(Whir::security(3).is_empty() && Whir::security(25).is_empty());
}

#[test]
fn plans_fit_together() {
    for n in DIRECT_VARIABLES + 1..=scheme::MAX_VARIABLES {
        let parameters = Parameters::new(n).unwrap();
        let mut left = n;
        for pair in parameters.rounds.windows(2) {
            // The domain shrinks, and the code gets no denser.
            assert!(pair[1].variables + pair[1].rate < pair[0].variables + pair[0].rate);
            assert!(pair[1].rate >= pair[0].rate);
        }
        for round in &parameters.rounds {
            assert_eq!(round.variables, left);
            assert!(round.multiplicity >= 3 && round.rate >= 2);
            assert!(round.fold_work.iter().all(|&work| work <= 16) && round.query_work <= 15);
            assert!(round.queries < 1 << round.depth());
            left -= round.folds;
        }
        assert_eq!(parameters.last_variables(), left);
    }
}

#[test]
fn parameters_change_on_purpose_only() {
    let seventeen: Vec<_> = Parameters::new(17)
        .unwrap()
        .rounds
        .iter()
        .map(|r| (r.variables, r.folds, r.rate, r.samples, r.queries, r.query_work, r.fold_work[0]))
        .collect();
    assert_eq!(
        seventeen,
        [(17, 5, 4, 2, 55, 14, 14), (12, 3, 4, 1, 52, 14, 12), (9, 2, 5, 1, 40, 14, 12)]
    );
    let mut all = blake3::Hasher::new();
    for n in 4..=24 {
        for r in Parameters::new(n).unwrap().rounds {
            let line = format!(
                "{n}: {} {} {} {} {} {} {:?}\n",
                r.variables, r.folds, r.rate, r.samples, r.queries, r.query_work, r.fold_work
            );
            all.update(line.as_bytes());
        }
    }
    assert_eq!(
        all.finalize().to_hex().as_str(),
        "ba0521fa2dbfb6c756935e832effbd62e88cc6ddad32a69693484f2a3824f709"
    );
}

#[test]
fn samples_are_values_of_the_vectors_polynomial() {
    let values: Vec<i64> = (0..2_048).map(|i| i * i - 70_000).collect();
    let commitment = Whir::commit(&values).unwrap();
    for (z, answer) in commitment.samples() {
        let expected = values
            .iter()
            .rev()
            .fold(Goldilocks2::ZERO, |sum, &value| sum * z + Goldilocks2::from_i64(value));
        assert_eq!(answer, expected);
    }
    assert_eq!(commitment.samples().len(), 2);
    assert!(Whir::commit(&values[..1_000]).unwrap().samples().is_empty());
}

#[test]
fn commitments_change_on_purpose_only() {
    let digest = |length| {
        let values: Vec<i64> = (0..length).map(|i| (i * 7_919) % 65_536 - 32_768).collect();
        blake3::Hash::from_bytes(Whir::digest(&Whir::commit(&values).unwrap())).to_hex().to_string()
    };
    assert_eq!(digest(11), "9835a549f320ca9f8dd4b9a5fdf88fe2a24db7660da93826755a9943f17c2335");
    assert_eq!(digest(2_000), "b222dd43dedd067f5e1a168ffbc715591e7a22394830e18013e496a0d0232f7e");
}
