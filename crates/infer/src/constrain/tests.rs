use serde_json::{Value, json};

use super::*;

fn accepts(grammar: &Grammar, text: &str) -> bool {
    let mut machine = Machine::new(grammar);
    machine.accept(text.as_bytes()) && machine.is_complete()
}

/// A small generator, so that a failure can be replayed from its seed.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Writes a random text of the grammar, as an engine does: only accepted bytes, closing in time.
fn write(grammar: &Grammar, rng: &mut Rng, budget: usize) -> String {
    let mut machine = Machine::new(grammar);
    let mut text = Vec::new();
    while !machine.is_finished() {
        let left = budget - text.len();
        assert!(machine.bytes_to_close() <= left, "{}", String::from_utf8_lossy(&text));
        let candidates: Vec<(u8, Machine<'_>)> = (0..=u8::MAX)
            .filter_map(|byte| {
                let mut next = machine.clone();
                (next.accept(&[byte]) && next.bytes_to_close() < left).then_some((byte, next))
            })
            .collect();
        if machine.is_complete() && (candidates.is_empty() || rng.below(4) == 0) {
            break;
        }
        assert!(!candidates.is_empty(), "stuck after {}", String::from_utf8_lossy(&text));
        // Structure is rare among bytes; prefer it, or texts would be one long string.
        let structural: Vec<usize> =
            (0..candidates.len()).filter(|&i| b"{}[]\",:".contains(&candidates[i].0)).collect();
        let pick = if !structural.is_empty() && rng.below(3) > 0 {
            structural[rng.below(structural.len())]
        } else {
            rng.below(candidates.len())
        };
        let (byte, next) = candidates.into_iter().nth(pick).unwrap();
        text.push(byte);
        machine = next;
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn whatever_the_machine_writes_is_a_json_object() {
    let grammar = Grammar::json_object();
    for seed in 0..300 {
        let text = write(&grammar, &mut Rng(seed), 10 + usize::try_from(seed).unwrap());
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("seed {seed}: {e}: {text}"));
        assert!(value.is_object(), "{text}");
    }
}

#[test]
fn json_objects_are_accepted_and_other_texts_are_not() {
    let grammar = Grammar::json_object();
    for text in [
        "{}",
        r#"{"a":1}"#,
        r#"{"a": -1.5e3, "b": [true, false, null, {"c": "\n\u0041 é 🦀"}]}"#,
        r#"{"":{}}"#,
        r#"{"a": [[[]]], "b": 0.25}"#,
    ] {
        assert!(accepts(&grammar, text), "{text}");
    }
    for text in [
        "",
        "[]",
        "1",
        "{",
        "{}}",
        "{} ",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{,}"#,
        r#"{a:1}"#,
        r#"{"a":01}"#,
        r#"{"a":1.}"#,
        r#"{"a":.5}"#,
        r#"{"a":+1}"#,
        r#"{"a":1e}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"a":tru}"#,
        r#"{"a":truee}"#,
        "{\"a\":\"\n\"}",
        "{\"a\":\"",
        r#"{"a":1 }"#,
        "{\n}",
        r#"{"a":NaN}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":[,1]}"#,
    ] {
        assert!(!accepts(&grammar, text), "{text}");
    }
    let mut broken = Machine::new(&grammar);
    assert!(!broken.accept(b"{\"a\":\"\xc0\xaf\"}"), "overlong UTF-8");
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
    assert!(!accepts(&grammar, &deep), "too deep");
}

fn person() -> Value {
    json!({
        "type": "object", "title": "Person", "additionalProperties": false,
        "properties": {
            "name": {"type": "string", "description": "in full"},
            "age": {"type": "integer"},
            "nick": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "mood": {"enum": ["good", "goodish", "bad"]},
            "address": {"$ref": "#/$defs/Address"},
            "scores": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 3},
        },
        "required": ["name", "mood", "scores"],
        "$defs": {"Address": {"type": "object", "properties": {"city": {"type": "string"}}}},
    })
}

#[test]
fn a_schema_admits_its_values_only() {
    let grammar = Grammar::schema(&person()).unwrap();
    // serde_json's maps are sorted by key, so "the schema's order" is alphabetical here.
    for text in [
        r#"{"mood":"goodish","name":"A","scores":[1,2]}"#,
        r#"{"address":{},"age":-3,"mood":"bad","name":"","nick":null,"scores":[1,2.5,-3e2]}"#,
        r#"{"address": {"city": "x"}, "mood": "good", "name": "n", "nick": "k", "scores": [0, 0]}"#,
    ] {
        serde_json::from_str::<Value>(text).unwrap();
        assert!(accepts(&grammar, text), "{text}");
    }
    for text in [
        "{}",
        r#"{"mood":"goodis","name":"A","scores":[1,2]}"#,
        r#"{"mood":"good","scores":[1,2]}"#,
        r#"{"mood":"good","name":"A","scores":[1]}"#,
        r#"{"mood":"good","name":"A","scores":[1,2,3,4]}"#,
        r#"{"age":1.5,"mood":"good","name":"A","scores":[1,2]}"#,
        r#"{"mood":"good","mood":"good","name":"A","scores":[1,2]}"#,
        r#"{"mood":"good","name":"A","scores":[1,2],"x":1}"#,
        r#"{"mood":"good","name":7,"scores":[1,2]}"#,
    ] {
        assert!(!accepts(&grammar, text), "{text}");
    }
    for seed in 0..300 {
        let text = write(&grammar, &mut Rng(seed), 60 + usize::try_from(seed).unwrap());
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert!(["good", "goodish", "bad"].map(Value::from).contains(&value["mood"]), "{text}");
        assert!((2..=3).contains(&value["scores"].as_array().unwrap().len()), "{text}");
        assert!(value["name"].is_string() && value.get("age").is_none_or(Value::is_i64), "{text}");
    }
}

#[test]
fn scalars_and_type_lists() {
    let check = |schema: Value, good: &[&str], bad: &[&str]| {
        let grammar = Grammar::schema(&schema).unwrap();
        for text in good {
            assert!(accepts(&grammar, text), "{schema} should admit {text}");
        }
        for text in bad {
            assert!(!accepts(&grammar, text), "{schema} should refuse {text}");
        }
    };
    check(
        json!({"type": "integer"}),
        &["0", "-7", "123456789012345678"],
        &["1.0", "1e3", "01", "1234567890123456789"],
    );
    check(json!({"type": ["string", "null"]}), &["\"\"", "null"], &["1", "nul"]);
    check(json!({"type": "boolean"}), &["true", "false"], &["null", "\"true\""]);
    check(json!({"const": {"a": [1]}}), &[r#"{"a":[1]}"#], &[r#"{"a": [1]}"#, "{}"]);
    check(json!({"type": "string", "enum": ["x", 1]}), &["\"x\""], &["1"]);
    check(json!({}), &["1", "[]", "{}", "\"s\"", "null"], &["", "nope"]);
    check(
        json!({"type": "object", "additionalProperties": {"type": "boolean"}}),
        &["{}", r#"{"k":true}"#],
        &[r#"{"k":1}"#],
    );
    check(json!({"required": ["a"]}), &[r#"{"a":1}"#], &["{}"]);
    check(json!({"type": "object", "additionalProperties": false}), &["{}"], &[r#"{"a":1}"#]);
    check(
        json!({"type": ["array", "object"], "items": {"type": "null"}}),
        &["[null]", r#"{"a":1}"#],
        &["[1]"],
    );
}

#[test]
fn what_cannot_be_enforced_is_refused_by_name() {
    for (schema, word) in [
        (json!({"type": "string", "pattern": "^a"}), "pattern"),
        (json!({"type": "number", "minimum": 3}), "minimum"),
        (json!({"type": "string", "maxLength": 3}), "maxLength"),
        (json!({"oneOf": [{"type": "string"}]}), "oneOf"),
        (json!({"not": {}}), "not"),
        (json!({"type": "array", "prefixItems": []}), "prefixItems"),
        (json!({"type": "colour"}), "colour"),
        (json!({"type": []}), "empty"),
        (json!({"$ref": "http://elsewhere/schema"}), "$ref"),
        (json!({"$ref": "#/nowhere"}), "$ref"),
        (json!({"$ref": "#"}), "refers to itself"),
        (json!({"anyOf": [{}], "type": "string", "minLength": 1}), "minLength"),
        (json!({"anyOf": []}), "non-empty"),
        (json!({"allOf": [{}, {}]}), "allOf"),
        (json!({"enum": []}), "no value"),
        (json!({"type": "integer", "enum": ["x"]}), "no value"),
        (json!({"type": "array", "minItems": 3, "maxItems": 2}), "minItems"),
        (json!({"type": "array", "minItems": -1}), "minItems"),
        (json!({"properties": [], "type": "object"}), "properties"),
        (json!("string"), "not an object"),
        (json!(false), "not an object"),
    ] {
        let error = Grammar::schema(&schema).expect_err(&schema.to_string());
        assert!(error.to_string().contains(word), "{schema}: {error}");
    }
    let mut deep = json!({"type": "string"});
    for _ in 0..60 {
        deep = json!({"type": "array", "items": deep});
    }
    assert!(Grammar::schema(&deep).is_err());
    let wide = json!({"enum": (0..10_000).collect::<Vec<i32>>()});
    assert!(Grammar::schema(&wide).is_err());
}

#[test]
fn a_function_call_names_a_function_and_gives_its_arguments() {
    let city =
        json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let (null, limited) = (Value::Null, json!({"type": "object", "additionalProperties": false}));
    let grammar =
        Grammar::function_call([("weather", &city), ("weatherman", &limited), ("any", &null)])
            .unwrap();
    for text in [
        r#"{"name": "weather", "arguments": {"city":"Rome"}}"#,
        r#"{"name": "weatherman", "arguments": {}}"#,
        r#"{"name": "any", "arguments": {"x": [1]}}"#,
    ] {
        assert!(accepts(&grammar, text), "{text}");
    }
    for text in [
        r#"{"name": "weather", "arguments": {}}"#,
        r#"{"name": "weatherman", "arguments": {"city":"Rome"}}"#,
        r#"{"name": "other", "arguments": {}}"#,
    ] {
        assert!(!accepts(&grammar, text), "{text}");
    }
}

#[test]
fn random_schemas_never_panic_and_what_compiles_can_be_written() {
    let mut compiled = 0;
    for seed in 0..2000 {
        let mut rng = Rng(seed);
        let schema = random_schema(&mut rng, 0);
        let Ok(grammar) = Grammar::schema(&schema) else { continue };
        compiled += 1;
        let least = Machine::new(&grammar).bytes_to_close();
        let text = write(&grammar, &mut rng, least + 20);
        serde_json::from_str::<Value>(&text).unwrap_or_else(|e| panic!("{schema}: {e}: {text}"));
    }
    assert!(compiled > 500, "{compiled}");
}

fn random_schema(rng: &mut Rng, depth: usize) -> Value {
    if depth > 3 {
        return json!({"type": "integer"});
    }
    match rng.below(12) {
        0 => json!({"type": "string"}),
        1 => json!({"type": ["number", "null"]}),
        2 => json!({"enum": ["a", "ab", 3, null, {"x": []}]}),
        3 => {
            json!({"type": "array", "items": random_schema(rng, depth + 1), "minItems": rng.below(3)})
        }
        4 => json!({"anyOf": [random_schema(rng, depth + 1), random_schema(rng, depth + 1)]}),
        5..=7 => json!({
            "type": "object",
            "properties": {
                "a": random_schema(rng, depth + 1), "ab": random_schema(rng, depth + 1),
                "b": random_schema(rng, depth + 1),
            },
            "required": (if rng.below(2) == 0 { json!(["ab"]) } else { json!(["a", "b"]) }),
        }),
        8 => json!({"type": "object", "additionalProperties": random_schema(rng, depth + 1)}),
        9 => json!({"$ref": "#/properties/a"}),
        10 => json!({"type": rng.below(2), "items": rng.below(2)}),
        _ => json!({}),
    }
}
