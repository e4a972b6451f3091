//! The views: what people find of an experiment's saved state in `swapinfo/`, by the names Emulab gave it, and images.
//!
//! Links into the store and small texts, made from the database alone: nothing reads them back, and losing them costs
//! nothing. What is not wanted any more goes away, above all signatures that nobody refers to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use boss_api::Name;
use boss_api::ids::ExperimentId;
use boss_api::user::ExperimentState;
use boss_db::captures::{self, Capture};
use boss_db::experiments::{Experiment, VirtualNode};
use boss_db::nodes::{self, Disk, Node};
use boss_db::points::SwapPoint;
use boss_db::{PgConnection, experiments, images, points, segments};
use boss_model::capture::CaptureStep;
use boss_model::node::{NodeState, NodeStep};
use sigs::{ByteLen, ByteOffset, Digest, Root};

use crate::app::App;
use crate::error::AppError;
use crate::store::make_private_dir;

/// Views are made one at a time, each from what the database says once it is its turn: the last one made is right.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What a name in the view is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// A link to an object.
    Link(PathBuf),
    /// A text.
    Text(String),
}

/// Rebuilds the view of one experiment from the database, and drops signatures that nothing refers to any more.
///
/// # Errors
/// When it cannot be read or written.
pub async fn refresh(app: &App, experiment: ExperimentId) -> Result<(), AppError> {
    let _turn = ONE_AT_A_TIME.lock().await;
    let mut conn = app.pool.acquire().await?;
    let Some(of) = experiments::get(&mut conn, experiment).await? else { return Ok(()) };
    let points = points::sealed(&mut conn, of.id).await?;
    let ended = of.state == ExperimentState::Ended;
    // A name may have been given to another experiment since; then the folder is that one's.
    if !ended || experiments::find(&mut conn, &of.full_name()).await?.is_none() {
        let view = if ended { BTreeMap::new() } else { wanted(app, &mut conn, &of, &points).await? };
        let folder = folder_of(&app.config.state, &of.pid, &of.eid);
        write_view(folder, view).await?;
    }
    drop(conn);
    let keep = points.last().filter(|_| !ended).map(|point| point.id);
    if keep.is_some() || ended {
        let mut tx = app.begin().await?;
        let unreferenced = captures::forget_signatures(&mut tx, of.id, keep).await?;
        tx.commit().await?;
        for digest in unreferenced {
            crate::keeping::remove_unreferenced(app, digest, None).await?;
        }
    }
    Ok(())
}

/// Rebuilds the view of one image: `<version>.zdi`, `.sig` and `.manifest`.
///
/// # Errors
/// When it cannot be read or written.
pub async fn refresh_image(app: &App, project: &Name, name: &Name) -> Result<(), AppError> {
    let _turn = ONE_AT_A_TIME.lock().await;
    let versions = images::versions(&mut *app.pool.acquire().await?, project, name).await?;
    let mut view = BTreeMap::new();
    for version in versions {
        for (digest, kind) in [(version.zdi, "zdi"), (version.sig, "sig")] {
            if let Some(path) = app.store.path_of(digest) {
                view.insert(format!("{}.{kind}", version.version), Entry::Link(path));
            }
        }
        view.insert(format!("{}.manifest", version.version), Entry::Text(version.sealed));
    }
    let folder = app.config.state.join("proj").join(project.as_str()).join("images").join(name.as_str());
    write_view(folder, view).await
}

async fn write_view(folder: PathBuf, view: BTreeMap<String, Entry>) -> Result<(), AppError> {
    let made = tokio::task::spawn_blocking(move || make(&folder, &view)).await.map_err(AppError::internal)?;
    made.map_err(AppError::internal)
}

