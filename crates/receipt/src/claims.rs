//! What a receipt says, and the words for it.

use core::fmt;
use core::str::FromStr;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolValue;
use og_primitives::TeeId;
use og_primitives::cbor::Value;
use serde::Serialize;

use crate::Error;
use crate::fields::{Fields, to_hash, u256_value};

/// Version of the format.
pub const VERSION: u64 = 1;

/// Longest model name or engine text, in bytes.
const TEXT_BYTES_MAX: usize = 256;

/// Longest legacy signature: RSA of 4096 bits.
const LEAF_SIGNATURE_BYTES_MAX: usize = 512;

/// Tokens that a unit price is for.
const TOKENS_PER_PRICE: u64 = 1_000_000;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word used in receipts, in JSON and on screens.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(word: &str) -> Result<Self, Error> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|value| value.as_str() == word)
                    .ok_or(Error::field(stringify!($name), "is an unknown word"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

words! {
    /// What is really proven about a result, never more. Weakest first.
    TruthLevel {
        /// The node says so.
        Signed = "signed",
        /// An attested enclave forwarded the request and the answer.
        Handoff = "handoff",
        /// In addition, the upstream's certificate chain, request id and model name were captured in the enclave.
        UpstreamEvidenced = "upstream-evidenced",
        /// The enclave ran weights whose hash it measured.
        WeightsMeasured = "weights-measured",
        /// Others re-executed it bit for bit.
        Replayed = "replayed",
        /// A proof of the inference was verified.
        ZkProved = "zk-proved",
    }
}

words! {
    /// How the evidence of an answer is settled.
    SettlementMode {
        /// Nothing is recorded on chain.
        Private = "private",
        /// The leaf is settled alone.
        Individual = "individual",
        /// The leaf is settled in a batch.
        Batch = "batch",
    }
}

words! {
    /// The form of the answer, which decides how its digest is made.
    ResponseForm {
        /// One JSON document ([`crate::digest::json`]).
        Json = "json",
        /// Server-sent events ([`crate::digest::StreamDigest`]).
        Stream = "stream",
    }
}

/// Everything that a bill or an audit needs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Claims {
    /// Chain id of the verification chain.
    pub chain_id: u64,
    /// Hash of its genesis block.
    pub genesis_hash: B256,
    /// Registry in which the enclave is recorded.
    pub registry: Address,
    /// The enclave.
    pub tee_id: TeeId,
    /// How the evidence is settled.
    pub mode: SettlementMode,
    /// The legacy statement over the same exchange; its hash is what is settled.
    pub leaf: Leaf,
    /// Digest of the exact bytes of the request body.
    pub request_digest: B256,
    /// Digest of the answer.
    pub response_digest: B256,
    /// The form of the answer.
    pub response_form: ResponseForm,
    /// Model that the client asked for.
    pub model_requested: String,
    /// Model that answered.
    pub model_served: String,
    /// What computed the answer.
    pub engine: Engine,
    /// Tokens used.
    pub usage: Usage,
    /// Prices applied.
    pub prices: UnitPrices,
    /// Amount charged, in base units of `asset`: exactly [`UnitPrices::total`].
    pub total: U256,
    /// Token in which it is paid.
    pub asset: Address,
    /// Chain id of the payment chain.
    pub payment_chain_id: u64,
    /// Account that pays.
    pub payer: Address,
    /// Nonce of the payer's permit.
    pub permit_nonce: U256,
    /// Account that is paid.
    pub pay_to: Address,
    /// The account that the permit names as the only one that may settle it.
    pub facilitator: Address,
    /// What is proven about the answer.
    pub truth: TruthLevel,
    /// Whether the enclave is only simulated.
    pub simulated: bool,
    /// When the request was complete, in milliseconds since 1970.
    pub received_at_ms: u64,
    /// When the answer was complete, in milliseconds since 1970.
    pub finished_at_ms: u64,
}

/// The statement that the official clients verify and that is settled on chain. The enclave it belongs to is
/// [`Claims::tee_id`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Leaf {
    /// The enclave.
    pub tee_id: TeeId,
    /// Legacy hash of the request.
    pub input_hash: B256,
    /// Legacy hash of the answer.
    pub output_hash: B256,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// RSASSA-PSS signature over [`Self::message_hash`].
    pub signature: Bytes,
}

