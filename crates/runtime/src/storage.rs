//! The data directory of a node: one record, which survives the process and the machine.
//!
//! It is kept by redb, in one file, and replaced in one transaction of two phases: after a crash the
//! record of before or that of after is there, whatever of the writes has reached the disk and in
//! which order. A transaction of one phase would cost one `fsync` instead of two, but could not tell
//! a write that was torn from bytes that have changed later: then an older record would be served,
//! and with it a promise forgotten (V1). Saves are rare.

mod envelope;
pub(crate) mod log;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod writer;

use envelope::{Envelope, Unreadable};
use redb::{Database, ReadableDatabase as _, TableDefinition};
use roundelay_core::{Name, view::Record};
use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The file of the record.
const FILE: &str = "view.redb";
/// Its name until it is whole.
const UNFINISHED: &str = "view.redb.new";
/// The file that is locked for as long as a process uses the directory.
const LOCK: &str = "lock";
/// The only table.
const TABLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("node");
/// The only key.
const KEY: &str = "view";
/// What redb may keep in memory, in bytes: more than one record needs.
const CACHE_BYTES: usize = 4 << 20;

/// Why a data directory cannot be used, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Two processes must not share it.
    #[error(
        "the data directory {} is in use by another process: end that one, or give this one a \
         directory of its own", dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// What another node has promised is no promise of this one.
    #[error(
        "the data directory {} belongs to the node {owner}, not to {node}: give each node a \
         directory of its own", dir.display()
    )]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        owner: Name,
        /// Who has opened it.
        node: Name,
    },
    /// The order went on in it, and would go on without it.
    #[error(
        "the data directory {} has a durable log of the order, which this node would not write: make \
         it durable again, or remove the files order-*.log", dir.display()
    )]
    HasLog {
        /// The directory.
        dir: PathBuf,
    },
    /// It is sound, but not for this version.
    #[error(
        "{} was written by version {program} in a format that this version, {version}, does not \
         know: run that version or a later one",
        path.display(), version = env!("CARGO_PKG_VERSION")
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The version that wrote it.
        program: String,
    },
    /// It is not what was written.
    #[error(
        "{} is damaged, {reason}: move the data directory away and start anew, and this node comes \
         back as a new member; do not restore an older copy, for it lacks what was promised since",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// The log of the order is not what was written.
    #[error(
        "{} is damaged, {reason}: move all files order-*.log out of the data directory, leave the \
         rest, and start again: this node then comes back without its memory, and learns the order \
         from the others; if more than half of the members must do so at once, messages may be lost, \
         and the group says which",
        path.display()
    )]
    DamagedLog {
        /// The file.
        path: PathBuf,
        /// How that shows.
        reason: &'static str,
    },
    /// The log of the order is not for this version.
    #[error(
        "{} was written by another version in a format that this version, {version}, does not know: \
         run that version",
        path.display(), version = env!("CARGO_PKG_VERSION")
    )]
    LogFormat {
        /// The file.
        path: PathBuf,
    },
    /// The log of the order could not be written, and it is not known how far it was.
    #[error("cannot write the log of the order: {0}")]
    Unwritten(io::Error),
    /// The system refuses, or the disk fails.
    #[error("cannot {action} {}: {source}{}", path.display(), todo(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// What people can do about it, if that is known.
fn todo(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room there, and start again"
        }
        _ => "",
    }
}

type Result<T> = std::result::Result<T, StorageError>;

/// The record of a node, on disk.
#[derive(Debug)]
pub(crate) struct Storage {
    // Closed before the lock is given back.
    database: Database,
    node: Name,
    path: PathBuf,
    lock: Option<Arc<File>>,
}

impl Storage {
    /// Opens the data directory of a node, which is made if it is not there. Nothing of it is used
    /// before all of it has been checked.
    pub(crate) fn open(dir: &Path, node: &Name) -> Result<Self> {
        make(dir)?;
        let lock = lock(dir)?;
        let path = dir.join(FILE);
        if !path.try_exists().map_err(failed("read", &path))? {
            begin(dir, node)?;
        }
        let opened = settings().open(&path);
        let database = opened.map_err(|error| explain(error.into(), "open", &path))?;
        let storage = Self { database, node: node.clone(), path, lock: Some(Arc::new(lock)) };
        storage.check_owner(dir)?;
        Ok(storage)
    }

    /// The file of the record.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What keeps others out of the directory while anybody has it.
    pub(crate) fn lock(&self) -> Option<Arc<File>> {
        self.lock.clone()
    }

    /// What was saved last.
    pub(crate) fn load(&self) -> Result<Option<Record>> {
        let record = self.envelope()?.record().map_err(|error| self.unreadable(error))?;
        Ok(record)
    }

