//! Shapes, proven ranges and work of results. Everything is derived from the operands' types and the operator.

use super::{
    Extremum, Function, MAX_ELEMENTS, MAX_EXPONENT, MAX_MAGNITUDE, MAX_RANK, Move, Op, Padding,
    PoolKind, Requant, TensorType, Window,
};
use crate::execute::function;

type Inferred = Result<(TensorType, u64), String>;

/// A value clamped to a range of `i64`.
pub(crate) fn clamp(value: i128, lo: i64, hi: i64) -> i64 {
    if value <= i128::from(lo) {
        lo
    } else if value >= i128::from(hi) {
        hi
    } else {
        // Between two values of i64.
        i64::try_from(value).unwrap_or(hi)
    }
}

/// Shape and range within the limits of the format.
pub(super) fn check_type(ty: &TensorType) -> Result<(), &'static str> {
    check_shape(&ty.shape)?;
    if ty.magnitude() >= MAX_MAGNITUDE.unsigned_abs() {
        return Err("values may reach 2^62");
    }
    if !(-MAX_EXPONENT..=MAX_EXPONENT).contains(&ty.exponent) {
        return Err("the exponent is outside -62..=62");
    }
    Ok(())
}

pub(super) fn check_shape(shape: &[u32]) -> Result<(), &'static str> {
    if shape.len() > MAX_RANK {
        return Err("has more than 8 dimensions");
    }
    let mut elements = 1u64;
    for &d in shape {
        if d == 0 {
            return Err("has an empty dimension");
        }
        elements = elements.saturating_mul(d.into());
        if elements > MAX_ELEMENTS {
            return Err("has more than 2^24 elements");
        }
    }
    Ok(())
}

