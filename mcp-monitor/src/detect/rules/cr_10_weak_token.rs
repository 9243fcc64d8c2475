//! CR-10 weak-token: expired, over-long-lived or `alg: none` JWT accepted.

use super::prelude::*;
use serde_json::Value;

use super::secrets::presented;
use crate::baseline::jwt_part;

const META: Meta = Meta {
    id: "CR-10",
    slug: "weak-token",
    category: "credential",
    trigger: "expired, over-long-lived or `alg: none` JWT accepted",
    silent_on: "",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "policy",
    taxonomy: Taxonomy {
        air_sec_026: &["weak-communication-security"],
        owasp_mcp: &["MCP01"],
        atlas: &[],
    },
    listens: &[Kind::Response],
    page: Page {
        means: "A server accepted a token that it should have refused (expired, unsigned), or one that lives so long that its theft pays for months.",
        attacker: "Uses a stolen old token, or makes one up with `alg: none`.",
        wire: "A 2xx answer to an MCP request with a JWT whose `exp` has passed, whose header says `alg: none`, or whose life (`exp` less `iat`) is longer than `policy.token_lifetime`.",
        act: "Fix the server's validation (expiry, algorithm). Shorten the life of tokens at the authorization server.",
        quiet: "Five minutes of clock difference are allowed. Raise `policy.token_lifetime` where long-lived tokens are accepted on purpose.",
    },
};

/// Seconds by which clocks may differ.
const LEEWAY: u64 = 300;

/// Nothing to remember.
#[derive(Default)]
pub(super) struct WeakToken;

impl Rule for WeakToken {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Response {
            request: Some(request),
            head,
            target,
            mcp: true,
            ..
        } = &seen.kind
        else {
            return;
        };
        if !(200..300).contains(&head.status) {
            return;
        }
        let token = presented(request).find(|c| c.header == "authorization");
        let Some(token) = token else { return };
        let (Some(header), Some(claims)) = (jwt_part(token.secret, 0), jwt_part(token.secret, 1)) else {
            return;
        };
        let now = seen.at.time.0 / 1_000_000_000;
        let number = |key: &str| {
            let value = claims.get(key)?;
            value
                .as_u64()
                .or_else(|| value.as_f64().filter(|f| *f >= 0.0).map(|f| f as u64))
        };
        let unsigned = header
            .get("alg")
            .and_then(Value::as_str)
            .is_some_and(|alg| alg.eq_ignore_ascii_case("none"));
        let expired = number("exp").is_some_and(|exp| now > exp.saturating_add(LEEWAY));
        let longest = world.pins.policy.token_lifetime.as_secs();
        let life = number("exp")
            .zip(number("iat"))
            .map(|(exp, iat)| exp.saturating_sub(iat));
        let observed = if unsigned {
            "alg none".to_owned()
        } else if expired {
            "expired".to_owned()
        } else if let Some(life) = life.filter(|life| *life > longest) {
            format!("valid for {life} s")
        } else {
            return;
        };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} accepted a weak token of {} ({observed}); fix its validation or the token's life",
                    label(world, target.endpoint, &target.origin.host),
                    agent(seen)
                ),
            )
            .at(target.endpoint)
            .expected([format!(
                "a signed token, not expired, valid for at most {longest} s"
            )])
            .observed(observed),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(header: &str, exp: i64, iat: i64, status: u16) -> Vec<Finding> {
        let mut bench = Bench::new(WeakToken, "");
        let now = (bench.at().time.0 / 1_000_000_000) as i64;
        let claims = format!(
            r#"{{"exp":{},"iat":{}}}"#,
            now.saturating_add(exp),
            now.saturating_add(iat)
        );
        bench.head = request(
            "POST",
            "/mcp",
            &[("Authorization", &format!("Bearer {}", jwt(header, &claims)))],
        );
        bench.response(&response(status, &[]), true)
    }

    const SIGNED: &str = r#"{"alg":"RS256"}"#;

    #[test]
    fn fires_on_unsigned_expired_and_long_lived_tokens() {
        assert_eq!(
            accepted(r#"{"alg":"None"}"#, 60, -60, 200)[0].observed.as_deref(),
            Some("alg none")
        );
        assert_eq!(
            accepted(SIGNED, -3600, -7200, 200)[0].observed.as_deref(),
            Some("expired")
        );
        assert_eq!(accepted(SIGNED, 1_000_000, 0, 202).len(), 1);
    }

    #[test]
    fn stays_silent_on_good_tokens_on_refusal_and_on_clock_difference() {
        assert!(accepted(SIGNED, 3600, 0, 200).is_empty());
        assert!(accepted(SIGNED, -100, -3600, 200).is_empty());
        assert!(accepted(SIGNED, -3600, -7200, 401).is_empty());
    }
}
