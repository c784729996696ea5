use super::{MAX_MAGNITUDE, TensorType};

/// The largest number of weights of one node.
const MAX_WEIGHTS: u64 = 1 << 30;

/// A linear node: `acc[g,o,p] = Σ_k weight[g,o,k] · x[input_index(g,p,k)] + bias[g,o]`.
///
/// The index relation is shared by executor, prover and verifier. `g` counts groups, `o` output channels of a group, `p` positions, `k` the products
/// that one accumulator sums (channels of a group × cells of the kernel).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Linear {
    /// Which products are summed.
    pub form: Form,
    /// Weights lie in `-2^(bits-1) .. 2^(bits-1)`; 2 to 16.
    pub weight_bits: u8,
    /// Biases lie in `-2^(bits-1) .. 2^(bits-1)`, up to 62; 0 where there are none.
    pub bias_bits: u8,
    /// No accumulator's magnitude exceeds this: the compiler computes it from the weights; the structural bound is always enough.
    pub bound: i64,
}

/// Which products a linear node sums.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// A matrix applied to every row of `[.., inner]`, giving `[.., outer]`. Positions are rows.
    Dense {
        /// Product of the leading dimensions.
        rows: u32,
        /// Size of the last dimension of the operand.
        inner: u32,
        /// Size of the last dimension of the result.
        outer: u32,
    },
    /// A convolution of `[batch, in_channels, sizes..]` in one or more spatial dimensions, giving `[batch, out_channels, sizes..]`.
    /// Positions are (batch, spatial positions); `k` is (channel of the group, kernel cell), both row-major.
    Conv {
        /// Size of the first dimension.
        batch: u32,
        /// Size of the second dimension of the operand.
        in_channels: u32,
        /// Size of the second dimension of the result.
        out_channels: u32,
        /// Number of groups; divides both.
        groups: u32,
        /// The spatial dimensions.
        axes: Vec<Axis>,
    },
}

/// One spatial dimension of a convolution: position `i` and kernel cell `j` meet the input at `i · stride + j · dilation - before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Axis {
    /// Size of the input.
    pub input: u32,
    /// Cells of the kernel.
    pub kernel: u32,
    /// Distance between positions.
    pub stride: u32,
    /// Distance between kernel cells.
    pub dilation: u32,
    /// Zeros before the first element.
    pub before: u32,
    /// Zeros after the last element.
    pub after: u32,
}

impl Axis {
    /// Number of positions; 0 when the kernel does not fit.
    #[must_use]
    pub fn output(&self) -> u32 {
        let padded = u64::from(self.input) + u64::from(self.before) + u64::from(self.after);
        let reach = (u64::from(self.kernel.max(1)) - 1) * u64::from(self.dilation) + 1;
        if self.kernel == 0 || self.stride == 0 || padded < reach {
            return 0;
        }
        u32::try_from((padded - reach) / u64::from(self.stride) + 1).unwrap_or(0)
    }

    /// Input index that position `i` and kernel cell `j` meet; none in the padding.
    #[must_use]
    pub fn index(&self, i: usize, j: usize) -> Option<usize> {
        let at = (i * self.stride as usize + j * self.dilation as usize)
            .checked_sub(self.before as usize)?;
        (at < self.input as usize).then_some(at)
    }
}

impl Linear {
    /// A matrix of `outer` × `inner` 16-bit weights applied to `rows` rows, without bias, with the structural bound for 16-bit operands.
    #[must_use]
    pub fn dense(rows: u32, inner: u32, outer: u32) -> Self {
        Self::new(Form::Dense { rows, inner, outer })
    }

    /// A convolution with 16-bit weights, without bias, with the structural bound for 16-bit operands.
    #[must_use]
    pub fn conv(
        batch: u32,
        in_channels: u32,
        out_channels: u32,
        groups: u32,
        axes: Vec<Axis>,
    ) -> Self {
        Self::new(Form::Conv { batch, in_channels, out_channels, groups, axes })
    }

    fn new(form: Form) -> Self {
        let mut linear = Self { form, weight_bits: 16, bias_bits: 0, bound: 0 };
        linear.bound = saturate(linear.structural_bound(1 << 15));
        linear
    }

    /// The same with biases of `bits` bits (2 to 62) and the bound widened by the largest of them.
    #[must_use]
    pub fn with_bias(mut self, bits: u8) -> Self {
        self.bias_bits = bits;
        self.bound = saturate(self.structural_bound(1 << 15));
        self
    }

