//! Databases and data services.

use super::super::format::{Check, Class::*, Format, Part, n, r, t};

pub(super) const FORMATS: &[Format] = &[
    Format::token(
        "planetscale-token",
        "PlanetScale",
        &["pscale_tkn_"],
        &[r(Dotted, 32, 64)],
    ),
    Format::token(
        "planetscale-oauth-token",
        "PlanetScale",
        &["pscale_oauth_"],
        &[r(Dotted, 32, 64)],
    ),
    Format::token(
        "planetscale-password",
        "PlanetScale",
        &["pscale_pw_"],
        &[r(Dotted, 32, 64)],
    ),
    Format::token("neon-api-key", "Neon", &["napi_"], &[n(LowerAlnum, 64)]),
    Format::token("neon-password", "Neon", &["npg_"], &[r(Alnum, 12, 24)]),
    Format::token("aiven-token", "Aiven", &["aivenv1"], &[r(Any64, 100, 200)]),
    Format::token("aiven-password", "Aiven", &["AVNS_"], &[n(Base64Url, 19)]),
    Format::token("clickhouse-cloud-key", "ClickHouse", &["4b1d"], &[n(Alnum, 38)]).check(Check::Mixed),
    Format::token("confluent-secret", "Confluent", &["cflt"], &[n(Base64, 60)]).check(Check::Mixed),
    Format::token(
        "astra-db-token",
        "DataStax",
        &["AstraCS:"],
        &[n(Alnum, 24), t(":"), n(LowerHex, 64)],
    ),
    Format::token(
        "mongodb-atlas-service-secret",
        "MongoDB",
        &["mdb_sa_sk_"],
        &[r(Base64Url, 30, 60)],
    ),
    Format::token(
        "dbt-cloud-token",
        "dbt",
        &["dbtc_", "dbtu_"],
        &[r(Base64Url, 30, 60)],
    ),
    Format::token(
        "airtable-pat",
        "Airtable",
        &["pat"],
        &[n(Alnum, 14), t("."), n(LowerHex, 64)],
    ),
    Format::token("notion-token", "Notion", &["ntn_"], &[n(Digit, 11), n(Alnum, 35)]),
    Format::token("notion-legacy-token", "Notion", &["secret_"], &[n(Alnum, 43)]).check(Check::Mixed),
    Format::token(
        "sanity-token",
        "Sanity",
        &["skE", "skA", "skB", "skC", "skD"],
        &[r(Alnum, 150, 200)],
    ),
    Format::token("contentful-pat", "Contentful", &["CFPAT-"], &[n(Base64Url, 43)]),
    Format::inside("maxmind-license-key", "MaxMind", (Word, 36, 36), &["_mmk"], &[]),
    Format::token(
        "mapbox-secret-token",
        "Mapbox",
        &["sk.eyJ"],
        &[r(Base64Url, 50, 100), t("."), n(Base64Url, 22)],
    ),
    Format::token(
        "elastic-cloud-key",
        "Elastic",
        &["essu_"],
        &[r(Base64, 60, 120), Part::Padding],
    ),
    Format::after(
        "postgres-url-password",
        "PostgreSQL",
        &["postgres://", "postgresql://"],
        &[],
    )
    .check(Check::UserInfo),
    Format::after("mysql-url-password", "MySQL", &["mysql://", "mariadb://"], &[]).check(Check::UserInfo),
    Format::after(
        "mongodb-url-password",
        "MongoDB",
        &["mongodb://", "mongodb+srv://"],
        &[],
    )
    .check(Check::UserInfo),
    Format::after("redis-url-password", "Redis", &["redis://", "rediss://"], &[]).check(Check::UserInfo),
    Format::after("amqp-url-password", "RabbitMQ", &["amqp://", "amqps://"], &[]).check(Check::UserInfo),
    Format::after(
        "ftp-url-password",
        "FTP",
        &["ftp://", "ftps://", "sftp://", "ssh://"],
        &[],
    )
    .check(Check::UserInfo),
    Format::after("smtp-url-password", "SMTP", &["smtp://", "smtps://"], &[]).check(Check::UserInfo),
    Format::after("ldap-url-password", "LDAP", &["ldap://", "ldaps://"], &[]).check(Check::UserInfo),
    Format::after("url-password", "any", &["://"], &[]).check(Check::UserInfo),
    Format::token(
        "convex-deploy-key",
        "Convex",
        &["prod:", "dev:"],
        &[
            r(LowerAlnum, 3, 20),
            t("-"),
            r(LowerAlnum, 3, 20),
            t("-"),
            n(Digit, 3),
            t("|"),
            r(Any64, 40, 200),
        ],
    ),
];
