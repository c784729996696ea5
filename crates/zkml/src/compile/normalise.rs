//! Softmax and normalisation, composed of maxima, sums, exponentials, roots and quotients.

use super::CompileError;
use super::lower::{Lower, Operand, Value};
use super::port::{float, power, round};
use crate::qir::{Function, Op, PoolKind, Requant};

/// Fractional bits of exponentials and of probabilities.
const FRACTION: i8 = 28;

impl Lower<'_> {
    /// Numerators `e^(x - max)`, their sum, and `x - max`.
    fn exponentials(
        &mut self,
        axis: usize,
        x: &Operand,
    ) -> Result<(usize, usize, Value), CompileError> {
        let x = self.live(x.clone())?;
        let x = self.fit(&x, 40)?;
        let axes = vec![u32::try_from(axis).unwrap_or(u32::MAX)];
        let max = self.push(
            Op::Reduce { kind: PoolKind::Max, axes: axes.clone(), keep: true },
            &[x.id],
            x.exponent,
        )?;
        let below = self.push(Op::Sum { coefficients: vec![1, -1] }, &[x.id, max], x.exponent)?;
        let least = -(1i64 << 41);
        let below = self.push(Op::Requant(Requant::shift(0, least, 0)), &[below], x.exponent)?;
        let e = self.push(Op::Function(Function::Exp), &[below], FRACTION)?;
        let sum =
            self.push(Op::Reduce { kind: PoolKind::Sum, axes, keep: true }, &[e], FRACTION)?;
        Ok((e, sum, Value { id: below, clamp: None, ..x }))
    }

    pub(super) fn softmax(&mut self, axis: usize, x: &Operand) -> Result<Value, CompileError> {
        let (e, sum, _) = self.exponentials(axis, x)?;
        let one = 1i64 << FRACTION;
        let id = self.push(
            Op::Divide { shift: FRACTION.unsigned_abs(), lo: 0, hi: one },
            &[e, sum],
            FRACTION,
        )?;
        self.value(id, FRACTION)
    }

    pub(super) fn log_softmax(&mut self, axis: usize, x: &Operand) -> Result<Value, CompileError> {
        let (_, sum, below) = self.exponentials(axis, x)?;
        let log = self.push(Op::Function(Function::Log), &[sum], FRACTION)?;
        let log = self.value(log, FRACTION)?;
        self.sum(&[Operand::Live(below), Operand::Live(log)], &[1, -1])
    }

    /// `(x - mean) / √(variance + ε)` over the dimensions from `axis` on: with `c = x - mean` and `n` elements, `√n · c / √(Σc² + nε)`.
    pub(super) fn normalize(
        &mut self,
        axis: usize,
        epsilon: f64,
        x: &Operand,
    ) -> Result<Value, CompileError> {
        let x = self.live(x.clone())?;
        let shape = self.ty(&x)?.shape.clone();
        let axes: Vec<u32> = (axis..shape.len()).filter_map(|a| u32::try_from(a).ok()).collect();
        let n: i64 = shape.iter().skip(axis).map(|&d| i64::from(d)).product();
        // Σc² stays below 2^59.
        let digits = 63 - n.max(1).leading_zeros();
        let bits = (57u32.saturating_sub(digits) / 2).min(24);
        let x = self.fit(&x, bits)?;
        let total = self.push(
            Op::Reduce { kind: PoolKind::Sum, axes: axes.clone(), keep: true },
            &[x.id],
            x.exponent,
        )?;
        // The mean needs more digits than the elements have: all are scaled up to `bits` bits.
        let own = i8::try_from(64 - self.magnitude(&x)?.leading_zeros()).unwrap_or(64);
        let up = (i8::try_from(bits).unwrap_or(0) - 1 - own).min(29 - x.exponent).max(0);
        let exponent = x.exponent + up;
        let mean = self.divided(total, exponent, n, up.unsigned_abs())?;
        let centred =
            self.push(Op::Sum { coefficients: vec![1 << up, -1] }, &[x.id, mean], exponent)?;
        let square_exponent =
            exponent.checked_mul(2).ok_or_else(|| self.unsupported("values have no scale"))?;
        let squares = self.push(Op::Product, &[centred, centred], square_exponent)?;
        let energy = self.push(
            Op::Reduce { kind: PoolKind::Sum, axes, keep: true },
            &[squares],
            square_exponent,
        )?;
        let extra = round(float(n) * epsilon * power(square_exponent.into())).unwrap_or(0).max(1);
        let extra = self.push(
            Op::Constant { shape: Vec::new(), values: vec![extra] },
            &[],
            square_exponent,
        )?;
        let energy =
            self.push(Op::Sum { coefficients: vec![1, 1] }, &[energy, extra], square_exponent)?;
        // The root has twenty more binary digits than the energy's half: 40 at most.
        let to = i8::try_from((i16::from(square_exponent) + 20).div_euclid(2))
            .ok()
            .filter(|t| (-60..=48).contains(t));
        let to = to.ok_or_else(|| self.unsupported("values have no scale"))?;
        let root = self.push(Op::Function(Function::Sqrt), &[energy], to)?;
        // |c| ≤ √Σc²: the quotient is at most 1.
        let shift = i16::from(FRACTION) - i16::from(exponent) + i16::from(to);
        let shift = u8::try_from(shift)
            .ok()
            .filter(|s| *s <= 62)
            .ok_or_else(|| self.unsupported("values have no scale"))?;
        let one = 1i64 << FRACTION;
        let normalised =
            self.push(Op::Divide { shift, lo: -one, hi: one }, &[centred, root], FRACTION)?;
        let value = self.value(normalised, FRACTION)?;
        self.scaled(value, float(n).sqrt())
    }

    /// A sum divided by a count and scaled up: `round(sum · m / 2^s)` with `m / 2^s` the nearest to `2^up / n`.
    fn divided(&mut self, sum: usize, exponent: i8, n: i64, up: u8) -> Result<usize, CompileError> {
        let magnitude = self.builder.ty(sum).map_or(0, crate::qir::TensorType::magnitude);
        let digits = 63 - n.max(1).leading_zeros();
        let bits = 64 - magnitude.leading_zeros();
        let shift =
            (59 + digits).saturating_sub(bits + u32::from(up)).min(59 - u32::from(up)).min(40);
        let multiplier = ((1i64 << (shift + u32::from(up))) + n / 2) / n.max(1);
        let limit = (1i64 << 60) - 1;
        let shift = u8::try_from(shift).unwrap_or(0);
        self.push(
            Op::Requant(Requant::scale(multiplier.max(1), shift, -limit, limit)),
            &[sum],
            exponent,
        )
    }
}
