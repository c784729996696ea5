//! From the file's operators to the graph's, one node at a time.

mod constants;
mod elementwise;
mod layers;
mod movement;
mod reduce;

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::builder::Builder;
use super::error::Reason;
use super::graph::{Kind, TensorId};
use super::messages;

/// Lowers one node of the file into `builder` and names its outputs.
pub(super) fn lower(builder: &mut Builder, node: &messages::Node<'_>) -> Result<(), Reason> {
    if !matches!(node.domain, "" | "ai.onnx") {
        return Err(Reason::Operator);
    }
    let call = Call::new(builder, node)?;
    let outputs = lower_operator(builder, &call)?;
    call.all_attributes_used()?;
    let named = node.outputs.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    if named > outputs.len() {
        return Err(Reason::form(format!("output {named}")));
    }
    for (name, id) in node.outputs.iter().zip(outputs) {
        if !name.is_empty() {
            builder.bind(name, id)?;
        }
    }
    Ok(())
}

fn lower_operator(b: &mut Builder, call: &Call<'_>) -> Result<Vec<TensorId>, Reason> {
    if let Some(output) = elementwise::lower(b, call)? {
        return Ok(vec![output]);
    }
    if let Some(output) = constants::lower(b, call)? {
        return Ok(vec![output]);
    }
    if let Some(output) = reduce::lower(b, call)? {
        return Ok(vec![output]);
    }
    if let Some(outputs) = layers::lower(b, call)? {
        return Ok(outputs);
    }
    movement::lower(b, call)?.ok_or(Reason::Operator)
}

/// A node of the file with its inputs looked up.
struct Call<'a> {
    node: &'a messages::Node<'a>,
    inputs: Vec<Option<TensorId>>,
    used: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Call<'a> {
    fn new(builder: &Builder, node: &'a messages::Node<'a>) -> Result<Self, Reason> {
        let inputs = node
            .inputs
            .iter()
            .map(|&name| match name {
                "" => Ok(None),
                name => builder.lookup(name).map(Some).ok_or_else(|| Reason::Unknown(name.into())),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { node, inputs, used: RefCell::default() })
    }

    fn operator(&self) -> &'a str {
        self.node.operator
    }

    /// An input that must be there.
    fn input(&self, index: usize) -> Result<TensorId, Reason> {
        self.optional(index).ok_or(Reason::Missing(index))
    }

    fn optional(&self, index: usize) -> Option<TensorId> {
        self.inputs.get(index).copied().flatten()
    }

    /// All inputs, each of which must be there: one at least.
    fn all_inputs(&self) -> Result<Vec<TensorId>, Reason> {
        let all: Vec<TensorId> = self
            .inputs
            .iter()
            .enumerate()
            .map(|(index, id)| id.ok_or(Reason::Missing(index)))
            .collect::<Result<_, _>>()?;
        if all.is_empty() { Err(Reason::Missing(0)) } else { Ok(all) }
    }

    fn attribute(
        &self,
        name: &str,
        kind: i64,
    ) -> Result<Option<&'a messages::Attribute<'a>>, Reason> {
        let mut named = self.node.attributes.iter().filter(|attribute| attribute.name == name);
        let Some(attribute) = named.next() else { return Ok(None) };
        self.used.borrow_mut().insert(attribute.name);
        // Old files leave the kind out.
        let fits = attribute.kind == kind || attribute.kind == 0;
        if named.next().is_some() || !fits || attribute.is_graph {
            return Err(Reason::attribute(name));
        }
        Ok(Some(attribute))
    }

    fn float(&self, name: &str, default: f32) -> Result<f32, Reason> {
        let value = self.attribute(name, 1)?.map_or(default, |attribute| attribute.float);
        if value.is_finite() { Ok(value) } else { Err(Reason::attribute(name)) }
    }

    fn int(&self, name: &str, default: i64) -> Result<i64, Reason> {
        Ok(self.attribute(name, 2)?.map_or(default, |attribute| attribute.int))
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, Reason> {
        match self.int(name, i64::from(default))? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Reason::attribute(name)),
        }
    }

    fn ints(&self, name: &str) -> Result<Option<&'a [i64]>, Reason> {
        Ok(self.attribute(name, 7)?.map(|attribute| attribute.ints.as_slice()))
    }

    fn text(&self, name: &str, default: &'a str) -> Result<&'a str, Reason> {
        match self.attribute(name, 3)? {
            None => Ok(default),
            Some(attribute) => {
                std::str::from_utf8(attribute.text).map_err(|_| Reason::attribute(name))
            }
        }
    }

    /// Marks an attribute as known and of no effect here.
    fn ignore(&self, names: &[&str]) {
        for attribute in &self.node.attributes {
            if names.contains(&attribute.name) {
                self.used.borrow_mut().insert(attribute.name);
            }
        }
    }

    fn all_attributes_used(&self) -> Result<(), Reason> {
        let used = self.used.borrow();
        match self.node.attributes.iter().find(|attribute| !used.contains(attribute.name)) {
            Some(attribute) => Err(Reason::UnknownAttribute(attribute.name.into())),
            None => Ok(()),
        }
    }

    /// An axis attribute, counted from the front.
    fn axis(&self, name: &str, default: i64, rank: usize) -> Result<usize, Reason> {
        axis(self.int(name, default)?, rank).ok_or_else(|| Reason::attribute(name))
    }

    /// Axes: input `index` in newer files, an attribute in older ones; `None` when neither is there.
    fn axes(&self, b: &Builder, index: usize, rank: usize) -> Result<Option<Vec<usize>>, Reason> {
        let axes = match self.ints("axes")? {
            Some(axes) => axes.to_vec(),
            None => match self.optional(index) {
                Some(id) => b.ints(id)?,
                None => return Ok(None),
            },
        };
        let mut resolved = Vec::with_capacity(axes.len());
        for value in axes {
            let axis = axis(value, rank).filter(|axis| !resolved.contains(axis));
            resolved.push(axis.ok_or_else(|| Reason::attribute("axes"))?);
        }
        Ok(Some(resolved))
    }
}

/// An axis counted from the front.
fn axis(value: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let value = if value < 0 { value.checked_add(rank)? } else { value };
    if value < rank { usize::try_from(value).ok() } else { None }
}

/// What `TensorProto.DataType` in an attribute means.
fn kind_of(element: i64) -> Result<Kind, Reason> {
    Ok(messages::kind(element)?)
}
