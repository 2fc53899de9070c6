//! A resource that checks fences: a file that refuses whoever comes too late.
//!
//! Run it in three terminals, each with another name first:
//!
//! ```text
//! cargo run -p roundelay --example fenced_resource -- p1 account p1=127.0.0.1:7001 p2=127.0.0.1:7002 p3=127.0.0.1:7003
//! ```
//!
//! `lock` waits for the lock, `write TEXT` writes to the file with the fence of the last grant,
//! `unlock` gives the lock back. Stop the holder with Ctrl-Z for longer than its lease, let another
//! one take the lock and write, and wake it with `fg`: it says `lost`, and its late write is refused.

#![allow(clippy::print_stdout, reason = "this is a program")]

use roundelay::{Group, Guard, LockName, Node};
use std::{
    env,
    error::Error,
    fs::File,
    io::{self, BufRead as _, Read as _, Seek as _, Write as _},
    path::PathBuf,
    thread,
    time::Duration,
};
use tokio::sync::mpsc;

/// What the lock protects: a file whose first line is the largest fence that has written to it.
///
/// The check belongs to the resource, and is one step with the write. A check by the holder would
/// be worth nothing: it may be stopped between its check and its write.
struct Resource(PathBuf);

impl Resource {
    /// Writes `text`, unless a larger fence has written before: then returns that.
    fn write(&self, fence: u64, text: &str) -> io::Result<Result<(), u64>> {
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&self.0)?;
        file.lock()?;
        let mut content = String::new();
        file.read_to_string(&mut content)?;
        let largest = content.lines().next().and_then(|line| line.parse().ok()).unwrap_or(0);
        if fence < largest {
            return Ok(Err(largest));
        }
        file.rewind()?;
        file.set_len(0)?;
        write!(file, "{fence}\n{text}\n")?;
        file.sync_all()?;
        Ok(Ok(()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(name), Some(path)) = (args.next(), args.next()) else {
        return Err("usage: fenced_resource NAME FILE NAME=HOST:PORT…".into());
    };
    let resource = Resource(path.into());
    let peers: Vec<String> = args.collect();
    let peers: Vec<(&str, &str)> = peers.iter().filter_map(|peer| peer.split_once('=')).collect();
    let group = Group::of(peers.iter().map(|(name, _)| *name)).lease(Duration::from_secs(1));
    let mut builder = Node::builder(&name).group(group);
    for (peer, address) in &peers {
        builder = if *peer == name { builder.listen(*address) } else { builder };
        builder = builder.peer(*peer, *address);
    }
    let node = builder.start().await?;
    node.wait_installed().await;
    println!("ready");

    let mut lines = lines();
    let mut guard: Option<Guard> = None;
    let mut fence = 0;
    loop {
        let line = tokio::select! {
            biased;
            why = lost(guard.as_ref()) => {
                println!("lost: {why}");
                guard = None;
                continue;
            }
            line = lines.recv() => line,
        };
        match line.as_deref().map(|line| line.split_once(' ').unwrap_or((line, ""))) {
            None => break,
            Some(("lock", _)) => {
                let granted = node.lock(LockName::default_lock()).await?;
                fence = granted.fence();
                println!("mine, with fence {fence}");
                guard = Some(granted);
            }
            // With the last fence, whether that still counts or not: the resource knows.
            Some(("write", text)) => match resource.write(fence, text)? {
                Ok(()) => println!("written with fence {fence}"),
                Err(larger) => println!("refused: fence {fence}, and {larger} has written"),
            },
            Some(("unlock", _)) => {
                if let Some(guard) = guard.take() {
                    guard.release().await;
                }
            }
            Some(_) => println!("lock, write TEXT or unlock?"),
        }
    }
    node.leave().await;
    Ok(())
}

/// Waits until the guard is lost; for ever if there is none.
async fn lost(guard: Option<&Guard>) -> String {
    match guard {
        Some(guard) => guard.lost().await.to_string(),
        None => std::future::pending().await,
    }
}

/// The lines of the standard input.
fn lines() -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel(16);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
