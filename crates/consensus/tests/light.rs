//! `og-light` and the consensus library give every certificate and every mutant the same verdict.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]

use bytes::Bytes;
use commonware_codec::{Decode as _, DecodeExt as _, Encode as _};
use commonware_consensus::simplex::scheme::bls12381_multisig;
use commonware_consensus::simplex::types::{Finalization, Finalize, Notarize, Proposal};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_cryptography::bls12381::primitives::group::{G1, G2, Private};
use commonware_cryptography::bls12381::primitives::ops;
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_cryptography::ed25519::{PrivateKey, PublicKey};
use commonware_cryptography::{Signer as _, sha256};
use commonware_math::algebra::Additive as _;
use commonware_parallel::Sequential;
use commonware_utils::ordered::BiMap;
use commonware_utils::{non_empty, test_rng};
use og_light::{
    Error, FinalityCertificate, Validator, ValidatorSet, consensus_namespace, verify_certificate,
};
use og_primitives::{B256, domain};

type Scheme = bls12381_multisig::Scheme<PublicKey, MinSig>;
type Certificate = Finalization<Scheme, sha256::Digest>;

const GENESIS: B256 = B256::repeat_byte(0x67);

/// A seeded generator, so that a failure repeats.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next().to_le_bytes()[0])
    }
}

/// The same validators, for both implementations.
struct Committee {
    set: ValidatorSet,
    signers: Vec<Scheme>,
    verifier: Scheme,
}

impl Committee {
    fn new(random: &mut Random, size: usize) -> Self {
        let mut keys: Vec<(PrivateKey, Private)> = (0..size)
            .map(|_| {
                let mut scalar = random.bytes::<32>();
                scalar[0] &= 0x3f;
                let identity =
                    PrivateKey::decode(Bytes::copy_from_slice(&random.bytes::<32>())).unwrap();
                (identity, Private::decode(Bytes::copy_from_slice(&scalar)).unwrap())
            })
            .collect();
        keys.sort_by_key(|(identity, _)| identity.public_key());
        let validators = keys.iter().map(|(identity, voting)| Validator {
            identity: identity.public_key().as_ref().try_into().unwrap(),
            public_key: ops::compute_public::<MinSig>(voting).encode().as_ref().try_into().unwrap(),
            possession: ops::sign_proof_of_possession::<MinSig>(
                voting,
                domain::VALIDATOR_POSSESSION,
            )
            .encode()
            .as_ref()
            .try_into()
            .unwrap(),
        });
        let set = ValidatorSet::new(validators.collect()).unwrap();
        let pairs: Vec<(PublicKey, G2)> = keys
            .iter()
            .map(|(identity, voting)| {
                (identity.public_key(), ops::compute_public::<MinSig>(voting))
            })
            .collect();
        let participants = BiMap::try_from(pairs).unwrap();
        let namespace = consensus_namespace(GENESIS);
        let signers = keys
            .iter()
            .map(|(_, voting)| {
                Scheme::signer(&namespace, participants.clone(), voting.clone()).unwrap()
            })
            .collect();
        Self { set, signers, verifier: Scheme::verifier(&namespace, participants) }
    }

    fn theirs(&self, bytes: &[u8]) -> bool {
        let config = self.set.len();
        Certificate::decode_cfg(Bytes::copy_from_slice(bytes), &config).is_ok_and(|certificate| {
            certificate.verify(&mut test_rng(), &self.verifier, &Sequential)
        })
    }

    fn ours(&self, bytes: &[u8]) -> bool {
        verify_certificate(&self.set, GENESIS, bytes).is_ok()
    }

    fn agree(&self, bytes: &[u8], what: &str) -> bool {
        let (ours, theirs) = (self.ours(bytes), self.theirs(bytes));
        assert_eq!(ours, theirs, "{what}: {}", hex::encode(bytes));
        ours
    }

