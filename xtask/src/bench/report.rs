//! Writes a section of docs/PERFORMANCE.md, between its markers.

use anyhow::{Context, Result};
use mcp_monitor_tests::paths;

const HEAD: &str = "# Performance\n\nMeasured by `cargo xtask bench`; each section is written by it.\n";

/// Replaces the section of this name, or adds it.
pub fn write(name: &str, body: &str) -> Result<()> {
    let path = paths::root().join("docs/PERFORMANCE.md");
    let old = std::fs::read_to_string(&path).unwrap_or_else(|_| HEAD.to_owned());
    std::fs::create_dir_all(path.parent().context("docs")?)?;
    std::fs::write(&path, replaced(&old, name, body))?;
    eprintln!("wrote the section `{name}` of docs/PERFORMANCE.md");
    Ok(())
}

fn replaced(old: &str, name: &str, body: &str) -> String {
    let (begin, end) = (
        format!("<!-- bench {name} begin -->"),
        format!("<!-- bench {name} end -->"),
    );
    let section = format!("{begin}\n{}\n{end}", body.trim());
    match (old.split_once(&begin), old.split_once(&end)) {
        (Some((before, _)), Some((_, after))) => format!("{before}{section}{after}"),
        _ => format!("{}\n\n{section}\n", old.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn a_section_is_added_once_and_then_replaced() {
        let first = replaced("# Performance\n\nWords.\n", "live", "## Live\n1");
        let second = replaced(&first, "live", "## Live\n2");
        assert_eq!(
            second,
            "# Performance\n\nWords.\n\n<!-- bench live begin -->\n## Live\n2\n<!-- bench live end -->\n"
        );
    }
}
