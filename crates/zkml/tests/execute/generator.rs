//! Random small programs with random weights and inputs.

use og_zkml::qir::{
    Axis, Builder, Comparison, Extremum, Function, Linear, Move, NodeWeights, Op, Padding,
    PoolKind, Program, Requant, Tensor, TensorType, Weights, Window,
};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn between(&mut self, lo: i64, hi: i64) -> i64 {
        let span = i128::from(hi) - i128::from(lo) + 1;
        (i128::from(lo) + i128::from(self.next()) % span) as i64
    }

    pub fn small(&mut self, lo: u32, hi: u32) -> u32 {
        self.between(lo.into(), hi.into()) as u32
    }

    pub fn flag(&mut self) -> bool {
        self.next() & 1 == 1
    }

    pub fn choose<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn shape(&mut self) -> Vec<u32> {
        (0..self.below(5)).map(|_| self.small(1, 4)).collect()
    }
}

pub struct Case {
    pub program: Program,
    pub weights: Weights,
    pub inputs: Vec<Tensor>,
}

/// A program of up to `nodes` nodes.
pub fn case(seed: u64, nodes: usize) -> Case {
    let mut r = Random(seed);
    let mut b = Builder::new(&format!("random {seed}"));
    let mut ids = Vec::new();
    let mut types: Vec<TensorType> = Vec::new();
    for i in 0..=r.below(2) {
        let bound = r.choose(&[1i64, 7, 127, 32767, 1 << 31]);
        let (lo, hi) = r.choose(&[(-bound, bound), (0, bound), (1, bound), (-bound, 0)]);
        let mut shape = r.shape();
        if r.flag() {
            shape = vec![r.small(1, 2), r.small(1, 4), r.small(1, 6), r.small(1, 6)];
        }
        let id = b.input(&format!("x{i}"), &shape, lo, hi, r.between(-4, 14) as i8).unwrap();
        ids.push(id);
        types.push(b.ty(id).unwrap().clone());
    }
    for _ in 0..nodes * 3 {
        if types.len() >= nodes + 2 {
            break;
        }
        let a = if r.flag() { types.len() - 1 } else { r.below(types.len() as u64) as usize };
        let c = r.below(types.len() as u64) as usize;
        let (op, inputs) = random_op(&mut r, &types, a, c);
        if let Ok(id) = b.push(op, &inputs, r.between(-4, 20) as i8) {
            types.push(b.ty(id).unwrap().clone());
        }
    }
    b.output("last", types.len() - 1).unwrap();
    b.output("any", r.below(types.len() as u64) as usize).unwrap();
    let program = b.finish().unwrap();
    let weights = weights(&mut r, &program);
    let inputs = program
        .inputs()
        .iter()
        .map(|port| {
            let values = (0..port.ty.len()).map(|_| {
                if r.below(8) == 0 {
                    r.choose(&[port.ty.lo, port.ty.hi])
                } else {
                    r.between(port.ty.lo, port.ty.hi)
                }
            });
            Tensor { shape: port.ty.shape.clone(), values: values.collect() }
        })
        .collect();
    Case { program, weights, inputs }
}

/// Weights for bounds that are structural: all fit.
pub fn weights(r: &mut Random, program: &Program) -> Weights {
    Weights::new(program, draw(r, program)).unwrap()
}

/// Weights within the declared bits.
pub fn draw(r: &mut Random, program: &Program) -> Vec<NodeWeights> {
    let nodes = program.linears().map(|(_, linear)| {
        let w = 1i64 << (linear.weight_bits - 1);
        let matrix = (0..linear.weight_len()).map(|_| r.between(-w, w - 1) as i16).collect();
        let bias = (0..linear.bias_len())
            .map(|_| r.between(-(1 << (linear.bias_bits - 1)), (1 << (linear.bias_bits - 1)) - 1))
            .collect();
        NodeWeights { matrix, bias }
    });
    nodes.collect()
}

fn linear(r: &mut Random, ty: &TensorType) -> Linear {
    let shape = &ty.shape;
    let mut linear = if shape.len() >= 3 && r.flag() {
        let groups = if r.flag() { 1 } else { shape[1] };
        let axes = shape[2..]
            .iter()
            .map(|&input| Axis {
                input,
                kernel: r.small(1, 3),
                stride: r.small(1, 2),
                dilation: r.small(1, 2),
                before: r.small(0, 2),
                after: r.small(0, 2),
            })
            .collect();
        Linear::conv(shape[0], shape[1], groups * r.small(1, 3), groups, axes)
    } else {
        let inner = shape.last().copied().unwrap_or(1);
        let rows = shape.iter().rev().skip(1).product();
        Linear::dense(rows, inner, r.small(1, 5))
    };
    linear.weight_bits = r.choose(&[2, 8, 12, 16]);
    linear.bias_bits = r.choose(&[0, 2, 20, 40]);
    linear.bound = i64::try_from(linear.structural_bound(ty.magnitude())).unwrap_or(i64::MAX);
    linear
}

