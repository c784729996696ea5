//! Sums of multiples of points.
//!
//! Three kinds, all by buckets (Pippenger) filled with affine additions of signed digits:
//!
//! * [`combine`]: any points, scalars of any size. The endomorphism `φ(x, y) = (βx, y) = λ·(x, y)` halves the
//!   scalars (Gallant, Lambert and Vanstone, CRYPTO 2001). All buckets of all windows grow at once, eight additions
//!   side by side (`sums`): there are so many buckets that one more point for each is worth an inversion.
//! * [`Basis::combine`]: the generators, scalars of any size. Their multiples by `2^8, 2^16, …` are kept, so there is
//!   one window and no doubling.
//! * [`Basis::rows`]: the generators, small integers; many rows share the inversions. Their digits crowd in a few
//!   buckets, which are cut in pieces (`sums`).

mod sums;

use super::curve::{Point, from_coordinates, generator};
use super::loose::lanes::{Narrow, narrow};
use super::scalar::Scalar;
use ark_bn254::{G1Projective, g1};
use ark_ec::scalar_mul::glv::GLVConfig;
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{AdditiveGroup, Zero};
use std::sync::OnceLock;
use sums::{Flat, Lists, sums, sums_of_pieces};

/// Most columns of a matrix: `2^13`.
pub const MAX_COLUMN_BITS: u32 = 13;

/// Width of a digit in [`Basis`], in bits.
const WIDTH: u32 = 8;

/// Digits of a half scalar (below `2^127`).
const LEVELS: usize = 16;

/// Buckets of a window of [`WIDTH`] bits: digits are in `-127..=128`.
const BUCKETS: usize = 1 << (WIDTH - 1);

/// Rows summed at once in [`Basis::rows`].
const ROWS: usize = 16;

/// Short basis `(A, -B), (B, C)` of the pairs `(a, b)` with `a + bλ = 0`; its determinant is the group's order.
const A: u128 = 147_946_756_881_789_319_000_765_030_803_803_410_728;
const B: u128 = 9_931_322_734_385_697_763;
const C: u128 = 147_946_756_881_789_319_010_696_353_538_189_108_491;

/// `C · 2^256 / order` and `B · 2^256 / order`, rounded.
const C_SCALED: [u64; 3] = [0x5398_fd03_00ff_6565, 0x4cce_f014_a773_d2d2, 2];
const B_SCALED: [u64; 3] = [0xd91d_232e_c7e0_b3d7, 2, 0];

/// A signed number below `2^127`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Half {
    magnitude: u128,
    negative: bool,
}

/// Two halves `a`, `b` with `scalar = a + bλ`.
fn split(scalar: Scalar) -> [Half; 2] {
    let limbs = scalar.limbs();
    let [low, high, ..] = limbs;
    let low = (u128::from(high) << 64) | u128::from(low);
    // The nearest point of the lattice to (scalar, 0); both differences are below 2^127, so 128 bits tell them.
    let (first, second) = (scaled(&limbs, &C_SCALED), scaled(&limbs, &B_SCALED));
    let a = low.wrapping_sub(first.wrapping_mul(A)).wrapping_sub(second.wrapping_mul(B));
    let b = first.wrapping_mul(B).wrapping_sub(second.wrapping_mul(C));
    [a, b].map(|half| {
        let negative = half >> 127 == 1;
        Half { magnitude: if negative { half.wrapping_neg() } else { half }, negative }
    })
}

/// `a · b / 2^256`, rounded; the quotient is below `2^128`.
fn scaled(a: &[u64; 4], b: &[u64; 3]) -> u128 {
    let mut product = [0_u64; 8];
    product[3] = 1 << 63;
    for (shift, &b) in b.iter().enumerate() {
        let (mut high, mut carry) = (0, false);
        let mut limbs = product.iter_mut().skip(shift);
        for (a, limb) in a.iter().zip(limbs.by_ref()) {
            let low;
            (low, high) = a.carrying_mul(b, high);
            (*limb, carry) = limb.carrying_add(low, carry);
        }
        for limb in limbs {
            (*limb, carry) = limb.carrying_add(high, carry);
            high = 0;
        }
    }
    (u128::from(product[5]) << 64) | u128::from(product[4])
}

