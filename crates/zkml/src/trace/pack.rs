//! Integers of a known range as bytes.

use crate::qir::{Tensor, TensorType};

/// Why packed integers could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The bytes are not exactly those of the integers.
    #[error("{found} bytes of integers, not {expected}")]
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// An integer is outside its range.
    #[error("integer {0} is outside its range")]
    Range(usize),
    /// A tensor has another shape than its type.
    #[error("tensor {0} does not have the shape of its type")]
    Shape(usize),
}

/// The integers `lo ..= hi`, each written as its distance from `lo` in the least whole number of bytes, little endian.
/// Each integer has one encoding; what lies beyond `hi` has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    lo: i64,
    span: u64,
    width: usize,
}

impl Packing {
    /// The packing of `lo ..= hi`.
    #[must_use]
    pub const fn new(lo: i64, hi: i64) -> Self {
        let span = if hi < lo { 0 } else { lo.abs_diff(hi) };
        let bits = u64::BITS - span.leading_zeros();
        Self { lo, span, width: if bits == 0 { 1 } else { bits.div_ceil(8) as usize } }
    }

    /// The packing of the accumulators of a linear node: `-bound ..= bound`.
    #[must_use]
    pub const fn accumulators(bound: i64) -> Self {
        Self::new(bound.saturating_neg(), bound)
    }

    /// The packing of the elements of a tensor.
    #[must_use]
    pub const fn of(ty: &TensorType) -> Self {
        Self::new(ty.lo, ty.hi)
    }

    /// Bytes of each integer.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Appends integers.
    ///
    /// # Errors
    /// When one is outside the range.
    pub fn write(&self, values: &[i64], out: &mut Vec<u8>) -> Result<(), PackError> {
        out.reserve(values.len().saturating_mul(self.width));
        for (index, &value) in values.iter().enumerate() {
            let distance = value.abs_diff(self.lo);
            if value < self.lo || distance > self.span {
                return Err(PackError::Range(index));
            }
            out.extend_from_slice(distance.to_le_bytes().get(..self.width).unwrap_or_default());
        }
        Ok(())
    }

    /// Reads exactly `count` integers.
    ///
    /// # Errors
    /// When there are not exactly the bytes for them, or one is outside the range.
    pub fn read(&self, bytes: &[u8], count: usize) -> Result<Vec<i64>, PackError> {
        let expected = count.saturating_mul(self.width);
        if bytes.len() != expected {
            return Err(PackError::Length { found: bytes.len(), expected });
        }
        let mut values = Vec::with_capacity(count);
        for (index, piece) in bytes.chunks_exact(self.width).enumerate() {
            let mut distance = [0; 8];
            distance.iter_mut().zip(piece).for_each(|(to, &from)| *to = from);
            let distance = u64::from_le_bytes(distance);
            let value = self.lo.checked_add_unsigned(distance).filter(|_| distance <= self.span);
            values.push(value.ok_or(PackError::Range(index))?);
        }
        Ok(values)
    }
}

/// Bytes of the tensors of given types.
pub(crate) fn packed_len<'a>(types: impl IntoIterator<Item = &'a TensorType>) -> usize {
    types
        .into_iter()
        .fold(0, |sum, ty| sum.saturating_add(ty.len().saturating_mul(Packing::of(ty).width())))
}

/// Packs tensors of given types.
pub(crate) fn pack<'a>(
    types: impl ExactSizeIterator<Item = &'a TensorType>,
    tensors: &[Tensor],
    out: &mut Vec<u8>,
) -> Result<(), PackError> {
    if types.len() != tensors.len() {
        return Err(PackError::Shape(tensors.len().min(types.len())));
    }
    for (index, (ty, tensor)) in types.zip(tensors).enumerate() {
        if tensor.shape != ty.shape || tensor.values.len() != ty.len() {
            return Err(PackError::Shape(index));
        }
        Packing::of(ty).write(&tensor.values, out)?;
    }
    Ok(())
}

/// Reads tensors of given types; returns the bytes that follow them.
pub(crate) fn unpack<'a, 'b>(
    types: impl IntoIterator<Item = &'a TensorType>,
    bytes: &'b [u8],
) -> Result<(Vec<Tensor>, &'b [u8]), PackError> {
    let mut rest = bytes;
    let mut tensors = Vec::new();
    for ty in types {
        let packing = Packing::of(ty);
        let expected = ty.len().saturating_mul(packing.width());
        let short = PackError::Length { found: rest.len(), expected };
        let (piece, after) = rest.split_at_checked(expected).ok_or(short)?;
        tensors.push(Tensor { shape: ty.shape.clone(), values: packing.read(piece, ty.len())? });
        rest = after;
    }
    Ok((tensors, rest))
}
