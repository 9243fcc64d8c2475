//! Changes one key of a pins file in its text: comments, order and style of everything else stay.
//!
//! The place comes from the parsed tree, the extent from the text around it. What is too unusual to be
//! changed safely (anchors, tags, block scalars) is refused, and the caller parses the result again.

use std::ops::Range;

use serde_saphyr::Location;

use super::draft::quote;
use crate::config::{
    ConfigError,
    yaml::{Key, Node, Reader, Value},
};

/// What to do with a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// It becomes this text.
    Set(String),
    /// It becomes `true` or `false`.
    SetBool(bool),
    /// These are added to its list.
    Add(Vec<String>),
    /// In its mapping, each of these becomes this text.
    Entries(Vec<(String, String)>),
}

/// Changes the key at `path` (`tls.min_version`) of the endpoint of this name, or of the file itself.
/// The new text.
///
/// # Errors
///
/// The file cannot be read, has no such endpoint, or is written in a way that cannot be changed safely.
pub fn change(
    text: &str,
    file: &str,
    endpoint: Option<&str>,
    path: &str,
    change: &Change,
) -> Result<String, ConfigError> {
    let r = Reader { file };
    let root = r.read(text)?;
    let node = match endpoint {
        None => &root,
        Some(name) => find_endpoint(&root, name)
            .ok_or_else(|| r.error(None, format!("no endpoint {name:?}"), "one that the file has"))?,
    };
    let keys: Vec<&str> = path.split('.').collect();
    let mut out = text.to_owned();
    let refuse = || {
        let found = format!("{path} is written in a way that cannot be changed here");
        r.at(node, found, "a plain key; change this one by hand")
    };
    match change {
        Change::Set(value) => set(&mut out, node, &keys, &quote(value)),
        Change::SetBool(value) => set(&mut out, node, &keys, &value.to_string()),
        Change::Add(items) => add(&mut out, node, &keys, items),
        // Each is found anew, since the one before moved what comes after it.
        Change::Entries(entries) => {
            for (key, value) in entries {
                let root = r.read(&out)?;
                let node = match endpoint {
                    None => Some(&root),
                    Some(name) => find_endpoint(&root, name),
                };
                let mut keys = keys.clone();
                keys.push(key);
                node.and_then(|node| set(&mut out, node, &keys, &quote(value)))
                    .ok_or_else(refuse)?;
            }
            Some(())
        }
    }
    .ok_or_else(refuse)?;
    r.read(&out)?;
    Ok(out)
}

fn find_endpoint<'n>(root: &'n Node, name: &str) -> Option<&'n Node> {
    let Value::List(items) = &entry(root, "endpoints")?.1.value else {
        return None;
    };
    items.iter().find(|item| {
        entry(item, "name").is_some_and(|(_, n)| matches!(&n.value, Value::Text(text) if text == name))
    })
}

fn entry<'n>(node: &'n Node, name: &str) -> Option<&'n (Key, Node)> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|(key, _)| key.name == name),
        _ => None,
    }
}

/// Byte offset of a place.
fn offset(text: &str, at: Location) -> Option<usize> {
    let line = usize::try_from(at.line()).ok()?.checked_sub(1)?;
    let column = usize::try_from(at.column()).ok()?.checked_sub(1)?;
    let begin = match line.checked_sub(1) {
        None => 0,
        Some(n) => memchr::memchr_iter(b'\n', text.as_bytes())
            .nth(n)?
            .checked_add(1)?,
    };
    let rest = text.get(begin..)?;
    let chars: usize = rest.chars().take(column).map(char::len_utf8).sum();
    begin.checked_add(chars)
}

/// A value in the text.
struct Extent {
    /// The value itself; for a block, its lines without the line of its key.
    range: Range<usize>,
    /// Columns of the block's entries; `None` for a value on the line of its key.
    block: Option<usize>,
}

