//! A strict JSON reader for what is signed: I-JSON (RFC 7493) and nothing else.
//!
//! The library's reader is made for tolerance and speed: the last of two equal members wins, and a number may come out
//! one unit in the last place off. For a digest that other languages must reproduce both are wrong, so numbers are
//! rounded exactly here, members that stand twice are refused, and so is an integer whose digits a double loses.

use serde_json::{Map, Number, Value};

use crate::Error;
use crate::jcs::write_number;

/// Most bytes of a document.
pub const JSON_BYTES_MAX: usize = 16 << 20;

/// Deepest nesting of arrays and objects.
const DEPTH_MAX: usize = 128;

/// Magnitude below which every integer is a double: 2^53.
const SAFE_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// Parses one JSON document strictly.
///
/// # Errors
/// [`Error::TooLarge`], or [`Error::Json`] with what is wrong and where.
pub fn parse(document: &[u8]) -> Result<Value, Error> {
    let (len, max) = (document.len(), JSON_BYTES_MAX);
    if len > max {
        return Err(Error::TooLarge { what: "JSON document", len, max });
    }
    let text = core::str::from_utf8(document).map_err(|error| Error::Json(error.to_string()))?;
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.skip_white_space();
    if reader.at != text.len() {
        return Err(reader.error("trailing characters"));
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, problem: &str) -> Error {
        Error::Json(format!("{problem} at byte {}", self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), Error> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(token)) {
            return Err(self.error(&format!("expected `{token}`")));
        }
        self.at += token.len();
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > DEPTH_MAX {
            return Err(self.error("nesting is too deep"));
        }
        self.skip_white_space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::String),
            Some(b't') => self.expect("true").map(|()| Value::Bool(true)),
            Some(b'f') => self.expect("false").map(|()| Value::Bool(false)),
            Some(b'n') => self.expect("null").map(|()| Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.error("expected a value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, Error> {
        let mut members = Map::new();
        self.at += 1;
        self.skip_white_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            self.skip_white_space();
            let name = self.string()?;
            self.skip_white_space();
            self.expect(":")?;
            let value = self.value(depth + 1)?;
            if members.insert(name, value).is_some() {
                return Err(self.error("a member stands twice"));
            }
            if !self.another(b'}')? {
                return Ok(Value::Object(members));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Error> {
        let mut items = Vec::new();
        self.at += 1;
        self.skip_white_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if !self.another(b']')? {
                return Ok(Value::Array(items));
            }
        }
    }

    /// After an element: whether another one follows, or the end.
    fn another(&mut self, end: u8) -> Result<bool, Error> {
        self.skip_white_space();
        let next = self.peek();
        if next != Some(b',') && next != Some(end) {
            return Err(self.error("expected a comma or the end"));
        }
        self.at += 1;
        Ok(next == Some(b','))
    }

    fn digits(&mut self) -> Result<&'a str, Error> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        match self.text.get(start..self.at) {
            Some("") | None => Err(self.error("expected a digit")),
            Some(digits) => Ok(digits),
        }
    }

    fn number(&mut self) -> Result<Value, Error> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let whole = self.digits()?;
        if whole.len() > 1 && whole.starts_with('0') {
            return Err(self.error("leading zero"));
        }
        let mut is_integer = true;
        if self.peek() == Some(b'.') {
            is_integer = false;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            is_integer = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let literal = self.text.get(start..self.at).unwrap_or_default();
        // The standard library rounds to the nearest double.
        let double: f64 = literal.parse().map_err(|_| self.error("malformed number"))?;
        if is_integer && double.abs() >= SAFE_INTEGER_MAX {
            let mut canonical = String::new();
            write_number(double, &mut canonical);
            if canonical != literal {
                return Err(self.error("integer has more digits than a double"));
            }
        }
        Number::from_f64(double)
            .map(Value::Number)
            .ok_or_else(|| self.error("number exceeds the range of a double"))
    }

    fn string(&mut self) -> Result<String, Error> {
        self.expect("\"")?;
        let mut out = String::new();
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let plain = rest
                .find(|char| matches!(char, '"' | '\\' | '\0'..='\u{1f}'))
                .ok_or_else(|| self.error("string does not end"))?;
            out.push_str(rest.get(..plain).unwrap_or_default());
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                _ => return Err(self.error("control character in a string")),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, Error> {
        let escaped = self.peek().ok_or_else(|| self.error("string does not end"))?;
        self.at += 1;
        match escaped {
            b'"' => Ok('"'),
            b'\\' => Ok('\\'),
            b'/' => Ok('/'),
            b'b' => Ok('\u{8}'),
            b'f' => Ok('\u{c}'),
            b'n' => Ok('\n'),
            b'r' => Ok('\r'),
            b't' => Ok('\t'),
            b'u' => {
                let unit = self.code_unit()?;
                if !(0xd800..0xe000).contains(&unit) {
                    return char::from_u32(unit).ok_or_else(|| self.error("malformed escape"));
                }
                // A surrogate must be the first half of a pair.
                self.expect("\\u")?;
                let low = self.code_unit()?;
                let pair =
                    char::decode_utf16([unit, low].map(|unit| u16::try_from(unit).unwrap_or(0)))
                        .next();
                match pair {
                    Some(Ok(char)) if (0xdc00..0xe000).contains(&low) => Ok(char),
                    _ => Err(self.error("surrogate that is not in a pair")),
                }
            }
            _ => Err(self.error("unknown escape")),
        }
    }

    fn code_unit(&mut self) -> Result<u32, Error> {
        let digits = self.text.get(self.at..self.at + 4).unwrap_or_default();
        if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(self.error("expected four hexadecimal digits"));
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| self.error("malformed escape"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jcs::canonical;

    fn canonical_of(text: &str) -> Result<String, Error> {
        canonical(&parse(text.as_bytes())?)
    }

    #[test]
    fn documents_that_readers_would_disagree_about_are_refused() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            "9007199254740993",
            "-9007199254740993",
            "18446744073709551615",
            "1e999",
            "-1e999",
            r#""\ud800""#,
            r#""\ud800\u0041""#,
            r#""\udc00""#,
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(canonical_of("9007199254740994").unwrap(), "9007199254740994");
        assert_eq!(canonical_of("295147905179352830000").unwrap(), "295147905179352830000");
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert!(parse(nested(DEPTH_MAX + 2).as_bytes()).is_err(), "nesting is bounded");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            " ",
            "NaN",
            "Infinity",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{} {}",
            "{\"a\"}",
            "{a:1}",
            "{\"a\":1,}",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "tru",
            "\"",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "'a'",
            "[1",
            "{\"a\":1",
            "\u{feff}1",
            "1\u{a0}",
            "\"\\u+123\"",
            "--1",
            "1e+",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(parse(b"\"\xff\"").is_err(), "UTF-8 only");
    }

    #[test]
    fn it_agrees_with_the_library_on_ordinary_documents() {
        let text = r#" {"a" : [1, -2.5e3, 0.1, "x\n\"\\\/\u00e9\ud83d\ude00é", true, false, null, {}, [] ]} "#;
        let ours = parse(text.as_bytes()).unwrap();
        let theirs: Value = serde_json::from_str(text).unwrap();
        assert_eq!(canonical(&ours).unwrap(), canonical(&theirs).unwrap());
    }

    #[test]
    fn numbers_are_rounded_exactly() {
        // One unit in the last place off in readers that take the fast way.
        assert_eq!(canonical_of("333333333.33333329").unwrap(), "333333333.3333333");
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..5_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let double = f64::from_bits(state);
            if double.is_finite() {
                let value = parse(format!("{double:e}").as_bytes()).unwrap();
                assert_eq!(value.as_f64().map(f64::to_bits), Some(state));
            }
        }
    }
}
