//! Force an answer to be JSON, or JSON of a schema.
//!
//! A [`Grammar`] is compiled from the request; a [`Machine`] then reads the answer byte by byte and says which bytes
//! may follow. The engine only samples tokens the machine accepts. The machine also knows the fewest bytes that
//! would complete the answer ([`Machine::bytes_to_close`]), so that a length limit ends in valid JSON wherever the
//! limit allows any.
//!
//! The form is compact: one optional space after `:` and `,`, properties in the order the parsed schema
//! lists them (by name). That is a subset of what a
//! schema permits, so every answer satisfies the schema; keywords that cannot be enforced are refused, never ignored.

mod schema;

pub use schema::SchemaError;

use serde_json::Value;

/// Deepest nesting of arrays and objects in an answer.
const DEPTH_MAX: usize = 16;
/// Longest number, in characters: every such integer fits 64 bits.
const NUMBER_LEN_MAX: u8 = 18;

type NodeId = usize;

/// A compiled description of permitted texts.
#[derive(Debug)]
pub struct Grammar {
    /// Parts come before what they are part of.
    nodes: Vec<Node>,
    /// Fewest bytes of each node.
    least: Vec<usize>,
    root: NodeId,
}

#[derive(Debug)]
enum Node {
    /// Exactly these bytes.
    Literal(Vec<u8>),
    Text,
    Number {
        integer: bool,
    },
    /// Any JSON value.
    Any,
    AnyOf(Vec<NodeId>),
    /// All of these, one after the other.
    Sequence(Vec<NodeId>),
    /// Named properties in order.
    Record(Vec<Property>),
    /// Any keys, values of one kind.
    Map(NodeId),
    List {
        item: NodeId,
        min: usize,
        max: usize,
    },
}

#[derive(Debug)]
struct Property {
    /// The key as a JSON string, quotes included.
    key: Vec<u8>,
    value: NodeId,
    required: bool,
}

impl Grammar {
    /// Any JSON object.
    #[must_use]
    pub fn json_object() -> Self {
        Self::finish(vec![Node::Any, Node::Map(0)], 1)
    }

    /// Values of a JSON Schema.
    ///
    /// # Errors
    /// [`SchemaError`] naming the keyword that cannot be enforced.
    pub fn schema(schema: &Value) -> Result<Self, SchemaError> {
        let mut nodes = Vec::new();
        let root = schema::compile(schema, &mut nodes)?;
        Ok(Self::finish(nodes, root))
    }

    /// A call of one of `functions`, each a name and the schema of its arguments:
    /// `{"name": "…", "arguments": {…}}`.
    ///
    /// # Errors
    /// [`SchemaError`] of the first function that cannot be enforced.
    pub fn function_call<'f>(
        functions: impl IntoIterator<Item = (&'f str, &'f Value)>,
    ) -> Result<Self, SchemaError> {
        let mut nodes = Vec::new();
        let push = |nodes: &mut Vec<Node>, node| {
            nodes.push(node);
            nodes.len() - 1
        };
        let mut calls = Vec::new();
        for (name, parameters) in functions {
            let head = format!("{{\"name\": {}, \"arguments\": ", Value::from(name));
            let head = push(&mut nodes, Node::Literal(head.into_bytes()));
            let arguments = if parameters.is_null() {
                let any = push(&mut nodes, Node::Any);
                push(&mut nodes, Node::Map(any))
            } else {
                schema::compile(parameters, &mut nodes)?
            };
            let tail = push(&mut nodes, Node::Literal(b"}".to_vec()));
            calls.push(push(&mut nodes, Node::Sequence(vec![head, arguments, tail])));
        }
        let root = push(&mut nodes, Node::AnyOf(calls));
        Ok(Self::finish(nodes, root))
    }

    fn finish(nodes: Vec<Node>, root: NodeId) -> Self {
        let mut grammar = Self { nodes: Vec::new(), least: Vec::new(), root };
        for node in nodes {
            let least = grammar.least_of(&node);
            grammar.least.push(least);
            grammar.nodes.push(node);
        }
        grammar
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id).unwrap_or(&Node::Any)
    }

    /// Fewest bytes of a value of this node.
    fn least(&self, id: NodeId) -> usize {
        self.least.get(id).copied().unwrap_or(1)
    }

    fn least_of(&self, node: &Node) -> usize {
        match node {
            Node::Literal(bytes) => bytes.len(),
            Node::Text | Node::Map(_) => 2,
            Node::Number { .. } | Node::Any => 1,
            Node::AnyOf(ids) => ids.iter().map(|&id| self.least(id)).min().unwrap_or(0),
            Node::Sequence(ids) => ids.iter().map(|&id| self.least(id)).sum(),
            Node::Record(properties) => 2 + self.least_properties(properties, false),
            Node::List { item, min, .. } => 2 + min * self.least(*item) + min.saturating_sub(1),
        }
    }

    /// Fewest bytes of the required ones among `properties`, commas and colons included.
    fn least_properties(&self, properties: &[Property], after_another: bool) -> usize {
        let mut bytes = 0;
        let mut comma = usize::from(after_another);
        for property in properties.iter().filter(|property| property.required) {
            bytes += comma + property.key.len() + 1 + self.least(property.value);
            comma = 1;
        }
        bytes
    }
}

