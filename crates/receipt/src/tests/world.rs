//! A small world built from pure parts: validators, one block of a chain, a registered **simulated** enclave, a
//! settled batch and a payment. Everything follows from constants, so the bytes are the same in every run.

mod bls;
mod trie;

use crate::digest::{self, StreamDigest};
use crate::{
    Bundle, ChainProof, Claims, Engine, Leaf, Receipt, ResponseForm, SettlementMode,
    SettlementProof, TrustAnchors, TruthLevel, UnitPrices, Usage, assemble,
};
use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, U256, address, keccak256};
use alloy_rlp::Encodable;
use alloy_sol_types::{SolCall, SolEvent, SolValue};
use ed25519_dalek::SigningKey;
use og_attest::keys::{BoundKeys, KeyBinding};
use og_attest::roots::DEVELOPMENT;
use og_attest::simulated::{Authority, Measurements, Statement};
use og_contracts::IInferenceSettlementRelay::ReceiptSettled;
use og_contracts::IX402UptoPermit2Proxy::{
    PermitTransferFrom, TokenPermissions, Witness, settleCall,
};
use og_contracts::addresses::{SETTLEMENT_RELAY, TEE_REGISTRY, USDC, X402_UPTO_PROXY};
use og_contracts::registry::{
    Registration, TeeRecord, record_hash, record_slot, registration_nonce, standing_slot,
};
use og_light::certificate::FinalityCertificate;
use og_primitives::TeeId;
use og_primitives::merkle::MerkleTree;
use og_primitives::networks::{BASE_CHAIN_ID, OPENGRADIENT_CHAIN_ID};

/// When the enclave attested itself, in seconds.
pub(super) const ATTESTED_AT: u64 = 1_780_000_000;
/// When the block that registered it was made.
pub(super) const REGISTERED_AT: u64 = ATTESTED_AT + 4;
/// When it answered.
pub(super) const ANSWERED_AT: u64 = ATTESTED_AT + 1_000;

const OWNER: Address = address!("00000000000000000000000000000000000000a1");
const PAY_TO: Address = address!("00000000000000000000000000000000000000a2");
const PAYER: Address = address!("00000000000000000000000000000000000000a3");
const ENDPOINT: &str = "https://127.0.0.1:8443";

// Two primes of a key that is used nowhere else.
const P: &str = "de0e10bae4cd17d7e2681cae19236132771239d1873b5a0802ba1cd5d45ea1a16b035b9e84d932ea91bb3f60685bca8c\
                 711f0928c5a80655145754059c56520749a2f5a9aef3c0e1e70db7174da27b9bbb608d4beac1916cc686a86bee8080f7\
                 c4c9845093b40159dcda5b3a2ee877e08c61579ef0d64fe87a279d231cd9ba17";
const Q: &str = "d868aea1895970c164d9dd1292f8dafebf02fe21f41dd72481cd0cc1ffeeed0b0fe81c098c9578e59d0e5091369ce003\
                 c141d74418b9d90b1f6304f791b5a2d1b08085385e534031f42e394a415ec499f80434c42b1ff49ddb73bced205a0b70\
                 733ba4acff96c979d5fd27a8871a8c6a42037b2d031f7cb5037ab204ceb2d77d";

/// What may differ between worlds.
#[derive(Clone)]
pub(super) struct Plan {
    /// Seed of the validators' keys.
    pub(super) validators_seed: u8,
    pub(super) genesis_hash: B256,
    pub(super) mode: SettlementMode,
    /// Seconds between the evidence and its registration.
    pub(super) registered_at: u64,
    /// The word in the registry's standing slot.
    pub(super) standing: U256,
    /// Changes the claims before they are signed.
    pub(super) claims: fn(&mut Claims),
    /// Changes the registry's record before it is hashed into the state.
    pub(super) record: fn(&mut TeeRecord),
    /// Changes the payment call before it is signed.
    pub(super) payment: fn(&mut settleCall),
    /// Signs the receipt instead of the attested key.
    pub(super) receipt_key: Option<[u8; 32]>,
    /// Key of the account that sends the payment.
    pub(super) payment_key: [u8; 32],
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            validators_seed: 1,
            genesis_hash: B256::repeat_byte(0x6e),
            mode: SettlementMode::Batch,
            registered_at: REGISTERED_AT,
            standing: U256::from(REGISTERED_AT),
            claims: |_| {},
            record: |_| {},
            payment: |_| {},
            receipt_key: None,
            payment_key: PAYMENT_KEY,
        }
    }
}

const PAYMENT_KEY: [u8; 32] = [0x51; 32];
const RECEIPT_KEY: [u8; 32] = [0x52; 32];

