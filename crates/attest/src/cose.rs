//! `COSE_Sign1` (RFC 9052 §4.2) as bytes: taking apart, putting together, and what its signature covers.

use og_primitives::cbor::{Rules, Value};

use crate::Error;

/// Bytes of an ES384 signature: r and s, 48 each.
pub const ES384_SIGNATURE_BYTES: usize = 96;

/// The protected header `{1: -35}` (ES384) in its deterministic form.
pub const ES384_PROTECTED: &[u8] = &[0xa1, 0x01, 0x38, 0x22];

/// The protected header `{1: -8}` (EdDSA) in its deterministic form.
pub const EDDSA_PROTECTED: &[u8] = &[0xa1, 0x01, 0x27];

const TAG: u64 = 18;

/// The four parts of a COSE_Sign1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sign1 {
    /// The protected header as signed.
    pub protected: Vec<u8>,
    /// The unprotected header, a map that nothing signs.
    pub unprotected: Value,
    /// The payload as signed.
    pub payload: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

impl Sign1 {
    /// Takes `bytes` apart; untagged or under tag 18, deterministic CBOR, at most `bytes_max` bytes.
    ///
    /// # Errors
    /// When the bytes are not one such structure.
    pub fn decode(bytes: &[u8], bytes_max: usize) -> Result<Self, Error> {
        let rules = Rules {
            input_bytes_max: bytes_max,
            depth_max: 5,
            items_max: 64,
            ..Rules::DETERMINISTIC
        };
        let item = Value::decode(bytes, rules)
            .map_err(|source| Error::Cbor { what: "COSE_Sign1", source })?;
        let item = match item {
            Value::Tag(TAG, inner) => *inner,
            Value::Tag(..) => return Err(Error::NotSign1("its tag is not 18")),
            untagged => untagged,
        };
        let Value::Array(parts) = item else { return Err(Error::NotSign1("it is not an array")) };
        let parts: [Value; 4] =
            parts.try_into().map_err(|_| Error::NotSign1("it does not have four elements"))?;
        match parts {
            [
                Value::Bytes(protected),
                unprotected @ Value::Map(_),
                Value::Bytes(payload),
                Value::Bytes(signature),
            ] => Ok(Self { protected, unprotected, payload, signature }),
            _ => Err(Error::NotSign1("an element has the wrong type")),
        }
    }

    /// Puts the structure together, untagged.
    pub fn encode(&self) -> Vec<u8> {
        Value::Array(vec![
            Value::bytes(self.protected.as_slice()),
            self.unprotected.clone(),
            Value::bytes(self.payload.as_slice()),
            Value::bytes(self.signature.as_slice()),
        ])
        .encode()
    }

    /// Requires the protected header to be exactly `protected` and the unprotected one to be empty, so that
    /// every byte of the structure but the signature is signed.
    ///
    /// # Errors
    /// [`Error::Algorithm`] or [`Error::UnprotectedHeader`].
    pub fn require_headers(&self, protected: &[u8]) -> Result<(), Error> {
        if self.protected != protected {
            return Err(Error::Algorithm);
        }
        match self.unprotected.as_map() {
            Some([]) => Ok(()),
            _ => Err(Error::UnprotectedHeader),
        }
    }

    /// What the signature covers.
    pub fn to_be_signed(&self, external_aad: &[u8]) -> Vec<u8> {
        to_be_signed(&self.protected, external_aad, &self.payload)
    }
}

/// The deterministic encoding of `Sig_structure` (RFC 9052 §4.4) for one signer.
pub fn to_be_signed(protected: &[u8], external_aad: &[u8], payload: &[u8]) -> Vec<u8> {
    Value::Array(vec![
        Value::text("Signature1"),
        Value::bytes(protected),
        Value::bytes(external_aad),
        Value::bytes(payload),
    ])
    .encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sign1 {
        Sign1 {
            protected: EDDSA_PROTECTED.to_vec(),
            unprotected: Value::Map(vec![]),
            payload: vec![1, 2],
            signature: vec![3; 64],
        }
    }

    #[test]
    fn untagged_and_tag_18_are_the_same_structure() {
        let bytes = sample().encode();
        assert_eq!(Sign1::decode(&bytes, 1000), Ok(sample()));
        assert_eq!(Sign1::decode(&[&[0xd2], &bytes[..]].concat(), 1000), Ok(sample()));
    }

    #[test]
    fn other_shapes_are_refused() {
        let bytes = sample().encode();
        let refused = |bytes: &[u8]| Sign1::decode(bytes, 1000).unwrap_err();
        assert_eq!(refused(&[&[0xd1], &bytes[..]].concat()), Error::NotSign1("its tag is not 18"));
        assert!(matches!(refused(&[&bytes[..], &[0]].concat()), Error::Cbor { .. }));
        assert_eq!(refused(&[0xa0]), Error::NotSign1("it is not an array"));
        assert_eq!(refused(&[0x80]), Error::NotSign1("it does not have four elements"));
        assert_eq!(refused(&[0x84, 0, 0, 0, 0]), Error::NotSign1("an element has the wrong type"));
        assert!(matches!(Sign1::decode(&bytes, bytes.len() - 1), Err(Error::Cbor { .. })));
    }

    #[test]
    fn headers_that_nothing_signs_are_refused() {
        let mut message = sample();
        assert_eq!(message.require_headers(EDDSA_PROTECTED), Ok(()));
        assert_eq!(message.require_headers(ES384_PROTECTED), Err(Error::Algorithm));
        message.unprotected = Value::Map(vec![(Value::Uint(4), Value::Null)]);
        assert_eq!(message.require_headers(EDDSA_PROTECTED), Err(Error::UnprotectedHeader));
    }
}
