//! Chains and payloads that are refused, each for one reason, built with the simulated authority's tools.

use og_primitives::cbor::{Rules, Value};
use p384::ecdsa::SigningKey;

use crate::driver::Attester;
use crate::keys::{BoundKeys, KeyBinding};
use crate::roots::{AWS_NITRO_G1, DEVELOPMENT};
use crate::simulated::{
    Authority, CertificateSpec, Enclave, Measurements, Statement, basic_constraints, derive_key,
    extension, key_usage, payload, sign_document, spki, time, utc_time,
};
use crate::{Attestation, CertificateError, DerError, Error, Policy, Root, appraisal, der, verify};

const NOW: u64 = 1_780_000_000;
const SEED: &[u8] = b"chains to be refused";

/// One certificate of a test chain; `defaults` is what makes it valid.
struct Link {
    subject: &'static str,
    issuer: &'static str,
    signer: &'static str,
    before: u64,
    after: u64,
    extensions: Vec<Vec<u8>>,
    spki: Vec<u8>,
}

fn key(name: &str) -> SigningKey {
    derive_key(SEED, name)
}

fn ca(subject: &'static str, issuer: &'static str, path_len: Option<u8>) -> Link {
    Link {
        subject,
        issuer,
        signer: issuer,
        before: NOW - 1_000,
        after: NOW + 1_000,
        extensions: vec![basic_constraints(Some(path_len)), key_usage(0x86)],
        spki: spki(&key(subject)),
    }
}

fn leaf(issuer: &'static str) -> Link {
    Link { extensions: vec![basic_constraints(None), key_usage(0xc0)], ..ca("leaf", issuer, None) }
}

/// root → a → b → leaf, all of it valid.
fn good() -> Vec<Link> {
    vec![ca("root", "root", None), ca("a", "root", Some(1)), ca("b", "a", Some(0)), leaf("b")]
}

fn encode(links: &[Link]) -> Vec<Vec<u8>> {
    links
        .iter()
        .map(|link| {
            CertificateSpec {
                subject: link.subject,
                issuer: link.issuer,
                not_before: time(der::UTC_TIME, &utc_time(link.before)),
                not_after: time(der::UTC_TIME, &utc_time(link.after)),
                extensions: link.extensions.clone(),
                spki: link.spki.clone(),
            }
            .sign(&key(link.signer))
        })
        .collect()
}

fn measurements() -> Measurements {
    Measurements::of_image("chains")
}

fn statement(measurements: &Measurements) -> Statement<'_> {
    Statement {
        module_id: "SIMULATED",
        timestamp_ms: NOW * 1_000,
        measurements,
        user_data: &[0; 0],
        public_key: &[],
        nonce: &[],
    }
}

fn verify_chain(chain: &[Vec<u8>]) -> Result<Attestation, Error> {
    use sha2::{Digest, Sha256};
    let root = Root {
        sha256: alloy_primitives::B256::from_slice(&Sha256::digest(&chain[0])),
        simulated: true,
    };
    let measurements = measurements();
    let binding = KeyBinding::of(b"tls", b"key").to_user_data();
    let statement = Statement { user_data: &binding, ..statement(&measurements) };
    verify(&sign_document(&payload(&statement, chain), &key("leaf")), &Policy::new([root]), NOW)
}

fn refused(index: usize, problem: CertificateError, change: impl FnOnce(&mut Vec<Link>)) {
    let mut links = good();
    change(&mut links);
    assert_eq!(verify_chain(&encode(&links)).unwrap_err(), Error::Certificate { index, problem });
}

#[test]
fn the_chain_that_the_others_are_made_from_is_valid() {
    let attestation = verify_chain(&encode(&good())).unwrap();
    assert!(attestation.root.simulated);
}

#[test]
fn dates_of_every_certificate_count() {
    for index in 0..4 {
        refused(index, CertificateError::Expired, |links| links[index].after = NOW - 1);
        refused(index, CertificateError::NotYetValid, |links| links[index].before = NOW + 1);
        let mut links = good();
        links[index].after = NOW;
        links[index].before = NOW;
        assert!(verify_chain(&encode(&links)).is_ok(), "both ends are inclusive");
    }
}

#[test]
fn issuers_must_be_certificate_authorities() {
    for index in 0..3 {
        let set = |extensions: Vec<Vec<u8>>| {
            move |links: &mut Vec<Link>| links[index].extensions = extensions
        };
        let not_ca = CertificateError::NotCa;
        refused(index, not_ca, set(vec![basic_constraints(None), key_usage(0x86)]));
        refused(index, not_ca, set(vec![key_usage(0x86)]));
        refused(index, not_ca, set(vec![basic_constraints(Some(None))]));
        refused(index, not_ca, set(vec![basic_constraints(Some(None)), key_usage(0x80)]));
        refused(index, not_ca, set(vec![]));
    }
}

