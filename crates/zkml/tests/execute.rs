//! The executor against a naive one on random programs; the canonical codec; the limits of requantisation.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    unreachable_pub,
    reason = "a test that fails should say where; numbers here are small"
)]

use std::time::Instant;

use og_zkml::execute::{ExecuteError, Linears, execute, execute_traced};
use og_zkml::qir::{
    Axis, Builder, CodecError, Linear, MAX_MAGNITUDE, NodeWeights, Op, PoolKind, Program,
    ProgramError, Requant, Tensor, Weights, WeightsError, Window,
};

#[path = "execute/generator.rs"]
mod generator;
#[path = "execute/naive.rs"]
mod naive;

use generator::{Case, Random, case, weights};

fn long() -> bool {
    std::env::var("OG_FUZZ").is_ok_and(|v| v == "long")
}

fn check(seed: u64, case: &Case) {
    let Case { program, weights, inputs } = case;
    let outcome = execute_traced(program, inputs, &mut &*weights)
        .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    let mut linear = 0;
    for (i, node) in program.nodes().iter().enumerate() {
        let got = &outcome.tensors[node.output];
        let ty = &program.tensors()[node.output];
        assert_eq!(got.shape, ty.shape);
        assert_eq!(got.values.len(), ty.len());
        assert!(
            got.values.iter().all(|v| (ty.lo..=ty.hi).contains(v)),
            "seed {seed}: node {i} {:?} leaves its range",
            node.op
        );
        let operands: Vec<&Tensor> = node.inputs.iter().map(|&i| &outcome.tensors[i]).collect();
        let types: Vec<_> = node.inputs.iter().map(|&i| &program.tensors()[i]).collect();
        let expected: Vec<i64> = if let Op::Linear(node) = &node.op {
            linear += 1;
            naive::linear(node, &weights.nodes()[linear - 1], &operands[0].values)
        } else {
            naive::coordinates(&ty.shape)
                .iter()
                .map(|at| naive::element(&node.op, &operands, &types, ty, at).try_into().unwrap())
                .collect()
        };
        assert_eq!(got.values, expected, "seed {seed}: node {i} {:?} of {types:?}", node.op);
    }
    assert_eq!(execute(program, inputs, &mut &*weights).unwrap().outputs, outcome.outputs);
}

#[test]
fn random_programs_equal_the_naive_evaluation() {
    let count = if long() { 100_000 } else { 600 };
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..count {
        let case = case(seed, 10);
        for node in case.program.nodes() {
            *seen.entry(node.op.name()).or_insert(0u32) += 1;
        }
        check(seed, &case);
    }
    assert_eq!(seen.len(), 17, "operators seen: {seen:?}");
    assert!(seen.values().all(|n| *n >= 30), "operators seen: {seen:?}");
}

#[test]
fn programs_and_weights_survive_their_encoding() {
    for seed in 0..2_000 {
        let case = case(seed, 12);
        let bytes = case.program.encode();
        let program = Program::decode(&bytes).unwrap();
        assert_eq!(program, case.program);
        assert_eq!(program.encode(), bytes);
        let bytes = case.weights.encode(&program);
        assert_eq!(Weights::decode(&program, &bytes).unwrap(), case.weights);
    }
}

