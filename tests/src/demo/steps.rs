//! The steps of the demo.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use boss_api::names::ExperimentName;
use boss_api::user::{CaptureView, DiskActivity, ExperimentView, NodeStateView};

use super::{NodeReport, Report, Scale};
use crate::disk::{self, Contents, Layout, Trees};
use crate::dumpe2fs::FreeBlocks;
use crate::edit::{self, Editor, Way, Work, marker};
use crate::judge::{Judgement, judge};
use crate::site::{PROJECT, Site};
use crate::{talk, tools, tree};

const BASE: &str = "system";
const OTHER: &str = "other";
const MACHINES: [&str; 2] = ["pc1", "pc2"];
/// The experiment that is saved.
const FIRST: &str = "first";
const VNAMES: [&str; 2] = ["alpha", "beta"];
/// The one that has the machines in between.
const SECOND: &str = "second";
const PATTERN: &str = "the second experiment was here; ";

/// A demo that is under way.
#[derive(Debug)]
pub(super) struct Demo<'a> {
    site: &'a Site,
    scale: Scale,
    layout: Layout,
    work: PathBuf,
    evidence: PathBuf,
    /// The files of the base's file systems.
    files: [Vec<(PathBuf, u64)>; 2],
    way: Way,
    base_used: u64,
    began: Instant,
}

