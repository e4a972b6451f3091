use std::collections::BTreeMap;

use askama::Template;
use boss_api::Name;
use boss_api::user::{ImageView, MAX_VIRTUAL_NODES};

use crate::parts::Frame;
use crate::urls;

/// How many rows for nodes there are at first, and how many more each time more are asked for.
pub const ROWS: usize = 8;

/// What was typed into the form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewExperimentForm {
    /// The project.
    pub pid: String,
    /// The name.
    pub eid: String,
    /// The *Save swap state* box.
    pub save_swap_state: bool,
    /// The rows for nodes; empty ones are ignored.
    pub nodes: Vec<NodeFields>,
}

/// One row for a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFields {
    /// Its name.
    pub vname: String,
    /// The image, as a selector.
    pub image: String,
}

/// What is wrong with it, each beside its field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// With the project.
    pub pid: Option<String>,
    /// With the name.
    pub eid: Option<String>,
    /// With the nodes as a whole.
    pub nodes: Option<String>,
    /// With a row.
    pub rows: BTreeMap<usize, String>,
    /// With none of them in particular.
    pub other: Option<String>,
}

impl Problems {
    /// Returns whether there are any.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// The form for a new experiment.
#[derive(Clone, Debug, Template)]
#[template(path = "new_experiment.html")]
pub struct NewExperimentPage {
    /// The frame.
    pub frame: Frame,
    /// What was typed.
    pub form: NewExperimentForm,
    /// What is wrong with it.
    pub problems: Problems,
    /// The projects to choose from.
    pub projects: Vec<Name>,
    /// The images to choose from.
    pub images: Vec<ImageView>,
}

struct Choice {
    value: String,
    label: String,
    selected: bool,
}

struct RowView<'a> {
    number: usize,
    index: usize,
    fields: &'a NodeFields,
    problem: Option<&'a String>,
    choices: Vec<Choice>,
}

impl NewExperimentPage {
    fn project_choices(&self) -> Vec<Choice> {
        let choice = |pid: &Name| Choice {
            value: pid.to_string(),
            label: pid.to_string(),
            selected: self.form.pid == pid.as_str(),
        };
        self.projects.iter().map(choice).collect()
    }

    fn rows(&self) -> Vec<RowView<'_>> {
        let row = |(index, fields)| RowView {
            number: index + 1,
            index,
            fields,
            problem: self.problems.rows.get(&index),
            choices: self.image_choices(fields),
        };
        self.form.nodes.iter().enumerate().map(row).collect()
    }

    /// Every image once as "the newest", then each version that is not retired.
    fn image_choices(&self, fields: &NodeFields) -> Vec<Choice> {
        let mut choices = Vec::new();
        for image in &self.images {
            let of = match image.project.as_str() {
                "system" => String::new(),
                pid => format!(" (of {pid})"),
            };
            let usable: Vec<u32> =
                image.versions.iter().filter(|version| !version.retired).map(|version| version.version).collect();
            let Some(newest) = usable.first() else { continue };
            let mut add = |value: String, label: String| {
                let selected = value == fields.image;
                choices.push(Choice { value, label, selected });
            };
            add(image.name.to_string(), format!("{}{of}, newest (now {newest})", image.name));
            for version in &usable {
                add(format!("{}/{version}", image.name), format!("{}/{version}{of}", image.name));
            }
        }
        choices
    }

    fn can_have_more_rows(&self) -> bool {
        self.form.nodes.len() < MAX_VIRTUAL_NODES
    }
}
