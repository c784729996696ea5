//! A simulated enclave: keys, evidence, signatures.

use std::convert::Infallible;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use og_attest::keys::{BoundKeys, KeyBinding};
use og_attest::simulated::{Authority, Measurements, Statement};
use og_contracts::registry::Registration;
use og_contracts::{ITEERegistry, addresses, registration_nonce};
use og_primitives::TeeId;
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, PrivateKey};
use sha2::Sha256;

use crate::network::Network;

// Primes of two RSA-2048 keys made for these tests; finding primes takes seconds.
const PRIMES: [[&str; 2]; 2] = [
    [
        "f9f6b25e2da37ad9a536a6268997d9dfe84f9f360c376a9d2d132d6706f3bdace6c041ff0ecdeb88362416639f77706033d325a313242e694ae1b646f9a839855df938aeeae863eb4c20a5334624957dc2d7629ccf8889f2f208274616348faa964aac6c059d24c9e2a30c5d8ab132af36d34d057bd834aa704eb1b96f044f35",
        "cbf40737cd877b914bca18f72923f2b098635c27da05041d44cac4e064d507f734c1253b0e3ec4d2ab4143192ccba60caf9e25b0d9f9ab5f3039bb1b66291fd9c1200e03c9d1e709bfa463e8c23c442094f74e8bf3837705f5f479ba4b921c79d05bfadec389a97b11a893fe7083ae1423c2cc55aa35d6987b7d2aa3345742ed",
    ],
    [
        "f4fa3f0bb129a6ea1ca13a435aa91eceb1842a9b06e15f23d1cb0922e57b3fa0ed68f0215a7d025cf92a925017dbe142582b25e16281ea59e346b7fbc4f7194e03fe4bbfc8594bad7cfff566e0996637b1239edf647e5aafabbb749de705f6aef5289036202ac8e2a728269f7d3bbfeebc36f61a90ca62ffef08883cf1d0529f",
        "cc040e6f71b8b731662160b456888fec89165cdfbd94b11890f703905217239902a50413aaf501c2ac7586e1ed1729a198565cddc2e4d9c13a23fc4ff75b1ec868d0f4fdae4feb23dfaf48192b715ab36e337ec0f587ae558b94e75ce2a37a09c6674df9a8bd7f1febc84d7e76b3e1ed99d7cddbc6aa4c9ef19f7cd63052b6d3",
    ],
];

/// DER around the modulus of an RSA-2048 key with e = 65537.
const SPKI_PREFIX: &[u8] = &[
    0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01,
    0x01, 0x05, 0x00, 0x03, 0x82, 0x01, 0x0f, 0x00, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01,
    0x00,
];
const SPKI_SUFFIX: &[u8] = &[0x02, 0x03, 0x01, 0x00, 0x01];

pub(crate) const ENDPOINT: &str = "https://127.0.0.1:8443";

/// A simulated enclave.
pub(crate) struct Enclave {
    rsa: PrivateKey,
    pub(crate) signing_key: Bytes,
    pub(crate) tls_certificate: Bytes,
    pub(crate) keys: BoundKeys,
    pub(crate) pay_to: Address,
    pub(crate) measurements: Measurements,
}

/// What a document shall say, where it shall differ from the truth.
#[derive(Clone, Default)]
pub(crate) struct Twist {
    pub(crate) nonce: Option<Vec<u8>>,
    pub(crate) public_key: Option<Vec<u8>>,
    pub(crate) measurements: Option<Measurements>,
    pub(crate) authority: Option<Authority>,
    pub(crate) age_secs: u64,
}