/// Digits of `magnitude` in `-2^(width-1) < digit ≤ 2^(width-1)`, least significant first; `width ≤ 15`.
fn digits(magnitude: u128, width: u32) -> impl Iterator<Item = i32> {
    let (mask, half) = ((1 << width) - 1, 1 << (width - 1));
    let (mut rest, mut carry) = (magnitude, 0);
    std::iter::from_fn(move || {
        if rest == 0 && carry == 0 {
            return None;
        }
        let digit = i32::from((rest & 0x7fff) as u16) & mask;
        rest >>= width;
        let digit = digit + carry;
        carry = i32::from(digit > half);
        Some(digit - (carry << width))
    })
}

/// `Σ (i + 1) · bucket_i` for every window of `size` buckets, a power of two.
fn weigh(buckets: &[Option<Flat>], size: usize) -> Vec<G1Projective> {
    let square = Square::of(size);
    let lines = sums(&square.lines(buckets), |bucket| {
        buckets.get(bucket as usize)?.as_ref().map(Flat::coordinates)
    });
    let lines: Vec<_> = lines.iter().map(|line| line.as_ref().map(Flat::point)).collect();
    square.weigh(&lines)
}

/// A window as a square of buckets, `i = width · row + column`: the sums of its rows and of its columns are affine
/// additions again, and what is left to weigh is short.
#[derive(Clone, Copy, Debug)]
struct Square {
    /// Logarithm of the width.
    bits: u32,
    width: usize,
    height: usize,
}

impl Square {
    /// A window of `size` buckets, a power of two.
    fn of(size: usize) -> Self {
        let bits = size.max(1).ilog2();
        let (low, high) = (bits.div_ceil(2), bits / 2);
        Self { bits: low, width: 1 << low, height: 1 << high }
    }

    /// The buckets that are not empty of all rows but the first, and of all columns, of every window.
    fn lines<T>(&self, buckets: &[Option<T>]) -> Lists {
        let &Self { width, height, .. } = self;
        let size = width * height;
        let full = |bucket: &usize| buckets.get(*bucket).is_some_and(Option::is_some);
        Lists::from_lists((0..buckets.len()).step_by(size).flat_map(|first| {
            let rows = (first..first + size).step_by(width).skip(1);
            let rows = rows.map(move |start| (start..start + width).step_by(1));
            let columns = first..first + width;
            let columns = columns.map(move |start| (start..first + size).step_by(width));
            rows.chain(columns).map(move |line| line.filter(full))
        }))
    }

    /// `Σ (i + 1) · bucket_i` of every window, given the sums of its lines.
    fn weigh(&self, lines: &[Option<Point>]) -> Vec<G1Projective> {
        let windows = lines.chunks_exact(self.width + self.height - 1);
        let weighed = windows.map(|lines| {
            let (rows, columns) = lines.split_at(self.height - 1);
            let mut sum = ladder(rows);
            for _ in 0..self.bits {
                sum.double_in_place();
            }
            sum + ladder(columns)
        });
        weighed.collect()
    }
}

/// `Σ (i + 1) · point_i`.
fn ladder(points: &[Option<Point>]) -> G1Projective {
    let (mut running, mut sum) = (G1Projective::ZERO, G1Projective::ZERO);
    for point in points.iter().rev() {
        if let Some(point) = point {
            running += point;
        }
        sum += &running;
    }
    sum
}

/// A point, its image under the endomorphism, and the inverses of both.
#[derive(Debug)]
struct Orbit {
    x: [Narrow; 2],
    y: [Narrow; 2],
}

impl Orbit {
    fn new(point: &Point) -> Self {
        let image = g1::Config::endomorphism_affine(point);
        Self { x: [&point.x, &image.x].map(narrow), y: [&point.y, &-point.y].map(narrow) }
    }

    /// The image if the second bit is set, its inverse if the first one is.
    fn get(&self, bits: u32) -> (&Narrow, &Narrow) {
        let ([x, image], [y, opposite]) = (&self.x, &self.y);
        (if bits & 2 == 0 { x } else { image }, if bits & 1 == 0 { y } else { opposite })
    }
}

