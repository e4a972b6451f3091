//! Bugs planted in a copy of the code: the check that is there to catch each must fail, and only with the bug.
//!
//! A bug is a file `planted/*.patch`: a line `Bug:` in words, a line `Check:` with the command that must catch it, a line
//! `Says:` with a part of what that command then says (or several, with ` | ` between, where chance decides), and the
//! patch. A patch that does not apply any more is a failure,
//! so is a check that fails without it: then it would prove nothing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context, ensure};

use super::report::{Method, Row};
use crate::{pg, talk, tools};

/// What of the workspace is no code.
const NOT_COPIED: [&str; 2] = ["target", ".git"];

/// A planted bug.
#[derive(Clone, Debug)]
pub struct Bug {
    /// The name of its file.
    pub name: String,
    /// What is wrong.
    pub what: String,
    /// What must catch it.
    check: String,
    /// What that says then: parts with ` | ` between, one of which is enough.
    says: String,
    patch: PathBuf,
}

/// Returns the folder of the workspace that this was built from.
///
/// # Errors
/// When it has none.
pub fn workspace() -> anyhow::Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace is above")?.to_path_buf())
}

/// Reads the bugs of a workspace.
///
/// # Errors
/// When one cannot be read or says too little.
pub fn bugs(root: &Path) -> anyhow::Result<Vec<Bug>> {
    let folder = root.join("tests/src/torture/planted");
    let mut bugs = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let patch = entry?.path();
        let text = fs::read_to_string(&patch).with_context(|| format!("read {}", patch.display()))?;
        let line = |key: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(key)).map(|rest| rest.trim().to_owned());
            found.filter(|rest| !rest.is_empty()).with_context(|| format!("{} has no line {key}", patch.display()))
        };
        let (what, check, says) = (line("Bug:")?, line("Check:")?, line("Says:")?);
        let name = patch.file_stem().context("a patch has a name")?.to_string_lossy().into_owned();
        bugs.push(Bug { name, what, check, says, patch });
    }
    bugs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bugs)
}

/// Returns why the patch of a bug does not apply to a workspace, or nothing when it does.
///
/// # Errors
/// When `git` cannot be run.
pub fn refuses(bug: &Bug, root: &Path) -> anyhow::Result<Option<String>> {
    let output = apply(bug, root, &["--check"]).output().context("start git")?;
    Ok((!output.status.success()).then(|| format!("{}: {}", bug.name, String::from_utf8_lossy(&output.stderr).trim())))
}

fn apply(bug: &Bug, root: &Path, how: &[&str]) -> Command {
    let mut command = tools::program("git");
    // Not as a part of a repository around it, where paths would mean something else.
    command
        .arg("apply")
        .args(how)
        .arg(&bug.patch)
        .current_dir(root)
        .env("GIT_CEILING_DIRECTORIES", root.parent().unwrap_or(root));
    command
}

/// Plants every bug, or those whose names begin so, and runs its check.
///
/// # Errors
/// When the copy cannot be made or built.
pub fn run(folder: &Path, begins: &str) -> anyhow::Result<Row> {
    let began = Instant::now();
    let root = workspace()?;
    let copy = Copy {
        root: folder.join("tree"),
        target: folder.join("target"),
        database: pg::Server::start(folder, &pg::Options::default())?,
    };
    copy.fill(&root)?;
    let mut bugs = bugs(&copy.root)?;
    bugs.retain(|bug| bug.name.starts_with(begins));
    let (mut caught, mut failures) = (0, Vec::new());
    let checks: BTreeSet<&str> = bugs.iter().map(|bug| bug.check.as_str()).collect();
    for check in checks {
        talk::say(format!("without a bug: {check}"));
        if let Err(said) = copy.check(check)? {
            failures.push(format!("{check} fails without a bug: {}", end(&said)));
        }
    }
    for bug in &bugs {
        talk::say(format!("{}: {}", bug.name, bug.what));
        match copy.with(bug) {
            Ok(()) => caught += 1,
            Err(error) => failures.push(format!("{}: {error:#}", bug.name)),
        }
    }
    let tried = u64::try_from(bugs.len()).unwrap_or(u64::MAX);
    let seconds = began.elapsed().as_secs_f64();
    Ok(Row {
        method: Method::Planted,
        tried,
        found: caught,
        expected: tried,
        seconds,
        failures,
        more: serde_json::Map::new(),
    })
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace().map(str::to_owned)
}

