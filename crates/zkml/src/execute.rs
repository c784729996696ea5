//! The executor: a program on integers, bit-exact, without floating point.
//!
//! Linear nodes are left to a [`Linears`]: [`Weights`](crate::qir::Weights) multiplies, a verifier reads accumulators out of a proof. Every other operator has one
//! implementation, this one, whoever runs it.

use thiserror::Error;

use crate::qir::{Linear, Node, Op, Program, Tensor};

pub(crate) mod function;
pub use function::eval as eval_function;
mod linear;
mod movement;
mod operator;

use operator::Operand;

/// Computes the accumulators of linear nodes.
pub trait Linears {
    /// The accumulators of linear node number `index` for the operand `x` ([`Linear::input_len`] elements), at [`Linear::accumulator_index`].
    /// The executor refuses a wrong length and any magnitude above [`Linear::bound`].
    ///
    /// # Errors
    /// [`ExecuteError::Linear`] when the implementation has no accumulators to give.
    fn accumulate(
        &mut self,
        index: usize,
        node: &Linear,
        x: &[i64],
    ) -> Result<Vec<i64>, ExecuteError>;
}

/// Why a program could not be executed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExecuteError {
    /// Not one tensor per input.
    #[error("{got} inputs, the program takes {expected}")]
    Inputs {
        /// Tensors supplied.
        got: usize,
        /// Inputs of the program.
        expected: usize,
    },
    /// An input has the wrong shape.
    #[error("input `{name}` has shape {got:?}, expected {expected:?}")]
    Shape {
        /// The input.
        name: String,
        /// Shape supplied.
        got: Vec<u32>,
        /// Shape expected.
        expected: Vec<u32>,
    },
    /// An input element is outside the accepted range.
    #[error("input `{name}`: {value} is outside {lo}..={hi}")]
    Range {
        /// The input.
        name: String,
        /// The element.
        value: i64,
        /// Smallest accepted.
        lo: i64,
        /// Largest accepted.
        hi: i64,
    },
    /// A linear node's accumulators are missing or not acceptable.
    #[error("linear node {index}: {reason}")]
    Linear {
        /// The linear node, counted among linear nodes.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// What a proof states for a node is missing or not acceptable.
    #[error("stated result of node {node}: {reason}")]
    Stated {
        /// The node.
        node: usize,
        /// What is wrong.
        reason: String,
    },
    /// The program is not consistent; cannot happen for a checked one.
    #[error("node {node} does not fit its operands")]
    Internal {
        /// The node.
        node: usize,
    },
}

/// What an execution gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The outputs, in the program's order.
    pub outputs: Vec<Tensor>,
    /// All tensors by number, when asked for with [`execute_traced`]; else empty.
    pub tensors: Vec<Tensor>,
}

/// Executes a program and returns its outputs.
///
/// # Errors
/// [`ExecuteError`] for inputs that do not fit, or what `linears` reports.
pub fn execute(
    program: &Program,
    inputs: &[Tensor],
    linears: &mut dyn Linears,
) -> Result<Outcome, ExecuteError> {
    run(program, inputs, linears, false)
}

/// Executes a program and returns its outputs and every tensor.
///
/// # Errors
/// As [`execute`].
pub fn execute_traced(
    program: &Program,
    inputs: &[Tensor],
    linears: &mut dyn Linears,
) -> Result<Outcome, ExecuteError> {
    run(program, inputs, linears, true)
}

fn run(
    program: &Program,
    inputs: &[Tensor],
    linears: &mut dyn Linears,
    traced: bool,
) -> Result<Outcome, ExecuteError> {
    let mut linear_index = 0;
    let mut supply = |_: usize, node: &Node, operands: &[Option<&[i64]>]| match (&node.op, operands)
    {
        (Op::Linear(linear), &[Some(x)]) => {
            let accumulators = linears.accumulate(linear_index, linear, x)?;
            check_accumulators(linear_index, linear, &accumulators)?;
            linear_index += 1;
            Ok(Supply::Given(accumulators))
        }
        _ => Ok(Supply::Computed),
    };
    let tensors = execute_with(program, inputs, &mut supply, traced)?;
    let tensor = |id: usize, values: Vec<i64>| Tensor {
        shape: program.tensors().get(id).map(|ty| ty.shape.clone()).unwrap_or_default(),
        values,
    };
    let mut outputs = Vec::with_capacity(program.outputs().len());
    for output in program.outputs() {
        let values = tensors
            .get(output.tensor)
            .and_then(Clone::clone)
            .ok_or(ExecuteError::Internal { node: program.nodes().len() })?;
        outputs.push(tensor(output.tensor, values));
    }
    let tensors = if traced {
        tensors
            .into_iter()
            .enumerate()
            .map(|(id, values)| tensor(id, values.unwrap_or_default()))
            .collect()
    } else {
        Vec::new()
    };
    Ok(Outcome { outputs, tensors })
}

/// Where the result of a node comes from.
pub(crate) enum Supply {
    /// The operator computes it; all operands must be there.
    Computed,
    /// From somewhere else: a proof, or weights.
    Given(Vec<i64>),
    /// From nowhere: whoever executes does not know it, and nothing computed here may need it.
    Hidden,
}