/// Rebuilds the views of all images, and of all experiments that have not ended.
///
/// # Errors
/// When one cannot be read or written.
pub async fn refresh_all(app: &App) -> Result<(), AppError> {
    let mut names: Vec<_> = images::visible(&mut *app.pool.acquire().await?, None)
        .await?
        .into_iter()
        .map(|version| (version.project, version.name))
        .collect();
    names.dedup();
    for (project, name) in names {
        refresh_image(app, &project, &name).await?;
    }
    let all = experiments::visible(&mut *app.pool.acquire().await?, None).await?;
    for of in all {
        refresh(app, of.id).await?;
    }
    Ok(())
}

/// Returns where the view of an experiment is. Names are checked when they are made, so they are safe in a path.
fn folder_of(state: &Path, pid: &Name, eid: &Name) -> PathBuf {
    state.join("proj").join(pid.as_str()).join("exp").join(eid.as_str()).join("swapinfo")
}

async fn wanted(
    app: &App,
    conn: &mut PgConnection,
    of: &Experiment,
    points: &[SwapPoint],
) -> Result<BTreeMap<String, Entry>, AppError> {
    let mut view = BTreeMap::new();
    let mut newest = Vec::new();
    for point in points {
        if let Some(sealed) = &point.sealed {
            view.insert(format!("{}.manifest", point.number), Entry::Text(sealed.clone()));
        }
        newest = captures::of_point(&mut *conn, point.id).await?;
        newest.retain(|capture| capture.state.step() == CaptureStep::Verified);
        for capture in &newest {
            let path = capture.zdi.and_then(|(zdi, _)| app.store.path_of(zdi));
            if let Some(path) = path {
                let name = format!("{}.{}.{}.zdi", capture.vname, capture.disk_name, point.number);
                view.insert(name, Entry::Link(path));
            }
        }
    }
    if of.save_swap_state {
        for virtual_node in experiments::virtual_nodes(&mut *conn, of.id).await? {
            let loaded = match loaded(&mut *conn, &virtual_node).await? {
                Some(loaded) => loaded,
                None => saved(&mut *conn, &virtual_node, &newest).await?,
            };
            show(app, &mut view, &virtual_node.vname, &loaded);
        }
    }
    Ok(view)
}

/// A disk and what it was loaded from.
#[derive(Debug)]
struct Loaded {
    disk: Disk,
    segments: Vec<LoadedSegment>,
}

#[derive(Debug)]
struct LoadedSegment {
    start: ByteOffset,
    bytes: ByteLen,
    image: String,
    root: Root,
    sig: Digest,
}

/// Returns what the machine of a virtual node is loaded from, once that is so and until it is overwritten.
async fn loaded(conn: &mut PgConnection, virtual_node: &VirtualNode) -> Result<Option<Vec<Loaded>>, AppError> {
    let Some(id) = virtual_node.node_id else { return Ok(None) };
    let Some(node) = nodes::get(&mut *conn, id).await?.filter(holds_its_load) else { return Ok(None) };
    let mut all = Vec::new();
    for disk in nodes::disks(&mut *conn, node.id).await? {
        let segments = segments::of_disk(&mut *conn, disk.id).await?;
        let segments = segments.into_iter().map(|segment| LoadedSegment {
            start: segment.start,
            bytes: segment.bytes,
            image: segment.image,
            root: segment.root,
            sig: segment.sig,
        });
        all.push(Loaded { segments: segments.collect(), disk });
    }
    Ok(Some(all))
}

fn holds_its_load(node: &Node) -> bool {
    let step = match &node.state {
        NodeState::At(step) => *step,
        NodeState::Held(held) => held.from,
    };
    match step {
        NodeStep::Checked
        | NodeStep::InUse
        | NodeStep::Quiescing
        | NodeStep::Capturing
        | NodeStep::Releasable
        | NodeStep::Rebooting => true,
        NodeStep::Free | NodeStep::Reserved | NodeStep::Restoring | NodeStep::Sanitizing => false,
    }
}

