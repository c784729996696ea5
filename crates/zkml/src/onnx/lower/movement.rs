//! Operators that move elements.

use super::super::builder::{Builder, broadcast};
use super::super::error::Reason;
use super::super::graph::{Data, Kind, Op, PadMode, TensorId};
use super::{Call, axis};
use crate::reference::Value;

pub(super) fn lower(b: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<TensorId>>, Reason> {
    let one = match call.operator() {
        "Identity" => call.input(0)?,
        "Dropout" => return dropout(b, call).map(Some),
        "Reshape" => reshape(b, call)?,
        "Flatten" => flatten(b, call)?,
        "Squeeze" => squeeze(b, call)?,
        "Unsqueeze" => unsqueeze(b, call)?,
        "Transpose" => transpose(b, call)?,
        "Slice" => slice(b, call)?,
        "Split" => return split(b, call).map(Some),
        "Concat" => concat(b, call)?,
        "Pad" => pad(b, call)?,
        "Expand" => {
            let shape = sizes(&b.ints(call.input(1)?)?)?;
            let x = call.input(0)?;
            let shape = broadcast(&b.shape(x), &shape)?;
            b.expand(x, shape)?
        }
        "Tile" => tile(b, call)?,
        "Gather" => gather(b, call)?,
        "GatherElements" => gather_elements(b, call)?,
        "GatherND" => gather_nd(b, call)?,
        "DepthToSpace" => depth_to_space(b, call)?,
        "SpaceToDepth" => space_to_depth(b, call)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![one]))
}

/// Sizes that a file states: none negative.
pub(super) fn sizes(values: &[i64]) -> Result<Vec<usize>, Reason> {
    values
        .iter()
        .map(|&value| usize::try_from(value))
        .collect::<Result<_, _>>()
        .map_err(|_| Reason::shape(format!("{values:?} is not a shape")))
}

fn dropout(b: &mut Builder, call: &Call<'_>) -> Result<Vec<TensorId>, Reason> {
    call.ignore(&["seed", "ratio"]);
    let x = call.input(0)?;
    if let Some(training) = call.optional(2)
        && b.ints(training)? != [0]
    {
        return Err(Reason::form("training"));
    }
    if call.node.outputs.len() < 2 {
        return Ok(vec![x]);
    }
    let shape = b.shape(x);
    let mut one = Value::ints(&[], [1]);
    one.kind = Kind::Bool;
    let one = b.constant(one);
    let mask = b.expand(one, shape)?;
    Ok(vec![x, mask])
}

fn reshape(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    let old = b.shape(x);
    let wanted = b.ints(call.input(1)?)?;
    let zero_is_zero = call.flag("allowzero", false)?;
    let bad = || Reason::shape(format!("cannot reshape {old:?} to {wanted:?}"));
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (at, &dim) in wanted.iter().enumerate() {
        shape.push(match dim {
            -1 if open.is_none() => {
                open = Some(at);
                1
            }
            0 if !zero_is_zero => *old.get(at).ok_or_else(bad)?,
            dim => usize::try_from(dim).map_err(|_| bad())?,
        });
    }
    if let Some(slot) = open.and_then(|at| shape.get_mut(at)) {
        *slot = 0;
        let total: usize = old.iter().product();
        let known = wanted
            .iter()
            .zip(&shape)
            .filter(|&(&dim, _)| dim != -1)
            .try_fold(1usize, |n, (_, &dim)| n.checked_mul(dim))
            .ok_or_else(bad)?;
        let missing = total.checked_div(known).filter(|&n| n * known == total).ok_or_else(bad)?;
        if let Some(slot) = open.and_then(|at| shape.get_mut(at)) {
            *slot = missing;
        }
    }
    b.reshape(x, shape)
}

fn flatten(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    let shape = b.shape(x);
    let at = call.int("axis", 1)?;
    // Here the rank itself is an axis too.
    let at = if at == i64::try_from(shape.len()).unwrap_or(-1) {
        Some(shape.len())
    } else {
        axis(at, shape.len())
    };
    let at = at.ok_or_else(|| Reason::attribute("axis"))?;
    let (outer, inner) = shape.split_at(at.min(shape.len()));
    b.reshape(x, vec![outer.iter().product(), inner.iter().product()])
}

