//! The bundle (`.ogp`): one file with everything that is needed to check a receipt offline, except the trust
//! anchors, which are the verifier's own.
//!
//! Eight magic bytes, then one deterministic CBOR map; see `docs/spec/receipt.md`.

use alloy_primitives::{B256, Bytes};
use og_primitives::cbor::{Rules, Value};

use crate::Error;
use crate::fields::{Fields, to_bytes, to_hash};
use crate::payment::PAYMENT_BYTES_MAX;
use crate::receipt::RECEIPT_BYTES_MAX;

/// The first bytes of every bundle. The first is no text, and the line ends show a file damaged by conversion.
pub const MAGIC: [u8; 8] = *b"\x89OGP\r\n\x1a\n";

/// Version of the format.
pub const VERSION: u64 = 1;

/// Most bytes of a bundle.
pub const BUNDLE_BYTES_MAX: usize = 4 << 20;

const EVIDENCE_BYTES_MAX: usize = og_attest::nitro::DOCUMENT_BYTES_MAX;
const CERTIFICATE_BYTES_MAX: usize = og_attest::legacy::CERTIFICATE_BYTES_MAX;
const KEY_BYTES_MAX: usize = og_attest::legacy::KEY_BYTES_MAX;
const RECORD_BYTES_MAX: usize = 4_096;
const HEADERS_MAX: usize = og_light::finality::HEADERS_MAX;
const HEADER_BYTES_MAX: usize = og_light::header::HEADER_LEN_MAX;
const FINALITY_BYTES_MAX: usize = og_light::certificate::CERTIFICATE_LEN_MAX;
/// A path in a trie has at most one node per nibble of its key, and a leaf.
const PROOF_NODES_MAX: usize = 65;
/// A leaf of a receipts trie holds all logs of a transaction.
const NODE_BYTES_MAX: usize = 1 << 20;
/// Trees of up to 2^32 leaves.
const INCLUSION_MAX: usize = 32;

/// Whether `bytes` begin like a bundle.
pub fn is_bundle(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Everything about one answer that can be checked without asking anyone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle {
    /// The receipt.
    pub receipt: Bytes,
    /// The attestation document with which the enclave registered.
    pub evidence: Bytes,
    /// DER SubjectPublicKeyInfo of the enclave's legacy RSA key.
    pub signing_key: Bytes,
    /// DER of the enclave's TLS certificate.
    pub tls_certificate: Bytes,
    /// Proof that the enclave is registered. Only a receipt of mode `private` may lack it.
    pub chain: Option<ChainProof>,
    /// Proof that the receipt is settled. A receipt of mode `private` has none, any other must have it.
    pub settlement: Option<SettlementProof>,
    /// The signed payment transaction; none when nothing was to pay.
    pub payment: Option<Bytes>,
}

/// A final block, and what its state says about the enclave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChainProof {
    /// RLP headers from the certified block down to the one that the proofs are for.
    pub headers: Vec<Bytes>,
    /// The finality certificate of the first header.
    pub certificate: Bytes,
    /// ABI encoding of the registry's record of the enclave.
    pub record: Bytes,
    /// Proof of the registry's account.
    pub account_proof: Vec<Bytes>,
    /// Proof of the slot that holds the record's hash.
    pub record_proof: Vec<Bytes>,
    /// Proof of the slot that holds the enclave's standing.
    pub standing_proof: Vec<Bytes>,
}

/// The log by which the relay settled the receipt, in the block of [`ChainProof`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SettlementProof {
    /// Index of the transaction in its block.
    pub transaction_index: u64,
    /// Index of the log in that transaction's receipt.
    pub log_index: u64,
    /// Proof of that transaction's receipt.
    pub receipt_proof: Vec<Bytes>,
    /// Siblings from the leaf up to the batch's root.
    pub inclusion: Vec<B256>,
}

