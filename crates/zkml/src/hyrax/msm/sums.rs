//! The sums of many lists of points.

use super::super::curve::Point;
use super::super::loose::lanes::{Gaps, LANES, Lanes, Narrow, narrow, widen};
use ark_bn254::{Fq, G1Projective};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{AdditiveGroup, Field, Zero, batch_inversion};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Pieces of the longest lists, at least, if no piece is shorter than [`SHORT`].
const PIECES: usize = 512;

/// A length that no list is cut below.
const SHORT: usize = 4;

/// Fewest lists for which an inversion pays. What fewer lists still have to add, they add without.
const FEW: usize = 4 * LANES;

/// A point for [`Lanes`], not the identity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flat {
    x: Narrow,
    y: Narrow,
}

impl Flat {
    fn new(point: &Point) -> Self {
        Self { x: narrow(&point.x), y: narrow(&point.y) }
    }

    pub(super) fn point(&self) -> Point {
        point((&self.x, &self.y))
    }

    pub(super) fn coordinates(&self) -> (&Narrow, &Narrow) {
        (&self.x, &self.y)
    }
}

fn point((x, y): (&Narrow, &Narrow)) -> Point {
    Point::new_unchecked(widen(x), widen(y))
}

/// Lists of items, which stand for points.
#[derive(Debug)]
pub(super) struct Lists {
    /// The lists, one after another.
    items: Vec<u32>,
    /// Where each list ends.
    ends: Vec<usize>,
}

impl Lists {
    /// Puts items into `count` lists; of each, the index of its list is given.
    pub(super) fn new(count: usize, entries: impl Iterator<Item = (usize, u32)> + Clone) -> Self {
        let mut ends = vec![0; count];
        for (list, _) in entries.clone() {
            if let Some(length) = ends.get_mut(list) {
                *length += 1;
            }
        }
        let mut total = 0;
        for end in &mut ends {
            total += std::mem::replace(end, total);
        }
        // So far each list begins where its end is said to be; with every item the end moves.
        let mut items = vec![0; total];
        for (list, item) in entries {
            if let Some(end) = ends.get_mut(list) {
                if let Some(place) = items.get_mut(*end) {
                    *place = item;
                }
                *end += 1;
            }
        }
        Self { items, ends }
    }

    /// These lists.
    pub(super) fn from_lists(lists: impl Iterator<Item = impl Iterator<Item = usize>>) -> Self {
        let (mut items, mut ends) = (Vec::new(), Vec::new());
        for list in lists {
            items.extend(list.filter_map(|item| u32::try_from(item).ok()));
            ends.push(items.len());
        }
        Self { items, ends }
    }

    /// The lists.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.ends.iter().scan(0, |start, &end| self.items.get(std::mem::replace(start, end)..end))
    }

    /// These lists in pieces, and for each list the list of its pieces.
    fn cut(self) -> (Self, Self) {
        let longest = (self.items.len() / PIECES).max(SHORT);
        let (mut ends, mut lists) = (Vec::with_capacity(self.ends.len()), Vec::new());
        let mut start = 0;
        for end in self.ends {
            ends.extend((start + longest..end).step_by(longest));
            if start < end {
                ends.push(end);
            }
            lists.push(ends.len());
            start = end;
        }
        let pieces = (0..).zip(&ends).map(|(piece, _)| piece).collect();
        (Self { items: self.items, ends }, Self { items: pieces, ends: lists })
    }
}

/// The sum of the points of every list; `None` for the identity. No item stands for the identity.
///
/// The points at one place of all lists are added in one go, [`LANES`] at a time. Adding affine points takes an
/// inversion, which all of them share (Montgomery's trick), five multiplications and a squaring. The formula fails
/// for equal points and for opposite ones. Then, and when there are too few lists left to share an inversion, the
/// point has to wait, and is added in projective coordinates: the worst input costs about five times as much.
pub(super) fn sums<'a>(
    lists: &Lists,
    coordinates: impl Fn(u32) -> Option<(&'a Narrow, &'a Narrow)>,
) -> Vec<Option<Flat>> {
    // Longest first: the lists that have a point at some place are the first ones.
    let mut order: Vec<_> = lists.iter().enumerate().filter(|(_, list)| !list.is_empty()).collect();
    order.sort_unstable_by_key(|(_, list)| Reverse(list.len()));
    let mut running = Running::new(order.len());
    let firsts = order.iter().filter_map(|(_, list)| coordinates(*list.first()?));
    firsts.enumerate().for_each(|(at, first)| running.start(at, first));

    let mut waiting = Vec::new();
    for place in 1.. {
        let count = order.partition_point(|(_, list)| list.len() > place);
        let active = order.iter().take(count);
        if count < FEW {
            let rest = active
                .enumerate()
                .flat_map(|(at, (_, list))| list.iter().skip(place).map(move |&item| (at, item)));
            waiting.extend(rest);
            break;
        }
        for (at, (_, list)) in active.enumerate() {
            if let Some(point) = list.get(place).and_then(|&item| coordinates(item)) {
                running.next(at, point);
            }
        }
        let item = |at: usize| order.get(at).and_then(|(_, list)| list.get(place));
        waiting.extend(running.add(count).into_iter().filter_map(|at| Some((at, *item(at)?))));
    }

    let mut sums = vec![None; lists.ends.len()];
    let mut late = BTreeMap::new();
    for (at, item) in waiting {
        let sum: &mut G1Projective =
            late.entry(at).or_insert_with(|| running.get(at).point().into());
        if let Some(coordinates) = coordinates(item) {
            *sum += point(coordinates);
        }
    }
    for (at, (list, _)) in order.iter().enumerate() {
        if let Some(sum) = sums.get_mut(*list) {
            *sum = Some(running.get(at));
        }
    }
    let (places, late): (Vec<_>, Vec<_>) = late.into_iter().unzip();
    for (at, point) in places.into_iter().zip(G1Projective::normalize_batch(&late)) {
        if let Some(sum) = order.get(at).and_then(|(list, _)| sums.get_mut(*list)) {
            *sum = (!point.is_zero()).then(|| Flat::new(&point));
        }
    }
    sums
}