impl Enclave {
    /// One of two enclaves.
    pub(crate) fn new(which: usize) -> Self {
        let [p, q] = PRIMES[which].map(|hex| {
            BoxedUint::from_be_slice(&alloy_primitives::hex::decode(hex).expect("hex"), 1024)
                .expect("1024 bits")
        });
        let rsa = PrivateKey::from_p_q(p, q, BoxedUint::from(65_537_u64)).expect("primes");
        let modulus = rsa.n().to_be_bytes();
        let name = [u8::try_from(which).expect("small")];
        Self {
            signing_key: [SPKI_PREFIX, &modulus, SPKI_SUFFIX].concat().into(),
            // Any X.509 certificate does; nobody connects here.
            tls_certificate: Authority::from_seed(&[b"tls", &name[..]].concat())
                .root_der()
                .to_vec()
                .into(),
            keys: BoundKeys::new([0x11 + name[0]; 32], [0x22 + name[0]; 32]),
            pay_to: Address::repeat_byte(0x40 + name[0]),
            measurements: Measurements::of_image("og-gateway"),
            rsa,
        }
    }

    pub(crate) fn id(&self) -> TeeId {
        TeeId::from_signing_key_der(&self.signing_key)
    }

    /// The attested nonce for a registration by `owner`.
    pub(crate) fn nonce(&self, network: &Network, owner: Address) -> B256 {
        registration_nonce(&Registration {
            owner,
            chain_id: network.chain.chain_id(),
            genesis_hash: network.chain.genesis_hash(),
            registry: addresses::TEE_REGISTRY,
            pay_to: self.pay_to,
            endpoint: ENDPOINT,
            tee_type: 0,
        })
    }

    /// The registration that `owner` sends, with a document as true as `twist` leaves it.
    pub(crate) fn registration(
        &self,
        network: &Network,
        owner: Address,
        twist: &Twist,
    ) -> ITEERegistry::registerTEEWithAttestationCall {
        let nonce = twist.nonce.clone().unwrap_or_else(|| self.nonce(network, owner).to_vec());
        let public_key = twist.public_key.clone().unwrap_or_else(|| self.keys.encode());
        let authority = twist.authority.clone().unwrap_or_else(Authority::development);
        let document = authority.document(&Statement {
            module_id: "i-simulated",
            timestamp_ms: (network.now() - twist.age_secs) * 1000,
            measurements: twist.measurements.as_ref().unwrap_or(&self.measurements),
            user_data: &KeyBinding::of(&self.tls_certificate, &self.signing_key).to_user_data(),
            public_key: &public_key,
            nonce: &nonce,
        });
        ITEERegistry::registerTEEWithAttestationCall {
            attestation: document.into(),
            signingKey: self.signing_key.clone(),
            tlsCertificate: self.tls_certificate.clone(),
            paymentAddress: self.pay_to,
            endpoint: ENDPOINT.to_owned(),
            teeType: 0,
        }
    }

    /// Registers truthfully, for the operator.
    pub(crate) fn register(&self, network: &mut Network) -> crate::network::Sent {
        let operator = network.people.operator.clone();
        let call = self.registration(network, operator.address(), &Twist::default());
        network.sent(&operator, addresses::TEE_REGISTRY, &call)
    }

    /// A legacy signature: RSASSA-PSS with SHA-256 and a salt of 32 bytes; `salt` seeds it.
    pub(crate) fn sign(&self, message: B256, salt: u64) -> Bytes {
        let key = rsa::pss::SigningKey::<Sha256>::new(self.rsa.clone());
        let mut rng = Counter(salt);
        key.try_sign_with_rng(&mut rng, message.as_slice()).expect("signed").to_vec().into()
    }

    /// A signed heartbeat for `timestamp`.
    pub(crate) fn heartbeat(&self, timestamp: u64) -> ITEERegistry::heartbeatCall {
        let timestamp = U256::from(timestamp);
        let message = keccak256([self.id().0.as_slice(), &timestamp.to_be_bytes::<32>()].concat());
        ITEERegistry::heartbeatCall {
            teeId: self.id().0,
            timestamp,
            signature: self.sign(message, 0),
        }
    }
}

/// Salt for tests: hashes of a counter.
struct Counter(u64);

impl TryRng for Counter {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        rsa::rand_core::utils::next_word_via_fill(self)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        rsa::rand_core::utils::next_word_via_fill(self)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(32) {
            chunk.copy_from_slice(&keccak256(self.0.to_be_bytes())[..chunk.len()]);
            self.0 = self.0.wrapping_add(1 << 32);
        }
        Ok(())
    }
}

impl TryCryptoRng for Counter {}
