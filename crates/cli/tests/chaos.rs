//! Five real processes with disks, and everything that can happen to them, drawn from a seed: they
//! are killed and come back, sleep longer than the lease, are cut off both ways or one way, and all
//! go down at once. What they say in all of their lives must keep every promise, and in the end all
//! must be one group again.
//!
//! `CHAOS_SECONDS` makes it longer, `CHAOS_SEED` makes it another one. The seed decides what is done
//! and when; what the processes make of it depends on the machine, too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "what was done is shown if the test fails")]

mod process;

use process::{
    SOON,
    cluster::{Cluster, NAMES, view_members},
    history::{Grants, Order, check_hops, check_order, check_views},
};
use std::{
    collections::{BTreeMap, VecDeque},
    env, panic,
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

const ALL: [usize; 5] = [0, 1, 2, 3, 4];
const LEASE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(5);

fn setting<T: FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % bound
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        millis(from + self.below(to - from))
    }

    /// `count` members.
    fn some(&mut self, count: usize) -> Vec<usize> {
        let mut rest = ALL.to_vec();
        (0..count).map(|_| rest.swap_remove(self.below(rest.len() as u64) as usize)).collect()
    }
}

/// How a member is.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Up,
    Stopped(Instant),
    Dead(Instant),
}

/// What happens to the processes.
struct Chaos {
    cluster: Cluster,
    dice: Dice,
    begin: Instant,
    states: [State; 5],
    cuts: BTreeMap<(usize, usize), Instant>,
    next: Instant,
}

impl Chaos {
    fn new(cluster: Cluster, seed: u64) -> Self {
        let begin = Instant::now();
        let (states, cuts) = ([State::Up; 5], BTreeMap::new());
        Self { cluster, dice: Dice(seed), begin, states, cuts, next: begin + millis(500) }
    }

    /// The members that are awake.
    fn awake(&self) -> Vec<usize> {
        ALL.into_iter().filter(|index| self.states[*index] == State::Up).collect()
    }

    fn note(&self, what: &str) {
        println!("{:8.3} {what}", self.begin.elapsed().as_secs_f64());
    }

    /// Does what is due.
    fn step(&mut self) {
        self.repair(Instant::now());
        if Instant::now() >= self.next {
            self.harm();
            let pause = self.dice.millis(300, 2000);
            self.next = Instant::now() + pause;
        }
    }

    /// Ends what has lasted until `now`.
    fn repair(&mut self, now: Instant) {
        for index in ALL {
            match self.states[index] {
                State::Stopped(until) if until <= now => {
                    self.note(&format!("{} wakes", NAMES[index]));
                    self.cluster.at(index).signal("CONT");
                    self.states[index] = State::Up;
                }
                State::Dead(until) if until <= now => {
                    self.note(&format!("{} comes back", NAMES[index]));
                    self.cluster.start(index);
                    self.states[index] = State::Up;
                }
                _ => {}
            }
        }
        let over: Vec<_> = self.cuts.extract_if(.., |_, until| *until <= now).collect();
        for ((from, to), _) in over {
            self.note(&format!("{} reaches {} again", NAMES[from], NAMES[to]));
            self.cluster.net.cut(from, to, false);
        }
    }

    fn harm(&mut self) {
        match self.dice.below(14) {
            0..3 => {
                let (which, pause) = (self.dice.some(1), self.dice.millis(0, 2000));
                self.kill(&which, pause);
            }
            3 => {
                let (which, pause) = (self.dice.some(3), self.dice.millis(0, 1000));
                self.kill(&which, pause);
            }
            4 => {
                let pause = self.dice.millis(0, 500);
                self.kill(&ALL, pause);
            }
            5..8 => {
                let count = 1 + self.dice.below(2) as usize;
                let (which, span) = (self.dice.some(count), self.dice.millis(1200, 3500));
                self.stop(&which, span);
            }
            8 => {
                // Nobody sees the time pass.
                let span = self.dice.millis(500, 2500);
                self.stop(&ALL, span);
            }
            9..11 => {
                let (ends, span) = (self.dice.some(2), self.dice.millis(300, 4000));
                let (both, closes) = (self.dice.below(2) == 0, self.dice.below(2) == 0);
                self.cut(ends[0], ends[1], span, closes);
                if both {
                    self.cut(ends[1], ends[0], span, closes);
                }
            }
            _ => {
                let count = 1 + self.dice.below(2) as usize;
                let (few, span) = (self.dice.some(count), self.dice.millis(1000, 5000));
                let closes = self.dice.below(3) > 0;
                let pairs = ALL.into_iter().flat_map(|from| ALL.map(|to| (from, to)));
                for (from, to) in pairs.filter(|(a, b)| few.contains(a) != few.contains(b)) {
                    self.cut(from, to, span, closes);
                }
            }
        }
    }

