//! Model checking: all that can happen to a small group, not only what some seed draws.
//!
//! ```text
//! make model                                            all explorations, with their counts
//! cargo test -p roundelay-sim --test model              the short ones
//! cargo test -p roundelay-sim --test model -- --include-ignored --nocapture order::two_senders
//!                                                       one, with its counts
//! ```
//!
//! What a state and a step are, and what is not explored, is said in `adapter.rs`. The groups are
//! in `lock.rs`, `founding.rs`, `order.rs` and `views.rs`; `planted.rs` leaves out rules and shows how short
//! the way to the harm then is. Each exploration prints a line:
//!
//! * *states*: how many different ones there are; all invariants held in each;
//! * *transitions*: how many steps between them were taken (a step that changes nothing, as most
//!   duplicates do, is not counted);
//! * *depth*: how many steps the farthest state is away;
//! * *exhausted*: there is nothing more, ever; or *bound*: all states within so many steps were
//!   seen, and there are more beyond.
//!
//! A broken invariant is shown with the steps that lead to it, one a line: the node, what it gets
//! (`<` a message and its sender, `*` a timer, `?` the application), and after each `!` what its
//! application is told.
//!
//! That nothing is broken proves something only if anything happens: so each exploration has goals
//! (all had the lock, all was delivered everywhere), and fails if none of its states reaches one.

#![allow(clippy::print_stdout, reason = "the counts are what one wants to see")]

mod adapter;
mod check;
mod founding;
mod lock;
mod member;
mod order;
mod planted;
mod restart;
mod shared;
mod views;
