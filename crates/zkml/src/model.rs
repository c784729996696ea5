//! Program, weights and commitments: what a model id commits to.
//!
//! `model id = BLAKE3(program digest ‖ weights digest ‖ commitment H ‖ commitment W ‖ parameters)` under the domain `og.zkml.model.v1`. The digests
//! travel with every proof, so whoever checks it recomputes the id; whoever holds the model recomputes the digests.

mod commitments;

use thiserror::Error;

use crate::qir::{CodecError, Program, Weights};

pub use commitments::{CommitError, Commitments};

/// Domain of the model id.
const DOMAIN: &str = "og.zkml.model.v1";

/// What a model id is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    /// [`Program::digest`].
    pub program: [u8; 32],
    /// [`Weights::digest`].
    pub weights: [u8; 32],
    /// Digest of the commitment to the weights over BN254.
    pub hyrax: [u8; 32],
    /// Digest of the commitment to the weights over Goldilocks.
    pub whir: [u8; 32],
    /// Digest of the proof systems' parameters.
    pub parameters: [u8; 32],
}

impl Digests {
    /// The model id.
    #[must_use]
    pub fn model_id(&self) -> ModelId {
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        for digest in [&self.program, &self.weights, &self.hyrax, &self.whir, &self.parameters] {
            hasher.update(digest);
        }
        ModelId(*hasher.finalize().as_bytes())
    }

    /// The five digests one after the other: 160 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; 160] {
        let mut bytes = [0; 160];
        for (to, digest) in bytes.chunks_exact_mut(32).zip([
            &self.program,
            &self.weights,
            &self.hyrax,
            &self.whir,
            &self.parameters,
        ]) {
            to.copy_from_slice(digest);
        }
        bytes
    }

    /// Reads what [`Digests::encode`] wrote.
    #[must_use]
    pub fn decode(bytes: &[u8; 160]) -> Self {
        let (chunks, _) = bytes.as_chunks::<32>();
        let at = |i: usize| chunks.get(i).copied().unwrap_or_default();
        Self { program: at(0), weights: at(1), hyrax: at(2), whir: at(3), parameters: at(4) }
    }
}

/// Names a model: program, weights, commitments and parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub [u8; 32]);

impl std::fmt::Display for ModelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// A program with its weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    program: Program,
    weights: Weights,
}

/// Why bytes are not a model.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ModelError {
    /// The container is not one of this version, or cut short.
    #[error("not a model file: {0}")]
    Container(&'static str),
    /// The program.
    #[error("program: {0}")]
    Program(#[source] CodecError),
    /// The weights.
    #[error("weights: {0}")]
    Weights(#[source] CodecError),
}

const MAGIC: &[u8; 4] = b"OGM\x01";

impl Model {
    /// Checks that the weights fit the program.
    ///
    /// # Errors
    /// [`ModelError::Weights`].
    pub fn new(program: Program, weights: Weights) -> Result<Self, ModelError> {
        let weights = Weights::new(&program, weights.into_nodes())
            .map_err(|e| ModelError::Weights(e.into()))?;
        Ok(Self { program, weights })
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The weights.
    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The digests, given those of the commitments and of the parameters.
    #[must_use]
    pub fn digests(&self, hyrax: [u8; 32], whir: [u8; 32], parameters: [u8; 32]) -> Digests {
        Digests {
            program: self.program.digest(),
            weights: self.weights.digest(&self.program),
            hyrax,
            whir,
            parameters,
        }
    }

    /// A model file: magic, length of the program (32 bits, little endian), program, weights.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let program = self.program.encode();
        let mut bytes = MAGIC.to_vec();
        // A program that was checked is far below 2^32 bytes.
        bytes.extend(u32::try_from(program.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(program);
        bytes.extend(self.weights.encode(&self.program));
        bytes
    }

    /// Reads a model file, checking program and weights.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ModelError> {
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or(ModelError::Container("the first bytes are not those of version 1"))?;
        let (length, rest) =
            rest.split_first_chunk::<4>().ok_or(ModelError::Container("it ends early"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (program, weights) =
            rest.split_at_checked(length).ok_or(ModelError::Container("it ends early"))?;
        let program = Program::decode(program).map_err(ModelError::Program)?;
        let weights = Weights::decode(&program, weights).map_err(ModelError::Weights)?;
        Ok(Self { program, weights })
    }
}