fn random_op(r: &mut Random, types: &[TensorType], a: usize, b: usize) -> (Op, Vec<usize>) {
    let x = &types[a];
    let rank = x.shape.len() as u32;
    let axis = if rank == 0 { 0 } else { r.small(0, rank - 1) };
    let op = match r.below(24) {
        0..3 => Op::Linear(linear(r, x)),
        3..6 => {
            let n = x.shape.get(axis as usize).copied().unwrap_or(1) as usize;
            let many = r.flag() && n > 1;
            let multipliers =
                (0..if many { n } else { 1 }).map(|_| r.choose(&[1, 3, -5, 0, 1 << 12])).collect();
            let hi = r.choose(&[0, 1, 127, 32767, 1 << 40]);
            let lo = r.choose(&[0, -1, -128, -(1 << 40)]);
            Op::Requant(Requant {
                multipliers,
                axis: if many { axis } else { 0 },
                shift: r.choose(&[0, 1, 2, 8, 16, 30]),
                lo,
                hi,
            })
        }
        6 => {
            let fits = |y: &TensorType| match (x.shape.as_slice(), y.shape.as_slice()) {
                ([lead @ .., _, k], [other @ .., l, _]) => lead == other && k == l,
                _ => false,
            };
            return (Op::MatMul, vec![a, types.iter().rposition(fits).unwrap_or(b)]);
        }
        7 => {
            let coefficients = [r.between(-3, 3), r.between(1, 100)].to_vec();
            return (Op::Sum { coefficients }, vec![a, b]);
        }
        8 => return (Op::Product, vec![a, b]),
        9 => return (Op::Extreme(r.choose(&[Extremum::Max, Extremum::Min])), vec![a, b, a]),
        10..12 => {
            let windows = (0..r.small(1, 2))
                .map(|_| Window {
                    kernel: r.small(1, 3),
                    stride: r.small(1, 2),
                    dilation: r.small(1, 2),
                    before: r.small(0, 1),
                    after: r.small(0, 1),
                })
                .collect();
            Op::Pool { kind: r.choose(&[PoolKind::Max, PoolKind::Min, PoolKind::Sum]), windows }
        }
        12 => {
            let axes = (0..rank).filter(|_| r.flag()).collect();
            Op::Reduce {
                kind: r.choose(&[PoolKind::Max, PoolKind::Min, PoolKind::Sum]),
                axes,
                keep: r.flag(),
            }
        }
        13 => Op::Function(r.choose(&Function::ALL)),
        14 => {
            return (
                Op::Divide { shift: r.choose(&[0, 3, 20, 62]), lo: -(1 << 20), hi: 1 << 30 },
                vec![a, b],
            );
        }
        15 => Op::ArgExtreme {
            extremum: r.choose(&[Extremum::Max, Extremum::Min]),
            axis,
            keep: r.flag(),
            last: r.flag(),
        },
        16 => {
            return (
                Op::Compare(r.choose(&[
                    Comparison::Less,
                    Comparison::LessOrEqual,
                    Comparison::Equal,
                ])),
                vec![a, b],
            );
        }
        17 => return (Op::Select, vec![b, a, b]),
        18 => return (Op::Lookup { axis }, vec![a, b]),
        19 => Op::OneHot { depth: r.small(1, 5) },
        20 => {
            let shape = r.shape();
            let values = (0..shape.iter().product()).map(|_| r.between(-1000, 1000)).collect();
            return (Op::Constant { shape, values }, vec![]);
        }
        _ => return random_move(r, x, axis, a, b),
    };
    (op, vec![a])
}

fn random_move(r: &mut Random, x: &TensorType, axis: u32, a: usize, b: usize) -> (Op, Vec<usize>) {
    let rank = x.shape.len();
    let moved = match r.below(7) {
        0 => {
            let n = x.len() as u32;
            let first =
                (1..=n).filter(|d| n.is_multiple_of(*d)).nth(r.below(3) as usize).unwrap_or(1);
            Move::Reshape(vec![first, n / first])
        }
        1 => {
            let mut permutation: Vec<u32> = (0..rank as u32).collect();
            for i in (1..rank).rev() {
                permutation.swap(i, r.below(i as u64 + 1) as usize);
            }
            Move::Transpose(permutation)
        }
        2 => {
            let mut starts = Vec::new();
            let mut steps = Vec::new();
            let mut sizes = Vec::new();
            for &d in &x.shape {
                let start = r.small(0, d - 1);
                let step = r.choose(&[1, -1, 2]);
                let room = if step > 0 { (d - 1 - start) / step as u32 } else { start };
                starts.push(start);
                steps.push(step);
                sizes.push(r.small(1, room + 1));
            }
            Move::Slice { starts, steps, sizes }
        }
        3 => return (Op::Move(Move::Concat { axis }), vec![a, if r.flag() { a } else { b }]),
        4 => {
            let pads = |r: &mut Random| (0..rank).map(|_| r.small(0, 2)).collect::<Vec<_>>();
            let padding = r.choose(&[Padding::Constant(-3), Padding::Edge, Padding::Reflect]);
            Move::Pad { before: pads(r), after: pads(r), padding }
        }
        5 => {
            let d = x.shape.get(axis as usize).copied().unwrap_or(1);
            Move::Gather { axis, indices: (0..r.small(1, 5)).map(|_| r.small(0, d - 1)).collect() }
        }
        _ => {
            let mut shape: Vec<u32> =
                x.shape.iter().map(|&d| if d == 1 { r.small(1, 3) } else { d }).collect();
            shape.insert(0, r.small(1, 3));
            Move::Expand(shape)
        }
    };
    (Op::Move(moved), vec![a])
}
