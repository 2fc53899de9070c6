//! The members of a group: processes, threads of this process, or this process as one of them.

use super::{
    machine,
    member::{self, Cost, Place, Work, name},
};
use crate::{
    args::bench::{Judge, Members},
    failure::Usage,
};
use anyhow::{Context, anyhow, bail};
use futures_util::future::try_join_all;
use std::{
    net::{Ipv4Addr, TcpListener},
    process::Stdio,
    thread,
};
use tokio::{process::Command, runtime, sync::oneshot};

/// What the members say.
pub(super) enum Ran<F> {
    /// This process is one of them.
    Alone(F),
    /// All are here, in their order.
    All(Vec<F>),
}

/// Lets the members work: those that are to be started here.
pub(super) async fn run<W: Work>(
    members: &Members,
    judge: &Judge,
    work: &W,
) -> anyhow::Result<Ran<W::Figures>> {
    machine::check_pin(members.pin)?;
    if let Some(number) = members.node {
        check_group(number, &members.group)?;
        let group = members.group.clone();
        let figures = member::run(work, place(members, judge, number - 1, group)).await?;
        return Ok(Ran::Alone(figures));
    }
    let group = free_addresses(members.nodes.into())?;
    let all = if members.in_process {
        threads(members, judge, work, &group).await?
    } else {
        processes(members, judge, work, &group).await?
    };
    Ok(Ran::All(all))
}

/// What all members together used up, if all of them are on this machine.
pub(super) fn total(members: &Members, costs: impl Iterator<Item = Cost>) -> Cost {
    costs.fold(Cost::default(), |sum, cost| Cost {
        // Threads have one clock together.
        cpu_us: if members.in_process {
            sum.cpu_us.max(cost.cpu_us)
        } else {
            sum.cpu_us + cost.cpu_us
        },
        // All have the same devices.
        packets: sum.packets.max(cost.packets),
        bytes: sum.bytes.max(cost.bytes),
        lock_messages: sum.lock_messages + cost.lock_messages,
        clock_messages: sum.clock_messages + cost.clock_messages,
    })
}

fn place(members: &Members, judge: &Judge, index: usize, group: Vec<String>) -> Place {
    let Members { insecure, own_thread, pin, .. } = *members;
    // One line is enough for all that share a terminal.
    let shown = !judge.quiet && (index == 0 || members.node.is_some());
    Place { index, group, insecure, own_thread, pin, shown }
}

/// Each member on a thread of its own, with a runtime of its own.
async fn threads<W: Work>(
    members: &Members,
    judge: &Judge,
    work: &W,
    group: &[String],
) -> anyhow::Result<Vec<W::Figures>> {
    let start = |index: usize| {
        let place = place(members, judge, index, group.to_vec());
        let (work, (done, figures)) = (work.clone(), oneshot::channel());
        let run = move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let ran = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
                let ran = runtime.block_on(member::run(&work, place));
                runtime.shutdown_background();
                ran
            });
            // Who is gone has heard of an error of another member.
            drop(done.send(ran));
        };
        thread::Builder::new().name(name(index)).spawn(run).context("cannot start a thread")?;
        Ok(async move {
            let ran = figures.await.unwrap_or_else(|_| Err(anyhow!("its thread has ended")));
            ran.with_context(|| name(index))
        })
    };
    let started = (0..group.len()).map(start).collect::<anyhow::Result<Vec<_>>>()?;
    try_join_all(started).await
}

/// Each member in a process of its own.
async fn processes<W: Work>(
    members: &Members,
    judge: &Judge,
    work: &W,
    group: &[String],
) -> anyhow::Result<Vec<W::Figures>> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let start = |index: usize| {
        let mut command = Command::new(&program);
        command.args(["bench"]).args(work.flags());
        command.args(["--node", &(index + 1).to_string(), "--group", &group.join(",")]);
        command.args(flags(members));
        if !place(members, judge, index, Vec::new()).shown {
            command.arg("--quiet");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().context("cannot start a process")?;
        Ok(async move {
            let ended = child.wait_with_output().await.context("cannot wait for a process")?;
            // A member that saw something wrong says so in its figures.
            let line = String::from_utf8_lossy(&ended.stdout);
            match serde_json::from_str(&line) {
                Ok(figures) => Ok(figures),
                Err(_) if line.is_empty() => {
                    bail!("{} ended without figures ({})", name(index), ended.status)
                }
                Err(error) => bail!("{} printed {line:?}: {error}", name(index)),
            }
        })
    };
    let started = (0..group.len()).map(start).collect::<anyhow::Result<Vec<_>>>()?;
    // The first error ends the others, as they are dropped.
    try_join_all(started).await
}

/// The flags that are the same for every member.
fn flags(members: &Members) -> Vec<String> {
    let pin = clap::ValueEnum::to_possible_value(&members.pin).expect("no way to pin is hidden");
    let mut flags = vec!["--pin".into(), pin.get_name().into()];
    if members.own_thread {
        flags.push("--own-thread".into());
    }
    flags
}

/// All ports are held before the first is given back, so that they differ.
pub(super) fn free_addresses(count: usize) -> anyhow::Result<Vec<String>> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()
        .context("there are no free ports")?;
    held.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect()
}

/// Refuses what cannot be a group with this node.
fn check_group(number: usize, group: &[String]) -> Result<(), Usage> {
    let count = group.len();
    if !(1..=count).contains(&number) {
        let range = if count == 1 { "only --node 1".into() } else { format!("1 to {count}") };
        let listed = if count == 1 { "1 address".into() } else { format!("{count} addresses") };
        return Err(Usage(format!("--node {number}: --group has {listed}; take {range}")));
    }
    for (index, address) in group.iter().enumerate() {
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.and_then(|(_, port)| port.parse::<u16>().ok()).is_none_or(|port| port == 0) {
            let text = format!("--group: {address:?} is no address; write it like 10.0.0.1:7900");
            return Err(Usage(text));
        }
        if group[..index].contains(address) {
            return Err(Usage(format!(
                "--group: {address} is listed twice; each node needs its own"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_checked() {
        let check = |number, group: &[&str]| {
            let group: Vec<String> = group.iter().map(ToString::to_string).collect();
            check_group(number, &group).map_err(|Usage(text)| text).err().unwrap_or_default()
        };
        let three = ["10.0.0.1:1", "10.0.0.2:1", "host:2"];
        assert_eq!(check(3, &three), "");
        assert!(check(4, &three).contains("take 1 to 3"));
        assert!(check(0, &three).contains("take 1 to 3"));
        assert!(check(2, &three[..1]).contains("only --node 1"));
        for wrong in ["", "host", "host:", ":1", "host:0", "host:x", "host:65536"] {
            assert!(check(1, &["a:1", wrong]).contains("is no address"), "{wrong}");
        }
        assert!(check(1, &["a:1", "b:1", "a:1"]).contains("listed twice"));
    }
}
