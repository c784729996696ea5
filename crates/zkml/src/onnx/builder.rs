//! A graph under construction: tensors by name, nodes emitted one by one, constants folded at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::Reason;
use super::graph::{Binary, Data, Graph, Kind, Node, Op, ReduceKind, Tensor, TensorId, Unary};
use super::messages::{MAX_ELEMENTS, MAX_RANK};
use crate::reference::{self, Value};

/// The most nodes a graph may have after lowering.
const MAX_NODES: usize = 1 << 18;
/// How many elements folding may read and make over the whole graph, beside one for every two bytes of the file.
const FOLDED: usize = 1 << 24;
/// The most multiplications that folding may do, over the whole graph.
const MAX_WORK: usize = 1 << 28;

#[derive(Debug)]
pub(super) struct Builder {
    pub(super) graph: Graph,
    names: BTreeMap<String, TensorId>,
    /// What the emitted nodes are called: the file's node.
    pub(super) node: String,
    /// The emitted nodes of this file's node so far.
    pub(super) parts: usize,
    /// How many elements folding may still read and make.
    folding: usize,
    /// How many multiplications it has done.
    work: usize,
}

impl Builder {
    /// For a file of `bytes` bytes.
    pub(super) fn new(name: &str, opset: u32, bytes: usize) -> Self {
        let graph = Graph { name: name.into(), opset, ..Graph::default() };
        let (names, node) = (BTreeMap::new(), String::new());
        let folding = FOLDED.saturating_add(bytes / 2);
        Self { graph, names, node, parts: 0, folding, work: 0 }
    }

    pub(super) fn opset(&self) -> u32 {
        self.graph.opset
    }

    pub(super) fn lookup(&self, name: &str) -> Option<TensorId> {
        self.names.get(name).copied()
    }

    /// Gives a tensor a name of the file; the first such name is what the tensor is called.
    pub(super) fn bind(&mut self, name: &str, id: TensorId) -> Result<(), Reason> {
        if self.names.insert(name.into(), id).is_some() {
            return Err(Reason::Twice(name.into()));
        }
        if let Some(tensor) = self.graph.tensors.get_mut(id)
            && tensor.name.is_empty()
        {
            tensor.name = name.into();
        }
        Ok(())
    }

    fn push(&mut self, kind: Kind, shape: Vec<usize>, constant: Option<Data>) -> TensorId {
        let id = self.graph.tensors.len();
        self.graph.tensors.push(Tensor { name: String::new(), kind, shape, constant });
        id
    }

    /// A tensor that the caller gives.
    pub(super) fn input(&mut self, kind: Kind, shape: Vec<usize>) -> TensorId {
        let id = self.push(kind, shape, None);
        self.graph.inputs.push(id);
        id
    }

    pub(super) fn constant(&mut self, value: Value) -> TensorId {
        self.push(value.kind, value.shape, Some(value.data))
    }

    pub(super) fn scalar(&mut self, value: f32) -> TensorId {
        self.constant(Value::floats(&[], [value]))
    }

    pub(super) fn shape(&self, id: TensorId) -> Vec<usize> {
        self.graph.tensor(id).map(|tensor| tensor.shape.clone()).unwrap_or_default()
    }

    pub(super) fn kind(&self, id: TensorId) -> Kind {
        self.graph.tensor(id).map_or(Kind::Float, |tensor| tensor.kind)
    }

    pub(super) fn name(&self, id: TensorId) -> String {
        self.graph.tensor(id).map(|tensor| tensor.name.clone()).unwrap_or_default()
    }

    /// A tensor's value, when it is constant.
    pub(super) fn value(&self, id: TensorId) -> Option<Value> {
        let tensor = self.graph.tensor(id)?;
        let data = tensor.constant.clone()?;
        Some(Value { kind: tensor.kind, shape: tensor.shape.clone(), data })
    }

    /// The integers of a constant tensor.
    pub(super) fn ints(&self, id: TensorId) -> Result<Vec<i64>, Reason> {
        let value = self.value(id).ok_or_else(|| Reason::NotConstant(self.name(id)))?;
        value.data.ints().map(<[i64]>::to_vec).ok_or_else(|| Reason::Kind(self.name(id)))
    }