    /// Replaces the record. When this returns, the new one is on disk. After an error either is
    /// there, and nothing more can be saved.
    pub(crate) fn save(&self, record: &Record) -> Result<()> {
        self.write(&Envelope::new(&self.node, Some(record)))
    }

    fn check_owner(&self, dir: &Path) -> Result<()> {
        let owner = self.envelope()?.node;
        if owner == self.node {
            return Ok(());
        }
        Err(StorageError::OtherNode { dir: dir.to_owned(), owner, node: self.node.clone() })
    }

    fn envelope(&self) -> Result<Envelope> {
        let bytes = self.read().map_err(|error| explain(error, "read", &self.path))?;
        let envelope = bytes.ok_or(Unreadable::Missing).and_then(|bytes| Envelope::decode(&bytes));
        envelope.map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, error: Unreadable) -> StorageError {
        let path = self.path.clone();
        match error {
            Unreadable::Newer { program } => StorageError::Format { path, program },
            damage => StorageError::Damaged { path, reason: damage.to_string() },
        }
    }

    fn read(&self) -> std::result::Result<Option<Vec<u8>>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(TABLE)?;
        Ok(table.get(KEY)?.map(|bytes| bytes.value().to_vec()))
    }

    fn write(&self, envelope: &Envelope) -> Result<()> {
        let written = replace(&self.database, &envelope.encode());
        written.map_err(|error| explain(error, "write", &self.path))
    }
}

/// In one transaction, on disk when this returns: that is redb's durability unless told otherwise.
fn replace(database: &Database, bytes: &[u8]) -> std::result::Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    transaction.open_table(TABLE)?.insert(KEY, bytes)?;
    Ok(transaction.commit()?)
}

fn settings() -> redb::Builder {
    let mut settings = Database::builder();
    // All checksums: the file is small, and redb takes for granted what it does not check.
    settings.set_check_integrity_on_open(true).set_cache_size(CACHE_BYTES);
    settings
}

/// Begins the file of a node that has no record yet. It gets its name when it is whole: whoever
/// finds it finds it complete.
fn begin(dir: &Path, node: &Name) -> Result<()> {
    let (path, unfinished) = (dir.join(FILE), dir.join(UNFINISHED));
    let begun = File::create(&unfinished).map_err(failed("create", &unfinished));
    drop(begun?);
    let made = settings().create(&unfinished);
    let database = made.map_err(|error| explain(error.into(), "create", &unfinished))?;
    let empty = Envelope::new(node, None).encode();
    replace(&database, &empty).map_err(|error| explain(error, "write", &unfinished))?;
    database.close().map_err(|error| explain(error.into(), "write", &unfinished))?;
    fs::rename(&unfinished, &path).map_err(failed("create", &path))?;
    sync(dir)
}

/// Makes the directory and those that it is in, durably.
fn make(dir: &Path) -> Result<()> {
    let new: Vec<&Path> = dir.ancestors().take_while(|dir| !is_there(dir)).collect();
    fs::create_dir_all(dir).map_err(failed("create the data directory", dir))?;
    new.into_iter().filter_map(Path::parent).try_for_each(sync)
}

/// The parent of a name alone is the empty path: where the process runs.
fn is_there(dir: &Path) -> bool {
    dir.as_os_str().is_empty() || dir.exists()
}

/// Writes down what is in a directory.
fn sync(dir: &Path) -> Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    // Elsewhere a directory is no file that could be opened.
    let synced = if cfg!(unix) { File::open(dir).and_then(|dir| dir.sync_all()) } else { Ok(()) };
    synced.map_err(failed("write into the directory", dir))
}

/// The system gives the lock back when the process ends, however it does.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(failed("write", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.to_owned();
    move |source| StorageError::Io { action, path, source }
}

/// What an error of redb means.
fn explain(error: redb::Error, action: &'static str, path: &Path) -> StorageError {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    use redb::Error;
    let path = path.to_owned();
    match error {
        // Whoever holds it does not know of our lock.
        Error::DatabaseAlreadyOpen => {
            StorageError::InUse { dir: path.parent().unwrap_or(&path).to_owned() }
        }
        Error::Io(source) if matches!(source.kind(), InvalidData | UnexpectedEof) => {
            StorageError::Damaged { path, reason: source.to_string() }
        }
        Error::Io(source) => StorageError::Io { action, path, source },
        Error::Corrupted(reason) => StorageError::Damaged { path, reason },
        error @ (Error::UpgradeRequired(_)
        | Error::TableDoesNotExist(_)
        | Error::TableTypeMismatch { .. }
        | Error::TableIsMultimap(_)
        | Error::TypeDefinitionChanged { .. }) => {
            StorageError::Damaged { path, reason: error.to_string() }
        }
        error => StorageError::Io { action, path, source: io::Error::other(error) },
    }
}
