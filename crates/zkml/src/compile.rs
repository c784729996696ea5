//! Float graph and ranges into a program of integers.
//!
//! Scales come from here only: from calibration inputs or a stated range, never from an input whose inference is proved. With 16 bits all scales are
//! powers of two; with 8 bits every output channel of a linear node has its own multiplier.
//!
//! What is done on the way: `Relu` and `Clip` become the clamps of the next requantisation, a maximum over windows comes before it, outputs of the
//! graph stay as wide as the operator made them, and accumulators are bounded by the weights that are there rather than by those that could be.

mod calibrate;
mod elementwise;
mod features;
mod linear;
mod lower;
mod normalise;
mod port;
mod shape;

use thiserror::Error;

use crate::model::{Model, ModelError};
use crate::onnx::Graph;
use crate::qir::ProgramError;
use crate::reference::{ReferenceError, Value};

pub use port::{PortError, dequantise, quantise};

/// Bits of weights and activations at linear nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// 16-bit weights and activations, scales are powers of two.
    #[default]
    W16A16,
    /// 8-bit weights and activations, a multiplier per output channel.
    W8A8,
}

impl Precision {
    /// Bits of an activation that a linear node reads.
    fn bits(self) -> u32 {
        match self {
            Self::W16A16 => 16,
            Self::W8A8 => 8,
        }
    }

    /// How far beyond the largest calibrated magnitude values may go before they saturate.
    fn headroom(self) -> f64 {
        match self {
            // Just below 2, so that data reaching 1 is held in units of 2^-14.
            Self::W16A16 => 1.99,
            Self::W8A8 => 1.25,
        }
    }
}

/// Where the ranges of activations come from.
#[derive(Clone, Copy, Debug)]
pub enum Calibration<'a> {
    /// Representative inputs, each one value per input of the graph.
    Inputs(&'a [Vec<Value>]),
    /// Every element of every input lies in this range; activations are calibrated on pseudo-random inputs of it, from a fixed seed.
    Range {
        /// Smallest element.
        lo: f32,
        /// Largest element.
        hi: f32,
    },
}

/// Why a graph cannot be compiled.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum CompileError {
    /// An operator, or what it is asked to do, is not supported.
    #[error("node `{node}` ({op}): {reason}")]
    Unsupported {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// What is not supported.
        reason: String,
    },
    /// The integers of a node do not fit.
    #[error("node `{node}`: {source}")]
    Program {
        /// The node.
        node: String,
        /// What does not fit.
        source: ProgramError,
    },
    /// The model computes numbers that are not finite.
    #[error("tensor `{tensor}` is not finite on calibration input {sample}")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Which input, from 0.
        sample: usize,
    },
    /// The range or the inputs to calibrate with cannot be used.
    #[error("calibration: {0}")]
    Calibration(String),
    /// The float graph cannot be executed.
    #[error("calibration: {0}")]
    Reference(#[from] ReferenceError),
    /// The result does not hold together.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Compiles a float graph.
///
/// # Errors
/// [`CompileError`], which names the node and the reason.
pub fn compile(
    graph: &Graph,
    precision: Precision,
    calibration: Calibration<'_>,
) -> Result<Model, CompileError> {
    let ranges = calibrate::ranges(graph, calibration)?;
    lower::lower(graph, precision, calibration, &ranges)
}
