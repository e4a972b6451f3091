use askama::Template;
use boss_api::ExperimentName;
use boss_api::user::{DiskView, ImageVersionView, ImageView, NodeStateView, NodeView};

use crate::parts::{Badge, Frame, Moment};
use crate::{urls, words};

/// The machines.
#[derive(Clone, Debug, Template)]
#[template(path = "nodes.html")]
pub struct NodesPage {
    /// The frame.
    pub frame: Frame,
    /// The machines, as far as the user may see them.
    pub nodes: Vec<NodeView>,
}

impl NodesPage {
    fn rows(&self) -> impl Iterator<Item = NodeLine<'_>> {
        self.nodes.iter().map(|node| NodeLine { node })
    }

    fn summary(&self) -> String {
        let count = |wanted: fn(&NodeStateView) -> bool| self.nodes.iter().filter(|node| wanted(&node.state)).count();
        let free = count(|state| *state == NodeStateView::Free);
        let held = count(|state| matches!(state, NodeStateView::Held { .. }));
        format!("{} nodes, {free} free, {held} held", self.nodes.len())
    }
}

struct NodeLine<'a> {
    node: &'a NodeView,
}

impl NodeLine<'_> {
    fn badge(&self) -> Badge {
        Badge::of_node(&self.node.state)
    }

    fn experiment(&self) -> Option<(String, String)> {
        let name = self.node.experiment.clone()?;
        let url = urls::experiment(&name.parse::<ExperimentName>().ok()?);
        Some((url, name))
    }

    fn held(&self) -> Option<(&str, &str, &str)> {
        match &self.node.state {
            NodeStateView::Held { reason, owner, next, .. } => Some((reason, owner, next)),
            _ => None,
        }
    }
}

fn holds(disk: &DiskView) -> String {
    let images: Vec<String> = disk.segments.iter().map(|segment| segment.image.to_string()).collect();
    if images.is_empty() { "nothing known".into() } else { images.join(", ") }
}

/// The images.
#[derive(Clone, Debug, Template)]
#[template(path = "images.html")]
pub struct ImagesPage {
    /// The frame.
    pub frame: Frame,
    /// The images that the user may load.
    pub images: Vec<ImageView>,
}

impl ImagesPage {
    fn rows(&self) -> impl Iterator<Item = (&ImageView, &ImageVersionView)> {
        self.images.iter().flat_map(|image| image.versions.iter().map(move |version| (image, version)))
    }
}

fn version_badge(version: &ImageVersionView) -> Badge {
    if version.retired {
        Badge::new(crate::parts::Tone::Still, "retired")
    } else {
        Badge::new(crate::parts::Tone::Good, "in use")
    }
}

/// The first digits tell images apart for people; the whole is in the element's title.
fn short(digest: &impl ToString) -> String {
    digest.to_string().chars().take(12).collect()
}