    fn sign(&self, random: &mut Random, signers: &[usize]) -> Certificate {
        let view = random.next() >> random.below(64);
        let round = Round::new(Epoch::new(random.next() >> 60), View::new(view));
        let parent = View::new(view.saturating_sub(1));
        let proposal = Proposal::new(round, parent, sha256::Digest(random.bytes()));
        let votes: Vec<_> = signers
            .iter()
            .map(|seat| Finalize::sign(&self.signers[*seat], proposal.clone()).unwrap())
            .collect();
        Finalization::from_finalizes(&self.verifier, non_empty![@&votes], &Sequential).unwrap()
    }

    /// A random quorum or more.
    fn quorum(&self, random: &mut Random) -> Vec<usize> {
        let mut seats: Vec<usize> = (0..self.set.len()).collect();
        let spare = self.set.len() - self.set.quorum();
        for _ in 0..random.below(spare + 1) {
            seats.remove(random.below(seats.len()));
        }
        seats
    }
}

fn committees(random: &mut Random) -> Vec<Committee> {
    [1, 2, 3, 4, 5, 7, 8, 9, 16, 17].map(|size| Committee::new(random, size)).into()
}

#[test]
fn a_thousand_certificates_and_their_mutants_get_the_same_verdict() {
    let mut random = Random(0x2026_1124_0000_0001);
    let committees = committees(&mut random);
    let (mut valid, mut mutants, mut refused) = (0, 0, 0);
    for round in 0..1000 {
        let committee = &committees[round % committees.len()];
        let signers = committee.quorum(&mut random);
        let certificate = committee.sign(&mut random, &signers);
        let bytes = certificate.encode();
        assert!(committee.agree(&bytes, "valid certificate"));
        let read = FinalityCertificate::decode(&bytes).unwrap();
        assert_eq!(read.encode(), bytes);
        assert_eq!(read.view, certificate.proposal.round.view().get());
        assert_eq!(read.epoch, certificate.proposal.round.epoch().get());
        assert_eq!(read.parent_view, certificate.proposal.parent.get());
        assert_eq!(read.payload.0, certificate.proposal.payload.0);
        assert_eq!(read.signers, signers);
        valid += 1;
        for _ in 0..3 {
            let mut mutant = bytes.to_vec();
            match random.below(5) {
                0 => {
                    let at = random.below(mutant.len());
                    mutant[at] ^= 1 << random.below(8);
                }
                1 => {
                    let at = random.below(mutant.len());
                    mutant[at] = random.next().to_le_bytes()[0];
                }
                2 => mutant.truncate(random.below(mutant.len())),
                3 => mutant.push(random.next().to_le_bytes()[0]),
                _ => {
                    let at = random.below(mutant.len());
                    mutant.insert(at, random.next().to_le_bytes()[0]);
                }
            }
            mutants += 1;
            if !committee.agree(&mutant, "mutant") {
                refused += 1;
            }
            // A mutation may restore the same bytes; nothing else is ever accepted.
            assert!(mutant == bytes || !committee.ours(&mutant));
        }
    }
    println!("{valid} certificates accepted, {refused} of {mutants} mutants refused by both");
    assert!(refused > mutants * 9 / 10);
}

