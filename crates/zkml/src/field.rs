//! Name the fields of the challenges.
//!
//! A proof speaks of integers, but its checks live in a field large enough that a random challenge catches a lie:
//! the scalars of BN254 (backend H) or the quadratic extension of Goldilocks (backend W). The protocol is written
//! once, over [`Field`].
//!
//! Integers enter by [`Field::from_i64`]. It is injective on `|x| < 2^62` for both fields (`p > 2^63`), which is
//! what makes an equation in the field an equation between integers: see [`crate::trace`].

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// A finite field of challenges.
pub trait Field:
    Copy
    + Eq
    + Debug
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
{
    /// The neutral element of addition.
    const ZERO: Self;

    /// The neutral element of multiplication.
    const ONE: Self;

    /// Length of the canonical encoding, in bytes.
    const BYTES: usize;

    /// Largest `b` such that the field has at least `2^b` elements.
    const BITS: u32;

    /// The image of an integer.
    fn from_i64(value: i64) -> Self;

    /// The inverse; `None` for zero.
    fn inverse(self) -> Option<Self>;

    /// Appends the canonical encoding: [`Field::BYTES`] bytes, little endian.
    fn write(self, out: &mut Vec<u8>);

    /// Reads exactly [`Field::BYTES`] bytes; `None` for any other length and for a number that is not reduced.
    fn read(bytes: &[u8]) -> Option<Self>;

    /// Maps 64 uniform bytes to an element whose distribution is uniform up to a distance below `2^-128`.
    fn from_uniform(bytes: &[u8; 64]) -> Self;

    /// The product with an integer.
    fn scale(self, by: i64) -> Self {
        self * Self::from_i64(by)
    }

    /// The sum of the products of two vectors, as far as the shorter one goes.
    fn dot(a: &[Self], b: &[Self]) -> Self {
        a.iter().zip(b).fold(Self::ZERO, |sum, (&a, &b)| sum + a * b)
    }

    /// The sum of the products of a vector with integers of any size, as far as the shorter one goes.
    ///
    /// Fields override it: most integers are small, and the reduction can wait until the end of the sum.
    fn dot_i64(a: &[Self], b: &[i64]) -> Self {
        a.iter().zip(b).fold(Self::ZERO, |sum, (&a, &b)| sum + a.scale(b))
    }
}
