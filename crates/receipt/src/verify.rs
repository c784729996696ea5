//! The checks on a bundle, in order, against the verifier's own trust anchors.
//!
//! Every check has a stable name ([`name`]). The first one that fails ends the run, because those after it build
//! on what it should have shown.

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::{SolEvent, SolValue};
use og_attest::cose::Sign1;
use og_attest::keys::BoundKeys;
use og_attest::{Attestation, Policy, Root, legacy, nitro};
use og_contracts::IInferenceSettlementRelay::ReceiptSettled;
use og_contracts::registry::{
    Registration, Standing, TeeRecord, record_slot, registration_nonce, standing_slot,
};
use og_light::{Header, ValidatorSet, verify_account, verify_finality, verify_log, verify_storage};
use og_primitives::TeeId;
use og_primitives::merkle::process_proof;
use serde::Serialize;

use crate::bundle::{Bundle, ChainProof, SettlementProof};
use crate::payment::Payment;
use crate::{Claims, Receipt, SettlementMode, TruthLevel};

/// Names of the checks, and what each one shows when it passes.
pub mod name {
    /// Defines each name once, with its meaning as documentation and as text.
    macro_rules! names {
        ($(#[doc = $meaning:literal] $constant:ident = $name:literal;)+) => {
            $(#[doc = $meaning] pub const $constant: &str = $name;)+

            /// Every name with its meaning, in the order of the checks.
            pub const MEANINGS: &[(&str, &str)] = &[$(($name, $meaning)),+];
        };
    }

    names! {
        /// The bytes are a bundle of the current version.
        BUNDLE_FORMAT = "bundle.format";
        /// The receipt is well-formed.
        RECEIPT_FORMAT = "receipt.format";
        /// The total follows from usage and prices, and the times fit together.
        RECEIPT_TERMS = "receipt.terms";
        /// The truth level is one that a bundle can bear out.
        RECEIPT_TRUTH = "receipt.truth";
        /// The verifier has trust anchors.
        TRUST_ANCHORS = "trust.anchors";
        /// The receipt is for the chain and registry that the verifier trusts.
        RECEIPT_CHAIN = "receipt.chain";
        /// The evidence is genuine at its own time and binds the signing key and the TLS certificate.
        EVIDENCE_DOCUMENT = "evidence.document";
        /// The evidence binds a receipt key.
        EVIDENCE_KEYS = "evidence.keys";
        /// The receipt names the enclave that the evidence is about, simulated or not.
        RECEIPT_ENCLAVE = "receipt.enclave";
        /// The receipt is signed with the attested receipt key.
        RECEIPT_SIGNATURE = "receipt.signature";
        /// The legacy statement is signed with the attested RSA key.
        LEAF_SIGNATURE = "leaf.signature";
        /// The bundle has the parts that the receipt's mode calls for.
        BUNDLE_PARTS = "bundle.parts";
        /// A quorum of the trusted validators finalised the block.
        FINALITY = "finality";
        /// The registry's account is in the block's state.
        REGISTRY_ACCOUNT = "registry.account";
        /// The registry holds this record of the enclave.
        REGISTRY_RECORD = "registry.record";
        /// The record says what the evidence and the receipt say.
        REGISTRY_IDENTITY = "registry.identity";
        /// The evidence was made for this registration.
        REGISTRY_NONCE = "registry.nonce";
        /// The registration happened when the evidence was fresh.
        REGISTRY_TIME = "registry.time";
        /// The enclave was in good standing.
        REGISTRY_STANDING = "registry.standing";
        /// The relay's log settles this receipt.
        SETTLEMENT_LOG = "settlement.log";
        /// The leaf is in the settled batch.
        SETTLEMENT_INCLUSION = "settlement.inclusion";
        /// The payment transaction is the one that the receipt speaks of.
        PAYMENT_REFERENCE = "payment.reference";
    }

    /// What the check called `name` shows when it passes; empty for a name that is not one.
    pub fn meaning(name: &str) -> &'static str {
        let mut all = MEANINGS.iter();
        all.find(|(known, _)| *known == name).map_or("", |(_, meaning)| meaning.trim())
    }
}

/// How far the clocks of an enclave and of the chain may differ, in seconds.
const CLOCK_SKEW_SECS: u64 = 60;

/// How long after it was made a document may be used to register, in seconds.
const REGISTRATION_DELAY_SECS_MAX: u64 = 300;

/// What the verifier trusts, from its own side and never from a bundle.
#[derive(Clone, Debug)]
pub struct TrustAnchors {
    /// Chain id of the verification chain.
    pub chain_id: u64,
    /// Hash of its genesis block; the validators' namespace follows from it.
    pub genesis_hash: B256,
    /// Its validators.
    pub validators: ValidatorSet,
    /// Roots of trust for evidence.
    pub tee_roots: Vec<Root>,
    /// The registry of enclaves.
    pub registry: Address,
    /// The settlement relay.
    pub relay: Address,
}

/// What came of one check.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not hold.
    Failed,
    /// Nothing contradicts it, and nothing in the bundle proves it.
    NotProven,
}