/// NumPy's broadcast of two shapes.
fn broadcast(a: &[u32], b: &[u32]) -> Option<Vec<u32>> {
    let rank = a.len().max(b.len());
    let at = |s: &[u32], i: usize| {
        (i + s.len()).checked_sub(rank).and_then(|j| s.get(j).copied()).unwrap_or(1)
    };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// An interval in `i128`.
type Interval = (i128, i128);

fn interval(ty: &TensorType) -> Interval {
    (ty.lo.into(), ty.hi.into())
}

fn scale(x: Interval, by: i128) -> Interval {
    let (a, b) = (x.0 * by, x.1 * by);
    (a.min(b), a.max(b))
}

fn product(x: Interval, y: Interval) -> Interval {
    let all = [x.0 * y.0, x.0 * y.1, x.1 * y.0, x.1 * y.1];
    (all.into_iter().min().unwrap_or(0), all.into_iter().max().unwrap_or(0))
}

/// The type of the result and the elementary operations of the node.
pub(super) fn infer(op: &Op, inputs: &[&TensorType], exponent: i8) -> Inferred {
    let arity = match op {
        Op::Constant { .. } => 0,
        Op::Linear(_)
        | Op::Requant(_)
        | Op::Pool { .. }
        | Op::Reduce { .. }
        | Op::Function(_)
        | Op::ArgExtreme { .. }
        | Op::OneHot { .. } => 1,
        Op::MatMul | Op::Product | Op::Divide { .. } | Op::Compare(_) | Op::Lookup { .. } => 2,
        Op::Select => 3,
        Op::Sum { coefficients } => coefficients.len(),
        Op::Move(Move::Concat { .. }) | Op::Extreme(_) => inputs.len(),
        Op::Move(_) => 1,
    };
    if inputs.len() != arity || (arity == 0 && !matches!(op, Op::Constant { .. })) {
        return Err(format!("takes {arity} operands, got {}", inputs.len()));
    }
    let (shape, range, work) = derive(op, inputs, exponent)?;
    check_shape(&shape)?;
    let limit = i128::from(MAX_MAGNITUDE);
    if range.0 <= -limit || range.1 >= limit {
        return Err(format!(
            "values may reach {}, the limit is 2^62",
            range.0.abs().max(range.1.abs())
        ));
    }
    let ty = TensorType {
        shape,
        lo: clamp(range.0, i64::MIN, i64::MAX),
        hi: clamp(range.1, i64::MIN, i64::MAX),
        exponent,
    };
    check_type(&ty)?;
    // Every node visits each element of its result at least once.
    let elements = ty.len() as u64;
    Ok((ty, work.max(elements)))
}

fn derive(
    op: &Op,
    inputs: &[&TensorType],
    exponent: i8,
) -> Result<(Vec<u32>, Interval, u64), String> {
    let elements = |shape: &[u32]| shape.iter().fold(1u64, |n, &d| n.saturating_mul(d.into()));
    Ok(match (op, inputs) {
        (Op::Constant { shape, values }, []) => {
            check_shape(shape)?;
            if elements(shape) != values.len() as u64 {
                return Err(format!("{} values for shape {shape:?}", values.len()));
            }
            let lo = values.iter().copied().min().unwrap_or(0);
            let hi = values.iter().copied().max().unwrap_or(0);
            (shape.clone(), (lo.into(), hi.into()), values.len() as u64)
        }
        (Op::Linear(linear), [x]) => {
            let shape = linear.check(x)?;
            (shape, (-i128::from(linear.bound), linear.bound.into()), linear.macs())
        }
        (Op::MatMul, [a, b]) => matmul(a, b)?,
        (Op::Requant(requant), [x]) => {
            let range = requantised(requant, x)?;
            (x.shape.clone(), range, x.len() as u64)
        }
        (Op::Sum { coefficients }, operands) => {
            let mut range = (0i128, 0i128);
            for (x, &c) in operands.iter().zip(coefficients) {
                if c == 0 || c.unsigned_abs() >= MAX_MAGNITUDE.unsigned_abs() {
                    return Err(format!("coefficient {c}"));
                }
                let term = scale(interval(x), c.into());
                // Partial sums are what the executor computes, so each must fit.
                range = (range.0.saturating_add(term.0), range.1.saturating_add(term.1));
                let magnitude =
                    term.0.abs().max(term.1.abs()).max(range.0.abs()).max(range.1.abs());
                if magnitude >= i128::from(MAX_MAGNITUDE) {
                    return Err(format!("values may reach {magnitude}, the limit is 2^62"));
                }
            }
            let shape = broadcast_all(operands)?;
            let work = elements(&shape).saturating_mul(operands.len() as u64);
            (shape, range, work)
        }
        (Op::Product, [a, b]) => {
            let shape = broadcast_all(inputs)?;
            let work = elements(&shape);
            (shape, product(interval(a), interval(b)), work)
        }
        (Op::Extreme(extremum), operands) => {
            let shape = broadcast_all(operands)?;
            let (los, his) = (
                operands.iter().map(|x| i128::from(x.lo)),
                operands.iter().map(|x| i128::from(x.hi)),
            );
            let range = match extremum {
                Extremum::Max => (los.max(), his.max()),
                Extremum::Min => (los.min(), his.min()),
            };
            let work = elements(&shape).saturating_mul(operands.len() as u64);
            (shape, (range.0.unwrap_or(0), range.1.unwrap_or(0)), work)
        }
        (Op::Pool { kind, windows }, [x]) => pool(*kind, windows, x)?,
        (Op::Reduce { kind, axes, keep }, [x]) => reduce(*kind, axes, *keep, x)?,
        (Op::Function(f), [x]) => {
            let range = function::range(*f, x, exponent)?;
            (x.shape.clone(), range, (x.len() as u64).saturating_mul(function_work(*f)))
        }
        (Op::Divide { shift, lo, hi }, [a, b]) => {
            if lo > hi {
                return Err("empty clamp".to_owned());
            }
            if *shift > 62 {
                return Err(format!("shift {shift}"));
            }
            let shape = broadcast_all(inputs)?;
            let work = elements(&shape).saturating_mul(8);
            (shape, quotient_range(a, b, *shift, *lo, *hi), work)
        }
        (Op::Move(moved), operands) => {
            let (shape, range) = moved_type(moved, operands)?;
            let work = elements(&shape);
            (shape, range, work)
        }
        (Op::ArgExtreme { axis, keep, .. }, [x]) => {
            let size = *x
                .shape
                .get(*axis as usize)
                .ok_or_else(|| format!("axis {axis} of rank {}", x.shape.len()))?;
            let (shape, _, work) = reduce(PoolKind::Max, &[*axis], *keep, x)?;
            (shape, (0, i128::from(size) - 1), work)
        }
        (Op::Compare(_), [_, _]) => {
            let shape = broadcast_all(inputs)?;
            let work = elements(&shape);
            (shape, (0, 1), work)
        }
        (Op::Select, [_, a, b]) => {
            let shape = broadcast_all(inputs)?;
            let work = elements(&shape);
            (shape, (a.lo.min(b.lo).into(), a.hi.max(b.hi).into()), work)
        }
        (Op::Lookup { axis }, [data, indices]) => {
            let axis = *axis as usize;
            let (Some(before), Some(after)) = (data.shape.get(..axis), data.shape.get(axis + 1..))
            else {
                return Err(format!("axis {axis} of rank {}", data.shape.len()));
            };
            let shape = [before, &indices.shape, after].concat();
            let work = elements(&shape);
            (shape, interval(data), work)
        }
        (Op::OneHot { depth }, [x]) => {
            let mut shape = x.shape.clone();
            shape.push(*depth);
            let work = elements(&shape);
            (shape, (0, 1), work)
        }
        _ => return Err(format!("takes another number of operands than {}", inputs.len())),
    })
}

fn function_work(f: Function) -> u64 {
    match f {
        Function::Sqrt | Function::ReciprocalSqrt => 64,
        Function::Log | Function::Softplus => 160,
        _ => 80,
    }
}

fn broadcast_all(operands: &[&TensorType]) -> Result<Vec<u32>, String> {
    let mut shape = Vec::new();
    for x in operands {
        shape = broadcast(&shape, &x.shape)
            .ok_or_else(|| format!("shapes {shape:?} and {:?} do not broadcast", x.shape))?;
    }
    Ok(shape)
}

fn matmul(a: &TensorType, b: &TensorType) -> Result<(Vec<u32>, Interval, u64), String> {
    let mismatch = || format!("shapes {:?} and {:?}", a.shape, b.shape);
    let ([a_lead @ .., m, k], [b_lead @ .., k2, n]) = (&a.shape[..], &b.shape[..]) else {
        return Err(mismatch());
    };
    if a_lead != b_lead || k != k2 {
        return Err(mismatch());
    }
    let mut shape = a_lead.to_vec();
    shape.extend([*m, *n]);
    let one = product(interval(a), interval(b));
    let magnitude = one.0.abs().max(one.1.abs()).saturating_mul((*k).into());
    if magnitude >= i128::from(MAX_MAGNITUDE) {
        return Err(format!("values may reach {magnitude}, the limit is 2^62"));
    }
    let work = shape.iter().fold(u64::from(*k), |w, &d| w.saturating_mul(d.into()));
    Ok((shape, scale(one, (*k).into()), work))
}

fn requantised(requant: &Requant, x: &TensorType) -> Result<Interval, String> {
    let Requant { multipliers, axis, shift, lo, hi } = requant;
    if lo > hi {
        return Err("empty clamp".to_owned());
    }
    if *shift > 62 {
        return Err(format!("shift {shift}"));
    }
    match multipliers.len() {
        0 => return Err("no multiplier".to_owned()),
        1 if *axis == 0 => (),
        n if n > 1 && x.shape.get(*axis as usize).is_some_and(|&d| d as usize == n) => (),
        n => return Err(format!("{n} multipliers along axis {axis} of shape {:?}", x.shape)),
    }
    let mut range = (i128::from(*hi), i128::from(*lo));
    for &m in multipliers {
        let reach = i128::from(x.magnitude()) * i128::from(m.unsigned_abs()) + (1i128 << shift);
        if reach >= i128::from(MAX_MAGNITUDE) {
            return Err(format!("the product may reach {reach}, the limit is 2^62"));
        }
        for end in [requant.apply(x.lo, m), requant.apply(x.hi, m)] {
            range = (range.0.min(end.into()), range.1.max(end.into()));
        }
    }
    Ok(range)
}

/// Number of windows along a dimension; none when the window does not fit or could lie in the padding entirely.
pub(crate) fn window_output(size: u32, w: &Window) -> Option<u32> {
    let reach = (u64::from(w.kernel).checked_sub(1)?) * u64::from(w.dilation) + 1;
    let padded = u64::from(size) + u64::from(w.before) + u64::from(w.after);
    if w.stride == 0 || w.dilation == 0 || padded < reach {
        return None;
    }
    u32::try_from((padded - reach) / u64::from(w.stride) + 1).ok()
}

fn pool(
    kind: PoolKind,
    windows: &[Window],
    x: &TensorType,
) -> Result<(Vec<u32>, Interval, u64), String> {
    let Some(lead) = x.shape.len().checked_sub(windows.len()).filter(|_| !windows.is_empty())
    else {
        return Err(format!("{} windows over shape {:?}", windows.len(), x.shape));
    };
    let mut shape = x.shape.clone();
    let mut cells = 1u64;
    let mut padded = false;
    for (d, w) in shape.iter_mut().skip(lead).zip(windows) {
        let misfit = || format!("a window of {} cells does not fit {d} elements", w.kernel);
        // Every window must meet an element, so that a maximum exists.
        if [w.kernel, w.stride, w.dilation, w.before, w.after].into_iter().any(|v| v >= 1 << 16) {
            return Err(misfit());
        }
        let out = window_output(*d, w).ok_or_else(misfit)?;
        let inner = w.before.div_ceil(w.stride)..(w.before + *d) / w.stride;
        if kind != PoolKind::Sum
            && !(0..inner.start.min(out)).chain(inner.end.min(out)..out).all(|i| meets(*d, w, i))
        {
            return Err(format!("a window of {} cells lies in the padding", w.kernel));
        }
        padded |= w.before > 0 || w.after > 0;
        cells = cells.saturating_mul(w.kernel.into());
        *d = out;
    }
    let range = match kind {
        PoolKind::Sum => sum_range(x, cells, padded)?,
        PoolKind::Max | PoolKind::Min => interval(x),
    };
    let work = shape.iter().fold(cells, |n, &d| n.saturating_mul(d.into()));
    Ok((shape, range, work))
}

fn meets(size: u32, w: &Window, i: u32) -> bool {
    let start = u64::from(i) * u64::from(w.stride);
    let before = u64::from(w.before);
    // First cell at or after the padding.
    let j = before.saturating_sub(start).div_ceil(u64::from(w.dilation.max(1)));
    j < u64::from(w.kernel) && start + j * u64::from(w.dilation) < before + u64::from(size)
}

fn sum_range(x: &TensorType, cells: u64, fewer: bool) -> Result<Interval, String> {
    let (lo, hi) = scale_up(interval(x), cells);
    let magnitude = lo.abs().max(hi.abs());
    if magnitude >= i128::from(MAX_MAGNITUDE) {
        return Err(format!("values may reach {magnitude}, the limit is 2^62"));
    }
    Ok(if fewer { (lo.min(0), hi.max(0)) } else { (lo, hi) })
}

fn scale_up(x: Interval, cells: u64) -> Interval {
    (x.0.saturating_mul(cells.into()), x.1.saturating_mul(cells.into()))
}

fn reduce(
    kind: PoolKind,
    axes: &[u32],
    keep: bool,
    x: &TensorType,
) -> Result<(Vec<u32>, Interval, u64), String> {
    if !axes.windows(2).all(|w| w[0] < w[1])
        || axes.last().is_some_and(|&a| a as usize >= x.shape.len())
    {
        return Err(format!("axes {axes:?} of shape {:?}", x.shape));
    }
    let mut shape = Vec::new();
    let mut cells = 1u64;
    for (i, &d) in x.shape.iter().enumerate() {
        if axes.iter().any(|&a| a as usize == i) {
            cells = cells.saturating_mul(d.into());
            if keep {
                shape.push(1);
            }
        } else {
            shape.push(d);
        }
    }
    let range = match kind {
        PoolKind::Sum => sum_range(x, cells, false)?,
        PoolKind::Max | PoolKind::Min => interval(x),
    };
    Ok((shape, range, x.len() as u64))
}

/// Where a quotient can lie: tight for a divisor of one sign, the clamps otherwise.
fn quotient_range(a: &TensorType, b: &TensorType, shift: u8, lo: i64, hi: i64) -> Interval {
    if b.lo <= 0 && b.hi >= 0 {
        return (lo.into(), hi.into());
    }
    let mut range = (i128::from(hi), i128::from(lo));
    for x in [a.lo, a.hi] {
        for y in [b.lo, b.hi] {
            let q = i128::from(crate::execute::divide(x, y, shift, lo, hi));
            range = (range.0.min(q), range.1.max(q));
        }
    }
    range
}

fn moved_type(moved: &Move, operands: &[&TensorType]) -> Result<(Vec<u32>, Interval), String> {
    let x = *operands.first().ok_or("takes at least one operand")?;
    let rank = x.shape.len();
    let mismatch = || format!("does not fit shape {:?}", x.shape);
    let shape = match moved {
        Move::Reshape(shape) => {
            check_shape(shape)?;
            let elements: u64 = shape.iter().map(|&d| u64::from(d)).product();
            if elements != x.len() as u64 {
                return Err(format!("shape {shape:?} {}", mismatch()));
            }
            shape.clone()
        }
        Move::Transpose(permutation) => {
            let mut seen = vec![false; rank];
            let mut shape = Vec::with_capacity(rank);
            for &p in permutation {
                match seen.get_mut(p as usize) {
                    Some(s) if !*s => *s = true,
                    _ => return Err(format!("permutation {permutation:?} {}", mismatch())),
                }
                shape.push(x.shape[p as usize]);
            }
            if shape.len() != rank {
                return Err(format!("permutation {permutation:?} {}", mismatch()));
            }
            shape
        }
        Move::Slice { starts, steps, sizes } => {
            if [starts.len(), steps.len(), sizes.len()] != [rank; 3] {
                return Err(format!("slice {}", mismatch()));
            }
            for (((&start, &step), &size), &d) in starts.iter().zip(steps).zip(sizes).zip(&x.shape)
            {
                let last = i64::from(start) + i64::from(step) * (i64::from(size) - 1);
                if size == 0 || step == 0 || start >= d || last < 0 || last >= i64::from(d) {
                    return Err(format!(
                        "slice of {size} from {start} in steps of {step} {}",
                        mismatch()
                    ));
                }
            }
            sizes.clone()
        }
        Move::Concat { axis } => return concat_type(*axis as usize, operands),
        Move::Pad { before, after, padding } => return pad_type(x, before, after, *padding),
        Move::Gather { axis, indices } => {
            let mut shape = x.shape.clone();
            let d = shape
                .get_mut(*axis as usize)
                .ok_or_else(|| format!("axis {axis} {}", mismatch()))?;
            if let Some(i) = indices.iter().find(|&&i| i >= *d) {
                return Err(format!("index {i} {}", mismatch()));
            }
            *d = u32::try_from(indices.len()).map_err(|_| "too many indices")?;
            shape
        }
        Move::Expand(shape) => {
            if shape.len() > MAX_RANK || broadcast(&x.shape, shape).as_ref() != Some(shape) {
                return Err(format!("shape {shape:?} {}", mismatch()));
            }
            shape.clone()
        }
    };
    Ok((shape, interval(x)))
}

fn concat_type(axis: usize, operands: &[&TensorType]) -> Result<(Vec<u32>, Interval), String> {
    let x = *operands.first().ok_or("takes at least one operand")?;
    if axis >= x.shape.len() {
        return Err(format!("axis {axis} of rank {}", x.shape.len()));
    }
    let mut shape = x.shape.clone();
    let mut range = interval(x);
    let mut along = 0u32;
    for y in operands {
        let fits = y.shape.len() == shape.len()
            && y.shape.iter().zip(&shape).enumerate().all(|(i, (a, b))| i == axis || a == b);
        if !fits {
            return Err(format!("shapes {:?} and {:?}", x.shape, y.shape));
        }
        along = along.saturating_add(y.shape[axis]);
        range = (range.0.min(y.lo.into()), range.1.max(y.hi.into()));
    }
    shape[axis] = along;
    Ok((shape, range))
}

fn pad_type(
    x: &TensorType,
    before: &[u32],
    after: &[u32],
    padding: Padding,
) -> Result<(Vec<u32>, Interval), String> {
    if before.len() != x.shape.len() || after.len() != x.shape.len() {
        return Err(format!("padding does not fit shape {:?}", x.shape));
    }
    let mut shape = x.shape.clone();
    for ((d, &b), &a) in shape.iter_mut().zip(before).zip(after) {
        if padding == Padding::Reflect && (b >= *d || a >= *d) {
            return Err(format!("a mirror image of {} elements does not fit {d}", b.max(a)));
        }
        *d = d.checked_add(b).and_then(|d| d.checked_add(a)).ok_or("padding is too large")?;
    }
    let range = match padding {
        Padding::Constant(v) => (i128::from(x.lo).min(v.into()), i128::from(x.hi).max(v.into())),
        Padding::Edge | Padding::Reflect => interval(x),
    };
    Ok((shape, range))
}
