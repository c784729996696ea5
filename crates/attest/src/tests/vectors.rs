//! The shared vectors: real Nitro documents, synthetic documents with verdicts, RSA-PSS signatures.

use alloy_primitives::{B256, b256, hex};
use serde_json::Value;

use super::{from_base64, shared_vector};
use crate::roots::AWS_NITRO_G1;
use crate::{CertificateError, Error, Policy, Root, appraisal, legacy, verify};

/// File, time of the document in milliseconds, end of the leaf's validity in seconds.
const REAL: [(&str, u64, u64); 3] = [
    ("nitro_2026-02-12T175602Z.b64", 1_770_918_962_724, 1_770_929_762),
    ("nitro_2026-02-12T132412Z.b64", 1_770_902_652_212, 1_770_913_452),
    ("nitro_2026-02-11T235556Z.b64", 1_770_854_156_291, 1_770_864_956),
];

const REAL_PCR_HASH: B256 =
    b256!("8082af22571613eabd5dad9c7e857c4f16154ded3d387386d8193b53906f6a24");

#[test]
fn real_documents_verify_at_their_times_and_at_no_other() {
    for (file, timestamp_ms, leaf_end) in REAL {
        let Some(text) = shared_vector(file) else { return };
        let document = from_base64(&text);
        let made = timestamp_ms / 1_000;
        for policy in [Policy::new([AWS_NITRO_G1]), Policy::legacy([AWS_NITRO_G1])] {
            let attestation = verify(&document, &policy, made).unwrap();
            assert_eq!(attestation.timestamp_ms, timestamp_ms);
            assert_eq!(attestation.pcr_hash, REAL_PCR_HASH);
            assert_eq!(attestation.root, AWS_NITRO_G1);
            assert_eq!(attestation.module_id, "i-0340e0cb833504eb6-enc019c12d31f78864d");
            assert_eq!(attestation.pcrs.len(), 16);
            assert_eq!(attestation.public_key.as_deref(), Some(&b"dummy"[..]));
            assert!(attestation.bound_keys().is_err());
            assert!(attestation.key_binding().is_ok());
            let nonce = hex!("0123456789abcdef0123456789abcdef01234567");
            assert!(verify(&document, &policy.clone().with_nonce(&nonce), made).is_ok());
            assert_eq!(
                verify(&document, &policy.clone().with_nonce(&[0; 20]), made),
                Err(Error::Nonce)
            );
            let approved = policy.clone().with_pcr_hashes([REAL_PCR_HASH]);
            assert!(verify(&document, &approved, made).is_ok());
            assert_eq!(
                verify(&document, &policy.clone().with_pcr_hashes([B256::ZERO]), made),
                Err(Error::Measurements(REAL_PCR_HASH))
            );

            assert!(verify(&document, &policy, made + 300).is_ok());
            assert!(matches!(verify(&document, &policy, made + 301), Err(Error::Stale { .. })));
            assert!(matches!(verify(&document, &policy, made - 61), Err(Error::Future { .. })));
            // Inside the freshness window, but before the leaf's notBefore, three seconds earlier.
            assert_eq!(
                verify(&document, &policy, made - 10),
                Err(Error::Certificate { index: 4, problem: CertificateError::NotYetValid })
            );
            let wide = policy.with_window(u64::MAX, 0);
            assert!(verify(&document, &wide, leaf_end).is_ok());
            assert_eq!(
                verify(&document, &wide, leaf_end + 1),
                Err(Error::Certificate { index: 4, problem: CertificateError::Expired })
            );
        }
        assert!(matches!(
            verify(&document, &Policy::new([crate::roots::DEVELOPMENT]), made),
            Err(Error::UntrustedRoot(root)) if root == AWS_NITRO_G1.sha256
        ));
        println!("VECTORS {file} 1");
    }
}

struct Synthetic {
    root_pem: String,
    root: Root,
    signing_key: Vec<u8>,
    tls_certificate: Vec<u8>,
    pcr_hash: B256,
    zero_pcr_hash: B256,
    /// Name, block time, legacy verdict, document.
    cases: Vec<(String, u64, bool, Vec<u8>)>,
}

