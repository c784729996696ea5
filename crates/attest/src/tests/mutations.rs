//! Random mutations of genuine documents: no panic, and nothing but the same statement verifies.
//!
//! `OG_FUZZ=long` runs a million; `OG_FUZZ_SEED` repeats a run.

use super::{from_base64, shared_vector};
use crate::cose::Sign1;
use crate::nitro::DOCUMENT_BYTES_MAX;
use crate::roots::AWS_NITRO_G1;
use crate::simulated::{Authority, Measurements, Statement};
use crate::{Attestation, Policy, verify};

/// xorshift64*: enough for choosing mutations, and repeatable.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(high).unwrap() % bound.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

struct Subject {
    document: Vec<u8>,
    made_secs: u64,
    policies: [Policy; 2],
    attestation: Attestation,
    /// The byte strings that make the same statement.
    same: [Vec<u8>; 3],
}

fn subject(document: Vec<u8>, made_secs: u64, root: crate::Root) -> Subject {
    let policies = [Policy::new([root]), Policy::legacy([root])];
    let attestation = verify(&document, &policies[0], made_secs).unwrap();
    let same = [document.clone(), [&[0xd2], &document[..]].concat(), with_other_s(&document)];
    Subject { document, made_secs, policies, attestation, same }
}

fn simulated_subject() -> Subject {
    let authority = Authority::development();
    let document = authority.document(&Statement {
        module_id: "SIMULATED-1",
        timestamp_ms: 1_780_000_000_000,
        measurements: &Measurements::of_image("mutations"),
        user_data: &crate::keys::KeyBinding::of(b"tls", b"key").to_user_data(),
        public_key: &crate::keys::BoundKeys::new([1; 32], [2; 32]).encode(),
        nonce: &[7; 32],
    });
    subject(document, 1_780_000_000, authority.root())
}

fn mutate(document: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = document.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        let len = 1 + random.below(64);
        let end = (at + len).min(bytes.len());
        match random.below(9) {
            0..=2 => bytes[at] ^= 1 << random.below(8),
            3 => bytes[at] = random.byte(),
            4 => bytes.insert(at, random.byte()),
            5 => {
                bytes.drain(at..end);
            }
            6 => {
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            7 => bytes.truncate(at + 1),
            _ => {
                // The same place of another genuine document.
                let from = other.get(at..end.min(other.len())).unwrap_or_default().to_vec();
                bytes.splice(at..at + from.len(), from);
            }
        }
        if bytes.is_empty() {
            bytes.push(random.byte());
        }
    }
    bytes
}

/// The other valid ECDSA signature of the same message: (r, n − s).
fn with_other_s(document: &[u8]) -> Vec<u8> {
    let mut message = Sign1::decode(document, DOCUMENT_BYTES_MAX).unwrap();
    let signature = p384::ecdsa::Signature::from_slice(&message.signature).unwrap();
    let (r, s) = (signature.r(), signature.s());
    let negated = p384::ecdsa::Signature::from_scalars(*r, -*s).unwrap();
    message.signature = negated.to_bytes().to_vec();
    message.encode()
}

fn check(subject: &Subject, mutant: &[u8], seed: u64, round: usize) {
    if let Ok(attestation) = verify(mutant, &subject.policies[0], subject.made_secs) {
        assert!(
            subject.same.iter().any(|form| form == mutant),
            "seed {seed} round {round} verified"
        );
        assert_eq!(attestation, subject.attestation, "seed {seed} round {round}");
    }
}

#[test]
fn no_mutation_verifies_and_none_panics() {
    let long = std::env::var("OG_FUZZ").is_ok_and(|profile| profile == "long");
    let rounds = if long { 1_000_000 } else { 20_000 };
    let seed = std::env::var("OG_FUZZ_SEED").map_or(0x0900_0901, |seed| seed.parse().unwrap());
    println!("seed {seed}, {rounds} mutations");
    let mut subjects = vec![simulated_subject()];
    for (file, made_secs) in [
        ("nitro_2026-02-12T175602Z.b64", 1_770_918_962),
        ("nitro_2026-02-12T132412Z.b64", 1_770_902_652),
        ("nitro_2026-02-11T235556Z.b64", 1_770_854_156),
    ] {
        if let Some(text) = shared_vector(file) {
            subjects.push(subject(from_base64(&text), made_secs, AWS_NITRO_G1));
        }
    }
    const THREADS: usize = 2;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let subjects = &subjects;
            scope.spawn(move || {
                let mut random = Random(seed ^ (thread as u64 + 1) << 40);
                for round in 0..rounds / THREADS {
                    let subject = &subjects[round % subjects.len()];
                    let other = &subjects[random.below(subjects.len())].document;
                    let mutant = mutate(&subject.document, other, &mut random);
                    if mutant == subject.document {
                        continue;
                    }
                    check(subject, &mutant, seed, round);
                    // The laxer policy must not panic either, and may not be led to another statement.
                    if round % 8 == 0
                        && let Ok(attestation) =
                            verify(&mutant, &subject.policies[1], subject.made_secs)
                    {
                        assert_eq!(attestation, subject.attestation, "seed {seed} round {round}");
                    }
                }
            });
        }
    });
}

#[test]
fn the_other_signature_is_the_same_statement() {
    let subject = simulated_subject();
    let other = with_other_s(&subject.document);
    assert_ne!(other, subject.document);
    let attestation = verify(&other, &subject.policies[0], subject.made_secs).unwrap();
    assert_eq!(attestation.payload_hash, subject.attestation.payload_hash);
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    let subject = simulated_subject();
    for len in 0..subject.document.len() {
        let cut = &subject.document[..len];
        assert!(verify(cut, &subject.policies[1], subject.made_secs).is_err(), "{len} bytes");
    }
    for byte in 0..=255 {
        let longer = [&subject.document[..], &[byte]].concat();
        assert!(verify(&longer, &subject.policies[1], subject.made_secs).is_err());
    }
}

#[test]
fn a_document_costs_at_most_a_few_milliseconds() {
    let subject = simulated_subject();
    let rounds = 20_u32;
    let start = std::time::Instant::now();
    for _ in 0..rounds {
        verify(&subject.document, &subject.policies[0], subject.made_secs).unwrap();
    }
    let each = start.elapsed() / rounds;
    println!("one document of five certificates: {each:?}");
    // Generous against a loaded machine; the measured figure is printed.
    assert!(each < std::time::Duration::from_millis(80), "{each:?}");
}
