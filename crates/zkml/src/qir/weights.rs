use std::borrow::Cow;

use thiserror::Error;

use super::{Linear, Program};

/// The weights of one linear node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NodeWeights {
    /// The matrix, at [`Linear::weight_index`].
    pub matrix: Vec<i16>,
    /// The biases, at [`Linear::bias_index`]; empty where the node has none.
    pub bias: Vec<i64>,
}

/// The weights of a program: one list per linear node, in the program's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    nodes: Vec<NodeWeights>,
}

/// Why weights do not fit a program. `index` counts linear nodes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WeightsError {
    /// Not one list per linear node.
    #[error("weights for {got} linear nodes, the program has {expected}")]
    Nodes {
        /// Lists supplied.
        got: usize,
        /// Linear nodes.
        expected: usize,
    },
    /// A list has the wrong length.
    #[error("linear node {index}: {got} {what}, expected {expected}")]
    Length {
        /// The linear node.
        index: usize,
        /// Weights or biases.
        what: &'static str,
        /// Numbers supplied.
        got: usize,
        /// Numbers expected.
        expected: usize,
    },
    /// A number needs more bits than declared.
    #[error("linear node {index}: {what} {value} does not fit {bits} bits")]
    Range {
        /// The linear node.
        index: usize,
        /// Weight or bias.
        what: &'static str,
        /// The number.
        value: i64,
        /// Bits declared.
        bits: u8,
    },
    /// The declared bound does not hold.
    #[error("linear node {index}: accumulators may reach {reach}, the declared bound is {bound}")]
    Bound {
        /// The linear node.
        index: usize,
        /// What they may reach.
        reach: u128,
        /// What was declared.
        bound: i64,
    },
}

impl Weights {
    /// Checks lengths, ranges and bounds against the program.
    ///
    /// # Errors
    /// [`WeightsError`].
    pub fn new(program: &Program, nodes: Vec<NodeWeights>) -> Result<Self, WeightsError> {
        let expected = program.linears().count();
        if nodes.len() != expected {
            return Err(WeightsError::Nodes { got: nodes.len(), expected });
        }
        for (index, ((node, linear), weights)) in program.linears().zip(&nodes).enumerate() {
            let magnitude = node
                .inputs
                .first()
                .and_then(|&i| program.tensors().get(i))
                .map_or(0, super::TensorType::magnitude);
            weights.check(index, linear, magnitude)?;
        }
        Ok(Self { nodes })
    }

    /// The lists, one per linear node.
    #[must_use]
    pub fn into_nodes(self) -> Vec<NodeWeights> {
        self.nodes
    }

    /// The weights of the linear nodes.
    #[must_use]
    pub fn nodes(&self) -> &[NodeWeights] {
        &self.nodes
    }

    /// Number of weights and biases.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.iter().map(|n| n.matrix.len() + n.bias.len()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl NodeWeights {
    /// The largest magnitude an accumulator can have with these weights, for operands up to `magnitude`: `max_o Σ_k |w| · magnitude + |b|`.
    #[must_use]
    pub fn reach(&self, inner: usize, magnitude: u64) -> u128 {
        let bias = if self.bias.is_empty() {
            Cow::Owned(vec![0; self.matrix.len() / inner.max(1)])
        } else {
            Cow::Borrowed(&self.bias)
        };
        let rows = self.matrix.chunks(inner.max(1)).zip(bias.iter());
        rows.map(|(row, b)| {
            row.iter().map(|w| u128::from(w.unsigned_abs())).sum::<u128>() * u128::from(magnitude)
                + u128::from(b.unsigned_abs())
        })
        .max()
        .unwrap_or(0)
    }

    fn check(&self, index: usize, linear: &Linear, magnitude: u64) -> Result<(), WeightsError> {
        for (what, got, expected) in [
            ("weights", self.matrix.len(), linear.weight_len()),
            ("biases", self.bias.len(), linear.bias_len()),
        ] {
            if got != expected {
                return Err(WeightsError::Length { index, what, got, expected });
            }
        }
        let fits = |v: i64, bits: u8| v >= -(1i64 << (bits - 1)) && v < 1i64 << (bits - 1);
        if let Some(&value) = self.matrix.iter().find(|&&w| !fits(w.into(), linear.weight_bits)) {
            return Err(WeightsError::Range {
                index,
                what: "weight",
                value: value.into(),
                bits: linear.weight_bits,
            });
        }
        if let Some(&value) = self.bias.iter().find(|&&b| !fits(b, linear.bias_bits)) {
            return Err(WeightsError::Range { index, what: "bias", value, bits: linear.bias_bits });
        }
        let reach = self.reach(linear.inner(), magnitude);
        if reach > u128::from(linear.bound.unsigned_abs()) {
            return Err(WeightsError::Bound { index, reach, bound: linear.bound });
        }
        Ok(())
    }
}