/// `Σ scalar · point`, as far as the shorter list goes.
pub fn combine(points: &[Point], scalars: &[Scalar]) -> G1Projective {
    let mut orbits = Vec::with_capacity(points.len());
    let mut halves = Vec::with_capacity(2 * points.len());
    for (point, &scalar) in points.iter().zip(scalars) {
        if !point.is_zero() {
            orbits.push(Orbit::new(point));
            halves.extend(split(scalar));
        }
    }
    let count = halves.len().max(1);
    // In additions: into the buckets, of rows and columns of buckets, and what is left to weigh (see `Square`).
    let cost = |&width: &u32| {
        128_usize.div_ceil(width as usize) * (count + (1 << (width - 1)) + (7 << (width / 2)))
    };
    let width = (2..=12).min_by_key(cost).unwrap_or(WIDTH);
    let (windows, size) = (128_usize.div_ceil(width as usize), 1_usize << (width - 1));

    // The digits window by window, those of one window side by side.
    let mut table = vec![0_i32; windows * count];
    for (index, half) in halves.iter().enumerate() {
        let places = table.iter_mut().skip(index).step_by(count);
        let sign = if half.negative { -1 } else { 1 };
        places.zip(digits(half.magnitude, width)).for_each(|(place, digit)| *place = sign * digit);
    }
    let entries = table.chunks(count).zip((0..).step_by(size)).flat_map(|(digits, first)| {
        (0_u32..).step_by(2).zip(digits).filter_map(move |(item, &digit)| {
            let bucket = (digit.unsigned_abs() as usize).checked_sub(1)?;
            Some((first + bucket, item + u32::from(digit < 0)))
        })
    });
    let entries = Lists::new(windows * size, entries);
    let buckets = sums(&entries, |item| Some(orbits.get(item as usize / 4)?.get(item)));

    let mut sum = G1Projective::ZERO;
    for window in weigh(&buckets, size).iter().rev() {
        if !sum.is_zero() {
            for _ in 0..width {
                sum.double_in_place();
            }
        }
        sum += window;
    }
    sum
}

/// The first generators, so that whoever checks one proof need not derive them first; a test derives them anew.
static FIRST: &[u8] = include_bytes!("generators.bin");

fn kept(index: u64) -> Option<Point> {
    let (points, _) = FIRST.as_chunks::<64>();
    from_coordinates(points.get(usize::try_from(index).ok()?)?)
}

/// The value's generator, then those of `2^bits` columns (`bits ≤` [`MAX_COLUMN_BITS`]); kept for the process.
pub fn generators(bits: u32) -> &'static [Point] {
    static CACHE: [OnceLock<Vec<Point>>; MAX_COLUMN_BITS as usize + 1] =
        [const { OnceLock::new() }; MAX_COLUMN_BITS as usize + 1];
    let Some(cell) = CACHE.get(bits as usize) else { return &[] };
    cell.get_or_init(|| {
        let mut points =
            bits.checked_sub(1).map(|fewer| generators(fewer).to_vec()).unwrap_or_default();
        let known = points.len() as u64;
        points.extend((known..=1 << bits).map(|at| kept(at).unwrap_or_else(|| generator(at))));
        points
    })
}

/// A point and its inverse.
#[derive(Debug)]
struct Signed {
    x: Narrow,
    y: [Narrow; 2],
}

impl Signed {
    fn new(point: &Point) -> Self {
        Self { x: narrow(&point.x), y: [&point.y, &-point.y].map(narrow) }
    }

    /// The inverse if the first bit is set.
    fn get(&self, bits: u32) -> (&Narrow, &Narrow) {
        let [y, opposite] = &self.y;
        (&self.x, if bits & 1 == 0 { y } else { opposite })
    }
}

/// The generators and their multiples by powers of 256.
#[derive(Debug)]
pub struct Basis {
    /// Points in a level: the value's generator and the columns'.
    width: usize,
    /// Level `l` holds `2^(8l)` times the generators.
    table: Vec<Signed>,
}

