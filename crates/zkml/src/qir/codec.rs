//! Canonical bytes of programs and weights.
//!
//! Integers are LEB128 in the fewest bytes, signed ones zigzag; lists are a length and the elements. Types of results are not written: they are
//! derived. One value has one encoding, and whatever decodes has been checked like a program built by hand.

use thiserror::Error;

use super::{Builder, MAX_NODES, NodeWeights, Program, ProgramError, Weights, WeightsError};

mod reader;
mod writer;

use reader::Reader;
use writer::Writer;

/// The largest number of bytes of an encoded program.
pub const MAX_PROGRAM_BYTES: usize = 16 << 20;
/// The largest number of bytes of encoded weights.
pub const MAX_WEIGHT_BYTES: usize = 1 << 30;

const PROGRAM_MAGIC: &[u8; 4] = b"OGQ\x01";
const WEIGHTS_MAGIC: &[u8; 4] = b"OGW\x01";

/// Why bytes are not a program or weights.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// More bytes than the format allows.
    #[error("{got} bytes, the limit is {limit}")]
    TooLong {
        /// Bytes supplied.
        got: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not the format, or another version of it.
    #[error("the first bytes are not those of {what}, version 1")]
    Magic {
        /// What was expected.
        what: &'static str,
    },
    /// The bytes end early.
    #[error("the bytes end early, at {at}")]
    Truncated {
        /// Offset.
        at: usize,
    },
    /// Bytes follow the end.
    #[error("{count} bytes follow the end")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// A number is out of range, not in its shortest form, or an unknown tag.
    #[error("{what} at byte {at} is not valid")]
    Value {
        /// What was read.
        what: &'static str,
        /// Offset after it.
        at: usize,
    },
    /// The graph is not well formed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The weights do not fit the program.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl Program {
    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer(PROGRAM_MAGIC.to_vec());
        w.string(&self.name);
        w.size(self.inputs.len());
        for port in &self.inputs {
            w.string(&port.name);
            w.list(&port.ty.shape);
            w.int(port.ty.lo);
            w.int(port.ty.hi);
            w.int(port.ty.exponent.into());
        }
        w.size(self.nodes.len());
        for node in &self.nodes {
            w.op(&node.op);
            w.size(node.inputs.len());
            for &i in &node.inputs {
                w.size(i);
            }
            w.int(self.tensors.get(node.output).map_or(0, |ty| ty.exponent).into());
        }
        w.size(self.outputs.len());
        for output in &self.outputs {
            w.string(&output.name);
            w.size(output.tensor);
        }
        w.0
    }

    /// Reads canonical bytes, re-deriving every shape, range and bound.
    ///
    /// # Errors
    /// [`CodecError`]; bytes that [`Program::encode`] would not have written are refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut r = Reader::new(bytes, PROGRAM_MAGIC, "a program", MAX_PROGRAM_BYTES)?;
        let mut builder = Builder::new(&r.string()?);
        for _ in 0..r.length()? {
            let name = r.string()?;
            let shape = r.list()?;
            let (lo, hi, exponent) = (r.int()?, r.int()?, r.exponent()?);
            builder.input(&name, &shape, lo, hi, exponent)?;
        }
        let nodes = r.length()?;
        if nodes > MAX_NODES {
            return Err(r.invalid("number of nodes"));
        }
        for _ in 0..nodes {
            let op = r.op()?;
            let inputs = (0..r.length()?).map(|_| r.size()).collect::<Result<Vec<_>, _>>()?;
            let exponent = r.exponent()?;
            builder.push(op, &inputs, exponent)?;
        }
        for _ in 0..r.length()? {
            let name = r.string()?;
            let tensor = r.size()?;
            builder.output(&name, tensor)?;
        }
        r.end()?;
        Ok(builder.finish()?)
    }

    /// BLAKE3 of the canonical bytes, under the domain `og.zkml.program.v1`.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        blake3::derive_key("og.zkml.program.v1", &self.encode())
    }
}

impl Weights {
    /// The canonical bytes; lengths follow from the program.
    #[must_use]
    pub fn encode(&self, program: &Program) -> Vec<u8> {
        let mut w = Writer(WEIGHTS_MAGIC.to_vec());
        for ((_, linear), node) in program.linears().zip(self.nodes()) {
            if linear.weight_bits <= 8 {
                // At most 8 bits: checked when the weights were made.
                w.0.extend(node.matrix.iter().map(|v| v.to_le_bytes()[0]));
            } else {
                w.0.extend(node.matrix.iter().flat_map(|v| v.to_le_bytes()));
            }
            for &b in &node.bias {
                w.int(b);
            }
        }
        w.0
    }

    /// Reads canonical bytes and checks them against the program.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(program: &Program, bytes: &[u8]) -> Result<Self, CodecError> {
        let mut r = Reader::new(bytes, WEIGHTS_MAGIC, "weights", MAX_WEIGHT_BYTES)?;
        let mut nodes = Vec::new();
        for (_, linear) in program.linears() {
            let width = if linear.weight_bits <= 8 { 1 } else { 2 };
            let bytes = r.take(linear.weight_len().saturating_mul(width))?;
            let matrix = match width {
                1 => bytes.iter().map(|&b| i16::from(i8::from_le_bytes([b]))).collect(),
                _ => bytes.as_chunks::<2>().0.iter().map(|&b| i16::from_le_bytes(b)).collect(),
            };
            if linear.bias_len() > r.rest() {
                return Err(CodecError::Truncated { at: r.at });
            }
            let bias = (0..linear.bias_len()).map(|_| r.int()).collect::<Result<_, _>>()?;
            nodes.push(NodeWeights { matrix, bias });
        }
        r.end()?;
        Ok(Self::new(program, nodes)?)
    }

    /// BLAKE3 of the canonical bytes, under the domain `og.zkml.weights.v1`.
    #[must_use]
    pub fn digest(&self, program: &Program) -> [u8; 32] {
        blake3::derive_key("og.zkml.weights.v1", &self.encode(program))
    }
}