#[test]
fn path_length_is_counted_in_intermediate_authorities() {
    refused(0, CertificateError::PathLength, |links| {
        links[0].extensions[0] = basic_constraints(Some(Some(1)));
    });
    refused(1, CertificateError::PathLength, |links| {
        links[1].extensions[0] = basic_constraints(Some(Some(0)));
    });
    let mut links = good();
    links[0].extensions[0] = basic_constraints(Some(Some(2)));
    assert!(verify_chain(&encode(&links)).is_ok());
}

#[test]
fn the_leaf_is_no_authority_and_may_sign() {
    refused(3, CertificateError::LeafIsCa, |links| {
        links[3].extensions = vec![basic_constraints(Some(None)), key_usage(0x86)];
    });
    refused(3, CertificateError::NotForSigning, |links| {
        links[3].extensions[1] = key_usage(0x40);
    });
    refused(3, CertificateError::NotForSigning, |links| {
        links[3].extensions.pop();
    });
}

#[test]
fn extensions_that_are_not_understood_are_not_ignored_when_it_matters() {
    const UNKNOWN: &[u8] = &[0x2a, 0x03, 0x04];
    for index in 0..4 {
        refused(index, CertificateError::UnknownCriticalExtension, |links| {
            links[index].extensions.push(extension(UNKNOWN, true, &[5, 0]));
        });
        // Name constraints restrict what a CA may sign; they are refused rather than overlooked.
        refused(index, CertificateError::UnsupportedConstraint, |links| {
            links[index].extensions.push(extension(&[0x55, 0x1d, 0x1e], false, &[0x30, 0]));
        });
        refused(index, CertificateError::DuplicateExtension, |links| {
            links[index].extensions.push(key_usage(0x86));
        });
        let mut links = good();
        links[index].extensions.push(extension(UNKNOWN, false, &[5, 0]));
        assert!(verify_chain(&encode(&links)).is_ok(), "not critical, not known: ignored");
    }
}

#[test]
fn names_and_signatures_tie_the_chain_together() {
    for index in 1..4 {
        refused(index, CertificateError::Issuer, |links| links[index].issuer = "somebody else");
        refused(index, CertificateError::Signature, |links| links[index].signer = "somebody else");
    }
    let mut missing = good();
    missing.remove(2);
    assert_eq!(
        verify_chain(&encode(&missing)).unwrap_err(),
        Error::Certificate { index: 2, problem: CertificateError::Issuer }
    );
    let mut swapped = good();
    swapped.swap(1, 2);
    assert!(verify_chain(&encode(&swapped)).is_err());
    // The signing key is the leaf's, but the leaf is somebody's who is not in the chain.
    refused(3, CertificateError::Signature, |links| {
        links[3].spki = {
            links[3].signer = "stranger";
            spki(&key("leaf"))
        }
    });
}

#[test]
fn keys_are_p384_points() {
    refused(3, CertificateError::NotP384, |links| {
        // id-ecPublicKey on prime256v1.
        let p256 = alloy_primitives::hex!(
            "3059301306072a8648ce3d020106082a8648ce3d030107034200046b17d1f2e12c4247f8bce6e563a440f277037d81"
            "2deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
        );
        links[3].spki = p256.to_vec();
    });
    refused(1, CertificateError::NotP384, |links| {
        // Not on the curve.
        let last = links[1].spki.len() - 1;
        links[1].spki[last] ^= 1;
    });
}

#[test]
fn certificates_are_strict_der() {
    let mut chain = encode(&good());
    chain[3].push(0);
    assert_eq!(
        verify_chain(&chain).unwrap_err(),
        Error::Certificate { index: 3, problem: CertificateError::Der(DerError::Trailing) }
    );
}

#[test]
fn a_root_counts_only_where_the_policy_lists_it() {
    let authority = Authority::development();
    let measurements = measurements();
    let document = authority.document(&Statement {
        user_data: &KeyBinding::of(b"tls", b"key").to_user_data(),
        ..statement(&measurements)
    });
    assert!(verify(&document, &Policy::new([AWS_NITRO_G1, DEVELOPMENT]), NOW).is_ok());
    for policy in [Policy::new([AWS_NITRO_G1]), Policy::legacy([AWS_NITRO_G1]), Policy::new([])] {
        assert_eq!(verify(&document, &policy, NOW), Err(Error::UntrustedRoot(DEVELOPMENT.sha256)));
    }
    // A root of the same name, made by somebody else.
    let stranger = Authority::from_seed(b"stranger");
    let forged = stranger.document(&statement(&measurements));
    assert!(matches!(
        verify(&forged, &Policy::legacy([DEVELOPMENT]), NOW),
        Err(Error::UntrustedRoot(_))
    ));
}

