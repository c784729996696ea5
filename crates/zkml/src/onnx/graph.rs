//! The float graph: what an ONNX file means, normalised.
//!
//! Every tensor has a name, a kind and a static shape. Every node has one output. Layers with constant weights are
//! [`Op::Dense`] and [`Op::Conv`] and own their weights; whatever could be folded, fused or dropped is gone.

use std::sync::Arc;

/// The index of a tensor in [`Graph::tensors`].
pub type TensorId = usize;

/// A model as floats: named tensors and nodes in topological order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The graph's name, as its author gave it.
    pub name: String,
    /// The version of the standard operator set the file was written for.
    pub opset: u32,
    /// What the caller gives, in the file's order.
    pub inputs: Vec<TensorId>,
    /// What the caller gets, in the file's order. An output may be a constant or an input.
    pub outputs: Vec<TensorId>,
    /// All tensors that are used.
    pub tensors: Vec<Tensor>,
    /// The nodes; each comes after the nodes that make its inputs.
    pub nodes: Vec<Node>,
}

impl Graph {
    /// The tensor with this index.
    #[must_use]
    pub fn tensor(&self, id: TensorId) -> Option<&Tensor> {
        self.tensors.get(id)
    }

    /// The number of weights (of layers with constant weights, biases included).
    #[must_use]
    pub fn weights(&self) -> usize {
        self.nodes
            .iter()
            .filter_map(|node| node.op.linear())
            .map(|(w, b)| w.len() + b.map_or(0, <[f32]>::len))
            .sum()
    }
}

/// One tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name: the file's, or one derived from the node that made it.
    pub name: String,
    /// What its elements are.
    pub kind: Kind,
    /// Its shape; empty for a scalar. No dimension is zero.
    pub shape: Vec<usize>,
    /// Its elements, when they do not depend on the inputs.
    pub constant: Option<Data>,
}

impl Tensor {
    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Never: shapes hold no zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the elements of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Real numbers: `float16`, `float`, `double` of the file, all held as `f32`.
    Float,
    /// Integers of any width of the file, held as `i64`.
    Int,
    /// 0 or 1, held as `i64`.
    Bool,
}

/// Elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Of [`Kind::Float`]; finite.
    Float(Arc<[f32]>),
    /// Of [`Kind::Int`] or [`Kind::Bool`].
    Int(Arc<[i64]>),
}

impl Data {
    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Float(values) => values.len(),
            Self::Int(values) => values.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as floats, when they are.
    #[must_use]
    pub fn floats(&self) -> Option<&[f32]> {
        match self {
            Self::Float(values) => Some(values),
            Self::Int(_) => None,
        }
    }

    /// The elements as integers, when they are.
    #[must_use]
    pub fn ints(&self) -> Option<&[i64]> {
        match self {
            Self::Float(_) => None,
            Self::Int(values) => Some(values),
        }
    }
}

/// One node: an operator, what it reads, what it makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The file's node name, or one made from the operator and its place.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// The tensors it reads; how many is fixed by the operator ([`Op::Concat`] excepted). At least one is not constant.
    pub inputs: Vec<TensorId>,
    /// The tensor it makes.
    pub output: TensorId,
}

