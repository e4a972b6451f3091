//! Two experiments of two projects that take the same machines in turn, with every disk judged at every turn.
//!
//! boss is started again when it ended by itself, and what is held is tried again: whatever went wrong, each turn ends
//! where it should, and then every block of every disk is what its ledger says.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use boss_api::client::ExperimentAction;
use boss_api::names::ExperimentName;
use boss_api::user::{ExperimentState, ExperimentView, NodeStateView};

use super::arming::{Arming, VARIABLE};
use super::oracle::{BLOCK, Ledger};
use super::rows;
use crate::pg;
use crate::site::{Site, tail};

/// The machines.
const MACHINES: [&str; 2] = ["pc1", "pc2"];
/// Their disks and how many blocks they have. The first is loaded with an image, the other is nobody's at first.
const DISKS: [(&str, u64); 2] = [("sda", 2048), ("sdb", 768)];
const IMAGE: &str = "system";
/// How long one turn may take, with everything that goes wrong in it.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a person says "retry", and how often boss is started again, before it is a failure.
const RETRIES: usize = 6;
const RESTARTS: usize = 6;

/// A turn of the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// The first experiment is saved and leaves.
    FirstOut,
    /// The second comes.
    SecondIn,
    /// It is saved and leaves.
    SecondOut,
    /// The first comes back.
    FirstIn,
}

impl Turn {
    /// A whole cycle.
    pub const ALL: [Self; 4] = [Self::FirstOut, Self::SecondIn, Self::SecondOut, Self::FirstIn];

    const fn tenant(self) -> usize {
        match self {
            Self::FirstOut | Self::FirstIn => 0,
            Self::SecondIn | Self::SecondOut => 1,
        }
    }

    const fn action(self) -> ExperimentAction {
        match self {
            Self::FirstOut | Self::SecondOut => ExperimentAction::SwapOut,
            Self::SecondIn | Self::FirstIn => ExperimentAction::SwapIn,
        }
    }
}

/// When something may be done while a turn is taken.
#[derive(Clone, Copy, Debug)]
pub enum Moment<'a> {
    /// Nobody is asked for anything.
    Looking,
    /// A person has to decide, for this reason; "retry" is said next.
    Asked(&'a str),
}

/// What it took to come to the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Why boss did not take a request.
    pub refused: Vec<String>,
    /// Why machines were held.
    pub held: Vec<String>,
    /// How often boss had to be started again.
    pub restarts: usize,
}

impl Trouble {
    /// Adds what another turn took.
    pub fn add(&mut self, other: Self) {
        self.refused.extend(other.refused);
        self.held.extend(other.held);
        self.restarts += other.restarts;
    }
}

/// An experiment, and what its disks must hold.
#[derive(Debug)]
struct Tenant {
    name: ExperimentName,
    /// Its name on its blocks.
    mark: &'static str,
    generation: u32,
    /// Of each virtual node and disk.
    ledgers: BTreeMap<(&'static str, &'static str), Ledger>,
}

/// The site with the two experiments.
#[derive(Debug)]
pub struct Turnover {
    site: Site,
    arming: Arming,
    tenants: [Tenant; 2],
    /// What a machine holds that is nobody's.
    clean: BTreeMap<&'static str, Ledger>,
}

