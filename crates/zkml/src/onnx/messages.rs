//! The messages of `onnx.proto3` that a model needs, borrowed from the file.

use std::sync::Arc;

use super::graph::{Data, Kind};
use super::wire::{Field, Fields, WireError, push};

/// The most nodes, tensors, inputs and outputs a graph may have, each.
const MAX_ENTRIES: usize = 1 << 17;
/// The most inputs, outputs or attributes of a node, and dimensions of a type.
const MAX_LIST: usize = 1 << 12;
/// The most dimensions of a tensor.
pub(super) const MAX_RANK: usize = 16;
/// The most elements of a tensor.
pub(super) const MAX_ELEMENTS: usize = 1 << 28;

#[derive(Debug, Default)]
pub(super) struct Model<'a> {
    pub(super) graph: Graph<'a>,
    /// Domain and version.
    pub(super) opsets: Vec<(&'a str, i64)>,
    /// How many functions of its own it brings.
    pub(super) functions: usize,
}

#[derive(Debug, Default)]
pub(super) struct Graph<'a> {
    pub(super) name: &'a str,
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) initializers: Vec<Tensor<'a>>,
    pub(super) inputs: Vec<Port<'a>>,
    pub(super) outputs: Vec<Port<'a>>,
    pub(super) sparse: usize,
}

#[derive(Debug, Default)]
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) operator: &'a str,
    pub(super) domain: &'a str,
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) attributes: Vec<Attribute<'a>>,
}

#[derive(Debug, Default)]
pub(super) struct Attribute<'a> {
    pub(super) name: &'a str,
    pub(super) kind: i64,
    pub(super) float: f32,
    pub(super) int: i64,
    pub(super) text: &'a [u8],
    pub(super) tensor: Option<Tensor<'a>>,
    pub(super) floats: Vec<f32>,
    pub(super) ints: Vec<i64>,
    pub(super) is_graph: bool,
}

/// An input or output of the graph.
#[derive(Debug, Default)]
pub(super) struct Port<'a> {
    pub(super) name: &'a str,
    /// `TensorProto.DataType`; 0 when the type is not a tensor or missing.
    pub(super) element: i64,
    /// `None` when the file states no shape.
    pub(super) shape: Option<Vec<Dimension<'a>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dimension<'a> {
    Known(i64),
    Named(&'a str),
    Unknown,
}

#[derive(Debug, Default)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) dims: Vec<i64>,
    pub(super) element: i64,
    raw: Option<&'a [u8]>,
    /// The repeated fields with the elements, not yet taken apart.
    typed: Vec<Field<'a>>,
    external: bool,
}

/// What is wrong with a tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// Its elements lie in another file.
    #[error("its elements lie in another file (external data)")]
    External,
    /// Its elements are not numbers we read.
    #[error("its element type {0} is not supported")]
    Element(String),
    /// A dimension is negative, or there are too many of them or of elements.
    #[error("its shape {0:?} is not valid")]
    Shape(Vec<i64>),
    /// It holds another number of elements than its shape says.
    #[error("its shape has {expected} elements, it holds {found}")]
    Count {
        /// By its shape.
        expected: usize,
        /// In the file.
        found: usize,
    },
    /// Its elements are not what their type allows.
    #[error("its elements are not valid: {0}")]
    Wire(#[from] WireError),
}

pub(super) fn model(bytes: &[u8]) -> Result<Option<Model<'_>>, WireError> {
    let mut out = Model::default();
    let mut fields = Fields::new(bytes);
    let mut has_graph = false;
    while let Some(field) = fields.next()? {
        match field.number {
            7 => {
                if std::mem::replace(&mut has_graph, true) {
                    return Err(WireError::Repeated(7));
                }
                out.graph = graph(field.bytes()?)?;
            }
            8 => push(&mut out.opsets, opset(field.bytes()?)?, MAX_LIST, 8)?,
            25 => out.functions = out.functions.saturating_add(1),
            _ => {}
        }
    }
    Ok(has_graph.then_some(out))
}

fn opset(bytes: &[u8]) -> Result<(&str, i64), WireError> {
    let mut out = ("", 0);
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => out.0 = field.text()?,
            2 => out.1 = field.int()?,
            _ => {}
        }
    }
    Ok(out)
}

fn graph(bytes: &[u8]) -> Result<Graph<'_>, WireError> {
    let mut out = Graph::default();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => push(&mut out.nodes, node(field.bytes()?)?, MAX_ENTRIES, 1)?,
            2 => out.name = field.text()?,
            5 => push(&mut out.initializers, tensor(field.bytes()?)?, MAX_ENTRIES, 5)?,
            11 => push(&mut out.inputs, port(field.bytes()?)?, MAX_ENTRIES, 11)?,
            12 => push(&mut out.outputs, port(field.bytes()?)?, MAX_ENTRIES, 12)?,
            15 => out.sparse = out.sparse.saturating_add(1),
            _ => {}
        }
    }
    Ok(out)
}

