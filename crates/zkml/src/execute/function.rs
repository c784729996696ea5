//! Real functions as exact integer algorithms.
//!
//! An operand `v` with exponent `e` means `x = v · 2^-e`; a result `y` with exponent `t` means `y · 2^-t`. Inside, numbers below 2 are held in 62
//! fractional bits and products in `i128`, so that a result of up to 40 fractional bits is within one unit of its last place. No table depends on
//! the program, and every step is stated here: two implementations of these lines give the same integers.
//!
//! Argument reduction is by powers of two for the exponential and the logarithm (Muller, *Elementary Functions*, 3rd ed., ch. 11), by a grid of
//! eighths and the Taylor series of the Gaussian for the error function, by quarter turns for sine and cosine.

use crate::qir::{Function, TensorType};

/// One in 62 fractional bits.
const ONE: i64 = 1 << 62;
/// `ln 2`.
const LN_2: i64 = 3_196_577_161_300_663_915;
/// `log2 e`, which lies between 1 and 2.
const LOG2_E: i64 = 6_653_256_548_922_161_246;
/// `2 / √π`.
const TWO_OVER_ROOT_PI: i64 = 5_203_730_428_379_116_615;
/// `1 / √2`.
const INVERSE_ROOT_2: i64 = 3_260_954_456_333_195_553;
/// `1 / 2π`.
const INVERSE_TURN: i64 = 733_972_625_820_500_307;
/// `π / 2`.
const QUARTER_TURN: i64 = 7_244_019_458_077_122_842;
/// `1 / n!`.
const INVERSE_FACTORIAL: [i64; 20] = [
    4_611_686_018_427_387_904,
    4_611_686_018_427_387_904,
    2_305_843_009_213_693_952,
    768_614_336_404_564_651,
    192_153_584_101_141_163,
    38_430_716_820_228_233,
    6_405_119_470_038_039,
    915_017_067_148_291,
    114_377_133_393_536,
    12_708_570_377_060,
    1_270_857_037_706,
    115_532_457_973,
    9_627_704_831,
    740_592_679,
    52_899_477,
    3_526_632,
    220_414,
    12_966,
    720,
    38,
];
/// `erf(i / 8)`; 1 from there on.
const ERF: [i64; 52] = [
    0,
    647_094_279_841_105_082,
    1_274_330_550_061_369_488,
    1_863_660_301_050_656_954,
    2_400_382_009_103_590_488,
    2_874_191_262_500_678_019,
    3_279_626_492_645_785_305,
    3_615_907_996_487_355_244,
    3_886_271_464_563_873_166,
    4_096_967_587_074_196_427,
    4_256_125_617_885_151_490,
    4_372_662_667_740_444_721,
    4_455_373_596_330_934_116,
    4_512_275_284_400_729_521,
    4_550_219_950_939_888_227,
    4_574_746_679_376_270_475,
    4_590_113_773_417_383_526,
    4_599_446_468_337_767_394,
    4_604_940_428_795_668_604,
    4_608_075_353_194_646_974,
    4_609_809_283_498_366_168,
    4_610_738_890_016_501_219,
    4_611_221_981_716_001_485,
    4_611_465_326_932_027_461,
    4_611_584_143_991_239_415,
    4_611_640_377_794_688_573,
    4_611_666_175_359_494_897,
    4_611_677_646_919_409_466,
    4_611_682_591_491_013_861,
    4_611_684_657_333_488_622,
    4_611_685_493_952_988_867,
    4_611_685_822_366_426_391,
    4_611_685_947_327_835_203,
    4_611_685_993_416_366_264,
    4_611_686_009_893_121_029,
    4_611_686_015_602_807_254,
    4_611_686_017_520_656_442,
    4_611_686_018_145_078_448,
    4_611_686_018_342_140_668,
    4_611_686_018_402_422_973,
    4_611_686_018_420_297_622,
    4_611_686_018_425_435_056,
    4_611_686_018_426_866_308,
    4_611_686_018_427_252_805,
    4_611_686_018_427_353_972,
    4_611_686_018_427_379_640,
    4_611_686_018_427_385_952,
    4_611_686_018_427_387_457,
    4_611_686_018_427_387_805,
    4_611_686_018_427_387_883,
    4_611_686_018_427_387_900,
    4_611_686_018_427_387_903,
];
/// The largest exponent of a result.
const MAX_RESULT_EXPONENT: i8 = 48;

