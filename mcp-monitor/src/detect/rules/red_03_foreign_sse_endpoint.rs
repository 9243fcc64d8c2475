//! RED-03 foreign-sse-endpoint: SSE `endpoint` event names another origin, or a second `endpoint` event.

use super::origin::{bare, origin_of, resolve, same_origin};
use super::prelude::*;

const META: Meta = Meta {
    id: "RED-03",
    slug: "foreign-sse-endpoint",
    category: "redirection",
    trigger: "SSE `endpoint` event names another origin, or a second `endpoint` event",
    silent_on: "relative URI; absolute same-origin",
    severity: Severity::Critical,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::SseEndpoint],
    page: Page {
        means: "The HTTP+SSE server told the client to post its messages to another origin, or changed the address in the middle of a stream.",
        attacker: "Controls the event stream (a compromised server, cleartext in transit) and names a machine of theirs in the `endpoint` event: every later message, arguments and credentials included, goes there.",
        wire: "`event: endpoint` whose data resolves to another scheme, host or port than the stream's, or a second `endpoint` event on one stream.",
        act: "End the session. Find out whether the server or the path to it sent the event (compare with a capture on the server). Prefer Streamable HTTP, which has no such event.",
        quiet: "A relative URI, and an absolute one on the stream's own origin, are silent. A server behind a proxy that announces its inner address needs its public base URL configured.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct ForeignSseEndpoint;

impl Rule for ForeignSseEndpoint {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::SseEndpoint {
            event,
            ordinal,
            target,
        } = &seen.kind
        else {
            return;
        };
        let url = resolve(target, event.data.trim_ascii());
        let foreign = match &url {
            Some(url) => origin_of(url).is_none_or(|origin| !same_origin(target, &origin)),
            None => true,
        };
        if !foreign && *ordinal <= 1 {
            return;
        }
        let name = label(world, target.endpoint, &target.origin.host);
        let observed = url
            .as_ref()
            .map_or_else(|| "an address that is no URL".to_owned(), bare);
        let summary = if foreign {
            format!(
                "{name} told {} to post its messages to another origin, {observed}; end the session and check who sent that event",
                agent(seen)
            )
        } else {
            format!(
                "{name} changed where {} posts its messages in mid-stream (event {ordinal}, {observed}); end the session and check who sent that event",
                agent(seen)
            )
        };
        out.push(
            Finding::new(META.id, summary)
                .at(target.endpoint)
                .expected([target.origin.to_string()])
                .observed(observed),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announces(data: &str, ordinal: u32) -> usize {
        let mut bench = Bench::new(ForeignSseEndpoint, "");
        bench.server("http://mcp.example/sse", "203.0.113.5");
        bench.sse_endpoint(data, ordinal).len()
    }

    #[test]
    fn fires_on_another_origin_and_on_a_second_event() {
        for data in [
            "http://evil.example/messages?sessionId=1",
            "//evil.example/m",
            "https://mcp.example/m",
            "http://mcp.example:81/m",
            "javascript:x",
            "http://[",
        ] {
            assert_eq!(announces(data, 1), 1, "{data}");
        }
        assert_eq!(announces("/messages?sessionId=2", 2), 1);
    }

    #[test]
    fn stays_silent_on_relative_and_same_origin_addresses() {
        assert_eq!(announces("/messages?sessionId=1", 1), 0);
        assert_eq!(announces("messages", 1), 0);
        assert_eq!(announces("http://mcp.example/messages", 1), 0);
        assert_eq!(announces("http://MCP.example:80/messages", 1), 0);
    }
}
