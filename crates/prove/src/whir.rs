//! Open commitments that are code words over Goldilocks (backend W).
//!
//! The protocol is described where it is verified, in [`og_zkml::whir`]. The prover keeps the code word and its tree
//! from the commitment, so that an opening encodes only what it has folded.

mod encode;
mod fold;

use crate::opener::{Claimed, Numbers, OpenError, Opener};
use encode::CodeWord;
use fold::Sum;
use og_zkml::field::Field;
use og_zkml::scheme::{self, Scheme, SchemeError};
use og_zkml::transcript::{Prover, work_holds};
use og_zkml::whir::parameters::Round;
use og_zkml::whir::{
    Commitment, Goldilocks, Goldilocks2 as F, Parameters, Whir, embed, message, tree,
};
use rayon::prelude::*;
use std::sync::Arc;

/// The prover's half of [`Whir`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WhirOpener;

/// The vector, its code word and its tree.
#[derive(Debug)]
pub struct Cached {
    parameters: Parameters,
    commitment: Commitment,
    elements: Vec<Goldilocks>,
    /// None when the vector itself is the opening.
    word: Option<CodeWord>,
}

impl Cached {
    /// Commits to a vector that is padded to its full length.
    fn new(elements: Vec<Goldilocks>) -> Result<Self, OpenError> {
        let size = SchemeError::Size(elements.len());
        let parameters =
            Parameters::new(scheme::variables(elements.len())?).ok_or_else(|| size.clone())?;
        let word = match parameters.rounds.first() {
            Some(round) => Some(CodeWord::new(&elements, round, 1).ok_or(size)?),
            None => None,
        };
        let root = word.as_ref().map_or_else(|| tree::row(&elements), CodeWord::root);
        let commitment = Commitment::with_root(&elements, root)?;
        Ok(Self { parameters, commitment, elements, word })
    }
}

impl Opener for WhirOpener {
    type S = Whir;
    type Cached = Cached;

    fn prepare(values: Arc<[i64]>) -> Result<(Commitment, Cached), OpenError> {
        let cached = Cached::new(embed(&values)?)?;
        Ok((cached.commitment.clone(), cached))
    }

    fn send(
        numbers: Numbers<'_, F>,
        _widest: u32,
        transcript: &mut Prover,
    ) -> Result<Cached, OpenError> {
        let elements = match numbers {
            Numbers::Integers(values) => embed(values)?,
            Numbers::Elements(elements) => {
                let length = elements.len().saturating_mul(Whir::COORDINATES);
                let mut flat = fold::flat(elements);
                flat.resize(1 << scheme::variables(length)?, Goldilocks::ZERO);
                flat
            }
        };
        let cached = Cached::new(elements)?;
        let bytes = Whir::encode(&cached.commitment);
        let (root, answers) = bytes.split_at_checked(32).unwrap_or((&bytes, &[]));
        transcript.send_parts(message::COMMITMENT, &[(root, 32), (answers, F::BYTES)]);
        Ok(cached)
    }

    fn open_all(openings: &[Claimed<'_, Self>], transcript: &mut Prover) -> Result<(), OpenError> {
        for &(Cached { parameters, commitment, elements, word }, point, _) in openings {
            let expected = commitment.variables() as usize;
            if point.len() != expected {
                return Err(SchemeError::Point { found: point.len(), expected }.into());
            }
            if let Some(word) = word {
                open(parameters, commitment, elements.clone(), word, point, transcript)?;
            } else {
                let bytes: Vec<u8> =
                    elements.iter().flat_map(|element| element.to_bytes()).collect();
                transcript.send_bytes(message::VECTOR, &bytes, Goldilocks::BYTES);
            }
        }
        Ok(())
    }
}

/// The opening of a vector that has a code word.
fn open(
    parameters: &Parameters,
    commitment: &Commitment,
    elements: Vec<Goldilocks>,
    word: &CodeWord,
    point: &[F],
    transcript: &mut Prover,
) -> Result<(), OpenError> {
    let combine: F = transcript.challenge(message::COMBINE);
    let samples: Vec<(F, F)> =
        commitment.samples().into_iter().map(|(z, _)| z).zip(powers(combine)).map(swap).collect();
    let mut sum = Sum::new(elements, point, &samples);
    let mut current: Option<CodeWord> = None;
    for (index, round) in parameters.rounds.iter().enumerate() {
        reduce(round, &mut sum, transcript);
        let folded = sum.vector();
        let word = current.as_ref().unwrap_or(word);
        let Some(next) = parameters.rounds.get(index + 1) else {
            transcript.send(message::LAST, &folded);
            query(round, word, transcript)?;
            break;
        };
        let next_word = CodeWord::new(&fold::flat(&folded), next, 2)
            .ok_or(OpenError::Cached("no domain is that fine"))?;
        transcript.send_bytes(message::ROOT, &next_word.root(), 32);
        let points: Vec<F> = transcript.challenges(message::SAMPLE, next.samples);
        let answers: Vec<F> = points.iter().map(|&z| fold::horner(&folded, z)).collect();
        transcript.send(message::ANSWER, &answers);
        let rows = query(round, word, transcript)?;
        let mut weights = powers(transcript.challenge(message::COMBINE));
        let points: Vec<_> = points.into_iter().zip(weights.by_ref()).map(swap).collect();
        let rows: Vec<_> = rows.into_iter().zip(weights).map(swap).collect();
        sum.add(&points);
        sum.add_base(&rows);
        current = Some(next_word);
    }
    Ok(())
}

/// The powers of a challenge, beginning with the first: the weights of claims.
fn powers(combine: F) -> impl Iterator<Item = F> {
    std::iter::successors(Some(combine), move |&weight| Some(weight * combine))
}

fn swap<A, B>((a, b): (A, B)) -> (B, A) {
    (b, a)
}

/// The sumcheck rounds of a code word.
fn reduce(round: &Round, sum: &mut Sum, transcript: &mut Prover) {
    for &work in &round.fold_work {
        let (constant, square) = sum.polynomial();
        transcript.send(message::SUMCHECK, &[constant]);
        transcript.send(message::SUMCHECK, &[square]);
        transcript.prove_work_by(message::FOLD_WORK, work, search);
        sum.bind(transcript.challenge(message::FOLD));
    }
}

/// Sends the rows that are asked for; returns their points.
fn query(
    round: &Round,
    word: &CodeWord,
    transcript: &mut Prover,
) -> Result<Vec<Goldilocks>, OpenError> {
    transcript.prove_work_by(message::QUERY_WORK, round.query_work, search);
    let mut places = transcript.indices(message::QUERY, round.queries, round.depth());
    places.sort_unstable();
    places.dedup();
    let (rows, paths) = word.open(&places).ok_or(OpenError::Cached("a row is missing"))?;
    let bytes: Vec<u8> = rows.iter().flat_map(|element| element.to_bytes()).collect();
    transcript.send_bytes(message::ROWS, &bytes, word.element_bytes());
    transcript.send_bytes(message::PATHS, paths.as_flattened(), 32);
    Ok(places.iter().map(|&place| word.point(place)).collect())
}

/// The least nonce that shows so many bits of work.
fn search(seed: &[u8; 32], bits: u32) -> u64 {
    /// Nonces tried between two looks at the result.
    const BATCH: u64 = 1 << 13;
    (0..u64::MAX / BATCH)
        .find_map(|batch| {
            let nonces = batch * BATCH..(batch + 1) * BATCH;
            nonces.into_par_iter().find_first(|&nonce| work_holds(seed, nonce, bits))
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