/// Returns what the newest saved state of a virtual node without a machine refers to.
async fn saved(
    conn: &mut PgConnection,
    virtual_node: &VirtualNode,
    newest: &[Capture],
) -> Result<Vec<Loaded>, AppError> {
    let mut all = Vec::new();
    for capture in newest.iter().filter(|capture| capture.virtual_node == virtual_node.id) {
        let Some(base) = capture.base else { continue };
        let disks = nodes::disks(&mut *conn, capture.node).await?;
        let disk = disks.into_iter().find(|disk| disk.id == capture.disk);
        let (Some(disk), Some(image)) = (disk, images::version(&mut *conn, base).await?) else { continue };
        let segment = LoadedSegment {
            start: ByteOffset::ZERO,
            bytes: image.disk_bytes.min(disk.bytes),
            image: image.selector().to_string(),
            root: image.root,
            sig: image.sig,
        };
        all.push(Loaded { disk, segments: vec![segment] });
    }
    Ok(all)
}

fn show(app: &App, view: &mut BTreeMap<String, Entry>, vname: &Name, loaded: &[Loaded]) {
    let mut part = String::new();
    for Loaded { disk, segments } in loaded {
        let boots = if disk.position == 0 { " boot" } else { "" };
        // Writing to a String never fails.
        let _ = writeln!(part, "disk {} bytes={} sector={}{boots}", disk.name, disk.bytes, disk.sector_size);
        for LoadedSegment { start, bytes, image, root, sig } in segments {
            let _ = writeln!(part, "segment {} start={start} length={bytes} image={image} root={root}", disk.name);
            let name = if disk.position == 0 { format!("{vname}.sig") } else { format!("{vname}.{}.sig", disk.name) };
            if let Some(path) = app.store.path_of(*sig) {
                view.insert(name, Entry::Link(path));
            }
        }
    }
    if loaded.iter().any(|disk| !disk.segments.is_empty()) {
        view.insert(format!("{vname}.part"), Entry::Text(part));
    }
}

/// Makes the folder hold exactly the view. Each name appears whole.
fn make(folder: &Path, view: &BTreeMap<String, Entry>) -> io::Result<()> {
    if view.is_empty() && !folder.try_exists()? {
        return Ok(());
    }
    make_private_dir(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let wanted = entry.file_name().to_str().is_some_and(|name| view.contains_key(name));
        if !wanted {
            fs::remove_file(entry.path())?;
        }
    }
    for (name, entry) in view {
        let path = folder.join(name);
        let partial = folder.join(format!(".new-{name}"));
        match entry {
            Entry::Link(target) => {
                if fs::read_link(&path).is_ok_and(|there| there == *target) {
                    continue;
                }
                symlink(target, &partial)?;
            }
            Entry::Text(text) => {
                if fs::read_to_string(&path).is_ok_and(|there| there == *text) {
                    continue;
                }
                fs::write(&partial, text)?;
            }
        }
        fs::rename(&partial, &path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_holds_exactly_the_view() {
        let state = tempfile::tempdir().unwrap();
        let folder = folder_of(state.path(), &Name::new("p").unwrap(), &Name::new("e").unwrap());
        make(&folder, &BTreeMap::new()).unwrap();
        assert!(!folder.exists(), "an empty view leaves no trace");
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let target = state.path().join("object");
        fs::write(&target, "sig").unwrap();
        let mut view = BTreeMap::from([
            ("n.sig".to_owned(), Entry::Link(target.clone())),
            ("n.part".to_owned(), Entry::Text("disk\n".into())),
        ]);
        make(&folder, &view).unwrap();
        assert_eq!(names(), ["n.part", "n.sig"]);
        assert_eq!(fs::read_to_string(folder.join("n.sig")).unwrap(), "sig");
        // A boss that was killed in between left a partial name; a link went elsewhere.
        fs::write(folder.join(".new-n.part"), "half").unwrap();
        fs::remove_file(folder.join("n.sig")).unwrap();
        symlink("/nowhere", folder.join("n.sig")).unwrap();
        view.remove("n.part");
        make(&folder, &view).unwrap();
        assert_eq!(names(), ["n.sig"]);
        assert_eq!(fs::read_link(folder.join("n.sig")).unwrap(), target);
    }
}