impl Bundle {
    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let bytes = |bytes: &Bytes| Value::bytes(bytes.to_vec());
        let mut entries = vec![
            (1, Value::Uint(VERSION)),
            (2, bytes(&self.receipt)),
            (3, bytes(&self.evidence)),
            (4, bytes(&self.signing_key)),
            (5, bytes(&self.tls_certificate)),
        ];
        entries.extend(self.chain.as_ref().map(|chain| (6, chain.to_cbor())));
        entries.extend(self.settlement.as_ref().map(|settlement| (7, settlement.to_cbor())));
        entries.extend(self.payment.as_ref().map(|payment| (8, bytes(payment))));
        [&MAGIC[..], &map(entries).encode()].concat()
    }

    /// Reads the bytes of a file. This says nothing about what they claim; see [`crate::verify()`].
    ///
    /// # Errors
    /// When the bytes are no bundle of the current version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (len, max) = (bytes.len(), BUNDLE_BYTES_MAX);
        if len > max {
            return Err(Error::TooLarge { what: "bundle", len, max });
        }
        let body = bytes.strip_prefix(&MAGIC).ok_or(Error::NotABundle)?;
        let rules = Rules {
            input_bytes_max: BUNDLE_BYTES_MAX,
            depth_max: 3,
            items_max: 4_096,
            ..Rules::DETERMINISTIC
        };
        let value =
            Value::decode(body, rules).map_err(|source| Error::Cbor { what: "bundle", source })?;
        let mut fields = Fields::of("bundle", value)?;
        if fields.uint(1, "version")? != VERSION {
            return Err(Error::field("version", "is unknown"));
        }
        let bundle = Self {
            receipt: fields.bytes(2, "receipt", RECEIPT_BYTES_MAX)?,
            evidence: fields.bytes(3, "evidence", EVIDENCE_BYTES_MAX)?,
            signing_key: fields.bytes(4, "signing_key", KEY_BYTES_MAX)?,
            tls_certificate: fields.bytes(5, "tls_certificate", CERTIFICATE_BYTES_MAX)?,
            chain: fields.optional(6).map(ChainProof::from_cbor).transpose()?,
            settlement: fields.optional(7).map(SettlementProof::from_cbor).transpose()?,
            payment: fields
                .optional(8)
                .map(|value| to_bytes(value, "payment", PAYMENT_BYTES_MAX))
                .transpose()?,
        };
        fields.finish()?;
        Ok(bundle)
    }
}

impl ChainProof {
    fn to_cbor(&self) -> Value {
        map(vec![
            (1, list(&self.headers)),
            (2, Value::bytes(self.certificate.to_vec())),
            (3, Value::bytes(self.record.to_vec())),
            (4, list(&self.account_proof)),
            (5, list(&self.record_proof)),
            (6, list(&self.standing_proof)),
        ])
    }

    fn from_cbor(value: Value) -> Result<Self, Error> {
        let mut fields = Fields::of("chain", value)?;
        let chain = Self {
            headers: fields.list(1, "headers", HEADERS_MAX, |header| {
                to_bytes(header, "header", HEADER_BYTES_MAX)
            })?,
            certificate: fields.bytes(2, "certificate", FINALITY_BYTES_MAX)?,
            record: fields.bytes(3, "record", RECORD_BYTES_MAX)?,
            account_proof: nodes(&mut fields, 4, "account_proof")?,
            record_proof: nodes(&mut fields, 5, "record_proof")?,
            standing_proof: nodes(&mut fields, 6, "standing_proof")?,
        };
        fields.finish()?;
        Ok(chain)
    }
}

impl SettlementProof {
    fn to_cbor(&self) -> Value {
        let inclusion = self.inclusion.iter().map(|hash| Value::bytes(hash.to_vec())).collect();
        map(vec![
            (1, Value::Uint(self.transaction_index)),
            (2, Value::Uint(self.log_index)),
            (3, list(&self.receipt_proof)),
            (4, Value::Array(inclusion)),
        ])
    }

    fn from_cbor(value: Value) -> Result<Self, Error> {
        let mut fields = Fields::of("settlement", value)?;
        let settlement = Self {
            transaction_index: fields.uint(1, "transaction_index")?,
            log_index: fields.uint(2, "log_index")?,
            receipt_proof: nodes(&mut fields, 3, "receipt_proof")?,
            inclusion: fields
                .list(4, "inclusion", INCLUSION_MAX, |hash| to_hash(&hash, "inclusion"))?,
        };
        fields.finish()?;
        Ok(settlement)
    }
}

fn nodes(fields: &mut Fields, label: u64, name: &'static str) -> Result<Vec<Bytes>, Error> {
    fields.list(label, name, PROOF_NODES_MAX, |node| to_bytes(node, name, NODE_BYTES_MAX))
}

fn list(items: &[Bytes]) -> Value {
    Value::Array(items.iter().map(|item| Value::bytes(item.to_vec())).collect())
}

fn map(entries: Vec<(u64, Value)>) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (Value::Uint(key), value)).collect())
}
