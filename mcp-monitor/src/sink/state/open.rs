//! Opening a state file, or setting it aside.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{State, StateError, StateLimits, file_id, schema};
use crate::types::Timestamp;

/// How long a writer waits for another.
const BUSY: Duration = Duration::from_secs(5);

/// A state file, and whether one had to make way.
#[derive(Debug)]
pub struct Opened {
    /// Ready to use.
    pub state: State,
    /// One sentence about a file that was set aside.
    pub set_aside: Option<String>,
}

/// What is the matter with a file.
enum Trouble {
    Newer(i64),
    Corrupt(String),
    Foreign,
    Other(rusqlite::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Corrupt(error.to_string()),
            _ => Self::Other(error),
        }
    }
}

impl State {
    /// Opens a file for writing, making it (mode 0600) and its folder (mode 0700) if they are not there.
    /// A file that is broken or of a newer version is set aside under another name.
    ///
    /// # Errors
    ///
    /// The file system or SQLite refuses, or the file is a database of another program.
    pub fn open(path: &Path, limits: StateLimits) -> Result<Opened, StateError> {
        make(path)?;
        let mut set_aside = None;
        let db = match prepare(path) {
            Ok(db) => db,
            Err(Trouble::Foreign) => {
                return Err(StateError::Foreign {
                    path: path.to_owned(),
                });
            }
            Err(Trouble::Other(error)) => return Err(StateError::sqlite(path, &error)),
            Err(trouble) => {
                let (kind, why) = match trouble {
                    Trouble::Newer(version) => (
                        format!("newer-v{version}"),
                        format!(
                            "is of version {version}, this program writes {}",
                            schema::version()
                        ),
                    ),
                    Trouble::Corrupt(why) => ("corrupt".to_owned(), format!("is broken ({why})")),
                    Trouble::Foreign | Trouble::Other(_) => Default::default(),
                };
                let aside = move_aside(path, &kind)?;
                set_aside = Some(format!(
                    "state file {} {why}; it is now {} and a new one was begun",
                    path.display(),
                    aside.display()
                ));
                make(path)?;
                prepare(path).map_err(|trouble| refused(path, trouble))?
            }
        };
        Ok(Opened {
            state: Self {
                db,
                file: file_id(path),
                path: path.to_owned(),
                limits,
            },
            set_aside,
        })
    }

    /// Opens a file to read from it, also while another process writes.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read by this version.
    pub fn read(path: &Path) -> Result<Self, StateError> {
        if !path.exists() {
            return Err(StateError::Missing {
                path: path.to_owned(),
            });
        }
        let open = || -> Result<Connection, Trouble> {
            // Not read-only: readers of a write-ahead log need its index, which may have to be made.
            let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            db.busy_timeout(BUSY)?;
            examine(&db)?;
            db.pragma_update(None, "query_only", true)?;
            Ok(db)
        };
        Ok(Self {
            db: open().map_err(|trouble| refused(path, trouble))?,
            file: file_id(path),
            path: path.to_owned(),
            limits: StateLimits::default(),
        })
    }
}

fn refused(path: &Path, trouble: Trouble) -> StateError {
    let path = path.to_owned();
    match trouble {
        Trouble::Foreign => StateError::Foreign { path },
        Trouble::Other(error) => StateError::sqlite(&path, &error),
        Trouble::Corrupt(why) => StateError::Unreadable {
            path,
            why: format!("is broken ({why}); `run` would set it aside and begin a new one"),
        },
        Trouble::Newer(version) => StateError::Unreadable {
            path,
            why: format!(
                "is of version {version}; expected {} or below: use the newer mcp-monitor",
                schema::version()
            ),
        },
    }
}

/// The version of a file that is one of ours; 0 for an empty one.
fn examine(db: &Connection) -> Result<i64, Trouble> {
    let number = |pragma: &str| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    let version = number("user_version")?;
    if tables > 0 && number("application_id")? != i64::from(schema::APPLICATION_ID) {
        return Err(Trouble::Foreign);
    }
    if version > schema::version() {
        return Err(Trouble::Newer(version));
    }
    let check: String = db.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
    if check != "ok" {
        return Err(Trouble::Corrupt(check));
    }
    Ok(version)
}

fn prepare(path: &Path) -> Result<Connection, Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    let version = examine(&db)?;
    if version == 0 {
        // Only before the first table.
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update(None, "journal_size_limit", 16 << 20)?;
    db.pragma_update(None, "trusted_schema", false)?;
    schema::migrate(&mut db, version)?;
    Ok(db)
}

/// Makes an empty file that only its owner can read, before SQLite makes one that all can.
fn make(path: &Path) -> Result<(), StateError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let mut options = fs::OpenOptions::new();
    options.read(true).append(true).create(true);
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        options.mode(0o600);
        builder.mode(0o700);
    }
    if let Some(folder) = folder {
        builder
            .create(folder)
            .map_err(|error| StateError::io("make the folder", folder, error))?;
    }
    let file = options
        .open(path)
        .map_err(|error| StateError::io("open the state file", path, error))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::Permissions::from_mode(0o600);
        let loose = file
            .metadata()
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o077 != 0);
        if loose {
            file.set_permissions(mode)
                .map_err(|error| StateError::io("protect the state file", path, error))?;
        }
    }
    drop(file);
    Ok(())
}

/// Renames a file and its companions to `NAME.KIND-TIME`; the new name.
fn move_aside(path: &Path, kind: &str) -> Result<PathBuf, StateError> {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)).to_string();
    // No colons: they end a host name for some tools that copy files.
    let now: String = now.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = with(&format!(".{kind}-{now}"));
    for companion in ["-wal", "-shm", ""] {
        let from = with(companion);
        let mut to = aside.as_os_str().to_owned();
        to.push(companion);
        match fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(StateError::io("set aside", &from, error)),
        }
    }
    Ok(aside)
}
