//! Joining and comparing values.

use yaml_serde::{Mapping, Value};

/// Adds to `merged` what only `lower` has; mappings that both have are joined in the same way. This is
/// cloud-init's default way of merging (`list()+dict()+str()`), with its oddity: a text or a list gives way to a
/// mapping below it.
pub fn merge_missing(merged: &mut Mapping, lower: &Mapping) {
    for (key, value) in lower {
        match merged.get_mut(key) {
            None => drop(merged.insert(key.clone(), value.clone())),
            Some(Value::Mapping(own)) => {
                if let Value::Mapping(value) = value {
                    merge_missing(own, value);
                }
            }
            Some(own @ (Value::String(_) | Value::Sequence(_))) if value.is_mapping() => {
                *own = value.clone();
            }
            Some(_) => {}
        }
    }
}

/// True when `value` says all that `wanted` says; a mapping may say more.
pub fn covers(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Mapping(value), Value::Mapping(wanted)) => {
            wanted.iter().all(|(key, wanted)| value.get(key).is_some_and(|value| covers(value, wanted)))
        }
        (Value::Sequence(value), Value::Sequence(wanted)) => {
            value.len() == wanted.len()
                && value.iter().zip(wanted).all(|(value, wanted)| covers(value, wanted))
        }
        _ => match (truth(value), truth(wanted)) {
            (Some(value), Some(wanted)) => value == wanted,
            _ => value == wanted,
        },
    }
}

/// Truth values as YAML 1.1 has them, which cloud-init reads: `yes`, `no`, `on`, `off` among them.
fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" => Some(true),
            "no" | "false" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}
