//! A run in which an assertion of the code under test is a failure like any other.

use crate::{
    scenario::Scenario,
    sim::Step,
    storm::{self, Failure, Report},
    subject::Subject,
};
use std::{
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::Once,
};

thread_local! {
    /// Whether this thread is in the middle of an attempt.
    static ATTEMPTING: Cell<bool> = const { Cell::new(false) };
    /// Where and how the last attempt of this thread panicked.
    static PANIC: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Runs a scenario as [`storm::run`] does, and turns a panic into [`Failure::Panic`].
///
/// The first call installs a panic hook, so that panics of attempts are reported and not printed;
/// all others go to the hook that was there before.
pub fn attempt<P: Subject>(
    scenario: &Scenario,
    watch: &mut dyn FnMut(&Step<'_, P>),
) -> Result<Report, Failure> {
    install_hook();
    let before = ATTEMPTING.replace(true);
    // Nothing that the panic may have left half done is looked at again.
    let ended = panic::catch_unwind(AssertUnwindSafe(|| storm::run::<P>(scenario, watch)));
    ATTEMPTING.set(before);
    ended.unwrap_or_else(|_| {
        let (place, message) = PANIC.take().expect("the hook has been here before");
        Err(Failure::Panic { place, message })
    })
}

fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(
            move |panic| {
                if ATTEMPTING.get() { note(panic) } else { others(panic) }
            },
        ));
    });
}

fn note(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map_or_else(|| "an unknown place".into(), ToString::to_string);
    let message = panic.payload_as_str().unwrap_or("no message").into();
    PANIC.set(Some((place, message)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use roundelay_core::node::Node;

    #[test]
    fn a_panic_is_a_failure_with_its_place() {
        let scenario = Scenario::new(1);
        let mut steps = 0;
        let failure = attempt::<Node>(&scenario, &mut |_| {
            steps += 1;
            assert!(steps < 10, "enough of it");
        });
        match failure {
            Err(Failure::Panic { place, message }) => {
                assert!(place.contains("attempt.rs"), "{place}");
                assert_eq!(message, "enough of it");
            }
            other => panic!("{other:?}"),
        }
        assert!(attempt::<Node>(&scenario, &mut |_| ()).is_ok());
    }
}