/// Where the value of a key is.
fn value_of(text: &str, key: &Key) -> Option<Extent> {
    let start = offset(text, key.at)?;
    let line = start_of_line(text, start);
    let after = after_key(text, start)?;
    let rest = text.get(after..)?;
    let value = after.checked_add(
        rest.len()
            .checked_sub(rest.trim_start_matches([' ', '\t']).len())?,
    )?;
    let first = text.get(value..)?.chars().next();
    match first {
        None | Some('\n' | '\r' | '#') => {
            let column = start.checked_sub(line)?;
            block(text, end_of_line(text, value), column)
        }
        Some('&' | '*' | '!' | '|' | '>' | '%' | '@' | '`') => None,
        Some(_) => Some(Extent {
            range: value..inline_end(text, value)?,
            block: None,
        }),
    }
}

/// Behind the colon of the key that begins at `start`.
fn after_key(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = match bytes.get(start)? {
        b'"' | b'\'' => quoted_end(text, start)?,
        _ => start,
    };
    loop {
        match (bytes.get(at)?, bytes.get(at.checked_add(1)?)) {
            (b':', None | Some(b' ' | b'\t' | b'\n' | b'\r')) => return at.checked_add(1),
            (b'\n', _) => return None,
            _ => at = at.checked_add(1)?,
        }
    }
}

fn quoted_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let quote = *bytes.get(start)?;
    let mut at = start.checked_add(1)?;
    loop {
        let next = at.checked_add(1)?;
        match (*bytes.get(at)?, bytes.get(next)) {
            (b'\\', Some(_)) if quote == b'"' => at = next.checked_add(1)?,
            (b'\'', Some(b'\'')) if quote == b'\'' => at = next.checked_add(1)?,
            (byte, _) if byte == quote => return Some(next),
            _ => at = next,
        }
    }
}

/// End of the value that begins at `start` on the line of its key.
fn inline_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    match bytes.get(start)? {
        b'"' | b'\'' => quoted_end(text, start),
        b'[' | b'{' => {
            let mut depth = 0_usize;
            let mut at = start;
            loop {
                match bytes.get(at)? {
                    b'"' | b'\'' if begins_token(bytes, at) => {
                        at = quoted_end(text, at)?;
                        continue;
                    }
                    b'#' if begins_comment(bytes, at) => at = end_of_line(text, at),
                    b'[' | b'{' => depth = depth.checked_add(1)?,
                    b']' | b'}' => {
                        depth = depth.checked_sub(1)?;
                        if depth == 0 {
                            return at.checked_add(1);
                        }
                    }
                    _ => {}
                }
                at = at.checked_add(1)?;
            }
        }
        _ => {
            // A plain scalar; inside a flow mapping it ends at the comma or bracket.
            let line = end_of_line(text, start);
            let in_flow = in_flow(text, start);
            let mut at = start;
            while at < line {
                match bytes.get(at)? {
                    b'#' if begins_comment(bytes, at) => break,
                    b',' | b']' | b'}' if in_flow => break,
                    _ => at = at.checked_add(1)?,
                }
            }
            let value = text.get(start..at)?.trim_end();
            start.checked_add(value.len())
        }
    }
}

fn begins_token(bytes: &[u8], at: usize) -> bool {
    at.checked_sub(1)
        .and_then(|before| bytes.get(before))
        .is_none_or(|b| matches!(b, b' ' | b'\t' | b'\n' | b'[' | b'{' | b','))
}

fn begins_comment(bytes: &[u8], at: usize) -> bool {
    at.checked_sub(1)
        .and_then(|before| bytes.get(before))
        .is_none_or(|b| matches!(b, b' ' | b'\t' | b'\n'))
}

/// The place is inside brackets: on its line an opening one before it is not closed, or lines above began it.
fn in_flow(text: &str, at: usize) -> bool {
    let line = start_of_line(text, at);
    let before = text.get(line..at).unwrap_or_default();
    let open = before.matches(['{', '[']).count();
    let close = before.matches(['}', ']']).count();
    open > close || {
        let trimmed = text.get(at..end_of_line(text, at)).unwrap_or_default();
        let trimmed = trimmed.split(" #").next().unwrap_or_default().trim_end();
        trimmed.ends_with(',') || trimmed.ends_with('}')
    }
}

