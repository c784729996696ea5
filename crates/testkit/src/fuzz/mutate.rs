//! Change bytes without knowing what they mean.

/// Pseudo-random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.number() % bound).unwrap_or_default()
    }

    /// True or false.
    pub fn flag(&mut self) -> bool {
        self.number() & 1 == 1
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }

    /// One of some things.
    ///
    /// # Panics
    /// When there is nothing to choose from.
    pub fn choose<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// A number near which programs break: a power of two, or one beside it, or beside its negative.
pub fn interesting(random: &mut Random) -> u64 {
    let power = 1_u64 << random.below(64);
    match random.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => power,
        3 => power - 1,
        4 => power + 1,
        _ => power.wrapping_neg(),
    }
}

/// Makes one to four changes; `others` are inputs to take pieces from.
pub fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    for _ in 0..1 << random.below(3) {
        change(bytes, others, random);
    }
}

/// Makes one change.
fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    // Half of the changes fall on the first bytes, which steer all the rest.
    let reach = if random.flag() { bytes.len() } else { bytes.len().min(256) };
    let at = random.below(reach);
    let end = bytes.len().min(at + 1 + random.below(32));
    if at == end {
        return bytes.push(random.byte());
    }
    match random.below(12) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.byte(),
        2 => bytes[at] = *random.choose(&[0, 1, 0x7f, 0x80, 0xfe, 0xff]),
        3 => integer(&mut bytes[at..], random, |value, random| {
            let by = random.number() % 16 + 1;
            if random.flag() { value.wrapping_add(by) } else { value.wrapping_sub(by) }
        }),
        4 => integer(&mut bytes[at..], random, |_, random| interesting(random)),
        5 | 6 => varint(bytes, at, random),
        7 => bytes.truncate(at),
        8 => bytes.extend((0..=random.below(16)).map(|_| random.byte())),
        9 => {
            // A range once more, here or elsewhere.
            let piece = bytes[at..end].to_vec();
            let to = if random.flag() { at } else { random.below(bytes.len()) };
            bytes.splice(to..to, piece);
        }
        10 => drop(bytes.drain(at..end)),
        _ => {
            let other: &Vec<u8> = random.choose(others);
            splice(bytes, at, end, other, random);
        }
    }
}

/// Changes a little-endian integer of 1, 2, 4 or 8 bytes at the start of `bytes`.
fn integer(bytes: &mut [u8], random: &mut Random, to: impl Fn(u64, &mut Random) -> u64) {
    let width = (1 << random.below(4)).min(bytes.len());
    let mut whole = [0; 8];
    whole[..width].copy_from_slice(&bytes[..width]);
    let changed = to(u64::from_le_bytes(whole), random).to_le_bytes();
    bytes[..width].copy_from_slice(&changed[..width]);
}

/// Replaces the variable-length integer (LEB128) at a place; it may become longer or shorter.
fn varint(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let length = bytes[at..].iter().take(9).take_while(|&&byte| byte >= 0x80).count() + 1;
    let end = bytes.len().min(at + length);
    let digits = bytes[at..end].iter().take(9).rev();
    let value = digits.fold(0_u64, |value, &byte| value << 7 | u64::from(byte & 0x7f));
    let mut value = match random.below(4) {
        0 => interesting(random),
        1 => value.wrapping_add(1),
        2 => value.wrapping_sub(1),
        _ => random.number() >> random.below(64),
    };
    let mut coded = Vec::new();
    while value >= 0x80 {
        coded.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    coded.push(value.to_le_bytes()[0]);
    bytes.splice(at..end, coded);
}

/// Puts a piece of another input in place of a range, or all that follows a place of it in place of all that follows.
fn splice(bytes: &mut Vec<u8>, at: usize, end: usize, other: &[u8], random: &mut Random) {
    let from = if random.flag() { at.min(other.len()) } else { random.below(other.len()) };
    if random.below(4) == 0 {
        bytes.truncate(at);
        bytes.extend_from_slice(&other[from..]);
    } else {
        let piece = &other[from..other.len().min(from + 1 + random.below(32))];
        bytes.splice(at..end, piece.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_of_many_different_inputs() {
        let corpus = [b"one input".to_vec(), vec![0xff; 40], Vec::new()];
        let draw = |seed| {
            let mut random = Random::new(seed);
            let mutated = (0..3000).map(|i| {
                let mut bytes = corpus[i % 3].clone();
                mutate(&mut bytes, &corpus, &mut random);
                bytes
            });
            mutated.collect::<Vec<_>>()
        };
        assert_eq!(draw(5), draw(5));
        let different: std::collections::BTreeSet<_> = draw(5).into_iter().chain(draw(6)).collect();
        assert!(different.len() > 3000, "{}", different.len());
        assert!(different.iter().any(Vec::is_empty), "the empty input is among them");
        assert!(different.iter().any(|bytes| bytes.len() > 60));
    }
}
