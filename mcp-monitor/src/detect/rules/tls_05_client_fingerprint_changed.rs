//! TLS-05 client-fingerprint-changed: JA4 of the same executable changed (live only: a capture has no executable).

use super::prelude::*;
use crate::proto::tls::ja4::stable_ja4;

const META: Meta = Meta {
    id: "TLS-05",
    slug: "client-fingerprint-changed",
    category: "tls",
    trigger: "JA4 of the same executable changed (live only: a capture has no executable)",
    silent_on: "updated executable (hash changed)",
    severity: Severity::Medium,
    sight: Sight::Handshake,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["update-poisoning"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::ClientHello],
    page: Page {
        means: "A program began to speak TLS differently with a server, although its executable is the same: another library or other code now makes its connections.",
        attacker: "Replaced a dependency of the agent (a package, a preloaded library, a plug-in), or runs their own client inside its process.",
        wire: "A ClientHello whose JA4 is new for the executable and the server, after others had been the same. Session resumption, early data and padding are left out of the comparison.",
        act: "Compare the program's installed packages with its lock file, and its loaded libraries (`/proc/PID/maps`) with another host.",
        quiet: "Live only: a capture has no executables. An updated executable begins anew. Interpreters run many programs: the comparison is per server, and only after ten connections in a row without a new fingerprint.",
    },
};

/// Connections without a new fingerprint after which one stands out.
const SETTLE: u32 = 10;

/// Executable, its build, server.
type Program = (Box<str>, u64, Box<str>);

/// Remembers fingerprints by program and server.
#[derive(Default)]
pub(super) struct ClientFingerprintChanged {
    fingerprints: Remembered<Program, Habit<String>>,
}

impl Rule for ClientFingerprintChanged {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.fingerprints)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (SeenKind::ClientHello(hello), Some(connection)) = (&seen.kind, seen.connection) else {
            return;
        };
        let Some(process) = connection.process.as_deref() else {
            return;
        };
        let (Some(exe), Some(build)) = (process.exe.clone(), process.exe_build) else {
            return;
        };
        let name = tls_name(seen);
        let key = (exe, build, name.clone());
        let fingerprint = stable_ja4(hello);
        let habit = self.fingerprints.get_or_default(&key);
        let Some(before) = habit.and_then(|h| h.breaks(fingerprint.clone(), SETTLE)) else {
            return;
        };
        let index = connection.endpoint;
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} speaks TLS with {} in a new way although {} is the same file; compare its packages and loaded libraries with what was installed",
                    agent(seen),
                    label(world, index, &name),
                    shown(&key.0)
                ),
            )
            .at(index)
            .expected(before.iter().cloned())
            .observed(fingerprint),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::{proto::tls::ClientHello, types::Process};

    fn bench(exe: Option<&str>, build: u64) -> Bench {
        let mut bench = Bench::new(ClientFingerprintChanged::default(), "");
        run_by(&mut bench, exe, build);
        bench
    }

    fn run_by(bench: &mut Bench, exe: Option<&str>, build: u64) {
        bench.connection.process = Some(Arc::new(Process {
            exe: exe.map(Into::into),
            exe_build: Some(build),
            ..Process::default()
        }));
    }

    fn says(bench: &mut Bench, ciphers: &[u16]) -> Vec<Finding> {
        let hello = ClientHello {
            ciphers: ciphers.to_vec(),
            ..ClientHello::default()
        };
        bench.see(SeenKind::ClientHello(&hello))
    }

    #[test]
    fn fires_when_the_same_file_speaks_differently() {
        let mut bench = bench(Some("/usr/bin/agent"), 1);
        for _ in 0..SETTLE {
            assert!(says(&mut bench, &[0x1301]).is_empty());
        }
        let found = says(&mut bench, &[0x1302]);
        assert_eq!(found[0].expected.len(), 1);
        assert!(says(&mut bench, &[0x1302]).is_empty(), "once");
    }

    #[test]
    fn stays_silent_on_updates_on_captures_and_before_it_settled() {
        let mut updated = bench(Some("/usr/bin/agent"), 1);
        let mut capture = bench(None, 0);
        for _ in 0..SETTLE {
            says(&mut updated, &[0x1301]);
            says(&mut capture, &[0x1301]);
        }
        run_by(&mut updated, Some("/usr/bin/agent"), 2);
        assert!(says(&mut updated, &[0x1302]).is_empty());
        assert!(says(&mut capture, &[0x1302]).is_empty());
        let mut python = bench(Some("/usr/bin/python3"), 1);
        for n in 0..SETTLE {
            assert!(says(&mut python, &[n.try_into().unwrap()]).is_empty());
        }
    }
}