fn start_of_line(text: &str, at: usize) -> usize {
    text.get(..at)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |newline| newline.saturating_add(1))
}

/// Of the newline, or of the text.
fn end_of_line(text: &str, at: usize) -> usize {
    text.get(at..)
        .and_then(|rest| rest.find('\n'))
        .map_or(text.len(), |len| at.saturating_add(len))
}

/// The block below a key at `column`, whose line ends at `from`.
fn block(text: &str, from: usize, column: usize) -> Option<Extent> {
    let mut end = from;
    let mut inner = None;
    let mut at = from.checked_add(1)?;
    while at < text.len() {
        let line_end = end_of_line(text, at);
        let line = text.get(at..line_end)?;
        let content = line.trim_start_matches(' ');
        let indent = line.len().checked_sub(content.len())?;
        let blank = content.trim().is_empty() || content.starts_with('#');
        if !blank {
            let list_at_key = indent == column && content.starts_with("- ");
            if indent <= column && !list_at_key {
                break;
            }
            inner.get_or_insert(indent);
            end = line_end;
        }
        at = line_end.checked_add(1)?;
    }
    Some(Extent {
        range: from..end,
        block: Some(inner?),
    })
}

/// Extent of an endpoint's entries.
fn map_extent(text: &str, node: &Node, key: Option<&Key>) -> Option<Extent> {
    if let Some(key) = key {
        return value_of(text, key);
    }
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let start = offset(text, node.at)?;
    if text.get(start..)?.starts_with('{') {
        return Some(Extent {
            range: start..inline_end(text, start)?,
            block: None,
        });
    }
    let first = offset(text, entries.first()?.0.at)?;
    let line = start_of_line(text, first);
    let column = first.checked_sub(line)?;
    let mut end = end_of_line(text, first);
    let mut at = end.checked_add(1)?;
    while at < text.len() {
        let line_end = end_of_line(text, at);
        let line = text.get(at..line_end)?;
        let content = line.trim_start_matches(' ');
        let indent = line.len().checked_sub(content.len())?;
        if !(content.trim().is_empty() || content.starts_with('#')) {
            if indent < column {
                break;
            }
            end = line_end;
        }
        at = line_end.checked_add(1)?;
    }
    Some(Extent {
        range: first..end,
        block: Some(column),
    })
}

/// Sets the key at `keys`, making what is missing on the way.
fn set(text: &mut String, node: &Node, keys: &[&str], value: &str) -> Option<()> {
    let (mut at, mut key): (&Node, Option<&Key>) = (node, None);
    let mut rest = keys;
    while let Some((first, more)) = rest.split_first() {
        match entry(at, first) {
            Some((k, n)) => (at, key, rest) = (n, Some(k), more),
            None => break,
        }
    }
    if let Some((first, more)) = rest.split_first() {
        let mut made = value.to_owned();
        for name in more.iter().rev() {
            made = format!("{{{}: {made}}}", quote(name));
        }
        if matches!(at.value, Value::Null) {
            // `tls:` with nothing below it.
            let extent = value_end(text, key?)?;
            text.insert_str(extent, &format!(" {{{}: {made}}}", quote(first)));
            return Some(());
        }
        let extent = map_extent(text, at, key)?;
        return insert(text, &extent, &format!("{}: {made}", quote(first)), '}');
    }
    let extent = value_of(text, key?).filter(|e| e.block.is_none())?;
    text.replace_range(extent.range, value);
    Some(())
}

/// Adds to the list at `keys`, making it if it is missing.
fn add(text: &mut String, node: &Node, keys: &[&str], items: &[String]) -> Option<()> {
    let (mut at, mut key): (&Node, Option<&Key>) = (node, None);
    for name in keys {
        let Some((k, n)) = entry(at, name) else {
            let list: Vec<String> = items.iter().map(|item| quote(item)).collect();
            return set(text, node, keys, &format!("[{}]", list.join(", ")));
        };
        (at, key) = (n, Some(k));
    }
    if matches!(at.value, Value::Null) {
        let end = value_end(text, key?)?;
        let list: Vec<String> = items.iter().map(|item| quote(item)).collect();
        text.insert_str(end, &format!(" [{}]", list.join(", ")));
        return Some(());
    }
    for item in items {
        let extent = value_of(text, key?)?;
        let item = match extent.block {
            Some(_) => format!("- {}", quote(item)),
            None => quote(item),
        };
        insert(text, &extent, &item, ']')?;
    }
    Some(())
}

