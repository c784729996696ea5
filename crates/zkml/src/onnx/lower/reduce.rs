//! Operators that combine along axes.

use super::super::builder::{Builder, drop_axes};
use super::super::error::Reason;
use super::super::graph::{Binary, Kind, Op, ReduceKind, TensorId, Unary};
use super::Call;

pub(super) fn lower(b: &mut Builder, call: &Call<'_>) -> Result<Option<TensorId>, Reason> {
    let kind = match call.operator() {
        "ReduceSum" | "ReduceL1" | "ReduceL2" | "ReduceSumSquare" | "ReduceLogSum"
        | "ReduceLogSumExp" => ReduceKind::Sum,
        "ReduceMean" => ReduceKind::Mean,
        "ReduceMax" => ReduceKind::Max,
        "ReduceMin" => ReduceKind::Min,
        "ReduceProd" => ReduceKind::Product,
        "ArgMax" => return arg_extreme(b, call, true).map(Some),
        "ArgMin" => return arg_extreme(b, call, false).map(Some),
        "Softmax" => return softmax(b, call, false).map(Some),
        "LogSoftmax" => return softmax(b, call, true).map(Some),
        "Hardmax" => return hardmax(b, call).map(Some),
        _ => return Ok(None),
    };
    let x = call.input(0)?;
    let rank = b.shape(x).len();
    let keep = call.flag("keepdims", true)?;
    let axes = call.axes(b, 1, rank)?.unwrap_or_default();
    if axes.is_empty()
        && call.flag("noop_with_empty_axes", false)?
        && call.operator() == "ReduceSum"
    {
        return Ok(Some(x));
    }
    let noop = axes.is_empty() && call.flag("noop_with_empty_axes", false)?;
    call.ignore(&["noop_with_empty_axes"]);
    let axes = if axes.is_empty() && !noop { (0..rank).collect() } else { axes };
    // A bool is reduced as the integers 0 and 1.
    let (x, bool) = match b.kind(x) {
        Kind::Bool => (b.convert(x, Kind::Int)?, true),
        _ => (x, false),
    };
    let sum = |b: &mut Builder, x| b.reduce(ReduceKind::Sum, x, axes.clone(), keep);
    let out = match call.operator() {
        "ReduceL1" => {
            let x = b.unary(Unary::Abs, x)?;
            sum(b, x)?
        }
        "ReduceSumSquare" => {
            let x = b.binary(Binary::Mul, x, x)?;
            sum(b, x)?
        }
        "ReduceL2" => {
            let x = b.binary(Binary::Mul, x, x)?;
            let x = sum(b, x)?;
            b.unary(Unary::Sqrt, x)?
        }
        "ReduceLogSum" => {
            let x = sum(b, x)?;
            b.unary(Unary::Log, x)?
        }
        // Shifted by the maximum, so that nothing overflows.
        "ReduceLogSumExp" => {
            b.expect_kind(x, Kind::Float)?;
            let max = b.reduce(ReduceKind::Max, x, axes.clone(), true)?;
            let shifted = b.binary(Binary::Sub, x, max)?;
            let exp = b.unary(Unary::Exp, shifted)?;
            let total = sum(b, exp)?;
            let log = b.unary(Unary::Log, total)?;
            let shape = b.shape(log);
            let max = b.reshape(max, shape)?;
            b.binary(Binary::Add, log, max)?
        }
        _ => b.reduce(kind, x, axes, keep)?,
    };
    if bool { b.convert(out, Kind::Bool).map(Some) } else { Ok(Some(out)) }
}

fn arg_extreme(b: &mut Builder, call: &Call<'_>, max: bool) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    let shape = b.shape(x);
    let axis = call.axis("axis", 0, shape.len())?;
    let last = call.flag("select_last_index", false)?;
    let keep = call.flag("keepdims", true)?;
    let out = drop_axes(&shape, &[axis], keep);
    b.emit(Op::ArgExtreme { max, axis, last }, &[x], Kind::Int, out)
}

/// Before version 13 the input was flattened to two dimensions at `axis`.
fn softmax(b: &mut Builder, call: &Call<'_>, log: bool) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    b.expect_kind(x, Kind::Float)?;
    let shape = b.shape(x);
    let modern = b.opset() >= 13;
    let axis = call.axis("axis", if modern { -1 } else { 1 }, shape.len())?;
    let op = |axis| if log { Op::LogSoftmax { axis } } else { Op::Softmax { axis } };
    if modern || axis + 1 == shape.len() {
        return b.emit(op(axis), &[x], Kind::Float, shape);
    }
    let (outer, inner) = shape.split_at(axis.min(shape.len()));
    let flat = vec![outer.iter().product(), inner.iter().product()];
    let x = b.reshape(x, flat.clone())?;
    let y = b.emit(op(1), &[x], Kind::Float, flat)?;
    b.reshape(y, shape)
}

/// One where the first maximum is, zero elsewhere.
fn hardmax(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    b.expect_kind(x, Kind::Float)?;
    let shape = b.shape(x);
    if b.opset() < 13 {
        return Err(Reason::form("Hardmax before version 13"));
    }
    let axis = call.axis("axis", -1, shape.len())?;
    let at = b.emit(
        Op::ArgExtreme { max: true, axis, last: false },
        &[x],
        Kind::Int,
        drop_axes(&shape, &[axis], true),
    )?;
    let dim = shape.get(axis).copied().unwrap_or(1);
    let mut counter = vec![1; shape.len()];
    if let Some(slot) = counter.get_mut(axis) {
        *slot = dim;
    }
    let indices: Vec<i64> = (0..dim).filter_map(|at| i64::try_from(at).ok()).collect();
    let indices = b.constant(crate::reference::Value::ints(&counter, indices));
    let hit = b.binary(Binary::Equal, indices, at)?;
    b.convert(hit, Kind::Float)
}
