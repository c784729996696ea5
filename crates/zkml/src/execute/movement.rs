//! Elements moved, repeated or dropped.

use std::borrow::Cow;

use super::operator::Operand;
use crate::qir::{Move, Padding};

/// Where an index of a result comes from in the operand; none for padding.
type Source = Option<usize>;

/// Row-major strides.
fn strides(shape: &[u32]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i] as usize;
    }
    strides
}

/// A result whose every dimension is re-indexed on its own: `sources[d]` lists the operand's offsets along dimension `d`.
fn reindex(values: &[i64], sources: &[Vec<Source>], fill: i64) -> Vec<i64> {
    let mut offsets: Vec<Source> = vec![Some(0)];
    let Some((inner, outer)) = sources.split_last() else { return values.to_vec() };
    for along in outer {
        offsets =
            offsets.iter().flat_map(|a| along.iter().map(move |b| Some((*a)? + (*b)?))).collect();
    }
    let mut result = Vec::with_capacity(offsets.len() * inner.len());
    for base in offsets {
        result.extend(inner.iter().map(|at| match (base, at) {
            (Some(base), Some(at)) => values[base + at],
            _ => fill,
        }));
    }
    result
}

/// The operand repeated to a shape it broadcasts to.
pub(super) fn broadcast<'a>(x: &Operand<'a>, shape: &[u32]) -> Cow<'a, [i64]> {
    let len: usize = shape.iter().map(|&d| d as usize).product();
    if x.values.len() == len {
        return Cow::Borrowed(x.values);
    }
    if let [v] = x.values {
        return Cow::Owned(vec![*v; len]);
    }
    let missing = shape.len() - x.ty.shape.len();
    let strides = strides(&x.ty.shape);
    let sources: Vec<Vec<Source>> = shape
        .iter()
        .enumerate()
        .map(|(i, &d)| match i.checked_sub(missing) {
            Some(j) if x.ty.shape[j] > 1 => (0..d as usize).map(|k| Some(k * strides[j])).collect(),
            _ => vec![Some(0); d as usize],
        })
        .collect();
    Cow::Owned(reindex(x.values, &sources, 0))
}

/// The result of a move; `shape` is its derived shape.
pub(super) fn apply(moved: &Move, operands: &[Operand<'_>], shape: &[u32]) -> Option<Vec<i64>> {
    let x = operands.first()?;
    let from = &x.ty.shape;
    let strides = strides(from);
    Some(match moved {
        Move::Reshape(_) => x.values.to_vec(),
        Move::Expand(_) => broadcast(x, shape).into_owned(),
        Move::Transpose(permutation) => transpose(
            x.values,
            shape,
            &permutation.iter().map(|&p| strides[p as usize]).collect::<Vec<_>>(),
        ),
        Move::Slice { starts, steps, sizes } => {
            let along = |d: usize| {
                let (start, step) = (i64::from(starts[d]), i64::from(steps[d]));
                (0..i64::from(sizes[d]))
                    .map(|i| usize::try_from(start + i * step).ok().map(|at| at * strides[d]))
                    .collect()
            };
            reindex(x.values, &(0..from.len()).map(along).collect::<Vec<_>>(), 0)
        }
        Move::Concat { axis } => concat(*axis as usize, operands, shape),
        Move::Pad { before, padding, .. } => {
            let along = |d: usize| {
                let (before, size) = (i64::from(before[d]), i64::from(from[d]));
                let source = |i: u32| {
                    let at = i64::from(i) - before;
                    let at = match padding {
                        Padding::Constant(_) => at,
                        Padding::Edge => at.clamp(0, size - 1),
                        Padding::Reflect if at < 0 => -at,
                        Padding::Reflect if at >= size => 2 * (size - 1) - at,
                        Padding::Reflect => at,
                    };
                    usize::try_from(at).ok().filter(|_| at < size).map(|at| at * strides[d])
                };
                (0..shape[d]).map(source).collect()
            };
            let fill = if let Padding::Constant(v) = padding { *v } else { 0 };
            reindex(x.values, &(0..from.len()).map(along).collect::<Vec<_>>(), fill)
        }
        Move::Gather { axis, indices } => {
            let chosen: Vec<usize> = indices.iter().map(|&i| i as usize).collect();
            take(x, *axis as usize, &chosen)
        }
    })
}

fn transpose(values: &[i64], shape: &[u32], strides: &[usize]) -> Vec<i64> {
    let sources: Vec<Vec<Source>> = shape
        .iter()
        .zip(strides)
        .map(|(&d, s)| (0..d as usize).map(|i| Some(i * s)).collect())
        .collect();
    reindex(values, &sources, 0)
}

fn concat(axis: usize, operands: &[Operand<'_>], shape: &[u32]) -> Vec<i64> {
    let outer: usize = shape[..axis].iter().map(|&d| d as usize).product();
    let mut result = Vec::with_capacity(shape.iter().map(|&d| d as usize).product());
    for i in 0..outer {
        for x in operands {
            let run = x.values.len() / outer;
            result.extend_from_slice(&x.values[i * run..(i + 1) * run]);
        }
    }
    result
}

/// Slices of the operand along a dimension, in the order of `indices`.
pub(super) fn take(x: &Operand<'_>, axis: usize, indices: &[usize]) -> Vec<i64> {
    let size = x.ty.shape[axis] as usize;
    let inner: usize = x.ty.shape[axis + 1..].iter().map(|&d| d as usize).product();
    let mut result = Vec::with_capacity(x.values.len() / size * indices.len());
    for block in x.values.chunks(size * inner) {
        for &i in indices {
            result.extend_from_slice(&block[i * inner..(i + 1) * inner]);
        }
    }
    result
}
