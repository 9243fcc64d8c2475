//! Secrets without a literal of their own: known by the name they are assigned to.

use super::super::format::{Check, Class::*, Format, UUID, n, r, t};

pub(super) const FORMATS: &[Format] = &[
    Format::named(
        "datadog-api-key",
        "Datadog",
        &["datadog", "dd_api_key", "dd-api-key"],
        &[n(LowerHex, 32)],
    ),
    Format::named(
        "datadog-app-key",
        "Datadog",
        &["datadog", "dd_app", "dd-app"],
        &[n(LowerHex, 40)],
    ),
    Format::named("heroku-legacy-key", "Heroku", &["heroku"], UUID),
    Format::named("snyk-token", "Snyk", &["snyk"], UUID),
    Format::named(
        "cloudflare-key",
        "Cloudflare",
        &["cloudflare", "cf_api"],
        &[n(Base64Url, 40)],
    ),
    Format::named(
        "cloudflare-global-key",
        "Cloudflare",
        &["cloudflare", "cf_api"],
        &[n(LowerHex, 37)],
    ),
    Format::named(
        "cohere-api-key",
        "Cohere",
        &["cohere", "co_api_key"],
        &[n(Alnum, 40)],
    )
    .check(Check::Mixed),
    Format::named("mistral-api-key", "Mistral AI", &["mistral"], &[n(Alnum, 32)]).check(Check::Mixed),
    Format::named(
        "together-api-key",
        "Together AI",
        &["together"],
        &[n(LowerHex, 64)],
    ),
    Format::named(
        "azure-openai-key",
        "Azure",
        &["azure_openai", "azure-openai", "azureopenai"],
        &[n(LowerHex, 32)],
    ),
    Format::named(
        "okta-api-token",
        "Okta",
        &["okta", "ssws"],
        &[t("00"), n(Base64Url, 40)],
    ),
    Format::named("fastly-api-token", "Fastly", &["fastly"], &[n(Base64Url, 32)]).check(Check::Mixed),
    Format::named("algolia-admin-key", "Algolia", &["algolia"], &[n(LowerHex, 32)]),
    Format::named(
        "discord-bot-token",
        "Discord",
        &["discord"],
        &[
            r(Base64Url, 23, 28),
            t("."),
            n(Base64Url, 6),
            t("."),
            r(Base64Url, 27, 38),
        ],
    ),
    Format::named(
        "discord-client-secret",
        "Discord",
        &["discord"],
        &[n(Base64Url, 32)],
    )
    .check(Check::Mixed),
    Format::named("twilio-auth-token", "Twilio", &["twilio"], &[n(LowerHex, 32)]),
    Format::named(
        "openweather-key",
        "OpenWeather",
        &["openweather", "owm_api"],
        &[n(LowerHex, 32)],
    ),
    Format::named(
        "alphavantage-key",
        "Alpha Vantage",
        &["alphavantage", "alpha_vantage"],
        &[n(UpperAlnum, 16)],
    ),
    Format::named(
        "newsapi-key",
        "NewsAPI",
        &["newsapi", "news_api"],
        &[n(LowerHex, 32)],
    ),
    Format::named(
        "brave-search-key",
        "Brave",
        &["brave"],
        &[t("BSA"), r(Base64Url, 24, 32)],
    ),
    Format::named(
        "serpapi-key",
        "SerpApi",
        &["serpapi", "serp_api"],
        &[n(LowerHex, 64)],
    ),
    Format::named("exa-api-key", "Exa", &["exa_api"], UUID),
    Format::named("zendesk-token", "Zendesk", &["zendesk"], &[n(Alnum, 40)]).check(Check::Mixed),
    Format::named(
        "jira-token",
        "Atlassian",
        &["jira", "confluence"],
        &[n(Alnum, 24)],
    )
    .check(Check::Mixed),
    Format::named("trello-token", "Trello", &["trello"], &[n(LowerHex, 64)]),
    Format::named("jenkins-token", "Jenkins", &["jenkins"], &[r(LowerHex, 32, 34)]),
    Format::named("codecov-token", "Codecov", &["codecov"], UUID),
    Format::named(
        "confluent-api-secret",
        "Confluent",
        &["confluent"],
        &[n(Base64, 64)],
    )
    .check(Check::Mixed),
    Format::named(
        "spotify-client-secret",
        "Spotify",
        &["spotify"],
        &[n(LowerHex, 32)],
    ),
    Format::named(
        "kubernetes-bootstrap-token",
        "Kubernetes",
        &["bootstrap-token", "kubeadm"],
        &[n(LowerAlnum, 6), t("."), n(LowerAlnum, 16)],
    ),
    Format::named("polygon-io-key", "Polygon.io", &["polygon"], &[n(Base64Url, 32)]).check(Check::Mixed),
    Format::named("finnhub-token", "Finnhub", &["finnhub"], &[r(LowerAlnum, 20, 40)]),
    Format::named("coinbase-secret", "Coinbase", &["coinbase"], &[n(Base64Url, 64)]).check(Check::Mixed),
    Format::named("binance-secret", "Binance", &["binance"], &[n(Alnum, 64)]).check(Check::Mixed),
    Format::named(
        "ethereum-private-key",
        "Ethereum",
        &["private_key", "privatekey", "eth_key"],
        &[t("0x"), n(Hex, 64)],
    ),
];