pub(super) struct World {
    pub(super) bundle: Bundle,
    pub(super) anchors: TrustAnchors,
    pub(super) receipt: Receipt,
}

/// Builds the world of a plan: a bundle, and the anchors of someone who trusts its chain.
pub(super) fn world(plan: &Plan) -> World {
    let rsa_key = rsa_key();
    let signing_key = rsa_spki(&rsa_key);
    let tee_id = TeeId::from_signing_key_der(&signing_key);
    // Any certificate serves as the enclave's TLS certificate here.
    let tls_certificate = Authority::from_seed(b"tls").root_der().to_vec();
    let receipt_key = SigningKey::from_bytes(&RECEIPT_KEY);
    let keys = BoundKeys::new(receipt_key.verifying_key().to_bytes(), [0x53; 32]);

    let nonce = registration_nonce(&Registration {
        owner: OWNER,
        chain_id: OPENGRADIENT_CHAIN_ID,
        genesis_hash: plan.genesis_hash,
        registry: TEE_REGISTRY,
        pay_to: PAY_TO,
        endpoint: ENDPOINT,
        tee_type: 0,
    });
    let measurements = Measurements::of_image("og-receipt tests");
    let evidence = Authority::development().document(&Statement {
        module_id: "SIMULATED-1",
        timestamp_ms: ATTESTED_AT * 1_000 + 250,
        measurements: &measurements,
        user_data: &KeyBinding::of(&tls_certificate, &signing_key).to_user_data(),
        public_key: &keys.encode(),
        nonce: nonce.as_slice(),
    });
    let attestation =
        og_attest::verify(&evidence, &og_attest::Policy::new([DEVELOPMENT]), ATTESTED_AT).unwrap();

    let mut claims = claims(plan, tee_id, &rsa_key);
    (plan.claims)(&mut claims);
    let signer = plan.receipt_key.map_or(receipt_key, |seed| SigningKey::from_bytes(&seed));
    let receipt = Receipt::sign(claims.clone(), &signer).unwrap();

    let mut record = TeeRecord {
        teeId: tee_id.0,
        owner: OWNER,
        paymentAddress: PAY_TO,
        endpoint: ENDPOINT.to_owned(),
        publicKeyHash: keccak256(&signing_key),
        tlsCertificateHash: keccak256(&tls_certificate),
        pcrHash: measurements.pcr_hash(),
        teeType: 0,
        registeredAt: plan.registered_at,
        attestedAtMs: attestation.timestamp_ms,
        payloadHash: attestation.payload_hash,
        receiptKey: keys.receipt_key.to_vec().into(),
        hpkeKey: keys.hpke_key.into(),
        simulated: true,
    };
    (plan.record)(&mut record);

    let (chain, settlement) = block(plan, &record, &receipt);
    let private = plan.mode == SettlementMode::Private;
    let bundle = Bundle {
        receipt: receipt.to_bytes().to_vec().into(),
        evidence: evidence.into(),
        signing_key: signing_key.into(),
        tls_certificate: tls_certificate.into(),
        chain: Some(chain),
        settlement: (!private).then_some(settlement),
        payment: Some(payment(plan, &claims).into()),
    };
    let anchors = TrustAnchors {
        chain_id: OPENGRADIENT_CHAIN_ID,
        genesis_hash: plan.genesis_hash,
        validators: bls::set(plan.validators_seed),
        tee_roots: vec![DEVELOPMENT],
        registry: TEE_REGISTRY,
        relay: SETTLEMENT_RELAY,
    };
    World { bundle, anchors, receipt }
}