/// What a node does. Negative axes are resolved, attributes are checked, shapes fit.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// `y[.., o] = Σ_k x[.., k]·weights[o, k] + bias[o]`: one input.
    Dense(Dense),
    /// A convolution over all dimensions after the first two (batch, channels): one input.
    Conv(Conv),
    /// `a · b` over the last two dimensions, leading ones broadcast; both of rank ≥ 2. Two inputs.
    MatMul,
    /// An element-wise operator on two inputs of the same kind, broadcast as in NumPy.
    Binary(Binary),
    /// A function of each element: one input.
    Unary(Unary),
    /// `min(max(x, min), max)`: Relu is `min = 0`. One input.
    Clip {
        /// The lower bound.
        min: Option<f32>,
        /// The upper bound.
        max: Option<f32>,
    },
    /// A pool over all dimensions after the first two: one input.
    Pool {
        /// What is taken of each window.
        kind: PoolKind,
        /// Where the windows lie.
        window: Window,
    },
    /// Combines all elements along `axes` (ascending). Whether they are kept as 1 is told by the output's shape.
    Reduce {
        /// How.
        kind: ReduceKind,
        /// Along which axes.
        axes: Vec<usize>,
    },
    /// The index of the greatest or least along `axis` ([`Kind::Int`]); kept as 1 or dropped, see the output's shape.
    ArgExtreme {
        /// The greatest, or the least.
        max: bool,
        /// Along which axis.
        axis: usize,
        /// Of equal ones: the last, or the first.
        last: bool,
    },
    /// `exp(x) / Σ exp(x)` along `axis`.
    Softmax {
        /// Along which axis.
        axis: usize,
    },
    /// `x − ln Σ exp(x)` along `axis`.
    LogSoftmax {
        /// Along which axis.
        axis: usize,
    },
    /// `(x − mean) / sqrt(variance + epsilon)` over the trailing axes from `axis` on (layer normalisation without its
    /// scale and shift, which follow as [`Binary::Mul`] and [`Binary::Add`]).
    Normalize {
        /// The first normalised axis.
        axis: usize,
        /// What keeps the root away from zero.
        epsilon: f32,
    },
    /// The same elements under the output's shape.
    Reshape,
    /// `y.shape[i] = x.shape[permutation[i]]`.
    Transpose {
        /// Which input axis each output axis is.
        permutation: Vec<usize>,
    },
    /// `y[i..] = x[start + i·step ..]` per axis; the counts are the output's shape.
    Slice {
        /// The first index, per axis.
        start: Vec<usize>,
        /// The step, per axis; may be negative.
        step: Vec<i64>,
    },
    /// Inputs laid one after the other along `axis`: one input or more.
    Concat {
        /// Along which axis.
        axis: usize,
    },
    /// Elements added around (never taken away).
    Pad {
        /// How many before, per axis; what is after follows from the output's shape.
        before: Vec<usize>,
        /// What they are.
        mode: PadMode,
    },
    /// Broadcast to the output's shape.
    Expand,
    /// `y[a.., i.., b..] = x[a.., indices[i..], b..]` with `a` over the axes before `axis`: inputs `x`, `indices`
    /// ([`Kind::Int`], not negative when constant; often constant). Either may be the live one.
    Gather {
        /// Along which axis.
        axis: usize,
    },
    /// `condition ? a : b`, broadcast: inputs `condition` ([`Kind::Bool`]), `a`, `b`.
    Where,
    /// To the output's kind: float to integer truncates towards zero, anything to bool is `≠ 0`; integer to float is exact.
    Convert,
}

/// A layer `y = x · weightsᵀ + bias` over the last axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// How many outputs there are: `O`.
    pub outputs: usize,
    /// How many inputs there are: `K`.
    pub inputs: usize,
    /// `O × K`, row-major.
    pub weights: Arc<[f32]>,
    /// `O` of them.
    pub bias: Option<Arc<[f32]>>,
}

/// A convolution layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// How many output channels there are: `M`.
    pub outputs: usize,
    /// How many input channels there are: `C`.
    pub inputs: usize,
    /// Into how many groups both are cut.
    pub groups: usize,
    /// Where the windows lie.
    pub window: Window,
    /// `M × C/groups × kernel`, row-major.
    pub weights: Arc<[f32]>,
    /// `M` of them.
    pub bias: Option<Arc<[f32]>>,
}

/// Windows over N spatial dimensions; every list has N entries. Output position `p` and kernel offset `i` read input
/// position `p·stride + i·dilation − before`, which is padding when it lies outside. The output's shape says how many
/// positions there are (`ceil_mode` and the padding after are folded into it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Kernel sizes.
    pub kernel: Vec<usize>,
    /// Strides.
    pub strides: Vec<usize>,
    /// Dilations.
    pub dilations: Vec<usize>,
    /// Padding before the first element.
    pub before: Vec<usize>,
    /// Padding after the last element, as the file says.
    pub after: Vec<usize>,
}

