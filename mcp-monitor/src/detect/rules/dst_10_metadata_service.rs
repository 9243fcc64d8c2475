//! DST-10 metadata-service: cloud metadata address reached by an agent or server, or named in tool arguments.

use super::{metadata, prelude::*};
use crate::{flow::FlowId, types::Transport};

const META: Meta = Meta {
    id: "DST-10",
    slug: "metadata-service",
    category: "destination",
    trigger: "cloud metadata address reached by an agent or server, or named in tool arguments",
    silent_on: "SDK bootstrap listed as allowed",
    severity: Severity::Critical,
    sight: Sight::Either,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["privilege-escalation"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Open, Kind::Request, Kind::Message],
    page: Page {
        means: "An agent or server reached the cloud's metadata service, which hands out the machine's credentials to any local caller, or was told to by tool arguments.",
        attacker: "Has a tool fetch `http://169.254.169.254/…` (server-side request forgery) and reads the credentials from its result.",
        wire: "A TCP connection to 169.254.169.254, fd00:ec2::254, 169.254.170.2, 100.100.100.200 or 192.0.0.192, a request naming `metadata.google.internal`, or one of these in the parameters of a `tools/call`, in any form that a URL parser takes for it (`http://2852039166/`).",
        act: "Revoke the credentials of the machine's role. Require IMDSv2 with a hop limit of 1, or block the address for agents.",
        quiet: "SDKs read it at start on purpose: suppress the rule for those hosts, or pin an endpoint with that address.",
    },
};

/// Says it once per connection.
#[derive(Default)]
pub(super) struct MetadataService {
    said: Once<FlowId>,
}

impl Rule for MetadataService {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let Some(flow) = seen.flow else { return };
        let (summary, observed) = match &seen.kind {
            SeenKind::Open => {
                let ip = flow.info.server.ip();
                if flow.info.transport != Transport::Tcp
                    || metadata::at(ip).is_none()
                    || world.pins.match_address(ip).is_some()
                {
                    return;
                }
                (
                    format!("{} connected to the cloud metadata service at {ip}", agent(seen)),
                    ip.to_string(),
                )
            }
            SeenKind::Request { target, .. } if *target.origin.host == *metadata::HOST => {
                let host = target.origin.host.to_string();
                (
                    format!("{} asked the cloud metadata service {host}", agent(seen)),
                    host,
                )
            }
            SeenKind::Message { message, context } if message.is("tools/call") => {
                let text = message.params().unwrap_or_default();
                let Some(name) = metadata::named(text) else {
                    return;
                };
                let tool = message.name.as_deref().map_or_else(|| "a tool".to_owned(), shown);
                let server = label(world, context.target.endpoint, &context.target.origin.host);
                out.push(
                    Finding::new(
                        META.id,
                        format!("{} named the cloud metadata service {name} in arguments of {tool} of {server}; check the result for credentials and revoke them", agent(seen)),
                    )
                    .at(context.target.endpoint)
                    .observed(format!("{name} in arguments of {tool}")),
                );
                return;
            }
            _ => return,
        };
        if !self.said.first(flow.info.id) {
            return;
        }
        out.push(
            Finding::new(META.id, format!("{summary}; find what sent it there, and revoke the machine's credentials if it was not the SDK's own start"))
                .observed(observed),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_on_connections_and_on_arguments() {
        let mut bench = Bench::new(MetadataService::default(), "");
        bench.server("http://169.254.169.254/latest/meta-data/", "169.254.169.254");
        assert_eq!(bench.see(SeenKind::Open).len(), 1);
        assert!(bench.see(SeenKind::Open).is_empty(), "once");
        let mut bench = Bench::new(MetadataService::default(), "");
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"fetch","arguments":{"url":"http://169.254.169.254/latest/"}}}"#;
        assert_eq!(
            bench.says(call)[0].observed.as_deref(),
            Some("169.254.169.254 in arguments of fetch")
        );
    }

    #[test]
    fn stays_silent_on_other_addresses_and_where_it_is_pinned() {
        let mut bench = Bench::new(MetadataService::default(), "");
        bench.server("http://169.254.1.1/", "169.254.1.1");
        assert!(bench.see(SeenKind::Open).is_empty());
        let mut bench = Bench::new(
            MetadataService::default(),
            "endpoints: [{name: imds, url: 'http://169.254.169.254'}]\n",
        );
        bench.server("http://169.254.169.254/", "169.254.169.254");
        assert!(bench.see(SeenKind::Open).is_empty());
    }
}
