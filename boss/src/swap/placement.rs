//! Which machine each virtual node gets.
//!
//! A machine fits when every disk that is to be written on it has exactly the size and the sectors of the state: that is
//! what a restore takes so far (docs/decisions/0003).
//! Among those that fit, one that the virtual node did not have last time comes first: that a state comes back on any
//! machine is what we promise, so the ordinary case had better be that.

use std::collections::HashMap;

use boss_api::ids::{CaptureId, ExperimentId, ImageVersionId, NodeId, VirtualNodeId};
use boss_db::PgConnection;
use boss_db::captures::{self, Capture};
use boss_db::experiments::VirtualNode;
use boss_db::images;
use boss_db::nodes::{self, Disk, Node};
use boss_db::points;
use boss_model::capture::CaptureStep;
use sigs::{ByteLen, SectorSize};

use crate::error::AppError;

/// What one disk of a virtual node is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskPlan {
    /// The place of the disk among those of the machine.
    pub(crate) position: u32,
    /// The image, unless the saved state stands alone.
    pub(crate) image: Option<ImageVersionId>,
    /// The saved state.
    pub(crate) capture: Option<CaptureId>,
    /// The size the disk must have.
    bytes: ByteLen,
    /// The sector size the state was saved from.
    sector_size: Option<SectorSize>,
}

/// What a virtual node needs of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    /// Which.
    pub(crate) virtual_node: VirtualNode,
    /// Its disks.
    pub(crate) disks: Vec<DiskPlan>,
    /// The machine it had when it was saved.
    last: Option<NodeId>,
}

/// Returns what the virtual nodes of an experiment need: each what was saved of it last, or its image. That is the
/// newest swap point for all of them, but for one whose part of it was given up.
pub(crate) async fn needs(
    conn: &mut PgConnection,
    experiment: ExperimentId,
    virtual_nodes: Vec<VirtualNode>,
) -> Result<Vec<Need>, AppError> {
    let mut saved: HashMap<VirtualNodeId, Vec<Capture>> = HashMap::new();
    for point in points::sealed(&mut *conn, experiment).await? {
        let mut of_point: HashMap<VirtualNodeId, Vec<Capture>> = HashMap::new();
        for capture in captures::of_point(&mut *conn, point.id).await? {
            of_point.entry(capture.virtual_node).or_default().push(capture);
        }
        // All disks of a node are of one time, or it would come back as something that never was.
        of_point.retain(|_, own| own.iter().all(|capture| capture.state.step() == CaptureStep::Verified));
        saved.extend(of_point);
    }
    let mut needs = Vec::with_capacity(virtual_nodes.len());
    for virtual_node in virtual_nodes {
        let own = saved.remove(&virtual_node.id).unwrap_or_default();
        let mut disks = Vec::new();
        for capture in &own {
            let from = nodes::disks(&mut *conn, capture.node).await?;
            let from = from.iter().find(|disk| disk.id == capture.disk);
            disks.push(DiskPlan {
                position: capture.position,
                image: capture.base,
                capture: Some(capture.id),
                bytes: from.map_or(ByteLen::MAX, |disk| disk.bytes),
                sector_size: from.map(|disk| disk.sector_size),
            });
        }
        if own.is_empty() {
            let image = images::version(&mut *conn, virtual_node.image_version_id).await?;
            disks.push(DiskPlan {
                position: 0,
                image: Some(virtual_node.image_version_id),
                capture: None,
                bytes: image.map_or(ByteLen::MAX, |image| image.disk_bytes),
                sector_size: None,
            });
        }
        let last = own.first().map(|capture| capture.node);
        needs.push(Need { virtual_node, disks, last });
    }
    Ok(needs)
}

/// Returns what one virtual node needs now.
pub(crate) async fn need_of(conn: &mut PgConnection, virtual_node: VirtualNode) -> Result<Need, AppError> {
    let mut all = needs(conn, virtual_node.experiment_id, vec![virtual_node]).await?;
    all.pop().ok_or_else(|| AppError::internal(anyhow::anyhow!("a virtual node has no needs")))
}

/// A machine that may be taken, with its disks.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) node: Node,
    pub(crate) disks: Vec<Disk>,
}

impl Candidate {
    fn fits(&self, need: &Need) -> bool {
        need.disks.iter().all(|plan| {
            self.disks.iter().find(|disk| disk.position == plan.position).is_some_and(|disk| {
                disk.bytes == plan.bytes && plan.sector_size.is_none_or(|size| size == disk.sector_size)
            })
        })
    }
}

