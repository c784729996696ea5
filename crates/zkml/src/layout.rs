//! Lay all weights of a model out in one vector.
//!
//! One vector means one commitment and one opening. A matrix of 10 × 784 padded to 16 × 1024 would double it; so each
//! node's weights, an array over (group, output channel, product), are cut along the binary digits of their three
//! sizes: `784 = 512 + 256 + 16`, `10 = 8 + 2`. The pieces are boxes whose sides are powers of two. Sorted by size,
//! largest first, every box starts at a multiple of its own size, so it is a sub-cube of the vector's hypercube and
//! its indices factorise: `prefix ‖ group ‖ channel ‖ product`, in binary. Nothing is wasted but the zeros at the end.
//!
//! Biases are boxes with one product. The order among equal boxes is that of (node, weights before biases, group,
//! channel, product).
//!
//! # The functional of a box
//! A claim on accumulators is a claim on `⟨w, L⟩` where `L` is, on a box of node `l`, a product
//! `L(g, o, k) = rows_l(o) · columns_l(g, k)` ([`Functional`]). Its extension at `r` is
//! `Σ_box eq(prefix) · (Σ_o rows(o) eq(r, o)) · (Σ_{g,k} columns(g, k) eq(r, g) eq(r, k))`: the verifier touches
//! each row and column once per box, never each weight.

use crate::field::Field;
use crate::qir::{Program, Weights};
use crate::scheme::{SchemeError, variables};

/// Whether a box holds weights or biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Entries of the matrix.
    Weight,
    /// Entries of the bias.
    Bias,
}

/// A piece of one node's weights that occupies an aligned sub-cube of the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cube {
    /// Which linear node.
    pub node: usize,
    /// Weights or biases.
    pub kind: Kind,
    /// First group.
    pub group: usize,
    /// First output channel of the group.
    pub row: usize,
    /// First product.
    pub column: usize,
    /// Logarithm of the number of groups.
    pub group_bits: u32,
    /// Logarithm of the number of channels.
    pub row_bits: u32,
    /// Logarithm of the number of products.
    pub column_bits: u32,
    /// Where it starts in the vector.
    pub offset: usize,
}

impl Cube {
    /// Logarithm of the number of weights.
    #[must_use]
    pub const fn bits(&self) -> u32 {
        self.group_bits + self.row_bits + self.column_bits
    }

    /// Number of weights.
    #[must_use]
    pub const fn len(&self) -> usize {
        1 << self.bits()
    }

    /// Never: a box holds at least one weight.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

/// The sizes of one linear node's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Number of groups.
    pub groups: usize,
    /// Output channels of each group.
    pub rows: usize,
    /// Products of each output.
    pub columns: usize,
    /// Whether there are biases.
    pub bias: bool,
}

/// Where each weight of a model lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    sizes: Vec<Sizes>,
    cubes: Vec<Cube>,
    length: usize,
    variables: u32,
}

/// Why weights cannot be laid out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// There are too many.
    #[error(transparent)]
    Size(#[from] SchemeError),
    /// The weights are not those of the program.
    #[error("linear node {0} has other weights than its shape says")]
    Shape(usize),
}

impl Layout {
    /// The layout of a program's weights.
    ///
    /// # Errors
    /// When the weights are more than a commitment holds.
    pub fn new(program: &Program) -> Result<Self, LayoutError> {
        let sizes = program.linears().map(|(_, linear)| Sizes {
            groups: linear.groups(),
            rows: linear.out_per_group(),
            columns: linear.inner(),
            bias: linear.has_bias(),
        });
        Self::of(sizes.collect())
    }

    /// The layout of nodes of given sizes, in order.
    ///
    /// # Errors
    /// When the weights are more than a commitment holds.
    pub fn of(sizes: Vec<Sizes>) -> Result<Self, LayoutError> {
        let mut length = 0_usize;
        for size in &sizes {
            let columns = size.columns.saturating_add(usize::from(size.bias));
            length = length
                .saturating_add(size.groups.saturating_mul(size.rows).saturating_mul(columns));
        }
        let variables = variables(length)?;
        let mut cubes = Vec::new();
        for (node, size) in sizes.iter().enumerate() {
            cut(&mut cubes, node, Kind::Weight, *size);
            if size.bias {
                cut(&mut cubes, node, Kind::Bias, Sizes { columns: 1, ..*size });
            }
        }
        cubes.sort_by_key(|cube| std::cmp::Reverse(cube.bits()));
        let mut offset = 0;
        for cube in &mut cubes {
            cube.offset = offset;
            offset += cube.len();
        }
        Ok(Self { sizes, cubes, length, variables })
    }