fn synthetic() -> Option<Synthetic> {
    use sha2::{Digest, Sha256};
    let json: Value = serde_json::from_slice(&shared_vector("nitro_synthetic.json")?).unwrap();
    let text = |name: &str| json[name].as_str().unwrap().to_owned();
    let bytes = |name: &str| hex::decode(text(name)).unwrap();
    Some(Synthetic {
        root_pem: text("root_pem"),
        root: Root::hardware(B256::from_slice(&Sha256::digest(bytes("root_der")))),
        signing_key: bytes("signing_key_der"),
        tls_certificate: bytes("tls_cert_der"),
        pcr_hash: text("pcr_hash").parse().unwrap(),
        zero_pcr_hash: text("zero_pcr_hash").parse().unwrap(),
        cases: json["cases"]
            .as_array()
            .unwrap()
            .iter()
            .map(|case| {
                (
                    case["name"].as_str().unwrap().to_owned(),
                    case["block_time"].as_u64().unwrap(),
                    case["expected_valid"].as_bool().unwrap(),
                    hex::decode(case["attestation"].as_str().unwrap()).unwrap(),
                )
            })
            .collect(),
    })
}

#[test]
fn synthetic_documents_have_their_verdicts_under_the_legacy_policy() {
    let Some(v) = synthetic() else { return };
    assert_eq!(v.cases.len(), 18);
    for (name, time, expected, document) in &v.cases {
        let (valid, pcr_hash) = legacy::verify_attestation(
            document,
            &v.signing_key,
            &v.tls_certificate,
            v.root_pem.as_bytes(),
            &[AWS_NITRO_G1, v.root],
            *time,
        );
        let zero = name == "debug_zero_pcrs_accepted_by_reference";
        let expected_hash = match (expected, zero) {
            (false, _) => B256::ZERO,
            (true, true) => v.zero_pcr_hash,
            (true, false) => v.pcr_hash,
        };
        assert_eq!((valid, pcr_hash), (*expected, expected_hash), "{name}");
    }
    println!("VECTORS nitro_synthetic.json {}", v.cases.len());
}

#[test]
fn synthetic_documents_have_their_verdicts_under_the_default_policy() {
    let Some(v) = synthetic() else { return };
    let policy = Policy::new([v.root]).with_keys(&v.tls_certificate, &v.signing_key);
    for (name, time, legacy_verdict, document) in &v.cases {
        let result = verify(document, &policy, *time);
        match name.as_str() {
            "multihash_prefix_ignored" => {
                assert!(
                    matches!(result, Err(Error::Field { field: "user_data", .. })),
                    "{result:?}"
                );
            }
            "debug_zero_pcrs_accepted_by_reference" => assert_eq!(result, Err(Error::ZeroPcr(0))),
            _ => assert_eq!(result.is_ok(), *legacy_verdict, "{name}: {result:?}"),
        }
        // The reason is the one that the case is named for.
        let index = 2;
        match name.as_str() {
            "stale_age_301" => assert!(matches!(result, Err(Error::Stale { age_secs: 301, .. }))),
            "future_61" => assert!(matches!(result, Err(Error::Future { ahead_secs: 61, .. }))),
            "bad_cose_sig" | "wrong_signing_key_vs_leaf" => {
                assert_eq!(result, Err(Error::Signature));
            }
            "leaf_expired" => assert_eq!(
                result,
                Err(Error::Certificate { index, problem: CertificateError::Expired })
            ),
            "leaf_p256" => assert_eq!(
                result,
                Err(Error::Certificate { index, problem: CertificateError::NotP384 })
            ),
            "missing_intermediate" => assert_eq!(
                result,
                Err(Error::Certificate { index: 1, problem: CertificateError::Issuer })
            ),
            "missing_pcr1" => assert_eq!(result, Err(Error::MissingPcr(1))),
            "user_data_67" | "user_data_wrong_hashes" => {
                assert!(matches!(result, Err(Error::Field { field: "user_data", .. })));
            }
            "user_data_swapped" => assert_eq!(result, Err(Error::TlsCertificateNotBound)),
            "trailing_byte" => assert!(matches!(result, Err(Error::Cbor { .. }))),
            _ => {}
        }
    }
    let (_, time, _, document) = &v.cases[0];
    let appraised =
        appraisal::appraise(document, &v.signing_key, &v.tls_certificate, &[v.root], *time)
            .unwrap();
    assert_eq!((appraised.simulated, appraised.pcr_hash), (false, v.pcr_hash));
    assert_eq!(appraised.bound_keys, None);
    println!("VECTORS nitro_synthetic.json {}", v.cases.len());
}