/// The range of a function's result over the operand's range; fails when the exponents do not suit the function.
pub(crate) fn range(f: Function, x: &TensorType, to: i8) -> Result<(i128, i128), String> {
    if !(-62..=MAX_RESULT_EXPONENT).contains(&to) || !(-62..=62).contains(&x.exponent) {
        return Err(format!("exponents {} and {to}", x.exponent));
    }
    match f {
        Function::Sqrt if !(0..=64).contains(&(2 * i16::from(to) - i16::from(x.exponent))) => {
            return Err(format!(
                "exponents {} and {to}: twice the second less the first must lie in 0..=64",
                x.exponent
            ));
        }
        Function::ReciprocalSqrt
            if !(0..=120).contains(&(2 * i16::from(to) + i16::from(x.exponent))) =>
        {
            return Err(format!(
                "exponents {} and {to}: twice the second plus the first must lie in 0..=120",
                x.exponent
            ));
        }
        _ => (),
    }
    let one = rescale(ONE.into(), 62, to);
    let (a, b) = (eval(f, x.lo, x.exponent, to), eval(f, x.hi, x.exponent, to));
    let (mut lo, mut hi) = (i128::from(a.min(b)), i128::from(a.max(b)));
    match f {
        // The least values are -0.16997 and -0.27847.
        Function::Gelu if x.lo < 0 => lo = lo.min(-(one * 17 / 100) - 1),
        Function::Silu if x.lo < 0 => lo = lo.min(-(one * 28 / 100) - 1),
        Function::Sin | Function::Cos => (lo, hi) = (-one, one),
        Function::Sigmoid | Function::Tanh | Function::Erf => (),
        // Near a limit of precision neighbours may differ by a unit in the wrong direction.
        _ => (lo, hi) = (lo - 1, hi + 1),
    }
    if matches!(f, Function::Exp | Function::Sqrt | Function::ReciprocalSqrt | Function::Softplus) {
        lo = lo.max(0);
    }
    Ok((lo, hi))
}

/// One value of a function: operand `v` with exponent `from`, result with exponent `to`. Saturates at ±2^62.
#[must_use]
pub fn eval(f: Function, v: i64, from: i8, to: i8) -> i64 {
    let y = match f {
        Function::Sigmoid => rescale(sigmoid(v, from).into(), 62, to),
        Function::Tanh => signed(v, rescale(tanh_magnitude(v, from).into(), 62, to)),
        Function::Exp => {
            let (m, k) = exp_parts(v.into(), from);
            if k > 124 { i128::MAX } else { rescale_wide(m.into(), 62 - k, to) }
        }
        Function::Erf => {
            signed(v, rescale(erf_magnitude(v.unsigned_abs().into(), from).into(), 62, to))
        }
        Function::Log => rescale(log(v.max(1), from), 62, to),
        Function::Sqrt => {
            let n =
                u128::from(v.max(0).unsigned_abs()) << shift(2 * i32::from(to) - i32::from(from));
            round_sqrt(n)
        }
        Function::ReciprocalSqrt => {
            let v = u128::from(v.max(1).unsigned_abs());
            // The root of four times the number, halved: rounds half up.
            let root = ((4u128 << shift(2 * i32::from(to) + i32::from(from))) / v).isqrt();
            i128::try_from(root.div_ceil(2)).unwrap_or(i128::MAX)
        }
        Function::Gelu => gelu(v, from, to),
        Function::Silu => product(v, sigmoid(v, from), from, to),
        Function::Softplus => {
            let e = exp_negative(v, from);
            let whole = rescale_wide(v.max(0).into(), from.into(), 62);
            // Far from zero the tail is nothing, and the whole does not fit 62 fractional bits.
            if e == 0 {
                rescale_wide(v.max(0).into(), from.into(), to)
            } else {
                rescale(whole + log_of_mantissa(i128::from(ONE) + i128::from(e)), 62, to)
            }
        }
        Function::Sin => rescale(sine(v, from, 0).into(), 62, to),
        Function::Cos => rescale(sine(v, from, 1).into(), 62, to),
    };
    crate::qir::clamp(y, -ONE, ONE)
}

