//! The float graph executed in `f32`, to calibrate and to compare with.
//!
//! Plain loops, one meaning per operator, no fused arithmetic: the same inputs give the same outputs on every machine up to
//! the last bit of the transcendental functions. Sums of layers run in `f32`, reductions in `f64`.

mod elementwise;
mod layers;
mod views;

use std::borrow::Cow;

use crate::onnx::{Data, Graph, Kind, Node, Op, ReduceKind};

pub use elementwise::unary;

/// The most elements a tensor may have.
const MAX_ELEMENTS: usize = 1 << 28;

/// A tensor's value.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// What the elements are.
    pub kind: Kind,
    /// The shape.
    pub shape: Vec<usize>,
    /// The elements, row-major.
    pub data: Data,
}

impl Value {
    /// Floats of this shape.
    #[must_use]
    pub fn floats(shape: &[usize], values: impl Into<std::sync::Arc<[f32]>>) -> Self {
        Self { kind: Kind::Float, shape: shape.to_vec(), data: Data::Float(values.into()) }
    }

    /// Integers of this shape.
    #[must_use]
    pub fn ints(shape: &[usize], values: impl Into<std::sync::Arc<[i64]>>) -> Self {
        Self { kind: Kind::Int, shape: shape.to_vec(), data: Data::Int(values.into()) }
    }
}

/// Why a graph could not be executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The inputs are not those of the graph.
    #[error("the model takes {expected} inputs, {found} were given")]
    Inputs {
        /// How many the graph has.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// An input has another shape, kind or number of elements.
    #[error("input `{name}` must be {expected}")]
    Input {
        /// Which.
        name: String,
        /// What it should be.
        expected: String,
    },
    /// A node cannot be executed.
    #[error("node `{node}`: {problem}")]
    Node {
        /// Which.
        node: String,
        /// Why not.
        problem: Problem,
    },
}

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A tensor it reads is not there.
    #[error("an input is missing")]
    Missing,
    /// Operator, inputs and output do not fit together.
    #[error("shapes do not fit")]
    Shape,
    /// The operator is not defined for elements of this kind.
    #[error("not defined for this kind of elements")]
    Kind,
    /// An index points outside.
    #[error("an index lies outside of the tensor")]
    Index,
    /// An integer is divided by zero, or overflows.
    #[error("an integer operation has no result")]
    Arithmetic,
}

/// Every tensor's value for these inputs (in the order of [`Graph::inputs`]), indexed like [`Graph::tensors`]. Constants
/// are not repeated: they are `None`, as are tensors nothing makes.
///
/// # Errors
/// [`ReferenceError`] when the inputs are not the graph's, or the graph is not one that [`crate::onnx::read`] makes.
pub fn run(graph: &Graph, inputs: &[Value]) -> Result<Vec<Option<Value>>, ReferenceError> {
    if inputs.len() != graph.inputs.len() {
        return Err(ReferenceError::Inputs { expected: graph.inputs.len(), found: inputs.len() });
    }
    let mut values: Vec<Option<Value>> = vec![None; graph.tensors.len()];
    for (&id, value) in graph.inputs.iter().zip(inputs) {
        let (Some(tensor), Some(slot)) = (graph.tensor(id), values.get_mut(id)) else {
            return Err(ReferenceError::Inputs { expected: 0, found: inputs.len() });
        };
        let fits = tensor.shape == value.shape
            && tensor.kind == value.kind
            && count(&value.shape) == Some(value.data.len())
            && value.data.floats().is_some() == (value.kind == Kind::Float);
        if !fits {
            return Err(ReferenceError::Input {
                name: tensor.name.clone(),
                expected: format!("{:?} of shape {:?}", tensor.kind, tensor.shape),
            });
        }
        *slot = Some(value.clone());
    }
    for node in &graph.nodes {
        let error = |problem| ReferenceError::Node { node: node.name.clone(), problem };
        let value = execute(graph, node, &values).map_err(error)?;
        *values.get_mut(node.output).ok_or_else(|| error(Problem::Missing))? = Some(value);
    }
    Ok(values)
}

/// The graph's outputs for these inputs.
///
/// # Errors
/// As [`run`].
pub fn outputs(graph: &Graph, inputs: &[Value]) -> Result<Vec<Value>, ReferenceError> {
    let values = run(graph, inputs)?;
    let missing = || ReferenceError::Node { node: "output".into(), problem: Problem::Missing };
    graph
        .outputs
        .iter()
        .map(|&id| value_of(graph, &values, id).map(Cow::into_owned).ok_or_else(missing))
        .collect()
}

