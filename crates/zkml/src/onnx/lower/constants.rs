//! Operators that make constants, and those that compare with them.

use super::super::builder::Builder;
use super::super::error::Reason;
use super::super::graph::{Binary, Kind, Op, TensorId};
use super::Call;
use super::movement::sizes;
use crate::reference::Value;

pub(super) fn lower(b: &mut Builder, call: &Call<'_>) -> Result<Option<TensorId>, Reason> {
    match call.operator() {
        "Shape" => shape_of(b, call),
        "Size" => {
            let count = b.shape(call.input(0)?).iter().product::<usize>();
            Ok(b.constant(Value::ints(&[], [i64::try_from(count).unwrap_or(i64::MAX)])))
        }
        "Constant" => constant(b, call),
        "ConstantOfShape" => constant_of_shape(b, call),
        "Range" => range(b, call),
        "OneHot" => one_hot(b, call),
        "Trilu" => trilu(b, call),
        _ => return Ok(None),
    }
    .map(Some)
}

fn as_ints(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&value| i64::try_from(value).unwrap_or(i64::MAX)).collect()
}

fn shape_of(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let shape = as_ints(&b.shape(call.input(0)?));
    let rank = i64::try_from(shape.len()).unwrap_or(0);
    let place = |value: i64| {
        let value = if value < 0 { value.saturating_add(rank) } else { value };
        usize::try_from(value.clamp(0, rank)).unwrap_or(0)
    };
    let (start, end) = (place(call.int("start", 0)?), place(call.int("end", rank)?));
    let part = shape.get(start..end.max(start)).unwrap_or_default().to_vec();
    Ok(b.constant(Value::ints(&[part.len()], part)))
}

fn constant(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let value = if let Some(attribute) = call.attribute("value", 4)? {
        let tensor = attribute.tensor.as_ref().ok_or_else(|| Reason::attribute("value"))?;
        let (kind, shape, data) = tensor.value()?;
        Value { kind, shape, data }
    } else if let Some(attribute) = call.attribute("value_float", 1)? {
        Value::floats(&[], [attribute.float])
    } else if let Some(attribute) = call.attribute("value_int", 2)? {
        Value::ints(&[], [attribute.int])
    } else if let Some(attribute) = call.attribute("value_floats", 6)? {
        Value::floats(&[attribute.floats.len()], attribute.floats.clone())
    } else if let Some(values) = call.ints("value_ints")? {
        Value::ints(&[values.len()], values.to_vec())
    } else {
        return Err(Reason::attribute("value"));
    };
    Ok(b.constant(value))
}

fn constant_of_shape(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let shape = sizes(&b.ints(call.input(0)?)?)?;
    let value = match call.attribute("value", 4)? {
        None => Value::floats(&[], [0.0]),
        Some(attribute) => {
            let tensor = attribute.tensor.as_ref().ok_or_else(|| Reason::attribute("value"))?;
            let (kind, _, data) = tensor.value()?;
            if data.len() != 1 {
                return Err(Reason::attribute("value"));
            }
            Value { kind, shape: vec![], data }
        }
    };
    let value = b.constant(value);
    b.expand(value, shape)
}