#[test]
fn decoders_refuse_what_is_not_canonical() {
    let case = case(3, 6);
    let bytes = case.program.encode();
    for end in 0..bytes.len() {
        assert!(Program::decode(&bytes[..end]).is_err(), "cut at {end}");
    }
    let mut long = bytes.clone();
    long.push(0);
    assert_eq!(Program::decode(&long), Err(CodecError::Trailing { count: 1 }));
    let mut other = bytes.clone();
    other[3] = 2;
    assert_eq!(Program::decode(&other), Err(CodecError::Magic { what: "a program" }));
    // The name's length in two bytes instead of one.
    let mut padded = bytes[..4].to_vec();
    padded.extend([bytes[4] | 0x80, 0]);
    padded.extend(&bytes[5..]);
    assert!(matches!(Program::decode(&padded), Err(CodecError::Value { .. })));
    // A list that claims more elements than there are bytes.
    let mut huge = b"OGQ\x01".to_vec();
    huge.extend([0, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(Program::decode(&huge), Err(CodecError::Truncated { at: 10 }));
    let weights = case.weights.encode(&case.program);
    let mut long = weights.clone();
    long.push(0);
    assert!(Weights::decode(&case.program, &long).is_err());
}

#[test]
fn encodings_do_not_change() {
    let (program, weights) = tiny();
    let bytes = "4f4751010474696e79010178020104fdff03feff0318030100010403101e8080808024010030030102000c00feff0301011801000103021000808080801801023001017903";
    assert_eq!(hex(&program.encode()), bytes);
    assert_eq!(
        hex(&program.digest()),
        "c3ab083b4afabf33067f94ef9bca8451c228cb4863ba63252ab03f4dffdb2fe4"
    );
    assert_eq!(
        hex(&weights.digest(&program)),
        "e9d7be2abfddb434aaf3a3bf1e11a26997db0714ef400271fe6e0a9cd7689f94"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A perceptron of 4, 3 and 2 cells.
fn tiny() -> (Program, Weights) {
    let mut b = Builder::new("tiny");
    let x = b.input("x", &[1, 4], -32767, 32767, 12).unwrap();
    let h = b.push(Op::Linear(Linear::dense(1, 4, 3).with_bias(30)), &[x], 24).unwrap();
    let h = b.push(Op::Requant(Requant::shift(12, 0, 32767)), &[h], 12).unwrap();
    let y = b.push(Op::Linear(Linear::dense(1, 3, 2)), &[h], 24).unwrap();
    b.output("y", y).unwrap();
    let program = b.finish().unwrap();
    let first = NodeWeights {
        matrix: (1..=12).map(|v| v * 100).collect(),
        bias: vec![1000, -100_000_000, 7],
    };
    let second = NodeWeights { matrix: vec![1, -2, 3, -4, 5, -6], bias: vec![] };
    let weights = Weights::new(&program, vec![first, second]).unwrap();
    (program, weights)
}

#[test]
fn a_perceptron_by_hand() {
    let (program, weights) = tiny();
    let x = Tensor { shape: vec![1, 4], values: vec![4096, -4096, 8192, 100] };
    let outcome = execute(&program, &[x], &mut &weights).unwrap();
    // 409600 - 819200 + 2457600 + 40000 + 1000 = 2089000 → 510.0 → 510; the second channel is negative;
    // 3686400 - 4096000 + 9011200 + 120000 + 7 = 8721607 → 2129.3 → 2129.
    assert_eq!(outcome.outputs[0].values, [510 + 3 * 2129, -4 * 510 - 6 * 2129]);
    assert!(outcome.tensors.is_empty());
    assert_eq!(program.work(), 12 + 3 + 6);
    assert_eq!(program.linear_work(), 18);
}

#[test]
fn requantisation_at_its_limits() {
    let half = Requant::shift(1, -128, 127);
    // Ties go up, also below zero.
    let expected = [
        (-257, -128),
        (-256, -128),
        (-3, -1),
        (-2, -1),
        (-1, 0),
        (0, 0),
        (1, 1),
        (2, 1),
        (3, 2),
        (253, 127),
        (254, 127),
        (255, 127),
    ];
    for (x, y) in expected {
        assert_eq!(half.apply(x, 1), y, "{x}");
    }
    let wide = Requant::shift(16, -32768, 32767);
    for (x, y) in [
        (0x7fff, 0),
        (0x8000, 1),
        (-0x8000, 0),
        (-0x8001, -1),
        (i64::from(i32::MAX), 32767),
        (i64::from(i32::MIN), -32768),
        (1 << 60, 32767),
    ] {
        assert_eq!(wide.apply(x, 1), y, "{x}");
    }
    // Multipliers, negative ones too, and no shift at all.
    assert_eq!(Requant::scale(-3, 2, -100, 100).apply(2, -3), -1);
    assert_eq!(Requant::scale(-3, 2, -100, 100).apply(1, -3), -1);
    assert_eq!(Requant::scale(7, 0, -100, 100).apply(-14, 7), -98);
    assert_eq!(Requant::shift(0, 0, 10).apply(-5, 1), 0);
    // All operands of 10 bits against the definition in rationals.
    for shift in 0..8u8 {
        for m in [-5i64, -1, 1, 3, 16] {
            let r = Requant::scale(m, shift, -60, 60);
            for x in -512..512i64 {
                let exact = (x * m) as f64 / f64::from(1u32 << shift);
                let y = (exact + 0.5).floor().clamp(-60.0, 60.0);
                assert_eq!(r.apply(x, m) as f64, y, "{x}·{m} >> {shift}");
            }
        }
    }
}

#[test]
fn bounds_are_refused_where_numbers_could_wrap() {
    let mut b = Builder::new("wide");
    let x = b.input("x", &[1, 4096], -(1 << 40), 1 << 40, 0).unwrap();
    let refused = b.push(Op::Linear(Linear::dense(1, 4096, 1)), &[x], 0);
    assert!(
        matches!(refused, Err(ProgramError::Node { node: 0, op: "linear", .. })),
        "{refused:?}"
    );
    assert!(b.push(Op::Product, &[x, x], 0).is_err());
    assert!(b.push(Op::Sum { coefficients: vec![1 << 30] }, &[x], 0).is_err());
    assert!(b.push(Op::Requant(Requant::scale(1 << 30, 8, -1, 1)), &[x], 0).is_err());
    assert!(
        b.push(Op::Reduce { kind: PoolKind::Sum, axes: vec![1], keep: false }, &[x], 0).is_ok()
    );
    assert!(b.push(Op::Product, &[x, 7], 0).is_err());
    assert!(b.input("late", &[1], 0, 1, 0).is_err());
    assert!(Builder::new("").input("x", &[1], -MAX_MAGNITUDE, 0, 0).is_err());
    assert!(Builder::new("").input("x", &[0], 0, 1, 0).is_err());
    assert!(Builder::new("").input("x", &[1 << 13, 1 << 13], 0, 1, 0).is_err());
    assert!(Builder::new("").input("x", &[1], 2, 1, 0).is_err());
    assert!(Builder::new("").finish().is_err());
    let mut b = Builder::new("ports");
    for i in 0..256 {
        b.input(&i.to_string(), &[1], 0, 1, 0).unwrap();
    }
    assert!(b.input("one more", &[1], 0, 1, 0).is_err());
    // A kernel whose positions overflow an index.
    let mut b = Builder::new("conv");
    let x = b.input("x", &[1, 1, 1, 1], 0, 1, 0).unwrap();
    let axis = Axis {
        input: 1,
        kernel: 1,
        stride: 1,
        dilation: 1,
        before: (1 << 24) - 1,
        after: (1 << 24) - 1,
    };
    assert!(
        b.push(Op::Linear(Linear::conv(1, 1, 1, 1, vec![axis, axis]).with_bound(1)), &[x], 0)
            .is_err()
    );
    let window = Window { kernel: 2, stride: 1, dilation: 1, before: 2, after: 0 };
    assert!(
        b.push(Op::Pool { kind: PoolKind::Max, windows: vec![window] }, &[x], 0).is_err(),
        "a maximum of padding alone"
    );
}

#[test]
fn weights_are_checked_against_the_program() {
    let (program, weights) = tiny();
    let with = |change: fn(&mut Vec<NodeWeights>)| {
        let mut nodes = weights.nodes().to_vec();
        change(&mut nodes);
        Weights::new(&program, nodes)
    };
    assert!(with(|_| ()).is_ok());
    assert_eq!(with(|n| drop(n.pop())), Err(WeightsError::Nodes { got: 1, expected: 2 }));
    assert!(matches!(
        with(|n| n[0].matrix.truncate(11)),
        Err(WeightsError::Length { index: 0, got: 11, .. })
    ));
    assert!(matches!(with(|n| n[1].bias.push(1)), Err(WeightsError::Length { index: 1, .. })));
    assert!(matches!(with(|n| n[0].bias[0] = 1 << 29), Err(WeightsError::Range { index: 0, .. })));
    let mut b = Builder::new("tight");
    let x = b.input("x", &[2], -10, 10, 0).unwrap();
    let y = b.push(Op::Linear(Linear::dense(1, 2, 1).with_bound(50)), &[x], 0).unwrap();
    b.output("y", y).unwrap();
    let program = b.finish().unwrap();
    let node = |w: [i16; 2]| vec![NodeWeights { matrix: w.to_vec(), bias: vec![] }];
    assert!(Weights::new(&program, node([3, -2])).is_ok());
    assert_eq!(
        Weights::new(&program, node([3, -3])),
        Err(WeightsError::Bound { index: 0, reach: 60, bound: 50 })
    );
}

#[test]
fn inputs_and_accumulators_are_checked() {
    let (program, weights) = tiny();
    let x =
        |shape: &[u32], values: &[i64]| Tensor { shape: shape.to_vec(), values: values.to_vec() };
    let run = |inputs: &[Tensor]| execute(&program, inputs, &mut &weights).map(|_| ());
    assert_eq!(run(&[]), Err(ExecuteError::Inputs { got: 0, expected: 1 }));
    assert!(matches!(run(&[x(&[4], &[0; 4])]), Err(ExecuteError::Shape { .. })));
    assert!(matches!(run(&[x(&[1, 4], &[0; 3])]), Err(ExecuteError::Shape { .. })));
    assert!(matches!(
        run(&[x(&[1, 4], &[0, 0, 0, 32768])]),
        Err(ExecuteError::Range { value: 32768, .. })
    ));
    struct Liar(Vec<i64>);
    impl Linears for Liar {
        fn accumulate(
            &mut self,
            _: usize,
            _: &Linear,
            _: &[i64],
        ) -> Result<Vec<i64>, ExecuteError> {
            Ok(self.0.clone())
        }
    }
    let input = [x(&[1, 4], &[0; 4])];
    let lie = |values: Vec<i64>| execute(&program, &input, &mut Liar(values));
    assert!(matches!(lie(vec![0; 2]), Err(ExecuteError::Linear { index: 0, .. })));
    assert!(matches!(lie(vec![0, 0, i64::MIN]), Err(ExecuteError::Linear { index: 0, .. })));
    assert!(matches!(lie(vec![0, 0, i64::MAX]), Err(ExecuteError::Linear { index: 0, .. })));
}

/// Input, layers as (name, linear, shift, pool), output left wide.
fn timed(name: &str, program: &Program, limit_ms: u128) {
    let mut r = Random(1);
    let weights = weights(&mut r, program);
    let ty = &program.inputs()[0].ty;
    let x = [Tensor {
        shape: ty.shape.clone(),
        values: (0..ty.len()).map(|_| r.between(-32767, 32767)).collect(),
    }];
    let best = (0..20)
        .map(|_| {
            let start = Instant::now();
            execute(program, &x, &mut &weights).unwrap();
            start.elapsed()
        })
        .min()
        .unwrap();
    println!("{name}: {best:?} for {} operations", program.work());
    assert!(best.as_millis() < limit_ms, "{name} took {best:?}");
}

#[test]
fn inference_is_fast() {
    let mut b = Builder::new("mlp");
    let x = b.input("x", &[1, 784], -32767, 32767, 13).unwrap();
    let h = b.push(Op::Linear(Linear::dense(1, 784, 128).with_bias(40)), &[x], 26).unwrap();
    let h = b.push(Op::Requant(Requant::shift(16, 0, 32767)), &[h], 10).unwrap();
    let y = b.push(Op::Linear(Linear::dense(1, 128, 10).with_bias(40)), &[h], 24).unwrap();
    b.output("y", y).unwrap();
    timed("mlp", &b.finish().unwrap(), 1);

    let axis =
        |input, before| Axis { input, kernel: 5, stride: 1, dilation: 1, before, after: before };
    let two = Window { kernel: 2, stride: 2, dilation: 1, before: 0, after: 0 };
    let mut b = Builder::new("lenet");
    let mut x = b.input("x", &[1, 1, 28, 28], -32767, 32767, 13).unwrap();
    for (channels, out, size, before) in [(1, 6, 28, 2), (6, 16, 14, 0)] {
        let linear = Linear::conv(1, channels, out, 1, vec![axis(size, before); 2]).with_bias(40);
        x = b.push(Op::Linear(linear), &[x], 26).unwrap();
        x = b.push(Op::Pool { kind: PoolKind::Max, windows: vec![two; 2] }, &[x], 26).unwrap();
        x = b.push(Op::Requant(Requant::shift(16, 0, 32767)), &[x], 10).unwrap();
    }
    x = b.push(Op::Move(og_zkml::qir::Move::Reshape(vec![1, 400])), &[x], 10).unwrap();
    for (inner, outer) in [(400, 120), (120, 84), (84, 10)] {
        x = b.push(Op::Linear(Linear::dense(1, inner, outer).with_bias(40)), &[x], 26).unwrap();
        if outer > 10 {
            x = b.push(Op::Requant(Requant::shift(16, 0, 32767)), &[x], 10).unwrap();
        }
    }
    b.output("y", x).unwrap();
    timed("lenet", &b.finish().unwrap(), 5);
}
