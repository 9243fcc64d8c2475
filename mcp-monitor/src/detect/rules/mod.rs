//! One file per rule: what it is, its page, its trigger, its tests.

mod addresses;
mod anchors;
mod calls;
mod commands;
mod common;
mod confusable;
mod domain;
mod habit;
mod listing;
mod mcp;
mod metadata;
mod oauth;
mod origin;
mod pages;
mod sameness;
mod schema;
mod secrets;
#[cfg(test)]
mod simulation;
mod statistics;
mod words;

mod cp_01_new_capability;
mod cp_02_undeclared_request;
mod cp_03_sampling_abuse;
mod cp_04_scope_escalation;
mod cp_05_first_destructive_call;
mod cp_06_toxic_flow;
mod cp_07_argument_injection;
mod cr_01_cleartext_credential;
mod cr_02_credential_in_url;
mod cr_03_audience_mismatch;
mod cr_04_token_issuer_mismatch;
mod cr_05_credential_reuse;
mod cr_06_secret_in_arguments;
mod cr_07_secret_in_result;
mod cr_08_elicited_secret;
mod cr_09_secret_parameter_header;
mod cr_10_weak_token;
mod cr_11_oauth_secret_off_pin;
mod cr_12_canary;
mod cr_13_personal_data;
mod dg_01_https_to_http;
mod dg_02_old_tls;
mod dg_03_tls_downgrade_sentinel;
mod dg_04_tls_fallback;
mod dg_05_weak_cipher;
mod dg_06_protocol_version_lowered;
mod dg_07_forced_legacy_fallback;
mod dg_08_transport_lowered;
mod dg_09_version_header;
mod dg_10_auth_dropped;
mod dg_11_pkce_lowered;
mod dg_12_resource_indicator_missing;
mod dg_13_contract_lowered;
mod dns_01_dns_answer_drift;
mod dns_02_cname_drift;
mod dns_03_resolver_changed;
mod dns_04_rebinding;
mod dns_05_short_ttl_flip;
mod dns_06_resolver_bypass;
mod dns_07_racing_answers;
mod dns_08_delegation_changed;
mod dns_09_svcb_lost;
mod dns_10_look_alike_name;
mod dns_11_dns_tunnel;
mod dp_01_schema_violation;
mod dp_02_injected_result;
mod dp_03_divergent_results;
mod dp_04_stale_data;
mod dp_05_verdict_shift;
mod dp_06_new_contact;
mod dst_01_unpinned_server;
mod dst_02_address_drift;
mod dst_03_connect_without_dns;
mod dst_04_sni_host_mismatch;
mod dst_05_pinned_remote_now_local;
mod dst_06_url_changed;
mod dst_07_server_egress;
mod dst_08_origin_network_changed;
mod dst_09_llm_endpoint_drift;
mod dst_10_metadata_service;
mod op_01_concentration;
mod op_02_availability_shift;
mod op_03_threat_feed;
mod op_04_proxy_bypass;
mod op_05_vulnerable_version;
mod op_06_blind_spot;
mod pv_01_ambiguous_json;
mod pv_02_header_body_mismatch;
mod pv_03_unsolicited_response;
mod pv_04_era_violation;
mod pv_05_foreign_origin_accepted;
mod pv_06_exposed_listener;
mod pv_07_parser_attack;
mod pv_08_stream_evasion;
mod red_01_cross_origin_redirect;
mod red_02_redirect_replays_secret;
mod red_03_foreign_sse_endpoint;
mod red_04_alternative_service;
mod red_05_foreign_resource_metadata;
mod red_06_authorization_server_changed;
mod red_07_issuer_mismatch;
mod red_08_issuer_mix_up;
mod red_09_foreign_elicitation_url;
mod red_10_dangerous_scheme;
mod red_11_new_resource_origin;
mod ss_01_weak_session_id;
mod ss_02_session_shared;
mod ss_03_session_fixation;
mod ss_04_session_to_other_origin;
mod ss_05_tracking_identifier;
mod ss_06_over_collection;
mod td_01_tool_changed;
mod td_02_silent_change;
mod td_03_tool_set_changed;
mod td_04_new_input;
mod td_05_annotation_flip;
mod td_06_hidden_unicode;
mod td_07_instruction_in_description;
mod td_08_tool_shadowing;
mod td_09_server_identity_changed;
mod td_10_instructions_changed;
mod td_11_unlisted_tool;
mod tls_01_spki_mismatch;
mod tls_02_issuer_changed;
mod tls_03_bad_certificate_accepted;
mod tls_04_no_transparency;
mod tls_05_client_fingerprint_changed;
mod tls_06_server_fingerprint_changed;
mod tls_07_hidden_sni;
mod tls_08_client_cert_lost;
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
    pub(super) use super::common::{agent, endpoint_of_host, label, tls_name};
    pub(super) use super::habit::Habit;
    pub(super) use crate::baseline::{Bounded, Memory, Once, Remembered, Together};
    pub(super) use crate::types::Direction;
}

