//! DST-09 llm-endpoint-drift: LLM API host differs from its pin (base-URL override).

use super::prelude::*;

const META: Meta = Meta {
    id: "DST-09",
    slug: "llm-endpoint-drift",
    category: "destination",
    trigger: "LLM API host differs from its pin (base-URL override)",
    silent_on: "sanctioned gateway",
    severity: Severity::High,
    sight: Sight::Handshake,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting"],
        owasp_mcp: &[],
        atlas: &["AML.T0081"],
    },
    listens: &[Kind::Request],
    page: Page {
        means: "The agent's requests to its language model go to another host than the pinned one. Whoever runs that host reads every prompt, tool result and key, and writes what the model \"says\".",
        attacker: "Overrides the base URL (an environment variable, a project file, a plugin) with a proxy of theirs.",
        wire: "A request in the form of a known model API (`/v1/messages`, `/v1/chat/completions`, `/v1/responses`, `:generateContent`) to a host that no entry of `llm` names.",
        act: "Look at the base URL in the agent's environment and configuration and who set it. Revoke the model key.",
        quiet: "List every sanctioned API and proxy under `llm`, or the gateway's addresses under `gateway`. A model on loopback is silent.",
    },
};

/// Paths of model APIs.
const PATHS: &[&str] = &[
    "/v1/messages",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    ":generateContent",
    ":streamGenerateContent",
];

/// Nothing to remember.
#[derive(Default)]
pub(super) struct LlmEndpointDrift;

impl Rule for LlmEndpointDrift {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Request {
            head,
            target,
            mcp: false,
            ..
        } = &seen.kind
        else {
            return;
        };
        let llm = &world.pins.llm;
        let ip = target.address.ip();
        if llm.is_empty() || &*head.method != b"POST" || ip.is_loopback() || world.pins.is_gateway(ip) {
            return;
        }
        let path = target.path.trim_end_matches('/');
        if !PATHS.iter().any(|p| path.ends_with(p))
            || llm.iter().any(|l| l.url.host.matches(&target.origin.host))
        {
            return;
        }
        let observed = format!("{}{}", target.origin, shown(&target.path));
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} talks to a language model at {observed}, which is not pinned; look who changed its base URL and revoke the key",
                    agent(seen)
                ),
            )
            .expected(llm.iter().map(|l| l.url.to_string()))
            .observed(observed),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str =
        "llm: [{name: anthropic, url: 'https://api.anthropic.com'}]\ngateway: {addresses: [10.0.9.0/24]}\n";

    fn posts(pins: &str, url: &str, ip: &str) -> usize {
        let mut bench = Bench::new(LlmEndpointDrift, pins);
        bench.server(url, ip);
        bench.request(&request("POST", "/", &[]), false).len()
    }

    #[test]
    fn fires_on_a_model_api_at_another_host() {
        assert_eq!(
            posts(PINS, "https://proxy.evil.example/v1/messages", "198.51.100.6"),
            1
        );
        assert_eq!(
            posts(
                PINS,
                "https://x.example/v1beta/models/m:generateContent",
                "198.51.100.6"
            ),
            1
        );
    }

    #[test]
    fn stays_silent_on_the_pin_the_gateway_loopback_and_other_requests() {
        assert_eq!(
            posts(PINS, "https://api.anthropic.com/v1/messages", "203.0.113.9"),
            0
        );
        assert_eq!(posts(PINS, "https://gw.example/v1/messages", "10.0.9.4"), 0);
        assert_eq!(
            posts(PINS, "http://127.0.0.1:11434/v1/chat/completions", "127.0.0.1"),
            0
        );
        assert_eq!(posts(PINS, "https://x.example/v1/orders", "198.51.100.6"), 0);
        assert_eq!(posts("", "https://x.example/v1/messages", "198.51.100.6"), 0);
    }
}
