use super::CodecError;
use crate::qir::{
    Axis, Comparison, Extremum, Form, Function, Linear, MAX_NAME, Move, Op, Padding, PoolKind,
    Requant, Window,
};

/// Reads canonical bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        bytes: &'a [u8],
        magic: &[u8; 4],
        what: &'static str,
        limit: usize,
    ) -> Result<Self, CodecError> {
        if bytes.len() > limit {
            return Err(CodecError::TooLong { got: bytes.len(), limit });
        }
        if !bytes.starts_with(magic) {
            return Err(CodecError::Magic { what });
        }
        Ok(Self { bytes, at: magic.len() })
    }

    pub(super) fn rest(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn invalid(&self, what: &'static str) -> CodecError {
        CodecError::Value { what, at: self.at }
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], CodecError> {
        let end = self.at.checked_add(n);
        let bytes = end
            .and_then(|end| self.bytes.get(self.at..end))
            .ok_or(CodecError::Truncated { at: self.at })?;
        self.at += n;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        let at = self.at;
        self.take(1)?.first().copied().ok_or(CodecError::Truncated { at })
    }

    fn uint(&mut self) -> Result<u64, CodecError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(self.invalid("integer"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 {
                    Err(self.invalid("integer"))
                } else {
                    Ok(value)
                };
            }
        }
        Err(self.invalid("integer"))
    }

    pub(super) fn int(&mut self) -> Result<i64, CodecError> {
        let v = self.uint()?;
        Ok((v >> 1).cast_signed() ^ -(v & 1).cast_signed())
    }

    fn narrow<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, CodecError> {
        let v = self.uint()?;
        T::try_from(v).map_err(|_| self.invalid(what))
    }

    pub(super) fn size(&mut self) -> Result<usize, CodecError> {
        self.narrow("size")
    }

    /// A length of a list whose elements take at least a byte each: no more than the bytes that are left.
    pub(super) fn length(&mut self) -> Result<usize, CodecError> {
        let n = self.size()?;
        if n > self.rest() { Err(CodecError::Truncated { at: self.at }) } else { Ok(n) }
    }

    fn u32(&mut self) -> Result<u32, CodecError> {
        self.narrow("integer of 32 bits")
    }

    pub(super) fn exponent(&mut self) -> Result<i8, CodecError> {
        let v = self.int()?;
        i8::try_from(v).map_err(|_| self.invalid("exponent"))
    }

    fn flag(&mut self) -> Result<bool, CodecError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.invalid("flag")),
        }
    }

    pub(super) fn string(&mut self) -> Result<String, CodecError> {
        let n = self.length()?;
        if n > MAX_NAME {
            return Err(self.invalid("name"));
        }
        let bytes = self.take(n)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| self.invalid("name"))
    }

    pub(super) fn list(&mut self) -> Result<Vec<u32>, CodecError> {
        (0..self.length()?).map(|_| self.u32()).collect()
    }

    fn ints(&mut self) -> Result<Vec<i64>, CodecError> {
        (0..self.length()?).map(|_| self.int()).collect()
    }

    /// One of a few values, written as its number.
    fn choice<T: Copy>(&mut self, all: &[T], what: &'static str) -> Result<T, CodecError> {
        let i = self.byte()?;
        all.get(usize::from(i)).copied().ok_or_else(|| self.invalid(what))
    }

    fn extremum(&mut self) -> Result<Extremum, CodecError> {
        self.choice(&[Extremum::Max, Extremum::Min], "extremum")
    }

    fn pool_kind(&mut self) -> Result<PoolKind, CodecError> {
        self.choice(&[PoolKind::Sum, PoolKind::Max, PoolKind::Min], "kind of pool")
    }

    pub(super) fn op(&mut self) -> Result<Op, CodecError> {
        Ok(match self.byte()? {
            0 => Op::Constant { shape: self.list()?, values: self.ints()? },
            1 => Op::Linear(self.linear()?),
            2 => Op::MatMul,
            3 => {
                let (multipliers, axis) = (self.ints()?, self.u32()?);
                Op::Requant(Requant {
                    multipliers,
                    axis,
                    shift: self.byte()?,
                    lo: self.int()?,
                    hi: self.int()?,
                })
            }
            4 => Op::Sum { coefficients: self.ints()? },
            5 => Op::Product,
            6 => Op::Extreme(self.extremum()?),
            7 => {
                let kind = self.pool_kind()?;
                let mut windows = Vec::new();
                for _ in 0..self.length()? {
                    let (kernel, stride, dilation) = (self.u32()?, self.u32()?, self.u32()?);
                    windows.push(Window {
                        kernel,
                        stride,
                        dilation,
                        before: self.u32()?,
                        after: self.u32()?,
                    });
                }
                Op::Pool { kind, windows }
            }
            8 => Op::Reduce { kind: self.pool_kind()?, axes: self.list()?, keep: self.flag()? },
            9 => Op::Function(self.choice(&Function::ALL, "function")?),
            10 => Op::Divide { shift: self.byte()?, lo: self.int()?, hi: self.int()? },
            11 => Op::Move(self.moved()?),
            12 => Op::ArgExtreme {
                extremum: self.extremum()?,
                axis: self.u32()?,
                keep: self.flag()?,
                last: self.flag()?,
            },
            13 => Op::Compare(self.choice(
                &[Comparison::Less, Comparison::LessOrEqual, Comparison::Equal],
                "comparison",
            )?),
            14 => Op::Select,
            15 => Op::Lookup { axis: self.u32()? },
            16 => Op::OneHot { depth: self.u32()? },
            _ => return Err(self.invalid("operator")),
        })
    }

    fn linear(&mut self) -> Result<Linear, CodecError> {
        let form = match self.byte()? {
            0 => Form::Dense { rows: self.u32()?, inner: self.u32()?, outer: self.u32()? },
            1 => {
                let (batch, in_channels, out_channels, groups) =
                    (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
                let mut axes = Vec::new();
                for _ in 0..self.length()? {
                    let (input, kernel, stride) = (self.u32()?, self.u32()?, self.u32()?);
                    axes.push(Axis {
                        input,
                        kernel,
                        stride,
                        dilation: self.u32()?,
                        before: self.u32()?,
                        after: self.u32()?,
                    });
                }
                Form::Conv { batch, in_channels, out_channels, groups, axes }
            }
            _ => return Err(self.invalid("form")),
        };
        Ok(Linear { form, weight_bits: self.byte()?, bias_bits: self.byte()?, bound: self.int()? })
    }

    fn moved(&mut self) -> Result<Move, CodecError> {
        Ok(match self.byte()? {
            0 => Move::Reshape(self.list()?),
            1 => Move::Transpose(self.list()?),
            2 => {
                let starts = self.list()?;
                let steps = self
                    .ints()?
                    .into_iter()
                    .map(i32::try_from)
                    .collect::<Result<_, _>>()
                    .map_err(|_| self.invalid("step"))?;
                Move::Slice { starts, steps, sizes: self.list()? }
            }
            3 => Move::Concat { axis: self.u32()? },
            4 => {
                let (before, after) = (self.list()?, self.list()?);
                let padding = match self.byte()? {
                    0 => Padding::Constant(self.int()?),
                    1 => Padding::Edge,
                    2 => Padding::Reflect,
                    _ => return Err(self.invalid("padding")),
                };
                Move::Pad { before, after, padding }
            }
            5 => Move::Gather { axis: self.u32()?, indices: self.list()? },
            6 => Move::Expand(self.list()?),
            _ => return Err(self.invalid("move")),
        })
    }

    pub(super) fn end(&self) -> Result<(), CodecError> {
        match self.rest() {
            0 => Ok(()),
            count => Err(CodecError::Trailing { count }),
        }
    }
}
