//! Element by element.

use std::sync::Arc;

use super::{Problem, Value, views};
use crate::onnx::{Binary, Data, Kind, Unary};

pub(super) fn binary(op: Binary, a: &Value, b: &Value, shape: &[usize]) -> Result<Data, Problem> {
    match (&a.data, &b.data) {
        (Data::Float(x), Data::Float(y)) => {
            let pairs = |f: &dyn Fn(f32, f32) -> f32| {
                Ok(Data::Float(zip(x, &a.shape, y, &b.shape, shape, f)?.into()))
            };
            let truth = |f: &dyn Fn(f32, f32) -> bool| {
                let f = |x, y| i64::from(f(x, y));
                Ok(Data::Int(zip(x, &a.shape, y, &b.shape, shape, f)?.into()))
            };
            match op {
                Binary::Add => pairs(&|x, y| x + y),
                Binary::Sub => pairs(&|x, y| x - y),
                Binary::Mul => pairs(&|x, y| x * y),
                Binary::Div => pairs(&|x, y| x / y),
                Binary::Pow => pairs(&power),
                Binary::Mod => pairs(&|x, y| x - (x / y).floor() * y),
                Binary::Fmod => pairs(&|x, y| x % y),
                Binary::Max => pairs(&f32::max),
                Binary::Min => pairs(&f32::min),
                Binary::Equal => truth(&|x, y| x == y),
                Binary::Less => truth(&|x, y| x < y),
                Binary::LessOrEqual => truth(&|x, y| x <= y),
                Binary::Greater => truth(&|x, y| x > y),
                Binary::GreaterOrEqual => truth(&|x, y| x >= y),
                Binary::And | Binary::Or | Binary::Xor => Err(Problem::Kind),
            }
        }
        (Data::Int(x), Data::Int(y)) => {
            let f = |x: i64, y: i64| integer(op, x, y);
            let values: Vec<Option<i64>> = zip(x, &a.shape, y, &b.shape, shape, f)?;
            let values: Option<Arc<[i64]>> = values.into_iter().collect();
            values.map(Data::Int).ok_or(Problem::Arithmetic)
        }
        _ => Err(Problem::Kind),
    }
}

fn power(x: f32, y: f32) -> f32 {
    if y == 2.0 { x * x } else { narrow(f64::from(x).powf(f64::from(y))) }
}

fn integer(op: Binary, x: i64, y: i64) -> Option<i64> {
    match op {
        Binary::Add => x.checked_add(y),
        Binary::Sub => x.checked_sub(y),
        Binary::Mul => x.checked_mul(y),
        Binary::Div => x.checked_div(y),
        Binary::Pow => x.checked_pow(u32::try_from(y).ok()?),
        Binary::Mod => {
            let rest = x.checked_rem(y)?;
            if rest != 0 && (rest < 0) != (y < 0) { rest.checked_add(y) } else { Some(rest) }
        }
        Binary::Fmod => x.checked_rem(y),
        Binary::Max => Some(x.max(y)),
        Binary::Min => Some(x.min(y)),
        Binary::Equal => Some(i64::from(x == y)),
        Binary::Less => Some(i64::from(x < y)),
        Binary::LessOrEqual => Some(i64::from(x <= y)),
        Binary::Greater => Some(i64::from(x > y)),
        Binary::GreaterOrEqual => Some(i64::from(x >= y)),
        Binary::And => Some(x & y),
        Binary::Or => Some(x | y),
        Binary::Xor => Some(x ^ y),
    }
}

fn zip<T: Copy + Default, U>(
    x: &[T],
    x_shape: &[usize],
    y: &[T],
    y_shape: &[usize],
    shape: &[usize],
    f: impl Fn(T, T) -> U,
) -> Result<Vec<U>, Problem> {
    if x_shape == shape && y_shape == shape {
        return Ok(x.iter().zip(y).map(|(&x, &y)| f(x, y)).collect());
    }
    if let ([y], true) = (y, x_shape == shape) {
        return Ok(x.iter().map(|&x| f(x, *y)).collect());
    }
    if let ([x], true) = (x, y_shape == shape) {
        return Ok(y.iter().map(|&y| f(*x, y)).collect());
    }
    let x = views::broadcast(x, x_shape, shape)?;
    let y = views::broadcast(y, y_shape, shape)?;
    Ok(x.into_iter().zip(y).map(|(x, y)| f(x, y)).collect())
}

pub(super) fn select(
    condition: &Value,
    a: &Value,
    b: &Value,
    shape: &[usize],
) -> Result<Data, Problem> {
    fn pick<T: Copy>(condition: &[i64], a: Vec<T>, b: Vec<T>) -> Vec<T> {
        let pairs = a.into_iter().zip(b);
        condition.iter().zip(pairs).map(|(&c, (a, b))| if c != 0 { a } else { b }).collect()
    }
    let flags = condition.data.ints().ok_or(Problem::Kind)?;
    let flags = views::broadcast(flags, &condition.shape, shape)?;
    match (&a.data, &b.data) {
        (Data::Float(x), Data::Float(y)) => {
            let x = views::broadcast(x, &a.shape, shape)?;
            let y = views::broadcast(y, &b.shape, shape)?;
            Ok(Data::Float(pick(&flags, x, y).into()))
        }
        (Data::Int(x), Data::Int(y)) => {
            let x = views::broadcast(x, &a.shape, shape)?;
            let y = views::broadcast(y, &b.shape, shape)?;
            Ok(Data::Int(pick(&flags, x, y).into()))
        }
        _ => Err(Problem::Kind),
    }
}

