//! Threat feeds (OP-03): STIX 2.1 bundles and plain lists, made ready to look things up.

use std::{net::IpAddr, path::Path, sync::Arc};

use hashbrown::HashMap;
use ipnet::IpNet;

use super::{ConfigError, MAX_ENTRIES, files, json, read, short, stix, wrong};
use crate::types::Timestamp;

/// Where an entry came from, and until when it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Indicator {
    /// Name of the file.
    pub source: Arc<str>,
    /// What the feed calls it, if it does.
    pub label: Option<Arc<str>>,
    /// It holds before this capture time; `None`: for good.
    pub until: Option<Timestamp>,
}

impl Indicator {
    /// It holds at this time.
    pub fn holds(&self, at: Timestamp) -> bool {
        self.until.is_none_or(|until| at < until)
    }

    /// For an alert: label and file.
    pub fn origin(&self) -> String {
        match &self.label {
            Some(label) => format!("{label} ({})", self.source),
            None => self.source.to_string(),
        }
    }
}

/// What an entry names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Thing {
    Net(IpNet),
    /// Lower case, without trailing dot.
    Name(String),
    /// The domain and every name below it.
    Below(String),
    /// As [`plain_url`] writes it.
    Url(String),
    Ja4(String),
    /// SHA-256 of a certificate's DER.
    Certificate([u8; 32]),
}

/// All entries of all feeds.
#[derive(Clone, Default, Debug)]
pub struct Indicators {
    nets: HashMap<IpNet, Indicator>,
    /// Prefix lengths that occur, by family: a look-up tries only these.
    lengths: [Vec<u8>; 2],
    names: HashMap<Box<str>, Indicator>,
    below: HashMap<Box<str>, Indicator>,
    urls: HashMap<Box<str>, Indicator>,
    ja4: HashMap<Box<str>, Indicator>,
    certificates: HashMap<[u8; 32], Indicator>,
    /// STIX indicators whose pattern is of a kind that is not matched here.
    unsupported: usize,
}

/// Shortest prefix taken: a shorter one would match half the Internet, by mistake or malice.
const SHORTEST: (u8, u8) = (8, 16);

impl Indicators {
    /// Reads every file that `feeds` name, relative to `base`. Of folders: `.json`, `.stix`, `.txt`,
    /// `.list`, `.csv` and `.ioc`.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is not what a feed is, with its place.
    pub fn load(feeds: &[String], base: &Path) -> Result<Self, ConfigError> {
        let mut all = Self::default();
        for path in files(feeds, base, &[".json", ".stix", ".txt", ".list", ".csv", ".ioc"])? {
            let text = read(&path)?;
            all.add_file(&path, &text)?;
        }
        Ok(all)
    }

