//! A **simulated** TEE: documents of the same format as AWS Nitro's under a published development root.
//!
//! Anyone can sign with this root: its key is derived from a constant in this file. It proves that the formats
//! and the path of the evidence work, and nothing about any enclave. No policy trusts it unless it lists
//! [`crate::roots::DEVELOPMENT`], and whatever shows such evidence must say *simulated*.
//!
//! Everything is a pure function of its arguments: keys come from a seed, times are given, ECDSA is
//! deterministic (RFC 6979).

use alloy_primitives::{B256, keccak256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use og_primitives::cbor::Value;
use p384::ecdsa::signature::Signer;
use p384::ecdsa::{Signature, SigningKey};
use sha2::{Digest, Sha256, Sha384};

use crate::driver::{Attester, DriverError};
use crate::roots::Root;
use crate::{cose, der, x509};

/// The seed of the published development root.
const DEVELOPMENT_SEED: &[u8] =
    b"OpenGradient SIMULATED TEE development root, worthless on purpose, v1";

const ROOT_NAME: &str = "SIMULATED TEE development root";

/// Validity of the root: 2025-01-01T00:00:00Z to 2055-01-01T00:00:00Z.
const ROOT_VALIDITY: (&str, &str) = ("250101000000Z", "20550101000000Z");

/// Measurements in a document.
const PCRS: usize = 16;

/// Largest `user_data` and `nonce`, and largest `public_key` that the real device takes.
const USER_BYTES_MAX: usize = 512;
const PUBLIC_KEY_BYTES_MAX: usize = 1_024;

/// Signs simulated documents: plays the part of AWS.
#[derive(Clone, Debug)]
pub struct Authority {
    seed: Vec<u8>,
    root_key: SigningKey,
    root_der: Vec<u8>,
}

/// What a simulated document shall say.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// Name of the enclave.
    pub module_id: &'a str,
    /// Time of the document in milliseconds since 1970; the certificates' dates follow from it.
    pub timestamp_ms: u64,
    /// Measurements.
    pub measurements: &'a Measurements,
    /// The `user_data` field.
    pub user_data: &'a [u8],
    /// The `public_key` field.
    pub public_key: &'a [u8],
    /// The `nonce` field.
    pub nonce: &'a [u8],
}

/// The measurements PCR0 to PCR15.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Measurements {
    /// SHA-384 values by index.
    pub pcrs: [[u8; 48]; PCRS],
}

/// An enclave under a simulated authority.
#[derive(Clone, Debug)]
pub struct Enclave {
    authority: Authority,
    module_id: String,
    measurements: Measurements,
}

impl Measurements {
    /// Measurements of a pretended image: PCR0, PCR1, PCR2 and PCR4 are hashes of `label`, the others zero, as in
    /// real documents.
    pub fn of_image(label: &str) -> Self {
        let mut pcrs = [[0; 48]; PCRS];
        for index in [0_u8, 1, 2, 4] {
            let hash = Sha384::new()
                .chain_update(b"SIMULATED measurement")
                .chain_update([index])
                .chain_update(label)
                .finalize();
            pcrs[usize::from(index)].copy_from_slice(&hash);
        }
        Self { pcrs }
    }

    /// Keccak-256 of PCR0 ‖ PCR1 ‖ PCR2: what a registry approves.
    pub fn pcr_hash(&self) -> B256 {
        keccak256(self.pcrs[..3].concat())
    }
}

impl Authority {
    /// The authority of the published development root.
    pub fn development() -> Self {
        Self::from_seed(DEVELOPMENT_SEED)
    }

    /// An authority with a root of its own, for tests.
    pub fn from_seed(seed: &[u8]) -> Self {
        let root_key = derive_key(seed, "root");
        let root_der = CertificateSpec {
            subject: ROOT_NAME,
            issuer: ROOT_NAME,
            not_before: time(der::UTC_TIME, ROOT_VALIDITY.0),
            not_after: time(der::GENERALIZED_TIME, ROOT_VALIDITY.1),
            extensions: vec![basic_constraints(Some(None)), key_usage(0x86)],
            spki: spki(&root_key),
        }
        .sign(&root_key);
        Self { seed: seed.to_vec(), root_key, root_der }
    }

    /// The root, marked as simulated.
    pub fn root(&self) -> Root {
        Root { sha256: B256::from_slice(&Sha256::digest(&self.root_der)), simulated: true }
    }

    /// The root certificate as DER.
    pub fn root_der(&self) -> &[u8] {
        &self.root_der
    }

