//! What `tidy` needs to know of a Rust file: the paths it names outside its tests, and how
//! long it is without them. Works on tokens, so that comments and strings do not count.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path such as `crate::sink::Stdout`, and the line where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub line: usize,
    pub segments: Vec<String>,
}

/// One file.
#[derive(Debug, Default)]
pub struct Source {
    /// Paths named outside `#[cfg(test)]`.
    pub paths: Vec<Named>,
    /// Lines outside `#[cfg(test)]`.
    pub lines: usize,
    /// Modules declared under `#[cfg(test)]` that lie in files of their own.
    pub test_modules: BTreeSet<String>,
}

impl Source {
    /// Reads a file.
    pub fn parse(text: &str) -> Result<Self> {
        let stream = TokenStream::from_str(text).map_err(|error| anyhow!("not Rust: {error}"))?;
        let mut source = Self::default();
        let mut tests = Vec::new();
        source.walk(stream, &[], &mut tests);
        let in_tests = |line: &usize| tests.iter().any(|range| range.contains(line));
        source.lines = (1..=text.lines().count()).filter(|line| !in_tests(line)).count();
        Ok(source)
    }

    fn walk(&mut self, stream: TokenStream, prefix: &[String], tests: &mut Vec<RangeInclusive<usize>>) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if is_cfg_test(&tokens[at..]) {
                at = self.skip_item(&tokens, at, tests);
                continue;
            }
            match token {
                TokenTree::Ident(ident) => {
                    let mut segments = prefix.to_vec();
                    segments.push(ident.to_string());
                    let line = ident.span().start().line;
                    at = self.path(&tokens, at + 1, segments, line, tests);
                }
                TokenTree::Group(group) => {
                    self.walk(group.stream(), &[], tests);
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    /// Continues a path after its first segment; returns the index after it.
    fn path(
        &mut self,
        tokens: &[TokenTree],
        mut at: usize,
        mut segments: Vec<String>,
        line: usize,
        tests: &mut Vec<RangeInclusive<usize>>,
    ) -> usize {
        while is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':') {
            match tokens.get(at + 2) {
                Some(TokenTree::Ident(ident)) => {
                    segments.push(ident.to_string());
                    at += 3;
                }
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.walk(group.stream(), &segments, tests);
                    return at + 3;
                }
                _ => {
                    at += 2;
                    break;
                }
            }
        }
        self.paths.push(Named { line, segments });
        at
    }

    /// Skips an item under `#[cfg(test)]`; returns the index after it.
    fn skip_item(
        &mut self,
        tokens: &[TokenTree],
        start: usize,
        tests: &mut Vec<RangeInclusive<usize>>,
    ) -> usize {
        let mut at = start;
        while is_punct(tokens.get(at), '#') {
            at += 2;
        }
        let statement = ["use", "const", "static", "type", "let"];
        let mut ends_at_brace = true;
        let mut module = None;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Ident(ident) if statement.contains(&ident.to_string().as_str()) => {
                    ends_at_brace = false
                }
                TokenTree::Ident(ident) if ident == "mod" => {
                    module = tokens.get(at + 1).map(ToString::to_string);
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => {
                    self.test_modules.extend(module.take());
                    break;
                }
                TokenTree::Group(group) if ends_at_brace && group.delimiter() == Delimiter::Brace => break,
                _ => {}
            }
            at += 1;
        }
        let last = tokens.get(at).or(tokens.last());
        if let (Some(first), Some(last)) = (tokens.get(start), last) {
            tests.push(first.span().start().line..=last.span().end().line);
        }
        at + 1
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

/// Whether the tokens begin with `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn is_cfg_test(tokens: &[TokenTree]) -> bool {
    if !is_punct(tokens.first(), '#') {
        return false;
    }
    let Some(TokenTree::Group(attribute)) = tokens.get(1) else {
        return false;
    };
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        Source::parse(text)
            .unwrap()
            .paths
            .into_iter()
            .map(|named| named.segments.join("::"))
            .collect()
    }

    #[test]
    fn groups_are_spelled_out() {
        let found = paths("use crate::{decode::{Packet, self}, flow}; use std::net::IpAddr;");
        for path in [
            "crate::decode::Packet",
            "crate::decode::self",
            "crate::flow",
            "std::net::IpAddr",
        ] {
            assert!(found.contains(&path.to_owned()), "{path} in {found:?}");
        }
    }

    #[test]
    fn paths_in_code_and_macros_count_but_not_in_comments_and_strings() {
        let found = paths(
            "// crate::sink::A\nfn f() { let x = \"crate::sink::B\"; log!(crate::sink::C); crate::sink::d::<u8>(); }",
        );
        let sink: Vec<_> = found.iter().filter(|path| path.contains("sink")).collect();
        assert_eq!(sink, ["crate::sink::C", "crate::sink::d"]);
    }

    #[test]
    fn tests_do_not_count() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n#[cfg(test)]\nmod slow;\n\
                    #[cfg(test)]\nuse std::{env, io};\nfn b() {}\n";
        let source = Source::parse(text).unwrap();
        assert!(
            !source.paths.iter().any(|named| named.segments[0] == "std"),
            "{:?}",
            source.paths
        );
        assert_eq!(source.lines, 2);
        assert_eq!(source.test_modules.iter().collect::<Vec<_>>(), ["slow"]);
    }

    #[test]
    fn what_only_mentions_test_counts() {
        let source = Source::parse("#[cfg(not(test))]\nfn a() { std::fs::read(b) }\n").unwrap();
        assert!(
            source
                .paths
                .iter()
                .any(|named| named.segments.starts_with(&["std".to_owned(), "fs".to_owned()]))
        );
        assert_eq!(source.lines, 2);
    }
}
