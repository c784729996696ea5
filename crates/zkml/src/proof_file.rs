//! Read, write and verify proof files (`.ogz`).
//!
//! A file holds all that checking takes, for a stranger: the program, the commitment to the weights, inputs, outputs and
//! proof. What it does not hold is a reason to care for that model: [`verify_file`] without an expected id finds a proof
//! "valid for model 0x…", and no more.
//!
//! # Bytes
//! | Field | Bytes | |
//! |---|---|---|
//! | magic | 4 | `OGZ` and the version, 1 |
//! | mode | 1 | `T` or `S` |
//! | backend | 1 | `H` or `W` |
//! | digests | 160 | program, weights, commitment H, commitment W, parameters |
//! | batch | 4 | number of inferences, 1 to 1024, little endian |
//! | program length | 4 | little endian |
//! | commitment length | 4 | little endian; at most what the backend takes for the number of weights |
//! | program | as said | canonical bytes ([`Program::encode`]) |
//! | commitment | as said | [`Scheme::encode`] |
//! | inputs | by program and batch | integers packed by their ranges ([`crate::trace::Packing`]), inference by inference |
//! | outputs | by program and batch | likewise |
//! | proof | the rest | consumed to the last byte by the verifier |
//!
//! Each file has one meaning, and each part but the proof one encoding.

use crate::hyrax::Hyrax;
use crate::layout::{Layout, LayoutError};
use crate::model::{Digests, ModelId};
use crate::qir::{CodecError, Program, Tensor, TensorType};
use crate::scheme::{Backend, Mode, Scheme, SchemeError};
use crate::security::Security;
use crate::succinct;
use crate::trace::{self, Claim, DEFAULT_WORK, MAX_BATCH, PackError, StatementBytes, TraceError};
use crate::whir::Whir;
use std::fmt;

/// Largest proof file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 26;

const MAGIC: [u8; 4] = *b"OGZ\x01";

/// Whether bytes begin like a proof file of this version.
#[must_use]
pub fn is_proof(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// A proof file, decoded. Its parts are well formed; whether the proof holds is [`ProofFile::verify`]'s to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofFile {
    /// The protocol.
    pub mode: Mode,
    /// The commitment scheme.
    pub backend: Backend,
    /// What the model's id is computed from.
    pub digests: Digests,
    /// The program.
    pub program: Program,
    /// The commitment to the weights, encoded.
    pub commitment: Vec<u8>,
    /// The inputs of each inference.
    pub inputs: Vec<Vec<Tensor>>,
    /// The outputs of each inference.
    pub outputs: Vec<Vec<Tensor>>,
    /// The proof.
    pub proof: Vec<u8>,
}

/// Why a proof file was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The file is larger than any proof.
    #[error("the file has {0} bytes, more than the {MAX_FILE_BYTES} allowed")]
    Size(usize),
    /// It does not begin like a proof file of this version.
    #[error("this is no proof file of version 1")]
    Magic,
    /// An unknown mode.
    #[error("unknown mode {0:#04x}")]
    Mode(u8),
    /// An unknown backend.
    #[error("unknown backend {0:#04x}")]
    Backend(u8),
    /// A number of inferences that no proof covers.
    #[error("a proof covers 1 to {MAX_BATCH} inferences, not {0}")]
    Batch(u32),
    /// The file ends too early.
    #[error("the file ends inside the {0}")]
    Truncated(&'static str),
    /// The program cannot be read.
    #[error("the program: {0}")]
    Program(#[from] CodecError),
    /// The program's weights cannot be laid out.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The commitment cannot be read.
    #[error(transparent)]
    Commitment(#[from] SchemeError),
    /// Inputs or outputs cannot be read.
    #[error("the {what} of inference {inference}: {reason}")]
    Tensor {
        /// Inputs or outputs.
        what: &'static str,
        /// Which inference.
        inference: usize,
        /// Why.
        reason: PackError,
    },
    /// The proof is for another model.
    #[error("the proof is for model {found}, not {expected}")]
    Model {
        /// The model it is for.
        found: ModelId,
        /// The model asked for.
        expected: ModelId,
    },
    /// The proof does not hold.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// What a valid proof file shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The model that the proof is for.
    pub model_id: ModelId,
    /// Whether that model was asked for. If not, nothing is known about it but its id.
    pub expected: bool,
    /// The name that the program gives itself; a claim of whoever made it.
    pub name: String,
    /// The protocol.
    pub mode: Mode,
    /// The commitment scheme.
    pub backend: Backend,
    /// The inputs of each inference.
    pub inputs: Vec<Vec<Named>>,
    /// The outputs of each inference.
    pub outputs: Vec<Vec<Named>>,
    /// What the soundness adds up to.
    pub security: Security,
    /// Size of the file, in bytes.
    pub bytes: usize,
}

/// A tensor with its name and scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Name of the input or output.
    pub name: String,
    /// Shape and integers.
    pub tensor: Tensor,
    /// The real number meant by an integer `v` is `v · 2^-exponent`.
    pub exponent: i8,
}

impl Named {
    /// The real numbers meant, as exact decimals.
    #[must_use]
    pub fn reals(&self) -> Vec<String> {
        self.tensor.values.iter().map(|&value| decimal(value, self.exponent)).collect()
    }
}

impl Report {
    /// What was found, in one line, and no more than was found.
    #[must_use]
    pub fn verdict(&self) -> String {
        if self.expected {
            format!("valid for the model asked for, {}", self.model_id)
        } else {
            format!("valid for model {}", self.model_id)
        }
    }

    /// What the proof gives away besides what it states.
    #[must_use]
    pub const fn reveals(&self) -> &'static str {
        reveals(self.mode)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.verdict())
    }
}

