//! secp256k1: recovery of the signer of a digest, and deterministic signing (RFC 6979).

use core::fmt;

use alloy_primitives::{Address, B256, Bytes, b256, keccak256};
use k256::ecdsa::{RecoveryId, SigningKey, VerifyingKey};
use thiserror::Error;

/// A signature of an ordinary wallet in the one form that every contract takes: low `s`, `v` of 27 or 28.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Signature([u8; 65]);

/// Why bytes are not a signature of an ordinary wallet.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SignatureError {
    /// Not 65 bytes: a contract wallet's signature (ERC-1271, ERC-6492) or none.
    #[error("signature of {len} bytes is not one of an ordinary wallet")]
    Length {
        /// Bytes given.
        len: usize,
    },
    /// `v` is none of 0, 1, 27, 28.
    #[error("recovery byte {v} is none of 0, 1, 27, 28")]
    RecoveryByte {
        /// The byte given.
        v: u8,
    },
    /// `r` or `s` is zero or not below the group order.
    #[error("r or s is out of range")]
    Scalar,
    /// `s` is in the upper half: the malleable twin of a signature.
    #[error("s is in the upper half")]
    HighS,
    /// No public key fits.
    #[error("no key fits the signature")]
    NoKey,
}

/// The suffix that marks an ERC-6492 signature: one of a contract wallet that is not deployed yet.
pub const ERC6492_SUFFIX: B256 =
    b256!("0x6492649264926492649264926492649264926492649264926492649264926492");

impl Signature {
    /// Reads r‖s‖v, taking 0 and 1 for 27 and 28.
    ///
    /// # Errors
    /// [`SignatureError`], naming what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignatureError> {
        let mut own: [u8; 65] =
            bytes.try_into().map_err(|_| SignatureError::Length { len: bytes.len() })?;
        own[64] = match own[64] {
            v @ (0 | 1) => v + 27,
            v @ (27 | 28) => v,
            v => return Err(SignatureError::RecoveryByte { v }),
        };
        let signature = Self(own);
        let scalars = signature.scalars()?;
        if scalars.normalize_s() != scalars {
            return Err(SignatureError::HighS);
        }
        Ok(signature)
    }

    /// Who signed `digest`.
    ///
    /// # Errors
    /// [`SignatureError::NoKey`] when no key fits.
    pub fn signer(&self, digest: &B256) -> Result<Address, SignatureError> {
        let id = RecoveryId::from_byte(self.v() - 27).ok_or(SignatureError::NoKey)?;
        let key = VerifyingKey::recover_from_prehash(digest.as_slice(), &self.scalars()?, id)
            .map_err(|_| SignatureError::NoKey)?;
        Ok(address_of(&key))
    }

    /// r, 32 bytes big-endian.
    pub fn r(&self) -> B256 {
        B256::from_slice(&self.0[..32])
    }

    /// s, 32 bytes big-endian.
    pub fn s(&self) -> B256 {
        B256::from_slice(&self.0[32..64])
    }

    /// 27 or 28.
    pub fn v(&self) -> u8 {
        self.0[64]
    }

    /// r‖s‖v.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    fn scalars(&self) -> Result<k256::ecdsa::Signature, SignatureError> {
        k256::ecdsa::Signature::from_slice(&self.0[..64]).map_err(|_| SignatureError::Scalar)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", self.to_bytes())
    }
}

/// A private key and its address. Signing is deterministic; the key is never printed.
#[derive(Clone)]
pub struct Wallet {
    key: SigningKey,
    address: Address,
}

impl Wallet {
    /// A wallet from its 32-byte key; `None` when that is zero or not below the group order.
    pub fn from_key(key: &[u8; 32]) -> Option<Self> {
        let key = SigningKey::from_slice(key).ok()?;
        let address = address_of(key.verifying_key());
        Some(Self { key, address })
    }

    /// The wallet's address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signs a digest.
    pub fn sign(&self, digest: &B256) -> Signature {
        let (signature, id) = self.key.sign_prehash_recoverable(digest.as_slice());
        let mut bytes = [0_u8; 65];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = 27 + id.to_byte();
        Signature(bytes)
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wallet({})", self.address)
    }
}

fn address_of(key: &VerifyingKey) -> Address {
    let point = key.to_sec1_point(false);
    Address::from_slice(&keccak256(&point.as_bytes()[1..])[12..])
}