    fn kill(&mut self, which: &[usize], pause: Duration) {
        let alive = |index: &usize| !matches!(self.states[*index], State::Dead(_));
        let which: Vec<usize> = which.iter().copied().filter(alive).collect();
        let names: Vec<&str> = which.iter().map(|index| NAMES[*index]).collect();
        self.note(&format!("{} killed for {pause:?}", names.join(" ")));
        self.cluster.kill(&which);
        for index in which {
            self.states[index] = State::Dead(Instant::now() + pause);
        }
    }

    fn stop(&mut self, which: &[usize], span: Duration) {
        for index in which {
            if self.states[*index] == State::Up {
                self.note(&format!("{} sleeps for {span:?}", NAMES[*index]));
                self.cluster.at(*index).signal("STOP");
                self.states[*index] = State::Stopped(Instant::now() + span);
            }
        }
    }

    fn cut(&mut self, from: usize, to: usize, span: Duration, closes: bool) {
        let how = if closes { ", closed" } else { "" };
        self.note(&format!("{} does not reach {} for {span:?}{how}", NAMES[from], NAMES[to]));
        self.cluster.net.cut(from, to, true);
        if closes {
            self.cluster.net.close(from, to);
        }
        self.cuts.insert((from, to), Instant::now() + span);
    }

    /// Ends everything bad.
    fn heal(&mut self) {
        self.note("all is well");
        self.repair(Instant::now() + Duration::from_hours(1));
    }

    /// Whether all are in one view of all.
    fn is_whole(&mut self) -> bool {
        let views: Vec<_> = self
            .cluster
            .lives
            .iter()
            .map(|lives| lives.last().and_then(|process| process.all("view").pop().cloned()))
            .collect();
        views[0].as_ref().is_some_and(|view| view_members(view).len() == ALL.len())
            && views.iter().all(|view| *view == views[0])
    }
}

/// Keeps what was said if `check` fails.
fn checked(chaos: &mut Chaos, check: impl FnOnce(&mut Chaos)) {
    let check = panic::AssertUnwindSafe(|| check(chaos));
    if let Err(why) = panic::catch_unwind(check) {
        chaos.cluster.keep_story("chaos");
        panic::resume_unwind(why);
    }
}

#[test]
fn one_order_through_everything() {
    let (seed, seconds) = (setting("CHAOS_SEED", 1), setting("CHAOS_SECONDS", 15));
    println!("CHAOS_SEED={seed} CHAOS_SECONDS={seconds}");
    let mut cluster = Cluster::new("multicast", 5, &["--lease", "1s"]);
    cluster.found();
    let mut chaos = Chaos::new(cluster, seed);
    checked(&mut chaos, |chaos| {
        let mut count = 0;
        let mut last = Instant::now();
        let mut said = BTreeMap::new();
        let end = chaos.begin + Duration::from_secs(seconds);
        while Instant::now() < end {
            chaos.step();
            if last.elapsed() >= millis(60) {
                (last, count) = (Instant::now(), count + 1);
                for index in chaos.awake() {
                    let life = chaos.cluster.lives[index].len();
                    *said.entry((index, life)).or_default() += 1;
                    chaos.cluster.at(index).say(&format!("{}.{life}.{count}", NAMES[index]));
                }
            }
            chaos.cluster.listen(TICK);
        }
        chaos.heal();
        agree(chaos);
        check_views(&chaos.cluster);
        let order = check_order(&chaos.cluster);
        let lives: usize = chaos.cluster.lives.iter().map(Vec::len).sum();
        println!(
            "{} messages, {lives} lives, losses announced after {:?}",
            order.messages.len(),
            order.losses
        );
        assert!(order.messages.len() as u64 > seconds, "{}", order.messages.len());
        check_said(chaos, &order, &said);
    });
    chaos.cluster.leave();
}

