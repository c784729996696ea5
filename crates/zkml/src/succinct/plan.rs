//! Decide what of a program is committed to, and where it lies in the trace vector.
//!
//! A plan follows from the program and the size of the batch alone: prover and verifier make the same one.

use crate::layout::{bits_for, dyadic};
use crate::qir::{Linear, Move, Op, PoolKind, Program, Requant, Window};
use crate::scheme::{SchemeError, variables};

/// Most cells of a window whose largest element is taken under a constraint.
const MAX_CELLS: usize = 4;

/// Bits that a decomposed number may have, those of quotients with the longest shift; whatever the radix, the limbs of such a
/// number then hold less than `2^57`.
const MAX_BITS: u32 = 44;

/// What the smallest result of a requantisation, shifted back, stays below.
const MAX_SHIFTED: i128 = 1 << 57;

/// Bits of a limb that are tried.
const RADIX_BITS: std::ops::RangeInclusive<u32> = 8..=14;

/// Quantities of every site, before the gaps of its cells.
pub const SITE_QUANTITIES: usize = 6;

/// The non-negative numbers that describe a requantisation: see [`crate::succinct`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// `y - lo`.
    Value,
    /// `hi - y`.
    ValueRest,
    /// `r`.
    Remainder,
    /// `2^shift - 1 - r`.
    RemainderRest,
    /// How far the quotient is above `hi`.
    Above,
    /// How far the quotient is below `lo`.
    Below,
    /// How far a cell of the window is below the largest.
    Gap(usize),
}

impl Quantity {
    /// All quantities of a pooled site with so many cells.
    pub fn all(cells: usize) -> impl Iterator<Item = Self> {
        [
            Self::Value,
            Self::ValueRest,
            Self::Remainder,
            Self::RemainderRest,
            Self::Above,
            Self::Below,
        ]
        .into_iter()
        .chain((0..cells).map(Self::Gap))
    }

    /// Its place in [`Quantity::all`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Value => 0,
            Self::ValueRest => 1,
            Self::Remainder => 2,
            Self::RemainderRest => 3,
            Self::Above => 4,
            Self::Below => 5,
            Self::Gap(cell) => SITE_QUANTITIES + cell,
        }
    }
}

/// Where a verifier gets a node's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It computes it.
    Computed,
    /// The proof states it.
    Stated,
    /// It does not know it.
    Hidden,
}

/// A requantisation of a linear node's accumulators, perhaps of the largest of each window, that is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteNode {
    /// The linear node, counted among linear nodes.
    pub linear: usize,
    /// The tensor that results.
    pub tensor: usize,
    /// The requantisation.
    pub requant: Requant,
    /// Elements of the result in one inference.
    pub sites: usize,
    /// Consecutive sites that share a multiplier.
    run: usize,
    /// Where the sites begin among those of their kind: inference by inference.
    pub first: usize,
    /// Whether each site takes the largest of a window.
    pub pooled: bool,
    /// Whether the proof states the result.
    pub stated: bool,
    /// The accumulators that each site reads, site by site.
    pub accumulators: Vec<u32>,
}

impl SiteNode {
    /// Number of the multiplier of a site.
    #[must_use]
    pub fn multiplier(&self, site: usize) -> usize {
        site / self.run % self.requant.multipliers.len().max(1)
    }

    /// What is added before the shift.
    #[must_use]
    pub const fn half(&self) -> i64 {
        if self.requant.shift == 0 { 0 } else { 1 << (self.requant.shift - 1) }
    }

    /// Largest magnitude of an accumulator times its multiplier, with what is added.
    fn reach(&self, linear: &Linear) -> i128 {
        let most = self.requant.multipliers.iter().copied().max().unwrap_or(1);
        i128::from(linear.bound) * i128::from(most) + i128::from(self.half())
    }

