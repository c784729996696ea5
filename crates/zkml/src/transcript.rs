//! Derive challenges from all that was said.
//!
//! A proof is the prover's half of a conversation; the verifier's half is a hash of everything before it
//! (Fiat and Shamir, CRYPTO '86). Proof systems have been broken by forgetting to hash a part of the statement or
//! a message. Here neither can be written:
//!
//! * a transcript begins with the whole [`Statement`]; there is no constructor without it;
//! * the prover's one way of putting bytes into a proof absorbs them in the same call, and the verifier's one way of
//!   taking bytes out does the same;
//! * [`Verifier::finish`] refuses a proof that was not consumed to the last byte.
//!
//! # Bytes
//! The state is 32 bytes. With `u64` little endian for `len`:
//! ```text
//! absorb:    state ← BLAKE3(state ‖ 0x01 ‖ len(label) ‖ label ‖ len(data) ‖ data)
//! challenge: new state ‖ challenge bytes ← XOF of BLAKE3(state ‖ 0x02 ‖ len(label) ‖ label ‖ len(request))
//! ```
//! A field element takes 64 bytes of the challenge ([`Field::from_uniform`]), an index 8, of which the low bits
//! count. No length is ever read from a proof: every receiver knows from the statement how much must come.

use crate::field::Field;
use crate::model::Digests;
use crate::scheme::{Backend, Mode};

/// Version of the protocol; part of every statement.
pub const VERSION: u16 = 1;

/// The key-derivation context of the first state.
const CONTEXT: &str = "og.zkml.transcript.v1";

/// Most bits of work a transcript is asked for.
const MAX_WORK: u32 = 40;

/// The name of a message or a challenge, for domain separation.
///
/// Each module declares its own as constants, prefixed by the module's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(&'static str);

impl Label {
    /// A label: lower case, the module's name first (`whir.root`).
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// All that a proof is about; absorbed before the first challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// How the weights are committed to.
    pub backend: Backend,
    /// Which protocol.
    pub mode: Mode,
    /// What the model's id is computed from: program, weights, both commitments (all rows of H, root and shape of
    /// W), parameters.
    pub digests: &'a Digests,
    /// Length of the committed vector before padding.
    pub weight_count: u64,
    /// How many inferences the proof covers.
    pub batch: u32,
    /// Canonical bytes of all inputs.
    pub inputs: &'a [u8],
    /// Canonical bytes of all outputs.
    pub outputs: &'a [u8],
}

