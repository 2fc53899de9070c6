//! The simulator itself, with a toy protocol.

mod durability;

use super::*;
use crate::network::{Duplication, Jam, Latency, Loss, Path, Straggling, Verdict};
use roundelay_core::{
    multicast::{Line, LogEntry},
    view::{Record, Value},
};

/// Says its number to the others every ten milliseconds, at the batch boundary, and tells how many
/// it has heard.
#[derive(Clone, Debug)]
struct Counter {
    peers: Vec<NodeId>,
    said: u64,
    heard: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Alarm {
    Batch,
    Tick,
    Far,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Order {
    CancelTick,
    Append(u64),
    Save,
}

impl Protocol for Counter {
    type Message = u64;
    type Timer = Alarm;
    type Command = Order;
    type Event = (Time, InputOf<Self>);

    fn handle(&mut self, input: InputOf<Self>, cx: &mut Context<'_, Self>) {
        cx.emit((cx.now(), input.clone()));
        match input {
            Input::Start(_) => {
                cx.set_timer(Alarm::Tick, Duration::from_millis(10));
                cx.set_timer(Alarm::Far, Duration::from_secs(5));
                cx.set_timer(Alarm::Far, Duration::from_millis(55));
            }
            Input::Timer(Alarm::Tick) => {
                cx.set_timer(Alarm::Tick, Duration::from_millis(10));
                cx.set_timer(Alarm::Batch, Duration::ZERO);
            }
            Input::Timer(Alarm::Batch) => {
                self.said += 1;
                let jitter = cx.random_below(3);
                for peer in self.peers.clone() {
                    cx.send(peer, self.said * 10 + jitter);
                }
            }
            Input::Message { .. } => self.heard += 1,
            Input::Command(Order::CancelTick) => cx.cancel_timer(Alarm::Tick),
            Input::Command(Order::Append(number)) => {
                cx.append(entry(number));
            }
            Input::Command(Order::Save) => cx.save(record()),
            Input::Timer(Alarm::Far)
            | Input::LinkUp(_)
            | Input::LinkDown(_)
            | Input::Appended(_) => {}
        }
    }
}

pub(super) fn entry(number: u64) -> LogEntry {
    LogEntry { number, line: Line::Unlogged }
}

pub(super) fn record() -> Record {
    let mode = roundelay_core::tokenring::Mode::Rest;
    let lease = Duration::from_secs(1);
    let view = roundelay_core::View { number: 1, members: [].into(), ring: [].into(), mode, lease };
    let installed = Value::first(view, 0);
    Record::of(7, [roundelay_core::id::Life(1)].into(), installed)
}

fn id(n: u64) -> NodeId {
    NodeId::from_raw(n)
}

fn ms(n: u64) -> Time {
    Time::ZERO + Duration::from_millis(n)
}

fn group(seed: u64, size: u64) -> Simulator<Counter> {
    let mut sim = Simulator::new(Dice::new(seed), Settings::default());
    for n in 0..size {
        let peers = (0..size).filter(|peer| *peer != n).map(id).collect();
        sim.add(id(n), Counter { peers, said: 0, heard: 0 }, Clock::default(), ms(n));
    }
    sim
}

fn stormy(seed: u64) -> Simulator<Counter> {
    let mut sim = group(seed, 4);
    let network = sim.network();
    network.ground(Latency { min: Duration::from_micros(50), max: Duration::from_millis(30) });
    network.fault(Loss { per_mille: 200 });
    network.fault(Duplication { per_mille: 100 });
    network.fault(Straggling { per_mille: 50, max: Duration::from_secs(1) });
    sim.pause_at(ms(300), id(2), Duration::from_millis(200));
    sim
}

/// All inputs of one node up to `limit`, with their times.
fn inputs(
    sim: &mut Simulator<Counter>,
    node: NodeId,
    limit: Time,
) -> Vec<(Time, InputOf<Counter>)> {
    let mut seen = Vec::new();
    while let Some(step) = sim.step_until(limit) {
        if step.node == node {
            seen.push((step.time, step.input));
        }
    }
    seen
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let mut sim = stormy(seed);
        sim.run_until(ms(2000));
        (sim.steps(), sim.trace_hash())
    };
    assert!(run(1).0 > 1000);
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).1, run(2).1);
}

