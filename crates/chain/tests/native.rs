//! The native verifiers, asked as a contract or a client asks them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking and reports by printing"
)]

mod support;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use og_attest::legacy;
use og_attest::simulated::{Authority, Measurements, Statement};
use og_chain::{At, CallRequest, CallResult, Chain, Genesis, Storage, TrustedRoot};
use og_contracts::addresses::{EVIDENCE_PRECOMPILE, INFERENCE_PRECOMPILE, TEE_VERIFIER_PRECOMPILE};
use og_contracts::{IEvidence, ITEEVerifier};
use sha2::{Digest, Sha256};
use support::*;

fn bytes_at(object: &serde_json::Value, name: &str) -> Bytes {
    hex::decode(object[name].as_str().expect("text")).expect("hex").into()
}

fn trusting(root_der: &[u8], simulated: bool) -> Genesis {
    let mut genesis = genesis();
    let sha256 = B256::from_slice(&Sha256::digest(root_der));
    genesis.trusted_roots.push(TrustedRoot { sha256, simulated });
    genesis.alloc.insert(at(0xd0), contract(&forward(TEE_VERIFIER_PRECOMPILE, 0xfa)));
    genesis.alloc.insert(at(0xd1), contract(&forward(TEE_VERIFIER_PRECOMPILE, 0xf4)));
    genesis.alloc.insert(at(0xd2), contract(&forward(EVIDENCE_PRECOMPILE, 0xfa)));
    genesis
}

fn open(genesis: Genesis) -> Chain {
    Chain::open(&Storage::Memory, genesis).expect("opens")
}

fn ask(chain: &Chain, to: Address, input: impl Into<Bytes>, now: u64) -> (CallResult, u64) {
    let request = CallRequest {
        to: Some(to),
        input: input.into(),
        gas: Some(5_000_000),
        ..Default::default()
    };
    let outcome = chain.call(&request, At::Latest, now).expect("runs");
    (outcome.result, outcome.gas_used)
}

