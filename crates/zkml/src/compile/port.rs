//! Between real numbers and the integers of a program's inputs and outputs.

use thiserror::Error;

use crate::qir::{Port, Tensor, TensorType};

/// Why numbers are not an input.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PortError {
    /// Not as many numbers as the input has elements.
    #[error("input `{name}` takes {expected} numbers, got {got}")]
    Count {
        /// The input.
        name: String,
        /// Numbers supplied.
        got: usize,
        /// Elements of the input.
        expected: usize,
    },
    /// A number is not finite, or outside the range the model was compiled for.
    #[error("input `{name}`: element {index} is {value}, the model was compiled for {lo} to {hi}")]
    Range {
        /// The input.
        name: String,
        /// Which element.
        index: usize,
        /// The number.
        value: f64,
        /// Smallest accepted.
        lo: f64,
        /// Largest accepted.
        hi: f64,
    },
}

/// The integers of an input: `round(x · 2^exponent)`, ties away from zero.
///
/// # Errors
/// [`PortError`].
pub fn quantise(port: &Port, values: &[f64]) -> Result<Tensor, PortError> {
    if values.len() != port.ty.len() {
        return Err(PortError::Count {
            name: port.name.clone(),
            got: values.len(),
            expected: port.ty.len(),
        });
    }
    let scale = power(port.ty.exponent.into());
    let integers = values.iter().enumerate().map(|(index, &value)| {
        round(value * scale).filter(|v| (port.ty.lo..=port.ty.hi).contains(v)).ok_or_else(|| {
            PortError::Range {
                name: port.name.clone(),
                index,
                value,
                lo: float(port.ty.lo) / scale,
                hi: float(port.ty.hi) / scale,
            }
        })
    });
    Ok(Tensor { shape: port.ty.shape.clone(), values: integers.collect::<Result<_, _>>()? })
}

/// The real numbers meant by integers of a type.
#[must_use]
pub fn dequantise(ty: &TensorType, values: &[i64]) -> Vec<f64> {
    let scale = power(-i32::from(ty.exponent));
    values.iter().map(|&v| float(v) * scale).collect()
}

/// `2^e` exactly, for exponents of normal numbers.
pub(super) fn power(e: i32) -> f64 {
    f64::from_bits(u64::from((e.clamp(-1022, 1023) + 1023).unsigned_abs()) << 52)
}

/// `floor(log2 x)` for a normal positive number: its exponent.
pub(super) fn log2_floor(x: f64) -> i32 {
    i32::try_from((x.to_bits() >> 52) & 0x7ff).unwrap_or(0) - 1023
}

/// The nearest integer, ties away from zero; none beyond ±2^62.
#[allow(clippy::cast_possible_truncation, reason = "the range is checked")]
pub(super) fn round(x: f64) -> Option<i64> {
    (x.abs() < power(62)).then(|| x.round() as i64)
}

/// The nearest float.
#[allow(clippy::cast_precision_loss, reason = "the nearest float is what is meant")]
pub(super) fn float(v: i64) -> f64 {
    v as f64
}
