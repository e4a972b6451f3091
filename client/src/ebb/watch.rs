//! Waiting for a job, saying how far it is, and ending with the code that fits its end.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use boss_api::client::{ClientError, UserClient};
use boss_api::ids::JobId;
use boss_api::names::{ExperimentName, Name};
use boss_api::user::{DiskActivity, DiskProgress, HeldDisks, JobState, JobView, NodeStateView, NodeView};
use clap::Args;

use super::Context;
use super::output::{moment, or_dash, size, word};
use crate::exit::{Code, Exit};

/// How often progress is drawn on a terminal, and said elsewhere.
const DRAW: Duration = Duration::from_secs(1);
const SAY: Duration = Duration::from_secs(10);
/// boss answers a wait early when something changed: not more often than this is it asked again.
const LEAST: Duration = Duration::from_millis(200);
/// How long boss may be away while a job is waited for; it may just be starting again.
const AWAY: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Wait {
    /// Wait until the job ends
    #[arg(long)]
    wait: bool,
    /// How many seconds to wait at most; the job goes on after that
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    timeout: Option<u64>,
}

/// What a job is about, for showing progress and reasons.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    Experiment(ExperimentName),
    Node(Name),
    Unknown,
}

impl Wait {
    /// Waits for a job if that was asked for, else says how to watch it.
    pub(super) async fn follow(self, context: &Context, job: JobView, scope: &Scope) -> Result<(), Exit> {
        if self.wait {
            return wait(context, job, scope, self.timeout).await;
        }
        context.output.data(&job, |job| job.id.to_string())?;
        context.output.say(format!("{} goes on; `ebb job wait {}` waits for its end", word(job.kind), job.id));
        Ok(())
    }
}

/// Waits for the end of a job and prints it.
pub(super) async fn wait(context: &Context, job: JobView, scope: &Scope, timeout: Option<u64>) -> Result<(), Exit> {
    let client = context.session.client()?;
    let hint = format!("it goes on; `ebb job wait {}` waits again", job.id);
    let what = format!("{} {}", word(job.kind), job.id);
    let deadline = timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds.min(u64::from(u32::MAX))));
    let mut screen = Screen::new();
    let ended = {
        let following = follow(&client, job, scope, deadline, &mut screen);
        tokio::select! {
            ended = following => ended?,
            interrupted = tokio::signal::ctrl_c() => {
                let why = if interrupted.is_ok() { "interrupted" } else { "stopped, signals cannot be heard" };
                return Err(Exit::new(Code::Interrupted, format!("{why} while waiting for {what}")).next(hint));
            }
        }
    };
    screen.clear();
    let Some(job) = ended else {
        let seconds = timeout.unwrap_or_default();
        return Err(Exit::new(Code::TimedOut, format!("{what} did not end within {seconds} s")).next(hint));
    };
    finish(context, &client, &job, scope).await
}

/// Prints the end of a job; anything but success is an error with the reason.
async fn finish(context: &Context, client: &UserClient, job: &JobView, scope: &Scope) -> Result<(), Exit> {
    context.output.data(job, describe)?;
    let detail = job.detail.as_deref().unwrap_or("boss gave no reason");
    let kind = word(job.kind);
    match job.state {
        JobState::Running | JobState::Done => Ok(()),
        JobState::Failed => Err(Exit::new(Code::Failed, format!("{kind} failed: {detail}"))),
        JobState::Held => {
            let reasons = held(client, scope).await;
            let text =
                format!("{kind} is held: {}", if reasons.is_empty() { detail.to_owned() } else { reasons.join("; ") });
            Err(Exit::new(Code::Failed, text))
        }
    }
}

/// Returns a job as one line.
pub(super) fn describe(job: &JobView) -> String {
    let mut line = format!("{} {}: {}", word(job.kind), job.id, word(job.state));
    if let Some(policy) = job.on_failure {
        line.push_str(&format!(", {} if a node cannot be saved", word(policy)));
    }
    if let Some(ended) = job.ended_at {
        line.push_str(&format!(" after {:.1} s", (ended - job.created_at).as_seconds_f64()));
    }
    if let Some(detail) = &job.detail {
        line.push_str(&format!(" ({detail})"));
    }
    line
}

