//! Eight coordinates side by side.
//!
//! Limbs of 29 bits leave room in 64 bits for all products of a column, so nothing is carried before the end, every
//! lane takes the same steps, and the compiler turns the loop over the lanes into vector code: four products at once
//! with AVX2, where a multiplication takes about 60 % of the time of one with limbs of 64 bits (10.6 and 17 to 19 ns on
//! a Zen 4; a square 8.6 ns). Without vectors it is as correct, and slower. It takes many *independent* multiplications.
//!
//! That the loop is vectorised hangs on its shape: one function for each operation, never inlined, no loop inside
//! another one ([`for_limbs`]), limbs outside and lanes inside in memory.

use super::{Loose, MODULUS};
use ark_bn254::Fq;
use ark_ff::{Field, MontFp};

/// Coordinates in one [`Lanes`].
pub(in super::super) const LANES: usize = 8;

/// Limbs of a coordinate.
const LIMBS: usize = 9;

/// Bits of a limb.
const BITS: u32 = 29;

/// A limb with all bits set.
const MASK: u64 = (1 << BITS) - 1;

/// A coordinate in Montgomery form with the factor `2^261`, a number below `2p`.
pub(in super::super) type Narrow = [u32; LIMBS];

/// Sums of products, on their way to a reduced product.
type Columns = [u64; 2 * LIMBS];

/// `p`, `4p` and `5p`.
const P: [u64; LIMBS] = multiple(1);
const FOUR: [u64; LIMBS] = multiple(4);
const FIVE: [u64; LIMBS] = multiple(5);

/// `-1/p` modulo `2^29`.
const INVERSE: u64 = super::INVERSE & MASK;

/// `(INVERSE · p + 1) / 2^29`, about `p / 7`.
const SHIFTED: [u64; LIMBS] = {
    let mut limbs = [0; LIMBS];
    // The lowest limb of the product is -1.
    let (mut limb, mut carry) = (1, (P[0] * INVERSE + 1) >> BITS);
    while limb < LIMBS {
        let value = P[limb] * INVERSE + carry;
        (limbs[limb - 1], carry) = (value & MASK, value >> BITS);
        limb += 1;
    }
    limbs[LIMBS - 1] = carry;
    limbs
};

/// `2^52 / (top limb of p + 1)`, rounded down.
const RECIPROCAL: u64 = (1 << 52) / (P[8] + 1);

/// `by · p`, limb by limb; it is below `2^261`.
const fn multiple(by: u64) -> [u64; LIMBS] {
    let mut limbs = split(&MODULUS);
    let (mut limb, mut carry) = (0, 0);
    while limb < LIMBS {
        let value = limbs[limb] * by + carry;
        (limbs[limb], carry) = (value & MASK, value >> BITS);
        limb += 1;
    }
    limbs
}

/// The same number in limbs of 29 bits.
const fn split(limbs: &[u64; 4]) -> [u64; LIMBS] {
    let [a, b, c, d] = *limbs;
    [
        a & MASK,
        (a >> 29) & MASK,
        ((a >> 58) | (b << 6)) & MASK,
        (b >> 23) & MASK,
        ((b >> 52) | (c << 12)) & MASK,
        (c >> 17) & MASK,
        ((c >> 46) | (d << 18)) & MASK,
        (d >> 11) & MASK,
        d >> 40,
    ]
}

/// The coordinate for a lane.
pub(in super::super) fn narrow(coordinate: &Fq) -> Narrow {
    // From the factor 2^256 to 2^261.
    const FACTOR: Fq = MontFp!("32");
    let scaled = Loose::from(coordinate).times(&Loose(FACTOR.0.0));
    split(&scaled.0).map(low)
}

/// The coordinate of a lane.
pub(in super::super) fn widen(narrow: &Narrow) -> Fq {
    let [a, b, c, d, e, f, g, h, i] = narrow.map(u64::from);
    let limbs = [
        a | (b << 29) | (c << 58),
        (c >> 6) | (d << 23) | (e << 52),
        (e >> 12) | (f << 17) | (g << 46),
        (g >> 18) | (h << 11) | (i << 40),
    ];
    // From the factor 2^261 to 2^256: 2^251 is below p.
    Loose(limbs).times(&Loose([0, 0, 0, 1 << 59])).reduced()
}

/// A limb, which has at most 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "limbs are short")]
#[inline(always)]
const fn low(limb: u64) -> u32 {
    limb as u32
}

/// A product of two limbs, which have at most 32 bits: saying so again is what makes it one vector instruction.
#[inline(always)]
fn product(a: u64, b: u64) -> u64 {
    u64::from(low(a)).wrapping_mul(u64::from(low(b)))
}

