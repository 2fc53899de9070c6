//! Real processes that cannot hear each other, both ways or one way: relays between them hold back
//! what is said, as a network does that loses everything.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "what was seen is shown with --nocapture")]

mod process;

use process::{
    Process, SOON,
    cluster::{Cluster, NAMES, is_quorum},
    history::{check_order, check_views},
};
use serde_json::Value;
use std::{
    thread,
    time::{Duration, Instant},
};

const ALL: [usize; 5] = [0, 1, 2, 3, 4];

fn fence(acquired: &Value) -> u64 {
    acquired["fence"].as_u64().unwrap()
}

fn delivered(process: &mut Process) -> usize {
    process.drain();
    process.all("delivered").len()
}

/// Waits until a member has delivered this text.
fn wait_text(process: &mut Process, text: &str) {
    process.read_until(text, |process| {
        process.seen.iter().rev().any(|(_, event)| event["text"] == text)
    });
}

/// Lets everybody say something, until all have read it from all.
fn agree(cluster: &mut Cluster, word: &str) {
    for (index, name) in NAMES.iter().enumerate() {
        cluster.at(index).say(&format!("{name}.{word}.1"));
    }
    for reader in ALL {
        for name in NAMES {
            wait_text(cluster.at(reader), &format!("{name}.{word}.1"));
        }
    }
    check_views(cluster);
    let order = check_order(cluster);
    assert!(order.losses.is_empty(), "{:?}", order.losses);
    // All have been there all the time, and nothing is missing for anybody.
    for process in cluster.latest() {
        assert_eq!(process.all("missed"), Vec::<&Value>::new());
        assert_eq!(process.all("delivered").len(), order.messages.len());
    }
}

#[test]
fn two_of_five_deliver_nothing_and_return_to_the_one_order() {
    let mut cluster = Cluster::new("multicast", 5, &[]);
    cluster.found();
    cluster.talk(&ALL, Duration::from_secs(1), 40);
    let cut = Instant::now();
    cluster.net.cut_off(&[3, 4], false);
    for index in [3, 4] {
        cluster.at(index).wait("no majority", |event| is_quorum(event, "lost"));
    }
    println!("two of five say after {:?} that they are too few", cut.elapsed());
    cluster.wait_view(&[0, 1, 2], SOON);
    println!("three of five go on after {:?}", cut.elapsed());
    let counts = ALL.map(|index| delivered(cluster.at(index)));
    cluster.talk(&ALL, Duration::from_secs(2), 20);
    for index in ALL {
        let now = delivered(cluster.at(index));
        if index < 3 {
            assert!(now > counts[index] + 60, "{} of three: {now} messages", NAMES[index]);
        } else {
            assert_eq!(now, counts[index], "{} has no majority", NAMES[index]);
            assert_eq!(cluster.at(index).all("view").len(), 1);
        }
    }
    let healed = Instant::now();
    cluster.net.heal();
    cluster.wait_view(&ALL, SOON);
    println!("all five are one group again after {:?}", healed.elapsed());
    for index in [3, 4] {
        cluster.at(index).read_until("a majority", |process| {
            process.seen.iter().any(|(_, event)| is_quorum(event, "regained"))
        });
    }
    agree(&mut cluster, "end");
    // What was said without a majority is in the order now, or was refused, but not forgotten.
    let said = cluster.said;
    for index in [3, 4] {
        let process = cluster.at(index);
        let own = process.all("delivered").into_iter().filter(|m| m["sender"] == NAMES[index]);
        let refused = process.all("error").len();
        assert_eq!(
            (own.count() + refused) as u64,
            said + 1,
            "{refused} of {} refused",
            NAMES[index]
        );
    }
    cluster.leave();
}

#[test]
fn two_of_five_grant_nothing_and_a_holder_there_loses_the_lock() {
    // The others notice a cut when the lease is over, or, if connections are closed, long before.
    [false, true].into_iter().for_each(a_holder_is_cut_off);
}

