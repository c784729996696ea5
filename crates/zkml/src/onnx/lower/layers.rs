//! Layers with weights, matrix products, pools and normalisations.

use std::sync::Arc;

use super::super::builder::{Builder, broadcast};
use super::super::error::Reason;
use super::super::graph::{
    Binary, Conv, Data, Dense, Kind, Op, PoolKind, ReduceKind, TensorId, Unary, Window,
};
use super::{Call, axis};
use crate::reference::Value;

/// The greatest kernel size, stride, dilation and padding.
const MAX_WINDOW: usize = 1 << 16;

pub(super) fn lower(b: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<TensorId>>, Reason> {
    match call.operator() {
        "MatMul" => {
            let (x, y) = (call.input(0)?, call.input(1)?);
            matmul(b, x, y)
        }
        "Gemm" => gemm(b, call),
        "Conv" => conv(b, call),
        "MaxPool" => {
            call.ignore(&["storage_order"]);
            pool(b, call, PoolKind::Max)
        }
        "AveragePool" => {
            let include_pad = call.flag("count_include_pad", false)?;
            pool(b, call, PoolKind::Average { include_pad })
        }
        "GlobalAveragePool" => global(b, call, ReduceKind::Mean),
        "GlobalMaxPool" => global(b, call, ReduceKind::Max),
        "BatchNormalization" => batch_normalization(b, call),
        "InstanceNormalization" => instance_normalization(b, call),
        "GroupNormalization" => group_normalization(b, call),
        "LayerNormalization" => return layer_normalization(b, call).map(Some),
        "RMSNormalization" => rms_normalization(b, call),
        _ => return Ok(None),
    }
    .map(|output| Some(vec![output]))
}

/// `columns × rows` from `rows × columns`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Arc<[f32]> {
    (0..columns)
        .flat_map(|column| {
            (0..rows).map(move |row| values.get(row * columns + column).copied().unwrap_or(0.0))
        })
        .collect()
}

fn dense(
    b: &mut Builder,
    x: TensorId,
    (outputs, inputs): (usize, usize),
    weights: Arc<[f32]>,
    bias: Option<Arc<[f32]>>,
) -> Result<TensorId, Reason> {
    let mut shape = b.shape(x);
    match shape.last_mut() {
        Some(last) if *last == inputs => *last = outputs,
        _ => {
            let found = b.shape(x);
            return Err(Reason::shape(format!(
                "the weights take {inputs} inputs, the tensor's shape is {found:?}"
            )));
        }
    }
    b.emit(Op::Dense(Dense { outputs, inputs, weights, bias }), &[x], Kind::Float, shape)
}

/// Swaps the last two axes.
fn swap_last(b: &mut Builder, x: TensorId) -> Result<TensorId, Reason> {
    let mut permutation: Vec<usize> = (0..b.shape(x).len()).collect();
    if let [.., rows, columns] = permutation.as_mut_slice() {
        std::mem::swap(rows, columns);
    }
    b.transpose(x, permutation)
}

/// `a · b` as NumPy means it; a constant side of rank 2 makes it a layer.
fn matmul(b: &mut Builder, left: TensorId, right: TensorId) -> Result<TensorId, Reason> {
    let kind = b.kind(left);
    b.expect_kind(right, kind)?;
    let (left_shape, right_shape) = (b.shape(left), b.shape(right));
    let misfit = || Reason::shape(format!("cannot multiply {left_shape:?} by {right_shape:?}"));
    if kind == Kind::Float
        && let (Some(Data::Float(weights)), &[inputs, outputs]) =
            (b.value(right).map(|value| value.data), right_shape.as_slice())
    {
        let weights = transposed(&weights, inputs, outputs);
        return dense(b, left, (outputs, inputs), weights, None);
    }
    if kind == Kind::Float
        && let (Some(Data::Float(weights)), &[outputs, inputs]) =
            (b.value(left).map(|value| value.data), left_shape.as_slice())
        && right_shape.len() >= 2
    {
        let x = swap_last(b, right)?;
        let y = dense(b, x, (outputs, inputs), weights, None)?;
        return swap_last(b, y);
    }
    // Vectors become matrices for the while.
    let (mut a, mut c) = (left, right);
    if let &[k] = left_shape.as_slice() {
        a = b.reshape(left, vec![1, k])?;
    }
    if let &[k] = right_shape.as_slice() {
        c = b.reshape(right, vec![k, 1])?;
    }
    let (a_shape, c_shape) = (b.shape(a), b.shape(c));
    let (&[ref a_batch @ .., m, k], &[ref c_batch @ .., k2, n]) =
        (a_shape.as_slice(), c_shape.as_slice())
    else {
        return Err(misfit());
    };
    if k != k2 {
        return Err(misfit());
    }
    let mut shape = broadcast(a_batch, c_batch)?;
    let mut result = shape.clone();
    shape.extend([m, n]);
    let y = b.emit(Op::MatMul, &[a, c], kind, shape)?;
    if left_shape.len() > 1 {
        result.push(m);
    }
    if right_shape.len() > 1 {
        result.push(n);
    }
    b.reshape(y, result)
}

