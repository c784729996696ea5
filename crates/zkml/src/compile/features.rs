//! Inputs whose features differ in size: one scale per feature, taken up by the weights that read them.

use super::CompileError;
use super::lower::{Lower, Value};
use super::port::{log2_floor, power};
use crate::onnx::{Op as FloatOp, TensorId};
use crate::qir::{Op, Requant};

/// So few features may be as exact as they like.
const FEW: usize = 64;
/// Digits of the largest of them, once each has its scale.
const SCALED_DIGITS: i32 = 23;

impl Lower<'_> {
    /// The scale of each feature of an input that only layers read: where there are few, or where one scale for all would leave features or weights few
    /// digits because they differ widely in size. Scales follow the weights, so that every feature's rounding weighs alike.
    pub(super) fn feature_exponents(
        &self,
        id: TensorId,
        features: Option<&[f64]>,
        observed: f64,
    ) -> Result<Option<Vec<i8>>, CompileError> {
        let Some(columns) = self.columns(id) else { return Ok(None) };
        let features = features
            .filter(|f| f.len() == columns.len())
            .map_or_else(|| vec![observed; columns.len()], <[f64]>::to_vec);
        if columns.len() > FEW && !differ(&features, 64.0) && !differ(&columns, 16.0) {
            return Ok(None);
        }
        let largest = features.iter().copied().fold(power(-40), f64::max);
        let headroom = self.precision.headroom();
        // Digits before the point that the scaled features need, for scales that make all weights alike.
        let own: Vec<i32> = columns.iter().map(|c| log2_floor(c.max(power(-40)))).collect();
        // A feature that was always zero may be anything.
        let reach =
            features.iter().map(|&f| if f > 0.0 { f * headroom } else { largest * headroom });
        let digits = reach.zip(&own).map(|(f, e)| log2_floor(f) + 1 + e).max().unwrap_or(0);
        let exponents = own
            .iter()
            .map(|e| i8::try_from((e + SCALED_DIGITS - digits).clamp(-30, 40)).unwrap_or(0));
        Ok(Some(exponents.collect()))
    }

    /// The largest weight of each feature, when layers over the last dimension are all that reads a tensor of one row.
    fn columns(&self, id: TensorId) -> Option<Vec<f64>> {
        let mut columns: Option<Vec<f64>> = None;
        for node in self.graph.nodes.iter().filter(|node| node.inputs.contains(&id)) {
            let FloatOp::Dense(dense) = &node.op else { return None };
            let tensor = self.graph.tensor(id)?;
            if tensor.len() != dense.inputs || dense.inputs > super::calibrate::MAX_FEATURES {
                return None;
            }
            let columns = columns.get_or_insert_with(|| vec![0.0; dense.inputs]);
            for row in dense.weights.chunks(dense.inputs.max(1)) {
                for (m, w) in columns.iter_mut().zip(row) {
                    *m = m.max(w.abs().into());
                }
            }
        }
        if self.graph.outputs.contains(&id) { None } else { columns }
    }

    /// An input with one scale per feature, and these scales; the features then differ in what an integer means, so only weights can read them.
    pub(super) fn by_feature(
        &mut self,
        x: &Value,
    ) -> Result<Option<(Value, Vec<i8>)>, CompileError> {
        let Some(exponents) = self.features.get(&x.id).cloned() else { return Ok(None) };
        let axis = u32::try_from(self.ty(x)?.shape.len() - 1).unwrap_or(0);
        let least = exponents.iter().copied().min().unwrap_or(0).min(x.exponent);
        let shift = i16::from(x.exponent) - i16::from(least);
        let multipliers: Vec<i64> = exponents
            .iter()
            .map(|&e| 1i64 << (i16::from(e) - i16::from(least)).clamp(0, 40))
            .collect();
        let axis = if multipliers.len() == 1 { 0 } else { axis };
        let limit = (1i64 << (SCALED_DIGITS + 1)) - 1;
        let op = Op::Requant(Requant {
            multipliers,
            axis,
            shift: u8::try_from(shift).unwrap_or(0),
            lo: -limit,
            hi: limit,
        });
        let id = self.push(op, &[x.id], 0)?;
        Ok(Some((self.value(id, 0)?, exponents)))
    }
}

/// Whether the largest of some magnitudes is far above the median of those that are not zero.
fn differ(magnitudes: &[f64], factor: f64) -> bool {
    let mut sorted: Vec<f64> = magnitudes.iter().copied().filter(|m| *m > 0.0).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    match (sorted.last(), sorted.get(sorted.len() / 2)) {
        (Some(largest), Some(median)) => largest / median > factor,
        _ => false,
    }
}
