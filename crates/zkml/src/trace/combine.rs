//! Turn the claims on all accumulators into one claim on the weights.
//!
//! Prover and verifier run this same code: the verifier node by node while it executes, the prover afterwards.

use crate::field::Field;
use crate::layout::{Functional, bits_for, equality_prefix};
use crate::qir::{Form, Linear, Program};
use crate::transcript::{Label, Prover, Verifier};

/// The challenges that combine groups, channels, positions, the batch, and nodes.
pub const COMBINE: Label = Label::new("trace.combine");

/// Where challenges come from: either side of a transcript.
pub trait Challenges {
    /// `count` challenges.
    fn draw<F: Field>(&mut self, label: Label, count: usize) -> Vec<F>;
}

impl Challenges for Prover {
    fn draw<F: Field>(&mut self, label: Label, count: usize) -> Vec<F> {
        self.challenges(label, count)
    }
}

impl Challenges for Verifier<'_> {
    fn draw<F: Field>(&mut self, label: Label, count: usize) -> Vec<F> {
        self.challenges(label, count)
    }
}

/// The index variables of a program's accumulators: for each dimension, those of the node that has most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// Of the groups.
    pub groups: u32,
    /// Of the output channels of a group.
    pub rows: u32,
    /// Of the positions.
    pub positions: u32,
    /// Of the inferences.
    pub batch: u32,
}

impl Variables {
    /// Those of a program and a batch.
    #[must_use]
    pub fn of(program: &Program, batch: usize) -> Self {
        let start = Self { batch: bits_for(batch), ..Self::default() };
        program.linears().fold(start, |most, (_, linear)| Self {
            groups: most.groups.max(bits_for(linear.groups())),
            rows: most.rows.max(bits_for(linear.out_per_group())),
            positions: most.positions.max(bits_for(linear.positions())),
            ..most
        })
    }

    /// All together.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.groups + self.rows + self.positions + self.batch
    }
}

/// The random point at which all accumulators are combined.
///
/// Every node uses the first variables it needs of the same point: the combined difference from the true accumulators
/// is a polynomial in the point and in `gamma`, in which node `l` is alone with the power `gamma^l`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Combination<F> {
    groups: Vec<F>,
    rows: Vec<F>,
    positions: Vec<F>,
    /// `eq(ρ_b, b)` for each inference `b`.
    batch: Vec<F>,
    /// `gamma^l` for each linear node `l`.
    powers: Vec<F>,
}

impl<F: Field> Combination<F> {
    /// Draws the challenges; all accumulators must have been sent or received.
    pub fn draw(program: &Program, batch: usize, transcript: &mut impl Challenges) -> Self {
        let variables = Variables::of(program, batch);
        let mut drawn = transcript.draw::<F>(COMBINE, variables.total() as usize + 1).into_iter();
        let gamma = drawn.next().unwrap_or(F::ZERO);
        let mut take = |count: u32| drawn.by_ref().take(count as usize).collect::<Vec<F>>();
        let (groups, rows, positions) =
            (take(variables.groups), take(variables.rows), take(variables.positions));
        let batch = equality_prefix(&take(variables.batch), batch, F::ONE);
        let mut powers = Vec::new();
        let mut power = F::ONE;
        for _ in program.linears() {
            powers.push(power);
            power *= gamma;
        }
        Self { groups, rows, positions, batch, powers }
    }

    /// Begins the combination for linear node number `index`.
    #[must_use]
    pub fn node(&self, index: usize, linear: &Linear) -> NodeCombination<F> {
        let scale = self.powers.get(index).copied().unwrap_or(F::ZERO);
        let groups = equality_prefix(&self.groups, linear.groups(), F::ONE);
        let rows = equality_prefix(&self.rows, linear.out_per_group(), scale);
        let channels =
            groups.iter().flat_map(|&group| rows.iter().map(move |&row| group * row)).collect();
        let functional = Functional {
            rows,
            columns: vec![F::ZERO; linear.groups().saturating_mul(linear.inner())],
            bias: vec![F::ZERO; linear.groups()],
        };
        let positions = equality_prefix(&self.positions, linear.positions(), F::ONE);
        NodeCombination { groups, channels, positions, functional, claim: F::ZERO }
    }

    /// Begins the combination for every linear node.
    #[must_use]
    pub fn nodes(&self, program: &Program) -> Vec<NodeCombination<F>> {
        let linears = program.linears().enumerate();
        linears.map(|(index, (_, linear))| self.node(index, linear)).collect()
    }

    /// The weight of inference `b`.
    #[must_use]
    pub fn inference(&self, b: usize) -> F {
        self.batch.get(b).copied().unwrap_or(F::ZERO)
    }
}

