//! Named places where a test may have something go wrong: an error, a crash, a delay.
//!
//! A place is one line beside an effect: `failpoints::hit("store.publish.renamed")?`. In a release build [`hit`] is empty
//! and the names are gone; only a build with debug assertions, as tests have, looks at `EBB_FAILPOINTS`. That is a
//! folder, so that a place can be armed while programs run, and so that a program which was started again does not crash
//! at the same place for ever:
//!
//! - `armed/NAME` says what happens there: `error N`, `crash N` or `delay N MILLISECONDS`, at the `N`th time that one
//!   process comes by; `armed/any.PROGRAM` is for any place that a process of this program comes by, counted from when it
//!   is armed;
//! - `fired/NAME` is where that file goes when it happens, before it happens: it happens once;
//! - `hits` gets a line for every place that is passed: its name, the program, the number of the process.
//!
//! Not here: which places there are. They are where the effects are, and a test compares them with a list.

#[cfg(debug_assertions)]
mod folder;

/// The variable that names the folder.
pub const VARIABLE: &str = "EBB_FAILPOINTS";

/// Passes a named place.
///
/// # Errors
/// When a test wants an error here.
#[cfg(debug_assertions)]
pub fn hit(name: &'static str) -> std::io::Result<()> {
    folder::of_this_process().map_or(Ok(()), |folder| folder.pass(name))
}

/// Passes a named place, where nothing ever happens in a release build.
///
/// # Errors
/// Never.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn hit(_name: &'static str) -> std::io::Result<()> {
    Ok(())
}
