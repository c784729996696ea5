//! Every operator once more, element by element in `i128`, straight from its definition.

use og_zkml::execute::eval_function;
use og_zkml::qir::{
    Comparison, Extremum, Linear, Move, NodeWeights, Op, Padding, PoolKind, Tensor, TensorType,
    Window,
};

fn offset(shape: &[u32], at: &[i64]) -> usize {
    shape.iter().zip(at).fold(0, |n, (&d, &i)| {
        assert!(i >= 0 && i < i64::from(d));
        n * d as usize + i as usize
    })
}

fn get(x: &Tensor, at: &[i64]) -> i128 {
    x.values[offset(&x.shape, at)].into()
}

/// The element of a broadcast operand.
fn wide(x: &Tensor, at: &[i64]) -> i128 {
    let skip = at.len() - x.shape.len();
    let own: Vec<i64> =
        x.shape.iter().zip(&at[skip..]).map(|(&d, &i)| if d == 1 { 0 } else { i }).collect();
    get(x, &own)
}

pub fn coordinates(shape: &[u32]) -> Vec<Vec<i64>> {
    let mut all = vec![Vec::new()];
    for &d in shape {
        all = all
            .iter()
            .flat_map(|c| (0..i64::from(d)).map(move |i| [c.as_slice(), &[i]].concat()))
            .collect();
    }
    all
}

fn round_half_up(numerator: i128, denominator: i128) -> i128 {
    let (n, d) =
        if denominator < 0 { (-numerator, -denominator) } else { (numerator, denominator) };
    (2 * n + d).div_euclid(2 * d)
}

fn fold(kind: PoolKind, values: impl Iterator<Item = i128>) -> i128 {
    match kind {
        PoolKind::Sum => values.sum(),
        PoolKind::Max => values.max().unwrap(),
        PoolKind::Min => values.min().unwrap(),
    }
}

pub fn linear(node: &Linear, weights: &NodeWeights, x: &[i64]) -> Vec<i64> {
    let mut out = vec![0i64; node.accumulator_len()];
    for g in 0..node.groups() {
        for o in 0..node.out_per_group() {
            for p in 0..node.positions() {
                let mut sum = if node.has_bias() {
                    i128::from(weights.bias[node.bias_index(g, o)])
                } else {
                    0
                };
                for k in 0..node.inner() {
                    if let Some(i) = node.input_index(g, p, k) {
                        sum += i128::from(weights.matrix[node.weight_index(g, o, k)])
                            * i128::from(x[i]);
                    }
                }
                out[node.accumulator_index(g, o, p)] = sum.try_into().unwrap();
            }
        }
    }
    out
}

/// The operator's value at one place of the result.
pub fn element(
    op: &Op,
    x: &[&Tensor],
    types: &[&TensorType],
    out: &TensorType,
    at: &[i64],
) -> i128 {
    match op {
        Op::Constant { shape, values } => values[offset(shape, at)].into(),
        Op::Linear(_) => unreachable!("linear nodes have their own check"),
        Op::MatMul => {
            let (lead, last) = at.split_at(at.len() - 2);
            let k = *x[0].shape.last().unwrap();
            (0..i64::from(k))
                .map(|k| {
                    get(x[0], &[lead, &[last[0], k]].concat())
                        * get(x[1], &[lead, &[k, last[1]]].concat())
                })
                .sum()
        }
        Op::Requant(r) => {
            let m = if r.multipliers.len() == 1 {
                r.multipliers[0]
            } else {
                r.multipliers[at[r.axis as usize] as usize]
            };
            round_half_up(get(x[0], at) * i128::from(m), 1 << r.shift)
                .clamp(r.lo.into(), r.hi.into())
        }
        Op::Sum { coefficients } => {
            x.iter().zip(coefficients).map(|(x, &c)| wide(x, at) * i128::from(c)).sum()
        }
        Op::Product => wide(x[0], at) * wide(x[1], at),
        Op::Extreme(Extremum::Max) => x.iter().map(|x| wide(x, at)).max().unwrap(),
        Op::Extreme(Extremum::Min) => x.iter().map(|x| wide(x, at)).min().unwrap(),
        Op::Pool { kind, windows } => pool(*kind, windows, x[0], at),
        Op::Reduce { kind, axes, keep } => {
            let reduced = |d: usize| axes.contains(&(d as u32));
            let mut kept = at.iter();
            let fixed: Vec<Option<i64>> = (0..x[0].shape.len())
                .map(|d| match (reduced(d), keep) {
                    (true, true) => {
                        kept.next();
                        None
                    }
                    (true, false) => None,
                    _ => kept.next().copied(),
                })
                .collect();
            let matches = coordinates(&x[0].shape)
                .into_iter()
                .filter(|c| c.iter().zip(&fixed).all(|(i, f)| f.is_none_or(|f| f == *i)));
            fold(*kind, matches.map(|c| get(x[0], &c)))
        }
        Op::Function(f) => {
            eval_function(*f, get(x[0], at) as i64, types[0].exponent, out.exponent).into()
        }
        Op::Divide { shift, lo, hi } => {
            let (a, b) = (wide(x[0], at), wide(x[1], at));
            let q = match (a.signum(), b) {
                (1, 0) => (*hi).into(),
                (-1, 0) => (*lo).into(),
                (_, 0) => 0,
                // The double of the scaled numerator may not fit: divide exactly and look at the remainder.
                _ => {
                    let (n, d) = if b < 0 { (-a, -b) } else { (a, b) };
                    let scaled = n << shift;
                    let q = scaled.div_euclid(d);
                    q + i128::from(2 * scaled.rem_euclid(d) >= d)
                }
            };
            q.clamp((*lo).into(), (*hi).into())
        }
        Op::Move(moved) => self::moved(moved, x, at),
        Op::ArgExtreme { extremum, axis, keep, last } => {
            let axis = *axis as usize;
            let with = |i: i64| {
                let mut c = at.to_vec();
                if *keep {
                    c[axis] = i;
                } else {
                    c.insert(axis, i);
                }
                get(x[0], &c)
            };
            let n = i64::from(x[0].shape[axis]);
            let best = (0..n)
                .map(with)
                .reduce(|a, b| if *extremum == Extremum::Max { a.max(b) } else { a.min(b) })
                .unwrap();
            let mut hits = (0..n).filter(|&i| with(i) == best);
            if *last { hits.next_back().unwrap().into() } else { hits.next().unwrap().into() }
        }
        Op::Compare(c) => {
            let (a, b) = (wide(x[0], at), wide(x[1], at));
            i128::from(match c {
                Comparison::Less => a < b,
                Comparison::LessOrEqual => a <= b,
                Comparison::Equal => a == b,
            })
        }
        Op::Select => {
            if wide(x[0], at) != 0 {
                wide(x[1], at)
            } else {
                wide(x[2], at)
            }
        }
        Op::Lookup { axis } => {
            let axis = *axis as usize;
            let n = x[1].shape.len();
            let index = get(x[1], &at[axis..axis + n]).clamp(0, i128::from(x[0].shape[axis]) - 1);
            get(x[0], &[&at[..axis], &[index as i64], &at[axis + n..]].concat())
        }
        Op::OneHot { .. } => {
            let (&i, own) = at.split_last().unwrap();
            i128::from(get(x[0], own) == i128::from(i))
        }
    }
}