/// The combination of one linear node, inference by inference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCombination<F> {
    groups: Vec<F>,
    /// `gamma^l · eq(ρ_g, g) · eq(ρ_o, o)` for each channel `(g, o)`.
    channels: Vec<F>,
    positions: Vec<F>,
    functional: Functional<F>,
    claim: F,
}

impl<F: Field> NodeCombination<F> {
    /// Adds the accumulators of one inference, weighed by `weight`, to the claim.
    pub fn add_accumulators(&mut self, linear: &Linear, weight: F, accumulators: &[i64]) {
        let channels = self.channels.len().max(1);
        let spatial = linear.spatial_positions().max(1);
        let mut sum = F::ZERO;
        if spatial == 1 {
            for (&position, row) in self.positions.iter().zip(accumulators.chunks(channels)) {
                sum += position * F::dot_i64(&self.channels, row);
            }
        } else {
            let batches = self
                .positions
                .chunks(spatial)
                .zip(accumulators.chunks(spatial.saturating_mul(channels)));
            for (positions, planes) in batches {
                for (&channel, plane) in self.channels.iter().zip(planes.chunks(spatial)) {
                    sum += channel * F::dot_i64(positions, plane);
                }
            }
        }
        self.claim += weight * sum;
    }

    /// The weight of every accumulator of an inference that weighs one, at [`Linear::accumulator_index`].
    #[must_use]
    pub fn accumulator_weights(&self, linear: &Linear) -> Vec<F> {
        let spatial = linear.spatial_positions().max(1);
        self.positions
            .chunks(spatial)
            .flat_map(|positions| {
                self.channels.iter().flat_map(move |&channel| {
                    positions.iter().map(move |&position| channel * position)
                })
            })
            .collect()
    }

    /// Adds what the biases of one inference, weighed by `weight`, contribute to the functional.
    pub fn add_bias(&mut self, weight: F) {
        let all = self.positions.iter().fold(F::ZERO, |sum, &position| sum + position);
        for (bias, &group) in self.functional.bias.iter_mut().zip(&self.groups) {
            *bias += weight * group * all;
        }
    }

    /// Adds the operand of one inference, weighed by `weight`, to the functional.
    pub fn add_operand(&mut self, linear: &Linear, weight: F, x: &[i64]) {
        self.add_bias(weight);
        let positions: Vec<F> = self.positions.iter().map(|&position| weight * position).collect();
        match &linear.form {
            Form::Dense { inner, .. } => {
                let inner = *inner as usize;
                let mut column = Vec::with_capacity(positions.len());
                for (k, entry) in self.functional.columns.iter_mut().enumerate() {
                    column.clear();
                    column.extend(x.iter().skip(k).step_by(inner.max(1)).copied());
                    *entry += F::dot_i64(&positions, &column);
                }
            }
            Form::Conv { .. } => self.add_convolution(linear, &positions, x),
        }
    }

    fn add_convolution(&mut self, linear: &Linear, positions: &[F], x: &[i64]) {
        let Form::Conv { axes, .. } = &linear.form else { return };
        let mut values = Vec::with_capacity(positions.len());
        let mut columns = std::mem::take(&mut self.functional.columns);
        self.cells(linear, |meets, group, at, starts| {
            values.clear();
            for start in starts {
                let plane = x.get(start..start + plane_len(axes)).unwrap_or_default();
                values.extend(meets.iter().map(|&at| plane.get(at).copied().unwrap_or(0)));
            }
            if let (Some(entry), Some(&weight)) = (columns.get_mut(at), self.groups.get(group)) {
                *entry += weight * F::dot_i64(positions, &values);
            }
        });
        self.functional.columns = columns;
    }

    /// Calls `visit` for every (cell of the kernel, input channel) of a convolution: with the offsets within a plane that the
    /// cell meets at each spatial position (`usize::MAX` in the padding), the group, the place among the (group, product)
    /// pairs, and where the channel's plane begins in each element of the batch.
    fn cells(
        &self,
        linear: &Linear,
        mut visit: impl FnMut(&[usize], usize, usize, &mut dyn Iterator<Item = usize>),
    ) {
        let Form::Conv { batch, in_channels, groups, axes, .. } = &linear.form else { return };
        let (batch, channels, groups) =
            (*batch as usize, *in_channels as usize, (*groups).max(1) as usize);
        let per_group = (channels / groups).max(1);
        let cells: usize = axes.iter().map(|axis| axis.kernel as usize).product();
        let mut meets = Vec::new();
        for cell in 0..cells {
            offsets(axes, cell, &mut meets);
            for channel in 0..channels {
                let starts = (0..batch).map(|n| (n * channels + channel) * plane_len(axes));
                visit(&meets, channel / per_group, channel * cells + cell, &mut { starts });
            }
        }
    }

