//! X.509 certificates (RFC 5280) of the kind AWS Nitro issues: P-384 keys, ecdsa-with-SHA384, strict DER.
//!
//! A chain is given root first and leaf last, as a `cabundle` followed by the leaf. There is no path building:
//! every certificate must be issued by the one before it, so the work is one signature check a certificate.

use alloy_primitives::B256;
use p384::ecdsa::{Signature, VerifyingKey, signature::Verifier};
use sha2::{Digest, Sha256};

use crate::der::{self, DerError, Reader};
use crate::{CertificateError, Error, Root};

/// `AlgorithmIdentifier` of ecdsa-with-SHA384 (1.2.840.10045.4.3.3, no parameters; RFC 5758 §3.2).
pub(crate) const ECDSA_WITH_SHA384: &[u8] =
    &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];

/// `SubjectPublicKeyInfo` of an uncompressed P-384 point, up to the point's two coordinates (RFC 5480).
pub(crate) const P384_SPKI_PREFIX: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00, 0x04,
];

// Object identifiers of extensions (2.5.29.x), content bytes.
pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
const POLICY_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x24];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const INHIBIT_ANY_POLICY: &[u8] = &[0x55, 0x1d, 0x36];

/// First byte of keyUsage: digitalSignature.
pub(crate) const DIGITAL_SIGNATURE: u8 = 0x80;
/// First byte of keyUsage: keyCertSign.
pub(crate) const KEY_CERT_SIGN: u8 = 0x04;

/// Most extensions that a certificate may carry; AWS's carry at most five.
const EXTENSIONS_MAX: usize = 16;

/// One parsed certificate.
#[derive(Debug)]
struct Certificate<'a> {
    /// What the signature covers, as it stands in the input.
    signed: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    not_before: i64,
    not_after: i64,
    key: VerifyingKey,
    constraints: Option<BasicConstraints>,
    key_usage: Option<u8>,
    signature: Signature,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct BasicConstraints {
    is_ca: bool,
    path_len: Option<u8>,
}

/// The P-384 key of a leaf certificate, so that the cheap checks on the document can come before the chain's.
pub(crate) fn leaf_key(der: &[u8], index: usize) -> Result<VerifyingKey, Error> {
    let certificate =
        Certificate::parse(der).map_err(|problem| Error::Certificate { index, problem })?;
    Ok(certificate.key)
}

/// Whether `der` has the structure of an X.509 certificate (RFC 5280 §4.1), whatever its algorithms.
pub(crate) fn is_certificate(der: &[u8]) -> bool {
    let parse = || {
        let mut certificate = Reader::only(der, der::SEQUENCE)?;
        let mut fields = certificate.enter(der::SEQUENCE)?;
        certificate.expect(der::SEQUENCE)?;
        certificate.bit_string_bytes()?;
        certificate.finish()?;
        if fields.peek() == Some(0xa0) {
            fields.next()?;
        }
        fields.unsigned()?;
        // Algorithm, issuer, validity, subject, key.
        for _ in 0..5 {
            fields.expect(der::SEQUENCE)?;
        }
        while !fields.is_empty() {
            fields.next()?;
        }
        Ok::<_, DerError>(())
    };
    parse().is_ok()
}

/// Verifies `chain` (root first, leaf last) at `now_secs` and returns the root it starts at.
///
/// Checked for every certificate: dates, critical extensions, issuer, signature of the one before; for the
/// root: its SHA-256 fingerprint is one of `roots`; for every one but the leaf: basicConstraints, keyUsage and
/// pathLenConstraint; for the leaf: that it is no CA and may sign.
pub(crate) fn verify_chain(chain: &[&[u8]], roots: &[Root], now_secs: u64) -> Result<Root, Error> {
    let [root_der, .., _] = chain else {
        return Err(Error::field("cabundle", "holds no root certificate"));
    };
    let fingerprint = B256::from_slice(&Sha256::digest(root_der));
    let root = roots
        .iter()
        .find(|root| root.sha256 == fingerprint)
        .ok_or(Error::UntrustedRoot(fingerprint))?;
    let now = i64::try_from(now_secs).unwrap_or(i64::MAX);
    let leaf_index = chain.len() - 1;
    let mut above: Option<Certificate<'_>> = None;
    for (index, der) in chain.iter().enumerate() {
        // Intermediate CAs between this certificate and the leaf: what its pathLenConstraint counts.
        let below = leaf_index.checked_sub(index + 1);
        let certificate = Certificate::parse(der)
            .and_then(|certificate| {
                certificate.check(above.as_ref(), below, now)?;
                Ok(certificate)
            })
            .map_err(|problem| Error::Certificate { index, problem })?;
        above = Some(certificate);
    }
    Ok(*root)
}

