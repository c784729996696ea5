use super::Linear;

/// What a node computes. All arithmetic is on exact integers; the derived ranges guarantee that nothing wraps.
///
/// "Broadcast" means the rule of NumPy: shapes are aligned at the last dimension, and a dimension of 1 is repeated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A tensor known to everybody who holds the program.
    Constant {
        /// Shape of the tensor.
        shape: Vec<u32>,
        /// Its elements, row-major.
        values: Vec<i64>,
    },
    /// Multiplication by committed weights plus committed biases: the only operator with weights.
    Linear(Linear),
    /// Product of two activations: `[.., M, K] × [.., K, N]` with equal leading dimensions.
    MatMul,
    /// Multiply, shift with rounding, clamp.
    Requant(Requant),
    /// `Σ coefficient_i · operand_i`, broadcast; one coefficient per operand.
    Sum {
        /// The coefficients.
        coefficients: Vec<i64>,
    },
    /// The product of two operands, broadcast.
    Product,
    /// The largest or smallest of the operands, broadcast.
    Extreme(Extremum),
    /// A window sliding over the last dimensions.
    Pool {
        /// What is taken of each window.
        kind: PoolKind,
        /// One window per pooled dimension.
        windows: Vec<Window>,
    },
    /// A reduction over some dimensions.
    Reduce {
        /// What is taken.
        kind: PoolKind,
        /// The dimensions, ascending.
        axes: Vec<u32>,
        /// Whether reduced dimensions stay, with size 1.
        keep: bool,
    },
    /// A real function, computed in fixed point: reads the exponents of its operand and of its result.
    Function(Function),
    /// `clamp(round_half_up(a · 2^shift / b), lo, hi)`, broadcast. A zero divisor gives `hi` for positive, `lo` for negative and `clamp(0)` for zero `a`.
    Divide {
        /// Scaling of the quotient.
        shift: u8,
        /// Lower clamp.
        lo: i64,
        /// Upper clamp.
        hi: i64,
    },
    /// Elements moved, repeated or dropped, never changed.
    Move(Move),
    /// Index of the first (or last) extreme element along a dimension.
    ArgExtreme {
        /// Largest or smallest.
        extremum: Extremum,
        /// The dimension.
        axis: u32,
        /// Whether the dimension stays, with size 1.
        keep: bool,
        /// Whether the last of equal elements is taken instead of the first.
        last: bool,
    },
    /// 1 where the comparison of two operands holds, else 0; broadcast.
    Compare(Comparison),
    /// Operands (condition, a, b): `a` where the condition is not 0, else `b`; broadcast.
    Select,
    /// Operands (data, indices): slices of `data` along `axis` chosen by computed indices, which are clamped to the dimension.
    Lookup {
        /// The dimension of `data` that is indexed.
        axis: u32,
    },
    /// A new last dimension of size `depth` that holds 1 at the index and 0 elsewhere (everywhere, if the index is outside).
    OneHot {
        /// Size of the new dimension.
        depth: u32,
    },
}

impl Op {
    /// The operator's name in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Constant { .. } => "constant",
            Self::Linear(_) => "linear",
            Self::MatMul => "matmul",
            Self::Requant(_) => "requant",
            Self::Sum { .. } => "sum",
            Self::Product => "product",
            Self::Extreme(_) => "extreme",
            Self::Pool { .. } => "pool",
            Self::Reduce { .. } => "reduce",
            Self::Function(_) => "function",
            Self::Divide { .. } => "divide",
            Self::Move(_) => "move",
            Self::ArgExtreme { .. } => "argextreme",
            Self::Compare(_) => "compare",
            Self::Select => "select",
            Self::Lookup { .. } => "lookup",
            Self::OneHot { .. } => "onehot",
        }
    }
}

/// `y = clamp(floor((x · multiplier + 2^(shift-1)) / 2^shift), lo, hi)`: rounding half up, by arithmetic shift; without a shift nothing is added.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requant {
    /// One multiplier for all elements, or one per index along `axis`.
    pub multipliers: Vec<i64>,
    /// The dimension the multipliers run along; 0 when there is only one.
    pub axis: u32,
    /// Bits dropped, 0 to 62.
    pub shift: u8,
    /// Lower clamp.
    pub lo: i64,
    /// Upper clamp.
    pub hi: i64,
}

