//! Tests that need what not every machine has: root, a kernel with a file system, a package.

/// Says that a test cannot run here, and why; with `EBB_NO_SKIPS=1`, as in CI, that is a failure.
pub(crate) fn skip(why: &str) {
    let strict = std::env::var_os("EBB_NO_SKIPS").is_some_and(|value| value == "1");
    assert!(!strict, "this test may not be skipped: {why}");
    #[expect(clippy::print_stderr, reason = "the person who runs the tests reads it")]
    {
        eprintln!("skipped: {why}");
    }
}
