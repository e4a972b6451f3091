//! The list of named fail points, and what has to be done to come by each. A test compares it with the calls in the code.

use super::arming::Fault;

/// What has programs come by a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// The two experiments take turns.
    Turns,
    /// They do, and something else goes wrong first.
    After(&'static str, Fault),
    /// An image is uploaded.
    Upload,
    /// An image is made by a command and restored by another.
    Command,
}

/// A named place.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Its name.
    pub name: &'static str,
    /// How it is come by.
    pub scene: Scene,
    /// At which time one process comes by it goes wrong.
    pub at: u32,
}

const fn turns(name: &'static str) -> Point {
    Point { name, scene: Scene::Turns, at: 1 }
}

/// Where the work is under way, not at its beginning.
const fn later(name: &'static str, at: u32) -> Point {
    Point { name, scene: Scene::Turns, at }
}

const fn held(name: &'static str) -> Point {
    Point { name, scene: Scene::After("agent.zero.opened", Fault::Error), at: 1 }
}

const fn ended(name: &'static str) -> Point {
    Point { name, scene: Scene::After("agent.registered", Fault::Crash), at: 1 }
}

const fn upload(name: &'static str) -> Point {
    Point { name, scene: Scene::Upload, at: 1 }
}

const fn command(name: &'static str, at: u32) -> Point {
    Point { name, scene: Scene::Command, at }
}

/// All of them.
pub const POINTS: &[Point] = &[
    // What people ask for.
    turns("request.before-commit"),
    turns("request.before-reply"),
    // Machines are booted and their agents register.
    turns("boot.planned.before-commit"),
    turns("boot.planned.committed"),
    turns("power.before-start"),
    turns("power.started"),
    turns("register.before-commit"),
    turns("register.committed"),
    turns("agent.registered"),
    turns("boot.dismissed.before-commit"),
    turns("boot.dismissed.committed"),
    ended("boot.ended.before-commit"),
    ended("boot.ended.committed"),
    // A disk is saved: the node's side.
    turns("agent.capture.before-command"),
    turns("agent.capture.command-ended"),
    turns("swapimage.opened"),
    turns("swapimage.begun"),
    later("swapimage.frame.compressed", 2),
    turns("swapimage.sent"),
    turns("swapimage.finished"),
    // And boss's side.
    turns("saving.before-commit"),
    turns("saving.committed"),
    turns("capture.begin.before-commit"),
    turns("capture.begin.committed"),
    turns("capture.offer.before-reply"),
    later("staging.frame.begin", 3),
    later("staging.frame.before-index", 4),
    later("staging.frame.stored", 5),
    later("capture.frame.before-reply", 3),
    turns("staging.finish.written"),
    turns("staging.finish.flushed"),
    turns("staging.finish.renamed"),
    turns("staging.note.written"),
    turns("staging.note.before-rename"),
    turns("staging.note.renamed"),
    turns("store.publish.before-rename"),
    turns("store.publish.renamed"),
    turns("store.publish.durable"),
    turns("staging.handed-over"),
    turns("capture.received.before-commit"),
    turns("capture.received.committed"),
    turns("verify.signature.written"),
    turns("capture.verified.before-commit"),
    turns("capture.verified.committed"),
    turns("node.saved.before-commit"),
    turns("node.saved.committed"),
    // The permits that let machines go, in one transaction with the end of the swap point.
    turns("release.before-commit"),
    turns("release.committed"),
    // A disk is written.
    turns("node.load.before-commit"),
    turns("node.load.committed"),
    turns("agent.write.permitted"),
    turns("agent.restore.opened"),
    turns("restore.invalidated"),
    later("restore.body.run", 3),
    turns("restore.body.written"),
    turns("restore.body.flushed"),
    turns("restore.proved"),
    later("restore.end.flushed", 2),
    turns("restore.first-block.written"),
    turns("restore.first-block.flushed"),
    turns("agent.restore.proved"),
    turns("agent.zero.opened"),
    turns("agent.zero.written"),
    turns("agent.zero.read-back"),
    turns("write.done.before-commit"),
    turns("write.done.committed"),
    turns("node.checked.before-commit"),
    turns("node.checked.committed"),
    turns("node.booted.before-commit"),
    turns("node.booted.committed"),
    turns("node.freed.before-commit"),
    turns("node.freed.committed"),
    turns("job.done.before-commit"),
    turns("job.done.committed"),
    // Doubt.
    held("node.held.before-commit"),
    held("node.held.committed"),
    // Images from people.
    upload("store.receive.begin"),
    upload("store.receive.written"),
    upload("store.receive.flushed"),
    // Files made on a node or at a desk.
    command("image.frame.begin", 2),
    command("draft.written", 1),
    command("draft.flushed", 1),
    command("draft.renamed", 1),
    command("draft.durable", 1),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use super::*;

    const CALL: &str = "failpoints::hit(\"";

    fn calls(folder: &Path, found: &mut BTreeMap<String, u32>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                calls(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                for call in text.split(CALL).skip(1) {
                    *found.entry(call.split('"').next().unwrap().to_owned()).or_default() += 1;
                }
            }
        }
    }

    #[test]
    fn the_list_and_the_calls_in_the_code_are_the_same() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut called = BTreeMap::new();
        for program in ["boss/src", "client/src", "imagezip/src"] {
            calls(&root.join(program), &mut called);
        }
        assert!(called.values().all(|calls| *calls == 1), "a name is for one place: {called:#?}");
        let listed: Vec<_> = POINTS.iter().map(|point| point.name).collect();
        let unlisted: Vec<_> = called.keys().filter(|name| !listed.contains(&name.as_str())).collect();
        let gone: Vec<_> = listed.iter().filter(|name| !called.contains_key(**name)).collect();
        assert!(unlisted.is_empty() && gone.is_empty(), "not listed: {unlisted:?}; not in the code: {gone:?}");
    }
}
