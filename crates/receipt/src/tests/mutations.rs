//! Mutations of an honest bundle: every field of every structure in it, and random flips. All are rejected, and the
//! report names the check.
//!
//! `OG_FUZZ_SEED` repeats a run of the random flips.

use std::collections::BTreeMap;

use og_attest::cose::Sign1;
use og_primitives::cbor::{Rules, Value};

use super::world::{Plan, world};
use crate::bundle::MAGIC;
use crate::verify::name;
use crate::{SettlementMode, TrustAnchors, Verdict, verify};

const RULES: Rules = Rules { input_bytes_max: 1 << 22, ..Rules::DETERMINISTIC };

/// Every value that differs from `value` in one place, with the path to that place.
fn mutants(value: &Value, path: &str, out: &mut Vec<(String, Value)>) {
    let mut push = |what: &str, mutant: Value| out.push((format!("{path}{what}"), mutant));
    match value {
        Value::Uint(n) => {
            push("+1", Value::Uint(n.wrapping_add(1)));
            push("-1", Value::Uint(n.wrapping_sub(1)));
            push("=null", Value::Null);
        }
        Value::Bool(b) => push("!", Value::Bool(!b)),
        Value::Text(text) => {
            push("+x", Value::Text(format!("{text}x")));
            push("=empty", Value::Text(String::new()));
        }
        Value::Bytes(bytes) => {
            for (what, at) in
                [("[0]", 0), ("[mid]", bytes.len() / 2), ("[last]", bytes.len().wrapping_sub(1))]
            {
                if at < bytes.len() {
                    let mut mutant = bytes.clone();
                    mutant[at] ^= 1;
                    push(what, Value::Bytes(mutant));
                }
            }
            push("+0", Value::Bytes([&bytes[..], &[0]].concat()));
            push("=empty", Value::Bytes(vec![]));
            if let Some((_, cut)) = bytes.split_last() {
                push("-last", Value::Bytes(cut.to_vec()));
            }
        }
        Value::Array(items) => {
            for at in 0..items.len() {
                let mut without = items.clone();
                without.remove(at);
                push(&format!("[{at}]-"), Value::Array(without));
                let mut twice = items.clone();
                twice.insert(at, items[at].clone());
                push(&format!("[{at}]*2"), Value::Array(twice));
                if at > 0 && items[at] != items[at - 1] {
                    let mut swapped = items.clone();
                    swapped.swap(at, at - 1);
                    push(&format!("[{at}]<>"), Value::Array(swapped));
                }
            }
            for (at, item) in items.iter().enumerate() {
                let mut inner = Vec::new();
                mutants(item, &format!("{path}[{at}]"), &mut inner);
                for (place, mutant) in inner {
                    let mut items = items.clone();
                    items[at] = mutant;
                    out.push((place, Value::Array(items)));
                }
            }
        }
        Value::Map(entries) => {
            for (at, (key, item)) in entries.iter().enumerate() {
                let mut without = entries.clone();
                without.remove(at);
                push(&format!(".{key:?}-"), Value::Map(without));
                let mut inner = Vec::new();
                mutants(item, "", &mut inner);
                for (place, mutant) in inner {
                    let mut entries = entries.clone();
                    entries[at].1 = mutant;
                    push(&format!(".{key:?}{place}"), Value::Map(entries));
                }
            }
            let mut more = entries.clone();
            more.push((Value::Uint(999), Value::Null));
            push(".new", Value::Map(more));
        }
        Value::Nint(_) | Value::Tag(..) | Value::Null => push("=0", Value::Uint(0)),
    }
}

fn file(body: &Value) -> Vec<u8> {
    [&MAGIC[..], &body.encode()].concat()
}

/// Verifies all mutants, on two threads, and counts the checks that refused them.
fn refuse_all(
    mutants: &[(String, Vec<u8>)],
    anchors: &TrustAnchors,
) -> BTreeMap<&'static str, usize> {
    let half = mutants.len().div_ceil(2).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = mutants
            .chunks(half)
            .map(|chunk| {
                scope.spawn(move || {
                    let mut refused = BTreeMap::new();
                    for (place, bytes) in chunk {
                        let report = verify(bytes, Some(anchors));
                        let failed = report
                            .failed()
                            .unwrap_or_else(|| panic!("{place} was accepted: {report:?}"));
                        *refused.entry(failed.name).or_insert(0) += 1;
                    }
                    refused
                })
            })
            .collect();
        let mut total = BTreeMap::new();
        for thread in threads {
            for (name, count) in thread.join().unwrap() {
                *total.entry(name).or_insert(0) += count;
            }
        }
        total
    })
}