/// What computed an answer. Texts are empty where a fact is not known.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Engine {
    /// Name of the engine, or `upstream` and the name of its adapter.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Instruction set that it was built for.
    pub isa: String,
    /// Quantisation of the weights.
    pub quantisation: String,
    /// SHA-256 of the weights that it measured.
    pub weights_sha256: Option<B256>,
}

/// Tokens used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Usage {
    /// Tokens of the request.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
}

/// Prices in base units of the asset per million tokens.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct UnitPrices {
    /// For tokens of the request.
    pub prompt_per_million: U256,
    /// For tokens of the answer.
    pub completion_per_million: U256,
}

impl UnitPrices {
    /// What `usage` costs, rounded up once to a whole base unit; `None` when it exceeds 256 bits.
    pub fn total(&self, usage: &Usage) -> Option<U256> {
        let part = |tokens: u64, price: U256| price.checked_mul(U256::from(tokens));
        let sum = part(usage.prompt_tokens, self.prompt_per_million)?
            .checked_add(part(usage.completion_tokens, self.completion_per_million)?)?;
        Some(sum.div_ceil(U256::from(TOKENS_PER_PRICE)))
    }
}

/// What the legacy signature of an inference covers: Keccak-256 of input hash, output hash and timestamp (Unix
/// seconds), 32 bytes each.
pub fn message_hash(input_hash: B256, output_hash: B256, timestamp: u64) -> B256 {
    keccak256((input_hash, output_hash, U256::from(timestamp)).abi_encode())
}

impl Leaf {
    /// What the legacy signature covers; see [`message_hash`].
    pub fn message_hash(&self) -> B256 {
        message_hash(self.input_hash, self.output_hash, self.timestamp)
    }

    /// The leaf of the StandardMerkleTree: Keccak-256 of Keccak-256 of the ABI encoding of (tee id, input hash,
    /// output hash, signature, timestamp).
    pub fn hash(&self) -> B256 {
        let fields = (
            self.tee_id.0,
            self.input_hash,
            self.output_hash,
            self.signature.clone(),
            U256::from(self.timestamp),
        );
        keccak256(keccak256(fields.abi_encode_params()))
    }
}

// Labels of the map. They are part of the format: never reuse one.
mod label {
    pub(super) const VERSION: u64 = 1;
    pub(super) const CHAIN_ID: u64 = 2;
    pub(super) const GENESIS_HASH: u64 = 3;
    pub(super) const REGISTRY: u64 = 4;
    pub(super) const TEE_ID: u64 = 5;
    pub(super) const MODE: u64 = 6;
    pub(super) const LEAF: u64 = 7;
    pub(super) const REQUEST_DIGEST: u64 = 8;
    pub(super) const RESPONSE_DIGEST: u64 = 9;
    pub(super) const RESPONSE_FORM: u64 = 10;
    pub(super) const MODEL_REQUESTED: u64 = 11;
    pub(super) const MODEL_SERVED: u64 = 12;
    pub(super) const ENGINE: u64 = 13;
    pub(super) const USAGE: u64 = 14;
    pub(super) const PRICES: u64 = 15;
    pub(super) const TOTAL: u64 = 16;
    pub(super) const ASSET: u64 = 17;
    pub(super) const PAYMENT_CHAIN_ID: u64 = 18;
    pub(super) const PAYER: u64 = 19;
    pub(super) const PERMIT_NONCE: u64 = 20;
    pub(super) const PAY_TO: u64 = 21;
    pub(super) const FACILITATOR: u64 = 22;
    pub(super) const TRUTH: u64 = 23;
    pub(super) const SIMULATED: u64 = 24;
    pub(super) const RECEIVED_AT_MS: u64 = 25;
    pub(super) const FINISHED_AT_MS: u64 = 26;
}

