//! Coordinates that are not quite reduced.
//!
//! Montgomery's product of two numbers below `2p` is below `2p` again as long as `4p < 2^256`, which leaves out the
//! subtraction at the end of every multiplication.

pub(super) mod lanes;

use ark_bn254::Fq;
use ark_ff::{BigInt, PrimeField};

/// The modulus `p`, least significant limb first.
const MODULUS: [u64; 4] = Fq::MODULUS.0;

/// `-1/p` modulo `2^64`, by Newton's iteration.
const INVERSE: u64 = {
    let [p, ..] = MODULUS;
    let (mut inverse, mut bits) = (1_u64, 1);
    while bits < 64 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(p.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse.wrapping_neg()
};

/// A coordinate in Montgomery form, as a number below `2p`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loose([u64; 4]);

impl Loose {
    /// One.
    pub(super) fn one() -> Self {
        Self::from(&Fq::from(1_u64))
    }

    /// The same number below `p`.
    #[inline(always)]
    pub(super) fn reduced(self) -> Fq {
        let (less, borrow) = difference(&self.0, &MODULUS);
        let keep = u64::from(borrow).wrapping_neg();
        let [a, b, c, d] = self.0;
        let [e, f, g, h] = less;
        let pick = |old: u64, new: u64| (old & keep) | (new & !keep);
        Fq::new_unchecked(BigInt([pick(a, e), pick(b, f), pick(c, g), pick(d, h)]))
    }

    /// `self · other`.
    #[inline(always)]
    pub(super) fn times(&self, other: &Self) -> Self {
        let [a, b, c, d] = other.0;
        let sum = self.step([0; 4], a);
        let sum = self.step(sum, b);
        let sum = self.step(sum, c);
        Self(self.step(sum, d))
    }

    /// `(sum + self · limb) / 2^64` modulo `p`.
    #[inline(always)]
    fn step(&self, [s0, s1, s2, s3]: [u64; 4], limb: u64) -> [u64; 4] {
        let [a0, a1, a2, a3] = self.0;
        let [p0, p1, p2, p3] = MODULUS;
        let (t0, high) = a0.carrying_mul_add(limb, s0, 0);
        let factor = t0.wrapping_mul(INVERSE);
        let (_, low) = factor.carrying_mul_add(p0, t0, 0);
        let (t1, high) = a1.carrying_mul_add(limb, s1, high);
        let (r0, low) = factor.carrying_mul_add(p1, t1, low);
        let (t2, high) = a2.carrying_mul_add(limb, s2, high);
        let (r1, low) = factor.carrying_mul_add(p2, t2, low);
        let (t3, high) = a3.carrying_mul_add(limb, s3, high);
        let (r2, low) = factor.carrying_mul_add(p3, t3, low);
        [r0, r1, r2, high.wrapping_add(low)]
    }
}

impl From<&Fq> for Loose {
    #[inline(always)]
    fn from(coordinate: &Fq) -> Self {
        Self(coordinate.0.0)
    }
}

#[inline(always)]
fn difference([a0, a1, a2, a3]: &[u64; 4], [b0, b1, b2, b3]: &[u64; 4]) -> ([u64; 4], bool) {
    let (d0, borrow) = a0.borrowing_sub(*b0, false);
    let (d1, borrow) = a1.borrowing_sub(*b1, borrow);
    let (d2, borrow) = a2.borrowing_sub(*b2, borrow);
    let (d3, borrow) = a3.borrowing_sub(*b3, borrow);
    ([d0, d1, d2, d3], borrow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ark_ff::{Field, Zero};

    /// `2p`.
    const TWICE: [u64; 4] = {
        let [a, b, c, d] = MODULUS;
        [a << 1, (b << 1) | (a >> 63), (c << 1) | (b >> 63), (d << 1) | (c >> 63)]
    };

    /// A number below `2p` for an element below `p`: the other one where there is one.
    fn other(x: Fq) -> Loose {
        let mut limbs = x.0.0;
        let mut carry = false;
        for (limb, p) in limbs.iter_mut().zip(MODULUS) {
            (*limb, carry) = limb.carrying_add(p, carry);
        }
        assert!(!carry);
        Loose(limbs)
    }

    #[test]
    fn loose_arithmetic_is_the_fields() {
        let mut x = Fq::from(7_u64).inverse().unwrap();
        let mut samples = vec![
            Fq::zero(),
            Fq::from(1_u64),
            -Fq::from(1_u64),
            Fq::new_unchecked(BigInt([1, 0, 0, 0])),
        ];
        samples.push(-samples[3]); // limbs of p - 1
        for _ in 0..60 {
            x = x * x + Fq::from(3_u64);
            samples.push(x);
        }
        for &a in &samples {
            for &b in &samples {
                for a_loose in [Loose::from(&a), other(a)] {
                    assert_eq!(a_loose.reduced(), a);
                    for b_loose in [Loose::from(&b), other(b)] {
                        let product = a_loose.times(&b_loose);
                        assert_eq!(product.reduced(), a * b);
                        assert!(difference(&product.0, &TWICE).1);
                    }
                }
            }
        }
        assert_eq!(Loose::one().reduced(), Fq::from(1_u64));
    }
}
