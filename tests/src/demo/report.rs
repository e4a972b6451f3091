//! What the demo found: for programs as JSON, for people as a table.

use serde::{Deserialize, Serialize};

/// `report.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Every node was restored identical, and nothing was left behind for others.
    pub ok: bool,
    /// One for each node.
    pub nodes: Vec<NodeReport>,
    /// What went wrong besides.
    pub problems: Vec<String>,
    /// How file systems were changed and compared.
    pub way: String,
    /// Bytes used on the base image's disk, as `dumpe2fs` says.
    pub base_used_bytes: u64,
}

/// What became of one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The virtual node.
    pub vname: String,
    /// The machine it was saved on.
    pub saved_on: String,
    /// The machine it came back on.
    pub restored_on: String,
    /// `identical`, or what differs.
    pub verdict: String,
    /// Bytes read and hashed.
    pub scanned_bytes: u64,
    /// Bytes that differ from the base.
    pub changed_bytes: u64,
    /// The size of the delta image.
    pub delta_bytes: u64,
    /// How long saving took, until verified.
    pub capture_seconds: f64,
    /// How long restoring took, until read back.
    pub restore_seconds: f64,
    /// Bytes that `cmp` compared.
    pub compared_bytes: u64,
    /// Files, folders and links that `stat` and `sha256sum` compared.
    pub compared_files: u64,
}

impl Report {
    /// A demo that did not come to its end.
    pub fn failed(problem: String) -> Self {
        Self { problems: vec![problem], ..Self::default() }
    }

    /// Returns the table.
    pub fn table(&self) -> String {
        let mut lines = vec![format!(
            "\n{:<8} {:<12} {:>12} {:>12} {:>12} {:>6} {:>8} {:>8}  verdict",
            "node", "machines", "scanned", "changed", "delta", "ratio", "save s", "load s"
        )];
        for node in &self.nodes {
            lines.push(format!(
                "{:<8} {:<12} {:>12} {:>12} {:>12} {:>6} {:>8.2} {:>8.2}  {}",
                node.vname,
                format!("{} > {}", node.saved_on, node.restored_on),
                mib(node.scanned_bytes),
                mib(node.changed_bytes),
                mib(node.delta_bytes),
                ratio(node.delta_bytes, node.scanned_bytes),
                node.capture_seconds,
                node.restore_seconds,
                node.verdict
            ));
        }
        for node in &self.nodes {
            lines.push(format!(
                "{}: cmp compared {}, stat and sha256sum {} files, folders and links",
                node.vname,
                mib(node.compared_bytes),
                node.compared_files
            ));
        }
        lines.extend(self.problems.iter().map(|problem| format!("problem: {problem}")));
        lines.push(if self.ok { "every node came back identical".into() } else { "FAILED".into() });
        lines.join("\n")
    }
}

fn mib(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20)
}

/// The delta's part of what was scanned, in percent.
fn ratio(part: u64, whole: u64) -> String {
    match (part * 1000).checked_div(whole) {
        Some(permille) => format!("{}.{}%", permille / 10, permille % 10),
        None => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!((mib(3 << 19), mib(0)), ("1.5 MiB".into(), "0.0 MiB".into()));
        assert_eq!((ratio(1, 8), ratio(1, 0)), ("12.5%".into(), "-".into()));
    }
}