impl Claims {
    /// The deterministic CBOR map of these claims. The enclave of the leaf is not written: it is `tee_id`.
    pub(crate) fn to_cbor(&self) -> Value {
        let map = |entries: Vec<(u64, Value)>| {
            Value::Map(entries.into_iter().map(|(key, value)| (Value::Uint(key), value)).collect())
        };
        let hash = |hash: B256| Value::bytes(hash.to_vec());
        let address = |address: Address| Value::bytes(address.to_vec());
        let engine = &self.engine;
        let mut engine_entries = vec![
            (1, Value::text(&engine.name)),
            (2, Value::text(&engine.version)),
            (3, Value::text(&engine.isa)),
            (4, Value::text(&engine.quantisation)),
        ];
        engine_entries.extend(engine.weights_sha256.map(|weights| (5, hash(weights))));
        map(vec![
            (label::VERSION, Value::Uint(VERSION)),
            (label::CHAIN_ID, Value::Uint(self.chain_id)),
            (label::GENESIS_HASH, hash(self.genesis_hash)),
            (label::REGISTRY, address(self.registry)),
            (label::TEE_ID, hash(self.tee_id.0)),
            (label::MODE, Value::text(self.mode.as_str())),
            (
                label::LEAF,
                map(vec![
                    (1, hash(self.leaf.input_hash)),
                    (2, hash(self.leaf.output_hash)),
                    (3, Value::Uint(self.leaf.timestamp)),
                    (4, Value::bytes(self.leaf.signature.to_vec())),
                ]),
            ),
            (label::REQUEST_DIGEST, hash(self.request_digest)),
            (label::RESPONSE_DIGEST, hash(self.response_digest)),
            (label::RESPONSE_FORM, Value::text(self.response_form.as_str())),
            (label::MODEL_REQUESTED, Value::text(&self.model_requested)),
            (label::MODEL_SERVED, Value::text(&self.model_served)),
            (label::ENGINE, map(engine_entries)),
            (
                label::USAGE,
                map(vec![
                    (1, Value::Uint(self.usage.prompt_tokens)),
                    (2, Value::Uint(self.usage.completion_tokens)),
                ]),
            ),
            (
                label::PRICES,
                map(vec![
                    (1, u256_value(self.prices.prompt_per_million)),
                    (2, u256_value(self.prices.completion_per_million)),
                ]),
            ),
            (label::TOTAL, u256_value(self.total)),
            (label::ASSET, address(self.asset)),
            (label::PAYMENT_CHAIN_ID, Value::Uint(self.payment_chain_id)),
            (label::PAYER, address(self.payer)),
            (label::PERMIT_NONCE, u256_value(self.permit_nonce)),
            (label::PAY_TO, address(self.pay_to)),
            (label::FACILITATOR, address(self.facilitator)),
            (label::TRUTH, Value::text(self.truth.as_str())),
            (label::SIMULATED, Value::Bool(self.simulated)),
            (label::RECEIVED_AT_MS, Value::Uint(self.received_at_ms)),
            (label::FINISHED_AT_MS, Value::Uint(self.finished_at_ms)),
        ])
    }

