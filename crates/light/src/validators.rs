//! Who may vote, and that each of them owns its BLS key.

use core::fmt;
use core::str::FromStr;

use ark_bls12_381::G2Affine;
use og_primitives::domain;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bls::{self, PUBLIC_KEY_LEN, SIGNATURE_LEN};
use crate::error::Error;

/// Most validators a set may have.
pub const VALIDATORS_MAX: usize = 128;

/// Length of a validator's binary form: identity, BLS key, proof of possession.
pub const VALIDATOR_LEN: usize = 32 + PUBLIC_KEY_LEN + SIGNATURE_LEN;

/// Public description of one validator. Its text form is `0x` and 352 hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Validator {
    /// Ed25519 key of its peer-to-peer identity; also fixes its seat, since seats are in ascending order of it.
    pub identity: [u8; 32],
    /// BLS12-381 key with which it votes (compressed G2).
    pub public_key: [u8; PUBLIC_KEY_LEN],
    /// Signature of that key over itself (compressed G1).
    pub possession: [u8; SIGNATURE_LEN],
}

impl Validator {
    /// Binary form: identity, BLS key, proof of possession.
    pub fn to_bytes(&self) -> [u8; VALIDATOR_LEN] {
        let mut bytes = [0; VALIDATOR_LEN];
        let (identity, rest) = bytes.split_at_mut(32);
        let (public_key, possession) = rest.split_at_mut(PUBLIC_KEY_LEN);
        identity.copy_from_slice(&self.identity);
        public_key.copy_from_slice(&self.public_key);
        possession.copy_from_slice(&self.possession);
        bytes
    }

    /// Reads the binary form. Keys are checked later, by [`ValidatorSet::new`].
    ///
    /// # Errors
    ///
    /// [`Error::ValidatorEncoding`] when there are not exactly [`VALIDATOR_LEN`] bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let wrong_length = Error::ValidatorEncoding("not 176 bytes long");
        let (identity, rest) = bytes.split_first_chunk().ok_or(wrong_length.clone())?;
        let (public_key, rest) = rest.split_first_chunk().ok_or(wrong_length.clone())?;
        let possession = rest.try_into().map_err(|_| wrong_length)?;
        Ok(Self { identity: *identity, public_key: *public_key, possession })
    }
}

impl fmt::Display for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.to_bytes()))
    }
}

impl FromStr for Validator {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits =
            text.strip_prefix("0x").ok_or(Error::ValidatorEncoding("does not begin with 0x"))?;
        if digits.len() != 2 * VALIDATOR_LEN {
            return Err(Error::ValidatorEncoding("not 176 bytes long"));
        }
        let bytes = hex::decode(digits).map_err(|_| Error::ValidatorEncoding("not hexadecimal"))?;
        Self::from_bytes(&bytes)
    }
}

impl Serialize for Validator {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Validator {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The validators of a chain in seat order, every proof of possession checked. One seat, one vote.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "Vec<Validator>", into = "Vec<Validator>")]
pub struct ValidatorSet {
    validators: Vec<Validator>,
    keys: Vec<G2Affine>,
}

impl ValidatorSet {
    /// Sorts the validators into seat order and checks every key and every proof of possession.
    ///
    /// # Errors
    ///
    /// [`Error::ValidatorCount`], [`Error::ValidatorDuplicate`], [`Error::ValidatorKey`],
    /// [`Error::ValidatorPossession`]; seats in them are those of the sorted set.
    pub fn new(mut validators: Vec<Validator>) -> Result<Self, Error> {
        let count = validators.len();
        if count == 0 || count > VALIDATORS_MAX {
            return Err(Error::ValidatorCount { count, max: VALIDATORS_MAX });
        }
        validators.sort_unstable();
        for (second, validator) in validators.iter().enumerate() {
            let shared = validators.iter().take(second).position(|other| {
                other.identity == validator.identity || other.public_key == validator.public_key
            });
            if let Some(first) = shared {
                return Err(Error::ValidatorDuplicate { first, second });
            }
        }
        let mut keys = Vec::with_capacity(count);
        for (seat, validator) in validators.iter().enumerate() {
            let key = bls::public_key(&validator.public_key).ok_or(Error::ValidatorKey { seat })?;
            let possession =
                bls::signature(&validator.possession).ok_or(Error::ValidatorPossession { seat })?;
            let domain = domain::VALIDATOR_POSSESSION;
            if !bls::verify(&key, bls::POSSESSION, domain, &validator.public_key, &possession) {
                return Err(Error::ValidatorPossession { seat });
            }
            keys.push(key);
        }
        Ok(Self { validators, keys })
    }

    /// The validators in seat order.
    pub fn validators(&self) -> &[Validator] {
        &self.validators
    }

    /// How many seats there are.
    pub fn len(&self) -> usize {
        self.validators.len()
    }

    /// Always false: a set has at least one seat.
    pub fn is_empty(&self) -> bool {
        self.validators.is_empty()
    }

    /// The seat of the validator with this peer-to-peer identity.
    pub fn seat_of(&self, identity: &[u8; 32]) -> Option<usize> {
        self.validators.binary_search_by(|validator| validator.identity.cmp(identity)).ok()
    }

    /// How many seats may fail or lie: `⌊(n − 1) / 3⌋`.
    pub fn faults_max(&self) -> usize {
        self.len().saturating_sub(1) / 3
    }

    /// How many seats must sign: `n − faults_max`.
    pub fn quorum(&self) -> usize {
        self.len() - self.faults_max()
    }

    pub(crate) fn keys(&self) -> &[G2Affine] {
        &self.keys
    }
}

impl TryFrom<Vec<Validator>> for ValidatorSet {
    type Error = Error;

    fn try_from(validators: Vec<Validator>) -> Result<Self, Error> {
        Self::new(validators)
    }
}

impl From<ValidatorSet> for Vec<Validator> {
    fn from(set: ValidatorSet) -> Self {
        set.validators
    }
}
