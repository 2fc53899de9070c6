//! A node with a data directory, over restarts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use roundelay::{
    Group, Node, StartError, StorageError,
    core::{
        protocol::Input,
        recording::{self, Entry},
        view::Record,
    },
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of its own for one test, removed at its end.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Self {
        let name = format!("roundelay-{test}-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A group of one, which keeps its view in `dir` if there is one, and its recording beside it.
async fn start(name: &str, dir: Option<&Path>, recording: &Path) -> Result<Node, StartError> {
    let builder = Node::builder(name).listen("127.0.0.1:0").group(Group::of([name]));
    let builder = match dir {
        Some(dir) => builder.data_dir(dir),
        None => builder,
    };
    builder.record(recording).start().await
}

async fn stop(node: Node) {
    timeout(PATIENCE, node.leave()).await.unwrap();
    assert!(node.failure().is_none());
}

/// What the node of this recording was started with.
fn started_with(recording: &Path) -> Option<Record> {
    let bytes = fs::read(recording).unwrap();
    let (_, at) = recording::header(&bytes).unwrap().unwrap();
    let (Entry { input, .. }, _) = recording::entry(&bytes[at..], true).unwrap().unwrap();
    match input {
        Input::Start(saved) => saved.map(|saved| saved.record),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_view_is_there_after_a_restart() {
    let home = Dir::new("restart");
    let (dir, recording) = (home.0.join("p1"), home.0.join("p1.rec"));
    fs::create_dir(&home.0).unwrap();

    let node = start("p1", Some(&dir), &recording).await.unwrap();
    let founded = timeout(PATIENCE, node.wait_installed()).await.unwrap();
    let error = start("p1", Some(&dir), &home.0.join("second.rec")).await.unwrap_err();
    assert!(matches!(error, StartError::Storage(StorageError::InUse { .. })), "{error}");
    // Dropped, as a process that is killed drops it: it does not leave.
    let mut events = node.events();
    drop(node);
    while timeout(PATIENCE, events.next()).await.unwrap().is_some() {}
    assert_eq!(started_with(&recording), None);

    let node = start("p1", Some(&dir), &recording).await.unwrap();
    let record = started_with_running(&recording).await.unwrap();
    assert_eq!(record.installed.view, founded);
    stop(node).await;

    let other = start("p2", Some(&dir), &recording).await.unwrap_err();
    assert!(matches!(other, StartError::Storage(StorageError::OtherNode { .. })), "{other}");
}

/// The same while the node runs: the recording is written within a second.
async fn started_with_running(recording: &Path) -> Option<Record> {
    let whole = async {
        loop {
            let bytes = fs::read(recording).unwrap();
            let at = recording::header(&bytes).unwrap().unwrap().1;
            if recording::entry(&bytes[at..], false).unwrap().is_some() {
                return started_with(recording);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, whole).await.unwrap()
}

#[tokio::test]
async fn without_a_data_directory_nothing_is_kept() {
    let home = Dir::new("nothing");
    fs::create_dir(&home.0).unwrap();
    let recording = home.0.join("p1.rec");
    for _ in 0..2 {
        let node = start("p1", None, &recording).await.unwrap();
        timeout(PATIENCE, node.wait_installed()).await.unwrap();
        stop(node).await;
        assert_eq!(started_with(&recording), None);
    }
    let files: Vec<_> = fs::read_dir(&home.0).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files, [recording]);
}
