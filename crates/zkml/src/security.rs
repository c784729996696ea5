//! Add up what a proof's soundness rests on.
//!
//! Each way to cheat is bounded by a [`Term`]; a proof's error is at most their sum (union bound over all rounds of
//! the proof). A verifier refuses parameters whose sum leaves fewer than [`MIN_BITS`] bits. This is the statistical
//! error of the interactive protocol, round by round; turning it into a hash-based proof assumes BLAKE3 behaves like
//! a random oracle, and a prover that makes `q` hash calls has `q` attempts at a round. A scheme may rest on a
//! computational assumption besides, which is named next to the bound and not counted in it.
//!
//! No floating point: terms are `numerator · 2^-exponent`, and every rounding is upwards.

use crate::field::Field;
use crate::qir::Program;
use crate::scheme::{Scheme, Term};
use crate::succinct::{DEGREE, Plan, Sizes, Weights};
use crate::trace::Variables;

/// Fewest bits of statistical soundness a proof may have.
pub const MIN_BITS: u32 = 100;

/// What a proof's soundness adds up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// The terms that were added.
    pub terms: Vec<Term>,
    /// The error of the whole proof is below `2^-bits`.
    pub bits: u32,
    /// The computational assumption beside it.
    pub assumption: &'static str,
}

/// Too little soundness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the parameters give {bits} bits of soundness, fewer than {MIN_BITS}")]
pub struct TooWeak {
    /// The bits there are.
    pub bits: u32,
}

/// The sum for mode T over scheme `S`: `nodes` linear nodes whose accumulators have at most `variables` index
/// variables (with the batch's), and `n` variables of weights.
///
/// # Errors
/// When fewer than [`MIN_BITS`] bits remain.
pub fn trace<S: Scheme>(nodes: usize, variables: u32, n: u32) -> Result<Security, TooWeak> {
    let degree = (nodes as u64).saturating_sub(1).saturating_add(u64::from(variables));
    let mut terms = vec![
        Term {
            name: "combining the accumulators of all nodes",
            numerator: degree,
            exponent: S::F::BITS,
        },
        Term { name: "sumcheck", numerator: 2 * u64::from(n), exponent: S::F::BITS },
    ];
    terms.extend(S::security(n));
    sum::<S>(terms)
}

/// The sum for mode S over scheme `S`.
///
/// # Errors
/// When fewer than [`MIN_BITS`] bits remain.
pub fn succinct<S: Scheme>(
    program: &Program,
    plan: &Plan,
    sizes: &Sizes,
) -> Result<Security, TooWeak> {
    let nodes = program.linears().count() as u64;
    let combined = u64::from(Variables::of(program, plan.batch()).total());
    let field = |name, numerator| Term { name, numerator, exponent: S::F::BITS };
    let mut terms = vec![
        field("combining the accumulators of all nodes", nodes.saturating_sub(1) + combined),
        field("sumcheck over products", 2 * u64::from(plan.product_variables())),
        field("combining the claims", Weights::<S::F>::count(plan) as u64),
        field("sumcheck", 2 * u64::from(sizes.widest)),
    ];
    if plan.has_sites() {
        let variables = u64::from(plan.constraint_variables());
        // A challenge at which two different sums of fractions agree, or at which a fraction has no value.
        let looked_up = 2 * (4 * plan.groups() + plan.table());
        terms.extend([
            field("lookup of limbs", looked_up as u64),
            field("combining the constraints", 4 + variables),
            field("sumcheck over the constraints", (DEGREE as u64 + 1) * variables),
        ]);
    }
    for size in [Some(sizes.weights), sizes.trace, sizes.helpers].into_iter().flatten() {
        terms.extend(S::security(size));
    }
    sum::<S>(terms)
}

fn sum<S: Scheme>(terms: Vec<Term>) -> Result<Security, TooWeak> {
    let bits = total_bits(&terms);
    if bits < MIN_BITS {
        Err(TooWeak { bits })
    } else {
        Ok(Security { terms, bits, assumption: S::assumption() })
    }
}

/// The largest `b ≤ 1000` such that the terms sum to at most `2^-b`.
#[must_use]
pub fn total_bits(terms: &[Term]) -> u32 {
    const PRECISION: u32 = 40;
    let live = terms.iter().filter(|term| term.numerator > 0);
    let Some(least) = live.clone().map(|term| term.exponent).min() else { return 1000 };
    // The sum in units of 2^-(least + PRECISION), each term rounded up.
    let sum = live.fold(0_u128, |sum, term| {
        let numerator = u128::from(term.numerator);
        let units = match (term.exponent - least).checked_sub(PRECISION) {
            None => numerator << (PRECISION - (term.exponent - least)),
            Some(shift) => (numerator >> shift.min(127)).saturating_add(1),
        };
        sum.saturating_add(units)
    });
    let ceiling_log = 128 - sum.saturating_sub(1).leading_zeros();
    least.saturating_add(PRECISION).saturating_sub(ceiling_log).min(1000)
}

#[cfg(test)]
mod tests {
    use super::{MIN_BITS, Term, total_bits, trace};
    use crate::hyrax::Hyrax;
    use crate::scheme::{MAX_VARIABLES, MIN_VARIABLES};
    use crate::whir::Whir;

    fn term(numerator: u64, exponent: u32) -> Term {
        Term { name: "", numerator, exponent }
    }

    #[test]
    fn terms_add_up_and_round_against_us() {
        for (terms, bits) in [
            (vec![], 1000),
            (vec![term(0, 3)], 1000),
            (vec![term(1, 100)], 100),
            (vec![term(1, 100), term(1, 100)], 99),
            (vec![term(1, 100), term(1, 101), term(1, 101)], 99),
            (vec![term(1, 100), term(1, 101), term(1, 102)], 99),
            (vec![term(3, 102)], 100),
            (vec![term(3, 102), term(1, 102)], 100),
            (vec![term(3, 102), term(2, 102)], 99),
            (vec![term(1, 100), term(1, 900)], 99),
            (vec![term(u64::MAX, 164)], 100),
        ] {
            assert_eq!(total_bits(&terms), bits, "{terms:?}");
        }
    }

    #[test]
    fn every_size_of_both_backends_is_strong_enough_and_no_program_can_weaken_it_unnoticed() {
        for n in MIN_VARIABLES..=MAX_VARIABLES {
            let (h, w) =
                (trace::<Hyrax>(1000, 60, n).unwrap(), trace::<Whir>(1000, 60, n).unwrap());
            assert!(h.bits >= 240 && w.bits >= MIN_BITS, "n = {n}: {} and {}", h.bits, w.bits);
            assert!(h.assumption.contains("discrete logarithms") && h.assumption.contains("BN254"));
        }
        assert!(trace::<Whir>(1 << 30, 60, 16).unwrap_err().bits < MIN_BITS);
    }
}