/// Returns why nodes are held, who should look and what to do next. Best effort: the job's end is known without it.
async fn held(client: &UserClient, scope: &Scope) -> Vec<String> {
    let states: Vec<(String, Option<NodeStateView>)> = match scope {
        Scope::Experiment(name) => match client.experiment(name).await {
            Ok(view) => {
                let state = |node: boss_api::user::VirtualNodeView| {
                    (format!("{} ({})", node.vname, or_dash(node.node)), node.node_state)
                };
                view.nodes.into_iter().map(state).collect()
            }
            Err(_) => Vec::new(),
        },
        Scope::Node(name) => match client.node(name).await {
            Ok(node) => vec![(node.name.to_string(), Some(node.state))],
            Err(_) => Vec::new(),
        },
        Scope::Unknown => Vec::new(),
    };
    states.into_iter().filter_map(|(name, state)| held_reason(&name, state.as_ref()?)).collect()
}

/// Returns why a node is held, or nothing when it is not.
pub(super) fn held_reason(name: &str, state: &NodeStateView) -> Option<String> {
    match state {
        NodeStateView::Held { reason, owner, next, disks, kept } => {
            let disks = match disks {
                HeldDisks::Unsaved => "; its disks are the only copy of what is on them",
                HeldDisks::Settled | HeldDisks::Ours => "",
            };
            let kept = kept.as_ref().map_or_else(String::new, |kept| {
                format!("; {} wants it left as it is until {}: {}", kept.by, moment(kept.until), kept.note)
            });
            Some(format!("{name}: {reason} [owner: {owner}; next: {next}{disks}{kept}]"))
        }
        NodeStateView::Free
        | NodeStateView::Reserved
        | NodeStateView::Restoring
        | NodeStateView::Checked
        | NodeStateView::InUse
        | NodeStateView::Quiescing
        | NodeStateView::Capturing
        | NodeStateView::Releasable
        | NodeStateView::Sanitizing
        | NodeStateView::Rebooting => None,
    }
}

/// Asks until the job ends (the answer) or the deadline passes (none).
async fn follow(
    client: &UserClient,
    mut job: JobView,
    scope: &Scope,
    deadline: Option<Instant>,
    screen: &mut Screen,
) -> Result<Option<JobView>, Exit> {
    let mut away_since: Option<Instant> = None;
    while job.state == JobState::Running {
        let now = Instant::now();
        let left = deadline.map_or(SAY, |deadline| deadline.saturating_duration_since(now));
        if left.is_zero() {
            return Ok(None);
        }
        match client.job(job.id, left.min(screen.interval())).await {
            Ok(answer) => {
                away_since = None;
                job = answer;
            }
            Err(error) if error.is_retryable() => {
                let since = *away_since.get_or_insert_with(|| {
                    screen.say("boss does not answer; waiting for it to come back");
                    now
                });
                if since.elapsed() > AWAY {
                    return Err(Exit::from(error).next(waits_again(job.id)));
                }
            }
            Err(error) => return Err(Exit::from(error)),
        }
        if job.state == JobState::Running && away_since.is_none() && screen.is_due() {
            // Progress is for looking at: when it cannot be had, the wait goes on without.
            if let Ok(lines) = progress(client, scope).await {
                screen.show(&job, &lines);
            }
        }
        let rest = if away_since.is_some() { DRAW } else { LEAST };
        let asked_for = now.elapsed();
        if job.state == JobState::Running && asked_for < rest {
            tokio::time::sleep((rest - asked_for).min(left)).await;
        }
    }
    Ok(Some(job))
}

fn waits_again(job: JobId) -> String {
    format!("the job goes on when boss does; `ebb job wait {job}` waits again")
}

