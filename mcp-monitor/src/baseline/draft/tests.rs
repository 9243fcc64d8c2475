use proptest::prelude::*;

use super::*;
use crate::{
    baseline::{Verdict, held::hold},
    config::pins::Pins,
};

fn row(subject: &str, fact: Fact) -> Row {
    Row {
        subject: Subject::parse(subject).unwrap(),
        fact,
        entry: Entry {
            first: Timestamp::from_secs(1_800_000_000),
            last: Timestamp::from_secs(1_800_000_060),
            count: 3,
            range: None,
            standing: Standing::Learned,
            quiet_since: Timestamp::from_secs(1_800_000_000),
            here: None,
        },
    }
}

fn answer(ip: &str) -> Fact {
    Fact::DnsAnswer {
        address: ip.parse().unwrap(),
    }
}

fn spoken(url: &str) -> Row {
    row(
        url,
        Fact::Endpoint {
            transport: Some("streamable-http".into()),
        },
    )
}

fn pins(rows: &[Row]) -> (Pins, String) {
    let text = draft(rows, &DraftOptions::default()).to_yaml();
    (
        Pins::parse(&text, "p").unwrap_or_else(|e| panic!("{e}\n{text}")),
        text,
    )
}

const URL: &str = "https://mcp.example/mcp";

#[test]
fn prefixes_are_widened_to_what_was_seen_and_no_further() {
    let mut rows = vec![spoken(URL)];
    for ip in [
        "203.0.113.4",
        "203.0.113.5",
        "203.0.113.7",
        "198.51.100.1",
        "198.51.100.200",
        "2001:db8::1",
    ] {
        rows.push(row("mcp.example", answer(ip)));
    }
    let (pins, text) = pins(&rows);
    let nets: Vec<String> = pins.endpoints[0].address_texts();
    assert_eq!(
        nets,
        [
            "198.51.100.1/32",
            "198.51.100.200/32",
            "203.0.113.4/30",
            "2001:db8::1/128"
        ],
        "{text}"
    );
    assert!(text.contains("widened to hold the 3 addresses"), "{text}");
}

#[test]
fn what_has_two_values_is_not_pinned_and_said() {
    let tool = |hash: &str| {
        row(
            URL,
            Fact::Tool {
                name: "t".into(),
                hash: format!("sha256:{}", hash.repeat(64)).into(),
            },
        )
    };
    let server = |version: &str| {
        row(
            URL,
            Fact::Server {
                name: "Market Data!".into(),
                version: version.into(),
            },
        )
    };
    let (pins, text) = pins(&[spoken(URL), tool("a"), tool("b"), server("1"), server("2")]);
    let e = &pins.endpoints[0];
    assert_eq!(&*e.name, "market-data");
    assert!(e.mcp.tools.is_none() && e.mcp.server.as_ref().unwrap().version.is_none());
    assert!(
        text.contains("# mcp.tools: a tool was defined in several ways"),
        "{text}"
    );
    assert!(text.contains("# mcp.server.version: 2 different ones"), "{text}");
}

#[test]
fn what_an_alert_was_open_on_is_left_out() {
    let mut suspect = row("mcp.example", answer("198.51.100.66"));
    suspect.entry.standing = Standing::Suspect;
    let rows = [spoken(URL), row("mcp.example", answer("203.0.113.1")), suspect];
    let (pins, text) = pins(&rows);
    assert_eq!(pins.endpoints[0].address_texts(), ["203.0.113.1/32"]);
    assert!(
        text.contains("# 1 facts were seen while an alert was open"),
        "{text}"
    );
    let options = DraftOptions {
        suspect: true,
        ..DraftOptions::default()
    };
    let text = draft(&rows, &options).to_yaml();
    assert!(
        text.contains("198.51.100.66  # seen 3 times") && text.contains("WHILE AN ALERT"),
        "{text}"
    );
}