#[test]
fn simulated_evidence_passes_the_whole_path_and_says_that_it_is_simulated() {
    let text = Authority::development().root_pem();
    assert!(text.starts_with("-----BEGIN CERTIFICATE-----\n"));
    let root = Authority::development().root_der().to_vec();
    assert!(root.windows(9).any(|window| window == b"SIMULATED"));
    let signing_key = rsa_key();
    let tls = crate::roots::AWS_NITRO_G1_DER;
    let keys = BoundKeys::new([1; 32], [2; 32]);
    let enclave = Enclave::new(Authority::development(), "SIMULATED-1", measurements());
    assert!(enclave.is_simulated());
    let user_data = KeyBinding::of(tls, &signing_key).to_user_data();
    let make = || enclave.evidence(&[9; 32], &user_data, &keys.encode(), NOW * 1_000).unwrap();
    let document = make();
    assert_eq!(document, make(), "the same statement has the same bytes");
    let roots = [AWS_NITRO_G1, DEVELOPMENT];
    let appraised = appraisal::appraise(&document, &signing_key, tls, &roots, NOW).unwrap();
    assert!(appraised.simulated);
    assert_eq!(appraised.bound_keys, Some(keys));
    assert_eq!(appraised.nonce, [9; 32]);
    assert_eq!(appraised.pcr_hash, measurements().pcr_hash());
    assert_eq!(appraised.timestamp_ms, NOW * 1_000);
    let pem = Authority::development().root_pem();
    for (pem, expected) in [(pem.as_str(), true), ("", true)] {
        let (valid, pcr_hash) = crate::legacy::verify_attestation(
            &document,
            &signing_key,
            tls,
            pem.as_bytes(),
            &roots,
            NOW,
        );
        assert_eq!((valid, pcr_hash), (expected, measurements().pcr_hash()));
    }
    // Other keys than the attested ones, and things that are no keys.
    let mut other_key = signing_key.clone();
    let at = other_key.len() - 20;
    other_key[at] ^= 2;
    assert_eq!(
        appraisal::appraise(&document, &other_key, tls, &roots, NOW),
        Err(Error::SigningKeyNotBound)
    );
    assert!(appraisal::appraise(&document, b"key", tls, &roots, NOW).is_err());
    assert!(appraisal::appraise(&document, &signing_key, b"tls", &roots, NOW).is_err());
    assert!(enclave.evidence(&[0; 513], &[], &[], NOW).is_err());
}

/// Changes one entry of the payload map and signs the result again; index the entry by its name.
fn resigned(change: impl FnOnce(&mut Vec<(Value, Value)>)) -> Result<Attestation, Error> {
    let chain = encode(&good());
    let measurements = measurements();
    let binding = KeyBinding::of(b"tls", b"key").to_user_data();
    let statement = Statement { user_data: &binding, ..statement(&measurements) };
    let Value::Map(mut entries) =
        Value::decode(&payload(&statement, &chain), Rules::AWS_NITRO).unwrap()
    else {
        panic!("not a map");
    };
    change(&mut entries);
    let document = sign_document(&Value::Map(entries).encode(), &key("leaf"));
    let root = Root {
        sha256: alloy_primitives::B256::from_slice(&<sha2::Sha256 as sha2::Digest>::digest(
            &chain[0],
        )),
        simulated: true,
    };
    verify(&document, &Policy::new([root]), NOW)
}

fn entry<'a>(entries: &'a mut [(Value, Value)], name: &str) -> &'a mut Value {
    &mut entries.iter_mut().find(|(key, _)| key.as_text() == Some(name)).unwrap().1
}