impl Requant {
    /// A shift alone: multiplier 1.
    #[must_use]
    pub fn shift(shift: u8, lo: i64, hi: i64) -> Self {
        Self { multipliers: vec![1], axis: 0, shift, lo, hi }
    }

    /// One multiplier and a shift.
    #[must_use]
    pub fn scale(multiplier: i64, shift: u8, lo: i64, hi: i64) -> Self {
        Self { multipliers: vec![multiplier], axis: 0, shift, lo, hi }
    }

    /// The value of one element.
    #[must_use]
    pub fn apply(&self, x: i64, multiplier: i64) -> i64 {
        let product = i128::from(x) * i128::from(multiplier);
        let half = if self.shift == 0 { 0 } else { 1i128 << (self.shift - 1) };
        let q = (product + half) >> self.shift;
        super::typing::clamp(q, self.lo, self.hi)
    }
}

/// Largest or smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extremum {
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

/// What is taken of a window or of a reduced dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The sum; padding counts as 0.
    Sum,
    /// The largest element; padding does not count.
    Max,
    /// The smallest element; padding does not count.
    Min,
}

/// A window along one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Cells of the window.
    pub kernel: u32,
    /// Distance between windows.
    pub stride: u32,
    /// Distance between the cells of a window.
    pub dilation: u32,
    /// Padding before the first element.
    pub before: u32,
    /// Padding after the last element.
    pub after: u32,
}

/// Real functions with an exact integer algorithm (`execute::function`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `e^x`
    Exp,
    /// The error function.
    Erf,
    /// Natural logarithm; of 0 and below, the logarithm of the smallest positive operand.
    Log,
    /// Square root; 0 below 0.
    Sqrt,
    /// `1 / √x`; of 0 and below, that of the smallest positive operand.
    ReciprocalSqrt,
    /// `x · Φ(x)` with the error function.
    Gelu,
    /// `x · sigmoid(x)`
    Silu,
    /// `ln(1 + e^x)`
    Softplus,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
}

impl Function {
    /// All functions, by their number in encodings.
    pub const ALL: [Self; 12] = [
        Self::Sigmoid,
        Self::Tanh,
        Self::Exp,
        Self::Erf,
        Self::Log,
        Self::Sqrt,
        Self::ReciprocalSqrt,
        Self::Gelu,
        Self::Silu,
        Self::Softplus,
        Self::Sin,
        Self::Cos,
    ];
}

/// Elements moved, repeated or dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Move {
    /// Another shape for the same elements.
    Reshape(Vec<u32>),
    /// Dimension `i` of the result is dimension `permutation[i]` of the operand.
    Transpose(Vec<u32>),
    /// `size` elements from `start` in steps of `step` (which may be negative), per dimension.
    Slice {
        /// First index per dimension.
        starts: Vec<u32>,
        /// Step per dimension, not 0.
        steps: Vec<i32>,
        /// Number of elements per dimension.
        sizes: Vec<u32>,
    },
    /// The operands one after the other along a dimension.
    Concat {
        /// The dimension.
        axis: u32,
    },
    /// Padding before and after, per dimension.
    Pad {
        /// Elements before, per dimension.
        before: Vec<u32>,
        /// Elements after, per dimension.
        after: Vec<u32>,
        /// What is padded with.
        padding: Padding,
    },
    /// Slices along a dimension chosen by fixed indices.
    Gather {
        /// The dimension.
        axis: u32,
        /// The indices.
        indices: Vec<u32>,
    },
    /// Broadcast to a shape.
    Expand(Vec<u32>),
}

/// What a tensor is padded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// A constant.
    Constant(i64),
    /// The nearest element.
    Edge,
    /// The mirror image, without repeating the edge.
    Reflect,
}

/// How two operands are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `a < b`
    Less,
    /// `a ≤ b`
    LessOrEqual,
    /// `a = b`
    Equal,
}
