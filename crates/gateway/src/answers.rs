//! Answers kept for clients that ask again with the payment they already made.
//!
//! They are kept in memory, and, unless the client chose mode `private`, in a file that survives a restart, sealed
//! under a key that only the request itself yields: the host that keeps the file has neither the prompt nor the
//! permit's signature before it is settled. After settlement the seal is as strong as the prompt is hard to guess,
//! which is why `private` answers are never written.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use og_x402::PaymentId;
use sha2::{Digest, Sha256};

/// An answer as it was sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// Whether it is an SSE stream; otherwise it is one JSON document.
    pub stream: bool,
    /// All bytes of the body, keep-alives left out.
    pub body: Bytes,
}

/// What only the client and the enclave know about a request before it is settled.
#[derive(Clone)]
pub struct SealingKey([u8; 32]);

impl SealingKey {
    /// Derives the key from the exact body bytes and the permit's signature.
    pub fn derive(body: &[u8], permit_signature: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"_OG_ANSWER_SEAL");
        hasher.update(Sha256::digest(permit_signature));
        hasher.update(body);
        Self(hasher.finalize().into())
    }

    fn aead(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, &self.0).ok().map(LessSafeKey::new)
    }
}

/// The answers kept.
#[derive(Debug)]
pub struct Answers {
    folder: PathBuf,
    bytes_max: usize,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    answers: HashMap<PaymentId, Answer>,
    order: VecDeque<PaymentId>,
    bytes: usize,
}

impl Answers {
    /// Keeps up to `bytes_max` bytes in memory and files in `folder`.
    pub fn new(folder: &Path, bytes_max: usize) -> Self {
        Self { folder: folder.join("answers"), bytes_max, recent: Mutex::default() }
    }

    /// Keeps an answer in memory.
    pub fn remember(&self, payment: PaymentId, answer: Answer) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.bytes = recent.bytes.saturating_add(answer.body.len());
        if let Some(before) = recent.answers.insert(payment, answer) {
            recent.bytes = recent.bytes.saturating_sub(before.body.len());
        } else {
            recent.order.push_back(payment);
        }
        while recent.bytes > self.bytes_max {
            let Some(oldest) = recent.order.pop_front() else { break };
            if let Some(gone) = recent.answers.remove(&oldest) {
                recent.bytes = recent.bytes.saturating_sub(gone.body.len());
            }
        }
    }

    /// Writes an answer to its sealed file. Blocks; a failure only means that a restart forgets the answer.
    pub fn save(&self, payment: PaymentId, answer: &Answer, key: &SealingKey) {
        if let Err(error) = self.try_save(payment, answer, key) {
            tracing::warn!(%error, "an answer could not be written");
        }
    }

    fn try_save(
        &self,
        payment: PaymentId,
        answer: &Answer,
        key: &SealingKey,
    ) -> std::io::Result<()> {
        let mut bytes = vec![u8::from(answer.stream)];
        bytes.extend_from_slice(&answer.body);
        let aead = key.aead().ok_or_else(|| std::io::Error::other("sealing failed"))?;
        // A key seals one answer only, so the nonce need not vary.
        aead.seal_in_place_append_tag(
            Nonce::assume_unique_for_key([0; 12]),
            Aad::from(payment.0.as_slice()),
            &mut bytes,
        )
        .map_err(|_| std::io::Error::other("sealing failed"))?;
        std::fs::create_dir_all(&self.folder)?;
        let path = self.path(payment);
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, &bytes)?;
        std::fs::rename(&fresh, &path)
    }

    /// The answer of a payment, from memory or from its file. Blocks on a file.
    pub fn find(&self, payment: PaymentId, key: &SealingKey) -> Option<Answer> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = recent.answers.get(&payment) {
            return Some(answer.clone());
        }
        drop(recent);
        let mut bytes = std::fs::read(self.path(payment)).ok()?;
        let opened = key
            .aead()?
            .open_in_place(
                Nonce::assume_unique_for_key([0; 12]),
                Aad::from(payment.0.as_slice()),
                &mut bytes,
            )
            .ok()?;
        let (stream, body) = opened.split_first()?;
        Some(Answer { stream: *stream == 1, body: Bytes::copy_from_slice(body) })
    }

    /// Drops files older than `age_secs`. Blocks.
    pub fn sweep(&self, age_secs: u64) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let age = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .map(|modified| modified.elapsed().unwrap_or_default());
            if age.is_ok_and(|age| age.as_secs() > age_secs) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, payment: PaymentId) -> PathBuf {
        self.folder.join(hex::encode(payment.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> PaymentId {
        PaymentId(alloy_primitives::B256::repeat_byte(n))
    }

    #[test]
    fn a_file_opens_only_for_the_same_request_and_payment() {
        let folder = tempfile::tempdir().unwrap();
        let answer = Answer { stream: true, body: Bytes::from_static(b"data: x\n\n") };
        let key = SealingKey::derive(b"body", b"signature");
        Answers::new(folder.path(), 1000).save(id(1), &answer, &key);
        let fresh = Answers::new(folder.path(), 1000);
        assert_eq!(fresh.find(id(1), &key), Some(answer));
        assert_eq!(fresh.find(id(2), &key), None);
        assert_eq!(fresh.find(id(1), &SealingKey::derive(b"body2", b"signature")), None);
        assert_eq!(fresh.find(id(1), &SealingKey::derive(b"body", b"signature2")), None);
        let file = std::fs::read(folder.path().join("answers").join(hex::encode(id(1).0))).unwrap();
        assert!(!file.windows(4).any(|window| window == b"data"));
    }

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let folder = tempfile::tempdir().unwrap();
        let answers = Answers::new(folder.path(), 25);
        let answer = Answer { stream: false, body: Bytes::from_static(b"0123456789") };
        let key = SealingKey::derive(b"", b"");
        for n in 1..=3 {
            answers.remember(id(n), answer.clone());
        }
        assert_eq!(answers.find(id(1), &key), None);
        assert!(answers.find(id(2), &key).is_some() && answers.find(id(3), &key).is_some());
    }
}