/// Checks that nothing is forgotten that a life has said which is there still, and of which nobody
/// has said that it may be lost: it is in the order, or its sender has read that it never will be.
fn check_said(chaos: &mut Chaos, order: &Order, said: &BTreeMap<(usize, usize), usize>) {
    for (index, name) in NAMES.iter().enumerate() {
        let life = chaos.cluster.lives[index].len();
        let process = chaos.cluster.at(index);
        if !process.all("loss").is_empty() {
            continue;
        }
        let prefix = format!("{name}.{life}.");
        let texts = order.messages.values().filter_map(|message| message["text"].as_str());
        let found = texts.filter(|text| text.starts_with(&prefix)).count();
        let refused = process.all("error").len();
        let said = said.get(&(index, life)).copied().unwrap_or(0);
        assert!(found + refused >= said, "{name}: {found} of {said}, and {refused} refused");
    }
}

/// Waits until all are one group, and have delivered a last word of each.
fn agree(chaos: &mut Chaos) {
    let healed = Instant::now();
    while !chaos.is_whole() {
        assert!(healed.elapsed() < SOON, "they do not come together again");
        chaos.cluster.listen(millis(20));
    }
    println!("one group again after {:?}", healed.elapsed());
    for (index, name) in NAMES.iter().enumerate() {
        chaos.cluster.at(index).say(&format!("{name}.end.1"));
    }
    let last = |event: &serde_json::Value| {
        event["event"] == "delivered"
            && event["text"].as_str().is_some_and(|text| text.ends_with(".end.1"))
    };
    for index in ALL {
        chaos.cluster.at(index).read_until("the last words of all", |process| {
            process.seen.iter().rev().filter(|(_, event)| last(event)).count() == ALL.len()
        });
    }
}

/// Who wants the lock again and again.
struct Client {
    /// Which life of the member this is, and how much of what it said has been dealt with.
    life: usize,
    read: usize,
    wish: Wish,
    /// Its own: what happens to the processes must not depend on how often they are heard.
    dice: Dice,
    /// When the holder was asked whether it is one still.
    asked: VecDeque<Instant>,
    /// Grants since all is well.
    grants: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Wish {
    Nothing(Instant),
    /// It waits; and the largest fence when it said so.
    Waits(u64),
    Holds(u64, Instant),
    /// It gives it back, and said so at this time.
    Gives(u64, Instant),
}

impl Client {
    fn new(life: usize) -> Self {
        let (wish, asked) = (Wish::Nothing(Instant::now()), VecDeque::new());
        Self { life, read: 0, wish, dice: Dice(life as u64), asked, grants: 0 }
    }

    /// Deals with what the process has said.
    fn hear(&mut self, index: usize, chaos: &mut Chaos, grants: &mut Grants) {
        let span = self.dice.millis(1, 40);
        // Now and then it is kept for longer than the lease.
        let span = if self.dice.below(20) == 0 { LEASE * 3 / 2 } else { span };
        let process = &mut chaos.cluster.lives[index][self.life - 1];
        process.drain();
        for (at, event) in &process.seen[self.read..] {
            match (event["event"].as_str().unwrap(), self.wish) {
                ("acquired", Wish::Waits(floor)) => {
                    grants.add(index, event, floor, *at);
                    self.grants += 1;
                    self.wish = Wish::Holds(event["fence"].as_u64().unwrap(), *at + span);
                }
                ("acquired", _) => panic!("{}: {event} without a request", NAMES[index]),
                ("status", wish) => {
                    let asked = self.asked.pop_front().expect("it was asked");
                    if let Wish::Holds(fence, _) | Wish::Gives(fence, _) = wish
                        && event["fence"] == fence
                    {
                        grants.confirm(fence, asked);
                    }
                }
                ("released", Wish::Gives(fence, said)) => {
                    assert_eq!(event["fence"], fence);
                    grants.confirm(fence, said);
                    self.wish = Wish::Nothing(*at + span);
                }
                ("lost", Wish::Holds(fence, _) | Wish::Gives(fence, _)) => {
                    assert_eq!(event["fence"], fence);
                    self.wish = Wish::Nothing(*at + span);
                }
                ("error", Wish::Waits(_)) if said(event, "not granted") => {
                    self.wish = Wish::Nothing(*at + span);
                }
                _ => {}
            }
        }
        self.read = process.seen.len();
    }

