//! TD-05 annotation-flip: readOnlyHint true→false, destructiveHint false→true.

use super::prelude::*;
use std::sync::Arc;

use crate::baseline::Audience;

const META: Meta = Meta {
    id: "TD-05",
    slug: "annotation-flip",
    category: "definition",
    trigger: "readOnlyHint true→false, destructiveHint false→true",
    silent_on: "",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["update-poisoning"],
        owasp_mcp: &["MCP02"],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A tool that was announced as harmless is now announced as one that writes or destroys. Agents that approved it by its old hints keep calling it.",
        attacker: "Wins approval with a read-only tool and then changes what it does.",
        wire: "`annotations.readOnlyHint` from true to false, or `destructiveHint` from false to true, between two `tools/list` results.",
        act: "Withdraw the approval of the tool until somebody has read its new definition and changelog.",
        quiet: "Lists are compared per server, revision, capabilities and principal. Only these two changes count, not the way back.",
    },
};

/// `readOnlyHint` and `destructiveHint`, as far as said.
type Latest = (Option<bool>, Option<bool>);

/// The latest hints of each tool.
#[derive(Default)]
pub(super) struct AnnotationFlip {
    hints: Remembered<(Audience, Arc<str>), Latest>,
}

impl Rule for AnnotationFlip {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.hints)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (SeenKind::Message { context, .. }, Some(list)) = (&seen.kind, world.tools) else {
            return;
        };
        if list.again {
            return;
        }
        let index = context.target.endpoint;
        for tool in list.tools.iter() {
            let now = (tool.hints.read_only, tool.hints.destructive);
            let Some(before) = self.hints.insert((list.audience(), Arc::clone(&tool.name)), now) else {
                continue;
            };
            let flips = [
                (
                    before.0 == Some(true) && now.0 == Some(false),
                    "readOnlyHint true",
                    "readOnlyHint false",
                ),
                (
                    before.1 == Some(false) && now.1 == Some(true),
                    "destructiveHint false",
                    "destructiveHint true",
                ),
            ];
            for (_, was, is) in flips.into_iter().filter(|(flipped, ..)| *flipped) {
                let name = shown(&tool.name);
                out.push(
                    Finding::new(
                        META.id,
                        format!(
                            "{}'s tool {name} is now announced with {is}; withdraw its approval until somebody has read the change",
                            label(world, index, &context.target.origin.host)
                        ),
                    )
                    .at(index)
                    .expected([format!("{name} {was}")])
                    .observed(format!("{name} {is}")),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(bench: &mut Bench, read_only: bool, destructive: bool) -> usize {
        bench
            .lists_tools(&format!(r#"[{{"name":"t","annotations":{{"readOnlyHint":{read_only},"destructiveHint":{destructive}}}}}]"#))
            .len()
    }

    #[test]
    fn fires_when_harmless_becomes_harmful() {
        let mut bench = Bench::new(AnnotationFlip::default(), "");
        assert_eq!(lists(&mut bench, true, false), 0);
        assert_eq!(lists(&mut bench, false, true), 2);
    }

    #[test]
    fn stays_silent_on_the_way_back_and_on_no_hints() {
        let mut bench = Bench::new(AnnotationFlip::default(), "");
        lists(&mut bench, false, true);
        assert_eq!(lists(&mut bench, true, false), 0);
        assert!(bench.lists_tools(r#"[{"name":"t"}]"#).is_empty());
    }
}