    /// The boxes, in the vector's order.
    #[must_use]
    pub fn cubes(&self) -> &[Cube] {
        &self.cubes
    }

    /// The sizes of the linear nodes, in the program's order.
    #[must_use]
    pub fn sizes(&self) -> &[Sizes] {
        &self.sizes
    }

    /// Number of weights and biases.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether the model has no weights at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The `n` of the padded vector's length `2^n`.
    #[must_use]
    pub const fn variables(&self) -> u32 {
        self.variables
    }

    /// The vector, without the padding.
    ///
    /// # Errors
    /// When the weights do not have the program's sizes.
    pub fn arrange(&self, weights: &Weights) -> Result<Vec<i64>, LayoutError> {
        let mut vector = Vec::with_capacity(self.length);
        for cube in &self.cubes {
            let sizes = self.sizes.get(cube.node).ok_or(LayoutError::Shape(cube.node))?;
            let node = weights.nodes().get(cube.node).ok_or(LayoutError::Shape(cube.node))?;
            for group in cube.group..cube.group + (1 << cube.group_bits) {
                for row in cube.row..cube.row + (1 << cube.row_bits) {
                    let channel = group * sizes.rows + row;
                    match cube.kind {
                        Kind::Weight => {
                            let start = channel * sizes.columns + cube.column;
                            let entries = node.matrix.get(start..start + (1 << cube.column_bits));
                            let entries = entries.ok_or(LayoutError::Shape(cube.node))?;
                            vector.extend(entries.iter().map(|&weight| i64::from(weight)));
                        }
                        Kind::Bias => {
                            vector.push(
                                *node.bias.get(channel).ok_or(LayoutError::Shape(cube.node))?,
                            );
                        }
                    }
                }
            }
        }
        Ok(vector)
    }
}

/// Appends the boxes of one array in the order (group, channel, product).
fn cut(cubes: &mut Vec<Cube>, node: usize, kind: Kind, sizes: Sizes) {
    for (group, group_bits) in dyadic(sizes.groups) {
        for (row, row_bits) in dyadic(sizes.rows) {
            for (column, column_bits) in dyadic(sizes.columns) {
                cubes.push(Cube {
                    node,
                    kind,
                    group,
                    row,
                    column,
                    group_bits,
                    row_bits,
                    column_bits,
                    offset: 0,
                });
            }
        }
    }
}

/// `0..size` cut into powers of two, largest first: pairs of start and logarithm.
pub(crate) fn dyadic(size: usize) -> impl Iterator<Item = (usize, u32)> {
    (0..usize::BITS).rev().filter(move |bit| size >> bit & 1 == 1).map(move |bit| {
        let above =
            size.checked_shr(bit + 1).and_then(|high| high.checked_shl(bit + 1)).unwrap_or(0);
        (above, bit)
    })
}

/// What a claim on one node's accumulators says about its weights: `L(g, o, k) = rows(g, o) · columns(g, k)`, and for
/// the biases `L(g, o) = rows(g, o) · bias(g)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Functional<F> {
    /// One number for each output channel of a group.
    pub rows: Vec<F>,
    /// One number for each (group, product), products varying fastest.
    pub columns: Vec<F>,
    /// One number for each group.
    pub bias: Vec<F>,
}

impl<F: Field> Functional<F> {
    /// The part of `rows` that a box covers.
    #[must_use]
    pub fn rows_of(&self, cube: &Cube) -> &[F] {
        self.rows.get(cube.row..cube.row + (1 << cube.row_bits)).unwrap_or_default()
    }

    /// The part of `columns` or `bias` that group `group` of a box covers.
    #[must_use]
    pub fn columns_of(&self, cube: &Cube, sizes: &Sizes, group: usize) -> &[F] {
        let part = match cube.kind {
            Kind::Weight => {
                let start = group * sizes.columns + cube.column;
                self.columns.get(start..start + (1 << cube.column_bits))
            }
            Kind::Bias => self.bias.get(group..group + 1),
        };
        part.unwrap_or_default()
    }
}

