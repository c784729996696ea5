//! Moving elements: every output axis is a list of offsets into the input.

use super::{Problem, Value, count};
use crate::onnx::{Data, PadMode};

/// Where the elements of one output axis lie: offsets that add up over the axes; `None` is padding.
type Axis = Vec<Option<usize>>;

/// How far apart neighbours are along each axis.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    let mut step = 1usize;
    for (stride, &dim) in strides.iter_mut().zip(shape).rev() {
        *stride = step;
        step = step.saturating_mul(dim);
    }
    strides
}

/// The elements at all sums of offsets, row-major; padding and what lies outside is `fill`.
fn collect<T: Copy>(data: &[T], axes: &[Axis], fill: T) -> Result<Vec<T>, Problem> {
    let lens: Vec<usize> = axes.iter().map(Vec::len).collect();
    let total = count(&lens).ok_or(Problem::Shape)?;
    let mut out = Vec::with_capacity(total);
    if total == 0 {
        return Ok(out);
    }
    let one: Axis = vec![Some(0)];
    let (last, outer) = axes.split_last().unwrap_or((&one, &[]));
    // Whether the last axis is one stretch of the input.
    let run = match last.first() {
        Some(&Some(first)) => last
            .iter()
            .enumerate()
            .all(|(at, &offset)| offset == first.checked_add(at))
            .then_some(first),
        _ => None,
    };
    let mut index = vec![0usize; outer.len()];
    loop {
        let base = index
            .iter()
            .zip(outer)
            .try_fold(0usize, |sum, (&at, axis)| sum.checked_add((*axis.get(at)?)?));
        let stretch = run.zip(base).and_then(|(first, base)| {
            let start = base.checked_add(first)?;
            data.get(start..start.checked_add(last.len())?)
        });
        match (base, stretch) {
            (None, _) => out.resize(out.len().saturating_add(last.len()), fill),
            (Some(_), Some(stretch)) => out.extend_from_slice(stretch),
            (Some(base), None) => out.extend(last.iter().map(|offset| {
                offset
                    .and_then(|offset| data.get(base.checked_add(offset)?))
                    .copied()
                    .unwrap_or(fill)
            })),
        }
        // The next outer index.
        let mut done = true;
        for (at, axis) in index.iter_mut().zip(outer).rev() {
            *at = at.saturating_add(1);
            if *at < axis.len() {
                done = false;
                break;
            }
            *at = 0;
        }
        if done {
            return Ok(out);
        }
    }
}

fn collect_data(data: &Data, axes: &[Axis], fill: f32) -> Result<Data, Problem> {
    #[allow(clippy::cast_possible_truncation, reason = "the importer checks that it is whole")]
    match data {
        Data::Float(values) => Ok(Data::Float(collect(values, axes, fill)?.into())),
        Data::Int(values) => Ok(Data::Int(collect(values, axes, fill as i64)?.into())),
    }
}

/// The offsets of broadcasting `from` to `to`.
fn broadcast_axes(from: &[usize], to: &[usize]) -> Result<Vec<Axis>, Problem> {
    let lead = to.len().checked_sub(from.len()).ok_or(Problem::Shape)?;
    let strides = strides(from);
    to.iter()
        .enumerate()
        .map(|(axis, &len)| {
            let Some(own) = axis.checked_sub(lead) else {
                return Ok(vec![Some(0); len]);
            };
            match (from.get(own), strides.get(own)) {
                (Some(1), _) => Ok(vec![Some(0); len]),
                (Some(&dim), Some(&stride)) if dim == len => {
                    Ok((0..len).map(|at| at.checked_mul(stride)).collect())
                }
                _ => Err(Problem::Shape),
            }
        })
        .collect()
}

/// Floats broadcast to a shape.
pub(super) fn broadcast<T: Copy + Default>(
    data: &[T],
    from: &[usize],
    to: &[usize],
) -> Result<Vec<T>, Problem> {
    collect(data, &broadcast_axes(from, to)?, T::default())
}

pub(super) fn expand(x: &Value, shape: &[usize]) -> Result<Data, Problem> {
    collect_data(&x.data, &broadcast_axes(&x.shape, shape)?, 0.0)
}

pub(super) fn transpose(x: &Value, permutation: &[usize]) -> Result<Data, Problem> {
    let strides = strides(&x.shape);
    let axes = permutation
        .iter()
        .map(|&axis| match (x.shape.get(axis), strides.get(axis)) {
            (Some(&dim), Some(&stride)) => {
                Ok((0..dim).map(|at| at.checked_mul(stride)).collect::<Axis>())
            }
            _ => Err(Problem::Shape),
        })
        .collect::<Result<Vec<_>, _>>()?;
    collect_data(&x.data, &axes, 0.0)
}

