//! Processes that are killed at once, and come back with their disks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "what was seen is shown with --nocapture")]

mod process;

use process::{
    SOON,
    cluster::{Cluster, NAMES},
    history::{Order, check_hops, check_order, check_views},
};
use serde_json::Value;
use std::{thread, time::Duration};

const ALL: [usize; 5] = [0, 1, 2, 3, 4];

fn fence(acquired: &Value) -> u64 {
    acquired["fence"].as_u64().unwrap()
}

/// Lets each of these say a last word, waits until all have delivered all of them, and checks the
/// whole order.
fn agree(cluster: &mut Cluster, members: &[usize], word: &str) -> Order {
    for index in members {
        let text = format!("{}.{word}.1", NAMES[*index]);
        cluster.at(*index).say(&text);
    }
    for reader in members {
        for sender in members {
            let text = format!("{}.{word}.1", NAMES[*sender]);
            cluster.at(*reader).read_until(&text, |process| {
                process.seen.iter().any(|(_, event)| event["text"] == text)
            });
        }
    }
    check_views(cluster);
    check_order(cluster)
}

#[test]
fn five_of_the_order_are_killed_at_once_and_positions_go_on() {
    let mut cluster = Cluster::new("multicast", 5, &[]);
    cluster.found();
    cluster.talk(&ALL, Duration::from_secs(2), 40);
    let mut last = 0;
    for round in 1..=2 {
        // In the middle of its work.
        cluster.kill(&ALL);
        let before = check_order(&cluster);
        let reached = *before.messages.last_key_value().unwrap().0;
        assert!(reached > last, "round {round}: nothing was delivered after {last}");
        last = reached;
        cluster.start_all(&ALL);
        let view = cluster.wait_view(&ALL, SOON);
        let after = agree(&mut cluster, &ALL, &format!("round{round}"));
        let first_new = after.messages.range(last + 1..).next().unwrap();
        println!("round {round}: {last} before, {} after, in view {view}", first_new.0);
        // Nobody remembers the messages, and somebody has said so.
        for index in ALL {
            let losses: Vec<&Value> = cluster.lives[index].last().unwrap().all("loss");
            println!("round {round}: {} has read {losses:?}", NAMES[index]);
        }
        assert!(!after.losses.is_empty(), "a loss that nobody announces");
        cluster.talk(&ALL, Duration::from_secs(1), 40);
    }
    agree(&mut cluster, &ALL, "end");
    cluster.leave();
}

#[test]
fn a_minority_that_is_killed_loses_nothing_and_a_majority_says_so() {
    let mut cluster = Cluster::new("multicast", 5, &[]);
    cluster.found();
    cluster.talk(&ALL, Duration::from_secs(1), 40);
    cluster.kill(&[3, 4]);
    cluster.start_all(&[3, 4]);
    cluster.talk(&ALL, Duration::from_secs(1), 40);
    cluster.wait_view(&ALL, SOON);
    let order = agree(&mut cluster, &ALL, "two");
    assert!(order.losses.is_empty(), "{:?}", order.losses);
    // Everything, also for who was killed.
    let all = order.messages.len();
    assert_eq!(*order.messages.last_key_value().unwrap().0, all as u64);
    cluster.latest().for_each(|process| assert_eq!(process.all("delivered").len(), all));

    cluster.talk(&ALL, Duration::from_secs(1), 40);
    cluster.kill(&[0, 1, 2]);
    cluster.start_all(&[0, 1, 2]);
    cluster.wait_view(&ALL, SOON);
    let order = agree(&mut cluster, &ALL, "three");
    // Two of five remember: what only the others knew is gone.
    for process in cluster.latest() {
        assert_eq!(process.all("loss").len(), 1);
    }
    let kept = cluster.at(3).all("loss")[0]["after"].as_u64().unwrap();
    assert!(kept > all as u64, "{kept} and {all}");
    println!("after {kept} messages may be lost, and {:?} are announced", order.losses);
    cluster.leave();
}

#[test]
fn five_of_the_ring_are_killed_at_once_and_fences_go_on() {
    for mode in ["rest", "circulate"] {
        let more = ["--mode", mode, "--hold", "5ms", "--lease", "1s"];
        let mut cluster = Cluster::new("tokenring", 5, &more);
        cluster.found();
        let mut last = 0;
        for round in 1..=3 {
            for index in ALL {
                let process = cluster.at(index);
                process.say("lock");
                let next = fence(&process.wait_for("acquired"));
                assert!(next > last, "{mode}, round {round}: {next} after {last}");
                last = next;
                // The last one has it when it is killed.
                if index != 4 {
                    process.say("unlock");
                    process.wait_for("released");
                }
            }
            cluster.kill(&ALL);
            cluster.start_all(&ALL);
            let view = cluster.wait_view(&ALL, SOON);
            println!("{mode}, round {round}: fences up to {last}, then view {view}");
        }
        // A start is refused: the ring is there.
        cluster.at(1).say("start");
        cluster.at(1).wait("a refusal", |event| {
            let message = event["message"].as_str().unwrap_or_default();
            event["event"] == "error" && message.contains("started already")
        });
        cluster.at(2).say("lock");
        assert!(fence(&cluster.at(2).wait_for("acquired")) > last);
        check_views(&cluster);
        check_hops(&cluster);
        cluster.leave();
    }
}

#[test]
fn one_of_two_comes_back_with_its_disk() {
    for killed in [0, 1] {
        let mut cluster = Cluster::new("multicast", 2, &[]);
        cluster.found();
        cluster.talk(&[0, 1], Duration::from_millis(500), 40);
        cluster.kill(&[killed]);
        cluster.at(1 - killed).listen(Duration::from_millis(500));
        cluster.start(killed);
        cluster.wait_view(&[0, 1], SOON);
        let order = agree(&mut cluster, &[0, 1], "end");
        assert!(order.messages.len() > 20, "{}", order.messages.len());
        assert!(order.losses.is_empty(), "the other one remembers everything: {:?}", order.losses);
        cluster.leave();

        let mut cluster = Cluster::new("tokenring", 2, &["--mode", "rest", "--lease", "1s"]);
        cluster.found();
        cluster.at(killed).say("lock");
        let first = fence(&cluster.at(killed).wait_for("acquired"));
        cluster.at(1 - killed).say("lock");
        thread::sleep(Duration::from_millis(100));
        cluster.kill(&[killed]);
        cluster.start(killed);
        let second = fence(&cluster.at(1 - killed).wait_for("acquired"));
        assert!(second > first, "{second} after {first}");
        cluster.wait_view(&[0, 1], SOON);
        cluster.at(1 - killed).say("unlock");
        cluster.at(killed).say("lock");
        assert!(fence(&cluster.at(killed).wait_for("acquired")) > second);
        cluster.leave();
    }
}