fn gemm(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let (mut x, mut y) = (call.input(0)?, call.input(1)?);
    let (alpha, beta) = (call.float("alpha", 1.0)?, call.float("beta", 1.0)?);
    let (trans_a, trans_b) = (call.flag("transA", false)?, call.flag("transB", false)?);
    let kind = b.kind(x);
    b.expect_kind(y, kind)?;
    if b.shape(x).len() != 2 || b.shape(y).len() != 2 {
        return Err(Reason::shape("both inputs must be matrices"));
    }
    if trans_a {
        x = swap_last(b, x)?;
    }
    let mut addend = call.optional(2);
    let weights = b.value(y).and_then(|value| value.data.floats().map(<[f32]>::to_vec));
    let out = match (weights, b.shape(y).as_slice()) {
        (Some(weights), &[rows, columns]) => {
            let (outputs, inputs) = if trans_b { (rows, columns) } else { (columns, rows) };
            let mut weights =
                if trans_b { weights.into() } else { transposed(&weights, rows, columns) };
            if alpha != 1.0 {
                weights = weights.iter().map(|w| w * alpha).collect();
            }
            let bias = addend.and_then(|c| per_output(b, c, outputs)).map(|c| scaled(&c, beta));
            if bias.is_some() {
                addend = None;
            }
            dense(b, x, (outputs, inputs), weights, bias)?
        }
        _ => {
            if trans_b {
                y = swap_last(b, y)?;
            }
            let product = matmul(b, x, y)?;
            scale(b, product, alpha)?
        }
    };
    let Some(addend) = addend else { return Ok(out) };
    let shape = b.shape(out);
    if broadcast(&b.shape(addend), &shape)? != shape {
        return Err(Reason::shape("input C does not broadcast to the product"));
    }
    let addend = scale(b, addend, beta)?;
    b.binary(Binary::Add, out, addend)
}

fn scale(b: &mut Builder, x: TensorId, factor: f32) -> Result<TensorId, Reason> {
    if factor == 1.0 {
        return Ok(x);
    }
    if b.kind(x) != Kind::Float {
        return Err(Reason::form("scaling integers"));
    }
    let factor = b.scalar(factor);
    b.binary(Binary::Mul, x, factor)
}

fn scaled(values: &[f32], factor: f32) -> Arc<[f32]> {
    values.iter().map(|value| value * factor).collect()
}

/// A constant as one number per output, when it is that.
fn per_output(b: &Builder, id: TensorId, outputs: usize) -> Option<Vec<f32>> {
    let value = b.value(id)?;
    let (last, outer) = value.shape.split_last().unwrap_or((&1, &[]));
    if outer.len() > 1 || outer.iter().any(|&dim| dim != 1) {
        return None;
    }
    match value.data.floats()? {
        [one] => Some(vec![*one; outputs]),
        many if *last == outputs => Some(many.to_vec()),
        _ => None,
    }
}

/// A window attribute: sizes between `min` and the limit, one per dimension.
fn sizes(
    call: &Call<'_>,
    name: &str,
    count: usize,
    min: usize,
) -> Result<Option<Vec<usize>>, Reason> {
    let Some(values) = call.ints(name)? else { return Ok(None) };
    let values: Option<Vec<usize>> = values
        .iter()
        .map(|&value| usize::try_from(value).ok().filter(|v| (min..=MAX_WINDOW).contains(v)))
        .collect();
    match values {
        Some(values) if values.len() == count => Ok(Some(values)),
        _ => Err(Reason::attribute(name)),
    }
}

