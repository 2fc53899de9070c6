
fn relink(group: &mut Group<Node>) {
    let ids: Vec<NodeId> = group.machines.keys().copied().collect();
    for a in &ids { for b in ids.iter().filter(|b| *b != a) { group.input(*a, Input::LinkUp(*b)); } }
}

#[test]
fn zz_storm() {
    use alloc::collections::{BTreeMap, BTreeSet};
    let from: u64 = std::env::var("FROM").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let to: u64 = std::env::var("TO").ok().and_then(|s| s.parse().ok()).unwrap_or(200);
    let mut bad = 0; let mut tloss = 0; let (mut tv, mut tg, mut tm, mut tl) = (0, 0, 0, 0);
    for seed in from..to {
        let n = 2 + (seed % 4) as usize;
        let mut group = group(n, seed);
        group.faults = crate::testing::Faults { loss: 10, duplication: 10 };
        let mut ticket = 1000; let mut life = 100;
        for _ in 0..60 {
            let (a, b) = (group.dice(n as u64) as usize, group.dice(n as u64) as usize);
            ticket += 1;
            match group.dice(15) {
                0 if a != b => { group.input(id(a), Input::LinkDown(id(b))); group.input(id(b), Input::LinkDown(id(a))); }
                1 | 2 if a != b => { group.input(id(a), Input::LinkUp(id(b))); group.input(id(b), Input::LinkUp(id(a))); }
                3 if a != b => { group.input(id(a), Input::LinkDown(id(b))); }
                4 | 5 => group.input(id(a), lock(ticket)),
                6 | 7 | 8 => group.input(id(a), send(ticket)),
                12 if std::env::var("DISK").is_ok() && group.machines.contains_key(&id(a)) => {
                    kill(&mut group, a);
                    if group.dice(4) == 0 { for i in 0..n { if group.machines.contains_key(&id(i)) { kill(&mut group, i); } } }
                }
                13 | 14 => {
                    for i in 0..n { if !group.machines.contains_key(&id(i)) && group.dice(2) == 0 {
                        life += 1;
                        let record = group.records.get(&id(i)).cloned();
                        restart(&mut group, i, n, life, record);
                    } }
                }
                9 if n > 2 && group.machines.len() == n && group.dice(3) == 0 => {
                    let f = core::mem::replace(&mut group.faults, crate::testing::Faults { loss: 0, duplication: 0 });
                    relink(&mut group);
                    group.run(8000 * MS);
                    group.faults = f;
                    let all = group.machines.values().all(|m| m.view().is_some_and(|v| v.len() == n));
                    if !all { std::eprintln!("DBG seed {seed}: not all in one view before a kill"); continue; }
                    group.records.remove(&id(a));
                    kill(&mut group, a);
                    let span = group.dice(4000); group.run(Duration::from_millis(span));
                    life += 1;
                    revive(&mut group, a, n, life);
                }
                _ => {
                    // releases
                    let held: Vec<(NodeId, u64)> = group.machines.iter().flat_map(|(id, m)| m.lock().unwrap().guards().map(|(_, t, _)| (*id, t)).collect::<Vec<_>>()).collect();
                    for (node, t) in held { let l = tokenring::LockName::default_lock(); group.input(node, Input::Command(Command::Lock(tokenring::Command::Unlock { lock: l, ticket: t }))); }
                }
            }
            let span = group.dice(300); group.run(Duration::from_millis(span));
            let valid: Vec<NodeId> = group.machines.iter().filter(|(_, m)| m.lock().unwrap().guards().count() > 0 && group.now < m.lock().unwrap().lease_until(group.now)).map(|(id, _)| *id).collect();
            assert!(valid.len() <= 1, "seed {seed}: two guards {valid:?} at {:?}", group.now);
        }
        group.faults = crate::testing::Faults { loss: 0, duplication: 0 };
        for i in 0..n { if !group.machines.contains_key(&id(i)) {
            life += 1;
            let record = group.records.get(&id(i)).cloned();
            restart(&mut group, i, n, life, record);
        } }
        relink(&mut group);
        for _ in 0..40 {
            let held: Vec<(NodeId, u64)> = group.machines.iter().flat_map(|(id, m)| m.lock().unwrap().guards().map(|(_, t, _)| (*id, t)).collect::<Vec<_>>()).collect();
            for (node, t) in held { let l = tokenring::LockName::default_lock(); group.input(node, Input::Command(Command::Lock(tokenring::Command::Unlock { lock: l, ticket: t }))); }
            group.run(1000 * MS);
        }
        // one order
        let mut log: BTreeMap<u64, (NodeId, Bytes)> = BTreeMap::new();
        for i in 0..n { for (p, s, b) in delivered(&group, i) {
            let e = log.entry(p).or_insert((s, b.clone()));
            assert_eq!(*e, (s, b), "seed {seed}: position {p} differs at p{}", i + 1);
        } }
        let texts: BTreeSet<&Bytes> = log.values().map(|(_, b)| b).collect();
        assert_eq!(texts.len(), log.len(), "seed {seed}: a message twice");
        // chain
        let mut chain: BTreeMap<u64, View> = BTreeMap::new();
        for (_, e) in &group.events { if let Event::View { view, .. } = e { let k = chain.entry(view.number).or_insert_with(|| view.clone()); assert_eq!(k, view, "seed {seed}"); } }
        // fences
        let mut fences = BTreeSet::new();
        for (_, e) in &group.events { if let Event::Lock(tokenring::Event::Granted { fence, .. }) = e { assert!(fences.insert(*fence), "seed {seed}: fence {fence} twice"); } }
        tv += chain.len(); tloss += group.events.iter().filter(|(_, e)| matches!(e, Event::View { loss: true, .. })).count(); tg += fences.len(); tm += log.len(); tl += group.events.iter().filter(|(_, e)| matches!(e, Event::Lock(tokenring::Event::Lost { .. }))).count();
        // goals
        let views: BTreeSet<Option<(u64, usize)>> = group.machines.values().map(|m| m.view().map(|v| (v.number, v.len()))).collect();
        let waiting: usize = group.machines.values().map(|m| m.lock().unwrap().status().locks.iter().map(|l| l.waiters).sum::<usize>()).sum();
        let positions: BTreeSet<u64> = group.machines.values().map(|m| m.order().unwrap().status().position).collect();
        let queue: usize = group.machines.values().map(|m| m.order().unwrap().status().queue.len()).sum();
        if views.len() != 1 || waiting > 0 || positions.len() != 1 || queue > 0 || views.first().unwrap().is_none_or(|v| v.1 != n) {
            if group.machines.keys().any(|id| !group.records.contains_key(id)) { continue; }
            bad += 1;
            if std::env::var("DUMP").is_ok() { for (id, m) in &group.machines { std::eprintln!("DBG == {id} {:?} {:?}\n{:#?}", m.status().change, m.status().founding, m.group.as_ref().unwrap().change.machine);
                for (a, e) in &group.events { if a == id { match e { Event::View { view, joins, loss, position } => std::eprintln!("DBG {id} view {} {:?} joins {joins} loss {loss} base {position}", view.number, view.members.iter().map(|m| (m.id, m.life)).collect::<Vec<_>>()), Event::Out{..} => std::eprintln!("DBG {id} {e:?}"), _ => {} } } } } }
            std::eprintln!("DBG seed {seed} n {n}: views {views:?} waiting {waiting} positions {positions:?} queue {queue}");
        }
    }
    std::eprintln!("DBG total losses {tloss} views {tv} grants {tg} messages {tm} lost {tl}");
    assert_eq!(bad, 0, "{bad} bad");
}