/// As [`sums`], but where some lists may be much longer than the others (small integers have few digits): they are cut
/// in pieces, and the sums of the pieces are summed again.
pub(super) fn sums_of_pieces<'a>(
    lists: Lists,
    coordinates: impl Fn(u32) -> Option<(&'a Narrow, &'a Narrow)>,
) -> Vec<Option<Flat>> {
    let (pieces, mut lists) = lists.cut();
    let mut parts = sums(&pieces, coordinates);
    while lists.iter().any(|list| list.len() > 1) {
        let part = |piece: usize| parts.get(piece).and_then(Option::as_ref);
        let full = lists.iter().map(|list| {
            list.iter().map(|&piece| piece as usize).filter(|&piece| part(piece).is_some())
        });
        let (pieces, next) = Lists::from_lists(full).cut();
        lists = next;
        parts = sums(&pieces, |piece| part(piece as usize).map(Flat::coordinates));
    }
    lists.iter().map(|list| parts.get(*list.first()? as usize).copied().flatten()).collect()
}

/// Points side by side.
#[derive(Clone, Copy, Debug)]
struct Points {
    x: Lanes,
    y: Lanes,
}

/// Additions side by side, until the inverse that they share is known.
#[derive(Clone, Copy, Debug)]
struct Step {
    added: Points,
    /// What the slopes are divided by; 1 in a lane that is idle.
    run: Gaps,
    /// The product of the runs before.
    before: Lanes,
    /// The lanes in which nothing is to be added, as bits.
    idle: u8,
}

/// Sums on their way.
#[derive(Debug)]
struct Running {
    sums: Vec<Points>,
    steps: Vec<Step>,
}

impl Running {
    fn new(count: usize) -> Self {
        let zero = Lanes::all(&Fq::ZERO);
        let points = Points { x: zero, y: zero };
        let step = Step { added: points, run: zero.gaps(&zero), before: zero, idle: 0 };
        let chunks = count.div_ceil(LANES);
        Self { sums: vec![points; chunks], steps: vec![step; chunks] }
    }

    /// The sum at a place.
    fn get(&self, at: usize) -> Flat {
        let points = &self.sums[at / LANES];
        Flat { x: points.x.get(at % LANES), y: points.y.get(at % LANES) }
    }

    /// Makes a point the sum at a place.
    fn start(&mut self, at: usize, (x, y): (&Narrow, &Narrow)) {
        let points = &mut self.sums[at / LANES];
        points.x.set(at % LANES, x);
        points.y.set(at % LANES, y);
    }

    /// Makes a point the next one that is added at a place.
    fn next(&mut self, at: usize, (x, y): (&Narrow, &Narrow)) {
        let points = &mut self.steps[at / LANES].added;
        points.x.set(at % LANES, x);
        points.y.set(at % LANES, y);
    }