/// One check and what came of it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Check {
    /// Its stable name.
    pub name: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// What was found, for people.
    pub detail: String,
}

/// The verdict on a bundle.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No check failed.
    Verified,
    /// A check failed; it is the last one of the report.
    Rejected,
    /// The bytes are no bundle.
    Unreadable,
    /// The verifier has no trust anchors, so nothing could be proven.
    NoTrustAnchor,
}

/// What was checked, in order.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Report {
    /// The checks made; a failed one is the last.
    pub checks: Vec<Check>,
    /// What the receipt says, once it is readable. Trust it only under [`Verdict::Verified`].
    pub claims: Option<Claims>,
    /// Whether the evidence comes from a simulated enclave.
    pub simulated: bool,
    /// Whether the receipt's settlement on chain was proven. A `private` receipt is not anchored.
    pub anchored: bool,
}

impl Report {
    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        match self.checks.last() {
            Some(check) if check.outcome == Outcome::Failed => {
                if check.name == name::BUNDLE_FORMAT {
                    Verdict::Unreadable
                } else {
                    Verdict::Rejected
                }
            }
            Some(check) if check.name == name::TRUST_ANCHORS => Verdict::NoTrustAnchor,
            Some(_) => Verdict::Verified,
            None => Verdict::Unreadable,
        }
    }

    /// The check that failed, if one did.
    pub fn failed(&self) -> Option<&Check> {
        self.checks.last().filter(|check| check.outcome == Outcome::Failed)
    }
}

/// Checks the bytes of a bundle. Total: whatever the bytes are, there is a report.
pub fn verify(bytes: &[u8], anchors: Option<&TrustAnchors>) -> Report {
    let mut run =
        Run { report: Report { checks: vec![], claims: None, simulated: false, anchored: false } };
    // `None` only means that a check failed or that there were no anchors; the report says which.
    let _ended_early = run.bundle(bytes, anchors).is_none();
    run.report
}

struct Run {
    report: Report,
}

impl Run {
    fn bundle(&mut self, bytes: &[u8], anchors: Option<&TrustAnchors>) -> Option<()> {
        let bundle = self.require(name::BUNDLE_FORMAT, Bundle::decode(bytes))?;
        let receipt = self.require(name::RECEIPT_FORMAT, Receipt::decode(&bundle.receipt))?;
        let claims = receipt.claims();
        self.report.claims = Some(claims.clone());
        self.require(name::RECEIPT_TERMS, check_terms(claims))?;
        self.require(name::RECEIPT_TRUTH, check_truth(claims))?;
        let Some(anchors) = anchors else {
            self.not_proven(name::TRUST_ANCHORS, "no trust anchor given: nothing above is proven");
            return None;
        };
        self.require(name::RECEIPT_CHAIN, check_chain(claims, anchors))?;

        let attestation =
            self.require(name::EVIDENCE_DOCUMENT, appraise(&bundle, &anchors.tee_roots))?;
        self.report.simulated = attestation.root.simulated;
        let keys = self.require(name::EVIDENCE_KEYS, attestation.bound_keys())?;
        self.require(name::RECEIPT_ENCLAVE, check_enclave(claims, &bundle, &attestation))?;
        self.require(name::RECEIPT_SIGNATURE, receipt.verify(&keys.receipt_key))?;
        let leaf = &claims.leaf;
        let signed =
            legacy::verify_rsa_pss(&bundle.signing_key, leaf.message_hash(), &leaf.signature);
        self.require(
            name::LEAF_SIGNATURE,
            signed.then_some(()).ok_or("does not verify under the attested signing key"),
        )?;

        self.require(name::BUNDLE_PARTS, check_parts(claims, &bundle))?;
        if let Some(chain) = &bundle.chain {
            let header = self.chain(chain, claims, &bundle, &attestation, &keys, anchors)?;
            if let Some(settlement) = &bundle.settlement {
                self.settlement(settlement, &receipt, &header, anchors)?;
                self.report.anchored = true;
            }
        } else {
            self.not_proven(
                name::REGISTRY_RECORD,
                "unanchored: mode private, and no proof that the enclave is registered",
            );
        }
        if !self.report.anchored {
            self.not_proven(
                name::SETTLEMENT_LOG,
                "unanchored: mode private, nothing about this answer is recorded on chain",
            );
        }
        self.payment(&bundle, claims)
    }

