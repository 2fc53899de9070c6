use super::*;
use bytes::Bytes;
use roundelay_core::{tokenring::Mode, view::View};

/// A directory that goes with the value.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let name = format!("roundelay-log-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn open(&self) -> Result<(Log, Vec<u64>)> {
        let (log, entries) = Log::open(&self.0, true)?;
        Ok((log, entries.iter().map(|entry| entry.number).collect()))
    }

    fn only_file(&self) -> PathBuf {
        path(&self.0, files(&self.0).unwrap()[0])
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Log {
    /// From now on the disk is full.
    #[cfg(target_os = "linux")]
    pub(crate) fn fill(&mut self) {
        self.last = Some((File::options().write(true).open("/dev/full").unwrap(), 0));
    }
}

fn entry(number: u64, bytes: usize) -> LogEntry {
    let payload = Bytes::from(vec![number as u8; bytes]);
    LogEntry { number, line: Line::Message { sender: 1, sequence: number, time: 7, payload } }
}

fn write(log: &mut Log, numbers: impl IntoIterator<Item = u64>, bytes: usize) {
    let mut batch = Batch::default();
    for number in numbers {
        batch.push(&entry(number, bytes));
    }
    let last = batch.last;
    assert_eq!(log.write(&mut batch).unwrap(), last);
}

/// Entries 1 (that there was no log before), 2 and 3, 4, each line a batch.
fn written(name: &str) -> Dir {
    let dir = Dir::new(name);
    let (mut log, entries) = dir.open().unwrap();
    assert_eq!(entries, [1]);
    write(&mut log, 2..=3, 10);
    write(&mut log, [4], 10);
    dir
}

#[test]
fn what_was_written_is_read() {
    let dir = written("read");
    let (_, entries) = Log::open(&dir.0, true).unwrap();
    assert_eq!(entries[0].line, Line::Unlogged);
    assert_eq!(entries[1..], [entry(2, 10), entry(3, 10), entry(4, 10)]);
    assert!(Log::is_in(&dir.0).unwrap());
    let (mut log, _) = dir.open().unwrap();
    write(&mut log, [5], 0);
    assert_eq!(dir.open().unwrap().1, [1, 2, 3, 4, 5]);
}

#[test]
fn who_was_in_no_view_begins_anew() {
    let dir = written("anew");
    fs::write(path(&dir.0, 5), []).unwrap();
    assert_eq!(Log::open(&dir.0, false).unwrap().1, []);
    assert_eq!(files(&dir.0).unwrap(), [1]);
    assert_eq!(fs::read(dir.only_file()).unwrap(), []);
}

/// The record of the first view is on disk, and then the power goes.
#[test]
fn who_has_written_nothing_has_forgotten_nothing_and_who_has_no_log_may_have() {
    let dir = Dir::new("first");
    let (log, _) = Log::open(&dir.0, false).unwrap();
    drop(log);
    assert_eq!(dir.open().unwrap().1, []);
    // Of the first batch only a piece was written.
    fs::write(dir.only_file(), &header(&[7; 99])[..]).unwrap();
    let (mut log, entries) = dir.open().unwrap();
    assert_eq!(entries, []);
    write(&mut log, [1], 10);
    assert_eq!(Log::open(&dir.0, true).unwrap().1, [entry(1, 10)]);

    fs::remove_file(dir.only_file()).unwrap();
    for _ in 0..2 {
        let unlogged = LogEntry { number: 1, line: Line::Unlogged };
        assert_eq!(Log::open(&dir.0, true).unwrap().1, [unlogged]);
    }
    // The power goes while that is being written.
    fs::rename(dir.only_file(), dir.only_file().with_extension(UNFINISHED)).unwrap();
    assert_eq!(dir.open().unwrap().1, [1]);
}

#[test]
fn an_empty_file_is_noticed_unless_it_is_the_newest_or_the_only_one() {
    for (names, ends) in [(&[5][..], false), (&[1, 5], false), (&[5, 9], false), (&[1], true)] {
        let dir = Dir::new("empty");
        for first in names {
            fs::write(path(&dir.0, *first), []).unwrap();
        }
        match dir.open() {
            Ok((_, entries)) => assert!(ends && entries.is_empty(), "{names:?}"),
            Err(error) => {
                assert!(!ends && error.to_string().contains("entries before it"), "{error}");
            }
        }
    }
}

#[test]
fn a_torn_batch_at_the_end_is_dropped_wherever_it_is_torn() {
    let dir = written("torn");
    let whole = fs::read(dir.only_file()).unwrap();
    let last = (0..whole.len()).rfind(|at| batch(&whole, *at).is_some()).unwrap();
    for end in last..whole.len() {
        fs::write(dir.only_file(), &whole[..end]).unwrap();
        assert_eq!(dir.open().unwrap().1, [1, 2, 3], "torn at {end}");
        // What comes next follows what is sound.
        let (mut log, _) = dir.open().unwrap();
        write(&mut log, [4], 1);
        assert_eq!(dir.open().unwrap().1, [1, 2, 3, 4]);
    }
}

#[test]
fn damage_before_a_sound_batch_is_refused() {
    let dir = written("damage");
    let whole = fs::read(dir.only_file()).unwrap();
    let last = (0..whole.len()).rfind(|at| batch(&whole, *at).is_some()).unwrap();
    for at in 0..last {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(dir.only_file(), &bytes).unwrap();
        let error = dir.open().unwrap_err().to_string();
        assert!(error.contains("is damaged, a wrong checksum"), "byte {at}: {error}");
    }
}

#[test]
fn a_flipped_bit_in_the_last_batch_is_told_from_a_torn_one() {
    let dir = written("flipped");
    let check = |bits: &mut dyn Iterator<Item = usize>| {
        let whole = fs::read(dir.only_file()).unwrap();
        for bit in bits.take_while(|bit| *bit < whole.len() * 8) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(dir.only_file(), &bytes).unwrap();
            let error = dir.open().unwrap_err();
            assert!(matches!(error, StorageError::DamagedLog { .. }), "bit {bit}: {error}");
            assert_eq!(fs::read(dir.only_file()).unwrap(), bytes, "it is left as it is");
        }
        fs::write(dir.only_file(), whole).unwrap();
    };
    check(&mut (0..));
    // Also if what was written is nothing but zeros.
    let (mut log, _) = dir.open().unwrap();
    let payload = Bytes::from(vec![0; 3 * SECTOR]);
    let mut batch = Batch::default();
    let line = Line::Message { sender: 0, sequence: 0, time: 0, payload };
    batch.push(&LogEntry { number: 5, line });
    log.write(&mut batch).unwrap();
    check(&mut (0..).step_by(41));
}