#[test]
fn legacy_limits_are_inclusive_and_empty_inputs_are_false() {
    let Some(v) = synthetic() else { return };
    let (_, time, _, document) = &v.cases[0];
    let run = |document: &[u8], key: &[u8], tls: &[u8], pem: &[u8]| {
        legacy::verify_attestation(document, key, tls, pem, &[v.root], *time)
    };
    let (key, tls, pem) = (&v.signing_key[..], &v.tls_certificate[..], v.root_pem.as_bytes());
    assert!(run(document, key, tls, pem).0);
    for (document, key, tls) in
        [(&[][..], key, tls), (document, &[][..], tls), (document, key, &[][..])]
    {
        assert_eq!(run(document, key, tls, pem), (false, B256::ZERO));
    }
    let padded = |len: usize| [pem, &vec![b'\n'; len - pem.len()]].concat();
    assert!(run(document, key, tls, &padded(8_192)).0);
    assert!(!run(document, key, tls, &padded(8_193)).0);
    // The built-in root is AWS's, which did not sign this document.
    assert!(!run(document, key, tls, b"").0);
    assert_eq!(legacy::certificate_count(document), Some(3));
    assert_eq!(legacy::attestation_gas(document), legacy::VERIFY_ATTESTATION_GAS);
}

#[test]
fn rsa_pss_vectors() {
    let Some(bytes) = shared_vector("synthetic.json") else { return };
    let json: Value = serde_json::from_slice(&bytes).unwrap();
    let field = |name: &str| hex::decode(json["rsa"][name].as_str().unwrap()).unwrap();
    let hash = |name: &str| B256::from_slice(&field(name));
    let key = field("public_key_der");
    let verify = legacy::verify_rsa_pss;
    assert!(verify(&key, hash("message_hash"), &field("signature_salt32")));
    assert!(verify(&key, hash("heartbeat_hash"), &field("heartbeat_signature")));
    assert!(!verify(&key, hash("message_hash"), &field("signature_salt222_must_fail")));
    assert!(!verify(&key, hash("message_hash"), &field("heartbeat_signature")));
    assert!(!verify(&key, hash("heartbeat_hash"), &field("signature_salt32")));
    let signature = field("signature_salt32");
    for wrong in [
        vec![],
        vec![0; 256],
        signature[1..].to_vec(),
        [&[0][..], &signature].concat(),
        [&signature[..], &[0]].concat(),
        vec![0xff; 256],
        vec![0; 1_025],
    ] {
        assert!(!verify(&key, hash("message_hash"), &wrong), "{} bytes", wrong.len());
    }
    for at in 0..signature.len() {
        let mut mutant = signature.clone();
        mutant[at] ^= 1 << (at % 8);
        assert!(!verify(&key, hash("message_hash"), &mutant), "byte {at}");
    }
    // Every bit flip of the key's frame (all but the modulus) is refused or another key.
    for at in 0..key.len() {
        let mut mutant = key.clone();
        mutant[at] ^= 1 << (at % 8);
        assert!(!verify(&mutant, hash("message_hash"), &signature), "byte {at}");
    }
    assert_eq!(legacy::rsa_bits(&key), Some(2_048));
    assert_eq!(legacy::rsa_pss_gas(&key), 20_000);
    assert_eq!(
        og_primitives::TeeId::from_signing_key_der(&key).0,
        hash("tee_id"),
        "the TEE's id is the hash of its key"
    );
    println!("VECTORS synthetic.json 4");
}