/// Reads an answer byte by byte. Cheap to clone: that is how a candidate token is tried.
#[derive(Clone, Debug)]
pub struct Machine<'g> {
    grammar: &'g Grammar,
    /// Every way the bytes so far can be read; more than one only where alternatives share a beginning.
    threads: Vec<Vec<Frame>>,
}

/// What a reading expects next; the last frame of a thread is the innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Value(NodeId),
    Literal {
        node: NodeId,
        at: usize,
    },
    /// The rest of a sequence, from this part on.
    Sequence {
        node: NodeId,
        at: usize,
    },
    Text(TextState),
    Number {
        state: NumberState,
        integer: bool,
        len: u8,
    },
    /// A record whose properties from `next` on are to come.
    Record {
        node: NodeId,
        next: usize,
        any: bool,
    },
    /// The key of property `property` of a record, from byte `at` on.
    RecordKey {
        node: NodeId,
        property: usize,
        at: usize,
    },
    Map {
        node: NodeId,
        any: bool,
    },
    List {
        node: NodeId,
        len: usize,
    },
    Space,
    Byte(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextState {
    Plain,
    Escape,
    /// Hex digits of `\uXXXX` still to come.
    Hex(u8),
    /// UTF-8 continuation bytes still to come, and the bounds of the next one.
    Continuation {
        left: u8,
        low: u8,
        high: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberState {
    Start,
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    E,
    ESign,
    Exponent,
}

impl NumberState {
    const fn is_complete(self) -> bool {
        matches!(self, Self::Zero | Self::Digits | Self::Fraction | Self::Exponent)
    }
}

/// What reading a byte does to a frame.
enum Step {
    /// The byte cannot come here.
    No,
    /// The byte was read; these frames take the frame's place (innermost last).
    Read(Vec<Frame>),
    /// The frame ends before the byte.
    Skip,
    /// These frames take the frame's place, each alternative its own, and the byte is read again.
    Become(Vec<Vec<Frame>>),
}

impl<'g> Machine<'g> {
    /// Starts reading.
    #[must_use]
    pub fn new(grammar: &'g Grammar) -> Self {
        Self { grammar, threads: vec![vec![Frame::Value(grammar.root)]] }
    }

    /// Reads `bytes`; says whether they can come here. After a refusal the machine is of no further use.
    #[must_use]
    pub fn accept(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().all(|&byte| {
            let mut next = Vec::new();
            for thread in std::mem::take(&mut self.threads) {
                self.step(thread, byte, &mut next);
            }
            self.threads = next;
            !self.threads.is_empty()
        })
    }

    /// Whether the text read so far is a complete answer.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.threads.iter().any(|thread| match thread.as_slice() {
            [] => true,
            [Frame::Number { state, .. }] => state.is_complete(),
            _ => false,
        })
    }

    /// Whether nothing may follow.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(Vec::is_empty)
    }

    /// Fewest bytes that complete the answer from here. At every point where it is above zero,
    /// some permitted byte lowers it by one.
    #[must_use]
    pub fn bytes_to_close(&self) -> usize {
        self.threads
            .iter()
            .map(|thread| thread.iter().map(|&frame| self.frame_least(frame)).sum())
            .min()
            .unwrap_or(0)
    }

    fn frame_least(&self, frame: Frame) -> usize {
        match frame {
            Frame::Value(node) => self.grammar.least(node),
            Frame::Literal { node, at } => self.grammar.least(node) - at,
            Frame::Sequence { node, at } => match self.grammar.node(node) {
                Node::Sequence(parts) => {
                    parts.iter().skip(at).map(|&part| self.grammar.least(part)).sum()
                }
                _ => 0,
            },
            Frame::Text(TextState::Plain) => 1,
            Frame::Text(TextState::Escape) => 2,
            Frame::Text(TextState::Hex(left)) => usize::from(left) + 1,
            Frame::Text(TextState::Continuation { left, .. }) => usize::from(left) + 1,
            Frame::Number { state, .. } => usize::from(!state.is_complete()),
            Frame::Record { node, next, any } => match self.grammar.node(node) {
                Node::Record(properties) => {
                    1 + self
                        .grammar
                        .least_properties(properties.get(next..).unwrap_or_default(), any)
                }
                _ => 1,
            },
            Frame::RecordKey { node, property, at } => match self.grammar.node(node) {
                Node::Record(properties) => properties.get(property).map_or(0, |property| {
                    property.key.len() - at + 1 + self.grammar.least(property.value)
                }),
                _ => 0,
            },
            Frame::Map { .. } => 1,
            Frame::List { node, len } => match self.grammar.node(node) {
                Node::List { item, min, .. } => {
                    let missing = min.saturating_sub(len);
                    let commas = if len == 0 { missing.saturating_sub(1) } else { missing };
                    1 + missing * self.grammar.least(*item) + commas
                }
                _ => 1,
            },
            Frame::Space => 0,
            Frame::Byte(_) => 1,
        }
    }

    /// Reads `byte` in one thread, adding every way to do so to `next`.
    fn step(&self, mut thread: Vec<Frame>, byte: u8, next: &mut Vec<Vec<Frame>>) {
        while let Some(frame) = thread.pop() {
            match self.step_frame(frame, byte, thread.len()) {
                Step::No => return,
                Step::Skip => {}
                Step::Read(frames) => {
                    thread.extend(frames);
                    next.push(thread);
                    return;
                }
                Step::Become(alternatives) => {
                    for frames in alternatives {
                        let mut branch = thread.clone();
                        branch.extend(frames);
                        self.step(branch, byte, next);
                    }
                    return;
                }
            }
        }
    }

    fn step_frame(&self, frame: Frame, byte: u8, depth: usize) -> Step {
        match frame {
            Frame::Value(node) => self.begin(node, byte, depth),
            Frame::Literal { node, at } => match self.grammar.node(node) {
                Node::Literal(bytes) => {
                    read_literal(bytes, at, byte, |at| Frame::Literal { node, at })
                }
                _ => Step::No,
            },
            Frame::Sequence { node, at } => match self.grammar.node(node) {
                Node::Sequence(parts) => match parts.get(at) {
                    // No frame stays for "nothing more": an empty thread is a finished answer.
                    Some(&part) if at + 1 == parts.len() => {
                        Step::Become(vec![vec![Frame::Value(part)]])
                    }
                    Some(&part) => Step::Become(vec![vec![
                        Frame::Sequence { node, at: at + 1 },
                        Frame::Value(part),
                    ]]),
                    None => Step::Skip,
                },
                _ => Step::No,
            },
            Frame::Text(state) => read_text(state, byte),
            Frame::Number { state, integer, len } => read_number(state, integer, len, byte),
            Frame::Record { node, next, any } => self.record(node, next, any, byte),
            Frame::RecordKey { node, property, at } => match self.grammar.node(node) {
                Node::Record(properties) => match properties.get(property) {
                    Some(found)
                        if at + 1 == found.key.len() && found.key.get(at) == Some(&byte) =>
                    {
                        Step::Read(vec![Frame::Value(found.value), Frame::Space, Frame::Byte(b':')])
                    }
                    Some(found) => read_literal(&found.key, at, byte, |at| Frame::RecordKey {
                        node,
                        property,
                        at,
                    }),
                    None => Step::No,
                },
                _ => Step::No,
            },
            Frame::Map { node, any } => self.map(node, any, byte),
            Frame::List { node, len } => self.list(node, len, byte),
            Frame::Space if byte == b' ' => Step::Read(vec![]),
            Frame::Space => Step::Skip,
            Frame::Byte(expected) if byte == expected => Step::Read(vec![]),
            Frame::Byte(_) => Step::No,
        }
    }

    /// Begins a value.
    fn begin(&self, node: NodeId, byte: u8, depth: usize) -> Step {
        // A container costs about three frames a level (its own, a value's, a separator's).
        let too_deep = depth > 3 * DEPTH_MAX;
        match self.grammar.node(node) {
            Node::Literal(_) => Step::Become(vec![vec![Frame::Literal { node, at: 0 }]]),
            Node::Text if byte == b'"' => Step::Read(vec![Frame::Text(TextState::Plain)]),
            Node::Number { integer } => Step::Become(vec![vec![Frame::Number {
                state: NumberState::Start,
                integer: *integer,
                len: 0,
            }]]),
            Node::AnyOf(ids) => {
                Step::Become(ids.iter().map(|&id| vec![Frame::Value(id)]).collect())
            }
            Node::Sequence(_) => Step::Become(vec![vec![Frame::Sequence { node, at: 0 }]]),
            Node::Record(_) if byte == b'{' => {
                Step::Read(vec![Frame::Record { node, next: 0, any: false }])
            }
            Node::Map(_) if byte == b'{' => Step::Read(vec![Frame::Map { node, any: false }]),
            Node::List { .. } if byte == b'[' => Step::Read(vec![Frame::List { node, len: 0 }]),
            Node::Any => match byte {
                b'"' => Step::Read(vec![Frame::Text(TextState::Plain)]),
                b'{' if !too_deep => Step::Read(vec![Frame::Map { node, any: false }]),
                b'[' if !too_deep => Step::Read(vec![Frame::List { node, len: 0 }]),
                b't' => Step::Read(word(b"rue")),
                b'f' => Step::Read(word(b"alse")),
                b'n' => Step::Read(word(b"ull")),
                _ => Step::Become(vec![vec![Frame::Number {
                    state: NumberState::Start,
                    integer: false,
                    len: 0,
                }]]),
            },
            Node::Text | Node::Record(_) | Node::Map(_) | Node::List { .. } => Step::No,
        }
    }

    fn record(&self, node: NodeId, next: usize, any: bool, byte: u8) -> Step {
        let Node::Record(properties) = self.grammar.node(node) else { return Step::No };
        let rest = properties.get(next..).unwrap_or_default();
        let may_end = rest.iter().all(|property| !property.required);
        if byte == b'}' {
            return if may_end { Step::Read(vec![]) } else { Step::No };
        }
        // Any of the optional ones up to and including the next required one may come.
        let reachable = rest
            .iter()
            .position(|property| property.required)
            .map_or(rest.len(), |required| required + 1);
        let keys = (next..next + reachable).map(|property| {
            vec![
                Frame::Record { node, next: property + 1, any: true },
                Frame::RecordKey { node, property, at: 0 },
            ]
        });
        if !any {
            return Step::Become(keys.collect());
        }
        if byte != b',' || reachable == 0 {
            return Step::No;
        }
        // The comma is read; which key follows is still open, so it is read once per alternative.
        Step::Become(
            keys.map(|mut frames| {
                frames.extend([Frame::Space, Frame::Byte(b',')]);
                frames
            })
            .collect(),
        )
    }

    fn map(&self, node: NodeId, any: bool, byte: u8) -> Step {
        let value = match self.grammar.node(node) {
            Node::Map(value) => *value,
            _ => node,
        };
        let entry = [
            Frame::Map { node, any: true },
            Frame::Value(value),
            Frame::Space,
            Frame::Byte(b':'),
            Frame::Text(TextState::Plain),
        ];
        match (byte, any) {
            (b'}', _) => Step::Read(vec![]),
            (b'"', false) => Step::Read(entry.to_vec()),
            (b',', true) => {
                let mut frames = entry.to_vec();
                frames.extend([Frame::Byte(b'"'), Frame::Space]);
                Step::Read(frames)
            }
            _ => Step::No,
        }
    }

    fn list(&self, node: NodeId, len: usize, byte: u8) -> Step {
        let (item, min, max) = match self.grammar.node(node) {
            Node::List { item, min, max } => (*item, *min, *max),
            _ => (node, 0, usize::MAX),
        };
        if byte == b']' {
            return if len >= min { Step::Read(vec![]) } else { Step::No };
        }
        if len >= max {
            return Step::No;
        }
        let after = Frame::List { node, len: len + 1 };
        match (len, byte) {
            (0, _) => Step::Become(vec![vec![after, Frame::Value(item)]]),
            (_, b',') => Step::Read(vec![after, Frame::Value(item), Frame::Space]),
            _ => Step::No,
        }
    }
}