/// Windows of this kernel over these sizes, and how many positions there are per dimension.
fn window(
    call: &Call<'_>,
    kernel: Vec<usize>,
    input: &[usize],
    ceil: bool,
) -> Result<(Window, Vec<usize>), Reason> {
    let rank = input.len();
    let ones = || vec![1; rank];
    let strides = sizes(call, "strides", rank, 1)?.unwrap_or_else(ones);
    let dilations = sizes(call, "dilations", rank, 1)?.unwrap_or_else(ones);
    let pads = sizes(call, "pads", 2 * rank, 0)?;
    let auto = call.text("auto_pad", "NOTSET")?;
    let (mut before, mut after) = match pads {
        Some(pads) => {
            let (before, after) = pads.split_at(rank);
            (before.to_vec(), after.to_vec())
        }
        None => (vec![0; rank], vec![0; rank]),
    };
    let mut positions = Vec::with_capacity(rank);
    for (dim, ((&size, &k), (&stride, &dilation))) in
        input.iter().zip(&kernel).zip(strides.iter().zip(&dilations)).enumerate()
    {
        let (Some(before), Some(after)) = (before.get_mut(dim), after.get_mut(dim)) else {
            return Err(Reason::attribute("pads"));
        };
        let extent = (k - 1) * dilation + 1;
        match auto {
            "NOTSET" => {}
            "VALID" => (*before, *after) = (0, 0),
            "SAME_UPPER" | "SAME_LOWER" => {
                let total =
                    ((size.div_ceil(stride).max(1) - 1) * stride + extent).saturating_sub(size);
                let half = total / 2;
                (*before, *after) =
                    if auto == "SAME_UPPER" { (half, total - half) } else { (total - half, half) };
            }
            _ => return Err(Reason::attribute("auto_pad")),
        }
        let room = (size + *before + *after).checked_sub(extent).ok_or_else(|| {
            Reason::shape(format!(
                "a window of {extent} does not fit into dimension {dim} of {size}"
            ))
        })?;
        let mut count = if ceil { room.div_ceil(stride) + 1 } else { room / stride + 1 };
        // A window may not start in the padding after the input.
        if ceil && (count - 1) * stride >= size + *before {
            count -= 1;
        }
        positions.push(count);
    }
    Ok((Window { kernel, strides, dilations, before, after }, positions))
}

fn conv(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let (x, w) = (call.input(0)?, call.input(1)?);
    b.expect_kind(x, Kind::Float)?;
    let (shape, w_shape) = (b.shape(x), b.shape(w));
    let weights = b.floats(w)?;
    let (&[batch, channels, ref input @ ..], &[outputs, per_group, ref kernel @ ..]) =
        (shape.as_slice(), w_shape.as_slice())
    else {
        return Err(Reason::shape("input and weights need a batch, channels and dimensions"));
    };
    let groups = usize::try_from(call.int("group", 1)?).unwrap_or(0);
    let fits = input.len() == kernel.len()
        && !input.is_empty()
        && groups > 0
        && per_group.checked_mul(groups) == Some(channels)
        && outputs.is_multiple_of(groups)
        && kernel.iter().all(|k| (1..=MAX_WINDOW).contains(k));
    if !fits {
        return Err(Reason::shape(format!(
            "weights {w_shape:?} in {groups} groups do not fit to input {shape:?}"
        )));
    }
    if sizes(call, "kernel_shape", kernel.len(), 1)?.is_some_and(|stated| stated != kernel) {
        return Err(Reason::attribute("kernel_shape"));
    }
    let bias = call.optional(2).map(|bias| b.floats(bias)).transpose()?;
    if bias.as_ref().is_some_and(|bias| bias.len() != outputs) {
        return Err(Reason::shape("the bias must have one number per output channel"));
    }
    let (window, positions) = window(call, kernel.to_vec(), input, false)?;
    let shape = [&[batch, outputs], positions.as_slice()].concat();
    let op = Op::Conv(Conv { outputs, inputs: channels, groups, window, weights, bias });
    b.emit(op, &[x], Kind::Float, shape)
}