/// Gives each need a machine, as an index into `candidates`, or says how many can be given at most.
pub(crate) fn place(needs: &[Need], candidates: &[Candidate]) -> Result<Vec<usize>, usize> {
    let wishes: Vec<Vec<usize>> = needs
        .iter()
        .map(|need| {
            let mut wishes: Vec<usize> = (0..candidates.len()).filter(|index| candidates[*index].fits(need)).collect();
            wishes.sort_by_key(|index| need.last == Some(candidates[*index].node.id));
            wishes
        })
        .collect();
    // Augmenting paths: a need that finds its wishes taken may move another to its next wish.
    let mut taken_by: Vec<Option<usize>> = vec![None; candidates.len()];
    let mut placed = 0;
    for need in 0..needs.len() {
        if give(need, &wishes, &mut taken_by, &mut vec![false; candidates.len()]) {
            placed += 1;
        }
    }
    if placed < needs.len() {
        return Err(placed);
    }
    let mut given = vec![0; needs.len()];
    for (candidate, need) in taken_by.iter().enumerate() {
        if let Some(need) = need {
            given[*need] = candidate;
        }
    }
    Ok(given)
}

fn give(need: usize, wishes: &[Vec<usize>], taken_by: &mut [Option<usize>], tried: &mut [bool]) -> bool {
    // First what is free, in the order of the wishes; only then is somebody else moved.
    if let Some(free) = wishes[need].iter().copied().find(|wish| taken_by[*wish].is_none()) {
        taken_by[free] = Some(need);
        return true;
    }
    for wish in wishes[need].iter().copied() {
        if tried[wish] {
            continue;
        }
        tried[wish] = true;
        if taken_by[wish].is_none_or(|other| give(other, wishes, taken_by, tried)) {
            taken_by[wish] = Some(need);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use boss_api::Name;
    use boss_api::ids::{DiskId, ExperimentId, VirtualNodeId};
    use boss_api::user::PowerConfig;
    use boss_model::node::{NodeState, NodeStep};
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    fn candidate(number: u128, bytes: &[u64]) -> Candidate {
        let id = NodeId::new(Uuid::from_u128(number));
        let name = Name::new(&format!("pc{number}")).unwrap();
        let node = Node {
            id,
            name: name.clone(),
            state: NodeState::At(NodeStep::Free),
            epoch: 0,
            power: PowerConfig::Process { disks: [].into() },
            state_since: OffsetDateTime::UNIX_EPOCH,
        };
        let disks = (0..).zip(bytes).map(|(position, bytes)| Disk {
            id: DiskId::new(Uuid::from_u128(number * 100 + u128::from(position))),
            node_id: id,
            name: name.clone(),
            serial: String::new(),
            bytes: ByteLen::new(*bytes),
            sector_size: SectorSize::S512,
            position,
        });
        Candidate { node, disks: disks.collect() }
    }

    fn need(last: Option<u128>, bytes: u64) -> Need {
        let plan = DiskPlan {
            position: 0,
            image: None,
            capture: None,
            bytes: ByteLen::new(bytes),
            sector_size: last.map(|_| SectorSize::S512),
        };
        Need {
            virtual_node: VirtualNode {
                id: VirtualNodeId::new(Uuid::nil()),
                experiment_id: ExperimentId::new(Uuid::nil()),
                vname: Name::new("n").unwrap(),
                image_version_id: ImageVersionId::new(Uuid::nil()),
                node_id: None,
            },
            disks: vec![plan],
            last: last.map(|number| NodeId::new(Uuid::from_u128(number))),
        }
    }

    #[test]
    fn two_nodes_change_places() {
        let candidates = [candidate(1, &[10]), candidate(2, &[10])];
        assert_eq!(place(&[need(Some(1), 10), need(Some(2), 10)], &candidates), Ok(vec![1, 0]));
        assert_eq!(place(&[need(Some(1), 10)], &candidates[..1]), Ok(vec![0]), "the same one if there is no other");
    }

    #[test]
    fn a_small_need_makes_room_for_a_large_one() {
        let candidates = [candidate(1, &[20]), candidate(2, &[10])];
        assert_eq!(place(&[need(None, 10), need(None, 20)], &candidates), Ok(vec![1, 0]));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let candidates = [candidate(1, &[9]), candidate(2, &[10])];
        assert_eq!(place(&[need(None, 10), need(None, 10)], &candidates), Err(1));
        let mut other_sectors = need(Some(7), 10);
        other_sectors.disks[0].sector_size = Some(SectorSize::S4096);
        assert_eq!(place(&[other_sectors], &candidates), Err(0));
        let mut second_disk = need(None, 1);
        second_disk.disks[0].position = 1;
        assert_eq!(place(&[second_disk], &candidates), Err(0));
    }
}