/// The extension of `L` at `point`, for one functional per linear node; in time linear in the functionals.
pub fn evaluate<F: Field>(layout: &Layout, functionals: &[Functional<F>], point: &[F]) -> F {
    let mut sum = F::ZERO;
    for cube in layout.cubes() {
        let (Some(functional), Some(sizes)) =
            (functionals.get(cube.node), layout.sizes().get(cube.node))
        else {
            continue;
        };
        let fixed = point.len().saturating_sub(cube.bits() as usize);
        let (prefix, rest) = point.split_at_checked(fixed).unwrap_or_default();
        let (groups, rest) = rest.split_at_checked(cube.group_bits as usize).unwrap_or_default();
        let (rows, columns) = rest.split_at_checked(cube.row_bits as usize).unwrap_or_default();
        let by_row = F::dot(functional.rows_of(cube), &equality(rows, F::ONE));
        let by_group = equality(groups, F::ONE);
        let by_column = equality(columns, F::ONE);
        let mut inner = F::ZERO;
        for (group, weight) in (cube.group..).zip(by_group) {
            inner += weight * F::dot(functional.columns_of(cube, sizes, group), &by_column);
        }
        sum += equality_at(prefix, cube.offset >> cube.bits()) * by_row * inner;
    }
    sum
}

/// `scale · eq(point, i)` for every `i` of `2^n`, variable 0 being the most significant bit.
pub fn equality<F: Field>(point: &[F], scale: F) -> Vec<F> {
    let mut table = Vec::with_capacity(1 << point.len().min(usize::BITS as usize - 1));
    table.push(scale);
    for &r in point {
        let half = table.len();
        // Entry i becomes entries 2i and 2i + 1, from the back so that none is overwritten unread.
        table.resize(2 * half, F::ZERO);
        for i in (0..half).rev() {
            let (Some(&entry), Some(pair)) = (table.get(i), 2_usize.checked_mul(i)) else {
                continue;
            };
            let one = entry * r;
            if let Some([low, high]) = table.get_mut(pair..pair + 2) {
                *low = entry - one;
                *high = one;
            }
        }
    }
    table
}

/// The first `count` entries of [`equality`] for the shortest prefix of `point` that indexes them; without computing
/// the rest.
pub fn equality_prefix<F: Field>(point: &[F], count: usize, scale: F) -> Vec<F> {
    let bits = bits_for(count);
    let mut table = Vec::with_capacity(count.next_multiple_of(2));
    table.push(scale);
    for (level, &r) in point.iter().take(bits as usize).enumerate() {
        // After this level, only entries below `ceil(count / 2^(bits - level - 1))` are ever needed.
        let needed = count.div_ceil(1 << (bits as usize - level - 1));
        let half = table.len();
        table.resize(needed.max(1), F::ZERO);
        for i in (0..half).rev() {
            let Some(&entry) = table.get(i) else { continue };
            let one = entry * r;
            if let Some(high) = table.get_mut(2 * i + 1) {
                *high = one;
            }
            if let Some(low) = table.get_mut(2 * i) {
                *low = entry - one;
            }
        }
    }
    table
}

/// The first `count` entries of [`equality`], all variables of `point` counting.
pub fn first_equalities<F: Field>(point: &[F], count: usize, scale: F) -> Vec<F> {
    let more = point.len().saturating_sub(bits_for(count) as usize);
    let (zeros, rest) = point.split_at_checked(more).unwrap_or_default();
    let scale = zeros.iter().fold(scale, |scale, &r| scale * (F::ONE - r));
    let mut table = equality_prefix(rest, count, scale);
    table.truncate(count);
    table
}

/// `eq(point, index)`.
pub fn equality_at<F: Field>(point: &[F], index: usize) -> F {
    point.iter().rev().enumerate().fold(F::ONE, |product, (bit, &r)| {
        let set = u32::try_from(bit)
            .ok()
            .and_then(|bit| index.checked_shr(bit))
            .is_some_and(|high| high & 1 == 1);
        product * if set { r } else { F::ONE - r }
    })
}

/// The number of variables that index `count` entries: `ceil(log2(count))`.
#[must_use]
pub const fn bits_for(count: usize) -> u32 {
    usize::BITS - count.saturating_sub(1).leading_zeros()
}
