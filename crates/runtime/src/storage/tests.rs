//! What a crash, a disk that fails and damage leave behind.

pub(crate) mod disk;

use super::{
    envelope::{Envelope, Unreadable, seal},
    *,
};
use crate::wire::{
    WireError,
    tests::{change::record, check},
    v1,
};
use disk::{Disk, Power};
use proptest::{
    collection::vec, prelude::*, sample::Index, strategy::ValueTree, test_runner::TestRunner,
};
use prost::Message as _;
use rand_core::{Rng as _, SeedableRng as _};
use roundelay_core::{
    Rng,
    tokenring::{LockName, Placed},
};
use std::sync::atomic::{AtomicU32, Ordering};

/// How much of the file is not only read but steers what is read, in bytes.
const HEADER: usize = 320;
/// The bit of redb that says which of its two slots counts: no checksum covers it. Whoever changes
/// exactly this one bit gets the record of before.
const PRIMARY: usize = 9 * 8;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Records that differ, small and large ones.
fn records(count: usize) -> Vec<Record> {
    let mut runner = TestRunner::deterministic();
    let tree = vec(record(), count).new_tree(&mut runner).unwrap();
    let mut records = tree.current();
    for (at, record) in records.iter_mut().enumerate() {
        record.cluster = at as u64;
        // One of several pages, and one for which the file has to grow.
        let tokens = [0, 0, 0, 300, 8_000][at % 5];
        record.installed.lock.tokens.extend((0..tokens).map(|number| {
            let lock = LockName::new(&format!("~{number:063}")).unwrap();
            Placed { lock, at: 0, hops: 1, fresh: false }
        }));
    }
    records
}

impl Storage {
    /// The same on a simulated disk.
    fn on(disk: &Disk, power: Power) -> Result<Self> {
        let path = PathBuf::from(FILE);
        let opened = settings().create_with_backend(disk.powered(power));
        let database = opened.map_err(|error| explain(error.into(), "open", &path))?;
        Ok(Self { database, node: name("p1"), path, lock: None })
    }

    /// A disk with a file that has been begun, and no record.
    fn begun() -> Disk {
        let disk = Disk::default();
        let storage = Self::on(&disk, Power::Stable).unwrap();
        storage.write(&Envelope::new(&storage.node, None)).unwrap();
        drop(storage);
        disk
    }
}

/// The storage of `p1` on a disk with this power.
pub(crate) fn stored_until(power: Power) -> Storage {
    let disk = Storage::begun();
    let storage = Storage::on(&disk, Power::Stable).unwrap();
    disk.limit(power);
    storage
}

/// Opens and reads until nothing crashes on the way.
fn recovered(disk: &Disk, rng: &mut Rng) -> Option<Record> {
    for _ in 0..3 {
        let power = Power::Until(rng.next_u64() % 40);
        let read = Storage::on(disk, power).and_then(|storage| storage.load());
        if disk.went_out() {
            disk.crash(rng);
        } else {
            read.unwrap();
        }
    }
    let storage = Storage::on(disk, Power::Stable).unwrap();
    let read = storage.load().unwrap();
    // Whoever has read it may rely on it, even if the power fails now.
    std::mem::forget(storage);
    disk.crash(rng);
    let again = Storage::on(disk, Power::Stable).unwrap().load().unwrap();
    assert_eq!(again, read);
    read
}

