//! Cipher suites that give less than they seem to (names of the IANA registry).

/// Why a cipher suite is weak; the worst reason where there are several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Weakness {
    /// No encryption.
    Null,
    /// Key lengths for export in the 1990s (FREAK, Logjam).
    Export,
    /// The server is not authenticated.
    Anonymous,
    /// RC4 (RFC 7465).
    Rc4,
    /// DES.
    Des,
    /// Triple DES: 64-bit blocks (Sweet32).
    TripleDes,
    /// RSA key transport: no forward secrecy, and padding oracles (ROBOT).
    StaticRsa,
}

impl Weakness {
    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Null => "no encryption",
            Self::Export => "export-grade keys",
            Self::Anonymous => "unauthenticated server",
            Self::Rc4 => "RC4",
            Self::Des => "DES",
            Self::TripleDes => "triple DES",
            Self::StaticRsa => "RSA key transport without forward secrecy",
        }
    }
}

/// Registry name of a cipher suite, if it is weak.
pub fn is_weak(cipher: u16) -> Option<&'static str> {
    find(cipher).map(|(_, name, _)| *name)
}

/// Why a cipher suite is weak; `None` if it is not.
pub fn weakness(cipher: u16) -> Option<Weakness> {
    find(cipher).map(|(_, _, why)| *why)
}

fn find(cipher: u16) -> Option<&'static (u16, &'static str, Weakness)> {
    let at = WEAK.binary_search_by_key(&cipher, |(code, _, _)| *code).ok()?;
    WEAK.get(at)
}

use Weakness::{Anonymous, Des, Export, Null, Rc4, StaticRsa, TripleDes};