    /// The bits of each quantity; `None` for a node that the constraints do not cover.
    fn bits(&self, linear: &Linear) -> Option<[u32; SITE_QUANTITIES + 1]> {
        let Requant { multipliers, shift, lo, hi, .. } = &self.requant;
        let reach = self.reach(linear);
        let (lo, hi) = (i128::from(*lo), i128::from(*hi));
        if multipliers.iter().any(|&multiplier| multiplier <= 0)
            || (lo << shift).abs() >= MAX_SHIFTED
        {
            return None;
        }
        let bits = |most: i128| 128 - most.max(0).leading_zeros();
        let (value, remainder) = (bits(hi - lo), u32::from(*shift));
        let (above, below) = (bits((reach >> shift) - hi), bits(lo - (-reach >> shift)));
        let gap = if self.pooled { bits(2 * reach) } else { 0 };
        let all = [value, value, remainder, remainder, above, below, gap];
        all.iter().all(|&bits| bits <= MAX_BITS).then_some(all)
    }
}

/// `2^bits` consecutive sites of one kind; their limbs lie plane by plane, each plane an aligned run of the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteBox {
    /// Whether the sites take the largest of a window.
    pub pooled: bool,
    /// The first site, among those of the kind.
    pub first: usize,
    /// Logarithm of the number of sites.
    pub bits: u32,
    /// The first site, among all in the order of the boxes; a multiple of the number of sites.
    pub start: usize,
    /// Where the first plane begins in the trace vector; a multiple of the number of sites.
    pub offset: usize,
}

impl SiteBox {
    /// Number of sites.
    #[must_use]
    pub const fn len(&self) -> usize {
        1 << self.bits
    }

    /// Never.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

/// What is committed to, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    sources: Vec<Source>,
    nodes: Vec<SiteNode>,
    /// For each linear node, which site node's result it reads unseen, and where its products begin among all such.
    operands: Vec<Option<(usize, usize)>>,
    products: usize,
    batch: usize,
    cells: usize,
    radix_bits: u32,
    limbs: Vec<u32>,
    boxes: Vec<SiteBox>,
    entries: usize,
}

impl Plan {
    /// The plan for a batch of inferences of a program.
    ///
    /// # Errors
    /// When the trace would be longer than a vector may be.
    pub fn new(program: &Program, batch: usize) -> Result<Self, SchemeError> {
        let mut plan = Draft::new(program).finish(batch);
        plan.lay_out(program);
        if plan.has_sites() {
            variables(plan.trace_len())?;
        }
        Ok(plan)
    }

    /// Where each node's result comes from.
    #[must_use]
    pub fn source(&self, node: usize) -> Source {
        self.sources.get(node).copied().unwrap_or(Source::Computed)
    }

    /// The requantisations that are proved; those of windows come first.
    #[must_use]
    pub fn nodes(&self) -> &[SiteNode] {
        &self.nodes
    }