fn a_holder_is_cut_off(closes: bool) {
    let more = ["--mode", "rest", "--lease", "1s"];
    let mut cluster = Cluster::new("tokenring", 5, &more);
    cluster.found();
    cluster.at(3).say("lock");
    let first = fence(&cluster.at(3).wait_for("acquired"));
    cluster.at(0).say("lock");
    cluster.listen(Duration::from_millis(300));
    let cut = Instant::now();
    cluster.net.cut_off(&[3, 4], closes);
    assert_eq!(fence(&cluster.at(3).wait_for("lost")), first);
    println!("the holder knows after {:?}", cut.elapsed());
    let second = fence(&cluster.at(0).wait_for("acquired"));
    let took = cluster.at(0).seen.last().unwrap().0 - cut;
    println!("the lock is granted on the other side after {took:?}");
    assert!(second > first, "{second} after {first}");
    // The last echo of its lease may have been under way for as long as a heartbeat.
    assert!(took > Duration::from_millis(600), "{took:?}");
    // No lease is left on this side.
    for index in [4, 3] {
        cluster.at(index).say("lock");
    }
    for index in [3, 4] {
        cluster.at(index).read_until("no majority", |process| {
            process.seen.iter().any(|(_, event)| is_quorum(event, "lost"))
        });
    }
    cluster.at(0).say("unlock\nlock\nunlock");
    cluster.listen(Duration::from_secs(2));
    assert_eq!(cluster.at(3).all("acquired").len(), 1, "granted without a majority");
    assert_eq!(cluster.at(4).all("acquired").len(), 0, "granted without a majority");
    cluster.net.heal();
    // Both wait still, and get it one after the other: the one that has it gives it back at the end.
    let mut holders: Vec<(u64, usize)> = Vec::new();
    let (mut until, mut gives_back) = (None, false);
    let deadline = Instant::now() + SOON;
    while holders.len() < 2 {
        assert!(Instant::now() < deadline, "only {holders:?} have had the lock");
        for index in [3, 4] {
            let process = cluster.at(index);
            while let Some(event) = process.poll() {
                if event["event"] == "acquired" {
                    assert!(holders.is_empty() || gives_back, "{event} with {holders:?}");
                    holders.push((fence(&event), index));
                }
            }
        }
        if let [(_, only)] = holders[..]
            && !gives_back
        {
            // Long enough for the other one to have it, too, if it could.
            until.get_or_insert(Instant::now() + Duration::from_millis(200));
            if until < Some(Instant::now()) {
                gives_back = true;
                cluster.at(only).say("unlock");
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert!(second < holders[0].0 && holders[0].0 < holders[1].0, "{second}, {holders:?}");
    cluster.wait_view(&ALL, SOON);
    check_views(&cluster);
    cluster.leave();
}

#[test]
fn who_is_not_heard_is_left_out_though_it_hears_the_others() {
    let mut cluster = Cluster::new("multicast", 5, &[]);
    cluster.found();
    cluster.talk(&ALL, Duration::from_millis(500), 40);
    // Nothing that p5 says reaches anybody.
    (0..4).for_each(|other| cluster.net.cut(4, other, true));
    cluster.wait_view(&[0, 1, 2, 3], SOON);
    cluster.listen(Duration::from_secs(1));
    let before = delivered(cluster.at(4));
    cluster.talk(&ALL, Duration::from_secs(1), 20);
    assert_eq!(delivered(cluster.at(4)), before, "p5 is not in the group");
    cluster.net.heal();
    cluster.wait_view(&ALL, SOON);
    agree(&mut cluster, "one");

    // One direction of one link: one of the two has to go, and the rest are four.
    cluster.net.cut(0, 1, true);
    let limit = Duration::from_secs(30);
    cluster.wait_view(&[0, 2, 3, 4], limit);
    cluster.talk(&[0, 2, 3, 4], Duration::from_secs(1), 20);
    cluster.net.heal();
    cluster.wait_view(&ALL, SOON);
    agree(&mut cluster, "two");
    cluster.leave();
}