    /// The transpose of [`Self::add_operand`]: what each element of an operand is multiplied by in `Σ_k columns_k · f_k`,
    /// where `f` is what the operand of an inference that weighs one adds to the functional. Added to `out`.
    pub fn scatter(&self, linear: &Linear, columns: &[F], out: &mut [F]) {
        match &linear.form {
            Form::Dense { inner, .. } => {
                let rows = out.chunks_mut((*inner as usize).max(1));
                for (row, &position) in rows.zip(&self.positions) {
                    for (entry, &column) in row.iter_mut().zip(columns) {
                        *entry += position * column;
                    }
                }
            }
            Form::Conv { in_channels, groups, axes, .. } => {
                let channels = *in_channels as usize;
                let per_group = (channels / (*groups).max(1) as usize).max(1);
                let spatial = linear.spatial_positions().max(1);
                let (starts, met) = elements_met(axes);
                let cells = (linear.inner() / per_group).max(1);
                let (mut at_cells, mut at_positions) = (Vec::new(), Vec::new());
                let planes = out.chunks_mut(plane_len(axes).max(1)).enumerate();
                for (index, plane) in planes {
                    let (n, channel) = (index / channels.max(1), index % channels.max(1));
                    let group = self.groups.get(channel / per_group).copied().unwrap_or(F::ZERO);
                    let columns = columns.get(channel * cells..).unwrap_or_default();
                    let positions = self.positions.get(n * spatial..).unwrap_or_default();
                    for (entry, bounds) in plane.iter_mut().zip(starts.windows(2)) {
                        let &[start, end] = bounds else { continue };
                        at_cells.clear();
                        at_positions.clear();
                        for &(cell, position) in met.get(start..end).unwrap_or_default() {
                            let cell = columns.get(cell).zip(positions.get(position));
                            if let Some((&column, &position)) = cell {
                                at_cells.push(column);
                                at_positions.push(position);
                            }
                        }
                        *entry += group * F::dot(&at_cells, &at_positions);
                    }
                }
            }
        }
    }

    /// The claim on the accumulators and the functional of the weights that must agree with it.
    #[must_use]
    pub fn finish(self) -> (F, Functional<F>) {
        (self.claim, self.functional)
    }
}

/// The sum of all nodes' claims, and the functional of each.
#[must_use]
pub fn finish<F: Field>(nodes: Vec<NodeCombination<F>>) -> (F, Vec<Functional<F>>) {
    let mut value = F::ZERO;
    let functionals = nodes.into_iter().map(|node| {
        let (claim, functional) = node.finish();
        value += claim;
        functional
    });
    let functionals = functionals.collect();
    (value, functionals)
}

/// Elements of one channel of a convolution's operand.
fn plane_len(axes: &[crate::qir::Axis]) -> usize {
    axes.iter().map(|axis| axis.input as usize).product()
}

/// The (cell, spatial position) pairs that meet each element of a plane: where those of each begin, and the pairs.
fn elements_met(axes: &[crate::qir::Axis]) -> (Vec<usize>, Vec<(usize, usize)>) {
    let cells: usize = axes.iter().map(|axis| axis.kernel as usize).product();
    let mut all = vec![Vec::new(); plane_len(axes)];
    let mut meets = Vec::new();
    for cell in 0..cells {
        offsets(axes, cell, &mut meets);
        for (position, &at) in meets.iter().enumerate() {
            if let Some(pairs) = all.get_mut(at) {
                pairs.push((cell, position));
            }
        }
    }
    let mut starts = vec![0];
    let mut end = 0;
    starts.extend(all.iter().map(|pairs| {
        end += pairs.len();
        end
    }));
    (starts, all.concat())
}

/// For each spatial position the offset, within a plane, of the element that `cell` of the kernel meets;
/// `usize::MAX` in the padding.
fn offsets(axes: &[crate::qir::Axis], cell: usize, out: &mut Vec<usize>) {
    out.clear();
    out.push(0);
    let mut cells: usize = axes.iter().map(|axis| axis.kernel as usize).product();
    let mut rest = cell;
    for axis in axes {
        cells /= (axis.kernel as usize).max(1);
        let j = rest / cells.max(1);
        rest %= cells.max(1);
        let before = std::mem::take(out);
        out.reserve(before.len().saturating_mul(axis.output() as usize));
        for base in before {
            out.extend((0..axis.output() as usize).map(|i| match axis.index(i, j) {
                Some(index) if base != usize::MAX => base * axis.input as usize + index,
                _ => usize::MAX,
            }));
        }
    }
}