/// Every implemented rule, with no memory yet, in the order of the catalogue.
pub fn all() -> Vec<Box<dyn Rule>> {
    vec![
        Box::<dst_01_unpinned_server::UnpinnedServer>::default(),
        Box::<dst_02_address_drift::AddressDrift>::default(),
        Box::<dst_03_connect_without_dns::ConnectWithoutDns>::default(),
        Box::<dst_04_sni_host_mismatch::SniHostMismatch>::default(),
        Box::<dst_05_pinned_remote_now_local::PinnedRemoteNowLocal>::default(),
        Box::<dst_06_url_changed::UrlChanged>::default(),
        Box::<dst_07_server_egress::ServerEgress>::default(),
        Box::<dst_08_origin_network_changed::OriginNetworkChanged>::default(),
        Box::<dst_09_llm_endpoint_drift::LlmEndpointDrift>::default(),
        Box::<dst_10_metadata_service::MetadataService>::default(),
        Box::<dns_01_dns_answer_drift::DnsAnswerDrift>::default(),
        Box::<dns_02_cname_drift::CnameDrift>::default(),
        Box::<dns_03_resolver_changed::ResolverChanged>::default(),
        Box::<dns_04_rebinding::Rebinding>::default(),
        Box::<dns_05_short_ttl_flip::ShortTtlFlip>::default(),
        Box::<dns_06_resolver_bypass::ResolverBypass>::default(),
        Box::<dns_07_racing_answers::RacingAnswers>::default(),
        Box::<dns_08_delegation_changed::DelegationChanged>::default(),
        Box::<dns_09_svcb_lost::SvcbLost>::default(),
        Box::<dns_10_look_alike_name::LookAlikeName>::default(),
        Box::<dns_11_dns_tunnel::DnsTunnel>::default(),
        Box::<tls_01_spki_mismatch::SpkiMismatch>::default(),
        Box::<tls_02_issuer_changed::IssuerChanged>::default(),
        Box::<tls_03_bad_certificate_accepted::BadCertificateAccepted>::default(),
        Box::<tls_04_no_transparency::NoTransparency>::default(),
        Box::<tls_05_client_fingerprint_changed::ClientFingerprintChanged>::default(),
        Box::<tls_06_server_fingerprint_changed::ServerFingerprintChanged>::default(),
        Box::<tls_07_hidden_sni::HiddenSni>::default(),
        Box::<tls_08_client_cert_lost::ClientCertLost>::default(),
        Box::<red_01_cross_origin_redirect::CrossOriginRedirect>::default(),
        Box::<red_02_redirect_replays_secret::RedirectReplaysSecret>::default(),
        Box::<red_03_foreign_sse_endpoint::ForeignSseEndpoint>::default(),
        Box::<red_04_alternative_service::AlternativeService>::default(),
        Box::<red_05_foreign_resource_metadata::ForeignResourceMetadata>::default(),
        Box::<red_06_authorization_server_changed::AuthorizationServerChanged>::default(),
        Box::<red_07_issuer_mismatch::IssuerMismatch>::default(),
        Box::<red_08_issuer_mix_up::IssuerMixUp>::default(),
        Box::<red_09_foreign_elicitation_url::ForeignElicitationUrl>::default(),
        Box::<red_10_dangerous_scheme::DangerousScheme>::default(),
        Box::<red_11_new_resource_origin::NewResourceOrigin>::default(),
        Box::<dg_01_https_to_http::HttpsToHttp>::default(),
        Box::<dg_02_old_tls::OldTls>::default(),
        Box::<dg_03_tls_downgrade_sentinel::TlsDowngradeSentinel>::default(),
        Box::<dg_04_tls_fallback::TlsFallback>::default(),
        Box::<dg_05_weak_cipher::WeakCipher>::default(),
        Box::<dg_06_protocol_version_lowered::ProtocolVersionLowered>::default(),
        Box::<dg_07_forced_legacy_fallback::ForcedLegacyFallback>::default(),
        Box::<dg_08_transport_lowered::TransportLowered>::default(),
        Box::<dg_09_version_header::VersionHeader>::default(),
        Box::<dg_10_auth_dropped::AuthDropped>::default(),
        Box::<dg_11_pkce_lowered::PkceLowered>::default(),
        Box::<dg_12_resource_indicator_missing::ResourceIndicatorMissing>::default(),
        Box::<dg_13_contract_lowered::ContractLowered>::default(),
        Box::<cr_01_cleartext_credential::CleartextCredential>::default(),
        Box::<cr_02_credential_in_url::CredentialInUrl>::default(),
        Box::<cr_03_audience_mismatch::AudienceMismatch>::default(),
        Box::<cr_04_token_issuer_mismatch::TokenIssuerMismatch>::default(),
        Box::<cr_05_credential_reuse::CredentialReuse>::default(),
        Box::<cr_06_secret_in_arguments::SecretInArguments>::default(),
        Box::<cr_07_secret_in_result::SecretInResult>::default(),
        Box::<cr_08_elicited_secret::ElicitedSecret>::default(),
        Box::<cr_09_secret_parameter_header::SecretParameterHeader>::default(),
        Box::<cr_10_weak_token::WeakToken>::default(),
        Box::<cr_11_oauth_secret_off_pin::OauthSecretOffPin>::default(),
        Box::<cr_12_canary::CanaryValue>::default(),
        Box::<cr_13_personal_data::PersonalData>::default(),
        Box::<td_01_tool_changed::ToolChanged>::default(),
        Box::<td_02_silent_change::SilentChange>::default(),
        Box::<td_03_tool_set_changed::ToolSetChanged>::default(),
        Box::<td_04_new_input::NewInput>::default(),
        Box::<td_05_annotation_flip::AnnotationFlip>::default(),
        Box::<td_06_hidden_unicode::HiddenUnicode>::default(),
        Box::<td_07_instruction_in_description::InstructionInDescription>::default(),
        Box::<td_08_tool_shadowing::ToolShadowing>::default(),
        Box::<td_09_server_identity_changed::ServerIdentityChanged>::default(),
        Box::<td_10_instructions_changed::InstructionsChanged>::default(),
        Box::<td_11_unlisted_tool::UnlistedTool>::default(),
        Box::<cp_01_new_capability::NewCapability>::default(),
        Box::<cp_02_undeclared_request::UndeclaredRequest>::default(),
        Box::<cp_03_sampling_abuse::SamplingAbuse>::default(),
        Box::<cp_04_scope_escalation::ScopeEscalation>::default(),
        Box::<cp_05_first_destructive_call::FirstDestructiveCall>::default(),
        Box::<cp_06_toxic_flow::ToxicFlow>::default(),
        Box::<cp_07_argument_injection::ArgumentInjection>::default(),
        Box::<ss_01_weak_session_id::WeakSessionId>::default(),
        Box::<ss_02_session_shared::SessionShared>::default(),
        Box::<ss_03_session_fixation::SessionFixation>::default(),
        Box::<ss_04_session_to_other_origin::SessionToOtherOrigin>::default(),
        Box::<ss_05_tracking_identifier::TrackingIdentifier>::default(),
        Box::<ss_06_over_collection::OverCollection>::default(),
        Box::<pv_01_ambiguous_json::AmbiguousJson>::default(),
        Box::<pv_02_header_body_mismatch::HeaderBodyMismatch>::default(),
        Box::<pv_03_unsolicited_response::UnsolicitedResponse>::default(),
        Box::<pv_04_era_violation::EraViolation>::default(),
        Box::<pv_05_foreign_origin_accepted::ForeignOriginAccepted>::default(),
        Box::<pv_06_exposed_listener::ExposedListener>::default(),
        Box::<pv_07_parser_attack::ParserAttack>::default(),
        Box::<pv_08_stream_evasion::StreamEvasion>::default(),
        Box::<dp_01_schema_violation::SchemaViolation>::default(),
        Box::<dp_02_injected_result::InjectedResult>::default(),
        Box::<dp_03_divergent_results::DivergentResults>::default(),
        Box::<dp_04_stale_data::StaleData>::default(),
        Box::<dp_05_verdict_shift::VerdictShift>::default(),
        Box::<dp_06_new_contact::NewContact>::default(),
        Box::<op_01_concentration::Concentration>::default(),
        Box::<op_02_availability_shift::AvailabilityShift>::default(),
        Box::<op_03_threat_feed::ThreatFeed>::default(),
        Box::<op_04_proxy_bypass::ProxyBypass>::default(),
        Box::<op_05_vulnerable_version::VulnerableVersion>::default(),
        Box::<op_06_blind_spot::BlindSpot>::default(),
    ]
}
