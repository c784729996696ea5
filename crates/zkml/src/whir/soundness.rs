//! Bound from above, in integers, the ways to cheat.
//!
//! The verifier computes no floating point, and its parameters (how many queries, how much work) follow from the
//! bounds below; so the bounds are numbers of our own, a 64-bit mantissa and an exponent, rounded up by every
//! operation.
//!
//! # The bounds
//! A code of rate `ρ = 2^-r` is used up to the distance `δ = 1 - √ρ - η` with `η = √ρ/m`, below Johnson's bound,
//! `m ≥ 3`. Nothing here rests on a conjecture beyond it (the capacity conjectures fell in 2025).
//!
//! | | Bound | From |
//! |---|---|---|
//! | [`agreement`] | `1 - δ = √ρ·(1 + 1/m)` | |
//! | [`list_size`] | `1/(2η√ρ) = m/2ρ` words within `δ` | Johnson's bound, as in WHIR, ePrint 2024/1586 |
//! | [`exceptions`] | challenges `α` for which a line of two words is close without both being so on the same set: `((2(m+½)^5 + 3(m+½)γρ)·N/(3ρ^{3/2}) + (m+½)/√ρ)`, `γ ≤ 1` | Ben-Sasson, Carmon, Haböck, Kopparty, Saraf, ePrint 2025/2055, Theorem 4.2; that the agreement is mutual: Haböck, ePrint 2025/2110 |
//! | [`field_inverse`] | `1/p²` | |
//!
//! `m = ⌈√ρ/η⌉` is the cautious reading of that theorem (the one the `soundcalc` tool takes); with `⌈√ρ/2η⌉` the
//! same parameters would be worth several bits more.

use crate::scheme::Term;

/// A non-negative number `mantissa · 2^exponent`; either zero or with the mantissa's top bit set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    mantissa: u64,
    exponent: i32,
}

/// `⌈√2 · 2^32⌉`.
const SQRT_TWO: u64 = 6_074_001_000;

impl Bound {
    const ZERO: Self = Self { mantissa: 0, exponent: 0 };

    /// `value · 2^exponent`, rounded up to 64 bits.
    fn rounded(value: u128, exponent: i32) -> Self {
        if value == 0 {
            return Self::ZERO;
        }
        // The number of bits beyond 64, negative if there are fewer.
        let excess = 64_i32.saturating_sub_unsigned(value.leading_zeros());
        if excess <= 0 {
            let mantissa = u64::try_from(value << excess.unsigned_abs()).unwrap_or(u64::MAX);
            return Self { mantissa, exponent: exponent + excess };
        }
        let (kept, lost) = (value >> excess, value & ((1 << excess) - 1));
        match u64::try_from(kept + u128::from(lost != 0)) {
            Ok(mantissa) => Self { mantissa, exponent: exponent + excess },
            Err(_) => Self { mantissa: 1 << 63, exponent: exponent + excess + 1 },
        }
    }

    /// An integer.
    pub(crate) fn new(value: u64) -> Self {
        Self::rounded(u128::from(value), 0)
    }

    /// The quotient of two integers; the divisor is not zero.
    pub(crate) fn ratio(dividend: u64, divisor: u64) -> Self {
        Self::rounded((u128::from(dividend) << 64).div_ceil(u128::from(divisor.max(1))), -64)
    }

    /// `2^(halves/2)`.
    pub(crate) fn half_power(halves: i32) -> Self {
        let exponent = halves.div_euclid(2);
        if halves.rem_euclid(2) == 0 {
            Self::rounded(1, exponent)
        } else {
            Self::rounded(u128::from(SQRT_TWO), exponent - 32)
        }
    }

    /// The product.
    pub(crate) fn times(self, other: Self) -> Self {
        Self::rounded(
            u128::from(self.mantissa) * u128::from(other.mantissa),
            self.exponent + other.exponent,
        )
    }

    /// The product with a power of two.
    pub(crate) fn shifted(self, exponent: i32) -> Self {
        Self { mantissa: self.mantissa, exponent: self.exponent + exponent }
    }

    /// The sum.
    pub(crate) fn plus(self, other: Self) -> Self {
        let (high, low) =
            if self.magnitude() >= other.magnitude() { (self, other) } else { (other, self) };
        if low.mantissa == 0 {
            return high;
        }
        // 62 bits of room to the right of the larger mantissa; what lies below counts as one unit.
        let distance = high.exponent.abs_diff(low.exponent);
        let wide = u128::from(low.mantissa) << 62;
        let aligned = wide.checked_shr(distance).unwrap_or(0);
        let rest = u128::from(aligned.checked_shl(distance) != Some(wide));
        Self::rounded((u128::from(high.mantissa) << 62) + aligned + rest, high.exponent - 62)
    }

    /// The power.
    pub(crate) fn power(self, exponent: usize) -> Self {
        (0..exponent).fold(Self::new(1), |power, _| power.times(self))
    }

