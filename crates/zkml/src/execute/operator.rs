//! All operators without weights.

use super::{divide, function, movement};
use crate::qir::{Comparison, Extremum, Op, PoolKind, Requant, TensorType, Window, window_output};

/// An operand with its type. The length of `values` is that of the type.
pub(super) struct Operand<'a> {
    pub(super) ty: &'a TensorType,
    pub(super) values: &'a [i64],
}

/// The result of a node other than a linear one; none if the operands are not those the node was checked with.
pub(super) fn evaluate(op: &Op, operands: &[Operand<'_>], ty: &TensorType) -> Option<Vec<i64>> {
    let shape = ty.shape.as_slice();
    Some(match (op, operands) {
        (Op::Constant { values, .. }, []) => values.clone(),
        (Op::MatMul, [a, b]) => matmul(a, b)?,
        (Op::Requant(requant), [x]) => requantise(requant, x),
        (Op::Sum { coefficients }, operands) => {
            let mut sum = vec![0i64; ty.len()];
            for (x, &c) in operands.iter().zip(coefficients) {
                // Ranges are proven: no partial sum wraps.
                for (s, &v) in sum.iter_mut().zip(movement::broadcast(x, shape).iter()) {
                    *s = s.wrapping_add(c.wrapping_mul(v));
                }
            }
            sum
        }
        (Op::Product, [a, b]) => pairwise(a, b, shape, i64::wrapping_mul),
        (Op::Extreme(extremum), operands) => {
            let (first, rest) = operands.split_first()?;
            let mut result = movement::broadcast(first, shape).into_owned();
            for x in rest {
                for (r, &v) in result.iter_mut().zip(movement::broadcast(x, shape).iter()) {
                    *r = match extremum {
                        Extremum::Max => v.max(*r),
                        Extremum::Min => v.min(*r),
                    };
                }
            }
            result
        }
        (Op::Pool { kind, windows }, [x]) => pool(*kind, windows, x)?,
        (Op::Reduce { kind, axes, .. }, [x]) => reduce(*kind, axes, x)?,
        (Op::Function(f), [x]) => {
            x.values.iter().map(|&v| function::eval(*f, v, x.ty.exponent, ty.exponent)).collect()
        }
        (Op::Divide { shift, lo, hi }, [a, b]) => {
            pairwise(a, b, shape, |a, b| divide(a, b, *shift, *lo, *hi))
        }
        (Op::Move(moved), operands) => movement::apply(moved, operands, shape)?,
        (Op::ArgExtreme { extremum, axis, last, .. }, [x]) => {
            arg_extreme(*extremum, *axis as usize, *last, x)
        }
        (Op::Compare(comparison), [a, b]) => pairwise(a, b, shape, |a, b| {
            i64::from(match comparison {
                Comparison::Less => a < b,
                Comparison::LessOrEqual => a <= b,
                Comparison::Equal => a == b,
            })
        }),
        (Op::Select, [condition, a, b]) => {
            let (condition, a, b) = (
                movement::broadcast(condition, shape),
                movement::broadcast(a, shape),
                movement::broadcast(b, shape),
            );
            condition
                .iter()
                .zip(a.iter().zip(b.iter()))
                .map(|(&c, (&a, &b))| if c != 0 { a } else { b })
                .collect()
        }
        (Op::Lookup { axis }, [data, indices]) => {
            let last = data.ty.shape[*axis as usize] as usize - 1;
            let chosen: Vec<usize> = indices
                .values
                .iter()
                .map(|&i| usize::try_from(i.max(0)).map_or(last, |i| i.min(last)))
                .collect();
            movement::take(data, *axis as usize, &chosen)
        }
        (Op::OneHot { depth }, [x]) => x
            .values
            .iter()
            .flat_map(|&v| (0..i64::from(*depth)).map(move |i| i64::from(i == v)))
            .collect(),
        _ => return None,
    })
}

fn pairwise(
    a: &Operand<'_>,
    b: &Operand<'_>,
    shape: &[u32],
    f: impl Fn(i64, i64) -> i64,
) -> Vec<i64> {
    let (a, b) = (movement::broadcast(a, shape), movement::broadcast(b, shape));
    a.iter().zip(b.iter()).map(|(&a, &b)| f(a, b)).collect()
}

fn matmul(a: &Operand<'_>, b: &Operand<'_>) -> Option<Vec<i64>> {
    let ([.., m, k], [.., _, n]) = (a.ty.shape.as_slice(), b.ty.shape.as_slice()) else {
        return None;
    };
    let (m, k, n) = (*m as usize, *k as usize, *n as usize);
    let mut result = Vec::with_capacity(a.values.len() / k * n);
    for (a, b) in a.values.chunks(m * k).zip(b.values.chunks(k * n)) {
        for row in a.chunks(k) {
            let start = result.len();
            result.resize(start + n, 0i64);
            for (&x, column) in row.iter().zip(b.chunks(n)) {
                for (r, &y) in result[start..].iter_mut().zip(column) {
                    *r = r.wrapping_add(x.wrapping_mul(y));
                }
            }
        }
    }
    Some(result)
}

fn requantise(requant: &Requant, x: &Operand<'_>) -> Vec<i64> {
    // The product and the added half stay below 2^62: checked when the node was made.
    let half = if requant.shift == 0 { 0 } else { 1i64 << (requant.shift - 1) };
    let one = |v: i64, m: i64| {
        (v.wrapping_mul(m).wrapping_add(half) >> requant.shift).clamp(requant.lo, requant.hi)
    };
    match requant.multipliers.as_slice() {
        &[m] => x.values.iter().map(|&v| one(v, m)).collect(),
        multipliers => {
            let inner: usize =
                x.ty.shape[requant.axis as usize + 1..].iter().map(|&d| d as usize).product();
            let along = multipliers.iter().cycle();
            x.values
                .chunks(inner)
                .zip(along)
                .flat_map(|(run, &m)| run.iter().map(move |&v| one(v, m)))
                .collect()
        }
    }
}

/// Pools one dimension after the other: sums and extremes are separable.
fn pool(kind: PoolKind, windows: &[Window], x: &Operand<'_>) -> Option<Vec<i64>> {
    let mut shape: Vec<usize> = x.ty.shape.iter().map(|&d| d as usize).collect();
    let mut values = x.values.to_vec();
    let lead = shape.len().checked_sub(windows.len())?;
    for (i, w) in windows.iter().enumerate() {
        let size = shape[lead + i];
        let out = window_output(u32::try_from(size).ok()?, w)? as usize;
        let inner: usize = shape[lead + i + 1..].iter().product();
        values = pool_dimension(kind, &values, size, inner, w, out);
        shape[lead + i] = out;
    }
    Some(values)
}

fn pool_dimension(
    kind: PoolKind,
    values: &[i64],
    size: usize,
    inner: usize,
    w: &Window,
    out: usize,
) -> Vec<i64> {
    let mut result = Vec::with_capacity(values.len() / size * out);
    for block in values.chunks(size * inner) {
        for i in 0..out {
            let start = result.len();
            let mut first = true;
            for j in 0..w.kernel as usize {
                let at = (i * w.stride as usize + j * w.dilation as usize)
                    .checked_sub(w.before as usize)
                    .filter(|&at| at < size);
                let Some(at) = at else { continue };
                let run = &block[at * inner..(at + 1) * inner];
                if first {
                    result.extend_from_slice(run);
                    first = false;
                } else {
                    combine(kind, &mut result[start..], run);
                }
            }
            if first {
                result.resize(start + inner, 0);
            }
        }
    }
    result
}

fn combine(kind: PoolKind, to: &mut [i64], from: &[i64]) {
    for (a, &b) in to.iter_mut().zip(from) {
        *a = match kind {
            PoolKind::Sum => a.wrapping_add(b),
            PoolKind::Max => b.max(*a),
            PoolKind::Min => b.min(*a),
        };
    }
}

fn reduce(kind: PoolKind, axes: &[u32], x: &Operand<'_>) -> Option<Vec<i64>> {
    let mut shape: Vec<usize> = x.ty.shape.iter().map(|&d| d as usize).collect();
    let mut values = x.values.to_vec();
    for &axis in axes {
        let axis = axis as usize;
        let size = *shape.get(axis)?;
        let inner: usize = shape[axis + 1..].iter().product();
        let window = Window {
            kernel: u32::try_from(size).ok()?,
            stride: 1,
            dilation: 1,
            before: 0,
            after: 0,
        };
        values = pool_dimension(kind, &values, size, inner, &window, 1);
        shape[axis] = 1;
    }
    Some(values)
}

fn arg_extreme(extremum: Extremum, axis: usize, last: bool, x: &Operand<'_>) -> Vec<i64> {
    let size = x.ty.shape[axis] as usize;
    let inner: usize = x.ty.shape[axis + 1..].iter().map(|&d| d as usize).product();
    let mut result = Vec::with_capacity(x.values.len() / size);
    for block in x.values.chunks(size * inner) {
        for i in 0..inner {
            let mut best = (block[i], 0i64);
            for (index, &v) in (1i64..).zip(block[i..].iter().skip(inner).step_by(inner)) {
                let better = match extremum {
                    Extremum::Max => v > best.0,
                    Extremum::Min => v < best.0,
                };
                if better || (last && v == best.0) {
                    best = (v, index);
                }
            }
            result.push(best.1);
        }
    }
    result
}