fn node(bytes: &[u8]) -> Result<Node<'_>, WireError> {
    let mut out = Node::default();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => push(&mut out.inputs, field.text()?, MAX_LIST, 1)?,
            2 => push(&mut out.outputs, field.text()?, MAX_LIST, 2)?,
            3 => out.name = field.text()?,
            4 => out.operator = field.text()?,
            5 => push(&mut out.attributes, attribute(field.bytes()?)?, MAX_LIST, 5)?,
            7 => out.domain = field.text()?,
            _ => {}
        }
    }
    Ok(out)
}

fn attribute(bytes: &[u8]) -> Result<Attribute<'_>, WireError> {
    let mut out = Attribute::default();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => out.name = field.text()?,
            2 => out.float = field.float()?,
            3 => out.int = field.int()?,
            4 => out.text = field.bytes()?,
            5 => out.tensor = Some(tensor(field.bytes()?)?),
            6 | 11 => out.is_graph = true,
            7 => field.floats(&mut out.floats, MAX_ELEMENTS)?,
            8 => field.ints(&mut out.ints, MAX_ELEMENTS)?,
            20 => out.kind = field.int()?,
            _ => {}
        }
    }
    Ok(out)
}

fn port(bytes: &[u8]) -> Result<Port<'_>, WireError> {
    let mut out = Port::default();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => out.name = field.text()?,
            2 => {
                let mut kinds = Fields::new(field.bytes()?);
                while let Some(kind) = kinds.next()? {
                    if kind.number == 1 {
                        tensor_type(kind.bytes()?, &mut out)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(out)
}

fn tensor_type<'a>(bytes: &'a [u8], out: &mut Port<'a>) -> Result<(), WireError> {
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => out.element = field.int()?,
            2 => {
                let mut shape = Vec::new();
                let mut dims = Fields::new(field.bytes()?);
                while let Some(dim) = dims.next()? {
                    if dim.number == 1 {
                        push(&mut shape, dimension(dim.bytes()?)?, MAX_LIST, 1)?;
                    }
                }
                out.shape = Some(shape);
            }
            _ => {}
        }
    }
    Ok(())
}

fn dimension(bytes: &[u8]) -> Result<Dimension<'_>, WireError> {
    let mut out = Dimension::Unknown;
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => out = Dimension::Known(field.int()?),
            2 => out = Dimension::Named(field.text()?),
            _ => {}
        }
    }
    Ok(out)
}

/// Reads a `TensorProto`.
pub(super) fn tensor(bytes: &[u8]) -> Result<Tensor<'_>, WireError> {
    let mut out = Tensor::default();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => field.ints(&mut out.dims, MAX_LIST)?,
            2 => out.element = field.int()?,
            4 | 5 | 7 | 10 | 11 => push(&mut out.typed, field, MAX_ELEMENTS, field.number)?,
            8 => out.name = field.text()?,
            9 => out.raw = Some(field.bytes()?),
            13 => out.external = true,
            14 => out.external |= field.varint()? != 0,
            _ => {}
        }
    }
    Ok(out)
}

/// What the elements of a `TensorProto.DataType` are to us.
pub(super) fn kind(element: i64) -> Result<Kind, TensorError> {
    match element {
        1 | 10 | 11 | 16 => Ok(Kind::Float),
        2..=7 | 12 | 13 => Ok(Kind::Int),
        9 => Ok(Kind::Bool),
        other => Err(TensorError::Element(element_name(other))),
    }
}

fn element_name(element: i64) -> String {
    match element {
        0 => "undefined".into(),
        8 => "string".into(),
        14 | 15 => "complex".into(),
        17..=20 => "float8".into(),
        21 | 22 => "int4".into(),
        other => other.to_string(),
    }
}

/// A checked shape: no negative dimension, bounded rank and element count. Zeros are allowed.
pub(super) fn shape(dims: &[i64]) -> Result<Vec<usize>, TensorError> {
    let bad = || TensorError::Shape(dims.iter().copied().take(MAX_RANK).collect());
    if dims.len() > MAX_RANK {
        return Err(bad());
    }
    let shape: Vec<usize> = dims
        .iter()
        .map(|&dim| usize::try_from(dim))
        .collect::<Result<_, _>>()
        .map_err(|_| bad())?;
    let count = shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim.max(1)));
    if count.is_none_or(|count| count > MAX_ELEMENTS) {
        return Err(bad());
    }
    Ok(shape)
}