    /// The floats of a constant tensor.
    pub(super) fn floats(&self, id: TensorId) -> Result<Arc<[f32]>, Reason> {
        let value = self.value(id).ok_or_else(|| Reason::NotConstant(self.name(id)))?;
        match value.data {
            Data::Float(values) => Ok(values),
            Data::Int(_) => Err(Reason::Kind(self.name(id))),
        }
    }

    pub(super) fn expect_kind(&self, id: TensorId, kind: Kind) -> Result<(), Reason> {
        if self.kind(id) == kind { Ok(()) } else { Err(Reason::Kind(self.name(id))) }
    }

    /// Adds a node, or its value when all its inputs are constant.
    pub(super) fn emit(
        &mut self,
        op: Op,
        inputs: &[TensorId],
        kind: Kind,
        shape: Vec<usize>,
    ) -> Result<TensorId, Reason> {
        let count = shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim));
        let count = count.filter(|&count| count <= MAX_ELEMENTS && shape.len() <= MAX_RANK);
        let count = count.ok_or(Reason::TooMuch("the output's shape"))?;
        let values: Option<Vec<Value>> = inputs.iter().map(|&id| self.value(id)).collect();
        if let Some(values) = values {
            self.pay(&op, &values, count)?;
            let values: Vec<&Value> = values.iter().collect();
            let value = reference::evaluate(&op, &values, kind, &shape)?;
            return Ok(self.constant(value));
        }
        if count == 0 {
            return Err(Reason::Empty);
        }
        if self.graph.nodes.len() >= MAX_NODES {
            return Err(Reason::TooMuch("the number of nodes"));
        }
        let output = self.push(kind, shape, None);
        let name = if self.parts == 0 {
            self.node.clone()
        } else {
            format!("{}#{}", self.node, self.parts)
        };
        self.parts = self.parts.saturating_add(1);
        self.graph.nodes.push(Node { name, op, inputs: inputs.to_vec(), output });
        Ok(output)
    }

    /// Bounds what folding costs over the whole file.
    fn pay(&mut self, op: &Op, values: &[Value], count: usize) -> Result<(), Reason> {
        let read = values.iter().fold(0usize, |sum, value| sum.saturating_add(value.data.len()));
        let per_element = match (op, values) {
            (Op::MatMul, [a, ..]) => a.shape.last().copied().unwrap_or(1),
            (Op::Dense(dense), _) => dense.inputs,
            (Op::Conv(conv), _) => {
                conv.window.kernel.iter().fold(conv.inputs, |all, &k| all.saturating_mul(k))
            }
            (Op::Pool { window, .. }, _) => {
                window.kernel.iter().fold(1usize, |all, &k| all.saturating_mul(k))
            }
            _ => 1,
        };
        let cost = count.saturating_add(read);
        self.work = self.work.saturating_add(count.saturating_mul(per_element));
        match self.folding.checked_sub(cost) {
            Some(left) if self.work <= MAX_WORK => {
                self.folding = left;
                Ok(())
            }
            _ => Err(Reason::TooMuch("the constants to fold")),
        }
    }

    pub(super) fn unary(&mut self, function: Unary, x: TensorId) -> Result<TensorId, Reason> {
        let (kind, shape) = (self.kind(x), self.shape(x));
        let allowed = match function {
            Unary::Not => kind == Kind::Bool,
            Unary::Abs | Unary::Neg | Unary::Sign => kind != Kind::Bool,
            _ => kind == Kind::Float,
        };
        if !allowed {
            return Err(Reason::Kind(self.name(x)));
        }
        self.emit(Op::Unary(function), &[x], kind, shape)
    }

    pub(super) fn binary(
        &mut self,
        op: Binary,
        a: TensorId,
        b: TensorId,
    ) -> Result<TensorId, Reason> {
        let kind = self.kind(a);
        self.expect_kind(b, kind)?;
        let logic = matches!(op, Binary::And | Binary::Or | Binary::Xor);
        if logic != (kind == Kind::Bool) && op != Binary::Equal {
            return Err(Reason::Kind(self.name(a)));
        }
        let compares = matches!(
            op,
            Binary::Equal
                | Binary::Less
                | Binary::LessOrEqual
                | Binary::Greater
                | Binary::GreaterOrEqual
        );
        let shape = broadcast(&self.shape(a), &self.shape(b))?;
        let kind = if compares { Kind::Bool } else { kind };
        self.emit(Op::Binary(op), &[a, b], kind, shape)
    }

    /// The same elements under another shape; the same tensor when it is the same shape.
    pub(super) fn reshape(&mut self, x: TensorId, shape: Vec<usize>) -> Result<TensorId, Reason> {
        let old = self.shape(x);
        if old == shape {
            return Ok(x);
        }
        let count = |shape: &[usize]| shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if count(&old) != count(&shape) {
            return Err(Reason::shape(format!("cannot reshape {old:?} to {shape:?}")));
        }
        self.emit(Op::Reshape, &[x], self.kind(x), shape)
    }

    pub(super) fn transpose(
        &mut self,
        x: TensorId,
        permutation: Vec<usize>,
    ) -> Result<TensorId, Reason> {
        if permutation.iter().enumerate().all(|(at, &axis)| at == axis) {
            return Ok(x);
        }
        let old = self.shape(x);
        let shape: Option<Vec<usize>> =
            permutation.iter().map(|&axis| old.get(axis).copied()).collect();
        let mut seen = permutation.clone();
        seen.sort_unstable();
        seen.dedup();
        match shape {
            Some(shape) if seen.len() == old.len() && shape.len() == old.len() => {
                self.emit(Op::Transpose { permutation }, &[x], self.kind(x), shape)
            }
            _ => Err(Reason::attribute("perm")),
        }
    }

    /// Reduces along `axes` (any order, no repeats).
    pub(super) fn reduce(
        &mut self,
        kind: ReduceKind,
        x: TensorId,
        mut axes: Vec<usize>,
        keep: bool,
    ) -> Result<TensorId, Reason> {
        axes.sort_unstable();
        let old = self.shape(x);
        if axes.iter().any(|&axis| old.get(axis) == Some(&0)) {
            return Err(Reason::form("reducing no elements"));
        }
        let shape = drop_axes(&old, &axes, keep);
        if axes.is_empty() {
            return Ok(x);
        }
        self.emit(Op::Reduce { kind, axes }, &[x], self.kind(x), shape)
    }

    pub(super) fn expand(&mut self, x: TensorId, shape: Vec<usize>) -> Result<TensorId, Reason> {
        let old = self.shape(x);
        if old == shape {
            return Ok(x);
        }
        if broadcast(&old, &shape)? != shape {
            return Err(Reason::shape(format!("cannot expand {old:?} to {shape:?}")));
        }
        self.emit(Op::Expand, &[x], self.kind(x), shape)
    }

    pub(super) fn convert(&mut self, x: TensorId, kind: Kind) -> Result<TensorId, Reason> {
        let old = self.kind(x);
        if old == kind {
            return Ok(x);
        }
        self.emit(Op::Convert, &[x], kind, self.shape(x))
    }

    /// Values along one axis: `start`, `start + step`, … `count` of them.
    pub(super) fn slice_axis(
        &mut self,
        x: TensorId,
        axis: usize,
        start: usize,
        step: i64,
        count: usize,
    ) -> Result<TensorId, Reason> {
        let mut shape = self.shape(x);
        let mut starts = vec![0; shape.len()];
        let mut steps = vec![1; shape.len()];
        if let (Some(dim), Some(first), Some(by)) =
            (shape.get_mut(axis), starts.get_mut(axis), steps.get_mut(axis))
        {
            (*dim, *first, *by) = (count, start, step);
        }
        self.emit(Op::Slice { start: starts, step: steps }, &[x], self.kind(x), shape)
    }
}

/// The shape both broadcast to.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Reason> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).and_then(|own| shape.get(own).copied()).unwrap_or(1)
    };
    (0..rank)
        .map(|axis| match (dim(a, axis), dim(b, axis)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(Reason::shape(format!("shapes {a:?} and {b:?} do not broadcast"))),
        })
        .collect()
}

/// A shape without some axes, or with ones in their places.
pub(super) fn drop_axes(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    shape
        .iter()
        .enumerate()
        .filter_map(|(axis, &dim)| match axes.contains(&axis) {
            true if keep => Some(1),
            true => None,
            false => Some(dim),
        })
        .collect()
}