/// What [`execute_with`] asks for each node: its number, the node, and those of its operands that are known.
pub(crate) type Supplier<'a> =
    dyn FnMut(usize, &Node, &[Option<&[i64]>]) -> Result<Supply, ExecuteError> + 'a;

/// Executes a program node by node, each result from where `supply` says; returns the tensors that are known, and unless
/// `keep` only those that are needed to the end.
///
/// # Errors
/// As [`execute`], and [`ExecuteError::Internal`] for a node that is computed from what is hidden.
pub(crate) fn execute_with(
    program: &Program,
    inputs: &[Tensor],
    supply: &mut Supplier<'_>,
    keep: bool,
) -> Result<Vec<Option<Vec<i64>>>, ExecuteError> {
    check_inputs(program, inputs)?;
    let mut tensors: Vec<Option<Vec<i64>>> =
        inputs.iter().map(|t| Some(t.values.clone())).collect();
    let last = last_uses(program);
    for (index, node) in program.nodes().iter().enumerate() {
        let internal = || ExecuteError::Internal { node: index };
        let known: Vec<Option<&[i64]>> =
            node.inputs.iter().map(|&i| tensors.get(i).and_then(Option::as_deref)).collect();
        let result = match supply(index, node, &known)? {
            Supply::Hidden => None,
            Supply::Given(values) => Some(values),
            Supply::Computed => {
                let mut operands = Vec::with_capacity(node.inputs.len());
                for (&i, &values) in node.inputs.iter().zip(&known) {
                    let ty = program.tensors().get(i).ok_or_else(internal)?;
                    operands.push(Operand { ty, values: values.ok_or_else(internal)? });
                }
                let ty = program.tensors().get(node.output).ok_or_else(internal)?;
                Some(operator::evaluate(&node.op, &operands, ty).ok_or_else(internal)?)
            }
        };
        tensors.push(result);
        if !keep {
            for &i in &node.inputs {
                if last.get(i) == Some(&index)
                    && let Some(values) = tensors.get_mut(i)
                {
                    *values = None;
                }
            }
        }
    }
    Ok(tensors)
}

/// Shapes, lengths and ranges of the inputs.
///
/// # Errors
/// [`ExecuteError::Inputs`], [`ExecuteError::Shape`] or [`ExecuteError::Range`].
pub fn check_inputs(program: &Program, inputs: &[Tensor]) -> Result<(), ExecuteError> {
    if inputs.len() != program.inputs().len() {
        return Err(ExecuteError::Inputs { got: inputs.len(), expected: program.inputs().len() });
    }
    for (tensor, port) in inputs.iter().zip(program.inputs()) {
        if tensor.shape != port.ty.shape || tensor.values.len() != port.ty.len() {
            return Err(ExecuteError::Shape {
                name: port.name.clone(),
                got: tensor.shape.clone(),
                expected: port.ty.shape.clone(),
            });
        }
        let (lo, hi) = (port.ty.lo, port.ty.hi);
        if let Some(&value) = tensor.values.iter().find(|&&v| v < lo || v > hi) {
            return Err(ExecuteError::Range { name: port.name.clone(), value, lo, hi });
        }
    }
    Ok(())
}

fn check_accumulators(
    index: usize,
    linear: &Linear,
    accumulators: &[i64],
) -> Result<(), ExecuteError> {
    let refuse = |reason| Err(ExecuteError::Linear { index, reason });
    if accumulators.len() != linear.accumulator_len() {
        return refuse(format!(
            "{} accumulators, expected {}",
            accumulators.len(),
            linear.accumulator_len()
        ));
    }
    match accumulators.iter().find(|v| v.unsigned_abs() > linear.bound.unsigned_abs()) {
        Some(v) => refuse(format!("accumulator {v} exceeds the bound {}", linear.bound)),
        None => Ok(()),
    }
}

/// The node after which each tensor is no longer needed; outputs are needed to the end.
fn last_uses(program: &Program) -> Vec<usize> {
    let mut last = vec![0; program.tensors().len()];
    for (index, node) in program.nodes().iter().enumerate() {
        for &i in &node.inputs {
            if let Some(l) = last.get_mut(i) {
                *l = index;
            }
        }
    }
    for output in program.outputs() {
        if let Some(l) = last.get_mut(output.tensor) {
            *l = usize::MAX;
        }
    }
    last
}

/// `clamp(round_half_up(a · 2^shift / b), lo, hi)`; see [`crate::qir::Op::Divide`].
#[must_use]
pub fn divide(a: i64, b: i64, shift: u8, lo: i64, hi: i64) -> i64 {
    use std::cmp::Ordering;
    if b == 0 {
        return match a.cmp(&0) {
            Ordering::Greater => hi,
            Ordering::Less => lo,
            Ordering::Equal => 0.clamp(lo, hi),
        };
    }
    // |a| · 2^shift < 2^125.
    let (numerator, divisor) =
        if b < 0 { (-i128::from(a), -i128::from(b)) } else { (a.into(), b.into()) };
    let scaled = numerator << shift.min(62);
    let (q, r) = (scaled.div_euclid(divisor), scaled.rem_euclid(divisor));
    let q = if 2 * r >= divisor { q + 1 } else { q };
    crate::qir::clamp(q, lo, hi)
}