#[test]
fn a_timer_that_is_set_again_fires_once_and_at_the_new_time() {
    let mut sim = group(1, 1);
    let fired: Vec<Time> = inputs(&mut sim, id(0), ms(9000))
        .into_iter()
        .filter(|(_, input)| *input == Input::Timer(Alarm::Far))
        .map(|(time, _)| time)
        .collect();
    assert_eq!(fired.len(), 1);
    assert!(fired[0] >= ms(55) && fired[0] < ms(57));
}

#[test]
fn a_cancelled_timer_is_gone() {
    let mut sim = group(1, 1);
    sim.command_at(ms(25), id(0), Order::CancelTick);
    let seen = inputs(&mut sim, id(0), ms(9000));
    let ticks = seen.iter().filter(|(_, input)| *input == Input::Timer(Alarm::Tick)).count();
    assert_eq!(ticks, 2);
    assert!(sim.step().is_none(), "nothing is left to happen");
}

#[test]
fn nobody_hears_before_the_start_or_after_the_stop() {
    let mut sim = group(1, 2);
    sim.input_at(ms(0), id(1), Input::LinkUp(id(0)));
    let seen = inputs(&mut sim, id(1), ms(100));
    assert_eq!(seen[0].1, Input::Start(None));
    sim.stop(id(1));
    assert!(!sim.runs(id(1)));
    assert_eq!(inputs(&mut sim, id(1), ms(200)), []);
}

#[test]
fn a_restart_finds_its_disk_and_none_of_the_old_timers() {
    let mut sim = group(1, 1);
    sim.command_at(ms(5), id(0), Order::Save);
    sim.run_until(ms(6));
    sim.stop(id(0));
    sim.restart(id(0), Counter { peers: Vec::new(), said: 0, heard: 0 }, ms(8));
    let seen = inputs(&mut sim, id(0), ms(17));
    // The old life's tick was due at ten milliseconds, the new one's at eighteen.
    assert_eq!(seen, [(ms(8), Input::Start(Some(Box::new(record().into()))))]);
}

#[test]
fn nothing_of_an_old_life_arrives_after_the_next_one_has_begun() {
    let mut sim = group(1, 2);
    sim.network()
        .ground(Latency { min: Duration::from_millis(50), max: Duration::from_millis(50) });
    sim.run_until(ms(40));
    sim.stop(id(1));
    sim.restart(id(1), Counter { peers: Vec::new(), said: 0, heard: 0 }, ms(75));
    let heard = inputs(&mut sim, id(0), ms(200));
    let heard = heard.iter().filter(|(_, input)| matches!(input, Input::Message { .. }));
    // Said at 11, 21 and 31 milliseconds; the last one would arrive at 81.
    assert_eq!(heard.map(|(time, _)| *time > ms(75)).collect::<Vec<_>>(), [false, false]);
}

#[test]
fn a_link_to_nobody_does_not_come_up() {
    let mut sim = group(1, 2);
    for time in [ms(5), ms(15)] {
        sim.input_at(time, id(0), Input::LinkUp(id(1)));
    }
    sim.run_until(ms(10));
    sim.stop(id(1));
    let seen = inputs(&mut sim, id(0), ms(30));
    assert!(!seen.iter().any(|(_, input)| matches!(input, Input::LinkUp(_))));
}

#[test]
fn a_paused_node_wakes_with_a_full_inbox() {
    let mut sim = group(1, 2);
    sim.pause_at(ms(100), id(1), Duration::from_millis(500));
    let seen = inputs(&mut sim, id(1), ms(650));
    assert!(!seen.iter().any(|(time, _)| (ms(100)..ms(600)).contains(time)));
    let at_once = seen.iter().filter(|(time, _)| *time == ms(600));
    let messages = at_once.filter(|(_, input)| matches!(input, Input::Message { .. })).count();
    assert!(messages >= 45, "{messages}");
}

