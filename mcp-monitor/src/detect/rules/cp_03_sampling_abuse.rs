//! CP-03 sampling-abuse: rate, `maxTokens`, `includeContext: allServers`, tools in sampling over policy.

use super::prelude::*;
use std::{collections::VecDeque, time::Duration};

use super::mcp::params;
use crate::{
    mcp::context::{ClientKey, ServerKey},
    types::{Direction as Way, Timestamp},
};

const META: Meta = Meta {
    id: "CP-03",
    slug: "sampling-abuse",
    category: "capability",
    trigger: "rate, `maxTokens`, `includeContext: allServers`, tools in sampling over policy",
    silent_on: "",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "policy",
    taxonomy: Taxonomy {
        air_sec_026: &["privilege-escalation"],
        owasp_mcp: &[],
        atlas: &["AML.T0034"],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A server uses the agent's language model beyond what policy allows: too often, with too many tokens, with other servers' context, or with tools that the client did not offer.",
        attacker: "Runs their own prompts on somebody else's account, or reads what other servers said through the shared context.",
        wire: "`sampling/createMessage` from the server: more than `policy.sampling.per_minute` in a minute, `maxTokens` above `policy.sampling.max_tokens`, `includeContext: allServers`, or `tools` without the client's `sampling.tools`.",
        act: "Look at the prompts of these requests. Turn sampling off for this server if it has no business with it.",
        quiet: "Raise the numbers under `policy.sampling`.",
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// Most times kept per client and server.
const MAX_TIMES: usize = 1024;

/// Times of recent requests.
#[derive(Default)]
pub(super) struct SamplingAbuse {
    recent: Bounded<(ClientKey, ServerKey), VecDeque<Timestamp>>,
}

impl Rule for SamplingAbuse {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        if message.direction != Way::ToClient || !message.is("sampling/createMessage") {
            return;
        }
        let policy = &world.pins.policy;
        let session = context.session;
        let mut over: Vec<(String, String)> = Vec::new();
        let key = (session.client.clone(), session.server.clone());
        let mut times = self.recent.remove(&key).unwrap_or_default();
        let now = seen.at.time;
        times.push_back(now);
        while times.len() > MAX_TIMES || times.front().is_some_and(|t| now.since(*t) >= MINUTE) {
            times.pop_front();
        }
        if u64::try_from(times.len()).unwrap_or(u64::MAX) > policy.sampling_per_minute {
            let most = policy.sampling_per_minute;
            over.push((
                format!("at most {most} a minute"),
                format!("more than {most} a minute"),
            ));
        }
        self.recent.insert(key, times);
        if let Some(params) = params(message) {
            if let Some(tokens) = params.get("maxTokens").and_then(|t| t.as_u64())
                && tokens > policy.sampling_max_tokens
            {
                over.push((
                    format!("maxTokens up to {}", policy.sampling_max_tokens),
                    format!("maxTokens {tokens}"),
                ));
            }
            if params.get("includeContext").and_then(|c| c.as_str()) == Some("allServers") {
                over.push((
                    "context of this server at most".to_owned(),
                    "includeContext allServers".to_owned(),
                ));
            }
            let offered = session.client_capabilities.as_deref().is_none_or(|c| {
                serde_json::from_str::<serde_json::Value>(c)
                    .ok()
                    .is_some_and(|c| c.get("sampling").and_then(|s| s.get("tools")).is_some())
            });
            if params
                .get("tools")
                .and_then(|t| t.as_array())
                .is_some_and(|t| !t.is_empty())
                && !offered
            {
                over.push((
                    "no tools".to_owned(),
                    "tools that the client did not offer".to_owned(),
                ));
            }
        }
        let index = context.target.endpoint;
        for (expected, observed) in over {
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} uses the model of {} beyond policy ({observed}); look at its prompts",
                        label(world, index, &context.target.origin.host),
                        agent(seen)
                    ),
                )
                .at(index)
                .expected([expected])
                .observed(observed),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(bench: &mut Bench, params: &str) -> usize {
        let json =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{params}}}"#);
        bench.answers(&json, None).len()
    }

    #[test]
    fn fires_over_policy() {
        let mut bench = Bench::new(
            SamplingAbuse::default(),
            "policy: {sampling: {per_minute: 3, max_tokens: 100}}\n",
        );
        assert_eq!(asks(&mut bench, r#"{"maxTokens":101}"#), 1);
        assert_eq!(asks(&mut bench, r#"{"includeContext":"allServers"}"#), 1);
        assert_eq!(asks(&mut bench, r#"{"tools":[{"name":"x"}]}"#), 1);
        assert_eq!(asks(&mut bench, "{}"), 1, "the fourth in a minute");
    }

    #[test]
    fn stays_silent_within_policy() {
        let mut bench = Bench::new(SamplingAbuse::default(), "");
        bench.session.client_capabilities = Some(r#"{"sampling":{"tools":{}}}"#.into());
        for _ in 0..30 {
            assert_eq!(
                asks(
                    &mut bench,
                    r#"{"maxTokens":8192,"includeContext":"thisServer","tools":[{"name":"x"}]}"#
                ),
                0
            );
            bench.wait(Duration::from_secs(7));
        }
    }
}