fn value_of<'a>(graph: &Graph, values: &'a [Option<Value>], id: usize) -> Option<Cow<'a, Value>> {
    if let Some(value) = values.get(id)? {
        return Some(Cow::Borrowed(value));
    }
    let tensor = graph.tensor(id)?;
    let data = tensor.constant.clone()?;
    Some(Cow::Owned(Value { kind: tensor.kind, shape: tensor.shape.clone(), data }))
}

fn execute(graph: &Graph, node: &Node, values: &[Option<Value>]) -> Result<Value, Problem> {
    let inputs: Vec<Cow<'_, Value>> = node
        .inputs
        .iter()
        .map(|&id| value_of(graph, values, id).ok_or(Problem::Missing))
        .collect::<Result<_, _>>()?;
    let inputs: Vec<&Value> = inputs.iter().map(AsRef::as_ref).collect();
    let output = graph.tensor(node.output).ok_or(Problem::Missing)?;
    evaluate(&node.op, &inputs, output.kind, &output.shape)
}

/// What one operator makes of its inputs; `kind` and `shape` are the output's.
///
/// # Errors
/// [`Problem`] when they do not fit together.
pub fn evaluate(op: &Op, inputs: &[&Value], kind: Kind, shape: &[usize]) -> Result<Value, Problem> {
    let expected = count(shape).ok_or(Problem::Shape)?;
    if inputs.iter().any(|input| count(&input.shape) != Some(input.data.len())) {
        return Err(Problem::Shape);
    }
    let data = match (op, inputs) {
        (Op::Dense(dense), [x]) => layers::dense(dense, x)?,
        (Op::Conv(conv), [x]) => layers::conv(conv, x, shape)?,
        (Op::Pool { kind, window }, [x]) => layers::pool(*kind, window, x, shape)?,
        (Op::MatMul, [a, b]) => layers::matmul(a, b, shape)?,
        (Op::Binary(binary), [a, b]) => elementwise::binary(*binary, a, b, shape)?,
        (Op::Unary(function), [x]) => elementwise::apply(*function, x)?,
        (Op::Clip { min, max }, [x]) => elementwise::clip(*min, *max, x),
        (Op::Where, [condition, a, b]) => elementwise::select(condition, a, b, shape)?,
        (Op::Convert, [x]) => elementwise::convert(x, kind),
        (Op::Reduce { kind, axes }, [x]) => reduce(*kind, axes, x)?,
        (Op::ArgExtreme { max, axis, last }, [x]) => arg_extreme(*max, *axis, *last, x)?,
        (Op::Softmax { axis }, [x]) => along(x, *axis, |row| softmax(row, false))?,
        (Op::LogSoftmax { axis }, [x]) => along(x, *axis, |row| softmax(row, true))?,
        (Op::Normalize { axis, epsilon }, [x]) => normalize(*axis, *epsilon, x)?,
        (Op::Reshape, [x]) => x.data.clone(),
        (Op::Transpose { permutation }, [x]) => views::transpose(x, permutation)?,
        (Op::Slice { start, step }, [x]) => views::slice(x, start, step, shape)?,
        (Op::Concat { axis }, parts) => views::concat(parts, *axis)?,
        (Op::Pad { before, mode }, [x]) => views::pad(x, before, *mode, shape)?,
        (Op::Expand, [x]) => views::expand(x, shape)?,
        (Op::Gather { axis }, [x, indices]) => views::gather(x, indices, *axis)?,
        _ => return Err(Problem::Missing),
    };
    if data.len() != expected || data.floats().is_some() != (kind == Kind::Float) {
        return Err(Problem::Shape);
    }
    Ok(Value { kind, shape: shape.to_vec(), data })
}

/// The number of elements of a shape, when it is bounded.
fn count(shape: &[usize]) -> Option<usize> {
    let count = shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim))?;
    (count <= MAX_ELEMENTS).then_some(count)
}

/// The rows of `x` along the axes `axes`, which become the last ones: the row length, and the elements.
fn rows(x: &Value, axes: &[usize]) -> Result<(usize, Data), Problem> {
    let rank = x.shape.len();
    let mut permutation: Vec<usize> = (0..rank).filter(|axis| !axes.contains(axis)).collect();
    permutation.extend(axes);
    let len = axes.iter().map(|&axis| x.shape.get(axis)).product::<Option<usize>>();
    let len = len.filter(|&len| len > 0).ok_or(Problem::Shape)?;
    let ordered = permutation.iter().enumerate().all(|(at, &axis)| at == axis);
    let data = if ordered { x.data.clone() } else { views::transpose(x, &permutation)? };
    Ok((len, data))
}

