//! Finality certificates: that a quorum of validators finalised a block.
//!
//! The published format of a simplex finalization with BLS12-381 multi-signatures:
//!
//! | Field | Encoding |
//! |---|---|
//! | epoch | varint |
//! | view | varint |
//! | parent view | varint |
//! | payload | 32 bytes: the hash of the finalised block's header |
//! | number of validators | 8 bytes, big endian |
//! | signers | one bit per seat, lowest bit of the first byte first, padding zero |
//! | signature | 48 bytes: the sum of the signers' signatures (compressed G1) |
//!
//! What is signed are the first four fields, framed by the namespace of [`consensus_namespace`] and the suffix
//! `_FINALIZE`. Every certificate has exactly one encoding; anything else is refused.

use alloy_primitives::B256;
use og_primitives::domain;

use crate::bls::{self, SIGNATURE_LEN};
use crate::error::Error;
use crate::validators::{VALIDATORS_MAX, ValidatorSet};

/// Longest possible certificate: three varints, payload, count, bitmap, signature.
pub const CERTIFICATE_LEN_MAX: usize = 3 * 10 + 32 + 8 + VALIDATORS_MAX.div_ceil(8) + SIGNATURE_LEN;

/// Suffix by which votes for finality differ from all other votes.
const FINALIZE: &[u8] = b"_FINALIZE";

/// The namespace in which the validators of one chain vote: the project's domain, then the genesis hash, so that
/// the votes of one chain are nothing on another even when the same keys serve both.
pub fn consensus_namespace(genesis_hash: B256) -> Vec<u8> {
    [domain::CONSENSUS, genesis_hash.as_slice()].concat()
}

/// A decoded certificate. Decoding alone proves nothing; see [`verify_certificate`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FinalityCertificate {
    /// Epoch of the validator set.
    pub epoch: u64,
    /// View (round of voting) in which the block was proposed.
    pub view: u64,
    /// View of its parent.
    pub parent_view: u64,
    /// Hash of the finalised block's header.
    pub payload: B256,
    /// Seats that signed, ascending.
    pub signers: Vec<usize>,
    /// How many seats the signers' set has.
    pub seats: u64,
    /// Sum of their signatures (compressed G1).
    pub signature: [u8; SIGNATURE_LEN],
}

impl FinalityCertificate {
    /// Reads the published format, strictly.
    ///
    /// # Errors
    ///
    /// [`Error::CertificateEncoding`] when the bytes are not the one encoding of a certificate.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > CERTIFICATE_LEN_MAX {
            return Err(Error::CertificateEncoding("too long"));
        }
        let mut reader = Reader(bytes);
        let epoch = reader.varint()?;
        let view = reader.varint()?;
        let parent_view = reader.varint()?;
        let payload = B256::from(*reader.array::<32>()?);
        let seats = u64::from_be_bytes(*reader.array::<8>()?);
        let count = usize::try_from(seats).ok().filter(|count| *count <= VALIDATORS_MAX);
        let count = count.ok_or(Error::CertificateEncoding("too many validators"))?;
        let bitmap = reader.take(count.div_ceil(8))?;
        let mut signers = Vec::new();
        for (index, byte) in bitmap.iter().enumerate() {
            for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                let seat = 8 * index + bit;
                if seat >= count {
                    return Err(Error::CertificateEncoding("bitmap padding is not zero"));
                }
                signers.push(seat);
            }
        }
        if signers.is_empty() {
            return Err(Error::CertificateEncoding("no signers"));
        }
        let signature = *reader.array::<SIGNATURE_LEN>()?;
        if !reader.0.is_empty() {
            return Err(Error::CertificateEncoding("trailing bytes"));
        }
        Ok(Self { epoch, view, parent_view, payload, signers, seats, signature })
    }

    /// Writes the published format.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.signed_message();
        out.extend_from_slice(&self.seats.to_be_bytes());
        let seats = usize::try_from(self.seats).unwrap_or(VALIDATORS_MAX).min(VALIDATORS_MAX);
        let mut bitmap = vec![0_u8; seats.div_ceil(8)];
        for seat in &self.signers {
            if let Some(byte) = bitmap.get_mut(seat / 8) {
                *byte |= 1 << (seat % 8);
            }
        }
        out.extend_from_slice(&bitmap);
        out.extend_from_slice(&self.signature);
        out
    }

    fn signed_message(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(CERTIFICATE_LEN_MAX);
        for number in [self.epoch, self.view, self.parent_view] {
            bls::write_varint(number, &mut message);
        }
        message.extend_from_slice(self.payload.as_slice());
        message
    }
}