    /// Whether anything is committed to.
    #[must_use]
    pub fn has_sites(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// For a linear node whose operand is hidden: number of the site node that it is the result of, and where the
    /// node's (group, product) pairs begin among those of all such nodes.
    #[must_use]
    pub fn operand(&self, linear: usize) -> Option<(usize, usize)> {
        self.operands.get(linear).copied().flatten()
    }

    /// (Group, product) pairs of all linear nodes whose operand is hidden.
    #[must_use]
    pub const fn products(&self) -> usize {
        self.products
    }

    /// Number of inferences.
    #[must_use]
    pub const fn batch(&self) -> usize {
        self.batch
    }

    /// Cells of every window; 0 when there are none.
    #[must_use]
    pub const fn cells(&self) -> usize {
        self.cells
    }

    /// Bits of a limb.
    #[must_use]
    pub const fn radix_bits(&self) -> u32 {
        self.radix_bits
    }

    /// The quantities with the number of limbs of each.
    pub fn quantities(&self) -> impl Iterator<Item = (Quantity, u32)> {
        Quantity::all(self.cells).zip(self.limbs.iter().copied())
    }

    /// The planes of a box: quantity and number of the limb, least significant first.
    pub fn planes(&self, pooled: bool) -> impl Iterator<Item = (Quantity, u32)> {
        let quantities = if pooled { self.limbs.len() } else { SITE_QUANTITIES };
        self.quantities()
            .take(quantities)
            .flat_map(|(quantity, limbs)| (0..limbs).map(move |limb| (quantity, limb)))
    }

    /// The boxes of sites, largest first.
    #[must_use]
    pub fn boxes(&self) -> &[SiteBox] {
        &self.boxes
    }

    /// Sites of one kind.
    #[must_use]
    pub fn sites(&self, pooled: bool) -> usize {
        let of_kind = self.nodes.iter().filter(|node| node.pooled == pooled);
        of_kind.map(|node| node.sites * self.batch).sum()
    }

    /// Limbs are looked up in groups of four; this many groups.
    #[must_use]
    pub const fn groups(&self) -> usize {
        self.entries.div_ceil(4)
    }

    /// Numbers in the table of limbs.
    #[must_use]
    pub const fn table(&self) -> usize {
        1 << self.radix_bits
    }

    /// Where the multiplicities of the table begin in the trace vector.
    #[must_use]
    pub const fn multiplicities(&self) -> usize {
        (self.groups() * 4).next_multiple_of(self.table())
    }

    /// Length of the trace vector: limbs, then multiplicities.
    #[must_use]
    pub const fn trace_len(&self) -> usize {
        self.multiplicities() + self.table()
    }

    /// Where the table's fractions begin in the vector of helpers.
    #[must_use]
    pub const fn fractions(&self) -> usize {
        self.groups().next_multiple_of(self.table())
    }

    /// Elements of the vector of helpers: the groups' fractions, then the table's.
    #[must_use]
    pub const fn helpers(&self) -> usize {
        self.fractions() + self.table()
    }

    /// Variables of the constraints: groups, table and sites each are a range of this cube.
    #[must_use]
    pub fn constraint_variables(&self) -> u32 {
        let sites = self.sites(true) + self.sites(false);
        bits_for(self.groups()).max(self.radix_bits).max(bits_for(sites))
    }

    /// Variables of the sumcheck over products with hidden operands.
    #[must_use]
    pub const fn product_variables(&self) -> u32 {
        bits_for(self.products)
    }

    /// Chooses the radix and places the boxes.
    fn lay_out(&mut self, program: &Program) {
        let linears: Vec<&Linear> = program.linears().map(|(_, linear)| linear).collect();
        let mut bits = [0; SITE_QUANTITIES + 1];
        for node in &self.nodes {
            let of_node = linears.get(node.linear).and_then(|linear| node.bits(linear));
            for (most, of_node) in bits.iter_mut().zip(of_node.unwrap_or_default()) {
                *most = of_node.max(*most);
            }
        }
        let (pooled, plain) = (self.sites(true), self.sites(false));
        let planes = |radix: u32| {
            let [of_site @ .., gap] = bits.map(|bits| bits.div_ceil(radix) as usize);
            let plain: usize = of_site.iter().sum();
            (plain + gap * self.cells, plain)
        };
        let entries = |radix: u32| {
            let (of_pooled, of_plain) = planes(radix);
            of_pooled * pooled + of_plain * plain
        };
        // A limb costs itself and a quarter of a fraction; a number of the table, a multiplicity and a fraction.
        let cost = |&radix: &u32| entries(radix) * 5 / 4 + (2 << radix);
        self.radix_bits = RADIX_BITS.min_by_key(cost).unwrap_or(8);
        self.entries = entries(self.radix_bits);
        let [of_site @ .., gap] = bits.map(|bits| bits.div_ceil(self.radix_bits));
        self.limbs = of_site.into_iter().chain((0..self.cells).map(|_| gap)).collect();

        let (of_pooled, of_plain) = planes(self.radix_bits);
        let boxes = |pooled, count| {
            dyadic(count).map(move |(first, bits)| SiteBox {
                pooled,
                first,
                bits,
                start: 0,
                offset: 0,
            })
        };
        self.boxes = boxes(true, pooled).chain(boxes(false, plain)).collect();
        self.boxes.sort_by_key(|sites| std::cmp::Reverse(sites.bits));
        let (mut start, mut offset) = (0, 0);
        for sites in &mut self.boxes {
            (sites.start, sites.offset) = (start, offset);
            start += sites.len();
            offset += sites.len() * if sites.pooled { of_pooled } else { of_plain };
        }
    }
}

/// A plan in the making.
struct Draft<'a> {
    program: &'a Program,
    /// The nodes that read each tensor, once for each operand.
    readers: Vec<Vec<usize>>,
    is_output: Vec<bool>,
    sources: Vec<Source>,
    nodes: Vec<SiteNode>,
    cells: usize,
    /// Most bits of a shift, and of what is shifted, in the nodes covered so far.
    shift: u32,
    quotient: u32,
}