fn answer(chain: &Chain, to: Address, input: impl Into<Bytes>, now: u64) -> Bytes {
    match ask(chain, to, input, now).0 {
        CallResult::Success { output } => output,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_synthetic_documents_get_their_verdicts() {
    let Some(folder) = vectors("nitro_synthetic") else { return };
    let text = std::fs::read_to_string(folder.join("nitro_synthetic.json")).expect("reads");
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let chain = open(trusting(&bytes_at(&all, "root_der"), false));
    let distrusting = open({
        let mut genesis = trusting(&[], false);
        genesis.trusted_roots.pop();
        genesis
    });
    let pem = Bytes::copy_from_slice(all["root_pem"].as_str().expect("PEM").as_bytes());
    let cases = all["cases"].as_array().expect("cases");
    for case in cases {
        let name = case["name"].as_str().expect("name");
        let now = case["block_time"].as_u64().expect("time");
        let input = ITEEVerifier::verifyAttestationCall {
            attestationDocument: bytes_at(case, "attestation"),
            signingPublicKey: bytes_at(&all, "signing_key_der"),
            tlsCertificate: bytes_at(&all, "tls_cert_der"),
            rootCertificate: pem.clone(),
        }
        .abi_encode();
        assert_eq!(&input[..4], [0xf7, 0xcf, 0x40, 0xd3]);
        let expected = case["expected_valid"].as_bool().expect("verdict");
        for to in [TEE_VERIFIER_PRECOMPILE, at(0xd0), at(0xd1)] {
            let output = answer(&chain, to, input.clone(), now);
            let output = ITEEVerifier::verifyAttestationCall::abi_decode_returns(&output);
            let output = output.expect("two words");
            assert_eq!(output.valid, expected, "{name}");
            assert_eq!(output.pcrHash.is_zero(), !expected, "{name}");
        }
        // A caller's PEM trusts nothing that genesis does not.
        let output = answer(&distrusting, TEE_VERIFIER_PRECOMPILE, input, now);
        assert_eq!(output, Bytes::from(vec![0; 64]), "{name}");
    }
    println!("VECTORS nitro_synthetic.json {}", cases.len());
}

#[test]
fn the_real_rsa_vectors_get_their_verdicts() {
    let Some(folder) = vectors("synthetic") else { return };
    let text = std::fs::read_to_string(folder.join("synthetic.json")).expect("reads");
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let rsa = &all["rsa"];
    let chain = open(trusting(&[], false));
    let calldata = bytes_at(rsa, "verifyRSAPSS_calldata");
    let expected = bytes_at(rsa, "expected_return");
    for to in [TEE_VERIFIER_PRECOMPILE, at(0xd0), at(0xd1)] {
        assert_eq!(answer(&chain, to, calldata.clone(), 0), expected);
    }
    let verify = |message: &str, signature: &str| {
        let input = ITEEVerifier::verifyRSAPSSCall {
            publicKeyDER: bytes_at(rsa, "public_key_der"),
            messageHash: B256::from_slice(&bytes_at(rsa, message)),
            signature: bytes_at(rsa, signature),
        };
        let output = answer(&chain, TEE_VERIFIER_PRECOMPILE, input.abi_encode(), 0);
        ITEEVerifier::verifyRSAPSSCall::abi_decode_returns(&output).expect("a bool")
    };
    let cases = [
        ("message_hash", "signature_salt32", true),
        ("heartbeat_hash", "heartbeat_signature", true),
        ("message_hash", "signature_salt222_must_fail", false),
        ("message_hash", "heartbeat_signature", false),
        ("input_hash", "signature_salt32", false),
    ];
    for (message, signature, valid) in cases {
        assert_eq!(verify(message, signature), valid, "{message} {signature}");
    }
    println!("VECTORS synthetic.json {}", cases.len() + 1);
}

#[test]
fn malformed_calls_burn_the_gas_they_were_given() {
    let chain = open(trusting(&[], false));
    let verify = ITEEVerifier::verifyRSAPSSCall::SELECTOR;
    let wrong: [Vec<u8>; 5] = [
        vec![],
        vec![0x7e, 0x26, 0x67],
        vec![1, 2, 3, 4],
        verify.to_vec(),
        [&verify[..], &[0xff; 96]].concat(),
    ];
    for input in &wrong {
        for to in [TEE_VERIFIER_PRECOMPILE, EVIDENCE_PRECOMPILE] {
            let (result, gas) = ask(&chain, to, input.clone(), 0);
            assert!(matches!(result, CallResult::Halt { .. }), "{input:?}: {result:?}");
            assert_eq!(gas, 5_000_000);
        }
        // A contract that forwards everything keeps a 64th, and hears of no data.
        let (result, gas) = ask(&chain, at(0xd0), input.clone(), 0);
        assert_eq!(result, CallResult::Revert { output: Bytes::new() });
        assert!(gas > 4_900_000, "{gas}");
    }
    let mut with_value = CallRequest {
        from: Some(key(0).address()),
        to: Some(TEE_VERIFIER_PRECOMPILE),
        value: U256::ONE,
        gas: Some(100_000),
        ..Default::default()
    };
    with_value.input = rsa_call(b"").into();
    let outcome = chain.call(&with_value, At::Latest, 0).unwrap();
    assert!(matches!(outcome.result, CallResult::Halt { .. }));
}

fn rsa_call(key: &[u8]) -> Vec<u8> {
    ITEEVerifier::verifyRSAPSSCall {
        publicKeyDER: key.to_vec().into(),
        messageHash: B256::ZERO,
        signature: Bytes::new(),
    }
    .abi_encode()
}

/// Gas of a call beyond what its calldata costs as a transaction.
fn execution_gas(chain: &Chain, to: Address, input: Vec<u8>) -> u64 {
    // EIP-2028: 4 gas for a zero byte, 16 for another.
    let calldata: u64 = input.iter().map(|byte| if *byte == 0 { 4 } else { 16 }).sum();
    let (result, gas) = ask(chain, to, input, 0);
    assert!(matches!(result, CallResult::Success { .. }), "{result:?}");
    gas - 21_000 - calldata
}

#[test]
fn gas_is_charged_before_the_work_and_grows_with_it() {
    let chain = open(trusting(&[], false));
    let rsa = rsa_call(b"");
    assert_eq!(
        execution_gas(&chain, TEE_VERIFIER_PRECOMPILE, rsa.clone()),
        legacy::VERIFY_RSA_PSS_GAS
    );
    // Remembering an answer does not make it cheaper.
    assert_eq!(
        execution_gas(&chain, TEE_VERIFIER_PRECOMPILE, rsa.clone()),
        legacy::VERIFY_RSA_PSS_GAS
    );
    let attestation = ITEEVerifier::verifyAttestationCall {
        attestationDocument: Bytes::from_static(b"x"),
        signingPublicKey: Bytes::from_static(b"x"),
        tlsCertificate: Bytes::from_static(b"x"),
        rootCertificate: Bytes::new(),
    }
    .abi_encode();
    assert_eq!(
        execution_gas(&chain, TEE_VERIFIER_PRECOMPILE, attestation.clone()),
        legacy::VERIFY_ATTESTATION_GAS
    );
    let genesis_hash = IEvidence::genesisHashCall {}.abi_encode();
    assert_eq!(execution_gas(&chain, EVIDENCE_PRECOMPILE, genesis_hash), 100);
    // One gas too little is out of gas, not a cheaper answer.
    let used = ask(&chain, TEE_VERIFIER_PRECOMPILE, attestation.clone(), 0).1;
    let short = CallRequest {
        to: Some(TEE_VERIFIER_PRECOMPILE),
        input: attestation.into(),
        gas: Some(used - 1),
        ..Default::default()
    };
    let outcome = chain.call(&short, At::Latest, 0).unwrap();
    assert!(matches!(outcome.result, CallResult::Halt { .. }), "{outcome:?}");
    assert_eq!(outcome.gas_used, used - 1);
}

#[test]
fn the_code_at_the_native_addresses_is_there_for_extcodesize() {
    let chain = open(genesis());
    for address in [TEE_VERIFIER_PRECOMPILE, EVIDENCE_PRECOMPILE, INFERENCE_PRECOMPILE] {
        assert_eq!(chain.code(address, At::Latest).unwrap(), Bytes::from_static(&[0xfe]));
        assert_eq!(chain.nonce(address, At::Latest).unwrap(), 1);
    }
}

#[test]
fn evidence_knows_its_chain_and_says_simulated() {
    let authority = Authority::development();
    let chain = open(trusting(authority.root_der(), true));
    let strict = open({
        let mut genesis = trusting(authority.root_der(), true);
        genesis.trusted_roots.pop();
        genesis
    });
    for chain in [&chain, &strict] {
        let input = IEvidence::genesisHashCall {}.abi_encode();
        for to in [EVIDENCE_PRECOMPILE, at(0xd2)] {
            let output = answer(chain, to, input.clone(), 0);
            assert_eq!(output.as_ref(), chain.genesis_hash().as_slice());
        }
    }
    // Nonsense is a soft failure: an all-zero appraisal.
    let nonsense = IEvidence::appraiseCall {
        document: Bytes::from_static(b"no document"),
        signingKey: Bytes::from_static(b"no key"),
        tlsCertificate: Bytes::from_static(b"no certificate"),
    };
    let output = answer(&chain, EVIDENCE_PRECOMPILE, nonsense.abi_encode(), START);
    let found = IEvidence::appraiseCall::abi_decode_returns(&output).expect("decodes");
    assert_eq!(found, og_contracts::Appraisal::default());

    let Some(folder) = vectors("nitro_synthetic keys") else { return };
    let text = std::fs::read_to_string(folder.join("nitro_synthetic.json")).expect("reads");
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let (signing_key, tls_certificate) =
        (bytes_at(&all, "signing_key_der"), bytes_at(&all, "tls_cert_der"));
    let now = 1_790_000_000;
    let measurements = Measurements::of_image("og-gateway");
    let keys = og_attest::keys::BoundKeys::new([1; 32], [2; 32]);
    let user_data = og_attest::keys::KeyBinding::of(&tls_certificate, &signing_key).to_user_data();
    let document = authority.document(&Statement {
        module_id: "test",
        timestamp_ms: now * 1000,
        measurements: &measurements,
        user_data: &user_data,
        public_key: &keys.encode(),
        nonce: &[7; 32],
    });
    let input = IEvidence::appraiseCall {
        document: document.into(),
        signingKey: signing_key,
        tlsCertificate: tls_certificate,
    }
    .abi_encode();
    for to in [EVIDENCE_PRECOMPILE, at(0xd2)] {
        let output = answer(&chain, to, input.clone(), now);
        let found = IEvidence::appraiseCall::abi_decode_returns(&output).expect("decodes");
        assert!(found.valid && found.simulated);
        assert_eq!(found.pcrHash, measurements.pcr_hash());
        assert_eq!(found.timestampMs, now * 1000);
        assert_eq!(found.nonce, Bytes::from(vec![7; 32]));
        assert_eq!(found.receiptKey, Bytes::from(vec![1; 32]));
        assert_eq!(found.hpkeKey, B256::repeat_byte(2));
        // A chain that does not list the development root does not trust it, and old evidence is stale.
        for output in
            [answer(&strict, to, input.clone(), now), answer(&chain, to, input.clone(), now + 301)]
        {
            let found = IEvidence::appraiseCall::abi_decode_returns(&output).expect("decodes");
            assert_eq!(found, og_contracts::Appraisal::default());
        }
    }
}

#[test]
fn a_transaction_sees_the_time_of_its_block() {
    let Some(folder) = vectors("nitro_synthetic in a block") else { return };
    let text = std::fs::read_to_string(folder.join("nitro_synthetic.json")).expect("reads");
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    // A contract that stores whether the verifier said true: forwards calldata, then SSTORE(0, first word).
    let mut code = vec![0x36, 0x60, 0, 0x60, 0, 0x37, 0x60, 0x20, 0x60, 0, 0x36, 0x60, 0, 0x73];
    code.extend_from_slice(TEE_VERIFIER_PRECOMPILE.as_slice());
    code.extend_from_slice(&[0x5a, 0xfa, 0x50, 0x60, 0, 0x51, 0x60, 0, 0x55, 0x00]);
    let mut genesis = trusting(&bytes_at(&all, "root_der"), false);
    genesis.alloc.insert(at(0xd5), contract(&code));
    let case = &all["cases"][0];
    let now = case["block_time"].as_u64().expect("time");
    let input = ITEEVerifier::verifyAttestationCall {
        attestationDocument: bytes_at(case, "attestation"),
        signingPublicKey: bytes_at(&all, "signing_key_der"),
        tlsCertificate: bytes_at(&all, "tls_cert_der"),
        rootCertificate: Bytes::new(),
    };
    let mut with_pem = input.clone();
    with_pem.rootCertificate = Bytes::copy_from_slice(all["root_pem"].as_str().unwrap().as_bytes());
    for (time, expected) in [(now + 300, 1_u64), (now + 301, 0)] {
        let chain = open(genesis.clone());
        let tx = Tx::call(0, 0, at(0xd5), with_pem.abi_encode()).gas(2_000_000).legacy();
        let head = chain.head();
        let block = chain.propose(request(head.hash, time * 1000, vec![tx])).unwrap().executed;
        let voter = open(genesis.clone());
        assert_eq!(*voter.execute(&block.block).expect("valid"), *block);
        let stored = voter.storage(at(0xd5), B256::ZERO, At::Hash(block.hash)).unwrap();
        assert_eq!(stored, B256::from(U256::from(expected)));
    }
}