fn claims(plan: &Plan, tee_id: TeeId, rsa_key: &rsa::PrivateKey) -> Claims {
    let mut stream = StreamDigest::new();
    stream.push(br#"{"choices":[{"delta":{"content":"Hello"}}]}"#);
    let prices = UnitPrices {
        prompt_per_million: U256::from(150_000),
        completion_per_million: U256::from(600_000),
    };
    let usage = Usage { prompt_tokens: 21, completion_tokens: 7 };
    let mut leaf = Leaf {
        tee_id,
        input_hash: keccak256("input"),
        output_hash: keccak256("output"),
        timestamp: ANSWERED_AT,
        signature: Bytes::new(),
    };
    leaf.signature = rsa_sign(rsa_key, leaf.message_hash());
    Claims {
        chain_id: OPENGRADIENT_CHAIN_ID,
        genesis_hash: plan.genesis_hash,
        registry: TEE_REGISTRY,
        tee_id,
        mode: plan.mode,
        leaf,
        request_digest: digest::request(br#"{"model":"smollm2-135m-instruct","messages":[]}"#),
        response_digest: stream.finish(),
        response_form: ResponseForm::Stream,
        model_requested: "smollm2-135m-instruct".to_owned(),
        model_served: "smollm2-135m-instruct".to_owned(),
        engine: Engine {
            name: "og-infer".to_owned(),
            version: "0.1.0".to_owned(),
            isa: "x86-64-v3".to_owned(),
            quantisation: "q8_0".to_owned(),
            weights_sha256: Some(B256::repeat_byte(0x77)),
        },
        usage,
        prices,
        total: prices.total(&usage).unwrap(),
        asset: USDC,
        payment_chain_id: BASE_CHAIN_ID,
        payer: PAYER,
        permit_nonce: U256::from(0x1234_5678_9abc_u64) << 128,
        pay_to: PAY_TO,
        facilitator: account(&PAYMENT_KEY),
        truth: TruthLevel::WeightsMeasured,
        simulated: true,
        received_at_ms: ANSWERED_AT * 1_000 - 700,
        finished_at_ms: ANSWERED_AT * 1_000 + 100,
    }
}

/// A final block whose state holds the record and whose receipts settle the receipt among others.
fn block(plan: &Plan, record: &TeeRecord, receipt: &Receipt) -> (ChainProof, SettlementProof) {
    let tee_id = receipt.claims().tee_id;
    let word = |word: B256| alloy_rlp::encode(U256::from_be_bytes(word.0));
    let mut storage = vec![
        (record_slot(tee_id), word(record_hash(record))),
        (standing_slot(tee_id), alloy_rlp::encode(plan.standing)),
    ];
    for other in 1..40_u8 {
        storage.push((B256::repeat_byte(other), word(B256::repeat_byte(other))));
    }
    let storage = trie::Trie::hashed(storage.iter().map(|(k, v)| (k.as_slice(), v.clone())));
    let account = |storage_root: B256, nonce: u64| {
        let mut fields = Vec::new();
        nonce.encode(&mut fields);
        U256::from(7).encode(&mut fields);
        storage_root.encode(&mut fields);
        keccak256("code").encode(&mut fields);
        list(&fields)
    };
    let mut accounts = vec![(TEE_REGISTRY, account(storage.root, 1))];
    for other in 1..40_u8 {
        let root = alloy_trie::EMPTY_ROOT_HASH;
        accounts.push((Address::repeat_byte(other), account(root, other.into())));
    }
    let state = trie::Trie::hashed(accounts.iter().map(|(k, v)| (k.as_slice(), v.clone())));

    let leaf = receipt.claims().leaf.hash();
    let tree =
        MerkleTree::new(vec![leaf, keccak256("another leaf"), keccak256("a third")]).unwrap();
    let log = |digest: B256, leaf: B256| {
        let event = ReceiptSettled {
            receiptDigest: digest,
            merkleRoot: tree.root(),
            teeId: tee_id.0,
            leaf,
        };
        alloy_primitives::Log { address: SETTLEMENT_RELAY, data: event.encode_log_data() }
    };
    let logs = [
        log(keccak256("another receipt"), keccak256("another leaf")),
        log(receipt.digest().0, leaf),
    ];
    let receipts: Vec<Bytes> =
        vec![encode_receipt(2, &[]), encode_receipt(2, &logs), encode_receipt(0, &[])];
    let (receipts_root, receipt_proof) = assemble::receipt_proof(&receipts, 1).unwrap();

    let wanted = header(B256::repeat_byte(0x11), 41, state.root, receipts_root);
    // The block is final through its child.
    let child = header(keccak256(&wanted), 42, B256::repeat_byte(0x22), B256::repeat_byte(0x33));
    let certificate = bls::certificate(
        plan.validators_seed,
        plan.genesis_hash,
        FinalityCertificate {
            epoch: 0,
            view: 45,
            parent_view: 44,
            payload: keccak256(&child),
            signers: vec![0, 2, 3],
            seats: 4,
            signature: [0; 48],
        },
    );
    let chain = ChainProof {
        headers: vec![child.into(), wanted.into()],
        certificate: certificate.into(),
        record: record.abi_encode().into(),
        account_proof: state.proof(TEE_REGISTRY.as_slice()),
        record_proof: storage.proof(record_slot(tee_id).as_slice()),
        standing_proof: storage.proof(standing_slot(tee_id).as_slice()),
    };
    let settlement = SettlementProof {
        transaction_index: 1,
        log_index: 1,
        receipt_proof,
        inclusion: tree.proof(&leaf).unwrap(),
    };
    (chain, settlement)
}

fn payment(plan: &Plan, claims: &Claims) -> Vec<u8> {
    let mut call = settleCall {
        permit: PermitTransferFrom {
            permitted: TokenPermissions { token: claims.asset, amount: U256::from(100_000) },
            nonce: claims.permit_nonce,
            deadline: U256::from(ANSWERED_AT + 300),
        },
        amount: claims.total,
        owner: claims.payer,
        witness: Witness {
            to: claims.pay_to,
            facilitator: claims.facilitator,
            validAfter: U256::ZERO,
        },
        signature: vec![0x44; 65].into(),
    };
    (plan.payment)(&mut call);
    let transaction = TxEip1559 {
        chain_id: BASE_CHAIN_ID,
        nonce: 3,
        gas_limit: 300_000,
        max_fee_per_gas: 2_000_000_000,
        max_priority_fee_per_gas: 1_000_000,
        to: X402_UPTO_PROXY.into(),
        value: U256::ZERO,
        access_list: Default::default(),
        input: call.abi_encode().into(),
    };
    let key = k256::ecdsa::SigningKey::from_slice(&plan.payment_key).unwrap();
    let hash = transaction.signature_hash();
    let (signature, recovery) = key.sign_prehash_recoverable(hash.as_slice());
    let signature = Signature::from_bytes_and_parity(&signature.to_bytes(), recovery.is_y_odd());
    transaction.into_signed(signature).encoded_2718()
}

fn account(key: &[u8; 32]) -> Address {
    let key = k256::ecdsa::SigningKey::from_slice(key).unwrap();
    Address::from_raw_public_key(&key.verifying_key().to_sec1_point(false).as_bytes()[1..])
}

fn encode_receipt(tx_type: u8, logs: &[alloy_primitives::Log]) -> Bytes {
    let mut fields = Vec::new();
    true.encode(&mut fields);
    21_000_u64.encode(&mut fields);
    alloy_primitives::Bloom::ZERO.encode(&mut fields);
    alloy_rlp::encode_list(logs, &mut fields);
    let body = list(&fields);
    if tx_type == 0 { body.into() } else { [&[tx_type][..], &body].concat().into() }
}

fn header(parent: B256, number: u64, state_root: B256, receipts_root: B256) -> Vec<u8> {
    let mut fields = Vec::new();
    parent.encode(&mut fields);
    B256::ZERO.encode(&mut fields);
    Address::ZERO.encode(&mut fields);
    state_root.encode(&mut fields);
    B256::ZERO.encode(&mut fields);
    receipts_root.encode(&mut fields);
    alloy_primitives::Bloom::ZERO.encode(&mut fields);
    U256::ZERO.encode(&mut fields);
    number.encode(&mut fields);
    60_000_000_u64.encode(&mut fields);
    21_000_u64.encode(&mut fields);
    (ANSWERED_AT + 2).encode(&mut fields);
    Bytes::from_static(&[0, 0, 1]).encode(&mut fields);
    B256::ZERO.encode(&mut fields);
    alloy_primitives::B64::ZERO.encode(&mut fields);
    1_000_000_u64.encode(&mut fields);
    list(&fields)
}

fn list(fields: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    alloy_rlp::Header { list: true, payload_length: fields.len() }.encode(&mut out);
    out.extend_from_slice(fields);
    out
}

fn rsa_key() -> rsa::PrivateKey {
    let number = |digits: &str| {
        rsa::BoxedUint::from_be_slice_vartime(&alloy_primitives::hex::decode(digits).unwrap())
    };
    rsa::PrivateKey::from_p_q(number(P), number(Q), rsa::BoxedUint::from(65_537_u64)).unwrap()
}

/// DER SubjectPublicKeyInfo of a 2048-bit key with e = 65537.
fn rsa_spki(key: &rsa::PrivateKey) -> Vec<u8> {
    use rsa::traits::PublicKeyParts;
    let head = alloy_primitives::hex!(
        "30820122300d06092a864886f70d01010105000382010f003082010a0282010100"
    );
    let modulus = key.n().to_be_bytes();
    [&head[..], &modulus, &[2, 3, 1, 0, 1]].concat()
}

fn rsa_sign(key: &rsa::PrivateKey, message: B256) -> Bytes {
    use rand::SeedableRng;
    use rsa::signature::{RandomizedSigner, SignatureEncoding};
    // A fixed salt keeps the vectors the same; real signers must draw it at random.
    let mut salt = rand::rngs::StdRng::seed_from_u64(7);
    let signer = rsa::pss::SigningKey::<sha2::Sha256>::new_with_salt_len(key.clone(), 32);
    signer.sign_with_rng(&mut salt, message.as_slice()).to_vec().into()
}