/// Element-wise operators on two inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a − b`
    Sub,
    /// `a · b`
    Mul,
    /// `a / b`; integers truncate towards zero.
    Div,
    /// `a ^ b`
    Pow,
    /// The remainder with the sign of `b`.
    Mod,
    /// The remainder with the sign of `a`.
    Fmod,
    /// The greater one.
    Max,
    /// The lesser one.
    Min,
    /// `a = b`, to bool.
    Equal,
    /// `a < b`, to bool.
    Less,
    /// `a ≤ b`, to bool.
    LessOrEqual,
    /// `a > b`, to bool.
    Greater,
    /// `a ≥ b`, to bool.
    GreaterOrEqual,
    /// Both (bool).
    And,
    /// Either (bool).
    Or,
    /// One of the two (bool).
    Xor,
}

/// Functions of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Unary {
    /// `|x|`
    Abs,
    /// `−x`
    Neg,
    /// −1, 0 or 1.
    Sign,
    /// Towards −∞.
    Floor,
    /// Towards +∞.
    Ceil,
    /// To the nearest, ties to even.
    Round,
    /// `not x` (bool).
    Not,
    /// `1/x`
    Reciprocal,
    /// `√x`
    Sqrt,
    /// `eˣ`
    Exp,
    /// `ln x`
    Log,
    /// `sin x`
    Sin,
    /// `cos x`
    Cos,
    /// `tanh x`
    Tanh,
    /// The error function.
    Erf,
    /// `1/(1 + e^−x)`
    Sigmoid,
    /// `x·sigmoid(alpha·x)`: Swish, SiLU with `alpha = 1`.
    Swish {
        /// The slope inside.
        alpha: f32,
    },
    /// `x·Φ(x)`, exact by the error function.
    Gelu,
    /// The approximation of Gelu by tanh.
    GeluTanh,
    /// `min(max(alpha·x + beta, 0), 1)`
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x·min(max(x/6 + 1/2, 0), 1)`
    HardSwish,
    /// `x` or, below zero, `alpha·x`.
    LeakyRelu {
        /// The slope below zero.
        alpha: f32,
    },
    /// `x` or, below zero, `alpha·(eˣ − 1)`.
    Elu {
        /// The factor below zero.
        alpha: f32,
    },
    /// `gamma·x` or, below zero, `gamma·alpha·(eˣ − 1)`.
    Selu {
        /// The factor below zero.
        alpha: f32,
        /// The factor everywhere.
        gamma: f32,
    },
    /// `max(x, 0) + min(0, alpha·(e^(x/alpha) − 1))`
    Celu {
        /// The scale below zero.
        alpha: f32,
    },
    /// `ln(1 + eˣ)`
    Softplus,
    /// `x/(1 + |x|)`
    Softsign,
    /// `x·tanh(ln(1 + eˣ))`
    Mish,
    /// `x` or, up to `alpha`, zero.
    ThresholdedRelu {
        /// The threshold.
        alpha: f32,
    },
}

/// What a pool takes of each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The greatest element that is not padding.
    Max,
    /// The mean.
    Average {
        /// Whether padding counts as zeros (of the padding the file states, not what `ceil_mode` adds), or not at all.
        include_pad: bool,
    },
}

/// How a reduction combines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceKind {
    /// The sum.
    Sum,
    /// The mean.
    Mean,
    /// The greatest.
    Max,
    /// The least.
    Min,
    /// The product.
    Product,
}

/// What padding is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    /// This number (of the input's kind: exact for integers of up to 24 bits).
    Constant(f32),
    /// The reflection without the edge itself.
    Reflect,
    /// The edge, repeated.
    Edge,
    /// The other end.
    Wrap,
}

impl Op {
    /// Weights and bias, for a layer that has them.
    #[must_use]
    pub fn linear(&self) -> Option<(&[f32], Option<&[f32]>)> {
        match self {
            Self::Dense(dense) => Some((&dense.weights, dense.bias.as_deref())),
            Self::Conv(conv) => Some((&conv.weights, conv.bias.as_deref())),
            _ => None,
        }
    }
}
