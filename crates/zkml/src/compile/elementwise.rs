//! Operators on single elements.

use super::CompileError;
use super::lower::{Lower, MEDIUM, Operand, Value, WIDE, scalar};
use super::port::{power, round};
use crate::execute::function;
use crate::onnx::{Binary, Kind, Unary};
use crate::qir::{Comparison, Extremum, Function, Op, Requant};

/// Bits of the result of a function.
const RESULT: u32 = 24;

impl Lower<'_> {
    pub(super) fn binary(
        &mut self,
        op: Binary,
        a: &Operand,
        b: &Operand,
        reach: f64,
        integer: bool,
    ) -> Result<Value, CompileError> {
        let pair = [a.clone(), b.clone()];
        let swapped = [b.clone(), a.clone()];
        match op {
            Binary::Add => self.sum(&pair, &[1, 1]),
            Binary::Sub => self.sum(&pair, &[1, -1]),
            Binary::Mul => self.product(a, b),
            Binary::Div if integer => {
                let (quotient, _) = self.truncated(a, b)?;
                Ok(quotient)
            }
            Binary::Div => self.quotient(a, b, reach),
            Binary::Pow => self.power(a, b, reach),
            Binary::Max => self.bounded(Extremum::Max, &pair),
            Binary::Min => self.bounded(Extremum::Min, &pair),
            Binary::Equal => self.compare(Comparison::Equal, &pair),
            Binary::Less => self.compare(Comparison::Less, &pair),
            Binary::LessOrEqual => self.compare(Comparison::LessOrEqual, &pair),
            Binary::Greater => self.compare(Comparison::Less, &swapped),
            Binary::GreaterOrEqual => self.compare(Comparison::LessOrEqual, &swapped),
            Binary::And => self.extreme(Extremum::Min, &pair),
            Binary::Or => self.extreme(Extremum::Max, &pair),
            Binary::Xor => {
                let equal = self.compare(Comparison::Equal, &pair)?;
                self.sum(&[scalar(1.0), Operand::Live(equal)], &[1, -1])
            }
            Binary::Mod => {
                let (ids, exponent) = self.whole_pair(a, b)?;
                let quotient = self.floor_quotient(ids)?;
                self.rest(ids, quotient, exponent)
            }
            Binary::Fmod => {
                let (_, rest) = self.truncated(a, b)?;
                Ok(rest)
            }
        }
    }

    /// A maximum or minimum; with one constant it is a clamp.
    fn bounded(&mut self, extremum: Extremum, pair: &[Operand; 2]) -> Result<Value, CompileError> {
        let ([Operand::Live(live), Operand::Known { values: known, .. }]
        | [Operand::Known { values: known, .. }, Operand::Live(live)]) = pair
        else {
            return self.extreme(extremum, pair);
        };
        let [bound] = known[..] else { return self.extreme(extremum, pair) };
        match extremum {
            Extremum::Max => self.clip(live, Some(bound), None),
            Extremum::Min => self.clip(live, None, Some(bound)),
        }
    }

    fn extreme(&mut self, extremum: Extremum, operands: &[Operand]) -> Result<Value, CompileError> {
        let (ids, exponent) = self.aligned(operands)?;
        let id = self.push(Op::Extreme(extremum), &ids, exponent)?;
        self.value(id, exponent)
    }

    fn compare(
        &mut self,
        comparison: Comparison,
        operands: &[Operand],
    ) -> Result<Value, CompileError> {
        let (ids, _) = self.aligned(operands)?;
        let id = self.push(Op::Compare(comparison), &ids, 0)?;
        self.value(id, 0)
    }

    pub(super) fn select(
        &mut self,
        condition: &Operand,
        a: &Operand,
        b: &Operand,
    ) -> Result<Value, CompileError> {
        let condition = self.live(condition.clone())?;
        let condition = self.materialise(condition)?;
        let (ids, exponent) = self.aligned(&[a.clone(), b.clone()])?;
        let id = self.push(Op::Select, &[&[condition.id], ids.as_slice()].concat(), exponent)?;
        self.value(id, exponent)
    }

    /// `a / b`, scaled so that its reach has 30 bits; values beyond twice that saturate.
    pub(super) fn quotient(
        &mut self,
        a: &Operand,
        b: &Operand,
        reach: f64,
    ) -> Result<Value, CompileError> {
        if let Operand::Known { values, shape, .. } = b {
            if values.contains(&0.0) {
                return Err(self.unsupported("division by a constant that is zero"));
            }
            let inverse = Operand::Known {
                values: values.iter().map(|v| 1.0 / v).collect(),
                shape: shape.clone(),
                integer: false,
            };
            return self.product(a, &inverse);
        }
        let a = match a {
            Operand::Live(a) => self.fit(a, MEDIUM)?,
            known @ Operand::Known { .. } => self.live(known.clone())?,
        };
        let b = self.live(b.clone())?;
        let b = self.fit(&b, MEDIUM)?;
        let wanted = self.exponent_for(reach, MEDIUM)?;
        let own = i16::from(a.exponent) - i16::from(b.exponent);
        let shift = (i16::from(wanted) - own).clamp(0, 62);
        let exponent =
            i8::try_from(own + shift).map_err(|_| self.unsupported("the quotient has no scale"))?;
        let limit = (1i64 << MEDIUM) - 1;
        let op = Op::Divide { shift: u8::try_from(shift).unwrap_or(0), lo: -limit, hi: limit };
        let id = self.push(op, &[a.id, b.id], exponent)?;
        Ok(Value { reach, ..self.value(id, exponent)? })
    }

    /// Two operands of at most 30 bits at one scale.
    fn whole_pair(&mut self, a: &Operand, b: &Operand) -> Result<([usize; 2], i8), CompileError> {
        let mut fitted = Vec::with_capacity(2);
        for operand in [a, b] {
            let live = self.live(operand.clone())?;
            fitted.push(Operand::Live(self.fit(&live, MEDIUM)?));
        }
        let (ids, exponent) = self.aligned(&fitted)?;
        let mut pair = [0; 2];
        for (slot, id) in pair.iter_mut().zip(ids) {
            let value = self.value(id, exponent)?;
            if self.magnitude(&value)? >= 1 << MEDIUM {
                return Err(self.unsupported("operands of too different sizes"));
            }
            *slot = id;
        }
        Ok((pair, exponent))
    }

    /// `floor(a / b)`: the rounded quotient of `2a - b` and `2b`.
    fn floor_quotient(&mut self, [a, b]: [usize; 2]) -> Result<usize, CompileError> {
        let numerator = self.push(Op::Sum { coefficients: vec![2, -1] }, &[a, b], 0)?;
        let divisor = self.push(Op::Sum { coefficients: vec![2] }, &[b], 0)?;
        let limit = 1i64 << MEDIUM;
        self.push(Op::Divide { shift: 0, lo: -limit, hi: limit }, &[numerator, divisor], 0)
    }

    /// `a - b · quotient`
    fn rest(
        &mut self,
        [a, b]: [usize; 2],
        quotient: usize,
        exponent: i8,
    ) -> Result<Value, CompileError> {
        let multiple = self.push(Op::Product, &[b, quotient], exponent)?;
        let id = self.push(Op::Sum { coefficients: vec![1, -1] }, &[a, multiple], exponent)?;
        let value = self.value(id, exponent)?;
        // Smaller than the divisor, which interval arithmetic does not see.
        let divisor = self.value(b, exponent)?;
        let limit = i64::try_from(self.magnitude(&divisor)?).unwrap_or(i64::MAX);
        self.materialise(Value { clamp: Some((-limit, limit)), reach: divisor.reach, ..value })
    }

    /// The quotient towards zero, and the rest that then has the sign of `a`.
    fn truncated(&mut self, a: &Operand, b: &Operand) -> Result<(Value, Value), CompileError> {
        let ([a, b], exponent) = self.whole_pair(a, b)?;
        let (a, b) = (self.value(a, exponent)?, self.value(b, exponent)?);
        let (size_a, size_b) = (self.absolute(&a)?, self.absolute(&b)?);
        let quotient = self.floor_quotient([size_a.id, size_b.id])?;
        let rest = self.rest([size_a.id, size_b.id], quotient, exponent)?;
        let (sign_a, sign_b) = (self.unary(Unary::Sign, a, 1.0)?, self.unary(Unary::Sign, b, 1.0)?);
        let sign = self.push(Op::Product, &[sign_a.id, sign_b.id], 0)?;
        let quotient = self.push(Op::Product, &[quotient, sign], 0)?;
        let rest = self.push(Op::Product, &[rest.id, sign_a.id], exponent)?;
        Ok((self.value(quotient, 0)?, self.value(rest, exponent)?))
    }

    fn power(&mut self, a: &Operand, b: &Operand, reach: f64) -> Result<Value, CompileError> {
        let exponent = match b {
            Operand::Known { values, .. } => {
                values.first().copied().filter(|first| values.iter().all(|v| v == first))
            }
            Operand::Live(_) => None,
        };
        let exponent = exponent
            .ok_or_else(|| self.unsupported("a power whose exponent is not one constant"))?;
        let base = self.live(a.clone())?;
        let live = |value: &Value| Operand::Live(value.clone());
        match exponent {
            1.0 => Ok(base),
            2.0 => self.product(&live(&base), &live(&base)),
            3.0 | 4.0 => {
                let square = self.product(&live(&base), &live(&base))?;
                let other = if exponent == 3.0 { base } else { square.clone() };
                self.product(&live(&square), &live(&other))
            }
            0.5 => self.function(Function::Sqrt, &base, reach),
            -0.5 => self.function(Function::ReciprocalSqrt, &base, reach),
            -1.0 => self.quotient(&scalar(1.0), &live(&base), reach),
            p if self.ty(&base)?.lo > 0 || base.clamp.is_some_and(|(lo, _)| lo > 0) => {
                let log = self.function(Function::Log, &base, 64.0)?;
                let scaled = self.scaled(log, p)?;
                self.function(Function::Exp, &scaled, reach)
            }
            p => Err(self.unsupported(format!("the power {p} of numbers that may be negative"))),
        }
    }

    /// A function whose result has 24 bits for its reach.
    pub(super) fn function(
        &mut self,
        f: Function,
        x: &Value,
        reach: f64,
    ) -> Result<Value, CompileError> {
        let mut x = self.fit(x, WIDE)?;
        let mut to = self.exponent_for(reach, RESULT)?;
        if f == Function::Sqrt {
            // 0 ≤ 2·to - from ≤ 64.
            to = to.min(i8::try_from((64 + i16::from(x.exponent)) / 2).unwrap_or(i8::MAX)).max(0);
            x = self.at_exponent(&x, x.exponent.min(to.saturating_mul(2)))?;
        }
        if f == Function::ReciprocalSqrt && i16::from(to) * 2 + i16::from(x.exponent) < 0 {
            return Err(self.unsupported("an inverse root has no scale"));
        }
        if f == Function::Exp {
            x = self.below_overflow(x, to)?;
        }
        let id = self.push(Op::Function(f), &[x.id], to)?;
        Ok(Value { reach, ..self.value(id, to)? })
    }

    /// The operand of an exponential, clamped where the result would reach 2^40.
    fn below_overflow(&mut self, x: Value, to: i8) -> Result<Value, CompileError> {
        let ty = self.ty(&x)?;
        let (mut low, mut high) = (ty.lo, ty.hi);
        if function::eval(Function::Exp, high, x.exponent, to) <= 1 << 40 {
            return Ok(x);
        }
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if function::eval(Function::Exp, middle, x.exponent, to) <= 1 << 40 {
                low = middle;
            } else {
                high = middle;
            }
        }
        let lo = ty.lo;
        self.materialise(Value { clamp: Some((lo, low)), ..x })
    }

    /// Clamps between real bounds, when the next requantisation comes.
    pub(super) fn clip(
        &mut self,
        x: &Value,
        min: Option<f64>,
        max: Option<f64>,
    ) -> Result<Value, CompileError> {
        let scale = power(x.exponent.into());
        let bound = |v: Option<f64>, missing: i64| {
            v.map_or(missing, |v| {
                round(v * scale).unwrap_or(if v < 0.0 { -(1 << 61) } else { 1 << 61 })
            })
        };
        let (lo, hi) = (bound(min, -(1 << 61)), bound(max, 1 << 61));
        let (old_lo, old_hi) = x.clamp.unwrap_or((-(1 << 61), 1 << 61));
        let (lo, hi) = (old_lo.clamp(lo.min(hi), hi), old_hi.clamp(lo.min(hi), hi));
        Ok(Value { clamp: Some((lo, hi)), ..x.clone() })
    }

    pub(super) fn convert(
        &mut self,
        x: Value,
        (from, to): (Kind, Kind),
    ) -> Result<Value, CompileError> {
        match (from, to) {
            (Kind::Float, Kind::Int) => {
                // Towards zero: the floor of the positive part and the ceiling of the negative one.
                let positive = self.clip(&x, Some(0.0), None)?;
                let negative = self.clip(&x, None, Some(0.0))?;
                let floor = self.floor(&positive)?;
                let ceiling = self.ceiling(&negative)?;
                self.sum(&[Operand::Live(floor), Operand::Live(ceiling)], &[1, 1])
            }
            (Kind::Float | Kind::Int, Kind::Bool) => {
                let zero = self.compare(Comparison::Equal, &[Operand::Live(x), scalar(0.0)])?;
                self.sum(&[scalar(1.0), Operand::Live(zero)], &[1, -1])
            }
            _ => Ok(x),
        }
    }

    /// Drops the fractional bits after adding `offset` units in the last place.
    fn rounded(&mut self, x: &Value, offset: i64) -> Result<Value, CompileError> {
        let x = self.fit(x, WIDE)?;
        let Some(shift) = u8::try_from(x.exponent).ok().filter(|s| *s > 0) else { return Ok(x) };
        let moved = if offset == 0 {
            x.id
        } else {
            let half = self.push(
                Op::Constant { shape: Vec::new(), values: vec![offset] },
                &[],
                x.exponent,
            )?;
            self.push(Op::Sum { coefficients: vec![1, 1] }, &[x.id, half], x.exponent)?
        };
        let limit = (1i64 << 61) - 1;
        let id = self.push(Op::Requant(Requant::shift(shift, -limit, limit)), &[moved], 0)?;
        self.value(id, 0)
    }

    fn floor(&mut self, x: &Value) -> Result<Value, CompileError> {
        // Rounding half up after subtracting a half rounds down.
        let half =
            if x.exponent > 0 { 1i64 << (self.fit(x, WIDE)?.exponent.max(1) - 1) } else { 0 };
        self.rounded(x, -half)
    }

    fn ceiling(&mut self, x: &Value) -> Result<Value, CompileError> {
        let x = self.materialise(x.clone())?;
        let negative = self.negated(&x)?;
        let floor = self.floor(&negative)?;
        self.negated(&floor)
    }

    fn negated(&mut self, x: &Value) -> Result<Value, CompileError> {
        let x = self.materialise(x.clone())?;
        let id = self.push(Op::Sum { coefficients: vec![-1] }, &[x.id], x.exponent)?;
        Ok(Value { id, ..x })
    }

    fn absolute(&mut self, x: &Value) -> Result<Value, CompileError> {
        let x = self.materialise(x.clone())?;
        let negative = self.negated(&x)?;
        let id = self.push(Op::Extreme(Extremum::Max), &[x.id, negative.id], x.exponent)?;
        let magnitude = i64::try_from(self.magnitude(&x)?).unwrap_or(i64::MAX);
        Ok(Value { id, clamp: Some((0, magnitude)), ..x })
    }

    pub(super) fn unary(&mut self, op: Unary, x: Value, reach: f64) -> Result<Value, CompileError> {
        let live = |value: &Value| Operand::Live(value.clone());
        match op {
            Unary::Abs => self.absolute(&x),
            Unary::Neg => self.negated(&x),
            Unary::Sign => {
                let positive = self.compare(Comparison::Less, &[scalar(0.0), live(&x)])?;
                let negative = self.compare(Comparison::Less, &[live(&x), scalar(0.0)])?;
                self.sum(&[live(&positive), live(&negative)], &[1, -1])
            }
            Unary::Floor => self.floor(&x),
            Unary::Ceil => self.ceiling(&x),
            Unary::Round => self.round_to_even(&x),
            Unary::Not => self.sum(&[scalar(1.0), live(&x)], &[1, -1]),
            Unary::Reciprocal => self.quotient(&scalar(1.0), &live(&x), reach),
            Unary::Sqrt => self.function(Function::Sqrt, &x, reach),
            Unary::Exp => self.function(Function::Exp, &x, reach),
            Unary::Log => self.function(Function::Log, &x, reach),
            Unary::Sin => self.function(Function::Sin, &x, 1.0),
            Unary::Cos => self.function(Function::Cos, &x, 1.0),
            Unary::Tanh => self.function(Function::Tanh, &x, 1.0),
            Unary::Erf => self.function(Function::Erf, &x, 1.0),
            Unary::Sigmoid => self.function(Function::Sigmoid, &x, 1.0),
            Unary::Softplus => self.function(Function::Softplus, &x, reach),
            Unary::Gelu => self.function(Function::Gelu, &x, reach),
            Unary::Swish { alpha: 1.0 } => self.function(Function::Silu, &x, reach),
            Unary::Swish { alpha } => {
                let inner = self.scaled(x.clone(), alpha.into())?;
                let gate = self.function(Function::Sigmoid, &inner, 1.0)?;
                self.product(&live(&x), &live(&gate))
            }
            Unary::GeluTanh => {
                // (1 + tanh u) / 2 = sigmoid(2u), u = √(2/π)·(x + 0.044715·x³).
                let cube = self.power(&live(&x), &scalar(3.0), reach)?;
                let scaled = self.scaled(cube, 0.044_715)?;
                let sum = self.sum(&[live(&x), live(&scaled)], &[1, 1])?;
                let inner = self
                    .scaled(Value { reach: x.reach.max(16.0), ..sum }, 1.595_769_121_605_730_7)?;
                let gate = self.function(Function::Sigmoid, &inner, 1.0)?;
                self.product(&live(&x), &live(&gate))
            }
            Unary::HardSigmoid { alpha, beta } => self.hard_sigmoid(x, alpha.into(), beta.into()),
            Unary::HardSwish => {
                let gate = self.hard_sigmoid(x.clone(), 1.0 / 6.0, 0.5)?;
                self.product(&live(&x), &live(&gate))
            }
            Unary::LeakyRelu { alpha } => {
                let (positive, negative) = self.halves(&x)?;
                let scaled = self.scaled(negative, alpha.into())?;
                self.sum(&[live(&positive), live(&scaled)], &[1, 1])
            }
            Unary::Elu { alpha } => self.exponential_unit(&x, 1.0, alpha.into(), 1.0),
            Unary::Selu { alpha, gamma } => {
                self.exponential_unit(&x, gamma.into(), f64::from(alpha) * f64::from(gamma), 1.0)
            }
            Unary::Celu { alpha } => self.exponential_unit(&x, 1.0, alpha.into(), alpha.into()),
            Unary::Softsign => {
                let magnitude = self.absolute(&x)?;
                let divisor = self.offset(magnitude, 1.0)?;
                self.quotient(&live(&x), &live(&divisor), 1.0)
            }
            Unary::Mish => {
                let soft = self.function(Function::Softplus, &x, x.reach.max(1.0))?;
                let gate = self.function(Function::Tanh, &soft, 1.0)?;
                self.product(&live(&x), &live(&gate))
            }
            Unary::ThresholdedRelu { alpha } => {
                let above = self.compare(Comparison::Less, &[scalar(alpha.into()), live(&x)])?;
                self.select(&live(&above), &live(&x), &scalar(0.0))
            }
        }
    }

    /// `max(x, 0)` and `min(x, 0)`.
    fn halves(&mut self, x: &Value) -> Result<(Value, Value), CompileError> {
        let x = self.fit(x, WIDE)?;
        let (positive, negative) =
            (self.clip(&x, Some(0.0), None)?, self.clip(&x, None, Some(0.0))?);
        Ok((self.materialise(positive)?, self.materialise(negative)?))
    }

    fn hard_sigmoid(&mut self, x: Value, alpha: f64, beta: f64) -> Result<Value, CompileError> {
        let scaled = self.scaled(x, alpha)?;
        let moved = self.offset(scaled, beta)?;
        let value = self.clip(&moved, Some(0.0), Some(1.0))?;
        // Scaling can leave more digits than a factor has.
        Ok(Value { reach: 1.0, ..value })
    }

    /// `positive·max(x, 0) + negative·(e^(min(x, 0)/scale) - 1)`
    fn exponential_unit(
        &mut self,
        x: &Value,
        positive: f64,
        negative: f64,
        scale: f64,
    ) -> Result<Value, CompileError> {
        let (above, below) = self.halves(x)?;
        let above = self.scaled(above, positive)?;
        let below = self.scaled(below, 1.0 / scale)?;
        let exponential = self.function(Function::Exp, &below, 1.0)?;
        let less = self.offset(exponential, -1.0)?;
        let below = self.scaled(less, negative)?;
        self.sum(&[Operand::Live(above), Operand::Live(below)], &[1, 1])
    }

    fn round_to_even(&mut self, x: &Value) -> Result<Value, CompileError> {
        let x = self.fit(x, WIDE)?;
        if x.exponent <= 0 {
            return Ok(x);
        }
        let up = self.rounded(&x, 0)?;
        let negative = self.negated(&x)?;
        let down = self.rounded(&negative, 0)?;
        let down = self.negated(&down)?;
        // Where the two differ x lies half way: twice the nearest half is then the even neighbour.
        let half = self.push(Op::Sum { coefficients: vec![1] }, &[x.id], x.exponent + 1)?;
        let half = self.value(half, x.exponent + 1)?;
        let half = self.rounded(&half, 0)?;
        let even = self.push(Op::Sum { coefficients: vec![2] }, &[half.id], 0)?;
        let same = self.push(Op::Compare(Comparison::Equal), &[up.id, down.id], 0)?;
        let id = self.push(Op::Select, &[same, up.id, even], 0)?;
        self.value(id, 0)
    }
}