/// Why a proof's bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    /// The proof ends inside the named message.
    #[error("the proof ends inside `{0}`")]
    Truncated(&'static str),
    /// A number in the named message is not in canonical form.
    #[error("`{0}` holds a number that is not canonical")]
    NotCanonical(&'static str),
    /// The work asked for was not done.
    #[error("`{0}` does not show the work asked for")]
    Work(&'static str),
    /// Bytes follow the last message.
    #[error("{0} bytes follow the proof")]
    Trailing(usize),
}

/// The running hash.
#[derive(Clone, Debug)]
struct Chain {
    state: [u8; 32],
}

impl Chain {
    fn new(statement: &Statement<'_>) -> Self {
        let Statement { backend, mode, digests, weight_count, batch, inputs, outputs } = *statement;
        let mut chain = Self { state: blake3::derive_key(CONTEXT, &VERSION.to_le_bytes()) };
        chain.absorb(Label("statement.backend"), &[backend.code()]);
        chain.absorb(Label("statement.mode"), &[mode.code()]);
        chain.absorb(Label("statement.model"), &digests.model_id().0);
        chain.absorb(Label("statement.digests"), &digests.encode());
        chain.absorb(Label("statement.count"), &weight_count.to_le_bytes());
        chain.absorb(Label("statement.batch"), &batch.to_le_bytes());
        chain.absorb(Label("statement.inputs"), inputs);
        chain.absorb(Label("statement.outputs"), outputs);
        chain
    }

    fn absorb(&mut self, label: Label, data: &[u8]) {
        let mut hasher = self.labelled(1, label);
        hasher.update(&(data.len() as u64).to_le_bytes());
        hasher.update(data);
        self.state = *hasher.finalize().as_bytes();
    }

    /// The stream of `length` challenge bytes; the state moves on.
    fn squeeze(&mut self, label: Label, length: usize) -> blake3::OutputReader {
        let mut hasher = self.labelled(2, label);
        hasher.update(&(length as u64).to_le_bytes());
        let mut stream = hasher.finalize_xof();
        stream.fill(&mut self.state);
        stream
    }

    fn labelled(&self, tag: u8, label: Label) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.state);
        hasher.update(&[tag]);
        hasher.update(&(label.0.len() as u64).to_le_bytes());
        hasher.update(label.0.as_bytes());
        hasher
    }

    fn challenges<F: Field>(&mut self, label: Label, count: usize) -> Vec<F> {
        let mut stream = self.squeeze(label, count.saturating_mul(64));
        let mut block = [0; 64];
        (0..count)
            .map(|_| {
                stream.fill(&mut block);
                F::from_uniform(&block)
            })
            .collect()
    }

    fn challenge<F: Field>(&mut self, label: Label) -> F {
        let mut block = [0; 64];
        self.squeeze(label, 64).fill(&mut block);
        F::from_uniform(&block)
    }

    fn indices(&mut self, label: Label, count: usize, bits: u32) -> Vec<usize> {
        let mask = 1_u32.checked_shl(bits).unwrap_or(0).wrapping_sub(1);
        let mut stream = self.squeeze(label, count.saturating_mul(8));
        let mut block = [0; 8];
        (0..count)
            .map(|_| {
                stream.fill(&mut block);
                let [a, b, c, d, ..] = block;
                (u32::from_le_bytes([a, b, c, d]) & mask) as usize
            })
            .collect()
    }

    fn work_seed(&mut self, label: Label) -> [u8; 32] {
        let mut seed = [0; 32];
        self.squeeze(label, 32).fill(&mut seed);
        seed
    }
}

/// Whether `nonce` shows `bits` of work over `seed`: so many leading zero bits of `BLAKE3(seed ‖ nonce)`.
#[must_use]
pub fn work_holds(seed: &[u8; 32], nonce: u64, bits: u32) -> bool {
    let mut message = [0; 40];
    let (head, tail) = message.split_at_mut(32);
    head.copy_from_slice(seed);
    tail.copy_from_slice(&nonce.to_le_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(&message).as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).leading_zeros() >= bits
}

/// One scalar, digest or nonce of a proof: what a mutation test must touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The message it belongs to.
    pub label: Label,
    /// Where it begins in the proof.
    pub offset: usize,
    /// How many bytes it takes.
    pub length: usize,
}

/// The prover's side: what is sent is absorbed.
#[derive(Debug)]
pub struct Prover {
    chain: Chain,
    proof: Vec<u8>,
    leaves: Option<Vec<Leaf>>,
}

impl Prover {
    /// Begins a proof of a statement.
    #[must_use]
    pub fn new(statement: &Statement<'_>) -> Self {
        Self { chain: Chain::new(statement), proof: Vec::new(), leaves: None }
    }

    /// Also keeps a map of the proof's leaves, for tests.
    #[must_use]
    pub fn with_leaves(mut self) -> Self {
        self.leaves = Some(Vec::new());
        self
    }

    /// Sends field elements.
    pub fn send<F: Field>(&mut self, label: Label, elements: &[F]) {
        let start = self.proof.len();
        for element in elements {
            element.write(&mut self.proof);
        }
        self.sent(label, start, F::BYTES);
    }

    /// Sends bytes as leaves of `leaf` bytes each (a digest, a packed integer, a point).
    ///
    /// The receiver must know the length.
    pub fn send_bytes(&mut self, label: Label, bytes: &[u8], leaf: usize) {
        self.send_parts(label, &[(bytes, leaf)]);
    }

    /// Sends one message of several parts: bytes, and the length of their leaves.
    pub fn send_parts(&mut self, label: Label, parts: &[(&[u8], usize)]) {
        let begin = self.proof.len();
        for &(bytes, leaf) in parts {
            let start = self.proof.len();
            self.proof.extend_from_slice(bytes);
            self.map(label, start, leaf);
        }
        self.chain.absorb(label, self.proof.get(begin..).unwrap_or_default());
    }

