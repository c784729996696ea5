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

    /// Adds the operand of one inference, weighed by `weight`, to the functional.
    pub fn add_operand(&mut self, linear: &Linear, weight: F, x: &[i64]) {
        let positions: Vec<F> = self.positions.iter().map(|&position| weight * position).collect();
        let all = positions.iter().fold(F::ZERO, |sum, &position| sum + position);
        for (bias, &group) in self.functional.bias.iter_mut().zip(&self.groups) {
            *bias += group * all;
        }
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
        let Form::Conv { batch, in_channels, groups, axes, .. } = &linear.form else { return };
        let (batch, channels, groups) =
            (*batch as usize, *in_channels as usize, (*groups).max(1) as usize);
        let per_group = channels / groups;
        let plane: usize = axes.iter().map(|axis| axis.input as usize).product();
        let cells: usize = axes.iter().map(|axis| axis.kernel as usize).product();
        let mut meets = Vec::new();
        let mut values = Vec::with_capacity(positions.len());
        for cell in 0..cells {
            offsets(axes, cell, &mut meets);
            for channel in 0..channels {
                values.clear();
                for n in 0..batch {
                    let start = (n * channels + channel) * plane;
                    let plane = x.get(start..start + plane).unwrap_or_default();
                    values.extend(meets.iter().map(|&at| plane.get(at).copied().unwrap_or(0)));
                }
                let (group, of_group) = (channel / per_group, channel % per_group);
                let (at, weight) =
                    (group * per_group * cells + of_group * cells + cell, self.groups.get(group));
                if let (Some(entry), Some(&weight)) = (self.functional.columns.get_mut(at), weight)
                {
                    *entry += weight * F::dot_i64(positions, &values);
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