impl Turnover {
    /// Starts a site in a folder; the first experiment has the machines.
    ///
    /// # Errors
    /// When something does not work although nothing was made to go wrong.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(folder, &pg::Options::default())
    }

    /// As [`Turnover::start`], on such a database.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(folder: &Path, database: &pg::Options) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let arming = Arming::new(&folder.join("failpoints"))?;
        let variables = vec![(VARIABLE, arming.path().into())];
        let site = Site::start_with(&folder.join("site"), database, variables)?;
        site.boss(&["admin", "project", "add", "other"])?;
        let mut clean: BTreeMap<_, _> = DISKS.into_iter().map(|(disk, blocks)| (disk, Ledger::zeros(blocks))).collect();
        let base = folder.join("base.img");
        if let Some(ledger) = clean.get_mut("sda") {
            ledger.write(&base, "base", 0, |_| true)?;
        }
        let key = site.add_key("image-key")?;
        let [image, key] = [base, key].map(|path| path.to_string_lossy().into_owned());
        site.ebb(["image", "create", &image, "--name", IMAGE, "--key", &key])?;
        site.ebb(["setting", "set", "node/default_image", IMAGE])?;
        for machine in MACHINES {
            add_machine(&site, machine)?;
        }
        let tenants = [("demo/kept", "a", ["alpha", "beta"]), ("other/guest", "b", ["one", "two"])];
        let tenant = |(name, mark, vnames): (&str, &'static str, [&'static str; 2])| {
            let nodes = vnames.map(|vname| format!("{vname}={IMAGE}"));
            site.ebb(["exp", "create", name, "--save", "--node", &nodes[0], "--node", &nodes[1]])?;
            let ledgers = vnames
                .into_iter()
                .flat_map(|vname| clean.iter().map(move |(disk, ledger)| ((vname, *disk), ledger.clone())));
            anyhow::Ok(Tenant { name: name.parse()?, mark, generation: 0, ledgers: ledgers.collect() })
        };
        let [first, second] = tenants.map(tenant);
        let mut turnover = Self { tenants: [first?, second?], site, arming, clean };
        turnover.turn(Turn::FirstIn)?;
        Ok(turnover)
    }

    /// Returns where things are made to go wrong.
    pub const fn arming(&self) -> &Arming {
        &self.arming
    }

    /// Returns the site.
    pub const fn site(&self) -> &Site {
        &self.site
    }

    /// Takes one turn, and judges every disk at its end.
    ///
    /// # Errors
    /// When it does not come to its end, or a disk does not hold what it must.
    pub fn turn(&mut self, turn: Turn) -> anyhow::Result<Trouble> {
        self.turn_with(turn, |_, _| Ok(()))
    }

    /// As [`Turnover::turn`]; `meanwhile` is called again and again until it is over.
    ///
    /// # Errors
    /// As there, and when `meanwhile` fails.
    pub fn turn_with(
        &mut self,
        turn: Turn,
        mut meanwhile: impl FnMut(&Site, Moment<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<Trouble> {
        let action = turn.action();
        if action == ExperimentAction::SwapOut {
            self.work(turn.tenant())?;
        }
        let trouble = self.carry_out(turn.tenant(), action, &mut meanwhile)?;
        self.judge((action == ExperimentAction::SwapIn).then_some(turn.tenant()))?;
        Ok(trouble)
    }

    /// Has an experiment write on its disks.
    fn work(&mut self, tenant: usize) -> anyhow::Result<()> {
        let placed = placed(&self.site.experiment(&self.tenants[tenant].name)?)?;
        let Tenant { mark, generation, ledgers, .. } = &mut self.tenants[tenant];
        *generation += 1;
        for ((vname, disk), ledger) in ledgers {
            let machine = placed.get(*vname).with_context(|| format!("{vname} has no machine"))?;
            // Other blocks each time; the first and the last of a disk are treated apart, so they change each time.
            let (now, last) = (u64::from(*generation), ledger.blocks() - 1);
            let chosen = |block: u64| (block * 7 + now * 3) % 11 < 2 || block == 0 || block == last;
            ledger.write(
                &disk_of(&self.site, machine, disk),
                &format!("{mark}/{vname}/{disk}"),
                *generation,
                chosen,
            )?;
        }
        Ok(())
    }

    /// Asks for a turn until it is taken, starting boss again and trying again what is held.
    fn carry_out(
        &self,
        tenant: usize,
        action: ExperimentAction,
        meanwhile: &mut dyn FnMut(&Site, Moment<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<Trouble> {
        let name = &self.tenants[tenant].name;
        let (from, to) = match action {
            ExperimentAction::SwapIn => (ExperimentState::Swapped, ExperimentState::Active),
            _ => (ExperimentState::Active, ExperimentState::Swapped),
        };
        let mut trouble = Trouble::default();
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.keep_boss(&mut trouble)?;
            meanwhile(&self.site, Moment::Looking)?;
            // Whatever the answers are: only what boss shows counts, since an answer may be lost.
            match self.site.experiment(name) {
                Ok(view) if view.state == to && view.job.is_none() => return Ok(trouble),
                Ok(view) if view.state == from && view.job.is_none() => {
                    if let Err(error) = self.site.act(name, action)
                        && let Some(code) = error.code()
                    {
                        let why = format!("{code:?}: {error}");
                        meanwhile(&self.site, Moment::Asked(&why))?;
                        trouble.refused.push(why);
                        ensure!(trouble.refused.len() <= RETRIES, "refused again and again: {:#?}", trouble.refused);
                    }
                }
                Ok(view) if view.state == ExperimentState::Held => {
                    let why = reasons(&view)?;
                    meanwhile(&self.site, Moment::Asked(&why))?;
                    trouble.held.push(why);
                    ensure!(trouble.held.len() <= RETRIES, "held again and again: {:#?}", trouble.held);
                    drop(self.site.retry(name));
                }
                Ok(_) | Err(_) => {}
            }
            if Instant::now() > deadline {
                bail!("{action:?} of {name} does not end: {trouble:?}; {}", self.logs());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts boss again if it ended. Between its end and its start no row may speak of a file that is not there.
    ///
    /// # Errors
    /// When one does, or boss does not start.
    pub fn keep_boss(&self, trouble: &mut Trouble) -> anyhow::Result<()> {
        while self.site.boss_has_ended()? {
            ensure!(trouble.restarts < RESTARTS, "boss ends again and again; {}", self.logs());
            trouble.restarts += 1;
            // Older ones were looked at before.
            rows::check(&self.site, 8)?;
            // What goes wrong may do so while it starts.
            if let Err(error) = self.site.start_boss()
                && !self.site.boss_has_ended()?
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Compares every disk of every machine with what it must hold now.
    fn judge(&self, tenant: Option<usize>) -> anyhow::Result<()> {
        let mut wrong = Vec::new();
        match tenant.map(|tenant| &self.tenants[tenant]) {
            Some(Tenant { name, mark, ledgers, .. }) => {
                let placed = placed(&self.site.experiment(name)?)?;
                for ((vname, disk), ledger) in ledgers {
                    let machine = placed.get(*vname).with_context(|| format!("{vname} has no machine"))?;
                    let path = disk_of(&self.site, machine, disk);
                    wrong.extend(ledger.differences(&path, &format!("{mark}/{vname}/{disk}"))?);
                }
            }
            None => {
                for machine in MACHINES {
                    for (disk, ledger) in &self.clean {
                        let (path, name) = (disk_of(&self.site, machine, disk), format!("{machine}/{disk}"));
                        // What could not be overwritten with the image is zeroed instead.
                        let zeroed = Ledger::zeros(ledger.blocks()).differences(&path, &name)?.is_empty();
                        wrong.extend(if zeroed { Vec::new() } else { ledger.differences(&path, &name)? });
                    }
                }
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }

    fn logs(&self) -> String {
        let folder = self.site.state().join("log/nodes");
        let agents = MACHINES.map(|machine| format!("of {machine}:\n{}", tail(&folder.join(format!("{machine}.log")))));
        format!("boss's log ends:\n{}\n{}", tail(&self.site.folder().join("boss.log")), agents.join("\n"))
    }
}

/// Returns why an experiment is held, each time with what to do next.
fn reasons(view: &ExperimentView) -> anyhow::Result<String> {
    let held = view.nodes.iter().filter_map(|node| match &node.node_state {
        Some(NodeStateView::Held { reason, owner, next, .. }) => Some((&node.vname, reason, owner, next)),
        _ => None,
    });
    let mut told = Vec::new();
    for (vname, reason, owner, next) in held {
        let silent = [reason, owner, next].iter().any(|text| text.trim().is_empty());
        ensure!(!silent, "{vname} is held without a word: {reason:?}, {owner:?}, {next:?}");
        told.push(format!("{vname}: {reason}. Next: {next}"));
    }
    ensure!(!told.is_empty(), "{} is held, and none of its nodes", view.full_name());
    Ok(told.join("; "))
}

/// Returns which virtual node has which machine.
fn placed(view: &ExperimentView) -> anyhow::Result<BTreeMap<String, String>> {
    let place = |node: &boss_api::user::VirtualNodeView| {
        let machine = node.node.as_ref().with_context(|| format!("{} has no machine", node.vname))?;
        Ok((node.vname.to_string(), machine.to_string()))
    };
    view.nodes.iter().map(place).collect()
}

fn disk_of(site: &Site, machine: &str, disk: &str) -> PathBuf {
    site.folder().join("machines").join(format!("{machine}-{disk}.img"))
}

fn add_machine(site: &Site, machine: &str) -> anyhow::Result<()> {
    fs::create_dir_all(site.folder().join("machines"))?;
    let mut arguments = vec!["node".to_owned(), "add".to_owned(), machine.to_owned()];
    for (disk, blocks) in DISKS {
        let path = disk_of(site, machine, disk);
        File::create(&path)?.set_len(blocks * BLOCK as u64)?;
        fs::write(format!("{}.serial", path.display()), format!("SERIAL-OF-{machine}-{disk}\n"))?;
        arguments.extend(["--disk".to_owned(), format!("{disk}={}", path.display())]);
    }
    site.ebb(arguments).map(drop)
}