/// Returns one line for each disk that is worked on.
async fn progress(client: &UserClient, scope: &Scope) -> Result<Vec<String>, ClientError> {
    let name = match scope {
        Scope::Experiment(name) => Some(name.clone()),
        Scope::Node(node) => experiment_of(&client.node(node).await?),
        Scope::Unknown => None,
    };
    let Some(name) = name else { return Ok(Vec::new()) };
    let view = client.experiment(&name).await?;
    Ok(view.nodes.iter().flat_map(|node| node.progress.iter().map(|disk| progress_line(&node.vname, disk))).collect())
}

fn experiment_of(node: &NodeView) -> Option<ExperimentName> {
    node.experiment.as_ref()?.parse().ok()
}

/// Returns how far the work on one disk is.
pub(super) fn progress_line(vname: &Name, disk: &DiskProgress) -> String {
    let (verb, done) = match disk.activity {
        DiskActivity::Capture => ("saving", "scanned"),
        DiskActivity::Load => ("loading", "done"),
        DiskActivity::Restore => ("restoring", "done"),
        DiskActivity::Sanitize => ("sanitizing", "done"),
    };
    let mut line = format!("{vname} {}: {verb}", disk.disk);
    if disk.total_bytes > 0 {
        let percent = u128::from(disk.done_bytes) * 100 / u128::from(disk.total_bytes);
        line.push_str(&format!(" {percent}%, {} of {} {done}", size(disk.done_bytes), size(disk.total_bytes)));
    }
    if disk.activity == DiskActivity::Capture {
        line.push_str(&format!(", {} changed, {} sent", size(disk.changed_bytes), size(disk.sent_bytes)));
    }
    line
}

/// Shows progress on stderr: redrawn in place on a terminal, a plain line now and then elsewhere.
struct Screen {
    terminal: bool,
    drawn: usize,
    last: Instant,
}

impl Screen {
    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), drawn: 0, last: Instant::now() }
    }

    const fn interval(&self) -> Duration {
        if self.terminal { DRAW } else { SAY }
    }

    fn is_due(&self) -> bool {
        self.last.elapsed() >= self.interval().mul_f32(0.9)
    }

    fn show(&mut self, job: &JobView, lines: &[String]) {
        self.last = Instant::now();
        let kind = word(job.kind);
        let mut stderr = io::stderr().lock();
        // Nobody may be watching; the wait goes on.
        if self.terminal {
            self.erase(&mut stderr);
            let shown = if lines.is_empty() { vec![format!("{kind}: running")] } else { lines.to_vec() };
            for line in &shown {
                drop(writeln!(stderr, "{line}"));
            }
            self.drawn = shown.len();
        } else {
            let text = if lines.is_empty() { "running".to_owned() } else { lines.join("; ") };
            drop(writeln!(stderr, "{kind}: {text}"));
        }
    }

    fn say(&mut self, text: &str) {
        let mut stderr = io::stderr().lock();
        self.erase(&mut stderr);
        drop(writeln!(stderr, "{text}"));
    }

    fn clear(&mut self) {
        self.erase(&mut io::stderr().lock());
    }

    fn erase(&mut self, stderr: &mut impl io::Write) {
        if self.drawn > 0 {
            drop(write!(stderr, "\x1b[{}A\x1b[J", self.drawn));
            drop(stderr.flush());
            self.drawn = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_one_line() {
        let mut disk = DiskProgress {
            disk: Name::new("sda").unwrap(),
            activity: DiskActivity::Capture,
            done_bytes: 1 << 30,
            total_bytes: 2 << 30,
            changed_bytes: 1 << 20,
            sent_bytes: 512 << 10,
            started_at: None,
        };
        let vname = Name::new("client").unwrap();
        assert_eq!(
            progress_line(&vname, &disk),
            "client sda: saving 50%, 1.0 GiB of 2.0 GiB scanned, 1.0 MiB changed, 512.0 KiB sent"
        );
        disk.activity = DiskActivity::Restore;
        disk.total_bytes = 0;
        assert_eq!(progress_line(&vname, &disk), "client sda: restoring");
    }
}