#[test]
fn no_sector_of_a_batch_is_zero_wherever_it_begins() {
    let mut batch = Batch::default();
    for length in 1..1200 {
        batch.bytes = vec![0; length];
        let written = batch.finish().to_vec();
        assert_eq!(unguarded(&written[HEADER..]).unwrap(), batch.bytes);
        for begin in 0..SECTOR {
            let cut = SECTOR - begin;
            let (first, rest) = written.split_at(cut.min(written.len()));
            let mut sectors = rest.chunks(SECTOR).chain([first]);
            assert!(sectors.all(|sector| sector.iter().any(|byte| *byte != 0)));
        }
    }
    for begin in 0..HEADER {
        assert!(header(&[])[begin..].iter().any(|byte| *byte != 0));
    }
}

#[test]
fn a_batch_of_which_a_sector_was_not_written_is_torn() {
    let dir = written("sectors");
    let sound = fs::read(dir.only_file()).unwrap().len();
    let (mut log, _) = dir.open().unwrap();
    write(&mut log, [5], 2000);
    let whole = fs::read(dir.only_file()).unwrap();
    for start in (0..whole.len()).step_by(SECTOR) {
        let mut bytes = whole.clone();
        let end = (start + SECTOR).min(whole.len());
        bytes[start.max(sound)..end].fill(0);
        fs::write(dir.only_file(), &bytes).unwrap();
        assert_eq!(dir.open().unwrap().1, [1, 2, 3, 4], "sector at {start}");
    }
}