fn squeeze(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    let shape = b.shape(x);
    let axes = call.axes(b, 1, shape.len())?;
    let dropped = |at: usize, dim: usize| match &axes {
        Some(axes) => axes.contains(&at),
        None => dim == 1,
    };
    if shape.iter().enumerate().any(|(at, &dim)| dim != 1 && dropped(at, dim)) {
        return Err(Reason::shape(format!("an axis of {shape:?} to squeeze is not 1")));
    }
    let kept = shape.iter().enumerate().filter(|&(at, &dim)| !dropped(at, dim));
    let shape = kept.map(|(_, &dim)| dim).collect();
    b.reshape(x, shape)
}

fn unsqueeze(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    let old = b.shape(x);
    let count = match call.ints("axes")? {
        Some(axes) => axes.len(),
        None => b.ints(call.input(1)?)?.len(),
    };
    let rank = old.len().saturating_add(count);
    let axes = call.axes(b, 1, rank)?.ok_or(Reason::Missing(1))?;
    let mut rest = old.iter();
    let shape = (0..rank)
        .map(|at| if axes.contains(&at) { 1 } else { rest.next().copied().unwrap_or(1) })
        .collect();
    b.reshape(x, shape)
}

fn transpose(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    let rank = b.shape(x).len();
    let permutation = match call.ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(perm) if perm.len() == rank => perm
            .iter()
            .map(|&at| axis(at, rank).filter(|_| at >= 0))
            .collect::<Option<_>>()
            .ok_or_else(|| Reason::attribute("perm"))?,
        Some(_) => return Err(Reason::attribute("perm")),
    };
    b.transpose(x, permutation)
}

fn slice(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    let mut shape = b.shape(x);
    let rank = shape.len();
    let (starts, ends) = (b.ints(call.input(1)?)?, b.ints(call.input(2)?)?);
    let axes = match call.optional(3) {
        Some(axes) => b.ints(axes)?,
        None => (0..i64::try_from(starts.len()).unwrap_or(0)).collect(),
    };
    let steps = match call.optional(4) {
        Some(steps) => b.ints(steps)?,
        None => vec![1; starts.len()],
    };
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(Reason::shape("starts, ends, axes and steps differ in length"));
    }
    let (mut first, mut by) = (vec![0usize; rank], vec![1i64; rank]);
    let mut seen = Vec::new();
    for (((&start, &end), &at), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let at = axis(at, rank).filter(|at| !seen.contains(at));
        let at = at.ok_or_else(|| Reason::shape("the axes are not valid"))?;
        seen.push(at);
        let (Some(dim), Some(first), Some(by)) =
            (shape.get_mut(at), first.get_mut(at), by.get_mut(at))
        else {
            return Err(Reason::shape("the axes are not valid"));
        };
        let size = i64::try_from(*dim).map_err(|_| Reason::TooMuch("the input's shape"))?;
        if step == 0 || step == i64::MIN {
            return Err(Reason::shape("a step is not valid"));
        }
        let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
        let place = |value: i64| {
            let value = if value < 0 { value.saturating_add(size) } else { value };
            value.clamp(low, high)
        };
        let (start, end) = (place(start), place(end));
        let span = if step > 0 { end - start } else { start - end };
        let count = if span <= 0 { 0 } else { (span - 1) / step.abs() + 1 };
        *dim = usize::try_from(count).unwrap_or(0);
        *first = usize::try_from(start).unwrap_or(0);
        *by = step;
    }
    if shape == b.shape(x) && by.iter().all(|&step| step == 1) {
        return Ok(x);
    }
    b.emit(Op::Slice { start: first, step: by }, &[x], b.kind(x), shape)
}