pub(super) fn clip(min: Option<f32>, max: Option<f32>, x: &Value) -> Data {
    match &x.data {
        Data::Float(values) => Data::Float(
            values
                .iter()
                .map(|&v| {
                    let v = min.map_or(v, |min| v.max(min));
                    max.map_or(v, |max| v.min(max))
                })
                .collect(),
        ),
        #[allow(clippy::cast_possible_truncation, reason = "saturating; the importer checks")]
        Data::Int(values) => Data::Int(
            values
                .iter()
                .map(|&v| {
                    let v = min.map_or(v, |min| v.max(min as i64));
                    max.map_or(v, |max| v.min(max as i64))
                })
                .collect(),
        ),
    }
}

pub(super) fn convert(x: &Value, kind: Kind) -> Data {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "truncation and rounding are what is meant; out of range saturates"
    )]
    match (&x.data, kind) {
        (Data::Float(_), Kind::Float) | (Data::Int(_), Kind::Int) => x.data.clone(),
        (Data::Int(values), Kind::Float) => Data::Float(values.iter().map(|&v| v as f32).collect()),
        (Data::Float(values), Kind::Int) => {
            Data::Int(values.iter().map(|&v| v.trunc() as i64).collect())
        }
        (Data::Float(values), Kind::Bool) => {
            Data::Int(values.iter().map(|&v| i64::from(v != 0.0)).collect())
        }
        (Data::Int(values), Kind::Bool) => {
            Data::Int(values.iter().map(|&v| i64::from(v != 0)).collect())
        }
    }
}

pub(super) fn apply(function: Unary, x: &Value) -> Result<Data, Problem> {
    match &x.data {
        Data::Float(values) => {
            Ok(Data::Float(values.iter().map(|&v| narrow(unary(function, f64::from(v)))).collect()))
        }
        Data::Int(values) => {
            let f = |&v: &i64| match function {
                Unary::Abs => v.checked_abs(),
                Unary::Neg => v.checked_neg(),
                Unary::Sign => Some(v.signum()),
                Unary::Not if x.kind == Kind::Bool => Some(v ^ 1),
                Unary::Floor | Unary::Ceil | Unary::Round => Some(v),
                _ => None,
            };
            let values: Option<Arc<[i64]>> = values.iter().map(f).collect();
            values.map(Data::Int).ok_or(Problem::Kind)
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is what is meant")]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// A function of one number, in double precision.
#[must_use]
pub fn unary(function: Unary, x: f64) -> f64 {
    match function {
        Unary::Abs => x.abs(),
        Unary::Neg => -x,
        Unary::Sign => {
            if x == 0.0 {
                0.0
            } else {
                x.signum()
            }
        }
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round_ties_even(),
        Unary::Not => f64::from(x == 0.0),
        Unary::Reciprocal => x.recip(),
        Unary::Sqrt => x.sqrt(),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tanh => x.tanh(),
        Unary::Erf => erf(x),
        Unary::Sigmoid => sigmoid(x),
        Unary::Swish { alpha } => x * sigmoid(f64::from(alpha) * x),
        Unary::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Unary::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Unary::HardSigmoid { alpha, beta } => {
            (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0)
        }
        Unary::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Unary::LeakyRelu { alpha } => {
            if x < 0.0 {
                f64::from(alpha) * x
            } else {
                x
            }
        }
        Unary::Elu { alpha } => elu(x, f64::from(alpha)),
        Unary::Selu { alpha, gamma } => f64::from(gamma) * elu(x, f64::from(alpha)),
        Unary::Celu { alpha } => {
            let alpha = f64::from(alpha);
            x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0)
        }
        Unary::Softplus => softplus(x),
        Unary::Softsign => x / (1.0 + x.abs()),
        Unary::Mish => x * softplus(x).tanh(),
        Unary::ThresholdedRelu { alpha } => {
            if x > f64::from(alpha) {
                x
            } else {
                0.0
            }
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    (1.0 + (-x).exp()).recip()
}

fn elu(x: f64, alpha: f64) -> f64 {
    if x < 0.0 { alpha * x.exp_m1() } else { x }
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `erf(x) = 2/√π · e^(−x²) · Σ 2ⁿ·x^(2n+1) / (2n+1)!!`: all terms of one sign, so nothing cancels.
fn erf(x: f64) -> f64 {
    if x.abs() >= 6.0 || x.is_nan() {
        return if x.is_nan() { x } else { x.signum() };
    }
    let mut term = x;
    let mut sum = x;
    let mut odd = 1.0;
    while term.abs() > sum.abs() * 1e-17 {
        odd += 2.0;
        term *= 2.0 * x * x / odd;
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_is_right() {
        for (x, y) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_813_046_5),
            (-1.0, -0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.5, 0.999_999_256_901_627_7),
        ] {
            assert!((erf(x) - y).abs() < 1e-14, "{x}: {}", erf(x));
        }
        assert_eq!(erf(7.0), 1.0);
    }
}