    /// The same with another bound on the accumulators.
    #[must_use]
    pub fn with_bound(mut self, bound: i64) -> Self {
        self.bound = bound;
        self
    }

    /// Number of groups G.
    #[must_use]
    pub fn groups(&self) -> usize {
        match self.form {
            Form::Dense { .. } => 1,
            Form::Conv { groups, .. } => groups as usize,
        }
    }

    /// Output channels per group O.
    #[must_use]
    pub fn out_per_group(&self) -> usize {
        match self.form {
            Form::Dense { outer, .. } => outer as usize,
            Form::Conv { out_channels, groups, .. } => {
                out_channels as usize / groups.max(1) as usize
            }
        }
    }

    /// Products that one accumulator sums, K.
    #[must_use]
    pub fn inner(&self) -> usize {
        match &self.form {
            Form::Dense { inner, .. } => *inner as usize,
            Form::Conv { in_channels, groups, axes, .. } => {
                *in_channels as usize / (*groups).max(1) as usize
                    * axes.iter().map(|a| a.kernel as usize).product::<usize>()
            }
        }
    }

    /// Positions P at which every output channel is computed.
    #[must_use]
    pub fn positions(&self) -> usize {
        match &self.form {
            Form::Dense { rows, .. } => *rows as usize,
            Form::Conv { batch, .. } => *batch as usize * self.spatial_positions(),
        }
    }

    /// Positions of one element of the batch: the product of the spatial sizes of the result; 1 for a dense node.
    #[must_use]
    pub fn spatial_positions(&self) -> usize {
        match &self.form {
            Form::Dense { .. } => 1,
            Form::Conv { axes, .. } => axes.iter().map(|a| a.output() as usize).product(),
        }
    }

    /// Elements of the operand.
    #[must_use]
    pub fn input_len(&self) -> usize {
        match &self.form {
            Form::Dense { rows, inner, .. } => *rows as usize * *inner as usize,
            Form::Conv { batch, in_channels, axes, .. } => {
                *batch as usize
                    * *in_channels as usize
                    * axes.iter().map(|a| a.input as usize).product::<usize>()
            }
        }
    }

    /// Number of accumulators, G·O·P.
    #[must_use]
    pub fn accumulator_len(&self) -> usize {
        self.groups() * self.out_per_group() * self.positions()
    }

    /// Number of weights, G·O·K.
    #[must_use]
    pub fn weight_len(&self) -> usize {
        self.groups() * self.out_per_group() * self.inner()
    }

    /// Number of biases: G·O or 0.
    #[must_use]
    pub fn bias_len(&self) -> usize {
        if self.has_bias() { self.groups() * self.out_per_group() } else { 0 }
    }

    /// Whether the node adds biases.
    #[must_use]
    pub fn has_bias(&self) -> bool {
        self.bias_bits != 0
    }

    /// Multiply-accumulates of one evaluation.
    #[must_use]
    pub fn macs(&self) -> u64 {
        (self.accumulator_len() as u64).saturating_mul(self.inner() as u64)
    }

    /// The operand's element that weight `k` meets at position `p` of group `g`; none in the padding.
    #[must_use]
    pub fn input_index(&self, g: usize, p: usize, k: usize) -> Option<usize> {
        match &self.form {
            Form::Dense { inner, .. } => Some(p * *inner as usize + k),
            Form::Conv { in_channels, groups, axes, .. } => {
                let spatial = self.spatial_positions();
                let (n, mut position) = (p / spatial, p % spatial);
                let cells: usize = axes.iter().map(|a| a.kernel as usize).product();
                let (channel, mut cell) = (k / cells, k % cells);
                let mut size = 1;
                let mut offset = 0;
                for axis in axes.iter().rev() {
                    let (out, kernel) = (axis.output() as usize, axis.kernel as usize);
                    offset += axis.index(position % out, cell % kernel)? * size;
                    position /= out;
                    cell /= kernel;
                    size *= axis.input as usize;
                }
                let per_group = *in_channels as usize / *groups as usize;
                Some((n * *in_channels as usize + g * per_group + channel) * size + offset)
            }
        }
    }

    /// Where the accumulator of output channel `o` of group `g` at position `p` lies in the result.
    #[must_use]
    pub fn accumulator_index(&self, g: usize, o: usize, p: usize) -> usize {
        let channels = self.groups() * self.out_per_group();
        let spatial = self.spatial_positions();
        let channel = g * self.out_per_group() + o;
        (p / spatial * channels + channel) * spatial + p % spatial
    }