#[test]
fn forgeries_get_the_same_verdict() {
    let mut random = Random(0x2026_1124_0000_0002);
    for committee in committees(&mut random) {
        let everybody: Vec<usize> = (0..committee.set.len()).collect();
        let good =
            FinalityCertificate::decode(&committee.sign(&mut random, &everybody).encode()).unwrap();
        assert!(committee.agree(&good.encode(), "everybody signed"));
        let refuse = |forged: &FinalityCertificate, what| {
            assert!(!committee.agree(&forged.encode(), what), "{what} was accepted");
        };
        // Fields that are signed, one after another.
        refuse(&FinalityCertificate { epoch: good.epoch ^ 1, ..good.clone() }, "another epoch");
        refuse(&FinalityCertificate { view: good.view ^ 1, ..good.clone() }, "another view");
        refuse(
            &FinalityCertificate { parent_view: good.parent_view ^ 1, ..good.clone() },
            "another parent",
        );
        refuse(&FinalityCertificate { payload: B256::ZERO, ..good.clone() }, "another payload");
        // Signers that are not the ones who signed.
        if committee.set.len() > 1 {
            refuse(
                &FinalityCertificate { signers: everybody[1..].to_vec(), ..good.clone() },
                "a signer less",
            );
        }
        let larger = FinalityCertificate { seats: good.seats + 1, ..good.clone() };
        refuse(&larger, "a set of another size");
        assert!(matches!(
            verify_certificate(&committee.set, GENESIS, &larger.encode()),
            Err(Error::CertificateSetSize { .. })
        ));
        // Points: negated, doubled, identity, x without a point, outside of the subgroup.
        let point = G1::decode(Bytes::copy_from_slice(&good.signature)).unwrap();
        let with = |point: [u8; 48]| FinalityCertificate { signature: point, ..good.clone() };
        refuse(&with((-point).encode().as_ref().try_into().unwrap()), "negated signature");
        refuse(&with((point + &point).encode().as_ref().try_into().unwrap()), "doubled signature");
        refuse(&with(G1::zero().encode().as_ref().try_into().unwrap()), "identity signature");
        for byte in 0..=255 {
            let mut x = [0; 48];
            x[0] = 0x80;
            x[47] = byte;
            refuse(&with(x), "small x");
        }
        refuse(&with([0xff; 48]), "x above the field");
        // Another kind of vote.
        let round = Round::new(Epoch::new(0), View::new(9));
        let proposal = Proposal::new(round, View::new(8), sha256::Digest([1; 32]));
        let votes = everybody.iter().map(|seat| {
            Notarize::sign(&committee.signers[*seat], proposal.clone()).unwrap().attestation
        });
        use commonware_cryptography::certificate::Scheme as _;
        let votes: Vec<_> = votes.collect();
        let notarized =
            committee.verifier.assemble(non_empty![@votes.into_iter()], &Sequential).unwrap();
        let forged = Certificate { proposal, certificate: notarized };
        assert!(!committee.agree(&forged.encode(), "votes for notarisation"));
    }
}

#[test]
fn less_than_a_quorum_is_refused_with_a_sound_signature() {
    let mut random = Random(0x2026_1124_0000_0003);
    for committee in committees(&mut random) {
        let quorum = committee.set.quorum();
        let proposal = Proposal::new(
            Round::new(Epoch::new(0), View::new(2)),
            View::new(1),
            sha256::Digest(random.bytes()),
        );
        for signers in 1..=committee.set.len() {
            let mut sum = G1::zero();
            for scheme in &committee.signers[..signers] {
                let vote = Finalize::sign(scheme, proposal.clone()).unwrap();
                sum += vote.attestation.signature.get().unwrap();
            }
            let certificate = FinalityCertificate {
                epoch: 0,
                view: 2,
                parent_view: 1,
                payload: proposal.payload.0.into(),
                signers: (0..signers).collect(),
                seats: committee.set.len().try_into().unwrap(),
                signature: sum.encode().as_ref().try_into().unwrap(),
            };
            assert_eq!(
                committee.agree(&certificate.encode(), "so many signers"),
                signers >= quorum
            );
            if signers < quorum {
                let verdict = verify_certificate(&committee.set, GENESIS, &certificate.encode());
                assert_eq!(verdict, Err(Error::CertificateQuorum { signers, quorum }));
            }
        }
    }
}

#[test]
fn certificates_of_another_chain_or_set_are_refused() {
    let mut random = Random(0x2026_1124_0000_0004);
    let (ours, others) = (Committee::new(&mut random, 4), Committee::new(&mut random, 4));
    let bytes = ours.sign(&mut random, &[0, 1, 2]).encode();
    assert!(verify_certificate(&ours.set, GENESIS, &bytes).is_ok());
    let elsewhere = verify_certificate(&ours.set, B256::ZERO, &bytes);
    assert_eq!(elsewhere, Err(Error::CertificateSignature));
    assert_eq!(verify_certificate(&others.set, GENESIS, &bytes), Err(Error::CertificateSignature));
}

