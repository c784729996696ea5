//! The program: operators, types, proven ranges, canonical bytes.
//!
//! A [`Program`] is a graph of integer operators without its weights. Every tensor has a shape and a *proven range*: both follow from the inputs
//! and the operators alone, are computed by [`Builder::push`] and never read from a file, so a decoded program is as checked as a built one.
//! A tensor also carries an `exponent`: the real number meant by an integer `v` is `v · 2^-exponent`.
//!
//! Tensors are numbered: first the inputs, then one per node in topological order.

use thiserror::Error;

mod codec;
mod linear;
mod op;
mod typing;
mod weights;

pub use codec::{CodecError, MAX_PROGRAM_BYTES, MAX_WEIGHT_BYTES};
pub use linear::{Axis, Form, Linear};
pub use op::{Comparison, Extremum, Function, Move, Op, Padding, PoolKind, Requant, Window};
pub(crate) use typing::{clamp, window_output};
pub use weights::{NodeWeights, Weights, WeightsError};

/// The largest rank of a tensor.
pub const MAX_RANK: usize = 8;
/// The largest number of elements of one tensor.
pub const MAX_ELEMENTS: u64 = 1 << 24;
/// The largest number of elements of all tensors of a program together.
pub const MAX_TOTAL_ELEMENTS: u64 = 1 << 27;
/// The largest number of inputs, and of outputs.
pub const MAX_PORTS: usize = 256;
/// The largest number of nodes.
pub const MAX_NODES: usize = 1 << 16;
/// The largest number of elementary operations of one execution ([`Program::work`]).
pub const MAX_WORK: u64 = 1 << 42;
/// Every value of every tensor, and every intermediate sum, stays strictly below this magnitude: nothing wraps in an `i64`, nor modulo the field of a proof.
pub const MAX_MAGNITUDE: i64 = 1 << 62;
/// The largest number of bytes of a name.
pub const MAX_NAME: usize = 128;
/// Exponents lie in `-MAX_EXPONENT ..= MAX_EXPONENT`.
pub const MAX_EXPONENT: i8 = 62;

/// Shape, proven range and scale of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// Sizes of the dimensions, outermost first; all are at least 1. Empty for a scalar.
    pub shape: Vec<u32>,
    /// No element is below this.
    pub lo: i64,
    /// No element is above this.
    pub hi: i64,
    /// The real number meant by an integer `v` is `v · 2^-exponent`.
    pub exponent: i8,
}

impl TensorType {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().map(|&d| d as usize).product()
    }

    /// Whether the tensor has no element; never true in a checked program.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest magnitude an element can have.
    #[must_use]
    pub fn magnitude(&self) -> u64 {
        self.lo.unsigned_abs().max(self.hi.unsigned_abs())
    }
}

/// A tensor of integers, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Sizes of the dimensions.
    pub shape: Vec<u32>,
    /// Elements, the last dimension varying fastest.
    pub values: Vec<i64>,
}

/// A named input of a program: the name and the type a caller must supply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name, as in the model's source.
    pub name: String,
    /// Shape, accepted range and scale.
    pub ty: TensorType,
}

/// A named output of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Name, as in the model's source.
    pub name: String,
    /// The tensor's number.
    pub tensor: usize,
}

/// One operator applied to earlier tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Numbers of the operands.
    pub inputs: Vec<usize>,
    /// Number of the result.
    pub output: usize,
}

/// A checked integer graph without its weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    name: String,
    inputs: Vec<Port>,
    outputs: Vec<Output>,
    tensors: Vec<TensorType>,
    nodes: Vec<Node>,
    work: u64,
}

impl Program {
    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The inputs, in order; input `i` is tensor `i`.
    #[must_use]
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The outputs, in order.
    #[must_use]
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The types of all tensors, by number.
    #[must_use]
    pub fn tensors(&self) -> &[TensorType] {
        &self.tensors
    }