#[test]
fn a_timer_that_is_due_in_a_pause_fires_late_and_once() {
    let mut sim = group(1, 1);
    sim.pause_at(ms(15), id(0), Duration::from_mins(1));
    let seen = inputs(&mut sim, id(0), ms(60_020));
    let late = Time::ZERO + Duration::from_millis(60_015);
    let at = |alarm| {
        let fired = seen.iter().filter(move |(_, input)| *input == Input::Timer(alarm));
        fired.map(|(time, _)| *time).collect::<Vec<_>>()
    };
    // Set at ten milliseconds, due at twenty; and from the start on, due at 55.
    assert_eq!(at(Alarm::Tick)[1..], [late]);
    assert_eq!(at(Alarm::Far), [late]);
    assert_eq!(sim.tally().of(Fault::Pause), 1);
}

#[test]
fn after_a_jam_everything_is_there_at_once() {
    let mut sim = group(1, 2);
    sim.network().ground(Latency { min: Duration::ZERO, max: Duration::from_millis(9) });
    let path = Path { from: Some(id(0)), to: Some(id(1)) };
    sim.network().fault(Jam { path, shuffled: false, since: ms(100), until: ms(900) });
    let seen = inputs(&mut sim, id(1), ms(1000));
    let said = |from: Time, until: Time| {
        let within = seen.iter().filter(move |(time, _)| (from..until).contains(time));
        let messages = within.filter_map(|(_, input)| match input {
            Input::Message { message, .. } => Some(message / 10),
            _ => None,
        });
        messages.collect::<Vec<_>>()
    };
    assert!(said(ms(50), ms(100)).len() >= 4);
    assert_eq!(said(ms(110), ms(900)), []);
    // The last one may be on its way for longer than the jam lasts.
    let at_once = said(ms(900), ms(900) + Duration::from_nanos(1));
    assert!(at_once.len() >= 70 && at_once.is_sorted(), "{at_once:?}");
    assert_eq!(sim.tally().of(Fault::Jam) as usize, at_once.len());
}

#[test]
fn messages_overtake_each_other_and_the_batch_is_no_input() {
    let mut sim = group(1, 2);
    sim.network().ground(Latency { min: Duration::from_millis(1), max: Duration::from_millis(90) });
    let said: Vec<u64> = inputs(&mut sim, id(1), ms(2000))
        .into_iter()
        .filter_map(|(_, input)| match input {
            Input::Message { message, .. } => Some(message / 10),
            _ => None,
        })
        .collect();
    assert!(said.len() > 100 && !said.is_sorted());
}

#[test]
fn an_appended_entry_is_durable_later() {
    let mut sim = group(1, 1);
    sim.command_at(ms(2), id(0), Order::Append(9));
    let seen = inputs(&mut sim, id(0), ms(9));
    let (time, input) = seen.last().unwrap();
    assert_eq!(*input, Input::Appended(9));
    assert!(*time > ms(2) && *time <= ms(7));
}

#[test]
fn a_message_to_nobody_is_lost() {
    let mut sim = group(1, 1);
    sim.network().fault(|_: &Packet<'_, u64>, _: &mut Dice| Verdict::Pass);
    sim.nodes[0].machine.peers.push(id(77));
    sim.run_until(ms(50));
    assert!(sim.running().all(|(_, machine)| machine.said > 2 && machine.heard == 0));
}

#[test]
fn each_node_reads_its_own_clock() {
    let mut sim = group(1, 1);
    let clock = Clock { epoch: Duration::from_secs(100), slow_ppm: 100_000 };
    let machine = Counter { peers: Vec::new(), said: 0, heard: 0 };
    sim.add(id(9), machine, clock, ms(0));
    let mut shown = Vec::new();
    while let Some(step) = sim.step_until(ms(60)) {
        if step.node == id(9) {
            let Effect::Emit((now, _)) = &step.effects[0] else { panic!("it always emits") };
            shown.push((step.time, *now));
        }
    }
    assert_eq!(shown[0], (ms(0), ms(100_000)));
    // Ten milliseconds on a clock that is a tenth too slow take more than eleven.
    assert!(shown[1].0 > ms(11) && shown[1].1 >= ms(100_010));
}
