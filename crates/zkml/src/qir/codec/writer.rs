use crate::qir::{Form, Linear, Move, Op, Padding, Requant};

/// Appends canonical bytes.
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    fn uint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.0.push((v & 0x7f) as u8 | 0x80);
            v >>= 7;
        }
        self.0.push((v & 0x7f) as u8);
    }

    pub(super) fn int(&mut self, v: i64) {
        self.uint(((v << 1) ^ (v >> 63)).cast_unsigned());
    }

    pub(super) fn size(&mut self, v: usize) {
        self.uint(v as u64);
    }

    fn flag(&mut self, v: bool) {
        self.0.push(v.into());
    }

    pub(super) fn string(&mut self, s: &str) {
        self.size(s.len());
        self.0.extend_from_slice(s.as_bytes());
    }

    pub(super) fn list(&mut self, v: &[u32]) {
        self.size(v.len());
        for &x in v {
            self.uint(x.into());
        }
    }

    fn ints(&mut self, v: &[i64]) {
        self.size(v.len());
        for &x in v {
            self.int(x);
        }
    }

    pub(super) fn op(&mut self, op: &Op) {
        self.0.push(tag(op));
        match op {
            Op::Constant { shape, values } => {
                self.list(shape);
                self.ints(values);
            }
            Op::Linear(linear) => self.linear(linear),
            Op::MatMul | Op::Product | Op::Select => (),
            Op::Requant(Requant { multipliers, axis, shift, lo, hi }) => {
                self.ints(multipliers);
                self.uint((*axis).into());
                self.0.push(*shift);
                self.int(*lo);
                self.int(*hi);
            }
            Op::Sum { coefficients } => self.ints(coefficients),
            Op::Extreme(e) => self.0.push(*e as u8),
            Op::Pool { kind, windows } => {
                self.0.push(*kind as u8);
                self.size(windows.len());
                for w in windows {
                    for v in [w.kernel, w.stride, w.dilation, w.before, w.after] {
                        self.uint(v.into());
                    }
                }
            }
            Op::Reduce { kind, axes, keep } => {
                self.0.push(*kind as u8);
                self.list(axes);
                self.flag(*keep);
            }
            Op::Function(f) => self.0.push(*f as u8),
            Op::Divide { shift, lo, hi } => {
                self.0.push(*shift);
                self.int(*lo);
                self.int(*hi);
            }
            Op::Move(moved) => self.moved(moved),
            Op::ArgExtreme { extremum, axis, keep, last } => {
                self.0.push(*extremum as u8);
                self.uint((*axis).into());
                self.flag(*keep);
                self.flag(*last);
            }
            Op::Compare(c) => self.0.push(*c as u8),
            Op::Lookup { axis } => self.uint((*axis).into()),
            Op::OneHot { depth } => self.uint((*depth).into()),
        }
    }

    fn linear(&mut self, linear: &Linear) {
        match &linear.form {
            Form::Dense { rows, inner, outer } => {
                self.0.push(0);
                for v in [*rows, *inner, *outer] {
                    self.uint(v.into());
                }
            }
            Form::Conv { batch, in_channels, out_channels, groups, axes } => {
                self.0.push(1);
                for v in [*batch, *in_channels, *out_channels, *groups] {
                    self.uint(v.into());
                }
                self.size(axes.len());
                for a in axes {
                    for v in [a.input, a.kernel, a.stride, a.dilation, a.before, a.after] {
                        self.uint(v.into());
                    }
                }
            }
        }
        self.0.push(linear.weight_bits);
        self.0.push(linear.bias_bits);
        self.int(linear.bound);
    }

    fn moved(&mut self, moved: &Move) {
        match moved {
            Move::Reshape(shape) => {
                self.0.push(0);
                self.list(shape);
            }
            Move::Transpose(permutation) => {
                self.0.push(1);
                self.list(permutation);
            }
            Move::Slice { starts, steps, sizes } => {
                self.0.push(2);
                self.list(starts);
                self.ints(&steps.iter().map(|&s| s.into()).collect::<Vec<_>>());
                self.list(sizes);
            }
            Move::Concat { axis } => {
                self.0.push(3);
                self.uint((*axis).into());
            }
            Move::Pad { before, after, padding } => {
                self.0.push(4);
                self.list(before);
                self.list(after);
                match padding {
                    Padding::Constant(v) => {
                        self.0.push(0);
                        self.int(*v);
                    }
                    Padding::Edge => self.0.push(1),
                    Padding::Reflect => self.0.push(2),
                }
            }
            Move::Gather { axis, indices } => {
                self.0.push(5);
                self.uint((*axis).into());
                self.list(indices);
            }
            Move::Expand(shape) => {
                self.0.push(6);
                self.list(shape);
            }
        }
    }
}

fn tag(op: &Op) -> u8 {
    match op {
        Op::Constant { .. } => 0,
        Op::Linear(_) => 1,
        Op::MatMul => 2,
        Op::Requant(_) => 3,
        Op::Sum { .. } => 4,
        Op::Product => 5,
        Op::Extreme(_) => 6,
        Op::Pool { .. } => 7,
        Op::Reduce { .. } => 8,
        Op::Function(_) => 9,
        Op::Divide { .. } => 10,
        Op::Move(_) => 11,
        Op::ArgExtreme { .. } => 12,
        Op::Compare(_) => 13,
        Op::Select => 14,
        Op::Lookup { .. } => 15,
        Op::OneHot { .. } => 16,
    }
}
