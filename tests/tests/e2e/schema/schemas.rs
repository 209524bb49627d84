//! The schemas of `docs/json-schema`, and how values are held against them.

use anyhow::{Context, Result, ensure};
use jsonschema::{Registry, ValidationError, Validator};
use serde_json::{Map, Value, json};

/// All of them, by their files' names.
const FILES: [(&str, &str); 10] = [
    ("doctor", include_str!("../../../../docs/json-schema/doctor.json")),
    ("list", include_str!("../../../../docs/json-schema/list.json")),
    ("replay", include_str!("../../../../docs/json-schema/replay.json")),
    ("show", include_str!("../../../../docs/json-schema/show.json")),
    ("socket", include_str!("../../../../docs/json-schema/socket.json")),
    ("stats", include_str!("../../../../docs/json-schema/stats.json")),
    ("stuck", include_str!("../../../../docs/json-schema/stuck.json")),
    ("verify", include_str!("../../../../docs/json-schema/verify.json")),
    ("watch", include_str!("../../../../docs/json-schema/watch.json")),
    (
        "watch-stuck",
        include_str!("../../../../docs/json-schema/watch-stuck.json"),
    ),
];

/// Keys whose values are of a closed set.
const CLOSED: [&str; 16] = [
    "closed_by",
    "difference",
    "event",
    "family",
    "finding",
    "from",
    "kind",
    "owner_source",
    "proto",
    "reason",
    "severity",
    "source",
    "state",
    "subject",
    "to",
    "what",
];

/// One schema. Users must expect more keys than it has; here there must be none, so that it is kept up to date.
pub(super) struct Schema {
    name: &'static str,
    validator: Validator,
}

impl Schema {
    /// The schema in this file.
    pub(super) fn of(name: &'static str) -> Result<Self> {
        let mut registry = Registry::new();
        let mut wanted = None;
        for (file, text) in FILES {
            let mut schema: Value = serde_json::from_str(text).with_context(|| file.to_owned())?;
            close(&mut schema);
            let id = schema["$id"].as_str().context("no $id")?.to_owned();
            if file == name {
                wanted = Some(json!({"$ref": id, "unevaluatedProperties": false}));
            }
            registry = registry.add(id, schema)?;
        }
        let registry = registry.prepare()?;
        let wanted = wanted.with_context(|| format!("no schema {name}"))?;
        let validator = jsonschema::options()
            .with_registry(&registry)
            .build(&wanted)
            .map_err(ValidationError::to_owned)?;
        Ok(Self { name, validator })
    }

    /// Checks that `value` is as the schema says; and that the schema says so much that it would not be, did it lack any of
    /// its keys, or had another value than those of a closed set.
    pub(super) fn check(&self, value: &Value) -> Result<()> {
        let errors: Vec<_> = self
            .validator
            .iter_errors(value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        ensure!(
            errors.is_empty(),
            "not as {}.json says: {value}\n{}",
            self.name,
            errors.join("\n")
        );
        for (how, damaged) in damaged(value) {
            ensure!(
                !self.validator.is_valid(&damaged),
                "{}.json allows for {how}: {damaged}",
                self.name
            );
        }
        Ok(())
    }

    /// Checks all of them, of which there are some.
    pub(super) fn check_all(&self, values: &[Value]) -> Result<()> {
        ensure!(!values.is_empty(), "nothing was printed for {}.json", self.name);
        values.iter().try_for_each(|value| self.check(value))
    }
}

/// Has each object in `schema` have no other keys than those that are described: what is in a property or an item.
fn close(schema: &mut Value) {
    let Value::Object(parts) = schema else { return };
    for (keyword, part) in parts.iter_mut() {
        match (keyword.as_str(), part) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(close_one),
            ("items", items) => close_one(items),
            ("$defs", Value::Object(named)) => named.values_mut().for_each(close),
            ("allOf" | "anyOf" | "oneOf", Value::Array(several)) => several.iter_mut().for_each(close),
            ("then", part) => close(part),
            _ => {}
        }
    }
}

fn close_one(schema: &mut Value) {
    close(schema);
    if let Value::Object(parts) = schema {
        parts.insert("unevaluatedProperties".to_owned(), Value::Bool(false));
    }
}

/// `value` without each of its keys, and with something else in place of what is of a closed set.
fn damaged(value: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                found.push((format!("no {key}"), without(object, key)));
                if CLOSED.contains(&key.as_str()) && inner.is_string() {
                    let other = with(object, key, json!("no such thing"));
                    found.push((format!("anything as {key}"), other));
                }
                let inner = damaged(inner).into_iter();
                found.extend(inner.map(|(how, inner)| (how, with(object, key, inner))));
            }
        }
        Value::Array(several) => {
            for (place, inner) in several.iter().enumerate() {
                found.extend(damaged(inner).into_iter().map(|(how, inner)| {
                    let mut several = several.clone();
                    several[place] = inner;
                    (how, Value::Array(several))
                }));
            }
        }
        _ => {}
    }
    found
}

fn without(object: &Map<String, Value>, key: &str) -> Value {
    let mut object = object.clone();
    object.remove(key);
    Value::Object(object)
}

fn with(object: &Map<String, Value>, key: &str, value: Value) -> Value {
    let mut object = object.clone();
    object.insert(key.to_owned(), value);
    Value::Object(object)
}
