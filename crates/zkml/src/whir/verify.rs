//! Check an opening.

use super::field::{Goldilocks, Goldilocks2};
use super::parameters::{Parameters, Round};
use super::tree::{self, Digest};
use super::{Commitment, code, message};
use crate::field::Field;
use crate::scheme::SchemeError;
use crate::transcript::Verifier;

type F = Goldilocks2;

/// A linear claim about the vector that is being folded.
struct Claim {
    /// Its weight in the sum, with what the bound variables contributed.
    weight: F,
    form: Form,
}

/// Which functional of the vector a claim is about.
enum Form {
    /// The multilinear extension at a point; the lowest variable is last.
    Point(Vec<F>),
    /// `Σ_i w_i z^i`.
    Power(F),
}

impl Claim {
    /// Binds the lowest variable.
    fn fold(&mut self, challenge: F) {
        let factor = match &mut self.form {
            Form::Point(point) => {
                let x = point.pop().unwrap_or(F::ZERO);
                // (1-c)(1-x) + c·x
                let both = challenge * x;
                F::ONE - challenge - x + both + both
            }
            Form::Power(z) => {
                let factor = F::ONE - challenge + challenge * *z;
                *z = z.square();
                factor
            }
        };
        self.weight *= factor;
    }

    /// What the vector contributes to the sum.
    fn of(&self, vector: &[F]) -> F {
        self.weight
            * match &self.form {
                Form::Point(point) => extension(vector.to_vec(), point),
                Form::Power(z) => horner(vector, *z),
            }
    }
}

/// `Σ_i vector_i z^i`.
fn horner(vector: &[F], z: F) -> F {
    vector.iter().rev().fold(F::ZERO, |sum, &coefficient| sum * z + coefficient)
}

/// The multilinear extension of a vector at a point; the lowest variable is last.
fn extension(mut vector: Vec<F>, point: &[F]) -> F {
    for &x in point.iter().rev() {
        vector =
            vector.as_chunks::<2>().0.iter().map(|&[low, high]| low + x * (high - low)).collect();
    }
    vector.first().copied().unwrap_or(F::ZERO)
}

/// `table[j] = Π_s (bit s of j ? x_s : 1 - x_s)`, the lowest variable first.
fn tensor(point: &[F]) -> Vec<F> {
    let mut table = Vec::with_capacity(1 << point.len());
    table.push(F::ONE);
    for &x in point {
        let high: Vec<F> = table.iter().map(|&entry| entry * x).collect();
        for (low, &high) in table.iter_mut().zip(&high) {
            *low -= high;
        }
        table.extend(high);
    }
    table
}

/// Checks an opening of a commitment; see [`super`] for the protocol.
pub(super) fn verify(
    commitment: &Commitment,
    point: &[F],
    value: F,
    transcript: &mut Verifier<'_>,
) -> Result<(), SchemeError> {
    let variables = commitment.variables;
    let parameters = Parameters::new(variables)
        .ok_or(SchemeError::Commitment("no vector has that many variables"))?;
    if point.len() != variables as usize {
        return Err(SchemeError::Point { found: point.len(), expected: variables as usize });
    }
    if parameters.rounds.is_empty() {
        return verify_vector(commitment, point, value, transcript);
    }

    let combine: F = transcript.challenge(message::COMBINE);
    let mut claims = vec![Claim { weight: F::ONE, form: Form::Point(point.to_vec()) }];
    let mut sum = value;
    let mut weight = F::ONE;
    for (z, answer) in commitment.samples() {
        weight *= combine;
        claims.push(Claim { weight, form: Form::Power(z) });
        sum += weight * answer;
    }

    let mut root = commitment.root;
    for (index, round) in parameters.rounds.iter().enumerate() {
        let challenges = fold(round, &mut claims, &mut sum, transcript)?;
        if let Some(next) = parameters.rounds.get(index + 1) {
            let next_root = transcript.receive_array(message::ROOT)?;
            let points: Vec<F> = transcript.challenges(message::SAMPLE, next.samples);
            let answers: Vec<F> = transcript.receive(message::ANSWER, next.samples)?;
            let rows = query(round, index == 0, &root, &challenges, transcript)?;
            let combine: F = transcript.challenge(message::COMBINE);
            let mut weight = F::ONE;
            for (z, answer) in points.into_iter().zip(answers).chain(rows) {
                weight *= combine;
                claims.push(Claim { weight, form: Form::Power(z) });
                sum += weight * answer;
            }
            root = next_root;
        } else {
            let last: Vec<F> =
                transcript.receive(message::LAST, 1 << parameters.last_variables())?;
            for (z, answer) in query(round, index == 0, &root, &challenges, transcript)? {
                if horner(&last, z) != answer {
                    return Err(SchemeError::Rejected("a row is not the last vector's"));
                }
            }
            let found = claims.iter().fold(F::ZERO, |found, claim| found + claim.of(&last));
            return if found == sum {
                Ok(())
            } else {
                Err(SchemeError::Rejected("the last vector's sum is wrong"))
            };
        }
    }
    Err(SchemeError::Malformed("no code word is left"))
}

