//! Every format over its example, every documented sample, and the properties of the scanner.

use std::collections::HashSet;

use proptest::prelude::*;

use super::{
    format::{Check, Format, Place},
    *,
};

fn hits(text: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    scan(text.as_bytes(), &mut found);
    found
        .iter()
        .map(|h| (h.kind, text[h.range()].to_owned()))
        .collect()
}

fn deep(text: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    scan_deep(text.as_bytes(), &mut found);
    found
        .iter()
        .map(|h| (h.kind, text[h.range()].to_owned()))
        .collect()
}

#[test]
fn at_least_one_hundred_and_fifty_formats_each_with_a_name_of_its_own() {
    let kinds: HashSet<_> = formats::all().map(|f| f.kind).collect();
    assert_eq!(kinds.len(), formats::all().count());
    assert!(kinds.len() >= 150, "{}", kinds.len());
    for f in formats::all() {
        assert!(
            f.anchors.iter().all(|a| a.len() >= 3) && !f.anchors.is_empty(),
            "{}",
            f.kind
        );
        assert!(
            f.kind
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "{}",
            f.kind
        );
    }
}

#[test]
fn every_example_is_found_as_its_kind_alone_and_in_json() {
    let mut missing = Vec::new();
    for f in formats::all() {
        let Some(text) = example(f.kind) else {
            missing.push(f.kind);
            continue;
        };
        // At even and odd places, at the end and before more text.
        for (before, after) in [
            ("", ""),
            (" ", ""),
            ("", " and more text"),
            ("\"", "\" and more text"),
        ] {
            let found = hits(&format!("{before}{text}{after}"));
            assert!(
                matches!(found.as_slice(), [(kind, _)] if *kind == f.kind),
                "{}: {found:?}",
                f.kind
            );
        }
        let json =
            serde_json::json!({"jsonrpc": "2.0", "id": 7, "params": {"arguments": {"q": text}}}).to_string();
        let kinds: Vec<_> = deep(&json).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [f.kind], "{json}");
    }
    assert_eq!(missing, Vec::<&str>::new(), "no valid example");
}

#[test]
fn one_wrong_digit_breaks_a_checksum() {
    for kind in [
        "github-pat",
        "npm-token",
        "age-secret-key",
        "nostr-private-key",
        "bitcoin-extended-private-key",
    ] {
        let mut text = example(kind).unwrap();
        let last = if text.pop() == Some('Q') { 'P' } else { 'Q' };
        text.push(if kind.starts_with("nostr") {
            last.to_ascii_lowercase()
        } else {
            last
        });
        assert_eq!(hits(&text), [], "{kind}");
    }
}

#[test]
fn documented_samples_are_silent() {
    for sample in placeholder::documented() {
        for text in [
            sample.to_string(),
            format!("Authorization: Bearer {sample}"),
            format!("Basic {sample}"),
            format!("{{\"api_key\": \"{sample}\", \"aws_secret_access_key\": \"{sample}\"}}"),
        ] {
            assert_eq!(deep(&text), [], "{text}");
        }
    }
}

#[test]
fn look_alikes_are_silent() {
    for text in [
        "password=your-password-here",
        "password: ${DB_PASSWORD}",
        "\"password\": {\"type\": \"string\", \"description\": \"At least 8 characters\"}",
        "\"api_key\": \"<YOUR_API_KEY_1234567890>\"",
        "\"token\": \"xxxxxxxxxxxxxxxxxxxxxxxx\"",
        "\"token\": \"12345678901234567890\"",
        "\"progressToken\": \"a81bc81bdead4e5dabff90865d1e13b1\"",
        "\"nextPageToken\": \"q7Zt9LmPw2Xc4VbN8sRd\"",
        "\"cursor_token\": \"q7Zt9LmPw2Xc4VbN8sRd\"",
        "\"maxTokens\": 100",
        "\"token_count\": \"q7Zt9LmPw2Xc4VbN8sRd\"",
        "\"secretName\": \"q7Zt9LmPw2Xc4VbN8sRd\"",
        "secret = getSecretFromVault123456(name)",
        "token: my-session-token-2024",
        "https://user@example.com/path",
        "https://user:password@example.com/",
        "postgres://postgres:postgres@localhost/db",
        "sk-learn and sk_buff and hf_hub_download and AKIA",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "123e4567-e89b-12d3-a456-426614174000",
        "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
        "Basic usage: Bearer tokens are sent in the header",
        "ghp_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "bearer token in the authorization header",
    ] {
        assert_eq!(deep(text), [], "{text}");
    }
}

#[test]
fn names_with_random_values() {
    let value = "q7Zt9LmPw2Xc4VbN8sRd";
    assert_eq!(
        hits(&format!("{{\"api_key\":\"{value}\"}}")),
        [("generic-api-key", value.to_owned())]
    );
    assert_eq!(
        hits(&format!("CLIENT_SECRET={value}")),
        [("generic-secret", value.to_owned())]
    );
    assert_eq!(
        hits("password: \"Tr0ub4dor&3x\""),
        [("generic-password", "Tr0ub4dor&3x".to_owned())]
    );
    // Known by its own form rather than by its name.
    let token = example("github-pat").unwrap();
    assert_eq!(
        hits(&format!("GITHUB_TOKEN={token}")),
        [("github-pat", token.clone())]
    );
}

