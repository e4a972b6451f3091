//! The rules of `boss-model` in a small site, explored with `stateright` until no state is left that was not seen.
//!
//! What boss decides, the code of `boss-model` decides ([`rules`]). Around it is a model of the rest: a database whose
//! rows are moved under guards, a store of objects, machines with disks and agents, a network that loses, repeats and
//! reorders, two bosses of which one may be over and not know it, people, and faults. `docs/model.md` says what is in
//! it and what is not.
//!
//! - [`site`]: the state; [`network`]: what is under way
//! - [`requests`], [`chores`], [`tasks`], [`handlers`], [`saving`], [`releasing`]: boss, as in `boss/src/swap.rs`, `reconcile` and `agent_api`
//! - [`machine`]: agents, disks, and systems that run
//! - [`mod@protocol`]: all that can happen, as a model for the checker
//! - [`properties`]: the invariants, and what must be seen; [`progress`]: that all work ends
//! - [`scenes`]: where it begins and what may happen; [`planted`]: defects that must be found
//! - [`mod@explore`], [`account`]: runs, and what they found

pub mod account;
mod chores;
pub mod explore;
mod handlers;
mod machine;
mod network;
pub mod planted;
mod progress;
pub mod properties;
mod protocol;
mod releasing;
mod requests;
mod rules;
mod saving;
pub mod scenes;
mod site;
mod tasks;
