//! Moves, pools, reductions and look-ups.

use super::CompileError;
use super::linear::padding_after;
use super::lower::{Lower, Operand, Value};
use super::port::round;
use crate::onnx::{
    Op as FloatOp, PadMode, PoolKind as FloatPool, ReduceKind, Window as FloatWindow,
};
use crate::qir::{Comparison, Extremum, Linear, Move, Op, Padding, PoolKind, Window};

/// Tables of up to this many elements are part of the program; larger ones become weights.
const SMALL_TABLE: usize = 2048;

/// Products along a dimension have up to this many factors.
const MAX_FACTORS: u32 = 64;

impl Lower<'_> {
    /// Operators that move elements and keep a pending clamp.
    pub(super) fn rearrange(
        &mut self,
        op: &FloatOp,
        x: &Operand,
        out: &[u32],
    ) -> Result<Value, CompileError> {
        let mut x = self.live(x.clone())?;
        let shape = self.ty(&x)?.shape.clone();
        let moved = match op {
            FloatOp::Reshape => Move::Reshape(out.to_vec()),
            FloatOp::Expand => Move::Expand(out.to_vec()),
            FloatOp::Transpose { permutation } => Move::Transpose(self.sizes(permutation)?),
            FloatOp::Slice { start, step } => {
                let steps: Result<Vec<i32>, _> = step
                    .iter()
                    .zip(out)
                    .map(|(&s, &n)| if n == 1 { Ok(1) } else { i32::try_from(s) })
                    .collect();
                let steps = steps.map_err(|_| self.unsupported("a step is too large"))?;
                Move::Slice { starts: self.sizes(start)?, steps, sizes: out.to_vec() }
            }
            FloatOp::Pad { before, mode } => {
                x = self.materialise(x)?;
                let before = self.sizes(before)?;
                let after: Option<Vec<u32>> = out
                    .iter()
                    .zip(&shape)
                    .zip(&before)
                    .map(|((o, s), b)| o.checked_sub(*s)?.checked_sub(*b))
                    .collect();
                let after = after.ok_or_else(|| self.unsupported("padding that takes away"))?;
                let padding = match mode {
                    PadMode::Constant(v) => {
                        let scaled = round(f64::from(*v) * super::port::power(x.exponent.into()));
                        Padding::Constant(
                            scaled.ok_or_else(|| self.unsupported("the padding does not fit"))?,
                        )
                    }
                    PadMode::Edge => Padding::Edge,
                    PadMode::Reflect => Padding::Reflect,
                    PadMode::Wrap => return self.wrap(x, &shape, &before, out),
                };
                Move::Pad { before, after, padding }
            }
            _ => return Err(self.unsupported("not supported")),
        };
        if out == shape && matches!(moved, Move::Reshape(_) | Move::Expand(_)) {
            return Ok(x);
        }
        let id = self.push(Op::Move(moved), &[x.id], x.exponent)?;
        Ok(Value { id, ..x })
    }

    fn wrap(
        &mut self,
        mut x: Value,
        shape: &[u32],
        before: &[u32],
        out: &[u32],
    ) -> Result<Value, CompileError> {
        for (axis, ((&size, &before), &after)) in (0u32..).zip(shape.iter().zip(before).zip(out)) {
            let indices: Vec<u32> = (0..after).map(|i| (i + size - before % size) % size).collect();
            let id = self.push(Op::Move(Move::Gather { axis, indices }), &[x.id], x.exponent)?;
            x = Value { id, ..x };
        }
        Ok(x)
    }

    pub(super) fn concat(
        &mut self,
        axis: usize,
        operands: &[Operand],
    ) -> Result<Value, CompileError> {
        let axis = u32::try_from(axis).unwrap_or(u32::MAX);
        let (ids, exponent) = self.aligned(operands)?;
        let id = self.push(Op::Move(Move::Concat { axis }), &ids, exponent)?;
        self.value(id, exponent)
    }

    pub(super) fn pool(
        &mut self,
        kind: FloatPool,
        window: &FloatWindow,
        x: &Operand,
        out: &[u32],
    ) -> Result<Value, CompileError> {
        let mut x = self.live(x.clone())?;
        let shape = self.ty(&x)?.shape.clone();
        let mut windows = Vec::new();
        for i in 0..window.kernel.len() {
            let (Some(&input), Some(&output)) = (shape.get(i + 2), out.get(i + 2)) else {
                return Err(self.unsupported("dimensions are missing"));
            };
            let at = |list: &[usize], missing: usize| list.get(i).copied().unwrap_or(missing);
            let sizes = self.sizes(&[
                at(&window.kernel, 1),
                at(&window.strides, 1),
                at(&window.dilations, 1),
                at(&window.before, 0),
                at(&window.after, 0),
            ])?;
            let [kernel, stride, dilation, before, stated] = sizes[..] else {
                return Err(self.unsupported("dimensions are missing"));
            };
            let after = padding_after(input, output, kernel, stride, dilation, before);
            windows.push((
                Window { kernel, stride, dilation, before, after },
                input,
                output,
                stated,
            ));
        }
        let plain: Vec<Window> = windows.iter().map(|w| w.0).collect();
        if kind == FloatPool::Max {
            // A maximum commutes with a clamp and with requantisation: it comes first, on fewer elements than they would.
            let id =
                self.push(Op::Pool { kind: PoolKind::Max, windows: plain }, &[x.id], x.exponent)?;
            return Ok(Value { id, ..x });
        }
        x = self.fit(&x, 36)?;
        let id =
            self.push(Op::Pool { kind: PoolKind::Sum, windows: plain }, &[x.id], x.exponent)?;
        let mut sum = self.value(id, x.exponent)?;
        let include = kind == FloatPool::Average { include_pad: true };
        let counts: Vec<Vec<u32>> = windows
            .iter()
            .map(|(w, input, output, stated)| {
                (0..*output).map(|i| cells(w, *input, *stated, i, include)).collect()
            })
            .collect();
        let full: f64 = windows.iter().map(|w| f64::from(w.0.kernel)).product();
        sum.reach = x.reach * full;
        if counts.iter().zip(&windows).all(|(c, w)| c.iter().all(|n| *n == w.0.kernel)) {
            return self.scaled(sum, 1.0 / full);
        }
        let mut inverse = vec![1.0];
        for along in &counts {
            inverse = inverse
                .iter()
                .flat_map(|a| along.iter().map(move |&n| a / f64::from(n.max(1))))
                .collect();
        }
        let shape: Vec<u32> = windows.iter().map(|w| w.2).collect();
        self.product(
            &Operand::Live(sum),
            &Operand::Known { values: inverse, shape, integer: false },
        )
    }

    pub(super) fn reduce(
        &mut self,
        kind: ReduceKind,
        axes: &[usize],
        x: &Operand,
        out: &[u32],
    ) -> Result<Value, CompileError> {
        let mut x = self.live(x.clone())?;
        let shape = self.ty(&x)?.shape.clone();
        let count: f64 = axes.iter().filter_map(|&a| shape.get(a)).map(|&d| f64::from(d)).product();
        let axes = self.sizes(axes)?;
        let keep = out.len() == shape.len();
        let kind = match kind {
            ReduceKind::Max => PoolKind::Max,
            ReduceKind::Min => PoolKind::Min,
            ReduceKind::Sum | ReduceKind::Mean => {
                x = self.fit(&x, 36)?;
                let id =
                    self.push(Op::Reduce { kind: PoolKind::Sum, axes, keep }, &[x.id], x.exponent)?;
                let sum = Value { reach: x.reach * count, ..self.value(id, x.exponent)? };
                return if kind == ReduceKind::Mean {
                    self.scaled(sum, 1.0 / count)
                } else {
                    Ok(sum)
                };
            }
            ReduceKind::Product => return self.product_along(x, &axes),
        };
        let id = self.push(Op::Reduce { kind, axes, keep }, &[x.id], x.exponent)?;
        Ok(Value { id, ..x })
    }

    /// Multiplies the slices along the dimensions one after the other.
    fn product_along(&mut self, mut x: Value, axes: &[u32]) -> Result<Value, CompileError> {
        for &axis in axes {
            let size = self.ty(&x)?.shape.get(axis as usize).copied().unwrap_or(1);
            if size > MAX_FACTORS {
                return Err(self.unsupported(format!("a product of {size} factors")));
            }
            let mut product: Option<Value> = None;
            for i in 0..size {
                let id = self.push(
                    Op::Move(Move::Gather { axis, indices: vec![i] }),
                    &[x.id],
                    x.exponent,
                )?;
                let slice = Operand::Live(Value { id, ..x.clone() });
                product = Some(match (product, slice) {
                    (Some(product), slice) => self.product(&Operand::Live(product), &slice)?,
                    (None, slice) => self.live(slice)?,
                });
            }
            x = product.unwrap_or(x);
        }
        Ok(x)
    }

    pub(super) fn arg_extreme(
        &mut self,
        max: bool,
        axis: usize,
        last: bool,
        x: &Operand,
        out: &[u32],
    ) -> Result<Value, CompileError> {
        let x = self.live(x.clone())?;
        let x = self.materialise(x)?;
        let keep = out.len() == self.ty(&x)?.shape.len();
        let extremum = if max { Extremum::Max } else { Extremum::Min };
        let op =
            Op::ArgExtreme { extremum, axis: u32::try_from(axis).unwrap_or(u32::MAX), keep, last };
        let id = self.push(op, &[x.id], 0)?;
        self.value(id, 0)
    }

    pub(super) fn gather(
        &mut self,
        axis: usize,
        x: &Operand,
        indices: &Operand,
        out: &[u32],
    ) -> Result<Value, CompileError> {
        let axis_number = u32::try_from(axis).unwrap_or(u32::MAX);
        match (x, indices) {
            (Operand::Live(x), Operand::Known { values, .. }) => {
                let indices: Option<Vec<u32>> =
                    values.iter().map(|&v| round(v).and_then(|v| u32::try_from(v).ok())).collect();
                let indices =
                    indices.ok_or_else(|| self.unsupported("an index is negative or too large"))?;
                // The indices' own shape follows by the reshape to the output's shape.
                let id = self.push(
                    Op::Move(Move::Gather { axis: axis_number, indices }),
                    &[x.id],
                    x.exponent,
                )?;
                Ok(Value { id, ..x.clone() })
            }
            (Operand::Known { values, shape, integer: false }, Operand::Live(indices))
                if axis == 0 && values.len() > SMALL_TABLE =>
            {
                self.embed(values, shape, indices, out)
            }
            (x, indices) => {
                let x = self.live(x.clone())?;
                let x = self.materialise(x)?;
                let indices = self.live(indices.clone())?;
                let size = self.ty(&x)?.shape.get(axis).copied().unwrap_or(1);
                let indices = self.index(&indices, size)?;
                let id =
                    self.push(Op::Lookup { axis: axis_number }, &[x.id, indices.id], x.exponent)?;
                Ok(Value { id, ..x })
            }
        }
    }

    /// A look-up in a large table is a product of the weights with a one-hot vector: the table is then committed to like any other weights.
    fn embed(
        &mut self,
        values: &[f64],
        shape: &[u32],
        indices: &Value,
        out: &[u32],
    ) -> Result<Value, CompileError> {
        let depth = shape.first().copied().unwrap_or(1);
        let indices = self.index(indices, depth)?;
        let width = values.len() / depth.max(1) as usize;
        let rows = self.ty(&indices)?.len();
        let id = self.push(Op::OneHot { depth }, &[indices.id], 0)?;
        let hot = self.value(id, 0)?;
        let sizes = self.sizes(&[rows, width])?;
        let [rows, width_number] = sizes[..] else {
            return Err(self.unsupported("dimensions are missing"));
        };
        // Transposed: one row of weights per column of the table.
        let weights: Vec<f32> = (0..width)
            .flat_map(|c| (0..depth as usize).map(move |r| (r, c)))
            .map(|(r, c)| values.get(r * width + c).copied().unwrap_or(0.0))
            .map(narrow)
            .collect();
        let reach = values.iter().fold(0f64, |m, v| m.max(v.abs()));
        let value = self.linear(
            Linear::dense(rows, depth, width_number),
            &hot,
            &weights,
            None,
            reach,
            true,
        )?;
        let id = self.push(Op::Move(Move::Reshape(out.to_vec())), &[value.id], value.exponent)?;
        Ok(Value { id, reach, ..value })
    }

    /// Indices into a dimension: negative ones count from its end.
    fn index(&mut self, value: &Value, size: u32) -> Result<Value, CompileError> {
        let value = self.materialise(value.clone())?;
        if value.exponent != 0 {
            return Err(self.unsupported("indices are not integers"));
        }
        if self.ty(&value)?.lo >= 0 {
            return Ok(value);
        }
        let zero = self.push(Op::Constant { shape: Vec::new(), values: vec![0] }, &[], 0)?;
        let negative = self.push(Op::Compare(Comparison::Less), &[value.id, zero], 0)?;
        let id =
            self.push(Op::Sum { coefficients: vec![1, size.into()] }, &[value.id, negative], 0)?;
        Ok(Value { id, ..value })
    }
}

#[allow(clippy::cast_possible_truncation, reason = "rounding to 32 bits is what is meant")]
pub(super) fn narrow(v: f64) -> f32 {
    v as f32
}

/// Cells of a window that are counted: those on elements, and with `include` those on the padding that the file states.
fn cells(w: &Window, input: u32, stated: u32, i: u32, include: bool) -> u32 {
    let start = u64::from(i) * u64::from(w.stride);
    let (first, end) = if include {
        (0, u64::from(w.before) + u64::from(input) + u64::from(stated))
    } else {
        (w.before.into(), u64::from(w.before) + u64::from(input))
    };
    let count = (0..u64::from(w.kernel))
        .map(|j| start + j * u64::from(w.dilation))
        .filter(|at| (first..end).contains(at))
        .count();
    u32::try_from(count).unwrap_or(u32::MAX)
}