/// What proofs of a mode give away besides model id, program, inputs and outputs.
#[must_use]
pub const fn reveals(mode: Mode) -> &'static str {
    match mode {
        Mode::Trace => {
            "not zero-knowledge: every accumulator and activation is in the clear, and proofs on enough different inputs determine the weights"
        }
        Mode::Succinct => {
            "not zero-knowledge: results that no constraint covers are in the clear; the others are committed to, but the proof's messages depend on them and on the weights and are not blinded"
        }
    }
}

/// Verifies a proof file; with `expected`, also that it is for that model.
///
/// # Errors
/// [`FileError`]. Never panics, whatever the bytes.
pub fn verify_file(bytes: &[u8], expected: Option<ModelId>) -> Result<Report, FileError> {
    verify_file_within(bytes, expected, DEFAULT_WORK)
}

/// [`verify_file`] with at most `work_limit` elementary operations ([`trace::cost`]).
///
/// # Errors
/// As [`verify_file`].
pub fn verify_file_within(
    bytes: &[u8],
    expected: Option<ModelId>,
    work_limit: u64,
) -> Result<Report, FileError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(FileError::Size(bytes.len()));
    }
    // The id is known before anything is decoded: a proof for another model is not worth reading.
    let header = Header::read(bytes)?;
    let found = header.digests.model_id();
    if let Some(expected) = expected.filter(|&expected| expected != found) {
        return Err(FileError::Model { found, expected });
    }
    let file = ProofFile::decode(bytes)?;
    let security = file.verify(work_limit)?;
    let program = &file.program;
    let inputs =
        program.inputs().iter().map(|port| (port.name.as_str(), &port.ty)).collect::<Vec<_>>();
    let outputs = program.outputs().iter().zip(trace::output_types(program));
    let outputs = outputs.map(|(output, ty)| (output.name.as_str(), ty)).collect::<Vec<_>>();
    Ok(Report {
        model_id: found,
        expected: expected.is_some(),
        name: program.name().to_owned(),
        mode: file.mode,
        backend: file.backend,
        inputs: name_all(&inputs, file.inputs),
        outputs: name_all(&outputs, file.outputs),
        security,
        bytes: bytes.len(),
    })
}

fn name_all(names: &[(&str, &TensorType)], batch: Vec<Vec<Tensor>>) -> Vec<Vec<Named>> {
    let name = |tensors: Vec<Tensor>| {
        let named = names.iter().zip(tensors);
        named
            .map(|(&(name, ty), tensor)| Named {
                name: name.to_owned(),
                tensor,
                exponent: ty.exponent,
            })
            .collect()
    };
    batch.into_iter().map(name).collect()
}

impl ProofFile {
    /// Verifies the proof.
    ///
    /// # Errors
    /// When the commitment is malformed or the proof does not hold.
    pub fn verify(&self, work_limit: u64) -> Result<Security, FileError> {
        match self.backend {
            Backend::Hyrax => self.verify_with::<Hyrax>(work_limit),
            Backend::Whir => self.verify_with::<Whir>(work_limit),
        }
    }

