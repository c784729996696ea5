//! Choose rates, folds, queries and work for each size of vector.
//!
//! What is chosen by hand is the plan of each size: the rate of each code word, how many variables are folded before
//! the next one, and how close to Johnson's bound its distance lies. Everything else follows: queries, samples and
//! work are the least for which each way to cheat stays below its target, computed in integers.
//!
//! # Ways to cheat
//! Round-by-round soundness as in Theorem 5.2 of WHIR (ePrint 2024/1586), with `ℓ_i` words within the distance `δ_i`
//! of code word `i` (of `n_i` variables, `t_i` queries, `s_i` samples outside the domain), `e` exceptional
//! challenges of a fold (both in `soundness.rs`), and `|F| = p²`:
//!
//! | Name | Bound | Target |
//! |---|---|---|
//! | two near words share all samples, of the commitment or of a round | `ℓ_i²/2 · (2^n_i/|F|)^s_i` | `2^-105.5`, `2^-106` from 20 variables on |
//! | the combination of the claims hides a false one | `ℓ_0 · 2/|F|`, later `ℓ_(i+1) · (t_i + s_(i+1))/|F|` | none, far below |
//! | a fold | `(3·ℓ_i + e)/|F| · 2^-work` | `2^-105.5`, `2^-106` from 20 variables on |
//! | all queries miss | `(1-δ_i)^t_i · 2^-work` | `2^-106` |
//!
//! The sum of all is below `2^-101.5` for every size, and that of the three openings of a proof of mode S below `2^-100`; a test
//! checks both. Work counts because whoever wants another
//! challenge must do it again; it is credited only to the challenge it precedes. The commitment's own samples make
//! the committed word unique before the point of an opening is known, so that no later term is multiplied by the
//! number of words near it, and a publisher cannot answer for one model today and for another tomorrow.

use super::soundness::{self, Bound};
use crate::scheme::{MAX_VARIABLES, MIN_VARIABLES, Term};

/// Up to this many variables the vector itself is the opening: 8 KiB are less than any code word's queries.
pub const DIRECT_VARIABLES: u32 = 10;

/// Samples outside the domain that belong to the commitment and single out one of the code words near it.
pub(crate) const COMMITMENT_SAMPLES: usize = 2;

/// Bits of work before the queries of a code word.
const QUERY_WORK: u32 = 14;

/// Twice the bits below which the chance of all queries missing a false word is kept.
const QUERY_TARGET_HALVES: i32 = 212;

/// Twice the bits below which every other way to cheat is kept; long vectors take more folds.
const fn target_halves(vector: u32) -> i32 {
    if vector < 20 { 211 } else { 212 }
}

/// Most samples outside the domain that are tried.
const MAX_SAMPLES: usize = 4;

/// Folds, logarithm of the inverse rate, and multiplicity of each code word in turn.
type Plan = &'static [(u32, u32, u32)];

/// The plan of each size that has a code word; found by a search for the shortest opening, some speed weighed in.
const PLANS: [(u32, Plan); 14] = [
    (11, &[(4, 6, 3)]),
    (12, &[(5, 6, 3)]),
    (13, &[(4, 5, 4), (2, 5, 7)]),
    (14, &[(4, 4, 5), (3, 5, 6)]),
    (15, &[(5, 4, 4), (3, 5, 6)]),
    (16, &[(5, 4, 4), (4, 5, 6)]),
    (17, &[(5, 4, 4), (3, 4, 6), (2, 5, 7)]),
    (18, &[(5, 4, 4), (3, 4, 6), (3, 5, 6)]),
    (19, &[(5, 3, 5), (4, 4, 5), (3, 5, 7)]),
    (20, &[(5, 2, 6), (4, 3, 8), (4, 5, 6)]),
    (21, &[(5, 2, 5), (3, 3, 7), (3, 4, 6), (3, 5, 7)]),
    (22, &[(5, 2, 4), (4, 3, 7), (3, 4, 7), (3, 5, 7)]),
    (23, &[(5, 2, 4), (4, 2, 8), (4, 4, 6), (3, 5, 7)]),
    (24, &[(6, 2, 3), (4, 2, 8), (4, 4, 6), (3, 5, 7)]),
];

/// One code word: what is folded, asked and paid before the next one takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Variables of the polynomial it encodes.
    pub variables: u32,
    /// Variables folded; a leaf of the tree holds `2^folds` elements.
    pub folds: u32,
    /// Logarithm of the inverse rate.
    pub rate: u32,
    /// `m`: the distance is `1 - √ρ·(1 + 1/m)`.
    pub multiplicity: u32,
    /// Samples outside the domain taken when it was committed to.
    pub samples: usize,
    /// Queries, repetitions included.
    pub queries: usize,
    /// Bits of work before the queries.
    pub query_work: u32,
    /// Bits of work before each folding challenge.
    pub fold_work: Vec<u32>,
}

impl Round {
    /// Logarithm of the number of leaves.
    #[must_use]
    pub const fn depth(&self) -> u32 {
        self.variables - self.folds + self.rate
    }

    /// Elements in a leaf.
    #[must_use]
    pub const fn width(&self) -> usize {
        1 << self.folds
    }

