//! Ranges of all tensors, by executing the float graph.

use super::{Calibration, CompileError};
use crate::onnx::{Data, Graph, Kind};
use crate::reference::{Value, run};

/// Seed of the pseudo-random inputs drawn for a stated range.
const SEED: u64 = 0x6f67_2e7a_6b6d_6c31;
/// Number of pseudo-random inputs.
const SAMPLES: usize = 24;
/// Executions stop after this many elements were computed, but not before four inputs.
const BUDGET: usize = 1 << 28;

/// What calibration found.
pub(super) struct Ranges {
    /// The largest magnitude of each tensor of the graph; 0 for constants.
    pub(super) tensors: Vec<f64>,
    /// The largest magnitude of each element of each input, where inputs were given and the input is a list of features.
    pub(super) features: Vec<Option<Vec<f64>>>,
}

/// Inputs of more elements than this are not looked at element by element.
pub(super) const MAX_FEATURES: usize = 4096;

pub(super) fn ranges(graph: &Graph, calibration: Calibration<'_>) -> Result<Ranges, CompileError> {
    let mut ranges = vec![0f64; graph.tensors.len()];
    let mut features = vec![None; graph.inputs.len()];
    match calibration {
        Calibration::Inputs([]) => return Err(CompileError::Calibration("no inputs".to_owned())),
        Calibration::Inputs(inputs) => {
            for (sample, inputs) in inputs.iter().enumerate() {
                observe(graph, sample, inputs, &mut ranges)?;
                for (known, value) in features.iter_mut().zip(inputs) {
                    observe_features(known, value);
                }
            }
        }
        Calibration::Range { lo, hi } => {
            if !(lo.is_finite() && hi.is_finite() && lo < hi) {
                return Err(CompileError::Calibration(format!(
                    "the range {lo}..{hi} is empty or not finite"
                )));
            }
            let per_run: usize = graph.tensors.iter().map(crate::onnx::Tensor::len).sum();
            let samples = (BUDGET / per_run.max(1)).clamp(4, SAMPLES);
            for sample in 0..samples {
                let inputs = draw(graph, sample, lo, hi);
                observe(graph, sample, &inputs, &mut ranges)?;
            }
            // The range holds for every input, drawn or not.
            for &id in &graph.inputs {
                if let Some(range) = ranges.get_mut(id) {
                    *range = range.max(lo.abs().into()).max(hi.abs().into());
                }
            }
        }
    }
    Ok(Ranges { tensors: ranges, features })
}

fn observe_features(known: &mut Option<Vec<f64>>, value: &Value) {
    let (Some(floats), Some(&last)) = (value.data.floats(), value.shape.last()) else { return };
    if last != floats.len() || last > MAX_FEATURES {
        return;
    }
    let largest = known.get_or_insert_with(|| vec![0.0; last]);
    for (m, &v) in largest.iter_mut().zip(floats) {
        *m = m.max(v.abs().into());
    }
}

fn observe(
    graph: &Graph,
    sample: usize,
    inputs: &[Value],
    ranges: &mut [f64],
) -> Result<(), CompileError> {
    let values = run(graph, inputs)?;
    for ((value, range), tensor) in values.iter().zip(ranges).zip(&graph.tensors) {
        let largest = match value.as_ref().map(|v| &v.data) {
            None => continue,
            Some(Data::Float(values)) => {
                if values.iter().any(|v| !v.is_finite()) {
                    return Err(CompileError::NotFinite { tensor: tensor.name.clone(), sample });
                }
                values.iter().fold(0f64, |m, &v| m.max(v.abs().into()))
            }
            Some(Data::Int(values)) => values.iter().fold(0f64, |m, &v| m.max(to_f64(v).abs())),
        };
        *range = range.max(largest);
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "a magnitude needs no more digits than a float has")]
fn to_f64(v: i64) -> f64 {
    v as f64
}

/// The pseudo-random inputs of one sample: the two ends of the range everywhere, then runs of equal elements whose length doubles from sample to
/// sample, because neighbours in real inputs are alike and their sums reach further than those of noise.
fn draw(graph: &Graph, sample: usize, lo: f32, hi: f32) -> Vec<Value> {
    let mut random = SplitMix(SEED ^ sample as u64);
    let run = 1usize << (sample % 8);
    let tensors = graph.inputs.iter().filter_map(|&id| graph.tensor(id));
    tensors
        .map(|tensor| {
            let mut current = 0f32;
            let floats: Vec<f32> = (0..tensor.len())
                .map(|i| {
                    if i % run == 0 {
                        current = random.unit();
                    }
                    match sample {
                        0 => lo,
                        1 => hi,
                        _ => (lo + (hi - lo) * current).clamp(lo, hi),
                    }
                })
                .collect();
            match tensor.kind {
                Kind::Float => Value::floats(&tensor.shape, floats),
                kind => Value {
                    kind,
                    ..Value::ints(
                        &tensor.shape,
                        floats.into_iter().map(|v| integer(v, lo, hi, kind)).collect::<Vec<_>>(),
                    )
                },
            }
        })
        .collect()
}

#[allow(clippy::cast_possible_truncation, reason = "rounding is what is meant")]
fn integer(v: f32, lo: f32, hi: f32, kind: Kind) -> i64 {
    match kind {
        Kind::Bool => i64::from(2.0 * v > lo + hi),
        _ => (v.round() as i64).clamp(lo.ceil() as i64, (hi.floor() as i64).max(lo.ceil() as i64)),
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..=1`, 16 bits.
    fn unit(&mut self) -> f32 {
        u16::try_from(self.next() >> 48).map_or(0.0, |v| f32::from(v) / 65535.0)
    }
}
