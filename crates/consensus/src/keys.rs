//! Keys of a validator.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bytes::Bytes;
use commonware_codec::{DecodeExt as _, Encode as _};
use commonware_cryptography::bls12381::primitives::group::Private;
use commonware_cryptography::bls12381::primitives::ops;
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_cryptography::{Hasher as _, Sha256, Signer as _, ed25519};
use og_light::Validator;
use og_primitives::domain;

use crate::error::Error;

/// First line of a key file.
const FILE_MAGIC: &str = "og-validator-keys-v1";

/// The two secrets of a validator: its peer-to-peer identity (Ed25519) and the key it votes with (BLS12-381).
#[derive(Clone)]
pub struct ValidatorKeys {
    pub(crate) identity: ed25519::PrivateKey,
    pub(crate) voting: Private,
}

impl ValidatorKeys {
    /// Derives the keys with number `index` from a seed. The seed must be 32 bytes of good randomness, unless the
    /// keys are for a devnet.
    pub fn from_seed(seed: &[u8; 32], index: u32) -> Self {
        let derive = |purpose: &[u8]| {
            Sha256::hash(&[
                domain::VALIDATOR_POSSESSION,
                b"_KEYGEN",
                purpose,
                seed,
                &index.to_be_bytes(),
            ])
            .0
        };
        let identity = derive(b"identity");
        let mut round = 0_u8;
        loop {
            let mut voting = derive(&[b"voting".as_slice(), &[round]].concat());
            // Scalars are below 2^255; without the top bit, nine in ten candidates are in range.
            voting[0] &= 0x7f;
            if let Some(keys) = Self::from_secrets(&identity, &voting) {
                return keys;
            }
            round = round.wrapping_add(1);
        }
    }

    /// Reads a key file.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`] when it cannot be read, [`Error::KeyFile`] when it is not a key file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let wrong = |reason| Error::KeyFile { path: path.into(), reason };
        let text = fs::read_to_string(path)
            .map_err(|source| Error::Storage { path: path.into(), source })?;
        let mut lines = text.lines();
        if lines.next() != Some(FILE_MAGIC) {
            return Err(wrong("does not begin with og-validator-keys-v1"));
        }
        let mut secret =
            || -> Option<[u8; 32]> { hex::decode(lines.next()?).ok()?.try_into().ok() };
        let (identity, voting) =
            (secret().ok_or(wrong("no identity key"))?, secret().ok_or(wrong("no voting key"))?);
        if lines.next().is_some() {
            return Err(wrong("has more than three lines"));
        }
        Self::from_secrets(&identity, &voting).ok_or(wrong("keys are out of range"))
    }

    /// Writes a new key file that only its owner can read. An existing file is never overwritten.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`].
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let text = format!(
            "{FILE_MAGIC}\n{}\n{}\n",
            hex::encode(self.identity.encode()),
            hex::encode(self.voting.encode())
        );
        let write = || {
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|source| Error::Storage { path: path.into(), source })
    }

    /// The public description, with a fresh proof that the voting key is owned.
    pub fn validator(&self) -> Validator {
        let public_key = ops::compute_public::<MinSig>(&self.voting);
        let possession =
            ops::sign_proof_of_possession::<MinSig>(&self.voting, domain::VALIDATOR_POSSESSION);
        Validator {
            identity: self.identity(),
            public_key: array(&public_key.encode()),
            possession: array(&possession.encode()),
        }
    }

    /// The public half of the peer-to-peer identity.
    pub fn identity(&self) -> [u8; 32] {
        array(&self.identity.public_key())
    }

    fn from_secrets(identity: &[u8; 32], voting: &[u8; 32]) -> Option<Self> {
        Some(Self {
            identity: ed25519::PrivateKey::decode(Bytes::copy_from_slice(identity)).ok()?,
            voting: Private::decode(Bytes::copy_from_slice(voting)).ok()?,
        })
    }
}

impl std::fmt::Debug for ValidatorKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValidatorKeys")
            .field("identity", &hex::encode(self.identity()))
            .finish_non_exhaustive()
    }
}

/// Copies an encoding whose length its type fixes.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    let len = N.min(bytes.len());
    if let (Some(to), Some(from)) = (array.get_mut(..len), bytes.get(..len)) {
        to.copy_from_slice(from);
    }
    array
}

#[cfg(test)]
mod tests {
    use og_light::ValidatorSet;

    use super::*;

    #[test]
    fn derived_keys_are_stable_distinct_and_possessed() {
        let keys: Vec<_> = (0..4).map(|index| ValidatorKeys::from_seed(&[7; 32], index)).collect();
        let set = ValidatorSet::new(keys.iter().map(ValidatorKeys::validator).collect()).unwrap();
        assert_eq!(set.len(), 4);
        assert_eq!(ValidatorKeys::from_seed(&[7; 32], 2).validator(), keys[2].validator());
        assert_ne!(ValidatorKeys::from_seed(&[8; 32], 2).identity(), keys[2].identity());
    }

    #[test]
    fn key_files_are_private_and_read_back() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("validator.key");
        let keys = ValidatorKeys::from_seed(&[1; 32], 0);
        keys.save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ValidatorKeys::load(&path).unwrap().validator(), keys.validator());
        assert!(matches!(keys.save(&path), Err(Error::Storage { .. })));
        for (text, reason) in [
            ("", "does not begin with og-validator-keys-v1"),
            ("og-validator-keys-v1\nzz", "no identity key"),
            (&format!("og-validator-keys-v1\n{}", "11".repeat(32)), "no voting key"),
            (
                &format!("og-validator-keys-v1\n{}\n{}", "11".repeat(32), "ff".repeat(32)),
                "keys are out of range",
            ),
            (
                &format!("{}extra\n", fs::read_to_string(&path).unwrap()),
                "has more than three lines",
            ),
        ] {
            let bad = dir.path().join("bad.key");
            fs::write(&bad, text).unwrap();
            match ValidatorKeys::load(&bad) {
                Err(Error::KeyFile { reason: found, .. }) => assert_eq!(found, reason),
                other => panic!("{text:?}: {other:?}"),
            }
        }
        assert!(!format!("{keys:?}").contains(&hex::encode(keys.voting.encode())));
    }
}