#[test]
fn every_single_field_mutation_is_rejected() {
    let world = world(&Plan::default());
    let bytes = world.bundle.encode();
    let body = Value::decode(&bytes[MAGIC.len()..], RULES).unwrap();
    assert_eq!(file(&body), bytes);
    let mut all = Vec::new();
    mutants(&body, "bundle", &mut all);
    let mut files: Vec<(String, Vec<u8>)> =
        all.into_iter().map(|(place, body)| (place, file(&body))).collect();
    // Inside the receipt and inside the evidence, whose payloads are structures of their own.
    for (label, rules) in [(2, Rules::DETERMINISTIC), (3, Rules::AWS_NITRO)] {
        let Value::Map(entries) = &body else { panic!("not a map") };
        let at = entries.iter().position(|(key, _)| *key == Value::Uint(label)).unwrap();
        let message = Sign1::decode(entries[at].1.as_bytes().unwrap(), 16_384).unwrap();
        let payload = Value::decode(&message.payload, rules).unwrap();
        let mut inner = Vec::new();
        mutants(&payload, "payload", &mut inner);
        for (place, payload) in inner {
            let message = Sign1 { payload: payload.encode(), ..message.clone() };
            let mut entries = entries.clone();
            entries[at].1 = Value::Bytes(message.encode());
            files.push((format!("{label}.{place}"), file(&Value::Map(entries))));
        }
    }
    assert!(files.len() > 500, "{}", files.len());
    let refused = refuse_all(&files, &world.anchors);
    println!("{} single-field mutations refused: {refused:?}", files.len());
    for name in [
        name::BUNDLE_FORMAT,
        name::RECEIPT_FORMAT,
        name::RECEIPT_SIGNATURE,
        name::EVIDENCE_DOCUMENT,
        name::FINALITY,
        name::REGISTRY_ACCOUNT,
        name::REGISTRY_RECORD,
        name::REGISTRY_STANDING,
        name::SETTLEMENT_LOG,
        name::SETTLEMENT_INCLUSION,
        name::PAYMENT_REFERENCE,
        name::BUNDLE_PARTS,
    ] {
        assert!(refused.contains_key(name), "{name} refused nothing: {refused:?}");
    }
}

#[test]
fn ten_thousand_random_flips_are_rejected() {
    const FLIPS: usize = 10_000;
    let seed: u64 = std::env::var("OG_FUZZ_SEED").map_or(0x0609, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let world = world(&Plan::default());
    let bytes = world.bundle.encode();
    let mut state = seed | 1;
    let mut random = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % bound
    };
    let files: Vec<_> = (0..FLIPS)
        .map(|round| {
            let mut mutant = bytes.clone();
            let (at, bit) = (random(bytes.len()), random(8));
            mutant[at] ^= 1 << bit;
            (format!("round {round}, byte {at}, bit {bit}"), mutant)
        })
        .collect();
    let refused = refuse_all(&files, &world.anchors);
    println!("{FLIPS} flips of {} bytes refused: {refused:?}", bytes.len());
}

#[test]
fn a_private_bundle_has_nothing_loose_either() {
    let mut world = world(&Plan { mode: SettlementMode::Private, ..Plan::default() });
    world.bundle.chain = None;
    let bytes = world.bundle.encode();
    assert_eq!(verify(&bytes, Some(&world.anchors)).verdict(), Verdict::Verified);
    let body = Value::decode(&bytes[MAGIC.len()..], RULES).unwrap();
    let mut all = Vec::new();
    mutants(&body, "bundle", &mut all);
    let files: Vec<_> = all.into_iter().map(|(place, body)| (place, file(&body))).collect();
    let refused = refuse_all(&files, &world.anchors);
    println!("{} mutations refused: {refused:?}", files.len());
}

#[test]
fn noise_neither_panics_nor_verifies() {
    let world = world(&Plan::default());
    let bytes = world.bundle.encode();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..2_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let at = usize::try_from(state >> 40).unwrap() % bytes.len();
        let mut mutant = bytes.clone();
        match round % 4 {
            0 => mutant.truncate(at),
            1 => mutant.insert(at, state.to_le_bytes()[0]),
            2 => {
                mutant.remove(at);
            }
            _ => {
                mutant.rotate_left(at);
                if at == 0 {
                    continue;
                }
            }
        }
        assert_ne!(verify(&mutant, Some(&world.anchors)).verdict(), Verdict::Verified);
    }
}
