//! On whose behalf a request is made, as far as its credentials tell.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Serialize, Serializer,
    ser::{Error as _, SerializeStruct as _},
};
use sha2::{Digest, Sha256};

use crate::proto::http::RequestHead;

/// A digest of whom a credential stands for. Never shown, never stored with the credential.
///
/// One of an opaque credential does not serialize: who has the state file could test guesses at it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Deserialize)]
pub struct Principal {
    /// Digest; zero without credentials.
    digest: [u8; 8],
    /// It names issuer, subject and scope rather than one token, so it survives a token's renewal.
    pub stable: bool,
}

impl Serialize for Principal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.stable && *self != Self::default() {
            return Err(S::Error::custom(
                "the digest of an opaque credential stays in memory",
            ));
        }
        let mut fields = serializer.serialize_struct("Principal", 2)?;
        fields.serialize_field("digest", &self.digest)?;
        fields.serialize_field("stable", &self.stable)?;
        fields.end()
    }
}

impl Principal {
    /// Itself if stable; one common value for all opaque credentials otherwise.
    #[must_use]
    pub fn stable_part(self) -> Self {
        if self.stable { self } else { Self::default() }
    }
}

/// The principal of a request: issuer, subject, client and scope of a JWT, else the credential itself.
pub fn of_request(head: &RequestHead) -> Principal {
    let authorization = head.headers.get("authorization");
    let Some(credential) = authorization.or_else(|| head.headers.get("x-api-key")) else {
        return Principal::default();
    };
    let token = credential.splitn(2, |b| *b == b' ').last().unwrap_or(credential);
    if let Some(claims) = jwt_part(token, 1) {
        let mut hash = Sha256::new();
        for key in ["iss", "sub", "client_id", "azp", "scope", "scp"] {
            hash.update(claims.get(key).map(ToString::to_string).unwrap_or_default());
            hash.update([0]);
        }
        return Principal {
            digest: first_eight(&hash.finalize()),
            stable: true,
        };
    }
    Principal {
        digest: first_eight(&Sha256::digest(credential)),
        stable: false,
    }
}

fn first_eight(digest: &[u8]) -> [u8; 8] {
    digest.first_chunk().copied().unwrap_or_default()
}

/// Part of a JSON Web Token (RFC 7519), not verified: 0 is the header, 1 the claims.
pub fn jwt_part(token: &[u8], part: usize) -> Option<serde_json::Value> {
    let parts: Vec<&[u8]> = token.split(|b| *b == b'.').take(4).collect();
    if parts.len() != 3 {
        return None;
    }
    let json = URL_SAFE_NO_PAD.decode(parts.get(part)?).ok()?;
    serde_json::from_slice(&json)
        .ok()
        .filter(serde_json::Value::is_object)
}
