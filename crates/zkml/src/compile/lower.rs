//! The state of a compilation: tensors made so far, and how operands are brought to a width or a scale.

use std::collections::HashMap;

use super::calibrate::Ranges;
use super::port::{float, log2_floor, power, round};
use super::{Calibration, CompileError, Precision};
use crate::model::Model;
use crate::onnx::{Data, Graph, Kind, Node, Op as FloatOp, TensorId};
use crate::qir::{Builder, NodeWeights, Op, ProgramError, Requant, TensorType, Weights};

/// Bits of operands of products and of operators that gain nothing from more.
pub(super) const MEDIUM: u32 = 30;
/// Bits of operands of sums.
pub(super) const WIDE: u32 = 44;
/// Bits of an input whose features differ widely in size.
const FEATURES: u32 = 32;
/// Bits of constants.
pub(super) const CONSTANT: u32 = 30;

/// A tensor of the program that stands for one of the graph.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) id: usize,
    pub(super) exponent: i8,
    /// A clamp that is still to be applied: the next requantisation does it for nothing.
    pub(super) clamp: Option<(i64, i64)>,
    /// The largest magnitude to expect, as a real number, headroom included; values beyond may saturate.
    pub(super) reach: f64,
}

/// An operand: made by the program, or known now.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Live(Value),
    Known { values: Vec<f64>, shape: Vec<u32>, integer: bool },
}

pub(super) struct Lower<'g> {
    pub(super) graph: &'g Graph,
    pub(super) builder: Builder,
    pub(super) weights: Vec<NodeWeights>,
    pub(super) precision: Precision,
    values: Vec<Option<Value>>,
    reach: Vec<f64>,
    /// Exponents of the features of inputs whose features differ widely in size, by tensor of the program.
    pub(super) features: HashMap<usize, Vec<i8>>,
    node: &'g str,
    op: String,
    made: HashMap<(Op, Vec<usize>, i8), usize>,
}

pub(super) fn lower(
    graph: &Graph,
    precision: Precision,
    calibration: Calibration<'_>,
    ranges: &Ranges,
) -> Result<Model, CompileError> {
    let mut lower = Lower {
        graph,
        builder: Builder::new(&truncate(&graph.name)),
        weights: Vec::new(),
        precision,
        values: vec![None; graph.tensors.len()],
        // Never zero: a scale is the logarithm of it.
        reach: ranges.tensors.iter().map(|r| (r * precision.headroom()).max(power(-20))).collect(),
        features: HashMap::new(),
        node: "inputs",
        op: "input".to_owned(),
        made: HashMap::new(),
    };
    lower.inputs(calibration, ranges)?;
    for node in &graph.nodes {
        lower.node = &node.name;
        lower.op = operator_name(&node.op);
        let value = lower.lower_node(node)?;
        lower.set(node.output, value)?;
    }
    lower.node = "outputs";
    lower.op = "output".to_owned();
    for (i, &id) in graph.outputs.iter().enumerate() {
        let operand = lower.operand(id)?;
        let value = lower.live(operand)?;
        let value = lower.materialise(value)?;
        let name = graph.tensor(id).map_or_else(|| format!("output {i}"), |t| truncate(&t.name));
        let error = |source| CompileError::Program { node: name.clone(), source };
        lower.builder.output(&name, value.id).map_err(error)?;
    }
    let error = |source| CompileError::Program { node: "outputs".to_owned(), source };
    let program = lower.builder.finish().map_err(error)?;
    let weights = Weights::new(&program, lower.weights)
        .map_err(|e| CompileError::Model(crate::model::ModelError::Weights(e.into())))?;
    Ok(Model::new(program, weights)?)
}