fn pool(b: &mut Builder, call: &Call<'_>, kind: PoolKind) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    let shape = b.shape(x);
    let &[batch, channels, ref input @ ..] = shape.as_slice() else {
        return Err(Reason::shape("the input needs a batch, channels and dimensions"));
    };
    let kernel = sizes(call, "kernel_shape", input.len(), 1)?;
    let kernel = kernel.ok_or_else(|| Reason::attribute("kernel_shape"))?;
    let ceil = call.flag("ceil_mode", false)?;
    let (window, positions) = window(call, kernel, input, ceil)?;
    // A window that lies in the padding alone has no maximum, and no mean.
    for (dim, ((&size, &count), &k)) in input.iter().zip(&positions).zip(&window.kernel).enumerate()
    {
        let (Some(&stride), Some(&dilation), Some(&before)) =
            (window.strides.get(dim), window.dilations.get(dim), window.before.get(dim))
        else {
            return Err(Reason::attribute("pads"));
        };
        // The first element of the window that is not in the padding before the input must be in the input.
        let inside = |p: usize| {
            let skipped = before.saturating_sub(p * stride).div_ceil(dilation);
            skipped < k && p * stride + skipped * dilation < before + size
        };
        if count > MAX_WINDOW || !(0..count).all(inside) {
            return Err(Reason::form("a window of padding alone"));
        }
    }
    let element = b.kind(x);
    if element == Kind::Bool || (element == Kind::Int && kind != PoolKind::Max) {
        return Err(Reason::Kind(b.name(x)));
    }
    let shape = [&[batch, channels], positions.as_slice()].concat();
    let cells = positions.iter().chain(&window.kernel).try_fold(1usize, |n, &d| n.checked_mul(d));
    if cells.is_none_or(|cells| cells > 1 << 24) {
        return Err(Reason::TooMuch("the windows"));
    }
    b.emit(Op::Pool { kind, window }, &[x], element, shape)
}

fn global(b: &mut Builder, call: &Call<'_>, kind: ReduceKind) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    let rank = b.shape(x).len();
    if rank < 3 {
        return Err(Reason::shape("the input needs a batch, channels and dimensions"));
    }
    b.reduce(kind, x, (2..rank).collect(), true)
}

/// A tensor of one number per channel, shaped so that it broadcasts over `rank` axes.
fn per_channel(
    b: &mut Builder,
    id: TensorId,
    channels: usize,
    rank: usize,
) -> Result<TensorId, Reason> {
    let mut shape = vec![1; rank.saturating_sub(1).max(1)];
    if let Some(first) = shape.first_mut() {
        *first = channels;
    }
    b.reshape(id, shape)
}

/// `x·scale/√(variance + ε) + (bias − mean·scale/√(variance + ε))`; folded into the layer before it later.
fn batch_normalization(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    call.ignore(&["momentum"]);
    if !call.flag("spatial", true)? {
        return Err(Reason::form("normalising every element by itself"));
    }
    let epsilon = call.float("epsilon", 1e-5)?;
    if call.flag("training_mode", false)? {
        return Err(Reason::form("training"));
    }
    let shape = b.shape(x);
    let &[_, channels, ..] = shape.as_slice() else {
        return Err(Reason::shape("the input needs a batch and channels"));
    };
    let (scale, bias, mean, variance) =
        (call.input(1)?, call.input(2)?, call.input(3)?, call.input(4)?);
    let epsilon = b.scalar(epsilon);
    let variance = b.binary(Binary::Add, variance, epsilon)?;
    let deviation = b.unary(Unary::Sqrt, variance)?;
    let factor = b.binary(Binary::Div, scale, deviation)?;
    let moved = b.binary(Binary::Mul, mean, factor)?;
    let offset = b.binary(Binary::Sub, bias, moved)?;
    let factor = per_channel(b, factor, channels, shape.len())?;
    let offset = per_channel(b, offset, channels, shape.len())?;
    let y = b.binary(Binary::Mul, x, factor)?;
    b.binary(Binary::Add, y, offset)
}

/// Normalised over everything from `axis` on, under the shape `view`, then back.
fn normalized(
    b: &mut Builder,
    x: TensorId,
    view: Vec<usize>,
    axis: usize,
    epsilon: f32,
) -> Result<TensorId, Reason> {
    b.expect_kind(x, Kind::Float)?;
    if !epsilon.is_finite() || epsilon < 0.0 {
        return Err(Reason::attribute("epsilon"));
    }
    let shape = b.shape(x);
    let viewed = b.reshape(x, view.clone())?;
    let y = b.emit(Op::Normalize { axis, epsilon }, &[viewed], Kind::Float, view)?;
    b.reshape(y, shape)
}