    fn chain(
        &mut self,
        chain: &ChainProof,
        claims: &Claims,
        bundle: &Bundle,
        attestation: &Attestation,
        keys: &BoundKeys,
        anchors: &TrustAnchors,
    ) -> Option<Header> {
        let header = self.require(
            name::FINALITY,
            verify_finality(
                &anchors.validators,
                anchors.genesis_hash,
                &chain.certificate,
                &chain.headers,
            ),
        )?;
        let account = self.require(
            name::REGISTRY_ACCOUNT,
            verify_account(header.state_root, anchors.registry, &chain.account_proof)
                .map_err(|error| error.to_string())
                .and_then(|account| {
                    account.ok_or_else(|| "the registry does not exist".to_owned())
                }),
        )?;
        let record = self.require(
            name::REGISTRY_RECORD,
            prove_record(chain, account.storage_root, claims.tee_id),
        )?;
        self.require(
            name::REGISTRY_IDENTITY,
            check_record(&record, claims, bundle, attestation, keys),
        )?;
        self.require(name::REGISTRY_NONCE, check_nonce(&record, attestation, anchors))?;
        self.require(name::REGISTRY_TIME, check_registration_time(&record, attestation))?;
        self.require(name::REGISTRY_STANDING, prove_standing(chain, account.storage_root, claims))?;
        Some(header)
    }

    fn settlement(
        &mut self,
        settlement: &SettlementProof,
        receipt: &Receipt,
        header: &Header,
        anchors: &TrustAnchors,
    ) -> Option<()> {
        let event = self
            .require(name::SETTLEMENT_LOG, prove_settled(settlement, receipt, header, anchors))?;
        let root = process_proof(receipt.claims().leaf.hash(), &settlement.inclusion);
        self.require(
            name::SETTLEMENT_INCLUSION,
            (root == event.merkleRoot)
                .then_some(())
                .ok_or("the proof does not lead to the settled root"),
        )
    }

    fn payment(&mut self, bundle: &Bundle, claims: &Claims) -> Option<()> {
        let Some(raw) = &bundle.payment else {
            // Whether one must be there was checked with the parts.
            self.passed(name::PAYMENT_REFERENCE, "nothing was to pay".to_owned());
            return Some(());
        };
        let payment = Payment::decode(raw).map_err(|error| error.to_string()).and_then(|payment| {
            payment.require(claims).map_err(str::to_owned)?;
            Ok(payment)
        });
        match payment {
            Ok(payment) => {
                self.not_proven(
                    name::PAYMENT_REFERENCE,
                    &format!(
                        "referenced, not proven: transaction {} on chain {}",
                        payment.transaction_hash, payment.chain_id
                    ),
                );
                Some(())
            }
            Err(problem) => self.require(name::PAYMENT_REFERENCE, Err::<(), _>(problem)),
        }
    }

    fn require<T, E: ToString>(&mut self, name: &'static str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => {
                self.passed(name, String::new());
                Some(value)
            }
            Err(problem) => {
                let detail = problem.to_string();
                self.report.checks.push(Check { name, outcome: Outcome::Failed, detail });
                None
            }
        }
    }

    fn passed(&mut self, name: &'static str, detail: String) {
        self.report.checks.push(Check { name, outcome: Outcome::Passed, detail });
    }

    fn not_proven(&mut self, name: &'static str, detail: &str) {
        let detail = detail.to_owned();
        self.report.checks.push(Check { name, outcome: Outcome::NotProven, detail });
    }
}