#[test]
fn a_rogue_key_would_forge_but_has_no_proof() {
    let mut random = Random(0x2026_1124_0000_0005);
    let committee = Committee::new(&mut random, 4);
    // The attacker publishes its key minus everybody else's; the sum of all keys is then its own.
    let attacker = Private::decode(Bytes::copy_from_slice(&[7; 32])).unwrap();
    let mut rogue = ops::compute_public::<MinSig>(&attacker);
    for validator in committee.set.validators() {
        rogue -= &G2::decode(Bytes::copy_from_slice(&validator.public_key)).unwrap();
    }
    let mut validators = committee.set.validators().to_vec();
    for possession in [
        // The best it has: a proof for the key it knows the secret of, or somebody else's.
        ops::sign_proof_of_possession::<MinSig>(&attacker, domain::VALIDATOR_POSSESSION),
        G1::decode(Bytes::copy_from_slice(&validators[0].possession)).unwrap(),
    ] {
        validators.push(Validator {
            identity: [0xff; 32],
            public_key: rogue.encode().as_ref().try_into().unwrap(),
            possession: possession.encode().as_ref().try_into().unwrap(),
        });
        assert_eq!(
            ValidatorSet::new(validators.clone()).unwrap_err(),
            Error::ValidatorPossession { seat: 4 }
        );
        validators.pop();
    }
}

/// The vectors of the light crate's tests: certificates with the headers from the certified block downwards. They
/// depend on nothing but the seed. `OG_WRITE_VECTORS=1` writes them anew.
#[test]
fn the_committed_vectors_are_what_this_code_makes() {
    let mut random = Random(0x2026_1124_0000_0006);
    let committee = Committee::new(&mut random, 4);
    let mut parent_hash = GENESIS;
    let mut chain = Vec::new();
    for number in 1..=5 {
        let header = alloy_consensus::Header {
            parent_hash,
            number,
            timestamp: 1_763_985_600 + number,
            gas_limit: 60_000_000,
            state_root: B256::from(random.bytes()),
            extra_data: 250_u16.to_be_bytes().to_vec().into(),
            base_fee_per_gas: Some(7),
            withdrawals_root: Some(B256::ZERO),
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            parent_beacon_block_root: Some(B256::ZERO),
            requests_hash: Some(B256::ZERO),
            ..alloy_consensus::Header::default()
        };
        parent_hash = header.hash_slow();
        chain.push((header.hash_slow(), alloy_rlp::encode(&header)));
    }
    let cases = [(1, 0), (3, 2), (5, 4)].map(|(top, depth): (usize, usize)| {
        let view = View::new(u64::try_from(top).unwrap() * 300);
        let proposal = Proposal::new(
            Round::new(Epoch::new(0), view),
            View::new(view.get() - 1),
            sha256::Digest(chain[top - 1].0.0),
        );
        let votes: Vec<_> = [0, 1, 3]
            .iter()
            .map(|seat: &usize| Finalize::sign(&committee.signers[*seat], proposal.clone()).unwrap())
            .collect();
        let certificate: Certificate =
            Finalization::from_finalizes(&committee.verifier, non_empty![@votes.iter()], &Sequential).unwrap();
        let certificate = certificate.encode();
        let headers: Vec<_> = chain[top - 1 - depth..top].iter().rev().map(|(_, rlp)| rlp.clone()).collect();
        og_light::verify_finality(&committee.set, GENESIS, &certificate, &headers).unwrap();
        serde_json::json!({
            "certificate": format!("0x{}", hex::encode(&certificate)),
            "headers": headers.iter().map(|rlp| format!("0x{}", hex::encode(rlp))).collect::<Vec<_>>(),
        })
    });
    let vectors = serde_json::json!({
        "genesis_hash": GENESIS.to_string(),
        "validators": committee.set.validators().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "cases": cases,
    });
    let text = serde_json::to_string_pretty(&vectors).unwrap() + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../light/tests/vectors/finality.json");
    if std::env::var_os("OG_WRITE_VECTORS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), text);
}