    /// Says what it wants next.
    fn speak(&mut self, index: usize, chaos: &mut Chaos, grants: &Grants) {
        let now = Instant::now();
        let process = chaos.cluster.at(index);
        match self.wish {
            Wish::Nothing(until) if until <= now => {
                process.say("lock");
                self.wish = Wish::Waits(grants.largest());
            }
            Wish::Holds(fence, until) if until <= now => {
                process.say("unlock");
                self.wish = Wish::Gives(fence, now);
            }
            Wish::Holds(..) if self.asked.back().is_none_or(|at| *at + millis(20) <= now) => {
                process.say("status");
                self.asked.push_back(now);
            }
            _ => {}
        }
    }
}

fn said(event: &serde_json::Value, text: &str) -> bool {
    event["message"].as_str().is_some_and(|message| message.contains(text))
}

/// Lets all who are awake want the lock, have it, and give it back.
fn work(chaos: &mut Chaos, clients: &mut [Client], grants: &mut Grants) {
    for (index, client) in clients.iter_mut().enumerate() {
        client.hear(index, chaos, grants);
        let life = chaos.cluster.lives[index].len();
        if client.life != life {
            *client = Client::new(life);
        }
        if chaos.states[index] == State::Up {
            client.speak(index, chaos, grants);
        }
    }
    thread::sleep(TICK);
}

fn fences_grow(mode: &str, seed: u64) {
    let (seed, seconds) = (setting("CHAOS_SEED", seed), setting("CHAOS_SECONDS", 15));
    println!("CHAOS_SEED={seed} CHAOS_SECONDS={seconds}, {mode}");
    let args = ["--mode", mode, "--hold", "20ms", "--lease", "1s"];
    let mut cluster = Cluster::new("tokenring", 5, &args);
    cluster.found();
    let mut chaos = Chaos::new(cluster, seed);
    checked(&mut chaos, |chaos| {
        let mut grants = Grants::default();
        let mut clients = ALL.map(|_| Client::new(1));
        let end = chaos.begin + Duration::from_secs(seconds);
        while Instant::now() < end {
            // What a process has said before it is harmed comes first.
            work(chaos, &mut clients, &mut grants);
            chaos.step();
        }
        let stormy = grants.all.len();
        chaos.heal();
        for client in &mut clients {
            client.grants = 0;
        }
        let healed = Instant::now();
        while !chaos.is_whole() || clients.iter().any(|client| client.grants < 2) {
            assert!(healed.elapsed() < SOON, "they do not come together again");
            work(chaos, &mut clients, &mut grants);
        }
        println!("one group again, and all had the lock, after {:?}", healed.elapsed());
        check_views(&chaos.cluster);
        check_hops(&chaos.cluster);
        grants.check();
        let lives: usize = chaos.cluster.lives.iter().map(Vec::len).sum();
        println!("{stormy} grants in the storm, {} after it, {lives} lives", grants.all.len());
        assert!(stormy as u64 > seconds / 3, "{stormy} grants in {seconds} s");
    });
    chaos.cluster.leave();
}

#[test]
fn fences_grow_through_everything() {
    // The seed decides how the token moves, too.
    let seed = setting("CHAOS_SEED", 2_u64);
    fences_grow(if seed.is_multiple_of(2) { "rest" } else { "circulate" }, seed);
}
