//! What survives, with a toy that makes promises: it says nothing that its next life contradicts.
//! To see that the disk of the simulator can break a promise, there are toys that are careless.

use super::*;

/// How a [`Promiser`] goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Care {
    /// It saves, then it says so; it says that it has an entry when the entry is durable.
    Careful,
    /// It says first.
    SaysFirst,
    /// It says that it has an entry as soon as it has appended it.
    SaysOnAppend,
}

/// Promises the first number that it is asked for, for ever, and says so to its peer each time it is
/// asked. It appends each number to a log, and says how far that goes.
#[derive(Clone, Debug)]
struct Promiser {
    care: Care,
    promised: Option<u64>,
    appended: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Said {
    Promised(u64),
    Logged(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Ask {
    Promise(u64),
    Append,
}

const PEER: NodeId = NodeId::from_raw(1);

impl Protocol for Promiser {
    type Message = Said;
    type Timer = ();
    type Command = Ask;
    type Event = ();

    fn handle(&mut self, input: InputOf<Self>, cx: &mut Context<'_, Self>) {
        match input {
            Input::Start(record) => self.promised = record.map(|saved| saved.record.cluster),
            Input::Command(Ask::Promise(number)) => {
                let new = self.promised.is_none();
                let promised = *self.promised.get_or_insert(number);
                if self.care == Care::SaysFirst {
                    cx.send(PEER, Said::Promised(promised));
                }
                if new {
                    cx.save(Record { cluster: promised, ..record() });
                }
                if self.care != Care::SaysFirst {
                    cx.send(PEER, Said::Promised(promised));
                }
            }
            Input::Command(Ask::Append) => {
                if self.appended == 0 {
                    cx.save(record()); // A log is one of a member.
                }
                self.appended += 1;
                cx.append(entry(self.appended));
                if self.care == Care::SaysOnAppend {
                    cx.send(PEER, Said::Logged(self.appended));
                }
            }
            Input::Appended(up_to) if self.care != Care::SaysOnAppend => {
                cx.send(PEER, Said::Logged(up_to));
            }
            _ => {}
        }
    }
}

fn promiser(care: Care) -> Promiser {
    Promiser { care, promised: None, appended: 0 }
}

fn pair(seed: u64, care: Care) -> Simulator<Promiser> {
    let mut sim = Simulator::new(Dice::new(seed), Settings::default());
    for n in 0..2 {
        sim.add(id(n), promiser(care), Clock::default(), ms(0));
    }
    sim
}

/// What the peer has heard by `limit`.
fn heard(sim: &mut Simulator<Promiser>, limit: Time) -> Vec<Said> {
    let mut heard = Vec::new();
    while let Some(step) = sim.step_until(limit) {
        if let Input::Message { message, .. } = step.input {
            heard.push(message);
        }
    }
    heard
}

/// What is promised by a life that this doom awaits, and by the next one.
fn promises(seed: u64, care: Care, doom: Doom, keeps_disk: bool) -> Vec<Said> {
    let mut sim = pair(seed, care);
    sim.doom(id(0), doom);
    sim.command_at(ms(10), id(0), Ask::Promise(5));
    let mut said = heard(&mut sim, ms(20));
    assert!(!sim.runs(id(0)), "it has several effects, and one of them is a save");
    if keeps_disk {
        sim.restart(id(0), promiser(care), ms(30));
    } else {
        sim.restart_without_disk(id(0), promiser(care), ms(30));
    }
    sim.command_at(ms(40), id(0), Ask::Promise(6));
    said.extend(heard(&mut sim, ms(50)));
    said
}

#[test]
fn nothing_is_said_after_a_save_that_fails() {
    let said = |care| promises(1, care, Doom::FailedSave, true);
    assert_eq!(said(Care::Careful), [Said::Promised(6)]);
    assert_eq!(said(Care::SaysFirst), [Said::Promised(5), Said::Promised(6)]);
}

#[test]
fn between_two_effects_what_is_done_is_done() {
    let said = |care, keeps_disk| promises(1, care, Doom::BetweenEffects, keeps_disk);
    // Saved and not said.
    assert_eq!(said(Care::Careful, true), [Said::Promised(5)]);
    assert_eq!(said(Care::SaysFirst, true), [Said::Promised(5), Said::Promised(6)]);
    // On a new machine nobody remembers.
    assert_eq!(said(Care::Careful, false), [Said::Promised(6)]);
}

#[test]
fn a_doom_that_has_not_struck_is_healed() {
    let mut sim = pair(1, Care::Careful);
    sim.doom(id(0), Doom::FailedSave);
    sim.heal();
    sim.command_at(ms(10), id(0), Ask::Promise(5));
    assert_eq!(heard(&mut sim, ms(20)), [Said::Promised(5)]);
    assert!(sim.runs(id(0)));
    assert_eq!(sim.disk(id(0)).record().map(|record| record.cluster), Some(5));
}

/// How much more a node has said than its disk has, after a loss of power.
fn said_too_much(seed: u64, care: Care) -> u64 {
    let mut sim = pair(seed, care);
    for n in 0..20 {
        sim.command_at(ms(10 + n), id(0), Ask::Append);
    }
    let said = heard(&mut sim, ms(25));
    sim.crash(id(0));
    sim.restart(id(0), promiser(care), ms(30));
    let said = said.iter().map(|said| match said {
        Said::Logged(up_to) => *up_to,
        Said::Promised(_) => 0,
    });
    let log = sim.disk(id(0)).log();
    assert!(log.iter().map(|entry| entry.number).eq(1..=log.len() as u64));
    said.max().unwrap_or(0).saturating_sub(log.len() as u64)
}

#[test]
fn an_entry_is_durable_when_the_node_is_told_and_not_before() {
    assert!((0..100).all(|seed| said_too_much(seed, Care::Careful) == 0));
    assert!((0..100).any(|seed| said_too_much(seed, Care::SaysOnAppend) > 0));
}

#[test]
fn a_process_that_is_stopped_loses_nothing_that_it_wrote() {
    let mut sim = pair(1, Care::Careful);
    sim.command_at(ms(10), id(0), Ask::Append);
    sim.run_until(ms(10));
    sim.stop(id(0));
    sim.restart(id(0), promiser(Care::Careful), ms(11));
    assert_eq!(sim.disk(id(0)).log(), [entry(1)]);
}