#[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is what is meant")]
fn reduce(kind: ReduceKind, axes: &[usize], x: &Value) -> Result<Data, Problem> {
    let (len, data) = rows(x, axes)?;
    #[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^53")]
    let n = len as f64;
    match data {
        Data::Float(values) => Ok(Data::Float(
            values
                .chunks_exact(len)
                .map(|row| {
                    let numbers = row.iter().map(|&v| f64::from(v));
                    (match kind {
                        ReduceKind::Sum => numbers.sum::<f64>(),
                        ReduceKind::Mean => numbers.sum::<f64>() / n,
                        ReduceKind::Product => numbers.product(),
                        ReduceKind::Max => numbers.fold(f64::NEG_INFINITY, f64::max),
                        ReduceKind::Min => numbers.fold(f64::INFINITY, f64::min),
                    }) as f32
                })
                .collect(),
        )),
        Data::Int(values) => values
            .chunks_exact(len)
            .map(|row| {
                let mut numbers = row.iter().copied();
                match kind {
                    ReduceKind::Sum => numbers.try_fold(0i64, i64::checked_add),
                    ReduceKind::Product => numbers.try_fold(1i64, i64::checked_mul),
                    ReduceKind::Mean => numbers
                        .try_fold(0i64, i64::checked_add)
                        .and_then(|sum| sum.checked_div(i64::try_from(len).ok()?)),
                    ReduceKind::Max => numbers.max(),
                    ReduceKind::Min => numbers.min(),
                }
                .ok_or(Problem::Arithmetic)
            })
            .collect::<Result<_, _>>()
            .map(Data::Int),
    }
}

fn arg_extreme(max: bool, axis: usize, last: bool, x: &Value) -> Result<Data, Problem> {
    fn pick<T: PartialOrd + Copy>(row: &[T], max: bool, last: bool) -> i64 {
        let mut best: Option<(usize, T)> = None;
        for (index, &value) in row.iter().enumerate() {
            let better = best.is_none_or(|(_, held)| {
                (if max { value > held } else { value < held }) || (last && value == held)
            });
            if better {
                best = Some((index, value));
            }
        }
        best.map_or(0, |(index, _)| i64::try_from(index).unwrap_or(i64::MAX))
    }
    let (len, data) = rows(x, &[axis])?;
    Ok(Data::Int(match data {
        Data::Float(values) => values.chunks_exact(len).map(|row| pick(row, max, last)).collect(),
        Data::Int(values) => values.chunks_exact(len).map(|row| pick(row, max, last)).collect(),
    }))
}

/// Applies a function to each row along `axis`.
fn along(x: &Value, axis: usize, f: impl Fn(&mut [f32])) -> Result<Data, Problem> {
    let (len, data) = rows(x, &[axis])?;
    let mut values = data.floats().ok_or(Problem::Kind)?.to_vec();
    values.chunks_exact_mut(len).for_each(f);
    let rank = x.shape.len();
    if axis.saturating_add(1) == rank {
        return Ok(Data::Float(values.into()));
    }
    // Back: the last axis becomes `axis` again.
    let mut moved: Vec<usize> = x.shape.clone();
    let dim = moved.remove(axis);
    moved.push(dim);
    let mut back: Vec<usize> = (0..rank.saturating_sub(1)).collect();
    back.insert(axis, rank.saturating_sub(1));
    views::transpose(&Value::floats(&moved, values), &back)
}

#[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is what is meant")]
fn softmax(row: &mut [f32], log: bool) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&v| f64::from(v - max).exp()).sum();
    for value in row {
        let shifted = f64::from(*value - max);
        *value = (if log { shifted - sum.ln() } else { shifted.exp() / sum }) as f32;
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "rounding to f32 is what is meant"
)]
fn normalize(axis: usize, epsilon: f32, x: &Value) -> Result<Data, Problem> {
    let len: usize = x.shape.get(axis..).ok_or(Problem::Shape)?.iter().product();
    let mut values = x.data.floats().ok_or(Problem::Kind)?.to_vec();
    for row in values.chunks_exact_mut(len.max(1)) {
        let n = row.len() as f64;
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        let scale = (variance + f64::from(epsilon)).sqrt().recip();
        row.iter_mut().for_each(|v| *v = ((f64::from(*v) - mean) * scale) as f32);
    }
    Ok(Data::Float(values.into()))
}