    /// The root certificate as PEM.
    pub fn root_pem(&self) -> String {
        let text = STANDARD.encode(&self.root_der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }

    /// A document that says what `statement` says, with a chain of five certificates like AWS's.
    pub fn document(&self, statement: &Statement<'_>) -> Vec<u8> {
        let leaf_key = derive_key(&self.seed, "leaf");
        let chain = self.chain(statement.module_id, statement.timestamp_ms / 1_000, &leaf_key);
        sign_document(&payload(statement, &chain), &leaf_key)
    }

    /// Root, regional, zonal and instance certificate, and the leaf.
    fn chain(&self, module_id: &str, now_secs: u64, leaf_key: &SigningKey) -> Vec<Vec<u8>> {
        const DAY: u64 = 86_400;
        let at = |secs: u64| time(der::UTC_TIME, &utc_time(secs));
        let mut chain = vec![self.root_der.clone()];
        let mut issuer = (ROOT_NAME.to_owned(), self.root_key.clone());
        for (name, path_len, days_before, days_after) in
            [("regional", 2, 10, 10), ("zonal", 1, 3, 3), ("instance", 0, 0, 1)]
        {
            let key = derive_key(&self.seed, name);
            let subject = format!("SIMULATED {name} CA");
            let certificate = CertificateSpec {
                subject: &subject,
                issuer: &issuer.0,
                not_before: at(now_secs.saturating_sub(days_before * DAY + 3_600)),
                not_after: at(now_secs + days_after * DAY),
                extensions: vec![basic_constraints(Some(Some(path_len))), key_usage(0x86)],
                spki: spki(&key),
            };
            chain.push(certificate.sign(&issuer.1));
            issuer = (subject, key);
        }
        let leaf = CertificateSpec {
            subject: &format!("SIMULATED enclave {module_id}"),
            issuer: &issuer.0,
            not_before: at(now_secs.saturating_sub(3)),
            not_after: at(now_secs + 3 * 3_600),
            extensions: vec![basic_constraints(None), key_usage(0xc0)],
            spki: spki(leaf_key),
        };
        chain.push(leaf.sign(&issuer.1));
        chain
    }
}

impl Enclave {
    /// An enclave named `module_id` with these measurements.
    pub fn new(
        authority: Authority,
        module_id: impl Into<String>,
        measurements: Measurements,
    ) -> Self {
        Self { authority, module_id: module_id.into(), measurements }
    }
}

impl Attester for Enclave {
    fn evidence(
        &self,
        nonce: &[u8],
        user_data: &[u8],
        public_key: &[u8],
        now_ms: u64,
    ) -> Result<Vec<u8>, DriverError> {
        for (what, len, max) in [
            ("nonce", nonce.len(), USER_BYTES_MAX),
            ("user_data", user_data.len(), USER_BYTES_MAX),
            ("public_key", public_key.len(), PUBLIC_KEY_BYTES_MAX),
        ] {
            if len > max {
                return Err(DriverError::TooLarge { what, len, max });
            }
        }
        Ok(self.authority.document(&Statement {
            module_id: &self.module_id,
            timestamp_ms: now_ms,
            measurements: &self.measurements,
            user_data,
            public_key,
            nonce,
        }))
    }

    fn is_simulated(&self) -> bool {
        true
    }
}

/// The payload map in AWS's form: indefinite, keys in AWS's order.
pub(crate) fn payload(statement: &Statement<'_>, chain: &[Vec<u8>]) -> Vec<u8> {
    let (leaf, cabundle) = chain.split_last().map_or((&[][..], &[][..]), |(leaf, cas)| (leaf, cas));
    let pcrs = (0..).zip(&statement.measurements.pcrs);
    let entries = [
        ("module_id", Value::text(statement.module_id)),
        ("digest", Value::text("SHA384")),
        ("timestamp", Value::Uint(statement.timestamp_ms)),
        ("pcrs", Value::Map(pcrs.map(|(i, pcr)| (Value::Uint(i), Value::bytes(*pcr))).collect())),
        ("certificate", Value::bytes(leaf)),
        ("cabundle", Value::Array(cabundle.iter().map(|ca| Value::bytes(ca.as_slice())).collect())),
        ("public_key", Value::bytes(statement.public_key)),
        ("user_data", Value::bytes(statement.user_data)),
        ("nonce", Value::bytes(statement.nonce)),
    ];
    let mut payload = vec![0xbf];
    for (key, value) in entries {
        payload.extend(Value::text(key).encode());
        payload.extend(value.encode());
    }
    payload.push(0xff);
    payload
}

pub(crate) fn sign_document(payload: &[u8], key: &SigningKey) -> Vec<u8> {
    let to_be_signed = cose::to_be_signed(cose::ES384_PROTECTED, &[], payload);
    let signature: Signature = key.sign(&to_be_signed);
    cose::Sign1 {
        protected: cose::ES384_PROTECTED.to_vec(),
        unprotected: Value::Map(vec![]),
        payload: payload.to_vec(),
        signature: signature.to_bytes().to_vec(),
    }
    .encode()
}

/// What a certificate shall say; the tests build refused ones with it.
pub(crate) struct CertificateSpec<'a> {
    pub(crate) subject: &'a str,
    pub(crate) issuer: &'a str,
    /// DER `Time`.
    pub(crate) not_before: Vec<u8>,
    pub(crate) not_after: Vec<u8>,
    /// DER `Extension`s.
    pub(crate) extensions: Vec<Vec<u8>>,
    pub(crate) spki: Vec<u8>,
}

