//! After lowering: scales and shifts go into the layers before them, what nothing reads goes away.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::graph::{Binary, Graph, Node, Op, TensorId};

/// Folds `layer(x) ∘ constant` (add, subtract, multiply, divide; one number per output channel) into the layer.
pub(super) fn fuse(graph: &mut Graph) {
    let mut uses = vec![0usize; graph.tensors.len()];
    let reads = graph.nodes.iter().flat_map(|node| &node.inputs).chain(&graph.outputs);
    for &id in reads {
        if let Some(count) = uses.get_mut(id) {
            *count = count.saturating_add(1);
        }
    }
    // Which kept node makes a tensor.
    let mut makers: BTreeMap<TensorId, usize> = BTreeMap::new();
    let mut kept: Vec<Node> = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes) {
        let candidate = affine(graph, &node).and_then(|(x, op, values)| {
            let maker = *makers.get(&x)?;
            (uses.get(x) == Some(&1)).then_some((x, maker, op, values))
        });
        if let Some((x, maker, op, values)) = candidate
            && let Some(layer) = kept.get_mut(maker)
            && apply(layer, op, &values)
        {
            makers.remove(&x);
            makers.insert(node.output, maker);
            layer.output = node.output;
            continue;
        }
        makers.insert(node.output, kept.len());
        kept.push(node);
    }
    graph.nodes = kept;
}

/// The layer's operation that a node is: the tensor, the operation, and a constant shaped to broadcast to it.
fn affine(graph: &Graph, node: &Node) -> Option<(TensorId, Affine, Constant)> {
    let &[a, b] = node.inputs.as_slice() else { return None };
    let constant = |id: TensorId| -> Option<Constant> {
        let tensor = graph.tensor(id)?;
        let values = tensor.constant.as_ref()?.floats()?;
        Some(Constant { shape: tensor.shape.clone(), values: values.into(), rank: 0 })
    };
    let Op::Binary(op) = node.op else { return None };
    let (x, op, mut constant) = match (op, constant(a), constant(b)) {
        (Binary::Add, None, Some(c)) => (a, Affine::Add(1.0), c),
        (Binary::Add, Some(c), None) => (b, Affine::Add(1.0), c),
        (Binary::Sub, None, Some(c)) => (a, Affine::Add(-1.0), c),
        (Binary::Mul, None, Some(c)) => (a, Affine::Multiply, c),
        (Binary::Mul, Some(c), None) => (b, Affine::Multiply, c),
        (Binary::Div, None, Some(c)) => (a, Affine::Divide, c),
        _ => return None,
    };
    // The constant may not make the tensor larger.
    let shape = &graph.tensor(x)?.shape;
    constant.rank = shape.len();
    (*shape == graph.tensor(node.output)?.shape).then_some((x, op, constant))
}

#[derive(Clone, Copy)]
enum Affine {
    /// Plus this times the constant.
    Add(f32),
    Multiply,
    Divide,
}

/// A constant that is broadcast to a tensor.
struct Constant {
    shape: Vec<usize>,
    values: Arc<[f32]>,
    /// The tensor's rank.
    rank: usize,
}

impl Constant {
    /// One number per channel, when nothing else varies.
    fn per_channel(&self, axis: usize, channels: usize) -> Option<Vec<f32>> {
        let lead = self.rank.checked_sub(self.shape.len())?;
        let varies = self.shape.iter().enumerate().find(|&(_, &dim)| dim != 1);
        match (varies, &*self.values) {
            (None, &[one]) => Some(vec![one; channels]),
            (Some((at, &dim)), values)
                if at + lead == axis && dim == channels && values.len() == channels =>
            {
                Some(values.to_vec())
            }
            _ => None,
        }
    }
}

fn apply(node: &mut Node, op: Affine, constant: &Constant) -> bool {
    let (outputs, axis, weights, bias) = match &mut node.op {
        Op::Conv(conv) => (conv.outputs, 1, &mut conv.weights, &mut conv.bias),
        Op::Dense(dense) => {
            let Some(axis) = constant.rank.checked_sub(1) else { return false };
            (dense.outputs, axis, &mut dense.weights, &mut dense.bias)
        }
        _ => return false,
    };
    let Some(channel) = constant.per_channel(axis, outputs) else { return false };
    let per_output = weights.len().checked_div(outputs).unwrap_or(0).max(1);
    match op {
        Affine::Add(sign) => {
            let old = bias.clone().unwrap_or_else(|| vec![0.0; outputs].into());
            *bias = Some(old.iter().zip(&channel).map(|(b, c)| b + sign * c).collect());
        }
        Affine::Multiply | Affine::Divide => {
            let scale = |value: f32, by: f32| match op {
                Affine::Divide => value / by,
                _ => value * by,
            };
            let rows = weights.chunks_exact(per_output).zip(&channel);
            let scaled: Vec<f32> =
                rows.flat_map(|(row, &by)| row.iter().map(move |&w| scale(w, by))).collect();
            let moved: Option<Arc<[f32]>> = bias
                .as_ref()
                .map(|bias| bias.iter().zip(&channel).map(|(&b, &by)| scale(b, by)).collect());
            if scaled.len() != weights.len() || scaled.iter().any(|w| !w.is_finite()) {
                return false;
            }
            *weights = scaled.into();
            *bias = moved;
        }
    }
    true
}

/// Removes nodes that no output depends on, and tensors that nothing uses; the rest is renumbered in order.
pub(super) fn prune(graph: &mut Graph) {
    let mut used = vec![false; graph.tensors.len()];
    let mark = |used: &mut Vec<bool>, id: TensorId| {
        if let Some(flag) = used.get_mut(id) {
            *flag = true;
        }
    };
    for &id in graph.outputs.iter().chain(&graph.inputs) {
        mark(&mut used, id);
    }
    let mut kept = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes).into_iter().rev() {
        if used.get(node.output) == Some(&true) {
            node.inputs.iter().for_each(|&id| mark(&mut used, id));
            kept.push(node);
        }
    }
    kept.reverse();
    let mut numbers = Vec::with_capacity(used.len());
    let mut next = 0usize;
    for &flag in &used {
        numbers.push(next);
        next += usize::from(flag);
    }
    let renumber = |id: &mut TensorId| *id = numbers.get(*id).copied().unwrap_or(*id);
    for node in &mut kept {
        node.inputs.iter_mut().for_each(renumber);
        renumber(&mut node.output);
    }
    graph.inputs.iter_mut().chain(&mut graph.outputs).for_each(renumber);
    graph.nodes = kept;
    let mut flags = used.into_iter();
    graph.tensors.retain(|_| flags.next().unwrap_or(false));
    // What the file does not name is called after the node that makes it, or its place.
    for node in &graph.nodes {
        if let Some(tensor) = graph.tensors.get_mut(node.output)
            && tensor.name.is_empty()
        {
            tensor.name.clone_from(&node.name);
        }
    }
    for (at, tensor) in graph.tensors.iter_mut().enumerate() {
        if tensor.name.is_empty() {
            tensor.name = format!("constant#{at}");
        }
    }
}
