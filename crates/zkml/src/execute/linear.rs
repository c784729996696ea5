//! Multiplication by weights.

use super::{ExecuteError, Linears};
use crate::qir::{Form, Linear, NodeWeights, Weights};

impl Linears for &Weights {
    fn accumulate(
        &mut self,
        index: usize,
        node: &Linear,
        x: &[i64],
    ) -> Result<Vec<i64>, ExecuteError> {
        let refuse = |reason: &str| ExecuteError::Linear { index, reason: reason.to_owned() };
        let weights =
            self.nodes().get(index).ok_or_else(|| refuse("there are no weights for it"))?;
        if weights.matrix.len() != node.weight_len()
            || weights.bias.len() != node.bias_len()
            || x.len() != node.input_len()
        {
            return Err(refuse("the weights are those of another program"));
        }
        Ok(accumulate(node, weights, x))
    }
}

/// Rows of operands handled at once: keeps a patch in the cache and the copy of a convolution's input small.
const BLOCK: usize = 32;

fn accumulate(node: &Linear, weights: &NodeWeights, x: &[i64]) -> Vec<i64> {
    let mut result = vec![0i64; node.accumulator_len()];
    let values = Values::new(x);
    match &node.form {
        Form::Dense { .. } => dense(node, weights, &values, &mut result),
        Form::Conv { .. } => convolution(node, weights, &values, &mut result),
    }
    result
}

fn dense(node: &Linear, weights: &NodeWeights, values: &Values<'_>, result: &mut [i64]) {
    let (inner, outer) = (node.inner(), node.out_per_group());
    for (block, out) in result.chunks_mut(BLOCK * outer).enumerate() {
        for (o, row) in weights.matrix.chunks(inner).enumerate() {
            let bias = weights.bias.get(o).copied().unwrap_or(0);
            for (p, out) in out.chunks_mut(outer).enumerate() {
                let start = (block * BLOCK + p) * inner;
                out[o] = values.dot(start, row).wrapping_add(bias);
            }
        }
    }
}

fn convolution(node: &Linear, weights: &NodeWeights, values: &Values<'_>, result: &mut [i64]) {
    let Some(relation) = Relation::new(node) else { return };
    let (inner, outer, positions) = (node.inner(), node.out_per_group(), node.positions());
    let mut offsets = Vec::new();
    let mut patches = values.empty();
    for start in (0..positions).step_by(BLOCK) {
        let block = start..(start + BLOCK).min(positions);
        offsets.clear();
        for p in block.clone() {
            relation.offsets(p % relation.spatial, &mut offsets);
        }
        for g in 0..node.groups() {
            let rows = &weights.matrix[g * outer * inner..(g + 1) * outer * inner];
            patches.clear();
            for (p, offsets) in block.clone().zip(offsets.chunks(relation.cells)) {
                let first = relation.first(p, g);
                for channel in 0..relation.per_group {
                    patches.gather(values, first + channel * relation.size, offsets);
                }
            }
            for (o, row) in rows.chunks(inner).enumerate() {
                let bias = weights.bias.get(g * outer + o).copied().unwrap_or(0);
                for p in block.clone() {
                    let sum = if inner <= SHORT {
                        patches.short_dot((p - start) * inner, row)
                    } else {
                        patches.dot((p - start) * inner, row)
                    };
                    result[node.accumulator_index(g, o, p)] = sum.wrapping_add(bias);
                }
            }
        }
    }
}

/// Sums of up to this many products are not worth splitting.
const SHORT: usize = 32;

/// Operands: as they are, or cut into bytes when all have 16 bits, so that sums of products fit 32. The proven bound of a linear node rules out
/// wrapping, so sums need no checks.
struct Values<'a> {
    wide: std::borrow::Cow<'a, [i64]>,
    narrow: bool,
    low: Vec<i16>,
    high: Vec<i16>,
}