#[test]
fn a_host_without_plaintext_is_pinned_when_asked_for() {
    let tls = Fact::Tls {
        version: 0x0304,
        cipher: 0x1301,
        group: None,
        alpn: None,
        extensions: "".into(),
    };
    let rows = [row("mcp.example:443", tls)];
    assert!(draft(&rows, &DraftOptions::default()).endpoints.is_empty());
    let hosts = vec!["MCP.example".to_owned()];
    let endpoint = &draft(
        &rows,
        &DraftOptions {
            hosts,
            suspect: false,
        },
    )
    .endpoints[0];
    assert_eq!(
        (endpoint.url.as_str(), endpoint.name.as_str()),
        ("https://mcp.example", "mcp-example-443")
    );
    assert_eq!(endpoint.min_tls.as_ref().map(|l| l.value.as_str()), Some("1.3"));
}

#[test]
fn audience_and_servers_come_from_metadata_and_tokens() {
    let auth = |audience: &str| {
        row(
            URL,
            Fact::Authentication {
                scheme: "bearer".into(),
                audience: Some(audience.into()),
                issuer: Some("https://login.example/".into()),
            },
        )
    };
    let (pins, text) = pins(&[
        spoken(URL),
        auth("https://other.example https://mcp.example"),
        auth("https://mcp.example/"),
        row(
            "https://mcp.example/",
            Fact::Resource {
                url: "https://mcp.example".into(),
            },
        ),
        row(
            "https://mcp.example/mcp",
            Fact::AuthorizationServer {
                url: "https://login.example".into(),
            },
        ),
    ]);
    let auth = &pins.endpoints[0].auth;
    assert_eq!(auth.required, Some(true), "{text}");
    assert_eq!(auth.audience.as_deref(), Some("https://mcp.example"));
    assert_eq!(auth.authorization_servers, ["https://login.example"]);
}

/// A fact, with a subject that it is learned of.
fn any_fact() -> impl Strategy<Value = (&'static str, Fact)> {
    let text = "\\PC{0,12}";
    let name = "mcp.example";
    let server = "mcp.example:443";
    prop_oneof![
        any::<[u8; 4]>().prop_map(move |ip| (name, Fact::DnsAnswer { address: ip.into() })),
        any::<[u8; 16]>().prop_map(move |ip| (server, Fact::Address { address: ip.into() })),
        text.prop_map(move |t| (
            name,
            Fact::DnsCname {
                target: t.as_str().into()
            }
        )),
        (0x0300u16..0x0306).prop_map(move |version| {
            let extensions = "".into();
            (
                server,
                Fact::Tls {
                    version,
                    cipher: 1,
                    group: None,
                    alpn: None,
                    extensions,
                },
            )
        }),
        (text, text).prop_map(|(n, v)| (
            URL,
            Fact::Server {
                name: n.as_str().into(),
                version: v.as_str().into()
            }
        )),
        (text, 0u8..3).prop_map(|(n, h)| {
            (
                URL,
                Fact::Tool {
                    name: n.as_str().into(),
                    hash: format!("sha256:{h:064}").into(),
                },
            )
        }),
        (text, text).prop_map(|(a, i)| {
            let (audience, issuer) = (Some(a.as_str().into()), Some(i.as_str().into()));
            (
                URL,
                Fact::Authentication {
                    scheme: "bearer".into(),
                    audience,
                    issuer,
                },
            )
        }),
        text.prop_map(move |i| {
            let (sha256, spki_sha256) = ("".into(), Vec::new());
            (
                server,
                Fact::Certificate {
                    sha256,
                    spki_sha256,
                    issuer: i.as_str().into(),
                },
            )
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever was seen, the file is valid, and nothing that was learned drifts from it.
    #[test]
    fn what_was_learned_holds(facts in proptest::collection::vec(any_fact(), 0..40)) {
        let mut rows = vec![spoken(URL)];
        rows.extend(facts.into_iter().map(|(subject, fact)| row(subject, fact)));
        let (pins, text) = pins(&rows);
        for row in &rows {
            for held in hold(&pins, &row.subject, &row.fact) {
                let unusable = matches!(held.key, "cnames" | "tls.min_version" | "tls.issuers" | "auth.audience");
                prop_assert!(held.verdict != Verdict::Drifted || unusable, "{held:?}\n{text}");
            }
        }
    }
}