/// What is put into buckets: the bucket, and twice the place in [`Basis::table`], plus 1 to subtract.
type Entries = Vec<(usize, u32)>;

impl Basis {
    /// The basis for `2^bits` columns, `bits ≤` [`MAX_COLUMN_BITS`] (above, it is empty); kept for the process.
    #[must_use]
    pub fn of(bits: u32) -> &'static Self {
        static CACHE: [OnceLock<Basis>; MAX_COLUMN_BITS as usize + 2] =
            [const { OnceLock::new() }; MAX_COLUMN_BITS as usize + 2];
        let bits = bits.min(MAX_COLUMN_BITS + 1);
        CACHE[bits as usize].get_or_init(|| Self::new(generators(bits)))
    }

    fn new(generators: &[Point]) -> Self {
        let mut table: Vec<_> = generators.iter().map(Signed::new).collect();
        let mut level: Vec<G1Projective> = generators.iter().map(|&point| point.into()).collect();
        for _ in 1..LEVELS {
            for point in &mut level {
                for _ in 0..WIDTH {
                    point.double_in_place();
                }
            }
            table.extend(G1Projective::normalize_batch(&level).iter().map(Signed::new));
        }
        Self { width: generators.len(), table }
    }

    /// `Σ scalar · generator` over pairs of a generator's index (0: the value's, then the columns') and a scalar.
    ///
    /// An index beyond the basis adds nothing.
    pub fn combine(&self, terms: impl IntoIterator<Item = (usize, Scalar)>) -> G1Projective {
        let mut entries = Entries::new();
        for (index, scalar) in terms {
            for (window, half) in split(scalar).into_iter().enumerate() {
                self.enter(&mut entries, window, index, half);
            }
        }
        match self.windows(2, &entries).as_slice() {
            [first, second] => *first + g1::Config::endomorphism(second),
            _ => G1Projective::ZERO,
        }
    }

    /// The commitment `Σ value_j · column_j` of every row of a matrix, given row by row; the last one may be short.
    #[must_use]
    pub fn rows(&self, values: &[i64]) -> Vec<Point> {
        let columns = self.width.saturating_sub(1).max(1);
        let mut entries = Entries::new();
        let mut sums = Vec::with_capacity(values.len().div_ceil(columns));
        for rows in values.chunks(columns.saturating_mul(ROWS)) {
            entries.clear();
            let mut count = 0;
            for row in rows.chunks(columns) {
                for (index, &value) in (1..).zip(row) {
                    let magnitude = value.unsigned_abs().into();
                    self.enter(&mut entries, count, index, Half { magnitude, negative: value < 0 });
                }
                count += 1;
            }
            sums.extend(self.windows(count, &entries));
        }
        G1Projective::normalize_batch(&sums)
    }

    /// Enters `factor` times a generator into the buckets of a window.
    fn enter(&self, entries: &mut Entries, window: usize, index: usize, factor: Half) {
        if index >= self.width {
            return;
        }
        let places = (index..self.table.len()).step_by(self.width);
        for (digit, place) in digits(factor.magnitude, WIDTH).zip(places) {
            if let (Some(bucket), Ok(place)) =
                ((digit.unsigned_abs() as usize).checked_sub(1), u32::try_from(place))
            {
                let subtract = factor.negative ^ (digit < 0);
                entries.push((window * BUCKETS + bucket, 2 * place + u32::from(subtract)));
            }
        }
    }

    fn windows(&self, count: usize, entries: &Entries) -> Vec<G1Projective> {
        let entries = Lists::new(count.saturating_mul(BUCKETS), entries.iter().copied());
        let buckets =
            sums_of_pieces(entries, |item| Some(self.table.get(item as usize / 2)?.get(item)));
        weigh(&buckets, BUCKETS)
    }
}

#[cfg(test)]
mod tests {
    use super::super::curve::{IDENTITY_POINT, coordinates};
    use super::*;
    use crate::field::Field;
    use ark_bn254::Fr;
    use ark_ff::{BigInt, PrimeField};

    fn sample(seed: u64) -> Scalar {
        let mut bytes = [0; 64];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        Scalar::from_uniform(&bytes)
    }

