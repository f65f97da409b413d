//! The result of a run: one JSON object.

use serde_json::{Map, Value, json};

use crate::arguments::Arguments;
use crate::error::Error;
use crate::process::ProcessTree;

/// Begin a report with what every scenario tells.
pub fn begin(arguments: &Arguments, negotiated: &str) -> Map<String, Value> {
    let mut report = Map::new();
    report.insert("scenario".into(), json!(arguments.scenario.name()));
    report.insert("parameters".into(), arguments.to_json());
    report.insert("negotiated_extensions".into(), json!(negotiated));
    report.insert("errors".into(), json!(0));
    report
}

/// Memory of the server before there were connections, and with them.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    tree: Option<ProcessTree>,
    before: Option<u64>,
}

impl Memory {
    /// Look at it before there are connections.
    ///
    /// # Errors
    /// [`Error::Peer`] if the server's process has ended.
    pub fn new(tree: Option<ProcessTree>) -> Result<Self, Error> {
        Ok(Self { tree, before: rss(tree)? })
    }

    /// Look at it with `connections`.
    ///
    /// # Errors
    /// [`Error::Peer`] if the server's process has ended.
    pub fn after(&self, connections: usize) -> Result<Value, Error> {
        let after = rss(self.tree)?;
        Ok(json!({ "before": self.before, "after": after, "per_connection": self.growth(after, connections) }))
    }

    /// Bytes that the server has more than before, for each connection.
    #[allow(clippy::cast_precision_loss)]
    fn growth(&self, after: Option<u64>, connections: usize) -> Option<f64> {
        Some((after? as f64 - self.before? as f64) / connections.max(1) as f64)
    }
}

fn rss(tree: Option<ProcessTree>) -> Result<Option<u64>, Error> {
    tree.map(|tree| tree.rss_bytes()).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_divided_by_the_connections() {
        let memory = Memory { tree: None, before: Some(1000) };
        assert_eq!(memory.growth(Some(3000), 4), Some(500.0));
        assert_eq!(memory.growth(Some(500), 1), Some(-500.0));
        assert_eq!(memory.growth(None, 1), None);
    }
}
