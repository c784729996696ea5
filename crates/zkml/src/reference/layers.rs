//! Layers, matrix products and pools.

use super::{Problem, Value, views};
use crate::onnx::{Conv, Data, Dense, PoolKind, Window};

pub(super) fn dense(dense: &Dense, x: &Value) -> Result<Data, Problem> {
    let values = x.data.floats().ok_or(Problem::Kind)?;
    let (inputs, outputs) = (dense.inputs, dense.outputs);
    let fits = inputs > 0
        && values.len().is_multiple_of(inputs)
        && inputs.checked_mul(outputs) == Some(dense.weights.len())
        && dense.bias.as_ref().is_none_or(|bias| bias.len() == outputs);
    if !fits {
        return Err(Problem::Shape);
    }
    let mut out = Vec::new();
    for row in values.chunks_exact(inputs) {
        out.extend(dense.weights.chunks_exact(inputs).enumerate().map(|(o, weights)| {
            dot(row, weights) + dense.bias.as_ref().and_then(|bias| bias.get(o)).unwrap_or(&0.0)
        }));
    }
    Ok(Data::Float(out.into()))
}

/// A sum of products in eight lanes, so that it is vectorised and the rounding stays small.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    let mut lanes = [0f32; 8];
    for (a, b) in a8.iter().zip(b8) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

pub(super) fn matmul(a: &Value, b: &Value, shape: &[usize]) -> Result<Data, Problem> {
    let (&[.., m, k], &[.., k2, n], &[ref batch @ .., m2, n2]) =
        (a.shape.as_slice(), b.shape.as_slice(), shape)
    else {
        return Err(Problem::Shape);
    };
    if k != k2 || m != m2 || n != n2 {
        return Err(Problem::Shape);
    }
    let whole = |rows: usize, columns: usize| [batch, &[rows, columns]].concat();
    match (&a.data, &b.data) {
        (Data::Float(x), Data::Float(y)) => {
            let x = views::broadcast(x, &a.shape, &whole(m, k))?;
            let y = views::broadcast(y, &b.shape, &whole(k, n))?;
            Ok(Data::Float(product(&x, &y, (m, k, n), |sum, a, b| sum + a * b).into()))
        }
        (Data::Int(x), Data::Int(y)) => {
            let x = views::broadcast(x, &a.shape, &whole(m, k))?;
            let y = views::broadcast(y, &b.shape, &whole(k, n))?;
            let add = |sum: i64, a: i64, b: i64| sum.wrapping_add(a.wrapping_mul(b));
            Ok(Data::Int(product(&x, &y, (m, k, n), add).into()))
        }
        _ => Err(Problem::Kind),
    }
}

fn product<T: Copy + Default>(
    x: &[T],
    y: &[T],
    (m, k, n): (usize, usize, usize),
    add: impl Fn(T, T, T) -> T,
) -> Vec<T> {
    let mut out = Vec::new();
    if m.min(k).min(n) == 0 {
        return out;
    }
    for (x, y) in x.chunks_exact(m * k).zip(y.chunks_exact(k * n)) {
        for row in x.chunks_exact(k) {
            let start = out.len();
            out.resize(start + n, T::default());
            let sums = out.get_mut(start..).unwrap_or_default();
            for (&a, column) in row.iter().zip(y.chunks_exact(n)) {
                for (sum, &b) in sums.iter_mut().zip(column) {
                    *sum = add(*sum, a, b);
                }
            }
        }
    }
    out
}

/// All indices of a box, row-major.
fn each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0usize; shape.len()];
    loop {
        f(&index);
        let mut done = true;
        for (at, &len) in index.iter_mut().zip(shape).rev() {
            *at += 1;
            if *at < len {
                done = false;
                break;
            }
            *at = 0;
        }
        if done {
            return;
        }
    }
}

impl Window {
    /// Where output position `p` and kernel offset `i` read along a dimension of `size`; `None` in the padding.
    fn source(&self, dim: usize, p: usize, i: usize, size: usize) -> Option<usize> {
        let stride = *self.strides.get(dim)?;
        let dilation = *self.dilations.get(dim)?;
        let before = *self.before.get(dim)?;
        let at = p.checked_mul(stride)?.checked_add(i.checked_mul(dilation)?)?;
        at.checked_sub(before).filter(|&at| at < size)
    }