impl<'a> Certificate<'a> {
    fn parse(der: &'a [u8]) -> Result<Self, CertificateError> {
        let mut certificate = Reader::only(der, der::SEQUENCE)?;
        let signed = certificate.expect(der::SEQUENCE)?;
        let algorithm = certificate.expect(der::SEQUENCE)?.whole;
        let signature = parse_signature(certificate.bit_string_bytes()?)?;
        certificate.finish()?;

        let mut fields = Reader::new(signed.content);
        // [0] EXPLICIT INTEGER 2, that is v3. Its absence would mean v1, which has no extensions.
        if fields.next()?.whole != [0xa0, 3, 2, 1, 2] {
            return Err(CertificateError::Version);
        }
        if !(1..=20).contains(&fields.unsigned()?.len()) {
            return Err(DerError::Value("serial number is longer than 20 bytes").into());
        }
        let inner_algorithm = fields.expect(der::SEQUENCE)?.whole;
        if algorithm != ECDSA_WITH_SHA384 || inner_algorithm != ECDSA_WITH_SHA384 {
            return Err(CertificateError::Algorithm);
        }
        let issuer = fields.expect(der::SEQUENCE)?.whole;
        let mut validity = fields.enter(der::SEQUENCE)?;
        let not_before = parse_time(validity.next()?)?;
        let not_after = parse_time(validity.next()?)?;
        validity.finish()?;
        let subject = fields.expect(der::SEQUENCE)?.whole;
        let key = parse_key(fields.expect(der::SEQUENCE)?.whole)?;
        let (mut constraints, mut key_usage) = (None, None);
        if !fields.is_empty() {
            // [3] EXPLICIT; the unique identifiers [1] and [2] of RFC 5280 §4.1.2.8 must not be used.
            let mut tagged = fields.enter(0xa3)?;
            fields.finish()?;
            let extensions = tagged.enter(der::SEQUENCE)?;
            tagged.finish()?;
            (constraints, key_usage) = parse_extensions(extensions)?;
        }
        Ok(Self {
            signed: signed.whole,
            issuer,
            subject,
            not_before,
            not_after,
            key,
            constraints,
            key_usage,
            signature,
        })
    }

    /// `below` is the number of intermediate CAs under this certificate; `None` for the leaf.
    fn check(
        &self,
        above: Option<&Certificate<'_>>,
        below: Option<usize>,
        now: i64,
    ) -> Result<(), CertificateError> {
        if now < self.not_before {
            return Err(CertificateError::NotYetValid);
        }
        if now > self.not_after {
            return Err(CertificateError::Expired);
        }
        let may = |bit| self.key_usage.is_some_and(|usage| usage & bit != 0);
        match (below, self.constraints) {
            (None, Some(BasicConstraints { is_ca: true, .. })) => {
                return Err(CertificateError::LeafIsCa);
            }
            (None, _) if !may(DIGITAL_SIGNATURE) => return Err(CertificateError::NotForSigning),
            (None, _) => {}
            (Some(below), Some(BasicConstraints { is_ca: true, path_len }))
                if may(KEY_CERT_SIGN) =>
            {
                if path_len.is_some_and(|most| below > usize::from(most)) {
                    return Err(CertificateError::PathLength);
                }
            }
            (Some(_), _) => return Err(CertificateError::NotCa),
        }
        // The root is known by its fingerprint; its signature of itself says nothing more.
        let Some(above) = above else { return Ok(()) };
        // An empty name is an empty sequence: two bytes.
        if self.issuer != above.subject || self.issuer.len() <= 2 {
            return Err(CertificateError::Issuer);
        }
        above.key.verify(self.signed, &self.signature).map_err(|_| CertificateError::Signature)
    }
}