    pub(crate) fn from_cbor(value: Value) -> Result<Self, Error> {
        let mut fields = Fields::of("claims", value)?;
        if fields.uint(label::VERSION, "version")? != VERSION {
            return Err(Error::field("version", "is unknown"));
        }
        let tee_id = TeeId(fields.hash(label::TEE_ID, "tee_id")?);
        let claims = Self {
            chain_id: fields.uint(label::CHAIN_ID, "chain_id")?,
            genesis_hash: fields.hash(label::GENESIS_HASH, "genesis_hash")?,
            registry: fields.address(label::REGISTRY, "registry")?,
            tee_id,
            mode: fields.text(label::MODE, "mode", TEXT_BYTES_MAX)?.parse()?,
            leaf: read_leaf(fields.map(label::LEAF, "leaf")?, tee_id)?,
            request_digest: fields.hash(label::REQUEST_DIGEST, "request_digest")?,
            response_digest: fields.hash(label::RESPONSE_DIGEST, "response_digest")?,
            response_form: fields
                .text(label::RESPONSE_FORM, "response_form", TEXT_BYTES_MAX)?
                .parse()?,
            model_requested: fields.text(
                label::MODEL_REQUESTED,
                "model_requested",
                TEXT_BYTES_MAX,
            )?,
            model_served: fields.text(label::MODEL_SERVED, "model_served", TEXT_BYTES_MAX)?,
            engine: read_engine(fields.map(label::ENGINE, "engine")?)?,
            usage: read_usage(fields.map(label::USAGE, "usage")?)?,
            prices: read_prices(fields.map(label::PRICES, "prices")?)?,
            total: fields.u256(label::TOTAL, "total")?,
            asset: fields.address(label::ASSET, "asset")?,
            payment_chain_id: fields.uint(label::PAYMENT_CHAIN_ID, "payment_chain_id")?,
            payer: fields.address(label::PAYER, "payer")?,
            permit_nonce: fields.u256(label::PERMIT_NONCE, "permit_nonce")?,
            pay_to: fields.address(label::PAY_TO, "pay_to")?,
            facilitator: fields.address(label::FACILITATOR, "facilitator")?,
            truth: fields.text(label::TRUTH, "truth", TEXT_BYTES_MAX)?.parse()?,
            simulated: fields.bool(label::SIMULATED, "simulated")?,
            received_at_ms: fields.uint(label::RECEIVED_AT_MS, "received_at_ms")?,
            finished_at_ms: fields.uint(label::FINISHED_AT_MS, "finished_at_ms")?,
        };
        fields.finish()?;
        Ok(claims)
    }
}

fn read_leaf(mut fields: Fields, tee_id: TeeId) -> Result<Leaf, Error> {
    let leaf = Leaf {
        tee_id,
        input_hash: fields.hash(1, "leaf.input_hash")?,
        output_hash: fields.hash(2, "leaf.output_hash")?,
        timestamp: fields.uint(3, "leaf.timestamp")?,
        signature: fields.bytes(4, "leaf.signature", LEAF_SIGNATURE_BYTES_MAX)?,
    };
    fields.finish()?;
    Ok(leaf)
}

fn read_engine(mut fields: Fields) -> Result<Engine, Error> {
    let engine = Engine {
        name: fields.text(1, "engine.name", TEXT_BYTES_MAX)?,
        version: fields.text(2, "engine.version", TEXT_BYTES_MAX)?,
        isa: fields.text(3, "engine.isa", TEXT_BYTES_MAX)?,
        quantisation: fields.text(4, "engine.quantisation", TEXT_BYTES_MAX)?,
        weights_sha256: fields
            .optional(5)
            .map(|value| to_hash(&value, "engine.weights_sha256"))
            .transpose()?,
    };
    fields.finish()?;
    Ok(engine)
}

fn read_usage(mut fields: Fields) -> Result<Usage, Error> {
    let usage = Usage {
        prompt_tokens: fields.uint(1, "usage.prompt_tokens")?,
        completion_tokens: fields.uint(2, "usage.completion_tokens")?,
    };
    fields.finish()?;
    Ok(usage)
}

fn read_prices(mut fields: Fields) -> Result<UnitPrices, Error> {
    let prices = UnitPrices {
        prompt_per_million: fields.u256(1, "prices.prompt_per_million")?,
        completion_per_million: fields.u256(2, "prices.completion_per_million")?,
    };
    fields.finish()?;
    Ok(prices)
}
