//! What a rule is.

use super::{Finding, Seen, SeenKind, Severity, World};
use crate::baseline::Memory;

/// Kinds of events, for saying which a rule wants to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// [`SeenKind::Drift`].
    Drift,
    /// [`SeenKind::Open`].
    Open,
    /// [`SeenKind::Close`].
    Close,
    /// [`SeenKind::Dns`].
    Dns,
    /// [`SeenKind::ClientHello`].
    ClientHello,
    /// [`SeenKind::ServerHello`].
    ServerHello,
    /// [`SeenKind::Certificates`].
    Certificates,
    /// [`SeenKind::Handshake`].
    Handshake,
    /// [`SeenKind::TlsAlert`].
    TlsAlert,
    /// [`SeenKind::Opaque`].
    Opaque,
    /// [`SeenKind::Request`].
    Request,
    /// [`SeenKind::Response`].
    Response,
    /// [`SeenKind::Document`].
    Document,
    /// [`SeenKind::SseEndpoint`].
    SseEndpoint,
    /// [`SeenKind::AlternativeService`].
    AlternativeService,
    /// [`SeenKind::Message`].
    Message,
    /// [`SeenKind::Anomaly`].
    Anomaly,
    /// [`SeenKind::Listener`].
    Listener,
    /// [`SeenKind::Tick`]; the last, see [`Kind::COUNT`].
    Tick,
}

impl Kind {
    /// How many kinds there are.
    pub const COUNT: usize = (Self::Tick as usize).saturating_add(1);

    /// Of an event.
    pub fn of(kind: &SeenKind<'_>) -> Self {
        match kind {
            SeenKind::Drift(_) => Self::Drift,
            SeenKind::Open => Self::Open,
            SeenKind::Close(_) => Self::Close,
            SeenKind::Dns { .. } => Self::Dns,
            SeenKind::ClientHello(_) => Self::ClientHello,
            SeenKind::ServerHello { .. } => Self::ServerHello,
            SeenKind::Certificates { .. } => Self::Certificates,
            SeenKind::Handshake(_) => Self::Handshake,
            SeenKind::TlsAlert { .. } => Self::TlsAlert,
            SeenKind::Opaque { .. } => Self::Opaque,
            SeenKind::Request { .. } => Self::Request,
            SeenKind::Response { .. } => Self::Response,
            SeenKind::Document { .. } => Self::Document,
            SeenKind::SseEndpoint { .. } => Self::SseEndpoint,
            SeenKind::AlternativeService { .. } => Self::AlternativeService,
            SeenKind::Message { .. } => Self::Message,
            SeenKind::Anomaly(_) => Self::Anomaly,
            SeenKind::Tick => Self::Tick,
            SeenKind::Listener(_) => Self::Listener,
        }
    }
}

/// What a rule needs to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// Handshakes, DNS and flow metadata: works on encrypted traffic.
    Handshake,
    /// Plaintext.
    Plaintext,
    /// Either is enough.
    Either,
    /// In practice only behind TLS.
    BehindTls,
}

impl Sight {
    /// As in the catalogue.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "H",
            Self::Plaintext => "P",
            Self::Either => "H/P",
            Self::BehindTls => "U",
        }
    }
}

/// The text of a rule's page. Markdown.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// What it means.
    pub means: &'static str,
    /// What an attacker did.
    pub attacker: &'static str,
    /// How it looks on the wire.
    pub wire: &'static str,
    /// What to do.
    pub act: &'static str,
    /// False alarms, and how to quiet them.
    pub quiet: &'static str,
}

/// Where a rule stands in the public frameworks.
#[derive(Clone, Copy, Debug)]
pub struct Taxonomy {
    /// AIR-SEC-026 vectors, scenarios and risk factors.
    pub air_sec_026: &'static [&'static str],
    /// OWASP MCP Top 10 (2025).
    pub owasp_mcp: &'static [&'static str],
    /// MITRE ATLAS techniques.
    pub atlas: &'static [&'static str],
}

/// All that is fixed about a rule.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// Id, part of the contract.
    pub id: &'static str,
    /// Slug, part of the contract: `name` of an alert.
    pub slug: &'static str,
    /// `category` of an alert.
    pub category: &'static str,
    /// When it fires, in one line.
    pub trigger: &'static str,
    /// What it stays silent on.
    pub silent_on: &'static str,
    /// Severity where neither the finding nor the pins say otherwise.
    pub severity: Severity,
    /// What it needs to see.
    pub sight: Sight,
    /// What it needs to know: `-`, `pin`, `base`, `policy`.
    pub needs: &'static str,
    /// Frameworks.
    pub taxonomy: Taxonomy,
    /// Which events it is shown.
    pub listens: &'static [Kind],
    /// Its page.
    pub page: Page,
}

/// One detection. State is bounded; an event that the rule did not ask for is not shown to it.
pub trait Rule: Send {
    /// What is fixed about it.
    fn meta(&self) -> &'static Meta;

    /// Looks at one event.
    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>);

    /// What the rule remembers of servers and that should outlive the process.
    fn memory(&mut self) -> Option<&mut dyn Memory> {
        None
    }
}
