//! What is said to people: talk on stderr, results on stdout.

/// Says what is going on.
#[expect(clippy::print_stderr, reason = "these are programs for people at a terminal")]
pub fn say(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

/// Prints a result.
#[expect(clippy::print_stdout, reason = "these are programs for people at a terminal")]
pub fn result(text: impl std::fmt::Display) {
    println!("{text}");
}