fn check_terms(claims: &Claims) -> Result<(), &'static str> {
    if claims.prices.total(&claims.usage) != Some(claims.total) {
        return Err("total is not what usage and unit prices come to");
    }
    if claims.received_at_ms > claims.finished_at_ms {
        return Err("the answer is older than the request");
    }
    if claims.leaf.timestamp.abs_diff(claims.finished_at_ms / 1_000) > CLOCK_SKEW_SECS {
        return Err("the legacy statement was not made when the answer was");
    }
    Ok(())
}

/// A bundle of this version carries evidence about the enclave and nothing about upstreams, replays or proofs.
fn check_truth(claims: &Claims) -> Result<(), &'static str> {
    match claims.truth {
        TruthLevel::Signed | TruthLevel::Handoff => Ok(()),
        TruthLevel::WeightsMeasured if claims.engine.weights_sha256.is_some() => Ok(()),
        TruthLevel::WeightsMeasured => Err("weights-measured without the hash of the weights"),
        TruthLevel::UpstreamEvidenced | TruthLevel::Replayed | TruthLevel::ZkProved => {
            Err("the truth level needs evidence that this bundle cannot carry")
        }
    }
}

fn check_chain(claims: &Claims, anchors: &TrustAnchors) -> Result<(), &'static str> {
    if claims.chain_id != anchors.chain_id {
        return Err("chain id is not the trusted chain's");
    }
    if claims.genesis_hash != anchors.genesis_hash {
        return Err("genesis hash is not the trusted chain's");
    }
    if claims.registry != anchors.registry {
        return Err("registry is not the trusted one");
    }
    Ok(())
}

/// Appraises the evidence by the default policy at the time at which it says it was made.
fn appraise(bundle: &Bundle, roots: &[Root]) -> Result<Attestation, og_attest::Error> {
    let made_secs = nitro::claimed_timestamp_ms(&bundle.evidence)? / 1_000;
    let policy = Policy::new(roots).with_keys(&bundle.tls_certificate, &bundle.signing_key);
    let attestation = nitro::verify(&bundle.evidence, &policy, made_secs)?;
    // A tag would be a second form of the same document.
    if Sign1::decode(&bundle.evidence, nitro::DOCUMENT_BYTES_MAX)?.encode() != bundle.evidence {
        return Err(og_attest::Error::NotSign1("it is not in its untagged form"));
    }
    Ok(attestation)
}

fn check_enclave(
    claims: &Claims,
    bundle: &Bundle,
    attestation: &Attestation,
) -> Result<(), &'static str> {
    if TeeId::from_signing_key_der(&bundle.signing_key) != claims.tee_id {
        return Err("the enclave's id is not the hash of the attested signing key");
    }
    if claims.simulated != attestation.root.simulated {
        return Err("the receipt and the evidence disagree on whether the enclave is simulated");
    }
    if attestation.timestamp_ms > claims.received_at_ms.saturating_add(CLOCK_SKEW_SECS * 1_000) {
        return Err("the evidence is younger than the request");
    }
    Ok(())
}

fn check_parts(claims: &Claims, bundle: &Bundle) -> Result<(), &'static str> {
    match (claims.mode, &bundle.chain, &bundle.settlement) {
        (SettlementMode::Private, _, Some(_)) => {
            return Err("mode private has no settlement, and the bundle holds one");
        }
        (SettlementMode::Private, _, None) => {}
        (SettlementMode::Individual | SettlementMode::Batch, None, _) => {
            return Err("proof of the registration is missing");
        }
        (SettlementMode::Individual | SettlementMode::Batch, _, None) => {
            return Err("proof of the settlement is missing");
        }
        (SettlementMode::Individual | SettlementMode::Batch, Some(_), Some(_)) => {}
    }
    if bundle.payment.is_none() && !claims.total.is_zero() {
        return Err("reference to the payment is missing");
    }
    Ok(())
}

fn prove_record(
    chain: &ChainProof,
    storage_root: B256,
    tee_id: TeeId,
) -> Result<TeeRecord, String> {
    let proven = verify_storage(storage_root, record_slot(tee_id), &chain.record_proof)
        .map_err(|error| error.to_string())?;
    if keccak256(&chain.record) != B256::from(proven) {
        return Err("the registry does not hold this record".to_owned());
    }
    TeeRecord::abi_decode(&chain.record).map_err(|error| error.to_string())
}