/// At most as long as the format allows, cut at a character.
fn truncate(name: &str) -> String {
    let mut end = name.len().min(crate::qir::MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

/// The variant's name.
fn operator_name(op: &FloatOp) -> String {
    let debug = match op {
        FloatOp::Dense(_) => "Dense".to_owned(),
        FloatOp::Conv(_) => "Conv".to_owned(),
        op => format!("{op:?}"),
    };
    debug.split([' ', '{']).next().unwrap_or_default().to_owned()
}

impl<'g> Lower<'g> {
    fn inputs(
        &mut self,
        calibration: Calibration<'_>,
        ranges: &Ranges,
    ) -> Result<(), CompileError> {
        for (&id, features) in self.graph.inputs.iter().zip(&ranges.features) {
            let tensor =
                self.graph.tensor(id).ok_or_else(|| self.unsupported("an input is missing"))?;
            let shape = self.shape_of(id)?;
            let observed = ranges.tensors.get(id).copied().unwrap_or(0.0).max(power(-20));
            let exponents = if tensor.kind == Kind::Float {
                self.feature_exponents(id, features.as_deref(), observed)?
            } else {
                None
            };
            let (lo, hi, exponent, reach) = match (tensor.kind, calibration) {
                (Kind::Bool, _) => (0, 1, 0, 1.0),
                (Kind::Int, Calibration::Range { lo, hi }) => {
                    let ends = (round(f64::from(lo).ceil()), round(f64::from(hi).floor()));
                    let (Some(lo), Some(hi)) = ends else {
                        return Err(self.unsupported("the stated range is too large"));
                    };
                    (lo, hi.max(lo), 0, observed)
                }
                (Kind::Int, Calibration::Inputs(_)) => {
                    (i32::MIN.into(), i32::MAX.into(), 0, observed)
                }
                (Kind::Float, calibration) => {
                    let stated = matches!(calibration, Calibration::Range { .. });
                    let reach =
                        if stated { observed } else { observed * self.precision.headroom() };
                    let bits = if exponents.is_some() { FEATURES } else { self.precision.bits() };
                    let limit = (1i64 << (bits - 1)) - 1;
                    (-limit, limit, self.exponent_for(reach, bits)?, reach)
                }
            };
            let name = truncate(&tensor.name);
            let error = |source| CompileError::Program { node: name.clone(), source };
            let id_in_program =
                self.builder.input(&name, &shape, lo, hi, exponent).map_err(error)?;
            if let Some(exponents) = exponents {
                self.features.insert(id_in_program, exponents);
            }
            self.set(id, Value { id: id_in_program, exponent, clamp: None, reach })?;
        }
        Ok(())
    }

    fn set(&mut self, id: TensorId, value: Value) -> Result<(), CompileError> {
        match self.values.get_mut(id) {
            Some(slot) => *slot = Some(value),
            None => return Err(self.unsupported("its output is missing")),
        }
        Ok(())
    }

    fn lower_node(&mut self, node: &Node) -> Result<Value, CompileError> {
        let mut operands = Vec::with_capacity(node.inputs.len());
        for &id in &node.inputs {
            operands.push(self.operand(id)?);
        }
        let out = self.shape_of(node.output)?;
        let reach = self.reach.get(node.output).copied().unwrap_or(1.0);
        let mut value = match (&node.op, operands.as_slice()) {
            (FloatOp::Dense(dense), [x]) => self.dense(dense, x, reach)?,
            (FloatOp::Conv(conv), [x]) => self.conv(conv, x, &out, reach)?,
            (FloatOp::MatMul, [a, b]) => self.matmul(a, b, &out)?,
            (FloatOp::Binary(binary), [a, b]) => {
                self.binary(*binary, a, b, reach, self.is_integer(node.output))?
            }
            (FloatOp::Unary(unary), [x]) => {
                let x = self.live(x.clone())?;
                self.unary(*unary, x, reach)?
            }
            (FloatOp::Clip { min, max }, [x]) => {
                let x = self.live(x.clone())?;
                self.clip(&x, min.map(f64::from), max.map(f64::from))?
            }
            (FloatOp::Pool { kind, window }, [x]) => self.pool(*kind, window, x, &out)?,
            (FloatOp::Reduce { kind, axes }, [x]) => self.reduce(*kind, axes, x, &out)?,
            (FloatOp::ArgExtreme { max, axis, last }, [x]) => {
                self.arg_extreme(*max, *axis, *last, x, &out)?
            }
            (FloatOp::Softmax { axis }, [x]) => self.softmax(*axis, x)?,
            (FloatOp::LogSoftmax { axis }, [x]) => self.log_softmax(*axis, x)?,
            (FloatOp::Normalize { axis, epsilon }, [x]) => {
                self.normalize(*axis, f64::from(*epsilon), x)?
            }
            (FloatOp::Where, [condition, a, b]) => self.select(condition, a, b)?,
            (FloatOp::Convert, [x]) => {
                let x = self.live(x.clone())?;
                let kinds =
                    (self.kind_of(*node.inputs.first().unwrap_or(&0)), self.kind_of(node.output));
                self.convert(x, kinds)?
            }
            (FloatOp::Concat { axis }, operands) => self.concat(*axis, operands)?,
            (FloatOp::Gather { axis }, [x, indices]) => self.gather(*axis, x, indices, &out)?,
            (op, [x]) => self.rearrange(op, x, &out)?,
            _ => return Err(self.unsupported("not supported with these operands")),
        };
        if self.builder.ty(value.id).is_some_and(|ty| ty.shape != out) {
            value.id =
                self.push(Op::Move(crate::qir::Move::Reshape(out)), &[value.id], value.exponent)?;
        }
        value.reach = reach;
        Ok(value)
    }

    fn kind_of(&self, id: TensorId) -> Kind {
        self.graph.tensor(id).map_or(Kind::Float, |t| t.kind)
    }

    pub(super) fn is_integer(&self, id: TensorId) -> bool {
        self.kind_of(id) != Kind::Float
    }

    fn shape_of(&self, id: TensorId) -> Result<Vec<u32>, CompileError> {
        let tensor =
            self.graph.tensor(id).ok_or_else(|| self.unsupported("a tensor is missing"))?;
        self.sizes(&tensor.shape)
    }

    /// Sizes as the program holds them.
    pub(super) fn sizes(&self, shape: &[usize]) -> Result<Vec<u32>, CompileError> {
        shape
            .iter()
            .map(|&d| u32::try_from(d).map_err(|_| self.unsupported("a dimension is too large")))
            .collect()
    }

    pub(super) fn unsupported(&self, reason: impl Into<String>) -> CompileError {
        CompileError::Unsupported {
            node: self.node.to_owned(),
            op: self.op.clone(),
            reason: reason.into(),
        }
    }

    fn operand(&self, id: TensorId) -> Result<Operand, CompileError> {
        if let Some(Some(value)) = self.values.get(id) {
            return Ok(Operand::Live(value.clone()));
        }
        let tensor =
            self.graph.tensor(id).ok_or_else(|| self.unsupported("an operand is missing"))?;
        let shape = self.shape_of(id)?;
        match &tensor.constant {
            Some(Data::Float(values)) => {
                if values.iter().any(|v| !v.is_finite()) {
                    return Err(
                        self.unsupported(format!("the constant `{}` is not finite", tensor.name))
                    );
                }
                Ok(Operand::Known {
                    values: values.iter().map(|&v| v.into()).collect(),
                    shape,
                    integer: false,
                })
            }
            Some(Data::Int(values)) => Ok(Operand::Known {
                values: values.iter().map(|&v| float(v)).collect(),
                shape,
                integer: true,
            }),
            None => {
                Err(self
                    .unsupported(format!("the operand `{}` is not made by anything", tensor.name)))
            }
        }
    }

    /// Adds a node, or finds the one that computes the same.
    pub(super) fn push(
        &mut self,
        op: Op,
        inputs: &[usize],
        exponent: i8,
    ) -> Result<usize, CompileError> {
        let error = |source: ProgramError, node: &str| CompileError::Program {
            node: node.to_owned(),
            source,
        };
        if matches!(op, Op::Linear(_)) {
            return self.builder.push(op, inputs, exponent).map_err(|e| error(e, self.node));
        }
        let key = (op, inputs.to_vec(), exponent);
        if let Some(&id) = self.made.get(&key) {
            return Ok(id);
        }
        let id =
            self.builder.push(key.0.clone(), inputs, exponent).map_err(|e| error(e, self.node))?;
        self.made.insert(key, id);
        Ok(id)
    }

    pub(super) fn ty(&self, value: &Value) -> Result<&TensorType, CompileError> {
        self.builder.ty(value.id).ok_or_else(|| self.unsupported("a tensor is missing"))
    }

    /// The largest magnitude that is possible, pending clamp included.
    pub(super) fn magnitude(&self, value: &Value) -> Result<u64, CompileError> {
        let ty = self.ty(value)?;
        let (lo, hi) = value.clamp.unwrap_or((i64::MIN, i64::MAX));
        Ok(ty.lo.clamp(lo, hi).unsigned_abs().max(ty.hi.clamp(lo, hi).unsigned_abs()))
    }

    /// A value whose reach is what is possible.
    pub(super) fn value(&self, id: usize, exponent: i8) -> Result<Value, CompileError> {
        let mut value = Value { id, exponent, clamp: None, reach: 0.0 };
        value.reach = float(i64::try_from(self.magnitude(&value)?).unwrap_or(i64::MAX))
            * power(-i32::from(exponent));
        Ok(value)
    }

    /// The largest exponent at which magnitudes up to `reach` fit `bits` bits.
    pub(super) fn exponent_for(&self, reach: f64, bits: u32) -> Result<i8, CompileError> {
        if !reach.is_finite() {
            return Err(self.unsupported("values are not finite"));
        }
        let limit = power(i32::try_from(bits).unwrap_or(0) - 1) - 1.0;
        let exponent = log2_floor(limit / reach.max(power(-60)));
        i8::try_from(exponent.min(40))
            .ok()
            .filter(|e| *e >= -40)
            .ok_or_else(|| self.unsupported(format!("values reach {reach}, which has no scale")))
    }

    /// A constant at a scale.
    pub(super) fn constant(
        &mut self,
        values: &[f64],
        shape: &[u32],
        exponent: i8,
    ) -> Result<Value, CompileError> {
        let scale = power(exponent.into());
        let integers: Option<Vec<i64>> = values.iter().map(|v| round(v * scale)).collect();
        let integers = integers.ok_or_else(|| self.unsupported("a constant does not fit"))?;
        let id =
            self.push(Op::Constant { shape: shape.to_vec(), values: integers }, &[], exponent)?;
        self.value(id, exponent)
    }

    /// The exponent at which a constant is held: exact for integers, else as fine as 30 bits allow.
    pub(super) fn constant_exponent(
        &self,
        values: &[f64],
        integer: bool,
    ) -> Result<i8, CompileError> {
        let largest = values.iter().fold(0f64, |m, v| m.max(v.abs()));
        let whole = integer || values.iter().all(|v| v.fract() == 0.0);
        if whole && largest < power(31) { Ok(0) } else { self.exponent_for(largest, CONSTANT) }
    }

    /// An operand as a tensor of the program.
    pub(super) fn live(&mut self, operand: Operand) -> Result<Value, CompileError> {
        match operand {
            Operand::Live(value) => Ok(value),
            Operand::Known { values, shape, integer } => {
                let exponent = self.constant_exponent(&values, integer)?;
                self.constant(&values, &shape, exponent)
            }
        }
    }

    /// Applies a pending clamp.
    pub(super) fn materialise(&mut self, value: Value) -> Result<Value, CompileError> {
        let Some((lo, hi)) = value.clamp else { return Ok(value) };
        let ty = self.ty(&value)?;
        if lo <= ty.lo && ty.hi <= hi {
            return Ok(Value { clamp: None, ..value });
        }
        let id = self.push(Op::Requant(Requant::shift(0, lo, hi)), &[value.id], value.exponent)?;
        Ok(Value { id, clamp: None, ..value })
    }

    /// The value in at most `bits` bits: as it is when that is proven, else requantised so that its reach fits, and saturated beyond.
    pub(super) fn fit(&mut self, value: &Value, bits: u32) -> Result<Value, CompileError> {
        let limit = (1i64 << (bits - 1)) - 1;
        if self.magnitude(value)? <= limit.unsigned_abs() {
            return self.materialise(value.clone());
        }
        let exponent = self.exponent_for(value.reach, bits)?.min(value.exponent);
        self.requantise(value, exponent, limit)
    }

    /// The value at a smaller or equal exponent.
    pub(super) fn at_exponent(
        &mut self,
        value: &Value,
        exponent: i8,
    ) -> Result<Value, CompileError> {
        if exponent == value.exponent {
            self.materialise(value.clone())
        } else {
            self.requantise(value, exponent, (1 << 61) - 1)
        }
    }

    fn requantise(
        &mut self,
        value: &Value,
        exponent: i8,
        limit: i64,
    ) -> Result<Value, CompileError> {
        let shift =
            u8::try_from(i16::from(value.exponent) - i16::from(exponent)).ok().filter(|s| *s <= 60);
        let shift = shift.ok_or_else(|| {
            self.unsupported(format!(
                "scales 2^-{} and 2^-{exponent} are too far apart",
                value.exponent
            ))
        })?;
        let moved = |bound: i64| Requant::shift(shift, -limit, limit).apply(bound, 1);
        let (lo, hi) = value.clamp.map_or((-limit, limit), |(lo, hi)| {
            (moved(lo.max(-(1 << 61))), moved(hi.min(1 << 61)))
        });
        let id = self.push(Op::Requant(Requant::shift(shift, lo, hi)), &[value.id], exponent)?;
        Ok(Value { id, exponent, clamp: None, reach: value.reach })
    }

    /// Operands brought to one scale: the finest at which all fit. Returns tensors and the power of two each is still to be multiplied with.
    pub(super) fn align(
        &mut self,
        operands: &[Operand],
    ) -> Result<(Vec<Value>, Vec<i64>, i8), CompileError> {
        let mut parts = Vec::with_capacity(operands.len());
        for operand in operands {
            parts.push(match operand {
                Operand::Live(value) => {
                    let value = self.fit(value, WIDE)?;
                    (
                        value.exponent,
                        float(i64::try_from(self.magnitude(&value)?).unwrap_or(i64::MAX))
                            * power(-i32::from(value.exponent)),
                        Some(value),
                    )
                }
                Operand::Known { values, integer, .. } => (
                    self.constant_exponent(values, *integer)?,
                    values.iter().fold(0f64, |m, v| m.max(v.abs())),
                    None,
                ),
            });
        }
        let mut exponent = parts.iter().map(|p| p.0).max().unwrap_or(0);
        while exponent > -40
            && parts.iter().any(|(_, magnitude, _)| magnitude * power(exponent.into()) >= power(58))
        {
            exponent -= 1;
        }
        let mut values = Vec::with_capacity(parts.len());
        let mut factors = Vec::with_capacity(parts.len());
        for ((own, _, value), operand) in parts.into_iter().zip(operands) {
            match (value, operand) {
                (Some(value), _) => {
                    let value = self.at_exponent(&value, own.min(exponent))?;
                    factors.push(
                        1i64 << (i16::from(exponent) - i16::from(value.exponent)).clamp(0, 60),
                    );
                    values.push(value);
                }
                (None, Operand::Known { values: known, shape, .. }) => {
                    values.push(self.constant(known, shape, exponent)?);
                    factors.push(1);
                }
                (None, Operand::Live(_)) => return Err(self.unsupported("an operand is missing")),
            }
        }
        Ok((values, factors, exponent))
    }

    /// As [`Lower::align`], with the multiplications done.
    pub(super) fn aligned(
        &mut self,
        operands: &[Operand],
    ) -> Result<(Vec<usize>, i8), CompileError> {
        let (values, factors, exponent) = self.align(operands)?;
        let mut ids = Vec::with_capacity(values.len());
        for (value, factor) in values.into_iter().zip(factors) {
            ids.push(if factor == 1 {
                value.id
            } else {
                self.push(Op::Sum { coefficients: vec![factor] }, &[value.id], exponent)?
            });
        }
        Ok((ids, exponent))
    }

    /// `Σ sign_i · operand_i`.
    pub(super) fn sum(
        &mut self,
        operands: &[Operand],
        signs: &[i64],
    ) -> Result<Value, CompileError> {
        let (values, factors, exponent) = self.align(operands)?;
        let coefficients = factors.iter().zip(signs).map(|(f, s)| f * s).collect();
        let ids: Vec<usize> = values.iter().map(|v| v.id).collect();
        let id = self.push(Op::Sum { coefficients }, &ids, exponent)?;
        let reach = values.iter().map(|v| v.reach).sum();
        self.tightened(id, exponent, reach)
    }

    /// A value that is expected to reach `reach`, unless even less is possible.
    fn tightened(&self, id: usize, exponent: i8, reach: f64) -> Result<Value, CompileError> {
        let value = self.value(id, exponent)?;
        Ok(Value { reach: value.reach.min(reach).max(power(-40)), ..value })
    }

    /// The product of two operands.
    pub(super) fn product(&mut self, a: &Operand, b: &Operand) -> Result<Value, CompileError> {
        let (a, b) = (self.factor(a)?, self.factor(b)?);
        // Scales add up, and stay within what an exponent can say.
        let over = i16::from(a.exponent) + i16::from(b.exponent) - 60;
        let a = if over > 0 {
            self.at_exponent(&a, i8::try_from(i16::from(a.exponent) - over).unwrap_or(0))?
        } else {
            a
        };
        let exponent = a.exponent + b.exponent;
        let id = self.push(Op::Product, &[a.id, b.id], exponent)?;
        self.tightened(id, exponent, a.reach * b.reach)
    }

    fn factor(&mut self, operand: &Operand) -> Result<Value, CompileError> {
        match operand {
            Operand::Live(value) => self.fit(value, MEDIUM),
            known @ Operand::Known { .. } => self.live(known.clone()),
        }
    }

    /// The product with a real constant.
    pub(super) fn scaled(&mut self, value: Value, by: f64) -> Result<Value, CompileError> {
        if by > 0.0 && by == power(log2_floor(by)) {
            // A power of two: the same integers at another scale.
            let shifted = i8::try_from(i32::from(value.exponent) - log2_floor(by))
                .ok()
                .filter(|e| (-60..=60).contains(e));
            if let Some(exponent) = shifted {
                let value = self.materialise(value)?;
                let id = self.push(Op::Sum { coefficients: vec![1] }, &[value.id], exponent)?;
                return Ok(Value { id, exponent, clamp: None, reach: value.reach * by });
            }
        }
        let reach = value.reach * by.abs();
        let known = scalar(by);
        Ok(Value { reach, ..self.product(&Operand::Live(value), &known)? })
    }

    /// The sum with a real constant.
    pub(super) fn offset(&mut self, value: Value, by: f64) -> Result<Value, CompileError> {
        if by == 0.0 {
            return Ok(value);
        }
        let reach = value.reach + by.abs();
        Ok(Value { reach, ..self.sum(&[Operand::Live(value), scalar(by)], &[1, 1])? })
    }
}

/// A constant that broadcasts to everything.
pub(super) fn scalar(v: f64) -> Operand {
    Operand::Known { values: vec![v], shape: Vec::new(), integer: false }
}
