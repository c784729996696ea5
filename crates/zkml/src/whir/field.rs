//! Compute in the Goldilocks field and in its quadratic extension.
//!
//! `p = 2^64 - 2^32 + 1`; the extension is `F_p[X] / (X² - 7)`, 7 generating the multiplicative group of `F_p` and
//! so not a square. Elements are always reduced: equality is equality of words, and encoding needs no work.

use crate::field::Field;
use std::ops::{Add, AddAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// The modulus.
const MODULUS: u64 = 0xffff_ffff_0000_0001;

/// `2^64 mod p`.
const EPSILON: u64 = 0xffff_ffff;

/// `X²` in the extension.
const SQUARE: u64 = 7;

/// The largest `k` for which the field has a root of unity of order `2^k`.
const TWO_ADICITY: u32 = 32;

/// `7^((p-1)/2^32)`, of order `2^32`.
const ROOT: Goldilocks = Goldilocks(1_753_635_133_440_165_772);

/// An integer modulo `2^64 - 2^32 + 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Goldilocks(u64);

impl Goldilocks {
    /// The neutral element of addition.
    pub const ZERO: Self = Self(0);

    /// The neutral element of multiplication.
    pub const ONE: Self = Self(1);

    /// Length of the encoding, in bytes.
    pub const BYTES: usize = 8;

    /// The element with this representative; `None` when it is not reduced.
    #[must_use]
    pub const fn new(value: u64) -> Option<Self> {
        if value < MODULUS { Some(Self(value)) } else { None }
    }

    /// The representative in `0..p`.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The image of an integer.
    #[inline]
    #[must_use]
    pub const fn from_i64(value: i64) -> Self {
        // |value| ≤ 2^63 < p, so one correction is enough.
        let magnitude = value.unsigned_abs();
        if value < 0 { Self(MODULUS - magnitude) } else { Self(magnitude) }
    }

    /// The encoding: eight bytes, little endian.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    /// Reads exactly eight bytes; `None` for any other length and for a number that is not reduced.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Self::new(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// A root of unity of order exactly `2^log`; `None` beyond `2^32`.
    #[must_use]
    pub fn root(log: u32) -> Option<Self> {
        let squarings = TWO_ADICITY.checked_sub(log)?;
        Some((0..squarings).fold(ROOT, |root, _| root * root))
    }

    /// The power with a non-negative exponent.
    #[must_use]
    pub fn pow(self, mut exponent: u64) -> Self {
        let (mut base, mut power) = (self, Self::ONE);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power *= base;
            }
            base *= base;
            exponent >>= 1;
        }
        power
    }

    /// The inverse; `None` for zero.
    #[must_use]
    pub fn inverse(self) -> Option<Self> {
        (self != Self::ZERO).then(|| self.pow(MODULUS - 2))
    }

    /// `x mod p`, from `2^64 ≡ 2^32 - 1` and `2^96 ≡ -1`.
    #[inline]
    const fn reduce(x: u128) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "splits the product into words")]
        let (low, high) = (x as u64, (x >> 64) as u64);
        let (top, middle) = (high >> 32, high & EPSILON);
        let (mut sum, borrow) = low.overflowing_sub(top);
        if borrow {
            // 2^64 too much; the difference stays positive because top < 2^32.
            sum = sum.wrapping_sub(EPSILON);
        }
        let (sum, carry) = sum.overflowing_add(middle * EPSILON);
        let sum = if carry { sum.wrapping_add(EPSILON) } else { sum };
        Self(if sum >= MODULUS { sum.wrapping_sub(MODULUS) } else { sum })
    }

    /// `x mod p` for an integer of either sign.
    #[inline]
    const fn reduce_signed(x: i128) -> Self {
        let magnitude = Self::reduce(x.unsigned_abs());
        if x < 0 && magnitude.0 != 0 { Self(MODULUS - magnitude.0) } else { magnitude }
    }

    /// A residue of 256 bits, little endian.
    fn from_wide(low: u128, high: u128) -> Self {
        // 2^128 ≡ -2^32.
        Self::reduce(low) - Self::reduce(high) * Self(1 << 32)
    }
}