    /// Whether it is at most another.
    pub(crate) fn at_most(self, other: Self) -> bool {
        (self.magnitude(), self.mantissa) <= (other.magnitude(), other.mantissa)
    }

    fn magnitude(self) -> i32 {
        if self.mantissa == 0 { i32::MIN } else { self.exponent }
    }

    /// The bound as a term.
    pub(crate) fn term(self, name: &'static str) -> Term {
        // A probability; beyond 1 it says nothing.
        match u32::try_from(-self.exponent) {
            Ok(exponent) => Term { name, numerator: self.mantissa, exponent },
            Err(_) => Term { name, numerator: 1, exponent: 0 },
        }
    }
}

/// `1 - δ`: the share of positions on which a word at the distance agrees with the code.
pub(crate) fn agreement(rate: u32, multiplicity: u32) -> Bound {
    let m = u64::from(multiplicity);
    Bound::ratio(m + 1, m).times(Bound::half_power(-signed(rate)))
}

/// How many words of the code lie within the distance, `m/2ρ`.
pub(crate) fn list_size(rate: u32, multiplicity: u32) -> Bound {
    Bound::new(u64::from(multiplicity)).shifted(signed(rate) - 1)
}

/// How many challenges fold two words to a closer one than they deserve, for a code over `2^length` points.
pub(crate) fn exceptions(length: u32, rate: u32, multiplicity: u32) -> Bound {
    let odd = 2 * u64::from(multiplicity) + 1;
    // (2(m+½)^5 + 3(m+½)ρ)/3 = (odd^5 + 24·odd·ρ)/48.
    let quintic = Bound::new(odd).power(5).plus(Bound::new(24 * odd).shifted(-signed(rate)));
    let first = quintic
        .times(Bound::ratio(1, 48))
        .times(Bound::half_power(3 * signed(rate)))
        .shifted(signed(length));
    first.plus(Bound::ratio(odd, 2).times(Bound::half_power(signed(rate))))
}

/// `1/p²`, at most `(1 + 2^-30) · 2^-128`.
pub(crate) fn field_inverse() -> Bound {
    Bound::ratio((1 << 30) + 1, 1 << 30).shifted(-128)
}

/// Rates and lengths are small.
fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX / 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn float(bound: Bound) -> f64 {
        bound.mantissa as f64 * f64::from(bound.exponent).exp2()
    }

    fn close(bound: Bound, expected: f64) {
        let found = float(bound);
        assert!(
            found >= expected * (1.0 - 1e-12) && found <= expected * (1.0 + 1e-8),
            "{found} is not {expected}"
        );
    }

    proptest! {
        #[test]
        fn arithmetic_rounds_up_and_barely(a in 1_u64.., b in 1_u64.., e in -200_i32..200, k in 0_u8..40) {
            let (x, y) = (Bound::new(a), Bound::new(b).shifted(e));
            let (fa, fb) = (a as f64, b as f64 * f64::from(e).exp2());
            close(x.times(y), fa * fb);
            close(x.plus(y), fa + fb);
            close(y.plus(x), fa + fb);
            close(Bound::ratio(a, b), a as f64 / b as f64);
            prop_assert!(x.at_most(x.plus(y)) && y.at_most(x.plus(y)));
            let small = Bound::ratio(a >> 1, a);
            close(small.power(usize::from(k)), ((a >> 1) as f64 / a as f64).powi(i32::from(k)));
            prop_assert_eq!(x.at_most(y), fa <= fb || x == y);
        }
    }

    #[test]
    fn the_formulas_agree_with_floating_point() {
        for rate in 1..=10_u32 {
            for multiplicity in 3..=24_u32 {
                let (rho, m) = ((-f64::from(rate)).exp2(), f64::from(multiplicity));
                close(agreement(rate, multiplicity), rho.sqrt() * (1.0 + 1.0 / m));
                close(list_size(rate, multiplicity), 1.0 / (2.0 * (rho.sqrt() / m) * rho.sqrt()));
                for length in 5..30_u32 {
                    let (n, h) = (f64::from(length).exp2(), m + 0.5);
                    let expected = (2.0 * h.powi(5) + 3.0 * h * rho) * n / (3.0 * rho.powf(1.5))
                        + h / rho.sqrt();
                    close(exceptions(length, rate, multiplicity), expected);
                }
            }
        }
        let p = 18_446_744_069_414_584_321_f64;
        close(field_inverse(), 1.0 / (p * p));
        assert_eq!(Bound::new(5).term("x"), Term { name: "x", numerator: 5 << 61, exponent: 61 });
        assert_eq!(
            Bound::new(5).shifted(70).term("x"),
            Term { name: "x", numerator: 1, exponent: 0 }
        );
        assert_eq!(
            Bound::new(1).shifted(-100).term("x"),
            Term { name: "x", numerator: 1 << 63, exponent: 163 }
        );
    }
}