/// Ordered by code.
const WEAK: &[(u16, &str, Weakness)] = &[
    (0x0000, "TLS_NULL_WITH_NULL_NULL", Null),
    (0x0001, "TLS_RSA_WITH_NULL_MD5", Null),
    (0x0002, "TLS_RSA_WITH_NULL_SHA", Null),
    (0x0003, "TLS_RSA_EXPORT_WITH_RC4_40_MD5", Export),
    (0x0004, "TLS_RSA_WITH_RC4_128_MD5", Rc4),
    (0x0005, "TLS_RSA_WITH_RC4_128_SHA", Rc4),
    (0x0006, "TLS_RSA_EXPORT_WITH_RC2_CBC_40_MD5", Export),
    (0x0007, "TLS_RSA_WITH_IDEA_CBC_SHA", StaticRsa),
    (0x0008, "TLS_RSA_EXPORT_WITH_DES40_CBC_SHA", Export),
    (0x0009, "TLS_RSA_WITH_DES_CBC_SHA", Des),
    (0x000a, "TLS_RSA_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0x000b, "TLS_DH_DSS_EXPORT_WITH_DES40_CBC_SHA", Export),
    (0x000c, "TLS_DH_DSS_WITH_DES_CBC_SHA", Des),
    (0x000d, "TLS_DH_DSS_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0x000e, "TLS_DH_RSA_EXPORT_WITH_DES40_CBC_SHA", Export),
    (0x000f, "TLS_DH_RSA_WITH_DES_CBC_SHA", Des),
    (0x0010, "TLS_DH_RSA_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0x0011, "TLS_DHE_DSS_EXPORT_WITH_DES40_CBC_SHA", Export),
    (0x0012, "TLS_DHE_DSS_WITH_DES_CBC_SHA", Des),
    (0x0013, "TLS_DHE_DSS_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0x0014, "TLS_DHE_RSA_EXPORT_WITH_DES40_CBC_SHA", Export),
    (0x0015, "TLS_DHE_RSA_WITH_DES_CBC_SHA", Des),
    (0x0016, "TLS_DHE_RSA_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0x0017, "TLS_DH_anon_EXPORT_WITH_RC4_40_MD5", Export),
    (0x0018, "TLS_DH_anon_WITH_RC4_128_MD5", Anonymous),
    (0x0019, "TLS_DH_anon_EXPORT_WITH_DES40_CBC_SHA", Export),
    (0x001a, "TLS_DH_anon_WITH_DES_CBC_SHA", Anonymous),
    (0x001b, "TLS_DH_anon_WITH_3DES_EDE_CBC_SHA", Anonymous),
    (0x001e, "TLS_KRB5_WITH_DES_CBC_SHA", Des),
    (0x001f, "TLS_KRB5_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0x0020, "TLS_KRB5_WITH_RC4_128_SHA", Rc4),
    (0x0022, "TLS_KRB5_WITH_DES_CBC_MD5", Des),
    (0x0023, "TLS_KRB5_WITH_3DES_EDE_CBC_MD5", TripleDes),
    (0x0024, "TLS_KRB5_WITH_RC4_128_MD5", Rc4),
    (0x0026, "TLS_KRB5_EXPORT_WITH_DES_CBC_40_SHA", Export),
    (0x0027, "TLS_KRB5_EXPORT_WITH_RC2_CBC_40_SHA", Export),
    (0x0028, "TLS_KRB5_EXPORT_WITH_RC4_40_SHA", Export),
    (0x0029, "TLS_KRB5_EXPORT_WITH_DES_CBC_40_MD5", Export),
    (0x002a, "TLS_KRB5_EXPORT_WITH_RC2_CBC_40_MD5", Export),
    (0x002b, "TLS_KRB5_EXPORT_WITH_RC4_40_MD5", Export),
    (0x002c, "TLS_PSK_WITH_NULL_SHA", Null),
    (0x002d, "TLS_DHE_PSK_WITH_NULL_SHA", Null),
    (0x002e, "TLS_RSA_PSK_WITH_NULL_SHA", Null),
    (0x002f, "TLS_RSA_WITH_AES_128_CBC_SHA", StaticRsa),
    (0x0034, "TLS_DH_anon_WITH_AES_128_CBC_SHA", Anonymous),
    (0x0035, "TLS_RSA_WITH_AES_256_CBC_SHA", StaticRsa),
    (0x003a, "TLS_DH_anon_WITH_AES_256_CBC_SHA", Anonymous),
    (0x003b, "TLS_RSA_WITH_NULL_SHA256", Null),
    (0x003c, "TLS_RSA_WITH_AES_128_CBC_SHA256", StaticRsa),
    (0x003d, "TLS_RSA_WITH_AES_256_CBC_SHA256", StaticRsa),
    (0x0041, "TLS_RSA_WITH_CAMELLIA_128_CBC_SHA", StaticRsa),
    (0x0046, "TLS_DH_anon_WITH_CAMELLIA_128_CBC_SHA", Anonymous),
    (0x0060, "TLS_RSA_EXPORT1024_WITH_RC4_56_MD5", Export),
    (0x0061, "TLS_RSA_EXPORT1024_WITH_RC2_CBC_56_MD5", Export),
    (0x0062, "TLS_RSA_EXPORT1024_WITH_DES_CBC_SHA", Export),
    (0x0063, "TLS_DHE_DSS_EXPORT1024_WITH_DES_CBC_SHA", Export),
    (0x0064, "TLS_RSA_EXPORT1024_WITH_RC4_56_SHA", Export),
    (0x0065, "TLS_DHE_DSS_EXPORT1024_WITH_RC4_56_SHA", Export),
    (0x0066, "TLS_DHE_DSS_WITH_RC4_128_SHA", Rc4),
    (0x006c, "TLS_DH_anon_WITH_AES_128_CBC_SHA256", Anonymous),
    (0x006d, "TLS_DH_anon_WITH_AES_256_CBC_SHA256", Anonymous),
    (0x0084, "TLS_RSA_WITH_CAMELLIA_256_CBC_SHA", StaticRsa),
    (0x0089, "TLS_DH_anon_WITH_CAMELLIA_256_CBC_SHA", Anonymous),
    (0x008a, "TLS_PSK_WITH_RC4_128_SHA", Rc4),
    (0x008b, "TLS_PSK_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0x008e, "TLS_DHE_PSK_WITH_RC4_128_SHA", Rc4),
    (0x008f, "TLS_DHE_PSK_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0x0092, "TLS_RSA_PSK_WITH_RC4_128_SHA", Rc4),
    (0x0093, "TLS_RSA_PSK_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0x0096, "TLS_RSA_WITH_SEED_CBC_SHA", StaticRsa),
    (0x009b, "TLS_DH_anon_WITH_SEED_CBC_SHA", Anonymous),
    (0x009c, "TLS_RSA_WITH_AES_128_GCM_SHA256", StaticRsa),
    (0x009d, "TLS_RSA_WITH_AES_256_GCM_SHA384", StaticRsa),
    (0x00a6, "TLS_DH_anon_WITH_AES_128_GCM_SHA256", Anonymous),
    (0x00a7, "TLS_DH_anon_WITH_AES_256_GCM_SHA384", Anonymous),
    (0x00b0, "TLS_PSK_WITH_NULL_SHA256", Null),
    (0x00b1, "TLS_PSK_WITH_NULL_SHA384", Null),
    (0x00b4, "TLS_DHE_PSK_WITH_NULL_SHA256", Null),
    (0x00b5, "TLS_DHE_PSK_WITH_NULL_SHA384", Null),
    (0x00b8, "TLS_RSA_PSK_WITH_NULL_SHA256", Null),
    (0x00b9, "TLS_RSA_PSK_WITH_NULL_SHA384", Null),
    (0x00ba, "TLS_RSA_WITH_CAMELLIA_128_CBC_SHA256", StaticRsa),
    (0x00bf, "TLS_DH_anon_WITH_CAMELLIA_128_CBC_SHA256", Anonymous),
    (0x00c0, "TLS_RSA_WITH_CAMELLIA_256_CBC_SHA256", StaticRsa),
    (0x00c5, "TLS_DH_anon_WITH_CAMELLIA_256_CBC_SHA256", Anonymous),
    (0xc001, "TLS_ECDH_ECDSA_WITH_NULL_SHA", Null),
    (0xc002, "TLS_ECDH_ECDSA_WITH_RC4_128_SHA", Rc4),
    (0xc003, "TLS_ECDH_ECDSA_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0xc006, "TLS_ECDHE_ECDSA_WITH_NULL_SHA", Null),
    (0xc007, "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", Rc4),
    (0xc008, "TLS_ECDHE_ECDSA_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0xc00b, "TLS_ECDH_RSA_WITH_NULL_SHA", Null),
    (0xc00c, "TLS_ECDH_RSA_WITH_RC4_128_SHA", Rc4),
    (0xc00d, "TLS_ECDH_RSA_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0xc010, "TLS_ECDHE_RSA_WITH_NULL_SHA", Null),
    (0xc011, "TLS_ECDHE_RSA_WITH_RC4_128_SHA", Rc4),
    (0xc012, "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0xc015, "TLS_ECDH_anon_WITH_NULL_SHA", Null),
    (0xc016, "TLS_ECDH_anon_WITH_RC4_128_SHA", Anonymous),
    (0xc017, "TLS_ECDH_anon_WITH_3DES_EDE_CBC_SHA", Anonymous),
    (0xc018, "TLS_ECDH_anon_WITH_AES_128_CBC_SHA", Anonymous),
    (0xc019, "TLS_ECDH_anon_WITH_AES_256_CBC_SHA", Anonymous),
    (0xc01a, "TLS_SRP_SHA_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0xc01b, "TLS_SRP_SHA_RSA_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0xc01c, "TLS_SRP_SHA_DSS_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0xc033, "TLS_ECDHE_PSK_WITH_RC4_128_SHA", Rc4),
    (0xc034, "TLS_ECDHE_PSK_WITH_3DES_EDE_CBC_SHA", TripleDes),
    (0xc039, "TLS_ECDHE_PSK_WITH_NULL_SHA", Null),
    (0xc03a, "TLS_ECDHE_PSK_WITH_NULL_SHA256", Null),
    (0xc03b, "TLS_ECDHE_PSK_WITH_NULL_SHA384", Null),
    (0xc03c, "TLS_RSA_WITH_ARIA_128_CBC_SHA256", StaticRsa),
    (0xc03d, "TLS_RSA_WITH_ARIA_256_CBC_SHA384", StaticRsa),
    (0xc046, "TLS_DH_anon_WITH_ARIA_128_CBC_SHA256", Anonymous),
    (0xc047, "TLS_DH_anon_WITH_ARIA_256_CBC_SHA384", Anonymous),
    (0xc050, "TLS_RSA_WITH_ARIA_128_GCM_SHA256", StaticRsa),
    (0xc051, "TLS_RSA_WITH_ARIA_256_GCM_SHA384", StaticRsa),
    (0xc05a, "TLS_DH_anon_WITH_ARIA_128_GCM_SHA256", Anonymous),
    (0xc05b, "TLS_DH_anon_WITH_ARIA_256_GCM_SHA384", Anonymous),
    (0xc07a, "TLS_RSA_WITH_CAMELLIA_128_GCM_SHA256", StaticRsa),
    (0xc07b, "TLS_RSA_WITH_CAMELLIA_256_GCM_SHA384", StaticRsa),
    (0xc084, "TLS_DH_anon_WITH_CAMELLIA_128_GCM_SHA256", Anonymous),
    (0xc085, "TLS_DH_anon_WITH_CAMELLIA_256_GCM_SHA384", Anonymous),
    (0xc09c, "TLS_RSA_WITH_AES_128_CCM", StaticRsa),
    (0xc09d, "TLS_RSA_WITH_AES_256_CCM", StaticRsa),
    (0xc0a0, "TLS_RSA_WITH_AES_128_CCM_8", StaticRsa),
    (0xc0a1, "TLS_RSA_WITH_AES_256_CCM_8", StaticRsa),
    (0xc0b4, "TLS_SHA256_SHA256", Null),
    (0xc0b5, "TLS_SHA384_SHA384", Null),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_weak_suites_and_leaves_strong_ones() {
        assert!(WEAK.is_sorted_by_key(|(code, _, _)| *code));
        assert_eq!(is_weak(0x0005), Some("TLS_RSA_WITH_RC4_128_SHA"));
        for (code, why) in [
            (0x0000, Some(Null)),
            (0x0003, Some(Export)),
            (0x000a, Some(TripleDes)),
            (0x002f, Some(StaticRsa)),
            (0x0034, Some(Anonymous)),
            (0x009c, Some(StaticRsa)),
            (0xc011, Some(Rc4)),
            (0x1301, None),
            (0xc02f, None),
            (0x009e, None),
            (0xcca8, None),
            (0x00ff, None),
            (0x5600, None),
        ] {
            assert_eq!(weakness(code), why, "{code:04x}");
        }
    }
}