impl<'a> Draft<'a> {
    fn new(program: &'a Program) -> Self {
        let mut readers = vec![Vec::new(); program.tensors().len()];
        for (index, node) in program.nodes().iter().enumerate() {
            for &tensor in &node.inputs {
                if let Some(readers) = readers.get_mut(tensor) {
                    readers.push(index);
                }
            }
        }
        let mut is_output = vec![false; program.tensors().len()];
        for output in program.outputs() {
            if let Some(flag) = is_output.get_mut(output.tensor) {
                *flag = true;
            }
        }
        let sources = program.nodes().iter().map(|node| match node.op {
            Op::Linear(_) => Source::Stated,
            _ => Source::Computed,
        });
        let sources = sources.collect();
        Self {
            program,
            readers,
            is_output,
            sources,
            nodes: Vec::new(),
            cells: 0,
            shift: 0,
            quotient: 0,
        }
    }

    fn finish(mut self, batch: usize) -> Plan {
        for index in 0..self.program.nodes().len() {
            self.add_requant(index);
        }
        let mut nodes = std::mem::take(&mut self.nodes);
        nodes.sort_by_key(|node| !node.pooled);
        let mut firsts = [0; 2];
        for node in &mut nodes {
            let [pooled, plain] = &mut firsts;
            let first = if node.pooled { pooled } else { plain };
            node.first = *first;
            *first += node.sites * batch;
        }
        let mut products = 0;
        let mut operands = Vec::new();
        for (node, linear) in self.program.linears() {
            let operand = node.inputs.first().map(|&tensor| self.origin(tensor));
            let hidden = nodes.iter().position(|site| Some(site.tensor) == operand);
            let hidden = hidden.filter(|_| operand.is_some_and(|tensor| self.is_hidden(tensor)));
            operands.push(hidden.map(|site| (site, products)));
            if hidden.is_some() {
                products += linear.groups() * linear.inner();
            }
        }
        Plan {
            sources: self.sources,
            nodes,
            operands,
            products,
            batch,
            cells: self.cells,
            radix_bits: 0,
            limbs: Vec::new(),
            boxes: Vec::new(),
            entries: 0,
        }
    }

    /// Number of the node that makes a tensor.
    fn maker(&self, tensor: usize) -> Option<usize> {
        tensor.checked_sub(self.program.inputs().len())
    }

    fn is_hidden(&self, tensor: usize) -> bool {
        let source = self.maker(tensor).and_then(|node| self.sources.get(node));
        source == Some(&Source::Hidden)
    }

    fn hide(&mut self, node: usize) {
        if let Some(source) = self.sources.get_mut(node) {
            *source = Source::Hidden;
        }
    }

    /// The tensor that a chain of reshapes began with: the same elements in the same order.
    fn origin(&self, mut tensor: usize) -> usize {
        while let Some(node) = self.maker(tensor).and_then(|node| self.program.nodes().get(node))
            && let (Op::Move(Move::Reshape(_)), &[operand]) = (&node.op, node.inputs.as_slice())
        {
            tensor = operand;
        }
        tensor
    }

