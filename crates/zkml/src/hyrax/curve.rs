//! Points of BN254's first group: encoding, independent generators, many additions at the price of one inversion.

use super::loose::Loose;
use super::loose::lanes::{LANES, Lanes};
use super::scalar::{halves_of, less, limbs_of};
use ark_bn254::{Fq, FqConfig, G1Affine};
use ark_ec::AffineRepr;
use ark_ff::{AdditiveGroup, BigInt, Field as _, MontConfig, PrimeField};

/// A point `(x, y)` of `y² = x³ + 3`, or the identity.
///
/// The group has prime order: a point on the curve is in the group, and no point but the identity is its own
/// inverse.
pub type Point = G1Affine;

/// Length of an encoded point, in bytes.
pub const POINT_BYTES: usize = 32;

/// In the last byte: `y`, as an integer below the modulus, is odd.
const ODD: u8 = 0x80;

/// In the last byte: the identity; every other bit is zero.
const IDENTITY: u8 = 0x40;

/// The modulus of the coordinates, least significant limb first.
const MODULUS: [u64; 4] = Fq::MODULUS.0;

/// `(modulus + 1) / 4`: the exponent of a square root, the modulus being 3 modulo 4.
const ROOT: [u64; 4] =
    [0x4f08_2305_b61f_3f52, 0x65e0_5aa4_5a1c_72a3, 0x6e14_116d_a060_5617, 0x0c19_139c_b84c_680a];

/// `2^256` as a coordinate.
const RADIX: Fq = Fq::new_unchecked(<FqConfig as MontConfig<4>>::R2);

/// The key-derivation context of the generators.
const GENERATOR: &str = "og.zkml.hyrax.generator.v1";

/// The identity.
pub const IDENTITY_POINT: Point = Point::new_unchecked(Fq::ZERO, Fq::ZERO);