impl<'a> Values<'a> {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "16-bit values are cut into a low and a high byte"
    )]
    fn new(x: &'a [i64]) -> Self {
        let narrow = x.iter().all(|&v| i16::try_from(v).is_ok());
        let (low, high) = if narrow {
            (
                x.iter().map(|&v| (v & 0xff) as i16).collect(),
                x.iter().map(|&v| (v >> 8) as i16).collect(),
            )
        } else {
            (Vec::new(), Vec::new())
        };
        Self { wide: std::borrow::Cow::Borrowed(x), narrow, low, high }
    }

    fn empty(&self) -> Values<'static> {
        Values {
            wide: std::borrow::Cow::Owned(Vec::new()),
            narrow: self.narrow,
            low: Vec::new(),
            high: Vec::new(),
        }
    }

    fn clear(&mut self) {
        self.wide.to_mut().clear();
        self.low.clear();
        self.high.clear();
    }

    /// Appends the values at the offsets from `first`, zero in the padding.
    fn gather(&mut self, from: &Values<'_>, first: usize, offsets: &[u32]) {
        fn pick<T: Copy + Default>(
            from: &[T],
            first: usize,
            offsets: &[u32],
        ) -> impl Iterator<Item = T> {
            let from = &from[first..];
            offsets.iter().map(|&o| if o == PADDING { T::default() } else { from[o as usize] })
        }
        if self.narrow {
            self.low.extend(pick(&from.low, first, offsets));
            self.high.extend(pick(&from.high, first, offsets));
        } else {
            self.wide.to_mut().extend(pick(&from.wide, first, offsets));
        }
    }

    fn dot(&self, start: usize, weights: &[i16]) -> i64 {
        let range = start..start + weights.len();
        if !self.narrow {
            return self.wide[range]
                .iter()
                .zip(weights)
                .fold(0i64, |sum, (&x, &w)| sum.wrapping_add(x.wrapping_mul(w.into())));
        }
        // |w · low| < 2^15 · 2^8: 256 products stay below 2^31.
        let (low, high) = (self.low[range.clone()].chunks(256), self.high[range].chunks(256));
        low.zip(high).zip(weights.chunks(256)).fold(0i64, |sum, ((low, high), w)| {
            sum.wrapping_add(i64::from(dot16(low, w))).wrapping_add(i64::from(dot16(high, w)) << 8)
        })
    }

    fn short_dot(&self, start: usize, weights: &[i16]) -> i64 {
        let range = start..start + weights.len();
        if !self.narrow {
            return self.dot(start, weights);
        }
        let (mut low, mut high) = (0i32, 0i32);
        for ((&w, &l), &h) in weights.iter().zip(&self.low[range.clone()]).zip(&self.high[range]) {
            low = low.wrapping_add(i32::from(w) * i32::from(l));
            high = high.wrapping_add(i32::from(w) * i32::from(h));
        }
        i64::from(low) + (i64::from(high) << 8)
    }
}

fn dot16(a: &[i16], b: &[i16]) -> i32 {
    a.iter()
        .zip(b)
        .fold(0i32, |sum, (&a, &b)| sum.wrapping_add(i32::from(a).wrapping_mul(i32::from(b))))
}

/// In a table of offsets: a cell in the padding.
const PADDING: u32 = u32::MAX;

/// The index relation of a convolution, tabulated once per dimension.
struct Relation {
    /// Channels of the operand.
    channels: usize,
    /// Channels of a group.
    per_group: usize,
    /// Elements of a channel.
    size: usize,
    /// Positions of one element of the batch.
    spatial: usize,
    /// Cells of the kernel.
    cells: usize,
    /// Per dimension, the last first: number of positions, number of cells, and the offset at (position, cell).
    tables: Vec<(usize, usize, Vec<u32>)>,
}

impl Relation {
    fn new(node: &Linear) -> Option<Self> {
        let Form::Conv { in_channels, groups, axes, .. } = &node.form else { return None };
        let mut size = 1;
        let mut tables = Vec::new();
        for axis in axes.iter().rev() {
            let (outputs, cells) = (axis.output() as usize, axis.kernel as usize);
            let offset = |at: usize| {
                axis.index(at / cells, at % cells)
                    .and_then(|i| u32::try_from(i * size).ok())
                    .unwrap_or(PADDING)
            };
            tables.push((outputs, cells, (0..outputs * cells).map(offset).collect()));
            size *= axis.input as usize;
        }
        let channels = *in_channels as usize;
        let cells = tables.iter().map(|t| t.1).product();
        Some(Self {
            channels,
            per_group: channels / *groups as usize,
            size,
            spatial: node.spatial_positions(),
            cells,
            tables,
        })
    }

    /// Where the first channel of a group begins, at a position.
    fn first(&self, p: usize, g: usize) -> usize {
        (p / self.spatial * self.channels + g * self.per_group) * self.size
    }

    /// Appends the offsets within a channel of the kernel's cells at a position.
    fn offsets(&self, mut position: usize, offsets: &mut Vec<u32>) {
        let start = offsets.len();
        offsets.push(0);
        for (outputs, cells, table) in &self.tables {
            let row = &table[position % outputs * cells..][..*cells];
            position /= outputs;
            // Cells of this dimension come outside those of the ones before.
            let inner = offsets.len() - start;
            offsets.resize(start + inner * cells, 0);
            for j in (0..*cells).rev() {
                for i in 0..inner {
                    let before = offsets[start + i];
                    offsets[start + j * inner + i] = if before == PADDING || row[j] == PADDING {
                        PADDING
                    } else {
                        before + row[j]
                    };
                }
            }
        }
    }
}
