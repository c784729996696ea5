//! Compile a JSON Schema into a grammar, refusing what cannot be enforced.

use serde_json::{Map, Value};

use super::{Node, NodeId, Property};

/// Most parts of a compiled schema.
const NODES_MAX: usize = 4096;
/// Deepest nesting of a schema, references followed.
const SCHEMA_DEPTH_MAX: usize = 24;
/// Longest array a schema may ask for.
const ITEMS_MAX: u64 = 10_000;

/// Keywords that only describe.
const ANNOTATIONS: [&str; 13] = [
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "examples",
    "format",
    "readOnly",
    "title",
    "writeOnly",
];

/// A schema that cannot be enforced.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("schema at `{path}`: {message}")]
pub struct SchemaError {
    /// Where, as a JSON pointer.
    pub path: String,
    /// Why.
    pub message: String,
}

/// Adds the nodes of `schema` and returns its root.
pub(super) fn compile(schema: &Value, nodes: &mut Vec<Node>) -> Result<NodeId, SchemaError> {
    Compiler { root: schema, nodes }.schema(schema, &Path { text: "#".into(), depth: 0 })
}

struct Compiler<'s> {
    root: &'s Value,
    nodes: &'s mut Vec<Node>,
}

struct Path {
    text: String,
    depth: usize,
}

impl Path {
    fn down(&self, part: &str) -> Self {
        Self { text: format!("{}/{part}", self.text), depth: self.depth + 1 }
    }

    fn error(&self, message: impl Into<String>) -> SchemaError {
        SchemaError { path: self.text.clone(), message: message.into() }
    }
}

impl Compiler<'_> {
    fn push(&mut self, node: Node, path: &Path) -> Result<NodeId, SchemaError> {
        if self.nodes.len() >= NODES_MAX {
            return Err(path.error(format!("more than {NODES_MAX} parts")));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    fn schema(&mut self, schema: &Value, path: &Path) -> Result<NodeId, SchemaError> {
        if path.depth > SCHEMA_DEPTH_MAX {
            return Err(path.error("nested too deeply, or refers to itself"));
        }
        let object = match schema {
            Value::Bool(true) => return self.push(Node::Any, path),
            Value::Object(object) => object,
            _ => return Err(path.error("is not an object")),
        };
        let keywords = Keywords { object, path };
        if let Some(reference) = keywords.alone("$ref")? {
            let target = reference
                .as_str()
                .and_then(|reference| reference.strip_prefix('#'))
                .and_then(|pointer| self.root.pointer(pointer))
                .ok_or_else(|| path.error("`$ref` must point into the same schema"))?;
            return self.schema(target, &path.down("$ref"));
        }
        if let Some(branches) = keywords.alone("anyOf")? {
            return self.any_of(branches, &path.down("anyOf"));
        }
        if let Some(branches) = keywords.alone("allOf")? {
            return match branches.as_array().map(Vec::as_slice) {
                Some([only]) => self.schema(only, &path.down("allOf")),
                _ => Err(path.error("`allOf` of several schemas cannot be enforced")),
            };
        }
        match object.get("type") {
            Some(Value::Array(types)) => {
                let ids = types
                    .iter()
                    .map(|one| self.typed(Some(one), &keywords))
                    .collect::<Result<Vec<_>, _>>()?;
                if ids.is_empty() {
                    return Err(path.error("`type` is empty"));
                }
                self.push(Node::AnyOf(ids), path)
            }
            one => self.typed(one, &keywords),
        }
    }

    fn any_of(&mut self, branches: &Value, path: &Path) -> Result<NodeId, SchemaError> {
        let branches = branches.as_array().filter(|branches| !branches.is_empty());
        let branches = branches.ok_or_else(|| path.error("must be a non-empty array"))?;
        let ids = branches
            .iter()
            .enumerate()
            .map(|(index, branch)| self.schema(branch, &path.down(&index.to_string())))
            .collect::<Result<Vec<_>, _>>()?;
        self.push(Node::AnyOf(ids), path)
    }

    fn typed(
        &mut self,
        kind: Option<&Value>,
        keywords: &Keywords<'_>,
    ) -> Result<NodeId, SchemaError> {
        let (object, path) = (keywords.object, keywords.path);
        let kind = match kind {
            Some(Value::String(kind)) => Some(kind.as_str()),
            Some(_) => return Err(path.error("`type` must name a type")),
            None => None,
        };
        if object.contains_key("const") || object.contains_key("enum") {
            keywords.only(&["type", "const", "enum"])?;
            return self.literals(kind, object, path);
        }
        let kind = kind.or_else(|| {
            let implied = [("properties", "object"), ("required", "object"), ("items", "array")];
            implied.iter().find(|(key, _)| object.contains_key(*key)).map(|(_, kind)| *kind)
        });
        match kind {
            None => {
                keywords.only(&[])?;
                self.push(Node::Any, path)
            }
            Some("object") => {
                keywords.only_shared(&["properties", "required", "additionalProperties"])?;
                self.object(object, path)
            }
            Some("array") => {
                keywords.only_shared(&["items", "minItems", "maxItems"])?;
                self.array(object, path)
            }
            Some("string") => {
                keywords.only_shared(&[])?;
                self.push(Node::Text, path)
            }
            Some(kind @ ("number" | "integer")) => {
                keywords.only_shared(&[])?;
                self.push(Node::Number { integer: kind == "integer" }, path)
            }
            Some("boolean") => {
                keywords.only_shared(&[])?;
                let ids = [&b"true"[..], b"false"]
                    .map(|word| self.push(Node::Literal(word.to_vec()), path));
                let ids = ids.into_iter().collect::<Result<Vec<_>, _>>()?;
                self.push(Node::AnyOf(ids), path)
            }
            Some("null") => {
                keywords.only_shared(&[])?;
                self.push(Node::Literal(b"null".to_vec()), path)
            }
            Some(other) => Err(path.error(format!("unknown type `{other}`"))),
        }
    }

    fn literals(
        &mut self,
        kind: Option<&str>,
        object: &Map<String, Value>,
        path: &Path,
    ) -> Result<NodeId, SchemaError> {
        let mut values: Vec<&Value> = match object.get("enum") {
            Some(Value::Array(values)) => values.iter().collect(),
            Some(_) => return Err(path.error("`enum` must be an array")),
            None => object.get("const").into_iter().collect(),
        };
        if let Some(only) = object.get("const") {
            values.retain(|value| *value == only);
        }
        values.retain(|value| kind.is_none_or(|kind| is_of_type(value, kind)));
        if values.is_empty() {
            return Err(path.error("no value satisfies `type`, `enum` and `const` together"));
        }
        let ids = values
            .into_iter()
            .map(|value| self.push(Node::Literal(value.to_string().into_bytes()), path))
            .collect::<Result<Vec<_>, _>>()?;
        self.push(Node::AnyOf(ids), path)
    }

    fn object(&mut self, object: &Map<String, Value>, path: &Path) -> Result<NodeId, SchemaError> {
        let none = Map::new();
        let declared = match object.get("properties") {
            Some(Value::Object(declared)) => declared,
            Some(_) => return Err(path.error("`properties` must be an object")),
            None => &none,
        };
        let required = match object.get("required") {
            Some(Value::Array(names)) => names
                .iter()
                .map(|name| name.as_str().ok_or_else(|| path.error("`required` must hold names")))
                .collect::<Result<Vec<_>, _>>()?,
            Some(_) => return Err(path.error("`required` must be an array")),
            None => Vec::new(),
        };
        let additional = object.get("additionalProperties").unwrap_or(&Value::Bool(true));
        if declared.is_empty() && required.is_empty() && *additional != Value::Bool(false) {
            let value = self.schema(additional, &path.down("additionalProperties"))?;
            return self.push(Node::Map(value), path);
        }
        let mut properties = Vec::new();
        for (name, schema) in declared {
            let value = self.schema(schema, &path.down(&format!("properties/{name}")))?;
            properties.push(property(name, value, required.contains(&name.as_str())));
        }
        for name in required {
            if !declared.contains_key(name) && !properties.iter().any(|p| p.key == key(name)) {
                let value = self.schema(additional, &path.down("additionalProperties"))?;
                properties.push(property(name, value, true));
            }
        }
        self.push(Node::Record(properties), path)
    }

    fn array(&mut self, object: &Map<String, Value>, path: &Path) -> Result<NodeId, SchemaError> {
        let bound = |name: &str, default: u64| match object.get(name) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .filter(|bound| *bound <= ITEMS_MAX)
                .ok_or_else(|| path.error(format!("`{name}` must be a number up to {ITEMS_MAX}"))),
        };
        let min = usize::try_from(bound("minItems", 0)?).unwrap_or(usize::MAX);
        let max = usize::try_from(bound("maxItems", ITEMS_MAX)?).unwrap_or(usize::MAX);
        if min > max {
            return Err(path.error("`minItems` is above `maxItems`"));
        }
        let any = Value::Bool(true);
        let item = self.schema(object.get("items").unwrap_or(&any), &path.down("items"))?;
        self.push(Node::List { item, min, max }, path)
    }
}