    /// Covers a requantisation if what it reads are accumulators that nothing else reads.
    fn add_requant(&mut self, index: usize) -> Option<()> {
        let node = self.program.nodes().get(index)?;
        let (Op::Requant(requant), &[operand]) = (&node.op, node.inputs.as_slice()) else {
            return None;
        };
        let mut chain = Vec::new();
        let mut pool = None;
        let mut tensor = operand;
        let linear = loop {
            if self.is_output.get(tensor)? | (self.readers.get(tensor)?.len() != 1) {
                return None;
            }
            let made = self.maker(tensor)?;
            chain.push(made);
            let maker = self.program.nodes().get(made)?;
            let read = *maker.inputs.first()?;
            match &maker.op {
                Op::Move(Move::Reshape(_)) => tensor = read,
                Op::Pool { kind: PoolKind::Max, windows } if pool.is_none() => {
                    pool = Some((windows.as_slice(), self.program.tensors().get(read)?));
                    tensor = read;
                }
                Op::Linear(linear) => break linear,
                _ => return None,
            }
        };
        let shape = &self.program.tensors().get(operand)?.shape;
        let sites = self.program.tensors().get(node.output)?.len();
        let after = shape.iter().skip(requant.axis as usize + 1).map(|&size| size as usize);
        let accumulators = match pool {
            None => (0..u32::try_from(sites).ok()?).collect(),
            Some((windows, ty)) => {
                let cells = cells_of(windows)?;
                if self.cells != 0 && self.cells != cells {
                    return None;
                }
                window_cells(windows, &ty.shape)?
            }
        };
        let mut site = SiteNode {
            linear: self.linear_index(*chain.last()?)?,
            tensor: node.output,
            requant: requant.clone(),
            sites,
            run: after.product::<usize>().max(1),
            first: 0,
            pooled: pool.is_some(),
            stated: false,
            accumulators,
        };
        let [value, _, remainder, _, above, below, _] = site.bits(linear)?;
        let shift = self.shift.max(remainder);
        let quotient = self.quotient.max(value).max(above).max(below);
        if shift + quotient > MAX_BITS {
            return None;
        }
        (self.shift, self.quotient) = (shift, quotient);
        if let Some((windows, _)) = pool {
            self.cells = cells_of(windows)?;
        }
        for made in chain {
            self.hide(made);
        }
        let (output, mut between) = (node.output, Vec::new());
        if self.feeds_only_linears(output, &mut between) {
            between.into_iter().for_each(|node| self.hide(node));
            self.hide(index);
        } else if let Some(source) = self.sources.get_mut(index) {
            *source = Source::Stated;
            site.stated = true;
        }
        self.nodes.push(site);
        Some(())
    }

    fn linear_index(&self, node: usize) -> Option<usize> {
        let before = self.program.nodes().get(..node)?;
        Some(before.iter().filter(|node| matches!(node.op, Op::Linear(_))).count())
    }

    /// Whether linear nodes alone read a tensor, perhaps reshaped; collects the reshapes.
    fn feeds_only_linears(&self, tensor: usize, between: &mut Vec<usize>) -> bool {
        let mut pending = vec![tensor];
        while let Some(tensor) = pending.pop() {
            let Some(readers) = self.readers.get(tensor) else { return false };
            if readers.is_empty() || self.is_output.get(tensor) != Some(&false) {
                return false;
            }
            for &reader in readers {
                let Some(node) = self.program.nodes().get(reader) else { return false };
                match &node.op {
                    Op::Linear(_) => {}
                    Op::Move(Move::Reshape(_)) => {
                        between.push(reader);
                        pending.push(node.output);
                    }
                    _ => return false,
                }
            }
        }
        true
    }
}

/// Cells of windows that do not overlap; `None` for others, and for more than [`MAX_CELLS`].
fn cells_of(windows: &[Window]) -> Option<usize> {
    let mut cells = 1_usize;
    for window in windows {
        if window.stride != window.kernel
            || window.dilation != 1
            || window.before != 0
            || window.after != 0
        {
            return None;
        }
        cells = cells.checked_mul(window.kernel as usize)?;
    }
    (2..=MAX_CELLS).contains(&cells).then_some(cells)
}

/// The places in a tensor of the cells of each window, window by window; `None` when the windows do not cover it.
fn window_cells(windows: &[Window], shape: &[u32]) -> Option<Vec<u32>> {
    let lead = shape.len().checked_sub(windows.len())?;
    let (leading, spatial) = shape.split_at_checked(lead)?;
    // Places of (window, cell) pairs, dimension by dimension.
    let mut places = vec![vec![0_u32]];
    places = leading.iter().try_fold(places, |places, &size| axis(&places, size, 1))?;
    places = spatial
        .iter()
        .zip(windows)
        .try_fold(places, |places, (&size, window)| axis(&places, size, window.kernel))?;
    Some(places.concat())
}

/// Adds a dimension of `size`, cut into windows of `kernel`, to the places of each window's cells.
fn axis(places: &[Vec<u32>], size: u32, kernel: u32) -> Option<Vec<Vec<u32>>> {
    if !size.is_multiple_of(kernel.max(1)) {
        return None;
    }
    let mut all = Vec::with_capacity(places.len() * (size / kernel.max(1)) as usize);
    for cells in places {
        for window in 0..size / kernel.max(1) {
            let within =
                |&cell: &u32| (0..kernel).map(move |offset| cell * size + window * kernel + offset);
            all.push(cells.iter().flat_map(within).collect());
        }
    }
    Some(all)
}