    fn awkward() -> Vec<Scalar> {
        let mut scalars: Vec<_> =
            [0, 1, -1, 2, 128, -128, 127, 129, 255, 256, 1 << 15, -(1 << 46), i64::MIN, i64::MAX]
                .map(Scalar::from_i64)
                .to_vec();
        // Near multiples of half the order, of λ and of the lattice's basis.
        let two = Scalar::from_i64(2).inverse().unwrap();
        let lambda = read(g1::Config::LAMBDA);
        for base in
            [two, lambda, lambda * two, read(Fr::from(A)), read(Fr::from(B)), read(Fr::from(C))]
        {
            for offset in -2..=2 {
                scalars.extend([base + Scalar::from_i64(offset), -base + Scalar::from_i64(offset)]);
            }
        }
        scalars.extend((0..200).map(sample));
        scalars
    }

    fn read(x: Fr) -> Scalar {
        let bytes: Vec<u8> = x.into_bigint().0.iter().flat_map(|limb| limb.to_le_bytes()).collect();
        Scalar::read(&bytes).unwrap()
    }

    fn ark(scalar: Scalar) -> Fr {
        Fr::from_bigint(BigInt(scalar.limbs())).unwrap()
    }

    #[test]
    fn scalars_split_into_short_halves() {
        for scalar in awkward() {
            let [a, b] = split(scalar);
            assert!(a.magnitude >> 127 == 0 && b.magnitude >> 127 == 0);
            let [a, b] = [a, b].map(|half| {
                let value = Fr::from(half.magnitude);
                if half.negative { -value } else { value }
            });
            assert_eq!(a + b * g1::Config::LAMBDA, ark(scalar));
        }
    }

    #[test]
    fn digits_spell_the_number() {
        for width in 2..=15 {
            for magnitude in
                [0, 1, 127, 128, 129, 255, 1 << 63, (1 << 127) - 1, 0x8080_8080, A, B, C]
            {
                let half = 1 << (width - 1);
                let digits: Vec<_> = digits(magnitude, width).collect();
                assert!(digits.len() <= 128_usize.div_ceil(width as usize));
                assert!(digits.iter().all(|&digit| -half < digit && digit <= half));
                let sum = digits
                    .iter()
                    .rev()
                    .fold(Fr::ZERO, |sum, &digit| sum * Fr::from(1 << width) + Fr::from(digit));
                assert_eq!(sum, Fr::from(magnitude));
            }
        }
    }

    #[test]
    fn sums_equal_naive_sums() {
        let scalars = awkward();
        let basis = Basis::of(8);
        let mut points = generators(8).to_vec();
        // Equal points, inverse points and the identity.
        points[3] = points[2];
        points[4] = -points[2];
        points[5] = IDENTITY_POINT;
        for count in [0, 1, 2, 7, 60, 200, 257] {
            let scalars: Vec<_> = scalars.iter().copied().cycle().skip(count).take(count).collect();
            let naive: G1Projective =
                points.iter().zip(&scalars).map(|(&point, &s)| point * ark(s)).sum();
            assert_eq!(combine(&points, &scalars), naive);
            let same = vec![points[7]; count];
            let naive: Fr = scalars.iter().map(|&s| ark(s)).sum();
            assert_eq!(combine(&same, &scalars), points[7] * naive);
            let naive: G1Projective =
                generators(8).iter().zip(&scalars).map(|(&point, &s)| point * ark(s)).sum();
            assert_eq!(basis.combine(scalars.iter().copied().enumerate()), naive);
        }
        assert_eq!(basis.combine([(257, Scalar::ONE)]), G1Projective::ZERO);
    }

