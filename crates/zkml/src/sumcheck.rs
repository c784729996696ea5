//! Check sums over a hypercube.
//!
//! The sumcheck protocol (Lund, Fortnow, Karloff, Nisan, FOCS '90) for `Σ_i w_i · L_i`, the product of two
//! multilinear polynomials. Each round's polynomial `h` has degree 2 and satisfies `h(0) + h(1) = claim`; the prover
//! sends `h(0)` and the coefficient of `X²`, which determine it. After `n` rounds the claim is about one point.
//!
//! A false claim survives a round with probability at most `2 / |F|`: two different polynomials of degree 2 agree on
//! at most two points.

use crate::field::Field;
use crate::transcript::{Label, TranscriptError, Verifier};

/// The messages of the rounds.
pub const ROUND: Label = Label::new("sumcheck.round");

/// The challenges of the rounds.
pub const CHALLENGE: Label = Label::new("sumcheck.challenge");

/// Receives `n` rounds for `claim` and returns the point and what the product must be there.
///
/// # Errors
/// When a round is missing or not canonical. A wrong round is not noticed here: it makes the last claim false.
pub fn verify<F: Field>(
    claim: F,
    n: u32,
    transcript: &mut Verifier<'_>,
) -> Result<(Vec<F>, F), TranscriptError> {
    let mut claim = claim;
    let mut point = Vec::with_capacity(n as usize);
    for _ in 0..n {
        let round = transcript.receive::<F>(ROUND, 2)?;
        let &[at_zero, leading] = round.as_slice() else {
            return Err(TranscriptError::Truncated(ROUND.name()));
        };
        let r = transcript.challenge(CHALLENGE);
        claim = next(claim, at_zero, leading, r);
        point.push(r);
    }
    Ok((point, claim))
}

/// `h(r)` of the polynomial of degree 2 with `h(0) + h(1) = claim`, given `h(0)` and its leading coefficient.
pub fn next<F: Field>(claim: F, at_zero: F, leading: F, r: F) -> F {
    let at_one = claim - at_zero;
    let middle = at_one - at_zero - leading;
    at_zero + r * (middle + r * leading)
}