    /// Variables left after its folds.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.variables - self.folds
    }

    /// How many words of its code are near.
    fn list(&self) -> Bound {
        soundness::list_size(self.rate, self.multiplicity)
    }

    /// That two of the near words agree on all samples.
    fn sampling(&self, samples: usize) -> Bound {
        let list = self.list();
        let degree = Bound::new(1 << self.variables).times(soundness::field_inverse());
        list.times(list).shifted(-1).times(degree.power(samples))
    }

    /// That the folding challenge after `done` folds helps: the sumcheck's polynomial (of degree 2, but the theorem
    /// takes at least 3) meets the right one for a word of the list, or two far words fold to a near one.
    fn folding(&self, done: u32) -> Bound {
        let length = self.variables - done - 1 + self.rate;
        self.list()
            .times(Bound::new(3))
            .plus(soundness::exceptions(length, self.rate, self.multiplicity))
            .times(soundness::field_inverse())
    }

    /// That every query misses.
    fn missing(&self, queries: usize) -> Bound {
        soundness::agreement(self.rate, self.multiplicity).power(queries)
    }
}

/// All the parameters for one size of vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Variables of the committed vector.
    pub variables: u32,
    /// The code words in turn; none when the vector itself is sent.
    pub rounds: Vec<Round>,
}

impl Parameters {
    /// The parameters of a vector of `2^variables` elements; `None` beyond `4..=24`.
    #[must_use]
    pub fn new(variables: u32) -> Option<Self> {
        if !(MIN_VARIABLES..=MAX_VARIABLES).contains(&variables) {
            return None;
        }
        let mut rounds = Vec::new();
        if variables > DIRECT_VARIABLES {
            let (_, plan) = PLANS.iter().find(|(size, _)| *size == variables)?;
            let mut left = variables;
            for &(folds, rate, multiplicity) in *plan {
                let first = rounds.is_empty();
                let target = Bound::half_power(-target_halves(variables));
                rounds.push(round(left, folds, rate, multiplicity, first, target)?);
                left = left.checked_sub(folds)?;
            }
        }
        Some(Self { variables, rounds })
    }

    /// Variables of the polynomial sent in the end.
    #[must_use]
    pub fn last_variables(&self) -> u32 {
        self.rounds.last().map_or(self.variables, Round::left)
    }

    /// Every way to cheat, with a bound on its probability.
    #[must_use]
    pub fn security(&self) -> Vec<Term> {
        let inverse = soundness::field_inverse();
        let mut terms = Vec::new();
        let Some(first) = self.rounds.first() else { return terms };
        terms.push(
            first
                .sampling(first.samples)
                .term("whir: two near words share the commitment's samples"),
        );
        let claims = Bound::new(COMMITMENT_SAMPLES as u64);
        terms.push(
            first
                .list()
                .times(claims)
                .times(inverse)
                .term("whir: the claims' combination hides a false one"),
        );
        for (index, round) in self.rounds.iter().enumerate() {
            for (done, &work) in (0..round.folds).zip(&round.fold_work) {
                let bound = round.folding(done).shifted(-i32::try_from(work).unwrap_or(0));
                terms.push(bound.term("whir: a fold"));
            }
            let queries =
                round.missing(round.queries).shifted(-i32::try_from(round.query_work).unwrap_or(0));
            let Some(next) = self.rounds.get(index + 1) else {
                terms.push(queries.term("whir: the last queries miss"));
                break;
            };
            terms.push(
                next.sampling(next.samples).term("whir: two near words share a round's samples"),
            );
            terms.push(queries.term("whir: a round's queries miss"));
            let claims = Bound::new((round.queries + next.samples) as u64);
            terms.push(
                next.list()
                    .times(claims)
                    .times(inverse)
                    .term("whir: a round's combination hides a false claim"),
            );
        }
        terms
    }
}

fn round(
    variables: u32,
    folds: u32,
    rate: u32,
    multiplicity: u32,
    first: bool,
    target: Bound,
) -> Option<Round> {
    let mut round = Round {
        variables,
        folds,
        rate,
        multiplicity,
        samples: COMMITMENT_SAMPLES,
        queries: 0,
        query_work: QUERY_WORK,
        fold_work: Vec::new(),
    };
    if !first {
        round.samples =
            (1..=MAX_SAMPLES).find(|&samples| round.sampling(samples).at_most(target))?;
    }
    for done in 0..folds {
        let bound = round.folding(done);
        let work = (0..=32).find(|&work| bound.shifted(-work).at_most(target))?;
        round.fold_work.push(work.unsigned_abs());
    }
    let miss = Bound::half_power(2 * i32::try_from(QUERY_WORK).ok()? - QUERY_TARGET_HALVES);
    let share = soundness::agreement(rate, multiplicity);
    let mut missing = Bound::new(1);
    while !missing.at_most(miss) {
        if round.queries == MAX_QUERIES {
            return None;
        }
        missing = missing.times(share);
        round.queries += 1;
    }
    Some(round)
}

/// Most queries a code word may ask for.
const MAX_QUERIES: usize = 512;