#[test]
fn the_default_policy_demands_what_aws_promises() {
    assert!(resigned(|_| {}).is_ok(), "a definite map is as good");
    let field = |result: Result<Attestation, Error>| match result.unwrap_err() {
        Error::Field { field, .. } => field,
        other => panic!("{other}"),
    };
    for name in ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"] {
        assert_eq!(
            field(resigned(|entries| entries.retain(|(key, _)| key.as_text() != Some(name)))),
            name
        );
        assert_eq!(field(resigned(|entries| *entry(entries, name) = Value::Bool(true))), name);
    }
    assert_eq!(field(resigned(|e| *entry(e, "digest") = Value::text("SHA256"))), "digest");
    assert_eq!(field(resigned(|e| *entry(e, "module_id") = Value::text(""))), "module_id");
    assert_eq!(field(resigned(|e| *entry(e, "user_data") = Value::bytes([0; 68]))), "user_data");
    let set_pcr = |index: u64, pcr: Vec<u8>| {
        resigned(move |entries| {
            let Value::Map(pcrs) = entry(entries, "pcrs") else { panic!("no pcrs") };
            pcrs.retain(|(key, _)| *key != Value::Uint(index));
            pcrs.push((Value::Uint(index), Value::Bytes(pcr)));
        })
    };
    assert_eq!(field(set_pcr(32, vec![1; 48])), "pcrs");
    assert_eq!(field(set_pcr(3, vec![1; 47])), "pcrs");
    assert_eq!(field(set_pcr(0, vec![1; 64])), "pcrs");
    assert!(set_pcr(31, vec![1; 48]).is_ok());
    for index in 0..3 {
        assert_eq!(set_pcr(index, vec![0; 48]), Err(Error::ZeroPcr(index)));
    }
    let long = resigned(|e| *entry(e, "nonce") = Value::bytes(vec![0; 513]));
    assert!(matches!(long, Err(Error::TooLarge { what: "nonce", .. })));
    assert!(resigned(|e| *entry(e, "nonce") = Value::Null).is_ok());
    assert!(matches!(
        resigned(|e| *entry(e, "timestamp") = Value::Uint(1_738_281_599_999)),
        Err(Error::BeforeEpoch(_))
    ));
    assert!(resigned(|e| e.push((Value::text("later"), Value::Null))).is_ok());
    assert_eq!(field(resigned(|e| e.push((Value::Uint(1), Value::Null)))), "payload");
    for size in [0, 9] {
        let result = resigned(|e| {
            *entry(e, "cabundle") = Value::Array(vec![Value::bytes([1]); size]);
        });
        assert_eq!(field(result), "cabundle");
    }
}

/// An RSA-2048 SubjectPublicKeyInfo; only its form matters here.
fn rsa_key() -> Vec<u8> {
    let modulus = [&[0xc1][..], &[0x5a; 254], &[0x5b]].concat();
    let key = der::element(der::SEQUENCE, &[&der::unsigned(&modulus), &der::unsigned(&[1, 0, 1])]);
    let algorithm = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    der::element(der::SEQUENCE, &[&algorithm, &der::element(der::BIT_STRING, &[&[0], &key])])
}

#[test]
fn rsa_keys_have_2048_to_4096_bits_and_the_usual_exponent() {
    let spki = |modulus: &[u8], exponent: &[u8]| {
        let key = der::element(der::SEQUENCE, &[&der::unsigned(modulus), &der::unsigned(exponent)]);
        let algorithm = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        der::element(der::SEQUENCE, &[&algorithm, &der::element(der::BIT_STRING, &[&[0], &key])])
    };
    let bits = |modulus: &[u8]| crate::legacy::rsa_bits(&spki(modulus, &[1, 0, 1]));
    let modulus = |first: u8, len: usize| [&[first][..], &vec![0xff; len - 1]].concat();
    assert_eq!(crate::legacy::rsa_bits(&rsa_key()), Some(2_048));
    assert_eq!(bits(&modulus(0x80, 256)), Some(2_048));
    assert_eq!(bits(&modulus(0x7f, 256)), None);
    assert_eq!(bits(&modulus(0x01, 257)), Some(2_049));
    assert_eq!(bits(&modulus(0x80, 512)), Some(4_096));
    assert_eq!(bits(&modulus(0x01, 513)), None);
    let even = [&[0x80][..], &[0; 255]].concat();
    assert_eq!(bits(&even), None);
    let three = spki(&modulus(0x80, 256), &[3]);
    assert_eq!(crate::legacy::rsa_bits(&three), None);
    assert_eq!(crate::legacy::rsa_pss_gas(&spki(&modulus(0x80, 512), &[1, 0, 1])), 80_000);
    let trailing = [&rsa_key()[..], &[0]].concat();
    assert_eq!(crate::legacy::rsa_bits(&trailing), None);
    // Odd widths do not trip the scheme's arithmetic.
    for width in [256, 257, 384, 512] {
        let key = spki(&modulus(0x01, width + 1), &[1, 0, 1]);
        for fill in [0, 1, 0xff] {
            let signature = vec![fill; width + 1];
            let hash = alloy_primitives::B256::ZERO;
            assert!(!crate::legacy::verify_rsa_pss(&key, hash, &signature));
        }
    }
}
