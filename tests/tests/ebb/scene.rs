//! A site with one machine and an experiment of one node, for tests that disturb it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, ensure};
use boss_api::names::ExperimentName;
use boss_api::user::{DiskActivity, DiskProgress, ExperimentState, NodeStateView};
use ebb_tests::cleanup::Cleanup;
use ebb_tests::disk::{self, Contents, Layout, MIB, Trees};
use ebb_tests::edit::{Editor, Way, Work};
use ebb_tests::judge::judge;
use ebb_tests::pg;
use ebb_tests::site::{Site, tail};
use ebb_tests::{tools, tree};
use sha2::{Digest as _, Sha256};

/// The one machine.
pub(crate) const MACHINE: &str = "pc1";
/// The experiment, `pid/eid`.
pub(crate) const EXPERIMENT: &str = "demo/kept";
/// Its image.
pub(crate) const BASE: &str = "system";
const VNAME: &str = "alpha";
const PATIENCE_S: &str = "150";

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Sites share two cores with each other and with what measures time: one runs at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A site, and the folder it lives in.
pub(crate) struct Scene {
    // Dropped before its folder.
    pub(crate) site: Site,
    pub(crate) layout: Layout,
    files: [Vec<(PathBuf, u64)>; 2],
    way: Way,
    key: PathBuf,
    folder: tempfile::TempDir,
    // After a signal nothing is dropped.
    _removed: Cleanup,
}

impl Scene {
    /// Makes a site with a sealed base image and a machine; nothing is swapped in yet.
    pub(crate) fn new(system_mib: u64) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ebb-test-").tempdir()?;
        let path = folder.path().to_path_buf();
        let removed = Cleanup::new(move || drop(fs::remove_dir_all(path)));
        let site = Site::start(&folder.path().join("site"), &pg::Options::default())?;
        let layout = Layout::new(system_mib, 16);
        let trees = Trees::make(&folder.path().join("trees"), 24 * MIB, 2 * MIB)?;
        let files = [tree::files(&trees.system)?, tree::files(&trees.data)?];
        let base = folder.path().join("base.img");
        disk::make(&base, &layout, &Contents { seed: 9, system: &trees.system, data: &trees.data })?;
        trees.remove()?;
        let way = Way::here(&base, layout.partitions[0], folder.path());
        let key = site.add_key("image-key")?;
        let scene = Self { site, layout, files, way, key, folder, _removed: removed };
        scene.create_image(BASE, &scene.key.clone())?;
        scene.site.ebb(["setting", "set", "node/default_image", BASE])?;
        scene.site.add_node(MACHINE, scene.layout.bytes)?;
        Ok(scene)
    }

    /// Makes an image of the base disk, sealed with a key.
    pub(crate) fn create_image(&self, name: &str, key: &Path) -> anyhow::Result<String> {
        let base = self.path("base.img");
        let [base, key] = [base.as_path(), key].map(|path| path.to_string_lossy().into_owned());
        self.site.ebb(["image", "create", &base, "--name", name, "--key", &key])
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.site.folder().join("machines").join(format!("{MACHINE}.img"))
    }

    /// Makes the experiment and swaps it in.
    pub(crate) fn swap_in_first(&self) -> anyhow::Result<()> {
        let node = format!("{VNAME}={BASE}");
        self.site.ebb(["exp", "create", EXPERIMENT, "--node", &node, "--save"])?;
        self.exp("swapin", &["--wait"])
    }

    /// Has something done with the experiment and waits for its end, which is near or never comes.
    pub(crate) fn exp(&self, action: &str, more: &[&str]) -> anyhow::Result<()> {
        let arguments = [&["exp", action, EXPERIMENT, "--timeout", PATIENCE_S], more].concat();
        let done = self.site.ebb(arguments);
        done.map(drop).with_context(|| {
            let logs =
                [self.site.folder().join("boss.log"), self.site.state().join(format!("log/nodes/{MACHINE}.log"))];
            let [boss, agent] = logs.map(|path| tail(&path));
            format!("boss's log ends:\n{boss}\nthe agent's log ends:\n{agent}\n")
        })
    }

    /// Does somebody's work on the node's disk, and keeps a copy of what it is then.
    pub(crate) fn work(&self, new_bytes: u64) -> anyhow::Result<()> {
        let (disk, scratch) = (self.disk(), self.path("scratch"));
        let editor = Editor { disk: &disk, layout: &self.layout, scratch: &scratch, way: self.way };
        for (index, partition) in self.layout.partitions.into_iter().enumerate() {
            let new_bytes = if index == 0 { new_bytes } else { MIB };
            let work = Work { vname: VNAME, seed: 11, new_bytes, touched: 12 };
            editor.apply(partition, &work.plan(&self.files[index], &scratch)?)?;
        }
        disk::check(&disk, &self.layout)?;
        tools::run(tools::program("cp").arg("--sparse=always").arg(&disk).arg(self.path("before.img")))
    }

    /// Has the judge compare the disk with the copy.
    pub(crate) fn expect_identical(&self) -> anyhow::Result<()> {
        let seen = judge(&self.path("before.img"), &self.disk(), &self.layout, self.way, &self.path("judge"))?;
        ensure!(seen.is_identical(), "the disk differs: {:#?}", seen.differences);
        ensure!(seen.bytes > 24 * MIB && seen.files > 10, "too little was compared: {seen:?}");
        Ok(())
    }

    pub(crate) fn experiment(&self) -> anyhow::Result<ExperimentName> {
        Ok(EXPERIMENT.parse()?)
    }

    /// Returns what is being done to the disk now.
    pub(crate) fn progress(&self, activity: DiskActivity) -> anyhow::Result<Option<DiskProgress>> {
        let view = self.site.experiment(&self.experiment()?)?;
        let mut all = view.nodes.into_iter().flat_map(|node| node.progress);
        Ok(all.find(|progress| progress.activity == activity))
    }

    pub(crate) fn state(&self) -> anyhow::Result<ExperimentState> {
        Ok(self.site.experiment(&self.experiment()?)?.state)
    }

    pub(crate) fn machine(&self) -> anyhow::Result<NodeStateView> {
        Ok(self.site.node(&MACHINE.parse()?)?.state)
    }

    /// Returns the digest of the disk's file.
    pub(crate) fn disk_digest(&self) -> anyhow::Result<String> {
        digest(&self.disk())
    }
}

pub(crate) fn digest(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut sum = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex::encode(sum.finalize())),
            read => sum.update(&piece[..read]),
        }
    }
}

/// Flips one bit of a file, even of one that nobody should write to.
pub(crate) fn flip(path: &Path, place: u64) -> anyhow::Result<()> {
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
    let path = path.canonicalize().with_context(|| format!("find {}", path.display()))?;
    let permissions = fs::metadata(&path)?.permissions();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let file = File::options().read(true).write(true).open(&path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place)?;
    file.write_all_at(&[byte[0] ^ 0x10], place)?;
    fs::set_permissions(&path, permissions).context("put the permissions back")
}