fn instance_normalization(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    let (scale, bias) = (call.input(1)?, call.input(2)?);
    let shape = b.shape(x);
    let &[batch, channels, ref rest @ ..] = shape.as_slice() else {
        return Err(Reason::shape("the input needs a batch and channels"));
    };
    let view = vec![batch, channels, rest.iter().product()];
    let y = normalized(b, x, view, 2, call.float("epsilon", 1e-5)?)?;
    let scale = per_channel(b, scale, channels, shape.len())?;
    let bias = per_channel(b, bias, channels, shape.len())?;
    let y = b.binary(Binary::Mul, y, scale)?;
    b.binary(Binary::Add, y, bias)
}

fn group_normalization(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    call.ignore(&["stash_type"]);
    let (scale, bias) = (call.input(1)?, call.input(2)?);
    let shape = b.shape(x);
    let groups = usize::try_from(call.int("num_groups", 0)?).unwrap_or(0);
    let &[batch, channels, ref rest @ ..] = shape.as_slice() else {
        return Err(Reason::shape("the input needs a batch and channels"));
    };
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(Reason::attribute("num_groups"));
    }
    let view = vec![batch, groups, rest.iter().product::<usize>() * (channels / groups)];
    let y = normalized(b, x, view, 2, call.float("epsilon", 1e-5)?)?;
    let spread = |b: &mut Builder, id: TensorId| {
        // Before version 21 there was one number per group.
        if b.shape(id).as_slice() == [groups] && groups != channels {
            let column = b.reshape(id, vec![groups, 1])?;
            let wide = b.expand(column, vec![groups, channels / groups])?;
            return per_channel(b, wide, channels, shape.len());
        }
        per_channel(b, id, channels, shape.len())
    };
    let scale = spread(b, scale)?;
    let y = b.binary(Binary::Mul, y, scale)?;
    let bias = spread(b, bias)?;
    b.binary(Binary::Add, y, bias)
}

fn layer_normalization(b: &mut Builder, call: &Call<'_>) -> Result<Vec<TensorId>, Reason> {
    let x = call.input(0)?;
    call.ignore(&["stash_type"]);
    let shape = b.shape(x);
    let rank = shape.len();
    let axis = call.axis("axis", -1, rank)?;
    let epsilon = call.float("epsilon", 1e-5)?;
    let mut y = normalized(b, x, shape, axis, epsilon)?;
    y = b.binary(Binary::Mul, y, call.input(1)?)?;
    if let Some(bias) = call.optional(2) {
        y = b.binary(Binary::Add, y, bias)?;
    }
    if call.node.outputs.len() < 2 {
        return Ok(vec![y]);
    }
    // Mean and inverse deviation, for whoever asks.
    let mean = b.reduce(ReduceKind::Mean, x, (axis..rank).collect(), true)?;
    let centred = b.binary(Binary::Sub, x, mean)?;
    let square = b.binary(Binary::Mul, centred, centred)?;
    let variance = b.reduce(ReduceKind::Mean, square, (axis..rank).collect(), true)?;
    let epsilon = b.scalar(epsilon);
    let variance = b.binary(Binary::Add, variance, epsilon)?;
    let deviation = b.unary(Unary::Sqrt, variance)?;
    let inverse = b.unary(Unary::Reciprocal, deviation)?;
    Ok(vec![y, mean, inverse])
}

fn rms_normalization(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    call.ignore(&["stash_type"]);
    let rank = b.shape(x).len();
    let first = axis(call.int("axis", -1)?, rank).ok_or_else(|| Reason::attribute("axis"))?;
    let square = b.binary(Binary::Mul, x, x)?;
    let mean = b.reduce(ReduceKind::Mean, square, (first..rank).collect(), true)?;
    let epsilon = b.constant(Value::floats(&[], [call.float("epsilon", 1e-5)?]));
    let mean = b.binary(Binary::Add, mean, epsilon)?;
    let root = b.unary(Unary::Sqrt, mean)?;
    let y = b.binary(Binary::Div, x, root)?;
    b.binary(Binary::Mul, y, call.input(1)?)
}