fn parse_key(spki: &[u8]) -> Result<VerifyingKey, CertificateError> {
    let coordinates = spki.strip_prefix(P384_SPKI_PREFIX).ok_or(CertificateError::NotP384)?;
    let point = [&[0x04], coordinates].concat();
    VerifyingKey::from_sec1_bytes(&point).map_err(|_| CertificateError::NotP384)
}

/// Reads `Ecdsa-Sig-Value` (RFC 3279 §2.2.3) into the fixed form r ‖ s.
fn parse_signature(bytes: &[u8]) -> Result<Signature, CertificateError> {
    const HALF: usize = 48;
    let mut reader = Reader::only(bytes, der::SEQUENCE)?;
    let mut fixed = [0_u8; 2 * HALF];
    for half in fixed.chunks_exact_mut(HALF) {
        let magnitude = reader.unsigned()?;
        let start = HALF.checked_sub(magnitude.len()).ok_or(CertificateError::Signature)?;
        half.get_mut(start..).ok_or(CertificateError::Signature)?.copy_from_slice(magnitude);
    }
    reader.finish()?;
    Signature::from_slice(&fixed).map_err(|_| CertificateError::Signature)
}

fn parse_extensions(
    mut extensions: Reader<'_>,
) -> Result<(Option<BasicConstraints>, Option<u8>), CertificateError> {
    let (mut constraints, mut key_usage) = (None, None);
    let mut seen: Vec<&[u8]> = Vec::new();
    while !extensions.is_empty() {
        let mut extension = extensions.enter(der::SEQUENCE)?;
        let id = extension.expect(der::OID)?.content;
        let mut critical = false;
        if extension.peek() == Some(der::BOOLEAN) {
            critical = parse_true(&mut extension)?;
        }
        let value = extension.expect(der::OCTET_STRING)?.content;
        extension.finish()?;
        if seen.contains(&id) {
            return Err(CertificateError::DuplicateExtension);
        }
        if seen.len() == EXTENSIONS_MAX {
            return Err(DerError::Value("too many extensions").into());
        }
        seen.push(id);
        match id {
            BASIC_CONSTRAINTS => constraints = Some(parse_basic_constraints(value)?),
            KEY_USAGE => key_usage = Some(parse_key_usage(value)?),
            NAME_CONSTRAINTS | POLICY_CONSTRAINTS | EXTENDED_KEY_USAGE | INHIBIT_ANY_POLICY => {
                return Err(CertificateError::UnsupportedConstraint);
            }
            _ if critical => return Err(CertificateError::UnknownCriticalExtension),
            _ => {}
        }
    }
    Ok((constraints, key_usage))
}

/// A BOOLEAN whose default is false: DER writes it only when it is true.
fn parse_true(reader: &mut Reader<'_>) -> Result<bool, DerError> {
    match reader.expect(der::BOOLEAN)?.content {
        [0xff] => Ok(true),
        _ => Err(DerError::Value("boolean that is not TRUE where FALSE is the default")),
    }
}

fn parse_basic_constraints(value: &[u8]) -> Result<BasicConstraints, DerError> {
    let mut reader = Reader::only(value, der::SEQUENCE)?;
    let is_ca = reader.peek() == Some(der::BOOLEAN) && parse_true(&mut reader)?;
    let mut path_len = None;
    if !reader.is_empty() {
        let &[length] = reader.unsigned()? else {
            return Err(DerError::Value("pathLenConstraint above 255"));
        };
        path_len = Some(length);
    }
    reader.finish()?;
    if path_len.is_some() && !is_ca {
        return Err(DerError::Value("pathLenConstraint without cA"));
    }
    Ok(BasicConstraints { is_ca, path_len })
}