impl CertificateSpec<'_> {
    pub(crate) fn sign(&self, issuer_key: &SigningKey) -> Vec<u8> {
        // A serial number that follows from the contents, positive and never zero.
        let mut serial = Sha256::digest([&self.spki[..], &self.not_before].concat()).to_vec();
        serial.truncate(16);
        serial[0] = serial[0] & 0x7f | 0x40;
        let extensions = der::element(der::SEQUENCE, &[&self.extensions.concat()]);
        let to_be_signed = der::element(
            der::SEQUENCE,
            &[
                &[0xa0, 3, 2, 1, 2],
                &der::unsigned(&serial),
                x509::ECDSA_WITH_SHA384,
                &name(self.issuer),
                &der::element(der::SEQUENCE, &[&self.not_before, &self.not_after]),
                &name(self.subject),
                &self.spki,
                &der::element(0xa3, &[&extensions]),
            ],
        );
        let signature: Signature = issuer_key.sign(&to_be_signed);
        let (r, s) = signature.split_bytes();
        let signature = der::element(der::SEQUENCE, &[&der::unsigned(&r), &der::unsigned(&s)]);
        der::element(
            der::SEQUENCE,
            &[
                &to_be_signed,
                x509::ECDSA_WITH_SHA384,
                &der::element(der::BIT_STRING, &[&[0], &signature]),
            ],
        )
    }
}

/// A P-384 key from a seed and a purpose.
pub(crate) fn derive_key(seed: &[u8], purpose: &str) -> SigningKey {
    // One hash in 2^190 is no valid scalar; the counter makes the search total.
    let mut counter = 0_u64;
    loop {
        let scalar = Sha384::new()
            .chain_update(b"SIMULATED TEE key")
            .chain_update(counter.to_be_bytes())
            .chain_update(Sha256::digest(seed))
            .chain_update(purpose)
            .finalize();
        if let Ok(key) = SigningKey::from_slice(&scalar) {
            return key;
        }
        counter += 1;
    }
}

pub(crate) fn spki(key: &SigningKey) -> Vec<u8> {
    let point = key.verifying_key().to_sec1_point(false);
    [x509::P384_SPKI_PREFIX, point.as_bytes().get(1..).unwrap_or_default()].concat()
}

/// A name of organisation and common name.
fn name(common_name: &str) -> Vec<u8> {
    let attribute = |id: &[u8], value: &str| {
        let pair =
            [der::element(der::OID, &[id]), der::element(der::UTF8_STRING, &[value.as_bytes()])];
        der::element(der::SET, &[&der::element(der::SEQUENCE, &[&pair[0], &pair[1]])])
    };
    let organisation = attribute(&[0x55, 4, 10], "OpenGradient SIMULATED");
    der::element(der::SEQUENCE, &[&organisation, &attribute(&[0x55, 4, 3], common_name)])
}

/// `Some(path_len)` for a CA, `None` for an end entity.
pub(crate) fn basic_constraints(ca: Option<Option<u8>>) -> Vec<u8> {
    let content = match ca {
        None => vec![],
        Some(None) => vec![der::BOOLEAN, 1, 0xff],
        Some(Some(path_len)) => [vec![der::BOOLEAN, 1, 0xff], der::unsigned(&[path_len])].concat(),
    };
    extension(x509::BASIC_CONSTRAINTS, true, &der::element(der::SEQUENCE, &[&content]))
}

/// keyUsage from its first byte.
pub(crate) fn key_usage(bits: u8) -> Vec<u8> {
    let unused = u8::try_from(bits.trailing_zeros()).unwrap_or(0);
    extension(x509::KEY_USAGE, true, &der::element(der::BIT_STRING, &[&[unused, bits]]))
}

pub(crate) fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[der::BOOLEAN, 1, 0xff] } else { &[] };
    let id = der::element(der::OID, &[id]);
    der::element(der::SEQUENCE, &[&id, critical, &der::element(der::OCTET_STRING, &[value])])
}

pub(crate) fn time(tag: u8, text: &str) -> Vec<u8> {
    der::element(tag, &[text.as_bytes()])
}

/// `YYMMDDHHMMSSZ` of a moment before 2050.
pub(crate) fn utc_time(secs: u64) -> String {
    let (days, second) = (secs / 86_400, secs % 86_400);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{:02}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z", year % 100)
}

/// Year, month and day of a day since 1970-01-01.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}