impl Add for Goldilocks {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        let (sum, carry) = self.0.overflowing_add(other.0);
        let (less, borrow) = sum.overflowing_sub(MODULUS);
        Self(if carry || !borrow { less } else { sum })
    }
}

impl Sub for Goldilocks {
    type Output = Self;

    #[inline]
    fn sub(self, other: Self) -> Self {
        let (difference, borrow) = self.0.overflowing_sub(other.0);
        Self(if borrow { difference.wrapping_add(MODULUS) } else { difference })
    }
}

impl Mul for Goldilocks {
    type Output = Self;

    #[inline]
    fn mul(self, other: Self) -> Self {
        Self::reduce(u128::from(self.0) * u128::from(other.0))
    }
}

impl Neg for Goldilocks {
    type Output = Self;

    #[inline]
    fn neg(self) -> Self {
        Self::ZERO - self
    }
}

/// The assigning forms of the operators.
macro_rules! assigning {
    ($($field:ty, $operator:ident, $method:ident, $sign:tt;)*) => {$(
        impl $operator for $field {
            #[inline]
            fn $method(&mut self, other: Self) {
                *self = *self $sign other;
            }
        }
    )*};
}

assigning! {
    Goldilocks, AddAssign, add_assign, +;
    Goldilocks, SubAssign, sub_assign, -;
    Goldilocks, MulAssign, mul_assign, *;
    Goldilocks2, AddAssign, add_assign, +;
    Goldilocks2, SubAssign, sub_assign, -;
    Goldilocks2, MulAssign, mul_assign, *;
}

/// `a + b·X` with `X² = 7`: the field of challenges, of `p² ≈ 2^128` elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Goldilocks2(pub Goldilocks, pub Goldilocks);

impl Goldilocks2 {
    /// `1`, then `X`: an element is its coordinates times these.
    #[must_use]
    pub const fn basis(index: usize) -> Self {
        match index {
            0 => Self(Goldilocks::ONE, Goldilocks::ZERO),
            _ => Self(Goldilocks::ZERO, Goldilocks::ONE),
        }
    }

    /// The square.
    #[inline]
    #[must_use]
    pub fn square(self) -> Self {
        self * self
    }

    /// The power with a non-negative exponent.
    #[must_use]
    pub fn pow(self, mut exponent: u64) -> Self {
        let (mut base, mut power) = (self, Self::ONE);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power *= base;
            }
            base *= base;
            exponent >>= 1;
        }
        power
    }
}

impl From<Goldilocks> for Goldilocks2 {
    #[inline]
    fn from(base: Goldilocks) -> Self {
        Self(base, Goldilocks::ZERO)
    }
}

impl Add for Goldilocks2 {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0, self.1 + other.1)
    }
}

impl Sub for Goldilocks2 {
    type Output = Self;

    #[inline]
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0, self.1 - other.1)
    }
}

impl Mul for Goldilocks2 {
    type Output = Self;

    #[inline]
    fn mul(self, other: Self) -> Self {
        let (a, b) = (u128::from(self.0.0), u128::from(self.1.0));
        let (c, d) = (u128::from(other.0.0), u128::from(other.1.0));
        // (p-1)² + 7p < 2^128.
        let real = a * c + u128::from(SQUARE) * u128::from(Goldilocks::reduce(b * d).0);
        let (cross, carry) = (a * d).overflowing_add(b * c);
        let cross = Goldilocks::reduce(cross);
        // 2^128 ≡ -2^32.
        let cross = if carry { cross - Goldilocks(1 << 32) } else { cross };
        Self(Goldilocks::reduce(real), cross)
    }
}

impl Mul<Goldilocks> for Goldilocks2 {
    type Output = Self;

    #[inline]
    fn mul(self, other: Goldilocks) -> Self {
        Self(self.0 * other, self.1 * other)
    }
}

impl Neg for Goldilocks2 {
    type Output = Self;

    #[inline]
    fn neg(self) -> Self {
        Self(-self.0, -self.1)
    }
}

impl Field for Goldilocks2 {
    const ZERO: Self = Self(Goldilocks::ZERO, Goldilocks::ZERO);
    const ONE: Self = Self(Goldilocks::ONE, Goldilocks::ZERO);
    const BYTES: usize = 16;
    const BITS: u32 = 127;