    /// Absorbs and maps what was appended since `start`.
    fn sent(&mut self, label: Label, start: usize, leaf: usize) {
        self.chain.absorb(label, self.proof.get(start..).unwrap_or_default());
        self.map(label, start, leaf);
    }

    /// Maps what was appended since `start`.
    fn map(&mut self, label: Label, start: usize, leaf: usize) {
        let message = self.proof.get(start..).unwrap_or_default();
        if let Some(leaves) = &mut self.leaves {
            let mut offset = start;
            for piece in message.chunks(leaf.max(1)) {
                leaves.push(Leaf { label, offset, length: piece.len() });
                offset += piece.len();
            }
        }
    }

    /// One challenge.
    pub fn challenge<F: Field>(&mut self, label: Label) -> F {
        self.chain.challenge(label)
    }

    /// `count` challenges at once.
    pub fn challenges<F: Field>(&mut self, label: Label, count: usize) -> Vec<F> {
        self.chain.challenges(label, count)
    }

    /// `count` uniform indices below `2^bits`, `bits ≤ 31`; repetitions stay.
    pub fn indices(&mut self, label: Label, count: usize, bits: u32) -> Vec<usize> {
        self.chain.indices(label, count, bits)
    }

    /// Searches and sends the least nonce that shows `bits` of work (at most 40); nothing at all for 0 bits.
    pub fn prove_work(&mut self, label: Label, bits: u32) {
        self.prove_work_by(label, bits, |seed, bits| {
            (0..u64::MAX).find(|&nonce| work_holds(seed, nonce, bits)).unwrap_or_default()
        });
    }

    /// [`Prover::prove_work`] with the search given by the caller (for instance one that runs on all cores).
    pub fn prove_work_by(
        &mut self,
        label: Label,
        bits: u32,
        search: impl FnOnce(&[u8; 32], u32) -> u64,
    ) {
        let bits = bits.min(MAX_WORK);
        if bits > 0 {
            let seed = self.chain.work_seed(label);
            self.send_bytes(label, &search(&seed, bits).to_le_bytes(), 8);
        }
    }

    /// Length of the proof so far, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.proof.len()
    }

    /// Whether nothing was sent yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.proof.is_empty()
    }

    /// The proof, and the map of its leaves if one was kept.
    #[must_use]
    pub fn finish(self) -> (Vec<u8>, Vec<Leaf>) {
        (self.proof, self.leaves.unwrap_or_default())
    }
}

/// The verifier's side: what is received is absorbed.
#[derive(Debug)]
pub struct Verifier<'a> {
    chain: Chain,
    rest: &'a [u8],
}

impl<'a> Verifier<'a> {
    /// Begins to read a proof of a statement.
    #[must_use]
    pub fn new(statement: &Statement<'_>, proof: &'a [u8]) -> Self {
        Self { chain: Chain::new(statement), rest: proof }
    }

    /// Receives `count` field elements.
    ///
    /// # Errors
    /// When the proof is too short (before anything is allocated), or an element is not canonical.
    pub fn receive<F: Field>(
        &mut self,
        label: Label,
        count: usize,
    ) -> Result<Vec<F>, TranscriptError> {
        let length = count.checked_mul(F::BYTES).ok_or(TranscriptError::Truncated(label.0))?;
        let bytes = self.receive_bytes(label, length)?;
        bytes
            .chunks_exact(F::BYTES)
            .map(|bytes| F::read(bytes).ok_or(TranscriptError::NotCanonical(label.0)))
            .collect()
    }

    /// Receives one field element.
    ///
    /// # Errors
    /// As [`Verifier::receive`].
    pub fn receive_one<F: Field>(&mut self, label: Label) -> Result<F, TranscriptError> {
        let bytes = self.receive_bytes(label, F::BYTES)?;
        F::read(bytes).ok_or(TranscriptError::NotCanonical(label.0))
    }

