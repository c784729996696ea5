//! Nets of linear nodes, windows, reshapes and requantisations: what mode S covers, and what nearly is.

use super::generator::Random;
use og_zkml::qir::{Axis, Builder, Linear, Move, Op, PoolKind, Program, Requant, Window};

/// A net of one to four layers.
pub fn net(seed: u64) -> Program {
    let mut r = Random(seed ^ 0x5ca1_ab1e);
    let mut b = Builder::new(&format!("net {seed}"));
    let shape = if r.flag() {
        vec![r.small(1, 2), r.small(1, 3), 2 * r.small(1, 3), 2 * r.small(1, 3)]
    } else {
        vec![r.small(1, 3), 2 * r.small(1, 5)]
    };
    let (lo, hi) = r.choose(&[(-7, 7), (0, 100), (-2, -1), (5, 5)]);
    let mut tensor = b.input("x", &shape, lo, hi, 0).unwrap();
    for layer in 0..=r.below(3) {
        let accumulators = linear(&mut r, &mut b, tensor);
        if r.below(12) == 0 {
            b.output(&format!("accumulators {layer}"), accumulators).unwrap();
        }
        tensor = requantised(&mut r, &mut b, accumulators);
        match r.below(10) {
            0 => b.output(&format!("result {layer}"), tensor).unwrap(),
            1 => {
                let twice = Op::Sum { coefficients: vec![1, 2] };
                tensor = b.push(twice, &[tensor, tensor], 0).unwrap();
            }
            2 => {
                let branch = linear(&mut r, &mut b, tensor);
                b.output(&format!("branch {layer}"), branch).unwrap();
            }
            3..6 => tensor = flat(&mut b, tensor),
            _ => {}
        }
    }
    let last = linear(&mut r, &mut b, tensor);
    b.output("last", last).unwrap();
    b.finish().unwrap()
}

/// A window of each dimension given, stepping by its own size.
pub fn windows(kernels: &[u32]) -> Vec<Window> {
    let window = |&kernel| Window { kernel, stride: kernel, dilation: 1, before: 0, after: 0 };
    kernels.iter().map(window).collect()
}

/// A reshape.
pub fn reshape(shape: &[u32]) -> Op {
    Op::Move(Move::Reshape(shape.to_vec()))
}

/// The largest of each window.
pub fn largest(windows: Vec<Window>) -> Op {
    Op::Pool { kind: PoolKind::Max, windows }
}

/// A linear node with the bound that any weights of its bits keep for its operand.
pub fn bounded(
    b: &Builder,
    operand: usize,
    weight_bits: u8,
    bias_bits: u8,
    mut linear: Linear,
) -> Op {
    (linear.weight_bits, linear.bias_bits) = (weight_bits, bias_bits);
    linear.bound =
        i64::try_from(linear.structural_bound(b.ty(operand).unwrap().magnitude())).unwrap();
    Op::Linear(linear)
}

fn linear(r: &mut Random, b: &mut Builder, operand: usize) -> usize {
    let shape = b.ty(operand).unwrap().shape.clone();
    let form = match *shape.as_slice() {
        [batch, channels, ref sizes @ ..] if sizes.len() == 2 && r.below(4) > 0 => {
            let groups = if r.flag() { 1 } else { channels };
            let axis = |r: &mut Random, input| {
                let around = r.small(0, 1);
                Axis {
                    input,
                    kernel: 1 + 2 * around,
                    stride: 1,
                    dilation: 1,
                    before: around,
                    after: around,
                }
            };
            let axes = sizes.iter().map(|&input| axis(r, input)).collect();
            Linear::conv(batch, channels, groups * r.small(1, 2), groups, axes)
        }
        [ref rows @ .., inner] => Linear::dense(rows.iter().product(), inner, r.small(1, 6)),
        [] => unreachable!("no operand is a scalar"),
    };
    let op = bounded(b, operand, r.choose(&[2, 4, 8]), r.choose(&[0, 2, 10]), form);
    b.push(op, &[operand], 0).unwrap()
}

/// Perhaps the largest of each window, perhaps reshaped before or after, then requantised.
fn requantised(r: &mut Random, b: &mut Builder, accumulators: usize) -> usize {
    let reach = b.ty(accumulators).unwrap().magnitude() as i64;
    let mut tensor = accumulators;
    let shape = b.ty(tensor).unwrap().shape.clone();
    if let (&[n, c, h, w], 0) = (shape.as_slice(), r.below(4)) {
        tensor = b.push(reshape(&[n * c, h, w]), &[tensor], 0).unwrap();
    }
    let mut sizes = b.ty(tensor).unwrap().shape.clone();
    let kernels: &[u32] = r.choose(&[&[2, 2], &[2, 2], &[1, 2], &[2], &[3], &[1, 1], &[2, 3]]);
    let windowed = sizes.iter_mut().rev().zip(kernels.iter().rev());
    if r.below(4) > 0
        && windowed.into_iter().all(|(&mut size, &kernel)| size % kernel == 0)
        && sizes.len() > kernels.len()
    {
        let mut windows = windows(kernels);
        if r.below(8) == 0 {
            windows[0].stride = 1;
        }
        tensor = b.push(largest(windows), &[tensor], 0).unwrap();
        if r.below(4) == 0 {
            tensor = flat(b, tensor);
        }
    }
    let shape = b.ty(tensor).unwrap().shape.clone();
    let (axis, n) = r.choose(&[(0, 1), (shape.len() - 1, shape[shape.len() - 1]), (0, shape[0])]);
    let multipliers: Vec<i64> = match n {
        1 => vec![r.choose(&[1, 1, 3, 1000, -2])],
        n => (0..n).map(|_| r.choose(&[1, 2, 5, 77])).collect(),
    };
    let shift = r.choose(&[0, 1, 3, 6, 10]);
    // Ranges from the whole of what may come down to a sixty-fourth: some saturate often, some never.
    let span = ((reach * multipliers[0].abs()) >> shift) / r.choose(&[1, 4, 16, 64]) + 1;
    let lo = r.choose(&[0, -span, -1, span / 2, -2 * span, 3]);
    let hi = lo + r.choose(&[span, 0, 1, 2 * span]);
    let axis = if n == 1 { 0 } else { axis as u32 };
    b.push(Op::Requant(Requant { multipliers, axis, shift, lo, hi }), &[tensor], 0).unwrap()
}

fn flat(b: &mut Builder, tensor: usize) -> usize {
    let n = b.ty(tensor).unwrap().len() as u32;
    b.push(reshape(&[1, n]), &[tensor], 0).unwrap()
}