fn range(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    const MAX: usize = 1 << 24;
    let ids = [call.input(0)?, call.input(1)?, call.input(2)?];
    let out = if b.kind(ids[0]) == Kind::Int {
        let [start, limit, step] = ids.map(|id| b.ints(id));
        let (&[start], &[limit], &[step]) =
            (start?.as_slice(), limit?.as_slice(), step?.as_slice())
        else {
            return Err(Reason::shape("each input must be one number"));
        };
        if step == 0 {
            return Err(Reason::shape("the step is zero"));
        }
        let span = (i128::from(limit) - i128::from(start)) * i128::from(step.signum());
        let count = (span.max(0) + i128::from(step).abs() - 1) / i128::from(step).abs();
        let count = usize::try_from(count).ok().filter(|&count| count <= MAX);
        let count = count.ok_or(Reason::TooMuch("the range"))?;
        let values: Vec<i64> =
            (0i64..).take(count).map(|at| start.wrapping_add(at.wrapping_mul(step))).collect();
        Value::ints(&[count], values)
    } else {
        let [start, limit, step] = ids.map(|id| b.floats(id));
        let (start, limit, step) = (start?, limit?, step?);
        let (&[start], &[limit], &[step]) = (&*start, &*limit, &*step) else {
            return Err(Reason::shape("each input must be one number"));
        };
        let count = ((f64::from(limit) - f64::from(start)) / f64::from(step)).ceil();
        #[allow(clippy::cast_precision_loss, reason = "a small constant")]
        if !count.is_finite() || count > MAX as f64 {
            return Err(Reason::TooMuch("the range"));
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "bounded above"
        )]
        let values: Vec<f32> =
            (0..count.max(0.0) as usize).map(|at| start + at as f32 * step).collect();
        Value::floats(&[values.len()], values)
    };
    Ok(b.constant(out))
}

/// Compares with `0, 1, … depth − 1`, counted from the end too.
fn one_hot(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let indices = b.convert(call.input(0)?, Kind::Int)?;
    let depth_id = b.convert(call.input(1)?, Kind::Int)?;
    let depth = match b.ints(depth_id)?.as_slice() {
        &[depth] => usize::try_from(depth).ok().filter(|depth| (1..1 << 24).contains(depth)),
        _ => None,
    };
    let depth = depth.ok_or_else(|| Reason::shape("the depth is not valid"))?;
    let values = call.input(2)?;
    let shape = b.shape(indices);
    let at = call.axis("axis", -1, shape.len() + 1)?;
    let mut view = shape;
    view.insert(at, 1);
    let indices = b.reshape(indices, view.clone())?;
    view.fill(1);
    if let Some(slot) = view.get_mut(at) {
        *slot = depth;
    }
    let count = as_ints(&(0..depth).collect::<Vec<_>>());
    let from_end = count.iter().map(|c| c - i64::try_from(depth).unwrap_or(0)).collect::<Vec<_>>();
    let count = b.constant(Value::ints(&view, count));
    let from_end = b.constant(Value::ints(&view, from_end));
    let hit = b.binary(Binary::Equal, indices, count)?;
    let hit_from_end = b.binary(Binary::Equal, indices, from_end)?;
    let hit = b.binary(Binary::Or, hit, hit_from_end)?;
    if b.shape(values).as_slice() != [2] {
        return Err(Reason::shape("two values are needed"));
    }
    let off = b.slice_axis(values, 0, 0, 1, 1)?;
    let on = b.slice_axis(values, 0, 1, 1, 1)?;
    let (kind, shape) = (b.kind(values), b.shape(hit));
    b.emit(Op::Where, &[hit, on, off], kind, shape)
}

/// Keeps a triangle of the last two axes.
fn trilu(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    let upper = call.flag("upper", true)?;
    let k = match call.optional(1) {
        None => 0,
        Some(id) => *b.ints(id)?.first().ok_or(Reason::Missing(1))?,
    };
    let shape = b.shape(x);
    let &[.., rows, columns] = shape.as_slice() else {
        return Err(Reason::shape("the input must have two axes"));
    };
    let row_numbers = as_ints(&(0..rows).collect::<Vec<_>>());
    let rows = b.constant(Value::ints(&[rows, 1], row_numbers));
    let column_numbers: Vec<i64> =
        as_ints(&(0..columns).collect::<Vec<_>>()).iter().map(|c| c.saturating_sub(k)).collect();
    let columns = b.constant(Value::ints(&[1, columns], column_numbers));
    let op = if upper { Binary::GreaterOrEqual } else { Binary::LessOrEqual };
    let keep = b.binary(op, columns, rows)?;
    let kind = b.kind(x);
    if kind == Kind::Bool {
        return b.binary(Binary::And, x, keep);
    }
    let zero = match kind {
        Kind::Float => b.scalar(0.0),
        _ => b.constant(Value::ints(&[], [0])),
    };
    b.emit(Op::Where, &[keep, x, zero], kind, shape)
}