/// The rest of `true`, `false` or `null`, innermost last.
fn word(rest: &[u8]) -> Vec<Frame> {
    rest.iter().rev().map(|&byte| Frame::Byte(byte)).collect()
}

fn read_literal(bytes: &[u8], at: usize, byte: u8, then: impl Fn(usize) -> Frame) -> Step {
    match bytes.get(at) {
        None => Step::Skip,
        Some(&expected) if expected != byte => Step::No,
        Some(_) if at + 1 == bytes.len() => Step::Read(vec![]),
        Some(_) => Step::Read(vec![then(at + 1)]),
    }
}

fn read_text(state: TextState, byte: u8) -> Step {
    let go = |state| Step::Read(vec![Frame::Text(state)]);
    let continuation = |left, low, high| go(TextState::Continuation { left, low, high });
    match state {
        TextState::Plain => match byte {
            b'"' => Step::Read(vec![]),
            b'\\' => go(TextState::Escape),
            0x20..=0x7e => go(TextState::Plain),
            // The well-formed UTF-8 byte sequences (Unicode, table 3-7).
            0xc2..=0xdf => continuation(1, 0x80, 0xbf),
            0xe0 => continuation(2, 0xa0, 0xbf),
            0xe1..=0xec | 0xee..=0xef => continuation(2, 0x80, 0xbf),
            0xed => continuation(2, 0x80, 0x9f),
            0xf0 => continuation(3, 0x90, 0xbf),
            0xf1..=0xf3 => continuation(3, 0x80, 0xbf),
            0xf4 => continuation(3, 0x80, 0x8f),
            _ => Step::No,
        },
        // Surrogate escapes could come unpaired, which many parsers refuse; so `\u` starts with 0.
        TextState::Escape => match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => go(TextState::Plain),
            b'u' => go(TextState::Hex(4)),
            _ => Step::No,
        },
        TextState::Hex(4) if byte != b'0' => Step::No,
        TextState::Hex(left) if byte.is_ascii_hexdigit() => {
            go(if left == 1 { TextState::Plain } else { TextState::Hex(left - 1) })
        }
        TextState::Hex(_) => Step::No,
        TextState::Continuation { left, low, high } if (low..=high).contains(&byte) => {
            if left == 1 { go(TextState::Plain) } else { continuation(left - 1, 0x80, 0xbf) }
        }
        TextState::Continuation { .. } => Step::No,
    }
}