/// The vector itself is the opening.
fn verify_vector(
    commitment: &Commitment,
    point: &[F],
    value: F,
    transcript: &mut Verifier<'_>,
) -> Result<(), SchemeError> {
    let length = Goldilocks::BYTES << commitment.variables;
    let bytes = transcript.receive_bytes(message::VECTOR, length)?;
    if tree::leaf(bytes) != commitment.root {
        return Err(SchemeError::Rejected("the vector is not the one committed to"));
    }
    let vector =
        bytes.chunks_exact(Goldilocks::BYTES).map(|bytes| Goldilocks::read(bytes).map(F::from));
    let vector: Vec<F> =
        vector.collect::<Option<_>>().ok_or(SchemeError::Malformed("an element is not reduced"))?;
    if extension(vector, point) == value {
        Ok(())
    } else {
        Err(SchemeError::Rejected("the vector has another value"))
    }
}

/// The sumcheck rounds of a code word; returns the challenges, lowest variable first.
fn fold(
    round: &Round,
    claims: &mut [Claim],
    sum: &mut F,
    transcript: &mut Verifier<'_>,
) -> Result<Vec<F>, SchemeError> {
    let mut challenges = Vec::with_capacity(round.fold_work.len());
    for &work in &round.fold_work {
        let constant: F = transcript.receive_one(message::SUMCHECK)?;
        let square: F = transcript.receive_one(message::SUMCHECK)?;
        transcript.check_work(message::FOLD_WORK, work)?;
        let challenge: F = transcript.challenge(message::FOLD);
        // h(0) + h(1) is the sum, and h(1) - h(0) the sum of the other coefficients.
        let linear = *sum - constant - constant - square;
        *sum = constant + challenge * (linear + challenge * square);
        for claim in claims.iter_mut() {
            claim.fold(challenge);
        }
        challenges.push(challenge);
    }
    Ok(challenges)
}

/// Asks for rows; returns their points, and their extensions' values at the challenges.
fn query(
    round: &Round,
    base: bool,
    root: &Digest,
    challenges: &[F],
    transcript: &mut Verifier<'_>,
) -> Result<Vec<(F, F)>, SchemeError> {
    transcript.check_work(message::QUERY_WORK, round.query_work)?;
    let depth = round.depth();
    let mut places = transcript.indices(message::QUERY, round.queries, depth);
    places.sort_unstable();
    places.dedup();

    let row_len = round.width() * if base { Goldilocks::BYTES } else { F::BYTES };
    let rows = transcript.receive_bytes(message::ROWS, places.len() * row_len)?;
    let given = transcript.receive_bytes(message::PATHS, tree::opening_len(&places, depth) * 32)?;
    let leaves = places.iter().copied().zip(rows.chunks_exact(row_len).map(tree::leaf)).collect();
    if tree::root(leaves, depth, given.as_chunks().0) != Some(*root) {
        return Err(SchemeError::Rejected("rows do not lead to the root"));
    }

    let table = tensor(challenges);
    let outer = Goldilocks::root(depth).ok_or(SchemeError::Malformed("no domain is that fine"))?;
    let malformed = SchemeError::Malformed("an element is not reduced");
    let mut answers = Vec::with_capacity(places.len());
    for (&place, row) in places.iter().zip(rows.chunks_exact(row_len)) {
        let value = if base { base_row(row, &table) } else { extension_row(row, &table) };
        let z = code::point(outer, place, depth);
        answers.push((F::from(z), value.ok_or_else(|| malformed.clone())?));
    }
    Ok(answers)
}

fn base_row(row: &[u8], table: &[F]) -> Option<F> {
    let mut elements = row.chunks_exact(Goldilocks::BYTES).map(Goldilocks::read);
    table.iter().try_fold(F::ZERO, |sum, &entry| Some(sum + entry * elements.next()??))
}

fn extension_row(row: &[u8], table: &[F]) -> Option<F> {
    let mut elements = row.chunks_exact(F::BYTES).map(F::read);
    table.iter().try_fold(F::ZERO, |sum, &entry| Some(sum + entry * elements.next()??))
}
