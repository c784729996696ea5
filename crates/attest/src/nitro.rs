//! AWS Nitro attestation documents: the payload map and its rules.
//!
//! The map may be indefinite, as AWS emits it, or definite, with its keys in any order; everything inside is
//! definite with shortest heads, and no key stands twice.

use std::collections::BTreeMap;

use alloy_primitives::{B256, keccak256};
use og_primitives::cbor::{Rules, Value};

use crate::keys::{BoundKeys, KeyBinding};
use crate::policy::{Policy, Strictness};
use crate::roots::Root;
use crate::{Error, cose, x509};

/// Most bytes of a document.
pub const DOCUMENT_BYTES_MAX: usize = 16_384;

/// Most certificates in a `cabundle`; AWS sends four.
pub const CABUNDLE_MAX: usize = 8;

/// 2025-01-31T00:00:00Z in milliseconds: no document of this network is older.
const TIMESTAMP_MS_MIN: u64 = 1_738_281_600_000;

/// Bytes of a SHA-384 measurement.
const PCR_BYTES: usize = 48;

/// Most measurements, and the first index that is too high.
const PCRS_MAX: u64 = 32;

/// AWS's limit on each certificate and on `public_key`.
const CERTIFICATE_BYTES_MAX: usize = 1_024;

/// AWS's limit on `user_data` and `nonce`.
const USER_BYTES_MAX: usize = 512;

/// What a verified document says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attestation {
    /// Name of the enclave, given by its hypervisor.
    pub module_id: String,
    /// When the document was made, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// Measurements by index.
    pub pcrs: BTreeMap<u64, Vec<u8>>,
    /// Keccak-256 of PCR0 ‖ PCR1 ‖ PCR2.
    pub pcr_hash: B256,
    /// Keccak-256 of the signed payload. This identifies the statement against replay; the document's own hash
    /// does not, because an ECDSA signature (r, s) is as good as (r, n − s).
    pub payload_hash: B256,
    /// The `public_key` field.
    pub public_key: Option<Vec<u8>>,
    /// The `user_data` field.
    pub user_data: Option<Vec<u8>>,
    /// The `nonce` field.
    pub nonce: Option<Vec<u8>>,
    /// The root under which the document was verified; says whether the enclave is simulated.
    pub root: Root,
}

impl Attestation {
    /// The keys in the `public_key` field.
    ///
    /// # Errors
    /// When the field is missing or is not the encoding of [`BoundKeys`].
    pub fn bound_keys(&self) -> Result<BoundKeys, Error> {
        let bytes = self.public_key.as_deref().ok_or(Error::field("public_key", "is missing"))?;
        BoundKeys::decode(bytes)
    }

    /// The hashes in the `user_data` field.
    ///
    /// # Errors
    /// When the field is missing or has another layout.
    pub fn key_binding(&self) -> Result<KeyBinding, Error> {
        let bytes = self.user_data.as_deref().ok_or(Error::field("user_data", "is missing"))?;
        KeyBinding::from_user_data(bytes)
    }
}

/// Decides whether `document` is a genuine Nitro attestation that satisfies `policy` at `now_secs` (seconds since
/// 1970). The work is bounded: at most [`CABUNDLE_MAX`] + 1 signature checks, and none before the document is
/// well-formed and fresh.
///
/// # Errors
/// The first check that fails.
pub fn verify(document: &[u8], policy: &Policy, now_secs: u64) -> Result<Attestation, Error> {
    if document.is_empty() {
        return Err(Error::Empty { what: "document" });
    }
    let full = policy.strictness == Strictness::Full;
    let message = cose::Sign1::decode(document, DOCUMENT_BYTES_MAX)?;
    if full {
        message.require_headers(cose::ES384_PROTECTED)?;
    }
    let payload = Payload::decode(&message.payload)?;
    let measured = payload.required_pcrs()?;
    if full {
        payload.check_contents(&measured)?;
    }
    check_freshness(payload.timestamp_ms, policy, now_secs)?;

    let leaf_index = payload.cabundle.len();
    let leaf_key = x509::leaf_key(&payload.certificate, leaf_index)?;
    verify_signature(&message, &leaf_key)?;
    let chain: Vec<&[u8]> =
        payload.cabundle.iter().chain([&payload.certificate]).map(Vec::as_slice).collect();
    let root = x509::verify_chain(&chain, &policy.roots, now_secs)?;

    check_binding(payload.user_data.as_deref(), policy)?;
    if policy.nonce.as_ref().is_some_and(|nonce| payload.nonce.as_ref() != Some(nonce)) {
        return Err(Error::Nonce);
    }
    let pcr_hash = keccak256(measured.concat());
    if policy.pcr_hashes.as_ref().is_some_and(|approved| !approved.contains(&pcr_hash)) {
        return Err(Error::Measurements(pcr_hash));
    }
    Ok(Attestation {
        module_id: payload.module_id,
        timestamp_ms: payload.timestamp_ms,
        pcr_hash,
        pcrs: payload.pcrs,
        payload_hash: keccak256(&message.payload),
        public_key: payload.public_key,
        user_data: payload.user_data,
        nonce: payload.nonce,
        root,
    })
}

