//! Certificates and header chains made by the consensus crate's test `light` and committed here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use alloy_primitives::{B256, hex};
use og_light::finality::HEADERS_MAX;
use og_light::{
    Error, FinalityCertificate, Header, Validator, ValidatorSet, verify_certificate,
    verify_finality,
};
use serde_json::Value;

struct Vectors {
    set: ValidatorSet,
    genesis_hash: B256,
    cases: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
}

fn vectors() -> Vectors {
    let json: Value = serde_json::from_str(include_str!("vectors/finality.json")).unwrap();
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let case = |case: &Value| {
        (
            bytes(&case["certificate"]),
            case["headers"].as_array().unwrap().iter().map(bytes).collect(),
        )
    };
    Vectors {
        set: serde_json::from_value(json["validators"].clone()).unwrap(),
        genesis_hash: json["genesis_hash"].as_str().unwrap().parse().unwrap(),
        cases: json["cases"].as_array().unwrap().iter().map(case).collect(),
    }
}

#[test]
fn blocks_are_final_directly_and_through_descendants() {
    let Vectors { set, genesis_hash, cases } = vectors();
    assert!(cases.len() >= 3);
    for (certificate, headers) in &cases {
        for depth in 1..=headers.len() {
            let header =
                verify_finality(&set, genesis_hash, certificate, &headers[..depth]).unwrap();
            assert_eq!(header, Header::decode(&headers[depth - 1]).unwrap());
        }
    }
}

#[test]
fn broken_header_chains_are_refused_by_name() {
    let Vectors { set, genesis_hash, cases } = vectors();
    let (certificate, headers) = cases.iter().max_by_key(|(_, headers)| headers.len()).unwrap();
    let verdict = |headers: &[Vec<u8>]| {
        verify_finality(&set, genesis_hash, certificate, headers).unwrap_err()
    };
    assert_eq!(verdict(&[]), Error::HeaderCount { count: 0, max: HEADERS_MAX });
    let many = vec![headers[0].clone(); HEADERS_MAX + 1];
    assert_eq!(verdict(&many), Error::HeaderCount { count: HEADERS_MAX + 1, max: HEADERS_MAX });
    // Not the certified block first, a gap, the wrong order, one twice.
    assert!(matches!(verdict(&headers[1..]), Error::HeaderHash { index: 0, .. }));
    let gap: Vec<_> = [&headers[..1], &headers[2..]].concat();
    assert!(matches!(verdict(&gap), Error::HeaderHash { index: 1, .. }));
    let mut swapped = headers.clone();
    swapped.swap(1, 2);
    assert!(matches!(verdict(&swapped), Error::HeaderHash { index: 1, .. }));
    let twice = vec![headers[0].clone(), headers[0].clone()];
    assert!(matches!(verdict(&twice), Error::HeaderHash { index: 1, .. }));
    for (index, header) in headers.iter().enumerate() {
        for at in (index..header.len()).step_by(5) {
            let mut mutant = headers.clone();
            mutant[index][at] ^= 1;
            let error = verdict(&mutant);
            let named = matches!(error, Error::HeaderHash { index: found, .. } if found == index)
                || matches!(error, Error::HeaderEncoding(_));
            assert!(named, "byte {at} of header {index}: {error}");
        }
    }
}

#[test]
fn every_byte_of_a_certificate_counts() {
    let Vectors { set, genesis_hash, cases } = vectors();
    for (certificate, _) in &cases {
        verify_certificate(&set, genesis_hash, certificate).unwrap();
        for at in 0..certificate.len() {
            let mut mutant = certificate.clone();
            mutant[at] ^= 1;
            assert!(verify_certificate(&set, genesis_hash, &mutant).is_err(), "byte {at}");
        }
    }
}

#[test]
fn validators_are_read_from_text_and_checked() {
    let Vectors { set, .. } = vectors();
    let first = set.validators()[0];
    let text = first.to_string();
    assert_eq!(text.len(), 2 + 2 * 176);
    assert_eq!(text.parse::<Validator>(), Ok(first));
    for (text, reason) in [
        (text[2..].to_owned(), "does not begin with 0x"),
        (text[..352].to_owned(), "not 176 bytes long"),
        (format!("{text}00"), "not 176 bytes long"),
        (text.replace('0', "g").replacen('g', "0", 1), "not hexadecimal"),
    ] {
        assert_eq!(text.parse::<Validator>(), Err(Error::ValidatorEncoding(reason)));
    }
    // Order does not matter, everything else does.
    let mut validators = set.validators().to_vec();
    validators.reverse();
    assert_eq!(ValidatorSet::new(validators.clone()), Ok(set.clone()));
    assert_eq!(ValidatorSet::new(vec![]), Err(Error::ValidatorCount { count: 0, max: 128 }));
    assert!(matches!(
        ValidatorSet::new(vec![first; 129]),
        Err(Error::ValidatorCount { count: 129, .. })
    ));
    assert_eq!(
        ValidatorSet::new(vec![first; 2]),
        Err(Error::ValidatorDuplicate { first: 0, second: 1 })
    );
    for at in 0..176 {
        let mut bytes = first.to_bytes();
        bytes[at] ^= 1;
        let changed = Validator::from_bytes(&bytes).unwrap();
        // The identity is bound by the handshake, the keys by the proof.
        assert_eq!(ValidatorSet::new(vec![changed]).is_ok(), at < 32, "byte {at}");
    }
    for (n, quorum) in [(1, 1), (2, 2), (3, 3), (4, 3)] {
        assert_eq!(ValidatorSet::new(set.validators()[..n].to_vec()).unwrap().quorum(), quorum);
    }
}

#[test]
fn random_bytes_never_panic_and_decode_to_themselves() {
    let Vectors { cases, .. } = vectors();
    // xorshift64: seeded, so that a failure repeats.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 1).unwrap()
    };
    let mut decoded = 0;
    for round in 0..300_000 {
        let mut bytes = cases[round % cases.len()].0.clone();
        for _ in 0..=next() % 4 {
            let at = next() % bytes.len();
            match next() % 4 {
                0 => bytes[at] ^= 1 << (next() % 8),
                1 => bytes[at] = next().to_le_bytes()[0],
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, next().to_le_bytes()[0]),
            }
        }
        if let Ok(certificate) = FinalityCertificate::decode(&bytes) {
            assert_eq!(certificate.encode(), bytes);
            decoded += 1;
        }
    }
    assert!(decoded > 30_000, "{decoded}");
}
