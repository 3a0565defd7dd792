//! Reading YAML in bounded time.

use yaml_serde::Value;

/// Brackets that may be open at once. The reader keeps a list with an entry for each, and walks it at every
/// token: 100,000 of them take it 13 seconds. It refuses depths above 128 itself, but only after that.
const BRACKETS_MAX: usize = 500;

/// The value of a text, merge keys (`<<`) done. The detail of an error starts with `:LINE`, where there is one.
pub fn read(text: &str) -> Result<Value, String> {
    // Brackets in quotes and comments count, too: more than this is no configuration.
    let mut open = 0_usize;
    for (index, line) in text.split('\n').enumerate() {
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => open += 1,
                b']' | b'}' => open = open.saturating_sub(1),
                _ => {}
            }
        }
        if open > BRACKETS_MAX {
            return Err(format!(":{}: more than {BRACKETS_MAX} brackets are open", index + 1));
        }
    }
    let mut value: Value = yaml_serde::from_str(text).map_err(|error| {
        let line = error.location().map(|at| format!(":{}", at.line())).unwrap_or_default();
        format!("{line}: no valid YAML: {error}")
    })?;
    value.apply_merge().map_err(|error| format!(": {error}"))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_without_end_are_refused_before_they_are_read() {
        for text in ["[".repeat(200_000), format!("a: {}", "{b: [".repeat(90_000)), "[\n".repeat(100_000)] {
            assert!(read(&text).unwrap_err().contains("brackets"));
        }
        assert_eq!(read("a: {<<: {b: 1}, c: 2}").unwrap()["a"]["b"], Value::from(1));
        assert!(read("a: 1\nb: [\n").unwrap_err().starts_with(":"));
    }
}
