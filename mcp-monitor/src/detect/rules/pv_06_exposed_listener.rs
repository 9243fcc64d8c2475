//! PV-06 exposed-listener: MCP listener bound to all addresses (live only).

use super::prelude::*;

const META: Meta = Meta {
    id: "PV-06",
    slug: "exposed-listener",
    category: "protocol",
    trigger: "MCP listener bound to all addresses (live only)",
    silent_on: "containers marked as such",
    severity: Severity::High,
    sight: Sight::Handshake,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["weak-communication-security"],
        owasp_mcp: &["MCP09"],
        atlas: &[],
    },
    listens: &[Kind::Listener],
    page: Page {
        means: "A server on this machine that speaks MCP listens on all addresses (0.0.0.0 or ::), so that whoever reaches the machine reaches its tools. Servers for local agents should listen on loopback.",
        attacker: "Scans for such servers in the network of a laptop or a node and calls their tools, which often ask for no credentials.",
        wire: "Nothing on the wire shows it: when MCP is first seen with a server of this machine, its listening socket is looked up in `/proc/PID/net/tcp` and `tcp6` of the network namespace that has the server's address. A capture has no sockets, so replay never raises it.",
        act: "Bind the server to 127.0.0.1 (most SDKs: a host option), or put it behind a gateway that authenticates. Look at flows to that port from other machines since it started.",
        quiet: "Silent on sockets in another network namespace than the monitor's: in a pod all addresses are the pod's own. Mark servers of the machine itself that are meant to be reached by a piece of their cgroup path, container id, program name or endpoint name, e.g. `rules: {PV-06: {allow: [\"*kubepods*\"]}}`. Where two network namespaces could be meant nothing is said.",
    },
};

/// Has no memory: each listener is looked up once.
#[derive(Default)]
pub(super) struct ExposedListener;

impl Rule for ExposedListener {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Listener(listener) = &seen.kind else {
            return;
        };
        if !listener.address.ip().is_unspecified() || !listener.own_network {
            return;
        }
        let index = seen.connection.and_then(|c| c.endpoint);
        let process = listener.process.as_deref();
        let marks = [
            process.map(|p| &*p.comm),
            process.and_then(|p| p.container_id.as_deref()),
            process.and_then(|p| p.cgroup.as_deref()),
            world.pins.endpoint(index).map(|e| &*e.name),
        ];
        if marks
            .into_iter()
            .flatten()
            .any(|mark| world.pins.accepts(META.id, index, mark))
        {
            return;
        }
        let who = process.map_or_else(
            || "a server of this machine".to_owned(),
            |p| format!("{} (pid {})", shown(&p.comm), p.pid),
        );
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{who} serves MCP on all addresses ({}); bind it to loopback, and look who else called it",
                    listener.address
                ),
            )
            .at(index)
            .expected(["a loopback address"])
            .observed(listener.address.to_string()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Listener, Process};

    fn found_in(own_network: bool, pins: &str, address: &str) -> Vec<Finding> {
        let process = Process {
            pid: 7,
            comm: "node".into(),
            cgroup: Some("/kubepods.slice/pod1".into()),
            ..Process::default()
        };
        let listener = Listener {
            address: address.parse().unwrap(),
            process: Some(std::sync::Arc::new(process)),
            own_network,
        };
        Bench::new(ExposedListener, pins).see(SeenKind::Listener(&listener))
    }

    fn found(pins: &str, address: &str) -> Vec<Finding> {
        found_in(true, pins, address)
    }

    #[test]
    fn fires_on_all_addresses() {
        let all = found("", "0.0.0.0:3001");
        assert_eq!(all[0].observed.as_deref(), Some("0.0.0.0:3001"));
        assert!(all[0].summary.starts_with("node (pid 7) serves MCP"));
        assert_eq!(found("", "[::]:3001").len(), 1);
    }

    #[test]
    fn stays_silent_on_one_address_and_on_marked_containers() {
        assert!(found("", "127.0.0.1:3001").is_empty());
        assert!(found("", "10.1.0.5:3001").is_empty());
        assert!(
            found_in(false, "", "0.0.0.0:3001").is_empty(),
            "a pod's own addresses"
        );
        assert!(found("rules: {PV-06: {allow: ['*kubepods*']}}\n", "0.0.0.0:3001").is_empty());
        assert!(found("rules: {PV-06: {allow: [node]}}\n", "0.0.0.0:3001").is_empty());
    }
}