    fn fits(&self, rank: usize) -> bool {
        [&self.kernel, &self.strides, &self.dilations, &self.before, &self.after]
            .iter()
            .all(|list| list.len() == rank)
    }
}

/// Without a last dimension that is 1 and has a kernel of 1: rows would have one element each.
fn narrowed(conv: &Conv, x: &Value, shape: &[usize]) -> Option<(Conv, Value, Vec<usize>)> {
    let window = &conv.window;
    let trivial = shape.len() > 3
        && window.kernel.len() > 1
        && [shape.last(), x.shape.last(), window.kernel.last()] == [Some(&1); 3]
        && window.before.last() == Some(&0);
    let cut = |list: &[usize]| list.split_last().map(|(_, rest)| rest.to_vec());
    if !trivial {
        return None;
    }
    let window = Window {
        kernel: cut(&window.kernel)?,
        strides: cut(&window.strides)?,
        dilations: cut(&window.dilations)?,
        before: cut(&window.before)?,
        after: cut(&window.after)?,
    };
    let x = Value { kind: x.kind, shape: cut(&x.shape)?, data: x.data.clone() };
    Some((Conv { window, ..conv.clone() }, x, cut(shape)?))
}

pub(super) fn conv(conv: &Conv, x: &Value, shape: &[usize]) -> Result<Data, Problem> {
    if let Some((narrow, x, shape)) = narrowed(conv, x, shape) {
        return self::conv(&narrow, &x, &shape);
    }
    let values = x.data.floats().ok_or(Problem::Kind)?;
    let (&[batch, channels, ref sizes @ ..], &[out_batch, out_channels, ref positions @ ..]) =
        (x.shape.as_slice(), shape)
    else {
        return Err(Problem::Shape);
    };
    let window = &conv.window;
    let kernel_size = window.kernel.iter().fold(1usize, |all, &k| all.saturating_mul(k));
    let groups = conv.groups.max(1);
    let (per_group_in, per_group_out) = (conv.inputs / groups, conv.outputs / groups);
    let inner = per_group_in.saturating_mul(kernel_size);
    let fits = window.fits(sizes.len())
        && positions.len() == sizes.len()
        && !sizes.is_empty()
        && (batch, conv.inputs, conv.outputs) == (out_batch, channels, out_channels)
        && per_group_in.checked_mul(groups) == Some(conv.inputs)
        && per_group_out.checked_mul(groups) == Some(conv.outputs)
        && conv.outputs.checked_mul(inner) == Some(conv.weights.len())
        && conv.bias.as_ref().is_none_or(|bias| bias.len() == conv.outputs);
    if !fits {
        return Err(Problem::Shape);
    }
    let plane: usize = sizes.iter().product();
    let out_plane: usize = positions.iter().product();
    let (Some(&width), Some(&out_width)) = (sizes.last(), positions.last()) else {
        return Err(Problem::Shape);
    };
    let last = sizes.len() - 1;
    let outer_sizes = sizes.get(..last).unwrap_or_default();
    let outer_positions = positions.get(..last).unwrap_or_default();
    // For each kernel offset: which input row every output row reads.
    let mut offsets: Vec<(Vec<usize>, Vec<Option<usize>>)> = Vec::new();
    each_index(&window.kernel, |offset| {
        let mut rows = Vec::new();
        each_index(outer_positions, |position| {
            let row = position.iter().zip(offset).zip(outer_sizes).enumerate().try_fold(
                0usize,
                |row, (dim, ((&p, &i), &size))| {
                    row.checked_mul(size)?.checked_add(window.source(dim, p, i, size)?)
                },
            );
            rows.push(row);
        });
        offsets.push((offset.to_vec(), rows));
    });
    let stride = window.strides.get(last).copied().unwrap_or(1);
    let mut out = Vec::new();
    for image in values.chunks_exact((channels * plane).max(1)) {
        for (o, weights) in conv.weights.chunks_exact(inner.max(1)).enumerate() {
            let start = out.len();
            let bias = conv.bias.as_ref().and_then(|bias| bias.get(o)).copied().unwrap_or(0.0);
            out.resize(start + out_plane, bias);
            let sums = out.get_mut(start..).unwrap_or_default();
            let group = o / per_group_out.max(1);
            let planes = image.chunks_exact(plane.max(1)).skip(group * per_group_in);
            for (input, kernel) in planes.zip(weights.chunks_exact(kernel_size.max(1))) {
                for (&weight, (offset, rows)) in kernel.iter().zip(&offsets) {
                    let i = offset.last().copied().unwrap_or(0);
                    // The output columns whose input column exists.
                    let inside = |p: &usize| window.source(last, *p, i, width).is_some();
                    let Some(first) = (0..out_width).find(inside) else { continue };
                    let end = (first..out_width).rev().find(inside).map_or(first, |p| p + 1);
                    let from = window.source(last, first, i, width).unwrap_or(0);
                    for (sums, row) in sums.chunks_exact_mut(out_width).zip(rows) {
                        let Some(row) = row else { continue };
                        let (Some(sums), Some(line)) = (
                            sums.get_mut(first..end),
                            input.get(row * width + from..(row + 1) * width),
                        ) else {
                            continue;
                        };
                        if stride == 1 {
                            for (sum, value) in sums.iter_mut().zip(line) {
                                *sum += weight * value;
                            }
                        } else {
                            for (sum, value) in sums.iter_mut().zip(line.iter().step_by(stride)) {
                                *sum += weight * value;
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(Data::Float(out.into()))
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "rounding to f32 is what is meant"
)]
pub(super) fn pool(
    kind: PoolKind,
    window: &Window,
    x: &Value,
    shape: &[usize],
) -> Result<Data, Problem> {
    let (&[batch, channels, ref sizes @ ..], &[_, _, ref positions @ ..]) =
        (x.shape.as_slice(), shape)
    else {
        return Err(Problem::Shape);
    };
    if !window.fits(sizes.len()) || positions.len() != sizes.len() {
        return Err(Problem::Shape);
    }
    // Per position: the input elements it reads, and how many cells count.
    let mut cells: Vec<(Vec<usize>, usize)> = Vec::new();
    each_index(positions, |position| {
        let mut reads = Vec::new();
        let mut counted = 0;
        each_index(&window.kernel, |offset| {
            let mut at = Some(0usize);
            let mut in_padding = true;
            for (dim, ((&p, &i), &size)) in position.iter().zip(offset).zip(sizes).enumerate() {
                at = at.and_then(|at| {
                    at.checked_mul(size)?.checked_add(window.source(dim, p, i, size)?)
                });
                let (stride, dilation) = (
                    window.strides.get(dim).copied().unwrap_or(1),
                    window.dilations.get(dim).copied().unwrap_or(1),
                );
                let padded = size
                    + window.before.get(dim).copied().unwrap_or(0)
                    + window.after.get(dim).copied().unwrap_or(0);
                in_padding &= p * stride + i * dilation < padded;
            }
            reads.extend(at);
            counted += usize::from(in_padding);
        });
        let count = match kind {
            PoolKind::Average { include_pad: true } => counted,
            _ => reads.len(),
        };
        cells.push((reads, count));
    });
    let plane: usize = sizes.iter().product();
    let planes = batch.saturating_mul(channels);
    match &x.data {
        Data::Float(values) => {
            let mut out = Vec::new();
            for plane in values.chunks_exact(plane.max(1)).take(planes) {
                for (reads, count) in &cells {
                    let read = reads.iter().filter_map(|&at| plane.get(at)).copied();
                    out.push(match kind {
                        PoolKind::Max => read.fold(f32::NEG_INFINITY, f32::max),
                        PoolKind::Average { .. } => {
                            (read.map(f64::from).sum::<f64>() / (*count).max(1) as f64) as f32
                        }
                    });
                }
            }
            Ok(Data::Float(out.into()))
        }
        Data::Int(values) if kind == PoolKind::Max => {
            let mut out = Vec::new();
            for plane in values.chunks_exact(plane.max(1)).take(planes) {
                for (reads, _) in &cells {
                    out.push(
                        reads.iter().filter_map(|&at| plane.get(at)).copied().max().unwrap_or(0),
                    );
                }
            }
            Ok(Data::Int(out.into()))
        }
        Data::Int(_) => Err(Problem::Kind),
    }
}