fn split(b: &mut Builder, call: &Call<'_>) -> Result<Vec<TensorId>, Reason> {
    let x = call.input(0)?;
    let shape = b.shape(x);
    let at = call.axis("axis", 0, shape.len())?;
    let dim = shape.get(at).copied().unwrap_or(0);
    let parts = call.node.outputs.len();
    if usize::try_from(call.int("num_outputs", i64::try_from(parts).unwrap_or(0))?) != Ok(parts) {
        return Err(Reason::attribute("num_outputs"));
    }
    let counts = match (call.ints("split")?, call.optional(1)) {
        (Some(counts), _) => sizes(counts)?,
        (None, Some(counts)) => sizes(&b.ints(counts)?)?,
        (None, None) => {
            let each = dim.div_ceil(parts.max(1));
            (0..parts).map(|part| dim.saturating_sub(part * each).min(each)).collect()
        }
    };
    let total = counts.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
    if counts.len() != parts || total != Some(dim) {
        return Err(Reason::shape(format!("{counts:?} does not split {dim} into {parts}")));
    }
    let mut start = 0;
    counts
        .into_iter()
        .map(|count| {
            let part = b.slice_axis(x, at, start, 1, count);
            start += count;
            part
        })
        .collect()
}

fn concat(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let inputs = call.all_inputs()?;
    let (&first, rest) = inputs.split_first().ok_or(Reason::Missing(0))?;
    let mut shape = b.shape(first);
    let kind = b.kind(first);
    let stated = call.attribute("axis", 2)?.ok_or_else(|| Reason::attribute("axis"))?.int;
    let at = axis(stated, shape.len()).ok_or_else(|| Reason::attribute("axis"))?;
    for &next in rest {
        b.expect_kind(next, kind)?;
        let other = b.shape(next);
        let fits = other.len() == shape.len()
            && other.iter().zip(&shape).enumerate().all(|(axis, (x, y))| axis == at || x == y);
        if !fits {
            return Err(Reason::shape(format!("cannot join {shape:?} and {other:?}")));
        }
        if let (Some(total), Some(&more)) = (shape.get_mut(at), other.get(at)) {
            *total = total.saturating_add(more);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    b.emit(Op::Concat { axis: at }, &inputs, kind, shape)
}

fn pad(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let mut x = call.input(0)?;
    let rank = b.shape(x).len();
    let pads = b.ints(call.input(1)?)?;
    let axes = match call.optional(3) {
        Some(axes) => b
            .ints(axes)?
            .iter()
            .map(|&at| axis(at, rank))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Reason::shape("the axes are not valid"))?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(Reason::shape(format!("{} pads for {} axes", pads.len(), axes.len())));
    }
    let kind = b.kind(x);
    let mode = match call.text("mode", "constant")? {
        "constant" => PadMode::Constant(fill(b, call.optional(2))?),
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        _ => return Err(Reason::attribute("mode")),
    };
    let (befores, afters) = pads.split_at(axes.len());
    let mut before = vec![0usize; rank];
    let mut shape = b.shape(x);
    for ((&at, &left), &right) in axes.iter().zip(befores).zip(afters) {
        let dim = shape.get(at).copied().unwrap_or(0);
        let cut = |value: i64| usize::try_from(value.saturating_neg()).unwrap_or(0);
        let add = |value: i64| usize::try_from(value).unwrap_or(0);
        // Negative padding takes away.
        let kept = dim.checked_sub(cut(left)).and_then(|dim| dim.checked_sub(cut(right)));
        let kept = kept.ok_or_else(|| Reason::shape("more is taken away than there is"))?;
        if kept != dim {
            x = b.slice_axis(x, at, cut(left), 1, kept)?;
        }
        let beyond = mode == PadMode::Reflect
            && (add(left) >= kept || add(right) >= kept)
            && add(left).max(add(right)) > 0;
        if beyond {
            return Err(Reason::form("reflecting more than there is"));
        }
        let total = kept.checked_add(add(left)).and_then(|n| n.checked_add(add(right)));
        let total = total.ok_or(Reason::TooMuch("the padding"))?;
        if let (Some(dim), Some(before)) = (shape.get_mut(at), before.get_mut(at)) {
            (*dim, *before) = (total, add(left));
        }
    }
    if shape == b.shape(x) {
        return Ok(x);
    }
    b.emit(Op::Pad { before, mode }, &[x], kind, shape)
}

/// The number to pad with: zero when it is not stated.
fn fill(b: &Builder, id: Option<TensorId>) -> Result<f32, Reason> {
    let Some(id) = id else { return Ok(0.0) };
    let value = b.value(id).ok_or_else(|| Reason::NotConstant(b.name(id)))?;
    match value.data {
        Data::Float(values) => match *values {
            [value] if value.is_finite() => Ok(value),
            [_] => Err(Reason::NonFinite),
            _ => Err(Reason::shape("the padding must be one number")),
        },
        Data::Int(values) => match *values {
            #[allow(clippy::cast_precision_loss, reason = "checked to be exact")]
            [value] if value.unsigned_abs() < 1 << 24 => Ok(value as f32),
            _ => Err(Reason::form("padding with this number")),
        },
    }
}

/// `[r, d]` per axis, flattened.
fn tile(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    let shape = b.shape(x);
    let repeats = sizes(&b.ints(call.input(1)?)?)?;
    if repeats.len() != shape.len() {
        return Err(Reason::shape("one repeat per axis is needed"));
    }
    let (mut view, mut wide, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for (&dim, &repeat) in shape.iter().zip(&repeats) {
        if repeat != 1 {
            view.push(1);
            wide.push(repeat);
        }
        view.push(dim);
        wide.push(dim);
        out.push(dim.checked_mul(repeat).ok_or(Reason::TooMuch("the output's shape"))?);
    }
    let x = b.reshape(x, view)?;
    let x = b.expand(x, wide)?;
    b.reshape(x, out)
}

/// Constant indices, none negative, all inside.
fn settle(b: &mut Builder, indices: TensorId, dim: usize) -> Result<TensorId, Reason> {
    let Some(mut value) = b.value(indices) else { return Ok(indices) };
    let size = i64::try_from(dim).map_err(|_| Reason::TooMuch("the input's shape"))?;
    let settled: Option<Vec<i64>> = value.data.ints().and_then(|indices| {
        indices
            .iter()
            .map(|&index| if index < 0 { index.checked_add(size) } else { Some(index) })
            .map(|index| index.filter(|index| (0..size).contains(index)))
            .collect()
    });
    value.data = Data::Int(settled.ok_or(crate::reference::Problem::Index)?.into());
    Ok(b.constant(value))
}

fn gather(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let (x, indices) = (call.input(0)?, call.input(1)?);
    b.expect_kind(indices, Kind::Int)?;
    let shape = b.shape(x);
    let at = call.axis("axis", 0, shape.len())?;
    let indices = settle(b, indices, shape.get(at).copied().unwrap_or(0))?;
    let (outer, inner) = shape.split_at(at);
    let out = [outer, &b.shape(indices), inner.get(1..).unwrap_or_default()].concat();
    b.emit(Op::Gather { axis: at }, &[x, indices], b.kind(x), out)
}

/// Takes single elements at flat places.
fn take(
    b: &mut Builder,
    x: TensorId,
    places: Vec<i64>,
    shape: Vec<usize>,
) -> Result<TensorId, Reason> {
    let count = b.shape(x).iter().product();
    let flat = b.reshape(x, vec![count])?;
    let places = b.constant(Value::ints(&shape, places));
    b.emit(Op::Gather { axis: 0 }, &[flat, places], b.kind(x), shape)
}

fn gather_elements(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let (x, indices) = (call.input(0)?, call.input(1)?);
    let shape = b.shape(x);
    let at = call.axis("axis", 0, shape.len())?;
    let indices = settle(b, indices, shape.get(at).copied().unwrap_or(0))?;
    let (values, out) = (b.ints(indices)?, b.shape(indices));
    let fits = out.len() == shape.len()
        && out.iter().zip(&shape).enumerate().all(|(axis, (o, d))| axis == at || o <= d);
    if !fits {
        return Err(Reason::shape("the indices do not fit to the input"));
    }
    let places = values
        .iter()
        .enumerate()
        .map(|(mut rest, &index)| {
            let (mut place, mut stride) = (0usize, 1usize);
            for (axis, (&o, &d)) in out.iter().zip(&shape).enumerate().rev() {
                let own = rest % o.max(1);
                rest /= o.max(1);
                let own = if axis == at { usize::try_from(index).unwrap_or(0) } else { own };
                place += own * stride;
                stride *= d;
            }
            i64::try_from(place).unwrap_or(i64::MAX)
        })
        .collect();
    take(b, x, places, out)
}

fn gather_nd(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let (x, indices) = (call.input(0)?, call.input(1)?);
    let (shape, i_shape) = (b.shape(x), b.shape(indices));
    let values = b.ints(indices)?;
    let batch = usize::try_from(call.int("batch_dims", 0)?).unwrap_or(usize::MAX);
    let (Some(&depth), Some(common)) = (i_shape.last(), shape.get(..batch)) else {
        return Err(Reason::shape("the indices do not fit to the input"));
    };
    let indexed = shape.get(batch..batch.saturating_add(depth)).filter(|_| depth > 0);
    let (Some(indexed), true) =
        (indexed, i_shape.get(..batch) == Some(common) && batch < i_shape.len())
    else {
        return Err(Reason::shape("the indices do not fit to the input"));
    };
    let tail = shape.get(batch + depth..).unwrap_or_default();
    let block: usize = tail.iter().product();
    let (batches, rows) = (common.iter().product::<usize>(), values.len() / depth);
    let per_batch = rows / batches.max(1);
    let mut places = Vec::with_capacity(rows);
    for (row, index) in values.chunks_exact(depth).enumerate() {
        let mut place = row / per_batch.max(1);
        for (&at, &dim) in index.iter().zip(indexed) {
            let size = i64::try_from(dim).unwrap_or(i64::MAX);
            let at = if at < 0 { at.saturating_add(size) } else { at };
            let at = usize::try_from(at).ok().filter(|&at| at < dim);
            place = place * dim + at.ok_or(crate::reference::Problem::Index)?;
        }
        places.push(i64::try_from(place).unwrap_or(i64::MAX));
    }
    let outer: usize = batches * indexed.iter().product::<usize>();
    let flat = b.reshape(x, vec![outer, block])?;
    let places = b.constant(Value::ints(&[rows], places));
    let y = b.emit(Op::Gather { axis: 0 }, &[flat, places], b.kind(x), vec![rows, block])?;
    let lead = i_shape.get(..i_shape.len() - 1).unwrap_or_default();
    b.reshape(y, [lead, tail].concat())
}

fn blocks(b: &Builder, call: &Call<'_>, x: TensorId) -> Result<([usize; 4], usize), Reason> {
    let size = usize::try_from(call.int("blocksize", 0)?).unwrap_or(0);
    match b.shape(x).as_slice() {
        &[n, c, h, w] if (1..=1024).contains(&size) => Ok(([n, c, h, w], size)),
        _ => Err(Reason::attribute("blocksize")),
    }
}

fn depth_to_space(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    let ([n, c, h, w], size) = blocks(b, call, x)?;
    if !c.is_multiple_of(size * size) {
        return Err(Reason::shape("the channels are no multiple of the block"));
    }
    let deep = c / (size * size);
    let (view, permutation) = match call.text("mode", "DCR")? {
        "DCR" => (vec![n, size, size, deep, h, w], vec![0, 3, 4, 1, 5, 2]),
        "CRD" => (vec![n, deep, size, size, h, w], vec![0, 1, 4, 2, 5, 3]),
        _ => return Err(Reason::attribute("mode")),
    };
    let x = b.reshape(x, view)?;
    let x = b.transpose(x, permutation)?;
    b.reshape(x, vec![n, deep, h * size, w * size])
}

fn space_to_depth(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    let permutation = match call.text("mode", "DCR")? {
        "DCR" => vec![0, 3, 5, 1, 2, 4],
        "CRD" => vec![0, 1, 3, 5, 2, 4],
        _ => return Err(Reason::attribute("mode")),
    };
    let ([n, c, h, w], size) = blocks(b, call, x)?;
    if !h.is_multiple_of(size) || !w.is_multiple_of(size) {
        return Err(Reason::shape("the sizes are no multiple of the block"));
    }
    let x = b.reshape(x, vec![n, c, h / size, size, w / size, size])?;
    let x = b.transpose(x, permutation)?;
    b.reshape(x, vec![n, c * size * size, h / size, w / size])
}
