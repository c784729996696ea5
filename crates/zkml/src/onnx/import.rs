//! From messages to a graph: dimensions are bound, nodes lowered in order, the result checked.

use std::collections::BTreeSet;

use super::builder::Builder;
use super::error::{OnnxError, Reason};
use super::graph::{Data, Graph, Kind, Op};
use super::lower::lower;
use super::messages::{self, Dimension, TensorError};
use super::{Options, fuse};
use crate::reference::Value;

/// The operator set versions we know.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;

/// A graph from the messages of a file of `bytes` bytes.
pub(super) fn import(
    model: &messages::Model<'_>,
    bytes: usize,
    options: &Options,
) -> Result<Graph, OnnxError> {
    let opset = opset(model)?;
    if model.functions > 0 {
        return Err(OnnxError::Unsupported("functions defined in the file"));
    }
    if model.graph.sparse > 0 {
        return Err(OnnxError::Unsupported("sparse tensors"));
    }
    let mut builder = Builder::new(model.graph.name, opset, bytes);
    let mut bindings: BTreeSet<&str> = options.dims.keys().map(String::as_str).collect();
    let mut constants: BTreeSet<&str> = options.constants.keys().map(String::as_str).collect();
    initializers(&mut builder, model)?;
    for port in &model.graph.inputs {
        // Old files list their initializers among the inputs.
        if builder.lookup(port.name).is_none() {
            input(&mut builder, port, options, &mut bindings, &mut constants)?;
        }
    }
    if let Some(name) = bindings.first().or(constants.first()) {
        return Err(OnnxError::Binding((*name).into()));
    }
    for (at, node) in model.graph.nodes.iter().enumerate() {
        builder.parts = 0;
        builder.node = match (node.name, node.outputs.first()) {
            ("", Some(&output)) if !output.is_empty() => output.into(),
            ("", _) => format!("{}#{at}", node.operator),
            (name, _) => name.into(),
        };
        lower(&mut builder, node).map_err(|reason| OnnxError::Node {
            node: builder.node.clone(),
            operator: node.operator.into(),
            reason,
        })?;
    }
    for port in &model.graph.outputs {
        let problem = "no node makes it";
        let name = || port.name.to_owned();
        let id = builder.lookup(port.name).ok_or_else(|| OnnxError::Port {
            what: "output",
            name: name(),
            problem,
        })?;
        builder.graph.outputs.push(id);
    }
    if builder.graph.outputs.is_empty() {
        let name = model.graph.name.into();
        return Err(OnnxError::Port { what: "graph", name, problem: "it has no output" });
    }
    let mut graph = builder.graph;
    fuse::fuse(&mut graph);
    fuse::prune(&mut graph);
    check(&graph)?;
    Ok(graph)
}

fn opset(model: &messages::Model<'_>) -> Result<u32, OnnxError> {
    let standard = model.opsets.iter().find(|(domain, _)| matches!(*domain, "" | "ai.onnx"));
    let found = standard.map_or(0, |&(_, version)| version);
    u32::try_from(found).ok().filter(|_| OPSETS.contains(&found)).ok_or(OnnxError::Opset {
        found,
        min: *OPSETS.start(),
        max: *OPSETS.end(),
    })
}

fn initializers(builder: &mut Builder, model: &messages::Model<'_>) -> Result<(), OnnxError> {
    for tensor in &model.graph.initializers {
        let name = tensor.name.to_owned();
        if name.is_empty() || builder.lookup(&name).is_some() {
            let problem = "its name is empty or taken";
            return Err(OnnxError::Port { what: "initializer", name, problem });
        }
        match tensor.value() {
            Ok((kind, shape, data)) => {
                let id = builder.constant(Value { kind, shape, data });
                let twice = |_| OnnxError::Port {
                    what: "initializer",
                    name: name.clone(),
                    problem: "its name is taken",
                };
                builder.bind(&name, id).map_err(twice)?;
            }
            Err(reason) => return Err(OnnxError::Tensor { name, reason }),
        }
    }
    Ok(())
}