fn read_number(state: NumberState, integer: bool, len: u8, byte: u8) -> Step {
    use NumberState::{Digits, E, ESign, Exponent, Fraction, Minus, Point, Start, Zero};

    let next = match (state, byte) {
        (Start, b'-') => Some(Minus),
        (Start | Minus, b'0') => Some(Zero),
        (Start | Minus, b'1'..=b'9') | (Digits, b'0'..=b'9') => Some(Digits),
        (Zero | Digits, b'.') if !integer => Some(Point),
        (Point | Fraction, b'0'..=b'9') => Some(Fraction),
        (Zero | Digits | Fraction, b'e' | b'E') if !integer => Some(E),
        (E, b'+' | b'-') => Some(ESign),
        // One digit keeps every number finite.
        (E | ESign, b'0'..=b'9') => Some(Exponent),
        _ => None,
    };
    // The last character must leave a complete number.
    let fits = |next: NumberState| len + 1 < NUMBER_LEN_MAX || next.is_complete();
    match next {
        Some(next) if len < NUMBER_LEN_MAX && fits(next) => {
            Step::Read(vec![Frame::Number { state: next, integer, len: len + 1 }])
        }
        _ if state.is_complete() => Step::Skip,
        _ => Step::No,
    }
}

#[cfg(test)]
mod tests;