/// Adds `a · b` to the columns from `at`.
#[inline(always)]
fn accumulate(columns: &mut Columns, at: usize, a: &[u64; LIMBS], b: u64) {
    for limb in 0..LIMBS {
        columns[at + limb] = columns[at + limb].wrapping_add(product(a[limb], b));
    }
}

/// Makes the column at `at` zero by adding a multiple of `p`, and carries what it had beyond a limb.
#[inline(always)]
fn clear(columns: &mut Columns, at: usize) {
    let factor = product(columns[at], INVERSE) & MASK;
    accumulate(columns, at, &P, factor);
    columns[at + 1] = columns[at + 1].wrapping_add(columns[at] >> BITS);
}

/// Makes the column at `at` zero by adding a multiple of `p`, the factor of which takes no multiplication.
///
/// The multiple reaches a limb further up than that of [`clear`]: not for the last column.
#[inline(always)]
fn pass(columns: &mut Columns, at: usize) {
    let factor = columns[at] & MASK;
    columns[at + 1] = columns[at + 1].wrapping_add(columns[at] >> BITS);
    accumulate(columns, at + 1, &SHIFTED, factor);
}

/// The upper half of the columns, as limbs.
#[inline(always)]
fn carried(columns: &Columns) -> [u64; LIMBS] {
    let mut carry = 0;
    let mut limbs = [0; LIMBS];
    for limb in 0..LIMBS {
        let value = columns[LIMBS + limb].wrapping_add(carry);
        (limbs[limb], carry) = (value & MASK, value >> BITS);
    }
    limbs
}

/// Repeats a step for every limb: a loop around another one is not unrolled, and then not vectorised.
macro_rules! for_limbs {
    ($step:expr) => {{
        let mut step = $step;
        for_limbs!(step; 0 1 2 3 4 5 6 7 8);
    }};
    ($step:ident; $($at:literal)*) => { $($step($at);)* };
}

#[inline(always)]
fn times(a: &[u64; LIMBS], b: &[u64; LIMBS]) -> [u64; LIMBS] {
    let mut columns = [0; 2 * LIMBS];
    for_limbs!(|at: usize| {
        accumulate(&mut columns, at, a, b[at]);
        clear(&mut columns, at);
    });
    carried(&columns)
}

/// Nothing is reduced before all products are there: most of them count twice.
#[inline(always)]
fn square(a: &[u64; LIMBS]) -> [u64; LIMBS] {
    let mut columns = [0_u64; 2 * LIMBS];
    for_limbs!(|at: usize| {
        columns[2 * at] = columns[2 * at].wrapping_add(product(a[at], a[at]));
        for other in at + 1..LIMBS {
            columns[at + other] = columns[at + other].wrapping_add(product(a[at] << 1, a[other]));
        }
    });
    for_limbs!(|at: usize| {
        if at + 1 < LIMBS {
            pass(&mut columns, at);
        } else {
            clear(&mut columns, at);
        }
    });
    carried(&columns)
}

/// `a - b + 4p`, not carried: limbs below `2^31`.
#[inline(always)]
fn gap(a: &[u64; LIMBS], b: &[u64; LIMBS]) -> [u64; LIMBS] {
    // Two units of a limb are 2^30 of the one below, which keeps all of them positive.
    let mut gap = [0; LIMBS];
    for at in 0..LIMBS {
        let lent = if at + 1 < LIMBS { 1 << 30 } else { 0 };
        let borrowed = if at > 0 { 2 } else { 0 };
        gap[at] = a[at].wrapping_add(FOUR[at] + lent - borrowed).wrapping_sub(b[at]);
    }
    gap
}

/// `a - b - c` modulo `p`, below `2p`.
#[inline(always)]
fn minus(a: &[u64; LIMBS], b: &[u64; LIMBS], c: &[u64; LIMBS]) -> [u64; LIMBS] {
    // With 5p added the number is between p and 7p. The top limb, which is off by less than two, tells how many
    // times p can be taken away again; about 4 · 10^-6 p more than p may be left.
    let top = LIMBS - 1;
    let about = a[top].wrapping_add(FIVE[top] - 2).wrapping_sub(b[top]).wrapping_sub(c[top]);
    let times = product(about, RECIPROCAL) >> 52;
    let mut limbs = [0; LIMBS];
    let mut carry = 0;
    for (at, limb) in limbs.iter_mut().enumerate() {
        let lent = if at < top { 1 << 33 } else { 0 };
        let borrowed = if at > 0 { 1 << 4 } else { 0 };
        let value = a[at]
            .wrapping_add(FIVE[at] + lent - borrowed)
            .wrapping_add(carry)
            .wrapping_sub(b[at])
            .wrapping_sub(c[at])
            .wrapping_sub(product(times, P[at]));
        (*limb, carry) = (value & MASK, value >> BITS);
    }
    limbs
}