    fn verify_with<S: Scheme>(&self, work_limit: u64) -> Result<Security, FileError> {
        let layout = Layout::new(&self.program)?;
        let commitment = S::decode(&self.commitment, layout.variables())?;
        let Self { program, digests, inputs, outputs, .. } = self;
        let claim = Claim { program, digests, inputs, outputs };
        let verify = match self.mode {
            Mode::Trace => trace::verify::<S>,
            Mode::Succinct => succinct::verify::<S>,
        };
        Ok(verify(&claim, &commitment, &self.proof, work_limit)?)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// When inputs or outputs do not fit the program, or the file would be too large.
    pub fn encode(&self) -> Result<Vec<u8>, FileError> {
        let statement = StatementBytes::new(&self.program, &self.inputs, &self.outputs)?;
        let program = self.program.encode();
        let length = u32::try_from(program.len()).map_err(|_| FileError::Size(program.len()))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend([self.mode.code(), self.backend.code()]);
        bytes.extend(self.digests.encode());
        bytes.extend(statement.batch().to_le_bytes());
        bytes.extend(length.to_le_bytes());
        let length = u32::try_from(self.commitment.len())
            .map_err(|_| FileError::Size(self.commitment.len()))?;
        bytes.extend(length.to_le_bytes());
        for part in
            [&program, &self.commitment, statement.inputs(), statement.outputs(), &self.proof]
        {
            bytes.extend_from_slice(part);
        }
        if bytes.len() > MAX_FILE_BYTES { Err(FileError::Size(bytes.len())) } else { Ok(bytes) }
    }

    /// Reads a file. The proof inside is not checked.
    ///
    /// # Errors
    /// When a part is missing, malformed or not in canonical form.
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(FileError::Size(bytes.len()));
        }
        let Header { mode, backend, digests, batch, program, commitment, rest } =
            Header::read(bytes)?;
        let (program, rest) =
            rest.split_at_checked(program as usize).ok_or(FileError::Truncated("program"))?;
        let program = Program::decode(program)?;
        let (commitment, rest) =
            rest.split_at_checked(commitment as usize).ok_or(FileError::Truncated("commitment"))?;
        let (inputs, rest) = read_batch("inputs", &trace::input_types(&program), batch, rest)?;
        let (outputs, rest) = read_batch("outputs", &trace::output_types(&program), batch, rest)?;
        let commitment = commitment.to_vec();
        Ok(Self {
            mode,
            backend,
            digests,
            program,
            commitment,
            inputs,
            outputs,
            proof: rest.to_vec(),
        })
    }
}

type Batch<'a> = (Vec<Vec<Tensor>>, &'a [u8]);

fn read_batch<'a>(
    what: &'static str,
    types: &[&TensorType],
    batch: u32,
    bytes: &'a [u8],
) -> Result<Batch<'a>, FileError> {
    let length = trace::packed_len(types.iter().copied()).saturating_mul(batch as usize);
    if length > bytes.len() {
        return Err(FileError::Truncated(what));
    }
    let mut tensors = Vec::with_capacity(batch as usize);
    let mut rest = bytes;
    for inference in 0..batch as usize {
        let (read, after) = trace::unpack(types.iter().copied(), rest)
            .map_err(|reason| FileError::Tensor { what, inference, reason })?;
        tensors.push(read);
        rest = after;
    }
    Ok((tensors, rest))
}

/// What comes before the program.
struct Header<'a> {
    mode: Mode,
    backend: Backend,
    digests: Digests,
    batch: u32,
    program: u32,
    commitment: u32,
    rest: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, FileError> {
        let short = FileError::Truncated("header");
        let rest = bytes.strip_prefix(&MAGIC).ok_or(FileError::Magic)?;
        let (&[mode, backend], rest) = rest.split_first_chunk::<2>().ok_or(short.clone())?;
        let mode = Mode::from_code(mode).ok_or(FileError::Mode(mode))?;
        let backend = Backend::from_code(backend).ok_or(FileError::Backend(backend))?;
        let (digests, rest) = rest.split_first_chunk::<160>().ok_or(short.clone())?;
        let (batch, rest) = rest.split_first_chunk::<4>().ok_or(short.clone())?;
        let (program, rest) = rest.split_first_chunk::<4>().ok_or(short.clone())?;
        let (commitment, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
        let [batch, program, commitment] =
            [batch, program, commitment].map(|bytes| u32::from_le_bytes(*bytes));
        if batch == 0 || batch as usize > MAX_BATCH {
            return Err(FileError::Batch(batch));
        }
        Ok(Self {
            mode,
            backend,
            digests: Digests::decode(digests),
            batch,
            program,
            commitment,
            rest,
        })
    }
}

/// `value · 2^-exponent` as an exact decimal, for exponents within ±64.
#[must_use]
pub fn decimal(value: i64, exponent: i8) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let magnitude = u128::from(value.unsigned_abs());
    if exponent <= 0 {
        let shift = u32::from(exponent.unsigned_abs()).min(64);
        return format!("{sign}{}", magnitude << shift);
    }
    let shift = u32::from(exponent.unsigned_abs()).min(64);
    let mut text = format!("{sign}{}", magnitude >> shift);
    let mask = (1_u128 << shift) - 1;
    let mut rest = magnitude & mask;
    if rest > 0 {
        text.push('.');
    }
    while rest > 0 {
        rest *= 10;
        text.extend(char::from_digit(u32::try_from(rest >> shift).unwrap_or(0), 10));
        rest &= mask;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn decimals_are_exact() {
        for (value, exponent, text) in [
            (0, 12, "0"),
            (1, 1, "0.5"),
            (-3, 2, "-0.75"),
            (5, 0, "5"),
            (5, -3, "40"),
            (i64::MIN, 63, "-1"),
            (i64::MAX, -62, "42535295865117307928310139910543638528"),
            (1, 10, "0.0009765625"),
        ] {
            assert_eq!(decimal(value, exponent), text, "{value} · 2^-{exponent}");
        }
    }
}