impl Tensor<'_> {
    /// Kind, shape and elements.
    pub(super) fn value(&self) -> Result<(Kind, Vec<usize>, Data), TensorError> {
        if self.external {
            return Err(TensorError::External);
        }
        let kind = kind(self.element)?;
        let shape = shape(&self.dims)?;
        let expected = shape.iter().product();
        let data = match self.raw {
            Some(raw) => self.raw_elements(raw, expected)?,
            None => self.typed_elements(expected)?,
        };
        if data.len() != expected {
            return Err(TensorError::Count { expected, found: data.len() });
        }
        if kind == Kind::Bool
            && data.ints().is_some_and(|values| values.iter().any(|&v| !(0..=1).contains(&v)))
        {
            return Err(TensorError::Wire(WireError::Type(9)));
        }
        Ok((kind, shape, data))
    }

    fn raw_elements(&self, raw: &[u8], expected: usize) -> Result<Data, TensorError> {
        let width = match self.element {
            2 | 3 | 9 => 1,
            4 | 5 | 10 | 16 => 2,
            1 | 6 | 12 => 4,
            _ => 8,
        };
        // Checked before anything is allocated.
        if expected.checked_mul(width) != Some(raw.len()) {
            return Err(TensorError::Count { expected, found: raw.len() / width });
        }
        Ok(match self.element {
            1 => floats(raw, f32::from_le_bytes),
            10 => floats(raw, |bytes| half(u16::from_le_bytes(bytes))),
            16 => floats(raw, |bytes| brain(u16::from_le_bytes(bytes))),
            11 => floats(raw, |bytes| narrow(f64::from_le_bytes(bytes))),
            2 | 9 => ints(raw, |[byte]: [u8; 1]| i64::from(byte)),
            3 => ints(raw, |bytes| i64::from(i8::from_le_bytes(bytes))),
            4 => ints(raw, |bytes| i64::from(u16::from_le_bytes(bytes))),
            5 => ints(raw, |bytes| i64::from(i16::from_le_bytes(bytes))),
            6 => ints(raw, |bytes| i64::from(i32::from_le_bytes(bytes))),
            12 => ints(raw, |bytes| i64::from(u32::from_le_bytes(bytes))),
            _ => ints(raw, i64::from_le_bytes),
        })
    }

    fn typed_elements(&self, expected: usize) -> Result<Data, TensorError> {
        // float_data 4, int32_data 5, int64_data 7, double_data 10, uint64_data 11.
        let number = match self.element {
            1 => 4,
            11 => 10,
            7 => 7,
            12 | 13 => 11,
            _ => 5,
        };
        let mut longs = Vec::new();
        let mut singles = Vec::new();
        let mut doubles = Vec::new();
        for field in &self.typed {
            if field.number != number {
                return Err(TensorError::Wire(WireError::Type(field.number)));
            }
            match number {
                4 => field.floats(&mut singles, expected)?,
                10 => field.doubles(&mut doubles, expected)?,
                _ => field.ints(&mut longs, expected)?,
            }
        }
        let bits = |value: i64| u16::try_from(value).map_err(|_| WireError::Type(5));
        Ok(match self.element {
            1 => Data::Float(singles.into()),
            11 => Data::Float(doubles.into_iter().map(narrow).collect()),
            10 => {
                Data::Float(longs.into_iter().map(|v| bits(v).map(half)).collect::<Result<_, _>>()?)
            }
            16 => Data::Float(
                longs.into_iter().map(|v| bits(v).map(brain)).collect::<Result<_, _>>()?,
            ),
            _ => Data::Int(longs.into()),
        })
    }
}

fn floats<const N: usize>(raw: &[u8], read: impl Fn([u8; N]) -> f32) -> Data {
    Data::Float(raw.as_chunks::<N>().0.iter().map(|&bytes| read(bytes)).collect())
}

fn ints<const N: usize>(raw: &[u8], read: impl Fn([u8; N]) -> i64) -> Data {
    let values: Arc<[i64]> = raw.as_chunks::<N>().0.iter().map(|&bytes| read(bytes)).collect();
    Data::Int(values)
}

/// The nearest `f32`; beyond its range, an infinity, which later checks refuse.
#[allow(clippy::cast_possible_truncation, reason = "rounding is what is meant")]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// bfloat16: the upper half of an `f32`.
fn brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// IEEE 754 binary16, exactly.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let fraction = f32::from(bits & 0x03ff);
    let exponent = i32::from((bits >> 10) & 0x1f);
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_exact() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(half(bits), value, "{bits:#x}");
        }
        assert!(half(0x7c00).is_infinite() && half(0x7c01).is_nan());
    }

    #[test]
    fn a_claimed_size_allocates_nothing() {
        // dims [2^27], float, no data.
        let bytes = [0x08, 0x80, 0x80, 0x80, 0x40, 0x10, 0x01];
        let error = tensor(&bytes).unwrap().value().unwrap_err();
        assert_eq!(error, TensorError::Count { expected: 1 << 27, found: 0 });
    }

    #[test]
    fn external_data_and_strange_types_are_refused() {
        let bytes = [0x08, 0x01, 0x10, 0x01, 0x70, 0x01];
        assert_eq!(tensor(&bytes).unwrap().value().unwrap_err(), TensorError::External);
        let bytes = [0x08, 0x01, 0x10, 0x08];
        assert!(matches!(tensor(&bytes).unwrap().value(), Err(TensorError::Element(_))));
        let negative = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x10, 1];
        assert!(matches!(tensor(&negative).unwrap().value(), Err(TensorError::Shape(_))));
    }
}
