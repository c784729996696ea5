//! Layers with weights, and products of two activations.

use super::lower::{Lower, Operand, Value};
use super::port::{log2_floor, power, round};
use super::{CompileError, Precision};
use crate::onnx::{Conv, Dense};
use crate::qir::{Axis, Linear, Move, NodeWeights, Op, Requant};

/// Accumulators stay below this: a requantisation still has room.
const MAX_ACCUMULATOR: u128 = 1 << 60;

impl Lower<'_> {
    pub(super) fn dense(
        &mut self,
        dense: &Dense,
        x: &Operand,
        reach: f64,
    ) -> Result<Value, CompileError> {
        let x = self.live(x.clone())?;
        let elements = self.ty(&x)?.len();
        let rows = elements / dense.inputs.max(1);
        let sizes = self.sizes(&[rows, dense.inputs, dense.outputs])?;
        let [rows, inner, outer] = sizes[..] else {
            return Err(self.unsupported("dimensions are missing"));
        };
        if let Some((x, exponents)) = self.by_feature(&x)? {
            // The weights take up the features' scales.
            let scales = exponents.iter().map(|&e| power(-i32::from(e))).cycle();
            let weights: Vec<f32> = dense
                .weights
                .iter()
                .zip(scales)
                .map(|(&w, s)| super::shape::narrow(f64::from(w) * s))
                .collect();
            return self.linear(
                Linear::dense(rows, inner, outer),
                &x,
                &weights,
                dense.bias.as_deref(),
                reach,
                true,
            );
        }
        self.linear(
            Linear::dense(rows, inner, outer),
            &x,
            &dense.weights,
            dense.bias.as_deref(),
            reach,
            false,
        )
    }

    pub(super) fn conv(
        &mut self,
        conv: &Conv,
        x: &Operand,
        out: &[u32],
        reach: f64,
    ) -> Result<Value, CompileError> {
        let x = self.live(x.clone())?;
        let shape = self.ty(&x)?.shape.clone();
        let window = &conv.window;
        let mut axes = Vec::new();
        for i in 0..window.kernel.len() {
            let (Some(&input), Some(&output)) = (shape.get(i + 2), out.get(i + 2)) else {
                return Err(self.unsupported("dimensions are missing"));
            };
            let at = |list: &[usize]| list.get(i).copied().unwrap_or(1);
            let before = window.before.get(i).copied().unwrap_or(0);
            let sizes = self.sizes(&[
                at(&window.kernel),
                at(&window.strides),
                at(&window.dilations),
                before,
            ])?;
            let [kernel, stride, dilation, before] = sizes[..] else {
                return Err(self.unsupported("dimensions are missing"));
            };
            axes.push(Axis {
                input,
                kernel,
                stride,
                dilation,
                before,
                after: padding_after(input, output, kernel, stride, dilation, before),
            });
        }
        let batch = shape.first().copied().unwrap_or(1);
        let sizes = self.sizes(&[conv.inputs, conv.outputs, conv.groups])?;
        let [inputs, outputs, groups] = sizes[..] else {
            return Err(self.unsupported("dimensions are missing"));
        };
        self.linear(
            Linear::conv(batch, inputs, outputs, groups, axes),
            &x,
            &conv.weights,
            conv.bias.as_deref(),
            reach,
            false,
        )
    }

    /// A linear node with these real weights, for an operand that already is as it should be (`scaled`) or not; the result stays as wide as its accumulators (16 bits), or is brought to one scale for all channels (8 bits).
    pub(super) fn linear(
        &mut self,
        linear: Linear,
        x: &Value,
        weights: &[f32],
        bias: Option<&[f32]>,
        reach: f64,
        scaled: bool,
    ) -> Result<Value, CompileError> {
        if let Some(bad) = weights.iter().chain(bias.unwrap_or_default()).find(|w| !w.is_finite()) {
            return Err(self.unsupported(format!("a weight is {bad}")));
        }
        let channels = linear.groups() * linear.out_per_group();
        if weights.len() != linear.weight_len() || bias.is_some_and(|b| b.len() != channels) {
            return Err(self.unsupported("the number of weights does not fit their shape"));
        }
        let x = if scaled { x.clone() } else { self.fit(x, self.precision.bits())? };
        let magnitude = self.magnitude(&x)?;
        match self.precision {
            Precision::W16A16 => self.linear16(linear, &x, magnitude, weights, bias),
            Precision::W8A8 => self.linear8(linear, &x, magnitude, weights, bias, reach),
        }
    }

    fn linear16(
        &mut self,
        mut linear: Linear,
        x: &Value,
        magnitude: u64,
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Value, CompileError> {
        let largest = weights.iter().fold(0f64, |m, w| m.max(w.abs().into()));
        let mut scale = i16::from(self.exponent_for(largest.max(power(-24)), 16)?)
            .min(60 - i16::from(x.exponent));
        loop {
            let exponent =
                i8::try_from(scale + i16::from(x.exponent)).ok().filter(|_| scale >= -40);
            let exponent = exponent.ok_or_else(|| {
                self.unsupported(
                    "weights and biases have no scale at which accumulators stay below 2^60",
                )
            })?;
            let matrix: Option<Vec<i16>> =
                weights.iter().map(|&w| quantised(f64::from(w) * power(scale.into()))).collect();
            let bias: Option<Vec<i64>> = bias
                .unwrap_or_default()
                .iter()
                .map(|&b| round(f64::from(b) * power(exponent.into())))
                .collect();
            if let (Some(matrix), Some(bias)) = (matrix, bias) {
                let node = NodeWeights { matrix, bias };
                let (bits, bound) = (bias_bits(&node.bias), node.reach(linear.inner(), magnitude));
                linear.weight_bits = 16;
                linear.bias_bits = bits;
                if bound < MAX_ACCUMULATOR && linear.structural_bound(magnitude) < MAX_ACCUMULATOR {
                    linear.bound = i64::try_from(bound).unwrap_or(i64::MAX);
                    let id = self.push(Op::Linear(linear), &[x.id], exponent)?;
                    self.weights.push(node);
                    return self.value(id, exponent);
                }
            }
            scale -= 1;
        }
    }

    fn linear8(
        &mut self,
        mut linear: Linear,
        x: &Value,
        magnitude: u64,
        weights: &[f32],
        bias: Option<&[f32]>,
        reach: f64,
    ) -> Result<Value, CompileError> {
        let inner = linear.inner();
        let channels = linear.groups() * linear.out_per_group();
        let rows = weights.chunks(inner.max(1));
        let scales: Vec<f64> = rows
            .clone()
            .map(|row| row.iter().fold(power(-24), |m, w| m.max(w.abs().into())) / 127.0)
            .collect();
        let matrix: Option<Vec<i16>> = rows
            .zip(&scales)
            .flat_map(|(row, s)| row.iter().map(move |&w| quantised(f64::from(w) / s)))
            .collect();
        let unit = power(-i32::from(x.exponent));
        let bias: Option<Vec<i64>> = bias
            .unwrap_or_default()
            .iter()
            .zip(&scales)
            .map(|(&b, s)| round(f64::from(b) / (s * unit)))
            .collect();
        let (Some(matrix), Some(bias)) = (matrix, bias) else {
            return Err(self.unsupported("weights or biases have no scale"));
        };
        let node = NodeWeights { matrix, bias };
        linear.weight_bits = 8;
        linear.bias_bits = bias_bits(&node.bias);
        let bound = node.reach(inner, magnitude);
        if bound >= 1 << 44 {
            return Err(self.unsupported(format!(
                "accumulators reach {bound}: biases are too large for 8-bit weights"
            )));
        }
        linear.bound = i64::try_from(bound).unwrap_or(i64::MAX);
        // All channels to one scale of 28 bits: multiplier_o / 2^shift = scale_o · 2^(exponent - x.exponent).
        let exponent = self.exponent_for(reach, 28)?;
        let ratios: Vec<f64> = scales.iter().map(|s| s * unit * power(exponent.into())).collect();
        let largest = ratios.iter().copied().fold(power(-40), f64::max);
        let room = 60 - i32::try_from(u128::BITS - bound.leading_zeros()).unwrap_or(0);
        let shift = (room.min(24) - 1 - log2_floor(largest)).clamp(0, 60);
        let multipliers: Option<Vec<i64>> =
            ratios.iter().map(|r| round(r * power(shift))).collect();
        let multipliers = multipliers.ok_or_else(|| self.unsupported("a channel has no scale"))?;
        let shape = match linear.form {
            crate::qir::Form::Dense { .. } => self.ty(x)?.shape.len() - 1,
            crate::qir::Form::Conv { .. } => 1,
        };
        let axis = if channels == 1 { 0 } else { u32::try_from(shape).unwrap_or(0) };
        let accumulators = self.push(Op::Linear(linear), &[x.id], x.exponent)?;
        self.weights.push(node);
        let shift = u8::try_from(shift).unwrap_or(0);
        let limit = (1i64 << 31) - 1;
        let id = self.push(
            Op::Requant(Requant { multipliers, axis, shift, lo: -limit, hi: limit }),
            &[accumulators],
            exponent,
        )?;
        Ok(Value { reach, ..self.value(id, exponent)? })
    }

    pub(super) fn matmul(
        &mut self,
        a: &Operand,
        b: &Operand,
        out: &[u32],
    ) -> Result<Value, CompileError> {
        let Some((lead, _)) = out.split_last_chunk::<2>() else {
            return Err(self.unsupported("a product of vectors"));
        };
        let bits = self.precision.bits();
        let mut ids = Vec::with_capacity(2);
        let mut exponent = 0i8;
        for operand in [a, b] {
            let value = match operand {
                Operand::Live(value) => self.fit(value, bits)?,
                Operand::Known { values, shape, .. } => {
                    let largest = values.iter().fold(0f64, |m, v| m.max(v.abs()));
                    let scale = self.exponent_for(largest.max(power(-24)), bits)?;
                    self.constant(values, shape, scale)?
                }
            };
            let own = self.ty(&value)?.shape.clone();
            let Some((_, matrix)) = own.split_last_chunk::<2>() else {
                return Err(self.unsupported("a product of vectors"));
            };
            let full = [lead, matrix.as_slice()].concat();
            let id = if full == own {
                value.id
            } else {
                self.push(Op::Move(Move::Expand(full)), &[value.id], value.exponent)?
            };
            exponent = exponent.saturating_add(value.exponent);
            ids.push(id);
        }
        let id = self.push(Op::MatMul, &ids, exponent)?;
        self.value(id, exponent)
    }
}

/// The padding after the last element at which a window has `output` positions.
pub(super) fn padding_after(
    input: u32,
    output: u32,
    kernel: u32,
    stride: u32,
    dilation: u32,
    before: u32,
) -> u32 {
    let last = u64::from(output.max(1) - 1) * u64::from(stride)
        + u64::from(kernel.max(1) - 1) * u64::from(dilation)
        + 1;
    u32::try_from(last.saturating_sub(u64::from(input) + u64::from(before))).unwrap_or(u32::MAX)
}

fn quantised(x: f64) -> Option<i16> {
    i16::try_from(round(x)?).ok()
}

/// Bits that hold all biases; 0 when there are none.
fn bias_bits(bias: &[i64]) -> u8 {
    let bits = |b: &i64| 65 - if *b < 0 { b.leading_ones() } else { b.leading_zeros() };
    bias.iter().map(|b| bits(b).max(2)).max().and_then(|b| u8::try_from(b).ok()).unwrap_or(0)
}
