//! Protocol Buffers on the wire, strictly and without copies.
//!
//! Nothing here allocates; every slice is a part of the input. Groups, field number 0, varints longer than 64 bits and
//! truncated fields are errors.

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A field ends after its message does.
    #[error("a field is cut short")]
    Truncated,
    /// A varint has more than 64 bits.
    #[error("a varint is too long")]
    Varint,
    /// A tag names field 0, one beyond 2^29, a group or an unknown wire type.
    #[error("a field tag is not valid")]
    Tag,
    /// A field has the wire type of another kind of value.
    #[error("field {0} has the wrong wire type")]
    Type(u32),
    /// A string is not UTF-8.
    #[error("field {0} is not UTF-8")]
    Text(u32),
    /// A field that can stand only once stands twice.
    #[error("field {0} is repeated")]
    Repeated(u32),
    /// More entries than a sane file has.
    #[error("field {0} has too many entries")]
    TooMany(u32),
}

/// A field's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64([u8; 8]),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32([u8; 4]),
}

/// A field: number and value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) value: Value<'a>,
}

impl<'a> Field<'a> {
    pub(super) fn varint(&self) -> Result<u64, WireError> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => Err(WireError::Type(self.number)),
        }
    }

    /// A signed integer: `int32` and `int64` are sign-extended to 64 bits on the wire.
    pub(super) fn int(&self) -> Result<i64, WireError> {
        self.varint().map(u64::cast_signed)
    }

    pub(super) fn float(&self) -> Result<f32, WireError> {
        match self.value {
            Value::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(WireError::Type(self.number)),
        }
    }

    pub(super) fn bytes(&self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::Type(self.number)),
        }
    }

    pub(super) fn text(&self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| WireError::Text(self.number))
    }

    /// A repeated integer field: one value, or many packed. At most `max` in all.
    pub(super) fn ints(&self, out: &mut Vec<i64>, max: usize) -> Result<(), WireError> {
        match self.value {
            Value::Varint(value) => push(out, value.cast_signed(), max, self.number),
            Value::Bytes(bytes) => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    push(out, varint(&mut rest)?.cast_signed(), max, self.number)?;
                }
                Ok(())
            }
            _ => Err(WireError::Type(self.number)),
        }
    }

    /// A repeated float field: one value, or many packed. At most `max` in all.
    pub(super) fn floats(&self, out: &mut Vec<f32>, max: usize) -> Result<(), WireError> {
        match self.value {
            Value::Fixed32(bytes) => push(out, f32::from_le_bytes(bytes), max, self.number),
            Value::Bytes(bytes) => {
                let (values, rest) = bytes.as_chunks::<4>();
                if !rest.is_empty() {
                    return Err(WireError::Truncated);
                }
                values
                    .iter()
                    .try_for_each(|&bytes| push(out, f32::from_le_bytes(bytes), max, self.number))
            }
            _ => Err(WireError::Type(self.number)),
        }
    }

    /// A repeated double field: one value, or many packed. At most `max` in all.
    pub(super) fn doubles(&self, out: &mut Vec<f64>, max: usize) -> Result<(), WireError> {
        match self.value {
            Value::Fixed64(bytes) => push(out, f64::from_le_bytes(bytes), max, self.number),
            Value::Bytes(bytes) => {
                let (values, rest) = bytes.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(WireError::Truncated);
                }
                values
                    .iter()
                    .try_for_each(|&bytes| push(out, f64::from_le_bytes(bytes), max, self.number))
            }
            _ => Err(WireError::Type(self.number)),
        }
    }
}

/// Adds an entry of a repeated field, unless there are `max` already.
pub(super) fn push<T>(
    out: &mut Vec<T>,
    value: T,
    max: usize,
    number: u32,
) -> Result<(), WireError> {
    if out.len() >= max {
        return Err(WireError::TooMany(number));
    }
    out.push(value);
    Ok(())
}

/// The fields of a message, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field; `None` at the end of the message.
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = varint(&mut self.rest)?;
        let number = u32::try_from(tag >> 3).map_err(|_| WireError::Tag)?;
        if number == 0 || number >= 1 << 29 {
            return Err(WireError::Tag);
        }
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Fixed64(self.take_array()?),
            2 => {
                let len = varint(&mut self.rest)?;
                let len = usize::try_from(len).map_err(|_| WireError::Truncated)?;
                let (bytes, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(self.take_array()?),
            _ => return Err(WireError::Tag),
        };
        Ok(Some(Field { number, value }))
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

fn varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or(WireError::Truncated)?;
        *rest = tail;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte holds the last bit.
        if shift == 63 && bits > 1 {
            return Err(WireError::Varint);
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(WireError::Varint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(bytes: &[u8]) -> Result<Option<Field<'_>>, WireError> {
        Fields::new(bytes).next()
    }

    #[test]
    fn varints_end_at_64_bits() {
        let mut max = vec![0x08];
        max.extend([0xff; 9]);
        max.push(0x01);
        assert_eq!(first(&max).unwrap().unwrap().int().unwrap(), -1);
        *max.last_mut().unwrap() = 0x02;
        assert_eq!(first(&max).unwrap_err(), WireError::Varint);
        assert_eq!(first(&[0x08, 0x80]).unwrap_err(), WireError::Truncated);
    }

    #[test]
    fn lengths_are_checked_before_anything_is_taken() {
        assert_eq!(first(&[0x0a, 0x05, 1, 2]).unwrap_err(), WireError::Truncated);
        let huge = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(first(&huge).unwrap_err(), WireError::Truncated);
        assert_eq!(first(&[0x0d, 1, 2, 3]).unwrap_err(), WireError::Truncated);
    }

    #[test]
    fn groups_and_field_zero_are_refused() {
        for tag in [0x0b, 0x0c, 0x0e, 0x0f, 0x00, 0x02] {
            assert_eq!(first(&[tag, 0, 0, 0]).unwrap_err(), WireError::Tag, "{tag}");
        }
    }

    #[test]
    fn repeated_numbers_are_packed_or_not() {
        let mut out = Vec::new();
        first(&[0x0a, 0x03, 0x01, 0x96, 0x01]).unwrap().unwrap().ints(&mut out, 9).unwrap();
        first(&[0x08, 0x07]).unwrap().unwrap().ints(&mut out, 9).unwrap();
        assert_eq!(out, [1, 150, 7]);
        let field = first(&[0x0a, 0x03, 1, 2, 3]).unwrap().unwrap();
        assert_eq!(field.ints(&mut out, 5).unwrap_err(), WireError::TooMany(1));
        assert_eq!(field.floats(&mut Vec::new(), 5).unwrap_err(), WireError::Truncated);
    }
}