fn pool(kind: PoolKind, windows: &[Window], x: &Tensor, at: &[i64]) -> i128 {
    let lead = at.len() - windows.len();
    let kernels: Vec<u32> = windows.iter().map(|w| w.kernel).collect();
    let cells = coordinates(&kernels).into_iter().filter_map(|cell| {
        let mut c = at.to_vec();
        for (d, (w, j)) in windows.iter().zip(cell).enumerate() {
            c[lead + d] = at[lead + d] * i64::from(w.stride) + j * i64::from(w.dilation)
                - i64::from(w.before);
        }
        c.iter().zip(&x.shape).all(|(&i, &d)| i >= 0 && i < i64::from(d)).then(|| get(x, &c))
    });
    fold(kind, cells)
}

fn moved(moved: &Move, x: &[&Tensor], at: &[i64]) -> i128 {
    let first = x[0];
    match moved {
        Move::Reshape(shape) => first.values[offset(shape, at)].into(),
        Move::Transpose(permutation) => {
            let mut c = vec![0; at.len()];
            for (i, &p) in at.iter().zip(permutation) {
                c[p as usize] = *i;
            }
            get(first, &c)
        }
        Move::Slice { starts, steps, .. } => {
            let c: Vec<i64> = at
                .iter()
                .zip(starts)
                .zip(steps)
                .map(|((i, &s), &t)| i64::from(s) + i * i64::from(t))
                .collect();
            get(first, &c)
        }
        Move::Concat { axis } => {
            let mut c = at.to_vec();
            for x in x {
                let d = i64::from(x.shape[*axis as usize]);
                if c[*axis as usize] < d {
                    return get(x, &c);
                }
                c[*axis as usize] -= d;
            }
            unreachable!("outside of all operands")
        }
        Move::Pad { before, padding, .. } => {
            let c = at.iter().zip(before).zip(&first.shape).map(|((i, &b), &d)| {
                let (i, d) = (i - i64::from(b), i64::from(d));
                match padding {
                    Padding::Constant(_) => i,
                    Padding::Edge => i.max(0).min(d - 1),
                    Padding::Reflect if i < 0 => -i,
                    Padding::Reflect => {
                        if i < d {
                            i
                        } else {
                            2 * d - 2 - i
                        }
                    }
                }
            });
            let c: Vec<i64> = c.collect();
            let inside = c.iter().zip(&first.shape).all(|(&i, &d)| i >= 0 && i < i64::from(d));
            match padding {
                Padding::Constant(v) if !inside => (*v).into(),
                _ => get(first, &c),
            }
        }
        Move::Gather { axis, indices } => {
            let mut c = at.to_vec();
            c[*axis as usize] = indices[c[*axis as usize] as usize].into();
            get(first, &c)
        }
        Move::Expand(_) => wide(first, at),
    }
}