/// The time at which a document claims to have been made, in milliseconds since 1970. Nothing is verified: this is for
/// who appraises a document at its own time.
///
/// # Errors
/// When the document is not well-formed.
pub fn claimed_timestamp_ms(document: &[u8]) -> Result<u64, Error> {
    let message = cose::Sign1::decode(document, DOCUMENT_BYTES_MAX)?;
    Ok(Payload::decode(&message.payload)?.timestamp_ms)
}

/// The number of certificates in a document, leaf included, as far as it can be told without any signature
/// check; `None` when the document is not well-formed.
pub(crate) fn certificate_count(document: &[u8]) -> Option<usize> {
    let message = cose::Sign1::decode(document, DOCUMENT_BYTES_MAX).ok()?;
    let payload = Payload::decode(&message.payload).ok()?;
    Some(payload.cabundle.len() + 1)
}

fn check_freshness(timestamp_ms: u64, policy: &Policy, now_secs: u64) -> Result<(), Error> {
    if timestamp_ms < TIMESTAMP_MS_MIN {
        return Err(Error::BeforeEpoch(timestamp_ms));
    }
    let made_secs = timestamp_ms / 1_000;
    let (age_secs, ahead_secs) =
        (now_secs.saturating_sub(made_secs), made_secs.saturating_sub(now_secs));
    if age_secs > policy.age_secs_max {
        return Err(Error::Stale { age_secs, max_secs: policy.age_secs_max });
    }
    if ahead_secs > policy.ahead_secs_max {
        return Err(Error::Future { ahead_secs, max_secs: policy.ahead_secs_max });
    }
    Ok(())
}

fn verify_signature(message: &cose::Sign1, key: &p384::ecdsa::VerifyingKey) -> Result<(), Error> {
    use p384::ecdsa::signature::Verifier;

    if message.signature.len() != cose::ES384_SIGNATURE_BYTES {
        return Err(Error::SignatureLength(message.signature.len()));
    }
    let signature =
        p384::ecdsa::Signature::from_slice(&message.signature).map_err(|_| Error::Signature)?;
    key.verify(&message.to_be_signed(&[]), &signature).map_err(|_| Error::Signature)
}

fn check_binding(user_data: Option<&[u8]>, policy: &Policy) -> Result<(), Error> {
    let found = match (user_data, policy.strictness) {
        // The default policy knows one layout of `user_data`, whether or not the verifier has keys to compare.
        (Some(user_data), Strictness::Full) => KeyBinding::from_user_data(user_data)?,
        (Some(user_data), Strictness::Legacy) if policy.binding.is_some() => {
            KeyBinding::from_unprefixed(user_data)?
        }
        (None, _) if policy.binding.is_some() => {
            return Err(Error::field("user_data", "is missing"));
        }
        _ => return Ok(()),
    };
    policy.binding.as_ref().map_or(Ok(()), |expected| found.require(expected))
}

/// The payload map, its types checked and nothing else.
struct Payload {
    module_id: String,
    timestamp_ms: u64,
    digest: String,
    pcrs: BTreeMap<u64, Vec<u8>>,
    certificate: Vec<u8>,
    cabundle: Vec<Vec<u8>>,
    public_key: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
}

