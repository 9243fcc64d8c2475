//! Which network and country an address is announced from: offline tables in MaxMind's format.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use maxminddb::geoip2;

use super::ConfigError;

/// Files of the tables, under `origins` of the program configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OriginFiles {
    /// `autonomous_system_number` and `autonomous_system_organization` by address.
    pub asn: Option<PathBuf>,
    /// `country.iso_code` by address.
    pub country: Option<PathBuf>,
}

type Table = maxminddb::Reader<Vec<u8>>;

/// The tables, in memory as they are on disk.
#[derive(Debug, Default)]
pub struct OriginTables {
    asn: Option<Table>,
    country: Option<Table>,
}

/// Where an address is announced. Two are the same if network and country are.
#[derive(Clone, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Origin {
    /// Number of the autonomous system.
    pub asn: Option<u32>,
    /// Who runs it, in the table's words.
    pub organisation: Option<Box<str>>,
    /// ISO 3166-1 alpha-2.
    pub country: Option<Box<str>>,
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        self.asn == other.asn && self.country == other.country
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asn = self.asn.map(|n| format!("AS{n}"));
        let network: Vec<&str> = asn
            .as_deref()
            .into_iter()
            .chain(self.organisation.as_deref())
            .collect();
        f.write_str(&network.join(" "))?;
        match (network.is_empty(), self.country.as_deref()) {
            (_, None) => Ok(()),
            (true, Some(country)) => f.write_str(country),
            (false, Some(country)) => write!(f, ", {country}"),
        }
    }
}

impl OriginTables {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// The first that cannot be read or is no such table.
    pub fn load(files: &OriginFiles) -> Result<Self, ConfigError> {
        let table = |path: &Option<PathBuf>| path.as_deref().map(open).transpose();
        Ok(Self {
            asn: table(&files.asn)?,
            country: table(&files.country)?,
        })
    }

    /// What is loaded, for people: type and date of each table. `None` if nothing is.
    pub fn describe(&self) -> Option<String> {
        let tables: Vec<String> = [&self.asn, &self.country]
            .into_iter()
            .flatten()
            .map(|table| {
                let metadata = table.metadata();
                let built = i64::try_from(metadata.build_epoch)
                    .ok()
                    .and_then(|epoch| time::OffsetDateTime::from_unix_timestamp(epoch).ok())
                    .map_or_else(String::new, |at| format!(" of {}", at.date()));
                format!("{}{built}", metadata.database_type)
            })
            .collect();
        (!tables.is_empty()).then(|| tables.join(", "))
    }

    /// Where an address is announced; `None` if no table knows it.
    pub fn lookup(&self, address: IpAddr) -> Option<Origin> {
        let asn = self.asn.as_ref().and_then(|table| {
            let found = table.lookup(address).ok()?.decode::<geoip2::Asn<'_>>().ok()??;
            let organisation = found.autonomous_system_organization.map(Into::into);
            Some((found.autonomous_system_number, organisation))
        });
        let country = self.country.as_ref().and_then(|table| {
            let found = table
                .lookup(address)
                .ok()?
                .decode::<geoip2::Country<'_>>()
                .ok()??;
            found.country.iso_code.map(Into::into)
        });
        let (asn, organisation) = asn.unwrap_or_default();
        (asn.is_some() || country.is_some()).then_some(Origin {
            asn,
            organisation,
            country,
        })
    }
}

fn open(path: &Path) -> Result<Table, ConfigError> {
    Table::open_readfile(path).map_err(|error| ConfigError {
        file: path.display().to_string(),
        line: 0,
        column: 0,
        found: error.to_string(),
        expected: "a table in MaxMind's format (.mmdb)".to_owned(),
    })
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// 203.0.113.0/24 in one invented network, 198.51.100.0/24 in another. The files were written with the
    /// Python package mmdb_writer.
    pub(crate) fn tables() -> OriginTables {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/testdata");
        OriginTables::load(&OriginFiles {
            asn: Some(folder.join("asn.mmdb")),
            country: Some(folder.join("country.mmdb")),
        })
        .unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_addresses_up() {
        let tables = testing::tables();
        let origin = |ip: &str| tables.lookup(ip.parse().unwrap()).map(|o| o.to_string());
        assert_eq!(
            origin("203.0.113.5").as_deref(),
            Some("AS64500 Honest Networks, DE")
        );
        assert_eq!(origin("192.0.2.1"), None);
        assert_eq!(origin("2001:db8::1"), None);
        assert!(tables.describe().unwrap().starts_with("Test-ASN of 2"));
        assert_eq!(OriginTables::default().describe(), None);
        assert_eq!(
            OriginTables::default().lookup("203.0.113.5".parse().unwrap()),
            None
        );
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let asn = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
        let error = OriginTables::load(&OriginFiles { asn, country: None }).unwrap_err();
        assert!(error.to_string().contains("MaxMind's format"));
    }
}
