//! Operators on each element: arithmetic, comparison, activations.

use super::super::builder::Builder;
use super::super::error::Reason;
use super::super::graph::{Binary, Data, Kind, Op, TensorId, Unary};
use super::{Call, kind_of};
use crate::onnx::builder::broadcast;

pub(super) fn lower(b: &mut Builder, call: &Call<'_>) -> Result<Option<TensorId>, Reason> {
    let binary = match call.operator() {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Pow" => return pow(b, call).map(Some),
        "Mod" if call.flag("fmod", false)? => Binary::Fmod,
        "Mod" => Binary::Mod,
        "Equal" => Binary::Equal,
        "Less" => Binary::Less,
        "LessOrEqual" => Binary::LessOrEqual,
        "Greater" => Binary::Greater,
        "GreaterOrEqual" => Binary::GreaterOrEqual,
        "And" => Binary::And,
        "Or" => Binary::Or,
        "Xor" => Binary::Xor,
        "Max" => return fold(b, call, Binary::Max).map(Some),
        "Min" => return fold(b, call, Binary::Min).map(Some),
        "Sum" => return fold(b, call, Binary::Add).map(Some),
        "Mean" => {
            let sum = fold(b, call, Binary::Add)?;
            #[allow(clippy::cast_precision_loss, reason = "a few inputs")]
            let count = b.scalar(call.inputs.len() as f32);
            return b.binary(Binary::Div, sum, count).map(Some);
        }
        _ => return unary(b, call),
    };
    b.binary(binary, call.input(0)?, call.input(1)?).map(Some)
}

fn fold(b: &mut Builder, call: &Call<'_>, op: Binary) -> Result<TensorId, Reason> {
    let inputs = call.all_inputs()?;
    let (&first, rest) = inputs.split_first().ok_or(Reason::Missing(0))?;
    rest.iter().try_fold(first, |result, &next| match op {
        Binary::Max | Binary::Min => extreme(b, op, result, next),
        _ => b.binary(op, result, next),
    })
}

/// The greater or lesser of a tensor and one constant number is a clamp; of an infinity, often nothing at all.
fn extreme(b: &mut Builder, op: Binary, x: TensorId, y: TensorId) -> Result<TensorId, Reason> {
    for (x, bound) in [(x, y), (y, x)] {
        let number = b.value(bound).and_then(|value| match value.data.floats() {
            Some(&[number]) if !number.is_nan() => Some(number),
            _ => None,
        });
        let shape = b.shape(x);
        if let Some(number) = number
            && b.value(x).is_none()
            && b.kind(x) == Kind::Float
            && broadcast(&shape, &b.shape(bound))? == shape
        {
            let (min, max) =
                if op == Binary::Max { (Some(number), None) } else { (None, Some(number)) };
            return clamp(b, x, min, max);
        }
    }
    b.binary(op, x, y)
}

/// The exponent may be of another type than the base.
fn pow(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let (base, exponent) = (call.input(0)?, call.input(1)?);
    match (b.kind(base), b.kind(exponent)) {
        (Kind::Float, Kind::Int) => {
            let exponent = b.convert(exponent, Kind::Float)?;
            b.binary(Binary::Pow, base, exponent)
        }
        (Kind::Int, Kind::Float) => {
            let base = b.convert(base, Kind::Float)?;
            let power = b.binary(Binary::Pow, base, exponent)?;
            b.convert(power, Kind::Int)
        }
        _ => b.binary(Binary::Pow, base, exponent),
    }
}

fn unary(b: &mut Builder, call: &Call<'_>) -> Result<Option<TensorId>, Reason> {
    let function = match call.operator() {
        "Abs" => Unary::Abs,
        "Neg" => Unary::Neg,
        "Sign" => Unary::Sign,
        "Floor" => Unary::Floor,
        "Ceil" => Unary::Ceil,
        "Round" => Unary::Round,
        "Not" => Unary::Not,
        "Reciprocal" => Unary::Reciprocal,
        "Sqrt" => Unary::Sqrt,
        "Exp" => Unary::Exp,
        "Log" => Unary::Log,
        "Sin" => Unary::Sin,
        "Cos" => Unary::Cos,
        "Tanh" => Unary::Tanh,
        "Erf" => Unary::Erf,
        "Sigmoid" => Unary::Sigmoid,
        "Swish" => Unary::Swish { alpha: call.float("alpha", 1.0)? },
        "Gelu" => match call.text("approximate", "none")? {
            "none" => Unary::Gelu,
            "tanh" => Unary::GeluTanh,
            _ => return Err(Reason::attribute("approximate")),
        },
        "HardSigmoid" => {
            Unary::HardSigmoid { alpha: call.float("alpha", 0.2)?, beta: call.float("beta", 0.5)? }
        }
        "HardSwish" => Unary::HardSwish,
        "LeakyRelu" => Unary::LeakyRelu { alpha: call.float("alpha", 0.01)? },
        "Elu" => Unary::Elu { alpha: call.float("alpha", 1.0)? },
        "Selu" => Unary::Selu {
            alpha: call.float("alpha", 1.673_263_2)?,
            gamma: call.float("gamma", 1.050_701)?,
        },
        "Celu" => {
            let alpha = call.float("alpha", 1.0)?;
            if alpha == 0.0 {
                return Err(Reason::attribute("alpha"));
            }
            Unary::Celu { alpha }
        }
        "Softplus" => Unary::Softplus,
        "Softsign" => Unary::Softsign,
        "Mish" => Unary::Mish,
        "ThresholdedRelu" => Unary::ThresholdedRelu { alpha: call.float("alpha", 1.0)? },
        "Relu" => return clamp(b, call.input(0)?, Some(0.0), None).map(Some),
        "Clip" => return clip(b, call).map(Some),
        "PRelu" => return prelu(b, call).map(Some),
        "Where" => return select(b, call).map(Some),
        "Cast" => {
            call.ignore(&["saturate", "round_mode"]);
            let to = call.attribute("to", 2)?.ok_or_else(|| Reason::attribute("to"))?.int;
            return cast(b, call.input(0)?, to).map(Some);
        }
        "CastLike" => {
            call.ignore(&["saturate", "round_mode"]);
            let kind = b.kind(call.input(1)?);
            return b.convert(call.input(0)?, kind).map(Some);
        }
        _ => return Ok(None),
    };
    let x = call.input(0)?;
    b.unary(function, x).map(Some)
}

