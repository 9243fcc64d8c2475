//! One file per rule: what it is, its page, its trigger, its tests.

mod addresses;
mod common;
mod mcp;
mod origin;
mod pages;
mod secrets;

mod dg_01_https_to_http;
mod dg_02_old_tls;
mod dg_03_tls_downgrade_sentinel;
mod dg_04_tls_fallback;
mod dns_01_dns_answer_drift;
mod dns_02_cname_drift;
mod dns_03_resolver_changed;
mod dns_04_rebinding;
mod dns_07_racing_answers;
mod dst_01_unpinned_server;
mod dst_02_address_drift;
mod dst_05_pinned_remote_now_local;
mod dst_06_url_changed;
mod red_01_cross_origin_redirect;
mod red_02_redirect_replays_secret;
mod red_03_foreign_sse_endpoint;
use super::rule::Rule;
pub use pages::{page, pages};

/// What nearly every rule needs.
mod prelude {
    #[cfg(test)]
    pub(super) use super::super::testing::*;
    pub(super) use super::super::{
        DriftKind, Finding, Seen, SeenKind, Severity, World,
        rule::{Kind, Meta, Page, Rule, Sight, Taxonomy},
        text::shown,
    };
    pub(super) use super::common::{agent, endpoint_of_host, label};
    pub(super) use crate::baseline::{Bounded, Once};
    #[cfg(test)]
    pub(super) use crate::types::Direction;
}

/// Every implemented rule, with no memory yet, in the order of the catalogue.
pub fn all() -> Vec<Box<dyn Rule>> {
    vec![
        Box::<dst_01_unpinned_server::UnpinnedServer>::default(),
        Box::<dst_02_address_drift::AddressDrift>::default(),
        Box::<dst_05_pinned_remote_now_local::PinnedRemoteNowLocal>::default(),
        Box::<dst_06_url_changed::UrlChanged>::default(),
        Box::<dns_01_dns_answer_drift::DnsAnswerDrift>::default(),
        Box::<dns_02_cname_drift::CnameDrift>::default(),
        Box::<dns_03_resolver_changed::ResolverChanged>::default(),
        Box::<dns_04_rebinding::Rebinding>::default(),
        Box::<dns_07_racing_answers::RacingAnswers>::default(),
        Box::<red_01_cross_origin_redirect::CrossOriginRedirect>::default(),
        Box::<red_02_redirect_replays_secret::RedirectReplaysSecret>::default(),
        Box::<red_03_foreign_sse_endpoint::ForeignSseEndpoint>::default(),
        Box::<dg_01_https_to_http::HttpsToHttp>::default(),
        Box::<dg_02_old_tls::OldTls>::default(),
        Box::<dg_03_tls_downgrade_sentinel::TlsDowngradeSentinel>::default(),
        Box::<dg_04_tls_fallback::TlsFallback>::default(),
    ]
}