    fn add_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let source = short(path);
        if text.trim_start().starts_with('{') {
            let bundle = json(path, text)?;
            let (entries, unsupported) =
                stix::read(&bundle).map_err(|(found, expected)| wrong(path, 0, found, expected))?;
            self.unsupported = self.unsupported.saturating_add(unsupported);
            for entry in entries {
                let indicator = Indicator {
                    source: source.clone(),
                    label: entry.label,
                    until: entry.until,
                };
                self.insert(entry.thing, &indicator)
                    .map_err(|expected| wrong(path, 0, "an entry that cannot be used", expected))?;
            }
            return Ok(());
        }
        for (number, line) in (1usize..).zip(text.lines()) {
            let line = line.split(['#', ';']).next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let mut words = line.split([',', '\t', ' ']).filter(|w| !w.is_empty());
            let value = words.next().unwrap_or_default();
            let until = match words.next() {
                None => None,
                Some(date) => Some(
                    Timestamp::parse_rfc3339(date)
                        .or_else(|| Timestamp::parse_rfc3339(&format!("{date}T00:00:00Z")))
                        .ok_or_else(|| {
                            let expected = "the date on which the entry expires, such as 2027-01-31";
                            wrong(path, number, format!("bad date {:?}", cut(date)), expected)
                        })?,
                ),
            };
            let indicator = Indicator {
                source: source.clone(),
                label: None,
                until,
            };
            let thing = plain(value).ok_or_else(|| {
                let expected = "an address, a prefix, a host name, *.domain, a URL, a JA4 or a SHA-256";
                wrong(path, number, format!("bad entry {:?}", cut(value)), expected)
            })?;
            self.insert(thing, &indicator)
                .map_err(|expected| wrong(path, number, format!("bad entry {:?}", cut(value)), expected))?;
        }
        Ok(())
    }

    fn insert(&mut self, thing: Thing, indicator: &Indicator) -> Result<(), String> {
        if self.len() >= MAX_ENTRIES {
            return Err(format!("at most {MAX_ENTRIES} entries in all feeds"));
        }
        match thing {
            Thing::Net(net) => {
                let (shortest, family) = match net {
                    IpNet::V4(_) => (SHORTEST.0, 0),
                    IpNet::V6(_) => (SHORTEST.1, 1),
                };
                if net.prefix_len() < shortest {
                    return Err(format!("a prefix of at least /{shortest}"));
                }
                if let Some(lengths) = self.lengths.get_mut(family)
                    && !lengths.contains(&net.prefix_len())
                {
                    lengths.push(net.prefix_len());
                    lengths.sort_unstable_by(|a, b| b.cmp(a));
                }
                keep(&mut self.nets, net.trunc(), indicator);
            }
            Thing::Name(name) => keep(&mut self.names, name.into(), indicator),
            Thing::Below(name) => keep(&mut self.below, name.into(), indicator),
            Thing::Url(url) => keep(&mut self.urls, url.into(), indicator),
            Thing::Ja4(ja4) => keep(&mut self.ja4, ja4.into(), indicator),
            Thing::Certificate(hash) => keep(&mut self.certificates, hash, indicator),
        }
        Ok(())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        [
            self.nets.len(),
            self.names.len(),
            self.below.len(),
            self.urls.len(),
            self.ja4.len(),
            self.certificates.len(),
        ]
        .iter()
        .fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// STIX indicators that were left out because their pattern is of a kind that is not matched here.
    pub fn unsupported(&self) -> usize {
        self.unsupported
    }

    /// By address: the longest listed prefix that holds at this time.
    pub fn address(&self, ip: IpAddr, at: Timestamp) -> Option<&Indicator> {
        let ip = ip.to_canonical();
        let lengths = self.lengths.get(usize::from(ip.is_ipv6()))?;
        lengths.iter().find_map(|length| {
            let net = IpNet::new(ip, *length).ok()?.trunc();
            self.nets.get(&net).filter(|i| i.holds(at))
        })
    }

    /// By host name (lower case): listed itself, or below a listed domain.
    pub fn name(&self, name: &str, at: Timestamp) -> Option<&Indicator> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if let Some(found) = self.names.get(name).filter(|i| i.holds(at)) {
            return Some(found);
        }
        if self.below.is_empty() {
            return None;
        }
        let mut rest = name;
        loop {
            if let Some(found) = self.below.get(rest).filter(|i| i.holds(at)) {
                return Some(found);
            }
            rest = rest.split_once('.')?.1;
        }
    }

    /// By URL: `scheme://host[:port]/path`.
    pub fn url(&self, url: &str, at: Timestamp) -> Option<&Indicator> {
        if self.urls.is_empty() {
            return None;
        }
        self.urls.get(&*plain_url(url)?).filter(|i| i.holds(at))
    }

    /// By JA4.
    pub fn ja4(&self, ja4: &str, at: Timestamp) -> Option<&Indicator> {
        self.ja4.get(ja4).filter(|i| i.holds(at))
    }

    /// Some JA4 is listed.
    pub fn lists_ja4(&self) -> bool {
        !self.ja4.is_empty()
    }

    /// By SHA-256 of a certificate's DER.
    pub fn certificate(&self, sha256: &[u8; 32], at: Timestamp) -> Option<&Indicator> {
        self.certificates.get(sha256).filter(|i| i.holds(at))
    }

    /// Some certificate is listed.
    pub fn lists_certificates(&self) -> bool {
        !self.certificates.is_empty()
    }
}

/// Of two entries for one thing the one that holds longer stays.
fn keep<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Indicator>, key: K, new: &Indicator) {
    let stays = map
        .get(&key)
        .is_some_and(|old| old.until.is_none() || (new.until.is_some() && old.until >= new.until));
    if !stays {
        map.insert(key, new.clone());
    }
}

fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Origin and path of an http or https URL, without query, fragment and user.
fn plain_url(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let host = url.host_str()?;
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    matches!(url.scheme(), "http" | "https").then(|| format!("{}://{host}{port}{}", url.scheme(), url.path()))
}

/// One entry of a plain list.
pub(super) fn plain(value: &str) -> Option<Thing> {
    if let Ok(ip) = value.parse::<IpAddr>() {
        return Some(Thing::Net(ip.into()));
    }
    if let Ok(net) = value.parse::<IpNet>() {
        return Some(Thing::Net(net));
    }
    if value.contains("://") {
        return url(value);
    }
    if is_ja4(value) {
        return Some(Thing::Ja4(value.to_owned()));
    }
    let hex = value.replace(':', "");
    if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return certificate(&hex);
    }
    if let Some(domain) = value.strip_prefix("*.").or_else(|| value.strip_prefix('.')) {
        return host(domain).map(Thing::Below);
    }
    host(value).map(Thing::Name)
}