#[test]
fn a_crash_leaves_the_old_or_the_new_record() {
    let records = records(5);
    let (mut olds, mut news) = (0, 0);
    for seed in 0..80 {
        let mut rng = Rng::seed_from_u64(seed);
        let disk = Storage::begun();
        let mut kept = None;
        for _ in 0..3 {
            let power = Power::Until(rng.next_u64() % 60);
            let mut wanted = kept.clone();
            if let Ok(storage) = Storage::on(&disk, power) {
                assert_eq!(storage.load().ok(), (!disk.went_out()).then(|| kept.clone()));
                for _ in 0..rng.next_u64() % 4 {
                    let next = &records[rng.next_u64() as usize % records.len()];
                    wanted = Some(next.clone());
                    match storage.save(next) {
                        Ok(()) => kept.clone_from(&wanted),
                        Err(error) => {
                            assert!(matches!(error, StorageError::Io { .. }), "{error}");
                            assert!(storage.save(next).is_err(), "after an error nothing is saved");
                            break;
                        }
                    }
                }
            }
            disk.crash(&mut rng);
            let read = recovered(&disk, &mut rng);
            assert!(read == kept || read == wanted, "seed {seed}: neither old nor new");
            if kept != wanted {
                *(if read == kept { &mut olds } else { &mut news }) += 1;
            }
            kept = read;
        }
    }
    // The crashes were not all at one end of a save.
    assert!(olds > 10 && news > 2, "{olds} old, {news} new");
}

