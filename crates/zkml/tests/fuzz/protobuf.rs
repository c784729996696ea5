//! Change protobuf messages so that they stay messages.

use og_testkit::fuzz::{Random, interesting, mutate};

/// Depth to which a message is taken apart.
const DEPTH: usize = 12;

/// A message taken apart: fields in order, by number, nested where that is possible.
pub type Message = Vec<(u64, Part)>;

/// What a field holds.
#[derive(Clone)]
pub enum Part {
    Varint(u64),
    /// Wire type, and 4 or 8 bytes.
    Fixed(u8, Vec<u8>),
    Bytes(Vec<u8>),
    Nested(Message),
}

/// A message with one to four changes.
pub fn mutated(original: &[u8], all: &[Vec<u8>], random: &mut Random) -> Option<Vec<u8>> {
    let mut message = parse(original)?;
    let other = parse(random.choose::<Vec<u8>>(all)).unwrap_or_default();
    for _ in 0..1 << random.below(3) {
        change(&mut message, &other, random);
    }
    Some(write(&message))
}

/// Takes a message apart.
pub fn parse(bytes: &[u8]) -> Option<Message> {
    parse_to(bytes, DEPTH)
}

fn parse_to(mut bytes: &[u8], depth: usize) -> Option<Message> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = take_varint(&mut bytes)?;
        let part = match tag & 7 {
            0 => Part::Varint(take_varint(&mut bytes)?),
            wire @ (1 | 5) => {
                let (fixed, rest) = bytes.split_at_checked(if wire == 1 { 8 } else { 4 })?;
                bytes = rest;
                Part::Fixed(wire as u8, fixed.to_vec())
            }
            2 => {
                let length = usize::try_from(take_varint(&mut bytes)?).ok()?;
                let (inner, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                match parse_to(inner, depth.checked_sub(1)?) {
                    Some(fields) if !fields.is_empty() => Part::Nested(fields),
                    _ => Part::Bytes(inner.to_vec()),
                }
            }
            _ => return None,
        };
        if tag >> 3 == 0 {
            return None;
        }
        fields.push((tag >> 3, part));
    }
    Some(fields)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Puts a message together.
pub fn write(message: &[(u64, Part)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, part) in message {
        let tag = number << 3;
        match part {
            Part::Varint(value) => {
                put_varint(&mut out, tag);
                put_varint(&mut out, *value);
            }
            Part::Fixed(wire, bytes) => {
                put_varint(&mut out, tag | u64::from(*wire));
                out.extend(bytes);
            }
            Part::Bytes(bytes) => put_bytes(&mut out, tag, bytes),
            Part::Nested(fields) => put_bytes(&mut out, tag, &write(fields)),
        }
    }
    out
}

fn put_bytes(out: &mut Vec<u8>, tag: u64, bytes: &[u8]) {
    put_varint(out, tag | 2);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Changes one place of a message; another one lends fields.
fn change(message: &mut Message, other: &[(u64, Part)], random: &mut Random) {
    if message.is_empty() {
        return message.extend_from_slice(other);
    }
    let at = random.below(message.len());
    match random.below(12) {
        0 => {
            let copy = message[at].clone();
            message.insert(random.below(message.len() + 1), copy);
        }
        1 if random.flag() => drop(message.remove(at)),
        2 => {
            let to = random.below(message.len());
            message.swap(at, to);
        }
        3 if random.flag() => message[at].0 = 1 + random.below(32) as u64,
        4 => {
            // Operators, names, attributes, tensors of another model.
            let mut found = Vec::new();
            lent(other, message[at].0, &mut found);
            if !found.is_empty() {
                message[at].1 = (*random.choose(&found)).clone();
            }
        }
        _ => match &mut message[at].1 {
            Part::Varint(value) => {
                *value = match random.below(4) {
                    0 => interesting(random),
                    1 => value.wrapping_add(1),
                    2 => value.wrapping_sub(1),
                    _ => random.below(40) as u64,
                }
            }
            Part::Fixed(_, bytes) => {
                let (number, length) = (interesting(random).to_le_bytes(), bytes.len());
                bytes.copy_from_slice(&number[..length]);
            }
            Part::Bytes(bytes) => {
                let pieces = [bytes.clone()];
                mutate(bytes, &pieces, random);
            }
            Part::Nested(inner) => change(inner, other, random),
        },
    }
}

/// All fields of this number in a message, at any depth.
fn lent<'a>(message: &'a [(u64, Part)], number: u64, found: &mut Vec<&'a Part>) {
    for (each, part) in message {
        if *each == number {
            found.push(part);
        }
        if let Part::Nested(inner) = part {
            lent(inner, number, found);
        }
    }
}
