//! `ebb exp create`

use boss_api::names::{ExperimentName, Name};
use boss_api::user::{CreateExperiment, ImageSelector, VirtualNodeSpec};
use clap::Args;

use super::show::describe;
use crate::ebb::Context;
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(in crate::ebb) struct Create {
    /// The experiment
    #[arg(value_name = "PID/EID")]
    name: ExperimentName,
    /// A node and the base image to load, such as client=debian or server=debian/2; may be repeated
    #[arg(long = "node", value_name = "VNAME=IMAGE", value_parser = node, num_args = 1.., required = true)]
    nodes: Vec<VirtualNodeSpec>,
    /// Save the disks at swap-out
    #[arg(long, overrides_with = "no_save")]
    save: bool,
    /// Do not save the disks at swap-out (what happens when nothing is said)
    #[arg(long, overrides_with = "save")]
    no_save: bool,
}

fn node(text: &str) -> Result<VirtualNodeSpec, String> {
    let (vname, image) = text.split_once('=').ok_or("a node is written as VNAME=IMAGE, such as client=debian")?;
    let vname: Name = vname.parse().map_err(|error: boss_api::BadName| error.to_string())?;
    let image: ImageSelector = image.parse().map_err(|error: boss_api::BadName| error.to_string())?;
    Ok(VirtualNodeSpec { vname, image })
}

impl Create {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        let ExperimentName { pid, eid } = self.name;
        let request = CreateExperiment { pid, eid, save_swap_state: self.save, nodes: self.nodes };
        let view = context.session.client()?.create_experiment(&request).await?;
        context.output.data(&view, describe)?;
        if !view.save_swap_state {
            let name = view.full_name();
            context
                .output
                .say(format!("swap-out will not save its disks; `ebb exp modify {name} --save` changes that"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_a_name_and_an_image() {
        let spec = node("client=debian/2").unwrap();
        assert_eq!((spec.vname.as_str(), spec.image.to_string().as_str()), ("client", "debian/2"));
        for bad in ["client", "=debian", "client=", "a/b=debian", "client=../x"] {
            assert!(node(bad).is_err(), "{bad:?}");
        }
    }
}
