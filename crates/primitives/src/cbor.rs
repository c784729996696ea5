//! Deterministic CBOR (RFC 8949 §4.2.1): one encoder, one strict decoder with limits.
//!
//! The decoder accepts exactly one byte string for a value: shortest heads, definite lengths, map keys in
//! bytewise order, no duplicates, no trailing bytes. [`Rules::AWS_NITRO`] relaxes two of these for the payload
//! map of AWS documents, which is indefinite and in AWS's own key order; nothing else is relaxed there.
//! Floating point, simple values other than `false`, `true` and `null`, and integers beyond 64 bits are refused.

use thiserror::Error;

/// One CBOR data item.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// Major type 0.
    Uint(u64),
    /// Major type 1: holds `n` for the integer `-1 - n`.
    Nint(u64),
    /// Major type 2.
    Bytes(Vec<u8>),
    /// Major type 3.
    Text(String),
    /// Major type 4.
    Array(Vec<Self>),
    /// Major type 5, in the order of the bytes.
    Map(Vec<(Self, Self)>),
    /// Major type 6.
    Tag(u64, Box<Self>),
    /// `false` or `true`.
    Bool(bool),
    /// `null`.
    Null,
}

/// What the decoder tolerates and how much it will read.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Most bytes of input.
    pub input_bytes_max: usize,
    /// Deepest nesting of arrays, maps and tags.
    pub depth_max: usize,
    /// Most items in all, so that work stays proportional to a small multiple of the input.
    pub items_max: usize,
    /// Accepts the outermost map in indefinite-length form.
    pub outer_map_may_be_indefinite: bool,
    /// Accepts map keys in any order; duplicates are refused all the same.
    pub any_key_order: bool,
}

impl Rules {
    /// The project's own formats: deterministic encoding and nothing else.
    pub const DETERMINISTIC: Self = Self {
        input_bytes_max: 1 << 20,
        depth_max: 16,
        items_max: 1 << 16,
        outer_map_may_be_indefinite: false,
        any_key_order: false,
    };

    /// The payload map of an AWS Nitro attestation document.
    pub const AWS_NITRO: Self = Self {
        input_bytes_max: 16_384,
        depth_max: 4,
        items_max: 512,
        outer_map_may_be_indefinite: true,
        any_key_order: true,
    };
}

/// Why bytes are not one well-formed item under the rules. Positions are byte offsets into the input.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Error {
    /// The input is larger than the rules allow.
    #[error("input of {len} bytes exceeds the limit of {max}")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The input ends inside an item.
    #[error("input ends inside an item at byte {at}")]
    Truncated {
        /// Offset of the missing byte.
        at: usize,
    },
    /// Bytes follow the item.
    #[error("trailing bytes after the item at byte {at}")]
    Trailing {
        /// Offset of the first of them.
        at: usize,
    },
    /// A head is not in its shortest form.
    #[error("head is not in its shortest form at byte {at}")]
    NotShortest {
        /// Offset of the head.
        at: usize,
    },
    /// An indefinite length where a definite one is required.
    #[error("indefinite length at byte {at}")]
    Indefinite {
        /// Offset of the head.
        at: usize,
    },
    /// A major type or simple value outside the subset (floats, undefined, reserved heads).
    #[error("unsupported item at byte {at}")]
    Unsupported {
        /// Offset of the head.
        at: usize,
    },
    /// Text that is not UTF-8.
    #[error("text is not UTF-8 at byte {at}")]
    NotUtf8 {
        /// Offset of the first byte of the text.
        at: usize,
    },
    /// A map key stands twice.
    #[error("duplicate map key at byte {at}")]
    DuplicateKey {
        /// Offset of the second one.
        at: usize,
    },
    /// Map keys are not in bytewise order.
    #[error("map keys out of order at byte {at}")]
    KeyOrder {
        /// Offset of the key that comes too late.
        at: usize,
    },
    /// Nesting is deeper than the rules allow.
    #[error("nesting deeper than {max} at byte {at}")]
    TooDeep {
        /// Offset of the item.
        at: usize,
        /// Depth allowed.
        max: usize,
    },
    /// More items than the rules allow.
    #[error("more than {max} items")]
    TooManyItems {
        /// Items allowed.
        max: usize,
    },
}