/// What a command said.
fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

/// The end of what was said, for people.
fn end(said: &str) -> String {
    let lines: Vec<_> = said.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// A copy of the workspace, which is built apart.
struct Copy {
    root: PathBuf,
    target: PathBuf,
    database: pg::Server,
}

impl Copy {
    /// Brings the copy up to date. What is the same is not touched, so that it need not be built again.
    fn fill(&self, from: &Path) -> anyhow::Result<()> {
        bring_up_to_date(from, &self.root, &NOT_COPIED)
    }

    /// Runs a check. Returns what it said if it failed.
    fn check(&self, check: &str) -> anyhow::Result<Result<(), String>> {
        let build = self.run(&self.cargo("build --workspace --bins"))?;
        ensure!(build.status.success(), "it does not build: {}", end(&said(&build)));
        let (program, arguments) = check.split_once(' ').unwrap_or((check, ""));
        let output = match program {
            "cargo" => self.run(&self.cargo(arguments))?,
            own => {
                let own = self.target.join("debug").join(own).display().to_string();
                self.run(&std::iter::once(own).chain(words(arguments)).collect::<Vec<_>>())?
            }
        };
        Ok(if output.status.success() { Ok(()) } else { Err(said(&output)) })
    }

    fn cargo(&self, arguments: &str) -> Vec<String> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        std::iter::once(cargo).chain(words(arguments)).chain(["--locked".to_owned()]).collect()
    }

    fn run(&self, words: &[String]) -> anyhow::Result<Output> {
        let url = self.database.url("ebb");
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("SQLX_OFFLINE", "true");
        command.env("DATABASE_URL", &url).env("EBB_DATABASE_URL", &url).env_remove("EBB_SKIPS_FILE");
        command.output().with_context(|| format!("start {}", words[0]))
    }

    /// Plants a bug, sees that it is caught, and takes it out again.
    fn with(&self, bug: &Bug) -> anyhow::Result<()> {
        tools::run(&mut apply(bug, &self.root, &[])).context("it does not apply any more")?;
        let ended = self.check(&bug.check);
        tools::run(&mut apply(bug, &self.root, &["--reverse"])).context("take it out again")?;
        let said = ended?.err().with_context(|| format!("not caught by {}", bug.check))?;
        ensure!(
            bug.says.split(" | ").any(|part| said.contains(part)),
            "caught for another reason than {:?}: {}",
            bug.says,
            end(&said)
        );
        Ok(())
    }
}

fn bring_up_to_date(from: &Path, to: &Path, without: &[&str]) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    let names = |folder: &Path| -> anyhow::Result<BTreeSet<OsString>> {
        let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
        let names = entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<BTreeSet<_>>>()?;
        Ok(names.into_iter().filter(|name| without.iter().all(|other| name.to_str() != Some(other))).collect())
    };
    let wanted = names(from)?;
    for name in names(to)?.difference(&wanted) {
        let gone = to.join(name);
        let removed = if gone.is_dir() { fs::remove_dir_all(&gone) } else { fs::remove_file(&gone) };
        removed.with_context(|| format!("remove {}", gone.display()))?;
    }
    for name in wanted {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            bring_up_to_date(&from, &to, &[])?;
        } else if fs::read(&to).ok() != Some(fs::read(&from).with_context(|| format!("read {}", from.display()))?) {
            fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        }
    }
    Ok(())
}