#[test]
fn sees_through_one_layer() {
    use base64::{Engine as _, engine::general_purpose::*};
    let token = example("github-pat").unwrap();
    let inside = format!("{{\"t\":\"{token}\"}}");
    let escaped = format!("\\u0067{}", &token[1..]);
    for (text, span) in [
        (format!("{{\"a\":\"{escaped}\"}}"), escaped.clone()),
        (serde_json::json!({"a": inside}).to_string(), token.clone()),
        (
            format!("q={}", token.replace('_', "%5F")),
            token.replace('_', "%5F"),
        ),
        (format!("{{\"a\":\"line\\n{token}\\nline\"}}"), token.clone()),
    ] {
        assert_eq!(deep(&text), [("github-pat", span)], "{text}");
    }
    for encoded in [
        STANDARD.encode(&inside),
        URL_SAFE_NO_PAD.encode(&inside),
        inside.bytes().map(|b| format!("{b:02x}")).collect(),
    ] {
        let text = format!("{{\"blob\":\"{encoded}\"}}");
        let found = deep(&text);
        assert_eq!(found.len(), 1, "{text}");
        assert_eq!(found[0].0, "github-pat");
        assert!(encoded.contains(&found[0].1) && found[0].1.len() >= token.len());
    }
}

#[test]
fn places_next_to_each_other_are_kept_apart() {
    let (a, b) = (
        example("github-pat").unwrap(),
        example("slack-bot-token").unwrap(),
    );
    assert_eq!(
        hits(&format!("{a},{b} {a}")),
        [
            ("github-pat", a.clone()),
            ("slack-bot-token", b.clone()),
            ("github-pat", a.clone())
        ]
    );
    assert_eq!(hits(&format!("x{a}")), []);
    assert_eq!(hits(&format!("{a}x")), []);
}

#[test]
fn masked_text_has_no_secret_and_is_json_still() {
    for f in formats::all() {
        let text = example(f.kind).unwrap();
        let json = serde_json::json!({"a": [text, 1, "b"]}).to_string();
        let masked = mask(json.as_bytes());
        assert!(
            serde_json::from_str::<serde_json::Value>(&masked).is_ok(),
            "{masked}"
        );
        assert!(masked.contains(&format!("‹{}:", f.kind)), "{masked}");
        assert_eq!(deep(&masked), [], "{masked}");
    }
}

/// No benign capture holds a credential.
#[test]
fn benign_captures_hold_none() {
    // The client of the SDK's example server sends what it was given in the environment: nothing.
    let allowed: [(&str, &str); 0] = [];
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures/benign");
    let mut files = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if !path.extension().is_some_and(|e| e == "pcap" || e == "pcapng") {
            continue;
        }
        files += 1;
        let bytes = std::fs::read(&path).unwrap();
        let mut found = Vec::new();
        scan_deep(&bytes, &mut found);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        found.retain(|h| !allowed.contains(&(name.as_str(), h.kind)));
        let shown: Vec<_> = found
            .iter()
            .map(|h| (h.kind, String::from_utf8_lossy(&bytes[h.range()])))
            .collect();
        assert!(shown.is_empty(), "{name}: {shown:?}");
    }
    assert!(files > 30);
}

/// Formats whose shape can be long are the ones that a text of anchors could make slow.
#[test]
fn anchors_side_by_side_cost_no_more_than_their_bytes() {
    let long =
        |f: &&Format| *f.length().end() > 512 || matches!(f.check, Check::Jwt | Check::Pem | Check::UserInfo);
    for f in formats::all().filter(long) {
        for anchor in f.anchors {
            for glue in ["", " ", "-"] {
                let text = format!("{anchor}{glue}").repeat(100_000 / (anchor.len() + glue.len()));
                let start = std::time::Instant::now();
                scan_deep(text.as_bytes(), &mut Vec::new());
                assert!(start.elapsed().as_secs() < 2, "{anchor:?} {glue:?}");
            }
        }
    }
}

fn pieces() -> impl Strategy<Value = String> {
    let anchors: Vec<&'static str> = formats::all().flat_map(|f| f.anchors.iter().copied()).collect();
    let kinds: Vec<&'static str> = formats::all().map(|f| f.kind).collect();
    prop_oneof![
        proptest::sample::select(anchors).prop_map(str::to_owned),
        proptest::sample::select(kinds).prop_map(|k| example(k).unwrap()),
        "[ -~]{0,20}",
        "[A-Za-z0-9+/=_.-]{0,90}",
        r#"[\\"%\n:=u0-9a-f]{0,12}"#,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_scanned(parts in proptest::collection::vec(pieces(), 0..12)) {
        let text = parts.concat();
        for found in [hits(&text), deep(&text)] {
            prop_assert!(found.iter().all(|(_, secret)| !secret.is_empty()));
        }
        let mut places = Vec::new();
        scan_deep(text.as_bytes(), &mut places);
        prop_assert!(places.windows(2).all(|w| w[0].range().end <= w[1].start));
        prop_assert!(places.iter().all(|h| h.range().end <= text.len()));
        url_credentials(text.as_bytes());
        header_credential(b"authorization", text.as_bytes());
        let json = serde_json::json!({"a": text, "b": [text]}).to_string();
        let masked = mask(json.as_bytes());
        prop_assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok(), "{}", masked);
    }

    #[test]
    fn any_bytes_are_scanned(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut found = Vec::new();
        scan(&bytes, &mut found);
        scan_deep(&bytes, &mut found);
        mask(&bytes);
        url_credentials(&bytes);
        header_credential(&bytes, &bytes);
        jwt::decode_claims(&bytes);
    }
}

#[test]
fn named_formats_need_a_name() {
    for f in formats::all().filter(|f| matches!(f.place, Place::Name)) {
        let text = example(f.kind).unwrap();
        let value = hits(&text).remove(0).1;
        assert!(
            !hits(&format!("see {value} there"))
                .iter()
                .any(|(kind, _)| *kind == f.kind),
            "{}",
            f.kind
        );
    }
}