fn key(name: &str) -> Vec<u8> {
    Value::from(name).to_string().into_bytes()
}

fn property(name: &str, value: NodeId, required: bool) -> Property {
    Property { key: key(name), value, required }
}

fn is_of_type(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}

/// A schema object's keywords, so that none goes unnoticed.
struct Keywords<'k> {
    object: &'k Map<String, Value>,
    path: &'k Path,
}

impl<'k> Keywords<'k> {
    /// Checks that nothing but annotations, `type` and `known` is there.
    fn only(&self, known: &[&str]) -> Result<(), SchemaError> {
        self.check(|key| key == "type" || known.contains(&key))
    }

    /// As [`Self::only`]; where `type` is a list, its other types' keywords may be there as well.
    fn only_shared(&self, known: &[&str]) -> Result<(), SchemaError> {
        const OF_SOME_TYPE: [&str; 6] =
            ["properties", "required", "additionalProperties", "items", "minItems", "maxItems"];
        let several = self.object.get("type").is_some_and(Value::is_array);
        self.check(|key| {
            key == "type" || known.contains(&key) || (several && OF_SOME_TYPE.contains(&key))
        })
    }

    /// The value of a keyword that must have no other beside it.
    fn alone(&self, key: &'static str) -> Result<Option<&'k Value>, SchemaError> {
        let Some(value) = self.object.get(key) else { return Ok(None) };
        self.check(|other| other == key)?;
        Ok(Some(value))
    }

    fn check(&self, known: impl Fn(&str) -> bool) -> Result<(), SchemaError> {
        let stranger =
            self.object.keys().find(|key| !(known(key) || ANNOTATIONS.contains(&key.as_str())));
        stranger.map_or(Ok(()), |key| {
            Err(self.path.error(format!("`{key}` cannot be enforced by this engine here")))
        })
    }
}