    /// Adds the next points to the first `count` sums, but for the places that are returned: there, the points are
    /// equal or opposite.
    fn add(&mut self, count: usize) -> Vec<usize> {
        let one = narrow(&Fq::ONE);
        let chunks = count.div_ceil(LANES);
        for (step, sums) in self.steps.iter_mut().zip(&self.sums).take(chunks) {
            step.run = step.added.x.gaps(&sums.x);
            step.idle = 0;
        }
        for at in count..chunks * LANES {
            self.steps[at / LANES].rest(at % LANES, &one);
        }
        let mut failed = Vec::new();
        let mut products = self.products(chunks);
        if products.iter().any(Fq::is_zero) {
            for (chunk, step) in self.steps.iter_mut().take(chunks).enumerate() {
                for (lane, run) in step.run.coordinates().iter().enumerate() {
                    if run.is_zero() {
                        step.rest(lane, &one);
                        failed.push(chunk * LANES + lane);
                    }
                }
            }
            products = self.products(chunks);
        }
        batch_inversion(&mut products);

        let zero = Lanes::all(&Fq::ZERO);
        let mut inverse = Lanes::of(&products);
        for (step, sums) in self.steps.iter().zip(&mut self.sums).take(chunks).rev() {
            let own = inverse.times(&step.before);
            inverse = inverse.times_gaps(&step.run);
            let slope = own.times_gaps(&step.added.y.gaps(&sums.y));
            let mut x = slope.square().minus(&sums.x, &step.added.x);
            let mut y = slope.times_gaps(&sums.x.gaps(&x)).minus(&sums.y, &zero);
            for lane in (0..LANES).filter(|lane| step.idle >> lane & 1 == 1) {
                x.set(lane, &sums.x.get(lane));
                y.set(lane, &sums.y.get(lane));
            }
            *sums = Points { x, y };
        }
        failed
    }

    /// The product of all runs, lane by lane; every step keeps the product of those before it.
    fn products(&mut self, chunks: usize) -> [Fq; LANES] {
        let mut product = Lanes::all(&Fq::ONE);
        for step in self.steps.iter_mut().take(chunks) {
            step.before = product;
            product = product.times_gaps(&step.run);
        }
        product.coordinates()
    }
}

impl Step {
    /// Leaves a lane out.
    fn rest(&mut self, lane: usize, one: &Narrow) {
        self.run.set(lane, one);
        self.idle |= 1 << lane;
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::curve::generator;
    use super::*;

    /// The sums of lists of points, the naive way and ours.
    fn check(lists: &[Vec<Point>]) {
        let points: Vec<Flat> = lists.iter().flatten().map(Flat::new).collect();
        let mut items = 0..points.len();
        let indices = lists.iter().map(|list| items.by_ref().take(list.len()).collect::<Vec<_>>());
        let indices: Vec<Vec<usize>> = indices.collect();
        let lists_of_items = Lists::from_lists(indices.iter().map(|list| list.iter().copied()));
        let coordinates = |item: u32| Some(points[item as usize].coordinates());
        let at_once = sums(&lists_of_items, coordinates);
        for found in [at_once, sums_of_pieces(lists_of_items, coordinates)] {
            assert_eq!(found.len(), lists.len());
            for (list, found) in lists.iter().zip(found) {
                let expected = list.iter().sum::<G1Projective>().into_affine();
                assert_eq!(found.map_or_else(Point::zero, |sum| sum.point()), expected);
            }
        }
    }

    fn awkward() -> Vec<Vec<Point>> {
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(generator);
        let double = (a + a).into_affine();
        vec![
            vec![],
            vec![a],
            vec![a, b],
            vec![a, a],
            vec![a, -a],
            vec![a, -a, b],
            vec![a, a, a, a, a, a, a],
            vec![a, a, double, -a, c],
            vec![a, b, -a, -b, c, d, e],
            vec![a, b, -b, -a],
            vec![],
            vec![e, d, c, b, a, e, d, c, b, a, -e],
        ]
    }

    #[test]
    fn few_lists_are_summed() {
        check(&[]);
        check(&[vec![]]);
        check(&awkward());
    }

    #[test]
    fn many_lists_are_summed_with_doublings_and_inverses() {
        let points: Vec<Point> = (0..40).map(generator).collect();
        // Enough lists to be added side by side, of all lengths from 0 to 12, and in between those that fail.
        for count in [FEW - 1, FEW, FEW + 1, 50, 90] {
            let plain = (0..count).map(|list| {
                (0..list % 13 + 1).map(|at| points[(7 * list + 11 * at) % 40]).collect::<Vec<_>>()
            });
            let plain: Vec<_> = plain.collect();
            check(&plain);
            check(&[plain.clone(), awkward()].concat());
            check(&[awkward(), plain.clone(), awkward(), plain].concat());
        }
        // Long lists among short ones: they are cut, again and again.
        let long = |count: usize| (0..count).map(|at| points[7 * at % 40]).collect::<Vec<_>>();
        let pairs = [points[0], -points[0]].repeat(300);
        let lists = vec![long(3), long(2_000), vec![], vec![points[0]; 700], pairs, long(5)];
        check(&lists);
        check(&[lists.concat(), long(1)]);
        check(&[awkward(), lists, awkward()].concat());
        // Nothing but failures.
        check(&vec![vec![points[0]; 5]; 50]);
        check(&vec![vec![points[0], -points[0], points[1]]; 50]);
    }

    #[test]
    fn items_are_put_into_lists() {
        let entries = [(2, 7), (0, 1), (2, 8), (4, 3), (0, 2)];
        let lists = Lists::new(5, entries.into_iter());
        let expected: [&[u32]; 5] = [&[1, 2], &[], &[7, 8], &[], &[3]];
        assert!(lists.iter().eq(expected));
    }
}
