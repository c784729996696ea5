//! A JSON reader that keeps the text of every number.
//!
//! Python tells `100` from `100.0` and prints integers of any size, so the hash of a request depends on how its
//! numbers were written. Objects keep the order of their keys; of duplicate keys the last value wins, at the
//! place of the first, as in CPython.

use thiserror::Error;

/// One JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Number(Number),
    /// A string, unescaped.
    String(String),
    /// An array.
    Array(Vec<Self>),
    /// An object, in the order of its keys, without duplicates.
    Object(Vec<(String, Self)>),
}

/// A number that remembers its text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Number(String);

/// How much the reader takes in, and whether it knows Python's words for what JSON cannot say.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of text.
    pub bytes_max: usize,
    /// Deepest nesting of arrays and objects.
    pub depth_max: usize,
    /// Most values in all, so that memory stays a small multiple of the text.
    pub items_max: usize,
    /// Accepts the bare words `NaN`, `Infinity` and `-Infinity`, which Python writes and reads.
    pub python_words: bool,
}

impl Limits {
    /// A request body: strict JSON.
    pub const REQUEST: Self =
        Self { bytes_max: 4 << 20, depth_max: 64, items_max: 1 << 18, python_words: false };
}

/// Digits of the longest number; CPython refuses longer integers too.
const NUMBER_BYTES_MAX: usize = 4300;

/// Why text is not one JSON value under the limits. Positions are byte offsets.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Error {
    /// The text is larger than allowed.
    #[error("text of {len} bytes exceeds the limit of {max}")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The text is not UTF-8.
    #[error("text is not UTF-8 at byte {at}")]
    NotUtf8 {
        /// Offset of the first wrong byte.
        at: usize,
    },
    /// The text ends inside a value.
    #[error("text ends inside a value")]
    Truncated,
    /// A character that cannot stand there.
    #[error("unexpected character at byte {at}")]
    Unexpected {
        /// Offset of the character.
        at: usize,
    },
    /// A string holds a raw control character, a wrong escape, or half of a surrogate pair.
    #[error("malformed string at byte {at}")]
    BadString {
        /// Offset of the wrong character or escape.
        at: usize,
    },
    /// A number longer than any that is meant seriously.
    #[error("number of more than {NUMBER_BYTES_MAX} characters at byte {at}")]
    NumberTooLong {
        /// Offset of the number.
        at: usize,
    },
    /// Nesting is deeper than allowed.
    #[error("nesting deeper than {max} at byte {at}")]
    TooDeep {
        /// Offset of the bracket.
        at: usize,
        /// Depth allowed.
        max: usize,
    },
    /// More values than allowed.
    #[error("more than {max} values")]
    TooManyItems {
        /// Values allowed.
        max: usize,
    },
}

/// Reads exactly one JSON value.
///
/// # Errors
/// See [`Error`]; the first fault found is reported.
pub fn parse(text: &[u8], limits: &Limits) -> Result<Value, Error> {
    if text.len() > limits.bytes_max {
        return Err(Error::TooLong { len: text.len(), max: limits.bytes_max });
    }
    let text = core::str::from_utf8(text).map_err(|e| Error::NotUtf8 { at: e.valid_up_to() })?;
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, depth: 0, items: 0, limits };
    let value = reader.value()?;
    reader.skip_space();
    if reader.at < reader.bytes.len() {
        return Err(Error::Unexpected { at: reader.at });
    }
    Ok(value)
}

impl Value {
    /// The value of a key; `None` when it is absent or this is no object.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_object()?.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The value of a key, with `null` taken as absent.
    pub fn get_some(&self, key: &str) -> Option<&Self> {
        self.get(key).filter(|value| !matches!(value, Self::Null))
    }