fn shift(by: i32) -> u32 {
    by.clamp(0, 126).unsigned_abs()
}

/// `value · 2^(to - from)`, rounded half up. For `i8` exponents.
fn rescale(value: i128, from: i8, to: i8) -> i128 {
    rescale_wide(value, from.into(), to)
}

/// `value · 2^(to - from)`, rounded half up and saturated at `i128`.
fn rescale_wide(value: i128, from: i32, to: i8) -> i128 {
    let by = from - i32::from(to);
    match by {
        ..=0 => {
            let by = by.unsigned_abs();
            if value.unsigned_abs().leading_zeros() > by + 1 || value == 0 {
                value << by.min(127)
            } else if value > 0 {
                i128::MAX
            } else {
                i128::MIN
            }
        }
        1..=126 => {
            let half = 1i128 << (by - 1);
            value.saturating_add(half) >> by
        }
        _ => 0,
    }
}

fn signed(sign: i64, magnitude: i128) -> i128 {
    if sign < 0 { -magnitude } else { magnitude }
}

/// The product of two numbers of 62 fractional bits, rounded down.
fn mul(a: i64, b: i64) -> i64 {
    narrow((i128::from(a) * i128::from(b)) >> 62)
}

/// A number known to fit.
fn narrow(x: i128) -> i64 {
    debug_assert!(i64::try_from(x).is_ok(), "{x} does not fit");
    crate::qir::clamp(x, i64::MIN, i64::MAX)
}

/// `e^x = m · 2^k` with `m` near 1, in 62 fractional bits.
fn exp_parts(v: i128, from: i8) -> (i64, i32) {
    // x · log2 e = k + f with |f| ≤ 1/2; 62 + from fractional bits.
    let v = crate::qir::clamp(v, -ONE, ONE);
    let t = i128::from(v) * i128::from(LOG2_E);
    let bits = (62 + i32::from(from)).clamp(0, 124);
    let k = rescale_wide(t, bits, 0);
    let f = t - (k << bits);
    let f = if from >= 0 { f >> from.min(62) } else { f << (-from).min(62) };
    let r = mul(narrow(f), LN_2);
    let mut m = 0;
    for &c in INVERSE_FACTORIAL[..17].iter().rev() {
        m = mul(m, r) + c;
    }
    let k = i32::try_from(k.clamp(-1000, 1000)).unwrap_or(0);
    (m, k)
}

/// `e^-|x|` in 62 fractional bits.
fn exp_negative(v: i64, from: i8) -> i64 {
    let (m, k) = exp_parts(-i128::from(v.unsigned_abs()), from);
    if k < -62 { 0 } else { narrow(i128::from(m) >> (-k).max(0)).min(ONE) }
}

/// In 62 fractional bits.
fn sigmoid(v: i64, from: i8) -> i64 {
    let e = exp_negative(v, from);
    let upper = narrow((i128::from(ONE) << 62) / (i128::from(ONE) + i128::from(e)));
    if v < 0 { ONE - upper } else { upper }
}

/// `tanh |x|` in 62 fractional bits.
fn tanh_magnitude(v: i64, from: i8) -> i64 {
    let (m, k) = exp_parts(-2 * i128::from(v.unsigned_abs()), from);
    let e = if k < -62 { 0 } else { i128::from(m) >> (-k).max(0) };
    narrow(((i128::from(ONE) - e).max(0) << 62) / (i128::from(ONE) + e))
}

/// `erf x` for `x ≥ 0` in 62 fractional bits: the value at the nearest eighth `c`, plus `2/√π · e^(-c²) · ∫_0^h e^(-2cs - s²) ds`.
fn erf_magnitude(v: u128, from: i8) -> i64 {
    let x = rescale_wide(i128::try_from(v).unwrap_or(i128::MAX), from.into(), 62);
    let i = if x >> 66 > 0 { i128::from(u8::MAX) } else { (x + (1 << 58)) >> 59 };
    let Some(&base) = usize::try_from(i).ok().and_then(|i| ERF.get(i)) else { return ONE };
    let h = narrow(x - (i << 59));
    // Terms of the integrand: b_0 = 1, b_{n+1} = (-2ch·b_n - 2h²·b_{n-1}) / (n+1), with |2ch| < 7/8.
    let ch2 = narrow((i128::from(h) * i) >> 2);
    let hh2 = 2 * mul(h, h);
    let (mut before, mut term, mut sum) = (0i64, ONE, ONE);
    for n in 1..20 {
        let next = narrow(
            (-(i128::from(ch2) * i128::from(term)) - i128::from(hh2) * i128::from(before)) >> 62,
        ) / n;
        (before, term) = (term, next);
        sum += term / (n + 1);
    }
    let (m, k) = exp_parts(-i * i, 6);
    let gauss = narrow(i128::from(m) >> (-k).clamp(0, 126));
    (base + mul(mul(TWO_OVER_ROOT_PI, gauss), mul(h, sum))).clamp(0, ONE)
}