    #[test]
    fn sums_of_awkward_points_are_right() {
        let [a, b] = [generator(1), generator(2)];
        let image = g1::Config::endomorphism_affine(&a);
        let lists: [&[Point]; 7] = [
            &[a],
            &[a, -a],
            &[a, a, -a, b],
            &[a, image],
            &[a, -image, image],
            &[a, IDENTITY_POINT],
            &[IDENTITY_POINT],
        ];
        let lambda = read(g1::Config::LAMBDA);
        let scalars: [&[Scalar]; 6] = [
            &[Scalar::ONE],
            &[-Scalar::ONE],
            &[Scalar::ZERO],
            &[lambda, -lambda, Scalar::ONE],
            &[sample(1)],
            &[sample(1), -sample(1), Scalar::ZERO, -Scalar::ONE, sample(2)],
        ];
        for points in lists {
            for scalars in scalars {
                // Long enough for a bucket of each window to be full of points that cannot simply be added.
                for count in [1, 2, 5, 70, 300] {
                    let points: Vec<_> = points.iter().copied().cycle().take(count).collect();
                    let scalars: Vec<_> = scalars.iter().copied().cycle().take(count).collect();
                    let naive: G1Projective =
                        points.iter().zip(&scalars).map(|(&point, &s)| point * ark(s)).sum();
                    assert_eq!(combine(&points, &scalars), naive);
                }
            }
        }
    }

    #[test]
    fn rows_equal_naive_rows() {
        let basis = Basis::of(3);
        let values: Vec<i64> = (0..8 * 19 - 3)
            .map(|i| match i % 11 {
                0 => i64::MIN,
                1 => i64::MAX,
                2 => 1 << 46,
                3 => -(1 << 46),
                4 => 0,
                _ => (i * 2_654_435_761) % 65_536 - 32_768,
            })
            .collect();
        let naive: Vec<Point> = values
            .chunks(8)
            .map(|row| {
                row.iter()
                    .zip(&generators(3)[1..])
                    .map(|(&v, &g)| g * Fr::from(v))
                    .sum::<G1Projective>()
                    .into_affine()
            })
            .collect();
        assert_eq!(basis.rows(&values), naive);
        assert_eq!(basis.rows(&[0; 9]), [IDENTITY_POINT; 2]);
        assert!(basis.rows(&[]).is_empty());
    }

    /// Small integers crowd in few buckets, or in one.
    #[test]
    fn skewed_rows_equal_naive_rows() {
        let basis = Basis::of(8);
        let columns = &generators(8)[1..];
        let kinds: [fn(i64) -> i64; 8] = [
            |_| 1,
            |_| 0,
            |i| i % 2,
            |i| i * i % 16 - 8,
            |i| (i * 40_503) % 1024,
            |_| -257,
            |i| if i == 77 { 1 << 46 } else { 0 },
            |i| if i % 50 == 0 { i64::MIN } else { i & 1 },
        ];
        let rows: Vec<Vec<i64>> =
            (0..20).map(|row| (0..256).map(kinds[row % 8]).collect()).collect();
        let naive: Vec<Point> = rows
            .iter()
            .map(|row| {
                let terms = row.iter().zip(columns).map(|(&v, &g)| g * Fr::from(v));
                terms.sum::<G1Projective>().into_affine()
            })
            .collect();
        assert_eq!(basis.rows(&rows.concat()), naive);
        for (row, naive) in rows.iter().zip(naive).take(8) {
            assert_eq!(basis.rows(row), [naive]);
            let terms = (1..).zip(row.iter().map(|&value| Scalar::from_i64(value)));
            assert_eq!(basis.combine(terms).into_affine(), naive);
        }
    }

    #[test]
    fn kept_generators_are_the_derived_ones() {
        let derived: Vec<Point> = (0..=512).map(generator).collect();
        let bytes: Vec<u8> = derived.iter().flat_map(coordinates).collect();
        if std::env::var_os("OG_REWRITE").is_some() {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/hyrax/generators.bin");
            std::fs::write(file, &bytes).unwrap();
        }
        assert!(FIRST == bytes, "generators.bin differs; OG_REWRITE=1 writes it");
        assert!((0..).zip(&derived).all(|(at, point)| kept(at) == Some(*point)));
        assert_eq!(kept(513), None);
    }

    #[test]
    fn generators_are_a_prefix_of_one_list() {
        let many = generators(6);
        assert_eq!(many.len(), 65);
        assert_eq!(many.get(..17), Some(generators(4)));
        for (index, point) in (0..).zip(many) {
            assert_eq!(*point, generator(index));
        }
    }
}