#[test]
fn bytes_that_have_changed_are_noticed_and_never_served() {
    let records = records(2);
    let disk = Storage::begun();
    let storage = Storage::on(&disk, Power::Stable).unwrap();
    storage.save(&records[0]).unwrap();
    storage.save(&records[1]).unwrap();
    let running = disk.bytes();
    drop(storage);
    let closed = disk.bytes();
    let read = |bytes: Vec<u8>| {
        let storage = Storage::on(&Disk::with(bytes), Power::Stable)?;
        let envelope = storage.envelope()?;
        assert_eq!(envelope.node, storage.node);
        storage.load()
    };
    for bytes in [running, closed] {
        assert_eq!(read(bytes.clone()).unwrap().as_ref(), Some(&records[1]));
        let mut noticed = 0;
        let used: Vec<usize> = (HEADER..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let mut rng = Rng::seed_from_u64(7);
        let others = (0..400).map(|_| used[rng.next_u64() as usize % used.len()] * 8 + 3);
        for bit in (0..HEADER * 8).chain(others).filter(|bit| *bit != PRIMARY) {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match read(bytes) {
                Ok(read) => assert!(read.as_ref() == Some(&records[1]), "bit {bit}"),
                Err(_) => noticed += 1,
            }
        }
        assert!(noticed > 100, "{noticed}");
    }
}

#[test]
fn records_come_through_unchanged() {
    check(1_000, proptest::option::of(record()), |record| {
        let bytes = Envelope::new(&name("p1"), record.as_ref()).encode();
        let envelope = Envelope::decode(&bytes).unwrap();
        prop_assert_eq!(&envelope.node, &name("p1"));
        prop_assert_eq!(envelope.record(), Ok(record));
        Ok(())
    });
}

#[test]
fn no_change_of_the_bytes_passes_for_a_record() {
    let changes = vec((any::<Index>(), 1..=u8::MAX), 1..4);
    check(2_000, (record(), changes, any::<Index>()), |(record, changes, end)| {
        let sound = Envelope::new(&name("p1"), Some(&record)).encode();
        let mut bytes = sound.clone();
        for (at, bits) in changes {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        if bytes != sound {
            prop_assert_eq!(Envelope::decode(&bytes), Err(Unreadable::Checksum));
        }
        let cut = &sound[..end.index(sound.len())];
        prop_assert_eq!(Envelope::decode(cut), Err(Unreadable::Checksum));
        Ok(())
    });
}

/// As a defect in a version that has written it would make them: with the right checksum.
#[test]
fn arbitrary_bytes_in_a_record_are_an_error() {
    let sealed = |record: Vec<u8>| {
        let kept = v1::Kept { node: "p1".into(), record: Some(record.into()), ..kept() };
        let read = Envelope::decode(&seal(&kept)).and_then(Envelope::record);
        // Whatever it is taken for, it is a record that could have been saved.
        if let Ok(Some(record)) = read {
            let again = Envelope::new(&name("p1"), Some(&record)).encode();
            assert_eq!(Envelope::decode(&again).unwrap().record(), Ok(Some(record)));
        }
    };
    check(4_000, vec(any::<u8>(), 0..300), |bytes| {
        sealed(bytes);
        Ok(())
    });
    let changes = vec((any::<Index>(), any::<u8>()), 1..4);
    check(4_000, (record(), changes), |(record, changes)| {
        let mut bytes = crate::wire::from_record(&record).encode_to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        sealed(bytes);
        Ok(())
    });
}

fn kept() -> v1::Kept {
    v1::Kept { format: 1, program: "9.9.9".into(), node: "p1".into(), record: None }
}

#[test]
fn what_this_version_cannot_read_is_said() {
    let read = |kept: v1::Kept| Envelope::decode(&seal(&kept)).and_then(Envelope::record);
    assert_eq!(read(kept()), Ok(None));
    let newer = Err(Unreadable::Newer { program: "9.9.9".into() });
    assert_eq!(read(v1::Kept { format: 2, node: String::new(), ..kept() }), newer);
    // A mode that only a newer version knows.
    let mut record = crate::wire::from_record(&records(1)[0]);
    record.installed.as_mut().unwrap().view.as_mut().unwrap().mode = 9;
    let record = Some(record.encode_to_vec().into());
    assert_eq!(read(v1::Kept { record, ..kept() }), newer);
    let nameless = v1::Kept { node: "a b".into(), ..kept() };
    assert_eq!(read(nameless), Err(Unreadable::Impossible(WireError::Field("name"))));
    let empty = v1::Kept { record: Some(<_>::default()), ..kept() };
    assert_eq!(read(empty), Err(Unreadable::Impossible(WireError::Field("value"))));
}

/// A directory of its own for one test, removed at its end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("roundelay-storage-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_directory_keeps_the_record_of_its_node() {
    let home = Dir::new();
    let dir = home.0.join("of/p1");
    let record = records(1).remove(0);
    let storage = Storage::open(&dir, &name("p1")).unwrap();
    assert_eq!(storage.load().unwrap(), None);
    storage.save(&record).unwrap();
    let in_use = Storage::open(&dir, &name("p1")).unwrap_err();
    assert!(matches!(&in_use, StorageError::InUse { dir: named } if *named == dir));
    drop(storage);
    let other = Storage::open(&dir, &name("p2")).unwrap_err().to_string();
    assert!(other.contains("belongs to the node p1, not to p2"), "{other}");
    // A begin that has not come to its end changes nothing.
    fs::write(dir.join(UNFINISHED), "half").unwrap();
    let storage = Storage::open(&dir, &name("p1")).unwrap();
    assert_eq!(storage.load().unwrap(), Some(record));
    drop(storage);
    fs::remove_file(dir.join(FILE)).unwrap();
    assert_eq!(Storage::open(&dir, &name("p1")).unwrap().load().unwrap(), None);
}

#[test]
fn what_is_wrong_with_a_directory_is_said_with_what_to_do() {
    let home = Dir::new();
    let dir = home.0.clone();
    let open = || Storage::open(&dir, &name("p1")).map(drop);
    open().unwrap();
    let file = dir.join(FILE);
    let sound = fs::read(&file).unwrap();
    let damaged = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let error = open().unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("view.redb is damaged, "), "{text}");
        assert!(text.contains("move the data directory away"), "{text}");
    };
    damaged(b"");
    damaged(b"no database");
    damaged(&vec![7; sound.len()]);
    damaged(&sound[..sound.len() / 2]);
    fs::write(&file, &sound).unwrap();
    let write = |bytes: &[u8]| {
        let database = settings().open(&file).unwrap();
        replace(&database, bytes).unwrap();
    };
    write(b"????");
    assert!(open().unwrap_err().to_string().contains("the checksum of its record is wrong"));
    write(&seal(&v1::Kept { format: 2, ..kept() }));
    let newer = open().unwrap_err().to_string();
    assert!(newer.contains("was written by version 9.9.9 in a format"), "{newer}");
    // A file where the directory should be.
    let error = Storage::open(&file, &name("p1")).unwrap_err().to_string();
    assert!(error.contains("cannot create the data directory"), "{error}");
}
