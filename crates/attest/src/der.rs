//! The part of DER (X.690 §10) that certificates and RSA keys of this crate are made of: one strict reader and
//! one writer.
//!
//! Consensus decides on these bytes, so the reader accepts exactly one form: single-byte tags, shortest definite
//! lengths of at most two length bytes, nothing after the last element. What is signed is sliced out of the
//! input, never re-encoded.

use thiserror::Error;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// Why bytes are not strict DER.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum DerError {
    /// The input ends inside an element.
    #[error("DER ends inside an element")]
    Truncated,
    /// A length that is indefinite, not in its shortest form or longer than two bytes.
    #[error("DER length is not in its shortest definite form")]
    Length,
    /// Another element than the one that must stand here.
    #[error("DER tag {found:#04x} where {wanted:#04x} must stand")]
    Tag {
        /// The tag found.
        found: u8,
        /// The tag that must stand here.
        wanted: u8,
    },
    /// Bytes follow the last element.
    #[error("trailing bytes after the last DER element")]
    Trailing,
    /// The content of an element breaks its type's rules.
    #[error("DER value is not canonical: {0}")]
    Value(&'static str),
}

/// Walks over a run of elements.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// One element: its tag, its content and all its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// The content of the only element of `input`, which must have `tag`.
    pub(crate) fn only(input: &'a [u8], tag: u8) -> Result<Self, DerError> {
        let mut reader = Self::new(input);
        let element = reader.expect(tag)?;
        reader.finish()?;
        Ok(Self::new(element.content))
    }

    /// The tag of the next element, if there is one.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(crate) fn next(&mut self) -> Result<Element<'a>, DerError> {
        let [tag, length, ..] = *self.rest else { return Err(DerError::Truncated) };
        if tag & 0x1f == 0x1f {
            return Err(DerError::Value("tag number above 30"));
        }
        let (head, length) = match (length, self.rest) {
            (0..=0x7f, _) => (2, usize::from(length)),
            (0x81, [_, _, low @ (0x80..), ..]) => (3, usize::from(*low)),
            (0x82, [_, _, high @ (1..), low, ..]) => {
                (4, usize::from(*high) << 8 | usize::from(*low))
            }
            _ => return Err(DerError::Length),
        };
        let whole = self.rest.get(..head + length).ok_or(DerError::Truncated)?;
        let content = whole.get(head..).ok_or(DerError::Truncated)?;
        self.rest = self.rest.get(head + length..).ok_or(DerError::Truncated)?;
        Ok(Element { tag, content, whole })
    }

    pub(crate) fn expect(&mut self, wanted: u8) -> Result<Element<'a>, DerError> {
        let element = self.next()?;
        if element.tag != wanted {
            return Err(DerError::Tag { found: element.tag, wanted });
        }
        Ok(element)
    }

    /// The content of the next element, which must have `tag`, as a reader.
    pub(crate) fn enter(&mut self, tag: u8) -> Result<Self, DerError> {
        self.expect(tag).map(|element| Self::new(element.content))
    }

    /// A non-negative INTEGER as its magnitude without the sign byte.
    pub(crate) fn unsigned(&mut self) -> Result<&'a [u8], DerError> {
        match self.expect(INTEGER)?.content {
            [] => Err(DerError::Value("empty integer")),
            [(0x80..), ..] => Err(DerError::Value("negative integer")),
            [0, ..=0x7f, ..] => Err(DerError::Value("integer is not in its shortest form")),
            [0, rest @ ..] if !rest.is_empty() => Ok(rest),
            content => Ok(content),
        }
    }

    /// A BIT STRING of whole bytes.
    pub(crate) fn bit_string_bytes(&mut self) -> Result<&'a [u8], DerError> {
        match self.expect(BIT_STRING)?.content {
            [0, bytes @ ..] => Ok(bytes),
            _ => Err(DerError::Value("bit string is not of whole bytes")),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn finish(&self) -> Result<(), DerError> {
        if self.is_empty() { Ok(()) } else { Err(DerError::Trailing) }
    }
}

/// Encodes one element around `parts`.
///
/// Only this crate's own certificates are written, all far below the two length bytes that the reader takes.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut out = vec![tag];
    match length {
        [0, low @ ..=0x7f] => out.push(low),
        [0, low] => out.extend_from_slice(&[0x81, low]),
        [high, low] => out.extend_from_slice(&[0x82, high, low]),
    }
    out.extend_from_slice(&content);
    out
}

/// Encodes a non-negative INTEGER from its big-endian magnitude.
pub(crate) fn unsigned(magnitude: &[u8]) -> Vec<u8> {
    let start = magnitude.iter().position(|byte| *byte != 0);
    match start.and_then(|start| magnitude.get(start..)) {
        None | Some([]) => element(INTEGER, &[&[0]]),
        Some(digits @ [(0x80..), ..]) => element(INTEGER, &[&[0], digits]),
        Some(digits) => element(INTEGER, &[digits]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shortest_definite_form_is_read() {
        let read = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            reader.next().and_then(|element| reader.finish().map(|()| element.content.len()))
        };
        assert_eq!(read(&[4, 0]), Ok(0));
        assert_eq!(read(&element(4, &[&[7; 127]])), Ok(127));
        assert_eq!(read(&element(4, &[&[7; 128]])), Ok(128));
        assert_eq!(read(&element(4, &[&[7; 300]])), Ok(300));
        assert_eq!(read(&[4]), Err(DerError::Truncated));
        assert_eq!(read(&[4, 1]), Err(DerError::Truncated));
        assert_eq!(read(&[4, 0, 0]), Err(DerError::Trailing));
        assert_eq!(read(&[0x30, 0x80, 0, 0]), Err(DerError::Length));
        assert_eq!(read(&[4, 0x81, 1, 0]), Err(DerError::Length));
        assert_eq!(read(&[4, 0x82, 0, 1, 0]), Err(DerError::Length));
        assert_eq!(read(&[4, 0x83, 0, 0, 1, 0]), Err(DerError::Length));
        assert_eq!(read(&[0x1f, 0x81, 0]), Err(DerError::Value("tag number above 30")));
    }

    #[test]
    fn integers_are_positive_and_minimal() {
        let read = |bytes: &[u8]| Reader::new(bytes).unsigned().map(<[u8]>::to_vec);
        assert_eq!(read(&[2, 1, 0]), Ok(vec![0]));
        assert_eq!(read(&[2, 2, 0, 0x80]), Ok(vec![0x80]));
        for wrong in [&[2, 0][..], &[2, 1, 0x80], &[2, 2, 0, 0x7f], &[4, 1, 1]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        for magnitude in [&[][..], &[0], &[0, 0, 5], &[0x80], &[0, 0xff, 1]] {
            let stripped: Vec<u8> = magnitude.iter().copied().skip_while(|b| *b == 0).collect();
            let expected = if stripped.is_empty() { vec![0] } else { stripped };
            assert_eq!(read(&unsigned(magnitude)), Ok(expected));
        }
    }
}
