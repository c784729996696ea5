//! Decompose what the requantisations did into limbs.

use og_zkml::succinct::{Plan, Quantity, SiteNode};

/// The quantities of all sites of one kind, by [`Quantity::index`].
pub type BySite = Vec<Vec<i64>>;

/// What a prover commits to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The tensors of each inference, by number.
    pub tensors: Vec<Vec<Vec<i64>>>,
    /// The quantities of pooled sites, then those of the others.
    pub quantities: [BySite; 2],
}

impl Witness {
    /// The witness of an execution: the tensors of each inference; `linears` are the tensors of the linear nodes.
    #[must_use]
    pub fn new(plan: &Plan, tensors: Vec<Vec<Vec<i64>>>, linears: &[usize]) -> Self {
        let mut quantities = [true, false].map(|pooled| {
            let cells = if pooled { plan.cells() } else { 0 };
            vec![Vec::with_capacity(plan.sites(pooled)); Quantity::all(cells).count()]
        });
        for node in plan.nodes() {
            let [pooled, plain] = &mut quantities;
            let by_site = if node.pooled { pooled } else { plain };
            for tensors in &tensors {
                let at = |tensor: usize| tensors.get(tensor).map_or(&[][..], Vec::as_slice);
                let linear = linears.get(node.linear).copied().unwrap_or(usize::MAX);
                decompose(plan, node, at(linear), at(node.tensor), by_site);
            }
        }
        Self { tensors, quantities }
    }

    /// The trace vector: limbs, then how often each number occurs among them.
    #[must_use]
    pub fn trace(&self, plan: &Plan) -> Vec<i64> {
        let mut trace = vec![0; plan.trace_len()];
        let [pooled, plain] = &self.quantities;
        for sites in plan.boxes() {
            let by_site = if sites.pooled { pooled } else { plain };
            for (plane, (quantity, limb)) in plan.planes(sites.pooled).enumerate() {
                let values = by_site.get(quantity.index()).map_or(&[][..], Vec::as_slice);
                let values = values.get(sites.first..sites.first + sites.len());
                let start = sites.offset + plane * sites.len();
                let entries = trace.get_mut(start..start + sites.len()).unwrap_or_default();
                let last = plan.quantities().any(|(q, limbs)| q == quantity && limbs == limb + 1);
                for (entry, &value) in entries.iter_mut().zip(values.unwrap_or_default()) {
                    let rest = value >> (limb * plan.radix_bits());
                    let low = rest & ((1 << plan.radix_bits()) - 1);
                    // What does not fit stays in the last limb, which no table holds then.
                    *entry = if last { rest } else { low };
                }
            }
        }
        let (limbs, counts) = trace.split_at_mut(plan.multiplicities());
        for &limb in limbs.iter().take(4 * plan.groups()) {
            if let Some(count) = usize::try_from(limb).ok().and_then(|limb| counts.get_mut(limb)) {
                *count += 1;
            }
        }
        trace
    }

    /// A quantity of all sites, in the order of the boxes.
    #[must_use]
    pub fn column(&self, plan: &Plan, quantity: Quantity) -> Vec<i64> {
        let [pooled, plain] = &self.quantities;
        let mut column = Vec::new();
        for sites in plan.boxes() {
            let by_site = if sites.pooled { pooled } else { plain };
            let values = by_site.get(quantity.index());
            let values = values.and_then(|all| all.get(sites.first..sites.first + sites.len()));
            match values {
                Some(values) => column.extend_from_slice(values),
                None => column.resize(column.len() + sites.len(), 0),
            }
        }
        column
    }
}

/// Appends the quantities of a node's sites in one inference.
fn decompose(plan: &Plan, node: &SiteNode, accumulators: &[i64], ys: &[i64], out: &mut BySite) {
    let cells = if node.pooled { plan.cells().max(1) } else { 1 };
    let requant = &node.requant;
    let largest_remainder = (1_i64 << requant.shift) - 1;
    let mut push = |quantity: Quantity, value: i64| {
        if let Some(values) = out.get_mut(quantity.index()) {
            values.push(value);
        }
    };
    for (site, (read, &y)) in node.accumulators.chunks(cells).zip(ys).enumerate() {
        let multiplier = requant.multipliers.get(node.multiplier(site)).copied().unwrap_or(1);
        let scaled = |&at: &u32| {
            let accumulator = accumulators.get(at as usize).copied().unwrap_or(0);
            accumulator.wrapping_mul(multiplier).wrapping_add(node.half())
        };
        let most = read.iter().map(scaled).max().unwrap_or(0);
        let quotient = most >> requant.shift;
        let remainder = most & largest_remainder;
        push(Quantity::Value, y - requant.lo);
        push(Quantity::ValueRest, requant.hi - y);
        push(Quantity::Remainder, remainder);
        push(Quantity::RemainderRest, largest_remainder - remainder);
        push(Quantity::Above, (quotient - y).max(0));
        push(Quantity::Below, (y - quotient).max(0));
        if node.pooled {
            for (cell, at) in read.iter().enumerate() {
                push(Quantity::Gap(cell), most - scaled(at));
            }
        }
    }
}
