//! boss and agents are killed in the middle of saving and of restoring: the disk is identical in the end.
//!
//! The middle is not guessed: all processes of the agent are stopped, so nothing can go on, and then the API says that
//! something but not everything is done.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use boss_api::user::{DiskActivity, ExperimentState, NodeStateView};
use ebb_tests::disk::MIB;
use ebb_tests::site::tail;
use rustix::process::Signal;

use crate::scene::{EXPERIMENT, MACHINE, Scene, alone};

/// Enough that the middle is wide.
const SYSTEM_MIB: u64 = 400;
const NEW_BYTES: u64 = 256 * MIB;
const PATIENCE: Duration = Duration::from_secs(240);

#[derive(Clone, Copy)]
enum Victim {
    Boss,
    Agent,
}

#[test]
fn boss_is_killed_while_a_disk_is_saved() -> anyhow::Result<()> {
    kill(Victim::Boss, DiskActivity::Capture)
}

#[test]
fn an_agent_is_killed_while_it_saves() -> anyhow::Result<()> {
    kill(Victim::Agent, DiskActivity::Capture)
}

#[test]
fn boss_is_killed_while_a_disk_is_restored() -> anyhow::Result<()> {
    kill(Victim::Boss, DiskActivity::Restore)
}

#[test]
fn an_agent_is_killed_while_it_restores() -> anyhow::Result<()> {
    kill(Victim::Agent, DiskActivity::Restore)
}

fn kill(victim: Victim, activity: DiskActivity) -> anyhow::Result<()> {
    let _alone = alone();
    let scene = Scene::new(SYSTEM_MIB)?;
    scene.swap_in_first()?;
    scene.work(NEW_BYTES)?;
    let in_capture = activity == DiskActivity::Capture;
    swap(&scene, "swapout", in_capture.then_some((victim, activity)))?;
    ensure!(scene.state()? == ExperimentState::Swapped, "swapped out: {:?}", scene.state()?);
    swap(&scene, "swapin", (!in_capture).then_some((victim, activity)))?;
    ensure!(scene.state()? == ExperimentState::Active, "swapped in: {:?}", scene.state()?);
    scene.expect_identical()
}

/// Swaps in or out, and kills somebody in the middle.
fn swap(scene: &Scene, action: &str, disturbance: Option<(Victim, DiskActivity)>) -> anyhow::Result<()> {
    let Some((victim, activity)) = disturbance else {
        return scene.exp(action, &["--wait"]);
    };
    scene.site.ebb(["exp", action, EXPERIMENT])?;
    stop_in_the_middle(scene, activity)?;
    match victim {
        Victim::Boss => {
            scene.site.kill_boss()?;
            scene.site.signal_agent(MACHINE, Signal::CONT);
            scene.site.start_boss()?;
        }
        Victim::Agent => {
            let killed = scene.site.signal_agent(MACHINE, Signal::KILL);
            ensure!(killed > 0, "there was no agent to kill");
        }
    }
    scene.exp("wait", &[])
}

/// Stops the agent when the API says that something but not everything is done.
fn stop_in_the_middle(scene: &Scene, activity: DiskActivity) -> anyhow::Result<()> {
    let middle = |scene: &Scene| -> anyhow::Result<Option<(u64, u64)>> {
        let progress = scene.progress(activity)?;
        Ok(progress.map(|progress| (progress.done_bytes, progress.total_bytes)))
    };
    let what = format!("progress of {activity:?} above 0 and below its total");
    scene.site.wait_for(&what, PATIENCE, |_| {
        let Some((done, total)) = middle(scene)? else { return Ok(None) };
        if done == 0 {
            // A short breath, then a stop: it reports while it is far from its end, however fast this machine is.
            scene.site.signal_agent(MACHINE, Signal::CONT);
            thread::sleep(Duration::from_millis(15));
            scene.site.signal_agent(MACHINE, Signal::STOP);
            return Ok(None);
        }
        ensure!(done < total, "it came to its end at {done} of {total} bytes before it could be stopped");
        Ok(Some(()))
    })?;
    ensure!(scene.site.signal_agent(MACHINE, Signal::STOP) > 0, "there is no agent");
    let now = middle(scene)?.context("it has no progress any more")?;
    ensure!(now.0 > 0 && now.0 < now.1, "stopped at {now:?}, not in the middle");
    Ok(())
}