    /// Receives `length` bytes; their canonical form is the caller's to check.
    ///
    /// # Errors
    /// When the proof is too short.
    pub fn receive_bytes(
        &mut self,
        label: Label,
        length: usize,
    ) -> Result<&'a [u8], TranscriptError> {
        let (bytes, rest) =
            self.rest.split_at_checked(length).ok_or(TranscriptError::Truncated(label.0))?;
        self.chain.absorb(label, bytes);
        self.rest = rest;
        Ok(bytes)
    }

    /// Receives an array of bytes (a digest, a point).
    ///
    /// # Errors
    /// When the proof is too short.
    pub fn receive_array<const N: usize>(
        &mut self,
        label: Label,
    ) -> Result<[u8; N], TranscriptError> {
        let bytes = self.receive_bytes(label, N)?;
        bytes.try_into().map_err(|_| TranscriptError::Truncated(label.0))
    }

    /// One challenge.
    pub fn challenge<F: Field>(&mut self, label: Label) -> F {
        self.chain.challenge(label)
    }

    /// `count` challenges at once; `count` must not come from the proof.
    pub fn challenges<F: Field>(&mut self, label: Label, count: usize) -> Vec<F> {
        self.chain.challenges(label, count)
    }

    /// `count` uniform indices below `2^bits`, `bits ≤ 31`; repetitions stay.
    pub fn indices(&mut self, label: Label, count: usize, bits: u32) -> Vec<usize> {
        self.chain.indices(label, count, bits)
    }

    /// Checks the work that [`Prover::prove_work`] showed.
    ///
    /// # Errors
    /// When the nonce is missing or does not show the work.
    pub fn check_work(&mut self, label: Label, bits: u32) -> Result<(), TranscriptError> {
        let bits = bits.min(MAX_WORK);
        if bits == 0 {
            return Ok(());
        }
        let seed = self.chain.work_seed(label);
        let nonce = u64::from_le_bytes(self.receive_array(label)?);
        if work_holds(&seed, nonce, bits) { Ok(()) } else { Err(TranscriptError::Work(label.0)) }
    }

    /// Bytes of the proof not received yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Ends the conversation.
    ///
    /// # Errors
    /// When bytes are left.
    pub fn finish(self) -> Result<(), TranscriptError> {
        if self.rest.is_empty() { Ok(()) } else { Err(TranscriptError::Trailing(self.rest.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Label, Prover, Statement, TranscriptError, Verifier, work_holds};
    use crate::field::Field;
    use crate::hyrax::Scalar;
    use crate::model::Digests;
    use crate::scheme::{Backend, Mode};
    use crate::whir::Goldilocks2;

    const A: Label = Label::new("test.a");
    const B: Label = Label::new("test.b");
    const DIGESTS: Digests = Digests {
        program: [1; 32],
        weights: [2; 32],
        hyrax: [3; 32],
        whir: [4; 32],
        parameters: [5; 32],
    };
    const STATEMENT: Statement<'static> = Statement {
        backend: Backend::Hyrax,
        mode: Mode::Trace,
        digests: &DIGESTS,
        weight_count: 6,
        batch: 7,
        inputs: &[8],
        outputs: &[9, 10],
    };

    #[test]
    fn both_sides_hear_the_same() {
        let mut prover = Prover::new(&STATEMENT).with_leaves();
        prover.send(A, &[Scalar::from_i64(-5), Scalar::ONE]);
        let first: Scalar = prover.challenge(A);
        prover.send_bytes(B, b"abcdef", 3);
        prover.prove_work(B, 6);
        let rest = prover.challenges::<Goldilocks2>(B, 3);
        let indices = prover.indices(A, 20, 5);
        assert!(indices.iter().all(|&index| index < 32));
        let (proof, leaves) = prover.finish();
        assert_eq!(leaves.iter().map(|leaf| leaf.length).collect::<Vec<_>>(), [32, 32, 3, 3, 8]);

        let mut verifier = Verifier::new(&STATEMENT, &proof);
        assert_eq!(verifier.receive::<Scalar>(A, 2).unwrap(), [Scalar::from_i64(-5), Scalar::ONE]);
        assert_eq!(verifier.challenge::<Scalar>(A), first);
        assert_eq!(verifier.receive_bytes(B, 6).unwrap(), b"abcdef");
        verifier.check_work(B, 6).unwrap();
        assert_eq!(verifier.challenges::<Goldilocks2>(B, 3), rest);
        assert_eq!(verifier.indices(A, 20, 5), indices);
        assert_eq!(verifier.remaining(), 0);
        assert_eq!(verifier.receive_one::<Scalar>(A), Err(TranscriptError::Truncated("test.a")));
        verifier.finish().unwrap();
        assert_eq!(
            Verifier::new(&STATEMENT, &proof).finish(),
            Err(TranscriptError::Trailing(proof.len()))
        );
    }

    #[test]
    fn every_part_of_a_statement_and_of_a_message_changes_the_challenge() {
        let challenge = |statement: &Statement<'_>, say: &dyn Fn(&mut Prover)| {
            let mut prover = Prover::new(statement);
            say(&mut prover);
            prover.challenge::<Scalar>(A)
        };
        let nothing = |_: &mut Prover| {};
        let mut all = vec![challenge(&STATEMENT, &nothing)];
        all.push(challenge(&Statement { backend: Backend::Whir, ..STATEMENT }, &nothing));
        all.push(challenge(&Statement { weight_count: 7, ..STATEMENT }, &nothing));
        all.push(challenge(&Statement { batch: 6, ..STATEMENT }, &nothing));
        all.push(challenge(&Statement { inputs: &[8, 9], outputs: &[10], ..STATEMENT }, &nothing));
        all.push(challenge(&Statement { inputs: &[], outputs: &[9, 10], ..STATEMENT }, &nothing));
        for index in 0..160 {
            let mut bytes = DIGESTS.encode();
            bytes[index] ^= 1;
            all.push(challenge(
                &Statement { digests: &Digests::decode(&bytes), ..STATEMENT },
                &nothing,
            ));
        }
        all.push(challenge(&STATEMENT, &|p| p.send_bytes(A, b"", 1)));
        all.push(challenge(&STATEMENT, &|p| p.send_bytes(B, b"", 1)));
        all.push(challenge(&STATEMENT, &|p| p.send_bytes(A, b"ab", 1)));
        all.push(challenge(&STATEMENT, &|p| {
            p.send_bytes(A, b"a", 1);
            p.send_bytes(A, b"b", 1);
        }));
        all.push(challenge(&STATEMENT, &|p| _ = p.challenge::<Scalar>(A)));
        all.push(challenge(&STATEMENT, &|p| _ = p.challenges::<Scalar>(A, 2)));
        all.push(challenge(&STATEMENT, &|p| _ = p.challenge::<Scalar>(B)));
        for (i, a) in all.iter().enumerate() {
            assert!(!all[..i].contains(a), "statement {i} is like another");
        }
    }

    #[test]
    fn numbers_that_are_not_reduced_are_refused() {
        let proof = [0xff; 64];
        let refused = TranscriptError::NotCanonical("test.a");
        assert_eq!(Verifier::new(&STATEMENT, &proof).receive_one::<Scalar>(A), Err(refused));
        assert_eq!(Verifier::new(&STATEMENT, &proof).receive_one::<Goldilocks2>(A), Err(refused));
        assert_eq!(
            Verifier::new(&STATEMENT, &proof).receive::<Scalar>(A, usize::MAX),
            Err(TranscriptError::Truncated("test.a"))
        );
    }

    #[test]
    fn work_is_checked() {
        let mut prover = Prover::new(&STATEMENT);
        prover.prove_work(A, 12);
        let (proof, _) = prover.finish();
        Verifier::new(&STATEMENT, &proof).check_work(A, 12).unwrap();
        let nonce = u64::from_le_bytes(proof[..].try_into().unwrap());
        let idle = (nonce + 1).to_le_bytes();
        assert_eq!(
            Verifier::new(&STATEMENT, &idle).check_work(A, 12),
            Err(TranscriptError::Work("test.a"))
        );
        let nothing = Verifier::new(&STATEMENT, &[]).check_work(A, 0);
        assert_eq!(nothing, Ok(()));
        assert!(work_holds(&[0; 32], 0, 0));
    }
}
