//! The scalars of BN254 as a [`Field`], and sums of products with integers that are reduced once.

use crate::field::Field;
use ark_bn254::{Fr, FrConfig};
use ark_ff::{AdditiveGroup, BigInt, Field as _, MontConfig, PrimeField};
use std::ops::{Add, AddAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// The order of the group, least significant limb first.
const ORDER: [u64; 4] = Fr::MODULUS.0;

/// `2^256` as a field element: Montgomery's factor, in Montgomery form.
const RADIX: Fr = Fr::new_unchecked(<FrConfig as MontConfig<4>>::R2);

/// An element of the scalar field of BN254 (254 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalar(Fr);

impl Scalar {
    /// The canonical limbs, least significant first.
    pub(super) fn limbs(self) -> [u64; 4] {
        self.0.into_bigint().0
    }

    /// The limbs in Montgomery form.
    const fn montgomery(&self) -> &[u64; 4] {
        &self.0.0.0
    }
}

/// The element whose Montgomery form is congruent to `limbs`.
fn from_montgomery(mut limbs: [u64; 4]) -> Fr {
    // 2^256 < 6 · order.
    while !less(&limbs, &ORDER) {
        limbs = subtract(limbs, &ORDER);
    }
    Fr::new_unchecked(BigInt(limbs))
}

/// Whether `a < b`.
pub(super) fn less(a: &[u64; 4], b: &[u64; 4]) -> bool {
    a.iter().rev().lt(b.iter().rev())
}

fn subtract([a0, a1, a2, a3]: [u64; 4], [b0, b1, b2, b3]: &[u64; 4]) -> [u64; 4] {
    let (d0, borrow) = a0.borrowing_sub(*b0, false);
    let (d1, borrow) = a1.borrowing_sub(*b1, borrow);
    let (d2, borrow) = a2.borrowing_sub(*b2, borrow);
    let (d3, _) = a3.borrowing_sub(*b3, borrow);
    [d0, d1, d2, d3]
}

/// A sum of products of scalars with integers, reduced when it is asked for.
///
/// Six limbs in two's complement hold `2^64` products of a scalar below `2^254` with an integer below `2^63`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accumulator([u64; 6]);

impl Accumulator {
    /// Adds `scalar · integer`.
    #[inline]
    pub fn add(&mut self, scalar: &Scalar, integer: i64) {
        let [s0, s1, s2, s3] = *scalar.montgomery();
        let magnitude = integer.unsigned_abs();
        let negative = integer < 0;
        let mask = if negative { u64::MAX } else { 0 };
        let (p0, high) = s0.carrying_mul(magnitude, 0);
        let (p1, high) = s1.carrying_mul(magnitude, high);
        let (p2, high) = s2.carrying_mul(magnitude, high);
        let (p3, p4) = s3.carrying_mul(magnitude, high);
        let [a0, a1, a2, a3, a4, a5] = &mut self.0;
        let mut carry = negative;
        (*a0, carry) = a0.carrying_add(p0 ^ mask, carry);
        (*a1, carry) = a1.carrying_add(p1 ^ mask, carry);
        (*a2, carry) = a2.carrying_add(p2 ^ mask, carry);
        (*a3, carry) = a3.carrying_add(p3 ^ mask, carry);
        (*a4, carry) = a4.carrying_add(p4 ^ mask, carry);
        *a5 = a5.wrapping_add(mask).wrapping_add(u64::from(carry));
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        let mut carry = false;
        for (limb, other) in self.0.iter_mut().zip(other.0) {
            (*limb, carry) = limb.carrying_add(other, carry);
        }
    }

    /// The sum in the field.
    #[must_use]
    pub fn reduce(&self) -> Scalar {
        let negative = self.0[5] >> 63 == 1;
        let [l0, l1, l2, l3, h0, h1] = if negative { negate(self.0) } else { self.0 };
        // With the sum S = low + 2^256 · high in Montgomery form, the element is from_montgomery(low) + high.
        let high = Fr::from((u128::from(h1) << 64) | u128::from(h0));
        let sum = from_montgomery([l0, l1, l2, l3]) + high;
        Scalar(if negative { -sum } else { sum })
    }
}

fn negate(mut limbs: [u64; 6]) -> [u64; 6] {
    let mut carry = true;
    for limb in &mut limbs {
        (*limb, carry) = (!*limb).carrying_add(0, carry);
    }
    limbs
}

/// Adds `a · b` to `sum`.
#[inline(always)]
fn add_product(sum: &mut [u64; 9], a: &[u64; 4], b: &[u64; 4]) {
    let [s0, s1, s2, s3, s4, s5, s6, s7, s8] = sum;
    let [b0, b1, b2, b3] = *b;
    let [mut p0, mut p1, mut p2, mut p3] = [0; 4];
    let mut low = [0; 4];
    for (low, &a) in low.iter_mut().zip(a) {
        let mut high;
        (*low, high) = a.carrying_mul_add(b0, p0, 0);
        (p0, high) = a.carrying_mul_add(b1, p1, high);
        (p1, high) = a.carrying_mul_add(b2, p2, high);
        (p2, p3) = a.carrying_mul_add(b3, p3, high);
    }
    let [l0, l1, l2, l3] = low;
    let mut carry = false;
    (*s0, carry) = s0.carrying_add(l0, carry);
    (*s1, carry) = s1.carrying_add(l1, carry);
    (*s2, carry) = s2.carrying_add(l2, carry);
    (*s3, carry) = s3.carrying_add(l3, carry);
    (*s4, carry) = s4.carrying_add(p0, carry);
    (*s5, carry) = s5.carrying_add(p1, carry);
    (*s6, carry) = s6.carrying_add(p2, carry);
    (*s7, carry) = s7.carrying_add(p3, carry);
    *s8 = s8.wrapping_add(u64::from(carry));
}

impl Field for Scalar {
    const ZERO: Self = Self(Fr::ZERO);
    const ONE: Self = Self(Fr::ONE);
    const BYTES: usize = 32;
    const BITS: u32 = 253;

    fn from_i64(value: i64) -> Self {
        Self(Fr::from(value))
    }

    fn inverse(self) -> Option<Self> {
        self.0.inverse().map(Self)
    }

    fn write(self, out: &mut Vec<u8>) {
        for limb in self.limbs() {
            out.extend_from_slice(&limb.to_le_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let limbs = limbs_of(bytes.try_into().ok()?);
        Fr::from_bigint(BigInt(limbs)).map(Self)
    }

    fn from_uniform(bytes: &[u8; 64]) -> Self {
        // low + 2^256 · high, with from_montgomery(x) = x / 2^256.
        let (low, high) = halves_of(bytes);
        Self((from_montgomery(high) * RADIX + from_montgomery(low)) * RADIX)
    }

    fn scale(self, by: i64) -> Self {
        let mut sum = Accumulator::default();
        sum.add(&self, by);
        sum.reduce()
    }

    fn dot(a: &[Self], b: &[Self]) -> Self {
        // The products' Montgomery forms, 512 bits wide, are summed in nine limbs and reduced once.
        let mut sum = [0_u64; 9];
        for (a, b) in a.iter().zip(b) {
            add_product(&mut sum, a.montgomery(), b.montgomery());
        }
        // S = low + 2^256 · middle + 2^512 · top stands for S / 2^512, and from_montgomery(x) = x / 2^256.
        let [l0, l1, l2, l3, m0, m1, m2, m3, top] = sum;
        let low = from_montgomery([l0, l1, l2, l3]) * Fr::new_unchecked(BigInt([1, 0, 0, 0]));
        Self(low + from_montgomery([m0, m1, m2, m3]) + Fr::from(top))
    }

    fn dot_i64(a: &[Self], b: &[i64]) -> Self {
        let mut sum = Accumulator::default();
        for (a, &b) in a.iter().zip(b) {
            sum.add(a, b);
        }
        sum.reduce()
    }
}

/// Limbs of 32 bytes, little endian.
pub(super) fn limbs_of(bytes: &[u8; 32]) -> [u64; 4] {
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *limb = u64::from_le_bytes(*bytes);
    }
    limbs
}

/// Limbs of the low and the high half of 64 bytes, little endian.
pub(super) fn halves_of(bytes: &[u8; 64]) -> ([u64; 4], [u64; 4]) {
    match bytes.as_chunks::<32>().0 {
        [low, high] => (limbs_of(low), limbs_of(high)),
        _ => ([0; 4], [0; 4]),
    }
}

impl Add for Scalar {
    type Output = Self;
    #[inline]
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Scalar {
    type Output = Self;
    #[inline]
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Mul for Scalar {
    type Output = Self;
    #[inline]
    fn mul(self, other: Self) -> Self {
        Self(self.0 * other.0)
    }
}

impl Neg for Scalar {
    type Output = Self;
    #[inline]
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl AddAssign for Scalar {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl SubAssign for Scalar {
    #[inline]
    fn sub_assign(&mut self, other: Self) {
        self.0 -= other.0;
    }
}

impl MulAssign for Scalar {
    #[inline]
    fn mul_assign(&mut self, other: Self) {
        self.0 *= other.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seed: u64) -> Scalar {
        let mut bytes = [0; 64];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        Scalar::from_uniform(&bytes)
    }

    #[test]
    fn uniform_bytes_are_the_number_they_spell() {
        let mut bytes = [0; 64];
        blake3::Hasher::new().update(b"uniform").finalize_xof().fill(&mut bytes);
        assert_eq!(Scalar::from_uniform(&bytes).0, Fr::from_le_bytes_mod_order(&bytes));
        assert_eq!(Scalar::from_uniform(&[0xff; 64]).0, Fr::from_le_bytes_mod_order(&[0xff; 64]));
    }

    #[test]
    fn only_reduced_numbers_are_read() {
        let mut bytes = Vec::new();
        (-Scalar::ONE).write(&mut bytes);
        assert_eq!(Scalar::read(&bytes), Some(-Scalar::ONE));
        bytes[0] += 1; // the order itself
        assert_eq!(Scalar::read(&bytes), None);
        assert_eq!(Scalar::read(&[0xff; 32]), None);
        assert_eq!(Scalar::read(&bytes[..31]), None);
        assert_eq!(Scalar::read(&[0; 33]), None);
    }

    #[test]
    fn dot_products_equal_sums_of_products() {
        let mut a: Vec<_> = (0..100).map(sample).collect();
        let mut b: Vec<_> = (100..200).map(sample).collect();
        a.extend([Scalar::ZERO, Scalar::ONE, -Scalar::ONE, -Scalar::ONE]);
        b.extend([Scalar::ONE, Scalar::ZERO, Scalar::ONE, -Scalar::ONE]);
        // Limbs as large as they get, often enough to reach the ninth.
        a.extend([from_montgomery(subtract(ORDER, &[1, 0, 0, 0])); 200].map(Scalar));
        b.extend([from_montgomery(subtract(ORDER, &[1, 0, 0, 0])); 200].map(Scalar));
        for count in [0, 1, 2, 100, 103, 104, 304] {
            let naive =
                a.iter().zip(&b).take(count).fold(Scalar::ZERO, |sum, (&a, &b)| sum + a * b);
            assert_eq!(Scalar::dot(&a[..count], &b), naive);
        }
    }

    #[test]
    fn delayed_sums_equal_sums() {
        let integers = [0, 1, -1, 7, i64::MIN, i64::MAX, -(1 << 46), 1 << 46, 32_767, -32_768];
        let mut naive = Scalar::ZERO;
        let mut parts = [Accumulator::default(); 2];
        let mut scalars = Vec::new();
        let mut all = Vec::new();
        for round in 0..50_u64 {
            for (index, &integer) in (0_u64..).zip(&integers) {
                let scalar = if round == 0 { -Scalar::ONE } else { sample(round * 100 + index) };
                naive += scalar * Scalar::from_i64(integer);
                assert_eq!(scalar.scale(integer), scalar * Scalar::from_i64(integer));
                parts[usize::from(round % 2 == 1)].add(&scalar, integer);
                scalars.push(scalar);
                all.push(integer);
            }
        }
        let [mut sum, other] = parts;
        sum.merge(&other);
        assert_eq!(sum.reduce(), naive);
        assert_eq!(Scalar::dot_i64(&scalars, &all), naive);
        assert_eq!(Accumulator::default().reduce(), Scalar::ZERO);
    }
}