pub(super) fn slice(
    x: &Value,
    start: &[usize],
    step: &[i64],
    shape: &[usize],
) -> Result<Data, Problem> {
    let strides = strides(&x.shape);
    if [start.len(), step.len(), shape.len()] != [strides.len(); 3] {
        return Err(Problem::Shape);
    }
    let mut axes = Vec::with_capacity(shape.len());
    for (axis, (&stride, &len)) in strides.iter().zip(shape).enumerate() {
        let (Some(&start), Some(&step), Some(&dim)) =
            (start.get(axis), step.get(axis), x.shape.get(axis))
        else {
            return Err(Problem::Shape);
        };
        let index = |at: usize| -> Option<usize> {
            let moved = i64::try_from(at).ok()?.checked_mul(step)?;
            let index = i64::try_from(start).ok()?.checked_add(moved)?;
            usize::try_from(index).ok().filter(|&index| index < dim)?.checked_mul(stride)
        };
        let offsets: Axis = (0..len).map(index).collect();
        if offsets.contains(&None) {
            return Err(Problem::Index);
        }
        axes.push(offsets);
    }
    collect_data(&x.data, &axes, 0.0)
}

pub(super) fn pad(
    x: &Value,
    before: &[usize],
    mode: PadMode,
    shape: &[usize],
) -> Result<Data, Problem> {
    let strides = strides(&x.shape);
    if [before.len(), shape.len()] != [strides.len(); 2] {
        return Err(Problem::Shape);
    }
    let mut axes = Vec::with_capacity(shape.len());
    for (axis, (&stride, &len)) in strides.iter().zip(shape).enumerate() {
        let (Some(&before), Some(&dim)) = (before.get(axis), x.shape.get(axis)) else {
            return Err(Problem::Shape);
        };
        let (Ok(before), Ok(dim)) = (i64::try_from(before), i64::try_from(dim)) else {
            return Err(Problem::Shape);
        };
        let source = |at: usize| -> Option<usize> {
            let at = i64::try_from(at).ok()?.checked_sub(before)?;
            let inside = match mode {
                PadMode::Constant(_) => at,
                PadMode::Edge => at.clamp(0, dim.saturating_sub(1)),
                PadMode::Wrap => at.checked_rem_euclid(dim)?,
                PadMode::Reflect => {
                    let last = dim.saturating_sub(1);
                    let period = last.saturating_mul(2).max(1);
                    let folded = at.checked_rem_euclid(period)?;
                    folded.min(period.saturating_sub(folded)).min(last)
                }
            };
            let inside = (0..dim).contains(&inside).then_some(inside)?;
            usize::try_from(inside).ok()?.checked_mul(stride)
        };
        axes.push((0..len).map(source).collect());
    }
    let fill = if let PadMode::Constant(value) = mode { value } else { 0.0 };
    collect_data(&x.data, &axes, fill)
}

pub(super) fn concat(parts: &[&Value], axis: usize) -> Result<Data, Problem> {
    let first = parts.first().ok_or(Problem::Missing)?;
    let outer: usize = first.shape.get(..axis).ok_or(Problem::Shape)?.iter().product();
    let widths: Vec<usize> = parts
        .iter()
        .map(|part| Some(part.shape.get(axis..)?.iter().product()))
        .collect::<Option<_>>()
        .ok_or(Problem::Shape)?;
    fn join<T: Copy>(slices: &[&[T]], widths: &[usize], outer: usize) -> Result<Vec<T>, Problem> {
        let total = slices.iter().map(|slice| slice.len()).fold(0usize, usize::saturating_add);
        count(&[total]).ok_or(Problem::Shape)?;
        let mut out = Vec::with_capacity(total);
        for row in 0..outer {
            for (slice, &width) in slices.iter().zip(widths) {
                let part = row
                    .checked_mul(width)
                    .and_then(|start| slice.get(start..start.checked_add(width)?));
                out.extend_from_slice(part.ok_or(Problem::Shape)?);
            }
        }
        Ok(out)
    }
    if let Some(floats) = parts.iter().map(|part| part.data.floats()).collect::<Option<Vec<_>>>() {
        return Ok(Data::Float(join(&floats, &widths, outer)?.into()));
    }
    let ints = parts.iter().map(|part| part.data.ints()).collect::<Option<Vec<_>>>();
    Ok(Data::Int(join(&ints.ok_or(Problem::Kind)?, &widths, outer)?.into()))
}

pub(super) fn gather(x: &Value, indices: &Value, axis: usize) -> Result<Data, Problem> {
    let indices = indices.data.ints().ok_or(Problem::Kind)?;
    let dim = *x.shape.get(axis).ok_or(Problem::Shape)?;
    let outer: usize = x.shape.get(..axis).ok_or(Problem::Shape)?.iter().product();
    let inner: usize = x.shape.get(axis.saturating_add(1)..).unwrap_or_default().iter().product();
    let axis_offsets = indices
        .iter()
        .map(|&index| {
            let signed = i64::try_from(dim).map_err(|_| Problem::Shape)?;
            let index = if index < 0 { index.saturating_add(signed) } else { index };
            let index = usize::try_from(index).ok().filter(|&index| index < dim);
            Ok(Some(index.ok_or(Problem::Index)?.saturating_mul(inner)))
        })
        .collect::<Result<Axis, Problem>>()?;
    let block = dim.saturating_mul(inner);
    let outer_axis: Axis = (0..outer).map(|at| at.checked_mul(block)).collect();
    let inner_axis: Axis = (0..inner).map(Some).collect();
    collect_data(&x.data, &[outer_axis, axis_offsets, inner_axis], 0.0)
}