impl Payload {
    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let value = Value::decode(bytes, Rules::AWS_NITRO)
            .map_err(|source| Error::Cbor { what: "payload", source })?;
        let entries = value.as_map().ok_or(Error::field("payload", "is not a map"))?;
        if entries.iter().any(|(key, _)| key.as_text().is_none()) {
            return Err(Error::field("payload", "has a key that is not text"));
        }
        let fields = Fields(&value);
        Ok(Self {
            module_id: fields.text("module_id")?.to_owned(),
            timestamp_ms: fields
                .required("timestamp")?
                .as_uint()
                .ok_or(Error::field("timestamp", "is not an unsigned integer"))?,
            digest: fields.text("digest")?.to_owned(),
            pcrs: fields.pcrs()?,
            certificate: fields
                .optional_bytes("certificate")?
                .ok_or(Error::field("certificate", "is missing"))?,
            cabundle: fields.cabundle()?,
            public_key: fields.optional_bytes("public_key")?,
            user_data: fields.optional_bytes("user_data")?,
            nonce: fields.optional_bytes("nonce")?,
        })
    }

    /// PCR0, PCR1 and PCR2.
    fn required_pcrs(&self) -> Result<[&[u8]; 3], Error> {
        let pcr = |index| self.pcrs.get(&index).map(Vec::as_slice).ok_or(Error::MissingPcr(index));
        Ok([pcr(0)?, pcr(1)?, pcr(2)?])
    }

    /// The rules of AWS's document format that the legacy policy does not look at, and no debug mode.
    fn check_contents(&self, measured: &[&[u8]; 3]) -> Result<(), Error> {
        if self.module_id.is_empty() {
            return Err(Error::field("module_id", "is empty"));
        }
        if self.digest != "SHA384" {
            return Err(Error::field("digest", "is not SHA384"));
        }
        if self.pcrs.keys().any(|index| *index >= PCRS_MAX) {
            return Err(Error::field("pcrs", "has an index above 31"));
        }
        if self.pcrs.values().any(|pcr| pcr.len() != PCR_BYTES) {
            return Err(Error::field("pcrs", "has a value that is not 48 bytes"));
        }
        for (index, pcr) in (0..).zip(measured) {
            if pcr.iter().all(|byte| *byte == 0) {
                return Err(Error::ZeroPcr(index));
            }
        }
        let limits = [
            ("public_key", &self.public_key, CERTIFICATE_BYTES_MAX),
            ("user_data", &self.user_data, USER_BYTES_MAX),
            ("nonce", &self.nonce, USER_BYTES_MAX),
        ];
        for (what, bytes, max) in limits {
            let len = bytes.as_ref().map_or(0, Vec::len);
            if len > max {
                return Err(Error::TooLarge { what, len, max });
            }
        }
        for certificate in self.cabundle.iter().chain([&self.certificate]) {
            let (len, max) = (certificate.len(), CERTIFICATE_BYTES_MAX);
            if len > max {
                return Err(Error::TooLarge { what: "certificate", len, max });
            }
        }
        Ok(())
    }
}

struct Fields<'a>(&'a Value);

impl<'a> Fields<'a> {
    fn required(&self, name: &'static str) -> Result<&'a Value, Error> {
        self.0.get(&Value::text(name)).ok_or(Error::field(name, "is missing"))
    }

    fn text(&self, name: &'static str) -> Result<&'a str, Error> {
        self.required(name)?.as_text().ok_or(Error::field(name, "is not text"))
    }

    /// Bytes, or nothing when the field is absent or null.
    fn optional_bytes(&self, name: &'static str) -> Result<Option<Vec<u8>>, Error> {
        match self.0.get(&Value::text(name)) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bytes(bytes)) => Ok(Some(bytes.clone())),
            Some(_) => Err(Error::field(name, "is not bytes")),
        }
    }

    fn pcrs(&self) -> Result<BTreeMap<u64, Vec<u8>>, Error> {
        let wrong = Error::field("pcrs", "is not a map from indices to bytes");
        let entries = self.required("pcrs")?.as_map().ok_or(wrong.clone())?;
        entries
            .iter()
            .map(|(index, pcr)| Some((index.as_uint()?, pcr.as_bytes()?.to_vec())))
            .collect::<Option<_>>()
            .ok_or(wrong)
    }

    fn cabundle(&self) -> Result<Vec<Vec<u8>>, Error> {
        let wrong = Error::field("cabundle", "is not an array of bytes");
        let items = self.required("cabundle")?.as_array().ok_or(wrong.clone())?;
        if !(1..=CABUNDLE_MAX).contains(&items.len()) {
            return Err(Error::field("cabundle", "does not hold 1 to 8 certificates"));
        }
        items
            .iter()
            .map(|item| item.as_bytes().map(<[u8]>::to_vec))
            .collect::<Option<_>>()
            .ok_or(wrong)
    }
}
