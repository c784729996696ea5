//! Why a file is not a model we can take.

use super::messages::TensorError;
use super::wire::WireError;

/// Why an ONNX file is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The file is larger than allowed.
    #[error("the file has {found} bytes, {allowed} are allowed")]
    TooLarge {
        /// Its size.
        found: usize,
        /// The limit.
        allowed: usize,
    },
    /// The file is not what `onnx.proto3` describes.
    #[error("not an ONNX file: {0}")]
    Wire(#[from] WireError),
    /// The file holds no graph.
    #[error("not an ONNX file: it holds no graph")]
    NoGraph,
    /// The file is for operator sets we do not know.
    #[error("operator set version {found} is not supported ({min} to {max} are)")]
    Opset {
        /// What the file imports.
        found: i64,
        /// The oldest we know.
        min: i64,
        /// The newest we know.
        max: i64,
    },
    /// Something in the file outside of its nodes is not supported.
    #[error("{0} are not supported")]
    Unsupported(&'static str),
    /// A dimension of an input has no size.
    #[error("dimension {axis} of input `{input}` ({dimension}) has no size: bind `{input}.{axis}`")]
    Unbound {
        /// The input.
        input: String,
        /// The axis.
        axis: usize,
        /// The dimension's name in the file, quoted, or `unnamed`.
        dimension: String,
    },
    /// A binding names nothing in the file.
    #[error("the binding of `{0}` fits no input dimension of the model")]
    Binding(String),
    /// A tensor of the file or an input is not usable.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// Which.
        name: String,
        /// Why not.
        reason: TensorError,
    },
    /// A tensor holds NaN or an infinity.
    #[error("tensor `{0}` holds NaN or an infinity")]
    NonFinite(String),
    /// An input or output is not usable.
    #[error("{what} `{name}`: {problem}")]
    Port {
        /// `input` or `output`.
        what: &'static str,
        /// Which.
        name: String,
        /// Why not.
        problem: &'static str,
    },
    /// A node is not usable.
    #[error("node `{node}` ({operator}): {reason}")]
    Node {
        /// Which: its name, or its place.
        node: String,
        /// What operator.
        operator: String,
        /// Why not.
        reason: Reason,
    },
}

/// Why a node is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The operator is not one we have.
    #[error("the operator is not supported")]
    Operator,
    /// The operator is, but not in this form.
    #[error("{0} is not supported")]
    Form(String),
    /// An attribute's value is not valid.
    #[error("attribute `{0}` is not valid")]
    Attribute(String),
    /// An attribute we do not know may change what the node means.
    #[error("attribute `{0}` is not supported")]
    UnknownAttribute(String),
    /// An input is missing.
    #[error("input {0} is missing")]
    Missing(usize),
    /// An input names a tensor that nothing has made yet.
    #[error("input `{0}` is made by no earlier node")]
    Unknown(String),
    /// An output has the name of a tensor that is there.
    #[error("output `{0}` is made twice")]
    Twice(String),
    /// An input must not depend on the model's inputs.
    #[error("input `{0}` must be constant")]
    NotConstant(String),
    /// Shapes do not fit.
    #[error("{0}")]
    Shape(String),
    /// Elements are of the wrong kind.
    #[error("elements of input `{0}` are of the wrong kind")]
    Kind(String),
    /// The tensor would have no elements.
    #[error("the output would have no elements")]
    Empty,
    /// Too large to be computed here.
    #[error("too large: {0}")]
    TooMuch(&'static str),
    /// Constants do not combine.
    #[error("cannot be evaluated: {0}")]
    Evaluate(#[from] crate::reference::Problem),
    /// A constant holds NaN or an infinity.
    #[error("a constant is NaN or infinite")]
    NonFinite,
    /// A constant of the node is not usable.
    #[error("its constant is not usable: {0}")]
    Constant(#[from] TensorError),
}

impl Reason {
    pub(super) fn shape(message: impl Into<String>) -> Self {
        Self::Shape(message.into())
    }

    pub(super) fn form(message: impl Into<String>) -> Self {
        Self::Form(message.into())
    }

    pub(super) fn attribute(name: &str) -> Self {
        Self::Attribute(name.into())
    }
}