    /// Where weight `k` of output channel `o` of group `g` lies in the list of weights.
    #[must_use]
    pub fn weight_index(&self, g: usize, o: usize, k: usize) -> usize {
        (g * self.out_per_group() + o) * self.inner() + k
    }

    /// Where the bias of output channel `o` of group `g` lies in the list of biases.
    #[must_use]
    pub fn bias_index(&self, g: usize, o: usize) -> usize {
        g * self.out_per_group() + o
    }

    /// The largest magnitude an accumulator can have whatever the weights of `weight_bits` bits and the biases of `bias_bits` bits, for operands up to `magnitude`.
    #[must_use]
    pub fn structural_bound(&self, magnitude: u64) -> u128 {
        let weight = 1u128 << (self.weight_bits.clamp(1, 64) - 1);
        let bias = if self.bias_bits == 0 { 0 } else { 1u128 << (self.bias_bits.min(64) - 1) };
        (self.inner() as u128)
            .saturating_mul(weight)
            .saturating_mul(u128::from(magnitude))
            .saturating_add(bias)
    }

    /// Checks the form and the no-wrap bound against the operand, and returns the shape of the result.
    pub(super) fn check(&self, x: &TensorType) -> Result<Vec<u32>, String> {
        if !(2..=16).contains(&self.weight_bits) {
            return Err(format!("weights of {} bits", self.weight_bits));
        }
        if self.bias_bits == 1 || self.bias_bits > 62 {
            return Err(format!("biases of {} bits", self.bias_bits));
        }
        let shape = match &self.form {
            Form::Dense { rows, inner, outer } => {
                let Some((&last, leading)) = x.shape.split_last() else {
                    return Err("the operand is a scalar".to_owned());
                };
                let product: u64 = leading.iter().map(|&d| u64::from(d)).product();
                if last != *inner || product != u64::from(*rows) || *outer == 0 {
                    return Err(format!(
                        "expects {rows} rows of {inner}, the operand has shape {:?}",
                        x.shape
                    ));
                }
                let mut shape = leading.to_vec();
                shape.push(*outer);
                shape
            }
            Form::Conv { batch, in_channels, out_channels, groups, axes } => {
                let expected: Vec<u32> = [*batch, *in_channels]
                    .into_iter()
                    .chain(axes.iter().map(|a| a.input))
                    .collect();
                if axes.is_empty() || expected != x.shape {
                    return Err(format!(
                        "expects shape {expected:?}, the operand has {:?}",
                        x.shape
                    ));
                }
                if *groups == 0
                    || *out_channels == 0
                    || in_channels % groups != 0
                    || out_channels % groups != 0
                {
                    return Err(format!(
                        "{groups} groups do not divide {in_channels} and {out_channels} channels"
                    ));
                }
                let mut shape = vec![*batch, *out_channels];
                for axis in axes {
                    let within = |v: u32| v < 1 << 24;
                    if axis.dilation == 0
                        || axis.output() == 0
                        || ![axis.kernel, axis.stride, axis.dilation, axis.before, axis.after]
                            .into_iter()
                            .all(within)
                    {
                        return Err(format!(
                            "a kernel of {} cells does not fit {} elements",
                            axis.kernel, axis.input
                        ));
                    }
                    shape.push(axis.output());
                }
                shape
            }
        };
        super::typing::check_shape(&shape)?;
        if self.checked_weight_len().is_none_or(|n| n > MAX_WEIGHTS) {
            return Err("has more than 2^30 weights".to_owned());
        }
        let structural = self.structural_bound(x.magnitude());
        if structural >= u128::from(MAX_MAGNITUDE.unsigned_abs()) {
            return Err(format!("accumulators may reach {structural}, the limit is 2^62"));
        }
        if !(0..MAX_MAGNITUDE).contains(&self.bound) {
            return Err(format!("the bound {} is not below 2^62", self.bound));
        }
        Ok(shape)
    }

    fn checked_weight_len(&self) -> Option<u64> {
        match &self.form {
            Form::Dense { inner, outer, .. } => u64::from(*inner).checked_mul(u64::from(*outer)),
            Form::Conv { in_channels, out_channels, groups, axes, .. } => {
                let mut n =
                    u64::from(*in_channels / groups).checked_mul(u64::from(*out_channels))?;
                for axis in axes {
                    n = n.checked_mul(u64::from(axis.kernel))?;
                }
                Some(n)
            }
        }
    }
}

fn saturate(bound: u128) -> i64 {
    i64::try_from(bound).unwrap_or(i64::MAX)
}