/// Narrow types wrap or round; we only take what does not.
fn cast(b: &mut Builder, x: TensorId, to: i64) -> Result<TensorId, Reason> {
    let kind = kind_of(to)?;
    let id = b.convert(x, kind)?;
    let range = match to {
        2 => 0..=255,
        3 => -128..=127,
        4 => 0..=65_535,
        5 => -32_768..=32_767,
        6 => i64::from(i32::MIN)..=i64::from(i32::MAX),
        12 => 0..=i64::from(u32::MAX),
        _ => return Ok(id),
    };
    // A constant that would wrap is seen here; a live value is the model's own business, as it is undefined there too.
    match b.value(id).as_ref().and_then(|value| value.data.ints()) {
        Some(values) if values.iter().any(|value| !range.contains(value)) => {
            Err(Reason::form("a cast that overflows"))
        }
        _ => Ok(id),
    }
}

fn clamp(
    b: &mut Builder,
    x: TensorId,
    min: Option<f32>,
    max: Option<f32>,
) -> Result<TensorId, Reason> {
    let kind = b.kind(x);
    if kind == Kind::Bool {
        return Err(Reason::Kind(b.name(x)));
    }
    let (min, max) = (min.filter(|v| *v > f32::MIN), max.filter(|v| *v < f32::MAX));
    if min.is_none() && max.is_none() {
        return Ok(x);
    }
    let shape = b.shape(x);
    b.emit(Op::Clip { min, max }, &[x], kind, shape)
}

fn clip(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let x = call.input(0)?;
    let bound = |b: &Builder, index: usize| -> Result<Option<f32>, Reason> {
        let Some(id) = call.optional(index) else { return Ok(None) };
        let value = b.value(id).ok_or_else(|| Reason::NotConstant(b.name(id)))?;
        match value.data {
            Data::Float(values) => match *values {
                [v] if !v.is_nan() => Ok(Some(v)),
                _ => Err(Reason::shape("a bound must be one number")),
            },
            Data::Int(values) => match *values {
                // Exact as f32, or so large that it bounds nothing of such a width.
                #[allow(clippy::cast_precision_loss, reason = "checked")]
                [v] if v.unsigned_abs() < 1 << 24 => Ok(Some(v as f32)),
                [v] if v.unsigned_abs() > i32::MAX.unsigned_abs().into() => Ok(None),
                _ => Err(Reason::form("a bound of this size")),
            },
        }
    };
    let (min, max) = (bound(b, 1)?, bound(b, 2)?);
    clamp(b, x, min, max)
}

/// `max(x, 0) + slope·min(x, 0)`
fn prelu(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let (x, slope) = (call.input(0)?, call.input(1)?);
    if broadcast(&b.shape(x), &b.shape(slope))? != b.shape(x) {
        return Err(Reason::shape("the slope does not broadcast to the input"));
    }
    b.expect_kind(x, Kind::Float)?;
    if let Some([alpha]) = b.value(slope).as_ref().and_then(|value| value.data.floats()) {
        return b.unary(Unary::LeakyRelu { alpha: *alpha }, x);
    }
    let above = clamp(b, x, Some(0.0), None)?;
    let below = clamp(b, x, None, Some(0.0))?;
    let scaled = b.binary(Binary::Mul, below, slope)?;
    b.binary(Binary::Add, above, scaled)
}

fn select(b: &mut Builder, call: &Call<'_>) -> Result<TensorId, Reason> {
    let (condition, x, y) = (call.input(0)?, call.input(1)?, call.input(2)?);
    b.expect_kind(condition, Kind::Bool)?;
    let kind = b.kind(x);
    b.expect_kind(y, kind)?;
    let shape = broadcast(&b.shape(x), &b.shape(y))?;
    let shape = broadcast(&b.shape(condition), &shape)?;
    b.emit(Op::Where, &[condition, x, y], kind, shape)
}