#[test]
fn a_file_that_is_missing_is_noticed_unless_it_is_the_oldest() {
    for missing in 0..3 {
        let dir = Dir::new("missing");
        let (mut log, _) = dir.open().unwrap();
        for number in 2..=24 {
            write(&mut log, [number], 1 << 20);
        }
        let firsts = files(&dir.0).unwrap();
        assert_eq!(firsts.len(), 3);
        fs::remove_file(path(&dir.0, firsts[missing])).unwrap();
        match missing {
            0 => assert_eq!(dir.open().unwrap().1[0], firsts[1]),
            1 => assert!(dir.open().unwrap_err().to_string().contains("entries before it")),
            _ => assert!(dir.open().unwrap_err().to_string().contains("it is missing")),
        }
    }
}

#[test]
fn a_crash_between_two_files_loses_nothing() {
    let dir = written("between");
    let old = fs::read(dir.only_file()).unwrap();
    // The new one is there, and the seal of the old one was torn.
    fs::write(path(&dir.0, 5), []).unwrap();
    fs::write(dir.only_file(), [&old[..], &header(&[])[..9]].concat()).unwrap();
    let (mut log, _) = dir.open().unwrap();
    write(&mut log, [5], 10);
    assert_eq!(dir.open().unwrap().1, [1, 2, 3, 4, 5]);
}

#[test]
fn another_format_is_not_taken_for_damage() {
    let dir = written("format");
    let mut bytes = fs::read(dir.only_file()).unwrap();
    bytes[MARK.len()] = b'2';
    let sum = checksum(&[&bytes[..LENGTH]]).to_be_bytes();
    bytes[LENGTH..LENGTH + 4].copy_from_slice(&sum);
    fs::write(dir.only_file(), &bytes).unwrap();
    let error = dir.open().unwrap_err().to_string();
    assert!(error.contains("another version"), "{error}");
}

#[test]
fn a_log_that_has_got_further_than_the_record_is_refused() {
    use crate::wire::tests::change::record;
    use proptest::{
        strategy::{Strategy as _, ValueTree as _},
        test_runner::TestRunner,
    };
    let tree = record().new_tree(&mut TestRunner::deterministic()).unwrap();
    let mut record = tree.current();
    record.installed.view.number = 7;
    let began = |number, mode| {
        let view = View { number, mode, ..record.installed.view.clone() };
        let cut = Box::new(record.installed.order.clone());
        vec![LogEntry { number: 1, line: Line::Began { view: view.into(), cut, position: 0 } }]
    };
    let mode = record.installed.view.mode;
    let check = |entries: Vec<LogEntry>| check_record(&record, &entries, Path::new("view.redb"));
    assert!(check(Vec::new()).is_ok());
    assert!(check(began(6, mode)).is_ok());
    assert!(check(began(7, mode)).is_ok());
    let other = match mode {
        Mode::Rest => Mode::Circulate,
        Mode::Circulate => Mode::Rest,
    };
    for log in [began(8, mode), began(7, other)] {
        let error = check(log).unwrap_err().to_string();
        assert!(error.contains("older copy"), "{error}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_what_was_written_before_stays() {
    let dir = written("full");
    let (mut log, _) = dir.open().unwrap();
    log.fill();
    let mut batch = Batch::default();
    batch.push(&entry(5, 10));
    let error = log.write(&mut batch).unwrap_err().to_string();
    assert!(error.contains("cannot write ") && error.contains("make room"), "{error}");
    assert_eq!(dir.open().unwrap().1, [1, 2, 3, 4]);
}

#[test]
fn files_that_nobody_needs_go() {
    let dir = Dir::new("trim");
    let (mut log, _) = dir.open().unwrap();
    for number in 2..=40 {
        write(&mut log, [number], 1 << 20);
    }
    let before = files(&dir.0).unwrap();
    assert!(before.len() > 3, "{before:?}");
    let mut batch = Batch::default();
    batch.push(&entry(41, 1));
    batch.trim(before[2]);
    log.write(&mut batch).unwrap();
    assert_eq!(files(&dir.0).unwrap(), before[2..]);
    let (first, last) = (before[2], 41);
    assert_eq!(dir.open().unwrap().1, (first..=last).collect::<Vec<_>>());
}