    /// The entries of an object.
    pub fn as_object(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(entries) => Some(entries),
            _ => None,
        }
    }

    /// The items of an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// A number.
    pub fn as_number(&self) -> Option<&Number> {
        match self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }

    /// What Python's `bool(value)` says.
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(b) => *b,
            Self::Number(number) => number.as_f64() != 0.0,
            Self::String(text) => !text.is_empty(),
            Self::Array(items) => !items.is_empty(),
            Self::Object(entries) => !entries.is_empty(),
        }
    }

    /// Compact JSON with every number as it was read and every key where it stood.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }

    fn write_json(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Self::Number(number) => out.push_str(number.as_str()),
            Self::String(text) => write_json_string(text, out),
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write_json(out);
                }
                out.push(']');
            }
            Self::Object(entries) => {
                out.push('{');
                for (i, (key, value)) in entries.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_json_string(key, out);
                    out.push(':');
                    value.write_json(out);
                }
                out.push('}');
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl Number {
    /// The number as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A number from an integer.
    pub fn from_u64(n: u64) -> Self {
        Self(n.to_string())
    }

    /// Whether Python reads it as `float`: it has a fraction, an exponent, or is one of the bare words.
    pub fn is_float(&self) -> bool {
        self.0.bytes().any(|b| matches!(b, b'.' | b'e' | b'E' | b'N' | b'I'))
    }

    /// The nearest double; infinite beyond the range.
    pub fn as_f64(&self) -> f64 {
        match self.0.as_str() {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            text => text.parse().unwrap_or(f64::NAN),
        }
    }

    /// The value as an unsigned integer; `None` when it is written as a float, is negative or too large.
    pub fn as_u64(&self) -> Option<u64> {
        if self.is_float() { None } else { self.0.parse().ok() }
    }

    /// The value as a signed integer; `None` when it is written as a float or out of range.
    pub fn as_i64(&self) -> Option<i64> {
        if self.is_float() { None } else { self.0.parse().ok() }
    }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    items: usize,
    limits: &'a Limits,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Result<Value, Error> {
        self.items += 1;
        if self.items > self.limits.items_max {
            return Err(Error::TooManyItems { max: self.limits.items_max });
        }
        self.skip_space();
        match self.peek().ok_or(Error::Truncated)? {
            b'{' => self.object(),
            b'[' => self.array(),
            b'"' => Ok(Value::String(self.string()?)),
            b'n' => self.word("null", Value::Null),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'N' if self.limits.python_words => {
                self.word("NaN", Value::Number(Number("NaN".into())))
            }
            b'I' if self.limits.python_words => {
                self.word("Infinity", Value::Number(Number("Infinity".into())))
            }
            b'-' if self.limits.python_words && self.bytes.get(self.at + 1) == Some(&b'I') => {
                self.word("-Infinity", Value::Number(Number("-Infinity".into())))
            }
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(Error::Unexpected { at: self.at }),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Error> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        if word.as_bytes().starts_with(rest) {
            return Err(Error::Truncated);
        }
        Err(Error::Unexpected { at: self.at })
    }

    fn number(&mut self) -> Result<Value, Error> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            Some(_) => return Err(Error::Unexpected { at: self.at }),
            None => return Err(Error::Truncated),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        if self.at - start > NUMBER_BYTES_MAX {
            return Err(Error::NumberTooLong { at: start });
        }
        let text = self.text.get(start..self.at).ok_or(Error::Unexpected { at: start })?;
        Ok(Value::Number(Number(text.to_owned())))
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<(), Error> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start {
            return Ok(());
        }
        if self.at < self.bytes.len() {
            Err(Error::Unexpected { at: self.at })
        } else {
            Err(Error::Truncated)
        }
    }

    fn string(&mut self) -> Result<String, Error> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            // The scan stops at ASCII only, so both ends lie on character boundaries.
            out.push_str(self.text.get(start..self.at).ok_or(Error::BadString { at: start })?);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return Err(Error::BadString { at: self.at }),
                None => return Err(Error::Truncated),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Error> {
        let start = self.at;
        let kind = self.bytes.get(self.at + 1).copied().ok_or(Error::Truncated)?;
        self.at += 2;
        Ok(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(start),
            _ => return Err(Error::BadString { at: start }),
        })
    }

    fn unicode_escape(&mut self, start: usize) -> Result<char, Error> {
        let first = self.hex4(start)?;
        let code = match first {
            0xd800..=0xdbff => {
                if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
                    return Err(Error::BadString { at: start });
                }
                self.at += 2;
                let second = self.hex4(start)?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(Error::BadString { at: start });
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            other => other,
        };
        // Half of a pair is text that no UTF-8 can carry to a model: refused rather than replaced.
        char::from_u32(code).ok_or(Error::BadString { at: start })
    }

    fn hex4(&mut self, start: usize) -> Result<u32, Error> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(Error::BadString { at: start })?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::BadString { at: start });
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| Error::BadString { at: start })
    }

    fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > self.limits.depth_max {
            return Err(Error::TooDeep { at: self.at, max: self.limits.depth_max });
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn array(&mut self) -> Result<Value, Error> {
        self.enter()?;
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                items.push(self.value()?);
                if !self.another(b']')? {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(Value::Array(items))
    }

    fn object(&mut self) -> Result<Value, Error> {
        self.enter()?;
        let mut entries = Vec::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                self.skip_space();
                match self.peek() {
                    Some(b'"') => {}
                    Some(_) => return Err(Error::Unexpected { at: self.at }),
                    None => return Err(Error::Truncated),
                }
                let key = self.string()?;
                self.skip_space();
                match self.peek() {
                    Some(b':') => self.at += 1,
                    Some(_) => return Err(Error::Unexpected { at: self.at }),
                    None => return Err(Error::Truncated),
                }
                entries.push((key, self.value()?));
                if !self.another(b'}')? {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(Value::Object(last_of_duplicates(entries)))
    }

    /// After an item: whether a comma promises another one or the bracket closes.
    fn another(&mut self, close: u8) -> Result<bool, Error> {
        self.skip_space();
        let next = self.peek().ok_or(Error::Truncated)?;
        if next != b',' && next != close {
            return Err(Error::Unexpected { at: self.at });
        }
        self.at += 1;
        Ok(next == b',')
    }
}

/// Keeps of each key its first place and its last value, in O(n log n).
fn last_of_duplicates(entries: Vec<(String, Value)>) -> Vec<(String, Value)> {
    let mut places = std::collections::BTreeMap::new();
    let distinct = entries.iter().all(|(key, _)| places.insert(key.as_str(), ()).is_none());
    if distinct {
        return entries;
    }
    let mut places = std::collections::BTreeMap::new();
    let mut kept: Vec<(String, Value)> = Vec::new();
    for (key, value) in entries {
        match places.get(&key).and_then(|&place: &usize| kept.get_mut(place)) {
            Some(entry) => entry.1 = value,
            None => {
                places.insert(key.clone(), kept.len());
                kept.push((key, value));
            }
        }
    }
    kept
}

fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value, Error> {
        parse(text.as_bytes(), &Limits::REQUEST)
    }

    #[test]
    fn numbers_and_key_order_survive() {
        let text = r#"{"b":1.50,"a":[100,100.0,1E+2,-0,123456789012345678901234567890],"ä":"\u00e9\ud83d\ude00"}"#;
        let value = read(text).unwrap();
        assert_eq!(
            value.to_json(),
            r#"{"b":1.50,"a":[100,100.0,1E+2,-0,123456789012345678901234567890],"ä":"é😀"}"#
        );
        assert_eq!(read(&value.to_json()).unwrap(), value);
    }

    #[test]
    fn of_duplicate_keys_the_last_value_stands_at_the_first_place() {
        assert_eq!(read(r#"{"a":1,"b":2,"a":3}"#).unwrap().to_json(), r#"{"a":3,"b":2}"#);
    }

    #[test]
    fn malformed_text_is_refused_with_the_place() {
        for (text, expected) in [
            ("", Error::Truncated),
            ("{", Error::Truncated),
            ("[1", Error::Truncated),
            ("[1,]", Error::Unexpected { at: 3 }),
            ("{\"a\":1,}", Error::Unexpected { at: 7 }),
            ("{a:1}", Error::Unexpected { at: 1 }),
            ("{\"a\" 1}", Error::Unexpected { at: 5 }),
            ("01", Error::Unexpected { at: 1 }),
            ("1.", Error::Truncated),
            ("1.x", Error::Unexpected { at: 2 }),
            (".5", Error::Unexpected { at: 0 }),
            ("+1", Error::Unexpected { at: 0 }),
            ("-", Error::Truncated),
            ("1e", Error::Truncated),
            ("nul", Error::Truncated),
            ("nulx", Error::Unexpected { at: 0 }),
            ("NaN", Error::Unexpected { at: 0 }),
            ("-Infinity", Error::Unexpected { at: 1 }),
            ("1 2", Error::Unexpected { at: 2 }),
            ("'a'", Error::Unexpected { at: 0 }),
            ("\"a\nb\"", Error::BadString { at: 2 }),
            (r#""\x""#, Error::BadString { at: 1 }),
            (r#""\ud83d""#, Error::BadString { at: 1 }),
            (r#""\ud83dx""#, Error::BadString { at: 1 }),
            (r#""\ude00""#, Error::BadString { at: 1 }),
            (r#""\u12g4""#, Error::BadString { at: 1 }),
            (r#""\u+123""#, Error::BadString { at: 1 }),
            ("\"abc", Error::Truncated),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
        assert_eq!(parse(b"\"\xff\"", &Limits::REQUEST), Err(Error::NotUtf8 { at: 1 }));
    }

    #[test]
    fn limits_hold() {
        let deep = "[".repeat(65) + &"]".repeat(65);
        assert_eq!(read(&deep), Err(Error::TooDeep { at: 64, max: 64 }));
        assert!(read(&("[".repeat(64) + &"]".repeat(64))).is_ok());
        let many = format!("[{}0]", "0,".repeat(1 << 18));
        assert_eq!(read(&many), Err(Error::TooManyItems { max: 1 << 18 }));
        assert_eq!(read(&"9".repeat(5000)), Err(Error::NumberTooLong { at: 0 }));
        let limits = Limits { bytes_max: 3, ..Limits::REQUEST };
        assert_eq!(parse(b"1234", &limits), Err(Error::TooLong { len: 4, max: 3 }));
    }

    #[test]
    fn python_words_are_read_only_when_asked_for() {
        let limits = Limits { python_words: true, ..Limits::REQUEST };
        let value = parse(b"[NaN,Infinity,-Infinity]", &limits).unwrap();
        assert_eq!(value.to_json(), "[NaN,Infinity,-Infinity]");
    }
}
