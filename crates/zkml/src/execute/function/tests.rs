use super::{Function, eval, range};
use crate::qir::TensorType;

/// `erf` by its all-positive series.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..400 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

fn float(f: Function, x: f64) -> f64 {
    match f {
        Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Function::Tanh => x.tanh(),
        Function::Exp => x.exp(),
        Function::Erf => erf(x),
        Function::Log => x.ln(),
        Function::Sqrt => x.max(0.0).sqrt(),
        Function::ReciprocalSqrt => 1.0 / x.sqrt(),
        Function::Gelu => x * 0.5 * (1.0 + erf(x / 2f64.sqrt())),
        Function::Silu => x / (1.0 + (-x).exp()),
        Function::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Function::Sin => x.sin(),
        Function::Cos => x.cos(),
    }
}

fn positive(f: Function) -> bool {
    matches!(f, Function::Log | Function::ReciprocalSqrt)
}

fn monotone(f: Function) -> Option<bool> {
    match f {
        Function::Gelu | Function::Silu | Function::Sin | Function::Cos => None,
        f => Some(f != Function::ReciprocalSqrt),
    }
}

#[test]
fn all_16_bit_operands_are_within_one_unit_and_monotone() {
    for f in Function::ALL {
        for (from, to) in [(12, 14), (10, 24), (8, 10), (14, 12), (4, 8)] {
            let lo = if positive(f) { 1 } else { i64::from(i16::MIN) };
            let hi = if f == Function::Exp {
                i64::from(i16::MAX).min(12 << from)
            } else {
                i16::MAX.into()
            };
            let x = TensorType { shape: vec![1], lo, hi, exponent: from };
            let (least, most) = range(f, &x, to).unwrap();
            let mut before = None;
            let mut worst = 0f64;
            for v in lo..=hi {
                let y = eval(f, v, from, to);
                assert!(
                    (least..=most).contains(&i128::from(y)),
                    "{f:?}({v}) = {y} is outside {least}..={most}"
                );
                let exact = float(f, v as f64 / f64::from(from).exp2()) * f64::from(to).exp2();
                worst = worst.max((y as f64 - exact).abs());
                assert!(
                    (y as f64 - exact).abs() <= 0.5 + 1e-4 + exact.abs() * 1e-13,
                    "{f:?}({v}) = {y}, should be {exact}"
                );
                match (monotone(f), before) {
                    (Some(true), Some(b)) => assert!(b <= y, "{f:?} falls at {v}"),
                    (Some(false), Some(b)) => assert!(b >= y, "{f:?} rises at {v}"),
                    _ => (),
                }
                before = Some(y);
            }
        }
    }
}

#[test]
fn wide_operands_are_within_one_unit() {
    let mut state = 7u64;
    for f in Function::ALL {
        for (from, to) in [(30, 30), (40, 24), (24, 36), (20, 16), (0, 20), (-2, 10), (56, 30)] {
            let x = TensorType { shape: vec![1], lo: 1, hi: 1, exponent: from };
            if range(f, &x, to).is_err() {
                continue;
            }
            for i in 0..4000 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let v = (state.cast_signed() >> 2) >> (i % 60);
                let v = if positive(f) { v.abs().max(1) } else { v };
                let real = v as f64 / f64::from(from).exp2();
                if real.abs() > 1e4 && matches!(f, Function::Sin | Function::Cos) {
                    continue;
                }
                let exact =
                    (float(f, real) * f64::from(to).exp2()).clamp(-(2f64.powi(62)), 2f64.powi(62));
                let y = eval(f, v, from, to) as f64;
                assert!(
                    (y - exact).abs() <= 1.0 + exact.abs() * 2e-12 * real.abs().max(1.0),
                    "{f:?}({real}) = {y}, should be {exact} ({from}, {to})"
                );
            }
        }
    }
}

#[test]
fn extreme_operands_do_not_overflow() {
    for f in Function::ALL {
        for from in -62..=62 {
            for to in -62..=48 {
                for (lo, hi) in [(-(1i64 << 62) + 1, (1 << 62) - 1), (0, 0), (-1, 1)] {
                    let x = TensorType { shape: vec![1], lo, hi, exponent: from };
                    if let Ok((least, most)) = range(f, &x, to) {
                        for v in [lo, lo / 3, 0, hi / 7, hi] {
                            let y = i128::from(eval(f, v, from, to));
                            assert!(
                                (least..=most).contains(&y),
                                "{f:?}({v} e{from}) = {y} e{to}, outside {least}..={most}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn known_values() {
    assert_eq!(eval(Function::Sigmoid, 0, 10, 16), 1 << 15);
    assert_eq!(eval(Function::Exp, 0, 10, 20), 1 << 20);
    assert_eq!(eval(Function::Exp, 1 << 10, 10, 40), 2_988_782_477_963); // e · 2^40
    assert_eq!(eval(Function::Sqrt, 2 << 20, 20, 30), 1_518_500_250);
    assert_eq!(eval(Function::Log, 1 << 20, 20, 30), 0);
    assert_eq!(eval(Function::Sqrt, -5, 0, 10), 0);
    assert_eq!(eval(Function::Tanh, -(1 << 20), 10, 15), -(1 << 15));
}