/// Coordinates in Montgomery form with the factor `2^261`, numbers below `2p`.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(in super::super) struct Lanes([[u32; LANES]; LIMBS]);

/// Differences of such coordinates, not carried: good for one multiplication.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Gaps(Lanes);

#[inline(always)]
fn lane(limbs: &[[u32; LANES]; LIMBS], at: usize) -> [u64; LIMBS] {
    let mut lane = [0; LIMBS];
    for limb in 0..LIMBS {
        lane[limb] = u64::from(limbs[limb][at]);
    }
    lane
}

/// Something on the stack of a function that makes it align its frame, and so what it spills: a vector that lies
/// across two cache lines costs half of the speed.
#[repr(align(32))]
struct Frame(#[expect(dead_code, reason = "it only takes up space")] u8);

/// A function of every lane.
macro_rules! lanes {
    ($operands:ident => $value:expr) => {{
        std::hint::black_box(&Frame(0));
        let mut result = Lanes([[0; LANES]; LIMBS]);
        for at in 0..LANES {
            let $operands = |limbs: &[[u32; LANES]; LIMBS]| lane(limbs, at);
            let value = $value;
            for limb in 0..LIMBS {
                result.0[limb][at] = low(value[limb]);
            }
        }
        result
    }};
}

impl Lanes {
    /// The same coordinate in every lane.
    pub(in super::super) fn all(coordinate: &Fq) -> Self {
        Self(narrow(coordinate).map(|limb| [limb; LANES]))
    }

    /// A coordinate in each lane.
    pub(in super::super) fn of(coordinates: &[Fq; LANES]) -> Self {
        let mut lanes = Self([[0; LANES]; LIMBS]);
        for (at, coordinate) in coordinates.iter().enumerate() {
            lanes.set(at, &narrow(coordinate));
        }
        lanes
    }

    /// The coordinates in the lanes.
    pub(in super::super) fn coordinates(&self) -> [Fq; LANES] {
        std::array::from_fn(|at| widen(&self.get(at)))
    }

    /// Puts a coordinate into a lane.
    #[inline(always)]
    pub(in super::super) fn set(&mut self, at: usize, coordinate: &Narrow) {
        for (lanes, &limb) in self.0.iter_mut().zip(coordinate) {
            lanes[at] = limb;
        }
    }

    /// The coordinate in a lane.
    #[inline(always)]
    pub(in super::super) fn get(&self, at: usize) -> Narrow {
        self.0.map(|lanes| lanes[at])
    }

    /// `self · other`.
    #[inline(never)]
    pub(in super::super) fn times(&self, other: &Self) -> Self {
        lanes!(of => times(&of(&self.0), &of(&other.0)))
    }

    /// `self · gaps`.
    #[inline(always)]
    pub(in super::super) fn times_gaps(&self, gaps: &Gaps) -> Self {
        self.times(&gaps.0)
    }

    /// `self²`.
    #[inline(never)]
    pub(in super::super) fn square(&self) -> Self {
        lanes!(of => square(&of(&self.0)))
    }

    /// `self^exponent`, by sliding windows of four bits; the exponent is not zero.
    pub(in super::super) fn power(&self, exponent: &[u64; 4]) -> Self {
        let square = self.square();
        // self, self³, … self¹⁵
        let mut odd = [*self; 8];
        for at in 1..8 {
            odd[at] = odd[at - 1].times(&square);
        }
        let bit = |at: usize| exponent[at / 64] >> (at % 64) & 1 == 1;
        let mut result = *self;
        let (mut started, mut left) = (false, 256_usize);
        while left > 0 {
            // The longest window of at most four bits that ends in a one; a zero is one of its own.
            let low = left.saturating_sub(4);
            let end = (low..left).find(|&at| bit(at) && bit(left - 1)).unwrap_or(left - 1);
            let digit = (end..left).rev().fold(0, |digit, at| 2 * digit + usize::from(bit(at)));
            if started {
                for _ in end..left {
                    result = result.square();
                }
            }
            left = end;
            if let (1, Some(power)) = (digit & 1, odd.get(digit / 2)) {
                result = if started { result.times(power) } else { *power };
                started = true;
            }
        }
        result
    }

    /// `self - other`.
    #[inline(never)]
    pub(in super::super) fn gaps(&self, other: &Self) -> Gaps {
        Gaps(lanes!(of => gap(&of(&self.0), &of(&other.0))))
    }

    /// `self - one - other`.
    #[inline(never)]
    pub(in super::super) fn minus(&self, one: &Self, other: &Self) -> Self {
        lanes!(of => minus(&of(&self.0), &of(&one.0), &of(&other.0)))
    }
}

impl Gaps {
    /// Replaces a difference.
    pub(in super::super) fn set(&mut self, at: usize, difference: &Narrow) {
        self.0.set(at, difference);
    }

    /// The differences in the lanes.
    pub(in super::super) fn coordinates(&self) -> [Fq; LANES] {
        Lanes::all(&Fq::ONE).times_gaps(self).coordinates()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ark_ff::{BigInt, Zero};

    /// The same coordinate as a number between `p` and `2p`.
    fn other(narrow: &Narrow) -> Narrow {
        let mut carry = 0;
        std::array::from_fn(|at| {
            let limb = u64::from(narrow[at]) + P[at] + carry;
            carry = limb >> BITS;
            low(limb & MASK)
        })
    }

    fn below_twice(narrow: &Narrow) -> bool {
        narrow.iter().all(|&limb| u64::from(limb) <= MASK)
            && narrow.map(u64::from).iter().rev().lt(multiple(2).iter().rev())
    }

    fn samples() -> Vec<Fq> {
        let half = Fq::from(2_u64).inverse().unwrap();
        let mut samples = vec![Fq::zero(), Fq::ONE, -Fq::ONE, half, -half, Fq::from(32_u64)];
        // Least and greatest limbs, here or there.
        for limbs in [
            [1, 0, 0, 0],
            [u64::MAX, 0, 0, 0],
            [u64::MAX, u64::MAX, u64::MAX, 0],
            [0, 0, 0, 1 << 60],
        ] {
            let sample = Fq::new_unchecked(BigInt(limbs));
            samples.extend([sample, -sample, sample * Fq::from(32_u64).inverse().unwrap()]);
        }
        let mut x = half;
        for _ in 0..42 {
            x = x * x + Fq::from(3_u64);
            samples.push(x);
        }
        samples
    }

    #[test]
    fn coordinates_come_back() {
        for sample in samples() {
            let narrow = narrow(&sample);
            assert!(below_twice(&narrow));
            assert_eq!(widen(&narrow), sample);
            assert_eq!(widen(&other(&narrow)), sample);
        }
        assert_eq!(
            P.iter()
                .rev()
                .fold(Fq::zero(), |sum, &limb| sum * Fq::from(1_u64 << BITS) + Fq::from(limb)),
            Fq::zero()
        );
    }

    #[test]
    fn lanes_compute_as_the_field_does() {
        let samples = samples();
        // Every pair, each coordinate as itself and as a number above p; lanes beside each other hold different ones.
        let mut pairs = Vec::new();
        for &a in &samples {
            for &b in &samples {
                for form in 0..4 {
                    let (x, y) = (narrow(&a), narrow(&b));
                    let x = if form & 1 == 1 && a != Fq::zero() { other(&x) } else { x };
                    let y = if form & 2 == 2 && b != Fq::zero() { other(&y) } else { y };
                    if below_twice(&x) && below_twice(&y) {
                        pairs.push((a, b, x, y));
                    }
                }
            }
        }
        assert!(pairs.len() > 3 * samples.len() * samples.len());
        for group in pairs.chunks_exact(LANES) {
            let (mut a, mut b) = (Lanes::all(&Fq::ONE), Lanes::all(&Fq::ONE));
            for (at, (.., x, y)) in group.iter().enumerate() {
                a.set(at, x);
                b.set(at, y);
            }
            let gaps = a.gaps(&b);
            let lanes = [
                a.times(&b),
                a.square(),
                a.minus(&b, &a),
                b.minus(&a, &a),
                a.times_gaps(&gaps),
                b.times_gaps(&gaps),
            ];
            for (at, &(x, y, ..)) in group.iter().enumerate() {
                let expected = [x * y, x * x, -y, y - x - x, x * (x - y), y * (x - y)];
                for (lanes, expected) in lanes.iter().zip(expected) {
                    assert!(below_twice(&lanes.get(at)));
                    assert_eq!(widen(&lanes.get(at)), expected);
                }
                assert_eq!(gaps.coordinates()[at], x - y);
            }
        }
    }

    #[test]
    fn powers_are_the_fields() {
        let coordinates: Vec<Fq> = samples().into_iter().take(LANES).collect();
        let lanes = Lanes::of(&coordinates.clone().try_into().unwrap());
        for exponent in [
            [1, 0, 0, 0],
            [2, 0, 0, 0],
            [0, 0, 1, 0],
            [0xffff, 0, 0, 1 << 63],
            [u64::MAX; 4],
            MODULUS,
        ] {
            let powers = lanes.power(&exponent).coordinates();
            for (base, power) in coordinates.iter().zip(powers) {
                assert_eq!(power, base.pow(exponent));
            }
        }
    }
}
