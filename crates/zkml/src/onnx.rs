//! ONNX files: a bounded reader, shapes, folding, into a float graph.
//!
//! ```text
//! bytes ──wire──▶ messages ──import (dimensions bound, operators lowered, constants folded)──▶ Graph
//! ```
//!
//! Files of operator sets 11 and newer (of older ones, what has not changed since), without external data, subgraphs, strings, sequences and functions of their own.
//! Memory stays within a small multiple of the file's size plus a fixed budget for folded constants, whatever the file says.

mod builder;
mod error;
mod fuse;
mod graph;
mod import;
mod lower;
mod messages;
mod wire;

use std::collections::BTreeMap;

pub use error::{OnnxError, Reason};
pub use graph::{
    Binary, Conv, Data, Dense, Graph, Kind, Node, Op, PadMode, PoolKind, ReduceKind, Tensor,
    TensorId, Unary, Window,
};
pub use messages::TensorError;
pub use wire::WireError;

use crate::reference::Value;

/// How to read a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Sizes of dimensions that the file leaves open, by the dimension's name or by `input.axis`.
    pub dims: BTreeMap<String, usize>,
    /// Inputs that are fixed to a value, by name; they are then no inputs of the graph.
    pub constants: BTreeMap<String, Value>,
    /// The largest file to read, in bytes.
    pub max_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { dims: BTreeMap::new(), constants: BTreeMap::new(), max_bytes: 1 << 30 }
    }
}

/// Reads a model.
///
/// # Errors
/// [`OnnxError`], naming the node, tensor or dimension and the reason. Never panics, whatever the bytes.
pub fn read(bytes: &[u8], options: &Options) -> Result<Graph, OnnxError> {
    if bytes.len() > options.max_bytes {
        return Err(OnnxError::TooLarge { found: bytes.len(), allowed: options.max_bytes });
    }
    let model = messages::model(bytes)?.ok_or(OnnxError::NoGraph)?;
    import::import(&model, bytes.len(), options)
}

/// Reads a single tensor (a `TensorProto`, as ONNX test data holds them): its name and value.
///
/// # Errors
/// [`TensorError`].
pub fn read_tensor(bytes: &[u8]) -> Result<(String, Value), TensorError> {
    let tensor = messages::tensor(bytes)?;
    let (kind, shape, data) = tensor.value()?;
    Ok((tensor.name.to_owned(), Value { kind, shape, data }))
}