/// The canonical encoding: `x` in little endian, in the two bits that are left the parity of `y` and the identity.
#[must_use]
pub fn encode(point: &Point) -> [u8; POINT_BYTES] {
    let mut bytes = [0; POINT_BYTES];
    let flags = if point.is_zero() {
        IDENTITY
    } else {
        let limbs = point.x.into_bigint().0;
        for (bytes, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(limbs) {
            *bytes = limb.to_le_bytes();
        }
        if is_odd(&point.y) { ODD } else { 0 }
    };
    bytes[POINT_BYTES - 1] |= flags;
    bytes
}

/// Reads a canonical encoding; `None` for anything else, in particular for an `x` that is on no point.
#[must_use]
pub fn decode(bytes: &[u8; POINT_BYTES]) -> Option<Point> {
    match parse(bytes)? {
        Some((x, odd)) => lift(x, odd),
        None => Some(IDENTITY_POINT),
    }
}

/// Reads canonical encodings, in less than half of the time that [`decode`] takes for each; `None` if one is not.
#[must_use]
pub fn decode_all(bytes: &[[u8; POINT_BYTES]]) -> Option<Vec<Point>> {
    let mut points = Vec::with_capacity(bytes.len());
    let (groups, rest) = bytes.as_chunks::<LANES>();
    for group in groups {
        let mut squares = [Fq::ZERO; LANES];
        let mut parsed = [None; LANES];
        for ((bytes, parsed), square) in group.iter().zip(&mut parsed).zip(&mut squares) {
            *parsed = parse(bytes)?;
            if let Some((x, _)) = parsed {
                *square = square_at(*x);
            }
        }
        let roots = Lanes::of(&squares).power(&ROOT).coordinates();
        for (parsed, (square, root)) in parsed.into_iter().zip(squares.into_iter().zip(roots)) {
            points.push(match parsed {
                Some((x, odd)) => with_root(x, square, root, odd)?,
                None => IDENTITY_POINT,
            });
        }
    }
    for bytes in rest {
        points.push(decode(bytes)?);
    }
    Some(points)
}

/// `x` and whether `y` is odd, or nothing for the identity.
#[expect(clippy::option_option, reason = "the identity is not an error")]
fn parse(bytes: &[u8; POINT_BYTES]) -> Option<Option<(Fq, bool)>> {
    let mut bytes = *bytes;
    let flags = bytes[POINT_BYTES - 1] & (ODD | IDENTITY);
    bytes[POINT_BYTES - 1] ^= flags;
    let limbs = limbs_of(&bytes);
    if flags & IDENTITY != 0 {
        return (flags == IDENTITY && limbs == [0; 4]).then_some(None);
    }
    let x = less(&limbs, &MODULUS).then(|| Fq::from_bigint(BigInt(limbs))).flatten()?;
    Some(Some((x, flags == ODD)))
}

/// The generator at a place of the endless list of generators.
///
/// Try and increment: of the 65 bytes `BLAKE3(derive key "og.zkml.hyrax.generator.v1"; index ‖ attempt)` (`u64` and
/// `u32`, little endian), 64 are `x` modulo the field's characteristic and the last one's low bit is the parity of
/// `y`; the first attempt whose `x` is on the curve counts. Nobody knows a relation between two of them, as long as
/// the hash behaves like a random function and discrete logarithms are hard.
pub fn generator(index: u64) -> Point {
    let mut attempt = 0_u32;
    loop {
        let mut stream = blake3::Hasher::new_derive_key(GENERATOR)
            .update(&index.to_le_bytes())
            .update(&attempt.to_le_bytes())
            .finalize_xof();
        let (mut bytes, mut sign) = ([0; 64], [0]);
        stream.fill(&mut bytes);
        stream.fill(&mut sign);
        let (low, high) = halves_of(&bytes);
        let x = (coordinate(high) * RADIX + coordinate(low)) * RADIX;
        if let Some(point) = lift(x, sign[0] & 1 == 1) {
            return point;
        }
        attempt = attempt.wrapping_add(1);
    }
}

/// The two coordinates, 32 bytes each, little endian.
#[cfg(test)]
pub(super) fn coordinates(point: &Point) -> Vec<u8> {
    let limbs = |coordinate: Fq| coordinate.into_bigint().0.map(u64::to_le_bytes);
    [limbs(point.x), limbs(point.y)].as_flattened().as_flattened().to_vec()
}

/// The point with these coordinates; nothing is checked but that they are reduced.
pub(super) fn from_coordinates(bytes: &[u8; 64]) -> Option<Point> {
    let (x, y) = halves_of(bytes);
    let coordinate = |limbs| Fq::from_bigint(BigInt(limbs));
    Some(Point::new_unchecked(coordinate(x)?, coordinate(y)?))
}

/// The coordinate whose Montgomery form is congruent to `limbs`.
fn coordinate(mut limbs: [u64; 4]) -> Fq {
    while !less(&limbs, &MODULUS) {
        let mut borrow = false;
        for (limb, part) in limbs.iter_mut().zip(MODULUS) {
            (*limb, borrow) = limb.borrowing_sub(part, borrow);
        }
    }
    Fq::new_unchecked(BigInt(limbs))
}

/// The point with this `x` and this parity of `y`.
fn lift(x: Fq, odd: bool) -> Option<Point> {
    let square = square_at(x);
    with_root(x, square, power(square, &ROOT), odd)
}

/// `y²` where `x` is on a point.
fn square_at(x: Fq) -> Fq {
    x.square() * x + Fq::from(3_u64)
}

/// The point with this `x`, given `y²` and its root, if it has one.
fn with_root(x: Fq, square: Fq, root: Fq, odd: bool) -> Option<Point> {
    if root.square() != square || root == Fq::ZERO {
        return None;
    }
    let y = if is_odd(&root) == odd { root } else { -root };
    Some(Point::new_unchecked(x, y))
}

fn is_odd(y: &Fq) -> bool {
    let [low, ..] = y.into_bigint().0;
    low & 1 == 1
}

/// `base^exponent`, four bits at a time.
fn power(base: Fq, exponent: &[u64; 4]) -> Fq {
    let base = Loose::from(&base);
    let mut powers = [Loose::one(); 16];
    let mut last = Loose::one();
    for power in powers.iter_mut().skip(1) {
        last = last.times(&base);
        *power = last;
    }
    let mut result = Loose::one();
    for limb in exponent.iter().rev() {
        for shift in (0..64).step_by(4).rev() {
            for _ in 0..4 {
                result = result.times(&result);
            }
            if let Some(power) = powers.get(((limb >> shift) & 15) as usize) {
                result = result.times(power);
            }
        }
    }
    result.reduced()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_canonical() {
        assert_eq!(decode(&encode(&IDENTITY_POINT)), Some(IDENTITY_POINT));
        assert!(IDENTITY_POINT.is_zero());
        for index in 0..32 {
            let point = generator(index);
            assert!(point.is_on_curve());
            let bytes = encode(&point);
            assert_eq!(decode(&bytes), Some(point));
            let mut mirrored = bytes;
            mirrored[31] ^= ODD;
            assert_eq!(decode(&mirrored), Some(-point));
            let mut identity = bytes;
            identity[31] |= IDENTITY;
            assert_eq!(decode(&identity), None);
        }
        let mut odd_identity = encode(&IDENTITY_POINT);
        odd_identity[31] |= ODD;
        assert_eq!(decode(&odd_identity), None);
        // x = 1 is on the curve; x + modulus would be a second encoding.
        let mut one = [0; 32];
        one[0] = 1;
        assert!(decode(&one).is_some());
        let mut again = [0; 32];
        for (bytes, limb) in again.as_chunks_mut::<8>().0.iter_mut().zip(MODULUS) {
            *bytes = limb.to_le_bytes();
        }
        again[0] += 1;
        assert_eq!(decode(&again), None);
        // x = 0: 3 is no square.
        assert_eq!(decode(&[0; 32]), None);
    }

    #[test]
    fn many_encodings_are_read_as_one() {
        let points: Vec<Point> =
            (0..21).map(|at| if at % 5 == 3 { IDENTITY_POINT } else { generator(at) }).collect();
        let bytes: Vec<_> = points.iter().map(encode).collect();
        for count in 0..=bytes.len() {
            assert_eq!(decode_all(&bytes[..count]).as_deref(), Some(&points[..count]));
        }
        let mut odd_identity = encode(&IDENTITY_POINT);
        odd_identity[31] |= ODD;
        let mut modulus = [0; 32];
        for (bytes, limb) in modulus.as_chunks_mut::<8>().0.iter_mut().zip(MODULUS) {
            *bytes = limb.to_le_bytes();
        }
        for bad in [[0; 32], [0xff; 32], odd_identity, modulus] {
            assert_eq!(decode(&bad), None);
            for at in 0..bytes.len() {
                let mut bytes = bytes.clone();
                bytes[at] = bad;
                assert_eq!(decode_all(&bytes), None);
            }
        }
        // As many coordinates are on no point as are on one.
        let on_curve = (0..64_u8).filter(|&x| {
            let mut bytes = [0; 32];
            bytes[0] = x;
            let one = decode(&bytes);
            assert_eq!(decode_all(&[bytes; 8]), one.map(|point| vec![point; 8]));
            one.is_some()
        });
        assert!((16..48).contains(&on_curve.count()));
    }

    #[test]
    fn the_root_exponent_is_a_quarter_of_the_modulus_plus_one() {
        let four = ROOT.iter().rev().fold(Fq::ZERO, |sum, &limb| {
            (0..64).rev().fold(sum, |sum, bit| sum.double() + Fq::from((limb >> bit) & 1))
        });
        assert_eq!(four * Fq::from(4_u64), Fq::ONE);
        let [.., top] = ROOT;
        let [.., modulus] = MODULUS;
        assert_eq!(top, modulus >> 2);
    }

    #[test]
    fn generators_differ() {
        let mut seen: Vec<_> = (0..600).map(|index| encode(&generator(index))).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 600);
    }
}