/// Reads keyUsage as its first byte; the second one holds only decipherOnly.
fn parse_key_usage(value: &[u8]) -> Result<u8, DerError> {
    let mut reader = Reader::new(value);
    let content = reader.expect(der::BIT_STRING)?.content;
    reader.finish()?;
    match *content {
        // A named bit list ends with its last set bit (X.690 §11.2.2).
        [unused @ ..=7, first] if first.trailing_zeros() == u32::from(unused) => Ok(first),
        [7, first, 0x80] => Ok(first),
        _ => Err(DerError::Value("keyUsage is not a canonical bit list")),
    }
}

/// Seconds since 1970-01-01T00:00:00Z of a `Time` (RFC 5280 §4.1.2.5): UTCTime up to 2049, then GeneralizedTime,
/// both with seconds and `Z`.
fn parse_time(element: der::Element<'_>) -> Result<i64, CertificateError> {
    let text = element.content.strip_suffix(b"Z").ok_or(CertificateError::Date)?;
    if !text.iter().all(u8::is_ascii_digit) {
        return Err(CertificateError::Date);
    }
    let pairs: Vec<i64> = text
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
        .collect();
    let (year, rest) = match (element.tag, text.len(), pairs.as_slice()) {
        (der::UTC_TIME, 12, [year @ (50..), rest @ ..]) => (1900 + year, rest),
        (der::UTC_TIME, 12, [year, rest @ ..]) => (2000 + year, rest),
        (der::GENERALIZED_TIME, 14, [century, year, rest @ ..]) => (century * 100 + year, rest),
        _ => return Err(CertificateError::Date),
    };
    let &[month, day, hour, minute, second] = rest else { return Err(CertificateError::Date) };
    let in_range = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && (element.tag == der::UTC_TIME || year >= 2050);
    if !in_range {
        return Err(CertificateError::Date);
    }
    Ok(days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar (years 1950 to 9999 here).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years start in March, so that the leap day is the last of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + day_of_year;
    year / 400 * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(tag: u8, text: &str) -> Result<i64, CertificateError> {
        let bytes = der::element(tag, &[text.as_bytes()]);
        parse_time(Reader::new(&bytes).next().unwrap())
    }

    #[test]
    fn dates_are_read_in_their_one_form() {
        let utc = |text| time(der::UTC_TIME, text);
        let general = |text| time(der::GENERALIZED_TIME, text);
        assert_eq!(utc("700101000000Z"), Ok(0));
        assert_eq!(utc("191028132805Z"), Ok(1_572_269_285));
        assert_eq!(utc("491028142805Z"), Ok(2_519_044_085));
        assert_eq!(utc("000229235959Z"), Ok(951_868_799));
        assert_eq!(utc("500101000000Z"), Ok(-631_152_000));
        assert_eq!(general("20500101000000Z"), Ok(2_524_608_000));
        assert_eq!(general("99991231235959Z"), Ok(253_402_300_799));
        for wrong in [
            utc("190229000000Z"),
            utc("19022900000Z"),
            utc("1910281328Z"),
            utc("191028132805+0100"),
            utc("191328132805Z"),
            utc("191000132805Z"),
            utc("191028242805Z"),
            utc("191028136005Z"),
            utc("191028132860Z"),
            utc("19102813280 Z"),
            utc("20191028132805Z"),
            general("20491231235959Z"),
            general("20500101000000.5Z"),
            time(der::INTEGER, "700101000000Z"),
        ] {
            assert_eq!(wrong, Err(CertificateError::Date));
        }
    }

    #[test]
    fn key_usage_is_a_canonical_bit_list() {
        let parse = |content: &[u8]| parse_key_usage(&der::element(der::BIT_STRING, &[content]));
        assert_eq!(parse(&[2, 0x04]), Ok(0x04));
        assert_eq!(parse(&[1, 0x86]), Ok(0x86));
        assert_eq!(parse(&[7, 0x80]), Ok(0x80));
        assert_eq!(parse(&[7, 0x08, 0x80]), Ok(0x08));
        for wrong in [&[][..], &[0], &[0, 0x80], &[8, 0x00], &[3, 0x04], &[1, 0x04], &[0, 1, 0x80]]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
