//! The JSON Canonicalization Scheme (RFC 8785). The input is read by [`parse`], strictly.

use serde_json::Value;

use crate::Error;
pub use crate::json::{JSON_BYTES_MAX, parse};

/// The canonical form of a value: no white space, members in the order of their UTF-16 names, numbers as
/// ECMAScript writes them.
///
/// # Errors
/// When a number is no double; the values of [`parse`] all are.
pub fn canonical(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_value(value, &mut out)?;
    Ok(out)
}

fn write_value(value: &Value, out: &mut String) -> Result<(), Error> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => {
            let double = number
                .as_f64()
                .filter(|double| double.is_finite())
                .ok_or_else(|| Error::Json(format!("{number} is not a double")))?;
            write_number(double, out);
        }
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(item, out)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                write_value(members.get(name).unwrap_or(&Value::Null), out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn write_string(text: &str, out: &mut String) {
    use core::fmt::Write;

    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..'\u{20}' => {
                // Writing to a string cannot fail.
                let _infallible = write!(out, "\\u{:04x}", u32::from(char));
            }
            _ => out.push(char),
        }
    }
    out.push('"');
}

/// `Number::toString` of ECMAScript (ECMA-262 §6.1.6.1.20), which RFC 8785 §3.2.2.3 prescribes.
pub(crate) fn write_number(double: f64, out: &mut String) {
    if double == 0.0 {
        out.push('0');
        return;
    }
    let mut buffer = ryu::Buffer::new();
    // Shortest digits that round-trip, as `[-]d[d…].d[d…]` or `[-]d[.d…]e[-]x`: digits and exponent are taken from it.
    let text = buffer.format_finite(double);
    let text = match text.strip_prefix('-') {
        Some(text) => {
            out.push('-');
            text
        }
        None => text,
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let all = [whole, fraction].concat();
    let leading = all.len() - all.trim_start_matches('0').len();
    let digits = all.trim_matches('0');
    let length = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    // value = 0.digits × 10^point
    let point = length(whole.len()) + exponent - length(leading);
    let count = length(digits.len());
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    match point {
        _ if count <= point && point <= 21 => {
            out.push_str(digits);
            out.push_str(&zeros(point - count));
        }
        1..=21 => {
            let (before, after) = digits.split_at(usize::try_from(point).unwrap_or(0));
            out.push_str(before);
            out.push('.');
            out.push_str(after);
        }
        -5..=0 => {
            out.push_str("0.");
            out.push_str(&zeros(-point));
            out.push_str(digits);
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            out.push_str(first);
            if !rest.is_empty() {
                out.push('.');
                out.push_str(rest);
            }
            let sign = if point > 0 { '+' } else { '-' };
            out.push_str(&format!("e{sign}{}", (point - 1).abs()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical_of(text: &str) -> String {
        canonical(&parse(text.as_bytes()).unwrap()).unwrap()
    }

    /// RFC 8785 appendix B, by the bits of the double.
    #[test]
    fn numbers_are_written_as_the_standard_lists_them() {
        for (bits, text) in [
            (0x0000_0000_0000_0000_u64, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbece_cf02_3b24_6ff9, "-0.0000036729080810546875"),
        ] {
            let mut out = String::new();
            write_number(f64::from_bits(bits), &mut out);
            // The last line of the table is for a value that RFC 8785 does not list; it must read back.
            if text.len() < 24 {
                assert_eq!(out, text, "{bits:016x}");
            } else {
                assert_eq!(out.parse::<f64>().map(f64::to_bits), Ok(bits));
            }
        }
    }

    #[test]
    fn numbers_read_back_to_the_same_double() {
        let mut state = 0x1234_5678_9abc_def1_u64;
        for _ in 0..20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let double = f64::from_bits(state);
            if double.is_finite() {
                let mut out = String::new();
                write_number(double, &mut out);
                assert_eq!(out.parse::<f64>().unwrap(), double, "{out}");
            }
        }
        for (text, expected) in [
            ("1.0", "1"),
            ("1e2", "100"),
            ("0.1", "0.1"),
            ("123.456", "123.456"),
            ("1e-6", "0.000001"),
            ("1e-7", "1e-7"),
            ("1.5e-7", "1.5e-7"),
            ("-1.50", "-1.5"),
            ("4.5e20", "450000000000000000000"),
        ] {
            assert_eq!(canonical_of(text), expected);
        }
    }

    /// RFC 8785 §3.2.3, the example of sorting by UTF-16 code units.
    #[test]
    fn members_are_sorted_by_utf16() {
        let text = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh",
            "1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#;
        let out = canonical_of(text);
        let order = ["Carriage Return", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"];
        let places: Vec<_> = order.iter().map(|name| out.find(name).unwrap()).collect();
        assert!(places.is_sorted(), "{out}");
    }

    /// RFC 8785 §3.2.2, the example of strings and literals.
    #[test]
    fn strings_are_escaped_only_where_they_must_be() {
        let text = r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],
            "string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#;
        assert_eq!(
            canonical_of(text),
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
    }
}
