//! Readers and the writer at the same time, and how long things take.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking and reports by printing"
)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall;
use og_chain::{At, CallRequest, CallResult, Chain, Storage};
use sha2::Digest;
use support::*;

#[test]
fn readers_see_whole_blocks_while_others_become_final() {
    let chain = chain();
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // Each block writes its number to both slots; no view may show two numbers.
                    let block = chain.block(At::Pending).unwrap().unwrap();
                    let read = |slot| {
                        chain.storage(at(0xc0), B256::with_last_byte(slot), At::Hash(block.hash))
                    };
                    if let (Ok(first), Ok(second)) = (read(1), read(2)) {
                        assert_eq!(first, second);
                        assert_eq!(first, B256::from(U256::from(block.number())));
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for n in 0..40_u64 {
            let block = propose(
                &chain,
                vec![
                    Tx::call(0, 2 * n, at(0xc0), words(&[1, n + 1])).legacy(),
                    Tx::call(0, 2 * n + 1, at(0xc0), words(&[2, n + 1])).legacy(),
                ],
            );
            chain.finalize(block.hash, None).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(reads.load(Ordering::Relaxed) > 0);
}

#[test]
fn timings() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = Storage::File(folder.path().join("chain.redb"));
    let chain = Chain::open(&storage, genesis()).expect("opens");
    let voter = support::chain();
    let candidates: Vec<_> = (0..1000)
        .map(|n| Tx::transfer(n % 5, n / 5, at(u8::try_from(n % 200).unwrap()), 1).legacy())
        .collect();
    let start = Instant::now();
    let block = propose(&chain, candidates);
    println!("TIMING propose 1000 transfers: {:?}", start.elapsed());
    let start = Instant::now();
    voter.execute(&block.block).expect("valid");
    println!("TIMING execute 1000 transfers, senders recovered: {:?}", start.elapsed());
    let start = Instant::now();
    chain.finalize(block.hash, None).expect("finalises");
    println!("TIMING finalize 1000 transfers: {:?}", start.elapsed());
    let start = Instant::now();
    for n in 0..20 {
        advance(&chain, vec![Tx::transfer(0, 200 + n, at(1), 1).legacy()]);
    }
    println!("TIMING propose and finalize one transfer: {:?}", start.elapsed() / 20);
    let start = Instant::now();
    for n in 0..100_u64 {
        chain.proof(at(u8::try_from(n).unwrap()), &[], At::Latest).unwrap();
    }
    println!("TIMING account proof: {:?}", start.elapsed() / 100);

    let Some(vectors) = vectors("timings") else { return };
    let text = std::fs::read_to_string(vectors.join("nitro_synthetic.json")).expect("reads");
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let bytes = |object: &serde_json::Value, name: &str| -> alloy_primitives::Bytes {
        hex::decode(object[name].as_str().unwrap()).unwrap().into()
    };
    let case = &all["cases"][0];
    let mut genesis = genesis();
    let sha256 = B256::from_slice(&sha2::Sha256::digest(bytes(&all, "root_der")));
    genesis.trusted_roots.push(og_chain::TrustedRoot { sha256, simulated: false });
    let chain = Chain::open(&Storage::Memory, genesis).unwrap();
    let call = og_contracts::IEvidence::appraiseCall {
        document: bytes(case, "attestation"),
        signingKey: bytes(&all, "signing_key_der"),
        tlsCertificate: bytes(&all, "tls_cert_der"),
    };
    let request = CallRequest {
        to: Some(og_contracts::addresses::EVIDENCE_PRECOMPILE),
        input: call.abi_encode().into(),
        ..Default::default()
    };
    let now = case["block_time"].as_u64().unwrap();
    for label in ["first", "remembered"] {
        let start = Instant::now();
        let outcome = chain.call(&request, At::Latest, now).unwrap();
        assert!(matches!(outcome.result, CallResult::Success { .. }));
        println!("TIMING appraise, {label}: {:?}", start.elapsed());
    }
}