fn input<'a>(
    builder: &mut Builder,
    port: &messages::Port<'a>,
    options: &'a Options,
    bindings: &mut BTreeSet<&'a str>,
    constants: &mut BTreeSet<&str>,
) -> Result<(), OnnxError> {
    let name = port.name.to_owned();
    let problem = |problem| OnnxError::Port { what: "input", name: name.clone(), problem };
    let bad_type = |reason| OnnxError::Tensor { name: name.clone(), reason };
    if port.name.is_empty() {
        return Err(problem("it has no name"));
    }
    let kind = messages::kind(port.element).map_err(bad_type)?;
    if let Some(value) = options.constants.get(port.name) {
        constants.remove(port.name);
        if value.kind != kind || value.shape.iter().product::<usize>() != value.data.len() {
            return Err(problem("the value given for it is of another kind"));
        }
        let id = builder.constant(value.clone());
        return builder.bind(port.name, id).map_err(|_| problem("its name is taken"));
    }
    let dims = port.shape.as_ref().ok_or_else(|| problem("the file states no shape"))?;
    let mut sizes = Vec::with_capacity(dims.len());
    for (axis, dimension) in dims.iter().enumerate() {
        let own = format!("{}.{axis}", port.name);
        let key = match (options.dims.get_key_value(&own), dimension) {
            (Some(found), _) => Some(found),
            (None, &Dimension::Named(name)) => options.dims.get_key_value(name),
            _ => None,
        };
        let size = match (key, dimension) {
            (Some((key, &size)), _) => {
                bindings.remove(key.as_str());
                if let &Dimension::Known(known) = dimension
                    && known > 0
                    && i64::try_from(size) != Ok(known)
                {
                    return Err(problem("a binding contradicts the file"));
                }
                i64::try_from(size).unwrap_or(i64::MAX)
            }
            (None, &Dimension::Known(size)) if size >= 0 => size,
            (None, dimension) => {
                let dimension = match dimension {
                    Dimension::Named(name) => format!("`{name}`"),
                    _ => "unnamed".into(),
                };
                return Err(OnnxError::Unbound { input: name, axis, dimension });
            }
        };
        sizes.push(size);
    }
    let shape = messages::shape(&sizes).map_err(bad_type)?;
    if shape.contains(&0) {
        return Err(problem("it has no elements"));
    }
    let id = builder.input(kind, shape);
    builder.bind(port.name, id).map_err(|_| problem("its name is taken"))
}

/// Every number that is left is finite; every live tensor has elements.
fn check(graph: &Graph) -> Result<(), OnnxError> {
    for tensor in &graph.tensors {
        match &tensor.constant {
            Some(Data::Float(values)) if values.iter().any(|value| !value.is_finite()) => {
                return Err(OnnxError::NonFinite(tensor.name.clone()));
            }
            None if tensor.is_empty() => {
                let name = tensor.name.clone();
                let reason = TensorError::Shape(vec![]);
                return Err(OnnxError::Tensor { name, reason });
            }
            _ => {}
        }
        if tensor
            .constant
            .as_ref()
            .is_some_and(|data| data.floats().is_some() != (tensor.kind == Kind::Float))
        {
            return Err(OnnxError::NonFinite(tensor.name.clone()));
        }
    }
    for node in &graph.nodes {
        let numbers = match node.op.linear() {
            Some((weights, bias)) => weights.iter().chain(bias.unwrap_or_default()),
            None => continue,
        };
        let operator = if matches!(node.op, Op::Conv(_)) { "Conv" } else { "Gemm" };
        if numbers.into_iter().any(|value| !value.is_finite()) {
            return Err(OnnxError::Node {
                node: node.name.clone(),
                operator: operator.into(),
                reason: Reason::NonFinite,
            });
        }
    }
    Ok(())
}