    #[inline]
    fn from_i64(value: i64) -> Self {
        Self(Goldilocks::from_i64(value), Goldilocks::ZERO)
    }

    fn inverse(self) -> Option<Self> {
        // (a + bX)(a - bX) = a² - 7b², which is zero for no element but zero: 7 is not a square.
        let norm = self.0 * self.0 - self.1 * self.1 * Goldilocks(SQUARE);
        let inverse = norm.inverse()?;
        Some(Self(self.0 * inverse, -self.1 * inverse))
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_bytes());
        out.extend_from_slice(&self.1.to_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (real, imaginary) = bytes.split_at_checked(8)?;
        Some(Self(Goldilocks::read(real)?, Goldilocks::read(imaginary)?))
    }

    fn from_uniform(bytes: &[u8; 64]) -> Self {
        let mut words = bytes.as_chunks::<16>().0.iter().map(|word| u128::from_le_bytes(*word));
        let mut coordinate = || {
            let (low, high) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            Goldilocks::from_wide(low, high)
        };
        Self(coordinate(), coordinate())
    }

    #[inline]
    fn scale(self, by: i64) -> Self {
        self * Goldilocks::from_i64(by)
    }

    fn dot_i64(a: &[Self], b: &[i64]) -> Self {
        /// Products below 2^96: 2^31 of them are summed without a reduction.
        const SMALL: u64 = 1 << 32;
        let mut sum = Self::ZERO;
        for (a, b) in a.chunks(1 << 12).zip(b.chunks(1 << 12)) {
            if b.iter().any(|b| b.unsigned_abs() >= SMALL) {
                sum = a.iter().zip(b).fold(sum, |sum, (a, &b)| sum + a.scale(b));
                continue;
            }
            let (mut real, mut imaginary) = (0_i128, 0_i128);
            for (a, &b) in a.iter().zip(b) {
                real = real.wrapping_add(i128::from(a.0.0) * i128::from(b));
                imaginary = imaginary.wrapping_add(i128::from(a.1.0) * i128::from(b));
            }
            sum += Self(Goldilocks::reduce_signed(real), Goldilocks::reduce_signed(imaginary));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const P: u128 = MODULUS as u128;

    fn slow_mul(a: u64, b: u64) -> u64 {
        u64::try_from(u128::from(a) * u128::from(b) % P).unwrap()
    }

    fn edges() -> Vec<u64> {
        let mut edges = Vec::new();
        for centre in [0, 1 << 31, 1 << 32, EPSILON, 1 << 63, MODULUS - (1 << 32), MODULUS] {
            for offset in 0..4_u64 {
                edges.push(centre.wrapping_add(offset) % MODULUS);
                edges.push(centre.wrapping_sub(offset) % MODULUS);
            }
        }
        edges
    }

    fn element() -> impl Strategy<Value = Goldilocks> {
        prop_oneof![
            any::<u64>().prop_map(|x| Goldilocks(x % MODULUS)),
            prop::sample::select(edges()).prop_map(Goldilocks)
        ]
    }

    fn extension() -> impl Strategy<Value = Goldilocks2> {
        (element(), element()).prop_map(|(a, b)| Goldilocks2(a, b))
    }

    #[test]
    fn edges_agree_with_long_division() {
        for &a in &edges() {
            for &b in &edges() {
                let (x, y) = (Goldilocks(a), Goldilocks(b));
                let wide = |x: u128| u64::try_from(x % P).unwrap();
                assert_eq!((x * y).0, slow_mul(a, b));
                assert_eq!((x + y).0, wide(u128::from(a) + u128::from(b)));
                assert_eq!((x - y).0, wide(u128::from(a) + P - u128::from(b)));
            }
        }
        for x in [
            0,
            1,
            u128::MAX,
            u128::MAX - 1,
            P * P,
            P * P - 1,
            u128::from(u64::MAX) << 64,
            u128::from(EPSILON) << 96,
        ] {
            assert_eq!(u128::from(Goldilocks::reduce(x).0), x % P);
        }
    }

    #[test]
    fn the_roots_have_their_orders_and_seven_is_no_square() {
        let seven = Goldilocks(7);
        assert_eq!(seven.pow((MODULUS - 1) >> 32), ROOT);
        assert_eq!(seven.pow((MODULUS - 1) / 2), -Goldilocks::ONE);
        for log in 1..=TWO_ADICITY {
            let root = Goldilocks::root(log).unwrap();
            assert_eq!(root.pow(1 << (log - 1)), -Goldilocks::ONE);
        }
        assert_eq!(Goldilocks::root(0), Some(Goldilocks::ONE));
        assert_eq!(Goldilocks::root(33), None);
    }

    #[test]
    fn encodings_are_canonical() {
        assert_eq!(Goldilocks::read(&MODULUS.to_le_bytes()), None);
        assert_eq!(Goldilocks::read(&u64::MAX.to_le_bytes()), None);
        assert_eq!(Goldilocks::read(&(MODULUS - 1).to_le_bytes()), Some(-Goldilocks::ONE));
        assert_eq!(Goldilocks2::read(&[0; 15]), None);
        assert_eq!(Goldilocks2::read(&[0; 17]), None);
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&MODULUS.to_le_bytes());
        assert_eq!(Goldilocks2::read(&bytes), None);
    }

    #[test]
    fn integers_are_embedded() {
        assert_eq!(Goldilocks::from_i64(-1), -Goldilocks::ONE);
        for x in [i64::MIN, i64::MIN + 1, -5, 0, 5, i64::MAX] {
            let expected = i128::from(x).rem_euclid(i128::from(MODULUS));
            assert_eq!(i128::from(Goldilocks::from_i64(x).0), expected);
        }
    }

    proptest! {
        #[test]
        fn products_agree_with_long_division(a in any::<u64>(), b in any::<u64>()) {
            let (a, b) = (a % MODULUS, b % MODULUS);
            prop_assert_eq!((Goldilocks(a) * Goldilocks(b)).0, slow_mul(a, b));
        }

        #[test]
        fn reductions_agree_with_long_division(low in any::<u128>(), high in any::<u128>(), signed in any::<i128>()) {
            prop_assert_eq!(u128::from(Goldilocks::reduce(low).0), low % P);
            let shift = (1_u128 << 64) % P;
            let expected = (high % P * shift % P * shift % P + low % P) % P;
            prop_assert_eq!(u128::from(Goldilocks::from_wide(low, high).0), expected);
            prop_assert_eq!(i128::from(Goldilocks::reduce_signed(signed).0), signed.rem_euclid(i128::from(MODULUS)));
        }

        #[test]
        fn the_extension_is_a_field(a in extension(), b in extension(), c in extension()) {
            prop_assert_eq!(a * b, b * a);
            prop_assert_eq!((a * b) * c, a * (b * c));
            prop_assert_eq!(a * (b + c), a * b + a * c);
            prop_assert_eq!((a - b) + b, a);
            let schoolbook = Goldilocks2(a.0 * b.0 + Goldilocks(7) * a.1 * b.1, a.0 * b.1 + a.1 * b.0);
            prop_assert_eq!(a * b, schoolbook);
            prop_assert_eq!(a * b.0, a * Goldilocks2::from(b.0));
            match a.inverse() {
                Some(inverse) => prop_assert_eq!(a * inverse, Goldilocks2::ONE),
                None => prop_assert_eq!(a, Goldilocks2::ZERO),
            }
            let mut bytes = Vec::new();
            a.write(&mut bytes);
            prop_assert_eq!(Goldilocks2::read(&bytes), Some(a));
        }

        #[test]
        fn sums_of_products_agree(a in prop::collection::vec(extension(), 0..40), wide in any::<bool>(), seed in any::<i64>()) {
            let integers: Vec<i64> = (0_i64..)
                .take(a.len())
                .map(|i| seed.wrapping_mul(i * 2 + 1) >> if wide { 0 } else { 40 })
                .collect();
            let expected = a.iter().zip(&integers).fold(Goldilocks2::ZERO, |sum, (a, &b)| sum + *a * Goldilocks2::from_i64(b));
            prop_assert_eq!(Goldilocks2::dot_i64(&a, &integers), expected);
        }
    }
}