/// Decodes a certificate and checks that a quorum of `set` signed it on the chain that begins with `genesis_hash`.
///
/// # Errors
///
/// The `Certificate…` variants of [`Error`], one per check.
pub fn verify_certificate(
    set: &ValidatorSet,
    genesis_hash: B256,
    bytes: &[u8],
) -> Result<FinalityCertificate, Error> {
    let certificate = FinalityCertificate::decode(bytes)?;
    if usize::try_from(certificate.seats) != Ok(set.len()) {
        return Err(Error::CertificateSetSize { found: certificate.seats, expected: set.len() });
    }
    let signers = certificate.signers.len();
    if signers < set.quorum() {
        return Err(Error::CertificateQuorum { signers, quorum: set.quorum() });
    }
    let signature =
        bls::signature(&certificate.signature).ok_or(Error::CertificateSignatureEncoding)?;
    let key = bls::aggregate(certificate.signers.iter().filter_map(|seat| set.keys().get(*seat)));
    let namespace = [consensus_namespace(genesis_hash).as_slice(), FINALIZE].concat();
    let message = certificate.signed_message();
    if !bls::verify(&key, bls::MESSAGE, &namespace, &message, &signature) {
        return Err(Error::CertificateSignature);
    }
    Ok(certificate)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (head, tail) =
            self.0.split_at_checked(count).ok_or(Error::CertificateEncoding("truncated"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Error> {
        let (head, tail) =
            self.0.split_first_chunk().ok_or(Error::CertificateEncoding("truncated"))?;
        self.0 = tail;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.array::<1>()?;
            if shift > 0 && byte == 0 {
                return Err(Error::CertificateEncoding("varint is not in shortest form"));
            }
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && byte > 1 {
                return Err(Error::CertificateEncoding("varint exceeds 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::CertificateEncoding("varint exceeds 64 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> FinalityCertificate {
        FinalityCertificate {
            epoch: 0,
            view: 300,
            parent_view: 299,
            payload: B256::repeat_byte(7),
            signers: vec![0, 1, 3],
            seats: 4,
            signature: [9; 48],
        }
    }

    #[test]
    fn a_certificate_encodes_to_the_published_length_and_back() {
        let bytes = sample().encode();
        assert_eq!(bytes.len(), 1 + 2 + 2 + 32 + 8 + 1 + 48);
        assert_eq!(FinalityCertificate::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn every_laxness_is_refused_by_name() {
        let good = sample().encode();
        let refused = |bytes: &[u8], reason| {
            assert_eq!(FinalityCertificate::decode(bytes), Err(Error::CertificateEncoding(reason)));
        };
        for length in 0..good.len() {
            refused(&good[..length], "truncated");
        }
        refused(&[good.as_slice(), &[0]].concat(), "trailing bytes");
        refused(&[0; CERTIFICATE_LEN_MAX + 1], "too long");
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        refused(&[[0x80, 0].as_slice(), &good[1..]].concat(), "varint is not in shortest form");
        refused(&[[0xff; 9].as_slice(), &[2], &good[1..]].concat(), "varint exceeds 64 bits");
        refused(&[[0xff; 10].as_slice(), &good[1..]].concat(), "varint exceeds 64 bits");
        let bitmap = 1 + 2 + 2 + 32 + 8;
        refused(&with(bitmap, 0x1b), "bitmap padding is not zero");
        refused(&with(bitmap, 0), "no signers");
        refused(&with(bitmap - 1, 129), "too many validators");
        refused(&with(bitmap - 8, 1), "too many validators");
    }

    #[test]
    fn the_longest_varint_is_read() {
        let certificate = FinalityCertificate { epoch: u64::MAX, view: 1 << 63, ..sample() };
        assert_eq!(FinalityCertificate::decode(&certificate.encode()), Ok(certificate));
    }
}
