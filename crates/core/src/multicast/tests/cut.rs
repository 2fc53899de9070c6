//! Where a view ends, from reports.

use super::*;
use rand_core::SeedableRng as _;

fn report(received: &[u64], clock: u64) -> Report {
    Report { received: received.to_vec(), clock }
}

fn cut(began: &Cut, reports: &[(usize, &Report)], next: &View, planted: Option<Bug>) -> Cut {
    let (mut rng, mut effects) = (Rng::seed_from_u64(1), Vec::new());
    let cx = Context::<Multicast>::new(Time::ZERO, &mut rng, &mut effects).planting(planted);
    Cut::of(&view(3), began, reports, next, &cx)
}

#[test]
fn the_cut_has_the_most_that_anybody_has_received() {
    let began = Cut { begins: vec![2, 0, 5], clock: 10, position: 7, ..Cut::default() };
    let (a, c) = (report(&[4, 3, 5], 30), report(&[3, 4, 5], 20));
    // p2 has died; it comes back as another life, and p3 is the first now.
    let next = later(2, &[(2, 1), (0, 1), (1, 2)]);
    let expected = Cut {
        ends: vec![4, 4, 5],
        stable: vec![3, 3, 5],
        begins: vec![5, 4, 0],
        clock: 30,
        position: 7 + 2 + 4,
        lost: false,
    };
    assert_eq!(cut(&began, &[(0, &a), (2, &c)], &next, None), expected);
    let least = cut(&began, &[(0, &a), (2, &c)], &next, Some(Bug::CutIsLeast));
    assert_eq!((least.ends, least.position), (vec![3, 3, 5], 7 + 1 + 3));
}

#[test]
fn nothing_is_stable_for_who_goes_on_without_memory() {
    let began = Cut::founding(3);
    let (a, b) = (report(&[2, 1, 0], 3), report(&[2, 2, 0], 3));
    let next = later(2, &[(0, 1), (1, 1), (2, 1)]);
    let cut = cut(&began, &[(0, &a), (1, &b)], &next, None);
    assert_eq!((cut.ends, cut.stable), (vec![2, 2, 0], vec![0, 0, 0]));
}

#[test]
fn without_reports_a_view_ends_as_it_began() {
    let began = Cut { begins: vec![2, 0, 5], clock: 10, position: 7, ..Cut::default() };
    let cut = cut(&began, &[], &later(2, &[(0, 1)]), None);
    assert_eq!((cut.ends, cut.position, cut.clock), (vec![2, 0, 5], 7, 10));
}