/// A URL that is no more than a host counts as that host.
pub(super) fn url(text: &str) -> Option<Thing> {
    let plain = plain_url(text)?;
    let url = url::Url::parse(text).ok()?;
    if url.path() == "/" && url.query().is_none() {
        let bare = url.host_str()?.trim_matches(['[', ']']);
        return match bare.parse::<IpAddr>() {
            Ok(ip) => Some(Thing::Net(ip.into())),
            Err(_) => host(bare).map(Thing::Name),
        };
    }
    Some(Thing::Url(plain))
}

/// `t13d1516h2_8daaf6152771_e5627efa2ab1`.
pub(super) fn is_ja4(text: &str) -> bool {
    let hex = |s: &str| s.len() == 12 && s.bytes().all(|b| b.is_ascii_hexdigit());
    let mut parts = text.split('_');
    let (Some(a), Some(b), Some(c), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    a.len() == 10 && a.starts_with(['t', 'q', 'd']) && a.is_ascii() && hex(b) && hex(c)
}

pub(super) fn certificate(hex: &str) -> Option<Thing> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some((high << 4) | low),
            _ => None,
        })
        .collect::<Option<_>>()?;
    bytes.try_into().ok().map(Thing::Certificate)
}

/// A host name with at least one dot: a bare word in a list is a mistake.
pub(super) fn host(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    (name.len() <= 253 && name.contains('.') && name.split('.').all(label)).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feed(text: &str) -> Result<Indicators, String> {
        let mut all = Indicators::default();
        all.add_file(Path::new("feed.txt"), text)
            .map(|()| all)
            .map_err(|e| e.to_string())
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn a_plain_list_is_looked_up_by_what_it_names() {
        let all = feed(
            "# bad hosts\n198.51.100.66\n203.0.113.0/24, 2027-01-01\n2001:db8:bad::/48\nevil.example ; seen in May\n*.c2.example\nhttps://files.example/payload.bin\nhttp://198.51.100.99/\nt13d1516h2_8daaf6152771_e5627efa2ab1\nAB:cd:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:01\n",
        )
        .unwrap();
        let now = at("2026-11-22T00:00:00Z");
        let ip = |text: &str, when| all.address(text.parse().unwrap(), when).is_some();
        assert!(ip("198.51.100.66", now) && !ip("198.51.100.67", now) && ip("198.51.100.99", now));
        assert!(ip("203.0.113.7", now) && !ip("203.0.113.7", at("2027-01-01T00:00:00Z")));
        assert!(ip("::ffff:198.51.100.66", now) && ip("2001:db8:bad::1", now) && !ip("2001:db8::1", now));
        assert!(all.name("evil.example", now).is_some() && all.name("sub.evil.example", now).is_none());
        assert!(all.name("a.b.c2.example", now).is_some() && all.name("c2.example.org", now).is_none());
        assert!(all.url("https://files.example/payload.bin?x=1", now).is_some());
        assert!(all.url("https://files.example/other", now).is_none());
        assert!(all.ja4("t13d1516h2_8daaf6152771_e5627efa2ab1", now).is_some());
        let mut der = [0; 32];
        (der[0], der[1], der[31]) = (0xab, 0xcd, 1);
        assert!(all.certificate(&der, now).is_some());
        assert_eq!(all.len(), 9);
    }

    #[test]
    fn mistakes_name_file_line_and_what_was_expected() {
        for (text, wanted) in [
            ("good.example\nnot a host!\n", "feed.txt:2:1: bad date"),
            ("good.example\nnot_a_host!\n", "feed.txt:2:1: bad entry"),
            ("localhost\n", "feed.txt:1:1: bad entry"),
            ("0.0.0.0/0\n", "a prefix of at least /8"),
            ("{\"type\": \"indicator\"}", "feed.txt: "),
            ("{", "no JSON"),
        ] {
            let error = feed(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn the_entry_that_holds_longer_stays() {
        let all =
            feed("a.example 2030-01-01\na.example 2020-01-01\nb.example\nb.example 2020-01-01\n").unwrap();
        let now = at("2026-01-01T00:00:00Z");
        assert!(all.name("a.example", now).is_some() && all.name("b.example", now).is_some());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}", word in "[a-z0-9.:/*_-]{0,30}") {
            let _ = feed(&text);
            let _ = feed(&word);
        }
    }
}