#[test]
fn a_corrupted_upload_holds_the_node_and_leaves_its_disk_alone() -> anyhow::Result<()> {
    let _alone = alone();
    let scene = Scene::new(128)?;
    scene.swap_in_first()?;
    scene.work(24 * MIB)?;
    let before = scene.disk_digest()?;

    let (_, agents) = scene.site.listens();
    let proxy = flipping_proxy(agents)?;
    let script = scene.path("through-the-proxy");
    let program = scene.site.programs().join("create-swapimage");
    // The agent gives the address of boss first.
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = --boss-url ] || exit 99\nshift 2\nexec '{}' --boss-url http://{proxy} \"$@\"\n",
        program.display()
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let script = script.to_string_lossy().into_owned();
    scene.site.ebb(["setting", "set", "swap/command", &script])?;

    let output = scene.site.try_ebb(["exp", "swapout", EXPERIMENT, "--wait", "--timeout", "120"])?;
    ensure!(!output.status.success(), "the swap-out succeeded with a corrupted upload");
    expect_held(&scene, &before)?;
    // Neither time nor a restart of boss makes it forget.
    scene.site.kill_boss()?;
    scene.site.start_boss()?;
    expect_held(&scene, &before)?;
    // Nobody else gets the machine.
    scene.site.ebb(["exp", "create", "demo/other", "--node", "one=system", "--no-save"])?;
    let other = scene.site.try_ebb(["exp", "swapin", "demo/other", "--wait", "--timeout", "120"])?;
    ensure!(!other.status.success(), "another experiment got the held machine");
    expect_held(&scene, &before)?;

    // When the cause is gone and a person says so, it goes on, and nothing was lost.
    scene.site.ebb(["setting", "set", "swap/command", "create-swapimage"])?;
    scene.exp("retry", &["--wait"])?;
    scene.exp("swapin", &["--wait"])?;
    scene.expect_identical()
}

fn expect_held(scene: &Scene, digest: &str) -> anyhow::Result<()> {
    let state = scene.machine()?;
    let NodeStateView::Held { reason, owner, next, .. } = &state else {
        anyhow::bail!("the machine is {state:?}; boss's log ends:\n{}", tail(&scene.site.folder().join("boss.log")));
    };
    ensure!([reason, owner, next].iter().all(|text| !text.trim().is_empty()), "held without a word: {state:?}");
    ensure!(scene.state()? == ExperimentState::Held, "the experiment is {:?}", scene.state()?);
    ensure!(scene.disk_digest()? == digest, "the disk of the held machine was written");
    Ok(())
}

/// Passes bytes on, and flips one bit in the body of each frame that is sent to boss.
fn flipping_proxy(boss: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        // Ends with the test's process.
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(boss) else { continue };
            let (Ok(from_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else { continue };
            thread::spawn(move || pass(from_server, to_client, false));
            thread::spawn(move || pass(client, server, true));
        }
    });
    Ok(address)
}

fn pass(mut from: TcpStream, mut to: TcpStream, flip: bool) {
    let mut piece = vec![0; 64 << 10];
    let mut frame = Body::Elsewhere;
    while let Ok(read @ 1..) = from.read(&mut piece) {
        if flip {
            frame = frame.flip(&mut piece[..read]);
        }
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    // The other side learns that it is over; it may know already.
    drop(to.shutdown(Shutdown::Both));
}

/// Where in a request the stream is.
#[derive(Clone, Copy)]
enum Body {
    Elsewhere,
    /// The headers of a frame were seen; its first byte comes next.
    Next,
}

impl Body {
    fn flip(self, piece: &mut [u8]) -> Self {
        let start = match self {
            Self::Next => Some(0),
            Self::Elsewhere => {
                let text = String::from_utf8_lossy(&piece[..piece.len().min(512)]);
                let is_frame = text.starts_with("PUT ") && text.contains("/frames/");
                is_frame.then(|| piece.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)).flatten()
            }
        };
        match start {
            Some(at) if at < piece.len() => {
                piece[at] ^= 1;
                Self::Elsewhere
            }
            Some(_) => Self::Next,
            None => Self::Elsewhere,
        }
    }
}