fn check_record(
    record: &TeeRecord,
    claims: &Claims,
    bundle: &Bundle,
    attestation: &Attestation,
    keys: &BoundKeys,
) -> Result<(), &'static str> {
    let terms = [
        (record.teeId == claims.tee_id.0, "enclave id differs from the receipt's"),
        (record.paymentAddress == claims.pay_to, "payment address differs from the receipt's"),
        (
            record.publicKeyHash == keccak256(&bundle.signing_key),
            "signing key differs from the attested one",
        ),
        (
            record.tlsCertificateHash == keccak256(&bundle.tls_certificate),
            "TLS certificate differs from the attested one",
        ),
        (record.pcrHash == attestation.pcr_hash, "measurements differ from the attested ones"),
        (record.payloadHash == attestation.payload_hash, "evidence is not the registered one"),
        (record.attestedAtMs == attestation.timestamp_ms, "evidence time differs"),
        (record.receiptKey[..] == keys.receipt_key, "receipt key differs from the attested one"),
        (record.hpkeKey == keys.hpke_key, "HPKE key differs from the attested one"),
        (record.simulated == attestation.root.simulated, "disagrees on whether it is simulated"),
    ];
    terms.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, problem)| Err(problem))
}

fn check_nonce(
    record: &TeeRecord,
    attestation: &Attestation,
    anchors: &TrustAnchors,
) -> Result<(), &'static str> {
    let expected = registration_nonce(&Registration {
        owner: record.owner,
        chain_id: anchors.chain_id,
        genesis_hash: anchors.genesis_hash,
        registry: anchors.registry,
        pay_to: record.paymentAddress,
        endpoint: &record.endpoint,
        tee_type: record.teeType,
    });
    if attestation.nonce.as_deref() == Some(expected.as_slice()) {
        Ok(())
    } else {
        Err("the evidence was made for another registration")
    }
}

fn check_registration_time(
    record: &TeeRecord,
    attestation: &Attestation,
) -> Result<(), &'static str> {
    let made_secs = attestation.timestamp_ms / 1_000;
    let window = made_secs.saturating_sub(CLOCK_SKEW_SECS)
        ..=made_secs.saturating_add(REGISTRATION_DELAY_SECS_MAX);
    if window.contains(&record.registeredAt) {
        Ok(())
    } else {
        Err("registered outside the 60 s before and 300 s after the evidence was made")
    }
}

fn prove_standing(chain: &ChainProof, storage_root: B256, claims: &Claims) -> Result<(), String> {
    let slot = standing_slot(claims.tee_id);
    let word = verify_storage(storage_root, slot, &chain.standing_proof)
        .map_err(|error| error.to_string())?;
    check_standing(&Standing::from_word(word.into()), claims).map_err(str::to_owned)
}

fn check_standing(standing: &Standing, claims: &Claims) -> Result<(), &'static str> {
    let signed_at = claims.leaf.timestamp;
    if standing.banned {
        return Err("the enclave is banned");
    }
    if standing.compromised_since != 0 && signed_at >= standing.compromised_since {
        return Err("the enclave's key is void since before the answer");
    }
    if standing.enabled_at == 0 || standing.enabled_at > signed_at.saturating_add(CLOCK_SKEW_SECS) {
        return Err("the enclave was not in good standing when it answered");
    }
    Ok(())
}

fn prove_settled(
    settlement: &SettlementProof,
    receipt: &Receipt,
    header: &Header,
    anchors: &TrustAnchors,
) -> Result<ReceiptSettled, String> {
    let log_index = usize::try_from(settlement.log_index).map_err(|error| error.to_string())?;
    let log = verify_log(
        header.receipts_root,
        settlement.transaction_index,
        &settlement.receipt_proof,
        log_index,
        anchors.relay,
    )
    .map_err(|error| error.to_string())?;
    let event = ReceiptSettled::decode_log(&log).map_err(|error| error.to_string())?.data;
    let claims = receipt.claims();
    let terms = [
        (event.receiptDigest == receipt.digest().0, "the log settles another receipt"),
        (event.leaf == claims.leaf.hash(), "the log settles another leaf"),
        (event.teeId == claims.tee_id.0, "the log names another enclave"),
    ];
    match terms.iter().find(|(holds, _)| !holds) {
        Some((_, problem)) => Err((*problem).to_owned()),
        None => Ok(event),
    }
}