impl Value {
    /// Text from anything that is text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Bytes from anything that is bytes.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// The signed integer `n` as major type 0 or 1.
    pub fn int(n: i64) -> Self {
        match u64::try_from(n) {
            Ok(n) => Self::Uint(n),
            Err(_) => Self::Nint((-1 - n).unsigned_abs()),
        }
    }

    /// Encodes deterministically. Map entries are sorted by their encoded keys, so callers may list them in
    /// the order that reads best.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Uint(n) => head(out, 0, *n),
            Self::Nint(n) => head(out, 1, *n),
            Self::Bytes(bytes) => {
                head(out, 2, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Self::Text(text) => {
                head(out, 3, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
            Self::Array(items) => {
                head(out, 4, items.len() as u64);
                for item in items {
                    item.encode_into(out);
                }
            }
            Self::Map(entries) => {
                head(out, 5, entries.len() as u64);
                let mut encoded: Vec<_> =
                    entries.iter().map(|(key, value)| (key.encode(), value)).collect();
                encoded.sort_by(|a, b| a.0.cmp(&b.0));
                for (key, value) in encoded {
                    out.extend_from_slice(&key);
                    value.encode_into(out);
                }
            }
            Self::Tag(tag, item) => {
                head(out, 6, *tag);
                item.encode_into(out);
            }
            Self::Bool(false) => out.push(0xf4),
            Self::Bool(true) => out.push(0xf5),
            Self::Null => out.push(0xf6),
        }
    }

    /// Decodes one item that fills `input`.
    ///
    /// # Errors
    /// The first rule that the bytes break, with its offset.
    pub fn decode(input: &[u8], rules: Rules) -> Result<Self, Error> {
        if input.len() > rules.input_bytes_max {
            return Err(Error::TooLong { len: input.len(), max: rules.input_bytes_max });
        }
        let mut decoder = Decoder { input, at: 0, items: 0, rules };
        let value = decoder.item(0)?;
        if decoder.at != input.len() {
            return Err(Error::Trailing { at: decoder.at });
        }
        Ok(value)
    }

    /// The unsigned integer, if it is one.
    pub fn as_uint(&self) -> Option<u64> {
        if let Self::Uint(n) = self { Some(*n) } else { None }
    }

    /// The bytes, if they are bytes.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The items, if it is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }

    /// The entries, if it is a map.
    pub fn as_map(&self) -> Option<&[(Self, Self)]> {
        if let Self::Map(entries) = self { Some(entries) } else { None }
    }

    /// The value under `key`, if this is a map that has it.
    pub fn get(&self, key: &Self) -> Option<&Self> {
        self.as_map()?.iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }
}

fn head(out: &mut Vec<u8>, major: u8, n: u64) {
    let bytes = n.to_be_bytes();
    match n {
        0..=23 => out.push(major << 5 | bytes[7]),
        24..=0xff => out.extend_from_slice(&[major << 5 | 24, bytes[7]]),
        0x100..=0xffff => {
            out.push(major << 5 | 25);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major << 5 | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(major << 5 | 27);
            out.extend_from_slice(&bytes);
        }
    }
}

struct Decoder<'a> {
    input: &'a [u8],
    at: usize,
    items: usize,
    rules: Rules,
}

impl<'a> Decoder<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.input.len());
        let bytes = end
            .and_then(|end| self.input.get(self.at..end))
            .ok_or(Error::Truncated { at: self.input.len() })?;
        self.at += len;
        Ok(bytes)
    }

    /// Reads a head: major type and argument; `None` for an indefinite length.
    fn head(&mut self) -> Result<(u8, u8, Option<u64>), Error> {
        let at = self.at;
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 0x1f);
        let width = match info {
            0..=23 => return Ok((major, info, Some(u64::from(info)))),
            24..=27 => 1_usize << (info - 24),
            31 => return Ok((major, info, None)),
            _ => return Err(Error::Unsupported { at }),
        };
        let argument = self.take(width)?.iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
        let least = match width {
            1 => 24,
            2 => 0x100,
            4 => 0x1_0000,
            _ => 0x1_0000_0000,
        };
        // Simple values with a following byte (major 7) are outside the subset; the caller refuses them.
        if major != 7 && argument < least {
            return Err(Error::NotShortest { at });
        }
        Ok((major, info, Some(argument)))
    }

    /// A length that the remaining input can hold, counting at least one byte an element.
    fn length(&self, at: usize, argument: Option<u64>) -> Result<usize, Error> {
        let length = argument.ok_or(Error::Indefinite { at })?;
        usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.input.len() - self.at)
            .ok_or(Error::Truncated { at: self.input.len() })
    }

    fn item(&mut self, depth: usize) -> Result<Value, Error> {
        let at = self.at;
        self.items += 1;
        if self.items > self.rules.items_max {
            return Err(Error::TooManyItems { max: self.rules.items_max });
        }
        if depth > self.rules.depth_max {
            return Err(Error::TooDeep { at, max: self.rules.depth_max });
        }
        let (major, info, argument) = self.head()?;
        match major {
            0 => Ok(Value::Uint(argument.ok_or(Error::Unsupported { at })?)),
            1 => Ok(Value::Nint(argument.ok_or(Error::Unsupported { at })?)),
            2 => {
                let length = self.length(at, argument)?;
                Ok(Value::Bytes(self.take(length)?.to_vec()))
            }
            3 => {
                let length = self.length(at, argument)?;
                let text_at = self.at;
                let text = core::str::from_utf8(self.take(length)?)
                    .map_err(|_| Error::NotUtf8 { at: text_at })?;
                Ok(Value::Text(text.to_owned()))
            }
            4 => {
                let length = self.length(at, argument)?;
                (0..length)
                    .map(|_| self.item(depth + 1))
                    .collect::<Result<_, _>>()
                    .map(Value::Array)
            }
            5 => self.map(at, argument, depth),
            6 => {
                let tag = argument.ok_or(Error::Unsupported { at })?;
                Ok(Value::Tag(tag, Box::new(self.item(depth + 1)?)))
            }
            _ => match info {
                20 => Ok(Value::Bool(false)),
                21 => Ok(Value::Bool(true)),
                22 => Ok(Value::Null),
                _ => Err(Error::Unsupported { at }),
            },
        }
    }

    fn map(&mut self, at: usize, argument: Option<u64>, depth: usize) -> Result<Value, Error> {
        let indefinite = argument.is_none();
        if indefinite && !(depth == 0 && self.rules.outer_map_may_be_indefinite) {
            return Err(Error::Indefinite { at });
        }
        let length = if indefinite { 0 } else { self.length(at, argument)? };
        let mut entries = Vec::new();
        let mut keys: Vec<&[u8]> = Vec::new();
        loop {
            if indefinite {
                if self.input.get(self.at) == Some(&0xff) {
                    self.at += 1;
                    break;
                }
            } else if entries.len() == length {
                break;
            }
            let key_at = self.at;
            let key = self.item(depth + 1)?;
            let key_bytes = self.input.get(key_at..self.at).unwrap_or_default();
            if self.rules.any_key_order {
                // `items_max` bounds the quadratic scan.
                if keys.contains(&key_bytes) {
                    return Err(Error::DuplicateKey { at: key_at });
                }
            } else if let Some(previous) = keys.last() {
                match key_bytes.cmp(previous) {
                    core::cmp::Ordering::Greater => {}
                    core::cmp::Ordering::Equal => return Err(Error::DuplicateKey { at: key_at }),
                    core::cmp::Ordering::Less => return Err(Error::KeyOrder { at: key_at }),
                }
            }
            keys.push(key_bytes);
            entries.push((key, self.item(depth + 1)?));
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &str) -> Result<Value, Error> {
        Value::decode(&hex::decode(bytes).unwrap(), Rules::DETERMINISTIC)
    }

    #[test]
    fn rfc_8949_appendix_a_examples_decode_and_encode_back() {
        for (bytes, value) in [
            ("00", Value::Uint(0)),
            ("1818", Value::Uint(24)),
            ("1903e8", Value::Uint(1000)),
            ("1bffffffffffffffff", Value::Uint(u64::MAX)),
            ("20", Value::int(-1)),
            ("3903e7", Value::int(-1000)),
            ("3bffffffffffffffff", Value::Nint(u64::MAX)),
            ("f4", Value::Bool(false)),
            ("f6", Value::Null),
            ("4401020304", Value::bytes([1, 2, 3, 4])),
            ("6449455446", Value::text("IETF")),
            ("83010203", Value::Array(vec![Value::Uint(1), Value::Uint(2), Value::Uint(3)])),
            ("c11a514b67b0", Value::Tag(1, Box::new(Value::Uint(1_363_896_240)))),
            (
                "a201020304",
                Value::Map(vec![
                    (Value::Uint(1), Value::Uint(2)),
                    (Value::Uint(3), Value::Uint(4)),
                ]),
            ),
        ] {
            assert_eq!(decode(bytes).as_ref(), Ok(&value), "{bytes}");
            assert_eq!(hex::encode(value.encode()), bytes);
        }
    }

    #[test]
    fn every_laxness_is_refused_by_name() {
        let at = 0;
        for (bytes, error) in [
            ("", Error::Truncated { at: 0 }),
            ("1817", Error::NotShortest { at }),
            ("190018", Error::NotShortest { at }),
            ("1a00000018", Error::NotShortest { at }),
            ("1b0000000000000018", Error::NotShortest { at }),
            ("5f4101ff", Error::Indefinite { at }),
            ("7f6101ff", Error::Indefinite { at }),
            ("9f01ff", Error::Indefinite { at }),
            ("bf0102ff", Error::Indefinite { at }),
            ("0000", Error::Trailing { at: 1 }),
            ("f97e00", Error::Unsupported { at }),
            ("fb7ff8000000000000", Error::Unsupported { at }),
            ("f7", Error::Unsupported { at }),
            ("f820", Error::Unsupported { at }),
            ("1c", Error::Unsupported { at }),
            ("1f", Error::Unsupported { at }),
            ("ff", Error::Unsupported { at }),
            ("61ff", Error::NotUtf8 { at: 1 }),
            ("a203040102", Error::KeyOrder { at: 3 }),
            ("a201020103", Error::DuplicateKey { at: 3 }),
            ("5bffffffffffffffff", Error::Truncated { at: 9 }),
            ("9bffffffffffffffff", Error::Truncated { at: 9 }),
            ("4201", Error::Truncated { at: 2 }),
        ] {
            assert_eq!(decode(bytes), Err(error), "{bytes}");
        }
        let deep = "81".repeat(17) + "00";
        assert_eq!(decode(&deep), Err(Error::TooDeep { at: 17, max: 16 }));
    }

    #[test]
    fn the_nitro_rules_relax_the_outer_map_only() {
        let nitro = |bytes: &str| Value::decode(&hex::decode(bytes).unwrap(), Rules::AWS_NITRO);
        assert!(nitro("bf03040102ff").is_ok());
        assert!(nitro("a203040102").is_ok());
        assert_eq!(nitro("bf01020103ff"), Err(Error::DuplicateKey { at: 3 }));
        assert_eq!(nitro("bf01bf0102ffff"), Err(Error::Indefinite { at: 2 }));
        assert_eq!(nitro("bf015f4101ffff"), Err(Error::Indefinite { at: 2 }));
        assert_eq!(nitro("bf0102"), Err(Error::Truncated { at: 3 }));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u64>().prop_map(Value::Uint),
            any::<u64>().prop_map(Value::Nint),
            any::<Vec<u8>>().prop_map(Value::Bytes),
            any::<String>().prop_map(Value::Text),
            any::<bool>().prop_map(Value::Bool),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                prop::collection::btree_map(any::<Vec<u8>>(), inner.clone(), 0..8).prop_map(|m| {
                    Value::Map(m.into_iter().map(|(k, v)| (Value::Bytes(k), v)).collect())
                }),
                (any::<u64>(), inner).prop_map(|(tag, item)| Value::Tag(tag, Box::new(item))),
            ]
        })
    }

    proptest! {
        #[test]
        fn encoding_is_a_bijection_on_its_image(value in any_value()) {
            let bytes = value.encode();
            let decoded = Value::decode(&bytes, Rules::DETERMINISTIC).unwrap();
            prop_assert_eq!(decoded.encode(), bytes);
        }

        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(bytes in any::<Vec<u8>>()) {
            if let Ok(value) = Value::decode(&bytes, Rules::DETERMINISTIC) {
                prop_assert_eq!(value.encode(), bytes);
            }
        }
    }
}
