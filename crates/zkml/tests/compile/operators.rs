//! Every operator of the float graph: compiled on a few inputs, compared with the float executor on others.

use std::sync::Arc;

use og_zkml::compile::{Calibration, Precision, compile, dequantise, quantise};
use og_zkml::execute::execute;
use og_zkml::onnx::{
    Binary, Conv, Data, Dense, Graph, Kind, Node, Op, PadMode, PoolKind, ReduceKind, Tensor, Unary,
    Window,
};
use og_zkml::reference::{Value, outputs};

struct Random(u64);

impl Random {
    fn unit(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    fn floats(&mut self, n: usize, lo: f32, hi: f32) -> Vec<f32> {
        (0..n).map(|_| lo + (hi - lo) * self.unit()).collect()
    }
}

/// What one operator reads: live inputs with their range, or constants.
enum Given {
    Live(&'static [usize], f32, f32),
    Ints(&'static [usize], i64, i64),
    Known(&'static [usize], &'static [f32]),
    Indices(&'static [usize], &'static [i64]),
}

use Given::{Indices, Ints, Known, Live};

fn check(name: &str, op: Op, given: &[Given], out: &[usize], kind: Kind, tolerance: f64) {
    let mut graph = Graph { name: name.to_owned(), opset: 18, ..Graph::default() };
    let mut inputs = Vec::new();
    for (i, given) in given.iter().enumerate() {
        let (shape, kind, constant) = match given {
            Live(shape, ..) => (*shape, Kind::Float, None),
            Ints(shape, ..) => (*shape, Kind::Int, None),
            Known(shape, v) => (*shape, Kind::Float, Some(Data::Float(v.to_vec().into()))),
            Indices(shape, v) => (*shape, Kind::Int, Some(Data::Int(v.to_vec().into()))),
        };
        if constant.is_none() {
            graph.inputs.push(i);
        }
        graph.tensors.push(Tensor { name: format!("x{i}"), kind, shape: shape.to_vec(), constant });
        inputs.push(i);
    }
    let output = graph.tensors.len();
    graph.tensors.push(Tensor { name: "y".to_owned(), kind, shape: out.to_vec(), constant: None });
    graph.nodes.push(Node { name: format!("the {name}"), op, inputs, output });
    graph.outputs.push(output);

    let mut r = Random(name.len() as u64);
    let mut draw = || -> Vec<Value> {
        given
            .iter()
            .filter_map(|given| match given {
                Live(shape, lo, hi) => {
                    Some(Value::floats(shape, r.floats(shape.iter().product(), *lo, *hi)))
                }
                Ints(shape, lo, hi) => {
                    let n = shape.iter().product();
                    let span = (hi - lo + 1) as f32;
                    Some(Value::ints(
                        shape,
                        r.floats(n, 0.0, span)
                            .iter()
                            .map(|v| lo + (*v as i64).min(hi - lo))
                            .collect::<Vec<_>>(),
                    ))
                }
                _ => None,
            })
            .collect()
    };
    let calibration: Vec<Vec<Value>> = (0..8).map(|_| draw()).collect();
    let model = compile(&graph, Precision::W16A16, Calibration::Inputs(&calibration))
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    let program = model.program();
    for _ in 0..24 {
        let inputs = draw();
        let integers: Vec<_> = inputs
            .iter()
            .zip(program.inputs())
            .map(|(value, port)| {
                let reals: Vec<f64> = match &value.data {
                    Data::Float(v) => v.iter().map(|&v| v.into()).collect(),
                    Data::Int(v) => v.iter().map(|&v| v as f64).collect(),
                };
                quantise(port, &reals).unwrap()
            })
            .collect();
        // The float executor sees what the integers mean, so that rounding the inputs is not counted.
        let rounded: Vec<Value> = integers
            .iter()
            .zip(program.inputs())
            .zip(&inputs)
            .map(|((t, port), value)| {
                let reals = dequantise(&port.ty, &t.values);
                match value.kind {
                    Kind::Float => Value::floats(
                        &value.shape,
                        reals.iter().map(|&v| v as f32).collect::<Vec<_>>(),
                    ),
                    _ => value.clone(),
                }
            })
            .collect();
        let expected: Vec<f64> = match &outputs(&graph, &rounded).unwrap()[0].data {
            Data::Float(v) => v.iter().map(|&v| v.into()).collect(),
            Data::Int(v) => v.iter().map(|&v| v as f64).collect(),
        };
        let outcome = execute(program, &integers, &mut model.weights()).unwrap();
        assert_eq!(
            outcome.outputs[0].shape,
            out.iter().map(|&d| d as u32).collect::<Vec<_>>(),
            "{name}"
        );
        let got =
            dequantise(&program.tensors()[program.outputs()[0].tensor], &outcome.outputs[0].values);
        for (i, (a, b)) in got.iter().zip(&expected).enumerate() {
            assert!(
                (a - b).abs() <= tolerance * b.abs().max(1.0),
                "{name}: element {i} is {a}, should be {b}"
            );
        }
    }
}

fn unary(name: &str, op: Unary, lo: f32, hi: f32, tolerance: f64) {
    check(name, Op::Unary(op), &[Live(&[2, 3, 5], lo, hi)], &[2, 3, 5], Kind::Float, tolerance);
}

#[test]
fn functions_of_one_number() {
    for (name, op, lo, hi) in [
        ("abs", Unary::Abs, -4.0, 3.0),
        ("neg", Unary::Neg, -4.0, 3.0),
        ("sign", Unary::Sign, -4.0, 3.0),
        ("floor", Unary::Floor, -4.0, 3.0),
        ("ceil", Unary::Ceil, -4.0, 3.0),
        ("round", Unary::Round, -4.0, 3.0),
        ("reciprocal", Unary::Reciprocal, 0.3, 3.0),
        ("reciprocal", Unary::Reciprocal, -3.0, -0.3),
        ("sqrt", Unary::Sqrt, 0.01, 90.0),
        ("exp", Unary::Exp, -8.0, 3.0),
        ("log", Unary::Log, 0.1, 50.0),
        ("sin", Unary::Sin, -20.0, 20.0),
        ("cos", Unary::Cos, -20.0, 20.0),
        ("tanh", Unary::Tanh, -5.0, 5.0),
        ("erf", Unary::Erf, -4.0, 4.0),
        ("sigmoid", Unary::Sigmoid, -9.0, 9.0),
        ("silu", Unary::Swish { alpha: 1.0 }, -9.0, 9.0),
        ("swish", Unary::Swish { alpha: 1.7 }, -9.0, 9.0),
        ("gelu", Unary::Gelu, -6.0, 6.0),
        ("gelu tanh", Unary::GeluTanh, -6.0, 6.0),
        ("hard sigmoid", Unary::HardSigmoid { alpha: 0.2, beta: 0.5 }, -6.0, 6.0),
        ("hard swish", Unary::HardSwish, -6.0, 6.0),
        ("leaky relu", Unary::LeakyRelu { alpha: 0.01 }, -6.0, 6.0),
        ("leaky relu", Unary::LeakyRelu { alpha: 1.5 }, -6.0, 6.0),
        ("elu", Unary::Elu { alpha: 1.3 }, -6.0, 6.0),
        ("selu", Unary::Selu { alpha: 1.673, gamma: 1.051 }, -6.0, 6.0),
        ("celu", Unary::Celu { alpha: 2.0 }, -6.0, 6.0),
        ("softplus", Unary::Softplus, -6.0, 6.0),
        ("softsign", Unary::Softsign, -6.0, 6.0),
        ("mish", Unary::Mish, -6.0, 6.0),
        ("thresholded relu", Unary::ThresholdedRelu { alpha: 0.7 }, -6.0, 6.0),
    ] {
        unary(name, op, lo, hi, 2e-5);
    }
    // Operands of other sizes.
    unary("tanh of thousands", Unary::Tanh, -3000.0, 3000.0, 2e-5);
    unary("sigmoid of thousandths", Unary::Sigmoid, -0.001, 0.002, 2e-5);
    unary("exp far below", Unary::Exp, -60.0, -20.0, 2e-5);
}

#[test]
fn operators_on_two_numbers() {
    let a = || Live(&[2, 1, 4], -3.0, 5.0);
    let b = || Live(&[3, 1], -2.0, 2.0);
    let positive = || Live(&[3, 1], 0.4, 2.0);
    let known = || Known(&[4], &[0.25, -1.5, 3.0, 0.001]);
    for (name, op) in [
        ("add", Binary::Add),
        ("sub", Binary::Sub),
        ("mul", Binary::Mul),
        ("max", Binary::Max),
        ("min", Binary::Min),
    ] {
        check(name, Op::Binary(op), &[a(), b()], &[2, 3, 4], Kind::Float, 1e-5);
        check(name, Op::Binary(op), &[a(), known()], &[2, 1, 4], Kind::Float, 1e-5);
        check(name, Op::Binary(op), &[known(), a()], &[2, 1, 4], Kind::Float, 1e-5);
        check(name, Op::Binary(op), &[a(), Known(&[], &[1.25])], &[2, 1, 4], Kind::Float, 1e-5);
        check(
            name,
            Op::Binary(op),
            &[Ints(&[3], -5, 9), Ints(&[2, 1], -2, 2)],
            &[2, 3],
            Kind::Int,
            0.0,
        );
    }
    for (name, op) in [("div", Binary::Div), ("mod", Binary::Mod), ("fmod", Binary::Fmod)] {
        let divisor = || Indices(&[2, 1], &[-3, 4]);
        check(name, Op::Binary(op), &[Ints(&[40], -20, 20), divisor()], &[2, 40], Kind::Int, 0.0);
        check(name, Op::Binary(op), &[divisor(), Ints(&[5], 1, 7)], &[2, 5], Kind::Int, 0.0);
    }
    check("div", Op::Binary(Binary::Div), &[a(), positive()], &[2, 3, 4], Kind::Float, 2e-5);
    check("div by known", Op::Binary(Binary::Div), &[a(), known()], &[2, 1, 4], Kind::Float, 1e-5);
    check(
        "div of known",
        Op::Binary(Binary::Div),
        &[Known(&[], &[2.5]), positive()],
        &[3, 1],
        Kind::Float,
        2e-5,
    );
    for power in [&[2.0f32][..], &[3.0], &[4.0], &[0.5], &[-0.5], &[-1.0], &[1.0], &[1.7]] {
        let power: &'static [f32] = Box::leak(power.to_vec().into_boxed_slice());
        // A real power needs an operand that is positive by proof, which an input is not.
        if power[0] != 1.7 {
            check(
                "pow",
                Op::Binary(Binary::Pow),
                &[positive(), Known(&[], power)],
                &[3, 1],
                Kind::Float,
                5e-5,
            );
        }
    }
    for (name, op) in [
        ("equal", Binary::Equal),
        ("less", Binary::Less),
        ("less or equal", Binary::LessOrEqual),
        ("greater", Binary::Greater),
        ("greater or equal", Binary::GreaterOrEqual),
    ] {
        check(
            name,
            Op::Binary(op),
            &[Ints(&[3], -2, 2), Ints(&[4, 1], -2, 2)],
            &[4, 3],
            Kind::Bool,
            0.0,
        );
        check(name, Op::Binary(op), &[a(), b()], &[2, 3, 4], Kind::Bool, 0.0);
    }
}

fn window(
    kernel: &[usize],
    strides: &[usize],
    dilations: &[usize],
    before: &[usize],
    after: &[usize],
) -> Window {
    Window {
        kernel: kernel.to_vec(),
        strides: strides.to_vec(),
        dilations: dilations.to_vec(),
        before: before.to_vec(),
        after: after.to_vec(),
    }
}

#[test]
fn layers() {
    let mut r = Random(5);
    let mut weights = |n: usize| -> Arc<[f32]> { r.floats(n, -0.7, 0.7).into() };
    let dense = |outputs, inputs, bias: bool, w: &mut dyn FnMut(usize) -> Arc<[f32]>| Dense {
        outputs,
        inputs,
        weights: w(outputs * inputs),
        bias: bias.then(|| w(outputs)),
    };
    check(
        "dense",
        Op::Dense(dense(5, 7, true, &mut weights)),
        &[Live(&[2, 3, 7], -1.0, 1.0)],
        &[2, 3, 5],
        Kind::Float,
        2e-4,
    );
    check(
        "dense",
        Op::Dense(dense(1, 1, false, &mut weights)),
        &[Live(&[1], -1.0, 1.0)],
        &[1],
        Kind::Float,
        2e-4,
    );
    let mut conv = |outputs, inputs, groups, window: Window, bias: bool| {
        let cells: usize = window.kernel.iter().product();
        let bias = bias.then(|| weights(outputs));
        Op::Conv(Conv {
            outputs,
            inputs,
            groups,
            weights: weights(outputs * inputs / groups * cells),
            bias,
            window,
        })
    };
    let one = window(&[3], &[2], &[1], &[1], &[1]);
    check(
        "conv 1d",
        conv(4, 2, 1, one, true),
        &[Live(&[2, 2, 9], -1.0, 1.0)],
        &[2, 4, 5],
        Kind::Float,
        2e-4,
    );
    let two = window(&[3, 2], &[1, 2], &[2, 1], &[1, 0], &[2, 1]);
    check(
        "conv 2d",
        conv(6, 4, 2, two.clone(), true),
        &[Live(&[1, 4, 7, 6], -1.0, 1.0)],
        &[1, 6, 6, 3],
        Kind::Float,
        2e-4,
    );
    check(
        "depthwise",
        conv(4, 4, 4, two, false),
        &[Live(&[2, 4, 7, 6], -1.0, 1.0)],
        &[2, 4, 6, 3],
        Kind::Float,
        2e-4,
    );
    let three = window(&[2, 1, 2], &[1, 1, 1], &[1, 1, 1], &[0, 0, 0], &[0, 0, 0]);
    check(
        "conv 3d",
        conv(2, 2, 1, three, true),
        &[Live(&[1, 2, 3, 2, 3], -1.0, 1.0)],
        &[1, 2, 2, 2, 2],
        Kind::Float,
        2e-4,
    );
    check(
        "matmul",
        Op::MatMul,
        &[Live(&[2, 1, 3, 4], -1.0, 1.0), Live(&[3, 4, 2], -2.0, 2.0)],
        &[2, 3, 3, 2],
        Kind::Float,
        2e-4,
    );
    check(
        "matmul by known",
        Op::MatMul,
        &[Known(&[2, 3], &[1.0, -0.5, 0.25, 2.0, 0.125, -3.0]), Live(&[3, 4], -2.0, 2.0)],
        &[2, 4],
        Kind::Float,
        2e-4,
    );
}

#[test]
fn pools_and_reductions() {
    let x = || Live(&[2, 3, 6, 5], -3.0, 4.0);
    let ceil = window(&[3, 2], &[2, 2], &[1, 1], &[1, 0], &[1, 1]);
    for (name, kind) in [
        ("max pool", PoolKind::Max),
        ("average pool", PoolKind::Average { include_pad: false }),
        ("average pool with padding", PoolKind::Average { include_pad: true }),
    ] {
        check(
            name,
            Op::Pool { kind, window: ceil.clone() },
            &[x()],
            &[2, 3, 3, 3],
            Kind::Float,
            1e-5,
        );
        check(
            name,
            Op::Pool { kind, window: window(&[2, 2], &[2, 2], &[1, 1], &[0, 0], &[0, 0]) },
            &[x()],
            &[2, 3, 3, 2],
            Kind::Float,
            1e-5,
        );
        check(
            name,
            Op::Pool { kind, window: window(&[6, 5], &[1, 1], &[1, 1], &[0, 0], &[0, 0]) },
            &[x()],
            &[2, 3, 1, 1],
            Kind::Float,
            1e-5,
        );
    }
    check(
        "dilated max pool",
        Op::Pool {
            kind: PoolKind::Max,
            window: window(&[2, 2], &[1, 1], &[2, 2], &[0, 0], &[0, 0]),
        },
        &[x()],
        &[2, 3, 4, 3],
        Kind::Float,
        1e-5,
    );
    for kind in [ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max, ReduceKind::Min] {
        check("reduce", Op::Reduce { kind, axes: vec![1, 3] }, &[x()], &[2, 6], Kind::Float, 1e-5);
        check(
            "reduce",
            Op::Reduce { kind, axes: vec![2] },
            &[x()],
            &[2, 3, 1, 5],
            Kind::Float,
            1e-5,
        );
        check(
            "reduce",
            Op::Reduce { kind, axes: vec![0, 1, 2, 3] },
            &[x()],
            &[],
            Kind::Float,
            1e-5,
        );
    }
    check(
        "product",
        Op::Reduce { kind: ReduceKind::Product, axes: vec![1, 2] },
        &[Live(&[2, 3, 4], -1.5, 1.5)],
        &[2],
        Kind::Float,
        1e-4,
    );
    for (max, last) in [(true, false), (false, true)] {
        check("arg", Op::ArgExtreme { max, axis: 1, last }, &[x()], &[2, 6, 5], Kind::Int, 0.0);
        check(
            "arg",
            Op::ArgExtreme { max, axis: 3, last },
            &[Ints(&[2, 3, 6, 5], 0, 2)],
            &[2, 3, 6, 1],
            Kind::Int,
            0.0,
        );
    }
}

#[test]
fn normalisations() {
    let x = || Live(&[2, 4, 6], -5.0, 4.0);
    for axis in 0..3 {
        check("softmax", Op::Softmax { axis }, &[x()], &[2, 4, 6], Kind::Float, 1e-6);
        check("log softmax", Op::LogSoftmax { axis }, &[x()], &[2, 4, 6], Kind::Float, 1e-5);
        check(
            "normalize",
            Op::Normalize { axis, epsilon: 1e-5 },
            &[x()],
            &[2, 4, 6],
            Kind::Float,
            1e-4,
        );
    }
    check(
        "normalize small",
        Op::Normalize { axis: 1, epsilon: 1e-5 },
        &[Live(&[2, 64], -0.01, 0.01)],
        &[2, 64],
        Kind::Float,
        1e-3,
    );
    check(
        "normalize large",
        Op::Normalize { axis: 1, epsilon: 1e-12 },
        &[Live(&[1, 768], -90.0, 200.0)],
        &[1, 768],
        Kind::Float,
        1e-4,
    );
    check(
        "softmax of large",
        Op::Softmax { axis: 1 },
        &[Live(&[1, 9], -500.0, 300.0)],
        &[1, 9],
        Kind::Float,
        1e-6,
    );
}

#[test]
fn moves_and_choices() {
    let x = || Live(&[2, 3, 4], -5.0, 4.0);
    check("reshape", Op::Reshape, &[x()], &[4, 6], Kind::Float, 1e-9);
    check(
        "transpose",
        Op::Transpose { permutation: vec![2, 0, 1] },
        &[x()],
        &[4, 2, 3],
        Kind::Float,
        1e-9,
    );
    check(
        "slice",
        Op::Slice { start: vec![1, 2, 3], step: vec![-1, -2, -1] },
        &[x()],
        &[2, 2, 3],
        Kind::Float,
        1e-9,
    );
    check(
        "slice",
        Op::Slice { start: vec![0, 1, 0], step: vec![1, 1, 2] },
        &[x()],
        &[1, 2, 2],
        Kind::Float,
        1e-9,
    );
    check(
        "concat",
        Op::Concat { axis: 1 },
        &[x(), Live(&[2, 1, 4], -900.0, 1.0), x()],
        &[2, 7, 4],
        Kind::Float,
        1e-9,
    );
    check("expand", Op::Expand, &[Live(&[3, 1], -1.0, 1.0)], &[2, 3, 4], Kind::Float, 1e-9);
    for mode in [
        PadMode::Constant(0.0),
        PadMode::Constant(-1.5),
        PadMode::Edge,
        PadMode::Reflect,
        PadMode::Wrap,
    ] {
        check(
            "pad",
            Op::Pad { before: vec![1, 0, 2], mode },
            &[x()],
            &[3, 4, 8],
            Kind::Float,
            1e-4,
        );
    }
    check(
        "gather",
        Op::Gather { axis: 1 },
        &[x(), Indices(&[2, 2], &[2, 0, 1, 2])],
        &[2, 2, 2, 4],
        Kind::Float,
        1e-9,
    );
    check(
        "gather",
        Op::Gather { axis: 0 },
        &[x(), Ints(&[3], -2, 1)],
        &[3, 3, 4],
        Kind::Float,
        1e-9,
    );
    check(
        "embedding",
        Op::Gather { axis: 0 },
        &[Known(&[3, 2], &[1.0, -0.5, 0.25, 2.0, 0.125, -3.0]), Ints(&[2, 4], 0, 2)],
        &[2, 4, 2],
        Kind::Float,
        1e-6,
    );
    let table: &'static [f32] = Box::leak(Random(3).floats(100 * 40, -2.0, 2.0).into_boxed_slice());
    check(
        "large embedding",
        Op::Gather { axis: 0 },
        &[Known(&[100, 40], table), Ints(&[2, 4], -100, 99)],
        &[2, 4, 40],
        Kind::Float,
        1e-4,
    );
    check(
        "where",
        Op::Where,
        &[Ints(&[3, 1], 0, 1), x(), Known(&[], &[-7.25])],
        &[2, 3, 4],
        Kind::Float,
        1e-9,
    );
    check(
        "clip",
        Op::Clip { min: Some(-1.25), max: Some(2.0) },
        &[x()],
        &[2, 3, 4],
        Kind::Float,
        1e-9,
    );
    check("relu", Op::Clip { min: Some(0.0), max: None }, &[x()], &[2, 3, 4], Kind::Float, 1e-9);
    check("to int", Op::Convert, &[x()], &[2, 3, 4], Kind::Int, 0.0);
    check("to bool", Op::Convert, &[Ints(&[5], -1, 1)], &[5], Kind::Bool, 0.0);
    check("to float", Op::Convert, &[Ints(&[5], -100, 100)], &[5], Kind::Float, 0.0);
}