/// Behind the colon of a key that has no value.
fn value_end(text: &str, key: &Key) -> Option<usize> {
    after_key(text, offset(text, key.at)?)
}

/// Puts an entry at the end of a collection.
fn insert(text: &mut String, extent: &Extent, entry: &str, close: char) -> Option<()> {
    if let Some(column) = extent.block {
        text.insert_str(extent.range.end, &format!("\n{:column$}{entry}", ""));
        return Some(());
    }
    let value = text.get(extent.range.clone())?;
    let inner = value.strip_suffix(close)?;
    let kept = inner.trim_end();
    let separator = match kept.chars().last()? {
        '[' | '{' => "",
        ',' => " ",
        _ => ", ",
    };
    // A comment at the end of a line would swallow what is put behind it.
    let last_line = kept.rsplit('\n').next().unwrap_or_default();
    if last_line.contains('#') && kept.contains('\n') {
        return None;
    }
    let place = extent.range.start.checked_add(kept.len())?;
    text.insert_str(place, &format!("{separator}{entry}"));
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::pins::Pins;

    const WHOLE: &str = include_str!("testdata/whole.yaml");

    fn edit(text: &str, path: &str, what: Change) -> String {
        change(text, "p", Some("market-data"), path, &what).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Lines that differ between two texts.
    fn changed_lines(before: &str, after: &str) -> (Vec<String>, Vec<String>) {
        let diff = |a: &str, b: &str| -> Vec<String> {
            a.lines()
                .filter(|line| !b.lines().any(|other| other == *line))
                .map(str::to_owned)
                .collect()
        };
        (diff(before, after), diff(after, before))
    }

    #[test]
    fn changes_one_line_and_nothing_else() {
        for (path, what, line) in [
            (
                "addresses",
                Change::Add(vec!["198.51.100.0/24".to_owned()]),
                "    addresses: [203.0.113.0/24, \"2001:db8::/32\", 198.51.100.0/24]",
            ),
            (
                "tls.min_version",
                Change::Set("1.2".to_owned()),
                "      min_version: \"1.2\"",
            ),
            (
                "mcp.server.version",
                Change::Set("4.3.0".to_owned()),
                "      server: {name: market-data, version: \"4.3.0\"}",
            ),
            (
                "url",
                Change::Set("https://mcp.marketdata.example/v2".to_owned()),
                "    url: https://mcp.marketdata.example/v2     # scheme, host (or *.host), port and path are pinned",
            ),
            ("auth.required", Change::SetBool(false), "      required: false"),
        ] {
            let after = edit(WHOLE, path, what);
            let (gone, new) = changed_lines(WHOLE, &after);
            assert_eq!((gone.len(), new), (1, vec![line.to_owned()]));
            Pins::parse(&after, "p").unwrap();
        }
    }

    #[test]
    fn tools_are_set_and_added() {
        let hash = format!("sha256:{}", "1".repeat(64));
        let entries = vec![
            ("get_quote".to_owned(), hash.clone()),
            ("new: one".to_owned(), hash.clone()),
        ];
        let after = edit(WHOLE, "mcp.tools", Change::Entries(entries));
        let pins = Pins::parse(&after, "p").unwrap();
        let tools = pins.endpoints[0].mcp.tools.as_ref().unwrap();
        assert_eq!(tools.len(), 2);
        assert!(tools.values().all(|h| h == &[0x11; 32]));
    }

    const BLOCKS: &str = "\
version: 1
endpoints:
  # the first
  - name: other
    url: http://other.example
  - name: market-data   # ours
    addresses:          # from the ticket
    - 203.0.113.1       # main
    # the one below is old
    - 203.0.113.2

    url: https://mcp.example/mcp
    mcp:
      # approved by the board
      tools:
        a: sha256:0000000000000000000000000000000000000000000000000000000000000000  # read
    tls:
# the end
resolvers:
  - 10.0.0.1
";

    #[test]
    fn blocks_keep_their_comments_and_grow_at_their_end() {
        let after = edit(BLOCKS, "addresses", Change::Add(vec!["203.0.113.3".to_owned()]));
        assert!(
            after.contains("    - 203.0.113.2\n    - 203.0.113.3\n\n    url"),
            "{after}"
        );
        let hash = format!("sha256:{}", "2".repeat(64));
        let entries = vec![("a".to_owned(), hash.clone()), ("b".to_owned(), hash)];
        let after = edit(&after, "mcp.tools", Change::Entries(entries));
        assert!(after.contains("22  # read\n        b: sha256:22"), "{after}");
        let after = edit(&after, "tls.min_version", Change::Set("1.3".to_owned()));
        assert!(after.contains("    tls: {min_version: \"1.3\"}\n"), "{after}");
        let after = edit(
            &after,
            "auth.audience",
            Change::Set("https://mcp.example".to_owned()),
        );
        let after = change(
            &after,
            "p",
            None,
            "resolvers",
            &Change::Add(vec!["10.0.0.2".to_owned()]),
        )
        .unwrap();
        let pins = Pins::parse(&after, "p").unwrap_or_else(|e| panic!("{e}\n{after}"));
        let e = &pins.endpoints[1];
        assert_eq!((e.addresses.len(), e.tls.min_version), (3, Some(0x0304)));
        assert_eq!(e.auth.audience.as_deref(), Some("https://mcp.example"));
        assert_eq!(pins.resolvers.len(), 2);
        for comment in BLOCKS.lines().filter_map(|line| line.split_once('#')) {
            assert!(after.contains(comment.1), "{comment:?} in {after}");
        }
    }

    #[test]
    fn flow_endpoints_and_what_is_refused() {
        let text = "version: 1\nendpoints: [{name: market-data, url: 'https://a.example/x'}]\n";
        let after = edit(text, "tls.min_version", Change::Set("1.3".to_owned()));
        assert!(
            after.contains("{name: market-data, url: 'https://a.example/x', tls: {min_version: \"1.3\"}}]"),
            "{after}"
        );
        let after = edit(text, "addresses", Change::Add(vec!["10.0.0.1".to_owned()]));
        assert_eq!(Pins::parse(&after, "p").unwrap().endpoints[0].addresses.len(), 1);
        let odd = "version: 1\nendpoints:\n  - name: market-data\n    url: &u https://a.example/x\n";
        let error = change(odd, "p", Some("market-data"), "url", &Change::Set("x".to_owned())).unwrap_err();
        assert!(error.to_string().contains("by hand"), "{error}");
        let error = change(text, "p", Some("gone"), "url", &Change::Set("x".to_owned())).unwrap_err();
        assert!(error.to_string().contains("no endpoint \"gone\""), "{error}");
    }

    proptest! {
        /// Whatever the text is, an edit is refused or leaves YAML.
        #[test]
        fn any_file(lines in proptest::collection::vec(prop_oneof![
            Just("version: 1"), Just("endpoints:"), Just("  - name: market-data"), Just("    url: https://a.example"),
            Just("    addresses: [10.0.0.1, # x"), Just("      10.0.0.2]"), Just("    addresses:"), Just("      - 10.0.0.1 # y"),
            Just("    tls: {min_version: '1.2'}"), Just("    mcp: &a {tools: {}}"), Just("# c"), Just(""), Just("\u{e9}: \"x")
        ], 0..12)) {
            let text = lines.join("\n");
            for path in ["addresses", "tls.min_version", "mcp.tools.x"] {
                let what = match path { "addresses" => Change::Add(vec!["10.9.9.9".to_owned()]), _ => Change::Set("1.3".to_owned()) };
                if let Ok(after) = change(&text, "p", Some("market-data"), path, &what) {
                    prop_assert!(after.len() > text.len().saturating_sub(8));
                }
            }
        }
    }
}