    /// The nodes, in topological order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The linear nodes, in order: the `index` of [`crate::execute::Linears::accumulate`] counts these.
    pub fn linears(&self) -> impl Iterator<Item = (&Node, &Linear)> {
        self.nodes.iter().filter_map(|node| match &node.op {
            Op::Linear(linear) => Some((node, linear)),
            _ => None,
        })
    }

    /// Elementary operations (multiply-accumulates, element visits) of one execution: what gas is charged for.
    #[must_use]
    pub fn work(&self) -> u64 {
        self.work
    }

    /// Elementary operations of the linear nodes alone: what a verifier of a proof does not do.
    #[must_use]
    pub fn linear_work(&self) -> u64 {
        self.linears().map(|(_, linear)| linear.macs()).sum()
    }
}

/// Why a graph is not a program. Nodes are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProgramError {
    /// A limit of the format is exceeded.
    #[error("{what} is {got}, the limit is {limit}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// How many there are.
        got: u64,
        /// How many there may be.
        limit: u64,
    },
    /// An operand is not an earlier tensor.
    #[error("node {node} ({op}) reads tensor {tensor}, which does not come before it")]
    Operand {
        /// The node.
        node: usize,
        /// Its operator.
        op: &'static str,
        /// The tensor.
        tensor: usize,
    },
    /// An operator does not fit its operands.
    #[error("node {node} ({op}): {reason}")]
    Node {
        /// The node.
        node: usize,
        /// Its operator.
        op: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// An input or output is not well formed.
    #[error("port `{name}`: {reason}")]
    Port {
        /// The port's name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Builds a [`Program`] node by node, checking each.
///
/// ```
/// use og_zkml::qir::{Builder, Linear, Op, Requant};
/// // x[1,4] → dense 4→3 → relu, 16 bits → dense 3→2, outputs left wide
/// let mut b = Builder::new("tiny");
/// let x = b.input("x", &[1, 4], -32767, 32767, 12)?;
/// let h = b.push(Op::Linear(Linear::dense(1, 4, 3).with_bias(40)), &[x], 24)?;
/// let h = b.push(Op::Requant(Requant::shift(12, 0, 32767)), &[h], 12)?;
/// let y = b.push(Op::Linear(Linear::dense(1, 3, 2)), &[h], 24)?;
/// b.output("y", y)?;
/// let program = b.finish()?;
/// assert_eq!(program.linears().count(), 2);
/// # Ok::<(), og_zkml::qir::ProgramError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    program: Program,
    elements: u64,
}

impl Builder {
    /// An empty program.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let name = name.to_owned();
        Self {
            program: Program {
                name,
                inputs: Vec::new(),
                outputs: Vec::new(),
                tensors: Vec::new(),
                nodes: Vec::new(),
                work: 0,
            },
            elements: 0,
        }
    }

    /// Adds an input whose elements lie in `lo ..= hi`; all inputs come before the first node. Returns the tensor's number.
    ///
    /// # Errors
    /// A name, shape or range outside the limits of the format.
    pub fn input(
        &mut self,
        name: &str,
        shape: &[u32],
        lo: i64,
        hi: i64,
        exponent: i8,
    ) -> Result<usize, ProgramError> {
        let refuse = |reason| ProgramError::Port { name: name.to_owned(), reason };
        if !self.program.nodes.is_empty() {
            return Err(refuse("inputs come before nodes"));
        }
        check_ports(self.program.inputs.len())?;
        check_name(name)?;
        if self.program.inputs.iter().any(|port| port.name == name) {
            return Err(refuse("is there twice"));
        }
        if lo > hi {
            return Err(refuse("has an empty range"));
        }
        let ty = TensorType { shape: shape.to_vec(), lo, hi, exponent };
        typing::check_type(&ty).map_err(refuse)?;
        let id = self.add_tensor(ty.clone())?;
        self.program.inputs.push(Port { name: name.to_owned(), ty });
        Ok(id)
    }

    /// Adds a node and returns the number of its result, whose shape and range are derived. `exponent` is the result's scale.
    ///
    /// # Errors
    /// [`ProgramError::Node`] when the operator does not fit its operands, or when a value could reach [`MAX_MAGNITUDE`].
    pub fn push(&mut self, op: Op, inputs: &[usize], exponent: i8) -> Result<usize, ProgramError> {
        let node = self.program.nodes.len();
        if node >= MAX_NODES {
            return Err(limit("number of nodes", node as u64 + 1, MAX_NODES as u64));
        }
        let name = op.name();
        let refuse = |reason: String| ProgramError::Node { node, op: name, reason };
        let mut types = Vec::with_capacity(inputs.len());
        for &tensor in inputs {
            types.push(self.program.tensors.get(tensor).ok_or(ProgramError::Operand {
                node,
                op: name,
                tensor,
            })?);
        }
        let (ty, work) = typing::infer(&op, &types, exponent).map_err(refuse)?;
        let total = self.program.work.saturating_add(work);
        if total > MAX_WORK {
            return Err(limit("work of one execution", total, MAX_WORK));
        }
        let output = self.add_tensor(ty)?;
        self.program.work = total;
        self.program.nodes.push(Node { op, inputs: inputs.to_vec(), output });
        Ok(output)
    }

    /// Declares a tensor to be an output.
    ///
    /// # Errors
    /// An unknown tensor, or a name that is too long or already taken.
    pub fn output(&mut self, name: &str, tensor: usize) -> Result<(), ProgramError> {
        check_name(name)?;
        check_ports(self.program.outputs.len())?;
        let refuse = |reason| ProgramError::Port { name: name.to_owned(), reason };
        if tensor >= self.program.tensors.len() {
            return Err(refuse("is not a tensor of the program"));
        }
        if self.program.outputs.iter().any(|port| port.name == name) {
            return Err(refuse("is there twice"));
        }
        self.program.outputs.push(Output { name: name.to_owned(), tensor });
        Ok(())
    }

    /// The type of a tensor built so far.
    #[must_use]
    pub fn ty(&self, tensor: usize) -> Option<&TensorType> {
        self.program.tensors.get(tensor)
    }

    /// The finished program.
    ///
    /// # Errors
    /// When there is no input or no output.
    pub fn finish(self) -> Result<Program, ProgramError> {
        check_name(&self.program.name)?;
        if self.program.inputs.is_empty() {
            return Err(ProgramError::Port {
                name: self.program.name,
                reason: "the program has no input",
            });
        }
        if self.program.outputs.is_empty() {
            return Err(ProgramError::Port {
                name: self.program.name,
                reason: "the program has no output",
            });
        }
        Ok(self.program)
    }

    fn add_tensor(&mut self, ty: TensorType) -> Result<usize, ProgramError> {
        self.elements = self.elements.saturating_add(ty.len() as u64);
        if self.elements > MAX_TOTAL_ELEMENTS {
            return Err(limit(
                "number of elements of all tensors",
                self.elements,
                MAX_TOTAL_ELEMENTS,
            ));
        }
        self.program.tensors.push(ty);
        Ok(self.program.tensors.len() - 1)
    }
}

fn limit(what: &'static str, got: u64, limit: u64) -> ProgramError {
    ProgramError::Limit { what, got, limit }
}

fn check_name(name: &str) -> Result<(), ProgramError> {
    if name.len() > MAX_NAME {
        return Err(limit("length of a name", name.len() as u64, MAX_NAME as u64));
    }
    Ok(())
}

/// Room for one more input or output.
fn check_ports(there: usize) -> Result<(), ProgramError> {
    if there >= MAX_PORTS {
        return Err(limit("number of inputs or outputs", there as u64 + 1, MAX_PORTS as u64));
    }
    Ok(())
}