/// `x · Φ(x)`, `Φ` from the error function.
fn gelu(v: i64, from: i8, to: i8) -> i128 {
    let u = (i128::from(v.unsigned_abs()) * i128::from(INVERSE_ROOT_2)).unsigned_abs();
    // 62 more fractional bits; 58 of them at most are kept.
    let bits = (62 + i32::from(from)).clamp(0, 124);
    let (u, bits) = if bits > 58 { (u >> (bits - 58), 58) } else { (u, bits) };
    let e = erf_magnitude(u, i8::try_from(bits).unwrap_or(58));
    let phi = if v < 0 { (ONE - e) / 2 } else { ONE / 2 + e / 2 };
    product(v, phi, from, to)
}

/// `x · factor`, the factor in 62 fractional bits.
fn product(v: i64, factor: i64, from: i8, to: i8) -> i128 {
    rescale_wide(i128::from(v) * i128::from(factor), 62 + i32::from(from), to)
}

/// `ln x` in 62 fractional bits, for a positive operand.
fn log(v: i64, from: i8) -> i128 {
    let k = 63 - v.leading_zeros();
    let mantissa = i128::from(v) << (62 - k.min(62));
    i128::from(LN_2) * (i128::from(k) - i128::from(from)) + log_of_mantissa(mantissa)
}

/// `ln m` for `1 ≤ m ≤ 2`, both in 62 fractional bits: `2 artanh((m-1)/(m+1))`, after halving a mantissa above `√2`.
fn log_of_mantissa(m: i128) -> i128 {
    let one = i128::from(ONE);
    let (numerator, denominator, whole) = if m > 6_521_908_912_666_391_106 {
        (m - 2 * one, m + 2 * one, i128::from(LN_2))
    } else {
        (m - one, m + one, 0)
    };
    let s = narrow((numerator << 62) / denominator);
    let ss = mul(s, s);
    let mut sum = 0;
    for n in (0..13).rev() {
        sum = mul(sum, ss) + ONE / (2 * n + 1);
    }
    whole + 2 * i128::from(mul(s, sum))
}

/// The square root rounded to the nearest integer.
fn round_sqrt(n: u128) -> i128 {
    let root = n.isqrt();
    let up = n - root * root > root;
    i128::try_from(root + u128::from(up)).unwrap_or(i128::MAX)
}

/// Sine of `x + quarters · π/2` in 62 fractional bits.
fn sine(v: i64, from: i8, quarters: i128) -> i64 {
    // Turns, with 62 + from fractional bits; whole turns do not matter.
    let turns = i128::from(v) * i128::from(INVERSE_TURN);
    let bits = (62 + i32::from(from)).clamp(0, 124);
    let part = turns & ((1i128 << bits) - 1);
    let part = rescale_wide(part, bits, 60) * 4;
    // part: quarter turns are units of 2^60 · 4 / 4 = 2^60.
    let quarter = (part + (1 << 59)) >> 60;
    let angle = narrow(part - (quarter << 60)) * 4;
    let r = narrow((i128::from(angle) * i128::from(QUARTER_TURN)) >> 62);
    let rr = mul(r, r);
    let series = |first: usize| {
        let mut sum = 0;
        for n in (first..20).step_by(2).collect::<Vec<_>>().into_iter().rev() {
            sum = INVERSE_FACTORIAL[n] - mul(sum, rr);
        }
        sum
    };
    let value = match (quarter + quarters) & 1 {
        0 => mul(r, series(1)),
        _ => series(0),
    };
    if (quarter + quarters) & 2 == 0 { value } else { -value }
}

#[cfg(test)]
mod tests;