impl<'a> Demo<'a> {
    /// Makes the base images and the machines.
    pub(super) fn new(site: &'a Site, scale: Scale) -> anyhow::Result<Self> {
        let layout = Layout::new(scale.system_mib, scale.data_mib);
        let (work, evidence) = (site.folder().join("work"), site.folder().join("evidence"));
        for folder in [&work, &evidence] {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let began = Instant::now();
        let mut demo = Self {
            site,
            scale,
            layout,
            work,
            evidence,
            files: Default::default(),
            way: Way::Debugfs,
            base_used: 0,
            began,
        };
        demo.make_images()?;
        demo.make_machines()?;
        Ok(demo)
    }

    fn say(&self, text: impl std::fmt::Display) {
        talk::say(format!("[{:6.1} s] {text}", self.began.elapsed().as_secs_f64()));
    }

    fn make_images(&mut self) -> anyhow::Result<()> {
        let Scale { system_used, data_used, .. } = self.scale;
        self.say("making a GPT system disk with two ext4 file systems from files of this machine");
        let base = self.work.join("base.img");
        let trees = Trees::make(&self.work.join("trees"), system_used, data_used)?;
        self.files = [tree::files(&trees.system)?, tree::files(&trees.data)?];
        disk::make(&base, &self.layout, &Contents { seed: 1, system: &trees.system, data: &trees.data })?;
        trees.remove()?;
        for partition in self.layout.partitions {
            let blocks = FreeBlocks::ask(&base, partition.start)?;
            let used: u64 = blocks.allocated().iter().map(|range| range.end - range.start).sum();
            self.base_used += used * blocks.block_size;
        }
        let other = self.work.join("other.img");
        let trees = Trees::make(&self.work.join("trees"), data_used * 2, data_used / 2)?;
        disk::make(&other, &self.layout, &Contents { seed: 2, system: &trees.system, data: &trees.data })?;
        trees.remove()?;
        self.way = Way::here(&base, self.layout.partitions[0], &self.work);
        self.say(format!("the base has {} MiB used; file systems are reached by {}", self.base_used >> 20, self.way));

        let key = self.site.add_key("image-key")?;
        for (name, path) in [(BASE, &base), (OTHER, &other)] {
            self.say(format!("sealing the base image {name}"));
            let [path, key] = [path.as_path(), key.as_path()].map(|path| path.to_string_lossy().into_owned());
            self.site.ebb(["image", "create", &path, "--name", name, "--key", &key])?;
        }
        self.site.ebb(["setting", "set", "node/default_image", BASE])?;
        for path in [base, other] {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        self.copy(&self.site.image_file(BASE), "base.zdi")
    }

    fn make_machines(&self) -> anyhow::Result<()> {
        self.say("registering two machines");
        for name in MACHINES {
            self.site.add_node(name, self.layout.bytes)?;
        }
        Ok(())
    }

    /// Runs everything, and returns what was found.
    pub(super) fn run(&self, flip_byte: bool) -> anyhow::Result<Report> {
        let mut problems = Vec::new();
        let saved_on = self.first_life()?;
        let captures = self.saved()?;
        self.second_life(&mut problems)?;
        let restored = self.come_back(&saved_on)?;
        self.check_gone(PATTERN, "what the second experiment wrote", &mut problems)?;
        if flip_byte {
            self.flip(&restored[VNAMES[0]].0)?;
        }
        let mut nodes = Vec::new();
        for vname in VNAMES {
            let (machine, seconds) = &restored[vname];
            let judgement = self.judge(vname, machine)?;
            let capture = captures.iter().find(|capture| capture.vname.as_str() == vname).context("a capture")?;
            nodes.push(NodeReport {
                vname: vname.into(),
                saved_on: saved_on[vname].clone(),
                restored_on: machine.clone(),
                verdict: verdict(&judgement),
                scanned_bytes: capture.scanned_bytes,
                changed_bytes: capture.changed_bytes,
                delta_bytes: capture.delta_bytes.context("a saved node has a delta image")?,
                capture_seconds: seconds_of(capture.took_ms.context("a saved node took some time")?),
                restore_seconds: seconds.as_secs_f64(),
                compared_bytes: judgement.bytes,
                compared_files: judgement.files,
            });
        }
        let ok = problems.is_empty() && nodes.iter().all(|node| node.verdict == "identical");
        Ok(Report { ok, nodes, problems, way: self.way.to_string(), base_used_bytes: self.base_used })
    }

    /// The first experiment is swapped in, changed, and swapped out. Returns which node was on which machine.
    fn first_life(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let nodes = VNAMES.map(|vname| format!("{vname}={BASE}"));
        self.create(FIRST, &nodes, "--save")?;
        self.swap(FIRST, "swapin")?;
        let placed = self.placed(FIRST)?;
        for (vname, seed) in VNAMES.into_iter().zip(seeds()) {
            let machine = &placed[vname];
            self.say(format!("changing the file systems of {vname} on {machine}"));
            self.change(vname, seed, &self.disk_of(machine))?;
        }
        for vname in VNAMES {
            let name = format!("{vname}.before.img");
            self.copy(&self.disk_of(&placed[vname]), &name)?;
        }
        self.swap(FIRST, "swapout")?;
        Ok(placed)
    }

    fn change(&self, vname: &str, seed: u64, disk: &Path) -> anyhow::Result<()> {
        let scratch = self.work.join(vname);
        let editor = Editor { disk, layout: &self.layout, scratch: &scratch, way: self.way };
        let [system, data] = self.layout.partitions;
        let Scale { new_bytes, touched, .. } = self.scale;
        let work = [
            (system, &self.files[0], Work { vname, seed, new_bytes, touched }),
            (data, &self.files[1], Work { vname, seed: seed + 1, new_bytes: new_bytes / 8, touched: touched / 4 }),
        ];
        for (partition, files, work) in work {
            let changes = work.plan(files, &scratch)?;
            editor.apply(partition, &changes)?;
        }
        disk::check(disk, &self.layout).with_context(|| format!("look at {vname} after it was changed"))
    }

    /// Returns the captures of the one swap point there is, and keeps the delta images as evidence.
    fn saved(&self) -> anyhow::Result<Vec<CaptureView>> {
        let point = self.site.points(&name(FIRST)?)?.pop().context("the first experiment has no swap point")?;
        for capture in &point.captures {
            ensure!(capture.state == "verified", "{} is {} and not verified", capture.vname, capture.state);
            let folder = self.site.state().join("proj").join(PROJECT).join("exp").join(FIRST).join("swapinfo");
            let zdi = folder.join(format!("{}.{}.{}.zdi", capture.vname, capture.disk, point.number));
            self.copy(&zdi, &format!("{}.zdi", capture.vname))?;
        }
        ensure!(point.captures.len() == VNAMES.len(), "{} captures of two nodes", point.captures.len());
        Ok(point.captures)
    }

    /// Another experiment has the same machines, with another base, and fills them.
    fn second_life(&self, problems: &mut Vec<String>) -> anyhow::Result<()> {
        self.create(SECOND, &[format!("one={OTHER}"), format!("two={OTHER}")], "--no-save")?;
        self.swap(SECOND, "swapin")?;
        let machines: Vec<_> = self.placed(SECOND)?.into_values().collect();
        ensure!(MACHINES.iter().all(|name| machines.iter().any(|machine| machine == name)), "it has {machines:?}");
        for machine in MACHINES {
            self.say(format!("filling the file systems of {machine} with a pattern"));
            let disk = self.disk_of(machine);
            let scratch = self.work.join(machine);
            Editor { disk: &disk, layout: &self.layout, scratch: &scratch, way: self.way }.fill(PATTERN)?;
            ensure!(edit::places_of(&disk, PATTERN)? > 0, "the pattern is not on {machine}");
        }
        for (vname, seed) in VNAMES.into_iter().zip(seeds()) {
            let secret = marker(vname, seed);
            // The scan finds it where it must be: so finding nothing means something.
            let before = self.evidence.join(format!("{vname}.before.img"));
            ensure!(edit::places_of(&before, &secret)? > 0, "{secret} is not on {}", before.display());
            self.check_gone(&secret, &format!("what {vname} wrote"), problems)?;
        }
        self.swap(SECOND, "swapout")
    }

    fn check_gone(&self, text: &str, what: &str, problems: &mut Vec<String>) -> anyhow::Result<()> {
        for machine in MACHINES {
            match edit::places_of(&self.disk_of(machine), text)? {
                0 => {}
                places => problems.push(format!("{what} is still in {places} places of {machine}")),
            }
        }
        self.say(format!("{what}: looked for on both machines"));
        Ok(())
    }

    /// The first experiment gets the machines back, the other way round. Returns where each node is and how long its
    /// restore took.
    fn come_back(&self, saved_on: &BTreeMap<String, String>) -> anyhow::Result<BTreeMap<String, (String, Duration)>> {
        let mut times = Times::default();
        self.swap_watched(FIRST, "swapin", |view| times.note(view))?;
        let placed = self.placed(FIRST)?;
        for vname in VNAMES {
            ensure!(placed[vname] != saved_on[vname], "{vname} came back on {}, where it was before", placed[vname]);
        }
        placed
            .into_iter()
            .map(|(vname, machine)| {
                let took = times.took(&vname).with_context(|| format!("{vname} was never seen restoring"))?;
                Ok((vname, (machine, took)))
            })
            .collect()
    }

    fn flip(&self, machine: &str) -> anyhow::Result<()> {
        use std::os::unix::fs::FileExt as _;
        let disk = self.disk_of(machine);
        let start = self.layout.partitions[0].start;
        let blocks = FreeBlocks::ask(&disk, start)?;
        let last = blocks.allocated().pop().context("a file system has allocated blocks")?;
        let place = start + (last.end - 1) * blocks.block_size + 77;
        let file = fs::OpenOptions::new().read(true).write(true).open(&disk)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, place)?;
        file.write_all_at(&[byte[0] ^ 1], place)?;
        self.say(format!("as asked for: flipped one byte of {machine}, at offset {place}"));
        Ok(())
    }

    fn judge(&self, vname: &str, machine: &str) -> anyhow::Result<Judgement> {
        self.say(format!("comparing {vname} on {machine} with the copy from before: cmp, stat, sha256sum"));
        let before = self.evidence.join(format!("{vname}.before.img"));
        let scratch = self.work.join("judge");
        judge(&before, &self.disk_of(machine), &self.layout, self.way, &scratch)
    }

    fn create(&self, eid: &str, nodes: &[String], save: &str) -> anyhow::Result<()> {
        let name = format!("{PROJECT}/{eid}");
        let mut arguments = vec!["exp", "create", &name, save];
        for node in nodes {
            arguments.extend(["--node", node]);
        }
        self.say(format!("creating the experiment {eid}: {}", nodes.join(", ")));
        self.site.ebb(arguments).map(drop)
    }

    fn swap(&self, eid: &str, action: &str) -> anyhow::Result<()> {
        self.swap_watched(eid, action, |_| {})
    }

    fn swap_watched(&self, eid: &str, action: &str, mut look: impl FnMut(&ExperimentView)) -> anyhow::Result<()> {
        let full = format!("{PROJECT}/{eid}");
        self.say(format!("ebb exp {action} {full} --wait"));
        let mut said = BTreeMap::new();
        self.site.ebb_watched(&["exp", action, &full, "--wait", "--format", "json"], &name(eid)?, |view| {
            look(view);
            for node in &view.nodes {
                let word = node.node_state.as_ref().map_or("swapped out", NodeStateView::word);
                if said.insert(node.vname.clone(), word) != Some(word) {
                    let machine = node.node.as_ref().map(|name| format!(" on {name}")).unwrap_or_default();
                    self.say(format!("  {}{machine}: {word}", node.vname));
                }
            }
            Ok(())
        })
    }

    fn placed(&self, eid: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let view = self.site.experiment(&name(eid)?)?;
        let place = |node: &boss_api::user::VirtualNodeView| match (&node.node, &node.node_state) {
            (Some(machine), Some(NodeStateView::InUse)) => Ok((node.vname.to_string(), machine.to_string())),
            _ => bail!("{} of {eid} is not in use: {node:?}", node.vname),
        };
        view.nodes.iter().map(place).collect()
    }

    fn disk_of(&self, machine: &str) -> PathBuf {
        self.site.folder().join("machines").join(format!("{machine}.img"))
    }

    fn copy(&self, from: &Path, name: &str) -> anyhow::Result<()> {
        let to = self.evidence.join(name);
        tools::run(tools::program("cp").args(["--dereference", "--sparse=always"]).arg(from).arg(to))
    }
}

/// When each node's restore was first and last seen.
#[derive(Default)]
struct Times(BTreeMap<String, (Instant, Option<Duration>)>);

impl Times {
    fn note(&mut self, view: &ExperimentView) {
        for node in &view.nodes {
            let vname = node.vname.to_string();
            let restoring = node.progress.iter().any(|progress| progress.activity == DiskActivity::Restore);
            if restoring || matches!(node.node_state, Some(NodeStateView::Restoring)) {
                self.0.entry(vname).or_insert((Instant::now(), None));
            } else if let Some((began, took @ None)) = self.0.get_mut(&vname)
                && matches!(node.node_state, Some(NodeStateView::Checked | NodeStateView::InUse))
            {
                *took = Some(began.elapsed());
            }
        }
    }

    fn took(&self, vname: &str) -> Option<Duration> {
        self.0.get(vname)?.1
    }
}

fn verdict(judgement: &Judgement) -> String {
    if judgement.is_identical() { "identical".into() } else { format!("DIFFERS: {}", judgement.differences.join("; ")) }
}

/// What each node's user writes is different, and different in each run, so that no old bytes can pass for new ones.
fn seeds() -> [u64; 2] {
    let run = u64::from(std::process::id());
    [run * 1000 + 100, run * 1000 + 500]
}

fn seconds_of(milliseconds: u64) -> f64 {
    Duration::from_millis(milliseconds).as_secs_f64()
}

fn name(eid: &str) -> anyhow::Result<ExperimentName> {
    Ok(format!("{PROJECT}/{eid}").parse()?)
}
